"""Models as ONNX files, for runtimes without PyTorch: a browser, a phone, C++.

    encoder.onnx   picture                         -> lr, latent, grid
    totals.onnx    these, rows, cols, cell         -> total_0, total_1, ...
    decoder.onnx   the same, total_0, total_1 ...  -> rgb

totals.onnx is there where queries hear from each other (HIIF, DIIN): its sums go over
the queries that it is given. The explorer gives it every 8th row and column of its
window. What a model does not read is left out. Pictures and windows have any size.
"""

import logging
import warnings
from dataclasses import is_dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from asr_course.coords import Queries
from asr_course.errors import UserError
from asr_course.layers import Features
from asr_course.totals import known_totals

OPSET = 20
MEANING = {
    "picture": "(1, 3, H, W), RGB in [0, 1]",
    "lr, latent, grid, total_0 ...": "from one file to the next, as they are",
    "rows": "(h,), centres of rows: -1 + (2 i + 1) / n, row i of the output's n",
    "cols": "(w,), centres of columns, likewise",
    "cell": "(1, 2): 2 / rows and 2 / columns of the whole output",
    "rgb": "(1, 3, h, w) on the [0, 1] scale, not clamped",
}
AXES = {"picture": (2, 3), "lr": (2, 3), "latent": (2, 3), "grid": (1, 2)}
AXES |= {"rows": (0,), "cols": (0,)}  # that may have any length


@torch.no_grad()
def export(model: nn.Module, half: bool = False) -> dict:
    """A model as {"encoder": onnx.ModelProto, "decoder": ...}; see MEANING. All inputs
    and outputs are float32, except that totals may be float64.

    half: matrices are stored as float16 and computed with as float32. UserError if the
    model draws samples or has what ONNX lacks, or if onnx or onnxscript is missing.
    """
    if model.is_generative:
        why = "draws samples, in many steps with noise, which no ONNX file holds"
        raise UserError(f"{model.name} {why}: export another model, such as liif")
    model, known, wanted = model.cpu().eval(), [], ("lr", "latent", "grid")

    def encode(*picture: Tensor) -> list[Tensor]:
        features = model.encode(*picture)
        return [getattr(features, name) for name in wanted]

    def decode(*inputs: Tensor, total=None) -> Tensor:
        lr, latent, grid, rows, cols, cell, *totals = inputs
        queries, left = Queries(rows[None, :, None], cols[None, None]), iter(totals)

        def entry(x):  # like x, but given
            if is_dataclass(x):
                return replace(x, **{key: next(left) for key in vars(x)})
            return next(left)

        total = total or known_totals(tree_map(entry, known))
        return model.decode(Features(lr, latent, grid), queries, cell, total)

    def summarise(*inputs: Tensor) -> list[Tensor]:
        def total(function, *args, once: bool = False):
            known.append(function(*args))
            return known[-1]

        known.clear()
        decode(*inputs, total=total)
        entries = [vars(x) if is_dataclass(x) else {0: x} for x in tree_leaves(known)]
        return [tensor for entry in entries for tensor in entry.values()]

    picture, files = {"picture": torch.rand(1, 3, 18, 14)}, {}
    inputs = dict(zip(wanted, encode(*picture.values()), strict=True))
    inputs |= {
        "rows": torch.linspace(-0.9, 0.8, 6),
        "cols": torch.linspace(-0.8, 0.7, 5),
    }
    inputs["cell"] = torch.tensor([[0.02, 0.03]])
    if model.is_nonlocal:
        sums = summarise(*inputs.values())
        sums = {f"total_{k}": total for k, total in enumerate(sums)}
        files["totals"] = to_onnx(model, summarise, inputs, sums, half)
        inputs |= sums
    files["decoder"] = to_onnx(model, decode, inputs, ["rgb"], half)
    read = {item.name for file in files.values() for item in file.graph.input}
    wanted = [name for name in wanted if name in read]
    return {"encoder": to_onnx(model, encode, picture, wanted, half), **files}


def to_onnx(model, function, inputs: dict[str, Tensor], outputs, half: bool):
    """A function of a model as onnx.ModelProto, without inputs that it ignores."""
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch needs it)
    except ImportError:
        how = 'python -m pip install -c constraints.txt -e ".[site]"'
        raise UserError(f"this needs onnx and onnxscript: {how}") from None
    part = nn.Module()  # what torch exports
    part.model, part.forward = model, function
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    auto, values = torch.export.Dim.AUTO, tuple(inputs.values())
    shapes = (tuple(dict.fromkeys(AXES.get(name, ()), auto) for name in inputs),)
    how = {"input_names": list(inputs), "output_names": list(outputs)}
    how |= {"dynamic_shapes": shapes, "opset_version": OPSET, "verbose": False}
    try:
        with warnings.catch_warnings(action="ignore"):
            proto = torch.onnx.export(part, values, dynamo=True, **how).model_proto
    except torch.onnx.OnnxExporterError as error:
        why = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(f"this model cannot be written as ONNX: {why}") from None
    graph, nodes = proto.graph, list(proto.graph.node)
    for item in (graph, *nodes, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    read = {name for node in nodes for name in node.input}
    for item in [item for item in graph.input if item.name not in read]:
        graph.input.remove(item)
    for weight in graph.initializer if half else ():
        # Matrices only: half a step of float16 would undo the slack TIE = 1e-4.
        if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) > 1:
            name, values = weight.name, onnx.numpy_helper.to_array(weight)
            half_name, to = f"{name}_half", {"to": onnx.TensorProto.FLOAT}
            values = values.astype("float16")
            weight.CopyFrom(onnx.numpy_helper.from_array(values, half_name))
            nodes.insert(0, onnx.helper.make_node("Cast", [half_name], [name], **to))
    graph.ClearField("node")
    graph.ClearField("value_info")
    graph.node.extend(nodes)
    onnx.checker.check_model(proto)
    return proto
