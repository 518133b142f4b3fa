"""Ctrl-C, SIGKILL and Jupyter's stop button, at random moments of a training run.

One run of 40 steps is struck six times: every process goes on from what the one before
it left behind, until it is struck itself. What stands in the checkpoint is compared
with what the progress bar had counted, and with a run that nothing disturbed. The
moments are drawn from a seed. ASR_STRESS=1 does this 17 times, with other moments.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, picture
from jupyter_client.manager import KernelManager
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import get_worker_info

from asr_course import build
from asr_course.__main__ import main
from asr_course.data import Recipe
from asr_course.images import atomic, machine
from asr_course.training import Schedule, read_checkpoint, train
from asr_course.weights import read_card

pytestmark = pytest.mark.skipif(os.name == "nt", reason="its signals are others")

STEPS, EVERY = 40, 0.1  # seconds between checkpoints: two or three steps
ROUNDS = range(17 if os.environ.get("ASR_STRESS") else 1)
TRAIN = f"train --preset smoke --device cpu --resume --steps {STEPS}".split()
BAR = re.compile(r"step (\d+) at ([\d.]+);")  # and when, in seconds since it began


@pytest.fixture(autouse=True)
def ctrl_c():
    """Processes started here hear of Ctrl-C, even where the tests themselves do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    assert main([*TRAIN, "--out", str(out)]) == 0
    return out


