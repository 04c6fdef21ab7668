"""Statistics over seeds."""

import numpy as np
import pandas as pd
from scipy import stats

from domain_experts.reporting.render import mean_sd, number

LEVEL = 0.95
"""Of confidence intervals."""


def paired_gain(
    runs: pd.DataFrame, reference: pd.DataFrame, alike: list[str], value: str = "wauc"
) -> "pd.Series[float]":
    """Value of each run less that of the reference with the same seed, split and columns `alike`.

    NaN where there is no such reference: differences between test rows are no gains.
    """
    keys = ["dataset", "task", "backbone", "seed", "split_seed", *alike]
    paired = runs[keys].merge(reference[[*keys, value]], "left", keys, validate="many_to_one")
    return pd.Series(runs[value].to_numpy() - paired[value].to_numpy(), runs.index)


def over_seeds(runs: pd.DataFrame, keys: list[str], values: list[str]) -> pd.DataFrame:
    """Mean, standard deviation (n - 1) and, for the first value, count over seeds.

    `status` is "present" if any seed is there, `stale` if any is.
    """
    groups = runs.groupby(keys, sort=False)
    # the last in the alphabet: "present" comes after "not run" and "data not present"
    columns = {
        "status": groups["status"].max(),
        "stale": groups["stale"].max(),
        "seeds": groups[values[0]].count(),
    }
    for value in values:
        columns |= {f"{value}_mean": groups[value].mean(), f"{value}_sd": groups[value].std()}
    return pd.DataFrame(columns).reset_index()


def half_width(runs: pd.DataFrame, keys: list[str], value: str) -> "pd.Series[float]":
    """Half the 95 % interval (Student's t) of each group's mean; NaN of a single value."""
    groups = runs.groupby(keys, sort=False)[value]
    width: pd.Series[float] = stats.t.ppf((1 + LEVEL) / 2, groups.count() - 1) * groups.sem()
    return width


def against_chance(differences: "pd.Series[float]") -> str:
    """One-sample t-test over seeds of a difference from chance, at the 5 % level, in words."""
    words = ("more than chance", "less than chance", "not told apart from chance")
    return against_zero(differences, words, digits=3)


def against_zero(
    differences: "pd.Series[float]", words: tuple[str, str, str], digits: int = 4
) -> str:
    """One-sample t-test over seeds of a difference, at the 5 % level, in words.

    Args:
        differences: One a seed.
        words: If it is above zero, below, and not told apart from it.
        digits: After the point.
    """
    n, mean = differences.count(), differences.mean()
    if n < 2 or np.ptp(differences) == 0:
        return f"{number(mean, digits, signed=True)} (no spread over seeds, no test)"
    p = stats.ttest_1samp(differences, 0).pvalue
    verdict = words[0] if mean > 0 else words[1]
    if p >= 0.05:
        verdict = words[2]
    text = mean_sd(mean, differences.std(), digits, signed=True)
    return f"{text} over {n} seeds, p = {p:.2g}: {verdict}"
