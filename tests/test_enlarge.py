"""Pictures in, pictures out; and the scales and sizes that are refused.

A fresh model with `skip` is bilinear interpolation, so that what comes out is known
without the package. Pictures of every mode are in test_properties.py.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import awake, picture, tiny
from PIL import Image

from asr_course import build
from asr_course.coords import make_cell, make_coord
from asr_course.enlarge import check_size, upscale
from asr_course.errors import UserError
from asr_course.images import to_tensor


@pytest.fixture
def bilinear_model():
    return build("liif", "tiny", skip=True, hidden=(4,)).eval()


def assert_bilinear(result: Image.Image, pixels: np.ndarray, size) -> None:
    """Equal to torch's enlargement of (H, W, C) or (H, W) uint8, but for rounding."""
    assert result.size == size[::-1]
    planes = torch.tensor(np.atleast_3d(pixels).copy()).movedim(-1, 0)[None].double()
    planes = F.interpolate(planes, size, mode="bilinear", align_corners=False)
    expected = planes[0].movedim(0, -1).numpy().reshape(*size, *pixels.shape[2:])
    assert np.abs(np.asarray(result).astype(float) - expected).max() < 0.501


# Sizes


@pytest.mark.parametrize(
    "how, words",
    [
        ({"scale": 0}, "1 or more"),
        ({"scale": 0.5}, "Pillow"),
        ({"scale": math.nan}, "a number"),
        ({"scale": math.inf}, "a number"),
        ({"scale": 10**400}, "a number"),
        ({"scale": 2000}, "268435456 pixels"),
        ({"size": (9, 40)}, "smaller"),
        ({"size": (40, 19)}, "smaller"),
        ({"size": (0, 40)}, "smaller"),
        ({"size": (2**15, 2**14)}, "--max-pixels"),
        ({}, "either"),
        ({"scale": 2, "size": (40, 40)}, "either"),
    ],
)
def test_senseless_sizes_are_refused(how, words):
    with pytest.raises(UserError, match=words):
        check_size((10, 20), **how)


@pytest.mark.parametrize(
    "how, expected",
    [
        ({"scale": 1}, (10, 21)),
        ({"scale": 2.5}, (25, 53)),
        ({"scale": 3.7}, (37, 78)),
        ({"size": (10, 21)}, (10, 21)),
        ({"size": [11, 80]}, (11, 80)),
        ({"scale": 4, "max_pixels": 40 * 84}, (40, 84)),
    ],
)
def test_sizes(how, expected):
    assert check_size((10, 21), **how) == expected


def test_pixel_limit_is_exact():
    with pytest.raises(UserError, match="3359 pixels"):
        check_size((10, 21), scale=4, max_pixels=40 * 84 - 1)


# Pictures


@pytest.mark.parametrize(
    "given, scale, size",
    [
        ((7, 11), 2.5, (18, 28)),
        ((1, 1), 4, (4, 4)),
        ((1, 9), 3, (3, 27)),
        ((9, 1), 1.3, (12, 1)),
        ((13, 5), 1, (13, 5)),
        ((2, 3), 30, (60, 90)),
    ],
)
def test_odd_sizes(bilinear_model, given, scale, size):
    pixels = picture(*given)
    result = upscale(bilinear_model, Image.fromarray(pixels), scale)
    assert result.mode == "RGB"
    assert_bilinear(result, pixels, size)


def test_upscale_equals_the_definition():
    """Not only for the bilinear model: a random one, through tiles and rounding."""
    model, pixels, size = tiny(), picture(9, 14), (33, 40)
    with torch.no_grad():
        grid = make_coord(size)[None], make_cell(size)[None]
        expected = model(to_tensor(pixels), *grid)[0].clamp(0, 1) * 255
    found = np.asarray(upscale(model, Image.fromarray(pixels), size=size))
    assert np.abs(found - expected.movedim(0, -1).numpy()).max() < 0.501


def test_a_file_of_grey_with_transparency(bilinear_model, tmp_path):
    """Grey by the model, transparency by Pillow's bicubic."""
    image = Image.fromarray(picture(6, 5)[..., 0])
    alpha = Image.fromarray(picture(6, 5, seed=1)[..., 0])
    image.putalpha(alpha)
    image.save(tmp_path / "grey.png")
    result = upscale(bilinear_model, tmp_path / "grey.png", 2)
    assert result.mode == "LA"
    assert_bilinear(result.getchannel("L"), np.asarray(image)[..., 0], (12, 10))
    expected = alpha.resize((10, 12), Image.Resampling.BICUBIC)
    assert np.array_equal(result.getchannel("A"), expected)


def test_the_model_is_left_as_it_was():
    """Rendering neither trains nor switches anything."""
    model = tiny().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    upscale(model, Image.fromarray(picture(4, 4)), 2)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


# Models that draw their picture


def test_a_drawn_picture_is_that_of_its_steps_and_seed():
    idm, pixels, size = awake(build("idm", "tiny")), picture(4, 5), (9, 13)
    for how in ({}, {"steps": 3}, {"steps": 3, "seed": 2}):
        done = []
        image = Image.fromarray(pixels)
        found = upscale(idm, image, size=size, on_progress=done.append, **how)
        expected = idm.sample(to_tensor(pixels), size, **how)[0]
        expected = (255 * expected).round().byte().movedim(0, -1).numpy()
        assert np.array_equal(found, expected)
        steps = how.get("steps", 25)
        assert done == [1 / steps] * steps


def test_grey_and_transparency_of_drawn_pictures():
    image = Image.fromarray(picture(4, 5)).convert("L")
    image.putalpha(100)
    result = upscale(awake(build("idm", "tiny")), image, 2, steps=2)
    assert result.mode == "LA" and result.getpixel((3, 3))[1] == 100


@pytest.mark.parametrize("steps", [0, 1001])
def test_senseless_steps_are_refused(steps):
    with pytest.raises(UserError, match="from 1 to 1000"):
        upscale(build("idm", "tiny"), Image.fromarray(picture(4, 5)), 2, steps=steps)
