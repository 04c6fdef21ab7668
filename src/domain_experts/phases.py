"""The pipeline's phases: the one table behind Snakemake's targets and the stages of dvc.yaml."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from domain_experts import layout
from domain_experts.data.registry import SOURCES
from domain_experts.data.specs import Generated, Log
from domain_experts.declarations import Arm, Backbone
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.catalog import figure_names, table_names
from domain_experts.study import Study

READERS = tuple(sorted({source.reader for source in SOURCES.values()}))
# tables and figures print its labels
LABELS = "domain_experts.registry"


@dataclass(frozen=True)
class Output:
    """What a phase leaves for others: a folder or file of its own.

    `data` and `model` outputs are large, `result` outputs small. What was derived from data
    that may not be passed on has `push` false.
    """

    path: Path
    kind: Literal["data", "model", "result"]
    push: bool = True


@dataclass(frozen=True)
class Phase:
    """One phase.

    `rules` are the Snakemake rules that make what it leaves; `after` are the phases whose outputs
    it reads, less the models if it is not `reads_models`; `targets` are the files that its rules
    declare; `keys` are the sections of params.yaml that it reads; `modules` hold its code; `files`
    are what it reads of the project beside them.

    Splits name the digest of the Interactions that they cut, and so stand for both.
    """

    name: str
    description: str
    rules: tuple[str, ...]
    after: tuple[str, ...]
    modules: tuple[str, ...]
    targets: Callable[[Study], list[Path]]
    leaves: Callable[[Study], list[Output]]
    keys: Callable[[Study], list[str]]
    reads_models: bool = True
    files: tuple[Path, ...] = ()

    def outputs(self, study: Study) -> list[Output]:
        """What it leaves; of a private log nothing is ever pushed, weights included."""
        found = self.leaves(study)
        return [replace(output, push=False) for output in found] if _is_private(study) else found

    def inputs(self, study: Study) -> list[Path]:
        """Outputs of earlier phases that this one reads."""
        return [
            output.path
            for name in self.after
            for output in PHASES[name].outputs(study)
            if self.reads_models or output.kind == "result"
        ]


def _is_private(study: Study) -> bool:
    """Whether a data set of the study is a log that may not leave this machine."""
    specs = [study.params.data.datasets[dataset] for dataset in study.datasets]
    return any(isinstance(spec, Log) and not spec.push for spec in specs)


def may_be_passed_on(study: Study, dataset: str) -> bool:
    """Whether a data set is generated here, or a log of which this is said.

    The terms of all others forbid passing them on.
    """
    spec = study.params.data.datasets[dataset]
    return isinstance(spec, Generated) or (isinstance(spec, Log) and spec.push)


def _raw(study: Study) -> list[Output]:
    return [Output(layout.raw(source), "data", push=False) for source in study.sources]


def _datasets(study: Study) -> list[Output]:
    return [
        Output(layout.interactions(dataset), "data", push=may_be_passed_on(study, dataset))
        for dataset in study.datasets
    ]


def _grid(study: Study) -> list[str]:
    """Keys that say which runs there are."""
    return ["experiments", f"tiers.{study.tier}"]


def _shown(study: Study) -> list[str]:
    """Keys that say what tables and figures show."""
    return [*_grid(study), "statistics"]


def _results(study: Study) -> list[Path]:
    return [layout.results_file(study.tier), layout.records_file(study.tier)]


def _searches(study: Study) -> list[Path]:
    return [layout.search_file(study.tier, search) for search in study.searches]


def _tables(study: Study) -> list[Path]:
    return [file for name in table_names(study) for file in layout.table_files(study.tier, name)]


def _figures(study: Study) -> list[Path]:
    return [file for name in figure_names(study) for file in layout.figure_files(study.tier, name)]


def _keys(arms: Iterable[Arm]) -> list[str]:
    """Sections of params.yaml that arms, and the backbones that they may have, read."""
    sections = {"protocol": "protocols"}
    own = [key for backbone in _backbones(arms) for key in backbone.reads]
    found = {key.partition(".")[0] for arm in arms for key in (*arm.reads, *own)}
    return sorted({sections.get(key, key) for key in found} | {"configurations"})


def _backbones(arms: Iterable[Arm]) -> list[Backbone]:
    families = {arm.family for arm in arms if arm.backbone}
    return [backbone for backbone in BACKBONES.values() if backbone.family in families]


def _modules(arms: Iterable[Arm]) -> set[str]:
    """Modules that train arms."""
    modules = {module for arm in arms for module in (arm.trainer, "domain_experts.training.job")}
    return modules | {backbone.module for backbone in _backbones(arms)}


def _training(
    name: str, description: str, arms: Iterable[Arm], after: tuple[str, ...] = ()
) -> Phase:
    arms = tuple(arms)

    def outputs(study: Study) -> list[Output]:
        if not study.jobs(name):
            return []
        return [Output(layout.artifacts(study.tier) / name, "model")]

    return Phase(
        name,
        description,
        rules=("train",),
        after=("split", "search", *after),
        modules=tuple(sorted(_modules(arms))),
        targets=lambda study: [layout.job_index(study.tier, job) for job in study.jobs(name)],
        leaves=outputs,
        keys=lambda study: sorted({*_keys(arms), *_grid(study)}),
    )


def _arms(phase: str) -> list[Arm]:
    return [arm for arm in ARMS.values() if arm.phase == phase]


TRAINING = ("backbones", "experts", "gates", "ablations", "baselines", "controls")

PHASES = {
    phase.name: phase
    for phase in (
        Phase(
            "download",
            "Fetch the raw files and verify them",
            rules=("fetch",),
            after=(),
            modules=("domain_experts.data.fetch", *READERS),
            targets=lambda study: [layout.raw_record(source) for source in study.sources],
            leaves=_raw,
            keys=lambda study: [],
        ),
        Phase(
            "prepare",
            "Raw files to Interactions, or generate them",
            rules=("prepare_dataset",),
            after=("download",),
            modules=("domain_experts.data.prepare", *READERS),
            targets=lambda study: [layout.card(dataset) for dataset in study.datasets],
            leaves=_datasets,
            keys=lambda study: ["data"],
        ),
        Phase(
            "split",
            "Train, validation and test rows of every seed",
            rules=("split_dataset",),
            after=("prepare",),
            modules=("domain_experts.data.cut",),
            targets=lambda study: [
                layout.split_index(study.tier, dataset) for dataset in study.datasets
            ],
            leaves=lambda study: [
                Output(
                    layout.all_splits(study.tier),
                    "data",
                    push=all(may_be_passed_on(study, dataset) for dataset in study.datasets),
                )
            ],
            keys=lambda study: ["data", "protocols", *_grid(study)],
        ),
        Phase(
            "search",
            "Settings chosen on validation rows, with equal budgets",
            rules=("search_settings",),
            after=("split",),
            modules=("domain_experts.training.search", *sorted(_modules(ARMS.values()))),
            targets=_searches,
            leaves=lambda study: [
                Output(layout.searches(study.tier), "result") for _ in study.searches[:1]
            ],
            keys=lambda study: sorted({*_keys(ARMS.values()), *_grid(study)}),
        ),
        _training("backbones", "Backbones, shared by all domains", _arms("backbones")),
        _training(
            "experts",
            "Per-domain experts over the frozen backbones",
            _arms("experts"),
            after=("backbones",),
        ),
        _training(
            "gates",
            "Gates over the frozen experts",
            _arms("gates"),
            after=("backbones", "experts"),
        ),
        _training(
            "ablations",
            "Gates over fewer or more experts per domain",
            _arms("gates"),
            after=("backbones", "experts"),
        ),
        _training("baselines", "Arms that start from nothing", _arms("baselines")),
        _training(
            "controls",
            "Arms that start from the weights or curves of others",
            _arms("controls"),
            after=("backbones", "experts", "gates", "ablations", "baselines"),
        ),
        Phase(
            "evaluate",
            "Metrics and paired comparisons of all runs, with the status of each",
            rules=("evaluate_dataset", "merge_results"),
            after=("split", "search", *TRAINING),
            modules=("domain_experts.evaluation.evaluate",),
            targets=_results,
            leaves=lambda study: [
                Output(layout.artifacts(study.tier) / "evaluated", "model"),
                *(Output(path, "result") for path in _results(study)),
            ],
            keys=_grid,
        ),
        Phase(
            "tables",
            "All tables, and the summary and curves that DVC shows",
            rules=("tables",),
            after=("evaluate",),
            modules=("domain_experts.reporting.tables", "domain_experts.reporting.summary", LABELS),
            targets=lambda study: [*_tables(study), *layout.metrics_files(study.tier)],
            leaves=lambda study: [
                Output(layout.tables(study.tier), "result"),
                *(Output(path, "result") for path in layout.metrics_files(study.tier)),
            ],
            keys=_shown,
            reads_models=False,
            files=(layout.CLAIMS,),
        ),
        Phase(
            "figures",
            "All figures",
            rules=("figures",),
            after=("evaluate",),
            modules=("domain_experts.reporting.figures", LABELS),
            targets=_figures,
            leaves=lambda study: [Output(layout.figures(study.tier), "result")],
            keys=_shown,
            reads_models=False,
        ),
        Phase(
            "report",
            "One HTML page with tables, figures, captions and provenance",
            rules=("report",),
            after=("evaluate", "figures"),
            modules=("domain_experts.reporting.report", LABELS),
            targets=lambda study: [layout.report(study.tier)],
            leaves=lambda study: [Output(layout.report(study.tier), "result")],
            keys=_shown,
            reads_models=False,
            files=(layout.CLAIMS,),
        ),
    )
}
