"""Exercise checks: right answers pass, wrong ones are told what fails, none raises."""

import math

import pytest
import torch
import torch.nn.functional as F

from asr_course.coords import (
    corners,
    make_coord,
    nearest,
    pixel_centres,
    split_axes,
    to_position,
)
from asr_course.diffusion import posterior
from asr_course.layers import bilinear, look_up
from asr_course.lessons import EXERCISES, check
from asr_course.lessons.diif import blend_then_map, group_of, slice_ends
from asr_course.lessons.diin import heat_step, soft_mean, spread
from asr_course.lessons.diinn import local_offsets, modulate, sine_of_grid
from asr_course.lessons.hiif import attend, binary, in_pieces, positive
from asr_course.lessons.idm import ddim_step, implicit_up, noisy
from asr_course.lessons.liif import owners, self_ensemble
from asr_course.lessons.side_by_side import blend_first, front, luck
from asr_course.models.diin_layers import rates
from asr_course.render import render


def blend(grid, coord, weigh=lambda weight, k: weight):
    """Bilinear interpolation with something about it changed."""
    total = 0
    for k, code in enumerate(corners(split_axes(coord), grid.shape[1:3])):
        value = look_up(grid, code.row, code.col)
        total = total + weigh(code.weight, k)[..., None] * value
    return total


def swapped(grid, coord):
    """Each corner gets the weight of the one diagonally opposite."""
    codes = corners(split_axes(coord), grid.shape[1:3])
    weights = [code.weight for code in codes]
    return blend(grid, coord, lambda weight, k: weights[3 - k])


def flipped_only(model, lr, size):
    """Four of the eight variants."""
    flips = ((), (-1,), (-2,), (-2, -1))
    return sum(render(model, lr.flip(d), size).flip(d) for d in flips) / 4


def half_pixel_off(grid, coord):
    """Coordinates taken as if the corners, not the centres, were the samples."""
    shift = coord.new_tensor([1 / grid.shape[1], 1 / grid.shape[2]])
    return blend(grid, coord + shift)


def z_first(layer, s, z, i, j):
    """The layer's columns are taken in the wrong order."""
    W_z, W_s = layer.weight[:, : z.shape[-1]], layer.weight[:, z.shape[-1] :]
    return s @ W_s.T + look_up(z @ W_z.T + layer.bias, i, j)


def doubled(t, levels, first=1):
    """t times 2, 4, 8 ..., one for each level."""
    return t[..., None] * 2.0 ** torch.arange(first, first + levels)


def pair_by_pair(q, k, v):
    """Right, and quadratic."""
    weight = positive(q) @ positive(k).mT
    return weight @ v / weight.sum(-1, keepdim=True)


def by_pieces(pieces, dtype=torch.float64, weigh=lambda n: 1, count=sum):
    """The sum over pieces with something about it changed."""
    total, sizes = 0, []
    for _, k, v in pieces():
        total = total + weigh(len(k)) * (k.T.to(dtype) @ v.to(dtype))
        sizes.append(len(k))
    return [q @ (total / count(sizes)).to(q) for q, _, _ in pieces()]


def heard_so_far(pieces):
    """One round: nobody hears of the pieces that come later."""
    total, n, found = 0, 0, []
    for q, k, v in pieces():
        total, n = total + k.T.double() @ v.double(), n + len(k)
        found.append(q @ (total / n).to(q))
    return found


def all_kept(pieces):
    """Right, but memory grows with the number of queries."""
    kept = list(pieces())
    return in_pieces(lambda: kept)


def as_it_is(x):
    return x


def weighed(q, k, v, above=1, below=1, cosine=1, units=(F.normalize, F.normalize)):
    """What each node hears, with something about it changed.

    above and below: what stands for the 1 of 1 + cosine; cosine: its share below.
    """
    q, k = (unit(x) for unit, x in zip(units, (q, k), strict=True))
    top = above * v.sum(dim=0) + q @ (k.T @ v)
    return top / (below * len(k) + cosine * q @ k.sum(dim=0))[:, None]


def summed_by_hand(q, k, v):
    """Right, but pair by pair, and no matrix product to count."""
    weight = 1 + F.cosine_similarity(q[:, None], k, dim=-1)
    return (weight[..., None] * v).sum(dim=1) / weight.sum(dim=1, keepdim=True)


