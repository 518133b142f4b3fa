"""Sums over all queries: what `total` returns, and how parts are added up."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from helpers import awake, near

from asr_course import METHODS, build
from asr_course.coords import make_cell, make_coord
from asr_course.totals import (
    Unknown,
    add,
    in_one_pass,
    known_totals,
    number_of,
    precise,
    present,
)


class Two(NamedTuple):
    """A summary of two numbers."""

    number: int
    total: float


@dataclass(frozen=True)
class Largest:
    """A summary with a + of its own."""

    value: int

    def __add__(self, other):
        return Largest(max(self.value, other.value))


def test_the_queries_present_are_all():
    assert present(max, 3, 5) == 5
    assert present(max, 3, 5, once=True) == 5


def test_totals_come_in_order_and_the_first_missing_one_is_summarised():
    """Nothing is summarised where the sum is known."""
    total = known_totals([7, (8, 9)])
    assert total(lambda: 1 / 0) == 7
    assert total(lambda: 1 / 0, once=True) == (8, 9)
    with pytest.raises(Unknown) as missing:
        total(max, 3, 5, once=True)
    assert missing.value.part == 5 and missing.value.once is True
    with pytest.raises(Unknown) as missing:
        known_totals([])(min, 3, 5)
    assert missing.value.part == 3 and missing.value.once is False


def test_a_total_of_zero_is_known():
    assert known_totals([0])(lambda: 1 / 0) == 0


def test_summaries_add_up_entry_by_entry():
    assert add(2, 3) == 5
    assert add((), ()) == ()
    assert add((1, (2, Largest(7))), (10, (20, Largest(5)))) == (11, (22, Largest(7)))
    both = add(Two(1, 0.5), Two(2, 0.25))
    assert both == Two(3, 0.75) and isinstance(both, Two)
    near(add(torch.ones(3), torch.arange(3)), torch.tensor([1, 2, 3]), 0)
    with pytest.raises(ValueError):
        add((1, 2), (1, 2, 3))


def test_summaries_that_are_ready_together():
    assert in_one_pass((max, 1, 2), (len, "abc")) == (2, 3)


def test_sums_are_exact():
    """One more than 2^24 is not a float32; a number of queries is a tensor."""
    ones = torch.tensor([2.0**24, 1])
    assert precise(ones).sum().item() == 2**24 + 1
    assert number_of(torch.zeros(2, 5, 3), 1).item() == 5


# The same numbers whether queries come at once or piece by piece


VARIANTS = [(name, key) for name in ("hiif", "diin") for key in METHODS[name].ABLATIONS]
# How many sums a variant needs: over latent codes, over queries.
SUMS = {("hiif", "v3-MH"): (0, 0), ("diin", "N=1"): (2, 1), ("diin", "N=3"): (2, 4)}
SUMS |= {("diin", "N=4"): (2, 6), ("diin", "-c"): (0, 2), ("diin", "-a"): (0, 2)}


@torch.no_grad()
@pytest.mark.parametrize("name, key", VARIANTS)
def test_pieces_gather_what_all_queries_together_do(name, key):
    """Each piece adds its part to the first missing sum, then all begin again."""
    model = awake(build(name, "tiny", **METHODS[name].ABLATIONS[key]))
    features = model.encode(torch.rand(1, 3, 6, 5))
    coord, cell = make_coord((17, 13))[None], make_cell((17, 13))[None]
    known, passes, colours = [], {True: 0, False: 0}, []
    while not colours:
        parts = []
        for piece in coord.split([1, 9, 7], dim=1):
            try:
                total = known_totals(known)
                colours.append(model.decode(features, piece, cell, total))
            except Unknown as missing:
                parts.append(missing.part)
                once = missing.once
        if parts:
            first, second, third = parts
            known.append(first if once else add(add(first, second), third))
            passes[once] += 1
    near(torch.cat(colours, dim=2), model.decode(features, coord, cell))
    usual = (0, 2) if name == "hiif" else (2, 2)
    assert (passes[True], passes[False]) == SUMS.get((name, key), usual)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 3])
def test_a_local_diin_gathers_nothing(layers):
    """Without a dictionary and with S the identity, queries are alone."""
    options = {"diffusion": "identity", "dictionary": False, "layers": layers}
    model, lr = awake(build("diin", "tiny", **options)), torch.rand(1, 3, 6, 5)
    coord, cell = torch.rand(1, 9, 1, 2), torch.rand(1, 2)
    features = model.encode(lr)
    once = model.decode(features, coord, cell)
    near(model.decode(features, coord, cell, known_totals([])), once, 0)
