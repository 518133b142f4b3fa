"""Training samples: pure, complete, and true to their pictures."""

import os

import numpy as np
import pytest
import torch
from helpers import SHARED, needs_shared, picture
from PIL import Image
from torch.utils.data import DataLoader

import asr_course.data
from asr_course.coords import make_coord, round_half_up
from asr_course.data import (
    Folder,
    Patches,
    Procedural,
    Recipe,
    dead_leaves,
    draw_queries,
    random_crop,
)
from asr_course.errors import UserError
from asr_course.images import resize

RECIPE = Recipe(batch=3, patch=8, queries=40)


def gradient(rows: int = 90, cols: int = 110) -> np.ndarray:
    """A picture whose red is the row and whose green is the column."""
    r, c = np.mgrid[:rows, :cols]
    return np.stack([r, c, np.full_like(r, 7)], axis=-1).astype(np.uint8)


@pytest.fixture
def images():
    return [picture(60, 50, seed) for seed in range(4)]


def patches(images, recipe=RECIPE, seed=0, length=100) -> Patches:
    return Patches(images, recipe, seed, length)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# Purity


def test_sample_is_a_function_of_seed_and_index(images):
    """Two fresh data sets, asked in different orders, give equal bits."""
    forwards, backwards = patches(images, length=20), patches(images, length=500)
    order = [13, 0, 19, 7, 7, 1, 12, 3]
    first = {index: forwards[index] for index in order}
    for index in sorted(set(order), reverse=True):
        assert same(first[index], backwards[index]), index


