"""The kinds of figures: functions of a tidy frame and of the names of its columns.

Panels, rows and hues go in the order in which they appear. A row whose `stale` is true is drawn
hollow, or has its panel's title marked. What would not fit a page is left out, and returned.
"""

import math
from collections.abc import Iterable, Iterator
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
"""Differences of AUC below this are noise: every axis of them spans as much both ways."""
WRAP = 30
"""Characters of a row's label in one line."""
LINE = 1.45 * FONT / 72
"""Height of a line of text, inches."""
ALIKE = 0.6
"""Share of all rows that panels have on average, from which on each has a place for all."""
MOST_ROWS = 48
"""Of a panel of a forest."""
MOST_TICKS = 10
"""Labels beside a heat map."""


@dataclass(frozen=True)
class Drawing:
    """A figure, and in words what it leaves out."""

    figure: Figure
    left_out: tuple[str, ...] = ()


def forest(data: pd.DataFrame, x: str, y: str, hue: str, panel: str, label: str) -> Drawing:
    """Differences with intervals: a row a candidate, zero marked.

    Args:
        data: x (the difference), `low`, `high` (NaN: none is known), `stale`, `place` (of rows).
        x: column of differences.
        y: column of rows.
        hue: column of colours.
        panel: column of panels.
        label: what the differences are, for the axis.
    """
    left_out = []
    for name, own in data.groupby(panel, sort=False):
        known = own.groupby(y, sort=False)[x].agg(lambda values: values.abs().max())
        if len(known) > MOST_ROWS:
            few = known.nsmallest(len(known) - MOST_ROWS).index
            data = data[(data[panel] != name) | ~data[y].isin(few)]
            left_out.append(f"{name}: the {len(few)} rows with the smallest differences")
    found = {name: set(own[y]) for name, own in data.groupby(panel, sort=False)}
    every = _unique(data.sort_values("place", kind="stable")[y])
    alike = sum(map(len, found.values())) >= ALIKE * len(found) * len(every)
    rows = {name: [row for row in every if alike or row in own] for name, own in found.items()}
    hues = _unique(data[hue])
    step = LINE * max(1.25, 0.55 * len(hues))
    lines = {
        name: sum(max(step, LINE * (_wrapped(row).count("\n") + 1)) for row in own) + 0.2
        for name, own in rows.items()
    }
    columns = min(len(rows), 3 if alike else 2)
    grid = _Grid.of(lines, columns, head=0.55, width=2.1, margin=2.0 if alike else 2.0 * columns)
    spans = {name: _span(data[data[panel] == name], x) for name in grid.names}
    widths = [high - low for low, high in spans.values()]
    shared = max(widths) < 4 * min(widths)
    for i, (name, ax) in enumerate(grid.panels()):
        own = data[data[panel] == name]
        ax.axvline(0, color="0.4", linewidth=0.8)
        for k, one in enumerate(hues):
            chosen = own[own[hue] == one]
            places = np.array([rows[name].index(row) for row in chosen[y]], dtype=float)
            places += 0.64 * ((k + 0.5) / len(hues) - 0.5)
            _points(ax, chosen, chosen[x].to_numpy(), places, k, across=True)
        ax.set_yticks(range(len(rows[name])), [_wrapped(row) for row in rows[name]])
        ax.set_ylim(len(rows[name]) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0, labelleft=not alike or i % columns == 0)
        ax.grid(visible=False, axis="y")
        low, high = spans[name]
        if shared:
            low, high = min(a for a, _ in spans.values()), max(b for _, b in spans.values())
        ax.set_xlim(low, high)
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(_signed))
    grid.figure.supxlabel(label)
    grid.legend(
        [
            (one, {"color": PALETTE[k % 11], "marker": MARKERS[k % 10], "linestyle": ""})
            for k, one in enumerate(hues)
            if one in set(data[hue])
        ]
    )
    if not shared:
        left_out.append("Axes differ from panel to panel")
    return Drawing(grid.figure, (*left_out, *grid.left_out))


