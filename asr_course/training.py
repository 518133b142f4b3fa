"""Training: one loop for every model of the course, on Accelerate.

The loop knows three things: the step it is at, the learning rate of that step (a pure
function), and the data of that step (another one). A checkpoint therefore needs only
the weights, Adam's moments and the step, and a resumed run continues bit for bit.
What a model is trained to do, its `residual` says: a guess minus what it should be.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from asr_course.data import PairRecipe, Recipe
from asr_course.errors import UserError, choose
from asr_course.images import atomic


@dataclass(frozen=True)
class Schedule:
    """How many steps to take, and how large: Adam with a learning rate that falls.

    "cosine" warms up over `warmup` steps and falls to zero along half a cosine;
    "halve" halves the rate at 20, 40, 60 and 80 % of the run, as LIIF does; "restarts"
    falls to zero along half a cosine again and again, 30 times, as DIIN's text says;
    "stages" takes a fifth of the rate for the last third, as IDM does.
    """

    steps: int
    rate: float = 1e-3
    shape: str = "cosine"
    warmup: int = 20
    loss: str = "l1"  # mean absolute difference, or "l2", mean squared
    average: float = 0.0  # decay of a running mean of the weights, which then count

    def __post_init__(self):
        choose("schedule shape", self.shape, ("cosine", "halve", "restarts", "stages"))
        choose("loss", self.loss, ("l1", "l2"))
        if not 0 <= self.average < 1:
            raise UserError(f"average must lie in [0, 1), not {self.average}")
        if self.steps < 1 or not self.rate > 0 or self.warmup < 0:
            raise UserError(
                "a run takes at least 1 step at a rate above 0, after 0 or more of "
                f"warm-up, not {self.steps} at {self.rate} after {self.warmup}"
            )

    def __call__(self, step: int) -> float:
        """The learning rate of step 0, 1, ..., steps - 1."""
        if self.shape == "halve":
            return self.rate * 0.5 ** (5 * step // self.steps)
        if self.shape == "restarts":
            angle = math.pi * (30 * step / self.steps % 1)
            return self.rate * (1 + math.cos(angle)) / 2
        if self.shape == "stages":
            return self.rate if 3 * step < 2 * self.steps else self.rate / 5
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
    kind, _, number = str(name).partition(":")
    choose("device", kind, ("auto", "cpu", "cuda", "mps"))
    there = {"cpu": True, "cuda": torch.cuda.is_available()}
    there["mps"] = torch.backends.mps.is_available()
    if not there.get(kind) or (":" in str(name) and not number.isdecimal()):
        raise UserError(f"device {name!r} is not there; use 'auto' or 'cpu'")
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
) -> Run:
    """Train `model` in place on `images`.

    out: folder for checkpoint.pt, written every `save_every` seconds, at the end and
    on an interrupt (Ctrl-C, or the stop button of Jupyter); None saves nothing.
    resume: continue from out/checkpoint.pt if it belongs to this very run, else start
    anew; a finished run is loaded and not trained further. on_step: called after every
    step with the steps done and all losses. precision: "no", "fp16" (on a CUDA GPU,
    ignored elsewhere) or "bf16". An interrupt is not an error: the step is finished
    and saved, the model keeps what it learned, and `Run.interrupted` is True.
    """
    accelerator = make_accelerator(pick_device(device), precision)
    plan = run_plan(model, images, recipe, schedule, seed)
    checkpoint = Path(out) / "checkpoint.pt" if out else None
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.rate)
    model.to(accelerator.device)
    first, losses, mean = 0, [], {}
    if schedule.average:
        mean = {key: value.clone() for key, value in model.state_dict().items()}
    if resume and checkpoint and checkpoint.exists():
        first, losses = load_checkpoint(checkpoint, plan, model, optimizer, mean)
    samples = recipe.samples(images, seed, schedule.steps * recipe.batch)
    loader = DataLoader(
        samples,
        batch_size=recipe.batch,
        sampler=range(first * recipe.batch, len(samples)),
        num_workers=workers,
    )
    network, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    def save(step: int) -> None:
        if checkpoint and accelerator.is_main_process:
            save_checkpoint(checkpoint, plan, model, optimizer, step, losses, mean)

    network.train()
    step, started, saved = first, time.monotonic(), time.monotonic()
    stop = Stop()
    try:
        with stop, progress_bar(schedule.steps, first, progress) as bar:
            for sample in loader:
                for group in optimizer.param_groups:
                    group["lr"] = schedule(step)
                with accelerator.autocast():
                    wrong = model.residual(network, sample)
                    loss = wrong.abs() if schedule.loss == "l1" else wrong.square()
                    loss = loss.mean()
                optimizer.zero_grad()
                accelerator.backward(loss)
                optimizer.step()
                losses.append(accelerator.reduce(loss.detach(), "mean").item())
                step += 1
                update_mean(mean, model, schedule.average, step)
                bar.update()
                recent = losses[-50:]
                bar.set_postfix({schedule.loss: f"{sum(recent) / len(recent):.4f}"})
                if on_step:
                    on_step(step, losses)
                if stop.asked:
                    break
                if time.monotonic() - saved > save_every:
                    save(step)
                    saved = time.monotonic()
    except KeyboardInterrupt:  # raised by the data or by on_step: between two steps
        if stop.asked:  # or by a second interrupt, which may strike anywhere
            raise
        stop.asked = True
    save(step)
    if mean:
        model.load_state_dict(mean)
    model.eval()
    return Run(model, step, losses, time.monotonic() - started, stop.asked)


@torch.no_grad()
def update_mean(mean: dict, model: nn.Module, decay: float, step: int) -> None:
    """Move a running mean of the weights on; it forgets its start faster at first."""
    decay = min(decay, step / (step + 10))
    for key, value in model.state_dict().items() if mean else ():
        mean[key].lerp_(value, 1 - decay)


class Stop:
    """Turns an interrupt into a wish that the loop grants after the current step.

    An exception could strike between moving the weights and counting the step, and a
    checkpoint made then would repeat that step. A second interrupt is raised at once.
    """

    def __init__(self):
        self.asked = False

    def __enter__(self):
        self._here = threading.current_thread() is threading.main_thread()
        if self._here:  # only the main thread receives signals
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_) -> None:
        if self._here:
            signal.signal(signal.SIGINT, self._before)


def progress_bar(steps: int, first: int, shown: bool) -> tqdm:
    """tqdm over the steps of a run; `shown` False keeps it silent."""
    return tqdm(total=steps, initial=first, unit="step", disable=not shown)


def make_accelerator(device: torch.device, precision: str) -> Accelerator:
    """An Accelerator for this device; a batch is split among processes, if several.

    Accelerate remembers the first device and precision of a process. A notebook may
    choose again, so a process that is alone forgets them first.
    """
    no_half = precision == "fp16" and device.type != "cuda"  # a CPU has no such thing
    if PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if no_half else precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )


def run_plan(model, images, recipe, schedule: Schedule, seed: int) -> dict:
    """All that decides what a run computes: checkpoints resume only their own."""
    return {
        "model": getattr(model, "config", repr(model) + repr(model.options)),
        "recipe": asdict(recipe),
        "schedule": asdict(schedule),
        "seed": seed,
        "images": getattr(images, "fingerprint", len(images)),
    }


def save_checkpoint(
    path: Path, plan, model, optimizer, step: int, losses, mean: dict
) -> None:
    """Write the state of a run, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "plan": json.dumps(plan, sort_keys=True),
        "step": step,
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "mean": mean,
    }
    with atomic(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: Path) -> dict:
    """The state that save_checkpoint wrote. UserError if the file is damaged."""
    try:
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
    path: Path, plan, model, optimizer, mean: dict
) -> tuple[int, list[float]]:
    """Put a checkpoint back: (step, losses); (0, []) if it is of another run."""
    state = read_checkpoint(path)
    if state["plan"] != json.dumps(plan, sort_keys=True):
        return 0, []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for key in mean:
        mean[key].copy_(state["mean"][key])
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
