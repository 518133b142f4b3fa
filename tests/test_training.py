"""Training: the same bits whether it stops on the way or not."""

import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from helpers import picture
from torch.optim.optimizer import register_optimizer_step_post_hook

from asr_course import build
from asr_course.digits import Characters
from asr_course.data import Pair, PairRecipe, Pairs, Patches, Procedural, Recipe
from asr_course.errors import UserError
from asr_course.training import Run, Schedule, pick_device, set_seed, train

RECIPE = Recipe(batch=2, patch=8, queries=32)
STEPS = 15
COSINE = Schedule(steps=STEPS, rate=2e-3, warmup=8)
HALVE = Schedule(steps=STEPS, rate=2e-3, shape="halve")
IMAGES = [picture(40, 45, seed) for seed in range(3)]


def fresh_model(**options):
    """The model that every run here starts from."""
    torch.manual_seed(5)
    return build("liif", "tiny", **options)


def run(schedule=COSINE, images=IMAGES, recipe=RECIPE, model=None, **more) -> Run:
    model = model or fresh_model()
    return train(model, images, recipe, schedule, device="cpu", **more)


class Stop:
    """An `on_step` that raises at one step and remembers which it saw."""

    def __init__(self, at: int | None = None, error=KeyboardInterrupt):
        self.at, self.error, self.seen = at, error, []

    def __call__(self, step: int, losses: list[float]) -> None:
        assert len(losses) == step
        self.seen.append(step)
        if step == self.at:
            raise self.error


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Run]:
    """Both schedules, from beginning to end."""
    return {schedule.shape: run(schedule) for schedule in (COSINE, HALVE)}


def assert_same(found: Run, expected: Run) -> None:
    """Equal bit for bit: every weight and every loss."""
    assert found.steps == expected.steps
    assert found.losses == expected.losses
    state = expected.model.state_dict()
    assert found.model.state_dict().keys() == state.keys()
    for key, value in found.model.state_dict().items():
        assert torch.equal(value, state[key]), key


# What a run is


@pytest.mark.parametrize("schedule", [COSINE, HALVE], ids=lambda s: s.shape)
def test_train_is_plain_adam_on_l1(schedule, uninterrupted):
    """Written out without Accelerate: the same losses and the same weights."""
    model, losses = fresh_model().train(), []
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    samples = Patches(IMAGES, RECIPE, 0, 2 * STEPS)
    for step in range(STEPS):
        batch = [samples[2 * step], samples[2 * step + 1]]
        lr, coord, cell, target = (torch.stack(x) for x in zip(*batch, strict=True))
        optimizer.param_groups[0]["lr"] = schedule(step)
        loss = (model(lr, coord, cell) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    expected = uninterrupted[schedule.shape]
    assert losses == expected.losses
    for key, value in expected.model.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_run_tells_what_happened(uninterrupted):
    done = uninterrupted["cosine"]
    assert (done.steps, len(done.losses), done.interrupted) == (STEPS, STEPS, False)
    assert all(0 < loss < 1 for loss in done.losses)
    assert not done.model.training  # ready to use


def test_on_step_sees_every_step():
    watch = Stop()
    run(Schedule(steps=4), on_step=watch)
    assert watch.seen == [1, 2, 3, 4]


def test_seeds_matter(uninterrupted):
    assert run(Schedule(steps=2), seed=1).losses != run(Schedule(steps=2)).losses


@pytest.mark.parametrize("skip, factor", [(True, 0.98), (False, 0.4)])
def test_training_learns(skip, factor):
    """40 steps at x2 improve on bilinear (with skip), and on nothing (without) by far.

    Measured over four seeds: 0.95 to 0.962 and 0.28 to 0.31 of the error before.
    """
    images, recipe = Procedural(1), Recipe(4, 16, 128, scale_min=2, scale_max=2)
    probe = Patches(images, recipe, 9, 64)

    @torch.no_grad()
    def error(model) -> float:
        errors = []
        for lr, coord, cell, target in (probe[k] for k in range(0, 64, 4)):
            guess = model(lr[None], coord[None], cell[None])[0]
            errors.append((guess - target).abs().mean().item())
        return sum(errors) / len(errors)

    model = fresh_model(skip=skip)
    before = error(model)
    done = run(Schedule(steps=40, rate=2e-3, warmup=10), images, recipe, model)
    assert done.model is model  # trained in place
    assert error(model) < factor * before


def test_workers_change_nothing(uninterrupted):
    assert_same(run(workers=2), uninterrupted["cosine"])


def test_without_out_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(Schedule(steps=2), save_every=0)
    assert os.listdir(tmp_path) == []


# Stop and resume


@pytest.mark.parametrize("shape", ["cosine", "halve"])
@pytest.mark.parametrize("n", [1, 5, 8, 11, 14])
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path, uninterrupted, n, shape
):
    """Before and after the end of the warm-up, which takes 8 steps."""
    schedule = {"cosine": COSINE, "halve": HALVE}[shape]
    stopped = run(schedule, out=tmp_path, on_step=Stop(n))
    assert (stopped.interrupted, stopped.steps, len(stopped.losses)) == (True, n, n)
    assert os.listdir(tmp_path) == ["checkpoint.pt"]
    watch = Stop()
    resumed = run(schedule, out=tmp_path, resume=True, on_step=watch)
    assert watch.seen == list(range(n + 1, STEPS + 1))
    assert not resumed.interrupted
    assert_same(resumed, uninterrupted[shape])


