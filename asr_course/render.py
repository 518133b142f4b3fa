"""From features to pictures: any window of any size, at bounded memory.

A whole photograph does not fit through an encoder at once, and a large output does
not fit through a decoder, so both work on tiles. Tiles of the encoder overlap by its
receptive radius: every latent code then sees exactly the pixels it would have seen in
the whole picture, and the seams are not merely invisible but absent.

Letters: H W low-resolution rows and columns, h w output rows and columns.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from numbers import Integral, Real
from operator import add

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from asr_course.coords import cells_to_pixels, make_grid, output_size, pixel_centres
from asr_course.errors import UserError
from asr_course.images import open_image, split_alpha, to_pixels, to_tensor
from asr_course.models.layers import Features

TILE = 256  # low-resolution rows and columns that are encoded at once
QUERIES = 4096  # coordinates that are decoded at once: few enough to stay in the cache
WIDE = 256  # numbers for a latent code from which on half as many do better
MAX_PIXELS = 2**28

Window = tuple[int, int, int, int]  # first row, first column, rows, columns


@dataclass(frozen=True)
class Encoded:
    """Features of a part of a low-resolution picture, and which part it is."""

    features: Features
    top: int
    left: int
    whole: tuple[int, int]  # rows and columns of the whole low-resolution picture
    part: Window  # what was asked for; around it lies a margin

    def inner(self) -> Features:
        """The features of `part` alone, all of them exact."""
        top, left, rows, cols = self.part
        top, left = top - self.top, left - self.left
        lr, latent, content = self.features
        return Features(
            lr[..., top : top + rows, left : left + cols],
            latent[..., top : top + rows, left : left + cols],
            content[:, top : top + rows, left : left + cols],
        )


def encode(model: nn.Module, lr: Tensor, part: Window | None = None) -> Encoded:
    """Features for the low-resolution pixels in `part`, all of (1, 3, H, W) if None.

    One pixel more is encoded on each side, for the neighbours of border queries, and
    the encoder's radius around that, so that the part's features are exactly those of
    the whole picture. The features of the outer margin are not exact and not used.
    """
    H, W = lr.shape[-2:]
    top, left, rows, cols = part = part or (0, 0, H, W)
    margin = model.radius + 1
    bottom, right = min(top + rows + margin, H), min(left + cols + margin, W)
    top, left = (max(n - margin, 0) // model.align * model.align for n in (top, left))
    # Convolutions on a CPU are a fifth faster on pixels whose channels lie together.
    pixels = lr[..., top:bottom, left:right]
    features = model.encode(pixels.contiguous(memory_format=torch.channels_last))
    return Encoded(features, top, left, (H, W), part)


def query_rows(
    encoded: Encoded, size: tuple[int, int], window: Window, every: int = 1
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The queries of a window of an output of `size`, a few rows at a time.

    Yields (rows before, coord (1, rows, cols, 2), cell (1, 2)). every: take only one
    row and one column in so many.
    """
    lr = encoded.features.lr
    size_here = lr.shape[-2:]
    top, left, rows, cols = window
    row_coord, col_coord = (
        shift(pixel_centres(n, torch.float64)[first : first + count : every], *frame)
        for n, first, count, frame in zip(
            size,
            (top, left),
            (rows, cols),
            zip(encoded.whole, (encoded.top, encoded.left), size_here, strict=True),
            strict=True,
        )
    )
    # The network sees pixel sizes in low-resolution pixels, 2 / s, wherever they are.
    cell = [
        2 / n * w / h for n, w, h in zip(size, encoded.whole, size_here, strict=True)
    ]
    cell = lr.new_tensor([cell])
    wide = encoded.features.content.shape[-1] >= WIDE
    step = max(1, QUERIES // (2 if wide else 1) // len(col_coord))
    for first in range(0, len(row_coord), step):
        coord = make_grid(row_coord[first : first + step], col_coord)[None]
        yield first, coord.to(lr), cell


def decode_rows(
    model: nn.Module,
    encoded: Encoded,
    size: tuple[int, int],
    window: Window,
    sums: list | None = None,
    every: int = 1,
) -> Iterator[tuple[int, Tensor]]:
    """Decode a window of an output of `size`, a few rows at a time.

    Yields (rows done before, picture (3, rows, cols)), not clamped. Between two of
    them a caller may stop or let others work. sums: for models whose queries hear from
    each other, over whichever queries count as all; None gathers over the window.
    every: draw only one row and one column in so many.
    """
    if sums is None:
        sums = gather(model, lambda: [(encoded, window)], size)
    for first, coord, cell in query_rows(encoded, size, window, every):
        yield first, model.decode(encoded.features, coord, cell, sums)[0]


def gather(
    model: nn.Module, pieces: Callable, size: tuple[int, int], every: int = 1
) -> list:
    """The sums that `model` needs over all queries of some pieces, pass by pass."""
    return finish(gathering(model, pieces, size, every))


def gathering(
    model: nn.Module, pieces: Callable, size: tuple[int, int], every: int = 1
) -> Generator[None, None, list]:
    """`gather` step by step, so that a caller may stop between two of them.

    pieces: called once for each pass, gives (Encoded, window) pairs. Work before a sum
    is done again for each, so memory does not grow with the number of queries; sums
    are float64, so their order and the size of the pieces hardly matter. every: hear
    only one row and one column of queries in so many.
    """
    sums = []
    for over in model.sums:
        total = None
        for encoded, window in pieces():
            for part in contributions(model, encoded, size, window, over, sums, every):
                total = part if total is None else tuple(map(add, total, part))
                yield
        sums.append(total)
    return sums


def finish(steps: Generator):
    """Run a generator to its end, and return what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def contributions(model, encoded: Encoded, size, window: Window, over, sums, every):
    """What the latent codes or the queries of one piece add to a pass."""
    if over == "latents":  # the piece's own, without the margin that others count
        yield model.gather(encoded.inner(), None, None, sums)
        return
    for _, coord, cell in query_rows(encoded, size, window, every):
        yield model.gather(encoded.features, coord, cell, sums)


def shift(coord: Tensor, whole: int, first: int, here: int) -> Tensor:
    """Coordinates on `whole` pixels as coordinates on `here` pixels from `first`."""
    return ((coord + 1) * (whole / 2) - first) * (2 / here) - 1


def tiles(
    whole: int, size: int, first: int, count: int, tile: int
) -> Iterator[tuple[int, ...]]:
    """Cut one axis of a window into pieces of at most `tile` low-resolution pixels.

    Yields (first LR pixel, LR pixels, first output pixel, output pixels); each output
    pixel goes with the low-resolution pixel that holds its centre.
    """
    pieces = math.ceil(whole / tile)
    for k in range(pieces):
        start, stop = whole * k // pieces, whole * (k + 1) // pieces
        a = max(cells_to_pixels(start, whole, size), first)
        b = min(cells_to_pixels(stop, whole, size), first + count)
        if a < b:
            yield start, stop - start, a, b - a


@torch.inference_mode()
def render_tiles(
    model: nn.Module,
    lr: Tensor,
    size: tuple[int, int],
    window: Window | None = None,
    tile: int | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Render an output of `size`, or a window of it, piece by piece.

    Yields (row, column, picture (3, rows, cols)), places counted in the window. Where
    queries hear from each other, they hear from all queries of the whole output.
    """
    top, left, rows, cols = window = check_window(size, window)
    if model.generates:  # one picture of many, and only as a whole
        picture = model.sample(lr, size)[0]
        yield 0, 0, picture[:, top : top + rows, left : left + cols]
        return
    whole = (0, 0, *size)
    # All passes go over the same tiles: where one tile is all, it is encoded once.
    encode_part = lru_cache(maxsize=1)(partial(encode, model, lr))
    pieces = partial(encoded_tiles, encode_part, lr.shape[-2:], size, tile=tile)
    sums = gather(model, lambda: pieces(whole), size)
    for encoded, piece in pieces(window):
        for done, picture in decode_rows(model, encoded, size, piece, sums):
            yield piece[0] + done - top, piece[1] - left, picture


def encoded_tiles(
    encode_part: Callable, given, size, window: Window, tile: int | None
) -> Iterator[tuple[Encoded, Window]]:
    """Encode the tiles that a window of an output needs: (features, their window)."""
    top, left, rows, cols = window
    tile = tile or TILE
    for row_tile in tiles(given[0], size[0], top, rows, tile):
        for col_tile in tiles(given[1], size[1], left, cols, tile):
            part = (row_tile[0], col_tile[0], row_tile[1], col_tile[1])
            piece = (row_tile[2], col_tile[2], row_tile[3], col_tile[3])
            yield encode_part(part), piece


def render(
    model: nn.Module,
    lr: Tensor,
    size: tuple[int, int],
    window: Window | None = None,
    tile: int | None = None,
) -> Tensor:
    """An output of `size` = (rows, cols), or a window of it: (3, h, w), not clamped.

    lr is (1, 3, H, W) in [0, 1]; window is (first row, first column, rows, columns).
    A window equals the same crop of the whole output. tile: how many low-resolution
    rows and columns are encoded at once (default TILE); it does not change the answer.
    """
    _, _, rows, cols = check_window(size, window)
    picture = lr.new_empty(3, rows, cols)
    for row, col, piece in render_tiles(model, lr, size, window, tile):
        picture[:, row : row + piece.shape[1], col : col + piece.shape[2]] = piece
    return picture


def check_window(size: tuple[int, int], window: Window | None) -> Window:
    """`window`, or the whole output if None; UserError unless it lies inside."""
    if window is None:
        return 0, 0, *size
    given = list(window) if isinstance(window, Iterable) else []
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in given)
    if len(given) != 4 or not whole:
        raise UserError(
            "a window is four whole numbers, its first row and column, rows and "
            f"columns, not {window!r}"
        )
    top, left, rows, cols = map(int, given)
    inside = 0 <= top < top + rows <= size[0] and 0 <= left < left + cols <= size[1]
    if not inside:
        raise UserError(
            f"window {window} does not lie inside an output of {size[0]}x{size[1]}: "
            "give its first row and column, and 1 or more rows and columns"
        )
    return top, left, rows, cols


