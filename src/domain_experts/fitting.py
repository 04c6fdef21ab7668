"""Training an arm on rows in memory, what it starts from first; nothing stays on disk."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from domain_experts.data.interactions import Interactions
from domain_experts.data.split import SPLITS, TEST, TRAIN, VALIDATION
from domain_experts.errors import UserError
from domain_experts.params import Tier, load
from domain_experts.registry import ARMS, NO_BACKBONE
from domain_experts.runs import Run
from domain_experts.study import Study
from domain_experts.study_file import ONE_LOSS
from domain_experts.training.assignment import Assignment, Upstream
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.job import record_of
from domain_experts.training.progress import Progress

DATASET = "own"
"""Name of the rows' data set."""
_TIER = "own"


@dataclass(frozen=True)
class Fitted:
    """A trained run: what it was given, and its weights and record."""

    assignment: Assignment
    made: Upstream


class InMemory(Assignment):
    """A run without test rows.

    Who asks for some is shown a validation row, as no model can look at none at all.
    """

    def index(self, split: str) -> np.ndarray:
        """Rows of a split, ascending."""
        return super().index("validation")[:1] if split == SPLITS[TEST] else super().index(split)


def fitted(
    arm: str,
    backbone: str,
    interactions: Interactions,
    settings: Mapping[str, Any],
    seed: int,
    device: str,
    progress: Progress,
) -> Fitted:
    """Train an arm as the pipeline does.

    Args:
        arm: of the registry.
        backbone: likewise, or NO_BACKBONE.
        interactions: training and validation rows, as their given split says.
        settings: dotted setting, or arm/setting, to the value that replaces the default.
        seed: of weights, batches and dropout.
        device: cpu or cuda.
        progress: is told of the training.

    Raises:
        UserError: a setting is unknown or out of range, or the rows do not fit the arm.
    """
    run = _run(arm, backbone, settings, seed)
    split = interactions.given_split
    assert split is not None
    made: dict[str, Upstream] = {}
    with tempfile.TemporaryDirectory() as folder:

        def train(run: Run) -> Fitted:
            for name in run.spec.needs:
                if name not in made:
                    made[name] = train(_run(name, backbone, settings, seed)).made
            assignment = InMemory(
                run=run,
                interactions=interactions,
                split=split,
                upstream={name: made[name] for name in run.spec.needs},
                device=device,
                checkpoint=Checkpoint(Path(folder, f"{run.arm}.safetensors"), run.arm),
                progress=progress,
            )
            outcome = run.spec.train(assignment)
            record = record_of(assignment, outcome)
            del record["rows"][SPLITS[TEST]]
            return Fitted(assignment, Upstream(outcome.state, record))

        # in the settings' precision, whatever that around the call
        with torch.autocast(device, enabled=False):
            return train(run)


def _run(arm: str, backbone: str, settings: Mapping[str, Any], seed: int) -> Run:
    own = backbone if ARMS[arm].backbone else NO_BACKBONE
    try:
        resolved = _study().settings(arm, tuple(settings.items()), DATASET, own)
    except UserError as error:
        raise UserError(f"settings: {error}") from None
    return Run(DATASET, own, arm, (), seed, resolved)


@cache
def _study() -> Study:
    """The defaults of the packaged params.yaml."""
    with as_file(files("domain_experts") / "params.yaml") as path:
        params = load(path)
    only = {"tiers": {_TIER: Tier(seeds=(0,))}, "configurations": {DATASET: ONE_LOSS}}
    return Study(params.model_copy(update=only), _TIER)


def held_out(labels: np.ndarray, domain: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows validate: their share, spread evenly over labels and domains, however small.

    Of the largest domain with both classes of a task each has a row that validates, if it has two:
    else there would be no AUC to select by.

    Args:
        labels: (N, T) 0 or 1.
        domain: (N,) numbers of domains, from 0.
        share: of the rows.
        seed: of the draw.

    Returns:
        (N,) uint8: 0 train, 1 validation.
    """
    kind = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    order = np.lexsort((np.random.default_rng(seed).random(len(kind)), domain, kind))
    due = np.floor(np.arange(len(kind) + 1) * share + 0.5)
    split = np.full(len(kind), TRAIN, np.uint8)
    split[order[np.diff(due) > 0]] = VALIDATION
    sizes = np.bincount(domain)
    for positive in labels.T == 1:
        counts = np.bincount(domain, positive, len(sizes))
        both = np.where((counts > 0) & (counts < sizes), sizes, 0)
        for own in (positive, ~positive):
            rows = np.flatnonzero(own & (domain == both.argmax()))
            if len(rows) > 1 and not (split[rows] == VALIDATION).any():
                split[rows[0]] = VALIDATION
    return split
