"""Schedules: the learning rates of the papers, and what is refused."""

import math

import pytest

from asr_course.errors import UserError
from asr_course.schedule import Schedule


def test_cosine_warms_up_and_falls_to_zero():
    schedule = Schedule(steps=100, rate=0.01, warmup=20)
    for step in range(100):
        warm = (step + 1) / 20 if step < 20 else 1
        expected = 0.01 * warm * math.cos(math.pi / 2 * step / 100) ** 2
        assert schedule(step) == pytest.approx(expected, rel=1e-12)
    assert Schedule(steps=10, rate=0.5, warmup=0)(0) == 0.5


JUMPS = {  # {step: what the rate is divided by}
    "halve": {0: 1, 199: 1, 200: 2, 400: 4, 600: 8, 799: 8, 800: 16, 999: 16},
    "stages": {0: 1, 666: 1, 667: 5, 999: 5},
    "late": {0: 1, 499: 1, 500: 2, 799: 2, 800: 4, 900: 8, 949: 8, 950: 16, 999: 16},
}
UNEVEN = {  # the rates of 7 steps
    "halve": [1, 1, 0.5, 0.25, 0.25, 0.125, 0.0625],
    "stages": [1, 1, 1, 1, 1, 0.2, 0.2],
    "late": [1, 1, 1, 1, 0.5, 0.5, 0.25],
}


@pytest.mark.parametrize("shape", JUMPS)
def test_rates_fall_in_jumps_where_the_papers_have_them(shape):
    schedule = Schedule(steps=1000, rate=1e-4, shape=shape)
    for step, divisor in JUMPS[shape].items():
        assert schedule(step) == pytest.approx(1e-4 / divisor)
    uneven = [Schedule(steps=7, rate=1, shape=shape)(step) for step in range(7)]
    assert uneven == UNEVEN[shape]


def test_restarts_fall_to_zero_thirty_times():
    schedule = Schedule(steps=1500, rate=4e-5, shape="restarts")
    period = [4e-5 * math.cos(math.pi / 2 * step / 50) ** 2 for step in range(50)]
    found = [schedule(step) for step in range(1500)]
    assert found == pytest.approx(30 * period, abs=1e-12)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"steps": 0}, "at least 1 step"),
        ({"rate": 0}, "rate above 0"),
        ({"rate": math.nan}, "rate above 0"),
        ({"warmup": -1}, "warmup of 0"),
        ({"average": 1}, "average in"),
        ({"average": -0.1}, "average in"),
        ({"shape": "cosin"}, "Did you mean 'cosine'"),
        ({"loss": "l3"}, "unknown loss"),
    ],
)
def test_senseless_schedules_are_refused(wrong, words):
    with pytest.raises(UserError, match=words):
        Schedule(**{"steps": 5, **wrong})
