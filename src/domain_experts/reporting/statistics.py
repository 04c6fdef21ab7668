"""Differences over seeds, with intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from domain_experts.reporting.frame import KEYS, over_seeds

LEVEL = 0.95
DELONG = (
    "DeLong's standard error on the test rows (which seeds share, so that more seeds do not shrink "
    "it) and the spread over seeds"
)
INTERVAL = (
    f"Intervals of 95 %: of differences in AUC (WAUC, mean AUC, on a new domain), from {DELONG}, "
    "where it is stored; of other differences, Student's t over seeds, none for one seed."
)
"""How intervals are made."""


def interval_notes(low: "pd.Series[float]") -> list[str]:
    """How the intervals of differences are made, and how many have none, by their lower bounds."""
    unknown = int(low.isna().sum())
    lacking = f"Of {unknown:,} differences no interval is known."
    return [INTERVAL] * bool(low.notna().any()) + [lacking] * bool(unknown)


def summed(gains: pd.DataFrame, keys: list[str] = KEYS, also: Sequence[str] = ()) -> pd.DataFrame:
    """Mean difference over seeds by `keys` and reference, with a 95 % interval.

    Args:
        gains: as of `Frames.gains`.
        keys: what tells groups apart, `over` besides.
        also: further columns whose means are wanted.

    Returns:
        keys, over, status, gain, gain_sd, gain_n, low, high; the bounds are NaN where nothing is
        known of the error.
    """
    known = gains[gains["gain"].notna()]
    frame = over_seeds(known, [*keys, "over"], ["gain", *also])
    groups = known.groupby([*keys, "over"], sort=False)
    # of variances the mean: seeds draw their test rows from the same data
    sampling = groups["se"].agg(lambda se: np.mean(np.square(se))).to_numpy(dtype=float)
    n, sd = frame["gain_n"].to_numpy(dtype=float), frame["gain_sd"].to_numpy(dtype=float)
    spread = np.where(n > 1, np.square(sd) / n, 0)
    normal = ndtri((1 + LEVEL) / 2) * np.sqrt(sampling + spread)
    with np.errstate(invalid="ignore"):
        student = stdtrit(n - 1, (1 + LEVEL) / 2) * sd / np.sqrt(n)
    half = np.where(np.isnan(sampling), student, normal)
    return frame.assign(low=frame["gain"] - half, high=frame["gain"] + half)
