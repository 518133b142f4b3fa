"""Several processes, and a batch in pieces: the same steps as one process's.

Two real processes on this computer's CPU: started by `accelerate launch`, or forked by
Accelerate's notebook launcher, in a process of its own that stands for a kernel.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import ROOT, near, picture
from PIL import Image

from asr_course import build
from asr_course.__main__ import launched, main
from asr_course.checkpoints import read_checkpoint
from asr_course.data import PairRecipe, Recipe, Samples
from asr_course.digits import Characters
from asr_course.errors import Stopped, UserError
from asr_course.models import METHODS
from asr_course.schedule import Schedule
from asr_course.training import train
from asr_course.weights import load_weights

STEPS = 50
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
LAUNCH += ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "asr_course"]
SMALL = Recipe(batch=8, patch=8, queries=32)
PAIRS = PairRecipe(batch=8, patch=4, scale_max=2.5, noise=20, fixed=0.5)
MIXED = replace(SMALL, batch=12, scales=(2, 3, 4), mixed=True)
RUNS = {  # a model some of whose weights have no gradient, a running mean, three scales
    "diin": (SMALL, Schedule(6, 1e-3)),
    "idm": (PAIRS, Schedule(6, 1e-3, average=0.6)),
    "diinn": (MIXED, Schedule(6, 1e-3)),
}
THREE = Schedule(3, 1e-3)


def run(name: str, recipe=SMALL, schedule=THREE, **more):
    """A tiny model's run, from the same weights each time."""
    torch.manual_seed(5)
    images = Characters(20, 4) if name == "idm" else [picture(40, 45)]
    return train(build(name, "tiny"), images, recipe, schedule, device="cpu", **more)


def total(model) -> float:
    """The sum of all weights."""
    return sum(p.sum().item() for p in model.parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three pictures, large enough for a training crop of preset smoke."""
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(3):
        Image.fromarray(picture(97, 100, k)).save(folder / f"{k}.png")
    return folder


def words(folder: Path, out: Path, *more) -> list[str]:
    """The arguments of a short run with a small model."""
    said = ["train", "--preset", "smoke", "--data", folder, "--out", out, *more]
    said += ["--steps", STEPS, "--rate", "1e-3", "--set", "hidden=(16,)"]
    return [*map(str, said), "--device", "cpu"]


def start(command: list[str], threads: int = 1) -> subprocess.Popen:
    """A process whose two outputs come as one text."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    paths = str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if sys.platform == "linux":  # a computer's own name does not always lead to it
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, cwd=ROOT, **pipes)


def outcome(process: subprocess.Popen) -> str:
    """What a process prints until its end; it is ended if that does not come."""
    try:
        return process.communicate(timeout=180)[0]
    except subprocess.TimeoutExpired:
        process.terminate()  # a launcher ends its workers then
        pytest.fail(f"no end: {process.communicate()[0][-3000:]}")


@pytest.fixture(scope="module")
def one(folder, tmp_path_factory) -> Path:
    """The folder of a run in one process."""
    out = tmp_path_factory.mktemp("one")
    assert main(words(folder, out)) == 0
    return out


def assert_same_run(found: Path, expected: Path) -> None:
    """The same losses to 1e-5, and a model with nearly the same output."""
    states = [read_checkpoint(out / "checkpoint.pt") for out in (found, expected)]
    losses = [torch.tensor(state["losses"]) for state in states]
    assert len(losses[0]) == STEPS and states[0]["plan"] == states[1]["plan"]
    near(*losses, atol=1e-5)
    models = [load_weights(out / "liif.safetensors") for out in (found, expected)]
    samples = Samples([picture(97, 100, 9)], Recipe(patch=24, queries=512), 0, 16)
    lr, coord, cell, _ = (x[None] for x in samples[0])
    near(*[model(lr, coord, cell) for model in models], atol=1e-3)


def test_two_processes_give_the_loss_curve_of_one(folder, one, tmp_path):
    """Measured: losses 1e-6 apart. Only the first process writes and prints."""
    said = outcome(start([*LAUNCH, *words(folder, tmp_path)]))
    assert_same_run(tmp_path, one)
    assert sorted(os.listdir(tmp_path)) == [
        "checkpoint.pt",
        "liif.safetensors",
        "run.json",
    ]
    assert said.count(f"{STEPS} steps, L1") == said.count(f"| 0/{STEPS} [") == 1
    assert "2 processes: 100%" in said


