"""Train the flagship: the LIIF that `upscale` and the explorers use by default.

    python studies/flagship.py FOLDER --out runs/flagship

FOLDER: photographs of 192 or more rows and columns. The encoder is EDSR-baseline, the
decoder LIIF's at size laptop, which is fast enough for a slider. The second stage
starts from the weights of the first and trains on larger patches, whose latent codes
see less of the padding. Weights are kept on the way, with the CPU hours they took, so
that `evaluate` can show what more training would bring. The same command goes on after
an interrupt.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from asr_course.data import Folder, Recipe
from asr_course.errors import Stopped
from asr_course.models import build
from asr_course.schedule import Schedule
from asr_course.training import train
from asr_course.weights import load_weights, read_card, save_weights

STAGES = [
    (Recipe(batch=16, patch=32, queries=1024), Schedule(18_000, 7e-4)),
    (Recipe(batch=16, patch=48, queries=2304), Schedule(8_000, 3e-4)),
]
KEEP_EVERY = 3000  # steps


def train_stage(stage: int, pictures: Folder, out: Path, precision: str) -> Path:
    """Train one stage, or what is left of it; returns its weights. Exits if stopped."""
    recipe, schedule = STAGES[stage]
    folder = out / f"stage{stage + 1}"
    file = folder / "liif.safetensors"
    if file.exists():
        return file
    torch.manual_seed(0)
    model = build("liif", "laptop", "edsr-baseline")
    earlier = {"steps": 0, "cpu_hours": 0.0}  # of the stages before this one
    if stage > 0:
        first = out / f"stage{stage}" / "liif.safetensors"
        model.load_state_dict(load_weights(first).state_dict())
        earlier = read_card(first)
    model.to(memory_format=torch.channels_last)
    hours = folder / "hours.txt"  # CPU hours up to now
    before = float(hours.read_text()) if hours.exists() else earlier["cpu_hours"]

    def card(step: int) -> dict:
        spent = before + time.process_time() / 3600
        hours.write_text(f"{spent:.4f}")
        return {
            "data": pictures.paths[0].parent.name,
            "terms": "photographs for non-commercial research and education",
            "stage": stage + 1,
            "steps": earlier["steps"] + step,
            "seed": 0,
            "cpu_hours": round(spent, 2),
            "command": "python studies/flagship.py " + pictures.paths[0].parent.name,
        }

    def keep(step: int, losses: list[float]) -> None:
        if step % KEEP_EVERY == 0:
            save_weights(model, folder / f"step{step}.safetensors", card(step))

    how = {"out": folder, "resume": True, "precision": precision, "progress": True}
    try:
        train(model, pictures, recipe, schedule, seed=stage, on_step=keep, **how)
    except Stopped as stopped:
        card(0)  # writes the hours
        sys.exit(f"stage {stage + 1}: {stopped}")
    save_weights(model, file, card(schedule.steps))
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/flagship"))
    parser.add_argument("--precision", default="bf16", choices=("no", "bf16", "fp16"))
    parser.add_argument("--stages", type=int, default=len(STAGES))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pictures = Folder(args.folder, smallest=max(recipe.crop for recipe, _ in STAGES))
    for stage in range(args.stages):
        file = train_stage(stage, pictures, args.out, args.precision)
        print(file)
    card = read_card(file)
    del card["config"]  # save_weights adds it
    save_weights(load_weights(file).half(), args.out / "liif.safetensors", card)


if __name__ == "__main__":
    main()
