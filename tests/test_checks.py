"""Exercise checks: right answers pass, wrong ones are told what fails, none raises."""

import pytest
import torch

from asr_course.checks import EXERCISES, check
from asr_course.checks.diif import blend_then_map, group_of, slice_ends
from asr_course.checks.diinn import local_offsets, modulate, sine_of_grid
from asr_course.checks.liif import owners, self_ensemble
from asr_course.coords import make_coord, nearest, pixel_centres, to_position
from asr_course.models.layers import look_up
from asr_course.models.liif import corners
from asr_course.render import render


def blend(grid, coord, weigh=lambda weight, k: weight, places=None):
    """Bilinear interpolation with something about it changed."""
    total = 0
    four = corners(coord, grid.shape[1:3], True)
    for k, (i, j, _, weight) in enumerate(four):
        if places:
            i, j = places(i, j)
        total = total + weigh(weight, k)[..., None] * look_up(grid, i, j)
    return total


def swapped(grid, coord):
    """Each corner gets the weight of the one diagonally opposite."""
    weights = [weight for *_, weight in corners(coord, grid.shape[1:3], True)]
    return blend(grid, coord, lambda weight, k: weights[3 - k])


def flipped_only(model, lr, size):
    """Four of the eight variants."""
    flips = ((), (-1,), (-2,), (-2, -1))
    return sum(render(model, lr.flip(d), size).flip(d) for d in flips) / 4


def never_undone(model, lr, size):
    """The input is flipped, the answer is not flipped back."""
    return (render(model, lr, size) + render(model, lr.flip(-1), size)) / 2


def half_pixel_off(grid, coord):
    """Coordinates taken as if the corners, not the centres, were the samples."""
    shift = coord.new_tensor([1 / grid.shape[1], 1 / grid.shape[2]])
    return blend(grid, coord + shift)


def whole_position(N, n):
    """Counted from the first pixel's centre, not from the nearest one's."""
    return 2 * to_position(pixel_centres(N), n)


def looked_up_first(layer, s, z, i, j):
    """Right, but z's part is computed for every query."""
    return layer(torch.cat([s, look_up(z, i, j)], dim=-1))


def biased_twice(layer, s, z, i, j):
    """The bias counts in both parts."""
    return modulate(layer, s, z, i, j) + layer.bias


def z_first(layer, s, z, i, j):
    """The layer's columns are taken in the wrong order."""
    W_z, W_s = layer.weight[:, : z.shape[-1]], layer.weight[:, z.shape[-1] :]
    return s @ W_s.T + look_up(z @ W_z.T + layer.bias, i, j)


def grid_of_sines(row, col, W_row, W_col, b):
    """Right, but a sine is taken at every place."""
    return (row[:, None, None] * W_row + col[:, None] * W_col + b).sin()


def wrong_sign(row, col, W_row, W_col, b):
    """sin(a - b) instead of sin(a + b)."""
    return sine_of_grid(row, -col, W_row, W_col, b)


def late_always(H, share, of, W):
    """Right, but W is applied to every pixel."""
    return sum(a[:, None] * h[of] for a, h in zip(share, H, strict=True)) @ W.T


def early_always(H, share, of, W):
    """Right, but W is applied to every slice and corner."""
    return sum(a[:, None] * (h @ W.T)[of] for a, h in zip(share, H, strict=True))


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
        "always late": late_always,
        "always early": early_always,
        "first corner's shares for all": lambda H, a, of, W: blend_then_map(
            H, a[:1].expand_as(a), of, W
        ),
        "mean of the corners": lambda H, a, of, W: blend_then_map(
            H, torch.full_like(a, 0.25), of, W
        ),
        "another slice": lambda H, a, of, W: blend_then_map(H, a, of.flip(0), W),
    },
    "diinn.1": {
        "in pixels": lambda N, n: local_offsets(N, n) / 2,
        "half a pixel off": lambda N, n: local_offsets(N, n) + n / N,
        "axes swapped": lambda N, n: local_offsets(n, N),
        "not from the nearest": whole_position,
        "other sign": lambda N, n: -local_offsets(N, n),
    },
    "diinn.2": {
        "looked up first": looked_up_first,
        "bias twice": biased_twice,
        "z before s": z_first,
        "axes swapped": lambda a, s, z, i, j: modulate(a, s, z, j, i),
        "no bias": lambda a, s, z, i, j: modulate(a, s, z, i, j) - a.bias,
    },
    "diinn.3": {
        "a sine for every place": grid_of_sines,
        "wrong sign": wrong_sign,
        "axes swapped": lambda r, c, a, b, d: sine_of_grid(c, r, a, b, d),
        "weights swapped": lambda r, c, a, b, d: sine_of_grid(r, c, b, a, d),
        "no bias": lambda r, c, a, b, d: sine_of_grid(r, c, a, b, 0 * d),
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
        "not flipped back": never_undone,
        "sum instead of mean": lambda m, lr, s: 8 * self_ensemble(m, lr, s),
        "size not transposed": lambda m, lr, s: self_ensemble(m, lr, s[::-1]),
    },
}


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_passes(name, capsys):
    reference = EXERCISES[name].reference
    assert check(name, reference) is reference
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
