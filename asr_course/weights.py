"""Trained weights in and out: safetensors files that know what they are.

A file's metadata holds what `build` needs to make the model again ("config") and a
card: data, steps, seed, scores, licence and the command that made it.
"""

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from asr_course.errors import UserError, choose
from asr_course.images import atomic
from asr_course.models import build

WEIGHTS = Path(__file__).resolve().parent.parent / "data" / "weights"


def save_weights(model: nn.Module, path: str | Path, card: dict) -> None:
    """Write a model and its card to a .safetensors file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    metadata = {"config": json.dumps(model.config), "card": json.dumps(card)}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata)


def read_card(path: str | Path) -> dict:
    """The card of a weights file, with the model's config under "config"."""
    metadata = read_metadata(Path(path))
    return {"config": json.loads(metadata["config"]), **json.loads(metadata["card"])}


def read_metadata(path: Path) -> dict[str, str]:
    """The text stored in a weights file; UserError if it is not one of ours."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"no such weights file: {path}") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no readable .safetensors file: {error}") from None
    if "config" not in metadata:
        raise UserError(
            f"{path} does not say which model it belongs to: it was not written by "
            "save_weights() of this course"
        )
    return metadata


def load_weights(path: str | Path) -> nn.Module:
    """The model stored in a .safetensors file, ready to use (eval mode, CPU)."""
    path = Path(path)
    config = json.loads(read_metadata(path)["config"])
    model = build(config["name"], encoder=config["encoder"], **config["options"])
    load_state(model, load_file(path), path)
    return model.eval()


def shipped() -> dict[str, Path]:
    """The weights that come with the course, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def load_pretrained(name: str) -> nn.Module:
    """A model with shipped weights, for example load_pretrained("liif")."""
    return load_weights(shipped()[choose("shipped weights", name, shipped())])


def find_weights(name_or_file: str) -> Path:
    """The file of shipped weights by name, or a .safetensors file by its path."""
    if str(name_or_file).endswith(".safetensors"):
        return Path(name_or_file)
    return shipped()[choose("shipped weights", name_or_file, shipped())]


def load_model(name_or_file: str) -> nn.Module:
    """Shipped weights by name, or a .safetensors file by its path."""
    return load_weights(find_weights(name_or_file))


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
    if wrong:
        shown = "; ".join(sorted(wrong)[:3])
        raise UserError(
            f"{source} does not fit the model, {len(wrong)} faults: {shown}"
        )
    model.load_state_dict(state)


# What the official repositories call our modules, most specific first.
OFFICIAL = [
    (r"^encoder\.(sub|add)_mean\..*", None),  # EDSR's colour shifts are never applied
    (r"^encoder\.head\.0\.", "encoder.head."),
    (r"^encoder\.body\.(\d+)\.body\.0\.", r"encoder.blocks.\1.conv1."),
    (r"^encoder\.body\.(\d+)\.body\.2\.", r"encoder.blocks.\1.conv2."),
    (r"^encoder\.body\.\d+\.", "encoder.last."),
    (r"^encoder\.SFENet([12])\.", r"encoder.shallow\1."),
    (r"^encoder\.RDBs\.(\d+)\.convs\.(\d+)\.conv\.0\.", r"encoder.blocks.\1.convs.\2."),
    (r"^encoder\.RDBs\.(\d+)\.LFF\.", r"encoder.blocks.\1.fuse."),
    (r"^encoder\.GFF\.0\.", "encoder.fuse1."),
    (r"^encoder\.GFF\.1\.", "encoder.fuse2."),
    (r"^coef\.", "amplitude."),  # LTE
    (r"^freq\.", "frequency."),
    (r"^decoder\.first_layer\.0\.", "initial."),  # DIINN
    (r"^decoder\.K\.(\d+)\.0\.", r"modulation.\1."),
    (r"^decoder\.Q\.(\d+)\.0\.", r"synthesis.\1."),
    (r"^decoder\.last_layer\.", "last."),
]


def from_official(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An official state dict of LIIF, MetaSR, LTE or DIINN under our names.

    Their MLPs count the ReLUs too, so every second number is a linear layer. Linear
    layers that stand there as 1x1 convolutions become linear layers.
    """
    renamed = {}
    for key, value in state.items():
        found = re.match(r"^(?:imnet\.)?layers\.(\d+)\.(.*)", key)
        if found:
            key = f"mlp.layers.{int(found[1]) // 2}.{found[2]}"
        for pattern, name in OFFICIAL:
            if re.match(pattern, key):
                key = name and re.sub(pattern, name, key)
                break
        if key:
            pointwise = value.shape[2:] == (1, 1) and not key.startswith("encoder.")
            renamed[key] = value[..., 0, 0] if pointwise else value
    return renamed
