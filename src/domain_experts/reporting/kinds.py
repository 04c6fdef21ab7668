"""The kinds of figures: functions of a tidy frame, whose columns have the names of what they are.

`panel`, `hue`, `x`, `y` say where a row is drawn, `low` and `high` (NaN: not known) how far its bar
reaches, `stale` whether it is drawn hollow or its panel's title is marked. Panels and hues go in
the order in which they appear. What would not fit a page is left out, and told.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from domain_experts.reporting.columns import STALE_MARK
from domain_experts.reporting.style import DASHES, FONT, HEIGHT, MARKERS, PALETTE

NOISE = 0.001
"""Differences of AUC below this are noise: every axis spans as much both ways."""
LINE, LETTER = 1.45 * FONT / 72, 0.6 * FONT / 72
"""Height of a line of text and width of a letter, inches."""
WRAP = 30
"""Letters of a row's label in one line."""
ALIKE = 0.6
"""Share of all rows that panels have on average, from which on each has a place for all."""
MOST_ROWS, MOST_TICKS = 48, 10
"""Rows of a panel of a forest; labels beside a heat map, and markers on a line."""
Look = dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """A figure, and in words what it leaves out."""

    figure: Figure
    left_out: tuple[str, ...] = ()


def forest(data: pd.DataFrame, label: str) -> Drawing:
    """Differences x with intervals, a row y each, zero marked; rows go by `place`."""
    left_out: list[str] = []
    for name, own in data.groupby("panel", sort=False):
        known = own["x"].abs().groupby(own["y"], sort=False).max()
        if (spare := len(known) - MOST_ROWS) > 0:
            few = known.nsmallest(spare).index
            data = data[(data["panel"] != name) | ~data["y"].isin(few)]
            left_out.append(f"{name}: the {spare} rows with the smallest differences left out")
    found = {name: set(own["y"]) for name, own in data.groupby("panel", sort=False)}
    every = _unique(data.sort_values("place", kind="stable")["y"])
    alike = sum(map(len, found.values())) >= ALIKE * len(found) * len(every)
    rows = {name: [row for row in every if alike or row in own] for name, own in found.items()}
    hues = _unique(data["hue"])
    step = LINE * max(1.25, 0.55 * len(hues))
    heights = {
        name: 0.2 + sum(max(step, LINE * (_wrapped(row).count("\n") + 1)) for row in own)
        for name, own in rows.items()
    }
    columns = min(len(rows), 3 if alike else 2)
    grid = _Grid.of(heights, columns, 0.55, 2.1, 2.0 if alike else 2.0 * columns)
    spans = {name: _span(data[data["panel"] == name]) for name in grid.names}
    widths = [high - low for low, high in spans.values()]
    shared = max(widths) < 4 * min(widths)
    for i, (name, ax, own) in enumerate(grid.panels(data, hollow=True)):
        ax.axvline(0, color="0.4", linewidth=0.8)
        for k, hue in enumerate(hues):
            chosen = own[own["hue"] == hue]
            places = np.array([rows[name].index(row) for row in chosen["y"]])
            _points(ax, chosen.assign(y=places + 0.64 * ((k + 0.5) / len(hues) - 0.5)), k, "x")
        ax.set_yticks(range(len(rows[name])), [_wrapped(row) for row in rows[name]])
        ax.set_ylim(len(rows[name]) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0, labelleft=not alike or i % columns == 0)
        ax.grid(visible=False, axis="y")
        lows, highs = zip(*(spans.values() if shared else [spans[name]]), strict=True)
        ax.set_xlim(min(lows), max(highs))
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(_signed))
    left_out += [] if shared else ["Axes differ from panel to panel"]
    grid.legend({hue: _look(k) | {"linestyle": ""} for k, hue in enumerate(hues)}, data)
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
    names = _unique(data["panel"])
    grid = _Grid.of(dict.fromkeys(names, 1.0), min(columns, len(names)), 0.6, 2.2, 0.7)
    hues = _unique(data["hue"])
    many = data.groupby(["panel", "hue"])["x"].nunique().max() > MOST_TICKS
    entries: dict[str, Look] = {}
    for name, ax, own in grid.panels(data, hollow=not many):
        for k, hue in enumerate(hues):
            chosen = own[own["hue"] == hue].sort_values("x")
            look: Look = {"color": _look(k)["color"], "linestyle": DASHES[k % len(DASHES)]}
            if chosen.empty:
                continue
            if chosen["x"].isna().all():
                entries[hue] = look | {"linestyle": ":"}
                ax.axhline(chosen["y"].mean(), **entries[hue])
                continue
            ax.plot(chosen["x"], chosen["y"], **look)
            entries[hue] = look if many else look | _look(k)
            if many:
                band = chosen["x"], chosen["low"], chosen["high"]
                ax.fill_between(*band, color=look["color"], alpha=0.15, linewidth=0)
            else:
                _points(ax, chosen, k, "y")
        if name in marks:
            at, why = marks[name]
            entries[why] = {"color": "0.3", "linewidth": 0.8, "linestyle": "--"}
            ax.axvline(at, **entries[why])
        _number_axis(ax, sorted(own["x"].dropna().unique()), many)
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
    """Cells x, y of `value`, one colour bar for all; a dot in those that are `marked`."""
    import seaborn

    panels = {name: _unique(own["y"]) for name, own in data.groupby("panel", sort=False)}
    alike = len({tuple(rows) for rows in panels.values()}) == 1
    heights = {name: max(LINE * min(len(rows), MOST_TICKS), 0.6) for name, rows in panels.items()}
    columns = min(columns, len(heights))
    words = LETTER * max(map(len, data["y"])) * (1 if alike else columns)
    width = (7.2 - words) / columns
    grid = _Grid.of(heights, columns, 0.45, width, words + 0.9)
    for i, (_, ax, own) in enumerate(grid.panels(data)):
        rows, heads = _unique(own["y"]), _unique(own["x"])
        wide = own.pivot(index="y", columns="x", values="value").reindex(rows, columns=heads)
        seaborn.heatmap(wide, ax=ax, cmap=colors, norm=norm, cbar=False)
        ax.set(xlabel="", ylabel="")
        dots = own[own["marked"]]
        # a cell's middle is half a cell from its edge
        at = (
            [heads.index(x) + 0.5 for x in dots["x"]],
            [rows.index(y) + 0.5 for y in dots["y"]],
        )
        ax.plot(*at, ".", color="k", markersize=3)
        ax.grid(visible=False)
        ax.spines[:].set_visible(True)
        ax.tick_params(length=0, labelleft=not alike or i % columns == 0)
        every = math.ceil(len(rows) / MOST_TICKS)
        ax.set_yticks([i + 0.5 for i in range(0, len(rows), every)], rows[::every], rotation=0)
        every = math.ceil(len(heads) * (0.1 + LETTER * max(map(len, heads))) / width)
        ax.set_xticks([i + 0.5 for i in range(0, len(heads), every)], heads[::every], rotation=0)
    extend = "both" if norm(0) else "max"
    scale = ScalarMappable(norm, colors)
    grid.figure.colorbar(scale, ax=grid.axes, label=label, extend=extend, aspect=40, pad=0.02)
    return grid.drawing(*axes)


