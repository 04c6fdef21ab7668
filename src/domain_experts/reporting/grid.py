"""Panels in rows on a page of a two-column paper, and what every kind of figure draws alike.

A figure is as wide as a column or as a page, and is printed at that size.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from domain_experts.reporting.columns import STALE_MARK
from domain_experts.reporting.style import COLUMN, FONT, HEIGHT, MARKERS, PAGE, PALETTE

NOISE = 0.001
"""Differences of AUC below this are drawn small: every axis spans as much both ways."""
LINE, LETTER = 1.45 * FONT / 72, 0.6 * FONT / 72
"""Height of a line of text and width of a letter, inches."""
WRAP = 28
"""Letters of a row's label in one line."""
ENDS = 0.7
"""Inches that panels leave on a page for a legend and the name of an axis."""
Look = dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """A figure, and in words what it leaves out."""

    figure: Figure
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """Panels in rows, as many as fit a page."""

    figure: Figure
    axes: list[Axes]
    names: list[str]
    titles: dict[str, str]
    columns: int
    left_out: tuple[str, ...]

    @classmethod
    def of(
        cls,
        heights: Mapping[Any, float],
        columns: int,
        head: float,
        width: float,
        apart: float = 0.1,
        beside: float = 0.1,
    ) -> "Grid":
        """Panels of these heights, inches, at most `columns` in a row.

        Args:
            heights: name of a panel -> its height.
            columns: panels in a row, if they fit a page.
            head: what titles and ticks take of each row.
            width: the least of a panel.
            apart: what stands to the left of each panel.
            beside: what stands to the left of each row.
        """
        names = list(heights)
        columns = min(columns, len(names), max(int((PAGE - beside) / (width + apart)), 1))
        rows = [names[i : i + columns] for i in range(0, len(names), columns)]
        total = COLUMN if columns * (width + apart) + beside <= COLUMN else PAGE
        letters = int(((total - beside) / columns - apart) / LETTER)
        titles = {name: wrapped(name, letters) for name in names}
        extra = [max(titles[name].count("\n") for name in row) * LINE for row in rows]
        tall = [
            head + more + max(heights[name] for name in row)
            for row, more in zip(rows, extra, strict=True)
        ]
        shown = max(int((np.cumsum(tall) <= HEIGHT - ENDS).sum()), 1)
        size = total, min(sum(tall[:shown]), HEIGHT - ENDS)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(shown, columns, squeeze=False, height_ratios=tall[:shown]).ravel()
        kept, rest = names[: shown * columns], names[shown * columns :]
        for ax in axes[len(kept) :]:
            ax.remove()
        of = ", ".join(dict.fromkeys(name.split(",")[0] for name in rest))
        text = f"No room for {len(rest)} more panels, of {of}"
        return cls(figure, list(axes[: len(kept)]), kept, titles, columns, (text,) if rest else ())

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
            x_label(self.figure, x)
        if y and len(self.axes) <= self.columns:
            # beside the panels; that of a figure is beside the middle of panels and legend
            self.axes[0].set_ylabel(y)
        elif y:
            self.figure.supylabel(y)
        return Drawing(self.figure, (*left_out, *self.left_out))

    def legend(self, entries: Mapping[str, Look], data: pd.DataFrame | None = None) -> None:
        """One legend of what is drawn, above all panels; none of one thing alone."""
        if data is not None:
            there = set(data.loc[data["panel"].isin(self.names), "hue"])
            entries = {name: look for name, look in entries.items() if name in there}
        if len(entries) > 1:
            legend(self.figure, entries)


def x_label(figure: Figure, text: str) -> None:
    """A name for the axes of all panels, below them; the figure grows by it."""
    said = wrapped(text, int(figure.get_figwidth() / LETTER))
    _grow(figure, said.count("\n") + 1)
    figure.supxlabel(said)


def legend(figure: Figure, entries: Mapping[str, Look], place: str = "upper") -> None:
    """A legend above all panels, in as many columns as fit; the figure grows by it."""
    letter = 0.6 * (FONT - 1) / 72
    words = [letter * len(name) + 0.45 for name in entries]

    def width(columns: int) -> float:
        # matplotlib fills columns so
        return sum(float(max(column)) for column in np.array_split(words, columns))

    room = figure.get_figwidth() - 0.25
    fitting = [n for n in range(1, len(words) + 1) if width(n) <= room]
    columns = max(fitting, default=1)
    _grow(figure, math.ceil(len(words) / columns))
    handles = [
        Patch(linewidth=0.3, **look) if "facecolor" in look else Line2D([], [], **look)
        for look in entries.values()
    ]
    look: Look = {"loc": f"outside {place} center", "columnspacing": 1.2, "handlelength": 2.2}
    figure.legend(handles, list(entries), ncols=columns, **look)


def _grow(figure: Figure, lines: int) -> None:
    figure.set_figheight(min(figure.get_figheight() + lines * LINE + 0.1, HEIGHT))


def points(ax: Axes, data: pd.DataFrame, hue: int, axis: str, **look: Any) -> None:
    """Points with bars along an axis; stale ones are hollow."""
    look = look_of(hue) | look
    barred = data[data["low"].notna()]
    bars = [barred[axis] - barred["low"], barred["high"] - barred[axis]]
    error: Look = {f"{axis}err": bars, "ecolor": look["color"], "elinewidth": 1}
    ax.errorbar(barred["x"], barred["y"], fmt="none", **error)
    for stale, own in data.groupby("stale"):
        face = "w" if stale else look["color"]
        ax.plot(own["x"], own["y"], linestyle="", markerfacecolor=face, **look)


def look_of(hue: int) -> Look:
    """Colour and marker of a hue by its number."""
    return {"color": PALETTE[hue % len(PALETTE)], "marker": MARKERS[hue % len(MARKERS)]}


def bands(ax: Axes, rows: Iterable[float], band: Iterable[float]) -> None:
    """Shade around zero, a row each, as far as noise reaches; NaN: not known, not shaded."""
    for row, reach in zip(rows, band, strict=True):
        if not math.isnan(reach):
            ax.barh(row, 2 * reach, 1.0, -reach, color="0.82", linewidth=0, zorder=0.5)


def signed(value: float, _: int) -> str:
    """A difference as the label of a tick."""
    return "0" if abs(value) < NOISE / 1000 else f"{value:+.4g}".replace("-", "−")


def unique(column: "pd.Series[Any]") -> list[Any]:
    """The values as they appear, each once."""
    return list(dict.fromkeys(column))


def wrapped(text: str, width: int = WRAP) -> str:
    """Text in lines."""
    return "\n".join(wrap(text, width, break_on_hyphens=False, break_long_words=False))
