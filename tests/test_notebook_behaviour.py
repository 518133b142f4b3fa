"""Notebooks as learners use them: run twice, interrupted, elsewhere, offline.

Notebook 1 is opened in a checkout whose path has spaces and umlauts, with a new home
and without a network; its kernel works in another folder. All of it is run twice. Then
its training is interrupted and goes on in a new kernel. ASR_STRESS=1 does all this to
every notebook.
"""

import asyncio
import json
import os
import re
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import matplotlib
import nbformat
import pytest
import torch
from helpers import ROOT
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from asr_course.presets import setup
from tools.notebooks import NOTEBOOKS, faults

STRESS = bool(os.environ.get("ASR_STRESS"))
each_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS if STRESS else NOTEBOOKS[:1], ids=lambda path: path.stem
)

# What every kernel imports first: Python's sockets reach this machine only.
OFFLINE = """
import os, sys

def watch(event, args):
    if event not in ("socket.connect", "socket.getaddrinfo"):
        return
    where = args[1] if event == "socket.connect" else args
    if isinstance(where, tuple) and where[0] not in ("127.0.0.1", "::1", "localhost"):
        with open(os.environ["ASR_ASKED"], "a", encoding="utf-8") as file:
            file.write(f"{event} {where}\\n")
        raise OSError(f"no network in this test: {event} {where}")

sys.addaudithook(watch)
"""
CONNECT = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), 1)
except OSError as error:
    print(error)
"""


class Tab(NotebookClient):
    """A notebook in a kernel of its own, run cell by cell as a learner does."""

    stop_at = None  # interrupt the kernel at this step of a training
    steps = ()  # those that the training cell showed since the last run

    def process_message(self, message, cell, cell_index):
        data = message["content"].get("data") or {}
        step = re.match(r"step (\d+) of \d+", data.get("text/plain", ""))
        if step and int(step[1]):
            self.steps.append(int(step[1]))
            if self.stop_at and self.steps[-1] >= self.stop_at:
                self.stop_at = None
                asyncio.ensure_future(self.km.interrupt_kernel())
        return super().process_message(message, cell, cell_index)

    async def run(self, cells=None) -> None:
        """Run the code cells, or those of these numbers; the first error is raised."""
        self.steps = []
        for k, cell in enumerate(self.nb.cells):
            if cell.cell_type == "code" and (cells is None or k in cells):
                cell.outputs = []
                await self.async_execute_cell(cell, k)
        self.set_widgets_metadata()

    async def ask(self, code: str) -> str:
        """What a cell of the test's own prints."""
        self.nb.cells.append(nbformat.v4.new_code_cell(code))
        await self.async_execute_cell(self.nb.cells[-1], len(self.nb.cells) - 1)
        return "".join(output.get("text", "") for output in self.nb.cells.pop().outputs)


class Place:
    """A checkout, a home without caches, and kernels whose network is watched."""

    def __init__(self, folder: Path, checkout: Path):
        self.asked = folder / "asked.txt"
        for name in ("watch", "home", "kernels/course"):
            (folder / name).mkdir(parents=True)
        (folder / "watch" / "sitecustomize.py").write_text(OFFLINE)
        environment = {
            "PYTHONPATH": f"{folder / 'watch'}{os.pathsep}{checkout}",
            "HOME": str(folder / "home"),
            "MPLCONFIGDIR": matplotlib.get_cachedir(),  # its list of fonts takes long
            "ASR_ASKED": str(self.asked),
            "OMP_NUM_THREADS": "1",
        }
        words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": words, "env": environment, "display_name": "c", "language": "p"}
        (folder / "kernels" / "course" / "kernel.json").write_text(json.dumps(spec))
        self.specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")])

    @asynccontextmanager
    async def open(self, path: Path, folder: Path, out: str):
        """A notebook of the smoke preset, its kernel's working folder and OUT_DIR."""
        notebook = nbformat.read(path, as_version=4)
        [cell] = [
            c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])
        ]
        cell.source = cell.source.replace('"laptop"', '"smoke"')
        cell.source = cell.source.replace('"runs"', repr(out))
        km = AsyncKernelManager(kernel_name="course", kernel_spec_manager=self.specs)
        tab = Tab(notebook, km=km, timeout=300)
        async with tab.async_setup_kernel(cleanup_kc=True, cwd=str(folder)):
            yield tab


