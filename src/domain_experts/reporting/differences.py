"""Every difference of every experiment, with all that is known of its error."""

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.columns import column, reference_label, stale_marked
from domain_experts.reporting.frame import KEYS, Frames, over_status
from domain_experts.reporting.noise import noise_band, of_means
from domain_experts.reporting.notes import floor_notes, status_notes
from domain_experts.reporting.render import Shown, Table, number
from domain_experts.reporting.statistics import (
    BETTER,
    BY_USER,
    LEVEL,
    MIXED,
    ONE_SEED,
    OUTCOMES,
    WORSE,
    Floats,
    bounds,
    equivalence_p,
    holm,
    interval_notes,
    margin_of,
    p_value,
    quantile,
    summed,
    verdicts,
)

FEWEST = 5
"""Seeds from which a bootstrap and a signed-rank test over them are made."""
RESAMPLES = 999
WHAT = ["experiment", "metric", *KEYS, "over", "reference"]
COLUMNS = [
    *WHAT,
    *("status", "seeds", "expected", "gain", "gain_sd", "low", "high", "error"),
    *("t_low", "t_high", "bootstrap_low", "bootstrap_high"),
    *("p", "holm_p", "t_p", "wilcoxon_p", "equivalence_p"),
    *("se", "user_se", "noise", "verdict", "row_verdict"),
    *("validation", "reference_validation"),
]


@lru_cache(maxsize=1)
def differences(of: Frames) -> pd.DataFrame:
    """A row for each arm or setting and reference of each experiment; what is unknown is NaN.

    Columns:
        experiment, metric, dataset, task, backbone, arm, variant, over (the reference as
        params.yaml names it), reference (its arm/backbone: of `best_floor` the floor);
        status, seeds with a difference and those expected; gain, its mean, and gain_sd;
        low, high, error: the 95 % interval of `statistics.bounds`, and what it takes as
        independent; p, as this interval has it, and holm_p, adjusted over the experiment's rows;
        t_low, t_high, t_p: Student's of the seeds alone; bootstrap_low, bootstrap_high,
        wilcoxon_p: of FEWEST seeds or more, by percentiles of the mean, and signed ranks;
        equivalence_p: that the difference exceeds the margin (TOST);
        se, user_se: of one seed's test rows, by DeLong, and with users as independent;
        noise: a proxy for the machine's own, as `noise.of_means` has it; verdict, and
        row_verdict: what it would be if rows were independent; validation and
        reference_validation: mean metric of both on validation rows.
    """
    parts = [pd.DataFrame(columns=COLUMNS)]
    bands = noise_band(of).set_index(["dataset", "metric"])["band"]
    for name in experiments(of.study):
        gains = of.gains(name)
        if gains["gain"].notna().any():
            parts.append(_of_experiment(of, name, gains, bands))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _of_experiment(
    of: Frames, name: str, gains: pd.DataFrame, bands: "pd.Series[float]"
) -> pd.DataFrame:
    metric, keys = of.study.params.experiments[name].metric, [*KEYS, "reference"]
    margin, lower = margin_of(of.study.params, metric), column(metric).better == "lower"
    expected = gains.groupby([*keys, "over"])["run"].count().rename("expected")
    validation = of.validation[metric]
    beside = {"validation": "run", "reference_validation": "other"}
    for value, whose in beside.items():
        gains = gains.join(validation.rename(value), whose)
    frame = summed(gains, keys, [*beside]).drop(columns="expected").join(expected, [*keys, "over"])
    frame["seeds"] = frame["gain_n"]
    error = frame["gain"], frame["gain_se"], frame["gain_df"]
    frame["p"] = p_value(*error)
    frame["holm_p"] = holm(frame["p"])
    frame["equivalence_p"] = equivalence_p(*error, margin)
    frame["verdict"] = verdicts(frame, margin, lower)
    by_row = bounds(frame["gain"], frame["gain_sd"], frame["seeds"], frame["se"])
    other = frame.assign(low=by_row["low"], high=by_row["high"])
    frame["row_verdict"] = verdicts(other, margin, lower)
    band = frame["dataset"].map(lambda dataset: bands.get((dataset, metric), np.nan))
    frame["noise"] = of_means(band.astype(float), frame["seeds"])
    frame = frame.join(_over_seeds(gains, [*keys, "over"]), [*keys, "over"])
    return frame.assign(experiment=name, metric=metric)[COLUMNS]


