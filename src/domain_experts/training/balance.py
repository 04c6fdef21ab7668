"""Loss balance: how the gradients of several tasks become one step (`training.balance`).

A task's gradient is that of its own loss. An element of a parameter that two or more tasks'
gradients reach is shared; one that a single task's reaches (its column of the head, say) is that
task's own. Nearly all ways are weights: of the losses, and so of all gradients, or of the gradients
where they are shared. With weights of one the step is that of the plain loss.

What the papers leave open, or tune, is a constant here, at the value of their own code or text.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from domain_experts.training.adam import Adam

TEMPERATURE = 2.0
"""T of DWA."""
RESTORING, WEIGHT_RATE = 1.5, 0.025
"""Alpha of GradNorm, and the step of its weights."""
RELAX, DECAY = 0.7, 0.9
"""r and beta of MetaBalance."""
RADIUS = 0.4
"""c of CAGrad."""

State = dict[str, Tensor]
"""What a way remembers from step to step; a checkpoint keeps it."""


@dataclass(frozen=True)
class Step:
    """What a way is told of a step with T tasks and M parameters; tensors are on the CPU."""

    losses: Tensor
    """(T,) float64."""
    products: Tensor
    """(M, T, T) float64: inner products of the tasks' gradients, over what they share."""
    last: int | None
    """Number of the last matrix that tasks share, if there is one."""
    epoch_starts: bool
    learning_rate: float
    """That of the weights."""
    stream: np.random.Generator


Way = Callable[[Step, State], Tensor]
"""From a step to the tasks' weights, (T,) or by parameter (M, T)."""


def uncertainty(step: Step, state: State) -> Tensor:
    """1 / sigma_t^2, which minimises sum_t L_t / sigma_t^2 + log sigma_t (Kendall et al., eq. 10).

    log sigma_t^2 starts at 0 and moves by Adam, as the weights do.
    """
    log_variance = state.setdefault("log_variance", torch.zeros_like(step.losses))
    weights = torch.exp(-log_variance)
    slope = 0.5 - weights * step.losses
    log_variance += _adam(state, "log_variance", slope, step.learning_rate)
    return weights


def dwa(step: Step, state: State) -> Tensor:
    """T softmax(r / 2), r_t being what an epoch left of the mean loss (Liu et al. 2019, eq. 7).

    One each until two epochs have ended.
    """
    if step.epoch_starts and "sum" in state:
        ended = state["sum"] / state["steps"]
        if "ended" in state:
            state["ratio"] = ended / state["ended"]
        state["ended"] = ended
        del state["sum"], state["steps"]
    state["sum"] = state.get("sum", torch.zeros_like(step.losses)) + step.losses
    state["steps"] = state.get("steps", torch.zeros_like(step.losses)) + 1
    if "ratio" not in state:
        return torch.ones_like(step.losses)
    return len(step.losses) * torch.softmax(state["ratio"] / TEMPERATURE, 0)


def gradnorm(step: Step, state: State) -> Tensor:
    """Weights that pull gradient norms to mean * (relative loss)^alpha (Chen et al., eq. 1, 2).

    Norms are those of the last shared matrix. A step descends the distance's slope in the weights,
    which stay above 0 and are then scaled to sum T (algorithm 1).
    """
    weights = state.setdefault("weights", torch.ones_like(step.losses))
    start = state.setdefault("start", step.losses.clone())
    if step.last is None:
        return weights
    norms = step.products[step.last].diagonal().sqrt()
    rate = step.losses / start
    target = (weights * norms).mean() * (rate / rate.mean()) ** RESTORING
    slope = norms * torch.sign(weights * norms - target)
    moved = (weights - WEIGHT_RATE * slope).clamp(min=torch.finfo(norms.dtype).eps)
    state["weights"] = moved * (len(moved) / moved.sum())
    return weights


def metabalance(step: Step, state: State) -> Tensor:
    """Gradients as long as the first task's, by parameter (He et al. 2022, algorithm 1).

    r of a task's gradient is scaled by the ratio of the moving averages of both norms, the rest
    stays; what is longer is shortened, and what is shorter lengthened (their strategy C).
    """
    norms = step.products.diagonal(dim1=1, dim2=2).sqrt()
    before = state.get("norms", torch.zeros_like(norms))
    state["norms"] = DECAY * before + (1 - DECAY) * norms
    means = state["norms"]
    ratio = torch.where(means > 0, means[:, :1] / means, 1.0)
    return RELAX * ratio + (1 - RELAX)


