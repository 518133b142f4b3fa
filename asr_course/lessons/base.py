"""What the lessons share: exercises, training of variants, a probe, diagrams."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import ipywidgets as ipw
import numpy as np
import torch
from IPython.display import Pretty, display
from PIL import Image
from torch import Tensor, nn

from asr_course import plots
from asr_course.coords import make_cell, output_size
from asr_course.devices import set_seed
from asr_course.errors import choose
from asr_course.images import sample_crops, to_tensor
from asr_course.metrics import evaluate
from asr_course.models import METHODS, build
from asr_course.picture import Picture, errors_shown, tell
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
        empty = len((lambda: None).__code__.co_code)

        def attempt(*args):
            result = answer(*args)
            if result is None and len(answer.__code__.co_code) > empty:
                raise NotYet("your function returns nothing; end it with return")
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
    train(model, pictures, recipe, plan.schedule, seed, device, progress=variant)
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
    """The loss during training: pass it to train() as `on_step`.

    model: what is trained. Its PSNR on four crops is told each fifth of the way,
    unless the run is over in less than 200 steps.
    """

    def __init__(self, steps: int, model: nn.Module | None = None, every: float = 2.0):
        self.steps, self.every, self._first = steps, every, None
        self.model, self.scored = model, ""
        self._drawn = time.monotonic()
        empty = Pretty(f"step 0 of {steps}"), Pretty("")
        self.label, self.picture = (display(x, display_id=True) for x in empty)

    def __call__(self, step: int, losses: list[float]) -> None:
        """Say how far it is; redraw every few seconds."""
        if self.model and self.steps >= 200 and step % -(-self.steps // 5) == 0:
            (row,) = evaluate(self.model, sample_crops(128), [4])
            self.scored = f", {row['psnr_y']:.2f} dB on four crops of 128 × 128 at ×4"
        text, now = f"step {step} of {self.steps}", time.monotonic()
        first, began = self._first = self._first or (step, now)
        if step > first:
            left = (now - began) / (step - first) * (self.steps - step)
            text += f", {int(left) // 60}:{int(left) % 60:02} left"
        if now - self._drawn > self.every:
            self.show(losses)
            self._drawn = now
        self.label.update(Pretty(text + self.scored))

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
        """Put the curve so far, or the finished one, in the place of the one before."""
        self.label.update(Pretty(f"{len(losses)} steps{self.scored}"))
        text = f"L1 loss over {len(losses)} steps, from {losses[0]:.3f} on"
        plots.show(self.figure(losses), text, self.picture.update)


class Explorer(ipw.VBox):
    """A picture that follows its controls, and in words what it shows.

    A subclass defines `chosen`, what the controls say, and `render`, which makes a
    picture or figure of it and says in words what is there.
    """

    error: Exception | None = None
    where = hint = ""  # the place that is shown; what colours mean
    tell = tell

    def __init__(self, controls: Sequence[ipw.Widget], left: Picture | None = None):
        self.picture, self.status = Picture(), ipw.HTML()
        for control in controls:
            control.layout.max_width = "calc(100% - 4px)"
        look = {"flex": f"0 1 {308 if controls else 185}px", "padding": "0 4px"}
        words = ipw.VBox([*controls, self.status, ipw.HTML(self.hint)], layout=look)
        parts = [left, words, self.picture] if left else [self.picture, words]
        wrap = ipw.Layout(flex_flow="row wrap")  # on narrow screens one below the other
        super().__init__([ipw.HBox(parts, layout=wrap)])
        self.draw()

    def draw(self) -> None:
        """Show what the controls ask for."""
        with errors_shown(self):
            picture, words = self.render(*self.chosen())
            self.picture.put(picture, words)
            look = "white-space:pre-line;line-height:1.4"
            self.status.value = f'<div style="{look}">{self.where}{words}</div>'

    def show(self) -> None:
        """Display the widget, and a sheet of examples for readers without a kernel."""
        display(self)
        if not self.error:
            found = (self.render(*example) for example in self.examples)
            pictures, words = zip(*found, strict=True)
            sheet = plots.gallery(pictures, words, 1, columns=2)
            plots.show(sheet, "; ".join([*words, self.hint]))


class PixelProbe(Explorer):
    """Click on a picture, or use the arrow keys: what a model does at that place.

    model: any model of the course. image: (H, W, 3) uint8, the model's input. scale:
    sets the pixel size that the model gets. A subclass defines `render`.
    """

    place = [0.467, 0.2]  # to begin with: the rim of an eye in the notebooks' picture
    pace = 1.0  # of an arrow key, in low-resolution pixels

    def __init__(self, model, image: np.ndarray, scale: float = 8.0, controls=()):
        self.model, self.image = copy.deepcopy(model).cpu().eval(), image
        with torch.inference_mode():
            self.features = self.model.encode(to_tensor(image))
        self.cell = make_cell(output_size(image.shape[:2], scale))[None]  # (1, 2)
        self.map = Picture(chooses=True, marked=True, place=self.place)
        self.map.step = [self.pace / n for n in image.shape[:2]]
        self.map.put(Image.fromarray(plots.enlarge(image, 320)), "input picture")
        self.map.observe(lambda change: self.draw(), "place")
        super().__init__(controls, self.map)

    def chosen(self) -> tuple[float, float]:
        """The place as a coordinate in [-1, 1]."""
        row, col = (2 * x - 1 for x in self.map.place)
        self.map.alt = f"input picture, query at row {row:.3f}, column {col:.3f}"
        self.where = self.map.alt.removeprefix("input picture, ") + "\n"
        return row, col
