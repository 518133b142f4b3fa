"""Weights of the papers' authors: files of LIIF, MetaSR, LTE and DIINN as published.

LIIF's and LTE's code writes {"model": {"name", "args", "sd"}, "optimizer", "epoch"}
into a .pth, DIINN's a checkpoint of PyTorch Lightning, a .ckpt with "state_dict" and
"hyper_parameters". Both are pickles, which may contain programs: they are read with
weights_only=True, so nothing in them is run. All sizes are taken from the tensors.

Outputs are those of the authors' models, but for queries on a tie between two pixels,
which take the larger index here. LTE's pixel size is clamped at x4, as in its
evaluation. That evaluation also pads the picture for SwinIR by up to one window more
than the model needs, which changes outputs near the lower and the right border.
"""

import math
import re
import textwrap
from pathlib import Path

import torch
from torch import Tensor, nn

from asr_course.encoders import EDSR, RDN
from asr_course.errors import UserError, choose
from asr_course.models import METHODS
from asr_course.swinir import SwinIR

SUFFIXES = (".pth", ".ckpt")

State = dict[str, Tensor]

# The authors' names of models, of LIIF's options and of arguments that set sizes.
NAMES = ("liif", "metasr", "lte", "lte-fast")
SWITCHES = ("local_ensemble", "feat_unfold", "cell_decode")
ARGUMENTS = ("encoder_spec", "imnet_spec", "hidden_dim", "num_layer", "out_dim")
RESIDUAL_SCALE = {"edsr-baseline": 1, "edsr": 0.1}  # defaults of the authors' code
PAIRING = {"lte": {"pairing": "interleaved"}, "lte-fast": {"pairing": "halves"}}
MODES = {"1": "m", "2": "mz", "3": "sz"}  # DIINN's Eq. 6, 7 and 4
AROUND = r"^((module|generator|net_g|net)\.)+"  # what trainers put around a model
ENCODER_OF = {  # by the first name that only this encoder has
    "encoder.RDBs.": "rdn",
    "encoder.layers.": "swinir",
    "encoder.head.": "edsr-baseline",
}


def load_official(path: str | Path) -> nn.Module:
    """The model in a file of its authors, in eval mode on the CPU.

    UserError if the file is another one, or its model cannot be built here.
    """
    try:
        content = torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # damaged files lead to errors of any kind
        why = "it is missing, damaged, a web page, or holds a program, which is not run"
        raise UserError(f"{path} cannot be read: {why}; download it again") from error
    try:
        name, args, state = read_layout(content)
        state = from_official(state)
        cls = METHODS[name.removesuffix("-fast")]
        options = cls.Options(**options_of(name, args, state))
        model = cls(encoder_of(args["encoder_spec"], state), options)
        model.load_state_dict(state)
    except Exception as error:  # other files lead to errors of any kind
        why = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise UserError(f"{path} cannot be built here: {why}") from None
    return model.eval()


def read_layout(content) -> tuple[str, dict, State]:
    """(The authors' name of the model, its arguments, tensors), of any layout.

    Tensors alone, as other trainers save them, are taken for LIIF's with its defaults.
    """
    if isinstance(content.get("model"), dict) and "sd" in content["model"]:
        name, args, state = (content["model"][key] for key in ("name", "args", "sd"))
        choose("model", name, NAMES)
        for key in args:
            choose(f"argument of {name}", key, ARGUMENTS + SWITCHES)
        return name, args, state
    if "hyper_parameters" not in content:
        places = ("params_ema", "params", "state_dict", "model")
        state = next((content[key] for key in places if key in content), content)
        keys = [re.sub(AROUND, "", str(key)) for key in state]
        for start, encoder in ENCODER_OF.items():
            found = any(key.startswith(start) for key in keys)
            if found and "imnet.layers.0.weight" in keys:
                return "liif", {"encoder_spec": {"name": encoder}}, state
        names = ", ".join(keys[:3]) or "nothing"
        raise UserError(f"it is no file of LIIF, LTE or DIINN: it holds {names}")
    args = {**content["hyper_parameters"], "encoder_spec": {"name": "rdn"}}
    choose("model", args["arch"], ("diinn", "imsisr"))
    return "diinn", args, content["state_dict"]