def check_size(
    given: tuple[int, int], scale=None, size=None, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """(rows, cols) of the output for an input of `given` rows and columns.

    UserError unless exactly one of scale and size is given and makes sense.
    """
    if (scale is None) == (size is None):
        raise UserError("give either a scale or a size")
    if scale is not None:
        scale = plain_number(scale)
        if scale < 1:
            raise UserError(
                f"scale must be 1 or more, not {scale}; use Pillow's resize() to shrink"
            )
        if given[0] * given[1] * scale * scale > 4 * max_pixels:
            raise UserError(
                too_large(f"x{scale:g} of {given[0]}x{given[1]}", max_pixels)
            )
        size = output_size(given, scale)
    pair = isinstance(size, list | tuple) and len(size) == 2
    if not pair or not all(isinstance(n, Integral) and n > 0 for n in size):
        raise UserError(
            f"size must be two whole numbers above 0, rows x columns: {size}"
        )
    size = int(size[0]), int(size[1])  # NumPy's numbers may overflow
    if size[0] < given[0] or size[1] < given[1]:
        raise UserError(
            f"size {size[0]}x{size[1]} is smaller than the picture's "
            f"{given[0]}x{given[1]} (rows x columns); to shrink, use Pillow's resize()"
        )
    if size[0] * size[1] > max_pixels:
        raise UserError(too_large(f"{size[0]}x{size[1]}", max_pixels))
    return size


def plain_number(scale) -> int | float:
    """A scale of any kind as a number of Python's own; UserError unless it is finite.

    NumPy's numbers may overflow, and fractions cannot be formatted.
    """
    try:
        value = float(scale) if isinstance(scale, Real) else math.nan
    except OverflowError:  # a whole number of more than 308 digits
        scale = value = math.inf
    if not math.isfinite(value):
        raise UserError(f"scale must be a finite number, not {scale!r}")
    return int(value) if value.is_integer() else value


def too_large(what: str, max_pixels: int) -> str:
    """The words for an output that would not fit."""
    return (
        f"{what} is more than {max_pixels} pixels; "
        "choose a smaller output or raise the limit (--max-pixels)"
    )


def blank(rows: int, cols: int) -> np.ndarray:
    """Room for a picture, (rows, cols, 3) uint8. UserError if there is not so much."""
    try:
        return np.empty((rows, cols, 3), np.uint8)
    except (MemoryError, ValueError):  # more than is left, or than NumPy can count
        raise UserError(
            f"{rows}x{cols} pixels do not fit into memory; choose a smaller output"
        ) from None


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
    for a model that draws its answer, see IDM.sample. UserError on a scale under 1, a
    size under the picture's or one over `max_pixels`.
    """
    colours, alpha = split_alpha(open_image(image))
    given = colours.size[::-1]
    rows, cols = check_size(given, scale, size, max_pixels)
    device = next(model.parameters()).device
    lr = to_tensor(colours).to(device)
    tell = on_progress or (lambda done: None)
    if model.generates:
        drawn = model.sample(
            lr, (rows, cols), steps, seed, on_step=lambda step: tell(step.done / steps)
        )
        pixels = to_pixels(drawn[0])
    else:
        pixels, done = blank(rows, cols), 0
        for row, col, piece in render_tiles(model, lr, (rows, cols)):
            bottom, right = row + piece.shape[1], col + piece.shape[2]
            pixels[row:bottom, col:right] = to_pixels(piece)
            done += piece.shape[1] * piece.shape[2]
            tell(done / (rows * cols))
    result = Image.fromarray(pixels).convert(colours.mode)
    if alpha is not None:
        result.putalpha(alpha.resize((cols, rows), Image.Resampling.BICUBIC))
    return result
