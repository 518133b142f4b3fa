"""DIINN, MetaSR and LTE: official numbers, and fast paths against the plain ones."""

import itertools

import pytest
import torch
from helpers import awake, golden_state, golden_tensor, near
from torch import nn

from asr_course import build, count_parameters
from asr_course.coords import make_cell, make_coord
from asr_course.encoders import EDSR
from asr_course.errors import UserError
from asr_course.models import MODELS, REGRESSION
from asr_course.models.diinn import DIINN, DIINNOptions, nearest_code
from asr_course.models.lte import LTE, LTEOptions
from asr_course.models.metasr import MetaSR, MetaSROptions, corner_codes
from asr_course.official import from_official
from asr_course.states import load_state

MODES = {1: "m", 2: "mz", 3: "sz"}  # the official names of `modulation_input`
PLAIN = [name for name in REGRESSION if hasattr(MODELS[name], "predict_plain")]
VARIANTS = list(itertools.product(MODES, [0, 1]))


class Given(nn.Module):
    """Stands in for an encoder: its answer is given."""

    radius = 0

    def __init__(self, features):
        super().__init__()
        self.features, self.channels = features, features.shape[1]

    def forward(self, x):
        return self.features


def queries(size, batch=2):
    """Coordinates and cells of a whole picture."""
    coord = make_coord(size).expand(batch, -1, -1, -1)
    return coord, make_cell(size).expand(batch, -1)


# DIINN


def official_diinn(mode: int, init_pos: int) -> DIINN:
    """One of the golden variants, which tell the network the area ratio."""
    options = DIINNOptions((16,) * 4, MODES[mode], bool(init_pos), "area")
    model = DIINN(Given(golden_tensor("diinn", "in/feat")), options)
    state = golden_state("diinn", f"sd_mode{mode}_iq{init_pos}/")
    load_state(model, from_official(state), "golden file")
    return model.eval()


def sizes_of(mode: int, init_pos: int):
    """The output sizes that the golden file has for a variant."""
    prefix = f"out/mode{mode}_iq{init_pos}/"
    keys = [key for key in golden_state("diinn", prefix) if "bsize" not in key]
    return [tuple(map(int, key.split("x"))) for key in keys]


@torch.no_grad()
@pytest.mark.parametrize("method", ["predict", "predict_plain"])
@pytest.mark.parametrize("mode, init_pos", VARIANTS)
def test_diinn_equals_the_official_code(mode, init_pos, method):
    model = official_diinn(mode, init_pos)
    features = model.encode(torch.zeros(2, 3, 5, 7))
    sizes = sizes_of(mode, init_pos)
    assert sizes
    for size in sizes:
        rgb = getattr(model, method)(features, *queries(size))
        expected = golden_tensor(
            "diinn", f"out/mode{mode}_iq{init_pos}/{size[0]}x{size[1]}"
        )
        near(rgb.movedim(-1, 1), expected)


@torch.no_grad()
def test_each_layer_equals_the_official_one():
    model = official_diinn(3, 0)
    features = model.encode(torch.zeros(2, 3, 5, 7))
    layers = list(model.branches(features, *queries((11, 17))))
    assert len(layers) == 4
    for k, (m, wave, s) in enumerate(layers):
        key = f"mid/mode3_iq0/11x17/{{}}{k}"
        near(m.movedim(-1, 1), golden_tensor("diinn", key.format("K")))
        near(wave.movedim(-1, 1), golden_tensor("diinn", key.format("Q")))
        near(s, m * wave)


@pytest.mark.parametrize("size", [(11, 17), (10, 14), (20, 28), (5, 7)])
def test_nearest_code_is_the_official_one(size):
    i, j, row, col = nearest_code(make_coord(size)[None], (5, 7))
    name = f"{size[0]}x{size[1]}"
    index = golden_tensor("diinn", f"mid/content_index_{name}")[0, 0]
    assert torch.equal((i * 7 + j)[0], index.long())
    offset = golden_tensor("diinn", f"mid/rel_coord_{name}")[0]
    near((2 * row).expand(1, *size)[0], offset[0])
    near((2 * col).expand(1, *size)[0], offset[1])


