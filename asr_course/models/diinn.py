"""DIINN: content and position in two branches that multiply, layer by layer.

Nguyen and Beksi, "Single Image Super-Resolution via a Dual Interactive Implicit
Neural Network", WACV 2023.

    m_0 = relu(W_0 z + b_0)             s_0 = m_0 sin(W'_0 p + b'_0)       (Eq. 2, 3)
    m_i = relu(W_i [s_i-1, z] + b_i)    s_i = m_i sin(W'_i s_i-1 + b'_i)   (Eq. 4, 5)

z is the latent code nearest to the query with its 3 x 3 neighbourhood, p the offset
from that code's centre to the query and the pixel size, m_i the modulation branch and
s_i the synthesis branch; a last linear layer turns s into a colour. One code answers
a query, and there is no ensemble.

Why it is fast: W [s, z] = W_s s + W_z z, and W_z z + b needs no query. Where the branch
never reads s, whole layers need none. With `init_pos` z itself depends on the query.

Letters: B batch, C channels, H W low-resolution grid, h w queries, D hidden features.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import Queries, nearest_code
from asr_course.layers import (
    Features,
    ImplicitModel,
    look_up,
    on_grid,
    relative_cell,
    start_at_zero,
    unfold,
)


@dataclass(frozen=True)
class DIINNOptions:
    """Choices of the paper; its Table 5 calls the six variants (a) to (f)."""

    hidden: tuple[int, ...] = (256, 256, 256, 256)  # widths, alike in both branches
    # What modulation layer i reads: "m" m_i-1 (a, b: Eq. 6), "mz" m_i-1 and z
    # (c, d: Eq. 7), "sz" s_i-1 and z (e, f: Eq. 4).
    modulation_input: Literal["m", "mz", "sz"] = "sz"
    init_pos: bool = False  # a, c, e: multiply z by a sine of p first (Eq. 8 and 9)
    # The pixel size that the network is given: the paper says 1/s, the official code
    # takes the area of an output pixel in input pixels.
    scale_input: Literal["1/s", "area"] = "1/s"
    sine: bool = True  # ours: False puts ReLU where the synthesis branch has a sine
    skip: bool = False  # ours, not the paper's: add the bilinearly enlarged input


class DIINN(ImplicitModel):
    """Dual interactive implicit neural network."""

    name = "diinn"
    Options = DIINNOptions
    SIZES = {
        "paper": DIINNOptions(),
        "laptop": DIINNOptions(hidden=(64, 64, 64), skip=True),
        "tiny": DIINNOptions(hidden=(48, 48, 48), skip=True),
    }
    # The paper's Table 5, and two that are ours.
    ABLATIONS = {
        "(f)": {},
        "(e)": {"init_pos": True},
        "(d)": {"modulation_input": "mz"},
        "(c)": {"modulation_input": "mz", "init_pos": True},
        "(b)": {"modulation_input": "m"},
        "(a)": {"modulation_input": "m", "init_pos": True},
        "area": {"scale_input": "area"},
        "no sine": {"sine": False},
    }

    def __init__(self, encoder: nn.Module, options: DIINNOptions):
        super().__init__(encoder, options)
        z_size = 9 * encoder.channels
        widths = options.hidden
        again = 0 if options.modulation_input == "m" else z_size
        inputs = [z_size, *(width + again for width in widths[:-1])]
        self.modulation = linears(inputs, widths)
        self.synthesis = linears(
            [z_size if options.init_pos else 3, *widths[:-1]], widths
        )
        self.initial = nn.Linear(3, z_size) if options.init_pos else None
        self.last = nn.Linear(widths[-1], 3)
        if options.skip:
            start_at_zero(self.last)

    @property
    def radius(self) -> int:
        return self.encoder.radius + 1  # the 3 x 3 neighbourhood

    def activation(self, x: Tensor) -> Tensor:
        """What stands between the layers of the synthesis branch."""
        return x.sin() if self.options.sine else x.relu()

    def pixel_size(self, features: Features, cell: Tensor) -> Tensor:
        """rho (B, 1): 1/s, or the area ratio 1/s^2; s is the axes' geometric mean."""
        area = (relative_cell(cell, features) / 2).prod(dim=1, keepdim=True)
        return area if self.options.scale_input == "area" else area.sqrt()

    def modulations(self, linear: Callable) -> list[Tensor]:
        """The part of each modulation layer that depends on z alone, (..., D) each.

        linear(weight, bias): z mapped by these.
        """
        first, *rest = self.modulation
        m = linear(first.weight, first.bias).relu()
        parts = [m]
        for layer in rest:
            W_before = layer.weight[:, : m.shape[-1]]  # of s or m, of the layer before
            W_z = layer.weight[:, m.shape[-1] :]
            if self.options.modulation_input == "m":
                m = layer(m).relu()
            elif self.options.modulation_input == "mz":
                m = (linear(W_z, layer.bias) + m @ W_before.T).relu()
            else:
                m = linear(W_z, layer.bias)  # W_s s and ReLU follow, query by query
            parts.append(m)
        return parts

    def grid_features(self, latent: Tensor) -> Tensor:
        """All `modulations` of a code: (B, H, W, sum D). With `init_pos`: z."""
        if self.initial:
            return unfold(latent).movedim(1, -1)  # (B, H, W, 9C)
        return torch.cat(self.modulations(partial(on_grid, latent)), dim=-1)

    def branches(
        self, features: Features, queries: Queries, cell: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Layer by layer m_i, the sine, and their product s_i: (B, h, w, D) each."""
        code = nearest_code(queries, features.grid.shape[1:3])
        row, col = 2 * code.row_offset[..., None], 2 * code.col_offset[..., None]
        rho = self.pixel_size(features, cell)[:, None, None]  # (B, 1, 1, 1)
        first, *rest = self.synthesis
        before = self.initial or first
        W_row, W_col, W_rho = before.weight.T  # (D,) each
        # On a regular grid both summands are small: (B, h, 1, D) and (B, 1, w, D).
        angle = row * W_row + (rho * W_rho + before.bias) + col * W_col
        if self.initial:
            p = angle.sin()  # (B, h, w, 9C), Eq. 8 and 9
            z = p * look_up(features.grid, code.row, code.col)
            angle, parts = first(p), iter(self.modulations(partial(F.linear, z)))
        else:
            grids = features.grid.split(self.options.hidden, dim=-1)
            parts = (look_up(grid, code.row, code.col) for grid in grids)
        m, wave = next(parts), self.activation(angle)
        s = m * wave
        yield m, wave, s
        for modulate, synthesise, m in zip(
            self.modulation[1:], rest, parts, strict=True
        ):
            if self.options.modulation_input == "sz":
                W_s = modulate.weight[:, : s.shape[-1]]
                m = m.add_(s @ W_s.T).relu_()
            wave = self.activation(synthesise(s))
            s = m * wave
            yield m, wave, s

    def predict(self, features: Features, queries: Queries, cell: Tensor) -> Tensor:
        """The last layer of the synthesis branch as a colour: (B, h, w, 3)."""
        *_, (_, _, s) = self.branches(features, queries, cell)
        return self.last(s)


def linears(inputs, outputs) -> nn.ModuleList:
    """Linear layers with the given numbers of inputs and outputs."""
    pairs = zip(inputs, outputs, strict=True)
    return nn.ModuleList([nn.Linear(a, b) for a, b in pairs])
