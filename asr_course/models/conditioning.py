"""What IDM's U-Net knows about the low-resolution picture: features at every depth.

    f_i = out_i(x_i),   x_i = down_i(blur(x_{i-1}))             (IDM's Eq. 4)
    [a_i, b_i] = normalised(linear_i(s)),   a_i^2 + b_i^2 = 1   (Eq. 5 to 7)

x_0 is the enlarged low-resolution picture, s the scale. Letters: B batch, C channels,
h w output, n_i m_i the same, halved i times.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Condition(NamedTuple):
    """All that a denoising step knows besides y_t and its noise level."""

    enlarged: Tensor  # (B, 3, h, w) f_0, the input of the U-Net beside y_t
    features: tuple[Tensor, ...]  # f_1, f_2, ...: (B, C_i, n_i, m_i)
    mix: tuple[tuple[Tensor, Tensor], ...]  # a_i and b_i, (C_i, 1, 1) each


class EqualisedConv(nn.Conv2d):
    """A 3x3 convolution whose weights start near 1 and are divided by sqrt(inputs)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(inputs, outputs, 3, stride, padding=1)
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / math.sqrt(self.weight[0].numel())
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the size of its input."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def blur(x: Tensor) -> Tensor:
    """Filter with the outer product of [1, 3, 1] / 5: the paper's bilinear filter."""
    taps = x.new_tensor([1, 3, 1]) / 5
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


class ConditioningNetwork(nn.Module):
    """f_1, f_2, ...: the low-resolution picture at every depth of the U-Net (Eq. 4)."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        self.first = EqualisedConv(3, widths[0])
        before = (widths[0], *widths[:-1])  # a step down keeps the width above it
        self.down = nn.ModuleList(EqualisedConv(*pair, 2) for pair in pairwise(before))
        self.out = nn.ModuleList(EqualisedConv(*pair) for pair in pairwise(widths))

    def forward(self, enlarged: Tensor) -> tuple[Tensor, ...]:
        x = leaky(self.first(enlarged))  # (B, C_0, h, w)
        features = []
        for down, out in zip(self.down, self.out, strict=True):
            x = leaky(down(blur(x)))  # (B, C_{i-1}, n_i, m_i)
            features.append(out(x))
        return tuple(features)


class ScaleMix(nn.Module):
    """a and b of one depth, for every channel, from the scale (Eq. 5 to 7)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Linear(1, 2 * channels)
        nn.init.ones_(self.alpha.bias)

    def forward(self, scale: Tensor, absolute: bool) -> tuple[Tensor, Tensor]:
        """scale (1,) -> a and b, (C, 1, 1) each."""
        alpha = self.alpha(scale).view(2, -1, 1, 1)
        alpha = alpha / (alpha.square().sum(0) + 1e-8).sqrt()
        return tuple(alpha.abs() if absolute else alpha)
