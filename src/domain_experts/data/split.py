"""Splits: one uint8 per row, stratified by domain and label, drawn from a seed."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from domain_experts import layout
from domain_experts.data.interactions import Interactions
from domain_experts.errors import UserError
from domain_experts.files import replacing, sha256, write_json

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)


class Fractions(Protocol):
    """What `write_splits` reads of the parameters."""

    @property
    def test_fraction(self) -> float: ...

    @property
    def validation_fraction(self) -> float: ...


def stratified(
    domain: np.ndarray,
    label: np.ndarray,
    seed: int,
    validation_fraction: float,
    test_fraction: float,
) -> np.ndarray:
    """Draw a split in which every domain and label has its share of rows.

    Args:
        domain: (N,) domain ids.
        label: (N,) non-negative class of each row.
        seed: Rows of a stratum go to the splits in an order drawn from it.
        validation_fraction: Share of each stratum, rounded to the nearest row.
        test_fraction: The same for the test rows; training takes the rest.

    Returns:
        (N,) uint8: 0 train, 1 validation, 2 test.
    """
    stratum = domain.astype(np.int64) * (int(label.max()) + 1) + label
    order = np.random.default_rng(seed).permutation(len(stratum))
    order = order[np.argsort(stratum[order], kind="stable")]
    sizes = np.bincount(stratum)
    rank = np.arange(len(stratum)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    test = np.repeat(_share(sizes, test_fraction), sizes)
    # rounding up twice may ask for more rows than a tiny stratum has: test comes first
    held_out = test + np.repeat(_share(sizes, validation_fraction), sizes)
    split = np.empty(len(stratum), np.uint8)
    split[order] = np.where(rank < test, TEST, np.where(rank < held_out, VALIDATION, TRAIN))
    return split


def _share(sizes: np.ndarray, fraction: float) -> np.ndarray:
    return np.floor(sizes * fraction + 0.5).astype(np.int64)


def write_splits(data: Fractions, tier: str, dataset: str, seeds: Sequence[int]) -> None:
    """Write one split file per seed and, last, their index.

    Raises:
        UserError: the data set is not prepared, or a domain has too few rows for a split.
    """
    interactions = Interactions.open(layout.interactions(dataset))
    domain = np.asarray(interactions.domain)
    labels = np.asarray(interactions.labels)
    label = labels @ (1 << np.arange(labels.shape[1]))
    index = {}
    for seed in seeds:
        split = stratified(domain, label, seed, data.validation_fraction, data.test_fraction)
        path = layout.split_file(tier, dataset, seed)
        with replacing(path) as temporary:
            np.save(temporary, split, allow_pickle=False)
        index[str(seed)] = _summary(interactions, split) | {"sha256": sha256(path)}
        _refuse_empty(dataset, interactions.schema.domains, index[str(seed)]["rows"], data)
    written = {layout.split_file(tier, dataset, seed) for seed in seeds}
    for stale in set(layout.splits(tier, dataset).glob("seed=*.npy")) - written:
        stale.unlink()
    write_json(
        layout.split_index(tier, dataset),
        {
            "content": interactions.card["content"],
            "domains": interactions.schema.domains,
            "test_fraction": data.test_fraction,
            "validation_fraction": data.validation_fraction,
            "seeds": index,
        },
    )


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


def _refuse_empty(
    dataset: str, domains: Sequence[str], rows: dict[str, list[int]], data: Fractions
) -> None:
    asked = {"train": 1.0, "validation": data.validation_fraction, "test": data.test_fraction}
    for split, counts in rows.items():
        empty = [name for name, n in zip(domains, counts, strict=True) if n == 0]
        if empty and asked[split] > 0:
            raise UserError(
                f"{dataset}: too few rows for {split} rows in: {', '.join(empty)}; choose another "
                "`domain`, more rows, or other fractions (data in params.yaml)"
            )


def read_split(tier: str, dataset: str, seed: int) -> np.ndarray:
    """Read a split: (N,) uint8, 0 train, 1 validation, 2 test.

    Raises:
        UserError: it is missing, or was drawn for other rows than the data set now holds.
    """
    path, index_path = layout.split_file(tier, dataset, seed), layout.split_index(tier, dataset)
    remedy = f"run `domain-experts split {dataset} --tier {tier}`"
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
        card = json.loads(layout.card(dataset).read_text(encoding="utf-8"))
        expected = index["seeds"].get(str(seed), {}).get("sha256")
        found = sha256(path)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; {remedy}") from None
    if index["content"] != card["content"]:
        raise UserError(f"{path} was drawn for other rows than {dataset} now holds; {remedy}")
    if found != expected:
        raise UserError(f"{path} does not fit {index_path}; {remedy}")
    return np.asarray(np.load(path, allow_pickle=False))
