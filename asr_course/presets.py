"""Presets: what a notebook and `train` run.

smoke: for CI. laptop: small models, minutes on two cores. gpu: the papers' networks in
less than 15 minutes on a small GPU. paper: each paper's own recipe, days.
"""

import os
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from asr_course.data import PairRecipe, Recipe
from asr_course.devices import pick_device, set_seed
from asr_course.digits import NOISE, PATCH
from asr_course.errors import choose
from asr_course.images import check_place
from asr_course.models import METHODS
from asr_course.schedule import Schedule


@dataclass(frozen=True)
class Plan:
    """One training run."""

    size: str
    recipe: Recipe | PairRecipe
    schedule: Schedule
    pictures: int = 24  # generated ones, where no folder is given


@dataclass(frozen=True)
class Preset:
    """The runs of a preset, and what else depends on it."""

    lesson: Plan  # of a notebook
    pair: Plan  # two variants that a notebook compares
    full: Plan  # `train`
    deep: Plan  # HIIF and DIIN have deeper decoders and take smaller steps
    deep_pair: Plan
    digits: Plan  # IDM learns from whole pictures
    digits_pair: Plan
    digits_full: Plan
    photographs: Plan  # IDM, from a folder
    exam: int = 24  # held-out digits to look at
    sampling: int = 25  # steps of a sampler
    side: int = 256  # rows and columns of the photographs to score on
    precision: str = "no"
    workers: int = 0
    recipes: dict[str, Plan] = field(default_factory=dict)  # by method (and encoder)


# Data: low-resolution patches with some queries, or whole pictures in pairs.
PATCHES = Recipe(batch=16, patch=24, queries=512)
PATCHES_8 = Recipe(batch=8, patch=24, queries=512)
DIGITS = PairRecipe(batch=16, patch=PATCH, noise=NOISE, stretch=2, keep=0.5)
DIGITS_8 = PairRecipe(batch=8, patch=PATCH, noise=NOISE, stretch=2, scale_max=4)
PHOTOGRAPHS = PairRecipe(batch=16, scale_max=4)
PHOTOGRAPHS_4 = PairRecipe(batch=4, scale_max=4)
DIINN = Recipe(batch=12, queries=192**2, scales=(2, 3, 4), mixed=True)
DIIF = Recipe(batch=16, queries=192**2, scales=(2, 2.5, 3, 3.5, 4), hr=192)
DIIN = Recipe(batch=32, patch=128, queries=128**2)
FACES = PairRecipe(batch=32, patch=16, scale_max=8, upright=True)

# How each paper trains, on the 800 pictures of DIV2K (IDM: on faces), with Adam and L1.
# liif, metasr: the code of LIIF. lte: its released configurations. hiif: its text.
# diinn: 4 pictures at x2, x3 and x4 each, 1000 times through 800; its code has 50 x 20.
# diif, dlte: one of five scales a batch; 192 pixels at x2.5 become 77, so 192/77.
# diin: the text has "4e-5" and a cosine "every 50 epochs" (`--schedule restarts --rate
#   4e-5`), here taken for SRNO's: up to 4e-4 in 50 of 1500 epochs, then one cosine.
# idm: a million steps at x8, half as many at random scales; the batch of its code.
# swinir: LIIF's recipe with this encoder, from HIIF's text and LTE's configurations.
MILLION = Schedule(1_000_000, 1e-4, "halve")
LIIF = Plan("paper", Recipe(), MILLION, 800)
SWINIR = Plan("paper", Recipe(batch=32), Schedule(500_000, 2e-4, "late"), 800)
PAPER_RECIPES = {
    "liif": LIIF,
    "metasr": LIIF,
    "lte": LIIF,
    "diinn": Plan("paper", DIINN, Schedule(200_000, 1e-4, "halve"), 800),
    "diif": Plan("paper", DIIF, MILLION, 800),
    "dlte": Plan("paper", DIIF, MILLION, 800),
    "hiif": LIIF,
    **{f"{name}-swinir": SWINIR for name in ("liif", "metasr", "lte", "hiif")},
    "diin": Plan("paper", DIIN, Schedule(750_000, 4e-4, "cosine", 25_000), 800),
    "idm": Plan("paper", FACES, Schedule(1_500_000, 1e-4, "stages", 0)),
}