def options_of(name: str, args: dict, state: State) -> dict:
    """The options with which a model here gives the outputs of the authors'."""
    layers = "modulation" if name == "diinn" else "mlp.layers"
    widths = [len(state[f"{layers}.{k}.bias"]) for k in range(count(state, layers))]
    if name == "diinn":
        mode = MODES[choose("mode", str(args["mode"]), MODES)]
        options = {"modulation_input": mode, "init_pos": args["init_q"]}
        return {"hidden": tuple(widths), "scale_input": "area", **options}
    switches = SWITCHES if name == "liif" else ()
    options = {key: args.get(key, True) for key in switches}
    return {"hidden": tuple(widths[:-1]), **options, **PAIRING.get(name, {})}


def encoder_of(spec: dict, state: State) -> nn.Module:
    """The encoder that `spec` names, of the sizes in `state`, without its weights.

    EDSR's blocks may scale their residual; the factor is multiplied into their last
    convolution, in `state`.
    """
    name = choose("encoder", spec["name"], (*RESIDUAL_SCALE, "rdn", "swinir"))
    blocks = count(state, "encoder.blocks")
    if name == "rdn":
        channels = len(state["encoder.shallow1.bias"])
        growth = len(state["encoder.blocks.0.convs.0.bias"])
        return RDN(channels, growth, blocks, count(state, "encoder.blocks.0.convs"))
    if name == "swinir":
        groups = range(count(state, "encoder.groups"))
        depths = [count(state, f"encoder.groups.{k}.blocks") for k in groups]
        first = "encoder.groups.0.blocks.0"
        biases, heads = state[f"{first}.attention.bias"].shape
        hidden, width = state[f"{first}.mlp.0.weight"].shape
        window = (math.isqrt(biases) + 1) // 2  # (2 w - 1)^2 biases
        channels = len(state["encoder.project.bias"])
        return SwinIR(width, depths, heads, window, hidden, channels)
    scale = spec.get("args", {}).get("res_scale", RESIDUAL_SCALE[name])
    for key in [key for key in state if ".conv2." in key]:
        state[key] = state[key] * scale
    return EDSR(blocks, len(state["encoder.head.bias"]))


def count(state: State, prefix: str) -> int:
    """How many modules a list of this name holds."""
    start = f"{prefix}."
    return len({k[len(start) :].split(".")[0] for k in state if k.startswith(start)})


SWIN = r"^encoder\.layers\.(\d+)\.residual_group\.blocks\.(\d+)\."
OURS = r"encoder.groups.\1.blocks.\2."

# What the official repositories call our modules, most specific first.
OFFICIAL = [
    (r"^(sub|div)$", None),  # of DIINN: x is normalised by (x - 0.5) / 0.5
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
    """Tensors of LIIF, MetaSR, LTE or DIINN by our names.

    Their MLPs count the ReLUs as layers, so every second number is a linear layer, and
    1x1 convolutions of a decoder become linear layers.
    """
    renamed = {}
    for key, value in state.items():
        key = re.sub(AROUND, "", key)
        if layer := re.match(r"^(?:imnet\.)?layers\.(\d+)\.(.*)", key):
            key = f"mlp.layers.{int(layer[1]) // 2}.{layer[2]}"
        for pattern, name in OFFICIAL:
            if re.match(pattern, key):
                key = name and re.sub(pattern, name, key)
                break
        if key:
            pointwise = value.shape[2:] == (1, 1) and not key.startswith("encoder.")
            renamed[key] = value[..., 0, 0] if pointwise else value
    return renamed
