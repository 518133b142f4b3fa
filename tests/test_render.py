"""Tiles, windows and whole pictures: the same numbers whichever way they come."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import awake, picture, tiny
from PIL import Image

from asr_course import build, upscale
from asr_course.coords import make_cell, make_coord, output_size
from asr_course.encoders import EDSR, ENCODERS, RDN
from asr_course.errors import UserError
from asr_course.images import to_tensor
from asr_course.models import REGRESSION
from asr_course.models.liif import LIIF, LIIFOptions
from asr_course.profile import TensorMemory
from asr_course.render import (
    check_size,
    check_window,
    encode,
    finish,
    gather,
    gathering,
    render,
    render_tiles,
)

MODULE = import_module("asr_course.render")


class OnePixelShort(LIIF):
    """A LIIF that claims to see one pixel less than it does."""

    @property
    def radius(self) -> int:
        return super().radius - 1


def double_model(encoder, cls=LIIF, **options):
    """An untrained model in float64 whose convolutions carry far."""
    model = awake(cls(encoder, LIIFOptions(hidden=(16,), **options)))
    for module in model.encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data *= 2
    return model.double()


@torch.inference_mode()
def whole(model, lr, size):
    """The definition: encode everything, decode everything."""
    coord = make_coord(size)[None].to(lr)
    cell = make_cell(size)[None].to(lr)
    if lr.dtype == torch.float64:  # make_coord rounds to float32
        axes = [(2 * torch.arange(n).double() + 1) / n - 1 for n in size]
        coord = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)[None]
        cell = torch.tensor([[2 / n for n in size]], dtype=torch.float64)
    return model(lr, coord, cell)[0]


def gap(a, b) -> float:
    """The largest difference."""
    assert a.shape == b.shape
    return (a - b).abs().max().item()


# Tiles


SMALL_ENCODERS = {
    "edsr": lambda: EDSR(2, 8),
    "edsr-deeper": lambda: EDSR(4, 8),
    "rdn": lambda: RDN(channels=8, growth=8, blocks=2, layers=2),
}


@pytest.mark.parametrize("unfolding", [True, False])
@pytest.mark.parametrize("encoder", SMALL_ENCODERS)
def test_tiled_encoder_equals_whole_and_its_radius_is_tight(
    monkeypatch, encoder, unfolding
):
    """The margin is enough, and one pixel less would not be."""
    monkeypatch.setattr(MODULE, "TILE", 9)
    lr = torch.rand(1, 3, 41, 34, dtype=torch.float64)
    size = (71, 85)
    model = double_model(SMALL_ENCODERS[encoder](), feat_unfold=unfolding)
    expected = whole(model, lr, size)
    assert expected.std() > 0.05
    assert gap(render(model, lr, size), expected) < 1e-10
    model.__class__ = OnePixelShort
    assert gap(render(model, lr, size), expected) > 1e-6


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("size", [(29, 31), (58, 62), (87, 93), (73, 78), (240, 257)])
def test_seams_do_not_show_at_any_scale(monkeypatch, size, ensemble):
    """Tiles of three pixels, ties on their borders; also without the ensemble."""
    model = double_model(EDSR(1, 4), local_ensemble=ensemble)
    lr = torch.rand(1, 3, 29, 31, dtype=torch.float64)
    monkeypatch.setattr(MODULE, "TILE", 3)
    assert gap(render(model, lr, size), whole(model, lr, size)) < 1e-10


@pytest.mark.parametrize("tile", [1, 4, 13])
def test_tile_is_an_argument_and_does_not_change_the_answer(tile):
    model = double_model(EDSR(1, 4))
    lr = torch.rand(1, 3, 13, 11, dtype=torch.float64)
    expected = whole(model, lr, (31, 40))
    assert gap(render(model, lr, (31, 40), tile=tile), expected) < 1e-10
    pieces = list(render_tiles(model, lr, (31, 40), tile=tile))
    assert len(pieces) == -(-13 // tile) * -(-11 // tile)


def test_a_long_photograph_is_never_encoded_as_a_whole(monkeypatch, liif):
    """A tile and its margin are; each is decoded before the next one is encoded."""
    done, margin = [], liif.radius + 1
    original = {name: getattr(type(liif), name) for name in ("encode", "predict")}

    def encode(self, lr):
        done.append(("encoded", lr.shape[-1]))
        return original["encode"](self, lr)

    def predict(self, *queries):
        done.append(("decoded", 0))
        return original["predict"](self, *queries)

    monkeypatch.setattr(type(liif), "encode", encode)
    monkeypatch.setattr(type(liif), "predict", predict)
    for _ in render_tiles(liif, torch.rand(1, 3, 8, 200), (16, 400), tile=20):
        pass
    widths = [width for what, width in done if what == "encoded"]
    assert len(widths) == 10 and max(widths) == 20 + 2 * margin
    assert [what for what, _ in done] == ["encoded", "decoded"] * 10


@pytest.mark.parametrize("name", REGRESSION)
def test_a_longer_photograph_needs_no_more_memory(name):
    """Besides its own pixels, which are there before, and those that are done."""
    model, peaks = awake(build(name, "tiny")), []
    for cols in (120, 360):
        lr = torch.rand(1, 3, 20, cols)
        with TensorMemory() as memory:
            for _ in render_tiles(model, lr, (40, 2 * cols), tile=20):
                pass
        peaks.append(memory.peak)
    assert peaks[1] < 1.02 * peaks[0]


@pytest.mark.parametrize("queries", [1, 50, 333, 10**9])
def test_chunks_of_queries_equal_whole(monkeypatch, queries):
    """Also when a single row is more than a chunk."""
    model, lr = tiny(), torch.rand(1, 3, 12, 15)
    expected = whole(model, lr, (44, 56))
    monkeypatch.setattr(MODULE, "QUERIES", queries)
    pieces = list(render_tiles(model, lr, (44, 56)))
    assert len(pieces) == math.ceil(44 / min(44, max(1, queries // 56)))
    assert gap(render(model, lr, (44, 56)), expected) < 1e-6


@pytest.mark.parametrize("window", [None, (2, 3, 11, 9)])
@pytest.mark.parametrize("tile", [1, 5, 256])
def test_pieces_cover_every_pixel_once(monkeypatch, tile, window):
    monkeypatch.setattr(MODULE, "TILE", tile)
    model, lr = build("liif", "tiny", hidden=(4,)), torch.rand(1, 3, 6, 7)
    count = torch.zeros(window[2:] if window else (17, 21))
    for row, col, piece in render_tiles(model, lr, (17, 21), window):
        count[row : row + piece.shape[1], col : col + piece.shape[2]] += 1
    assert count.eq(1).all()


# Pieces and sums over all of them, for models whose queries hear from each other


def test_finish_returns_what_a_generator_returns():
    done = []

    def steps():
        for k in range(3):
            done.append(k)
            yield
        return "all"

    assert finish(steps()) == "all"
    assert done == [0, 1, 2]
    begun = steps()
    next(begun)
    assert finish(begun) == "all"


def near_sighted(name: str, rows: int = 10, cols: int = 9):
    """A model in float64 with a small radius, and an input for it."""
    model = awake(build(name, "tiny"))
    model.encoder = EDSR(1, model.encoder.channels)
    return model.double(), torch.rand(1, 3, rows, cols, dtype=torch.float64)


def all_numbers(sums: list) -> list[torch.Tensor]:
    """Every tensor of every sum, in order."""
    return [x for totals in sums for part in totals for x in vars(part).values()]


@torch.no_grad()
@pytest.mark.parametrize("name", ["hiif", "diin"])
def test_gathering_gives_way_after_each_part(monkeypatch, name):
    """Four rows of queries at a time, and latent codes all at once."""
    model, lr = near_sighted(name)
    size, asked = (16, 14), []
    pieces = [(encode(model, lr), (0, 0, *size))]
    expected = all_numbers(gather(model, lambda: asked.append(1) or pieces, size))
    assert len(asked) == len(model.sums)  # once for each pass
    monkeypatch.setattr(MODULE, "QUERIES", 4 * 14)
    steps = gathering(model, lambda: pieces, size)
    for over in model.sums:
        for _ in range(4 if over == "queries" else 1):
            next(steps)
    with pytest.raises(StopIteration) as end:
        next(steps)
    for a, b in zip(all_numbers(end.value.value), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_gathering_can_be_dropped_half_way(monkeypatch):
    """What was begun leaves nothing behind, and what was not dropped goes on."""
    monkeypatch.setattr(MODULE, "QUERIES", 4 * 14)
    model, lr = near_sighted("hiif")
    size, asked = (16, 14), []
    model.gather = lambda *args, gather=model.gather: asked.append(1) or gather(*args)
    pieces = [(encode(model, lr), (0, 0, *size))]
    dropped, kept = (gathering(model, lambda: pieces, size) for _ in range(2))
    for _ in range(5):  # into the second pass
        next(dropped)
        next(kept)
    dropped.close()
    assert len(asked) == 2 * 5
    found, expected = finish(kept), gather(model, lambda: pieces, size)
    assert len(asked) == 5 + 8 + 8
    for a, b in zip(all_numbers(found), all_numbers(expected), strict=True):
        assert torch.equal(a, b)


def test_gathering_for_a_model_without_sums_asks_for_nothing():
    assert gather(tiny(), lambda: 1 / 0, (4, 4)) == []


@torch.no_grad()
@pytest.mark.parametrize(
    "part", [(0, 0, 4, 3), (19, 15, 5, 6), (0, 5, 24, 1), (13, 9, 1, 1), (0, 0, 24, 21)]
)
@pytest.mark.parametrize("name", ["liif", "hiif", "diin"])
def test_inner_features_are_those_of_the_whole_picture(name, part):
    """In the middle and at borders, where the margin is cut off."""
    model, lr = near_sighted(name, 24, 21)
    top, left, rows, cols = part
    box = slice(top, top + rows), slice(left, left + cols)
    all, found = model.encode(lr), encode(model, lr, part).inner()
    assert gap(found.lr, all.lr[:, :, *box]) == 0
    assert gap(found.latent, all.latent[:, :, *box]) < 1e-12
    assert gap(found.content, all.content[:, *box]) < 1e-12
    assert found.content.std() > 0.01


@pytest.mark.parametrize("name", ["hiif", "diin"])
def test_one_tile_is_encoded_once_and_several_give_the_same(monkeypatch, name):
    """Passes over one tile share its features; of several only the last is kept."""
    model, lr = near_sighted(name)
    passes, calls = len(model.sums) + 1, []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    once = render(model, lr, (33, 40))
    assert len(calls) == 1 and passes >= 3
    monkeypatch.setattr(MODULE, "QUERIES", 100)
    assert gap(render(model, lr, (33, 40)), once) < 1e-9
    assert len(calls) == 2
    for tile, tiles in ((5, 4), (4, 9)):
        calls.clear()
        assert gap(render(model, lr, (33, 40), tile=tile), once) < 1e-9
        assert len(calls) == passes * tiles
    assert once.std() > 0.01


# Receptive radius


@pytest.mark.parametrize(
    "name, expected",
    [("edsr-baseline", 34), ("rdn", 131), ("edsr-laptop", 18), ("edsr-tiny", 10)],
)
def test_radius_of_the_encoders(name, expected):
    assert ENCODERS[name]().radius == expected
    if name != "rdn":  # building it twice takes a while
        assert build("liif", "tiny", name, feat_unfold=False).radius == expected
        assert build("liif", "tiny", name, feat_unfold=True).radius == expected + 1


@pytest.mark.parametrize(
    "encoder",
    [EDSR(4, 24), EDSR(0, 4), RDN(channels=8, growth=8, blocks=2, layers=3)],
)
def test_radius_is_what_the_gradient_reaches(encoder):
    """A latent code depends on the square of that radius, all of it, and no more."""
    encoder = encoder.double()
    side = 2 * encoder.radius + 7
    middle = side // 2
    lr = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    encoder(lr)[0, :, middle, middle].square().sum().backward()
    reached = lr.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (reached - middle).abs().max().item() == encoder.radius
    assert (reached.amin(0) == middle - encoder.radius).all()
    assert (reached.amax(0) == middle + encoder.radius).all()


@torch.no_grad()
def test_radius_is_what_a_perturbation_reaches():
    """EDSR(4, 24): changing one pixel changes latents 10 pixels away, not 11."""
    encoder = EDSR(4, 24).double()
    lr = torch.rand(1, 3, 27, 27, dtype=torch.float64)
    changed = lr.clone()
    changed[..., 13, 13] += 1
    change = (encoder(changed) - encoder(lr)).abs().sum(1)[0]
    distance = (torch.arange(27) - 13).abs()
    distance = torch.maximum(distance[:, None], distance)
    assert change[distance == 10].max() > 0
    assert change[distance > 10].max() == 0


# Windows


WINDOWS = [(0, 0, 1, 1), (0, 3, 7, 4), (5, 2, 9, 10)]


@pytest.mark.parametrize("tile", [4, 256])
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize(
    "scale", [1, 2, 2.5, 3, 3.7, 8.3, (1, 3.4), (5.2, 1.5)], ids=str
)
def test_window_equals_the_crop(monkeypatch, scale, ensemble, tile):
    """At any offset and at every corner, also where rows and columns differ."""
    monkeypatch.setattr(MODULE, "TILE", tile)
    H, W = 14, 13
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    size = output_size((H, 1), scales[0])[0], output_size((W, 1), scales[1])[0]
    model, lr = tiny(local_ensemble=ensemble), torch.rand(1, 3, H, W)
    full = render(model, lr, size)
    assert gap(full, whole(model, lr, size)) < 1e-5
    h, w = size
    for window in [*WINDOWS, (h - 5, w - 6, 5, 6), (0, w - 1, h, 1), (0, 0, h, w)]:
        top, left, rows, cols = window
        crop = full[:, top : top + rows, left : left + cols]
        assert gap(render(model, lr, size, window), crop) < 1e-6, window


@pytest.mark.parametrize(
    "window",
    [(0, 0, 11, 5), (-1, 0, 5, 5), (0, 8, 5, 5), (0, 0, 0, 5), (3, 3, 5, -1)],
)
def test_window_outside_the_output_is_refused(window):
    with pytest.raises(ValueError, match="does not lie inside"):
        check_window((10, 12), window)


# Sizes


@pytest.mark.parametrize(
    "request_, words",
    [
        ({"scale": 0}, "1 or more"),
        ({"scale": -2}, "1 or more"),
        ({"scale": 0.5}, "Pillow"),
        ({"scale": math.nan}, "finite"),
        ({"scale": math.inf}, "finite"),
        ({"scale": "2"}, "finite"),
        ({"scale": 1e9}, "--max-pixels"),
        ({"scale": 10**300}, "--max-pixels"),
        ({"scale": 2000}, "268435456 pixels"),
        ({"size": (9, 40)}, "smaller"),
        ({"size": (40, 19)}, "smaller"),
        ({"size": (0, 40)}, "above 0"),
        ({"size": (-40, 40)}, "above 0"),
        ({"size": (40.0, 40)}, "whole"),
        ({"size": (40, 40, 40)}, "two"),
        ({"size": (2**15, 2**14)}, "--max-pixels"),
        ({}, "either"),
        ({"scale": 2, "size": (40, 40)}, "either"),
    ],
)
def test_senseless_sizes_are_refused(request_, words):
    with pytest.raises(UserError, match=words):
        check_size((10, 20), **request_)


@pytest.mark.parametrize(
    "request_, expected",
    [
        ({"scale": 1}, (10, 21)),
        ({"scale": 2.5}, (25, 53)),
        ({"scale": 3.7}, (37, 78)),
        ({"size": (10, 21)}, (10, 21)),
        ({"size": [11, 80]}, (11, 80)),
        ({"scale": 4, "max_pixels": 40 * 84}, (40, 84)),
    ],
)
def test_sizes(request_, expected):
    assert check_size((10, 21), **request_) == expected


def test_pixel_limit_is_exact():
    with pytest.raises(UserError, match="3359 pixels"):
        check_size((10, 21), scale=4, max_pixels=40 * 84 - 1)


# Pictures in, pictures out. A fresh model with `skip` is bilinear interpolation, so
# that what comes out is known without the package.


@pytest.fixture
def bilinear_model():
    return build("liif", "tiny", skip=True, hidden=(4,)).eval()


def bilinear(pixels: np.ndarray, size) -> np.ndarray:
    """Bilinear enlargement of (H, W, C) or (H, W) uint8, by torch."""
    planes = torch.tensor(np.atleast_3d(pixels).copy()).movedim(-1, 0)[None].double()
    planes = F.interpolate(planes, size, mode="bilinear", align_corners=False)
    return planes[0].movedim(0, -1).numpy().reshape(*size, *pixels.shape[2:])


def assert_bilinear(result: Image.Image, pixels: np.ndarray, size) -> None:
    """Equal up to the rounding to 8 bits."""
    assert result.size == size[::-1]
    found = np.asarray(result).astype(float)
    assert np.abs(found - bilinear(pixels, size)).max() < 0.501


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
def test_upscale_odd_sizes(bilinear_model, given, scale, size):
    pixels = picture(*given)
    result = upscale(bilinear_model, Image.fromarray(pixels), scale)
    assert result.mode == "RGB"
    assert_bilinear(result, pixels, size)


def test_upscale_to_a_size(bilinear_model):
    pixels = picture(6, 5)
    result = upscale(bilinear_model, Image.fromarray(pixels), size=(13, 40))
    assert_bilinear(result, pixels, (13, 40))


def test_upscale_equals_the_definition():
    """Not only for the bilinear model: a random one, through tiles and rounding."""
    model, pixels = tiny(), picture(9, 14)
    expected = whole(model, to_tensor(pixels), (33, 52)).clamp(0, 1) * 255
    found = np.asarray(upscale(model, Image.fromarray(pixels), 3.7))
    assert np.abs(found - expected.movedim(0, -1).numpy()).max() < 0.501


def test_upscale_in_tiles_equals_whole(monkeypatch):
    model, image = tiny(), Image.fromarray(picture(40, 30))
    expected = np.asarray(upscale(model, image, 1.5)).astype(int)
    monkeypatch.setattr(MODULE, "TILE", 8)
    assert np.abs(np.asarray(upscale(model, image, 1.5)) - expected).max() <= 1


def test_grey_stays_grey(bilinear_model):
    pixels = picture(6, 5)[..., 0]
    result = upscale(bilinear_model, Image.fromarray(pixels), 2)
    assert result.mode == "L"
    assert_bilinear(result, pixels, (12, 10))


def test_transparency_is_kept(bilinear_model):
    """Colours by the model, transparency by Pillow's bicubic."""
    image = Image.fromarray(picture(6, 5))
    alpha = Image.fromarray(picture(6, 5, seed=1)[..., 0])
    image.putalpha(alpha)
    result = upscale(bilinear_model, image, 2)
    assert result.mode == "RGBA"
    assert_bilinear(result.convert("RGB"), np.asarray(image)[..., :3], (12, 10))
    expected = alpha.resize((10, 12), Image.Resampling.BICUBIC)
    assert np.array_equal(result.getchannel("A"), expected)


