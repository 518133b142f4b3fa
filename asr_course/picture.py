"""What widgets are made of: a picture to click, and drawing of the latest state only.

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
import traitlets
from PIL import Image

from asr_course import plots


class Picture(anywidget.AnyWidget):
    """PNG bytes as an <img> of its own size, or smaller where that does not fit.

    Where it `chooses`, a click or an arrow key sets `place`, (row, col) as fractions of
    the picture.
    """

    _esm = Path(__file__).with_name("picture.js").read_text()
    data = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    chooses = traitlets.Bool(False).tag(sync=True)
    place = traitlets.List([0.5, 0.5]).tag(sync=True)
    step = traitlets.List([0.1, 0.1]).tag(sync=True)  # of an arrow key
    marked = traitlets.Bool(False).tag(sync=True)  # draw a ring at the place

    def put(self, picture, alt: str) -> None:
        """Show a PIL image or a matplotlib figure; `alt` says what is in it."""
        image = isinstance(picture, Image.Image)
        data = plots.to_png(picture) if image else plots.figure_png(picture)
        with self.hold_sync():
            self.data, self.alt = data, alt


def tell(widget, words: str, wrong: bool = False) -> None:
    """Put a line into `widget.status`; wrong: it says what went wrong."""
    look = ' style="color:white;background:#a33c00;padding:0 6px"' if wrong else ""
    widget.status.value = f"<span{look}>{html.escape(words)}</span>"


@contextmanager
def errors_shown(widget):
    """Keep what goes wrong in `widget.error`, and `widget.tell` it in words."""
    widget.error = None
    try:
        yield
    except Exception as error:
        widget.error = error
        widget.tell(f"Not drawn: {error}", wrong=True)


class LatestWins:
    """A widget of which only the latest state is drawn.

    A subclass defines `steps`, which yields between pieces of work, perhaps a text
    about its progress or something for `_show` to show meanwhile, and returns what
    `_show` takes in the end. A newer request ends older work. Without a loop all is
    drawn at once, and what is yielded is not shown: `watched` is False.
    """

    error: Exception | None = None
    _task = None
    _latest = 0  # the number of the latest request
    tell = tell

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
                    self.tell(news)
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
