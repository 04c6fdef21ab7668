"""The main table on the terminal, and where everything else is."""

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.collect import PRESENT
from domain_experts.reporting.render import MISSING, mean_sd, number
from domain_experts.results import ABSENT, NOT_RUN
from domain_experts.runs import DEFAULT_VARIANT

FEW = 2
"""Backbones of a data set that are shown with all their gains."""


def print_headline(tier: str) -> None:
    """Print a tier's main table, what is not in it, and the paths of report, tables, figures.

    Raises:
        UserError: the tables are not made yet.
    """
    folder = layout.results(tier) / "tables"
    try:
        frame = pd.read_csv(folder / "main.csv")
        datasets = pd.read_csv(folder / "datasets.csv")
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} is missing; run `snakemake --config tier={tier} -- tables`"
        ) from None
    console = Console()
    console.print(f"Test WAUC, tier {tier}: mean ± standard deviation over seeds; mean gains")
    present = frame[frame["status"] == PRESENT]
    for dataset, rows in present.groupby("dataset", sort=False):
        backbones = set(rows["backbone"]) - {NO_BACKBONE}
        table = _table if len(backbones) <= FEW else _overview
        console.print(table(str(dataset), rows))
    waiting = (frame["status"] == NOT_RUN).sum()
    if waiting:
        console.print(f"{waiting} of {len(frame)} cells of the main table are {NOT_RUN}.")
    stale = int((present["stale"]).sum())
    if stale:
        console.print(
            f"{stale} of {len(present)} cells are STALE: other code, settings, data or torch made "
            f"them; see `domain-experts status --tier {tier}`."
        )
    absent = datasets.loc[datasets["status"] == ABSENT, "dataset"]
    if len(absent):
        names = ", ".join(absent)
        text = f"{names}\nThese data sets could not be found: tables and figures say '{ABSENT}'."
        console.print(Panel(text, title=f"DATA NOT PRESENT ({len(absent)})", style="bold red"))
    console.print(f"Report:  {layout.results(tier) / 'report.html'}", soft_wrap=True)
    console.print(f"Tables:  {folder}/", soft_wrap=True)
    console.print(f"Figures: {layout.figures(tier)}/", soft_wrap=True)


def _table(dataset: str, rows: pd.DataFrame) -> Table:
    """One data set's part of the main table, 80 columns wide at most."""
    table = Table(
        "Backbone", "Arm", title=dataset, title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for heading in ("WAUC", "vs base", "vs MLoRA"):
        table.add_column(heading, justify="right", no_wrap=True)
    labels = {name: backbone.label for name, backbone in BACKBONES.items()} | {NO_BACKBONE: MISSING}
    for row in rows.to_dict("records"):
        arm = ARMS[row["arm"]].label + _suffix(row["variant"])
        gains = (number(row[f"gain_over_{arm}_mean"], signed=True) for arm in ("base", "mlora"))
        wauc = mean_sd(row["wauc_mean"], row["wauc_sd"])
        table.add_row(labels[row["backbone"]], arm, wauc, *gains)
    return table


def _overview(dataset: str, rows: pd.DataFrame) -> Table:
    """The same with one row a backbone, for many of them: mean WAUC alone."""
    own = rows[rows["backbone"] != NO_BACKBONE]
    arms = [arm for arm in ARMS if arm in set(own["arm"])]
    floors = rows[rows["backbone"] == NO_BACKBONE].to_dict("records")
    table = Table(
        "Backbone",
        title=dataset,
        title_justify="left",
        caption="; ".join(f"{ARMS[r['arm']].label} {number(r['wauc_mean'])}" for r in floors),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for arm in arms:
        table.add_column(ARMS[arm].label, justify="right")
    for (backbone, variant), cells in own.groupby(["backbone", "variant"], sort=False):
        wauc = cells.set_index("arm")["wauc_mean"].reindex(arms)
        label = BACKBONES[str(backbone)].label + _suffix(str(variant))
        table.add_row(label, *map(number, wauc))
    return table


def _suffix(variant: str) -> str:
    return "" if variant == DEFAULT_VARIANT else f", {variant}"