def scatter(data: pd.DataFrame, columns: int) -> Drawing:
    """Points of a projection, whose axes mean nothing."""
    grid = _Grid.of(dict.fromkeys(_unique(data["panel"]), 1.2), columns, 0.3, 2.4, 0.2)
    looks = {hue: _look(k) | {"linestyle": ""} for k, hue in enumerate(_unique(data["hue"]))}
    for _, ax, own in grid.panels(data):
        for hue, points in own.groupby("hue", sort=False):
            ax.plot(points["x"], points["y"], markersize=1.5, **looks[str(hue)])
        ax.set_xticks([])
        ax.set_yticks([])
    grid.legend(looks, data)
    return grid.drawing()


def notice(text: str) -> Figure:
    """A small figure that says in words why there is nothing to draw."""
    said = _wrapped(text, 70)
    figure = Figure(figsize=(5.5, LINE * (said.count("\n") + 1) + 0.5))
    figure.text(0.5, 0.5, said, ha="center", va="center", color="0.2")
    return figure


@dataclass(frozen=True)
class _Grid:
    """Panels in rows, as many as fit a page."""

    figure: Figure
    axes: list[Axes]
    names: list[str]
    titles: dict[str, str]
    left_out: tuple[str, ...]

    @classmethod
    def of(
        cls, heights: dict[Any, float], columns: int, head: float, width: float, margin: float
    ) -> "_Grid":
        """Panels of these heights and this width; `head` and `margin` are for what is beside."""
        names = list(heights)
        rows = [names[i : i + columns] for i in range(0, len(names), columns)]
        letters = int(width / LETTER * 0.8)
        titles = {name: _wrapped(name, letters) for name in names}
        extra = [max(titles[name].count("\n") for name in row) * LINE for row in rows]
        tall = [
            head + more + max(heights[name] for name in row)
            for row, more in zip(rows, extra, strict=True)
        ]
        shown = max(int((np.cumsum(tall) <= HEIGHT - 0.8).sum()), 1)
        size = max(5.5, columns * width + margin), min(sum(tall[:shown]) + 0.8, HEIGHT)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(shown, columns, squeeze=False, height_ratios=tall[:shown]).ravel()
        kept, rest = names[: shown * columns], names[shown * columns :]
        for ax in axes[len(kept) :]:
            ax.remove()
        of = ", ".join(dict.fromkeys(name.split(",")[0] for name in rest))
        text = f"No room for {len(rest)} more panels, of {of}"
        return cls(figure, list(axes[: len(kept)]), kept, titles, (text,) if rest else ())

    def panels(
        self, data: pd.DataFrame, hollow: bool = False
    ) -> Iterator[tuple[str, Axes, pd.DataFrame]]:
        """Each panel's name, axes and rows; its title marks stale ones where points do not."""
        for name, ax in zip(self.names, self.axes, strict=True):
            own = data[data["panel"] == name]
            marked = bool(own["stale"].any()) and not hollow
            ax.set_title(self.titles[name] + f" {STALE_MARK}" * marked)
            yield name, ax, own

    def drawing(self, x: str = "", y: str = "", left_out: Iterable[str] = ()) -> Drawing:
        """What was drawn, with names for its axes."""
        if x:
            self.figure.supxlabel(x)
        if y:
            self.figure.supylabel(y)
        return Drawing(self.figure, (*left_out, *self.left_out))

    def legend(self, entries: dict[str, Look], data: pd.DataFrame | None = None) -> None:
        """One legend of what is drawn, above all panels; none of one thing alone."""
        if data is not None:
            there = set(data.loc[data["panel"].isin(self.names), "hue"])
            entries = {name: look for name, look in entries.items() if name in there}
        if len(entries) < 2:
            return
        words = [LETTER * len(name) + 0.55 for name in entries]

        def width(columns: int) -> float:
            tall = math.ceil(len(words) / columns)
            return sum(max(words[i : i + tall]) for i in range(0, len(words), tall))

        fitting = [n for n in range(1, len(words) + 1) if width(n) <= self.figure.get_figwidth()]
        self.figure.legend(
            [Line2D([], [], **look) for look in entries.values()],
            list(entries),
            loc="outside upper center",
            ncols=max(fitting, default=1),
        )


