"""Three presets: one table of values, one code path.

smoke   for CI: everything runs, nothing takes long
laptop  for reading along on two CPU cores (the default)
gpu     for doing it for real: the papers' sizes and recipe

A preset holds three plans. `lesson` is the run a notebook makes before your eyes,
`pair` is the run it makes twice to compare two variants, and `full` is what
`python -m asr_course train` does; the shipped weights come from laptop's. Where queries
hear from each other (HIIF, DIIN) decoders are deeper and start slowly: `deep` and
`deep_pair` are the same two runs in smaller steps. Models that draw their answer (IDM)
learn from whole pictures: `digits`, `digits_pair` and `digits_full` on drawn digits,
`photographs` on a folder of yours.
"""

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from asr_course.characters import NOISE, PATCH
from asr_course.data import PairRecipe, Recipe
from asr_course.errors import choose
from asr_course.training import Schedule, pick_device, set_seed


@dataclass(frozen=True)
class Plan:
    """One training run: the model's size, the data and the steps."""

    size: str
    recipe: Recipe | PairRecipe
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
    digits: Plan
    digits_pair: Plan
    digits_full: Plan
    photographs: Plan
    minutes: float  # for a whole notebook
    exam: int = 24  # held-out digits to look at
    sampling: int = 25  # steps of a sampler
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
DEEP_SMOKE = replace(SMOKE, schedule=Schedule(steps=100, rate=1.5e-3))
LESSON = Plan("tiny", replace(SMALL, batch=8), Schedule(steps=800, rate=3e-3))
DEEP_LESSON = replace(LESSON, schedule=Schedule(steps=600, rate=1e-3))
EVENING = Plan("laptop", SMALL, Schedule(steps=3000, rate=1e-3), pictures=400)
# LIIF's training: 1000 epochs of 1000 steps on DIV2K, halving the rate four times.
PAPER = Plan(
    "paper", Recipe(), Schedule(steps=1_000_000, rate=1e-4, shape="halve"), pictures=800
)
DIGITS = PairRecipe(batch=16, patch=PATCH, noise=NOISE, stretch=2)
PHOTOGRAPHS = PairRecipe(batch=16, scale_max=4)
DIGITS_SMOKE = Plan(
    "tiny",
    replace(DIGITS, batch=8, scale_max=4),
    Schedule(steps=60, rate=2e-3, average=0.9),
    pictures=100_000,
)
DIGITS_LESSON = Plan(
    "tiny", DIGITS, Schedule(steps=600, rate=2e-3, average=0.99), pictures=100_000
)
DIGITS_EVENING = Plan(
    "laptop", DIGITS, Schedule(steps=18_000, average=0.999), pictures=100_000
)
PHOTOGRAPHS_EVENING = Plan("laptop", PHOTOGRAPHS, Schedule(steps=6000, average=0.999))
# IDM's training for faces: a million steps at x8, and half as many at random scales.
PAPER_PAIRS = Plan(
    "paper",
    PairRecipe(),
    Schedule(steps=1_500_000, rate=1e-4, shape="stages", warmup=0),
    pictures=100_000,
)

PRESETS = {
    "smoke": Preset(
        lesson=SMOKE,
        pair=replace(SMOKE, schedule=Schedule(steps=6, rate=3e-3)),
        full=SMOKE,
        deep=DEEP_SMOKE,
        deep_pair=replace(SMOKE, schedule=Schedule(steps=6, rate=1e-3)),
        digits=DIGITS_SMOKE,
        digits_pair=replace(DIGITS_SMOKE, schedule=Schedule(steps=6, rate=2e-3)),
        digits_full=DIGITS_SMOKE,
        photographs=replace(DIGITS_SMOKE, recipe=replace(PHOTOGRAPHS, batch=4)),
        minutes=0.5,
        exam=8,
        sampling=4,
        side=96,
    ),
    "laptop": Preset(
        lesson=LESSON,
        pair=replace(LESSON, schedule=Schedule(steps=200, rate=3e-3)),
        full=EVENING,
        deep=DEEP_LESSON,
        deep_pair=replace(LESSON, schedule=Schedule(steps=200, rate=1e-3)),
        digits=DIGITS_LESSON,
        digits_pair=replace(DIGITS_LESSON, schedule=Schedule(300, 2e-3, average=0.99)),
        digits_full=DIGITS_EVENING,
        photographs=PHOTOGRAPHS_EVENING,
        minutes=5,
    ),
    "gpu": Preset(
        lesson=PAPER,
        pair=replace(PAPER, schedule=Schedule(100_000, 1e-4, "halve")),
        full=PAPER,
        deep=PAPER,
        deep_pair=replace(PAPER, schedule=Schedule(100_000, 1e-4, "halve")),
        digits=DIGITS_EVENING,
        digits_pair=DIGITS_EVENING,
        digits_full=replace(DIGITS_EVENING, size="paper"),
        photographs=PAPER_PAIRS,
        minutes=60 * 24,
        precision="fp16",
        workers=8,
    ),
}


def full_plan(preset: Preset, generates: bool, digits: bool) -> Plan:
    """What `train` runs: for a model that draws its answer or not, on digits or not."""
    if digits:
        return preset.digits_full
    return preset.photographs if generates else preset.full


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
