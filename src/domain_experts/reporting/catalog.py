"""Which tables and figures a tier has. Light: the workflow reads it before any work starts."""

from domain_experts.data.specs import Log
from domain_experts.errors import UserError
from domain_experts.layout import CLAIMS
from domain_experts.study import Study

CELLS = "_cells"
"""Ends the name of an experiment's table by domain and task."""
SEARCH = "_search"
"""Ends the name of the table, and of the figure, of an experiment's searches."""
ABOUT_ALL = (
    *("verdicts", "evidence", "answer", "differences", "overview"),
    *("coverage", "datasets", "domains", "cost"),
)
"""Tables about the study as a whole."""
DRAWN_OF_ALL = (
    *("comparisons", "gain_by_domain", "ranks", "published", "coverage"),
    *("gate_weights", "moved", "learning_curves", "fusion", "modules"),
)
"""Figures about the study as a whole."""
RECOMMENDED = ("recommendation", "recommendation_domains", "recommendation_cost")
"""Tables that say what to take, of a study of one log of one's own."""


def is_own(study: Study) -> bool:
    """Whether it is a study of one log of the user's own, which asks what to take of it."""
    specs = [study.params.data.datasets[name] for name in study.all_datasets]
    return len(specs) == 1 and isinstance(specs[0], Log)


def renews(study: Study, target: str = "") -> str:
    """The command that makes the study, or a target of it, anew."""
    if is_own(study):
        return f"domain-experts study {study.all_datasets[0]}.yaml"
    return f"snakemake --config tier={study.tier}{target and f' -- {target}'}"


def about_all(study: Study) -> tuple[str, ...]:
    """Tables about the study as a whole that have something to show."""
    if not is_own(study):
        return ABOUT_ALL
    ledger = () if any(CLAIMS.glob("*.yaml")) else ("verdicts", "evidence")
    return (*RECOMMENDED, *(name for name in ABOUT_ALL if name not in ledger))


def drawn_of_all(study: Study) -> tuple[str, ...]:
    """Figures about the study as a whole that have something to show."""
    if not is_own(study):
        return DRAWN_OF_ALL
    runs = study.expected_runs
    gated = any("gate" in run.spec.reads for run in runs)
    fused = any(run.backbone == "m3oe" for run in runs)
    # nothing is published of one's own log, ranks are over data sets, modules over variants
    without = {"published", "ranks", "modules"}
    without |= set() if gated else {"gate_weights", "moved"}
    without |= set() if fused else {"fusion"}
    return tuple(name for name in DRAWN_OF_ALL if name not in without)


def experiments(study: Study) -> tuple[str, ...]:
    """The experiments that have runs in the tier, in the order of params.yaml.

    Raises:
        UserError: one has the name of a table or figure about the study as a whole.
    """
    names = tuple(name for name, runs in study.expected.items() if runs)
    ended = {name + end for name in names for end in (CELLS, SEARCH)}
    taken = {*ABOUT_ALL, *RECOMMENDED, *DRAWN_OF_ALL, *ended}
    if clash := sorted(taken & {*names}):
        raise UserError(
            f"params.yaml: experiment '{clash[0]}' is named like another table or figure; give it "
            "another one"
        )
    return names


def table_names(study: Study) -> tuple[str, ...]:
    """Every table: those about the study, one an experiment, and its domains and tasks apart."""
    names = list(about_all(study))
    for name in experiments(study):
        several = any(run.spec.family == "multi" for run in study.expected[name])
        names += [name, name + CELLS] if several else [name]
        names += [name + SEARCH] * bool(study.params.experiments[name].search)
    return tuple(names)


def figure_names(study: Study) -> tuple[str, ...]:
    """Every figure: those about the study, one an experiment, and its searches."""
    names = list(drawn_of_all(study))
    for name in experiments(study):
        names += [name, *[name + SEARCH] * bool(study.params.experiments[name].search)]
    return tuple(names)
