"""Several processes: one batch means the same on any number of them.

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
from asr_course.digits import Characters
from asr_course.data import Folder, PairRecipe, Patches, Recipe
from asr_course.errors import UserError
from asr_course.models import MODELS
from asr_course.presets import PRESETS
from asr_course.training import (
    Schedule,
    count_pieces,
    is_main,
    load_checkpoint,
    make_accelerator,
    read_checkpoint,
    save_checkpoint,
    seed_dropout,
    train,
)
from asr_course.weights import load_weights, read_card

STEPS = 50
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
LAUNCH += ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "asr_course"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three pictures, large enough for a training crop of preset smoke."""
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(3):
        Image.fromarray(picture(97, 100, k)).save(folder / f"{k}.png")
    return folder


def words(folder: Path, out: Path, *more) -> list[str]:
    """What to type, at the rate of preset laptop and with a small model."""
    said = ["train", "--preset", "smoke", "--data", folder, "--out", out, *more]
    said += ["--steps", STEPS, "--rate", "1e-3", "--set", "hidden=(16,)"]
    return [*map(str, said), "--device", "cpu"]


def start(command: list[str], threads: int = 1) -> subprocess.Popen:
    """A process whose two outputs come as one text."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    if sys.platform == "linux":  # a computer's own name does not always lead to it
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, cwd=ROOT, **pipes)


def outcome(process: subprocess.Popen, seconds: float = 120) -> str:
    """What a process prints until its end; it is ended if that does not come."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.terminate()  # a launcher ends its workers then
        pytest.fail(f"no end after {seconds} s: {process.communicate()[0][-3000:]}")


@pytest.fixture(scope="module")
def one(folder, tmp_path_factory) -> Path:
    """What one process makes of the run."""
    out = tmp_path_factory.mktemp("one")
    assert main(words(folder, out)) == 0
    return out


@pytest.fixture(scope="module")
def two(folder, tmp_path_factory) -> tuple[Path, str]:
    """What two make of it, and what they print."""
    out = tmp_path_factory.mktemp("two")
    return out, outcome(start([*LAUNCH, *words(folder, out)]))


def assert_same_run(found: Path, expected: Path) -> None:
    """The same losses to 1e-5, and a model that answers the same."""
    states = [read_checkpoint(out / "checkpoint.pt") for out in (found, expected)]
    losses = [torch.tensor(state["losses"]) for state in states]
    assert len(losses[0]) == STEPS and states[0]["plan"] == states[1]["plan"]
    near(*losses, atol=1e-5)
    models = [load_weights(out / "liif.safetensors") for out in (found, expected)]
    samples = Patches([picture(97, 100, 9)], Recipe(patch=24, queries=512), 0, 16)
    lr, coord, cell, _ = (x[None] for x in samples[0])
    with torch.no_grad():
        answers = [model(lr, coord, cell) for model in models]
    near(*answers, atol=1e-3)


# accelerate launch


def test_two_processes_give_the_loss_curve_of_one(one, two):
    """Measured: losses 1e-6 apart."""
    assert_same_run(two[0], one)


def test_only_one_process_writes_and_speaks(two):
    out, said = two
    assert sorted(os.listdir(out)) == ["checkpoint.pt", "liif.safetensors"]
    assert said.count(f"{STEPS} steps, L1") == 1
    assert said.count(f"| 0/{STEPS} [") == 1  # where a bar begins
    assert f"2 processes: 100%|██████████| {STEPS}/{STEPS}" in said


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
    assert said.count(f"stopped after step {step} of {STEPS}; the same command") == 1
    assert "forcefully exiting" not in said  # all were done in time
    assert os.listdir(tmp_path) == ["checkpoint.pt"]
    assert main(words(folder, tmp_path, "--resume")) == 0
    assert_same_run(tmp_path, one)


# From a notebook


class Stop:
    """An `on_step` that raises at one step and remembers which it saw."""

    def __init__(self, at: int):
        self.at, self.seen = at, []

    def __call__(self, step: int, losses: list[float]) -> None:
        self.seen.append(step)
        if step == self.at:
            raise KeyboardInterrupt


