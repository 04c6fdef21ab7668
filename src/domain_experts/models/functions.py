"""Functions with a gradient written here."""

import torch
from torch import Tensor
from torch.autograd import Function


def applied(function: type[Function], *tensors: Tensor) -> Tensor:
    """The one output of a function."""
    # torch gives `apply` no types
    output: Tensor = function.apply(*tensors)  # type: ignore[no-untyped-call]
    return output


def of_one_type(*tensors: Tensor) -> list[Tensor]:
    """The tensors in the type that autocast asks for; as they are where none does.

    Autocast does so for torch's own functions, but not for those with a gradient written here.
    """
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    return [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]
