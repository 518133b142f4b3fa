"""What widgets are made of: a picture to drag, and drawing of the latest state only.

A widget stores what was asked and renders once the event loop is free, so that of
many slider moves only the latest is drawn. Without a running loop (a test, a plain
script) it renders at once. An error is shown in the widget and kept in `error`.
"""

import asyncio
import html
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anywidget
import ipywidgets as ipw
import traitlets


class Picture(anywidget.AnyWidget):
    """PNG bytes as an <img> that can be dragged, clicked and moved with the keyboard.

    Sends {"type": "drag", "rows", "cols", "start"} with the way gone since the button
    went down, in fractions of the picture; {"type": "click", "row", "col"}; and
    {"type": "key", "rows", "cols"} for the arrow keys.
    """

    _esm = Path(__file__).with_name("picture.js").read_text()
    data = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)  # a better picture is on its way


@contextmanager
def errors_shown(widget):
    """Put what goes wrong into `widget.error` and, in words, into `widget.status`."""
    widget.error = None
    try:
        yield
    except Exception as error:
        widget.error, words = error, html.escape(str(error))
        widget.status.value = f'<span style="color:#D55E00">Not drawn: {words}</span>'


class LatestWins(ipw.VBox):
    """A widget of which only the latest state is drawn.

    A subclass defines `steps`, which yields between pieces of work, perhaps a text
    about its progress or something for `_show` to show meanwhile, and returns what
    `_show` takes in the end. A newer request ends older work. Without a loop all is
    drawn at once, and what is yielded is not shown: `watched` is False.
    """

    error: Exception | None = None
    _task = None
    _latest = 0  # the number of the latest request

    def steps(self, watched: bool) -> Generator:
        """The work that the present state asks for."""
        raise NotImplementedError

    def _show(self, view) -> None:
        raise NotImplementedError

    def request(self, now: bool = False) -> None:
        """Ask for the current state to be drawn; older requests are void."""
        self._latest += 1
        try:
            loop = None if now else asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop:
            self._task = loop.create_task(self._draw_soon(self._latest))
        else:
            with errors_shown(self):
                self._show(finish(self.steps(watched=False)))

    async def _draw_soon(self, number: int) -> None:
        """Draw unless a newer request arrives, before or between two pieces of work."""
        await asyncio.sleep(0.005)
        steps = self.steps(watched=True)
        while number == self._latest:
            with errors_shown(self):
                try:
                    news = next(steps)
                except StopIteration as done:
                    return self._show(done.value)
                if isinstance(news, str):
                    self.status.value = news
                elif news is not None:
                    self._show(news)
            if self.error:
                return
            await asyncio.sleep(0)


def finish(steps: Generator):
    """Run a generator to its end, and return what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value
