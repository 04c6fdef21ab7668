"""The figures, from the runs' result files alone."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from seaborn import color_palette

from domain_experts import layout
from domain_experts.params import Study
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.collect import ABSENT, Results, collect
from domain_experts.reporting.convergence import endings
from domain_experts.reporting.style import MARKERS, PALETTE, RC, WIDTH, save
from domain_experts.reporting.summary import paired_gain
from domain_experts.reporting.tables import curves
from domain_experts.runs import Run

PHASES = {
    "backbone": "Backbone:\nAUC",
    "experts": "Experts:\nΔAUC × 1000",
    "gate": "Gate:\nΔAUC × 1000",
}


def write_figures(study: Study) -> None:
    """Write figures/<tier>: each figure as PDF and PNG.

    Raises:
        UserError: a result file is missing or damaged.
    """
    results = collect(study)
    figures: dict[str, tuple[str, Callable[[Results], Figure]]] = {
        "gain_by_domain": ("main", gain_by_domain),
        "gates": ("main", gates),
        "learning_curves": ("main", learning_curves),
        "experts_per_domain": ("experts_per_domain", experts_per_domain),
    }
    with style.context(["default", RC]):
        for name, (experiment, draw) in figures.items():
            runs = study.expected.get(experiment, ())
            if any(run in results.metrics for run in runs):
                figure = draw(results)
            else:
                figure = _notice(ABSENT if runs else "no runs in this tier")
            save(figure, layout.figures(study.tier), name)


def gain_by_domain(results: Results) -> Figure:
    """AUC gain over base by domain, against the domain's training rows."""
    runs = _made(results, "main")
    points = _gains(results, runs)
    if points.empty:
        return _notice("no runs of Base and another arm on the same split in this tier")
    datasets, backbones = _panels(runs)
    arms = [arm for arm in ARMS if arm in set(points["arm"])]
    figure, axes = _grid(len(datasets), len(backbones), 1.25, sharex="row", sharey="row")
    for row, dataset in enumerate(datasets):
        for column, backbone in enumerate(backbones):
            panel = axes[row, column]
            shown = points[(points["dataset"] == dataset) & (points["backbone"] == backbone)]
            panel.axhline(0, color="0.4", linewidth=0.6)
            for i, arm in enumerate(arms):
                own = shown[shown["arm"] == arm]
                # side by side, a few percent apart on the logarithmic axis
                shift = 1.05 ** (i - (len(arms) - 1) / 2)
                _gain_series(panel, own, ARMS[arm].label, i, shift)
            _log_rows(panel)
    _heads(axes, datasets, [BACKBONES[backbone].label for backbone in backbones])
    _legend(figure, axes, len(arms))
    figure.supylabel("Test AUC gain over base")
    text = "Mean over seeds (dots: each seed); bars: 95 % paired DeLong interval of one seed."
    figure.supxlabel(_below(results, "main", "Training rows of the domain", text))
    return figure


def gates(results: Results) -> Figure:
    """Gate weights as a domain x expert heat map; planted groups are framed."""
    runs = [run for run in _made(results, "main") if run.arm == "moe_mlora"]
    if not runs:
        return _notice("no runs of MoE-MLoRA in this tier")
    datasets, backbones = _panels(runs)
    sizes = [
        len(next(results.metrics[run]["domains"] for run in runs if run.dataset == dataset))
        for dataset in datasets
    ]
    heights = [max(0.95, 0.12 * size) + 0.6 for size in sizes]
    figure, axes = _grid(len(datasets), len(backbones), heights, sharey="row")
    for row, dataset in enumerate(datasets):
        own = [run for run in runs if run.dataset == dataset]
        weights = {
            backbone: np.mean(
                [results.metrics[r]["gate"] for r in own if r.backbone == backbone], 0
            )
            for backbone in backbones
        }
        experts = next(iter(weights.values())).shape[1]
        ratio = np.concatenate(list(weights.values())) * experts
        # to double at least, so that a nearly uniform gate looks it
        ends = [0, 1, max(ratio.max(), 2)]
        norm = TwoSlopeNorm(1, ends[0], ends[2])
        for column, backbone in enumerate(backbones):
            panel = axes[row, column]
            image = _heat_map(panel, weights[backbone], results.metrics[own[0]], norm)
            panel.set_xlabel(_moved(results, [r for r in own if r.backbone == backbone]))
        bar = figure.colorbar(image, ax=list(axes[row]), aspect=12 * heights[row], pad=0.02)
        bar.set_ticks(ends, labels=[f"{end:.2g}" for end in ends])
        bar.outline.set_linewidth(0.6)
    _heads(axes, datasets, [BACKBONES[backbone].label for backbone in backbones])
    text = (
        "Colour: gate weight × number of experts (1 = uniform); numbers: gate weight; means over "
        "seeds. Frames: planted groups. Below each panel: how many left their starting weights, "
        "over all seeds. A gate that did not is as drawn at random; weight on an expert that did "
        "not means no change."
    )
    figure.supxlabel(_below(results, "main", "Expert, by the domain it belongs to", text))
    return figure


