"""What belongs to each row of a batch: its domain's values, and the noise of its training step."""

import numpy as np
import torch
from torch import Tensor

from domain_experts.models.dropout import KeyedDropout


def of_rows(values: Tensor, counts: list[int]) -> Tensor:
    """Each row's own of a value (D, ...) a domain: (B, ...).

    Args:
        values: one entry a domain.
        counts: rows of each domain; rows stand together by domain.
    """
    own = zip(values.unbind(), counts, strict=True)
    return torch.cat([value.expand(n, *value.shape) for value, n in own])


def noise_of(dropout: KeyedDropout) -> np.random.Generator | None:
    """The stream that a training step draws its noise from; None where nothing is trained.

    It is that of the dropout's masks, which a training that goes on has where it left off.
    """
    return dropout.lanes[0][0] if dropout.training and dropout.lanes else None
