"""The benchmark: every model at two sizes and five scales; docs/benchmark.md shows it.

    python studies/benchmark.py --lr 40x40 --json data/results/benchmark.json \
        --plot docs/benchmark.png

About half an hour on one core.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from plain import PLAIN, render_plain
from torch import nn

from asr_course.coords import output_size
from asr_course.devices import pick_device
from asr_course.models import METHODS, build
from asr_course.plots import COLOURS, axes, figure_png
from asr_course.profile import format_profile, profile
from asr_course.records import save_record
from asr_course.render import render

SCALES = (2, 4, 8, 16, 30)
LARGE = 1e5  # output pixels from which growth is fitted; below, the encoder dominates
PLAIN_PIXELS = 2**20  # largest output for the formula as printed, which is slow


def benchmark(
    names: Sequence[str],
    sizes: Sequence[str],
    lr_size: tuple[int, int],
    scales: Sequence[float],
    device="cpu",
    on_row: Callable[[dict], None] = lambda row: None,
) -> list[dict]:
    """Rows of `profile` with the plain formula's cost, for every size, model and scale.

    A generative model is measured at the scales it was trained for only. on_row:
    called with every row as soon as it is measured.
    """
    rows = []
    for size in sizes:
        for name in names:
            for scale in scales:
                method = METHODS[name]
                if method.is_generative and scale > method.SIZES[size].largest:
                    continue
                row = profile(name, size, lr_size, scale, device)
                rows.append(row | plain_cost(name, size, lr_size, scale, device))
                on_row(rows[-1])
    return rows


@torch.inference_mode()
def plain_cost(name: str, size: str, lr_size, scale: float, device="cpu") -> dict:
    """CPU seconds of the formula as printed, and how far its output is from ours.

    None where studies/plain.py has no such formula, or the output is large.
    """
    cost = {"plain_cpu_seconds": None, "plain_difference": None}
    target = output_size(lr_size, scale)
    if name not in PLAIN or math.prod(target) > PLAIN_PIXELS:
        return cost
    torch.manual_seed(0)
    model = build(name, size).eval().to(device)
    for parameter in model.parameters():  # a last layer of zeros hides differences
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    lr = torch.rand(1, 3, *lr_size, device=device)
    started = time.process_time()
    sr = render_plain(model, lr, target)
    cost["plain_cpu_seconds"] = time.process_time() - started
    cost["plain_difference"] = (sr - render(model, lr, target)).abs().max().item()
    return cost


def growth_of(rows: list[dict]) -> list[dict]:
    """How the cost of each model at each size grows with the output.

    exponent: of CPU seconds as a power of the number of output pixels, by least
    squares over all rows of 100,000 pixels or more; 1 is proportional. us_per_pixel:
    CPU microseconds of one more pixel, from the two largest outputs. mb: peak memory
    of the smallest and of the largest output, without the output itself.
    """
    fits = []
    for model, size in dict.fromkeys((row["model"], row["size"]) for row in rows):
        mine = [r for r in rows if (r["model"], r["size"]) == (model, size)]
        mine.sort(key=lambda row: row["pixels"])
        large = [r for r in mine if r["pixels"] >= LARGE]
        if len(large) < 2:
            continue
        n, s = ([r[key] for r in large] for key in ("pixels", "cpu_seconds"))
        exponent, _ = np.polyfit(np.log(n), np.log(s), 1)
        fit = {"model": model, "size": size, "exponent": float(exponent)}
        fit["us_per_pixel"] = (s[-1] - s[-2]) / (n[-1] - n[-2]) * 1e6
        ends = mine[0], mine[-1]
        fit["mb"] = [r["peak_mb"] - 12 * r["pixels"] / 2**20 for r in ends]
        fits.append(fit)
    return fits


def format_growth(rows: list[dict]) -> str:
    """The fits of `growth_of` and the plain formula's cost, a line each."""
    lines = [
        f"{fit['model']:8} {fit['size']:7} CPU time grows as pixels^"
        f"{fit['exponent']:.2f}, {fit['us_per_pixel']:.2f} us a pixel; peak "
        f"{fit['mb'][0]:.0f} to {fit['mb'][1]:.0f} MB without the output"
        for fit in growth_of(rows)
    ]
    lines += [
        f"{row['model']:8} {row['size']:7} x{row['scale']:<4g} formula as printed: "
        f"{row['plain_cpu_seconds'] / row['cpu_seconds']:.1f} times as long, "
        f"outputs differ by {row['plain_difference']:.0e}"
        for row in rows
        if row["plain_cpu_seconds"]
    ]
    return "\n".join(lines)


def plot_growth(rows: list[dict]):
    """A figure of CPU seconds against output pixels, a panel for each size."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    figure, _ = axes(len(sizes))
    for panel, size in zip(figure.axes, sizes, strict=True):
        for k, name in enumerate(dict.fromkeys(row["model"] for row in rows)):
            line = [r for r in rows if (r["model"], r["size"]) == (name, size)]
            n, s = ([r[key] for r in line] for key in ("pixels", "cpu_seconds"))
            style = "o-" if k < len(COLOURS) else "s--"
            panel.loglog(n, s, style, markersize=3, label=name)
        panel.set(title=f"size {size}", xlabel="output pixels", ylabel="CPU seconds")
    panel.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    return figure


def rows_by_columns(text: str) -> tuple[int, int]:
    """40x60 as (40, 60)."""
    rows, cols = map(int, text.split("x"))
    return rows, cols


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What every model costs.")
    parser.add_argument("--model", nargs="+", default=[*METHODS], choices=METHODS)
    parser.add_argument("--size", nargs="+", default=["paper", "laptop"])
    parser.add_argument("--lr", type=rows_by_columns, default=(48, 48), help="input")
    parser.add_argument("--scale", type=float, nargs="+", default=SCALES)
    parser.add_argument("--plot", type=Path, help="draw time against pixels, a .png")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    rows = benchmark(
        args.model,
        args.size,
        args.lr,
        args.scale,
        pick_device(args.device),
        lambda row: print(row["model"], row["size"], row["scale"], flush=True),
    )
    print(format_profile(rows))
    print(format_growth(rows))
    if args.plot:
        args.plot.write_bytes(figure_png(plot_growth(rows)))
    if args.json:
        save_record(args.json, rows, growth=growth_of(rows))


if __name__ == "__main__":
    main()
