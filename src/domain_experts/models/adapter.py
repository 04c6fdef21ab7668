"""The adapted layer: y = dropout(x W + b), which experts modulate, and its routings.

| routing | gives |
|---|---|
| None, PLAIN | the plain layer |
| Hard, rows grouped by domain | MLoRA; experts in training |
| (B, E) weights, one for all layers or one a layer | MoE-MLoRA's gated sum |
| ByDomain, a table of such weights | the same, with products by domain where they are fewer |

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


@dataclass(frozen=True)
class Owned:
    """Weights (B, E) of a gate, and which experts each row may change: `own` (B, E), 0 or 1."""

    weights: Tensor
    own: Tensor


@dataclass(frozen=True)
class ByDomain:
    """Weights of a gate that go by the domain alone: `table` (D, E) of the rows' `domain` (B,)."""

    table: Tensor
    domain: Tensor

    @property
    def weights(self) -> Tensor:
        """Those of each row, (B, E)."""
        return self.table[self.domain]


Soft = Tensor | Owned | ByDomain
Routing = Hard | Soft | tuple[Soft, ...] | None
EPSILON = 1e-6
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

    def by_domain(self, x: Tensor, y: Tensor, routing: ByDomain) -> Tensor:
        """As `gated`."""
        return self.gated(x, y, routing.weights)

    def owned(self, x: Tensor, y: Tensor, routing: Owned) -> Tensor:
        """As `gated`, but a row sends no gradient into the weights of experts it does not own."""
        g, own = routing.weights, routing.own.to(routing.weights.dtype)
        fixed = {name: value.detach() for name, value in self.named_parameters()}
        others: Tensor = torch.func.functional_call(self, fixed, (x, y, g * (1 - own)))
        return self.gated(x, y, g * own) + (others - y)

    def forward(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        """`gated`, for `owned` to call with other parameters."""
        return self.gated(x, y, g)


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
        self.shared: Modulation | None = None
        """Experts that serve every row, whatever the routing."""
        self.orthogonality = 0.0
        self.overlap: Tensor | None = None
        """Of the last batch, if orthogonality is asked for."""

    def add_expert(
        self, new: NewModulation, generator: torch.Generator, shared: bool = False
    ) -> None:
        """Append an expert; the first one says of which kind all are.

        A `shared` one serves every row (DeepSeekMoE, Dai et al. 2024, section 3.2).
        """
        own = self.shared if shared else self.experts
        if own is None:
            own = new(*self.weight.shape)
            setattr(self, "shared" if shared else "experts", own)
        own.add(generator)

    def forward(self, x: Tensor, routing: Hard | Soft | None) -> Tensor:
        """Map x (B, d_in), rows grouped as a Hard routing says, to (B, d_out)."""
        y = torch.addmm(self.bias, x, self.weight)
        if self.dropout is not None:
            y = self.dropout(y)
        if self.shared is not None:
            y = self.shared.gated(x, y, x.new_ones(()).expand(len(x), self.shared.count))
        if routing is None or routing is PLAIN or self.experts is None:
            return y
        if isinstance(routing, Hard):
            return self.experts.grouped(x, y, routing)
        if self.orthogonality and self.training:
            changes = [self.experts.expert(e, x, y) - y for e in range(self.experts.count)]
            self.overlap = overlap(torch.stack(changes, 1), by_row(routing) > 0)
        if isinstance(routing, Owned):
            return self.experts.owned(x, y, routing)
        if isinstance(routing, ByDomain):
            return self.experts.by_domain(x, y, routing)
        return self.experts.gated(x, y, routing)


def by_row(routing: Soft) -> Tensor:
    """Weights (B, E) of each row."""
    return routing if isinstance(routing, Tensor) else routing.weights


def overlap(changes: Tensor, chosen: Tensor) -> Tensor:
    """How far experts' outputs lie along one another: 0 if they are orthogonal in every row.

    The mean over rows b and ordered pairs e != f of |<y_e, y_f> / (<y_f, y_f> + eps) y_f|^2, the
    squared length of the projection of y_e on y_f, where y_e = 0 for an expert that a row has not
    chosen (Guo et al. 2025, arXiv 2505.22323, equation 5, there summed: the mean keeps its scale
    whatever the batch and the number of experts).

    Args:
        changes: what each expert adds, (B, E, d).
        chosen: experts of each row, bool (B, E).
    """
    experts = changes.shape[1]
    y = changes * chosen.unsqueeze(2)
    products = y @ y.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2).unsqueeze(1)
    lengths = (products / (squares + EPSILON)) ** 2 * squares
    others = 1 - torch.eye(experts, dtype=y.dtype, device=y.device)
    return (lengths * others).sum() / (len(y) * max(experts * (experts - 1), 1))


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
        return [p for layer in self.adapted for p in (layer.weight, layer.bias)]

    @property
    def experts(self) -> int:
        """Number of experts E."""
        return max((own.count for own in self._modulations), default=0)

    def experts_moved(self) -> list[bool]:
        """Of each expert, whether it changes anything in some layer."""
        return [any(own.changes(e) for own in self._modulations) for e in range(self.experts)]

    def demand_orthogonality(self, weight: float) -> None:
        """From now on have `auxiliary` add that much of the experts' overlap to the loss."""
        for layer in self.adapted:
            layer.orthogonality = weight

    def auxiliary(self) -> list[Tensor]:
        """The terms that the last batch adds to the loss: the overlap, the layers' mean."""
        terms = [a.orthogonality * a.overlap for a in self.adapted if a.overlap is not None]
        return [torch.stack(terms).mean()] if terms else []

    @property
    def adapted(self) -> list[AdaptedLinear]:
        """The layers with their type, which ModuleList forgets."""
        return cast("list[AdaptedLinear]", list(self.layers))

    @property
    def _modulations(self) -> list[Modulation]:
        return [layer.experts for layer in self.adapted if layer.experts is not None]

    def add_expert(
        self,
        new: NewModulation,
        generator: torch.Generator,
        layers: Sequence[int] | None = None,
        shared: bool = False,
    ) -> None:
        """Append one expert, `shared` by all rows or not, to the `layers` (None: to all)."""
        for number, layer in enumerate(self.adapted):
            if layers is None or number in layers:
                layer.add_expert(new, generator, shared)

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """Map x (B, d_in) to (B, hidden[-1])."""
        order = routing.order if isinstance(routing, Hard) else None
        if order is not None:
            x = x[order]
        for number, layer in enumerate(self.adapted):
            x = torch.relu_(layer(x, routing[number] if isinstance(routing, tuple) else routing))
            if self.dropout_last is not None:
                x = self.dropout_last(x)
        if order is None:
            return x
        return torch.empty_like(x).index_copy(0, order, x)
