"""Exercise checks: right answers pass, wrong ones are told what fails, none raises."""

import math

import pytest
import torch
import torch.nn.functional as F

from asr_course.coords import (
    corners,
    make_coord,
    nearest,
    split_axes,
    to_position,
)
from asr_course.layers import bilinear, look_up
from asr_course.lessons import EXERCISES, check
from asr_course.lessons.diif import group_of, least_scale, smooth_weight
from asr_course.lessons.diin import pickier, soft_mean
from asr_course.lessons.diinn import fade, most_periods, sine_of_grid
from asr_course.lessons.hiif import attend, digits, positive, splits_at
from asr_course.lessons.idm import mixed_step, price, ramp
from asr_course.lessons.liif import mend, saved
from asr_course.lessons.side_by_side import blend_first, front, luck


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


def half_pixel_off(grid, coord):
    """Coordinates taken as if the corners, not the centres, were the samples."""
    shift = coord.new_tensor([1 / grid.shape[1], 1 / grid.shape[2]])
    return blend(grid, coord + shift)


def differ(a, b, levels):
    """Which digits of two places differ."""
    return digits(a, levels) != digits(b, levels)


def normal(x):
    return F.layer_norm(x, x.shape[-1:])


def pair_by_pair(q, k, v):
    """Right, and quadratic."""
    weight = positive(q) @ positive(k).mT
    return weight @ v / weight.sum(-1, keepdim=True)


def squared(q, k, v, weigh=lambda cos: (1 + cos) ** 2, units=(-1, -1), columns=1):
    """The pickier mean by its matrix, with something about it changed.

    units: the axes along which q and k get the length one, None for neither.
    """
    q, k = (
        x if axis is None else F.normalize(x, dim=axis)
        for x, axis in zip((q, k), units, strict=True)
    )
    weight = weigh(q @ k.mT)
    return weight / weight.sum(dim=-columns, keepdim=True) @ v


def summed_by_hand(q, k, v):
    """Right, but pair by pair, and no matrix product to count."""
    weight = (1 + F.cosine_similarity(q[:, :, None], k[:, None], dim=-1)) ** 2
    return (weight[..., None] * v[:, None]).sum(2) / weight.sum(2, keepdim=True)


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


