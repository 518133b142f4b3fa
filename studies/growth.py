"""Time and memory against the number of queries, for HIIF and DIIN.

    python studies/growth.py --json data/results/growth.json

In these models a query depends on all others. Measured are a whole output, and the
step that connects the queries alone, computed in two ways: by sums over all queries
(what the course does) and with a matrix of all pairs of queries.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from asr_course.devices import pick_device
from asr_course.models import METHODS, build
from asr_course.models.diin_layers import diffuse, heat, rates
from asr_course.profile import TensorMemory
from asr_course.records import save_record
from asr_course.render import render_pieces

LR = (32, 32)  # rows and columns of the input
PAIRS_BYTES = 2**31  # pairs are computed while their matrices need less than this
NONLOCAL = [name for name, method in METHODS.items() if method.is_nonlocal]

# The step alone on q, k, v (B, heads, n, d): by sums over all queries, and by pairs.
STEPS = {
    "hiif": (
        lambda q, k, v: q @ (k.transpose(-1, -2) @ v / q.shape[-2]),
        lambda q, k, v: (q @ k.transpose(-1, -2) / q.shape[-2]) @ v,
    ),
    "diin": (
        lambda q, k, v: diffuse(q[:, 0], heat(k[:, 0], v[:, 0])),
        lambda q, k, v: rates(q[:, 0], k[:, 0]) @ v[:, 0],
    ),
}


def growth(name: str, size: str, sides: Sequence[int], device="cpu") -> list[dict]:
    """Rows of CPU seconds and memory for outputs of side x side queries.

    cpu_seconds, peak_mb: of a whole output, its pieces dropped as they come. sums_
    and pairs_: of the step alone; None where pairs need too much memory.
    """
    torch.manual_seed(0)
    model = build(name, size).eval().to(device)
    heads = getattr(model.options, "heads", 1)
    lr, rows = torch.rand(1, 3, *LR, device=device), []
    for side in sides:
        n = side * side
        seconds, megabytes = cost(draw_and_drop, model, lr, (side, side))
        row = {"model": name, "size": size, "queries": n, "cpu_seconds": seconds}
        row |= {"peak_mb": megabytes, "pairs_cpu_seconds": None, "pairs_mb": None}
        qkv = torch.randn(3, 1, heads, n, model.options.width // heads, device=device)
        by_sums, by_pairs = STEPS[name]
        row["sums_cpu_seconds"], row["sums_mb"] = cost(by_sums, *qkv)
        if 3 * 4 * heads * n * n < PAIRS_BYTES:
            row["pairs_cpu_seconds"], row["pairs_mb"] = cost(by_pairs, *qkv)
        rows.append(row)
    return rows


def draw_and_drop(model: nn.Module, lr: torch.Tensor, size: tuple[int, int]) -> None:
    """Draw an output piece by piece and keep nothing."""
    for _ in render_pieces(model, lr, size):
        pass


@torch.inference_mode()
def cost(call: Callable, *args) -> tuple[float, float]:
    """CPU seconds of a call, and the peak of its live tensors in MB (two runs)."""
    with TensorMemory() as memory:
        call(*args)
    started = time.process_time()
    call(*args)
    return time.process_time() - started, memory.peak / 2**20


def format_growth(rows: list[dict]) -> str:
    """Rows of `growth` as a table for the terminal."""
    lines = [
        f"{'model':6} {'queries':>9} {'CPU s':>8} {'us/query':>9} {'peak MB':>8}   "
        f"{'sums: s':>8} {'MB':>6} {'pairs: s':>9} {'MB':>6}"
    ]
    for row in rows:
        pair = f"{'too large':>16}"
        if row["pairs_mb"] is not None:
            pair = f"{row['pairs_cpu_seconds']:9.3f} {row['pairs_mb']:6.0f}"
        lines.append(
            f"{row['model']:6} {row['queries']:9,} {row['cpu_seconds']:8.2f} "
            f"{row['cpu_seconds'] / row['queries'] * 1e6:9.1f} {row['peak_mb']:8.1f}   "
            f"{row['sums_cpu_seconds']:8.3f} {row['sums_mb']:6.0f} {pair}"
        )
    lines.append(
        f"size {rows[0]['size']}, input {LR[0]}x{LR[1]}; left a whole output, right "
        "the step that connects the queries"
    )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Cost against the number of queries.")
    parser.add_argument("--model", nargs="+", default=NONLOCAL, choices=NONLOCAL)
    parser.add_argument("--size", default="laptop", help="paper, laptop or tiny")
    sides = [32, 64, 100, 160, 320, 640, 1024]
    parser.add_argument(
        "--sides", type=int, nargs="+", default=sides, help="rows of square outputs"
    )
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    if not LR[0] <= min(args.sides) <= max(args.sides) <= 4096:
        parser.error(f"--sides must lie between {LR[0]} and 4096")
    device = pick_device(args.device)
    rows = []
    for name in args.model:
        rows += growth(name, args.size, args.sides, device)
    print(format_growth(rows))
    if args.json:
        save_record(args.json, rows)


if __name__ == "__main__":
    main()
