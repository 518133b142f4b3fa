"""The widget of notebook 2."""

import numpy as np
import torch
from PIL import Image, ImageDraw

from asr_course import plots
from asr_course.coords import make_grid, nearest, to_position
from asr_course.lessons.base_widgets import PixelProbe

DARK_TO_LIGHT = ((0, 0, 0), (128, 128, 128), (255, 255, 255))  # at -1, 0 and 1


class BranchProbe(PixelProbe):
    """DIINN's two branches inside one low-resolution pixel, layer by layer.

    For every layer the units whose product varies most over that pixel, each as three
    maps: modulation, sine, and their product.
    """

    side = 16  # queries along the low-resolution pixel
    units = 3  # of each layer
    zoom = 4  # screen pixels for a query

    @torch.inference_mode()
    def layers(self, row: float, col: float) -> list[dict]:
        """Maps of the most active units: m, sine, product (units, side, side) each."""
        coord = self.territory(row, col)
        found = []
        for maps in self.model.branches(self.features, coord, self.cell):
            m, wave, s = (x[0].expand(self.side, self.side, -1) for x in maps)
            busy = s.std(dim=(0, 1)).topk(min(self.units, s.shape[-1])).indices
            kept = [x[..., busy].movedim(-1, 0).numpy() for x in (m, wave, s)]
            names = ("modulation", "sine", "product")
            found.append(
                {"units": busy.tolist(), **dict(zip(names, kept, strict=True))}
            )
        return found

    def territory(self, row: float, col: float) -> torch.Tensor:
        """Queries that fill the low-resolution pixel at (row, col): (1, n, n, 2)."""
        inside = (torch.arange(self.side) + 0.5) / self.side  # (n,) in (0, 1)
        axes = []
        for place, n in zip((row, col), self.image.shape[:2], strict=True):
            index = nearest(to_position(torch.tensor(place), n), n)
            axes.append((index + inside) * (2 / n) - 1)
        return make_grid(*axes)[None]

    def render(self, row: float, col: float) -> Image.Image:
        """A row of maps for every layer, and the colours that come out."""
        layers, font = self.layers(row, col), plots.font(12)
        tile, gap, left, head, label = self.side * self.zoom, 6, 60, 22, 18
        group, high = 3 * (tile + gap) + 14, tile + gap + label
        right, bottom = left + self.units * group, head + len(layers) * high
        canvas = Image.new("RGB", (right + 6 * self.side, bottom + 18), "white")
        draw = ImageDraw.Draw(canvas)
        for u in range(self.units):
            for k, name in enumerate(("m", "sine", "m · sine")):
                at = left + u * group + k * (tile + gap), 2
                draw.text(at, name, "black", font)
        for k, layer in enumerate(layers):
            y = head + k * high + label
            draw.text((2, y + tile // 2 - 8), f"layer {k}", "black", font)
            top = max(layer["modulation"].max(), 1e-6)
            far = max(np.abs(layer["product"]).max(), 1e-6)
            for u, unit in enumerate(layer["units"]):
                draw.text((left + u * group, y - 17), f"unit {unit}", "black", font)
                maps = (
                    (layer["modulation"][u] / top * 2 - 1, DARK_TO_LIGHT),
                    (layer["sine"][u], plots.COLD_TO_WARM),
                    (layer["product"][u] / far, plots.COLD_TO_WARM),
                )
                for c, (values, colours) in enumerate(maps):
                    at = left + u * group + c * (tile + gap), y
                    canvas.paste(plots.shade(values, colours, self.zoom), at)
                    draw.rectangle([at, (at[0] + tile, y + tile)], outline="silver")
        draw.text((right, 2), "answer", "black", font)
        answer = plots.enlarge(self.answer(self.territory(row, col)), 6 * self.side)
        canvas.paste(Image.fromarray(answer), (right, head + label))
        note = (
            "m: black 0, white the layer's largest · sine and product: blue negative, "
        )
        draw.text((left, bottom), note + "white 0, orange positive", "black", font)
        return canvas
