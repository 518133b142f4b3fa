"""The widget of notebook 4."""

import ipywidgets as ipw
import numpy as np
import torch
from IPython.display import display
from PIL import Image, ImageColor, ImageDraw

from asr_course import plots
from asr_course.coords import pixel_centres, round_half_up, to_position
from asr_course.models.hiif import digits, square
from asr_course.widgets import Picture, not_drawn

WHOLE, CELL = 10, 4  # low-resolution pixels along an axis, and the one we look at
LEVELS = 6


class DigitExplorer(ipw.VBox):
    """The square between four latent codes, and the digits of one output pixel in it.

    Dots are output pixels. One is chosen by a click, or with the arrow keys; the
    others show by their colour how many levels they share with it.
    """

    side = 384  # screen pixels

    def __init__(self, scale: float = 8.0, levels: int = 3):
        self.error: Exception | None = None
        self.place = (0.31, 0.59)
        self.scale = ipw.FloatSlider(
            value=scale, min=1, max=30, step=0.1, description="scale ×"
        )
        self.levels = ipw.IntSlider(
            value=levels, min=1, max=LEVELS, description="levels"
        )
        self.picture, self.table = Picture(), ipw.HTML()
        self.picture.layout = ipw.Layout(width=f"{self.side}px", flex="0 0 auto")
        self.status = ipw.HTML()
        self.picture.on_msg(lambda widget, message, buffers: self.on_pointer(message))
        for control in (self.scale, self.levels):
            control.observe(lambda change: self.draw(), "value")
        right = ipw.VBox([self.scale, self.levels, self.table, self.status])
        wrap = ipw.Layout(flex_flow="row wrap")
        super().__init__([ipw.HBox([self.picture, right], layout=wrap)])
        self.draw()

    def on_pointer(self, message: dict) -> None:
        """Choose the output pixel nearest to a click, or its neighbour."""
        try:
            if message.get("type") == "click":
                self.place = float(message["row"]), float(message["col"])
            elif message.get("type") == "key":
                row, col = self.chosen(self.scale.value, self.place)
                step = 1 / self.scale.value
                self.place = row + message["rows"] * step, col + message["cols"] * step
            else:
                return
        except Exception as error:
            self.error = error
            self.status.value = not_drawn(error)
        else:
            self.draw()

    def draw(self) -> None:
        """Show what the controls ask for."""
        try:
            scale, levels = self.scale.value, self.levels.value
            picture, rows = self.render(scale, self.place, levels)
            self.picture.data = plots.to_png(picture)
            row, col = self.chosen(scale, self.place)
            self.picture.alt = (
                f"square between four latent codes at scale {scale:g}, chosen pixel at "
                f"row {row:.3f}, column {col:.3f}"
            )
            heads = ("level", "row", "column", "pixels that share all so far")
            cells = "".join(f'<th style="padding:0 8px">{head}</th>' for head in heads)
            body = "".join(
                "<tr>"
                + "".join(f'<td style="text-align:center">{x}</td>' for x in line)
                + "</tr>"
                for line in rows
            )
            self.table.value = f"<table><tr>{cells}</tr>{body}</table>"
            self.status.value = f"chosen pixel: row {row:.3f}, column {col:.3f}"
            self.error = None
        except Exception as error:
            self.error = error
            self.status.value = not_drawn(error)

    def places(self, scale: float) -> torch.Tensor:
        """Places of output pixels between two codes, along an axis: (n,) in [0, 1)."""
        n = round_half_up(WHOLE * scale)
        (before, _), _, place = square(to_position(pixel_centres(n), WHOLE), WHOLE)
        return place[before == CELL]

    def chosen(self, scale: float, place: tuple[float, float]) -> tuple[float, float]:
        """The output pixel nearest to `place`, (row, col) between the codes."""
        there = self.places(scale)
        return tuple(there[(there - t).abs().argmin()].item() for t in place)

    def render(
        self, scale: float, place: tuple[float, float], levels: int
    ) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
        """The drawing, and for every level: its number, both digits, who shares."""
        side, there = self.side, self.places(scale)
        rows, cols = torch.meshgrid(there, there, indexing="ij")
        found = digits(torch.stack([rows, cols], dim=-1), levels)  # (n, n, 2, L)
        own = digits(torch.tensor(self.chosen(scale, place)), levels)  # (2, L)
        shared = (found == own).all(dim=2).cumprod(dim=-1)  # (n, n, L)
        canvas = Image.new("RGB", (side, side), "white")
        draw = ImageDraw.Draw(canvas)
        corner, size = np.zeros(2), 1.0
        for level in range(levels):  # boxes of the chosen pixel, one in the other
            size /= 2
            corner += own[:, level].numpy() * size
            (top, left), edge = corner * side, size * side
            shade = 240 - 28 * level
            draw.rectangle([left, top, left + edge, top + edge], (255, shade, shade))
        for level in reversed(range(min(levels, 5))):
            grey, step = 150 + 18 * level, side / 2 ** (level + 1)
            for k in range(2 ** (level + 1) + 1):
                at = min(k * step, side - 1)
                width = 2 if level == 0 else 1
                draw.line([(at, 0), (at, side)], fill=(grey,) * 3, width=width)
                draw.line([(0, at), (side, at)], fill=(grey,) * 3, width=width)
        radius = max(1.5, min(6, side / scale / 4))
        for r, c, depth in zip(
            rows.flatten().tolist(),
            cols.flatten().tolist(),
            shared.sum(-1).flatten().tolist(),
            strict=True,
        ):
            y, x = r * side, c * side
            colour = plots.COLOURS[1] if depth == levels else plots.COLOURS[0]
            share = 0.25 + 0.75 * depth / levels
            fill = tuple(
                round(255 - share * (255 - c)) for c in ImageColor.getrgb(colour)
            )
            box = [x - radius, y - radius, x + radius, y + radius]
            draw.ellipse(box, fill=fill)
        y, x = (t * side for t in self.chosen(scale, place))
        ring = radius + 3
        draw.ellipse([x - ring, y - ring, x + ring, y + ring], outline="black", width=2)
        counts = shared.sum(dim=(0, 1)).tolist()
        table = [
            (k, int(own[0, k]), int(own[1, k]), int(counts[k])) for k in range(levels)
        ]
        return canvas, table

    def show(self, examples=((8, 1), (8, 2), (8, 3))) -> None:
        """Display the widget, and a sheet of examples for where widgets do not live."""
        display(self)
        pictures, titles = [], []
        for scale, levels in examples:
            picture, rows = self.render(scale, self.place, levels)
            pictures.append(picture)
            word = "level" if levels == 1 else "levels"
            count = rows[-1][-1]
            who = "1 pixel alone" if count == 1 else f"{count} pixels share"
            titles.append(f"×{scale:g}, {levels} {word}: {who}")
        text = "The square between four codes and the digits of one pixel: "
        plots.show(plots.gallery(pictures, titles, 1), text + "; ".join(titles))
