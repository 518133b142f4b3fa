"""Notebook 6, IDM: its diagram, its widget, its exercises."""

import math
from collections.abc import Generator

import ipywidgets as ipw
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from asr_course import plots
from asr_course.coords import output_size
from asr_course.diffusion import noise_source, posterior, times
from asr_course.images import to_tensor
from asr_course.lessons import base, drawing
from asr_course.lessons.base import Exercise, checker, random, require, require_close
from asr_course.picture import LatestWins
from asr_course.widgets import STEPS

TrainingCurve = base.TrainingCurve


def idea():
    """A chain from noise to a picture, and one depth of the U-Net that walks it."""
    figure, (left, right) = drawing.two_plots(10.6, 4.3, 1.6)
    lr, own, up = plots.COLOURS[:3]
    boxes = {
        "T": (0, 0, "noise $y_T$", own),
        "t": (0, -1.5, "noisy\npicture $y_t$", own),
        "0": (0, -3, "picture $y_0$", own),
        "U": (2.4, -1.5, "U-Net, told\nthe noise level", up),
        "x": (2.4, -3, "low-resolution\npicture $x$, as $f_0$", lr),
    }
    arrows = [("T", "t"), ("t", "0"), ("t", "U"), ("x", "U")]
    drawing.diagram(left, boxes, [*arrows, ("U", (0.1, -0.75)), ("U", (0.1, -2.25))])
    boxes = {
        "f": (0, 1.5, "$f_{i}$", lr),
        "u": (0, 0, "$u_{i}$", own),
        "s": (0, -1.5, "scale $s$", "0.6"),
        "mix": (2.1, 0, "$a_i f_i + b_i u_i$", own),
        "MLP": (4.4, 0, "implicit MLP,\nany size", up),
        "next": (6.5, 0, "$u_{i-1}$", own),
    }
    arrows = [("f", "mix"), ("u", "mix"), ("s", "mix"), ("mix", "MLP"), ("MLP", "next")]
    notes = [
        (1.4, -1.2, "$a_i, b_i$"),
        (0, 2.2, "LR features,\nof the same size"),
        (0, 0.55, "decoder of the U-Net"),
        (4.4, -1.5, "offsets to the\nnearest feature"),
        (6.5, 0.7, "size of the\nskip connection"),
    ]
    drawing.diagram(right, boxes, [*arrows, ((4.4, -1.2), "MLP")], notes)
    return figure


class DenoisingPlayer(LatestWins, base.Explorer):
    """A sampler's way from noise to pictures, step by step.

    model: an IDM. image: (H, W, 3) uint8, its low-resolution input. The slider "step"
    runs through the chain. A new seed or scale draws a new one; `told` is the scale
    that the model is told, where it shall differ from the true one.
    """

    stills = ()  # y and prediction, by step
    hint = "Above: noisy pictures. Below: what the network predicts from them.<br>"
    hint += "Told ×: the scale that the network is told; it follows the true one."
    examples = tuple((step, 96) for step in (0, 5, 10, STEPS))

    def __init__(self, model, image: np.ndarray, samples: int = 4, scale: float = 8.0):
        self.model, self.image, self.samples = model.eval(), image, samples
        self.step = ipw.IntSlider(STEPS, 0, STEPS, description="step")
        self.play = ipw.Play(value=STEPS, max=STEPS, interval=150, repeat=True)
        ipw.jslink((self.play, "value"), (self.step, "value"))
        self.step.tooltip, self.play.tooltip = (
            "0 is noise",
            "play or pause; stop; repeat",
        )
        look = {"value": scale, "min": 1, "max": 12, "step": 0.1}
        self.scale = ipw.FloatSlider(**look, description="scale ×", tooltip="of output")
        self.told = ipw.FloatSlider(**look, description="told ×", tooltip="to network")
        look = {"max": 10_000, "tooltip": "the next pictures have the next seeds"}
        self.seed = ipw.BoundedIntText(0, description="first seed", **look)
        super().__init__([self.step, self.play, self.scale, self.told, self.seed])
        self.step.observe(lambda change: self.draw(), "value")
        self.scale.observe(lambda change: self.tell_truth(), "value")
        for control in (self.seed, self.told):
            control.observe(lambda change: self.request(), "value")
        self.request(now=True)

    def tell_truth(self) -> None:
        """Another scale: the network is told so, and one new chain is drawn."""
        if self.told.value == self.scale.value:
            self.request()
        self.told.value = self.scale.value

    def steps(self, watched: bool) -> Generator[str, None, tuple]:
        """The chain that the controls ask for, and its first seed."""
        size = output_size(self.image.shape[:2], self.scale.value)
        lr = to_tensor(self.image).repeat(self.samples, 1, 1, 1)
        lr = lr.to(next(self.model.parameters()).device)
        seed, told = self.seed.value, self.told.value
        noise = noise_source(lr, size, seed)()
        stills = [(noise, torch.ones_like(noise))]
        for step in self.model.chain(lr, size, STEPS, seed, scale=told):
            stills.append((step.y, step.y0))
            yield f"sampling … {step.done}/{STEPS}"
        return stills, seed, f"the network is told ×{told:g}"

    def _show(self, view: tuple) -> None:
        self.stills, self.first_seed, self.note = view
        self.draw()

    def chosen(self) -> tuple[int]:
        return (self.step.value,)

    def draw(self) -> None:
        """Show the chosen step of the present film."""
        if self.stills and not self.error:
            super().draw()

    def render(self, number: int, side: int = 96) -> tuple[Image.Image, str]:
        """The input, and for every sample y above and the predicted picture below."""
        y, predicted = (0.5 + 0.5 * x for x in self.stills[number])
        names = [f"seed {self.first_seed + k}" for k in range(len(y))]
        titles = ["input", *names, "", *["predicted" * (number > 0)] * len(y)]
        pictures = [self.image, *y, np.full_like(self.image, 255), *predicted]
        sheet = plots.gallery(pictures, titles, side, columns=len(y) + 1)
        gamma = self.model.gamma[times(self.model.options.steps, STEPS)[number]]
        sizes = " → ".join(f"{h}×{w}" for h, w in (self.image.shape[:2], y.shape[2:]))
        words = f"step {number} of {STEPS}, share of picture √γ = {gamma.sqrt():.2f}"
        return sheet, f"{sizes}, {self.note}\n{words}"


