"""Widgets that look inside one method, and the curve of a training run."""

import time

import ipywidgets as ipw
import numpy as np
import torch
from IPython.display import display
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from asr_course import plots
from asr_course.coords import make_cell, to_position
from asr_course.images import to_tensor
from asr_course.models.layers import bilinear
from asr_course.models.liif import corners
from asr_course.widgets import Picture


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


class LatentProbe(ipw.VBox):
    """Click on a picture: which latent codes answer there, and what each one says.

    model: a LIIF with a local ensemble. image: (H, W, 3) uint8, the model's input.
    """

    around = 2  # low-resolution pixels shown on each side of the query
    zoom = 64  # screen pixels for one of them

    def __init__(self, model, image: np.ndarray, scale: float = 8.0):
        self.model, self.image, self.scale = model.eval(), image, scale
        self.error: Exception | None = None
        with torch.inference_mode():
            self.features = model.encode(to_tensor(image))
        self.map, self.detail = Picture(), ipw.Image(format="png")
        self.status = ipw.HTML()
        self.map.on_msg(lambda widget, message, buffers: self.on_click(message))
        self.map.layout.width = "320px"
        super().__init__([ipw.HBox([self.map, self.detail]), self.status])
        self.move(0.5, 0.5)

    def on_click(self, message: dict) -> None:
        """Look where the picture was clicked."""
        if message.get("type") != "click":
            return
        try:
            self.move(message["row"], message["col"])
        except Exception as error:
            self.error = error
            self.status.value = f'<span style="color:#D55E00">{error}</span>'

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

    @torch.inference_mode()
    def opinions(self, row: float, col: float) -> list[dict]:
        """The four latent codes around a coordinate: centre, weight and answer.

        The answer is RGB in [0, 1], not clamped.
        """
        H, W = self.image.shape[:2]
        coord = torch.tensor([[[[row, col]]]])  # (1, 1, 1, 2)
        cell = make_cell((round(H * self.scale), round(W * self.scale)))[None]
        skip = 0
        if self.model.options.skip:
            skip = bilinear(self.features.lr.movedim(1, -1), coord)
        places = corners(coord, (H, W), True)
        found = []
        for (i, j, _, _), (share, rgb) in zip(
            places, self.model.opinions(self.features, coord, cell), strict=True
        ):
            rgb = ((rgb + skip) * 0.5 + 0.5)[0, 0, 0]
            found.append(
                {"at": (int(i), int(j)), "weight": float(share), "rgb": rgb.numpy()}
            )
        return found

    def render(self, row: float, col: float) -> Image.Image:
        """The neighbourhood with its four rectangles, and the four opinions below."""
        H, W = self.image.shape[:2]
        y, x = (float(to_position(torch.tensor(c), n)) for c, n in ((row, H), (col, W)))
        opinions = self.opinions(row, col)
        top, left = round(y) - self.around, round(x) - self.around
        n = 2 * self.around + 1
        rows = np.arange(top, top + n).clip(0, H - 1)
        cols = np.arange(left, left + n).clip(0, W - 1)
        near = self.image[rows][:, cols].repeat(self.zoom, 0).repeat(self.zoom, 1)
        canvas = Image.new("RGB", (n * self.zoom, n * self.zoom + 70), "white")
        canvas.paste(Image.fromarray(near))
        draw = ImageDraw.Draw(canvas, "RGBA")
        font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 12)

        def spot(r: float, c: float) -> tuple[float, float]:
            return (c - left + 0.5) * self.zoom, (r - top + 0.5) * self.zoom

        query = spot(y, x)
        for k, answer in enumerate(opinions):
            shade = tuple(int(plots.COLOURS[k][c : c + 2], 16) for c in (1, 3, 5))
            centre = spot(*answer["at"])
            # The rectangle towards a latent weighs the latent diagonally opposite.
            opposite = spot(*opinions[3 - k]["at"])
            box = sorted((query[0], opposite[0])), sorted((query[1], opposite[1]))
            corner = [(box[0][0], box[1][0]), (box[0][1], box[1][1])]
            draw.rectangle(corner, fill=(*shade, 110), outline=(*shade, 255), width=2)
            draw.ellipse([c - 5 for c in centre] + [c + 5 for c in centre], fill=shade)
            at = k * (canvas.width // 5), n * self.zoom + 6
            colour = tuple(int(255 * c) for c in answer["rgb"].clip(0, 1))
            draw.rectangle(
                [at, (at[0] + 44, at[1] + 36)], fill=colour, outline=shade, width=3
            )
            draw.text((at[0], at[1] + 42), f"{answer['weight']:.2f}", "black", font)
        blend = sum(answer["weight"] * answer["rgb"] for answer in opinions)
        at = 4 * (canvas.width // 5), n * self.zoom + 6
        colour = tuple(int(255 * c) for c in blend.clip(0, 1))
        draw.rectangle([at, (at[0] + 44, at[1] + 36)], fill=colour, outline="black")
        draw.text((at[0], at[1] + 42), "sum", "black", font)
        draw.ellipse(
            [c - 5 for c in query] + [c + 5 for c in query],
            fill="white",
            outline="black",
        )
        return canvas
