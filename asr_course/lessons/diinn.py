"""Exercises of notebook 2."""

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from asr_course.lessons.base import Exercise, close, require
from asr_course.coords import nearest, pixel_centres, to_position
from asr_course.models.layers import look_up
from asr_course.profile import multiplications

# diinn.1 ------------------------------------------------------------------------------


def local_offsets(n_pixels: int, n_cells: int) -> Tensor:
    """From the centre of its low-resolution pixel to each output pixel, in [-1, 1]."""
    position = to_position(pixel_centres(n_pixels), n_cells)
    return 2 * (position - nearest(position, n_cells))


def offsets_in_range(f) -> None:
    for pixels, cells in ((12, 4), (10, 4), (33, 10), (4, 4)):
        got = torch.as_tensor(f(pixels, cells))
        require(
            got.shape == (pixels,),
            f"{pixels} output pixels need {pixels} answers, not {tuple(got.shape)}",
        )
        require(
            got.abs().max() <= 1 + 1e-4,
            "a low-resolution pixel reaches from -1 to 1, and no output pixel's centre "
            f"lies outside of its own; yours go up to {got.abs().max():.2f}",
        )


def offsets_repeat(f) -> None:
    for scale in (1, 2, 3, 7):
        one = (2 * torch.arange(scale) + 1) / scale - 1
        shown = [round(x, 2) for x in one.tolist()]
        require(
            close(torch.as_tensor(f(5 * scale, 5)).float(), one.repeat(5)),
            f"at ×{scale} every low-resolution pixel sees {shown}: {scale} centres on "
            "[-1, 1]; is yours scaled, shifted or turned round?",
        )


def offsets_go_with_owners(f) -> None:
    got = torch.as_tensor(f(5, 2)).float()
    shown = [round(x, 2) for x in got.flatten().tolist()]
    require(
        close(got, torch.tensor([-0.6, 0.2, -1.0, -0.2, 0.6])),
        "at ×2.5 output pixel 2 lies exactly on the border; it belongs to the pixel "
        f"further on, so its offset is -1: you have {shown}",
    )


# diinn.2 ------------------------------------------------------------------------------


def modulate(layer: nn.Linear, s: Tensor, z: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """layer([s, z at (i, j)]) with the part of z computed once per latent code."""
    width = s.shape[-1]
    W_s, W_z = layer.weight[:, :width], layer.weight[:, width:]
    return s @ W_s.T + look_up(z @ W_z.T + layer.bias, i, j)


def modulation_case(seed: int = 0):
    """A layer, s (2, 12, 15, 8), z (2, 4, 5, 20) and rows and columns of codes."""
    random = torch.Generator().manual_seed(seed)
    layer = nn.Linear(28, 6)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    s = torch.randn(2, 12, 15, 8, generator=random)
    z = torch.randn(2, 4, 5, 20, generator=random)
    i = torch.arange(12)[None, :, None] // 3
    j = torch.arange(15)[None, None] // 3
    return layer, s, z, i, j


def modulation_is_right(f) -> None:
    for seed in (0, 1):
        layer, s, z, i, j = modulation_case(seed)
        seen = torch.cat([s, look_up(z, i, j)], dim=-1)
        got = f(layer, s, z, i, j)
        require(
            got.shape == (2, 12, 15, 6),
            f"the result has shape (2, 12, 15, 6) here, yours {tuple(got.shape)}",
        )
        require(
            close(got, layer(seen), 1e-4),
            "the result must equal layer([s, z at (i, j)]): is the bias counted once? "
            "Does s come before z? There is no ReLU here.",
        )


def modulation_is_cheap(f) -> None:
    layer, s, z, i, j = modulation_case()
    most = s.numel() * 6 + z.numel() * 6
    count = multiplications(lambda: f(layer, s, z, i, j))
    require(
        count <= most,
        f"{most:,} multiplications are enough here, yours took {count:,}: apply the "
        "part of z before you look it up, not after",
    )


# diinn.3 ------------------------------------------------------------------------------


def sine_of_grid(row: Tensor, col: Tensor, W_row: Tensor, W_col: Tensor, b: Tensor):
    """sin(row W_row + col W_col + b) on a whole grid: (h,), (w,), (D,) -> (h, w, D)."""
    down = row[:, None] * W_row + b  # (h, D)
    across = col[:, None] * W_col  # (w, D)
    return down.sin()[:, None] * across.cos() + down.cos()[:, None] * across.sin()


class CountWaves(TorchDispatchMode):
    """Counts the numbers that sin and cos are taken of."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("sin", "cos", "sin_", "cos_"):
            self.count += args[0].numel()
        return function(*args, **(kwargs or {}))


def sine_case(h: int, w: int, D: int, seed: int = 0):
    """Rows (h,), columns (w,), two weights and a bias (D,)."""
    random = torch.Generator().manual_seed(seed)
    weights = (3 * torch.randn(D, generator=random) for _ in range(3))
    return pixel_centres(h), pixel_centres(w), *weights


def sines_are_right(f) -> None:
    for h, w, D in ((5, 7, 3), (6, 4, 9)):
        row, col, W_row, W_col, b = sine_case(h, w, D)
        expected = row[:, None, None] * W_row + col[:, None] * W_col + b
        got = f(row, col, W_row, W_col, b)
        require(
            got.shape == (h, w, D),
            f"{h} rows, {w} columns and {D} features give {(h, w, D)}, "
            f"yours is {tuple(got.shape)}",
        )
        require(
            close(got, expected.sin(), 1e-4),
            "the result must equal sin(row W_row + col W_col + b): check the "
            "addition theorem's signs, that b counts once, and rows before columns",
        )


def sines_are_few(f) -> None:
    h, w, D = 30, 40, 8
    with CountWaves() as waves:
        f(*sine_case(h, w, D))
    most = 2 * (h + w) * D
    require(
        waves.count <= most,
        f"{most:,} sines and cosines are enough for {h} × {w} queries, yours took "
        f"{waves.count:,}: take them of rows and of columns, not of the grid",
    )


EXERCISES = {
    "diinn.1": Exercise(
        local_offsets,
        lambda f: f(6, 3),
        (offsets_in_range, offsets_repeat, offsets_go_with_owners),
    ),
    "diinn.2": Exercise(
        modulate,
        lambda f: f(*modulation_case()),
        (modulation_is_right, modulation_is_cheap),
    ),
    "diinn.3": Exercise(
        sine_of_grid,
        lambda f: f(*sine_case(2, 3, 1)),
        (sines_are_right, sines_are_few),
    ),
}
