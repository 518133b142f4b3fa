"""LIIF: one MLP reads the nearest latent codes and answers at any coordinate.

Chen, Liu and Wang, "Learning Continuous Image Representation with Local Implicit
Image Function", CVPR 2021.

    f_t  = MLP([z_t, 2 (x - v_t), 2 / s])                  (the paper's Eq. 2 and 5)
    I(x) = sum_t  S_t / S  f_t                             (the paper's Eq. 4)

z_t are the four latent codes around the query x, each with its 3 x 3 neighbourhood
(Eq. 3), v_t their centres (in pixels here), S_t the area of the rectangle between x
and the centre diagonally opposite to v_t, and s the scale of rows and of columns.

Letters: B batch, C channels, H W low-resolution grid, h w queries, D hidden features.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import nearest, neighbours, split_axes, to_position
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
class LIIFOptions:
    """Choices of the paper; the letter is the one its ablation table uses."""

    hidden: tuple[int, ...] = (256, 256, 256, 256)  # widths; -d: (256, 256)
    local_ensemble: bool = True  # -e: False asks the nearest latent code alone
    feat_unfold: bool = True  # -u: False leaves out the 3x3 neighbourhood
    cell_decode: bool = True  # -c: False hides the pixel size from the MLP
    skip: bool = False  # ours, not the paper's: add the bilinearly enlarged input


SIZES = {
    "paper": LIIFOptions(),
    "laptop": LIIFOptions(hidden=(64, 64, 64), skip=True),
    "tiny": LIIFOptions(hidden=(48, 48), skip=True),
}

# What the paper takes away (its Table 3), and the skip, which is ours.
ABLATIONS = {
    "full": {},
    "-c": {"cell_decode": False},
    "-u": {"feat_unfold": False},
    "-e": {"local_ensemble": False},
    "-d": {"hidden": (48,)},
    "no skip": {"skip": False},
}


def corners(coord: Tensor, size: tuple[int, int], ensemble: bool):
    """The latent codes that answer a query, as (row, col, offset, share) each.

    With the local ensemble these are the four around the query; the share S_t / S of
    each is the area on the opposite side (the paper's Eq. 4). Without it, the nearest
    one. `offset` holds the row and column offsets from the centre of that latent code
    in pixels. Every tensor broadcasts to (B, h, w).
    """
    rows, cols = split_axes(coord)
    rows, cols = to_position(rows, size[0]), to_position(cols, size[1])
    if ensemble:
        row_choices = neighbours(rows, size[0])
        col_choices = neighbours(cols, size[1])
    else:
        i, j = nearest(rows, size[0]), nearest(cols, size[1])
        row_choices = [(i, rows - i, torch.ones_like(rows))]
        col_choices = [(j, cols - j, torch.ones_like(cols))]
    return [
        (i, j, (row_offset, col_offset), row_share * col_share)
        for i, row_offset, row_share in row_choices
        for j, col_offset, col_share in col_choices
    ]


class LIIF(ImplicitModel):
    """Local implicit image function."""

    def __init__(self, encoder: nn.Module, options: LIIFOptions):
        super().__init__(encoder, options)
        self.latent_size = encoder.channels * (9 if options.feat_unfold else 1)
        inputs = self.latent_size + 2 + (2 if options.cell_decode else 0)
        self.mlp = MLP(inputs, options.hidden, outputs=3)
        if options.skip:
            start_at_zero(self.mlp.layers[-1])

    @property
    def radius(self) -> int:
        return self.encoder.radius + (1 if self.options.feat_unfold else 0)

    def predict_plain(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """The method as the paper writes it: (B, h, w, 3), normalised."""
        B, _, H, W = features.latent.shape
        latent = (
            unfold(features.latent) if self.options.feat_unfold else features.latent
        )
        latent = latent.movedim(1, -1)  # (B, H, W, 9C)
        size = coord.shape[:3]
        rgb = 0
        for i, j, offset, share in corners(coord, (H, W), self.options.local_ensemble):
            z = look_up(latent, i, j).expand(*size, -1)  # (B, h, w, 9C)
            offset = [2 * axis.expand(size) for axis in offset]
            inputs = [z, torch.stack(offset, dim=-1)]  # offset: (B, h, w, 2)
            if self.options.cell_decode:
                pixel = cell * cell.new_tensor([H, W])  # (B, 2), which is 2 / s
                inputs.append(pixel[:, None, None].expand(*size, 2))
            answer = self.mlp(torch.cat(inputs, dim=-1))  # (B, h, w, 3)
            rgb = rgb + share[..., None] * answer
        return rgb

    def content(self, latent: Tensor) -> Tensor:
        """The first layer's share of the latent code, once per latent: (B, H, W, D).

        The first layer is linear, so W [z, offset, cell] = W_z z + W_r [offset, cell].
        """
        first = self.mlp.layers[0]
        return on_grid(latent, first.weight[:, : self.latent_size], first.bias)

    def opinions(self, features: Features, coord: Tensor, cell: Tensor):
        """Each latent's share S_t / S (B, h, w) and answer f_t (B, h, w, 3).

        As in `predict_plain`, but with the first layer split: `content` is looked up.
        """
        _, H, W, _ = features.content.shape
        W_r = self.mlp.layers[0].weight[:, self.latent_size :]  # (D, 2 or 4)
        cell_part = 0
        if self.options.cell_decode:
            pixel = cell * cell.new_tensor([H, W])  # (B, 2), which is 2 / s
            cell_part = F.linear(pixel, W_r[:, 2:])[:, None, None]  # (B, 1, 1, D)
        for i, j, offset, share in corners(coord, (H, W), self.options.local_ensemble):
            row, col = (2 * axis[..., None] for axis in offset)
            hidden = look_up(features.content, i, j)  # (B, h, w, D), a fresh tensor
            # On a regular grid both summands are small: (B, h, 1, D) and (B, 1, w, D).
            hidden.add_(row * W_r[:, 0] + cell_part).add_(col * W_r[:, 1])
            yield share, self.mlp.after_first(hidden)

    def predict(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """The weighted sum of all opinions (the paper's Eq. 4): (B, h, w, 3)."""
        rgb = 0
        for share, answer in self.opinions(features, coord, cell):
            rgb = rgb + share[..., None] * answer
        return rgb
