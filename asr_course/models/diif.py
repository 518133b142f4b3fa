"""DIIF: compute once for a slice of output pixels what they have in common.

He and Jin, "Dynamic Implicit Image Function for Efficient Arbitrary-Scale Image
Representation", 2023. How pixels are cut into slices: see `slices`.

    H_t  = coarse([z_t, 2 (x_first - v_t), 2 (x_last - v_t), 2 / s])   once per slice
    H(x) = sum_t A_t / A  H_t                                          per pixel, Eq. 11
    I(x) = fine([H(x), 2 (x - v)])                                     per pixel, Eq. 9

x_first and x_last are the slice's end pixels, v the centre of the low-resolution pixel,
v_t its four corners, z_t the 4 x 4 latent codes around a corner (Eq. 12), and A_t / A
the bilinear weight of that corner. 2 / s stands in no equation, but in the costs of
Table 1. The first layer of either stage is split, to compute its parts less often:

    coarse: W [z_t, ends, 2 / s] = W_z z_t + W_r [ends, 2 / s]    W_z z_t once per code
    fine:   W [sum a_t H_t, x] = sum a_t (W_h H_t) + W_x x        W_h H_t once per slice

Letters: B batch, H W low-resolution grid, h w queries, N = B h w, S slices, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import Queries, neighbours
from asr_course.errors import UserError
from asr_course.layers import (
    MLP,
    Features,
    ImplicitModel,
    look_up,
    on_grid,
    relative_cell,
    start_at_zero,
)
from asr_course.models.slices import FIXED, Slices, cut_slices, slices_per_group


@dataclass(frozen=True)
class DIIFOptions:
    """Choices of the paper; its Table 4 names the variants."""

    coarse: tuple[int, ...] = (256, 256)  # widths; "c4+f3": (256, 256, 256, 256)
    fine: tuple[int, ...] = (256, 256)  # widths before the colour; "c2+f5": four
    # How many pixels make a slice: "linear" ceil(s), the column scale; "constant" the
    # whole group ("cs"); "rows", ours, one row of the group; "fixed" 4 ("w/o ds"), and
    # then one MLP of coarse's and fine's widths predicts all their colours.
    slicing: Literal["linear", "constant", "rows", "fixed"] = "linear"
    slice_ensemble: bool = True  # "w/o se": False takes the nearest latent code alone
    skip: bool = False  # ours, not the paper's: add the bilinearly enlarged input

    def __post_init__(self):
        if self.slicing == "fixed" and self.slice_ensemble:
            raise UserError("slicing='fixed' needs slice_ensemble=False")


class DIIF(ImplicitModel):
    """Dynamic implicit image function."""

    name = "diif"
    Options = DIIFOptions
    SIZES = {
        "paper": DIIFOptions(),
        "laptop": DIIFOptions(coarse=(64, 64), fine=(64, 64), skip=True),
        "tiny": DIIFOptions(coarse=(48, 48), fine=(48, 48), skip=True),
    }
    ABLATIONS = {  # the paper's Table 4, and two that are ours
        "full": {},
        "w/o ds": {"slicing": "fixed", "slice_ensemble": False},
        "w/o se": {"slice_ensemble": False},
        "cs": {"slicing": "constant"},
        "c4+f3": {"coarse": (48, 48, 48, 48)},
        "c2+f5": {"fine": (48, 48, 48, 48)},
        "rows": {"slicing": "rows"},
        "no skip": {"skip": False},
    }

    def __init__(self, encoder: nn.Module, options: DIIFOptions):
        super().__init__(encoder, options)
        # z_t: 4 x 4 codes around a corner, or the 3 x 3 around the nearest code
        self.kernel = 4 if options.slice_ensemble else 3
        self.latent_size = encoder.channels * self.kernel**2
        if options.slicing == "fixed":
            widths = (*options.coarse, *options.fine)
            self.coarse = MLP(self.coarse_inputs, widths, 3 * FIXED)
            last = self.coarse.layers[-1]
        else:
            *widths, width = options.coarse
            self.coarse = MLP(self.coarse_inputs, widths, width)
            self.fine = MLP(width + 2, options.fine, outputs=3)
            last = self.fine.layers[-1]
        if options.skip:
            start_at_zero(last)

    @property
    def coarse_inputs(self) -> int:
        """z_t, two ends of a slice (or its four pixels), and 2 / s."""
        ends = FIXED if self.options.slicing == "fixed" else 2
        return self.latent_size + 2 * ends + 2

    @property
    def radius(self) -> int:
        return self.encoder.radius + self.kernel // 2

    def grid_features(self, latent: Tensor) -> Tensor:
        """W_z z_t + b of all corners, (B, H + 1, W + 1, D), or codes, (B, H, W, D)."""
        first = self.coarse.layers[0]
        W_z = first.weight[:, : self.latent_size]
        return on_grid(latent, W_z, first.bias, self.kernel)

    def codes(self, slices: Slices) -> Iterator[tuple[Tensor, ...]]:
        """The corners of each slice, or the nearest code: (row, col, v, weight) each.

        row, col: (S,), its place in `grid_features`. v: (2,), from the centre of the
        low-resolution pixel to it. weight: A_t / A of every query, (N, 1).
        """
        x = slices.offset  # (N, 2)
        if not self.options.slice_ensemble:
            yield slices.row, slices.col, x.new_zeros(2), torch.ones_like(x[:, :1])
            return
        for down, right in product((0, 1), (0, 1)):
            v = x.new_tensor([down - 0.5, right - 0.5])
            weight = (1 - (x - v).abs()).prod(dim=-1, keepdim=True)  # (N, 1)
            yield slices.row + down, slices.col + right, v, weight

    def coarse_stage(
        self, grid: Tensor, slices: Slices, pixel: Tensor, row, col, v: Tensor
    ) -> Tensor:
        """The coarse stage for one code of every slice: (S, D). pixel: 2 / s, (B, 2);
        row, col, v: see `codes`; v may also be (S, 2)."""
        hidden = look_up(grid, row, col, slices.batch)  # (S, D), a fresh tensor
        ends = 2 * (slices.ends - v.view(-1, 1, 2))  # (S, E, 2)
        inputs = torch.cat([ends.flatten(1), pixel[slices.batch]], dim=-1)
        hidden.add_(inputs @ self.coarse.layers[0].weight[:, self.latent_size :].T)
        return self.coarse.after_first(hidden)

    def predict(self, features: Features, queries: Queries, cell: Tensor) -> Tensor:
        """Coarse once for every slice, fine for every query: (B, h, w, 3)."""
        pixel = relative_cell(cell, features)  # (B, 2), which is 2 / s
        size = features.latent.shape[-2:]
        slices = cut_slices(queries, pixel / 2, size, self.options.slicing)
        if self.options.slicing == "fixed":
            return self.predict_fixed(features, slices, pixel).view(*queries.shape, 3)
        first = self.fine.layers[0]
        W_h, W_x = first.weight[:, :-2], first.weight[:, -2:]
        hidden = F.linear(2 * slices.offset, W_x, first.bias)  # (N, D)
        for row, col, v, weight in self.codes(slices):
            H_t = self.coarse_stage(features.grid, slices, pixel, row, col, v).relu()
            hidden.addcmul_(weight, F.embedding(slices.of, H_t @ W_h.T))  # (N, D)
        return self.fine.after_first(hidden).view(*queries.shape, 3)

    def predict_fixed(self, features: Features, slices: Slices, pixel: Tensor):
        """Without dynamic slices: all colours of a slice from one MLP, (N, 3). The four
        codes around its middle are blended with LIIF's weights (our choice)."""
        H, W = features.latent.shape[-2:]
        home = torch.stack([slices.row, slices.col], dim=-1)  # (S, 2)
        middle = home + slices.ends.mean(dim=1)  # (S, 2), a position
        rgb = 0
        for i, _, row_weight in neighbours(middle[:, 0], H):
            for j, _, col_weight in neighbours(middle[:, 1], W):
                v = torch.stack([i, j], dim=-1) - home
                output = self.coarse_stage(features.grid, slices, pixel, i, j, v)
                rgb = rgb + (row_weight * col_weight)[:, None] * output  # (S, 12)
        return rgb.view(-1, 3)[slices.of * FIXED + slices.rank]

    def times(self, part: str, latents: int, queries: int, scale: float) -> float:
        if part == "fine":
            return queries
        slicing, ensemble = self.options.slicing, self.options.slice_ensemble
        codes = 4 if ensemble or slicing == "fixed" else 1
        return codes * latents * slices_per_group(slicing, scale)
