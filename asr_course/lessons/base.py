"""What the lessons share: exercises, training of variants, a probe, diagrams."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import ipywidgets as ipw
import numpy as np
import torch
from IPython.display import display
from PIL import Image, ImageDraw
from torch import Tensor, nn

from asr_course import plots
from asr_course.coords import make_cell, output_size
from asr_course.devices import set_seed
from asr_course.errors import choose
from asr_course.images import to_tensor
from asr_course.lessons import drawing
from asr_course.models import METHODS, build
from asr_course.picture import Picture, errors_shown
from asr_course.presets import Plan
from asr_course.profile import multiplications
from asr_course.training import train


class NotYet(Exception):
    """A property that does not hold; its message is for the learner."""


class NotAttempted(Exception):
    """An answer that returns None or ..., as the notebook's empty function does."""


class Exercise(NamedTuple):
    """A reference solution, and a function that tries an answer."""

    reference: Callable
    properties: Callable[[Callable], None]  # raises NotYet if one does not hold


def checker(exercises: Mapping[str, Exercise]) -> Callable[[str, Callable], Callable]:
    """The function check(name, answer) for some exercises.

    It prints "not attempted", "passed" or "not yet" with the property that failed, and
    returns the answer if it passed, else the reference, so that a notebook runs on.
    """

    def check(name: str, answer: Callable) -> Callable:
        exercise = exercises[choose("exercise", name, exercises)]

        def attempt(*args):
            result = answer(*args)
            if result is None or result is Ellipsis:
                raise NotAttempted
            return result

        try:
            exercise.properties(attempt)
        except NotAttempted:
            print(f"{name}: not attempted")
        except NotYet as error:
            print(f"{name}: not yet: {error}")
        except Exception as error:  # a learner's code may fail in any way it likes
            print(f"{name}: not yet: it raised {type(error).__name__}: {error}")
        else:
            print(f"{name}: passed")
            return answer
        return exercise.reference

    return check


def require(condition, message: str) -> None:
    """Raise NotYet with `message` unless the condition holds."""
    if not bool(condition):
        raise NotYet(message)


def require_close(got, expected, message: str, tolerance: float = 1e-4) -> None:
    """Raise NotYet unless two tensors have the same shape and nearly equal values."""
    found, shape = tuple(got.shape), tuple(expected.shape)
    require(found == shape, f"a result has shape {found} where {shape} is right")
    require(close(got, expected, tolerance), message)


def require_cheap(call: Callable, most: int, hint: str) -> None:
    """Raise NotYet if `call` takes more than `most` multiplications."""
    count = multiplications(call)
    require(count > 0, "use matrix products (@): the check counts what they cost")
    words = f"{most:,} multiplications are enough here, yours took {count:,}"
    require(count <= most, f"{words}; {hint}")


def close(a, b, tolerance: float = 1e-4) -> bool:
    """Whether two tensors have the same shape and nearly equal values."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)


def random(seed: int, *shape: int) -> Tensor:
    """Normal random numbers that depend on the seed only."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Pieces:
    """Tensors cut into pieces along their first axis; counts the passes over them."""

    def __init__(self, tensors: Sequence[Tensor], sizes: list[int]):
        self.tensors, self.sizes, self.passes = tensors, sizes, 0

    def __call__(self) -> Iterator[tuple[Tensor, ...]]:
        self.passes += 1
        yield from zip(*(x.split(self.sizes) for x in self.tensors), strict=True)


# Variants that change the training and not the model, for every method.
TRAINING = {"x4-only": {"scale_min": 4.0, "scale_max": 4.0}}


def train_variant(
    name: str, variant: str, plan: Plan, seed: int, pictures: Sequence, device="auto"
) -> nn.Module:
    """One variant of a method, trained from `seed` by `plan`, in eval mode."""
    set_seed(seed)
    model = build(name, plan.size, **METHODS[name].ABLATIONS.get(variant, {}))
    recipe = replace(plan.recipe, **TRAINING.get(variant, {}))
    train(model, pictures, recipe, plan.schedule, seed=seed, device=device)
    return model


def effects(record: dict, reference: str) -> tuple[list[str], list[list[str]]]:
    """A record of `studies/ablate.py` as a table (heads, rows) of PSNR on Y.

    The first row holds the mean of `reference` over seeds in dB; the others hold the
    difference from it within a seed, as mean ± standard deviation over the seeds.
    """
    score = {(r["variant"], r["seed"], r["scale"]): r["psnr_y"] for r in record["rows"]}
    variants, seeds, scales = map(dict.fromkeys, zip(*score, strict=True))
    rows = []
    for name in [reference, *(v for v in variants if v != reference)]:
        row = [name]
        for scale in scales:
            values = np.array([score[name, seed, scale] for seed in seeds])
            if name == reference:
                row.append(f"{values.mean():.2f} dB")
                continue
            gap = values - [score[reference, seed, scale] for seed in seeds]
            spread = f" ± {gap.std(ddof=1):.2f}" if len(seeds) > 1 else ""
            row.append(f"{gap.mean():+.2f}{spread}")
        rows.append(row)
    return ["variant", *(f"×{scale:g}" for scale in scales)], rows


