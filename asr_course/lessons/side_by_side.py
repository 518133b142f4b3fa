"""Notebook 7, side by side: which gaps between methods mean something.

Scores come from records of `evaluate` over weights that differ in their seed alone.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from asr_course import plots
from asr_course.coords import make_cell, make_coord, pixel_centres
from asr_course.errors import choose
from asr_course.layers import Features, bilinear, relative_cell
from asr_course.lessons import base
from asr_course.lessons.base import Exercise, checker, random, require, require_close
from asr_course.lessons.exam import spread
from asr_course.records import load_record

TrainingCurve = base.TrainingCurve
METHODS = ("liif", "diinn", "diif", "hiif", "diin")  # those that predict the mean
FIRST = {name: name for name in METHODS} | {"liif": "liif-recipe"}  # seed 0, as shipped


def idea():
    """Two pairs of methods with three seeds each: one pair is apart, one is not."""
    figure, plot = plt.subplots(figsize=(6.4, 3.2))
    pairs = {
        "apart: every seed of A\nis above every seed of B": ((5, 5.4, 6.2), (2, 3, 4)),
        "not apart: the ranges\noverlap": ((3.1, 4.6, 6), (2, 3.6, 4.4)),
    }
    for k, (title, methods) in enumerate(pairs.items()):
        for side, scores in enumerate(methods):
            x, look = 3 * k + side, {"color": plots.COLOURS[side]}
            corner, height = (x - 0.3, min(scores)), max(scores) - min(scores)
            plot.add_patch(plt.Rectangle(corner, 0.6, height, alpha=0.25, **look))
            plot.plot([x] * 3, scores, "o", markersize=9, **look)
            plot.text(x, 1.2, "AB"[side], ha="center", fontsize=13)
        plot.text(3 * k + 0.5, 6.7, title, ha="center", fontsize=11)
    look = {"xlim": (-0.8, 4.8), "ylim": (0.9, 7.8), "xticks": [], "yticks": []}
    plot.set(ylabel="score, one dot a seed", **look)
    plot.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def seed_scores(
    name: str, data: str, scale: float, measure="psnr_y", protocol="liif"
) -> list[float]:
    """A method's scores on a data set: seed 0, which is shipped, then 1 and 2."""
    choose("protocol", protocol, ("liif", "diinn"))
    # Notebook 2 scored LIIF and DIINN by both protocols, in one record.
    first = "diinn_scores" if protocol == "diinn" else f"{name}_scores"
    rows = [r for r in load_record(first)["rows"] if r["model"] == FIRST[name]]
    more = load_record(f"{name}_seeds")["rows"]
    rows += sorted(more, key=lambda row: row["seed"])
    asked = {"data": data, "scale": scale, "protocol": protocol}
    return [r[measure] for r in rows if all(r[k] == v for k, v in asked.items())]


