"""Notebook 1, LIIF: its diagram, its widget, its exercises."""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course import layers, plots
from asr_course.coords import corners, make_coord, split_axes
from asr_course.images import resize, to_pixels, to_tensor
from asr_course.lessons import base
from asr_course.lessons.base import Exercise, checker, random, require, require_close
from asr_course.metrics import make_pair, predict, psnr, to_luma
from asr_course.models.liif import LIIFOptions
from asr_course.render import render

TrainingCurve, effects = base.TrainingCurve, base.effects
train_variant = base.train_variant


def draw_ensemble(plot, y: float, x: float, codes, words: str, box=None) -> None:
    """The query (y, x), four codes (row, col), and the rectangle that weighs each."""
    for k, (row, col) in enumerate(codes):
        colour, (far_row, far_col) = plots.COLOURS[k], codes[3 - k]
        width, height = far_col - x, far_row - y  # to the code diagonally opposite
        look = {"facecolor": colour, "edgecolor": colour, "alpha": 0.45}
        plot.add_patch(plt.Rectangle((x, y), width, height, **look))
        name, weight = f"$z_{{{k // 2}{k % 2}}}$", abs(width * height)
        label = words.format(number=k + 1, code=name, weight=weight)
        look = {"ha": "center", "va": "center", "bbox": box}
        plot.text(x + width / 2, y + height / 2, label, **look)
        plot.plot(col, row, "o", color=colour, markersize=14)
    plot.plot(x, y, "o", color="black", markersize=8)


def idea():
    """Four latent codes around a query, and the rectangle that weighs each of them."""
    figure, plot = plt.subplots(figsize=(5.2, 5.2))
    codes = [(0, 0), (0, 1), (1, 0), (1, 1)]
    draw_ensemble(plot, 0.4, 0.62, codes, "weight of\n{code}: {weight:.2f}")
    for row, col in codes:
        side = 0.17 if col else -0.17
        plot.text(col + side, row, f"$z_{{{row}{col}}}$", ha="center", va="center")
    style = {"arrowstyle": "->"}
    plot.annotate("query $x$", (0.62, 0.4), (0.62, -0.3), arrowprops=style, ha="center")
    for edge in (-0.5, 0.5, 1.5):
        plot.axhline(edge, color="0.7", linewidth=1)
        plot.axvline(edge, color="0.7", linewidth=1)
    plot.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), aspect="equal")
    plot.set(xlabel="column, in low-resolution pixels", ylabel="row")
    plot.set(xticks=[0, 1], yticks=[0, 1])
    return figure


