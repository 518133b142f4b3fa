"""What the explorer shows: windows of models' outputs, bicubic, and the truth."""

import math
import time
from collections.abc import Generator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from asr_course.coords import output_size
from asr_course.images import to_pixels, to_tensor
from asr_course.metrics import psnr, to_luma
from asr_course.render import (
    TILE,
    Encoded,
    Totals,
    Window,
    decode_rows,
    encode,
    encoded_tiles,
)
from asr_course.totals import Unknown

COARSE = 4  # one row and one column in so many make a first picture
SOON = 0.1  # seconds; a full picture that takes longer is preceded by a coarse one
STEPS = 25  # of a sampler
EVERY = 8  # where queries hear from each other: one row and column in so many
EDGE = 64  # low-resolution pixels; of a large input only such blocks are encoded


class View(NamedTuple):
    """What the explorer shows for one request."""

    panels: dict[str, np.ndarray]  # title -> (n, n, 3) uint8
    size: tuple[int, int]  # of the whole virtual output
    window: Window
    psnr: dict[str, float]  # by title, luma; empty without a truth
    seconds: float | None  # that the model took; None for a first, coarse picture


def compare(panels: dict, truth: dict, size, window, seconds=None) -> View:
    """Panels {title: pixels}, and the photograph's {title: pixels}, if there is one."""
    scores = {}
    if "truth" in truth and seconds is not None:
        luma = {k: to_luma(to_tensor(x)[0]) for k, x in (panels | truth).items()}
        scores = {name: psnr(luma[name], luma["truth"]) for name in panels}
    return View(panels | truth, size, window, scores, seconds)


def crop_resized(pixels: np.ndarray, size, window: Window) -> np.ndarray:
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
        (span[1], span[0]), Image.Resampling.BICUBIC, box=(left, top, right, bottom)
    )
    return np.asarray(part)[tuple(inside)]


class WindowTotals(Totals):
    """Totals that count those of the first sums which go over latent codes alone."""

    alone = 0

    def decode(self, encoded, queries, cell):
        rgb = super().decode(encoded, queries, cell)
        if isinstance(rgb, Unknown) and rgb.once and self.alone == len(self.known):
            self.alone += 1
        return rgb


