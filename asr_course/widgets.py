"""The explorer: any model at any scale, moved with a slider and the mouse.

What is on the page is in explorer.js. This side is its decoder: it reads `asked`, the
latest request, draws that window and puts it into `answer`.
"""

import io
from collections.abc import Generator
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from IPython.display import display
from PIL import Image

from asr_course import plots
from asr_course.errors import UserError
from asr_course.images import read_pixels, resize
from asr_course.picture import LatestWins, errors_shown, finish
from asr_course.view import EVERY, STEPS, Decoder, View

VIEW = 256  # output rows and columns that are shown: every scale costs the same


class ScaleExplorer(LatestWins, anywidget.AnyWidget):
    """One slider for the scale, one implicit picture behind it.

    models: a model, or {name: model} for tabs. image: array, PIL image or path; it is
    shrunk by `downsample` to make the model's input, and serves as the truth up to
    that scale (downsample=1: no truth, your picture itself is enlarged). centre: where
    the window begins, as fractions of rows and columns. lr: the model's input, where
    shrinking `image` is not how it came about; such a picture cannot be replaced by a
    photograph of one's own. `look` moves the controls from Python.

    Where queries hear from each other, those of a window hear only from a grid of
    queries in the window, and what you see is not a crop of the whole output. `whole`
    makes it one, at the price of going over all of the output first.
    """

    _esm = Path(__file__).with_name("explorer.js").read_text()
    _css = Path(__file__).with_name("explorer.css").read_text()
    about = traitlets.Dict().tag(sync=True)  # these four: see explorer.js
    photo = traitlets.Dict().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)
    _file = b""  # what has come of a photograph

    def __init__(
        self, models, image, downsample=4, scale=4.0, centre=(0.5, 0.5), lr=None
    ):
        self.models = models if isinstance(models, dict) else {"model": models}
        self.downsample, self.view = downsample, None
        self.decoder = Decoder(self.models)
        names = list(self.models)
        super().__init__(
            about={
                "names": names,
                "nonlocal": [n for n in names if self.models[n].is_nonlocal],
                "generative": [n for n in names if self.models[n].is_generative],
                "upload": lr is None,
            },
            asked={"number": 0, "scale": scale, "left": "bicubic", "right": names[0]}
            | {"centre": list(centre), "side": VIEW, "seed": 0, "whole": False}
            | {"shrink": downsample > 1},
        )
        self.set_image(image, lr, downsample > 1)
        self.request(now=True)
        self.observe(lambda change: self.request(), "asked")
        self.on_msg(self._on_photo)

    def __repr__(self) -> str:
        return "Run the cells above and this one (Shift+Enter) to get the slider."

    def look(self, **changes) -> None:
        """Change what is asked for, as the controls do: scale=3, right="LIIF" ..."""
        self.asked = self.asked | changes | {"number": self.asked["number"] + 1}

    def set_image(self, image, lr: np.ndarray | None = None, shrink=True) -> None:
        """Take another photograph, whose shrunk version is the input, or itself is."""
        if not isinstance(image, np.ndarray):
            image = read_pixels(image)
        by = self.downsample if shrink else 1
        rows, cols = (n // by for n in image.shape[:2])
        if min(rows, cols) < 1:
            raise UserError("too few pixels: choose a larger picture")
        hr = np.ascontiguousarray(image[: rows * by, : cols * by])
        if lr is None:
            lr = resize(hr, (rows, cols)) if by > 1 else hr
        self.image, self.shrink, self.lr = image, shrink, lr
        self.decoder.set_pictures(lr, hr if by > 1 else None)
        small = Image.fromarray(lr)
        small.thumbnail((VIEW, VIEW))
        self.photo = {
            "rows": lr.shape[0],
            "cols": lr.shape[1],
            "image": bare(np.asarray(small)),
            "choice": self.about["upload"] and self.downsample > 1,
            "note": "",
        }

    def _on_photo(self, widget, message: dict, buffers: list) -> None:
        """Enlarge the photograph whose last piece this is, or keep the old one."""
        self._file = self._file[: message["at"]] + bytes(buffers[0])
        if len(self._file) < message["size"]:
            return
        with errors_shown(self):
            try:
                self.set_image(io.BytesIO(self._file), shrink=False)
            except (OSError, ValueError) as error:
                raise UserError(f"{message['name']}: {error}") from None
            self.look(shrink=False, centre=[0.5, 0.5])

    def render(self, scale=None, name=None, view: int = VIEW, whole=False) -> View:
        """The view at a scale for a model, at once and without touching the widget."""
        asked = self.asked | {"left": "bicubic", "side": view, "whole": whole}
        asked |= {"scale": scale} if scale else {}
        return finish(self.decoder.work(asked | ({"right": name} if name else {})))

    def steps(self, watched: bool) -> Generator:
        if self.asked["shrink"] != self.shrink:
            self.set_image(self.image, shrink=self.asked["shrink"])
        return (yield from self.decoder.work(self.asked, watched))

    def tell(self, words: str, wrong: bool = False) -> None:
        """Show progress or an error on the page."""
        kind, number = "error" if wrong else "progress", self.asked["number"]
        self.send({"type": kind, "number": number, "text": words})

    def _show(self, view: View) -> None:
        """Put a view into the widget."""
        self.view, asked = view, self.asked
        (top, left, rows, cols), (h, w) = view.window, view.size
        H, W = self.lr.shape[:2]
        words = f"{H}×{W} → {h}×{w} pixels (rows × columns). The window: rows {top} to "
        words += f"{top + rows}, columns {left} to {left + cols}"
        if view.seconds is None:
            words += "; coarse so far, the rest follows …"
        else:
            words += f"; {rows * cols:,} pixels in {view.seconds * 1000:.0f} ms"
        if view.psnr:
            words += "; dB: PSNR on luma in this window"
        if asked["right"] in self.about["generative"]:
            words += f"; {STEPS} steps of sampling, seed {asked['seed']}"
        if asked["right"] in self.about["nonlocal"]:
            grid = f"{-(-rows // EVERY) * -(-cols // EVERY):,} of the window"
            words += f"; each hears {f'all {h * w:,}' if asked['whole'] else grid}"
        score = {k: f"{x:.2f} dB".replace("inf", "∞") for k, x in view.psnr.items()}
        panels = [
            {"name": name, "score": score.get(name, ""), "image": bare(pixels)}
            for name, pixels in view.panels.items()
        ]
        self.answer = {
            "number": asked["number"],
            "request": asked,
            "size": view.size,
            "window": view.window,
            "panels": panels,
            "text": words + ".",
            "coarse": view.seconds is None,
        }

    def show(self, scales=(1.5, 2.5, 4, 10, 30), side: int = 104) -> None:
        """Display the widget, and a sheet of scales for readers without a kernel."""
        display(self)
        columns = []  # of (title, pixels): bicubic, every model, the photograph
        for scale in scales:
            panels, scores = {}, {}
            for name in self.models:
                view = self.render(scale, name, side)
                panels, scores = panels | view.panels, scores | view.psnr
            last = list(view.panels)[2:]
            columns.append([])
            for title in [t for t in panels if t not in last] + last:
                score = f"{scores[title]:.2f} dB" if title in scores else ""
                head = f"{title.split(',')[0]} ×{scale:g}\n{score}"
                columns[-1].append((head, panels[title]))
        cells = [cell for row in zip(*columns, strict=True) for cell in row]
        titles, pictures = zip(*cells, strict=True)
        sheet = plots.gallery(pictures, titles, side, columns=len(scales))
        rows = ", ".join(["bicubic", *self.models, "photograph"])
        plots.show(sheet, f"Rows {rows}; scales {scales}")


def bare(pixels: np.ndarray) -> dict:
    """Pixels for explorer.js as they are: a PNG takes longer to make than to draw."""
    rows, cols, _ = pixels.shape
    return {"rows": rows, "cols": cols, "data": pixels.tobytes()}
