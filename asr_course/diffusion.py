"""Diffusion: pictures to noise in closed form, and back step by step.

Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020; Song,
Meng and Ermon, "Denoising Diffusion Implicit Models" (DDIM), ICLR 2021; the noise
level as the network's input is SR3's: Saharia et al., TPAMI 2022.

    y_t = sqrt(gamma_t) y_0 + sqrt(1 - gamma_t) eps            (IDM, Eq. 2)

gamma_t falls from gamma_0 = 1, the picture, to gamma_T, nearly nothing of it; y_0 is
in [-1, 1] and eps is white noise. sqrt(gamma_t) is called the level: the share of
picture in y_t. Nothing here knows a network; `estimate` stands for one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr_course.errors import UserError, choose

Estimate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def signal(shape: str = "linear", steps: int = 2000, first=1e-6, last=1e-2) -> Tensor:
    """gamma_0, ..., gamma_T for T steps: (T + 1,) float64, the first of them 1.

    "linear": the variances beta_t that a step adds grow evenly from `first` to `last`,
    as in IDM's released code, and gamma_t = prod (1 - beta_i) (the paper's Eq. 2).
    "cosine": gamma_t follows half a cosine and noise comes more evenly (Nichol and
    Dhariwal, ICML 2021, Eq. 17).
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
    """What the network is asked for: "noise" (IDM, Eq. 10), "x0", the picture, or
    "v" = level noise - sqrt(1 - level^2) y0 (Salimans and Ho, ICLR 2022)."""
    if target == "noise":
        return noise
    if target == "x0":
        return y0
    return level * noise - (1 - level**2).sqrt() * y0


def from_target(
    target: str, answer: Tensor, y: Tensor, level: Tensor
) -> tuple[Tensor, Tensor]:
    """The picture and the noise in y, from the network's answer: q_sample solved."""
    rest = (1 - level**2).sqrt()
    if target == "noise":
        return (y - rest * answer) / level, answer
    if target == "x0":
        return answer, (y - level * answer) / rest
    return level * y - rest * answer, rest * y + level * answer


def posterior(y: Tensor, y0: Tensor, now: Tensor, then: Tensor) -> tuple[Tensor, float]:
    """Mean and variance of a less noisy y, given this one and the picture.

    now, then: gamma before and after the step. With then = gamma_{t-1} these are the
    DDPM's (its Eq. 6 and 7); a step may also skip some.
    """
    alpha = now / then
    share = then.sqrt() * (1 - alpha) / (1 - now)
    mean = share * y0 + alpha.sqrt() * (1 - then) / (1 - now) * y
    return mean, (1 - alpha) * (1 - then) / (1 - now)


class Step(NamedTuple):
    """Where a sampler is after one step."""

    done: int
    y: Tensor  # (B, 3, h, w), as noisy as the schedule says
    y0: Tensor  # (B, 3, h, w), the picture that the network believes in


def times(total: int, steps: int) -> list[int]:
    """`steps` + 1 times from total down to 0, evenly spread."""
    if not isinstance(steps, int) or not 1 <= steps <= total:
        raise UserError(
            f"steps must be a whole number from 1 to {total}, not {steps!r}"
        )
    return [round(total * (1 - k / steps)) for k in range(steps + 1)]


def denoise(
    estimate: Estimate,
    y: Tensor,
    gamma: Tensor,
    at: Sequence[int],
    fresh: Callable[[], Tensor] | None = None,
    clip: bool = True,
) -> Iterator[Step]:
    """From noise y to a picture, one yielded `Step` after the other.

    estimate: (y, level) to the picture and the noise in y. at: falling times, for
    example times(2000, 25). fresh: draws noise like y; with it this is the ancestral
    sampler of DDPM, without it DDIM, which adds none. clip: keep the estimated
    picture within [-1, 1].
    """
    gamma = gamma.to(torch.float32 if y.device.type == "mps" else torch.float64)
    gamma = gamma.to(y.device)
    for done, (t, s) in enumerate(zip(at[:-1], at[1:], strict=True), start=1):
        level = gamma[t].sqrt().to(y.dtype)
        y0, noise = estimate(y, level)
        if clip:
            y0 = y0.clamp(-1, 1)
            noise = (y - level * y0) / (1 - level**2).sqrt()
        if fresh is None:
            y = q_sample(y0, gamma[s].sqrt().to(y.dtype), noise)
        else:
            mean, variance = posterior(y, y0, gamma[t], gamma[s])
            y = mean.to(y.dtype)
            if s > 0:
                y = y + variance.sqrt().to(y.dtype) * fresh()
        yield Step(done, y, y0)
