"""Digits in random colours: images whose small versions are ambiguous.

Of a digit's 64 x 64 pixels, the small version keeps 4 x 4, and noise: several digits
would explain them. Here the mean of all solutions (regression) and one of them
(diffusion) differ. An image is a pure function of (seed, index).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

DIGITS = "0123456789"
FONTS = ("DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Bold", "DejaVuSans")
PATCH, NOISE = 4, 40.0  # rows and columns of the small version; noise, grey levels
DRAWN = 64  # rows and columns of the image
DARKEST, BRIGHTEST, CONTRAST = 40, 215, 90  # of its two colours, grey levels


class Characters(Sequence):
    """`count` drawn digits, (64, 64, 3) uint8."""

    whole = True  # for PairRecipe: a digit is not cropped or turned

    def __init__(self, count: int, seed: int = 0):
        self.count, self.seed = count, seed
        self.fingerprint = f"{count} drawn digits, seed {seed}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        return draw_character(self.seed, range(self.count)[index])[0]


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of the fonts that come with matplotlib, `size` pixels high."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"{name}.ttf", size)


def draw_ink(rng: np.random.Generator) -> tuple[Image.Image, int]:
    """A digit, white on black, as a picture (64, 64) of mode L, and which one it is."""
    label = int(rng.integers(len(DIGITS)))
    face = font(str(rng.choice(FONTS)), int(rng.integers(68, 79)))
    canvas = Image.new("L", (DRAWN, DRAWN))
    centre = DRAWN / 2 + rng.uniform(-3, 3, 2)
    ImageDraw.Draw(canvas).text(centre, DIGITS[label], 255, font=face, anchor="mm")
    return canvas, label


def draw_character(seed: int, index: int) -> tuple[np.ndarray, int]:
    """An image (64, 64, 3) uint8 and the digit that it shows."""
    rng = np.random.default_rng([seed, 4, index])
    canvas, label = draw_ink(rng)
    alpha = np.asarray(canvas)[..., None] / 255  # (64, 64, 1)
    ink = paper = np.zeros(3)
    while abs(ink.mean() - paper.mean()) < CONTRAST:
        ink, paper = rng.uniform(DARKEST, BRIGHTEST, (2, 3))
    return np.round(ink * alpha + paper * (1 - alpha)).astype(np.uint8), label
