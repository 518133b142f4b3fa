"""Measures against the official ones and against slow formulas; the protocols."""

import math
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import golden, golden_tensor, picture, tiny
from PIL import Image

from asr_course.commands import format_rows
from asr_course.errors import UserError
from asr_course.images import resize, to_tensor
from asr_course.metrics import (
    Benchmark,
    evaluate,
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


def golden_pair(b: int = 0) -> tuple:
    """One of the two golden outputs with its truth: (3, 40, 44) each."""
    return tuple(golden_tensor("metrics_coords", f"psnr_{x}")[b] for x in ("sr", "hr"))


def pooled_psnr(border: int, convert=lambda x: x) -> float:
    """PSNR of both golden images together, as the official function has it."""
    pairs = [map(convert, golden_pair(b)) for b in range(2)]
    errors = [10 ** (-psnr(a, b, border) / 10) for a, b in pairs]
    return -10 * math.log10(np.mean(errors))


# PSNR


def test_psnr_equals_the_official_one():
    """RGB without a border; with s + 6 for DIV2K; luma with s for the benchmarks."""
    expected = golden("metrics_coords")
    assert pooled_psnr(0) == pytest.approx(expected["psnr_none"].item(), abs=1e-5)
    for s in (2, 3, 4, 6):
        rgb, luma = (expected[f"psnr_{x}_x{s}"].item() for x in ("div2k", "benchmark"))
        assert pooled_psnr(s + 6) == pytest.approx(rgb, abs=1e-5)
        assert pooled_psnr(s, to_luma) == pytest.approx(luma, abs=1e-5)


@pytest.mark.parametrize("difference, expected", [(1, 0), (0.1, 20), (0.01, 40)])
def test_psnr_of_a_constant_difference(difference, expected):
    a = torch.rand(3, 9, 9, dtype=torch.float64)
    assert psnr(a + difference, a) == pytest.approx(expected, abs=1e-6)


def test_psnr_ignores_the_border():
    assert psnr(torch.ones(3, 9, 9), torch.ones(3, 9, 9)) == math.inf
    a, b = torch.zeros(1, 9, 9), torch.zeros(1, 9, 9)
    b[:, 4, 4] = 0.5
    b[:, :2] = b[:, -2:] = 1
    b[..., :2] = b[..., -2:] = 1
    assert psnr(a, b, 2) == pytest.approx(-10 * math.log10(0.25 / 25))


def test_shave():
    x = torch.rand(2, 9, 11)
    assert torch.equal(shave(x, 4), x[:, 4:5, 4:7]) and torch.equal(shave(x, 0), x)
    assert math.isnan(psnr(x, x + 1, 5)) and math.isnan(psnr(x, x + 1, 20))


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
    assert torch.equal(to_luma(pixel[:1]), pixel[:1])


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


def test_ssim_of_equal_and_of_small_pictures():
    a = torch.rand(3, 11, 11)
    assert ssim(a, a.clone()) == pytest.approx(1, abs=1e-12)
    for small in (a[..., :10], a[:, :10]):
        assert math.isnan(ssim(small, small))


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


# Seams


def test_seam_by_hand():
    """Rows 0 1 | 4 6: a step of 3 at the border, 1 and 2 elsewhere."""
    rows = torch.tensor([0.0, 1, 4, 6])[None, :, None].expand(3, 4, 2)
    assert seam(rows, 2) == pytest.approx(3 / 1.5)
    assert seam(-rows, 2) == pytest.approx(3 / 1.5)
    assert seam(rows, 2, where=0.5) == pytest.approx(1.5 / 3)


@pytest.mark.parametrize("scale", [2, 4, 6])
def test_seam_of_jumps_at_centres(scale):
    """Large at the centres, and nothing at the borders."""
    flat = torch.rand(3, 5, 7).repeat_interleave(scale, dim=1)
    moved = flat[:, scale // 2 :][:, : 4 * scale]  # jumps at rows s/2, 3s/2 ...
    assert seam(moved, scale, where=0.5) == seam(flat, scale) == math.inf
    assert seam(moved, scale) == seam(flat, scale, where=0.5) == 0


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
    sr, hr = golden_pair()
    luma = psnr(to_luma(sr), to_luma(hr))
    expected = {"psnr_y": luma, "psnr_rgb": psnr(sr, hr), "ssim": ssim(sr, hr)}
    found = score(sr, hr, 4, "diinn")
    assert found == expected | {"lr_psnr": lr_psnr(sr, hr, 4)}


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
    about = {"model": "bicubic", "data": "photos", "scale": scale}
    about |= {"protocol": "liif", "grey": "rgb"}
    assert all(row == row | about for row in rows)
    for row in rows[1:]:
        expected = bicubic_by_hand(row["image"], scale)
        assert row["psnr_y"] == pytest.approx(expected["psnr_y"], abs=1e-4)
        assert row["psnr_rgb"] == pytest.approx(expected["psnr_rgb"], abs=1e-4)
    for key in ("psnr_y", "psnr_rgb", "ssim", "lr_psnr"):
        mean = (rows[1][key] + rows[2][key]) / 2
        assert rows[0][key] == pytest.approx(mean, abs=1e-9)


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


def inputs(folder, scale, protocol):
    """What `Benchmark` reads for the only image of a folder."""
    benchmark = Benchmark(folder)
    (path,) = benchmark.scorable(scale, protocol)
    return benchmark.read(path, scale, protocol)


def test_files_of_the_data_set_are_used(benchmark):
    """Truth is the top left corner of the image, LR times s."""
    lr, hr = inputs(benchmark, 2, "liif")
    assert np.array_equal(lr, picture(20, 26, seed=7))
    assert np.array_equal(hr, picture(41, 53)[:40, :52])
    (row,) = evaluate(None, benchmark, [2])
    sr = to_tensor(resize(lr, (40, 52)))[0]
    assert row["psnr_y"] == score(sr, to_tensor(hr)[0], 2, "liif")["psnr_y"]


def test_files_whose_names_hold_the_scale_are_used(benchmark):
    """DIV2K and EDSR's archive call them so; of both names the plain one counts."""
    low = benchmark / "LR_bicubic" / "X2"
    save(picture(20, 26, seed=8), low / "ax2.png")
    assert np.array_equal(inputs(benchmark, 2, "liif")[0], picture(20, 26, seed=7))
    (low / "a.png").unlink()
    assert np.array_equal(inputs(benchmark, 2, "liif")[0], picture(20, 26, seed=8))
    (low / "ax2.png").rename(low / "ax3.png")
    with pytest.raises(UserError, match=r"cannot read .*a\.png"):
        evaluate(None, benchmark, [2])


def test_low_resolution_folders_in_any_letter_case(benchmark):
    expected = evaluate(None, benchmark, [2])
    assert expected[0]["lr"] == "LR_bicubic/X2" and "X2, 1" in format_rows(expected)
    (benchmark / "LR_bicubic" / "X2").rename(benchmark / "LR_bicubic" / "x2")
    (benchmark / "LR_bicubic").rename(benchmark / "lr_Bicubic")
    [found] = evaluate(None, benchmark, [2])
    assert found == {**expected[0], "lr": "lr_Bicubic/x2"}
    assert evaluate(None, benchmark, [2], "diinn")[0]["lr"] == "made"


def test_file_of_the_data_set_that_is_no_image_is_refused(benchmark):
    (benchmark / "LR_bicubic" / "X2" / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cannot read .*a\.png"):
        evaluate(None, benchmark, [2])


def test_files_of_the_data_set_are_checked_once(benchmark, monkeypatch):
    """However many models are scored, and however often."""
    checked = Benchmark(benchmark)
    checked.scorable(2, "liif")
    monkeypatch.setattr("asr_course.images.open_image", None)
    assert len(checked.scorable(2, "liif")) == 1


@pytest.mark.parametrize("scale, protocol", [(3, "liif"), (2.5, "liif"), (2, "diinn")])
def test_files_of_the_data_set_are_not_used_elsewhere(benchmark, scale, protocol):
    """Scales without files make their own, and DIINN's protocol always does."""
    found = inputs(benchmark, scale, protocol)
    for pixels, expected in zip(
        found, make_pair(picture(41, 53), scale, protocol), strict=True
    ):
        assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("rows, cols", [(19, 26), (21, 26), (20, 25), (26, 20)])
def test_file_that_does_not_belong_to_its_truth_is_refused(benchmark, rows, cols):
    save(picture(rows, cols), benchmark / "LR_bicubic" / "X2" / "a.png")
    with pytest.raises(UserError, match="not belong"):
        evaluate(None, benchmark, [2])


# Grey pictures


def test_grey_is_scored_as_one_channel_or_as_rgb():
    """As RGB, luma squeezes the range to 220 / 256: 1.32 dB that mean nothing."""
    grey = {"a": np.repeat(picture(40, 52)[..., :1], 3, axis=2)}
    as_rgb = evaluate(None, grey, [2], grey="rgb")[0]
    as_grey = evaluate(None, grey, [2], grey="grey")[0]
    squeeze = -20 * math.log10((65.738 + 129.057 + 25.064) / 256)
    assert as_rgb["psnr_y"] - as_grey["psnr_y"] == pytest.approx(squeeze, abs=1e-5)
    assert as_rgb["psnr_rgb"] == pytest.approx(as_grey["psnr_rgb"], abs=1e-5)
    lr, hr = make_pair(grey["a"], 2, "liif")
    error = (resize(lr, hr.shape[:2])[..., 0] / 255 - hr[..., 0] / 255)[2:-2, 2:-2]
    by_hand = -10 * math.log10(np.square(error).mean())
    assert as_grey["psnr_y"] == pytest.approx(by_hand, abs=1e-4)
    colour = {"a": picture(40, 52)}
    rows = [evaluate(None, colour, [2], grey=grey)[0] for grey in ("rgb", "grey")]
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


def test_two_images_of_one_stem_are_saved_as_two(tmp_path):
    for name in ("a.png", "a.bmp", "b.png"):
        save(picture(24, 24), tmp_path / name)
    evaluate(None, tmp_path, [2], save=tmp_path / "out")
    saved = sorted(os.listdir(tmp_path / "out" / "x2"))
    assert saved == ["a.bmp.png", "a.png.png", "b.png"]


def test_images_in_memory_are_scored_like_files(folder):
    images = {name: picture(*PICTURES[name]) for name in ("b.png", "a.png")}
    found = evaluate(None, images, [2], per_image=True)
    expected = evaluate(None, Benchmark(folder), [2], per_image=True)
    assert [row["image"] for row in found[1:]] == ["b.png", "a.png"]
    for key in ("psnr_y", "ssim", "images"):
        assert found[0][key] == pytest.approx(expected[0][key])


@pytest.mark.parametrize(
    "scale, side, fits",
    [(2, 16, False), (2, 17, False), (2, 18, True), (2.5, 19, False), (2.5, 20, True)],
)
def test_too_small_is_what_has_nothing_inside_its_border(scale, side, fits):
    """The border is ceil(s) + 6 wide; at x2.5, 19 and 20 become 18 and 20 pixels."""
    benchmark = Benchmark({"a": picture(side, 60), "b": picture(60, 61)})
    assert list(benchmark.too_small(scale, "liif")) == ([] if fits else ["a"])
    assert len(benchmark.scorable(scale, "liif")) == 1 + fits
    assert benchmark.too_small(scale, "diinn") == {}
    rows = evaluate(None, benchmark.pixels, [scale])
    assert rows[0].get("left_out") == (None if fits else ["a"])
    assert math.isfinite(rows[0]["psnr_rgb"])


def test_evaluate_names_what_it_leaves_out(folder):
    """Damaged, or too small for one of the scales; the others are scored as before."""
    before = evaluate(None, folder, [2, 4])
    save(picture(60, 60), folder / "c.jpg")
    (folder / "c.jpg").write_bytes((folder / "c.jpg").read_bytes()[:-200])
    save(picture(19, 40), folder / "d.png")
    rows = evaluate(None, folder, [2, 4])
    assert rows[1] == before[1] | {"left_out": ["c.jpg", "d.png"]}
    assert rows[0]["left_out"] == ["c.jpg"] and rows[0]["images"] == 3


def test_table_shows_every_row(folder):
    rows = evaluate(None, folder, [2, 3.5], per_image=True, name="bicubic")
    head, *lines, about = format_rows(rows).splitlines()
    for row, line in zip(rows, lines, strict=True):
        assert f"{row['psnr_y']:.2f}" in line and f"{row['lr_psnr']:.2f}" in line
        assert str(row.get("image", row["images"])) in line
    assert "SSIM" in head and "bicubic" in about and "liif" in about


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"protocol": "lif"}, "Did you mean 'liif'"),
        ({"grey": "gray"}, "Did you mean 'grey'"),
        *(({"scales": [2, s]}, "1 or more") for s in (0, 0.99, math.nan, math.inf)),
        ({"scales": [60]}, "large enough"),
        ({"scales": [12]}, "large enough"),
        ({"source": {}}, "large enough"),
        ({"source": "nowhere"}, "not a folder"),
    ],
)
def test_evaluate_refuses(folder, arguments, words):
    with pytest.raises(UserError, match=words):
        evaluate(None, **{"source": folder, "scales": [2], **arguments})


def test_scales_and_sizes_at_the_limit():
    assert make_pair(picture(3, 9), 3, "liif")[0].shape == (1, 3, 3)