def lines(
    data: pd.DataFrame,
    x: str,
    y: str,
    hue: str,
    panel: str,
    label: str,
    y_label: str = "",
    marks: dict[str, tuple[float, str]] | None = None,
    columns: int = 3,
) -> Drawing:
    """A value against a number, with its spread; a hue without x is a level, drawn across.

    Args:
        data: x (NaN: a level), y, `low`, `high` (NaN: no spread), `stale`.
        x: column of numbers; their axis is logarithmic if they span more than a decade.
        y: column of values.
        hue: column of colours.
        panel: column of panels.
        label: of the axis of x.
        y_label: of the axis of y.
        marks: panel to an x that is marked, and its name.
        columns: panels side by side.
    """
    marks = marks or {}
    names = _unique(data[panel])
    grid = _Grid.of(dict.fromkeys(names, 1.0), min(columns, len(names)), 0.6, 2.2, 0.7)
    hues = _unique(data[hue])
    entries: dict[str, dict[str, Any]] = {}
    many = data.groupby([panel, hue])[x].nunique().max() > MOST_TICKS
    for name, ax in grid.panels(_stale(data, panel) if many else ()):
        own = data[data[panel] == name]
        for k, one in enumerate(hues):
            chosen = own[own[hue] == one].sort_values(x)
            if chosen.empty:
                continue
            look = {"color": PALETTE[k % 11], "linestyle": DASHES[k % 4]}
            if chosen[x].isna().all():
                ax.axhline(chosen[y].mean(), **look | {"linestyle": (0, (1, 1))})
                entries[one] = look | {"linestyle": (0, (1, 1))}
                continue
            entries[one] = look if many else look | {"marker": MARKERS[k % 10]}
            ax.plot(chosen[x], chosen[y], **look)
            if many:
                ax.fill_between(
                    chosen[x], chosen["low"], chosen["high"], color=look["color"], alpha=0.15, lw=0
                )
            else:
                _points(ax, chosen, chosen[x].to_numpy(), chosen[y].to_numpy(), k, across=False)
        if name in marks:
            at, text = marks[name]
            ax.axvline(at, color="0.3", linewidth=0.8, linestyle="--")
            entries[text] = {"color": "0.3", "linewidth": 0.8, "linestyle": "--"}
        _number_axis(ax, own[x].dropna().unique(), many)
        ends = own[[y, "low", "high"]].to_numpy(dtype=float)
        low, high = np.nanmin(ends), np.nanmax(ends)
        room = max(0.06 * (high - low), (2 * NOISE - (high - low)) / 2)
        ax.set_ylim(low - room, high + room)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.ticklabel_format(axis="y", useOffset=False)
    grid.figure.supxlabel(label)
    grid.figure.supylabel(y_label)
    grid.legend(list(entries.items()), even=len(entries) == 1 and len(hues) > 1)
    return Drawing(grid.figure, grid.left_out)


