"""DIIF, DLTE and their slices: slow references, golden geometry, printed numbers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import awake, golden, near

from asr_course import build, count_parameters
from asr_course.coords import make_cell, make_coord, split_axes
from asr_course.errors import UserError
from asr_course.layers import unfold
from asr_course.models.slices import cut_slices, slices_per_group

SLICINGS = ("linear", "constant", "rows", "fixed")
WITHOUT_DS = {"slicing": "fixed", "slice_ensemble": False}
CASES = [
    ((5, 6), (5, 6)),  # x1
    ((4, 7), (8, 14)),
    ((5, 4), (12, 10)),  # x2.5 and x2.4
    ((6, 10), (20, 33)),  # x3.3
    ((3, 4), (12, 16)),
    ((3, 3), (25, 25)),  # x8.3
    ((2, 3), (36, 54)),  # x17.9 and x18
    ((4, 3), (10, 13)),  # x2.5 by x4.3
    ((3, 4), (25, 9)),  # x8.3 by x2.25
]


def cut(lr, hr, slicing):
    """The slices of all pixels of an output of size hr."""
    step = make_cell(hr)[None] * torch.tensor(lr) / 2
    return cut_slices(split_axes(make_coord(hr)[None]), step, lr, slicing)


def queries_of(hr, batch=1):
    """Queries and cells for all pixels of outputs of size hr."""
    coord, cell = make_coord(hr), make_cell(hr)
    return split_axes(coord.expand(batch, *coord.shape)), cell.expand(batch, 2)


def centre(pixel, lr, hr) -> np.ndarray:
    """The centre of an output pixel, counted in low-resolution pixels."""
    return (np.array(pixel) + 0.5) * lr / hr - 0.5


def slow_slices(lr, hr, slicing):
    """The slice of every pixel: {(row, col): (group, number in it, its pixels)}.

    Groups are gathered pixel by pixel, in raster order, and cut one after the other.
    """
    rows, cols = (
        [(2 * i + 1) * n // (2 * N) for i in range(N)]
        for n, N in zip(lr, hr, strict=True)
    )
    groups, slices = {}, {}
    for r in range(hr[0]):
        for c in range(hr[1]):
            groups.setdefault((rows[r], cols[c]), []).append((r, c))
    for group, pixels in groups.items():
        u = {
            "linear": math.ceil(hr[1] / lr[1]),
            "constant": len(pixels),
            "rows": len({c for _, c in pixels}),
            "fixed": 4,
        }[slicing]
        for k in range(0, len(pixels), u):
            part = pixels[k : k + u]
            slices |= dict.fromkeys(part, (group, k // u, part))
    return slices


# Geometry


@pytest.mark.parametrize("slicing", SLICINGS)
@pytest.mark.parametrize("lr, hr", CASES)
def test_slices_are_those_of_whole_numbers(lr, hr, slicing):
    slices, numbers = cut(lr, hr, slicing), {}
    for pixel, (group, number, part) in slow_slices(lr, hr, slicing).items():
        n = pixel[0] * hr[1] + pixel[1]
        s = int(slices.of[n])
        assert numbers.setdefault((group, number), s) == s
        assert (int(slices.row[s]), int(slices.col[s])) == group
        assert int(slices.rank[n]) == part.index(pixel)
        ends = [part[0], part[-1]]
        if slicing == "fixed":
            ends = [*part, *[part[-1]] * 3][:4]
        for k, end in enumerate(ends):
            near(slices.ends[s, k], torch.tensor(centre(end, lr, hr) - group), 1e-4)
        offset = torch.tensor(centre(pixel, lr, hr) - group)
        near(slices.offset[n], offset, 1e-4)
    assert len(set(numbers.values())) == len(numbers) == len(slices.row)


@pytest.mark.parametrize("case", ["x4", "x2", "x2_5", "x3_3"])
def test_geometry_equals_the_golden_one(case):
    expected = golden("diif_geometry")
    H, W, HH, WW = expected[f"{case}/shape_H_W_HH_WW"].tolist()
    slices = cut((H, W), (HH, WW), "linear")
    of = slices.of.view(HH, WW)
    group = (slices.row * W + slices.col)[of]
    assert np.array_equal(group, expected[f"{case}/group"])
    # Slices of a group are numbered one after the other.
    start = torch.full((H * W,), len(slices.row)).scatter_reduce_(
        0, group.flatten(), slices.of, "amin"
    )
    assert np.array_equal(of - start[group], expected[f"{case}/slice"])
    for k, name in enumerate(("first", "last")):
        row = (slices.ends[:, k, 0] + slices.row + 0.5) * HH / H - 0.5
        col = (slices.ends[:, k, 1] + slices.col + 0.5) * WW / W - 0.5
        place = torch.stack([row, col], dim=-1)[of].round()
        assert np.array_equal(place, expected[f"{case}/{name}"])


@pytest.mark.parametrize("slicing", SLICINGS)
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_slices_per_group_are_those_that_are_cut(slicing, scale):
    slices = cut((3, 4), (3 * scale, 4 * scale), slicing)
    assert slices_per_group(slicing, scale) == len(slices.row) / 12


# The method


def slow_diif(model, z, phase, lr, hr):
    """Our rule in float64 with loops, normalised: (h, w, 3).

    z: (C, H, W), the latent codes; DLTE: amplitudes and frequencies. phase: DLTE's.
    """
    options, padded = model.options, F.pad(z.double(), (2, 2, 2, 2))
    coarse, fine = (
        [(x.weight.double(), x.bias.double()) for x in stage.layers]
        for stage in (model.coarse, model.fine)
    )
    corners = [(a, b) for a in (0, 1) for b in (0, 1)]
    rgb = torch.zeros(*hr, 3, dtype=torch.float64)
    for pixel, (group, _, part) in slow_slices(lr, hr, options.slicing).items():
        x, total = centre(pixel, lr, hr), 0
        for corner in corners if options.slice_ensemble else [None]:
            v, weight, reach, top = np.array(group), 1, 3, np.array(group) + 1
            if corner:
                v = group + np.array(corner) - 0.5
                weight, reach, top = (1 - abs(x - v)).prod(), 4, np.add(group, corner)
            if phase is not None:
                reach, top = 2, top + 1
            codes = padded[:, top[0] : top[0] + reach, top[1] : top[1] + reach]
            ends = [2 * (centre(end, lr, hr) - v) for end in (part[0], part[-1])]
            if phase is None:
                inputs = torch.tensor(np.concatenate([*ends, 2 * np.divide(lr, hr)]))
                hidden = torch.cat([codes.reshape(-1), inputs])
            else:
                amplitude, frequency = codes.reshape(2, -1)
                pairs = frequency.view(2, -1, 2)  # for the first and the last pixel
                angle = [p @ torch.tensor(e) for p, e in zip(pairs, ends, strict=True)]
                angle = math.pi * (torch.cat(angle) + phase)
                hidden = amplitude * torch.cat([angle.cos(), angle.sin()])
            for W, bias in coarse:
                hidden = (W @ hidden + bias).relu()
            total = total + weight * hidden
        hidden = torch.cat([total, torch.tensor(2 * (x - group))])
        for W, bias in fine[:-1]:
            hidden = (W @ hidden + bias).relu()
        rgb[pixel] = fine[-1][0] @ hidden + fine[-1][1]
    return rgb


@torch.no_grad()
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("slicing", SLICINGS[:3])
@pytest.mark.parametrize(
    "lr, hr", [((4, 5), (11, 12)), ((2, 2), (2, 2)), ((2, 3), (17, 20))]
)
def test_equals_the_slow_reference(lr, hr, slicing, ensemble):
    model = awake(build("diif", "tiny", slicing=slicing, slice_ensemble=ensemble))
    features = model.encode(torch.rand(1, 3, *lr))
    rgb = model.predict(features, *queries_of(hr))
    near(rgb[0], slow_diif(model, features.latent[0], None, lr, hr))


@torch.no_grad()
@pytest.mark.parametrize("slicing", SLICINGS[:3])
def test_dlte_equals_its_slow_reference(slicing):
    model, lr, hr = awake(build("dlte", "tiny", slicing=slicing)), (3, 4), (8, 9)
    features = model.encode(torch.rand(1, 3, *lr))
    z = [layer(features.latent) for layer in (model.amplitude, model.frequency)]
    phase = model.phase.weight @ (2 * torch.tensor(lr) / torch.tensor(hr))
    rgb = model.predict(features, *queries_of(hr))
    near(rgb[0], slow_diif(model, torch.cat(z, dim=1)[0], phase, lr, hr))


@torch.no_grad()
@pytest.mark.parametrize("lr, hr", [((4, 5), (11, 12)), ((2, 3), (17, 20))])
def test_fixed_slices_equal_a_slow_reference(lr, hr):
    model = awake(build("diif", "tiny", **WITHOUT_DS)).double()
    features = model.encode(torch.rand(1, 3, *lr).double())
    z = unfold(features.latent)[0].double()  # (9 C, H, W)
    coord, cell = make_coord(hr)[None].double(), make_cell(hr)[None].double()
    rgb = model.predict(features, split_axes(coord), cell)[0]
    for pixel, (_, _, part) in slow_slices(lr, hr, "fixed").items():
        ends = [centre(p, lr, hr) for p in [*part, *[part[-1]] * 3][:4]]
        middle, expected = np.mean(ends, axis=0), 0
        for i in (math.floor(middle[0]), math.floor(middle[0]) + 1):
            for j in (math.floor(middle[1]), math.floor(middle[1]) + 1):
                weight = (1 - abs(middle[0] - i)) * (1 - abs(middle[1] - j))
                at = min(max(i, 0), lr[0] - 1), min(max(j, 0), lr[1] - 1)
                inputs = [2 * (end - at) for end in ends] + [2 * np.divide(lr, hr)]
                inputs = torch.tensor(np.concatenate(inputs))
                inputs = torch.cat([z[:, at[0], at[1]], inputs])
                expected = expected + weight * model.coarse(inputs)
        near(rgb[pixel], expected.view(4, 3)[part.index(pixel)])


@torch.no_grad()
@pytest.mark.parametrize("name", ["diif", "dlte"])
@pytest.mark.parametrize("scale", [1.5, 2, 9])
def test_a_query_alone_and_scattered_queries_equal_the_grid(name, scale):
    model = awake(build(name, "tiny"))
    n = round(4 * scale)
    features = model.encode(torch.rand(2, 3, 5, 3))
    queries, cell = queries_of((n, n), batch=2)
    whole = model.predict(features, queries, cell)
    for k in range(0, n * n, 1 + n * n // 50):
        r, c = divmod(k, n)
        one = split_axes(queries.grid()[:, r : r + 1, c : c + 1])
        near(model.predict(features, one, cell)[:, 0, 0], whole[:, r, c])
    order = torch.randperm(n * n)
    scattered = split_axes(queries.grid().view(2, -1, 1, 2)[:, order])
    rgb = model.predict(features, scattered, cell)[:, :, 0]
    near(rgb, whole.view(2, -1, 3)[:, order])


@pytest.mark.parametrize(
    "name, options, edsr, rdn, printed_k",
    [
        ("diif", {}, 1_683_035, 22_436_547, 474),
        ("dlte", {}, 1_559_003, 22_312_515, 347),
        ("diif", {"slice_ensemble": False}, 1_568_347, 22_321_859, 356),
        ("diif", WITHOUT_DS, 1_571_172, 22_324_684, 359),
        ("diif", {"coarse": (256,) * 4}, 1_814_619, 22_568_131, 609),
        ("diif", {"fine": (256,) * 4}, 1_814_619, 22_568_131, 609),
    ],
)
def test_parameters_at_paper_size(name, options, edsr, rdn, printed_k):
    count = count_parameters(build(name, "paper", **options)) + 24
    assert count == edsr
    assert count_parameters(build(name, "paper", "rdn", **options)) == rdn
    assert round((round(count / 1e6, 3) - 1.220) * 1024) == printed_k


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("dlte", {"slice_ensemble": False}, "slice_ensemble=True"),
        ("diif", {"slicing": "fixed"}, "slice_ensemble=False"),
    ],
)
def test_options_that_cannot_be(name, options, words):
    with pytest.raises(UserError, match=words):
        build(name, "tiny", **options)