def test_interrupted_many_times(tmp_path, uninterrupted):
    for n in (2, 3, 9, 14):
        run(out=tmp_path, resume=True, on_step=Stop(n))
    assert_same(run(out=tmp_path, resume=True), uninterrupted["cosine"])


def test_interrupted_before_the_first_step(tmp_path, uninterrupted):
    class Impatient(list):
        def __getitem__(self, index):
            raise KeyboardInterrupt

    stopped = run(images=Impatient(IMAGES), out=tmp_path)
    assert (stopped.interrupted, stopped.steps, stopped.losses) == (True, 0, [])
    assert_same(run(out=tmp_path, resume=True), uninterrupted["cosine"])


def test_interrupted_model_keeps_what_it_learned():
    """The model of a stopped run is that of a run with so many steps of the same."""
    model = fresh_model()
    with pytest.raises(KeyboardInterrupt):  # nothing was saved: no half run goes on
        run(model=model, on_step=Stop(7))
    assert not model.training
    start = fresh_model().state_dict()
    moved = [not torch.equal(v, start[k]) for k, v in model.state_dict().items()]
    assert all(moved)


@pytest.mark.parametrize("n", [1, 6])
def test_killed_run_resumes_from_its_last_checkpoint(tmp_path, uninterrupted, n):
    """Any other end than an interrupt saves nothing; what was saved is enough."""
    with pytest.raises(RuntimeError):
        run(out=tmp_path, save_every=0, on_step=Stop(n + 1, RuntimeError))
    watch = Stop()
    resumed = run(out=tmp_path, resume=True, on_step=watch)
    assert watch.seen[0] == n + 1
    assert_same(resumed, uninterrupted["cosine"])


def test_checkpoint_on_every_step_changes_nothing(tmp_path, uninterrupted):
    assert_same(run(out=tmp_path, save_every=0), uninterrupted["cosine"])
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_resume_without_checkpoint_starts(tmp_path, uninterrupted):
    folder = tmp_path / "new" / "folder"
    assert_same(run(out=folder, resume=True), uninterrupted["cosine"])
    assert_same(run(resume=True), uninterrupted["cosine"])


def test_without_resume_a_checkpoint_is_ignored(tmp_path, uninterrupted):
    run(out=tmp_path, on_step=Stop(9))
    assert_same(run(out=tmp_path), uninterrupted["cosine"])


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
    assert stopped.interrupted
    assert_same(run(out=tmp_path, resume=True), uninterrupted["cosine"])


@pytest.mark.parametrize("interrupt", [True, False])
def test_resuming_a_finished_run_has_nothing_to_do(tmp_path, uninterrupted, interrupt):
    """Also if Ctrl-C came after the last step."""
    run(out=tmp_path, on_step=Stop(STEPS if interrupt else None))
    watch = Stop()
    resumed = run(out=tmp_path, resume=True, on_step=watch)
    assert_same(resumed, uninterrupted["cosine"])
    assert watch.seen == []


