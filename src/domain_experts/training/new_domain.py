"""A domain that comes after training (MLoRA, arXiv 2408.08913: extension to new domains)."""

import math

import numpy as np
from torch import nn

from domain_experts.errors import UserError
from domain_experts.models.ctr import CTRModel
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.deep import load_weights, new_trainer, outcome
from domain_experts.training.joint import mlora
from domain_experts.training.lanes import Lane
from domain_experts.training.streams import numpy_stream


def new_domain(assignment: Assignment) -> int:
    """Number of the domain that is held out.

    Raises:
        UserError: the data set has no such domain, or no other one.
    """
    held_out = assignment.settings.new_domain.held_out
    domains = len(assignment.interactions.schema.domains)
    if held_out >= domains or domains < 2:
        raise UserError(
            f"new_domain.held_out is {held_out}, but {assignment.run.dataset} has {domains} "
            f"domains, of which 0 to {domains - 1} can be held out if there are two or more"
        )
    return held_out


def rows_of(assignment: Assignment, split: str, new: bool) -> np.ndarray:
    """Rows of a split in the new domain, or outside it."""
    rows = assignment.index(split)
    domain = np.asarray(assignment.interactions.domain)[rows]
    return np.extract((domain == new_domain(assignment)) == new, rows)


def trained_before(assignment: Assignment) -> tuple[CTRModel, int]:
    """MLoRA as trained on the other domains, and the rows visited for that."""
    held_out = assignment.upstream["mlora_held_out"]
    model = mlora(assignment, range(len(assignment.interactions.schema.domains)))
    load_weights(model, held_out.weights)
    return model, held_out.record["rows_visited"]


def train_on_share(
    assignment: Assignment, model: CTRModel, trained: dict[str, nn.Parameter], rows_before: int = 0
) -> Outcome:
    """Train some weights on the given share of the new domain's training rows.

    A larger share holds all rows of a smaller one. All validation rows of the domain are used.
    """
    rows = rows_of(assignment, "train", new=True)
    kept = math.ceil(assignment.settings.new_domain.share * len(rows))
    chosen = numpy_stream(assignment.run.seed, "new domain").permutation(rows)[:kept]
    trainer = new_trainer(assignment, model)
    validation = rows_of(assignment, "validation", new=True)
    trainer.leg("new domain", [Lane("all", chosen, validation, trained)])
    return outcome(assignment, trainer, rows_before)
