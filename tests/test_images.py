"""Pictures in and out, and the three ways of resizing them."""

import os

import numpy as np
import pytest
import torch
from helpers import SHARED, golden, needs_shared, picture
from PIL import Image

from asr_course.errors import UserError
from asr_course.images import (
    PHOTOS,
    atomic,
    check_writable,
    current_umask,
    is_grey,
    list_images,
    matlab_resize,
    open_image,
    resize,
    sample_photo,
    save_image,
    split_alpha,
    to_pixels,
    to_rgb,
    to_tensor,
)


def golden_sizes(prefix: str) -> list[str]:
    """The "ROWSxCOLS" at which a golden resize exists."""
    return sorted(
        key.removeprefix(prefix) for key in golden("resize") if key.startswith(prefix)
    )


def as_size(text: str) -> tuple[int, int]:
    rows, cols = text.split("x")
    return int(rows), int(cols)


# Resizing


def test_there_are_golden_sizes():
    """The parameters below are read from a file: they must not be none."""
    assert len(golden_sizes("pillow_bicubic_")) == 7
    assert len(golden_sizes("torch_antialias_bicubic_float_")) == 7


@pytest.mark.parametrize("size", golden_sizes("pillow_bicubic_"))
def test_pillow_resize_bit_for_bit(size):
    resized = resize(golden("resize")["img_uint8"], as_size(size))
    expected = golden("resize")[f"pillow_bicubic_{size}"]
    np.testing.assert_array_equal(resized, expected, strict=True)


@pytest.mark.parametrize("size", golden_sizes("torch_antialias_bicubic_float_"))
def test_torch_resize_is_the_golden_one_rounded(size):
    resized = resize(golden("resize")["img_uint8"], as_size(size), "torch")
    exact = golden("resize")[f"torch_antialias_bicubic_float_{size}"]
    assert resized.dtype == np.uint8
    assert np.abs(resized - exact.clip(0, 255)).max() < 0.501


@pytest.mark.parametrize("how", ["pillow", "torch", "matlab"])
@pytest.mark.parametrize("size", [(15, 20), (17, 21), (60, 80)])
def test_grey_is_resized_like_any_channel(how, size):
    pixels = golden("resize")["img_uint8"]
    grey = resize(np.ascontiguousarray(pixels[..., 1]), size, how)
    np.testing.assert_array_equal(grey, resize(pixels, size, how)[..., 1], strict=True)


@pytest.mark.parametrize("how", ["pillow", "torch", "matlab"])
def test_resize_to_the_same_size_changes_nothing(how):
    pixels = golden("resize")["img_uint8"]
    np.testing.assert_array_equal(resize(pixels, (45, 60), how), pixels, strict=True)


def test_resize_suggests_a_way():
    with pytest.raises(UserError, match="Did you mean 'matlab'"):
        resize(picture(4, 4), (2, 2), "mathlab")


