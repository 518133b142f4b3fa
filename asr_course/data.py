"""Training data: one recipe for every model of the course.

A sample is a pure function of (seed, index). Nothing is shuffled and no random state
is carried along, so a run can stop, resume, or be split among processes and still
see the same samples. Samples index // batch belong together: they share one scale
and one choice of queries, and therefore one shape. (Where every batch has several
scales, this holds for each part of it.)

Queries are drawn as whole low-resolution cells: all high-resolution pixels whose
centre lies in a drawn cell. Models that answer cell by cell (DIIF) and models that
answer pixel by pixel train on exactly the same data that way.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import Dataset

from asr_course.coords import (
    make_cell,
    make_coord,
    make_grid,
    nearest,
    pixel_centres,
    round_half_up,
    to_position,
)
from asr_course.errors import UserError
from asr_course.images import list_images, open_image, read_sizes, resize, to_rgb


@dataclass(frozen=True)
class Recipe:
    """How training samples are cut; the defaults are LIIF's (48 x 48, 48^2 queries).

    A batch has a scale between `scale_min` and `scale_max`, all of them as likely. With
    `scales` it has one of these; if `mixed` as well, each in an equal part (DIINN).
    With `hr` every crop has so many rows and columns, and the low-resolution patch as
    many as the scale leaves (DIIF); else the patch has `patch`, and the crop varies.
    """

    batch: int = 16
    patch: int = 48  # low-resolution rows and columns
    queries: int = 2304  # at least so many per sample; whole cells may add a few
    scale_min: float = 1.0
    scale_max: float = 4.0
    scales: tuple[float, ...] = ()
    mixed: bool = False
    hr: int = 0

    def __post_init__(self):
        if self.batch % self.parts:
            raise UserError(
                f"a batch of {self.batch} has no equal part for each of "
                f"{self.parts} scales"
            )

    @property
    def parts(self) -> int:
        """How many scales a batch has."""
        return len(self.scales) if self.mixed else 1

    @property
    def crop(self) -> int:
        """Rows and columns of a picture that the largest scale takes."""
        return self.hr or round_half_up(
            self.patch * max(self.scales, default=self.scale_max)
        )

    def samples(self, images: Sequence, seed: int, length: int) -> Dataset:
        return Patches(images, self, seed, length)


@dataclass(frozen=True)
class PairRecipe:
    """How whole pictures are paired with small ones; the defaults are IDM's for faces.

    Training has two stages (IDM, section 4.1): first every output is `scale_max` times
    as large as its input, then one scale in (1, scale_max] is drawn for every batch.
    `stretch` is ours: above 1, every other of these batches has another aspect than
    its inputs, up to so many times, and as many pixels. That takes pictures larger
    than `crop`. upright: pictures are mirrored, but what is up stays up, as faces
    want it.
    """

    batch: int = 32
    patch: int = 16  # low-resolution rows and columns
    scale_max: float = 8.0
    noise: float = 0.0  # on the low-resolution picture: standard deviation, of 255
    fixed: float = 2 / 3  # the first stage's share of the run
    stretch: float = 1.0
    upright: bool = False

    parts = 1

    @property
    def crop(self) -> int:
        """Rows and columns of the largest pictures."""
        return round_half_up(self.patch * self.scale_max)

    def samples(self, images: Sequence, seed: int, length: int) -> Dataset:
        return Pairs(images, self, seed, length)


class Sample(NamedTuple):
    """One training sample; a DataLoader puts B in front of every shape."""

    lr: Tensor  # (3, p, p) in [0, 1]
    coord: Tensor  # (Q, 1, 2)
    cell: Tensor  # (2,)
    target: Tensor  # (3, Q, 1) in [0, 1]


class Pair(NamedTuple):
    """One whole picture and its small version, and what diffusion needs of chance."""

    lr: Tensor  # (3, p, p) in [0, 1]
    coord: Tensor  # (h, w, 2)
    cell: Tensor  # (2,)
    target: Tensor  # (3, h, w) in [0, 1]
    noise: Tensor  # (3, h, w), white
    when: Tensor  # () in [0, 1), the place in the noise schedule


class Pairs(Dataset):
    """Whole pictures, their small versions, noise and its level.

    images: as for `Patches`; crops of them, turned, unless `images.whole` says that
    every item is to be taken as it is.
    """

    def __init__(self, images: Sequence, recipe: PairRecipe, seed: int, length: int):
        self.images, self.recipe, self.seed, self.length = images, recipe, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pair:
        recipe = self.recipe
        rows, cols = size = self.size_of_batch(index // recipe.batch)
        rng = np.random.default_rng([self.seed, 6, index])
        image = self.images[rng.integers(len(self.images))]
        if not getattr(self.images, "whole", False):
            crop = upright_crop if recipe.upright else random_crop
            image = crop(image, recipe.crop, rng)
        hr = resize(image, size)
        lr = degrade(image, (recipe.patch, recipe.patch), recipe.noise, rng)
        return Pair(
            lr=torch.from_numpy(lr).movedim(-1, 0) / 255,
            coord=make_coord(size),
            cell=make_cell(size),
            target=torch.from_numpy(hr).movedim(-1, 0) / 255,
            noise=torch.from_numpy(rng.standard_normal((3, rows, cols), np.float32)),
            when=torch.tensor(rng.random(), dtype=torch.float32),
        )

    def size_of_batch(self, batch: int) -> tuple[int, int]:
        """Rows and columns of the pictures of one batch."""
        recipe = self.recipe
        if batch * recipe.batch < recipe.fixed * self.length:
            return recipe.crop, recipe.crop
        rng = np.random.default_rng([self.seed, 5, batch])
        side = recipe.patch * rng.uniform(1, recipe.scale_max)
        aspect = recipe.stretch ** rng.uniform(-1, 1) if batch % 2 else 1
        rows, cols = side * aspect**0.5, side / aspect**0.5
        return round_half_up(rows), round_half_up(cols)


def degrade(
    pixels: np.ndarray, size: tuple[int, int], noise: float, rng: np.random.Generator
) -> np.ndarray:
    """The small version of a picture: (rows, cols, 3) uint8, bicubic, then noise.

    noise: standard deviation in grey levels, of 255; clipped where it leaves them.
    """
    small = resize(pixels, size)
    if noise == 0:
        return small
    noisy = small + noise * rng.standard_normal(small.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


class Patches(Dataset):
    """Random crops, their small versions and some queries with their true colours.

    images: anything with a length whose items are (rows, cols, 3) uint8 arrays.
    length: how many samples the run will ask for.
    """

    def __init__(self, images: Sequence, recipe: Recipe, seed: int, length: int):
        self.images, self.recipe, self.seed, self.length = images, recipe, seed, length
        self._queries = lru_cache(maxsize=4)(self.queries_of_batch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        part = index * self.recipe.parts // self.recipe.batch
        size, patch, coord, pixels = self._queries(part)
        rng = np.random.default_rng([self.seed, 1, index])
        image = self.images[rng.integers(len(self.images))]
        hr = random_crop(image, size, rng)  # (size, size, 3)
        lr = resize(hr, (patch, patch))
        target = hr.reshape(-1, 3)[pixels]  # (Q, 3)
        return Sample(
            lr=torch.from_numpy(lr).movedim(-1, 0) / 255,
            coord=coord[:, None],
            cell=make_cell((size, size)),
            target=torch.from_numpy(target).T[..., None] / 255,
        )

    def queries_of_batch(self, batch: int) -> tuple[int, int, Tensor, np.ndarray]:
        """Rows of the crops and of the patches, and the queries that samples share.

        batch: which one; where each has several scales, which part of one.
        """
        recipe = self.recipe
        rng = np.random.default_rng([self.seed, 0, batch])
        if recipe.mixed:
            scale = recipe.scales[batch % recipe.parts]
        elif recipe.scales:
            scale = recipe.scales[rng.integers(len(recipe.scales))]
        else:
            scale = rng.uniform(recipe.scale_min, recipe.scale_max)
        patch = round_half_up(recipe.hr / scale) if recipe.hr else recipe.patch
        size = recipe.hr or round_half_up(patch * scale)
        return size, patch, *draw_queries(patch, size, recipe.queries, rng)


def draw_queries(cells: int, size: int, queries: int, rng: np.random.Generator):
    """Draw low-resolution cells until their pixels number at least `queries`.

    Returns the coordinates (Q, 2) of those pixels of a size x size picture over a
    cells x cells grid, and their raster indices (Q,). The pixels of a cell stand
    together, in raster order.
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


