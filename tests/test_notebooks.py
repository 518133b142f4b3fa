"""Every notebook: its form, its outputs, and papermill runs as shipped and solved."""

import json
import re

import nbformat
import papermill
import pytest
from notebook_tools import (
    NOTEBOOKS,
    execute,
    faults,
    source_of,
    stamp,
    syntax,
    taught,
    with_solutions,
)

HEADINGS = [
    "Setup",
    "See it first",
    "What you will be able to do",
    "Before you start",
    "What the previous method cannot do",
    "The idea in one picture",
    "Build it piece by piece",
    "Assemble",
    "Train it small",
    "Look at it",
    "Measure it",
    "Ablate",
    "Where it breaks",
    "Exercises",
    "Summary",
    "References",
]

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def notebook(path):
    """A notebook as it lies in the repository."""
    return nbformat.read(path, as_version=4)


def printed(executed) -> str:
    """All that a run printed."""
    return "".join(
        output.text
        for cell in executed.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream"
    )


def exercises(notebook) -> list[str]:
    """The names of a notebook's exercises."""
    marks = (cell.metadata.get("asr", {}) for cell in notebook.cells)
    return [mark["stub"] for mark in marks if "stub" in mark]


@each_notebook
def test_every_section_of_the_template_is_there(path, notebook):
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    found = re.findall(r"^## (.*)$", text, re.M)
    assert [heading for heading in HEADINGS if heading not in found] == []


@each_notebook
def test_parameters_are_the_same_everywhere(path, notebook):
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    values = {}
    exec(cell.source, values)
    values.pop("__builtins__")
    assert values == {
        "PRESET": "laptop",
        "DEVICE": "auto",
        "SEED": 0,
        "OUT_DIR": "runs",
    }


@each_notebook
def test_teaching_cells_are_the_package_s_code(path, notebook):
    cells = taught(notebook)
    assert cells, "no cell teaches anything"
    for cell in cells:
        name = cell.metadata["asr"]["defines"]
        assert syntax(cell.source) == syntax(source_of(name)), (
            f"{name} differs: python tests/notebook_tools.py sync"
        )


@each_notebook
def test_three_exercises_each_with_hints_and_a_solution(path, notebook):
    marks = [cell.metadata.get("asr", {}) for cell in notebook.cells]
    solved = [mark["solves"] for mark in marks if "solves" in mark]
    assert exercises(notebook) == solved
    assert len(solved) == 3
    text = "\n".join(cell.source for cell in notebook.cells)
    assert text.count("<summary>Hint 1</summary>") == 3
    assert text.count("<summary>Hint 2</summary>") == 3


@each_notebook
def test_committed_outputs_are_fresh(path, notebook):
    kept = notebook.metadata.get("asr", {}).get("stamp")
    assert kept == stamp(notebook), "outputs are stale: make outputs"


@each_notebook
def test_committed_outputs_are_clean(path, notebook):
    text = path.read_text()
    assert len(text) < 1.5e6
    assert "widgets" not in notebook.metadata
    assert faults(notebook) == []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr"
            assert not any("jupyter.widget" in kind for kind in output.get("data", {}))
            assert not re.search(r"/(root|home|tmp|work|Users)/", json.dumps(output))
            if "image/png" in output.get("data", {}):
                assert output.metadata["image/png"].get("alt"), "a figure without alt"


@each_notebook
@pytest.mark.parametrize("solved", [False, True], ids=["shipped", "solved"])
def test_notebook_runs(path, notebook, solved):
    names = exercises(notebook)
    if solved:
        notebook = with_solutions(notebook)
    executed = execute(notebook, "smoke", timeout=300)
    assert faults(executed) == []
    said = printed(executed)
    for name in names:
        assert f"{name}: {'passed' if solved else 'not attempted'}" in said
    if path.stem == "06_idm":  # a short run of a sampler promises less
        losses = [
            float(x) for x in re.findall(r"(\d\.\d+) in the (?:first|last)", said)
        ]
        assert len(losses) == 2 and losses[1] < 0.8 * losses[0], losses
        assert said.count("the same seed gives the same pixels") == 2
        return
    # The small training run learned something: it beats bicubic at every scale.
    gains = [float(g) for g in re.findall(r"gain at ×\S+: ([+-]\d+\.\d+) dB", said)]
    assert len(gains) == 3
    assert min(gains) > 0.1, gains


@each_notebook
def test_every_notebook_checks_its_parameters_in_one_line(path, notebook):
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    assert "run = setup(PRESET, DEVICE, SEED, OUT_DIR)" in code.splitlines()


def test_an_unknown_preset_stops_a_notebook_and_lists_those_there_are():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    first = [k for k, c in enumerate(notebook.cells) if "setup(PRESET" in c.source][0]
    notebook.cells = notebook.cells[: first + 1]
    with pytest.raises(papermill.PapermillExecutionError) as error:
        execute(notebook, "nonsense")
    assert "smoke, laptop, gpu" in str(error.value)
