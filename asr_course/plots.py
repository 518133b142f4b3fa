"""Figures: rows of pixels shown as pixels, and curves in one palette.

Pictures of pixels are enlarged by whole factors without smoothing, because smoothing
would add exactly what the course is about. Every figure takes an alternative text.
"""

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image as NotebookImage
from IPython.display import Markdown, display
from matplotlib import font_manager
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from asr_course.images import to_pixels

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# For `shade`: two of them, and white between.
COLD_TO_WARM = tuple(map(ImageColor.getrgb, (COLOURS[0], "white", COLOURS[1])))


def to_uint8(picture) -> np.ndarray:
    """A (3, h, w) tensor in [0, 1], or an array or PIL image as it is: uint8 RGB."""
    if isinstance(picture, Tensor):
        return to_pixels(picture[0] if picture.ndim == 4 else picture)
    pixels = np.asarray(picture)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def enlarge(picture, side: int) -> np.ndarray:
    """Repeat pixels by the largest whole factor that keeps the picture under `side`."""
    pixels = to_uint8(picture)
    factor = max(1, side // max(pixels.shape[:2]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def gallery(
    pictures: Sequence, titles: Sequence[str], side: int = 256, columns: int = 0
) -> Image.Image:
    """Pictures in rows of `columns` (0: one row), each under its title.

    Every picture is repeated by a whole factor to at most `side` rows and columns;
    larger ones are shown as they are.
    """
    pixels = [enlarge(picture, side) for picture in pictures]
    columns = columns or len(pixels)
    face = font(13)
    lines = max(title.count("\n") + 1 for title in titles)
    gap, head = 10, 18 * lines + 4
    rows = max(p.shape[0] for p in pixels)
    cols = max(
        max(p.shape[1] for p in pixels),
        *(int(face.getlength(line)) for t in titles for line in t.split("\n")),
    )
    n_rows = -(-len(pixels) // columns)
    canvas = Image.new(
        "RGB",
        (columns * (cols + gap) - gap, n_rows * (rows + head + gap) - gap),
        "white",
    )
    draw = ImageDraw.Draw(canvas)
    for k, (picture, title) in enumerate(zip(pixels, titles, strict=True)):
        left, top = k % columns * (cols + gap), k // columns * (rows + head + gap)
        draw.multiline_text((left, top), title, fill="black", font=face, spacing=4)
        canvas.paste(Image.fromarray(picture), (left, top + head))
    return canvas


def font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface of all labels that stand in pixels; it comes with matplotlib."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def shade(values: np.ndarray, colours: Sequence, zoom: int = 1) -> Image.Image:
    """Numbers (h, w) as colours, interpolated between those given for -1, 0 and 1."""
    channels = [np.interp(values, (-1, 0, 1), c) for c in zip(*colours, strict=True)]
    pixels = np.stack(channels, axis=-1).astype(np.uint8)
    return Image.fromarray(pixels.repeat(zoom, 0).repeat(zoom, 1))


def to_png(picture: Image.Image, level: int = 6) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=level, optimize=level > 1)
    return buffer.getvalue()


def figure_png(figure) -> bytes:
    """A matplotlib figure as a PNG; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return buffer.getvalue()


def show(figure, alt: str) -> None:
    """Display a gallery or a matplotlib figure, with a text for who cannot see it."""
    data = to_png(figure) if isinstance(figure, Image.Image) else figure_png(figure)
    display(NotebookImage(data=data, alt=alt))


def axes(columns: int = 1, width: float = 4.6, height: float = 3.2):
    """A figure with `columns` plots in the course's style: (figure, axes)."""
    figure, plots = plt.subplots(1, columns, figsize=(width * columns, height))
    for plot in np.atleast_1d(plots):
        plot.spines[["top", "right"]].set_visible(False)
        plot.set_prop_cycle(color=COLOURS)
        plot.grid(alpha=0.3)
    return figure, plots


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; its cells may hold Markdown, too."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], fold: str = "") -> None:
    """Display a table. fold: hide it behind this title."""
    text = markdown(heads, rows)
    if fold:
        text = f"<details><summary>{fold}</summary>\n\n{text}\n\n</details>"
    display(Markdown(text))
