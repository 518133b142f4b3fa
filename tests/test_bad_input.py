"""Bad input on the command line: one line, exit code 2, and no file that changed."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import picture, tiny
from PIL import Image
from test_cli import command

import asr_course.weights
from asr_course.weights import save_weights


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with a photo, weights, and a data set of three photos in HR/."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(12, 17)).save("photo.png")
    save_weights(tiny(), "tiny.safetensors", {"steps": 0})
    Path("set/HR").mkdir(parents=True)
    for k, name in enumerate("abc"):
        Image.fromarray(picture(100, 102, k)).save(f"set/HR/{name}.png")
    return tmp_path


def everything() -> dict[str, bytes]:
    """All files that lie here, and what is in them; folders too."""
    paths = Path().rglob("*")
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in paths}


@pytest.fixture
def refused(capsys):
    """Runs a command, which must write one line and change no file; the line."""

    def run(*words) -> str:
        capsys.readouterr()
        before = everything()
        assert command(*words) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and re.fullmatch(r"[^\n]+\n", printed.err)
        assert printed.err.startswith(("asr_course", "python -m asr_course"))
        assert everything() == before
        return printed.err

    return run


def words_of(name: str, *more) -> list:
    """A command that works, but for what `more` changes."""
    base = {
        "upscale": ["photo.png", "out.png", "--model", "tiny.safetensors"],
        "evaluate": ["--model", "bicubic", "--data", "set"],
        "train": ["--preset", "smoke", "--out", "run", "--steps", 1],
        "profile": ["--size", "tiny", "--lr", "4x4"],
    }
    return [name, *base[name], "--device", "cpu", *more]


REFUSALS = {
    "upscale": [
        ((), "scale or a size"),
        (("--scale", "two"), "argument --scale"),
        (("--scale", "0.5"), "1 or more"),
        (("--scale", 4, "--max-pixels", 3000), "more than 3000"),
        (("--size", "12"), "argument --size"),
        (("--scale", 2, "--model", "none.safetensors"), "none.*cannot be read"),
        (("--scale", 2, "--model", "photo.png"), "unknown shipped weights"),
    ],
    "evaluate": [
        (("--scales", 0.5), "1 or more, not 0.5"),
        (("--scales", 60), "large enough for x60"),
        (("--protocol", "liif", "dinn"), "argument --protocol.*'dinn'"),
        (("--data", "nowhere"), "nowhere is not a folder"),
        (("--model", "bicubic", "none.safetensors"), "none.*cannot be read"),
        (("--json", "photo.png/a.json"), "cannot write photo.png"),
        (("--record", "set"), "set exists"),
        (("--json", "a.json", "--record", "a.json"), "cannot hold two things"),
        (("--json", "tiny.safetensors"), "exists: .*--overwrite"),
        (("--save", "set"), "set exists"),
        (("--save", "new", "--data", "set", "./set"), "different names"),
        (("--save", "photo.png/x"), "cannot write photo.png"),
    ],
    "train": [
        (("--model", "lif"), "argument --model.*'lif'"),
        (("--schedule", "cosin"), "argument --schedule"),
        (("--set", "hiden=(8,8)"), "Did you mean 'hidden'"),
        (("--set", "hidden"), "option=value, not 'hidden'"),
        (("--set", "size=paper"), "option=value, not 'size=paper'"),
        (("--seed", -1), "seed .*not -1"),
        (("--data", "set", "--digits"), "--data or --digits"),
        (("--data", "nowhere"), "nowhere is not a folder"),
        (("--device", "cuda:99"), "'cuda:99' is not there"),
        (("--out", "photo.png/run"), "cannot write photo.png"),
    ],
    "profile": [
        (("--scale", 2, "nan"), "--scale between"),
        (("--lr", "0x5"), "--lr must be"),
        (("--size", "tinny"), "argument --size.*'tinny'"),
        (("--plot", "photo.png"), "photo.png exists"),
    ],
}
ROWS = [(name, *row) for name, rows in REFUSALS.items() for row in rows]


@pytest.mark.parametrize("name, more, said", ROWS, ids=str)
def test_commands_refuse(refused, monkeypatch, name, more, said):
    """Before any work: nothing is printed, and no file changes."""
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", Path())
    assert re.search(said, refused(*words_of(name, *more)))


@pytest.mark.parametrize("words", [[], ["upscal"], ["train"], ["evaluate"]], ids=str)
def test_incomplete_commands(refused, words):
    assert "--help" in refused(*words)


@pytest.mark.parametrize("name", ["two\nlines.png", "missing.png"])
def test_images_that_cannot_be_read(refused, name):
    """Files of every kind: test_images.py."""
    if "\n" in name:
        Path(name).write_bytes(b"Dear all,\n")
    words = ("--model", "tiny.safetensors", "--scale", 2)
    said = refused("upscale", name, "out.png", *words)
    assert "cannot read" in said and name.split()[0] in said


@pytest.mark.parametrize("target", ["photo.png/out.png", "out.xyz", "x.jpg"])
def test_places_for_an_image_are_tried_before_the_model(refused, target):
    """The last because the photo has transparency, which a .jpg does not hold."""
    image = Image.open("photo.png")
    image.putalpha(100)
    image.save("photo.png")
    said = refused("upscale", "photo.png", target, "--scale", 2, "--model", "none")
    assert f"cannot write {target}" in said


def test_train_overwrites_neither_weights_nor_a_stopped_run(refused):
    """A person who forgets --resume loses nothing."""
    assert command(*words_of("train", "--steps", 2)) == 0
    assert "--resume" in refused(*words_of("train", "--steps", 2))
    Path("run/liif.safetensors").unlink()
    state = torch.load("run/checkpoint.pt")
    torch.save({**state, "step": 1}, "run/checkpoint.pt")
    assert "steps of this run: resume it" in refused(*words_of("train", "--steps", 2))


def test_a_training_that_diverged_leaves_no_weights(capsys):
    assert command(*words_of("train", "--rate", "1e30", "--steps", 3)) == 2
    assert "with a smaller rate" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("run").exists()


class Bomb:
    """Unpickled, it makes the folder "executed"."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_checkpoints_and_weights_that_cannot_be_read(refused):
    """They stay, to be looked at; nothing in them is ever executed."""
    content = pickle.dumps(Bomb())
    Path("run").mkdir()
    Path("run/checkpoint.pt").write_bytes(content)
    assert "checkpoint.pt is not a readable" in refused(*words_of("train", "--resume"))
    Path("bad.safetensors").write_bytes(content)
    words = words_of("upscale", "--scale", 2, "--model", "bad.safetensors")
    assert "bad.safetensors cannot be read" in refused(*words)


