"""Training data: one recipe for every model of the course.

A sample is a pure function of (seed, index): no order or random state is carried
along, so a run can stop, resume or be split among processes and still see the same
samples. Samples of one batch, index // batch, share the scale and the queries, and
therefore one shape. (With `mixed` scales, this holds for each part of a batch.)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from asr_course.coords import make_cell, make_coord, round_half_up
from asr_course.errors import UserError
from asr_course.images import list_images, read_pixels, resize
from asr_course.sampling import degrade, draw_queries, random_crop


class Samples(Dataset):
    """`length` samples that a recipe cuts from `images`, a sequence of (rows, cols, 3)
    uint8. A PairRecipe does not crop them if `images.whole`."""

    def __init__(self, images: Sequence, recipe, seed: int, length: int):
        self.images, self.recipe, self.seed, self.length = images, recipe, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> NamedTuple:
        return self.recipe.sample(self.images, self.seed, index, self.length)


class Sample(NamedTuple):
    """One training sample; a DataLoader puts B in front of every shape."""

    lr: Tensor  # (3, p, p) in [0, 1]
    coord: Tensor  # (Q, 1, 2)
    cell: Tensor  # (2,)
    target: Tensor  # (3, Q, 1) in [0, 1]


@dataclass(frozen=True)
class Recipe:
    """How training samples are cut; the defaults are LIIF's.

    The scale of a batch is uniform in [scale_min, scale_max], or one of `scales`; with
    `mixed`, each of `scales` has an equal part of the batch, which their number must
    divide (DIINN). With `hr`, crops have this many rows and columns, and the scale
    decides those of the patch (DIIF).
    """

    batch: int = 16
    patch: int = 48  # low-resolution rows and columns
    queries: int = 2304  # per sample, at least: whole cells may add a few
    scale_min: float = 1.0
    scale_max: float = 4.0
    scales: tuple[float, ...] = ()
    mixed: bool = False
    hr: int = 0

    @property
    def parts(self) -> int:  # how many scales a batch has
        return len(self.scales) if self.mixed else 1

    @property
    def crop(self) -> int:  # rows and columns of the largest crop
        largest = max(self.scales, default=self.scale_max)
        return self.hr or round_half_up(self.patch * largest)

    def sample(self, images: Sequence, seed: int, index: int, length: int) -> Sample:
        """Sample `index` of a run: a random crop and queries."""
        part = index * self.parts // self.batch
        size, patch, coord, pixels = queries_of_batch(self, seed, part)
        rng = np.random.default_rng([seed, 1, index])
        image = images[rng.integers(len(images))]
        hr = random_crop(image, size, rng)  # (size, size, 3)
        lr = resize(hr, (patch, patch))  # (patch, patch, 3)
        target = hr.reshape(-1, 3)[pixels]  # (Q, 3)
        return Sample(
            lr=torch.from_numpy(lr).movedim(-1, 0) / 255,
            coord=coord[:, None],
            cell=make_cell((size, size)),
            target=torch.from_numpy(target).T[..., None] / 255,
        )


@lru_cache(maxsize=4)
def queries_of_batch(
    recipe: Recipe, seed: int, batch: int
) -> tuple[int, int, Tensor, np.ndarray]:
    """Rows of crops and of patches, and the queries, of a batch or part of one."""
    rng = np.random.default_rng([seed, 0, batch])
    if recipe.mixed:
        scale = recipe.scales[batch % recipe.parts]
    elif recipe.scales:
        scale = recipe.scales[rng.integers(len(recipe.scales))]
    else:
        scale = rng.uniform(recipe.scale_min, recipe.scale_max)
    patch = round_half_up(recipe.hr / scale) if recipe.hr else recipe.patch
    size = recipe.hr or round_half_up(patch * scale)
    return size, patch, *draw_queries(patch, size, recipe.queries, rng)


class Pair(NamedTuple):
    """A whole image, its small version, and the random numbers of diffusion."""

    lr: Tensor  # (3, p, p) in [0, 1]
    coord: Tensor  # (h, w, 2)
    cell: Tensor  # (2,)
    target: Tensor  # (3, h, w) in [0, 1]
    noise: Tensor  # (3, h, w), white
    when: Tensor  # () in [0, 1), the place in the noise schedule


@dataclass(frozen=True)
class PairRecipe:
    """How whole images are paired with small ones; the defaults are IDM's for faces.

    Training has two stages (IDM, section 4.1): first every scale is `scale_max`, then
    each batch has one in (1, scale_max]. Ours: `keep`, the part of the second stage's
    batches that stay at scale_max; with `stretch` above 1, every other one of the rest
    has another aspect, up to `stretch`, and as many pixels.
    """

    batch: int = 32
    patch: int = 16  # low-resolution rows and columns
    scale_max: float = 8.0
    noise: float = 0.0  # on the low-resolution image: standard deviation, of 255
    fixed: float = 2 / 3  # the first stage's part of the run
    keep: float = 0.0
    stretch: float = 1.0
    upright: bool = False  # mirror crops, but do not turn them (faces)

    parts = 1

    @property
    def crop(self) -> int:  # rows and columns of the largest images
        return round_half_up(self.patch * self.scale_max)

    def sample(self, images: Sequence, seed: int, index: int, length: int) -> Pair:
        """Sample `index` of a run of `length` samples."""
        rows, cols = size = self.size_of_batch(seed, index // self.batch, length)
        rng = np.random.default_rng([seed, 6, index])
        image = images[rng.integers(len(images))]
        if not getattr(images, "whole", False):
            image = random_crop(image, self.crop, rng, self.upright)
        hr = resize(image, size)
        lr = degrade(image, (self.patch, self.patch), self.noise, rng)
        return Pair(
            lr=torch.from_numpy(lr).movedim(-1, 0) / 255,
            coord=make_coord(size),
            cell=make_cell(size),
            target=torch.from_numpy(hr).movedim(-1, 0) / 255,
            noise=torch.from_numpy(rng.standard_normal((3, rows, cols), np.float32)),
            when=torch.tensor(rng.random(), dtype=torch.float32),
        )

    def size_of_batch(self, seed: int, batch: int, length: int) -> tuple[int, int]:
        """Rows and columns of the images of one batch."""
        rng = np.random.default_rng([seed, 5, batch])
        if batch * self.batch < self.fixed * length or rng.random() < self.keep:
            return self.crop, self.crop
        side = self.patch * rng.uniform(1, self.scale_max)
        aspect = self.stretch ** rng.uniform(-1, 1) if batch % 2 else 1
        rows, cols = side * aspect**0.5, side / aspect**0.5
        return round_half_up(rows), round_half_up(cols)


class Folder(Sequence):
    """The images of a folder, or of its HR/, as (rows, cols, 3) uint8 arrays.

    Those that cannot be read, or have fewer than `smallest` rows or columns, are left
    out; `left_out` says why, by name. Up to `cache` bytes stay in memory.
    """

    def __init__(self, folder: str | Path, smallest: int = 1, cache: int = 2 << 30):
        sizes, self.left_out = list_images(folder)
        self.paths = [path for path, size in sizes.items() if min(size) >= smallest]
        if not self.paths:
            need = f"{smallest} rows and columns, which training crops take"
            raise UserError(f"no image in {folder} has {need}")
        self.left_out |= {
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
        pixels = read_pixels(self.paths[index])
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            self._cache[index] = pixels
        return pixels

    def preload(self) -> None:
        """Read now what will stay in memory."""
        for index in range(len(self)):
            self[index]
            if index not in self._cache:  # no room for it
                return
