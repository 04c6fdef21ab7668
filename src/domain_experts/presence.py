"""What is there: the raw data of a study.

Results are `domain_experts.results`' concern, which always shows what it has. Work alone cannot
start without its data, unless it is told to do without.
"""

from collections.abc import Iterable
from pathlib import Path

from domain_experts import layout
from domain_experts.data.log.listing import find, matches
from domain_experts.data.registry import SOURCES, at_hand
from domain_experts.data.specs import Log
from domain_experts.errors import UserError
from domain_experts.layout import PARAMS
from domain_experts.params import load
from domain_experts.study import Study


def load_study(tier: str | None = None, allow_missing: bool = False, path: Path = PARAMS) -> Study:
    """The study of a tier, by default the one named in params.yaml.

    Args:
        tier: its name.
        allow_missing: do without data sets whose raw files are neither placed nor fetched.
        path: params.yaml.

    Raises:
        UserError: params.yaml cannot be used, or an experiment compares what cannot be compared.
    """
    params = load(path)
    study = Study(params, tier or params.tier)
    study.refuse_incomparable()
    if not allow_missing:
        return study
    return Study(params, study.tier, absent_datasets(study))


def absent_datasets(study: Study) -> frozenset[str]:
    """Data sets of the tier whose raw files are neither placed nor fetched."""
    local, specs = study.params.data.local, study.params.data.datasets
    absent = {source for source in study.sources if not at_hand(source, local)}

    def missing(name: str) -> bool:
        spec = specs[name]
        if isinstance(spec, Log):
            return not all(map(matches, spec.files)) and not layout.card(name).is_file()
        return spec.source in absent

    return frozenset(filter(missing, study.all_datasets))


def require_logs(study: Study, wanted: Iterable[str]) -> None:
    """Refuse to start if files of the logs among data sets `wanted` are missing.

    Raises:
        UserError: names the pattern that fits no file.
    """
    for name in wanted:
        spec = study.params.data.datasets[name]
        if isinstance(spec, Log):
            find(spec.files)


def require_data(study: Study, wanted: Iterable[str]) -> None:
    """Refuse to start if raw files of the sources `wanted` are missing that no download brings.

    Raises:
        UserError: lists them, where they come from, where they go, and how to do without.
    """
    local = study.params.data.local
    missing = [s for s in wanted if SOURCES[s].by_hand and not at_hand(s, local)]
    if missing:
        places = "\n".join(f"  {SOURCES[source].placement}" for source in sorted(missing))
        raise UserError(
            f"data sets of tier '{study.tier}' are missing and cannot be downloaded:\n{places}\n"
            "Place them; or go on without them (snakemake --config allow_missing=true): tables, "
            "figures and report then say so."
        )
