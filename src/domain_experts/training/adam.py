"""Adam by torch's functional form."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


class Adam:
    """Adam (Kingma and Ba 2015), with L2 penalties by group.

    `torch.optim.Adam` gives the same bits, but imports torch's compiler at its first step, which
    costs every process a second. A parameter without gradient is left alone: weight, moments and
    step count.

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
            moved = [p for p in parameters if p.grad is not None]
            states = [self.state.setdefault(p, {}) for p in moved]
            for p, state in zip(moved, states, strict=True):
                if not state:
                    state["step"] = torch.zeros((), device=p.device)
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
            adam(
                list(moved),
                [p.grad for p in moved if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self.learning_rate,
                weight_decay=decay,
                eps=1e-8,
                maximize=False,
            )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameters, _ in self.groups:
            for parameter in parameters:
                parameter.grad = None
