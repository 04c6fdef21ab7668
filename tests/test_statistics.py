"""Intervals, tests and verdicts on differences over seeds, against scipy and by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from domain_experts.reporting.statistics import (
    BETTER,
    EQUIVALENT,
    MIXED,
    ONE_SEED,
    OUTCOMES,
    UNDECIDED,
    UNKNOWN,
    WORSE,
    bounds,
    equivalence_p,
    half_widths,
    holm,
    interval_notes,
    p_value,
    summed,
    verdict,
    verdicts,
)

KEYS = {"dataset": "d", "task": "t", "backbone": "b", "arm": "a", "variant": "v"}
numbers = st.floats(-0.1, 0.1, allow_subnormal=False)
errors = st.floats(1e-5, 0.1)


def gains(values, se=np.nan, user_se=np.nan):
    frame = pd.DataFrame({"gain": values, "status": "current"})
    return frame.assign(**KEYS, over="base", se=se, user_se=user_se)


def interval(*args):
    row = summed(gains(*args)).iloc[0]
    return row["low"], row["high"]


def test_the_interval_of_one_seed_is_that_of_its_test_rows():
    expected = (0.01 - 1.96 * 0.002, 0.01 + 1.96 * 0.002)
    assert interval([0.01], [0.002]) == pytest.approx(expected, abs=1e-6)


def test_the_error_by_user_goes_before_delongs_seed_by_seed():
    made = summed(gains([0.01, 0.01], [0.001, 0.002], [0.003, np.nan]))
    row = made.iloc[0]
    assert row["error"] == MIXED
    assert "in some seeds only" in " ".join(interval_notes(made["low"], made["error"]))
    assert summed(gains([0.01, 0.01], 0.001, 0.002)).iloc[0]["error"] == "users"
    assert row["high"] - row["gain"] == pytest.approx(1.96 * np.sqrt((9e-6 + 4e-6) / 2), abs=1e-6)
    assert summed(gains([0.01], [0.001])).iloc[0]["error"] == "rows"
    assert summed(gains([0.01, 0.02])).iloc[0]["error"] == "seeds"


def test_more_seeds_do_not_shrink_the_error_of_the_test_rows():
    low, high = interval([0.01] * 9, [0.002] * 9)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.002, abs=1e-6)


def test_two_seeds_that_disagree_have_students_quantile_not_the_normal_one():
    total = 0.0001**2 + 0.01**2
    df = total**2 / (0.01**4 / 1)
    low, high = interval([0.0, 0.02], [0.0001] * 2)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, df) * np.sqrt(total))
    assert high - low > 0.24


def test_without_standard_errors_the_interval_is_students():
    values = [0.01, 0.02, 0.04]
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx(expected)
    row = summed(gains(values)).iloc[0]
    p = p_value(row["gain"], row["gain_se"], row["gain_df"])
    assert p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    margin = 0.03
    expected = max(
        stats.ttest_1samp(values, -margin, alternative="greater").pvalue,
        stats.ttest_1samp(values, margin, alternative="less").pvalue,
    )
    found = equivalence_p(row["gain"], row["gain_se"], row["gain_df"], margin)
    assert found == pytest.approx(expected)
    assert np.isnan(interval([0.01])).all()


def test_a_mean_has_the_interval_of_its_users_else_of_its_rows():
    runs = pd.DataFrame({"wauc": [0.7, 0.72], "wauc_se": 0.001, "wauc_user_se": [0.002, np.nan]})
    half = half_widths(runs.assign(**KEYS), ["wauc"])["wauc_half"].item()
    made = bounds(0.71, np.std([0.7, 0.72], ddof=1), 2, np.sqrt((4e-6 + 1e-6) / 2))
    assert half == pytest.approx((made["high"] - made["low"]) / 2)
    alone = runs.assign(**KEYS)[["wauc", *KEYS]].head(1)
    assert np.isnan(half_widths(alone, ["wauc"])["wauc_half"].item())


@given(st.lists(numbers, min_size=1, max_size=6), errors)
def test_the_interval_p_and_equivalence_agree(values, error):
    row = summed(gains(values, error)).iloc[0]
    own = row["gain"], row["gain_se"], row["gain_df"]
    excludes = row["low"] > 0 or row["high"] < 0
    p = float(p_value(*own))
    assert 0 <= p <= 1
    assert excludes == (p < 0.05) or p == pytest.approx(0.05, abs=1e-6)
    margin = 0.02
    inside = -margin < row["low"] and row["high"] < margin
    equivalence = float(equivalence_p(*own, margin))
    assert inside == (equivalence < 0.025) or equivalence == pytest.approx(0.025, abs=1e-6)


def test_no_difference_at_all_is_certain():
    row = summed(gains([0.0, 0.0], 0.0)).iloc[0]
    own = row["gain"], row["gain_se"], row["gain_df"]
    assert (row["low"], row["high"], float(p_value(*own))) == (0, 0, 1)
    assert float(equivalence_p(*own, 0.001)) == 0
    assert verdict(0, 0, 0.001) == EQUIVALENT


@pytest.mark.parametrize(
    ("lower", "low", "high", "expected"),
    [
        (False, 0.001, 0.02, BETTER),
        (False, -0.02, -0.001, WORSE),
        (True, 0.001, 0.02, WORSE),
        (True, -0.02, -0.001, BETTER),
        (False, 0.0001, 0.0007, EQUIVALENT),
        (False, -0.001, 0.001, EQUIVALENT),
        (False, 0.0, 0.02, UNDECIDED),
        (True, -0.02, 0.02, UNDECIDED),
        (False, math.nan, math.nan, UNKNOWN),
    ],
)
def test_verdicts_by_hand(lower, low, high, expected):
    assert verdict(low, high, 0.001, lower) == expected


def test_one_seed_has_an_interval_and_no_verdict():
    two, one = (summed(gains([0.01] * n, 0.001)) for n in (2, 1))
    assert (verdicts(two, 0.001), verdicts(one, 0.001)) == ([BETTER], [ONE_SEED])
    assert one["low"].item() > 0
    assert verdicts(summed(gains([0.01])), 0.001) == [UNKNOWN]


@given(numbers, st.floats(0, 0.1), st.floats(1e-4, 0.05), st.booleans())
def test_the_verdict_is_symmetric_and_never_bolder_for_less_evidence(low, width, margin, lower):
    high = low + width
    said = verdict(low, high, margin, lower)
    assert said in OUTCOMES
    turned = {BETTER: WORSE, WORSE: BETTER}.get(said, said)
    assert verdict(-high, -low, margin, lower) == turned
    assert verdict(low, high, margin, not lower) == turned
    wider = verdict(low - 0.01, high + 0.01, margin, lower)
    # a wider interval says the same, or less; of a small difference it may no longer say so
    assert wider in (said, UNDECIDED) or said == EQUIVALENT
    # with a larger margin the difference can only become too small to matter
    assert verdict(low, high, margin + 0.01, lower) in (said, EQUIVALENT)


@given(numbers, st.floats(0, 0.1))
def test_without_a_margin_nothing_is_equivalent(low, width):
    assert verdict(low, low + width, math.nan) in (BETTER, WORSE, UNDECIDED)


@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_holm_is_that_of_statsmodels_over_what_is_known(n):
    p = np.random.default_rng(n).uniform(size=n).round(1) / 4
    mixed = np.insert(p, n // 2, np.nan)
    found = holm(mixed)
    assert np.isnan(found[n // 2])
    expected = multipletests(p, method="holm")[1] if n else p
    np.testing.assert_allclose(np.delete(found, n // 2), expected, rtol=1e-15)
