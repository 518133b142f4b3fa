"""What the models are made from: features, look-ups, an MLP and a base class.

Letters: B batch, C channels, H W low-resolution grid, h w queries, D hidden features.
A regular grid of queries keeps its rows as (B, h, 1) and its columns as (B, 1, w);
scattered queries keep both as (B, h, w). All lines below broadcast over either.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import Queries, corners, split_axes
from asr_course.encoders import encoder_name
from asr_course.totals import present


class Features(NamedTuple):
    """What `encode` returns and `decode` reads; nothing else passes between them."""

    lr: Tensor  # (B, 3, H, W) the low-resolution picture, normalised to [-1, 1]
    latent: Tensor  # (B, C, H, W) one latent code per low-resolution pixel
    grid: Tensor  # (B, H, W, D) the decoder's work that needs no query
    # Rows and columns of this piece of a picture, without the margin around it.
    inner: tuple[slice, slice] = (slice(None), slice(None))


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
        """The rest, from the first layer's output (..., D), which it overwrites."""
        flat = x.reshape(-1, x.shape[-1])  # a matrix: ONNX joins bias and ReLU
        for layer in self.layers[1:]:
            flat = layer(flat.relu_())
        return flat.view(*x.shape[:-1], flat.shape[-1])


def start_at_zero(layer: nn.Linear) -> None:
    """Zero a last layer: with `skip`, training then starts at plain interpolation."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class ImplicitModel(nn.Module):
    """What all arbitrary-scale models share: encode once, decode any coordinates.

    A model defines `predict`, and `grid_features` where work can be done before any
    query is known. Pictures are in [0, 1] outside and in [-1, 1] inside. `options` is a
    frozen dataclass; its field `skip` adds the bilinearly enlarged input, so that the
    network only has to learn what interpolation gets wrong.
    """

    name = ""  # in METHODS and in weights files; the class's own name if empty
    Options: type  # the class of `options`
    SIZES: dict = {}  # {"paper": Options(...), ...}
    ABLATIONS: dict = {}  # {variant: options that differ}
    is_generative = False  # predicts the mean of all plausible pictures
    is_nonlocal = False  # True: predict takes `total`, see asr_course.totals

    def __init__(self, encoder: nn.Module, options):
        super().__init__()
        self.encoder = encoder
        self.options = options

    @property
    def config(self) -> dict:
        """What it takes to build the model again, as plain values."""
        return {
            "name": self.name or type(self).__name__,
            "encoder": encoder_name(self.encoder),
            "options": asdict(self.options),
        }

    @property
    def radius(self) -> int:
        """How far, in low-resolution pixels, `grid_features` looks around a pixel."""
        return self.encoder.radius

    def grid_features(self, latent: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W, D): the decoder's work that needs no query."""
        return latent.movedim(1, -1)

    def predict(self, features: Features, queries: Queries, cell: Tensor) -> Tensor:
        """(B, h, w, 3), normalised."""
        raise NotImplementedError(f"{type(self).__name__} defines no predict()")

    def encode(self, lr: Tensor) -> Features:
        """Low-resolution pictures (B, 3, H, W) in [0, 1] to features."""
        if lr.ndim != 4 or lr.shape[1] != 3:
            raise ValueError(f"lr must be (B, 3, H, W), not {tuple(lr.shape)}")
        lr = (lr - 0.5) / 0.5
        latent = self.encoder(lr)
        return Features(lr, latent, self.grid_features(latent).contiguous())

    def decode(
        self,
        features: Features,
        coord: Tensor | Queries,
        cell: Tensor,
        total: Callable = present,
    ) -> Tensor:
        """Colours at `coord` (B, h, w, 2) for pixels of size `cell` (B, 2).

        Returns (B, 3, h, w) on the [0, 1] scale, not clamped. Scattered queries are
        (B, Q, 1, 2). total: see asr_course.totals. ValueError on other shapes.
        """
        B = len(features.lr)
        shape = (*coord.shape, 2) if isinstance(coord, Queries) else tuple(coord.shape)
        if (shape[0], *shape[3:]) != (B, 2) or tuple(cell.shape) != (B, 2):
            raise ValueError(
                f"coord must be ({B}, h, w, 2) and cell ({B}, 2) for {B} picture(s), "
                f"not {shape} and {tuple(cell.shape)}"
            )
        queries = split_axes(coord)
        more = {"total": total} if self.is_nonlocal else {}
        rgb = self.predict(features, queries, cell, **more)  # (B, h, w, 3)
        if self.options.skip:
            rgb = rgb + bilinear(features.lr.movedim(1, -1), queries)
        return (rgb * 0.5 + 0.5).movedim(-1, 1)

    def forward(self, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        return self.decode(self.encode(lr), coord, cell)

    def times(self, part: str, latents: int, queries: int, scale: float) -> float:
        """How often the printed formula uses a part of the model, see `macs`."""
        return queries

    def macs(self, latents: int, queries: int, scale: float) -> int:
        """Multiplications of the formula as printed, which keeps nothing, for so many
        codes and queries, without the encoder. Convolutions work once for each code."""
        macs = 0
        for name, part in self.named_children():
            if name != "encoder":
                conv = isinstance(part, nn.Conv2d)
                times = latents if conv else self.times(name, latents, queries, scale)
                macs += times * count_weights(part)
        return round(macs)

    def error(self, network, sample) -> Tensor:
        """What training makes small; `network` is this model, perhaps wrapped."""
        return network(sample.lr, sample.coord, sample.cell) - sample.target


def relative_cell(cell: Tensor, features: Features) -> Tensor:
    """2 / s of rows and columns: the size of an output pixel, where a low-resolution
    pixel has size 2: (B, 2) -> (B, 2)."""
    H, W = features.latent.shape[-2:]
    return torch.stack([cell[:, 0] * H, cell[:, 1] * W], dim=-1)


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


def on_grid(
    latent: Tensor, weight: Tensor, bias: Tensor | None = None, kernel: int = 3
) -> Tensor:
    """A linear layer on every latent code: (B, C, H, W) -> (B, H, W, D).

    weight: (D, k k C) for the k x k codes around, without unfolding them: a linear map
    of a k x k neighbourhood is a k x k convolution. With an even k the results lie
    between latent codes: (B, H + 1, W + 1, D).
    """
    weight = weight.reshape(-1, latent.shape[1], kernel, kernel)
    return F.conv2d(latent, weight, bias, padding=kernel // 2).movedim(1, -1)


def bilinear(grid: Tensor, coord: Tensor | Queries) -> Tensor:
    """Bilinear interpolation of (B, H, W, D) at `coord`, replicated border."""
    codes = corners(split_axes(coord), grid.shape[1:3])
    return sum(c.weight[..., None] * look_up(grid, c.row, c.col) for c in codes)


def count_weights(*modules: nn.Module) -> int:
    """How many weights modules have: each is multiplied once for every place."""
    return sum(p.numel() for m in modules for p in m.parameters() if p.ndim > 1)
