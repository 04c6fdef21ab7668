"""A lane, which is one independent training within a leg, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from domain_experts.models.adapter import Hard

Part = Literal["experts", "gate", "model"]


@dataclass(frozen=True, eq=False)
class Lane:
    """Rows and weights of one independent training.

    `routing` is the one expert that serves the lane's rows, PLAIN for none, or None if the model
    routes by itself. `part` says what it trains. A lane that is not `usable`, for want of rows to
    train or select on, stays as it starts. One that is not `used` makes weights for other runs
    alone.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    parameters: Mapping[str, nn.Parameter]
    routing: int | Hard | None = None
    part: Part = "model"
    usable: bool = True
    used: bool = True


@dataclass
class LaneRecord:
    """How a lane ended: an entry of the record's `lanes`.

    `phase` is the name of its leg, as it is stored. `domains` and `tasks` are the numbers of those
    whose rows it sees and that it learns; `epoch_tested` is the epoch whose weights the run's
    predictions use (0: as the lane started; None: they use none of it); `moved` says that it ended
    with other weights than it started with, `capped` that the cap on epochs ended it with patience
    left.
    """

    phase: str
    lane: str
    part: Part
    domains: list[int]
    tasks: list[int]
    epochs: float
    rows_visited: int
    epoch_tested: float | None
    moved: bool
    capped: bool
    trained: bool
    used: bool

    def end_with(self, epoch: float) -> None:
        """Note whose epoch's weights the lane ends with."""
        self.epoch_tested = epoch if self.used else None
        self.moved = epoch > 0
