"""Encoders: from a low-resolution picture to one latent code per pixel.

Super-resolution networks without their upsampling tail: EDSR (Lim et al., CVPR
Workshops 2017), RDN (Zhang et al., CVPR 2018) and `swinir`. Each keeps rows and columns
and has `channels`, the length of a latent code, and `radius`, how many pixels away a
latent code can still see. Letters: B batch, C channels, H W rows and columns, G growth.
"""

import torch
from torch import Tensor, nn

from asr_course.swinir import SwinIR


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps rows and columns (zero padding)."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without batch normalisation (EDSR, figure 2c)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return x + self.conv2(self.conv1(x).relu())


class EDSR(nn.Module):
    """EDSR without its tail; 16 blocks of 64 channels are "EDSR-baseline". The official
    networks also have two frozen colour shifts (24 values), which no paper here uses.
    """

    def __init__(self, blocks: int, channels: int):
        super().__init__()
        self.head = conv(3, channels)
        self.blocks = nn.Sequential(*[ResidualBlock(channels) for _ in range(blocks)])
        self.last = conv(channels, channels)
        self.channels = channels
        self.radius = 2 * blocks + 2  # one pixel for every 3x3 convolution in a row

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, C, H, W)
        x = self.head(x)
        return x + self.last(self.blocks(x))


class DenseBlock(nn.Module):
    """Residual dense block: each convolution reads all outputs before it (RDN)."""

    def __init__(self, channels: int, growth: int, layers: int):
        super().__init__()
        inputs = [channels + i * growth for i in range(layers)]
        self.convs = nn.ModuleList(conv(n, growth) for n in inputs)
        self.fuse = conv(channels + layers * growth, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        features = x
        for layer in self.convs:  # (B, C + i G, H, W)
            features = torch.cat([features, layer(features).relu()], dim=1)
        return x + self.fuse(features)


class RDN(nn.Module):
    """RDN without its tail; the defaults are configuration B of the official code."""

    def __init__(self, channels=64, growth=64, blocks=16, layers=8):
        super().__init__()
        self.shallow1 = conv(3, channels)
        self.shallow2 = conv(channels, channels)
        dense = [DenseBlock(channels, growth, layers) for _ in range(blocks)]
        self.blocks = nn.ModuleList(dense)
        self.fuse1 = conv(blocks * channels, channels, kernel=1)
        self.fuse2 = conv(channels, channels)
        self.channels = channels
        self.radius = blocks * layers + 3

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, C, H, W)
        shallow = self.shallow1(x)
        x = self.shallow2(shallow)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return shallow + self.fuse2(self.fuse1(torch.cat(outputs, dim=1)))


ENCODERS = {
    "edsr-baseline": lambda: EDSR(blocks=16, channels=64),
    "edsr-laptop": lambda: EDSR(blocks=8, channels=48),
    "edsr-tiny": lambda: EDSR(blocks=4, channels=24),
    "rdn": RDN,
    "swinir": SwinIR,
}


def encoder_name(encoder: nn.Module) -> str | None:
    """The key of ENCODERS whose tensors have these names and shapes, or None."""

    def shapes(module: nn.Module) -> dict[str, torch.Size]:
        return {key: value.shape for key, value in module.state_dict().items()}

    own = shapes(encoder)
    with torch.device("meta"):  # no memory, no random numbers
        return next((k for k, make in ENCODERS.items() if shapes(make()) == own), None)
