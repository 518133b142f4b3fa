"""DIIF: compute once for a row of output pixels what they have in common.

He and Jin, "Dynamic Implicit Image Function for Efficient Arbitrary-Scale Image
Representation", 2023. The output pixels inside one low-resolution pixel form a *group*,
in raster order; a group is cut into *slices* of u pixels (the paper's Eq. 2 to 7).

    H_t  = coarse([z_t, 2 (x_first - v_t), 2 (x_last - v_t), 2 / s])   once per slice
    H(x) = sum_t A_t / A  H_t                                          per pixel, Eq. 11
    I(x) = fine([H(x), 2 (x - v)])                                     per pixel, Eq. 9

x_first and x_last are the slice's end pixels, v the centre of the low-resolution pixel,
v_t its four corners, z_t the 4 x 4 latent codes around a corner (Eq. 12), and A_t / A
the bilinear share of that corner. 2 / s stands in no equation of the paper, but without
it the multiplications that its Table 1 prints for DIIF are off in the last digit.

Everything about slices follows from a query's place and the pixel size alone, so any
part of a picture can be decoded, and equals that part of the whole.

Letters: B batch, C channels, H W low-resolution grid, h w queries, N = B h w, S slices,
D hidden features.
"""

from dataclasses import dataclass
from math import pi
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import TIE, nearest, neighbours, split_axes, to_position
from asr_course.encoders import conv
from asr_course.errors import UserError
from asr_course.models.layers import (
    MLP,
    Features,
    ImplicitModel,
    look_up,
    on_grid,
    start_at_zero,
)


@dataclass(frozen=True)
class DIIFOptions:
    """Choices of the paper; its Table 4 names the variants."""

    coarse: tuple[int, ...] = (256, 256)  # widths; "c4+f3": (256, 256, 256, 256)
    fine: tuple[int, ...] = (256, 256)  # widths before the colour; "c2+f5": four
    # How many pixels make a slice: "linear" ceil(s), the column scale; "constant" the
    # whole group ("cs"); "rows", ours, one row of the group; "fixed" 4 ("w/o ds"), and
    # then one MLP of coarse's and fine's widths answers with all their colours.
    slicing: Literal["linear", "constant", "rows", "fixed"] = "linear"
    slice_ensemble: bool = True  # "w/o se": False asks the nearest latent code alone
    skip: bool = False  # ours, not the paper's: add the bilinearly enlarged input

    def __post_init__(self):
        if not self.coarse or not self.fine:
            raise UserError("coarse and fine need a width at least, such as (64, 64)")
        if self.slicing == "fixed" and self.slice_ensemble:
            raise UserError(
                "slicing='fixed' comes without the slice ensemble: "
                "set slice_ensemble=False"
            )


SIZES = {
    "paper": DIIFOptions(),
    "laptop": DIIFOptions(coarse=(64, 64), fine=(64, 64), skip=True),
    "tiny": DIIFOptions(coarse=(48, 48), fine=(48, 48), skip=True),
}

# The paper's Table 4, and two that are ours.
ABLATIONS = {
    "full": {},
    "w/o ds": {"slicing": "fixed", "slice_ensemble": False},
    "w/o se": {"slice_ensemble": False},
    "cs": {"slicing": "constant"},
    "c4+f3": {"coarse": (48, 48, 48, 48)},
    "c2+f5": {"fine": (48, 48, 48, 48)},
    "rows": {"slicing": "rows"},
    "no skip": {"skip": False},
}

FIXED = 4  # pixels of a slice, if their number is fixed


class Members(NamedTuple):
    """Where output pixels stand along one axis of their group."""

    index: Tensor  # the low-resolution pixel that holds the output pixel
    offset: Tensor  # from its centre to the output pixel's, in low-resolution pixels
    before: Tensor  # how many pixels of the group come before this one
    count: Tensor  # how many pixels the group has


