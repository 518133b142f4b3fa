"""DIIF and DLTE: groups and slices, slow references, printed numbers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import awake, golden, near

from asr_course import build, count_parameters
from asr_course.coords import make_cell, make_coord, round_half_up
from asr_course.errors import UserError
from asr_course.models.diif import cut, members
from asr_course.models.layers import unfold
from asr_course.render import render, render_tiles

SLICINGS = ("linear", "constant", "rows", "fixed")
WITHOUT_DS = {"slicing": "fixed", "slice_ensemble": False}
CASES = [
    ((5, 6), (5, 6)),  # ×1
    ((4, 7), (8, 14)),
    ((5, 4), (12, 10)),  # ×2.5 and ×2.4
    ((6, 10), (20, 33)),  # ×3.3
    ((3, 4), (12, 16)),
    ((3, 3), (25, 25)),  # ×8.3
    ((2, 3), (36, 54)),  # ×17.9 and ×18
    ((4, 3), (10, 13)),  # ×2.5 by ×4.3
    ((3, 4), (25, 9)),  # ×8.3 by ×2.25
]


def centre(pixel, lr, hr) -> np.ndarray:
    """Where an output pixel's centre lies, counted in low-resolution pixels."""
    return (np.array(pixel) + 0.5) * lr / hr - 0.5


