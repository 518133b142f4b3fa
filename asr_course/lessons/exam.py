"""An exam with a known answer, for notebooks 6 and 7: digits and their readers.

Digits of 4 x 4 pixels leave open which digit was drawn. A `Glance` computes p(digit |
low resolution), a `CloseLook` reads the digit that an enlarged picture shows. A model
that samples from all plausible pictures must show the digits with these frequencies:
not the likeliest one every time, and not any. studies/exam.py scores models so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from asr_course.digits import DIGITS, NOISE, PATCH, draw_character
from asr_course.encoders import conv
from asr_course.images import resize, to_pixels
from asr_course.render import render
from asr_course.sampling import degrade

READERS = Path(__file__).resolve().parents[2] / "data" / "readers.safetensors"
SIDE = 32  # rows and columns that a close look resizes to


class Glance(nn.Sequential):
    """(B, 3, 4, 4) in [0, 1] -> (B, 10) logits."""

    def __init__(self, hidden: int = 384):
        super().__init__(
            nn.Flatten(),
            nn.Linear(3 * PATCH * PATCH, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, len(DIGITS)),
        )


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


@dataclass
class Readers:
    """Both readers, trained."""

    at_a_glance: Glance
    close_look: CloseLook

    @torch.no_grad()
    def glance(self, lr: Tensor) -> Tensor:
        """p(digit | low resolution): (n, 3, 4, 4) in [0, 1] -> (n, 10)."""
        return self.at_a_glance(lr).softmax(1)

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Tensor:
        """The digits that pictures show: (n, 3, h, w) in [0, 1] -> (n,)."""
        return self.close_look(pictures).argmax(1)


def load_readers(path: Path = READERS) -> Readers:
    """The readers that come with the course."""
    pair = nn.ModuleDict({"glance": Glance(), "look": CloseLook()}).eval()
    pair.load_state_dict(load_file(path))
    return Readers(pair["glance"], pair["look"])


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
