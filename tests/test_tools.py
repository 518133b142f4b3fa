"""The notebooks' tools, on the notebooks and on a made-up one."""

import nbformat
import pytest
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import lab
from tools.notebooks import (
    NOTEBOOKS,
    faults,
    for_students,
    grades,
    kept_outputs,
    marks,
    source_of,
    syntax,
    with_solutions,
)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_students_get_everything_but_solutions_and_outputs(path):
    whole, copy = (nbformat.read(path, as_version=4) for _ in range(2))
    copy = for_students(copy)
    kept = [c for c in whole.cells if "solves" not in c.metadata.get("asr", {})]
    assert len(whole.cells) - len(kept) == len(marks(copy, "stub")) == 3
    for cell, expected in zip(copy.cells, kept, strict=True):
        assert (cell.source, cell.metadata) == (expected.source, expected.metadata)
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
    assert "asr" not in copy.metadata
    assert "<summary>Solution</summary>" not in "".join(c.source for c in copy.cells)
    nbformat.validate(copy)


def test_grades_of_a_notebook_that_stops_before_its_third_exercise(tmp_path):
    """Right, open, and behind a cell that raises; old outputs and text do not count."""
    first = 'PRESET = "laptop"\nOUT_DIR = "runs"\nfrom asr_course.lessons import check'
    cells = [new_code_cell(first, metadata={"tags": ["parameters"]})]
    for name, answer in [
        ("side.1", "from math import comb\nluck = lambda n: 2 / comb(2 * n, n)"),
        ("side.2", "luck = lambda points: ..."),
        ("side.3", "luck = None"),
    ]:
        source = f'{answer}\nluck = check("{name}", luck)'
        cells.append(new_code_cell(source, metadata={"asr": {"stub": name}}))
    old = new_output("stream", name="stdout", text="side.3: passed\n")
    cells[-1].outputs, cells[-1].execution_count = [old], 7
    cells.insert(3, new_code_cell("1 / 0"))
    cells.insert(1, new_markdown_cell("side.2: passed"))
    path = tmp_path / "handed_in.ipynb"
    language = {"language_info": {"name": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=language), path)
    expected = dict.fromkeys(("side.1", "side.2", "side.3"), "not reached")
    expected |= {"side.1": "passed", "side.2": "not attempted"}
    assert grades(path) == expected
    assert list(tmp_path.iterdir()) == [path]


def test_faults_of_a_run_that_papermill_calls_a_success():
    good = new_code_cell("1", execution_count=1)
    error = new_code_cell("2", execution_count=2)
    error.outputs = [new_output("error", ename="ValueError")]
    notebook = new_notebook(cells=[good, error, new_code_cell("3")])
    hidden = {"outputs": [{"output_type": "error", "ename": "KeyError"}]}
    state = {"a": {"state": hidden}, "b": {"state": {"value": "Not drawn: no memory"}}}
    kind = "application/vnd.jupyter.widget-state+json"
    notebook.metadata["widgets"] = {kind: {"state": state}}
    found = faults(notebook)
    for k, word in enumerate(("ValueError", "never ran", "KeyError", "no memory")):
        assert word in found[k]
    assert len(found) == 4


def test_solutions_replace_the_stub_and_leave_the_check():
    stub = new_code_cell('x = ...\nx = check("a.1", x)')
    stub.metadata["asr"] = {"stub": "a.1"}
    solution = new_markdown_cell("So:\n```python\nx = 4\n```\n")
    solution.metadata["asr"] = {"solves": "a.1"}
    solved = with_solutions(new_notebook(cells=[stub, solution]))
    assert solved.cells[0].source == 'x = 4\n\nx = check("a.1", x)'
    with pytest.raises(ValueError, match="without a stub"):
        with_solutions(new_notebook(cells=[solution]))


def test_kept_outputs_join_prints_and_drop_widgets():
    prints = [new_output("stream", name="stdout", text=x) for x in "ab"]
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    widget = new_output("display_data", data=data)
    warning = new_output("stream", name="stderr", text="late")
    (kept,) = kept_outputs([prints[0], widget, warning, prints[1]])
    assert kept.text == "ab"


def test_syntax_ignores_docstrings_only():
    source = source_of("studies.seams.seams")
    assert syntax(source) == syntax(source.replace("Steps", "Other words"))
    assert syntax(source) != syntax(source.replace("mean", "median"))


def test_the_lab_s_copies_are_trusted_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    copies = tmp_path / "mine"
    assert lab.copy_notebooks(copies) == []
    names = [path.name for path in NOTEBOOKS]
    mine = nbformat.read(copies / names[0], as_version=4)
    assert NotebookNotary().check_signature(mine)
    (copies / names[0]).write_text("my own work")
    (copies / names[1]).unlink()
    assert lab.copy_notebooks(copies) == [names[0], *names[2:]]
    assert (copies / names[0]).read_text() == "my own work"
    assert sorted(path.name for path in copies.iterdir()) == names
