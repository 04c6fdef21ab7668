"""What the order of the rows, and so the test rows, does to the AUC of each model."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from domain_experts.reporting.collect import Results
from domain_experts.reporting.m3oe.cells import (
    OVERALL,
    PUBLISHED_KEYS,
    ROW_ORDER,
    by_run,
    model_names,
    with_published,
)
from domain_experts.reporting.m3oe.order_table import order_of
from domain_experts.reporting.plots.panels import below, caption, dots, grid, legend, notice
from domain_experts.reporting.style import MARKERS, PALETTE
from domain_experts.reporting.summary import over_seeds
from domain_experts.runs import DEFAULT_VARIANT

NO_ORDERS = "no finished runs of the study of row orders in this tier"


def m3oe_row_order(results: Results) -> Figure:
    """Overall AUC by order of the rows and model; dotted: published."""
    runs = by_run(results, results.expected(*ROW_ORDER))
    runs = runs[runs["variant"] == DEFAULT_VARIANT]
    names = model_names(results)
    pairs = zip(runs["backbone"], runs["arm"], strict=True)
    runs = runs.assign(model=[names[pair] for pair in pairs])
    if runs[OVERALL].isna().all():
        return notice(NO_ORDERS)
    models = list(dict.fromkeys(runs["model"]))
    by_source = {str(source): own for source, own in runs.groupby("source", sort=False)}
    heights = [0.48 * own["dataset"].nunique() + 0.45 for own in by_source.values()]
    figure, axes = grid(len(by_source), 1, heights)
    for (source, own), panel in zip(by_source.items(), axes[:, 0], strict=True):
        _panel(panel, own, models)
        datasets = list(dict.fromkeys(own["dataset"]))
        panel.set_yticks(
            range(len(datasets)),
            [_label(results, dataset, own) for dataset in datasets],
        )
        panel.set_title(source)
    legend(figure, axes.flat, 3)
    text = (
        "The last tenth of the rows in each order is the test. Mean ± standard deviation over "
        "seeds (dots: each seed). Seen: share of the test users that have training rows. Dotted: "
        "the published values, in the models' colours."
    )
    expected = results.expected(*ROW_ORDER)
    caption(figure, below(results, expected, "Overall test AUC", text))
    return figure


def _label(results: Results, dataset: str, runs: pd.DataFrame) -> str:
    """The order of a data set's rows, and how many of its test users are known."""
    seen = runs.loc[runs["dataset"] == dataset, "seen_users"].mean()
    name = order_of(results.study, dataset).replace(", ", ",\n")
    return name if pd.isna(seen) else f"{name}\n({100 * seen:.0f} % seen)"


def _panel(panel: Axes, runs: pd.DataFrame, models: list[str]) -> None:
    """One row an order; an order without results says why."""
    datasets = list(dict.fromkeys(runs["dataset"]))
    keys = [*PUBLISHED_KEYS, "model"]
    known = with_published(over_seeds(runs, keys, [OVERALL]))
    lines = known.set_index("model")[f"published_{OVERALL}"].dropna()
    for i, model in enumerate(models):
        color = PALETTE[i % len(PALETTE)]
        own = runs[runs["model"] == model]
        shift = 0.13 * (i - (len(models) - 1) / 2)
        auc = own.dropna(subset=[OVERALL]).groupby("dataset", sort=False)[OVERALL]
        mean = auc.mean()
        panel.errorbar(
            mean,
            [datasets.index(str(name)) + shift for name in mean.index],
            xerr=auc.std(),
            color=color,
            marker=MARKERS[i % len(MARKERS)],
            linestyle="none",
            capsize=2,
            elinewidth=0.8,
            label=model,
        )
        rows = own.dropna(subset=[OVERALL])
        places = [datasets.index(name) + shift for name in rows["dataset"]]
        dots(panel, rows[OVERALL], places, color, len(mean))
        if model in lines:
            panel.axvline(lines[model], color=color, linestyle=":", linewidth=1)
    middle = runs[OVERALL].median()
    for y, dataset in enumerate(datasets):
        own = runs[runs["dataset"] == dataset]
        if own[OVERALL].isna().all():
            why = ", ".join(dict.fromkeys(own["status"]))
            panel.text(middle, y, why, ha="center", va="center", color="0.4")
    panel.set_ylim(len(datasets) - 0.5, -0.5)
    panel.grid(axis="x")
    panel.grid(visible=False, axis="y")
    panel.xaxis.set_major_locator(MaxNLocator(5))
