"""Side by side: seeds, what luck does to them, the Pareto front, and seams."""

import math

import pytest
import torch
from helpers import awake
from torch import nn

from asr_course import build
from asr_course.lessons.side_by_side import (
    METHODS,
    by_chance,
    front,
    plus_minus,
    seams,
    seed_scores,
    separated,
)
from asr_course.coords import to_position
from asr_course.models import REGRESSION, variant
from asr_course.models.layers import ImplicitModel
from asr_course.models.liif import LIIFOptions

# Seeds


def test_plus_minus_by_hand():
    """The deviation is that of a sample: 1, 2 and 3 have 1."""
    assert plus_minus([1, 2, 3]) == "2.00 ± 1.00"
    assert plus_minus([1, 2, 3], digits=0) == "2 ± 1"
    assert plus_minus([0.9, 0.91], digits=4) == "0.9050 ± 0.0071"
    assert plus_minus([5]) == "5.00 ± 0.00"


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ([4, 5, 6], [1, 2, 3], 1),
        ([1, 2, 3], [4, 5, 6], -1),
        ([3, 5, 6], [1, 2, 4], 0),
        ([3, 5, 6], [1, 2, 3], 0),  # touching is not apart
        ([2, 2], [2, 2], 0),
        ([2], [1, 0, -1], 1),
    ],
)
def test_separated(a, b, expected):
    assert separated(a, b) == expected
    assert separated(b, a) == -expected


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_luck_of_equal_hands_is_two_in_all_ways_to_deal(n):
    scores = [1.5**k for k in range(2 * n)]
    expected = 2 / math.comb(2 * n, n)
    assert by_chance(scores[:n], scores[n:]) == pytest.approx(expected)
    assert by_chance(scores[::2], scores[1::2]) == pytest.approx(expected)


@pytest.mark.parametrize("m, n", [(1, 2), (1, 5), (2, 3), (4, 2)])
def test_luck_of_hands_of_unequal_sizes(m, n):
    """One hand is the lowest or the highest: two ways, whichever hand it is."""
    mine, theirs = range(m), range(m, m + n)
    assert by_chance(mine, theirs) == pytest.approx(2 / math.comb(m + n, m))
    assert by_chance(theirs, mine) == pytest.approx(2 / math.comb(m + n, m))


