"""LIIF and its encoders: official numbers, slow references, promises of the options."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import awake, golden_state, golden_tensor, near, tiny

from asr_course import build, count_parameters
from asr_course.coords import make_cell, make_coord, output_size
from asr_course.encoders import EDSR, RDN
from asr_course.errors import UserError
from asr_course.models.liif import LIIF, LIIFOptions, corners, unfold
from asr_course.official import from_official
from asr_course.states import load_state

SWITCHES = list(itertools.product([1, 0], repeat=3))  # ensemble, unfolding, cell


def official_model(ensemble: int, unfolding: int, cell: int) -> LIIF:
    """One of the eight golden variants."""
    options = LIIFOptions(
        hidden=(32, 32),
        local_ensemble=bool(ensemble),
        feat_unfold=bool(unfolding),
        cell_decode=bool(cell),
    )
    model = LIIF(EDSR(2, 16), options)
    state = golden_state("liif", "sd/")
    state |= golden_state("liif", f"sd_fu{unfolding}_cd{cell}/")
    load_state(model, from_official(state), "golden file")
    return model.eval()


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
@pytest.mark.parametrize("method", ["predict", "predict_plain"])
@pytest.mark.parametrize("queries", ["A", "B"])
@pytest.mark.parametrize("switches", SWITCHES)
def test_equals_the_official_code(switches, queries, method):
    model = official_model(*switches)
    coord, cell = golden_queries(queries)
    rgb = getattr(model, method)(encode_golden(model), coord, cell)
    variant = "le{}_fu{}_cd{}".format(*switches)
    near(rgb[:, :, 0], golden_tensor("liif", f"out/{variant}/{queries}"))


@torch.no_grad()
def test_set_a_is_a_grid_and_decodes_as_one():
    """The official raster of 17 x 22 queries equals ours, asked for as a grid."""
    model = official_model(1, 1, 1)
    coord = make_coord((17, 22)).expand(2, -1, -1, -1)
    cell = make_cell((17, 22)).expand(2, -1)
    rgb = model.decode(encode_golden(model), coord, cell)
    expected = golden_tensor("liif", "out/le1_fu1_cd1/A").view(2, 17, 22, 3)
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
    state = {key.removeprefix("encoder."): value for key, value in named.items()}
    load_state(encoder, state, "golden file")
    output = encoder(golden_tensor("encoders", "in/inp"))
    near(output, golden_tensor("encoders", f"out/{prefix}"))


# Set C: ties, centres and borders, where our rule is continuous and theirs is not


@pytest.mark.parametrize("ensemble", [True, False])
def test_weights_of_awkward_queries_are_convex(ensemble):
    coord, _ = golden_queries("C")
    shares = torch.stack([share for *_, share in corners(coord, (7, 9), ensemble)])
    assert shares.shape[0] == (4 if ensemble else 1)
    assert shares.min() >= 0
    near(shares.sum(0), torch.ones_like(shares[0]), 1e-6)


def slow_axis(position: float, n: int, ensemble: bool):
    """[(index, offset, weight)] of one axis: our rule in words."""
    if not ensemble:  # the pixel that holds the query; a border belongs to the next
        index = min(max(math.floor(position + 0.5 + 1e-4), 0), n - 1)
        return [(index, position - index, 1.0)]
    found = []
    for pixel in (math.floor(position), math.floor(position) + 1):
        index = min(max(pixel, 0), n - 1)  # there is nothing beyond the border
        found.append((index, position - index, 1 - abs(position - pixel)))
    return found


def slow_liif(model: LIIF, latent, coord, cell):
    """Our rule in float64 with loops: (C, H, W), (Q, 2), (2,) -> (Q, 3)."""
    options = model.options
    layers = [(x.weight.double(), x.bias.double()) for x in model.mlp.layers]
    C, H, W = latent.shape
    padded = torch.zeros(C, H + 2, W + 2, dtype=torch.float64)
    padded[:, 1:-1, 1:-1] = latent
    answers = []
    for row, col in coord.double().tolist():
        total = torch.zeros(3, dtype=torch.float64)
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
                total += a * b * x
        answers.append(total)
    return torch.stack(answers)


@torch.no_grad()
@pytest.mark.parametrize("method", ["predict", "predict_plain"])
@pytest.mark.parametrize("switches", SWITCHES)
def test_awkward_queries_equal_a_slow_reference(switches, method):
    model = official_model(*switches)
    coord, cell = golden_queries("C")
    features = encode_golden(model)
    found = getattr(model, method)(features, coord, cell)[:, :, 0]
    for b in range(2):
        expected = slow_liif(model, features.latent[b], coord[b, :, 0], cell[b])
        near(found[b], expected)


@torch.no_grad()
@pytest.mark.parametrize("switches", [(1, 1, 1), (0, 1, 1)])
def test_slow_reference_is_right(switches):
    """On set B, away from ties, it gives the official numbers."""
    model = official_model(*switches)
    coord, cell = golden_queries("B")
    latent = golden_tensor("liif", "out/feat")
    variant = "le{}_fu{}_cd{}".format(*switches)
    expected = golden_tensor("liif", f"out/{variant}/B")
    near(slow_liif(model, latent[1], coord[1, :, 0], cell[1]), expected[1])


# Parameter counts


@pytest.mark.parametrize(
    "encoder, official, frozen, printed",
    [
        ("edsr-baseline", 1_567_323, 24, "1.567"),
        ("rdn", 22_320_835, 0, "22.321"),
    ],
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


@pytest.mark.parametrize(
    "encoder, expected", [(EDSR(16, 64), 1_220_440 - 24), (RDN(), 21_973_952)]
)
def test_parameters_of_the_encoders(encoder, expected):
    assert count_parameters(encoder) == expected


# The fast first layer


def queries_for(scale: float, lr, kind: str):
    """A grid or 150 scattered queries at one scale: (B, h, w, 2) and (B, 2)."""
    size = output_size(lr.shape[-2:], scale)
    coord = make_coord(size).expand(len(lr), -1, -1, -1)
    if kind == "scattered":
        coord = torch.rand(len(lr), 150, 1, 2) * 2 - 1
    return coord, make_cell(size).expand(len(lr), -1)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["grid", "scattered"])
@pytest.mark.parametrize("scale", [2, 3, 4, 2.5, 3.7])
@pytest.mark.parametrize("switches", SWITCHES)
def test_split_first_layer_equals_the_plain_formula(switches, scale, kind):
    model = tiny(
        local_ensemble=bool(switches[0]),
        feat_unfold=bool(switches[1]),
        cell_decode=bool(switches[2]),
    )
    lr = torch.rand(2, 3, 20, 9)
    coord, cell = queries_for(scale, lr, kind)
    features = model.encode(lr)
    plain = model.predict_plain(features, coord, cell)
    assert plain.std() > 0.1
    near(model.predict(features, coord, cell), plain)


@torch.no_grad()
@pytest.mark.parametrize("scale", [2, 3, 3.7])
def test_grid_and_scattered_queries_agree(scale):
    """The short cut for regular grids gives what single points give."""
    model, lr = tiny(), torch.rand(2, 3, 20, 9)
    coord, cell = queries_for(scale, lr, "grid")
    features = model.encode(lr)
    grid = model.decode(features, coord, cell)
    points = model.decode(features, coord.flatten(1, 2)[:, :, None], cell)
    near(grid, points.view_as(grid), 1e-6)


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
def test_x3_centres_are_answered_by_their_latent_alone(switches):
    """Also beyond row 16, where float32 loses the 1e-6 of other implementations."""
    model = tiny(
        local_ensemble=bool(switches[0]),
        feat_unfold=bool(switches[1]),
        cell_decode=bool(switches[2]),
    )
    H, W = 45, 43
    features = model.encode(torch.rand(1, 3, H, W))
    coord, cell = make_coord((3 * H, 3 * W))[None], make_cell((3 * H, 3 * W))[None]
    on_centres = model.predict(features, coord, cell)[:, 1::3, 1::3]
    latent = features.latent
    if switches[1]:
        latent = F.unfold(latent, 3, padding=1).view(1, -1, H, W)
    inputs = [latent.movedim(1, -1), torch.zeros(1, H, W, 2)]
    if switches[2]:
        inputs.append(torch.full((1, H, W, 2), 2 / 3))
    alone = model.mlp(torch.cat(inputs, dim=-1))
    assert alone[:, 17:].std() > 0.1
    near(on_centres, alone)


@torch.no_grad()
def test_x3_offsets_of_every_row_are_the_same_three():
    """Queries lie at -1/3, 0 and 1/3 of a pixel in row 2 as in row 199."""
    position = (make_coord((600, 3))[..., 0, 0] + 1) * 100 - 0.5
    nearest_offset = corners(make_coord((600, 3))[None], (200, 1), False)[0][2][0]
    near(position - position.round(), nearest_offset[0, :, 0], 1e-4)
    expected = torch.tensor([-1 / 3, 0, 1 / 3]).repeat(200)
    near(nearest_offset[0, :, 0], expected, 1e-4)


# Skip


def bilinear(lr, size):
    return F.interpolate(lr, size, mode="bilinear", align_corners=False)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 2.5, 3.7, 8.3])
def test_skip_starts_as_bilinear_interpolation(scale):
    """Over the whole picture, its replicated border included."""
    model = build("liif", "tiny", skip=True)
    lr = torch.rand(2, 3, 20, 9)
    coord, cell = queries_for(scale, lr, "grid")
    near(model(lr, coord, cell), bilinear(lr, output_size((20, 9), scale)))


@torch.no_grad()
def test_skip_adds_bilinear_to_what_the_network_says():
    model, plain = tiny(skip=True), tiny(skip=False)
    plain.load_state_dict(model.state_dict())
    lr = torch.rand(1, 3, 20, 9)
    coord, cell = queries_for(3, lr, "grid")
    added = model(lr, coord, cell) - plain(lr, coord, cell)
    near(added, bilinear(lr, (60, 27)) - 0.5)  # grey, -0.5 … 0.5, is the zero


@pytest.mark.parametrize("size, skips", [("paper", False), ("laptop", True)])
def test_skip_is_ours_and_off_in_the_paper(size, skips):
    assert build("liif", size).options.skip is skips


# Queries are independent


@torch.no_grad()
def test_order_of_queries_does_not_matter():
    model, lr = tiny(), torch.rand(1, 3, 11, 8)
    coord, cell = queries_for(3, lr, "scattered")
    features, order = model.encode(lr), torch.randperm(150)
    whole = model.decode(features, coord, cell)
    near(model.decode(features, coord[:, order], cell), whole[:, :, order], 1e-6)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_of_queries_do_not_matter(chunk):
    model, lr = tiny(), torch.rand(1, 3, 11, 8)
    coord, cell = queries_for(3, lr, "scattered")
    features = model.encode(lr)
    pieces = [model.decode(features, part, cell) for part in coord.split(chunk, dim=1)]
    near(torch.cat(pieces, dim=2), model.decode(features, coord, cell), 1e-6)


@torch.no_grad()
def test_pictures_of_a_batch_do_not_mix():
    model, lr = tiny(), torch.rand(3, 3, 11, 8)
    coord, cell = queries_for(2.5, lr, "scattered")
    cell = cell * torch.tensor([1.0, 0.7, 1.4])[:, None]
    together = model(lr, coord, cell)
    for b in range(3):
        one = slice(b, b + 1)
        near(model(lr[one], coord[one], cell[one]), together[one], 1e-6)


def test_gradients_of_both_formulas_agree():
    """Training uses the fast formula; its gradients are the plain one's."""
    model, lr = tiny().double(), torch.rand(2, 3, 9, 8, dtype=torch.float64)
    coord, cell = (x.double() for x in queries_for(2.5, lr, "scattered"))
    gradients = []
    for method in (model.predict, model.predict_plain):
        loss = method(model.encode(lr), coord, cell).square().sum()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for fast, plain in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(fast, plain)


