"""The weights of the gates."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from seaborn import color_palette

from domain_experts.registry import BACKBONES
from domain_experts.reporting.collect import Results
from domain_experts.reporting.convergence import endings
from domain_experts.reporting.plots.panels import (
    below,
    caption,
    default_runs,
    grid,
    heads,
    in_order,
    not_there,
    notice,
)
from domain_experts.results import NOT_RUN
from domain_experts.runs import Run

FEW = 8
"""Domains or experts that can all be named beside a panel."""


def gates(results: Results) -> Figure:
    """Gate weights as a domain x expert heat map; planted groups are framed."""
    expected = default_runs(results, "main", "moe_mlora")
    runs = [run for run in expected if run in results.metrics]
    if not runs:
        return notice("no finished runs of MoE-MLoRA in this tier")
    datasets, backbones = in_order(runs)
    sizes = [
        len(next(results.metrics[run]["domains"] for run in runs if run.dataset == dataset))
        for dataset in datasets
    ]
    heights = [0.08 * max(size, FEW) + 0.75 for size in sizes]
    figure, axes = grid(len(datasets), len(backbones), heights, sharey="row")
    for row, dataset in enumerate(datasets):
        own = {b: [r for r in runs if (r.dataset, r.backbone) == (dataset, b)] for b in backbones}
        weights = {
            backbone: np.mean([results.metrics[run]["gate"] for run in made_of], 0)
            for backbone, made_of in own.items()
            if made_of
        }
        ratio = np.concatenate([gate.ravel() * gate.shape[1] for gate in weights.values()])
        # to double at least, so that a nearly uniform gate looks it
        ends = [0, 1, max(ratio.max(), 2)]
        norm = TwoSlopeNorm(1, ends[0], ends[2])
        for panel, backbone in zip(axes[row], backbones, strict=True):
            if backbone not in weights:
                not_there(panel, NOT_RUN)
                continue
            metrics = results.metrics[own[backbone][0]]
            image = _heat_map(panel, weights[backbone], metrics, norm)
            if weights[backbone].shape[1] * len(backbones) <= FEW:
                _numbers(panel, image, norm)
            panel.set_xlabel(_moved(results, own[backbone]))
        bar = figure.colorbar(image, ax=list(axes[row]), aspect=12 * heights[row], pad=0.02)
        bar.set_ticks(ends, labels=[f"{end:.2g}" for end in ends])
        bar.outline.set_linewidth(0.6)
    heads(axes, datasets, [BACKBONES[backbone].label for backbone in backbones])
    text = (
        "Colour: gate weight × number of experts (1 = uniform); numbers, where there is room: "
        "gate weight; means over seeds. Frames: planted groups. Below each panel: how many left "
        "their starting weights, over all seeds. A gate that did not is as drawn at random; "
        "weight on an expert that did not means no change."
    )
    caption(figure, below(results, expected, "Expert, by the domain it belongs to", text))
    return figure


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
    panel.tick_params(axis="y", labelsize=7 if domains <= 4 else 6)
    every = _every(domains)
    panel.set_yticks(range(0, domains, every), [metrics["domains"][d] for d in rows[::every]])
    every = _every(experts)
    panel.set_xticks(range(0, experts, every), [str(owner[e]) for e in columns[::every]])
    if metrics["planted_groups"]:
        for group in np.unique(groups):
            y, x = (
                np.flatnonzero(groups[rows] == group),
                np.flatnonzero(groups[owner[columns]] == group),
            )
            corner, width, height = (x[0] - 0.5, y[0] - 0.5), len(x), len(y)
            panel.add_patch(Rectangle(corner, width, height, fill=False, linewidth=1.2))
    return image


def _numbers(panel: Axes, image: AxesImage, norm: Normalize) -> None:
    """Print the weights over their colours."""
    ratios = np.asarray(image.get_array())
    for (y, x), ratio in np.ndenumerate(ratios):
        color = "w" if abs(norm(float(ratio)) - 0.5) > 0.3 else "k"
        panel.text(x, y, f"{ratio / ratios.shape[1]:.2f}", ha="center", va="center", color=color)


def _every(number: int) -> int:
    """Step between names, so that they do not overlap."""
    return 1 if number <= FEW else -(-number // 4)


def _moved(results: Results, runs: Iterable[Run]) -> str:
    """How many gates and experts of MoE-MLoRA runs have left their starting weights."""
    ended = endings(results, runs)
    counts = []
    for kind in ("gates", "experts"):
        own = [ending.moved for ending in ended if ending.kind == kind]
        counts.append(f"{kind}: {sum(own)}/{len(own)}")
    return "\n".join(counts)
