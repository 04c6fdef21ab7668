"""The one place that cuts: a data set's rule applied to its rows, for each seed of a tier."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from domain_experts import layout
from domain_experts.data.interactions import Interactions
from domain_experts.data.specs import SplitRule
from domain_experts.data.split import DRAWN_FOR, SPLITS
from domain_experts.data.split_rules import RULES
from domain_experts.errors import UserError
from domain_experts.files import replacing, sha256, write_json

LOG = "log"


def write_splits(rule: SplitRule, tier: str, dataset: str, seeds: Sequence[int]) -> None:
    """Write one split file per seed and, last, their index.

    Raises:
        UserError: the data set is not prepared, has not what the rule needs, or has a domain with
            too few rows for a split.
    """
    interactions = Interactions.open(layout.interactions(dataset))
    index = {}
    for seed in seeds:
        split = _cut(interactions, rule, dataset, seed)
        path = layout.split_file(tier, dataset, seed)
        with replacing(path) as temporary:
            np.save(temporary, split, allow_pickle=False)
        index[str(seed)] = _summary(interactions, split) | {"sha256": sha256(path)}
        # which domains of a log of one's own have no rows of a split was said as it was read
        if interactions.card["provenance"].get("source") != LOG:
            _refuse_empty(dataset, interactions.schema.domains, index[str(seed)]["rows"])
    written = {layout.split_file(tier, dataset, seed) for seed in seeds}
    for stale in set(layout.splits(tier, dataset).glob("seed=*.npy")) - written:
        stale.unlink()
    write_json(
        layout.split_index(tier, dataset),
        {
            **{name: interactions.card.get(name) for name in DRAWN_FOR},
            "domains": interactions.schema.domains,
            **rule.model_dump(),
            "seeds": index,
        },
        sealed=True,
    )


def _cut(interactions: Interactions, rule: SplitRule, dataset: str, seed: int) -> np.ndarray:
    try:
        return RULES[rule.rule](interactions, seed, rule.fractions)
    except UserError as error:
        raise UserError(
            f"{dataset}: split rule {rule.rule}: {error}; choose another one "
            f"(data.datasets.{dataset}.split in params.yaml)"
        ) from None


def _summary(interactions: Interactions, split: np.ndarray) -> dict[str, Any]:
    """Rows and positives per split and domain, and the domains that have one class only."""
    schema = interactions.schema
    cell = split * len(schema.domains) + interactions.domain.astype(np.int64)
    shape = (len(SPLITS), len(schema.domains))

    def count(rows: np.ndarray) -> np.ndarray:
        return np.bincount(cell[rows], minlength=shape[0] * shape[1]).reshape(shape)

    rows = count(np.ones(len(split), bool))
    positives = {task: count(interactions.labels[:, j] == 1) for j, task in enumerate(schema.tasks)}
    return {
        "rows": dict(zip(SPLITS, rows.tolist(), strict=True)),
        "positives": {
            task: dict(zip(SPLITS, counts.tolist(), strict=True))
            for task, counts in positives.items()
        },
        "one_class": {
            task: {
                name: [schema.domains[d] for d in np.flatnonzero((p == 0) | (p == n))]
                for name, p, n in zip(SPLITS, counts, rows, strict=True)
            }
            for task, counts in positives.items()
        },
    }


def _refuse_empty(dataset: str, domains: Sequence[str], rows: dict[str, list[int]]) -> None:
    for split, counts in rows.items():
        empty = [name for name, n in zip(domains, counts, strict=True) if n == 0]
        if empty:
            raise UserError(
                f"{dataset}: too few rows for {split} rows in: {', '.join(empty)}; choose another "
                "`domain`, more rows, another split rule or other fractions (data in params.yaml)"
            )