def start(words: list[str], log: Path) -> subprocess.Popen:
    """The command in a process of its own; its progress bar writes down every step."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    environment["TQDM_BAR_FORMAT"] = "step {n} at {elapsed_s:.6f};"
    command = [sys.executable, "-m", "asr_course", *words]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def seen(log: Path) -> dict[int, float]:
    """The steps that a process counted, the one it began with first, and when."""
    times = {}
    for step, at in BAR.findall(log.read_text()):
        times.setdefault(int(step), float(at))
    return times


def saved_in(out: Path) -> dict:
    """What a next process would go on from."""
    path = out / "checkpoint.pt"
    return read_checkpoint(path) if path.exists() else {"step": 0, "losses": []}


def wait_for(process: subprocess.Popen, ready) -> None:
    """Until something is so, or the process has ended by itself."""
    late = time.monotonic() + 60
    while process.poll() is None and not ready():
        assert time.monotonic() < late
        time.sleep(0.0002)


def moments(number: int, rng: random.Random) -> list[tuple]:
    """(signal, what to wait for, share of the steps left, seconds to wait then).

    Three of each signal. A process is struck while it starts, imports and reads the
    checkpoint; at a step; while a file is written; and after the last step, which comes
    last. Of these four each round leaves out one for each signal.
    """
    spans, found = {"start": 2.8, "step": 0.05, "write": 0.001, "end": 0.1}, []
    for left_out, sent in (number, signal.SIGKILL), (number + 1, signal.SIGINT):
        for k, (what, span) in enumerate(spans.items()):
            if k != left_out % 4:
                share = 1 if what == "end" else rng.uniform(0.2, 0.6)
                found.append((sent, what, share, rng.uniform(0, span)))
    rng.shuffle(found)
    return sorted(found, key=lambda moment: moment[1] == "end")


def has_come(share: float, log: Path) -> bool:
    """Whether a process has done this share of the steps that it has to do."""
    steps = seen(log)
    first, last = min(steps, default=0), max(steps, default=-1)
    return last >= first + share * (STEPS - first)


def files(out: Path) -> set[tuple]:
    """Which files there are, and when each was last written to."""
    with suppress(FileNotFoundError):  # a temporary may be gone before it is asked
        return {(path, path.stat().st_mtime_ns) for path in out.iterdir()}
    return set()


def strike(out: Path, log: Path, moment: tuple, twice: float | None) -> tuple:
    """Go on with the run and strike: the exit code and the steps seen just before."""
    sent, what, share, delay = moment
    process = start([*TRAIN, "--save-every", str(EVERY), "--out", str(out)], log)
    try:
        if what != "start":
            wait_for(process, lambda: has_come(share, log))
        if what == "write":
            there = files(out)
            wait_for(process, lambda: files(out) != there)
        time.sleep(delay)
        before = seen(log)
        process.send_signal(sent)
        if twice is not None and sent == signal.SIGINT:
            time.sleep(twice)
            process.send_signal(sent)
        return process.wait(60), before
    finally:
        process.kill()


def assert_little_is_lost(steps: dict[int, float], saved: int) -> None:
    """Between two checkpoints the clock of one interval has not run down.

    A step after which it had is followed by a checkpoint, so it can only be the last
    that was counted; and the clock starts anew before the first step that is lost ends.
    """
    done = max(steps)
    assert min(steps) <= saved <= done
    lost = [steps[step] for step in range(saved + 1, done)]
    assert not lost or lost[-1] - lost[0] <= EVERY, (saved, steps)


def assert_same_run(a: dict, b: dict) -> None:
    """Two checkpoints hold the same losses, weights and moments, bit for bit."""
    assert (a["plan"], a["step"], a["losses"]) == (b["plan"], b["step"], b["losses"])
    adam, other = (state["optimizer"]["state"] for state in (a, b))
    assert adam.keys() == other.keys()
    for x, y in ((a["model"], b["model"]), *((adam[k], other[k]) for k in adam)):
        assert x.keys() == y.keys()
        assert all(torch.equal(x[key], y[key]) for key in x)


def assert_same_weights(out: Path, whole: Path) -> None:
    """What two runs wrote in the end: the same weights and the same card."""
    ours, theirs = (folder / "liif.safetensors" for folder in (out, whole))
    assert read_card(ours) == read_card(theirs)
    for key, value in load_file(theirs).items():
        assert torch.equal(load_file(ours)[key], value), key


@pytest.mark.parametrize("number", ROUNDS)
def test_a_run_struck_at_random_moments_ends_as_one_that_was_not(
    tmp_path, whole, number
):
    """Three interrupts and three kills, in processes from their start to their end.

    An interrupt during the training loses nothing. In a stress test every third one is
    followed by a second, which is as rude as a kill.
    """
    rng, out = random.Random(number), tmp_path / "out"
    losses = saved_in(whole)["losses"]
    for k, moment in enumerate(moments(number, rng)):
        log, began = tmp_path / f"{k}.log", saved_in(out)["step"]
        twice = rng.uniform(0, 0.02) if number and rng.random() < 1 / 3 else None
        code, before = strike(out, log, moment, twice)
        steps, saved = seen(log), saved_in(out)
        told = (moment, twice, code, began, saved["step"], log.read_text()[-2000:])

        assert saved["losses"] == losses[: saved["step"]], told
        if steps:
            assert min(steps) == began, told
            assert_little_is_lost(steps, saved["step"])
        if code == 0:  # it was struck too late
            assert_same_weights(out, whole)
        elif moment[0] == signal.SIGKILL:
            assert code == -signal.SIGKILL, told
        elif before:
            assert saved["step"] == max(steps) or twice is not None, told
            assert code == 130 or max(steps) == STEPS, told
        assert code or max(before, default=STEPS) > STEPS - 10, told

    assert main([*TRAIN, "--out", str(out)]) == 0
    assert_same_run(saved_in(out), saved_in(whole))
    assert_same_weights(out, whole)
    assert sorted(os.listdir(out)) == ["checkpoint.pt", "liif.safetensors"]


# Jupyter

BEFORE = """
import signal, sys
from asr_course import build
from asr_course.data import Procedural
from asr_course.presets import PRESETS
from asr_course.training import Schedule, set_seed, train, unfinished
from dataclasses import replace

plan, imports = PRESETS["smoke"].full, 0

def watch(event, arguments):
    global imports
    if event == "import":
        imports += 1
        if imports in (strike_at, strike_at + 5):  # again, by an impatient learner
            signal.raise_signal(signal.SIGINT)

