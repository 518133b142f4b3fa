"""Training: one loop for every model.

The samples and the learning rate of a step are functions of its number. A checkpoint
therefore needs the weights, Adam's moments and the step, and a resumed run continues
bit for bit. Several processes share every batch: each takes an equal part, gradients
are averaged, and process 0 also saves, prints and calls `on_step`. Hugging Face
Accelerate starts the processes; its Accelerator class would keep the device and the
precision of a notebook's first training for all later ones, so the loop is plain torch.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from asr_course import devices
from asr_course.checkpoints import (
    load_state,
    own_checkpoint,
    run_plan,
    save_checkpoint,
    set_aside,
)
from asr_course.data import PairRecipe, Recipe, Samples
from asr_course.errors import Stopped, UserError
from asr_course.schedule import Schedule


@dataclass
class Run:
    """The result of training."""

    model: nn.Module
    steps: int
    losses: list[float]  # of every step


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
    progress: bool | str = False,
    precision: str = "no",
    workers: int = 0,
    accumulate: int = 1,
) -> Run:
    """Train `model` in place on `images`.

    out: folder for checkpoint.pt, written every `save_every` seconds and at the end.
    resume: continue from out/checkpoint.pt, which must be of the same run; only the
    number of steps may grow, and the rate then follows the longer schedule. A finished
    run is loaded. Without `resume` a stopped run is a UserError: it would be lost.
    on_step(step, losses): called after every step. progress: show a bar, after these
    words if it is a string. precision: "no" (float32), "bf16",
    "fp16" or "auto", see `half_type`. accumulate: pieces in which a process computes
    its part of a batch; more of them need less memory.

    An interrupt (Ctrl-C, Jupyter's stop button) raises Stopped, a KeyboardInterrupt,
    after the current step and after saving; the second raises one at once. UserError on
    a batch that does not divide, a damaged checkpoint, an unknown device or precision,
    and on a loss that is not finite; the checkpoint before it stays.
    """
    rank, processes, device = devices.join_processes(devices.pick_device(device))
    half = devices.half_type(precision, device)
    pieces = recipe.parts * accumulate
    if pieces < 1 or recipe.batch % (pieces * processes):
        raise UserError(
            f"a batch of {recipe.batch} samples does not divide into {pieces} pieces "
            f"for {processes} process(es); change one of these numbers"
        )
    plan = run_plan(model, images, recipe, schedule, seed)
    checkpoint = Path(out) / "checkpoint.pt" if out else None
    losses, stopped, before = [], False, None
    if checkpoint and checkpoint.exists():
        before = own_checkpoint(checkpoint, plan, resume)

    with delayed_interrupt(alone=processes == 1) as stop:
        model.to(device).train()
        if half:  # 16-bit convolutions are faster in this order of memory
            model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=schedule.rate)
        scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)
        mean = {}  # running mean of the weights
        if schedule.average:
            mean = {key: value.clone() for key, value in model.state_dict().items()}
        state = model, optimizer, scaler, mean
        if before:
            losses = load_state(before, *state)
            if before["plan"] != plan and rank == 0:
                print(f"more steps: {schedule.steps}; the rate follows them from here")
            elif len(losses) == schedule.steps and rank == 0:
                words = f"all {schedule.steps} steps were done before"
                print(f"{words}; delete {checkpoint} to train anew")
        network = model
        if processes > 1:
            network = DistributedDataParallel(model, static_graph=True)
        if checkpoint and not resume and rank == 0:
            set_aside(checkpoint)

        samples = Samples(images, recipe, seed, schedule.steps * recipe.batch)
        first, share = len(losses) * recipe.batch, recipe.batch // (pieces * processes)
        batches = load_pieces(samples, first, share, rank, processes, workers)
        words = progress if isinstance(progress, str) else None
        bar = tqdm(
            total=schedule.steps,
            initial=len(losses),
            unit="step",
            desc=f"{processes} processes" if processes > 1 else words,
            disable=not progress or rank > 0,
        )
        saved = time.monotonic()

        for step in range(len(losses), schedule.steps):
            optimizer.param_groups[0]["lr"] = schedule(step)
            seed_dropout(model, seed, step, rank)
            batch = [next(batches) for _ in range(pieces)]
            loss = take_step(model, network, batch, optimizer, scaler, schedule, half)
            update_mean(mean, model, schedule.average, step + 1)
            losses.append(devices.mean_over_processes(loss.item(), processes, device))
            if not math.isfinite(losses[-1]):
                bar.close()
                words = f"the loss of step {step + 1} is {losses[-1]}"
                raise UserError(f"{words}: train again with a smaller rate")

            bar.update()
            recent = losses[-50:]
            bar.set_postfix({schedule.loss: f"{sum(recent) / len(recent):.4f}"})
            if on_step and rank == 0:
                on_step(step + 1, losses)
            # An interrupt of one process ends all, after the same step.
            asked = devices.mean_over_processes(float(stop.is_set()), processes, device)
            if stopped := asked > 0:
                break
            if checkpoint and rank == 0 and time.monotonic() - saved > save_every:
                save_checkpoint(checkpoint, plan, losses, *state)
                saved = time.monotonic()
        bar.close()
        if checkpoint and rank == 0:
            save_checkpoint(checkpoint, plan, losses, *state)
    if mean:
        model.load_state_dict(mean)
    model.to(memory_format=torch.contiguous_format).eval()
    if stopped:  # the caller should not go on with half a model
        how = "run this again" if resume else "resume"
        how = f"saved: {how} to go on" if checkpoint else "nothing was saved"
        raise Stopped(f"stopped after step {len(losses)} of {schedule.steps}; {how}")
    return Run(model, len(losses), losses)


def load_pieces(samples, first, share, rank, processes, workers) -> Iterator:
    """Iterator over the pieces from sample `first` on: `share` samples a process.

    Workers begin with the pictures that the images keep in memory.
    """
    if workers and hasattr(samples.images, "preload"):
        samples.images.preload()
    left = range(first, len(samples))
    loader = DataLoader(
        samples,
        batch_size=share,
        sampler=(k for k in left if k // share % processes == rank),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=ignore_interrupts,
    )
    return iter(loader)


def take_step(model, network, batch, optimizer, scaler, schedule, half) -> Tensor:
    """One step of Adam on a batch, given in pieces of one size; returns its loss.

    network: `model`, or its DistributedDataParallel, which averages gradients over
    the processes. half: the 16-bit type of autocast, or None.
    """
    device = next(model.parameters()).device
    total = 0
    optimizer.zero_grad()
    for sample in batch:
        sample = sample._make(x.to(device, non_blocking=True) for x in sample)
        if half:
            lr = sample.lr.contiguous(memory_format=torch.channels_last)
            sample = sample._replace(lr=lr)
        with torch.autocast(device.type, half, enabled=half is not None):
            error = model.error(network, sample)
            error = error.abs() if schedule.loss == "l1" else error.square()
            loss = error.mean() / len(batch)
        scaler.scale(loss).backward()
        total = total + loss.detach()
    scaler.step(optimizer)
    scaler.update()
    return total


def seed_dropout(model: nn.Module, seed: int, step: int, process: int) -> None:
    """Make dropout, if there is any, a function of the step, as the samples are."""
    if any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules()):
        key = np.random.SeedSequence([seed, 7, step, process])
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0] >> 1))


@torch.no_grad()
def update_mean(mean: dict, model: nn.Module, decay: float, step: int) -> None:
    """Update the running mean of the weights; it forgets its first values faster."""
    decay = min(decay, step / (step + 10))
    weights = model.state_dict()
    for key, value in mean.items():
        value.lerp_(weights[key], 1 - decay)


@contextmanager
def delayed_interrupt(alone: bool) -> Iterator[threading.Event]:
    """Yield an event that SIGINT sets, so that it strikes only between two steps.

    Alone, the second one raises KeyboardInterrupt; launchers send each process two.
    """
    stop = threading.Event()

    def ask(number, frame) -> None:
        stop.set()
        if alone:
            signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def ignore_interrupts(worker: int) -> None:
    """For a loader's workers: Ctrl-C reaches them too; the step needs their data."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
