"""Who is in a split: users, items, rows and positives by domain, and users known from training."""

from typing import Any

import numpy as np

from domain_experts.auc import Array
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import SPLITS, TEST, TRAIN


def population(interactions: Interactions, split: Array) -> dict[str, Any]:
    """Count what the rows of a split hold.

    Args:
        interactions: N rows, with the fields user and item.
        split: (N,) 0 train, 1 validation, 2 test.

    Returns:
        For JSON. By domain: `users`, `items`, `rows` of each split and `positives` of each task;
        `test_users`, and of them `seen_test_users`, which have a training row in any domain. The
        last two over all domains too, as `all_test_users` and `all_seen_test_users`.
    """
    schema = interactions.schema
    names = [name for name, _ in schema.single]
    user, item = (np.asarray(interactions.fields[:, names.index(n)]) for n in ("user", "item"))
    domain, labels = np.asarray(interactions.domain), np.asarray(interactions.labels)
    known = np.zeros(schema.sizes[names.index("user")], bool)
    known[user[split == TRAIN]] = True
    tested = [np.unique(user[(split == TEST) & (domain == d)]) for d in range(len(schema.domains))]
    everyone = np.unique(np.concatenate(tested))

    def count(chosen: Array) -> list[int]:
        rows: list[int] = np.bincount(domain[chosen], minlength=len(schema.domains)).tolist()
        return rows

    return {
        "domains": list(schema.domains),
        "tasks": list(schema.tasks),
        "users": _distinct(user, domain, len(schema.domains)),
        "items": _distinct(item, domain, len(schema.domains)),
        "rows": {name: count(split == number) for number, name in enumerate(SPLITS)},
        "positives": {task: count(labels[:, t] == 1) for t, task in enumerate(schema.tasks)},
        "test_users": [len(users) for users in tested],
        "seen_test_users": [int(known[users].sum()) for users in tested],
        "all_test_users": len(everyone),
        "all_seen_test_users": int(known[everyone].sum()),
    }


def _distinct(ids: Array, domain: Array, domains: int) -> list[int]:
    """How many ids occur in each domain."""
    pairs = np.unique(ids.astype(np.int64) * domains + domain)
    counts: list[int] = np.bincount(pairs % domains, minlength=domains).tolist()
    return counts
