"""Notebook 4, HIIF: its diagram, its widget, its exercises."""

import ipywidgets as ipw
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageColor, ImageDraw
from torch import Tensor

from asr_course import plots
from asr_course.coords import pixel_centres, round_half_up, to_position
from asr_course.lessons import base, drawing
from asr_course.lessons.base import Exercise, checker, random, require, require_close
from asr_course.models.hiif import bracket, digits

TrainingCurve, effects = base.TrainingCurve, base.effects
train_variant = base.train_variant
SIDE, INSIDE = 384, [0.31, 0.59]  # screen pixels, a place to begin with
WHOLE, CELL = 10, 4  # low-resolution pixels along an axis, and the one we look at


def square(place: Tensor, levels: int) -> Image.Image:
    """The square between four codes, halved again and again around a place (2,)."""
    canvas, side = Image.new("RGB", (SIDE, SIDE), "white"), SIDE
    draw = ImageDraw.Draw(canvas)
    corner, size = np.zeros(2), side  # row and column of the box, and its side
    for level, bits in enumerate(digits(place, levels).T.numpy()):
        size /= 2
        corner = corner + bits * size
        (y, x), shade = corner, 240 - 28 * level
        draw.rectangle([x, y, x + size, y + size], (255, shade, shade))
    for level in reversed(range(min(levels, 5))):  # finer lines would hide the rest
        edges = np.linspace(0, side - 1, 2 ** (level + 1) + 1)
        grey = (150 + 18 * level,) * 3
        drawing.grid_lines(draw, edges, edges, grey, 1 if level else 2)
    return canvas


def idea():
    """Binary digits of a place, and the levels of the network that they enter."""
    figure, (left, right) = drawing.two_plots(11, 3.7, 2.4)
    grey, (codes, level, mix) = "0.6", plots.COLOURS[:3]
    left.imshow(square(torch.tensor([0.66, 0.3]), 3), extent=(0, 1, 1, 0))
    left.plot([0, 1, 0, 1], [0, 0, 1, 1], "o", color=codes, markersize=10)
    left.plot(0.3, 0.66, "o", color="black", markersize=6)
    for k, (x, y) in enumerate(((0.46, 0.98), (0.46, 0.73), (0.33, 0.74))):
        left.text(x, y, str(k), fontsize=8)
    left.set(xlim=(-0.08, 1.08), ylim=(1.08, -0.08))
    left.axis("off")
    words = "levels 0, 1, 2 of one place:\nrow 0.101…, column 0.010… in base two"
    left.set_title(words, fontsize=10)
    chain = [("four\ncodes,\npixel size", grey), ("level 0", level)]
    chain += [("attention", mix), ("attention", mix), ("level 1", level)]
    chain += [("…", "white"), ("level 5", level), ("+ bilinear\ninput\n= colour", grey)]
    boxes = {k: (1.3 * k, 0, *word) for k, word in enumerate(chain)}
    arrows = [(k, k + 1) for k in range(7)] + [((3.25, -1), 2), ((3.25, -1), 3)]
    arrows += [((1.3 * k, 1), k) for k in (1, 4, 6)]
    notes = [(1.3 * k, 1.2, f"digits {l}") for k, l in ((1, 0), (4, 1), (6, 5))]
    notes.append((3.25, -1.2, "all queries\ntogether"))
    drawing.diagram(right, boxes, arrows, notes)
    return figure


class DigitExplorer(base.Explorer):
    """The square between four latent codes, and the digits of one output pixel in it.

    Dots are output pixels. One is chosen by a click, or with the arrow keys; the
    others show by their colour how many levels they share with it.
    """

    examples = ((8, INSIDE, 1), (8, INSIDE, 2), (8, INSIDE, 3))

    def __init__(self, scale: float = 8.0, levels: int = 3):
        look = {"min": 1, "max": 30, "step": 0.1, "tooltip": "output pixels per code"}
        self.scale = ipw.FloatSlider(scale, description="scale ×", **look)
        look = {"min": 1, "max": 6, "tooltip": "binary digits of a place"}
        self.levels = ipw.IntSlider(levels, description="levels", **look)
        super().__init__([self.scale, self.levels])
        for control in (self.scale, self.levels):
            control.observe(lambda change: self.draw(), "value")
        self.picture.observe(lambda change: self.draw(), "place")
        self.picture.chooses, self.picture.place = True, INSIDE

    def chosen(self) -> tuple[float, list[float], int]:
        self.picture.step = [1 / self.scale.value] * 2
        return self.scale.value, self.picture.place, self.levels.value

    def places(self, scale: float) -> Tensor:
        """Places of output pixels between two codes, along an axis: (n,) in [0, 1)."""
        n = round_half_up(WHOLE * scale)
        (before, _), _, place = bracket(to_position(pixel_centres(n), WHOLE), WHOLE)
        return place[before == CELL]

    def nearest(self, scale: float, place: tuple[float, float]) -> Tensor:
        """The output pixel nearest to `place`, (row, col) between the codes: (2,)."""
        places = self.places(scale)
        return torch.stack([places[(places - t).abs().argmin()] for t in place])

    def render(self, scale: float, place: tuple[float, float], levels: int) -> tuple:
        """The picture, and in words every level's two digits and who shares them."""
        places, place = self.places(scale), self.nearest(scale, place)
        own = digits(place, levels)  # (2, L)
        grid = torch.stack(torch.meshgrid(places, places, indexing="ij"), dim=-1)
        same = (digits(grid, levels) == own).all(dim=2)  # (n, n, L)
        depths = same.cumprod(dim=-1).sum(-1)  # (n, n) levels that agree
        canvas, side = square(place, levels), SIDE
        draw, radius = ImageDraw.Draw(canvas), max(1.5, min(6, side / scale / 4))
        colours = [np.array(ImageColor.getrgb(c)) for c in plots.COLOURS[:2]]
        dots = zip(grid.view(-1, 2).tolist(), depths.flatten().tolist(), strict=True)
        for (row, col), depth in dots:
            weight = 0.25 + 0.75 * depth / levels  # pale where few levels agree
            fill = 255 - weight * (255 - colours[depth == levels])
            centre, fill = (col * side, row * side), tuple(fill.astype(int))
            draw.circle(centre, radius, fill=fill)
        row, col = place.tolist()
        draw.circle((col * side, row * side), radius + 3, outline="black", width=2)
        words = [f"×{scale:g}: pixel at row {row:.3f}, column {col:.3f}"]
        for k in range(levels):
            bits = f"{own[0, k]:.0f} and {own[1, k]:.0f}"
            words.append(f"level {k}: {bits}, pixels: {(depths > k).sum()}")
        return canvas, "\n".join(words)


