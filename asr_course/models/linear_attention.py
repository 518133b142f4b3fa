"""HIIF's linear attention: every query attends to all queries, at a cost linear in n.

    y_i = 1/n sum_j (q_i . k_j) v_j = q_i (1/n sum_j k_j^T v_j)

Without softmax the brackets can be moved: one small matrix of all queries together is
enough, the sum of k^T v. It can be added up piece by piece (`asr_course.totals`), so an
output can be drawn in pieces of any size without changing it.

This is the variant "code": k and v are normalised, and a small network follows. The
variant "paper", its Eq. 10 as printed, takes v (k^T q) / sqrt(n), which grows with n,
normalises k and q, and has no network.

Letters: B batch, h w queries, C features of a query, N heads, d = C / N.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from asr_course.totals import number_of, precise


class Products(NamedTuple):
    """What attention needs of all queries together; adds up over pieces."""

    matrix: Tensor  # (B, N, d, d) sum of k^T v, or of k^T q, float64
    number: Tensor  # of queries


class LinearAttention(nn.Module):
    """q (k^T v) over all queries: sum up k^T v once, then multiply each q by it."""

    def __init__(self, width: int, heads: int, variant: str):
        super().__init__()
        self.heads, self.variant = heads, variant
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_k = nn.LayerNorm(width // heads)
        self.norm_other = nn.LayerNorm(width // heads)  # of v ("code") or q ("paper")
        if variant == "code":
            self.mix1, self.mix2 = nn.Linear(width, width), nn.Linear(width, width)

    def project(self, x: Tensor, part: int) -> Tensor:
        """q, k or v (part 0, 1, 2) of queries (B, h, w, C): (B, N, h w, d)."""
        shape = (self.heads, 3, -1)  # the rows of every head: first q, then k, then v
        weight = self.qkv.weight.unflatten(0, shape)[:, part].flatten(0, 1)
        bias = self.qkv.bias.unflatten(0, shape)[:, part].flatten()
        y = F.linear(x, weight, bias).flatten(1, 2)
        return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def summarise(self, x: Tensor) -> Products:
        """What queries x (B, h, w, C) add to the sum."""
        k = self.norm_k(self.project(x, 1))
        other = self.norm_other(self.project(x, 2 if self.variant == "code" else 0))
        matrix = precise(k).transpose(-1, -2) @ precise(other)
        return Products(matrix, number_of(k, 2))

    def forward(self, x: Tensor, products: Products) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C), given the sum over all queries."""
        matrix, number = products
        if self.variant == "code":
            attn = self.project(x, 0) @ (matrix / number).to(x)  # (B, N, h w, d)
        else:
            attn = self.project(x, 2) @ (matrix / number.sqrt()).to(x)
        y = attn.transpose(1, 2).reshape(x.shape) + x
        if self.variant == "paper":
            return y
        return self.mix2(F.gelu(self.mix1(y))) + x
