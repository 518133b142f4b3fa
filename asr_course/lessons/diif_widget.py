"""The widget of notebook 3."""

import ipywidgets as ipw
import numpy as np
import torch
from IPython.display import display
from PIL import Image, ImageDraw

from asr_course import plots
from asr_course.coords import cells_to_pixels, make_cell, make_coord, round_half_up
from asr_course.models.diif import cut
from asr_course.widgets import not_drawn

WHOLE = 10  # low-resolution rows and columns of the picture: whole tenths are exact
SLICINGS = ("linear", "rows", "constant", "fixed")


class SliceExplorer(ipw.VBox):
    """Groups and slices of output pixels, while the scale moves.

    Squares are output pixels, thick lines low-resolution pixels; pixels of one slice
    have one colour.
    """

    cells = 3  # low-resolution rows and columns shown
    side = 360  # screen pixels

    def __init__(self, scale: float = 4.0, slicing: str = "linear"):
        self.error: Exception | None = None
        self.rows = ipw.FloatSlider(
            value=scale, min=1, max=12, step=0.1, description="row scale"
        )
        self.cols = ipw.FloatSlider(
            value=scale, min=1, max=12, step=0.1, description="col. scale"
        )
        self.together = ipw.Checkbox(value=True, description="one scale for both")
        self.slicing = ipw.ToggleButtons(
            options=SLICINGS, value=slicing, description="slices"
        )
        self.picture, self.status = ipw.Image(format="png"), ipw.HTML()
        for control in (self.rows, self.cols, self.together, self.slicing):
            control.observe(self.on_change, "value")
        controls = ipw.VBox([self.rows, self.cols, self.together, self.slicing])
        super().__init__([ipw.HBox([self.picture, controls]), self.status])
        self.draw()

    def on_change(self, change) -> None:
        """Follow one slider with the other, and draw."""
        if self.together.value and self.cols.value != self.rows.value:
            if change["owner"] is self.cols:
                self.rows.value = self.cols.value
            else:
                self.cols.value = self.rows.value
            return  # the other slider's change draws
        self.draw()

    def draw(self) -> None:
        """Show what the controls ask for."""
        try:
            scales = self.rows.value, self.cols.value
            picture, counts = self.render(scales, self.slicing.value)
            self.picture.value = plots.to_png(picture)
            self.status.value = (
                f"{counts['pixels']} output pixels in {counts['groups']} groups and "
                f"{counts['slices']} slices: one slice for "
                f"{counts['pixels'] / counts['slices']:.1f} pixels"
            )
            self.error = None
        except Exception as error:
            self.error = error
            self.status.value = not_drawn(error)

    def render(
        self, scales: tuple[float, float], slicing: str
    ) -> tuple[Image.Image, dict[str, int]]:
        """The drawing for (row scale, column scale), and how many of each there are."""
        n, side = self.cells, self.side
        size = tuple(round_half_up(WHOLE * scale) for scale in scales)
        h, w = (cells_to_pixels(n, WHOLE, pixels) for pixels in size)
        coord = make_coord(size)[:h, :w][None]
        slices, _ = cut(coord, make_cell(size)[None], (WHOLE, WHOLE), slicing)
        owner = slices.row * WHOLE + slices.col  # (S,)
        start = torch.searchsorted(owner, owner)  # first slice of the same group
        rank = torch.arange(len(owner)) - start  # number within the group
        # Three colours for every other group, and three for those between them.
        colour = rank % 3 + 3 * ((slices.row + slices.col) % 2)
        canvas = Image.new("RGB", (side + 1, side + 1), "white")
        draw = ImageDraw.Draw(canvas)
        rows, cols = (
            np.arange(pixels + 1) * (side * WHOLE / n / whole)
            for pixels, whole in zip((h, w), size, strict=True)
        )
        gap = 1 if max(h, w) > 24 else 2
        for k, s in enumerate(slices.of.tolist()):
            r, c = divmod(k, w)
            box = [cols[c] + gap, rows[r] + gap, cols[c + 1] - gap, rows[r + 1] - gap]
            draw.rectangle(box, fill=plots.COLOURS[int(colour[s])])
        for edge in np.linspace(0, side, n + 1):
            draw.line([(edge, 0), (edge, side)], fill="black", width=3)
            draw.line([(0, edge), (side, edge)], fill="black", width=3)
        return canvas, {"pixels": h * w, "groups": n * n, "slices": len(owner)}

    def show(self, examples=((4, "linear"), (2.5, "linear"), (2.5, "rows"))) -> None:
        """Display the widget, and a sheet of examples for where widgets do not live."""
        display(self)
        pictures, titles = [], []
        for scale, slicing in examples:
            picture, counts = self.render((scale, scale), slicing)
            pictures.append(picture)
            titles.append(f"×{scale:g}, {slicing}: {counts['slices']} slices")
        text = "Output pixels in the colours of their slices: " + "; ".join(titles)
        plots.show(plots.gallery(pictures, titles, 1), text)
