"""PSNR, SSIM and LR-PSNR, and the two protocols that decide what they mean.

liif   inputs from the data set's own files if it has them, else Pillow's bicubic of
       the high-resolution image cropped to whole low-resolution pixels; luma (Y)
       with a border of ceil(s) pixels, RGB with s + 6. LIIF, LTE, DIIF, HIIF, DIIN.
diinn  inputs by torch's antialiased bicubic, nothing cropped, no border, RGB.
Outputs are clamped to [0, 1] and not rounded.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from asr_course import images
from asr_course.coords import round_half_up
from asr_course.errors import UserError, choose
from asr_course.render import render

LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)  # ITU-R BT.601, for [0, 1] input
COLUMNS = ("psnr_y", "psnr_rgb", "ssim", "lr_psnr")


def to_luma(x: Tensor) -> Tensor:
    """RGB (3, h, w) in [0, 1] to luma (1, h, w) in [16/255, 235/255]; grey as it is."""
    if x.shape[0] == 1:
        return x
    return (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True) + 16 / 255


def shave(x: Tensor, border: int) -> Tensor:
    """`x` (C, h, w) without `border` pixels on every side."""
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def psnr(a: Tensor, b: Tensor, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB of two (C, h, w) images in [0, 1].

    10 log10(1 / mean squared error), all channels pooled; infinite for equal images.
    """
    mse = (shave(a, border).double() - shave(b, border).double()).square().mean()
    return math.inf if mse == 0 else -10 * math.log10(mse)


def ssim(a: Tensor, b: Tensor, border: int = 0) -> float:
    """Structural similarity (Wang et al., 2004) of two (C, h, w) images in [0, 1].

    Gaussian window of 11 pixels, sigma 1.5, mean over channels; NaN on smaller images.
    """
    from skimage.metrics import structural_similarity  # slow to import

    a, b = (shave(x, border).double().cpu().numpy() for x in (a, b))
    if min(a.shape[-2:]) < 11:
        return math.nan
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(a, b, channel_axis=0, data_range=1.0, **window))


def lr_psnr(sr: Tensor, hr: Tensor, scale: float) -> float:
    """PSNR after shrinking both images by antialiased bicubic (DIINN, section 4.2)."""
    size = [max(1, round_half_up(n / scale)) for n in hr.shape[-2:]]
    both = torch.stack([sr, hr]).float()
    return psnr(*F.interpolate(both, size, mode="bicubic", antialias=True))


def seam(x: Tensor, scale: int, where: float = 0.0) -> float:
    """How visible the borders of low-resolution pixels are in a (3, h, w) image.

    The mean step between rows across a border, over the mean step elsewhere; `scale`
    is whole, and the image begins at a border. where=0.5: the step across centres.
    """
    step = (x[:, 1:] - x[:, :-1]).abs().mean(dim=(0, 2))  # (h - 1,)
    crossing = torch.arange(1, len(step) + 1) % scale == round(where * scale)
    return float(step[crossing].mean() / step[~crossing].mean())


def low_resolution_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """floor(H / s), floor(W / s): the low-resolution pixels that fit whole."""
    return tuple(int(n / scale + 1e-9) for n in size)


def make_pair(hr: np.ndarray, scale: float, protocol: str) -> tuple:
    """The (input, truth) pair that a protocol makes of uint8 pixels."""
    if protocol == "diinn":
        size = tuple(max(1, round_half_up(n / scale)) for n in hr.shape[:2])
        return images.resize(hr, size, "torch"), hr
    low = low_resolution_size(hr.shape[:2], scale)
    hr = hr[: round_half_up(low[0] * scale), : round_half_up(low[1] * scale)]
    return images.resize(hr, low, "pillow"), hr


def predict(model: nn.Module | None, lr: np.ndarray, size, protocol: str) -> Tensor:
    """`model`'s output for uint8 pixels, or bicubic's: (3, h, w) in [0, 1]."""
    if model is None:
        how = "torch" if protocol == "diinn" else "pillow"
        return images.to_tensor(images.resize(lr, size, how))[0]
    device = next(model.parameters()).device
    return render(model, images.to_tensor(lr).to(device), size).clamp(0, 1).cpu()


def borders(scale: float, protocol: str) -> tuple[int, int]:
    """Pixels on every side that are not scored, in luma and in RGB."""
    border = math.ceil(scale)
    return (border, border + 6) if protocol == "liif" else (0, 0)


def score(sr: Tensor, hr: Tensor, scale: float, protocol: str) -> dict[str, float]:
    """All four measures of one clamped prediction (C, h, w) under a protocol."""
    y, rgb = borders(scale, protocol)
    luma = to_luma(sr), to_luma(hr)
    return {
        "psnr_y": psnr(*luma, y),
        "psnr_rgb": psnr(sr, hr, rgb),
        "ssim": ssim(*luma, y) if protocol == "liif" else ssim(sr, hr),
        "lr_psnr": lr_psnr(sr, hr, scale),
    }


