"""Notebook 5, DIIN: its diagram, its widget, its exercises."""

from contextlib import ExitStack

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asr_course import plots
from asr_course.coords import make_coord
from asr_course.lessons import base, drawing
from asr_course.lessons.base import Exercise, checker, random, require, require_close
from asr_course.models.diin_layers import rates

TrainingCurve, effects = base.TrainingCurve, base.effects


def idea():
    """Nodes that exchange heat, and what one layer of DIIN is made of."""
    figure, (left, right) = drawing.two_plots(10.8, 4.1, 1.9)
    i = (1.05, 1.05)
    nodes = {(0, 0): 0.9, (1, 0.15): 0.2, (2, 0): 0.7, (0.2, 1): 0.5, (1.9, 1.1): 0.1}
    for j, rate in (nodes | {(1.1, 2): 0.95}).items():
        style = {"arrowstyle": "-|>", "color": "0.55", "shrinkA": 12, "shrinkB": 13}
        left.annotate("", i, j, arrowprops=style | {"linewidth": 0.8 + 3 * rate})
        colour = plots.COLOURS[rate > 0.5]
        left.plot(*j, "o", color=colour, markersize=15, alpha=0.35 + 0.6 * rate)
    left.plot(*i, "o", color="black", markersize=16)
    left.text(*i, "$i$", ha="center", va="center", color="white")
    drawing.diagram(left, {}, notes=[(2.2, 0, "$j$"), (1.85, 0.58, "$S_{ij}$")])
    left.set(xlim=(-0.3, 2.5), ylim=(2.35, -0.35), aspect="equal")
    left.set_title("queries as nodes: rate $S_{ij}$,\nfrom node $j$ to node $i$")
    heat, tokens, own = plots.COLOURS[:3]
    boxes = {
        "Z": (0, 0, "$Z$", "0.6"),
        "P": (2, 1.2, "diffusion\n$P = S\\,V$", heat),
        "A": (2, -1.2, "attention\n$A\\,V_D$", tokens),
        "alpha": (2, 2.6, "$\\alpha Z$", own),
        "add": (4, 0, "add,\nlinear layer", own),
        "MLP": (5.8, 0, "add $\\alpha Z$,\nMLP (ours)", own),
        "Z'": (7.3, 0, "$Z'$", "0.6"),
        "D": (2, -2.6, "tokens $D$", tokens),
        "D'": (5.8, -2.6, "refined\ntokens $D'$", tokens),
    }
    arrows = "Z P, Z A, Z alpha, P add, A add, add MLP, alpha MLP, MLP Z'"
    arrows += ", D A, D D', MLP D', A D'"
    arrows = [arrow.split() for arrow in arrows.split(", ")]
    drawing.diagram(right, boxes, arrows, [(2, 0.45, "all queries")])
    return figure


class RateProbe(base.PixelProbe):
    """To whom a clicked pixel listens in DIIN, layer by layer: queries, and tokens.

    For every layer a map of the diffusion rates from the centres of all input pixels,
    as multiples of the mean, and a bar for every token of the dictionary.
    """

    span = 0.5  # colours end so far from the mean, whatever is clicked
    hint = "Rates: blue 0.5 times the mean or less, white 1, orange 1.5 or more."
    hint += "<br>Bars: shares of the tokens; the top of the plot is 0.35."

    @torch.inference_mode()
    def layers(self, row: float, col: float) -> list[dict]:
        """For each layer: "rates" (H, W), times their number; "tokens" (M,) or None."""
        (H, W), place = self.image.shape[:2], torch.tensor([[[[row, col]]]])
        coord = torch.cat([make_coord((H, W)).view(1, -1, 1, 2), place], dim=1)
        states, attention = [], []  # by layer: z (1, n, d), the place's row of A (M,)
        with ExitStack() as hooks:
            for layer in self.model.layers:
                hook = layer.register_forward_pre_hook(lambda m, x: states.append(x[0]))
                hooks.enter_context(hook)
                if self.model.options.dictionary:
                    hook = layer.cross_attention.register_forward_hook(
                        lambda m, x, y: attention.append(y[1][0, -1].numpy())
                    )
                    hooks.enter_context(hook)
            self.model.decode(self.features, coord, self.cell)
        found, attention = [], attention or [None] * len(states)
        for layer, z, tokens in zip(self.model.layers, states, attention, strict=True):
            S = torch.zeros(H * W)
            if layer.mixes:
                q, key = layer.project(z, 0), layer.project(z, 1)
                S = rates(q[0, -1:], key[0, :-1])[0] * H * W
            found.append({"rates": S.view(H, W).numpy(), "tokens": tokens})
        return found

    def render(self, row: float, col: float) -> tuple:
        """For every layer a map and bars."""
        layers, (H, W) = self.layers(row, col), self.image.shape[:2]
        size, said = (6.4, 2.9 * len(layers)), []
        figure, panels = plt.subplots(len(layers), 2, figsize=size, squeeze=False)
        for k, (layer, (left, right)) in enumerate(zip(layers, panels, strict=True)):
            values = layer["rates"]
            left.imshow(drawing.shade((values - 1) / self.span, drawing.COLD_TO_WARM))
            y, x = (row + 1) / 2 * H - 0.5, (col + 1) / 2 * W - 0.5
            left.plot(x, y, "o", markerfacecolor="none", markeredgecolor="black")
            words = f"rates {values.min():.2f} to {values.max():.2f} times the mean"
            said.append(f"layer {k + 1}: {words if values.any() else 'nothing flows'}")
            left.set_title(said[-1].replace(": ", ":\n"), fontsize=9)
            left.set(xticks=[], yticks=[])
            right.axis("off")
            if layer["tokens"] is not None:
                share = layer["tokens"] / layer["tokens"].sum()
                worth = np.exp(-(share * np.log(share.clip(1e-12))).sum())
                said.append(f"{len(share)} tokens, as if {worth:.1f} had equal shares;")
                said.append(f"largest share {share.max():.2f}")
                right.set_title("\n".join(said[-2:]), fontsize=9)
                right.bar(range(len(share)), share, color=plots.COLOURS[0])
                right.set_ylim(0, 0.35)
        return figure, "\n".join(said)


