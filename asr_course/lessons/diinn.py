"""Notebook 2, DIINN: its diagram, its widget, its exercises."""

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from asr_course import plots
from asr_course.coords import Queries, nearest, pixel_centres, to_position
from asr_course.lessons import base, drawing
from asr_course.lessons.base import Exercise, checker, random, require, require_close

TrainingCurve, effects = base.TrainingCurve, base.effects
train_variant = base.train_variant
DARK_TO_LIGHT = ((0,) * 3, (115,) * 3, (230,) * 3)  # at -1, 0 and 1


def idea():
    """Two branches side by side: content above, position below, products between."""
    figure, plot = plt.subplots(figsize=(9.2, 4.0))
    content, position, both = plots.COLOURS[:3]
    boxes = {"z": (0, 3, "content $z$", content), "rgb": (7.5, 1, "colour", both)}
    boxes["p"] = (0, 0, "position $p$", position)
    arrows = [("p", "sine 0"), ("× 2", "rgb")]
    notes = [(1.5, 3.3, "modulation branch"), (1.9, -0.6, "synthesis branch")]
    for k in range(3):
        x = 1.9 + 1.9 * k
        boxes[f"m {k}"] = (x, 2.1, f"ReLU: $m_{k}$", content)
        boxes[f"× {k}"] = (x, 1.0, "×", both)
        boxes[f"sine {k}"] = (x, 0, "sine", position)
        notes.append((x + 0.9, 1.05 if k < 2 else 1.2, f"$s_{k}$"))
        arrows += [((x, 3), f"m {k}"), (f"m {k}", f"× {k}"), (f"sine {k}", f"× {k}")]
        if k < 2:
            arrows += [(f"× {k}", f"m {k + 1}", 0.2), (f"× {k}", f"sine {k + 1}", -0.2)]
    plot.plot([0.6, 5.7], [3, 3], color="0.35", linewidth=1.2, zorder=0)
    drawing.diagram(plot, boxes, arrows, notes)
    return figure


class BranchProbe(base.PixelProbe):
    """DIINN's two branches inside one low-resolution pixel, layer by layer.

    For every layer three units, each as three maps: modulation m, sine, and their
    product s. The units are those whose product varies most over the first place; they
    and the scales of their colours stay until others are asked for.
    """

    side = 16  # queries along the low-resolution pixel
    shown = ()  # by layer: units, largest m and largest product of them
    hint = "m: from black, 0, to grey; sine, s: blue below 0, orange above."

    def __init__(self, model, image: np.ndarray, scale: float = 8.0):
        words = "show the units whose product varies most over this place"
        again = ipw.Button(description="other units: busiest here", tooltip=words)
        again.layout.width = "max-content"
        again.on_click(self.choose)
        super().__init__(model, image, scale, [again])

    def choose(self, button=None) -> None:
        """Show the units that are busiest at the present place."""
        self.shown = ()
        self.draw()

    @torch.inference_mode()
    def layers(self, row: float, col: float) -> list[dict]:
        """Maps of all units: modulation, sine, product, (D, side, side) each."""
        queries, maps = self.queries(row, col), []
        for branches in self.model.branches(self.features, queries, self.cell):
            full = [x[0].expand(self.side, self.side, -1) for x in branches]
            m, sine, s = (x.movedim(-1, 0).numpy() for x in full)
            maps.append({"modulation": m, "sine": sine, "product": s})
        return maps

    def queries(self, row: float, col: float) -> Queries:
        """Queries that fill the low-resolution pixel at (row, col): n x n."""
        n, coord = self.side, []
        for place, cells in zip((row, col), self.image.shape[:2], strict=True):
            index = nearest(to_position(torch.tensor(place), cells), cells)
            coord.append(pixel_centres(n * cells)[index * n : index * n + n])
        return Queries(coord[0][None, :, None], coord[1][None, None])

    def render(self, row: float, col: float) -> tuple:
        """A row of maps for every layer, and the colours that come out."""
        layers = [layer.values() for layer in self.layers(row, col)]
        for m, _, s in layers if not self.shown else ():
            units = s.std(axis=(1, 2)).argsort()[::-1][:3].tolist()
            ends = m[units].max(), np.abs(s[units]).max()
            self.shown = *self.shown, (units, *(max(end, 1e-6) for end in ends))
        pictures, titles, said = [], [], []
        for k, (units, top, far) in enumerate(self.shown):
            for u in units:
                m, sine, s = (x[u] for x in layers[k])
                pictures.append(drawing.shade(m / top * 2 - 1, DARK_TO_LIGHT, zoom=4))
                for values in (sine, s / far):
                    pictures.append(drawing.shade(values, drawing.COLD_TO_WARM, zoom=4))
                titles += [f"layer {k}\n{name} {u}" for name in ("m", "sine", "s")]
            words = f"layer {k}, units {', '.join(map(str, units))}"
            said.append(f"{words}: m to {top:.2f}, s to ±{far:.2f}")
        with torch.inference_mode():
            rgb = self.model.decode(self.features, self.queries(row, col), self.cell)
        pictures.append(rgb[0].clamp(0, 1))
        titles.append("\noutput")
        sheet = plots.gallery(pictures, titles, 4 * self.side, columns=9)
        return sheet, "\n".join(said)


