"""Ablation: train the variants of a method alike, and measure what each piece is worth.

    python studies/ablate.py --model diif --seeds 0 1 2 \
        --json data/results/diif_ablation.json

Training pictures are generated; scores are taken on crops of four bundled photographs.
All variants of one seed see the same samples. Generative models (IDM) are trained on
drawn digits and scored by the digits' exam (studies/exam.py).
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from exam import read_all, score_answers
from torch import nn

from asr_course.digits import Characters
from asr_course.errors import choose
from asr_course.images import sample_crops
from asr_course.lessons.base import TRAINING, train_variant
from asr_course.lessons.exam import answers, chances, held_out
from asr_course.metrics import evaluate
from asr_course.models import METHODS
from asr_course.presets import PRESETS, Plan
from asr_course.procedural import Procedural
from asr_course.records import save_record


def ablate(
    name: str,
    plan: Plan,
    seeds: Sequence[int],
    scales: Sequence[float] = (2, 3, 4, 8),
    variants: Sequence[str] = (),
    device: str = "auto",
    on_run: Callable[[str, int], None] = lambda variant, seed: None,
) -> list[dict]:
    """Train and score variants of a method: one row a variant, seed and scale.

    For IDM one row a variant and seed, at the exam's scale. variants: keys of the
    class's ABLATIONS or of TRAINING; all of the former if empty. on_run: called with
    (variant, seed) after every training run.
    """
    method = METHODS[name]
    known = [*method.ABLATIONS, *([] if method.is_generative else TRAINING)]
    for variant in variants:
        choose(f"variant of {name}", variant, known)
    photos, rows = sample_crops(), []
    for seed in seeds:
        draw = Characters if method.is_generative else Procedural
        pictures = draw(plan.pictures, seed)
        for variant in variants or method.ABLATIONS:
            model = train_variant(name, variant, plan, seed, pictures, device)
            on_run(variant, seed)
            if method.is_generative:
                scores = examine(model)
            else:
                scores = evaluate(model, photos, scales)
            about = {"model": name, "variant": variant, "seed": seed}
            rows += [{**score, **about} for score in scores]
    return rows


def examine(model: nn.Module, count: int = 100, seeds: int = 20) -> list[dict]:
    """Mean scores in an exam of 20 answers a digit, as one row."""
    exam = held_out(count)
    sr = answers(model, exam, seeds)
    scores = score_answers(sr, read_all(sr), exam, chances(exam.lr))
    return [{name: score["mean"] for name, score in scores.items()}]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train and score a method's variants.")
    methods = [name for name, method in METHODS.items() if method.ABLATIONS]
    parser.add_argument("--model", default="liif", choices=methods)
    parser.add_argument("--preset", default="laptop", choices=PRESETS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rate", type=float, help="learning rate")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=[], help="default: all")
    parser.add_argument("--scales", type=float, nargs="+", default=[2, 3, 4, 8])
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    preset = PRESETS[args.preset]
    plan = preset.digits if METHODS[args.model].is_generative else preset.lesson
    changed = {key: getattr(args, key) for key in ("steps", "rate")}
    changed = {key: value for key, value in changed.items() if value is not None}
    plan = replace(plan, schedule=replace(plan.schedule, **changed))
    rows = ablate(
        args.model,
        plan,
        args.seeds,
        args.scales,
        args.variants,
        args.device,
        on_run=lambda variant, seed: print(f"{variant} seed {seed}: done", flush=True),
    )
    if args.json:
        save_record(args.json, rows)


if __name__ == "__main__":
    main()
