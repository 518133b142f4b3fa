"""SwinIR: official numbers, a slow reference for its windows, and tiles that fit."""

import pytest
import torch
import torch.nn.functional as F
from helpers import awake, golden_state, golden_tensor, near
from torch import nn

from asr_course import build, count_parameters
from asr_course.encoders import ENCODERS
from asr_course.models.liif import LIIF, LIIFOptions
from asr_course.official import from_official
from asr_course.profile import macs_of_latent, multiplications
from asr_course.render import encode, render
from asr_course.states import load_state
from asr_course.swinir import (
    SwinIR,
    WindowAttention,
    cut,
    join,
    mirrored,
    reach,
    steps_between,
)

SIZES = [((2, 2), 4), ((1,), 4), ((1, 1), 3), ((3, 2), 5), ((2,), 2)]  # depths, window


def small(depths, window) -> SwinIR:
    """A SwinIR in float64 whose layers carry far."""
    encoder = SwinIR(8, depths, heads=2, window=window, hidden=16, channels=8).double()
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data *= 5
    return encoder


# Official numbers


def official_swinir() -> SwinIR:
    """The golden network."""
    encoder = SwinIR(12, (2, 2), heads=2, window=4, hidden=24)
    state = golden_state("swinir", "sd/")
    named = from_official({f"encoder.{key}": value for key, value in state.items()})
    state = {key.removeprefix("encoder."): value for key, value in named.items()}
    load_state(encoder, state, "golden file")
    return encoder.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["x", "x_odd"])
def test_equals_the_official_code(name):
    """Which does not cut its answer for 10 x 13 pixels back from 12 x 16."""
    lr = golden_tensor("swinir", f"in/{name}")
    rows, cols = lr.shape[-2:]
    expected = golden_tensor("swinir", f"out/{name}")
    assert expected.shape[-2:] == (12, 16)
    near(official_swinir()(lr), expected[..., :rows, :cols])


@pytest.mark.parametrize(
    "name, expected",
    [
        ("liif", 11_949_927),
        ("metasr", 12_048_164),
        ("lte", 12_096_871),
        ("diinn", 12_589_671),
        ("diif", 12_065_639),
        ("dlte", 11_941_607),
        ("hiif", 13_338_115),
    ],
)
def test_parameters_at_paper_size(name, expected):
    with torch.device("meta"):
        model = build(name, "paper", "swinir")
    assert count_parameters(model.encoder) == 11_603_044
    assert count_parameters(model) == expected


def test_what_build_makes_encodes_and_decodes():
    model = build("liif", "tiny", "swinir").eval()
    assert model.encoder.channels == 64 and model.align == 8
    assert render(awake(model), torch.rand(1, 3, 5, 9), (11, 20)).std() > 0.01


def test_every_weight_learns():
    encoder = small((2, 2), 4)
    encoder(torch.rand(1, 3, 9, 9).double()).square().sum().backward()
    still = [key for key, p in encoder.named_parameters() if not p.grad.any()]
    assert still == []


def test_multiplications_are_those_that_are_run():
    encoder = small((2, 1), 4).eval()
    lr = torch.rand(1, 3, 8, 12).double()
    assert multiplications(lambda: encoder(lr)) == 8 * 12 * macs_of_latent(encoder)


# Pieces


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 11])
def test_the_picture_is_continued_by_its_mirror_image(rows):
    x = torch.rand(2, 3, rows, 13)
    found = mirrored(x, 8)
    assert found.shape == (2, 3, 16 if rows > 8 else 8, 16)
    assert torch.equal(found[..., :rows, :13], x)
    below = -rows % 8
    if below < rows:  # what PyTorch can do
        assert torch.equal(found, F.pad(x, (0, 3, 0, below), "reflect"))


def test_a_small_picture_is_mirrored_to_and_fro():
    rows = mirrored(torch.arange(3.0).view(1, 1, 3, 1), 8)[0, 0, :, 0]
    assert rows.tolist() == [0, 1, 2, 1, 0, 1, 2, 1]


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (3, 9), (4, 8), (13, 2)])
def test_any_size_keeps_its_rows_and_columns(size):
    assert official_swinir()(torch.rand(2, 3, *size)).shape == (2, 64, *size)


def test_windows_are_counted_right_and_down_and_join_again():
    row, col = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    x = torch.stack([row, col], dim=-1)[None]  # (1, 4, 6, 2)
    windows = cut(x, 2)
    assert windows.shape == (1, 6, 4, 2)
    assert windows[0, 1].tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert windows[0, 3, 0].tolist() == [2, 0]
    assert torch.equal(join(windows, 2, 6), x)