def most_periods(weight: Tensor) -> Tensor:
    """Periods that layer 0's arguments cross in a pixel: (D, 3) -> (D,)."""
    return weight[:, :2].abs().sum(dim=1) / torch.pi


def try_most_periods(f) -> None:
    turn, words = torch.tensor([[torch.pi, 0, 0]]), "π on the rows is one period"
    require_close(f(turn), torch.ones(1), words)
    words = "rows and columns count both, whatever their signs: π and -π make two"
    require_close(f(turn - turn.roll(1, 1)), torch.full((1,), 2.0), words)
    words = "the pixel size is the same in all of the pixel: its weight does not count"
    require_close(f(turn + turn.roll(2, 1)), torch.ones(1), words)
    weight, signs = random(0, 9, 3), torch.tensor([-1.0, 1.0])
    values = torch.cartesian_prod(signs, signs, torch.zeros(1)) @ weight.T  # (4, 9)
    right = values.amax(dim=0) / torch.pi  # the smallest is minus the largest
    require_close(f(weight), right, "the extremes lie in opposite corners")


def fade(offset: Tensor, margin: float) -> Tensor:
    """A code's weight at an offset from its centre, in low-resolution pixels."""
    return ((0.5 + margin - offset.abs()) / (2 * margin)).clamp(0, 1)


def try_fade(f) -> None:
    far = torch.linspace(-1.5, 1.5, 3001)
    for margin in (0.1, 0.3, 0.5):
        w, distance, x = f(far, margin), far.abs(), torch.linspace(0, 1, 777)
        require(w.shape == far.shape, "every offset needs one weight")
        inner, outer = distance < 0.499 - margin, distance > 0.501 + margin
        words = f"margin {margin}: up to 1/2 - margin the code answers alone, weight 1"
        require((w[inner] - 1).abs().sum() < 1e-3, words)
        words = f"margin {margin}: from 1/2 + margin on the weight is 0"
        require(w[outer].abs().sum() < 1e-3, words)
        words = "the weights of two neighbours, at offsets d and d - 1, sum to one"
        require_close(f(x, margin) + f(x - 1, margin), torch.ones(777), words)
        words = "the weight jumps; let it fall over all of the zone of ± margin"
        require(w.diff().abs().max() < 0.0016 / margin, words)
        zone = (distance - 0.5).abs() < 0.9 * margin
        require(w[zone].min() > 0 and w[zone].max() < 1, words)


def sine_of_grid(row: Tensor, col: Tensor, W_row: Tensor, W_col: Tensor, b: Tensor):
    """sin(row W_row + col W_col + b) on a whole grid: (h,), (w,), (D,) -> (h, w, D)."""
    down = row[:, None] * W_row + b  # (h, D)
    across = col[:, None] * W_col  # (w, D)
    return down.sin()[:, None] * across.cos() + down.cos()[:, None] * across.sin()


class CountWaves(TorchDispatchMode):
    """Counts the numbers that sin and cos are taken of."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("sin", "cos", "sin_", "cos_"):
            self.count += args[0].numel()
        return function(*args, **(kwargs or {}))


def try_sine_of_grid(f) -> None:
    for h, w, D in ((5, 7, 3), (6, 4, 9), (30, 40, 8)):
        row, col, W_row, W_col, b = pixel_centres(h), pixel_centres(w), *random(0, 3, D)
        expected = (row[:, None, None] * W_row + col[:, None] * W_col + b).sin()
        with CountWaves() as waves:
            got = f(row, col, W_row, W_col, b)
        words = "must equal sin(row W_row + col W_col + b): b once, rows before columns"
        require_close(got, expected, words)
        most = 2 * (h + w) * D
        words = f"{most:,} sines and cosines, of rows and of columns, are enough here"
        require(waves.count <= most, f"{words}, yours took {waves.count:,}")


EXERCISES = {
    "diinn.1": Exercise(most_periods, try_most_periods),
    "diinn.2": Exercise(fade, try_fade),
    "diinn.3": Exercise(sine_of_grid, try_sine_of_grid),
}
check = checker(EXERCISES)
