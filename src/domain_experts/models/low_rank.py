"""Low-rank experts: y_e = y + x A_e B_e + c_e (moe_mlora: the adapter of MLoRA)."""

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import ByDomain, Hard, Modulation
from domain_experts.models.functions import applied, of_one_type
from domain_experts.models.groups import OwnProducts
from domain_experts.models.init import glorot

WORTH_IT = 2
"""How many times as many multiplications a domain's own products must save: they are small."""


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

    U: Tensor | None
    V: Tensor | None

    def __init__(self, d_in: int, d_out: int, alpha: int, init: str, times: int = 1) -> None:
        super().__init__()
        self.shape, self.rank, self.init = (d_in, d_out), times * rank(d_out, alpha), init
        self.A = nn.ParameterList()
        self.B = nn.ParameterList()
        self.c = nn.ParameterList()
        self.register_buffer("U", None, persistent=False)
        self.register_buffer("V", None, persistent=False)

    def stay_out(self, weight: Tensor, directions: int) -> None:
        """Keep every expert out of the leading singular directions of the layer's weights W.

        With W = U S V^T and U_k, V_k the first k columns, an expert's matrix is
        (I - U_k U_k^T) A_e B_e (I - V_k V_k^T): it is the part of the update that SD-MoE (Huang et
        al. 2026, arXiv 2602.12556, section 3) leaves to an expert, the rest going to weights that
        all share. Here those are the frozen backbone's, so that the rest is dropped and the
        directions need no refreshing. As factors of the matrix, not of its gradient, they hold
        whatever the optimiser does.
        """
        U, _, V = torch.linalg.svd(weight.detach(), full_matrices=False)
        self.U, self.V = U[:, :directions].contiguous(), V[:directions].T.contiguous()

    @torch.no_grad()
    def settle(self) -> None:
        """Put the projections into A_e and B_e: outputs stay, and nothing holds them from now."""
        for e in range(self.count):
            a, b = self._factors(e)
            self.A[e].copy_(a)
            self.B[e].copy_(b)
        self.U = self.V = None

    def _factors(self, e: int) -> tuple[Tensor, Tensor]:
        """A_e and B_e, projected if the experts stay out of some directions."""
        a, b = self.A[e], self.B[e]
        if self.U is None or self.V is None:
            return a, b
        return a - self.U @ (self.U.T @ a), b - (b @ self.V) @ self.V.T

    def append(self, generator: torch.Generator) -> None:
        d_in, d_out = self.shape
        self.A.append(nn.Parameter(glorot(self.init, d_in, self.rank, generator)))
        self.B.append(nn.Parameter(torch.zeros(self.rank, d_out)))
        self.c.append(nn.Parameter(torch.zeros(d_out)))

    def changes(self, expert: int) -> bool:
        return bool(self._factors(expert)[1].any() or self.c[expert].any())

    def expert(self, e: int, x: Tensor, y: Tensor) -> Tensor:
        a, b = self._factors(e)
        return y + torch.addmm(self.c[e], x @ a, b)

    def gated(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        # in two matrix products, without a (B, E, d_out) tensor
        a, b = zip(*map(self._factors, range(self.count)), strict=True)
        low = (x @ torch.cat(a, 1)).view(len(x), self.count, self.rank)
        weighted = (low * g.unsqueeze(2)).flatten(1)
        return y + torch.addmm(g @ torch.stack([*self.c]), weighted, torch.cat(b, 0))

    def by_domain(self, x: Tensor, y: Tensor, routing: ByDomain) -> Tensor:
        domains, (d_in, d_out) = len(routing.table), self.shape
        # multiplications: through the experts' ranks, or by one matrix a domain, made first
        by_rank = len(x) * self.count * self.rank * (d_in + d_out)
        by_matrix = (len(x) + self.count * (self.rank + domains)) * d_in * d_out
        if by_rank < WORTH_IT * by_matrix:
            return self.gated(x, y, routing.weights)
        a, b = zip(*map(self._factors, range(self.count)), strict=True)
        each = torch.bmm(torch.stack(a), torch.stack(b)).flatten(1)
        W = (routing.table @ each).view(domains, d_in, d_out)
        c = routing.table @ torch.stack([*self.c])
        return y + applied(OwnProducts, *of_one_type(x, W, c), routing.domain)

    def grouped(self, x: Tensor, y: Tensor, routing: Hard) -> Tensor:
        experts, counts = routing.experts, routing.counts
        if len(set(counts)) > 1:
            return super().grouped(x, y, routing)
        a, b = zip(*map(self._factors, experts), strict=True)
        c = [self.c[e] for e in experts]
        rows = x.reshape(len(experts), counts[0], x.shape[1])
        delta = torch.baddbmm(
            torch.stack(c).unsqueeze(1), torch.bmm(rows, torch.stack(a)), torch.stack(b)
        )
        return y + delta.flatten(0, 1)
