"""README, CONTRIBUTING and docs/: links, commands, the seventh method, tables."""

import re
import shlex
import sys
from contextlib import nullcontext
from functools import partial
from importlib import import_module

import pages
import pytest
import torch
from helpers import ROOT, picture
from PIL import Image

import asr_course as asr
from asr_course import models
from asr_course.__main__ import main, parser
from asr_course.lessons import EXERCISES

TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/README.md"]
TEXTS += sorted((ROOT / "docs").glob("*.md"))
each_page = pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)


def blocks(page, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


@each_page
def test_links_lead_somewhere_and_commands_can_be_typed(page):
    """The options of ours are known, scripts and targets of make exist; none is run."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
        words = shlex.split(line.replace("seventh", "liif"), comments=True)
        if "asr_course" in words:
            parser().parse_args(words[words.index("asr_course") + 1 :])
        assert words[:1] != ["make"] or words[1] in targets
        for script in re.findall(r"(?:studies|tools|docs)/\w+\.py", line):
            assert (ROOT / script).exists()


# A seventh method, as docs/add_a_method.md has it


@pytest.fixture
def seventh(tmp_path, monkeypatch):
    """The first block of the page as a module, and its class in METHODS."""
    code, _ = blocks(ROOT / "docs" / "add_a_method.md", "python")
    (tmp_path / "seventh.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("seventh")
    monkeypatch.setitem(models.METHODS, "seventh", module.Seventh)
    yield module
    del sys.modules["seventh"]


def test_the_seventh_method_builds_draws_trains_and_is_counted(seventh, tmp_path):
    for size in seventh.Seventh.SIZES:
        with torch.device("meta"):
            assert asr.build("seventh", size).config["name"] == "seventh"
    model = asr.build("seventh", "tiny").eval()
    assert asr.upscale(model, Image.fromarray(picture(6, 8)), 2.5).size == (20, 15)
    draw = partial(asr.render, model, torch.rand(1, 3, 6, 8), (12, 16))
    assert asr.macs_paper(model, (6, 8), 2) == asr.multiplications(draw)
    out = str(tmp_path / "run")
    words = ["train", "--model", "seventh", "--preset", "smoke", "--steps", "1"]
    assert main([*words, "--out", out, "--device", "cpu"]) == 0
    assert isinstance(asr.load_weights(f"{out}/seventh.safetensors"), seventh.Seventh)


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_the_page_s_tests_pass_and_can_fail(seventh, right):
    """A model that shifts with its first query fails both."""
    _, tests = blocks(ROOT / "docs" / "add_a_method.md", "python")

    class Wrong(seventh.Seventh):
        def predict(self, features, queries, cell):
            return super().predict(features, queries, cell) + queries.rows[0, 0, 0]

    names = dict(vars(seventh))
    exec(tests, names)
    names["Seventh"] = seventh.Seventh if right else Wrong
    found = [test for name, test in names.items() if name.startswith("test_")]
    assert len(found) == 2
    for test in found:
        with nullcontext() if right else pytest.raises(AssertionError):
            test()


def test_pages_are_fresh_and_list_every_exercise_and_method():
    fresh = pages.pages()
    for name, text in fresh.items():
        assert (ROOT / name).read_text() == text, f"{name} is stale: make pages"
    listed = re.findall(r"`(\w+\.\d)`", pages.exercises())
    assert sorted(listed) == sorted(EXERCISES)
    for name in models.METHODS:
        assert f"train --model {name} --preset paper " in fresh["docs/training.md"]


def test_the_cost_of_training_is_counted_from_the_formulas():
    """By hand, for whole scales: weights of an encoder and a decoder, times places."""
    edsr, liif, diinn = 1_218_240, 345_856, 984_576  # for a pixel, a corner, a query
    assert pages.macs_of_sample("liif", "edsr-baseline") == 48**2 * (edsr + 4 * liif)
    queries = sum((48 * s) ** 2 for s in (2, 3, 4)) / 3
    expected = 48**2 * edsr + queries * diinn
    assert pages.macs_of_sample("diinn", "edsr-baseline") == pytest.approx(expected)
