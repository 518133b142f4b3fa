"""What is true of the repository as a whole: size, imports, versions, numbers."""

import ast
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter

import pytest
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

from asr_course.lessons.side_by_side import FIRST, METHODS, seed_scores
from asr_course.records import RESULTS, load_record
from asr_course.weights import load_pretrained, read_card, shipped

LESSONS = sorted((ROOT / "asr_course" / "lessons").glob("*.py"))
PACKAGE = sorted(set((ROOT / "asr_course").rglob("*.py")) - set(LESSONS))


def test_the_course_stays_small():
    """Ratchets: the design asks for 4,600 lines of package and 12,000 of tests."""

    def lines(paths) -> list[int]:
        return [len(path.read_text().splitlines()) for path in paths]

    assert sum(lines(PACKAGE)) <= 6859 and max(lines(PACKAGE)) <= 250
    assert sum(lines(LESSONS)) <= 1900
    assert sum(lines((ROOT / "tests").glob("*.py"))) <= 12_425
    assert max(lines((ROOT / "asr_course" / "models").glob("*.py"))) <= 200


def imports_of(path) -> set[str]:
    """The modules of the course that a file imports, at its top or in a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {n if is_module(n) else node.module for n in inside}
    return {n for n in names if n.split(".")[0] in ("asr_course", "studies", "tools")}


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def test_imports_point_one_way_and_have_no_cycle():
    """lessons -> asr_course -> nothing; the package needs no study and no tool."""
    graph = {}
    for path in PACKAGE + LESSONS:
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        graph[name] = imports_of(path)
        assert all(n.startswith("asr_course") for n in graph[name]), name
        assert path in LESSONS or not any("lessons" in n for n in graph[name]), name
    TopologicalSorter(graph).prepare()  # CycleError, if there is one


def test_ruff_finds_nothing():
    for words in ("check .", "format --check ."):
        command = [sys.executable, "-m", "ruff", *words.split()]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_every_requirement_has_a_tested_version_within_its_bounds():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["test"]
    for requirement in map(Requirement, needed):
        assert Version(pins[requirement.name]) in requirement.specifier


# Weights and records. The exam scores weights of digits, PSNR those of photographs.

CARDS = {name: read_card(path) for name, path in shipped().items()}
OF_DIGITS = ["idm", "liif-digits"]
OF_PHOTOGRAPHS = [*METHODS, "liif-recipe", "liif-8000", "liif-procedural"]
OTHER_SEEDS = ["liif-recipe-1", "liif-recipe-2"]
KEYS = ("sharpness", "mse", "distance", "accuracy", "consistency")


@pytest.mark.parametrize("name", [*OF_DIGITS, *OF_PHOTOGRAPHS, *OTHER_SEEDS])
def test_shipped_weights_load_and_their_card_states_the_terms(name):
    card = CARDS[name]
    assert {"data", "steps", "seed", "terms", "command"} <= card.keys()
    assert "licence" in card["terms"] or "non-commercial" in card["terms"]
    assert (card["data"] == "drawn digits") == (name in OF_DIGITS)
    assert all(p.isfinite().all() for p in load_pretrained(name).parameters())
    assert shipped()[name].stat().st_size < (1e7 if name == "idm" else 5e6)


def test_records_say_how_they_were_made():
    for path in RESULTS.glob("*.json"):
        record = load_record(path.stem)
        assert {"command", "python", "torch", "hardware"} <= record.keys(), path
        assert record["rows"] and ("commit" in record or "code" in record), path


def recorded(name: str) -> dict[tuple, float]:
    """PSNR on Y of shipped weights by LIIF's protocol: {(data, scale): dB}."""
    rows = [
        {**r, "model": f"liif-recipe-{r['seed']}"}
        for r in load_record("liif_seeds")["rows"]
    ]
    for path in RESULTS.glob("*_scores.json"):
        rows += load_record(path.stem)["rows"]
    rows = [r for r in rows if (r["model"], r["protocol"]) == (name, "liif")]
    return {(row["data"], row["scale"]): row["psnr_y"] for row in rows}


@pytest.mark.parametrize("name", [*OF_PHOTOGRAPHS, *OTHER_SEEDS])
def test_weights_beat_bicubic_and_carry_their_recorded_scores(name):
    scores, bicubic = recorded(name), recorded("bicubic")
    sets = ("set5", "set14", "kodak") if name in OF_PHOTOGRAPHS else ("set5", "set14")
    assert scores.keys() == {(d, s) for d in sets for s in (2, 3, 4, 6, 8, 12)}
    assert all(score > bicubic[key] + 0.3 for key, score in scores.items())
    for text, score in CARDS[name]["scores"].items():
        data, scale = text.split(" x")
        assert score == round(scores[data, float(scale)], 2)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_three_seeds_of_one_recipe(name):
    for command in load_record(f"{name}_seeds")["trained"].values():
        assert f"train --model {name} --preset laptop --data train_bsd400" in command
    card = CARDS[FIRST[name]]
    assert (card["seed"], card["steps"], card["data"]) == (0, 3000, "train_bsd400")
    for scale in (2, 3, 4, 6, 8, 12):
        scores = seed_scores(name, "set14", scale)
        assert len(set(scores)) == 3 and max(scores) - min(scores) < 0.3


def test_the_shipped_sampler_keeps_the_laws_of_the_exam():
    """Sharper than the mean, with a larger error, and near the right probabilities."""
    record = load_record("idm_exam")
    rows = {row["model"]: row for row in reversed(record["rows"])}
    for name in OF_DIGITS:
        for key, value in CARDS[name]["scores"].items():
            assert value == round(rows[name][key]["mean"], 4)
    idm, mean = ({k: rows[n][k]["mean"] for k in KEYS} for n in OF_DIGITS)
    assert idm["sharpness"] > 0.8 > 0.4 > mean["sharpness"]
    assert idm["mse"] > mean["mse"] and idm["distance"] < mean["distance"]
    assert abs(idm["accuracy"] - record["laws"]["accuracy"]) < 0.1
    assert idm["consistency"] < 2 * record["laws"]["consistency"]
