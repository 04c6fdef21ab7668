"""All tables, from the runs' result files alone."""

from collections.abc import Iterable

import pandas as pd

from domain_experts import layout
from domain_experts.files import write_json
from domain_experts.reporting.ablation_tables import (
    adapted_layers,
    arithmetic,
    experts_per_domain,
    gates,
    rank,
)
from domain_experts.reporting.collect import Results, collect
from domain_experts.reporting.control_tables import controls, oracle
from domain_experts.reporting.dataset_tables import cost, datasets
from domain_experts.reporting.diversity_table import diversity
from domain_experts.reporting.m3oe.dataset_table import m3oe_datasets
from domain_experts.reporting.m3oe.main_tables import m3oe, m3oe_released
from domain_experts.reporting.m3oe.order_table import m3oe_row_order
from domain_experts.reporting.m3oe.variant_tables import m3oe_ablations, m3oe_automl
from domain_experts.reporting.main_tables import headline_metrics, main_table, overview
from domain_experts.reporting.new_domain_table import new_domain
from domain_experts.reporting.render import write_csv, write_table
from domain_experts.reporting.sharing import planted_sharing
from domain_experts.reporting.switch_table import switches
from domain_experts.runs import Run
from domain_experts.study import Study

MAKERS = (
    overview,
    main_table,
    controls,
    oracle,
    switches,
    gates,
    experts_per_domain,
    rank,
    adapted_layers,
    arithmetic,
    diversity,
    new_domain,
    planted_sharing,
    m3oe,
    m3oe_released,
    m3oe_ablations,
    m3oe_automl,
    m3oe_row_order,
    m3oe_datasets,
    cost,
    datasets,
)


def write_tables(study: Study) -> None:
    """Write results/<tier>/tables: each table as CSV, Markdown, LaTeX, HTML; metrics and curves.

    Raises:
        UserError: a result file is missing or damaged.
    """
    results = collect(study)
    folder = layout.results(study.tier) / "tables"
    for make in MAKERS:
        write_table(folder, make(results))
    default = [run for run in results.metrics if not run.variant]
    write_csv(folder / "curves.csv", curves(results, default))
    write_json(folder / "metrics.json", headline_metrics(results))


def curves(results: Results, runs: Iterable[Run]) -> pd.DataFrame:
    """Learning curves of `runs` with default settings, one row a run, phase, lane and epoch."""
    rows = [
        {"dataset": run.dataset, "backbone": run.backbone, "arm": run.arm, "seed": run.seed} | point
        for run in runs
        for point in results.metrics[run]["curve"]
    ]
    columns = ["dataset", "backbone", "arm", "seed", "phase", "lane", "epoch"]
    return pd.DataFrame(rows, columns=[*columns, "train_loss", "validation_auc", "best"])
