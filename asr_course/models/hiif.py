"""HIIF: a position in base two, digit by digit, and queries that hear from each other.

Jiang, Kwan, Peng, Gao, Zhang, Zhu, Sole and Bull, "HIIF: Hierarchical Encoding based
Implicit Image Function for Continuous Super-resolution", CVPR 2025. No code of the
authors' was public; "code" below is a public re-implementation (data in tests/golden).

    digit_l = floor(2^(l+1) t) mod 2                 t: place between four latent codes
    x_0 = F_0([z_00, z_01, z_10, z_11, 2/s, digit_0])
    x   = A_2(A_1(x_0))                              linear attention over all queries
    x_l = F_l([x, digit_l])                          l = 1 ... L-1; the last gives RGB

Attention without softmax needs of all queries together only a small matrix, the sum of
k^T v. It can be gathered piece by piece, so an output can be drawn in pieces of any
size without changing it: see `NonLocalModel`.

Letters: B batch, C channels, H W low-resolution grid, h w queries, N heads, d features
of a head, L levels.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import TIE, split_axes, to_position
from asr_course.encoders import conv
from asr_course.errors import UserError
from asr_course.models.layers import (
    Features,
    NonLocalModel,
    Sums,
    look_up,
    precise,
    start_at_zero,
)


@dataclass(frozen=True)
class HIIFOptions:
    """Sizes, the paper's three ablations, and whose attention."""

    width: int = 256  # C, features of a query
    inner: int = 256  # hidden features of a level
    heads: int = 16
    levels: int = 6
    hierarchical: bool = True  # v1-H: False gives level 0 the plain place instead
    multi_scale: bool = True  # v2-MS: False gives all digits to level 0
    attention: bool = True  # v3-MH: False leaves both attention blocks out
    # "code": values are k^T v / n, and layer normalisation is on k and v. "paper", its
    # Eq. 10 as printed: (k^T q) / sqrt(n), which grows with the number of queries.
    variant: Literal["code", "paper"] = "code"
    skip: bool = True  # the paper's own: add the bilinearly enlarged input

    def __post_init__(self):
        if self.width % self.heads:
            raise UserError(
                f"width must be a multiple of heads, not {self.width} and {self.heads}"
            )


SIZES = {
    "paper": HIIFOptions(),
    "laptop": HIIFOptions(width=64, inner=64, heads=8),
    "tiny": HIIFOptions(width=32, inner=48, heads=4),
}

# The paper's ablations (its tables are missing from the text that we have), and its
# attention as printed.
ABLATIONS = {
    "full": {},
    "v1-H": {"hierarchical": False},
    "v2-MS": {"multi_scale": False},
    "v3-MH": {"attention": False},
    "as printed": {"variant": "paper"},
}


def digits(place: Tensor, levels: int) -> Tensor:
    """The first binary digits of `place` in [0, 1): (..., levels), each 0 or 1.

    At whole scales places lie exactly on the border between two digits, and rounding
    would decide. `TIE` moves all of them to the upper side, as `nearest` does.
    """
    power = 2.0 ** torch.arange(1, levels + 1, device=place.device)  # 2, 4, 8, ...
    return ((place + TIE).clamp(0, 1)[..., None] * power).floor() % 2


def square(position: Tensor, n: int):
    """The latent codes before and after a position: (index, share) twice, and place.

    The shares sum to one, half each where both are the same border pixel. The place,
    in [0, 1), counts from the code before, or back from the first one. (There the
    public code adds 1 / n, a slip of units that would make tiles differ.)
    """
    low = (position + TIE).floor()
    before, after = low.clamp(0, n - 1).long(), (low + 1).clamp(0, n - 1).long()
    place = (position - before).clamp(max=1)
    share = torch.where(before == after, 0.5, place.clamp(min=0))
    place = torch.where(low < 0, -position, place.clamp(min=0))
    return (before, 1 - share), (after, share), place


class Level(nn.Module):
    """F_l: normalise, a hidden layer, GELU, an answer."""

    def __init__(self, inputs: int, inner: int, outputs: int):
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.hidden, self.answer = nn.Linear(inputs, inner), nn.Linear(inner, outputs)

    def forward(self, x: Tensor) -> Tensor:  # (..., inputs) -> (..., outputs)
        return self.answer(F.gelu(self.hidden(self.norm(x))))


@dataclass(frozen=True)
class Products(Sums):
    """What attention needs of all queries together."""

    matrix: Tensor  # (B, N, d, d) sum of k^T v, or of k^T q
    number: Tensor  # of queries


