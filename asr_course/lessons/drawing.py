"""What the lessons draw with: boxes, arrows, lines, shades."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgba
from PIL import Image, ImageColor

from asr_course.plots import COLOURS

COLD_TO_WARM = tuple(map(ImageColor.getrgb, (COLOURS[0], "white", COLOURS[1])))


def shade(values: np.ndarray, colours: Sequence, zoom: int = 1) -> Image.Image:
    """Numbers (h, w) as colours between three, those of -1, 0 and 1."""
    channels = [np.interp(values, (-1, 0, 1), c) for c in zip(*colours, strict=True)]
    pixels = np.stack(channels, axis=-1).astype(np.uint8)
    return Image.fromarray(pixels.repeat(zoom, 0).repeat(zoom, 1))


def grid_lines(draw, rows, cols, colour, width: int) -> None:
    """Lines across a whole picture, at these rows and columns of it."""
    for at in rows:
        draw.line([(0, at), (draw.im.size[0], at)], fill=colour, width=width)
    for at in cols:
        draw.line([(at, 0), (at, draw.im.size[1])], fill=colour, width=width)


def two_plots(width: float, height: float, ratio: float):
    """A figure with two plots side by side, the right one `ratio` times as wide."""
    size, ratios = (width, height), (1, ratio)
    return plt.subplots(1, 2, figsize=size, width_ratios=ratios, layout="constrained")


def diagram(plot, boxes: dict, arrows=(), notes=()) -> None:
    """Draw boxes with words in them, arrows and notes; places are (x, y).

    boxes: {name: (x, y, words, colour)}. arrows: (start, end) or (start, end, bend);
    an end is the name of a box or a place. notes: (x, y, words).
    """
    drawn = {}
    for name, (x, y, words, colour) in boxes.items():
        look = {"facecolor": to_rgba(colour, 0.3), "edgecolor": "none"}
        look["boxstyle"] = "square,pad=0.7"
        drawn[name] = plot.text(x, y, words, ha="center", va="center", bbox=look)
    for start, end, *bend in arrows:
        style = {"arrowstyle": "-|>", "color": "0.35", "shrinkA": 2, "shrinkB": 2}
        style["connectionstyle"] = f"arc3,rad={bend[0] if bend else 0}"
        for side, name in (("patchA", start), ("patchB", end)):
            if name in drawn:
                style[side] = drawn[name].get_bbox_patch()
        start, end = (boxes[e][:2] if e in drawn else e for e in (start, end))
        plot.annotate("", end, start, arrowprops=style)
    for x, y, words in notes:
        plot.text(x, y, words, ha="center", va="center", fontsize=9)
    if boxes:
        x, y = zip(*(place[:2] for place in (*boxes.values(), *notes)), strict=True)
        plot.set(xlim=(min(x) - 0.8, max(x) + 0.8), ylim=(min(y) - 0.6, max(y) + 0.6))
    plot.axis("off")
