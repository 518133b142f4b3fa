"""The studies: each script runs on something small and writes a record of its rows."""

import csv
import json
import math

import pytest
import torch
from helpers import awake, near, picture
from PIL import Image

from asr_course import build
from asr_course.images import sample_crops
from asr_course.lessons.exam import held_out, load_reader
from asr_course.presets import PRESETS
from asr_course.render import render
from asr_course.weights import read_card
from studies import (
    ablate,
    benchmark,
    diinn_control,
    exam,
    gpu_hour,
    growth,
    hiif_digits,
    noise_error,
    reader,
    seams,
)


def record_of(main, path, *words: str) -> dict:
    """The record that a script writes."""
    main([*words, "--device", "cpu", "--json", str(path)])
    return json.loads(path.read_text())


# Ablations


@pytest.mark.parametrize(
    "name, variants", [("liif", ["full", "x4-only"]), ("idm", ["full"])]
)
def test_ablate_has_a_row_for_each_variant_seed_and_scale(
    tmp_path, monkeypatch, name, variants
):
    monkeypatch.setattr(ablate, "held_out", lambda count: held_out(1))
    words = ["--model", name, "--preset", "smoke", "--steps", "2", "--seeds", "0", "1"]
    words += ["--variants", *variants, "--scales", "4", "8"]
    record = record_of(ablate.main, tmp_path / "a.json", *words)
    found = [(r["variant"], r["seed"], r.get("scale")) for r in record["rows"]]
    scales = [4, 8] if name == "liif" else [None]
    assert found == [(v, s, x) for s in (0, 1) for v in variants for x in scales]
    assert {"command", "commit", "torch", "hardware"} <= record.keys()
    if name == "liif":  # x4-only was trained in another way
        assert record["rows"][0]["psnr_y"] != record["rows"][2]["psnr_y"]


def test_ablate_refuses_a_variant_that_is_not_there():
    plan = PRESETS["smoke"].lesson
    with pytest.raises(ValueError, match="variant of liif.*nothing"):
        ablate.ablate("liif", plan, [0], [2], ["nothing"], "cpu")


def test_diinn_control_trains_decoders_of_one_size(tmp_path):
    words = ["--preset", "smoke", "--steps", "2", "--scales", "4"]
    rows = record_of(diinn_control.main, tmp_path / "c.json", *words)["rows"]
    assert [(r["variant"], r["scale"]) for r in rows] == [
        (variant, 4) for variant in diinn_control.VARIANTS
    ]
    assert all(abs(r["decoder"] - 40_899) < 200 for r in rows)  # DIINN's at size tiny
    assert len({r["psnr_y"] for r in rows}) == 3


def test_diinn_control_changes_nothing_but_how_branches_meet():
    """With a product and weights as they were it is the package's DIINN."""
    model = awake(diinn_control.make("weights x 8"))
    model.synthesis[0].weight.data /= 8
    package = build("diinn", "tiny").eval()
    package.load_state_dict(model.state_dict())
    lr, size = torch.rand(1, 3, 5, 6), (12, 15)
    near(render(model, lr, size), render(package, lr, size))


def test_hiif_digits_trains_three_networks_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(hiif_digits, "SEAMS", 2)
    words = ["--steps", "2", "--seeds", "1", "--scales", "4", "8"]
    rows = record_of(hiif_digits.main, tmp_path / "h.json", *words)["rows"]
    found = [(r["told"], r["seed"], r["scale"]) for r in rows]
    assert found == [(told, 1, x) for told in hiif_digits.TOLD for x in (4, 8)]
    assert len({r["psnr_y"] for r in rows}) == len(rows)
    assert all(r["border"] > 0 and r["centre"] > 0 for r in rows)


# The benchmark


def row(model="liif", size="tiny", pixels=100, cpu=1.0, peak=3.0) -> dict:
    """What `growth_of` reads of a row."""
    made = {"model": model, "size": size, "pixels": pixels}
    return {**made, "cpu_seconds": cpu, "peak_mb": peak}


def test_benchmark_measures_every_model_and_compares_it_with_the_plain_formula(
    tmp_path,
):
    words = ["--model", "liif", "lte", "idm", "--size", "tiny", "--lr", "4x6"]
    plot = tmp_path / "plot.png"
    words += ["--scale", "2", "30", "--plot", str(plot)]
    record = record_of(benchmark.main, tmp_path / "b.json", *words)
    rows = {(row["model"], row["scale"]): row for row in record["rows"]}
    assert list(rows) == [
        ("liif", 2),
        ("liif", 30),
        ("lte", 2),
        ("lte", 30),
        ("idm", 2),
    ]
    assert rows["liif", 30]["plain_cpu_seconds"] >= 0
    assert 0 < rows["liif", 30]["plain_difference"] < 1e-5
    assert rows["lte", 2]["plain_cpu_seconds"] is None
    assert record["growth"] == [] and plot.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_growth_finds_the_power_and_the_price_of_a_pixel(power):
    pixels = [10**5, 10**6, 10**7]
    rows = [row(pixels=n, cpu=1e-6 * n**power) for n in pixels]
    rows += [row(pixels=10, cpu=50.0)]  # too few pixels: the encoder dominates there
    (fit,) = benchmark.growth_of(rows)
    assert fit["exponent"] == pytest.approx(power)
    last, before = rows[2]["cpu_seconds"], rows[1]["cpu_seconds"]
    assert fit["us_per_pixel"] == pytest.approx((last - before) / 9e6 * 1e6)


