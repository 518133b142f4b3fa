"""MetaSR: a small network predicts a filter for every query.

Hu, Mu, Zhang, Wang, Sun and Tan, "Meta-SR: A Magnification-Arbitrary Network for
Super-Resolution", CVPR 2019, in the form in which LIIF's authors compare with it:

    I(x) = z . V(p),   V(p) = V_1 relu(V_0 p + c_0) + c_1

z is the latent code with its 3 x 3 neighbourhood (9 C numbers), V(p) a matrix of
9 C x 3 filter weights, and p = (row, col, 1 / s) the place of the output pixel's upper
left corner in its low-resolution pixel. There is no ensemble.

Why it is fast: z . (V_1 h + c_1) = (z . V_1) h + z . c_1 for any hidden features h. The
two brackets need no query, and are 3 (D + 1) numbers where z has 9 C.

Letters: B batch, C channels, H W low-resolution grid, h w queries, D hidden features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr_course.coords import Queries, nearest, to_position
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
class MetaSROptions:
    """Sizes; the paper has no ablation of this form."""

    hidden: tuple[int, ...] = (256,)  # widths of the network that predicts filters
    skip: bool = False  # ours, not the paper's: add the bilinearly enlarged input


class MetaSR(ImplicitModel):
    """Filters predicted from position and scale."""

    name = "metasr"
    Options = MetaSROptions
    SIZES = {
        "paper": MetaSROptions(),
        "laptop": MetaSROptions(hidden=(64,), skip=True),
        "tiny": MetaSROptions(hidden=(48,), skip=True),
    }

    def __init__(self, encoder: nn.Module, options: MetaSROptions):
        super().__init__(encoder, options)
        self.mlp = MLP(3, options.hidden, outputs=9 * encoder.channels * 3)
        if options.skip:
            start_at_zero(self.mlp.layers[-1])

    @property
    def radius(self) -> int:
        return self.encoder.radius + 1  # the 3 x 3 neighbourhood

    def grid_features(self, latent: Tensor) -> Tensor:
        """z . V_1 and z . c_1, once per latent code: (B, H, W, 3 (D + 1))."""
        last = self.mlp.layers[-1]
        V_1 = torch.cat([last.weight, last.bias[:, None]], dim=1)  # (9C * 3, D + 1)
        V_1 = V_1.unflatten(0, (-1, 3)).permute(1, 2, 0)  # (3, D + 1, 9C)
        return on_grid(latent, V_1.flatten(0, 1))

    def places(self, features: Features, queries: Queries, cell: Tensor):
        """Rows and columns of the codes that hold the output pixels' upper left
        corners, and p (B, h, w, 3); offsets count from the code's own corner."""
        cell = relative_cell(cell, features)  # (B, 2), which is 2 / s
        index, place = [], []
        for k, axis in enumerate(queries):
            n = features.latent.shape[2 + k]
            half = cell[:, k, None, None] / 4  # half an output pixel, in LR pixels
            position = to_position(axis, n) - half  # of its upper or left edge
            index.append(nearest(position, n))
            place.append(position + 0.5 - index[-1])  # in [0, 1)
        place.append(cell[:, :1, None] / 2)  # 1 / s of the rows, as in LIIF's code
        place = [x.expand(queries.shape) for x in place]
        return *index, torch.stack(place, dim=-1)

    def predict(self, features: Features, queries: Queries, cell: Tensor) -> Tensor:
        """(z . V_1) h + z . c_1: (B, h, w, 3), normalised."""
        i, j, x = self.places(features, queries, cell)
        for layer in self.mlp.layers[:-1]:
            x = layer(x).relu()  # (B, h, w, D)
        filters = look_up(features.grid, i, j).unflatten(-1, (3, -1))
        weight, bias = filters[..., :-1], filters[..., -1]  # (B, h, w, 3, D), (.., 3)
        return (weight @ x[..., None])[..., 0] + bias
