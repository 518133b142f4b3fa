"""Training: plain Adam, the same bits whether it stops on the way or not."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from helpers import picture
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from asr_course import build
from asr_course.checkpoints import (
    load_state,
    read_checkpoint,
    run_plan,
    save_checkpoint,
)
from asr_course.data import PairRecipe, Recipe, Samples
from asr_course.digits import Characters
from asr_course.errors import Stopped, UserError
from asr_course.procedural import Procedural
from asr_course.schedule import Schedule
from asr_course.training import Run, train

RECIPE = Recipe(batch=2, patch=8, queries=32)
STEPS = 15
COSINE = Schedule(steps=STEPS, rate=2e-3, warmup=8)
HALVE = Schedule(steps=STEPS, rate=2e-3, shape="halve")
IMAGES = [picture(40, 45, seed) for seed in range(3)]
PAIRS = PairRecipe(batch=2, patch=4, scale_max=2.5, noise=20, fixed=0.5)
DIGITS = Characters(20, seed=4)
AVERAGED = Schedule(steps=8, rate=2e-3, shape="stages", average=0.3)


def fresh(name: str = "liif", **options):
    """A model with the weights that every run here starts from."""
    torch.manual_seed(5)
    return build(name, "tiny", **options)


def run(schedule=COSINE, images=IMAGES, recipe=RECIPE, model=None, **more) -> Run:
    return attempt(model or fresh(), images, recipe, schedule, **more)


def attempt(model, *what, **more) -> Run:
    """A run, or what an interrupt left of it in `out`."""
    try:
        return train(model, *what, **{"device": "cpu", **more})
    except Stopped as stopped:
        if "out" not in more:
            raise
        losses = read_checkpoint(more["out"] / "checkpoint.pt")["losses"]
        assert str(stopped).startswith(f"stopped after step {len(losses)} of ")
        return Run(model, len(losses), losses)


def run_idm(schedule=AVERAGED, **more) -> Run:
    """IDM on digits, with a running mean unless the schedule has none."""
    model = fresh("idm", dropout=more.pop("dropout", 0.0))
    return attempt(model, DIGITS, PAIRS, schedule, **more)


class Stop:
    """An `on_step` that presses Ctrl-C, or raises an error, at one step.

    It remembers which steps it saw.
    """

    def __init__(self, at: int | None = None, error: Exception | None = None):
        self.at, self.error, self.seen = at, error, []

    def __call__(self, step: int, losses: list[float]) -> None:
        assert len(losses) == step
        self.seen.append(step)
        if step == self.at and self.error:
            raise self.error
        if step == self.at:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Run]:
    """Both schedules, from beginning to end."""
    return {schedule.shape: run(schedule) for schedule in (COSINE, HALVE)}


@pytest.fixture(scope="module")
def averaged() -> Run:
    """An IDM with a running mean, through both stages of data and rate."""
    return run_idm()


def assert_same_state(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key


def assert_same(found: Run, expected: Run) -> None:
    """Equal bit for bit: every weight and every loss."""
    assert (found.steps, found.losses) == (expected.steps, expected.losses)
    assert_same_state(found.model.state_dict(), expected.model.state_dict())


def by_hand(model, samples, schedule) -> tuple[list[float], list[dict]]:
    """Plain Adam without `train`: the losses, and the weights after every step."""
    model, losses, weights = model.train(), [], []
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    for step in range(schedule.steps):
        optimizer.param_groups[0]["lr"] = schedule(step)
        error = model.error(model, together([samples[2 * step], samples[2 * step + 1]]))
        loss = {"l1": error.abs(), "l2": error.square()}[schedule.loss].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        weights.append(copy(model))
    return losses, weights


def together(samples: list):
    """Samples as a batch."""
    return type(samples[0])(*(torch.stack(x) for x in zip(*samples, strict=True)))


def copy(model) -> dict:
    return {key: value.clone() for key, value in model.state_dict().items()}


# What a run is


@pytest.mark.parametrize("loss", ["l1", "l2"])
@pytest.mark.parametrize("schedule", [COSINE, HALVE], ids=lambda s: s.shape)
def test_train_is_plain_adam(schedule, loss):
    schedule = replace(schedule, loss=loss)
    samples = Samples(IMAGES, RECIPE, 0, 2 * STEPS)
    losses, weights = by_hand(fresh(), samples, schedule)
    found = run(schedule)
    assert found.losses == losses
    assert_same_state(found.model.state_dict(), weights[-1])


def test_the_error_is_the_output_minus_the_truth():
    model, batch = fresh(), together([Samples(IMAGES, RECIPE, 0, 2)[0]])
    output = model(batch.lr, batch.coord, batch.cell)
    assert torch.equal(model.error(model, batch), output - batch.target)


@pytest.mark.parametrize("options", [{}, {"target": "v"}, {"condition": "concat-edsr"}])
def test_training_an_idm_is_plain_adam_on_its_error(options):
    schedule, model = Schedule(steps=4, rate=2e-3), fresh("idm", **options)
    samples = Samples(DIGITS, PAIRS, 0, 8)
    losses, weights = by_hand(fresh("idm", **options), samples, schedule)
    assert run(schedule, DIGITS, PAIRS, model).losses == losses
    assert_same_state(model.state_dict(), weights[-1])


def test_a_run_and_its_bar(capsys):
    done = run(Schedule(steps=60, rate=1e-3), progress=True)
    assert (done.steps, len(done.losses)) == (60, 60)
    assert not done.model.training  # ready to use
    said = capsys.readouterr().err
    assert "60/60" in said and f"l1={sum(done.losses[-50:]) / 50:.4f}" in said


def test_seeds_matter():
    assert run(Schedule(steps=2), seed=1).losses != run(Schedule(steps=2)).losses


def test_training_learns():
    """40 steps at one size; measured over four seeds: 0.28 to 0.31 of the error."""
    recipe, images = Recipe(4, 16, 128, scale_min=2, scale_max=2), Procedural(1)
    model, probe = fresh(skip=False), Samples(images, recipe, 9, 64)
    batch = together([probe[k] for k in range(0, 64, 4)])
    before = model.error(model, batch).abs().mean().item()
    run(Schedule(40, rate=2e-3, warmup=10), images, recipe, model)
    assert model.error(model, batch).abs().mean().item() < 0.4 * before


def test_workers_change_nothing(uninterrupted, averaged):
    assert_same(run(workers=2), uninterrupted["cosine"])
    assert_same(run_idm(workers=2), averaged)


# Stop and resume


@pytest.mark.parametrize(
    "shape, n", [("cosine", 1), ("cosine", 8), ("halve", 7), ("cosine", 14)]
)
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path, uninterrupted, shape, n
):
    """Before and after the end of the warm-up, which takes 8 steps."""
    schedule = {"cosine": COSINE, "halve": HALVE}[shape]
    stopped = run(schedule, out=tmp_path, on_step=Stop(n))
    assert stopped.steps == n
    assert os.listdir(tmp_path) == ["checkpoint.pt"]
    watch = Stop()
    resumed = run(schedule, out=tmp_path, resume=True, on_step=watch)
    assert watch.seen == list(range(n + 1, STEPS + 1))
    assert_same(resumed, uninterrupted[shape])


@pytest.mark.parametrize("n", [1, 4, 7])
def test_an_averaged_run_resumes_bit_for_bit(tmp_path, averaged, n):
    """In the first stage of data and rate, at its end, and in the second."""
    stopped = run_idm(out=tmp_path, on_step=Stop(n))
    assert stopped.steps == n
    assert_same(run_idm(out=tmp_path, resume=True), averaged)
    assert_same(run_idm(out=tmp_path, resume=True), averaged)  # nothing left to do


def test_dropout_is_the_same_after_resume(tmp_path):
    """What it drops is drawn from the step's number, not from all draws before."""
    whole = run_idm(dropout=0.5)
    run_idm(dropout=0.5, on_step=Stop(2), out=tmp_path)
    torch.manual_seed(77)
    assert_same(run_idm(dropout=0.5, out=tmp_path, resume=True), whole)


