"""Which tables and figures a tier has. Light: the workflow reads it before any work starts."""

from domain_experts.errors import UserError
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


def experiments(study: Study) -> tuple[str, ...]:
    """The experiments that have runs in the tier, in the order of params.yaml.

    Raises:
        UserError: one has the name of a table or figure about the study as a whole.
    """
    names = tuple(name for name, runs in study.expected.items() if runs)
    taken = {*ABOUT_ALL, *DRAWN_OF_ALL, *(name + end for name in names for end in (CELLS, SEARCH))}
    if clash := sorted(taken & {*names}):
        raise UserError(
            f"params.yaml: experiment '{clash[0]}' is named like another table or figure; give it "
            "another one"
        )
    return names


def table_names(study: Study) -> tuple[str, ...]:
    """Every table: those about the study, one an experiment, and its domains and tasks apart."""
    names = list(ABOUT_ALL)
    for name in experiments(study):
        several = any(run.spec.family == "multi" for run in study.expected[name])
        names += [name, name + CELLS] if several else [name]
        names += [name + SEARCH] * bool(study.params.experiments[name].search)
    return tuple(names)


def figure_names(study: Study) -> tuple[str, ...]:
    """Every figure: those about the study, one an experiment, and its searches."""
    names = list(DRAWN_OF_ALL)
    for name in experiments(study):
        names += [name, *[name + SEARCH] * bool(study.params.experiments[name].search)]
    return tuple(names)
