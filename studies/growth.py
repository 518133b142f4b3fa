"""Time and memory against the number of queries, where they hear from each other."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from asr_course.errors import choose
from asr_course.models import build
from asr_course.models.diin import diffuse, heat, rates
from asr_course.models.hiif import pairs
from asr_course.profile import TensorMemory
from asr_course.render import render_tiles

LR = (32, 32)  # rows and columns of the input
SQUARE_BYTES = 2**31  # pairs are tried while their matrices need less than this

# The step in which queries hear from each other: by sums over all, and pair by pair.
STEPS = {
    "hiif": (lambda q, k, v: q @ (k.transpose(-1, -2) @ v / q.shape[-2]), pairs),
    "diin": (
        lambda q, k, v: diffuse(q[:, 0], heat(k[:, 0], v[:, 0])),
        lambda q, k, v: rates(q[:, 0], k[:, 0]) @ v[:, 0],
    ),
}


def growth(name: str, size: str, sides: Sequence[int], device="cpu") -> list[dict]:
    """Rows of CPU seconds and memory for outputs of side x side queries.

    cpu_seconds, peak_mb: a whole render, its pieces used as they come and not kept.
    sums_ and pairs_: the step in which queries hear from each other, alone, done both
    ways; None where pairs would need too much memory.
    """
    choose("model whose queries hear from each other", name, STEPS)
    torch.manual_seed(0)
    model = build(name, size).eval().to(device)
    heads = model.options.heads if name == "hiif" else 1
    lr, rows = torch.rand(1, 3, *LR, device=device), []
    for side in sides:
        n = side * side
        seconds, megabytes = cost(render_and_drop, model, lr, (side, side))
        row = {"model": name, "size": size, "queries": n, "cpu_seconds": seconds}
        row |= {"peak_mb": megabytes, "pairs_cpu_seconds": None, "pairs_mb": None}
        qkv = torch.randn(3, 1, heads, n, model.options.width // heads, device=device)
        by_sums, by_pairs = STEPS[name]
        row["sums_cpu_seconds"], row["sums_mb"] = cost(by_sums, *qkv)
        if 3 * 4 * heads * n * n < SQUARE_BYTES:
            row["pairs_cpu_seconds"], row["pairs_mb"] = cost(by_pairs, *qkv)
        rows.append(row)
    return rows


def render_and_drop(model: nn.Module, lr: torch.Tensor, size: tuple[int, int]) -> None:
    """Render, and keep nothing."""
    for _ in render_tiles(model, lr, size):
        pass


@torch.inference_mode()
def cost(call: Callable, *args) -> tuple[float, float]:
    """CPU seconds of a call, and the peak of its live tensors in MB, in two runs."""
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
        pair = f"{'out of reach':>16}"
        if row["pairs_mb"] is not None:
            pair = f"{row['pairs_cpu_seconds']:9.3f} {row['pairs_mb']:6.0f}"
        lines.append(
            f"{row['model']:6} {row['queries']:9,} {row['cpu_seconds']:8.2f} "
            f"{row['cpu_seconds'] / row['queries'] * 1e6:9.1f} {row['peak_mb']:8.1f}   "
            f"{row['sums_cpu_seconds']:8.3f} {row['sums_mb']:6.0f} {pair}"
        )
    lines.append(
        f"size {rows[0]['size']}, input {LR[0]}x{LR[1]}; left a whole render whose "
        "pieces are not kept, right the step in which queries hear from each other"
    )
    return "\n".join(lines)
