"""Measures against the official ones and against slow formulas; the protocols."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import SHARED, golden, golden_tensor, needs_shared, picture, tiny
from PIL import Image
from skimage.metrics import structural_similarity

from asr_course import build
from asr_course.errors import UserError
from asr_course.images import resize, to_tensor
from asr_course.metrics import (
    Benchmark,
    evaluate,
    format_rows,
    lr_psnr,
    make_pair,
    psnr,
    score,
    seam,
    shave,
    ssim,
    to_luma,
)
from asr_course.render import render


def golden_pair(b: int | None = None):
    """The golden pictures side by side as one (3, 80, 44), or one of them."""
    sr, hr = (golden_tensor("metrics_coords", f"psnr_{x}") for x in ("sr", "hr"))
    return (sr, hr) if b is None else (sr[b], hr[b])


def golden_psnr(key: str) -> float:
    return golden("metrics_coords")[f"psnr_{key}"].item()


def psnr_of_batch(pairs, border: int) -> float:
    """PSNR of all pictures pooled, as the official function does with a batch."""
    errors = [10 ** (-psnr(a, b, border) / 10) for a, b in pairs]
    return -10 * math.log10(np.mean(errors))


def pairs(convert=lambda x: x):
    return [tuple(convert(x) for x in golden_pair(b)) for b in range(2)]


# PSNR


def test_psnr_equals_the_official_one():
    assert psnr_of_batch(pairs(), 0) == pytest.approx(golden_psnr("none"), abs=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4, 6])
def test_psnr_of_div2k_shaves_six_more_pixels(scale):
    expected = golden_psnr(f"div2k_x{scale}")
    assert psnr_of_batch(pairs(), scale + 6) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4, 6])
def test_psnr_of_benchmarks_compares_luma(scale):
    expected = golden_psnr(f"benchmark_x{scale}")
    luma = psnr_of_batch(pairs(to_luma), scale)
    assert luma == pytest.approx(expected, abs=1e-5)


def test_psnr_of_one_channel_is_not_converted():
    expected = golden_psnr("benchmark_gray_x3")
    one = pairs(lambda x: to_luma(x[:1]))
    assert psnr_of_batch(one, 3) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("difference, expected", [(1, 0), (0.1, 20), (0.01, 40)])
def test_psnr_of_a_constant_difference(difference, expected):
    a = torch.rand(3, 9, 9, dtype=torch.float64)
    assert psnr(a + difference, a) == pytest.approx(expected, abs=1e-6)


def test_psnr_of_equal_pictures_is_infinite():
    a = torch.rand(3, 9, 9)
    assert psnr(a, a.clone()) == math.inf


def test_psnr_ignores_the_border():
    a, b = torch.zeros(1, 9, 9), torch.zeros(1, 9, 9)
    b[:, 4, 4] = 0.5
    b[:, :2] = b[:, -2:] = 1
    b[..., :2] = b[..., -2:] = 1
    assert psnr(a, b, 2) == pytest.approx(-10 * math.log10(0.25 / 25))


def test_shave_refuses_to_leave_nothing():
    assert shave(torch.zeros(1, 9, 11), 4).shape == (1, 1, 3)
    with pytest.raises(UserError, match="nothing but border"):
        shave(torch.zeros(1, 9, 11), 5)


# Luma


@pytest.mark.parametrize(
    "colour, expected",
    [
        ((0, 0, 0), 16 / 255),
        ((1, 0, 0), 16 / 255 + 65.738 / 256),
        ((0, 1, 0), 16 / 255 + 129.057 / 256),
        ((0, 0, 1), 16 / 255 + 25.064 / 256),
    ],
)
def test_luma_weights(colour, expected):
    pixel = torch.tensor(colour).view(3, 1, 1).double()
    assert to_luma(pixel).item() == pytest.approx(expected, abs=1e-9)


def test_luma_of_white_and_of_one_channel():
    assert to_luma(torch.ones(3, 1, 1)).item() == pytest.approx(235 / 255, abs=3e-4)
    grey = torch.rand(1, 4, 4)
    assert torch.equal(to_luma(grey), grey)


# SSIM


def slow_ssim(a, b) -> float:
    """Wang et al. with an 11 x 11 Gaussian window, where it fits whole."""
    x = torch.arange(-5, 6).double()
    window = torch.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))
    window = (window / window.sum())[None, None]

    def mean(picture):
        return F.conv2d(picture.double()[:, None], window)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a.double() ** 2) - mean_a**2, mean(b.double() ** 2) - mean_b**2
    covariance = mean(a.double() * b.double()) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    quality = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    quality /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return quality.mean().item()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("border", [0, 3])
def test_ssim_equals_a_slow_formula(channels, border):
    sr, hr = (x[:channels] for x in golden_pair(0))
    expected = slow_ssim(shave(sr, border), shave(hr, border))
    assert 0.1 < expected < 0.99
    assert ssim(sr, hr, border) == pytest.approx(expected, abs=1e-7)


def test_ssim_equals_skimage():
    sr, hr = (x.double().numpy() for x in golden_pair(1))
    expected = structural_similarity(
        sr,
        hr,
        channel_axis=0,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(*golden_pair(1)) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_equal_and_of_small_pictures():
    a = torch.rand(3, 12, 12)
    assert ssim(a, a.clone()) == pytest.approx(1, abs=1e-12)
    assert math.isnan(ssim(a[..., :10], a[..., :10]))


# LR-PSNR


@pytest.mark.parametrize("scale, size", [(2, (20, 22)), (3, (13, 15)), (2.5, (16, 18))])
def test_lr_psnr_equals_pillow_in_floating_point(scale, size):
    """Pillow's bicubic on 32-bit floats is the same filter, written by others."""
    small = []
    for x in golden_pair(0):
        planes = [
            Image.fromarray(plane.numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
            for plane in x
        ]
        small.append(np.stack([np.asarray(p, np.float64) for p in planes]))
    expected = -10 * math.log10(np.square(small[0] - small[1]).mean())
    assert lr_psnr(*golden_pair(0), scale) == pytest.approx(expected, abs=1e-3)


def test_lr_psnr_sees_means_and_not_fine_detail():
    hr = torch.full((3, 32, 32), 0.5)
    assert lr_psnr(hr + 0.1, hr, 4) == pytest.approx(20, abs=1e-3)
    checkerboard = (torch.arange(32)[:, None] + torch.arange(32)) % 2 - 0.5
    assert psnr(hr + 0.2 * checkerboard, hr) == pytest.approx(20, abs=1e-3)
    assert lr_psnr(hr + 0.2 * checkerboard, hr, 4) > 50


# Seams


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_seam_of_a_ramp_is_one(scale):
    """Every step is as large as every other, at borders and elsewhere."""
    ramp = torch.linspace(0, 1, 4 * scale)[:, None].expand(3, -1, 7)
    assert seam(ramp, scale) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_seam_of_flat_pixels_is_large(scale):
    """Low-resolution pixels of one colour each: all change is at their borders."""
    flat = torch.rand(3, 4, 7).repeat_interleave(scale, dim=1)
    assert seam(flat, scale) == math.inf
    assert seam(flat + 1e-4 * torch.rand(3, 4 * scale, 7), scale) > 100


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_seam_of_jumps_anywhere_else_is_small(scale):
    flat = torch.rand(3, 4, 7).repeat_interleave(scale, dim=1)
    inside = torch.cat([flat[:, 1:], flat[:, -1:]], dim=1)  # borders a row too early
    assert seam(inside, scale) == 0


def test_seam_by_hand():
    """Rows 0 1 | 4 6: a step of 3 at the border, 1 and 2 elsewhere."""
    rows = torch.tensor([0.0, 1, 4, 6])[None, :, None].expand(3, 4, 2)
    assert seam(rows, 2) == pytest.approx(3 / 1.5)
    assert seam(-rows, 2) == pytest.approx(3 / 1.5)


def test_seam_at_centres_by_hand():
    """Rows 0 1 | 4 6: steps of 1 and 2 at centres, 3 elsewhere."""
    rows = torch.tensor([0.0, 1, 4, 6])[None, :, None].expand(3, 4, 2)
    assert seam(rows, 2, where=0.5) == pytest.approx(1.5 / 3)


@pytest.mark.parametrize("scale", [2, 4, 6])
def test_seam_of_jumps_at_centres(scale):
    """Large at the centres, and nothing at the borders."""
    flat = torch.rand(3, 5, 7).repeat_interleave(scale, dim=1)
    moved = flat[:, scale // 2 :][:, : 4 * scale]  # jumps at rows s/2, 3s/2 ...
    assert seam(moved, scale, where=0.5) == math.inf
    assert seam(moved, scale) == 0
    assert seam(flat, scale, where=0.5) == 0
    ramp = torch.linspace(0, 1, 4 * scale)[:, None].expand(3, -1, 7)
    assert seam(ramp, scale, where=0.5) == pytest.approx(1, abs=1e-4)


# Protocols


@pytest.mark.parametrize(
    "scale, border, rgb_border", [(2, 2, 8), (2.5, 3, 8.5), (3, 3, 9), (3.14, 4, 10)]
)
def test_borders_of_the_liif_protocol(scale, border, rgb_border):
    """ceil(s) for luma, s + 6 for RGB, rounded up."""
    sr, hr = golden_pair(0)
    found = score(sr, hr, scale, "liif")
    luma = to_luma(sr), to_luma(hr)
    assert found["psnr_y"] == psnr(*luma, border)
    assert found["psnr_rgb"] == psnr(sr, hr, math.ceil(rgb_border))
    assert found["ssim"] == ssim(*luma, border)
    assert found["lr_psnr"] == lr_psnr(sr, hr, scale)
    assert psnr(*luma, border) != psnr(*luma, border - 1)


def test_diinn_protocol_leaves_nothing_out():
    sr, hr = golden_pair(0)
    found = score(sr, hr, 4, "diinn")
    assert found["psnr_rgb"] == psnr(sr, hr)
    assert found["psnr_y"] == psnr(to_luma(sr), to_luma(hr))
    assert found["ssim"] == ssim(sr, hr)


@pytest.mark.parametrize(
    "scale, low, high",
    [
        (2, (20, 26), (40, 52)),
        (3, (13, 17), (39, 51)),
        (2.5, (16, 21), (40, 53)),
        (3.14, (13, 16), (41, 50)),
        (1, (41, 53), (41, 53)),
    ],
)
def test_liif_pairs_are_whole_pixels(scale, low, high):
    """floor(H / s) rows, made by Pillow of the floor(that s + 0.5) rows above."""
    pixels = picture(41, 53)
    lr, hr = make_pair(pixels, scale, "liif")
    assert np.array_equal(hr, pixels[: high[0], : high[1]])
    expected = Image.fromarray(hr).resize(low[::-1], Image.Resampling.BICUBIC)
    assert np.array_equal(lr, expected)


@pytest.mark.parametrize(
    "scale, low", [(2, (21, 27)), (4, (10, 13)), (3.14, (13, 17)), (100, (1, 1))]
)
def test_diinn_pairs_are_not_cropped(scale, low):
    pixels = picture(41, 53)
    lr, hr = make_pair(pixels, scale, "diinn")
    assert np.array_equal(hr, pixels)
    assert np.array_equal(lr, resize(pixels, low, "torch"))


# Folders


def save(pixels: np.ndarray, path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two colour pictures of different sizes."""
    save(picture(41, 53), tmp_path / "photos" / "b.png")
    save(picture(48, 36, seed=1), tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


PICTURES = {"a.png": (48, 36, 1), "b.png": (41, 53, 0)}


def bicubic_by_hand(name: str, scale: float) -> dict[str, float]:
    """The whole protocol for one picture of `folder`, with Pillow alone."""
    pixels = picture(*PICTURES[name])
    low = [math.floor(n / scale) for n in pixels.shape[:2]]
    high = [math.floor(n * scale + 0.5) for n in low]
    hr = pixels[: high[0], : high[1]]
    small = Image.fromarray(hr).resize(low[::-1], Image.Resampling.BICUBIC)
    sr = np.asarray(small.resize(high[::-1], Image.Resampling.BICUBIC)) / 255
    difference = sr - hr / 255
    luma = difference @ np.array([65.738, 129.057, 25.064]) / 256
    cut, wide = math.ceil(scale), math.ceil(scale) + 6
    errors = luma[cut:-cut, cut:-cut], difference[wide:-wide, wide:-wide]
    y, rgb = (-10 * math.log10(np.square(e).mean()) for e in errors)
    return {"psnr_y": y, "psnr_rgb": rgb}


@pytest.mark.parametrize("scale", [2, 2.5, 3])
def test_evaluate_bicubic_by_hand(folder, scale):
    rows = evaluate(None, folder, [scale], per_image=True, name="bicubic")
    assert [row.get("image") for row in rows] == [None, "a.png", "b.png"]
    assert [row["images"] for row in rows] == [2, 1, 1]
    for row in rows[1:]:
        expected = bicubic_by_hand(row["image"], scale)
        assert row["psnr_y"] == pytest.approx(expected["psnr_y"], abs=1e-4)
        assert row["psnr_rgb"] == pytest.approx(expected["psnr_rgb"], abs=1e-4)
    for key in ("psnr_y", "psnr_rgb", "ssim", "lr_psnr"):
        mean = (rows[1][key] + rows[2][key]) / 2
        assert rows[0][key] == pytest.approx(mean, abs=1e-9)


def test_evaluate_says_what_it_did(folder):
    rows = evaluate(None, folder, [2, 3], "diinn", "grey", name="bicubic")
    assert [row["scale"] for row in rows] == [2, 3]
    about = {"model": "bicubic", "data": "photos", "protocol": "diinn", "grey": "grey"}
    for row in rows:
        assert {key: row[key] for key in about} == about
        assert row["images"] == 2 and "image" not in row
    assert rows[0]["psnr_y"] > rows[1]["psnr_y"]
    json.dumps(rows)


def test_evaluate_a_model(folder):
    """A fresh model with skip is bilinear interpolation, done here by torch."""
    model = build("liif", "tiny").eval()
    rows = evaluate(model, folder, [3], per_image=True)
    for row in rows[1:]:
        lr, hr = make_pair(picture(*PICTURES[row["image"]]), 3, "liif")
        guess = F.interpolate(to_tensor(lr), hr.shape[:2], mode="bilinear")
        expected = score(guess[0], to_tensor(hr)[0], 3, "liif")
        for key, value in expected.items():
            assert row[key] == pytest.approx(value, abs=1e-3), key


def test_evaluate_clamps_and_does_not_round(folder):
    model = tiny()
    row = evaluate(model, folder, [2], per_image=True)[2]
    lr, hr = make_pair(picture(41, 53), 2, "liif")
    guess = render(model, to_tensor(lr), hr.shape[:2])
    assert guess.max() > 1.01
    expected = score(guess.clamp(0, 1), to_tensor(hr)[0], 2, "liif")
    assert row["psnr_rgb"] == pytest.approx(expected["psnr_rgb"], abs=1e-6)


def test_diinn_protocol_by_hand(folder):
    row = evaluate(None, folder, [2], "diinn", per_image=True)[2]
    pixels = picture(41, 53)
    sr = resize(resize(pixels, (21, 27), "torch"), (41, 53), "torch")
    expected = psnr(to_tensor(sr)[0], to_tensor(pixels)[0])
    assert row["psnr_rgb"] == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def benchmark(tmp_path):
    """HR/ of 41 x 53 and an LR_bicubic/X2 file that no resizing would make."""
    save(picture(41, 53), tmp_path / "bench" / "HR" / "a.png")
    save(picture(20, 26, seed=7), tmp_path / "bench" / "LR_bicubic" / "X2" / "a.png")
    return tmp_path / "bench"


def test_files_of_the_data_set_are_used(benchmark):
    """Truth is the top left corner of the picture, LR times s."""
    path = benchmark / "HR" / "a.png"
    lr, hr = Benchmark(benchmark).pair(path, 2, "liif")
    assert np.array_equal(lr, picture(20, 26, seed=7))
    assert np.array_equal(hr, picture(41, 53)[:40, :52])


def test_files_whose_names_hold_the_scale_are_used(benchmark):
    """DIV2K and EDSR's archive call them so; of both names the plain one counts."""
    low, path = benchmark / "LR_bicubic" / "X2", benchmark / "HR" / "a.png"
    save(picture(20, 26, seed=8), low / "ax2.png")
    assert Benchmark(benchmark).low_file(path, 2, "liif") == low / "a.png"
    (low / "a.png").unlink()
    lr, _ = Benchmark(benchmark).pair(path, 2, "liif")
    assert np.array_equal(lr, picture(20, 26, seed=8))
    (low / "ax2.png").rename(low / "ax3.png")
    with pytest.raises(UserError, match=r"X2 lacks 1 of 1 pictures, such as a\.png"):
        Benchmark(benchmark).scorable(2, "liif")


@pytest.mark.parametrize("scale, protocol", [(3, "liif"), (2.5, "liif"), (2, "diinn")])
def test_files_of_the_data_set_are_not_used_elsewhere(benchmark, scale, protocol):
    """Scales without files make their own, and DIINN's protocol always does."""
    path = benchmark / "HR" / "a.png"
    lr, hr = Benchmark(benchmark).pair(path, scale, protocol)
    expected = make_pair(picture(41, 53), scale, protocol)
    assert np.array_equal(lr, expected[0]) and np.array_equal(hr, expected[1])


@pytest.mark.parametrize("rows, cols", [(21, 26), (20, 13), (10, 13)])
def test_file_that_does_not_belong_to_its_truth_is_refused(benchmark, rows, cols):
    low = benchmark / "LR_bicubic" / "X2" / "a.png"
    save(picture(rows, cols), low)
    with pytest.raises(UserError, match=r"X2.a\.png times 2 has .*HR.*belong together"):
        evaluate(None, benchmark, [2])


# Grey pictures


@pytest.fixture
def grey_folder(tmp_path):
    save(picture(41, 53)[..., 0], tmp_path / "grey" / "a.png")
    return tmp_path / "grey"


def test_grey_is_scored_as_one_channel_or_as_rgb(grey_folder):
    """As RGB, luma squeezes the range to 220 / 256: 1.32 dB that mean nothing."""
    as_rgb = evaluate(None, grey_folder, [2], grey="rgb")[0]
    as_grey = evaluate(None, grey_folder, [2], grey="grey")[0]
    squeeze = -20 * math.log10((65.738 + 129.057 + 25.064) / 256)
    assert as_rgb["psnr_y"] - as_grey["psnr_y"] == pytest.approx(squeeze, abs=1e-5)
    assert as_rgb["psnr_rgb"] == pytest.approx(as_grey["psnr_rgb"], abs=1e-5)
    by_hand = bicubic_grey_by_hand(picture(41, 53)[..., 0], 2)
    assert as_grey["psnr_y"] == pytest.approx(by_hand, abs=1e-4)


def bicubic_grey_by_hand(pixels: np.ndarray, scale: int) -> float:
    hr = pixels[: pixels.shape[0] // scale * scale, : pixels.shape[1] // scale * scale]
    size = (hr.shape[1] // scale, hr.shape[0] // scale)
    small = Image.fromarray(hr).resize(size, Image.Resampling.BICUBIC)
    sr = np.asarray(small.resize(hr.shape[::-1], Image.Resampling.BICUBIC)) / 255
    error = np.square(sr - hr / 255)[scale:-scale, scale:-scale]
    return -10 * math.log10(error.mean())


def test_colour_pictures_do_not_care(folder):
    rows = [evaluate(None, folder, [2], grey=grey)[0] for grey in ("rgb", "grey")]
    assert rows[0]["psnr_y"] == rows[1]["psnr_y"]


# What else evaluate does


def test_save_writes_every_output(folder, tmp_path):
    out = tmp_path / "out"
    evaluate(None, folder, [2, 2.5], save=out)
    written = sorted(str(p.relative_to(out)) for p in out.rglob("*.png"))
    assert written == ["x2.5/a.png", "x2.5/b.png", "x2/a.png", "x2/b.png"]
    lr, hr = make_pair(picture(41, 53), 2, "liif")
    expected = resize(lr, hr.shape[:2])
    assert np.array_equal(Image.open(out / "x2" / "b.png"), expected)


def test_table_shows_the_figures_and_the_protocol(folder):
    rows = evaluate(None, folder, [2, 3.5], per_image=True, name="bicubic")
    table = format_rows(rows)
    assert len(table.splitlines()) == 1 + len(rows) + 1
    for row, line in zip(rows, table.splitlines()[1:], strict=False):
        assert f"{row['psnr_y']:.2f}" in line and f"{row['scale']:g}" in line
        assert str(row.get("image", row["images"])) in line
    assert "model bicubic, protocol liif, grey pictures scored as rgb" in table


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"protocol": "lif"}, "unknown protocol 'lif'.*Did you mean 'liif'"),
        ({"grey": "gray"}, "Did you mean 'grey'"),
        ({"scales": [0]}, "1 or more, not 0"),
        ({"scales": [-2]}, "1 or more"),
        ({"scales": [0.5]}, "1 or more"),
        ({"scales": [math.nan]}, "1 or more"),
        ({"scales": [math.inf]}, "1 or more"),
        ({"scales": [60]}, "nothing left"),
        ({"scales": [12]}, "nothing but border"),
    ],
)
def test_evaluate_refuses(folder, arguments, words):
    with pytest.raises(UserError, match=words):
        evaluate(None, folder, **{"scales": [2], **arguments})


def test_evaluate_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="no picture in"):
        evaluate(None, tmp_path, [2])
    with pytest.raises(UserError, match="is not a folder"):
        evaluate(None, tmp_path / "nowhere", [2])


