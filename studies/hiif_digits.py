"""HIIF's digits where nothing else tells the place: plain codes and no attention.

    python studies/hiif_digits.py --seeds 0 1 2 --json data/results/hiif_digits.json

In the public code each latent code comes multiplied by its weight, and level 0 can know
the place without digits. Here codes come as they are, as in the paper, and three
networks differ in what they are told of the place. They train on generated pictures,
those of one seed on the same samples. PSNR is of crops of four bundled photographs;
seams (as in studies/seams.py) are of one of them.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from asr_course.devices import set_seed
from asr_course.images import resize, sample_crops, to_tensor
from asr_course.metrics import evaluate, seam
from asr_course.models import build
from asr_course.presets import PRESETS
from asr_course.procedural import Procedural
from asr_course.records import save_record
from asr_course.render import render
from asr_course.schedule import Schedule
from asr_course.training import train

TOLD = {
    "one by one": {},
    "all at once": {"multi_scale": False},
    "plain place": {"hierarchical": False},
}
SEAMS = 16  # the scale at which they are measured


def study(
    steps: int,
    seeds: Sequence[int],
    scales: Sequence[float],
    device: str = "auto",
    on_run: Callable[[str, int], None] = lambda told, seed: None,
) -> list[dict]:
    """Train and score the three networks: one row a network, seed and scale.

    on_run: called with (told, seed) after every training run.
    """
    plan, photos, rows = PRESETS["laptop"].deep_pair, sample_crops(), []
    schedule = Schedule(steps, 2e-3, warmup=50)
    for seed in seeds:
        pictures = Procedural(plan.pictures, seed)
        for told, options in TOLD.items():
            set_seed(seed)
            model = build(
                "hiif", plan.size, variant="paper", attention=False, **options
            )
            train(model, pictures, plan.recipe, schedule, seed, device)
            model.eval()
            about = {"model": "hiif", "told": told, "seed": seed}
            about |= seams(model, photos["chelsea"])
            rows += [{**score, **about} for score in evaluate(model, photos, scales)]
            on_run(told, seed)
    return rows


def seams(model: nn.Module, photo) -> dict[str, float]:
    """Steps at the borders and the centres of input pixels over those elsewhere."""
    device = next(model.parameters()).device
    lr = to_tensor(resize(photo, (64, 64))).to(device)
    sr = render(model, lr, (64 * SEAMS, 64 * SEAMS)).clamp(0, 1).cpu()
    return {"border": seam(sr, SEAMS), "centre": seam(sr, SEAMS, where=0.5)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What HIIF's digits are worth.")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scales", type=float, nargs="+", default=[2, 3, 4, 8])
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    rows = study(
        args.steps,
        args.seeds,
        args.scales,
        args.device,
        on_run=lambda told, seed: print(f"{told}, seed {seed}: done", flush=True),
    )
    if args.json:
        save_record(args.json, rows)


if __name__ == "__main__":
    main()
