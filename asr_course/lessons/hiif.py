"""Exercises of notebook 4."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asr_course.lessons.base import Exercise, close, require
from asr_course.profile import multiplications

# hiif.1 -------------------------------------------------------------------------------


def binary(t: Tensor, levels: int) -> Tensor:
    """The first binary digits of t in [0, 1): (...) -> (..., levels)."""
    found = []
    for _ in range(levels):
        t = 2 * t
        found.append(t.floor())
        t = t - t.floor()
    return torch.stack(found, dim=-1)


def digits_have_shape(f) -> None:
    for shape, levels in (((5,), 3), ((2, 4), 6), ((), 2)):
        got = torch.as_tensor(f(torch.zeros(shape), levels))
        require(
            got.shape == (*shape, levels),
            f"places of shape {shape} have digits of shape {(*shape, levels)}, yours "
            f"{tuple(got.shape)}",
        )


def digits_by_hand(f) -> None:
    for t, expected in ((0.5, [1, 0, 0]), (0.25, [0, 1, 0]), (0.875, [1, 1, 1])):
        got = torch.as_tensor(f(torch.tensor([t]), 3))[0].tolist()
        require(got == expected, f"{t} has the digits {expected}, yours are {got}")


def digits_rebuild(f) -> None:
    t = torch.arange(0, 1, 1 / 96)
    got = torch.as_tensor(f(t, 6)).float()
    require(
        ((got == 0) | (got == 1)).all(), "every digit is 0 or 1, at every level and t"
    )
    rest = t - (got / 2.0 ** torch.arange(1, 7)).sum(-1)
    require(
        ((rest >= 0) & (rest < 2**-6)).all(),
        "the sum of digit / 2, digit / 4, digit / 8 ... must come within 1/64 below t",
    )


# hiif.2 -------------------------------------------------------------------------------


def positive(x: Tensor) -> Tensor:
    """Above zero everywhere, and nearly x where x is large."""
    return F.elu(x) + 1


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A mean of v with weights positive(q_i) . positive(k_j), linear in n."""
    q, k = positive(q), positive(k)
    return q @ (k.transpose(-1, -2) @ v) / (q @ k.sum(-2)[..., None])


def qkv(n: int, d: int, heads: int = 2) -> Tensor:
    """Random q, k and v: (3, heads, n, d)."""
    random = torch.Generator().manual_seed(n)
    return torch.randn(3, heads, n, d, generator=random)


def attention_is_a_mean(f) -> None:
    for n in (5, 40):
        q, k, v = qkv(n, 4)
        got = f(q, k, v)
        require(
            got.shape == v.shape,
            f"q, k and v of shape {tuple(q.shape)} give {tuple(v.shape)}, yours is "
            f"{tuple(got.shape)}",
        )
        require(
            close(f(q, k, torch.ones_like(v)), torch.ones_like(v)),
            "where all say the same, that is what everyone hears: weights must sum to "
            "one",
        )
        low, high = v.amin(-2, keepdim=True), v.amax(-2, keepdim=True)
        require(
            ((got >= low - 1e-4) & (got <= high + 1e-4)).all(),
            "a mean never leaves the range of v: no weight may be negative",
        )


def attention_is_right(f) -> None:
    for n in (5, 40):
        q, k, v = qkv(n, 4)
        weight = torch.einsum("hid,hjd->hij", positive(q), positive(k))
        expected = weight @ v / weight.sum(-1, keepdim=True)
        require(
            close(f(q, k, v), expected, 1e-3),
            "query i must hear the mean over j of v_j with weights (elu(q_i) + 1) · "
            "(elu(k_j) + 1), head by head",
        )


def attention_is_cheap(f) -> None:
    for n in (64, 512):
        most = 128 * n
        count = multiplications(lambda n=n: f(*qkv(n, 4)))
        require(count > 0, "use matrix products (@): check counts what they cost")
        require(
            count <= most,
            f"{n} queries of 4 features in 2 heads need no more than {most} "
            f"multiplications, yours took {count}; multiply k and v first",
        )


# hiif.3 -------------------------------------------------------------------------------


def in_pieces(pieces) -> list[Tensor]:
    """What the queries of each piece hear from those of all pieces."""
    total, n = 0, 0
    for _, k, v in pieces():
        total = total + k.T.double() @ v.double()
        n += len(k)
    return [q @ (total / n).to(q) for q, _, _ in pieces()]


class Pieces:
    """q, k and v (3, n, d) in pieces, one after the other; counts the rounds."""

    def __init__(self, parts: Tensor, sizes: list[int]):
        self.parts, self.sizes, self.rounds = parts, sizes, 0

    def __call__(self):
        self.rounds += 1
        for part in self.parts.split(self.sizes, dim=1):
            yield tuple(part)


def pieces_make_the_whole(f) -> None:
    parts = qkv(60, 4, heads=1)[:, 0]
    q, k, v = parts
    expected = q @ (k.T @ v / 60)
    for sizes in ([60], [20, 20, 20], [1, 40, 19]):
        got = f(Pieces(parts, sizes))
        require(
            not isinstance(got, Tensor), "return a list with a tensor for each piece"
        )
        got = list(got)
        require(
            [len(part) for part in got] == sizes,
            f"pieces of {sizes} queries give answers of as many, yours of "
            f"{[len(part) for part in got]}",
        )
        require(
            close(torch.cat(got), expected),
            f"with pieces of {sizes} queries the answer must be that of all 60 at "
            "once: every query hears from all pieces, each counted by its queries",
        )


def pieces_come_twice(f) -> None:
    pieces = Pieces(qkv(60, 4, heads=1)[:, 0], [20, 20, 20])
    list(f(pieces))
    require(
        pieces.rounds == 2,
        f"go over the pieces twice, yours went {pieces.rounds} time(s): once to add "
        "up, once to answer",
    )


def sums_are_exact(f) -> None:
    """Many small numbers after a large one: float32 would lose them."""
    q, k, v = torch.ones(3, 4097, 1)
    k[0] = 2.0**26
    got = torch.cat(list(f(Pieces(torch.stack([q, k, v]), [1] * 4097))))
    expected = (2.0**26 + 4096) / 4097
    require(
        (got - expected).abs().max() < 0.1,
        "add up in float64: here 4,096 ones after a large number were lost",
    )


EXERCISES = {
    "hiif.1": Exercise(
        binary,
        lambda f: f(torch.tensor([0.5]), 3),
        (digits_have_shape, digits_by_hand, digits_rebuild),
    ),
    "hiif.2": Exercise(
        attend,
        lambda f: f(*qkv(5, 4)),
        (attention_is_a_mean, attention_is_right, attention_is_cheap),
    ),
    "hiif.3": Exercise(
        in_pieces,
        lambda f: f(Pieces(qkv(6, 4, heads=1)[:, 0], [3, 3])),
        (pieces_make_the_whole, pieces_come_twice, sums_are_exact),
    ),
}