def kernel(folder: str, out: str) -> None:
    """A notebook that has trained, and then starts two processes, again and again."""
    from accelerate import notebook_launcher

    folder, out = Path(folder), Path(out)
    (torch.rand(999, 999) @ torch.rand(999, 999)).sum()  # OpenMP's threads are there
    train(fresh("liif"), [picture(40, 45)], SMALL, Schedule(1), device="cpu")
    with_port = {"use_port": str(free_port())}
    goes_on = words(folder, out / "one", "--resume")
    notebook_launcher(launched, (goes_on,), num_processes=2, **with_port)
    notebook_launcher(scenes, (out,), num_processes=2, **with_port)
    refused = words(folder, out / "never", "--accumulate", 3)
    try:
        notebook_launcher(launched, (refused,), num_processes=2, **with_port)
    except Exception as error:
        print("the cell fails with", type(error).__name__)


def free_port() -> int:
    from torch.distributed.elastic.utils.distributed import get_free_port

    return get_free_port()


SMALL = Recipe(batch=8, patch=8, queries=32)
PAIRS = PairRecipe(batch=8, patch=4, scale_max=2.5, noise=20, fixed=0.5)
RUNS = {
    # name: (model, options, recipe, schedule, in how many pieces)
    "tokens that rest": ("diin", {}, SMALL, Schedule(6, 1e-3), 2),
    "running mean": ("idm", {}, PAIRS, Schedule(6, 1e-3, average=0.6), 1),
    "mixed scales": (
        "diinn",
        {},
        replace(SMALL, batch=12, scales=(2, 3, 4), mixed=True),
        Schedule(6, 1e-3),
        2,
    ),
}


def fresh(name: str, **options):
    torch.manual_seed(5)
    return build(name, "tiny", **options)


def run_of(key: str, **more):
    """One of RUNS in this process, or in as many as there are."""
    name, options, recipe, schedule, pieces = RUNS[key]
    images = Characters(20, 4) if name == "idm" else [picture(40, 45)]
    more = {"accumulate": pieces, "device": "cpu", **more}
    return train(fresh(name, **options), images, recipe, schedule, **more)


class Striking(list):
    """Pictures during whose 19th and 20th reading somebody strikes Ctrl-C.

    Twice, as a notebook's stop button does: it strikes all processes, and so does the
    launcher that it strikes.
    """

    count = 0

    def __getitem__(self, index):
        self.count += 1
        if self.count in (19, 20):
            signal.raise_signal(signal.SIGINT)
        return super().__getitem__(index)