def splits_at(a: Tensor, b: Tensor, levels: int) -> Tensor:
    """The first level whose digit differs between places a and b; `levels` if none."""
    differ = digits(a, levels) != digits(b, levels)
    return (differ.cumsum(-1) == 0).sum(-1)


def try_splits_at(f) -> None:
    for a, b, level in ((0.4, 0.6, 0), (0.1, 0.3, 1), (0.55, 0.7, 2), (0.3, 0.3, 6)):
        got = int(f(torch.tensor([a]), torch.tensor([b]), 6))
        words = f"{a} and {b} part at level {level}" if a < b else "equal places: 6"
        require(got == level, f"{words}, yours: {got}")
    a, b = random(60, 2, 40, 7).sigmoid()
    for levels in (3, 6):
        m, n = ((x * 2**levels).long() for x in (a, b))
        right = levels - torch.frexp((m ^ n).float()).exponent  # bits of m ^ n
        require_close(f(a, b, levels), right, "the coarsest level that differs counts")


def positive(x: Tensor) -> Tensor:
    """Above zero everywhere, and nearly x where x is large."""
    return F.elu(x) + 1


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A mean of v with weights positive(q_i) . positive(k_j), linear in n."""
    q, k = positive(q), positive(k)
    return q @ (k.mT @ v) / (q @ k.sum(-2)[..., None])


def try_attend(f) -> None:
    for n in (5, 40):
        q, k, v = random(n, 3, 2, n, 4)  # two heads
        got, ones = f(q, k, v), torch.ones_like(v)
        require_close(f(q, k, ones), ones, "the weights of a query must sum to one")
        low, high = v.amin(-2, keepdim=True), v.amax(-2, keepdim=True)
        inside = ((got >= low - 1e-4) & (got <= high + 1e-4)).all()
        require(inside, "a mean stays in the range of v: no weight may be negative")
        weight = positive(q) @ positive(k).mT
        expected = weight @ v / weight.sum(-1, keepdim=True)
        require_close(got, expected, "weights: (elu(q_i) + 1) · (elu(k_j) + 1)", 1e-3)
    for n in (64, 512):
        qkv = random(n, 3, 2, n, 4)
        base.require_cheap(lambda qkv=qkv: f(*qkv), 128 * n, "multiply k and v first")


def read(x: Tensor, digit: Tensor) -> Tensor:
    """What level 1 reads: x (n, C), normalised alone, and its two digits (n, 2)."""
    return torch.cat([F.layer_norm(x, x.shape[-1:]), digit], dim=-1)


def try_read(f) -> None:
    x, pairs = random(61, 9, 16) + 1, torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    for size in (1, 100, 1e4):
        small, large = (x * k for k in (size, 10 * size))
        got = torch.stack([f(small, pair.expand(9, 2)) for pair in pairs])
        require(got.shape == (4, 9, 18), f"{(9, 16)} and {(9, 2)} make {(9, 18)}")
        gap = torch.pdist(got.flatten(1) / 3).min()  # over nine queries
        words = f"two pairs of digits are {gap:.2g} apart where x is of size {size:g}"
        require(gap > 0.5, f"{words}; keep them as far apart as 0 and 1")
        normal = F.layer_norm(small, (16,)).expand(4, 9, 16)
        words = "the first C numbers are x, normalised over its own C features"
        require_close(got[..., :16], normal, words, 1e-3)
        again = f(large, pairs[3].expand(9, 2))
        require_close(again, got[3], "an x ten times as large must read the same", 1e-3)


EXERCISES = {
    "hiif.1": Exercise(splits_at, try_splits_at),
    "hiif.2": Exercise(attend, try_attend),
    "hiif.3": Exercise(read, try_read),
}
check = checker(EXERCISES)
