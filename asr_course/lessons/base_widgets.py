"""The curve of a training run, and what all probes share."""

import copy
import time

import ipywidgets as ipw
import numpy as np
import torch
from IPython.display import display
from PIL import Image, ImageDraw

from asr_course import plots
from asr_course.coords import make_cell, output_size
from asr_course.images import to_tensor
from asr_course.widgets import Picture, not_drawn


class TrainingCurve:
    """The loss of a run while it lasts: pass it to train() as `on_step`."""

    def __init__(self, steps: int, every: float = 2.0):
        self.steps, self.every, self._drawn = steps, every, time.monotonic()
        self.picture = ipw.Image(format="png", width=460)
        self.label = ipw.Label(f"step 0 of {steps}")
        display(ipw.VBox([self.label, self.picture]))

    def __call__(self, step: int, losses: list[float]) -> None:
        """Redraw, at most every few seconds and after the last step."""
        self.label.value = f"step {step} of {self.steps}"
        if time.monotonic() - self._drawn > self.every or step == self.steps:
            figure = self.figure(losses)
            self.picture.value = plots.figure_png(figure)
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
        """Display the finished curve as a picture that outlives the widget."""
        text = f"L1 loss over {len(losses)} steps, from {losses[0]:.3f} on"
        plots.show(self.figure(losses), text)


class PixelProbe(ipw.VBox):
    """Click on a picture, and see what a model does there.

    model: any model of the course. image: (H, W, 3) uint8, the model's input. scale:
    decides the pixel size that the model is told. A probe defines `render`.
    """

    def __init__(self, model, image: np.ndarray, scale: float = 8.0):
        self.model = copy.deepcopy(model).cpu().eval()  # where its features are
        self.image, self.scale = image, scale
        self.error: Exception | None = None
        with torch.inference_mode():
            self.features = model.encode(to_tensor(image))
        self.cell = make_cell(output_size(image.shape[:2], scale))[None]  # (1, 2)
        self.map, self.detail = Picture(), ipw.Image(format="png")
        self.status = ipw.HTML()
        self.map.on_msg(lambda widget, message, buffers: self.on_click(message))
        self.map.layout = ipw.Layout(width="320px", flex="0 0 auto")
        side_by_side = ipw.Layout(flex_flow="row wrap")  # below, where it is too narrow
        pictures = ipw.HBox([self.map, self.detail], layout=side_by_side)
        super().__init__([pictures, self.status])
        self.move(0.5, 0.5)

    def render(self, row: float, col: float) -> Image.Image:
        """What there is to see at a coordinate in [-1, 1]."""
        raise NotImplementedError

    def on_click(self, message: dict) -> None:
        """Look where the picture was clicked."""
        if message.get("type") != "click":
            return
        try:
            self.move(message["row"], message["col"])
            self.error = None
        except Exception as error:
            self.error = error
            self.status.value = not_drawn(error)

    def move(self, row: float, col: float) -> None:
        """Look at a place given in fractions of the picture."""
        place = 2 * min(max(row, 0), 1) - 1, 2 * min(max(col, 0), 1) - 1
        self.detail.value = plots.to_png(self.render(*place))
        H, W = self.image.shape[:2]
        marked = Image.fromarray(self.image.repeat(2, 0).repeat(2, 1))
        y, x = (place[0] + 1) * H, (place[1] + 1) * W
        ImageDraw.Draw(marked).ellipse([x - 4, y - 4, x + 4, y + 4], outline="white")
        self.map.data = plots.to_png(marked)
        self.map.alt = f"input picture, query at row {place[0]:.2f}, col {place[1]:.2f}"
        self.status.value = f"query (row, col) = ({place[0]:.3f}, {place[1]:.3f})"

    def answer(self, coord: torch.Tensor) -> torch.Tensor:
        """The model's colours at (1, h, w, 2): (3, h, w), clamped."""
        return self.model.decode(self.features, coord, self.cell)[0].clamp(0, 1)
