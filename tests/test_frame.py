"""Statistics over seeds, by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_experts.evaluation.gates import gate_shares
from domain_experts.reporting.columns import column
from domain_experts.reporting.frame import KEYS, over_seeds
from domain_experts.reporting.render import mean_sd, number


def runs(values, status="current", **columns):
    frame = pd.DataFrame({"wauc": values, "status": status})
    return frame.assign(dataset="d", task="t", backbone="b", arm="a", variant="v", **columns)


def test_one_seed_has_a_mean_but_no_deviation():
    frame = over_seeds(runs([0.7]), KEYS, ["wauc"])
    assert frame.loc[0, "wauc"] == 0.7
    assert np.isnan(frame.loc[0, "wauc_sd"])
    assert mean_sd(0.7, np.nan) == "0.7000"


def test_a_seed_that_is_not_run_leaves_the_others():
    frame = over_seeds(runs([0.7, np.nan, 0.8], ["current", "not run", "stale"]), KEYS, ["wauc"])
    row = frame.iloc[0]
    assert (row["wauc"], row["wauc_n"], row["seeds"], row["expected"]) == (0.75, 2, 2, 3)
    assert row["status"] == "stale"


def test_a_group_without_numbers_says_why():
    for status in ("not run", "data not present"):
        assert over_seeds(runs([np.nan], status), KEYS, ["wauc"]).loc[0, "status"] == status


def test_ranks_want_three_rows_and_share_ties():
    frame = pd.DataFrame(
        {"dataset": ["a"] * 4 + ["b"] * 2, "wauc": [0.7, 0.70001, 0.6, 0.5, 0.9, 0.8]}
    )
    values, within = frame["wauc"], frame[["dataset"]]
    assert column("wauc").ranks(values, within) == ["best", "best", "second", "", "", ""]
    assert column("log_loss").ranks(values, within)[:4] == ["", "", "second", "best"]


def test_what_rounds_to_zero_has_no_sign():
    shown = [number(value, 2, signed=True) for value in (-0.001, 0.001, -0.01, 0.01, 1234.5)]
    assert shown == ["0.00", "0.00", "−0.01", "+0.01", "+1,234.50"]


def test_shares_by_hand():
    # two groups of two domains, one expert each
    gate = np.array(
        [[0.7, 0.1, 0.2, 0.0], [0.1, 0.5, 0.0, 0.4], [0.3, 0.1, 0.5, 0.1], [0, 0.2, 0, 0.8]]
    )
    shares = gate_shares(gate, np.array([0, 1, 0, 1]))
    assert shares["gate_own_expert"] == pytest.approx((0.7 + 0.5 + 0.5 + 0.8) / 4)
    assert shares["gate_own_group"] == pytest.approx((0.9 + 0.9 + 0.8 + 1.0) / 4)
    assert shares["gate_own_group_chance"] == 0.5
    assert shares["gate_own_expert_chance"] == 0.25


@given(st.lists(st.integers(0, 2), min_size=1, max_size=4), st.integers(1, 3))
def test_a_uniform_gate_is_at_chance(groups, experts_per_domain):
    experts = len(groups) * experts_per_domain
    shares = gate_shares(np.full((len(groups), experts), 1 / experts), np.array(groups))
    for name in ("gate_own_group", "gate_own_expert"):
        assert shares[name] == pytest.approx(shares[f"{name}_chance"])
