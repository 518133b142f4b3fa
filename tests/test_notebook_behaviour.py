"""Notebooks as learners use them: twice, interrupted, in two tabs, in odd places.

Notebook 1 is opened in a read-only checkout whose path has spaces and umlauts, without
a network, and all of it is run twice. Then its training is stopped and goes on in a new
kernel, in a copy outside of the checkout; that kernel is restarted in the middle, and
goes on again while the first tab does, too. One kernel serves several of these at once,
because a notebook takes 20 to 40 seconds. ASR_STRESS=1 does all this to every notebook,
and runs neighbours at the same time.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
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
from nbclient.exceptions import DeadKernelError
from notebook_tools import NOTEBOOKS, faults

from asr_course.errors import UserError
from asr_course.presets import setup
from asr_course.training import read_checkpoint

STRESS = bool(os.environ.get("ASR_STRESS"))
each_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS if STRESS else NOTEBOOKS[:1], ids=lambda path: path.stem
)

# What every kernel imports first: Python's sockets reach this machine only. Those of
# compiled libraries do not pass here; `confined` takes the network from them as well.
WATCH = """
import os, sys

def watch(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        where = args[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        where = args[:1]
    else:
        return
    host = where[0] if isinstance(where, tuple) else None  # else a path on this machine
    if host and str(host) not in ("127.0.0.1", "::1", "localhost"):
        with open(os.environ["ASR_ASKED"], "a", encoding="utf-8") as file:
            file.write(f"{event} {where}\\n")
        raise OSError(f"no network in this test: {event} {where}")

sys.addaudithook(watch)
"""


def confined() -> list[str]:
    """Words before a command that take the network away, and root's right to write
    where files are read-only; empty where the machine lends no such thing.
    """
    words = []
    for more in (
        ["unshare", "--net"],
        ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"],
    ):
        if os.name == "posix" and shutil.which(more[0]):
            tried = subprocess.run([*words, *more, "true"], capture_output=True)
            words += [] if tried.returncode else more
    return words


class Tab(NotebookClient):
    """A notebook in a kernel of its own, run cell by cell as a learner does."""

    stop_at = None  # interrupt the kernel at this step of a training
    steps = ()  # those that the training cell's widget showed since the last run

    def process_message(self, message, cell, cell_index):
        data = message["content"].get("data") or {}
        value = data.get("state", {}).get("value")
        found = re.match(r"step (\d+) of \d+$", value) if isinstance(value, str) else 0
        if found and int(found[1]):
            self.steps.append(int(found[1]))
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

    async def restart(self, running: asyncio.Future) -> None:
        """Restart the kernel while a cell runs, which it does not live to see."""
        await self.km.signal_kernel(signal.SIGKILL)
        with pytest.raises(DeadKernelError):
            await running
        await self.km.restart_kernel(now=True)
        await self.kc.wait_for_ready(60)

    async def tell(self, code: str) -> str:
        """What a cell of the test's own prints."""
        cell = nbformat.v4.new_code_cell(code)
        self.nb.cells.append(cell)
        await self.async_execute_cell(cell, len(self.nb.cells) - 1)
        self.nb.cells.remove(cell)
        return "".join(output.get("text", "") for output in cell.outputs)


class Place:
    """A checkout, a home without caches and kernels whose network is watched."""

    def __init__(self, folder: Path, checkout: Path = ROOT, locale: str = ""):
        folder.mkdir(exist_ok=True)
        self.asked, self.words = folder / "asked.txt", confined()
        self.asked.touch()
        for name in ("watch", "home", "kernels/course"):
            (folder / name).mkdir(parents=True)
        (folder / "watch" / "sitecustomize.py").write_text(WATCH)
        environment = {
            "PYTHONPATH": f"{folder / 'watch'}{os.pathsep}{checkout}",
            "HOME": str(folder / "home"),
            "MPLCONFIGDIR": matplotlib.get_cachedir(),  # its list of fonts takes long
            "ASR_ASKED": str(self.asked),
            "OMP_NUM_THREADS": "1",
            **({"LC_ALL": locale, "PYTHONUTF8": "0"} if locale else {}),
        }
        command = [sys.executable, "-m", "ipykernel_launcher", "-f"]
        spec = {
            "argv": [*self.words, *command, "{connection_file}"],
            "env": environment,
            "display_name": "course",
            "language": "python",
        }
        (folder / "kernels" / "course" / "kernel.json").write_text(json.dumps(spec))
        self.specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")])

    @asynccontextmanager
    async def open(self, path: Path, folder: Path, out: str):
        """A notebook of the smoke preset, its kernel's working folder and OUT_DIR."""
        notebook = nbformat.read(path, as_version=4)
        [cell] = [
            c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])
        ]
        for old, new in (('"laptop"', '"smoke"'), ('"runs"', repr(out))):
            assert old in cell.source
            cell.source = cell.source.replace(old, new)
        with tempfile.TemporaryDirectory() as short:  # names of sockets must be short
            km = AsyncKernelManager(
                kernel_name="course", kernel_spec_manager=self.specs
            )
            if "unshare" in self.words:  # then this machine's address is gone, too
                km.transport, km.ip = "ipc", f"{short}/kernel"
            tab = Tab(notebook, km=km, timeout=300)
            async with tab.async_setup_kernel(cleanup_kc=True, cwd=str(folder)):
                yield tab


