"""Trained weights in .safetensors files, each with what it takes to use them.

A file's metadata holds "config" (the model's name, encoder and options) and "card"
(data, steps, seed, loss, terms and the command that trained it), both as JSON.
"""

import json
import textwrap
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from asr_course.checkpoints import differences
from asr_course.encoders import ENCODERS
from asr_course.errors import UserError, choose
from asr_course.images import write_whole
from asr_course.models import METHODS, rename
from asr_course.official import SUFFIXES, load_official

WEIGHTS = Path(__file__).resolve().parent.parent / "data" / "weights"


def save_weights(model: nn.Module, path: str | Path, card: dict) -> None:
    """Write a model and its card to a .safetensors file, as a whole or not at all.

    model: any ImplicitModel. UserError if a weight is NaN or infinite, or if its
    encoder is none of ENCODERS, because then the file could not be loaded.
    """
    path, state, config = Path(path), model.state_dict(), model.config
    if bad := [key for key, value in state.items() if not value.isfinite().all()]:
        why = f"{bad[0]} holds NaN or infinity; train again with a smaller rate"
        raise UserError(f"{path} is not written: {why}")
    if config["encoder"] is None:
        why = "asr_course.encoders.ENCODERS has no such encoder; add it there"
        raise UserError(f"{path} is not written: {why}")
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    metadata = {"config": json.dumps(config), "card": json.dumps(card)}
    write_whole(path, save(tensors, metadata))


def read_card(path: str | Path) -> dict:
    """The card of a weights file, with the model's config under "config".

    A file of a paper's authors has a config only. UserError if there is none.
    """
    if Path(path).suffix in SUFFIXES:
        return {"config": load_official(path).config}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        config = json.loads(metadata["config"])
        return {"config": config, **json.loads(metadata.get("card", "{}"))}
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except KeyError:
        why = "does not say which model it holds; save_weights() does"
        raise UserError(f"{path} {why}") from None


def load_weights(path: str | Path, cls: type[nn.Module] | None = None) -> nn.Module:
    """The model in a .safetensors file, in eval mode on the CPU.

    cls: the class of a model of your own, where METHODS has none of its name. UserError
    if the file does not fit the class.
    """
    config = read_card(path)["config"]
    also = f"; or load_weights(path, cls={config['name']}), a class of yours"
    cls = cls or METHODS[choose("model class", config["name"], METHODS, also)]
    encoder = ENCODERS[choose(f"encoder in {path}:", config["encoder"], ENCODERS)]
    options = {  # JSON has no tuples
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config["options"].items()
    }
    try:
        model = cls(encoder(), cls.Options(**options))
        model.load_state_dict(rename(load_file(path)))
    except (TypeError, RuntimeError) as error:
        why = textwrap.shorten(str(error), 300)
        raise UserError(f"{path} does not fit {cls.__name__}: {why}") from None
    return model.eval()


def start_from(model: nn.Module, name_or_file: str | Path) -> None:
    """Give `model` the weights of a model like it. UserError if that is another one."""
    other = load_model(name_or_file)
    if found := differences(other.config, model.config):
        raise UserError(f"{name_or_file}: another model ({'; '.join(found[:3])})")
    model.load_state_dict(other.state_dict())


def shipped() -> dict[str, Path]:
    """The weights that come with the course, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def load_pretrained(name: str) -> nn.Module:
    """A model with shipped weights, for example load_pretrained("liif")."""
    return load_weights(find_weights(name))


def find_weights(name_or_file: str | Path) -> Path:
    """The file of shipped weights by name; a file's name as it is."""
    if str(name_or_file).endswith((".safetensors", *SUFFIXES)):
        return Path(name_or_file)
    also = ", or give a .safetensors file, or an authors' .pth or .ckpt"
    return shipped()[choose("shipped weights", name_or_file, shipped(), also)]


def load_model(name_or_file: str | Path) -> nn.Module:
    """Shipped weights by name, or a file: of `save_weights`, or one that the authors of
    LIIF, LTE or DIINN published (see `load_official`)."""
    path = find_weights(name_or_file)
    return load_official(path) if path.suffix in SUFFIXES else load_weights(path)
