"""Keep notebooks true: same code as the package, outputs that are fresh and clean.

    python tests/notebook_tools.py sync      copy package code into teaching cells, and
                                             docs/install_cell.py into the first ones
    python tests/notebook_tools.py outputs   run every notebook, store its outputs
    python tests/notebook_tools.py student FOLDER   copies without solutions and outputs
    python tests/notebook_tools.py grade FILE ...   what `check` says of each exercise

A cell that teaches a package object names it in its metadata:
{"asr": {"defines": "asr_course.coords.neighbours"}}. A cell that reads recorded results
needs no mark: all records and weights whose names it mentions go into the stamp.
"""

import ast
import hashlib
import inspect
import os
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import nbformat
import papermill

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def source_of(dotted: str) -> str:
    """The source code of a package object, for example asr_course.coords.nearest."""
    module, _, name = dotted.rpartition(".")
    return inspect.getsource(getattr(import_module(module), name)).rstrip()


def taught(notebook) -> list:
    """The cells that teach a package object."""
    return [c for c in notebook.cells if "defines" in c.metadata.get("asr", {})]


def syntax(source: str) -> str:
    """A syntax tree as text, without docstrings: equal for code that does the same."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            node.body = body[1:] or [ast.Pass()]
    return ast.dump(tree)


def sync(path: Path) -> int:
    """Rewrite the cells of a notebook that are kept elsewhere; how many changed."""
    notebook, changed = nbformat.read(path, as_version=4), 0
    kept = [(c, source_of(c.metadata["asr"]["defines"])) for c in taught(notebook)]
    install = (ROOT / "docs" / "install_cell.py").read_text().rstrip()
    kept += [(c, install) for c in notebook.cells if "cellView" in c.metadata]
    for cell, source in kept:
        if cell.source != source:
            cell.source, changed = source, changed + 1
    if changed:
        nbformat.write(notebook, path)
    return changed


def inputs_of(notebook) -> list[Path]:
    """The shipped weights and records whose names stand in the notebook's code."""
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    named = set(re.findall(r"load_(?:pretrained|record)\(\"([\w-]+)\"", code))
    files = [*(ROOT / "data/weights").iterdir(), *(ROOT / "data/results").iterdir()]
    return sorted(f for f in files if f.stem in named)


def stamp(notebook) -> str:
    """A hash of what the outputs depend on: code cells, weights and records read."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(cell.source.encode())
    for path in inputs_of(notebook):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def with_solutions(notebook):
    """The notebook with every exercise's folded solution put into its stub."""
    solutions = {}
    for cell in notebook.cells:
        name = cell.metadata.get("asr", {}).get("solves")
        if name:
            solutions[name] = re.search(r"```python\n(.*?)```", cell.source, re.S)[1]
    for cell in notebook.cells:
        name = cell.metadata.get("asr", {}).get("stub")
        if name:
            check = cell.source[
                cell.source.rindex("\n", 0, cell.source.index("check(")) :
            ]
            cell.source = solutions.pop(name).rstrip() + "\n" + check
    if solutions:
        raise ValueError(f"solutions without a stub: {sorted(solutions)}")
    return notebook


