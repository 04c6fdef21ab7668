"""Domain bias (this study): one network for all domains, and a constant for each objective.

    logit_{d,t} = v_t' layers(x) + c_t + b_{d,t}

b is zero at the start. What a domain's rows have in common is its share of positive labels alone.
"""

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.rows import of_rows
from domain_experts.models.multi.shared_head import SharedHead


class Model(SharedHead):
    """One network and a bias of each objective."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.b = nn.Parameter(torch.zeros(domains, tasks))

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        return self.logits(x) + of_rows(self.b, counts)
