"""Results as a Markdown table and a figure of the ratios."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure

from benchmarks.peers.base import PEERS
from benchmarks.results import OURS
from domain_experts.files import replacing
from domain_experts.reporting.style import MARKERS, PALETTE, RC, save

PANELS = ("training step", "epoch", "evaluation")
FIGURE = "ratios"
TABLE = "benchmarks.md"
WIDTH = 3.4
"""Of a panel, inches."""
TOLERANCE = 0.003
"""Difference in AUC that the models of two libraries may have."""


def write_report(results: pd.DataFrame, folder: Path) -> None:
    """Write the table, and the figure if there is a ratio to a peer."""
    with replacing(folder / TABLE) as temporary:
        temporary.write_text(markdown(results), encoding="utf-8")
    if len(against_peers(results)):
        with style.context(["default", RC]):
            save(figure(results), folder, FIGURE)


def against_peers(results: pd.DataFrame) -> pd.DataFrame:
    """The measurements of other libraries that the figure shows."""
    shown = results.benchmark.isin(PANELS) & results.contestant.isin(PEERS)
    return results[shown]


def markdown(results: pd.DataFrame) -> str:
    """The summary, then one table a benchmark."""
    lines = ["# Benchmarks", "", *summary(results)]
    for name, own in results.groupby("benchmark", sort=False):
        lines += ["", f"## {name}", "", "| Model | Contestant | Median | Quartiles | Ratio |"]
        lines.append("| :-- | :-- | --: | --: | --: |")
        lines += [_line(row) for _, row in own.iterrows()]
    return "\n".join(lines) + "\n"


def summary(results: pd.DataFrame) -> list[str]:
    """Against the best peer: geometric mean and least of the ratios; models that differ in AUC."""
    lines = []
    peers = against_peers(results)
    shapes = peers.model.str.split(", ").str[-1]
    for (benchmark, shape), own in peers.groupby(["benchmark", shapes], sort=False):
        best = own.groupby("model").ratio.min()
        lines.append(
            f"- {benchmark}, {shape}, {len(best)} models: {np.exp(np.log(best).mean()):.2f} times "
            f"the best other library (geometric mean), {best.min():.2f} times at least "
            f"({str(best.idxmin()).partition(', ')[0]})."
        )
    quality = results[results.benchmark == "quality"]
    for model, own in quality.groupby("model", sort=False):
        auc = own.set_index("contestant").value
        apart = [f"{n} {v:.4f}" for n, v in auc.items() if abs(v - auc[OURS]) > TOLERANCE]
        if apart:
            lines.append(f"- {model}: AUC {auc[OURS]:.4f}, but {', '.join(apart)}.")
    return lines


def figure(results: pd.DataFrame) -> Figure:
    """How many times as fast the package is, by model and library, one panel a benchmark."""
    shown = against_peers(results)
    models = list(dict.fromkeys(shown.model))
    made = Figure(figsize=(2 * WIDTH, 0.8 + 0.16 * len(models)), layout="constrained")
    axes = made.subplots(1, len(PANELS), sharex=True, sharey=True)
    for axis, panel in zip(axes, PANELS, strict=True):
        for number, peer in enumerate(PEERS):
            own = shown[(shown.benchmark == panel) & (shown.contestant == peer)]
            if own.empty:
                continue
            y = [models.index(model) + (number - 1) * 0.2 for model in own.model]
            spread = np.abs(own[["ratio_lower", "ratio_upper"]].T.to_numpy() - own.ratio.to_numpy())
            axis.errorbar(
                own.ratio, y, xerr=spread, fmt=MARKERS[number], color=PALETTE[number], label=peer
            )
        axis.axvline(1, color="0.4", linewidth=0.6)
        axis.set_xscale("log")
        axis.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        axis.minorticks_off()
        axis.set_title(panel)
        axis.set_xlabel("times as fast")
    axes[0].set_yticks(range(len(models)), models)
    axes[0].invert_yaxis()
    made.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(PEERS))
    return made


def _line(row: pd.Series) -> str:
    quartiles = f"{_number(row.lower)} to {_number(row.upper)}"
    ratio = ""
    if not np.isnan(row.ratio):
        ratio = f"{row.ratio:.2f} ({row.ratio_lower:.2f} to {row.ratio_upper:.2f})"
    median = f"{_number(row.value)} {row.unit}"
    return f"| {row.model} | {row.contestant} | {median} | {quartiles} | {ratio} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
