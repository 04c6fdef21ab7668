"""From what is kept of a run to the module that gives its logits.

Of every arm there is one maker here. It has no rows: a model's shape comes from the schema and the
settings alone, and its weights are those of the run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn

from domain_experts.data.interactions import Interactions
from domain_experts.errors import UserError
from domain_experts.models.ctr import CTRModel
from domain_experts.models.field_aware_fm import FieldAwareFM
from domain_experts.models.linear import FactorisationMachine, LogisticRegression
from domain_experts.models.low_rank import LowRank
from domain_experts.models.multi import autoifs
from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.own_experts import OwnExperts
from domain_experts.models.own_parts import OwnParts
from domain_experts.models.routers import OneHot, UniformGate
from domain_experts.models.star import Star
from domain_experts.registry import BACKBONES
from domain_experts.runs import Run
from domain_experts.schema import Schema
from domain_experts.serving.composed import Appended, ByScope, Mean, Served
from domain_experts.serving.tables import Rates, Trees
from domain_experts.settings import RunSettings
from domain_experts.training.assignment import Assignment
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.deep import (
    add_experts,
    add_shared,
    context_of,
    new_gate,
    new_model,
    shared_in,
)
from domain_experts.training.joint import mlora
from domain_experts.training.multi.scopes import scopes
from domain_experts.training.progress import Progress, title
from domain_experts.training.streams import torch_stream

State = Mapping[str, np.ndarray]
VECTORS = "vectors."
"""What names of pretrained tables begin with in a state; a field's name follows."""


@dataclass(frozen=True)
class Identity:
    """What a model's shape depends on."""

    dataset: str
    backbone: str
    arm: str
    seed: int
    settings: RunSettings
    schema: Schema
    planted_groups: tuple[int, ...] | None = None
    """Of generated data, which some arms are told."""
    by_domain: bool = False
    by_task: bool = False
    """Whether a multi-task arm has a model for each domain, for each task."""
    added: int = 0
    """How many of the domains, the last ones, came after training."""

    @property
    def run(self) -> Run:
        """The run, as far as it shapes the model."""
        return Run(self.dataset, self.backbone, self.arm, (), self.seed, self.settings)


Maker = Callable[[Assignment, Identity, State], nn.Module]


def rebuild(identity: Identity, state: State) -> nn.Module:
    """The module of a run in evaluation mode, its logits being those of the run.

    Args:
        identity: of the run.
        state: its weights, as `collect.served_state` gives them.

    Returns:
        A module from fields (B, F), dense (B, K) and domain (B,) to logits (B, T).

    Raises:
        UserError: the weights are not those of such a model.
    """
    vectors = {n.removeprefix(VECTORS): a for n, a in state.items() if n.startswith(VECTORS)}
    weights = {name: a for name, a in state.items() if not name.startswith(VECTORS)}
    first = len(identity.schema.domains) - identity.added
    trained = replace(
        identity, schema=replace(identity.schema, domains=identity.schema.domains[:first])
    )
    module = MAKERS[identity.arm](without_rows(trained, vectors), trained, weights)
    if identity.added:
        append_domains(module, identity)
    try:
        module.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in weights.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the weights are not those of {identity.arm} with backbone {identity.backbone} "
            f"({reason})"
        ) from None
    return module.eval().requires_grad_(False)


def append_domains(module: nn.Module, identity: Identity) -> None:
    """Give a model with adapters one more for each domain that came after training.

    Where all domains share all weights there is nothing to add.
    """
    schema, added = identity.schema, identity.added
    before = len(schema.domains) - added
    assert isinstance(module, CTRModel | LogisticRegression)
    module.schema = schema
    if not isinstance(module, CTRModel) or module.router is None:
        return
    adapter, settings = identity.settings.adapter, identity.settings
    experts = module.experts
    times = before if identity.arm == "shared_lora" else 1

    def new(d_in: int, d_out: int) -> LowRank:
        return LowRank(d_in, d_out, adapter.alpha, settings.protocol.expert_init, times)

    for number in range(added):
        stream = torch_stream(identity.seed, "init", "expert", experts + number)
        module.tower.add_expert(new, stream, adapter.layers)
    later = range(experts, experts + added)
    router = module.router
    if isinstance(router, OneHot):
        module.router = OneHot([*router.expert.tolist(), *later])
    elif isinstance(router, Appended):
        module.router = Appended(
            router.router, router.domains, router.experts, router.added + added
        )
    else:
        module.router = Appended(router, before, experts, added)


def without_rows(identity: Identity, vectors: State) -> Assignment:
    """The run as the trainers know it, on data without rows."""
    schema = identity.schema
    data = Interactions(
        schema,
        np.empty((0, schema.columns), np.int32),
        np.empty((0, len(schema.dense)), np.float32),
        np.empty((0, len(schema.tasks)), np.uint8),
        np.empty(0, np.int16),
        planted_groups=identity.planted_groups,
        vectors=vectors,
    )
    run = identity.run
    nowhere = Checkpoint(Path(), "")
    return Assignment(run, data, np.empty(0, np.uint8), {}, "cpu", nowhere, Progress(title(run)))


def _domains(assignment: Assignment) -> int:
    return len(assignment.interactions.schema.domains)