def random_square(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random size x size crop."""
    top = rng.integers(image.shape[0] - size + 1)
    left = rng.integers(image.shape[1] - size + 1)
    return image[top : top + size, left : left + size]


def upright_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random size x size crop, mirrored left to right with probability 1/2."""
    crop = random_square(image, size, rng)
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def random_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random size x size crop, flipped and transposed with probability 1/2 each."""
    crop = random_square(image, size, rng)
    if rng.random() < 0.5:
        crop = crop[::-1]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.5:
        crop = crop.swapaxes(0, 1)
    return np.ascontiguousarray(crop)


class Folder(Sequence):
    """The pictures of a folder as (rows, cols, 3) uint8 arrays, each read once.

    Of a folder that holds HR/, those in there, as data sets to score on have them.
    Pictures with fewer than `smallest` rows or columns, and those that cannot be read,
    are left out; `left_out` says why, by name. Up to `cache` bytes are kept in memory;
    what does not fit is read again when it is needed.
    """

    def __init__(self, folder: str | Path, smallest: int = 1, cache: int = 2 << 30):
        high = Path(folder) / "HR"
        sizes, unreadable = read_sizes(list_images(high if high.is_dir() else folder))
        self.paths = [path for path, size in sizes.items() if min(size) >= smallest]
        if not self.paths:
            raise UserError(
                f"no picture in {folder} has at least {smallest} rows and columns, "
                f"which one training crop takes; the largest of its {len(sizes)} "
                f"pictures has {max(map(min, sizes.values()))}"
            )
        self.left_out = dict.fromkeys(unreadable, "cannot be read") | {
            path.name: f"{size[0]}x{size[1]}, smaller than {smallest}"
            for path, size in sizes.items()
            if min(size) < smallest
        }
        listing = [(path.name, path.stat().st_size) for path in self.paths]
        self.fingerprint = hashlib.sha256(repr(listing).encode()).hexdigest()[:12]
        self._cache, self._room = {}, cache

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        if index in self._cache:
            return self._cache[index]
        pixels = np.asarray(to_rgb(open_image(self.paths[index])))
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            self._cache[index] = pixels
        return pixels


class Procedural(Sequence):
    """`count` generated pictures, drawn when first asked for: no files, no licence."""

    def __init__(self, count: int = 24, seed: int = 0, size: int = 256):
        self.count, self.seed, self.size = count, seed, size
        self.fingerprint = f"{count} generated pictures of size {size}, seed {seed}"
        self._draw = lru_cache(maxsize=None)(dead_leaves)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self._draw(self.seed, index, self.size)


def dead_leaves(seed: int, index: int, size: int = 256) -> np.ndarray:
    """A "dead leaves" picture: shapes of all sizes that hide one another.

    Occlusion and a wide law of sizes are what such pictures have in common with
    photographs (Lee, Mumford and Huang, "Occlusion Models for Natural Images", IJCV
    2001). Drawn at twice the size and averaged down, so edges are anti-aliased as a
    camera's are. Returns (size, size, 3) uint8, a pure function of its arguments.
    """
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
    share = rng.dirichlet([0.4] * len(palette))
    colour = share @ palette + rng.normal(0, 10, 3)
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
