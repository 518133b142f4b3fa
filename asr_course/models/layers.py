"""What every model of the course is made from: features, look-ups and an MLP.

Letters: B batch, C channels, H W low-resolution grid, h w queries, D hidden features.
A regular grid of queries keeps its rows as (B, h, 1) and its columns as (B, 1, w);
scattered queries keep both as (B, h, w). All lines below broadcast over either.
"""

import math
import operator
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import neighbours, split_axes, to_position


class Features(NamedTuple):
    """What `encode` returns and `decode` reads; nothing else passes between them."""

    lr: Tensor  # (B, 3, H, W) the low-resolution picture, normalised to [-1, 1]
    latent: Tensor  # (B, C, H, W) one latent code per low-resolution pixel
    content: Tensor  # (B, H, W, D) the decoder's work that needs no query


class MLP(nn.Module):
    """Linear layers with ReLU between them; the last one has none after it."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int):
        super().__init__()
        sizes = [inputs, *hidden, outputs]
        self.layers = nn.ModuleList(
            [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        )

    def forward(self, x: Tensor) -> Tensor:  # (..., inputs) -> (..., outputs)
        return self.after_first(self.layers[0](x))

    def after_first(self, x: Tensor) -> Tensor:
        """The rest of the network, from the first layer's output (..., D), which it
        overwrites."""
        for layer in self.layers[1:]:
            x = layer(x.relu_())
        return x


def start_at_zero(layer: nn.Linear) -> None:
    """Zero a last layer: with `skip`, training then starts at plain interpolation."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class ImplicitModel(nn.Module):
    """What all arbitrary-scale models share: encode once, decode any coordinates.

    A model adds `content` and `predict`. Pictures are in [0, 1] outside and in
    [-1, 1] inside. `options` is the model's own frozen dataclass; its field `skip`
    adds the bilinearly enlarged input to the output, so that the network only has to
    learn what bilinear interpolation gets wrong.

    """

    generates = False  # answers with the average of all plausible pictures
    sums: Sequence[str] = ()  # queries are answered one by one; see `NonLocalModel`

    def __init__(self, encoder: nn.Module, options):
        super().__init__()
        self.encoder = encoder
        self.options = options

    @property
    def radius(self) -> int:
        """How far, in low-resolution pixels, `content` looks around a pixel."""
        return self.encoder.radius

    @property
    def align(self) -> int:
        """A part of a picture is encoded as in the whole if it begins, apart from what
        `radius` asks for, at a row and a column that this divides."""
        return getattr(self.encoder, "align", 1)  # 1: anywhere, as convolutions allow

    def content(self, latent: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W, D): the decoder's work that needs no query."""
        return latent.movedim(1, -1)

    def predict(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """(B, h, w, 3), normalised."""
        raise NotImplementedError(f"{type(self).__name__} defines no predict()")

    def encode(self, lr: Tensor) -> Features:
        """Low-resolution pictures (B, 3, H, W) in [0, 1] to features."""
        if lr.ndim != 4 or lr.shape[1] != 3:
            raise ValueError(
                f"encode() takes pictures of shape (B, 3, H, W), not {tuple(lr.shape)}"
            )
        lr = (lr - 0.5) / 0.5
        latent = self.encoder(lr)
        return Features(lr, latent, self.content(latent).contiguous())

    def decode(
        self,
        features: Features,
        coord: Tensor,
        cell: Tensor,
        sums: Sequence | None = None,
    ) -> Tensor:
        """Colours at `coord` (B, h, w, 2) for pixels of size `cell` (B, 2).

        Returns (B, 3, h, w) on the [0, 1] scale, not clamped. Scattered queries are
        (B, Q, 1, 2). sums: for models that need them, gathered over more queries than
        these; None takes these for all.
        """
        check_queries(features, coord, cell)
        known = (sums,) if sums else ()
        rgb = self.predict(features, coord, cell, *known)  # (B, h, w, 3)
        if self.options.skip:
            rgb = rgb + bilinear(features.lr.movedim(1, -1), coord)
        return (rgb * 0.5 + 0.5).movedim(-1, 1)

    def forward(self, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        return self.decode(self.encode(lr), coord, cell)

    def residual(self, network, sample) -> Tensor:
        """What training makes small; `network` is this model, perhaps wrapped."""
        return network(sample.lr, sample.coord, sample.cell) - sample.target


@dataclass(frozen=True)
class Sums:
    """What some queries add to sums over all of them; two of these add up."""

    def __add__(self, other):
        mine, theirs = vars(self).values(), vars(other).values()
        return type(self)(*map(operator.add, mine, theirs))


def precise(x: Tensor) -> Tensor:
    """x in float64, in which sums of millions lose nothing (Apple's GPU has none)."""
    return x if x.device.type == "mps" else x.double()


class NonLocalModel(ImplicitModel):
    """A model whose queries hear from each other, through sums over all of them.

    It writes `answer`, which computes as if it had all queries at hand, but asks for
    what needs a sum: it yields functions that tell what the present queries add, each
    a `Sums`, and is sent the totals. So one text serves the present queries alone, and
    any number of them piece by piece, pass after pass (`asr_course.render.gather`).
    `sums` says for each pass what it goes over: "latents" or "queries".
    """

    def answer(self, features: Features, coord: Tensor, cell: Tensor) -> Generator:
        """Yields functions, is sent totals, returns (B, h, w, 3), normalised."""
        raise NotImplementedError(f"{type(self).__name__} defines no answer()")

    def gather(
        self, features: Features, coord: Tensor, cell: Tensor, sums: Sequence = ()
    ) -> tuple:
        """What these queries add to pass number len(sums), given those before."""
        steps = self.answer(features, coord, cell)
        wanted = next(steps)
        for totals in sums:
            wanted = steps.send(totals)
        return tuple(ask() for ask in wanted)

    def predict(
        self,
        features: Features,
        coord: Tensor,
        cell: Tensor,
        sums: Sequence | None = None,
        **given,
    ) -> Tensor:
        """(B, h, w, 3), normalised. sums: what `gather` found, all passes; None takes
        these queries for all. given: passed on to `answer`."""
        steps = self.answer(features, coord, cell, **given)
        known = iter(sums or ())
        try:
            wanted = next(steps)
            while True:
                totals = next(known) if sums else tuple(ask() for ask in wanted)
                wanted = steps.send(totals)
        except StopIteration as end:
            return end.value


def check_queries(features: Features, coord: Tensor, cell: Tensor) -> None:
    """Refuse shapes that would broadcast into something else without a word."""
    batch = features.lr.shape[0]
    if coord.ndim != 4 or coord.shape[0] != batch or coord.shape[-1] != 2:
        raise ValueError(
            f"coord must be ({batch}, h, w, 2) for {batch} encoded picture(s), "
            f"not {tuple(coord.shape)}; scattered queries are ({batch}, Q, 1, 2)"
        )
    if tuple(cell.shape) != (batch, 2):
        raise ValueError(f"cell must be ({batch}, 2), not {tuple(cell.shape)}")


def look_up(
    grid: Tensor, rows: Tensor, cols: Tensor, batch: Tensor | None = None
) -> Tensor:
    """grid[b, rows, cols] for every b: (B, H, W, D) -> (B, h, w, D).

    batch: the picture b of every place, where places do not come as (B, h, w).

    An embedding look-up, because its gradient is fast on a CPU and indexing's is not.
    """
    B, H, W, D = grid.shape
    if batch is None:
        batch = torch.arange(B, device=grid.device).view(B, 1, 1)
    return F.embedding((batch * H + rows) * W + cols, grid.reshape(B * H * W, D))


def unfold(latent: Tensor) -> Tensor:
    """Feature unfolding (LIIF's Eq. 3): append the 3x3 neighbourhood.

    (B, C, H, W) -> (B, 9 C, H, W), the nine neighbours of a channel side by side,
    zeros outside of the picture.
    """
    B, C, H, W = latent.shape
    return F.unfold(latent, kernel_size=3, padding=1).view(B, C * 9, H, W)


def on_grid(latent: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer on every latent code: (B, C, H, W) -> (B, H, W, D).

    weight: (D, k k C) for the k x k codes around, without unfolding them: a linear map
    of a k x k neighbourhood is a k x k convolution. An even k has its corners between
    codes, and one row and column of them more.
    """
    C = latent.shape[1]
    kernel = math.isqrt(weight.shape[1] // C)
    weight = weight.reshape(-1, C, kernel, kernel)
    return F.conv2d(latent, weight, bias, padding=kernel // 2).movedim(1, -1)


def bilinear(grid: Tensor, coord: Tensor) -> Tensor:
    """Bilinear interpolation of (B, H, W, D) at `coord`, replicated border."""
    _, H, W, _ = grid.shape
    rows, cols = split_axes(coord)
    total = 0
    for i, _, row_weight in neighbours(to_position(rows, H), H):
        for j, _, col_weight in neighbours(to_position(cols, W), W):
            total = total + (row_weight * col_weight)[..., None] * look_up(grid, i, j)
    return total  # (B, h, w, D)
