"""Formulas as their papers print them: slow, plain, and what the fast ones must equal.

Each function takes a model of asr_course, its features, coordinates (B, h, w, 2) and
pixel sizes (B, 2), and returns normalised colours (B, h, w, 3), without the skip. The
tests compare `predict` with them, and studies/benchmark.py says how much faster it is.
"""

import torch
from torch import Tensor, nn

from asr_course.coords import (
    corners,
    make_cell,
    make_coord,
    nearest_code,
    split_axes,
)
from asr_course.layers import Features, bilinear, look_up, relative_cell, unfold


def liif(model: nn.Module, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
    """LIIF, Eq. 2 to 5: concatenate, ask the MLP, weigh by area."""
    options, size = model.options, features.latent.shape[-2:]
    latent = unfold(features.latent) if options.feat_unfold else features.latent
    latent = latent.movedim(1, -1)  # (B, H, W, 9C)
    queries = split_axes(coord)
    codes = [nearest_code(queries, size)]
    if options.local_ensemble:
        codes = corners(queries, size)
    rgb = 0
    for code in codes:
        z = look_up(latent, code.row, code.col).expand(*coord.shape[:3], -1)
        offset = [2 * x.expand(coord.shape[:3]) for x in code[2:4]]
        inputs = [z, torch.stack(offset, dim=-1)]  # (B, h, w, 9C) and (B, h, w, 2)
        if options.cell_decode:
            pixel = relative_cell(cell, features)[:, None, None]  # 2 / s
            inputs.append(pixel.expand(*coord.shape[:3], 2))
        f_t = model.mlp(torch.cat(inputs, dim=-1))  # (B, h, w, 3)
        rgb = rgb + code.weight[..., None] * f_t
    return rgb


def metasr(model: nn.Module, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
    """MetaSR: predict 9 C x 3 weights for every query, then apply them."""
    i, j, place = model.places(features, split_axes(coord), cell)
    z = look_up(unfold(features.latent).movedim(1, -1), i, j)  # (B, h, w, 9C)
    filters = model.mlp(place).unflatten(-1, (-1, 3))  # (B, h, w, 9C, 3)
    return torch.einsum("bhwz,bhwzc->bhwc", z.expand(*place.shape[:3], -1), filters)


def diinn(model: nn.Module, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
    """DIINN, Eq. 2 to 9, layer by layer."""
    shape, kind = coord.shape[:3], model.options.modulation_input
    code = nearest_code(split_axes(coord), features.latent.shape[-2:])
    z = look_up(unfold(features.latent).movedim(1, -1), code.row, code.col)
    z = z.expand(*shape, -1)  # (B, h, w, 9C)
    rho = model.pixel_size(features, cell)[:, None].expand(shape)
    offset = [2 * x.expand(shape) for x in (code.row_offset, code.col_offset)]
    p = torch.stack([*offset, rho], dim=-1)  # (B, h, w, 3)
    if model.initial:
        p = model.initial(p).sin()  # (B, h, w, 9C)
        z = p * z
    m = model.modulation[0](z).relu()  # (B, h, w, D), so are all below
    s = m * model.activation(model.synthesis[0](p))
    for modulate, synthesise in zip(
        model.modulation[1:], model.synthesis[1:], strict=True
    ):
        inputs = {"m": [m], "mz": [m, z], "sz": [s, z]}[kind]
        m = modulate(torch.cat(inputs, dim=-1)).relu()
        s = m * model.activation(synthesise(s))
    return model.last(s)


PLAIN = {"liif": liif, "metasr": metasr, "diinn": diinn}
QUERIES = 30_000  # at a time, as LIIF's official code evaluates


@torch.inference_mode()
def render_plain(model: nn.Module, lr: Tensor, size: tuple[int, int]) -> Tensor:
    """An output (3, h, w) by the formula as printed, in the way of the official codes:
    queries are a long list, 30,000 of which are decoded at a time."""
    features = model.encode(lr)
    coord = make_coord(size).view(1, -1, 1, 2).to(lr)
    cell, pieces = make_cell(size)[None].to(lr), []
    for piece in coord.split(QUERIES, dim=1):
        rgb = PLAIN[model.name](model, features, piece, cell)
        if model.options.skip:
            rgb = rgb + bilinear(features.lr.movedim(1, -1), piece)
        pieces.append(rgb)
    picture = torch.cat(pieces, dim=1) * 0.5 + 0.5  # (1, h w, 1, 3)
    return picture.view(*size, 3).movedim(-1, 0)
