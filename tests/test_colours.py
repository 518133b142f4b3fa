"""Colours of people's own pictures: what is seen before is seen after.

A fresh model with `skip` is bilinear interpolation, so a flat patch stays flat.
"""

import io
import struct

import numpy as np
import pytest
from helpers import picture, tiny
from PIL import ExifTags, Image, ImageCms

from asr_course import build
from asr_course.__main__ import main
from asr_course.colours import spread, to_rgb, to_srgb
from asr_course.enlarge import upscale
from asr_course.errors import UserError
from asr_course.images import list_images, open_image, save_image
from asr_course.weights import save_weights

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@pytest.fixture
def plain():
    return build("liif", "tiny", skip=True, hidden=(4,)).eval()


def swapped_profile() -> bytes:
    """A profile in which red and blue have changed places, made from sRGB's bytes."""
    data = SRGB.tobytes()
    table = {data[k : k + 4]: k for k in range(132, 132 + 12 * data[131], 12)}
    red, blue = table[b"rXYZ"], table[b"bXYZ"]
    swapped = bytearray(data)
    swapped[red + 4 : red + 12] = data[blue + 4 : blue + 12]
    swapped[blue + 4 : blue + 12] = data[red + 4 : red + 12]
    swapped = bytes(swapped).replace(b"sRGB b", b"mine b")
    return swapped.replace(b"s\0R\0G\0B", b"m\0i\0n\0e")


def seen(path) -> np.ndarray:
    """The pixels of a file as a screen shows them, by Pillow alone."""
    image = Image.open(path)
    profile = image.info.get("icc_profile")
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        image = ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB")
    return np.asarray(image.convert("RGB")).astype(int)


