"""Where a gain over the base arm comes from."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.collect import Results
from domain_experts.reporting.plots.panels import (
    below,
    caption,
    dots,
    gains,
    grid,
    groups,
    mean_and_interval,
    notice,
    zero,
)
from domain_experts.reporting.style import arm_color


def controls(results: Results) -> Figure:
    """WAUC gain over base of every control arm, one panel a data set and backbone."""
    points = gains(results, results.made("controls"))
    if points.empty:
        return notice("no finished runs of Base and a control on the same split in this tier")
    arms = [arm for arm in ARMS if arm in set(points["arm"])]
    by_panel = groups(points, "dataset", "backbone")
    figure, axes = grid(len(by_panel), 1, 0.12 * len(arms) + 0.25, sharex=True)
    several = len({backbone for (_, backbone), _ in by_panel}) > 1
    for ((dataset, backbone), own), panel in zip(by_panel, axes[:, 0], strict=True):
        _panel(panel, own, arms)
        panel.set_title(f"{dataset}, {BACKBONES[backbone].label}" if several else dataset)
    text = (
        ("" if several else f"Backbone: {BACKBONES[by_panel[0][0][1]].label}. ")
        + "Paired by seed: mean over seeds (dots: each seed); bars: 95 % paired DeLong "
        "interval of one seed, if the arm has a backbone."
    )
    caption(
        figure,
        below(results, results.expected("controls"), "Gain in test WAUC over base × 1000", text),
    )
    return figure


def _panel(panel: Axes, points: pd.DataFrame, arms: list[str]) -> None:
    zero(panel, "x")
    for (arm,), own in groups(points, "arm"):
        y, color = arms.index(arm), arm_color(arm)
        mean, error = mean_and_interval(own)
        panel.errorbar(mean, y, xerr=error, marker="o", color=color, elinewidth=0.8)
        dots(panel, own["gain"], [y] * len(own), color, 1)
    panel.set_yticks(range(len(arms)), [ARMS[arm].label for arm in arms])
    panel.set_ylim(len(arms) - 0.5, -0.5)
    panel.grid(visible=False, axis="y")
    panel.grid(visible=True, axis="x")
    panel.tick_params(axis="y", length=0)
    panel.xaxis.set_major_locator(MaxNLocator(5))