def cropped(k: int) -> np.ndarray:
    """The golden picture cut to whole k x k blocks."""
    pixels = golden("resize")["img_uint8"]
    return pixels[: 45 // k * k, : 60 // k * k]


@pytest.mark.parametrize("k", [2, 3, 4])
def test_matlab_resize_in_floating_point(k):
    expected = golden("resize")[f"matlab_double_replicate_x1_{k}"]
    found = matlab_resize(cropped(k) / 255, expected.shape[:2])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_matlab_resize_in_8_bits(k):
    """Rounding after each pass, not only at the end, moves a few pixels by one."""
    expected = golden("resize")[f"matlab_uint8_replicate_x1_{k}"].astype(int)
    found = resize(cropped(k), expected.shape[:2], "matlab")
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.2


@pytest.mark.parametrize("k", [2, 3, 4])
def test_matlab_resize_rounds_rows_before_columns(k):
    """8 bits after either pass; rounding once, or columns first, is not the same."""
    rows, cols = cropped(k).shape[0] // k, cropped(k).shape[1] // k

    def passes(sizes, rounded):
        picture = cropped(k).astype(float)
        for size in sizes:
            picture = matlab_resize(picture, size)
            if rounded or size == sizes[-1]:
                picture = np.floor(picture + 0.5).clip(0, 255)
        return picture

    found = resize(cropped(k), (rows, cols), "matlab")
    rows_first = [(rows, cols * k), (rows, cols)]
    assert np.array_equal(found, passes(rows_first, rounded=True))
    assert not np.array_equal(found, passes(rows_first, rounded=False))
    columns_first = [(rows * k, cols), (rows, cols)]
    assert not np.array_equal(found, passes(columns_first, rounded=True))


@pytest.mark.parametrize(
    "key, size, margin",
    [
        ("matlab_double_x2", (90, 120), 4),
        ("matlab_double_x0_4", (18, 24), 2),
        ("matlab_double_x1_3", (15, 20), 2),
    ],
)
def test_matlab_resize_inside_does_not_depend_on_the_border(key, size, margin):
    """MATLAB mirrors where the published files replicate: only the rim differs."""
    inside = (slice(margin, -margin),) * 2
    found = matlab_resize(golden("resize")["img_uint8"] / 255, size)
    expected = golden("resize")[key]
    np.testing.assert_allclose(found[inside], expected[inside], rtol=0, atol=1e-10)
    assert np.abs(found - expected).max() > 1e-3


def test_matlab_resize_keeps_constants_and_ramps():
    flat = np.full((9, 12, 3), 0.3)
    np.testing.assert_allclose(matlab_resize(flat, (4, 30)), 0.3, rtol=0, atol=1e-12)
    ramp = np.arange(40.0)[:, None] * [1, 2, 3, 4]
    doubled = matlab_resize(ramp, (80, 4))[6:-6]
    expected = ((np.arange(80) + 0.5) / 2 - 0.5)[6:-6, None] * [1, 2, 3, 4]
    np.testing.assert_allclose(doubled, expected, rtol=0, atol=1e-10)


@needs_shared
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("folder", ["set5", "set14"])
def test_matlab_resize_makes_the_published_files(folder, scale):
    """Bit for bit, of the picture cut to a multiple of the scale."""
    files = list_images(SHARED / folder / "HR")
    assert len(files) == {"set5": 5, "set14": 14}[folder]
    for path in files:
        hr = np.asarray(to_rgb(open_image(path)))
        low = SHARED / folder / "LR_bicubic" / f"X{scale}" / path.name
        expected = np.asarray(to_rgb(open_image(low)))
        size = expected.shape[:2]
        assert size == (hr.shape[0] // scale, hr.shape[1] // scale), path.name
        hr = hr[: size[0] * scale, : size[1] * scale]
        found = resize(hr, size, "matlab")
        assert np.array_equal(found, expected), path.name


# Tensors


def test_tensor_and_back():
    pixels = picture(5, 7)
    tensor = to_tensor(pixels)
    assert tensor.shape == (1, 3, 5, 7)
    assert tensor[0, 2, 3, 4].item() == pytest.approx(pixels[3, 4, 2] / 255)
    np.testing.assert_array_equal(to_pixels(tensor[0]), pixels, strict=True)


def test_grey_tensor_has_three_equal_channels():
    tensor = to_tensor(Image.fromarray(picture(5, 7)[..., 0]))
    assert torch.equal(tensor[0, 0], tensor[0, 1])
    assert torch.equal(tensor[0, 0], tensor[0, 2])


def test_to_pixels_clamps_and_rounds():
    values = torch.tensor([-0.3, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 7.0])
    pixels = to_pixels(values.expand(3, 1, -1))
    assert pixels[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_is_grey():
    grey = np.repeat(picture(4, 4)[..., :1], 3, axis=2)
    assert is_grey(grey) and is_grey(grey[..., 0])
    grey[2, 1, 2] ^= 1
    assert not is_grey(grey)


def test_split_alpha_gives_colours_and_transparency():
    pixels = np.concatenate([picture(4, 5), picture(4, 5, seed=1)[..., :1]], axis=2)
    colours, alpha = split_alpha(Image.fromarray(pixels))
    assert (colours.mode, alpha.mode) == ("RGB", "L")
    assert np.array_equal(colours, pixels[..., :3])
    assert np.array_equal(alpha, pixels[..., 3])
    assert split_alpha(Image.fromarray(pixels[..., :3].copy()))[1] is None


# Opening


def test_open_image_takes_paths_files_and_images(photo):
    pixels = np.asarray(Image.open(photo))
    with open(photo, "rb") as file:
        assert np.array_equal(open_image(file), pixels)
    assert np.array_equal(open_image(str(photo)), pixels)
    assert np.array_equal(open_image(Image.open(photo)), pixels)


def test_open_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no such file: .*nothing\.png"):
        open_image(tmp_path / "nothing.png")


def test_open_folder(tmp_path):
    with pytest.raises(UserError, match="is a folder; a picture was expected"):
        open_image(tmp_path)


def test_open_text_called_png(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("these are words, not pixels")
    with pytest.raises(UserError, match=r"cannot read .*text\.png as a picture"):
        open_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.9])
def test_truncated_file_is_refused(tmp_path, suffix, keep):
    """Cut within the header, or within the pixels, which are read later."""
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(picture(64, 64)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if keep > 1 else int(len(content) * keep)])
    with pytest.raises(UserError, match="cannot read|damaged"):
        to_rgb(open_image(path))


def test_far_too_large_picture_is_refused(photo, monkeypatch):
    """Pillow refuses more than twice its limit; that must read like other errors."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(UserError, match=r"photo\.png"):
        open_image(photo)


def test_list_images_is_sorted_and_knows_suffixes(tmp_path):
    for name in ["b.png", "a.JPG", "notes.txt", "c.tiff", "d.png.part"]:
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["a.JPG", "b.png", "c.tiff"]


def test_list_images_of_an_empty_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"no picture in .*\.png"):
        list_images(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "photo.png"])
def test_list_images_of_no_folder(photo, name):
    with pytest.raises(UserError, match=f"{name} is not a folder"):
        list_images(photo.parent / name)


# Saving


def test_atomic_replaces_on_success(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", ["old", None])
def test_atomic_leaves_nothing_on_failure(tmp_path, error, before):
    path = tmp_path / "file.txt"
    if before:
        path.write_text(before)
    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert os.listdir(tmp_path) == (["file.txt"] if before else [])
    assert not before or path.read_text() == before


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_atomic_file_has_ordinary_permissions(tmp_path):
    with atomic(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
    mode = (tmp_path / "file.txt").stat().st_mode & 0o777
    assert mode == 0o666 & ~current_umask()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".ppm", ".PNG"])
def test_save_image_loses_nothing(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    save_image(Image.fromarray(picture(5, 7)), path)
    assert np.array_equal(open_image(path), picture(5, 7))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_save_image_keeps_transparency(tmp_path, mode, suffix):
    image = Image.fromarray(picture(5, 7)).convert(mode)
    image.putalpha(Image.fromarray(picture(5, 7)[..., 1]))
    path = tmp_path / f"out{suffix}"
    save_image(image, path)
    alpha = open_image(path).convert("RGBA").getchannel("A")
    assert np.array_equal(alpha, picture(5, 7)[..., 1])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".bmp", ".ppm"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_save_image_refuses_to_lose_transparency(tmp_path, mode, suffix):
    path = tmp_path / f"out{suffix}"
    with pytest.raises(UserError, match=r"no transparency.*\.png"):
        save_image(Image.new(mode, (3, 3)), path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name, words",
    [
        ("out.xyz", r"end its name in \.png"),
        ("out", r"end its name in \.png"),
        ("nowhere/out.png", "the folder .*nowhere does not exist"),
        ("folder.png", "it is a folder"),
    ],
)
def test_unwritable_places(tmp_path, name, words):
    (tmp_path / "folder.png").mkdir()
    for attempt in (check_writable, lambda p: save_image(Image.new("L", (2, 2)), p)):
        with pytest.raises(UserError, match=words):
            attempt(tmp_path / name)
    assert os.listdir(tmp_path) == ["folder.png"]


TOO_WIDE = pytest.mark.parametrize("suffix, side", [(".jpg", 65501), (".webp", 16384)])


@TOO_WIDE
def test_picture_too_wide_for_its_format_is_refused(tmp_path, suffix, side):
    with pytest.raises(UserError, match=r"\.png"):
        save_image(Image.new("L", (side, 1)), tmp_path / f"out{suffix}")


@TOO_WIDE
def test_picture_too_wide_for_its_format_leaves_nothing(tmp_path, suffix, side):
    with pytest.raises((OSError, ValueError)):
        save_image(Image.new("L", (side, 1)), tmp_path / f"out{suffix}")
    assert os.listdir(tmp_path) == []


def test_failed_save_keeps_the_old_file(photo, monkeypatch):
    before = photo.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="disk full"):
        save_image(Image.new("L", (2, 2)), photo)
    assert photo.read_bytes() == before
    assert os.listdir(photo.parent) == [photo.name]


# Sample photographs


@pytest.mark.parametrize("name", PHOTOS)
def test_sample_photos_are_colour_photographs(name):
    pixels = sample_photo(name)
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    assert min(pixels.shape[:2]) >= 300
    assert pixels.std() > 30 and not is_grey(pixels)


def test_sample_photo_suggests():
    with pytest.raises(UserError, match="Did you mean 'chelsea'"):
        sample_photo("chelsa")
