"""Checkpoints: the state of a training run, in a file that is always whole."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from asr_course.errors import UserError
from asr_course.images import atomic
from asr_course.models import rename

# Fields of recipes that the plans of old checkpoints lack, and what they mean there.
NEWER = {"scales": (), "mixed": False, "hr": 0, "upright": False}


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
    """Write the state of a run after len(losses) steps. OSError if it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "plan": plan,
        "step": len(losses),
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "mean": mean,  # running mean of the weights, or {}
        "scaler": scaler.state_dict(),  # {} unless the precision is fp16
    }
    try:
        with atomic(path) as temporary:
            torch.save(state, temporary)
    except RuntimeError as error:  # torch's error on a full disk
        raise OSError(f"cannot write {path}: is the disk full?") from error


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


def load_checkpoint(path: Path, plan, model, optimizer, scaler, mean) -> list[float]:
    """Put the state of a run back; returns its losses, none if it is another run's."""
    state = read_checkpoint(path)
    if state["plan"] != plan:
        return []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for key in mean:
        mean[key].copy_(state["mean"][key])
    if state.get("scaler"):  # only fp16 has one, and the precision may change
        scaler.load_state_dict(state["scaler"])
    return state["losses"]


def unfinished(out: str | Path) -> bool:
    """Whether `out` holds a run that was stopped before its last step."""
    path = Path(out) / "checkpoint.pt"
    if not path.exists():
        return False
    state = read_checkpoint(path)
    return state["step"] < json.loads(state["plan"])["schedule"]["steps"]