strike_at = 0
sys.addaudithook(watch)
"""
CELL = f"""
set_seed(0)
run = train(
    build("liif", plan.size),
    Procedural(plan.pictures, 0),
    plan.recipe,
    replace(plan.schedule, steps={STEPS}),
    device="cpu",
    out=OUT,
    resume=unfinished(OUT),
    save_every={EVERY},
    workers=1,
    on_step=lambda step, losses: print(f"step {{step}} at 0;", flush=True),
)
"""


@contextmanager
def kernel(log: Path):
    """(manager, client) of a fresh kernel."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    manager = KernelManager(kernel_name="python3")
    with log.open("wb") as file:
        manager.start_kernel(env=environment, cwd=str(ROOT), stdout=file, stderr=file)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(60)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def execute(manager, client, code: str, at: int = 0, delay: float = 0) -> tuple:
    """Run a cell, and stop it `delay` seconds after a step: (its reply, its steps).

    At step 0 it is stopped that long after it began; at step -1, never.
    """
    asked, steps = client.execute(code), []
    while True:
        message = client.get_iopub_msg(60)
        if message["parent_header"].get("msg_id") != asked:
            continue
        content = message["content"]
        steps += [int(step) for step, _ in BAR.findall(content.get("text", ""))]
        begun = content.get("execution_state") == "busy"
        if begun and at == 0 or steps and 0 < at <= steps[-1]:
            time.sleep(delay)
            manager.interrupt_kernel()
            at = -1
        if content.get("execution_state") == "idle":
            break
    while (message := client.get_shell_msg(60))["parent_header"]["msg_id"] != asked:
        pass  # a kernel that starts slowly was asked twice whether it is there
    return message["content"], steps


