"""The parts of IDM's networks: implicit upsampling, equalised layers, the mix."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import near
from torch import nn

from asr_course.models.conditioning import EqualisedConv, ScaleMix, blur
from asr_course.models.unet import ImplicitUp


def by_hand(up: ImplicitUp, h: torch.Tensor, size, activation) -> torch.Tensor:
    """Eq. 9 one pixel at a time, in whole numbers: of two centres the later one."""
    B, C, rows, cols = h.shape
    found = torch.empty(B, C, *size)
    first, second = up.mlp.layers
    for i in range(size[0]):
        for j in range(size[1]):
            k = (2 * i + 1) * rows // (2 * size[0])
            m = (2 * j + 1) * cols // (2 * size[1])
            down = (2 * i + 1) * rows / size[0] - 1 - 2 * k
            right = (2 * j + 1) * cols / size[1] - 1 - 2 * m
            away = torch.tensor([down, right]).expand(B, 2)
            x = first(torch.cat([h[:, :, k, m], away], dim=1))
            found[:, :, i, j] = second(x.relu() if activation else x)
    return found


@torch.no_grad()
@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize("size", [(3, 5), (6, 10), (7, 9), (2, 13), (1, 1)])
def test_implicit_up_asks_the_nearest_feature_pixel_by_pixel(size, activation):
    up, h = ImplicitUp(4, 32), torch.randn(2, 4, 3, 5)
    near(up(h, size, activation), by_hand(up, h, size, activation))
    assert not activation or torch.equal(up(h, size), up(h, size, True))


def test_equalised_convolutions_keep_the_size_of_their_input():
    layer, x = EqualisedConv(24, 64), torch.randn(1, 24, 40, 40)
    assert not layer.bias.any()
    assert layer.weight.std().item() == pytest.approx(1, abs=0.05)
    expected = F.conv2d(x, layer.weight / math.sqrt(9 * 24), layer.bias, padding=1)
    near(layer(x), expected, 1e-5)
    assert layer(x)[..., 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.1)
    assert EqualisedConv(24, 8, stride=2)(x[..., :39, :31]).shape[2:] == (20, 16)


def test_blur_is_the_outer_product_and_sums_to_one():
    spot = torch.zeros(1, 2, 5, 6)
    spot[0, 1, 2, 3] = 25
    expected = torch.outer(*[torch.tensor([1.0, 3, 1])] * 2)
    near(blur(spot)[0, 1, 1:4, 2:5], expected)
    near(blur(spot).sum(), torch.tensor(25))
    assert not blur(spot)[0, 0].any()  # channels do not mix


@torch.no_grad()
def test_weights_add_up_squared_and_are_equal_at_first_at_scale_0():
    mix = ScaleMix(16)
    for x in mix(torch.zeros(1), True):
        near(x, torch.full((16, 1, 1), 0.5**0.5), 1e-6)
    nn.init.normal_(mix.alpha.weight)
    nn.init.normal_(mix.alpha.bias)
    for scale in (1.0, 3.7, 12.0):
        a, b = mix(torch.tensor([scale]), False)
        plus_a, plus_b = mix(torch.tensor([scale]), True)
        near(a**2 + b**2, torch.ones(16, 1, 1), 1e-5)
        assert (a < 0).any() and (b < 0).any()
        near(plus_a, a.abs(), 0)
        near(plus_b, b.abs(), 0)
