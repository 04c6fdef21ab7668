"""Low-rank experts: y_e = y + x A_e B_e + c_e (moe_mlora: the adapter of MLoRA)."""

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Hard, Modulation
from domain_experts.models.init import glorot


def rank(width: int, alpha: int) -> int:
    """Rank of the adapter of a layer (moe_mlora: r_l = max(int(h_l / alpha), 1))."""
    return max(width // alpha, 1)


class LowRank(Modulation):
    """Expert e holds A_e (d_in, r), B_e (r, d_out), c_e (d_out); B_e and c_e start at zero.

    Args:
        d_in: width of the layer's input.
        d_out: width of the layer's output.
        alpha: what d_out is divided by to give the rank.
        init: initial distribution of A_e.
        times: the rank, over that of alpha.
    """

    def __init__(self, d_in: int, d_out: int, alpha: int, init: str, times: int = 1) -> None:
        super().__init__()
        self.shape, self.rank, self.init = (d_in, d_out), times * rank(d_out, alpha), init
        self.A = nn.ParameterList()
        self.B = nn.ParameterList()
        self.c = nn.ParameterList()

    def append(self, generator: torch.Generator) -> None:
        d_in, d_out = self.shape
        self.A.append(nn.Parameter(glorot(self.init, d_in, self.rank, generator)))
        self.B.append(nn.Parameter(torch.zeros(self.rank, d_out)))
        self.c.append(nn.Parameter(torch.zeros(d_out)))

    def changes(self, expert: int) -> bool:
        return bool(self.B[expert].any() or self.c[expert].any())

    def expert(self, e: int, x: Tensor, y: Tensor) -> Tensor:
        return y + torch.addmm(self.c[e], x @ self.A[e], self.B[e])

    def gated(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        # in two matrix products, without a (B, E, d_out) tensor
        low = (x @ torch.cat([*self.A], 1)).view(len(x), self.count, self.rank)
        weighted = (low * g.unsqueeze(2)).flatten(1)
        return y + torch.addmm(g @ torch.stack([*self.c]), weighted, torch.cat([*self.B], 0))

    def grouped(self, x: Tensor, y: Tensor, routing: Hard) -> Tensor:
        experts, counts = routing.experts, routing.counts
        if len(set(counts)) > 1:
            return super().grouped(x, y, routing)
        a, b, c = ([p[e] for e in experts] for p in (self.A, self.B, self.c))
        rows = x.reshape(len(experts), counts[0], x.shape[1])
        delta = torch.baddbmm(
            torch.stack(c).unsqueeze(1), torch.bmm(rows, torch.stack(a)), torch.stack(b)
        )
        return y + delta.flatten(0, 1)
