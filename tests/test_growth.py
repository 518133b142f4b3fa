"""Time and memory against the number of queries, where they hear from each other."""

import pytest
import torch
from helpers import near

import asr_course.growth as MODULE
import asr_course.render as rendering
from asr_course import build
from asr_course.errors import UserError
from asr_course.growth import STEPS, cost, format_growth, growth

HEADS = {"hiif": build("hiif", "tiny").options.heads, "diin": 1}


# One step, done both ways


@pytest.mark.parametrize("heads, n", [(1, 1), (1, 40), (4, 7), (4, 300)])
@pytest.mark.parametrize("name", STEPS)
def test_both_ways_give_the_same_numbers(name, heads, n):
    qkv = torch.randn(3, 2, heads, n, 8, dtype=torch.float64)
    by_sums, by_pairs = (way(*qkv) for way in STEPS[name])
    near(by_sums, by_pairs, 1e-12)
    assert by_sums.std() > 1e-3


@pytest.mark.parametrize("name", STEPS)
def test_a_step_hears_of_every_query(name):
    """Another v far away changes what the first query hears, by both ways alike."""
    q, k, v = torch.randn(3, 1, 1, 50, 8, dtype=torch.float64)
    other = v.clone()
    other[..., -1, :] += 1
    moved = [(way(q, k, other) - way(q, k, v))[..., 0, :] for way in STEPS[name]]
    near(*moved, 1e-12)
    assert moved[0].abs().max() > 1e-4


# What a call costs


def test_the_cost_of_a_call_is_its_peak_and_its_seconds():
    calls = []

    def call(n):
        calls.append(n)
        return (torch.ones(n, n) + 1).sum()

    seconds, megabytes = cost(call, 512)
    assert calls == [512, 512]  # measured once for memory, once for time
    assert megabytes == pytest.approx(2, abs=0.001)
    assert seconds >= 0


def peaks(name: str, sides) -> list[float]:
    return [row["peak_mb"] for row in growth(name, "tiny", sides)]


@pytest.mark.parametrize("name", STEPS)
def test_the_memory_of_a_render_does_not_grow(name, monkeypatch):
    """Only the queries that are decoded at once count, not how many there are."""
    monkeypatch.setattr(MODULE, "SQUARE_BYTES", 0)
    monkeypatch.setattr(rendering, "QUERIES", 1024)
    small, large = peaks(name, (64, 192))
    assert large == pytest.approx(small, rel=0.1)
    monkeypatch.setattr(rendering, "QUERIES", 10**9)
    small, large = peaks(name, (48, 96))
    assert large > 2.5 * small


@pytest.mark.parametrize("name", STEPS)
def test_the_memory_of_one_step_grows_with_queries_or_with_their_square(
    name, monkeypatch
):
    monkeypatch.setattr(MODULE, "LR", (8, 8))
    small, large = growth(name, "tiny", (16, 32))
    assert large["sums_mb"] == pytest.approx(4 * small["sums_mb"], rel=0.1)
    assert large["pairs_mb"] == pytest.approx(16 * small["pairs_mb"], rel=0.1)
    assert large["pairs_mb"] > 4 * large["sums_mb"]


# Rows


def test_a_row_holds_what_was_promised():
    (row,) = growth("hiif", "tiny", [33])
    assert list(row) == [
        *("model", "size", "queries", "cpu_seconds", "peak_mb"),
        *("pairs_cpu_seconds", "pairs_mb", "sums_cpu_seconds", "sums_mb"),
    ]
    assert (row["model"], row["size"], row["queries"]) == ("hiif", "tiny", 33**2)
    assert all(row[key] >= 0 for key in list(row)[3:])


@pytest.mark.parametrize("name", STEPS)
def test_pairs_are_left_out_where_they_need_too_much(name, monkeypatch):
    """The limit is for three matrices of all pairs, and is not passed by much."""
    n = 32 * 32
    limit = 3 * 4 * HEADS[name] * n * n
    monkeypatch.setattr(MODULE, "SQUARE_BYTES", limit + 1)
    small, large = growth(name, "tiny", (32, 33))
    assert small["pairs_mb"] is not None and small["pairs_cpu_seconds"] is not None
    assert large["pairs_mb"] is None and large["pairs_cpu_seconds"] is None
    assert large["sums_mb"] > 0
    assert small["pairs_mb"] * 2**20 < limit
    monkeypatch.setattr(MODULE, "SQUARE_BYTES", limit)
    (small,) = growth(name, "tiny", [32])
    assert small["pairs_mb"] is None


@pytest.mark.parametrize("name, nearest", [("hif", "hiif"), ("diinn", "diin")])
def test_an_unknown_model_names_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"{name}.*Did you mean '{nearest}'"):
        growth(name, "tiny", [32])


# The table


def test_the_table_shows_every_row():
    made = {"model": "hiif", "size": "tiny", "cpu_seconds": 0.5, "peak_mb": 12.25}
    made |= {"sums_cpu_seconds": 0.025, "sums_mb": 3.1}
    few = {**made, "queries": 10_000, "pairs_cpu_seconds": 1.5, "pairs_mb": 800.4}
    many = {**made, "queries": 40_000, "pairs_cpu_seconds": None, "pairs_mb": None}
    head, first, second, foot = format_growth([few, many]).splitlines()
    common = ["12.2", "0.025", "3"]
    assert first.split() == ["hiif", "10,000", "0.50", "50.0", *common, "1.500", "800"]
    assert second.split()[:4] == ["hiif", "40,000", "0.50", "12.5"]
    assert second.split()[4:] == [*common, "out", "of", "reach"]
    assert len(head) == len(first) == len(second)
    assert "size tiny, input 32x32" in foot
