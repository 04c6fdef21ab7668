"""What to take of a study: chosen on validation rows, judged on test rows, said plainly."""

import contextlib
import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from test_differences import shift

from domain_experts import layout
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import read_split
from domain_experts.params import Params
from domain_experts.registry import ARMS, BEST_FLOOR
from domain_experts.reporting import advice
from domain_experts.reporting.differences import differences
from domain_experts.reporting.frame import frames
from domain_experts.reporting.recommend import (
    MOST_SEEDS,
    asked,
    by_domain,
    choice,
    costs,
    needed,
)
from domain_experts.reporting.render import number
from domain_experts.reporting.statistics import (
    BETTER,
    EQUIVALENT,
    ONE_SEED,
    UNDECIDED,
    UNKNOWN,
    WORSE,
    bounds,
    verdict,
)
from domain_experts.study import Study


def main_of(study):
    """The same study with its experiment `main` alone."""
    values = study.params.model_dump()
    values["experiments"] = {"main": values["experiments"]["main"]}
    return Study(Params.model_validate(values), study.tier, study.absent)


@pytest.fixture
def whole(fabricated_whole):
    """A copy of that study, data and logits included, in the current folder."""
    return main_of(fabricated_whole)


@pytest.fixture(scope="module")
def of(fabricated_tree):
    """The frames of the study, read once: only to be read."""
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        found = frames(main_of(study))
        assert choice(found) is not None
        assert len(costs(found)) > 0
        return found


def test_the_best_is_chosen_on_validation_rows_alone(of, whole):
    experiment, dataset, metric = asked(of)
    runs = of.of(experiment).query("dataset == @dataset and seed == split_seed")
    values = of.validation[metric].loc[list(runs["run"])]
    means = values.groupby([runs["backbone"].to_numpy(), runs["arm"].to_numpy()]).mean()
    best = choice(of).best
    assert (best["backbone"], best["arm"]) == means.idxmax()

    worst = means.drop("base", level=1).idxmin()[1]
    moved = shift(whole, dataset, worst, "validation", 0.4)
    assert choice(moved).best["arm"] == worst
    tested = shift(whole, dataset, "base", "test", 0.2)
    assert choice(tested).best["arm"] == worst


def test_it_has_to_beat_the_floor_then_base_then_mlora(of):
    found = choice(of)
    expected = [BEST_FLOOR, "base", "mlora"]
    assert [over for over in expected if over in [*found.against["over"]]] == [
        *found.against["over"]
    ]
    frame = differences(of)
    for row in found.against.to_dict("records"):
        (own,) = frame[
            (frame["dataset"] == asked(of)[1])
            & (frame["arm"] == found.best["arm"])
            & (frame["backbone"] == found.best["backbone"])
            & (frame["over"] == row["over"])
        ].to_dict("records")
        assert row["gain"] == own["gain"]
    stops = found.against[found.against["verdict"] != BETTER]
    if stops.empty:
        assert found.blocked is None
    else:
        assert found.blocked["over"] == stops["over"].iloc[0]


def test_a_floor_that_is_best_is_taken(whole):
    _, dataset, _ = asked(frames(whole))
    moved = shift(whole, dataset, "item_rate", "validation", 0.45)
    found = choice(moved)
    said = advice.recommendation(moved, found)
    assert said.startswith("Take Item rate, a floor: domain experts do not pay")
    assert BEST_FLOOR not in [*found.against["over"]]
    assert found.blocked is None


@pytest.mark.parametrize(
    ("outcome", "start", "why"),
    [
        (EQUIVALENT, "No gain: take Base, MLP. X, ", "is equivalent to it within ±0.001"),
        (WORSE, "No gain: take Base, MLP. X, ", "is worse than it"),
        (UNDECIDED, "No gain is shown: stay with Base, MLP. X, ", "is not clearly better or worse"),
        (ONE_SEED, "No gain is shown: stay with Base, MLP. X, ", "one seed"),
        (UNKNOWN, "No gain is shown: stay with Base, MLP. X, ", "no interval"),
        (BETTER, "Take X: it gains +0.0100 (95 % interval −0.0100 to +0.0300) over Base", ""),
    ],
)
def test_no_gain_is_said_as_plainly_as_a_gain(of, outcome, start, why):
    row = {
        "over": "base",
        "label": "Base, MLP",
        "verdict": outcome,
        "metric": "wauc",
        "dataset": asked(of)[1],
    }
    row |= {"gain": 0.01, "low": -0.01, "high": 0.03, "status": "current"}
    row |= {"seeds": 1 if outcome == ONE_SEED else 3, "gain_sd": 0.01, "user_se": 0.01, "se": 0.01}
    found = dataclasses.replace(
        choice(of),
        label="X",
        best=choice(of).best | {"arm": "moe_mlora"},
        against=pd.DataFrame([row]),
        blocked=None if outcome == BETTER else row,
    )
    said = advice.recommendation(of, found)
    assert said.startswith(start)
    assert why in said
    assert "+0.0100" in said
    (sure,) = advice._sureness(of, found)
    assert sure.startswith("To be sure" if outcome in (UNDECIDED, ONE_SEED, UNKNOWN) else "The int")