def of_columns(q, k, v):
    """What each node says adds up to one, not what each one hears."""
    weight = 1 + F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T
    return weight / weight.sum(dim=0) @ v


def relative(pieces, weight=1, total=1, start=-torch.inf, peak_of=torch.maximum):
    """The running mean with something about it changed.

    weight and total: 0 where they are not rescaled, -1 where the other way round.
    """
    peak, weights, sums = torch.tensor(start), 0.0, 0.0
    for exponent, x in pieces():
        higher = peak_of(peak, exponent.max())
        old, new = (peak - higher).exp(), (exponent - higher).exp()
        weights = old**weight * weights + new.sum()
        sums = old**total * sums + new @ x
        peak = higher
    return sums / weights


def naive(pieces, exp=torch.exp):
    """As the formula is printed."""
    parts = [(exp(exponent), x) for exponent, x in pieces()]
    return sum(w @ x for w, x in parts) / sum(w.sum() for w, _ in parts)


def means(pieces, weigh=lambda n: 1):
    """The mean of the pieces' own means."""
    parts = [(weigh(len(x)), e.softmax(0) @ x) for e, x in pieces()]
    return sum(w * x for w, x in parts) / sum(w for w, _ in parts)


def relative_to_the_first(pieces):
    """The largest exponent is looked for in the first piece alone."""
    known = []

    def peak_of(peak, own):
        known.append(own)
        return known[0]

    return relative(pieces, peak_of=peak_of)


def peak_first(pieces):
    """Right, but in two rounds."""
    peak = max(exponent.max() for exponent, _ in pieces())
    return naive(pieces, lambda exponent: (exponent - peak).exp())


def last_only(pieces):
    """Every piece begins anew."""
    *_, (exponent, x) = pieces()
    return exponent.softmax(0) @ x


def counted_first(pieces):
    """Right, but in three rounds."""
    n = sum(len(k) for _, k, _ in pieces())
    return by_pieces(pieces, count=lambda sizes: n)


def straight(y, y0, now, then):
    """Along the straight line from y to y0."""
    return y + (then - now) / (1 - now) * (y0 - y)


def ancestral(y, y0, now, then):
    """DDPM's mean, without its noise."""
    gammas = (torch.tensor(level**2) for level in (now, then))
    return posterior(y, y0, *gammas)[0]


def with_noise_of(find, strength=lambda now, then: (1 - then**2) ** 0.5):
    """A step with another idea of the noise in y, or of how strong it becomes."""
    return lambda y, y0, now, then: (
        then * y0 + strength(now, then) * find(y, y0, now, then)
    )


def asked(
    h,
    size,
    mlp,
    pick=nearest,
    offset=lambda position, index, cells, pixels: 2 * (position - index),
    order=lambda z, rows, cols: (z, rows, cols),
):
    """The question to the MLP with something about it changed."""
    index, away = [], []
    for pixels, cells in zip(size, h.shape[2:], strict=True):
        position = to_position(pixel_centres(pixels), cells)
        index.append(pick(position, cells))
        away.append(offset(position, index[-1], cells, pixels))
    z = look_up(h.movedim(1, -1), index[0][None, :, None], index[1][None, None])
    rows, cols = torch.meshgrid(*away, indexing="ij")
    rows, cols = (x[None, ..., None].expand(*z.shape[:3], 1) for x in (rows, cols))
    return mlp(torch.cat(order(z, rows, cols), dim=-1))


def smooth_features(h, size, mlp):
    """Features are interpolated; the offsets are right."""
    z = F.interpolate(h, size, mode="bilinear").movedim(1, -1)
    offsets = implicit_up(h, size, as_it_is)[..., -2:]
    return mlp(torch.cat([z, offsets], dim=-1))


def unbeaten(points, beats, key=lambda point: point[0]):
    """The front by another idea of who beats whom; key: the order, None as given."""
    left = [
        name
        for name, mine in points.items()
        if not any(
            beats(other, mine) for rival, other in points.items() if rival != name
        )
    ]
    return sorted(left, key=lambda name: key(points[name])) if key else left


def beats(other, mine):
    """As it should be."""
    return other[0] <= mine[0] and other[1] >= mine[1] and other != mine


def highest_so_far(points, better):
    """Walk from the cheapest to the dearest, and keep what is better than before."""
    best, left = -math.inf, []
    for name in sorted(points, key=lambda name: points[name][0]):
        if better(points[name][1], best):
            left.append(name)
            best = max(best, points[name][1])
    return left


