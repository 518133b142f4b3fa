"""LIIF and its encoders: official numbers, slow references, promises of the options."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import golden_state, golden_tensor, near, tiny

from asr_course import build, count_parameters, variant
from asr_course.coords import make_cell, make_coord, nearest_code, split_axes
from asr_course.encoders import EDSR, RDN
from asr_course.errors import UserError
from asr_course.layers import unfold
from asr_course.models.liif import LIIF, LIIFOptions
from asr_course.official import from_official
from studies.plain import liif as plain

SWITCHES = list(itertools.product([1, 0], repeat=3))  # ensemble, unfolding, cell


def fast(model, features, coord, cell):
    """`predict`, asked like the formula as printed."""
    return model.predict(features, split_axes(coord), cell)


both_formulas = pytest.mark.parametrize("formula", [fast, plain])


def switched(ensemble: int, unfolding: int, cell: int) -> dict:
    """The options of one of eight variants."""
    return {
        "local_ensemble": bool(ensemble),
        "feat_unfold": bool(unfolding),
        "cell_decode": bool(cell),
    }


def official_model(*switches: int) -> LIIF:
    """One of the eight golden variants."""
    model = LIIF(EDSR(2, 16), LIIFOptions((32, 32), **switched(*switches)))
    state = golden_state("liif", "sd/")
    state |= golden_state("liif", "sd_fu{}_cd{}/".format(*switches[1:]))
    model.load_state_dict(from_official(state))
    return model.eval()


def golden_output(switches, queries: str):
    """What the official code made of golden set A or B: (B, Q, 3)."""
    return golden_tensor("liif", "out/le{}_fu{}_cd{}/{}".format(*switches, queries))


def golden_queries(name: str):
    """Coordinates (B, Q, 1, 2) and cells (B, 2) of golden set A, B or C."""
    coord = golden_tensor("liif", f"in/coord{name}")
    cells = golden_tensor("liif", f"in/cell{name}")
    assert torch.equal(cells, cells[:, :1].expand_as(cells))
    return coord[:, :, None], cells[:, 0]


def encode_golden(model: LIIF):
    """Features of the golden input, which is already normalised to [-1, 1]."""
    return model.encode(golden_tensor("liif", "in/inp") * 0.5 + 0.5)


# Official numbers


@torch.no_grad()
@both_formulas
@pytest.mark.parametrize("queries", ["A", "B"])
@pytest.mark.parametrize("switches", SWITCHES)
def test_equals_the_official_code(switches, queries, formula):
    model = official_model(*switches)
    rgb = formula(model, encode_golden(model), *golden_queries(queries))
    near(rgb[:, :, 0], golden_output(switches, queries))


@torch.no_grad()
def test_set_a_is_a_grid_and_decodes_as_one():
    """The official raster of 17 x 22 queries equals ours, asked for as a grid."""
    model = official_model(1, 1, 1)
    coord = make_coord((17, 22)).expand(2, -1, -1, -1)
    cell = make_cell((17, 22)).expand(2, -1)
    rgb = model.decode(encode_golden(model), coord, cell)
    expected = golden_output((1, 1, 1), "A").view(2, 17, 22, 3)
    near(rgb, expected.movedim(-1, 1) * 0.5 + 0.5)


@torch.no_grad()
def test_features_and_unfolding_equal_the_official_ones():
    features = encode_golden(official_model(1, 1, 1))
    near(features.latent, golden_tensor("liif", "out/feat"))
    near(unfold(features.latent), golden_tensor("liif", "out/feat_unfold"))


@torch.no_grad()
@pytest.mark.parametrize(
    "prefix, encoder",
    [("edsr", EDSR(2, 16)), ("rdn", RDN(channels=8, growth=8, blocks=3, layers=3))],
)
def test_encoders_equal_the_official_ones(prefix, encoder):
    official = golden_state("encoders", f"{prefix}/")
    named = from_official({f"encoder.{key}": value for key, value in official.items()})
    encoder.load_state_dict(
        {key.removeprefix("encoder."): value for key, value in named.items()}
    )
    output = encoder(golden_tensor("encoders", "in/inp"))
    near(output, golden_tensor("encoders", f"out/{prefix}"))


# Set C: ties, centres and borders, where our rule is continuous and theirs is not


def slow_axis(position: float, n: int, ensemble: bool):
    """[(index, offset, weight)] of one axis: our rule in words."""
    if not ensemble:  # the pixel that holds the query; a border belongs to the next
        index = min(max(math.floor(position + 0.5 + 1e-4), 0), n - 1)
        return [(index, position - index, 1.0)]
    pair = []
    for pixel in (math.floor(position), math.floor(position) + 1):
        index = min(max(pixel, 0), n - 1)  # there is nothing beyond the border
        pair.append((index, position - index, 1 - abs(position - pixel)))
    return pair


def slow_liif(model: LIIF, latent, coord, cell):
    """Our rule in float64 with loops: (C, H, W), (Q, 2), (2,) -> (Q, 3)."""
    options = model.options
    layers = [(x.weight.double(), x.bias.double()) for x in model.mlp.layers]
    C, H, W = latent.shape
    padded = torch.zeros(C, H + 2, W + 2, dtype=torch.float64)
    padded[:, 1:-1, 1:-1] = latent
    colours = []
    for row, col in coord.double().tolist():
        rgb = torch.zeros(3, dtype=torch.float64)
        row_position, col_position = (row + 1) * H / 2 - 0.5, (col + 1) * W / 2 - 0.5
        for i, row_offset, a in slow_axis(row_position, H, options.local_ensemble):
            for j, col_offset, b in slow_axis(col_position, W, options.local_ensemble):
                if options.feat_unfold:
                    z = padded[:, i : i + 3, j : j + 3].reshape(-1)
                else:
                    z = latent[:, i, j].double()
                inputs = [*z.tolist(), 2 * row_offset, 2 * col_offset]
                if options.cell_decode:
                    inputs += [float(cell[0]) * H, float(cell[1]) * W]
                x = torch.tensor(inputs, dtype=torch.float64)
                for k, (weight, bias) in enumerate(layers):
                    x = weight @ x + bias
                    if k + 1 < len(layers):
                        x = x.clamp(min=0)
                rgb += a * b * x
        colours.append(rgb)
    return torch.stack(colours)


@torch.no_grad()
@both_formulas
@pytest.mark.parametrize("switches", SWITCHES)
def test_awkward_queries_equal_a_slow_reference(switches, formula):
    model = official_model(*switches)
    coord, cell = golden_queries("C")
    features = encode_golden(model)
    rgb = formula(model, features, coord, cell)[:, :, 0]
    for b in range(2):
        expected = slow_liif(model, features.latent[b], coord[b, :, 0], cell[b])
        near(rgb[b], expected)


@torch.no_grad()
@pytest.mark.parametrize("switches", [(1, 1, 1), (0, 1, 1)])
def test_slow_reference_is_right(switches):
    """On set B, away from ties, it gives the official numbers."""
    model = official_model(*switches)
    coord, cell = golden_queries("B")
    latent = golden_tensor("liif", "out/feat")
    rgb = slow_liif(model, latent[1], coord[1, :, 0], cell[1])
    near(rgb, golden_output(switches, "B")[1])


# Parameter counts


@pytest.mark.parametrize(
    "encoder, official, frozen, printed",
    [("edsr-baseline", 1_567_323, 24, "1.567"), ("rdn", 22_320_835, 0, "22.321")],
)
def test_parameters_of_the_paper(encoder, official, frozen, printed):
    """EDSR's two frozen colour shifts hold 24 values that we do not build."""
    count = count_parameters(build("liif", "paper", encoder))
    assert count == official - frozen
    assert f"{count / 1e6:.3f}" == printed


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, 346_883),
        ({"feat_unfold": False}, 215_811),
        ({"cell_decode": False}, 346_371),
        ({"local_ensemble": False}, 346_883),
        ({"hidden": (256, 256)}, 215_299),
        ({"skip": True}, 346_883),
    ],
)
def test_parameters_of_the_ablations(options, expected):
    model = LIIF(EDSR(0, 64), LIIFOptions(**options))
    assert count_parameters(model.mlp) == expected


