"""IDM: a diffusion model whose U-Net enlarges with implicit functions.

Gao, Liu, Zeng et al., "Implicit Diffusion Models for Continuous Super-Resolution",
CVPR 2023.

    h_i = a_i f_i + b_i u_i,   a_i^2 + b_i^2 = 1            (the paper's Eq. 6 to 8)
    u_{i-1}(x) = MLP([h_i at the centre v nearest to x, 2 (x - v)])     (its Eq. 9)

u_i are the features of the U-Net's decoder at depth i, f_i those of the
low-resolution picture, shrunk to the same size; the channels' weights a_i and b_i
depend on the scale. The U-Net sees the noisy picture y_t beside the enlarged
low-resolution one, and the noise level sqrt(gamma_t); `asr_course.diffusion` makes
pictures of its answers.

Letters: B batch, C channels, H W low-resolution grid, h w output, D hidden features.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import nearest, pixel_centres, to_position
from asr_course.diffusion import (
    Step,
    denoise,
    from_target,
    q_sample,
    signal,
    times,
    to_target,
)
from asr_course.encoders import conv
from asr_course.errors import UserError
from asr_course.models.layers import MLP, look_up


@dataclass(frozen=True)
class IDMOptions:
    """Choices of the paper; where its text and its code part, the text is default."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)  # channels at every depth
    blocks: int = 2  # residual blocks at a depth; one more on the way up
    attention: tuple[int, ...] = (3,)  # depths whose blocks have self-attention
    groups: int = 32  # of group normalisation
    hidden: int = 256  # width of the implicit MLPs
    dropout: float = 0.2
    largest: int = 8  # M, the largest scale of training
    # Figure 9: what the U-Net is told about the low-resolution picture
    condition: Literal["full", "concat-edsr", "concat-bicubic"] = "full"
    # Where the text and the released code part: the second word is the code's.
    activation: bool = True  # ReLU in the implicit MLP; the code has none (False)
    modulation: Literal["absolute", "signed"] = "absolute"  # of a and b, Eq. 6 and 7
    scale_input: Literal["s", "p"] = "s"  # the scale, or p = (s - 1) / (M - 1)
    resize: Literal["bilinear", "nearest"] = "bilinear"  # of the encoder's features
    # What the network is trained to say, and how noise grows.
    target: Literal["noise", "x0", "v"] = "noise"
    noise: Literal["linear", "cosine"] = "linear"
    steps: int = 2000  # T

    def __post_init__(self):
        if any(width % self.groups for width in self.widths):
            raise UserError(
                f"widths must be multiples of groups, {self.groups}: {self.widths}"
            )
        if self.largest < 2:
            raise UserError(f"largest must be 2 or more, not {self.largest}")
        if any(depth >= len(self.widths) for depth in self.attention):
            raise UserError(
                f"attention names depths 1 to {len(self.widths) - 1} of a U-Net with "
                f"{len(self.widths)} widths, not {self.attention}"
            )


LARGEST = 2**20  # pixels that are sampled at once
RELEASED = {
    "activation": False,
    "modulation": "signed",
    "scale_input": "p",
    "resize": "nearest",
}
SMALL = {"blocks": 1, "groups": 8, "hidden": 64, "dropout": 0.0, "target": "x0"}
SMALL |= {"noise": "cosine", "steps": 1000}
SIZES = {
    "paper": IDMOptions(),
    "laptop": IDMOptions(widths=(16, 32, 64, 96), attention=(3,), **SMALL),
    "tiny": IDMOptions(widths=(16, 24, 32), attention=(2,), **SMALL),
}

# What Figure 9 compares, what the code does, and what the small sizes change.
ABLATIONS = {
    "full": {},
    "concat-edsr": {"condition": "concat-edsr"},
    "concat-bicubic": {"condition": "concat-bicubic"},
    "as released": RELEASED,
    "noise": {"target": "noise"},
    "v": {"target": "v"},
    "noise, linear": {"target": "noise", "noise": "linear", "steps": 2000},
}


class Condition(NamedTuple):
    """All that a denoising step knows besides y_t and its noise level."""

    picture: Tensor  # (B, 3, h, w) f_0, which stands beside y_t
    features: tuple[Tensor, ...]  # f_1, f_2, ...: (B, C_i, h_i, w_i)
    mix: tuple[tuple[Tensor, Tensor], ...]  # a_i and b_i, (C_i, 1, 1) each


