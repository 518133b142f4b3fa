"""MetaSR: a small network predicts, for every query, the filter that answers it.

Hu, Mu, Zhang, Wang, Sun and Tan, "Meta-SR: A Magnification-Arbitrary Network for
Super-Resolution", CVPR 2019, in the form in which LIIF's authors compare with it:

    I(x) = z . V(p),   V(p) = V_1 relu(V_0 p + c_0) + c_1

z is the latent code with its 3 x 3 neighbourhood (9 C numbers), V(p) a matrix of
9 C x 3 filter weights, and p = (row, col, 1 / s) the place of the output pixel's upper
left corner in its low-resolution pixel. There is no ensemble.

Letters: B batch, C channels, H W low-resolution grid, h w queries, D hidden features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr_course.coords import nearest, split_axes, to_position
from asr_course.models.layers import (
    MLP,
    Features,
    ImplicitModel,
    look_up,
    on_grid,
    start_at_zero,
    unfold,
)


@dataclass(frozen=True)
class MetaSROptions:
    """Sizes; the paper has no ablation of this form."""

    hidden: tuple[int, ...] = (256,)  # widths of the network that predicts filters
    skip: bool = False  # ours, not the paper's: add the bilinearly enlarged input


SIZES = {
    "paper": MetaSROptions(),
    "laptop": MetaSROptions(hidden=(64,), skip=True),
    "tiny": MetaSROptions(hidden=(48,), skip=True),
}


def corner_codes(coord: Tensor, cell: Tensor, size: tuple[int, int]):
    """Code that holds each output pixel's upper left corner: (rows, cols, row, col).

    The last two lead from that code's own upper left corner to the output pixel's, in
    low-resolution pixels, and lie in [0, 1). Every tensor broadcasts to (B, h, w).
    """
    found = []
    for axis, pixel, n in zip(split_axes(coord), cell.T, size, strict=True):
        half = pixel[:, None, None] * (n / 4)  # half an output pixel, in LR pixels
        position = to_position(axis, n) - half  # of its upper or left edge
        index = nearest(position, n)
        found.append((index, position + 0.5 - index))
    (i, row), (j, col) = found
    return i, j, row, col


class MetaSR(ImplicitModel):
    """Filters predicted from position and scale."""

    def __init__(self, encoder: nn.Module, options: MetaSROptions):
        super().__init__(encoder, options)
        self.mlp = MLP(3, options.hidden, outputs=9 * encoder.channels * 3)
        if options.skip:
            start_at_zero(self.mlp.layers[-1])

    @property
    def radius(self) -> int:
        return self.encoder.radius + 1  # unfolding

    def places(self, features: Features, coord: Tensor, cell: Tensor):
        """Indices of the codes, and what the filter network is told (B, h, w, 3)."""
        H, W = features.latent.shape[-2:]
        i, j, row, col = corner_codes(coord, cell, (H, W))
        one_over_s = (cell[:, :1] * H / 2)[:, None]  # of the rows, as the code has it
        place = [x.expand(coord.shape[:3]) for x in (row, col, one_over_s)]
        return i, j, torch.stack(place, dim=-1)

    def predict_plain(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """As printed: predict 9 C x 3 weights for every query, then apply them."""
        i, j, place = self.places(features, coord, cell)
        z = look_up(unfold(features.latent).movedim(1, -1), i, j)  # (B, h, w, 9C)
        filters = self.mlp(place).unflatten(-1, (-1, 3))  # (B, h, w, 9C, 3)
        return torch.einsum("bhwz,bhwzc->bhwc", z.expand(*place.shape[:3], -1), filters)

    def content(self, latent: Tensor) -> Tensor:
        """z applied to the last layer instead, once per code: (B, H, W, 3 (D + 1)).

        z . (V_1 h + c_1) = (z . V_1) h + z . c_1 for any hidden features h. The two
        brackets need no query, and are 3 (D + 1) numbers where z has 9 C.
        """
        last = self.mlp.layers[-1]
        V_1 = torch.cat([last.weight, last.bias[:, None]], dim=1)  # (9C * 3, D + 1)
        V_1 = V_1.unflatten(0, (-1, 3)).permute(1, 2, 0)  # (3, D + 1, 9C)
        return on_grid(latent, V_1.flatten(0, 1))

    def predict(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """The same sums in another order: (B, h, w, 3), normalised."""
        i, j, place = self.places(features, coord, cell)
        x = place
        for layer in self.mlp.layers[:-1]:
            x = layer(x).relu()  # (B, h, w, D)
        matrix = look_up(features.content, i, j).unflatten(-1, (3, -1))
        weight, bias = matrix[..., :-1], matrix[..., -1]  # (B, h, w, 3, D), (.., 3)
        return (weight @ x[..., None])[..., 0] + bias
