"""A new domain on a finished model (MLoRA, arXiv 2408.08913: extension to new domains)."""

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import norm
from torch import nn

from domain_experts.data.interactions import Interactions
from domain_experts.data.log import values
from domain_experts.data.log.files import LogFiles
from domain_experts.data.specs import Fractions
from domain_experts.data.split import SPLITS, TEST
from domain_experts.data.split_rules import by_time, random, stratified
from domain_experts.errors import UserError
from domain_experts.evaluation.compare import ranked, summaries
from domain_experts.evaluation.rows import Rows
from domain_experts.models.ctr import ClickModel, CTRModel
from domain_experts.models.linear import LogisticRegression
from domain_experts.registry import ARMS
from domain_experts.serving.model import SavedModel
from domain_experts.serving.rebuild import append_domains, without_rows
from domain_experts.serving.score import DOMAIN, reader_of
from domain_experts.training.assignment import Assignment
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.deep import expert_of, is_expert, new_trainer
from domain_experts.training.frozen import can_select
from domain_experts.training.lanes import Lane

SHARES = Fractions(0.2, 0.2)
"""Validation and test rows of the new ones, where no log says which."""
BY_TIME = ("time", "each_user_last", "leave_one_out")
"""Rules of logs whose test rows come last."""
LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """AUC of a task on held-out rows of the new domain, before and after, and their difference."""

    task: str
    before: float
    after: float
    low: float
    high: float
    """Bounds of the 95 % interval of the difference."""
    by_user: bool
    """Whether the interval takes users as independent; else rows."""

    @property
    def verdict(self) -> str:
        """Whether it pays, in words."""
        difference = self.after - self.before
        whose = "users" if self.by_user else "rows"
        numbers = (
            f"{self.task}: AUC {self.before:.4f} before, {self.after:.4f} after, difference "
            f"{difference:+.4f} (95 % from {self.low:+.4f} to {self.high:+.4f}, of test {whose})"
        )
        if self.low > 0:
            return f"{numbers}: it pays"
        return f"{numbers}: it {'harms' if self.high < 0 else 'is not shown to pay'}"


@dataclass(frozen=True)
class Adapted:
    """A model with a new domain, and what that brings."""

    model: SavedModel
    gains: tuple[Gain, ...]
    rows: dict[str, int]
    """New rows of each split."""


def adapt(model: SavedModel, files: LogFiles, all_weights: bool = False) -> Adapted:
    """Add the domain of some rows to a model, and train what is its own on them.

    Args:
        model: has adapters, or is trained as a whole.
        files: rows of one domain, which the model has not met, with their labels.
        all_weights: train all weights that these rows use, not the new adapter alone.

    Raises:
        UserError: the rows are of several domains or of one that the model knows, they are too few
            to train and to test on, or the model has no adapter that a domain could be given.
    """
    _refuse_without_adapters(model, all_weights)
    data, name = _new_rows(model, files)
    schema = replace(model.schema, domains=(*model.schema.domains, name))
    data = replace(data, schema=schema)
    identity = replace(model.identity, schema=schema, added=model.identity.added + 1)
    module = copy.deepcopy(model.module)
    assert isinstance(module, ClickModel)
    append_domains(module, replace(identity, added=1))
    split = _split(model, data)
    with tempfile.TemporaryDirectory(prefix="adapt-") as folder:
        assignment = replace(
            without_rows(replace(identity, arm=_trainer_of(module, identity.arm, all_weights)), {}),
            interactions=data,
            split=split,
            checkpoint=Checkpoint(Path(folder, "checkpoint.safetensors"), name),
        )
        _train(assignment, module, all_weights)
    module.eval().requires_grad_(False)
    encoder = model.encoder and replace(model.encoder, domains=schema.domains)
    after = replace(
        model, identity=identity, module=module, encoder=encoder, card=_card(model, name)
    )
    gains = _gains(model, after, data, split)
    counts = {n: int((split == s).sum()) for s, n in enumerate(SPLITS)}
    said = "".join(f"- {gain.verdict}.\n" for gain in gains)
    return Adapted(replace(after, card=after.card + said), gains, counts)


def _split(model: SavedModel, data: Interactions) -> np.ndarray:
    """(N,) the new rows split as the log was: by time where its rule goes by time, else drawn."""
    log = model.split
    if log is None:
        return stratified(data, model.identity.seed, SHARES)
    rule = by_time if log.rule in BY_TIME else random if log.rule == "random" else stratified
    return rule(data, log.seed, Fractions(log.validation, log.test))


def _refuse_without_adapters(model: SavedModel, all_weights: bool) -> None:
    label, module = ARMS[model.identity.arm].label, model.module
    has = isinstance(module, CTRModel) and module.router is not None
    if all_weights and not isinstance(module, CTRModel | LogisticRegression):
        raise UserError(
            f"{label} has weights for each domain that no other rows could train: a new domain "
            "needs a new study"
        )
    if not all_weights and not has:
        raise UserError(
            f"{label} has no adapters: a new domain has nothing of its own to train; --all-weights "
            "trains all of it on the new rows"
        )


