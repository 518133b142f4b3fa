"""Training samples: pure, complete, and true to their pictures."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import picture
from PIL import Image
from torch.utils.data import DataLoader

import asr_course.data
from asr_course.coords import make_cell, make_coord
from asr_course.data import Folder, PairRecipe, Recipe, Samples, queries_of_batch
from asr_course.digits import Characters
from asr_course.errors import UserError
from asr_course.images import resize
from asr_course.procedural import Procedural, dead_leaves
from asr_course.sampling import degrade, draw_queries, random_crop

RECIPE = Recipe(batch=3, patch=8, queries=40)


def gradient(rows: int = 90, cols: int = 110) -> np.ndarray:
    """A picture whose red is the row and whose green is the column."""
    r, c = np.mgrid[:rows, :cols]
    return np.stack([r, c, np.full_like(r, 7)], axis=-1).astype(np.uint8)


@pytest.fixture
def images():
    return [picture(60, 50, seed) for seed in range(4)]


def patches(images, recipe=RECIPE, length=100) -> Samples:
    return Samples(images, recipe, 0, length)


# Purity


class Whole(list):
    whole = True  # not cropped


NOISE = Whole(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8))
PINNED = {
    "one scale a batch": (Recipe(4, 8, 40), list(NOISE)),
    "some scales": (Recipe(4, 8, 40, scales=(1.5, 2, 4)), list(NOISE)),
    "mixed scales": (Recipe(6, 8, 40, scales=(2, 3, 4), mixed=True), list(NOISE)),
    "crops of one size": (Recipe(4, 8, 40, hr=24), list(NOISE)),
    "pairs": (PairRecipe(3, 6, 4.0, noise=9), list(NOISE)),
    "upright pairs": (PairRecipe(3, 6, 4.0, upright=True), list(NOISE)),
    "whole images": (PairRecipe(3, 6, 4.0, 20, 0.3, stretch=2), NOISE),
}
CHECKSUMS = {
    "one scale a batch": [
        [146.7749, 34.99617, 0.2068966, 101.873],
        [147.0901, 32.87514, 0.2222222, 111.2562],
        [146.3482, -25.10069, 0.2307692, 88.28914],
    ],
    "some scales": [
        [146.0727, 25.72105, 0.1875, 111.7814],
        [146.8467, 33.59474, 0.1875, 108.0484],
        [147.3111, -62.32105, 0.1875, 112.4684],
    ],
    "mixed scales": [
        [145.7069, -9.310126, 0.375, 91.80267],
        [148.1384, 11.99367, 0.375, 95.36435],
        [147.3111, 15.7, 0.1875, 100.6117],
    ],
    "crops of one size": [
        [112.1532, 46.13095, 0.25, 104.7596],
        [113.0739, 35.45971, 0.25, 115.6135],
        [111.2958, -2.199159, 0.25, 124.2679],
    ],
    "pairs": [
        [80.02753, 84.24612, 0.2727273, 1071.835, -52.61336, 0.5658319],
        [80.78498, 99.91312, 0.25, 1308.573, 24.43419, 0.4180483],
        [82.59377, 99.91312, 0.25, 1297.361, -47.36905, 0.1662951],
    ],
    "upright pairs": [
        [79.84508, 84.24612, 0.2727273, 1072.718, -11.51328, 0.8563728],
        [81.85641, 99.91312, 0.25, 1308.573, 52.80323, 0.3794691],
        [81.26839, 99.91312, 0.25, 1297.374, 8.121482, 0.6905541],
    ],
    "whole images": [
        [80.24193, 84.24612, 0.2727273, 1084.039, -58.24767, 0.7863384],
        [78.78003, 99.91312, 0.25, 1302.589, 23.30243, 0.5937527],
        [84.39953, 99.91312, 0.25, 1296.4, -43.64404, 0.3729767],
    ],
}


def checksum(sample) -> list[float]:
    """A number that changes if any entry of the sample changes or moves."""
    parts = [part.double().flatten() for part in sample]
    return [float(x @ torch.linspace(1, 2, len(x)).double()) for x in parts]


@pytest.mark.parametrize("name", PINNED)
def test_samples_of_a_seed_are_always_the_same(name):
    """In whatever order they are read. The numbers are of this code's first version."""
    recipe, images = PINNED[name]
    samples, again = (Samples(images, recipe, 5, 40) for _ in range(2))
    found = {index: checksum(samples[index]) for index in (0, 5, 37)}
    for index, expected in zip((37, 0, 5), CHECKSUMS[name], strict=True):
        assert checksum(again[index]) == found[index]
        assert found[index] == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert len(samples) == 40


