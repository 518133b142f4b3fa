"""The benchmark: which rows it has, how growth is fitted, what the table says."""

import pytest

from asr_course import benchmark as module
from asr_course.benchmark import benchmark, format_profile, growth_of, plot_growth
from asr_course.profiling import profile


def row(model="liif", size="tiny", scale=2, pixels=100, cpu=1.0, **more) -> dict:
    """A row as `profile` makes it, of figures that are easy to check."""
    made = {
        "model": model,
        "size": size,
        "lr": "5x5",
        "scale": scale,
        "pixels": pixels,
        "parameters": 1234,
        "macs_paper": 2e9,
        "macs_run": 1e9,
        "seconds": cpu,
        "cpu_seconds": cpu,
        "plain_cpu_seconds": None,
        "plain_difference": None,
        "peak_mb": 3.0,
    }
    return made | more


def test_every_model_at_every_size_and_scale(monkeypatch):
    """But for scales that a model which draws its answer was not trained for."""
    asked = []
    monkeypatch.setattr(module, "profile", lambda *what: asked.append(what) or what)
    told = []
    rows = benchmark(["liif", "idm"], ["tiny"], (4, 6), (2, 4, 30), "cpu", told.append)
    assert rows == asked == told
    assert [(name, scale) for name, _, _, scale, _ in rows] == [
        *(("liif", 2), ("liif", 4), ("liif", 30)),
        *(("idm", 2), ("idm", 4)),
    ]
    assert {(size, lr, device) for _, size, lr, _, device in rows} == {
        ("tiny", (4, 6), "cpu")
    }


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_growth_finds_the_power_and_the_price_of_a_pixel(power):
    pixels = [10**5, 10**6, 10**7]
    rows = [row(pixels=n, cpu=1e-6 * n**power) for n in pixels]
    rows += [row(pixels=10, cpu=50.0)]  # too few pixels: the encoder counts there
    (found,) = growth_of(rows)
    assert found["exponent"] == pytest.approx(power)
    last, before = rows[2]["cpu_seconds"], rows[1]["cpu_seconds"]
    assert found["us_per_pixel"] == pytest.approx((last - before) / 9e6 * 1e6)


def test_growth_of_memory_leaves_the_picture_out():
    """Which has three float32 numbers a pixel, and 2^20 bytes are a MB here."""
    picture = 12 * 10**6 / 2**20
    rows = [row(pixels=10**5, peak_mb=20.0), row(pixels=10**6, peak_mb=20 + picture)]
    (found,) = growth_of(rows)
    assert found["mb"] == pytest.approx([20 - picture / 10, 20])


def test_no_growth_from_one_large_output():
    assert growth_of([row(pixels=10), row(pixels=10**6)]) == []


def test_growth_is_told_apart_by_model_and_size():
    rows = [
        row(model, size, pixels=n, cpu=n * us / 1e6)
        for model, size, us in (("lte", "tiny", 2), ("lte", "laptop", 3), ("x", "s", 4))
        for n in (10**5, 10**6)
    ]
    found = {(r["model"], r["size"]): r["us_per_pixel"] for r in growth_of(rows)}
    assert found == pytest.approx(
        {("lte", "tiny"): 2, ("lte", "laptop"): 3, ("x", "s"): 4}
    )


def test_the_table_shows_every_row():
    rows = [
        profile(name, "tiny", (4, 6), s) for name in ("lte", "liif") for s in (2, 3)
    ]
    lines = format_profile(rows).splitlines()
    for shown, line in zip(rows, lines[1:5], strict=True):
        words = line.split()
        assert words[:3] == [
            *(shown["model"], f"{shown['scale']}", f"{shown['parameters']:,}")
        ]
        assert words[3] == f"{shown['macs_paper'] / 1e9:.2f}"
        assert words[4] == f"{shown['macs_run'] / 1e9:.2f}"
    assert lines[5] == "size tiny, input 4x6 (rows x columns)"


def test_liif_of_the_same_size_and_scale_is_the_unit():
    """No other will do: then the cell stays empty."""
    rows = [row(cpu=2.0), row("lte", cpu=5.0), row("lte", scale=3, cpu=7.0)]
    lines = format_profile([*rows, row("lte", "laptop", cpu=9.0)]).splitlines()
    of_lte = [line.split() for line in lines if line.startswith("lte")]
    assert [words[5:] for words in of_lte] == [
        *(["5.00", "5.00", "2.50", "3"], ["7.00", "7.00", "3"], ["9.00", "9.00", "3"])
    ]


def test_ratio_and_difference_stand_where_there_is_a_plain_formula():
    rows = [row(cpu=2.0, plain_cpu_seconds=5.0, plain_difference=6e-8), row("lte")]
    lines = format_profile(rows).splitlines()
    assert "5.00    2.5    6e-08" in lines[1]
    assert "e-08" not in lines[2]


def test_a_model_without_a_count_by_formula_has_an_empty_cell():
    lines = format_profile([row("idm", macs_paper=None)]).splitlines()
    assert lines[1].split()[:4] == ["idm", "2", "1,234", "1.00"]


def test_the_figure_has_one_panel_a_size_and_one_line_a_model():
    rows = [
        row(model, size, pixels=n, cpu=n / 1e6)
        for model in ("liif", "lte")
        for size in ("tiny", "laptop")
        for n in (10**4, 10**5)
    ]
    figure = plot_growth(rows)
    assert [panel.get_title() for panel in figure.axes] == ["size tiny", "size laptop"]
    for panel in figure.axes:
        assert [line.get_label() for line in panel.lines] == ["liif", "lte"]
        assert list(panel.lines[0].get_xdata()) == [10**4, 10**5]
