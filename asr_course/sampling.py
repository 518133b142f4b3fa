"""What random numbers decide in a training sample: crop, queries, noise."""

import numpy as np
import torch

from asr_course.coords import make_grid, nearest, pixel_centres, to_position
from asr_course.images import resize


def draw_queries(cells: int, size: int, queries: int, rng: np.random.Generator):
    """Draw whole low-resolution cells until they hold at least `queries` pixels.

    Returns coordinates (Q, 2) and raster indices (Q,) of pixels of a size x size image
    over a cells x cells grid, cell after cell. Models that work cell by cell (DIIF) and
    models that work pixel by pixel train on the same data that way.
    """
    centres = pixel_centres(size, torch.float64)
    owner = nearest(to_position(centres, cells), cells).numpy()  # (size,)
    cell = (owner[:, None] * cells + owner).ravel()  # (size * size,)
    rank = rng.permutation(cells * cells)  # of each cell, in the order of drawing
    order = np.argsort(rank[cell], kind="stable")
    drawn = np.bincount(rank[cell], minlength=cells * cells).cumsum()
    enough = drawn[min(np.searchsorted(drawn, queries), len(drawn) - 1)]
    pixels = order[:enough]
    coord = make_grid(centres, centres).view(-1, 2)[pixels].float()
    return coord, pixels


def random_crop(
    image: np.ndarray, size: int, rng: np.random.Generator, upright: bool = False
) -> np.ndarray:
    """A random crop, each flip (`upright`: left to right only) with probability 1/2."""
    top = rng.integers(image.shape[0] - size + 1)
    left = rng.integers(image.shape[1] - size + 1)
    crop = image[top : top + size, left : left + size]
    if not upright and rng.random() < 0.5:
        crop = crop[::-1]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if not upright and rng.random() < 0.5:
        crop = crop.swapaxes(0, 1)
    return np.ascontiguousarray(crop)


def degrade(
    pixels: np.ndarray, size: tuple[int, int], noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Shrink uint8 pixels by bicubic and add noise of so many grey levels."""
    small = resize(pixels, size)
    if noise == 0:
        return small
    noisy = small + noise * rng.standard_normal(small.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)
