"""Coordinates, cells and neighbours.

A picture covers the square [-1, 1] x [-1, 1] whatever its size. Coordinates are
(row, col), and a pixel is a little square: pixel i of n is centred at

    c_i = -1 + (2 i + 1) / n                                            (1)

A *position* is the same thing counted in low-resolution pixels: 0 is the centre of
the first pixel, 1 the centre of the second, -0.5 the border of the picture.

Every function here is pure. Rows and columns are kept apart: the same line serves a
regular grid, where a row needs one number, and scattered points, each with its own.

Letters: B batch, H W low-resolution rows and columns, h w rows and columns of queries.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# A query on the border between two pixels belongs to the one further down or right.
# Float32 may put it a hair above the border; this many pixels of slack undo that.
TIE = 1e-4


def pixel_centres(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Centres of n pixels on [-1, 1], Eq. (1): shape (n,)."""
    i = torch.arange(n, dtype=torch.float64)
    return ((2 * i + 1) / n - 1).to(dtype)  # (n,)


def make_grid(rows: Tensor, cols: Tensor) -> Tensor:
    """All (row, col) pairs of two axes: (h,), (w,) -> (h, w, 2)."""
    return torch.stack(torch.meshgrid(rows, cols, indexing="ij"), dim=-1)


def make_coord(size: tuple[int, int]) -> Tensor:
    """Centres of all pixels of a picture of `size` = (rows, cols): (h, w, 2)."""
    return make_grid(pixel_centres(size[0]), pixel_centres(size[1]))


def make_cell(size: tuple[int, int]) -> Tensor:
    """Size of one pixel of a picture of `size` = (rows, cols), on [-1, 1]: (2,)."""
    return torch.tensor([2 / size[0], 2 / size[1]])


def to_position(coord: Tensor, n: int) -> Tensor:
    """Where a coordinate lies, counted in the n pixels of its axis; any shape."""
    return (coord + 1) * (n / 2) - 0.5


def nearest(position: Tensor, n: int) -> Tensor:
    """Index in 0..n-1 of the pixel that holds `position`; ties go to the larger."""
    return (position + (0.5 + TIE)).floor().long().clamp(0, n - 1)


def neighbours(position: Tensor, n: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The two pixels around `position`, as (index, offset, weight), lower one first.

    weight is one minus the distance to the neighbour, so that the two sum to 1 and each
    fades to 0 exactly where it drops out. Index and weight come from the same integers:
    where a query falls on a centre, two separate roundings might disagree.

    Beyond the outermost centres a neighbour would lie outside; its index is moved to
    the border pixel, and offset, from the pixel's centre to the query, is counted from
    there. Its weight stays what it was.
    """
    low = position.floor()
    fraction = position - low  # in [0, 1]
    pair = []
    for neighbour, weight in ((low, 1 - fraction), (low + 1, fraction)):
        index = neighbour.clamp(0, n - 1)
        pair.append((index.long(), position - index, weight))
    return pair


def snap(position: Tensor) -> Tensor:
    """Positions that are a pixel's centre but for rounding: on it.

    `neighbours` is continuous there, but which of the two comes first is not.
    """
    whole = position.round()
    return torch.where((position - whole).abs() < TIE, whole, position)


class Queries(NamedTuple):
    """Where colours are asked for: coordinates of rows and of columns.

    Regular grid: rows (B, h, 1) and cols (B, 1, w). Scattered: (B, h, w) both.
    """

    rows: Tensor
    cols: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, h, w)"""
        return self.rows.shape[0], self.rows.shape[1], self.cols.shape[2]

    def equal(self, other: "Queries") -> bool:
        return all(map(torch.equal, self, other))

    def grid(self) -> Tensor:
        """Every (row, col) pair: (B, h, w, 2)."""
        return torch.stack([axis.expand(self.shape) for axis in self], dim=-1)


def split_axes(coord: Tensor | Queries) -> Queries:
    """Rows and columns of `coord` (B, h, w, 2), each as small as it can be.

    On a regular grid the row coordinate does not depend on the column, so one column of
    rows is enough.
    """
    if isinstance(coord, Queries):
        return coord
    rows, cols = coord[..., 0], coord[..., 1]
    if coord.shape[1] > 1 and coord.shape[2] > 1:
        regular = (rows == rows[:, :, :1]).all() and (cols == cols[:, :1]).all()
        if regular:
            return Queries(rows[:, :, :1], cols[:, :1])
    return Queries(rows, cols)


class Code(NamedTuple):
    """A latent code that answers each query; every tensor broadcasts to (B, h, w)."""

    row: Tensor  # its indices in the low-resolution grid
    col: Tensor
    row_offset: Tensor  # from its centre to the query, in low-resolution pixels
    col_offset: Tensor
    weight: Tensor  # its part of the answer; the weights of a query sum to 1


def corners(queries: Queries, size: tuple[int, int]) -> list[Code]:
    """The four latent codes around each query, by rows, weighted as in LIIF's Eq. 4.

    The weight S_t / S of a code is the area of the rectangle between the query and the
    code diagonally opposite.
    """
    rows, cols = (to_position(axis, n) for axis, n in zip(queries, size, strict=True))
    return [
        Code(i, j, row_offset, col_offset, row_weight * col_weight)
        for i, row_offset, row_weight in neighbours(rows, size[0])
        for j, col_offset, col_weight in neighbours(cols, size[1])
    ]


def nearest_code(queries: Queries, size: tuple[int, int]) -> Code:
    """The latent code that holds each query; offsets lie in [-1/2, 1/2]."""
    rows, cols = (to_position(axis, n) for axis, n in zip(queries, size, strict=True))
    i, j = nearest(rows, size[0]), nearest(cols, size[1])
    return Code(i, j, rows - i, cols - j, torch.ones_like(rows))


def round_half_up(x: float) -> int:
    """Nearest integer, halves up: floor(x + 0.5). (Python's round(2.5) is 2.)"""
    return math.floor(x + 0.5)


def output_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(rows, cols) of a picture of `size` enlarged by `scale`."""
    return round_half_up(size[0] * scale), round_half_up(size[1] * scale)


def cells_to_pixels(cell: int, n_cells: int, n_pixels: int) -> int:
    """First of n_pixels whose centre lies in low-resolution cell `cell` or after.

    Exact integer arithmetic, ties as in `nearest`: pixel i lies at (2i + 1) / 2N of the
    axis, so the smallest i with (2i + 1) n >= 2 N cell is wanted.
    """
    return max(0, -((n_cells - 2 * n_pixels * cell) // (2 * n_cells)))
