"""Three presets: one table of values, one code path.

smoke   for CI: everything runs, nothing takes long
laptop  for reading along on two CPU cores (the default)
gpu     for doing it for real: the papers' sizes and recipe

A preset holds three plans. `lesson` is the run a notebook makes before your eyes,
`pair` is the run it makes twice to compare two variants, and `full` is what
`python -m asr_course train` does; the shipped weights come from laptop's. Where queries
hear from each other (HIIF, DIIN) decoders are deeper and start slowly: `deep` and
`deep_pair` are the same two runs in smaller steps.
"""

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from asr_course.data import Recipe
from asr_course.errors import choose
from asr_course.training import Schedule, pick_device, set_seed


@dataclass(frozen=True)
class Plan:
    """One training run: the model's size, the data and the steps."""

    size: str
    recipe: Recipe
    schedule: Schedule
    pictures: int = 24  # generated ones, where no folder is given


@dataclass(frozen=True)
class Preset:
    """What a preset runs, and what to expect of it on two CPU cores."""

    lesson: Plan
    pair: Plan
    full: Plan
    deep: Plan
    deep_pair: Plan
    minutes: float  # for a whole notebook
    side: int = 256  # rows and columns of the photographs to score on
    precision: str = "no"
    workers: int = 0


SMALL = Recipe(batch=16, patch=24, queries=512)
SMOKE = Plan(
    "tiny",
    replace(SMALL, batch=8),
    Schedule(steps=80, rate=3e-3),
    pictures=8,
)
DEEP_SMOKE = replace(SMOKE, schedule=Schedule(steps=160, rate=1e-3))
LESSON = Plan("tiny", replace(SMALL, batch=8), Schedule(steps=800, rate=3e-3))
DEEP_LESSON = replace(LESSON, schedule=Schedule(steps=600, rate=1e-3))
EVENING = Plan("laptop", SMALL, Schedule(steps=3000, rate=1e-3), pictures=400)
# LIIF's training: 1000 epochs of 1000 steps on DIV2K, halving the rate four times.
PAPER = Plan(
    "paper", Recipe(), Schedule(steps=1_000_000, rate=1e-4, shape="halve"), pictures=800
)

PRESETS = {
    "smoke": Preset(
        lesson=SMOKE,
        pair=replace(SMOKE, schedule=Schedule(steps=6, rate=3e-3)),
        full=SMOKE,
        deep=DEEP_SMOKE,
        deep_pair=replace(SMOKE, schedule=Schedule(steps=6, rate=1e-3)),
        minutes=0.5,
        side=96,
    ),
    "laptop": Preset(
        lesson=LESSON,
        pair=replace(LESSON, schedule=Schedule(steps=200, rate=3e-3)),
        full=EVENING,
        deep=DEEP_LESSON,
        deep_pair=replace(LESSON, schedule=Schedule(steps=200, rate=1e-3)),
        minutes=5,
    ),
    "gpu": Preset(
        lesson=PAPER,
        pair=replace(PAPER, schedule=Schedule(100_000, 1e-4, "halve")),
        full=PAPER,
        deep=PAPER,
        deep_pair=replace(PAPER, schedule=Schedule(100_000, 1e-4, "halve")),
        minutes=60 * 24,
        precision="fp16",
        workers=8,
    ),
}


def diin_schedule(lr_schedule: str, steps: int) -> Schedule:
    """DIIN's training, as its text says or as the text it seems to copy (SRNO's).

    "literal": 4e-5, falling along a cosine "every 50 epochs" of 1500. "srno": up from
    4e-5 to ten times that in the first twentieth, and down along one cosine.
    """
    choose("lr_schedule", lr_schedule, ("srno", "literal"))
    if lr_schedule == "literal":
        return Schedule(steps, rate=4e-5, shape="restarts")
    return Schedule(steps, rate=4e-4, warmup=max(1, steps // 20))


@dataclass(frozen=True)
class Setup:
    """What a notebook needs to know about this run."""

    name: str
    preset: Preset
    device: torch.device
    seed: int
    out: Path


def setup(preset="laptop", device="auto", seed=0, out_dir="runs") -> Setup:
    """Check a notebook's parameters, print one line about the machine, seed torch.

    UserError names what is wrong: papermill itself lets a misspelt value pass.
    """
    choose("preset", preset, PRESETS)
    chosen = pick_device(device)
    set_seed(seed)
    name = torch.cuda.get_device_name() if chosen.type == "cuda" else chosen.type
    print(
        f"preset {preset} on {name}, {torch.get_num_threads()} thread(s), seed {seed}; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
    return Setup(preset, PRESETS[preset], chosen, seed, Path(os.fspath(out_dir)))
