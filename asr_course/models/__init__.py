"""The models of the course, one file each, and one way to build them."""

import copy
import re
from dataclasses import replace
from typing import get_args, get_type_hints

from torch import Tensor, nn

from asr_course.encoders import ENCODERS
from asr_course.errors import UserError, choose
from asr_course.models.diif import DIIF
from asr_course.models.diin import DIIN
from asr_course.models.diinn import DIINN
from asr_course.models.dlte import DLTE
from asr_course.models.hiif import HIIF
from asr_course.models.idm import IDM
from asr_course.models.liif import LIIF
from asr_course.models.lte import LTE
from asr_course.models.metasr import MetaSR

METHODS = {
    cls.name: cls for cls in (LIIF, MetaSR, LTE, DIINN, DIIF, DLTE, HIIF, DIIN, IDM)
}
DEFAULT_ENCODER = {
    "paper": "edsr-baseline",
    "laptop": "edsr-laptop",
    "tiny": "edsr-tiny",
}
# What modules were called in files of the first edition.
RENAMED = {
    r"\.listen\.": ".cross_attention.",
    r"\.answer\.": ".output.",
    r"^unet\.told\.": "unet.embed.",
}


def build(name: str, size="laptop", encoder: str | None = None, **options) -> nn.Module:
    """A model with random weights.

    name: a key of METHODS. size: "paper", "laptop" or "tiny"; it sets the decoder and,
    unless `encoder` names one of ENCODERS, the encoder. Further keywords replace
    fields of the model's options, for example build("liif", local_ensemble=False).
    `model.config` tells all of it. UserError on an unknown word.
    """
    cls = METHODS[choose("model", name, METHODS)]
    chosen = cls.SIZES[choose("size", size, cls.SIZES)]
    encoder = encoder or DEFAULT_ENCODER[size]
    choose("encoder", encoder, ENCODERS)
    kinds = get_type_hints(cls.Options)
    for key, value in options.items():
        choose(f"option of {name}", key, kinds)
        usual = getattr(chosen, key)
        if isinstance(usual, str):
            choose(key, value, get_args(kinds[key]))  # of a Literal
        elif type(value) is not type(usual):
            raise UserError(f"{key} must be like {usual!r}, not {value!r}")
    return cls(ENCODERS[encoder](), replace(chosen, **options))


def variant(model: nn.Module, **options) -> nn.Module:
    """A copy with the same weights and other options: variant(liif,
    local_ensemble=False). Only options that leave the shapes of weights alone."""
    twin = copy.deepcopy(model)
    twin.options = replace(twin.options, **options)
    return twin


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the first edition under today's names; others as they are."""

    def today(key: str) -> str:
        for pattern, name in RENAMED.items():
            key = re.sub(pattern, name, key)
        return key

    return {today(key): value for key, value in state.items()}


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())
