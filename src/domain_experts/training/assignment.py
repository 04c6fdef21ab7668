"""What a trainer is given, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from domain_experts.data.interactions import Interactions
from domain_experts.data.split import SPLITS
from domain_experts.errors import UserError
from domain_experts.runs import Run, reads
from domain_experts.settings import RunSettings, declared
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.lanes import LaneRecord
from domain_experts.training.progress import Progress
from domain_experts.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Upstream:
    """A finished run that another one starts from: its weights, and its record.json."""

    weights: Mapping[str, np.ndarray]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Assignment:
    """One run to train."""

    run: Run
    interactions: Interactions
    split: np.ndarray
    """(N,) uint8: 0 train, 1 validation, 2 test."""
    upstream: Mapping[str, Upstream]
    """By arm, the runs that this one starts from."""
    device: str
    checkpoint: Checkpoint
    progress: Progress
    ranks: Ranks = ALONE
    """The processes that train the run together."""

    @property
    def settings(self) -> RunSettings:
        """The settings that the arm declares; another one cannot be read: no key would tell."""
        run = self.run
        return declared(run.settings, reads(run.arm, run.backbone), run.arm)

    @property
    def planted_groups(self) -> tuple[int, ...]:
        """Planted group of each domain.

        Raises:
            UserError: the data set has none.
        """
        groups = self.interactions.planted_groups
        if groups is None:
            raise UserError(f"{self.run.dataset} has no planted groups, which {self.run.arm} needs")
        return groups

    def index(self, split: str) -> np.ndarray:
        """Rows of a split, ascending."""
        return np.flatnonzero(self.split == SPLITS.index(split))


@dataclass(frozen=True)
class Outcome:
    """What a trainer made."""

    logits: Mapping[str, np.ndarray]
    """(n, T) float32 for `validation` and `test`, in row order."""
    state: Mapping[str, np.ndarray]
    """The weights to keep."""
    parameters: Mapping[str, int]
    """Numbers of parameters: backbone, experts, gate."""
    unused_parameters: int = 0
    """How many of them the predictions do not use."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    lanes: list[LaneRecord] = field(default_factory=list)
    rows_before: int = 0
    """Rows visited to make what the run started from."""
    gate: np.ndarray | None = None
    """(D, E) weights of the gate."""
    experts: int | None = None
    """Number of experts E."""
    experts_moved: list[bool] | None = None
    """Of each expert that the predictions use, whether training changed what it adds."""
    by_domain: bool = False
    """Whether there is a model for each domain."""
    by_task: bool = False
    """Whether there is a model for each task."""
    tested: Mapping[str, float] = field(default_factory=dict)
    """Scalars that the tested model exposes."""
    views: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Outputs of inner parts on some test rows, as `training.multi.views` says."""
