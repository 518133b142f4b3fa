r"""DIIN: queries as nodes of a graph, their features as heat that spreads.

Dai, Wang, Guo, Wang and Zhu, "DIIN: Diffusion Iterative Implicit Network for
Arbitrary-scale Super-resolution", IJCAI 2025. The authors' code was not public; what
the paper leaves open is ours and says so below.

    dz_i / dt = sum_j S_ij (z_j - z_i)           (Eq. 1; a step in time: Eq. 2)
    S_ij = w_ij / sum_l w_il                     w_ij = 1 + cos(q_i, k_j)  (Eq. 5, 6)
    P    = S V, without the n x n matrix S       (Eq. 12 and 13)
    A    = softmax(cos(Q, K_D) / tau)            n queries listen to M tokens (Eq. 15)
    H    = W (P + A V_D) + alpha Z               one layer (Eq. 16)
    Z'   = H + MLP(H)                            ours
    D'   = sigma D^ + (1 - sigma) D              D^ = softmax_n(Norm(A^T)) Z' (Eq. 17)

The names differ by a letter: DIINN has two interactive branches, DIIF slices of groups,
DIIN diffusion. None of them is a diffusion model in the sense of IDM.

Letters: B batch, C channels, H W low-resolution grid, h w queries, n = h w, M tokens,
d features of a query.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.coords import neighbours, snap, split_axes, to_position
from asr_course.errors import UserError
from asr_course.models.layers import (
    MLP,
    Features,
    NonLocalModel,
    Sums,
    look_up,
    precise,
    start_at_zero,
)


@dataclass(frozen=True)
class DIINOptions:
    """Sizes, and the paper's ablations (its Table 3 and 4) by their letters."""

    width: int = 256  # d: four latent codes side by side
    layers: int = 2  # N
    tokens: int = 128  # M (ours: the paper does not say)
    reduction: int = 4  # r: dictionary keys have d / r features (ours)
    dictionary: bool = True  # -c: False leaves the token dictionary out
    paeb: bool = True  # -p: False puts a linear layer where position modulates
    # -d: "identity" makes S the identity, and the layer a plain one.
    diffusion: Literal["cosine", "identity"] = "cosine"
    skip: bool = True  # ours, as SRNO: add the bilinearly enlarged input

    def __post_init__(self):
        if self.width % 4 or self.width % self.reduction:
            raise UserError(
                "width must be a multiple of 4 and of reduction, "
                f"not {self.width} and {self.reduction}"
            )


SIZES = {
    "paper": DIINOptions(),
    "laptop": DIINOptions(width=64, tokens=32),
    "tiny": DIINOptions(width=32, tokens=16),
}

ABLATIONS = {
    "full": {},
    "-c": {"dictionary": False},
    "-p": {"paeb": False},
    "-a": {"dictionary": False, "paeb": False},
    "-d": {"diffusion": "identity"},
    "N=1": {"layers": 1},
    "N=3": {"layers": 3},
    "N=4": {"layers": 4},
}


def rates(q: Tensor, k: Tensor) -> Tensor:
    """S, the share of node j in what node i hears: (..., n, d) twice to (..., n, n).

    The definition (Eq. 5 and 6), quadratic in n. Rows sum to one.
    """
    weight = 1 + F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)
    return weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-6)


@dataclass(frozen=True)
class Heat(Sums):
    """The sums over nodes in Eq. 12 and 13, float64; keys k have length one."""

    number: Tensor  # N
    values: Tensor  # (B, 1, d) sum of v
    keys: Tensor  # (B, d, 1) sum of k
    both: Tensor  # (B, d, d) sum of k v^T


def heat(k: Tensor, v: Tensor) -> Heat:
    """What nodes (B, n, d) add to them."""
    k, v = precise(F.normalize(k, dim=-1)).transpose(1, 2), precise(v)
    number = torch.tensor(v.shape[1], device=v.device)
    return Heat(number, v.sum(1, keepdim=True), k.sum(2, keepdim=True), k @ v)


def diffuse(q: Tensor, total: Heat) -> Tensor:
    """P = S V without S: (B, n, d), at a cost linear in n (Eq. 12 and 13)."""
    values, keys, both = (
        (part / total.number).to(q) for part in (total.values, total.keys, total.both)
    )
    q = F.normalize(q, dim=-1)
    return (values + q @ both) / (1 + q @ keys).clamp(min=1e-6)


class CrossAttention(nn.Module):
    """Every feature listens to the tokens that it resembles (Eq. 14 and 15)."""

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
        """What x hears (B, n, d), and A."""
        A = self.attend(x, D)
        return A @ self.v(D), A


@dataclass(frozen=True)
class Moments(Sums):
    """Of each token's column of A, over all nodes, float64."""

    number: Tensor  # nodes
    total: Tensor  # (B, M)
    squares: Tensor  # (B, M)


