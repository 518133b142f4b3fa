"""Notebook 3, DIIF: its diagram, its widget, its exercises."""

from itertools import pairwise

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import embedding

from asr_course import plots
from asr_course.coords import cells_to_pixels, make_coord, round_half_up, split_axes
from asr_course.lessons import base, drawing
from asr_course.lessons.base import Exercise, checker, random, require, require_close
from asr_course.lessons.liif import owners
from asr_course.models.slices import cut_slices

TrainingCurve, effects = base.TrainingCurve, base.effects
train_variant = base.train_variant
WHOLE = 10  # low-resolution rows and columns of the picture: whole tenths are exact
SLICINGS = {"linear": "the scale, rounded up", "rows": "a row of the group"}
SLICINGS |= {"constant": "the whole group", "fixed": "four"}  # pixels of a slice
# Of slices in turn. In raster order a slice touches the next, and below it one that
# comes up to four later, in groups of up to 13 columns: so five shades are enough.
SHADES = (0.6, 0.22, 0.48, 0.08, 0.34)


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


def slice_ends(g: int, u: int) -> Tensor:
    """First and last place of every slice of u among g pixels: (K, 2)."""
    first = torch.arange(0, g, u)
    return torch.stack([first, (first + u).clamp(max=g) - 1], dim=-1)


def try_slice_ends(f) -> None:
    for g, u in ((16, 4), (9, 4), (6, 3), (7, 3), (7, 7), (5, 8), (1, 1)):
        ends, case = torch.as_tensor(f(g, u)), f"{g} pixels in slices of {u}"
        require(ends.shape == (-(-g // u), 2), f"{case}: {-(-g // u)} firsts and lasts")
        places = [p for a, b in ends.tolist() for p in range(int(a), int(b) + 1)]
        words = f"{case}: places 0 to {g - 1} each belong to one, in order"
        require(places == list(range(g)), f"{words}; yours cover {places}")
        lengths = [int(b - a) + 1 for a, b in ends]
        full = all(length == u for length in lengths[:-1])
        require(full, f"{case}: only the last may be short; yours hold {lengths}")


def group_of(n_pixels: int, n_cells: int) -> tuple[Tensor, Tensor]:
    """Place in its group, and the group's size, of every pixel: (n_pixels,) twice."""
    owner = owners(n_pixels, n_cells)
    count = torch.bincount(owner, minlength=n_cells)
    start = count.cumsum(0) - count
    return torch.arange(n_pixels) - start[owner], count[owner]


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


def blend_then_map(H: Tensor, share: Tensor, of: Tensor, W: Tensor) -> Tensor:
    """sum_t share_t W H_t[of], with W applied where there are fewer places."""
    early = H.shape[0] * H.shape[1] < len(of)
    if early:
        H = H @ W.T
    blend = sum(a[:, None] * embedding(of, h) for a, h in zip(share, H, strict=True))
    return blend if early else blend @ W.T


def try_blend(f) -> None:
    for slices, pixels in ((3, 30), (10, 12)):
        H, share, W = random(0, 4, slices, 6), random(1, 4, pixels), random(2, 5, 6)
        of = torch.arange(pixels) * slices // pixels
        case = H, share, of, W
        expected = torch.einsum("tn,tnd,ed->ne", share, H[:, of], W)
        words = "must equal W applied to the blend, each corner with its own shares"
        require_close(f(*case), expected, words, 1e-3)
        most = min(4 * slices, pixels) * 5 * 6
        hint = "which are fewer, pixels or corners of slices? Blend elementwise"
        base.require_cheap(lambda case=case: f(*case), most, hint)


EXERCISES = {
    "diif.1": Exercise(slice_ends, try_slice_ends),
    "diif.2": Exercise(group_of, try_group_of),
    "diif.3": Exercise(blend_then_map, try_blend),
}
check = checker(EXERCISES)