SMOKE = Plan("tiny", PATCHES_8, Schedule(80, 3e-3), 8)
SMOKE_DIGITS = Plan("tiny", DIGITS_8, Schedule(60, 2e-3, average=0.9), 100_000)
# A step takes about 0.6 TFLOP with each of the papers' decoders, so that 12,000 are 12
# minutes at 10 TFLOP/s (docs/training.md has the sum).
QUICK = Plan("paper", Recipe(), Schedule(12_000, 4e-4, warmup=300), 200)
QUICK_DIGITS = Plan("laptop", DIGITS, Schedule(12_000, average=0.999), 100_000)
PAPER_PAIR = Plan("paper", Recipe(), Schedule(100_000, 1e-4, "halve"), 800)
LONG_DIGITS = Plan("laptop", DIGITS, Schedule(18_000, average=0.999), 100_000)
LAPTOP = Preset(
    lesson=Plan("tiny", PATCHES_8, Schedule(800, 3e-3)),
    pair=Plan("tiny", PATCHES_8, Schedule(200, 3e-3)),
    full=Plan("laptop", PATCHES, Schedule(3000, 1e-3), 400),
    deep=Plan("tiny", PATCHES_8, Schedule(600, 1e-3)),
    deep_pair=Plan("tiny", PATCHES_8, Schedule(200, 1e-3)),
    digits=Plan("tiny", DIGITS, Schedule(600, 2e-3, average=0.99), 100_000),
    digits_pair=Plan("tiny", DIGITS, Schedule(300, 2e-3, average=0.99), 100_000),
    digits_full=LONG_DIGITS,
    photographs=Plan("laptop", PHOTOGRAPHS, Schedule(6000, average=0.999)),
)
WORKERS = min(8, os.cpu_count() or 1)  # processes that load pictures

# size, data, schedule (steps, rate, ...), pictures
PRESETS = {
    "smoke": Preset(
        lesson=SMOKE,
        pair=Plan("tiny", PATCHES_8, Schedule(6, 3e-3), 8),
        full=SMOKE,
        deep=Plan("tiny", PATCHES_8, Schedule(100, 1.5e-3), 8),
        deep_pair=Plan("tiny", PATCHES_8, Schedule(6, 1e-3), 8),
        digits=SMOKE_DIGITS,
        digits_pair=Plan("tiny", DIGITS_8, Schedule(6, 2e-3), 100_000),
        digits_full=SMOKE_DIGITS,
        photographs=Plan("tiny", PHOTOGRAPHS_4, Schedule(60, 2e-3, average=0.9)),
        exam=8,
        sampling=4,
        side=96,
    ),
    "laptop": LAPTOP,
    "gpu": replace(  # pairs as on a laptop
        LAPTOP,
        lesson=QUICK,
        full=QUICK,
        deep=QUICK,
        digits=QUICK_DIGITS,
        digits_full=QUICK_DIGITS,
        photographs=Plan("laptop", PHOTOGRAPHS, Schedule(12_000, average=0.999)),
        precision="auto",
        workers=WORKERS,
    ),
    "paper": Preset(
        lesson=LIIF,
        pair=PAPER_PAIR,
        full=LIIF,
        deep=LIIF,
        deep_pair=PAPER_PAIR,
        digits=LONG_DIGITS,
        digits_pair=LONG_DIGITS,
        digits_full=Plan("paper", DIGITS, Schedule(18_000, average=0.999), 100_000),
        photographs=PAPER_RECIPES["idm"],
        precision="auto",
        workers=WORKERS,
        recipes=PAPER_RECIPES,
    ),
}


def full_plan(preset, name: str, digits: bool, encoder: str | None = None) -> Plan:
    """What `train` runs for a model of this name, on digits or on pictures.

    The recipe of the method with this encoder, else of the method, else the preset's.
    """
    if digits:
        return preset.digits_full
    shared = preset.photographs if METHODS[name].is_generative else preset.full
    own = preset.recipes.get(name, shared)
    return preset.recipes.get(f"{name}-{encoder}", own)


@dataclass(frozen=True)
class Setup:
    """The parameters of a notebook, checked."""

    preset: Preset
    device: torch.device
    seed: int
    out: Path


def setup(preset="laptop", device="auto", seed=0, out_dir="runs") -> Setup:
    """Check a notebook's parameters (UserError), print the machine, seed torch.

    `out` is absolute, names preset and seed, so that no run takes another's place, and
    is not created.
    """
    choose("preset", preset, PRESETS)
    chosen = pick_device(device)
    out = Path(out_dir).expanduser().absolute() / f"{preset}-{seed}"
    check_place(out / "checkpoint.pt", overwrite=True)
    set_seed(seed)
    name = torch.cuda.get_device_name() if chosen.type == "cuda" else chosen.type
    print(
        f"preset {preset} on {name}, {torch.get_num_threads()} thread(s), seed {seed}; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
    return Setup(PRESETS[preset], chosen, seed, out)
