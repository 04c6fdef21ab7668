"""Differences over seeds, with intervals, and what is said of them in words."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from domain_experts.evaluation.registry import AUCS
from domain_experts.params import Params
from domain_experts.reporting.frame import KEYS, over_seeds

Floats = NDArray[np.float64]

LEVEL = 0.95
NORMAL = 1e9
"""Degrees of freedom from which Student's t is the normal distribution."""
BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "undecided"
ONE_SEED, UNKNOWN = "one seed", "no interval"
OUTCOMES = (BETTER, WORSE, EQUIVALENT, UNDECIDED, ONE_SEED, UNKNOWN)
UNTESTED = (ONE_SEED, UNKNOWN)
"""Verdicts that are none."""
BY_USER, BY_ROW, BY_SEED = "users", "rows", "seeds"
MIXED = "users, of some seeds rows"
"""What an interval takes as independent: test users, test rows, or only seeds."""
SAMPLING = (
    "the error that the test users bring (their rows summed; where that is not stored, DeLong's, "
    "of rows; seeds share them, so that more seeds do not shrink it) and the spread over seeds"
)
INTERVAL = (
    f"Intervals of 95 %: of differences in AUC (WAUC, mean AUC, on a new domain), from {SAMPLING}, "
    "where it is stored; of other differences, Student's t over seeds, none for one seed."
)
"""How intervals are made."""


def interval_notes(low: "pd.Series[float]", error: "pd.Series[str] | None" = None) -> list[str]:
    """How the intervals of differences are made, and how many have none, by their lower bounds.

    Args:
        low: the lower bounds.
        error: what each takes as independent, to count those that lack the error by user.
    """
    unknown = int(low.isna().sum())
    notes = [INTERVAL] * bool(low.notna().any())
    if error is not None and (rows := int((error[low.notna()] == BY_ROW).sum())):
        notes.append(f"Of {rows:,} of {len(low):,} differences only DeLong's error is stored.")
    if error is not None and (mixed := int((error[low.notna()] == MIXED).sum())):
        notes.append(f"Of {mixed:,} differences in some seeds only DeLong's error is stored.")
    return notes + [f"Of {unknown:,} differences no interval is known."] * bool(unknown)


def summed(gains: pd.DataFrame, keys: list[str] = KEYS, also: Sequence[str] = ()) -> pd.DataFrame:
    """Mean difference over seeds by `keys` and reference, with a 95 % interval.

    Args:
        gains: as of `Frames.gains`.
        keys: what tells groups apart, `over` besides.
        also: further columns whose means are wanted.

    Returns:
        keys, over, status, gain, gain_sd, gain_n, what `bounds` gives (low, high, gain_se,
        gain_df), `se` and `user_se` of one seed's test rows, and `error`: what the interval takes
        as independent.
    """
    known = gains[gains["gain"].notna()]
    known = known.reindex(columns=[*dict.fromkeys([*gains.columns, "user_se"])])
    kinds = {"se": known["se"], "user_se": known["user_se"]}
    kinds["chosen"] = known["user_se"].fillna(known["se"])
    frame = over_seeds(known, [*keys, "over"], ["gain", *also])
    # of variances the mean: seeds draw their test rows from the same data
    squares = known[[*keys, "over"]].assign(**{name: np.square(se) for name, se in kinds.items()})
    groups = squares.groupby([*keys, "over"], sort=False)[[*kinds]]
    errors = groups.mean().pow(0.5).reset_index(drop=True)
    stored = groups.count().reset_index(drop=True)
    filled = np.where(stored["chosen"] > stored["user_se"], MIXED, BY_USER)
    by = np.where(stored["user_se"] > 0, filled, BY_ROW)
    made = bounds(frame["gain"], frame["gain_sd"], frame["gain_n"], errors["chosen"])
    return frame.assign(
        low=made["low"],
        high=made["high"],
        gain_se=made["se"],
        gain_df=made["df"],
        se=errors["se"],
        user_se=errors["user_se"],
        error=np.where(errors["chosen"].notna(), by, BY_SEED),
    )


def half_widths(runs: pd.DataFrame, values: Sequence[str], keys: list[str] = KEYS) -> pd.DataFrame:
    """Half of the width of the interval of each value's mean over seeds: `<value>_half`.

    Args:
        runs: as `Frames.runs`.
        values: names of its columns; `<value>_user_se`, or else `<value>_se`, is the error that
            the test users bring.
        keys: what tells groups apart.
    """
    found = {}
    for value in values:
        errors = runs.reindex(columns=[f"{value}_user_se", f"{value}_se"]).bfill(axis="columns")
        own = runs[keys].assign(value=runs[value], variance=np.square(errors.iloc[:, 0]))
        groups = own.groupby(keys, sort=False)
        means, n = groups["value"].mean(), groups["value"].count()
        made = bounds(means, groups["value"].std(), n, np.sqrt(groups["variance"].mean()))
        found[f"{value}_half"] = pd.Series((made["high"] - made["low"]) / 2, means.index)
    return pd.DataFrame(found, runs.groupby(keys, sort=False).size().index)


