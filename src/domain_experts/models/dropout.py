"""Dropout whose masks come from keyed streams."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class KeyedDropout(nn.Module):
    """Inverted dropout; each lane of rows draws its masks from the lane's own stream.

    `lanes` is set before each training step: (stream, number of rows) of the lanes in the batch,
    in order. Lanes that are trained side by side thus see the masks they would see alone. Where
    other processes train the other rows of the one lane, `part` says which are here.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.lanes: Sequence[tuple[np.random.Generator, int]] = ()
        self.part = slice(None)

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of x (B, h), where B is the number of rows in `part` of `lanes`."""
        if not self.training or self.p == 0:
            return x
        masks = [self._keep(stream, rows, x.shape[1]) for stream, rows in self.lanes]
        mask = torch.from_numpy(np.concatenate(masks) if len(masks) > 1 else masks[0])
        return x * mask.view(x.shape).to(x.device, x.dtype).mul_(1 / (1 - self.p))

    def normal(self, columns: int) -> Tensor:
        """Standard normal numbers (B, columns), each row's from the stream of its lane."""
        drawn = [stream.standard_normal((rows, columns), np.float32) for stream, rows in self.lanes]
        return torch.from_numpy(np.concatenate(drawn)[self.part])

    def _keep(self, stream: np.random.Generator, rows: int, columns: int) -> np.ndarray:
        """What is kept of the rows of a lane that are here, after drawing for all of them."""
        start, stop, _ = self.part.indices(rows)
        count, first, last = rows * columns, start * columns, stop * columns
        if self.p == 0.5:
            # random bits are exact at 1/2 and ten times cheaper than random floats
            packed = np.frombuffer(stream.bytes(math.ceil(count / 8)), np.uint8)
            skipped = first % 8
            return np.unpackbits(packed[first // 8 :], count=last - first + skipped)[skipped:]
        return (stream.random(count, np.float32)[first:last] >= self.p).view(np.uint8)
