from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domain_experts.data import order

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


@given(st.integers(1, 2000))
def test_the_shuffled_order_is_one_permutation(rows):
    found = order.shuffled(rows)
    assert sorted(found.tolist()) == list(range(rows))
    np.testing.assert_array_equal(found, order.shuffled(rows))
