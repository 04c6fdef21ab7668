"""What a tier says on the terminal: the answer, and how current it is."""

from collections import Counter
from dataclasses import replace

import pandas as pd
from rich.console import Console
from rich.panel import Panel

from domain_experts import layout
from domain_experts.reporting.answer import answer, question, sentences, span
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.columns import reference_label
from domain_experts.reporting.frame import Frames, frames, status_text
from domain_experts.reporting.render import Table, terminal
from domain_experts.reporting.statistics import VERDICTS
from domain_experts.reporting.tables import coverage
from domain_experts.results import ABSENT
from domain_experts.study import Study


def print_headline(study: Study) -> None:
    """Print a tier's answer with intervals, what is not in it, and where everything else is.

    Raises:
        UserError: the results are missing or cannot be used.
    """
    of, tier = frames(study), study.tier
    console = Console(highlight=False)
    for part in (_first(of), _others(of)):
        if len(part.printed):
            console.print(terminal(part))
    console.print(f"[bold]{question(of)}[/bold]")
    for sentence in sentences(of):
        console.print(sentence)
    console.print(
        f"\nRuns: {status_text(of.about['status'])}; "
        f"`domain-experts status --tier {tier}` says more."
    )
    gone = of.about.loc[of.about["status"] == ABSENT, "dataset"].unique()
    if len(gone):
        text = f"{', '.join(gone)}\nThese could not be found: tables and figures say '{ABSENT}'."
        console.print(Panel(text, title=f"DATA NOT PRESENT ({len(gone)})", style="bold red"))
    for name, path in (
        ("Report", layout.report(tier)),
        ("Tables", layout.tables(tier)),
        ("Figures", layout.figures(tier)),
    ):
        if path.exists():
            console.print(f"{name + ':':<8} {path}", soft_wrap=True)


def _first(of: Frames) -> Table:
    """The first experiment, a row a comparison."""
    made, names = answer(of), experiments(of.study)
    own = made.printed[made.printed["Experiment"].isin(names[:1])]
    shown = ["Data set", "Best of the others", "Difference", "95 % interval"]
    caption = "".join(
        f"{name}: the best of the others on validation rows less "
        f"{reference_label(of.study.params.experiments[name].references[0])}, on test rows"
        for name in names[:1]
    )
    return replace(made, caption=caption, printed=own[shown], words=2)


def _others(of: Frames) -> Table:
    """The other experiments, a row each: how many of its best candidates have which verdict."""
    found = answer(of).numbers
    rows = []
    for name in experiments(of.study)[1:]:
        own = found[found["experiment"] == name]
        counts = Counter(own["verdict"])
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
        rows.append((name, said or "nothing to compare", span(own) if said else ""))
    caption = "Other experiments: best of the others on validation rows, less the reference"
    printed = pd.DataFrame(rows, columns=["Experiment", "Verdicts", "Differences"])
    return Table("others", caption, found, printed, 2)


def print_status(study: Study) -> None:
    """Print, for each experiment, how many runs have which status, and why some are stale.

    Raises:
        UserError: the results are missing or damaged.
    """
    of, console = frames(study), Console()
    console.print(terminal(coverage(of)))
    reasons = Counter(why for found in of.results.outdated.values() for why in found)
    if reasons:
        told = ", ".join(f"{why} ({count})" for why, count in reasons.most_common())
        console.print(f"Stale runs differ from today's in: {told}.", soft_wrap=True)
        console.print(f"Renew them with `snakemake --config tier={study.tier}`.", soft_wrap=True)
