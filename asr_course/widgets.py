"""Widgets: a picture to drag and the explorer that makes one model answer any scale.

A widget stores what was asked and renders once the event loop is free, so that of
many slider moves only the latest is drawn. Without a running loop (a test, a plain
script) it renders at once. Whatever goes wrong is shown in the widget and kept in
`error`; nothing is raised into the void.
"""

import asyncio
import html
import io
import math
import time
from collections.abc import Generator
from dataclasses import dataclass

import anywidget
import ipywidgets as ipw
import numpy as np
import torch
import traitlets
from IPython.display import display
from PIL import Image

from asr_course import plots
from asr_course.coords import output_size
from asr_course.errors import UserError
from asr_course.images import open_image, resize, to_pixels, to_rgb, to_tensor
from asr_course.metrics import psnr, to_luma
from asr_course.render import (
    Encoded,
    Window,
    decode_rows,
    encode,
    finish,
    gathering,
)

VIEW = 256  # output rows and columns that are shown: every scale costs the same
COARSE = 4  # one row and one column in so many make a first picture
SOON = 0.1  # seconds; a full picture that takes longer is preceded by a coarse one
LARGEST = 1024  # rows and columns of a photograph; larger ones are shrunk first
MAX_SCALE = 30.0
STEPS = 25  # of a sampler
EVERY = 8  # where queries hear from each other: one row and column in so many
GAP = 6  # white columns between two panels


class Picture(anywidget.AnyWidget):
    """PNG bytes as an <img> that can be dragged, clicked and moved with the keyboard.

    Sends {"type": "drag", "rows", "cols", "start"} with the way gone since the button
    went down, in fractions of the picture; {"type": "click", "row", "col"}; and
    {"type": "key", "rows", "cols"} for the arrow keys.
    """

    _esm = """
    function render({ model, el }) {
      const img = document.createElement("img");
      img.className = "asr-picture";
      img.tabIndex = 0;
      img.draggable = false;
      Object.assign(img.style, {
        width: "100%", imageRendering: "pixelated", cursor: "grab",
        touchAction: "none", display: "block",
      });
      el.style.maxWidth = "1000px";
      el.appendChild(img);
      let url = null;
      function draw() {
        const data = model.get("data");
        if (!data || !data.byteLength) return;
        const old = url;
        url = URL.createObjectURL(new Blob([data], { type: "image/png" }));
        img.src = url;
        img.onload = () => { if (old) URL.revokeObjectURL(old); };
        img.dataset.version = String(Number(img.dataset.version || 0) + 1);
      }
      function describe() { img.alt = model.get("alt"); }
      function wait() {
        img.setAttribute("aria-busy", model.get("busy"));
        img.style.cursor = model.get("busy") ? "progress" : "grab";
      }
      model.on("change:data", draw);
      model.on("change:alt", describe);
      model.on("change:busy", wait);
      draw(); describe(); wait();
      let from = null, waiting = false, latest = null;
      function flush() {
        waiting = false;
        if (latest) model.send(latest);
        latest = null;
      }
      img.addEventListener("pointerdown", (e) => {
        from = { x: e.clientX, y: e.clientY, moved: false };
        img.setPointerCapture(e.pointerId);
        img.focus({ preventScroll: true });
        model.send({ type: "drag", rows: 0, cols: 0, start: true });
      });
      img.addEventListener("pointermove", (e) => {
        if (!from) return;
        const dx = e.clientX - from.x, dy = e.clientY - from.y;
        if (Math.abs(dx) + Math.abs(dy) > 3) from.moved = true;
        latest = { type: "drag", rows: dy / img.clientHeight,
                   cols: dx / img.clientWidth, start: false };
        if (!waiting) { waiting = true; requestAnimationFrame(flush); }
      });
      img.addEventListener("pointerup", (e) => {
        if (from && !from.moved) {
          const box = img.getBoundingClientRect();
          model.send({ type: "click", row: (e.clientY - box.top) / box.height,
                       col: (e.clientX - box.left) / box.width });
        }
        from = null;
      });
      const keys = { ArrowUp: [-1, 0], ArrowDown: [1, 0],
                     ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      img.addEventListener("keydown", (e) => {
        if (!(e.key in keys)) return;
        e.preventDefault(); e.stopPropagation();
        const [rows, cols] = keys[e.key];
        model.send({ type: "key", rows, cols });
      });
      return () => { if (url) URL.revokeObjectURL(url); };
    }
    export default { render };
    """
    data = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)  # a better picture is on its way


def not_drawn(error: Exception) -> str:
    """What a widget says in place of a picture, as HTML."""
    return f'<span style="color:#D55E00">Not drawn: {html.escape(str(error))}</span>'


