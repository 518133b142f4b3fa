"""Ctrl-C and SIGKILL in the middle of a training run.

test_notebook_behaviour.py presses Jupyter's stop button.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import near, picture
from safetensors.torch import load_file
from torch.utils.data import get_worker_info

from asr_course import build
from asr_course.__main__ import main
from asr_course.checkpoints import read_checkpoint
from asr_course.data import Recipe
from asr_course.schedule import Schedule
from asr_course.training import train
from asr_course.weights import read_card

pytestmark = pytest.mark.skipif(os.name == "nt", reason="its signals are others")

STEPS = 40
TRAIN = f"train --preset smoke --device cpu --resume --steps {STEPS}".split()
BAR = re.compile(r"step (\d+);")


@pytest.fixture(autouse=True)
def ctrl_c():
    """Processes started here hear of Ctrl-C, even where the tests themselves do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def state_of(out: Path) -> dict:
    return read_checkpoint(out / "checkpoint.pt")


def assert_same_run(found: Path, expected: Path) -> None:
    """Two checkpoints hold the same losses, weights and moments, bit for bit."""
    a, b = state_of(found), state_of(expected)
    assert (a["plan"], a["step"], a["losses"]) == (b["plan"], b["step"], b["losses"])
    near(a["model"], b["model"], 0)
    near(a["optimizer"]["state"], b["optimizer"]["state"], 0)


def strike(sent: signal.Signals, share: float, out: Path, log: Path) -> tuple:
    """Go on with the run, strike after this share of the steps that are left.

    Returns the exit code, and the first and the last step of the progress bar.
    """
    environment = dict(os.environ, OMP_NUM_THREADS="1", TQDM_BAR_FORMAT="step {n};")
    command = [sys.executable, "-m", "asr_course", *TRAIN, "--save-every", "0.1"]
    with log.open("wb") as file:
        streams = {"stdout": file, "stderr": file, "env": environment}
        process = subprocess.Popen([*command, "--out", str(out)], **streams)

    def steps() -> list[int]:
        return [int(step) for step in BAR.findall(log.read_text())]

    try:
        late = time.monotonic() + 90
        while process.poll() is None:
            if (bar := steps()) and bar[-1] >= bar[0] + share * (STEPS - bar[0]):
                break
            assert time.monotonic() < late
            time.sleep(0.001)
        process.send_signal(sent)
        return process.wait(90), min(steps()), max(steps())
    finally:
        process.kill()


def test_a_run_that_was_struck_ends_as_one_that_was_not(tmp_path):
    """An interrupt loses nothing, a kill what came after the last checkpoint."""
    out, whole, saved = tmp_path / "out", tmp_path / "whole", 0
    assert main([*TRAIN, "--out", str(whole)]) == 0
    losses = state_of(whole)["losses"]
    for sent, share in ((signal.SIGINT, 0.2), (signal.SIGKILL, 0.4)):
        code, first, last = strike(sent, share, out, tmp_path / "log")
        assert first == saved < STEPS
        saved = state_of(out)["step"]
        assert state_of(out)["losses"] == losses[:saved]
        if sent == signal.SIGINT:
            assert (code, saved) == (130, last)
        else:
            assert code == -signal.SIGKILL and first < saved <= last
    assert main([*TRAIN, "--out", str(out)]) == 0
    assert_same_run(out, whole)
    ours, theirs = (path / "liif.safetensors" for path in (out, whole))
    cards = [read_card(path) | {"command": ""} for path in (ours, theirs)]
    assert cards[0] == cards[1]
    near(load_file(ours), load_file(theirs), 0)


class Striking(list):
    """Images that send an interrupt to a loader's worker that reads them, twice."""

    def __getitem__(self, index):
        if get_worker_info():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return super().__getitem__(index)


def run_small(images=None, **more):
    """Six steps of a LIIF, which start from the same weights each time."""
    torch.manual_seed(5)
    model, recipe = build("liif", "tiny"), Recipe(batch=2, patch=8, queries=32)
    images = images or [picture(40, 45)]
    return train(model, images, recipe, Schedule(steps=6), device="cpu", **more)


def test_a_loaders_workers_do_not_listen():
    """Ctrl-C in a terminal is sent to all of them; the step needs what they read."""
    found = run_small(Striking([picture(40, 45)]), workers=1)
    assert found.losses == run_small().losses


def test_a_second_interrupt_does_not_wait_and_loses_one_interval_at_most(tmp_path):
    def impatient(step, losses):
        if step == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    listens = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_small(out=tmp_path, save_every=0, on_step=impatient)
    assert signal.getsignal(signal.SIGINT) is listens
    assert state_of(tmp_path)["step"] == 3
    assert run_small(out=tmp_path, resume=True).losses == run_small().losses
    assert signal.getsignal(signal.SIGINT) is listens
