"""Digits in random colours: pictures whose small versions leave a question open.

A digit is drawn with a font that comes with matplotlib, on 64 x 64 pixels, and shrunk.
Its low-resolution version has 4 x 4 pixels and noise on them, like a number plate too
far away: colours and rough shape remain, and several digits would explain them. That
is where an average of all answers and one of the answers part.

A picture is a pure function of (seed, index).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

DIGITS = "0123456789"
FONTS = ("DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Bold", "DejaVuSans")
PATCH, NOISE = 4, 40.0  # rows and columns of a small version, grey levels of noise
DRAWN = 64  # rows and columns of a picture as it is drawn


class Characters(Sequence):
    """`count` drawn digits: items are (64, 64, 3) uint8, and `label(index)` tells."""

    whole = True  # a digit is not cut or turned

    def __init__(self, count: int, seed: int = 0):
        self.count, self.seed = count, seed
        self.fingerprint = f"{count} drawn digits, seed {seed}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return draw_character(self.seed, index)[0]

    def label(self, index: int) -> int:
        return draw_character(self.seed, index)[1]


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of matplotlib's, at so many pixels."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"{name}.ttf", size)


def draw_character(seed: int, index: int) -> tuple[np.ndarray, int]:
    """A picture (64, 64, 3) uint8 and which digit it shows."""
    rng = np.random.default_rng([seed, 4, index])
    label = int(rng.integers(len(DIGITS)))
    face = font(str(rng.choice(FONTS)), int(rng.integers(68, 79)))
    canvas = Image.new("L", (DRAWN, DRAWN))
    centre = DRAWN / 2 + rng.uniform(-3, 3, 2)
    ImageDraw.Draw(canvas).text(centre, DIGITS[label], 255, font=face, anchor="mm")
    share = np.asarray(canvas)[..., None] / 255  # of ink in a pixel
    ink, paper = two_colours(rng)
    return np.round(ink * share + paper * (1 - share)).astype(np.uint8), label


def two_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two colours, 40..215, that a reader can tell apart: 90 or more in brightness."""
    while True:
        pair = rng.uniform(40, 215, (2, 3))
        if abs(pair.mean(axis=1) @ [1, -1]) >= 90:
            return pair
