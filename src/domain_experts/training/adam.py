"""Adam by torch's kernels."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim._functional import sparse_adam

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam (Kingma and Ba 2015), with L2 penalties by group; all parameters are of one type.

    `torch.optim.Adam` gives the same bits, but imports torch's compiler at its first step, which
    costs every process a second. A parameter without gradient is left alone: weight, moments and
    step count. Where a gradient is sparse only its rows are moved, penalised and counted in the
    moments, as by `torch.optim.SparseAdam`; the step count is the parameter's.

    Args:
        groups: parameters, and the factor of the weight that is added to their gradient.
        learning_rate: step size.
    """

    def __init__(
        self, groups: Iterable[tuple[Sequence[nn.Parameter], float]], learning_rate: float
    ) -> None:
        self.groups = [(list(parameters), decay) for parameters, decay in groups]
        self.learning_rate = learning_rate
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for parameters, decay in self.groups:
            sparse = [p for p in parameters if p.grad is not None and p.grad.is_sparse]
            for p in sparse:
                self._move_rows(p, decay)
            moved = [p for p in parameters if p.grad is not None and not p.grad.is_sparse]
            if not moved:
                continue
            states = [self._state(p) for p in moved]
            steps = [state["step"] for state in states]
            # what torch.optim calls for parameters of one device and type
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                [*moved],
                [p.grad for p in moved if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=self.learning_rate,
                beta1=BETA_1,
                beta2=BETA_2,
                weight_decay=decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def _state(self, p: nn.Parameter) -> dict[str, Tensor]:
        """Step count and moments of a parameter."""
        state = self.state.get(p)
        if not state:
            state = self.state[p] = {}
            state["step"] = torch.zeros((), device=p.device)
            state["exp_avg"] = _zeros_like(p)
            state["exp_avg_sq"] = _zeros_like(p)
        return state

    def _move_rows(self, p: nn.Parameter, decay: float) -> None:
        """Move the rows of a parameter that its sparse gradient has."""
        assert p.grad is not None
        grad, state = p.grad.coalesce(), self._state(p)
        if decay:
            grad.values().add_(p[grad.indices()[0]], alpha=decay)
        state["step"] += 1
        sparse_adam(
            [p],
            [grad],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [int(state["step"])],
            eps=EPSILON,
            beta1=BETA_1,
            beta2=BETA_2,
            lr=self.learning_rate,
            maximize=False,
        )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameters, _ in self.groups:
            for parameter in parameters:
                parameter.grad = None


def _zeros_like(tensor: Tensor) -> Tensor:
    """Zeros, which on a CPU take no memory until they are written to."""
    if tensor.device.type != "cpu":
        return torch.zeros_like(tensor)
    zeros = np.zeros(tensor.shape, torch.empty(0, dtype=tensor.dtype).numpy().dtype)
    return torch.from_numpy(zeros)
