"""The authors' own weights: files of LIIF, MetaSR, LTE and DIINN in their own layouts.

LIIF's and LTE's programs write {"model": {"name", "args", "sd"}, "optimizer", "epoch"}
into a .pth, DIINN's a checkpoint of PyTorch Lightning, a .ckpt with "state_dict" and
"hyper_parameters". Such a file is a pickle, which might hold any program; it is read as
tensors and plain values, and refused if it holds more. All sizes are taken from the
shapes of its tensors. Each tensor must find its place, or be one that no answer needs.

The answers are those of the authors' models, but for queries on a tie between two
pixels, which go to the larger index here. LTE is told no scale above x4, as in its
evaluation. That evaluation also continues a picture for SwinIR by up to a window more
than the model needs, and so moves answers near the lower and the right border.
"""

import math
import re
import warnings
import zipfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from asr_course.encoders import EDSR, ENCODERS, RDN
from asr_course.errors import UserError, choose
from asr_course.models import MODELS, check_option
from asr_course.models.diinn import DIINNOptions
from asr_course.models.liif import LIIFOptions
from asr_course.models.lte import LTEOptions
from asr_course.models.metasr import MetaSROptions
from asr_course.states import load_state, not_finite
from asr_course.swinir import SwinIR

SUFFIXES = (".pth", ".ckpt")

State = dict[str, Tensor]

# The authors' names of models that are built here, and all that may be said of them.
ARGUMENTS = {
    "liif": {
        "encoder_spec",
        "imnet_spec",
        "local_ensemble",
        "feat_unfold",
        "cell_decode",
    },
    "metasr": {"encoder_spec"},
    "lte": {"encoder_spec", "imnet_spec", "hidden_dim"},
    "lte-fast": {"encoder_spec", "num_layer", "hidden_dim", "out_dim"},
}
RESIDUAL_SCALE = {"edsr-baseline": 1, "edsr": 0.1}  # what the code takes if not told
MODES = {"1": "m", "2": "mz", "3": "sz"}  # DIINN's Eq. 6, 7 and 4


def load_official(path: str | Path) -> nn.Module:
    """The model in an authors' file, ready to use (eval mode, CPU).

    UserError, of one line, on anything else, and on a model that is not built here.
    Nothing that is in the file is run.
    """
    path = Path(path)
    name, args, state = read_layout(read_file(path), path)
    try:
        state = from_official(state)
        encoder = encoder_of(args["encoder_spec"], state)
        options = options_of(name, args, state)
        model = MODELS[name.removesuffix("-fast")](encoder, options)
    except UserError as error:
        raise UserError(f"{path} cannot be built here: {error}") from None
    except (LookupError, ArithmeticError, RuntimeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"{path} says that it holds {name}, but its tensors do not fit together "
            f"({why}); take the authors' file as it was"
        ) from None
    load_state(model, state, path)
    spoilt = not_finite(state)
    if spoilt:
        raise UserError(f"{path} cannot be used: {spoilt} holds NaN or infinity")
    model.config = {
        "name": name.removesuffix("-fast"),
        "encoder": name_of(encoder),
        "options": asdict(options),
    }
    return model.eval()


# Reading ------------------------------------------------------------------------------


