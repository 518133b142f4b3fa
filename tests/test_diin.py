"""DIIN: heat by all pairs and by sums, ATD's numbers, and who hears of whom."""

from functools import partial, reduce

import pytest
import torch
import torch.nn.functional as F
from helpers import awake, golden_state, golden_tensor, near
from torch import nn

from asr_course import build, count_parameters
from asr_course.coords import make_cell, make_coord, split_axes, to_position
from asr_course.errors import UserError
from asr_course.layers import bilinear
from asr_course.models.diin import DIIN
from asr_course.models.diin_layers import (
    CrossAttention,
    Moments,
    Refinement,
    diffuse,
    heat,
    rates,
    token_moments,
)
from asr_course.records import paper_rows
from asr_course.render import Totals, decode_rows, encode, encoded_tiles, render
from asr_course.totals import add

every_case = pytest.mark.parametrize(
    "options", DIIN.ABLATIONS.values(), ids=DIIN.ABLATIONS
)

# sets in the golden file: nodes, their Q K V, and what comes of them
SETS = [
    *((name, "ZZZ", "eq67_S", "eq67_P_brute") for name in ("small", "mid")),
    *((name, "QKV", "eq1213_S", "eq1213_P_brute") for name in ("small", "mid")),
    ("edge", "ZZZ", "S", "P_brute"),
]


def diin(**options) -> nn.Module:
    """A DIIN of size tiny that answers with something else than its input."""
    return awake(build("diin", "tiny", **options))


