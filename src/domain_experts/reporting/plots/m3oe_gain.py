"""Figure 1 of M3oE: what models of several domains or tasks gain over one model for each."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from seaborn import color_palette

from domain_experts.registry import BACKBONES
from domain_experts.reporting.collect import Results
from domain_experts.reporting.m3oe.cells import (
    MAIN,
    RELEASED,
    by_run,
    cell_names,
    head,
    in_order,
    published_models,
    scope,
)
from domain_experts.reporting.plots.panels import (
    below,
    caption,
    grid,
    not_there,
    notice,
    why_empty,
)
from domain_experts.reporting.render import number
from domain_experts.runs import DEFAULT_VARIANT, Run

MODELS = {
    ("mmoe", "mtl"): "MMoE-MTL",
    ("star_one_layer", "mdl"): "STAR",
    ("m3oe", "mdmt"): "M3oE",
}
"""Backbone and scope to label."""
REFERENCE = ("mlp_norm", "single")
NO_GAINS = f"no finished runs of {BACKBONES[REFERENCE[0]].label} and of a model to compare"
Gains = npt.NDArray[np.float64]


def m3oe_gain(results: Results) -> Figure:
    """Relative AUC gain over MLP, model x domain and task, one panel a protocol and data set."""
    panels = list(relative_gains(results))
    known = [gains.to_numpy() for name, gains, _ in panels if not name.endswith("published")]
    if not any(np.isfinite(values).any() for values in known):
        return notice(NO_GAINS)
    reach = max(np.nanmax(np.abs(own)) for _, own, _ in panels if np.isfinite(own.to_numpy()).any())
    norm = Normalize(-reach, reach)
    figure, axes = grid(len(panels), 1, 0.8)
    image = None
    for (name, gains, runs), panel in zip(panels, axes[:, 0], strict=True):
        panel.set_title(name)
        if gains.isna().to_numpy().all():
            not_there(panel, why_empty(results, set(runs) - set(results.metrics)))
            panel.set_yticks([])
            continue
        image = _heat_map(panel, gains, norm)
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes[:, 0]), aspect=18 * len(panels), pad=0.02)
        bar.outline.set_linewidth(0.6)
    text = (
        "AUC over that of MLP, less 1, in %, of the means over seeds. D: domain, T: task. Clean: "
        "all models on the same test rows. Released: as in the paper, MLP and MMoE-MTL cut each "
        "domain's rows on their own, so their test rows differ. Published: M3oE's Table 2."
    )
    expected = results.expected(*MAIN, *RELEASED)
    wanted = {REFERENCE[0], *(backbone for backbone, _ in MODELS)}
    shown = [run for run in expected if run.backbone in wanted]
    caption(figure, below(results, shown, "", text))
    return figure


def relative_gains(results: Results) -> Iterator[tuple[str, pd.DataFrame, list[Run]]]:
    """Title of a panel, gain in % by model (rows) and cell (columns), and the runs behind it.

    A gain is NaN if a run is missing; the published ones have no runs.
    """
    clean, released = (in_order(results, _shown(results, names)) for names in (MAIN, RELEASED))
    data = results.study.params.data.datasets
    models = published_models()
    models.columns = models.columns.str.removeprefix("published_")
    for source in dict.fromkeys(data[run.dataset].source for run in (*clean, *released)):
        for dataset in dict.fromkeys(run.dataset for run in clean):
            own = [run for run in clean if run.dataset == dataset]
            if data[dataset].source == source:
                yield f"{dataset}, clean", _gains(by_run(results, own)), own
        own = [run for run in released if data[run.dataset].source == source]
        if own:
            yield f"{source}, released", _gains(by_run(results, own)), own
        printed = models[(models["source"] == source) & (models["variant"] == DEFAULT_VARIANT)]
        if len(printed):
            yield f"{source}, published", _gains(printed), []


def _shown(results: Results, experiments: tuple[str, ...]) -> list[Run]:
    """The expected runs of the models shown and of their reference, without variants."""
    wanted = {REFERENCE, *MODELS}
    runs = results.expected(*experiments)
    return [r for r in runs if not r.variant and (r.backbone, scope(r.arm)) in wanted]


def _gains(rows: pd.DataFrame) -> pd.DataFrame:
    cells = cell_names(rows)
    mean = rows.groupby(["backbone", "scope"])[cells].mean()
    wanted = mean.reindex(pd.MultiIndex.from_tuples(list(MODELS)))
    reference = mean.reindex(pd.MultiIndex.from_tuples([REFERENCE])).to_numpy()
    gains = pd.DataFrame(100 * (wanted.to_numpy() / reference - 1), list(MODELS.values()), cells)
    return gains.dropna(axis="columns", how="all")


def _heat_map(panel: Axes, gains: pd.DataFrame, norm: Normalize) -> AxesImage:
    values: Gains = gains.to_numpy()
    image = panel.imshow(values, color_palette("vlag", as_cmap=True), norm, aspect="auto")
    panel.grid(visible=False)
    panel.spines[:].set_visible(True)
    panel.tick_params(length=0)
    panel.set_yticks(range(len(gains)), list(gains.index))
    panel.set_xticks(range(values.shape[1]), [head(str(cell)) for cell in gains.columns])
    for (y, x), gain in np.ndenumerate(values):
        dark = abs(norm(float(gain)) - 0.5) > 0.35
        color = "w" if dark else "k"
        text = number(float(gain), 2, signed=True)
        panel.text(x, y, text, ha="center", va="center_baseline", color=color, fontsize=6.5)
    return image
