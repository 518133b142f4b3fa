"""Exercises of notebook 1."""

import torch
from torch import Tensor

from asr_course import coords
from asr_course.lessons.base import Exercise, close, require
from asr_course.models import layers
from asr_course.models.liif import LIIFOptions
from asr_course.render import render

# liif.1 -------------------------------------------------------------------------------


def owners(n_pixels: int, n_cells: int) -> Tensor:
    """For every output pixel, the low-resolution pixel that holds its centre."""
    i = torch.arange(n_pixels)
    return (2 * i + 1) * n_cells // (2 * n_pixels)


def owners_in_range(f) -> None:
    for pixels, cells in ((12, 4), (10, 4), (33, 10)):
        got = torch.as_tensor(f(pixels, cells))
        require(
            got.shape == (pixels,),
            f"{pixels} output pixels need {pixels} answers, not {tuple(got.shape)}",
        )
        require(not got.is_floating_point(), "the answers are indices: whole numbers")
        require(
            got.min() == 0 and got.max() == cells - 1,
            f"indices for {cells} low-resolution pixels run from 0 to {cells - 1}",
        )


def owners_share_equally(f) -> None:
    for scale in (1, 2, 3, 7):
        counts = torch.bincount(torch.as_tensor(f(5 * scale, 5)), minlength=5)
        require(
            (counts == scale).all(),
            f"at ×{scale} every low-resolution pixel holds {scale} output pixels, "
            f"yours hold {counts.tolist()}: are you half a pixel off?",
        )


def owners_break_ties_upward(f) -> None:
    got = torch.as_tensor(f(5, 2)).tolist()
    require(
        got == [0, 0, 1, 1, 1],
        "at ×2.5 output pixel 2 lies exactly on the border; it belongs to the one "
        f"further on: [0, 0, 1, 1, 1], not {got}",
    )


def owners_are_exact(f) -> None:
    for pixels, cells in ((7500, 3000), (99_999, 33_333), (10_007, 4001)):
        require(
            (torch.as_tensor(f(pixels, cells)) == owners(pixels, cells)).all(),
            f"{pixels} pixels over {cells}: some answers are one off; floating point "
            "rounds, so use whole numbers only",
        )


# liif.2 -------------------------------------------------------------------------------


def bilinear(grid: Tensor, coord: Tensor) -> Tensor:
    """Bilinear interpolation of (B, H, W, D) at (B, h, w, 2): (B, h, w, D)."""
    return layers.bilinear(grid, coord)


def ramp(rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """A picture that is a linear function of its coordinates, and points inside it."""
    coord = coords.make_coord((rows, cols))[None]  # (1, H, W, 2)
    inside = coords.make_coord((23, 31))[None] * (1 - 1 / min(rows, cols))
    return torch.stack([plane(coord), 2 - plane(coord)], dim=-1), inside


def plane(coord: Tensor) -> Tensor:
    """3 row - 2 col + 0.5: unequal slopes, so that swapped axes show."""
    return 3 * coord[..., 0] - 2 * coord[..., 1] + 0.5


def bilinear_keeps_samples(f) -> None:
    grid = torch.rand(2, 5, 7, 3, generator=torch.Generator().manual_seed(0))
    centres = coords.make_coord((5, 7)).expand(2, 5, 7, 2)
    require(
        close(f(grid, centres), grid),
        "at the centre of a pixel the answer is that pixel, at the border and for "
        "every picture in the batch",
    )


def bilinear_draws_ramps(f) -> None:
    for rows, cols in ((6, 6), (9, 5)):
        grid, inside = ramp(rows, cols)
        require(
            close(f(grid, inside)[..., 0], plane(inside)),
            "between centres a linear ramp must stay a linear ramp: are the weights "
            "swapped between the neighbours, or rows taken for columns?",
        )


def bilinear_repeats_border(f) -> None:
    grid, _ = ramp(4, 6)
    far = coords.make_coord((5, 5))[None] * 1.3  # some points lie outside the picture
    require(
        close(f(grid, far), bilinear(grid, far)),
        "beyond the outermost centres the border pixel is repeated",
    )


def bilinear_scattered(f) -> None:
    grid, _ = ramp(6, 6)
    points = torch.rand(1, 17, 1, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    require(
        close(f(grid, points), bilinear(grid, points)),
        "scattered points (B, Q, 1, 2) must work too, not only regular grids",
    )


# liif.3 -------------------------------------------------------------------------------


def self_ensemble(model, lr: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean of the model's answers to the eight flips and transpositions of `lr`."""
    total = 0
    for turned in (False, True):
        for flips in ((), (-1,), (-2,), (-2, -1)):
            seen = lr.transpose(-1, -2) if turned else lr
            target = size[::-1] if turned else size
            answer = render(model, seen.flip(flips), target).flip(flips)
            total = total + (answer.transpose(-1, -2) if turned else answer)
    return total / 8


class Pinned(layers.ImplicitModel):
    """A stand-in model whose answer depends on where the query is, as none should."""

    def __init__(self):
        super().__init__(torch.nn.Identity(), LIIFOptions(skip=True))
        self.encoder.radius = 0
        self.seen = torch.nn.Parameter(torch.zeros(()))

    def predict(self, features, coord, cell):
        row, col = coord[..., :1], coord[..., 1:]  # (B, h, w, 1)
        lean = 0.3 * row + 0.1 * col + 0.2 * row**2  # flips alone do not cancel row^2
        return lean.expand(*coord.shape[:3], 3)


def pinned_case() -> tuple[torch.nn.Module, Tensor, tuple[int, int]]:
    """A model, a picture of 6 x 9 pixels and an output size."""
    lr = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(2))
    return Pinned(), lr, (15, 22)


def ensemble_has_size(f) -> None:
    model, lr, size = pinned_case()
    got = f(model, lr, size)
    require(
        tuple(got.shape) == (3, *size),
        f"a {size} output has shape {(3, *size)}, yours {tuple(got.shape)}: a "
        "transposed input needs a transposed size, and its answer turning back",
    )


def ensemble_is_fair(f) -> None:
    model, lr, size = pinned_case()
    plain = f(model, lr, size)
    for dims in ((-1,), (-2,)):
        require(
            close(f(model, lr.flip(dims), size).flip(dims), plain),
            "flip the input, and the output must flip with it, exactly; is every "
            "answer flipped back, and are all flips there?",
        )
    turned = f(model, lr.transpose(-1, -2), size[::-1]).transpose(-1, -2)
    require(
        close(turned, plain),
        "transpose the input, and the output must transpose with it; are there eight "
        "variants, four of them transposed?",
    )


def ensemble_is_mean(f) -> None:
    model, lr, size = pinned_case()
    require(
        close(f(model, lr, size), self_ensemble(model, lr, size)),
        "the result is the mean of the eight answers, each counted once",
    )


EXERCISES = {
    "liif.1": Exercise(
        owners,
        lambda f: f(6, 3),
        (
            owners_in_range,
            owners_share_equally,
            owners_break_ties_upward,
            owners_are_exact,
        ),
    ),
    "liif.2": Exercise(
        bilinear,
        lambda f: f(torch.zeros(1, 2, 2, 1), torch.zeros(1, 1, 1, 2)),
        (
            bilinear_keeps_samples,
            bilinear_draws_ramps,
            bilinear_repeats_border,
            bilinear_scattered,
        ),
    ),
    "liif.3": Exercise(
        self_ensemble,
        lambda f: f(*pinned_case()),
        (ensemble_has_size, ensemble_is_fair, ensemble_is_mean),
    ),
}