def test_what_cannot_be_used_is_left_out_in_one_note(capsys):
    """By evaluate and by train; the figures are those of the other images."""
    command(*words_of("evaluate"))
    table = capsys.readouterr().out
    whole = Path("set/HR/a.png").read_bytes()
    Path("set/HR/broken.png").write_bytes(whole[:-9000])
    Image.fromarray(picture(12, 17)).save("set/HR/small.png")
    for words in (words_of("evaluate"), words_of("train", "--data", "set")):
        assert command(*words) == 0
        note, *rest = capsys.readouterr().out.splitlines()
        assert "2 of 5" in note and "broken.png" in note and "small.png (12x17" in note
        assert words[0] == "train" or rest == table.splitlines()


def test_low_resolution_files_of_another_size_are_refused_before_any_work(refused):
    Path("set/LR_bicubic/X3").mkdir(parents=True)
    for name in "abc":
        low = picture(33, 34 if name != "b" else 33)
        Image.fromarray(low).save(f"set/LR_bicubic/X3/{name}.png")
    assert "X3/b.png" in refused(*words_of("evaluate", "--scales", 2, 3))


@pytest.mark.parametrize(
    "error, said", [(MemoryError(), "not enough memory"), (OSError(28, "full"), "full")]
)
def test_a_machine_that_is_too_small(refused, monkeypatch, error, said):
    def work(*_, **__):
        raise error

    monkeypatch.setattr("asr_course.commands.upscale", work)
    assert said in refused(*words_of("upscale", "--scale", 2))


def process(words, **how) -> subprocess.CompletedProcess:
    """python -m asr_course, where these tests run; it prints when it ends."""
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    how = {"stderr": subprocess.PIPE, "text": True, "timeout": 120, **how}
    command = [sys.executable, "-m", "asr_course", *map(str, words)]
    return subprocess.run(command, env=buffered, **how)


def test_a_process_ends_in_one_line():
    before = everything()
    done = process(words_of("upscale", "--scale", 99_999), stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "--max-pixels" in done.stderr
    assert everything() == before


def test_nobody_reads_what_is_printed():
    """The pipe is closed, as after `| head`: the work is done, and no word is lost."""
    there, here = os.pipe()
    os.close(there)
    done = process(words_of("upscale", "--scale", 2), stdout=here)
    os.close(here)
    assert (done.returncode, done.stderr) == (141, "")
    assert Image.open("out.png").size == (34, 24)