def pairs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What each query hears from each other, pair by pair: (..., n, d) three times.

    The same numbers as q (k^T v) / n, quadratic in n.
    """
    return (q @ k.transpose(-1, -2) / q.shape[-2]) @ v


class LinearAttention(nn.Module):
    """q (k^T v) over all queries, in two steps: sum k^T v, then give it to everyone."""

    def __init__(self, width: int, heads: int, variant: str):
        super().__init__()
        self.heads, self.variant = heads, variant
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_k = nn.LayerNorm(width // heads)
        self.norm_other = nn.LayerNorm(width // heads)  # of v ("code") or q ("paper")
        if variant == "code":
            self.mix1, self.mix2 = nn.Linear(width, width), nn.Linear(width, width)

    def project(self, x: Tensor, part: int) -> Tensor:
        """q, k or v (part 0, 1, 2) of queries (B, h, w, C): (B, N, h w, d)."""
        shape = (self.heads, 3, -1)  # the rows of every head: first q, then k, then v
        weight = self.qkv.weight.unflatten(0, shape)[:, part].flatten(0, 1)
        bias = self.qkv.bias.unflatten(0, shape)[:, part].flatten()
        y = F.linear(x, weight, bias).flatten(1, 2)
        return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def gather(self, x: Tensor) -> Products:
        """What queries add to the sum, float64."""
        k = self.norm_k(self.project(x, 1))
        other = self.norm_other(self.project(x, 2 if self.variant == "code" else 0))
        matrix = precise(k).transpose(-1, -2) @ precise(other)
        return Products(matrix, torch.tensor(k.shape[2], device=k.device))

    def forward(self, x: Tensor, total: Products) -> Tensor:
        """Every query hears from all: (B, h, w, C)."""
        if self.variant == "code":
            mean = total.matrix / total.number
            heard = self.project(x, 0) @ mean.to(x)  # (B, N, h w, d)
        else:
            heard = self.project(x, 2) @ (total.matrix / total.number.sqrt()).to(x)
        y = heard.transpose(1, 2).reshape(x.shape) + x
        if self.variant == "paper":
            return y
        return self.mix2(F.gelu(self.mix1(y))) + x


class HIIF(NonLocalModel):
    """Hierarchical encoding based implicit image function."""

    def __init__(self, encoder: nn.Module, options: HIIFOptions):
        super().__init__(encoder, options)
        C, L = options.width, options.levels
        self.project = conv(encoder.channels, C)
        at_zero, later = 2, 2  # digits, or the plain place
        if not options.hierarchical:
            later = 0
        elif not options.multi_scale:
            at_zero, later = 2 * L, 0
        inputs = [4 * C + 2 + at_zero] + [C + later] * (L - 1)
        outputs = [C] * (L - 1) + [3]
        self.levels = nn.ModuleList(
            [Level(a, options.inner, b) for a, b in zip(inputs, outputs, strict=True)]
        )
        blocks = 2 if options.attention else 0
        self.attention = nn.ModuleList(
            [LinearAttention(C, options.heads, options.variant) for _ in range(blocks)]
        )
        start_at_zero(self.levels[-1].answer)

    @property
    def sums(self) -> tuple[str, ...]:
        return ("queries",) * len(self.attention)

    @property
    def radius(self) -> int:
        return self.encoder.radius + 1  # the projection

    def content(self, latent: Tensor) -> Tensor:
        """Latent codes of C channels: (B, H, W, C)."""
        return self.project(latent).movedim(1, -1)

    def first(self, features: Features, coord: Tensor, cell: Tensor):
        """What level 0 reads (B, h, w, 4C + 2), and where queries are (B, h, w, 2)."""
        _, H, W, _ = features.content.shape
        size = coord.shape[:3]
        rows, cols = split_axes(coord)
        *row_codes, row_place = square(to_position(rows, H), H)
        *col_codes, col_place = square(to_position(cols, W), W)
        seen = []
        for i, row_share in row_codes:
            for j, col_share in col_codes:
                z = look_up(features.content, i, j)  # (B, h, w, C)
                if self.options.variant == "code":
                    z = z * (row_share * col_share)[..., None]
                seen.append(z)
        pixel = cell * cell.new_tensor([H, W])  # (B, 2), which is 2 / s
        seen.append(pixel[:, None, None].expand(*size, 2))
        place = [row_place.expand(size), col_place.expand(size)]
        return torch.cat(seen, dim=-1), torch.stack(place, dim=-1)

    def start(self, features, coord, cell, given: Tensor | None = None):
        """x_0 (B, h, w, C), and what each later level is told (L - 1 tensors)."""
        seen, place = self.first(features, coord, cell)
        options = self.options
        found = digits(place, options.levels) if given is None else given
        found = found.movedim(-1, 0)  # (L, B, h, w, 2)
        told = [place.new_empty(*place.shape[:3], 0)] * (options.levels - 1)
        if not options.hierarchical:
            at_zero = place
        elif not options.multi_scale:
            at_zero = torch.cat(list(found), dim=-1)
        else:
            at_zero, *told = found
        return self.levels[0](torch.cat([seen, at_zero], dim=-1)), told

    def answer(
        self,
        features: Features,
        coord: Tensor,
        cell: Tensor,
        given: Tensor | None = None,
    ) -> Generator:
        """The colours (B, h, w, 3), asking for two sums over all queries.

        given: digits (B, h, w, 2, L) in place of our own.
        """
        x, told = self.start(features, coord, cell, given)
        for block in self.attention:
            (total,) = yield [partial(block.gather, x)]
            x = block(x, total)
        for level, part in zip(self.levels[1:], told, strict=True):
            x = level(torch.cat([x, part], dim=-1))
        return x