def plus_minus(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation over seeds, as text."""
    found = spread(values)
    return f"{found['mean']:.{digits}f} ± {found['std']:.{digits}f}"


def separated(a: Sequence[float], b: Sequence[float]) -> int:
    """1 if every score in a is above every score in b, -1 if below, else 0."""
    return int(min(a) > max(b)) - int(max(a) < min(b))


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The Pareto front of (cost, score), cheapest first.

    A point is beaten by one that costs no more, scores no less, and is not equal.
    """

    def beaten(cost: float, score: float) -> bool:
        return any(
            c <= cost and s >= score and (c, s) != (cost, score)
            for c, s in points.values()
        )

    left = [name for name, point in points.items() if not beaten(*point)]
    return sorted(left, key=lambda name: points[name][0])


def luck(n: int) -> float:
    """The chance that n seeds and n seeds of one method come apart."""
    return 2 / math.comb(2 * n, n)


def try_luck(f) -> None:
    require(abs(f(1) - 1) < 1e-9, "one seed against one is always apart: luck(1) is 1")
    for n, deals in ((2, 6), (3, 20), (4, 70)):
        expected = 2 / deals
        words = f"{n} and {n} come apart in {expected:.4f} of all ways, by either side"
        require(abs(f(n) - expected) < 1e-9, words)


POINTS = {"c": (1, 10), "e": (2, 12), "b": (3, 11), "a": (4, 13), "d": (4, 12)}


def try_front(f) -> None:
    words = f"of {POINTS} no point beats c, e or a; b costs more than e and scores less"
    require(set(f(POINTS)) == {"c", "e", "a"}, words)
    for points in (POINTS, dict(reversed(POINTS.items()))):
        got = f(points)
        require(isinstance(got, list | tuple), "return a list: its order counts")
        require(list(got) == ["c", "e", "a"], "name the cheapest first")
    both = set(f({"a": (1, 5), "b": (1, 5)})) == {"a", "b"}
    require(both, "of two equal points neither beats the other: both stay")
    best = list(f({"a": (1, 5), "b": (1, 6), "c": (2, 6)})) == ["b"]
    require(best, "at equal cost the higher score wins, at equal score the lower cost")


SIZE, CODES = (5, 4), 6  # of the grid that the checks use


def blend_first(features: Features, coord: Tensor, cell: Tensor, mlp) -> Tensor:
    """A seventh method: blend the codes around a query, then ask the MLP once."""
    z = bilinear(features.latent.movedim(1, -1), coord)  # (B, h, w, C)
    pixel = relative_cell(cell, features)  # (B, 2), which is 2 / s
    pixel = pixel[:, None, None].expand(*z.shape[:3], 2)
    return mlp(torch.cat([z, pixel], dim=-1))  # (B, h, w, 3)


def some_features() -> Features:
    """Random latent codes for two grids of 5 x 4."""
    latent = random(3, 2, CODES, *SIZE)
    return Features(latent[:, :3], latent, latent.movedim(1, -1))


def queries(rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """Coordinates and pixel size of two whole outputs."""
    coord = make_coord((rows, cols)).expand(2, rows, cols, 2)
    return coord, make_cell((rows, cols)).expand(2, 2)


def inputs_of(f, coord: Tensor, cell: Tensor) -> Tensor:
    """What an answer gives to its MLP, (B, h, w, C + 2)."""
    inputs = []

    def mlp(x: Tensor) -> Tensor:
        inputs.append(x)
        return x[..., :3]

    rgb = f(some_features(), coord, cell, mlp)
    require(len(inputs) == 1, "ask the MLP once, with all queries")
    words = f"the MLP's input is a code of {CODES} numbers and two for the pixel size"
    require(inputs[0].shape == (*coord.shape[:3], CODES + 2), words)
    require(rgb.shape == (*coord.shape[:3], 3), "return what the MLP returns")
    return inputs[0]


def try_blend_first(f) -> None:
    z, cell = some_features().latent, queries(8, 8)[1]
    got = inputs_of(f, *queries(*SIZE))[..., :CODES]
    require_close(got, z.movedim(1, -1), "on its centre a code is alone")
    rows, cols = (pixel_centres(n) for n in SIZE)
    place = torch.stack([rows[1].lerp(rows[2], 0.25), cols[0].lerp(cols[1], 0.25)])
    got = inputs_of(f, place.expand(2, 1, 1, 2), cell)[:, 0, 0, :CODES]
    above, below = (z[:, :, i, 0].lerp(z[:, :, i, 1], 0.25) for i in (1, 2))
    require_close(got, above.lerp(below, 0.25), "at a quarter: weights 3/4 and 1/4")
    edge = (rows[1] + rows[2]) / 2 + torch.tensor([-1e-5, 1e-5])
    places = torch.stack([edge, torch.zeros(2)], dim=-1)[:, None]
    got = inputs_of(f, places.expand(2, 2, 1, 2), cell)
    require_close(got[:, 0], got[:, 1], "between two codes nothing may jump", 1e-3)
    for size in ((10, 8), (20, 8)):
        got = inputs_of(f, *queries(*size))[..., CODES:]
        expected = torch.tensor([2 * SIZE[0] / size[0], 2 * SIZE[1] / size[1]])
        require_close(got, expected.expand_as(got), "2 / s is cell times (H, W)")


EXERCISES = {
    "side.1": Exercise(luck, try_luck),
    "side.2": Exercise(front, try_front),
    "side.3": Exercise(blend_first, try_blend_first),
}
check = checker(EXERCISES)