def slow_slices(lr, hr, slicing):
    """The slice of every pixel: {(row, col): (group, number in it, its pixels)}.

    Groups are gathered pixel by pixel, in raster order, and cut one after the other.
    """
    rows, cols = (
        [(2 * i + 1) * n // (2 * N) for i in range(N)]
        for n, N in zip(lr, hr, strict=True)
    )
    groups = {}
    for r in range(hr[0]):
        for c in range(hr[1]):
            groups.setdefault((rows[r], cols[c]), []).append((r, c))
    found = {}
    for group, pixels in groups.items():
        width = len({c for _, c in pixels})
        u = {
            "linear": math.ceil(hr[1] / lr[1]),
            "constant": len(pixels),
            "fixed": 4,
            "rows": width,
        }[slicing]
        for k in range(0, len(pixels), u):
            part = pixels[k : k + u]
            for pixel in part:
                found[pixel] = (group, k // u, part)
    return found


@pytest.mark.parametrize("slicing", SLICINGS)
@pytest.mark.parametrize("lr, hr", CASES)
def test_slices_are_those_of_whole_numbers(lr, hr, slicing):
    slices, offset = cut(make_coord(hr)[None], make_cell(hr)[None], lr, slicing)
    expected = slow_slices(lr, hr, slicing)
    numbers = {}
    for pixel, (group, number, part) in expected.items():
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
        near(offset[n], torch.tensor(centre(pixel, lr, hr) - group), 1e-4)
    assert len(set(numbers.values())) == len(numbers) == len(slices.row)


@pytest.mark.parametrize("case", ["x4", "x2", "x2_5", "x3_3"])
def test_geometry_equals_the_golden_one(case):
    found = golden("diif_geometry")
    H, W, HH, WW = found[f"{case}/shape_H_W_HH_WW"].tolist()
    slices, _ = cut(
        make_coord((HH, WW))[None], make_cell((HH, WW))[None], (H, W), "linear"
    )
    of = slices.of.view(HH, WW)
    group = (slices.row * W + slices.col)[of]
    assert np.array_equal(group, found[f"{case}/group"])
    # Slices of a group are numbered one after the other.
    start = torch.full((H * W,), len(slices.row)).scatter_reduce_(
        0, group.flatten(), slices.of, "amin"
    )
    assert np.array_equal(of - start[group], found[f"{case}/slice"])
    for k, name in enumerate(("first", "last")):
        row = (slices.ends[:, k, 0] + slices.row + 0.5) * HH / H - 0.5
        col = (slices.ends[:, k, 1] + slices.col + 0.5) * WW / W - 0.5
        place = torch.stack([row, col], dim=-1)[of].round()
        assert np.array_equal(place, found[f"{case}/{name}"])


@pytest.mark.parametrize("lr, hr", CASES)
def test_groups_partition_every_axis(lr, hr):
    for n, N in zip(lr, hr, strict=True):
        position = (torch.arange(N) + 0.5) * n / N - 0.5
        found = members(position, n, torch.tensor(n / N))
        counts = torch.bincount(found.index, minlength=n)
        assert torch.equal(found.count, counts[found.index])
        start = counts.cumsum(0) - counts
        assert torch.equal(found.before, torch.arange(N) - start[found.index])


def slow_diif(model, latent, lr, hr):
    """Our rule in float64 with loops: (C, H, W) -> (h, w, 3), normalised."""
    options, padded = model.options, F.pad(latent.double(), (2, 2, 2, 2))
    coarse, fine = (
        [(x.weight.double(), x.bias.double()) for x in stage.layers]
        for stage in (model.coarse, model.fine)
    )
    corners = [(a, b) for a in (0, 1) for b in (0, 1)]
    answers = torch.zeros(*hr, 3, dtype=torch.float64)
    for pixel, (group, _, part) in slow_slices(lr, hr, options.slicing).items():
        x, total = centre(pixel, lr, hr), 0
        for corner in corners if options.slice_ensemble else [None]:
            v, weight, reach, top = np.array(group), 1, 3, np.array(group) + 1
            if corner:
                v = group + np.array(corner) - 0.5
                weight, reach, top = (1 - abs(x - v)).prod(), 4, np.add(group, corner)
            z = padded[:, top[0] : top[0] + reach, top[1] : top[1] + reach]
            ends = [2 * (centre(end, lr, hr) - v) for end in (part[0], part[-1])]
            told = torch.tensor(np.concatenate([*ends, 2 * np.divide(lr, hr)]))
            hidden = torch.cat([z.reshape(-1), told])
            for W, bias in coarse:
                hidden = (W @ hidden + bias).relu()
            total = total + weight * hidden
        hidden = torch.cat([total, torch.tensor(2 * (x - group))])
        for W, bias in fine[:-1]:
            hidden = (W @ hidden + bias).relu()
        answers[pixel] = fine[-1][0] @ hidden + fine[-1][1]
    return answers


@torch.no_grad()
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("slicing", SLICINGS[:3])
@pytest.mark.parametrize(
    "lr, hr", [((4, 5), (11, 12)), ((2, 2), (2, 2)), ((2, 3), (17, 20))]
)
def test_equals_the_slow_reference(lr, hr, slicing, ensemble):
    model = awake(build("diif", "tiny", slicing=slicing, slice_ensemble=ensemble))
    features = model.encode(torch.rand(1, 3, *lr))
    rgb = model.predict(features, make_coord(hr)[None], make_cell(hr)[None])
    near(rgb[0], slow_diif(model, features.latent[0], lr, hr))


@torch.no_grad()
@pytest.mark.parametrize("lr, hr", [((4, 5), (11, 12)), ((2, 3), (17, 20))])
def test_fixed_slices_equal_a_slow_reference(lr, hr):
    model = awake(build("diif", "tiny", **WITHOUT_DS)).double()
    features = model.encode(torch.rand(1, 3, *lr).double())
    z = unfold(features.latent)[0].double()  # (9 C, H, W)
    rgb = model.predict(features, make_coord(hr)[None].double(), make_cell(hr)[None])[0]
    for pixel, (_, _, part) in slow_slices(lr, hr, "fixed").items():
        ends = [centre(p, lr, hr) for p in [*part, *[part[-1]] * 3][:4]]
        middle, answer = np.mean(ends, axis=0), 0
        for i in (math.floor(middle[0]), math.floor(middle[0]) + 1):
            for j in (math.floor(middle[1]), math.floor(middle[1]) + 1):
                share = (1 - abs(middle[0] - i)) * (1 - abs(middle[1] - j))
                at = min(max(i, 0), lr[0] - 1), min(max(j, 0), lr[1] - 1)
                told = [2 * (end - at) for end in ends] + [2 * np.divide(lr, hr)]
                told = torch.tensor(np.concatenate(told))
                seen = torch.cat([z[:, at[0], at[1]], told])
                answer = answer + share * model.coarse(seen)
        near(rgb[pixel], answer.view(4, 3)[part.index(pixel)])


@torch.no_grad()
@pytest.mark.parametrize("name", ["diif", "dlte"])
@pytest.mark.parametrize("scale", [1.5, 2, 9])
def test_applying_the_first_fine_layer_early_changes_nothing(name, scale, monkeypatch):
    """At ×1.5 there are too few pixels in a slice for it, at ×9 there are enough."""
    model = awake(build(name, "tiny"))
    lr, n = (3, 4), round(4 * scale)
    features = model.encode(torch.rand(2, 3, *lr))
    coord, cell = make_coord((n, n)).expand(2, n, n, 2), make_cell((n, n)).expand(2, 2)
    whole = model.predict(features, coord, cell)
    one_by_one = [
        model.predict(features, coord[:, r : r + 1, c : c + 1], cell)
        for r in range(n)
        for c in range(n)
    ]
    near(torch.cat(one_by_one, 1).view(2, n, n, 3), whole)


@torch.no_grad()
@pytest.mark.parametrize(
    "name, slicing",
    [("diif", slicing) for slicing in SLICINGS]
    + [("dlte", slicing) for slicing in SLICINGS[:3]],
)
@pytest.mark.parametrize("size", [(13, 17), (30, 34), (100, 47)])
def test_a_window_is_the_crop_of_the_whole(name, slicing, size):
    ensemble = slicing != "fixed"
    model = awake(build(name, "tiny", slicing=slicing, slice_ensemble=ensemble))
    lr = torch.rand(1, 3, 12, 14)
    whole = render(model, lr, size)
    for top, left, rows, cols in ((0, 0, 5, 5), (3, 1, 7, 9), (6, 8, 4, 9)):
        part = render(model, lr, size, window=(top, left, rows, cols))
        near(part, whole[:, top : top + rows, left : left + cols], 1e-5)
        tiled = render(model, lr, size, window=(top, left, rows, cols), tile=5)
        near(tiled, part, 1e-5)


SCALES = [(1, 1), (2, 2), (2.5, 2.5), (3.3, 3.3), (4, 4), (8.3, 8.3), (17.9, 17.9)]
SCALES += [(2.5, 4.3), (8.3, 2.25), (1, 7.1)]


@torch.no_grad()
@pytest.mark.parametrize("scales", SCALES)
def test_every_output_pixel_is_written_once(scales):
    """And a window at any offset is the crop of the whole, tiled or not."""
    model, lr = awake(build("diif", "tiny")), torch.rand(1, 3, 6, 7)
    size = tuple(round_half_up(n * s) for n, s in zip((6, 7), scales, strict=True))
    written = torch.zeros(size)
    whole = torch.zeros(3, *size)
    for row, col, piece in render_tiles(model, lr, size, tile=4):
        place = slice(row, row + piece.shape[1]), slice(col, col + piece.shape[2])
        written[place] += 1
        whole[:, place[0], place[1]] = piece
    assert (written == 1).all()
    top, left = size[0] // 3, size[1] // 4
    window = (top, left, size[0] - top - 1, size[1] - left - 1)
    part = render(model, lr, size, window)
    near(part, whole[:, top : size[0] - 1, left : size[1] - 1])


@torch.no_grad()
def test_scattered_queries_equal_the_grid():
    model = awake(build("diif", "tiny"))
    features = model.encode(torch.rand(2, 3, 5, 6))
    coord, cell = (
        make_coord((17, 23)).expand(2, 17, 23, 2),
        make_cell((17, 23)).expand(2, 2),
    )
    grid = model.predict(features, coord, cell).view(2, -1, 3)
    order = torch.randperm(17 * 23)
    scattered = coord.reshape(2, -1, 1, 2)[:, order]
    near(model.predict(features, scattered, cell)[:, :, 0], grid[:, order])


def test_the_corner_map_holds_the_4x4_codes_around():
    model = build("diif", "tiny")
    latent = torch.rand(1, 24, 3, 4)
    first = model.coarse.layers[0]
    around = F.unfold(latent, 4, padding=2)  # (1, 16 C, 4 * 5)
    expected = first.weight[:, : model.latent_size] @ around[0] + first.bias[:, None]
    near(model.content(latent)[0].reshape(20, -1), expected.T)
    assert model.content(latent).shape == (1, 4, 5, 48)
    alone = build("diif", "tiny", slice_ensemble=False)
    first = alone.coarse.layers[0]
    expected = first.weight[:, : alone.latent_size] @ unfold(latent)[0].flatten(1)
    near(alone.content(latent)[0].reshape(12, -1), expected.T + first.bias)


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


def test_bad_options():
    with pytest.raises(UserError, match="slice ensemble"):
        build("dlte", "tiny", slice_ensemble=False)
    with pytest.raises(UserError, match="set slice_ensemble=False"):
        build("diif", "tiny", slicing="fixed")
    with pytest.raises(UserError, match="need a width"):
        build("diif", "tiny", fine=())
    with pytest.raises(UserError, match="slicing 'lines': choose from"):
        build("diif", "tiny", slicing="lines")