def heat_map(
    data: pd.DataFrame,
    x: str,
    y: str,
    value: str,
    panel: str,
    label: str,
    norm: Normalize,
    colors: str,
    axes: tuple[str, str],
    columns: int = 4,
) -> Drawing:
    """Values as colours, rows by columns; one scale for all panels.

    Args:
        data: x and y (names), value, `marked` (a dot in the cell), `stale`.
        x: column of columns.
        y: column of rows.
        value: column of values.
        panel: column of panels.
        label: of the colour bar.
        norm: value to colour.
        colors: a colour map.
        axes: what columns and rows are.
        columns: panels side by side.
    """
    panels = {name: _unique(own[y]) for name, own in data.groupby(panel, sort=False)}
    alike = len({tuple(rows) for rows in panels.values()}) == 1
    heights = {name: max(LINE * min(len(rows), MOST_TICKS), 0.6) for name, rows in panels.items()}
    columns = min(columns, len(heights))
    words = 0.075 * max(map(len, data[y])) * (1 if alike else columns)
    width = (7.2 - words) / columns
    grid = _Grid.of(heights, columns, head=0.45, width=width, margin=words + 0.9)
    for i, (name, ax) in enumerate(grid.panels(_stale(data, panel))):
        own = data[data[panel] == name]
        rows, heads = _unique(own[y]), _unique(own[x])
        wide = own.pivot(index=y, columns=x, values=value).reindex(index=rows, columns=heads)
        ax.imshow(wide, colors, norm, aspect="auto", interpolation="nearest")
        dots = own[own["marked"]]
        at = [heads.index(name) for name in dots[x]], [rows.index(name) for name in dots[y]]
        ax.plot(*at, ".", color="k", markersize=3)
        ax.grid(visible=False)
        ax.spines[:].set_visible(True)
        ax.tick_params(length=0)
        every = -(-len(rows) // MOST_TICKS)
        ax.set_yticks(range(0, len(rows), every), rows[::every])
        ax.tick_params(labelleft=not alike or i % columns == 0)
        every = math.ceil(len(heads) * (0.1 + 0.075 * max(map(len, heads))) / width)
        ax.set_xticks(range(0, len(heads), every), heads[::every])
    bar = grid.figure.colorbar(
        ScalarMappable(norm, colors),
        ax=grid.axes,
        label=label,
        extend="both" if norm(0) else "max",
        aspect=40,
        pad=0.02,
    )
    bar.outline.set_linewidth(0.6)
    grid.figure.supxlabel(axes[0])
    grid.figure.supylabel(axes[1])
    return Drawing(grid.figure, grid.left_out)


def scatter(data: pd.DataFrame, x: str, y: str, hue: str, panel: str, columns: int) -> Drawing:
    """Points of a projection, whose axes mean nothing; `stale` besides."""
    grid = _Grid.of(dict.fromkeys(_unique(data[panel]), 1.2), columns, 0.3, 2.4, 0.2)
    hues = _unique(data[hue])
    looks = [{"color": PALETTE[k % 11], "marker": MARKERS[k % 10]} for k in range(len(hues))]
    for name, ax in grid.panels(_stale(data, panel)):
        own = data[data[panel] == name]
        for one, look in zip(hues, looks, strict=True):
            chosen = own[own[hue] == one]
            ax.plot(chosen[x], chosen[y], linestyle="", markersize=1.5, **look)
        ax.set_xticks([])
        ax.set_yticks([])
    there = set(data.loc[data[panel].isin(grid.names), hue])
    found = zip(hues, looks, strict=True)
    grid.legend([(one, look | {"linestyle": ""}) for one, look in found if one in there])
    return Drawing(grid.figure, grid.left_out)


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
        """Panels of these heights; `head` is what each row of them needs besides, in inches."""
        names = list(heights)
        rows = [names[i : i + columns] for i in range(0, len(names), columns)]
        chars = int((width + margin / columns) / 0.085)
        titles = {name: _wrapped(str(name), chars) for name in names}
        tall = [
            head
            + max(heights[name] for name in row)
            + LINE * max(titles[name].count("\n") for name in row)
            for row in rows
        ]
        room = np.cumsum(tall) <= HEIGHT - 0.8
        shown = max(int(room.sum()), 1)
        figure = Figure(
            figsize=(max(5.5, columns * width + margin), min(sum(tall[:shown]) + 0.8, HEIGHT)),
            layout="constrained",
        )
        axes = list(figure.subplots(shown, columns, squeeze=False, height_ratios=tall[:shown]).flat)
        kept, rest = names[: shown * columns], names[shown * columns :]
        for ax in axes[len(kept) :]:
            ax.remove()
        of = ", ".join(dict.fromkeys(str(name).split(",")[0] for name in rest))
        text = f"No room for {len(rest)} more panels, of {of}"
        return cls(figure, axes[: len(kept)], kept, titles, (text,) if rest else ())

    def panels(self, stale: Iterable[Any] = ()) -> Iterator[tuple[Any, Axes]]:
        """Each panel's name and axes, with a title, which marks those of stale runs."""
        for name, ax in zip(self.names, self.axes, strict=True):
            ax.set_title(self.titles[name] + f" {STALE_MARK}" * (name in stale))
            yield name, ax

    def legend(self, entries: list[tuple[str, dict[str, Any]]], even: bool = False) -> None:
        """One legend of what is drawn, above all panels; none of one thing alone."""
        if len(entries) < 2 and not even:
            return
        words = [0.075 * len(name) + 0.55 for name, _ in entries]

        def width(columns: int) -> float:
            tall = -(-len(words) // columns)
            return sum(max(words[i : i + tall]) for i in range(0, len(words), tall))

        room = self.figure.get_figwidth()
        columns = next((n for n in range(len(words), 1, -1) if width(n) <= room), 1)
        self.figure.legend(
            [Line2D([], [], **look) for _, look in entries],
            [name for name, _ in entries],
            loc="outside upper center",
            ncols=columns,
        )


def _points(ax: Axes, data: pd.DataFrame, x: Any, y: Any, hue: int, across: bool) -> None:
    """Points with bars from `low` to `high`; stale ones are hollow."""
    color, centre = PALETTE[hue % 11], x if across else y
    bars = np.abs(np.stack([centre - data["low"], data["high"] - centre]))
    known = np.isfinite(bars).all(axis=0)
    bars = bars[:, known]
    error = {"xerr": bars} if across else {"yerr": bars}
    ax.errorbar(x[known], y[known], **error, fmt="none", ecolor=color, elinewidth=1)
    for stale, own in data.reset_index(drop=True).groupby("stale"):
        ax.plot(
            x[own.index],
            y[own.index],
            MARKERS[hue % 10],
            color=color,
            markerfacecolor="w" if stale else color,
        )


def _span(data: pd.DataFrame, x: str) -> tuple[float, float]:
    """From the least to the largest, zero and the band of noise included, with room at the ends."""
    values = data[[x, "low", "high"]].to_numpy(dtype=float)
    low, high = min(np.nanmin(values), -NOISE), max(np.nanmax(values), NOISE)
    room = 0.06 * (high - low)
    return low - room, high + room


def _number_axis(ax: Axes, values: Any, many: bool) -> None:
    """Ticks at the values of a setting, if they are few; a logarithm where they span a decade."""
    if many:
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        return
    known = sorted(float(value) for value in values)
    if known[0] > 0 and known[-1] > 10 * known[0]:
        ax.set_xscale("log")
        ax.margins(x=0.08)
    ax.xaxis.set_major_locator(FixedLocator(known))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _signed(value: float, _: int) -> str:
    return f"{value:+.4g}".replace("-", "−") if not math.isclose(value, 0, abs_tol=1e-12) else "0"


def _stale(data: pd.DataFrame, panel: str) -> set[Any]:
    return set(data.loc[data["stale"], panel])


def _unique(column: "pd.Series[Any]") -> list[Any]:
    return list(dict.fromkeys(column))


def _wrapped(text: str, width: int = WRAP) -> str:
    return "\n".join(wrap(text, width, break_on_hyphens=False, break_long_words=False))
