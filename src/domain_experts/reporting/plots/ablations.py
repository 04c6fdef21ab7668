"""What single settings of adapters and gate change."""

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from domain_experts.registry import ARMS
from domain_experts.reporting.collect import Results
from domain_experts.reporting.plots.panels import (
    below,
    dots,
    grid,
    groups,
    measured,
    notice,
    outer_labels,
    zero,
)
from domain_experts.reporting.style import MARKERS, arm_color
from domain_experts.reporting.summary import paired_gain
from domain_experts.runs import DEFAULT_VARIANT

ABLATIONS = {"rank": "Rank", "adapted_layers": "Adapted layers", "gates": "Gate"}
NO_VARIANTS = "no finished runs of a variant and of the default in this tier"


def ablations(results: Results) -> Figure:
    """WAUC of variants less that of the default: one panel an ablation."""
    changes = {name: variants(results, name) for name in ABLATIONS}
    changes = {name: points for name, points in changes.items() if not points.empty}
    if not changes:
        return notice(NO_VARIANTS)
    together = pd.concat(changes.values())
    markers = dict(zip(dict.fromkeys(together["dataset"]), MARKERS, strict=False))
    figure, axes = grid(len(changes), 1, 1.1)
    for (name, points), panel in zip(changes.items(), axes[:, 0], strict=True):
        _panel(panel, points, markers)
        panel.set_ylabel(ABLATIONS[name])
    figure.align_ylabels(axes[:, 0])
    arms = [arm for arm in ARMS if arm in set(together["arm"])]
    handles = [
        Line2D([], [], color=arm_color(arm), linewidth=3, label=ARMS[arm].label) for arm in arms
    ]
    handles += [
        Line2D([], [], color="0.3", marker=marker, linestyle="none", label=dataset)
        for dataset, marker in markers.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    text = (
        "WAUC less that of the default settings, paired by seed: mean (dots: each seed). Rank is "
        "layer width / alpha; layers count from 0."
    )
    outer_labels(
        figure, "Change in test WAUC × 1000", below(results, results.expected(*ABLATIONS), "", text)
    )
    return figure


def variants(results: Results, experiment: str) -> pd.DataFrame:
    """WAUC x 1000 of an experiment's variants less that of the default, one row a run.

    The default counts whatever experiment it belongs to.
    """
    runs = measured(results, results.made(experiment))
    default = measured(results, [run for run in results.metrics if not run.variant])
    runs["difference"] = 1000 * paired_gain(runs, default, ["arm"])
    runs = runs[runs["variant"] != DEFAULT_VARIANT]
    return runs.dropna(subset=["difference"])


def _panel(panel: Axes, points: pd.DataFrame, markers: dict[str, str]) -> None:
    zero(panel)
    names = list(dict.fromkeys(points["variant"]))
    series = groups(points, "dataset", "arm")
    for i, ((dataset, arm), own) in enumerate(series):
        color = arm_color(arm)
        shift = 0.7 * ((i + 0.5) / len(series) - 0.5)
        mean = own.groupby("variant", sort=False)["difference"].mean()
        x = [names.index(name) + shift for name in mean.index]
        panel.plot(x, mean, marker=markers[dataset], color=color, linestyle="none")
        x = [names.index(name) + shift for name in own["variant"]]
        dots(panel, x, own["difference"], color, len(mean))
    panel.set_xticks(range(len(names)), [_wrapped(name) for name in names])
    panel.set_xlim(-0.5, len(names) - 0.5)
    panel.tick_params(axis="x", length=0)
    panel.yaxis.set_major_locator(MaxNLocator(4))


def _wrapped(variant: str) -> str:
    """A variant's name and value, one below the other."""
    name, _, value = variant.partition("=")
    return f"{textwrap.fill(name.replace('-', ' '), 11)}\n{value}"