def test_without_out_nothing_is_written_and_an_interrupt_is_raised(
    tmp_path, monkeypatch
):
    """After the step: the model is that of a run of so many steps."""
    monkeypatch.chdir(tmp_path)
    model, samples = fresh(), Samples(IMAGES, RECIPE, 0, 2 * STEPS)
    with pytest.raises(KeyboardInterrupt, match="step 7 of 15; nothing was saved"):
        run(model=model, save_every=0, on_step=Stop(7))
    _, weights = by_hand(fresh(), samples, COSINE)
    assert_same_state(model.state_dict(), weights[6])
    assert not model.training and os.listdir(tmp_path) == []


@pytest.mark.parametrize("seconds, first", [(0, 7), (60, 1)])
def test_a_run_that_fails_resumes_from_its_last_checkpoint(
    tmp_path, uninterrupted, seconds, first
):
    """An error saves nothing; what was saved before is enough."""
    with pytest.raises(RuntimeError):
        run(out=tmp_path, save_every=seconds, on_step=Stop(7, RuntimeError()))
    watch = Stop()
    resumed = run(out=tmp_path, resume=True, on_step=watch)
    assert watch.seen[0] == first
    assert_same(resumed, uninterrupted["cosine"])


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    with pytest.raises(UserError, match="smaller rate"):
        run(Schedule(9, rate=1e38), out=tmp_path, save_every=0)
    losses = read_checkpoint(tmp_path / "checkpoint.pt")["losses"]
    assert torch.tensor(losses).isfinite().all()