@dataclass(frozen=True)
class SoftmaxSum(Sums):
    """A softmax-weighted sum over some nodes, so that two of them add up.

    exp() of a large number overflows; all are taken relative to the largest so far.
    """

    peak: Tensor  # (B, M, 1) the largest exponent
    weight: Tensor  # (B, M, 1) sum of exp(exponent - peak)
    total: Tensor  # (B, M, d) sum of exp(exponent - peak) x

    def __add__(self, other: "SoftmaxSum") -> "SoftmaxSum":
        peak = torch.maximum(self.peak, other.peak)
        a, b = (self.peak - peak).exp(), (other.peak - peak).exp()
        return SoftmaxSum(
            peak,
            a * self.weight + b * other.weight,
            a * self.total + b * other.total,
        )


class Refinement(nn.Module):
    """Tokens move towards the features that listened to them most (Eq. 17).

    The paper's "Norm" is instance normalisation over the nodes, as in the token
    dictionary that it follows (ATD). Its shift would cancel in the softmax.
    """

    def __init__(self, tokens: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(tokens))
        self.sigma_logit = nn.Parameter(torch.zeros(()))  # sigma starts at 1/2

    def moments(self, A: Tensor) -> Moments:
        """What nodes add to mean and variance: their rows of A (B, n, M)."""
        A = precise(A)
        number = torch.tensor(A.shape[1], device=A.device)
        return Moments(number, A.sum(dim=1), A.square().sum(dim=1))

    def gather(self, A: Tensor, x: Tensor, moments: Moments) -> SoftmaxSum:
        """What nodes x (B, n, d), with their rows of A, add to D^."""
        mean = moments.total / moments.number  # (B, M)
        variance = (moments.squares / moments.number - mean.square()).clamp(min=0)
        norm = (A - mean[:, None]) * (variance + 1e-5).rsqrt()[:, None]  # (B, n, M)
        exponent = (norm * self.scale).transpose(1, 2)  # (B, M, n)
        peak = exponent.detach().amax(dim=-1, keepdim=True)
        part = (exponent - peak).exp()
        return SoftmaxSum(peak, part.sum(dim=-1, keepdim=True), part @ precise(x))

    def forward(self, D: Tensor, found: SoftmaxSum) -> Tensor:
        """The next dictionary (B, M, d)."""
        sigma = self.sigma_logit.sigmoid()
        return sigma * (found.total / found.weight).to(D) + (1 - sigma) * D


class DiffusionLayer(nn.Module):
    """Eq. 16, and then a small MLP on every query alone (ours, see `DIIN`)."""

    def __init__(self, options: DIINOptions):
        super().__init__()
        d = options.width
        self.mixes = options.diffusion == "cosine"
        self.qkv = nn.Linear(d, 3 * d if self.mixes else d)
        if options.dictionary:
            self.listen = CrossAttention(d, options.reduction)
        self.out = nn.Linear(d, d)
        self.alpha = nn.Parameter(torch.ones(()))
        self.hidden, self.answer = nn.Linear(d, d), nn.Linear(d, d)

    def project(self, z: Tensor, part: int) -> Tensor:
        """q, k or v (part 0, 1, 2): (B, n, d) to (B, n, d)."""
        d = z.shape[-1]
        rows = slice(part * d, (part + 1) * d)
        return F.linear(z, self.qkv.weight[rows], self.qkv.bias[rows])

    def gather(self, z: Tensor) -> Heat:
        """What nodes z (B, n, d) add to the sums of this layer."""
        return heat(self.project(z, 1), self.project(z, 2))

    def diffused(self, z: Tensor, total: Heat | None) -> Tensor:
        """P (B, n, d), what diffusion brings; v itself where S is the identity."""
        return diffuse(self.project(z, 0), total) if self.mixes else self.qkv(z)

    def forward(self, z: Tensor, P: Tensor, heard: Tensor | float) -> Tensor:
        """(B, n, d): from before, from other queries, and from the dictionary."""
        z = self.out(P + heard) + self.alpha * z
        return z + self.answer(F.gelu(self.hidden(z)))


class PositionAwareEmbedding(nn.Module):
    """Position and pixel size modulate what was sampled (PAEB, Eq. 9)."""

    def __init__(self, width: int):
        super().__init__()
        self.place = MLP(8, [width], width)
        self.cell = MLP(2, [width], width)
        self.fuse = nn.Linear(width, 2 * width)

    def forward(self, sampled: Tensor, offsets: Tensor, pixel: Tensor) -> Tensor:
        """(B, h, w, d), (B, h, w, 8) and (B, 2) to (B, h, w, d)."""
        e = self.place(offsets) + self.cell(pixel)[:, None, None]
        gain, shift = self.fuse(e).chunk(2, dim=-1)
        return sampled * (1 + gain) + shift


