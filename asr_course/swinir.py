"""SwinIR without its tail: an encoder with self-attention in windows of pixels.

Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCV Workshops 2021,
as LTE's authors use it: a convolution to 64 channels in place of the tail.

    x <- x + attention(norm(x)),   x <- x + MLP(norm(x))            a block
    x <- x + conv(block(... block(x)))                              a group of blocks

Within a window all pixels attend to each other; every second block has its windows
moved by half a window (Liu et al., "Swin Transformer", ICCV 2021). Stochastic depth, a
matter of training, is left out. Letters: B batch, C channels, H W rows and columns,
w window, n windows, N = w w pixels of a window, h heads, d = C / h.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mirror(x: Tensor, window: int) -> Tensor:
    """(B, C, H, W) continued by its mirror image (to and fro) up to whole windows."""
    for dim in (-2, -1):
        size = x.shape[dim]
        index = torch.arange(-(-size // window) * window, device=x.device)
        index = index % max(2 * size - 2, 1)  # there and back again
        x = x.index_select(dim, torch.minimum(index, 2 * size - 2 - index))
    return x


def to_windows(x: Tensor, w: int) -> Tensor:
    """Cut from left to right and downwards: (B, H, W, C) -> (B, n, N, C)."""
    x = x.unflatten(2, (-1, w)).unflatten(1, (-1, w))  # (B, H/w, w, W/w, w, C)
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class WindowAttention(nn.Module):
    """Self-attention in each window, with a bias for each step between two pixels."""

    def __init__(self, channels: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        row, col = torch.arange(window**2) // window, torch.arange(window**2) % window
        down, right = row[:, None] - row, col[:, None] - col  # (N, N), 1 - w..w - 1
        steps = (down + window - 1) * (2 * window - 1) + right + window - 1
        self.register_buffer("steps", steps, persistent=False)  # of `bias`

    def mask(self, size: Sequence[int], device) -> Tensor:
        """True for pixels from opposite sides of the picture, which meet in a moved
        window but must not attend to each other: (n, 1, N, N)."""
        rows, cols = (torch.arange(n, device=device) >= n - self.shift for n in size)
        side = 2 * rows[:, None] + cols  # (H, W), one number for each of four parts
        side = to_windows(side[None, ..., None], self.window)[0, ..., 0]  # (n, N)
        return (side[:, :, None] != side[:, None, :])[:, None]

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C), whole windows
        size, shift, w = x.shape[1:3], self.shift, self.window
        windows = to_windows(x.roll((-shift, -shift), (1, 2)), w)
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1))  # (B, n, N, 3, h, d)
        q, k, v = qkv.transpose(2, 4).unbind(3)  # (B, n, h, N, d) each
        bias = self.bias[self.steps].movedim(-1, 0)  # (h, N, N)
        if shift:
            bias = bias.masked_fill(self.mask(size, x.device), -torch.inf)  # (n, ...)
        attn = F.scaled_dot_product_attention(q, k, v, bias)  # (B, n, h, N, d)
        x = self.out(attn.transpose(2, 3).flatten(-2))  # (B, n, N, C)
        x = x.unflatten(2, (w, w)).unflatten(1, (-1, size[1] // w))  # windows to rows
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, H, W, C)
        return x.roll((shift, shift), (1, 2))


class Block(nn.Module):
    """Attention, then an MLP for every pixel by itself, each added to its input."""

    def __init__(self, channels: int, hidden: int, heads: int, window: int, shift: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window, shift)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Group(nn.Module):
    """Blocks and a convolution, added to their input ("RSTB" in the paper)."""

    def __init__(self, depth: int, channels: int, hidden: int, heads: int, window: int):
        super().__init__()
        shifts = [window // 2 * (k % 2) for k in range(depth)]
        blocks = [Block(channels, hidden, heads, window, shift) for shift in shifts]
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        return x + self.last(self.blocks(x).movedim(-1, 1)).movedim(1, -1)


class SwinIR(nn.Module):
    """SwinIR without its tail; the defaults are those of LTE's official code.

    width: channels inside; channels: of a latent code. depths: blocks of each group.
    """

    def __init__(
        self, width=180, depths=(6,) * 6, heads=6, window=8, hidden=360, channels=64
    ):
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        groups = [Group(depth, width, hidden, heads, window) for depth in depths]
        self.groups = nn.Sequential(*groups)
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.project = nn.Conv2d(width, channels, 3, padding=1)
        self.window, self.channels = window, channels
        self.radius = reach(depths, window)
        self.align = window  # of a part: its windows must be those of the whole
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, channels, H, W)
        H, W = x.shape[-2:]
        x = self.head(mirror(x, self.window))
        deep = self.norm2(self.groups(self.norm1(x.movedim(1, -1))))
        x = x + self.last(deep.movedim(-1, 1))
        return F.leaky_relu(self.project(x), 0.01)[..., :H, :W]


def reach(depths: Sequence[int], window: int) -> int:
    """How many pixels away a latent code can still see, along one axis: followed
    backwards, a convolution adds a pixel on each side, attention completes windows."""
    farthest = 0
    for pixel in range(window):
        first, last = pixel - 2, pixel + 2  # `project` and `last`
        for depth in reversed(depths):
            first, last = first - 1, last + 1  # the group's convolution
            for k in reversed(range(depth)):
                shift = window // 2 * (k % 2)
                first = (first - shift) // window * window + shift
                last = (last - shift) // window * window + shift + window - 1
        farthest = max(farthest, pixel - first, last - pixel)
    return farthest + 1  # `head`
