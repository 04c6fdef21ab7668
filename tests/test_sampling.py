import time
from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from domain_experts.data.sampling import negatives, ratios, with_negatives

# computed with the public code's own calls
RELEASED_RATIOS = [
    *(0.22, 0.23, 0.32, 0.23, 0.47, 0.21, 0.36, 0.3, 0.46, 0.25, 0.3, 0.3, 0.27, 0.2, 0.33),
    *(0.23, 0.38, 0.22, 0.29, 0.33, 0.47, 0.23, 0.24, 0.44, 0.21, 0.47, 0.37, 0.28, 0.45, 0.43),
]
clicks = st.sets(st.tuples(st.integers(0, 8), st.integers(0, 12)), min_size=1).map(sorted)
ratio = st.floats(0.2, 0.5).map(lambda c: round(c, 2))
seeds = st.integers(0, 2**32 - 1)


def test_the_ratios_are_the_released_sequence():
    assert ratios(30) == RELEASED_RATIOS
    assert ratios(10) == RELEASED_RATIOS[:10]


def slow_numbers(pairs, ratio):
    """User -> (how many negatives, what they may be), one user at a time."""
    items = {item for _, item in pairs}
    clicked = defaultdict(set)
    for user, item in pairs:
        clicked[user].add(item)
    return {
        user: (min(int(len(own) / ratio), len(items - own)), items - own)
        for user, own in clicked.items()
    }


@given(clicks, ratio, seeds)
def test_numbers_and_candidates_equal_the_slow_version(pairs, ratio, seed):
    user, item = np.array(pairs).T
    found_user, found_item = negatives(user, item, ratio, np.random.default_rng(seed))
    drawn = defaultdict(list)
    for u, i in zip(found_user.tolist(), found_item.tolist(), strict=True):
        drawn[u].append(i)
    for u, (number, allowed) in slow_numbers(pairs, ratio).items():
        assert len(drawn[u]) == number
        assert len(set(drawn[u])) == number
        assert set(drawn[u]) <= allowed
    assert set(drawn) <= set(user.tolist())


@given(clicks, ratio, seeds)
def test_the_order_of_the_positives_changes_nothing(pairs, ratio, seed):
    user, item = np.array(pairs).T
    order = np.random.default_rng(seed).permutation(len(user))
    first = negatives(user, item, ratio, np.random.default_rng(seed))
    again = negatives(user[order], item[order], ratio, np.random.default_rng(seed))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(("n_items", "number"), [(7, 2), (4, 2), (9, 4)])
def test_every_set_of_negatives_is_equally_likely(n_items, number):
    """2000 users who clicked one item each of the same domain, ratio 1 / number."""
    users = 2000
    user = np.arange(users)
    item = np.concatenate([np.arange(n_items), np.zeros(users - n_items, np.int64)])
    found_user, found_item = negatives(user, item, 1 / number, np.random.default_rng(0))
    sets = found_item[found_user >= n_items].reshape(-1, number)
    assert len(sets) == users - n_items
    seen = {tuple(row) for row in sets.tolist()}
    possible = list(combinations(range(1, n_items), number))
    assert seen <= set(possible)
    code = {pair: k for k, pair in enumerate(possible)}
    frequency = np.bincount([code[tuple(row)] for row in sets.tolist()], minlength=len(possible))
    assert chisquare(frequency).pvalue > 1e-3


def made_clicks(domains, seed=0, rows=4000, users=300, items=150):
    rng = np.random.default_rng(seed)
    domain = np.sort(rng.integers(0, domains, rows))
    table = np.stack([rng.integers(0, users, rows), rng.integers(0, items, rows), domain], axis=1)
    return np.unique(table[:, [2, 0, 1]], axis=0)[:, [1, 2, 0]].T


def test_interactions_hold_the_positives_and_their_negatives():
    user, item, domain = made_clicks(3)
    made = with_negatives(user, item, domain, ["a", "b", "c"])
    assert made.sampled_negatives
    assert made.schema.domains == ("a", "b", "c")
    positive = made.labels[:, 0] == 1
    np.testing.assert_array_equal(made.fields[positive], np.stack([user, item, domain], axis=1))
    np.testing.assert_array_equal(made.domain, made.fields[:, 2])
    assert len(np.unique(made.fields, axis=0)) == len(made.fields)
    for d, ratio in enumerate(ratios(3)):
        rows = made.domain == d
        negative_items = set(made.fields[rows & ~positive, 1].tolist())
        assert negative_items <= set(item[domain == d].tolist())
        share = positive[rows].mean()
        # int() takes less than one negative off for each user
        assert ratio / (1 + ratio) <= share < 1.2 * ratio / (1 + ratio)


def test_more_domains_leave_the_first_ones_as_they_are():
    user, item, domain = made_clicks(4)
    first = domain < 2
    fewer = with_negatives(user[first], item[first], domain[first], ["a", "b"])
    more = with_negatives(user, item, domain, ["a", "b", "c", "d"])
    np.testing.assert_array_equal(more.fields[more.domain < 2], fewer.fields)


def test_a_large_domain_takes_a_moment():
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 60_000, 200_000) * 3_000 + rng.integers(0, 3_000, 200_000))
    start = time.process_time()
    user, _ = negatives(pairs // 3_000, pairs % 3_000, 0.3, rng)
    # 30 such domains in well under a minute
    assert time.process_time() - start < 2
    assert len(user) > 500_000
