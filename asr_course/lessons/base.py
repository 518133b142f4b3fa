"""What exercise checks are made from: a property holds, or says what does not."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


class NotYet(Exception):
    """A property that does not hold; its message is for the learner."""


@dataclass(frozen=True)
class Exercise:
    """What is asked: an answer to compare with nothing, and properties to try."""

    reference: Callable
    sample: Callable[[Callable], object]  # one call; returns nothing if not attempted
    properties: tuple[Callable[[Callable], None], ...]


def require(condition, message: str) -> None:
    """Raise NotYet with `message` unless the condition holds."""
    if not bool(condition):
        raise NotYet(message)


def close(a, b, tolerance: float = 1e-4) -> bool:
    """Whether two tensors have one shape and nearly one content."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)
