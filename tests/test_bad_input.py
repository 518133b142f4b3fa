"""Bad input, everywhere: what is typed or given, and the exact line a person reads.

Every row runs where nothing but its own files lies, so that lines name no places of
this machine. `said` sees to it that the line is the only one, that the exit code is 2
and that no file was written or changed. "{why}" stands for words of a library.
"""

import errno
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import picture, tiny
from PIL import Image, ImageCms
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import asr_course.weights
from asr_course.__main__ import main
from asr_course.encoders import ENCODERS
from asr_course.errors import UserError
from asr_course.images import atomic, open_image, save_image, to_rgb
from asr_course.models import MODELS
from asr_course.records import write_json
from asr_course.render import render
from asr_course.training import SHAPES, save_checkpoint
from asr_course.weights import save_weights

# A warning is a line too, but for those of files left open, which Python hides.
pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

FULL = "the disk is full; make room, or choose a place on another disk"
DENIED = "permission denied; choose another place, or change its permissions"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with a photo of 12 x 17 and the weights of a tiny LIIF."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(12, 17)).save("photo.png")
    save_weights(tiny(), "tiny.safetensors", {"steps": 0})
    return tmp_path


def command(*words) -> int:
    """Run a command in this process; argparse leaves by SystemExit."""
    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return end.code


def everything() -> dict[str, bytes]:
    """All files that lie here, and what is in them; folders too."""
    return {
        str(path): path.read_bytes() if path.is_file() else b""
        for path in Path().rglob("*")
    }


@pytest.fixture
def said(capsys):
    """A call that runs a command and returns the one line that a person reads."""

    def read(*words) -> str:
        capsys.readouterr()
        before = everything()
        assert command(*words) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert re.fullmatch(r"[^\n]+\n", printed.err), printed.err
        assert everything() == before
        return printed.err.removesuffix("\n")

    return read


@pytest.fixture
def printed(capsys):
    """A call that runs a command that works and returns the lines that it prints."""

    def read(*words) -> list[str]:
        capsys.readouterr()
        assert command(*words) == 0
        return capsys.readouterr().out.splitlines()

    return read


def typed(rows) -> list[str]:
    """What rows are called: by what is typed, without the line."""
    return [row[0] if isinstance(row[0], str) else " ".join(row[0]) for row in rows]


def is_line(found: str, expected: str) -> bool:
    """Equal, but for {why}."""
    return bool(re.fullmatch(re.escape(expected).replace(r"\{why\}", ".+"), found))


def upscale(source="photo.png", target="out.png", *more, weights="tiny.safetensors"):
    how = () if {"--scale", "--size"} & {w.split("=")[0] for w in more} else (2,)
    words = ("upscale", source, target, "--model", weights, *more)
    words += ("--scale", *how) if how else ()
    return words if "--device" in more else (*words, "--device", "cpu")


def evaluation(*more, data="photos"):
    words = ("evaluate", "--model", "bicubic", "--data", data, *more)
    return words if "--scales" in more else (*words, "--scales", "2")


def training(*more):
    words = ("train", "--preset", "smoke", *more)
    words += () if "--out" in more else ("--out", "run")
    return words if "--device" in more else (*words, "--device", "cpu")


def encoded(kind: str, pixels=None, **how) -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else None
    image = image or Image.fromarray(picture(12, 17) if pixels is None else pixels)
    image.save(file, format=kind, **how)
    return file.getvalue()


