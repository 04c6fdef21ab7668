"""Orders in which training rows are visited: shares of domains, and how often each row comes."""

import numpy as np
import pytest
from assignments import train
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from domain_experts.training.batches import OF_ONE_DOMAIN, alternating, mixed, proportional

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def groups_of(sizes):
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


def domains_of(batches, sizes):
    """The domain of each batch, which must be one."""
    domain = np.repeat(np.arange(len(sizes)), sizes)
    found = [np.unique(domain[batch]) for batch in batches]
    assert all(len(own) == 1 for own in found)
    return np.concatenate(found)


@pytest.mark.parametrize("order", OF_ONE_DOMAIN)
@given(sizes=SIZES, size=st.integers(1, 15), seed=st.integers(0, 99))
def test_an_epoch_visits_as_many_rows_as_there_are_each_as_often_as_its_domain_allows(
    order, sizes, size, seed
):
    groups = groups_of(sizes)
    batches = OF_ONE_DOMAIN[order](groups, size, np.random.default_rng(seed))
    domains_of(batches, sizes)
    visits = np.bincount(np.concatenate(batches), minlength=sum(sizes))
    assert visits.sum() == sum(sizes)
    for own in groups:
        assert np.ptp(visits[own]) <= 1, "of a domain no row comes again before all have come"
    again = OF_ONE_DOMAIN[order](groups, size, np.random.default_rng(seed))
    assert all(map(np.array_equal, batches, again))
    if order == "by_domain":
        assert (visits == 1).all()
    else:
        plain = mixed(np.arange(sum(sizes)), size, np.random.default_rng(seed))
        assert list(map(len, batches)) == list(map(len, plain))


@given(sizes=SIZES, size=st.integers(1, 15), seed=st.integers(0, 99))
def test_alternating_domains_come_in_turn(sizes, size, seed):
    batches = alternating(groups_of(sizes), size, np.random.default_rng(seed))
    domain, turns = domains_of(batches, sizes), len(sizes)
    assert len(set(domain[:turns])) == min(turns, len(domain))
    np.testing.assert_array_equal(domain[turns:], domain[:-turns] if len(domain) > turns else [])


def test_domains_are_drawn_by_their_rows():
    sizes = [100, 300, 600]
    drawn = [
        domains_of(proportional(groups_of(sizes), 10, np.random.default_rng(seed)), sizes)
        for seed in range(40)
    ]
    counts = np.bincount(np.concatenate(drawn), minlength=3)
    assert counts.sum() == 4000
    assert chisquare(counts, [400, 1200, 2400]).pvalue > 0.01
    assert len({tuple(own) for own in drawn}) == 40


@pytest.mark.parametrize("order", ["alternating", "proportional"])
def test_a_run_trains_on_them_and_follows_from_its_seed(make_assignment, order):
    changed = {"protocol.batches": order, "training.learning_rate": 0.02}
    made, again = (train(make_assignment("base", **changed)) for _ in range(2))
    plain = train(make_assignment("base", **{"training.learning_rate": 0.02}))
    (lane,) = made.lanes
    rows = len(make_assignment("base").index("train"))
    assert lane.rows_visited == lane.epochs * rows
    assert made.curve[-1]["train_loss"] < made.curve[1]["train_loss"]
    for name, array in made.state.items():
        np.testing.assert_array_equal(again.state[name], array)
    assert not all(np.array_equal(plain.state[n], a) for n, a in made.state.items())
