"""How current the results of a tier are, on the terminal."""

from collections import Counter

from rich.console import Console

from domain_experts.reporting.frame import frames
from domain_experts.reporting.render import terminal
from domain_experts.reporting.tables import coverage
from domain_experts.study import Study


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
