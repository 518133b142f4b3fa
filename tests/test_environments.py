"""Where people open notebooks: conda, Binder, Colab, VS Code, as far as one can here.

There is no conda and no Docker in CI. What these files mean to them is read instead,
and the cell that installs the course is run against a git and a pip of the test's own.
"""

import os
import re
import subprocess
import sys

import nbformat
import pytest
import yaml
from helpers import ROOT
from notebook_tools import NOTEBOOKS
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

CELL = (ROOT / "docs" / "install_cell.py").read_text().rstrip()
CPU = "--extra-index-url https://download.pytorch.org/whl/cpu"


def environment(name: str) -> tuple[list[str], list[str]]:
    """(conda's packages, pip's lines) of an environment file."""
    found = yaml.safe_load((ROOT / name).read_text())
    assert set(found) == {"name", "channels", "dependencies"}
    assert found["channels"] == ["conda-forge", "nodefaults"]
    *conda, last = found["dependencies"]
    assert list(last) == ["pip"]
    return conda, last["pip"]


@pytest.mark.parametrize("name", ["environment.yml", ".binder/environment.yml"])
def test_conda_installs_python_and_pip_the_course(name):
    """One source of versions; every path leads to what lies there."""
    conda, pip = environment(name)
    (python,) = (word for word in conda if word.startswith("python="))
    assert re.fullmatch(r"python=3\.\d+", python) and "pip" in conda
    project = (ROOT / "pyproject.toml").read_text()
    supported = re.search(r'requires-python = "(.*)"', project)[1]
    assert SpecifierSet(supported).contains(python.removeprefix("python="))
    folder = (ROOT / name).parent
    (constraints,) = (line[3:] for line in pip if line.startswith("-c "))
    (package,) = (line[3:] for line in pip if line.startswith("-e "))
    assert (folder / constraints).resolve() == ROOT / "constraints.txt"
    assert (folder / package.partition("[")[0]).resolve() == ROOT


def test_binder_takes_torch_without_cuda_and_no_test_tools():
    _, pip = environment(".binder/environment.yml")
    assert pip == [CPU, "-c ../constraints.txt", "-e .."]


def test_every_constraint_is_one_that_pip_reads():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for line in lines:
        if not line.startswith("#"):
            (pin,) = Requirement(line).specifier
            assert pin.operator == "=="


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_has_the_same_folded_cell_that_installs(path):
    """After the parameters and before the first import of the course."""
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    parameters, cell, imports = cells[:3]
    assert "parameters" in parameters.metadata.tags
    assert cell.source == CELL
    assert cell.metadata.jupyter.source_hidden
    assert cell.metadata.cellView == "form"
    assert "from asr_course import" in imports.source


# The cell, in a Python that has no course

FAKE = """#!/bin/sh
echo "$(basename "$0") $@" >> "$ASKED"
case "$1" in clone) mkdir -p "$5/asr_course" && touch "$5/asr_course/__init__.py";; esac
"""


@pytest.fixture
def kernel(tmp_path):
    """A call that runs the cell in a folder: (result, the commands that it gave)."""
    asked = tmp_path / "asked"
    for name in ("git", "python-of-a-kernel"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(FAKE)
        tool.chmod(0o755)

    def run(folder, course="", before="", after=""):
        cell = CELL.replace('COURSE = ""', f"COURSE = {course!r}")
        python = str(tmp_path / "bin" / "python-of-a-kernel")
        code = f"import sys; sys.executable = {python!r}\n{before}\n{cell}\n{after}"
        places = [str(tmp_path / "bin"), os.environ["PATH"]]
        done = subprocess.run(
            [sys.executable, "-S", "-I", "-c", code],  # no packages: no course
            cwd=folder,
            env=dict(os.environ, ASKED=str(asked), PATH=os.pathsep.join(places)),
            capture_output=True,
            text=True,
        )
        return done, asked.read_text().splitlines() if asked.exists() else []

    return run


def test_where_the_course_is_installed_the_cell_does_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CELL], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_without_an_address_the_cell_says_what_to_do(kernel, tmp_path):
    done, asked = kernel(tmp_path)
    last = done.stderr.splitlines()[-1]
    assert "RuntimeError: the course is not installed in this kernel" in last
    assert "address between the quotes of COURSE" in last
    assert asked == []


def test_in_a_bare_kernel_beside_the_course_the_cell_installs_it(kernel, tmp_path):
    """As in VS Code, whose kernels start in the notebook's folder."""
    (tmp_path / "my course" / "asr_course").mkdir(parents=True)
    (tmp_path / "my course" / "notebooks").mkdir()
    done, asked = kernel(
        tmp_path / "my course" / "notebooks", after="import asr_course"
    )
    assert (done.returncode, done.stderr) == (0, "")
    root = tmp_path / "my course"
    assert asked == [f"python-of-a-kernel -m pip install -q -e {root}"]


def test_on_colab_the_cell_clones_once_and_allows_widgets(kernel, tmp_path):
    colab = (
        "from types import SimpleNamespace as N\n"
        "allow = lambda: print('widgets allowed')\n"
        "output = N(enable_custom_widget_manager=allow)\n"
        "sys.modules['google.colab'] = N(output=output)"
    )
    address, root = "https://example.org/course.git", tmp_path / "asr-course"
    install = f"python-of-a-kernel -m pip install -q -e {root}"
    done, asked = kernel(tmp_path, address, colab, "import asr_course")
    assert (done.stdout, done.stderr) == ("widgets allowed\n", "")
    assert asked == [f"git clone --depth 1 {address} {root}", install]
    _, asked = kernel(tmp_path, address, colab)  # a kernel that was started again
    assert asked[2:] == [install]