def pcgrad(step: Step, state: State) -> Tensor:
    """Each gradient less its part against any other, in random order (Yu et al., algorithm 1)."""
    products = step.products.sum(0)
    tasks = len(products)
    # row i holds what the projected gradient of task i is made of
    parts = torch.eye(tasks, dtype=products.dtype)
    for i in range(tasks):
        for j in step.stream.permutation([j for j in range(tasks) if j != i]):
            against = parts[i] @ products[:, j]
            if against < 0:
                parts[i, j] -= against / products[j, j]
    return parts.sum(0)


def cagrad(step: Step, state: State) -> Tensor:
    """The step that helps the worst task most, within c |g_0| of the mean g_0 (Liu et al. 2021).

    g_0 + sqrt(phi) g_w / |g_w|, where w in the simplex minimises g_w' g_0 + sqrt(phi) |g_w|, and
    phi = c^2 |g_0|^2 (algorithm 1).
    """
    products = step.products.sum(0).numpy()
    tasks = len(products)
    scale = products.trace()
    if not scale:
        return torch.ones_like(step.losses)
    products = products / scale
    to_mean = products.mean(1)
    root = RADIUS * math.sqrt(max(products.mean(), 0.0))

    def length(w: np.ndarray) -> float:
        return math.sqrt(max(w @ products @ w, 0.0))

    def objective(w: np.ndarray) -> float:
        return float(w @ to_mean + root * length(w))

    def slope(w: np.ndarray) -> np.ndarray:
        own = length(w)
        return np.asarray(to_mean + (root / own * (products @ w) if own else 0.0))

    found = minimize(
        objective,
        np.full(tasks, 1 / tasks),
        jac=slope,
        bounds=[(0, 1)] * tasks,
        constraints={
            "type": "eq",
            "fun": lambda w: w.sum() - 1,
            "jac": lambda w: np.ones(tasks),
        },
        method="SLSQP",
        options={"ftol": 1e-12},
    ).x
    own = length(found)
    # sums, of which the mean is 1 / T
    weights = 1 + (tasks * root / own * found if own else np.zeros(tasks))
    return torch.from_numpy(weights)


OF_LOSSES: Mapping[str, Way] = {"uncertainty": uncertainty, "dwa": dwa, "gradnorm": gradnorm}
"""Ways that weight losses, and so all gradients."""
OF_GRADIENTS: Mapping[str, Way] = {
    "metabalance": metabalance,
    "pcgrad": pcgrad,
    "cagrad": cagrad,
}
"""Ways that weight gradients where tasks share them."""
ADATASK = "adatask"


class Balance:
    """Takes the steps of one training, by weights of its tasks.

    Args:
        name: the way, a key of OF_LOSSES or OF_GRADIENTS, or ADATASK.
        share: of the sum of the tasks' losses, what the plain loss is: 1 for a sum, 1 / T for a
            mean.
        lazy: hand the optimiser sparse gradients of tables.
    """

    def __init__(self, name: str, share: float, lazy: bool = False) -> None:
        self.name, self.share, self.lazy = name, share, lazy
        self.state: State = {}
        self._epoch_starts = False
        self._stream = np.random.default_rng(0)

    def load(self, state: State) -> None:
        """Take back what a checkpoint kept of `state`."""
        self.state = state if self.name == ADATASK else {n: v.cpu() for n, v in state.items()}

    def begin(self, epoch_starts: bool, stream: np.random.Generator) -> None:
        """Be told that an interval begins, and of its random stream."""
        self._epoch_starts, self._stream = epoch_starts, stream

    def step(
        self, losses: Sequence[Tensor], parameters: Sequence[nn.Parameter], optimizer: Adam
    ) -> None:
        """Move the optimiser's parameters.

        Args:
            losses: that of each task.
            parameters: those that the optimiser moves, in the model's order.
            optimizer: has the L2 penalties and the step size.
        """
        gradients = _gradients(losses, parameters)
        if self.name == ADATASK:
            adatask(parameters, gradients, self.share, optimizer, self.state)
            return
        tasks = len(losses)
        products = torch.zeros(len(parameters), tasks, tasks, dtype=torch.float64)
        last = None
        for m, own in enumerate(gradients):
            if own is not None:
                shared = (own.values * own.shared).flatten(1).double()
                products[m] = shared @ shared.T
                last = m if own.values.dim() > 2 and own.shared.any() else last
        told = torch.stack([loss.detach() for loss in losses]).double().cpu()
        starts, self._epoch_starts = self._epoch_starts, False
        step = Step(told, products, last, starts, optimizer.learning_rate, self._stream)
        way = {**OF_LOSSES, **OF_GRADIENTS}[self.name]
        weights = way(step, self.state).to(losses[0]).expand(len(parameters), tasks)
        for p, own, w in zip(parameters, gradients, weights, strict=True):
            if own is not None:
                weighted = torch.tensordot(w, own.values, 1)
                if self.name in OF_GRADIENTS:
                    weighted = torch.where(own.shared, weighted, own.values.sum(0))
                p.grad = own.placed(p, self.share * weighted)
                if not self.lazy and p.grad.is_sparse:
                    p.grad = p.grad.to_dense()
        optimizer.step()


