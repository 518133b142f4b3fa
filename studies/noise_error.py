"""Why an IDM that is asked for noise fits its input worse after more training.

    python studies/noise_error.py --json data/results/idm_noise_error.json

One row a seed, number of training steps, and size of a white error that is added to the
predicted noise in every step of the sampler. At the start of the sampler (gamma_T) the
error of the predicted noise is split: `fine` is what is left after means over 8 x 8
pixels, the shrunk picture's pixels, are taken away; `coarse` is those means, times 8,
so that white errors have as much of one as of the other.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course import diffusion
from asr_course.digits import Characters
from asr_course.lessons.base import train_variant
from asr_course.lessons.exam import Exam, consistency, held_out, sharpness
from asr_course.models import METHODS
from asr_course.presets import PRESETS
from asr_course.records import save_record

VARIANTS = [k for k in METHODS["idm"].ABLATIONS if k.startswith("noise")]


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


@torch.no_grad()
def measure(model: nn.Module, exam: Exam, added: float, seed: int = 0) -> dict:
    """Errors of the first predicted noise, and what the samples are like."""
    size, rng = tuple(exam.hr.shape[2:]), torch.Generator().manual_seed(seed)
    condition = model.condition(exam.lr, size)
    predicted = []

    def estimate(y: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        noise = model.predict(y, level.expand(len(y)), condition)
        noise = noise + added * torch.randn(noise.shape, generator=rng)
        predicted.append(noise)
        return diffusion.from_target("noise", noise, y, level)

    start = diffusion.noise_source(exam.lr, size, seed)()
    at = diffusion.times(model.options.steps, 25)
    first, *_, last = diffusion.denoise(estimate, start, model.gamma, at)
    sr = (0.5 + 0.5 * last.y).clamp(0, 1)
    error = predicted[0] - start  # gamma_T is nearly 0: y_T is taken for noise
    coarse = F.avg_pool2d(error, 8)  # (n, 3, 4, 4)
    belief = F.avg_pool2d(first.y0 - (2 * exam.hr - 1), 8)
    return {
        "added": added,
        "fine": rms(error - F.interpolate(coarse, scale_factor=8)),
        "coarse": 8 * rms(coarse),
        "belief": rms(belief),  # of the first picture, clamped, in means of 8 x 8
        "consistency": consistency(sr, exam.lr),
        "sharpness": sharpness(sr, exam.hr),
    }


def compare(
    variant: str, steps: Sequence[int], seeds: Sequence[int], added, count: int, preset
) -> list[dict]:
    """Rows of every training run; the longest one also with errors added."""
    plan, exam, rows = PRESETS[preset].digits, held_out(count), []
    for seed in seeds:
        digits = Characters(plan.pictures, seed)
        for number in steps:
            short = replace(plan, schedule=replace(plan.schedule, steps=number))
            model = train_variant("idm", variant, short, seed, digits, "cpu")
            for error in (0.0, *(added if number == max(steps) else ())):
                about = {"variant": variant, "steps": number, "seed": seed}
                rows.append(about | measure(model, exam, error))
                print(rows[-1], flush=True)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Errors of IDM's predicted noise.")
    parser.add_argument("--variant", default="noise, linear", choices=VARIANTS)
    parser.add_argument("--preset", default="laptop", choices=PRESETS)
    parser.add_argument("--steps", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--added", type=float, nargs="*", default=[0.1])
    parser.add_argument("--count", type=int, default=100, help="held-out digits")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    args = vars(parser.parse_args(arguments))
    path = args.pop("json")
    rows = compare(**args)
    if path:
        save_record(path, rows)


if __name__ == "__main__":
    main()
