"""The command line: what it writes, and what it says when something is wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from helpers import picture, tiny
from PIL import Image

import asr_course.weights
from asr_course import load_weights, upscale
from asr_course.__main__ import main, number, parse_options, rows_by_columns
from studies.ablate import TRAINING, ablate, train_variant
from studies.benchmark import format_profile
from asr_course.claims import format_tally
from asr_course.lessons.side_by_side import seams
from asr_course.data import Patches, Procedural
from asr_course.errors import UserError
from asr_course.lessons.exam import (
    answers,
    calibration,
    format_marks,
    frequencies,
    held_out,
    laws,
    score_answers,
)
from studies.growth import format_growth
from asr_course.metrics import evaluate
from asr_course.models import ABLATIONS, DEFAULT_ENCODER, MODELS
from asr_course.presets import PRESETS
from asr_course.lessons.readers import load_readers, train_readers
from asr_course.weights import read_card, save_weights

SMOKE = PRESETS["smoke"].full  # what `train --preset smoke` does


def command(*words) -> int:
    """Run a command in this process; argparse leaves by SystemExit."""
    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return end.code


def one_line(capsys) -> str:
    """The one line on stderr that says what was wrong."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1, printed.err
    assert re.match(r"(python -m )?asr_course", printed.err)
    return printed.err


def python_m(*words, cwd) -> subprocess.CompletedProcess:
    """The real thing: python -m asr_course in another folder."""
    return subprocess.run(
        [sys.executable, "-m", "asr_course", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


# Words


@pytest.mark.parametrize(
    "text, value", [("2", 2), ("2.0", 2), ("3.7", 3.7), ("1e9", 10**9), ("-2", -2)]
)
def test_numbers(text, value):
    assert number(text) == value
    assert isinstance(number(text), int) == isinstance(value, int)


def test_sizes_are_rows_by_columns():
    assert rows_by_columns("240x320") == (240, 320)
    assert rows_by_columns("24X32") == (24, 32)


def test_options_are_python_values_or_words():
    pairs = ["hidden=(8,8)", "skip=False", "name=abc", "x=1=2"]
    expected = {"hidden": (8, 8), "skip": False, "name": "abc", "x": "1=2"}
    assert parse_options(pairs) == expected
    with pytest.raises(UserError, match="option=value, not 'skip'"):
        parse_options(["skip"])


@pytest.mark.parametrize("words", [["--help"], ["upscale", "--help"]])
def test_help(words, capsys):
    assert command(*words) == 0
    assert "upscale" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["upscal"], ["train"], ["evaluate"]])
def test_incomplete_commands(words, capsys):
    assert command(*words) == 2
    assert "--help" in one_line(capsys)


# upscale


def upscale_words(photo, weights, *more):
    out = photo.parent / "out.png"
    device = [] if "--device" in more else ["--device", "cpu"]
    return ["upscale", photo, out, "--model", weights, *more, *device]


@pytest.mark.parametrize(
    "how, size",
    [
        (("--scale", "3.7"), (44, 63)),  # 12 and 17 times 3.7 are 44.4 and 62.9
        (("--scale", "1"), (12, 17)),
        (("--size", "24x34"), (24, 34)),
        (("--size", "30x17"), (30, 17)),
    ],
)
def test_upscale_writes_what_the_package_computes(photo, weights, how, size, capsys):
    assert command(*upscale_words(photo, weights, *how)) == 0
    result = Image.open(photo.parent / "out.png")
    assert result.size == size[::-1]
    expected = upscale(load_weights(weights), photo, size=size)
    assert np.array_equal(result, expected)
    printed = capsys.readouterr()
    assert f"12x17 to {size[0]}x{size[1]} (rows x columns)" in printed.out
    assert printed.err == ""
    assert sorted(os.listdir(photo.parent)) == ["out.png", photo.name, weights.name]


@pytest.mark.parametrize(
    "size, note",
    [
        (
            "30x17",
            "note: rows grew 2.5 times, columns 1 times, so shapes are stretched",
        ),
        ("24x51", "note: rows grew 2 times, columns 3 times, so shapes are stretched"),
        ("36x51", None),
    ],
)
def test_upscale_says_when_shapes_are_stretched(photo, weights, size, note, capsys):
    command(*upscale_words(photo, weights, "--size", size))
    assert capsys.readouterr().out.splitlines()[1:] == ([note] if note else [])


def test_a_scale_does_not_stretch(photo, weights, capsys):
    """44 and 63 are as near to 3.7 times 12 and 17 as whole numbers can be."""
    command(*upscale_words(photo, weights, "--scale", "3.7"))
    assert "note" not in capsys.readouterr().out


def test_upscale_replaces_its_own_input(photo, weights):
    words = ["upscale", photo, photo, "--model", weights, "--scale", 2]
    assert command(*words, "--device", "cpu") == 0
    assert Image.open(photo).size == (34, 24)


@pytest.mark.parametrize(
    "how, words",
    [
        (("--scale", "0"), "1 or more, not 0"),
        (("--scale", "-2"), "1 or more, not -2"),
        (("--scale", "0.5"), "1 or more, not 0.5"),
        (("--scale", "nan"), "finite number, not nan"),
        (("--scale", "inf"), "finite number, not inf"),
        (("--scale", "1e9"), "more than 268435456 pixels.*--max-pixels"),
        (("--scale", "1e300"), "more than 268435456 pixels"),
        (("--scale", "4", "--max-pixels", "3000"), "48x68 is more than 3000 pixels"),
        (("--size", "5x400"), "5x400 is smaller than the picture's 12x17"),
        (("--size", "0x0"), "above 0"),
        (("--size", "0x40"), "above 0"),
        (("--size", "100000x100000"), "--max-pixels"),
        (("--scale", "2", "--device", "tpu"), "unknown device 'tpu'"),
    ],
)
def test_upscale_refuses(photo, weights, how, words, capsys):
    before = sorted(os.listdir(photo.parent))
    assert command(*upscale_words(photo, weights, *how)) == 2
    line = one_line(capsys)
    assert line.startswith("asr_course upscale: ")
    assert re.search(words, line), line
    assert sorted(os.listdir(photo.parent)) == before


@pytest.mark.parametrize(
    "how, words",
    [
        (("--scale", "abc"), "argument --scale: 'abc' is not a number"),
        (("--scale", ""), "argument --scale"),
        (("--size", "12"), "argument --size"),
        (("--size", "axb"), "argument --size"),
        (("--size", "3x4x5"), "argument --size"),
        (("--size", "24.0x34"), "argument --size"),
        (("--size=-24x34",), "argument --size"),
        (("--scale", "2", "--size", "24x34"), "not allowed with"),
        ((), "one of the arguments --scale --size is required"),
    ],
)
def test_upscale_refuses_words_of_another_kind(photo, weights, how, words, capsys):
    before = sorted(os.listdir(photo.parent))
    assert command(*upscale_words(photo, weights, *how)) == 2
    assert words in one_line(capsys)
    assert sorted(os.listdir(photo.parent)) == before