def shown(tab) -> dict[int, list]:
    """What a reader sees below each cell, but for times and for widgets' numbers."""
    assert [fault for fault in faults(tab.nb) if "never ran" not in fault] == []
    found = {}
    for k, cell in enumerate(tab.nb.cells):
        outputs = cell.get("outputs", [])
        texts = [output.text for output in outputs if output.get("name") == "stdout"]
        data = [output.data for output in outputs if "data" in output]
        data = [d for d in data if not any("jupyter.widget" in kind for kind in d)]
        found[k] = [re.sub(r"[\d.]+(?= times as long)", "#", "".join(texts)), *data]
    return found


def cells_with(notebook, *words: str) -> set[int]:
    """The numbers of the code cells with one of these words in them."""
    cells = [c.source if c.cell_type == "code" else "" for c in notebook.cells]
    return {k for k, source in enumerate(cells) if any(w in source for w in words)}


def up_to_training(notebook) -> set[int]:
    """The training's cell and all code cells before it."""
    (train,) = cells_with(notebook, "resume=True")
    return {k for k in cells_with(notebook, "") if k <= train}


def names_in_out(notebook) -> list[str]:
    """What the cells call the files and folders that they make in OUT_DIR."""
    code = "\n".join(cell.source for cell in notebook.cells)
    return sorted(set(re.findall(r"run\.out / \"([\w.]+)\"", code)))


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file's size and time, but for what Python compiles for itself."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@each_notebook
def test_run_all_twice_then_interrupt_and_go_on_in_a_new_kernel(path, tmp_path):
    """Both runs show the same, but the second says that it loads the first one's
    training. The new kernel begins with the step after the last one saved and ends with
    the losses and weights of the run that was not interrupted."""
    checkout, work = tmp_path / "Kurs Übung äöü 1", tmp_path / "Übungen & Spaß"
    for part in ("asr_course", "data", "notebooks"):
        shutil.copytree(ROOT / part, checkout / part)
    work.mkdir()
    place, before = Place(tmp_path / "place", checkout), files(checkout)

    async def scenario() -> None:
        async with place.open(checkout / "notebooks" / path.name, work, "runs") as tab:
            (train,) = cells_with(tab.nb, "resume=True")
            name = re.search(r"run\.out / \"(\w+)\"", tab.nb.cells[train].source)[1]
            saved = work / "runs" / "smoke-0" / name / "checkpoint.pt"
            await tab.run()
            once, whole = shown(tab), torch.load(saved, weights_only=True)
            assert sorted(os.listdir(saved.parents[1])) == names_in_out(tab.nb)
            await tab.run()
            again, words = shown(tab), "steps were done before; delete"
            assert tab.steps == [] and words in again[train][0]
            assert again | {train: once[train]} == once
            saved.unlink()
            tab.stop_at = 20
            with pytest.raises(CellExecutionError, match="run this again to go on"):
                await tab.run({train})
            stopped = torch.load(saved, weights_only=True)["step"]
            assert stopped == tab.steps[-1] < len(whole["losses"])
            assert str(checkout) in await tab.ask("print(asr.__file__)")
        async with place.open(path, work, "runs") as tab:
            await tab.run(up_to_training(tab.nb))
            assert tab.steps[0] == stopped + 1
            resumed = torch.load(saved, weights_only=True)
            assert resumed["losses"] == whole["losses"]
            for key, value in whole["model"].items():
                assert torch.equal(value, resumed["model"][key]), key
            assert shown(tab)[train] == once[train]
            assert not place.asked.exists()
            assert "no network" in await tab.ask(CONNECT)  # it would have been seen

    asyncio.run(scenario())
    assert files(checkout) == before


def test_no_two_notebooks_write_the_same_file():
    """That is why they may share a folder."""
    names = [n for path in NOTEBOOKS for n in names_in_out(nbformat.read(path, 4))]
    assert len(names) == len(set(names)) >= len(NOTEBOOKS)


def test_out_dir_is_one_place_and_refused_before_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("runs", "Läufe 1/a/b", "~/runs"):
        out = setup("smoke", device="cpu", out_dir=name).out
        assert out == tmp_path / name.replace("~", "home") / "smoke-0"
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="folder"):
        setup("smoke", device="cpu", out_dir="file/runs")
