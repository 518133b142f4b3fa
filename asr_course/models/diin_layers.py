"""The parts of DIIN: diffusion, attention to tokens, and refinement of the tokens.

    P  = S V, without the n x n matrix S         (the paper's Eq. 12 and 13)
    A  = softmax(cos(Q, K_D) / tau)              n queries attend to M tokens (Eq. 15)
    H  = W (P + A V_D) + alpha Z                 one layer (Eq. 16)
    Z' = H + MLP(H)                              ours
    D' = sigma D^ + (1 - sigma) D                D^ = softmax_n(Norm(A^T)) Z' (Eq. 17)

Three of these need sums over all queries: `Heat` (Eq. 12 and 13), `Moments` (the Norm)
and `SoftmaxSum` (the softmax over n). See asr_course.totals.

Letters: B batch, n queries, M tokens, d features of a query.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.layers import MLP
from asr_course.totals import number_of, precise


def rates(q: Tensor, k: Tensor) -> Tensor:
    """S, how much node j weighs for node i: (..., n, d) twice to (..., n, n).

    The definition (Eq. 5 and 6), quadratic in n. Rows sum to one.
    """
    weight = 1 + F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)
    return weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-6)


class Heat(NamedTuple):
    """The sums over nodes in Eq. 12 and 13, float64; keys k have length one."""

    number: Tensor  # n
    values: Tensor  # (B, 1, d) sum of v
    keys: Tensor  # (B, d, 1) sum of k
    both: Tensor  # (B, d, d) sum of k v^T


def heat(k: Tensor, v: Tensor) -> Heat:
    """What nodes (B, n, d) add to them."""
    number = number_of(v, 1)
    k, v = precise(F.normalize(k, dim=-1)).transpose(1, 2), precise(v)
    return Heat(number, v.sum(1, keepdim=True), k.sum(2, keepdim=True), k @ v)


def diffuse(q: Tensor, total: Heat) -> Tensor:
    """P = S V without S: (B, n, d), at a cost linear in n (Eq. 12 and 13)."""
    number, *sums = total
    values, keys, both = ((x / number).to(q) for x in sums)
    q = F.normalize(q, dim=-1)
    return (values + q @ both) / (1 + q @ keys).clamp(min=1e-6)


class CrossAttention(nn.Module):
    """Every query attends to the tokens that it resembles (Eq. 14 and 15)."""

    def __init__(self, width: int, reduction: int):
        super().__init__()
        self.q = nn.Linear(width, width // reduction)
        self.k = nn.Linear(width, width // reduction)
        self.v = nn.Linear(width, width)
        self.log_tau = nn.Parameter(torch.tensor(0.25).log())  # tau stays above 0

    def attend(self, x: Tensor, D: Tensor) -> Tensor:
        """A: (B, n, d) and tokens (B, M, d) to (B, n, M); rows sum to one."""
        q, k = F.normalize(self.q(x), dim=-1), F.normalize(self.k(D), dim=-1)
        return (q @ k.transpose(1, 2) / self.log_tau.exp()).softmax(dim=-1)

    def forward(self, x: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
        """A V_D (B, n, d), and A."""
        A = self.attend(x, D)
        return A @ self.v(D), A


class Moments(NamedTuple):
    """Of each token's column of A, over all nodes, float64."""

    number: Tensor  # of nodes
    total: Tensor  # (B, M)
    squares: Tensor  # (B, M)


def token_moments(A: Tensor) -> Moments:
    """What nodes, with their rows of A (B, n, M), add to mean and variance."""
    A = precise(A)
    return Moments(number_of(A, 1), A.sum(dim=1), A.square().sum(dim=1))


@dataclass(frozen=True)
class SoftmaxSum:
    """A softmax-weighted sum over some nodes, so that two of them add up.

    exp() of a large number overflows; all are taken relative to the largest so far.
    """

    peak: Tensor  # (B, M, 1) the largest exponent
    weight: Tensor  # (B, M, 1) sum of exp(exponent - peak)
    total: Tensor  # (B, M, d) sum of exp(exponent - peak) x

    def __add__(self, other: "SoftmaxSum") -> "SoftmaxSum":
        peak = torch.maximum(self.peak, other.peak)
        a, b = (self.peak - peak).exp(), (other.peak - peak).exp()
        weight = a * self.weight + b * other.weight
        return SoftmaxSum(peak, weight, a * self.total + b * other.total)


