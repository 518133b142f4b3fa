"""The models of the course, and one way to build them."""

import copy
from dataclasses import asdict, replace
from typing import get_args, get_type_hints

from torch import nn

from asr_course.encoders import ENCODERS
from asr_course.errors import UserError, choose
from asr_course.models import diif, diin, diinn, hiif, idm, liif, lte, metasr
from asr_course.models.diif import DIIF, DLTE
from asr_course.models.diin import DIIN
from asr_course.models.diinn import DIINN
from asr_course.models.hiif import HIIF
from asr_course.models.idm import IDM
from asr_course.models.liif import LIIF
from asr_course.models.lte import LTE
from asr_course.models.metasr import MetaSR

MODELS = {
    "liif": LIIF,
    "metasr": MetaSR,
    "lte": LTE,
    "diinn": DIINN,
    "diif": DIIF,
    "dlte": DLTE,
    "hiif": HIIF,
    "diin": DIIN,
    "idm": IDM,
}
REGRESSION = [name for name, model in MODELS.items() if not model.generates]
SIZES = {
    "liif": liif.SIZES,
    "metasr": metasr.SIZES,
    "lte": lte.SIZES,
    "diinn": diinn.SIZES,
    "diif": diif.SIZES,
    "dlte": diif.DLTE_SIZES,
    "hiif": hiif.SIZES,
    "diin": diin.SIZES,
    "idm": idm.SIZES,
}
ABLATIONS = {
    "liif": liif.ABLATIONS,
    "diinn": diinn.ABLATIONS,
    "diif": diif.ABLATIONS,
    "hiif": hiif.ABLATIONS,
    "diin": diin.ABLATIONS,
    "idm": idm.ABLATIONS,
}
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
    kinds = get_type_hints(type(chosen))
    for key, value in options.items():
        choose(f"option of {name}", key, kinds)
        options[key] = check_option(key, kinds[key], value)
    chosen = replace(chosen, **options)
    model = MODELS[name](ENCODERS[encoder](), chosen)
    model.config = {"name": name, "encoder": encoder, "options": asdict(chosen)}
    return model


def variant(model: nn.Module, **options) -> nn.Module:
    """A twin with the same weights, asked in another way: variant(liif,
    local_ensemble=False). Only options that leave the shapes of weights alone."""
    twin = copy.deepcopy(model)
    twin.options = replace(twin.options, **options)
    return twin


def check_option(key: str, kind, value):
    """`value` if it is of `kind`, a type hint; UserError says what is wanted."""
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise UserError(f"{key} must be True or False, not {value!r}")
    if get_args(kind) == (int, ...):
        whole = isinstance(value, list | tuple)
        if whole and all(type(width) is int and width > 0 for width in value):
            return tuple(value)
        raise UserError(f"{key} must be widths such as (64, 64), not {value!r}")
    if kind is int:
        if type(value) is int and value > 0:
            return value
        raise UserError(f"{key} must be a whole number above 0, not {value!r}")
    if kind is float:
        if type(value) in (int, float) and 0 <= value < 1:
            return float(value)
        raise UserError(f"{key} must be a number in [0, 1), not {value!r}")
    return choose(key, value, get_args(kind))  # a Literal


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())
