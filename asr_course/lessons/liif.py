"""Notebook 1, LIIF: its diagram, its widget, its exercises."""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asr_course import layers, plots
from asr_course.coords import (
    corners,
    make_coord,
    pixel_centres,
    split_axes,
    to_position,
)
from asr_course.images import resize, to_pixels, to_tensor
from asr_course.lessons import base
from asr_course.lessons.base import Exercise, checker, random, require, require_close
from asr_course.metrics import make_pair, predict, psnr, to_luma

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
        if weight > 0.1:  # else the label is larger than the rectangle
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
        bottom, said = round(y) + 2.5, ["code: weight, red green blue"]
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


def mend(offset: Tensor, cell: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Offset and cell on [-1, 1] of n low-resolution pixels, as on 24 pixels."""
    return offset * n / 24, cell * n / 24


def try_mend(f) -> None:
    offset, cell = random(3, 2, 5, 6, 2) / 24, random(4, 2, 2).abs() / 24
    for n in (24, 16, 64, 100):
        got = f(offset * 24 / n, cell * 24 / n, n)  # as many low-resolution pixels
        require(len(got) == 2, "return two tensors: the offset and the cell")
        parts = zip(("offset", "cell"), got, (offset, cell), strict=True)
        for name, told, right in parts:
            words = f"{name}: as many low-resolution pixels must be the same number on"
            require_close(told, right, f"{words} {n} × {n} as on 24 × 24")


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


def saved(tau: float) -> float:
    """The part of a LIIF's codes that weigh less than tau, over all places."""
    return tau * (1 - math.log(tau))


def try_saved(f) -> None:
    fraction = to_position(pixel_centres(1600), 10) % 1
    weights = fraction[:, None] * fraction
    for tau in (0.25, 0.1, 0.05, 0.01):
        got, part = float(f(tau)), float((weights < tau).double().mean())
        words = f"at tau = {tau} your formula saves {got:.1%} of the calls; counted on"
        require(abs(got - part) < 5e-3, f"{words} 1600 × 1600 pixels it is {part:.1%}")


EXERCISES = {
    "liif.1": Exercise(mend, try_mend),
    "liif.2": Exercise(bilinear, try_bilinear),
    "liif.3": Exercise(saved, try_saved),
}
check = checker(EXERCISES)