@pytest.mark.parametrize("how", ["LA", "tRNS"])
def test_grey_with_transparency_stays_grey(bilinear_model, how):
    image = Image.fromarray(picture(6, 5)[..., 0])
    if how == "LA":
        image.putalpha(Image.fromarray(picture(6, 5, seed=1)[..., 0]))
    else:
        image.info["transparency"] = 128
    result = upscale(bilinear_model, image, 2)
    assert result.mode == "LA"
    assert_bilinear(result.getchannel("L"), np.asarray(image.convert("L")), (12, 10))


def test_palette_is_expanded(bilinear_model):
    image = Image.fromarray(picture(6, 5)).quantize(16)
    assert image.mode == "P"
    result = upscale(bilinear_model, image, 2)
    assert result.mode == "RGB"
    assert_bilinear(result, np.asarray(image.convert("RGB")), (12, 10))


def test_palette_with_a_transparent_colour(bilinear_model):
    image = Image.fromarray(picture(6, 5)).quantize(16)
    image.info["transparency"] = image.getpixel((2, 3))
    expanded = image.convert("RGBA")
    assert 0 < np.asarray(expanded.getchannel("A")).mean() < 255
    result = upscale(bilinear_model, image, 2)
    assert result.mode == "RGBA"
    assert np.array_equal(result, upscale(bilinear_model, expanded, 2))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_16_bit_grey_becomes_8_bit_grey(bilinear_model, dtype):
    """65535 is white and 0 black; in between, round(v / 257)."""
    pixels = np.array([[0, 128, 129, 257], [385, 386, 65407, 65535]], dtype)
    result = upscale(bilinear_model, Image.fromarray(pixels), 1)
    assert result.mode == "L"
    assert np.asarray(result).tolist() == [[0, 0, 1, 1], [1, 2, 255, 255]]


