"""Presets: the parameters of a notebook, checked, and one table of values."""

from argparse import Namespace
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from helpers import picture

from asr_course import build
from asr_course.__main__ import training_images
from asr_course.digits import NOISE, PATCH
from asr_course.data import PairRecipe, Pairs, Patches, Recipe
from asr_course.errors import UserError
from asr_course.models import MODELS, SIZES
from asr_course.presets import (
    PAPER_RECIPES,
    PRESETS,
    diin_schedule,
    full_plan,
    setup,
)
from asr_course.lessons.readers import SIDE
from asr_course.training import Schedule, run_plan, train


@pytest.mark.parametrize(
    "preset, hint",
    [("laptp", "Did you mean 'laptop'"), ("GPU", None), ("", None), (3, None)],
)
def test_unknown_preset_lists_them(preset, hint):
    with pytest.raises(UserError) as caught:
        setup(preset, device="cpu")
    assert f"unknown preset {preset!r}" in str(caught.value)
    assert "choose from smoke, laptop, gpu" in str(caught.value)
    assert hint is None or hint in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 0.0, "0", None, True])
def test_bad_seeds(seed):
    with pytest.raises(UserError, match="seed must be a whole number"):
        setup("smoke", device="cpu", seed=seed)


@pytest.mark.parametrize("device", ["gpu", "cpuu", ""])
def test_bad_devices(device):
    with pytest.raises(UserError, match="unknown device"):
        setup("smoke", device=device)


@pytest.mark.parametrize("device", [None, 0])
def test_devices_that_are_no_text(device):
    """Papermill passes numbers and None on as they are."""
    with pytest.raises(UserError, match="device"):
        setup("smoke", device=device)


def test_absent_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="'cuda' is not there; use 'auto' or 'cpu'"):
        setup("smoke", device="cuda")


@pytest.mark.parametrize("name", PRESETS)
def test_setup_says_one_line_and_seeds(name, capsys, tmp_path):
    run = setup(name, device="cpu", seed=11, out_dir=tmp_path)
    first = torch.rand(4)
    torch.manual_seed(11)
    assert torch.equal(torch.rand(4), first)
    assert (run.name, run.seed, run.out) == (name, 11, tmp_path)
    assert run.preset is PRESETS[name]
    assert run.device == torch.device("cpu")
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1 and printed.err == ""
    assert f"preset {name} on cpu" in printed.out and "seed 11" in printed.out
    assert torch.__version__ in printed.out