def read_file(path: Path):
    """What torch.save wrote: tensors and plain values. UserError on anything else."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
        whole = zipfile.is_zipfile(path)  # its table of contents stands at its end
    except FileNotFoundError:
        raise UserError(
            f"no such weights file: {path}; check its name and folder"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    fault = None if whole else fault_of(start)
    if fault:
        raise UserError(f"{path} {fault}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that are refused anyway
        try:  # mmap: what nobody looks at, such as the optimizer's state, is not read
            return torch.load(path, map_location="cpu", weights_only=True, mmap=whole)
        except Exception as error:  # whatever the bytes of strangers lead a reader into
            raise UserError(f"{path} {fault_in(error)}") from None


def fault_of(start: bytes) -> str | None:
    """Why a file that begins so is no checkpoint, None if it may be one."""
    if not start:
        return "is empty; download or copy it again"
    if start.startswith(b"PK"):
        return "ends too early: it was cut on its way; download or copy it again"
    if start.startswith(b"\x80"):  # a bare pickle, as PyTorch wrote until 2020
        return None
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; run `git lfs pull`"
    if start.lstrip().startswith(b"<"):
        return "is a web page that was saved in place of the file; download it again"
    return (
        f"is no checkpoint: it begins with {start[:12]!r}; expected is a file that the "
        "authors of LIIF, LTE or DIINN published"
    )


def fault_in(error: Exception) -> str:
    """What is wrong with a checkpoint at which torch.load stopped so."""
    if not isinstance(error, UnpicklingError):
        return (
            f"cannot be read as a checkpoint ({type(error).__name__}): it is damaged, "
            "or of another program; download or copy it again"
        )
    program = re.search(r"GLOBAL (\S+)", str(error))
    what = "it is damaged, or a pickle that PyTorch did not write and may be a program"
    if program:
        what = f"reading it would run a program, {program[1]}"
    return f"is refused: {what}. Nothing of it was run; take the file from its authors"


def read_layout(content, path: Path) -> tuple[str, dict, State]:
    """Of either layout: (the authors' name of the model, its arguments, tensors)."""
    held = content if isinstance(content, dict) else {}
    if isinstance(held.get("model"), dict):
        spec = held["model"]
        name, args = spec.get("name"), entry(spec, "args", path)
        state = tensors(entry(spec, "sd", path), path)
        known = choose(f"model in {path}:", name, ARGUMENTS)
        for key in args:
            choose(f"argument of {name} in {path}:", key, ARGUMENTS[known])
        entry(args, "encoder_spec", path)
        return name, args, state
    if "state_dict" in held and "hyper_parameters" in held:
        told = entry(held, "hyper_parameters", path)
        choose(f"model in {path}:", told.get("arch"), ("diinn", "imsisr"))
        args = {key: told.get(key) for key in ("mode", "init_q")}
        spec = {"name": "rdn", "args": {"no_upsampling": True}}
        state = tensors(entry(held, "state_dict", path), path)
        return "diinn", {"encoder_spec": spec, **args}, state
    found = ", ".join(repr(key)[:40] for key in list(held)[:3])
    raise UserError(
        f"{path} is no file of LIIF's, LTE's or DIINN's authors: it holds "
        f"{found or type(content).__name__}; expected is 'model', or 'state_dict' "
        "and 'hyper_parameters'"
    )


def entry(content: dict, key: str, path: Path) -> dict:
    """content[key], which must be a dictionary."""
    value = content.get(key)
    if isinstance(value, dict):
        return value
    raise UserError(
        f"{path} is not in the layout of LIIF, LTE or DIINN: there is no dictionary "
        f"{key!r} where they have one"
    )


def tensors(state: dict, path: Path) -> State:
    """`state` if it is made of named tensors, without the prefix that Lightning's
    files have and DIINN's range of values, which is [-1, 1] here too."""
    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise UserError(f"{path}: {str(key)[:40]!r} is not a named tensor")
    for key in {"sub", "div"} & state.keys():
        if not (state[key] == 0.5).all():
            raise UserError(f"{path} takes pictures in another range than [-1, 1]")
    return {
        key.removeprefix("net."): value
        for key, value in state.items()
        if key not in ("sub", "div")
    }


# Sizes --------------------------------------------------------------------------------


def options_of(name: str, args: dict, state: State):
    """The options with which a model here answers as the authors' does."""
    if name == "diinn":
        mode = choose("mode", str(args["mode"]), MODES)
        return DIINNOptions(
            hidden=widths(state, "modulation."),
            modulation_input=MODES[mode],
            init_pos=check_option("init_q", bool, args["init_q"]),
            scale_input="area",
        )
    hidden = widths(state, "mlp.layers.")[:-1]
    if not hidden:
        raise UserError(f"this {name} has no MLP (imnet_spec) that answers queries")
    if name == "metasr":
        return MetaSROptions(hidden)
    if name in ("lte", "lte-fast"):
        pairing = "interleaved" if name == "lte" else "halves"
        return LTEOptions(hidden, pairing=pairing)
    switches = ("local_ensemble", "feat_unfold", "cell_decode")
    told = {key: check_option(key, bool, args.get(key, True)) for key in switches}
    return LIIFOptions(hidden, **told)


def encoder_of(spec: dict, state: State) -> nn.Module:
    """An encoder of the sizes that its tensors have, named as the authors name it.

    EDSR's blocks may scale what they add; that is folded into their last convolution,
    in `state` itself.
    """
    name = choose("encoder", spec.get("name"), (*RESIDUAL_SCALE, "rdn", "swinir"))
    args = entry(spec, "args", "encoder_spec") if "args" in spec else {}
    if not (name == "swinir" or args.get("no_upsampling")):
        raise UserError(f"its encoder {name} ends in an upsampling tail")
    if name == "swinir":
        return swinir_of(state)
    blocks = count(state, r"encoder\.blocks\.(\d+)\.")
    if name == "rdn":
        channels = state["encoder.shallow1.weight"].shape[0]
        growth = state["encoder.blocks.0.convs.0.weight"].shape[0]
        layers = count(state, r"encoder\.blocks\.0\.convs\.(\d+)\.")
        return RDN(channels, growth, blocks, layers)
    scale = args.get("res_scale", RESIDUAL_SCALE[name])
    if not isinstance(scale, int | float):
        raise UserError(f"res_scale must be a number, not {scale!r}")
    for key in [key for key in state if ".conv2." in key]:
        state[key] = state[key] * scale
    return EDSR(blocks, state["encoder.head.weight"].shape[0])


def swinir_of(state: State) -> SwinIR:
    """A SwinIR of the sizes that its tensors have."""
    groups = count(state, r"encoder\.groups\.(\d+)\.")
    inside = r"encoder\.groups\.{}\.blocks\.(\d+)\."
    depths = [count(state, inside.format(k)) for k in range(groups)]
    biases, heads = state["encoder.groups.0.blocks.0.attention.bias"].shape
    hidden, width = state["encoder.groups.0.blocks.0.mlp.0.weight"].shape
    channels = state["encoder.project.weight"].shape[0]
    if width % heads:
        raise UserError(f"{heads} heads do not share {width} channels alike")
    window = (math.isqrt(biases) + 1) // 2  # (2 w - 1)^2 biases
    return SwinIR(width, depths, heads, window, hidden, channels)


def count(state: State, pattern: str) -> int:
    """How many different numbers the names of tensors have at a pattern's (...)."""
    return len({found[1] for key in state if (found := re.match(pattern, key))})


def widths(state: State, prefix: str) -> tuple[int, ...]:
    """How many numbers each linear layer of a list gives."""
    layers = range(count(state, re.escape(prefix) + r"(\d+)\."))
    return tuple(state[f"{prefix}{k}.weight"].shape[0] for k in layers)


def name_of(encoder: nn.Module) -> str | None:
    """Which of ENCODERS has the sizes of `encoder`, None if none has."""
    own = shapes(encoder)
    return next((name for name, known in named_shapes().items() if known == own), None)


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    """The shapes of a module's tensors, by name."""
    return {key: value.shape for key, value in module.state_dict().items()}


@cache
def named_shapes() -> dict[str, dict[str, torch.Size]]:
    """The shapes of all encoders that `build` knows."""
    with torch.device("meta"):  # no memory, no random numbers
        return {name: shapes(make()) for name, make in ENCODERS.items()}


# Names --------------------------------------------------------------------------------

SWIN = r"^encoder\.layers\.(\d+)\.residual_group\.blocks\.(\d+)\."
OURS = r"encoder.groups.\1.blocks.\2."

# What the official repositories call our modules, most specific first.
OFFICIAL = [
    (r"^encoder\.(sub|add)_mean\..*", None),  # EDSR's colour shifts are never applied
    (r"^encoder\.head\.0\.", "encoder.head."),
    (r"^encoder\.body\.(\d+)\.body\.0\.", r"encoder.blocks.\1.conv1."),
    (r"^encoder\.body\.(\d+)\.body\.2\.", r"encoder.blocks.\1.conv2."),
    (r"^encoder\.body\.\d+\.", "encoder.last."),
    (r"^encoder\.SFENet([12])\.", r"encoder.shallow\1."),
    (r"^encoder\.RDBs\.(\d+)\.convs\.(\d+)\.conv\.0\.", r"encoder.blocks.\1.convs.\2."),
    (r"^encoder\.RDBs\.(\d+)\.LFF\.", r"encoder.blocks.\1.fuse."),
    (r"^encoder\.GFF\.0\.", "encoder.fuse1."),
    (r"^encoder\.GFF\.1\.", "encoder.fuse2."),
    (SWIN + r"(attn_mask|attn\.relative_position_index)$", None),  # worked out anew
    (SWIN + r"attn\.relative_position_bias_table$", OURS + "attention.bias"),
    (SWIN + r"attn\.qkv\.", OURS + "attention.qkv."),
    (SWIN + r"attn\.proj\.", OURS + "attention.out."),
    (SWIN + r"mlp\.fc1\.", OURS + "mlp.0."),
    (SWIN + r"mlp\.fc2\.", OURS + "mlp.2."),
    (SWIN + r"norm([12])\.", OURS + r"norm\3."),
    (r"^encoder\.layers\.(\d+)\.conv\.", r"encoder.groups.\1.last."),
    (r"^encoder\.conv_first\.", "encoder.head."),
    (r"^encoder\.patch_embed\.norm\.", "encoder.norm1."),
    (r"^encoder\.norm\.", "encoder.norm2."),
    (r"^encoder\.conv_after_body\.", "encoder.last."),
    (r"^encoder\.conv_before_upsample\.0\.", "encoder.project."),
    (r"^coef\.", "amplitude."),  # LTE
    (r"^freq\.", "frequency."),
    (r"^decoder\.first_layer\.0\.", "initial."),  # DIINN
    (r"^decoder\.K\.(\d+)\.0\.", r"modulation.\1."),
    (r"^decoder\.Q\.(\d+)\.0\.", r"synthesis.\1."),
    (r"^decoder\.last_layer\.", "last."),
]


def from_official(state: State) -> State:
    """An official state dict of LIIF, MetaSR, LTE or DIINN under our names.

    Their MLPs count the ReLUs too, so every second number is a linear layer. Linear
    layers that stand there as 1x1 convolutions become linear layers. UserError if two
    tensors claim one place.
    """
    renamed = {}
    for key, value in state.items():
        found = re.match(r"^(?:imnet\.)?layers\.(\d+)\.(.*)", key)
        if found:
            key = f"mlp.layers.{int(found[1]) // 2}.{found[2]}"
        for pattern, name in OFFICIAL:
            if re.match(pattern, key):
                key = name and re.sub(pattern, name, key)
                break
        if key in renamed:
            raise UserError(f"there are two tensors for {key}")
        if key:
            pointwise = value.shape[2:] == (1, 1) and not key.startswith("encoder.")
            renamed[key] = value[..., 0, 0] if pointwise else value
    return renamed