def png(rows: int, cols: int, pixels: bytes = b"", depth: int = 8) -> bytes:
    """An RGB PNG, written by hand; without pixels it is a header and nothing else."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return len(data).to_bytes(4) + kind + data + check.to_bytes(4)

    header = cols.to_bytes(4) + rows.to_bytes(4) + bytes([depth, 2, 0, 0, 0])
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def camera(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    return exif


def odd_exif() -> bytes:
    """A JPEG whose EXIF data break off; Pillow warns and reads it."""
    exif = b"Exif\0\0" + camera().tobytes()[6:-9]
    return encoded("JPEG", exif=exif)


# Pictures

BAD_PICTURES = [
    (
        "cut.png",
        lambda: encoded("PNG")[:-400],
        "cut.png is damaged: {why}; copy it again, or leave it out",
    ),
    (
        "cut.jpg",
        lambda: encoded("JPEG", picture(64, 64))[:-800],
        "cut.jpg is damaged: {why}; copy it again, or leave it out",
    ),
    (
        "header.png",
        lambda: encoded("PNG")[:20],
        "header.png is damaged: {why}; copy it again, or leave it out",
    ),
    (
        "half a header.png",
        lambda: encoded("PNG").replace(b"\0\0\0\rIHDR", b"\0\0\0\3IHDR"),
        "half a header.png is damaged: {why}; copy it again, or leave it out",
    ),
    (
        "turned and cut.jpg",
        lambda: encoded("JPEG", picture(64, 64), exif=camera(6))[:-800],
        "turned and cut.jpg is damaged: {why}; copy it again, or leave it out",
    ),
    (
        "empty.png",
        lambda: b"",
        "cannot read empty.png as a picture: it is empty; copy it again",
    ),
    (
        "text.png",
        lambda: b"Dear all,\n",
        "cannot read text.png as a picture: Pillow knows no such kind; save it as a "
        "PNG",
    ),
    (
        "two\nlines.png",
        lambda: b"",
        "cannot read two lines.png as a picture: it is empty; copy it again",
    ),
    ("folder.png", None, "folder.png is a folder; a picture was expected"),
    (
        "missing.png",
        lambda: None,
        "no such file: missing.png; check its name and folder",
    ),
    (
        "30000x30000.png",
        lambda: png(30000, 30000),
        "30000x30000.png is too large to open: it claims more than 178956970 pixels; "
        "cut it into parts first",
    ),
    (
        "10000x10000.png",
        lambda: png(10000, 10000),
        "20000x20000 is more than 268435456 pixels; choose a smaller output or raise "
        "the limit (--max-pixels)",
    ),
    (
        "float.tif",
        lambda: encoded("TIFF", picture(5, 7)[..., 0].astype(np.float32)),
        "float.tif holds floating-point pixels, whose white is unknown; save it as an "
        "8-bit PNG first",
    ),
]


@pytest.mark.parametrize("name, make, line", BAD_PICTURES, ids=typed(BAD_PICTURES))
def test_pictures_that_cannot_be_read(said, name, make, line):
    if make is None:
        Path(name).mkdir()
    elif make() is not None:
        Path(name).write_bytes(make())
    found = said(*upscale(name))
    assert is_line(found, f"asr_course upscale: {line}"), found


def test_a_picture_that_nobody_may_read(said, monkeypatch):
    """Root may read everything: for root, Pillow is forbidden to open it."""
    Path("photo.png").chmod(0)
    if os.access("photo.png", os.R_OK):

        def refuse(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)

        monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(sys.modules[__name__], "everything", lambda: os.listdir())
    assert said(*upscale()) == (
        "asr_course upscale: no permission to read photo.png; change its permissions, "
        "or copy it"
    )


def test_a_picture_of_100_million_pixels_is_opened_without_a_word(place):
    """Pillow warns of one that large, and refuses twice as many."""
    Path("large.png").write_bytes(png(10000, 10000))
    assert open_image("large.png").size == (10000, 10000)


def test_faults_of_pictures_without_a_name():
    """An upload, or a picture that someone made in Python."""
    cases = [(b"", "cannot read the picture as a picture"), (png(4, 4), "is damaged")]
    for content, words in cases:
        with pytest.raises(UserError, match=words):
            to_rgb(open_image(io.BytesIO(content)))
    with pytest.raises(UserError, match="the picture holds floating-point pixels"):
        to_rgb(Image.new("F", (2, 2)))


def see_through() -> Image.Image:
    image = Image.fromarray(picture(12, 17))
    image.putalpha(90)
    return image


def frames(kind: str) -> bytes:
    first, *rest = (Image.fromarray(picture(12, 17, seed)) for seed in range(3))
    return encoded(kind, first, save_all=True, append_images=rest)


def sixteen_bits() -> bytes:
    rows = picture(12, 17).astype(">u2") * 257
    return png(12, 17, b"".join(b"\0" + row.tobytes() for row in rows), depth=16)


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


PHOTO = Image.fromarray(picture(12, 17))
ODD_PICTURES = [
    ("1x1.png", lambda: encoded("PNG", picture(1, 1)), "1x1 to 2x2", "RGB"),
    ("1x5000.png", lambda: encoded("PNG", picture(1, 5000)), "1x5000 to 2x10000", ...),
    ("5000x1.png", lambda: encoded("PNG", picture(5000, 1)), "5000x1 to 10000x2", ...),
    ("cmyk.jpg", lambda: encoded("JPEG", PHOTO.convert("CMYK")), ..., "RGB"),
    (
        "palette.png",
        lambda: encoded("PNG", PHOTO.quantize(8), transparency=3),
        ...,
        "RGBA",
    ),
    (
        "palette, in bytes.png",
        lambda: encoded("PNG", PHOTO.quantize(3), transparency=b"\x80\xff\0"),
        ...,
        "RGBA",
    ),
    ("1-bit.png", lambda: encoded("PNG", PHOTO.convert("1")), ..., "L"),
    ("la.png", lambda: encoded("PNG", see_through().convert("LA")), ..., "LA"),
    (
        "16-bit grey.png",
        lambda: encoded("PNG", picture(12, 17)[..., 0].astype(np.uint16) * 257),
        ...,
        "L",
    ),
    ("16-bit.png", sixteen_bits, ..., "RGB"),
    (
        "turned.jpg",
        lambda: encoded("JPEG", exif=camera(6)),
        "17x12 to 34x24",
        "RGB",
    ),
    ("odd exif.jpg", odd_exif, ..., "RGB"),
    ("profile.png", lambda: encoded("PNG", icc_profile=profile()), ..., "RGB"),
    ("a TIFF in truth.png", lambda: encoded("TIFF"), ..., "RGB"),
]


@pytest.mark.parametrize(
    "name, make, sizes, mode", ODD_PICTURES, ids=[row[0] for row in ODD_PICTURES]
)
def test_odd_pictures_that_simply_work(printed, name, make, sizes, mode):
    Path(name).write_bytes(make())
    sizes = "12x17 to 24x34" if sizes is ... else sizes
    assert printed(*upscale(name)) == [f"out.png: {sizes} (rows x columns)"]
    result = Image.open("out.png")
    assert f"to {result.height}x{result.width}" in sizes
    assert mode in (..., result.mode)


@pytest.mark.parametrize("name", ["moving.gif", "moving.png", "pages.tiff"])
def test_of_several_pictures_in_a_file_the_first_is_taken(printed, name):
    Path(name).write_bytes(frames(name[name.index(".") + 1 :].upper()))
    assert printed(*upscale(name)) == [
        "out.png: 12x17 to 24x34 (rows x columns)",
        f"note: {name} holds 3 pictures; this is the first of them",
    ]
    large = np.asarray(Image.open("out.png"))
    printed(*upscale("photo.png", "one.png"))
    gap = large.astype(int) - np.asarray(Image.open("one.png"))
    assert np.abs(gap).mean() < 12  # a GIF has 256 colours; the others are exact


@pytest.mark.parametrize("name, kept", [("moving.gif", 0.7), ("pages.tiff", 0.6)])
def test_of_a_file_that_breaks_off_behind_its_first_picture(printed, name, kept):
    whole = frames(name[name.index(".") + 1 :].upper())
    Path(name).write_bytes(whole[: int(kept * len(whole))])
    assert printed(*upscale(name)) == [
        "out.png: 12x17 to 24x34 (rows x columns)",
        f"note: {name} is damaged behind its first picture; this is the first",
    ]


# Scales, sizes, windows

FIRST = "asr_course upscale: "
ARGUMENT = "python -m asr_course upscale: argument "
SCALES = {
    "0": "scale must be 1 or more, not 0; use Pillow's resize() to shrink",
    "0.5": "scale must be 1 or more, not 0.5; use Pillow's resize() to shrink",
    "-1": "scale must be 1 or more, not -1; use Pillow's resize() to shrink",
    "nan": "scale must be a finite number, not nan",
    "inf": "scale must be a finite number, not inf",
    "1e400": "scale must be a finite number, not inf",
    "1e9": "x1e+09 of 12x17 is more than 268435456 pixels; choose a smaller output or "
    "raise the limit (--max-pixels)",
    "1e300": "x1e+300 of 12x17 is more than 268435456 pixels; choose a smaller output "
    "or raise the limit (--max-pixels)",
}
SIZES = {
    "0x5": "size must be two whole numbers above 0, rows x columns: (0, 5)",
    "99999999x99999999": "99999999x99999999 is more than 268435456 pixels; choose a "
    "smaller output or raise the limit (--max-pixels)",
    "11x40": "size 11x40 is smaller than the picture's 12x17 (rows x columns); to "
    "shrink, use Pillow's resize()",
    "40x16": "size 40x16 is smaller than the picture's 12x17 (rows x columns); to "
    "shrink, use Pillow's resize()",
}
NOT_NUMBERS = ["two", "", "2x", "1,5"]
NOT_SIZES = [
    "240",
    "240x",
    "x240",
    "3x4x5",
    "-3x4",
    "3x-4",
    "axb",
    "24.0x34",
    "",
    "24 34",
]


@pytest.mark.parametrize("text", SCALES)
def test_scales(said, text):
    assert said(*upscale("photo.png", "out.png", f"--scale={text}")) == (
        FIRST + SCALES[text]
    )


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_scales_that_are_no_numbers(said, text):
    assert said(*upscale("photo.png", "out.png", f"--scale={text}")) == (
        f"{ARGUMENT}--scale: {text!r} is not a number (--help explains)"
    )


@pytest.mark.parametrize("text", SIZES)
def test_sizes(said, text):
    assert said(*upscale("photo.png", "out.png", f"--size={text}")) == (
        FIRST + SIZES[text]
    )


@pytest.mark.parametrize("text", NOT_SIZES)
def test_sizes_that_are_none(said, text):
    assert said(*upscale("photo.png", "out.png", f"--size={text}")) == (
        f"{ARGUMENT}--size: {text!r} is not ROWSxCOLUMNS, for example 240x320 "
        "(--help explains)"
    )


@pytest.mark.parametrize(
    "more, lines",
    [
        (("--scale", "1"), ["12x17 to 12x17"]),
        (("--scale", "30"), ["12x17 to 360x510"]),
        (("--size", "48x68"), ["12x17 to 48x68"]),
        (
            ("--size", "24x17"),
            [
                "12x17 to 24x17",
                "note: rows grew 2 times, columns 1 times, so shapes are stretched",
            ],
        ),
    ],
)
def test_sizes_are_echoed(printed, more, lines):
    first, *rest = printed(*upscale("photo.png", "out.png", *more))
    assert [first, *rest] == [f"out.png: {lines[0]} (rows x columns)", *lines[1:]]


@pytest.mark.parametrize(
    "more, line",
    [
        (
            ("--scale=4", "--max-pixels", "3000"),
            FIRST + "48x68 is more than 3000 pixels; choose a smaller output or raise "
            "the limit (--max-pixels)",
        ),
        (
            ("--max-pixels", "many"),
            ARGUMENT + "--max-pixels: invalid int value: 'many' (--help explains)",
        ),
        (
            ("--scale=2", "--size", "24x34"),
            ARGUMENT + "--size: not allowed with argument --scale (--help explains)",
        ),
        (("--seed", "-1"), FIRST + "seed must be a whole number of 0 or more, not -1"),
    ],
)
def test_upscale_refuses(said, more, line):
    assert said(*upscale("photo.png", "out.png", *more)) == line


def test_a_scale_or_a_size_is_needed(said):
    assert said("upscale", "photo.png", "out.png") == (
        "python -m asr_course upscale: one of the arguments --scale --size is required "
        "(--help explains)"
    )


OUTSIDE = [
    *((-1, 0, 5, 5), (0, -1, 5, 5), (6, 0, 5, 5), (0, 8, 5, 5), (0, 0, 11, 5)),
    *((0, 0, 5, 13), (0, 0, 0, 5), (0, 0, 5, 0), (3, 3, -1, 5), (3, 3, 5, -1)),
    *((10, 0, 1, 1), (0, 12, 1, 1)),
]
NO_WINDOWS = [(), (0, 0, 5), (0, 0, 5, 5, 5), 5, "0055", (0, 0, 5.0, 5), (0.5, 0, 5, 5)]
NO_WINDOWS += [(0, 0, None, 5), (0, 0, True, 5)]


@pytest.mark.parametrize("window", OUTSIDE)
def test_windows_outside_the_output(window):
    with pytest.raises(ValueError) as caught:
        render(tiny(), torch.rand(1, 3, 5, 6), (10, 12), window)
    assert isinstance(caught.value, UserError)
    assert str(caught.value) == (
        f"window {window} does not lie inside an output of 10x12: give its first row "
        "and column, and 1 or more rows and columns"
    )


@pytest.mark.parametrize("window", NO_WINDOWS, ids=str)
def test_windows_that_are_none(window):
    with pytest.raises(UserError) as caught:
        render(tiny(), torch.rand(1, 3, 5, 6), (10, 12), window)
    assert str(caught.value) == (
        "a window is four whole numbers, its first row and column, rows and columns, "
        f"not {window!r}"
    )


def test_windows_of_numpy_s_numbers():
    whole = render(tiny(), torch.rand(1, 3, 5, 6), (10, 12), np.array([0, 0, 10, 12]))
    assert whole.shape == (3, 10, 12)


# What to train, and on which device

TRAININGS = [
    (
        ("--preset", "smok"),
        "unknown preset 'smok': choose from smoke, laptop, gpu. Did you mean 'smoke'?",
    ),
    (
        ("--model", "lif"),
        f"unknown model 'lif': choose from {', '.join(MODELS)}. Did you mean 'liif'?",
    ),
    (
        ("--set", "hiden=(8,8)"),
        "unknown option of liif 'hiden': choose from hidden, local_ensemble, "
        "feat_unfold, cell_decode, skip. Did you mean 'hidden'?",
    ),
    (("--set", "hidden"), "--set takes option=value, not 'hidden'"),
    (("--set", "hidden=8"), "hidden must be widths such as (64, 64), not 8"),
    (
        ("--encoder", "edsr-tini"),
        f"unknown encoder 'edsr-tini': choose from {', '.join(ENCODERS)}. Did you mean "
        "'edsr-tiny'?",
    ),
    (
        ("--schedule", "cosin"),
        f"unknown schedule shape 'cosin': choose from {', '.join(SHAPES)}. Did you "
        "mean 'cosine'?",
    ),
    (("--loss", "l3"), "unknown loss 'l3': choose from l1, l2."),
    (("--steps", "0"), "a run takes at least 1 step, not 0"),
    (("--steps", "-1"), "a run takes at least 1 step, not -1"),
    (("--rate", "nan"), "a run takes a rate above 0, such as 0.001, not nan"),
    (("--rate", "inf"), "a run takes a rate above 0, such as 0.001, not inf"),
    (("--rate", "-1"), "a run takes a rate above 0, such as 0.001, not -1"),
    (("--rate", "0"), "a run takes a rate above 0, such as 0.001, not 0"),
    (("--seed", "-1"), "seed must be a whole number of 0 or more, not -1"),
    (("--data", ".", "--digits"), "give either --data or --digits"),
    (("--save-every", "nan"), "save_every is in seconds, 0 or more, not nan"),
    *(
        (
            ("--set", f"{key}=tiny"),
            f"{key} is no option of a model; choose it by --model, --preset or "
            "--encoder",
        )
        for key in ("name", "size", "encoder")
    ),
]
NO_VALUES = {
    "--steps": ("int", "ten"),
    "--rate": ("float", "x"),
    "--seed": ("int", "1.5"),
}


@pytest.mark.parametrize("more, line", TRAININGS, ids=typed(TRAININGS))
def test_train_refuses(said, more, line):
    assert said(*training(*more)) == f"asr_course train: {line}"


@pytest.mark.parametrize("option", NO_VALUES)
def test_train_refuses_words_of_another_kind(said, option):
    kind, word = NO_VALUES[option]
    assert said(*training(option, word)) == (
        f"python -m asr_course train: argument {option}: invalid {kind} value: "
        f"{word!r} (--help explains)"
    )


KINDS = "choose from auto, cpu, cuda, mps"
DEVICES = {
    "cuda": "device 'cuda' is not there; use 'auto' or 'cpu'",
    "mps": "device 'mps' is not there; use 'auto' or 'cpu'",
    "cuda:7": "device 'cuda:7' is not there; use 'auto' or 'cpu'",
    "cuda:": "device 'cuda:' is not there; use 'auto' or 'cpu'",
    "cuda:-1": "device 'cuda:-1' is not there; use 'auto' or 'cpu'",
    "cpu:1": "device 'cpu:1' is not there; use 'auto' or 'cpu'",
    "gpu": f"unknown device 'gpu': {KINDS}. Did you mean 'cpu'?",
    "tpu": f"unknown device 'tpu': {KINDS}. Did you mean 'cpu'?",
    "": f"unknown device '': {KINDS}.",
}


@pytest.mark.parametrize("name", DEVICES)
def test_devices_that_are_not_there(said, photos, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # its driver is too old
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for words in (upscale, evaluation, training):
        given = ("photo.png", "out.png") if words is upscale else ()
        line = said(*words(*given, "--device", name))
        assert line.partition(": ")[2] == DEVICES[name]


def test_a_second_gpu_where_there_is_one(said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    line = said(*training("--device", "cuda:1"))
    assert line == "asr_course train: device 'cuda:1' is not there; use 'auto' or 'cpu'"


def test_a_training_that_diverged_leaves_no_weights(capsys):
    """Its rate is a number, and above 0; the checkpoint stays, to be looked at."""
    assert command(*training("--rate", "1e30", "--steps", 3)) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == (
        "asr_course train: run/liif.safetensors is not written: {} holds NaN or "
        "infinity, so the training diverged; train anew at a smaller rate"
    ).format("encoder.head.weight")
    assert os.listdir("run") == ["checkpoint.pt"]


# Where to write

TARGETS = [
    (
        "nowhere/out.png",
        "cannot write nowhere/out.png: the folder nowhere does not exist; make it, or "
        "choose another",
    ),
    (
        "photo.png/out.png",
        "cannot write photo.png/out.png: the folder photo.png does not exist; make it, "
        "or choose another",
    ),
    ("folder.png", "cannot write folder.png: it is a folder; give a file's name"),
    ("pipe.png", "cannot write pipe.png: it is no ordinary file; name another"),
    ("out", "cannot write out: end its name in .png (or .jpg, .tif …)"),
    ("out.xyz", "cannot write out.xyz: end its name in .png (or .jpg, .tif …)"),
    (
        f"{'x' * 300}.png",
        f"{'x' * 300}.png: the name is too long; choose a shorter one",
    ),
]


@pytest.fixture
def hurdles():
    """A folder and a pipe that bear names of pictures."""
    Path("folder.png").mkdir()
    os.mkfifo("pipe.png")


@pytest.mark.parametrize("target, line", TARGETS, ids=range(len(TARGETS)))
def test_places_for_a_picture(said, hurdles, target, line, monkeypatch):
    """Said before the model is asked."""
    monkeypatch.setattr("asr_course.render.upscale", None)
    assert said(*upscale("photo.png", target)) == FIRST + line


@pytest.mark.parametrize("suffix", [".jpg", ".gif", ".bmp", ".ppm"])
def test_transparency_into_a_file_without(said, suffix):
    see_through().save("photo.png")
    assert said(*upscale("photo.png", f"out{suffix}")) == (
        f"{FIRST}{suffix} files hold no transparency and this picture has some: write "
        "a .png"
    )


@pytest.fixture
def photos():
    """Three pictures that are large enough for everything."""
    Path("photos").mkdir()
    for k, name in enumerate("abc"):
        Image.fromarray(picture(100, 100 + k, k)).save(f"photos/{name}.png")


RECORDS = [
    *(
        (
            option,
            "nowhere/a.json",
            "{}: the folder nowhere does not exist; make it, or choose another",
        )
        for option in ("--json", "--record")
    ),
    *(
        (option, "photos", "{}: it is a folder; give a file's name")
        for option in ("--json", "--record")
    ),
    ("--json", "pipe.png", "{}: it is no ordinary file; name another"),
    ("--save", "photo.png", "into {}: photo.png is a file; name a folder"),
    ("--save", "photo.png/x", "into {}: photo.png is a file; name a folder"),
]


@pytest.mark.parametrize("option, target, line", RECORDS, ids=range(len(RECORDS)))
def test_places_for_records_and_outputs(
    said, photos, hurdles, option, target, line, monkeypatch
):
    """Said before anything is scored."""
    monkeypatch.setattr("asr_course.metrics.evaluate", None)
    assert said(*evaluation(option, target)) == (
        f"asr_course evaluate: cannot write {line.format(target)}"
    )


@pytest.mark.parametrize("out", ["photo.png", "photo.png/run", "photo.png/a/b"])
def test_places_for_a_training(said, out, monkeypatch):
    """Said before the training."""
    monkeypatch.setattr("asr_course.training.train", None)
    assert said(*training("--out", out)) == (
        f"asr_course train: cannot write into {out}: photo.png is a file; name a folder"
    )


def test_weights_that_are_there_already(said):
    Path("run").mkdir()
    Path("run/liif.safetensors").touch()
    assert said(*training()) == (
        "asr_course train: run/liif.safetensors exists; choose another --out, or "
        "delete it first"
    )


def test_a_run_that_was_stopped_is_not_overwritten(said):
    """A person who forgets --resume loses nothing."""
    plan = {"schedule": {"steps": 3}}
    Path("run").mkdir()
    layer = torch.nn.Linear(2, 2)
    state = layer, torch.optim.Adam(layer.parameters()), 1, [0.5], {}
    save_checkpoint(Path("run/checkpoint.pt"), plan, *state)
    assert said(*training()) == (
        "asr_course train: run holds a run that was stopped; go on with --resume, "
        "choose another --out, or delete its checkpoint.pt first"
    )


@pytest.mark.parametrize(
    "code, words",
    [
        (errno.EACCES, DENIED),
        (errno.EROFS, "this disk can only be read; choose a place on another one"),
        (errno.EBUSY, f"{os.strerror(errno.EBUSY)}; choose another place"),
    ],
    ids=["EACCES", "EROFS", "EBUSY"],
)
def test_folders_that_can_only_be_read(said, photos, monkeypatch, code, words):
    """Said before any work. Root may write anywhere: there permissions are feigned."""
    Path("shut").mkdir()
    Path("shut").chmod(0o555)
    if code != errno.EACCES or os.access("shut", os.W_OK):

        def refuse(dir):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    for work in ("render.upscale", "metrics.evaluate", "training.train"):
        monkeypatch.setattr(f"asr_course.{work}", None)
    for commanded, shown in (
        (upscale("photo.png", "shut/out.png"), "shut"),
        (evaluation("--json", "shut/a.json"), "shut"),
        (evaluation("--record", "shut/a.json"), "shut"),
        (evaluation("--save", "shut/a/b"), "shut/a/b"),
        (training("--out", "shut/run"), "shut/run"),
    ):
        line = said(*commanded)
        assert line == f"asr_course {commanded[0]}: cannot write into {shown}: {words}"


# A disk that fills up

NOISE = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
PARTS = ({}, torch.nn.Linear(99, 99), torch.optim.Adam([torch.zeros(1)]), 1, [], {})
PICTURES = (".png", ".jpg", ".tif", ".bmp", ".webp", ".gif", ".ppm")
WRITERS = {
    **{
        f"large{suffix}": partial(save_image, Image.fromarray(NOISE))
        for suffix in PICTURES
    },
    "a.safetensors": lambda path: save_weights(tiny(), path, {}),
    "checkpoint.pt": lambda path: save_checkpoint(path, *PARTS),
    "rows.json": lambda path: write_json(path, [1] * 9000),
}
ROOM = 4096  # bytes; every writer needs more


@contextmanager
def small_files():
    """No file of this process may have more than ROOM bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(place):
    """The folder `disk`: a real one in memory with room for ROOM bytes."""
    Path("disk").mkdir()
    disk = ["-t", "tmpfs", "-o", f"size={ROOM}", "none", "disk"]
    try:
        done = subprocess.run(["mount", *disk], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no such thing as mount")
    if done.returncode:
        pytest.skip("only root may mount a disk")
    yield
    subprocess.run(["umount", "--lazy", "disk"], check=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_would_be_too_large(name):
    """What was there stays as it was, and nothing lies beside it."""
    Path("run").mkdir()
    path = Path("run", name)
    path.write_text("before")
    with pytest.raises(UserError) as caught, small_files():
        WRITERS[name](path)
    large = "the file would be larger than this disk allows; choose another disk"
    why = FULL if name == "checkpoint.pt" else large  # torch does not say which
    assert str(caught.value) == f"cannot write {path}: {why}"
    assert os.listdir("run") == [name] and path.read_text() == "before"


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk(name, small_disk):
    path = Path("disk", name)
    with pytest.raises(UserError) as caught:
        WRITERS[name](path)
    assert str(caught.value) == f"cannot write {path}: {FULL}"
    assert os.listdir("disk") == []


def test_commands_on_a_full_disk(small_disk, photos, capsys):
    """Their last line says it; what stands above is the work that was done."""
    Image.fromarray(NOISE).save("photo.png")
    for words, name in (
        (upscale("photo.png", "disk/large.png"), "large.png"),
        (evaluation("--save", "disk"), "x2/a.png"),
        (training("--out", "disk", "--steps", 1), "checkpoint.pt"),
    ):
        assert command(*words) == 2
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"asr_course {words[0]}: cannot write disk/{name}: {FULL}"
        )
        assert not [path for path in Path("disk").rglob("*") if path.is_file()]


WRAPPED = [
    (OSError(errno.ENOSPC, "No space left on device"), FULL),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "your share of the disk is full"),
    (OSError(errno.EPERM, "Operation not permitted"), DENIED),
    (SafetensorError("Error: I/O error: No space left (os error 28)"), FULL),
    (RuntimeError("[enforce fail at inline_container.cc:595] iostream error"), FULL),
]