def test_equal_steps_share_a_bias():
    steps = steps_between(3)
    assert steps.shape == (9, 9)
    assert sorted(steps.unique().tolist()) == list(range(25))
    assert (steps.diagonal() == 12).all()  # no step: the middle
    assert steps[4, 0] == steps[8, 4] == 18  # one down, one to the right
    assert steps[0, 4] == 6


def slow_attention(layer: WindowAttention, x):
    """By the definition, pixel by pixel: (H, W, C) -> (H, W, C), in float64.

    A pixel hears those in its window; windows are counted from row and column `shift`.
    """
    H, W, C = x.shape
    d, w, s = C // layer.heads, layer.window, layer.shift
    q, k, v = (x @ layer.qkv.weight.mT + layer.qkv.bias).split(C, dim=-1)
    places = [(r, c) for r in range(H) for c in range(W)]
    result = torch.zeros_like(x)
    for r, c in places:
        heard = [
            (i, j)
            for i, j in places
            if ((i - s) // w, (j - s) // w) == ((r - s) // w, (c - s) // w)
        ]
        for h in range(layer.heads):
            part = slice(h * d, (h + 1) * d)
            match = [
                (q[r, c, part] * k[i, j, part]).sum() / d**0.5
                + layer.bias[(r - i + w - 1) * (2 * w - 1) + c - j + w - 1, h]
                for i, j in heard
            ]
            share = torch.stack(match).softmax(0)
            result[r, c, part] = sum(
                a * v[i, j, part] for a, (i, j) in zip(share, heard, strict=True)
            )
    return result @ layer.out.weight.mT + layer.out.bias


@torch.no_grad()
@pytest.mark.parametrize("window, shift", [(4, 0), (4, 2), (3, 1)])
def test_attention_equals_a_slow_reference(window, shift):
    layer = WindowAttention(4, 2, window, shift).double()
    nn.init.normal_(layer.qkv.weight)
    nn.init.normal_(layer.bias)
    x = torch.randn(1, 2 * window, 3 * window, 4).double()
    near(layer(x)[0], slow_attention(layer, x[0]), 1e-12)


# Tiles


@pytest.mark.parametrize("depths, window", SIZES)
def test_radius_is_what_the_gradient_reaches(depths, window):
    """From some pixel of a window exactly so far, from none farther."""
    encoder = small(depths, window)
    start = -(-(encoder.radius + 2) // window) * window
    lr = torch.rand(1, 3, 2 * start + window, 2 * start + window).double()
    lr.requires_grad_()
    farthest = 0
    for pixel in range(start, start + window):
        latent = encoder(lr)[0, :, pixel, pixel].square().sum()
        (gradient,) = torch.autograd.grad(latent, lr)
        reached = gradient.abs().sum(dim=(0, 1)).nonzero()
        farthest = max(farthest, (reached - pixel).abs().max().item())
    assert farthest == encoder.radius == reach(depths, window)


def test_radius_at_paper_size():
    """3 + 7 pixels for a first window, 4 for each of 35 others, 1 for the head."""
    assert reach((6,) * 6, 8) == 3 + 7 + 4 * 35 + 1 == ENCODERS["swinir"]().radius


class Nowhere(LIIF):
    """A LIIF that claims that its tiles may begin anywhere."""

    align = 1


class OnePixelShort(LIIF):
    """A LIIF that claims to see one pixel less than it does."""

    @property
    def radius(self) -> int:
        return super().radius - 1


@pytest.mark.parametrize("depths, window", SIZES[:3])
def test_tiles_equal_the_whole_if_they_begin_at_windows(depths, window):
    model = awake(LIIF(small(depths, window), LIIFOptions(hidden=(16,)))).double()
    lr, size = torch.rand(1, 3, 41, 13).double(), (61, 20)
    expected = render(model, lr, size, tile=100)
    assert expected.std() > 0.1

    def gap() -> float:
        return (render(model, lr, size, tile=5) - expected).abs().max().item()

    assert gap() < 1e-10
    model.__class__ = Nowhere
    assert gap() > 1e-3
    model.__class__ = OnePixelShort
    assert gap() > 1e-9


@torch.no_grad()
def test_a_part_is_encoded_as_in_the_whole():
    """In float32, at every place and size of the part."""
    model = awake(LIIF(official_swinir(), LIIFOptions(hidden=(16,))))
    lr = torch.rand(1, 3, 50, 45)
    whole = model.encode(lr).latent
    for part in ((0, 0, 3, 4), (20, 21, 1, 1), (22, 17, 9, 10), (44, 38, 6, 7)):
        top, left, rows, cols = part
        found = encode(model, lr, part)
        assert found.top % 4 == found.left % 4 == 0
        near(found.inner().latent, whole[..., top : top + rows, left : left + cols])
