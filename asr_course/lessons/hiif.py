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


def binary(t: Tensor, levels: int) -> Tensor:
    """The first binary digits of t in [0, 1): (...) -> (..., levels)."""
    bits = []
    for _ in range(levels):
        t = 2 * t
        bits.append(t.floor())
        t = t - t.floor()
    return torch.stack(bits, dim=-1)


def try_binary(f) -> None:
    for shape, levels in (((5,), 3), ((2, 4), 6), ((), 2)):
        got, right = f(torch.zeros(shape), levels), torch.zeros(*shape, levels)
        require_close(torch.as_tensor(got), right, "all digits of 0 are 0")
    for t, expected in ((0.5, [1, 0, 0]), (0.25, [0, 1, 0]), (0.875, [1, 1, 1])):
        got = torch.as_tensor(f(torch.tensor([t]), 3))[0].tolist()
        require(got == expected, f"{t} has the digits {expected}, yours are {got}")
    t = torch.arange(0, 1, 1 / 96)
    got = torch.as_tensor(f(t, 6)).float()
    require(((got == 0) | (got == 1)).all(), "every digit is 0 or 1, for every t")
    rest = t - (got / 2.0 ** torch.arange(1, 7)).sum(-1)
    words = "the sum of digit / 2, digit / 4, digit / 8 ... lies at most 1/64 below t"
    require(((rest >= 0) & (rest < 2**-6)).all(), words)


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


def in_pieces(pieces) -> list[Tensor]:
    """The attention output for the queries of each piece, over those of all pieces."""
    total, n = 0, 0
    for _, k, v in pieces():
        total = total + k.T.double() @ v.double()
        n += len(k)
    return [q @ (total / n).to(q) for q, _, _ in pieces()]


def try_in_pieces(f) -> None:
    q, k, v = parts = random(60, 3, 60, 4)
    for sizes in ([60], [20, 20, 20], [1, 40, 19]):
        pieces = base.Pieces(parts, sizes)
        got = f(pieces)
        require(not isinstance(got, Tensor), "return a list, a tensor for each piece")
        lengths = [len(part) for part in got]
        require(lengths == sizes, f"pieces of {sizes} give as many, not {lengths}")
        got = torch.cat(list(got))
        require_close(got, q @ (k.T @ v / 60), "pieces must give what all give at once")
        require(pieces.passes == 2, f"two passes, not {pieces.passes}")
    q, k, v = torch.ones(3, 4097, 1)
    k[0] = 2.0**26  # and many small numbers after it: float32 would lose them
    got = torch.cat(list(f(base.Pieces((q, k, v), [1] * 4097))))
    off = (got - (2.0**26 + 4096) / 4097).abs().max()
    require(off < 0.1, "add up in float64: 4,096 ones after a large number were lost")


EXERCISES = {
    "hiif.1": Exercise(binary, try_binary),
    "hiif.2": Exercise(attend, try_attend),
    "hiif.3": Exercise(in_pieces, try_in_pieces),
}
check = checker(EXERCISES)
