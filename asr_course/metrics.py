"""PSNR, SSIM and LR-PSNR, and the two protocols that decide what they mean.

A number in decibels says nothing without its protocol: how the low-resolution input
was made, which channels are compared, and how wide a border is left out. Two
protocols cover the papers of this course.

liif   inputs from the data set's own files if it has them, else Pillow's bicubic of
       the high-resolution picture cropped to whole low-resolution pixels; luma (Y)
       with a border of ceil(s) pixels, RGB with s + 6. LIIF, LTE, DIIF, HIIF, DIIN.
diinn  inputs by torch's antialiased bicubic, nothing cropped, no border, RGB.

Nothing is rounded before it is compared; predictions are clamped to [0, 1].
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from asr_course.coords import round_half_up
from asr_course.errors import UserError, choose
from asr_course.images import (
    decode,
    is_grey,
    list_images,
    open_image,
    read_sizes,
    resize,
    save_image,
    to_pixels,
    to_rgb,
    to_tensor,
)
from asr_course.render import render

LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)  # of ITU-R BT.601, for [0, 1] input
COLUMNS = ("psnr_y", "psnr_rgb", "ssim", "lr_psnr")


def to_luma(picture: Tensor) -> Tensor:
    """RGB (3, h, w) in [0, 1] to luma (1, h, w) in [16/255, 235/255]; grey as it is."""
    if picture.shape[0] == 1:
        return picture
    weight = picture.new_tensor(LUMA).view(3, 1, 1)
    return (picture * weight).sum(0, keepdim=True) + 16 / 255


def shave(picture: Tensor, border: int) -> Tensor:
    """`picture` (C, h, w) without `border` pixels on every side."""
    if border == 0:
        return picture
    if 2 * border >= min(picture.shape[-2:]):
        raise UserError(
            f"a picture of {tuple(picture.shape[-2:])} pixels is nothing but border "
            f"when {border} pixels are left out on every side; use larger pictures"
        )
    return picture[..., border:-border, border:-border]


def psnr(a: Tensor, b: Tensor, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB of two (C, h, w) pictures in [0, 1].

    10 log10(1 / mean squared difference), all channels pooled, `border` pixels left
    out; infinite for equal pictures.
    """
    error = (shave(a, border).double() - shave(b, border).double()).square().mean()
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(a: Tensor, b: Tensor, border: int = 0) -> float:
    """Structural similarity (Wang et al., 2004) of two (C, h, w) pictures in [0, 1].

    Gaussian window of 11 pixels and sigma 1.5, mean over channels. NaN if the pictures
    are smaller than the window.
    """
    from skimage.metrics import structural_similarity

    a, b = (shave(x, border).double().cpu().numpy() for x in (a, b))
    if min(a.shape[-2:]) < 11:
        return math.nan
    return float(
        structural_similarity(
            a,
            b,
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def lr_psnr(sr: Tensor, hr: Tensor, scale: float) -> float:
    """PSNR after shrinking both pictures by `scale`: does the output keep the input?

    DIINN's measure (its section 4.2): antialiased bicubic, against the shrunk truth.
    """
    size = [max(1, round_half_up(n / scale)) for n in hr.shape[-2:]]
    small = [
        F.interpolate(x[None].float(), size, mode="bicubic", antialias=True)[0]
        for x in (sr, hr)
    ]
    return psnr(*small)


def seam(picture: Tensor, scale: int, where: float = 0.0) -> float:
    """How much the borders of low-resolution pixels show in a (3, h, w) picture.

    The mean step between rows where a border is crossed, over the mean step elsewhere;
    `scale` is whole, and the picture begins at a border. where: which line in a
    low-resolution pixel, 0 its border, 0.5 its centre (`scale` even).
    """
    step = (picture[:, 1:] - picture[:, :-1]).abs().mean(dim=(0, 2))  # (h - 1,)
    crossing = torch.arange(1, len(step) + 1) % scale == round(where * scale)
    return float(step[crossing].mean() / step[~crossing].mean())


def low_resolution_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """floor(H / s), floor(W / s): how many low-resolution pixels fit whole."""
    low = tuple(int(n / scale + 1e-9) for n in size)
    if min(low) < 1:
        raise UserError(f"a picture of {size} pixels has nothing left at 1/{scale:g}")
    return low


def check_scales(scales) -> None:
    """UserError unless every scale is a number of 1 or more."""
    for scale in scales:
        if not (math.isfinite(scale) and scale >= 1):
            raise UserError(f"scale must be a number of 1 or more, not {scale}")


def make_pair(hr: np.ndarray, scale: float, protocol: str) -> tuple:
    """The (input, truth) pair a protocol makes of a uint8 picture without LR file."""
    if protocol == "diinn":
        size = tuple(max(1, round_half_up(n / scale)) for n in hr.shape[:2])
        return resize(hr, size, "torch"), hr
    low = low_resolution_size(hr.shape[:2], scale)
    hr = hr[: round_half_up(low[0] * scale), : round_half_up(low[1] * scale)]
    return resize(hr, low, "pillow"), hr


def score(sr: Tensor, hr: Tensor, scale: float, protocol: str) -> dict[str, float]:
    """All four measures of one clamped prediction (C, h, w) under a protocol."""
    border = math.ceil(scale) if protocol == "liif" else 0
    luma = to_luma(sr), to_luma(hr)
    return {
        "psnr_y": psnr(*luma, border),
        "psnr_rgb": psnr(sr, hr, border + 6 if protocol == "liif" else 0),
        "ssim": ssim(*luma, border) if protocol == "liif" else ssim(sr, hr),
        "lr_psnr": lr_psnr(sr, hr, scale),
    }


def predict(model: nn.Module | None, lr: np.ndarray, size, protocol: str) -> Tensor:
    """`model`'s enlargement of a uint8 picture, or bicubic's: (3, h, w), clamped."""
    if model is None:
        how = "torch" if protocol == "diinn" else "pillow"
        return to_tensor(resize(lr, size, how))[0]
    device = next(model.parameters()).device
    return render(model, to_tensor(lr).to(device), size).clamp(0, 1).cpu()


def to_grey(picture: Tensor) -> Tensor:
    """(3, h, w) to (1, h, w), the plain mean: the three channels of a grey picture."""
    return picture.mean(0, keepdim=True)


def unscorable(size: tuple[int, int], scale: float, protocol: str) -> str:
    """Why a picture of `size` is too small to score at `scale`; "" if it is not."""
    if protocol == "diinn":
        return ""
    low = [int(n / scale + 1e-9) for n in size]
    border = math.ceil(scale) + 6
    if min(low) < 1:
        return f"it has nothing left at 1/{scale:g}"
    if 2 * border >= round_half_up(min(low) * scale):
        return f"it is nothing but border, which is {border} pixels wide"
    return ""


class Benchmark:
    """What to score on: DIR/HR with DIR/LR_bicubic/X{s}, or just a folder of pictures.

    Or pictures in memory, {name: (rows, cols, 3) uint8}. `unreadable` holds the names
    of files that are left out, and their faults.
    """

    def __init__(self, source: str | Path | dict):
        self.in_memory = source if isinstance(source, dict) else None
        self.unreadable, self.low = {}, None
        self._belong = set()  # scales whose LR files were found to fit
        if self.in_memory is not None:
            if not source:
                raise UserError("no pictures to score on")
            self.folder = Path("bundled photographs")
            self.sizes = {Path(name): x.shape[:2] for name, x in source.items()}
        else:
            self.folder = Path(source)
            has_hr = (self.folder / "HR").is_dir()
            paths = list_images(self.folder / "HR" if has_hr else self.folder)
            self.sizes, self.unreadable = read_sizes(paths)
            self.low = self.folder / "LR_bicubic" if has_hr else None
        self.paths = list(self.sizes)

    def too_small(self, scales, protocol: str) -> dict[str, str]:
        """The names of pictures that are left out at one scale or more, and why."""
        found = {}
        for path, size in self.sizes.items():
            at = [f"x{s:g}" for s in scales if unscorable(size, s, protocol)]
            if at:
                found[path.name] = f"{size[0]}x{size[1]}, too small at {', '.join(at)}"
        return found

    def scorable(self, scale: float, protocol: str) -> list[Path]:
        """The pictures that are large enough for a scale, with the right LR files.

        UserError if there is none, or if LR files are missing or of another size.
        """
        faults = {
            p: unscorable(size, scale, protocol) for p, size in self.sizes.items()
        }
        paths = [path for path in self.paths if not faults[path]]
        if not paths:
            path, fault = next(iter(faults.items()))
            rows, cols = self.sizes[path]
            raise UserError(
                f"no picture in {self.folder} is large enough for x{scale:g}; "
                f"{path.name} has {rows}x{cols} pixels, and {fault}; use larger ones"
            )
        self.check_low(paths, scale, protocol)
        return paths

    def low_file(self, path: Path, scale: float, protocol: str) -> Path | None:
        """Where the data set keeps the input of a picture at a scale, if it does.

        Under its own name, or as DIV2K and EDSR's archive have it: 0801x2.png.
        """
        folder = self.low / f"X{scale:g}" if self.low and protocol == "liif" else None
        if not folder or not folder.is_dir():
            return None
        marked = folder / f"{path.stem}x{scale:g}{path.suffix}"
        plain = folder / path.name
        return marked if marked.is_file() and not plain.is_file() else plain

    def check_low(self, paths: list[Path], scale: float, protocol: str) -> None:
        """UserError unless all of some pictures have their LR file, or none."""
        files = {path: self.low_file(path, scale, protocol) for path in paths}
        if not all(files.values()) or scale in self._belong:
            return
        missing = [path.name for path, low in files.items() if not low.is_file()]
        if missing:
            folder = files[paths[0]].parent
            raise UserError(
                f"{folder} lacks {len(missing)} of {len(paths)} pictures, such as "
                f"{missing[0]}; add them, or move {folder} away"
            )
        for path, low in files.items():
            size, hr = decode(open_image(low)).size[::-1], self.sizes[path]
            rows, cols = (round_half_up(n * scale) for n in size)
            over = hr[0] - rows, hr[1] - cols
            if min(over) < 0 or max(over) >= scale:
                raise UserError(
                    f"{low} times {scale:g} has {rows}x{cols} pixels, {path} has "
                    f"{hr[0]}x{hr[1]}: the two do not belong together; replace one"
                )
        self._belong.add(scale)

    def pair(self, path: Path, scale: float, protocol: str) -> tuple:
        """(input, truth) of one picture, (rows, cols, 3) uint8."""
        if self.in_memory is not None:
            return make_pair(self.in_memory[str(path)], scale, protocol)
        hr = np.asarray(to_rgb(open_image(path)))
        low = self.low_file(path, scale, protocol)
        if not low:
            return make_pair(hr, scale, protocol)
        lr = np.asarray(to_rgb(open_image(low)))
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
    """Score `model` (None: bicubic) on a folder or {name: picture}: a row a scale.

    grey="rgb" repeats grey pictures to three channels before they are scored, as
    LIIF's family does; grey="grey" scores their one channel. per_image gives a row for
    every picture too; save is a folder for the outputs. A row's figures are the means
    over pictures; "left_out" names those that cannot be read or are too small for a
    scale, if any.
    """
    choose("protocol", protocol, ("liif", "diinn"))
    choose("way of scoring grey", grey, ("rgb", "grey"))
    check_scales(scales)
    benchmark = source if isinstance(source, Benchmark) else Benchmark(source)
    paths = {scale: benchmark.scorable(scale, protocol) for scale in scales}
    rows = []
    for scale in scales:
        scored = []
        for path in paths[scale]:
            lr, hr = benchmark.pair(path, scale, protocol)
            sr = predict(model, lr, hr.shape[:2], protocol)
            truth = to_tensor(hr)[0]
            if save:
                save_prediction(sr, Path(save) / f"x{scale:g}" / f"{path.stem}.png")
            if grey == "grey" and is_grey(hr):
                sr, truth = to_grey(sr), to_grey(truth)
            scored.append({"image": path.name, **score(sr, truth, scale, protocol)})
        means = {key: float(np.mean([row[key] for row in scored])) for key in COLUMNS}
        about = {
            "model": name,
            "data": benchmark.folder.name,
            "scale": scale,
            "protocol": protocol,
            "grey": grey,
        }
        rows.append({**about, **means, "images": len(scored)})
        small = benchmark.too_small([scale], protocol)
        if small or benchmark.unreadable:
            rows[-1]["left_out"] = [*benchmark.unreadable, *small]
        if per_image:
            rows += [{**about, **row, "images": 1} for row in scored]
    return rows


@torch.inference_mode()
def protocol_effects(model, pictures: dict, scale: float) -> list[dict]:
    """How far each choice of a protocol alone moves the mean PSNR: rows of dB.

    Starts from the protocol "liif" on {name: uint8 picture} and changes one thing at
    a time: who made the input, which channels count, the border, the rounding.
    """
    border = math.ceil(scale)
    mean = {}

    def add(choice: str, decibels: float) -> None:
        mean.setdefault(choice, []).append(decibels)

    for picture in pictures.values():
        lr, hr = make_pair(picture, scale, "liif")
        truth = to_tensor(hr)[0]
        sr = predict(model, lr, hr.shape[:2], "liif")
        luma, truth_luma = to_luma(sr), to_luma(truth)
        rounded = to_tensor(to_pixels(sr))[0]
        add(
            "protocol liif: Pillow input, Y, border ceil(s)",
            psnr(luma, truth_luma, border),
        )
        add("RGB instead of Y", psnr(sr, truth, border))
        add("no border left out", psnr(luma, truth_luma))
        add("border s + 6 instead of s", psnr(luma, truth_luma, border + 6))
        add("output rounded to 8 bits", psnr(to_luma(rounded), truth_luma, border))
        others = {
            "input by MATLAB's imresize": resize(hr, lr.shape[:2], "matlab"),
            "input by torch, antialiased": resize(hr, lr.shape[:2], "torch"),
            "input by torch without antialiasing": to_pixels(
                F.interpolate(truth[None], lr.shape[:2], mode="bicubic")[0]
            ),
        }
        for choice, other in others.items():
            sr = predict(model, other, hr.shape[:2], "liif")
            add(choice, psnr(to_luma(sr), truth_luma, border))
    first = float(np.mean(next(iter(mean.values()))))
    return [
        {
            "choice": choice,
            "psnr": float(np.mean(v)),
            "change": float(np.mean(v)) - first,
        }
        for choice, v in mean.items()
    ]


def save_prediction(sr: Tensor, path: Path) -> None:
    """Write one enlarged picture as an 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(Image.fromarray(to_pixels(sr)), path)


def format_rows(rows: list[dict]) -> str:
    """Rows of `evaluate` as a table for the terminal."""
    lines = [
        f"{'data':12} {'scale':>6} {'PSNR-Y':>8} {'PSNR-RGB':>9} {'SSIM':>7} "
        f"{'LR-PSNR':>8}  pictures"
    ]
    for row in rows:
        lines.append(
            f"{row['data'][:12]:12} {row['scale']:6g} {row['psnr_y']:8.2f} "
            f"{row['psnr_rgb']:9.2f} {row['ssim']:7.4f} {row['lr_psnr']:8.2f}  "
            f"{row.get('image', row['images'])}"
        )
    first = rows[0]
    lines.append(
        f"model {first['model']}, protocol {first['protocol']}, "
        f"grey pictures scored as {first['grey']}"
    )
    return "\n".join(lines)
