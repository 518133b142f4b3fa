"""The commands: what they write and print, and that a command repeats its result."""

import json
import os
import shlex

import numpy as np
import pytest
import torch
from helpers import near, picture, tiny
from PIL import Image

from asr_course import build, load_weights, upscale
from asr_course.__main__ import main, number, rows_by_columns
from asr_course.commands import format_rows
from asr_course.metrics import evaluate
from asr_course.models import DEFAULT_ENCODER, METHODS
from asr_course.presets import PRESETS
from asr_course.profile import format_profile
from asr_course.training_command import parse_options
from asr_course.weights import read_card, save_weights

SMOKE = PRESETS["smoke"].full  # what `train --preset smoke` does


def command(*words) -> int:
    """Run a command in this process; argparse leaves by SystemExit."""
    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return end.code


def on_cpu(*words) -> int:
    return command(*words, "--device", "cpu")


def test_words_become_numbers_sizes_and_options():
    for text, value in (("2.0", 2), ("3.7", 3.7), ("1e9", 10**9)):
        assert number(text) == value and isinstance(number(text), type(value))
    assert rows_by_columns("240x320") == (240, 320)
    pairs = ["hidden=(8,8)", "skip=False", "mode=abc", "x=1=2"]
    expected = {"hidden": (8, 8), "skip": False, "mode": "abc", "x": "1=2"}
    assert parse_options(pairs) == expected


def test_help(capsys):
    assert command("--help") == 0
    assert "upscale" in capsys.readouterr().out


@pytest.mark.parametrize(
    "how, size",
    [(("--scale", "3.7"), (44, 63)), (("--size", "24x51"), (24, 51))],
)
def test_upscale_writes_what_the_package_computes(photo, weights, how, size, capsys):
    """12 and 17 times 3.7 are 44.4 and 62.9."""
    out = photo.parent / "out.png"
    assert on_cpu("upscale", photo, out, "--model", weights, *how) == 0
    expected = upscale(load_weights(weights), photo, size=size)
    assert np.array_equal(Image.open(out), expected)
    printed = capsys.readouterr()
    assert f"12x17 to {size[0]}x{size[1]} (rows x columns)" in printed.out
    assert printed.err == ""
    assert sorted(os.listdir(photo.parent)) == ["out.png", photo.name, weights.name]


