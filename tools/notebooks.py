"""Keep notebooks true: the same code as the package, outputs that are fresh and clean.

    python tools/notebooks.py sync [04]      copy package code into teaching cells, and
                                             docs/install_cell.py into the first ones
    python tools/notebooks.py outputs [04]   run notebooks and store their outputs
    python tools/notebooks.py student FOLDER copies without solutions and outputs
    python tools/notebooks.py grade FILE ... what `check` says of each exercise

A cell that teaches an object of asr_course or studies names it in its metadata:
{"asr": {"defines": "asr_course.coords.neighbours"}}. A cell that reads records or
weights needs no mark: those whose names are in the code count in the stamp.
"""

import argparse
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

# Code that stands in the package and in a notebook ------------------------------------


def marks(notebook, key: str) -> list[str]:
    """What the cells of a notebook have under a key of their "asr" metadata."""
    found = (cell.metadata.get("asr", {}) for cell in notebook.cells)
    return [mark[key] for mark in found if key in mark]


def source_of(dotted: str) -> str:
    """The source code of an object, for example asr_course.coords.nearest."""
    module, _, name = dotted.rpartition(".")
    return inspect.getsource(getattr(import_module(module), name)).rstrip()


def taught(notebook) -> list:
    """The cells that teach an object of the package."""
    return [c for c in notebook.cells if "defines" in c.metadata.get("asr", {})]


def syntax(source: str) -> str:
    """A syntax tree as text, without docstrings: equal for code that does the same."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            continue
        match node.body:
            case [ast.Expr(ast.Constant(str())), *rest]:
                node.body = rest or [ast.Pass()]
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


# Running notebooks --------------------------------------------------------------------


def execute(notebook, preset: str, timeout: int = 600, result: Path | None = None):
    """Run a notebook with papermill, from a temporary folder; the executed notebook.

    result: a file that holds the notebook even if a cell fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "in.ipynb"), result or Path(folder, "out.ipynb")
        nbformat.write(notebook, source)
        papermill.execute_notebook(
            source,
            result,
            {"PRESET": preset, "OUT_DIR": str(Path(folder, "runs"))},
            kernel_name="python3",
            cwd=folder,
            execution_timeout=timeout,
            progress_bar=False,
        )
        return nbformat.read(result, as_version=4)


def faults(executed) -> list[str]:
    """What went wrong in a run that papermill calls a success."""
    found = []
    for k, cell in enumerate(executed.cells):
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None and cell.source.strip():
            found.append(f"cell {k} never ran: {cell.source[:60]!r}")
        errors = [o for o in cell.outputs if o.output_type == "error"]
        found += [f"cell {k} shows an error: {o.get('ename')}" for o in errors]
    widgets = executed.metadata.get("widgets", {})
    widgets = widgets.get("application/vnd.jupyter.widget-state+json", {})
    for model in widgets.get("state", {}).values():
        for output in model["state"].get("outputs") or []:
            if output.get("output_type") == "error":
                found.append(f"a widget hides an error: {output.get('ename')}")
        value = model["state"].get("value")
        if isinstance(value, str) and "Not drawn:" in value:
            found.append(f"a widget failed: {value}")
    return found


# Outputs that are committed -----------------------------------------------------------


def inputs_of(notebook) -> list[Path]:
    """The shipped weights, records and tables whose names stand in the code."""
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    named = set(re.findall(r"load_(?:pretrained|record)\(\"([\w-]+)\"", code))
    files = [*(ROOT / "data/weights").iterdir(), *(ROOT / "data/results").iterdir()]
    tables = [f for f in (ROOT / "data").glob("*.*") if f.name in code]
    return sorted(tables + [f for f in files if f.stem in named])


