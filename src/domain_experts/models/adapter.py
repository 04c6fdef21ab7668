"""The adapted layer: y = dropout(x W + b) + sum_e g[b,e] (x A_e B_e + c_e), and its routings.

| routing | gives |
|---|---|
| None, PLAIN | the plain layer |
| Hard, rows grouped by domain | MLoRA; an expert of phase 2 |
| (B, E) weights, one for all layers or one a layer | MoE-MLoRA's gated sum |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from domain_experts.models.dropout import KeyedDropout
from domain_experts.models.init import glorot


@dataclass(frozen=True)
class Hard:
    """One expert per row: after `order`, `counts[i]` rows stand together for `experts[i]`.

    `order` is a permutation of the batch (B,), or None if the rows already stand so.
    """

    experts: tuple[int, ...]
    counts: tuple[int, ...]
    order: Tensor | None = None


Routing = Hard | Tensor | tuple[Tensor, ...] | None
PLAIN = Hard((), ())
"""The shared layers alone, though the model has a router."""


def rank(width: int, alpha: int) -> int:
    """Rank of the adapter of a layer (moe_mlora: r_l = max(int(h_l / alpha), 1))."""
    return max(width // alpha, 1)


class AdaptedLinear(nn.Module):
    """A linear layer W (d_in, d_out), b (d_out) with any number of low-rank experts.

    Expert e holds A_e (d_in, r), B_e (r, d_out), c_e (d_out) as parameters of its own, so that a
    phase can train some experts and leave the others, with their moments, alone.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        dropout: KeyedDropout | None,
        init: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(glorot(init, d_in, d_out, generator))
        self.bias = nn.Parameter(torch.zeros(d_out))
        self.dropout = dropout
        self.A = nn.ParameterList()
        self.B = nn.ParameterList()
        self.c = nn.ParameterList()

    def add_expert(self, r: int, init: str, generator: torch.Generator) -> None:
        """Append an expert of rank r that adds nothing yet (B = c = 0)."""
        d_in, d_out = self.weight.shape
        self.A.append(nn.Parameter(glorot(init, d_in, r, generator)))
        self.B.append(nn.Parameter(torch.zeros(r, d_out)))
        self.c.append(nn.Parameter(torch.zeros(d_out)))

    def adds(self, expert: int) -> bool:
        """Whether an expert adds something."""
        return bool(self.B[expert].any() or self.c[expert].any())

    def forward(self, x: Tensor, routing: Hard | Tensor | None) -> Tensor:
        """Map x (B, d_in), rows grouped as a Hard routing says, to (B, d_out)."""
        y = torch.addmm(self.bias, x, self.weight)
        if self.dropout is not None:
            y = self.dropout(y)
        if routing is None or routing is PLAIN or not len(self.A):
            return y
        if isinstance(routing, Hard):
            return y + self._grouped(x, routing)
        return y + self._gated(x, routing)

    def _gated(self, x: Tensor, g: Tensor) -> Tensor:
        """sum_e g[b,e] (x A_e B_e + c_e) in two matrix products, without a (B, E, d_out) tensor."""
        low = (x @ torch.cat([*self.A], 1)).view(len(x), len(self.A), self.A[0].shape[1])
        weighted = (low * g.unsqueeze(2)).flatten(1)
        return torch.addmm(g @ torch.stack([*self.c]), weighted, torch.cat([*self.B], 0))

    def _grouped(self, x: Tensor, routing: Hard) -> Tensor:
        """Add up x A_e B_e + c_e for the rows of each expert e."""
        experts, counts = routing.experts, routing.counts
        a, b, c = ([p[e] for e in experts] for p in (self.A, self.B, self.c))
        if len(set(counts)) == 1:
            rows = x.reshape(len(experts), counts[0], x.shape[1])
            delta = torch.baddbmm(
                torch.stack(c).unsqueeze(1), torch.bmm(rows, torch.stack(a)), torch.stack(b)
            )
            return delta.flatten(0, 1)
        parts = zip(torch.split(x, list(counts)), a, b, c, strict=True)
        return torch.cat([torch.addmm(ce, rows @ ae, be) for rows, ae, be, ce in parts])


class Tower(nn.Module):
    """The deep tower: adapted layers with ReLU, x_l = ReLU(AdaptedLinear(x_{l-1})).

    Dropout acts on the shared branch before the activation; with `dropout_last` on all that leaves
    the activation.
    """

    def __init__(
        self,
        d_in: int,
        hidden: Sequence[int],
        dropout: KeyedDropout,
        dropout_last: bool,
        init: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.dropout_last = dropout if dropout_last else None
        inside = None if dropout_last else dropout
        self.layers = nn.ModuleList(
            AdaptedLinear(i, o, inside, init, generator) for i, o in pairwise([d_in, *hidden])
        )

    def shared(self) -> list[nn.Parameter]:
        """The shared weights W and b of every layer."""
        return [p for name, p in self.named_parameters() if name.endswith(("weight", "bias"))]

    @property
    def experts(self) -> int:
        """Number of experts E."""
        return max(len(layer.A) for layer in self._adapted)

    def experts_moved(self) -> list[bool]:
        """Of each expert, whether it adds something in some layer."""
        adapted = [layer for layer in self._adapted if len(layer.A)]
        return [any(layer.adds(e) for layer in adapted) for e in range(self.experts)]

    @property
    def _adapted(self) -> list[AdaptedLinear]:
        """The layers with their type, which ModuleList forgets."""
        return cast("list[AdaptedLinear]", list(self.layers))

    def add_expert(
        self,
        alpha: int,
        init: str,
        generator: torch.Generator,
        layers: Sequence[int] | None = None,
        times: int = 1,
    ) -> None:
        """Append one expert to the `layers` (None: to all), of `times` the rank of alpha."""
        for number, layer in enumerate(self._adapted):
            if layers is None or number in layers:
                layer.add_expert(times * rank(layer.weight.shape[1], alpha), init, generator)

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """Map x (B, d_in) to (B, hidden[-1])."""
        order = routing.order if isinstance(routing, Hard) else None
        if order is not None:
            x = x[order]
        for number, layer in enumerate(self._adapted):
            x = torch.relu_(layer(x, routing[number] if isinstance(routing, tuple) else routing))
            if self.dropout_last is not None:
                x = self.dropout_last(x)
        if order is None:
            return x
        return torch.empty_like(x).index_copy(0, order, x)
