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

from asr_course.encoders import conv
from asr_course.errors import UserError
from asr_course.models.layers import MLP, Features, ImplicitModel, look_up
from asr_course.models.liif import corners


@dataclass(frozen=True)
class LTEOptions:
    """Sizes, and two choices of the official code that are easy to miss."""

    hidden: tuple[int, ...] = (
        256,
        256,
        256,
    )  # widths; waves first
    # Where the row and the column frequency of wave k stand among D channels: at
    # 2 k and 2 k + 1 ("lte") or at k and D / 2 + k ("lte-fast").
    pairing: Literal["interleaved", "halves"] = "interleaved"
    # Above ×4, tell the network the pixel size of ×4, the largest it was trained on.
    freeze_cell: bool = True
    skip: bool = True  # the paper's own

    def __post_init__(self):
        if not self.hidden:
            raise UserError("hidden needs at least one width, for example (64, 64)")


SIZES = {
    "paper": LTEOptions(),
    "laptop": LTEOptions(hidden=(64, 64, 64)),
    "tiny": LTEOptions(hidden=(48, 48)),
}


class LTE(ImplicitModel):
    """Local texture estimator."""

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

    def content(self, latent: Tensor) -> Tensor:
        """Amplitudes and frequencies of every latent code: (B, H, W, 2 D)."""
        both = [self.amplitude(latent), self.frequency(latent)]
        return torch.cat(both, dim=1).movedim(1, -1)

    def predict(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """The weighted sum of four answers, without the skip: (B, h, w, 3)."""
        H, W = features.latent.shape[-2:]
        pixel = cell * cell.new_tensor([H, W])  # (B, 2), which is 2 / s
        if self.options.freeze_cell:
            pixel = pixel.clamp(min=2 / 4)
        phase = self.phase(pixel)[:, None, None]  # (B, 1, 1, D / 2)
        halves = self.options.pairing == "halves"
        rgb = 0
        for i, j, (row, col), share in corners(coord, (H, W), ensemble=True):
            found = look_up(features.content, i, j)  # (B, h, w, 2 D)
            amplitude, frequency = found.chunk(2, dim=-1)
            if halves:
                F_row, F_col = frequency.chunk(2, dim=-1)  # (B, h, w, D / 2)
            else:
                F_row, F_col = frequency[..., ::2], frequency[..., 1::2]
            angle = 2 * (row[..., None] * F_row + col[..., None] * F_col) + phase
            waves = torch.cat([(pi * angle).cos(), (pi * angle).sin()], dim=-1)
            rgb = rgb + share[..., None] * self.mlp(amplitude * waves)
        return rgb