def mixed(y, y0, now, then, sigma, fresh, kept=None, level=0.5, scale=1.0):
    """A step with something about it changed; kept: how much old noise stays."""
    noise = (y - now**level * y0) / (1 - now) ** 0.5
    kept = (1 - then - sigma**2) ** 0.5 if kept is None else kept(then, sigma)
    return then**level * y0 + kept * noise + sigma**scale * fresh


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
        "no ceiling": lambda c, d, w, p: c / ((1 - p) * w - d),
        "share spent": lambda c, d, w, p: least_scale(c, d, w, 1 - p),
        "fine for coarse": lambda c, d, w, p: least_scale(d, c, w, p),
        "coarse with s²": lambda c, d, w, p: ((c + d) / ((1 - p) * w)) ** 0.5,
        "fine with s": lambda c, d, w, p: (c + d) / ((1 - p) * w),
        "coarse stage alone": lambda c, d, w, p: c / ((1 - p) * w),
        "largest for none": lambda c, d, w, p: min(least_scale(c, d, w, p), 30),
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
        "areas": lambda x, v: (1 - (x - v).abs()).prod(-1, keepdim=True),
        "a quarter each": lambda x, v: torch.full_like(x[:, :1], 0.25),
        "nearest corner": lambda x, v: (
            ((x >= 0) == (v > 0)).all(-1, keepdim=True).to(x)
        ),
        "areas squared": lambda x, v: (1 - (x - v).abs()).prod(-1, keepdim=True) ** 2,
        "opposite corner": lambda x, v: smooth_weight(x, -v),
        "sum of the axes": lambda x, v: (1 - (x - v).abs()).mean(-1, keepdim=True) / 2,
        "rows only": lambda x, v: smooth_weight(x[:, :1], v[:1]) / 2,
        "flat (N,)": lambda x, v: smooth_weight(x, v)[:, 0],
    },
    "diin.1": {
        "straight": lambda left, steps: 1 - (1 - left) / steps,
        "a part of it": lambda left, steps: left / steps,
        "one step": lambda left, steps: left,
        "what moves": lambda left, steps: 1 - left ** (1 / steps),
        "the other power": lambda left, steps: left**steps,
        "of the variance": lambda left, steps: left ** (0.5 / steps),
        "one step too many": lambda left, steps: left ** (1 / (steps + 1)),
        "a fade": lambda left, steps: 1 + math.log(left) / steps,
        "a rate": lambda left, steps: -math.log(left) / steps,
    },
    "diin.2": {
        "not squared": lambda *qkv: squared(*qkv, weigh=lambda cos: 1 + cos),
        "not normalised": lambda *qkv: squared(*qkv, units=(None, None)),
        "only q normalised": lambda *qkv: squared(*qkv, units=(-1, None)),
        "columns normalised": lambda *qkv: squared(*qkv, units=(1, 1)),
        "cosine squared": lambda *qkv: squared(*qkv, weigh=lambda cos: 1 + cos**2),
        "1 forgotten": lambda *qkv: squared(*qkv, weigh=lambda cos: cos**2),
        "mixed term once": lambda *qkv: squared(
            *qkv, weigh=lambda cos: 1 + cos + cos**2
        ),
        "cubed": lambda *qkv: squared(*qkv, weigh=lambda cos: (1 + cos) ** 3),
        "not a mean": lambda *qkv: 2 * squared(*qkv),
        "twice": lambda q, k, v: squared(q, k, squared(q, k, v)),
        "right but quadratic": squared,
        "no matrix product": summed_by_hand,
        "q and k swapped": lambda q, k, v: pickier(k, q, v),
        "sums of columns": lambda *qkv: squared(*qkv, columns=2),
        "softmax": lambda *qkv: squared(*qkv, weigh=torch.exp),
        "features first": lambda q, k, v: pickier(q, k, v).mT,
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
        "kept": lambda p: (lambda e, x: torch.cat(e).softmax(0) @ torch.cat(x))(
            *zip(*p(), strict=True)
        ),
        "last piece": last_only,
        "two rounds": peak_first,
        "one number": lambda p: soft_mean(p).mean(),
    },
    "diinn.1": {
        "in radians": lambda w: most_periods(w) * 2 * torch.pi,
        "from the centre on": lambda w: most_periods(w) / 2,
        "signs kept": lambda w: w[:, :2].sum(dim=1).abs() / torch.pi,
        "pixel size counted": lambda w: w.abs().sum(dim=1) / torch.pi,
        "the larger alone": lambda w: w[:, :2].abs().amax(dim=1) / torch.pi,
        "along the gradient": lambda w: w[:, :2].norm(dim=1) / torch.pi,
        "one number": lambda w: most_periods(w).max(),
    },
    "diinn.2": {
        "nearest": lambda d, m: (d.abs() < 0.5).float(),
        "one side": lambda d, m: ((0.5 + m - d) / (2 * m)).clamp(0, 1),
        "not clamped": lambda d, m: (0.5 + m - d.abs()) / (2 * m),
        "zone twice as wide": lambda d, m: fade(d, 2 * m),
        "zone half as wide": lambda d, m: fade(d, m / 2),
        "after the border": lambda d, m: (1 - (d.abs() - 0.5) / m).clamp(0, 1),
        "squared": lambda d, m: fade(d, m) ** 2,
        "as LIIF": lambda d, m: fade(d, 0.5),
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
        "counted from one": lambda *x: splits_at(*x) + 1,
        "0 where none differs": lambda *x: differ(*x).int().argmax(-1),
        "digits that differ": lambda *x: differ(*x).sum(-1),
        "digits that agree": lambda *x: x[2] - differ(*x).sum(-1),
        "the finest that differs": lambda *x: (
            x[2] - 1 - differ(*x).flip(-1).int().argmax(-1)
        ),
        "by the distance": lambda a, b, L: (
            (-(a - b).abs().log2()).floor().clamp(0, L).long()
        ),
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
        "together": lambda x, d: normal(torch.cat([x, d], -1)),
        "not normalised": lambda x, d: torch.cat([x, d], -1),
        "normalised apart": lambda x, d: torch.cat([normal(x), normal(d)], -1),
        "digits first": lambda x, d: torch.cat([d, normal(x)], -1),
        "as large as x": lambda x, d: torch.cat([normal(x), d * x.std()], -1),
        "no digits": lambda x, d: torch.cat([normal(x), 0 * d], -1),
        "one digit": lambda x, d: torch.cat([normal(x), d[:, :1], d[:, :1]], -1),
        "x divided by 100": lambda x, d: torch.cat([x / 100, d], -1),
        "over all queries": lambda x, d: torch.cat([(x - x.mean()) / x.std(), d], -1),
    },
    "idm.1": {
        "ratio, not decibels": lambda K: 1 + 1 / K,
        "amplitudes": lambda K: 20 * math.log10(1 + 1 / K),
        "natural logarithm": lambda K: 10 * math.log(1 + 1 / K),
        "truth forgotten": lambda K: 10 * math.log10(2 / K),
        "always one draw": lambda K: 10 * math.log10(2),
        "decibels divided": lambda K: 10 * math.log10(2) / K,
        "deviations add": lambda K: 20 * math.log10(1 + K**-0.5) / 2,
        "root of K": lambda K: 10 * math.log10(1 + K**-0.5),
        "better, not worse": lambda K: -price(K),
    },
    "idm.2": {
        "times swapped": lambda y, y0, a, b, *more: mixed_step(y, y0, b, a, *more),
        "levels taken for gammas": lambda y, y0, a, b, *more: mixed_step(
            y, y0, a**0.5, b**0.5, *more
        ),
        "gammas taken for levels": lambda *x: mixed(*x, level=1),
        "all old noise stays": lambda *x: mixed(*x, kept=lambda b, s: (1 - b) ** 0.5),
        "deviations add": lambda *x: mixed(*x, kept=lambda b, s: (1 - b) ** 0.5 - s),
        "sigma not squared": lambda *x: mixed(*x, kept=lambda b, s: abs(1 - b - s)),
        "no root": lambda *x: mixed(*x, kept=lambda b, s: 1 - b - s**2),
        "sigma squared": lambda *x: mixed(*x, scale=2),
        "fresh noise forgotten": lambda *x: mixed(*x[:5], 0 * x[5]),
        "DDIM": lambda *x: mixed_step(*x[:4], 0, x[5]),
        "other fresh noise": lambda *x: mixed_step(*x[:5], torch.randn_like(x[0])),
        "the picture alone": lambda y, y0, now, then, *_: then**0.5 * y0,
    },
    "idm.3": {
        "two forgotten": lambda *x: ramp(*x) / 2,
        "half instead of twice": lambda *x: ramp(*x) / 4,
        "columns before rows": lambda *x: ramp(*x).flip(1),
        "first two inputs": lambda a, b: 2 * b.weight @ a.weight[:, :2],
        "first layer alone": lambda a, b: 2 * a.weight[:, -2:],
        "transposed": lambda *x: ramp(*x).T,
        "with a ReLU": lambda a, b: 2 * b.weight @ a.weight[:, -2:].relu(),
        "with the bias": lambda a, b: ramp(a, b) + b.bias[:, None],
        "upwards": lambda *x: -ramp(*x),
    },
    "liif.1": {
        "as it comes": lambda offset, cell, n: (offset, cell),
        "the other way": lambda offset, cell, n: (offset * 24 / n, cell * 24 / n),
        "offset alone": lambda offset, cell, n: (offset * n / 24, cell),
        "cell alone": lambda offset, cell, n: (offset, cell * n / 24),
        "one pixel is 1": lambda offset, cell, n: (offset * n / 2, cell * n / 2),
        "for one size": lambda offset, cell, n: (offset * 64 / 24, cell * 64 / 24),
        "swapped": lambda offset, cell, n: mend(offset, cell, n)[::-1],
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
        "one axis": lambda tau: tau,
        "four codes": lambda tau: 4 * tau,
        "half of the distances": lambda tau: tau / 2,
        "without the strip": lambda tau: -tau * math.log(tau),
        "decimal logarithm": lambda tau: tau * (1 - math.log10(tau)),
        "what is asked": lambda tau: 1 - saved(tau),
        "either distance": lambda tau: 1 - (1 - tau**0.5) ** 2,
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
        ("diif.3", lambda x, v: (math.pi * (x - v) / 2).cos().square().prod(-1, True)),
        ("side.1", lambda n: 2 / math.comb(2 * n, n)),
        ("side.1", lambda n: 2 * math.factorial(n) ** 2 / math.factorial(2 * n)),
        ("side.2", lambda points: unbeaten(points, beats)),
        ("side.2", lambda points: tuple(front(points))),
        ("side.3", lambda *given: codes(*given, blend=sampled)),
        ("side.3", lambda *given: codes(*given, blend=blend)),
        ("hiif.3", lambda x, d: torch.cat([normal(x), 2 * d - 1], -1)),
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
