"""The kinds of figures: functions of a tidy frame, whose columns have the names of what they are.

`panel`, `hue`, `x`, `y` say where a row is drawn, `low` and `high` (NaN: not known) how far its bar
reaches, `stale` whether it is drawn hollow or its panel's title is marked. Panels and hues go in
the order in which they appear. What would not fit a page is left out, and told.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from domain_experts.reporting.grid import (
    LETTER,
    LINE,
    NOISE,
    Drawing,
    Grid,
    Look,
    bands,
    look_of,
    points,
    signed,
    unique,
    wrapped,
)
from domain_experts.reporting.style import COLUMN, DASHES, PAGE

ALIKE = 0.6
"""Share of all rows that panels have on average, from which on each has a place for all."""
MOST_ROWS, MOST_TICKS = 48, 10
"""Rows of a panel of a forest; labels beside a heat map, and markers on a line."""


def forest(data: pd.DataFrame, label: str) -> Drawing:
    """Differences x with intervals, a row y each, zero marked; rows go by `place`.

    `band` is how far noise reaches both ways; it is shaded.
    """
    left_out: list[str] = []
    for name, own in data.groupby("panel", sort=False):
        known = own["x"].abs().groupby(own["y"], sort=False).max()
        if (spare := len(known) - MOST_ROWS) > 0:
            few = known.nsmallest(spare).index
            data = data[(data["panel"] != name) | ~data["y"].isin(few)]
            left_out.append(f"{name}: the {spare} rows with the smallest differences left out")
    found = {name: set(own["y"]) for name, own in data.groupby("panel", sort=False)}
    every = unique(data.sort_values("place", kind="stable")["y"])
    alike = sum(map(len, found.values())) >= ALIKE * len(found) * len(every)
    rows = {name: [row for row in every if alike or row in own] for name, own in found.items()}
    hues = unique(data["hue"])
    step = LINE * max(1.25, 0.55 * len(hues))
    heights = {
        name: 0.2 + sum(max(step, LINE * (wrapped(row).count("\n") + 1)) for row in own)
        for name, own in rows.items()
    }
    beside = LETTER * max(len(line) for row in every for line in wrapped(row).split("\n"))
    apart = {"apart": 0.15, "beside": beside} if alike else {"apart": beside}
    grid = Grid.of(heights, 3 if alike else 2, 0.5, 1.2, **apart)
    spans = {name: _span(data[data["panel"] == name]) for name in grid.names}
    widths = [high - low for low, high in spans.values()]
    shared = max(widths) < 4 * min(widths)
    for i, (name, ax, own) in enumerate(grid.panels(data, hollow=True)):
        ax.axvline(0, color="0.4", linewidth=0.8)
        band = own.groupby("y")["band"].max()  # of the fewest seeds
        bands(ax, map(rows[name].index, band.index), band)
        for k, hue in enumerate(hues):
            chosen = own[own["hue"] == hue]
            places = np.array([rows[name].index(row) for row in chosen["y"]])
            points(ax, chosen.assign(y=places + 0.64 * ((k + 0.5) / len(hues) - 0.5)), k, "x")
        ax.set_yticks(range(len(rows[name])), [wrapped(row) for row in rows[name]])
        ax.set_ylim(len(rows[name]) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0, labelleft=not alike or i % grid.columns == 0)
        ax.grid(visible=False, axis="y")
        lows, highs = zip(*(spans.values() if shared else [spans[name]]), strict=True)
        ax.set_xlim(min(lows), max(highs))
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(signed))
    left_out += [] if shared else ["Axes differ from panel to panel"]
    grid.legend({hue: look_of(k) | {"linestyle": ""} for k, hue in enumerate(hues)}, data)
    return grid.drawing(label, "", left_out)


def lines(
    data: pd.DataFrame,
    label: str,
    y_label: str,
    columns: int = 3,
    marks: Mapping[str, tuple[float, str]] | None = None,
) -> Drawing:
    """Values y against numbers x; a hue whose x is NaN is a level, drawn across.

    `marks` has for a panel an x that is marked, and why. The axis of x is logarithmic if a few
    values span more than a decade; a line of many values has a band in place of bars.
    """
    marks = marks or {}
    names = unique(data["panel"])
    apart, beside = 0.45, 0.2
    grid = Grid.of(dict.fromkeys(names, 1.0), columns, 0.5, 1.05, apart, beside)
    each = 0.9 * ((grid.figure.get_figwidth() - beside) / grid.columns - apart)
    hues = unique(data["hue"])
    many = data.groupby(["panel", "hue"])["x"].nunique().max() > MOST_TICKS
    entries: dict[str, Look] = {}
    for name, ax, own in grid.panels(data, hollow=not many):
        for k, hue in enumerate(hues):
            chosen = own[own["hue"] == hue].sort_values("x")
            look: Look = {"color": look_of(k)["color"], "linestyle": DASHES[k % len(DASHES)]}
            if chosen.empty:
                continue
            if chosen["x"].isna().all():
                entries[hue] = look | {"linestyle": ":"}
                ax.axhline(chosen["y"].mean(), **entries[hue])
                continue
            ax.plot(chosen["x"], chosen["y"], **look)
            entries[hue] = look if many else look | look_of(k)
            if many:
                band = chosen["x"], chosen["low"], chosen["high"]
                ax.fill_between(*band, color=look["color"], alpha=0.15, linewidth=0)
            else:
                points(ax, chosen, k, "y")
        if name in marks:
            at, why = marks[name]
            entries[why] = {"color": "0.3", "linewidth": 0.8, "linestyle": "--"}
            ax.axvline(at, **entries[why])
        _number_axis(ax, sorted(own["x"].dropna().unique()), many, each)
        ends = own[["y", "low", "high"]].to_numpy(dtype=float)
        low, high = np.nanmin(ends), np.nanmax(ends)
        room = max(0.06 * (high - low), NOISE - (high - low) / 2)
        ax.set_ylim(low - room, high + room)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.ticklabel_format(axis="y", useOffset=False)
    grid.legend(entries)
    return grid.drawing(label, y_label)


def heat_map(
    data: pd.DataFrame,
    label: str,
    norm: Normalize,
    colors: str,
    axes: tuple[str, str],
    columns: int = 4,
) -> Drawing:
    """Cells x, y of `value`, one colour bar for all; their sign in those that are `marked`."""
    import seaborn

    panels = {name: unique(own["y"]) for name, own in data.groupby("panel", sort=False)}
    alike = len({tuple(rows) for rows in panels.values()}) == 1
    heights = {name: max(LINE * min(len(rows), MOST_TICKS), 0.6) for name, rows in panels.items()}
    words = LETTER * max(map(len, data["y"]))
    beside = words + 0.9 if alike else 0.9
    columns = min(columns, len(heights))
    each = (PAGE - beside) / columns - (0.1 if alike else words)
    grid = Grid.of(heights, columns, 0.4, each, 0.1 if alike else words, beside)
    for i, (_, ax, own) in enumerate(grid.panels(data)):
        rows, heads = unique(own["y"]), unique(own["x"])
        wide = own.pivot(index="y", columns="x", values="value").reindex(rows, columns=heads)
        seaborn.heatmap(wide, ax=ax, cmap=colors, norm=norm, cbar=False)
        ax.set(xlabel="", ylabel="")
        _signs(ax, own[own["marked"]], rows, heads, norm)
        ax.grid(visible=False)
        ax.spines[:].set_visible(True)
        ax.tick_params(length=0, labelleft=not alike or i % grid.columns == 0)
        every = math.ceil(len(rows) / MOST_TICKS)
        ax.set_yticks([i + 0.5 for i in range(0, len(rows), every)], rows[::every], rotation=0)
        every = math.ceil(len(heads) * (0.1 + LETTER * max(map(len, heads))) / each)
        ax.set_xticks([i + 0.5 for i in range(0, len(heads), every)], heads[::every], rotation=0)
    extend = "both" if norm(0) else "max"
    scale = ScalarMappable(norm, colors)
    grid.figure.colorbar(scale, ax=grid.axes, label=label, extend=extend, aspect=40, pad=0.02)
    return grid.drawing(*axes)


def _signs(
    ax: Axes, cells: pd.DataFrame, rows: list[str], heads: list[str], norm: Normalize
) -> None:
    """The sign of a cell's value, which its colour does not tell in print without colours."""
    signs = zip(cells["x"], cells["y"], cells["value"], strict=True)
    for x, y, value in signs:
        # a cell's middle is half a cell from its edge
        at = [heads.index(x) + 0.5], [rows.index(y) + 0.5]
        far = abs(norm(value) - 0.5) > 0.3
        look: Look = {"color": "w" if far else "k", "markersize": 3, "markeredgewidth": 0.8}
        ax.plot(*at, "+" if value > 0 else "_", **look)


