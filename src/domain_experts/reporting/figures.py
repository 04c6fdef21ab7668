"""The figures, from the runs' result files alone."""

from collections.abc import Callable

from matplotlib import style
from matplotlib.figure import Figure

from domain_experts import layout
from domain_experts.reporting.collect import Results, collect
from domain_experts.reporting.m3oe.cells import MAIN, RELEASED, ROW_ORDER
from domain_experts.reporting.plots.ablations import ABLATIONS, ablations
from domain_experts.reporting.plots.controls import controls
from domain_experts.reporting.plots.diversity import diversity
from domain_experts.reporting.plots.domains import gain_by_domain
from domain_experts.reporting.plots.experts_per_domain import experts_per_domain
from domain_experts.reporting.plots.gates import gates
from domain_experts.reporting.plots.learning_curves import learning_curves
from domain_experts.reporting.plots.m3oe_fusion import m3oe_fusion
from domain_experts.reporting.plots.m3oe_gain import m3oe_gain
from domain_experts.reporting.plots.m3oe_modules import m3oe_modules
from domain_experts.reporting.plots.m3oe_row_order import m3oe_row_order
from domain_experts.reporting.plots.m3oe_sensitivity import VARIED, m3oe_sensitivity
from domain_experts.reporting.plots.new_domain import new_domain
from domain_experts.reporting.plots.panels import notice, why_empty
from domain_experts.reporting.plots.switches import switches
from domain_experts.reporting.style import RC, save
from domain_experts.study import Study

DRAWN: dict[str, tuple[Callable[[Results], Figure], tuple[str, ...]]] = {
    "gain_by_domain": (gain_by_domain, ("main",)),
    "gates": (gates, ("main",)),
    "learning_curves": (learning_curves, ("main",)),
    "controls": (controls, ("controls",)),
    "switches": (switches, ("switches",)),
    "experts_per_domain": (experts_per_domain, ("experts_per_domain",)),
    "ablations": (ablations, tuple(ABLATIONS)),
    "diversity": (diversity, ("diversity", "main")),
    "new_domain": (new_domain, ("new_domain",)),
    "m3oe_gain": (m3oe_gain, (*MAIN, *RELEASED)),
    "m3oe_sensitivity": (m3oe_sensitivity, tuple(VARIED)),
    "m3oe_fusion": (m3oe_fusion, ("m3oe_automl",)),
    "m3oe_modules": (m3oe_modules, ("m3oe", "m3oe_released")),
    "m3oe_row_order": (m3oe_row_order, ROW_ORDER),
}
"""Figure -> what draws it, and the experiments whose runs it shows."""


def write_figures(study: Study) -> None:
    """Write figures/<tier>: each figure as PDF and PNG.

    Raises:
        UserError: a result file is missing or damaged.
    """
    results = collect(study)
    with style.context(["default", RC]):
        for name in DRAWN:
            save(draw(results, name), layout.figures(study.tier), name)


def draw(results: Results, name: str) -> Figure:
    """One figure, or in words why there is none."""
    plot, experiments = DRAWN[name]
    if results.made(*experiments):
        return plot(results)
    return notice(why_empty(results, results.expected(*experiments)))
