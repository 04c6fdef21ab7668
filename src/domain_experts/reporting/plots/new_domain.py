"""What a domain costs that comes after training."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from domain_experts.registry import ARMS
from domain_experts.reporting.collect import Results
from domain_experts.reporting.plots.panels import (
    below,
    by_task,
    dots,
    grid,
    legend,
    log_ticks,
    notice,
    outer_labels,
)
from domain_experts.reporting.style import MARKERS, arm_color

START = "mlora_held_out"


def new_domain(results: Results) -> Figure:
    """AUC of the held-out domain against the share of its rows, one panel a data set."""
    points = held_out(results)
    if points.empty:
        return notice("no finished runs of a new domain in this tier")
    datasets = list(dict.fromkeys(points["dataset"]))
    figure, axes = grid(len(datasets), 1, 1.3, sharex=True)
    shares = sorted(points.loc[points["arm"] != START, "share"].unique())
    for dataset, panel in zip(datasets, axes[:, 0], strict=True):
        own = points[points["dataset"] == dataset]
        _panel(panel, own)
        domain, rows = own["domain"].iloc[0], own["rows"].iloc[0]
        panel.set_title(f"{dataset}: {domain}, {rows:,} training rows")
        panel.yaxis.set_major_locator(MaxNLocator(4))
        if shares:
            log_ticks(panel, shares, [f"{100 * share:g} %" for share in shares])
    legend(figure, axes.flat, 2)
    text = "Mean over seeds (dots: each seed)."
    label = "Share of the new domain's training rows"
    outer_labels(
        figure,
        "Test AUC of the new domain",
        below(results, results.expected("new_domain"), label, text),
    )
    return figure


def held_out(results: Results) -> pd.DataFrame:
    """AUC of the domain that was held out, one row a finished run; `rows` are all of its own."""
    rows = []
    for run in results.made("new_domain"):
        domain = run.settings.new_domain.held_out
        metrics = results.metrics[run]
        for dataset, test in by_task(results, run):
            rows.append(
                {
                    "dataset": dataset,
                    "arm": run.arm,
                    "share": run.settings.new_domain.share,
                    "seed": run.seed,
                    "domain": metrics["domains"][domain],
                    "rows": metrics["rows"]["train"][domain],
                    "auc": test["by_domain"]["auc"][domain],
                }
            )
    columns = ["dataset", "arm", "share", "seed", "domain", "rows", "auc"]
    return pd.DataFrame(rows, columns=columns).astype({"auc": float}).dropna(subset=["auc"])


def _panel(panel: Axes, points: pd.DataFrame) -> None:
    arms = [arm for arm in ARMS if arm in set(points["arm"])]
    for arm, marker in zip(arms, MARKERS, strict=False):
        own, color = points[points["arm"] == arm], arm_color(arm)
        if arm == START:
            label = "Untouched start"
            panel.axhline(
                own["auc"].mean(), color="0.3", linestyle="--", linewidth=0.8, label=label
            )
            continue
        mean = own.groupby("share")["auc"].mean()
        panel.plot(mean, color=color, marker=marker, label=ARMS[arm].label)
        dots(panel, own["share"], own["auc"], color, len(mean))
