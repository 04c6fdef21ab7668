"""Models as ONNX or as a torch.export program: any batch size, domains mixed in a batch.

In training rows are grouped by domain, which depends on data and has no place in a graph. The
export form computes the same without groups: an adapter is chosen by weights of 0 and 1, and where
domains have towers of their own, all rows visit those of each domain and keep what is of their own.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from domain_experts.models.ctr import CTRModel
from domain_experts.models.fibinet import Bilinear, pairs_of_fields
from domain_experts.models.multi import autoifs
from domain_experts.models.multi.base import MultiModel
from domain_experts.models.routers import Gate, OneHot
from domain_experts.models.star import Star
from domain_experts.serving.composed import Appended, ByScope, Mean

Weights = Tensor | tuple[Tensor, ...]


class Soft(nn.Module):
    """A router's weights without groups; none at all for the rows of unknown domains (-1)."""

    def __init__(self, router: nn.Module, experts: int) -> None:
        super().__init__()
        self.router, self.experts = router, experts

    def forward(self, domain: Tensor, x: Tensor) -> Weights:
        """Weights (B, E), or a tuple with one a layer."""
        known = (domain >= 0).unsqueeze(1).to(x.dtype)
        weights = self._weights(self.router, domain.clamp(min=0), x)
        if isinstance(weights, tuple):
            return tuple(g * known for g in weights)
        return weights * known

    def _weights(self, router: nn.Module, domain: Tensor, x: Tensor) -> Weights:
        if isinstance(router, OneHot):
            numbers = torch.arange(self.experts, device=domain.device)
            return (router.expert[domain].unsqueeze(1) == numbers).to(x.dtype)
        if isinstance(router, Gate):
            # its own forward keeps the weights for the loss, which a graph cannot
            u = router.embedding[domain]
            weights = router._softmax(torch.cat([u, x], 1) if router.features else u)
            return weights[0] if router.layers == 1 else tuple(weights.unbind())
        if isinstance(router, Appended):
            inner = Soft(router.router, router.experts)
            return cast(Weights, Appended(inner, router.domains, router.experts, router.added)(domain, x))
        return cast(Weights, router(domain, x))

class Pairs(nn.Module):
    """FiBiNET's bilinear pairs without buffers that are written to."""

    def __init__(self, bilinear: Bilinear) -> None:
        super().__init__()
        self.bilinear = bilinear

    def forward(self, e: Tensor) -> Tensor:
        """Map e (S, F, d, B) to the pairs (S, P d, B)."""
        W = self.bilinear.W.transpose(2, 3).flatten(1, 2)
        own = [
            torch.bmm(W[:, rows], e[:, i]) * e[:, i + 1 :].flatten(1, 2)
            for i, rows in pairs_of_fields(e)
        ]
        return torch.cat(own, 1)


class ByDomain(nn.Module):
    """Logits of a model that groups rows by domain: all rows as of each domain, then their own."""

    def __init__(self, domains: int) -> None:
        super().__init__()
        self.domains = domains

    def of(self, domain: int, x: Tensor) -> Tensor:
        """Outputs (B, ...) of x (B, I), all rows taken as of one domain."""
        raise NotImplementedError

    def chosen(self, x: Tensor, domain: Tensor) -> Tensor:
        """Outputs (B, ...) of the rows' own domains."""
        outputs = self.of(0, x)
        for d in range(1, self.domains):
            outputs = torch.where((domain == d).unsqueeze(1), self.of(d, x), outputs)
        return outputs

    def counts(self, domain: int, x: Tensor) -> list[int]:
        """Rows of each domain if all are of one."""
        return [x.shape[0] if d == domain else 0 for d in range(self.domains)]


class MultiForm(ByDomain):
    """Of a multi-domain multi-task model."""

    def __init__(self, model: MultiModel) -> None:
        super().__init__(len(model.schema.domains))
        self.model = model

    def of(self, domain: int, x: Tensor) -> Tensor:
        return self.model.grouped(x, self.counts(domain, x))

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        x = torch.cat([self.model.embedding(fields).flatten(1), dense], 1)
        outputs = self.chosen(x, domain)
        if not isinstance(self.model, autoifs.Model):
            return outputs
        flows = outputs.view(-1, 1 + autoifs.FLOWS, self.model.tasks)
        return flows[:, 0] - (self.model.gates(fields, dense) * flows[:, 1:]).sum(1)


class StarForm(ByDomain):
    """Of STAR."""

    def __init__(self, model: Star) -> None:
        super().__init__(len(model.schema.domains))
        self.model = model

    def of(self, domain: int, x: Tensor) -> Tensor:
        for layer in self.model.layers:
            x = torch.relu(layer(x, self.counts(domain, x)))
        return x

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        model = self.model
        x = torch.cat([model.embedding(fields).flatten(1), dense], 1)
        logits = self.chosen(model.norm(x, domain), domain) @ model.head + model.bias
        return logits if model.auxiliary is None else logits + model.auxiliary(x, domain)


class ScopesForm(nn.Module):
    """Of several models: all rows visit each one, and keep what is of their domain and task."""

    def __init__(self, several: ByScope) -> None:
        super().__init__()
        self.forms = nn.ModuleList(map(export_form, several.models))
        self.scopes, self.tasks = several.scopes, several.tasks
        self.register_buffer("number", several.number, persistent=False)

    number: Tensor

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        columns: list[Tensor | None] = [None] * self.tasks
        for i, (form, scope) in enumerate(zip(self.forms, self.scopes, strict=True)):
            own = self.number[i][domain]
            logits = form(fields, dense, own.clamp(min=0))
            for place, task in enumerate(scope.tasks):
                before, mine = columns[task], logits[:, place]
                columns[task] = mine if before is None else torch.where(own >= 0, mine, before)
        return torch.stack([column for column in columns if column is not None], 1)


class MeanForm(nn.Module):
    """Of the mean of several models."""

    def __init__(self, several: Mean) -> None:
        super().__init__()
        self.forms = nn.ModuleList(map(export_form, several.models))

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        return torch.stack([form(fields, dense, domain) for form in self.forms]).mean(0)


def export_form(module: nn.Module) -> nn.Module:
    """The same function of fields, dense and domain, as one graph for all batches.

    Args:
        module: as `rebuild` gives it; it is left as it is.
    """
    module = copy.deepcopy(module)
    if isinstance(module, MultiModel):
        return MultiForm(module)
    if isinstance(module, Star):
        return StarForm(module)
    if isinstance(module, ByScope):
        return ScopesForm(module)
    if isinstance(module, Mean):
        return MeanForm(module)
    for name, part in module.named_children():
        if isinstance(part, Bilinear):
            setattr(module, name, Pairs(part))
    if isinstance(module, CTRModel) and module.router is not None:
        module.router = Soft(module.router, module.experts)
    return module


def traced(module: nn.Module) -> torch.export.ExportedProgram:
    """The export form of a module as a program of torch.export."""
    ...
