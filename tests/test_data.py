"""Training samples: pure, complete, and true to their pictures."""

import os

import numpy as np
import pytest
import torch
from helpers import SHARED, needs_shared, picture
from PIL import Image
from torch.utils.data import DataLoader

import asr_course.data
from asr_course.digits import Characters
from asr_course.coords import make_cell, make_coord, round_half_up
from asr_course.data import (
    Folder,
    PairRecipe,
    Pairs,
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


# Pairs of whole pictures

PAIR = PairRecipe(batch=3, patch=6, scale_max=4, noise=0)


def pairs(images, recipe=PAIR, seed=0, length=30) -> Pairs:
    return Pairs(images, recipe, seed, length)


def test_pair_is_a_function_of_seed_and_index(images):
    forwards, backwards = pairs(images), pairs(images)
    order = [13, 0, 29, 7, 7, 28, 12, 3]
    first = {index: forwards[index] for index in order}
    for index in sorted(set(order), reverse=True):
        assert same(first[index], backwards[index]), index
    assert not torch.equal(first[0].noise, first[3].noise)
    assert not torch.equal(first[0].lr, pairs(images, seed=1)[0].lr)


def test_two_stages_and_one_size_for_a_batch(images):
    """Twenty samples of thirty are of the first stage; a batch is of one stage."""
    samples = pairs(images)
    sides = [samples[index].target.shape[1] for index in range(30)]
    batches = [set(sides[k : k + 3]) for k in range(0, 30, 3)]
    assert all(len(batch) == 1 for batch in batches)
    assert sides[:21] == [24] * 21
    assert len(set(sides[21:])) > 1


def test_a_pair_s_parts_fit_together(images):
    for index in (0, 27):
        pair = pairs(images)[index]
        side = pair.target.shape[-1]
        assert pair.target.shape == pair.noise.shape == (3, side, side)
        assert pair.lr.shape == (3, 6, 6)
        assert torch.equal(pair.coord, make_coord((side, side)))
        assert torch.equal(pair.cell, make_cell((side, side)))
        assert pair.target.min() >= 0 and pair.target.max() <= 1


def sizes(recipe: PairRecipe, batches: int, length: int) -> np.ndarray:
    """Rows and columns of some batches: (batches, 2)."""
    samples = pairs([], recipe, length=length)
    return np.array([samples.size_of_batch(b) for b in range(batches)])


def test_scales_of_the_second_stage_span_their_range():
    """400 draws of U(1, 4): mean 2.5 within three standard errors, both ends met."""
    found = sizes(PairRecipe(batch=1, patch=64, scale_max=4, fixed=0), 400, 400)
    assert np.array_equal(found[:, 0], found[:, 1])
    scales = found[:, 0] / 64
    assert 1 <= scales.min() < 1.05 and 3.95 < scales.max() <= 4
    assert scales.mean() == pytest.approx(2.5, abs=3 * 3 / np.sqrt(12 * 400))
    assert scales.std() == pytest.approx(3 / np.sqrt(12), rel=0.1)


@pytest.mark.parametrize("stretch", [1, 2])
@pytest.mark.parametrize("fixed, large", [(0, 0), (0.5, 5), (0.51, 6), (1, 10)])
def test_the_first_stage_s_share(fixed, large, stretch):
    recipe = PairRecipe(3, patch=64, scale_max=4, fixed=fixed, stretch=stretch)
    found = sizes(recipe, 10, 30)
    assert (found[:large] == 256).all()
    assert (found[large:].prod(axis=1) < 256**2).all()


def test_every_other_batch_has_an_aspect_of_its_own_and_as_many_pixels():
    """Evenly spread between 1 to 3 and 3 to 1, on a scale of ratios."""
    recipe = PairRecipe(batch=1, patch=64, scale_max=4, fixed=0, stretch=3)
    found = sizes(recipe, 400, 400)
    plain = sizes(PairRecipe(batch=1, patch=64, scale_max=4, fixed=0), 400, 400)
    assert np.array_equal(found[::2], plain[::2])
    odd = found[1::2]
    np.testing.assert_allclose(odd.prod(axis=1), plain[1::2].prod(axis=1), rtol=0.03)
    aspect = np.log(odd[:, 0] / odd[:, 1]) / np.log(3)
    assert -1.02 < aspect.min() < -0.9 and 0.9 < aspect.max() < 1.02
    assert abs(aspect.mean()) < 3 / np.sqrt(3 * 200)
    assert aspect.std() == pytest.approx(1 / np.sqrt(3), rel=0.15)


def test_a_stretched_pair_shows_all_of_the_picture():
    recipe = PairRecipe(batch=1, patch=6, scale_max=4, fixed=0, stretch=2)
    digits = Characters(1, seed=3)
    shapes = set()
    for index in range(12):
        pair = pairs(digits, recipe, length=12)[index]
        shapes.add(size := tuple(pair.target.shape[1:]))
        found = (pair.target * 255).round().movedim(0, -1)
        assert np.array_equal(found, resize(digits[0], size))
        assert pair.noise.shape == pair.target.shape
        assert torch.equal(pair.coord, make_coord(size))
        assert torch.equal(pair.cell, make_cell(size))
    assert any(rows > cols for rows, cols in shapes)
    assert any(rows < cols for rows, cols in shapes)


def test_crops_of_photographs_are_turned_and_shrunk_together(images):
    """Where nothing is enlarged, a target is its own small version."""
    recipe = PairRecipe(batch=3, patch=12, scale_max=1)
    turned = 0
    for index in range(20):
        pair = pairs(images, recipe)[index]
        assert torch.equal(pair.lr, pair.target)
    image = gradient(12, 12)
    for index in range(20):
        target = (pairs([image], recipe)[index].target * 255).round().movedim(0, -1)
        turned += not np.array_equal(target, image)
    assert 12 < turned <= 20  # seven in eight


def test_small_and_large_versions_are_of_one_crop(monkeypatch, images):
    crops = []

    def watched(image, size, rng):
        crops.append(random_crop(image, size, rng))
        return crops[-1]

    monkeypatch.setattr(asr_course.data, "random_crop", watched)
    for index in (0, 22, 25, 29):
        pair = pairs(images)[index]
        (crop,) = crops
        assert crop.shape == (24, 24, 3)  # of the largest scale, always
        for part in (pair.lr, pair.target):
            pixels = (part * 255).round().movedim(0, -1).numpy()
            assert np.array_equal(pixels, resize(crop, part.shape[1:]))
        crops.clear()


def test_whole_pictures_are_not_cut_or_turned():
    digits = Characters(1, seed=3)
    for index in (0, 5, 28):
        pair = pairs(digits)[index]
        side = pair.target.shape[-1]
        expected = resize(digits[0], (side, side))
        found = (pair.target * 255).round().movedim(0, -1)
        assert np.array_equal(found, expected)
        small = (pair.lr * 255).round().movedim(0, -1)
        assert np.array_equal(small, resize(digits[0], (6, 6)))


def test_noise_falls_on_the_small_version_alone():
    flat = [np.full((40, 40, 3), 120, np.uint8)]
    recipe = PairRecipe(batch=1, patch=8, scale_max=2, noise=20)
    found = [pairs(flat, recipe)[index] for index in range(30)]
    lr = 255 * torch.stack([pair.lr for pair in found])
    assert lr.std().item() == pytest.approx(20, rel=0.05)
    assert lr.mean().item() == pytest.approx(120, abs=1.5)
    for pair in found:
        assert torch.equal(pair.target, torch.full_like(pair.target, 120 / 255))


def test_chance_for_diffusion_is_white_and_even():
    samples = pairs([np.zeros((24, 24, 3), np.uint8)], length=400)
    noise = torch.stack([samples[k].noise for k in range(60)]).flatten(1)
    assert noise.mean().abs().item() < 0.02
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert (torch.corrcoef(noise) - torch.eye(60)).abs().max() < 0.15
    when = np.array([samples[k].when.item() for k in range(400)])
    assert when.min() >= 0 and when.max() < 1
    for quarter in np.histogram(when, 4, (0, 1))[0]:
        assert 65 < quarter < 135  # 100 expected, sigma 9


def test_recipe_of_pairs_is_the_paper_s():
    """Faces: 16 x 16 to 128 x 128 for two thirds of the steps, 32 at a time."""
    recipe = PairRecipe()
    assert (recipe.batch, recipe.patch, recipe.crop) == (32, 16, 128)
    assert recipe.fixed == pytest.approx(1_000_000 / 1_500_000)


# Folders


@pytest.fixture
def folder(tmp_path):
    for name, rows, cols in [("a", 40, 60), ("b", 20, 90), ("c", 50, 40), ("d", 9, 9)]:
        Image.fromarray(picture(rows, cols)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_of_a_folder_with_hr_in_it_those_are_the_pictures(folder):
    """As data sets to score on are laid out, with LR files beside them or not."""
    (folder / "HR").mkdir()
    Image.fromarray(picture(8, 9)).save(folder / "HR" / "deeper.png")
    images = Folder(folder)
    assert [path.name for path in images.paths] == ["deeper.png"]
    assert images[0].shape == (8, 9, 3)


def test_folder_gives_its_pictures_by_name(folder):
    images = Folder(folder)
    assert len(images) == 4 and images.left_out == {}
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
    assert set(images.left_out) == {f"{x}.png" for x in set("abcd") - set(names)}
    for why in images.left_out.values():
        assert why.endswith(f", smaller than {smallest}")


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
    assert (len(images), images.left_out) == (399, {})
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