def _over_seeds(gains: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """By group what seeds alone say: Student's t, bootstrap and signed ranks."""
    groups = gains[gains["gain"].notna()].groupby(keys)["gain"]
    n, mean = groups.count().to_numpy(dtype=float), groups.mean().to_numpy()
    error = groups.sem().to_numpy()
    half = quantile(np.maximum(n - 1, 1)) * error
    found = pd.DataFrame(
        {"t_low": mean - half, "t_high": mean + half, "t_p": p_value(mean, error, n - 1)},
        index=groups.count().index,
    )
    names = ["bootstrap_low", "bootstrap_high", "wilcoxon_p"]
    resampled = [_resampled(values.to_numpy(dtype=float)) for _, values in groups]
    return found.join(pd.DataFrame(resampled, columns=names, index=found.index))


def _resampled(values: Floats) -> tuple[float, float, float]:
    """Bootstrap interval of the mean, and p of the signed-rank test; NaN of few seeds."""
    if len(values) < FEWEST:
        return np.nan, np.nan, np.nan
    if np.ptp(values) == 0:
        interval = values[0], values[0]
    else:
        interval = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=LEVEL,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    p = stats.wilcoxon(values, zero_method="zsplit").pvalue if values.any() else 1.0
    return *interval, p


def differences_table(of: Frames) -> Table:
    """How the differences of each experiment and reference are judged; all of them as CSV."""
    frame = differences(of)
    groups = frame.groupby(["experiment", "over"], sort=False)
    counted = [
        {"Experiment": name, "Against": reference_label(str(over))}
        | {head: _marked(own, count) for head, count in _counts(own).items()}
        for (name, over), own in groups
    ]
    printed = pd.DataFrame(counted, columns=["Experiment", "Against", *_counts(frame)])
    named = printed[["Experiment", "Against"]]
    columns = [Shown(str(head), [*own]) for head, own in printed.drop(columns=[*named]).items()]
    margin = of.study.params.statistics.margin
    notes = [
        *interval_notes(frame["low"], frame["error"]),
        f"Equivalent: the interval of a difference in AUC lies within ±{margin:g}; undecided: it "
        f"holds 0, and more than that. {ONE_SEED.capitalize()}: its interval is of the test users "
        "alone and no verdict, as it does not know how runs differ.",
        f"After Holm: of those better or worse, how many stay so at {1 - LEVEL:.0%} if all "
        "differences of the experiment are tested at once. Other by rows: verdicts that would be "
        "others if rows, and not users, were independent. In the noise: of those better or worse, "
        "how many are no larger than the most that one rounding of the initial weights did to a "
        "difference of single runs (experiment `noise`), over the root of the number of seeds: a "
        "proxy for what another machine would change. A dash: not known.",
        *floor_notes(frame),
        *status_notes(of, of.about),
    ]
    caption = (
        "Differences of each experiment by verdict; each by itself, with intervals and p, is in "
        f"differences.csv. Tier {of.study.tier}."
    )
    return Table.of("differences", caption, frame, named, columns, notes)


def _marked(own: pd.DataFrame, count: float) -> str:
    return stale_marked(number(count, 0), over_status(own["status"]))


def _counts(own: pd.DataFrame) -> dict[str, float]:
    """How many differences are judged how; NaN where what it takes is not known of any."""
    called = own["verdict"].isin([BETTER, WORSE])
    by_user, banded = own["error"].isin([BY_USER, MIXED]), own["noise"].notna()
    other, within = own["verdict"] != own["row_verdict"], own["gain"].abs() <= own["noise"]
    return {
        "Differences": len(own),
        **{word.capitalize(): (own["verdict"] == word).sum() for word in OUTCOMES},
        "After Holm": (called & (own["holm_p"] < 1 - LEVEL)).sum(),
        "Other by rows": other[by_user].sum() if by_user.any() else np.nan,
        "In the noise": (called & within).sum() if banded.any() else np.nan,
    }
