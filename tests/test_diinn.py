"""DIINN: official numbers, layer by layer, and the fast path of every variant."""

import itertools

import pytest
import torch
from helpers import awake, golden_state, golden_tensor, near
from torch import nn

from asr_course import build, count_parameters
from asr_course.coords import Queries, make_cell, make_coord, nearest_code, split_axes
from asr_course.errors import UserError
from asr_course.models.diinn import DIINN, DIINNOptions
from asr_course.official import from_official
from studies.plain import diinn as plain

MODES = {1: "m", 2: "mz", 3: "sz"}  # the official names of `modulation_input`
VARIANTS = list(itertools.product(MODES, [0, 1]))


class Stored(nn.Module):
    """Stands in for an encoder: always the same latent codes."""

    radius = 0

    def __init__(self, latent):
        super().__init__()
        self.latent, self.channels = latent, latent.shape[1]

    def forward(self, x):
        return self.latent


def queries(size, batch=2):
    """Coordinates (B, h, w, 2) and cells (B, 2) of a whole picture."""
    coord = make_coord(size).expand(batch, -1, -1, -1)
    return coord, make_cell(size).expand(batch, -1)


def fast(model, features, coord, cell):
    """`predict`, asked like the formula as printed."""
    return model.predict(features, split_axes(coord), cell)


def official_diinn(mode: int, init_pos: int) -> DIINN:
    """One of the golden variants, which tell the network the area ratio."""
    options = DIINNOptions((16,) * 4, MODES[mode], bool(init_pos), "area")
    model = DIINN(Stored(golden_tensor("diinn", "in/feat")), options)
    state = golden_state("diinn", f"sd_mode{mode}_iq{init_pos}/")
    model.load_state_dict(from_official(state))
    return model.eval()


def encode(model):
    """Features of the golden latent codes, whatever the picture."""
    return model.encode(torch.zeros(2, 3, 5, 7))


# Official numbers


@torch.no_grad()
@pytest.mark.parametrize("formula", [fast, plain])
@pytest.mark.parametrize("mode, init_pos", VARIANTS)
def test_equals_the_official_code(mode, init_pos, formula):
    """At all sizes that the golden file has for a variant."""
    model = official_diinn(mode, init_pos)
    outputs = golden_state("diinn", f"out/mode{mode}_iq{init_pos}/")
    sizes = {tuple(map(int, key.split("x"))) for key in outputs if "bsize" not in key}
    assert sizes
    for h, w in sizes:
        rgb = formula(model, encode(model), *queries((h, w)))
        near(rgb.movedim(-1, 1), outputs[f"{h}x{w}"])


@torch.no_grad()
def test_each_layer_equals_the_official_one():
    model = official_diinn(3, 0)
    coord, cell = queries((11, 17))
    layers = list(model.branches(encode(model), split_axes(coord), cell))
    assert len(layers) == 4
    for k, (m, wave, s) in enumerate(layers):
        key = f"mid/mode3_iq0/11x17/{{}}{k}"
        near(m.movedim(-1, 1), golden_tensor("diinn", key.format("K")))
        near(wave.movedim(-1, 1), golden_tensor("diinn", key.format("Q")))
        near(s, m * wave)


@pytest.mark.parametrize("size", [(11, 17), (10, 14), (20, 28), (5, 7)])
def test_nearest_code_is_the_official_one(size):
    code = nearest_code(split_axes(make_coord(size)[None]), (5, 7))
    name = f"{size[0]}x{size[1]}"
    index = golden_tensor("diinn", f"mid/content_index_{name}")[0, 0]
    assert torch.equal((code.row * 7 + code.col)[0], index.long())
    offset = 2 * Queries(code.row_offset, code.col_offset).grid()[0]
    near(offset.movedim(-1, 0), golden_tensor("diinn", f"mid/rel_coord_{name}")[0])


def test_pixel_size_equals_the_official_ratio():
    model = official_diinn(3, 0)
    ratio = golden_tensor("diinn", "mid/ratio_11x17")
    rho = model.pixel_size(encode(model), make_cell((11, 17)).expand(2, 2))
    near(rho[0], ratio)


@pytest.mark.parametrize("name, expected", [("1/s", 0.25), ("area", 0.0625)])
def test_pixel_size_is_one_over_s_or_its_square(name, expected):
    """Unequal scales of rows and columns: the geometric mean."""
    model = build("diinn", "tiny", scale_input=name)
    features = model.encode(torch.zeros(1, 3, 4, 6))
    for size in ((16, 24), (8, 48)):
        rho = model.pixel_size(features, make_cell(size)[None])
        near(rho, torch.tensor([[expected]]))


# Options


@torch.no_grad()
@pytest.mark.parametrize("sine", [True, False])
@pytest.mark.parametrize("mode, init_pos", VARIANTS)
def test_fast_path_of_every_variant(mode, init_pos, sine):
    """On a grid, and scattered; with layers of any width."""
    options = {"modulation_input": MODES[mode], "init_pos": bool(init_pos)}
    model = awake(build("diinn", "tiny", hidden=(12, 9, 10), sine=sine, **options))
    features = model.encode(torch.rand(2, 3, 6, 5))
    grid, cell = queries((14, 13))
    for coord in (grid, torch.rand(2, 40, 1, 2) * 2 - 1):
        rgb = fast(model, features, coord, cell)
        near(rgb, plain(model, features, coord, cell))


@pytest.mark.parametrize("mode", MODES)
def test_only_mode_sz_lets_modulation_see_the_query(mode):
    """In the other two the branch is the same for all queries of one code."""
    model = build("diinn", "tiny", modulation_input=MODES[mode]).eval()
    features, (coord, cell) = model.encode(torch.rand(1, 3, 2, 2)), queries((8, 8), 1)
    *_, (m, _, _) = model.branches(features, split_axes(coord), cell)
    corner = m[0, :4, :4].reshape(16, -1)
    same = torch.equal(corner, corner[:1].expand_as(corner))
    assert same == (MODES[mode] != "sz")


@pytest.mark.parametrize(
    "options, edsr, rdn",
    [
        ({}, 2_207_067, 22_960_579),
        ({"modulation_input": "mz"}, 2_207_067, 22_960_579),
        ({"modulation_input": "m"}, 1_764_699, 22_518_211),
        ({"init_pos": True}, 2_356_059, 23_109_571),
    ],
)
def test_parameters_at_paper_size(options, edsr, rdn):
    """The official EDSR holds 24 frozen values more than ours."""
    assert count_parameters(build("diinn", "paper", **options)) + 24 == edsr
    assert count_parameters(build("diinn", "paper", "rdn", **options)) == rdn


@pytest.mark.parametrize(
    "options, words",
    [
        ({"modulation_input": "zs"}, "choose from m, mz, sz"),
        ({"scale_input": True}, "scale_input"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(UserError, match=words):
        build("diinn", "tiny", **options)
