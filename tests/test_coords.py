"""Coordinates, positions and neighbours against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import golden, golden_tensor

from asr_course.coords import (
    cells_to_pixels,
    make_cell,
    make_coord,
    make_grid,
    nearest,
    neighbours,
    output_size,
    pixel_centres,
    round_half_up,
    split_axes,
    to_position,
)

FLOATS = [torch.float32, torch.float64]


def exact_position(i: int, pixels: int, n: int) -> Fraction:
    """Where the centre of pixel i of `pixels` lies, in pixels of an axis of n."""
    return Fraction((2 * i + 1) * n, 2 * pixels) - Fraction(1, 2)


def exact_positions(pixels: int, n: int) -> np.ndarray:
    """The same for all pixels, rounded once to float64."""
    return np.array([float(exact_position(i, pixels, n)) for i in range(pixels)])


def positions(pixels: int, n: int, dtype=torch.float32) -> torch.Tensor:
    """The same as the package computes it."""
    return to_position(pixel_centres(pixels, dtype), n)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (48, 48)])
def test_make_coord_equals_the_official_one(size):
    expected = golden_tensor("metrics_coords", f"make_coord_{size[0]}x{size[1]}")
    torch.testing.assert_close(
        make_coord(size), expected.view(*size, 2), rtol=0, atol=1e-6
    )


def test_to_pixel_samples_golden_is_raster_order():
    """The first 50 rows of the official sampler are our grid, row by row."""
    expected = golden_tensor("metrics_coords", "to_pixel_coord")
    ours = make_coord((40, 44)).view(-1, 2)[:50]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    colours = golden("metrics_coords")["psnr_hr"][0].reshape(3, -1).T[:50]
    np.testing.assert_array_equal(
        colours, golden("metrics_coords")["to_pixel_rgb"], strict=True
    )


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 513])
def test_pixel_centres_are_exact(n):
    exact = [float(Fraction(2 * i + 1, n) - 1) for i in range(n)]
    double = pixel_centres(n, torch.float64).tolist()
    assert double == pytest.approx(exact, rel=0, abs=1e-15)
    assert pixel_centres(n).tolist() == np.float32(double).tolist()


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (17, 22)])
def test_cell_is_the_distance_of_two_centres(size):
    assert make_cell(size).tolist() == pytest.approx([2 / n for n in size], abs=1e-7)
    if min(size) > 1:
        coord = make_coord(size)
        step = coord[1, 1] - coord[0, 0]
        assert step.tolist() == pytest.approx(make_cell(size).tolist(), abs=1e-6)


def test_official_cells_are_ours():
    grid = golden("liif")["in/cellA"][0, 0]
    assert make_cell((17, 22)).tolist() == pytest.approx(grid.tolist(), abs=1e-7)


def test_make_grid_puts_rows_first():
    grid = make_grid(torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0, 7.0]))
    assert grid[1, 2].tolist() == [2, 7]
    assert grid[0, 1].tolist() == [1, 6]


@pytest.mark.parametrize("n, pixels", [(1, 1), (5, 17), (40, 120), (500, 1500)])
def test_to_position_is_exact(n, pixels):
    exact = exact_positions(pixels, n)
    double = positions(pixels, n, torch.float64).numpy()
    np.testing.assert_allclose(double, exact, rtol=0, atol=1e-12)
    single = positions(pixels, n).numpy()
    np.testing.assert_allclose(single, exact, rtol=0, atol=3e-7 * (n + 1))


def test_position_of_borders_and_centres():
    border = to_position(torch.tensor([-1.0, 1.0]), 8)
    assert border.tolist() == [-0.5, 7.5]
    centres = to_position(pixel_centres(8, torch.float64), 8)
    assert centres.tolist() == list(range(8))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [1.5, 2.5, 3.5, 3, 3.7])
def test_nearest_is_the_cell_that_holds_the_centre(scale, dtype):
    """Ties go up, at every size to 500; integers make the reference exact."""
    ties = 0
    for n in range(1, 501):
        pixels = round_half_up(scale * n)
        doubled = (2 * np.arange(pixels) + 1) * n  # place times 2 * pixels, an integer
        expected, rest = np.divmod(doubled, 2 * pixels)
        ties += (rest[1:] == 0).sum()
        found = nearest(positions(pixels, n, dtype), n).numpy()
        np.testing.assert_array_equal(found, expected, err_msg=f"{n} to {pixels}")
    assert (ties > 10_000) == (scale in (1.5, 2.5, 3.5))


def test_nearest_agrees_with_fractions():
    """The integer reference above, once more in words: floor(position + 1/2)."""
    for n, pixels in [(6, 15), (16, 40), (9, 31), (5, 5), (50, 125)]:
        expected = [
            int((exact_position(i, pixels, n) + Fraction(1, 2)).__floor__())
            for i in range(pixels)
        ]
        assert nearest(positions(pixels, n), n).tolist() == expected


def test_nearest_stays_inside():
    outside = torch.tensor([-0.5, -0.7, 7.49, 7.5, 9.0])
    assert nearest(outside, 8).tolist() == [0, 0, 7, 7, 7]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n, pixels", [(1, 5), (7, 17), (16, 40), (41, 123), (20, 166)])
def test_weights_are_convex(n, pixels, dtype):
    (_, _, low), (_, _, high) = neighbours(positions(pixels, n, dtype), n)
    torch.testing.assert_close(low + high, torch.ones_like(low))
    assert low.min() >= 0 and high.min() >= 0
    assert low.max() <= 1 and high.max() <= 1


@pytest.mark.parametrize("n, pixels", [(7, 17), (16, 40), (41, 123), (20, 166)])
def test_neighbours_reproduce_a_ramp_inside(n, pixels):
    position = positions(pixels, n, torch.float64)
    ramp = sum(index * weight for index, _, weight in neighbours(position, n))
    expected = position.clamp(0, n - 1)  # beyond the outermost centres it is constant
    torch.testing.assert_close(ramp, expected, rtol=0, atol=1e-12)


def test_offset_leads_from_the_pixel_to_the_query():
    position = positions(123, 41, torch.float64)
    for index, offset, _ in neighbours(position, 41):
        torch.testing.assert_close(index + offset, position, rtol=0, atol=1e-12)


def test_both_neighbours_beyond_the_border_are_the_border():
    below, above = neighbours(torch.tensor([-0.4, 7.4]), 8)
    assert below[0].tolist() == [0, 7]
    assert above[0].tolist() == [0, 7]
    assert below[1].tolist() == pytest.approx([-0.4, 0.4], abs=1e-6)
    assert above[1].tolist() == pytest.approx([-0.4, 0.4], abs=1e-6)
    # The weights still say how far the query is from where the neighbours would be.
    assert below[2].tolist() == pytest.approx([0.4, 0.6], abs=1e-6)
    assert above[2].tolist() == pytest.approx([0.6, 0.4], abs=1e-6)


def brute_interpolation(values: np.ndarray, pixels: int) -> np.ndarray:
    """Linear interpolation of `values` at the centres of `pixels`, with fractions."""
    n, out = len(values), []
    for i in range(pixels):
        position = exact_position(i, pixels, n)
        low = position.__floor__()
        share = float(position - low)
        a, b = (values[min(max(k, 0), n - 1)] for k in (low, low + 1))
        out.append(a * (1 - share) + b * share)
    return np.array(out)


@pytest.mark.parametrize(
    "n, pixels",
    [(17, 51), (40, 120), (64, 192), (500, 1500), (500, 1000), (48, 120), (333, 1232)],
)
def test_interpolation_equals_brute_force(n, pixels):
    """At x3 every third query falls on a centre; rounding must not lose it."""
    values = np.random.default_rng(n).normal(size=n)
    expected = brute_interpolation(values, pixels)
    for dtype, atol in ((torch.float64, 1e-10), (torch.float32, 3e-6 * n)):
        found = sum(
            torch.tensor(values, dtype=dtype)[index] * weight
            for index, _, weight in neighbours(positions(pixels, n, dtype), n)
        )
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("n", [40, 128, 500])
def test_query_on_a_centre_hears_that_pixel_alone(n):
    """x3: pixel 3i + 1 lies on centre i, whichever side float32 puts it."""
    position = positions(3 * n, n)[1::3]
    share = sum(
        torch.where(index == torch.arange(n), weight, 0)
        for index, _, weight in neighbours(position, n)
    )
    assert share.min() > 1 - 1e-6 * n
    for index, offset, weight in neighbours(position, n):
        on_centre = index == torch.arange(n)
        assert offset[on_centre].abs().max() < 1e-6 * n
        others = weight[~on_centre]
        assert others.numel() == 0 or others.max() < 1e-6 * n


def test_cells_to_pixels_equals_brute_force():
    for n in [1, 2, 3, 5, 8, 13]:
        for pixels in [n, n + 1, 2 * n, 5 * n // 2, 3 * n, 7 * n + 3]:
            for cell in range(n + 1):
                border = Fraction(cell, n)
                inside = [
                    i
                    for i in range(pixels)
                    if Fraction(2 * i + 1, 2 * pixels) >= border
                ]
                expected = inside[0] if inside else pixels
                assert cells_to_pixels(cell, n, pixels) == expected, (n, pixels, cell)


@pytest.mark.parametrize("scale", [1, 2, 2.5, 3, 3.7, 8.3])
def test_cells_to_pixels_agrees_with_nearest(scale):
    n = 50
    pixels = round_half_up(n * scale)
    owner = nearest(positions(pixels, n, torch.float64), n).numpy()
    first = [cells_to_pixels(cell, n, pixels) for cell in range(n + 1)]
    assert first == [int((owner < cell).sum()) for cell in range(n + 1)]


def test_split_axes_of_a_grid_keeps_one_line_of_each():
    coord = torch.stack([make_coord((5, 7)), make_coord((5, 7)) * 0.5])
    rows, cols = split_axes(coord)
    assert rows.shape == (2, 5, 1) and cols.shape == (2, 1, 7)
    both = torch.stack(torch.broadcast_tensors(rows, cols), dim=-1)
    assert torch.equal(both, coord)


@pytest.mark.parametrize("moved", [0, 1])
def test_split_axes_keeps_a_grid_with_one_moved_point_whole(moved):
    coord = make_coord((5, 7))[None].clone()
    coord[0, 3, 4, moved] += 0.01
    rows, cols = split_axes(coord)
    assert torch.equal(rows, coord[..., 0])
    assert torch.equal(cols, coord[..., 1])


@pytest.mark.parametrize("shape", [(9, 1), (1, 9), (1, 1), (3, 3)])
def test_split_axes_of_scattered_points(shape):
    coord = torch.rand(2, *shape, 2) * 2 - 1
    rows, cols = split_axes(coord)
    both = torch.stack(torch.broadcast_tensors(rows, cols), dim=-1)
    assert torch.equal(both, coord)


@pytest.mark.parametrize(
    "x, expected",
    [(0.5, 1), (1.5, 2), (2.5, 3), (2.49999, 2), (-0.5, 0), (-1.5, -1), (7, 7)],
)
def test_round_half_up(x, expected):
    assert round_half_up(x) == expected


@pytest.mark.parametrize(
    "size, scale, expected",
    [
        ((5, 7), 2.5, (13, 18)),
        ((12, 17), 3.7, (44, 63)),
        ((3, 5), 1, (3, 5)),
        ((1, 1), 30, (30, 30)),
        ((2, 4), 1.25, (3, 5)),
    ],
)
def test_output_size_rounds_halves_up(size, scale, expected):
    assert output_size(size, scale) == expected
