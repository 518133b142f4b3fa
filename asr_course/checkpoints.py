"""Checkpoints: the state of a training run, in a file that is always whole."""

import io
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from asr_course.errors import UserError
from asr_course.images import write_whole
from asr_course.models import rename

# Fields of recipes that the plans of old checkpoints lack, and what they mean there.
NEWER = {"scales": (), "mixed": False, "hr": 0, "upright": False, "keep": 0.0}


def run_plan(model: nn.Module, images, recipe, schedule, seed: int) -> str:
    """All that decides what a run computes, as JSON: checkpoints resume no other."""
    fields = asdict(recipe).items()
    plan = {
        "model": model.config,
        "recipe": {k: v for k, v in fields if k not in NEWER or v != NEWER[k]},
        "schedule": asdict(schedule),
        "seed": seed,
        "images": getattr(images, "fingerprint", len(images)),
    }
    return json.dumps(plan, sort_keys=True)


def save_checkpoint(path: Path, plan, losses, model, optimizer, scaler, mean) -> None:
    """Write the state of a run after len(losses) steps."""
    file = io.BytesIO()
    state = {
        "plan": plan,
        "step": len(losses),
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "mean": mean,  # running mean of the weights, or {}
        "scaler": scaler.state_dict(),  # {} unless the precision is fp16
    }
    torch.save(state, file)
    write_whole(path, file.getvalue())


def read_checkpoint(path: Path) -> dict:
    """The state that save_checkpoint wrote. UserError if the file is damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["model"], state["mean"] = rename(state["model"]), rename(state["mean"])
        state["plan"], state["step"], state["losses"], state["optimizer"]  # all there?
    except Exception as error:  # torch raises many kinds
        raise UserError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); "
            "delete it to start anew"
        ) from None
    return state


def differences(there: dict, here: dict, before: str = "") -> list[str]:
    """Where two nested dicts differ: ["schedule.rate: 0.001 there, 0.002 here"]."""
    found = []
    for key in there | here:
        a, b = there.get(key), here.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{before}{key}.")
        elif a != b:
            found.append(f"{before}{key}: {a} there, {b} here")
    return found


def own_checkpoint(path: Path, plan: str, resume: bool) -> dict | None:
    """The state to resume in a checkpoint of this plan, whose steps may have grown.

    None for a finished run that is not to be resumed. UserError on another run's
    checkpoint, and without `resume` on that of a stopped run.
    """
    state, here = read_checkpoint(path), json.loads(plan)
    there, steps = json.loads(state["plan"]), here["schedule"]["steps"]
    finished = state["step"] == there["schedule"]["steps"]
    if resume and steps > there["schedule"]["steps"]:
        there["schedule"]["steps"] = steps
    found = differences(there, here)
    if resume and not found:
        return state
    if finished and not resume:
        return None
    what = f"another run ({'; '.join(found[:3])})" if found else "this run"
    raise UserError(
        f"{path} holds {state['step']} steps of {what}: resume it as it began, "
        "choose another folder, or delete it"
    )


def set_aside(path: Path) -> None:
    """Give a file, if there is one, the first free name like checkpoint-1.pt."""
    names = (path.with_stem(f"{path.stem}-{k}") for k in itertools.count(1))
    if path.exists():
        path.rename(next(name for name in names if not name.exists()))


def load_state(state: dict, model, optimizer, scaler, mean) -> list[float]:
    """Put the state of a run back; returns its losses."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for key in mean:
        mean[key].copy_(state["mean"][key])
    if state.get("scaler"):  # only fp16 has one, and the precision may change
        scaler.load_state_dict(state["scaler"])
    return state["losses"]
