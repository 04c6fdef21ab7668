"""Gain over the base arm against how many the domains are, how different, and how sparse."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from domain_experts.data.specs import Planted
from domain_experts.registry import ARMS
from domain_experts.reporting.collect import Results
from domain_experts.reporting.plots.panels import (
    below,
    default_runs,
    dots,
    gains,
    legend,
    log_ticks,
    mean_and_interval,
    not_there,
    notice,
    outer_labels,
    short,
    zero,
)
from domain_experts.reporting.style import MARKERS, WIDTH, arm_color
from domain_experts.runs import Run

QUANTITIES = {
    "domains": ("Domains", ("domains", "groups")),
    "strength": ("Strength of\nown affinity", ("strength",)),
    "rows": ("Rows", ("rows",)),
}
"""What varies in generated data: its axis, and the keys that vary with it."""
REAL_ARMS = ("base", "mlora", "moe_mlora")
NO_SUCH = "no finished runs"
NO_GAINS = "no finished runs of Base and another arm in this tier"


def diversity(results: Results) -> Figure:
    """WAUC gain over base: generated data where one quantity varies at a time, and real data."""
    points = gains(results, results.made("diversity"))
    real = gains(results, [run for run in _on_real(results) if run in results.metrics])
    if points.empty and real.empty:
        return notice(NO_GAINS)
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axes = figure.subplot_mosaic([[*QUANTITIES], ["real"] * 3])
    first = axes["domains"]
    for name, (label, _) in QUANTITIES.items():
        panel = axes[name]
        panel.set_xlabel(label)
        if panel is not first:
            panel.sharey(first)
            panel.tick_params(labelleft=False)
        _quantity(panel, varied(results, points, name), name)
    if points.empty:
        first.set_yticks([])
    _by_data_set(results, axes["real"], real)
    legend(figure, axes.values(), 2)
    text = (
        "Above: generated data; below: real data, with the number of domains. Means over seeds "
        "(dots: each seed); bars: 95 % paired DeLong interval of one seed."
    )
    outer_labels(
        figure,
        "Gain in test WAUC over base × 1000",
        below(results, [*results.expected("diversity"), *_on_real(results)], "", text),
    )
    return figure


def varied(results: Results, points: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The points of generated data sets that differ in nothing but a quantity; it is column `x`.

    Empty if no two data sets are alike otherwise.
    """
    _, keys = QUANTITIES[quantity]
    alike: dict[str, dict[str, float]] = {}
    for dataset in dict.fromkeys(points["dataset"]):
        spec = results.study.params.data.datasets[dataset]
        rest = spec.model_dump_json(exclude=set(keys))
        alike.setdefault(rest, {})[dataset] = getattr(spec, quantity)
    most = max(alike.values(), key=len, default={})
    x = points["dataset"].map(most if len(most) > 1 else {})
    return points.assign(x=x).dropna(subset=["x"])


def _on_real(results: Results) -> list[Run]:
    """Expected runs of the main experiment on real data, with the backbones of the generated."""
    experiments = results.study.params.experiments
    backbones = experiments["diversity"].backbones if "diversity" in experiments else ()
    sources = results.study.params.data.datasets
    return [
        run
        for run in default_runs(results, "main", *REAL_ARMS)
        if run.backbone in backbones and not isinstance(sources[run.dataset], Planted)
    ]


def _quantity(panel: Axes, points: pd.DataFrame, quantity: str) -> None:
    if points.empty:
        not_there(panel, NO_SUCH)
        return
    zero(panel)
    ticks = sorted(points["x"].unique())
    for arm, own, marker in _by_arm(points):
        _series(panel, own["x"], own, arm, marker, "-")
    if quantity == "strength":
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    else:
        # four labels have room
        step = 1 if len(ticks) <= 4 else 2
        labels = ["" if i % step else short(tick) for i, tick in enumerate(ticks)]
        log_ticks(panel, ticks, labels)
    panel.yaxis.set_major_locator(MaxNLocator(5))


def _by_data_set(results: Results, panel: Axes, points: pd.DataFrame) -> None:
    """Real data sets side by side, by their number of domains."""
    if points.empty:
        not_there(panel, NO_SUCH)
        panel.set_yticks([])
        return
    zero(panel)
    domains = {run.dataset: len(made["domains"]) for run, made in results.metrics.items()}
    number = {name: domains[name.partition(",")[0]] for name in dict.fromkeys(points["dataset"])}
    names = sorted(number, key=lambda name: number[name])
    for i, (arm, own, marker) in enumerate(_by_arm(points)):
        x = own["dataset"].map(names.index) + 0.2 * (i - 0.5)
        _series(panel, x, own, arm, marker, "none")
    panel.set_xticks(
        range(len(names)), [f"{name}: {number[name]}" for name in names], rotation=25, ha="right"
    )
    panel.set_xlim(-0.5, len(names) - 0.5)
    panel.yaxis.set_major_locator(MaxNLocator(5))


def _by_arm(points: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Arms in the order of the tables, their points and a marker."""
    arms = [arm for arm in ARMS if arm in set(points["arm"])]
    for arm, marker in zip(arms, MARKERS, strict=False):
        yield arm, points[points["arm"] == arm], marker


def _series(
    panel: Axes, x: "pd.Series[float]", points: pd.DataFrame, arm: str, marker: str, line: str
) -> None:
    """Means with their intervals, and a dot a seed."""
    color = arm_color(arm)
    means = {at: mean_and_interval(own) for at, own in points.groupby(x)}
    panel.errorbar(
        list(means),
        [mean for mean, _ in means.values()],
        [half for _, half in means.values()],
        color=color,
        marker=marker,
        linestyle=line,
        elinewidth=0.6,
        label=ARMS[arm].label,
    )
    dots(panel, x, points["gain"], color, len(means))