def test_1_bit_is_black_and_white(bilinear_model):
    bits = picture(6, 5)[..., 0] > 128
    result = upscale(bilinear_model, Image.fromarray(bits), 2)
    assert result.mode == "L"
    assert_bilinear(result, bits.astype(np.uint8) * 255, (12, 10))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_other_colour_spaces_become_rgb(bilinear_model, mode):
    image = Image.fromarray(picture(6, 5)).convert(mode)
    result = upscale(bilinear_model, image, 2)
    assert result.mode == "RGB"
    assert_bilinear(result, np.asarray(image.convert("RGB")), (12, 10))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_camera_orientation_is_followed(bilinear_model, tmp_path, orientation):
    """EXIF tag 0x0112, written by hand: what a viewer shows is what is enlarged."""
    pixels = picture(6, 5)
    turns = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = turns[orientation]
    size = output_size(upright.shape[:2], 2.5)
    result = upscale(bilinear_model, tmp_path / "turned.png", 2.5)
    assert_bilinear(result, upright, size)
    assert result.getexif().get(0x0112, 1) == 1


def test_floating_point_pictures_are_refused(bilinear_model):
    image = Image.fromarray(np.zeros((4, 4), np.float32))
    with pytest.raises(UserError, match="floating-point.*8-bit PNG"):
        upscale(bilinear_model, image, 2)


