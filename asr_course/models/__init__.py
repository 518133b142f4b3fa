"""The models of the course, and one way to build them."""

from dataclasses import asdict, fields, replace

from torch import nn

from asr_course.encoders import ENCODERS
from asr_course.errors import UserError, choose
from asr_course.models import liif
from asr_course.models.liif import LIIF

MODELS = {"liif": LIIF}
SIZES = {"liif": liif.SIZES}
ABLATIONS = {"liif": liif.ABLATIONS}
DEFAULT_ENCODER = {
    "paper": "edsr-baseline",
    "laptop": "edsr-laptop",
    "tiny": "edsr-tiny",
}


def build(name: str, size="laptop", encoder: str | None = None, **options) -> nn.Module:
    """A model with random weights.

    name: a key of MODELS. size: "paper", "laptop" or "tiny"; it sets the decoder and,
    unless `encoder` names one of ENCODERS, the encoder. Further keywords replace
    fields of the model's options, for example build("liif", local_ensemble=False).
    The model remembers all of it in `model.config`. ValueError on an unknown word.
    """
    choose("model", name, MODELS)
    choose("size", size, SIZES[name])
    encoder = encoder or DEFAULT_ENCODER[size]
    choose("encoder", encoder, ENCODERS)
    chosen = SIZES[name][size]
    for key, value in options.items():
        choose(f"option of {name}", key, [field.name for field in fields(chosen)])
        options[key] = check_option(key, getattr(chosen, key), value)
    chosen = replace(chosen, **options)
    model = MODELS[name](ENCODERS[encoder](), chosen)
    model.config = {"name": name, "encoder": encoder, "options": asdict(chosen)}
    return model


def check_option(key: str, usual, value):
    """`value` if it is of the kind of `usual`; UserError says what is wanted."""
    if isinstance(usual, bool):
        if isinstance(value, bool):
            return value
        raise UserError(f"{key} must be True or False, not {value!r}")
    whole = isinstance(value, list | tuple)
    whole = whole and all(type(width) is int and width > 0 for width in value)
    if isinstance(usual, tuple) and not whole:
        raise UserError(f"{key} must be widths such as (64, 64), not {value!r}")
    return tuple(value)


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())
