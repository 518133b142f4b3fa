"""What is true of the repository as a whole: lint, links, versions, cards, imports."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

from asr_course.lessons.side_by_side import FIRST, METHODS, seed_scores
from asr_course.records import RESULTS, load_record, paper_values
from asr_course.weights import load_pretrained, read_card, shipped

PACKAGE = sorted((ROOT / "asr_course").rglob("*.py"))


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "asr_course", "tests", "notebooks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


PAGES = [ROOT / "README.md", ROOT / "data/README.md", *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def pinned() -> dict[str, Version]:
    """The tested versions: {package: version}."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if "==" in line]
    return {re.sub(r"[-_.]+", "-", name).lower(): Version(v) for name, v in pins}


def test_every_requirement_has_a_tested_version_within_its_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["test"]
    for requirement in map(Requirement, needed):
        assert pinned()[requirement.name] in requirement.specifier


def test_conda_and_make_install_the_same_set():
    conda = (ROOT / "environment.yml").read_text()
    assert "-c constraints.txt" in conda and "-e .[test]" in conda
    assert "-c constraints.txt -e '.[test]'" in (ROOT / "Makefile").read_text()


# Each module may import from those named before it, and from nobody after it.
LAYERS = [
    ["errors", "coords", "characters", "swinir"],
    ["images", "encoders", "diffusion", "states"],
    ["models.layers"],
    ["models.liif", "models.idm"],
    ["models.metasr", "models.lte", "models.diinn", "models.diif"],
    ["models.hiif", "models.diin"],
    ["models"],
    ["data", "render", "records", "official", "archives"],
    ["weights", "metrics", "training", "plots", "profiling", "download"],
    [
        "presets",
        "growth",
        "benchmark",
        "widgets",
        "drawings",
        "checks.tools",
        "readers",
    ],
    ["checks.liif", "checks.diinn", "checks.hiif", "checks.diin", "probes.tools"],
    ["exam"],
    ["compare", "checks.diif", "checks.idm"],
    ["probes.liif", "probes.diinn", "probes.diif", "claims.tools"],
    ["probes.hiif", "probes.diin", "probes.idm", "checks.side", "claims.counts"],
    ["claims.trained"],
    ["claims.diinn", "claims.diif", "claims.hiif", "claims.diin", "claims.idm"],
    ["claims.words"],
    ["ablation", "probes", "checks", "claims", ""],
    ["__main__"],
]


PACKAGES = (
    "asr_course",
    *(f"asr_course.{name}" for name in ("models", "checks", "probes", "claims")),
)


def module_name(path) -> str:
    """asr_course/models/liif.py -> models.liif; asr_course/__init__.py -> "" ."""
    parts = path.relative_to(ROOT / "asr_course").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@pytest.mark.parametrize("path", PACKAGE, ids=module_name)
def test_dependencies_point_one_way(path):
    level = {name: k for k, names in enumerate(LAYERS) for name in names}
    own = level[module_name(path)]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        if node.module in PACKAGES:
            inside = node.module.removeprefix("asr_course").lstrip(".")
            names = [f"{inside}.{alias.name}".lstrip(".") for alias in node.names]
            targets = [name if name in level else inside for name in names]
        elif node.module.startswith("asr_course."):
            targets = [node.module.removeprefix("asr_course.")]
        else:
            continue
        for target in targets:
            assert level[target] < own, f"{path.name} imports {target}"


# The exam of digits scores those that saw digits, PSNR on photographs the others.
OF_DIGITS = [
    name
    for name, path in shipped().items()
    if read_card(path)["data"] == "drawn digits"
]
OTHER_SEEDS = ["liif-recipe-1", "liif-recipe-2"]
OF_PHOTOGRAPHS = [n for n in shipped() if n not in OF_DIGITS + OTHER_SEEDS]


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_have_a_card_and_work(name):
    card = read_card(shipped()[name])
    assert {"data", "steps", "seed", "terms", "command"} <= card.keys()
    assert "licence" in card["terms"] or "non-commercial" in card["terms"]
    assert shipped()[name].stat().st_size < (1e7 if name == "idm" else 5e6)
    model = load_pretrained(name)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_records_say_where_they_come_from(path):
    record = load_record(path.stem)
    assert {"command", "python", "torch", "hardware", "code", "rows"} <= record.keys()
    assert record["rows"]
    assert "/" not in record["command"], "a record must not name places of one machine"


def recorded(name: str) -> dict[tuple, float]:
    """PSNR on Y of shipped weights by LIIF's protocol: {(data, scale): dB}."""
    scores = [path.stem for path in RESULTS.glob("*_scores.json")]
    rows = [row for record in scores for row in load_record(record)["rows"]]
    return {
        (row["data"], row["scale"]): row["psnr_y"]
        for row in rows
        if (row["model"], row["protocol"]) == (name, "liif")
    }


