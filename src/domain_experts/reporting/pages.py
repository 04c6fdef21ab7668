"""Kinds of figures that hold a whole study: lines under headings, rows, shares, two axes alike.

Their frames are as those of `kinds`.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from domain_experts.reporting.grid import (
    ENDS,
    LETTER,
    LINE,
    NOISE,
    Drawing,
    Grid,
    Look,
    bands,
    legend,
    look_of,
    points,
    signed,
    unique,
    wrapped,
    x_label,
)
from domain_experts.reporting.style import COLUMN, FONT, HEIGHT, PAGE, SMALL

STEP = 1.3 * SMALL / 72
"""Height of a line of a listing, inches."""
SHORT = 40
"""Lines of a listing up to which it is as wide as a column."""
LINEAR, BROAD = 0.005, 10
"""Differences up to which a listing's axis is linear, if it reaches more times as far."""
WORDS = 1.75
"""Inches for the words beside a listing's lines, ..."""
LETTERS = int(WORDS / (0.55 * SMALL / 72))
"""... and the letters that fit there, ..."""
HEADING = int(1.7 * LETTERS)
"""... and in a heading."""


def listing(data: pd.DataFrame, label: str) -> Drawing:
    """Differences x with intervals and the band of noise, a line each, two columns to a page.

    `group` is a heading; within it `block` and `y` are said where they begin. Groups go in their
    order; those for which there is no room are counted.
    """
    most = int((HEIGHT - ENDS) / STEP)
    lines, left_out = _fitting(_lines(data), 2 * most - 2)
    split = len(lines) if len(lines) <= SHORT else (len(lines) + 1) // 2
    while lines[split - 1].row is None:
        split -= 1
    columns = [part for part in (lines[:split], _continued(lines, split)) if part]
    tall = max(map(len, columns))
    size = COLUMN if len(columns) == 1 else PAGE, tall * STEP + 0.2
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(columns), squeeze=False).ravel()
    shown = data.loc[[line.row for line in lines if line.row is not None]]
    ends = shown[["x", "low", "high"]].to_numpy(dtype=float)
    reach = max(1.1 * float(np.nanmax(np.abs(ends))), 3 * NOISE)
    hues = unique(data["hue"])
    for ax, own in zip(axes, columns, strict=True):
        _listed(ax, own, data, hues, reach)
        ax.set_ylim(tall - 0.4, -0.6)
    known = {hue: look_of(k) | {"linestyle": ""} for k, hue in enumerate(hues) if hue}
    known = {hue: look for hue, look in known.items() if hue in set(shown["hue"])}
    if len(known) > 1:
        legend(figure, known)
    x_label(figure, label)
    told = f"The axis is linear to ±{LINEAR}, and logarithmic beyond"
    return Drawing(figure, (*(told,) * (reach > LINEAR * BROAD), *left_out))


class _Line:
    """A line of a listing: words at its left, words beside its point, and the point's row."""

    def __init__(self, group: str, block: str, left: str, right: str = "", row: int | None = None):
        self.group, self.block, self.left, self.right, self.row = group, block, left, right, row


def _lines(data: pd.DataFrame) -> list[_Line]:
    """Every line; a block's words have one of their own where they would meet the model's."""
    lines: list[_Line] = []
    group = block = said = ""
    for row, own in zip(data.index, data.to_dict("records"), strict=True):
        if own["group"] != group:
            group, block, said = own["group"], "", ""
            lines += [_Line(group, "", "")] * bool(lines)
            lines += [_Line(group, "", text) for text in wrapped(group, HEADING).split("\n")]
        left = ""
        if own["block"] != block:
            left, block, said = own["block"], own["block"], ""
            if len(left) + len(own["y"]) + 2 > LETTERS:
                lines.append(_Line(group, block, left))
                left = ""
        right = "" if own["y"] == said else own["y"]
        said = own["y"]
        lines.append(_Line(group, block, left, right, row))
    return lines