def _new_rows(model: SavedModel, files: LogFiles) -> tuple[Interactions, str]:
    """The rows, their domain's number being the first that the model has not, and its name."""
    reader, schema = reader_of(model), model.schema
    encoder = model.encoder
    known = files.schema(files.paths[0]).names
    if encoder is None:
        labels = [f"label:{task}" for task in schema.tasks]
        # a code that the model does not know: the domain has no name yet
        column = DOMAIN
    else:
        labels = [values.column_of(of, known)[0] for of in encoder.columns.tasks.values()]
        column = encoder.columns.domain.column
    wanted = list(dict.fromkeys([*reader.needed, *labels]))
    moments = None
    if encoder is not None and model.split is not None and model.split.rule in BY_TIME:
        assert encoder.columns.time is not None
        moments = values.Moments(encoder.columns.time)
        wanted = list(dict.fromkeys([*wanted, encoder.columns.time]))
    times: list[np.ndarray] = []
    files.require(wanted)
    parts, found = [], []
    names: set[str | None] = set()
    for block in files.blocks(wanted):
        own = values.ids(block.table[column], "text")
        names |= set(own.unique().to_pylist())
        if moments is not None:
            times.append(moments(block))
        if encoder is None:
            place = block.table.column_names.index(DOMAIN)
            unknown = np.full(block.table.num_rows, -1)
            table = block.table.set_column(place, DOMAIN, [unknown])
            parts.append(reader.rows(replace(block, table=table)))
            found.append(np.stack([values.labels(block, of, of) for of in labels], 1))
        else:
            parts.append(reader.rows(block))
            found.append(encoder.labels(block))
    _refuse_several(model, names, files)
    fields, dense, _ = (np.concatenate(part) for part in zip(*parts, strict=True))
    domain = np.full(len(fields), len(schema.domains), np.int16)
    data = Interactions(
        schema,
        fields,
        dense,
        np.concatenate(found),
        domain,
        vectors=model.vectors or {},
        time=np.concatenate(times) if times else None,
    )
    return data, str(names.pop())


def _refuse_several(model: SavedModel, names: set[str | None], files: LogFiles) -> None:
    where = ", ".join(path.name for path in files.paths)
    if not names:
        raise UserError(f"{where}: no rows; give those of the new domain")
    if None in names:
        raise UserError(f"{where}: rows without a domain; leave them out")
    if len(names) > 1:
        some = ", ".join(sorted(map(str, names))[:3])
        raise UserError(f"{where}: rows of {len(names)} domains ({some}); give those of one")
    name = str(next(iter(names)))
    known = model.schema.domains
    met = name in known or (model.encoder is None and name in map(str, range(len(known))))
    if met:
        raise UserError(f"{where}: the model knows domain {name}; a new one needs another name")


def _trainer_of(module: ClickModel, arm: str, all_weights: bool) -> str:
    """The arm that declares the settings which training a new domain reads."""
    if not isinstance(module, CTRModel):
        return arm
    return "new_domain_finetune" if all_weights else "new_domain_adapter"


def _card(model: SavedModel, name: str) -> str:
    """The model card with a section on the new domain, which gains are to follow."""
    heading = f"## Domain {name}"
    return f"{model.card.rstrip()}\n\n{heading}\n\nIt came after training.\n\n"


def _train(assignment: Assignment, module: ClickModel, all_weights: bool) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    new = module.experts - 1
    parameters: Mapping[str, nn.Parameter] = {
        name: parameter
        for name, parameter in module.named_parameters()
        if all_weights or (is_expert(name) and expert_of(name) == new)
    }
    validation = assignment.index("validation")
    if not can_select(assignment, validation, "the new domain"):
        raise UserError(
            "the new rows cannot be trained on: the validation rows among them hold one class of a "
            "task; give more rows"
        )
    trainer = new_trainer(assignment, module)
    trainer.leg("new domain", [Lane("all", assignment.index("train"), validation, parameters)])
    # what was not to be trained stays as it was, to the bit
    changed = {n for n, v in module.state_dict().items() if not torch.equal(v, before[n])}
    if stray := sorted(changed - parameters.keys()):
        raise AssertionError(f"weights changed that were not trained: {', '.join(stray)}")


def _gains(
    before: SavedModel, after: SavedModel, data: Interactions, split: np.ndarray
) -> tuple[Gain, ...]:
    rows = np.flatnonzero(split == TEST)
    parts = tuple(np.ascontiguousarray(a[rows]) for a in (data.fields, data.dense, data.domain))
    user = data.user
    of = Rows(
        data.labels[rows],
        np.zeros(len(rows), np.int64),
        None,
        (data.schema.domains[-1],),
        data.schema.tasks,
        None if user is None else user[rows],
    )
    unmet = (*parts[:2], np.full(len(rows), -1))
    one, other = ranked(after.logits(*parts), of), ranked(before.logits(*unmet), of)
    found = []
    for summary in summaries(one - other, of):
        if summary.metric != "wauc" or summary.task not in data.schema.tasks:
            continue
        by_user = not np.isnan(summary.user_error)
        wide = norm.ppf((1 + LEVEL) / 2) * (summary.user_error if by_user else summary.error)
        t = data.schema.tasks.index(summary.task)
        found.append(
            Gain(
                summary.task,
                float(other.auc[0, t]),
                float(one.auc[0, t]),
                summary.value - wide,
                summary.value + wide,
                by_user,
            )
        )
    if not found:
        raise UserError(
            "whether it pays cannot be told: the test rows among the new ones hold one class of "
            "each task; give more rows"
        )
    return tuple(found)
