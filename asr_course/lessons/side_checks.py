"""Exercises of notebook 7."""

import math

import torch
from torch import Tensor

from asr_course.lessons.base import Exercise, close, require
from asr_course.lessons.side_by_side import by_chance, front
from asr_course.coords import make_cell, make_coord, pixel_centres
from asr_course.models.layers import Features, bilinear

# side.1 -------------------------------------------------------------------------------


def luck(n: int) -> float:
    """The chance that n seeds and n seeds of one method come apart."""
    return 2 / math.comb(2 * n, n)


def luck_is_right(f) -> None:
    for n in (2, 3, 4):
        expected = by_chance(range(n), range(n, 2 * n))
        require(
            abs(f(n) - expected) < 1e-9,
            f"{n} against {n} seeds come apart in {expected:.4f} of all ways to deal "
            f"them, you say {float(f(n)):.4f}; both methods can be the better one",
        )


def one_seed_is_always_apart(f) -> None:
    require(
        abs(f(1) - 1) < 1e-9,
        "one seed against one is always apart: luck(1) is 1",
    )


# side.2 -------------------------------------------------------------------------------

POINTS = {"c": (1, 10), "e": (2, 12), "b": (3, 11), "a": (4, 13), "d": (4, 12)}


def front_is_right(f) -> None:
    require(
        set(f(POINTS)) == {"c", "e", "a"},
        f"of {POINTS} nobody beats c, e and a; b costs more than e and scores less",
    )


def front_is_ordered(f) -> None:
    for points in (POINTS, dict(reversed(POINTS.items()))):
        got = f(points)
        require(isinstance(got, list | tuple), "return a list: its order counts")
        require(list(got) == ["c", "e", "a"], "name the cheapest first")


def equal_points_stay(f) -> None:
    require(
        set(f({"a": (1, 5), "b": (1, 5)})) == {"a", "b"},
        "of two equal points neither beats the other: both stay",
    )


def ties_are_beaten(f) -> None:
    require(
        list(f({"a": (1, 5), "b": (1, 6), "c": (2, 6)})) == ["b"],
        "at equal cost the higher score wins, at equal score the lower cost",
    )


# side.3 -------------------------------------------------------------------------------

SIZE, CODES = (5, 4), 6  # of the grid that the checks use


def blend_first(features: Features, coord: Tensor, cell: Tensor, mlp) -> Tensor:
    """A seventh method: blend the codes around a query, then ask the MLP once."""
    H, W = features.latent.shape[-2:]
    z = bilinear(features.latent.movedim(1, -1), coord)  # (B, h, w, C)
    pixel = cell * cell.new_tensor([H, W])  # (B, 2), which is 2 / s
    pixel = pixel[:, None, None].expand(*z.shape[:3], 2)
    return mlp(torch.cat([z, pixel], dim=-1))  # (B, h, w, 3)


def some_features(batch: int = 2) -> Features:
    """Random latent codes for a grid of 5 x 4."""
    random = torch.Generator().manual_seed(3)
    latent = torch.randn(batch, CODES, *SIZE, generator=random)
    return Features(latent[:, :3], latent, latent.movedim(1, -1))


def queries(rows: int, cols: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Coordinates and pixel size of a whole output."""
    coord = make_coord((rows, cols))[None].expand(batch, -1, -1, -1)
    return coord, make_cell((rows, cols))[None].expand(batch, -1)


class Shown:
    """An MLP that keeps what it was given, and answers with the first three numbers."""

    def __init__(self):
        self.given = []

    def __call__(self, x: Tensor) -> Tensor:
        self.given.append(x)
        return x[..., :3]


def asked(f, coord: Tensor, cell: Tensor, features=None) -> Tensor:
    """What the answer gives to its MLP, (B, h, w, C + 2)."""
    shown = Shown()
    rgb = f(features or some_features(), coord, cell, shown)
    require(len(shown.given) == 1, "ask the MLP once, with all queries")
    require(
        shown.given[0].shape == (*coord.shape[:3], CODES + 2),
        f"the MLP takes a code and a pixel size, {(*coord.shape[:3], CODES + 2)}; "
        f"yours got {tuple(shown.given[0].shape)}",
    )
    require(
        rgb.shape == (*coord.shape[:3], 3),
        f"return what the MLP answers, {(*coord.shape[:3], 3)}, not {tuple(rgb.shape)}",
    )
    return shown.given[0]


def centres_see_their_code(f) -> None:
    given = asked(f, *queries(*SIZE))[..., :CODES]
    expected = some_features().latent.movedim(1, -1)
    require(
        close(given, expected),
        "on the centre of a latent code the blend is that code alone",
    )


def blend_is_linear_between_centres(f) -> None:
    rows, cols = (pixel_centres(n) for n in SIZE)
    place = torch.stack([rows[1].lerp(rows[2], 0.25), cols[0].lerp(cols[1], 0.25)])
    given = asked(f, place.view(1, 1, 1, 2).expand(2, 1, 1, 2), queries(8, 8)[1])
    z = some_features().latent
    above, below = (z[:, :, i, 0].lerp(z[:, :, i, 1], 0.25) for i in (1, 2))
    require(
        close(given[:, 0, 0, :CODES], above.lerp(below, 0.25)),
        "a quarter of the way between centres, along rows and columns, a code weighs "
        "3/4 and the next 1/4: rows come first in a coordinate, and `bilinear` takes "
        "(B, H, W, C)",
    )


def no_seams(f) -> None:
    edge = (pixel_centres(SIZE[0])[1] + pixel_centres(SIZE[0])[2]) / 2
    places = torch.stack([edge + torch.tensor([-1e-5, 1e-5]), torch.zeros(2)], dim=-1)
    given = asked(f, places.view(1, 2, 1, 2).expand(2, 2, 1, 2), queries(8, 8)[1])
    require(
        close(given[:, 0], given[:, 1], 1e-3),
        "where the nearest code changes, what the MLP is given must not jump",
    )


def pixel_size_is_told(f) -> None:
    for size in ((10, 8), (20, 8)):
        given = asked(f, *queries(*size))[..., CODES:]
        expected = torch.tensor([2 * SIZE[0] / size[0], 2 * SIZE[1] / size[1]])
        require(
            close(given, expected.expand_as(given)),
            "the pixel size in low-resolution pixels is cell times (H, W)",
        )


EXERCISES = {
    "side.1": Exercise(
        luck,
        lambda f: f(3),
        (one_seed_is_always_apart, luck_is_right),
    ),
    "side.2": Exercise(
        front,
        lambda f: f(POINTS),
        (front_is_right, front_is_ordered, equal_points_stay, ties_are_beaten),
    ),
    "side.3": Exercise(
        blend_first,
        lambda f: f(some_features(), *queries(3, 3), Shown()),
        (
            centres_see_their_code,
            blend_is_linear_between_centres,
            no_seams,
            pixel_size_is_told,
        ),
    ),
}
