"""Presets: the parameters of a notebook, checked, and the recipes of the papers."""

from dataclasses import fields, replace

import pytest
import torch
from helpers import picture

from asr_course import build
from asr_course.data import PairRecipe, Recipe
from asr_course.digits import NOISE, PATCH
from asr_course.errors import UserError
from asr_course.models import METHODS
from asr_course.presets import PAPER_RECIPES, PRESETS, Plan, full_plan, setup
from asr_course.training import train


def test_setup_says_one_line_and_seeds(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = setup("smoke", device="cpu", seed=11, out_dir="runs")
    first = torch.rand(4)
    torch.manual_seed(11)
    assert torch.equal(torch.rand(4), first)
    assert (made.seed, made.out) == (11, tmp_path / "runs" / "smoke-11")
    assert made.preset is PRESETS["smoke"] and made.device == torch.device("cpu")
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "preset smoke on cpu" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"preset": "laptp"}, "Did you mean 'laptop'"),
        ({"seed": True}, "seed must be"),
        ({"device": "gpu"}, "device 'gpu'"),
        ({"out_dir": __file__}, "cannot write"),
    ],
)
def test_wrong_parameters_are_refused(wrong, words):
    with pytest.raises(UserError, match=words):
        setup(**{"preset": "smoke", "device": "cpu", **wrong})


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_plans_name_sizes_that_all_models_have(preset):
    plans = [getattr(preset, field.name) for field in fields(preset)]
    plans = [plan for plan in plans if isinstance(plan, Plan)]
    assert len(plans) == 9
    for plan in plans:
        assert all(plan.size in method.SIZES for method in METHODS.values())
        assert plan.schedule(0) > 0 and plan.pictures >= 1


@pytest.mark.parametrize("name", ["smoke", "laptop"])
def test_small_presets_train_on_the_digits_of_the_exam(name):
    preset = PRESETS[name]
    for plan in (preset.digits, preset.digits_pair, preset.digits_full):
        assert (plan.recipe.patch, plan.recipe.noise) == (PATCH, NOISE)


@pytest.mark.parametrize("name", PRESETS)
def test_train_follows_the_plan_of_its_model_and_pictures(name):
    preset = PRESETS[name]
    for model, method in METHODS.items():
        assert full_plan(preset, model, digits=True) is preset.digits_full
        shared = preset.photographs if method.is_generative else preset.full
        own = PAPER_RECIPES[model] if name == "paper" else shared
        assert full_plan(preset, model, digits=False) is own
        swinir = PAPER_RECIPES.get(f"{model}-swinir", own) if name == "paper" else own
        assert full_plan(preset, model, False, "swinir") is swinir
        assert full_plan(preset, model, False, "rdn") is own


# Each paper's own recipe

LIIF, IDM = (Recipe(16, 48, 2304), PairRecipe(32, 16, 8, upright=True))
DIINN = Recipe(12, 48, 192**2, scales=(2, 3, 4), mixed=True)
DIIF = Recipe(16, 48, 192**2, scales=(2, 2.5, 3, 3.5, 4), hr=192)
HALVED = {0: 1e-4, 0.2: 5e-5, 0.4: 2.5e-5, 0.6: 1.25e-5, 0.999: 6.25e-6}
STEPS_AND_RATES = {
    # (recipe, steps, {part of the run: rate})
    "liif": (LIIF, 1_000_000, HALVED),
    "metasr": (LIIF, 1_000_000, HALVED),
    "lte": (LIIF, 1_000_000, HALVED),
    "hiif": (LIIF, 1_000_000, HALVED),
    "hiif-swinir": (replace(LIIF, batch=32), 500_000, {0.499: 2e-4, 0.5: 1e-4}),
    "diinn": (DIINN, 1000 * 800 // 4, HALVED),
    "diif": (DIIF, 1_000_000, HALVED),
    "dlte": (DIIF, 1_000_000, HALVED),
    "diin": (Recipe(32, 128, 128 * 128), 750_000, {1 / 300: 4e-5, 1 / 30: 4e-4}),
    "idm": (IDM, 1_500_000, {0: 1e-4, 0.6666: 1e-4, 0.6667: 2e-5, 0.999: 2e-5}),
}


@pytest.mark.parametrize("name", STEPS_AND_RATES)
def test_recipes_are_the_papers(name):
    plan = PAPER_RECIPES[name]
    recipe, steps, rates = STEPS_AND_RATES[name]
    assert (plan.size, plan.schedule.steps) == ("paper", steps)
    assert plan.recipe == recipe
    for part, rate in rates.items():
        assert plan.schedule(round(part * steps)) == pytest.approx(rate, rel=0.01)


@pytest.mark.parametrize("name", METHODS)
def test_every_recipe_trains_its_method(name):
    """One step with the tiny model, smaller patches and a schedule of one step."""
    plan = PAPER_RECIPES[name]
    smaller = {"batch": 12, "patch": 8, "queries": 64}
    if name == "idm":
        smaller = {"batch": 2, "patch": 4, "scale_max": 2.5}
    elif plan.recipe.hr:
        smaller["hr"] = 24
    recipe, schedule = replace(plan.recipe, **smaller), replace(plan.schedule, steps=1)
    model, images = build(name, "tiny"), [picture(40, 45)]
    assert 0 < train(model, images, recipe, schedule, device="cpu").losses[0] < 2
