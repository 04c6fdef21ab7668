"""Figure 4 of M3oE: overall AUC against the learning rate and the number of shared experts."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from domain_experts.reporting.collect import Results
from domain_experts.reporting.m3oe.cells import OVERALL, by_run
from domain_experts.reporting.plots.panels import (
    below,
    dots,
    grid,
    legend,
    log_ticks,
    not_there,
    notice,
    outer_labels,
    why_empty,
)
from domain_experts.reporting.published import published
from domain_experts.reporting.style import MARKERS, PALETTE
from domain_experts.runs import Run

VARIED = {
    "m3oe_learning_rate": ("Learning rate", "best_learning_rate"),
    "m3oe_shared_experts": ("Shared experts, N", "best_shared_experts"),
}
"""Experiment to what it varies, and to the published best value of that."""
NO_VALUES = "no finished runs of M3oE with other learning rates or numbers of experts in this tier"


def m3oe_sensitivity(results: Results) -> Figure:
    """Overall test AUC of M3oE, one panel a setting, one line a data set."""
    points = {name: varied(results, name) for name in VARIED}
    if all(own.empty for own in points.values()):
        return notice(NO_VALUES)
    figure, axes = grid(1, len(VARIED), 1.6)
    datasets = list(dict.fromkeys(d for own in points.values() for d in own["dataset"]))
    for (name, own), panel in zip(points.items(), axes[0], strict=True):
        label, metric = VARIED[name]
        panel.set_title(label)
        if own.empty:
            not_there(panel, why_empty(results, results.expected(name)))
            panel.set_yticks([])
            continue
        best = published(metric, ["dataset"]).set_index("dataset")["published"]
        for i, dataset in enumerate(datasets):
            _line(panel, own[own["dataset"] == dataset], dataset, i, best)
        values = sorted(own["value"].unique())
        if name == "m3oe_learning_rate":
            # limits of its own also for a single value, which spans none
            panel.set_xlim(values[0] / 1.5, values[-1] * 1.5)
            log_ticks(panel, values, [_power(value) for value in values])
            panel.tick_params(axis="x", labelsize=6)
        else:
            panel.set_xticks(values)
        panel.yaxis.set_major_locator(MaxNLocator(5))
    legend(figure, axes.flat, 2)
    text = (
        "M3oE, released protocol: mean ± standard deviation over seeds (dots: each seed). Dotted: "
        "the paper's best value on that data."
    )
    outer_labels(figure, "Overall test AUC", below(results, results.expected(*VARIED), "", text))
    return figure


def varied(results: Results, experiment: str) -> pd.DataFrame:
    """Overall AUC of an experiment's finished runs, and the value of what it varies."""
    made = results.made(experiment)
    runs = by_run(results, made)
    by_path = {run.path.as_posix(): run for run in made}
    runs["value"] = pd.Series(
        [_value(by_path[path], experiment) for path in runs["run"]], runs.index, dtype="float64"
    )
    return runs.dropna(subset=[OVERALL])


def _value(run: Run, experiment: str) -> float:
    if experiment == "m3oe_learning_rate":
        return run.settings.training.learning_rate
    return run.settings.multi_model.m3oe.shared_experts


def _line(
    panel: Axes, points: pd.DataFrame, dataset: str, i: int, best: "pd.Series[float]"
) -> None:
    if points.empty:
        return
    color = PALETTE[i % len(PALETTE)]
    by_value = points.groupby("value")[OVERALL]
    mean = by_value.mean()
    panel.errorbar(
        mean.index,
        mean,
        by_value.std(),
        color=color,
        marker=MARKERS[i % len(MARKERS)],
        capsize=2,
        elinewidth=0.8,
        label=dataset,
    )
    dots(panel, points["value"], points[OVERALL], color, len(mean))
    source = points["source"].iloc[0]
    if source in best:
        panel.axvline(best[source], color=color, linestyle=":", linewidth=1)


def _power(value: float) -> str:
    """A rate in few characters: 3e-4."""
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"
