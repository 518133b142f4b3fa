"""LTE: latent codes become frequencies and amplitudes of sines.

Lee and Jin, "Local Texture Estimator for Implicit Representation Function", CVPR 2022.

    angle_t = pi (F_t . 2 (x - v_t) + phase(2 / s))
    f_t  = MLP(A_t * [cos(angle_t), sin(angle_t)])
    I(x) = bilinear(x) + sum_t S_t / S  f_t

Two convolutions turn the latent grid into amplitudes A and pairs of frequencies F;
v_t, S_t and s are LIIF's. The method's own numbers include the bilinear skip.

Letters: B batch, C channels, H W low-resolution grid, h w queries, D hidden features.
"""

from dataclasses import dataclass
from math import pi
from typing import Literal

import torch
from torch import Tensor, nn

from asr_course.coords import Queries, corners
from asr_course.encoders import conv
from asr_course.layers import MLP, Features, ImplicitModel, look_up, relative_cell


@dataclass(frozen=True)
class LTEOptions:
    """Sizes, and two choices of the official code that are easy to miss."""

    hidden: tuple[int, ...] = (256, 256, 256)  # widths, the first that of the waves
    # Where the row and the column frequency of wave k stand among D channels: at
    # 2 k and 2 k + 1 ("lte") or at k and D / 2 + k ("lte-fast").
    pairing: Literal["interleaved", "halves"] = "interleaved"
    # Above ×4, give the network the pixel size of ×4, the largest it was trained on.
    freeze_cell: bool = True
    skip: bool = True  # the paper's own


class LTE(ImplicitModel):
    """Local texture estimator."""

    name = "lte"
    Options = LTEOptions
    SIZES = {
        "paper": LTEOptions(),
        "laptop": LTEOptions(hidden=(64, 64, 64)),
        "tiny": LTEOptions(hidden=(48, 48)),
    }

    def __init__(self, encoder: nn.Module, options: LTEOptions):
        super().__init__(encoder, options)
        waves = options.hidden[0]
        self.amplitude = conv(encoder.channels, waves)
        self.frequency = conv(encoder.channels, waves)
        self.phase = nn.Linear(2, waves // 2, bias=False)
        self.mlp = MLP(waves, options.hidden, outputs=3)

    @property
    def radius(self) -> int:
        return self.encoder.radius + 1  # the two convolutions

    def grid_features(self, latent: Tensor) -> Tensor:
        """Amplitudes and frequencies of every latent code: (B, H, W, 2 D)."""
        both = [self.amplitude(latent), self.frequency(latent)]
        return torch.cat(both, dim=1).movedim(1, -1)

    def predict(self, features: Features, queries: Queries, cell: Tensor) -> Tensor:
        """The weighted sum of four colours, without the skip: (B, h, w, 3)."""
        cell = relative_cell(cell, features)  # (B, 2), which is 2 / s
        if self.options.freeze_cell:
            cell = cell.clamp(min=2 / 4)
        phase = self.phase(cell)[:, None, None]  # (B, 1, 1, D / 2)
        rgb = 0
        for code in corners(queries, features.grid.shape[1:3]):
            A_t, F_t = look_up(features.grid, code.row, code.col).chunk(2, dim=-1)
            if self.options.pairing == "halves":
                F_row, F_col = F_t.chunk(2, dim=-1)  # (B, h, w, D / 2)
            else:
                F_row, F_col = F_t[..., ::2], F_t[..., 1::2]
            row, col = code.row_offset[..., None], code.col_offset[..., None]
            angle = pi * (2 * (row * F_row + col * F_col) + phase)
            waves = torch.cat([angle.cos(), angle.sin()], dim=-1)  # (B, h, w, D)
            rgb = rgb + code.weight[..., None] * self.mlp(A_t * waves)
        return rgb

    def times(self, part: str, latents: int, queries: int, scale: float) -> int:
        return 4 * queries
