"""MAMDR (Luo et al. 2023, arXiv 2202.12524): domain negotiation, and domain regularisation.

All passes share one Adam, as in the authors' code.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from domain_experts.errors import UserError
from domain_experts.models.own_parts import OwnParts
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.batches import by_domain, mixed
from domain_experts.training.deep import new_model, train_whole
from domain_experts.training.lanes import Lane
from domain_experts.training.loop import Trainer
from domain_experts.training.streams import numpy_stream


def negotiate(assignment: Assignment) -> Outcome:
    """Train the run's backbone by domain negotiation.

    Raises:
        UserError: an epoch is to be validated more than once.
    """
    _refuse_parts_of_epochs(assignment)
    return train_whole(assignment, new_model(assignment), "joint", trainer=Negotiation)


def regularise(assignment: Assignment) -> Outcome:
    """The same, and parts of each domain's own by domain regularisation.

    Raises:
        UserError: an epoch is to be validated more than once.
    """
    _refuse_parts_of_epochs(assignment)
    domains = np.unique(np.asarray(assignment.interactions.domain)[assignment.index("train")])
    if len(domains) < 2:
        assignment.progress.say("one domain has training rows: it trains without own parts")
    model = OwnParts(new_model(assignment), len(assignment.interactions.schema.domains))
    return train_whole(assignment, model, "joint", trainer=Regularisation)


def _refuse_parts_of_epochs(assignment: Assignment) -> None:
    arm, validations = assignment.run.arm, assignment.settings.training.validations
    if validations > 1:
        raise UserError(
            f"training.validations is {validations}, but an epoch of {arm} ends with its outer "
            f"step: set it to 1 for {arm} under `configurations`"
        )


class Negotiation(Trainer):
    """Domain negotiation (algorithm 1).

    An epoch goes through the domains one after another, in random order, from theta to theta'. It
    ends at theta + beta (theta' - theta), beta being `mamdr.outer_step`.
    """

    def _batches(self, lane: Lane, stream: np.random.Generator) -> list[np.ndarray]:
        groups = list(self._groups(lane).values())
        return by_domain(groups, self.settings.training.batch_size, stream)

    def _interval(self, leg: str, interval: int, lanes: Sequence[Lane]) -> dict[Lane, float]:
        before = _copied(self._shared())
        losses = super()._interval(leg, interval, lanes)
        after = _copied(self._shared())
        beta = self.settings.mamdr.outer_step
        _put(self._shared(), (b + beta * (a - b) for a, b in zip(after, before, strict=True)))
        return losses

    def _shared(self) -> list[nn.Parameter]:
        return list(self.model.parameters())


class Regularisation(Negotiation):
    """Domain negotiation of what is shared, then domain regularisation (algorithms 2 and 3).

    For each domain, k others are drawn (`mamdr.helpers`). From theta_S + theta_d a pass over the
    helper's rows and one over the domain's own lead to theta'; theta_d goes on by gamma
    (theta' - theta_S - theta_d), gamma being `mamdr.own_step`, before the next helper's turn.
    """

    model: OwnParts

    def _shared(self) -> list[nn.Parameter]:
        return list(self.model.shared.parameters())

    def _interval(self, leg: str, interval: int, lanes: Sequence[Lane]) -> dict[Lane, float]:
        losses = super()._interval(leg, interval, lanes)
        (lane,) = lanes
        groups, gamma = self._groups(lane), self.settings.mamdr.own_step
        theta = _copied(self._shared())
        for d, helpers in self._helpers(leg, lane, interval).items():
            own = [parts.detach()[d] for parts in self.model.own]
            for helper in helpers:
                start = [s + part for s, part in zip(theta, own, strict=True)]
                _put(self._shared(), start)
                for rows_of in (helper, d):
                    purpose = (leg, lane.name, interval, "regularisation", d, helper, rows_of)
                    self._pass(lane, groups[rows_of], purpose)
                for part, p, s in zip(own, self._shared(), start, strict=True):
                    part.add_(p.detach() - s, alpha=gamma)
        _put(self._shared(), theta)
        return losses

    def _pass(self, lane: Lane, rows: np.ndarray, purpose: tuple[object, ...]) -> None:
        """Visit some rows once."""
        order, masks = (numpy_stream(self.seed, *purpose, what) for what in ("order", "dropout"))
        for batch in mixed(rows, self.settings.training.batch_size, order):
            self._step([lane], [batch], [masks])

    def _helpers(self, leg: str, lane: Lane, epoch: int) -> Mapping[int, list[int]]:
        """Of each domain with training rows, its helpers in an epoch; all others if too few."""
        domains, found = list(self._groups(lane)), {}
        for d in domains:
            others = [other for other in domains if other != d]
            stream = numpy_stream(self.seed, leg, lane.name, epoch, "helpers", d)
            drawn = stream.permutation(others)[: self.settings.mamdr.helpers]
            found[d] = [int(other) for other in drawn]
        return found

    def _visited(self, leg: str, lane: Lane, epochs: float) -> int:
        rows = {d: len(own) for d, own in self._groups(lane).items()}
        return super()._visited(leg, lane, epochs) + sum(
            rows[helper] + rows[d]
            for epoch in range(1, int(epochs) + 1)
            for d, helpers in self._helpers(leg, lane, epoch).items()
            for helper in helpers
        )


def _copied(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in parameters]


@torch.no_grad()
def _put(parameters: Iterable[nn.Parameter], values: Iterable[Tensor]) -> None:
    for p, value in zip(parameters, values, strict=True):
        p.copy_(value)