@dataclass(frozen=True)
class Gradients:
    """Of one parameter those of all tasks; of a table, of the rows that a batch has."""

    values: Tensor
    """(T, *shape), or (T, R, d)."""
    rows: Tensor | None = None
    """(R,) numbers of the table's rows."""

    @cached_property
    def shared(self) -> Tensor:
        """Whether two tasks or more reach an element."""
        return (self.values != 0).sum(0) > 1

    def placed(self, p: nn.Parameter, values: Tensor) -> Tensor:
        """A gradient of the parameter, sparse if only rows of it are meant."""
        if self.rows is None:
            return values
        return torch.sparse_coo_tensor(
            self.rows.unsqueeze(0), values, p.shape, is_coalesced=True, check_invariants=False
        )


def adatask(
    parameters: Sequence[nn.Parameter],
    gradients: Sequence[Gradients | None],
    share: float,
    optimizer: Adam,
    state: State,
) -> None:
    """Adam with moments of each task alone; a step is the sum of theirs (Yang et al. 2023).

    An L2 penalty is shared out among the tasks that have reached an element: Adam would blow it up
    to whole steps for a task that never does.
    """
    decays = {p: decay for group, decay in optimizer.groups for p in group}
    for number, (p, own) in enumerate(zip(parameters, gradients, strict=True)):
        if own is None:
            continue
        by_task = own.values
        if own.rows is not None:
            by_task = by_task.new_zeros(len(by_task), *p.shape).index_add(1, own.rows, by_task)
        touched = by_task != 0
        if f"{number}/exp_avg_sq" in state:
            touched |= state[f"{number}/exp_avg_sq"] != 0
        touched |= ~touched.any(0)
        penalty = touched * (decays[p] * p.detach() / touched.sum(0))
        moved = _adam(state, str(number), share * by_task + penalty, optimizer.learning_rate)
        with torch.no_grad():
            p.add_(moved.sum(0))


def _gradients(
    losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]
) -> list[Gradients | None]:
    """Of each parameter its gradients; None where no loss reaches it."""
    last = len(losses) - 1
    by_task = [
        torch.autograd.grad(loss, parameters, retain_graph=t < last, allow_unused=True)
        for t, loss in enumerate(losses)
    ]
    return [_together(own) for own in zip(*by_task, strict=True)]


def _together(by_task: Sequence[Tensor | None]) -> Gradients | None:
    """One parameter's gradients; sparse ones have the same rows, those of the batch."""
    first = next((g for g in by_task if g is not None), None)
    if first is None:
        return None
    rows = None
    if first.is_sparse:
        by_task = [g if g is None else g.coalesce() for g in by_task]
        rows = next(g.indices()[0] for g in by_task if g is not None)
        by_task = [g if g is None else g.values() for g in by_task]
        first = next(g for g in by_task if g is not None)
    zeros = torch.zeros_like(first)
    return Gradients(torch.stack([zeros if g is None else g for g in by_task]), rows)


def _adam(state: State, name: str, gradient: Tensor, learning_rate: float) -> Tensor:
    """How far Adam moves what has the gradient; its moments are kept in `state` by `name`."""
    moved = nn.Parameter(torch.zeros_like(gradient))
    moved.grad = gradient
    adam = Adam([([moved], 0.0)], learning_rate)
    adam.state[moved] = {
        key.removeprefix(f"{name}/"): value
        for key, value in state.items()
        if key.startswith(f"{name}/")
    }
    adam.step()
    state |= {f"{name}/{moment}": value for moment, value in adam.state[moved].items()}
    return moved.detach()
