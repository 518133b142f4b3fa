"""SwinIR without its tail: an encoder whose pixels hear from each other in windows.

Liang, Cao, Sun, Zhang, Van Gool and Timofte, "SwinIR: Image Restoration Using Swin
Transformer", ICCV Workshops 2021, in the form in which LTE's authors use it: instead of
the tail, a last convolution to 64 channels. Windows are Swin's: Liu et al., "Swin
Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021.

    x <- x + attention(norm(x)),   x <- x + MLP(norm(x))            a block
    x <- x + conv(block(... block(x)))                              a group of blocks

Within a window all pixels attend to each other; every second block has its windows
moved by half a window. Stochastic depth, which only training knows, is left out.

Letters: B batch, C channels, H W rows and columns, w window, n windows, N = w w pixels
of a window, h heads, d = C / h.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

conv3 = partial(nn.Conv2d, kernel_size=3, padding=1)


def mirrored(x: Tensor, window: int) -> Tensor:
    """(B, C, H, W) continued below and to the right by its mirror image, up to whole
    windows. A picture smaller than its rest is mirrored to and fro."""
    for dim in (-2, -1):
        size = x.shape[dim]
        place = torch.arange(-(-size // window) * window, device=x.device)
        place = place % max(2 * size - 2, 1)  # there and back again
        x = x.index_select(dim, torch.minimum(place, 2 * size - 2 - place))
    return x


def cut(x: Tensor, w: int) -> Tensor:
    """Into windows, from left to right and downwards: (B, H, W, C) -> (B, n, N, C)."""
    x = x.unflatten(2, (-1, w)).unflatten(1, (-1, w))  # (B, H/w, w, W/w, w, C)
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def join(windows: Tensor, w: int, columns: int) -> Tensor:
    """The inverse of `cut` for so many columns: (B, n, N, C) -> (B, H, W, C)."""
    x = windows.unflatten(2, (w, w)).unflatten(1, (-1, columns // w))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def steps_between(w: int) -> Tensor:
    """A number for the step from pixel to pixel of a window: (N, N), 0..(2w - 1)^2 - 1.

    Pairs with the same step in rows and in columns have the same number.
    """
    row, col = torch.arange(w).repeat_interleave(w), torch.arange(w).repeat(w)
    down, right = row[:, None] - row, col[:, None] - col  # -(w - 1)..w - 1
    return (down + w - 1) * (2 * w - 1) + right + w - 1


class WindowAttention(nn.Module):
    """Every pixel asks all pixels of its window; a bias for each step between two."""

    def __init__(self, channels: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("steps", steps_between(window), persistent=False)

    def apart(self, size: Sequence[int], device) -> Tensor:
        """Which pixels of a window do not hear each other: (n, 1, N, N).

        Moved windows run over the border and take in the opposite side of the picture,
        which is no neighbour.
        """
        rows, cols = (torch.arange(n, device=device) >= n - self.shift for n in size)
        side = 2 * rows[:, None] + cols  # (H, W), one number for each of four parts
        side = cut(side[None, ..., None], self.window)[0, ..., 0]  # (n, N)
        return (side[:, :, None] != side[:, None, :])[:, None]

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C), whole windows
        size, shift = x.shape[1:3], self.shift
        windows = cut(x.roll((-shift, -shift), (1, 2)), self.window)
        # Each of q, k, v is (B, n, h, N, d).
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        q, k, v = q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)
        match = q * q.shape[-1] ** -0.5 @ k.mT  # (B, n, h, N, N)
        match = match + self.bias[self.steps].movedim(-1, 0)
        if shift:
            match = match.masked_fill(self.apart(size, x.device), -torch.inf)
        answer = (match.softmax(-1) @ v).transpose(2, 3).flatten(-2)  # (B, n, N, C)
        return join(self.out(answer), self.window, size[1]).roll((shift, shift), (1, 2))


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
        self.blocks = nn.Sequential(
            *[Block(channels, hidden, heads, window, shift) for shift in shifts]
        )
        self.last = conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        return x + self.last(self.blocks(x).movedim(-1, 1)).movedim(1, -1)


class SwinIR(nn.Module):
    """SwinIR without its tail; the defaults are those of LTE's official code.

    width: channels inside; channels: of a latent code. depths: blocks of each group.
    The input is continued by its mirror image up to whole windows, and the answer cut
    back to the input's size.
    """

    def __init__(
        self,
        width: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        heads: int = 6,
        window: int = 8,
        hidden: int = 360,
        channels: int = 64,
    ):
        super().__init__()
        self.head = conv3(3, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.groups = nn.Sequential(
            *[Group(depth, width, hidden, heads, window) for depth in depths]
        )
        self.last = conv3(width, width)
        self.project = conv3(width, channels)
        self.window, self.channels, self.radius = (
            window,
            channels,
            reach(depths, window),
        )
        self.align = window  # windows are counted from the first row and column
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, channels, H, W)
        H, W = x.shape[-2:]
        x = self.head(mirrored(x, self.window))
        deep = self.norm2(self.groups(self.norm1(x.movedim(1, -1))))
        x = x + self.last(deep.movedim(-1, 1))
        return F.leaky_relu(self.project(x), 0.01)[..., :H, :W]


def reach(depths: Sequence[int], window: int) -> int:
    """How many pixels away a latent code can still see, along one axis.

    Followed backwards from each pixel of a window: a convolution sees one pixel more
    on each side, attention the whole of every window that it touches.
    """
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