def _fitting(lines: list[_Line], most: int) -> tuple[list[_Line], list[str]]:
    """As many whole blocks as fit, and what is left out, in words."""
    if len(lines) > most:
        end = most
        while (lines[end].group, lines[end].block) == (lines[end - 1].group, lines[end - 1].block):
            end -= 1
        while lines[end - 1].row is None:
            end -= 1
        left_out = [line for line in lines[end:] if line.row is not None]
        rest = pd.Series([line.group.partition(":")[0] for line in left_out])
        counts = rest.value_counts(sort=False)
        told = "; ".join(f"{count} of {group}" for group, count in counts.items())
        return lines[:end], [f"No room for {len(rest)} comparisons: {told}"]
    return lines, []


def _continued(lines: list[_Line], split: int) -> list[_Line]:
    """The lines from one on, with the heading and block that they belong to said again."""
    rest = lines[split:]
    if not rest:
        return []
    first, before = rest[0], lines[split - 1]
    if first.group != before.group:
        return rest[1:]  # the first is blank
    if first.block == before.block:
        rest[0] = _Line(first.group, first.block, first.block, first.right, first.row)
    return [_Line(first.group, "", f"{first.group} (continued)"), *rest]


def _listed(
    ax: Axes, lines: list[_Line], data: pd.DataFrame, hues: list[str], reach: float
) -> None:
    """One column of a listing; the axis ends at `reach` both ways."""
    places = {line.row: place for place, line in enumerate(lines) if line.row is not None}
    own = data.loc[[*places]].assign(y=[*places.values()])
    bands(ax, own["y"], own["band"])
    ax.axvline(0, color="0.4", linewidth=0.6)
    for k, hue in enumerate(hues):
        chosen = own[own["hue"] == hue]
        points(ax, chosen, k, "x", markersize=3)
    left = ax.get_yaxis_transform() + ScaledTranslation(-WORDS, 0, ax.figure.dpi_scale_trans)
    for place, line in enumerate(lines):
        heading = line.block == ""
        weight = "bold" if heading else "normal"
        box = {"facecolor": "w", "edgecolor": "none", "pad": 0.5}
        look: Look = {"va": "center", "fontsize": SMALL, "weight": weight, "bbox": box}
        ax.text(0, place, line.left, transform=left, **look)
        if not heading and line.left and place:
            ax.axhline(place - 0.5, color="0.85", linewidth=0.4)
    ax.set_yticks(range(len(lines)), [line.right for line in lines], fontsize=SMALL)
    ax.tick_params(axis="y", length=0, pad=2)
    ax.tick_params(axis="x", labelsize=SMALL)
    ax.grid(visible=False, axis="y")
    if reach > LINEAR * BROAD:
        ax.set_xscale("symlog", linthresh=LINEAR, linscale=0.9)
        digit = 10 ** math.floor(math.log10(0.8 * reach))
        far = digit * math.floor(0.8 * reach / digit)
        ax.xaxis.set_major_locator(FixedLocator([-far, -LINEAR, 0, LINEAR, far]))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(signed))
    ax.set_xlim(-reach, reach)


def dots(data: pd.DataFrame) -> Drawing:
    """Shares x by row y, a panel a kind of share; `chance` (NaN: none) is marked in its row."""
    rows, hues = unique(data["y"]), unique(data["hue"])
    names = unique(data["panel"])
    beside = LETTER * max(map(len, rows))
    height = 0.9 * LINE * len(rows)
    grid = Grid.of(dict.fromkeys(names, height), len(names), 0.4, 0.9, 0.15, beside)
    entries = {hue: look_of(k) | {"linestyle": ""} for k, hue in enumerate(hues)}
    data = data.assign(y=[rows.index(row) for row in data["y"]])
    for i, (_, ax, own) in enumerate(grid.panels(data, hollow=True)):
        for k, hue in enumerate(hues):
            chosen = own[own["hue"] == hue]
            shift = 0.5 * ((k + 0.5) / len(hues) - 0.5)
            points(ax, chosen.assign(y=chosen["y"] + shift), k, "x", markersize=3.5)
        chance: Look = {"color": "k", "marker": "|", "markersize": 6, "linestyle": ""}
        if (known := own[own["chance"].notna()]).size:
            ax.plot(known["chance"], known["y"], **chance)
            entries["By chance"] = chance
        ax.set_xlim(-0.05, 1.05)
        ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0, labelleft=i == 0)
    grid.legend(entries)
    return grid.drawing()