def _points(ax: Axes, data: pd.DataFrame, hue: int, axis: str) -> None:
    """Points with bars along an axis; stale ones are hollow."""
    look = _look(hue)
    barred = data[data["low"].notna()]
    bars = [barred[axis] - barred["low"], barred["high"] - barred[axis]]
    error: Look = {f"{axis}err": bars, "ecolor": look["color"], "elinewidth": 1}
    ax.errorbar(barred["x"], barred["y"], fmt="none", **error)
    for stale, own in data.groupby("stale"):
        face = "w" if stale else look["color"]
        ax.plot(own["x"], own["y"], linestyle="", markerfacecolor=face, **look)


def _look(hue: int) -> Look:
    return {"color": PALETTE[hue % len(PALETTE)], "marker": MARKERS[hue % len(MARKERS)]}


def _span(data: pd.DataFrame) -> tuple[float, float]:
    """From the least to the largest, zero and the band of noise included, with room at the ends."""
    values = data[["x", "low", "high"]].to_numpy(dtype=float)
    low, high = min(np.nanmin(values), -NOISE), max(np.nanmax(values), NOISE)
    room = 0.06 * (high - low)
    return low - room, high + room


def _number_axis(ax: Axes, values: list[float], many: bool) -> None:
    """Ticks at the values of a setting, if they are few; a logarithm where they span a decade."""
    if many:
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        return
    if values[0] > 0 and values[-1] > 10 * values[0]:
        ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _signed(value: float, _: int) -> str:
    return "0" if abs(value) < NOISE / 1000 else f"{value:+.4g}".replace("-", "−")


def _unique(column: "pd.Series[Any]") -> list[Any]:
    return list(dict.fromkeys(column))


def _wrapped(text: str, width: int = WRAP) -> str:
    return "\n".join(wrap(text, width, break_on_hyphens=False, break_long_words=False))
