"""Side by side: what three seeds of a method scored, and which gaps mean something.

Scores come from records of `evaluate` over weights that differ in their seed alone.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import nn

from asr_course.errors import choose
from asr_course.lessons.exam import spread
from asr_course.images import resize, sample_crops, to_tensor
from asr_course.metrics import seam
from asr_course.records import load_record
from asr_course.render import render

METHODS = ("liif", "diinn", "diif", "hiif", "diin")  # those that answer with the mean
FIRST = {name: name for name in METHODS} | {"liif": "liif-recipe"}  # seed 0, as shipped


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


def by_chance(a: Sequence[float], b: Sequence[float]) -> float:
    """How often shuffled labels keep a and b apart: the share of all ways to deal.

    The scores are dealt anew into two hands of the same sizes, in every possible way.
    If the labels mean nothing, each way is equally likely.
    """
    pool = [*a, *b]
    hands = list(combinations(range(len(pool)), len(a)))
    apart = 0
    for hand in hands:
        mine = [pool[k] for k in hand]
        theirs = [pool[k] for k in range(len(pool)) if k not in hand]
        apart += separated(mine, theirs) != 0
    return apart / len(hands)


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Who is beaten by nobody, cheapest first: the Pareto front of (cost, score).

    A point is beaten by one that costs no more and scores no less, and is better in
    one of the two.
    """

    def beaten(cost: float, score: float) -> bool:
        return any(
            c <= cost and s >= score and (c, s) != (cost, score)
            for c, s in points.values()
        )

    left = [name for name, point in points.items() if not beaten(*point)]
    return sorted(left, key=lambda name: points[name][0])


@torch.inference_mode()
def seams(model: nn.Module, scale: int, side: int = 12) -> dict[str, float]:
    """Where a model's output jumps: at the borders and centres of input pixels.

    The mean step there over the mean step elsewhere, rows and columns together, on
    inputs of side x side pixels from four bundled photographs. A function without
    jumps comes near 1 as the scale grows.
    """
    found = {"border": [], "centre": []}
    device = next(model.parameters()).device
    for photo in sample_crops().values():
        whole = resize(photo, (64, 64))
        first = (64 - side) // 2
        lr = whole[first : first + side, first : first + side]
        sr = render(model, to_tensor(lr).to(device), (side * scale, side * scale)).cpu()
        for picture in (sr, sr.transpose(1, 2)):
            found["border"].append(seam(picture, scale))
            found["centre"].append(seam(picture, scale, where=0.5))
    return {name: float(np.mean(values)) for name, values in found.items()}
