"""How current the results of a tier are, on the terminal."""

from collections import Counter

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from domain_experts.results import STATUSES, load
from domain_experts.study import Study


def print_status(study: Study) -> None:
    """Print, for each experiment, how many runs have which status, and why some are stale.

    Raises:
        UserError: the results are missing or damaged.
    """
    results = load(study)
    table = Table("Experiment", box=SIMPLE_HEAD, pad_edge=False)
    for status in STATUSES:
        table.add_column(status, justify="right")
    for name, runs in study.expected.items():
        if runs:
            counts = Counter(results.status[run.path.as_posix()] for run in runs)
            table.add_row(name, *(str(counts[status]) for status in STATUSES))
    counts = Counter(results.status.values())
    table.add_section()
    table.add_row("all, each run once", *(str(counts[status]) for status in STATUSES))
    console = Console()
    console.print(f"Runs of tier {study.tier} by status")
    console.print(table)
    reasons = Counter(why for found in results.outdated.values() for why in found)
    if reasons:
        told = ", ".join(f"{why} ({count})" for why, count in reasons.most_common())
        console.print(f"Stale runs differ from today's in: {told}.", soft_wrap=True)
        console.print(f"Renew them with `snakemake --config tier={study.tier}`.", soft_wrap=True)
