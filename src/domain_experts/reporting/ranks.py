"""Ranks of the arms of an experiment over data sets, backbones and seeds (Demšar 2006)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range

from domain_experts.registry import NO_BACKBONE
from domain_experts.reporting.columns import column
from domain_experts.reporting.frame import Frames
from domain_experts.reporting.statistics import LEVEL
from domain_experts.runs import DEFAULT_VARIANT

FEWEST = 5
"""Seeds from which ranks are given."""
FEWEST_DATASETS = 5
"""Data sets from which each is one block (Demšar 2006, section 3.2: N data sets)."""


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of arms, and which of them cannot be told apart.

    From FEWEST_DATASETS a block is a data set, with means over backbones and seeds; of fewer it is
    data set x backbone x seed. The test takes blocks as independent. Such smaller ones share users
    and test rows and are not: p and the critical difference are too small, and about these data
    sets alone.
    """

    means: "pd.Series[float]"
    """Arm -> mean rank over blocks, the best (1) first; `arm/backbone` where the experiment gives
    each arm backbones of its own."""
    blocks: int
    """In which every arm has a number."""
    by_dataset: bool
    """A block is a data set."""
    seeds: int
    p: float
    """Of Friedman's test that all arms rank alike."""
    critical: float
    """Nemenyi's critical difference of mean ranks, at 5 % for all pairs together."""

    @property
    def cliques(self) -> tuple[tuple[str, ...], ...]:
        """Largest groups of two arms or more whose mean ranks span no more than that."""
        arms, values = list(self.means.index), self.means.to_numpy()
        found: list[tuple[str, ...]] = []
        for i, first in enumerate(values):
            group = tuple(arms[i : int(np.searchsorted(values, first + self.critical, "right"))])
            if len(group) > 1 and not (found and set(group) <= set(found[-1])):
                found.append(group)
        return tuple(found)


def ranks(of: Frames, experiment: str) -> Ranks | None:
    """Ranks of an experiment's arms with default settings, by its metric.

    An arm without a backbone stands beside each. Arms on other test rows than the rest are left
    out, and so are blocks that lack an arm.

    Returns:
        None for fewer than three arms, fewer than FEWEST seeds in every complete block together, or
        a metric of which `columns` does not say what is better.
    """
    spec, runs = of.study.params.experiments[experiment], of.of(experiment)
    metric, keys = spec.metric, ["dataset", "backbone", "seed"]
    usual = (runs["variant"] == DEFAULT_VARIANT) & (runs["seed"] == runs["split_seed"])
    own = runs.loc[usual & runs[metric].notna(), [*keys, "arm", metric]]
    if isinstance(spec.arms, dict):  # each arm has backbones of its own
        own = own.assign(arm=own["arm"] + "/" + own["backbone"], backbone=NO_BACKBONE)
    alone = own["backbone"] == NO_BACKBONE
    if not alone.all():
        blocks = own.loc[~alone, keys].drop_duplicates()
        beside = own[alone].drop(columns="backbone").merge(blocks, on=["dataset", "seed"])
        own = pd.concat([own[~alone], beside])
    wide = own.pivot(index=keys, columns="arm", values=metric)
    wide = wide.dropna()
    seeds = wide.index.get_level_values("seed").nunique()
    # only backbones and seeds that all arms have are averaged
    by_dataset = wide.index.get_level_values("dataset").nunique() >= FEWEST_DATASETS
    if by_dataset:
        wide = wide.groupby(level="dataset").mean()
    better, (count, arms) = column(metric).better, wide.shape
    if better is None or arms < 3 or seeds < FEWEST:
        return None
    placed = wide.rank(axis="columns", ascending=better == "lower")
    spread = float(studentized_range.ppf(LEVEL, arms, np.inf)) / np.sqrt(2)
    return Ranks(
        placed.mean().sort_values(kind="stable"),
        count,
        by_dataset,
        seeds,
        float(friedmanchisquare(*wide.to_numpy().T).pvalue),
        spread * np.sqrt(arms * (arms + 1) / (6 * count)),
    )
