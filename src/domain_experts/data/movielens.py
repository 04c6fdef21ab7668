"""MovieLens reader: ratings to Interactions of the two studies."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from domain_experts.data import attributes, order
from domain_experts.data.interactions import Interactions
from domain_experts.data.movielens_files import AGES, GENDERS, Ratings, read
from domain_experts.schema import Schema

if TYPE_CHECKING:
    from domain_experts.data.specs import MovieLens

Fields = dict[str, tuple[np.ndarray, int]]
Dense = dict[str, np.ndarray]
AGE_GROUPS = ("under 25", "25-34", "35+")
# of each of AGES
_AGE_GROUP = np.array([0, 0, 1, 2, 2, 2, 2], np.int16)


def counts(folder: Path, file_format: str) -> dict[str, Any]:
    """Rows, users, items, items that were rated, and rows with rating 1, 2, 3, 4, 5.

    Raises:
        UserError: a line does not fit.
    """
    ratings = read(folder, file_format)
    return {
        "rows": len(ratings.user),
        "users": len(ratings.user_ids),
        "items": len(ratings.item_ids),
        "rated_items": len(np.unique(ratings.item)),
        "ratings": tuple(np.bincount(ratings.rating, minlength=6)[1:].tolist()),
    }


def interactions(folder: Path, file_format: str, spec: "MovieLens") -> Interactions:
    """Interactions of a data set that params.yaml describes.

    Raises:
        UserError: a line does not fit.
    """
    return to_interactions(read(folder, file_format), spec)


def to_interactions(ratings: Ratings, spec: "MovieLens") -> Interactions:
    """Rows in the named order; the domain is a user attribute, the labels are cut from the rating.

    Args:
        ratings: What `read` returned.
        spec: Domain, labels, features and order. The defaults are those of the released MoE-MLoRA
            code. `age_group`, `click_like` and `profile` are those of M3oE (its section 3.1 and its
            public code).
    """
    rows = _rows(ratings, spec.order)
    of_user, domains = {
        "gender": (ratings.gender, GENDERS),
        "age": (ratings.age, AGES),
        "age_group": (_AGE_GROUP[ratings.age], AGE_GROUPS),
        "occupation": (ratings.occupation, ratings.occupations),
    }[spec.domain]
    user = np.searchsorted(ratings.user_ids, ratings.user[rows])
    domain = of_user[user]
    item = np.searchsorted(ratings.item_ids, ratings.item[rows])
    fields, dense = (_ids if spec.features == "ids" else _profile)(ratings, user, item)
    fields |= {"domain": (domain, len(domains))}
    labels = _labels(ratings.rating[rows], spec.labels)
    return Interactions(
        schema=Schema(
            fields=tuple((name, size) for name, (_, size) in fields.items()),
            dense=tuple(dense),
            domains=domains,
            tasks=tuple(labels),
        ),
        fields=np.stack([codes for codes, _ in fields.values()], axis=1).astype(np.int32),
        dense=np.column_stack([np.zeros((len(rows), 0), np.float32), *dense.values()]),
        labels=np.stack(list(labels.values()), axis=1).astype(np.uint8),
        domain=domain,
        time=ratings.timestamp[rows],
    )


def _rows(ratings: Ratings, name: str) -> np.ndarray:
    """(N,) numbers of the rows in a named order."""
    match name:
        case "timestamp":
            return order.by_time(ratings.timestamp)
        case "two_sorts":
            return order.two_sorts(ratings.user, ratings.item)
        case "shuffled":
            return order.shuffled(len(ratings.user))
        case "each_user":
            return order.each_user(ratings.user, ratings.timestamp)
    return np.arange(len(ratings.user))


def _ids(ratings: Ratings, user: np.ndarray, item: np.ndarray) -> tuple[Fields, Dense]:
    """Raw ids as codes, as in the released MoE-MLoRA code, so code 0 is never used."""
    fields = {
        "user": (ratings.user_ids[user], int(ratings.user_ids[-1]) + 1),
        "item": (ratings.item_ids[item], int(ratings.item_ids[-1]) + 1),
    }
    return fields, {}


def _profile(ratings: Ratings, user: np.ndarray, item: np.ndarray) -> tuple[Fields, Dense]:
    """The fields of M3oE's public code: numbered values that occur, and the scaled age."""
    of_user = {
        "gender": ratings.gender,
        "occupation": ratings.occupation,
        "zip": ratings.zip,
    }
    users = attributes.of_rows("user", user, of_user)
    items = attributes.of_rows("item", item, {"genre": ratings.genre})
    fields = {"user": users.pop("user"), "item": items.pop("item")} | users | items
    return fields, {"age": attributes.min_max(ratings.years[user])}


def _labels(rating: np.ndarray, name: str) -> dict[str, np.ndarray]:
    if name == "click_like":
        return {"click": rating > 3, "like": rating > 4}
    return {"click": rating == 5}
