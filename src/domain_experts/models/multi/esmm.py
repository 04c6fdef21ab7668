"""ESMM (Ma et al. 2018, arXiv 1804.07931): a funnel, where each task is a step after the last one.

    o_{d,t} = tower_{d,t}(layers_t(x))
    p_t     = sigmoid(o_1) ... sigmoid(o_t)                                   (eq. 1)
    logit_t = -log(exp(-logit_{t-1}) + exp(-o_t) + exp(-logit_{t-1} - o_t)),  logit_1 = o_1

The third line is the logit of the product of two probabilities. The paper's funnel has two steps:
the click, and the conversion after it; p_2 is the probability of both, and sigmoid(o_2) that of the
conversion given a click, which no label is needed for. Tasks stand in the order of the funnel.
"""

import torch
from torch import Tensor

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Towers


class Model(MultiModel):
    """ESMM; a task's layers serve all domains, and each objective has a tower."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        hidden, generator = context.settings.hidden, context.generator
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.networks = Experts(tasks, (self.width, *hidden), generator)
        self.towers = Towers(domains, tasks, hidden[-1], hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        return of_all_steps(self.steps(x, counts))

    def steps(self, x: Tensor, counts: list[int]) -> Tensor:
        """Logits o (B, T) of each step for x (B, I), the one before given."""
        steps: Tensor = self.towers(self.networks(x), counts)
        return steps


def of_all_steps(steps: Tensor) -> Tensor:
    """Logits (B, T) of having taken all steps so far, from those of each (B, T) given the last."""
    logit, *others = steps.unbind(1)
    logits = [logit]
    for step in others:
        logit = -torch.stack([-logit, -step, -logit - step]).logsumexp(0)
        logits.append(logit)
    return torch.stack(logits, 1)
