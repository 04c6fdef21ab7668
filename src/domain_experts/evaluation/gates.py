"""Does the gate find the planted experts? Shares of its weight, as metrics of a run."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from domain_experts.auc import Array
from domain_experts.evaluation.rows import Row


def gate_shares(gate: Array, groups: Array) -> dict[str, float]:
    """Shares of gate weight, means over domains, beside what a uniform gate gives.

    Args:
        gate: (D, E) weights, rows sum to 1; expert i belongs to domain i mod D.
        groups: (D,) planted group of each domain.

    Returns:
        `gate_own_expert`: on the domain's own experts; `gate_own_group`: on those of all domains
        of its group; each with its `_chance`.
    """
    domains, experts = gate.shape
    owner = np.arange(experts) % domains
    chosen = {
        "gate_own_group": groups[owner][None] == groups[:, None],
        "gate_own_expert": owner[None] == np.arange(domains)[:, None],
    }
    shares = {name: float((gate * own).sum(axis=1).mean()) for name, own in chosen.items()}
    chances = {f"{name}_chance": float(own.mean()) for name, own in chosen.items()}
    return shares | chances


def gate_rows(record: Mapping[str, Any]) -> Iterator[Row]:
    """Metrics of a run that has a gate: its shares, and the weight on experts that moved."""
    if record["gate"] is None:
        return
    gate = np.asarray(record["gate"])
    found = {}
    if record["planted_groups"] is not None:
        found = gate_shares(gate, np.asarray(record["planted_groups"]))
    if record["experts_moved"] is not None:
        moved = np.asarray(record["experts_moved"])
        found["gate_on_moved"] = float(gate[:, moved].sum(axis=1).mean())
    yield from ({"split": "test", "metric": m, "value": v} for m, v in found.items())