def test_two_interrupted_processes_stop_together_and_one_goes_on(folder, one, tmp_path):
    process = start([*LAUNCH, *words(folder, tmp_path, "--save-every", 0)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "checkpoint.pt").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = outcome(process)
    step = read_checkpoint(tmp_path / "checkpoint.pt")["step"]
    assert 1 <= step < STEPS
    assert said.count(f"stopped after step {step} of {STEPS}") == 1
    assert "forcefully exiting" not in said  # all were done in time
    assert os.listdir(tmp_path) == ["checkpoint.pt", "run.json"]
    assert main(words(folder, tmp_path, "--resume")) == 0
    assert_same_run(tmp_path, one)


def kernel(folder: str, out: str) -> None:
    """A notebook that has trained, and then starts two processes, twice."""
    from accelerate import notebook_launcher
    from torch.distributed.elastic.utils.distributed import get_free_port

    (torch.rand(999, 999) @ torch.rand(999, 999)).sum()  # starts OpenMP's threads
    run("liif")
    more = {"num_processes": 2, "use_port": str(get_free_port())}
    notebook_launcher(launched, (words(Path(folder), Path(out) / "one"),), **more)
    notebook_launcher(scenes, (Path(out),), **more)


def scenes(out: Path) -> None:
    """The runs of one of two processes, written to OUT/0.json or OUT/1.json."""
    torch.set_num_threads(1)
    rank, seen = int(os.environ["RANK"]), {}
    for name, plan in RUNS.items():
        done = run(name, *plan, accumulate=2)
        seen[name] = done.losses, total(done.model)

    def strike(step, losses):
        if step == 3:  # twice, as a notebook's stop button and its launcher do
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped) as stopped:
        run("liif", schedule=Schedule(9), out=out / f"struck{rank}", on_step=strike)
    seen["struck"] = str(stopped.value)
    (out / f"{rank}.json").write_text(json.dumps(seen))


def test_two_processes_of_a_notebook(folder, one, tmp_path):
    """Process 0 alone calls `on_step`, which interrupts both, and saves."""
    code = f"import test_scale_out as t; t.kernel({str(folder)!r}, {str(tmp_path)!r})"
    said = outcome(start([sys.executable, "-c", code], threads=2))
    assert (tmp_path / "1.json").exists(), said[-3000:]
    assert_same_run(tmp_path / "one", one)
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for name, plan in RUNS.items():
        alone = run(name, *plan)
        near(torch.tensor(seen[0][name][0]), torch.tensor(alone.losses), atol=1e-6)
        assert seen[0][name][1] == pytest.approx(total(alone.model), abs=0.02)
    assert seen[0] == seen[1] and "after step 3 of 9;" in seen[0]["struck"]
    assert (tmp_path / "struck0").exists() and not (tmp_path / "struck1").exists()


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_in_pieces_is_the_batch(name):
    """Every method: three steps at once, and in four pieces."""
    recipe = PAIRS if name == "idm" else SMALL
    runs = [run(name, recipe, accumulate=pieces).losses for pieces in (1, 4)]
    near(*map(torch.tensor, runs), atol=1e-6)


def test_a_step_of_mixed_scales_is_one_on_the_mean_over_them():
    """DIINN's: one step of Adam on the mean of three losses, one for every scale."""
    torch.manual_seed(5)
    model, samples = build("diinn", "tiny"), Samples([picture(40, 45)], MIXED, 0, 12)
    optimizer = torch.optim.Adam(model.parameters(), lr=Schedule(1, 1e-3)(0))
    losses, scales = [], []
    for part in range(3):
        rows = [samples[4 * part + k] for k in range(4)]
        lr, coord, cell, target = (torch.stack(x) for x in zip(*rows, strict=True))
        losses.append((model(lr, coord, cell) - target).abs().mean())
        scales.append(2 / (8 * cell[0, 0].item()))
    assert scales == pytest.approx([2, 3, 4])
    loss = sum(losses) / 3
    loss.backward()
    optimizer.step()
    done = run("diinn", MIXED, Schedule(1, 1e-3))
    assert done.losses == pytest.approx([loss.item()], abs=1e-7)
    for pair in zip(done.model.parameters(), model.parameters(), strict=True):
        near(*pair, atol=1e-6)


@pytest.mark.parametrize("recipe, pieces", [(SMALL, 3), (SMALL, 0), (MIXED, 3)])
def test_pieces_that_are_not_equal_are_refused(recipe, pieces):
    with pytest.raises(UserError, match="does not divide"):
        run("diinn", recipe, accumulate=pieces)
