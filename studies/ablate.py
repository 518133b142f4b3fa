"""Ablation: train the variants of a method alike, and see what each piece was worth.

Everything comes with the course: generated training pictures, and crops of four
bundled photographs to score on. Variants of one seed see the same samples. Models that
draw their answer (IDM) train on drawn digits and sit the exam of `asr_course.lessons.exam`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from asr_course.digits import Characters
from asr_course.data import Procedural
from asr_course.errors import choose
from asr_course.lessons.exam import answers, held_out, score_answers
from asr_course.images import sample_crops
from asr_course.metrics import check_scales, evaluate
from asr_course.models import ABLATIONS, MODELS, build
from asr_course.presets import Plan
from asr_course.lessons.readers import load_readers
from asr_course.training import set_seed, train

# Variants that change the training and leave the model alone, for every method.
TRAINING = {"x4-only": {"scale_min": 4.0, "scale_max": 4.0}}


def train_variant(
    name: str, variant: str, plan: Plan, seed: int, pictures: Sequence, device="auto"
) -> nn.Module:
    """One variant of a method, trained from `seed` by `plan`, in eval mode."""
    set_seed(seed)
    model = build(name, plan.size, **ABLATIONS[name].get(variant, {}))
    recipe = replace(plan.recipe, **TRAINING.get(variant, {}))
    train(model, pictures, recipe, plan.schedule, seed=seed, device=device)
    return model


def ablate(
    name: str,
    plan: Plan,
    seeds: Sequence[int],
    scales: Sequence[float] = (2, 3, 4, 8),
    variants: Sequence[str] = (),
    device: str = "auto",
    on_run=None,
) -> list[dict]:
    """Train and score variants of a method: a row for each variant, seed and scale.

    For IDM a row for each variant and seed, at the exam's scale. variants: keys of
    ABLATIONS[name], or of TRAINING; all of the former if empty. on_run: called with
    (variant, seed) after every training run.
    """
    choose("model with ablations", name, ABLATIONS)
    check_scales(scales)
    generates = MODELS[name].generates  # from whole pictures, with another recipe
    known = [*ABLATIONS[name], *([] if generates else TRAINING)]
    for variant in variants:
        choose(f"variant of {name}", variant, known)
    photos, rows = sample_crops(), []
    for seed in seeds:
        kind = Characters if generates else Procedural
        pictures = kind(plan.pictures, seed)
        for variant in variants or ABLATIONS[name]:
            model = train_variant(name, variant, plan, seed, pictures, device)
            if on_run:
                on_run(variant, seed)
            found = examine(model) if generates else evaluate(model, photos, scales)
            for row in found:
                rows.append({**row, "model": name, "variant": variant, "seed": seed})
    return rows


def examine(model: nn.Module, count: int = 100, seeds: int = 4) -> list[dict]:
    """A model's marks in a short exam, as one row of means."""
    exam = held_out(count)
    marks = score_answers(answers(model, exam, seeds), exam, load_readers())
    return [{name: mark["mean"] for name, mark in marks.items()}]


def effects(record: dict, reference: str) -> tuple[list[str], list[list[str]]]:
    """A record of `ablate` as a table (heads, rows) of PSNR on Y.

    The first row holds the mean of `reference` over seeds in dB; the others hold the
    difference from it within a seed, as mean ± standard deviation over the seeds.
    """
    score = {(r["variant"], r["seed"], r["scale"]): r["psnr_y"] for r in record["rows"]}
    variants, seeds, scales = (
        list(dict.fromkeys(key)) for key in zip(*score, strict=True)
    )
    rows = []
    for name in [reference, *(v for v in variants if v != reference)]:
        row = [name]
        for scale in scales:
            values = np.array([score[name, seed, scale] for seed in seeds])
            if name == reference:
                row.append(f"{values.mean():.2f} dB")
                continue
            gap = values - [score[reference, seed, scale] for seed in seeds]
            spread = f" ± {gap.std(ddof=1):.2f}" if len(seeds) > 1 else ""
            row.append(f"{gap.mean():+.2f}{spread}")
        rows.append(row)
    return ["variant", *(f"×{scale:g}" for scale in scales)], rows
