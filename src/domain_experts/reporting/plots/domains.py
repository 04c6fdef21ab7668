"""Gain over the base arm, domain by domain."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.collect import Results
from domain_experts.reporting.plots.panels import (
    below,
    default_runs,
    dots,
    grid,
    heads,
    in_order,
    legend,
    log_ticks,
    not_there,
    notice,
    outer_labels,
    short,
    zero,
)
from domain_experts.reporting.style import MARKERS, arm_color
from domain_experts.results import NOT_RUN
from domain_experts.runs import Run

MANY = 12
"""More domains than this, and single seeds are not drawn."""


def gain_by_domain(results: Results) -> Figure:
    """AUC gain over base by domain, against the domain's training rows."""
    expected = default_runs(results, "main")
    runs = [run for run in expected if run in results.metrics]
    points = _gains(results, runs)
    if points.empty:
        return notice("no finished runs of Base and another arm on the same split in this tier")
    datasets = [name for name in in_order(runs)[0] if name in set(points["dataset"])]
    backbones = [name for name in in_order(runs)[1] if name in set(points["backbone"])]
    arms = [arm for arm in ARMS if arm in set(points["arm"])]
    figure, axes = grid(len(datasets), len(backbones), 1.25, sharex="row", sharey="row")
    for row, dataset in enumerate(datasets):
        for column, backbone in enumerate(backbones):
            panel = axes[row, column]
            shown = points[(points["dataset"] == dataset) & (points["backbone"] == backbone)]
            if shown.empty:
                not_there(panel, NOT_RUN)
                continue
            zero(panel)
            for i, arm in enumerate(arms):
                own = shown[shown["arm"] == arm]
                # side by side, a few percent apart on the logarithmic axis
                shift = 1.05 ** (i - (len(arms) - 1) / 2)
                _series(panel, own, arm, MARKERS[i], shift)
            _log_rows(panel)
    heads(axes, datasets, [BACKBONES[backbone].label for backbone in backbones])
    legend(figure, axes.flat, 2)
    text = (
        f"Mean over seeds (dots: each seed, up to {MANY} domains); bars: 95 % paired DeLong "
        "interval of one seed."
    )
    outer_labels(
        figure,
        "Test AUC gain over base",
        below(results, expected, "Training rows of the domain", text),
    )
    return figure


def _gains(results: Results, runs: Iterable[Run]) -> pd.DataFrame:
    """Per domain: gain over base, its standard error, and training rows, one row a seed.

    Empty if no arm was tested on the same rows as base.
    """
    rows = {(r.dataset, r.split_seed): results.metrics[r]["rows"]["train"] for r in runs}
    chosen = {(r.dataset, r.backbone, r.arm, r.seed, r.split_seed) for r in runs}

    def shown(pair: dict[str, Any]) -> bool:
        """Both arms are among the runs: another experiment may have compared more."""
        rest = pair["seed"], pair["split_seed"]
        arms = pair["arm"], pair["against"]
        return pair["against"] == "base" and all(
            (pair["dataset"], pair["backbone"], arm, *rest) in chosen for arm in arms
        )

    frames = [
        pd.DataFrame(
            {
                "dataset": pair["dataset"],
                "backbone": pair["backbone"],
                "arm": pair["arm"],
                "domain": pair["domains"],
                "gain": pair["auc_difference"],
                "error": pair["standard_error"],
                "rows": rows[pair["dataset"], pair["split_seed"]],
            }
        )
        for pair in results.comparisons
        if shown(pair)
    ]
    columns = ["dataset", "backbone", "arm", "domain", "gain", "error", "rows"]
    points = pd.concat(frames) if frames else pd.DataFrame(columns=columns)
    return points.astype({"gain": float, "error": float}).dropna(subset=["gain"])


def _series(panel: Axes, points: pd.DataFrame, arm: str, marker: str, shift: float) -> None:
    color = arm_color(arm)
    domains = points.assign(variance=points["error"] ** 2).groupby("domain", sort=False)
    mean = domains[["gain", "rows", "variance"]].mean()
    many = len(mean) > MANY
    if not many:
        dots(panel, points["rows"] * shift, points["gain"], color, len(mean))
    panel.errorbar(
        mean["rows"] * shift,
        mean["gain"],
        1.96 * np.sqrt(mean["variance"]),
        color=color,
        marker=marker,
        linestyle="none",
        markersize=2 if many else 3,
        elinewidth=0.4 if many else 0.8,
        label=ARMS[arm].label,
    )


def _log_rows(panel: Axes) -> None:
    """Logarithmic axis of rows with few labels."""
    low, high = panel.dataLim.intervalx
    middle, reach = math.sqrt(low * high), max(1.3 * math.sqrt(high / low), 2)
    panel.set_xlim(middle / reach, middle * reach)
    decades = [10**k for k in range(10)]
    choices = [
        [tick for k in decades for n in digits if middle / reach < (tick := n * k) < middle * reach]
        for digits in (range(1, 10), (1, 2, 4, 8), (1, 2, 5), (1, 3), (1,))
    ]
    # labels need a third of the panel each
    gap = reach ** (2 / 3)
    apart = [t for t in choices if all(b >= gap * a for a, b in pairwise(t))]
    ticks = max(apart, key=len, default=choices[-1])
    log_ticks(panel, ticks, [short(tick) for tick in ticks])
    panel.yaxis.set_major_locator(MaxNLocator(4))