OTHER_PLANS = {
    "seed": {"seed": 1},
    "rate": {"schedule": replace(COSINE, rate=1e-3)},
    "shape": {"schedule": replace(COSINE, shape="halve")},
    "warmup": {"schedule": replace(COSINE, warmup=9)},
    "steps": {"schedule": replace(COSINE, steps=STEPS + 1)},
    "recipe": {"recipe": replace(RECIPE, queries=33)},
    "images": {"images": IMAGES[:2]},
    "loss": {"schedule": replace(COSINE, loss="l2")},
    "average": {"schedule": replace(COSINE, average=0.5)},
}


@pytest.mark.parametrize("what", OTHER_PLANS)
def test_checkpoint_of_another_plan_is_not_resumed(tmp_path, what):
    run(**OTHER_PLANS[what], out=tmp_path, on_step=Stop(3))
    watch = Stop(2)
    run(out=tmp_path, resume=True, on_step=watch)
    assert watch.seen == [1, 2]


def test_checkpoint_of_another_model_is_not_resumed(tmp_path):
    run(model=fresh_model(hidden=(8,)), out=tmp_path, on_step=Stop(3))
    watch = Stop(2)
    run(out=tmp_path, resume=True, on_step=watch)
    assert watch.seen == [1, 2]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "another"])
def test_damaged_checkpoint_is_reported(tmp_path, damage):
    run(out=tmp_path, on_step=Stop(2))
    path = tmp_path / "checkpoint.pt"
    if damage == "another":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        content = {"cut": path.read_bytes()[:-500], "empty": b"", "text": b"hello"}
        path.write_bytes(content[damage])
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"checkpoint\.pt is not(.|\n)*delete it"):
        run(out=tmp_path, resume=True)
    assert path.read_bytes() == before


def test_damaged_checkpoint_is_no_reason_to_trust_it(tmp_path):
    """torch says to load it with weights_only=False, which may run its code."""
    (tmp_path / "checkpoint.pt").write_bytes(b"no")
    with pytest.raises(UserError) as caught:
        run(out=tmp_path, resume=True)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_precision_may_change_within_a_process():
    """A notebook trains one model in float32 and the next in bfloat16."""
    run(Schedule(steps=1))
    assert len(run(Schedule(steps=1), precision="bf16").losses) == 1


# Schedules


def test_cosine_warms_up_and_falls_to_zero():
    schedule = Schedule(steps=100, rate=0.01, warmup=20)
    for step in range(100):
        warm = (step + 1) / 20 if step < 20 else 1
        expected = 0.01 * warm * math.cos(math.pi / 2 * step / 100) ** 2
        assert schedule(step) == pytest.approx(expected, rel=1e-12)
    assert schedule(50) == pytest.approx(0.005)
    assert 0 < schedule(99) < 1e-5


def test_halve_halves_at_each_fifth():
    schedule = Schedule(steps=1000, rate=1e-4, shape="halve")
    expected = [1e-4 / 2 ** (step // 200) for step in range(1000)]
    assert [schedule(step) for step in range(1000)] == pytest.approx(expected)
    uneven = Schedule(steps=7, rate=1, shape="halve")
    assert [uneven(step) for step in range(7)] == [1, 1, 0.5, 0.25, 0.25, 0.125, 0.0625]


def test_restarts_fall_to_zero_thirty_times():
    schedule = Schedule(steps=1500, rate=4e-5, shape="restarts")
    period = [4e-5 * math.cos(math.pi / 2 * step / 50) ** 2 for step in range(50)]
    found = [schedule(step) for step in range(1500)]
    assert found == pytest.approx(30 * period, abs=1e-12)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"steps": 0}, "at least 1 step"),
        ({"steps": -5}, "at least 1 step"),
        ({"steps": 5, "rate": 0}, "rate above 0"),
        ({"steps": 5, "rate": -1e-3}, "rate above 0"),
        ({"steps": 5, "rate": math.nan}, "rate above 0"),
        ({"steps": 5, "shape": "cosin"}, "Did you mean 'cosine'"),
        ({"steps": 5, "shape": "stage"}, "Did you mean 'stages'"),
        ({"steps": 5, "loss": "l3"}, "unknown loss 'l3': choose from l1, l2"),
        ({"steps": 5, "average": 1}, r"average must lie in \[0, 1\), not 1"),
        ({"steps": 5, "average": -0.1}, r"average must lie in \[0, 1\), not -0.1"),
        ({"steps": 5, "average": math.nan}, "average must lie"),
    ],
)
def test_senseless_schedules_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        Schedule(**arguments)