def learning_curves(results: Results) -> Figure:
    """Validation AUC by epoch in the three phases."""
    runs = _made(results, "main")
    datasets, backbones = _panels(runs)
    points = _curves(results, runs)
    phases = [phase for phase in PHASES if phase in set(points["phase"])]
    if not phases:
        return _notice("no runs of Base, Experts or MoE-MLoRA in this tier")
    figure, axes = _grid(len(datasets), len(phases), 1.15)
    for row, dataset in enumerate(datasets):
        for column, phase in enumerate(phases):
            panel = axes[row, column]
            shown = points[(points["dataset"] == dataset) & (points["phase"] == phase)]
            for i, backbone in enumerate(backbones):
                table = shown[shown["backbone"] == backbone].pivot_table(
                    "validation_auc", "epoch", ["seed", "lane"]
                )
                if table.empty:
                    continue
                if phase != "backbone":
                    table = (table - table.iloc[0]) * 1000
                panel.plot(table, color=PALETTE[i], alpha=0.25, linewidth=0.5)
                mean = table.ffill().mean(axis=1)
                label = BACKBONES[backbone].label
                panel.plot(mean, color=PALETTE[i], linestyle=("-", "--", ":")[i % 3], label=label)
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            panel.yaxis.set_major_locator(MaxNLocator(4))
    _heads(axes, datasets, [PHASES[phase] for phase in phases])
    _legend(figure, axes, len(backbones))
    text = (
        "Validation AUC, of experts and gate less its first value; experts on their own domain, "
        "those that the gate uses. Thick: mean (a stopped run keeps its last value); thin: each "
        "seed and expert."
    )
    figure.supxlabel(_below(results, "main", "Epoch", text))
    return figure


def experts_per_domain(results: Results) -> Figure:
    """WAUC gain over one expert per domain, against their number."""
    runs = results.of("experts_per_domain")
    runs = runs[runs["backbone"] != NO_BACKBONE]
    one = runs[runs["experts_per_domain"] == 1]
    runs["gain"] = 1000 * paired_gain(runs, one, ["arm", "others"])
    runs = runs.dropna(subset=["gain"])
    if runs.empty:
        return _notice("no runs with one expert per domain to compare with in this tier")
    labels = runs["dataset"] + ", " + [BACKBONES[name].label for name in runs["backbone"]]
    if len({*runs["arm"]}) > 1:
        labels += ", " + runs["arm"].map({name: arm.label for name, arm in ARMS.items()})
    if len({*runs["others"]}) > 1:
        labels += ", " + runs["others"]
    experts = [
        e
        for e in endings(results, results.study.expected["experts_per_domain"])
        if e.kind == "experts"
    ]
    moved = {(e.run.dataset, e.run.backbone) for e in experts if e.moved}
    still = {(e.run.dataset, e.run.backbone) for e in experts} - moved
    pairs = zip(runs["dataset"], runs["backbone"], strict=True)
    labels += [" (no expert left its start)" if pair in still else "" for pair in pairs]
    groups = list(runs.groupby(labels, sort=False))
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    panel = figure.subplots()
    numbers = sorted(runs["experts_per_domain"].unique())
    panel.axhline(0, color="0.4", linewidth=0.6)
    for i, (label, own) in enumerate(groups):
        shift = 0.12 * (i - (len(groups) - 1) / 2)
        by_number = own.groupby("experts_per_domain")["gain"]
        position = [numbers.index(k) + shift for k in by_number.mean().index]
        panel.errorbar(
            position,
            by_number.mean(),
            by_number.std(),
            color=PALETTE[i % len(PALETTE)],
            marker=MARKERS[i % len(MARKERS)],
            capsize=2,
            elinewidth=0.8,
            label=label,
        )
        # the gain over itself is 0 for every seed
        seeds = own[own["experts_per_domain"] > 1]
        position = [numbers.index(k) + shift for k in seeds["experts_per_domain"]]
        _dots(panel, position, seeds["gain"], PALETTE[i % len(PALETTE)])
    panel.set_xticks(range(len(numbers)), [str(k) for k in numbers])
    panel.set_ylabel("Test WAUC gain × 1000")
    figure.legend(loc="outside upper center", ncols=1)
    text = "Gain over one expert, paired by seed: mean ± standard deviation (dots: each seed)."
    figure.supxlabel(_below(results, "experts_per_domain", "Experts per domain", text))
    return figure


