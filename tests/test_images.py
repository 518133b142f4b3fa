"""Images in and out, and the three ways of resizing them."""

import io
import os
import re
import subprocess
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import golden, picture
from PIL import Image

from asr_course import images
from asr_course.colours import split_alpha, to_rgb
from asr_course.commands import report_left_out
from asr_course.errors import UserError

PIXELS = golden("resize")["img_uint8"]  # (45, 60, 3)


def golden_resizes(prefix: str) -> dict[tuple[int, ...], np.ndarray]:
    """{(rows, cols): the golden image at that size}."""
    found = {k.removeprefix(prefix): v for k, v in golden("resize").items()}
    found = {k: v for k, v in found.items() if re.fullmatch(r"\d+x\d+", k)}
    assert len(found) == 7
    return {tuple(map(int, size.split("x"))): v for size, v in found.items()}


def test_pillow_resize_bit_for_bit():
    for size, expected in golden_resizes("pillow_bicubic_").items():
        found = images.resize(PIXELS, size)
        np.testing.assert_array_equal(found, expected, strict=True)


def test_torch_resize_is_the_golden_one_rounded():
    for size, exact in golden_resizes("torch_antialias_bicubic_float_").items():
        found = images.resize(PIXELS, size, "torch")
        assert found.dtype == np.uint8
        assert np.abs(found - exact.clip(0, 255)).max() < 0.501


@pytest.mark.parametrize("how", ["pillow", "torch", "matlab"])
@pytest.mark.parametrize("size", [(17, 21), (60, 80), (45, 60)])
def test_grey_is_resized_like_any_channel(how, size):
    grey = images.resize(np.ascontiguousarray(PIXELS[..., 1]), size, how)
    resized = images.resize(PIXELS, size, how)
    np.testing.assert_array_equal(grey, resized[..., 1], strict=True)
    if size == (45, 60):
        np.testing.assert_array_equal(resized, PIXELS, strict=True)


