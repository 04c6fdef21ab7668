"""Splits: one uint8 per row, a file for each seed (`data.cut` writes them)."""

import numpy as np

from domain_experts import layout
from domain_experts.arrays import read_array
from domain_experts.data.interactions import prepare_again
from domain_experts.errors import UserError
from domain_experts.files import check_file, read_json

SPLITS = ("train", "validation", "test")
UNUSED = 3
"""Mark of a row in no split."""
TRAIN, VALIDATION, TEST = range(3)
DRAWN_FOR = ("content", "time")
"""Digests of the data set's card that a split's index repeats."""


def split_again(tier: str, dataset: str) -> str:
    """What mends a data set's splits, in words."""
    return f"run `domain-experts split {dataset} --tier {tier}`"


def read_split(tier: str, dataset: str, seed: int) -> np.ndarray:
    """Read a split: (N,) uint8, 0 train, 1 validation, 2 test.

    Raises:
        UserError: it is missing or damaged, or was drawn for other rows than there are now.
    """
    path, index_path = layout.split_file(tier, dataset, seed), layout.split_index(tier, dataset)
    remedy = split_again(tier, dataset)
    index = read_json(index_path, remedy)
    card = read_json(layout.card(dataset), prepare_again(layout.interactions(dataset)))
    if any(index.get(name) != card.get(name) for name in DRAWN_FOR):
        raise UserError(f"{path} was drawn for other rows than {dataset} now holds; {remedy}")
    check_file(path, index["seeds"].get(str(seed), {}).get("sha256"), index_path, remedy)
    split = read_array(path, remedy)
    if split.dtype != np.uint8 or split.shape != (card["rows"],) or (split > UNUSED).any():
        raise UserError(f"{path} is no split of {card['rows']:,} rows; {remedy}")
    return split
