"""The picture at the top of the README: one photograph from x1 to x30, by one model.

python docs/hero.py     write docs/hero.png
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from asr_course import load_pretrained, plots
from asr_course.coords import output_size
from asr_course.images import resize, sample_photo, to_pixels, to_tensor
from asr_course.render import render

SCALES = (1, 2, 4, 8, 16, 30)
NEAREST = Image.Resampling.NEAREST
SIDE = 176  # rows and columns of a panel
CENTRE = (0.199, 0.397)  # of the photograph: an eye


@torch.inference_mode()
def panels() -> tuple[list[np.ndarray], list[str]]:
    """The input's pixels above, the model's answer below, scale by scale."""
    model = load_pretrained("liif")
    lr = resize(sample_photo("astronaut"), (256, 256))
    above, below = [], []
    for scale in SCALES:
        size = output_size(lr.shape[:2], scale)
        top, left = (
            min(max(round(c * n) - SIDE // 2, 0), n - SIDE)
            for c, n in zip(CENTRE, size, strict=True)
        )
        window = top, left, SIDE, SIDE
        edges = (left, top, left + SIDE, top + SIDE)
        box = [x / scale for x in edges]  # the same window, in input pixels
        pixels = Image.fromarray(lr).resize((SIDE, SIDE), NEAREST, box)
        above.append(np.asarray(pixels))
        below.append(to_pixels(render(model, to_tensor(lr), size, window=window)))
    titles = [f"×{scale}, input pixels" for scale in SCALES]
    return above + below, titles + [f"×{scale}, LIIF" for scale in SCALES]


if __name__ == "__main__":
    path = Path(__file__).with_name("hero.png")
    pictures, titles = panels()
    sheet = plots.gallery(pictures, titles, SIDE, columns=len(SCALES))
    path.write_bytes(plots.to_png(sheet))
    print(path.name, sheet.size, f"{path.stat().st_size / 1e3:.0f} kB")
