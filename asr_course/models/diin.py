r"""DIIN: queries as nodes of a graph, their features as heat that spreads.

Dai, Wang, Guo, Wang and Zhu, "DIIN: Diffusion Iterative Implicit Network for
Arbitrary-scale Super-resolution", IJCAI 2025. The authors' code was not public; what
the paper leaves open is ours, and marked.

    dz_i / dt = sum_j S_ij (z_j - z_i)           (Eq. 1; a step in time: Eq. 2)
    S_ij = w_ij / sum_l w_il                     w_ij = 1 + cos(q_i, k_j)  (Eq. 5, 6)
    P    = S V                                   diffusion (Eq. 12 and 13)
    A    = softmax(cos(Q, K_D) / tau)            attention to M tokens (Eq. 15)
    H    = W (P + A V_D) + alpha Z               one layer (Eq. 16)
    D'   = sigma D^ + (1 - sigma) D              tokens are refined (Eq. 17)

The parts are in diin_layers.py, their order is here. (Names differ by a letter: DIINN
has interactive branches, DIIF slices, DIIN diffusion of features, IDM that of pixels.)

Letters: B batch, C channels, H W low-resolution grid, h w queries, n = h w, M tokens,
d features of a query; Z features, Q K V linear maps of them, K_D V_D of the tokens D.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from asr_course.coords import Queries, neighbours, snap, to_position
from asr_course.errors import UserError
from asr_course.layers import (
    Features,
    ImplicitModel,
    count_weights,
    look_up,
    relative_cell,
    start_at_zero,
)
from asr_course.models.diin_layers import (
    CrossAttention,
    DiffusionLayer,
    PositionAwareEmbedding,
    Refinement,
    token_moments,
)
from asr_course.totals import in_one_pass, present


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
            both = f"4 and of reduction, {self.reduction}"
            raise UserError(f"width {self.width} is no multiple of {both}")


class DIIN(ImplicitModel):
    """Diffusion iterative implicit network.

    With one dictionary for all layers, the matrices that the paper names are too few
    for its parameter counts (0.47 to 0.53 M a layer at d = 256), at any r. Ours adds an
    MLP to each layer and a head, has r = 4 and M = 128, and counts the same 2.2, 2.7,
    3.2 and 3.7 M for N = 1 ... 4. The values of `first` (65,792 weights) are idle.
    """

    name = "diin"
    is_nonlocal = True
    Options = DIINOptions
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

    def grid_features(self, latent: Tensor) -> Tensor:
        """A quarter of d for each latent code: (B, H, W, d / 4)."""
        return self.project(latent.movedim(1, -1))

    def sample(self, features: Features, queries: Queries, cell: Tensor) -> Tensor:
        """Z_0 (B, n, d): the four codes around, each times its weight (Eq. 9 to 11)."""
        _, H, W, _ = features.grid.shape
        rows = snap(to_position(queries.rows, H))
        cols = snap(to_position(queries.cols, W))
        codes, offsets = [], []
        for i, row, row_weight in neighbours(rows, H):
            for j, col, col_weight in neighbours(cols, W):
                weight = (row_weight * col_weight)[..., None]
                codes.append(weight * look_up(features.grid, i, j))
                offsets.append(Queries(2 * row, 2 * col).grid())
        z = torch.cat(codes, dim=-1)  # (B, h, w, d)
        if self.options.paeb:
            offsets = torch.cat(offsets, dim=-1)  # (B, h, w, 8)
            z = self.embed(z, offsets, relative_cell(cell, features))
        else:
            z = self.embed(z)
        return z.flatten(1, 2)

    def init_tokens(self, features: Features, total: Callable) -> Tensor:
        """The dictionary D before layer 1 (B, M, d): tokens refined by latent codes."""
        D = self.tokens.repeat(len(features.latent), 1, 1)

        @cache  # computed at most once, and not at all where both sums are known
        def attention() -> tuple[Tensor, Tensor]:
            rows, cols = features.inner
            latent = features.latent[:, :, rows, cols]
            x = self.lift(latent.flatten(2).transpose(1, 2))  # (B, H W, d)
            return self.first.attend(x, D), x

        moments = total(lambda: token_moments(attention()[0]), once=True)
        new = total(lambda: self.refine[0].summarise(*attention(), moments), once=True)
        return self.refine[0](D, new)

    def predict(
        self,
        features: Features,
        queries: Queries,
        cell: Tensor,
        total: Callable = present,
    ) -> Tensor:
        """(B, h, w, 3), normalised. Sums that are ready together share one pass."""
        dictionary = self.options.dictionary
        D = self.init_tokens(features, total) if dictionary else None  # (B, M, d)
        z = self.sample(features, queries, cell)  # (B, n, d)
        for k, layer in enumerate(self.layers):
            if not dictionary:
                attn, heat = 0, total(layer.heat, z) if layer.mixes else ()
            elif k == 0:
                attn, A = layer.cross_attention(z, D)  # Eq. 14 and 15
                heat, moments = total(in_one_pass, (layer.heat, z), (token_moments, A))
            else:
                softmax_sum = self.refine[k].summarise, A, z, moments
                heat, new_D = total(in_one_pass, (layer.heat, z), softmax_sum)
                D = self.refine[k](D, new_D)  # Eq. 17
                attn, A = layer.cross_attention(z, D)
                if k + 1 < len(self.layers):
                    moments = total(token_moments, A)
            z = layer(z, layer.diffuse(z, heat), attn)  # Eq. 12, 13 and 16
        return self.head(z).view(*queries.shape, 3)

    def macs(self, latents: int, queries: int, scale: float) -> int:
        """Multiplications of the printed formulas at these sizes, without encoder."""
        L, P, o = latents, queries, self.options
        d, M = o.width, o.tokens
        attention = d * d // o.reduction + M * d // o.reduction  # Q, and Q K_D^T
        tokens = M * d // o.reduction * d + M * d * d  # K_D and V_D
        total = L * count_weights(self.project)
        total += P * count_weights(self.embed, self.head)
        for k, layer in enumerate(self.layers):
            total += P * count_weights(layer.qkv, layer.out, layer.hidden, layer.output)
            total += P * 2 * d * d if layer.mixes else 0
            total += (P * (attention + M * d) + tokens) if o.dictionary else 0
            total += P * M * d if o.dictionary and k + 1 < o.layers else 0  # Eq. 17
        if o.dictionary:
            latent_part = d * self.encoder.channels + attention + M * d
            total += L * latent_part + tokens - M * d * d  # no values there
        return total
