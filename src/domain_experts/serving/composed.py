"""Modules that serve what several models make together."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Routing, by_row


class Served(NamedTuple):
    """The domains and tasks that one of several models serves, by number."""

    domains: tuple[int, ...]
    tasks: tuple[int, ...]


class Mean(nn.Module):
    """The mean of the logits of several models."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        """Logits (B, T)."""
        return torch.stack([own(fields, dense, domain, routing) for own in self.models]).mean(0)


class ByScope(nn.Module):
    """A logit comes from the model of its row's domain, and of its task.

    Args:
        models: each with domains and tasks numbered as in its scope, or, with `renumbered` false,
            domains as in the data.
        scopes: what each serves; together they serve every domain and task once.
        domains: number of domains D.
        tasks: number of tasks T.
        renumbered: whether a model counts its own domains from 0.
    """

    number: Tensor

    def __init__(
        self,
        models: Sequence[nn.Module],
        scopes: Sequence[Served],
        domains: int,
        tasks: int,
        renumbered: bool,
    ) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.scopes, self.tasks = tuple(scopes), tasks
        number = torch.full((len(scopes), domains), -1)
        for own, scope in zip(number, scopes, strict=True):
            served = torch.tensor(scope.domains)
            own[served] = torch.arange(len(served)) if renumbered else served
        self.register_buffer("number", number, persistent=False)

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        """Logits (B, T); every domain must be known."""
        logits = dense.new_empty(len(domain), self.tasks)
        for model, scope, number in zip(self.models, self.scopes, self.number, strict=True):
            own = number[domain]
            rows = torch.nonzero(own >= 0).squeeze(1)
            if len(rows):
                made = model(fields[rows], dense[rows], own[rows])
                logits[rows.unsqueeze(1), torch.tensor(scope.tasks)] = made
        return logits


class Appended(nn.Module):
    """A router with one more expert for each domain that came after training.

    The rows of the first D domains are routed as before; a later domain has its own expert alone.

    Args:
        router: of D domains and E experts; its weights are soft.
        domains: D.
        experts: E.
        added: number of later domains; theirs are the experts from E on.
    """

    def __init__(self, router: nn.Module, domains: int, experts: int, added: int) -> None:
        super().__init__()
        self.router, self.domains, self.experts, self.added = router, domains, experts, added

    def forward(self, domain: Tensor, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Weights (B, E + added), or a tuple with one a layer."""
        before = self.router(domain.clamp(max=self.domains - 1), x)
        each = tuple(map(by_row, before)) if isinstance(before, tuple) else by_row(before)
        return self.joined(each, domain, x)

    def joined(
        self, before: Tensor | tuple[Tensor, ...], domain: Tensor, x: Tensor
    ) -> Tensor | tuple[Tensor, ...]:
        """Weights of all experts, from those of the first E, which later domains do without."""
        later = torch.arange(self.domains, self.domains + self.added, device=domain.device)
        own = (domain.unsqueeze(1) == later).to(x.dtype)
        known = (domain < self.domains).unsqueeze(1).to(x.dtype)
        if isinstance(before, tuple):
            return tuple(torch.cat([g * known, own], 1) for g in before)
        return torch.cat([before * known, own], 1)
