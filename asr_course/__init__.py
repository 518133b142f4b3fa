"""Arbitrary-scale super-resolution: the package that the notebooks share."""

from asr_course.models import MODELS, build, count_parameters
from asr_course.presets import setup
from asr_course.render import upscale
from asr_course.weights import load_model, load_pretrained, load_weights

__all__ = [
    "MODELS",
    "build",
    "count_parameters",
    "load_model",
    "load_pretrained",
    "load_weights",
    "setup",
    "upscale",
]
