"""HIIF: a position in base two, digit by digit, and attention over all queries.

Jiang, Kwan, Peng, Gao, Zhang, Zhu, Sole and Bull, "HIIF: Hierarchical Encoding based
Implicit Image Function for Continuous Super-resolution", CVPR 2025. "code" below is a
public code whose origin we do not know (hello-jinwoo/HIIF; data in tests/golden).

    digit_l = floor(2^(l+1) t) mod 2                 t: place between four latent codes
    x_0 = A_2(A_1(F_0([z_00, z_01, z_10, z_11, 2/s, digit_0])))
    x_l = F_l([x_l-1, digit_l])                      l = 1 ... L-1; the last gives RGB

A_1 and A_2 are in linear_attention.py; they need sums over all queries, which `total`
brings (see asr_course.totals).

Letters: B batch, C channels, H W low-resolution grid, h w queries, N heads, d features
of a head, L levels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import TIE, Queries, to_position
from asr_course.encoders import conv
from asr_course.errors import UserError
from asr_course.layers import (
    Features,
    ImplicitModel,
    look_up,
    relative_cell,
    start_at_zero,
)
from asr_course.models.linear_attention import LinearAttention
from asr_course.totals import present


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
    # Whose attention, see linear_attention.py. "code" also multiplies each latent code
    # by LIIF's weight S_t / S before they are set side by side; "paper" does not.
    variant: Literal["code", "paper"] = "code"
    skip: bool = True  # the paper's own: add the bilinearly enlarged input

    def __post_init__(self):
        if self.width % self.heads:
            raise UserError(f"width {self.width} is no multiple of heads, {self.heads}")


def digits(place: Tensor, levels: int) -> Tensor:
    """The first binary digits of `place` in [0, 1): (..., levels), each 0 or 1.

    At even scales some places lie exactly on the border between two digits, and
    rounding would decide. `TIE` moves them to the upper side, as `nearest` does.
    """
    power = 2.0 ** torch.arange(1, levels + 1, device=place.device)  # 2, 4, 8, ...
    return ((place + TIE).clamp(0, 1)[..., None] * power).floor() % 2


def bracket(position: Tensor, n: int):
    """The latent codes before and after a position: (index, weight) twice, and place.

    The weights sum to one, half each where both are the same border pixel. The place,
    in [0, 1) inside a picture, counts from the code before, or back from the first. (At
    the border the public code adds 1 / n, in other units: tiles would differ.)
    """
    low = (position + TIE).floor()
    before, after = low.clamp(0, n - 1).long(), (low + 1).clamp(0, n - 1).long()
    place = (position - before).clamp(max=1)
    weight = torch.where(before == after, 0.5, place.clamp(min=0))
    place = torch.where(low < 0, -position, place.clamp(min=0))
    return (before, 1 - weight), (after, weight), place


class Level(nn.Module):
    """F_l: normalisation, a hidden layer, GELU, an output layer."""

    def __init__(self, inputs: int, inner: int, outputs: int):
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.hidden, self.output = nn.Linear(inputs, inner), nn.Linear(inner, outputs)

    def forward(self, x: Tensor) -> Tensor:  # (..., inputs) -> (..., outputs)
        return self.output(F.gelu(self.hidden(self.norm(x))))


class HIIF(ImplicitModel):
    """Hierarchical encoding based implicit image function."""

    name = "hiif"
    is_nonlocal = True
    Options = HIIFOptions
    SIZES = {
        "paper": HIIFOptions(),
        "laptop": HIIFOptions(width=64, inner=64, heads=8),
        "tiny": HIIFOptions(width=32, inner=48, heads=4),
    }
    # The paper's ablations (its tables are missing from the text that we have), and
    # its attention as printed.
    ABLATIONS = {
        "full": {},
        "v1-H": {"hierarchical": False},
        "v2-MS": {"multi_scale": False},
        "v3-MH": {"attention": False},
        "as printed": {"variant": "paper"},
    }

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
        start_at_zero(self.levels[-1].output)

    @property
    def radius(self) -> int:
        return self.encoder.radius + 1  # the projection

    def grid_features(self, latent: Tensor) -> Tensor:
        """Latent codes of C channels: (B, H, W, C)."""
        return self.project(latent).movedim(1, -1)

    def codes(self, features: Features, queries: Queries, cell: Tensor):
        """Four codes and 2 / s (B, h, w, 4C + 2); the place between them (.., 2)."""
        _, H, W, _ = features.grid.shape
        *row_codes, row_place = bracket(to_position(queries.rows, H), H)
        *col_codes, col_place = bracket(to_position(queries.cols, W), W)
        z = []
        for i, row_weight in row_codes:
            for j, col_weight in col_codes:
                z.append(look_up(features.grid, i, j))  # (B, h, w, C)
                if self.options.variant == "code":
                    z[-1] = z[-1] * (row_weight * col_weight)[..., None]
        cell = relative_cell(cell, features)[:, None, None]  # (B, 1, 1, 2)
        inputs = torch.cat([*z, cell.expand(*queries.shape, 2)], dim=-1)
        return inputs, Queries(row_place, col_place).grid()

    def predict(
        self,
        features: Features,
        queries: Queries,
        cell: Tensor,
        total: Callable = present,
        own_digits: Tensor | None = None,
    ) -> Tensor:
        """(B, h, w, 3), normalised. own_digits (B, h, w, 2, L): in place of ours."""
        options = self.options
        inputs, place = self.codes(features, queries, cell)
        digit = digits(place, options.levels) if own_digits is None else own_digits
        digit = digit.unbind(-1)  # L times (B, h, w, 2)
        nothing = [place[..., :0]] * (options.levels - 1)
        if not options.hierarchical:
            at_zero, later = place, nothing
        elif not options.multi_scale:
            at_zero, later = torch.cat(digit, dim=-1), nothing
        else:
            at_zero, *later = digit
        x = self.levels[0](torch.cat([inputs, at_zero], dim=-1))  # (B, h, w, C)
        for block in self.attention:
            x = block(x, total(block.summarise, x))
        for level, digit_l in zip(self.levels[1:], later, strict=True):
            x = level(torch.cat([x, digit_l], dim=-1))
        return x

    def macs(self, latents: int, queries: int, scale: float) -> int:
        width, blocks = self.options.width, len(self.attention)
        products = blocks * 2 * width * width // self.options.heads  # k^T v, then q
        return super().macs(latents, queries, scale) + queries * products