def test_progress_goes_to_one(bilinear_model, monkeypatch):
    monkeypatch.setattr(MODULE, "TILE", 4)
    seen = []
    image = Image.fromarray(picture(8, 8))
    upscale(bilinear_model, image, 2, on_progress=seen.append)
    assert seen == [0.25, 0.5, 0.75, 1]


def test_the_model_is_left_as_it_was():
    """Rendering neither trains nor switches anything."""
    model = tiny().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    upscale(model, Image.fromarray(picture(4, 4)), 2)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


# Models that draw their answer


@pytest.fixture(scope="module")
def idm():
    """An untrained IDM of size tiny."""
    torch.manual_seed(0)
    return awake(build("idm", "tiny"))


def drawn(model, pixels, size, **how) -> np.ndarray:
    """What its sampler gives, as pixels."""
    found = model.sample(to_tensor(pixels), size, **how)[0]
    return (255 * found).round().byte().movedim(0, -1).numpy()


def test_a_drawn_picture_is_that_of_its_steps_and_seed(idm):
    pixels, size = picture(4, 5), (9, 13)
    for how in ({}, {"steps": 3}, {"steps": 3, "seed": 2}):
        found = upscale(idm, Image.fromarray(pixels), size=size, **how)
        assert np.array_equal(found, drawn(idm, pixels, size, **how))
    once, again = (upscale(idm, Image.fromarray(pixels), 2.5) for _ in range(2))
    assert np.array_equal(once, again) and once.size == (13, 10)  # columns, rows