class Slices(NamedTuple):
    """The slices that a set of queries touches, and which query is in which."""

    of: Tensor  # (N,) the slice of every query
    rank: Tensor  # (N,) how many pixels of the slice come before it
    batch: Tensor  # (S,) the picture that a slice belongs to
    row: Tensor  # (S,) the low-resolution pixel that its pixels lie in
    col: Tensor  # (S,)
    # (S, E, 2) from that pixel's centre to the slice's first and last output pixel, or
    # to all four if their number is fixed; in low-resolution pixels
    ends: Tensor


def members(position: Tensor, n: int, step: Tensor) -> Members:
    """Group the pixels of one axis; `step` is an output pixel's size.

    Positions and steps count in low-resolution pixels. Where output pixels stand every
    `step`, a pixel's distance from the border of the low-resolution pixel tells how
    many fit before it, and how many after. Ties go as in `nearest`.
    """
    index = nearest(position, n)
    offset = position - index
    before = ((offset + 0.5 + TIE) / step).floor()
    after = ((0.5 - TIE - offset) / step).ceil() - 1
    return Members(index, offset, before.long(), (before + after).long() + 1)


def interval(slicing: str, rows: Members, cols: Members, step: Tensor) -> Tensor:
    """u, the number of pixels in a slice; broadcasts to (B, h, w). `step` (B, 2)."""
    if slicing == "fixed":
        return torch.full_like(cols.count, FIXED)
    if slicing == "rows":
        return cols.count
    if slicing == "constant":
        return rows.count * cols.count
    scale = (1 / step[:, 1] - TIE).ceil().long()  # (B,) of the columns, rounded up
    return scale[:, None, None]


