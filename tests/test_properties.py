"""What holds for every size, scale and word: Hypothesis looks for one where it fails.

The same examples in every run, and nothing is kept. With the environment variable
ASR_STRESS set, a thousand random ones for each test.
"""

import math
import os
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from functools import cache
from io import StringIO

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import awake, near, picture
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from PIL import Image

from asr_course import METHODS, build
from asr_course.__main__ import main
from asr_course.coords import (
    cells_to_pixels,
    make_cell,
    make_coord,
    make_grid,
    nearest,
    neighbours,
    output_size,
    pixel_centres,
    round_half_up,
    split_axes,
    to_position,
)
from asr_course.encoders import EDSR
from asr_course.enlarge import MAX_PIXELS, check_size, upscale
from asr_course.errors import UserError
from asr_course.images import matlab_resize
from asr_course.metrics import low_resolution_size, make_pair, psnr, to_luma
from asr_course.render import check_window, encode, render, render_pieces, tiles
from studies.plain import PLAIN

# A warning is a line too, but for those of files left open, which Python hides.
pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
set_hypothesis_home_dir(os.devnull)  # where it keeps things: nowhere
STRESS = bool(os.environ.get("ASR_STRESS"))
COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],
}
settings.register_profile("course", derandomize=True, max_examples=40, **COMMON)
settings.register_profile("stress", max_examples=1000, print_blob=True, **COMMON)
settings.load_profile("stress" if STRESS else "course")


def examples(count: int) -> settings:
    """So many examples of a slow test, unless a thousand are wanted."""
    return settings(max_examples=1000 if STRESS else count)


FLOATS = st.sampled_from([torch.float32, torch.float64])
SEEDS = st.integers(0, 2**16)


@st.composite
def axes(draw, largest=64, scale=12, pixels=4000):
    """(n, N): an axis of n low-resolution pixels enlarged to N, at whole scales too.

    From N = 5000 on two places may be nearer than coords.TIE to each other.
    """
    n = draw(st.integers(1, largest))
    most = min(scale * n, pixels)
    whole = st.integers(1, most // n).map(lambda s: s * n)
    return n, draw(st.integers(n, most) | whole)


def places(n: int, N: int, dtype=torch.float64) -> torch.Tensor:
    """Where the centres of N pixels lie, counted in n."""
    return to_position(pixel_centres(N, dtype), n)


def owners(n: int, N: int) -> np.ndarray:
    """Which of n pixels holds each of N centres, in whole numbers: ties go up."""
    return (2 * np.arange(N) + 1) * n // (2 * N)


# Coordinates


@given(axes(), FLOATS)
@example((7, 14), torch.float32)
@example((50, 125), torch.float32)
def test_the_owner_is_the_nearest_and_of_two_the_larger(axis, dtype):
    """Distances in whole numbers: (2 i + 1) n - N - 2 N k is 2 N (position - k)."""
    n, N = axis
    i, k = np.arange(N)[:, None], np.arange(n)
    distance = np.abs((2 * i + 1) * n - N - 2 * N * k)
    expected = n - 1 - distance[:, ::-1].argmin(axis=1)
    np.testing.assert_array_equal(nearest(places(n, N, dtype), n).numpy(), expected)
    np.testing.assert_array_equal(owners(n, N), expected)


@given(
    st.integers(1, 300),
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1),
    FLOATS,
)
@example(1, [-0.5, 0.5], torch.float32)
@example(8, [-9.0, 9.0], torch.float32)
def test_nearest_is_in_range_wherever_it_is_asked(n, found, dtype):
    position = torch.tensor(found, dtype=dtype)
    index = nearest(position, n)
    assert index.min() >= 0 and index.max() < n
    inside = position.clamp(0, n - 1)
    assert (index - inside).abs().max() <= 0.5 + 1.1e-4


@given(st.data(), st.integers(1, 300), FLOATS)
def test_neighbours_stand_on_both_sides(data, n, dtype):
    """At any place in the picture; beyond the outer centres both are the border."""
    found = data.draw(st.lists(st.floats(-0.5, n - 0.5), min_size=1))
    position = torch.tensor(found, dtype=torch.float64).to(dtype)
    pair = neighbours(position, n)
    (low, low_offset, low_weight), (high, high_offset, high_weight) = pair
    near(low_weight + high_weight, torch.ones_like(position), torch.finfo(dtype).eps)
    for index, offset, weight in pair:
        assert weight.min() >= 0 and weight.max() <= 1
        assert index.min() >= 0 and index.max() < n
        assert torch.equal(offset, position - index)
    border = (position < 0) | (position >= n - 1)
    assert torch.equal(high - low, (~border).long())
    eps = 2 * torch.finfo(dtype).eps
    near(low_weight[~border], 1 - low_offset[~border], atol=eps)
    near(high_weight[~border], 1 + high_offset[~border], atol=eps)
    mixed = low * low_weight + high * high_weight
    near(mixed, position.clamp(0, n - 1), atol=n * eps)


