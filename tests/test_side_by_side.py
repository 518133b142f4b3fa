"""Side by side: seeds, what chance does to them, the Pareto front, and seams."""

from itertools import combinations

import pytest
import torch
from helpers import awake
from torch import nn

from asr_course import build
from asr_course.coords import to_position
from asr_course.layers import ImplicitModel
from asr_course.lessons.side_by_side import (
    METHODS,
    front,
    luck,
    plus_minus,
    seed_scores,
    separated,
)
from asr_course.models import variant
from asr_course.models.liif import LIIFOptions
from studies.seams import seams


def test_plus_minus_by_hand():
    """The deviation is that of a sample: 1, 2 and 3 have 1."""
    assert plus_minus([1, 2, 3]) == "2.00 ± 1.00"
    assert plus_minus([0.9, 0.91], digits=4) == "0.9050 ± 0.0071"


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ([4, 5, 6], [1, 2, 3], 1),
        ([3, 5, 6], [1, 2, 4], 0),
        ([3, 5, 6], [1, 2, 3], 0),  # touching is not apart
        ([2], [1, 0, -1], 1),
    ],
)
def test_separated(a, b, expected):
    assert separated(a, b) == expected
    assert separated(b, a) == -expected


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_luck_counts_the_deals_that_come_apart(n):
    """The rule looks at ranks alone: two of all ways to deal 2n ranks."""
    hands = [set(hand) for hand in combinations(range(2 * n), n)]
    apart = sum(separated(hand, set(range(2 * n)) - hand) != 0 for hand in hands)
    assert apart == 2
    assert luck(n) == pytest.approx(apart / len(hands))


def test_seed_scores_begin_with_the_shipped_weights_and_are_ordered(monkeypatch):
    """LIIF ships two: the one that the recipe of all five made is its seed 0."""

    def row(model, psnr, protocol="liif", **more):
        about = {"model": model, "data": "set5", "scale": 2, "protocol": protocol}
        return {**about, "psnr_y": psnr, "ssim": psnr / 100, **more}

    records = {
        "liif_scores": [row("liif", 9), row("liif-recipe", 30)],
        "diinn_scores": [row("liif-recipe", 20, "diinn"), row("diinn", 40, "diinn")],
        "liif_seeds": [
            row(f"{seed}.st", psnr + seed, protocol, seed=seed)
            for seed in (2, 1)
            for protocol, psnr in (("liif", 30), ("diinn", 20))
        ],
    }
    place = "asr_course.lessons.side_by_side.load_record"
    monkeypatch.setattr(place, lambda name: {"rows": records[name]})
    assert seed_scores("liif", "set5", 2) == [30, 31, 32]
    assert seed_scores("liif", "set5", 2, "ssim") == [0.3, 0.31, 0.32]
    assert seed_scores("liif", "set5", 2, protocol="diinn") == [20, 21, 22]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_three_seeds(name):
    for scale in (2, 3, 4, 6, 8, 12):
        assert len(seed_scores(name, "set14", scale)) == 3


@pytest.mark.parametrize(
    "points, expected",
    [
        ({"b": (9, 33), "c": (3, 31), "m": (2, 32), "z": (1, 30)}, ["z", "m", "b"]),
        ({"a": (1, 5), "b": (1, 5)}, ["a", "b"]),  # equal points do not beat each other
        ({"a": (1, 5), "b": (1, 6)}, ["b"]),
        ({"a": (1, 5), "b": (2, 5)}, ["a"]),
        ({}, []),
    ],
)
def test_front_with_ties_is_ordered_by_cost(points, expected):
    assert front(points) == expected


class Steps(ImplicitModel):
    """A ramp of one an input pixel along rows and columns, and a jump of 1/4 at every
    border of input pixels (shift = 0.5) or at every centre (0)."""

    def __init__(self, shift: float, jump: float = 0.25):
        super().__init__(nn.Identity(), LIIFOptions(skip=False))
        self.encoder.radius, self.some = 0, nn.Parameter(torch.zeros(()))
        self.shift, self.jump = shift, jump

    def predict(self, features, queries, cell):
        x = (
            to_position(axis.double(), n)[..., None]
            for axis, n in zip(queries, features.latent.shape[-2:], strict=True)
        )
        rgb = sum(p + self.jump * (p + self.shift).floor() for p in x)
        return rgb.float().expand(*queries.shape, 3)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_jumps_show_where_they_are_and_grow_with_the_scale(scale):
    """A step is 1/s, and 1/s + J at a jump: the ratio is 1 + J s."""
    for where, shift in (("border", 0.5), ("centre", 0)):
        ratios = seams(Steps(shift), scale)
        assert ratios.pop(where) == pytest.approx(1 + 0.25 * scale, rel=1e-3)
        assert next(iter(ratios.values())) < 1
    none = seams(Steps(0, jump=0), scale)
    assert none == pytest.approx({"border": 1, "centre": 1}, rel=1e-3)


def test_the_local_ensemble_takes_the_seams_away():
    """Without it the nearest code changes at borders, and the output jumps there."""
    torch.manual_seed(0)
    whole = awake(build("liif", "tiny"))
    nearest = variant(whole, local_ensemble=False)
    small, large = (seams(nearest, scale)["border"] for scale in (4, 16))
    assert small > 2 and large > 3 * small
    assert all(0.8 < ratio < 1.25 for ratio in seams(whole, 16).values())