def alpha_for(left: float, steps: int) -> float:
    """The alpha of Eq. 2 that leaves this share of the spread, S the plain mean."""
    return left ** (1 / steps)


def try_alpha_for(f) -> None:
    z = random(6, 20, 3)
    for left, steps in ((0.5, 1), (0.5, 2), (0.9, 3), (0.01, 10), (1.0, 5)):
        alpha, after = float(f(left, steps)), z
        case = f"left = {left}, steps = {steps}: your alpha is {alpha:.3f}"
        for _ in range(steps):
            after = alpha * after + (1 - alpha) * after.mean(dim=0)
        share = (after.std(dim=0) / z.std(dim=0)).mean().item()
        require(base.close(share, left), f"{case}, with which {share:.3f} is left")


def pickier(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """S v for w = (1 + cos(q, k))^2, without the n x n matrix: (B, n, d)."""
    q, k = (F.pad(F.normalize(x, dim=-1), (1, 0), value=1) for x in (q, k))
    q, k = ((x[..., :, None] * x[..., None, :]).flatten(-2) for x in (q, k))
    return q @ (k.mT @ v) / (q @ k.sum(dim=1)[..., None])


def try_pickier(f) -> None:
    lengths = torch.tensor([3, 0.5, 1]).view(3, 1, 1, 1)
    for n in (6, 50, 1000):
        q, k, v = case = lengths * random(n, 3, 2, n, 4)
        one = 1 + F.cosine_similarity(q[:, :, None], k[:, None], dim=-1)  # (B, n, n)
        for w, words in (
            (one, "these are the weights 1 + cos: square them"),
            ((1 + q @ k.mT) ** 2, "normalise each row of q and of k"),
        ):
            wrong = w @ v / w.sum(dim=-1, keepdim=True)
            require(not base.close(f(*case), wrong, 1e-3), words)
        expected = one**2 @ v / (one**2).sum(dim=-1, keepdim=True)
        words = "row i is the mean of v with weights (1 + cos)^2 that sum to one"
        require_close(f(*case), expected, words, 1e-3)
        hint = "which sums over j need no i?"
        base.require_cheap(lambda case=case: f(*case), 2000 * n, hint)


def soft_mean(pieces) -> Tensor:
    """Softmax-weighted mean of x over all pieces, going over them once."""
    peak, weight, total = torch.tensor(-torch.inf), 0.0, 0.0
    for exponent, x in pieces():
        higher = torch.maximum(peak, exponent.max())
        old, new = (peak - higher).exp(), (exponent - higher).exp()
        weight = old * weight + new.sum()
        total = old * total + new @ x
        peak = higher
    return total / weight


def try_soft_mean(f) -> None:
    def lent():  # a piece is overwritten when the next one is asked for
        for piece in pieces():
            yield piece
            for part in piece:
                part.fill_(torch.nan)

    x, exponent = random(0, 12, 4), 3 * random(1, 12)
    huge = "exp() overflows: take exponents relative to the largest so far, and rescale"
    whole = "the mean must be that of all pieces at once, and none of them kept"
    cases = [(sizes, exponent, whole) for sizes in ([12], [4, 4, 4], [1, 10, 1])]
    up = 900.0 * torch.arange(12)
    cases += [([2] * 6, e, huge) for e in (exponent + 1e3, exponent - 1e3, up, -up)]
    for sizes, exponent, words in cases:
        pieces = base.Pieces((exponent.clone(), x.clone()), sizes)
        mean, expected = f(lent), exponent.softmax(0) @ x
        require(pieces.passes == 1, f"one pass, not {pieces.passes}")
        require_close(mean, expected, f"pieces of {sizes}: {words}", 1e-3)


EXERCISES = {
    "diin.1": Exercise(alpha_for, try_alpha_for),
    "diin.2": Exercise(pickier, try_pickier),
    "diin.3": Exercise(soft_mean, try_soft_mean),
}
check = checker(EXERCISES)