def execute(
    notebook, preset: str, timeout: int = 600, result: Path | None = None, **parameters
):
    """Run a notebook with papermill, from a temporary folder; the executed notebook.

    result: a file that holds the notebook even if a cell fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "in.ipynb"), result or Path(folder, "out.ipynb")
        nbformat.write(notebook, source)
        papermill.execute_notebook(
            source,
            result,
            {"PRESET": preset, "OUT_DIR": str(Path(folder, "runs")), **parameters},
            kernel_name="python3",
            cwd=folder,
            execution_timeout=timeout,
            progress_bar=False,
        )
        return nbformat.read(result, as_version=4)


def for_students(notebook):
    """The notebook without solutions, outputs and stamp."""
    notebook.cells = [
        cell for cell in notebook.cells if "solves" not in cell.metadata.get("asr", {})
    ]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("asr", None)
    return notebook


def grades(path: Path, preset: str = "smoke") -> dict[str, str]:
    """What `check` says in a notebook: {exercise: verdict}; it is executed."""
    notebook = nbformat.read(path, as_version=4)
    marks = (cell.metadata.get("asr", {}) for cell in notebook.cells)
    found = {mark["stub"]: "not reached" for mark in marks if "stub" in mark}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "out.ipynb")
        try:
            executed = execute(notebook, preset, result=result)
        except Exception:  # a student's code may fail, hang or end its kernel
            executed = nbformat.read(result, as_version=4)
    said = "\n".join(
        output.text
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )
    for name in found:
        verdict = re.search(rf"^{re.escape(name)}: (.*)$", said, re.M)
        found[name] = verdict[1] if verdict else found[name]
    return found


def faults(executed) -> list[str]:
    """What went wrong in a run that papermill calls a success."""
    found = []
    for k, cell in enumerate(executed.cells):
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None and cell.source.strip():
            found.append(f"cell {k} never ran: {cell.source[:60]!r}")
        found += [
            f"cell {k} shows an error: {output.get('ename')}"
            for output in cell.outputs
            if output.output_type == "error"
        ]
    state = executed.metadata.get("widgets", {})
    for model in (
        state.get("application/vnd.jupyter.widget-state+json", {})
        .get("state", {})
        .values()
    ):
        for output in model["state"].get("outputs") or []:
            if output.get("output_type") == "error":
                found.append(f"a widget hides an error: {output.get('ename')}")
        value = model["state"].get("value")
        if isinstance(value, str) and "Not drawn:" in value:
            found.append(f"a widget failed: {value}")
    return found


def clean(executed, original):
    """The original notebook with the outputs of a run that are worth keeping."""
    ran = [
        c
        for c in executed.cells
        if "injected-parameters" not in c.metadata.get("tags", [])
    ]
    for cell, done in zip(original.cells, ran, strict=True):
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        cell.outputs = []
        for output in done.outputs:
            is_widget = any("jupyter.widget" in kind for kind in output.get("data", {}))
            if is_widget or output.get("name") == "stderr":
                continue
            if output.output_type == "stream" and cell.outputs:
                last = cell.outputs[-1]
                if last.output_type == "stream":  # prints that came in two pieces
                    last.text += output.text
                    continue
            cell.outputs.append(output)
    count = 0
    for cell in original.cells:
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output["execution_count"] = count
    original.metadata.pop("widgets", None)
    original.metadata["asr"] = {"stamp": stamp(original)}
    return original


def write_outputs(path: Path) -> None:
    """Execute a notebook with the laptop preset and store its outputs in place."""
    notebook = nbformat.read(path, as_version=4)
    executed = execute(notebook, "laptop")
    if found := faults(executed):
        raise SystemExit(f"{path.name}: " + "; ".join(found))
    nbformat.write(clean(executed, nbformat.read(path, as_version=4)), path)
    size = path.stat().st_size / 1e6
    print(f"{path.name}: outputs written, {size:.2f} MB")


if __name__ == "__main__":
    command, files = (sys.argv[1] if sys.argv[1:] else ""), map(Path, sys.argv[2:])
    if command == "student" and len(sys.argv) == 3:
        target = Path(sys.argv[2])
        target.mkdir(parents=True, exist_ok=True)
        for notebook_path in NOTEBOOKS:
            copy = for_students(nbformat.read(notebook_path, as_version=4))
            nbformat.write(copy, target / notebook_path.name)
            print(target / notebook_path.name)
    elif command == "grade" and len(sys.argv) > 2:
        for file in files:
            for exercise, verdict in grades(file).items():
                print(f"{file.name}: {exercise}: {verdict}", flush=True)
    elif len(sys.argv) != 2:
        raise SystemExit(__doc__)
    elif command == "sync":
        for notebook_path in NOTEBOOKS:
            print(notebook_path.name, sync(notebook_path), "cells rewritten")
    elif command == "outputs":
        os.environ.setdefault("OMP_NUM_THREADS", "2")
        for notebook_path in NOTEBOOKS:
            write_outputs(notebook_path)
    else:
        raise SystemExit(__doc__)