def shown(tab) -> dict[int, list]:
    """What a reader sees below each cell, but for times and for widgets' numbers."""
    found = {}
    for k, cell in enumerate(tab.nb.cells):
        outputs = cell.get("outputs", [])
        texts = [output.text for output in outputs if output.get("name") == "stdout"]
        data = [output.data for output in outputs if "data" in output]
        data = [d for d in data if not any("jupyter.widget" in kind for kind in d)]
        text = re.sub(r"[\d.]+(?= times as long)", "#", "".join(texts))
        found[k] = [text, *data]
    return found


def different(a: dict[int, list], b: dict[int, list], cells=None) -> dict[int, str]:
    """The cells below which two runs show different things, and what they print."""
    return {k: f"{a[k][0]} | {b[k][0]}" for k in cells or a if a[k] != b[k]}


def index_of(notebook, words: str) -> int:
    """The number of the one code cell with these words in it."""
    [k] = [
        k
        for k, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and words in cell.source
    ]
    return k


def training_cell(notebook) -> int:
    """The number of the cell whose run can be stopped and goes on."""
    return index_of(notebook, "resume=unfinished(")


def needed(notebook, *more: str) -> set[int]:
    """The cells that the training needs, its own, and those with one of `more`."""
    train, setting = training_cell(notebook), index_of(notebook, "= setup(PRESET")
    words = ("photos = sample_crops", "plan = run.preset", *more)
    first = [
        k
        for k, cell in enumerate(notebook.cells[: train + 1])
        if k <= setting or "defines" in cell.metadata.get("asr", {})
    ]
    return {*first, train} | {
        k
        for k, cell in enumerate(notebook.cells)
        if any(word in cell.source for word in words)
    }


def names_below_out(cells) -> set[str]:
    """What cells call the files and folders that they make in OUT_DIR."""
    code = "\n".join(cell.source for cell in cells)
    return set(re.findall(r"run\.out / \"([\w.]+)\"", code))


def checkpoint_of(out: Path, notebook) -> Path:
    """Where a notebook's training keeps its run."""
    source = notebook.cells[training_cell(notebook)].source
    name = re.search(r"resume=unfinished\(run\.out / \"(\w+)\"\)", source)[1]
    return out / name / "checkpoint.pt"


def assert_same_run(a: dict, b: dict) -> None:
    """Two checkpoints hold the same losses and weights, bit for bit."""
    assert (a["plan"], a["losses"]) == (b["plan"], b["losses"])
    for key, value in a["model"].items():
        assert torch.equal(value, b["model"][key]), key


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file's size and time; but for what Python compiles for itself."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def set_writable(folder: Path, allowed: bool) -> None:
    """Let the owner write below a folder, or nobody."""
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IWUSR if allowed else mode & ~0o222)


async def going_on_to(tab, cells, step: int) -> asyncio.Future:
    """Run cells until their training shows a step; they still run."""
    tab.steps = []
    running = asyncio.ensure_future(tab.run(cells))
    while not running.done() and max(tab.steps, default=0) < step:
        await asyncio.sleep(0.02)
    assert not running.done(), running.exception()
    return running


def looked_at(tab) -> dict[int, list]:
    """What a run shows, and no widget hides an error."""
    assert [fault for fault in faults(tab.nb) if "never ran" not in fault] == []
    return shown(tab)


# Asked of a kernel in the end: what must not happen would have been seen.
REFUSED = """
import asr_course, socket
print(asr_course.__file__)
try:
    open("written", "w").close()
except OSError as error:
    print(type(error).__name__)
try:
    setup("smoke")
except ValueError as error:
    print(error)
try:
    socket.create_connection(("192.0.2.1", 80), 1)
except OSError as error:
    print(error)
"""

# And of the kernel whose locale knows ASCII only: what the repository reads is UTF-8.
LETTERS = """
from asr_course.claims import word_claims
print(any("×" in claim.claim + claim.printed for claim in word_claims()))
"""