def codes(features, coord, cell, mlp, blend=bilinear, size=None):
    """The seventh method with its blend changed, or what the MLP hears of the cell."""
    H, W = features.latent.shape[-2:]
    z = blend(features.latent.movedim(1, -1), coord)
    pixel = cell * cell.new_tensor([H, W]) if size is None else size(cell, H, W)
    pixel = pixel[:, None, None].expand(*z.shape[:3], 2)
    return mlp(torch.cat([z, pixel], dim=-1))


def nearest_code(grid, coord):
    """No blend at all."""
    rows, cols = split_axes(coord)
    H, W = grid.shape[1:3]
    i, j = nearest(to_position(rows, H), H), nearest(to_position(cols, W), W)
    return look_up(grid, i, j).expand(*coord.shape[:3], -1)


def rows_only(grid, coord):
    """Blended along rows, the nearest column taken."""
    W = grid.shape[2]
    j = nearest(to_position(coord[..., 1], W), W)
    column = (2 * j + 1) / W - 1
    return bilinear(grid, torch.stack([coord[..., 0], column.to(coord)], dim=-1))


def sampled(grid, coord, corners_are_samples=False):
    """torch's own bilinear interpolation."""
    return F.grid_sample(
        grid.movedim(-1, 1),
        coord.flip(-1),
        padding_mode="border",
        align_corners=corners_are_samples,
    ).movedim(1, -1)


def blurred(grid, coord):
    """Right half way between two rows, but no code is ever heard alone."""
    quarter = coord.new_tensor([0.5 / grid.shape[1], 0])
    return (bilinear(grid, coord + quarter) + bilinear(grid, coord - quarter)) / 2


def nearest_but_ties(grid, coord):
    """Right on centres and half way between them, and it jumps there."""
    snapped = []
    for x, n in zip(coord.unbind(-1), grid.shape[1:3], strict=True):
        before = to_position(x, n).floor()
        share = to_position(x, n) - before
        share = torch.where((share - 0.5).abs() < 2e-6, 0.5, (share > 0.5).float())
        snapped.append((2 * (before + share) + 1) / n - 1)
    return bilinear(grid, torch.stack(snapped, dim=-1))


def asked_four_times(features, coord, cell, mlp):
    """LIIF's way round: ask at every corner, blend the answers."""
    grid = features.latent.movedim(1, -1)
    H, W = grid.shape[1:3]
    pixel = (cell * cell.new_tensor([H, W]))[:, None, None]
    pixel = pixel.expand(*coord.shape[:3], 2)
    rgb = 0
    for code in corners(split_axes(coord), (H, W)):
        z = look_up(grid, code.row, code.col).expand(*pixel.shape[:3], -1)
        rgb = rgb + code.weight[..., None] * mlp(torch.cat([z, pixel], dim=-1))
    return rgb


