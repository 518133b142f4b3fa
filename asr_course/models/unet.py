"""The U-Net of IDM, which enlarges with implicit functions.

    h_i = a_i f_i + b_i u_i                                             (IDM's Eq. 8)
    u_{i-1}(x) = MLP([h_i at the centre v nearest to x, 2 (x - v)])     (Eq. 9)

u_i are the features of the U-Net's decoder at depth i; f_i, those of the low-resolution
picture, and the weights a_i and b_i come from `conditioning`. Letters: B batch,
C channels, h w output, T length of a noise level's embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import Queries, nearest_code, pixel_centres
from asr_course.encoders import conv
from asr_course.layers import MLP, look_up
from asr_course.models.conditioning import Condition, leaky


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
        attn = F.scaled_dot_product_attention(*qkv[:, None].chunk(3, dim=-1))
        return x + self.out(attn[:, 0].transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """A residual block that adds the noise level's embedding; perhaps attention."""

    def __init__(self, inputs: int, channels: int, options, attention: bool):
        super().__init__()
        groups = options.groups
        self.norm1, self.norm2 = (nn.GroupNorm(groups, n) for n in (inputs, channels))
        self.conv1, self.conv2 = conv(inputs, channels), conv(channels, channels)
        self.level = nn.Linear(options.widths[0], channels)
        self.dropout = nn.Dropout(options.dropout)
        same = inputs == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, channels, 1)
        self.attention = Attention(channels, groups) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # (B, C, h, w), (B, T)
        y = self.conv1(F.silu(self.norm1(x))) + self.level(embedding)[..., None, None]
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        return self.attention(y + self.shortcut(x))


class ImplicitUp(nn.Module):
    """A feature map at any other size: an MLP of the nearest feature (Eq. 9)."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))  # of Eq. 8
        self.mlp = MLP(channels + 2, (hidden,), channels)

    def forward(self, h: Tensor, size: tuple[int, int], activation=True) -> Tensor:
        """h (B, C, h, w) -> (B, C, *size). W [h, x - v] = W_h h + W_x (x - v)."""
        first, second = self.mlp.layers
        rows, cols = (pixel_centres(n).to(h.device) for n in size)
        queries = Queries(rows[None, :, None], cols[None, None])
        i, j, down, right, _ = nearest_code(queries, h.shape[2:])
        x = F.linear(h.movedim(1, -1), first.weight[:, :-2], first.bias)
        x = look_up(x, i, j)  # (B, *size, D)
        x = x + 2 * down[..., None] * first.weight[:, -2]
        x = x + 2 * right[..., None] * first.weight[:, -1]
        return second(x.relu() if activation else x).movedim(-1, 1)


class UNet(nn.Module):
    """From y_t, its noise level and the condition to the target (IDM's Figure 3)."""

    def __init__(self, options):  # IDMOptions
        super().__init__()
        widths, T = options.widths, options.widths[0]
        self.embed = nn.Sequential(nn.Linear(T, 4 * T), nn.SiLU(), nn.Linear(4 * T, T))
        self.first = conv(6, widths[0])
        self.downs = nn.ModuleList()  # blocks and, between depths, a convolution
        kept, channels = [widths[0]], widths[0]  # widths of what the way up will read
        for depth, width in enumerate(widths):
            attention = depth in options.attention
            for _ in range(options.blocks):
                self.downs.append(Block(channels, width, options, attention))
                channels = width
                kept.append(width)
            if depth + 1 < len(widths):
                self.downs.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        middle = [Block(channels, channels, options, on) for on in (True, False)]
        self.middle = nn.ModuleList(middle)
        self.ups = nn.ModuleList()
        for depth, width in reversed(list(enumerate(widths))):
            attention = depth in options.attention
            for _ in range(options.blocks + 1):
                inputs = channels + kept.pop()
                self.ups.append(Block(inputs, width, options, attention))
                channels = width
            if depth:
                self.ups.append(ImplicitUp(width, options.hidden))
        self.norm = nn.GroupNorm(options.groups, channels)
        self.last = conv(channels, 3)

    def forward(self, y: Tensor, level: Tensor, condition: Condition, activation: bool):
        """y (B, 3, h, w), level (B,) -> (B, 3, h, w)."""
        given = list(zip(condition.features, condition.mix, strict=True))  # by depth
        embedding = self.embed(noise_embedding(level, self.first.out_channels))
        x = self.first(torch.cat([condition.enlarged, y], dim=1))
        skips = [x]
        for layer in self.downs:
            x = layer(x, embedding) if isinstance(layer, Block) else layer(x)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, embedding)
        for layer in self.ups:
            if isinstance(layer, Block):
                x = layer(torch.cat([x, skips.pop()], dim=1), embedding)
                continue
            if given:
                f, (a, b) = given.pop()
                x = a * f + b * x  # Eq. 8
            x = layer(leaky(x + layer.bias), skips[-1].shape[2:], activation)
        return self.last(F.silu(self.norm(x)))
