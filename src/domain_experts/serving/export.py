"""Models as ONNX or as a torch.export program: any batch size, domains mixed in a batch.

In training rows are grouped by domain, which depends on data and has no place in a graph. The
export form computes the same without groups: an adapter is chosen by weights of 0 and 1, and where
domains have towers of their own, all rows visit those of each domain and keep what is of their own.
"""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import cast
from unittest.mock import patch

import torch
from torch import Tensor, nn

from domain_experts.errors import UserError
from domain_experts.files import replacing
from domain_experts.models import autoint, xdeepfm
from domain_experts.models.ctr import CTRModel
from domain_experts.models.fibinet import Bilinear, pairs_of_fields
from domain_experts.models.multi import adaptdhm, autoifs
from domain_experts.models.multi.base import MultiModel
from domain_experts.models.own_parts import OwnParts
from domain_experts.models.routers import Gate, OneHot
from domain_experts.models.star import Star
from domain_experts.serving.composed import Appended, ByScope, Mean
from domain_experts.serving.model import SavedModel
from domain_experts.suggest import unknown

SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}
INPUTS = ("fields", "dense", "domain")
MOST = 2**31 - 1
"""Rows of a batch."""
WHOLE = 2**31
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
            return self._appended(router, domain, x)
        return cast(Weights, router(domain, x))

    def _appended(self, router: Appended, domain: Tensor, x: Tensor) -> Weights:
        before = self._weights(router.router, domain.clamp(max=router.domains - 1), x)
        return router.joined(before, domain, x)


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
        """Outputs (B, ...) of the rows' own domains; no numbers of an unknown one."""
        outputs: Tensor | float = torch.nan
        for d in range(self.domains):
            outputs = torch.where((domain == d).unsqueeze(1), self.of(d, x), outputs)
        assert isinstance(outputs, Tensor)
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


class ClusterForm(ByDomain):
    """Of AdaptDHM, which groups rows by cluster."""

    def __init__(self, model: adaptdhm.Model) -> None:
        super().__init__(model.clusters)
        self.model = model

    def of(self, domain: int, x: Tensor) -> Tensor:
        return self.model.by_cluster(x, self.counts(domain, x))

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        x = torch.cat([self.model.embedding(fields).flatten(1), dense], 1)
        logits = self.chosen(x, self.model.clustering(x))
        return torch.where((domain >= 0).unsqueeze(1), logits, torch.nan)


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
        columns = [torch.full_like(domain, torch.nan, dtype=dense.dtype)] * self.tasks
        for i, (form, scope) in enumerate(zip(self.forms, self.scopes, strict=True)):
            own = torch.where(domain < 0, -1, self.number[i][domain.clamp(min=0)])
            logits = form(fields, dense, own.clamp(min=0))
            for place, task in enumerate(scope.tasks):
                columns[task] = torch.where(own >= 0, logits[:, place], columns[task])
        return torch.stack(columns, 1)


class OwnPartsForm(nn.Module):
    """Of a model with parts of each domain's own; of an unknown domain, what is shared."""

    def __init__(self, module: OwnParts) -> None:
        super().__init__()
        domains = len(module.schema.domains)
        self.forms = nn.ModuleList()
        for d in range(-1, domains):
            own = copy.deepcopy(module.shared)
            own.load_state_dict(module.weights(d), strict=False)
            self.forms.append(export_form(own))

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        inputs = fields, dense, domain
        shared, *forms = self.forms
        logits: Tensor = shared(*inputs)
        for d, form in enumerate(forms):
            logits = torch.where((domain == d).unsqueeze(1), form(*inputs), logits)
        return logits


class MeanForm(nn.Module):
    """Of the mean of several models."""

    def __init__(self, several: Mean) -> None:
        super().__init__()
        self.forms = nn.ModuleList(map(export_form, several.models))

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        return torch.stack([form(fields, dense, domain) for form in self.forms]).mean(0)


FORMS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    adaptdhm.Model: ClusterForm,
    MultiModel: MultiForm,
    Star: StarForm,
    ByScope: ScopesForm,
    OwnParts: OwnPartsForm,
    Mean: MeanForm,
}
"""Model -> its graph; the first that fits."""


def export_form(module: nn.Module) -> nn.Module:
    """The same function of fields, dense and domain, as one graph for all batches.

    Args:
        module: as `rebuild` gives it; it is left as it is.
    """
    module = copy.deepcopy(module)
    for kind, form in FORMS.items():
        if isinstance(module, kind):
            return form(module)
    for name, part in module.named_children():
        if isinstance(part, Bilinear):
            setattr(module, name, Pairs(part))
    if isinstance(module, CTRModel) and module.router is not None:
        module.router = Soft(module.router, module.experts)
    return module


def program(model: SavedModel) -> torch.export.ExportedProgram:
    """A model as a program of torch.export: fields, dense and domain to logits.

    Domains are numbers from 0; -1, an unknown one, is served as `SavedModel.logits` says where
    low-rank experts route; where each domain has a tower of its own its logits are no numbers.
    """
    schema, rows = model.schema, 2
    example = (
        torch.zeros(rows, schema.columns, dtype=torch.int32),
        torch.zeros(rows, len(schema.dense)),
        torch.zeros(rows, dtype=torch.int64),
    )
    batch = torch.export.Dim("rows", min=1, max=MOST)
    # in one piece: the pieces that fit a cache would depend on the size of the batch
    whole = patch.object(autoint, "ROWS", WHOLE), patch.object(xdeepfm, "PRODUCTS", WHOLE**2)
    with torch.no_grad(), whole[0], whole[1]:
        return torch.export.export(
            export_form(model.module),
            example,
            dynamic_shapes=tuple({0: batch} for _ in example),
            strict=True,
        )


def export(model: SavedModel, form: str, target: Path) -> None:
    """Write a model to one file, and its domains and tasks into the file's metadata.

    Raises:
        UserError: it cannot be written in this form, or what makes it is not installed.
    """
    if form not in SUFFIX:
        raise UserError(unknown("form of export", form, SUFFIX))
    if target.suffix != SUFFIX[form]:
        raise UserError(f"{target}: a model in the form {form} is a file *{SUFFIX[form]}")
    if model.identity.settings.training.precision != "float32":
        raise UserError(
            f"{model.origin.run} was trained in {model.identity.settings.training.precision}: only "
            "models of float32 are exported; train it with training.precision float32"
        )
    about = {
        "domains": json.dumps(model.schema.domains),
        "tasks": json.dumps(model.schema.tasks),
        "run": model.origin.run,
    }
    if form == "torch":
        with replacing(target) as temporary:
            torch.export.save(program(model), temporary, extra_files=about)
        return
    for needed in ("onnx", "onnxscript"):
        if find_spec(needed) is None:
            raise UserError(
                f"{needed} is not installed; ONNX needs `pip install 'domain-experts[export]'`"
            )
    with quiet():
        made = torch.onnx.export(
            program(model),
            (),
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamo=True,
            verbose=False,
            # whatever runs it simplifies it, and in less time
            optimize=False,
        )
    assert made is not None
    made.model.metadata_props.update(about)
    with replacing(target) as temporary:
        made.save(temporary)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter says of itself, and of libraries that are not needed."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