def test_workers_and_batches_change_nothing(images):
    """What a DataLoader gives is what the data set gives, sample by sample."""
    samples = patches(images, length=9)
    for workers in (0, 2):
        batches = list(DataLoader(samples, batch_size=3, num_workers=workers))
        assert len(batches) == 3
        for index in range(9):
            batch = batches[index // 3]
            assert same([part[index % 3] for part in batch], samples[index])


def test_samples_and_seeds_differ(images):
    samples, others = patches(images), patches(images, seed=1)
    assert not torch.equal(samples[0].lr, samples[1].lr)
    sizes = [[s.queries_of_batch(b)[0] for b in range(10)] for s in (samples, others)]
    assert sizes[0] != sizes[1]
    assert not torch.equal(samples[0].lr, others[0].lr)


def test_samples_of_a_batch_share_all_but_the_picture(images):
    samples = patches(images)
    for batch in range(8):
        first, *rest = [samples[3 * batch + k] for k in range(3)]
        for sample in rest:
            assert torch.equal(sample.coord, first.coord)
            assert torch.equal(sample.cell, first.cell)
            assert sample.target.shape == first.target.shape
            assert not torch.equal(sample.target, first.target)


def test_batches_differ_in_scale_and_queries(images):
    samples = patches(images)
    cells = {samples[3 * batch].cell[0].item() for batch in range(30)}
    assert len(cells) > 10
    assert len(samples) == 100


# Scales


def test_scales_span_the_range():
    """400 draws of U(1, 4): mean 2.5 within three standard errors, both ends met."""
    samples = patches([], Recipe(batch=3, patch=32, queries=1))
    scales = np.array([samples.queries_of_batch(b)[0] / 32 for b in range(400)])
    assert scales.min() < 1.05 and scales.max() > 3.95
    assert scales.min() >= 1 and scales.max() <= 4
    assert scales.mean() == pytest.approx(2.5, abs=3 * 3 / np.sqrt(12 * 400))
    assert scales.std() == pytest.approx(3 / np.sqrt(12), rel=0.1)


@pytest.mark.parametrize("scale", [1, 2, 2.5, 3])
def test_single_scale_training(images, scale):
    recipe = Recipe(batch=3, patch=8, queries=40, scale_min=scale, scale_max=scale)
    for index in range(6):
        cell = patches(images, recipe)[index].cell
        assert cell.tolist() == pytest.approx([2 / (8 * scale)] * 2)


# Queries


@pytest.mark.parametrize("queries", [1, 7, 40, 200, 10**6])
@pytest.mark.parametrize("cells, size", [(6, 6), (6, 9), (6, 12), (5, 13), (6, 15)])
def test_queries_are_whole_cells(cells, size, queries):
    """Counted by brute force, in integers; no cell more than needed is drawn."""
    coord, pixels = draw_queries(cells, size, queries, np.random.default_rng(1))
    owner_of_line = [(2 * i + 1) * cells // (2 * size) for i in range(size)]
    owner = {
        i * size + j: (owner_of_line[i], owner_of_line[j])
        for i in range(size)
        for j in range(size)
    }
    drawn = [owner[p] for p in pixels.tolist()]
    cells_in_order = list(dict.fromkeys(drawn))
    expected = []
    for cell in cells_in_order:  # its pixels stand together, in raster order
        expected += [p for p in owner if owner[p] == cell]
    assert pixels.tolist() == expected
    last = sum(cell == cells_in_order[-1] for cell in drawn)
    assert len(drawn) - last < queries
    assert len(drawn) >= min(queries, size * size)
    raster = make_coord((size, size)).view(-1, 2)
    torch.testing.assert_close(coord, raster[pixels], rtol=0, atol=1e-6)


def test_cells_are_drawn_evenly():
    """Each of 16 cells comes first about once in 16 draws."""
    firsts = [
        draw_queries(4, 8, 1, np.random.default_rng(seed))[1][0] for seed in range(1600)
    ]
    counts = np.unique(firsts, return_counts=True)[1]
    assert len(counts) == 16
    assert counts.min() > 60 and counts.max() < 150  # 100 expected, sigma 10


# Targets


def pixel_of(coord: torch.Tensor, size: int) -> np.ndarray:
    """(Q, 1, 2) to the (row, col) of the pixels that are named: (Q, 2)."""
    position = ((coord[:, 0].double() + 1) / 2 * size - 0.5).numpy()
    assert np.abs(position - position.round()).max() < 1e-4
    return position.round().astype(int)


def test_target_is_the_pixel_that_coord_names(monkeypatch):
    """Without flips, the colour of a pixel of this picture is its place."""
    monkeypatch.setattr(
        asr_course.data, "random_crop", lambda image, size, rng: image[:size, :size]
    )
    samples = patches([gradient()])
    sizes = set()
    for index in range(0, 60, 3):
        sample = samples[index]
        size = round(2 / sample.cell[0].item())
        sizes.add(size)
        target = (sample.target * 255).round().int()[:, :, 0].T.numpy()
        assert np.array_equal(target[:, :2], pixel_of(sample.coord, size))
        assert (target[:, 2] == 7).all()
        expected = resize(np.ascontiguousarray(gradient()[:size, :size]), (8, 8))
        assert np.array_equal((sample.lr * 255).round().movedim(0, -1), expected)
    assert len(sizes) > 5 and min(sizes) >= 8 and max(sizes) <= 32


def test_target_and_input_are_flipped_together(images):
    """At scale 1 the input is the crop itself: targets must be its pixels."""
    recipe = Recipe(batch=3, patch=8, queries=40, scale_min=1, scale_max=1)
    for index in range(40):
        sample = patches(images, recipe)[index]
        rows, cols = pixel_of(sample.coord, 8).T
        assert torch.equal(sample.target[:, :, 0], sample.lr[:, rows, cols])


def test_crops_are_places_of_the_picture_in_eight_positions():
    """Each flip and the transposition about half the time, all places possible."""
    rng, image, size = np.random.default_rng(0), gradient(30, 40), 12
    flips, corners = [], set()
    for _ in range(800):
        crop = random_crop(image, size, rng).astype(int)
        transposed = crop[0, 0, 0] == crop[0, 1, 0]  # rows run along the first axis?
        down = crop if transposed else crop.swapaxes(0, 1)
        rows, cols = down[:, 0, 0], down[0, :, 1]
        flips.append((not transposed, rows[0] > rows[1], cols[0] > cols[1]))
        corners.add((rows.min(), cols.min()))
        straight = image[rows.min() : rows.min() + size, cols.min() : cols.min() + size]
        straight = straight[:: -1 if flips[-1][1] else 1, :: -1 if flips[-1][2] else 1]
        assert np.array_equal(down, straight)
    assert len(set(flips)) == 8
    assert np.abs(np.mean(flips, axis=0) - 0.5).max() < 0.06
    rows, cols = zip(*corners, strict=True)
    assert (min(rows), max(rows)) == (0, 30 - size)
    assert (min(cols), max(cols)) == (0, 40 - size)


def test_largest_crop_may_be_the_whole_picture():
    recipe = Recipe(batch=1, patch=8, queries=1, scale_min=4, scale_max=4)
    sample = patches([gradient(32, 32)], recipe)[0]
    assert sample.cell.tolist() == pytest.approx([2 / 32] * 2)


# Folders


@pytest.fixture
def folder(tmp_path):
    for name, rows, cols in [("a", 40, 60), ("b", 20, 90), ("c", 50, 40), ("d", 9, 9)]:
        Image.fromarray(picture(rows, cols)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_folder_gives_its_pictures_by_name(folder):
    images = Folder(folder)
    assert len(images) == 4 and images.left_out == 0
    assert [image.shape for image in images] == [
        (40, 60, 3),
        (20, 90, 3),
        (50, 40, 3),
        (9, 9, 3),
    ]
    assert np.array_equal(images[2], picture(50, 40))


@pytest.mark.parametrize(
    "smallest, names", [(9, "abcd"), (10, "abc"), (21, "ac"), (40, "ac")]
)
def test_folder_leaves_out_small_pictures(folder, smallest, names):
    images = Folder(folder, smallest)
    assert [path.stem for path in images.paths] == list(names)
    assert images.left_out == 4 - len(names)


def test_folder_without_a_large_picture(folder):
    with pytest.raises(UserError, match="at least 41 rows.*its 4 pictures has 40"):
        Folder(folder, 41)


def test_folder_turns_grey_and_transparent_into_rgb(tmp_path):
    pixels = picture(9, 9)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    image = Image.fromarray(pixels)
    image.putalpha(50)
    image.save(tmp_path / "see-through.png")
    grey, colour = Folder(tmp_path)
    assert np.array_equal(grey, np.repeat(pixels[..., :1], 3, axis=2))
    assert np.array_equal(colour, pixels)


def test_folder_counts_rows_as_they_are_shown(tmp_path):
    """A camera that was turned: 30 x 8 stored, 8 x 30 seen."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(30, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert Folder(tmp_path)[0].shape == (8, 30, 3)


@pytest.mark.parametrize(
    "cache, kept", [(0, 0), (7199, 1), (7200, 1), (12_600, 2), (10**9, 3)]
)
def test_cache_keeps_within_its_limit(folder, monkeypatch, cache, kept):
    """Three pictures of 7200, 5400 and 6000 bytes, each asked for twice."""
    os.remove(folder / "d.png")
    opened = []
    images = Folder(folder, cache=cache)
    reading = asr_course.data.to_rgb
    monkeypatch.setattr(
        asr_course.data, "to_rgb", lambda image: (opened.append(1), reading(image))[1]
    )
    for _ in range(2):
        for index in range(3):
            assert images[index].size == [7200, 5400, 6000][index]
    assert len(opened) == 6 - kept


@needs_shared
def test_training_folder_is_whole():
    """BSD400 as training sees it: 399 pictures, none too small for x4 of 48."""
    images = Folder(SHARED / "train_bsd400", smallest=192)
    assert (len(images), images.left_out) == (399, 0)
    sample = Patches(images, Recipe(), 0, 1)[0]
    assert 2304 <= sample.coord.shape[0] < 2304 + 16


# Generated pictures


def test_dead_leaves_are_pure():
    first = dead_leaves(3, 5, 64)
    np.testing.assert_array_equal(dead_leaves(3, 5, 64), first, strict=True)
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8


def test_dead_leaves_differ_and_are_not_constant():
    pictures = [dead_leaves(*key, 64) for key in [(0, 0), (0, 1), (1, 0)]]
    for k, pixels in enumerate(pictures):
        assert pixels.std() > 15
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500
        assert np.abs(pixels.astype(int) - pictures[k - 1]).mean() > 15


def test_dead_leaves_have_edges_and_flat_parts():
    """Most neighbours are nearly equal and a few are far apart, as in photographs."""
    pixels = dead_leaves(0, 0).astype(int)
    step = np.abs(np.diff(pixels, axis=1)).max(axis=2)
    assert np.median(step) <= 3
    assert 0.01 < (step > 25).mean() < 0.4


def test_procedural_is_a_sequence_of_dead_leaves():
    images = Procedural(count=3, seed=4, size=32)
    assert len(images) == 3
    assert np.array_equal(images[2], dead_leaves(4, 2, 32))
    assert len(list(images)) == 3
    with pytest.raises(IndexError):
        images[3]
    assert images[1] is images[1]  # drawn once


def test_recipe_is_the_papers():
    """48 x 48 patches, batch 16, 48^2 queries, scales 1 to 4."""
    recipe = Recipe()
    assert (recipe.batch, recipe.patch, recipe.queries) == (16, 48, 48 * 48)
    assert (recipe.scale_min, recipe.scale_max) == (1, 4)
    assert round_half_up(recipe.patch * recipe.scale_max) == 192