def shares(data: pd.DataFrame, heads: Sequence[str], looks: Mapping[str, Look]) -> Drawing:
    """A cell for each x and y, divided among the hues by their `value`, which sum to 1.

    Columns go as `heads`; `looks` has the face of each hue, in the order within a cell.
    """
    rows = unique(data["y"])
    step = 1.25 * (FONT - 1) / 72
    head = 0.2 + 0.6 * (FONT - 1) / 72 * max(map(len, heads))
    tall = min(len(rows) * step + head, HEIGHT - ENDS)
    figure = Figure(figsize=(PAGE, tall), layout="constrained")
    ax = figure.subplots()
    order = [*looks]
    data = data.sort_values("hue", key=lambda hue: hue.map(order.index), kind="stable")
    ends = data.groupby(["y", "x"], sort=False)["value"].cumsum()
    for y, x, hue, share, end in zip(
        data["y"], data["x"], data["hue"], data["value"], ends, strict=True
    ):
        corner = heads.index(x) + 0.06 + 0.88 * (end - share), rows.index(y) + 0.1
        ax.add_patch(Rectangle(corner, 0.88 * share, 0.8, linewidth=0.3, **looks[hue]))
    ax.set_xlim(0, len(heads))
    ax.set_ylim(len(rows), 0)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.set_xticks(np.arange(len(heads)) + 0.5, heads, rotation=90)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    legend(figure, looks, "lower")
    return Drawing(figure)


def parity(data: pd.DataFrame, label: str, y_label: str) -> Drawing:
    """Values y against x on axes alike, with the identity as a line."""
    names, hues = unique(data["panel"]), unique(data["hue"])
    grid = Grid.of(dict.fromkeys(names, 1.75), 3, 0.35, 1.5, 0.45, 0.2)
    for _, ax, own in grid.panels(data, hollow=True):
        ends = own[["x", "y", "low", "high"]].to_numpy(dtype=float)
        room = 0.06 * (np.nanmax(ends) - np.nanmin(ends)) + NOISE
        span = np.nanmin(ends) - room, np.nanmax(ends) + room
        ax.plot(span, span, color="0.4", linewidth=0.8)
        for k, hue in enumerate(hues):
            points(ax, own[own["hue"] == hue], k, "y")
        ax.set(xlim=span, ylim=span)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    grid.legend({hue: look_of(k) | {"linestyle": ""} for k, hue in enumerate(hues)}, data)
    return grid.drawing(label, y_label)


def ranking(data: pd.DataFrame, label: str) -> Drawing:
    """Mean ranks x, a row y each, the best first: a critical-difference diagram, turned.

    `critical` is the critical difference of a panel; rows that share a number in `cliques` are
    joined by a bar at the right.
    """
    beside = LETTER * max(map(len, data["y"])) + 0.1
    rows = data.groupby("panel", sort=False).size()
    heights = {name: LINE * (count + 1.5) for name, count in rows.items()}
    grid = Grid.of(heights, 2, 0.4, 1.1, beside)
    for _, ax, own in grid.panels(data, hollow=True):
        count, critical = len(own), own["critical"].iloc[0]
        places = own.assign(y=np.arange(count), low=np.nan, high=np.nan)
        ax.hlines(places["y"], 1, own["x"], color="0.75", linewidth=0.8)
        points(ax, places, 0, "x")
        ax.plot([1, 1 + critical], [-1.1, -1.1], color="k", marker="|", markersize=5, linewidth=1.5)
        ax.text(1 + critical / 2, -1.45, "critical difference", ha="center", fontsize=SMALL)
        joined = own["cliques"].explode().dropna()
        for number in unique(joined):
            rows_of = np.flatnonzero([number in cliques for cliques in own["cliques"]])
            x, ends = count + 0.25 + 0.2 * number, [rows_of[0] - 0.2, rows_of[-1] + 0.2]
            ax.plot([x, x], ends, color="0.2", linewidth=2.5, solid_capstyle="butt")
        ax.set_yticks(range(count), own["y"])
        ax.set_ylim(count - 0.4, -2.1)
        ax.set_xlim(0.8, count + 0.4 + 0.2 * (1 + joined.max() if len(joined) else 0))
        ax.set_xticks(range(1, count + 1))
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
    return grid.drawing(label)
