"""Every notebook: its form, its outputs, and a papermill run, shipped and solved."""

import json
import re
from copy import deepcopy

import nbformat
import papermill
import pytest
from helpers import ROOT

from asr_course import build, count_parameters
from tools.notebooks import (
    FIRST_LINE,
    NOTEBOOKS,
    execute,
    faults,
    is_hidden,
    marks,
    printed,
    source_of,
    stamp,
    syntax,
    taught,
    with_solutions,
)

HEADINGS = [
    "Setup",
    "See it first",
    "The question",
    "The idea in one picture",
    "The method, plain",
    "The same numbers",
    "Where the idea must win",
    "Photographs",
    "The price",
    "Take it apart",
    "Where it breaks",
    "Exercises",
    "Summary",
    "References",
]
LAST = ["Setup", "See it first", "The question", "Exercises", "Summary", "References"]

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def notebook(path):
    """A notebook as it lies in the repository."""
    return nbformat.read(path, as_version=4)


@each_notebook
def test_every_section_of_the_template_is_there(path, notebook):
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    found = re.findall(r"^## (.*)$", text, re.M)
    expected = LAST if path == NOTEBOOKS[-1] else HEADINGS
    assert [heading for heading in found if heading in expected] == expected


@each_notebook
def test_it_begins_with_parameters_the_install_cell_and_one_cell_of_imports(
    path, notebook
):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    parameters, install, imports = code[:3]
    assert "parameters" in parameters.metadata.tags
    values = {}
    exec(parameters.source, values)
    values.pop("__builtins__")
    expected = {"PRESET": "laptop", "DEVICE": "auto", "SEED": 0, "OUT_DIR": "runs"}
    assert values == expected
    assert install.source == (ROOT / "docs" / "install_cell.py").read_text().rstrip()
    assert install.metadata.jupyter.source_hidden and install.metadata.cellView
    lines = imports.source.splitlines()
    assert "import asr_course as asr" in lines
    assert sum("asr_course" in line for line in lines) <= 12
    assert "run = asr.setup(PRESET, DEVICE, SEED, OUT_DIR)" in lines


@each_notebook
def test_teaching_cells_are_the_package_s_code(path, notebook):
    assert taught(notebook), "no cell teaches anything"
    for cell in taught(notebook):
        name = cell.metadata["asr"]["defines"]
        assert syntax(cell.source) == syntax(source_of(name)), (
            f"{name} differs: make notebook NB={path.name[:2]}"
        )


@each_notebook
def test_three_exercises_each_with_hints_and_a_solution(path, notebook):
    assert marks(notebook, "stub") == marks(notebook, "solves")
    assert len(marks(notebook, "stub")) == 3
    text = "\n".join(cell.source for cell in notebook.cells)
    assert text.count("<summary>Hint 1</summary>") == 3
    assert text.count("<summary>Hint 2</summary>") == 3


@each_notebook
def test_committed_outputs_are_fresh(path, notebook):
    kept = notebook.metadata.get("asr", {}).get("stamp")
    assert kept == stamp(notebook), (
        f"outputs are stale: make outputs NB={path.name[:2]}"
    )


@each_notebook
def test_committed_outputs_are_clean(path, notebook):
    assert len(path.read_text()) < 1.5e6
    assert "widgets" not in notebook.metadata
    assert faults(notebook) == []
    for output in (o for cell in notebook.cells for o in cell.get("outputs", [])):
        assert output.get("name") != "stderr"
        assert not any("jupyter.widget" in kind for kind in output.get("data", {}))
        assert not re.search(r"/(root|home|tmp|work|Users)/", json.dumps(output))
        assert "image/png" not in output.get("data", {})  # JupyterLab drops its alt
        html = output.get("data", {}).get("text/html", "")
        for image in re.findall("<img .*?>", html):
            assert re.search('alt="[^"]', image), "a figure without alt"


@each_notebook
def test_outputs_that_answer_a_prompt_are_hidden(path, notebook):
    """One at least of those between the prompt and the next text."""
    prompt, prompted, found = r"\*\*(Predict|By hand|Before you run)", False, []
    for cell in [*notebook.cells, nbformat.v4.new_markdown_cell()]:
        if cell.cell_type == "code":
            found += [is_hidden(cell)] if cell.outputs else []
            continue
        assert any(found) or not (prompted and found), cell.source[:200]
        found, prompted = [], re.search(prompt, cell.source)
    hidden = [c for c in notebook.cells if is_hidden(c)]
    assert all(cell.outputs[0] == FIRST_LINE for cell in hidden)
    answers = [c for c in notebook.cells if "is {name}" in c.source]
    assert all(map(is_hidden, answers))  # of notebook 7's blind test


def shipped_and_solved(notebook):
    """A notebook in which each exercise is run as shipped, then with its solution."""
    cells = []
    solved = with_solutions(nbformat.from_dict(deepcopy(notebook)))
    for cell, answer in zip(notebook.cells, solved.cells, strict=True):
        cells.append(cell)
        if answer.source != cell.source:
            answer.id += "-solved"
            cells.append(answer)
    notebook.cells = cells
    return notebook


@each_notebook
def test_notebook_runs_and_its_exercises_as_shipped_and_solved(path, notebook):
    names = marks(notebook, "stub")
    executed = execute(shipped_and_solved(notebook), "smoke", timeout=300)
    assert faults(executed) == []
    text = printed(executed)
    for name in names:
        assert f"{name}: not attempted" in text and f"{name}: passed" in text
    if path.stem == "06_idm":  # a short run of a sampler promises less
        losses = re.findall(r"(\d\.\d+) in the (?:first|last)", text)
        first, last = map(float, losses)
        assert last < 0.8 * first, losses
        assert text.count("the same seed gives the same pixels") == 2
        return
    # The small training run learned something: it beats bicubic at every scale.
    gains = [float(g) for g in re.findall(r"gain at ×\S+: ([+-]\d+\.\d+) dB", text)]
    assert len(gains) == 3
    assert min(gains) > 0.1, gains


def test_an_unknown_preset_stops_a_notebook_and_lists_those_there_are():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    first = [k for k, c in enumerate(notebook.cells) if "setup(PRESET" in c.source][0]
    notebook.cells = notebook.cells[: first + 1]
    with pytest.raises(papermill.PapermillExecutionError) as error:
        execute(notebook, "nonsense")
    assert "smoke, laptop, gpu, paper" in str(error.value)


SHORTENED = """
from dataclasses import replace

plan = run.preset.lesson
recipe = replace(plan.recipe, batch=2, patch=16, queries=64)
plan = replace(plan, recipe=recipe, schedule=replace(plan.schedule, steps=20))
run = replace(run, preset=replace(run.preset, lesson=plan, side=48, workers=0))
"""


def test_the_gpu_preset_trains_the_paper_s_network_on_a_cpu():
    """Notebook 1, to its training; 20 small steps in place of 12,000."""
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    sources = [cell.source for cell in notebook.cells]
    setup, train = (
        next(k for k, source in enumerate(sources) if words in source)
        for words in ("asr.setup(PRESET", "asr.train(")
    )
    notebook.cells = notebook.cells[: train + 1]
    notebook.cells.insert(setup + 1, nbformat.v4.new_code_cell(SHORTENED))
    executed = execute(notebook, "gpu", timeout=300)
    assert faults(executed) == []
    assert "preset gpu on cpu" in printed(executed)
    parameters = count_parameters(build("liif", "paper"))
    assert f"{parameters:,} parameters, 20 steps" in printed(executed)
