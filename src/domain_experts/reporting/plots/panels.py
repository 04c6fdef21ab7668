"""What the figures have in common: panels, legends, captions, dots and means."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from domain_experts.registry import BACKBONES, NO_BACKBONE
from domain_experts.reporting.collect import PRESENT, Results
from domain_experts.reporting.style import HEIGHT, WIDTH
from domain_experts.reporting.summary import paired_gain
from domain_experts.runs import Run

SOME_MISSING = "some runs missing"
LEGEND = 0.4
"""Height of a legend and its margins, inches."""
LINE = 0.125
"""Height of a line of a caption, inches."""
CHARACTERS = 56
"""Width of a caption."""


def default_runs(results: Results, experiment: str, *arms: str) -> list[Run]:
    """Expected runs with a backbone and the default settings, of some arms or of all."""
    runs = results.expected(experiment)
    own = [run for run in runs if run.spec.backbone and not run.variant]
    return [run for run in own if not arms or run.arm in arms]


def by_task(results: Results, run: Run) -> list[tuple[str, dict[str, Any]]]:
    """Test metrics of a run by data set, which is named with its task if it has several."""
    test: dict[str, dict[str, Any]] = results.metrics[run]["test"]
    if len(test) == 1:
        return [(run.dataset, metrics) for metrics in test.values()]
    return [(f"{run.dataset}, {task}", metrics) for task, metrics in sorted(test.items())]


def measured(results: Results, runs: Iterable[Run]) -> pd.DataFrame:
    """Test metrics of finished runs that have a WAUC; columns as of `Results.of`."""
    return _named(results.frame(runs)).dropna(subset=["wauc"])


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """A data set of several tasks is named with each of them."""
    several = frame.groupby("dataset")["task"].transform("nunique") > 1
    name = frame["dataset"].where(~several, frame["dataset"] + ", " + frame["task"])
    return frame.assign(dataset=name).reset_index(drop=True)


def gains(results: Results, runs: Iterable[Run]) -> pd.DataFrame:
    """WAUC x 1000 less that of base with the same seed and split, one row a run.

    `error` is DeLong's standard error of the difference, NaN if it is not known. An arm without a
    backbone is compared with base of each.
    """
    frame = results.frame(run for run in runs if not run.variant)
    base = frame[frame["arm"] == "base"]
    keys = ["dataset", "task", "backbone", "arm", "seed", "split_seed"]
    compared = pd.DataFrame(results.comparisons, columns=[*keys, "against", "wauc_standard_error"])
    errors = compared[compared["against"] == "base"].astype({"wauc_standard_error": float})
    parts = []
    for backbone in base["backbone"].unique():
        own = frame[frame["backbone"].isin([backbone, NO_BACKBONE])].assign(backbone=backbone)
        own["gain"] = 1000 * paired_gain(own, base, [])
        parts.append(own[own["arm"] != "base"].merge(errors, "left", keys))
    if not parts:
        return pd.DataFrame(columns=[*keys, "gain", "error"])
    points = pd.concat(parts)
    points["error"] = 1000 * points["wauc_standard_error"]
    return _named(points[[*keys, "gain", "error"]]).dropna(subset=["gain"])


def mean_and_interval(points: pd.DataFrame) -> tuple[float, float]:
    """Mean gain over seeds, and half the 95 % interval of one seed (0 where it is not known)."""
    return points["gain"].mean(), 1.96 * np.sqrt((points["error"].fillna(0) ** 2).mean())


def groups(points: pd.DataFrame, *keys: str) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """The points by some columns of names, in order of appearance."""
    found = points.groupby(list(keys), sort=False)
    return [(tuple(map(str, key)), own) for key, own in found]


def in_order(runs: Iterable[Run]) -> tuple[list[str], list[str]]:
    """Data sets and backbones, in the order of the tables."""
    runs = list(runs)
    datasets = dict.fromkeys(run.dataset for run in runs)
    used = {run.backbone for run in runs}
    return list(datasets), [backbone for backbone in BACKBONES if backbone in used]


def grid(
    rows: int, columns: int, heights: float | Sequence[float], **shared: Any
) -> tuple[Figure, npt.NDArray[Any]]:
    """A figure of small panels, no higher than a page, and their axes (rows, columns)."""
    heights = [heights] * rows if isinstance(heights, float) else list(heights)
    height = min(sum(heights) + LEGEND, HEIGHT)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights, **shared)
    return figure, axes


def heads(axes: npt.NDArray[Any], rows: Iterable[str], columns: Iterable[str]) -> None:
    """Name the rows and columns of a grid of panels."""
    for panel, name in zip(axes[:, 0], rows, strict=True):
        panel.set_ylabel(name)
    for panel, name in zip(axes[0], columns, strict=True):
        panel.set_title(name)
    axes[0, 0].figure.align_ylabels(axes[:, 0])


def legend(figure: Figure, axes: Iterable[Axes], columns: int) -> None:
    """One legend above all panels; a panel may lack some of the labels."""
    entries = [panel.get_legend_handles_labels() for panel in axes]
    by_label = {
        label: handle
        for handles, labels in entries
        for handle, label in zip(handles, labels, strict=True)
    }
    figure.legend(by_label.values(), by_label, loc="outside upper center", ncols=columns)


def caption(figure: Figure, text: str) -> None:
    """Label of the x axes and caption, below all panels: the figure grows by its lines.

    Up to the height of a page, that is: the panels keep theirs.
    """
    figure.supxlabel(text)
    own = LINE * (text.count("\n") + 1)
    figure.set_figheight(min(figure.get_figheight() + own, HEIGHT))


def outer_labels(figure: Figure, y: str, x: str) -> None:
    """Label the y axes at the middle of the panels; label and caption of the x axes go below."""
    caption(figure, x)
    label = figure.supylabel(y)
    # the middle of the figure, its default, may lie beside a long caption
    figure.draw_without_rendering()
    boxes = [panel.get_position() for panel in figure.axes]
    label.set_y((min(box.y0 for box in boxes) + max(box.y1 for box in boxes)) / 2)


def dots(panel: Axes, x: npt.ArrayLike, y: npt.ArrayLike, color: str, means: int = 0) -> None:
    """One small dot a seed, over the means and their bars; none if each mean is of one seed."""
    if np.size(y) > means:
        panel.plot(x, y, "o", mfc="w", mec=color, ms=2, mew=0.5, zorder=3)


def zero(panel: Axes, axis: str = "y") -> None:
    """The line of no difference."""
    line = panel.axhline if axis == "y" else panel.axvline
    line(0, color="0.4", linewidth=0.6)


def log_ticks(panel: Axes, values: Iterable[float], labels: Iterable[str]) -> None:
    """Logarithmic x axis with ticks at the given values alone."""
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(list(values)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticklabels(list(labels))


def short(rows: float) -> str:
    """A number of rows in few characters."""
    return f"{rows / 1000:.3g}k" if rows >= 1000 else f"{rows:g}"


def not_there(panel: Axes, text: str) -> None:
    """A panel that only says why it is empty."""
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, labelbottom=False)
    panel.grid(visible=False)
    panel.text(0.5, 0.5, text, ha="center", va="center", transform=panel.transAxes)


def below(results: Results, runs: Iterable[Run], label: str, text: str) -> str:
    """An axis label with a caption: what is shown, the seeds, and which of `runs` are missing."""
    runs = list(runs)
    seeds = sorted({run.seed for run in runs if run in results.metrics})
    text += f" Seed{'s' * (len(seeds) > 1)} {', '.join(str(seed) for seed in seeds)}."
    reasons: dict[str, list[str]] = {}
    for dataset in dict.fromkeys(run.dataset for run in runs):
        found = {results.status(run) for run in runs if run.dataset == dataset}
        if found != {PRESENT}:
            why = SOME_MISSING if PRESENT in found else found.pop()
            reasons.setdefault(why, []).append(dataset)
    text += "".join(f" {', '.join(names)}: {why}." for why, names in reasons.items())
    stale = sum(results.stale(run) for run in runs)
    if stale:
        text += (
            f" Stale (made by other code, settings, data or torch): {stale} of {len(runs)} runs."
        )
    # a percent sign stays with its number
    filled = textwrap.fill(text.replace(" %", "\N{NO-BREAK SPACE}%"), CHARACTERS)
    return f"{label}\n{filled}".lstrip("\n")


def why_empty(results: Results, runs: Iterable[Run]) -> str:
    """Why none of the runs has results."""
    return ", ".join(sorted({results.status(run) for run in runs})) or "no runs in this tier"


def notice(text: str) -> Figure:
    """A figure that only says why it is empty."""
    figure = Figure(figsize=(WIDTH, 1))
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    return figure