class LatentProbe(base.PixelProbe):
    """Which latent codes answer at a query, and what each predicts (local ensemble)."""

    pace = 0.25
    hint = "A code, the rectangle opposite to it and its colour have one number."

    @torch.inference_mode()
    def ensemble(self, row: float, col: float) -> list[tuple]:
        """Of the four codes around a coordinate: (row, col), weight, RGB in [0, 1]."""
        queries = split_axes(torch.tensor([[[[row, col]]]]))
        skip = 0
        if self.model.options.skip:
            skip = layers.bilinear(self.features.lr.movedim(1, -1), queries)
        codes = corners(queries, self.image.shape[:2])
        colours = self.model.ensemble(self.features, queries, self.cell)
        found = []
        for code, (weight, rgb) in zip(codes, colours, strict=True):
            rgb = ((rgb + skip) * 0.5 + 0.5)[0, 0, 0].numpy()
            found.append(((int(code.row), int(code.col)), float(weight), rgb))
        return found

    def render(self, row: float, col: float) -> tuple:
        """The neighbourhood with its four rectangles; below, the four colours."""
        codes, weights, colours = zip(*self.ensemble(row, col), strict=True)
        H, W = self.image.shape[:2]
        y, x = (row + 1) * H / 2 - 0.5, (col + 1) * W / 2 - 0.5
        figure, plot = plt.subplots(figsize=(4.2, 5))
        plot.imshow(self.image)
        box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.7}
        draw_ensemble(plot, y, x, codes, "{number}", box)
        for k, (code_row, code_col) in enumerate(codes):
            look = {"color": "white", "ha": "center", "va": "center", "weight": "bold"}
            plot.text(code_col, code_row, k + 1, **look)
        bottom, said = round(y) + 2.5, ["code: share, red green blue"]
        plot.axhspan(bottom, bottom + 2, color="white")
        blend = sum(w * rgb for w, rgb in zip(weights, colours, strict=True))
        for k, rgb in enumerate([*colours, blend]):
            left, edge, name = round(x) + k - 2, "black", "sum"
            if k < 4:
                edge, name = plots.COLOURS[k], f"{k + 1}: {weights[k]:.2f}"
            look = {"facecolor": rgb.clip(0, 1), "edgecolor": edge, "linewidth": 3}
            plot.add_patch(plt.Rectangle((left - 0.4, bottom + 0.1), 0.8, 0.6, **look))
            plot.text(left, bottom + 1, name, ha="center")
            said.append(f"{name}, {' '.join(f'{255 * x:.0f}' for x in rgb.clip(0, 1))}")
        plot.set(xlim=(round(x) - 2.5, round(x) + 2.5), ylim=(bottom + 1.1, bottom - 5))
        plot.axis("off")
        return figure, "\n".join(said)


def protocol_effects(model, pictures: dict, scale: float) -> list[dict]:
    """How far each choice of a protocol alone moves the mean PSNR: rows of dB.

    Starts from the protocol "liif" on {name: uint8 picture} and changes one thing at
    a time: who made the input, which channels count, the border, the rounding.
    """
    border, scores = math.ceil(scale), []
    for picture in pictures.values():
        lr, hr = make_pair(picture, scale, "liif")
        truth, size = to_tensor(hr)[0], lr.shape[:2]
        luma = to_luma(truth)
        small = F.interpolate(truth[None], size, mode="bicubic")[0]
        inputs = {
            "input by MATLAB's imresize": resize(hr, size, "matlab"),
            "input by torch, antialiased": resize(hr, size, "torch"),
            "input by torch without antialiasing": to_pixels(small),
        }
        sr = predict(model, lr, hr.shape[:2], "liif")
        y, rounded = to_luma(sr), to_luma(to_tensor(to_pixels(sr))[0])
        row = {
            "protocol liif: Pillow input, Y, border ceil(s)": psnr(y, luma, border),
            "RGB instead of Y": psnr(sr, truth, border),
            "no border left out": psnr(y, luma),
            "border s + 6 instead of s": psnr(y, luma, border + 6),
            "output rounded to 8 bits": psnr(rounded, luma, border),
        }
        for choice, other in inputs.items():
            sr = predict(model, other, hr.shape[:2], "liif")
            row[choice] = psnr(to_luma(sr), luma, border)
        scores.append(row)
    means = {choice: float(np.mean([s[choice] for s in scores])) for choice in row}
    first = next(iter(means.values()))
    return [{"choice": c, "psnr": m, "change": m - first} for c, m in means.items()]


def owners(n_pixels: int, n_cells: int) -> Tensor:
    """For every output pixel, the low-resolution pixel that holds its centre."""
    i = torch.arange(n_pixels)
    return (2 * i + 1) * n_cells // (2 * n_pixels)


