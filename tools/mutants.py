"""What share of small faults in the core do the tests catch?

    python tools/mutants.py --json mutants.json

A mutant is the code with one fault: `<` is `<=`, a number is larger by one, a statement
is gone. It is caught if its tests fail, or take three times their usual CPU time. The
sample depends on the seed and the text of each line alone: lines that a change leaves
as they are give the same mutants afterwards. What the JSON file holds is not run again.
"""

import argparse
import ast
import json
import os
import resource
import shutil
import signal
import sys
from collections import Counter
from copy import deepcopy
from hashlib import sha256
from heapq import nsmallest
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, settings

# Group, files in asr_course, their tests (fast ones first); a tree may lack some.
TABLE = """
coords: coords.py: coords liif properties
layers: layers.py models/layers.py: layers liif hiif diin properties render
layers: totals.py: totals hiif diin properties render
models: models/__init__.py: presets liif profil* properties
models: models/liif.py: liif profil* properties
models: models/metasr.py models/lte.py: metasr lte diinn profil* properties
models: models/diinn.py: diinn profil* properties
models: models/diif.py models/slices.py: diif profil* properties
models: models/dlte.py: dlte diif profil* properties
models: models/hiif.py models/linear_attention.py: hiif profil* properties
models: models/diin.py models/diin_layers.py: diin profil* properties
models: models/idm.py models/unet.py models/conditioning.py: idm unet profil*
render: render.py enlarge.py: render enlarge properties
data: data.py procedural.py sampling.py: data
metrics: metrics.py: metrics properties
training: training.py schedule.py checkpoints.py devices.py: training schedule devices
"""
ROWS = [row.split(": ") for row in TABLE.strip().splitlines()]
GROUPS = list(dict.fromkeys(group for group, *_ in ROWS))
PAIRS = """Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn, And Or, BitAnd BitOr, Add Sub,
Mult Div, min max, amin amax, minimum maximum, floor ceil"""
SWAPS = dict(pair.split() for pair in PAIRS.split(","))
SWAPS |= {new: old for old, new in SWAPS.items()}
SWAPS |= {"FloorDiv": "Div", "Mod": "Mult", "Pow": "Mult"}
LIBRARIES = "torch skimage.metrics matplotlib.pyplot PIL.Image hypothesis.strategies"
MEMORY = 2**34  # bytes of address space


def changed(node: ast.AST, **fields) -> str:
    """The text of `node` with other fields."""
    node = deepcopy(node)
    vars(node).update(fields)
    return f"({ast.unparse(node)})"


def swapped(operator: ast.AST) -> ast.AST:
    return getattr(ast, SWAPS[type(operator).__name__])()


def faults(node: ast.AST):
    """All (node, new text for it), but for messages, docstrings and types."""
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.Expr(value=ast.Constant()):
            return
        case ast.FunctionDef(name="__repr__"):
            return
        case ast.Call(func=ast.Name(id=name)) if name.endswith("Error"):
            return
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield node, changed(node, ops=[*ops[:i], swapped(op), *ops[i + 1 :]])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op).__name__ in SWAPS:
            yield node, changed(node, op=swapped(op))
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            yield node, changed(node.operand)
        case ast.Constant(value=bool()):
            yield node, str(not node.value)
        case ast.Constant(value=int() | float()):
            yield node, str(node.value + 1)
        case ast.Name(id=name, ctx=ast.Load()) if name in SWAPS:
            yield node, SWAPS[name]
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in SWAPS:
            yield node, changed(node, attr=SWAPS[name])
        case ast.Return(value=value) if not isinstance(value, ast.Constant | None):
            yield node, "return None"
        case ast.Expr() | ast.AugAssign():
            yield node, "pass"
        case ast.If(test=test) | ast.IfExp(test=test):
            if isinstance(test, ast.Name | ast.Attribute | ast.Call):
                yield test, f"(not {ast.unparse(test)})"
    types = getattr(node, "annotation", None), getattr(node, "returns", None)
    for child in ast.iter_child_nodes(node):
        if child not in types and child not in getattr(node, "decorator_list", []):
            yield from faults(child)


