"""The one training loop, for every leg.

A leg trains lanes side by side. A lane is an independent training: its own rows, batches,
dropout stream, parameters, early stopping and best weights. Backbone, gate and joint arms have one
lane; the experts leg has one per expert. A step takes one batch from every lane that still has
one in this epoch; the loss is the sum of the lanes' own batch means. Since lanes share no
parameter, this equals training them one after another; a lane that has no batch left gets no
gradient, so that the optimiser leaves its weights, moments and step count alone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from domain_experts.auc import exceeded_thresholds, macro_auc
from domain_experts.models.adapter import Hard, Routing
from domain_experts.models.ctr import ClickModel
from domain_experts.models.embedding import have_sparse_gradients
from domain_experts.models.routers import OneHot
from domain_experts.settings import RunSettings
from domain_experts.training.adam import Adam
from domain_experts.training.balance import Balance
from domain_experts.training.batches import OF_ONE_DOMAIN, Rows, mixed
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.garbage import old_objects_aside
from domain_experts.training.lanes import Lane, LaneRecord
from domain_experts.training.losses import Loss, by_task, of_rows, share_of_sum
from domain_experts.training.progress import Progress
from domain_experts.training.ranks import ALONE, Ranks
from domain_experts.training.streams import numpy_stream
from domain_experts.training.tiny import tiny_as_zero

EVALUATION_BATCH = 16384


@dataclass
class LaneState:
    """What early stopping remembers of a lane."""

    best: float | None = None
    without_gain: int = 0
    stopped: bool = False


class Trainer:
    """Trains the legs of one run, and goes on where its checkpoint ends.

    Each leg selects for itself and ends with its best weights. With `carry_best` the value to
    beat and the best weights are those of all legs so far, which then have one lane each, and
    `finish` brings them back at the end. With `carry_optimizer` all legs share one optimiser.

    `decay` times a penalised weight is added to its gradient. `loss` is as
    `losses.Loss` says.

    The `ranks` share the rows of every batch. Of a leg of several lanes each trains some lanes by
    itself, and hands out their weights when all have ended.
    """

    def __init__(
        self,
        model: ClickModel,
        rows: Rows,
        settings: RunSettings,
        seed: int,
        checkpoint: Checkpoint,
        progress: Progress,
        decay: float,
        loss: Loss,
        carry_best: bool = False,
        carry_optimizer: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self._forward = _compiled(model) if settings.training.compiled else model
        self.rows = rows
        self.settings = settings
        self.seed = seed
        self.checkpoint = checkpoint
        self.progress = progress
        self.decay = decay
        self.loss = loss
        self.carry_best = carry_best
        self.carry_optimizer = carry_optimizer
        self.ranks = ranks
        self.curve: list[dict[str, Any]] = []
        self.lanes: list[LaneRecord] = []
        """Of all legs that have ended, in order."""
        self._states: dict[str, LaneState] = {}
        names = dict(model.named_parameters())
        self._statistics = {n: v for n, v in model.state_dict().items() if n not in names}
        self._best: dict[str, Tensor] = {}
        self._optimizer: Adam | None = None
        self._balance = self._new_balance()
        have_sparse_gradients(model, self._sparse)
        self._resumed_leg = ""
        self._resumed_interval = 0
        self._resumed_moments: dict[str, Tensor] = {}
        if settings.training.nudge:
            self._nudge(1 + settings.training.nudge)
        self._resume(self.checkpoint)
        # the first one writes as soon as it trains
        self.ranks.wait()

    @property
    def optimizers(self) -> dict[str, Adam]:
        """The optimisers whose moments a checkpoint keeps."""
        assert self._optimizer is not None
        return {"adam": self._optimizer}

    @property
    def _sparse(self) -> bool:
        """Whether the gradients of tables are to hold only the rows that a batch has."""
        # to combine those of several tasks is fast on few rows
        return self.settings.training.optimizer == "lazy_adam" or self._balance is not None

    def leg(self, name: str, lanes: Sequence[Lane], epochs: int | None = None) -> None:
        """Train one leg until every lane has stopped, or for a number of epochs if one is given.

        A run may have several legs of one name, whose first lanes then differ.
        """
        identity = f"{name}/{lanes[0].name}"
        if identity in {f"{ended.phase}/{ended.lane}" for ended in self.lanes}:
            return
        usable = [lane for lane in lanes if lane.usable]
        if len(usable) > 1 and self.ranks.size > 1:
            self._train_apart(name, usable, epochs, identity)
        elif usable:
            self._train(name, usable, epochs, identity)
        points: dict[str, list[dict[str, Any]]] = {lane.name: [] for lane in lanes}
        for point in self.curve:
            if point["phase"] == name and point["lane"] in points:
                points[point["lane"]].append(point)
        self.lanes += [
            self._record(name, lane, usable, epochs, points[lane.name]) for lane in lanes
        ]

    @tiny_as_zero()
    def _train(self, name: str, lanes: Sequence[Lane], epochs: int | None, identity: str) -> None:
        training, protocol = self.settings.training, self.settings.protocol
        most = (training.max_epochs if epochs is None else epochs) * training.validations
        patience = training.patience if epochs is None else most + 1
        trained = {n: p for lane in lanes for n, p in lane.parameters.items()}
        self._prepare(trained)
        interval = 0
        if identity == self._resumed_leg:
            interval = self._resumed_interval
            self._set_moments()
        else:
            if self._balance:
                # what it remembers is of the weights of the leg before
                self._balance.load({})
            self._start(lanes)
            if protocol.keep_start:
                for lane in lanes:
                    self._select(name, interval, lane, None, patience)
        while interval < most:
            active = [lane for lane in lanes if not self._states[lane.name].stopped]
            if not active:
                break
            interval += 1
            start = time.perf_counter()
            losses = self._interval(name, interval, active)
            seconds = time.perf_counter() - start
            for lane, loss in losses.items():
                self._select(name, interval, lane, loss, patience)
            self._report(name, interval, active, seconds, patience)
            if self.ranks.leads and self.checkpoint.due():
                self._save(identity, interval)
        self._end(lanes)

    def _train_apart(
        self, name: str, lanes: Sequence[Lane], epochs: int | None, identity: str
    ) -> None:
        """Train each lane on one rank, without any exchange until all have ended."""
        ranks, checkpoint = self.ranks, self.checkpoint
        owner = ranks.share([len(lane.train) for lane in lanes])
        own = [lane for lane, rank in zip(lanes, owner, strict=True) if rank == ranks.rank]
        names = [lane.name for lane in lanes]

        def of_leg(point: Mapping[str, Any]) -> bool:
            return point["phase"] == name and point["lane"] in names

        self.ranks = ALONE
        if not ranks.leads:
            # what the first rank has saved of this leg are its own lanes
            self.checkpoint = checkpoint.part(f"rank-{ranks.rank}")
            if self._resumed_leg == identity:
                self._resumed_leg = ""
                self.curve = [point for point in self.curve if not of_leg(point)]
            self._resume(self.checkpoint, identity)
        if own:
            self._train(name, own, epochs, identity)
        self.ranks, self.checkpoint = ranks, checkpoint

        points = [point for point in self.curve if of_leg(point)]
        states = {lane.name: asdict(self._states[lane.name]) for lane in own}
        told = ranks.told({"points": points, "states": states})
        together = [point for rank in told for point in rank["points"]]
        together.sort(key=lambda point: (point["epoch"], names.index(point["lane"])))
        self.curve = [point for point in self.curve if not of_leg(point)] + together
        self._states = {n: LaneState(**s) for rank in told for n, s in rank["states"].items()}
        last = {point["lane"]: point["epoch"] for point in together}
        for lane, rank in zip(lanes, owner, strict=True):
            ranks.hand_out(list(lane.parameters.values()), rank)
            if rank != ranks.rank:
                self.progress.rows += self._visited(name, lane, last[lane.name])

    def _end(self, lanes: Sequence[Lane]) -> None:
        """Take the weights that the leg ends with."""
        if self._brings_back(lanes):
            self._restore(self._best)

    def _brings_back(self, lanes: Sequence[Lane]) -> bool:
        """Whether the leg ends with its best weights, not with those of its last epoch."""
        return not self.carry_best

    def finish(self) -> None:
        """Bring back the best weights of all legs, if they are carried."""
        if not self.carry_best:
            return
        self._restore(self._best)
        best = [point for point in self.curve if point["best"]][-1]
        names = [(lane.phase, lane.lane) for lane in self.lanes]
        at = names.index((best["phase"], best["lane"]))
        for earlier in self.lanes[:at]:
            earlier.end_with(earlier.epochs)
        self.lanes[at].end_with(best["epoch"])
        for later in self.lanes[at + 1 :]:
            later.end_with(0)

    def _record(
        self,
        leg: str,
        lane: Lane,
        trained: Sequence[Lane],
        fixed: int | None,
        points: Sequence[Mapping[str, Any]],
    ) -> LaneRecord:
        epochs = points[-1]["epoch"] if points else 0
        best = max((p["epoch"] for p in points if p["best"]), default=0)
        stopped = lane.usable and self._states[lane.name].stopped
        domain = self.rows.domain.cpu().numpy()[lane.train]
        record = LaneRecord(
            leg,
            lane.name,
            lane.part,
            domains=np.unique(domain).tolist(),
            tasks=list(range(len(self.rows.schema.tasks))),
            epochs=epochs,
            rows_visited=self._visited(leg, lane, epochs),
            epoch_tested=None,
            moved=False,
            capped=lane.usable and fixed is None and not stopped,
            trained=lane.usable,
            used=lane.used,
        )
        record.end_with(best if self._brings_back(trained) else epochs)
        return record

    def _visited(self, leg: str, lane: Lane, epochs: float) -> int:
        """Rows that a lane has visited after so many epochs, each as often as it was."""
        return round(epochs * len(lane.train))

    @torch.no_grad()
    def _nudge(self, factor: float) -> None:
        for parameter in self.model.parameters():
            parameter.mul_(factor)

    @torch.no_grad()
    def logits(self, index: np.ndarray, routing: int | Hard | None = None) -> Tensor:
        """Logits (n, T) of the rows `index`, routed as `Lane` says."""
        self.model.eval()
        parts = [torch.empty(0, len(self.rows.schema.tasks), device=self.rows.domain.device)]
        own = index[self.ranks.part(len(index))]
        for start in range(0, len(own), EVALUATION_BATCH):
            chunk = torch.from_numpy(own[start : start + EVALUATION_BATCH])
            fields, dense, domain, _ = self.rows.take(chunk.to(self.rows.domain.device))
            route = Hard((routing,), (len(chunk),)) if isinstance(routing, int) else routing
            parts.append(self._outputs(fields, dense, domain, route))
        return self.ranks.whole(torch.cat(parts), len(index))

    def _outputs(self, fields: Tensor, dense: Tensor, domain: Tensor, route: Routing) -> Tensor:
        """Logits (B, T) in the type of `dense`."""
        with self._autocast():
            logits: Tensor = self._forward(fields, dense, domain, route)
        return logits.to(dense.dtype)

    def _autocast(self) -> AbstractContextManager[object]:
        """Context in which matrix products have the precision of the settings."""
        if self.settings.training.precision == "bfloat16":
            return torch.autocast(self.rows.domain.device.type, torch.bfloat16)
        return nullcontext()

    def _prepare(self, trained: Mapping[str, nn.Parameter]) -> None:
        """Freeze all but `trained`, and have an optimiser for it."""
        names = {id(parameter) for parameter in trained.values()}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in names)
        if not self.carry_optimizer:
            self._optimizer = self._adam(trained)
        elif self._optimizer is None:
            self._optimizer = self._adam(dict(self.model.named_parameters()))

    def _start(self, lanes: Sequence[Lane]) -> None:
        """Forget what early stopping remembers, except what is carried."""
        best = None
        if self.carry_best:
            best = next((state.best for state in self._states.values()), None)
        else:
            self._best = {}
        self._states = {lane.name: LaneState(best) for lane in lanes}

    def _adam(self, trained: Mapping[str, nn.Parameter]) -> Adam:
        penalised = {id(parameter) for parameter in self.model.penalised()}

        def group(is_penalised: bool) -> list[nn.Parameter]:
            return [p for p in trained.values() if (id(p) in penalised) == is_penalised]

        groups = [(group(True), self.decay), (group(False), 0.0)]
        return Adam(groups, self.settings.training.learning_rate)

    @old_objects_aside()
    def _interval(self, leg: str, interval: int, lanes: Sequence[Lane]) -> dict[Lane, float]:
        """Train every lane to its next validation.

        Returns:
            The mean training loss of each lane that had a batch.
        """
        device, validations = self.rows.domain.device, self.settings.training.validations
        epoch, part = divmod(interval - 1, validations)
        # an epoch's first streams have one name, however often it is validated
        purpose = (epoch + 1, *[part] * (part > 0))
        batches = []
        for lane in lanes:
            every = self._batches(lane, numpy_stream(self.seed, leg, lane.name, epoch + 1, "order"))
            ends = [len(every) * p // validations for p in (part, part + 1)]
            batches.append(every[slice(*ends)])
        masks = [numpy_stream(self.seed, leg, lane.name, *purpose, "dropout") for lane in lanes]
        totals = torch.zeros(len(lanes), dtype=torch.float64, device=device)
        self._training_mode()
        if self._balance:
            stream = numpy_stream(self.seed, leg, lanes[0].name, *purpose, "balance")
            self._balance.begin(part == 0, stream)
        for step in range(max(map(len, batches))):
            stepping = [i for i, own in enumerate(batches) if step < len(own)]
            parts = [batches[i][step] for i in stepping]
            losses = self._step([lanes[i] for i in stepping], parts, [masks[i] for i in stepping])
            sums = losses * torch.tensor(list(map(len, parts)), device=device)
            if len(stepping) == len(lanes):
                totals += sums
            else:
                totals[stepping] += sums
        rows = [sum(map(len, own)) for own in batches]
        means = (totals / torch.tensor(rows, device=device)).tolist()
        return {lane: mean for lane, mean, count in zip(lanes, means, rows, strict=True) if count}

    def _training_mode(self) -> None:
        self.model.train()
        dropped = [p.requires_grad for p in self.model.dropped()]
        if dropped and not any(dropped) and not self.settings.protocol.frozen_dropout:
            self.model.dropout.eval()

    def _step(
        self,
        lanes: Sequence[Lane],
        batches: Sequence[np.ndarray],
        masks: Sequence[np.random.Generator],
    ) -> Tensor:
        """Take a step with one batch of each lane, and its dropout stream; the lanes' losses."""
        assert self._optimizer is not None
        counts = list(map(len, batches))
        together = np.concatenate(batches) if len(batches) > 1 else batches[0]
        batch = torch.from_numpy(together).to(self.rows.domain.device)
        if self.ranks.size > 1:
            batch = self._by_expert(batch)
        here = self.ranks.part(len(batch))
        index = batch[here]
        fields, dense, domain, labels = self.rows.take(index)
        self.model.dropout.lanes = list(zip(masks, counts, strict=True))
        self.model.dropout.part = here if self.ranks.size > 1 else slice(None)
        routings = [lane.routing for lane in lanes]
        route = routings[0]
        if isinstance(route, int):
            experts = tuple(r for r in routings if isinstance(r, int))
            # rows of several lanes are never shared out
            route = Hard(experts, tuple(counts) if len(lanes) > 1 else (len(index),))
        logits = self._outputs(fields, dense, domain, route)
        if self.ranks.size > 1:
            # the loss is that of the whole batch, whatever it is made of
            logits = self.ranks.whole(logits, len(batch))
            domain, labels = self.rows.targets(batch)
        weight = self.rows.weight_of(batch)
        losses = self.loss(logits, labels, domain, counts, weight)
        auxiliary = self._auxiliary(labels, domain, weight)
        self._optimizer.zero_grad()
        if self._balance:
            moved = {id(p) for group, _ in self._optimizer.groups for p in group}
            own = by_task(self.loss, logits, labels, domain, weight)
            if auxiliary is not None:
                # shared out among the tasks, so that it counts whole where all weigh one
                part = auxiliary / (len(own) * self._balance.share)
                own = [loss + part for loss in own]
            parameters = [p for p in self.model.parameters() if id(p) in moved]
            self._balance.step(own, parameters, self._optimizer)
            return losses.detach()
        loss = losses.sum()
        torch.autograd.backward(loss if auxiliary is None else loss + auxiliary)
        self.ranks.add_gradients([p for own, _ in self._optimizer.groups for p in own])
        self._optimizer.step()
        return losses.detach()

    def _by_expert(self, batch: Tensor) -> Tensor:
        """The rows of a batch as the model puts them together, so that masks meet their rows."""
        if not isinstance(self.model.router, OneHot):
            return batch
        return batch[self.model.router.groups(self.rows.targets(batch)[0]).order]

    def _auxiliary(self, labels: Tensor, domain: Tensor, weight: Tensor | None) -> Tensor | None:
        """What the model adds to a step's loss besides the cross entropy, if anything."""
        own, of_each = self.model.auxiliary_loss(), self.model.row_losses(labels)
        if of_each is None:
            return own
        added = of_rows(self.loss, of_each, labels.shape[1], domain, weight)
        return added if own is None else own + added

    def _new_balance(self) -> Balance | None:
        """What balances the losses of the tasks, if anything does."""
        name, tasks = self.settings.training.balance, len(self.rows.schema.tasks)
        if name == "none":
            return None
        if tasks < 2:
            self.progress.say(f"training.balance '{name}' does nothing: there is one task")
            return None
        lazy = self.settings.training.optimizer == "lazy_adam"
        return Balance(name, share_of_sum(self.loss, tasks), lazy)

    def _batches(self, lane: Lane, stream: np.random.Generator) -> list[np.ndarray]:
        size, order = self.settings.training.batch_size, self.settings.protocol.batches
        if order == "mixed":
            return mixed(lane.train, size, stream)
        return OF_ONE_DOMAIN[order](list(self._groups(lane).values()), size, stream)

    def _groups(self, lane: Lane) -> dict[int, np.ndarray]:
        """A lane's training rows by number of their domain; domains without any are left out."""
        domain = self.rows.domain.cpu().numpy()[lane.train]
        return {int(d): lane.train[domain == d] for d in np.unique(domain)}

    def _select(
        self, leg: str, interval: int, lane: Lane, loss: float | None, patience: int
    ) -> None:
        """Validate a lane, keep its weights if they are the best so far, else count or stop."""
        protocol, state = self.settings.protocol, self._states[lane.name]
        auc = self._validation_auc(lane)
        improved = state.best is None or auc > state.best + protocol.min_improvement
        if improved:
            state.best, state.without_gain = auc, 0
            for name, value in self._weights(lane).items():
                self._best[name] = value.clone()
        elif interval > 0:
            state.without_gain += 1
            state.stopped = state.without_gain >= patience
            if protocol.rollback and not state.stopped:
                self._restore({name: self._best[name] for name in self._weights(lane)})
        self.curve.append(
            {
                "phase": leg,
                "lane": lane.name,
                "epoch": self._epochs(interval),
                "train_loss": loss,
                "validation_auc": auc,
                "best": improved,
            }
        )

    def _weights(self, lane: Lane) -> dict[str, Tensor]:
        """What the training of a lane changes: its parameters, and statistics of the model."""
        if self.carry_best:
            state: dict[str, Tensor] = self.model.state_dict()
            return state
        # not by way of the whole model: there may be thousands of lanes
        return {n: p.detach() for n, p in lane.parameters.items()} | self._statistics

    def _validation_auc(self, lane: Lane) -> float:
        """Macro AUC over the domains and tasks of the lane's validation rows."""
        scores = self.logits(lane.validation, lane.routing).cpu().numpy()
        if self.settings.protocol.binned_auc:
            scores = exceeded_thresholds(expit(scores.astype(np.float64)))
        index = torch.from_numpy(lane.validation).to(self.rows.domain.device)
        labels = self.rows.labels[index].cpu().numpy()
        domain = self.rows.domain[index].cpu().numpy()
        domains = len(self.rows.schema.domains)
        return self.ranks.decided(lambda: macro_auc(scores, labels, domain, domains))

    @torch.no_grad()
    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        state = self.model.state_dict()
        for name, tensor in tensors.items():
            state[name].copy_(tensor)

    def _save(self, leg: str, interval: int) -> None:
        tensors: dict[str, Tensor] = {}
        tensors |= {f"model/{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self._best.items()}
        if self._balance:
            tensors |= {f"balance/{name}": value for name, value in self._balance.state.items()}
        for kind, optimizer in self.optimizers.items():
            for name, parameter in self.model.named_parameters():
                for moment, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{kind}/{name}/{moment}"] = value
        state = {
            "phase": leg,
            "interval": interval,
            "states": {name: asdict(state) for name, state in self._states.items()},
            "lanes": [asdict(lane) for lane in self.lanes],
            "curve": self.curve,
            "progress": self.progress.state(),
        }
        self.checkpoint.save(tensors, state)

    def _resume(self, checkpoint: Checkpoint, leg: str | None = None) -> None:
        """Go on from a checkpoint if there is one, and it is of the leg, if one is named."""
        found = checkpoint.load()
        if found is None or leg not in (None, found[1]["phase"]):
            return
        tensors, state = found
        device = self.rows.domain.device
        groups: dict[str, dict[str, Tensor]] = {
            name: {} for name in ("model", "best", "balance", "moments")
        }
        for name, tensor in tensors.items():
            group, rest = name.split("/", 1)
            kind, key = (group, rest) if group in groups else ("moments", name)
            groups[kind][key] = tensor.to(device)
        self._restore(groups["model"])
        self._best = groups["best"]
        if self._balance:
            self._balance.load(groups["balance"])
        self._resumed_moments = groups["moments"]
        self._resumed_leg, self._resumed_interval = state["phase"], state["interval"]
        self._states = {name: LaneState(**own) for name, own in state["states"].items()}
        self.lanes = [LaneRecord(**lane) for lane in state["lanes"]]
        self.curve = state["curve"]
        self.progress.resume(state["progress"])
        self.progress.say(f"goes on after validation {state['interval']} of leg {state['phase']}")

    def _set_moments(self) -> None:
        trained = dict(self.model.named_parameters())
        for key, value in self._resumed_moments.items():
            kind, name, moment = key.split("/")
            self.optimizers[kind].state.setdefault(trained[name], {})[moment] = value

    def _report(
        self, leg: str, interval: int, lanes: Sequence[Lane], seconds: float, patience: int
    ) -> None:
        states = [self._states[lane.name] for lane in lanes]
        share, now = self._epochs(1), self._epochs(interval)
        before = self._epochs(interval - 1)
        self.progress.trained(
            leg,
            now,
            epochs=share,
            rows=sum(
                self._visited(leg, lane, now) - self._visited(leg, lane, before) for lane in lanes
            ),
            seconds=seconds,
            best=float(np.mean([state.best for state in states if state.best is not None])),
            left=patience - min(s.without_gain for s in states),
        )

    def _epochs(self, intervals: int) -> float:
        """How many epochs so many intervals are; a whole number where each is an epoch."""
        validations = self.settings.training.validations
        return intervals if validations == 1 else intervals / validations


def _compiled(model: ClickModel) -> Callable[..., Tensor]:
    """The model, compiled but for its dropout: the compiler does not know numpy's streams."""
    dropout = model.dropout
    # torch gives `disable` no types; only this one dropout is left out, so not its class's method
    dropout.forward = torch.compiler.disable(dropout.forward)  # type: ignore[method-assign,no-untyped-call]
    compiled: Callable[..., Tensor] = torch.compile(model)
    return compiled
