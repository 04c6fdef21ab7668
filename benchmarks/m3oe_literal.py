"""M3oE written down as its equations stand, in the manner of the released code.

Every row goes through the bottom layers of all D domains and through all D T gates and towers; what
belongs to its domain is picked by `where`. Each layer is a module of its own.
"""

from typing import Any

import torch
from torch import Tensor, nn

from domain_experts.models.multi.m3oe import Model


class LiteralM3oE(nn.Module):
    """M3oE with its modules summed (eq. 1-10), with a copy of a model's weights.

    Args:
        model: M3oE of at least two domains and two tasks.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.D, self.T = len(model.schema.domains), len(model.schema.tasks)
        # modules in modules have lost their types
        own: Any = model
        tables = own.embedding.weight.split(list(model.schema.sizes))
        self.tables = nn.ParameterList(map(copy, tables))
        star = own.representation
        self.W, self.b = nn.Parameter(copy(star.weight)), nn.Parameter(copy(star.bias))
        self.W_d = nn.ParameterList(map(copy, star.weights))
        self.b_d = nn.ParameterList(map(copy, star.biases))
        self.conversion, self.adaptation = layer(own.conversion, 0), layer(own.adaptation, 0)
        self.E, self.F, self.G = (
            nn.ModuleList(layer(bank, e) for e in range(len(bank.W)))
            for bank in (own.shared, own.by_domain, own.by_task)
        )
        self.gates, self.towers = nn.ModuleList(), nn.ModuleList()
        gates, towers, N = own.gates, own.towers, len(self.E)
        for t in range(self.T):
            for d in range(self.D):
                n = slice(t * N, (t + 1) * N)
                self.gates.append(
                    nn.Sequential(linear(gates.W[d][:, n], gates.b[d][n]), nn.Softmax(1))
                )
                head = linear(towers.v[d, t].unsqueeze(1), towers.c[d, t].unsqueeze(0))
                self.towers.append(nn.Sequential(layer(towers, (d, t)), head))
        self.fusion = nn.ParameterList(copy(own.fusion[k]) for k in ("a_D", "a_T", "b_D", "b_T"))

    def logits(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        a_D, a_T, b_D, b_T = (scalar.sigmoid() for scalar in self.fusion)
        e = [nn.functional.embedding(fields[:, j], t) for j, t in enumerate(self.tables)]
        x = torch.cat([*e, dense], 1)
        versions = [
            x @ (W_d * self.W) + b_d + self.b for W_d, b_d in zip(self.W_d, self.b_d, strict=True)
        ]
        h = self.conversion(of_own_domain(versions, domain)) + self.adaptation(x)
        E, F, G = ([expert(h) for expert in bank] for bank in (self.E, self.F, self.G))
        by_domain = [balanced(F, d, b_D) for d in range(self.D)]
        by_task = [balanced(G, t, b_T) for t in range(self.T)]
        view = h.detach()
        columns = []
        for t in range(self.T):
            heads = []
            for d in range(self.D):
                g = self.gates[t * self.D + d](view)
                S = torch.stack([g[:, n : n + 1] * expert for n, expert in enumerate(E)]).sum(0)
                fused = S + a_D * by_domain[d] + a_T * by_task[t]
                heads.append(self.towers[t * self.D + d](fused))
            columns.append(of_own_domain(heads, domain))
        return torch.cat(columns, 1)

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Probabilities (B, T)."""
        return torch.sigmoid(self.logits(fields, dense, domain))

    def loss(self, found: Tensor, labels: Tensor, domain: Tensor) -> Tensor:
        """Sum over domains and tasks of the mean cross entropy of their rows (eq. 12)."""
        total = found.new_zeros(())
        for d in range(self.D):
            own = domain == d
            if own.any():
                for t in range(self.T):
                    predicted, true = found[own, t], labels[own, t]
                    total = total + nn.functional.binary_cross_entropy(predicted, true)
        return total


def copy(weight: Tensor) -> Tensor:
    """A tensor of its own."""
    return weight.detach().clone()


def linear(W: Tensor, b: Tensor) -> nn.Linear:
    """The linear layer x W + b."""
    made = nn.Linear(*W.shape)
    made.weight = nn.Parameter(copy(W.T).contiguous())
    made.bias = nn.Parameter(copy(b))
    return made


def layer(bank: Any, e: int | tuple[int, int]) -> nn.Sequential:
    """ReLU(LN(Linear)), the one at place `e` of layers side by side."""
    norm = nn.LayerNorm(bank.gamma[e].shape)
    norm.weight, norm.bias = nn.Parameter(copy(bank.gamma[e])), nn.Parameter(copy(bank.beta[e]))
    return nn.Sequential(linear(bank.W[e], bank.b[e]), norm, nn.ReLU())


def of_own_domain(versions: list[Tensor], domain: Tensor) -> Tensor:
    """Of D versions (B, h), that of each row's domain."""
    chosen = torch.zeros_like(versions[0])
    for d, version in enumerate(versions):
        chosen = torch.where((domain == d).unsqueeze(1), version, chosen)
    return chosen


def balanced(experts: list[Tensor], i: int, w: Tensor) -> Tensor:
    """Expert i against the mean of the n - 1 others: w E_i + (1 - w) / (n - 1) sum of them."""
    others = [expert for j, expert in enumerate(experts) if j != i]
    return w * experts[i] + (1 - w) / len(others) * torch.stack(others).sum(0)
