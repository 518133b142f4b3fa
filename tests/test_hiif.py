"""HIIF: official numbers, digits, and attention that does not mind how it is cut."""

import pytest
import torch
import torch.nn.functional as F
from helpers import awake, golden_state, golden_tensor, near

from asr_course import build, count_parameters
from asr_course.coords import make_cell, make_coord, split_axes, to_position
from asr_course.encoders import EDSR
from asr_course.errors import UserError
from asr_course.layers import bilinear
from asr_course.models.hiif import HIIF, HIIFOptions, bracket, digits
from asr_course.models.linear_attention import LinearAttention
from asr_course.official import from_official

LEVELS = 6

# What the public code calls our modules.
NAMES = {
    "freq.": "project.",
    "fc_layers.": "levels.",
    ".fc1.": ".hidden.",
    ".fc2.": ".output.",
    "conv0.": "attention.0.",
    "conv1.": "attention.1.",
    "qkv_proj.": "qkv.",
    "kln.": "norm_k.",
    "vln.": "norm_other.",
    "proj1.": "mix1.",
    "proj2.": "mix2.",
}


def public_model() -> HIIF:
    """The golden weights."""
    state = {}
    for key, value in golden_state("hiif", "sd/").items():
        for theirs, ours in NAMES.items() if not key.startswith("encoder.") else ():
            key = key.replace(theirs, ours)
        state[key] = value
    model = HIIF(EDSR(2, 16), HIIFOptions(width=16, inner=256, heads=4))
    model.load_state_dict(from_official(state))
    return model.eval()


def stored_digits(prefix: str, shape) -> torch.Tensor:
    """The digits that the public code found: (B, h, w, 2, L)."""
    levels = [golden_tensor("hiif", f"mid/{prefix}hi_coord_{k}") for k in range(LEVELS)]
    stored = torch.stack(levels, dim=-1)  # (1 or 2, h w, 2, L)
    return stored.expand(shape[0], -1, -1, -1).unflatten(1, shape[1:3])


def alone(block: LinearAttention, x: torch.Tensor) -> torch.Tensor:
    """Attention among these queries only."""
    return block(x, block.summarise(x))


# Public numbers


@torch.no_grad()
@pytest.mark.parametrize("name, prefix, out", [("", "", "x"), ("_x2", "x2_", "x2")])
def test_equals_the_public_code_with_its_digits(name, prefix, out):
    model = public_model()
    features = model.encode(golden_tensor("hiif", "in/inp") * 0.5 + 0.5)
    near(features.grid.movedim(-1, 1), golden_tensor("hiif", "out/feat"))
    coord = golden_tensor("hiif", f"in/coord{name}")
    cell = golden_tensor("hiif", f"in/cell{name}")
    digit = stored_digits(prefix, coord.shape)
    rgb = model.predict(features, split_axes(coord), cell, own_digits=digit)
    rgb = rgb + bilinear(features.lr.movedim(1, -1), coord)
    near(rgb.movedim(-1, 1), golden_tensor("hiif", f"out/{out}"))


@torch.no_grad()
def test_layers_equal_the_public_ones():
    model = public_model()
    features = model.encode(golden_tensor("hiif", "in/inp") * 0.5 + 0.5)
    coord, cell = golden_tensor("hiif", "in/coord"), golden_tensor("hiif", "in/cell")
    inputs, _ = model.codes(features, split_axes(coord), cell)
    digit = stored_digits("", coord.shape)[..., 0]
    x = model.levels[0](torch.cat([inputs, digit], dim=-1))
    near(x[:1].flatten(1, 2), golden_tensor("hiif", "mid/fc0_out"))
    for k, block in enumerate(model.attention):
        x = alone(block, x)
        near(x[:1].flatten(1, 2), golden_tensor("hiif", f"mid/attn{k}_out"))


def test_our_digits_differ_from_the_public_ones_only_on_borders():
    """Where a place is not within a thousandth of a border of digits, and inside."""
    coord = golden_tensor("hiif", "in/coord")[:1]
    rows, cols = (to_position(coord[..., k], n) for k, n in enumerate((7, 9)))
    places = torch.stack([bracket(rows, 7)[2], bracket(cols, 9)[2]], dim=-1)
    clear = ((places * 2**LEVELS + 0.5) % 1 - 0.5).abs() > 0.001 * 2**LEVELS
    clear &= torch.stack([rows, cols], dim=-1) > 0
    public = stored_digits("", coord.shape)
    assert torch.equal(digits(places, LEVELS)[clear], public[clear])
    assert clear.float().mean() > 0.8


@pytest.mark.parametrize("encoder, count", [(None, 2_955_511), ("rdn", 23_709_023)])
def test_parameters_at_paper_size(encoder, count):
    frozen = 0 if encoder else 24
    assert count_parameters(build("hiif", "paper", encoder)) + frozen == count


# Digits