class Decoder:
    """Draws windows of the outputs of {name: model}, a few pixels at a time.

    A request is what explorer.js calls one: a dict with scale, left and right (names),
    centre, side, seed and whole. What is slow and may be needed again is kept: pace,
    features, sums over a whole output, samples.
    """

    def __init__(self, models: dict):
        self.models, self._pace = models, {}  # seconds for a query, by model

    def set_pictures(self, lr: np.ndarray, hr: np.ndarray | None) -> None:
        """The models' input, and the photograph that it was shrunk from."""
        self.lr, self.hr = lr, hr
        self._encoded, self._totals, self._samples = {}, {}, {}

    def tensor(self, model: nn.Module) -> Tensor:
        """The input as `model` takes it: (1, 3, H, W), on its device."""
        return to_tensor(self.lr).to(next(model.parameters()).device)

    def window(self, asked: dict) -> tuple[tuple[int, int], Window]:
        """Size of the whole output, and the part of it that is asked for."""
        size = output_size(self.lr.shape[:2], asked["scale"])
        side = min(asked["side"], *size)
        top, left = (
            min(max(round(c * n - side / 2), 0), n - side)
            for c, n in zip(asked["centre"], size, strict=True)
        )
        return size, (top, left, side, side)

    def truth(self, size: tuple[int, int], window: Window) -> dict[str, np.ndarray]:
        """The photograph in a window, by its title: the truth if it has the pixels."""
        if self.hr is None:
            return {}
        enlarged = f"photograph, bicubic ×{size[0] / len(self.hr):.3g}"
        title = "truth" if size[0] <= len(self.hr) else enlarged
        return {title: crop_resized(self.hr, size, window)}

    def encoded(self, name: str, part: Window) -> Encoded:
        """Features of a part of the input; the latest few are kept."""
        if (name, part) not in self._encoded:
            if len(self._encoded) > 8:
                self._encoded.clear()
            model = self.models[name].eval()
            self._encoded[name, part] = encode(model, self.tensor(model), part)
        return self._encoded[name, part]

    def part(self, size: tuple[int, int], window: Window) -> Window:
        """The input's rows and columns to encode for a window: all, if not many."""
        box = []
        for n, whole, first, count in zip(
            self.lr.shape[:2], size, window[:2], window[2:], strict=True
        ):
            a, b = 0, n
            if n > TILE:
                a = int(first * n / whole) // EDGE * EDGE
                b = min(n, -(-int((first + count) * n / whole + 1) // EDGE) * EDGE)
            box.append((a, b - a))
        return *(a for a, _ in box), *(count for _, count in box)

    def sample(self, name: str, size: tuple[int, int], seed: int) -> Generator[str]:
        """The whole output of a generative model, step by step."""
        key = name, size, seed
        if key not in self._samples:
            model = self.models[name].eval()
            for step in model.chain(self.tensor(model), size, STEPS, seed):
                yield f"sampling … {step.done}/{STEPS}"
            self._samples = {key: to_pixels(step.y[0] * 0.5 + 0.5)}
        return self._samples[key]

    def totals(self, name: str, size, window: Window, whole: bool) -> Totals:
        """Sums over the queries of the whole output, or of a grid in the window.

        The latest of either kind is kept for each model, and from one window to the
        next whatever goes over latent codes alone.
        """
        model, part, alone = self.models[name], self.part(size, window), []
        key = (name, size) if whole else (name, part, size, window)
        if key in self._totals:
            return self._totals[key]
        for old in [k for k in self._totals if (k[0], len(k)) == (name, len(key))]:
            totals = self._totals.pop(old)
            if old[1] == part:
                alone = totals.known[: totals.alone]
        if whole:
            tiles = partial(encoded_tiles, partial(self.encoded, name), self.lr.shape)
            totals = Totals(model, partial(tiles, size, (0, 0, *size), TILE), size)
        else:
            pieces = [(self.encoded(name, part), window)]
            totals = WindowTotals(model, lambda: pieces, size, every=EVERY)
            totals.known += alone
            totals.alone = len(alone)
        self._totals[key] = totals
        return totals

    def paint(self, name: str, asked: dict, every: int = 1) -> Generator:
        """The pixels of a window, step by step. every: see `decode_rows`."""
        model, (size, window) = self.models[name], self.window(asked)
        top, left, rows, cols = window
        if model.is_generative:
            pixels = yield from self.sample(name, size, asked["seed"])
            return pixels[top : top + rows, left : left + cols]
        encoded, began = self.encoded(name, self.part(size, window)), time.monotonic()
        totals = self.totals(name, size, window, asked["whole"])
        half = every // 2  # each query lies in the middle of what it stands for
        part, strips = (top + half, left + half, rows - half, cols - half), []
        for strip in decode_rows(model, encoded, size, part, totals, every=every):
            if strip:
                strips.append(to_pixels(strip[1]))
            gathers = asked["whole"] and not strip
            yield progress(totals, size, began) if gathers else None
        return np.asarray(Image.fromarray(np.concatenate(strips)).resize((cols, rows)))

    @torch.inference_mode()
    def work(
        self, asked: dict, watched: bool = False
    ) -> Generator[str | View | None, None, View]:
        """Draw a view step by step. watched: a coarse one first if it takes long."""
        size, window = self.window(asked)
        part, count = self.part(size, window), window[2] * window[3]
        names = [n for n in (asked["left"], asked["right"]) if n in self.models]
        regress = [name for name in names if not self.models[name].is_generative]
        for name in regress:
            if (name, part) not in self._encoded:
                yield f"the encoder of {name} reads the picture …"
            self.encoded(name, part)
        yield
        bicubic, truth = crop_resized(self.lr, size, window), self.truth(size, window)
        drawn = dict.fromkeys((asked["left"], asked["right"]), bicubic)
        slow = sum(self._pace.get(name, SOON) for name in regress) * count > SOON
        if watched and regress and count > COARSE**2 and (slow or asked["whole"]):
            for name in regress:
                few = asked | {"whole": False}
                drawn[name] = yield from self.paint(name, few, COARSE)
            yield compare(drawn, truth, size, window)
        for name in names:
            started = time.perf_counter()
            drawn[name] = yield from self.paint(name, asked)
            seconds = time.perf_counter() - started
            if not asked["whole"]:
                self._pace[name] = seconds / count
        return compare(drawn, truth, size, window, seconds)


def progress(totals: Totals, size: tuple[int, int], began: float) -> str:
    """How far the present sum over all queries is, and how long it will take."""
    left = (time.monotonic() - began) * (1 - totals.share) / max(totals.share, 0.01)
    words = f"sum {len(totals.known) + 1} over {size[0] * size[1]:,} queries"
    return f"{words}: {totals.share:.0%}, about {left:.0f} s left"
