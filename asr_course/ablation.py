"""Ablation: train the variants of a method alike, and see what each piece was worth.

Everything comes with the course: generated training pictures, and crops of four
bundled photographs to score on. Variants of one seed see the same samples.
"""

from collections.abc import Sequence

from torch import nn

from asr_course.data import Procedural
from asr_course.errors import choose
from asr_course.images import sample_crops
from asr_course.metrics import evaluate
from asr_course.models import ABLATIONS, build
from asr_course.presets import Plan
from asr_course.training import set_seed, train


def train_variant(
    name: str, variant: str, plan: Plan, seed: int, pictures: Sequence, device="auto"
) -> nn.Module:
    """One variant of a method, trained from `seed` by `plan`, in eval mode."""
    set_seed(seed)
    model = build(name, plan.size, **ABLATIONS[name][variant])
    train(model, pictures, plan.recipe, plan.schedule, seed=seed, device=device)
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

    variants: keys of ABLATIONS[name]; all of them if empty. on_run: called with
    (variant, seed) after every training run.
    """
    choose("model with ablations", name, ABLATIONS)
    for variant in variants:
        choose(f"variant of {name}", variant, ABLATIONS[name])
    photos = sample_crops()
    rows = []
    for seed in seeds:
        pictures = Procedural(plan.pictures, seed)
        for variant in variants or ABLATIONS[name]:
            model = train_variant(name, variant, plan, seed, pictures, device)
            if on_run:
                on_run(variant, seed)
            for row in evaluate(model, photos, scales):
                rows.append({**row, "model": name, "variant": variant, "seed": seed})
    return rows