def scenes(out: Path) -> None:
    """What one of two processes sees, in OUT/0.json or OUT/1.json."""
    rank, found = int(os.environ["RANK"]), {}
    for key in RUNS:
        run = run_of(key)
        found[key] = run.losses, sum(p.sum().item() for p in run.model.parameters())

    def state(run) -> tuple:
        total = sum(p.sum().item() for p in run.model.parameters())
        return run.steps, run.interrupted, len(run.losses), total

    images = [Striking if rank == 1 else list][0]([picture(40, 45)])
    ten = Schedule(10, 1e-3)
    run = train(fresh("liif"), images, SMALL, ten, device="cpu", out=out / "struck")
    found["ctrl-c in one"] = state(run)
    watch = Stop(3)
    run = run_of("tokens that rest", on_step=watch, out=out / f"stopped-{rank}")
    found["interrupt from on_step"], found["on_step saw"] = state(run), watch.seen
    try:
        schedule = Schedule(10 + rank, 1e-3)
        train(fresh("liif"), images, SMALL, schedule, device="cpu")
    except UserError as error:
        found["another run"] = str(error)
    mine = out / "struck" if rank == 0 else out / "elsewhere"
    more = {"out": mine, "resume": True, "device": "cpu"}
    try:
        train(fresh("liif"), images, SMALL, ten, **more)
    except UserError as error:
        found["another checkpoint"] = str(error)
    (out / f"{rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def notebook(folder, tmp_path_factory) -> tuple[Path, str]:
    """The folder of that kernel and what it prints; one process has begun OUT/one."""
    out = tmp_path_factory.mktemp("notebook")
    torch.manual_seed(0)
    model, plan = build("liif", "tiny", hidden=(16,)), PRESETS["smoke"].full
    schedule = replace(plan.schedule, steps=STEPS, rate=1e-3)
    images = Folder(folder, plan.recipe.crop)
    more = {"out": out / "one", "on_step": Stop(20), "device": "cpu"}
    assert train(model, images, plan.recipe, schedule, **more).steps == 20
    code = f"from test_scale_out import kernel; kernel({str(folder)!r}, {str(out)!r})"
    return out, outcome(start([sys.executable, "-c", code], threads=2))


@pytest.fixture(scope="module")
def seen(notebook) -> list[dict]:
    """What each of two processes saw."""
    out, said = notebook
    assert (out / "1.json").exists(), said[-3000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_of_a_notebook_finish_what_one_has_begun(notebook, one):
    out, said = notebook
    assert f"| 20/{STEPS} [" in said and f"| 0/{STEPS} [" not in said
    assert_same_run(out / "one", one)


def test_a_batch_without_equal_shares_is_refused_in_one_line(notebook):
    out, said = notebook
    line = "asr_course train: a batch of 8 samples does not divide into 2 x 3 equal"
    assert said.count(line) == 1
    assert "the cell fails with ChildFailedError" in said
    assert not (out / "never").exists()


@pytest.mark.parametrize("key", RUNS)
def test_two_processes_and_pieces_repeat_other_methods(key, seen):
    """Weights that nothing uses, a mean of the weights, several scales in a batch."""
    alone = run_of(key, accumulate=1)
    assert seen[0][key] == seen[1][key]
    losses, total = seen[0][key]
    near(torch.tensor(losses), torch.tensor(alone.losses), atol=1e-6)
    expected = sum(p.sum().item() for p in alone.model.parameters())
    assert total == pytest.approx(expected, abs=0.02)


def test_ctrl_c_in_one_process_stops_both_after_the_same_step(seen):
    """Of 8 samples it reads 4: the 20th is in the fifth step, made ahead in the 4th."""
    assert seen[0]["ctrl-c in one"] == seen[1]["ctrl-c in one"]
    steps, interrupted, losses, _ = seen[0]["ctrl-c in one"]
    assert interrupted and steps == losses == 4


def test_on_step_is_called_in_the_first_process_and_can_stop_both(seen):
    for process in seen:
        assert process["interrupt from on_step"][:3] == [3, True, 3]
    assert [process["on_step saw"] for process in seen] == [[1, 2, 3], []]


def test_the_second_process_saves_nothing(notebook, seen):
    """Not even where it has a folder of its own."""
    out, _ = notebook
    assert os.listdir(out / "stopped-0") == ["checkpoint.pt"]
    assert not (out / "stopped-1").exists() and not (out / "elsewhere").exists()


def test_processes_that_would_not_do_the_same_say_so(seen):
    for process in seen:
        assert (
            "the processes are not about to do the same run" in process["another run"]
        )
        assert "different steps, [0, 4]: all machines" in process["another checkpoint"]


# In pieces


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_in_pieces_is_the_batch(name):
    """Every method: three steps at once, and in four pieces."""
    recipe = PAIRS if name == "idm" else SMALL
    images = Characters(20, 4) if name == "idm" else [picture(40, 45)]
    runs = []
    for pieces in (1, 4):
        more = {"device": "cpu", "accumulate": pieces}
        run = train(fresh(name), images, recipe, Schedule(3, 1e-3), **more)
        runs.append(torch.tensor(run.losses))
    near(*runs, atol=1e-6)


def test_a_step_of_mixed_scales_is_one_on_the_mean_over_them():
    """DIINN's: one step of Adam on the mean of three losses, one for every scale."""
    recipe, model = RUNS["mixed scales"][2], fresh("diinn")
    samples = Patches([picture(40, 45)], recipe, 0, 12)
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
    run = train(
        fresh("diinn"), [picture(40, 45)], recipe, Schedule(1, 1e-3), device="cpu"
    )
    assert run.losses == pytest.approx([loss.item()], abs=1e-7)
    for found, expected in zip(run.model.parameters(), model.parameters(), strict=True):
        near(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "processes, pieces", [(3, 1), (1, 3), (2, 8), (16, 1), (1, 0), (1, -2)]
)
def test_shares_that_are_not_equal_are_refused(processes, pieces):
    with pytest.raises(UserError, match="a batch of 8 samples does not divide"):
        count_pieces(SMALL, processes, pieces)
    assert count_pieces(SMALL, 4, 2) == 2


def test_pieces_of_mixed_scales_are_pieces_of_each():
    recipe = RUNS["mixed scales"][2]
    assert [count_pieces(recipe, 2, 1), count_pieces(recipe, 1, 4)] == [3, 12]
    with pytest.raises(UserError, match="a batch of 12 .* into 3 x 3 equal shares"):
        count_pieces(recipe, 3, 1)


# Chance, precision, state


def test_dropout_is_the_same_after_resume(tmp_path):
    """What it drops is drawn from the step's number, not from all draws before."""
    RUNS["dropout"] = ("idm", {"dropout": 0.5}, PAIRS, Schedule(6, 1e-3), 1)
    try:
        whole = run_of("dropout")
        run_of("dropout", on_step=Stop(2), out=tmp_path)
        torch.manual_seed(77)
        resumed = run_of("dropout", out=tmp_path, resume=True)
    finally:
        del RUNS["dropout"]
    assert resumed.losses == whole.losses


def test_dropout_differs_between_steps_and_processes_and_nothing_else_is_seeded():
    model, drawn = fresh("idm", dropout=0.5), set()
    for step, process in ((0, 0), (1, 0), (0, 1), (0, 0)):
        seed_dropout(model, 3, step, process)
        drawn.add(torch.rand(()).item())
    assert len(drawn) == 3
    model = fresh("idm")  # without dropout
    before = torch.get_rng_state()
    seed_dropout(model, 3, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("precision, word", [("fp8", "'fp8'"), ("", "''")])
def test_unknown_precisions_are_refused(precision, word):
    with pytest.raises(
        UserError, match=f"unknown precision {word}: choose from no, fp"
    ):
        train(fresh("liif"), [], SMALL, Schedule(1), device="cpu", precision=precision)


def test_precision_is_asked_for_and_stands_in_the_card(folder, tmp_path, capsys):
    said = words(folder, tmp_path, "--precision", "bf16")
    assert main([*said, "--steps", "1"]) == 0
    card = read_card(tmp_path / "liif.safetensors")
    assert card["command"].endswith("--seed 0 --precision bf16")
    capsys.readouterr()
    other = words(folder, tmp_path / "other", "--precision", "fp8")
    assert main(other) == 2
    assert capsys.readouterr().err.startswith("asr_course train: unknown precision")


def test_after_half_precision_a_model_is_as_before():
    """Accelerate wraps `forward`; what is left of it would round every later answer."""
    model = fresh("liif")
    more = {"device": "cpu", "precision": "bf16"}
    train(model, [picture(40, 45)], SMALL, Schedule(1), **more)
    assert "_original_forward" not in vars(model)
    assert model.forward.__func__ is type(model).forward


def test_the_scale_of_gradients_is_saved_where_there_is_one(tmp_path):
    """In fp16. A run that goes on in another precision does without."""
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    model = fresh("liif")
    path, optimizer = tmp_path / "checkpoint.pt", torch.optim.Adam(model.parameters())
    save_checkpoint(path, {}, model, optimizer, 3, [0.1], {}, scaler)
    scaler = torch.amp.GradScaler("cpu")
    load_checkpoint(path, {}, model, optimizer, {}, scaler)
    assert scaler.get_scale() == 512
    save_checkpoint(path, {}, model, optimizer, 3, [0.1], {})
    load_checkpoint(path, {}, model, optimizer, {}, scaler)
    assert scaler.get_scale() == 512


def test_an_accelerator_is_for_one_training(tmp_path):
    """A notebook's launcher refuses a kernel that still has one."""
    from accelerate.state import AcceleratorState

    train(fresh("liif"), [picture(40, 45)], SMALL, Schedule(1), device="cpu")
    assert AcceleratorState._shared_state == {}
    assert make_accelerator(torch.device("cpu"), "bf16").mixed_precision == "bf16"
    assert make_accelerator(torch.device("cpu"), "fp16").mixed_precision == "no"


def test_the_first_process_is_the_main_one(monkeypatch):
    assert is_main()
    monkeypatch.setenv("RANK", "1")
    assert not is_main()
