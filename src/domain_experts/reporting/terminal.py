"""What a tier says on the terminal: the answer, and how current it is."""

from collections import Counter
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

import pandas as pd
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.methods import methods
from domain_experts.plain_text import visible
from domain_experts.reporting.answer import answer, question, sentences, span
from domain_experts.reporting.catalog import experiments, renews
from domain_experts.reporting.columns import reference_label
from domain_experts.reporting.frame import Frames, frames, status_text
from domain_experts.reporting.render import Table, terminal
from domain_experts.reporting.statistics import OUTCOMES
from domain_experts.reporting.tables import coverage
from domain_experts.reporting.verdicts import FACTORS, counts, decided, evidence_of, verdicts
from domain_experts.results import ABSENT
from domain_experts.study import Study
from domain_experts.suggest import unknown


def print_headline(study: Study) -> None:
    """Print how many claims hold, a tier's answer, what is not in it, and where the rest is.

    Raises:
        UserError: the results are missing or cannot be used.
    """
    of, tier = frames(study), study.tier
    console = Console(highlight=False)
    for said in counts(of):
        console.print(said)
    for part in (_first(of), _others(of)):
        if len(part.printed):
            console.print(terminal(part))
    console.print(visible(question(of)), style="bold", markup=False)
    for sentence in sentences(of):
        console.print(visible(sentence), markup=False)
    console.print(
        f"\nRuns: {status_text(of.about['status'])}; "
        f"`domain-experts status --tier {tier}` says more."
    )
    gone = of.about.loc[of.about["status"] == ABSENT, "dataset"].unique()
    if len(gone):
        text = f"{', '.join(gone)}\nThese could not be found: tables and figures say '{ABSENT}'."
        shown, title = Text(visible(text, lines=True)), f"DATA NOT PRESENT ({len(gone)})"
        console.print(Panel(shown, title=title, style="bold red"))
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
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in OUTCOMES if counts[verdict])
        rows.append((name, said or "nothing to compare", span(own) if said else ""))
    caption = "Other experiments: best of the others on validation rows, less the reference"
    printed = pd.DataFrame(rows, columns=["Experiment", "Verdicts", "Differences"])
    return Table("others", caption, found, printed, 2)


def print_methods() -> None:
    """Print the list of all methods, a paragraph each, under their kinds."""
    console = Console(highlight=False)
    for kind, listed in groupby(sorted(methods(), key=attrgetter("kind")), attrgetter("kind")):
        console.rule(f"[bold]{kind}[/bold]", align="left")
        for one in listed:
            needs = f"; needs {one.needs}" if one.needs else ""
            console.print(f"[bold]{one.name}[/bold] ({one.label}): {one.idea}")
            console.print(f"    {one.paper}{needs}; {one.proof}", style="dim")


def print_claims(study: Study, name: str | None) -> None:
    """Print the verdicts on all claims, or one claim with its rule and evidence.

    Raises:
        UserError: the results or the ledger cannot be used, or no claim has the name.
    """
    of = frames(study)
    found, console = {one.entry.claim.id: one for one in decided(of)}, Console(highlight=False)
    if name is None:
        made = verdicts(of)
        console.print(
            terminal(replace(made, printed=made.printed[["Name", "Verdict", "Claim"]], words=3))
        )
        for said in counts(of):
            console.print(said)
        return
    if name not in found:
        raise UserError(unknown("claim", name, found))
    one = found[name]
    claim, rule = one.entry.claim, one.entry.claim.rule
    console.print(f"[bold]{one.text}[/bold]: {claim.says}")
    console.print(f"{one.entry.paper}; {claim.source} ({one.entry.file})", soft_wrap=True)
    if claim.published:
        console.print(f"Published: {claim.published}")
    console.print(
        f"Rule: {rule.kind}, {rule.expect}, in {rule.combine} of {len(one.evidence)} comparisons "
        f"of {rule.min_seeds} seeds or more; table {', '.join(rule.experiments)}."
    )
    for factor, verdict in zip(FACTORS, one.others, strict=True):
        console.print(f"With {factor:g} times the margin: {verdict}.")
    made = evidence_of(of, one)
    own = made.printed
    own.insert(0, "Comparison", own["Who"] + " less " + own["Against"] + ", " + own["Data set"])
    shown = own[["Comparison", "Verdict", "Difference", "95 % interval", "Seeds"]]
    console.print(terminal(replace(made, caption="", printed=shown, words=2)))
    for note in made.notes:
        console.print(note)
    for near in claim.nearest:
        console.print(f"Nearest evidence: {near} ({found[near].text})")


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
        console.print(f"Renew them with `{renews(study)}`.", soft_wrap=True)