def test_interrupted_upscale_leaves_nothing(photo, weights, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("asr_course.commands.upscale", interrupted)
    out = photo.parent / "out.png"
    assert on_cpu("upscale", photo, out, "--model", weights, "--scale", 2) == 130
    assert capsys.readouterr().err == "asr_course upscale: interrupted\n"
    assert not out.exists()


@pytest.fixture
def folder(tmp_path):
    """Two images, large enough for a training crop of preset smoke too."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k, name in enumerate(["a.png", "b.png"]):
        side = SMOKE.recipe.crop + 4
        Image.fromarray(picture(side, side + k, k)).save(folder / name)
    return folder


def test_evaluate_prints_a_table_and_writes_json(folder, weights, tmp_path, capsys):
    path, out = tmp_path / "rows.json", tmp_path / "out"
    words = ("evaluate", "--model", weights, "--data", folder, "--json", path)
    assert on_cpu(*words, "--save", out, "--per-image") == 0
    scales, name = [2, 3, 4], str(weights)
    rows = evaluate(load_weights(weights), folder, scales, per_image=True, name=name)
    assert capsys.readouterr().out == format_rows(rows) + "\n"
    rows = [{**row, "method": "liif", "seed": None} for row in rows]
    assert json.loads(path.read_text()) == rows
    written = {str(p.relative_to(out)) for p in out.rglob("*.png")}
    assert written == {
        f"tiny/photos/liif/x{s}/{name}.png" for s in scales for name in "ab"
    }
    assert set(os.listdir(tmp_path)) == {"out", "photos", "rows.json", weights.name}


def test_evaluate_several_models_by_both_protocols(folder, tmp_path):
    """A folder of outputs for each; rows say method and seed; a record says how the
    weights were made."""
    path, record, out = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "out"
    file = tmp_path / "one.safetensors"
    save_weights(tiny(), file, {"seed": 4, "command": "train --seed 4"})
    words = ("evaluate", "--model", file, "bicubic", "--data", folder, "--scales", "2")
    more = ("--protocol", "liif", "diinn", "--json", path, "--record", record)
    assert on_cpu(*words, *more, "--save", out) == 0
    expected = []
    for model, name in ((load_weights(file), str(file)), (None, "bicubic")):
        about = {"method": "liif", "seed": 4} if model else {}
        for protocol in ("liif", "diinn"):
            rows = evaluate(model, folder, [2], protocol=protocol, name=name)
            expected += [{**row, **about} for row in rows]
    assert json.loads(path.read_text()) == expected
    assert expected[0]["psnr_rgb"] != expected[1]["psnr_rgb"]
    found = json.loads(record.read_text())
    named = [{**row, "model": row["model"].rpartition("/")[2]} for row in expected]
    assert found["rows"] == named  # without the folders of this machine
    assert found["trained"] == {"one.safetensors": "train --seed 4"}
    assert {"command", "python", "torch", "hardware", "commit"} <= found.keys()
    folders = {str(p.parent.relative_to(out)) for p in out.rglob("a.png")}
    both = ("liif", "diinn")
    assert folders == {f"{m}/photos/{p}/x2" for m in ("one", "bicubic") for p in both}


def train_words(out, *more):
    return ["train", "--preset", "smoke", "--out", out, *more]


def test_train_on_generated_images(tmp_path, capsys):
    more = ("--steps", 3, "--rate", "5e-4", "--schedule", "restarts", "--terms", "mine")
    assert on_cpu(*train_words(tmp_path / "run", *more)) == 0
    path = tmp_path / "run" / "liif.safetensors"
    names = ["checkpoint.pt", "liif.safetensors", "run.json"]
    assert sorted(os.listdir(path.parent)) == names
    card = read_card(path)
    assert card["data"] == f"{SMOKE.pictures} generated pictures"
    assert (card["steps"], card["seed"], card["terms"]) == (3, 0, "mine")
    assert 0 < card["final_l1"] < 0.5
    assert card["command"] == (
        "python -m asr_course train --preset smoke --out run --steps 3 --rate 5e-4 "
        "--schedule restarts --terms mine --device cpu"
    )
    assert card["config"]["encoder"] == DEFAULT_ENCODER[SMOKE.size]
    assert f"{path}: 3 steps, L1 {card['final_l1']:.4f}" in capsys.readouterr().out


def test_trained_weights_can_be_used(folder, tmp_path, photo):
    """train with options, then evaluate and upscale with the file it wrote."""
    more = ("--set", "hidden=(8,8)", "skip=False", "--encoder", "edsr-laptop")
    words = train_words(tmp_path / "run", "--data", folder, "--steps", 1, *more)
    assert on_cpu(*words) == 0
    weights = tmp_path / "run" / "liif.safetensors"
    model = load_weights(weights)
    assert model.options.hidden == (8, 8) and model.options.skip is False
    assert model.encoder.channels == 48
    assert read_card(weights)["data"] == "photos"
    words = ("upscale", photo, tmp_path / "large.png", "--model", weights, "--scale", 2)
    assert on_cpu(*words) == 0 and on_cpu(*words) == 2
    assert on_cpu(*words, "--overwrite") == 0
    assert on_cpu("upscale", photo, photo, *words[3:], "--overwrite") == 2
    assert on_cpu("evaluate", "--model", weights, "--data", folder) == 0


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with an IDM and a LIIF that saw a few digits, and 4 x 4 pixels."""
    folder = tmp_path_factory.mktemp("digits")
    for name, *more in (["idm"], ["liif", "--digits", "--loss", "l2"]):
        words = train_words(folder / "run" / name, "--steps", 2)
        assert on_cpu(*words, "--model", name, *more) == 0
    Image.fromarray(picture(4, 4)).save(folder / "small.png")
    return folder


def test_idm_trains_on_digits_by_default_and_others_when_asked(digits):
    card = read_card(digits / "run" / "idm" / "idm.safetensors")
    assert (card["data"], card["steps"]) == ("drawn digits", 2)
    assert 0 < card["final_l1"] < 2
    largest = PRESETS["smoke"].digits_full.recipe.scale_max
    assert card["config"]["options"]["largest"] == largest
    card = read_card(digits / "run" / "liif" / "liif.safetensors")
    assert card["data"] == "drawn digits" and 0 < card["final_l2"] < 0.5


@pytest.mark.parametrize("name", ["idm", "liif"])
def test_a_card_s_command_repeats_the_weights(digits, tmp_path, name):
    path = digits / "run" / name / f"{name}.safetensors"
    words = shlex.split(read_card(path)["command"])[3:]
    assert on_cpu(*words, "--out", tmp_path / "run") == 0
    files = tmp_path / "run" / path.name, path
    near(*(load_weights(file).state_dict() for file in files), atol=0)


def test_upscale_samples_the_same_image_from_the_same_seed(digits, capsys):
    weights, photo = digits / "run/idm/idm.safetensors", digits / "small.png"
    words = ("upscale", photo, digits / "out.png", "--model", weights)
    words += ("--size", "24x40", "--overwrite")
    for steps, seed in ((3, 1), (3, 2), (4, 1)):
        assert on_cpu(*words, "--steps", steps, "--seed", seed) == 0
        how = {"size": (24, 40), "steps": steps, "seed": seed}
        expected = upscale(load_weights(weights), photo, **how)
        assert np.array_equal(Image.open(digits / "out.png"), expected)
    assert on_cpu(*words, "--steps", 1001) == 2
    assert "1001" in capsys.readouterr().err


def test_idm_trains_on_photographs(tmp_path, folder):
    more = ("--model", "idm", "--data", folder, "--steps", 2)
    more += ("--set", "target=v", "largest=6")
    assert on_cpu(*train_words(tmp_path / "run", *more)) == 0
    file = tmp_path / "run" / "idm.safetensors"
    assert read_card(file)["data"] == "photos"
    options = load_weights(file).options
    assert (options.target, options.largest) == ("v", 6)


PROFILE = ["profile", "--size", "tiny", "--lr", "6x5"]


def test_profile_prints_a_table_and_writes_a_record_and_a_figure(tmp_path, capsys):
    path, plot = tmp_path / "profile.json", tmp_path / "growth.png"
    more = ("--model", "liif", "lte", "--scale", "2", "2.5", "--json", path)
    assert on_cpu(*PROFILE, *more, "--plot", plot) == 0
    record = json.loads(path.read_text())
    keys = ("model", "size", "lr", "scale")
    rows = [tuple(row[key] for key in keys) for row in record["rows"]]
    assert rows == [(n, "tiny", "6x5", s) for n in ("liif", "lte") for s in (2, 2.5)]
    assert {"command", "python", "torch", "hardware", "commit"} <= record.keys()
    assert capsys.readouterr().out == format_profile(record["rows"]) + "\n"
    assert np.asarray(Image.open(plot).convert("L")).min() < 128


def test_profile_of_all_models_leaves_out_scales_of_a_sampler(capsys):
    """IDM draws what it was trained for; the others go on."""
    assert on_cpu(*PROFILE, "--all", "--scale", "2", "9") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    expected = [(name, scale) for name in METHODS for scale in ("2", "9")]
    expected.remove(("idm", "9"))
    assert [(line[0], line[2]) for line in lines] == expected


def test_another_rate_loses_no_run_and_init_begins_with_weights(tmp_path, capsys):
    """One line says what differs; --init takes weights of a model like it."""
    out, words = tmp_path / "run", ["--steps", "2", "--rate", "1e-3"]
    assert on_cpu(*train_words(out, *words)) == 0
    kept = (out / "checkpoint.pt").read_bytes()
    assert on_cpu(*train_words(out, "--resume", "--steps", "2", "--rate", "2e-3")) == 2
    assert "schedule.rate: 0.001 there, 0.002 here" in capsys.readouterr().err
    assert (out / "checkpoint.pt").read_bytes() == kept
    (out / "checkpoint.pt").unlink()  # weights alone are not to be lost either
    assert on_cpu(*train_words(out, "--resume", *words)) == 2

    first, other = out / "liif.safetensors", tmp_path / "other"
    more = ["--init", first, "--steps", "1", "--rate", "1e-9"]
    assert on_cpu(*train_words(other, *more)) == 0
    a, b = (load_weights(f / "liif.safetensors").state_dict() for f in (out, other))
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)
    assert "--init" in read_card(other / "liif.safetensors")["command"]
    more = ["--init", first, "--set", "hidden=(8,8)"]
    assert on_cpu(*train_words(tmp_path / "third", *more)) == 2
    assert "options.hidden: (48, 48) there" in capsys.readouterr().err


