"""MetaSR: official numbers, and where an output pixel's corner lies."""

import pytest
import torch
from helpers import golden_state, golden_tensor, near

from asr_course import build, count_parameters
from asr_course.coords import make_cell, make_coord, split_axes
from asr_course.encoders import EDSR
from asr_course.models.metasr import MetaSR, MetaSROptions
from asr_course.official import from_official
from studies.plain import metasr as plain


def fast(model, features, coord, cell):
    """`predict`, asked like the formula as printed."""
    return model.predict(features, split_axes(coord), cell)


@torch.no_grad()
@pytest.mark.parametrize("formula", [fast, plain])
@pytest.mark.parametrize("letter", ["A", "B"])
def test_equals_the_official_code(letter, formula):
    model = MetaSR(EDSR(2, 16), MetaSROptions())
    model.load_state_dict(from_official(golden_state("metasr", "sd/")))
    features = model.encode(golden_tensor("metasr", "in/inp") * 0.5 + 0.5)
    coord = golden_tensor("metasr", f"in/coord{letter}")[:, :, None]  # (B, Q, 1, 2)
    cell = golden_tensor("metasr", f"in/cell{letter}")[:, 0]  # (B, 2)
    rgb = formula(model, features, coord, cell)
    expected = golden_tensor("metasr", f"out/{letter}")  # numbers up to 20
    torch.testing.assert_close(rgb[:, :, 0], expected, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 3, 7])
def test_corners_at_whole_scales(scale):
    """Output pixel i starts i / s from the border: code i // s, place (i % s) / s."""
    model, n = build("metasr", "tiny"), 5 * scale
    features = model.encode(torch.rand(1, 3, 5, 4))
    queries = split_axes(make_coord((n, 4 * scale))[None])
    cell = make_cell((n, 4 * scale))[None]
    rows, cols, place = model.places(features, queries, cell)
    steps = torch.arange(n)
    assert torch.equal(rows[0, :, 0], steps // scale)
    assert torch.equal(cols[0, 0], steps[: 4 * scale] // scale)
    near(place[0, :, 0, 0], steps % scale / scale)
    near(place[0, 0, :, 1], steps[: 4 * scale] % scale / scale)
    near(place[..., 2], torch.full((1, n, 4 * scale), 1 / scale))


def test_parameters_at_paper_size():
    """The official EDSR holds 24 frozen values more than ours."""
    assert count_parameters(build("metasr", "paper")) + 24 == 1_665_560
    assert count_parameters(build("metasr", "paper", "rdn")) == 22_419_072