def test_workers_and_batches_change_nothing(images):
    """What a DataLoader gives is what the data set gives, sample by sample."""
    samples = patches(images, length=9)
    batches = list(DataLoader(samples, batch_size=3, num_workers=2))
    assert len(batches) == 3
    for index in range(9):
        found = [part[index % 3] for part in batches[index // 3]]
        assert all(map(torch.equal, found, samples[index]))


def test_samples_of_a_batch_share_all_but_the_picture(images):
    samples = patches(images)
    for batch in range(8):
        first, *rest = [samples[3 * batch + k] for k in range(3)]
        for sample in rest:
            assert torch.equal(sample.coord, first.coord)
            assert torch.equal(sample.cell, first.cell)
            assert sample.target.shape == first.target.shape
            assert not torch.equal(sample.target, first.target)


# Scales


def test_scales_span_the_range():
    """400 draws of U(1, 4): mean 2.5 within three standard errors, both ends met."""
    recipe = Recipe(batch=3, patch=32, queries=1)
    scales = np.array([queries_of_batch(recipe, 0, b)[0] / 32 for b in range(400)])
    assert scales.min() < 1.05 and scales.max() > 3.95
    assert scales.min() >= 1 and scales.max() <= 4
    assert scales.mean() == pytest.approx(2.5, abs=3 * 3 / np.sqrt(12 * 400))
    assert scales.std() == pytest.approx(3 / np.sqrt(12), rel=0.1)


# Queries


@pytest.mark.parametrize("queries", [1, 7, 40, 200, 10**6])
@pytest.mark.parametrize("cells, size", [(6, 6), (6, 9), (6, 12), (5, 13), (6, 15)])
def test_queries_are_whole_cells(cells, size, queries):
    """Counted by brute force, in integers; no cell more than needed is drawn."""
    coord, pixels = draw_queries(cells, size, queries, np.random.default_rng(1))
    line = [(2 * i + 1) * cells // (2 * size) for i in range(size)]
    owner = [(line[k // size], line[k % size]) for k in range(size * size)]
    drawn = [owner[p] for p in pixels.tolist()]
    cells_in_order = list(dict.fromkeys(drawn))
    expected = []
    for cell in cells_in_order:  # its pixels stand together, in raster order
        expected += [p for p in range(size * size) if owner[p] == cell]
    assert pixels.tolist() == expected
    last = sum(cell == cells_in_order[-1] for cell in drawn)
    assert len(drawn) - last < queries
    assert len(drawn) >= min(queries, size * size)
    raster = make_coord((size, size)).view(-1, 2)
    torch.testing.assert_close(coord, raster[pixels], rtol=0, atol=1e-6)


# Targets


def pixel_of(coord: torch.Tensor, size: int) -> np.ndarray:
    """(Q, 1, 2) to the (row, col) of the pixels that are named: (Q, 2)."""
    position = ((coord[:, 0].double() + 1) / 2 * size - 0.5).numpy()
    assert np.abs(position - position.round()).max() < 1e-4
    return position.round().astype(int)


def test_target_is_the_pixel_that_coord_names(monkeypatch):
    """Without flips, the colour of a pixel of this picture is its place."""
    monkeypatch.setattr(
        asr_course.data, "random_crop", lambda image, size, _: image[:size, :size]
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


# Pairs of whole pictures

PAIR = PairRecipe(batch=3, patch=6, scale_max=4, noise=0)


def pairs(images, recipe=PAIR, length=30) -> Samples:
    return Samples(images, recipe, 0, length)


def sizes(recipe: PairRecipe, batches: int, length: int) -> np.ndarray:
    """Rows and columns of some batches: (batches, 2)."""
    return np.array([recipe.size_of_batch(0, b, length) for b in range(batches)])


@pytest.mark.parametrize("stretch", [1, 2])
@pytest.mark.parametrize("fixed, large", [(0, 0), (0.5, 5), (0.51, 6), (1, 10)])
def test_the_first_stage_s_share(fixed, large, stretch):
    recipe = PairRecipe(3, patch=64, scale_max=4, fixed=fixed, stretch=stretch)
    found = sizes(recipe, 10, 30)
    assert (found[:large] == 256).all()
    assert (found[large:].prod(axis=1) < 256**2).all()


def test_sizes_of_the_second_stage():
    """400 draws of U(1, 4), and aspects evenly spread between 1 to 3 and 3 to 1."""
    plain = sizes(PairRecipe(batch=1, patch=64, scale_max=4, fixed=0), 400, 400)
    assert np.array_equal(plain[:, 0], plain[:, 1])
    scales = plain[:, 0] / 64
    assert 1 <= scales.min() < 1.05 and 3.95 < scales.max() <= 4
    assert scales.mean() == pytest.approx(2.5, abs=3 * 3 / np.sqrt(12 * 400))
    recipe = PairRecipe(batch=1, patch=64, scale_max=4, fixed=0, stretch=3)
    found = sizes(recipe, 400, 400)
    assert np.array_equal(found[::2], plain[::2])
    odd = found[1::2]
    np.testing.assert_allclose(odd.prod(axis=1), plain[1::2].prod(axis=1), rtol=0.03)
    aspect = np.log(odd[:, 0] / odd[:, 1]) / np.log(3)
    assert -1.02 < aspect.min() < -0.9 and 0.9 < aspect.max() < 1.02
    assert abs(aspect.mean()) < 3 / np.sqrt(3 * 200)
    assert aspect.std() == pytest.approx(1 / np.sqrt(3), rel=0.15)
    kept = sizes(replace(recipe, keep=0.25), 400, 400).prod(axis=1) == 256**2
    assert kept.sum() == pytest.approx(100, abs=3 * np.sqrt(400 * 0.25 * 0.75))


def test_a_stretched_pair_shows_all_of_the_picture():
    recipe = PairRecipe(batch=1, patch=6, scale_max=4, fixed=0, stretch=2)
    digits = Characters(1, seed=3)
    shapes = set()
    for pair in (pairs(digits, recipe, 12)[index] for index in range(12)):
        shapes.add(size := tuple(pair.target.shape[1:]))
        found = (pair.target * 255).round().movedim(0, -1)
        assert np.array_equal(found, resize(digits[0], size))
        assert pair.noise.shape == pair.target.shape and pair.lr.shape == (3, 6, 6)
        assert torch.equal(pair.coord, make_coord(size))
        assert torch.equal(pair.cell, make_cell(size))
    assert {rows > cols for rows, cols in shapes} == {True, False}


def test_noise_falls_on_the_small_version_alone():
    flat = [np.full((40, 40, 3), 120, np.uint8)]
    recipe = PairRecipe(batch=1, patch=8, scale_max=2, noise=20)
    found = [pairs(flat, recipe)[index] for index in range(30)]
    lr = 255 * torch.stack([pair.lr for pair in found])
    assert lr.std().item() == pytest.approx(20, rel=0.05)
    assert lr.mean().item() == pytest.approx(120, abs=1.5)
    for pair in found:
        assert torch.equal(pair.target, torch.full_like(pair.target, 120 / 255))


@pytest.mark.parametrize("level", [0, 255])
def test_noise_is_clipped_at_black_and_white(level):
    flat = np.full((40, 40, 3), level, np.uint8)
    noisy = degrade(flat, (30, 40), 40, np.random.default_rng(0))
    assert (noisy == level).mean() == pytest.approx(0.5, abs=0.05)
    assert (abs(noisy.astype(int) - level) < 160).all()  # nothing wrapped around


def test_noise_of_diffusion_is_white_and_its_level_is_even():
    samples = pairs([np.zeros((24, 24, 3), np.uint8)], length=400)
    noise = torch.stack([samples[k].noise for k in range(60)]).flatten(1)
    assert noise.mean().abs().item() < 0.02
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert (torch.corrcoef(noise) - torch.eye(60)).abs().max() < 0.15
    when = np.array([samples[k].when.item() for k in range(400)])
    assert when.min() >= 0 and when.max() < 1
    for quarter in np.histogram(when, 4, (0, 1))[0]:
        assert 65 < quarter < 135  # 100 expected, sigma 9


# Folders


@pytest.fixture
def folder(tmp_path):
    for name, rows, cols in [("a", 40, 60), ("b", 20, 90), ("c", 50, 40), ("d", 9, 9)]:
        Image.fromarray(picture(rows, cols)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("smallest, names", [(9, "abcd"), (10, "abc"), (21, "ac")])
def test_folder_leaves_out_small_images(folder, smallest, names):
    images = Folder(folder, smallest)
    assert [path.stem for path in images.paths] == list(names)
    assert set(images.left_out) == {f"{x}.png" for x in set("abcd") - set(names)}
    assert all("smaller" in why for why in images.left_out.values())
    assert len(images) == len(list(images)) == len(names)
    with pytest.raises(UserError, match="51 rows"):
        Folder(folder, 51)


def test_folder_leaves_out_what_it_cannot_read(folder):
    listing = [(f"{x}.png", (folder / f"{x}.png").stat().st_size) for x in "abcd"]
    expected = hashlib.sha256(repr(listing).encode()).hexdigest()[:12]
    (folder / "e.png").write_bytes((folder / "a.png").read_bytes()[:-300])
    images = Folder(folder)
    assert images.left_out == {"e.png": "cannot be read"}
    assert images.fingerprint == expected != Folder(folder, 10).fingerprint
    (folder / "HR").mkdir()
    Image.fromarray(picture(8, 9)).save(folder / "HR" / "deeper.png")
    assert [path.name for path in Folder(folder).paths] == ["deeper.png"]


def test_folder_turns_everything_into_rgb_the_right_way_up(tmp_path):
    pixels = picture(9, 9)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(30, 8)).save(tmp_path / "turned.jpg", exif=exif)
    grey, turned = Folder(tmp_path)
    assert np.array_equal(grey, np.repeat(pixels[..., :1], 3, axis=2))
    assert turned.shape == (8, 30, 3)


@pytest.mark.parametrize("cache, kept", [(0, 0), (7199, 1), (7200, 1), (12_600, 2)])
def test_cache_keeps_within_its_limit(folder, monkeypatch, cache, kept):
    """Three images of 7200, 5400 and 6000 bytes, each read twice."""
    images, opened = Folder(folder, 10, cache), []

    def watched(path):
        opened.append(path)
        return np.asarray(Image.open(path))

    monkeypatch.setattr(asr_course.data, "read_pixels", watched)
    for index in (0, 1, 2, 0, 1, 2):
        assert images[index].size == [7200, 5400, 6000][index]
    assert len(opened) == 6 - kept


# Procedural images


MEANS = [[141.1, 142.3, 118.3], [93.8, 102.6, 78.1], [143.0, 144.4, 151.5]]


def test_dead_leaves_have_edges_and_flat_parts():
    """Most neighbours are nearly equal and a few are far apart, as in photographs.

    The means are those of the first version of this code.
    """
    pixels = dead_leaves(0, 0).astype(int)
    for k, expected in enumerate(MEANS):
        small = dead_leaves(7, k, 48)
        assert small.shape == (48, 48, 3) and small.dtype == np.uint8
        assert small.mean((0, 1)) == pytest.approx(expected, abs=0.5)
    step = np.abs(np.diff(pixels, axis=1)).max(axis=2)
    assert np.median(step) <= 3
    assert 0.01 < (step > 25).mean() < 0.4
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500


@pytest.mark.parametrize("images", [Procedural(3, 4, 32), Characters(3, 4)])
def test_procedural_images_are_a_sequence(images):
    assert len(images) == len(list(images)) == 3
    assert images[2].dtype == np.uint8 and images[2].shape[2] == 3
    with pytest.raises(IndexError):
        images[3]
    others = [type(images)(3, 5)[0], images[1]]
    assert not any(np.array_equal(images[0], other) for other in others)
    fingerprints = {type(images)(*key).fingerprint for key in ((3, 4), (4, 4), (3, 5))}
    assert len(fingerprints) == 3


def test_recipes_are_the_papers():
    """LIIF: 48 x 48, batch 16, 48^2 queries, x1 to x4. IDM: two stages, 16 to 128."""
    assert Recipe() == Recipe(16, 48, 48 * 48, 1, 4) and Recipe().crop == 192
    assert Recipe(scales=(2, 3)).crop == 144 and Recipe(hr=100).crop == 100
    assert Recipe(scales=(2, 3, 4)).parts == 1
    assert Recipe(6, scales=(2, 3, 4), mixed=True).parts == 3
    pair = PairRecipe()
    assert (pair.batch, pair.patch, pair.crop, pair.parts) == (32, 16, 128, 1)
    assert pair.fixed == pytest.approx(1_000_000 / 1_500_000)
