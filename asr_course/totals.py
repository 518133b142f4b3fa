"""Sums over all queries of an output, also where it is drawn piece by piece.

In HIIF and DIIN queries hear from each other, through sums over all of them. Such a
model is written as if all queries were present, and calls

    total(summarise, *args)

where it needs a sum; `summarise(*args)` is what the present queries add to it. By
default (`present`) the present queries are all there are. `asr_course.render` draws an
output in pieces with another `total`, which knows the sums gathered so far. HIIF needs
two sums, so each piece is decoded three times:

    1. no sum is known:  stops at the first (`Unknown`), with this piece's part of it
    2. one sum is known: stops at the second, with this piece's part of that
    3. both are known:   returns colours

After 1 and after 2 the parts of all pieces are added up.
"""

import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_map


def present(summarise: Callable, *args, once: bool = False):
    """The default total: what the present queries add is the whole sum."""
    return summarise(*args)


class Unknown(Exception):
    """A total is not known yet. part: what the present queries add to it.

    once: it sums over the latent codes of a piece, which all queries of the piece
    share, so the piece adds it once.
    """

    def __init__(self, part, once: bool):
        super().__init__("a sum over all queries is not known yet")
        self.part, self.once = part, once


def known_totals(known: Sequence) -> Callable:
    """A `total` that returns these sums one after the other, then raises `Unknown`."""
    left = iter(known)

    def total(summarise: Callable, *args, once: bool = False):
        for value in left:
            return value
        raise Unknown(summarise(*args), once)

    return total


def add(a, b):
    """Two summaries added up: tuples entry by entry, all else by its own +."""
    return tree_map(operator.add, a, b)


def in_one_pass(*calls: tuple) -> tuple:
    """Summaries that are ready together: (function, arguments ...) each."""
    return tuple(summarise(*args) for summarise, *args in calls)


def precise(x: Tensor) -> Tensor:
    """x in float64, in which sums of millions lose nothing (Apple's GPU has none)."""
    return x if x.device.type == "mps" else x.double()


def number_of(x: Tensor, dim: int) -> Tensor:
    """How many entries x has along `dim`, as a tensor beside it."""
    return torch.full((), x.shape[dim], device=x.device)
