"""What a model costs: parameters, multiplications, seconds and memory.

A multiplication is a multiply-add pair (MAC) of a linear layer or a convolution;
biases, activations and look-ups are left out, as in the papers.
"""

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


# As the papers count ------------------------------------------------------------------


def weights(*modules: nn.Module) -> int:
    """How many weights modules have: each is multiplied once for every place."""
    return sum(p.numel() for m in modules for p in m.parameters() if p.ndim > 1)


def slices_per_group(slicing: str, scale: float) -> float:
    """K, DIIF's Eq. 4, of a group of scale x scale pixels."""
    u = {"linear": math.ceil(scale), "rows": scale, "constant": scale**2, "fixed": 4}
    return max(1, scale**2 / u[slicing])


def macs_paper(model: nn.Module, size: tuple[int, int], scale: float) -> int:
    """Multiplications of the formulas as printed, nothing computed once and kept.

    size: (rows, cols) of the input. The number of places times the weights that are
    applied there; exact at whole scales.
    """
    name, options = model.config["name"], model.options
    L, P = math.prod(size), math.prod(output_size(size, scale))
    encoder = L * weights(model.encoder)
    if name == "liif":
        return encoder + (4 if options.local_ensemble else 1) * P * weights(model.mlp)
    if name == "metasr":
        return encoder + P * weights(model.mlp)
    if name == "diinn":
        return encoder + P * (weights(model) - weights(model.encoder))
    if name == "hiif":
        d = options.width // options.heads
        attention = len(model.attention) * 2 * options.width * d  # k^T v, then q
        rest = weights(model.levels, model.attention) + attention
        return encoder + L * weights(model.project) + P * rest
    if name == "diin":
        return encoder + macs_of_diin(model, L, P)
    waves = 0
    if name in ("lte", "dlte"):
        waves = L * weights(model.amplitude, model.frequency)
    if name == "lte":
        return encoder + waves + 4 * P * weights(model.mlp, model.phase)
    K = slices_per_group(options.slicing, scale)
    if options.slicing == "fixed":
        return encoder + round(4 * L * K * weights(model.coarse))
    once = (model.coarse, model.phase) if name == "dlte" else (model.coarse,)
    coarse = len(model.corners()) * L * K * weights(*once)
    return encoder + waves + round(coarse) + P * weights(model.fine)


def macs_tail(channels: int, size: tuple[int, int], scale: int) -> int:
    """Multiplications of an upsampling tail: doublings by pixel shuffle, then RGB."""
    L, doublings = math.prod(size), round(math.log2(scale))
    stages = sum(L * 4**k * channels * 4 * channels * 9 for k in range(doublings))
    return stages + L * scale**2 * channels * 3 * 9


def macs_of_diin(model: nn.Module, L: int, P: int) -> int:
    """Of DIIN's decoder: L latent codes, P queries."""
    o, d, M = model.options, model.options.width, model.options.tokens
    listening = d * d // o.reduction + M * d // o.reduction  # Q, and its likeness
    tokens = M * d // o.reduction * d + M * d * d  # K_D and V_D
    total = L * weights(model.project) + P * weights(model.embed, model.head)
    for k, layer in enumerate(model.layers):
        total += P * weights(layer.qkv, layer.out, layer.hidden, layer.answer)
        total += P * 2 * d * d if layer.mixes else 0
        total += (P * (listening + M * d) + tokens) if o.dictionary else 0
        total += P * M * d if o.dictionary and k + 1 < o.layers else 0  # Eq. 17
    if o.dictionary:
        meeting = d * model.encoder.channels + listening + M * d
        total += L * meeting + tokens - M * d * d  # no values there
    return total


# As we run ----------------------------------------------------------------------------


class TensorMemory(TorchDispatchMode):
    """The largest memory that tensors made in a `with` block held at one time.

    Counts every storage from the operation that made it to its release. What a kernel
    needs inside of itself is not seen, nor what the allocator keeps for later.
    """

    def __init__(self):
        super().__init__()
        self._alive, self._bytes, self.peak = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):  # what was there before is free
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor.untyped_storage(), 0)
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._watch(storage, storage.nbytes())
        return result

    def _watch(self, storage, size: int) -> None:
        """Count a storage that is new, until it is released."""
        key = storage._cdata
        if key in self._alive:
            return
        self._alive.add(key)
        self._bytes += size
        self.peak = max(self.peak, self._bytes)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._bytes -= size


def profile(
    name: str,
    size: str,
    lr_size: tuple[int, int],
    scale: float,
    device: torch.device | str = "cpu",
) -> dict:
    """Build a model and render one output: what it costs, as a row.

    macs_run: counted while our code runs. seconds and cpu_seconds: of a second run,
    after one to warm up. plain_cpu_seconds: the same with the formula as printed,
    where the model has both. peak_mb: the most that tensors held at one time, weights
    and input left out.
    """
    torch.manual_seed(0)
    model = build(name, size).eval().to(device)
    lr = torch.rand(1, 3, *lr_size, device=device)
    target = output_size(lr_size, scale)
    with TensorMemory() as memory:
        macs_run = multiplications(lambda: render(model, lr, target))
    seconds, cpu_seconds = clock(model, lr, target)
    row = {
        "model": name,
        "size": size,
        "lr": f"{lr_size[0]}x{lr_size[1]}",
        "scale": scale,
        "parameters": count_parameters(model),
        "macs_paper": macs_paper(model, lr_size, scale),
        "macs_run": macs_run,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "plain_cpu_seconds": None,
        "peak_mb": memory.peak / 2**20,
    }
    if hasattr(model, "predict_plain"):
        model.predict = model.predict_plain
        row["plain_cpu_seconds"] = clock(model, lr, target)[1]
    return row


def clock(model: nn.Module, lr: torch.Tensor, target) -> tuple[float, float]:
    """Seconds and CPU seconds of one render."""
    wall, cpu = time.perf_counter(), time.process_time()
    render(model, lr, target)
    if lr.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def format_profile(rows: list[dict]) -> str:
    """Rows of `profile` as a table for the terminal."""
    lines = [
        f"{'model':8} {'scale':>6} {'parameters':>11} {'G MACs, paper':>14} "
        f"{'as we run':>10} {'seconds':>8} {'CPU s':>7} {'plain':>7} {'peak MB':>8}"
    ]
    for row in rows:
        plain = row["plain_cpu_seconds"]
        lines.append(
            f"{row['model']:8} {row['scale']:6g} {row['parameters']:11,} "
            f"{row['macs_paper'] / 1e9:14.2f} {row['macs_run'] / 1e9:10.2f} "
            f"{row['seconds']:8.2f} {row['cpu_seconds']:7.2f} "
            f"{f'{plain:.2f}' if plain else '':>7} {row['peak_mb']:8.0f}"
        )
    lines.append(
        f"size {rows[0]['size']}, input {rows[0]['lr']} (rows x columns); plain: CPU "
        "seconds of the formula as printed"
    )
    return "\n".join(lines)