def _gains(results: Results, runs: Iterable[Run]) -> pd.DataFrame:
    """Per domain: gain over base, its standard error, and training rows, one row a seed.

    Empty if no arm was tested on the same rows as base.
    """
    rows = {(r.dataset, r.split_seed): results.metrics[r]["rows"]["train"] for r in runs}
    chosen = {(r.dataset, r.backbone, r.arm, r.seed, r.split_seed) for r in runs}

    def shown(pair: dict[str, Any]) -> bool:
        """Both arms are among the runs: another experiment may have compared more."""
        rest = pair["seed"], pair["split_seed"]
        arms = pair["arm"], pair["against"]
        return pair["against"] == "base" and all(
            (pair["dataset"], pair["backbone"], arm, *rest) in chosen for arm in arms
        )

    frames = [
        pd.DataFrame(
            {
                "dataset": pair["dataset"],
                "backbone": pair["backbone"],
                "arm": pair["arm"],
                "domain": pair["domains"],
                "gain": pair["auc_difference"],
                "error": pair["standard_error"],
                "rows": rows[pair["dataset"], pair["split_seed"]],
            }
        )
        for pair in results.comparisons
        if shown(pair)
    ]
    columns = ["dataset", "backbone", "arm", "domain", "gain", "error", "rows"]
    points = pd.concat(frames) if frames else pd.DataFrame(columns=columns)
    return points.astype({"gain": float, "error": float}).dropna(subset=["gain"])


def _curves(results: Results, runs: Iterable[Run]) -> pd.DataFrame:
    """Validation AUC of `runs` and of those that they start from; experts as far as a gate uses."""
    chosen = dict.fromkeys(r for run in runs for r in (*results.study.upstream(run), run))
    points = curves(results, chosen).dropna(subset=["validation_auc"])
    per_domain = results.study.settings("moe_mlora").adapter.experts_per_domain
    used = {run.dataset: len(results.metrics[run]["domains"]) * per_domain for run in chosen}
    unused = [
        phase == "experts" and int(lane) >= used[dataset]
        for dataset, phase, lane in zip(
            points["dataset"], points["phase"], points["lane"], strict=True
        )
    ]
    return points[~np.array(unused, dtype=bool)]


def _gain_series(panel: Axes, points: pd.DataFrame, label: str, i: int, shift: float) -> None:
    domains = points.assign(variance=points["error"] ** 2).groupby("domain", sort=False)
    mean = domains[["gain", "rows", "variance"]].mean()
    _dots(panel, points["rows"] * shift, points["gain"], PALETTE[i])
    panel.errorbar(
        mean["rows"] * shift,
        mean["gain"],
        1.96 * np.sqrt(mean["variance"]),
        color=PALETTE[i],
        marker=MARKERS[i],
        linestyle="none",
        elinewidth=0.8,
        label=label,
    )


def _dots(panel: Axes, x: npt.ArrayLike, y: npt.ArrayLike, color: str) -> None:
    """One small dot a seed, over the mean and its bar."""
    panel.plot(
        x, y, "o", markerfacecolor="w", markeredgecolor=color, ms=2, markeredgewidth=0.5, zorder=3
    )


def _log_rows(panel: Axes) -> None:
    """Logarithmic axis of rows with few labels, at least two."""
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    panel.set_xlim(low / 1.3, high * 1.3)
    wide = high / low > 20
    panel.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: _short(rows)))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.yaxis.set_major_locator(MaxNLocator(4))


def _short(rows: float) -> str:
    return f"{rows / 1000:g}k" if rows >= 1000 else f"{rows:g}"