@pytest.mark.parametrize("error, why", WRAPPED, ids=range(len(WRAPPED)))
def test_what_the_system_said_is_found_again(error, why):
    """In an error of a library, or in the one that it came from."""
    later = RuntimeError("something went wrong")
    later.__cause__ = error
    for raised in (error, later):
        with pytest.raises(UserError) as caught, atomic("a.txt"):
            raise raised
        assert str(caught.value).startswith(f"cannot write a.txt: {why}")
    with pytest.raises(RuntimeError, match="something went wrong"), atomic("a.txt"):
        raise RuntimeError("something went wrong")
    assert not Path("a.txt").exists()


def test_a_folder_that_is_shut_while_the_work_goes_on(monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(UserError) as caught:
        write_json("rows.json", [])
    assert str(caught.value) == f"cannot write rows.json: {DENIED}"


# Weights


class Bomb:
    """Unpickled, it makes the folder "executed"."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def changed(config=None, drop=(), **tensors):
    """A writer of tiny.safetensors with another config, without or with other tensors.

    config: text, or entries that replace those of the config.
    """

    def write(path: str) -> None:
        state = load_file("tiny.safetensors") | tensors
        kept = {key: value for key, value in state.items() if key not in drop}
        with safe_open("tiny.safetensors", "pt") as file:
            about = file.metadata()
        if isinstance(config, dict):
            about["config"] = json.dumps(json.loads(about["config"]) | config)
        elif config:
            about["config"] = config
        save_file(kept, path, about)

    return write


def cut(start: int, stop: int | None):
    return lambda path: Path(path).write_bytes(
        Path("tiny.safetensors").read_bytes()[start:stop]
    )


def torch_file(path: str) -> None:
    torch.save({"head": torch.zeros(3)}, path)


def bomb(path: str) -> None:
    torch.save({"head": torch.zeros(3), "more": Bomb()}, path)


LAST = "mlp.layers.1.weight"
UNREADABLE = (
    "{} is no readable .safetensors file: {why}; copy it again, or train it anew"
)
OTHER = "{} is of another version of the course; train it anew: "
TAKE = "take a file that `train` wrote"
MISFIT = "{} does not fit the model, "
SPOILT = "holds NaN or infinity; train it anew at a smaller rate, or copy it again"
WEIGHTS = {
    "missing": (
        lambda path: None,
        "no such weights file: {}; check its name and folder",
    ),
    "folder": (
        lambda path: Path(path).mkdir(),
        "{} is a folder; a .safetensors file was expected",
    ),
    "empty": (lambda path: Path(path).touch(), UNREADABLE),
    "text": (lambda path: Path(path).write_text("Dear all,\n" * 99), UNREADABLE),
    "picture": (lambda path: Path(path).write_bytes(encoded("PNG")), UNREADABLE),
    "cut in its header": (cut(0, 100), UNREADABLE),
    "cut in its numbers": (cut(0, -100), UNREADABLE),
    "without its beginning": (cut(8, None), UNREADABLE),
    "torch's": (torch_file, UNREADABLE),
    "pickle with code": (bomb, UNREADABLE),
    "without a config": (
        lambda path: save_file({"head": torch.zeros(3)}, path),
        "{} does not say which model it belongs to: it was not written by "
        f"save_weights() of this course; {TAKE}",
    ),
    "no JSON": (
        changed("liif"),
        f"the config inside {{}} is not a JSON object; {TAKE}",
    ),
    "no object": (
        changed('["liif"]'),
        f"the config inside {{}} is not a JSON object; {TAKE}",
    ),
    "no encoder": (
        changed({"encoder": None}),
        f"the config inside {{}} has no encoder; {TAKE}",
    ),
    "no options": (
        changed({"options": [1]}),
        f"the config inside {{}} has no options; {TAKE}",
    ),
    "later model": (
        changed({"name": "liif2"}),
        OTHER + f"unknown model 'liif2': choose from {', '.join(MODELS)}. Did you mean "
        "'liif'?",
    ),
    "later encoder": (
        changed({"encoder": "hat"}),
        OTHER + f"unknown encoder 'hat': choose from {', '.join(ENCODERS)}.",
    ),
    "later option": (
        changed({"options": {"heads": 8}}),
        OTHER + "unknown option of liif 'heads': choose from hidden, local_ensemble, "
        "feat_unfold, cell_decode, skip.",
    ),
    "later value": (
        changed({"options": {"skip": "nearest"}}),
        OTHER + "skip must be True or False, not 'nearest'",
    ),
    "argument as option": (
        changed({"options": {"name": "liif"}}),
        OTHER + "{why}",
    ),
    "other model": (changed({"name": "metasr", "options": {}}), MISFIT + "{why}"),
    "other encoder": (changed({"encoder": "edsr-laptop"}), MISFIT + "{why}"),
    "other shape": (
        changed(**{"encoder.head.bias": torch.zeros(3)}),
        MISFIT + "1 faults: encoder.head.bias is (3,), expected (24,); use the weights "
        "of this very model",
    ),
    "lacks one": (
        changed(drop=["encoder.head.bias"]),
        MISFIT + "1 faults: missing encoder.head.bias; use the weights of this very "
        "model",
    ),
    "one too many": (
        changed(extra=torch.zeros(3)),
        MISFIT + "1 faults: unexpected extra; use the weights of this very model",
    ),
    "whole numbers": (
        changed(**{"encoder.head.bias": torch.zeros(24, dtype=torch.int64)}),
        MISFIT + "1 faults: encoder.head.bias holds torch.int64, expected "
        "torch.float32; use the weights of this very model",
    ),
    "NaN": (
        changed(**{"encoder.head.bias": torch.full((24,), torch.nan)}),
        "{} cannot be used: encoder.head.bias " + SPOILT,
    ),
    "infinity": (
        changed(**{"encoder.head.bias": torch.full((24,), torch.inf)}),
        "{} cannot be used: encoder.head.bias " + SPOILT,
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_cannot_be_used(said, kind):
    """Read as what they are; nothing in them is ever executed."""
    make, line = WEIGHTS[kind]
    make("other.safetensors")
    found = said(*upscale(weights="other.safetensors"))
    expected = line.replace("{}", "other.safetensors")
    assert is_line(found, f"asr_course upscale: {expected}"), found


def test_odd_pickles_are_refused_without_torch_s_warnings(checkpoint):
    """They would be lines of their own above the one that counts."""
    checkpoint.write_bytes(pickle.dumps(Bomb(), protocol=4))
    with warnings.catch_warnings(record=True, action="always") as caught:
        assert command(*training("--steps", 1, "--resume")) == 2
    assert [str(warning.message) for warning in caught] == []


def test_the_pickle_in_these_tests_would_execute_code():
    bomb("checkpoint.pt")
    torch.load("checkpoint.pt", weights_only=False)
    assert Path("executed").is_dir()


@pytest.mark.parametrize("name", ["tinny", "tiny.pt", "", "tiny.safetensor"])
def test_names_of_weights(said, name, monkeypatch):
    """Nearest first, and what else would do."""
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", Path())
    hint = " Did you mean 'tiny'?" if name in ("tinny", "tiny.pt") else ""
    for words in (upscale(weights=name), ("evaluate", "--data", ".", "--model", name)):
        assert said(*words) == (
            f"asr_course {words[0]}: unknown shipped weights {name!r}: choose from "
            f"tiny, or give a .safetensors file, or an authors' .pth or .ckpt.{hint}"
        )


def test_the_second_of_two_models_is_missing(said, photos, monkeypatch):
    """Said before the first is scored."""
    monkeypatch.setattr("asr_course.metrics.evaluate", None)
    words = ("evaluate", "--data", "photos", "--model", "tiny.safetensors")
    assert said(*words, "none.safetensors") == (
        "asr_course evaluate: no such weights file: none.safetensors; check its name "
        "and folder"
    )


def test_a_card_that_is_no_object(said, photos):
    with safe_open("tiny.safetensors", "pt") as file:
        about = file.metadata() | {"card": "steps: 0"}
    save_file(load_file("tiny.safetensors"), "other.safetensors", about)
    line = said("evaluate", "--data", "photos", "--model", "other.safetensors")
    assert line == (
        "asr_course evaluate: the card inside other.safetensors is not a JSON object; "
        f"{TAKE}"
    )


def test_weights_that_would_be_no_use_are_not_written():
    model = tiny()
    model.encoder.head.bias.data[0] = torch.nan
    with pytest.raises(UserError) as caught:
        save_weights(model, "run/liif.safetensors", {})
    assert str(caught.value) == (
        "run/liif.safetensors is not written: encoder.head.bias holds NaN or infinity, "
        "so the training diverged; train anew at a smaller rate"
    )
    assert not Path("run").exists()


# Checkpoints


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a training of one step leaves behind."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert command(*training("--steps", 1, "--out", folder)) == 0
    return folder


@pytest.fixture
def checkpoint(trained):
    """Its checkpoint in the folder `run`."""
    shutil.copytree(trained, "run")
    return Path("run/checkpoint.pt")


def rewritten(**values):
    """A writer of a checkpoint with other values in it."""

    def write(path: Path) -> None:
        torch.save(torch.load(path, weights_only=True) | values, path)

    return write


DAMAGED = (
    "run/checkpoint.pt is not a readable checkpoint ({why}); delete it to start anew"
)
OLDER = "run/checkpoint.pt is of another version of the course; delete it to start anew"
CHECKPOINTS = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-100]), DAMAGED),
    "empty": (lambda path: path.write_bytes(b""), DAMAGED),
    "text": (lambda path: path.write_text("Dear all,\n"), DAMAGED),
    "pickle with code": (lambda path: path.write_bytes(pickle.dumps(Bomb())), DAMAGED),
    "file with code": (bomb, DAMAGED),
    "something else": (torch_file, DAMAGED),
    "list": (lambda path: torch.save([1], path), DAMAGED),
    "weights": (cut(0, None), DAMAGED),
    "other names": (rewritten(model={}), OLDER),
    "other shapes": (rewritten(optimizer={"state": {}, "param_groups": []}), OLDER),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_that_cannot_be_used(said, checkpoint, kind):
    """They stay, to be looked at; nothing in them is ever executed."""
    make, line = CHECKPOINTS[kind]
    make(checkpoint)
    found = said(*training("--steps", 1, "--resume"))
    assert is_line(found, f"asr_course train: {line}"), found


# Folders of pictures


def write_pictures(folder: str, **pictures) -> None:
    """Pictures of so many rows and columns, or files of these bytes, by stem."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        if isinstance(content, tuple):
            content = encoded("PNG", picture(*content))
        Path(folder, f"{name}.png").write_bytes(content)


def broken() -> bytes:
    """A picture that breaks off far behind its header."""
    return encoded("PNG", picture(100, 100))[:-9000]


ENDINGS = ".png, .jpg, .jpeg, .bmp, .tif, .tiff, .webp, .ppm, .gif"
NOTHING = f"no picture in {{}}: give a folder of files that end in {ENDINGS}"
FOLDERS = {
    "missing": (lambda path: None, "{} is not a folder; give one that holds pictures"),
    "file": (
        lambda path: Path(path).touch(),
        "{} is not a folder; give one that holds pictures",
    ),
    "empty": (lambda path: Path(path).mkdir(), NOTHING),
    "of texts": (
        lambda path: (Path(path).mkdir(), Path(path, "a.txt").touch()),
        NOTHING,
    ),
    "of folders": (lambda path: Path(path, "photos").mkdir(parents=True), NOTHING),
    "unreadable": (
        lambda path: write_pictures(path, a=broken(), b=b""),
        "no picture in {} can be read, 2 were tried; the first: {}/a.png is damaged: "
        "{why}; copy it again, or leave it out",
    ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_without_a_picture(said, kind):
    make, line = FOLDERS[kind]
    make("set")
    for words in (evaluation(data="set"), training("--data", "set")):
        found = said(*words)
        expected = f"asr_course {words[0]}: {line.replace('{}', 'set')}"
        assert is_line(found, expected), found


def test_folders_of_pictures_that_are_all_too_small(said):
    write_pictures("set", a=(12, 17), b=(95, 300), c=(7, 7))
    assert said(*training("--data", "set")) == (
        "asr_course train: no picture in set has at least 96 rows and columns, which "
        "one training crop takes; the largest of its 3 pictures has 95"
    )
    assert said(*evaluation("--scales", "2", "50", data="set")) == (
        "asr_course evaluate: no picture in set is large enough for x50; a.png has "
        "12x17 pixels, and it has nothing left at 1/50; use larger ones"
    )
    Path("set/b.png").unlink()
    assert said(*evaluation(data="set")) == (
        "asr_course evaluate: no picture in set is large enough for x2; a.png has "
        "12x17 pixels, and it is nothing but border, which is 8 pixels wide; use "
        "larger ones"
    )


def test_evaluate_leaves_out_what_it_cannot_read_or_score(photos, printed):
    """One note, at the top; the figures are those of the others, and say so."""
    table = printed(*evaluation("--json", "a.json"))
    write_pictures("photos", broken=broken(), small=(12, 17))
    found = printed(*evaluation("--json", "b.json"))
    assert found == [
        "note: 2 of 5 pictures in photos left out: broken.png (cannot be read), "
        "small.png (12x17, too small at x2)",
        *table,
    ]
    (row,), (expected,) = (json.loads(Path(f"{k}.json").read_text()) for k in "ba")
    assert row == expected | {"left_out": ["broken.png", "small.png"]}
    assert row["images"] == 3


def test_train_leaves_out_what_it_cannot_read_or_crop(photos, printed):
    """One note, at the top; the run is that of the others."""
    steps = ("--data", "photos", "--steps", 1)
    printed(*training(*steps))
    write_pictures("photos", broken=broken(), small=(12, 170))
    first, _ = printed(*training(*steps, "--out", "again"))
    assert first == (
        "note: 2 of 5 pictures in photos left out: broken.png (cannot be read), "
        "small.png (12x170, smaller than 96)"
    )
    one, two = (load_file(f"{x}/liif.safetensors") for x in ("run", "again"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_note_names_three_and_counts_the_others(photos, printed):
    write_pictures("photos", **dict.fromkeys("uvwxyz", b""))
    assert printed(*evaluation())[0] == (
        "note: 6 of 9 pictures in photos left out: u.png (cannot be read), v.png "
        "(cannot be read), w.png (cannot be read), 3 more"
    )


def test_a_folder_that_bears_a_picture_s_name_is_left_out(photos, printed):
    Path("photos/album.png").mkdir()
    assert printed(*evaluation())[0] == (
        "note: 1 of 4 pictures in photos left out: album.png (cannot be read)"
    )


@pytest.fixture
def dataset():
    """A data set with HR/ and inputs for x2 and x3."""
    write_pictures("set/HR", a=(60, 63), b=(66, 60))
    write_pictures("set/LR_bicubic/X2", a=(30, 31), b=(33, 30))
    write_pictures("set/LR_bicubic/X3", a=(20, 21), b=(22, 20))


APART = (
    "set/LR_bicubic/X3/b.png times 3 has {}x{} pixels, set/HR/b.png has 66x60: the two "
    "do not belong together; replace one"
)
LR = {
    "missing": (
        lambda path: path.unlink(),
        "set/LR_bicubic/X3 lacks 1 of 2 pictures, such as b.png; add them, or move "
        "set/LR_bicubic/X3 away",
    ),
    "too large": (
        lambda path: write_pictures(path.parent, b=(23, 20)),
        APART.format(69, 60),
    ),
    "too small": (
        lambda path: write_pictures(path.parent, b=(22, 19)),
        APART.format(66, 57),
    ),
    "turned": (
        lambda path: write_pictures(path.parent, b=(20, 22)),
        APART.format(60, 66),
    ),
    "damaged": (
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        "set/LR_bicubic/X3/b.png is damaged: {why}; copy it again, or leave it out",
    ),
    "empty": (
        lambda path: path.write_bytes(b""),
        "cannot read set/LR_bicubic/X3/b.png as a picture: it is empty; copy it again",
    ),
}


@pytest.mark.parametrize("kind", LR)
def test_inputs_of_a_data_set_that_do_not_belong_to_it(
    said, dataset, kind, monkeypatch
):
    """Said before the first scale is scored."""
    make, line = LR[kind]
    make(Path("set/LR_bicubic/X3/b.png"))
    monkeypatch.setattr("asr_course.metrics.evaluate", None)
    found = said(*evaluation("--scales", "2", "3", data="set"))
    assert is_line(found, f"asr_course evaluate: {line}"), found


def test_inputs_of_pictures_that_are_left_out_are_not_asked_for(printed, dataset):
    write_pictures("set/HR", small=(9, 9))
    first, *_ = printed(*evaluation("--scales", "2", "3", data="set"))
    assert first == (
        "note: 1 of 3 pictures in set left out: small.png (9x9, too small at x2, x3)"
    )


EVALUATIONS = [
    (("--scales", "0.5"), "scale must be a number of 1 or more, not 0.5"),
    (("--scales", "nan"), "scale must be a number of 1 or more, not nan"),
    (("--scales", "2", "inf"), "scale must be a number of 1 or more, not inf"),
    (
        ("--protocol", "lif"),
        "unknown protocol 'lif': choose from liif, diinn. Did you mean 'liif'?",
    ),
    (
        ("--grey", "gray"),
        "unknown way of scoring grey 'gray': choose from rgb, grey. Did you mean "
        "'grey'?",
    ),
]


@pytest.mark.parametrize("more, line", EVALUATIONS, ids=typed(EVALUATIONS))
def test_evaluate_refuses(said, photos, more, line):
    """Before it reads a picture: of the broken one there is no word."""
    write_pictures("photos", broken=b"")
    assert said(*evaluation(*more)) == f"asr_course evaluate: {line}"


# As processes


def process(words, **how) -> subprocess.CompletedProcess:
    """python -m asr_course, where these tests run; it prints when it ends."""
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    how = {"capture_output": True, "text": True, "timeout": 120, **how}
    command = [sys.executable, "-m", "asr_course", *map(str, words)]
    return subprocess.run(command, env=buffered, **how)


PROCESSES = {
    "picture": (
        upscale("cut.png"),
        "cut.png is damaged: {why}; copy it again, or leave it out",
    ),
    "weights": (upscale(weights="bomb.safetensors"), UNREADABLE),
}


@pytest.mark.parametrize("kind", PROCESSES)
def test_processes_end_in_one_line(kind):
    Path("cut.png").write_bytes(encoded("PNG")[:-400])
    bomb("bomb.safetensors")
    before = everything()
    words, line = PROCESSES[kind]
    done = process(words)
    assert (done.returncode, done.stdout) == (2, "")
    expected = f"asr_course {words[0]}: {line.replace('{}', 'bomb.safetensors')}\n"
    assert is_line(done.stderr, expected), done.stderr
    assert everything() == before


def test_nobody_reads_what_is_printed():
    """The pipe is closed, as after `| head`: the work is done, and no word is lost."""
    there, here = os.pipe()
    os.close(there)
    done = process(upscale(), capture_output=False, stdout=here, stderr=subprocess.PIPE)
    os.close(here)
    assert (done.returncode, done.stderr) == (141, "")
    assert Image.open("out.png").size == (34, 24)


def test_what_is_printed_goes_to_a_full_disk():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = process(
            upscale(), capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (2, f"asr_course upscale: {FULL}\n")
