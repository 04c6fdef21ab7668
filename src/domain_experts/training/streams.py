"""Random streams keyed by what they are for, so that no stream depends on another's use."""

import hashlib

import numpy as np
import torch


def key(seed: int, *purpose: object) -> int:
    """A 63-bit key of (seed, purpose...)."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def numpy_stream(seed: int, *purpose: object) -> np.random.Generator:
    """Stream for row orders and dropout masks."""
    return np.random.Generator(np.random.SFC64(key(seed, *purpose)))


def torch_stream(seed: int, *purpose: object) -> torch.Generator:
    """Stream for initial weights."""
    return torch.Generator().manual_seed(key(seed, *purpose))
