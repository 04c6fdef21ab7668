"""Validation AUC by epoch."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from domain_experts.registry import BACKBONES
from domain_experts.reporting.collect import Results
from domain_experts.reporting.plots.panels import (
    below,
    caption,
    default_runs,
    grid,
    heads,
    in_order,
    legend,
    not_there,
    notice,
)
from domain_experts.reporting.style import PALETTE
from domain_experts.reporting.tables import curves
from domain_experts.results import NOT_RUN
from domain_experts.runs import Run

ARMS = ("base", "experts", "moe_mlora")
PHASES = {
    "backbone": "Backbone:\nAUC",
    "experts": "Experts:\nΔAUC × 1000",
    "gate": "Gate:\nΔAUC × 1000",
}


def learning_curves(results: Results) -> Figure:
    """Validation AUC by epoch in the three phases."""
    expected = default_runs(results, "main", *ARMS)
    runs = [run for run in expected if run in results.metrics]
    points = _curves(results, runs)
    points = points[points["phase"].isin(list(PHASES))]
    if points.empty:
        return notice("no finished runs of Base, Experts or MoE-MLoRA in this tier")
    phases = [phase for phase in PHASES if phase in set(points["phase"])]
    datasets = [name for name in in_order(runs)[0] if name in set(points["dataset"])]
    backbones = in_order(runs)[1]
    figure, axes = grid(len(datasets), len(phases), 1.15)
    for row, dataset in enumerate(datasets):
        for column, phase in enumerate(phases):
            panel = axes[row, column]
            shown = points[(points["dataset"] == dataset) & (points["phase"] == phase)]
            if shown.empty:
                not_there(panel, NOT_RUN)
                panel.set_yticks([])
                continue
            for i, backbone in enumerate(backbones):
                table = shown[shown["backbone"] == backbone].pivot_table(
                    "validation_auc", "epoch", ["seed", "lane"]
                )
                if table.empty:
                    continue
                if phase != "backbone":
                    table = (table - table.iloc[0]) * 1000
                panel.plot(table, color=PALETTE[i], alpha=0.25, linewidth=0.5)
                mean = table.ffill().mean(axis=1)
                label = BACKBONES[backbone].label
                panel.plot(mean, color=PALETTE[i], linestyle=("-", "--", ":")[i % 3], label=label)
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            panel.yaxis.set_major_locator(MaxNLocator(4))
    heads(axes, datasets, [PHASES[phase] for phase in phases])
    legend(figure, axes.flat, min(len(backbones), 5))
    text = (
        "Validation AUC, of experts and gate less its first value; experts on their own domain, "
        "those that the gate uses. Thick: mean (a stopped run keeps its last value); thin: each "
        "seed and expert."
    )
    caption(figure, below(results, expected, "Epoch", text))
    return figure


def _curves(results: Results, runs: Iterable[Run]) -> pd.DataFrame:
    """Validation AUC of `runs` and of those that they start from; experts as far as a gate uses."""
    found = dict.fromkeys(r for run in runs for r in (*results.study.upstream(run), run))
    chosen = [run for run in found if run in results.metrics]
    points = curves(results, chosen).dropna(subset=["validation_auc"])
    per_domain = results.study.settings("moe_mlora").adapter.experts_per_domain
    used = {run.dataset: len(results.metrics[run]["domains"]) * per_domain for run in chosen}
    unused = [
        phase == "experts" and int(lane) >= used[dataset]
        for dataset, phase, lane in zip(
            points["dataset"], points["phase"], points["lane"], strict=True
        )
    ]
    return points[~np.array(unused, dtype=bool)]
