"""Who is in a split, against counts by pandas."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from domain_experts.data.interactions import Interactions
from domain_experts.evaluation.population import population
from domain_experts.schema import Schema

DOMAINS, TASKS = ("a", "b", "c"), ("click", "like")


def rows_of(users, items, domain, labels):
    size = len(users)
    return Interactions(
        schema=Schema((("item", 9), ("user", 9), ("domain", 3)), (), DOMAINS, TASKS),
        fields=np.stack([items, users, domain], axis=1).astype(np.int32),
        dense=np.zeros((size, 0), np.float32),
        labels=labels.astype(np.uint8),
        domain=domain.astype(np.int16),
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_counts_are_those_of_pandas(seed, size):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.integers(0, (9, 9, 3, 2, 2, 3), (size, 6)))
    table.columns = ["user", "item", "domain", "click", "like", "split"]
    own = rows_of(
        *(table[name].to_numpy() for name in ("user", "item", "domain")),
        table[["click", "like"]].to_numpy(),
    )
    found = population(own, table["split"].to_numpy())
    by_domain = table.groupby("domain").agg({"user": "nunique", "item": "nunique"})
    by_domain = by_domain.reindex(range(3), fill_value=0)
    assert found["users"] == by_domain["user"].tolist()
    assert found["items"] == by_domain["item"].tolist()
    known = set(table.loc[table["split"] == 0, "user"])
    for name, number in (("train", 0), ("validation", 1), ("test", 2)):
        chosen = table[table["split"] == number]
        assert found["rows"][name] == [int((chosen["domain"] == d).sum()) for d in range(3)]
    tested = table[table["split"] == 2]
    users = [set(tested.loc[tested["domain"] == d, "user"]) for d in range(3)]
    assert found["test_users"] == [len(own) for own in users]
    assert found["seen_test_users"] == [len(own & known) for own in users]
    assert found["all_test_users"] == tested["user"].nunique()
    assert found["all_seen_test_users"] == len(set(tested["user"]) & known)
    for task in TASKS:
        positive = table.loc[table[task] == 1, "domain"]
        assert found["positives"][task] == [int((positive == d).sum()) for d in range(3)]


def test_a_user_seen_in_another_domain_is_seen():
    """User 4 trains in domain a and is tested in b; user 5 is tested alone."""
    domain, split = np.array([0, 1, 1]), np.array([0, 2, 2])
    found = population(rows_of(np.array([4, 4, 5]), np.zeros(3, int), domain, np.eye(3, 2)), split)
    assert (found["test_users"], found["seen_test_users"]) == ([0, 2, 0], [0, 1, 0])
    assert (found["all_test_users"], found["all_seen_test_users"]) == (2, 1)
