"""DIINN: content and position in two branches that multiply, layer by layer.

Nguyen and Beksi, "Single Image Super-Resolution via a Dual Interactive Implicit
Neural Network", WACV 2023.

    m_0 = relu(W_0 z + b_0)             s_0 = m_0 sin(W'_0 p + b'_0)       (Eq. 2, 3)
    m_i = relu(W_i [s_i-1, z] + b_i)    s_i = m_i sin(W'_i s_i-1 + b'_i)   (Eq. 4, 5)

z is the latent code nearest to the query with its 3 x 3 neighbourhood, p the way from
that code's centre to the query and the pixel size, m_i the modulation branch and s_i
the synthesis branch; a last linear layer turns s into a colour. One code answers for
a query, and there is no ensemble.

Letters: B batch, C channels, H W low-resolution grid, h w queries, D hidden features.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from asr_course.coords import nearest, split_axes, to_position
from asr_course.errors import UserError
from asr_course.models.layers import (
    Features,
    ImplicitModel,
    look_up,
    on_grid,
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
    init_pos: bool = False  # a, c, e: weigh z by a sine of p first (Eq. 8 and 9)
    # The pixel size that the network is told: the paper says 1/s, the official code
    # gives the area of an output pixel in input pixels.
    scale_input: Literal["1/s", "area"] = "1/s"
    sine: bool = True  # ours: False puts ReLU where the synthesis branch has a sine
    skip: bool = False  # ours, not the paper's: add the bilinearly enlarged input

    def __post_init__(self):
        if not self.hidden:
            raise UserError("hidden needs at least one width, for example (64, 64)")


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


def nearest_code(coord: Tensor, size: tuple[int, int]):
    """The latent code that holds each query: (rows, cols, row offset, col offset).

    Offsets lead from the code's centre to the query, in low-resolution pixels, and
    lie in [-1/2, 1/2]. Every tensor broadcasts to (B, h, w).
    """
    rows, cols = split_axes(coord)
    rows, cols = to_position(rows, size[0]), to_position(cols, size[1])
    i, j = nearest(rows, size[0]), nearest(cols, size[1])
    return i, j, rows - i, cols - j


class DIINN(ImplicitModel):
    """Dual interactive implicit neural network."""

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
        return self.encoder.radius + 1  # unfolding

    def wave(self, x: Tensor) -> Tensor:
        """What stands between the layers of the synthesis branch."""
        return x.sin() if self.options.sine else x.relu()

    def pixel_size(self, features: Features, cell: Tensor) -> Tensor:
        """rho (B, 1): 1/s, or the area ratio 1/s^2; s is the axes' geometric mean."""
        pixel = cell * cell.new_tensor(features.lr.shape[-2:]) / 2  # (B, 2), is 1/s
        area = pixel.prod(dim=1, keepdim=True)
        return area if self.options.scale_input == "area" else area.sqrt()

    def predict_plain(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """The method as the paper writes it: (B, h, w, 3), normalised."""
        size = coord.shape[:3]
        i, j, *offset = nearest_code(coord, features.latent.shape[-2:])
        z = look_up(unfold(features.latent).movedim(1, -1), i, j)  # (B, h, w, 9C)
        z = z.expand(*size, -1)
        rho = self.pixel_size(features, cell)[:, None].expand(*size[:2], size[2])
        p = [2 * axis.expand(size) for axis in offset]
        p = torch.stack([*p, rho], dim=-1)  # (B, h, w, 3)
        if self.initial:
            p = self.initial(p).sin()  # (B, h, w, 9C)
            z = p * z
        m = self.modulation[0](z).relu()  # (B, h, w, D), so are all below
        s = m * self.wave(self.synthesis[0](p))
        for modulate, synthesise in zip(
            self.modulation[1:], self.synthesis[1:], strict=True
        ):
            seen = {"m": [m], "mz": [m, z], "sz": [s, z]}[self.options.modulation_input]
            m = modulate(torch.cat(seen, dim=-1)).relu()
            s = m * self.wave(synthesise(s))
        return self.last(s)

    def content(self, latent: Tensor) -> Tensor:
        """What the modulation branch owes to z alone, once per code: (B, H, W, sum D).

        W [s, z] = W_s s + W_z z, and W_z z + b needs no query. Where the branch never
        reads s, whole layers need none. With `init_pos` z itself depends on the query.
        """
        if self.initial:
            return super().content(latent)
        first, *rest = self.modulation
        m = on_grid(latent, first.weight, first.bias).relu()  # (B, H, W, D)
        parts = [m]
        for layer in rest:
            width = m.shape[-1]
            W_before, W_z = layer.weight[:, :width], layer.weight[:, width:]
            if self.options.modulation_input == "m":
                m = layer(m).relu()
            else:
                part = on_grid(latent, W_z, layer.bias)
                reads_m = self.options.modulation_input == "mz"
                m = (part + m @ W_before.T).relu() if reads_m else part
            parts.append(m)
        return torch.cat(parts, dim=-1)

    def branches(
        self, features: Features, coord: Tensor, cell: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Layer by layer: modulation m, sine, and their product s, (B, h, w, D) each.

        As in `predict_plain` without `init_pos`, but `content` is looked up.
        """
        i, j, row, col = nearest_code(coord, features.latent.shape[-2:])
        parts = features.content.split(self.options.hidden, dim=-1)
        first, *rest = self.synthesis
        W_row, W_col, W_rho = first.weight.T  # (D,) each
        rho = self.pixel_size(features, cell)[:, None, None]  # (B, 1, 1, 1)
        # On a regular grid both summands are small: (B, h, 1, D) and (B, 1, w, D).
        angle = 2 * row[..., None] * W_row + (rho * W_rho + first.bias)
        angle = angle + 2 * col[..., None] * W_col
        m, wave = look_up(parts[0], i, j), self.wave(angle)
        yield m, wave, (s := m * wave)
        interact = self.options.modulation_input == "sz"
        for modulate, synthesise, part in zip(
            self.modulation[1:], rest, parts[1:], strict=True
        ):
            m = look_up(part, i, j)  # (B, h, w, D), a fresh tensor
            if interact:
                W_s = modulate.weight[:, : s.shape[-1]]
                m = m.add_(s @ W_s.T).relu_()
            wave = self.wave(synthesise(s))
            yield m, wave, (s := m * wave)

    def predict(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """The last layer of the synthesis branch as a colour: (B, h, w, 3)."""
        if self.initial:
            return self.predict_plain(features, coord, cell)
        for _, _, s in self.branches(features, coord, cell):
            deepest = s
        return self.last(deepest)


def linears(inputs, outputs) -> nn.ModuleList:
    """Linear layers with the given numbers of inputs and outputs."""
    pairs = zip(inputs, outputs, strict=True)
    return nn.ModuleList([nn.Linear(a, b) for a, b in pairs])