# Errors


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 8, 8, 3), (8, 8)])
def test_encode_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        tiny().encode(torch.zeros(shape))


@pytest.mark.parametrize(
    "coord, cell, words",
    [
        ((2, 5, 2), (2, 2), "coord must be"),
        ((1, 5, 1, 2), (2, 2), "coord must be"),
        ((2, 5, 1, 3), (2, 2), "coord must be"),
        ((2, 5, 1, 2), (2,), "cell must be"),
        ((2, 5, 1, 2), (1, 2), "cell must be"),
        ((2, 5, 1, 2), (2, 5, 2), "cell must be"),
    ],
)
def test_decode_refuses_other_shapes(coord, cell, words):
    model = tiny()
    features = model.encode(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=words):
        model.decode(features, torch.zeros(coord), torch.zeros(cell))


@pytest.mark.parametrize(
    "arguments, options, nearest",
    [
        (("lif",), {}, "liif"),
        (("LIIF",), {}, None),
        (("liif", "papper"), {}, "paper"),
        (("liif", "tiny", "edsr-basline"), {}, "edsr-baseline"),
        (("liif", "tiny"), {"hiden": (8, 8)}, "hidden"),
        (("liif", "tiny"), {"local_ensembel": False}, "local_ensemble"),
        (("liif", "tiny"), {"zzz": 1}, None),
    ],
)
def test_build_suggests_the_nearest_word(arguments, options, nearest):
    with pytest.raises(UserError) as caught:
        build(*arguments, **options)
    message = str(caught.value)
    assert "choose from" in message
    assert ("Did you mean" in message) == (nearest is not None)
    assert nearest is None or f"Did you mean {nearest!r}" in message


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": 8},
        {"hidden": "abc"},
        {"hidden": (2.5,)},
        {"hidden": (-1,)},
        {"skip": "false"},  # a string that is true
        {"local_ensemble": "no"},
    ],
)
def test_build_refuses_values_of_another_kind(options):
    with pytest.raises(UserError):
        build("liif", "tiny", **options)


def test_build_remembers_what_it_was_told():
    model = build("liif", "tiny", "edsr-laptop", hidden=[8, 9], cell_decode=False)
    assert model.config["name"] == "liif"
    assert model.config["encoder"] == "edsr-laptop"
    assert model.config["options"] == {
        "hidden": (8, 9),
        "local_ensemble": True,
        "feat_unfold": True,
        "cell_decode": False,
        "skip": True,
    }
    assert [layer.out_features for layer in model.mlp.layers] == [8, 9, 3]
    assert count_parameters(model.encoder) == count_parameters(EDSR(8, 48))


def test_options_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        tiny().options.skip = False


def test_awake_models_answer_something():
    """The helper of these tests: without it, many would compare zeros."""
    model = build("liif", "tiny")
    lr = torch.rand(1, 3, 6, 6)
    coord, cell = queries_for(2, lr, "grid")
    assert model.predict(model.encode(lr), coord, cell).abs().max() == 0
    awake(model)
    assert model.predict(model.encode(lr), coord, cell).std() > 0.1
