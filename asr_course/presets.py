"""Three presets: one table of values, one code path.

smoke   for CI: everything runs, nothing takes long
laptop  for reading along on two CPU cores (the default)
gpu     for doing it for real: the papers' sizes and recipes

A preset holds three plans. `lesson` is the run a notebook makes before your eyes,
`pair` is the run it makes twice to compare two variants, and `full` is what
`python -m asr_course train` does; the shipped weights come from laptop's. Where queries
hear from each other (HIIF, DIIN) decoders are deeper and start slowly: `deep` and
`deep_pair` are the same two runs in smaller steps. Models that draw their answer (IDM)
learn from whole pictures: `digits`, `digits_pair` and `digits_full` on drawn digits,
`photographs` on a folder of yours. With gpu, `train` follows the recipe of each paper
instead of `full` and `photographs`: PAPER_RECIPES.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import torch

from asr_course.digits import NOISE, PATCH
from asr_course.data import PairRecipe, Recipe
from asr_course.errors import UserError, choose
from asr_course.images import nearest_there, try_writing
from asr_course.models import MODELS
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
    # What `train` runs for a method, or for one with a certain encoder.
    recipes: Mapping[str, Plan] = field(default_factory=dict)


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
MILLION = Schedule(steps=1_000_000, rate=1e-4, shape="halve")
PAPER = Plan("paper", Recipe(), MILLION, pictures=800)
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

# How each paper trains, on the 800 pictures of DIV2K (IDM: on faces). Adam and L1, all
# of them. A sample takes any picture; one "epoch" of the papers is 16,000 samples.
WHOLE = 192 * 192  # queries: all of a patch, at any scale up to 4
SWINIR = Plan(
    # What LIIF's, MetaSR's, LTE's and HIIF's trainings become with this encoder: in
    # HIIF's text and LTE's configurations.
    "paper",
    Recipe(batch=32),
    Schedule(steps=500_000, rate=2e-4, shape="late"),
    pictures=800,
)
DIIF_RECIPE = Plan(
    # One scale of five for a batch, crops of 192 x 192 whatever the scale: 1/2.5 of
    # them are 77 x 77 pixels, and the scale is then 192/77. The text turns crops in the
    # eight ways in which ours are turned.
    "paper",
    Recipe(batch=16, queries=WHOLE, scales=(2, 2.5, 3, 3.5, 4), hr=192),
    MILLION,
    pictures=800,
)
PAPER_RECIPES = MappingProxyType(
    {
        "liif": PAPER,
        # The code of LIIF, with which its paper trained MetaSR again.
        "metasr": PAPER,
        # The released configurations, for EDSR-baseline and for RDN.
        "lte": PAPER,
        "diinn": Plan(
            # 1000 passes over 800 pictures, 4 to a batch, each at x2, x3 and x4: 12
            # patches, all of whose pixels are answered. The code has 50 epochs of 20
            # passes. There the three are cut from one picture, here from any.
            "paper",
            Recipe(batch=12, queries=WHOLE, scales=(2, 3, 4), mixed=True),
            Schedule(steps=200_000, rate=1e-4, shape="halve"),
            pictures=800,
        ),
        "diif": DIIF_RECIPE,
        "dlte": DIIF_RECIPE,  # from the same paper, in the same words
        # The text. A public re-implementation takes four times the rate, 50 epochs of
        # warm-up and a cosine instead.
        "hiif": PAPER,
        **{f"{name}-swinir": SWINIR for name in ("liif", "metasr", "lte", "hiif")},
        "diin": Plan(
            # 1500 epochs of 500 steps. The text has "4e-5" and a cosine "every 50
            # epochs"; taken as a garbled form of SRNO's configuration, which it
            # follows: up to ten times that within 50 epochs, then one cosine.
            # `--schedule restarts --rate 4e-5` is the text to the letter.
            "paper",
            Recipe(batch=32, patch=128, queries=128 * 128),
            Schedule(steps=750_000, rate=4e-4, warmup=25_000),
            pictures=800,
        ),
        "idm": Plan(
            # Faces: a million steps at x8, and half as many at random scales, at a
            # fifth of the rate. The batch is the code's, which keeps no running mean
            # of the weights and has the second stage only.
            "paper",
            PairRecipe(batch=32, patch=16, scale_max=8, upright=True),
            Schedule(steps=1_500_000, rate=1e-4, shape="stages", warmup=0),
            pictures=100_000,
        ),
    }
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
        photographs=PAPER_RECIPES["idm"],
        minutes=60 * 24,
        precision="fp16",
        workers=8,
        recipes=PAPER_RECIPES,
    ),
}


def full_plan(
    preset: Preset, name: str, digits: bool, encoder: str | None = None
) -> Plan:
    """What `train` runs for a model of this name, on digits or on pictures.

    The method's own recipe if the preset has one, with this encoder or with any; a
    method of yours gets LIIF's.
    """
    if digits:
        return preset.digits_full
    shared = preset.photographs if MODELS[name].generates else preset.full
    own = preset.recipes.get(name, shared)
    return preset.recipes.get(f"{name}-{encoder}", own)


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
    out = check_out(out_dir)
    set_seed(seed)
    name = torch.cuda.get_device_name() if chosen.type == "cuda" else chosen.type
    print(
        f"preset {preset} on {name}, {torch.get_num_threads()} thread(s), seed {seed}; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
    return Setup(preset, PRESETS[preset], chosen, seed, out)


def check_out(out_dir) -> Path:
    """OUT_DIR as an absolute path: a notebook may change its working folder.

    UserError if nothing can be written there, now and not after the training. The
    folder itself is not created.
    """
    if not isinstance(out_dir, str | os.PathLike):
        raise UserError(f"OUT_DIR must be the name of a folder, not {out_dir!r}")
    try:
        out = Path(out_dir).expanduser().absolute()
        try_writing(nearest_there(out))
        return out
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"OUT_DIR: nothing can be written into {str(out_dir)!r} ({error}); "
            "name a folder of your own"
        ) from None
