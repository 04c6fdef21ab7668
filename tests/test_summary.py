"""Statistics over seeds, and the shares of a gate."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from domain_experts.reporting.render import mean_sd, number
from domain_experts.reporting.sharing import gate_shares
from domain_experts.reporting.summary import against_chance, half_width, over_seeds, paired_gain


def runs(arm, waucs, seeds, split_seeds=None):
    return pd.DataFrame(
        {
            "status": "present",
            "stale": False,
            "dataset": "d",
            "task": "click",
            "backbone": "mlp",
            "arm": arm,
            "seed": seeds,
            "split_seed": split_seeds or seeds,
            "wauc": waucs,
        }
    )


def test_gains_are_paired_by_seed_not_by_row():
    gain = paired_gain(runs("mlora", [0.7, 0.9], [1, 2]), runs("base", [0.8, 0.6], [2, 1]), [])
    np.testing.assert_allclose(gain, [0.1, 0.1])


def test_there_is_no_gain_over_another_split():
    gain = paired_gain(runs("mlora", [0.7], [1], [123]), runs("base", [0.6], [1]), [])
    assert gain.isna().all()


def test_gains_are_between_runs_that_are_alike():
    pairs = [runs("mlora", [wauc], [1]).assign(variant=v) for v, wauc in (("a", 0.7), ("b", 0.9))]
    reference = pd.concat(
        [runs("base", [wauc], [1]).assign(variant=v) for v, wauc in (("b", 0.6), ("a", 0.5))]
    )
    np.testing.assert_allclose(paired_gain(pd.concat(pairs), reference, ["variant"]), [0.2, 0.3])


def test_one_seed_has_a_mean_but_no_deviation():
    summary = over_seeds(runs("base", [0.7], [1]), ["dataset", "arm"], ["wauc"])
    assert summary.loc[0, "wauc_mean"] == 0.7
    assert np.isnan(summary.loc[0, "wauc_sd"])
    assert summary.loc[0, "seeds"] == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.10, 0.11, 0.12], "more than chance"),
        ([-0.10, -0.11, -0.12], "less than chance"),
        ([0.10, -0.11, 0.02], "not told apart from chance"),
        ([0.0, 0.0], "no test"),
        ([0.1], "no test"),
    ],
)
def test_the_verdict_follows_the_numbers(values, words):
    assert words in against_chance(pd.Series(values))


def test_shares_by_hand():
    # two groups of two domains, one expert each
    gate = [[0.7, 0.1, 0.2, 0.0], [0.1, 0.5, 0.0, 0.4], [0.3, 0.1, 0.5, 0.1], [0, 0.2, 0, 0.8]]
    shares = gate_shares(gate, [0, 1, 0, 1])
    assert shares["own_expert"] == pytest.approx((0.7 + 0.5 + 0.5 + 0.8) / 4)
    assert shares["other_members"] == pytest.approx((0.2 + 0.4 + 0.3 + 0.2) / 4)
    assert (shares["own_group_chance"], shares["own_expert_chance"]) == (0.5, 0.25)


@given(
    st.integers(1, 4).flatmap(
        lambda domains: st.tuples(
            st.lists(st.integers(0, 2), min_size=domains, max_size=domains), st.integers(1, 3)
        )
    )
)
def test_a_uniform_gate_is_at_chance(case):
    groups, experts_per_domain = case
    experts = len(groups) * experts_per_domain
    shares = gate_shares(np.full((len(groups), experts), 1 / experts), groups)
    for name in ("own_group", "own_expert", "other_members"):
        assert shares[name] == pytest.approx(shares[f"{name}_chance"])
    assert shares["own_group"] == pytest.approx(shares["own_expert"] + shares["other_members"])


def test_what_rounds_to_zero_has_no_sign():
    assert [number(v, 2, signed=True) for v in (-0.001, 0.001, -0.01, 0.01)] == [
        "0.00",
        "0.00",
        "−0.01",
        "+0.01",
    ]
    assert mean_sd(float("nan"), float("nan")) == "–"
    assert mean_sd(0.5, float("nan"), 1) == "0.5"


def test_the_interval_is_students():
    values = np.random.default_rng(0).normal(size=6)
    low, high = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
    # a seed without the value does not count
    seeds = runs("base", [*values, np.nan], list(range(7)))
    found = half_width(pd.concat([seeds, runs("mlora", [0.7], [1])]), ["arm"], "wauc")
    assert found["base"] == pytest.approx((high - low) / 2)
    assert np.isnan(found["mlora"])
