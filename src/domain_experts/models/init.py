"""Glorot initialisation from a stream of its own."""

import math

import torch
from torch import Tensor


def glorot(kind: str, fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    """A (fan_in, fan_out) matrix with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).

    `glorot_normal` is truncated at two standard deviations and rescaled, as in Keras.
    """
    std = math.sqrt(2 / (fan_in + fan_out))
    weight = torch.empty(fan_in, fan_out)
    if kind == "glorot_uniform":
        bound = math.sqrt(3) * std
        return weight.uniform_(-bound, bound, generator=generator)
    if kind == "glorot_normal":
        # the standard deviation of a unit normal truncated at +-2
        std /= 0.87962566103423978
        return torch.nn.init.trunc_normal_(
            weight, std=std, a=-2 * std, b=2 * std, generator=generator
        )
    raise ValueError(f"unknown init '{kind}'")