@given(st.data(), axes(10**6, 1000, 10**9))
def test_cells_begin_where_whole_numbers_say(data, axis):
    n, N = axis
    cell = data.draw(st.integers(0, n))
    first = cells_to_pixels(cell, n, N)
    assert 0 <= first <= N
    assert first == N or (2 * first + 1) * n >= 2 * N * cell
    assert first == 0 or (2 * first - 1) * n < 2 * N * cell
    assert cells_to_pixels(0, n, N) == 0 and cells_to_pixels(n, n, N) == N


@given(st.data(), axes(40), st.integers(1, 45))
def test_tiles_cut_an_axis_without_gaps(data, axis, tile):
    """In order, none too large, and every output pixel with its owner."""
    n, N = axis
    first = data.draw(st.integers(0, N - 1))
    count = data.draw(st.integers(1, N - first))
    owner, done = owners(n, N), first
    for start, length, begin, number_of in tiles(n, N, first, count, tile):
        assert 1 <= length <= tile and start >= 0 and start + length <= n
        assert begin == done and number_of >= 1
        done += number_of
        inside = owner[begin:done]
        assert start <= inside.min() and inside.max() < start + length
    assert done == first + count


@given(
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from(["grid", "scattered", "moved", "equal rows", "one place"]),
    SEEDS,
)
def test_split_axes_loses_nothing(batch, h, w, kind, seed):
    draw = torch.Generator().manual_seed(seed)
    coord = torch.rand(batch, h, w, 2, generator=draw) * 2 - 1
    if kind in ("grid", "moved"):
        coord = torch.stack(
            [
                make_grid(*x)
                for x in zip(coord[:, :, 0, 0], coord[:, 0, :, 1], strict=True)
            ]
        )
    if kind == "moved":
        coord[-1, h // 2, w // 2, seed % 2] += 0.5
    if kind == "equal rows":
        coord[..., 0] = coord[:, :, :1, 0]
    if kind == "one place":
        coord = coord[:, :1, :1].repeat(1, h, w, 1)
    queries = split_axes(coord)
    assert torch.equal(queries.grid(), coord)
    if kind in ("grid", "one place") and min(h, w) > 1:
        assert queries.rows.shape == (batch, h, 1)
        assert queries.cols.shape == (batch, 1, w)


@given(
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.floats(1, 30) | st.integers(8, 240).map(lambda k: k / 8) | st.integers(1, 30),
)
@example(5, 7, 2.5)
@example(1, 3, 1.5)
def test_output_sizes_round_halves_up(rows, cols, scale):
    found = output_size((rows, cols), scale)
    for n, size in zip((rows, cols), found, strict=True):
        assert type(size) is int and size >= n
        assert size == math.floor(Fraction(n * scale) + Fraction(1, 2))
    assert output_size((cols, rows), scale) == found[::-1]


@given(st.floats(-1e9, 1e9), st.integers(-(10**6), 10**6))
def test_rounding_moves_by_at_most_a_half(x, whole):
    assume(abs(x) >= 0.5)  # the float before 1/2 plus 1/2 is 1
    assert -0.5 < round_half_up(x) - Fraction(x) <= 0.5
    assert round_half_up(whole) == whole
    assert round_half_up(whole + 0.5) == whole + 1


# Resizing


SIDES = st.integers(1, 40)


def bicubic_matrix(before: int, after: int) -> np.ndarray:
    """The weights (after, before) of MATLAB's resizing along one axis."""
    return matlab_resize(np.eye(before), (after, before))


@given(st.integers(2, 40), st.integers(2, 40))
def test_bicubic_weights_sum_to_one_and_mirror(before, after):
    matrix = bicubic_matrix(before, after)
    assert matrix.shape == (after, before)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, rtol=0, atol=1e-9)
    if before == after:
        np.testing.assert_allclose(matrix, np.eye(before), rtol=0, atol=1e-12)