@each_notebook
def test_run_all_twice_then_stop_and_go_on_in_two_tabs(path, tmp_path):
    """Four stages in one OUT_DIR, which is not there at first.

    All cells twice in one kernel show the same. The training is done anew, by design:
    an edited class is to have an effect.

    Its cell is run once more and interrupted. A new kernel begins with the step after
    the last one saved, as its widget shows, and so it does once more after a restart in
    the middle. It ends as the run without a break did. In CI this one runs no more than
    the training, the scores, the shipped weights and the exercises. Its locale knows
    ASCII only.

    Meanwhile the first tab, whose kernel lives on, runs its training cell again.

    Nothing is written into the checkout. Where root may write anywhere (no setpriv),
    the list of its files must say so alone.
    """
    checkout, outside = tmp_path / "Kurs Übung äöü 1", tmp_path / "Übungen & Spaß"
    for part in ("asr_course", "data", "notebooks"):
        shutil.copytree(ROOT / part, checkout / part)
    outside.mkdir()
    copy = Path(shutil.copy(path, outside))
    place = Place(tmp_path / "first", checkout)
    plain = Place(tmp_path / "second", checkout, locale="C")
    folder, out = checkout / "notebooks", outside / "runs"
    set_writable(checkout, False)
    before = files(checkout)

    async def scenario() -> str:
        async with place.open(folder / path.name, folder, str(out)) as tab:
            train, saved = training_cell(tab.nb), checkpoint_of(out, tab.nb)
            await tab.run()
            once, whole = looked_at(tab), read_checkpoint(saved)
            written = {path.name for path in out.iterdir()}
            assert written == names_below_out(tab.nb.cells)
            await tab.run()
            assert tab.steps[0] == 1
            assert different(once, looked_at(tab)) == {}
            assert_same_run(whole, read_checkpoint(saved))

            tab.stop_at = 20
            await tab.run({train})
            stopped = read_checkpoint(saved)["step"]
            assert stopped == tab.steps[-1] < len(whole["losses"])

            async with plain.open(copy, outside, "runs") as new:
                words = "load_pretrained(", "check(", "save_record("
                cells = range(len(new.nb.cells)) if STRESS else needed(new.nb, *words)
                await new.restart(await going_on_to(new, cells, stopped + 5))
                assert new.steps[0] == stopped + 1
                going_on = await going_on_to(new, cells, stopped + 1)
                await asyncio.gather(going_on, tab.run({train}))
                assert new.steps[0] == stopped + 1
                assert tab.steps[0] in (stopped + 1, 1)  # 1 after the other's last
                assert_same_run(whole, read_checkpoint(saved))
                assert different(once, looked_at(new), cells) == {}
                assert different(once, looked_at(tab)) == {}
                assert await new.tell(LETTERS) == "True\n"
            assert (place.asked.read_text(), plain.asked.read_text()) == ("", "")
            return await tab.tell(REFUSED)

    try:
        said = asyncio.run(scenario())
        assert files(checkout) == before
    finally:
        set_writable(checkout, True)
    assert said.startswith(str(checkout))
    if os.geteuid() or "setpriv" in place.words:
        assert "PermissionError\nOUT_DIR: nothing can be written" in said
    assert "192.0.2.1" in place.asked.read_text()


@pytest.mark.skipif(not STRESS, reason="a minute for each pair; set ASR_STRESS=1")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_two_notebooks_at_once_in_one_folder(path, tmp_path):
    """What they show, and their runs, are those of a run alone in a folder."""
    place = Place(tmp_path / "place")
    pair = path, NOTEBOOKS[(NOTEBOOKS.index(path) + 1) % len(NOTEBOOKS)]

    async def scenario():
        async with (
            place.open(pair[0], tmp_path, "runs") as first,
            place.open(pair[1], tmp_path, "runs") as second,
        ):
            await asyncio.gather(first.run(), second.run())
        for tab, path in zip((first, second), pair, strict=True):
            async with place.open(path, tmp_path, f"{path.stem} alone") as alone:
                await alone.run()
            assert different(looked_at(tab), looked_at(alone)) == {}
            assert_same_run(
                read_checkpoint(checkpoint_of(tmp_path / "runs", tab.nb)),
                read_checkpoint(checkpoint_of(tmp_path / f"{path.stem} alone", tab.nb)),
            )

    asyncio.run(scenario())


def test_no_two_notebooks_write_the_same_file():
    """That is why they may share a folder."""
    names = []
    for path in NOTEBOOKS:
        names += names_below_out(nbformat.read(path, 4).cells)
    assert len(names) == len(set(names)) == 13  # notebook 6 keeps no record


@pytest.mark.parametrize("name", ["runs", "Läufe 1/a/b", "~/runs"])
def test_results_go_to_one_place_wherever_a_notebook_changes_to(
    tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    out = setup("smoke", device="cpu", out_dir=name).out
    assert out == tmp_path / name.replace("~", "home")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "home"]  # nothing created


@pytest.mark.parametrize("name", ["file", "file/runs", "~nobody of this name/runs"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_the_training(
    tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"OUT_DIR: .*{name}.* a folder of your own$"):
        setup("smoke", device="cpu", out_dir=name)


@pytest.mark.parametrize("name", [None, 3, True])
def test_a_folder_is_named_in_words(name):
    """Papermill passes numbers on as they are."""
    with pytest.raises(UserError, match=f"OUT_DIR must be .* not {name}"):
        setup("smoke", device="cpu", out_dir=name)
