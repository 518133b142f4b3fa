"""Encoders: official numbers, and names by shape."""

import pytest
import torch
from helpers import golden_state, golden_tensor, near

from asr_course import count_parameters
from asr_course.encoders import EDSR, ENCODERS, RDN, encoder_name
from asr_course.official import from_official

SMALL = {"edsr": EDSR(2, 16), "rdn": RDN(channels=8, growth=8, blocks=3, layers=3)}


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_encoders_equal_the_official_ones(name):
    state = golden_state("encoders", f"{name}/")
    state = from_official({f"encoder.{key}": value for key, value in state.items()})
    encoder = SMALL[name]
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in state.items()})
    latent = encoder(golden_tensor("encoders", "in/inp"))
    near(latent, golden_tensor("encoders", f"out/{name}"))


@pytest.mark.parametrize(
    "name, count", [("edsr-baseline", 1_220_440 - 24), ("rdn", 21_973_952)]
)
def test_parameters_at_paper_size(name, count):
    assert count_parameters(ENCODERS[name]()) == count


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_named_by_its_shapes(name):
    with torch.device("meta"):
        assert encoder_name(ENCODERS[name]()) == name
    assert encoder_name(EDSR(5, 24)) is None
