"""State dicts, {name: tensor}, before a model takes them: sound, and of its shapes."""

import torch
from torch import nn

from asr_course.errors import UserError


def not_finite(state: dict[str, torch.Tensor]) -> str:
    """The name of the first tensor that holds NaN or infinity, "" if none does."""
    return next((key for key, value in state.items() if not value.isfinite().all()), "")


def load_state(model: nn.Module, state: dict, source) -> None:
    """Copy `state` into `model`; UserError lists what is missing, extra or misfit."""
    own = model.state_dict()
    wrong = [f"missing {key}" for key in own.keys() - state.keys()]
    wrong += [f"unexpected {key}" for key in state.keys() - own.keys()]
    wrong += [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    wrong += [
        f"{key} holds {state[key].dtype}, expected {own[key].dtype}"
        for key in own.keys() & state.keys()
        if own[key].is_floating_point() != state[key].is_floating_point()
    ]
    if wrong:
        shown = "; ".join(sorted(wrong)[:3])
        raise UserError(
            f"{source} does not fit the model, {len(wrong)} faults: {shown}; use the "
            "weights of this very model"
        )
    model.load_state_dict(state)
