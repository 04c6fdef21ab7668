"""The table of differences, the best floor and the noise, on fabricated results."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from fabricated import forget
from scipy import stats

from domain_experts import layout
from domain_experts.registry import ARMS, BEST_FLOOR
from domain_experts.reporting.differences import _resampled, differences, differences_table
from domain_experts.reporting.frame import frames
from domain_experts.reporting.noise import noise_band
from domain_experts.reporting.statistics import BY_USER, OUTCOMES
from domain_experts.reporting.tables import table
from domain_experts.results import read, write

FLOORS = [arm for arm in ARMS if ARMS[arm].floor]


@pytest.fixture(scope="module")
def of(fabricated_tree):
    """The frames of the study, read once: only to be read."""
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        found = frames(study)
        # read what depends on the working directory
        assert len(differences(found)) > 0
        return found


def shift(study, dataset, arm, split, by):
    """Move every WAUC of an arm."""
    path = layout.results_file(study.tier)
    frame = read(path)
    own = (frame["dataset"] == dataset) & (frame["arm"] == arm) & (frame["against"] == "")
    frame.loc[own & (frame["metric"] == "wauc") & (frame["split"] == split), "value"] += by
    write(frame, path)
    return frames(study)


def floor_of(of, dataset):
    gains = of.gains("main").query("over == @BEST_FLOOR and dataset == @dataset")
    (arm,) = gains["other_arm"].unique()
    return arm


def test_the_gain_over_the_best_floor_is_a_column_that_says_which(of):
    made = table(of, "controls")
    assert "Gain over the best floor" in made.printed
    best = ARMS[floor_of(of, "planted")].label
    (note,) = (note for note in made.notes if note.startswith("The best floor, by the mean"))
    assert f"{best} on planted" in note
    own = of.gains("controls").query("over == @BEST_FLOOR and arm == 'mlora'")
    numbers = made.numbers.set_index(["arm", "variant"])
    gain = numbers.loc[("mlora", "default"), f"gain {BEST_FLOOR}"]
    assert gain == pytest.approx(own["gain"].mean())


def test_every_difference_is_a_row_with_all_that_is_known(of):
    frame = differences(of)
    keys = ["experiment", "dataset", "task", "backbone", "arm", "variant", "over"]
    assert not frame.duplicated(keys).any()
    assert set(frame["verdict"]) <= set(OUTCOMES)
    known = of.gains("main")
    own = known[(known["arm"] == "mlora") & (known["over"] == "base")]
    own = own[own["backbone"] == "mlp"].query("dataset == 'planted'")
    row = frame.query("experiment == 'main' and dataset == 'planted' and backbone == 'mlp'")
    row = row.query("arm == 'mlora' and over == 'base'").iloc[0]
    gain = own["gain"].to_numpy()
    assert (row["seeds"], row["expected"], row["reference"]) == (3, 3, "base/mlp")
    assert row["error"] == BY_USER
    assert (row["t_low"], row["t_high"]) == pytest.approx(
        stats.t.interval(0.95, 2, gain.mean(), stats.sem(gain))
    )
    assert row["t_p"] == pytest.approx(stats.ttest_1samp(gain, 0).pvalue)
    assert row["se"] == pytest.approx(np.sqrt((own["se"] ** 2).mean()))
    assert row["user_se"] == pytest.approx(np.sqrt((own["user_se"] ** 2).mean()))
    # of three seeds there is nothing to resample
    assert np.isnan(row[["bootstrap_low", "wilcoxon_p"]].astype(float)).all()


def test_holm_is_over_the_differences_of_an_experiment(of):
    frame = differences(of)
    for _, own in frame[frame["p"].notna()].groupby("experiment"):
        p, adjusted = own["p"].to_numpy(), own["holm_p"].to_numpy()
        # Holm: the k-th smallest times how many are left, never less than one before
        order = np.argsort(p, kind="stable")
        expected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
        assert adjusted[order] == pytest.approx(expected)


def test_the_printed_table_counts_the_verdicts(of):
    made = differences_table(of)
    frame = made.numbers
    assert len(made.printed) == frame.groupby(["experiment", "over"]).ngroups
    printed = made.printed.set_index(["Experiment", "Against"])
    own = frame.query("experiment == 'main' and over == @BEST_FLOOR")
    row = printed.loc[("main", "the best floor")]
    for word in OUTCOMES:
        assert int(row[word.capitalize()]) == (own["verdict"] == word).sum()


def test_the_noise_is_what_a_nudge_changes(of):
    runs = of.of("noise")
    band = noise_band(of).set_index(["dataset", "metric"])
    found = {}
    for (arm, seed), own in runs.groupby(["arm", "seed"]):
        wauc = own.set_index("variant")["wauc"]
        found[arm, seed] = wauc.drop("default").item() - wauc["default"]
    row = band.loc[("planted", "wauc")]
    assert row["runs"] == len(found) > 3
    assert row["run_band"] == pytest.approx(max(map(abs, found.values())))
    gains = [abs(found[a, s] - found[b, t]) for a, s in found for b, t in found if s == t]
    assert row["band"] == pytest.approx(max(gains))
    # of other data nothing is known
    assert set(band.index.get_level_values("dataset")) == {"planted"}
    frame = differences(of)
    assert (frame["noise"].notna() == (frame["dataset"] == "planted")).all()
    own = frame[frame["noise"].notna() & (frame["metric"] == "wauc")]
    assert (own["seeds"] > 1).any()
    # noise of n independent runs
    assert own["noise"].to_numpy() == pytest.approx(row["band"] / np.sqrt(own["seeds"].to_numpy()))


def test_resampling_agrees_with_exact_tests():
    values = np.array([0.001, 0.002, -0.0005, 0.004, 0.003, 0.0025])
    low, high, p = _resampled(values)
    assert p == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)
    draws = np.random.default_rng(1).choice(values, (20000, 6)).mean(axis=1)
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=2e-4)
    assert _resampled(np.zeros(5)) == (0, 0, 1)
    assert np.isnan(_resampled(values[:4])).all()


def test_the_best_floor_is_chosen_on_validation_rows_alone(of, fabricated_whole):
    study, dataset = fabricated_whole, "planted"
    floors = of.runs[of.runs["arm"].isin(FLOORS) & (of.runs["dataset"] == dataset)]
    means = floors.join(of.validation["wauc"].rename("known"), "run").groupby("arm")["known"].mean()
    best = floor_of(of, dataset)
    assert best == means.idxmax()
    other = next(arm for arm in means.index if arm != best)
    # a floor that is best on test rows is not
    assert floor_of(shift(study, dataset, other, "test", 0.3), dataset) == best
    assert floor_of(shift(study, dataset, other, "validation", 0.3), dataset) == other


def test_what_is_not_run_yet_leaves_a_row_incomplete(fabricated_whole):
    study = fabricated_whole
    forget(study, lambda run: run.arm == "mlora" and run.seed == 3)
    frame = differences(frames(study))
    own = frame.query("experiment == 'main' and arm == 'mlora' and over == 'base'")
    assert len(own)
    assert set(own["seeds"]) == {2}
    assert set(own["expected"]) == {3}


def test_without_results_there_is_an_empty_table(fabricated_whole):
    study = fabricated_whole
    forget(study, lambda run: True)
    made = differences_table(frames(study))
    assert made.printed.empty
    assert isinstance(made.numbers, pd.DataFrame)
