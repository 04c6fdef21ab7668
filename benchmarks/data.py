"""Generated rows in the shape of MovieLens-1M, with something to learn in them."""

from collections.abc import Sequence

import numpy as np

from domain_experts.data.interactions import Interactions
from domain_experts.schema import Schema

USERS, ITEMS, ZIPS = 6040, 3706, 3439
BY_USER = {"gender": 2, "age": 7, "occupation": 21, "zip": ZIPS}
BY_ITEM = {"genre": 18, "decade": 10, "year": 81}
SKEW = 0.7
"""Exponent of the popularity of users and items."""


def rows_like_movielens(
    rows: int, fields: Sequence[str], domain: str = "gender", domains: int = 2, tasks: int = 1,
    dense: int = 0, seed: int = 0,
) -> Interactions:  # fmt: skip
    """Rows whose labels depend on user, item and both (rank 4).

    Args:
        rows: how many.
        fields: which fields, of `user`, `item`, those of BY_USER and BY_ITEM, and `domain`.
        domain: what the domain is called.
        domains: their number D; a user belongs to one.
        tasks: labels a row, each with its own threshold.
        dense: dense features, which are a user's.
        seed: of all.
    """
    rng = np.random.default_rng(seed)
    user = _popular(rng, USERS, rows)
    item = _popular(rng, ITEMS, rows)
    sizes = {"user": USERS, "item": ITEMS, **BY_USER, **BY_ITEM, "domain": domains}
    codes = {"user": user, "item": item}
    codes |= {name: rng.integers(size, size=USERS)[user] for name, size in BY_USER.items()}
    codes |= {name: rng.integers(size, size=ITEMS)[item] for name, size in BY_ITEM.items()}
    # one domain is twice as large as another
    share = np.arange(domains, 2 * domains) / np.arange(domains, 2 * domains).sum()
    codes["domain"] = rng.choice(domains, size=USERS, p=share)[user]
    taste, theme = rng.normal(size=(USERS, 4)), rng.normal(size=(ITEMS, 4))
    score = rng.normal(size=USERS)[user] + rng.normal(size=ITEMS)[item]
    score += 0.5 * np.einsum("nk,nk->n", taste[user], theme[item])
    thresholds = np.linspace(0, 1, tasks)
    chance = 1 / (1 + np.exp(thresholds - score[:, None]))
    return Interactions(
        schema=Schema(
            tuple((name, sizes[name]) for name in fields),
            tuple(f"x{k}" for k in range(dense)),
            tuple(f"{domain} {d}" for d in range(domains)),
            tuple(f"task {t}" for t in range(tasks)),
        ),
        fields=np.stack([codes[name] for name in fields], 1).astype(np.int32),
        dense=rng.random((USERS, dense), np.float32)[user],
        labels=(rng.random(chance.shape) < chance).astype(np.uint8),
        domain=codes["domain"].astype(np.int16),
    )


def _popular(rng: np.random.Generator, size: int, rows: int) -> np.ndarray:
    weights = np.arange(1, size + 1) ** -SKEW
    return rng.choice(size, size=rows, p=weights / weights.sum())
