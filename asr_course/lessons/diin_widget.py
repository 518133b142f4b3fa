"""The widget of notebook 5."""

import numpy as np
import torch
from PIL import Image, ImageDraw

from asr_course import plots
from asr_course.coords import make_coord
from asr_course.models.diin import rates
from asr_course.lessons.base_widgets import PixelProbe


class RateProbe(PixelProbe):
    """Whom a clicked pixel hears in DIIN, layer by layer: queries, and tokens.

    For every layer a map of the diffusion rates from the centres of all input pixels,
    as multiples of the mean, and a bar for every token of the dictionary.
    """

    side = 200  # screen pixels of a map

    @torch.inference_mode()
    def layers(self, row: float, col: float) -> list[dict]:
        """For each layer: "rates" (H, W), times their number; "tokens" (M,) or None."""
        H, W = self.image.shape[:2]
        place = torch.tensor([[[[row, col]]]])
        coord = torch.cat([make_coord((H, W)).view(1, -1, 1, 2), place], dim=1)
        seen, heard, hooks = [], [], []
        for layer in self.model.layers:
            hooks.append(
                layer.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
            )
            if self.model.options.dictionary:
                hooks.append(
                    layer.listen.register_forward_hook(
                        lambda m, x, y: heard.append(y[1][0, -1].numpy())
                    )
                )
        try:
            self.model.decode(self.features, coord, self.cell)
        finally:
            for hook in hooks:
                hook.remove()
        found = []
        for k, layer in enumerate(self.model.layers):
            own = torch.zeros(H * W)
            if layer.mixes:
                q, key = layer.project(seen[k], 0), layer.project(seen[k], 1)
                own = rates(q[0, -1:], key[0, :-1])[0] * H * W
            tokens = heard[k] if heard else None
            found.append({"rates": own.view(H, W).numpy(), "tokens": tokens})
        return found

    def render(self, row: float, col: float) -> Image.Image:
        """For every layer a map and bars."""
        layers, font = self.layers(row, col), plots.font(12)
        H, W = self.image.shape[:2]
        zoom = max(1, self.side // max(H, W))
        wide, high, gap, head = W * zoom, H * zoom, 16, 40
        left, bars = max(wide, 215) + gap, 220
        size = left + bars, len(layers) * (high + head) + gap
        canvas = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(canvas)
        for k, layer in enumerate(layers):
            top = k * (high + head) + head
            values = layer["rates"]
            spread = max(np.abs(values - 1).max(), 1e-6)
            draw.text((0, top - 36), f"layer {k + 1}, rates / mean:", "black", font)
            text = f"blue {1 - spread:.2f}, white 1, orange {1 + spread:.2f}"
            if not values.any():
                text = "nothing flows"
            draw.text((0, top - 19), text, "black", font)
            shown = plots.shade((values - 1) / spread, plots.COLD_TO_WARM, zoom)
            canvas.paste(shown, (0, top))
            y, x = (row + 1) / 2 * high + top, (col + 1) / 2 * wide
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], outline="black", width=2)
            draw.rectangle([0, top, wide, top + high], outline="silver")
            if layer["tokens"] is not None:
                self.draw_bars(draw, layer["tokens"], (left, top), (bars, high), font)
        return canvas

    def draw_bars(self, draw, tokens: np.ndarray, corner, size, font) -> None:
        """A bar for each token, the tallest as high as `size`."""
        (left, top), (wide, high) = corner, size
        share = tokens / tokens.sum()
        worth = np.exp(-(share * np.log(share.clip(1e-12))).sum())
        text = f"listens to tokens: as to {worth:.1f} of {len(tokens)}"
        draw.text((left, top - 36), text, "black", font)
        draw.text((left, top - 19), f"tallest: {share.max():.2f}", "black", font)
        step = wide / len(tokens)
        for m, value in enumerate(share / share.max()):
            x = left + m * step
            box = [x, top + high * (1 - value), x + max(1, step - 2), top + high]
            draw.rectangle(box, fill=plots.COLOURS[0])
