"""What a model costs: parameters, multiplications, seconds and memory.

A multiplication is a multiply-add pair (MAC) of a linear layer or a convolution;
biases, activations and look-ups are left out, as in the papers.
"""

import copy
import math
import time
import weakref
from collections.abc import Callable

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from asr_course.coords import output_size
from asr_course.models import build, count_parameters
from asr_course.render import render


def multiplications(call: Callable) -> int:
    """Multiply-add pairs of a call, in matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() // 2  # it counts two operations for a pair


def macs_paper(model: nn.Module, size: tuple[int, int], scale: float) -> int:
    """Multiplications of the formulas as printed, for an input of `size` (rows, cols).

    Nothing is computed once and kept. Exact at whole scales.
    """
    latents, queries = math.prod(size), math.prod(output_size(size, scale))
    return latents * encoder_macs(model.encoder) + model.macs(latents, queries, scale)


def encoder_macs(encoder: nn.Module) -> int:
    """Multiplications of an encoder for one latent code, counted on whole windows."""
    encoder = copy.deepcopy(encoder).to("meta", torch.float32)
    x = torch.empty(1, 3, 48, 48, device="meta")
    return multiplications(lambda: encoder(x)) // 48**2


class TensorMemory(TorchDispatchMode):
    """The peak memory of tensors made in a `with` block, in bytes.

    Counts every storage from the operation that made it until it is freed. Work space
    inside a kernel and the allocator's reserve are not seen.
    """

    def __init__(self):
        super().__init__()
        self._alive, self._bytes, self.peak = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self._watch((args, kwargs), counted=False)  # what was there before
        result = function(*args, **(kwargs or {}))
        self._watch(result, counted=True)
        return result

    def _watch(self, tree, counted: bool) -> None:
        """Follow the storages of new tensors until they are freed."""
        for tensor in tree_leaves(tree):
            storage = isinstance(tensor, torch.Tensor) and tensor.untyped_storage()
            if storage and storage._cdata not in self._alive:
                size = storage.nbytes() if counted else 0
                self._alive.add(storage._cdata)
                self._bytes += size
                self.peak = max(self.peak, self._bytes)
                weakref.finalize(storage, self._release, storage._cdata, size)

    def _release(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._bytes -= size


def profile(
    name: str, size: str, lr_size: tuple[int, int], scale: float, device="cpu"
) -> dict:
    """Build a model and render one output: what it costs, as a row.

    macs_run: counted while our code runs. seconds, cpu_seconds: of a second run, after
    one to warm up. peak_mb: peak memory of tensors, without weights and input. A
    generative model takes one step of its sampler, and has no count by formula.
    """
    torch.manual_seed(0)
    model = build(name, size).eval().to(device)
    lr, target = torch.rand(1, 3, *lr_size, device=device), output_size(lr_size, scale)
    printed = None if model.is_generative else macs_paper(model, lr_size, scale)

    def call() -> None:
        if model.is_generative:
            sr = model.sample(lr, target, steps=1)
        else:
            sr = render(model, lr, target)
        sr.flatten()[0].item()  # waits for a GPU

    with TensorMemory() as memory:
        macs_run = multiplications(call)
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "model": name,
        "size": size,
        "lr": f"{lr_size[0]}x{lr_size[1]}",
        "scale": scale,
        "pixels": math.prod(target),
        "parameters": count_parameters(model),
        "macs_paper": printed,
        "macs_run": macs_run,
        "seconds": wall,
        "cpu_seconds": cpu,
        "peak_mb": memory.peak / 2**20,
    }


HEADS = ("model", "size", "scale", "parameters", "G MACs", "as run", "s", "CPU s", "MB")
LINE = "{:8} {:7} {:>5} {:>11} {:>9} {:>9} {:>8} {:>8} {:>7}"


def format_profile(rows: list[dict]) -> str:
    """Rows of `profile` as a table for the terminal."""
    lines = [LINE.format(*HEADS)]
    for row in rows:
        paper = "" if row["macs_paper"] is None else f"{row['macs_paper'] / 1e9:,.2f}"
        words = [row["model"], row["size"], f"{row['scale']:g}"]
        words += [f"{row['parameters']:,}", paper, f"{row['macs_run'] / 1e9:,.2f}"]
        words += [f"{row[key]:.2f}" for key in ("seconds", "cpu_seconds")]
        lines.append(LINE.format(*words, f"{row['peak_mb']:.0f}"))
    return "\n".join([*lines, f"input {rows[0]['lr']} (rows x columns)"])
