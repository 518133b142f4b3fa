"""An exam with a known answer, for notebooks 6 and 7: digits and their reader.

Digits of 4 x 4 pixels leave open which digit was drawn. `chances` computes p(digit |
low resolution), a `CloseLook` reads the digit that an enlarged picture shows. A model
that samples from all plausible pictures must show the digits with these frequencies:
not the likeliest one every time, and not any. studies/exam.py scores models so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from asr_course.digits import (
    BRIGHTEST,
    CONTRAST,
    DARKEST,
    DIGITS,
    NOISE,
    PATCH,
    draw_character,
    draw_ink,
)
from asr_course.encoders import conv
from asr_course.images import resize, to_pixels
from asr_course.render import render
from asr_course.sampling import degrade

READER = Path(__file__).resolve().parents[2] / "data" / "reader.safetensors"
SIDE = 32  # rows and columns that a close look resizes to


class CloseLook(nn.Module):
    """(B, 3, h, w) in [0, 1] -> (B, 10) logits; h and w may be anything."""

    def __init__(self, width: int = 16):
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(map(conv, widths, widths[1:]))
        self.last = nn.Linear(widths[-1] * (SIDE // 8) ** 2, len(DIGITS))

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True)
        x = x - x.mean((2, 3), keepdim=True)  # (B, 3, 32, 32)
        for layer in self.convs:
            x = F.max_pool2d(layer(x).relu(), 2)
        return self.last(x.flatten(1))

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Tensor:
        """The digits that pictures show: (n, 3, h, w) in [0, 1] -> (n,)."""
        return self(pictures).argmax(1)


def load_reader(path: Path = READER) -> CloseLook:
    """The close look that comes with the course."""
    look = CloseLook().eval()
    look.load_state_dict(load_file(path))
    return look


@cache
def shapes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Drawn digits: shares of ink in 4 x 4 pixels (count, 16), and labels (count,)."""
    rng = np.random.default_rng([seed, 5])
    ink, labels = zip(*(draw_ink(rng) for _ in range(count)), strict=True)
    how = (PATCH, PATCH), Image.Resampling.BICUBIC
    small = np.stack([canvas.convert("F").resize(*how) for canvas in ink]) / 255
    return torch.from_numpy(small).flatten(1), torch.tensor(labels)


def chances(lr: Tensor, count: int = 20_000, pairs: int = 16, seed: int = 0) -> Tensor:
    """p(digit | low resolution) by Bayes' rule: (n, 3, 4, 4) in [0, 1] -> (n, 10).

    p(low resolution | digit) is a mean over `count` shapes, drawn as the digits are,
    and over colours. Given the shape, the small picture is linear in its two colours:
    least squares and the noise propose `pairs` of colours (importance sampling).
    """
    rng, found = torch.Generator().manual_seed(seed), []
    ink, labels = shapes(count, seed)  # (N, 16), (N,)
    shares = torch.stack([ink, 1 - ink], dim=-1)  # (N, 16, 2), of ink and paper
    covariance = torch.linalg.inv(shares.mT @ shares)  # (N, 2, 2)
    solve = covariance @ shares.mT  # (N, 2, 16)
    spread = 1.1 * NOISE * torch.linalg.cholesky(covariance)  # a little wider
    volume = 3 * spread.diagonal(dim1=1, dim2=2).log().sum(1)  # (N,), its logarithm
    for x in (255 * lr.flatten(2)).round():  # (3, 16)
        fit = (solve @ x.mT).mT  # (N, 3, 2)
        z = torch.randn(pairs, count, 3, 2, generator=rng)
        colours = fit + z @ spread.mT  # (pairs, N, 3, 2)
        allowed = ((colours >= DARKEST) & (colours <= BRIGHTEST)).all(-1).all(-1)
        allowed &= colours.mean(2).diff(dim=-1)[..., 0].abs() >= CONTRAST
        pair, shape = allowed.nonzero(as_tuple=True)  # (Q,) of those that can be
        error = (x - colours[pair, shape] @ shares[shape].mT) / NOISE  # (Q, 3, 16)
        logp = -error.square() / 2
        for end, sign in ((0, 1), (255, -1)):  # clipped: all that lies beyond
            logp[:, x == end] = torch.special.log_ndtr(sign * error[:, x == end])
        proposed = -z[pair, shape].square().sum((1, 2)) / 2 - volume[shape]
        logw = logp.sum((1, 2)) - proposed
        weight = (logw - logw.max()).double().exp()
        p = torch.zeros(10).double().index_add(0, labels[shape], weight)
        p /= labels.bincount(minlength=10)
        found.append(p / p.sum())
    return torch.stack(found).float()


@dataclass
class Exam:
    """Held-out digits, n of them."""

    lr: Tensor  # (n, 3, 4, 4) in [0, 1]
    hr: Tensor  # (n, 3, h, w) in [0, 1]
    labels: Tensor  # (n,)

    def __len__(self) -> int:
        return len(self.labels)


def held_out(
    count: int = 200, size: tuple[int, int] = (SIDE, SIDE), seed: int = 1000
) -> Exam:
    """Digits that no training run draws, as long as its seed is another one."""
    lr, hr, labels = [], [], []
    for index in range(count):
        pixels, label = draw_character(seed, index)
        rng = np.random.default_rng([seed, 7, index])
        lr.append(degrade(pixels, (PATCH, PATCH), NOISE, rng))
        hr.append(resize(pixels, size))
        labels.append(label)
    lr, hr = (torch.from_numpy(np.stack(x)).movedim(-1, 1) / 255 for x in (lr, hr))
    return Exam(lr, hr, torch.tensor(labels))


@torch.no_grad()
def answers(
    model: nn.Module,
    exam: Exam,
    seeds: int = 20,
    steps: int = 25,
    on_batch=None,
    **options,
) -> Tensor:
    """A model's outputs: (seeds, n, 3, h, w) in [0, 1]; one "seed" if it has none.

    on_batch: called with the number of pictures done. options: of `sample`.
    """
    size, outputs = tuple(exam.hr.shape[2:]), []
    inputs = exam.lr.to(next(model.parameters()).device)
    if not model.is_generative:
        outputs = [render(model, lr[None], size).clamp(0, 1) for lr in inputs]
        return torch.stack(outputs)[None].to(exam.hr)
    for seed in range(seeds):
        for first in range(0, len(exam), 50):
            lr = inputs[first : first + 50]
            own = seed * len(exam) + first
            outputs.append(model.sample(lr, size, steps, own, **options))
            if on_batch:
                on_batch(len(lr))
    return torch.cat(outputs).view(seeds, *exam.hr.shape).to(exam.hr)


def consistency(sr: Tensor, lr: Tensor) -> float:
    """Mean squared error between shrunk outputs (n, 3, h, w) and their inputs, times
    1e5 (IDM's Table 2; its range and kernel are unstated: here [0, 1] and bicubic)."""
    small = [resize(to_pixels(x), tuple(lr.shape[2:])) for x in sr]
    small = torch.from_numpy(np.stack(small)).movedim(-1, 1) / 255
    return 1e5 * (small.to(lr) - lr).square().mean().item()


def sharpness(sr: Tensor, hr: Tensor) -> float:
    """Squared steps between neighbouring pixels, as a share of the truth's."""

    def energy(x: Tensor) -> Tensor:
        return x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()

    return (energy(sr) / energy(hr)).item()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over repetitions; the latter 0 if there is one."""
    values = np.asarray(values, dtype=float)
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return {"mean": float(values.mean()), "std": float(deviation)}