WRONG = {
    "diif.1": {
        "ends are lengths": lambda g, u: slice_ends(g, u) + torch.tensor([0, 1]),
        "one slice too few": lambda g, u: slice_ends(g // u * u or u, u),
        "last slice padded": lambda g, u: torch.stack(
            [torch.arange(0, g, u), torch.arange(0, g, u) + u - 1], -1
        ),
        "axes swapped": lambda g, u: slice_ends(g, u).T,
        "evenly cut": lambda g, u: slice_ends(g, -(-g // -(-g // u))),
    },
    "diif.2": {
        "scale rounded": lambda N, n: (
            torch.arange(N) % -(-N // n),
            torch.full((N,), -(-N // n)),
        ),
        "counted from one": lambda N, n: (group_of(N, n)[0] + 1, group_of(N, n)[1]),
        "ties downward": lambda N, n: tuple(
            x.flip(0)
            if k
            else group_of(N, n)[1].flip(0) - 1 - group_of(N, n)[0].flip(0)
            for k, x in enumerate(group_of(N, n))
        ),
        "only the place": lambda N, n: group_of(N, n)[0],
        "swapped": lambda N, n: group_of(N, n)[::-1],
    },
    "diif.3": {
        "always late": lambda H, share, of, W: (
            sum(a[:, None] * h[of] for a, h in zip(share, H, strict=True)) @ W.T
        ),
        "always early": lambda H, share, of, W: sum(
            a[:, None] * (h @ W.T)[of] for a, h in zip(share, H, strict=True)
        ),
        "first corner's shares for all": lambda H, a, of, W: blend_then_map(
            H, a[:1].expand_as(a), of, W
        ),
        "mean of the corners": lambda H, a, of, W: blend_then_map(
            H, torch.full_like(a, 0.25), of, W
        ),
        "another slice": lambda H, a, of, W: blend_then_map(H, a, of.flip(0), W),
    },
    "diin.1": {
        "alpha and 1 - alpha swapped": lambda z, S, a: heat_step(z, S, 1 - a),
        "S transposed": lambda z, S, a: heat_step(z, S.T, a),
        "only the flow": lambda z, S, a: (1 - a) * (S @ z - z),
        "only what comes": lambda z, S, a: (1 - a) * S @ z,
        "out instead of in": lambda z, S, a: z - (1 - a) * (S @ z - z),
        "columns normalised": lambda z, S, a: heat_step(z, S / S.sum(0), a),
        "all alike": lambda z, S, a: a * z + (1 - a) * z.mean(0),
        "two steps": lambda z, S, a: heat_step(heat_step(z, S, a), S, a),
        "features first": lambda z, S, a: heat_step(z, S, a).T,
    },
    "diin.2": {
        "not normalised": lambda *qkv: weighed(*qkv, units=(as_it_is, as_it_is)),
        "only q normalised": lambda *qkv: weighed(*qkv, units=(F.normalize, as_it_is)),
        "columns normalised": lambda q, k, v: weighed(
            *(F.normalize(x, dim=0) for x in (q, k)), v, units=(as_it_is, as_it_is)
        ),
        "by n": lambda *qkv: weighed(*qkv, cosine=0),
        "by one more": lambda q, k, v: weighed(q, k, v, below=1 + 1 / len(k)),
        "1 counted once": lambda q, k, v: weighed(q, k, v, below=1 / len(k)),
        "1 forgotten": lambda *qkv: weighed(*qkv, above=0, below=0),
        "right but quadratic": lambda q, k, v: rates(q, k) @ v,
        "no matrix product": summed_by_hand,
        "v normalised too": lambda q, k, v: spread(q, k, F.normalize(v, dim=-1)),
        "q and k swapped": lambda q, k, v: spread(k, q, v),
        "sums of columns": of_columns,
        "softmax": lambda q, k, v: (F.normalize(q) @ F.normalize(k).T).softmax(1) @ v,
        "features first": lambda q, k, v: spread(q, k, v).T,
    },
    "diin.3": {
        "as printed": naive,
        "largest of each piece": lambda p: relative(
            p, 0, 0, peak_of=lambda peak, own: own
        ),
        "weight not rescaled": lambda p: relative(p, weight=0),
        "sum not rescaled": lambda p: relative(p, total=0),
        "relative to the first piece": relative_to_the_first,
        "rescaled the other way": lambda p: relative(p, -1, -1),
        "starts at 0": lambda p: relative(p, start=0.0),
        "mean of means": means,
        "last piece": last_only,
        "two rounds": peak_first,
        "one number": lambda p: soft_mean(p).mean(),
    },
    "diinn.1": {
        "in pixels": lambda N, n: local_offsets(N, n) / 2,
        "half a pixel off": lambda N, n: local_offsets(N, n) + n / N,
        "axes swapped": lambda N, n: local_offsets(n, N),
        "not from the nearest": lambda N, n: 2 * to_position(pixel_centres(N), n),
        "other sign": lambda N, n: -local_offsets(N, n),
    },
    "diinn.2": {
        "looked up first": lambda layer, s, z, i, j: layer(
            torch.cat([s, look_up(z, i, j)], dim=-1)
        ),
        "bias twice": lambda layer, s, z, i, j: (
            modulate(layer, s, z, i, j) + layer.bias
        ),
        "z before s": z_first,
        "axes swapped": lambda a, s, z, i, j: modulate(a, s, z, j, i),
        "no bias": lambda a, s, z, i, j: modulate(a, s, z, i, j) - a.bias,
    },
    "diinn.3": {
        "a sine for every place": lambda row, col, W_row, W_col, b: (
            row[:, None, None] * W_row + col[:, None] * W_col + b
        ).sin(),
        "wrong sign": lambda row, col, W_row, W_col, b: sine_of_grid(
            row, -col, W_row, W_col, b
        ),
        "axes swapped": lambda r, c, a, b, d: sine_of_grid(c, r, a, b, d),
        "weights swapped": lambda r, c, a, b, d: sine_of_grid(r, c, b, a, d),
        "no bias": lambda r, c, a, b, d: sine_of_grid(r, c, a, b, 0 * d),
    },
    "hiif.1": {
        "cumulative": lambda t, L: doubled(t, L).floor(),
        "reversed": lambda t, L: binary(t, L).flip(-1),
        "rounded": lambda t, L: doubled(t, L).round() % 2,
        "levels first": lambda t, L: binary(t, L).movedim(-1, 0),
        "borders downward": lambda t, L: (doubled(t, L).ceil() - 1) % 2,
        "never taken away": lambda t, L: (doubled(t, L) >= 1).float(),
        "not floored": lambda t, L: doubled(t, L) % 2,
        "signs": lambda t, L: 2 * binary(t, L) - 1,
    },
    "hiif.2": {
        "sum": lambda q, k, v: attend(q, k, v) * q.shape[-2],
        "not divided": lambda q, k, v: positive(q) @ (positive(k).mT @ v),
        "by n": lambda q, k, v: positive(q) @ (positive(k).mT @ v) / q.shape[-2],
        "weights of either sign": lambda q, k, v: (
            q @ (k.mT @ v) / (q @ k.sum(-2)[..., None])
        ),
        "elu without one": lambda q, k, v: attend(F.elu(q), F.elu(k), v),
        "q and v swapped": lambda q, k, v: attend(v, k, q),
        "keys and queries swapped": lambda q, k, v: attend(k, q, v),
        "softmax": lambda q, k, v: (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v,
        "pair by pair": pair_by_pair,
    },
    "hiif.3": {
        "own queries only": lambda p: [attend(*part) for part in p()],
        "heard so far": heard_so_far,
        "sum": lambda p: by_pieces(p, count=lambda sizes: 1),
        "mean of means": lambda p: by_pieces(p, weigh=lambda n: 1 / n, count=len),
        "by the number of pieces": lambda p: by_pieces(p, count=len),
        "all in one": lambda p: torch.cat(in_pieces(p)),
        "sums in float32": lambda p: by_pieces(p, dtype=torch.float32),
        "all kept": all_kept,
        "three rounds": counted_first,
    },
    "idm.1": {
        "level taken for gamma": lambda y0, a, e: a**0.5 * y0 + (1 - a) ** 0.5 * e,
        "shares add up": lambda y0, a, e: a * y0 + (1 - a) * e,
        "picture and noise swapped": lambda y0, a, e: noisy(e, a, y0),
        "level squared": lambda y0, a, e: noisy(y0, a**2, e),
        "noise is added": lambda y0, a, e: a * y0 + e,
        "noise taken away": lambda y0, a, e: noisy(y0, a, -e),
        "one number for a pixel": lambda y0, a, e: noisy(y0, a, e).mean(0),
    },
    "idm.2": {
        "levels swapped": lambda y, y0, now, then: ddim_step(y, y0, then, now),
        "levels taken for gammas": lambda y, y0, now, then: ddim_step(
            y, y0, now**0.5, then**0.5
        ),
        "straight line": straight,
        "DDPM's mean": ancestral,
        "fresh noise": lambda y, y0, now, then: noisy(y0, then, torch.randn_like(y)),
        "the picture alone": lambda y, y0, now, then: then * y0,
        "nothing moves": lambda y, y0, now, then: y,
        "y taken for noise": with_noise_of(lambda y, *_: y),
        "noise not scaled": with_noise_of(lambda y, y0, now, then: y - now * y0),
        "whole picture taken away": with_noise_of(
            lambda y, y0, now, then: (y - y0) / (1 - now**2) ** 0.5
        ),
        "noise stays as strong": lambda y, y0, now, then: y + (then - now) * y0,
    },
    "idm.3": {
        "rows and columns of h swapped": lambda h, size, mlp: implicit_up(
            h.mT, size, mlp
        ),
        "columns before rows": lambda *x: asked(
            *x, order=lambda z, rows, cols: (z, cols, rows)
        ),
        "offsets before features": lambda *x: asked(
            *x, order=lambda z, rows, cols: (rows, cols, z)
        ),
        "no offsets": lambda *x: asked(*x, order=lambda z, *_: (z,)),
        "in pixels": lambda *x: asked(*x, offset=lambda x, i, *_: x - i),
        "the other way": lambda *x: asked(*x, offset=lambda x, i, *_: 2 * (i - x)),
        "places, not offsets": lambda *x: asked(
            *x, offset=lambda x, i, m, n: 2 * (x + 0.5) / m - 1
        ),
        "the corner before": lambda *x: asked(
            *x, pick=lambda x, m: x.floor().long().clamp(0, m - 1)
        ),
        "nearest to the upper left corner": lambda *x: asked(
            *x, pick=lambda x, m: torch.arange(len(x)) * m // len(x)
        ),
        "corners as samples": lambda *x: asked(
            *x, pick=lambda x, m: nearest(x + 0.5, m)
        ),
        "smooth features": smooth_features,
        "first map of the batch only": lambda h, size, mlp: implicit_up(
            h[:1].expand_as(h), size, mlp
        ),
        "MLP not asked": lambda h, size, mlp: implicit_up(h, size, as_it_is),
    },
    "liif.1": {
        "half a pixel off": lambda N, n: torch.arange(N) * n // N,
        "floating point": lambda N, n: nearest(
            to_position(pixel_centres(N, torch.float16), n), n
        ),
        "axes swapped": lambda N, n: owners(n, N),
        "ties downward": lambda N, n: ((2 * torch.arange(N) + 1) * n - 1) // (2 * N),
        "not whole numbers": lambda N, n: owners(N, n).float(),
    },
    "liif.2": {
        "half a pixel off": half_pixel_off,
        "axes swapped": lambda g, c: blend(g, c.flip(-1)),
        "weights of the wrong corner": swapped,
        "weights not normalised": lambda g, c: blend(g, c, lambda w, k: w**2),
        "nearest": lambda g, c: blend(g, c, lambda w, k: (w > 0.25).float()),
        "first picture of the batch only": lambda g, c: blend(g[:1].expand_as(g), c),
    },
    "liif.3": {
        "asked once": render,
        "four instead of eight": flipped_only,
        "not flipped back": lambda model, lr, size: (
            (render(model, lr, size) + render(model, lr.flip(-1), size)) / 2
        ),
        "sum instead of mean": lambda m, lr, s: 8 * self_ensemble(m, lr, s),
        "size not transposed": lambda m, lr, s: self_ensemble(m, lr, s[::-1]),
    },
    "side.1": {
        "one order only": lambda n: luck(n) / 2,
        "every score a coin": lambda n: 2 / 2**n,
        "orders, not hands": lambda n: 2 / math.factorial(2 * n),
        "hands of other sizes": lambda n: 2 / math.comb(2 * n, n - 1) if n > 1 else 1,
        "the odds against": lambda n: math.comb(2 * n, n) / 2,
        "whole division": lambda n: 2 // math.comb(2 * n, n),
        "one seed is never apart": lambda n: luck(n) if n > 1 else 0.0,
    },
    "side.2": {
        "must be better in both": lambda p: unbeaten(
            p, lambda a, b: a[0] < b[0] and a[1] > b[1]
        ),
        "equal points beat each other": lambda p: unbeaten(
            p, lambda a, b: a[0] <= b[0] and a[1] >= b[1]
        ),
        "must cost less": lambda p: unbeaten(
            p, lambda a, b: a[0] < b[0] and a[1] >= b[1]
        ),
        "must score more": lambda p: unbeaten(
            p, lambda a, b: a[0] <= b[0] and a[1] > b[1]
        ),
        "one advantage is enough": lambda p: unbeaten(
            p, lambda a, b: a[0] < b[0] or a[1] > b[1]
        ),
        "low scores are good": lambda p: unbeaten(
            p,
            lambda a, b: beats((a[0], -a[1]), (b[0], -b[1])),
        ),
        "cost and score swapped": lambda p: unbeaten(
            p, lambda a, b: beats(a[::-1], b[::-1])
        ),
        "as they come": lambda p: unbeaten(p, beats, key=None),
        "dearest first": lambda p: front(p)[::-1],
        "everybody": lambda p: sorted(p, key=p.get),
        "the best": lambda p: front(p)[-1:],
        "as high as before": lambda p: highest_so_far(
            p, lambda score, best: score >= best
        ),
        "higher than before": lambda p: highest_so_far(
            p, lambda score, best: score > best
        ),
    },
    "side.3": {
        "nearest code": lambda *x: codes(*x, blend=nearest_code),
        "blended along rows only": lambda *x: codes(*x, blend=rows_only),
        "nearest code, but for ties": lambda *x: codes(*x, blend=nearest_but_ties),
        "blurred": lambda *x: codes(*x, blend=blurred),
        "corners as samples": lambda *x: codes(
            *x, blend=lambda grid, x: sampled(grid, x, corners_are_samples=True)
        ),
        "half a pixel off": lambda *x: codes(*x, blend=half_pixel_off),
        "axes swapped": lambda f, c, *x: blend_first(f, c.flip(-1), *x),
        "weights of the wrong corner": lambda *x: codes(*x, blend=swapped),
        "weights not normalised": lambda *x: codes(
            *x, blend=lambda grid, x: blend(grid, x, lambda w, k: w**2)
        ),
        "first picture of the batch only": lambda *x: codes(
            *x, blend=lambda grid, x: bilinear(grid[:1].expand_as(grid), x)
        ),
        "asked four times": asked_four_times,
        "not asked": lambda *x: blend_first(*x[:3], lambda x: x),
        "asked twice": lambda f, c, cell, mlp: (
            (blend_first(f, c, cell, mlp) + blend_first(f, c, cell, mlp)) / 2
        ),
        "pixel size first": lambda features, c, cell, mlp: blend_first(
            features,
            c,
            cell,
            lambda x: mlp(torch.cat([x[..., -2:], x[..., :-2]], -1)),
        ),
        "cell as it comes": lambda *x: codes(*x, size=lambda cell, *_: cell),
        "cell times (W, H)": lambda *x: codes(
            *x, size=lambda cell, H, W: cell * cell.new_tensor([W, H])
        ),
        "scale instead": lambda *x: codes(
            *x, size=lambda cell, H, W: 2 / (cell * cell.new_tensor([H, W]))
        ),
        "picture instead of codes": lambda f, *x: blend_first(
            f._replace(latent=f.lr), *x
        ),
        "channels first": lambda *x: blend_first(*x).movedim(-1, 1),
    },
}


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_passes(name, capsys):
    reference = EXERCISES[name].reference
    assert check(name, reference) is reference
    assert capsys.readouterr().out == f"{name}: passed\n"


@pytest.mark.parametrize(
    "name, answer",
    [
        ("side.1", lambda n: 2 / math.comb(2 * n, n)),
        ("side.1", lambda n: 2 * math.factorial(n) ** 2 / math.factorial(2 * n)),
        ("side.2", lambda points: unbeaten(points, beats)),
        ("side.2", lambda points: tuple(front(points))),
        ("side.3", lambda *given: codes(*given, blend=sampled)),
        ("side.3", lambda *given: codes(*given, blend=blend)),
    ],
)
def test_another_right_answer_passes(name, answer, capsys):
    assert check(name, answer) is answer
    assert capsys.readouterr().out == f"{name}: passed\n"


@pytest.mark.parametrize("stub", [lambda *args: ..., lambda *args: None])
@pytest.mark.parametrize("name", EXERCISES)
def test_a_stub_is_not_attempted(name, stub, capsys):
    assert check(name, stub) is EXERCISES[name].reference
    assert capsys.readouterr().out == f"{name}: not attempted\n"


@pytest.mark.parametrize("name", EXERCISES)
def test_at_least_three_wrong_answers_are_tried(name):
    assert len(WRONG[name]) >= 3


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name in WRONG for fault in WRONG[name]]
)
def test_a_wrong_answer_is_rejected(name, fault, capsys):
    assert check(name, WRONG[name][fault]) is EXERCISES[name].reference
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: not yet: ")
    assert "raised" not in said or fault in ("axes swapped",)


@pytest.mark.parametrize("name", EXERCISES)
def test_an_answer_that_raises_is_reported_not_raised(name, capsys):
    def broken(*args):
        raise RuntimeError("my mistake")

    assert check(name, broken) is EXERCISES[name].reference
    said = capsys.readouterr().out
    assert "it raised RuntimeError: my mistake" in said


def test_an_unknown_exercise_names_the_nearest():
    with pytest.raises(ValueError, match="liif.2"):
        check("lif.2", None)


def test_the_two_bilinear_functions_agree():
    grid, coord = torch.rand(2, 5, 6, 3), make_coord((9, 7)).expand(2, 9, 7, 2)
    assert torch.allclose(
        blend(grid, coord), EXERCISES["liif.2"].reference(grid, coord)
    )
