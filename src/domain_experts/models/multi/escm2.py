"""ESCM2 (Wang et al. 2022, arXiv 2204.05125): ESMM whose steps also learn from those who got there.

    L  += lambda_c sum_{t>1} mean R_t                                   (counterfactual risk)
    R_t = w_t e_t                                                       (IPS)
    R_t = i_t + w_t (e_t - i_t) + w_t (e_t - i_t)^2                     (DR, and its imputation)
    w_t = y_{t-1} min(1 / p_{t-1}, clip),  e_t = cross entropy of y_t and o_t
    i_t = softplus(tower'_{d,t}(layers'_t(x)))

p and o are ESMM's, y are labels. R_t estimates the mean e_t of all rows, though only rows with
y_{t-1} show theirs: one that was unlikely to get there stands for the many that did not. With DR
it is enough that p or i is right. No gradient goes through w_t. The paper's lambda_g, of the last
step's cross entropy, is 1, as all tasks weigh alike. Its equations were to be had as others report
them. PaddleRec clips 1 / p alike, but also divides it by the square of the batch's clicks, and its
i_t is a probability, though a cross entropy may be above 1.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from domain_experts.models.multi import esmm
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.blocks import Experts, Towers


class Model(esmm.Model):
    """ESCM2; predictions are ESMM's."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        self.own = context.settings.escm2
        hidden, generator = context.settings.hidden, context.generator
        domains, later = len(context.schema.domains), len(context.schema.tasks) - 1
        self.imputation = nn.ModuleList()
        if self.own.risk == "doubly_robust" and later:
            self.imputation.append(Experts(later, (self.width, *hidden), generator))
            self.imputation.append(Towers(domains, later, hidden[-1], hidden[-1], generator))
        self._steps: Tensor | None = None
        self._imputed: Tensor | None = None

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        steps = self._steps = self.steps(x, counts)
        if self.imputation and self.training:
            networks, towers = self.imputation
            self._imputed = softplus(towers(networks(x), counts))
        return esmm.of_all_steps(steps)

    def grouped_losses(self, labels: Tensor) -> Tensor | None:
        steps, self._steps = self._steps, None
        if steps is None or steps.shape[1] == 1:
            return None
        risks = counterfactual_risks(steps, labels, self.own.clip, self._imputed)
        return self.own.weight * risks.sum(1)


def counterfactual_risks(
    steps: Tensor, labels: Tensor, clip: float, imputed: Tensor | None
) -> Tensor:
    """R (B, T - 1) of the steps after the first.

    Args:
        steps: logits o (B, T).
        labels: (B, T) of having taken each step.
        clip: largest inverse of a probability.
        imputed: errors i (B, T - 1); None: IPS.
    """
    p = esmm.of_all_steps(steps).sigmoid()[:, :-1].detach()
    w = labels[:, :-1] * (1 / p).clamp(max=clip)
    e = binary_cross_entropy_with_logits(steps[:, 1:], labels[:, 1:], reduction="none")
    if imputed is None:
        return w * e
    beyond = e - imputed
    return imputed + w * (beyond + torch.square(beyond))
