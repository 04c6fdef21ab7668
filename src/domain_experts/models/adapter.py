"""The adapted layer: y = dropout(x W + b), which experts modulate, and its routings.

| routing | gives |
|---|---|
| None, PLAIN | the plain layer |
| Hard, rows grouped by domain | MLoRA; experts in training |
| (B, E) weights, one for all layers or one a layer | MoE-MLoRA's gated sum |

What an expert does is a `Modulation`: low-rank updates (`models.low_rank`), or another subclass.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
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


class Modulation(nn.Module, ABC):
    """The experts of one linear layer: each maps its input x and output y to an output of its own.

    Every expert has parameters of its own, entries of `nn.ParameterList`s by its number, so that a
    leg can train some experts and leave the others, with their moments, alone.
    """

    count = 0
    """Number of experts E."""

    def add(self, generator: torch.Generator) -> None:
        """Append an expert that changes nothing yet."""
        self.append(generator)
        self.count += 1

    @abstractmethod
    def append(self, generator: torch.Generator) -> None:
        """Append the parameters of such an expert."""

    @abstractmethod
    def changes(self, expert: int) -> bool:
        """Whether the expert changes anything."""

    @abstractmethod
    def expert(self, e: int, x: Tensor, y: Tensor) -> Tensor:
        """Outputs (B, d_out) of expert e, from x (B, d_in) and y (B, d_out)."""

    def grouped(self, x: Tensor, y: Tensor, routing: Hard) -> Tensor:
        """Outputs (B, d_out) of rows that stand together by expert."""
        counts = list(routing.counts)
        parts = zip(routing.experts, torch.split(x, counts), torch.split(y, counts), strict=True)
        return torch.cat([self.expert(e, own, out) for e, own, out in parts])

    def gated(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        """Outputs y + sum_e g[b,e] (y_e - y), y_e being those of expert e and g (B, E)."""
        changes = [g[:, e : e + 1] * (self.expert(e, x, y) - y) for e in range(self.count)]
        return y + torch.stack(changes).sum(0)


NewModulation = Callable[[int, int], Modulation]
"""From d_in and d_out to a modulation without experts."""


class AdaptedLinear(nn.Module):
    """A linear layer W (d_in, d_out), b (d_out) with any number of experts."""

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
        self.experts: Modulation | None = None

    def add_expert(self, new: NewModulation, generator: torch.Generator) -> None:
        """Append an expert; the first one says of which kind all are."""
        if self.experts is None:
            self.experts = new(*self.weight.shape)
        self.experts.add(generator)

    def forward(self, x: Tensor, routing: Hard | Tensor | None) -> Tensor:
        """Map x (B, d_in), rows grouped as a Hard routing says, to (B, d_out)."""
        y = torch.addmm(self.bias, x, self.weight)
        if self.dropout is not None:
            y = self.dropout(y)
        if routing is None or routing is PLAIN or self.experts is None:
            return y
        if isinstance(routing, Hard):
            return self.experts.grouped(x, y, routing)
        return self.experts.gated(x, y, routing)


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
        return [p for layer in self._adapted for p in (layer.weight, layer.bias)]

    @property
    def experts(self) -> int:
        """Number of experts E."""
        return max((own.count for own in self._modulations), default=0)

    def experts_moved(self) -> list[bool]:
        """Of each expert, whether it changes anything in some layer."""
        return [any(own.changes(e) for own in self._modulations) for e in range(self.experts)]

    @property
    def _adapted(self) -> list[AdaptedLinear]:
        """The layers with their type, which ModuleList forgets."""
        return cast("list[AdaptedLinear]", list(self.layers))

    @property
    def _modulations(self) -> list[Modulation]:
        return [layer.experts for layer in self._adapted if layer.experts is not None]

    def add_expert(
        self,
        new: NewModulation,
        generator: torch.Generator,
        layers: Sequence[int] | None = None,
    ) -> None:
        """Append one expert to the `layers` (None: to all)."""
        for number, layer in enumerate(self._adapted):
            if layers is None or number in layers:
                layer.add_expert(new, generator)

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
