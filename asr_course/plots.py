"""Figures: images whose pixels are seen as pixels, and curves in one palette.

Images are enlarged without smoothing, which would add what super-resolution has to
add. Every figure takes an alternative text.
"""

import io
from base64 import b64encode
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image as NotebookImage
from IPython.display import Markdown, display
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from asr_course.images import to_pixels

# Okabe and Ito's colours, for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def enlarge(picture, side: int) -> np.ndarray:
    """Repeat pixels by the largest whole factor that stays within `side`, or by 1.

    picture: a tensor ([1, ]3, h, w) in [0, 1], uint8 pixels or a PIL image. Returns
    (rows, cols, 3) uint8.
    """
    if isinstance(picture, Tensor):
        picture = to_pixels(picture[0] if picture.ndim == 4 else picture)
    pixels = np.asarray(picture)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    factor = max(1, side // max(pixels.shape[:2]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def gallery(
    pictures: Sequence, titles: Sequence[str], side: int = 256, columns: int = 0
) -> Image.Image:
    """Images in rows of `columns` (0: one row), each `enlarge`d, under its title."""
    pixels = [enlarge(picture, side) for picture in pictures]
    columns = columns or len(pixels)
    face = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 13)
    lines = [title.split("\n") for title in titles]
    gap, head = 10, 18 * max(map(len, lines)) + 4
    rows = gap + head + max(p.shape[0] for p in pixels)
    widths = [int(face.getlength(line)) for group in lines for line in group]
    cols = gap + max(*widths, *(p.shape[1] for p in pixels))
    size = columns * cols - gap, -(-len(pixels) // columns) * rows - gap
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for k, (picture, title) in enumerate(zip(pixels, titles, strict=True)):
        left, top = k % columns * cols, k // columns * rows
        draw.multiline_text((left, top), title, fill="black", font=face, spacing=4)
        canvas.paste(Image.fromarray(picture), (left, top + head))
    return canvas


def to_png(picture: Image.Image, level: int = 6) -> bytes:
    """An image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=level, optimize=level > 1)
    return buffer.getvalue()


def figure_png(figure) -> bytes:
    """A matplotlib figure as a PNG; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return buffer.getvalue()


def show(figure, alt: str, place: Callable | None = None) -> None:
    """Display a gallery or a matplotlib figure; `alt` is for who cannot see it.

    An <img>, for JupyterLab drops the alt of a PNG. place: a display handle's `update`.
    """
    data = to_png(figure) if isinstance(figure, Image.Image) else figure_png(figure)
    url = "data:image/png;base64," + b64encode(data).decode()
    (place or display)(NotebookImage(url=url, format="png", alt=alt))


def axes(columns: int = 1, width: float = 4.6, height: float = 3.2):
    """A figure with `columns` plots in the course's style: (figure, axes)."""
    figure, plots = plt.subplots(1, columns, figsize=(width * columns, height))
    for plot in np.atleast_1d(plots):
        plot.spines[["top", "right"]].set_visible(False)
        plot.set_prop_cycle(color=COLOURS)
        plot.grid(alpha=0.3)
    return figure, plots


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], fold: str = "") -> None:
    """Display a table. fold: hide it behind this title."""
    text = markdown(heads, rows)
    if fold:
        text = f"<details><summary>{fold}</summary>\n\n{text}\n\n</details>"
    display(Markdown(text))
