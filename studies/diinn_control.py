"""A control for DIINN: three decoders of its size in which content and position meet
in another way, trained like the variants of studies/ablate.py.

    python studies/diinn_control.py --preset laptop --steps 450 --seeds 0 1 2 \
        --json data/results/diinn_control.json

concatenation: LIIF with one latent code, and an MLP with as many weights as DIINN's.
sum: DIINN with a sum where its branches meet in a product.
weights x 8: DIINN whose first sine layer starts with weights eight times as large.

DIINN itself is variant (f) of diinn_ablation.json, and LIIF with one code and a decoder
a third as large variant -e of liif_ablation.json: the same seeds, samples and steps.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from asr_course.coords import Queries, nearest_code
from asr_course.devices import set_seed
from asr_course.errors import choose
from asr_course.images import sample_crops
from asr_course.layers import Features, look_up, unfold
from asr_course.metrics import evaluate
from asr_course.models import DEFAULT_ENCODER, ENCODERS, build, count_parameters
from asr_course.models.diinn import DIINN
from asr_course.presets import PRESETS, Plan
from asr_course.procedural import Procedural
from asr_course.records import save_record
from asr_course.training import train

VARIANTS = ("concatenation", "sum", "weights x 8")
WIDTH = 97  # of LIIF's three hidden layers: as many weights as DIINN's at size tiny


class Plain(DIINN):
    """Variant (f) by the formula as printed; its branches meet in `meet`."""

    def meet(self, m: Tensor, wave: Tensor) -> Tensor:
        return m * wave

    def grid_features(self, latent: Tensor) -> Tensor:
        return latent.movedim(1, -1)

    def predict(self, features: Features, queries: Queries, cell: Tensor) -> Tensor:
        code = nearest_code(queries, features.latent.shape[-2:])
        z = look_up(unfold(features.latent).movedim(1, -1), code.row, code.col)
        row, col = torch.broadcast_tensors(2 * code.row_offset, 2 * code.col_offset)
        rho = self.pixel_size(features, cell)[:, None].expand_as(row)
        p, z = torch.stack([row, col, rho], dim=-1), z.expand(*row.shape, -1)
        m = self.modulation[0](z).relu()
        s = self.meet(m, self.synthesis[0](p).sin())
        rest = zip(self.modulation[1:], self.synthesis[1:], strict=True)
        for modulate, synthesise in rest:
            m = modulate(torch.cat([s, z], dim=-1)).relu()
            s = self.meet(m, synthesise(s).sin())
        return self.last(s)


class Sum(Plain):
    def meet(self, m: Tensor, wave: Tensor) -> Tensor:
        return m + wave


def make(variant: str) -> nn.Module:
    """A variant of size tiny, with random weights."""
    if choose("variant", variant, VARIANTS) == "concatenation":
        return build("liif", "tiny", local_ensemble=False, hidden=(WIDTH,) * 3)
    encoder = ENCODERS[DEFAULT_ENCODER["tiny"]]()
    model = (Sum if variant == "sum" else Plain)(encoder, DIINN.SIZES["tiny"])
    if variant == "weights x 8":
        model.synthesis[0].weight.data *= 8
    return model


def control(
    plan: Plan,
    seeds: Sequence[int],
    scales: Sequence[float] = (2, 3, 4, 8),
    device: str = "auto",
    on_run: Callable[[str, int], None] = lambda variant, seed: None,
) -> list[dict]:
    """Train and score: one row a seed, variant and scale. decoder: its parameters."""
    photos, rows = sample_crops(), []
    for seed in seeds:
        pictures = Procedural(plan.pictures, seed)
        for variant in VARIANTS:
            set_seed(seed)
            model = make(variant)
            train(model, pictures, plan.recipe, plan.schedule, seed, device)
            size = count_parameters(model) - count_parameters(model.encoder)
            about = {"model": "diinn", "variant": variant, "seed": seed}
            about["decoder"] = size
            rows += [{**row, **about} for row in evaluate(model, photos, scales)]
            on_run(variant, seed)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train and score DIINN's controls.")
    parser.add_argument("--preset", default="laptop", choices=PRESETS)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--scales", type=float, nargs="+", default=[2, 3, 4, 8])
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    plan = PRESETS[args.preset].lesson
    plan = replace(plan, schedule=replace(plan.schedule, steps=args.steps))
    rows = control(
        plan, args.seeds, args.scales, args.device, lambda *run: print(*run, flush=True)
    )
    if args.json:
        save_record(args.json, rows)


if __name__ == "__main__":
    main()