class DIIN(NonLocalModel):
    """Diffusion iterative implicit network.

    With one dictionary for all layers, the matrices that the paper names are too few
    for its parameter counts (0.47 to 0.53 M for a layer at d = 256), at any r. Ours
    adds an MLP to each layer, has r = 4 and M = 128, and prints the same 2.2, 2.7, 3.2
    and 3.7 M for N = 1 ... 4. The head is ours too. Where tokens meet latent codes only
    the attention is used; that block's values (65,792 weights at d = 256) are counted
    as part of the paper's block, and idle.
    """

    def __init__(self, encoder: nn.Module, options: DIINOptions):
        super().__init__(encoder, options)
        C, d, M = encoder.channels, options.width, options.tokens
        # Four codes side by side make d; a linear layer fits them where they do not.
        self.project = nn.Identity() if d == 4 * C else nn.Linear(C, d // 4)
        self.embed = PositionAwareEmbedding(d) if options.paeb else nn.Linear(d, d)
        if options.dictionary:
            self.tokens = nn.Parameter(torch.randn(1, M, d))
            self.lift = nn.Linear(C, d)
            self.first = CrossAttention(d, options.reduction)  # its values: see above
        self.layers = nn.ModuleList(
            [DiffusionLayer(options) for _ in range(options.layers)]
        )
        steps = options.layers if options.dictionary else 0  # before each layer
        self.refine = nn.ModuleList([Refinement(M) for _ in range(steps)])
        self.head = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, 3))
        if options.skip:
            start_at_zero(self.head[-1])

    @property
    def sums(self) -> tuple[str, ...]:
        N, dictionary = self.options.layers, self.options.dictionary
        mixes = self.options.diffusion == "cosine" or (dictionary and N > 1)
        queries = mixes * N + dictionary * max(0, N - 2)
        return ("latents",) * (2 * dictionary) + ("queries",) * queries

    def content(self, latent: Tensor) -> Tensor:
        """A quarter of d for each latent code: (B, H, W, d / 4)."""
        return self.project(latent.movedim(1, -1))

    def sample(self, features: Features, coord: Tensor, cell: Tensor) -> Tensor:
        """Z_0 (B, n, d): the four codes around, each by its share (Eq. 9 to 11)."""
        _, H, W, _ = features.content.shape
        rows, cols = split_axes(coord)
        rows, cols = snap(to_position(rows, H)), snap(to_position(cols, W))
        seen, offsets = [], []
        for i, row, row_share in neighbours(rows, H):
            for j, col, col_share in neighbours(cols, W):
                share = (row_share * col_share)[..., None]
                seen.append(share * look_up(features.content, i, j))
                offsets += [axis.expand(coord.shape[:3]) for axis in (2 * row, 2 * col)]
        sampled, offsets = torch.cat(seen, dim=-1), torch.stack(offsets, dim=-1)
        if self.options.paeb:
            pixel = cell * cell.new_tensor([H, W])  # (B, 2), which is 2 / s
            z = self.embed(sampled, offsets, pixel)
        else:
            z = self.embed(sampled)
        return z.flatten(1, 2)

    def meet(self, features: Features) -> Generator:
        """The dictionary before layer 1: tokens that have met the latent codes."""
        D = self.tokens.repeat(len(features.latent), 1, 1)  # (B, M, d)
        seen = cache(partial(self.listen_to_latents, features, D))
        refine = self.refine[0]
        (moments,) = yield [lambda: refine.moments(seen()[0])]
        (found,) = yield [lambda: refine.gather(*seen(), moments)]
        return refine(D, found)

    def listen_to_latents(self, features: Features, D: Tensor):
        """A (B, H W, M), and the latent codes as wide as queries, (B, H W, d)."""
        x = self.lift(features.latent.flatten(2).transpose(1, 2))
        return self.first.attend(x, D), x

    def answer(self, features: Features, coord: Tensor, cell: Tensor) -> Generator:
        """The colours (B, h, w, 3), on the way asking for sums over all queries.

        A pass over the queries brings all the sums that are ready for it: layer 1 asks
        for its heat and the moments of A; from layer 2 on a layer asks for its heat and
        for the tokens that the layer before refines, and then, if these are needed
        once more, for the moments of its own A.
        """
        N, dictionary = self.options.layers, self.options.dictionary
        D = (yield from self.meet(features)) if dictionary else None
        z = self.sample(features, coord, cell)  # (B, n, d)
        heard, A, moments = 0.0, None, None
        if dictionary:
            heard, A = self.layers[0].listen(z, D)  # (B, n, d), (B, n, M)
        for k, layer in enumerate(self.layers):
            again = dictionary and k + 1 < N  # the tokens will be refined once more
            wanted = [partial(layer.gather, z)] if layer.mixes else []
            if dictionary and k > 0:
                wanted.append(partial(self.refine[k].gather, A, z, moments))
            elif again:
                wanted.append(partial(self.refine[1].moments, A))
            found = list((yield wanted)) if wanted else []
            P = layer.diffused(z, found.pop(0) if layer.mixes else None)
            if dictionary and k > 0:
                D = self.refine[k](D, found.pop())
                heard, A = layer.listen(z, D)
                if again:
                    (moments,) = yield [partial(self.refine[k + 1].moments, A)]
            elif again:
                moments = found.pop()
            z = layer(z, P, heard)  # (B, n, d)
        return self.head(z).view(*coord.shape[:3], 3)