class LatestWins(ipw.VBox):
    """A widget of which only the latest state is drawn.

    It writes `steps`, which yields between pieces of work, perhaps a text that says
    how far it is or something for `_show` to show meanwhile, and returns what `_show`
    takes in the end. A newer request ends older work. Where all is drawn at once,
    nobody sees what is yielded: `watched` is False.
    """

    error: Exception | None = None
    _task = None
    _wanted = 0  # the number of the latest request

    def steps(self, watched: bool) -> Generator:
        """The work that the present state asks for."""
        raise NotImplementedError

    def _show(self, view) -> None:
        raise NotImplementedError

    def request(self, now: bool = False) -> None:
        """Ask for the current state to be drawn; older requests are void."""
        self._wanted += 1
        wanted = self._wanted
        try:
            loop = None if now else asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop:
            self._task = loop.create_task(self._draw_soon(wanted))
            return
        try:
            self._show(finish(self.steps(watched=False)))
        except Exception as error:
            self._fail(error)

    async def _draw_soon(self, wanted: int) -> None:
        """Draw unless a newer request arrives, before or between two pieces of work."""
        await asyncio.sleep(0.005)
        try:
            steps = self.steps(watched=True)
            while wanted == self._wanted:
                try:
                    said = next(steps)
                except StopIteration as done:
                    self._show(done.value)
                    return
                if said is not None:
                    self._tell(said)
                await asyncio.sleep(0)
        except Exception as error:
            self._fail(error)

    def _tell(self, said) -> None:
        """Show what work yields on its way: a text, or a first view."""
        if isinstance(said, str):
            self.status.value = said
        else:
            self._show(said)

    def _fail(self, error: Exception) -> None:
        """Say what went wrong where the picture was asked for."""
        self.error = error
        self.status.value = not_drawn(error)


@dataclass
class View:
    """What the explorer shows for one request."""

    panels: dict[str, np.ndarray]  # title -> (n, n, 3) uint8
    size: tuple[int, int]  # of the whole virtual output
    window: Window
    queries: int
    psnr: dict[str, float]  # of bicubic and model, luma; empty without a truth
    seconds: float  # that the model took
    coarse: bool = False  # a first picture, of a few queries