SUFFIXES = [".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".jp2", ".avif"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_profile_is_kept_or_converted(plain, tmp_path, suffix):
    """Red of a file whose profile makes it blue; .bmp and .gif hold no profile."""
    profile, before = swapped_profile(), tmp_path / "before.png"
    Image.new("RGB", (6, 5), (200, 60, 60)).save(before, icc_profile=profile)
    assert seen(before)[0, 0].tolist() == pytest.approx([60, 60, 200], abs=2)
    after = tmp_path / f"after{suffix}"
    save_image(upscale(plain, before, 2.5), after)
    assert np.abs(seen(after) - seen(before)[0, 0]).max() <= 3
    shown = to_rgb(open_image(before))  # what training, scoring and widgets see
    assert np.abs(np.asarray(shown).astype(int) - seen(before)).max() <= 1


def test_srgb_and_broken_profiles_change_nothing():
    image = Image.fromarray(picture(4, 5))
    for profile in (SRGB.tobytes(), b"no profile"):
        image.info["icc_profile"] = profile
        assert np.array_equal(to_srgb(image), picture(4, 5))


def test_transparent_pictures_have_no_dark_rim():
    """A white disc on transparent black: white wherever it is seen at all."""
    y, x = np.mgrid[:24, :24] - 11.5
    disc = ((y**2 + x**2) < 64).astype(np.uint8) * 255
    image = Image.fromarray(np.repeat(disc[..., None], 3, axis=2))
    image.putalpha(Image.fromarray(disc))
    for model in (build("liif", "tiny", skip=True).eval(), build("metasr", "tiny")):
        result = np.asarray(upscale(model, image, 3.3)).astype(int)
        if model.options.skip:
            assert (255 - result[..., :3])[result[..., 3] > 8].max() <= 1
    pixels = np.array([[7, 0, 0, 9]], np.uint8)
    found = spread(pixels, Image.fromarray(np.array([[10, 0, 7, 200]], np.uint8)))
    assert found.tolist() == [[7, 7, 9, 9]]
    nothing = Image.fromarray(np.zeros((1, 4), np.uint8))
    assert np.array_equal(spread(pixels, nothing), pixels)


def test_grey_stored_as_rgb_stays_grey():
    """By a model that would tint it."""
    grey = Image.fromarray(picture(9, 9)[..., 1]).convert("RGB")
    model = tiny()
    found = np.asarray(upscale(model, grey, 2))
    assert found.shape == (18, 18, 3) and np.ptp(found, axis=2).max() == 0
    assert np.array_equal(found[..., 0], upscale(model, grey.convert("L"), 2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_of_grey_come_out(plain, tmp_path, suffix):
    """A ramp of 4096 levels, as of a 12-bit scan; a .jpg gets 8 bits."""
    ramp = np.arange(0, 4096, 16, dtype=np.uint16).reshape(1, -1).repeat(4, axis=0)
    Image.fromarray(ramp).save(tmp_path / "in.png")
    out = tmp_path / f"out{suffix}"
    save_image(upscale(plain, tmp_path / "in.png", 1), out)
    assert np.abs(np.asarray(Image.open(out)).astype(int) - ramp).max() <= 1
    save_image(upscale(plain, tmp_path / "in.png", 2), tmp_path / "out.jpg")
    assert Image.open(tmp_path / "out.jpg").mode == "L"


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_data_about_a_picture_is_kept(plain, tmp_path, suffix):
    """Turned once, and not again by who reads the output; its size is the new one."""
    exif, date = Image.Exif(), "2026:11:28 12:00:00"
    exif[ExifTags.Base.Orientation] = 6
    details = {ExifTags.Base.DateTimeOriginal: date, ExifTags.Base.ExifImageWidth: 7}
    exif[ExifTags.IFD.Exif] = details
    exif[ExifTags.Base.Artist] = "somebody"
    photo, out = tmp_path / f"photo{suffix}", tmp_path / "out.jpg"
    Image.fromarray(picture(5, 7)).save(photo, exif=exif.tobytes(), dpi=(300, 300))
    save_image(upscale(plain, photo, 2), out)
    found = Image.open(out)
    assert found.size == (10, 14) and found.info["dpi"] == (300, 300)
    assert found.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert found.getexif()[ExifTags.Base.Artist] == "somebody"
    assert ExifTags.Base.StripOffsets not in found.getexif()  # of a TIFF
    details = found.getexif().get_ifd(ExifTags.IFD.Exif)
    assert details[ExifTags.Base.DateTimeOriginal] == date
    assert details[ExifTags.Base.ExifImageWidth] == 10


def test_quality_is_that_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_weights(tiny(), "tiny.safetensors", {})
    Image.fromarray(picture(20, 30)).save("in.png")
    words = ["upscale", "in.png", "out.jpg", "--scale", "2", "--overwrite"]
    words += ["--device", "cpu", "--model", "tiny.safetensors"]
    sizes = []
    for more in ([], ["--quality", "95"], ["--quality", "30"]):
        assert main(words + more) == 0
        sizes.append((tmp_path / "out.jpg").stat().st_size)
    assert sizes[0] == sizes[1] > 1.5 * sizes[2]
    assert Image.open("out.jpg").layer[0][1:3] == Image.open("out.jpg").layer[1][1:3]


@pytest.mark.parametrize("suffix", [".jfif", ".jp2", ".avif", ".tga"])
def test_what_can_be_read_is_read_in_a_folder(tmp_path, suffix):
    path = tmp_path / f"photo{suffix}"
    try:
        Image.fromarray(picture(16, 20)).save(path)
    except (KeyError, ValueError, OSError):
        pytest.skip("this Pillow does not write it")
    assert list_images(tmp_path) == ({path: (16, 20)}, {})


@pytest.mark.parametrize(
    "words", ["DefaultCPUAllocator: can't allocate memory", "other"]
)
def test_out_of_memory_is_one_line(tmp_path, monkeypatch, capsys, words):
    def fail(args):
        raise RuntimeError(words)

    monkeypatch.setattr("asr_course.commands.run_profile", fail)
    if words == "other":
        with pytest.raises(RuntimeError):
            main(["profile"])
    else:
        assert main(["profile"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "smaller output" in said


def test_grey_of_a_profile_is_seen_the_same(plain, tmp_path):
    """WebP makes colours of grey, which a profile for grey does not fit."""
    data = bytearray(SRGB.tobytes())
    data[16:20] = b"GRAY"
    at = data.index(b"rTRC")
    data[at : at + 4] = b"kTRC"
    for mode, suffix in (("L", ".webp"), ("L", ".png"), ("LA", ".webp")):
        image = Image.new(mode, (5, 4), 100 if mode == "L" else (100, 255))
        image.info["icc_profile"] = bytes(data)
        file = tmp_path / f"{mode}{suffix}"
        save_image(upscale(plain, image, 2), file)
        assert abs(int(seen(file)[0, 0, 1]) - 100) <= 2


def test_sixteen_bits_with_a_transparent_level_and_levels_beyond(plain, tmp_path):
    pixels = np.full((4, 6), 30000, np.uint16)
    pixels[:, :3] = 5
    Image.fromarray(pixels).save(tmp_path / "clear.png", transparency=5)
    result = upscale(plain, tmp_path / "clear.png", 1)
    assert result.mode == "LA" and result.getpixel((0, 0))[1] == 0
    assert result.getpixel((5, 0)) == (round(30000 / 257), 255)
    Image.fromarray(np.full((4, 6), 10**6, np.int32)).save(tmp_path / "wide.tif")
    with pytest.raises(UserError, match="no 16-bit levels"):
        open_image(tmp_path / "wide.tif")


def test_sixteen_bits_in_which_zero_is_white(tmp_path):
    """Pillow turns 8 bits around, and not 16."""
    file, levels = tmp_path / "white.tif", np.arange(0, 60_000, 5000, dtype=np.uint16)
    Image.fromarray(levels.reshape(3, 4)).save(file, tiffinfo={262: 0})
    found = np.asarray(open_image(file))
    assert np.array_equal(found, 65535 - levels.reshape(3, 4))


def test_a_profile_that_does_not_fit_grey_does_not_fit_its_colours(plain, tmp_path):
    """A .webp of grey holds colours: a profile for these would change what is seen."""
    image, out = Image.new("L", (5, 4), 100), tmp_path / "out.webp"
    image.info["icc_profile"] = swapped_profile()
    save_image(upscale(plain, image, 2), out)
    assert "icc_profile" not in Image.open(out).info
    assert "icc_profile" in image.info


def test_a_profile_outlives_another_way_to_write_colours(plain):
    """YCbCr is RGB written otherwise; a profile for CMYK or LAB fits RGB no more."""
    for mode, kept in (("YCbCr", True), ("CMYK", False), ("LAB", False)):
        image = Image.new(mode, (5, 4))
        image.info["icc_profile"] = swapped_profile()
        assert ("icc_profile" in upscale(plain, image, 2).info) == kept


def test_twelve_bits_and_what_is_said_where_zero_is_white(tmp_path):
    """Twelve bits in sixteen are nearly black, as Pillow reads them."""
    data, file = b"\xf0\x00\x7f" * 2, tmp_path / "twelve.tif"  # 3840, 127
    tags = {256: 2, 257: 2, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 6}
    ifd = b"".join(struct.pack("<HHII", tag, 4, 1, x) for tag, x in tags.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    file.write_bytes(head + data + struct.pack("<H", len(tags)) + ifd + bytes(4))
    assert np.asarray(open_image(file)).tolist() == [[3840 * 16, 127 * 16]] * 2
    image = Image.fromarray(np.zeros((3, 4), np.uint16))
    image.save(file, tiffinfo={262: 0}, dpi=(300, 300), icc_profile=b"mine")
    found = open_image(file)
    assert np.asarray(found).min() == 65535
    assert (found.info["dpi"], found.info["icc_profile"]) == ((300, 300), b"mine")


def test_broken_data_about_a_picture_cost_nothing_else(plain, tmp_path, monkeypatch):
    """EXIF that is none, or of a wrong type; a resolution of 0/0."""
    broken, wrong = tmp_path / "broken.jpg", tmp_path / "wrong.png"
    photo = Image.fromarray(picture(5, 7))
    photo.save(broken, exif=b"Exif\0\0garbage")
    exif = struct.pack(">2sHIHHHIHH", b"MM", 42, 8, 2, 274, 3, 1, 6, 0)
    exif += struct.pack(">HHI4s", 34853, 2, 2, b"x\0\0\0") + bytes(4)
    photo.save(wrong, exif=b"Exif\0\0" + exif)
    for file, size in ((broken, (14, 10)), (wrong, (10, 14))):
        save_image(upscale(plain, file, 2), tmp_path / "out.jpg")
        assert Image.open(tmp_path / "out.jpg").size == size
    photo.info["dpi"] = (float("nan"), 300)
    assert "dpi" not in upscale(plain, photo, 2).info
    about = Image.Exif()
    about[ExifTags.Base.Artist] = "somebody"
    photo.info = {"exif": about.tobytes()}
    assert "exif" in upscale(plain, photo, 2).info
    monkeypatch.setattr(Image.Exif, "get_ifd", lambda *_: struct.pack(">H", "x"))
    assert "exif" not in upscale(plain, photo, 2).info