def scatter(data: pd.DataFrame, columns: int) -> Drawing:
    """Points of a projection, whose axes mean nothing."""
    grid = Grid.of(dict.fromkeys(unique(data["panel"]), 1.3), columns, 0.25, 2.0)
    looks = {hue: look_of(k) | {"linestyle": ""} for k, hue in enumerate(unique(data["hue"]))}
    for _, ax, own in grid.panels(data):
        for hue, chosen in own.groupby("hue", sort=False):
            ax.plot(chosen["x"], chosen["y"], markersize=1.5, **looks[str(hue)])
        ax.set_xticks([])
        ax.set_yticks([])
    grid.legend(looks, data)
    return grid.drawing()


def notice(text: str) -> Figure:
    """A small figure that says in words why there is nothing to draw."""
    said = wrapped(text, int(COLUMN / LETTER))
    figure = Figure(figsize=(COLUMN, LINE * (said.count("\n") + 1) + 0.3))
    figure.text(0.5, 0.5, said, ha="center", va="center", color="0.2")
    return figure


def _span(data: pd.DataFrame) -> tuple[float, float]:
    """From the least to the largest, zero and the band of noise included, with room at the ends."""
    values = data[["x", "low", "high"]].to_numpy(dtype=float)
    low, high = min(np.nanmin(values), -NOISE), max(np.nanmax(values), NOISE)
    room = 0.06 * (high - low)
    return low - room, high + room


def _number_axis(ax: Axes, values: list[float], many: bool, width: float) -> None:
    """Ticks at the values of a setting, if they are few; a logarithm where they span a decade.

    A value whose label would meet that of the one before it, on an axis of some inches, has none.
    """
    if many:
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        return
    places = np.array(values)
    if values[0] > 0 and values[-1] > 10 * values[0]:
        ax.set_xscale("log")
        places = np.log(places)
    inches = width * (places - places[0]) / max(float(np.ptp(places)), 1e-9)
    ticks, end = [], -math.inf
    for value, place in zip(values, inches, strict=True):
        half = LETTER * len(f"{value:g}") / 2
        if place - half > end:
            ticks.append(value)
            end = place + half
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