def cropped(k: int) -> np.ndarray:
    """The golden image cut to whole k x k blocks."""
    return PIXELS[: 45 // k * k, : 60 // k * k]


@pytest.mark.parametrize("k", [2, 3, 4])
def test_matlab_resize_in_floating_point_and_in_8_bits(k):
    """Rounding after each pass, not only at the end, moves a few pixels by one."""
    expected = golden("resize")[f"matlab_double_replicate_x1_{k}"]
    found = images.matlab_resize(cropped(k) / 255, expected.shape[:2])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    expected = golden("resize")[f"matlab_uint8_replicate_x1_{k}"].astype(int)
    found = images.resize(cropped(k), expected.shape[:2], "matlab")
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.2


def test_matlab_resize_rounds_rows_before_columns():
    """8 bits after either pass; rounding once, or columns first, is not the same."""
    pixels, size = cropped(3), (15, 20)
    found = images.matlab_resize(pixels, size)
    rows_first = images.matlab_resize(images.matlab_resize(pixels, (15, 60)), size)
    assert np.array_equal(found, rows_first)
    columns_first = images.matlab_resize(images.matlab_resize(pixels, (45, 20)), size)
    assert not np.array_equal(found, columns_first)
    once = np.floor(images.matlab_resize(pixels.astype(float), size) + 0.5).clip(0, 255)
    assert not np.array_equal(found, once)


@pytest.mark.parametrize("scale, margin", [("2", 4), ("0_4", 2), ("1_3", 2)])
def test_matlab_resize_inside_does_not_depend_on_the_border(scale, margin):
    """MATLAB mirrors where the published files replicate: only the rim differs."""
    inside = (slice(margin, -margin),) * 2
    expected = golden("resize")[f"matlab_double_x{scale}"]
    found = images.matlab_resize(PIXELS / 255, expected.shape[:2])
    np.testing.assert_allclose(found[inside], expected[inside], rtol=0, atol=1e-10)
    assert np.abs(found - expected).max() > 1e-3


def test_tensor_and_back():
    pixels = picture(5, 7)
    tensor = images.to_tensor(pixels)
    assert tensor.shape == (1, 3, 5, 7)
    assert tensor[0, 2, 3, 4].item() == pytest.approx(pixels[3, 4, 2] / 255)
    np.testing.assert_array_equal(images.to_pixels(tensor[0]), pixels, strict=True)
    grey = images.to_tensor(Image.fromarray(pixels[..., 0]))
    assert torch.equal(grey, tensor[:, :1].expand(-1, 3, -1, -1))


def test_to_pixels_clamps_and_rounds():
    values = torch.tensor([-0.3, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 7.0])
    pixels = images.to_pixels(values.expand(3, 1, -1))
    assert pixels[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255, 255]


# Reading

PHOTO = Image.fromarray(picture(12, 17))


def see_through(mode: str) -> Image.Image:
    image = PHOTO.convert(mode)
    image.putalpha(Image.fromarray(picture(12, 17, seed=1)[..., 1]))
    return image


@pytest.mark.parametrize(
    "image, mode, has_alpha",
    [
        (PHOTO, "RGB", False),
        (PHOTO.convert("L"), "L", False),
        (PHOTO.convert("CMYK"), "RGB", False),
        (PHOTO.quantize(8), "RGB", False),
        (see_through("RGBA"), "RGB", True),
        (see_through("LA"), "L", True),
    ],
)
def test_split_alpha(image, mode, has_alpha):
    colours, alpha = split_alpha(image)
    assert colours.mode == mode and (alpha is not None) == has_alpha
    assert np.array_equal(colours, image.convert(mode))
    if has_alpha:
        assert np.array_equal(alpha, picture(12, 17, seed=1)[..., 1])
    assert np.array_equal(to_rgb(image), colours.convert("RGB"))


def test_16_bit_grey_is_reduced_to_8(tmp_path):
    """Rounded, not cut: 257 grey levels of 16 bits make one of 8."""
    levels = np.array([[0, 128, 129, 257, 40000, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    grey, alpha = split_alpha(images.open_image(tmp_path / "deep.png"))
    assert np.asarray(grey).tolist() == [[0, 0, 1, 1, 156, 255]] and alpha is None
    wide = Image.fromarray(levels.astype(np.int32) * 2)
    assert np.asarray(split_alpha(wide)[0]).max() == 255


def test_images_are_turned_the_right_way_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    PHOTO.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(images.open_image(tmp_path / "a.png"), np.rot90(PHOTO, -1))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.9])
def test_truncated_file_is_refused(tmp_path, suffix, keep):
    """Cut within the header, or within the pixels, which are read later."""
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(picture(64, 64)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(UserError, match=rf"cannot read .*cut\.{suffix}"):
        to_rgb(images.open_image(path))


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("these are words, not pixels")
    (tmp_path / "folder.png").mkdir()
    for name in ("nothing.png", "text.png", "folder.png"):
        with pytest.raises(UserError, match=f"cannot read .*{name}"):
            images.open_image(tmp_path / name)
    with pytest.raises(UserError, match="the image: no format"):
        images.open_image(io.BytesIO(b""))
    with pytest.raises(UserError, match="the image: its pixels are floats"):
        images.open_image(Image.new("F", (2, 2)))
    with pytest.raises(UserError, match="Did you mean 'matlab'"):
        images.resize(picture(4, 4), (2, 2), "mathlab")


def test_list_images(tmp_path):
    for name, kind in {"b.png": "png", "a.JPG": "jpeg", "c.tiff": "tiff"}.items():
        Image.fromarray(picture(3, 4)).save(tmp_path / name, kind)
    for name in ["notes.txt", "d.png.part"]:
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    found = [path.name for path in images.list_images(tmp_path)[0]]
    assert found == ["a.JPG", "b.png", "c.tiff"]
    with pytest.raises(UserError, match="no image"):
        images.list_images(tmp_path / "sub")
    with pytest.raises(UserError, match="not a folder"):
        images.list_images(tmp_path / "b.png")


def test_sizes_of_a_folder_and_what_is_left_out(photo, capsys):
    (photo.parent / "broken.png").write_bytes(photo.read_bytes()[:-300])
    left_out = {"broken.png": "cannot be read"}
    assert images.list_images(photo.parent) == ({photo: (12, 17)}, left_out)
    photo.unlink()
    with pytest.raises(UserError, match="no image .* can be read"):
        images.list_images(photo.parent)
    report_left_out("photos", dict.fromkeys("abcde", "why"), 7)
    note = capsys.readouterr().out
    assert "5 of 7" in note and "c (why), ..." in note and "d (why)" not in note


# Writing


@pytest.mark.parametrize("before", ["old", None])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, before):
    path = tmp_path / "file.txt"
    if before:
        path.write_text(before)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", Mock(side_effect=KeyboardInterrupt))
        images.write_whole(path, b"new")
    assert os.listdir(tmp_path) == (["file.txt"] if before else [])
    assert not before or path.read_text() == before
    images.write_whole(path, b"new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file.txt"]


def test_a_folder_that_is_read_only_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(UserError, match="cannot write"):
        images.check_place(tmp_path / "new" / "deeper")


def test_full_disk_is_noticed_and_leaves_nothing(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=4096", "none", tmp_path]
    if os.name != "posix" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    try:
        with pytest.raises(OSError, match="No space"):
            images.save_image(Image.fromarray(noise), tmp_path / "large.png")
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm", ".PNG"])
def test_save_image_loses_nothing(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    images.save_image(Image.fromarray(picture(5, 7)), path)
    assert np.array_equal(images.open_image(path), picture(5, 7))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_save_image_keeps_transparency(tmp_path, mode, suffix):
    path = tmp_path / f"out{suffix}"
    images.save_image(see_through(mode), path)
    alpha = images.open_image(path).convert("RGBA").getchannel("A")
    assert np.array_equal(alpha, picture(12, 17, seed=1)[..., 1])


@pytest.mark.parametrize("name", images.CROPS)
def test_sample_photos_and_crops(name):
    pixels, (row, col) = images.sample_photo(name), images.CROPS[name]
    assert pixels.dtype == np.uint8 and pixels.std() > 30
    crop = images.sample_crops(200)[name]
    np.testing.assert_array_equal(crop, pixels[row : row + 200, col : col + 200])
    assert images.sample_crops()[name].shape == (256, 256, 3)


def test_a_file_s_name_may_be_as_long_as_the_disk_allows(tmp_path):
    images.write_whole(tmp_path / f"{'n' * 251}.png", b"x")
    assert [len(name) for name in os.listdir(tmp_path)] == [255]