def test_stages_take_a_fifth_for_the_last_third():
    """1 of 1.5 million steps at 1e-4, and the others at 2e-5; no warm-up."""
    schedule = Schedule(steps=1_500_000, rate=1e-4, shape="stages", warmup=0)
    rates = [schedule(step) for step in (0, 999_999, 1_000_000, 1_499_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 2e-5, 2e-5])
    uneven = Schedule(steps=7, rate=1, shape="stages")
    assert [uneven(step) for step in range(7)] == [1] * 5 + [0.2] * 2


def test_schedule_without_warmup():
    assert Schedule(steps=10, rate=0.5, warmup=0)(0) == 0.5


# Losses, running means, and whole pictures


def by_hand(model, samples, schedule, loss_of):
    """Plain Adam without Accelerate: the losses, and the weights after every step."""
    model, losses, weights = model.train(), [], []
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    for step in range(schedule.steps):
        pair = [samples[2 * step], samples[2 * step + 1]]
        batch = type(pair[0])(*(torch.stack(x) for x in zip(*pair, strict=True)))
        optimizer.param_groups[0]["lr"] = schedule(step)
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        state = model.state_dict()
        weights.append({key: value.clone() for key, value in state.items()})
    return losses, weights


def test_l2_is_the_mean_square():
    schedule = Schedule(steps=4, rate=2e-3, loss="l2")

    def square(model, batch):
        return (model(batch.lr, batch.coord, batch.cell) - batch.target).square().mean()

    losses, weights = by_hand(
        fresh_model(), Patches(IMAGES, RECIPE, 0, 8), schedule, square
    )
    found = run(schedule)
    assert found.losses == losses
    for key, value in found.model.state_dict().items():
        assert torch.equal(value, weights[-1][key]), key


PAIRS = PairRecipe(batch=2, patch=4, scale_max=2.5, noise=20, fixed=0.5)
DIGITS = Characters(20, seed=4)
AVERAGED = Schedule(steps=8, rate=2e-3, shape="stages", average=0.6)


def fresh_idm(**options):
    torch.manual_seed(5)
    return build("idm", "tiny", **options)


def run_idm(schedule=AVERAGED, images=DIGITS, **more) -> Run:
    return train(fresh_idm(), images, PAIRS, schedule, device="cpu", **more)


@pytest.fixture(scope="module")
def averaged() -> Run:
    """An IDM with a running mean, from beginning to end, through both stages."""
    return run_idm()


@pytest.mark.parametrize("options", [{}, {"target": "v"}, {"condition": "concat-edsr"}])
def test_training_an_idm_is_plain_adam_on_what_it_is_asked(options):
    schedule, model = Schedule(steps=4, rate=2e-3), fresh_idm(**options)
    samples = Pairs(DIGITS, PAIRS, 0, 8)
    losses, weights = by_hand(
        model, samples, schedule, lambda m, batch: m.residual(m, batch).abs().mean()
    )
    found = train(fresh_idm(**options), DIGITS, PAIRS, schedule, device="cpu")
    assert found.losses == losses
    for key, value in found.model.state_dict().items():
        assert torch.equal(value, weights[-1][key]), key


def test_the_running_mean_is_that_of_all_weights_so_far(averaged):
    """It forgets a step at 1 of 11, 2 of 12 ... of its weight, and at last at 0.6."""
    mean = {key: value.clone() for key, value in fresh_idm().state_dict().items()}
    losses, weights = by_hand(
        fresh_idm(),
        Pairs(DIGITS, PAIRS, 0, 16),
        AVERAGED,
        lambda m, batch: m.residual(m, batch).abs().mean(),
    )
    for step, state in enumerate(weights, start=1):
        decay = min(0.6, step / (step + 10))
        for key, value in state.items():
            mean[key] = decay * mean[key] + (1 - decay) * value
    assert averaged.losses == losses  # training itself does not hear of the mean
    for key, value in averaged.model.state_dict().items():
        torch.testing.assert_close(value, mean[key], rtol=0, atol=1e-6)
    last = weights[-1]
    assert not all(torch.equal(mean[key], last[key]) for key in mean)