@pytest.mark.parametrize(
    "source, target, words",
    [
        ("nothing.png", "out.png", r"no such file: .*nothing\.png"),
        (".", "out.png", "is a folder; a picture was expected"),
        ("tiny.safetensors", "out.png", "cannot read .* as a picture"),
        ("photo.png", "nowhere/out.png", "the folder .*nowhere does not exist"),
        ("photo.png", "out.xyz", "end its name in"),
        ("photo.png", "out", "end its name in"),
    ],
)
def test_upscale_refuses_places(photo, weights, source, target, words, capsys):
    folder = photo.parent
    before = sorted(os.listdir(folder))
    status = command(
        "upscale", folder / source, folder / target, "--model", weights, "--scale", 2
    )
    assert status == 2
    assert re.search(words, one_line(capsys))
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("name", ["out.xyz", "nowhere/out.png"])
def test_upscale_refuses_places_before_it_works(photo, weights, name, monkeypatch):
    def busy(*_, **__):
        raise AssertionError("the model was asked")

    monkeypatch.setattr(import_module("asr_course.render"), "upscale", busy)
    words = ["upscale", photo, photo.parent / name, "--model", weights, "--scale", 2]
    assert command(*words) == 2


def test_upscale_of_a_damaged_picture(photo, weights, capsys):
    photo.write_bytes(photo.read_bytes()[:-100])
    assert command(*upscale_words(photo, weights, "--scale", 2)) == 2
    assert re.search("cannot read|damaged", one_line(capsys))
    assert not (photo.parent / "out.png").exists()


def test_upscale_does_not_lose_transparency(photo, weights, capsys):
    image = Image.open(photo)
    image.putalpha(100)
    image.save(photo)
    words = ["upscale", photo, photo.parent / "out.jpg", "--model", weights]
    assert command(*words, "--scale", 2, "--device", "cpu") == 2
    assert "write a .png" in one_line(capsys)
    assert sorted(os.listdir(photo.parent)) == [photo.name, weights.name]


def test_unknown_weights_suggest_the_nearest(photo, weights, capsys, monkeypatch):
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", weights.parent)
    assert command(*upscale_words(photo, "tinny", "--scale", 2)) == 2
    assert "Did you mean 'tiny'?" in one_line(capsys)


def test_shipped_weights_by_name(photo, weights, monkeypatch):
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", weights.parent)
    assert command(*upscale_words(photo, "tiny", "--scale", 2)) == 0


def test_missing_weights_file(photo, capsys):
    assert command(*upscale_words(photo, "none.safetensors", "--scale", 2)) == 2
    assert "no such weights file: none.safetensors" in one_line(capsys)


def test_interrupted_upscale_leaves_nothing(photo, weights, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("asr_course.render"), "upscale", interrupted)
    assert command(*upscale_words(photo, weights, "--scale", 2)) == 130
    assert one_line(capsys) == "asr_course upscale: interrupted\n"
    assert not (photo.parent / "out.png").exists()


