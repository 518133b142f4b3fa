"""What a model costs: parameters, multiplications, seconds and memory.

A multiplication is a multiply-add pair (MAC) of a linear layer or a convolution;
biases, activations and look-ups are left out, as in the papers.
"""

import math
import time
import weakref
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from asr_course.coords import make_cell, make_coord, output_size
from asr_course.models import build, count_parameters
from asr_course.models.layers import bilinear
from asr_course.render import render
from asr_course.swinir import WindowAttention


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
    encoder = L * macs_of_latent(model.encoder)
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


def macs_of_latent(encoder: nn.Module) -> int:
    """Of an encoder for one latent code: every weight once. In SwinIR's attention a
    pixel also meets the pixels of its window twice, and biases are not multiplied."""
    found = [m for m in encoder.modules() if isinstance(m, WindowAttention)]
    meetings = sum(2 * m.window**2 * m.out.in_features for m in found)
    return weights(encoder) + meetings - sum(m.bias.numel() for m in found)


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


PLAIN_QUERIES = 30_000  # at a time, as LIIF's official code evaluates
PLAIN_PIXELS = 2**20  # larger outputs are not made by the plain formula: it takes long


@torch.inference_mode()
def render_plain(model: nn.Module, lr: Tensor, size: tuple[int, int]) -> Tensor:
    """An output (3, h, w) by the formula as printed, in the way of the official codes.

    Queries are a long list, 30,000 of which are answered at a time.
    """
    features = model.encode(lr)
    coord = make_coord(size).view(1, -1, 1, 2).to(lr)
    cell, answers = make_cell(size)[None].to(lr), []
    for piece in coord.split(PLAIN_QUERIES, dim=1):
        rgb = model.predict_plain(features, piece, cell)
        if model.options.skip:
            rgb = rgb + bilinear(features.lr.movedim(1, -1), piece)
        answers.append(rgb)
    picture = torch.cat(answers, dim=1) * 0.5 + 0.5  # (1, h w, 1, 3)
    return picture.view(*size, 3).movedim(-1, 0)


def profile(
    name: str,
    size: str,
    lr_size: tuple[int, int],
    scale: float,
    device: torch.device | str = "cpu",
) -> dict:
    """Build a model and render one output: what it costs, as a row.

    macs_run: counted while our code runs. seconds and cpu_seconds: of a second run,
    after one to warm up. peak_mb: the most that tensors held at one time, weights and
    input left out. plain_cpu_seconds, plain_difference: of the formula as printed, and
    how far its answer is from ours at most; None where the model has no such formula
    of its own or the output is large. A model that draws its answer takes one step of
    its sampler, and has no count by formula.
    """
    torch.manual_seed(0)
    model = build(name, size).eval().to(device)
    lr = torch.rand(1, 3, *lr_size, device=device)
    target = output_size(lr_size, scale)
    if model.generates:
        draw = partial(model.sample, lr, target, steps=1)
    else:
        wake(model)
        draw = partial(render, model, lr, target)
    with TensorMemory() as memory:
        macs_run = multiplications(draw)
    ours, seconds, cpu_seconds = clock(draw)
    row = {
        "model": name,
        "size": size,
        "lr": f"{lr_size[0]}x{lr_size[1]}",
        "scale": scale,
        "pixels": math.prod(target),
        "parameters": count_parameters(model),
        "macs_paper": None if model.generates else macs_paper(model, lr_size, scale),
        "macs_run": macs_run,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "plain_cpu_seconds": None,
        "plain_difference": None,
        "peak_mb": memory.peak / 2**20,
    }
    if hasattr(model, "predict_plain") and math.prod(target) <= PLAIN_PIXELS:
        plain, _, row["plain_cpu_seconds"] = clock(
            partial(render_plain, model, lr, target)
        )
        row["plain_difference"] = (ours - plain).abs().max().item()
    return row


def wake(model: nn.Module) -> None:
    """Random numbers for a last layer of zeros, which would hide any difference."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)


def clock(draw: Callable) -> tuple:
    """What a call returns, its seconds and its CPU seconds."""
    synchronise()
    wall, cpu = time.perf_counter(), time.process_time()
    drawn = draw()
    synchronise()
    return drawn, time.perf_counter() - wall, time.process_time() - cpu


def synchronise() -> None:
    """Wait for the GPU, which works behind the program's back."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
