"""What the released code does to the method, switch by switch."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.collect import Results
from domain_experts.reporting.plots.panels import (
    below,
    by_task,
    caption,
    dots,
    grid,
    groups,
    notice,
    zero,
)
from domain_experts.reporting.style import arm_color
from domain_experts.runs import Run

SIDES = {
    "described": "Method as described,\nswitch as released",
    "released": "Code as released,\nswitch as described",
}
FAMILIES = {
    arm: next(name for name, other in ARMS.items() if other.protocol == spec.counterpart)
    for arm, spec in ARMS.items()
    if spec.counterpart and spec.protocol == "described"
}
"""Arm as described -> the same as released."""
SPLIT = "split_seed"
ALL, ALL_BUT_SPLIT = "all at once", "all but the split"
ALIKE = "*"
"""Marks a switch that both sides set alike."""
NO_FLIPS = "no finished runs of an arm with and without a flipped switch in this tier"


def switches(results: Results) -> Figure:
    """WAUC less that without the flip: one row a switch, one panel a family and side."""
    effects = flips(results)
    if effects.empty:
        return notice(NO_FLIPS)
    by_panel = groups(effects, "dataset", "backbone", "family")
    heights = [0.12 * own["switch"].nunique() + 0.1 for _, own in by_panel]
    figure, axes = grid(len(by_panel), 2, heights, sharex="row", sharey="row")
    several = len({(dataset, backbone) for (dataset, backbone, _), _ in by_panel}) > 1
    for ((dataset, backbone, family), own), pair in zip(by_panel, axes, strict=True):
        names = sorted(dict.fromkeys(own["switch"]), key=lambda name: name.endswith(ALIKE))
        for side, panel in zip(SIDES, pair, strict=True):
            _bars(panel, own[own["side"] == side], names, arm_color(family))
        pair[0].set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        pair[0].set_ylim(len(names) - 0.4, -0.6)
        # in the one sequence that the released code has
        label = ARMS["moe_mlora" if family == "moe_mlora_sequence" else family].label
        where = f"{dataset}\n{BACKBONES[backbone].label}\n" if several else ""
        pair[0].set_ylabel(where + label)
    for panel, title in zip(axes[0], SIDES.values(), strict=True):
        panel.set_title(title)
    figure.align_ylabels(axes[:, 0])
    (dataset, backbone, _), _ = by_panel[0]
    text = (
        ("" if several else f"{dataset}, {BACKBONES[backbone].label}. ")
        + "Each switch flipped alone, less nothing flipped: mean over seeds (dots: each seed). "
        "Dashed: all flipped at once, the whole gap between described and released. Hollow: "
        "other test rows than without the flip, so not paired."
    )
    if effects["switch"].str.endswith(ALIKE).any():
        text += f" {ALIKE}: described and released agree; set otherwise in both."
    caption(
        figure, below(results, results.expected("switches"), "Change in test WAUC × 1000", text)
    )
    return figure


def flips(results: Results) -> pd.DataFrame:
    """What flipping changes, one row a data set, backbone, family, side, switch and seed.

    `family` is the described arm and `side` where the switch is flipped. `difference` is WAUC
    x 1000 with the flip less without; `paired` says that both have the same test rows. An arm with
    all switches flipped is its counterpart; with all but the split, its counterpart on its split.
    """
    cells: dict[tuple[str, str, int], dict[tuple[str, str], Run]] = {}
    for run in results.made("switches"):
        switch = _switch(results, run)
        cell = cells.setdefault((run.dataset, run.backbone, run.seed), {})
        cell[run.arm, switch] = run
    rows: list[dict[str, Any]] = []
    for family, released in FAMILIES.items():
        sides = {"described": (family, released), "released": (released, family)}
        for cell in cells.values():
            for side, (own, other) in sides.items():
                if (own, "") not in cell:
                    continue
                for switch, run in _flipped(cell, own, other).items():
                    about = {"family": family, "side": side, "switch": switch}
                    rows += _differences(results, run, cell[own, ""], about)
    return pd.DataFrame(rows)


def _switch(results: Results, run: Run) -> str:
    """The flipped switch; marked if its value is not that of the counterpart. Empty if none is."""
    if not run.variant:
        return ""
    ((key, value),) = run.variant
    switch = key.removeprefix("protocol.")
    there = results.study.params.protocols[run.spec.counterpart or "described"]
    return switch if getattr(there, switch) == value else switch + ALIKE


def _flipped(cell: dict[tuple[str, str], Run], own: str, other: str) -> dict[str, Run]:
    """What is flipped -> the run, all switches first."""
    whole = {ALL: (other, ""), ALL_BUT_SPLIT: (other, SPLIT)}
    single = {switch: (arm, switch) for arm, switch in cell if arm == own and switch}
    return {name: cell[key] for name, key in (whole | single).items() if key in cell}


def _differences(
    results: Results, run: Run, without: Run, about: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """WAUC of a run less that of the one without the flip, one row a task."""
    pairs = zip(by_task(results, run), by_task(results, without), strict=True)
    for (dataset, there), (_, here) in pairs:
        if there["wauc"] is not None and here["wauc"] is not None:
            yield about | {
                "dataset": dataset,
                "backbone": run.backbone,
                "seed": run.seed,
                "difference": 1000 * (there["wauc"] - here["wauc"]),
                "paired": run.split_seed == without.split_seed,
            }


def _bars(panel: Axes, effects: pd.DataFrame, names: list[str], color: str) -> None:
    """One bar a switch, hollow if its runs have other test rows."""
    zero(panel, "x")
    for (name,), own in groups(effects, "switch"):
        hollow = not own["paired"].all()
        panel.barh(
            names.index(name),
            own["difference"].mean(),
            0.6,
            facecolor="w" if hollow else color,
            edgecolor=color,
            linewidth=0.8,
        )
    dots(panel, effects["difference"], [names.index(n) for n in effects["switch"]], "0.2")
    whole = effects.loc[effects["switch"] == ALL, "difference"]
    if len(whole):
        panel.axvline(whole.mean(), color="0.4", linewidth=0.8, linestyle="--")
    # below the line, one switch at a time
    together = sum(name in (ALL, ALL_BUT_SPLIT) for name in names)
    panel.axhline(together - 0.5, color="0.6", linewidth=0.5)
    panel.grid(visible=False, axis="y")
    panel.grid(visible=True, axis="x")
    panel.tick_params(axis="y", length=0)
    panel.xaxis.set_major_locator(MaxNLocator(3, symmetric=True))