@given(st.integers(5, 40), st.integers(1, 6))
def test_bicubic_enlarging_keeps_a_parabola(n, k):
    """Keys' kernel with a = -1/2 reproduces squares, away from the border."""
    place = (np.arange(k * n) + 0.5) / k - 0.5
    inside = (place >= 1) & (place <= n - 2)
    found = bicubic_matrix(n, k * n) @ (np.arange(n) ** 2)
    np.testing.assert_allclose(found[inside], place[inside] ** 2, rtol=0, atol=1e-8)


# Rendering. The encoder is a small one, so that several tiles differ from one.


REGRESSION = [name for name, cls in METHODS.items() if not cls.is_generative]


@cache
def model(name: str, variant: int = 0) -> torch.nn.Module:
    """A tiny model that answers with more than its skip; variant 0 is the method."""
    torch.manual_seed(0)
    made = awake(build(name, "tiny", **variants(name)[variant]))
    made.encoder = EDSR(1, made.encoder.channels)
    return made


def variants(name: str) -> list[dict]:
    """The options of a method's ablations, the full method first."""
    more = {"lte": [{}, {"pairing": "halves"}, {"freeze_cell": False}]}
    return more.get(name) or list(METHODS[name].ABLATIONS.values()) or [{}]


@st.composite
def jobs(draw, pixels=12_000 if STRESS else 2500):
    """(lr (1, 3, H, W), size) with at most 20 rows or columns, to ×12 on either axis.

    One scale for both, or rows and columns to sizes of their own; so many output
    `pixels`, or few more.
    """
    H, W = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    seed = draw(SEEDS)
    lr = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(seed))
    most = max(1, min(12, math.sqrt(pixels / (H * W))))
    if draw(st.booleans()):
        scale = draw(st.floats(1, most) | st.sampled_from([1, 2, 2.5, 3, 4, 8, 12]))
        return lr, output_size((H, W), min(scale, most))
    h = draw(st.integers(H, max(H, min(12 * H, pixels // W))))
    return lr, (h, draw(st.integers(W, max(W, min(12 * W, pixels // h)))))


@st.composite
def windows(draw, size):
    """(first row, first column, rows, columns) inside an output."""
    top, left = (draw(st.integers(0, n - 1)) for n in size)
    rows, cols = (
        draw(st.integers(1, n - first))
        for n, first in zip(size, (top, left), strict=True)
    )
    return top, left, rows, cols


@torch.inference_mode()
def whole(asked, lr: torch.Tensor, size) -> torch.Tensor:
    """The definition: encode all, decode all."""
    batch = len(lr)
    coord = make_coord(size).expand(batch, -1, -1, -1)
    return asked(lr, coord, make_cell(size).expand(batch, 2))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To 1e-5 of the largest number, or of 1."""
    assert torch.isfinite(found).all()
    near(found, expected, atol=1e-5 * max(1, expected.abs().max().item()))


@pytest.mark.parametrize("name", REGRESSION)
@examples(15)
@given(st.data())
def test_pieces_are_pieces_of_the_whole(name, data):
    """Any window, any tile, any number of queries at once: the definition's numbers.

    Where queries hear from each other the window hears from the whole output too.
    """
    asked = model(name, data.draw(st.integers(0, len(variants(name)) - 1)))
    lr, size = data.draw(jobs(600) if asked.is_nonlocal else jobs())
    expected = whole(asked, lr, size)[0]
    close(render(asked, lr, size), expected)
    top, left, rows, cols = window = data.draw(windows(size))
    crop = expected[:, top : top + rows, left : left + cols]
    close(render(asked, lr, size, window), crop)
    longest = max(lr.shape[-2:])
    tile = data.draw(st.integers(-(-longest // 4), longest))
    few = data.draw(st.sampled_from([1, 7, 100, 1000]))
    few = max(few, size[0] * size[1] // 20)
    close(render(asked, lr, size, window, queries=few), crop)
    close(render(asked, lr, size, tile=tile, queries=few), expected)
    if not asked.is_nonlocal:
        close(render(asked, lr, size, window, tile), crop)


@pytest.mark.parametrize("name", REGRESSION)
def test_an_ablation_is_another_model(name):
    """All but the first, which is the method itself."""
    options = [build(name, "tiny", **changed).options for changed in variants(name)]
    assert options[0] == METHODS[name].SIZES["tiny"]
    assert len(set(options)) == len(options)


@pytest.mark.parametrize("name", REGRESSION)
@examples(6)
@given(jobs())
def test_models_answer_with_more_than_their_skip(name, job):
    """Else the tests here would compare interpolation with interpolation."""
    lr, size = job
    skip = F.interpolate(lr, size, mode="bilinear")[0]
    assert (whole(model(name), lr, size)[0] - skip).abs().mean() > 0.02


@examples(20)
@given(st.data(), jobs(), st.integers(1, 9))
def test_every_pixel_is_drawn_once(data, job, tile):
    lr, size = job
    window = data.draw(windows(size))
    count = torch.zeros(window[2:])
    for row, col, piece in render_pieces(model("metasr"), lr, size, window, tile):
        count[row : row + piece.shape[1], col : col + piece.shape[2]] += 1
    assert count.eq(1).all()


@pytest.mark.parametrize("name", PLAIN)
@examples(15)
@given(st.data(), jobs())
@torch.inference_mode()
def test_the_fast_formula_is_the_plain_one(name, data, job):
    """On a grid, and at scattered places, which do not weight rows."""
    lr, size = job
    asked = model(name, data.draw(st.integers(0, len(variants(name)) - 1)))
    features, cell = asked.encode(lr), make_cell(size)[None]
    scattered = torch.rand(
        1, 40, 1, 2, generator=torch.Generator().manual_seed(data.draw(SEEDS))
    )
    for coord in (make_coord(size)[None], scattered * 2 - 1):
        plain = PLAIN[name](asked, features, coord, cell)
        close(asked.predict(features, split_axes(coord), cell), plain)


LOCAL = [name for name in REGRESSION if not METHODS[name].is_nonlocal]


@pytest.mark.parametrize("name", LOCAL)
@examples(10)
@given(jobs(), SEEDS)
@torch.inference_mode()
def test_a_query_is_answered_alone(name, job, seed):
    """The same colour in a grid and among scattered queries, in any order."""
    lr, size = job
    coord, cell = make_coord(size).flatten(0, 1), make_cell(size)[None]
    chosen = torch.randperm(len(coord), generator=torch.Generator().manual_seed(seed))
    chosen = chosen[: 1 + seed % 50]
    features = model(name).encode(lr)
    found = model(name).decode(features, coord[chosen][None, :, None], cell)
    expected = whole(model(name), lr, size)[0].flatten(1)[:, chosen]
    close(found[0, :, :, 0], expected)


@pytest.mark.parametrize("name", REGRESSION)
@examples(6)
@given(jobs(), jobs())
def test_pictures_of_a_batch_do_not_meet(name, job, other):
    """Each comes out as it does alone, whatever stands beside it."""
    lr, size = job
    beside = F.interpolate(other[0], lr.shape[-2:])
    coord = make_coord(size).expand(2, -1, -1, -1)
    cell = torch.stack([0.7 * make_cell(size), make_cell(size)])
    with torch.inference_mode():
        both = model(name)(torch.cat([beside, lr]), coord, cell)
    close(both[1], whole(model(name), lr, size)[0])


@examples(25)
@given(st.data(), jobs())
def test_features_of_a_part_are_those_of_the_whole(data, job):
    """Also one pixel around it, for queries at its border."""
    lr, _ = job
    H, W = lr.shape[-2:]
    top, left, rows, cols = part = data.draw(windows((H, W)))
    with torch.inference_mode():
        found = encode(model("lte"), lr, part)
        expected = model("lte").encode(lr)
    first = max(top - 1, 0), max(left - 1, 0)
    last = min(top + rows + 1, H), min(left + cols + 1, W)
    there = [slice(a, b) for a, b in zip(first, last, strict=True)]
    here = [
        slice(axis.start - o, axis.stop - o)
        for axis, o in zip(there, (found.top, found.left), strict=True)
    ]
    assert torch.equal(found.features.lr[..., *here], expected.lr[..., *there])
    near(found.features.latent[..., *here], expected.latent[..., *there])
    near(found.features.grid[:, *here], expected.grid[:, *there])
    box = slice(top, top + rows), slice(left, left + cols)
    inner = found.features.inner
    near(found.features.latent[..., *inner], expected.latent[..., *box])
    near(found.features.grid[:, *inner], expected.grid[:, *box])


@cache
def fresh() -> torch.nn.Module:
    """An untrained LIIF with `skip`: bilinear interpolation."""
    return build("liif", "tiny").eval()


@given(st.data(), jobs())
def test_an_untrained_model_interpolates(data, job):
    """It agrees with torch, knows no direction and stays among its input's values."""
    lr, size = job
    tile = data.draw(st.integers(3, 20))
    found = render(fresh(), lr, size, tile=tile)
    near(found, F.interpolate(lr, size, mode="bilinear")[0], atol=5e-6)
    for axes_ in ((-2,), (-1,), (-2, -1)):
        near(render(fresh(), lr.flip(axes_), size), found.flip(axes_), atol=5e-6)
    near(render(fresh(), lr.mT, size[::-1]), found.mT, atol=5e-6)
    low, high = lr.amin((0, 2, 3)), lr.amax((0, 2, 3))
    assert (found.amin((1, 2)) >= low - 1e-6).all()
    assert (found.amax((1, 2)) <= high + 1e-6).all()


# Pictures of every mode


def of_mode(mode: str, pixels: np.ndarray) -> Image.Image:
    """A picture of any of Pillow's modes that shows `pixels`."""
    image = Image.fromarray(pixels)
    alpha = Image.fromarray(pixels[..., 1])
    if mode in ("I", "I;16"):
        kind = np.int32 if mode == "I" else np.uint16
        return Image.fromarray(pixels[..., 0].astype(kind) * 257)
    if mode in ("LA", "PA"):
        image = image.convert("L")
    if mode in CLEAR:
        image.putalpha(alpha)
    return image.convert(mode)


GREY = ("1", "L", "LA", "I", "I;16")
CLEAR = ("LA", "PA", "RGBA", "RGBa")
MODES = (*GREY, *CLEAR[1:], "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


@given(
    st.sampled_from(MODES),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(1, 5) | st.tuples(st.integers(0, 30), st.integers(0, 30)),
    SEEDS,
)
def test_upscaled_pictures_keep_their_kind(mode, rows, cols, how, seed):
    """Grey stays grey, transparency is Pillow's, and the size is the one asked for."""
    image = of_mode(mode, picture(rows, cols, seed))
    before, told = np.asarray(image).copy(), []
    if isinstance(how, tuple):
        how = {"size": (rows + how[0], cols + how[1])}
    else:
        how = {"scale": how}
    result = upscale(model("metasr"), image, **how, on_progress=told.append)
    size = check_size((rows, cols), **how)
    assert result.size == size[::-1]
    clear = mode in CLEAR
    deep = mode in ("I", "I;16")
    kind = "I;16" if deep else "L" if mode in GREY else "RGB"
    assert result.mode == kind + "A" * clear
    if clear:
        alpha = image.convert("RGBA").getchannel("A")
        alpha = alpha.resize(size[::-1], Image.Resampling.BICUBIC)
        assert np.array_equal(result.getchannel("A"), alpha)
    assert min(told) > 0 and sum(told) == pytest.approx(1)
    assert np.array_equal(np.asarray(image), before)


# What is asked for


NUMBERS = (
    st.integers(-(10**30), 10**30)
    | st.integers(-2, 40)
    | st.floats()
    | st.floats(0.5, 40)
    | st.booleans()
    | st.sampled_from([np.float32(3.7), 2**28])
)
# Everything but NUL, which no file name and no argument holds.
ODD = "0123456789.xX-+eE_=% ,/\\\t\n\"'{}[]()é½×∞٣五\u202e\udcff🙂"
WORDS = st.text(ODD, max_size=8)


@examples(100)
@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.none() | NUMBERS,
    st.none() | st.tuples(st.integers(), st.integers()),
    st.integers(0, 10**10) | st.just(MAX_PIXELS),
)
@example((10, 20), Fraction(10**9), None, MAX_PIXELS)
@example((1, 256), np.uint8(200), None, MAX_PIXELS)
@example((10, 20), np.uint8(50), None, MAX_PIXELS)
@example((10, 20), None, (np.int32(65536), np.int32(65536)), MAX_PIXELS)
@example((10, 20), None, (np.int64(2**32), np.int64(2**32)), MAX_PIXELS)
def test_a_size_is_sensible_or_refused(given_, scale, size, max_pixels):
    try:
        found = check_size(given_, scale, size, max_pixels)
    except UserError as error:
        assert str(error).strip()
        return
    assert (scale is None) != (size is None)
    rows, cols = found
    assert type(rows) is int and type(cols) is int
    assert rows >= given_[0] and cols >= given_[1] and rows * cols <= max_pixels
    if size is not None:
        assert found == tuple(size)
    else:
        assert found == output_size(given_, float(scale))


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.integers(1, 240).map(lambda k: k / 8) | st.floats(0.1, 40),
)
def test_a_scale_is_refused_for_a_reason(given_, scale):
    rows, cols = output_size(given_, scale)
    if scale >= 1 and rows * cols <= MAX_PIXELS:
        assert check_size(given_, scale) == (rows, cols)
        assert check_size(given_, size=(rows, cols)) == (rows, cols)
    else:
        with pytest.raises(UserError, match="Pillow" if scale < 1 else "--max-pixels"):
            check_size(given_, scale)


WHOLE = st.integers(-3, 12) | st.integers(-(10**30), 10**30)


@given(st.tuples(*[st.integers(1, 9)] * 2), st.none() | st.tuples(*[WHOLE] * 4))
def test_a_window_is_inside_or_refused(size, window):
    top, left, rows, cols = expected = window or (0, 0, *size)
    if rows > 0 <= top <= size[0] - rows and cols > 0 <= left <= size[1] - cols:
        assert check_window(size, window) == expected
    else:
        with pytest.raises(UserError, match="does not lie inside"):
            check_window(size, window)


# Words of the command line


SCALES = st.floats(0.5, 12).map(repr) | st.sampled_from(
    ["1", "2", "3.7", "0", "-2", "nan", "-inf", "1e9", "1e400", "2,5", "٣", "1_0", ""]
)
SIZES = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(
    lambda size: f"{size[0]}x{size[1]}"
) | st.sampled_from(["5X7", "٣٠x٤٠", "9", "9x", "9x9x9", "-9x9", "1e1x9", "9999999x9"])


@pytest.mark.parametrize("how, words", [("--scale", SCALES), ("--size", SIZES)])
@examples(30)
@given(st.data())
def test_upscale_does_what_it_is_told_or_says_why_not(how, words, weights, photo, data):
    """Exit code 0 and a picture, or 2 and a line; no other file, and no traceback."""
    result, word = photo.with_name("out.png"), data.draw(words | WORDS)
    result.unlink(missing_ok=True)
    command = ["upscale", str(photo), str(result), "--model", str(weights)]
    command += ["--device", "cpu", "--max-pixels", "20000", f"{how}={word}"]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        try:
            code = main(command)
        except SystemExit as end:  # argparse's
            code = end.code
    out, err = out.getvalue(), err.getvalue()
    made = {path.name for path in photo.parent.iterdir()} - {photo.name, weights.name}
    if code == 2:
        assert not made and out == "" and "Traceback" not in err
        assert err.count("\n") == 1 and err.endswith("\n")
        return
    assert code == 0 and err == "" and made == {"out.png"}
    rows, cols = out.split(" to ")[-1].split(" (rows")[0].split("x")
    with Image.open(result) as picture_made:
        assert picture_made.size == (int(cols), int(rows))


# Measures


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]), SEEDS)
def test_psnr_is_symmetric_and_falls_with_the_difference(rows, cols, channels, seed):
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, channels, rows, cols, generator=draw, dtype=torch.float64)
    assert psnr(a, a) == math.inf
    assert psnr(a, b) == psnr(b, a)
    assert psnr(a, a + (b - a) / 10) == pytest.approx(psnr(a, b) + 20)
    assert psnr(a + 1, b + 1) == pytest.approx(psnr(a, b))
    assert psnr(a.flip(-1), b.flip(-1)) == pytest.approx(psnr(a, b))
    luma = to_luma(a.expand(3, -1, -1))
    assert luma.min() >= 16 / 255 - 1e-9 and luma.max() <= 235 / 255 + 1e-3


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.floats(1, 12) | st.integers(1, 12) | st.sampled_from([1.5, 2.5, 10 / 3]),
)
@example(2, 11, 1.875)
def test_input_and_truth_of_a_protocol_belong_together(rows, cols, scale):
    """The truth is what the input becomes at this scale, never more than there was."""
    truth = np.zeros((rows, cols, 3), np.uint8)
    if min(rows, cols) / scale + 1e-9 < 1:
        assert min(low_resolution_size((rows, cols), scale)) == 0  # none fits whole
        return
    lr, hr = make_pair(truth, scale, "liif")
    assert hr.shape[:2] == output_size(lr.shape[:2], scale)
    for n, cut in zip((rows, cols), hr.shape, strict=False):
        assert 0 <= n - cut < scale + 0.5
    lr, hr = make_pair(truth, scale, "diinn")
    assert hr.shape[:2] == (rows, cols)