def test_evaluate_names_what_it_leaves_out(folder):
    """Cut off, or too small at one of the scales; the others are scored as ever."""
    before = evaluate(None, folder, [2, 4])
    save(picture(60, 60), folder / "c.jpg")
    (folder / "c.jpg").write_bytes((folder / "c.jpg").read_bytes()[:-200])
    save(picture(19, 40), folder / "d.png")
    rows = evaluate(None, folder, [2, 4])
    assert rows[1] == before[1] | {"left_out": ["c.jpg", "d.png"]}
    assert rows[0]["left_out"] == ["c.jpg"] and rows[0]["images"] == 3
    for name in ("a.png", "b.png", "d.png"):
        (folder / name).unlink()
    with pytest.raises(
        UserError, match=r"can be read, 1 were tried.*c\.jpg is damaged"
    ):
        evaluate(None, folder, [2])


# The literature's bicubic


@pytest.fixture
def without_ssim(monkeypatch):
    """It takes long, and nobody looks at it here."""
    monkeypatch.setattr("asr_course.metrics.ssim", lambda *_: math.nan)


@needs_shared
@pytest.mark.parametrize(
    "data, expected",
    [("set5", [33.67, 30.40, 28.43]), ("set14", [30.33, 27.63, 26.09])],
)
def test_published_bicubic_figures(data, expected, without_ssim):
    """From the data sets' own files, grey pictures converted to RGB."""
    rows = evaluate(None, SHARED / data, [2, 3, 4])
    assert [row["psnr_y"] for row in rows] == pytest.approx(expected, abs=0.01)


@needs_shared
def test_published_bicubic_figures_with_bridge_as_grey(without_ssim):
    """Older papers score `bridge` as grey, for it is the one stored as such there.

    Here all are stored as RGB. `man` has equal channels too, so that grey="grey"
    scores two pictures as grey; the published figure has one.
    """
    figures = {}
    for grey in ("rgb", "grey"):
        rows = evaluate(None, SHARED / "set14", [4], grey=grey, per_image=True)
        figures[grey] = {row["image"]: row["psnr_y"] for row in rows[1:]}
    rgb, grey = figures["rgb"], figures["grey"]
    assert {name for name in rgb if rgb[name] != grey[name]} == {
        "bridge.png",
        "man.png",
    }
    figure = np.mean(list({**rgb, "bridge.png": grey["bridge.png"]}.values()))
    assert figure == pytest.approx(26.00, abs=0.01)
