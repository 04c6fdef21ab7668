"""Splits: one uint8 per row, drawn from a seed by the rule of the data set, or given with it."""

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
    sizes = np.bincount(stratum)
    test = _share(sizes, test_fraction)
    # rounding up twice may ask for more rows than a tiny stratum has: test comes first
    return _deal(stratum, seed, test, test + _share(sizes, validation_fraction))


def by_user_negatives(
    user: np.ndarray,
    domain: np.ndarray,
    label: np.ndarray,
    seed: int,
    validation_fraction: float,
    test_fraction: float,
) -> np.ndarray:
    """Draw a split of positives and of negatives that were sampled for each user.

    The positives of a domain are split as a whole, its negatives user by user. Sizes are those of
    the public code of MAMDR (utils/tool.py), which splits twice with scikit-learn: of n rows,
    ceil(n (v + t)) are held out, and of these h rows ceil(h t / (v + t)) are test rows. So of 2
    negatives one is for training, none for validation and one for test, and where users have few
    negatives the shares of all rows are not those asked for.

    Args:
        user: (N,) codes from 0.
        domain: (N,) codes from 0.
        label: (N,) 0 or 1.
        seed: Rows of a stratum go to the splits in an order drawn from it.
        validation_fraction: v.
        test_fraction: t; training takes the rest.

    Returns:
        (N,) uint8: 0 train, 1 validation, 2 test.
    """
    domains, users = int(domain.max()) + 1, int(user.max()) + 1
    of_user = domains + domain.astype(np.int64) * users + user
    stratum = np.where(label == 1, domain, of_user)
    share = validation_fraction + test_fraction
    held_out = np.ceil(np.bincount(stratum) * share).astype(np.int64)
    test = np.ceil(held_out * (test_fraction / share if share else 0)).astype(np.int64)
    return _deal(stratum, seed, test, held_out)


def _deal(stratum: np.ndarray, seed: int, test: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Deal the rows of each stratum, in the seed's order: test rows first, then validation."""
    order = np.random.default_rng(seed).permutation(len(stratum))
    order = order[np.argsort(stratum[order], kind="stable")]
    sizes = np.bincount(stratum)
    rank = np.arange(len(stratum)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    is_test, is_held_out = rank < np.repeat(test, sizes), rank < np.repeat(held_out, sizes)
    split = np.empty(len(stratum), np.uint8)
    split[order] = np.where(is_test, TEST, np.where(is_held_out, VALIDATION, TRAIN))
    return split


def _share(sizes: np.ndarray, fraction: float) -> np.ndarray:
    return np.floor(sizes * fraction + 0.5).astype(np.int64)


def write_splits(data: Fractions, tier: str, dataset: str, seeds: Sequence[int]) -> None:
    """Write one split file per seed and, last, their index.

    A split that came with the data is that of every seed.

    Raises:
        UserError: the data set is not prepared, or a domain has too few rows for a split.
    """
    interactions = Interactions.open(layout.interactions(dataset))
    index = {}
    for seed in seeds:
        split = _split(interactions, seed, data)
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


def _split(interactions: Interactions, seed: int, data: Fractions) -> np.ndarray:
    if interactions.given_split is not None:
        return np.asarray(interactions.given_split)
    domain, labels = np.asarray(interactions.domain), np.asarray(interactions.labels)
    if interactions.sampled_negatives:
        user = interactions.fields[
            :, [name for name, _ in interactions.schema.fields].index("user")
        ]
        return by_user_negatives(
            user, domain, labels[:, 0], seed, data.validation_fraction, data.test_fraction
        )
    label = labels @ (1 << np.arange(labels.shape[1]))
    return stratified(domain, label, seed, data.validation_fraction, data.test_fraction)


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
