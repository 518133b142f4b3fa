"""Groups and slices of output pixels: the geometry of DIIF and DLTE.

The output pixels inside one low-resolution pixel form a *group*, in raster order; a
group is cut into *slices* of u pixels (DIIF's Eq. 2 to 7). All of it follows from a
query's own position and the pixel size, so a part equals that part of the whole.

    place = row in the group * columns of the group + column in the group
    k     = floor(place / u)                                the slice of a pixel
    first = k u,   last = min((k + 1) u, pixels of the group) - 1       its ends

Letters: B batch, h w queries, N = B h w, S slices, E places of a slice. Lengths are in
low-resolution pixels; s is the scale.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from asr_course.coords import TIE, Queries, nearest, to_position

FIXED = 4  # pixels of a slice, if their number is fixed


class PixelGroups(NamedTuple):
    """Where output pixels lie along one axis of their group."""

    index: Tensor  # the low-resolution pixel that holds the output pixel
    offset: Tensor  # from its centre to the output pixel's
    before: Tensor  # how many pixels of the group come before this one
    count: Tensor  # how many pixels the group has


class Slices(NamedTuple):
    """The slices of a set of queries, and which query is in which."""

    of: Tensor  # (N,) the slice of every query
    rank: Tensor  # (N,) how many pixels of the slice come before it
    offset: Tensor  # (N, 2) from its low-resolution pixel's centre to the query
    batch: Tensor  # (S,) the picture that a slice belongs to
    row: Tensor  # (S,) the low-resolution pixel that its pixels lie in
    col: Tensor  # (S,)
    ends: Tensor  # (S, E, 2) from its centre to the slice's first and last, or all four


def pixel_groups(position: Tensor, n: int, step: Tensor) -> PixelGroups:
    """Group the output pixels, of size `step`, of one axis of n low-resolution pixels.

    The distance from the low-resolution pixel's border tells how many output pixels fit
    before a pixel, and how many after. Ties go as in `nearest`.
    """
    index = nearest(position, n)
    offset = position - index
    before = ((offset + 0.5 + TIE) / step).floor()
    after = ((0.5 - TIE - offset) / step).ceil() - 1
    return PixelGroups(index, offset, before.long(), (before + after).long() + 1)


def slice_length(
    slicing: str, rows: PixelGroups, cols: PixelGroups, step: Tensor
) -> Tensor:
    """u, the number of pixels in a slice; broadcasts to (B, h, w). step (B, 2)."""
    if slicing == "fixed":
        return torch.full_like(cols.count, FIXED)
    if slicing == "rows":
        return cols.count
    if slicing == "constant":
        return rows.count * cols.count
    return (1 / step[:, 1, None, None] - TIE).ceil().long()  # s of the columns, up


def slices_per_group(slicing: str, scale: float) -> float:
    """K (Eq. 4), the slices in a group of scale x scale pixels."""
    u = {"linear": math.ceil(scale), "rows": scale, "constant": scale**2}
    return max(1, scale**2 / u.get(slicing, FIXED))


def cut_slices(
    queries: Queries, step: Tensor, size: tuple[int, int], slicing: str
) -> Slices:
    """Cut the groups of all queries into slices. step: (B, 2), which is 1 / s.

    size: (H, W). Slices are numbered by picture, low-resolution pixel and place in it.
    """
    B, h, w = queries.shape
    rows, cols = (
        pixel_groups(to_position(axis, n), n, step[:, k, None, None])
        for k, (axis, n) in enumerate(zip(queries, size, strict=True))
    )
    u = slice_length(slicing, rows, cols, step)
    place = rows.before * cols.count + cols.before  # (B, h, w), raster order
    k = place // u
    last = torch.minimum((k + 1) * u, rows.count * cols.count) - 1
    batch = torch.arange(B, device=step.device)[:, None, None]
    group = (batch * size[0] + rows.index) * size[1] + cols.index
    key = group * (k.max() + 1) + k  # (B, h, w), one number for each slice
    key, of = key.flatten().unique(return_inverse=True)  # (S,), (N,)
    number = torch.arange(B * h * w, device=of.device)
    first = torch.full_like(key, B * h * w).scatter_reduce_(0, of, number, "amin")

    def of_slice(x: Tensor) -> Tensor:
        """Values of queries (B, h, w), at the first query of each slice: (S,)."""
        return x.expand(B, h, w).flatten()[first]

    places = [k * u + e for e in range(FIXED)] if slicing == "fixed" else [k * u, last]
    ends = []
    for end in places:
        end = torch.minimum(end, last)  # for the missing ones of a short last slice
        down = (end // cols.count - rows.before) * step[:, 0, None, None]
        right = (end % cols.count - cols.before) * step[:, 1, None, None]
        row, col = of_slice(rows.offset + down), of_slice(cols.offset + right)
        ends.append(torch.stack([row, col], dim=-1))  # (S, 2)
    return Slices(
        of,
        rank=(place - k * u).flatten(),
        offset=Queries(rows.offset, cols.offset).grid().view(-1, 2),
        batch=of_slice(batch),
        row=of_slice(rows.index),
        col=of_slice(cols.index),
        ends=torch.stack(ends, dim=1),
    )