def test_three_seeds_come_apart_by_luck_once_in_ten():
    assert by_chance([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)


def test_equal_scores_never_come_apart_by_luck():
    assert by_chance([7, 7], [7, 7]) == 0
    assert by_chance([1, 2], [2, 3]) == 0  # a 2 in either hand, or both in one
    assert by_chance([1, 1], [2, 2]) == pytest.approx(2 / 6)


def rows_of(model: str, first: float, protocol: str, **more) -> list[dict]:
    """Rows of `evaluate` whose scores say where they stand."""
    return [
        {"model": model, "data": data, "scale": scale, "protocol": protocol, **more}
        | {"psnr_y": first + extra + scale, "ssim": 1 / scale}
        for data, extra in (("set5", 0), ("set14", 10))
        for scale in (2, 2.5)
    ]


def made_up_record(name: str) -> dict:
    """Seed 0 as shipped beside other weights, and seeds 2 and 1, in no order."""
    rows = {
        "liif_scores": rows_of("bicubic", 5, "liif")
        + rows_of("liif", 6, "liif")
        + rows_of("liif-recipe", 0, "liif"),
        "diinn_scores": rows_of("diinn", 50, "diinn")
        + rows_of("diinn", 40, "liif")
        + rows_of("liif-recipe", 20, "diinn"),
        "liif_seeds": [
            row
            for seed in (2, 1)
            for protocol, first in (("liif", 0.25), ("diinn", 20.25))
            for row in rows_of(f"{seed}.st", first * seed, protocol, seed=seed)
        ],
        "diinn_seeds": rows_of("b.st", 42, "liif", seed=2)
        + rows_of("a.st", 41, "liif", seed=1),
    }
    return {"rows": rows[name]}


def test_seed_scores_begin_with_the_shipped_weights_and_are_ordered(monkeypatch):
    """LIIF ships two: the one that the recipe of all five made is its seed 0."""
    monkeypatch.setattr("asr_course.lessons.side_by_side.load_record", made_up_record)
    assert seed_scores("liif", "set5", 2) == [2, 2.25, 2.5]
    assert seed_scores("liif", "set14", 2.5) == [12.5, 12.75, 13]
    assert seed_scores("liif", "set5", 2, "ssim") == [0.5] * 3
    assert seed_scores("diinn", "set5", 2) == [42, 43, 44]


def test_seed_scores_by_the_other_protocol(monkeypatch):
    """Seed 0 of every method stands in one record there."""
    monkeypatch.setattr("asr_course.lessons.side_by_side.load_record", made_up_record)
    assert seed_scores("liif", "set5", 2, protocol="diinn") == [22, 22.25, 42.5]


@pytest.mark.parametrize(
    "name, protocol",
    [*((name, "liif") for name in METHODS), ("liif", "diinn"), ("diinn", "diinn")],
)
def test_every_method_has_three_seeds(name, protocol):
    for data in ("set5", "set14"):
        for scale in (2, 3, 4, 6, 8, 12):
            assert len(seed_scores(name, data, scale, protocol=protocol)) == 3


def test_methods_are_those_that_answer_with_the_mean():
    assert set(METHODS) <= set(REGRESSION)


# The Pareto front

POINTS = {"low": (1, 30), "mid": (2, 32), "worse": (3, 31), "top": (9, 33)}


def test_front_by_hand():
    assert front(POINTS) == ["low", "mid", "top"]


def test_front_is_ordered_by_cost_and_not_by_place_or_name():
    assert front({"a": (5, 9), "z": (1, 3), "m": (2, 4)}) == ["z", "m", "a"]
    assert front(dict(reversed(POINTS.items()))) == ["low", "mid", "top"]


@pytest.mark.parametrize(
    "points, expected",
    [
        ({"a": (1, 5), "b": (1, 5)}, {"a", "b"}),  # equal points do not beat each other
        ({"a": (1, 5), "b": (1, 6)}, {"b"}),
        ({"a": (1, 5), "b": (2, 5)}, {"a"}),
        ({"a": (1, 5)}, {"a"}),
        ({}, set()),
        ({"a": (1, 1), "b": (2, 2), "c": (1, 1), "d": (2, 1)}, {"a", "b", "c"}),
    ],
)
def test_front_with_ties(points, expected):
    assert set(front(points)) == expected


# Seams


class Drawn(ImplicitModel):
    """Answers with one function of a place's row plus the same of its column.

    Places are counted in input pixels: 0 is the centre of the first one.
    """

    def __init__(self, f):
        super().__init__(nn.Identity(), LIIFOptions(skip=False))
        self.encoder.radius = 0
        self.f, self.some = f, nn.Parameter(torch.zeros(()))

    def predict(self, features, coord, cell):
        size = features.latent.shape[-2:]
        rows, cols = (
            self.f(to_position(coord[..., k : k + 1].double(), n))
            for k, n in enumerate(size)
        )
        return (rows + cols).float().expand(*coord.shape[:3], 3)


JUMP = 0.25


def border_jumps(x):
    """A ramp of one an input pixel, and a jump at every border of them."""
    return x + JUMP * (x + 0.5).floor()


def centre_jumps(x):
    """The same with its jumps at the centres."""
    return x + JUMP * x.floor()


def other_line(scale: int, jumping: int, side: int = 12) -> float:
    """The ratio on lines without jumps, if `jumping` other ones have them."""
    others = scale * side - 1 - (2 * side - 1 - jumping)  # all lines but these
    return (1 / scale) / (1 / scale + JUMP * jumping / others)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_jumps_at_borders_show_there_and_grow_with_the_scale(scale):
    """A step is 1/s, and 1/s + J at a border: the ratio is 1 + J s."""
    found = seams(Drawn(border_jumps), scale)
    assert found.keys() == {"border", "centre"}
    assert found["border"] == pytest.approx(1 + JUMP * scale, rel=1e-3)
    assert found["centre"] == pytest.approx(other_line(scale, 11), rel=1e-3)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_jumps_at_centres_show_there_and_grow_with_the_scale(scale):
    found = seams(Drawn(centre_jumps), scale)
    assert found["centre"] == pytest.approx(1 + JUMP * scale, rel=1e-3)
    assert found["border"] == pytest.approx(other_line(scale, 12), rel=1e-3)


@pytest.mark.parametrize("scale", [2, 8, 32])
def test_a_ramp_has_no_seams(scale):
    found = seams(Drawn(lambda x: x), scale)
    assert found == pytest.approx({"border": 1, "centre": 1}, rel=1e-3)


def test_rows_and_columns_count_alike():
    """Jumps in rows alone: half of the ratio's excess is left."""

    class RowsOnly(Drawn):
        def predict(self, features, coord, cell):
            n = features.latent.shape[-2]
            rows, cols = (
                to_position(coord[..., k : k + 1].double(), n) for k in (0, 1)
            )
            rgb = border_jumps(rows) + cols
            return rgb.float().expand(*coord.shape[:3], 3)

    found = seams(RowsOnly(None), 8)
    assert found["border"] == pytest.approx(1 + JUMP * 8 / 2, rel=1e-3)


def test_the_local_ensemble_takes_the_seams_away():
    """Without it the nearest code changes at borders, and the output jumps there."""
    torch.manual_seed(0)
    whole = awake(build("liif", "tiny"))
    nearest = variant(whole, local_ensemble=False)
    small, large = (seams(nearest, scale)["border"] for scale in (4, 16))
    assert small > 2 and large > 3 * small
    assert all(0.8 < ratio < 1.25 for ratio in seams(whole, 16).values())


def test_seams_leave_the_model_without_gradients():
    model = awake(build("liif", "tiny"))
    seams(model, 2, side=4)
    assert all(parameter.grad is None for parameter in model.parameters())