def noise_embedding(level: Tensor, size: int) -> Tensor:
    """Sines and cosines of a noise level: (B,) -> (B, size) (SR3's)."""
    rate = 1e4 ** (-torch.arange(size // 2, device=level.device) / (size // 2))
    angle = level[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Attention(nn.Module):
    """Self-attention among the places of a feature map, with one head."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, h, w)
        qkv = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)  # (B, h w, 3 C)
        heard = F.scaled_dot_product_attention(*qkv[:, None].chunk(3, dim=-1))
        return x + self.out(heard[:, 0].transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """A residual block that is told the noise level, and perhaps attention."""

    def __init__(self, inputs, channels, told, groups, dropout=0.0, attention=False):
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(groups, n) for n in (inputs, channels))
        self.conv1, self.conv2 = conv(inputs, channels), conv(channels, channels)
        self.level = nn.Linear(told, channels)
        self.dropout = nn.Dropout(dropout)
        same = inputs == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, channels, 1)
        self.attention = Attention(channels, groups) if attention else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:  # (B, C, h, w), (B, E)
        y = self.conv1(F.silu(self.norm1(x))) + self.level(told)[..., None, None]
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        return self.attention(y + self.shortcut(x))


class EqualisedConv(nn.Conv2d):
    """A 3x3 convolution with weights near 1 that are divided by sqrt(inputs), as in
    StyleGAN: every layer then learns at the same pace."""

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
    """The low-resolution picture at every depth of the U-Net (the paper's Eq. 4)."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        self.first = EqualisedConv(3, widths[0])
        before = (widths[0], *widths[:-1])  # a step down keeps the width above it
        self.down = nn.ModuleList(
            [EqualisedConv(*pair, stride=2) for pair in pairwise(before)]
        )
        self.out = nn.ModuleList([EqualisedConv(*pair) for pair in pairwise(widths)])

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        x = leaky(self.first(picture))
        features = []
        for down, out in zip(self.down, self.out, strict=True):
            x = leaky(down(blur(x)))
            features.append(out(x))
        return tuple(features)


class ScaleMix(nn.Module):
    """How much of either feature passes, channel by channel (Eq. 5 to 7)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Linear(1, 2 * channels)
        nn.init.ones_(self.alpha.bias)

    def forward(self, scale: Tensor, absolute: bool) -> tuple[Tensor, Tensor]:
        """scale (1,) -> a and b, (C, 1, 1) each."""
        alpha = self.alpha(scale).view(2, -1, 1, 1)
        alpha = alpha / (alpha.square().sum(0) + 1e-8).sqrt()
        a, b = alpha.abs() if absolute else alpha
        return a, b


class ImplicitUp(nn.Module):
    """A feature map at any other size: an MLP asks the nearest feature (Eq. 9)."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))  # of Eq. 8
        self.mlp = MLP(channels + 2, (hidden,), channels)

    def forward(self, h: Tensor, size: tuple[int, int], activation=True) -> Tensor:
        """h (B, C, h, w) -> (B, C, *size). The first layer is split as in LIIF."""
        first, second = self.mlp.layers
        x = F.linear(h.movedim(1, -1), first.weight[:, :-2], first.bias)
        index, offset = [], []
        for here, there in zip(size, h.shape[2:], strict=True):
            position = to_position(pixel_centres(here).to(h.device), there)
            index.append(nearest(position, there))
            offset.append(2 * (position - index[-1]))
        x = look_up(x, index[0][None, :, None], index[1][None, None])  # (B, *size, D)
        x = x + offset[0][:, None, None] * first.weight[:, -2]
        x = x + offset[1][:, None] * first.weight[:, -1]
        return second(x.relu() if activation else x).movedim(-1, 1)


class UNet(nn.Module):
    """Answers what is asked about y_t (the paper's Figure 3, lower part)."""

    def __init__(self, options: IDMOptions):
        super().__init__()
        widths, told = options.widths, options.widths[0]
        deepest = len(widths) - 1

        def block(inputs: int, channels: int, attention: bool) -> Block:
            return Block(
                inputs, channels, told, options.groups, options.dropout, attention
            )

        self.told = nn.Sequential(
            nn.Linear(told, 4 * told), nn.SiLU(), nn.Linear(4 * told, told)
        )
        self.first = conv(6, widths[0])
        self.downs = nn.ModuleList()  # blocks and, between depths, a convolution
        kept, channels = [widths[0]], widths[0]  # widths of what the way up will read
        for depth, width in enumerate(widths):
            for _ in range(options.blocks):
                attention = depth in options.attention
                self.downs.append(block(channels, width, attention))
                channels = width
                kept.append(width)
            if depth < deepest:
                self.downs.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.middle = nn.ModuleList([block(channels, channels, on) for on in (1, 0)])
        self.ups = nn.ModuleList()
        for depth, width in reversed(list(enumerate(widths))):
            for _ in range(options.blocks + 1):
                attention = depth in options.attention
                self.ups.append(block(channels + kept.pop(), width, attention))
                channels = width
            if depth:
                self.ups.append(ImplicitUp(width, options.hidden))
        self.norm = nn.GroupNorm(options.groups, channels)
        self.last = conv(channels, 3)

    def forward(
        self, y: Tensor, level: Tensor, given: Condition, activation: bool
    ) -> Tensor:
        """y (B, 3, h, w), level (B,) -> (B, 3, h, w)."""
        told = self.told(noise_embedding(level, self.first.out_channels))
        x = self.first(torch.cat([given.picture, y], dim=1))
        kept = [x]
        for layer in self.downs:
            x = layer(x, told) if isinstance(layer, Block) else layer(x)
            kept.append(x)
        for layer in self.middle:
            x = layer(x, told)
        depth = len(given.features)
        for layer in self.ups:
            if isinstance(layer, Block):
                x = layer(torch.cat([x, kept.pop()], dim=1), told)
                continue
            if given.features:
                depth -= 1
                a, b = given.mix[depth]
                x = a * given.features[depth] + b * x  # Eq. 8
            x = layer(leaky(x + layer.bias), kept[-1].shape[2:], activation)
        return self.last(F.silu(self.norm(x)))


class IDM(nn.Module):
    """Implicit diffusion model. Pictures are in [0, 1] outside, in [-1, 1] inside."""

    generates = True  # draws one plausible picture of many
    sums = ()

    def __init__(self, encoder: nn.Module, options: IDMOptions):
        super().__init__()
        self.options = options
        self.unet = UNet(options)
        if options.condition != "concat-bicubic":
            self.encoder = encoder
            self.to_picture = conv(encoder.channels, 3)
        if options.condition == "full":
            self.conditioning = ConditioningNetwork(options.widths)
            self.mix = nn.ModuleList([ScaleMix(n) for n in options.widths[1:]])

    @property
    def gamma(self) -> Tensor:
        """gamma_0, ..., gamma_T of its noise schedule: (T + 1,) float64."""
        return signal(self.options.noise, self.options.steps)

    def condition(self, lr: Tensor, size, scale: float | None = None) -> Condition:
        """What the U-Net hears about `lr` (B, 3, H, W) for an output of `size`.

        scale: another one than the true one, sqrt(h w / (H W)): a probe of what it
        does (the paper's Figure 8).
        """
        if lr.ndim != 4 or lr.shape[1] != 3:
            raise ValueError(f"lr must be (B, 3, H, W), not {tuple(lr.shape)}")
        options, size = self.options, tuple(size)
        lr = (lr - 0.5) / 0.5
        if options.condition == "concat-bicubic":
            return Condition(F.interpolate(lr, size, mode="bicubic"), (), ())
        latent = F.interpolate(self.encoder(lr), size, mode=options.resize)
        picture = self.to_picture(latent)
        if options.condition == "concat-edsr":
            return Condition(picture, (), ())
        if scale is not None and not scale > 0:
            raise UserError(f"scale must be a number above 0, not {scale}")
        if scale is None:
            scale = math.sqrt(size[0] * size[1] / (lr.shape[2] * lr.shape[3]))
        if options.scale_input == "p":
            scale = (scale - 1) / (options.largest - 1)
        told = lr.new_tensor([scale])
        mix = [layer(told, options.modulation == "absolute") for layer in self.mix]
        return Condition(picture, self.conditioning(picture), tuple(mix))

    def forward(self, lr: Tensor, y: Tensor, level: Tensor) -> Tensor:
        """What the network says about y (B, 3, h, w) at a level (B,)."""
        return self.ask(y, level, self.condition(lr, y.shape[2:]))

    def ask(self, y: Tensor, level: Tensor, given: Condition) -> Tensor:
        """The same, where what is heard about the small picture is at hand."""
        return self.unet(y, level, given, self.options.activation)

    def residual(self, network, sample) -> Tensor:
        """What training makes small (the paper's Eq. 10).

        t is drawn from 1 to T and the level from sqrt(gamma_{t-1}) to sqrt(gamma_t), so
        that the network meets every level and not only those of T steps.
        """
        levels = self.gamma.sqrt().to(sample.lr)
        last = self.options.steps - 1
        before = (sample.when * self.options.steps).long().clamp(max=last)  # t - 1
        rest = sample.when * self.options.steps - before
        level = torch.lerp(levels[before], levels[before + 1], rest)
        y0, wide = sample.target * 2 - 1, level[:, None, None, None]
        y = q_sample(y0, wide, sample.noise)
        asked = to_target(self.options.target, y0, sample.noise, wide)
        return network(sample.lr, y, level) - asked

    def estimate(self, y: Tensor, level: Tensor, given: Condition):
        """The picture and the noise in y, each (B, 3, h, w); level () or (B,)."""
        level = level.expand(len(y))
        answer = self.ask(y, level, given)
        return from_target(self.options.target, answer, y, level[:, None, None, None])

    @torch.no_grad()
    def chain(
        self,
        lr: Tensor,
        size: tuple[int, int],
        steps: int = 25,
        seed: int = 0,
        ancestral: bool = False,
        scale: float | None = None,
    ) -> Iterator[Step]:
        """The steps of the sampler, one after the other; see `sample`."""
        size, at = check_output(size), times(self.options.steps, steps)
        fresh = noise_source(lr, size, seed)
        given = self.condition(lr, size, scale)
        yield from denoise(
            lambda y, level: self.estimate(y, level, given),
            fresh(),
            self.gamma,
            at,
            fresh if ancestral else None,
        )

    def sample(
        self,
        lr: Tensor,
        size: tuple[int, int],
        steps: int = 25,
        seed: int = 0,
        ancestral: bool = False,
        scale: float | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Tensor:
        """Pictures (B, 3, rows, cols) in [0, 1] that could have become `lr`.

        lr: (B, 3, H, W) in [0, 1]. size: (rows, cols). steps: how many times the
        network is asked. seed: picture b of a batch is what `seed` + b alone gives.
        ancestral: add fresh noise after every step (DDPM) instead of none (DDIM).
        scale: see `condition`. UserError on a size or a number of steps that cannot be.
        """
        for step in self.chain(lr, size, steps, seed, ancestral, scale):
            if on_step:
                on_step(step)
        return (step.y * 0.5 + 0.5).clamp(0, 1)


def noise_source(lr: Tensor, size, seed: int) -> Callable[[], Tensor]:
    """Draws white noise (B, 3, *size), for every picture of `lr` from its own seed, so
    that company changes nothing."""
    draws = [torch.Generator().manual_seed(seed + b) for b in range(len(lr))]

    def fresh() -> Tensor:
        return torch.stack([torch.randn(3, *size, generator=d) for d in draws]).to(lr)

    return fresh


def check_output(size: tuple[int, int]) -> tuple[int, int]:
    """`size`; UserError unless it is two whole numbers above 0 that fit in memory."""
    pair = isinstance(size, Sequence) and len(size) == 2
    if not pair or not all(isinstance(n, Integral) and n > 0 for n in size):
        raise UserError(
            f"size must be two whole numbers above 0, rows and columns: {size!r}"
        )
    rows, cols = size
    if rows * cols > LARGEST:
        raise UserError(
            f"IDM makes a picture as a whole, {LARGEST} pixels at most; "
            f"{rows}x{cols} are more: choose a smaller output, or cut your picture"
        )
    return rows, cols
