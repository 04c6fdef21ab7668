"""M3oE's fusion weights while they are trained, and what ways to train them are worth."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from domain_experts.reporting.collect import Results
from domain_experts.reporting.m3oe.cells import OVERALL, by_run
from domain_experts.reporting.m3oe.variant_tables import AUTOML, FUSION, in_words
from domain_experts.reporting.plots.panels import below, caption, dots, notice
from domain_experts.reporting.style import HEIGHT, PALETTE, WIDTH
from domain_experts.runs import variant_name

EXPERIMENT = "m3oe_automl"
NO_WEIGHTS = "no finished runs of M3oE with fusion weights in this tier"


def m3oe_fusion(results: Results) -> Figure:
    """Fusion weights by epoch, one panel each, and overall AUC, one row a way to train them."""
    weights = fusion(results)
    if weights.empty:
        return notice(NO_WEIGHTS)
    runs = by_run(results, results.expected(EXPERIMENT))
    names = list(dict.fromkeys(runs["variant"]))
    colors = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    datasets = list(dict.fromkeys(weights["dataset"]))
    heights = [2.3, 0.14 * len(names) + 0.5]
    height = min(len(datasets) * sum(heights), HEIGHT)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    parts = figure.subfigures(
        2 * len(datasets), 1, squeeze=False, height_ratios=heights * len(datasets)
    )
    for i, dataset in enumerate(datasets):
        above, under = parts[2 * i, 0], parts[2 * i + 1, 0]
        panels = above.subplots(2, 2, sharex=True)
        own = weights[weights["dataset"] == dataset]
        for (name, label), panel in zip(FUSION.items(), panels.flat, strict=True):
            _curves(panel, own, name, colors)
            panel.set_title(label)
        for panel in panels[1]:
            panel.set_xlabel("Epoch")
        bars = under.subplots()
        _overall(bars, runs[runs["dataset"] == dataset], colors)
        bars.set_xlabel(f"Overall test AUC, {dataset}")
    text = (
        "Above: M3oE's fusion weights by epoch, clean protocol, in the colours of the rows below; "
        "thick: mean over seeds (a stopped run keeps its last value), thin: each seed; fixed ones "
        "are not drawn. Below: "
        "overall test AUC, mean ± standard deviation over seeds (dots: each seed). α weighs "
        "the domain and the task module, β a module's own expert."
    )
    caption(figure, below(results, results.expected(EXPERIMENT), "", text))
    return figure


def fusion(results: Results) -> pd.DataFrame:
    """Fusion weights, one row a finished run and epoch."""
    rows = [
        {"dataset": run.dataset, "variant": variant_name(run.variant), "seed": run.seed}
        | {"epoch": point["epoch"]}
        | point["fusion"]
        for run in results.made(EXPERIMENT)
        for point in results.metrics[run]["curve"]
        if "fusion" in point
    ]
    return pd.DataFrame(rows, columns=["dataset", "variant", "seed", "epoch", *FUSION])


def _curves(panel: Axes, weights: pd.DataFrame, name: str, colors: dict[str, str]) -> None:
    for variant, color in colors.items():
        own = weights[weights["variant"] == variant]
        if own.empty:
            continue
        table = own.pivot_table(name, "epoch", "seed")
        # a line of fixed weights would flatten the others
        if (table == table.iloc[0, 0]).all(axis=None):
            continue
        if table.shape[1] > 1:
            panel.plot(table, color=color, alpha=0.3, linewidth=0.5)
        panel.plot(table.ffill().mean(axis=1), color=color, linewidth=1)
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panel.yaxis.set_major_locator(MaxNLocator(4))


def _overall(panel: Axes, runs: pd.DataFrame, colors: dict[str, str]) -> None:
    """One row a variant; those without results say why."""
    known = runs[OVERALL].dropna()
    for y, (variant, color) in enumerate(colors.items()):
        own = runs[runs["variant"] == variant]
        auc = own[OVERALL].dropna()
        if auc.empty:
            middle = known.median()
            why = ", ".join(dict.fromkeys(own["status"]))
            panel.text(middle, y, why, va="center", ha="center", color="0.4")
            continue
        panel.errorbar(
            auc.mean(), y, xerr=auc.std(), color=color, marker="o", capsize=2, elinewidth=0.8
        )
        dots(panel, auc, [y] * len(auc), color, 1)
    panel.set_yticks(range(len(colors)), [in_words(variant, AUTOML) for variant in colors])
    panel.set_ylim(len(colors) - 0.4, -0.6)
    panel.grid(axis="x")
    panel.grid(visible=False, axis="y")
    panel.xaxis.set_major_locator(MaxNLocator(5))