# The fast first layer


def test_gradients_of_both_formulas_agree():
    """Training uses the fast formula; its gradients are the plain one's."""
    model, lr = tiny().double(), torch.rand(2, 3, 9, 8, dtype=torch.float64)
    coord = (torch.rand(2, 150, 1, 2) * 2 - 1).double()
    cell = make_cell((23, 20)).expand(2, 2).double()
    gradients = []
    for formula in (fast, plain):
        loss = formula(model, model.encode(lr), coord, cell).square().sum()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for ours, expected in zip(*gradients, strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(ours, expected)


@torch.no_grad()
def test_rows_and_columns_are_not_swapped():
    """A transposed picture at transposed queries differs; a symmetric net agrees."""
    model = tiny()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.copy_((module.weight + module.weight.mT) / 2)
    first = model.mlp.layers[0].weight
    unfolded = first[:, :-4].view(first.shape[0], -1, 3, 3)
    unfolded.copy_((unfolded + unfolded.mT) / 2)
    first[:, -1] = first[:, -2]
    lr = torch.rand(1, 3, 8, 13)
    coord, cell = make_coord((20, 40))[None], make_cell((20, 40))[None]
    turned = (lr.mT, coord.transpose(1, 2).flip(-1), cell.flip(-1))
    assert (model(*turned).mT - model(lr, coord, cell)).abs().max() > 1e-3
    first[:, -3] = first[:, -4]  # now it treats row and column offsets alike
    near(model(*turned).mT, model(lr, coord, cell))


# x3: every third query lies on the centre of a latent code


@torch.no_grad()
@pytest.mark.parametrize("switches", SWITCHES)
def test_x3_centres_are_answered_by_their_code_alone(switches):
    """Also beyond row 16, where float32 loses the 1e-6 of other implementations."""
    model, (H, W) = tiny(**switched(*switches)), (45, 43)
    features = model.encode(torch.rand(1, 3, H, W))
    coord, cell = make_coord((3 * H, 3 * W))[None], make_cell((3 * H, 3 * W))[None]
    on_centres = fast(model, features, coord, cell)[:, 1::3, 1::3]
    latent = features.latent
    if switches[1]:
        latent = F.unfold(latent, 3, padding=1).view(1, -1, H, W)
    inputs = [latent.movedim(1, -1), torch.zeros(1, H, W, 2)]
    if switches[2]:
        inputs.append(torch.full((1, H, W, 2), 2 / 3))
    alone = model.mlp(torch.cat(inputs, dim=-1))
    assert alone[:, 17:].std() > 0.1
    near(on_centres, alone)


def test_x3_offsets_of_every_row_are_the_same_three():
    """Queries lie at -1/3, 0 and 1/3 of a pixel in row 2 as in row 199."""
    code = nearest_code(split_axes(make_coord((600, 3))[None]), (200, 1))
    expected = torch.tensor([-1 / 3, 0, 1 / 3]).repeat(200)
    near(code.row_offset[0, :, 0], expected, 1e-4)


# Options


@torch.no_grad()
def test_skip_adds_bilinear_to_what_the_network_says():
    model, lr = tiny(skip=True), torch.rand(1, 3, 20, 9)
    grid = make_coord((60, 27))[None], make_cell((60, 27))[None]
    added = model(lr, *grid) - variant(model, skip=False)(lr, *grid)
    expected = F.interpolate(lr, (60, 27), mode="bilinear")
    near(added, expected - 0.5)  # grey, -0.5 … 0.5, is the zero


@pytest.mark.parametrize("size, skips", [("paper", False), ("laptop", True)])
def test_skip_is_ours_and_off_in_the_paper(size, skips):
    assert build("liif", size).options.skip is skips


def test_config_says_how_the_model_was_built():
    model = build("liif", "tiny", "edsr-laptop", hidden=(8, 9), cell_decode=False)
    options = switched(1, 1, 0) | {"hidden": (8, 9), "skip": True}
    expected = {"name": "liif", "encoder": "edsr-laptop", "options": options}
    assert model.config == expected
    assert [layer.out_features for layer in model.mlp.layers] == [8, 9, 3]
    assert count_parameters(model.encoder) == count_parameters(EDSR(8, 48))


# Errors


@pytest.mark.parametrize(
    "arguments, options, nearest",
    [
        (("lif",), {}, "liif"),
        (("liif", "papper"), {}, "paper"),
        (("liif", "tiny", "edsr-basline"), {}, "edsr-baseline"),
        (("liif", "tiny"), {"hiden": (8, 8)}, "hidden"),
    ],
)
def test_build_suggests_the_nearest_word(arguments, options, nearest):
    with pytest.raises(UserError, match=f"Did you mean '{nearest}'"):
        build(*arguments, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": 8},
        {"hidden": "abc"},
        {"skip": "false"},  # a string that is true
    ],
)
def test_build_refuses_values_of_another_kind(options):
    with pytest.raises(UserError, match="must be"):
        build("liif", "tiny", **options)
