"""Notebook 3, DIIF: its diagram, its widget, its exercises."""

import math
from itertools import pairwise, product

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from asr_course import plots
from asr_course.coords import cells_to_pixels, make_coord, round_half_up, split_axes
from asr_course.lessons import base, drawing
from asr_course.lessons.base import Exercise, checker, require, require_close
from asr_course.models.slices import cut_slices

TrainingCurve, effects = base.TrainingCurve, base.effects
train_variant = base.train_variant
WHOLE = 10  # low-resolution rows and columns of the picture: whole tenths are exact
SLICINGS = {"linear": "the scale, rounded up", "rows": "a row of the group"}
SLICINGS |= {"constant": "the whole group", "fixed": "four"}  # pixels of a slice
# Of slices in turn. In raster order a slice touches the next, and below it one that
# comes up to four later, in groups of up to 13 columns: so five shades are enough.
SHADES = (0.6, 0.22, 0.48, 0.08, 0.34)


def macs_tail(channels: int, size: tuple[int, int], scale: int) -> int:
    """Multiplications of an upsampling tail: doublings by pixel shuffle, then RGB."""
    latents, doublings = math.prod(size), round(math.log2(scale))
    stages = sum(latents * 4**k * channels * 4 * channels * 9 for k in range(doublings))
    return stages + latents * scale**2 * channels * 3 * 9


def idea():
    """A group of 4 x 4 output pixels, cut into slices, and the two stages."""
    figure, (left, right) = drawing.two_plots(10.4, 3.6, 2)
    for row, col in np.ndindex(4, 4):
        place, colour = (col / 4 + 0.02, row / 4 + 0.02), plots.COLOURS[row]
        left.add_patch(plt.Rectangle(place, 0.21, 0.21, color=colour, alpha=0.5))
    notes = [(0.125, 0.625, "$x_{first}$"), (0.875, 0.625, "$x_{last}$")]
    for row, col in np.ndindex(2, 2):
        left.plot(col, row, "s", color="black", markersize=9)
        notes.append((1.2 * col - 0.1, 1.2 * row - 0.1, f"$v_{{{row}{col}}}$"))
    left.plot(0.5, 0.5, "o", color="black", markersize=6)
    drawing.diagram(left, {}, notes=[*notes, (0.55, 0.45, "$v$")])
    left.set(xlim=(-0.2, 1.2), ylim=(1.2, -0.2), aspect="equal")
    left.set_title("one group at ×4: four slices", fontsize=11)
    coarse, fine, blend = plots.COLOURS[:3]
    boxes = {
        "z": (0, 0, "4 × 4 codes,\nends of\na slice,\npixel size", "0.6"),
        "coarse": (1.6, 0, "coarse stage", coarse),
        "blend": (3.1, 0, "blend four\ncorners", blend),
        "fine": (4.6, 0, "fine stage", fine),
        "rgb": (6, 0, "colour", "0.6"),
    }
    arrows = [*pairwise(boxes), ((4.6, 1.1), "fine")]
    notes = [(2.35, 0.25, "$H_t$"), (3.85, 0.25, "$H(x)$")]
    notes += [(4.6, 1.3, "position $x$ in\nthe group"), (3.85, -1, "once per pixel")]
    notes.append((1.6, -1.05, "once per slice\nand corner"))
    drawing.diagram(right, boxes, arrows, notes)
    for start, end in ((1.1, 2.1), (2.6, 5.1)):
        right.plot([start, end], [-0.8, -0.8], color="black")
    return figure


class SliceExplorer(base.Explorer):
    """Groups and slices of output pixels, while the scale moves.

    Squares are output pixels, thick lines low-resolution pixels. Pixels of one slice
    have one shade and, where there is space, the slice's number in its group.
    """

    cells, side = 3, 360  # low-resolution rows and columns shown, screen pixels
    examples = ((4, 4, "linear"), (2.5, 2.5, "linear"), (2.5, 2.5, "rows"))
    hint = "Groups are blue and orange in turn; slices that touch differ in shade."

    def __init__(self, scale: float = 4.0, slicing: str = "linear"):
        look = {"min": 1, "max": 12, "step": 0.1, "tooltip": "along this axis"}
        self.rows = ipw.FloatSlider(scale, description="row scale", **look)
        self.cols = ipw.FloatSlider(scale, description="col. scale", **look)
        self.together = ipw.Checkbox(value=True, description="one scale for both")
        look = {"tooltips": [f"a slice: {words}" for words in SLICINGS.values()]}
        self.slicing = ipw.ToggleButtons(options=list(SLICINGS), value=slicing, **look)
        self.slicing.style.button_width = "auto"
        controls = (self.rows, self.cols, self.together, self.slicing)
        for control in controls:
            control.observe(self.on_change, "value")
        super().__init__(controls)

    def on_change(self, change) -> None:
        """Follow one slider with the other, and draw."""
        if self.together.value and self.cols.value != self.rows.value:
            moved = self.cols if change["owner"] is self.cols else self.rows
            self.rows.value = self.cols.value = moved.value  # the other's change draws
        else:
            self.draw()

    def chosen(self) -> tuple[float, float, str]:
        return self.rows.value, self.cols.value, self.slicing.value

    def render(self, rows: float, cols: float, slicing: str) -> tuple:
        """The drawing for a scale of rows and one of columns, and its words."""
        n, side = self.cells, self.side
        size = round_half_up(WHOLE * rows), round_half_up(WHOLE * cols)
        h, w = (cells_to_pixels(n, WHOLE, pixels) for pixels in size)
        queries = split_axes(make_coord(size)[:h, :w][None])
        step = torch.tensor([[WHOLE / pixels for pixels in size]])
        slices = cut_slices(queries, step, (WHOLE, WHOLE), slicing)
        group = slices.row * WHOLE + slices.col  # (S,)
        rank = torch.arange(len(group)) - torch.searchsorted(group, group)  # inside it
        maps = [plt.get_cmap(name)(SHADES, bytes=True) for name in ("Blues", "Oranges")]
        colour = np.array(maps)[(slices.row + slices.col) % 2, rank % len(SHADES)]
        of = slices.of.view(h, w)
        pixels = Image.fromarray(colour[of]).convert("RGB")
        high, wide = (side * WHOLE / n / pixels for pixels in size)
        pixels = pixels.resize((round(w * wide), round(h * high)), Image.NEAREST)
        canvas = Image.new("RGB", (side + 1, side + 1), "white")
        canvas.paste(pixels)
        draw, gap = ImageDraw.Draw(canvas), 2 if max(h, w) > 24 else 4
        edges = [np.arange(k + 1) * length for k, length in ((h, high), (w, wide))]
        drawing.grid_lines(draw, *edges, "white", gap)
        drawing.grid_lines(draw, *[np.linspace(0, side, n + 1)] * 2, "black", 3)
        for row, col in np.ndindex(h, w) if min(high, wide) >= 20 else ():
            at = (col + 0.68) * wide, (row + 0.68) * high  # lines cross the middle
            draw.text(at, f"{rank[of[row, col]]}", "black", anchor="mm", font_size=11)
        words = f"×{rows:g}" if rows == cols else f"×{rows:g} (rows), ×{cols:g}"
        words += f", {slicing}: {h * w} output pixels in\n{n * n} groups and "
        return canvas, f"{words}{len(group)} slices"


