"""An exam with a known answer: digits that their low-resolution versions leave open.

Every held-out digit comes with p(digit | low resolution), which a `Glance` computes.
Who answers with one plausible picture, drawn with the right chances, must show the
digits with these frequencies: not the likeliest one every time, and not any. Three
more laws hold for such a sampler, whatever the pictures are:

- It reads right as often as the mean of sum_c p(c | LR)^2.
- Its mean squared error is twice that of the mean of all answers: 3.01 dB.
- Shrunk again, its pictures miss the input by as much as the truth does: the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from asr_course.digits import DIGITS, NOISE, PATCH, draw_character
from asr_course.data import degrade
from asr_course.images import resize, to_pixels
from asr_course.metrics import psnr, ssim
from asr_course.lessons.readers import SIDE, Readers
from asr_course.render import render


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
    model: nn.Module, exam: Exam, seeds: int = 20, steps: int = 25, on_batch=None
) -> Tensor:
    """What a model answers: (seeds, n, 3, h, w) in [0, 1]; one "seed" if it has none.

    on_batch: called with the number of pictures done.
    """
    size, found = tuple(exam.hr.shape[2:]), []
    inputs = exam.lr.to(next(model.parameters()).device)
    if not model.generates:
        found = [render(model, lr[None], size).clamp(0, 1) for lr in inputs]
        return torch.stack(found)[None].to(exam.hr)
    for seed in range(seeds):
        for first in range(0, len(exam), 50):
            lr = inputs[first : first + 50]
            found.append(model.sample(lr, size, steps, seed * len(exam) + first))
            if on_batch:
                on_batch(len(lr))
    return torch.cat(found).view(seeds, *exam.hr.shape).to(exam.hr)


def consistency(sr: Tensor, lr: Tensor) -> float:
    """Mean squared error between shrunk answers (n, 3, h, w) and their inputs, times
    1e5 (IDM's Table 2; its range and kernel are unstated: here [0, 1] and bicubic)."""
    small = [resize(to_pixels(x), tuple(lr.shape[2:])) for x in sr]
    small = torch.from_numpy(np.stack(small)).movedim(-1, 1) / 255
    return 1e5 * (small - lr).square().mean().item()


def sharpness(sr: Tensor, hr: Tensor) -> float:
    """Squared steps between neighbouring pixels, as a share of the truth's."""

    def energy(x: Tensor) -> Tensor:
        return x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()

    return (energy(sr) / energy(hr)).item()


def frequencies(readings: Tensor) -> Tensor:
    """How often each digit was read: (seeds, n) -> (n, 10), rows sum to 1."""
    return torch.nn.functional.one_hot(readings, len(DIGITS)).float().mean(0)


def distance(p: Tensor, q: Tensor) -> Tensor:
    """Total variation: the share of chances that stand elsewhere, (n, 10) -> (n,)."""
    return (p - q).abs().sum(1) / 2


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over repetitions; the latter 0 if there is one."""
    values = np.asarray(values, dtype=float)
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return {"mean": float(values.mean()), "std": float(deviation)}


def score_answers(sr: Tensor, exam: Exam, readers: Readers) -> dict[str, dict]:
    """All figures of merit of answers (seeds, n, 3, h, w): {name: {mean, std}}.

    psnr, ssim, mse, sharpness, consistency, accuracy: over seeds. mse_of_mean: of the
    mean over seeds. diversity: standard deviation over seeds, in grey levels. distance:
    of the readings' frequencies from p(digit | LR), over the n inputs, and
    distance_by_chance, what so many draws from p itself would show.
    """
    p = readers.glance(exam.lr)  # (n, 10)
    readings = torch.stack([readers.read(x) for x in sr])  # (seeds, n)
    found = {
        "psnr": [
            np.mean([psnr(*pair) for pair in zip(x, exam.hr, strict=True)]) for x in sr
        ],
        "ssim": [
            np.mean([ssim(*pair) for pair in zip(x, exam.hr, strict=True)]) for x in sr
        ],
        "mse": [(x - exam.hr).square().mean().item() for x in sr],
        "sharpness": [sharpness(x, exam.hr) for x in sr],
        "consistency": [consistency(x, exam.lr) for x in sr],
        "accuracy": [(x == exam.labels).float().mean().item() for x in readings],
        "mse_of_mean": [(sr.mean(0) - exam.hr).square().mean().item()],
        "distance": distance(frequencies(readings), p).tolist(),
    }
    if len(sr) > 1:
        draws = torch.Generator().manual_seed(0)
        chance = torch.multinomial(p, len(sr), replacement=True, generator=draws).T
        found["diversity"] = [255 * sr.std(0).mean().item()]
        found["distance_by_chance"] = distance(frequencies(chance), p).tolist()
    return {name: spread(values) for name, values in found.items()}


def calibration(p: Tensor, shares: Tensor, bins: int = 10) -> dict[str, list]:
    """How often digits are shown, against the chance that they are the answer.

    p, shares: (n, 10), from a glance and from `frequencies`. Pairs of input and digit
    are put into bins of p: mean p, mean share and number of every bin that has some.
    """
    place = (p * bins).long().clamp(max=bins - 1)
    found = {"chance": [], "share": [], "count": []}
    for bin in range(bins):
        inside = place == bin
        if inside.any():
            found["chance"].append(p[inside].mean().item())
            found["share"].append(shares[inside].mean().item())
            found["count"].append(int(inside.sum()))
    return found


def laws(exam: Exam, readers: Readers) -> dict[str, float]:
    """What a perfect sampler's accuracy and consistency are, and more to compare."""
    p = readers.glance(exam.lr)
    best = p.argmax(1) == exam.labels
    return {
        "accuracy": p.square().sum(1).mean().item(),
        "best_guess": best.float().mean().item(),
        "consistency": consistency(exam.hr, exam.lr),
        "read_truth": (readers.read(exam.hr) == exam.labels).float().mean().item(),
    }


def format_marks(rows: list[dict], expected: dict[str, float]) -> str:
    """Marks as lines of text, the law's values beside them."""
    heads = ("psnr", "ssim", "sharpness", "consistency", "accuracy", "distance")
    lines = ["model          steps " + "".join(f"{head:>13}" for head in heads)]
    for row in rows:
        line = f"{row['model']:14} {row['steps']:5} "
        lines.append(line + "".join(f"{row[head]['mean']:13.4g}" for head in heads))
    lines.append(
        "by the laws: " + ", ".join(f"{k} {v:.4g}" for k, v in expected.items())
    )
    return "\n".join(lines)
