"""Notebook 6, IDM: its diagram, its widget, its exercises."""

from collections.abc import Generator

import ipywidgets as ipw
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from asr_course import plots
from asr_course.coords import nearest, output_size, pixel_centres, to_position
from asr_course.diffusion import noise_source, q_sample, times
from asr_course.images import to_tensor
from asr_course.layers import look_up
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
    examples = tuple((step, 64) for step in (0, 5, 10, 15, 20, STEPS))

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
        titles = ["input", *names, "", *["predicted"] * len(y)]
        pictures = [self.image, *y, np.full_like(self.image, 255), *predicted]
        sheet = plots.gallery(pictures, titles, side, columns=len(y) + 1)
        gamma = self.model.gamma[times(self.model.options.steps, STEPS)[number]]
        sizes = " → ".join(f"{h}×{w}" for h, w in (self.image.shape[:2], y.shape[2:]))
        words = f"step {number} of {STEPS}, share of picture √γ = {gamma.sqrt():.2f}"
        return sheet, f"{sizes}, {self.note}\n{words}"


def noisy(y0: Tensor, level: float, noise: Tensor) -> Tensor:
    """The picture at a noise level between 0, all noise, and 1, none."""
    return q_sample(y0, torch.as_tensor(level), noise)


def noise_case() -> tuple[Tensor, Tensor]:
    """A picture and noise, (3, 40, 50) each, both of variance one."""
    y0 = random(0, 3, 40, 50)
    return y0 / y0.std(), random(1, 3, 40, 50)


def try_noisy(f) -> None:
    y0, noise = noise_case()
    require_close(f(y0, 1.0, noise), y0, "at level 1 nothing but the picture is left")
    require_close(f(y0, 0.0, noise), noise, "at level 0 nothing but noise is left")
    for level in (0.3, 0.6, 0.8):
        variance = f(y0, level, noise).var().item()
        require(abs(variance - 1) < 0.05, f"the variance stays 1, not {variance:.2f}")
    share = (f(y0, 0.6, noise) * y0).mean() / y0.square().mean()
    require(abs(share - 0.6) < 0.05, f"the picture's share is 0.6, not {share:.2f}")


def ddim_step(y: Tensor, y0: Tensor, now: float, then: float) -> Tensor:
    """From level `now` to level `then`, along the line through y0."""
    noise = (y - now * y0) / (1 - now**2) ** 0.5
    return then * y0 + (1 - then**2) ** 0.5 * noise


def try_ddim_step(f) -> None:
    y0, y = noise_case()
    same = f(y, y0, 0.5, 0.5)
    require_close(same, y, "a step from a level to the same level changes nothing")
    require_close(f(y, y0, 0.3, 1.0), y0, "a step to level 1 ends at the picture y0")
    for now, then in ((0.2, 0.7), (0.6, 0.9)):
        got = f(noisy(y0, now, y), y0, now, then)
        require_close(got, noisy(y0, then, y), "keep the noise that is in y, weaker")


def implicit_up(h: Tensor, size: tuple[int, int], mlp) -> Tensor:
    """A feature map (B, C, h, w) at another size: (B, size[0], size[1], D)."""
    index, offset = [], []
    for pixels, cells in zip(size, h.shape[2:], strict=True):
        position = to_position(pixel_centres(pixels), cells)
        index.append(nearest(position, cells))
        offset.append(2 * (position - index[-1]))
    z = look_up(h.movedim(1, -1), index[0][None, :, None], index[1][None, None])
    rows, cols = torch.meshgrid(*offset, indexing="ij")
    offsets = torch.stack([rows, cols], dim=-1).expand(len(h), *size, 2)
    return mlp(torch.cat([z, offsets], dim=-1))


def try_implicit_up(f) -> None:
    h = random(0, 2, 4, 3, 5)
    for size in ((6, 10), (7, 9), (3, 5), (20, 8)):
        got, words = f(h, size, lambda x: x), f"{size} need four features, two offsets"
        require(got.shape == (2, *size, 6), f"{words}: yours is {tuple(got.shape)}")
    got = f(h, (6, 10), lambda x: x[..., :4])
    twice = h.repeat_interleave(2, 2).repeat_interleave(2, 3).movedim(1, -1)
    require_close(got, twice, "at twice the size a feature serves 2 × 2 pixels")
    largest = f(h, (7, 9), lambda x: x[..., 4:]).abs().max()
    require(largest <= 1 + 1e-4, f"offsets lie in [-1, 1], yours reach {largest:.2f}")
    got = f(h[:, :, :2, :2], (6, 4), lambda x: x[..., 4:])[0]
    rows, cols = torch.tensor([-2 / 3, 0, 2 / 3]).repeat(2), torch.tensor([-0.5, 0.5])
    require_close(got[:, 0, 0], rows, "at ×3 row offsets, the first, are -2/3, 0, 2/3")
    require_close(got[0, :, 1], cols.repeat(2), "at ×2 column offsets are -1/2, 1/2")


EXERCISES = {
    "idm.1": Exercise(noisy, try_noisy),
    "idm.2": Exercise(ddim_step, try_ddim_step),
    "idm.3": Exercise(implicit_up, try_implicit_up),
}
check = checker(EXERCISES)
