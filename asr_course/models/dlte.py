"""DLTE: DIIF with the waves of LTE in place of latent codes.

He and Jin 2023 (see `diif`), section 4.3, which gives no equations; read from its
parameter and multiplication counts:

    A, F = two 3 x 3 convolutions of the latent codes                once per code
    f_e  = pi (F_e . 2 (x_e - v_t) + phase(2 / s)_e),   e = first, last
    H_t  = coarse(A_t * [cos f_first, cos f_last, sin f_first, sin f_last])

A corner t takes the amplitudes A and frequencies F of the 2 x 2 codes around it; half
of its frequency pairs belong to the slice's first pixel, half to the last. The rest is
DIIF's. Letters: B batch, C channels, H W low-resolution grid, S slices, D features.
"""

from dataclasses import dataclass
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.encoders import conv
from asr_course.errors import UserError
from asr_course.layers import look_up
from asr_course.models.diif import DIIF, DIIFOptions
from asr_course.models.slices import Slices


@dataclass(frozen=True)
class DLTEOptions(DIIFOptions):
    """DIIF's options; the slice ensemble is part of the method, and so is the skip."""

    skip: bool = True

    def __post_init__(self):
        super().__post_init__()
        if not self.slice_ensemble:
            raise UserError("dlte needs slice_ensemble=True")


class DLTE(DIIF):
    """Dynamic local texture estimator."""

    name = "dlte"
    Options = DLTEOptions
    SIZES = {
        "paper": DLTEOptions(),
        "laptop": DLTEOptions(coarse=(64, 64), fine=(64, 64)),
        "tiny": DLTEOptions(coarse=(48, 48), fine=(48, 48)),
    }
    ABLATIONS = {}

    def __init__(self, encoder: nn.Module, options: DLTEOptions):
        super().__init__(encoder, options)
        C = encoder.channels
        self.amplitude = conv(C, C)
        self.frequency = conv(C, C)
        self.phase = nn.Linear(2, 2 * C, bias=False)

    @property
    def coarse_inputs(self) -> int:
        """Cosines and sines for two ends of a slice."""
        return 4 * self.encoder.channels

    def grid_features(self, latent: Tensor) -> Tensor:
        """Amplitudes and frequencies around every corner: (B, H + 1, W + 1, 8 C)."""
        both = torch.cat([self.amplitude(latent), self.frequency(latent)], dim=1)
        B, C, H, W = both.shape
        around = F.unfold(both, kernel_size=2, padding=1)  # (B, 4 * 2C, ...)
        return around.view(B, 4 * C, H + 1, W + 1).movedim(1, -1)

    def coarse_stage(
        self, grid: Tensor, slices: Slices, pixel: Tensor, row, col, v: Tensor
    ) -> Tensor:
        """The coarse stage for one corner of every slice, from waves: (S, D)."""
        amplitude, frequency = look_up(grid, row, col, slices.batch).chunk(2, dim=-1)
        pairs = frequency.unflatten(-1, (2, -1, 2))  # (S, 2, C, 2), (row, col) last
        ends = 2 * (slices.ends - v)[:, :, None]  # (S, 2, 1, 2): first and last pixel
        angle = (pairs * ends).sum(dim=-1).flatten(1)  # (S, 2C)
        angle = pi * (angle + self.phase(pixel)[slices.batch])
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)  # (S, 4C)
        return self.coarse(amplitude * waves)
