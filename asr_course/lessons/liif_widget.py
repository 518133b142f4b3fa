"""The widget of notebook 1."""

import numpy as np
import torch
from PIL import Image, ImageDraw

from asr_course import plots
from asr_course.coords import to_position
from asr_course.models.layers import bilinear
from asr_course.models.liif import corners
from asr_course.lessons.base_widgets import PixelProbe


class LatentProbe(PixelProbe):
    """Which latent codes answer at a query, and what each one says.

    For a LIIF with a local ensemble.
    """

    around = 2  # low-resolution pixels shown on each side of the query
    zoom = 64  # screen pixels for one of them

    @torch.inference_mode()
    def opinions(self, row: float, col: float) -> list[dict]:
        """The four latent codes around a coordinate: centre, weight and answer.

        The answer is RGB in [0, 1], not clamped.
        """
        H, W = self.image.shape[:2]
        coord = torch.tensor([[[[row, col]]]])  # (1, 1, 1, 2)
        skip = 0
        if self.model.options.skip:
            skip = bilinear(self.features.lr.movedim(1, -1), coord)
        places = corners(coord, (H, W), True)
        found = []
        for (i, j, _, _), (share, rgb) in zip(
            places, self.model.opinions(self.features, coord, self.cell), strict=True
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
        font = plots.font(12)

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
