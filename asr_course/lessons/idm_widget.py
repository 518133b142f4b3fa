"""The widget of notebook 6."""

from collections.abc import Generator
from dataclasses import dataclass

import ipywidgets as ipw
import numpy as np
import torch
from IPython.display import display
from PIL import Image

from asr_course import plots
from asr_course.coords import output_size
from asr_course.diffusion import Step, times
from asr_course.images import to_tensor
from asr_course.models.idm import noise_source
from asr_course.widgets import STEPS, LatestWins, Picture


@dataclass
class Film:
    """A chain of the sampler, from noise to pictures, and what was asked for."""

    noise: torch.Tensor  # (B, 3, h, w), where it begins
    steps: list[Step]
    first: int  # the seed of the first picture
    scale: float
    told: float  # the scale that the network was told

    def still(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """y and the picture believed in after so many steps; at first there is none."""
        if number == 0:
            return self.noise, None
        return self.steps[number - 1].y, self.steps[number - 1].y0


class DenoisingPlayer(LatestWins):
    """A sampler's way from noise to pictures, step by step.

    model: an IDM. image: (H, W, 3) uint8, its low-resolution input. The slider "step"
    runs through the chain. A new seed, scale or number of steps draws a new one; `told`
    is the scale that the model is told, where it shall differ from the true one.
    """

    def __init__(self, model, image: np.ndarray, samples: int = 4, scale: float = 8.0):
        self.model, self.image, self.samples = model.eval(), image, samples
        self.film: Film | None = None
        wide = ipw.Layout(width="420px")
        self.step = ipw.IntSlider(STEPS, 0, STEPS, description="step", layout=wide)
        self.play = ipw.Play(value=STEPS, max=STEPS, interval=150, repeat=True)
        self.seed = ipw.BoundedIntText(
            0, max=10_000, description="seed", layout=ipw.Layout(width="160px")
        )
        self.scale = ipw.FloatSlider(
            scale, min=1, max=12, step=0.1, description="scale ×", layout=wide
        )
        self.told = ipw.FloatSlider(
            scale, min=1, max=12, step=0.1, description="told ×", layout=wide
        )
        self.picture, self.status = Picture(), ipw.HTML()
        super().__init__(
            [
                ipw.HBox([self.step, self.play]),
                ipw.HBox([self.scale, self.seed]),
                self.told,
                self.picture,
                self.status,
            ]
        )
        self.picture.layout = ipw.Layout(width="720px")
        ipw.jslink((self.play, "value"), (self.step, "value"))
        self.step.observe(lambda change: self.turn(), "value")
        self.scale.observe(lambda change: self.tell_truth(), "value")
        for control in (self.seed, self.told):
            control.observe(lambda change: self.request(), "value")
        self.request(now=True)

    def tell_truth(self) -> None:
        """Another scale: the network is told so, and one new chain is drawn."""
        if self.told.value == self.scale.value:
            self.request()
        self.told.value = self.scale.value

    def steps(self, watched: bool) -> Generator[str, None, Film]:
        """The chain that the controls ask for."""
        size = output_size(self.image.shape[:2], self.scale.value)
        lr = to_tensor(self.image).repeat(self.samples, 1, 1, 1)
        lr = lr.to(next(self.model.parameters()).device)
        first = self.seed.value * self.samples  # another seed shares no picture
        film = Film(
            noise_source(lr, size, first)(),
            [],
            first,
            self.scale.value,
            self.told.value,
        )
        for step in self.model.chain(lr, size, STEPS, first, scale=film.told):
            film.steps.append(step)
            yield f"sampling … {step.done}/{STEPS}"
        return film

    def _show(self, film: Film) -> None:
        self.film, self.error = film, None
        self.turn()

    def turn(self) -> None:
        """Show the chosen step of the present film."""
        if self.film is None or self.error:
            return
        number = self.step.value
        sheet = self.render(self.film, number)
        self.picture.data = plots.to_png(sheet, 1)
        rows, cols = self.film.noise.shape[2:]
        gamma = self.model.gamma[times(self.model.options.steps, STEPS)[number]]
        self.picture.alt = (
            f"{self.samples} samples after step {number} of {STEPS}: above as noisy as "
            f"they are, below the pictures that the network believes in"
        )
        self.status.value = (
            f"{self.image.shape[0]}×{self.image.shape[1]} → {rows}×{cols}, step "
            f"{number} of {STEPS}, share of picture √γ = {gamma.sqrt():.2f}"
        )
        if self.film.told != self.film.scale:
            self.status.value += f"; told that the scale is ×{self.film.told:g}"

    def render(self, film: Film, number: int, side: int = 128) -> Image.Image:
        """The input, and for every sample y above and the belief below."""
        y, belief = film.still(number)
        blank = torch.ones_like(y[0])
        above = [0.5 + 0.5 * x for x in y]
        below = [blank] * len(y) if belief is None else [0.5 + 0.5 * x for x in belief]
        lr = plots.to_uint8(to_tensor(self.image))
        names = [f"seed {film.first + k}" for k in range(len(y))]
        titles = ["input", *names, "", *["belief"] * len(y)]
        pictures = [lr, *above, np.full_like(lr, 255), *below]
        return plots.gallery(pictures, titles, side, columns=len(y) + 1)

    def contact_sheet(self, numbers=(0, 5, 10, 15, 20, STEPS), side: int = 96) -> None:
        """Display stills of the first sample, from step 0 on, for readers on paper."""
        stills = [self.film.still(number) for number in numbers]
        above = [0.5 + 0.5 * y[0] for y, _ in stills]
        below = [0.5 + 0.5 * b[0] for _, b in stills[1:]]
        below.insert(0, torch.ones_like(above[0]))  # at first there is no belief
        pictures = above + below
        titles = [f"step {n}" for n in numbers] + ["", *["belief"] * (len(numbers) - 1)]
        sheet = plots.gallery(pictures, titles, side, columns=len(numbers))
        plots.show(
            sheet,
            f"One sample after steps {numbers}: above y, below what the network "
            "believes the picture to be",
        )

    def show(self) -> None:
        """Display the widget, and stills for where widgets do not live."""
        display(self)
        if self.film:
            self.contact_sheet()
