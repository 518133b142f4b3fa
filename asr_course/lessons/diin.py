"""Exercises of notebook 5."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asr_course.lessons.base import Exercise, close, require
from asr_course.profile import multiplications

# diin.1 -------------------------------------------------------------------------------


def heat_step(z: Tensor, S: Tensor, alpha: float) -> Tensor:
    """One step of Eq. 2: nodes z (n, d), rates S (n, n)."""
    return alpha * z + (1 - alpha) * S @ z


def some_rates(n: int) -> Tensor:
    """Random rates whose rows, but not columns, sum to one: (n, n)."""
    random = torch.Generator().manual_seed(n)
    S = torch.rand(n, n, generator=random)
    return S / S.sum(dim=1, keepdim=True)


def nodes(n: int, d: int = 3) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n + 1))


def constants_stay(f) -> None:
    z = torch.full((6, 2), 5.0)
    S, other = some_rates(6), nodes(6)
    require(
        not close(f(other, S, 0.3), 0.3 * other + 0.7 * S.T @ other),
        "node i hears node j by S[i, j], not by S[j, i]",
    )
    require(
        close(f(z, S, 0.3), z),
        "where all nodes are equally warm, nothing must change",
    )


def alone_nothing_flows(f) -> None:
    z = nodes(5)
    require(
        close(f(z, torch.eye(5), 0.3), z),
        "with S the identity every node hears only itself: z must not change",
    )


def one_step_is_right(f) -> None:
    S, z = some_rates(6), nodes(6)
    expected = z.clone()
    for i in range(6):
        expected[i] += 0.25 * sum(S[i, j] * (z[j] - z[i]) for j in range(6))
    got = f(z, S, 0.75)
    require(
        got.shape == z.shape, f"the result has shape (6, 3), yours {tuple(got.shape)}"
    )
    require(
        close(got, expected),
        "node i must move by (1 - alpha) sum_j S[i, j] (z[j] - z[i])",
    )


# diin.2 -------------------------------------------------------------------------------


def spread(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """S v for w = 1 + cos(q, k), without the n x n matrix: (n, d)."""
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    top = v.sum(dim=0) + q @ (k.T @ v)
    return top / (len(k) + q @ k.sum(dim=0))[:, None]


def qkv(n: int, d: int = 4) -> Tensor:
    """Random q, k and v of different lengths: (3, n, d)."""
    random = torch.Generator().manual_seed(n)
    return torch.randn(3, n, d, generator=random) * torch.tensor([3, 0.5, 1]).view(
        3, 1, 1
    )


def spread_is_right(f) -> None:
    for n in (6, 50):
        q, k, v = qkv(n)
        weight = 1 + F.cosine_similarity(q[:, None], k[None], dim=-1)  # (n, n)
        expected = weight @ v / weight.sum(dim=1, keepdim=True)
        got = f(q, k, v)
        require(
            got.shape == expected.shape,
            f"{n} nodes hear {tuple(expected.shape)}, yours {tuple(got.shape)}",
        )
        rough = 1 + q @ k.T
        require(
            not close(got, rough @ v / rough.sum(dim=1, keepdim=True), 1e-3),
            "the cosine is of unit vectors: normalise q and k, each row by itself",
        )
        require(
            close(got, expected, 1e-3),
            "the rows must be means of v with weights 1 + cos(q_i, k_j), divided by "
            "the sum of the weights",
        )


def spread_is_cheap(f) -> None:
    for n in (100, 1000):
        count, most = multiplications(lambda n=n: f(*qkv(n))), 64 * n
        require(count > 0, "use matrix products (@): check counts what they cost")
        require(
            count <= most,
            f"{n} nodes of 4 features need no more than {most} multiplications, yours "
            f"took {count}; which sums over j need no i?",
        )


# diin.3 -------------------------------------------------------------------------------


def soft_mean(pieces) -> Tensor:
    """Softmax-weighted mean of x over all pieces, going over them once."""
    peak, weight, total = torch.tensor(-torch.inf), 0.0, 0.0
    for exponent, x in pieces():
        higher = torch.maximum(peak, exponent.max())
        old, new = (peak - higher).exp(), (exponent - higher).exp()
        weight = old * weight + new.sum()
        total = old * total + new @ x
        peak = higher
    return total / weight


class Pieces:
    """Exponents (n,) and features (n, d), piece by piece; counts the rounds."""

    def __init__(self, exponent: Tensor, x: Tensor, sizes: list[int]):
        self.exponent, self.x, self.sizes, self.rounds = exponent, x, sizes, 0

    def __call__(self):
        self.rounds += 1
        yield from zip(
            self.exponent.split(self.sizes), self.x.split(self.sizes), strict=True
        )


def some_pieces(sizes: list[int], shift: float = 0.0) -> tuple[Pieces, Tensor]:
    """Pieces, and their softmax-weighted mean."""
    n = sum(sizes)
    exponent, x = 3 * nodes(n, 1)[:, 0] + shift, nodes(n + 1, 4)[:n]
    return Pieces(exponent, x, sizes), exponent.softmax(0) @ x


def mean_is_right(f) -> None:
    for sizes in ([12], [4, 4, 4], [1, 10, 1]):
        pieces, expected = some_pieces(sizes)
        got = f(pieces)
        require(
            got.shape == expected.shape,
            f"the mean has shape {tuple(expected.shape)}, yours {tuple(got.shape)}",
        )
        require(
            close(got, expected),
            f"pieces of {sizes}: the mean must be that of all 12 at once, each "
            "weighted by exp(exponent)",
        )


def nothing_overflows(f) -> None:
    for shift in (1000.0, -1000.0):
        pieces, expected = some_pieces([4, 4, 4], shift)
        require(
            close(f(pieces), expected, 1e-3),
            f"exponents about {shift:g}: exp() leaves the range of float32; take all "
            "exponents relative to the largest so far",
        )


def rising_pieces_are_rescaled(f) -> None:
    x = torch.tensor([[1.0], [2.0], [3.0]])
    for exponent in ([0.0, 900.0, 1800.0], [1800.0, 900.0, 0.0]):
        exponent = torch.tensor(exponent)
        require(
            close(f(Pieces(exponent, x, [1, 1, 1])), exponent.softmax(0) @ x),
            "where a later piece has a larger exponent, what was added up before must "
            "shrink to the new scale; where it has a smaller one, the piece must",
        )


def pieces_come_once(f) -> None:
    pieces, _ = some_pieces([4, 4, 4])
    f(pieces)
    require(
        pieces.rounds == 1,
        f"go over the pieces once, yours went {pieces.rounds} time(s)",
    )


EXERCISES = {
    "diin.1": Exercise(
        heat_step,
        lambda f: f(nodes(3), some_rates(3), 0.5),
        (constants_stay, alone_nothing_flows, one_step_is_right),
    ),
    "diin.2": Exercise(
        spread, lambda f: f(*qkv(6)), (spread_is_right, spread_is_cheap)
    ),
    "diin.3": Exercise(
        soft_mean,
        lambda f: f(some_pieces([3, 3])[0]),
        (
            mean_is_right,
            nothing_overflows,
            rising_pieces_are_rescaled,
            pieces_come_once,
        ),
    ),
}
