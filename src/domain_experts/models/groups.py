"""A batch whose rows stand together by group: by domain, or by expert."""

from typing import NamedTuple

import torch
from torch import Tensor


class Groups(NamedTuple):
    """`order` (B,) puts the rows together, group after group; `counts` are the rows of each."""

    order: Tensor
    counts: list[int]

    def back(self, grouped: Tensor) -> Tensor:
        """The grouped rows (B, ...) in the batch's own order."""
        return torch.empty_like(grouped).index_copy(0, self.order, grouped)


def group(number: Tensor, groups: int) -> Groups:
    """Group a batch by the number (B,) of each row's group; rows of a group keep their order."""
    counts = torch.bincount(number, minlength=groups).tolist()
    return Groups(torch.argsort(number, stable=True), counts)
