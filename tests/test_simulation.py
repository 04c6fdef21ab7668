"""Simulated studies: what verdicts promise, and what the formula predicts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import ROOT
from scipy.stats import binom, binomtest

from domain_experts import layout
from domain_experts.reporting.simulation import (
    SEEDS,
    Design,
    _study,
    of_claims,
    power,
    simulate,
    table,
)
from domain_experts.reporting.statistics import BY_USER, EQUIVALENT, bounds
from domain_experts.reporting.verdicts import CONTRADICTED, SUPPORTED, UNSUPPORTED

SMALL = Design(studies=40, rows=800, users=160, runs_spread=0.01)


@pytest.fixture(scope="module")
def small():
    return simulate(SMALL, 0.0001)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("effect", [0.0, 0.004])
def test_the_formula_agrees_with_drawn_studies(seeds, effect):
    sampling, spread, rng = 0.0012, 0.002, np.random.default_rng(0)
    drawn = (
        effect + sampling * rng.normal(size=(20000, 1)) + spread * rng.normal(size=(20000, seeds))
    )
    sd = drawn.std(axis=1, ddof=1) if seeds > 1 else np.full(20000, np.nan)
    made = bounds(drawn.mean(axis=1), sd, np.full(20000, seeds), np.full(20000, sampling))
    called = (made["low"] > 0) | (made["high"] < 0)
    assert power(effect, sampling, spread, seeds) == pytest.approx(called.mean(), abs=0.012)


def test_power_grows_with_the_effect_and_is_symmetric():
    found = [power(effect, 0.001, 0.001, 5) for effect in (0, 0.001, 0.003, 0.01)]
    assert found == sorted(found)
    assert power(-0.003, 0.001, 0.001, 5) == pytest.approx(found[2])
    assert found[0] < 0.06
    assert found[-1] > 0.99


def test_simulated_arms_differ_by_the_planted_effect_and_by_no_more():
    gains = pd.concat(_study(SMALL, np.random.default_rng(study)) for study in range(30))
    means = gains.groupby("effect")["gain"].agg(["mean", "sem"])
    for effect, row in means.iterrows():
        assert abs(row["mean"] - effect) < 5 * row["sem"]
    # rows of a user are not independent
    assert gains["user_se"].mean() > 1.1 * gains["se"].mean()


def test_no_more_than_the_nominal_share_is_called_without_an_effect(small):
    own = small[(small["effect"] == 0) & (small["error"] == BY_USER) & (small["seeds"] > 1)]
    assert set(own["seeds"]) == set(SEEDS) - {1}
    for row in own.to_dict("records"):
        called = round(row["called"] * row["studies"])
        assert binomtest(called, row["studies"], 0.05, "greater").pvalue > 0.01
    # with one seed more are: the interval does not know how runs differ
    (alone,) = small.query("effect == 0 and error == @BY_USER and seeds == 1")["called"]
    assert alone > 0.15


def test_equal_seeds_give_equal_studies(small):
    again = simulate(Design(studies=2, rows=200, users=40), 0.001)
    pd.testing.assert_frame_equal(again, simulate(Design(studies=2, rows=200, users=40), 0.001))


def test_the_table_tells_what_was_found(small):
    made = table(small, SMALL)
    (note,) = (note for note in made.notes if "at most 5.0 %" in note)
    (alone,) = small.query("effect == 0 and error == @BY_USER and seeds == 1")["called"]
    assert f"{100 * alone:.1f} %" in note
    assert len(made.printed) == len(small)
    row = small.query("effect == 0 and error == @BY_USER and seeds == 3").iloc[0]
    (note,) = (note for note in made.notes if "ledger" in note)
    assert f"`all`: {100 * row['all supported']:.1f} % supported" in note


@given(st.lists(st.integers(0, 30), min_size=4, max_size=4).filter(any))
def test_claims_over_independent_data_sets_are_as_often_decided_as_the_binomial_says(counts):
    verdicts = (SUPPORTED, CONTRADICTED, EQUIVALENT, UNSUPPORTED)
    shares = of_claims(v for v, n in zip(verdicts, counts, strict=True) for _ in range(n))
    p, q = (n / sum(counts) for n in counts[:2])
    expected = {
        "all supported": binom.sf(2, 3, p),
        "most supported": binom.sf(1, 3, p),
        "any supported": binom.sf(0, 3, p),
        "all contradicted": binom.sf(0, 3, q),
        "most contradicted": binom.sf(1, 3, q),
        "any contradicted": binom.sf(2, 3, q),
    }
    assert shares == pytest.approx(expected, abs=1e-12)


def test_the_committed_simulation_keeps_what_verdicts_promise():
    frame = pd.read_csv(ROOT / layout.SIMULATION / "power.csv")
    assert (frame["studies"] >= 200).all()
    own = frame[(frame["error"] == BY_USER) & (frame["seeds"] > 1)]
    without = own[own["effect"] == 0]
    assert (without["called"] <= 0.05).all()
    claims = without[without["seeds"] >= 3]
    assert (claims[["all supported", "most supported", "any contradicted"]] <= 0.05).all(axis=None)
    # one comparison of three is enough for these, with half of the nominal error each
    assert (claims[["any supported", "all contradicted"]] <= 0.075).all(axis=None)
    found = own[own["effect"] == 0.005]
    assert len(found) == len(without) == len(SEEDS) - 1
    assert (found["called"] - found["predicted"]).abs().max() < 0.06
