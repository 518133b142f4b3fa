"""Diffusion: pictures to noise in closed form, and back step by step.

    y_t = sqrt(gamma_t) y_0 + sqrt(1 - gamma_t) eps            (IDM, Eq. 2)

y_0 is a picture in [-1, 1], eps white noise; gamma_t falls from 1 to nearly 0, and its
root is called the level. Ho, Jain and Abbeel (DDPM), NeurIPS 2020; Song, Meng and Ermon
(DDIM), ICLR 2021; the level as an input of the network: Saharia et al. (SR3), 2022.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from asr_course.errors import UserError, choose

Estimate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def signal(shape: str = "linear", steps: int = 2000, first=1e-6, last=1e-2) -> Tensor:
    """gamma_0, ..., gamma_T for T steps: (T + 1,) float64, the first of them 1.

    "linear": the variances beta_t grow evenly from `first` to `last`, as in IDM's
    released code. "cosine": Nichol and Dhariwal, ICML 2021, Eq. 17.
    """
    choose("noise schedule", shape, ("linear", "cosine"))
    if shape == "linear":
        beta = torch.linspace(first, last, steps, dtype=torch.float64)
    else:
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        gamma = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2
        beta = (1 - gamma[1:] / gamma[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])


def q_sample(y0: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """The picture y0 at a noise level, in one step (IDM, Eq. 2); shapes broadcast."""
    return level * y0 + (1 - level**2).sqrt() * noise


def to_target(target: str, y0: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """What the network predicts: "noise" (IDM, Eq. 10), "x0", the picture, or
    "v" = level noise - sqrt(1 - level^2) y0 (Salimans and Ho, ICLR 2022)."""
    if target == "noise":
        return noise
    if target == "x0":
        return y0
    return level * noise - (1 - level**2).sqrt() * y0


def from_target(
    target: str, output: Tensor, y: Tensor, level: Tensor
) -> tuple[Tensor, Tensor]:
    """The picture and the noise in y, from the network's output: q_sample solved."""
    noise_level = (1 - level**2).sqrt()
    if target == "noise":
        return (y - noise_level * output) / level, output
    if target == "x0":
        return output, (y - level * output) / noise_level
    return level * y - noise_level * output, noise_level * y + level * output


def posterior(y: Tensor, y0: Tensor, now: float, then: float) -> tuple[Tensor, float]:
    """Mean and variance of a less noisy y, given this one and the picture.

    now, then: gamma before and after the step (DDPM's Eq. 6 and 7 for t and t - 1).
    """
    alpha = now / then
    weight = then**0.5 * (1 - alpha) / (1 - now)
    mean = weight * y0 + alpha**0.5 * (1 - then) / (1 - now) * y
    return mean, (1 - alpha) * (1 - then) / (1 - now)


def noise_source(lr: Tensor, size, seed: int) -> Callable[[], Tensor]:
    """A function that draws white noise (B, 3, *size), picture b of `lr` from a
    generator of its own with seed `seed` + b."""
    draws = [torch.Generator().manual_seed(seed + b) for b in range(len(lr))]

    def fresh() -> Tensor:
        return torch.stack([torch.randn(3, *size, generator=d) for d in draws]).to(lr)

    return fresh


class Step(NamedTuple):
    """Where a sampler is after one step."""

    done: int  # steps so far
    y: Tensor  # (B, 3, h, w), as noisy as the schedule says
    y0: Tensor  # (B, 3, h, w), the network's present estimate of the picture


def times(total: int, steps: int) -> list[int]:
    """`steps` + 1 times from total down to 0, evenly spread."""
    if not isinstance(steps, int) or not 1 <= steps <= total:
        raise UserError(f"steps: a whole number from 1 to {total}, not {steps!r}")
    return [round(total * (1 - k / steps)) for k in range(steps + 1)]


def denoise(
    estimate: Estimate,
    y: Tensor,
    gamma: Tensor,
    at: Sequence[int],
    fresh: Callable[[], Tensor] | None = None,
    clip: bool = True,
) -> Iterator[Step]:
    """From noise y to a picture; yields a `Step` after each step.

    estimate: (y, level) to the picture and the noise in y. at: falling times, see
    `times`. fresh: draws noise like y, for DDPM's ancestral sampler; without it, DDIM.
    clip: keep the estimated picture within [-1, 1].
    """
    gamma = gamma.tolist()
    for done, (t, s) in enumerate(pairwise(at), start=1):
        level = y.new_tensor(gamma[t] ** 0.5)
        y0, noise = estimate(y, level)
        if clip:
            y0 = y0.clamp(-1, 1)
            noise = (y - level * y0) / (1 - level**2).sqrt()
        if fresh is None:
            y = q_sample(y0, y.new_tensor(gamma[s] ** 0.5), noise)
        else:
            y, variance = posterior(y, y0, gamma[t], gamma[s])
            if s > 0:
                y = y + variance**0.5 * fresh()
        yield Step(done, y, y0)