class Refinement(nn.Module):
    """Tokens move towards the features that attended to them most (Eq. 17).

    The paper's "Norm" is instance normalisation over the nodes, as in the token
    dictionary that it follows (ATD). Its shift would cancel in the softmax.
    """

    def __init__(self, tokens: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(tokens))
        self.sigma_logit = nn.Parameter(torch.zeros(()))  # sigma starts at 1/2

    def summarise(self, A: Tensor, x: Tensor, moments: Moments) -> SoftmaxSum:
        """What nodes x (B, n, d), with their rows of A (B, n, M), add to D^."""
        mean = moments.total / moments.number  # (B, M)
        variance = (moments.squares / moments.number - mean.square()).clamp(min=0)
        norm = (A - mean[:, None]) * (variance + 1e-5).rsqrt()[:, None]  # (B, n, M)
        exponent = (norm * self.scale).transpose(1, 2)  # (B, M, n)
        peak = exponent.detach().amax(dim=-1, keepdim=True)
        part = (exponent - peak).exp()
        return SoftmaxSum(peak, part.sum(dim=-1, keepdim=True), part @ precise(x))

    def forward(self, D: Tensor, new: SoftmaxSum) -> Tensor:
        """The next dictionary D' (B, M, d)."""
        sigma = self.sigma_logit.sigmoid()
        return sigma * (new.total / new.weight).to(D) + (1 - sigma) * D


class DiffusionLayer(nn.Module):
    """Eq. 16, and then a small MLP on every query alone (ours, see `DIIN`)."""

    def __init__(self, options):
        super().__init__()
        d = options.width
        self.mixes = options.diffusion == "cosine"  # else S is the identity
        self.qkv = nn.Linear(d, 3 * d if self.mixes else d)
        if options.dictionary:
            self.cross_attention = CrossAttention(d, options.reduction)
        self.out = nn.Linear(d, d)
        self.alpha = nn.Parameter(torch.ones(()))
        self.hidden, self.output = nn.Linear(d, d), nn.Linear(d, d)

    def project(self, z: Tensor, part: int) -> Tensor:
        """q, k or v (part 0, 1, 2): (B, n, d) to (B, n, d)."""
        d = z.shape[-1]
        rows = slice(part * d, (part + 1) * d)
        return F.linear(z, self.qkv.weight[rows], self.qkv.bias[rows])

    def heat(self, z: Tensor) -> Heat | tuple:
        """What nodes z (B, n, d) add to the sums of this layer."""
        return heat(self.project(z, 1), self.project(z, 2)) if self.mixes else ()

    def diffuse(self, z: Tensor, total: Heat | tuple) -> Tensor:
        """P (B, n, d); v itself where S is the identity."""
        return diffuse(self.project(z, 0), total) if self.mixes else self.qkv(z)

    def forward(self, z: Tensor, P: Tensor, attn: Tensor | int) -> Tensor:
        """Z' (B, n, d). attn: A V_D, 0 without a dictionary."""
        H = self.out(P + attn) + self.alpha * z
        return H + self.output(F.gelu(self.hidden(H)))


class PositionAwareEmbedding(nn.Module):
    """Position and pixel size scale and shift what was sampled (PAEB, Eq. 9)."""

    def __init__(self, width: int):
        super().__init__()
        self.place = MLP(8, [width], width)
        self.cell = MLP(2, [width], width)
        self.fuse = nn.Linear(width, 2 * width)

    def forward(self, sampled: Tensor, offsets: Tensor, cell: Tensor) -> Tensor:
        """(B, h, w, d), (B, h, w, 8) and 2 / s (B, 2) to (B, h, w, d)."""
        e = self.place(offsets) + self.cell(cell)[:, None, None]
        gain, shift = self.fuse(e).chunk(2, dim=-1)
        return sampled * (1 + gain) + shift