class TrainingCurve:
    """The loss during training: pass it to train() as `on_step`."""

    def __init__(self, steps: int, every: float = 2.0):
        self.steps, self.every, self._drawn = steps, every, time.monotonic()
        self.picture = ipw.Image(format="png", width=460)
        self.label = ipw.Label(f"step 0 of {steps}")
        display(ipw.VBox([self.label, self.picture]))

    def __call__(self, step: int, losses: list[float]) -> None:
        """Redraw, at most every few seconds and after the last step."""
        self.label.value = f"step {step} of {self.steps}"
        if time.monotonic() - self._drawn > self.every or step == self.steps:
            self.picture.value = plots.figure_png(self.figure(losses))
            self._drawn = time.monotonic()

    def figure(self, losses: list[float]):
        """L1 of every step, and its mean over the last 20."""
        figure, plot = plots.axes()
        window = min(20, len(losses))
        mean = np.convolve(losses, np.ones(window) / window, mode="valid")
        plot.plot(losses, color="0.8", linewidth=0.8, label="each step")
        plot.plot(np.arange(window - 1, len(losses)), mean, label=f"mean of {window}")
        plot.set(xlabel="step", ylabel="L1 loss", xlim=(0, self.steps), ylim=(0, None))
        plot.legend(frameon=False)
        return figure

    def show(self, losses: list[float]) -> None:
        """Display the finished curve as a picture that needs no kernel."""
        text = f"L1 loss over {len(losses)} steps, from {losses[0]:.3f} on"
        plots.show(self.figure(losses), text)


class PixelProbe(ipw.VBox):
    """Click on a picture and see what a model does at that place.

    model: any model of the course. image: (H, W, 3) uint8, the model's input. scale:
    sets the pixel size that the model gets. A subclass defines `render`.
    """

    error: Exception | None = None
    legend = ""  # what colours mean, as HTML

    def __init__(self, model, image: np.ndarray, scale: float = 8.0):
        self.model, self.image = copy.deepcopy(model).cpu().eval(), image
        with torch.inference_mode():
            self.features = self.model.encode(to_tensor(image))
        self.cell = make_cell(output_size(image.shape[:2], scale))[None]  # (1, 2)
        self.map, self.detail = Picture(), ipw.Image(format="png")
        self.map.layout = ipw.Layout(width="320px", flex="0 0 auto")
        self.map.on_msg(lambda widget, message, buffers: self.on_click(message))
        self.status = ipw.HTML()
        wrap = ipw.Layout(flex_flow="row wrap")  # on narrow screens one below the other
        super().__init__([ipw.HBox([self.map, self.detail], layout=wrap), self.status])
        self.move(0.5, 0.5)

    def render(self, row: float, col: float):
        """What there is to see at a coordinate in [-1, 1]: picture or figure."""
        raise NotImplementedError

    def on_click(self, message: dict) -> None:
        """Move to the place that was clicked."""
        if message.get("type") == "click":
            with errors_shown(self):
                self.move(message["row"], message["col"])

    def move(self, row: float, col: float) -> None:
        """Show a place given in fractions of the picture."""
        row, col = (2 * min(max(x, 0), 1) - 1 for x in (row, col))
        self.detail.value = drawing.png(self.render(row, col))
        H, W = self.image.shape[:2]
        marked = Image.fromarray(self.image.repeat(2, 0).repeat(2, 1))
        y, x = (row + 1) * H, (col + 1) * W
        ImageDraw.Draw(marked).ellipse([x - 4, y - 4, x + 4, y + 4], outline="white")
        self.map.data = plots.to_png(marked)
        self.map.alt = f"input picture, query at row {row:.2f}, col {col:.2f}"
        self.status.value = f"query (row, col) = ({row:.3f}, {col:.3f}){self.legend}"


class Explorer(ipw.VBox):
    """A picture that follows its controls.

    A subclass defines `chosen`, what the controls say, and `render`, which makes a
    picture of it and says in words what it shows; then it calls `draw`.
    """

    error: Exception | None = None

    def __init__(self, controls: Sequence[ipw.Widget]):
        self.picture, self.status = Picture(), ipw.HTML()
        self.picture.layout = ipw.Layout(width="384px", max_width="100%")
        wrap = ipw.Layout(flex_flow="row wrap")  # on narrow screens one below the other
        right = ipw.VBox([*controls, self.status])
        super().__init__([ipw.HBox([self.picture, right], layout=wrap)])
        self.draw()

    def draw(self) -> None:
        """Show what the controls ask for."""
        with errors_shown(self):
            picture, words = self.render(*self.chosen())
            self.picture.data, self.picture.alt = plots.to_png(picture), words
            self.status.value = words.replace("\n", "<br>")

    def show(self) -> None:
        """Display the widget, and a sheet of examples for readers without a kernel."""
        display(self)
        pictures, words = zip(*(self.render(*e) for e in self.examples), strict=True)
        plots.show(plots.gallery(pictures, words, 1), "; ".join(words))