def test_pixel_size_is_one_over_s_or_its_square():
    for name, expected in (("1/s", 0.25), ("area", 0.0625)):
        model = build("diinn", "tiny", scale_input=name)
        features = model.encode(torch.zeros(1, 3, 4, 6))
        near(
            model.pixel_size(features, make_cell((16, 24))[None]), expected_as(expected)
        )
        # Unequal scales of rows and columns: the geometric mean.
        near(
            model.pixel_size(features, make_cell((8, 48))[None]), expected_as(expected)
        )


def expected_as(value):
    return torch.tensor([[value]])


def test_pixel_size_equals_the_official_ratio():
    model = official_diinn(3, 0)
    features = model.encode(torch.zeros(2, 3, 5, 7))
    ratio = golden_tensor("diinn", "mid/ratio_11x17")
    near(model.pixel_size(features, make_cell((11, 17))[None])[0], ratio)


@torch.no_grad()
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("skip", [True, False])
def test_fast_path_equals_the_plain_formula(name, skip):
    model = awake(build(name, "tiny", skip=skip))
    features = model.encode(torch.rand(2, 3, 6, 5))
    scattered = torch.rand(2, 40, 1, 2) * 2 - 1
    for coord, cell in (
        queries((17, 11)),
        (scattered, make_cell((17, 11)).expand(2, 2)),
    ):
        plain = model.predict_plain(features, coord, cell)
        near(model.predict(features, coord, cell), plain)


@torch.no_grad()
@pytest.mark.parametrize("sine", [True, False])
@pytest.mark.parametrize("mode, init_pos", VARIANTS)
def test_fast_path_of_every_variant(mode, init_pos, sine):
    options = {"modulation_input": MODES[mode], "init_pos": bool(init_pos)}
    model = awake(build("diinn", "tiny", sine=sine, **options))
    features = model.encode(torch.rand(2, 3, 6, 5))
    coord, cell = queries((14, 13))
    near(
        model.predict(features, coord, cell),
        model.predict_plain(features, coord, cell),
    )


@pytest.mark.parametrize("mode", MODES)
def test_only_mode_sz_lets_modulation_see_the_query(mode):
    """In the other two the branch is the same for all queries of one code."""
    model = build("diinn", "tiny", modulation_input=MODES[mode]).eval()
    features = model.encode(torch.rand(1, 3, 2, 2))
    last = list(model.branches(features, *queries((8, 8), 1)))[-1][0]
    corner = last[0, :4, :4].reshape(16, -1)
    same = torch.equal(corner, corner[:1].expand_as(corner))
    assert same == (MODES[mode] != "sz")


# MetaSR and LTE


def official(name: str, prefix: str, model: nn.Module) -> nn.Module:
    """`model` with the weights of a golden file."""
    load_state(model, from_official(golden_state(name, prefix)), "golden file")
    return model.eval()


def golden_set(name: str, letter: str):
    """Coordinates (B, Q, 1, 2) and cells (B, 2)."""
    coord = golden_tensor(name, f"in/coord{letter}")
    return coord[:, :, None], golden_tensor(name, f"in/cell{letter}")[:, 0]


def encode_golden(name, model):
    """Features of the golden input, which is already normalised to [-1, 1]."""
    return model.encode(golden_tensor(name, "in/inp") * 0.5 + 0.5)


@torch.no_grad()
@pytest.mark.parametrize("method", ["predict", "predict_plain"])
@pytest.mark.parametrize("letter", ["A", "B"])
def test_metasr_equals_the_official_code(letter, method):
    model = official("metasr", "sd/", MetaSR(EDSR(2, 16), MetaSROptions()))
    coord, cell = golden_set("metasr", letter)
    rgb = getattr(model, method)(encode_golden("metasr", model), coord, cell)
    expected = golden_tensor("metasr", f"out/{letter}")  # numbers up to 20
    torch.testing.assert_close(rgb[:, :, 0], expected, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 3, 7])
