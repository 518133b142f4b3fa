"""The exam: drawn digits, their chances, their reader, and laws for scores."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from helpers import awake, near
from torch import nn

from asr_course import build
from asr_course.digits import NOISE, Characters, draw_character
from asr_course.images import resize
from asr_course.lessons import exam as lesson
from asr_course.lessons.exam import CloseLook, Exam, chances, held_out
from asr_course.render import render
from asr_course.sampling import degrade
from studies.exam import (
    calibration,
    distance,
    frequencies,
    laws,
    read_all,
    score_answers,
)
from studies.reader import draw_many


@pytest.fixture(scope="module")
def reader() -> CloseLook:
    return lesson.load_reader()


@pytest.fixture(scope="module")
def thousand() -> Exam:
    return held_out(1000)


def test_characters_are_whole_pictures_of_all_digits():
    """A digit is a function of seed and index; all ten come alike often."""
    many = Characters(1000, seed=2)
    pixels, label = draw_character(2, 7)
    assert many.whole and pixels.shape == (64, 64, 3) and label in range(10)
    assert np.array_equal(many[7], pixels)
    counts = np.bincount([draw_character(2, k)[1] for k in range(1000)])
    assert len(counts) == 10 and np.abs(counts - 100).max() < 35
    assert all(np.ptp(many[k].mean(axis=2)) >= 89 for k in range(100))  # ink on paper


def test_the_exam_is_a_function_of_its_seed_and_asks_the_same_at_any_size():
    few, many = held_out(3), held_out(7)
    assert len(few) == 3
    near(few.lr, many.lr[:3], 0)
    near(few.hr, many.hr[:3], 0)
    assert not torch.equal(held_out(3, seed=1001).lr, few.lr)
    pixels, label = draw_character(1000, 2)
    lr = degrade(pixels, (4, 4), NOISE, np.random.default_rng([1000, 7, 2]))
    hr = resize(pixels, (lesson.SIDE, lesson.SIDE))
    for found, expected in ((few.lr, lr), (few.hr, hr)):
        assert np.array_equal((255 * found[2]).round().movedim(0, -1), expected)
    assert few.labels[2] == label
    large = held_out(3, (20, 28))
    near(large.lr, few.lr, 0)
    assert large.hr.shape == (3, 3, 20, 28)


@pytest.mark.parametrize("size", [(16, 16), (20, 28), (64, 64)])
def test_a_close_look_reads_held_out_digits_of_any_size(reader, size):
    exam = held_out(400, size)
    found = reader.read(exam.hr)
    assert (found == exam.labels).float().mean() >= 0.995
    assert (reader.read(exam.hr + 0.1) == found).float().mean() > 0.99


def test_chances_come_true_and_leave_the_question_open():
    exam = held_out(400)
    p = chances(exam.lr, 4000, 8)
    near(p.sum(1), torch.ones(400))
    best, guess = p.max(1)
    right = (guess == exam.labels).float()
    for low, high in ((0, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1)):
        among = (best > low) & (best <= high)
        gap = right[among].mean() - best[among].mean()
        assert gap.abs() < 3 * 0.5 / among.sum().sqrt()
    expected = laws(exam, p)
    of_truth = p[torch.arange(400), exam.labels]
    assert of_truth.mean().item() == pytest.approx(expected["accuracy"], abs=0.05)
    assert -1.4 < of_truth.clamp(min=1e-3).log().mean() < -1  # of equal ones: -2.3
    assert 0.4 < expected["accuracy"] < expected["best_guess"] < 0.65
    assert expected["read_truth"] > 0.995


def test_chances_do_not_depend_on_which_colours_or_draws(thousand):
    """Negative colours and other channels have the same rules; so have clipped ends."""
    lr = thousand.lr[:12]
    assert lr.min() == 0 and lr.max() == 1
    p, other = (chances(lr, 4000, 32, seed) for seed in (0, 1))
    for same in (other, chances(1 - lr, 4000, 32), chances(lr.flip(1), 4000, 32)):
        assert distance(p, same).mean() < 0.1 < distance(p, p.roll(1, 0)).mean()


class Draws(nn.Module):
    """Answers with its seed as a grey level, on whatever device it is."""

    is_generative = True

    def __init__(self, device: str = "cpu"):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device=device))
        self.calls = []

    def sample(self, lr, size, steps, seed):
        self.calls.append((lr.device.type, steps))
        grey = torch.arange(seed, seed + len(lr)) / 1000
        return grey[:, None, None, None].expand(len(lr), 3, *size)


def test_every_output_has_a_seed_of_its_own():
    exam, model, done = held_out(120, (2, 3)), Draws(), []
    found = lesson.answers(model, exam, seeds=3, steps=7, on_batch=done.append)
    assert found.shape == (3, 120, 3, 2, 3) and sum(done) == 360
    seeds = (1000 * found[:, :, 0, 0, 0]).round()
    near(seeds.flatten(), torch.arange(360.0), 0)
    assert set(model.calls) == {("cpu", 7)}
    model = Draws("meta")  # it stands for a GPU
    lesson.answers(model, held_out(2, (4, 4)), seeds=1)
    assert model.calls == [("meta", 25)]


def test_outputs_are_samples_or_one_rendering(liif):
    model, exam = awake(build("idm", "tiny")), held_out(3, (8, 10))
    found = lesson.answers(model, exam, seeds=2, steps=2)
    alone = model.sample(exam.lr[1, None], (8, 10), 2, seed=3 * 1 + 1)
    near(found[1, 1], alone[0])
    found = lesson.answers(liif, exam, seeds=5)
    assert found.shape == (1, 3, 3, 8, 10)
    near(found[0, 2], render(liif, exam.lr[2, None], (8, 10)).clamp(0, 1), 0)


def test_sharpness_and_consistency_by_hand():
    x = torch.rand(2, 3, 9, 8)
    assert lesson.sharpness(torch.full_like(x, 0.3), x) == 0
    assert lesson.sharpness(0.5 * x + 0.2, x) == pytest.approx(0.25, rel=1e-5)
    rows = torch.arange(4.0)[:, None].expand(1, 3, 4, 4)
    assert lesson.sharpness(rows + rows.mT, rows) == pytest.approx(2)
    lr, sr = torch.full((2, 3, 4, 4), 102 / 255), torch.full((2, 3, 12, 8), 153 / 255)
    assert lesson.consistency(sr, lr) == pytest.approx(1e5 * 0.2**2)
    assert lesson.consistency(2 / 3 * sr, lr) == pytest.approx(0, abs=1e-3)


def test_the_truth_misses_its_input_by_the_noise(thousand):
    """Clipping takes some of it away."""
    noise = 1e5 * (NOISE / 255) ** 2
    assert 0.9 * noise < lesson.consistency(thousand.hr, thousand.lr) < noise


def test_frequencies_distance_and_spread_by_hand():
    found = frequencies(torch.tensor([[3, 0], [3, 1], [5, 0], [3, 0]]))
    expected, other = torch.zeros(2, 2, 10)
    expected[0, [3, 5]] = expected[1, [0, 1]] = torch.tensor([0.75, 0.25])
    near(found, expected, 0)
    other[0, [3, 6]] = torch.tensor([0.5, 0.5])
    other[1, [0, 1]] = torch.tensor([0.75, 0.25])
    near(distance(found, other), torch.tensor([0.5, 0]))
    assert lesson.spread([1, 2, 3]) == {"mean": 2, "std": 1}
    assert lesson.spread([5]) == {"mean": 5, "std": 0}


@cache
def by_label() -> dict[int, torch.Tensor]:
    """Pictures of every digit, none of them in the exam."""
    large, labels = draw_many(300, seed=77)
    return {k: large[labels == k] / 255 for k in range(10)}


@pytest.fixture(scope="module")
def sampled() -> tuple[Exam, torch.Tensor, torch.Tensor]:
    """60 questions, 12 answers that show digits with the right chances, and these."""
    exam, store = held_out(60), by_label()
    rng, p = torch.Generator().manual_seed(0), chances(exam.lr, 4000, 8)
    labels = torch.multinomial(p, 12, True, generator=rng).T
    sr = [
        torch.stack([store[int(k)][(i + s) % 15] for i, k in enumerate(row)])
        for s, row in enumerate(labels)
    ]
    return exam, torch.stack(sr), p


def test_a_sampler_with_the_right_chances_obeys_the_laws(sampled):
    exam, sr, p = sampled
    scores, expected = score_answers(sr, read_all(sr), exam, p), laws(exam, p)
    right, of_truth = scores["accuracy"], p[torch.arange(60), exam.labels]
    assert abs(right["mean"] - of_truth.mean()) < 3 * right["std"] / math.sqrt(12)
    gap = abs(right["mean"] - expected["accuracy"])
    assert gap < 3 * of_truth.std() / math.sqrt(60)
    chance = scores["distance_by_chance"]["mean"]
    assert scores["distance"]["mean"] == pytest.approx(chance, abs=0.03)
    assert scores["sharpness"]["mean"] == pytest.approx(1, abs=0.25)
    assert scores["diversity"]["mean"] > 20
    curve = calibration(p, frequencies(read_all(sr)), bins=5)
    for chance, share, count in zip(*curve.values(), strict=True):
        assert abs(share - chance) < 3 * 0.5 / math.sqrt(12 * count)


def test_a_model_that_always_shows_the_likeliest_digit_is_found_out(sampled):
    exam, sr, p = sampled
    same = torch.stack([by_label()[int(k)][0] for k in p.argmax(1)]).expand_as(sr)
    scores, fair = (score_answers(x, read_all(x), exam, p) for x in (same, sr))
    assert scores["accuracy"]["mean"] > fair["accuracy"]["mean"] + 0.05
    assert scores["distance"]["mean"] > 1.3 * fair["distance"]["mean"]
    assert scores["diversity"]["mean"] == 0


def test_the_error_of_one_sample_is_twice_that_of_their_mean():
    """Truth and samples from one distribution, around a mean of their own."""
    rng = torch.Generator().manual_seed(0)
    middle = 0.3 + 0.4 * torch.rand(6, 3, 24, 24, generator=rng)

    def draw():
        return middle + 0.05 * torch.randn(middle.shape, generator=rng)

    exam, seeds = Exam(torch.rand(6, 3, 4, 4), draw(), torch.zeros(6).long()), 50
    p, many = torch.full((6, 10), 0.1), torch.stack([draw() for _ in range(seeds)])
    scores = score_answers(many, read_all(many), exam, p)
    assert scores["mse"]["mean"] == pytest.approx(2 * 0.05**2, rel=0.02)
    of_mean = scores["mse_of_mean"]["mean"]
    assert of_mean == pytest.approx((1 + 1 / seeds) * 0.05**2, rel=0.02)
    assert scores["diversity"]["mean"] == pytest.approx(255 * 0.05, rel=0.02)
    decibels = -10 * math.log10(scores["mse"]["mean"])
    assert scores["psnr"]["mean"] == pytest.approx(decibels, abs=0.05)


def test_scores_of_the_truth():
    """One answer tells nothing about diversity."""
    exam, p = held_out(30), torch.rand(30, 10).softmax(1)
    scores = score_answers(exam.hr[None], read_all(exam.hr[None]), exam, p)
    assert scores["psnr"] == {"mean": math.inf, "std": 0}
    assert scores["mse"]["mean"] == scores["mse_of_mean"]["mean"] == 0
    for name in ("ssim", "sharpness", "accuracy"):
        assert scores[name]["mean"] == pytest.approx(1, abs=1e-6)
    assert scores["consistency"]["mean"] == laws(exam, p)["consistency"]
    of_truth = p[torch.arange(30), exam.labels]
    assert scores["distance"]["mean"] == pytest.approx(1 - of_truth.mean().item())
    assert not {"diversity", "distance_by_chance"} & scores.keys()
