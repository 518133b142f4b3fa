"""Procedural images ("dead leaves"): training data without a download or a licence.

Shapes of all sizes hide one another, as in photographs (Lee, Mumford and Huang,
"Occlusion Models for Natural Images", IJCV 2001). An image is a pure function of
(seed, index, size).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw


class Procedural(Sequence):
    """`count` dead leaves images (size, size, 3) uint8, drawn when first asked for."""

    def __init__(self, count: int = 24, seed: int = 0, size: int = 256):
        self.count, self.seed, self.size = count, seed, size
        self.fingerprint = f"{count} generated pictures of size {size}, seed {seed}"
        self._draw = lru_cache(maxsize=None)(dead_leaves)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        return self._draw(self.seed, range(self.count)[index], self.size)

    def preload(self) -> None:
        """Draw all of them now."""
        for index in range(self.count):
            self[index]


def dead_leaves(seed: int, index: int, size: int = 256) -> np.ndarray:
    """One image (size, size, 3) uint8, drawn at twice the size against aliasing."""
    rng = np.random.default_rng([seed, 2, index])
    side = 2 * size
    palette = rng.uniform(20, 235, (4, 1)) + rng.normal(0, 35, (4, 3))
    canvas = Image.new("RGB", (side, side), mix_colour(palette, rng))
    draw = ImageDraw.Draw(canvas)
    radii = np.exp(rng.uniform(np.log(3), np.log(side / 4), 400))
    for radius in radii[np.argsort(-radii * rng.uniform(0.2, 1, len(radii)))]:
        centre = rng.uniform(0, side, 2)
        draw_leaf(draw, centre, radius, mix_colour(palette, rng), rng)
    light = Image.fromarray(rng.uniform(0.7, 1.25, (5, 5)).astype(np.float32))
    light = np.asarray(light.resize((size, size), Image.Resampling.BICUBIC))
    pixels = np.asarray(canvas.reduce(2), np.float32) * light[..., None]
    return pixels.clip(0, 255).astype(np.uint8)


def mix_colour(palette: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
    """A random mixture of the rows of `palette` (n, 3), 0..255, and a little noise."""
    weight = rng.dirichlet([0.4] * len(palette))
    colour = weight @ palette + rng.normal(0, 10, 3)
    return tuple(int(c) for c in colour.clip(0, 255))


def draw_leaf(draw, centre, radius, colour, rng: np.random.Generator) -> None:
    """Paint one ellipse, polygon, line or set of stripes, chosen at random."""
    kind = rng.choice(["ellipse", "polygon", "line", "stripes"], p=[0.3, 0.4, 0.2, 0.1])
    if kind == "ellipse":
        rows, cols = radius * rng.uniform(0.4, 1, 2)
        x, y = centre
        draw.ellipse([x - cols, y - rows, x + cols, y + rows], fill=colour)
    elif kind == "polygon":
        turns = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        reach = radius * rng.uniform(0.5, 1, len(turns))
        points = centre + np.stack([np.cos(turns), np.sin(turns)], 1) * reach[:, None]
        draw.polygon([tuple(point) for point in points], fill=colour)
    else:
        turn = rng.uniform(0, np.pi)
        along = np.array([np.cos(turn), np.sin(turn)]) * radius * 1.5
        across = np.array([-along[1], along[0]]) / max(radius * 1.5, 1)
        width = max(1, int(radius * rng.uniform(0.05, 0.25)))
        gaps = [0] if kind == "line" else np.arange(-3, 4) * (2.2 * width + 1)
        for gap in gaps:
            middle = centre + across * gap
            ends = [tuple(middle - along), tuple(middle + along)]
            draw.line(ends, fill=colour, width=width)
