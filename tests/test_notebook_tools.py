"""Copies for students and grading, on the notebooks and on a made-up one."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_tools import NOTEBOOKS, for_students, grades

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def marks(notebook, key: str) -> list[str]:
    """What cells have under a key of their metadata."""
    found = (cell.metadata.get("asr", {}) for cell in notebook.cells)
    return [mark[key] for mark in found if key in mark]


# Copies for students


@each_notebook
def test_students_get_no_solutions(path):
    copy = for_students(nbformat.read(path, as_version=4))
    assert marks(copy, "solves") == []
    assert len(marks(copy, "stub")) == 3
    text = "\n".join(cell.source for cell in copy.cells)
    assert "<summary>Solution</summary>" not in text
    assert text.count("<summary>Hint 1</summary>") == 3


@each_notebook
def test_students_get_no_outputs_and_no_stamp(path):
    copy = for_students(nbformat.read(path, as_version=4))
    for cell in copy.cells:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
    assert "asr" not in copy.metadata
    nbformat.validate(copy)


@each_notebook
def test_students_get_everything_else(path):
    """Every other cell in its order, with its text, its marks and its tags."""
    whole = nbformat.read(path, as_version=4)
    copy = for_students(nbformat.read(path, as_version=4))
    kept = [c for c in whole.cells if "solves" not in c.metadata.get("asr", {})]
    assert len(whole.cells) - len(kept) == 3
    for found, expected in zip(copy.cells, kept, strict=True):
        for key in ("id", "cell_type", "source", "metadata"):
            assert found[key] == expected[key]
    assert copy.metadata == {k: v for k, v in whole.metadata.items() if k != "asr"}


def test_a_made_up_notebook_for_students():
    """The solution goes, with what the others printed; a page of text stays."""
    solution = new_markdown_cell("It is 4.", metadata={"asr": {"solves": "a.1"}})
    stub = new_code_cell("x = ...", metadata={"asr": {"stub": "a.1"}})
    stub.outputs, stub.execution_count = [new_output("stream", text="4")], 3
    notebook = new_notebook(cells=[new_markdown_cell("Think."), stub, solution])
    notebook.metadata["asr"] = {"stamp": "0123"}
    notebook.metadata["language_info"] = {"name": "python"}
    copy = for_students(notebook)
    assert [cell.source for cell in copy.cells] == ["Think.", "x = ..."]
    assert copy.cells[1].outputs == [] and copy.cells[1].execution_count is None
    assert copy.metadata == {"language_info": {"name": "python"}}


# Grades


def handed_in(folder):
    """A notebook with three exercises: right, open, and behind a cell that raises.

    The third cell shows what it said on another day.
    """
    first = 'PRESET = "laptop"\nOUT_DIR = "runs"\nfrom asr_course.lessons import check'
    cells = [new_code_cell(first, metadata={"tags": ["parameters"]})]
    for name, answer in [
        ("side.1", "from math import comb\nluck = lambda n: 2 / comb(2 * n, n)"),
        ("side.2", "luck = lambda points: ..."),
        ("side.3", "from asr_course.lessons.side_checks import blend_first as luck"),
    ]:
        source = f'{answer}\nluck = check("{name}", luck)'
        cells.append(new_code_cell(source, metadata={"asr": {"stub": name}}))
    old = new_output("stream", name="stdout", text="side.3: passed\n")
    cells[-1].outputs, cells[-1].execution_count = [old], 7
    cells.insert(3, new_code_cell("1 / 0"))
    cells.insert(1, new_markdown_cell("side.2: passed"))  # text is no verdict
    path = folder / "handed_in.ipynb"
    language = {"language_info": {"name": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=language), path)
    return path


def test_grades_of_a_notebook_that_stops_before_its_third_exercise(tmp_path):
    path = handed_in(tmp_path)
    before = path.read_bytes()
    assert grades(path) == {
        "side.1": "passed",
        "side.2": "not attempted",
        "side.3": "not reached",
    }
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
