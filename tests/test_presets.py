"""Presets: the parameters of a notebook, checked, and one table of values."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from asr_course.characters import NOISE, PATCH
from asr_course.data import PairRecipe, Recipe
from asr_course.errors import UserError
from asr_course.models import SIZES
from asr_course.presets import PRESETS, diin_schedule, full_plan, setup
from asr_course.readers import SIDE


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
    for generates in (False, True):
        assert full_plan(preset, generates, digits=True) is preset.digits_full
    assert full_plan(preset, True, digits=False) is preset.photographs
    assert full_plan(preset, False, digits=False) is preset.full


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
    assert plan.size == "paper" and plan.recipe == PairRecipe()
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
