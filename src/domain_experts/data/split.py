"""Splits: one uint8 per row, a file for each seed (`data.cut` writes them)."""

import json

import numpy as np

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.files import sha256

SPLITS = ("train", "validation", "test")
UNUSED = 3
"""Mark of a row in no split."""
TRAIN, VALIDATION, TEST = range(3)
DRAWN_FOR = ("content", "time")
"""Digests of the data set's card that a split's index repeats."""


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
    if any(index.get(name) != card.get(name) for name in DRAWN_FOR):
        raise UserError(f"{path} was drawn for other rows than {dataset} now holds; {remedy}")
    if found != expected:
        raise UserError(f"{path} does not fit {index_path}; {remedy}")
    return np.asarray(np.load(path, allow_pickle=False))