def try_owners(f) -> None:
    for pixels, cells in ((12, 4), (10, 4), (33, 10)):
        got = torch.as_tensor(f(pixels, cells))
        whole = got.shape == (pixels,) and not got.is_floating_point()
        require(whole, f"{pixels} output pixels need {pixels} whole numbers")
        right = got.min() == 0 and got.max() == cells - 1
        require(right, f"of {cells} pixels the indices are 0 to {cells - 1}")
    for scale in (1, 2, 3, 7):
        counts = torch.bincount(torch.as_tensor(f(5 * scale, 5)), minlength=5)
        require((counts == scale).all(), f"at ×{scale} each holds {scale}: {counts}")
    got = torch.as_tensor(f(5, 2)).tolist()
    words = f"at ×2.5 the pixel on the border goes with the one further on, not {got}"
    require(got == [0, 0, 1, 1, 1], words)
    for pixels, cells in ((7500, 3000), (99_999, 33_333), (10_007, 4001)):
        right = (torch.as_tensor(f(pixels, cells)) == owners(pixels, cells)).all()
        require(right, f"{pixels} over {cells}: rounding errors; use whole numbers")


def bilinear(grid: Tensor, coord: Tensor) -> Tensor:
    """Bilinear interpolation of (B, H, W, D) at (B, h, w, 2): (B, h, w, D)."""
    return layers.bilinear(grid, coord)


def plane(coord: Tensor) -> Tensor:
    """Two linear functions of a coordinate; their unequal slopes tell axes apart."""
    value = 3 * coord[..., 0] - 2 * coord[..., 1] + 0.5
    return torch.stack([value, 2 - value], dim=-1)


def try_bilinear(f) -> None:
    grid, centres = random(0, 2, 5, 7, 3), make_coord((5, 7)).expand(2, 5, 7, 2)
    require_close(f(grid, centres), grid, "on its centre a pixel is itself, in all B")
    for rows, cols in ((6, 6), (9, 5)):
        ramp, inside = plane(make_coord((rows, cols)))[None], make_coord((23, 31))[None]
        inside = inside * (1 - 1 / min(rows, cols))
        require_close(f(ramp, inside), plane(inside), "a linear ramp must stay one")
    far = make_coord((5, 5))[None] * 1.3  # some points lie outside
    require_close(f(ramp, far), bilinear(ramp, far), "outside, the border repeats")
    points = 0.3 * random(1, 1, 17, 1, 2)
    require_close(f(ramp, points), bilinear(ramp, points), "points may be scattered")


def self_ensemble(model, lr: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean of the model's outputs for the eight flips and transpositions of `lr`."""
    total = 0
    for turned in (False, True):
        for flips in ((), (-1,), (-2,), (-2, -1)):
            x, target = (lr.mT, size[::-1]) if turned else (lr, size)
            sr = render(model, x.flip(flips), target).flip(flips)
            total = total + (sr.mT if turned else sr)
    return total / 8


class Pinned(layers.ImplicitModel):
    """A model whose output depends on where the query is, as none should."""

    def __init__(self):
        super().__init__(nn.Identity(), LIIFOptions(skip=True))
        self.encoder.radius = 0
        self.weight = nn.Parameter(torch.zeros(()))

    def predict(self, features, queries, cell):
        row, col = (axis[..., None] for axis in queries)
        lean = 0.3 * row + 0.1 * col + 0.2 * row**2  # flips alone do not cancel row^2
        return lean.expand(*queries.shape, 3)


def try_self_ensemble(f) -> None:
    model, lr, size = case = Pinned(), random(2, 1, 3, 6, 9).sigmoid(), (15, 22)
    plain = f(*case)
    require(plain.shape == (3, *size), "transpose the size too, and the output back")
    for dims in ((-1,), (-2,)):
        flipped = f(model, lr.flip(dims), size).flip(dims)
        require_close(flipped, plain, "where the input is flipped, the output must be")
    turned = f(model, lr.mT, size[::-1]).mT
    require_close(turned, plain, "where the input is transposed, the output must be")
    require_close(plain, self_ensemble(*case), "the result is the mean of all eight")


EXERCISES = {
    "liif.1": Exercise(owners, try_owners),
    "liif.2": Exercise(bilinear, try_bilinear),
    "liif.3": Exercise(self_ensemble, try_self_ensemble),
}
check = checker(EXERCISES)
