"""From features to pictures: any window of any size, at bounded memory.

A whole photograph does not fit through an encoder at once, and a large output does
not fit through a decoder, so both work on tiles. Tiles of the encoder overlap by its
receptive radius: every latent code then sees exactly the pixels it would have seen in
the whole picture, so a tiled output equals an untiled one, and there are no seams.

Letters: H W low-resolution rows and columns, h w output rows and columns.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asr_course.coords import Queries, cells_to_pixels, pixel_centres
from asr_course.errors import UserError
from asr_course.layers import Features
from asr_course.totals import Unknown, add, known_totals

TILE = 256  # low-resolution rows and columns that are encoded at once
QUERIES = 4096  # that are decoded at once, in whole rows: they stay in the CPU's cache
WIDE = 256  # features of a latent code; with so many, half as many queries are faster

Window = tuple[int, int, int, int]  # first row, first column, rows, columns


class Encoded(NamedTuple):
    """Features of a part of a low-resolution picture, and which part it is."""

    features: Features  # of the part and a margin around it
    top: int  # where they begin in the whole picture
    left: int
    whole: tuple[int, int]  # rows and columns of the whole low-resolution picture


def encode(model: nn.Module, lr: Tensor, part: Window | None = None) -> Encoded:
    """Features for the low-resolution pixels in `part`, all of (1, 3, H, W) if None.

    One pixel more is encoded on each side, for the neighbours of border queries, and
    the encoder's radius around that, so that the part's features are exactly those of
    the whole picture. The features of the outer margin are not exact and not used.
    """
    H, W = lr.shape[-2:]
    top, left, rows, cols = part or (0, 0, H, W)
    margin = model.radius + 1
    bottom, right = min(top + rows + margin, H), min(left + cols + margin, W)
    align = getattr(model.encoder, "align", 1)  # SwinIR's windows are counted from 0
    first_row = max(top - margin, 0) // align * align
    first_col = max(left - margin, 0) // align * align
    # Convolutions on a CPU are a fifth faster on pixels whose channels lie together.
    pixels = lr[..., first_row:bottom, first_col:right]
    features = model.encode(pixels.contiguous(memory_format=torch.channels_last))
    top, left = top - first_row, left - first_col
    inner = slice(top, top + rows), slice(left, left + cols)
    return Encoded(features._replace(inner=inner), first_row, first_col, (H, W))


def query_rows(
    encoded: Encoded, size: tuple[int, int], window: Window, queries: int, every=1
) -> Iterator[tuple[int, Queries, Tensor]]:
    """The queries of a window of an output of `size`, a few rows at a time.

    Yields (rows before, queries, cell (1, 2)). queries: at most so many at a time, but
    one row at least; half of them where latent codes are WIDE.
    every: take one row and one column in so many.
    """
    lr, axes, cell = encoded.features.lr, [], []
    for k, first_lr in enumerate((encoded.top, encoded.left)):
        first, count = window[k], window[2 + k]
        whole, here = encoded.whole[k], lr.shape[2 + k]
        centres = pixel_centres(size[k], torch.float64)[first : first + count : every]
        # From coordinates on the whole picture to coordinates on the encoded part.
        axes.append((((centres + 1) * (whole / 2) - first_lr) * (2 / here) - 1).to(lr))
        # With this cell, relative_cell is 2 / s everywhere.
        cell.append(2 / size[k] * whole / here)
    rows, cols = axes
    if encoded.features.grid.shape[-1] >= WIDE:
        queries //= 2
    step = max(1, queries // len(cols))
    for first in range(0, len(rows), step):
        part = rows[None, first : first + step, None]
        yield first, Queries(part, cols[None, None]), lr.new_tensor([cell])


class Totals:
    """Sums over all queries of an output, gathered when a model first asks for one.

    pieces: called once for each sum, gives (Encoded, window) pairs that make up the
    output. The work before a sum is done again for each piece, so memory does not grow
    with the number of queries; sums are float64, so their order hardly matters. every:
    sum over one row and one column of queries in so many.
    """

    def __init__(self, model, pieces: Callable, size, queries=QUERIES, every: int = 1):
        self.model, self.pieces, self.size = model, pieces, size
        self.queries, self.every = queries, every
        self.known: list = []
        self.share = 0.0  # of a piece's rows that are done

    def gather(self, tried: tuple | None = None) -> Iterator[None]:
        """Add the first sum that is not known; yields between two pieces of work.

        tried: (encoded, queries, what they add) of a piece that got this far already.
        """
        total = None
        for encoded, window in self.pieces():
            rows = query_rows(encoded, self.size, window, self.queries, self.every)
            for first, queries, cell in rows:
                if tried and encoded is tried[0] and queries.equal(tried[1]):
                    missing = tried[2]
                else:
                    missing = self.decode(encoded, queries, cell)
                part = missing.part
                total = part if total is None else add(total, part)
                self.share = first / -(-window[2] // self.every)
                yield
                if missing.once:
                    break
        self.known.append(total)

    def decode(self, encoded: Encoded, queries: Queries, cell) -> Tensor | Unknown:
        """Colours (1, 3, h, w), or the first sum that is not known."""
        try:
            known = known_totals(self.known)
            return self.model.decode(encoded.features, queries, cell, known)
        except Unknown as missing:
            return missing.with_traceback(None)  # it would keep all tensors alive


def decode_rows(
    model: nn.Module,
    encoded: Encoded,
    size: tuple[int, int],
    window: Window,
    totals: Totals,
    every: int = 1,
) -> Iterator[tuple[int, Tensor] | None]:
    """Decode a window of an output of `size`, a few rows at a time.

    Yields (rows done before, picture (3, rows, cols)), not clamped; None between two
    pieces of work that gathers a sum, so that a caller may stop or do other things.
    totals: over whichever queries count as all. every: draw only one row and one column
    in so many.
    """
    for first, part, cell in query_rows(encoded, size, window, totals.queries, every):
        rgb = totals.decode(encoded, part, cell)  # (1, 3, rows, cols)
        while isinstance(rgb, Unknown):
            yield from totals.gather((encoded, part, rgb))
            rgb = totals.decode(encoded, part, cell)
        yield first, rgb[0]


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


def encoded_tiles(
    encode_part: Callable, lr_size, size, window: Window, tile: int
) -> Iterator[tuple[Encoded, Window]]:
    """Encode the tiles that a window of an output needs: (Encoded, their window)."""
    top, left, rows, cols = window
    for i, n_rows, first_row, out_rows in tiles(lr_size[0], size[0], top, rows, tile):
        for j, n_cols, first_col, out_cols in tiles(
            lr_size[1], size[1], left, cols, tile
        ):
            piece = (first_row, first_col, out_rows, out_cols)
            yield encode_part((i, j, n_rows, n_cols)), piece


@torch.inference_mode()
def render_pieces(
    model: nn.Module,
    lr: Tensor,
    size: tuple[int, int],
    window: Window | None = None,
    tile: int = TILE,
    queries: int = QUERIES,
) -> Iterator[tuple[int, int, Tensor]]:
    """Render an output of `size`, or a window of it, piece by piece.

    Yields (row, column, picture (3, rows, cols)), places counted in the window. Where
    a model sums over all queries, these are the queries of the whole output.
    """
    top, left, rows, cols = window = check_window(size, window)
    if model.is_generative:  # one picture of many, and only as a whole
        picture = model.sample(lr, size)[0]
        yield 0, 0, picture[:, top : top + rows, left : left + cols]
        return
    # Each sum goes over all tiles again; where there is only one, it is encoded once.
    encode_part = lru_cache(maxsize=1)(partial(encode, model, lr))
    pieces = partial(encoded_tiles, encode_part, lr.shape[-2:], size, tile=tile)
    totals = Totals(model, lambda: pieces((0, 0, *size)), size, queries)
    for encoded, piece in pieces(window):
        for done in decode_rows(model, encoded, size, piece, totals):
            if done:
                yield piece[0] + done[0] - top, piece[1] - left, done[1]


def render(
    model: nn.Module,
    lr: Tensor,
    size: tuple[int, int],
    window: Window | None = None,
    tile: int = TILE,
    queries: int = QUERIES,
) -> Tensor:
    """An output of `size` = (rows, cols), or a window of it: (3, h, w), not clamped.

    lr is (1, 3, H, W) in [0, 1]; window is (first row, first column, rows, columns).
    A window equals the same crop of the whole output. tile, queries: how many
    low-resolution rows and columns are encoded, and how many coordinates decoded, at
    once; they do not change the result.
    """
    _, _, rows, cols = check_window(size, window)
    picture = lr.new_empty(3, rows, cols)
    for row, col, piece in render_pieces(model, lr, size, window, tile, queries):
        picture[:, row : row + piece.shape[1], col : col + piece.shape[2]] = piece
    return picture


def check_window(size: tuple[int, int], window: Window | None) -> Window:
    """`window`, or the whole output if None; UserError unless it lies inside."""
    top, left, rows, cols = window or (0, 0, *size)
    if not (0 <= top < top + rows <= size[0] and 0 <= left < left + cols <= size[1]):
        raise UserError(
            f"window {window} does not lie inside an output of {size[0]}x{size[1]}: "
            "give its first row and column, and 1 or more rows and columns"
        )
    return top, left, rows, cols
