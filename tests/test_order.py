from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_experts.data import order
from domain_experts.data.interactions import Interactions
from domain_experts.data.order import positional, positional_by_domain, with_split
from domain_experts.data.specs import SplitRule
from domain_experts.schema import Schema

ratings = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 20)), min_size=1, max_size=60
)


def columns(rows):
    return np.array(rows).T


def merged(rows, key):
    """Rows of a hash join: those of one key together, keys by their first appearance."""
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return [row for group in groups.values() for row in group]


@given(ratings)
def test_two_sorts_are_two_hash_joins(rows):
    user, item, _ = columns(rows)
    numbered = [(u, i, n) for n, (u, i, _) in enumerate(rows)]
    expected = [n for *_, n in merged(merged(numbered, 1), 0)]
    assert order.two_sorts(user, item).tolist() == expected


def test_two_sorts_by_hand():
    #            0  1  2  3  4
    user = np.array([7, 7, 5, 5, 9])
    item = np.array([3, 1, 1, 3, 1])
    # by item: 0 3 | 1 2 4; in that order user 7 comes first, then 5, then 9
    assert order.two_sorts(user, item).tolist() == [0, 1, 3, 2, 4]


@given(ratings)
def test_by_time_is_stable(rows):
    *_, time = columns(rows)
    assert order.by_time(time).tolist() == sorted(range(len(rows)), key=lambda n: time[n])


@given(ratings)
def test_each_user_goes_by_the_share_of_the_history(rows):
    user, _, time = columns(rows)
    place = {}
    for u in set(user.tolist()):
        mine = sorted(np.flatnonzero(user == u).tolist(), key=lambda n: time[n])
        place |= {n: (2 * k + 1) / (2 * len(mine)) for k, n in enumerate(mine)}
    expected = sorted(range(len(rows)), key=lambda n: (place[n], time[n]))
    assert order.each_user(user, time).tolist() == expected


def test_a_cut_takes_the_last_rows_of_each_user():
    rng = np.random.default_rng(0)
    user, time = np.repeat(np.arange(30), 20), rng.permutation(600)
    rows = order.each_user(user, time)
    split = np.empty(600, np.uint8)
    split[rows] = positional(600, 0.1, 0.1)
    for u in range(30):
        mine = split[user == u][np.argsort(time[user == u])]
        assert mine.tolist() == [0] * 16 + [1] * 2 + [2] * 2


@given(st.integers(1, 2000))
def test_the_shuffled_order_is_one_permutation(rows):
    found = order.shuffled(rows)
    assert sorted(found.tolist()) == list(range(rows))
    np.testing.assert_array_equal(found, order.shuffled(rows))


@pytest.mark.parametrize(
    ("rows", "fractions", "sizes"),
    [
        (1_000_209, (0.1, 0.1), [800_167, 100_021, 100_021]),
        (10, (0.1, 0.1), [8, 1, 1]),
        (19, (0.1, 0.1), [15, 2, 2]),
        (10, (0.3, 0.4), [3, 3, 4]),
        (5, (0.2, 0.2), [3, 1, 1]),
    ],
)
def test_sizes_of_a_positional_cut(rows, fractions, sizes):
    split = positional(rows, *fractions)
    assert np.bincount(split, minlength=3).tolist() == sizes
    assert (np.diff(split.astype(int)) >= 0).all()


@given(st.integers(0, 5000))
def test_tenths_are_cut_as_the_public_code_does(rows):
    sizes = np.bincount(positional(rows, 0.1, 0.1), minlength=3)
    assert sizes[:2].cumsum().tolist() == [int(rows * 0.8), int(rows * 0.9)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200))
def test_each_domain_is_cut_alone(domain):
    domain = np.array(domain)
    split = positional_by_domain(domain, 0.2, 0.1)
    for d in set(domain.tolist()):
        mine = split[domain == d]
        np.testing.assert_array_equal(mine, positional(len(mine), 0.2, 0.1), strict=True)


@pytest.mark.parametrize(
    ("rule", "split"),
    [
        ("positional", [0] * 6 + [1] * 2 + [2] * 2),
        ("positional_by_domain", [0, 0, 0, 1, 2, 0, 0, 0, 1, 2]),
        ("stratified", None),
    ],
)
def test_a_rule_by_position_comes_with_the_data(rule, split):
    domain = np.repeat(np.arange(2, dtype=np.int16), 5)
    made = Interactions(
        schema=Schema((("domain", 2),), (), ("a", "b"), ("click",)),
        fields=domain.astype(np.int32)[:, None],
        dense=np.zeros((10, 0), np.float32),
        labels=np.ones((10, 1), np.uint8),
        domain=domain,
    )
    found = with_split(made, SplitRule(rule=rule, validation_fraction=0.2, test_fraction=0.2))
    assert (None if found.given_split is None else found.given_split.tolist()) == split
    assert found.fields is made.fields