def least_scale(coarse: float, fine: float, whole: float, saved: float) -> float:
    """From which scale on coarse s + fine s² is at most (1 - saved) whole s²."""
    left = (1 - saved) * whole - fine
    return coarse / left if left > 0 else math.inf


def try_least_scale(f) -> None:
    for numbers in product((1.3, 5.0), (0.1, 2.0), (1.4, 9.0), (0.0, 0.2, 0.7, 0.95)):
        s, (coarse, fine, whole, saved) = float(f(*numbers)), numbers
        share, exists = 1 - (coarse / s + fine) / whole, fine < (1 - saved) * whole
        good = math.isclose(share, saved, abs_tol=1e-4) if exists else s == math.inf
        words = f"(coarse, fine, whole, saved) {numbers}: ×{s:.3g} saves {share:.3f}"
        require(good, words if exists else f"{words}; no scale does, so math.inf")


def group_of(n_pixels: int, n_cells: int) -> tuple[Tensor, Tensor]:
    """Place in its group, and the group's size, of every pixel: (n_pixels,) twice."""
    i = torch.arange(n_pixels)
    owner = (2 * i + 1) * n_cells // (2 * n_pixels)
    count = torch.bincount(owner, minlength=n_cells)
    start = count.cumsum(0) - count
    return i - start[owner], count[owner]


def try_group_of(f) -> None:
    names = ("places in the group", "sizes of the group")
    cases = [(4, 4), (8, 4), (20, 4), (5, 2), (33, 10), (83, 10), (1000, 301)]
    for pixels, cells in cases:
        pair = f(pixels, cells)
        require(isinstance(pair, tuple | list) and len(pair) == 2, "return two tensors")
        for name, got, right in zip(names, pair, group_of(pixels, cells), strict=True):
            got, right = torch.as_tensor(got).tolist(), right.tolist()
            words = f"{pixels} pixels over {cells}: {name} are {right}, not {got}"
            require(got == right, words)


def smooth_weight(x: Tensor, v: Tensor) -> Tensor:
    """A corner's weight, without a kink at the group's border: (N, 2) -> (N, 1)."""
    t = 1 - (x - v).abs()  # along each axis: 1 at the corner, 0 on the far side
    return (t * t * (3 - 2 * t)).prod(dim=-1, keepdim=True)


def try_smooth_weight(f) -> None:
    corners = torch.tensor([*product((-0.5, 0.5), repeat=2)], dtype=torch.float64)
    line = torch.linspace(-0.5, 0.5, 401, dtype=torch.float64)
    x = torch.cartesian_prod(line[::40], line[::40])
    total, ones = sum(f(x, v) for v in corners), torch.ones(len(x), 1)
    require_close(total, ones, "the four must sum to one")
    for v, axis in product(corners, (0, 1)):
        of = f"the weight of the corner {v.tolist()}"
        far = f(x, v)[(x == -v).any(dim=-1)].abs().max()
        require(far < 1e-4, f"{of} must be 0 on its far sides, not {far:.2f}")
        along = torch.where(torch.arange(2) == axis, line[:, None], v)
        slope = f(along, v)[:, 0].diff().abs() * 400
        require(slope.max() < 20, f"{of} jumps inside the group")
        steep = slope[[0, -1]].max()
        require(steep < 0.1, f"{of} has a slope of {steep:.2f} at a border, not 0")


EXERCISES = {
    "diif.1": Exercise(least_scale, try_least_scale),
    "diif.2": Exercise(group_of, try_group_of),
    "diif.3": Exercise(smooth_weight, try_smooth_weight),
}
check = checker(EXERCISES)
