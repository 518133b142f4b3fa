"""Enlarge a picture: from what people type to what they get back.

Grey pictures stay grey, transparency is kept, and a scale or size that cannot be is
refused in one sentence, before any work is done.
"""

from numbers import Integral, Real

import numpy as np
from PIL import Image
from torch import nn

from asr_course.coords import output_size
from asr_course.errors import UserError
from asr_course.images import open_image, split_alpha, to_pixels, to_tensor
from asr_course.render import render_pieces

MAX_PIXELS = 2**28


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
        if not isinstance(scale, Real) or not 1 <= scale < 1e6:
            raise UserError(
                f"scale must be a number of 1 or more (and below 1e6), not {scale!r}; "
                "use Pillow's resize() to shrink"
            )
        size = output_size(lr_size, float(scale))
    pair = isinstance(size, list | tuple) and len(size) == 2
    if not pair or not all(isinstance(n, Integral) and n > 0 for n in size):
        raise UserError(
            f"size must be two whole numbers above 0, rows x columns: {size}"
        )
    size = int(size[0]), int(size[1])  # NumPy's numbers may overflow
    if size[0] < rows or size[1] < cols:
        raise UserError(
            f"size {size[0]}x{size[1]} is smaller than the picture's {rows}x{cols} "
            "(rows x columns); to shrink, use Pillow's resize()"
        )
    if size[0] * size[1] > max_pixels:
        raise UserError(
            f"{size[0]}x{size[1]} is more than {max_pixels} pixels; "
            "choose a smaller output or raise the limit (--max-pixels)"
        )
    return size


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

    Grey pictures come back grey; transparency is enlarged by Pillow's bicubic. The
    model's device is used. on_progress: called with the fraction done. steps, seed:
    for a generative model, see IDM.sample. UserError on a scale under 1, a size under
    the picture's or one over `max_pixels`.
    """
    colours, alpha = split_alpha(open_image(image))
    rows, cols = check_size(colours.size[::-1], scale, size, max_pixels)
    lr = to_tensor(colours).to(next(model.parameters()).device)
    report = on_progress or (lambda done: None)
    if model.is_generative:
        sr = model.sample(
            lr, (rows, cols), steps, seed, on_step=lambda k: report(k.done / steps)
        )
        pixels = to_pixels(sr[0])
    else:
        pixels, done = np.empty((rows, cols, 3), np.uint8), 0
        for row, col, piece in render_pieces(model, lr, (rows, cols)):
            bottom, right = row + piece.shape[1], col + piece.shape[2]
            pixels[row:bottom, col:right] = to_pixels(piece)
            done += piece.shape[1] * piece.shape[2]
            report(done / (rows * cols))
    result = Image.fromarray(pixels).convert(colours.mode)
    if alpha is not None:
        result.putalpha(alpha.resize((cols, rows), Image.Resampling.BICUBIC))
    return result