@pytest.mark.parametrize("number", ROUNDS)
def test_a_training_cell_stopped_at_random_moments_and_run_again(
    tmp_path, whole, number
):
    """In one kernel, three times; first at an import, and torch makes 800 late ones.

    In a stress test the first stop comes as often at a random time.
    """
    rng, out = random.Random(number), tmp_path / "out"
    losses = saved_in(whole)["losses"]
    with kernel(tmp_path / "log") as (manager, client):

        def run(code, at=-1, delay=0.0):
            return execute(manager, client, code, at, delay)

        assert run(BEFORE + f"OUT = {str(out)!r}")[0]["status"] == "ok"
        for k in range(3):
            began, at, delay = saved_in(out)["step"], -1, 0.0
            if k == 0 and number % 2 == 0:
                run(f"strike_at = imports + {rng.randint(2, 800)}")
            elif k == 0:
                at, delay = 0, rng.uniform(0, 1.5)
            else:
                at = began + rng.randint(1, (STEPS - began) // 2)
                delay = rng.uniform(0, 0.05)
            reply, steps = run(CELL, at, delay)
            saved = saved_in(out)
            told = (k, at, delay, began, saved["step"], steps, reply)
            assert saved["losses"] == losses[: saved["step"]], told
            assert saved["step"] < STEPS, told  # it was stopped
            if steps:
                assert (steps[0], steps[-1]) == (began + 1, saved["step"]), told
                assert reply["status"] == "ok", told
            else:
                assert reply.get("ename", "KeyboardInterrupt") == "KeyboardInterrupt"
        reply, steps = run(CELL)
        assert reply["status"] == "ok", reply
        assert steps == list(range(saved["step"] + 1, STEPS + 1))
    assert_same_run(saved_in(out), saved_in(whole))
    assert os.listdir(out) == ["checkpoint.pt"]


# What else hears of an interrupt, and what else writes


class Striking(list):
    """Pictures that send an interrupt to the process that reads them, twice."""

    def __getitem__(self, index):
        if get_worker_info():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return super().__getitem__(index)


def run_small(images: list, **more):
    """Six steps of a LIIF, which start from the same weights each time."""
    torch.manual_seed(5)
    model, recipe = build("liif", "tiny"), Recipe(batch=2, patch=8, queries=32)
    return train(model, images, recipe, Schedule(steps=6), device="cpu", **more)


def test_a_loaders_workers_do_not_listen():
    """Ctrl-C in a terminal is sent to all of them; the step needs what they read."""
    images = [picture(40, 45, seed) for seed in range(3)]
    expected, found = run_small(images), run_small(Striking(images), workers=1)
    assert (found.interrupted, found.losses) == (False, expected.losses)


def test_a_second_interrupt_does_not_wait_and_loses_one_interval_at_most(tmp_path):
    images = [picture(40, 45, seed) for seed in range(3)]

    def impatient(step, losses):
        if step == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    listens = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_small(images, out=tmp_path, save_every=0, on_step=impatient)
    assert signal.getsignal(signal.SIGINT) is listens
    assert saved_in(tmp_path)["step"] == 3
    resumed = run_small(images, out=tmp_path, resume=True)
    assert resumed.losses == run_small(images).losses


def test_a_checkpoint_that_breaks_off_leaves_the_one_before(tmp_path, monkeypatch):
    images, whole_save = [picture(40, 45)], torch.save

    def half(state, path):
        whole_save(state, path)
        if state["step"] == 3:
            os.truncate(path, os.path.getsize(path) // 2)
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        run_small(images, out=tmp_path, save_every=0)
    assert saved_in(tmp_path)["step"] == 2
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_only_temporaries_that_nobody_writes_are_removed(tmp_path):
    """Not those of a process that lives, or of another machine that shares the folder.

    A temporary of another file is not ours to remove, whoever wrote it.
    """
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here, there = machine(), f"{int(machine(), 16) ^ 1:08x}"
    stale = [f"{here}-{dead.pid}-a", f"{here}-{os.getpid()}-a", f"{there}-1-old"]
    alive = [f"{here}-{os.getppid()}-a", f"{there}-{dead.pid}-a", f"{here}-x"]
    for name in stale + alive:
        (tmp_path / f"run.pt.{name}.part").touch()
    os.utime(tmp_path / f"run.pt.{there}-1-old.part", (0, 0))
    (tmp_path / f"my-run.pt.{here}-{dead.pid}-a.part").touch()
    with atomic(tmp_path / "run.pt") as first:
        first.write_text("first")
        with atomic(tmp_path / "run.pt") as second:
            second.write_text("second")
    left = [f"run.pt.{name}.part" for name in alive]
    left += ["run.pt", f"my-run.pt.{here}-{dead.pid}-a.part"]
    assert sorted(os.listdir(tmp_path)) == sorted(left)
    assert (tmp_path / "run.pt").read_text() == "first"  # the one that ended last


COMMANDS = {  # and what strikes them
    "evaluate": (
        "evaluate --model bicubic --data in --scales 2 --save out --json out/rows.json",
        signal.SIGKILL,
    ),
    "upscale": (
        "upscale in/0.png out/0.png --model tiny.safetensors --size 450x600",
        signal.SIGINT,
    ),
}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; a temporary may be gone before it is read."""
    found = {}
    for path in folder.rglob("*.*"):
        with suppress(FileNotFoundError):
            found[path.name] = path.read_bytes()
    return found


@pytest.mark.parametrize("number", ROUNDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_struck_while_it_writes_leaves_whole_files(
    tmp_path, monkeypatch, weights, command, number
):
    """Each file is an older one, or the new one from its first byte to its last."""
    rng, noise = random.Random(number), np.random.default_rng(number)
    words, sent = COMMANDS[command]
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    for folder in ("in", "out"):
        Path(folder).mkdir()
    for k in range(3):
        pixels = noise.integers(0, 256, (300, 400, 3), np.uint8)
        Image.fromarray(pixels).save(f"in/{k}.png")
    assert main(words.split()) == 0
    new = contents(out)
    for path in out.rglob("*.*"):
        path.write_bytes(b"older")
    before = contents(out)
    process = start(words.split(), tmp_path / "log")
    wait_for(process, lambda: contents(out) != before)
    time.sleep(rng.uniform(0, 0.01))
    process.send_signal(sent)
    code = process.wait(60)
    found = contents(out)
    assert all(found[name] in (b"older", new[name]) for name in new)
    assert code == (130 if sent == signal.SIGINT else -sent) or found == new
    assert sent == signal.SIGKILL or found.keys() == new.keys()  # no temporaries
    assert main(words.split()) == 0
    assert contents(out) == new