class Benchmark:
    """A folder of images, DIR/HR with DIR/LR_bicubic/X{s}, or {name: pixels}."""

    def __init__(self, source: str | Path | dict):
        self.fitting = set()  # LR files that were read and fit their images
        if isinstance(source, dict):
            self.folder, self.pixels = Path("bundled photographs"), source
            self.sizes = {Path(name): x.shape[:2] for name, x in source.items()}
            self.left_out = {}
        else:
            self.folder, self.pixels = Path(source), {}
            self.sizes, self.left_out = images.list_images(source)

    def too_small(self, scale: float, protocol: str) -> dict[str, str]:
        """{name: why} of images that are nothing but border at a scale."""
        small = {}
        for path, size in self.sizes.items():
            inner = round_half_up(min(low_resolution_size(size, scale)) * scale)
            if inner <= 2 * borders(scale, protocol)[1]:
                small[path.name] = "{}x{}, too small for x{:g}".format(*size, scale)
        return small

    def scorable(self, scale: float, protocol: str) -> list[Path]:
        """The images to score at a scale. UserError if none, or if LR files misfit."""
        if not 1 <= scale < math.inf:
            raise UserError(f"scale must be a number of 1 or more, not {scale}")
        small = self.too_small(scale, protocol)
        paths = [path for path in self.sizes if path.name not in small]
        if not paths:
            raise UserError(f"{self.folder} has no image large enough for x{scale:g}")
        for path in paths:
            low = self.low_file(path, scale, protocol)
            if low and low not in self.fitting:
                size, whole = images.open_image(low).size[::-1], self.sizes[path]
                over = [whole[k] - round_half_up(size[k] * scale) for k in (0, 1)]
                if min(over) < 0 or max(over) >= scale:
                    raise UserError(f"{low} {size} does not belong to {path} {whole}")
                self.fitting.add(low)
        return paths

    def low_file(self, path: Path, scale: float, protocol: str) -> Path | None:
        """The data set's own input for an image: X2/0801.png or X2/0801x2.png."""
        if protocol != "liif" or not (folder := self.low_folder(scale)):
            return None
        marked = folder / f"{path.stem}x{scale:g}{path.suffix}"
        plain = folder / path.name
        return marked if marked.is_file() and not plain.is_file() else plain

    def low_folder(self, scale: float) -> Path | None:
        """LR_bicubic/X2 or the like, in any letter case."""
        letters = (f"[{c}{c.upper()}]" if c.isalpha() else c for c in "lr_bicubic/x")
        return next(self.folder.glob(f"{''.join(letters)}{scale:g}"), None)

    def read(self, path: Path, scale: float, protocol: str) -> tuple:
        """(input, truth) of one image, uint8 pixels (rows, cols, 3)."""
        if self.pixels:
            return make_pair(self.pixels[str(path)], scale, protocol)
        hr = images.read_pixels(path)
        low = self.low_file(path, scale, protocol)
        if not low:
            return make_pair(hr, scale, protocol)
        lr = images.read_pixels(low)
        rows, cols = (round_half_up(n * scale) for n in lr.shape[:2])
        return lr, hr[:rows, :cols]


@torch.inference_mode()
def evaluate(
    model: nn.Module | None,
    source: str | Path | dict | Benchmark,
    scales,
    protocol: str = "liif",
    grey: str = "rgb",
    per_image: bool = False,
    save: str | Path | None = None,
    name: str = "model",
) -> list[dict]:
    """Score `model` (None: bicubic) on a folder or {name: pixels}: a row a scale.

    grey="rgb" scores grey images as three channels, as LIIF's family does; grey="grey"
    as one. per_image adds a row for every image; save is a folder for the outputs. A
    row holds means over images; "left_out" names those not scored, if any.
    """
    choose("protocol", protocol, ("liif", "diinn"))
    choose("way of scoring grey", grey, ("rgb", "grey"))
    benchmark = source if isinstance(source, Benchmark) else Benchmark(source)
    paths = {scale: benchmark.scorable(scale, protocol) for scale in scales}
    rows = []
    for scale in scales:
        scored = []
        for path in paths[scale]:
            lr, hr = benchmark.read(path, scale, protocol)
            sr = predict(model, lr, hr.shape[:2], protocol)
            truth = images.to_tensor(hr)[0]
            if save:
                twins = sum(path.stem == other.stem for other in benchmark.sizes)
                stem = path.name if twins > 1 else path.stem  # a.png and a.jpg
                file = Path(save) / f"x{scale:g}" / f"{stem}.png"
                images.save_image(Image.fromarray(images.to_pixels(sr)), file)
            if grey == "grey" and (truth == truth[:1]).all():
                sr, truth = sr.mean(0, keepdim=True), truth.mean(0, keepdim=True)
            scored.append({"image": path.name, **score(sr, truth, scale, protocol)})
        about = {"model": name, "data": images.name_of(benchmark.folder)}
        about |= {"scale": scale, "protocol": protocol, "grey": grey}
        low = benchmark.low_folder(scale) if protocol == "liif" else None
        about["lr"] = "/".join(low.parts[-2:]) if low else "made"
        means = {key: float(np.mean([row[key] for row in scored])) for key in COLUMNS}
        rows.append({**about, **means, "images": len(scored)})
        if left_out := [*benchmark.left_out, *benchmark.too_small(scale, protocol)]:
            rows[-1]["left_out"] = left_out
        if per_image:
            rows += [{**about, **row, "images": 1} for row in scored]
    return rows