def _heat_map(
    panel: Axes, weights: npt.NDArray[Any], metrics: dict[str, Any], norm: Normalize
) -> AxesImage:
    """Draw a gate with domains and experts ordered by planted group, if there are any."""
    domains, experts = weights.shape
    groups = np.array(metrics["planted_groups"] or range(domains))
    rows = np.argsort(groups, kind="stable")
    owner = np.arange(experts) % domains
    columns = np.argsort(groups[owner] * domains + owner, kind="stable")
    image = panel.imshow(
        weights[np.ix_(rows, columns)] * experts,
        color_palette("vlag", as_cmap=True),
        norm,
        aspect="auto",
    )
    panel.grid(visible=False)
    panel.spines[:].set_visible(True)
    panel.tick_params(length=0)
    panel.set_yticks(range(domains), [metrics["domains"][d] for d in rows])
    every = 1 if experts <= 8 else -(-experts // 5)
    panel.set_xticks(range(0, experts, every), [str(owner[e]) for e in columns[::every]])
    if experts <= 4:
        for (y, x), weight in np.ndenumerate(weights[np.ix_(rows, columns)]):
            far = abs(norm(weight * experts) - 0.5) > 0.3
            panel.text(x, y, f"{weight:.2f}", ha="center", va="center", color="w" if far else "k")
    if metrics["planted_groups"]:
        for group in np.unique(groups):
            y, x = (
                np.flatnonzero(groups[rows] == group),
                np.flatnonzero(groups[owner[columns]] == group),
            )
            corner, width, height = (x[0] - 0.5, y[0] - 0.5), len(x), len(y)
            panel.add_patch(Rectangle(corner, width, height, fill=False, linewidth=1.2))
    return image


def _moved(results: Results, runs: Iterable[Run]) -> str:
    """How many gates and experts of MoE-MLoRA runs have left their starting weights."""
    ended = endings(results, runs)
    counts = []
    for kind in ("gates", "experts"):
        own = [ending.moved for ending in ended if ending.kind == kind]
        counts.append(f"{kind}: {sum(own)} of {len(own)}")
    return "\n".join(counts)


def _made(results: Results, experiment: str) -> list[Run]:
    """Runs of an experiment that were made, have a backbone, and the default settings."""
    runs = results.study.expected.get(experiment, ())
    return [run for run in runs if run in results.metrics and run.spec.backbone and not run.variant]


def _panels(runs: Iterable[Run]) -> tuple[list[str], list[str]]:
    """Data sets and backbones, in the order of the tables."""
    datasets = dict.fromkeys(run.dataset for run in runs)
    used = {run.backbone for run in runs}
    return list(datasets), [backbone for backbone in BACKBONES if backbone in used]


def _grid(
    rows: int, columns: int, heights: float | Sequence[float], **shared: Any
) -> tuple[Figure, npt.NDArray[Any]]:
    """A figure of small panels, and their axes (rows, columns)."""
    heights = [heights] * rows if isinstance(heights, float) else list(heights)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights, **shared)
    return figure, axes


def _heads(axes: npt.NDArray[Any], rows: Iterable[str], columns: Iterable[str]) -> None:
    """Name the rows and columns of a grid of panels."""
    for panel, name in zip(axes[:, 0], rows, strict=True):
        panel.set_ylabel(name)
    for panel, name in zip(axes[0], columns, strict=True):
        panel.set_title(name)
    axes[0, 0].figure.align_ylabels(axes[:, 0])


def _legend(figure: Figure, axes: npt.NDArray[Any], columns: int) -> None:
    """One legend above all panels; a panel may lack some of the labels."""
    entries = [panel.get_legend_handles_labels() for panel in axes.flat]
    by_label = {
        label: handle
        for handles, labels in entries
        for handle, label in zip(handles, labels, strict=True)
    }
    figure.legend(by_label.values(), by_label, loc="outside upper center", ncols=columns)


def _below(results: Results, experiment: str, label: str, text: str) -> str:
    """An axis label with a caption line: what is shown, the seeds, and what is missing."""
    runs = results.study.expected[experiment]
    seeds = sorted({run.seed for run in runs})
    text += f" Seeds {', '.join(str(seed) for seed in seeds)}."
    absent = dict.fromkeys(r.dataset for r in runs if r.dataset in results.study.leave_out)
    if absent:
        text += f" {', '.join(absent)}: {ABSENT}."
    return f"{label}\n{textwrap.fill(text, 62)}"


def _notice(text: str) -> Figure:
    """A figure that only says why it is empty."""
    figure = Figure(figsize=(WIDTH, 1))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure
