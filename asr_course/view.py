"""One view of the explorer: a model's pixels beside bicubic and the truth."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from asr_course.images import to_tensor
from asr_course.metrics import psnr, to_luma
from asr_course.render import Window


class View(NamedTuple):
    """What the explorer shows for one request."""

    panels: dict[str, np.ndarray]  # title -> (n, n, 3) uint8
    size: tuple[int, int]  # of the whole virtual output
    window: Window
    psnr: dict[str, float]  # of bicubic and model, luma; empty without a truth
    seconds: float | None  # that the model took; None for a first, coarse picture


def compare(name, pixels, lr, hr, size, window, seconds=None) -> View:
    """A model's pixels beside bicubic and the photograph `hr`, None without one.

    The photograph is the truth as long as it has enough pixels for `size`.
    """
    panels, scores = {"bicubic": crop_resized(lr, size, window), name: pixels}, {}
    if hr is not None and size[0] <= len(hr):
        truth = crop_resized(hr, size, window)
        y = to_luma(to_tensor(truth)[0])
        for title in panels if seconds is not None else ():
            scores[title] = psnr(to_luma(to_tensor(panels[title])[0]), y)
        panels["truth"] = truth
    elif hr is not None:
        nearest = crop_resized(hr, size, window, Image.Resampling.NEAREST)
        panels["photograph (its own pixels)"] = nearest
    return View(panels, size, window, scores, seconds)


def crop_resized(
    pixels: np.ndarray, size, window: Window, how=Image.Resampling.BICUBIC
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
