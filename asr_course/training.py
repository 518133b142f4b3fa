"""Training: one loop for every regression model of the course, on Accelerate.

The loop knows three things: the step it is at, the learning rate of that step (a pure
function), and the data of that step (another one). A checkpoint therefore needs only
the weights, Adam's moments and the step, and a resumed run continues bit for bit.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from asr_course.data import Patches, Recipe
from asr_course.errors import UserError, choose
from asr_course.images import atomic


@dataclass(frozen=True)
class Schedule:
    """How many steps to take, and how large: Adam with a learning rate that falls.

    "cosine" warms up over `warmup` steps and falls to zero along half a cosine;
    "halve" halves the rate at 20, 40, 60 and 80 % of the run, as LIIF does.
    """

    steps: int
    rate: float = 1e-3
    shape: str = "cosine"
    warmup: int = 20

    def __post_init__(self):
        choose("schedule shape", self.shape, ("cosine", "halve"))
        if self.steps < 1 or not self.rate > 0:
            raise UserError(
                f"a run takes at least 1 step at a rate above 0, "
                f"not {self.steps} at {self.rate}"
            )

    def __call__(self, step: int) -> float:
        """The learning rate of step 0, 1, ..., steps - 1."""
        if self.shape == "halve":
            return self.rate * 0.5 ** (5 * step // self.steps)
        warm = min(1, (step + 1) / self.warmup)
        return self.rate * warm * (1 + math.cos(math.pi * step / self.steps)) / 2


@dataclass
class Run:
    """What training leaves behind."""

    model: nn.Module
    steps: int  # steps done; fewer than planned if the run was interrupted
    losses: list[float]  # L1 of every step, in [0, 1] units
    seconds: float  # spent in this call
    interrupted: bool


def pick_device(name: str = "auto") -> torch.device:
    """The device to use. "auto" takes a CUDA GPU if there is one, else the CPU.

    Apple's GPU is used only when asked for ("mps"): its numbers differ from the
    recorded ones. UserError on a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    choose("device", name.split(":")[0], ("auto", "cpu", "cuda", "mps"))
    there = {"cpu": True, "cuda": torch.cuda.is_available()}
    if not there.get(name.split(":")[0], torch.backends.mps.is_available()):
        raise UserError(f"device {name!r} is not there; use 'auto' or 'cpu'")
    return torch.device(name)


def train(
    model: nn.Module,
    images: Sequence,
    recipe: Recipe,
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
) -> Run:
    """Train `model` in place with an L1 loss on `images`.

    out: folder for checkpoint.pt, written every `save_every` seconds, at the end and
    on an interrupt (Ctrl-C, or the stop button of Jupyter); None saves nothing.
    resume: continue from out/checkpoint.pt if it belongs to this very run, else start
    anew. on_step: called after every step with the steps done and all losses.
    precision: "no", "fp16" or "bf16", on a GPU. An interrupt is not an error: the
    model keeps what it learned and `Run.interrupted` is True.
    """
    accelerator = Accelerator(
        cpu=pick_device(device).type == "cpu",
        mixed_precision=precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    plan = run_plan(model, images, recipe, schedule, seed)
    checkpoint = Path(out) / "checkpoint.pt" if out else None
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.rate)
    model.to(accelerator.device)
    first, losses = 0, []
    if resume and checkpoint and checkpoint.exists():
        first, losses = load_checkpoint(checkpoint, plan, model, optimizer)
    samples = Patches(images, recipe, seed, schedule.steps * recipe.batch)
    loader = DataLoader(
        samples,
        batch_size=recipe.batch,
        sampler=range(first * recipe.batch, len(samples)),
        num_workers=workers,
    )
    network, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    def save(step: int) -> None:
        if checkpoint and accelerator.is_main_process:
            save_checkpoint(checkpoint, plan, model, optimizer, step, losses)

    network.train()
    step, started, saved, interrupted = first, time.monotonic(), time.monotonic(), False
    bar = tqdm(total=schedule.steps, initial=first, unit="step", disable=not progress)
    try:
        for sample in loader:
            for group in optimizer.param_groups:
                group["lr"] = schedule(step)
            with accelerator.autocast():
                guess = network(sample.lr, sample.coord, sample.cell)
                loss = (guess - sample.target).abs().mean()
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            # From here to `step += 1` an interrupt would count a step wrongly; a
            # finished step without its count is the harmless way round, because the
            # weights that are saved below always come with the moments of that step.
            losses.append(accelerator.reduce(loss.detach(), "mean").item())
            step += 1
            bar.update()
            bar.set_postfix(l1=f"{sum(losses[-50:]) / len(losses[-50:]):.4f}")
            if on_step:
                on_step(step, losses)
            if time.monotonic() - saved > save_every:
                save(step)
                saved = time.monotonic()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        bar.close()
    save(step)
    model.eval()
    return Run(model, step, losses, time.monotonic() - started, interrupted)


def run_plan(model, images, recipe: Recipe, schedule: Schedule, seed: int) -> dict:
    """All that decides what a run computes: checkpoints resume only their own."""
    return {
        "model": getattr(model, "config", repr(model)),
        "recipe": asdict(recipe),
        "schedule": asdict(schedule),
        "seed": seed,
        "images": len(images),
    }


def save_checkpoint(path: Path, plan, model, optimizer, step: int, losses) -> None:
    """Write the state of a run, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "plan": json.dumps(plan, sort_keys=True),
        "step": step,
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with atomic(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, plan, model, optimizer) -> tuple[int, list[float]]:
    """Put a checkpoint back: (step, losses); (0, []) if it is of another run.

    UserError if the file is damaged.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        same = state["plan"] == json.dumps(plan, sort_keys=True)
    except Exception as error:
        raise UserError(
            f"{path} is not a readable checkpoint ({error}); delete it to start anew"
        ) from None
    if not same or state["step"] >= plan["schedule"]["steps"]:
        return 0, []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["losses"]


def set_seed(seed: int) -> None:
    """Seed what is random about a fresh model. UserError unless 0, 1, 2 …"""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed must be a whole number of 0 or more, not {seed!r}")
    torch.manual_seed(seed)