def test_the_mean_never_forgets_more_slowly_than_its_decay():
    """At 0.05, after the first step already: 19 parts of 20 are new."""
    schedule = Schedule(steps=3, rate=2e-3, shape="stages", average=0.05)
    seen = []
    model = fresh_model()

    def keep(step, losses):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})

    start = {k: v.clone() for k, v in model.state_dict().items()}
    found = run(schedule, model=model, on_step=keep)
    for key, value in found.model.state_dict().items():
        mean = start[key]
        for state in seen:
            mean = 0.05 * mean + 0.95 * state[key]
        torch.testing.assert_close(value, mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_an_averaged_run_resumes_bit_for_bit(tmp_path, averaged, n):
    """In the first stage of data and rate, at its end, and in the second."""
    stopped = run_idm(out=tmp_path, on_step=Stop(n))
    assert (stopped.interrupted, stopped.steps) == (True, n)
    watch = Stop()
    resumed = run_idm(out=tmp_path, resume=True, on_step=watch)
    assert watch.seen == list(range(n + 1, AVERAGED.steps + 1))
    assert_same(resumed, averaged)
    assert_same(run_idm(out=tmp_path, resume=True), averaged)  # nothing left to do


def test_a_stopped_run_has_the_mean_too(tmp_path):
    """What a learner gets who stops early: the mean, not the latest weights."""
    stopped = run_idm(out=tmp_path, on_step=Stop(3))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for key, value in stopped.model.state_dict().items():
        assert torch.equal(value, state["mean"][key])
    assert any(
        not torch.equal(state["mean"][key], value)
        for key, value in state["model"].items()
    )


def test_without_an_average_no_mean_is_kept(tmp_path):
    done = run_idm(Schedule(steps=1), out=tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["mean"] == {}
    for key, value in done.model.state_dict().items():
        assert torch.equal(value, state["model"][key])


def test_workers_change_nothing_about_pairs(averaged):
    assert_same(run_idm(workers=2), averaged)


@torch.no_grad()
def error_of(model, samples) -> float:
    """The mean of what training makes small."""
    pairs = [samples[k] for k in range(len(samples))]
    batch = Pair(*(torch.stack(x) for x in zip(*pairs, strict=True)))
    return model.residual(model, batch).abs().mean().item()


def test_an_idm_learns():
    """Forty steps at one size. Measured over four seeds: 0.47 to 0.51."""
    recipe = PairRecipe(batch=4, patch=4, scale_max=3, noise=20, fixed=1)
    probe, model = Pairs(DIGITS, recipe, 9, 24), fresh_idm()
    before = error_of(model, probe)
    schedule = Schedule(steps=40, rate=3e-3, average=0.9)
    train(model, DIGITS, recipe, schedule, device="cpu")
    assert error_of(model, probe) < 0.6 * before


# Devices and seeds


def test_devices_that_are_there():
    assert pick_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert pick_device("auto").type == expected


@pytest.mark.parametrize(
    "name, words",
    [
        ("gpu", "unknown device 'gpu'"),
        ("", "unknown device ''"),
        ("cud", "Did you mean 'cuda'"),
        ("cpu0", "Did you mean 'cpu'"),
        ("auto:1", "is not there"),
    ],
)
def test_unknown_devices(name, words):
    with pytest.raises(UserError, match=words):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_absent_devices(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"device '{name}' is not there"):
        pick_device(name)
    with pytest.raises(UserError, match="is not there"):
        train(fresh_model(), IMAGES, RECIPE, COSINE, device=name)


@pytest.mark.parametrize("name", ["cpu:x", "cpu:"])
def test_malformed_devices(name):
    with pytest.raises(UserError):
        pick_device(name)


def test_set_seed_repeats():
    set_seed(7)
    first = torch.rand(3)
    set_seed(7)
    assert torch.equal(torch.rand(3), first)
    set_seed(8)
    assert not torch.equal(torch.rand(3), first)


@pytest.mark.parametrize("seed", [-1, 1.0, "0", None, True])
def test_seeds_are_whole_numbers(seed):
    with pytest.raises(UserError, match="whole number of 0 or more"):
        set_seed(seed)


def test_seed_of_more_than_64_bits():
    with pytest.raises(UserError):
        set_seed(2**70)