def test_upscale_of_folders_names_what_fails_and_replaces_nothing(tmp_path, capsys):
    """Two inputs of one name, and outputs that exist, are refused."""
    weights, out = tmp_path / "tiny.safetensors", tmp_path / "out"
    save_weights(tiny(), weights, {})
    for name in ("one/a.png", "one/b.jpg", "two/c.tga", "two/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture(5, 7)).save(tmp_path / name)
    (tmp_path / "one" / "broken.png").write_bytes(b"no image")
    words = ["--model", weights, "--scale", 2]
    one, two = tmp_path / "one", tmp_path / "two"
    assert on_cpu("upscale", one, two / "c.tga", f"{out}/", *words) == 2
    printed = capsys.readouterr()
    assert printed.err.count("left out") == 1 and "broken.png" in printed.err
    assert sorted(os.listdir(out)) == ["a.png", "b.jpg", "c.png"]
    assert all(Image.open(file).size == (14, 10) for file in out.iterdir())
    (out / "a.png").write_bytes(b"mine")
    assert on_cpu("upscale", one, out, *words) == 2
    assert "exists" in capsys.readouterr().err
    assert (out / "a.png").read_bytes() == b"mine"
    assert on_cpu("upscale", one / "a.png", out, *words, "--overwrite") == 0
    assert on_cpu("upscale", one, "large.png", *words) == 2
    assert "name a folder for several" in capsys.readouterr().err
    assert on_cpu("upscale", one, two, tmp_path / "new", *words) == 2
    assert "two pictures are called a.png" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_extended_run_keeps_its_first_weights_and_what_its_card_says(tmp_path):
    """Resumed once more there is nothing to do, and nothing is written."""
    out = tmp_path / "run"
    file, first = out / "liif.safetensors", tmp_path / "first.safetensors"
    save_weights(build("liif", "tiny"), first, {})
    more = ["--steps", 2, "--init", first, "--terms", "CC0 Ann"]
    assert on_cpu(*train_words(out, *more)) == 0
    before = file.read_bytes()
    assert on_cpu(*train_words(out, "--resume", "--steps", 3)) == 0
    assert (out / "liif-1.safetensors").read_bytes() == before
    card, after = read_card(file), file.read_bytes()
    assert (card["steps"], card["terms"]) == (3, "CC0 Ann")
    assert "--init" in card["command"]
    assert on_cpu(*train_words(out, "--resume", "--steps", 3)) == 0
    assert file.read_bytes() == after and not (out / "liif-2.safetensors").exists()
    assert on_cpu(*train_words(out, "--resume", "--init", first)) == 2
    file.unlink()
    assert on_cpu(*train_words(out, "--steps", 4)) == 0  # a new run
    assert (out / "checkpoint-1.pt").exists()


def test_a_file_of_the_name_run_json_is_not_lost(tmp_path):
    (tmp_path / "run.json").write_text("mine")
    assert on_cpu(*train_words(tmp_path, "--steps", 1)) == 0
    assert (tmp_path / "run-1.json").read_text() == "mine"
