"""LTE: official numbers of both layouts, and the pixel size that it is told."""

import pytest
import torch
from helpers import golden_state, golden_tensor, near

from asr_course import build, count_parameters
from asr_course.coords import make_cell
from asr_course.encoders import EDSR
from asr_course.errors import UserError
from asr_course.models.lte import LTE, LTEOptions
from asr_course.official import from_official


def official_lte(prefix: str, pairing: str) -> LTE:
    """One of the two golden models."""
    model = LTE(EDSR(2, 16), LTEOptions((32,) * 3, pairing))
    model.load_state_dict(from_official(golden_state("lte", prefix)))
    return model.eval()


def encode_golden(model):
    """Features of the golden input, which is already normalised to [-1, 1]."""
    return model.encode(golden_tensor("lte", "in/inp") * 0.5 + 0.5)


@torch.no_grad()
@pytest.mark.parametrize("letter", ["A", "B"])
def test_equals_the_official_code(letter):
    model = official_lte("sd/", "interleaved")
    coord = golden_tensor("lte", f"in/coord{letter}")[:, :, None]  # (B, Q, 1, 2)
    cell = golden_tensor("lte", f"in/cell{letter}")[:, 0]  # (B, 2)
    rgb = model.decode(encode_golden(model), coord, cell)[..., 0].movedim(1, -1)
    near((rgb - 0.5) / 0.5, golden_tensor("lte", f"out/{letter}"))


@torch.no_grad()
def test_lte_fast_equals_the_official_code():
    model = official_lte("sd_fast/", "halves")
    coord, cell = (golden_tensor("lte", f"in/{key}_fast") for key in ("coord", "cell"))
    rgb = model.decode(encode_golden(model), coord, cell)
    near((rgb - 0.5) / 0.5, golden_tensor("lte", "out/fast"))


@torch.no_grad()
def test_maps_equal_the_official_ones():
    grid = encode_golden(official_lte("sd/", "interleaved")).grid.movedim(-1, 1)
    near(grid[:, :32], golden_tensor("lte", "out/coef_map"))
    near(grid[:, 32:], golden_tensor("lte", "out/freq_map"))


@torch.no_grad()
def test_the_network_is_told_no_scale_above_four():
    lr, coord = torch.rand(1, 3, 4, 4), torch.rand(1, 9, 1, 2) * 2 - 1
    at = {scale: make_cell((4 * scale, 4 * scale))[None] for scale in (2, 4, 8)}
    frozen = build("lte", "tiny").eval()
    near(frozen(lr, coord, at[8]), frozen(lr, coord, at[4]), 1e-7)
    assert (frozen(lr, coord, at[2]) - frozen(lr, coord, at[4])).abs().max() > 1e-4
    free = build("lte", "tiny", freeze_cell=False).eval()
    assert (free(lr, coord, at[8]) - free(lr, coord, at[4])).abs().max() > 1e-4


def test_parameters_at_paper_size():
    """The official EDSR holds 24 frozen values more than ours."""
    assert count_parameters(build("lte", "paper")) + 24 == 1_714_267
    assert count_parameters(build("lte", "paper", "rdn")) == 22_467_779


def test_bad_options():
    with pytest.raises(UserError, match="choose from interleaved"):
        build("lte", "tiny", pairing="thirds")