def cut(coord: Tensor, cell: Tensor, size: tuple[int, int], slicing: str):
    """Cut the groups of all queries into slices.

    Returns (Slices, offsets of the queries (N, 2)). Slices are numbered in the order of
    picture, low-resolution pixel and place in the group.
    """
    step = cell * cell.new_tensor(size) / 2  # (B, 2), in low-resolution pixels
    rows, cols = (
        members(to_position(axis, n), n, step[:, k, None, None])
        for k, (axis, n) in enumerate(zip(split_axes(coord), size, strict=True))
    )
    u = interval(slicing, rows, cols, step)
    place = rows.before * cols.count + cols.before  # (B, h, w), raster order
    k = place // u
    last = torch.minimum((k + 1) * u, rows.count * cols.count) - 1
    ends = [k * u + e for e in range(FIXED)] if slicing == "fixed" else [k * u, last]
    batch = torch.arange(len(coord), device=coord.device)[:, None, None]
    owner = (batch * size[0] + rows.index) * size[1] + cols.index
    key = owner * (int(k.max()) + 1) + k  # (B, h, w), one number for each slice
    key, of = key.flatten().unique(return_inverse=True)  # (S,), (N,)
    # Any query of each slice will do to ask; of several, the last written stays.
    member = torch.empty_like(key)
    member.scatter_(0, of, torch.arange(len(of), device=of.device))  # (S,)

    def pick(x: Tensor) -> Tensor:
        """Of every slice, what one of its queries says: (B, h, w) -> (S,)."""
        return x.expand(place.shape).flatten()[member]

    def locate(end: Tensor) -> Tensor:
        """From the low-resolution pixel's centre to a place in its group: (S, 2)."""
        end = torch.minimum(end, last)  # the last slice of a group may be short
        down = (end // cols.count - rows.before) * step[:, 0, None, None]
        right = (end % cols.count - cols.before) * step[:, 1, None, None]
        return torch.stack([pick(rows.offset + down), pick(cols.offset + right)], -1)

    slices = Slices(
        of,
        (place - k * u).flatten(),
        pick(batch),
        pick(rows.index),
        pick(cols.index),
        torch.stack([locate(end) for end in ends], dim=1),
    )
    offsets = [x.offset.expand(place.shape).flatten() for x in (rows, cols)]
    return slices, torch.stack(offsets, dim=-1)


class DIIF(ImplicitModel):
    """Dynamic implicit image function."""

    def __init__(self, encoder: nn.Module, options: DIIFOptions):
        super().__init__(encoder, options)
        self.latent_size = encoder.channels * (16 if options.slice_ensemble else 9)
        if options.slicing == "fixed":
            widths = [*options.coarse, *options.fine]
            self.coarse = MLP(self.latent_size + 2 * FIXED + 2, widths, 3 * FIXED)
            last = self.coarse.layers[-1]
        else:
            *widths, width = options.coarse
            self.coarse = MLP(self.coarse_inputs(), widths, width)
            self.fine = MLP(width + 2, options.fine, outputs=3)
            last = self.fine.layers[-1]
        if options.skip:
            start_at_zero(last)

    def coarse_inputs(self) -> int:
        """Latent codes, two ends of a slice, and the pixel size."""
        return self.latent_size + 6

    @property
    def radius(self) -> int:
        return self.encoder.radius + (2 if self.options.slice_ensemble else 1)

    def corners(self) -> list[tuple[float, float]]:
        """Whose opinion a slice asks, from its low-resolution pixel's centre."""
        if not self.options.slice_ensemble:
            return [(0.0, 0.0)]
        return [(a, b) for a in (-0.5, 0.5) for b in (-0.5, 0.5)]

    def content(self, latent: Tensor) -> Tensor:
        """The coarse stage's first layer on all codes: (B, H + 1, W + 1, D).

        A corner is shared by four low-resolution pixels and computed once. W_z applied
        to 4 x 4 codes around every corner is a 4 x 4 convolution.
        """
        first = self.coarse.layers[0]
        return on_grid(latent, first.weight[:, : self.latent_size], first.bias)

    def ask(self, grid: Tensor, slices: Slices, pixel: Tensor, at, v: Tensor) -> Tensor:
        """What the codes `at` (rows, cols) of `grid` say about every slice: (S, D).

        v: from the centre of the slice's low-resolution pixel to the codes' own, (2,)
        or (S, 2). pixel: (B, 2), which is 2 / s.
        """
        hidden = look_up(grid, *at, slices.batch)  # (S, D), a fresh tensor
        ends = 2 * (slices.ends - v.view(-1, 1, 2))  # (S, E, 2)
        told = torch.cat([ends.flatten(1), pixel[slices.batch]], dim=-1)
        hidden.add_(told @ self.coarse.layers[0].weight[:, self.latent_size :].T)
        return self.coarse.after_first(hidden)

    def predict(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """Coarse once for every slice, fine for every query: (B, h, w, 3)."""
        size = features.latent.shape[-2:]
        slices, offset = cut(coord, cell, size, self.options.slicing)
        pixel = cell * cell.new_tensor(size)  # (B, 2), which is 2 / s
        if self.options.slicing == "fixed":
            rgb = self.predict_fixed(features, slices, pixel)
            return rgb.view(*coord.shape[:3], 3)
        first = self.fine.layers[0]
        W_h, W_x = first.weight[:, :-2], first.weight[:, -2:]
        corners = self.corners()
        # W_h sum_t a_t H_t = sum_t a_t W_h H_t: apply W_h where there are fewer places.
        early = len(corners) * len(slices.row) < len(offset)
        told = F.linear(2 * offset, W_x, first.bias)  # (N, D)
        hidden = told if early else told.new_zeros(len(told), W_h.shape[1])
        for corner in corners:
            v = offset.new_tensor(corner)
            at = slices.row + (corner[0] > 0), slices.col + (corner[1] > 0)
            H_t = self.ask(features.content, slices, pixel, at, v).relu()  # (S, D)
            answer = F.embedding(slices.of, H_t @ W_h.T if early else H_t)  # (N, D)
            far = (offset - v).abs() if any(corner) else torch.zeros_like(offset)
            hidden.addcmul_((1 - far).prod(dim=-1, keepdim=True), answer)
        if not early:
            hidden = torch.addmm(told, hidden, W_h.T)
        return self.fine.after_first(hidden).view(*coord.shape[:3], 3)

    def predict_fixed(self, features: Features, slices: Slices, pixel: Tensor):
        """Without dynamic slices: all colours of a slice from one MLP, (N, 3).

        The paper does not say how it blends them. Here the four codes around the
        middle of a slice answer, with LIIF's shares.
        """
        H, W = features.latent.shape[-2:]
        middle = slices.ends.mean(dim=1)  # (S, 2)
        home = torch.stack([slices.row, slices.col], dim=-1)  # (S, 2)
        rows, cols = (
            neighbours(home[:, k] + middle[:, k], n) for k, n in enumerate((H, W))
        )
        total = 0
        for i, _, row_share in rows:
            for j, _, col_share in cols:
                v = torch.stack([i, j], dim=-1) - home
                answer = self.ask(features.content, slices, pixel, (i, j), v)
                total = total + (row_share * col_share)[:, None] * answer
        return total.view(-1, 3)[slices.of * FIXED + slices.rank]


@dataclass(frozen=True)
class DLTEOptions(DIIFOptions):
    """DIIF's options; the slice ensemble is part of the method, and so is the skip."""

    skip: bool = True


DLTE_SIZES = {
    "paper": DLTEOptions(),
    "laptop": DLTEOptions(coarse=(64, 64), fine=(64, 64)),
    "tiny": DLTEOptions(coarse=(48, 48), fine=(48, 48)),
}


class DLTE(DIIF):
    """DIIF with LTE's waves in place of latent codes (the paper's section 4.3).

    The paper gives no equations for it. Our reading, from its parameter and
    multiplication counts: two convolutions make amplitudes A and frequencies F; a
    corner takes those of the 2 x 2 codes around it; half of its frequency pairs meet
    the slice's first pixel, half the last; cos and sin of that, times A, enter the
    coarse stage.
    """

    def __init__(self, encoder: nn.Module, options: DLTEOptions):
        super().__init__(encoder, options)
        if not options.slice_ensemble:
            raise UserError("dlte has no variant without its slice ensemble")
        waves = encoder.channels
        self.amplitude = conv(encoder.channels, waves)
        self.frequency = conv(encoder.channels, waves)
        self.phase = nn.Linear(2, 2 * waves, bias=False)

    def coarse_inputs(self) -> int:
        return 4 * self.encoder.channels

    def content(self, latent: Tensor) -> Tensor:
        """Amplitudes and frequencies of 2 x 2 codes around every corner.

        (B, C, H, W) -> (B, H + 1, W + 1, 8 C), zeros outside of the picture.
        """
        both = torch.cat([self.amplitude(latent), self.frequency(latent)], dim=1)
        B, C, H, W = both.shape
        around = F.unfold(both, kernel_size=2, padding=1)  # (B, 4 * 2C, ...)
        return around.view(B, 4 * C, H + 1, W + 1).movedim(1, -1)

    def ask(self, grid: Tensor, slices: Slices, pixel: Tensor, at, v: Tensor) -> Tensor:
        """What a corner says about every slice, from waves: (S, D)."""
        amplitude, frequency = look_up(grid, *at, slices.batch).chunk(2, dim=-1)
        pairs = frequency.unflatten(-1, (2, -1, 2))  # (S, 2, C, 2), (row, col) last
        ends = 2 * (slices.ends - v)[:, :, None]  # (S, 2, 1, 2): first and last pixel
        angle = (pairs * ends).sum(dim=-1).flatten(1)  # (S, 2C)
        angle = pi * (angle + self.phase(pixel)[slices.batch])
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)  # (S, 4C)
        return self.coarse(amplitude * waves)
