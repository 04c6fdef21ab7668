"""Types of numbers."""

import torch
from torch import Tensor


def of_one_type(*tensors: Tensor) -> list[Tensor]:
    """The tensors in the type that autocast asks for; as they are where none does.

    Autocast does so for torch's own functions, but not for those with a gradient written here.
    """
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    return [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]
