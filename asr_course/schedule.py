"""The steps of a training run and their learning rates."""

import math
from dataclasses import dataclass

from asr_course.errors import UserError, choose

SHAPES = ("cosine", "halve", "restarts", "stages", "late")


@dataclass(frozen=True)
class Schedule:
    """How many steps Adam takes, and its learning rate.

    "cosine" warms up over `warmup` steps and falls to zero along half a cosine;
    "halve" halves the rate at 20, 40, 60 and 80 % of the run (LIIF); "restarts" falls
    to zero along half a cosine 30 times (DIIN's text); "stages" takes a fifth of the
    rate for the last third (IDM); "late" halves it at 50, 80, 90 and 95 % (SwinIR).
    UserError on an unknown shape or loss, and on numbers out of range.
    """

    steps: int
    rate: float = 1e-3
    shape: str = "cosine"
    warmup: int = 20
    loss: str = "l1"  # mean absolute error; "l2": mean squared error
    average: float = 0.0  # decay of a running mean of the weights, which is the result

    def __post_init__(self):
        choose("schedule shape", self.shape, SHAPES)
        choose("loss", self.loss, ("l1", "l2"))
        positive = self.steps >= 1 and 0 < self.rate < math.inf and self.warmup >= 0
        if not positive or not 0 <= self.average < 1:
            raise UserError(
                "a schedule needs at least 1 step, a rate above 0, a warmup of 0 or "
                f"more steps and an average in [0, 1), not {self}"
            )

    def __call__(self, step: int) -> float:
        """The learning rate of step 0, 1, ..., steps - 1."""
        if self.shape == "halve":
            return self.rate * 0.5 ** (5 * step // self.steps)
        if self.shape == "restarts":
            angle = math.pi * (30 * step / self.steps % 1)
            return self.rate * (1 + math.cos(angle)) / 2
        if self.shape == "stages":
            return self.rate if 3 * step < 2 * self.steps else self.rate / 5
        if self.shape == "late":
            passed = [100 * step >= part * self.steps for part in (50, 80, 90, 95)]
            return self.rate * 0.5 ** sum(passed)
        warm = min(1, (step + 1) / max(1, self.warmup))
        return self.rate * warm * (1 + math.cos(math.pi * step / self.steps)) / 2
