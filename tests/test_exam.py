"""The exam: drawn digits, who reads them, and the laws that marks must obey."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from helpers import awake, near
from torch import nn

from asr_course import build
from studies.ablate import examine
from asr_course.digits import NOISE, PATCH, Characters, draw_character
from asr_course.data import degrade
from asr_course.lessons.exam import (
    Exam,
    answers,
    calibration,
    consistency,
    distance,
    format_marks,
    frequencies,
    held_out,
    laws,
    score_answers,
    sharpness,
    spread,
)
from asr_course.images import resize
from asr_course.lessons.readers import (
    SIDE,
    CloseLook,
    Glance,
    Readers,
    add_noise,
    draw_many,
    load_readers,
    save_readers,
    spoil_little,
    train_reader,
    train_readers,
)
from asr_course.render import render

FLOOR = 1e5 * (NOISE / 255) ** 2  # the mean squared noise, in consistency's unit


@pytest.fixture(scope="module")
def readers() -> Readers:
    return load_readers()


@pytest.fixture(scope="module")
def thousand() -> Exam:
    return held_out(1000)


class Told:
    """Readers that say what they are told to."""

    def __init__(self, glance, read):
        self.glance, self.read = lambda lr: glance, lambda x: read


# Digits


def test_a_digit_is_a_function_of_seed_and_index():
    (first, label), (again, same) = draw_character(0, 5), draw_character(0, 5)
    np.testing.assert_array_equal(again, first, strict=True)
    assert label == same
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    for other in ((1, 5), (0, 6)):
        assert not np.array_equal(draw_character(*other)[0], first)


def test_characters_are_a_sequence_of_whole_pictures():
    few, many = Characters(3, seed=2), Characters(100, seed=2)
    assert len(list(few)) == len(few) == 3
    for index in range(3):
        pixels, label = draw_character(2, index)
        assert np.array_equal(few[index], pixels)
        assert np.array_equal(many[index], pixels)
        assert few.label(index) == many.label(index) == label
    for index in (3, -1):
        with pytest.raises(IndexError):
            few[index]
    assert few.whole
    assert few.fingerprint != many.fingerprint != Characters(100, seed=3).fingerprint


def test_all_digits_come_alike_often():
    counts = np.bincount([Characters(1000).label(k) for k in range(1000)])
    assert len(counts) == 10 and np.abs(counts - 100).max() < 35


def test_digits_are_ink_on_paper_of_another_brightness():
    for index in range(100):
        pixels = draw_character(0, index)[0].astype(float)
        bright = pixels.mean(axis=2)
        assert bright.max() - bright.min() >= 89
        assert pixels.min() >= 40 and pixels.max() <= 215
        paper = np.median(bright)  # more than half of the picture
        ink = abs(bright - paper) > (bright.max() - bright.min()) / 2
        assert 0.08 < ink.mean() < 0.45
        for places in np.nonzero(ink):
            assert abs(places.min() + places.max() - 63) / 2 <= 6  # in the middle


# Small versions


def test_degrade_without_noise_is_a_bicubic_shrink():
    pixels, rng = draw_character(0, 0)[0], np.random.default_rng(0)
    found = degrade(pixels, (4, 5), 0, rng)
    np.testing.assert_array_equal(found, resize(pixels, (4, 5)), strict=True)
    assert rng.random() == np.random.default_rng(0).random()  # nothing was drawn


def test_noise_has_its_deviation_and_leaves_the_mean():
    flat = np.full((64, 64, 3), 120, np.uint8)
    noisy = degrade(flat, (60, 60), 20, np.random.default_rng(0)).astype(float)
    assert noisy.mean() == pytest.approx(120, abs=0.6)
    assert noisy.std() == pytest.approx(20, rel=0.02)
    channels = (noisy - 120).reshape(-1, 3).T
    assert np.abs(np.corrcoef(channels) - np.eye(3)).max() < 0.05


def test_noise_is_clipped_at_black_and_white():
    for level, side in ((0, np.less_equal), (255, np.greater_equal)):
        flat = np.full((40, 40, 3), level, np.uint8)
        noisy = degrade(flat, (40, 40), NOISE, np.random.default_rng(0))
        assert (noisy == level).mean() == pytest.approx(0.5, abs=0.05)
        assert side(noisy, 128).mean() > 0.99  # nothing wrapped around


def test_readers_learn_from_the_noise_that_exams_have():
    flat = torch.full((500, 3, 4, 4), 120, dtype=torch.uint8)
    trained = 255 * add_noise(flat, torch.Generator().manual_seed(0))
    pixels, rng = np.full((64, 64, 3), 120, np.uint8), np.random.default_rng(0)
    met = np.stack([degrade(pixels, (4, 4), NOISE, rng) for _ in range(500)])
    assert trained.std().item() == pytest.approx(met.std(), rel=0.03)
    assert trained.mean().item() == pytest.approx(met.mean(), abs=1)
    near(trained, trained.round(), 1e-4)


# Readers


@pytest.mark.parametrize("size", [(16, 16), (SIDE, SIDE), (20, 28), (64, 64)])
def test_a_close_look_reads_held_out_digits_of_any_size(readers, size):
    exam = held_out(400, size)
    found = readers.read(exam.hr)
    assert (found == exam.labels).float().mean() >= 0.995
    brighter = readers.read(exam.hr + 0.1)
    assert (brighter == found).float().mean() > 0.99


def test_a_glance_is_calibrated(readers, thousand):
    """What it says is likely happens as often as it says."""
    p = readers.glance(thousand.lr)
    near(p.sum(1), torch.ones(1000))
    of_truth = p[torch.arange(1000), thousand.labels]
    assert of_truth.mean().item() == pytest.approx(
        p.square().sum(1).mean().item(), abs=0.03
    )
    best, guess = p.max(1)
    right = (guess == thousand.labels).float()
    for low, high in ((0, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1)):
        among = (best > low) & (best <= high)
        assert among.sum() > 80
        gap = right[among].mean() - best[among].mean()
        assert gap.abs() < 3 * 0.5 / among.sum().sqrt()


def test_a_glance_leaves_the_question_open_and_a_close_look_does_not(readers, thousand):
    expected = laws(thousand, readers)
    assert 0.3 < expected["accuracy"] < expected["best_guess"] < 0.65
    assert expected["read_truth"] > 0.995


def test_drawn_digits_for_readers_are_those_of_the_exam():
    large, small, labels = draw_many(5, seed=1000)
    exam = held_out(5)
    near(large / 255, exam.hr, 0)
    assert torch.equal(labels, exam.labels)
    pixels = draw_character(1000, 3)[0]
    assert np.array_equal(small[3].movedim(0, -1), resize(pixels, (PATCH, PATCH)))


def test_spoilt_pictures_are_of_many_sizes_and_still_much_the_same():
    large, _, _ = draw_many(4, seed=0)
    rng = torch.Generator().manual_seed(0)
    sides = set()
    for _ in range(30):
        x = spoil_little(large, rng)
        assert x.shape[:2] == (4, 3) and x.shape[2] == x.shape[3]
        sides.add(x.shape[2])
        near(x.mean((2, 3)), (large / 255).mean((2, 3)), 0.03)
    assert min(sides) >= 16 and max(sides) <= 48 and len(sides) > 10


def test_trained_readers_repeat_and_come_back_from_their_file(tmp_path, monkeypatch):
    first, again = (train_readers(30, (4, 2), seed=1) for _ in range(2))
    path = tmp_path / "readers.safetensors"
    save_readers(first, path, {"command": "test"})
    monkeypatch.setattr("asr_course.lessons.readers.READERS", path)
    lr, pictures = torch.rand(9, 3, 4, 4), torch.rand(9, 3, 20, 30)
    for other in (again, load_readers()):
        near(other.glance(lr), first.glance(lr), 1e-6)
        near(other.close_look(pictures), first.close_look(pictures), 1e-5)
    assert not first.at_a_glance.training and not first.close_look.training


def test_a_reader_learns_what_it_is_shown():
    """Thirty digits, read from four by four pixels; chance reads three."""
    _, small, labels = draw_many(30, seed=3)
    glance = train_reader(Glance(64), small, labels, add_noise, 300)
    assert (glance(small / 255).argmax(1) == labels).sum() > 10


# The exam


def test_the_exam_is_a_function_of_its_seed():
    few, many = held_out(3), held_out(7)
    assert len(few) == 3 and len(many) == 7
    assert torch.equal(few.lr, many.lr[:3]) and torch.equal(few.hr, many.hr[:3])
    other = held_out(3, seed=1001)
    assert not torch.equal(other.lr, few.lr)
    pixels = draw_character(1000, 2)[0]
    assert np.array_equal(
        (255 * few.hr[2]).round().movedim(0, -1), resize(pixels, (32, 32))
    )
    rng = np.random.default_rng([1000, 7, 2])
    small = degrade(pixels, (4, 4), NOISE, rng)
    assert np.array_equal((255 * few.lr[2]).round().movedim(0, -1), small)


def test_another_size_asks_the_same_question():
    assert torch.equal(held_out(3, (20, 28)).lr, held_out(3).lr)
    assert held_out(3, (20, 28)).hr.shape == (3, 3, 20, 28)


class Draws(nn.Module):
    """Answers with its seed as a grey level, on whatever device it is."""

    generates = True

    def __init__(self, device: str = "cpu"):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device=device))
        self.asked = []

    def sample(self, lr, size, steps, seed):
        self.asked.append((lr.device.type, len(lr), steps))
        grey = torch.arange(seed, seed + len(lr)) / 1000
        return grey[:, None, None, None].expand(len(lr), 3, *size)


def test_every_answer_has_a_seed_of_its_own():
    exam, model, done = held_out(120, (2, 3)), Draws(), []
    found = answers(model, exam, seeds=3, steps=7, on_batch=done.append)
    assert found.shape == (3, 120, 3, 2, 3)
    seeds = (1000 * found[:, :, 0, 0, 0]).round()
    assert torch.equal(seeds.flatten(), torch.arange(360.0))
    assert sum(done) == 360 and {steps for *_, steps in model.asked} == {7}


def test_answers_of_idm_are_its_samples():
    model, exam = awake(build("idm", "tiny")), held_out(3, (8, 10))
    found = answers(model, exam, seeds=2, steps=2)
    for seed in range(2):
        for k in range(3):
            alone = model.sample(exam.lr[k, None], (8, 10), 2, seed=3 * seed + k)
            near(found[seed, k], alone[0], 1e-5)


def test_a_model_without_seeds_answers_once(liif):
    exam = held_out(3, (9, 9))
    found = answers(liif, exam, seeds=5)
    assert found.shape == (1, 3, 3, 9, 9)
    near(found[0, 2], render(liif, exam.lr[2, None], (9, 9)).clamp(0, 1), 0)


def test_a_model_is_asked_where_it_is():
    """Here "meta" stands for a GPU."""
    model = Draws("meta")
    answers(model, held_out(2, (4, 4)), seeds=1)
    assert [device for device, *_ in model.asked] == ["meta"]


# Marks


def test_sharpness_is_a_share_of_the_truth_s():
    x = torch.rand(2, 3, 9, 8)
    assert sharpness(x, x) == pytest.approx(1)
    assert sharpness(torch.full_like(x, 0.3), x) == 0
    assert sharpness(0.5 * x + 0.2, x) == pytest.approx(0.25, rel=1e-5)
    rows = torch.arange(4.0)[:, None].expand(1, 3, 4, 4)
    assert sharpness(rows + rows.mT, rows) == pytest.approx(2)


def test_consistency_is_the_mean_square_in_its_unit():
    lr, sr = torch.full((2, 3, 4, 4), 102 / 255), torch.full((2, 3, 12, 8), 153 / 255)
    assert consistency(sr, lr) == pytest.approx(1e5 * 0.2**2)
    assert consistency(2 / 3 * sr, lr) == pytest.approx(0, abs=1e-3)


def test_the_truth_misses_its_input_by_the_noise(thousand):
    """Clipping takes some of it away."""
    found = consistency(thousand.hr, thousand.lr)
    assert 0.9 * FLOOR < found < FLOOR
    without = [resize(np.asarray(Characters(20)[k]), (4, 4)) for k in range(20)]
    small = torch.from_numpy(np.stack(without)).movedim(-1, 1) / 255
    assert consistency(draw_many(20, 0)[0] / 255, small) < 0.01 * FLOOR


def test_frequencies_and_their_distance_by_hand():
    readings = torch.tensor([[3, 0], [3, 1], [5, 0], [3, 0]])
    found = frequencies(readings)
    expected = torch.zeros(2, 10)
    expected[0, [3, 5]] = torch.tensor([0.75, 0.25])
    expected[1, [0, 1]] = torch.tensor([0.75, 0.25])
    near(found, expected, 0)
    other = torch.zeros(2, 10)
    other[0, [3, 6]] = torch.tensor([0.5, 0.5])
    other[1, [0, 1]] = torch.tensor([0.75, 0.25])
    near(distance(found, other), torch.tensor([0.5, 0]))
    near(distance(torch.eye(10)[:1], torch.eye(10)[1:2]), torch.ones(1))


def test_calibration_by_hand():
    p = torch.zeros(2, 10)
    p[0, :4] = torch.tensor([0.15, 0.19, 0.05, 0.61])
    p[1, 3] = 1
    shares = torch.zeros(2, 10)
    shares[0, :4] = torch.tensor([0.5, 0.25, 0.25, 0])
    shares[1, 3] = 1
    found = calibration(p, shares)
    assert found["count"] == [16, 2, 1, 1]  # of chances 0, 0.1, 0.6 and 0.9 on
    assert found["chance"] == pytest.approx([0.05 / 16, 0.17, 0.61, 1])
    assert found["share"] == pytest.approx([0.25 / 16, 0.375, 0, 1])
    assert calibration(p, shares, bins=2)["count"] == [18, 2]


def test_spread_by_hand():
    assert spread([1, 2, 6]) == pytest.approx({"mean": 3, "std": math.sqrt(7)})
    assert spread([4]) == {"mean": 4, "std": 0}


@cache
def by_label() -> dict[int, torch.Tensor]:
    """Digits that no exam holds, for every label."""
    large, _, labels = draw_many(300, seed=77)
    return {k: large[labels == k] / 255 for k in range(10)}


@pytest.fixture(scope="module")
def drawn(readers) -> tuple[Exam, torch.Tensor]:
    """60 questions, and 12 answers that show digits with the right chances."""
    exam, store = held_out(60), by_label()
    rng = torch.Generator().manual_seed(0)
    labels = torch.multinomial(readers.glance(exam.lr), 12, True, generator=rng).T
    sr = [
        torch.stack([store[int(k)][(i + s) % 15] for i, k in enumerate(row)])
        for s, row in enumerate(labels)
    ]
    return exam, torch.stack(sr)


def test_who_answers_with_the_right_chances_obeys_the_laws(drawn, readers):
    exam, sr = drawn
    marks, expected = score_answers(sr, exam, readers), laws(exam, readers)
    right = marks["accuracy"]["mean"]
    of_truth = readers.glance(exam.lr)[torch.arange(60), exam.labels]
    assert abs(right - of_truth.mean()) < 3 * marks["accuracy"]["std"] / math.sqrt(12)
    assert abs(right - expected["accuracy"]) < 3 * of_truth.std() / math.sqrt(60)
    chance = marks["distance_by_chance"]["mean"]
    assert marks["distance"]["mean"] == pytest.approx(chance, abs=0.03)
    assert marks["sharpness"]["mean"] == pytest.approx(1, abs=0.25)
    assert marks["diversity"]["mean"] > 20


def test_their_curve_is_the_diagonal(drawn, readers):
    exam, sr = drawn
    shown = frequencies(torch.stack([readers.read(x) for x in sr]))
    found = calibration(readers.glance(exam.lr), shown, bins=5)
    assert len(found["count"]) == 5 and sum(found["count"]) == 600
    for chance, share, count in zip(*found.values(), strict=True):
        assert abs(share - chance) < 3 * 0.5 / math.sqrt(12 * count)


def test_who_always_shows_the_likeliest_digit_is_found_out(drawn, readers):
    exam, sr = drawn
    store = by_label()
    best = readers.glance(exam.lr).argmax(1)
    same = torch.stack([store[int(k)][0] for k in best]).expand_as(sr)
    marks, chance = (score_answers(x, exam, readers) for x in (same, sr))
    assert marks["accuracy"]["mean"] > chance["accuracy"]["mean"] + 0.05
    assert marks["distance"]["mean"] > 1.3 * chance["distance"]["mean"]
    assert marks["diversity"]["mean"] == 0


def test_marks_of_the_truth(readers):
    exam = held_out(30)
    marks = score_answers(exam.hr[None], exam, readers)
    assert marks["psnr"] == {"mean": math.inf, "std": 0}
    assert marks["mse"]["mean"] == marks["mse_of_mean"]["mean"] == 0
    for name in ("ssim", "sharpness", "accuracy"):
        assert marks[name]["mean"] == pytest.approx(1, abs=1e-6)
    expected = laws(exam, readers)
    assert marks["consistency"]["mean"] == expected["consistency"]
    of_truth = readers.glance(exam.lr)[torch.arange(30), exam.labels]
    assert marks["distance"]["mean"] == pytest.approx(1 - of_truth.mean().item())


def test_one_answer_tells_nothing_about_diversity(readers):
    exam = held_out(4)
    found = score_answers(exam.hr[None] * 0.9, exam, readers)
    assert not {"diversity", "distance_by_chance"} & found.keys()
    spreading = {name for name, mark in found.items() if mark["std"] > 0}
    assert spreading == {"distance"}  # over the inputs, the others over seeds


def test_the_error_of_one_answer_is_twice_that_of_their_mean():
    """Truth and answers from one distribution, around a mean of their own."""
    rng = torch.Generator().manual_seed(0)
    middle = 0.3 + 0.4 * torch.rand(6, 3, 24, 24, generator=rng)

    def draw():
        return middle + 0.05 * torch.randn(middle.shape, generator=rng)

    exam = Exam(torch.rand(6, 3, 4, 4), draw(), torch.zeros(6).long())
    seeds = 50
    readers = Told(torch.full((6, 10), 0.1), torch.zeros(6).long())
    marks = score_answers(torch.stack([draw() for _ in range(seeds)]), exam, readers)
    assert marks["mse"]["mean"] == pytest.approx(2 * 0.05**2, rel=0.02)
    of_mean = marks["mse_of_mean"]["mean"]
    assert of_mean == pytest.approx((1 + 1 / seeds) * 0.05**2, rel=0.02)
    assert marks["diversity"]["mean"] == pytest.approx(255 * 0.05, rel=0.02)
    decibels = -10 * math.log10(marks["mse"]["mean"])
    assert marks["psnr"]["mean"] == pytest.approx(decibels, abs=0.05)


def test_laws_by_hand():
    p = torch.zeros(2, 10)
    p[0, [4, 7]] = torch.tensor([0.6, 0.4])
    p[1, 2] = 1
    lr = torch.full((2, 3, 4, 4), 0.2)
    exam = Exam(lr, torch.full((2, 3, 8, 8), 0.4), torch.tensor([7, 2]))
    found = laws(exam, Told(p, torch.tensor([7, 3])))
    assert found["accuracy"] == pytest.approx((0.52 + 1) / 2)
    assert found["best_guess"] == found["read_truth"] == 0.5
    assert found["consistency"] == pytest.approx(1e5 * 0.2**2)


def test_a_short_exam_for_ablations(readers):
    """One row of means, of as many answers as are asked for."""
    model = awake(build("idm", "tiny"))
    (row,) = examine(model, count=2, seeds=3)
    exam = held_out(2)
    marks = score_answers(answers(model, exam, seeds=3), exam, readers)
    assert row == {name: mark["mean"] for name, mark in marks.items()}
    assert {"accuracy", "distance", "consistency", "diversity"} <= row.keys()


def test_marks_are_lines_of_text():
    heads = ["psnr", "ssim", "sharpness", "consistency", "accuracy", "distance"]
    mark = {head: {"mean": k + 0.125, "std": 0} for k, head in enumerate(heads)}
    rows = [{"model": "idm", "steps": 25, **mark}]
    rows.append({"model": "liif-digits", "steps": 0, **mark})
    lines = format_marks(rows, {"accuracy": 0.4142, "consistency": 2345.6}).split("\n")
    assert lines[0].split() == ["model", "steps", *heads]
    assert lines[1].split() == ["idm", "25", *(f"{k}.125"[:5] for k in range(6))]
    assert lines[2].startswith("liif-digits        0 ")
    assert lines[-1] == "by the laws: accuracy 0.4142, consistency 2346"
    assert len({len(line) for line in lines[:-1]}) == 1


def test_readers_have_one_logit_for_every_digit():
    assert Glance(8)(torch.rand(2, 3, 4, 4)).shape == (2, 10)
    assert CloseLook(4)(torch.rand(2, 3, 7, 50)).shape == (2, 10)