def test_metasr_corners_at_whole_scales(scale):
    """Output pixel i starts i / s from the border: cell i // s, place (i % s) / s."""
    n = 5 * scale
    i, j, row, col = corner_codes(
        make_coord((n, n))[None], make_cell((n, n))[None], (5, 5)
    )
    steps = torch.arange(n)
    assert torch.equal(i[0, :, 0], steps // scale)
    near(row[0, :, 0], steps % scale / scale)
    assert torch.equal(j[0, 0], i[0, :, 0])
    near(col[0, 0], row[0, :, 0])


@torch.no_grad()
@pytest.mark.parametrize("letter", ["A", "B"])
def test_lte_equals_the_official_code(letter):
    model = official("lte", "sd/", LTE(EDSR(2, 16), LTEOptions((32,) * 3)))
    coord, cell = golden_set("lte", letter)
    features = encode_golden("lte", model)
    rgb = model.decode(features, coord, cell)[..., 0].movedim(1, -1)
    near((rgb - 0.5) / 0.5, golden_tensor("lte", f"out/{letter}"))


@torch.no_grad()
def test_lte_fast_equals_the_official_code():
    options = LTEOptions((32,) * 3, pairing="halves")
    model = official("lte", "sd_fast/", LTE(EDSR(2, 16), options))
    coord = golden_tensor("lte", "in/coord_fast")
    cell = golden_tensor("lte", "in/cell_fast")
    rgb = model.decode(encode_golden("lte", model), coord, cell)
    near((rgb - 0.5) / 0.5, golden_tensor("lte", "out/fast"))


@torch.no_grad()
def test_lte_maps_equal_the_official_ones():
    model = official("lte", "sd/", LTE(EDSR(2, 16), LTEOptions((32,) * 3)))
    content = encode_golden("lte", model).content.movedim(-1, 1)
    near(content[:, :32], golden_tensor("lte", "out/coef_map"))
    near(content[:, 32:], golden_tensor("lte", "out/freq_map"))


@torch.no_grad()
def test_lte_tells_the_network_no_scale_above_four():
    lr = torch.rand(1, 3, 4, 4)
    coord = torch.rand(1, 9, 1, 2) * 2 - 1
    at = {scale: make_cell((4 * scale, 4 * scale))[None] for scale in (2, 4, 8)}
    frozen = build("lte", "tiny").eval()
    near(frozen(lr, coord, at[8]), frozen(lr, coord, at[4]), 1e-7)
    assert (frozen(lr, coord, at[2]) - frozen(lr, coord, at[4])).abs().max() > 1e-4
    free = build("lte", "tiny", freeze_cell=False).eval()
    assert (free(lr, coord, at[8]) - free(lr, coord, at[4])).abs().max() > 1e-4


# Printed parameter counts; the official encoders hold 24 frozen values more than ours


@pytest.mark.parametrize(
    "name, options, edsr, rdn",
    [
        ("metasr", {}, 1_665_560, 22_419_072),
        ("lte", {}, 1_714_267, 22_467_779),
        ("diinn", {}, 2_207_067, 22_960_579),
        ("diinn", {"modulation_input": "mz"}, 2_207_067, 22_960_579),
        ("diinn", {"modulation_input": "m"}, 1_764_699, 22_518_211),
        ("diinn", {"init_pos": True}, 2_356_059, 23_109_571),
    ],
)
def test_parameters_at_paper_size(name, options, edsr, rdn):
    assert count_parameters(build(name, "paper", **options)) + 24 == edsr
    assert count_parameters(build(name, "paper", "rdn", **options)) == rdn


def test_options_that_are_words():
    with pytest.raises(UserError, match="modulation_input 'zs': choose from m, mz, sz"):
        build("diinn", "tiny", modulation_input="zs")
    with pytest.raises(UserError, match="scale_input"):
        build("diinn", "tiny", scale_input=True)
