"""Training: one loop for every model of the course, on Accelerate.

The loop knows three things: the step it is at, the learning rate of that step (a pure
function), and the data of that step (another one). A checkpoint therefore needs only
the weights, Adam's moments and the step, and a resumed run continues bit for bit.
What a model is trained to do, its `residual` says: a guess minus what it should be.

Several processes, on one machine or more, share every batch. All of them hold the same
weights and take the same steps; the first one also writes, prints and calls `on_step`.
A checkpoint does not say how many there were, and any number of them may go on with it.
"""

import json
import math
import multiprocessing
import os
import signal
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from asr_course.data import PairRecipe, Recipe
from asr_course.errors import UserError, choose
from asr_course.images import atomic

SHAPES = ("cosine", "halve", "restarts", "stages", "late")


@dataclass(frozen=True)
class Schedule:
    """How many steps to take, and how large: Adam with a learning rate that falls.

    "cosine" warms up over `warmup` steps and falls to zero along half a cosine;
    "halve" halves the rate at 20, 40, 60 and 80 % of the run, as LIIF does; "restarts"
    falls to zero along half a cosine again and again, 30 times, as DIIN's text says;
    "stages" takes a fifth of the rate for the last third, as IDM does; "late" halves it
    at 50, 80, 90 and 95 %, as is done with SwinIR.
    """

    steps: int
    rate: float = 1e-3
    shape: str = "cosine"
    warmup: int = 20
    loss: str = "l1"  # mean absolute difference, or "l2", mean squared
    average: float = 0.0  # decay of a running mean of the weights, which then count

    def __post_init__(self):
        choose("schedule shape", self.shape, SHAPES)
        choose("loss", self.loss, ("l1", "l2"))
        if not 0 <= self.average < 1:
            raise UserError(f"average must lie in [0, 1), not {self.average}")
        if self.steps < 1:
            raise UserError(f"a run takes at least 1 step, not {self.steps}")
        if not 0 < self.rate < math.inf:
            raise UserError(
                f"a run takes a rate above 0, such as 0.001, not {self.rate:g}"
            )
        if self.warmup < 0:
            raise UserError(f"a warm-up takes 0 or more steps, not {self.warmup}")

    def __call__(self, step: int) -> float:
        """The learning rate of step 0, 1, ..., steps - 1."""
        if self.shape == "halve":
            return self.rate * 0.5 ** (5 * step // self.steps)
        if self.shape == "restarts":
            angle = math.pi * (30 * step / self.steps % 1)
            return self.rate * (1 + math.cos(angle)) / 2
        if self.shape == "stages":
            return self.rate if 3 * step < 2 * self.steps else self.rate / 5
        if self.shape == "late":
            passed = [100 * step >= part * self.steps for part in (50, 80, 90, 95)]
            return self.rate * 0.5 ** sum(passed)
        warm = min(1, (step + 1) / max(1, self.warmup))
        return self.rate * warm * (1 + math.cos(math.pi * step / self.steps)) / 2


@dataclass
class Run:
    """What training leaves behind."""

    model: nn.Module
    steps: int  # steps done; fewer than planned if the run was interrupted
    losses: list[float]  # of every step
    seconds: float  # spent in this call
    interrupted: bool


def pick_device(name: str = "auto") -> torch.device:
    """The device to use. "auto" takes a CUDA GPU if there is one, else the CPU.

    Apple's GPU is used only when asked for ("mps"): its numbers differ from the
    recorded ones. UserError on a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = str(name).partition(":")[0]
    choose("device", kind, ("auto", "cpu", "cuda", "mps"))
    count = {"cpu": 1, "mps": int(torch.backends.mps.is_available())}
    count["cuda"] = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = [f"{kind}:{number}" for number in range(count.get(kind, 0))]
    if not there or str(name) not in (kind, *there):
        raise UserError(f"device {str(name)!r} is not there; use 'auto' or 'cpu'")
    return torch.device(name)


def train(
    model: nn.Module,
    images: Sequence,
    recipe: Recipe | PairRecipe,
    schedule: Schedule,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    save_every: float = 60,
    on_step: Callable[[int, list[float]], None] | None = None,
    progress: bool = False,
    precision: str = "no",
    workers: int = 0,
    accumulate: int = 1,
) -> Run:
    """Train `model` in place on `images`.

    out: folder for checkpoint.pt, written every `save_every` seconds, at the end and
    on an interrupt (Ctrl-C, or the stop button of Jupyter); None saves nothing.
    resume: continue from out/checkpoint.pt if it belongs to this very run, else start
    anew; a finished run is loaded and not trained further. on_step: called after every
    step with the steps done and all losses, in the first process. precision: "no",
    "fp16" (on a CUDA GPU, ignored elsewhere) or "bf16". An interrupt is not an error:
    the step is finished and saved, the model keeps what it learned, and
    `Run.interrupted` is True. Without `out` nothing is saved, and KeyboardInterrupt is
    raised after that step. accumulate: in how many pieces a process takes its share of
    a batch, one after the other: more of them need less memory, and the step is the
    same. UserError if a batch does not divide by them and by the processes.
    """
    if not save_every >= 0:
        raise UserError(f"save_every is in seconds, 0 or more, not {save_every}")
    accelerator = make_accelerator(pick_device(device), precision)
    pieces = count_pieces(recipe, accelerator.num_processes, accumulate)
    plan = run_plan(model, images, recipe, schedule, seed)
    checkpoint = Path(out) / "checkpoint.pt" if out else None
    optimizer = make_optimizer(model, schedule.rate)
    model.to(accelerator.device)
    first, losses, mean = 0, [], {}
    if schedule.average:
        mean = {key: value.clone() for key, value in model.state_dict().items()}
    if resume and checkpoint and checkpoint.exists():
        first, losses = load_checkpoint(
            checkpoint, plan, model, optimizer, mean, accelerator.scaler
        )
    check_agreement(accelerator, plan, first)
    samples = recipe.samples(images, seed, schedule.steps * recipe.batch)
    loader = DataLoader(
        samples,
        batch_size=recipe.batch // pieces,
        sampler=range(first * recipe.batch, len(samples)),
        num_workers=workers,
        worker_init_fn=ignore_interrupts,
    )
    network, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    descend = partial(take_step, accelerator, model, network, optimizer, schedule.loss)

    def save(step: int) -> None:
        if checkpoint and accelerator.is_main_process:
            parts = plan, model, optimizer, step, losses, mean, accelerator.scaler
            save_checkpoint(checkpoint, *parts)

    network.train()
    step, started, saved = first, time.monotonic(), time.monotonic()
    with Stop(patient=accelerator.num_processes > 1) as stop:
        try:
            with progress_bar(schedule.steps, first, progress, accelerator) as bar:
                for batch in zip(*[iter(loader)] * pieces, strict=True):
                    for group in optimizer.param_groups:
                        group["lr"] = schedule(step)
                    seed_dropout(model, seed, step, accelerator.process_index)
                    losses.append(descend(batch, first=step == first))
                    step += 1
                    update_mean(mean, model, schedule.average, step)
                    bar.update()
                    recent = losses[-50:]
                    bar.set_postfix({schedule.loss: f"{sum(recent) / len(recent):.4f}"})
                    if on_step and accelerator.is_main_process:
                        stop.grant(on_step, step, losses)
                    if anyone(accelerator, stop.asked):
                        break
                    if time.monotonic() - saved > save_every:
                        save(step)
                        saved = time.monotonic()
        except KeyboardInterrupt:  # raised by the data: between two steps
            if stop.asked:  # or by a second interrupt, which may strike anywhere
                raise
            stop.asked = True
        save(step)
        interrupted = anyone(accelerator, stop.asked)  # for this all await the save
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)
    if mean:
        model.load_state_dict(mean)
    model.eval()
    forget_accelerator()
    if interrupted and not checkpoint:
        raise KeyboardInterrupt  # or half a run would be taken for a whole one
    return Run(model, step, losses, time.monotonic() - started, interrupted)


def take_step(
    accelerator, model, network, optimizer, kind: str, batch, first: bool
) -> float:
    """One step on a batch that comes in pieces of one size; returns its loss.

    Gradients add up over the pieces; with the last one they are averaged over the
    processes. In the first step of a run it is with every piece, which comes to the
    same: torch learns there which weights take part. kind: "l1" or "l2".
    """
    optimizer.zero_grad()
    total = 0
    for k, sample in enumerate(batch, start=1):
        average = first or k == len(batch)
        with nullcontext() if average else accelerator.no_sync(network):
            with accelerator.autocast():
                wrong = model.residual(network, sample)
                loss = wrong.abs() if kind == "l1" else wrong.square()
                loss = loss.mean() / len(batch)
            accelerator.backward(loss)
        total = total + loss.detach()
    optimizer.step()
    return accelerator.reduce(total, "mean").item()


def count_pieces(recipe, processes: int, accumulate: int) -> int:
    """In how many pieces a step takes its batch.

    UserError unless every process gets as many samples of each: a mean over equal
    shares is the mean over the batch.
    """
    pieces = recipe.parts * accumulate
    if pieces < 1 or recipe.batch % (pieces * processes):
        raise UserError(
            f"a batch of {recipe.batch} samples does not divide into {processes} x "
            f"{pieces} equal shares, processes x pieces; take another number of "
            "processes, or of pieces (accumulate)"
        )
    return pieces


def check_agreement(accelerator: Accelerator, plan: dict, first: int) -> None:
    """UserError, in all processes, unless they start the same run at the same step.

    Each reads the checkpoint for itself, which may lie on another machine's disk.
    """
    if accelerator.num_processes == 1:
        return
    what = zlib.crc32(json.dumps(plan, sort_keys=True).encode())
    mine = torch.tensor([[first, what]], device=accelerator.device)
    steps, plans = accelerator.gather(mine).T.tolist()
    if len(set(plans)) > 1:
        raise UserError(
            "the processes are not about to do the same run: give every machine the "
            "same command, and the same pictures"
        )
    if len(set(steps)) > 1:
        raise UserError(
            f"the processes would start at different steps, {sorted(set(steps))}: all "
            "machines need to see the checkpoint, so let them share the output folder"
        )


def anyone(accelerator: Accelerator, wish: bool) -> bool:
    """Whether any process has this wish: all must stop after the same step."""
    if accelerator.num_processes == 1:
        return wish
    wish = torch.tensor(float(wish), device=accelerator.device)
    return accelerator.reduce(wish, "sum").item() > 0


def seed_dropout(model: nn.Module, seed: int, step: int, process: int) -> None:
    """Make what dropout drops a function of the step too: a resumed run drops the same.

    Without dropout nothing is drawn while training, and nothing is seeded.
    """
    if any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules()):
        key = np.random.SeedSequence([seed, 7, step, process])
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0] >> 1))


@torch.no_grad()
def update_mean(mean: dict, model: nn.Module, decay: float, step: int) -> None:
    """Move a running mean of the weights on; it forgets its start faster at first."""
    decay = min(decay, step / (step + 10))
    for key, value in model.state_dict().items() if mean else ():
        mean[key].lerp_(value, 1 - decay)


class Stop:
    """Turns an interrupt into a wish that the loop grants after the current step.

    An exception could strike between moving the weights and counting the step, and a
    checkpoint made then would repeat that step. A second interrupt is raised at once,
    unless `patient`.
    """

    def __init__(self, patient: bool = False):
        self.asked, self.patient = False, patient

    def __enter__(self):
        self._here = threading.current_thread() is threading.main_thread()
        if self._here:  # only the main thread receives signals
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, number, frame) -> None:
        if self.asked and not self.patient:
            raise KeyboardInterrupt
        self.asked = True

    def grant(self, function: Callable, *args) -> None:
        """Call a function between two steps; an interrupt it raises is a wish too."""
        try:
            function(*args)
        except KeyboardInterrupt:
            if self.asked:
                raise
            self.asked = True

    def __exit__(self, *_) -> None:
        if self._here:
            signal.signal(signal.SIGINT, self._before)


def make_optimizer(model: nn.Module, rate: float) -> torch.optim.Adam:
    """Adam, whole: an interrupt is raised once it is made.

    For the first of them torch imports for a second, and a notebook in which that is
    cut short can train nothing any more.
    """
    with Stop(patient=True) as stop:
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    if stop.asked:
        raise KeyboardInterrupt
    return optimizer


def ignore_interrupts(worker: int) -> None:
    """For a loader's workers: Ctrl-C reaches them too; the step needs their data."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def progress_bar(steps: int, first: int, shown: bool, accelerator: Accelerator) -> tqdm:
    """tqdm over the steps of a run, in the first process; `shown` False: in none."""
    processes = accelerator.num_processes
    return tqdm(
        total=steps,
        initial=first,
        unit="step",
        desc=f"{processes} processes" if processes > 1 else None,
        disable=not (shown and accelerator.is_main_process),
    )


def is_main() -> bool:
    """Whether this process is the one that prints and writes; if alone, it is."""
    return int(os.environ.get("RANK", 0)) == 0


def spare_threads() -> None:
    """One thread in a process that a notebook's launcher has forked.

    It believes in OpenMP's threads of the notebook, which it did not get, and would
    wait for them for ever.
    """
    if multiprocessing.parent_process():
        torch.set_num_threads(1)


def leave_processes() -> None:
    """Part from the other processes, if there were any: the training is over."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def make_accelerator(device: torch.device, precision: str) -> Accelerator:
    """An Accelerator for this device; a batch is split among processes, if several.

    UserError unless `precision` is "no", "fp16" or "bf16".
    """
    choose("precision", precision, ("no", "fp16", "bf16"))
    no_half = precision == "fp16" and device.type != "cuda"  # a CPU has no such thing
    PartialState(cpu=device.type == "cpu")  # meets the other processes
    spare_threads()
    forget_accelerator()
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if no_half else precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        kwargs_handlers=[DistributedDataParallelKwargs(static_graph=True)],
    )


def forget_accelerator() -> None:
    """Let the next training choose its device and precision anew.

    Accelerate remembers the first of a process, and its notebook launcher wants a
    process without any. Processes that have met stay together.
    """
    alone = PartialState().num_processes == 1
    AcceleratorState._reset_state(reset_partial_state=alone)


def run_plan(model, images, recipe, schedule: Schedule, seed: int) -> dict:
    """All that decides what a run computes: checkpoints resume only their own."""
    return {
        "model": getattr(model, "config", repr(model) + repr(model.options)),
        "recipe": said(recipe),
        "schedule": asdict(schedule),
        "seed": seed,
        "images": getattr(images, "fingerprint", len(images)),
    }


NEWER = {"scales": (), "mixed": False, "hr": 0, "upright": False}


def said(recipe: Recipe | PairRecipe) -> dict:
    """A recipe's fields; of those newer than old checkpoints, only what is used."""
    fields = asdict(recipe).items()
    return {k: v for k, v in fields if k not in NEWER or v != NEWER[k]}


def save_checkpoint(
    path: Path, plan, model, optimizer, step: int, losses, mean: dict, scaler=None
) -> None:
    """Write the state of a run, whole or not at all.

    scaler: what keeps gradients in the range of half precision, if anything does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "plan": json.dumps(plan, sort_keys=True),
        "step": step,
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "mean": mean,
        "scaler": scaler.state_dict() if scaler else {},
    }
    with atomic(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: Path) -> dict:
    """The state that save_checkpoint wrote. UserError if the file is damaged."""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's, of odd pickles
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not {"plan", "step", "losses", "model", "optimizer", "mean"} <= state.keys():
            raise ValueError("it holds something else")
    except Exception as error:
        raise UserError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); "
            "delete it to start anew"
        ) from None
    return state


def load_checkpoint(
    path: Path, plan, model, optimizer, mean: dict, scaler=None
) -> tuple[int, list[float]]:
    """Put a checkpoint back: (step, losses); (0, []) if it is of another run."""
    state = read_checkpoint(path)
    if state["plan"] != json.dumps(plan, sort_keys=True):
        return 0, []
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for key in mean:
            mean[key].copy_(state["mean"][key])
    except (RuntimeError, ValueError, KeyError):
        raise UserError(
            f"{path} is of another version of the course; delete it to start anew"
        ) from None
    if scaler and state.get("scaler"):  # none in a run of another precision
        scaler.load_state_dict(state["scaler"])
    return state["step"], state["losses"]


def unfinished(out: str | Path) -> bool:
    """Whether `out` holds a run that was stopped before its last step."""
    path = Path(out) / "checkpoint.pt"
    if not path.exists():
        return False
    state = read_checkpoint(path)
    return state["step"] < json.loads(state["plan"])["schedule"]["steps"]


def check_seed(seed: int) -> int:
    """`seed`; UserError unless it is 0, 1, 2 …"""
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**63:
        raise UserError(f"seed must be a whole number of 0 or more, not {seed!r}")
    return seed


def set_seed(seed: int) -> None:
    """Seed what is random about a fresh model. UserError unless 0, 1, 2 …"""
    torch.manual_seed(check_seed(seed))
