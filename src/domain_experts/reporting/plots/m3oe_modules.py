"""Figure 3 of M3oE: t-SNE of what its experts and modules give on some test rows."""

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from domain_experts.registry import ARMS
from domain_experts.reporting.collect import Results
from domain_experts.reporting.plots.panels import below, grid, notice, outer_labels
from domain_experts.reporting.style import PALETTE

PANELS = {"domain": "Domain module", "task": "Task module", "all": "All modules"}
LABELS = {"S": "shared", "D": "domain", "T": "task", "fused": "fused"}
NO_VIEWS = "no finished run of M3oE whose outputs were kept in this tier"


def m3oe_modules(results: Results) -> Figure:
    """One row a data set and arm, one column a panel of the paper's figure."""
    points = results.projections
    shown = list(points.groupby(["dataset", "arm"], sort=False))
    if not shown:
        return notice(NO_VIEWS)
    figure, axes = grid(len(shown), len(PANELS), 1.4)
    # room for the legend below each panel
    figure.set_layout_engine("constrained", hspace=0.1, h_pad=0.16)
    for i, ((dataset, arm), own) in enumerate(shown):
        for (panel, title), ax in zip(PANELS.items(), axes[i], strict=True):
            _scatter(ax, own[own["panel"] == panel])
            if i == 0:
                ax.set_title(title)
        axes[i, 0].set_ylabel(f"{dataset}\n{ARMS[str(arm)].label}")
    domains = points.drop_duplicates("dataset")
    of_data = zip(domains["dataset"], domains["domain"] + 1, strict=True)
    text = (
        "t-SNE of the outputs of M3oE's experts (F: domain, G: task) and modules (shared, domain, "
        "task) and of what the towers see, for the first task on test rows of one domain "
        f"({', '.join(f'{name}: D{d}' for name, d in of_data)}); each panel is projected by "
        "itself, so that only nearness within it counts."
    )
    runs = [run for run in results.metrics if run.path.as_posix() in set(points["run"])]
    outer_labels(figure, "", below(results, runs, "", text))
    return figure


def _scatter(panel: Axes, points: pd.DataFrame) -> None:
    by_part = points.groupby("part", sort=False)
    for color, (part, own) in zip(cycle(PALETTE), by_part, strict=False):
        label = LABELS.get(str(part), f"${part}}}$".replace("_", "_{"))
        panel.plot(own["x"], own["y"], ".", color=color, markersize=1.5, label=label)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)
    own_legend = panel.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=2,
        fontsize=6,
        markerscale=3,
        handletextpad=-0.3,
        columnspacing=0.3,
        labelspacing=0.2,
        borderpad=0.2,
    )
    # it may be wider than its panel, which then would shrink
    own_legend.set_in_layout(False)
