"""The answer on the terminal, and where everything else is."""

from collections import Counter

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from domain_experts import layout
from domain_experts.reporting.answer import (
    VERDICTS,
    best,
    candidate_cells,
    difference_cells,
    gains,
    interval_cells,
    question,
    reference_label,
    sentences,
    span,
)
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.frame import Frames, frames
from domain_experts.results import ABSENT, STATUSES
from domain_experts.study import Study


def print_headline(study: Study) -> None:
    """Print a tier's answer with intervals, what is not in it, and where everything else is.

    Raises:
        UserError: the results are missing or cannot be used.
    """
    of, tier = frames(study), study.tier
    console = Console(highlight=False)
    for part in (_first(of), _others(of)):
        if part.rows:
            console.print(part)
    console.print(f"[bold]{question(of)}[/bold]")
    for sentence in sentences(of):
        console.print(sentence)
    counts = Counter(of.results.status.values())
    console.print(
        f"\nRuns: {', '.join(f'{counts[s]} {s}' for s in STATUSES if counts[s])}; "
        f"`domain-experts status --tier {tier}` says more."
    )
    gone = dict.fromkeys(of.runs.loc[of.runs["status"] == ABSENT, "dataset"])
    if gone:
        text = f"{', '.join(gone)}\nThese could not be found: tables and figures say '{ABSENT}'."
        console.print(Panel(text, title=f"DATA NOT PRESENT ({len(gone)})", style="bold red"))
    folder = layout.results(tier)
    for name, path in (
        ("Report", folder / "report.html"),
        ("Tables", folder / "tables"),
        ("Figures", layout.figures(tier)),
    ):
        if path.exists():
            console.print(f"{name + ':':<8} {path}", soft_wrap=True)


def _first(of: Frames) -> Table:
    """The first experiment, a row a comparison."""
    first = experiments(of.study)[:1]
    frame = best(of, gains(of))
    frame = frame[frame["experiment"].isin(first)]
    title = "".join(
        f"{name}: the best on validation rows less "
        f"{reference_label(of.study.params.experiments[name].references[0])}, on test rows"
        for name in first
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("Data set", "Best on validation rows"):
        table.add_column(head, overflow="fold")
    for head in ("Difference", "95 % interval"):
        table.add_column(head, justify="right", no_wrap=True)
    cells = (candidate_cells(of, frame), difference_cells(frame), interval_cells(frame))
    for row in zip(frame["dataset"], *cells, strict=True):
        table.add_row(*row)
    return table


def _others(of: Frames) -> Table:
    """The other experiments, a row each: how many of its best candidates have which verdict."""
    title = "Other experiments: comparisons of the best on validation rows by verdict"
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("Experiment", no_wrap=True)
    for verdict in VERDICTS:
        table.add_column(verdict, justify="right")
    table.add_column("Differences", justify="right", no_wrap=True)
    groups = dict([*best(of, gains(of)).groupby("experiment", sort=False)])
    for name in experiments(of.study)[1:]:
        if name not in groups:
            table.add_row(name, *[""] * len(VERDICTS), "nothing to compare")
            continue
        counts = Counter(groups[name]["verdict"])
        table.add_row(name, *(str(counts[v] or "") for v in VERDICTS), span(groups[name]))
    return table