def test_python_m_upscale(photo, weights):
    """From another folder, with relative names."""
    done = python_m(
        *("upscale", photo.name, "out.png", "--model", weights.name),
        *("--scale", "3.7", "--device", "cpu"),
        cwd=photo.parent,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "out.png: 12x17 to 44x63 (rows x columns)"
    expected = upscale(load_weights(weights), photo, 3.7)
    found = np.asarray(Image.open(photo.parent / "out.png")).astype(int)
    assert np.abs(found - np.asarray(expected)).max() <= 1


def test_python_m_upscale_fails_in_one_line(photo, weights):
    done = python_m(
        *("upscale", photo.name, "out.png", "--model", weights.name, "--scale", "1e9"),
        cwd=photo.parent,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "--max-pixels" in done.stderr
    assert sorted(os.listdir(photo.parent)) == [photo.name, weights.name]


# evaluate


@pytest.fixture
def folder(tmp_path):
    """Two pictures, large enough for a training crop of preset smoke too."""
    folder = tmp_path / "photos"
    folder.mkdir()
    side = int(SMOKE.recipe.patch * SMOKE.recipe.scale_max) + 4
    for k, name in enumerate(["a.png", "b.png"]):
        Image.fromarray(picture(side, side + k, k)).save(folder / name)
    return folder


def test_evaluate_prints_a_table_and_writes_json(folder, weights, tmp_path, capsys):
    path, out = tmp_path / "rows.json", tmp_path / "out"
    status = command(
        *("evaluate", "--model", weights, "--data", folder, "--scales", "2", "2.5"),
        *("--json", path, "--save", out, "--per-image", "--device", "cpu"),
    )
    assert status == 0
    rows = json.loads(path.read_text())
    expected = evaluate(
        load_weights(weights), folder, [2, 2.5], per_image=True, name=str(weights)
    )
    assert rows == [{**row, "method": "liif", "seed": None} for row in expected]
    table = capsys.readouterr().out
    assert len(table.splitlines()) == 1 + 6 + 1
    assert f"{rows[0]['psnr_y']:.2f}" in table.splitlines()[1]
    assert "a.png" in table and "protocol liif" in table
    assert sorted(p.name for p in out.rglob("*.png")) == ["a.png", "a.png"] + [
        "b.png",
        "b.png",
    ]
    assert set(os.listdir(tmp_path)) == {"out", "photos", "rows.json", weights.name}


def test_evaluate_bicubic_at_the_default_scales(folder, capsys):
    assert command("evaluate", "--model", "bicubic", "--data", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = evaluate(None, folder, [2, 3, 4], name="bicubic")
    for line, row in zip(lines[1:], expected, strict=False):
        assert line.split()[:3] == ["photos", f"{row['scale']}", f"{row['psnr_y']:.2f}"]
    assert len(lines) == 5


@pytest.mark.parametrize(
    "more, words",
    [
        (("--scales", "0"), "1 or more, not 0"),
        (("--scales", "nan"), "1 or more, not nan"),
        (("--scales", "2", "1e9"), "nothing left"),
        (("--protocol", "dinn"), "Did you mean 'diinn'"),
        (("--grey", "gray"), "Did you mean 'grey'"),
    ],
)
def test_evaluate_refuses(folder, more, words, capsys):
    assert command("evaluate", "--model", "bicubic", "--data", folder, *more) == 2
    assert words in one_line(capsys)


@pytest.mark.parametrize(
    "name, words", [("nowhere", "is not a folder"), ("empty", "no picture in")]
)
def test_evaluate_refuses_folders(tmp_path, name, words, capsys):
    (tmp_path / "empty").mkdir()
    assert command("evaluate", "--model", "bicubic", "--data", tmp_path / name) == 2
    assert words in one_line(capsys)


@pytest.mark.parametrize(
    "option, place", [("--json", "nowhere/rows.json"), ("--save", "photos/a.png")]
)
def test_evaluate_into_a_place_that_is_not_there(folder, option, place, capsys):
    words = ["evaluate", "--model", "bicubic", "--data", folder, "--scales", "2"]
    assert command(*words, option, folder.parent / place) == 2
    assert place in capsys.readouterr().err


def test_evaluate_by_both_protocols(folder, weights, tmp_path, capsys):
    """Rows of both, a folder of outputs for each, and a record that names both."""
    path, record, out = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "out"
    status = command(
        *("evaluate", "--model", weights, "--data", folder, "--scales", "2"),
        *("--protocol", "liif", "diinn", "--device", "cpu"),
        *("--json", path, "--record", record, "--save", out),
    )
    assert status == 0
    expected = []
    for protocol in ("liif", "diinn"):
        options = {"protocol": protocol, "name": str(weights)}
        expected += evaluate(load_weights(weights), folder, [2], **options)
    expected = [{**row, "method": "liif", "seed": None} for row in expected]
    assert json.loads(path.read_text()) == expected
    assert expected[0]["psnr_rgb"] != expected[1]["psnr_rgb"]
    found = json.loads(record.read_text())
    named = [{**row, "model": weights.name} for row in expected]  # without its folder
    assert found["rows"] == named
    assert found["command"] == (
        f"python -m asr_course evaluate --model {weights.name} --data photos "
        "--scales 2 --protocol liif diinn --grey rgb"
    )
    written = {str(p.relative_to(out)) for p in out.rglob("*.png")}
    assert written == {
        f"tiny/photos/{protocol}/x2/{name}.png"
        for protocol in ("liif", "diinn")
        for name in "ab"
    }
    table = capsys.readouterr().out
    assert "protocol liif" in table and "protocol diinn" in table


def test_evaluate_by_one_protocol_makes_no_folder_for_it(folder, tmp_path):
    out = tmp_path / "out"
    words = ["evaluate", "--model", "bicubic", "--data", folder, "--scales", "2"]
    assert command(*words, "--protocol", "diinn", "--save", out) == 0
    assert sorted(os.listdir(out)) == ["x2"]


def test_evaluate_several_models(folder, weights, tmp_path):
    """A folder of outputs for each, though there is one protocol."""
    out, path = tmp_path / "out", tmp_path / "rows.json"
    words = ["evaluate", "--model", "bicubic", weights, "--data", folder]
    more = ("--scales", "2", "--save", out, "--json", path, "--device", "cpu")
    assert command(*words, *more) == 0
    assert sorted(os.listdir(out)) == ["bicubic", "tiny"]
    assert sorted(os.listdir(out / "tiny" / "photos")) == ["x2"]
    rows = json.loads(path.read_text())
    assert [row["model"] for row in rows] == ["bicubic", str(weights)]


def test_a_record_tells_weights_apart_by_their_file_names(
    folder, weights, tmp_path, capsys
):
    twin = tmp_path / "elsewhere" / weights.name
    twin.parent.mkdir()
    shutil.copy(weights, twin)
    words = ["evaluate", "--model", weights, twin, "--data", folder, "--scales", "2"]
    assert command(*words, "--record", tmp_path / "rows.json") == 2
    assert "file names" in one_line(capsys)


def test_evaluate_says_method_and_seed_of_weights_and_how_they_were_made(
    folder, tmp_path
):
    """From their cards; bicubic has none, and files stand without their folders."""
    for seed in (1, 0):
        card = {"seed": seed, "command": f"train --seed {seed}"}
        save_weights(tiny(), tmp_path / "run" / f"{seed}.safetensors", card)
    models = [tmp_path / "run" / f"{seed}.safetensors" for seed in (1, 0)]
    path, record = tmp_path / "rows.json", tmp_path / "record.json"
    status = command(
        *("evaluate", "--model", *models, "bicubic", "--data", folder, "--scales", 2),
        *("--json", path, "--record", record, "--per-image", "--device", "cpu"),
    )
    assert status == 0
    found = json.loads(record.read_text())
    names = ["1.safetensors"] * 3 + ["0.safetensors"] * 3 + ["bicubic"] * 3
    assert [row["model"] for row in found["rows"]] == names
    for rows in (found["rows"], json.loads(path.read_text())):
        methods = [(row.get("method"), row.get("seed")) for row in rows]
        assert methods == [("liif", 1)] * 3 + [("liif", 0)] * 3 + [(None, None)] * 3
    assert all("seed" not in row for row in found["rows"][6:])
    assert found["trained"] == {
        "1.safetensors": "train --seed 1",
        "0.safetensors": "train --seed 0",
    }


def test_evaluate_knows_how_shipped_weights_were_made(folder, weights, monkeypatch):
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", weights.parent)
    save_weights(tiny(), weights, {"seed": 4, "command": "train --seed 4"})
    record = folder.parent / "record.json"
    words = ("evaluate", "--model", "tiny", "--data", folder, "--scales", 2)
    assert command(*words, "--record", record, "--device", "cpu") == 0
    found = json.loads(record.read_text())
    assert [(row["method"], row["seed"]) for row in found["rows"]] == [("liif", 4)]
    assert found["trained"] == {"tiny": "train --seed 4"}


def test_evaluate_refuses_one_protocol_of_two(folder, tmp_path, capsys):
    words = ["evaluate", "--model", "bicubic", "--data", folder, "--scales", "2"]
    path = tmp_path / "rows.json"
    assert command(*words, "--protocol", "liif", "dinn", "--json", path) == 2
    assert "Did you mean 'diinn'" in capsys.readouterr().err
    assert not path.exists()


# train


def train_words(out, *more):
    return ["train", "--preset", "smoke", "--out", out, "--device", "cpu", *more]


def state_of(path) -> dict[str, torch.Tensor]:
    return load_weights(path).state_dict()


def assert_same_weights(found, expected) -> None:
    found, expected = state_of(found), state_of(expected)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_train_on_generated_pictures(tmp_path, capsys):
    assert command(*train_words(tmp_path / "run", "--steps", 3)) == 0
    path = tmp_path / "run" / "liif.safetensors"
    assert sorted(os.listdir(path.parent)) == ["checkpoint.pt", "liif.safetensors"]
    card = read_card(path)
    assert card["data"] == f"{SMOKE.pictures} generated pictures"
    assert (card["steps"], card["seed"]) == (3, 0)
    assert 0 < card["final_l1"] < 0.5
    assert card["command"] == (
        "python -m asr_course train --model liif --preset smoke --steps 3 --seed 0"
    )
    assert card["config"]["encoder"] == DEFAULT_ENCODER[SMOKE.size]
    assert f"{path}: 3 steps, L1 {card['final_l1']:.4f}" in capsys.readouterr().out


def test_interrupted_training_goes_on_with_resume(
    folder, tmp_path, capsys, monkeypatch
):
    """Ctrl-C while the fourth of five batches is made; the end is the same bits."""
    more = ("--data", folder, "--steps", 5, "--seed", 3)
    assert command(*train_words(tmp_path / "whole", *more)) == 0
    capsys.readouterr()

    batch, asked, original = SMOKE.recipe.batch, [], Patches.__getitem__

    def watched(self, index):
        if index == 3 * batch and index not in asked:
            asked.append(index)
            raise KeyboardInterrupt
        asked.append(index)
        return original(self, index)

    run = tmp_path / "run"
    monkeypatch.setattr(Patches, "__getitem__", watched)
    assert command(*train_words(run, *more)) == 130
    said = re.search(
        "stopped after step (.) of 5; the same command with --resume goes on",
        capsys.readouterr().out,
    )
    step = int(said[1])  # 2 or 3: a batch may be made ahead
    assert step in (2, 3)
    assert os.listdir(run) == ["checkpoint.pt"]

    asked[:] = [3 * batch]
    assert command(*train_words(run, *more, "--resume")) == 0
    assert asked[1:] == list(range(step * batch, 5 * batch))
    assert_same_weights(run / "liif.safetensors", tmp_path / "whole/liif.safetensors")
    assert read_card(run / "liif.safetensors")["data"] == "photos"


def test_train_does_not_overwrite(folder, tmp_path, capsys):
    words = train_words(tmp_path / "run", "--data", folder, "--steps", 1)
    assert command(*words) == 0
    files = {p: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    capsys.readouterr()
    assert command(*words, "--seed", 1) == 2
    assert "liif.safetensors exists; choose another --out" in one_line(capsys)
    assert {p: p.read_bytes() for p in (tmp_path / "run").iterdir()} == files


def test_train_sets_options(folder, tmp_path):
    more = ("--set", "hidden=(8,8)", "skip=False", "--encoder", "edsr-laptop")
    words = train_words(tmp_path / "run", "--data", folder, "--steps", 1, *more)
    assert command(*words) == 0
    model = load_weights(tmp_path / "run" / "liif.safetensors")
    assert model.options.hidden == (8, 8) and model.options.skip is False
    assert model.encoder.channels == 48
    assert (
        "--set hidden=(8,8) skip=False --encoder edsr-laptop"
        in (read_card(tmp_path / "run" / "liif.safetensors")["command"])
    )


def test_trained_weights_can_be_used(folder, tmp_path, photo):
    """train, then evaluate and upscale with the file it wrote."""
    run = tmp_path / "run"
    assert command(*train_words(run, "--data", folder, "--steps", 1)) == 0
    weights = run / "liif.safetensors"
    assert command(*upscale_words(photo, weights, "--scale", 2)) == 0
    words = ["evaluate", "--model", weights, "--data", folder, "--scales", 2]
    assert command(*words, "--device", "cpu") == 0


@pytest.mark.parametrize(
    "more, words",
    [
        (("--model", "lif"), "unknown model 'lif'.*Did you mean 'liif'"),
        (("--preset", "smok"), "unknown preset 'smok'.*Did you mean 'smoke'"),
        (("--set", "hiden=(8,8)"), "option of liif 'hiden'.*Did you mean 'hidden'"),
        (("--set", "hidden"), "option=value, not 'hidden'"),
        (("--encoder", "edsr-tini"), "Did you mean 'edsr-tiny'"),
        (("--steps", "0"), "at least 1 step"),
        (("--steps", "-3"), "at least 1 step"),
        (("--seed", "-1"), "seed must be a whole number"),
        (("--device", "tpu"), "unknown device 'tpu'"),
        (("--data", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_train_refuses(tmp_path, more, words, capsys):
    assert command(*train_words(tmp_path / "run", *more)) == 2
    line = one_line(capsys)
    assert line.startswith("asr_course train: ") and re.search(words, line)
    assert os.listdir(tmp_path) == []


def test_train_refuses_small_pictures(photo, tmp_path, capsys):
    words = train_words(tmp_path / "run", "--data", photo.parent)
    assert command(*words) == 2
    assert "no picture in" in one_line(capsys)


def test_train_says_which_pictures_it_leaves_out(folder, tmp_path, capsys):
    Image.fromarray(picture(30, 30)).save(folder / "small.png")
    words = train_words(tmp_path / "run", "--data", folder, "--steps", 1)
    assert command(*words) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        f"note: 1 of 3 pictures in {folder} left out: small.png (30x30, smaller than "
        f"{SMOKE.recipe.crop})"
    )


def test_train_with_a_damaged_checkpoint(folder, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_text("no")
    words = train_words(tmp_path / "run", "--data", folder, "--steps", 1, "--resume")
    assert command(*words) == 2
    error = capsys.readouterr().err
    assert "checkpoint.pt is not a readable checkpoint" in error
    assert "delete it to start anew" in error


def test_train_into_a_file(folder, tmp_path, capsys):
    """Said before the training, not after it."""
    (tmp_path / "run").write_text("a file")
    words = train_words(tmp_path / "run", "--data", folder, "--steps", 1)
    assert command(*words) == 2
    assert "run" in one_line(capsys)


def test_train_refuses_values_of_another_kind(tmp_path, capsys):
    assert command(*train_words(tmp_path / "run", "--set", "hidden=8")) == 2
    assert "hidden" in one_line(capsys)


# profile


def profile_words(*more):
    return ["profile", "--size", "tiny", "--lr", "6x5", "--device", "cpu", *more]


def test_profile_prints_a_table_and_writes_a_record(tmp_path, capsys):
    path = tmp_path / "profile.json"
    more = ("--model", "liif", "lte", "--scale", "2", "2.5", "--json", path)
    assert command(*profile_words(*more)) == 0
    record = json.loads(path.read_text())
    rows = record["rows"]
    assert [(row["model"], row["scale"]) for row in rows] == [
        *(("liif", 2), ("liif", 2.5)),
        *(("lte", 2), ("lte", 2.5)),
    ]
    assert all((row["size"], row["lr"]) == ("tiny", "6x5") for row in rows)
    assert record["command"] == (
        "python -m asr_course profile --model liif lte --size tiny --lr 6x5 "
        "--scale 2 2.5"
    )
    assert {"python", "torch", "hardware", "code"} <= set(record)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == format_profile(rows) + "\n"


def test_profile_of_all_models(capsys):
    assert command(*profile_words("--all", "--scale", "2")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(MODELS)]] == list(MODELS)


def test_profile_leaves_out_scales_that_a_model_cannot_draw(capsys):
    """IDM draws what it was trained for; the others go on."""
    words = ("--model", "idm", "liif", "--scale", "2", "9")
    assert command(*profile_words(*words)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        *(["idm", "2"], ["liif", "2"], ["liif", "9"]),
    ]


def test_profile_draws_its_figure(tmp_path, capsys):
    path = tmp_path / "growth.png"
    words = ("--size", "tiny", "laptop", "--scale", "1", "2", "--plot", path)
    assert command(*profile_words(*words)) == 0
    assert np.asarray(Image.open(path).convert("L")).min() < 128


@pytest.mark.parametrize(
    "more, words",
    [
        (("--scale", "0"), "--scale must lie between 1 and 64, not 0"),
        (("--scale", "2", "0.5"), "between 1 and 64, not 0.5"),
        (("--scale", "65"), "between 1 and 64, not 65"),
        (("--scale", "nan"), "between 1 and 64, not nan"),
        (("--scale", "abc"), "argument --scale: 'abc' is not a number"),
        (("--lr", "0x5"), "--lr needs at least one row and one column"),
        (("--lr", "5"), "argument --lr: '5' is not ROWSxCOLUMNS"),
        (("--lr", "5x-5"), "argument --lr"),
        (("--model", "lif"), "unknown model.*'lif'.*Did you mean 'liif'"),
        (("--model", "liif", "dinn"), "unknown model.*'dinn'.*Did you mean 'diinn'"),
        (("--plot", "growth.xyz"), "cannot write growth.xyz: end its name in .png"),
        (("--size", "tinny"), "unknown size 'tinny'.*Did you mean 'tiny'"),
        (("--device", "tpu"), "unknown device 'tpu'"),
    ],
)
def test_profile_refuses(tmp_path, more, words, capsys):
    path = tmp_path / "profile.json"
    assert command(*profile_words("--json", path, *more)) == 2
    assert re.search(words, one_line(capsys))
    assert not path.exists()


def test_profile_into_a_folder_that_is_not_there(tmp_path, capsys):
    path = tmp_path / "nowhere" / "profile.json"
    assert command(*profile_words("--json", path)) == 2
    assert "nowhere" in capsys.readouterr().err


# growth


def growth_words(*more):
    words = ["growth", "--model", "hiif", "diin", "--size", "tiny", "--device", "cpu"]
    return [*words, *more]


def without_times(rows: list[dict]) -> list[dict]:
    """What is the same in every run."""
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


def test_growth_prints_a_table_and_writes_a_record(tmp_path, capsys):
    path = tmp_path / "growth.json"
    assert command(*growth_words("--sides", 32, 40, "--json", path)) == 0
    record = json.loads(path.read_text())
    rows = record["rows"]
    assert [(row["model"], row["queries"]) for row in rows] == [
        *(("hiif", 32**2), ("hiif", 40**2)),
        *(("diin", 32**2), ("diin", 40**2)),
    ]
    assert record["command"] == (
        "python -m asr_course growth --model hiif diin --size tiny --sides 32 40"
    )
    assert {"python", "torch", "hardware", "code"} <= set(record)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == format_growth(rows) + "\n"


def test_the_recorded_growth_command_repeats_it(tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert command(*growth_words("--sides", 33, "--json", first)) == 0
    record = json.loads(first.read_text())
    words = record["command"].removeprefix("python -m asr_course ").split()
    assert command(*words, "--device", "cpu", "--json", second) == 0
    again = json.loads(second.read_text())
    assert again["command"] == record["command"]
    assert without_times(again["rows"]) == without_times(record["rows"])


@pytest.mark.parametrize(
    "more, words",
    [
        (("--sides", "31"), r"--sides must lie between 32 and 4096, not 31"),
        (("--sides", "64", "0"), "between 32 and 4096"),
        (("--sides", "4097"), "between 32 and 4096"),
        (("--sides=-64",), "between 32 and 4096"),
        (("--sides", "64.5"), "argument --sides: invalid int value: '64.5'"),
        (("--sides", "64x64"), "argument --sides"),
        (("--sides",), "argument --sides: expected at least one argument"),
        (("--model", "hif"), "unknown model whose queries.*'hif'.*Did you mean 'hiif'"),
        (
            ("--model", "liif"),
            "unknown model whose queries hear from each other 'liif'",
        ),
        (("--size", "tinny"), "unknown size 'tinny'.*Did you mean 'tiny'"),
        (("--device", "tpu"), "unknown device 'tpu'"),
    ],
)
def test_growth_refuses(tmp_path, more, words, capsys):
    path = tmp_path / "growth.json"
    assert command(*growth_words("--json", path, *more)) == 2
    assert re.search(words, one_line(capsys))
    assert not path.exists()


def test_growth_into_a_folder_that_is_not_there(tmp_path, capsys):
    """Said before anything is measured."""
    path = tmp_path / "nowhere" / "growth.json"
    assert command(*growth_words("--json", path)) == 2
    assert "nowhere" in one_line(capsys)


def test_weights_fixture_is_awake(photo, weights):
    """The model these tests use changes the picture."""
    save_weights(tiny(), weights, {})
    same_size = np.asarray(upscale(load_weights(weights), photo, 1)).astype(int)
    assert np.abs(same_size - np.asarray(Image.open(photo))).mean() > 5


# seams


def test_seams_prints_a_table_and_writes_a_record(weights, tmp_path, capsys):
    path = tmp_path / "seams.json"
    words = ("seams", "--model", weights, "--scales", 2, 4, "--json", path)
    assert command(*words, "--device", "cpu") == 0
    record = json.loads(path.read_text())
    model = load_weights(weights)
    assert record["rows"] == [
        {"model": weights.name, "scale": scale, **seams(model, scale)}
        for scale in (2, 4)
    ]
    assert record["command"] == (
        f"python -m asr_course seams --model {weights.name} --scales 2 4"
    )
    assert {"python", "torch", "hardware", "code"} <= record.keys()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "scale", "border", "centre"]
    for line, row in zip(lines[1:], record["rows"], strict=True):
        shown = [weights.name, str(row["scale"])]
        assert line.split() == shown + [
            f"{row[key]:.2f}" for key in ("border", "centre")
        ]


def test_the_recorded_seams_command_repeats_it(weights, tmp_path, monkeypatch):
    """It names no folders, so it is run where the weights are."""
    monkeypatch.chdir(weights.parent)
    assert command("seams", "--model", weights, "--scales", 2, "--json", "a.json") == 0
    record = json.loads((tmp_path / "a.json").read_text())
    assert "/" not in record["command"]
    words = record["command"].removeprefix("python -m asr_course ").split()
    assert command(*words, "--json", "b.json") == 0
    assert json.loads((tmp_path / "b.json").read_text())["rows"] == record["rows"]


@pytest.mark.parametrize(
    "more, words",
    [
        (("--scales", 3), "--scales are even numbers from 2 to 64, not 3"),
        (("--scales", 8, 1), "even numbers from 2 to 64, not 1"),
        (("--scales", 0), "even numbers from 2 to 64, not 0"),
        (("--scales=-2",), "even numbers from 2 to 64, not -2"),
        (("--scales", 66), "even numbers from 2 to 64, not 66"),
        (("--scales", 2.5), "argument --scales: invalid int value: '2.5'"),
        (("--scales",), "argument --scales: expected at least one argument"),
        (("--device", "tpu"), "unknown device 'tpu'"),
        (("--json", "nowhere/seams.json"), "cannot write nowhere"),
    ],
)
def test_seams_refuses(weights, more, words, capsys):
    assert command("seams", "--model", weights, *more) == 2
    assert words in one_line(capsys)


@pytest.mark.parametrize(
    "name, words",
    [
        ("idm", "idm draws its answer: it has no function to follow"),
        ("lif", "unknown shipped weights 'lif': .*Did you mean 'liif'"),
        ("none.safetensors", "no such weights file: none.safetensors"),
    ],
)
def test_seams_refuses_models(name, words, tmp_path, capsys):
    path = tmp_path / "seams.json"
    words_given = ("seams", "--model", name, "--scales", 2, "--json", path)
    assert command(*words_given, "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(words, error)
    assert not path.exists()


# claims


ROW = {
    "paper": "DIIF",
    "place": "Table 1",
    "kind": "parameters",
    "claim": "LIIF on RDN: millions of parameters",
    "printed": "22.321",
    "ours": "22.321",
    "verdict": "reproduced",
    "evidence": "counted",
}


def test_claims_prints_a_tally_and_writes_a_record(tmp_path, capsys, monkeypatch):
    rows = [ROW, {**ROW, "paper": "IDM", "verdict": "not checkable here"}]
    monkeypatch.setattr("asr_course.claims.ledger", lambda: rows)
    path = tmp_path / "claims.json"
    assert command("claims", "--json", path) == 0
    record = json.loads(path.read_text())
    assert record["rows"] == rows
    assert record["command"] == "python -m asr_course claims"
    assert capsys.readouterr().out == format_tally(rows) + "\n"


def test_claims_into_a_folder_that_is_not_there(capsys):
    assert command("claims", "--json", "nowhere/claims.json") == 2
    assert "cannot write nowhere" in one_line(capsys)


# ablate, and a rate of one's own


def test_ablate_writes_a_record_that_says_how(tmp_path, capsys):
    path = tmp_path / "a.json"
    status = command(
        *("ablate", "--model", "diif", "--preset", "smoke", "--steps", 2),
        *("--rate", "1e-3", "--seeds", 0, 1, "--variants", "full", "rows"),
        *("--scales", 2, 2.5, "--json", path, "--device", "cpu"),
    )
    assert status == 0
    assert capsys.readouterr().out.count(": done") == 4
    record = json.loads(path.read_text())
    assert record["command"] == (
        "python -m asr_course ablate --model diif --preset smoke --steps 2 "
        "--rate 0.001 --seeds 0 1 --scales 2 2.5 --variants full rows --json a.json"
    )
    found = {(r["variant"], r["seed"], r["scale"]) for r in record["rows"]}
    assert len(record["rows"]) == len(found) == 8


@pytest.mark.parametrize(
    "words, said",
    [
        (("--variants", "ful"), "unknown variant of diif 'ful': choose from full"),
        (("--variants", "x3-only"), ", x4-only. Did you mean 'x4-only'?"),
        (("--model", "idm", "--variants", "x4-only"), "unknown variant of idm"),
        (("--scales", 0.5), "scale must be a number of 1 or more, not 0.5"),
        (("--rate", 0), "a rate above 0"),
        (("--steps", 0), "at least 1 step"),
        (("--model", "metasr"), "unknown model with ablations 'metasr'"),
        (("--json", "no/such/folder.json"), "the folder no/such does not exist"),
    ],
)
def test_ablate_refuses_before_it_trains(words, said, capsys):
    assert command("ablate", "--model", "diif", "--preset", "smoke", *words) == 2
    assert said in one_line(capsys)


def trained_as(variant, monkeypatch, name="diif"):
    """The model and the recipe that a variant would be trained with."""
    seen = []
    monkeypatch.setattr(
        "studies.ablate.train",
        lambda model, pictures, recipe, *_, **__: seen.append((model, recipe)),
    )
    plan = PRESETS["smoke"].lesson
    assert train_variant(name, variant, plan, 0, []) is seen[0][0]
    return seen[0]


def test_x4_only_changes_the_training_and_leaves_the_model_alone(monkeypatch):
    plan = PRESETS["smoke"].lesson
    whole, recipe = trained_as("full", monkeypatch)
    assert recipe == plan.recipe and recipe.scale_min == 1
    found, changed = trained_as("x4-only", monkeypatch)
    assert found.config == whole.config
    assert all(map(torch.equal, found.parameters(), whole.parameters()))
    assert changed == replace(plan.recipe, scale_min=4.0, scale_max=4.0)


def test_samples_of_x4_only_are_all_at_x4(monkeypatch):
    """Pixel sizes times the input's rows are 2 / s; a scale rules over a batch."""

    def scales(recipe) -> list[float]:
        samples = recipe.samples(Procedural(1, 0), 0, 4 * recipe.batch)
        first = [samples[k * recipe.batch] for k in range(4)]
        return [2 / float(sample.cell[0] * recipe.patch) for sample in first]

    assert scales(trained_as("x4-only", monkeypatch)[1]) == [4, 4, 4, 4]
    assert len(set(scales(trained_as("full", monkeypatch)[1]))) == 4


def test_variants_of_the_model_leave_the_training_alone(monkeypatch):
    found, recipe = trained_as("cs", monkeypatch)
    assert recipe == PRESETS["smoke"].lesson.recipe
    assert found.options.slicing == "constant"


def test_ablate_leaves_variants_of_the_training_out_unless_they_are_named(monkeypatch):
    """All variants of liif, and x4-only beside one of them; nothing is scored."""
    asked = []

    def noted(name, variant, *_):
        asked.append(variant)

    monkeypatch.setattr("studies.ablate.train_variant", noted)
    monkeypatch.setattr("studies.ablate.evaluate", lambda *_: [{"scale": 2}])
    plan = PRESETS["smoke"].lesson
    ablate("liif", plan, [0])
    assert asked == list(ABLATIONS["liif"]) and "x4-only" not in asked
    asked.clear()
    rows = ablate("liif", plan, [0, 1], variants=["full", "x4-only"])
    assert asked == ["full", "x4-only"] * 2
    assert [(row["variant"], row["seed"]) for row in rows] == [
        *(("full", 0), ("x4-only", 0)),
        *(("full", 1), ("x4-only", 1)),
    ]
    assert all(row["model"] == "liif" for row in rows)


def test_no_model_has_a_variant_called_as_one_of_the_training():
    assert not any(TRAINING.keys() & variants.keys() for variants in ABLATIONS.values())


def test_a_rate_of_one_s_own_stands_in_the_card(tmp_path):
    out = tmp_path / "run"
    words = ("--preset", "smoke", "--steps", 2, "--rate", "5e-4", "--device", "cpu")
    assert command("train", "--model", "diinn", *words, "--out", out) == 0
    card = read_card(out / "diinn.safetensors")
    assert "--steps 2 --rate 0.0005 --seed 0" in card["command"]


def test_a_schedule_of_one_s_own_stands_in_the_card(tmp_path, capsys):
    words = ("--preset", "smoke", "--steps", 2, "--device", "cpu")
    out = tmp_path / "run"
    assert command("train", *words, "--schedule", "restarts", "--out", out) == 0
    card = read_card(out / "liif.safetensors")
    assert "--schedule restarts" in card["command"]
    capsys.readouterr()
    again = ("--schedule", "restart", "--out", tmp_path / "other")
    assert command("train", *words, *again) == 2
    assert "Did you mean 'restarts'" in one_line(capsys)


# Models that draw their answer, and digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with an IDM and a LIIF that saw a few digits, and 4 x 4 pixels."""
    folder = tmp_path_factory.mktemp("digits")
    words = ("train", "--preset", "smoke", "--steps", 2, "--device", "cpu")
    assert command(*words, "--model", "idm", "--out", folder / "run") == 0
    more = ("--digits", "--loss", "l2", "--out", folder / "run")
    assert command(*words, "--model", "liif", *more) == 0
    Image.fromarray(picture(4, 4)).save(folder / "small.png")
    return folder


def enlarged(digits, *more) -> bytes:
    """The file that `upscale` writes of 4 x 4 pixels, as bytes."""
    weights = digits / "run" / "idm.safetensors"
    out = digits / "out.png"
    words = ("upscale", digits / "small.png", out, "--model", weights)
    assert command(*words, "--size", "24x40", "--device", "cpu", *more) == 0
    return out.read_bytes()


def test_idm_trains_on_digits_unless_it_is_told_otherwise(digits):
    card = read_card(digits / "run" / "idm.safetensors")
    assert (card["data"], card["steps"]) == ("drawn digits", 2)
    assert 0 < card["final_l1"] < 2
    assert card["command"] == (
        "python -m asr_course train --model idm --preset smoke --steps 2 --seed 0"
    )
    plan = PRESETS["smoke"].digits_full
    assert card["config"]["options"]["largest"] == plan.recipe.scale_max


def test_other_models_train_on_digits_if_they_are_told(digits):
    card = read_card(digits / "run" / "liif.safetensors")
    assert card["data"] == "drawn digits"
    assert 0 < card["final_l2"] < 0.5 and "final_l1" not in card
    assert "--steps 2 --seed 0" not in card["command"]
    for words in ("--digits", "--loss l2"):
        assert words in card["command"]


def test_a_recorded_digits_command_repeats_the_weights(digits, tmp_path):
    for name in ("idm", "liif"):
        path = digits / "run" / f"{name}.safetensors"
        words = read_card(path)["command"].removeprefix("python -m asr_course ")
        again = (*words.split(), "--out", tmp_path / "run", "--device", "cpu")
        assert command(*again) == 0
        assert_same_weights(tmp_path / "run" / path.name, path)


def test_upscale_draws_the_same_picture_from_the_same_seed(digits):
    first = enlarged(digits, "--steps", 3, "--seed", 1)
    found = np.asarray(Image.open(digits / "out.png"))
    model = load_weights(digits / "run" / "idm.safetensors")
    small = digits / "small.png"
    expected = upscale(model, small, size=(24, 40), steps=3, seed=1)
    assert np.array_equal(found, expected)
    assert enlarged(digits, "--steps", 3, "--seed", 1) == first
    for other in (("--steps", 3), ("--steps", 3, "--seed", 2), ("--steps", 4)):
        assert enlarged(digits, *other) != first


@pytest.mark.parametrize(
    "more, words",
    [
        (("--steps", 0), "steps must be a whole number from 1 to 1000, not 0"),
        (
            ("--steps", 1001),
            "steps must be a whole number from 1 to 1000, not 1001",
        ),
        (("--steps", "many"), "argument --steps: invalid int value: 'many'"),
        (("--seed", -1), "seed must be a whole number of 0 or more, not -1"),
        (("--seed", "1.5"), "argument --seed: invalid int value: '1.5'"),
        (("--scale", 300), "pixels at most; 1200x1200 are more: choose a smaller"),
    ],
)
def test_upscale_refuses_what_a_sampler_cannot_do(digits, more, words, capsys):
    weights, out = digits / "run" / "idm.safetensors", digits / "never.png"
    how = () if "--scale" in more else ("--scale", 3)
    base = ("upscale", digits / "small.png", out, "--model", weights, *how, *more)
    assert command(*base, "--device", "cpu") == 2
    assert words in one_line(capsys)
    assert not out.exists()


def test_idm_trains_on_photographs(tmp_path, capsys):
    """64 x 64 are one crop; what is smaller is left out."""
    photos, run = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for k, side in enumerate((64, 70, 63)):
        Image.fromarray(picture(side, side, k)).save(photos / f"{k}.png")
    more = ("--model", "idm", "--data", photos, "--steps", 2)
    assert command(*train_words(run, *more)) == 0
    assert "left out: 2.png (63x63, smaller than 64)" in capsys.readouterr().out
    card = read_card(run / "idm.safetensors")
    assert card["data"] == "photos" and card["config"]["options"]["largest"] == 4
    assert "--data photos --steps 2" in card["command"]
    words = ["evaluate", "--model", run / "idm.safetensors", "--data", photos]
    path = tmp_path / "rows.json"
    assert command(*words, "--scales", 4, "--json", path, "--device", "cpu") == 0
    (row,) = json.loads(path.read_text())
    assert 0 < row["psnr_y"] < 30


def test_options_of_idm_can_be_set(tmp_path):
    run = tmp_path / "run"
    options = ("--set", "target=v", "largest=6", "widths=(16,24)", "attention=(1,)")
    assert command(*train_words(run, "--model", "idm", "--steps", 1, *options)) == 0
    found = load_weights(run / "idm.safetensors").options
    assert (found.target, found.largest) == ("v", 6)
    assert (found.widths, found.attention) == ((16, 24), (1,))


@pytest.mark.parametrize(
    "more, words",
    [
        (("--data", ".", "--digits"), "give either --data or --digits"),
        (("--model", "idm", "--loss", "l3"), "unknown loss 'l3'"),
        (("--schedule", "stage"), "Did you mean 'stages'"),
        (("--model", "idm", "--set", "target=nois"), "Did you mean 'noise'"),
        (("--model", "idm", "--set", "widths=(16,20)"), "multiples of groups"),
        (("--model", "idm", "--set", "steps=0"), "steps must be a whole number"),
        (("--model", "idm", "--set", "scale_input=p", "largest=1"), "largest"),
    ],
)
def test_train_refuses_what_digits_and_samplers_cannot_be(
    tmp_path, more, words, capsys
):
    base = train_words(tmp_path / "run", "--steps", 1, *more)
    assert command(*base) == 2
    assert words in one_line(capsys)
    assert os.listdir(tmp_path) == []


def exam_words(digits, *more):
    models = [digits / "run" / f"{name}.safetensors" for name in ("idm", "liif")]
    words = ["exam", "--model", *models, "--count", 4, "--seeds", 2]
    return [*words, "--device", "cpu", *more]


def test_exam_prints_marks_and_writes_a_record(digits, tmp_path, capsys):
    path = tmp_path / "exam.json"
    assert command(*exam_words(digits, "--steps", 2, 3, "--json", path)) == 0
    record = json.loads(path.read_text())
    rows = record["rows"]
    names = ["idm"] * 2 + ["liif"]
    assert [row["model"] for row in rows] == names
    assert [row["steps"] for row in rows] == [2, 3, 0]
    assert record["command"] == (
        "python -m asr_course exam --model idm.safetensors liif.safetensors "
        "--count 4 --seeds 2 --steps 2 3"
    )
    assert {"python", "torch", "hardware", "code"} <= record.keys()
    readers, exam = load_readers(), held_out(4)
    found = answers(load_weights(digits / "run" / "idm.safetensors"), exam, 2, 2)
    marks = score_answers(found, exam, readers)
    for name, mark in marks.items():
        assert rows[0][name] == pytest.approx(mark, rel=1e-3), name
    assert record["laws"] == laws(exam, readers)
    shown = frequencies(torch.stack([readers.read(x) for x in found]))
    assert record["calibration"] == calibration(readers.glance(exam.lr), shown)
    assert format_marks(rows, record["laws"]) in capsys.readouterr().out


@pytest.mark.parametrize(
    "more, words",
    [
        (("--count", 0), "--count, --seeds and --steps must be 1 or more"),
        (("--seeds", -1), "--count, --seeds and --steps must be 1 or more"),
        (("--steps", 2, 0), "--count, --seeds and --steps must be 1 or more"),
        (
            ("--steps", 1001),
            "steps must be a whole number from 1 to 1000, not 1001",
        ),
        (("--steps", "x"), "argument --steps: invalid int value: 'x'"),
        (("--model", "lif"), "unknown shipped weights 'lif'"),
        (("--model", "none.safetensors"), "no such weights file"),
        (("--device", "tpu"), "unknown device 'tpu'"),
    ],
)
def test_exam_refuses(digits, tmp_path, more, words, capsys):
    path = tmp_path / "exam.json"
    assert command(*exam_words(digits, "--json", path, *more)) == 2
    assert words in one_line(capsys)
    assert not path.exists()


@pytest.mark.parametrize(
    "words",
    [("exam", "--json", "nowhere/a.json"), ("readers", "--out", "nowhere/a.st")],
)
def test_a_folder_that_is_not_there_is_said_before_any_work(words, capsys):
    assert command(*words) == 2
    assert "cannot write nowhere" in one_line(capsys)


def test_readers_are_written_and_tried(tmp_path, capsys, monkeypatch):
    """Other ones than the command trains, which takes minutes."""
    module = import_module("asr_course.lessons.readers")
    small = train_readers(20, (2, 1), seed=0)
    monkeypatch.setattr(module, "train_readers", lambda: small)
    held = import_module("asr_course.lessons.exam").held_out
    monkeypatch.setattr("asr_course.lessons.exam.held_out", lambda count: held(count // 100))
    path = tmp_path / "readers.safetensors"
    assert command("readers", "--out", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("drawing digits and training")
    assert [line.split(":")[0] for line in lines[1:]] == list(laws(held(2), small))
    monkeypatch.setattr(module, "READERS", path)
    lr = torch.rand(5, 3, 4, 4)
    assert torch.equal(load_readers().glance(lr), small.glance(lr))


def test_ablate_examines_idm_on_digits(tmp_path, monkeypatch):
    """All variants can be named; two are run, with a short exam."""
    held = import_module("asr_course.lessons.exam").held_out
    monkeypatch.setattr("studies.ablate.held_out", lambda count: held(2))
    path = tmp_path / "a.json"
    words = ("ablate", "--model", "idm", "--preset", "smoke", "--steps", 1)
    more = ("--variants", "full", "as released", "--json", path, "--device", "cpu")
    assert command(*words, *more) == 0
    record = json.loads(path.read_text())
    assert [(row["variant"], row["seed"]) for row in record["rows"]] == [
        ("full", 0),
        ("as released", 0),
    ]
    for row in record["rows"]:
        assert {"accuracy", "sharpness", "consistency", "distance"} <= row.keys()
    assert {"full", "as released"} <= ABLATIONS["idm"].keys()
