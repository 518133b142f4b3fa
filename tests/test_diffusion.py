"""Diffusion: schedules, targets and samplers, against their mathematics."""

import numpy as np
import pytest
import torch
from helpers import golden_tensor, near

from asr_course.diffusion import (
    denoise,
    from_target,
    noise_source,
    posterior,
    q_sample,
    signal,
    times,
    to_target,
)
from asr_course.errors import UserError

AT = [0, 1, 2, 500, 1000, 1500, 1998, 1999]  # of 2,000 steps


@pytest.mark.parametrize("steps, at", [(2000, AT), (10, list(range(10)))])
def test_the_linear_schedule_equals_the_official_one(steps, at):
    def official(name):
        return golden_tensor("idm", f"sched/T{steps}/{name}").double()

    gamma, zero, one = signal("linear", steps), torch.zeros(1), torch.ones(1)
    near(gamma[-1].sqrt(), official("sqrt_alphas_cumprod_prev")[-1], 1e-6)
    for k, t in enumerate(at):
        now, then = gamma[t + 1], gamma[t]
        near(now, official("alphas_cumprod")[k], 1e-6)
        near(1 - now / then, official("betas")[k], 1e-6)
        (y0_share,), variance = posterior(zero, one, now, then)
        (y_share,), _ = posterior(one, zero, now, then)
        near(y0_share, official("posterior_mean_coef1")[k], 1e-6)
        near(y_share, official("posterior_mean_coef2")[k], 1e-6)
        near(variance, official("posterior_variance")[k], 1e-6)


def test_the_cosine_schedule_equals_the_official_one():
    gamma = signal("cosine", 10)
    near(1 - gamma[1:] / gamma[:-1], golden_tensor("idm", "sched/beta_cosine_T10"))


def test_noisy_pictures_equal_the_official_ones():
    level = torch.tensor([0.8, 0.3])[:, None, None, None]
    y0, noise = (golden_tensor("idm", f"in/{name}") for name in ("gt", "noise"))
    near(q_sample(y0, level, noise), golden_tensor("idm", "out/q_sample"), 1e-6)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_schedules_fall_from_the_picture(shape, steps):
    gamma = signal(shape, steps)
    assert gamma.shape == (steps + 1,) and gamma.dtype == torch.float64
    assert gamma[0] == 1 and gamma[-1] > 0
    assert (gamma.diff() < 0).all()


def test_a_schedule_that_is_not_known():
    with pytest.raises(UserError, match="cosine"):
        signal("cosin")


@pytest.mark.parametrize("target", ["noise", "x0", "v"])
@pytest.mark.parametrize("level", [0.02, 0.5, 0.99])
def test_from_target_inverts_to_target(target, level):
    y0, noise, level = *torch.randn(2, 3, 8, 9).double(), torch.tensor(level).double()
    y = q_sample(y0, level, noise)
    output = to_target(target, y0, noise, level)
    solved = from_target(target, output, y, level)
    near(torch.stack(solved), torch.stack([y0, noise]), 1e-10)


def test_v_is_the_direction_of_the_circle():
    """y = cos(a) y0 + sin(a) eps has the derivative v, and both have one length."""
    y0, noise = torch.randn(2, 5).double()
    angle = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def at(angle):
        return angle.cos() * y0 + angle.sin() * noise

    slope = torch.autograd.functional.jacobian(at, angle)
    near(slope, to_target("v", y0, noise, angle.detach().cos()), 1e-10)


@pytest.mark.parametrize("total, steps", [(10, 10), (1000, 25), (7, 3), (9, 8), (5, 1)])
def test_times_fall_evenly_to_zero(total, steps):
    at = times(total, steps)
    assert (at[0], at[-1], len(at)) == (total, 0, steps + 1)
    gaps = -np.diff(at)
    assert gaps.min() >= 1 and np.abs(gaps - total / steps).max() <= 1


@pytest.mark.parametrize("steps", [0, 1001, 2.5])
def test_numbers_of_steps_that_cannot_be(steps):
    with pytest.raises(UserError, match="from 1 to 1000"):
        times(1000, steps)


def of_gaussian(mean: float, std: float):
    """The estimate of a perfect network for pictures of white Gaussian noise."""

    def estimate(y, level):
        total = level**2 * std**2 + 1 - level**2
        y0 = mean + level * std**2 / total * (y - level * mean)
        return y0, (y - level * y0) / (1 - level**2).sqrt()

    return estimate


@pytest.mark.parametrize("ancestral", [False, True])
@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_gaussian_pictures_come_out_with_their_own_variance(shape, ancestral):
    gamma, y = signal(shape, 500, last=0.04), torch.randn(1, 3, 100, 100)
    fresh = (lambda: torch.randn(y.shape)) if ancestral else None
    estimate, at = of_gaussian(0.3, 0.4), times(500, 500)
    *_, last = denoise(estimate, y, gamma, at, fresh, clip=False)
    assert last.y.mean().item() == pytest.approx(0.3, abs=0.01)
    assert last.y.std().item() == pytest.approx(0.4, rel=0.03)


def test_clipping_keeps_estimates_in_range_and_their_noise_consistent():
    gamma, y = signal("cosine", 100), torch.randn(1, 3, 9, 9)
    for step in denoise(of_gaussian(0, 5), y, gamma, times(100, 9)):
        assert step.y0.abs().max() <= 1
    assert step.y.abs().max() <= 1
    near(step.y, step.y0, 1e-6)


def test_noise_is_white_and_another_one_for_every_seed_and_step():
    lr = torch.rand(3, 3, 4, 5)
    fresh = noise_source(lr, (80, 90), seed=2)
    first, second = fresh(), fresh()
    alone = noise_source(lr[:1], (80, 90), seed=3)
    assert torch.equal(first[1], alone()[0]) and torch.equal(second[1], alone()[0])
    for x in (first, second):
        assert x.mean().abs().item() < 0.02
        assert x.std().item() == pytest.approx(1, abs=0.02)
    many = torch.stack([first[0], first[1], second[0]]).flatten(1)
    assert (torch.corrcoef(many) - torch.eye(3)).abs().max() < 0.03