def test_progress_of_a_sampler_is_told_step_by_step(idm):
    told = []
    upscale(idm, Image.fromarray(picture(4, 5)), 2, on_progress=told.append, steps=4)
    assert told == [0.25, 0.5, 0.75, 1]


def test_a_window_of_a_drawn_picture_is_a_crop_of_it(idm):
    lr = to_tensor(picture(4, 5))
    full = render(idm, lr, (12, 15))
    assert torch.equal(full, idm.sample(lr, (12, 15))[0])
    part = render(idm, lr, (12, 15), window=(2, 3, 7, 8), tile=2)
    assert torch.equal(part, full[:, 2:9, 3:11])
    with pytest.raises(ValueError, match="does not lie inside"):
        render(idm, lr, (12, 15), window=(2, 3, 11, 8))


def test_grey_and_transparency_of_drawn_pictures(idm):
    grey = Image.fromarray(picture(4, 5)).convert("L")
    assert upscale(idm, grey, 2, steps=2).mode == "L"
    clear = Image.fromarray(picture(4, 5))
    clear.putalpha(100)
    found = upscale(idm, clear, 2, steps=2)
    assert found.mode == "RGBA" and found.getpixel((3, 3))[3] == 100


@pytest.mark.parametrize("steps", [0, 1001])
def test_senseless_steps_are_refused(idm, steps):
    with pytest.raises(UserError, match="from 1 to 1000"):
        upscale(idm, Image.fromarray(picture(4, 5)), 2, steps=steps)
