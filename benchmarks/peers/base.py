"""What a contestant is given, and what it can do."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from torch import nn

from benchmarks.results import OURS
from domain_experts.data.interactions import Interactions
from domain_experts.settings import RunSettings


@dataclass(frozen=True)
class Peer:
    """A package that has an adapter here, in a module of the same name."""

    package: str
    models: tuple[str, ...]
    several_domains: bool = False
    """Whether its models serve several domains, not several tasks."""


_RANKING = ("mlp", "wdl", "nfm", "autoint", "pnn", "deepfm", "fibinet", "xdeepfm", "dcn")
PEERS = {
    "FuxiCTR": Peer("fuxictr", _RANKING),
    "torch-rechub": Peer(
        "torch_rechub", ("wdl", "deepfm", "autoint", "fibinet", "dcn", "mmoe", "ple")
    ),
    "DeepCTR-Torch": Peer("deepctr_torch", (*_RANKING, "mmoe", "ple")),
    "Scenario-Wise-Rec": Peer(
        "scenario_wise_rec",
        (
            *("star", "shared_bottom", "mmoe", "ple", "m3oe", "m2m", "sarnet", "adasparse"),
            *("adaptdhm", "epnet", "ppnet", "hamur"),
        ),
        several_domains=True,
    ),
}
EMBEDDING_STD = 0.01
"""Of the embeddings' initial values, for all."""


@dataclass(frozen=True)
class Job:
    """A model to be trained, the same for all contestants: without dropout and penalties."""

    model: str
    data: Interactions
    train: np.ndarray
    """Rows to be trained on."""
    held_out: np.ndarray
    """Rows to be predicted."""
    settings: RunSettings

    @property
    def batch(self) -> int:
        return self.settings.training.batch_size

    @property
    def first(self) -> np.ndarray:
        """The rows of one batch."""
        return self.train[: self.batch]

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Codes (n,) int64 by field."""
        codes = np.asarray(self.data.fields)[rows].astype(np.int64)
        return {name: codes[:, j] for j, (name, _) in enumerate(self.data.schema.fields)}

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """(n, T) float32; (n,) of a single task."""
        labels: np.ndarray = np.asarray(self.data.labels)[rows].astype(np.float32)
        return labels[:, 0] if len(self.data.schema.tasks) == 1 else labels


class Contestant(Protocol):
    """A library's model of a job, with the library's own loop and loader."""

    model: nn.Module

    def steps(self, count: int) -> None:
        """So many training steps on the job's first batch, which is at hand."""

    def epoch(self) -> None:
        """One pass over the training rows, loading included."""

    def predict(self) -> np.ndarray:
        """Scores (n, T) of the held-out rows, loading included; (n,) of a single task."""


def contestants(model: str, several_domains: bool = False) -> list[str]:
    """The package and the peers that have a model and are installed here."""
    fit = {n: p for n, p in PEERS.items() if p.several_domains == several_domains}
    return [OURS, *(n for n, p in fit.items() if model in p.models and find_spec(p.package))]


def enter(name: str, job: Job) -> Contestant:
    """A contestant by name; no other's library is imported."""
    module = "benchmarks.ours"
    if name != OURS:
        module = f"benchmarks.peers.{PEERS[name].package}"
    made: Contestant = import_module(module).Entrant(job)
    return made