def test_setup_creates_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    setup("smoke", device="cpu", out_dir="runs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PRESETS)
def test_plans_can_be_built(name):
    preset = PRESETS[name]
    for plan in (
        preset.lesson,
        preset.pair,
        preset.full,
        preset.deep,
        preset.deep_pair,
        preset.digits,
        preset.digits_pair,
        preset.digits_full,
        preset.photographs,
    ):
        assert all(plan.size in sizes for sizes in SIZES.values())
        assert plan.schedule(0) > 0
        assert plan.pictures >= 1


@pytest.mark.parametrize("name", PRESETS)
def test_train_follows_the_plan_of_its_model_and_pictures(name):
    preset = PRESETS[name]
    for model in MODELS:
        assert full_plan(preset, model, digits=True) is preset.digits_full
    assert full_plan(preset, "idm", digits=False) is preset.photographs
    assert full_plan(preset, "liif", digits=False) is preset.full
    own = {model: full_plan(preset, model, digits=False) for model in MODELS}
    own.pop("idm")
    if name == "gpu":
        assert own == {model: PAPER_RECIPES[model] for model in own}
    else:
        assert all(plan is preset.full for plan in own.values())


@pytest.mark.parametrize("name", ["smoke", "laptop"])
def test_small_presets_sit_the_exam_that_is_set(name):
    """Its digits have 4 x 4 pixels and its noise; a larger scale is never trained."""
    preset = PRESETS[name]
    for plan in (preset.digits, preset.digits_pair, preset.digits_full):
        assert (plan.recipe.patch, plan.recipe.noise) == (PATCH, NOISE)
        assert plan.recipe.crop <= SIDE


def test_gpu_preset_is_idm_s_recipe_for_faces():
    """A million steps at x8, half a million at random scales at a fifth of the rate."""
    plan = PRESETS["gpu"].photographs
    assert plan is PAPER_RECIPES["idm"]
    assert plan.size == "paper" and plan.recipe == PairRecipe(upright=True)
    assert plan.schedule.steps == 1_500_000
    rates = [plan.schedule(step) for step in (0, 999_999, 1_000_000, 1_499_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 2e-5, 2e-5])
    samples = plan.recipe.samples([], 0, plan.schedule.steps * plan.recipe.batch)
    assert samples.size_of_batch(0) == samples.size_of_batch(999_999) == (128, 128)
    rows, cols = samples.size_of_batch(1_000_000)
    assert rows == cols < 128


def test_gpu_preset_is_the_papers_recipe():
    """A million steps of 16 patches of 48 x 48, 1e-4 halved four times."""
    plan = PRESETS["gpu"].full
    assert plan.size == "paper" and plan.recipe == Recipe()
    assert plan.schedule.steps == 1_000_000
    rates = [plan.schedule(step) for step in (0, 200_000, 400_000, 600_000, 999_999)]
    assert rates == pytest.approx([1e-4, 5e-5, 2.5e-5, 1.25e-5, 6.25e-6])


# Each paper's own


def scales_of(recipe: Recipe, batches: int) -> list[float]:
    """The scales of the first batches, or of their parts where they are mixed."""
    samples = Patches([], recipe, 0, batches * recipe.batch)
    parts = range(batches * recipe.parts)
    sizes = [samples.queries_of_batch(part)[:2] for part in parts]
    return [rows / patch for rows, patch in sizes]


@pytest.mark.parametrize("name", ["liif", "metasr", "lte", "hiif"])
def test_these_train_as_liif_does(name):
    plan = PAPER_RECIPES[name]
    assert plan.size == "paper" and plan.recipe == Recipe()
    assert plan.schedule == Schedule(1_000_000, 1e-4, "halve")


@pytest.mark.parametrize("name", ["liif", "metasr", "lte", "hiif"])
def test_with_swinir_they_train_otherwise(name):
    """32 at a time, at 2e-4, which is halved after 500, 800, 900 and 950 epochs."""
    plan = full_plan(PRESETS["gpu"], name, False, encoder="swinir")
    assert plan.recipe == Recipe(batch=32)
    epochs = (0, 499, 500, 799, 800, 899, 900, 949, 950, 999)
    halved = (0, 0, 1, 1, 2, 2, 3, 3, 4, 4)
    assert plan.schedule.steps == 1000 * 16_000 // 32
    rates = [plan.schedule(500 * epoch) for epoch in epochs]
    assert rates == pytest.approx([2e-4 / 2**k for k in halved])


@pytest.mark.parametrize("name", ["diinn", "diif", "dlte", "diin"])
def test_other_encoders_and_methods_change_no_recipe(name):
    for encoder in (None, "rdn", "swinir"):
        assert full_plan(PRESETS["gpu"], name, False, encoder) is PAPER_RECIPES[name]
    laptop = full_plan(PRESETS["laptop"], "liif", False, "swinir")
    assert laptop is PRESETS["laptop"].full


def test_diinn_trains_at_three_scales_in_every_step():
    """4 pictures at x2, x3 and x4 each, whole patches, 1000 times through 800."""
    plan = PAPER_RECIPES["diinn"]
    assert plan.schedule == Schedule(1000 * 800 // 4, 1e-4, "halve")
    assert scales_of(plan.recipe, 2) == [2, 3, 4, 2, 3, 4]
    samples = Patches([picture(200, 200)], plan.recipe, 0, 24)
    found = [samples[k] for k in range(12)]
    assert [s.lr.shape[1:] for s in found] == [(48, 48)] * 12
    assert [s.target.shape[1] for s in found] == [
        n * n for n in (96, 144, 192) for _ in "1234"
    ]


def test_diif_trains_on_crops_of_one_size():
    """192 x 192 at one of five scales, of which 2.5 and 3.5 leave no whole numbers."""
    plan = PAPER_RECIPES["diif"]
    assert plan is PAPER_RECIPES["dlte"]
    assert plan.schedule == Schedule(1_000_000, 1e-4, "halve")
    assert (plan.recipe.batch, plan.recipe.crop) == (16, 192)
    expected = [192 / n for n in (96, 77, 64, 55, 48)]
    found = scales_of(plan.recipe, 150)
    assert sorted(set(found)) == sorted(expected)
    for scale in expected:
        assert 10 < found.count(scale) < 50  # 30 expected, sigma 5
    sample = Patches([picture(200, 200)], plan.recipe, 0, 16)[0]
    rows = sample.lr.shape[1]
    assert sample.lr.shape == (3, rows, rows) and 192 / rows in expected
    assert sample.target.shape == (3, 192 * 192, 1)
    assert sample.cell.tolist() == pytest.approx([2 / 192] * 2)
    assert len(sample.coord.unique(dim=0)) == 192 * 192


def test_diin_trains_on_large_patches():
    """32 of 128 x 128 with as many pixels; 1500 epochs, in the first 50 upwards."""
    plan = PAPER_RECIPES["diin"]
    assert plan.recipe == Recipe(32, 128, 128 * 128)
    epoch = 16_000 // 32
    assert plan.schedule.steps == 1500 * epoch
    rates = [plan.schedule(epoch * k - 1) for k in (5, 50, 1500)]
    assert rates == pytest.approx([4e-5, 4e-4, 0], rel=0.01, abs=1e-12)
    assert max(range(1, 1501), key=lambda k: plan.schedule(epoch * k - 1)) == 50


def test_without_data_pictures_are_drawn_large_enough():
    plan = PAPER_RECIPES["diin"]
    args = Namespace(data=None, seed=0)
    images, _ = training_images(replace(plan, pictures=1), args, digits=False)
    assert images[0].shape == (512, 512, 3)


def test_faces_stay_upright():
    """A picture grows darker downwards, brighter to the right: mirrored at most."""
    down, right = np.mgrid[:128, :128]
    face = np.stack([250 - down, right, right], axis=-1).astype(np.uint8)
    recipe = replace(PAPER_RECIPES["idm"].recipe, batch=1)
    samples = Pairs([face], recipe, 0, 12)
    seen = set()
    for k in range(12):
        target = samples[k].target
        assert (target[0].diff(dim=0) < 0).all() and (target[0].diff(dim=1) == 0).all()
        seen.add(bool(target[1, 0, 0] < target[1, 0, -1]))
    assert seen == {True, False}


@pytest.mark.parametrize("name", [name for name in PAPER_RECIPES if name in MODELS])
def test_every_recipe_trains_its_method(name):
    """One step with the tiny model, smaller patches and a schedule of one step."""
    plan = PAPER_RECIPES[name]
    smaller = {"batch": 12, "patch": 8, "queries": 64}
    if name == "idm":
        smaller = {"batch": 2, "patch": 4, "scale_max": 2.5}
    if getattr(plan.recipe, "hr", 0):
        smaller["hr"] = 24
    recipe = replace(plan.recipe, **smaller)
    run = train(
        build(name, "tiny"),
        [picture(40, 45)],
        recipe,
        replace(plan.schedule, steps=1),
        device="cpu",
    )
    assert 0 < run.losses[0] < 2


def test_recipes_of_earlier_checkpoints_mean_the_same():
    """Fields that came later are not named in a plan that does not use them."""
    schedule = Schedule(5)
    model = build("liif", "tiny")
    plan = run_plan(model, [], Recipe(), schedule, 0)
    assert plan["recipe"] == {
        "batch": 16,
        "patch": 48,
        "queries": 2304,
        "scale_min": 1.0,
        "scale_max": 4.0,
    }
    keys = ["batch", "patch", "scale_max", "noise", "fixed", "stretch"]
    assert list(run_plan(model, [], PairRecipe(), schedule, 0)["recipe"]) == keys
    names = ["steps", "rate", "shape", "warmup", "loss", "average"]
    assert list(plan["schedule"]) == names
    later = run_plan(model, [], PAPER_RECIPES["diif"].recipe, schedule, 0)["recipe"]
    assert (later["scales"], later["hr"]) == ((2, 2.5, 3, 3.5, 4), 192)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_a_mixed_batch_needs_a_part_for_every_scale(batch):
    with pytest.raises(UserError, match=f"a batch of {batch} has no equal part"):
        Recipe(batch=batch, scales=(2, 3, 4), mixed=True)


def test_the_two_readings_of_diin_s_training():
    """4e-5 again and again; or from there to 4e-4 in 50 of 1000 epochs, then down."""
    literal, srno = (diin_schedule(name, 1000) for name in ("literal", "srno"))
    assert max(map(literal, range(1000))) == literal(0) == pytest.approx(4e-5)
    assert srno(4) == pytest.approx(4e-5, rel=0.01)
    assert max(range(1000), key=srno) == 49 and srno(49) == pytest.approx(
        4e-4, rel=0.01
    )
    assert srno(999) < 1e-8
    with pytest.raises(UserError, match="Did you mean 'srno'"):
        diin_schedule("srn", 1000)


def test_presets_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        PRESETS["smoke"].minutes = 3
    with pytest.raises(FrozenInstanceError):
        PRESETS["smoke"].full.schedule.steps = 3
