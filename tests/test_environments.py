"""Where people open notebooks: conda, Binder, Colab, VS Code, as far as one can here.

The cell that installs the course is run in a Python without packages, against a git
and a pip of the test's own.
"""

import os
import subprocess
import sys

import pytest
import yaml
from helpers import ROOT

CELL = (ROOT / "docs" / "install_cell.py").read_text()
FAKE = """#!/bin/sh
echo "$(basename "$0") $@" >> "$ASKED"
case "$1" in clone) mkdir -p "$5/asr_course" && touch "$5/asr_course/__init__.py";; esac
"""


@pytest.mark.parametrize("name", ["environment.yml", ".binder/environment.yml"])
def test_conda_installs_python_and_pip_the_course_with_its_constraints(name):
    *conda, last = yaml.safe_load((ROOT / name).read_text())["dependencies"]
    assert "python=3.11" in conda
    paths = {line[:2]: line[3:].partition("[")[0] for line in last["pip"]}
    folder = (ROOT / name).parent
    assert (folder / paths["-c"]).resolve() == ROOT / "constraints.txt"
    assert (folder / paths["-e"]).resolve() == ROOT
    assert "-c constraints.txt -e '.[test]'" in (ROOT / "Makefile").read_text()


def run_cell(tmp_path, folder, code: str):
    """Run code in a Python without packages: (result, commands that it gave)."""
    asked = tmp_path / "asked"
    for name in ("git", "a-python"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(FAKE)
        tool.chmod(0o755)
    path = os.pathsep.join([str(tool.parent), os.environ["PATH"]])
    code = f"import sys; sys.executable = {str(tool)!r}\n{code}\nimport asr_course"
    words = [sys.executable, "-S", "-I", "-c", code]
    env = dict(os.environ, ASKED=str(asked), PATH=path)
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    return done, asked.read_text().splitlines() if asked.exists() else []


def test_beside_the_course_the_cell_installs_it_and_elsewhere_it_says_what_to_do(
    tmp_path,
):
    done, asked = run_cell(tmp_path, tmp_path, CELL)
    assert "address between the quotes of COURSE" in done.stderr and asked == []
    (tmp_path / "my course" / "asr_course").mkdir(parents=True)
    (tmp_path / "my course" / "notebooks").mkdir()
    done, asked = run_cell(tmp_path, tmp_path / "my course" / "notebooks", CELL)
    assert (done.returncode, done.stderr) == (0, "")
    assert asked == [f"a-python -m pip install -q -e {tmp_path / 'my course'}"]


def test_on_colab_the_cell_clones_the_course(tmp_path):
    address, root = "https://example.org/course.git", tmp_path / "asr-course"
    cell = CELL.replace('COURSE = ""', f"COURSE = {address!r}")
    done, asked = run_cell(tmp_path, tmp_path, cell)
    assert (done.returncode, done.stderr) == (0, "")
    install = f"a-python -m pip install -q -e {root}"
    assert asked == [f"git clone --depth 1 {address} {root}", install]
