"""Trained weights in and out: safetensors files that know what they are.

A file's metadata holds what `build` needs to make the model again ("config") and a
card: data, steps, seed, scores, licence and the command that made it.
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from asr_course.errors import UserError, choose
from asr_course.images import atomic
from asr_course.models import build
from asr_course.official import SUFFIXES, load_official
from asr_course.states import load_state, not_finite

WEIGHTS = Path(__file__).resolve().parent.parent / "data" / "weights"
TAKE = "take a file that `train` wrote"


def save_weights(model: nn.Module, path: str | Path, card: dict) -> None:
    """Write a model and its card to a .safetensors file, whole or not at all.

    UserError if nobody could use the file: a weight is not finite, or the model has an
    encoder that `build` does not know, as authors' files may.
    """
    path = Path(path)
    spoilt = not_finite(model.state_dict())
    if spoilt:
        raise UserError(
            f"{path} is not written: {spoilt} holds NaN or infinity, so the training "
            "diverged; train anew at a smaller rate"
        )
    if model.config["encoder"] is None:
        raise UserError(
            f"{path} is not written: the encoder has none of the sizes that build() "
            "knows, so nothing could read the file; keep the authors' own"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    metadata = {"config": json.dumps(model.config), "card": json.dumps(card)}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata)


def read_card(path: str | Path) -> dict:
    """The card of a weights file, with the model's config under "config"; an authors'
    file has no more to say about itself."""
    if Path(path).suffix in SUFFIXES:
        return {"config": load_official(path).config}
    metadata = read_metadata(Path(path))
    card = read_object(path, "card", metadata.get("card", "{}"))
    return {"config": read_object(path, "config", metadata["config"]), **card}


def read_object(path: str | Path, key: str, text: str) -> dict:
    """One of the JSON objects that a weights file describes itself with."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"the {key} inside {path} is not a JSON object; {TAKE}")
    return value


def read_metadata(path: Path) -> dict[str, str]:
    """The text stored in a weights file; UserError if it is not one of ours."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; a .safetensors file was expected")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(
            f"no such weights file: {path}; check its name and folder"
        ) from None
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is no readable .safetensors file: {error}; copy it again, or "
            "train it anew"
        ) from None
    if "config" not in metadata:
        raise UserError(
            f"{path} does not say which model it belongs to: it was not written by "
            f"save_weights() of this course; {TAKE}"
        )
    return metadata


def load_weights(path: str | Path) -> nn.Module:
    """The model stored in a .safetensors file, ready to use (eval mode, CPU)."""
    path = Path(path)
    config = read_object(path, "config", read_metadata(path)["config"])
    for key, kind in {"name": str, "encoder": str, "options": dict}.items():
        if not isinstance(config.get(key), kind):
            raise UserError(f"the config inside {path} has no {key}; {TAKE}")
    try:
        model = build(config["name"], encoder=config["encoder"], **config["options"])
    except (UserError, TypeError) as error:
        raise UserError(
            f"{path} is of another version of the course; train it anew: {error}"
        ) from None
    state = load_file(path)
    load_state(model, state, path)
    spoilt = not_finite(state)
    if spoilt:
        raise UserError(
            f"{path} cannot be used: {spoilt} holds NaN or infinity; train it anew at "
            "a smaller rate, or copy it again"
        )
    return model.eval()


def shipped() -> dict[str, Path]:
    """The weights that come with the course, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def load_pretrained(name: str) -> nn.Module:
    """A model with shipped weights, for example load_pretrained("liif")."""
    also = "; for a file of yours or of a paper's authors there is load_model()"
    return load_weights(shipped()[choose("shipped weights", name, shipped(), also)])


def find_weights(name_or_file: str) -> Path:
    """The file of shipped weights by name, or the path that is given itself."""
    if str(name_or_file).endswith((".safetensors", *SUFFIXES)):
        return Path(name_or_file)
    also = ", or give a .safetensors file, or an authors' .pth or .ckpt"
    return shipped()[choose("shipped weights", name_or_file, shipped(), also)]


def load_model(name_or_file: str) -> nn.Module:
    """Shipped weights by name, or those of a file: one that `save_weights` wrote, or
    one that the authors of LIIF, LTE or DIINN published (see `load_official`)."""
    path = find_weights(name_or_file)
    return load_official(path) if path.suffix in SUFFIXES else load_weights(path)