def _base(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    return new_model(assignment)


def _mlora(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    model = mlora(assignment, range(_domains(assignment)))
    add_shared(model, assignment, shared_in(state))
    return model


def _grouped(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    return mlora(assignment, assignment.planted_groups)


def _shared(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    domains = _domains(assignment)
    return mlora(assignment, [0] * domains, times=domains)


def _with_experts(assignment: Assignment, per_domain: int, state: State) -> CTRModel:
    model = new_model(assignment)
    add_experts(model, assignment, per_domain * _domains(assignment))
    add_shared(model, assignment, shared_in(state))
    return model


def _gated(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    model = _with_experts(assignment, assignment.settings.adapter.experts_per_domain, state)
    model.router = new_gate(assignment, model)
    return model


def _uniform(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    model = _with_experts(assignment, assignment.settings.adapter.experts_per_domain, state)
    model.router = UniformGate(_domains(assignment), model.experts)
    return model


def _sequence(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    uniform = assignment.settings.protocol.routing == "uniform"
    return (_uniform if uniform else _gated)(assignment, identity, state)


def _crossfit_experts(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    folds = assignment.settings.crossfit.folds
    return Mean([_mlora(assignment, identity, state) for _ in range(folds)])


def _crossfit_gate(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    model = _with_experts(assignment, assignment.settings.crossfit.folds, state)
    model.router = new_gate(assignment, model)
    return model


def _crossfit_mean(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    folds = assignment.settings.crossfit.folds
    model = _with_experts(assignment, folds, state)
    model.router = OwnExperts(_domains(assignment), folds)
    return model


def _copies(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    domains, tasks = _domains(assignment), len(identity.schema.tasks)
    return ByScope(
        [new_model(assignment) for _ in range(domains)],
        [Served((d,), tuple(range(tasks))) for d in range(domains)],
        domains,
        tasks,
        renumbered=False,
    )


def _star(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    own = assignment.settings.star
    return Star(context_of(assignment, own.embedding_dim), auxiliary=own.auxiliary)


def _own_parts(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    return OwnParts(new_model(assignment), _domains(assignment))


def _linear(model_class: type[LogisticRegression]) -> Maker:
    def make(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
        return model_class(context_of(assignment))

    return make


def _multi(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    schema, run = identity.schema, assignment.run
    model_class: type[MultiModel] = import_module(BACKBONES[run.backbone].module).Model
    own = scopes(assignment, identity.by_domain, identity.by_task)
    models = []
    for scope in own:
        part = replace(
            schema,
            domains=tuple(schema.domains[d] for d in scope.domains),
            tasks=tuple(schema.tasks[t] for t in scope.tasks),
        )
        stream = torch_stream(run.seed, "init", "multi", scope.number)
        # where the scalars start matters no more
        plan = MultiContext(part, assignment.settings.multi_model, stream, fusion_start=0.0)
        models.append(model_class(plan))
    return ByScope(
        models,
        [Served(scope.domains, scope.tasks) for scope in own],
        len(schema.domains),
        len(schema.tasks),
        renumbered=True,
    )


def _autoifs(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    stream = torch_stream(identity.seed, "init", "multi", 0)
    model = autoifs.Model(MultiContext(identity.schema, assignment.settings.multi_model, stream))
    model.hard = True
    return model


def _rates(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    return Rates(state)


def _trees(assignment: Assignment, identity: Identity, state: State) -> nn.Module:
    return Trees(identity.schema, state)


MAKERS: dict[str, Maker] = {
    **dict.fromkeys(("item_rate", "user_item_rate"), _rates),
    "logistic_regression": _linear(LogisticRegression),
    "factorisation_machine": _linear(FactorisationMachine),
    "field_aware_fm": _linear(FieldAwareFM),
    "lightgbm": _trees,
    **dict.fromkeys(("base", "base_released", "base_held_out", "new_domain_scratch"), _base),
    **dict.fromkeys(("mlora", "mlora_released", "mlora_epochs", "mlora_held_out"), _mlora),
    **dict.fromkeys(("new_domain_adapter", "new_domain_finetune"), _mlora),
    **dict.fromkeys(("experts", "experts_held_out", "experts_from_mlora"), _mlora),
    **dict.fromkeys(("oracle_experts", "oracle_mlora"), _grouped),
    "shared_lora": _shared,
    **dict.fromkeys(("moe_mlora", "moe_mlora_held_out", "moe_mlora_refit"), _gated),
    **dict.fromkeys(("moe_mlora_joint", "moe_mlora_staged"), _gated),
    **dict.fromkeys(("mlora_gated", "moe_mlora_from_mlora"), _gated),
    **dict.fromkeys(("moe_mlora_sequence", "moe_mlora_released"), _sequence),
    "uniform_gate": _uniform,
    "experts_crossfit": _crossfit_experts,
    "moe_mlora_crossfit": _crossfit_gate,
    "mean_crossfit": _crossfit_mean,
    "domain_finetune": _copies,
    "star": _star,
    "domain_negotiation": _base,
    "mamdr": _own_parts,
    **dict.fromkeys(("single", "mtl", "mdl", "mdmt"), _multi),
    **dict.fromkeys(("single_released", "mtl_released", "mdl_released", "mdmt_released"), _multi),
    "autoifs": _autoifs,
}
"""By arm, what makes its module."""
