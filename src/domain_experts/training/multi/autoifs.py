"""AutoIFS: a search for the gates, then the rest of the model again with the gates found.

The search ends after a number of epochs, in which the temperature of the gates' sigmoid grows. Its
gates stay; the other weights go back to what they were some epochs before (`rewind`), and are
trained from there. Batches and the sizes of the steps are the authors'; early stopping is that of
all models.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from domain_experts.models.multi.autoifs import Model
from domain_experts.models.multi.base import MultiContext
from domain_experts.training.adam import Adam
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.batches import Rows
from domain_experts.training.deep import outcome, whole_lane
from domain_experts.training.lanes import Lane
from domain_experts.training.multi.bilevel import MultiTrainer
from domain_experts.training.streams import torch_stream


class SearchAdam(Adam):
    """Adam of the weights, and of the gates with steps of their own and no penalty."""

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        decay: float,
        learning_rate: float,
        gates: Sequence[nn.Parameter],
        gate_rate: float,
    ) -> None:
        super().__init__([(weights, decay)], learning_rate)
        self.gates = Adam([(gates, 0.0)], gate_rate)
        self.gates.state = self.state

    def step(self) -> None:
        super().step()
        self.gates.step()

    def zero_grad(self) -> None:
        super().zero_grad()
        self.gates.zero_grad()


class AutoIFSTrainer(MultiTrainer):
    """Trains in two legs: the search, and what follows it once the model is hard.

    In the search the weights that are kept are those of epoch `rewind`, not the best ones.
    """

    model: Model

    def _adam(self, trained: Mapping[str, nn.Parameter]) -> Adam:
        own, gates = self.settings.multi_model.autoifs, self.model.gate_parameters()
        weights = [p for name, p in trained.items() if name not in gates]
        if self.model.hard:
            return Adam([(weights, own.retrain_weight_decay)], own.retrain_learning_rate)
        rate = own.learning_rate
        chosen = [trained[name] for name in sorted(gates)]
        return SearchAdam(weights, own.weight_decay, rate, chosen, own.gate_rate * rate)

    def _interval(self, leg: str, interval: int, lanes: Sequence[Lane]) -> dict[Lane, float]:
        own = self.settings.multi_model.autoifs
        earlier = (interval - 1) // self.settings.training.validations
        self.model.temperature = own.temperature ** (earlier / max(own.search_epochs - 1, 1))
        return super()._interval(leg, interval, lanes)

    def _select(
        self, leg: str, interval: int, lane: Lane, loss: float | None, patience: int
    ) -> None:
        kept = dict(self._best)
        super()._select(leg, interval, lane, loss, patience)
        if not self.model.hard:
            rewind = self._epochs(interval) == self.settings.multi_model.autoifs.rewind
            if rewind:
                gates = self.model.gate_parameters()
                own = {n: w for n, w in self._weights(lane).items() if n not in gates}
                kept = {name: weight.clone() for name, weight in own.items()}
            self._best = kept
            self.curve[-1]["best"] = rewind

    def _brings_back(self, lanes: Sequence[Lane]) -> bool:
        return not self.model.hard or super()._brings_back(lanes)

    def _end(self, lanes: Sequence[Lane]) -> None:
        table = self.model.embedding.weight.detach().clone()
        super()._end(lanes)
        if not self.model.hard:
            self._restore({"gate_table": table})


def train(assignment: Assignment) -> Outcome:
    """Search, rewind, retrain."""
    run, device = assignment.run, torch.device(assignment.device)
    own = assignment.settings.multi_model.autoifs
    plan = MultiContext(
        assignment.interactions.schema,
        assignment.settings.multi_model,
        torch_stream(run.seed, "init", "multi", 0),
    )
    model = Model(plan).to(device)
    training = assignment.settings.training.model_copy(update={"batch_size": own.batch_size})
    trainer = AutoIFSTrainer(
        model,
        Rows.of(assignment.interactions, device),
        assignment.settings.model_copy(update={"training": training}),
        run.seed,
        assignment.checkpoint,
        assignment.progress,
        # its optimisers have penalties of their own
        decay=0.0,
    )
    every, gates = dict(model.named_parameters()), model.gate_parameters()
    trainer.leg("search", [whole_lane(assignment, every)], own.search_epochs)
    model.hard = True
    weights = {name: p for name, p in every.items() if name not in gates}
    trainer.leg("retrain", [whole_lane(assignment, weights)])
    return outcome(assignment, trainer)