def grid(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates and pixel size of a whole output."""
    return make_coord(size)[None], make_cell(size)[None]


def diffused(q, k, v) -> torch.Tensor:
    """P where these nodes are all."""
    return diffuse(q[None], heat(k[None], v[None]))[0]


# Heat


@pytest.mark.parametrize("name, qkv, S, P", SETS)
def test_heat_equals_the_golden_numbers(name, qkv, S, P):
    q, k, v = (golden_tensor("diin_diffusion", f"{name}/{letter}") for letter in qkv)
    near(rates(q, k), golden_tensor("diin_diffusion", f"{name}/{S}"), 1e-10)
    near(rates(q, k).sum(dim=-1), torch.ones(len(q)), 1e-10)
    near(diffused(q, k, v), golden_tensor("diin_diffusion", f"{name}/{P}"), 1e-10)


def test_heat_flows_from_each_to_each():
    """Eq. 1, one pair at a time."""
    q, k, z = torch.randn(3, 9, 4).double()
    flow = torch.zeros_like(z)
    for i in range(9):
        weight = [1 + F.cosine_similarity(q[i], k[j], dim=0) for j in range(9)]
        for j in range(9):
            flow[i] += weight[j] / sum(weight) * (z[j] - z[i])
    near(diffused(q, k, z) - z, flow, 1e-10)


def test_a_query_of_zeros_and_nodes_that_oppose():
    v = torch.randn(5, 3).double()
    q = torch.randn(5, 3).double()
    q[2] = 0
    near(diffused(q, q, v)[2], v.mean(dim=0), 1e-10)  # all nodes weigh alike
    poles = torch.stack([q[0], -3 * q[0]])
    near(rates(poles, poles), torch.eye(2), 1e-10)  # S = I gives V
    near(diffused(poles, poles, v[:2]), v[:2], 1e-10)


@pytest.mark.parametrize("name", ["small", "mid"])
def test_difformer_s_released_code_is_something_else(name):
    """It divides by the length of all features together: all weights are alike."""
    q, k, v = (golden_tensor("diin_diffusion", f"{name}/{letter}") for letter in "QKV")
    weight = 1 + (q / q.norm()) @ (k / k.norm()).T
    S = weight / weight.sum(dim=-1, keepdim=True)
    theirs = golden_tensor("diin_diffusion", f"{name}/difformer_frobenius_P")
    near(S @ v, theirs, 1e-10)
    assert (diffused(q, k, v) - theirs).abs().max() > 0.05
    assert (rates(q, k) * len(q) - 1).abs().max() > 5 * (S * len(q) - 1).abs().max()


# ATD


@torch.no_grad()
def test_attention_equals_atd_s():
    """Where every token has a temperature, 1 / (1 + scale ln M); ours have one."""
    attention = CrossAttention(8, 2)
    state = {
        key.replace("w", "", 1) if key.startswith("w") else "log_tau": value
        for key, value in golden_state("atd_ca", "sd/").items()
    }
    M = len(state["log_tau"])
    state["log_tau"] = -(1 + state["log_tau"].clamp(0, 1) * torch.tensor(M).log()).log()
    attention.log_tau = nn.Parameter(torch.zeros(M))
    attention.load_state_dict(state)
    attn, A = attention(
        golden_tensor("atd_ca", "in/x"), golden_tensor("atd_ca", "in/td")
    )
    near(attn, golden_tensor("atd_ca", "out/x"), 1e-6)
    near(A, golden_tensor("atd_ca", "out/attn"), 1e-6)
    near(A.sum(dim=-1), torch.ones(A.shape[:2]), 1e-6)


@torch.no_grad()
def test_refinement_equals_atd_s_with_old_and_new_exchanged():
    """sigma(-x) = 1 - sigma(x): theirs is the weight of the old tokens."""
    A, x = golden_tensor("atd_ca", "out/attn"), golden_tensor("atd_ca", "refine/x_new")
    refine, moments = Refinement(6), token_moments(A)
    refine.scale.data = golden_tensor("atd_ca", "refine/in_weight")
    refine.sigma_logit.data = -golden_tensor("atd_ca", "refine/sigma")
    D = refine(golden_tensor("atd_ca", "in/td"), refine.summarise(A, x, moments))
    near(D, golden_tensor("atd_ca", "refine/td_out"))
    nodes = torch.eye(12).expand(2, -1, -1)
    new = refine.summarise(A, nodes, moments)  # the weight of each node
    near(new.total / new.weight, golden_tensor("atd_ca", "refine/mask"))


@pytest.mark.parametrize("size", [1, 1e4])
@pytest.mark.parametrize("cuts", [(1,), (10, 11, 40), tuple(range(1, 50))])
def test_softmax_sums_add_up_in_any_order(cuts, size):
    """With a mean of 0 and a variance of 1, A itself is the exponent."""
    A, x = size * torch.randn(2, 50, 6).double(), torch.randn(2, 50, 3)
    expected = A.softmax(dim=1).mT @ x.double()
    refine, ones = Refinement(6), torch.ones(2, 6).double()
    moments = Moments(torch.tensor(1), 0 * ones, ones - 1e-5)
    parts = [
        refine.summarise(*nodes, moments)
        for nodes in zip(A.tensor_split(cuts, 1), x.tensor_split(cuts, 1), strict=True)
    ]
    for order in (range(len(parts)), torch.randperm(len(parts)).tolist()):
        both = reduce(add, [parts[k] for k in order])
        near(both.total / both.weight, expected, 1e-8)


@pytest.mark.parametrize("cut", [1, 25])
def test_moments_of_two_parts_are_moments_of_all(cut):
    A = torch.rand(2, 50, 6)
    both = add(token_moments(A[:, :cut]), token_moments(A[:, cut:]))
    mean = both.total / both.number
    near(mean, A.mean(dim=1), 1e-6)
    variance = both.squares / both.number - mean.square()
    near(variance, A.var(dim=1, correction=0), 1e-6)


# The model


def refined(refine: Refinement, A, x, D):
    """Eq. 17 as printed."""
    weight = F.instance_norm(A.mT, weight=refine.scale).softmax(dim=-1)
    sigma = refine.sigma_logit.sigmoid()
    return sigma * weight @ x + (1 - sigma) * D


def as_printed(model, features, queries, cell):
    """Eq. 5 to 17 with all pairs of queries at once, one after another."""
    z, dictionary = model.sample(features, queries, cell), model.options.dictionary
    attn, A, D = 0, None, None
    if dictionary:
        x, D = model.lift(features.latent.flatten(2).mT), model.tokens
        D = refined(model.refine[0], model.first.attend(x, D), x, D)
    for k, layer in enumerate(model.layers):
        if dictionary:
            D = refined(model.refine[k], A, z, D) if k else D
            attn, A = layer.cross_attention(z, D)
        q, key, v = (
            layer.qkv(z).chunk(3, dim=-1) if layer.mixes else (None, None, layer.qkv(z))
        )
        P = rates(q, key) @ v if layer.mixes else v
        z = layer.out(P + attn) + layer.alpha * z
        z = z + layer.output(F.gelu(layer.hidden(z)))
    return model.head(z).view(*queries.shape, 3)


@torch.no_grad()
@every_case
def test_colours_equal_the_formulas_with_all_pairs(options):
    """Two pictures at once, which do not hear of each other."""
    model = diin(**options).double()
    features = model.encode(torch.rand(2, 3, 5, 6).double())
    queries = split_axes((torch.rand(2, 40, 1, 2) * 2 - 1).double())
    cell = make_cell((11, 13)).expand(2, 2).double()
    expected = as_printed(model, features, queries, cell)
    near(model.predict(features, queries, cell), expected, 1e-8)


@torch.no_grad()
def test_the_four_codes_come_by_their_weights():
    model, inputs = diin(), []
    model.embed.register_forward_hook(lambda _, args, out: inputs.append(args))
    features = model.encode(torch.rand(1, 3, 8, 10))
    coord, cell = torch.rand(1, 30, 1, 2) * 1.6 - 0.8, make_cell((20, 40))[None]
    ones = features._replace(grid=torch.ones(1, 8, 10, 8))
    for each in (features, ones):
        model.sample(each, split_axes(coord), cell)
    (sampled, offsets, pixel), (weight, *_) = inputs
    four = sampled.unflatten(-1, (4, 8)).sum(dim=-2)
    near(four, bilinear(features.grid, coord))
    offset = offsets.unflatten(-1, (4, 2)) / 2  # in low-resolution pixels
    rows, cols = to_position(coord[..., 0], 8), to_position(coord[..., 1], 10)
    near(offset[..., 0, :], torch.stack([rows, cols], dim=-1) % 1)
    near(weight[..., ::8], (1 - offset.abs()).prod(dim=-1))
    near(pixel, torch.tensor([[2 / 2.5, 2 / 4]]))


@torch.no_grad()
@pytest.mark.parametrize("paeb", [True, False])
def test_only_paeb_knows_the_size_of_a_pixel(paeb):
    model = diin(paeb=paeb)
    features, (coord, cell) = model.encode(torch.rand(1, 3, 5, 6)), grid(11, 13)
    one, other = (model.decode(features, coord, c) for c in (cell, cell / 2))
    assert torch.equal(one, other) != paeb


@torch.no_grad()
@pytest.mark.parametrize(
    "diffusion, dictionary, layers, queries_matter",
    [
        ("cosine", True, 2, True),
        ("cosine", False, 1, True),
        ("identity", False, 2, False),
        ("identity", True, 1, False),  # tokens have met the latent codes only
        ("identity", True, 2, True),  # tokens have met the queries
    ],
)
def test_who_hears_of_whom(diffusion, dictionary, layers, queries_matter):
    """One query in a corner, while the others move and codes far away change."""
    model = diin(diffusion=diffusion, dictionary=dictionary, layers=layers)
    features, cell = model.encode(torch.rand(1, 3, 6, 6)), make_cell((12, 12))[None]
    coord = torch.rand(1, 9, 1, 2)
    coord[:, 0] = -0.9
    moved = torch.cat([coord[:, :1], coord[:, 1:].flip(-1)], dim=1)
    latent = features.latent.clone()
    latent[..., 3:, 3:] += 1
    changed = features._replace(latent=latent)  # what queries sample stays

    first = model.decode(features, coord, cell)[:, :, 0]
    other_queries = model.decode(features, moved, cell)[:, :, 0]
    other_codes = model.decode(changed, coord, cell)[:, :, 0]
    assert ((first - other_queries).abs().max() > 1e-5) == queries_matter
    assert ((first - other_codes).abs().max() > 1e-5) == dictionary


@torch.no_grad()
def test_each_latent_code_and_each_query_is_counted_once():
    """A strip of tiles, whose margins see some codes more often than others."""
    model, lr, size = diin(), torch.rand(1, 3, 4, 70), (9, 150)
    whole = render(model, lr, size)

    def pieces(every_code=False):
        strip = partial(encode, model, lr)
        for piece, window in encoded_tiles(strip, (4, 70), size, (0, 0, *size), 12):
            if every_code:
                features = piece.features._replace(inner=(slice(None), slice(None)))
                piece = piece._replace(features=features)
            yield piece, window

    totals = Totals(model, pieces, size)
    first, window = next(pieces())
    colours = next(filter(None, decode_rows(model, first, size, window, totals)))[1]
    near(colours, whole[:, :, : window[3]])
    moments, _, *over_queries = totals.known
    assert moments.number == 4 * 70
    assert [sums[0].number for sums in over_queries] == [9 * 150] * 2
    twice = Totals(model, partial(pieces, every_code=True), size)
    list(twice.gather())
    assert twice.known[0].number > 4 * 70


# Options


@pytest.mark.parametrize(
    "layers, count",
    [(1, 2_194_911), (2, 2_688_482), (3, 3_182_053), (4, 3_675_624)],
)
def test_parameters_at_paper_size(layers, count):
    """The paper's encoder has 24 frozen numbers more, for the mean colours."""
    assert count_parameters(build("diin", "paper", layers=layers)) + 24 == count
    method = f"DIIN(N={layers}) [Table 4]"
    (row,) = paper_rows(paper="DIIN", method=method, metric="Params_M")
    assert row["value"] == f"{count / 1e6:.1f}"


def test_a_plain_layer_needs_no_query_and_no_key():
    full, without = (
        count_parameters(build("diin", "tiny", diffusion=diffusion))
        for diffusion in ("cosine", "identity")
    )
    assert full - without == 2 * 2 * (32**2 + 32)


@every_case
def test_variants_start_as_bilinear_and_all_of_them_trains(options):
    model = build("diin", "tiny", **options)
    lr, coord = torch.rand(2, 3, 6, 6), torch.rand(2, 9, 1, 2) * 2 - 1
    cell = make_cell((12, 12)).expand(2, 2)
    near(model(lr, coord, cell), bilinear(lr.movedim(1, -1), coord).movedim(-1, 1))
    awake(model)(lr, coord, cell).square().mean().backward()
    idle = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() < 1e-9
    }
    # Values of the tokens for latent codes are not used, but the paper counts them.
    assert idle <= {"first.v.weight", "first.v.bias"}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"width": 30}, "width 30 is no multiple"),
        ({"diffusion": "heat"}, "choose from"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(UserError, match=words):
        build("diin", "tiny", **options)
