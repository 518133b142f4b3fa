"""LIIF: one MLP reads the nearest latent codes and predicts any query's colour.

Chen, Liu and Wang, "Learning Continuous Image Representation with Local Implicit
Image Function", CVPR 2021.

    f_t  = MLP([z_t, 2 (x - v_t), 2 / s])                  (the paper's Eq. 2 and 5)
    I(x) = sum_t  S_t / S  f_t                             (the paper's Eq. 4)

z_t are the four latent codes around the query x, each with its 3 x 3 neighbourhood
(Eq. 3), v_t their centres (in pixels here), S_t the area of the rectangle between x
and the centre diagonally opposite to v_t, and s the scale of rows and of columns.

Why it is fast: the MLP's first layer is linear, W [z, d, c] = W_z z + W_r [d, c], with
d = 2 (x - v) and c = 2 / s. The first summand needs no query and is computed once for
every latent code (`grid_features`), by a 3 x 3 convolution instead of unfolding.

Letters: B batch, C channels, H W low-resolution grid, h w queries, D hidden features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import Code, Queries, corners, nearest_code
from asr_course.layers import (
    MLP,
    Features,
    ImplicitModel,
    look_up,
    on_grid,
    relative_cell,
    start_at_zero,
)


@dataclass(frozen=True)
class LIIFOptions:
    """Choices of the paper; the letter is the one its ablation table uses."""

    hidden: tuple[int, ...] = (256, 256, 256, 256)  # widths; -d: (256, 256)
    local_ensemble: bool = True  # -e: False uses the nearest latent code alone
    feat_unfold: bool = True  # -u: False leaves out the 3x3 neighbourhood
    cell_decode: bool = True  # -c: False hides the pixel size from the MLP
    skip: bool = False  # ours, not the paper's: add the bilinearly enlarged input


class LIIF(ImplicitModel):
    """Local implicit image function."""

    name = "liif"
    Options = LIIFOptions
    SIZES = {
        "paper": LIIFOptions(),
        "laptop": LIIFOptions(hidden=(64, 64, 64), skip=True),
        "tiny": LIIFOptions(hidden=(48, 48), skip=True),
    }
    # What the paper takes away (its Table 3), at size tiny, and the skip, ours.
    ABLATIONS = {
        "full": {},
        "-c": {"cell_decode": False},
        "-u": {"feat_unfold": False},
        "-e": {"local_ensemble": False},
        "-d": {"hidden": (48,)},
        "no skip": {"skip": False},
    }

    def __init__(self, encoder: nn.Module, options: LIIFOptions):
        super().__init__(encoder, options)
        self.kernel = 3 if options.feat_unfold else 1  # latent codes around a query
        self.latent_size = encoder.channels * self.kernel**2
        inputs = self.latent_size + 2 + (2 if options.cell_decode else 0)
        self.mlp = MLP(inputs, options.hidden, outputs=3)
        if options.skip:
            start_at_zero(self.mlp.layers[-1])

    @property
    def radius(self) -> int:
        return self.encoder.radius + self.kernel // 2

    def grid_features(self, latent: Tensor) -> Tensor:
        """W_z z of the first layer, once per latent code: (B, H, W, D)."""
        first = self.mlp.layers[0]
        W_z = first.weight[:, : self.latent_size]
        return on_grid(latent, W_z, first.bias, self.kernel)

    def codes(self, queries: Queries, size: tuple[int, int]) -> list[Code]:
        """The latent codes that answer: four, or without the ensemble the nearest."""
        if self.options.local_ensemble:
            return corners(queries, size)
        return [nearest_code(queries, size)]

    def ensemble(
        self, features: Features, queries: Queries, cell: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each latent code's weight S_t / S (B, h, w) and colour f_t (B, h, w, 3)."""
        W_r = self.mlp.layers[0].weight[:, self.latent_size :]  # (D, 2 or 4)
        cell_part = 0
        if self.options.cell_decode:
            cell = relative_cell(cell, features)  # (B, 2), which is 2 / s
            cell_part = F.linear(cell, W_r[:, 2:])[:, None, None]  # (B, 1, 1, D)
        for code in self.codes(queries, features.grid.shape[1:3]):
            hidden = look_up(features.grid, code.row, code.col)  # (B, h, w, D), a copy
            row, col = 2 * code.row_offset[..., None], 2 * code.col_offset[..., None]
            # On a regular grid both summands are small: (B, h, 1, D) and (B, 1, w, D).
            hidden.add_(row * W_r[:, 0] + cell_part).add_(col * W_r[:, 1])
            yield code.weight, self.mlp.after_first(hidden)

    def predict(self, features: Features, queries: Queries, cell: Tensor) -> Tensor:
        """The weighted sum over the latent codes (Eq. 4): (B, h, w, 3)."""
        rgb = 0
        for weight, f_t in self.ensemble(features, queries, cell):
            rgb = rgb + weight[..., None] * f_t
        return rgb

    def times(self, part: str, latents: int, queries: int, scale: float) -> int:
        return queries * (4 if self.options.local_ensemble else 1)