def test_checkpoints_change_nothing(tmp_path, uninterrupted):
    """Neither to write one after every step, nor to find none."""
    folder = tmp_path / "new" / "folder"
    more = {"out": folder, "save_every": 0}
    assert_same(run(resume=True, **more), uninterrupted["cosine"])
    assert os.listdir(folder) == ["checkpoint.pt"]
    run(out=folder, on_step=Stop(9))
    with pytest.raises(UserError, match="holds 9 steps of this run: resume it"):
        run(out=folder)


def test_ctrl_c_right_after_the_weights_moved(tmp_path, uninterrupted):
    """A real SIGINT while the optimizer is at work, which is where time is spent."""
    calls = []

    def interrupt(*_):
        calls.append(1)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGINT)

    handle = register_optimizer_step_post_hook(interrupt)
    try:
        stopped = run(out=tmp_path)
    finally:
        handle.remove()
    assert stopped.steps == 6
    assert_same(run(out=tmp_path, resume=True), uninterrupted["cosine"])


def test_resuming_a_finished_run_loads_it_and_says_so(tmp_path, uninterrupted, capsys):
    """Here Ctrl-C came in the last step."""
    run(out=tmp_path, on_step=Stop(STEPS))
    watch = Stop()
    assert_same(run(out=tmp_path, resume=True, on_step=watch), uninterrupted["cosine"])
    assert watch.seen == []
    words = f"all 15 steps were done before; delete {tmp_path / 'checkpoint.pt'} to"
    assert words in capsys.readouterr().out


def test_an_interrupt_says_how_to_go_on_in_one_line(tmp_path):
    """As IPython shows it."""
    for resume, how in ((False, "resume"), (True, "run this again")):
        with pytest.raises(Stopped) as error:
            train(
                fresh(),
                IMAGES,
                RECIPE,
                COSINE,
                out=tmp_path,
                resume=resume,
                device="cpu",
                on_step=Stop(3 + resume),
            )
        words = f"stopped after step {3 + resume} of 15; saved: {how} to go on"
        assert error.value._render_traceback_() == [words]


OTHERS = {
    "seed": {"seed": 1},
    "schedule": {"schedule": replace(COSINE, rate=1e-3)},
    "recipe": {"recipe": replace(RECIPE, queries=33)},
    "images": {"images": IMAGES[:2]},
    "model": {"model": fresh(hidden=(8,))},
}


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path, what, resume):
    run(**OTHERS[what], out=tmp_path, on_step=Stop(3))
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(UserError, match=rf"holds 3 steps of another run \({what}"):
        run(out=tmp_path, resume=resume)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def test_a_finished_run_that_is_not_resumed_is_kept_under_another_name(tmp_path):
    for steps in (2, 1, 1):
        run(Schedule(steps), out=tmp_path)
    names = ["checkpoint-1.pt", "checkpoint-2.pt", "checkpoint.pt"]
    assert sorted(os.listdir(tmp_path)) == names
    steps = [read_checkpoint(tmp_path / name)["step"] for name in names]
    assert steps == [2, 1, 1]
    with pytest.raises(UserError, match="another run"):
        run(Schedule(1, 5e-4), out=tmp_path, resume=True)


@pytest.mark.parametrize("stopped", [6, STEPS])
def test_a_run_is_extended_by_a_larger_number_of_steps(tmp_path, stopped):
    """From where it was, with Adam's moments, and by the longer schedule from there."""
    first = run(out=tmp_path, on_step=Stop(stopped))
    longer = replace(COSINE, steps=STEPS + 5)
    rates = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    second = run(longer, out=tmp_path, resume=True)
    handle.remove()
    assert second.losses[:stopped] == first.losses and second.steps == STEPS + 5
    assert rates == [longer(step) for step in range(stopped, STEPS + 5)]
    with pytest.raises(UserError, match="schedule.steps: 20 there, 15 here"):
        run(out=tmp_path, resume=True)