@pytest.mark.parametrize("name", OF_PHOTOGRAPHS)
def test_shipped_weights_beat_bicubic_everywhere(name):
    found, bicubic = recorded(name), recorded("bicubic")
    sets, scales = ("set5", "set14", "kodak"), (2, 3, 4, 6, 8, 12)
    assert found.keys() == {(data, scale) for data in sets for scale in scales}
    assert all(score > bicubic[key] + 0.3 for key, score in found.items())


@pytest.mark.parametrize("name", ["diinn", "diif"])
def test_one_recipe_gives_much_the_same_quality(name):
    """At x2 to x4 within 0.3 dB of LIIF, trained by the same recipe."""
    found, liif = recorded(name), recorded("liif-recipe")
    assert all(found[key] > liif[key] - 0.3 for key in found if key[1] <= 4)


@pytest.mark.parametrize("name", OF_PHOTOGRAPHS)
def test_card_and_record_agree(name):
    found = recorded(name)
    card = read_card(shipped()[name])["scores"]
    assert card
    for text, score in card.items():
        data, scale = text.split(" x")
        assert score == round(found[data, float(scale)], 2)


@pytest.mark.parametrize("name", OTHER_SEEDS)
def test_other_seeds_carry_their_scores(name):
    card = read_card(shipped()[name])
    assert card["seed"] == int(name[-1])
    found = {
        f"{row['data']} x{row['scale']:g}": round(row["psnr_y"], 2)
        for row in load_record("liif_seeds")["rows"]
        if (row["seed"], row["protocol"]) == (card["seed"], "liif")
    }
    assert card["scores"] == found and len(found) == 12


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_three_seeds_of_one_recipe(name):
    seeds = load_record(f"{name}_seeds")
    for command in seeds["trained"].values():
        assert f"train --model {name} --preset laptop --data train_bsd400" in command
    assert {row["seed"] for row in seeds["rows"]} == {1, 2}
    card = read_card(shipped()[FIRST[name]])
    assert (card["seed"], card["steps"], card["data"]) == (0, 3000, "train_bsd400")
    for data in ("set5", "set14"):
        for scale in (2, 3, 4, 6, 8, 12):
            scores = seed_scores(name, data, scale)
            assert len(set(scores)) == 3
            assert max(scores) - min(scores) < 0.3


def test_the_shipped_default_is_above_fsrcnn():
    """Whose Y-PSNR at x2, x3 and x4 is 37.05, 33.18, 30.72 on Set5."""
    fsrcnn = {"set5": (37.05, 33.18, 30.72), "set14": (32.66, 29.37, 27.61)}
    found = recorded("liif")
    for data, scores in fsrcnn.items():
        for scale, score in zip((2, 3, 4), scores, strict=True):
            assert found[data, scale] > score


def test_all_weights_together_stay_small():
    assert sum(path.stat().st_size for path in shipped().values()) < 40e6


def test_digit_weights_sat_the_exam_and_its_record_shows_what_sampling_is():
    """Sharper than an average, with a larger error, and nearer to the right chances."""
    rows = load_record("idm_exam")["rows"]
    assert {row["model"] for row in rows} == set(OF_DIGITS) == {"idm", "liif-digits"}
    mean = [row for row in rows if row["model"] == "liif-digits"][0]
    for row in rows:
        if row["model"] == "idm":
            assert row["sharpness"]["mean"] > 2 * mean["sharpness"]["mean"]
            assert row["mse"]["mean"] > mean["mse"]["mean"]
            assert row["distance"]["mean"] < mean["distance"]["mean"]


def test_the_shipped_sampler_keeps_the_laws_of_the_exam():
    record = load_record("idm_exam")
    law, marks = record["laws"], {row["model"]: row for row in reversed(record["rows"])}
    idm, mean = marks["idm"], marks["liif-digits"]
    assert abs(idm["accuracy"]["mean"] - law["accuracy"]) < 0.1
    assert 0.8 < idm["sharpness"]["mean"] < 1.2 and mean["sharpness"]["mean"] < 0.4
    assert idm["consistency"]["mean"] < 2 * law["consistency"]


@pytest.mark.parametrize("name", OF_DIGITS)
def test_digit_weights_carry_their_marks(name):
    marks = {r["model"]: r for r in reversed(load_record("idm_exam")["rows"])}[name]
    for mark, value in read_card(shipped()[name])["scores"].items():
        assert value == round(marks[mark]["mean"], 4)


def test_paper_values_are_read_from_the_table():
    assert paper_values("LIIF", "RDN", "Set5", "Y")["x2"] == 38.17
    assert paper_values("LIIF", "RDN", "nothing", "Y") == {}