def stamp(notebook) -> str:
    """A hash of what the outputs depend on: code cells, weights and records read."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(cell.source.encode())
    for path in inputs_of(notebook):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def kept_outputs(outputs: list) -> list:
    """Without widgets and stderr; prints that came in pieces are one."""
    kept = []
    for output in outputs:
        is_widget = any("jupyter.widget" in kind for kind in output.get("data", {}))
        if is_widget or output.get("name") == "stderr":
            continue
        if kept and output.output_type == kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


# JupyterLab shows the first line of a hidden output: let it not be the answer.
FIRST_LINE = nbformat.v4.new_output("display_data", {"text/plain": "What we got:"})


def is_hidden(cell) -> bool:
    """Whether JupyterLab shows a code cell's stored outputs only when asked."""
    return cell.metadata.get("jupyter", {}).get("outputs_hidden", False)


def clean(executed, original):
    """The original notebook with the outputs of a run that are worth keeping."""
    injected = "injected-parameters"
    ran = [c for c in executed.cells if injected not in c.metadata.get("tags", [])]
    count = 0
    for cell, done in zip(original.cells, ran, strict=True):
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count, cell.outputs = count, kept_outputs(done.outputs)
        if is_hidden(cell):
            cell.outputs.insert(0, FIRST_LINE)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output["execution_count"] = count
    original.metadata.pop("widgets", None)
    original.metadata["asr"] = {"stamp": stamp(original)}
    return original


def write_outputs(path: Path) -> None:
    """Run a notebook with the laptop preset and store its outputs in place."""
    notebook = nbformat.read(path, as_version=4)
    executed = execute(notebook, "laptop")
    if found := faults(executed):
        raise SystemExit(f"{path.name}: " + "; ".join(found))
    nbformat.write(clean(executed, nbformat.read(path, as_version=4)), path)
    print(f"{path.name}: outputs written, {path.stat().st_size / 1e6:.2f} MB")


# For a class --------------------------------------------------------------------------


def with_solutions(notebook):
    """The notebook with every exercise's folded solution put into its stub."""
    solutions = {}
    for cell in notebook.cells:
        if name := cell.metadata.get("asr", {}).get("solves"):
            solutions[name] = re.search(r"```python\n(.*?)```", cell.source, re.S)[1]
    for cell in notebook.cells:
        if name := cell.metadata.get("asr", {}).get("stub"):
            last = cell.source.rindex("\n", 0, cell.source.index("check("))
            cell.source = solutions.pop(name).rstrip() + "\n" + cell.source[last:]
    if solutions:
        raise ValueError(f"solutions without a stub: {sorted(solutions)}")
    return notebook


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
    found = dict.fromkeys(marks(notebook, "stub"), "not reached")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "out.ipynb")
        try:
            executed = execute(notebook, preset, result=result)
        except Exception:  # a student's code may fail, hang or end its kernel
            executed = nbformat.read(result, as_version=4)
    text = printed(executed)
    for name in found:
        if verdict := re.search(rf"^{re.escape(name)}: (.*)$", text, re.M):
            found[name] = verdict[1]
    return found


def printed(executed) -> str:
    """All that the cells of a run printed."""
    outputs = [o for cell in executed.cells for o in cell.get("outputs", [])]
    return "\n".join(o.text for o in outputs if o.output_type == "stream")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["sync", "outputs", "student", "grade"])
    parser.add_argument("names", nargs="*", help="04, a folder, or files")
    args = parser.parse_args()
    if args.command == "grade":
        for file in map(Path, args.names):
            for exercise, verdict in grades(file).items():
                print(f"{file.name}: {exercise}: {verdict}", flush=True)
        return
    if args.command == "student":
        (target,) = map(Path, args.names)
        target.mkdir(parents=True, exist_ok=True)
        for path in NOTEBOOKS:
            copy = for_students(nbformat.read(path, as_version=4))
            nbformat.write(copy, target / path.name)
        return
    chosen = [p for p in NOTEBOOKS if not args.names or p.name[:2] in args.names]
    if not chosen:
        parser.error(f"no notebook {args.names}: give two digits, for example 04")
    for path in chosen:
        if args.command == "sync":
            print(path.name, sync(path), "cells rewritten")
        else:
            write_outputs(path)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    sys.path.append(str(ROOT))  # for `studies`, which is not installed
    main()
