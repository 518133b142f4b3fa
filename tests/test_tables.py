"""What notebooks show of records: tables of effects, shades, the papers' numbers."""

import csv
import io

import numpy as np
import pytest
from IPython.display import Markdown
from PIL import Image

from asr_course import plots
from studies.ablate import effects
from asr_course.records import PAPERS, paper_rows, paper_values

# Ablation


def record(scores: dict) -> dict:
    """What `ablate` records: {(variant, seed): {scale: dB}}."""
    rows = [
        {"variant": variant, "seed": seed, "scale": scale, "psnr_y": value}
        for (variant, seed), values in scores.items()
        for scale, value in values.items()
    ]
    return {"rows": rows}


THREE_SEEDS = record(
    {
        ("-u", 0): {2: 29.0, 2.5: 26.5},
        ("full", 0): {2: 30.0, 2.5: 26.0},
        ("-e", 0): {2: 30.0, 2.5: 26.0},
        ("-u", 1): {2: 29.5, 2.5: 26.5},
        ("full", 1): {2: 31.0, 2.5: 26.0},
        ("-e", 1): {2: 30.99, 2.5: 26.1},
        ("-u", 7): {2: 29.5, 2.5: 26.5},
        ("full", 7): {2: 31.5, 2.5: 26.0},
        ("-e", 7): {2: 31.48, 2.5: 26.2},
    }
)


def test_effects_are_differences_within_a_seed():
    """-u loses 1, 1.5 and 2 dB: 1.5 on average, with a deviation of 0.5."""
    heads, rows = effects(THREE_SEEDS, "full")
    assert heads == ["variant", "×2", "×2.5"]
    assert rows == [
        ["full", "30.83 dB", "26.00 dB"],
        ["-u", "-1.50 ± 0.50", "+0.50 ± 0.00"],
        ["-e", "-0.01 ± 0.01", "+0.10 ± 0.10"],
    ]


def test_effects_on_another_reference():
    _, rows = effects(THREE_SEEDS, "-u")
    assert rows[0] == ["-u", "29.33 dB", "26.50 dB"]
    assert rows[1] == ["full", "+1.50 ± 0.50", "-0.50 ± 0.00"]
    assert [row[0] for row in rows] == ["-u", "full", "-e"]


def test_effects_of_one_seed_know_no_deviation():
    one = record({("full", 0): {2: 30.0}, ("-u", 0): {2: 29.0}})
    _, rows = effects(one, "full")
    assert rows[0] == ["full", "30.00 dB"]
    assert rows[1][1].startswith("-1.00") and "nan" not in rows[1][1]


# Shades and tables

BLUE_TO_RED = ((0, 0, 200), (255, 255, 255), (100, 0, 0))


def test_shades_lie_between_three_colours():
    values = np.array([[-1.0, -0.5, 0.0], [0.5, 1.0, 0.25]])
    pixels = np.asarray(plots.shade(values, BLUE_TO_RED)).astype(float)
    expected = [
        [(0, 0, 200), (127.5, 127.5, 227.5), (255, 255, 255)],
        [(177.5, 127.5, 127.5), (100, 0, 0), (216.25, 191.25, 191.25)],
    ]
    assert pixels.shape == (2, 3, 3)
    assert np.abs(pixels - expected).max() < 1


def test_shades_stop_at_the_outer_colours():
    pixels = np.asarray(plots.shade(np.array([[-7.0, 9.0]]), BLUE_TO_RED))
    assert pixels.tolist() == [[[0, 0, 200], [100, 0, 0]]]


def test_shades_are_enlarged_by_repetition():
    values = np.linspace(-1, 1, 6).reshape(2, 3)
    small = plots.shade(values, BLUE_TO_RED)
    large = plots.shade(values, BLUE_TO_RED, zoom=4)
    assert large.size == (12, 8)
    assert np.array_equal(large, np.asarray(small).repeat(4, 0).repeat(4, 1))


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would display."""
    found = []
    monkeypatch.setattr(plots, "display", found.append)
    return found


def test_a_table_is_markdown(shown):
    plots.table(["variant", "×2"], [["full", "**30.00 dB**"], ["-u", "-1.00 ± 0.50"]])
    (found,) = shown
    assert isinstance(found, Markdown)
    assert found.data.splitlines() == [
        "| variant | ×2 |",
        "| --- | --- |",
        "| full | **30.00 dB** |",
        "| -u | -1.00 ± 0.50 |",
    ]


def test_a_picture_is_shown_with_its_text(shown):
    plots.show(Image.new("RGB", (3, 2), "red"), "a red rectangle")
    (found,) = shown
    assert found.alt == "a red rectangle"
    assert Image.open(io.BytesIO(found.data)).size == (3, 2)


# The papers' numbers


def test_paper_rows_are_those_of_the_file():
    with open(PAPERS, newline="") as file:
        assert paper_rows() == list(csv.DictReader(file))


def test_paper_rows_hold_everything_that_is_asked_for():
    everything = paper_rows()
    where = {"paper": "DIIF", "encoder": "RDN", "metric": "MACs_T_as_printed"}
    found = paper_rows(**where)
    assert found == [r for r in everything if all(r[k] == v for k, v in where.items())]
    assert {row["method"]: row["value"] for row in found} == {
        "RDN": "0.492",
        "MetaSR": "1.950",
        "LIIF": "5.416",
        "DIIF": "1.108",
        "LTE": "3.235",
        "DLTE": "0.905",
    }


def test_paper_rows_find_nothing_or_refuse():
    assert paper_rows(method="DIIF", encoder="a third one") == []
    with pytest.raises(KeyError):
        paper_rows(colour="blue")


def test_paper_values_take_the_first_of_two_papers():
    """DIIN's table comes first in the file and prints 21.28 where DIIF's has 21.18."""
    where = {"method": "LIIF", "encoder": "EDSR-baseline", "dataset": "DIV2K-val"}
    rows = paper_rows(**where, scale="x24", metric="PSNR")
    assert [row["value"] for row in rows] == ["21.28", "21.18"]
    values = paper_values("LIIF", "EDSR-baseline", "DIV2K-val", "RGB")
    assert values["x24"] == 21.28 and {"x2", "x3", "x4"} < set(values)