def bounds(mean: ArrayLike, sd: ArrayLike, n: ArrayLike, error: ArrayLike) -> dict[str, Floats]:
    """A 95 % interval of means over seeds whose test rows are, or might be, the same.

    The variance is that of the test rows, which more seeds do not shrink, and the variance over
    seeds divided by their number. Where seeds draw test rows of their own, the second holds a part
    of the first, and the interval is wider than it need be. The quantile is Student's, with the
    degrees of freedom that Satterthwaite (1946) gives a sum of a known variance and one from n
    seeds; without an error of the test rows it is Student's of n seeds.

    Args:
        mean: (k,)
        sd: (k,) standard deviation over seeds; of one seed it is not used.
        n: (k,) number of seeds.
        error: (k,) standard error of one seed's value, by its test rows; NaN: unknown.

    Returns:
        (k,) `low`, `high`, `se` and degrees of freedom `df`; NaN where nothing is known.
    """
    centre, deviation, count, own = (
        np.asarray(values, dtype=float) for values in (mean, sd, n, error)
    )
    several, sampling = count > 1, np.square(own)
    spread = np.where(several, np.square(deviation) / count, 0)
    total = np.where(np.isnan(sampling), np.where(several, spread, np.nan), sampling + spread)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        df = np.where(spread > 0, (count - 1) * np.square(total / spread), np.inf)
    half = quantile(df) * np.sqrt(total)
    return {"low": centre - half, "high": centre + half, "se": np.sqrt(total), "df": df}


def quantile(df: ArrayLike, level: float = LEVEL) -> Floats:
    """Of Student's t, that which the given share of values is within; of infinite df the normal."""
    found: Floats = stdtrit(np.minimum(df, NORMAL), (1 + level) / 2)
    return found


def p_value(gain: ArrayLike, se: ArrayLike, df: ArrayLike) -> Floats:
    """Two-sided p of differences, as their intervals have it; 1 where all is 0."""
    return np.minimum(1, 2 * _tail(np.abs(gain), se, df))


def equivalence_p(gain: ArrayLike, se: ArrayLike, df: ArrayLike, margin: float) -> Floats:
    """P of two one-sided tests (Schuirmann 1987): that a difference is outside ± margin."""
    centre = np.asarray(gain, dtype=float)
    return np.maximum(_tail(margin - centre, se, df), _tail(margin + centre, se, df))


def holm(p: ArrayLike) -> Floats:
    """P values adjusted by Holm (1979) over those that are known; NaN stays.

    Not statsmodels', which collects garbage at each call: that took longer than all else here.
    """
    found = np.asarray(p, dtype=float).copy()
    # NaN is sorted last
    order = np.argsort(found)[: np.count_nonzero(~np.isnan(found))]
    factors = np.arange(len(order), 0, -1)
    found[order] = np.minimum(1, np.maximum.accumulate(found[order] * factors))
    return found


def _tail(value: ArrayLike, se: ArrayLike, df: ArrayLike) -> Floats:
    """Probability of as large a value, of t with an error and degrees of freedom."""
    value, se = np.asarray(value, dtype=float), np.asarray(se, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = np.where((se == 0) & (value == 0), 0, value / se)
    found: Floats = stdtr(np.minimum(df, NORMAL), -t)
    return found


def margin_of(params: Params, metric: str) -> float:
    """The margin within which a difference in a metric does not matter; NaN: none is set."""
    return params.statistics.margin if metric in AUCS else math.nan


def verdicts(frame: pd.DataFrame, margin: float, lower: bool = False) -> list[str]:
    """What is said of each difference: its `verdict`, but of one seed none.

    The interval of one seed does not know how runs of an arm differ, and would call differences
    where there are none far more often than it promises (table `power`).

    Args:
        frame: has low, high and gain_n, as `summed` gives them.
        margin: as `verdict` takes it.
        lower: as `verdict` takes it.
    """
    return [
        ONE_SEED if n == 1 and not math.isnan(low) else verdict(low, high, margin, lower)
        for low, high, n in zip(frame["low"], frame["high"], frame["gain_n"], strict=True)
    ]


def verdict(low: float, high: float, margin: float, lower: bool = False) -> str:
    """What an interval of a difference says by itself: one of OUTCOMES.

    Equivalent: within ± the margin, both ends included, though it may exclude 0. Better or worse:
    all on one side of 0. Else undecided. The 95 % interval makes equivalence a TOST at 2.5 %.

    Args:
        low: lower end; NaN where there is no interval.
        high: upper end.
        margin: in the metric's unit; NaN: nothing is equivalent.
        lower: lower values of the metric are better.
    """
    if math.isnan(low):
        return UNKNOWN
    if -margin <= low and high <= margin:
        return EQUIVALENT
    if low <= 0 <= high:
        return UNDECIDED
    return BETTER if (high < 0) == lower else WORSE