def price(K: int) -> float:
    """Decibels by which the mean of K honest draws is worse than the best answer."""
    return 10 * math.log10(1 + 1 / K)


def try_price(f) -> None:
    require(isinstance(f(2), float), "price(K) is one number, a float")
    one = f"one draw has twice the error of the mean: 3.01 dB, yours is {f(1):.2f}"
    require(abs(f(1) - 10 * math.log10(2)) < 0.01, one)
    require(abs(f(10**6)) < 0.01, "the mean of very many draws is the best answer: 0")
    for K in (2, 4, 8):  # any p will do: here a normal one with mean 0
        truth, draws = random(0, 40_000), random(1, K, 40_000)
        ratio = (draws.mean(0) - truth).square().mean() / truth.square().mean()
        words = f"40,000 means of {K} draws cost {10 * ratio.log10():.2f} dB"
        require(abs(f(K) - 10 * ratio.log10()) < 0.1, f"{words}, yours {f(K):.2f}")


def mixed_step(y, y0, now: float, then: float, sigma: float, fresh: Tensor) -> Tensor:
    """From gamma `now` to gamma `then`: a part of the old noise, and sigma of fresh."""
    noise = (y - now**0.5 * y0) / (1 - now) ** 0.5
    return then**0.5 * y0 + (1 - then - sigma**2) ** 0.5 * noise + sigma * fresh


def try_mixed_step(f) -> None:
    y0, noise, fresh = (random(seed, 3, 40, 50) for seed in range(3))
    for now, then in ((0.04, 0.5), (0.36, 0.8)):
        y, most = now**0.5 * y0 + (1 - now) ** 0.5 * noise, (1 - then) ** 0.5
        old = then**0.5 * y0 + most * noise
        words = "with sigma 0 it is DDIM's step (3): all of the old noise stays, weaker"
        require_close(f(y, y0, now, then, 0.0, fresh), old, words)
        new = then**0.5 * y0 + most * fresh
        words = "with a sigma of nearly sqrt(1 - then) hardly any old noise stays"
        require_close(f(y, y0, now, then, 0.9999 * most, fresh), new, words, 0.06)
        variance = (f(y, y0, now, then, 0.6 * most, fresh) - then**0.5 * y0).var()
        words = f"the noise at `then` has variance {1 - then:.2f}, not {variance:.2f}"
        require(abs(variance / (1 - then) - 1) < 0.04, words)
        mean, variance = posterior(y, y0, now, then)
        got = f(y, y0, now, then, variance**0.5, fresh)
        words = "with sigma^2 the variance in (4) it is the ancestral step"
        require_close(got, mean + variance**0.5 * fresh, words)


def ramp(first: nn.Linear, second: nn.Linear) -> Tensor:
    """Rise of every channel per feature, down and to the right: (C, 2)."""
    return 2 * second.weight @ first.weight[:, -2:]


def try_ramp(f) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(5 + 2, 8), nn.Linear(8, 4)
    got, h = f(first, second).detach(), random(1, 5)
    require(got.shape == (4, 2), f"four channels: (4, 2), yours {tuple(got.shape)}")

    def at(down: float, right: float) -> Tensor:
        with torch.no_grad():
            place = 2 * torch.tensor([down, right])  # the offsets, 2 (r - rho)
            return second(first(torch.cat([h, place])))

    for axis, name in enumerate(("down", "to the right")):
        step = [0.0, 0.0]
        step[axis] = 0.5  # half a feature, from the centre to the border of a cell
        rise = at(*step) - at(0, 0)
        words = f"half a feature {name}, channel 0 rises by {rise[0]:.3f}"
        words = f"{words}; half of your slope is {got[0, axis] / 2:.3f}"
        require_close(got[:, axis] / 2, rise, words)


EXERCISES = {
    "idm.1": Exercise(price, try_price),
    "idm.2": Exercise(mixed_step, try_mixed_step),
    "idm.3": Exercise(ramp, try_ramp),
}
check = checker(EXERCISES)