def test_digits_rebuild_the_place():
    place = torch.rand(1000)
    digit = digits(place, 10)
    assert set(digit.unique().tolist()) == {0, 1}
    rebuilt = (digit / 2.0 ** torch.arange(1, 11)).sum(-1)
    assert ((place + 1e-4 - rebuilt) >= 0).all()
    assert ((place + 1e-4 - rebuilt) < 2**-10 + 1e-6).all()


def test_digits_by_hand():
    place = torch.tensor([0, 0.25, 0.5, 0.625, 0.999])
    expected = [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1], [1, 1, 1]]
    assert digits(place, 3).tolist() == expected


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("n", [7, 48, 100])
def test_equal_places_have_equal_digits_at_whole_scales(scale, n):
    """The same place between two codes, whatever its row: rounding does not decide."""
    position = to_position(make_coord((n * scale, 1))[:, 0, 0], n)
    (before, _), (after, _), place = bracket(position, n)
    digit, inside = digits(place, LEVELS), before != after
    for k in range(scale):
        same = digit[(torch.arange(n * scale) % scale == k) & inside]
        assert (same == same[0]).all()


def test_bracket_gives_codes_weights_and_places():
    position = torch.tensor([-0.4, 0.0, 0.3, 2.0, 3.25])
    (before, a), (after, b), place = bracket(position, 4)
    assert before.tolist() == [0, 0, 0, 2, 3]
    assert after.tolist() == [0, 1, 1, 3, 3]
    near(a + b, torch.ones(5))
    near(b, torch.tensor([0.5, 0, 0.3, 0, 0.5]))
    near(place, torch.tensor([0.4, 0, 0.3, 0, 0.25]))


# Attention


def test_linear_attention_equals_all_pairs():
    """q (k^T v) / n is the attention of every query to every other, pair by pair."""
    block = LinearAttention(8, 2, "code").double()
    x = torch.rand(1, 3, 5, 8).double()
    q, k, v = (block.project(x, part) for part in range(3))
    k, v, n = block.norm_k(k), block.norm_other(v), 15
    attn = torch.zeros_like(q)
    for a in range(n):
        for b in range(n):
            weight = (q[:, :, a] * k[:, :, b]).sum(-1, keepdim=True)
            attn[:, :, a] += weight * v[:, :, b] / n
    y = attn.transpose(1, 2).reshape(x.shape) + x
    expected = block.mix2(F.gelu(block.mix1(y))) + x
    near(alone(block, x), expected, 1e-10)


def test_attention_as_printed_equals_all_pairs():
    """Eq. 10: v (k^T q) / sqrt(n), and nothing after it."""
    block, n = LinearAttention(8, 2, "paper").double(), 15
    x = torch.rand(1, 3, 5, 8).double()
    q, k, v = (block.project(x, part) for part in range(3))
    k, q = block.norm_k(k), block.norm_other(q)
    attn = torch.einsum("bnid,bnjd,bnje->bnie", v, k, q) / n**0.5
    near(alone(block, x), attn.transpose(1, 2).reshape(x.shape) + x, 1e-6)


def test_the_paper_s_attention_grows_with_the_number_of_queries():
    size = {}
    for name in ("code", "paper"):
        torch.manual_seed(0)
        block = LinearAttention(32, 4, name)
        for n in (1024, 65536):
            x = torch.randn(1, n, 1, 32)
            size[name, n] = (alone(block, x) - x).std()
    assert size["paper", 65536] > 4 * size["paper", 1024]
    assert 0.5 < size["code", 65536] / size["code", 1024] < 2


@torch.no_grad()
@pytest.mark.parametrize("attention", [True, False])
def test_queries_hear_of_each_other_only_through_attention(attention):
    model = awake(build("hiif", "tiny", attention=attention))
    features = model.encode(torch.rand(1, 3, 5, 6))
    coord, cell = make_coord((11, 13))[None], make_cell((11, 13))[None]
    whole = model.decode(features, coord, cell)[:, :, :4]
    part = model.decode(features, coord[:, :4], cell)
    assert torch.allclose(whole, part, atol=1e-5) != attention


# Options


@pytest.mark.parametrize("options", HIIF.ABLATIONS.values(), ids=HIIF.ABLATIONS)
def test_variants_train_and_start_as_bilinear(options):
    model = build("hiif", "tiny", **options)
    lr, coord = torch.rand(2, 3, 6, 6), torch.rand(2, 9, 1, 2) * 2 - 1
    rgb = model(lr, coord, make_cell((12, 12)).expand(2, 2))
    near(rgb, bilinear(lr.movedim(1, -1), coord).movedim(-1, 1))
    rgb.square().mean().backward()
    assert model.levels[-1].output.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    "options, words",
    [
        ({"width": 30}, "multiple of heads"),
        ({"levels": 0.5}, "levels must be like 6"),
        ({"variant": "papr"}, "choose from"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(UserError, match=words):
        build("hiif", "tiny", **options)
