"""Enlarge a picture: from what people type to what they get back.

Grey pictures stay grey, transparency is kept, and a scale or size that cannot be is
refused in one sentence, before any work is done.
"""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor, nn

from asr_course.colours import split_alpha, spread
from asr_course.coords import output_size
from asr_course.errors import UserError
from asr_course.images import (
    SUFFIXES,
    TRANSPARENT,
    check_place,
    image_files,
    open_image,
    to_tensor,
)
from asr_course.render import render_pieces

MAX_PIXELS = 2**28
LUMA = torch.tensor([[0.299, 0.587, 0.114]])  # as Pillow makes grey


def check_size(
    lr_size: tuple[int, int], scale=None, size=None, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """(rows, cols) of the output for an input of `lr_size` rows and columns.

    UserError unless exactly one of scale and size is given and makes sense.
    """
    if (scale is None) == (size is None):
        raise UserError("give either a scale or a size")
    rows, cols = lr_size
    if scale is not None:
        if not 1 <= scale < 1e6:
            raise UserError(
                f"scale must be a number of 1 or more (and below 1e6), not {scale!r}; "
                "use Pillow's resize() to shrink"
            )
        size = output_size(lr_size, float(scale))
    h, w = map(int, size)  # NumPy's numbers may overflow
    if h < rows or w < cols:
        raise UserError(
            f"size {h}x{w} is smaller than the picture's {rows}x{cols} "
            "(rows x columns); to shrink, use Pillow's resize()"
        )
    if h * w > max_pixels:
        raise UserError(
            f"{h}x{w} is more than {max_pixels} pixels; "
            "choose a smaller output or raise the limit (--max-pixels)"
        )
    return h, w


def upscale(
    model: nn.Module,
    image,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    on_progress=None,
    steps: int = 25,
    seed: int = 0,
) -> Image.Image:
    """Enlarge a picture (PIL image or path) by `scale`, or to `size` = (rows, cols).

    Grey stays grey (also stored as RGB), 16-bit grey stays 16-bit; transparency is
    enlarged by Pillow's bicubic; colour profile, dpi and EXIF are kept.
    The model's device is used. on_progress: called with each part of the work, as a
    fraction, once it is done. steps, seed: for a generative model, see IDM.sample.
    UserError on a scale under 1, a size under the picture's or one over `max_pixels`.
    """
    image = open_image(image)
    colours, alpha = split_alpha(image)
    rows, cols = check_size(colours.size[::-1], scale, size, max_pixels)
    pixels = np.asarray(colours)
    if image.mode.startswith("I") and not alpha:  # 16-bit grey
        pixels = np.asarray(image).astype(np.uint16)
    if alpha:
        pixels = spread(pixels, alpha)
    grey = pixels.ndim == 2 or (pixels == pixels[..., :1]).all()
    lr = to_tensor(pixels).to(next(model.parameters()).device)
    report = on_progress or (lambda part: None)
    enlarged = np.empty((rows, cols) if grey else (rows, cols, 3), pixels.dtype)

    def put(piece: Tensor, row: int = 0, col: int = 0) -> None:
        """Write a piece (3, h, w) of the output into `enlarged`."""
        piece = piece.clamp(0, 1).cpu()
        piece = (LUMA @ piece.flatten(1)).view(1, *piece.shape[1:]) if grey else piece
        levels = (piece * np.iinfo(pixels.dtype).max).round().movedim(0, -1).numpy()
        h, w = piece.shape[1:]
        enlarged[row : row + h, col : col + w] = levels[..., 0] if grey else levels

    if model.is_generative:
        how = {"on_step": lambda step: report(1 / steps)}
        put(model.sample(lr, (rows, cols), steps, seed, **how)[0])
    else:
        for row, col, piece in render_pieces(model, lr, (rows, cols)):
            put(piece, row, col)
            report(piece[0].numel() / (rows * cols))
    result = Image.fromarray(enlarged)
    result = result if pixels.ndim == 2 else result.convert(colours.mode)
    if alpha:
        result.putalpha(alpha.resize((cols, rows), Image.Resampling.BICUBIC))
    result.info |= kept_info(image, (rows, cols))
    return result


def kept_info(image: Image.Image, size: tuple[int, int]) -> dict:
    """What is said about a picture, for its enlargement to `size` (rows, cols)."""
    other = ("CMYK", "LAB")  # profiles of these do not fit any more
    keys = {"dpi"} if image.mode in other else {"dpi", "icc_profile"}
    kept = {key: value for key, value in image.info.items() if key in keys}
    if not np.isfinite(np.array(kept.get("dpi", 0), float)).all():
        del kept["dpi"]  # 0/0 in a TIFF
    with suppress(Exception):  # EXIF may be broken in many ways
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tag, n in zip(("ExifImageHeight", "ExifImageWidth"), size, strict=True):
            if ExifTags.Base[tag] in details:
                details[ExifTags.Base[tag]] = n
        if len(exif):
            kept["exif"] = exif.tobytes()
    return kept


def files_to_enlarge(inputs: list[Path], output: str) -> tuple[dict[Path, Path], bool]:
    """({picture: where its enlargement goes}, whether `output` is a folder).

    It is one for several pictures, for a folder, and if it ends in /. UserError if two
    pictures would have one place.
    """
    folder, ends = Path(output), output.endswith(("/", os.sep))
    if not (len(inputs) > 1 or inputs[0].is_dir() or folder.is_dir() or ends):
        return {inputs[0]: folder}, False
    if folder.suffix.lower() in SUFFIXES:
        raise UserError(f"{output} names one picture; name a folder for several")
    files = {}
    for path in inputs:
        for source in image_files(path) if path.is_dir() else [path]:
            if source in files:
                continue
            known = source.suffix.lower() in SUFFIXES
            target = folder / (source.name if known else f"{source.stem}.png")
            if target in files.values():
                why = f"two pictures are called {target.name}"
                raise UserError(f"{why}: enlarge them into two folders")
            files[source] = target
    if not files:
        raise UserError(f"no image in {', '.join(map(str, inputs))}")
    return files, True


def check_target(source: Path, target: Path, overwrite: bool) -> Image.Image:
    """The picture. UserError unless it can be read, and its enlargement written."""
    image = open_image(source)
    if target.exists() and target.samefile(source):
        raise UserError(f"{target} is the picture itself: choose another place")
    transparent = image.has_transparency_data
    if target.suffix.lower() not in (TRANSPARENT if transparent else SUFFIXES):
        why = "the image has transparency" if transparent else "no known image format"
        raise UserError(f"cannot write {target}: {why}; end its name in .png")
    check_place(target, overwrite)
    return image
