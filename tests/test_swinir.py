"""SwinIR: official numbers, a slow reference for its windows, and tiles that fit."""

import pytest
import torch
import torch.nn.functional as F
from helpers import awake, golden_state, golden_tensor, near
from torch import nn

from asr_course import count_parameters
from asr_course.models.liif import LIIF, LIIFOptions
from asr_course.official import from_official
from asr_course.profile import encoder_macs, multiplications
from asr_course.render import render
from asr_course.swinir import SwinIR, WindowAttention, mirror, reach

SIZES = [((2, 2), 4), ((1,), 4), ((1, 1), 3), ((3, 2), 5), ((2,), 2)]  # depths, window


def small(depths, window) -> SwinIR:
    """A SwinIR in float64 whose layers carry far."""
    encoder = SwinIR(8, depths, heads=2, window=window, hidden=16, channels=8).double()
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data *= 5
    return encoder


# Official numbers


@torch.no_grad()
@pytest.mark.parametrize("name", ["x", "x_odd"])
def test_equals_the_official_code(name):
    """Which does not cut its output for 10 x 13 pixels back from 12 x 16."""
    encoder = SwinIR(12, (2, 2), heads=2, window=4, hidden=24)
    state = golden_state("swinir", "sd/")
    named = from_official({f"encoder.{key}": value for key, value in state.items()})
    state = {key.removeprefix("encoder."): value for key, value in named.items()}
    encoder.load_state_dict(state)
    lr = golden_tensor("swinir", f"in/{name}")
    rows, cols = lr.shape[-2:]
    near(encoder(lr), golden_tensor("swinir", f"out/{name}")[..., :rows, :cols])


def test_parameters_at_paper_size():
    with torch.device("meta"):
        encoder = SwinIR()
    assert count_parameters(encoder) == 11_603_044
    # 3 + 7 pixels for a first window, 4 for each of 35 others, 1 for the head
    assert encoder.radius == 3 + 7 + 4 * 35 + 1


def test_every_weight_learns():
    encoder = small((2, 2), 4)
    encoder(torch.rand(1, 3, 9, 9).double()).square().sum().backward()
    idle = [key for key, p in encoder.named_parameters() if not p.grad.any()]
    assert idle == []


def test_multiplications_are_those_that_are_run():
    encoder = small((2, 1), 4).eval()
    lr = torch.rand(1, 3, 8, 12).double()
    assert multiplications(lambda: encoder(lr)) == 8 * 12 * encoder_macs(encoder)


# Pieces


def test_the_picture_is_continued_by_its_mirror_image():
    x = torch.rand(2, 3, 11, 13)
    assert torch.equal(mirror(x, 8), F.pad(x, (0, 3, 0, 5), "reflect"))
    rows = mirror(torch.arange(3.0).view(1, 1, 3, 1), 8)[0, 0, :, 0]
    assert rows.tolist() == [0, 1, 2, 1, 0, 1, 2, 1]  # to and fro
    assert torch.equal(mirror(x[..., :1, :1], 8), x[..., :1, :1].expand(2, 3, 8, 8))


def slow_attention(layer: WindowAttention, x):
    """By the definition, pixel by pixel: (H, W, C) -> (H, W, C), in float64.

    A pixel attends to its window; windows are counted from row and column `shift`.
    """
    H, W, C = x.shape
    d, w, s = C // layer.heads, layer.window, layer.shift
    q, k, v = (x @ layer.qkv.weight.mT + layer.qkv.bias).split(C, dim=-1)
    places = [(r, c) for r in range(H) for c in range(W)]
    result = torch.zeros_like(x)
    for r, c in places:
        window = [
            (i, j)
            for i, j in places
            if ((i - s) // w, (j - s) // w) == ((r - s) // w, (c - s) // w)
        ]
        for h in range(layer.heads):
            part = slice(h * d, (h + 1) * d)
            logits = [
                (q[r, c, part] * k[i, j, part]).sum() / d**0.5
                + layer.bias[(r - i + w - 1) * (2 * w - 1) + c - j + w - 1, h]
                for i, j in window
            ]
            attn = torch.stack(logits).softmax(0)
            values = torch.stack([v[i, j, part] for i, j in window])
            result[r, c, part] = attn @ values
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
    model.encoder.align = 1  # as if tiles could begin anywhere
    assert gap() > 1e-3
    model.encoder.align = window
    model.__class__ = OnePixelShort
    assert gap() > 1e-9