class ScaleExplorer(LatestWins):
    """One slider for the scale, one implicit picture behind it.

    models: a model, or {name: model} for tabs. image: array, PIL image or path; it is
    shrunk by `downsample` to make the model's input, and serves as the truth up to
    that scale (downsample=1: no truth, your picture itself is enlarged). Drag the
    picture or use the arrow keys to move the window. centre: where it begins, as
    fractions of rows and columns. lr: the model's input, where shrinking `image` is
    not how it came about.

    A model that draws its answer makes the whole output, and shows how far it is.
    Where queries hear from each other, those of a window hear only from a grid of
    queries in the window, and what you see is not a crop of the whole output. `whole`
    makes it one, at the price of going over all of the output first.
    """

    def __init__(
        self, models, image, downsample=4, scale=4.0, centre=(0.5, 0.5), lr=None
    ):
        self.models = models if isinstance(models, dict) else {"model": models}
        self.downsample = downsample
        self.view: View | None = None
        self._pace: dict[str, float] = {}  # seconds for a query, model by model
        self.centre = self._centre_at_start = centre
        self.slider = ipw.FloatLogSlider(
            value=scale,
            base=10,
            min=0,
            max=math.log10(MAX_SCALE),
            step=0.002,
            readout_format=".2f",
            description="scale ×",
            layout=ipw.Layout(width="60%"),
        )
        self.tabs = ipw.ToggleButtons(options=list(self.models))
        self.upload = ipw.FileUpload(
            accept="image/*",
            description="your own photo",
            layout=ipw.Layout(width="180px"),
        )
        self.whole = ipw.Checkbox(
            description="hear the whole output (slow)",
            indent=False,
            layout=ipw.Layout(width="auto"),
        )
        self.seed = ipw.BoundedIntText(
            max=10_000, description="seed", layout=ipw.Layout(width="150px")
        )
        self.titles = ipw.HTML()
        self.picture = Picture()
        self.status = ipw.HTML()
        super().__init__(
            [
                ipw.HBox([self.slider, self.upload]),
                *([self.tabs] if len(self.models) > 1 else []),
                *([self.whole] if any(m.sums for m in self.models.values()) else []),
                *(
                    [self.seed]
                    if any(m.generates for m in self.models.values())
                    else []
                ),
                self.titles,
                self.picture,
                self.status,
            ]
        )
        self.set_image(image, lr)
        self.slider.observe(lambda change: self.request(), "value")
        self.tabs.observe(lambda change: self.request(), "value")
        self.whole.observe(lambda change: self.request(), "value")
        self.seed.observe(lambda change: self.request(), "value")
        self.upload.observe(self._on_upload, "value")
        self.picture.on_msg(lambda widget, message, buffers: self.on_pointer(message))

    # What is shown -----------------------------------------------------------------

    def set_image(self, image, lr: np.ndarray | None = None) -> None:
        """Show another photograph, in the same place and at the same scale."""
        if not isinstance(image, np.ndarray):
            image = np.asarray(to_rgb(open_image(image)))
        largest = max(image.shape[:2])
        note = ""
        if largest > LARGEST:
            size = tuple(max(1, n * LARGEST // largest) for n in image.shape[:2])
            note = (
                f"Your picture of {image.shape[0]}×{image.shape[1]} pixels was shrunk "
                f"to {size[0]}×{size[1]} first. "
            )
            image = resize(np.ascontiguousarray(image), size)
        rows, cols = (n // self.downsample for n in image.shape[:2])
        if min(rows, cols) < 1:
            raise UserError(
                f"a picture of {image.shape[:2]} pixels cannot be shrunk "
                f"{self.downsample} times; choose a larger one"
            )
        n, self.note = self.downsample, note
        self.hr = np.ascontiguousarray(image[: rows * n, : cols * n])
        self.lr = resize(self.hr, (rows, cols)) if lr is None else lr
        self._encoded: dict[str, Encoded] = {}
        self._sums: dict[tuple, list] = {}
        self._drawn: dict[tuple, np.ndarray] = {}
        self.request(now=True)

    def encoded(self, name: str) -> Encoded:
        """Features of the input for one model, computed when first needed."""
        if name not in self._encoded:
            model = self.models[name]
            lr = to_tensor(self.lr).to(next(model.parameters()).device)
            with torch.inference_mode():
                self._encoded[name] = encode(model.eval(), lr)
        return self._encoded[name]

    def window(self, scale: float, view: int = VIEW) -> tuple[tuple[int, int], Window]:
        """Size of the whole output at `scale`, and the part of it that is shown."""
        size = output_size(self.lr.shape[:2], scale)
        side = min(view, *size)
        top, left = (
            min(max(round(c * n - side / 2), 0), n - side)
            for c, n in zip(self.centre, size, strict=True)
        )
        return size, (top, left, side, side)

    def sums(
        self, name: str, size: tuple[int, int], window: Window, whole: bool
    ) -> Generator[str | None, None, list]:
        """What queries tell each other, step by step.

        Those of the whole output, or of a grid in the window: a slider must not wait,
        and sums are averages.
        """
        model, encoded = self.models[name], self.encoded(name)
        if not whole:
            return (
                yield from gathering(model, lambda: [(encoded, window)], size, EVERY)
            )
        key = name, size
        if key not in self._sums:
            steps = gathering(model, lambda: [(encoded, (0, 0, *size))], size)
            yield "busy with the whole output …"
            self._sums = {key: (yield from steps)}  # the latest only
        return self._sums[key]

    def draw(
        self, name: str, size: tuple[int, int]
    ) -> Generator[str, None, np.ndarray]:
        """The whole output of a model that draws its answer, step by step."""
        key, model = (name, size, self.seed.value), self.models[name].eval()
        if key not in self._drawn:
            lr = to_tensor(self.lr).to(next(model.parameters()).device)
            for step in model.chain(lr, size, STEPS, self.seed.value):
                yield f"sampling … {step.done}/{STEPS}"
            self._drawn = {key: to_pixels(step.y[0] * 0.5 + 0.5)}  # the latest only
        return self._drawn[key]

    def paint(
        self, name: str, size: tuple[int, int], window: Window, whole: bool
    ) -> Generator[str | None, None, np.ndarray]:
        """The pixels of a window, step by step."""
        model, (top, left, rows, cols) = self.models[name], window
        pixels = np.empty((rows, cols, 3), np.uint8)
        if model.generates:
            drawn = yield from self.draw(name, size)
            return drawn[top : top + rows, left : left + cols]
        sums = yield from self.sums(name, size, window, whole)
        for first, piece in decode_rows(model, self.encoded(name), size, window, sums):
            pixels[first : first + piece.shape[1]] = to_pixels(piece)
            yield
        return pixels

    def sketch(
        self, name: str, size: tuple[int, int], window: Window
    ) -> Generator[None, None, np.ndarray]:
        """The pixels of a window from one row and one column of queries in a few."""
        top, left, rows, cols = window
        sums = yield from self.sums(name, size, window, whole=False)
        # The queries in the middle of what they stand for.
        half = COARSE // 2
        few = top + half, left + half, rows - half, cols - half
        model, encoded = self.models[name], self.encoded(name)
        pieces = decode_rows(model, encoded, size, few, sums, COARSE)
        drawn = to_pixels(torch.cat([piece for _, piece in pieces], dim=1))
        return np.asarray(Image.fromarray(drawn).resize((cols, rows)))

    def slow(self, name: str, window: Window) -> bool:
        """Whether a window takes long, as far as the latest picture tells."""
        return self._pace.get(name, SOON) * window[2] * window[3] > SOON

    @torch.inference_mode()
    def work(
        self,
        scale: float,
        name: str,
        view: int = VIEW,
        whole: bool = False,
        sketched: bool = False,
    ) -> Generator[str | View | None, None, View]:
        """Render a view step by step; the iterator returns the finished View.

        sketched: yield a coarse View first, if the finished one takes long.
        """
        size, window = self.window(scale, view)
        rows, cols = window[2:]
        if not self.models[name].generates:
            if name not in self._encoded:
                yield "busy: the encoder reads the picture …"
            self.encoded(name)
        yield
        sketched = sketched and not self.models[name].generates
        if sketched and min(rows, cols) > COARSE and (whole or self.slow(name, window)):
            pixels = yield from self.sketch(name, size, window)
            yield self.compare(name, pixels, size, window, scale)
        started = time.perf_counter()
        pixels = yield from self.paint(name, size, window, whole)
        seconds = time.perf_counter() - started
        if not whole:
            self._pace[name] = seconds / (rows * cols)
        return self.compare(name, pixels, size, window, scale, seconds)

    def compare(
        self,
        name: str,
        pixels: np.ndarray,
        size: tuple[int, int],
        window: Window,
        scale: float,
        seconds: float | None = None,
    ) -> View:
        """What a model drew beside bicubic and the truth; coarse without `seconds`."""
        rows, cols = window[2:]
        panels = {"bicubic": crop_resized(self.lr, size, window), name: pixels}
        scores = {}
        if self.downsample > 1:
            title, truth = self.truth(size, window, scale)
            if title == "truth" and seconds is not None:
                truth_luma = to_luma(to_tensor(truth)[0])
                scores = {
                    key: psnr(to_luma(to_tensor(panel)[0]), truth_luma)
                    for key, panel in panels.items()
                }
            panels[title] = truth
        shown = panels, size, window, rows * cols, scores
        return View(*shown, seconds or 0.0, coarse=seconds is None)

    def truth(self, size, window: Window, scale: float) -> tuple[str, np.ndarray]:
        """The photograph at this scale, or its own pixels where it has no more."""
        if scale <= self.downsample:
            return "truth", crop_resized(self.hr, size, window)
        nearest = Image.Resampling.NEAREST
        return "photograph (its own pixels)", crop_resized(
            self.hr, size, window, nearest
        )

    def render(
        self,
        scale: float | None = None,
        name: str | None = None,
        view: int = VIEW,
        whole: bool = False,
    ) -> View:
        """The view at a scale for a model, at once and without touching the widget."""
        scale, name = scale or self.slider.value, name or self.tabs.value
        return finish(self.work(scale, name, view, whole))

    # Requests ----------------------------------------------------------------------

    def steps(self, watched: bool) -> Generator:
        scale, name, whole = self.slider.value, self.tabs.value, self.whole.value
        return self.work(scale, name, whole=whole, sketched=watched)

    def _tell(self, said) -> None:
        super()._tell(said)
        self.picture.busy = True

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        self.picture.busy = False

    def _show(self, view: View) -> None:
        """Put a view into the widget."""
        self.view, self.error = view, None
        self.picture.busy = view.coarse
        side = next(iter(view.panels.values())).shape[0]
        white = np.full((side, GAP, 3), 255, np.uint8)
        strips = []
        for panel in view.panels.values():
            strips += [panel, white]
        self.picture.data = plots.to_png(Image.fromarray(np.hstack(strips[:-1])), 1)
        share = 100 / len(view.panels)
        heads = []
        for name in view.panels:
            score = f" · {view.psnr[name]:.2f} dB" if name in view.psnr else ""
            heads.append(
                f'<div style="width:{share}%;display:inline-block">{name}{score}</div>'
            )
        self.titles.value = f'<div style="max-width:1000px">{"".join(heads)}</div>'
        top, left, rows, cols = view.window
        scale = self.slider.value
        self.picture.alt = (
            f"{', '.join(view.panels)} side by side at scale {scale:.2f}, rows {top} "
            f"to {top + rows} and columns {left} to {left + cols} of the output"
        )
        took = f"{view.queries:,} queries in {view.seconds * 1000:.0f} ms"
        self.status.value = (
            f"{self.note}{self.lr.shape[0]}×{self.lr.shape[1]} → "
            f"{view.size[0]}×{view.size[1]} (rows × columns); rows {top}–{top + rows}, "
            f"columns {left}–{left + cols}: "
            f"{'coarse so far, busy with the rest …' if view.coarse else took}"
        )
        if view.coarse:
            return
        if self.models[self.tabs.value].generates:
            self.status.value += f"; {STEPS} steps of sampling, seed {self.seed.value}"
        if self.models[self.tabs.value].sums:
            everywhere = f"all {view.size[0] * view.size[1]:,} of the output"
            here = f"{-(-rows // EVERY) * -(-cols // EVERY):,} of the window"
            heard = everywhere if self.whole.value else here
            self.status.value += f"; each hears {heard}"

    # Input -------------------------------------------------------------------------

    def on_pointer(self, message: dict) -> None:
        """Move the window: by dragging (all panels move together) or by arrow keys."""
        if message.get("type") not in ("drag", "key") or self.view is None:
            return
        size, (_, _, rows, cols) = self.window(self.slider.value)
        step = (message["rows"] * rows, message["cols"] * cols * len(self.view.panels))
        if message["type"] == "key":
            self._centre_at_start = self.centre
            step = (-message["rows"] * rows / 8, -message["cols"] * cols / 8)
        elif message["start"]:
            self._centre_at_start = self.centre
            return
        self.centre = tuple(
            min(max(c - s / n, side / 2 / n), 1 - side / 2 / n)
            for c, s, n, side in zip(
                self._centre_at_start, step, size, (rows, cols), strict=True
            )
        )
        self.request()

    def _on_upload(self, change) -> None:
        """Show the photograph that was uploaded; keep the old one if it is none."""
        if not change["new"]:
            return
        try:
            self.set_image(io.BytesIO(change["new"][0]["content"]))
        except Exception as error:  # whatever it is, it belongs under the picture
            self._fail(error)

    # Without a kernel --------------------------------------------------------------

    def contact_sheet(self, scales=(1.5, 2.5, 4, 10, 30), side: int = 104) -> None:
        """Display what the slider would show at some scales, for readers on paper."""
        columns = []  # of (title, pixels): bicubic, every model, the truth
        for scale in scales:
            panels, scores = {}, {}
            for name in self.models:
                view = self.render(scale, name, side)
                truth = list(view.panels)[-1]
                panels.pop(truth, None)  # it comes last, after all models
                panels |= view.panels
                scores |= view.psnr
            columns.append([])
            for name, pixels in panels.items():
                score = f"\n{scores[name]:.2f} dB" if name in scores else "\n"
                columns[-1].append((f"{name.split(' ')[0]} ×{scale:g}{score}", pixels))
        cells = [cell for row in zip(*columns, strict=True) for cell in row]
        titles, pictures = zip(*cells, strict=True)
        sheet = plots.gallery(pictures, titles, side, columns=len(scales))
        rows = ", ".join(["bicubic", *self.models, "photograph"])
        plots.show(sheet, f"Rows {rows}; scales {scales}")

    def show(self) -> None:
        """Display the widget, and the contact sheet for where widgets do not live."""
        display(self)
        self.contact_sheet()


def crop_resized(
    pixels: np.ndarray,
    size: tuple[int, int],
    window: Window,
    how=Image.Resampling.BICUBIC,
) -> np.ndarray:
    """The part `window` of `pixels` resized to `size`, without making the rest.

    Pillow reads nothing outside the box that it resizes, so a margin as wide as the
    bicubic kernel is made too and cut off again.
    """
    box, span, inside = [], [], []
    for n, whole, first, count in zip(
        pixels.shape[:2], size, window[:2], window[2:], strict=True
    ):
        margin = math.ceil(3 * max(1, whole / n))
        a, b = max(first - margin, 0), min(first + count + margin, whole)
        box.append((a * n / whole, min(b * n / whole, n)))
        span.append(b - a)
        inside.append(slice(first - a, first - a + count))
    (top, bottom), (left, right) = box
    part = Image.fromarray(pixels).resize(
        (span[1], span[0]), how, box=(left, top, right, bottom)
    )
    return np.asarray(part)[tuple(inside)]
