"""A proxy for the machine's own noise: how far single runs move by one rounding at their start.

Another order of the same sums, such as other threads or another machine bring, changes the last
digits all along. One rounding of the initial weights stands for that here. What it does to a number
says nothing about a method; a gain no larger than that could be of the machine alone.
"""

import math
from itertools import chain

import pandas as pd

from domain_experts.evaluation.registry import COMPARED
from domain_experts.reporting.frame import Frames
from domain_experts.runs import DEFAULT_VARIANT

NUDGE = "training.nudge"
"""The setting that changes the last digits of the initial weights and nothing else."""
_ALIKE = ["dataset", "backbone", "seed"]


def noise_band(of: Frames) -> pd.DataFrame:
    """By data set and metric, the largest change of one seed's gain by a nudge.

    A change of a gain is the difference, between two arms with the same backbone and seed, of how
    far each run is from the same run without the nudge. Of a few runs the largest is all that can
    be said: it is no bound for the next one.

    Returns:
        dataset, metric, `band` (of gains), `run_band` (the largest change of a run's own metric)
        and `runs`, the pairs of runs that it is from. A data set or metric without such runs has
        no row; `band` is NaN where only one arm has them.
    """
    changes = _changes(of)
    metrics = [name for name in COMPARED if name in changes]
    rows = []
    for dataset, own in changes.groupby("dataset", sort=False):
        for metric in metrics:
            known = own[own[metric].notna()]
            if len(known):
                gains = known.groupby([*_ALIKE, "variant"])[metric]
                # over all pairs of arms the largest difference is that of the extremes
                spans = (gains.max() - gains.min())[gains.size() > 1]
                rows.append((dataset, metric, spans.max(), known[metric].abs().max(), len(known)))
    return pd.DataFrame(rows, columns=["dataset", "metric", "band", "run_band", "runs"])


def of_means(band: "pd.Series[float]", seeds: "pd.Series[float]") -> "pd.Series[float]":
    """The band of means over seeds, whose noises are independent: that of one, by sqrt(seeds)."""
    return band / seeds.map(math.sqrt)


def _changes(of: Frames) -> pd.DataFrame:
    """A row for each nudged run: its metrics less those of the default run."""
    metrics = [name for name in COMPARED if name in of.runs]
    keys = [*_ALIKE, "arm"]
    asked = chain.from_iterable(of.study.expected.values())
    nudged = {run.path.as_posix() for run in asked if dict(run.variant).keys() == {NUDGE}}
    other = of.runs[of.runs["run"].isin(nudged)]
    default = of.runs[of.runs["variant"] == DEFAULT_VARIANT]
    both = other.merge(default, on=keys, suffixes=("", "_default"))
    return both[[*keys, "variant"]].assign(
        **{name: both[name] - both[f"{name}_default"] for name in metrics}
    )