def test_plans_have_the_fields_of_earlier_checkpoints():
    """Fields that came later are not named in a plan that does not use them."""
    plan = json.loads(run_plan(fresh(), IMAGES, Recipe(), COSINE, 3))
    assert (plan["model"]["name"], plan["seed"], plan["images"]) == ("liif", 3, 3)
    fields = {"batch", "patch", "queries", "scale_min", "scale_max"}
    assert set(plan["recipe"]) == fields
    plan = json.loads(run_plan(fresh(), DIGITS, Recipe(scales=(2, 3)), COSINE, 0))
    assert set(plan["recipe"]) == fields | {"scales"}
    assert plan["images"] == DIGITS.fingerprint


@pytest.mark.parametrize("damage", ["cut", "text", "another"])
def test_damaged_checkpoint_is_reported(tmp_path, damage):
    run(Schedule(steps=1), out=tmp_path)
    path = tmp_path / "checkpoint.pt"
    if damage == "another":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:-500], "text": b"hello"}[damage])
    before = path.read_bytes()
    with pytest.raises(UserError, match="not a readable checkpoint.*delete it"):
        run(out=tmp_path, resume=True)
    with pytest.raises(UserError):
        run(out=tmp_path)
    assert path.read_bytes() == before


def test_the_scale_of_gradients_is_saved_where_there_is_one(tmp_path):
    """In fp16. A run that goes on in another precision does without."""
    model, path = fresh(), tmp_path / "checkpoint.pt"
    parts = model, torch.optim.Adam(model.parameters())
    saved, off = (torch.amp.GradScaler("cpu", 512.0, enabled=x) for x in (True, False))
    scaler = torch.amp.GradScaler("cpu")
    for losses, other in ([0.1], saved), ([0.1, 0.2], off):
        save_checkpoint(path, "plan", losses, *parts, other, {})
        assert load_state(read_checkpoint(path), *parts, scaler, {}) == losses
        assert scaler.get_scale() == 512


def test_checkpoints_of_the_first_edition_are_renamed(tmp_path):
    """Modules had other names then; their order, and so Adam's, was the same."""
    run_idm(out=tmp_path, on_step=Stop(3))
    path = tmp_path / "checkpoint.pt"
    new, old = read_checkpoint(path), read_checkpoint(path)
    for part in ("model", "mean"):
        pairs = old[part].items()
        old[part] = {k.replace("unet.embed.", "unet.told."): v for k, v in pairs}
    torch.save(old, path)
    for part in ("model", "mean"):
        assert old[part].keys() != new[part].keys()
        assert_same_state(read_checkpoint(path)[part], new[part])


# Running means


def test_the_running_mean_is_that_of_all_weights_so_far(averaged):
    """It keeps 1/11, 2/12, 3/13 ... of what it was, and 0.3 from the fifth step on."""
    mean = copy(fresh("idm"))
    losses, weights = by_hand(fresh("idm"), Samples(DIGITS, PAIRS, 0, 16), AVERAGED)
    for step, state in enumerate(weights, start=1):
        decay = min(0.3, step / (step + 10))
        for key, value in state.items():
            mean[key] = decay * mean[key] + (1 - decay) * value
    assert averaged.losses == losses  # the mean changes nothing about training
    for key, value in averaged.model.state_dict().items():
        torch.testing.assert_close(value, mean[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("schedule", [AVERAGED, replace(AVERAGED, average=0)])
def test_a_stopped_run_ends_with_the_mean_if_there_is_one(tmp_path, schedule):
    stopped = run_idm(schedule, out=tmp_path, on_step=Stop(3))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    weights, mean = state["model"], state["mean"]
    assert bool(mean) == bool(schedule.average)
    assert_same_state(stopped.model.state_dict(), mean or weights)
    assert not mean or not all(torch.equal(mean[key], weights[key]) for key in mean)


# Precision


def test_half_precision_is_close():
    rough, fine = run(precision="bf16"), run()
    assert rough.losses != fine.losses
    assert rough.losses == pytest.approx(fine.losses, abs=2e-3)
    assert run(precision="fp16").losses == fine.losses  # on a CPU: float32
    parameters = rough.model.parameters()
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in parameters)


def test_half_precision_resumes_bit_for_bit(tmp_path):
    run(precision="bf16", out=tmp_path, on_step=Stop(7))
    resumed = run(precision="bf16", out=tmp_path, resume=True)
    assert_same(resumed, run(precision="bf16"))
