"""Coordinates, positions and latent codes against exact arithmetic.

What holds for every size and scale is in test_properties.py.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import golden, golden_tensor, near

from asr_course.coords import (
    Queries,
    corners,
    make_cell,
    make_coord,
    make_grid,
    nearest,
    nearest_code,
    neighbours,
    pixel_centres,
    round_half_up,
    snap,
    split_axes,
    to_position,
)


def exact_position(i: int, pixels: int, n: int) -> Fraction:
    """Where the centre of pixel i of `pixels` lies, in pixels of an axis of n."""
    return Fraction((2 * i + 1) * n, 2 * pixels) - Fraction(1, 2)


def positions(pixels: int, n: int, dtype=torch.float32) -> torch.Tensor:
    """The same for all pixels, as the package computes it."""
    return to_position(pixel_centres(pixels, dtype), n)


# Centres and cells


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (48, 48)])
def test_make_coord_equals_the_official_one(size):
    expected = golden_tensor("metrics_coords", f"make_coord_{size[0]}x{size[1]}")
    near(make_coord(size), expected.view(*size, 2), 1e-6)


def test_official_samples_are_in_raster_order():
    """The first 50 rows of the official sampler are our grid, row by row."""
    expected = golden_tensor("metrics_coords", "to_pixel_coord")
    near(make_coord((40, 44)).view(-1, 2)[:50], expected, 1e-6)
    colours = golden("metrics_coords")["psnr_hr"][0].reshape(3, -1).T[:50]
    np.testing.assert_array_equal(colours, golden("metrics_coords")["to_pixel_rgb"])


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 513])
def test_pixel_centres_are_exact(n):
    exact = [float(Fraction(2 * i + 1, n) - 1) for i in range(n)]
    double = pixel_centres(n, torch.float64).tolist()
    assert double == pytest.approx(exact, rel=0, abs=1e-15)
    assert pixel_centres(n).tolist() == np.float32(double).tolist()


def test_cells_are_the_official_ones_and_the_distance_of_two_centres():
    official = golden_tensor("liif", "in/cellA")[0, 0]
    near(make_cell((17, 22)), official, 1e-7)
    coord = make_coord((17, 22))
    near(coord[1, 1] - coord[0, 0], official, 1e-6)


def test_make_grid_puts_rows_first():
    grid = make_grid(torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0, 7.0]))
    assert grid.shape == (2, 3, 2)
    assert grid[1, 2].tolist() == [2, 7]
    assert grid[0, 1].tolist() == [1, 6]


# Positions


@pytest.mark.parametrize("n, pixels", [(1, 1), (5, 17), (40, 120), (500, 1500)])
def test_to_position_is_exact(n, pixels):
    exact = [float(exact_position(i, pixels, n)) for i in range(pixels)]
    double = positions(pixels, n, torch.float64).numpy()
    np.testing.assert_allclose(double, exact, rtol=0, atol=1e-12)
    single = positions(pixels, n).numpy()
    np.testing.assert_allclose(single, exact, rtol=0, atol=3e-7 * (n + 1))


def test_position_of_borders():
    assert to_position(torch.tensor([-1.0, 1.0]), 8).tolist() == [-0.5, 7.5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
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


def test_nearest_stays_inside():
    outside = torch.tensor([-0.5, -0.7, 7.49, 7.5, 9.0])
    assert nearest(outside, 8).tolist() == [0, 0, 7, 7, 7]


def test_snap_moves_only_what_rounding_moved():
    position = torch.tensor([2.99995, 3.00005, -0.00005, 2.9998, 3.0002, 0.5])
    expected = torch.tensor([3, 3, 0, 2.9998, 3.0002, 0.5])
    assert torch.equal(snap(position), expected)


# Neighbours


def test_both_neighbours_beyond_the_border_are_the_border():
    """The weights still say how far the query is from where they would be."""
    below, above = neighbours(torch.tensor([-0.4, 7.4]), 8)
    assert below[0].tolist() == above[0].tolist() == [0, 7]
    for pair, weight in ((below, [0.4, 0.6]), (above, [0.6, 0.4])):
        near(pair[1], torch.tensor([-0.4, 0.4]), 1e-6)
        near(pair[2], torch.tensor(weight), 1e-6)


def brute_interpolation(values: np.ndarray, pixels: int) -> np.ndarray:
    """Linear interpolation of `values` at the centres of `pixels`, with fractions."""
    n, interpolated = len(values), []
    for i in range(pixels):
        position = exact_position(i, pixels, n)
        low = position.__floor__()
        weight = float(position - low)
        a, b = (values[min(max(k, 0), n - 1)] for k in (low, low + 1))
        interpolated.append(a * (1 - weight) + b * weight)
    return np.array(interpolated)


@pytest.mark.parametrize(
    "n, pixels",
    [(17, 51), (40, 120), (64, 192), (500, 1500), (500, 1000), (48, 120), (333, 1232)],
)
def test_interpolation_equals_brute_force(n, pixels):
    """At x3 every third query falls on a centre; rounding must not lose it."""
    values = np.random.default_rng(n).normal(size=n)
    expected = brute_interpolation(values, pixels)
    for dtype, atol in ((torch.float64, 1e-10), (torch.float32, 3e-6 * n)):
        pair = neighbours(positions(pixels, n, dtype), n)
        found = sum(
            torch.tensor(values, dtype=dtype)[index] * weight
            for index, _, weight in pair
        )
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=atol)
        for index, offset, _ in pair:
            near(index + offset, positions(pixels, n, dtype), 1e-7 * n)


# Queries and codes


def test_axes_of_a_grid_are_one_line_each():
    coord = torch.stack([make_coord((5, 7)), make_coord((5, 7)) * 0.5])
    queries = split_axes(coord)
    assert queries.rows.shape == (2, 5, 1) and queries.cols.shape == (2, 1, 7)
    assert queries.shape == (2, 5, 7)
    assert torch.equal(queries.grid(), coord)
    assert split_axes(queries) is queries


@pytest.mark.parametrize("moved", [0, 1])
def test_a_grid_with_one_moved_point_is_kept_whole(moved):
    coord = make_coord((5, 7))[None].clone()
    coord[0, 3, 4, moved] += 0.01
    assert torch.equal(split_axes(coord).rows, coord[..., 0])
    assert torch.equal(split_axes(coord).cols, coord[..., 1])


def test_codes_by_hand():
    """A query at row 0.75 and column 1.5 of 3 x 4 latent codes."""
    queries = Queries(torch.tensor([[[-1 / 6]]]), torch.tensor([[[0.0]]]))
    codes = [[float(x) for x in code] for code in corners(queries, (3, 4))]
    expected = [
        [0, 1, 0.75, 0.5, 0.125],
        [0, 2, 0.75, -0.5, 0.125],
        [1, 1, -0.25, 0.5, 0.375],
        [1, 2, -0.25, -0.5, 0.375],
    ]
    np.testing.assert_allclose(codes, expected, rtol=0, atol=1e-6)
    code = [float(x) for x in nearest_code(queries, (3, 4))]
    np.testing.assert_allclose(code, [1, 2, -0.25, -0.5, 1], rtol=0, atol=1e-6)
