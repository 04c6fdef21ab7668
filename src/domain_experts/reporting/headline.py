"""The main table on the terminal, and where everything else is."""

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.collect import ABSENT, PRESENT
from domain_experts.reporting.render import MISSING, mean_sd, number
from domain_experts.runs import DEFAULT_VARIANT


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
        console.print(_table(str(dataset), rows))
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
        arm = ARMS[row["arm"]].label
        if row["variant"] != DEFAULT_VARIANT:
            arm += f", {row['variant']}"
        gains = (number(row[f"gain_over_{arm}_mean"], signed=True) for arm in ("base", "mlora"))
        wauc = mean_sd(row["wauc_mean"], row["wauc_sd"])
        table.add_row(labels[row["backbone"]], arm, wauc, *gains)
    return table
