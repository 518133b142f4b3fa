"""The explorer: any model at any scale, moved with a slider and the mouse."""

import io
import math
import time
from collections.abc import Generator

import ipywidgets as ipw
import numpy as np
import torch
from IPython.display import display
from PIL import Image

from asr_course import plots
from asr_course.coords import output_size
from asr_course.errors import UserError
from asr_course.images import read_pixels, resize, to_pixels, to_tensor
from asr_course.picture import LatestWins, Picture, errors_shown, finish
from asr_course.render import Totals, Window, decode_rows, encode
from asr_course.view import View, compare

VIEW = 256  # output rows and columns that are shown: every scale costs the same
COARSE = 4  # one row and one column in so many make a first picture
SOON = 0.1  # seconds; a full picture that takes longer is preceded by a coarse one
LARGEST = 1024  # rows and columns of a photograph; larger ones are shrunk first
STEPS = 25  # of a sampler
EVERY = 8  # where queries hear from each other: one row and column in so many


class ScaleExplorer(LatestWins):
    """One slider for the scale, one implicit picture behind it.

    models: a model, or {name: model} for tabs. image: array, PIL image or path; it is
    shrunk by `downsample` to make the model's input, and serves as the truth up to
    that scale (downsample=1: no truth, your picture itself is enlarged). Drag the
    picture or use the arrow keys to move the window. centre: where it begins, as
    fractions of rows and columns. lr: the model's input, where shrinking `image` is
    not how it came about.

    Where queries hear from each other, those of a window hear only from a grid of
    queries in the window, and what you see is not a crop of the whole output. `whole`
    makes it one, at the price of going over all of the output first.
    """

    def __init__(
        self, models, image, downsample=4, scale=4.0, centre=(0.5, 0.5), lr=None
    ):
        self.models = models if isinstance(models, dict) else {"model": models}
        self.downsample, self.centre, self.view = downsample, centre, None
        self._drag_from, self._pace = centre, {}  # seconds for a query, by model
        self.slider = ipw.FloatLogSlider(
            scale, base=10, min=0, max=math.log10(30), step=0.002, readout_format=".2f"
        )
        self.slider.description, self.slider.layout.width = "scale ×", "60%"
        self.upload = ipw.FileUpload(accept="image/*", description="your own photo")
        self.tabs = ipw.ToggleButtons(options=list(self.models))
        self.whole = ipw.Checkbox(description="hear the whole output (slow)")
        self.seed = ipw.BoundedIntText(max=10_000, description="seed")
        self.picture, self.titles, self.status = Picture(), ipw.HTML(), ipw.HTML()
        optional = {
            self.tabs: len(self.models) > 1,
            self.whole: any(m.is_nonlocal for m in self.models.values()),
            self.seed: any(m.is_generative for m in self.models.values()),
        }
        controls = [widget for widget, wanted in optional.items() if wanted]
        controls.insert(0, ipw.HBox([self.slider, self.upload]))
        super().__init__([*controls, self.titles, self.picture, self.status])
        self.set_image(image, lr)
        for control in (self.slider, self.tabs, self.whole, self.seed):
            control.observe(lambda change: self.request(), "value")
        self.upload.observe(self._on_upload, "value")
        self.picture.on_msg(lambda widget, message, buffers: self.on_pointer(message))

    def set_image(self, image, lr: np.ndarray | None = None) -> None:
        """Show another photograph, in the same place and at the same scale."""
        if not isinstance(image, np.ndarray):
            image = read_pixels(image)
        (rows, cols), note = image.shape[:2], ""
        if max(rows, cols) > LARGEST:
            note = f"Your picture of {rows}×{cols} pixels was shrunk to "
            rows, cols = (max(1, n * LARGEST // max(rows, cols)) for n in (rows, cols))
            note += f"{rows}×{cols} first. "
            image = resize(np.ascontiguousarray(image), (rows, cols))
        rows, cols = rows // self.downsample, cols // self.downsample
        if min(rows, cols) < 1:
            raise UserError("too few pixels: choose a larger picture")
        whole = image[: rows * self.downsample, : cols * self.downsample]
        self.hr, self.note = np.ascontiguousarray(whole), note
        self.lr = resize(self.hr, (rows, cols)) if lr is None else lr
        self.photo = self.lr, self.hr if self.downsample > 1 else None
        self._encoded = {}  # by model
        self._totals, self._samples = {}, {}  # of the latest whole output
        self.request(now=True)

    def window(self, scale: float, view: int = VIEW) -> tuple[tuple[int, int], Window]:
        """Size of the whole output at `scale`, and the part of it that is shown."""
        size = output_size(self.lr.shape[:2], scale)
        side = min(view, *size)
        top, left = (
            min(max(round(c * n - side / 2), 0), n - side)
            for c, n in zip(self.centre, size, strict=True)
        )
        return size, (top, left, side, side)

    def sample(self, name: str, size: tuple[int, int]) -> Generator[str]:
        """The whole output of a generative model, step by step."""
        key = name, size, self.seed.value
        if key not in self._samples:
            model = self.models[name].eval()
            lr = to_tensor(self.lr).to(next(model.parameters()).device)
            for step in model.chain(lr, size, STEPS, self.seed.value):
                yield f"sampling … {step.done}/{STEPS}"
            self._samples = {key: to_pixels(step.y[0] * 0.5 + 0.5)}
        return self._samples[key]

    def totals(self, name: str, size, window: Window, whole: bool) -> Totals:
        """Sums over the queries of the whole output, or of a grid in the window."""
        model, encoded = self.models[name], self._encoded[name]
        if not whole:
            return Totals(model, lambda: [(encoded, window)], size, every=EVERY)
        if (name, size) not in self._totals:
            pieces = [(encoded, (0, 0, *size))]
            self._totals = {(name, size): Totals(model, lambda: pieces, size)}
        return self._totals[name, size]

    def paint(self, name: str, size, window: Window, whole: bool, every=1) -> Generator:
        """The pixels of a window, step by step. every: see `decode_rows`."""
        model, (top, left, rows, cols) = self.models[name], window
        if model.is_generative:
            pixels = yield from self.sample(name, size)
            return pixels[top : top + rows, left : left + cols]
        encoded, totals = self._encoded[name], self.totals(name, size, window, whole)
        if whole and model.is_nonlocal and not totals.known:
            yield "busy with the whole output …"
        half = every // 2  # each query lies in the middle of what it stands for
        part, strips = (top + half, left + half, rows - half, cols - half), []
        for strip in decode_rows(model, encoded, size, part, totals, every=every):
            if strip:
                strips.append(to_pixels(strip[1]))
            yield
        return np.asarray(Image.fromarray(np.concatenate(strips)).resize((cols, rows)))

    @torch.inference_mode()
    def work(
        self, scale: float, name: str, view=VIEW, whole=False, watched=False
    ) -> Generator[str | View | None, None, View]:
        """Render a view step by step. watched: a coarse one first if it takes long."""
        model, (size, window) = self.models[name], self.window(scale, view)
        count = window[2] * window[3]
        if not model.is_generative and name not in self._encoded:
            yield "busy: the encoder reads the picture …"
            lr = to_tensor(self.lr).to(next(model.parameters()).device)
            self._encoded[name] = encode(model.eval(), lr)
        yield
        slow = whole or self._pace.get(name, SOON) * count > SOON
        if watched and slow and count > COARSE**2 and not model.is_generative:
            pixels = yield from self.paint(name, size, window, False, COARSE)
            yield compare(name, pixels, *self.photo, size, window)
        started = time.perf_counter()
        pixels = yield from self.paint(name, size, window, whole)
        seconds = time.perf_counter() - started
        if not whole:
            self._pace[name] = seconds / count
        return compare(name, pixels, *self.photo, size, window, seconds)

    def render(self, scale=None, name=None, view: int = VIEW, whole=False) -> View:
        """The view at a scale for a model, at once and without touching the widget."""
        scale, name = scale or self.slider.value, name or self.tabs.value
        return finish(self.work(scale, name, view, whole))

    def steps(self, watched: bool) -> Generator:
        chosen = self.slider.value, self.tabs.value, VIEW, self.whole.value
        try:
            return (yield from self.work(*chosen, watched))
        except Exception:
            self.picture.busy = False
            raise

    def _show(self, view: View) -> None:
        """Put a view into the widget."""
        self.view, self.picture.busy = view, view.seconds is None
        gap = np.full((view.window[2], 6, 3), 255, np.uint8)
        strips = [strip for panel in view.panels.values() for strip in (gap, panel)]
        self.picture.data = plots.to_png(Image.fromarray(np.hstack(strips[1:])), 1)
        heads, style = "", f"width:{100 / len(view.panels)}%;display:inline-block"
        for name in view.panels:
            score = f" · {view.psnr[name]:.2f} dB" if name in view.psnr else ""
            heads += f'<div style="{style}">{name}{score}</div>'
        self.titles.value = f'<div style="max-width:1000px">{heads}</div>'
        (top, left, rows, cols), (h, w) = view.window, view.size
        where = f"rows {top} to {top + rows} and columns {left} to {left + cols}"
        (H, W), names = self.lr.shape[:2], ", ".join(view.panels)
        self.picture.alt = f"{names} at scale {self.slider.value:.2f}, {where}"
        words = f"{self.note}{H}×{W} → {h}×{w} (rows × columns); {where}: "
        model = self.models[self.tabs.value]
        if view.seconds is None:
            words += "coarse so far, busy with the rest …"
        else:
            words += f"{rows * cols:,} queries in {view.seconds * 1000:.0f} ms"
        if model.is_generative:
            words += f"; {STEPS} steps of sampling, seed {self.seed.value}"
        if model.is_nonlocal:
            grid = f"{-(-rows // EVERY) * -(-cols // EVERY):,} of the window"
            words += f"; each hears {f'all {h * w:,}' if self.whole.value else grid}"
        self.status.value = words

    def on_pointer(self, message: dict) -> None:
        """Move the window: by dragging (all panels move together) or by arrow keys."""
        if message.get("type") not in ("drag", "key") or self.view is None:
            return
        size, (_, _, *sides) = self.window(self.slider.value)
        way = message["rows"], message["cols"] * len(self.view.panels)
        if message["type"] == "key":
            self._drag_from = self.centre
            way = -message["rows"] / 8, -message["cols"] / 8
        elif message["start"]:
            self._drag_from = self.centre
            return
        self.centre = tuple(
            min(max(c - step * side / n, side / 2 / n), 1 - side / 2 / n)
            for c, step, n, side in zip(self._drag_from, way, size, sides, strict=True)
        )
        self.request()

    def _on_upload(self, change) -> None:
        """Show the photograph that was uploaded; keep the old one if it is none."""
        if change["new"]:
            with errors_shown(self):
                self.set_image(io.BytesIO(change["new"][0]["content"]))

    def show(self, scales=(1.5, 2.5, 4, 10, 30), side: int = 104) -> None:
        """Display the widget, and a sheet of scales for readers without a kernel."""
        display(self)
        columns = []  # of (title, pixels): bicubic, every model, the truth
        for scale in scales:
            panels, scores = {}, {}
            for name in self.models:
                view = self.render(scale, name, side)
                panels, scores = panels | view.panels, scores | view.psnr
            truth = list(view.panels)[2:]
            columns.append([])
            for title in [t for t in panels if t not in truth] + truth:
                score = f"{scores[title]:.2f} dB" if title in scores else ""
                head = f"{title.split(' ')[0]} ×{scale:g}\n{score}"
                columns[-1].append((head, panels[title]))
        cells = [cell for row in zip(*columns, strict=True) for cell in row]
        titles, pictures = zip(*cells, strict=True)
        sheet = plots.gallery(pictures, titles, side, columns=len(scales))
        rows = ", ".join(["bicubic", *self.models, "photograph"])
        plots.show(sheet, f"Rows {rows}; scales {scales}")