def test_growth_of_memory_leaves_the_output_out():
    """It has three float32 numbers a pixel, and 2^20 bytes are a MB here."""
    output = 12 * 10**6 / 2**20
    rows = [row(pixels=10**5, peak=20.0), row(pixels=10**6, peak=20 + output)]
    (fit,) = benchmark.growth_of([*rows, row("x", pixels=10**6)])  # x has one row only
    assert fit["mb"] == pytest.approx([20 - output / 10, 20])


# Growth where queries depend on each other


@pytest.mark.parametrize("heads, n", [(1, 40), (4, 300)])
@pytest.mark.parametrize("name", growth.NONLOCAL)
def test_sums_and_pairs_give_the_same_numbers(name, heads, n):
    qkv = torch.randn(3, 2, heads, n, 8, dtype=torch.float64)
    by_sums, by_pairs = (way(*qkv) for way in growth.STEPS[name])
    near(by_sums, by_pairs, 1e-12)
    assert by_sums.std() > 1e-3


def test_growth_measures_both_ways_until_pairs_are_too_large(tmp_path, monkeypatch):
    heads = build("hiif", "tiny").options.heads
    monkeypatch.setattr(growth, "PAIRS_BYTES", 3 * 4 * heads * 32**4 + 1)
    words = ["--model", "hiif", "--size", "tiny", "--sides", "32", "64"]
    small, large = record_of(growth.main, tmp_path / "g.json", *words)["rows"]
    assert (small["queries"], large["queries"]) == (32**2, 64**2)
    assert large["sums_mb"] == pytest.approx(4 * small["sums_mb"], rel=0.1)
    assert small["pairs_mb"] > 4 * large["sums_mb"]
    assert large["pairs_mb"] is large["pairs_cpu_seconds"] is None
    assert small["peak_mb"] > 0 and large["cpu_seconds"] >= 0


# Seams, the exam and its reader


def test_seams_writes_a_row_a_model_and_scale(tmp_path, weights):
    words = ["--model", str(weights), "--scales", "2", "4"]
    rows = record_of(seams.main, tmp_path / "s.json", *words)["rows"]
    assert [(r["model"], r["scale"]) for r in rows] == [
        (weights.name, 2),
        (weights.name, 4),
    ]
    assert all(math.isfinite(r[key]) for r in rows for key in ("border", "centre"))


def test_exam_scores_a_sampler_and_a_mean(tmp_path):
    words = ["--model", "idm", "liif-digits", "--count", "4", "--seeds", "2"]
    words += ["--steps", "1", "2", "--ancestral", "--shapes", "500", "4"]
    record = record_of(exam.main, tmp_path / "e.json", *words)
    rows = [(r["model"], r["steps"], "ancestral" in r) for r in record["rows"]]
    assert rows[:2] == [("idm", 1, False), ("idm", 2, False)]
    assert rows[2:] == [("idm", 1, True), ("liif-digits", 0, False)]
    assert all(sum(r["calibration"]["count"]) == 40 for r in record["rows"])
    assert [len(p) for p in record["chances"]] == [10] * 4
    assert {"accuracy", "consistency"} < record["laws"].keys()


def test_a_perfect_sampler_is_calibrated():
    p = torch.rand(500, 10).softmax(1)
    curve = exam.calibration(p, p)
    assert curve["chance"] == curve["share"] and sum(curve["count"]) == 5000


def test_a_reader_trains_and_is_read_back(tmp_path):
    path = tmp_path / "reader.safetensors"
    reader.main(["--out", str(path), "--count", "120", "--steps", "60"])
    x = held_out(100)
    assert (load_reader(path).read(x.hr) == x.labels).float().mean() > 0.15


def test_white_errors_are_as_fine_as_coarse(tmp_path):
    model = build("idm", "tiny", target="noise")
    model.predict = lambda y, level, condition: y  # at the start all of y is noise
    found = noise_error.measure(model, held_out(8), 0.3)
    assert 0.29 < found["fine"] < 0.31 and 0.27 < found["coarse"] < 0.33
    path = tmp_path / "n.json"
    words = ["--preset", "smoke", "--steps", "1", "2", "--seeds", "0", "--count", "2"]
    noise_error.main([*words, "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert [(r["steps"], r["added"]) for r in rows] == [(1, 0), (2, 0), (2, 0.1)]


# An hour with a GPU


def test_gpu_hour_trains_logs_scores_and_goes_on(tmp_path, monkeypatch, capsys):
    """By the smoke preset, on a CPU; called again, it trains no further."""
    monkeypatch.setitem(PRESETS, "gpu", PRESETS["smoke"])
    monkeypatch.setattr(gpu_hour, "TRIAL", 6)
    monkeypatch.setattr(gpu_hour.Log.__init__, "__defaults__", (0.0,))
    Image.fromarray(picture(130, 100)).save(tmp_path / "photo.png")
    out, crops = tmp_path / "out", sample_crops(48)
    monkeypatch.setattr(gpu_hour, "sample_crops", lambda: crops)
    words = [str(tmp_path), "--minutes", "0.02", "--out", str(out), "--device", "cpu"]
    for _ in range(2):
        gpu_hour.main(words)
        steps = json.loads((out / "speed.json").read_text())["steps"]
        assert f"{steps} steps on" in capsys.readouterr().out
        log = list(csv.DictReader((out / "log.csv").open()))
        assert [int(line["step"]) for line in log] == list(range(2, steps + 1))
        assert all(float(line["steps_a_second"]) > 0 for line in log)
    card = read_card(out / "liif.safetensors")
    assert (card["steps"], card["config"]["name"]) == (steps, "liif")
    scores = json.loads((out / "scores.json").read_text())
    assert [row["scale"] for row in scores["rows"]] == [2, 3, 4]
