"""The pages in docs/: their code runs, links lead somewhere, numbers are fresh."""

import re
import shlex
import sys
from importlib import import_module

import pytest
import torch
from helpers import ROOT, picture
from pages import BLOCKS, macs_of_sample, pages
from PIL import Image

from asr_course import load_weights, models, plots, upscale
from asr_course.__main__ import main, parser
from asr_course.lessons import EXERCISES
from asr_course.models import build

DOCS = sorted((ROOT / "docs").glob("*.md"))
WRITTEN = sorted({*(name for name, _ in BLOCKS), "docs/claims.md"})
each_page = pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)


def blocks(page, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


# Links and commands


@each_page
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *DOCS], ids=lambda page: page.name
)
def test_commands_can_be_typed(page):
    """Every word of them is known; none is run."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    for line in lines:
        _, ours, words = line.partition("-m asr_course ")
        if ours:
            parser().parse_args(shlex.split(words, comments=True))


# A seventh method


@pytest.fixture
def page_code(tmp_path, monkeypatch):
    """The first block of the page as a module, and the second one's text."""
    code, tests = blocks(ROOT / "docs" / "add_a_method.md", "python")
    (tmp_path / "seventh.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("seventh"), tests
    del sys.modules["seventh"]


@pytest.fixture
def seventh(page_code, monkeypatch):
    """The module, registered as the page says."""
    module, _ = page_code
    monkeypatch.setitem(models.MODELS, "seventh", module.Seventh)
    monkeypatch.setitem(models.SIZES, "seventh", module.SIZES)
    monkeypatch.setitem(models.ABLATIONS, "seventh", module.ABLATIONS)
    return module


def test_the_seventh_method_can_be_built(seventh):
    model = build("seventh", "tiny")
    assert isinstance(model, seventh.Seventh)
    assert model.config["name"] == "seventh"
    assert model.options == seventh.SIZES["tiny"]
    for options in seventh.ABLATIONS.values():
        build("seventh", "tiny", **options)
    for size in seventh.SIZES:
        with torch.device("meta"):
            assert build("seventh", size).options == seventh.SIZES[size]


def test_the_seventh_method_starts_at_bilinear_interpolation(seventh):
    """Its tiny size has `skip`, and its last layer starts at zero."""
    model, lr = build("seventh", "tiny").eval(), torch.rand(1, 3, 4, 5)
    coord = torch.rand(1, 6, 7, 2) * 2 - 1
    with torch.no_grad():
        found = model(lr, coord, torch.rand(1, 2))
    expected = torch.nn.functional.grid_sample(
        lr, coord.flip(-1), padding_mode="border", align_corners=False
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_seventh_method_upscales(seventh):
    image = Image.fromarray(picture(6, 8))
    assert upscale(build("seventh", "tiny").eval(), image, 2.5).size == (20, 15)


def test_the_command_line_knows_the_seventh_method(seventh, tmp_path):
    """It trains it, and uses what it wrote."""
    out = tmp_path / "run"
    words = ["train", "--model", "seventh", "--preset", "smoke", "--steps", "1"]
    assert main([*words, "--out", str(out), "--device", "cpu"]) == 0
    model = load_weights(out / "seventh.safetensors")
    assert isinstance(model, seventh.Seventh)


def test_tests_of_the_seventh_method_pass(page_code):
    """The second block, with the names of the first."""
    module, tests = page_code
    names = dict(vars(module))
    exec(tests, names)
    found = [name for name in names if name.startswith("test_")]
    assert len(found) == 2
    for name in found:
        names[name]()


def test_tests_of_the_seventh_method_can_fail(page_code):
    """A model that shifts with the first query fails both."""
    module, tests = page_code
    names = dict(vars(module))
    exec(tests, names)

    class Spoilt(module.Seventh):
        def predict(self, features, coord, cell):
            return super().predict(features, coord, cell) + coord[0, 0, 0, 0]

    names["Seventh"] = Spoilt
    for name in ("test_pieces_make_the_whole", "test_a_query_does_not_care"):
        [test] = [names[full] for full in names if full.startswith(name)]
        with pytest.raises(AssertionError):
            test()


# Pages that are written from records


def test_tables_in_markdown():
    expected = "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |"
    assert plots.markdown(["a", "b"], [["1", "2"], ["3", "4"]]) == expected


def test_every_exercise_is_in_the_table():
    found = re.findall(r"`(\w+\.\d)`", BLOCKS["docs/instructors.md", "exercises"]())
    assert sorted(found) == sorted(EXERCISES)


def test_every_method_has_its_command_for_training_at_full_size():
    page = (ROOT / "docs" / "training.md").read_text()
    for name in models.MODELS:
        assert f"train --model {name} --preset gpu " in page


def test_the_cost_of_training_is_counted_from_the_formulas(fresh):
    """By hand, for whole scales: weights of an encoder and a decoder, times places."""
    edsr, liif, diinn = 1_218_240, 345_856, 984_576  # for a pixel, a corner, a query
    expected = 48**2 * edsr + 4 * 2304 * liif
    assert macs_of_sample("liif", "edsr-baseline") == expected
    answers = sum((48 * s) ** 2 for s in (2, 3, 4)) / 3
    expected = 48**2 * edsr + answers * diinn
    assert macs_of_sample("diinn", "edsr-baseline") == pytest.approx(expected)
    row = f"| LIIF | {6 * 16 * macs_of_sample('liif', 'edsr-baseline') / 1e12:.2f} |"
    assert row in fresh["docs/training.md"]


@pytest.fixture(scope="module")
def fresh():
    """Every page as it would be written now."""
    return pages()


def test_these_pages_are_written(fresh):
    assert sorted(fresh) == WRITTEN


@pytest.mark.parametrize("name", WRITTEN)
def test_pages_are_fresh(name, fresh):
    assert (ROOT / name).read_text() == fresh[name], f"{name} is stale: make pages"