def mutants(group: str, tree: Path, seed: int):
    """All mutants of a group: (pseudo-random rank, row, text of the file, tests)."""
    seen = Counter()
    for _, files, names in (row for row in ROWS if row[0] == group):
        tests = [tree.glob(f"tests/test_{name}.py") for name in names.split()]
        tests = [f"tests/{path.name}" for paths in tests for path in paths]
        for file in files.split():
            path = tree / "asr_course" / file
            lines = path.read_bytes().splitlines(True) if path.exists() else []
            starts = [0, *accumulate(map(len, lines))]
            for node, new in faults(ast.parse(source := b"".join(lines))):
                begin = starts[node.lineno - 1] + node.col_offset
                end = starts[node.end_lineno - 1] + node.end_col_offset
                change = f"{' '.join(source[begin:end].decode().split())} -> {new}"
                key = f"{seed} {lines[node.lineno - 1].strip()} {change}"
                seen[key] += 1  # the same fault in the same line of another function
                text = source[:begin] + new.encode() + source[end:]
                row = {"group": group, "file": file, "line": node.lineno}
                row |= {"change": change, "sha": sha256(text).hexdigest()[:16]}
                yield Random(f"{key} {seen[key]}").random(), row, text, tests


def run_tests(tree: Path, tests: list[str], seconds: int = 600) -> tuple[str, float]:
    """The first failure, "" if all pass, and the CPU seconds of a forked process."""
    if not (pid := os.fork()):
        code = 99
        try:
            with open(tree / "log", "w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            signal.alarm(10 * seconds)  # for tests that wait and use no CPU
            os.chdir(tree)
            sys.path.insert(0, str(tree))
            options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={tree}/tmp"]
            code = pytest.main([*options, *tests])
            sys.stdout.flush()
        finally:
            os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    lines = (tree / "log").read_text(errors="replace").splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR "))]
    by = [*failures, f"stopped: {status}"][0] if status else ""
    return by, round(usage.ru_utime + usage.ru_stime, 1)


def prepare(tree: Path) -> None:
    """Import the libraries once, for all processes; the course only in each of them."""
    os.nice(10)
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(tree)}
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    for library in LIBRARIES.split():
        import_module(library)
    phases = [Phase.explicit, Phase.generate]  # no search for the smallest failure
    settings.register_profile("mutants", derandomize=True, phases=phases)
    settings.load_profile("mutants")  # a profile of the tests' own builds on it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tree", type=Path, default=Path())
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--per-group", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--again", action="store_true", help="run survivors once more")
    args = parser.parse_args()
    found = [
        mutant
        for group in args.groups
        for mutant in nsmallest(args.per_group, mutants(group, args.tree, args.seed))
    ]
    rows = json.loads(args.json.read_text()) if args.json.exists() else []
    rows = {row["sha"]: row for row in rows if row["caught"] or not args.again}
    todo = [mutant for mutant in found if mutant[1]["sha"] not in rows]
    usual = {}  # CPU seconds of each test file
    with TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        ignore = shutil.ignore_patterns(".git", ".venv", "__pycache__")
        shutil.copytree(args.tree, tree, ignore=ignore)
        prepare(tree)
        for _, row, text, tests in todo:
            for test in (test for test in tests if test not in usual):
                failure, usual[test] = run_tests(tree, [test])
                if failure:
                    sys.exit(f"fails without a fault: {failure}")
                print(f"{usual[test]} s  {test}", flush=True)
            path = tree / "asr_course" / row["file"]
            source = path.read_bytes()
            path.write_bytes(text)
            limit = 1 + int(3 * sum(usual[test] for test in tests))
            by, seconds = run_tests(tree, tests, limit)
            path.write_bytes(source)
            row |= {"caught": bool(by), "seconds": seconds, "by": by}
            rows[row["sha"]] = row
            args.json.write_text(json.dumps(list(rows.values()), indent=1))
            print(*row.values(), sep="  ", flush=True)
    for group in args.groups:
        caught = [
            rows[row["sha"]]["caught"] for _, row, *_ in found if row["group"] == group
        ]
        print(f"{group:9} {sum(caught)} of {len(caught)}")


if __name__ == "__main__":
    main()