def test_domains_are_those_of_the_predictions(whole):
    of = frames(whole)
    found, (frame, label) = choice(of), by_domain(of)
    experiment, dataset, _ = asked(of)
    rows = Interactions.open(layout.interactions(dataset))
    expected: dict[str, list[float]] = {}
    for run, other, over in of.study.comparisons(experiment):
        own = (run.dataset, run.arm, run.backbone)
        if over != "base" or own != (dataset, found.best["arm"], found.best["backbone"]):
            continue
        test = read_split(of.study.tier, dataset, run.split_seed) == 2
        logits = [
            np.load(layout.run_artifacts(of.study.tier, one) / "test.npy")[:, 0]
            for one in (run, other)
        ]
        for d, name in enumerate(rows.schema.domains):
            there, labels = rows.domain[test] == d, rows.labels[test, 0]
            one, two = (roc_auc_score(labels[there], values[there]) for values in logits)
            expected.setdefault(name, []).append(one - two)
    assert label.startswith("Base")
    assert [*frame["domain"]] == [*expected]
    np.testing.assert_allclose(frame["gain"], [np.mean(v) for v in expected.values()], atol=1e-6)
    assert (frame["low"] < frame["gain"]).all()
    assert (frame["gain"] < frame["high"]).all()
    table = advice.domains_table(of).printed
    assert [*table["Domain"]] == [*expected]
    assert sum(map(int, table["Test"].str.replace(",", ""))) == test.sum()


def test_the_time_of_an_arm_is_that_of_all_it_starts_from(of):
    frame = costs(of).set_index(["arm", "backbone"])
    seconds = (
        of.runs[of.runs["dataset"] == asked(of)[1]].groupby(["arm", "backbone"])["wall_s"].mean()
    )
    backbone = frame.index[frame.index.get_level_values("arm") == "moe_mlora"][0][1]
    parts = [seconds[arm, backbone] for arm in ("base", *ARMS["moe_mlora"].needs[1:], "moe_mlora")]
    assert frame.loc[("moe_mlora", backbone), "wall_s"] == pytest.approx(sum(parts))
    assert frame["validation"].is_monotonic_decreasing


def test_every_sentence_has_its_numbers(of):
    found, said = choice(of), " ".join(advice.sentences(of))
    for gain in found.against["gain"]:
        assert number(gain, signed=True) in said
    assert found.label in said
    frame = by_domain(of)[0]
    for word, count in frame["verdict"].value_counts().items():
        assert f"{word} in {count}" in said
    for make in advice.TABLES.values():
        assert len(make(of).printed) > 0


@given(
    gain=st.floats(-0.02, 0.02).filter(lambda x: abs(x) > 1e-4),
    sd=st.floats(1e-5, 0.02),
    n=st.integers(2, 5),
    error=st.floats(1e-5, 0.02),
)
def test_what_is_needed_is_just_enough(gain, sd, n, error):
    margin = 0.001

    def decided(seeds, error):
        made = bounds([gain], [sd], [seeds], [error])
        return verdict(made["low"][0], made["high"][0], margin) != UNDECIDED

    found = needed(gain, sd, n, error, margin)
    if found.seeds is not None:
        assert decided(found.seeds, error)
        assert found.seeds == n or not decided(found.seeds - 1, error)
    else:
        assert not any(decided(seeds, error) for seeds in range(n, MOST_SEEDS + 1))
    if found.rows is not None:
        assert decided(found.seeds_with_rows, error / np.sqrt(found.rows))
        less = error / np.sqrt(0.98 * found.rows)
        assert found.rows == 1 or not decided(found.seeds_with_rows, less)


def test_rows_are_no_advice_where_their_error_is_not_known():
    assert needed(0.001, 0.01, 3, float("nan"), 0.001).rows is None
    # runs that differ so much from seed to seed need more of them than anyone has
    assert needed(0.0011, 1.0, 3, 0.01, 0.001) == dataclasses.replace(
        needed(0.0011, 1.0, 3, 0.01, 0.001), seeds=None, rows=None
    )


def test_domains_that_win_or_lose_are_named_and_undecided_ones_are_not(of, monkeypatch):
    found, (frame, label) = choice(of), by_domain(of)
    names = ["north", "south", "east", "west", "middle", "isle"]
    own = pd.DataFrame(
        {
            "domain": names,
            "task": "click",
            "status": "current",
            "gain": [0.01, 0.04, 0.02, 0.03, -0.02, -0.5],
            "verdict": [BETTER] * 4 + [WORSE, UNDECIDED],
        }
    ).reindex(columns=frame.columns)
    monkeypatch.setattr(advice, "by_domain", lambda of: (own, label))
    (said,) = advice._by_domain_in_short(of, found)
    assert "better in 4 (most: south +0.0400; west +0.0300; east +0.0200)" in said
    assert "worse in 1 (middle −0.0200)" in said
    assert "undecided in 1" in said
    assert "isle" not in said
