"""The pipeline's phases: the one table behind Snakemake's targets and the stages of dvc.yaml."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from domain_experts import layout
from domain_experts.data.registry import SOURCES
from domain_experts.registry import ARMS, BACKBONES, Arm
from domain_experts.study import Study

TABLES = (
    "overview",
    "main",
    "controls",
    "oracle",
    "switches",
    "gates",
    "experts_per_domain",
    "rank",
    "adapted_layers",
    "arithmetic",
    "diversity",
    "new_domain",
    "planted_sharing",
    "m3oe",
    "m3oe_released",
    "m3oe_ablations",
    "m3oe_automl",
    "m3oe_row_order",
    "m3oe_datasets",
    "cost",
    "datasets",
)
READERS = tuple(sorted({source.reader for source in SOURCES.values()}))
# tables and figures print its labels
LABELS = "domain_experts.registry"
FIGURES = (
    "gain_by_domain",
    "gates",
    "learning_curves",
    "controls",
    "switches",
    "experts_per_domain",
    "ablations",
    "diversity",
    "new_domain",
    "m3oe_gain",
    "m3oe_sensitivity",
    "m3oe_fusion",
    "m3oe_modules",
    "m3oe_row_order",
)


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

    `rules` are the Snakemake rules that belong to it, its target rule (of the phase's name) not
    included; `after` are the phases whose outputs it reads, less the models if it is not
    `reads_models`; `targets` are the files that its rules declare; `keys` are the keys of
    params.yaml that it reads; `modules` hold its code, `files` what else it reads of the project.
    """

    name: str
    description: str
    rules: tuple[str, ...]
    after: tuple[str, ...]
    modules: tuple[str, ...]
    targets: Callable[[Study], list[Path]]
    outputs: Callable[[Study], list[Output]]
    keys: Callable[[Study], list[str]]
    reads_models: bool = True
    files: tuple[Path, ...] = ()

    def inputs(self, study: Study) -> list[Path]:
        """Outputs of earlier phases that this one reads."""
        return [
            output.path
            for name in self.after
            for output in PHASES[name].outputs(study)
            if self.reads_models or output.kind == "result"
        ]


def may_be_passed_on(study: Study, dataset: str) -> bool:
    """Whether a data set is generated here; the terms of all others forbid passing them on."""
    return study.params.data.datasets[dataset].source not in SOURCES


def _raw(study: Study) -> list[Output]:
    return [Output(layout.raw(source), "data", push=False) for source in study.sources]


def _datasets(study: Study, folder: Callable[[str], Path]) -> list[Output]:
    return [
        Output(folder(dataset), "data", push=may_be_passed_on(study, dataset))
        for dataset in study.datasets
    ]


def _dataset_keys(study: Study) -> list[str]:
    return [f"data.datasets.{dataset}" for dataset in study.datasets]


def _own_split_keys(study: Study) -> list[str]:
    """Keys of the split rules that data sets have of their own."""
    specs = {name: study.params.data.datasets[name] for name in study.datasets}
    own = [name for name, spec in specs.items() if spec.split]
    return [f"data.datasets.{name}.split" for name in own]


def _grid(study: Study) -> list[str]:
    """Keys that say which runs there are."""
    return ["experiments", f"tiers.{study.tier}"]


def _report(study: Study) -> Path:
    return layout.results(study.tier) / "report.html"


def _results(study: Study) -> list[Path]:
    return [layout.results_file(study.tier), layout.records_file(study.tier)]


def _table_files(study: Study) -> list[Path]:
    folder = layout.results(study.tier) / "tables"
    names = [f"{name}.{kind}" for name in TABLES for kind in ("csv", "md", "tex", "html")]
    return [folder / name for name in (*names, "metrics.json", "curves.csv")]


def _figure_files(study: Study) -> list[Path]:
    folder = layout.figures(study.tier)
    return [folder / f"{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")]


def _training(
    name: str, description: str, rule: str, arms: Iterable[Arm], after: tuple[str, ...] = ()
) -> Phase:
    arms = tuple(arms)
    families = {arm.family for arm in arms if arm.backbone}
    backbones = [backbone for backbone in BACKBONES.values() if backbone.family in families]
    modules = {module for arm in arms for module in (arm.trainer, "domain_experts.training.job")}
    modules |= {backbone.module for backbone in backbones}

    def outputs(study: Study) -> list[Output]:
        if not study.jobs(name):
            return []
        return [Output(layout.artifacts(study.tier) / name, "model")]

    def keys(study: Study) -> list[str]:
        read = set()
        for arm in arms:
            # a switch that is flipped takes the counterpart's value
            protocols = [f"protocols.{name}" for name in (arm.protocol, arm.counterpart) if name]
            places = {
                "protocol": protocols,
                "multi_protocol": [f"multi_protocols.{arm.multi_protocol}"],
            }
            own = (key for b in backbones if b.family == arm.family for key in b.reads)
            for key in (*arm.reads, *own):
                section, *rest = key.split(".")
                for place in places.get(section, [section]):
                    read.add(".".join([place, *rest]))
        return [*_outermost(read), "configurations", *_grid(study)]

    return Phase(
        name,
        description,
        rules=(rule,),
        after=("prepare", "split", *after),
        modules=tuple(sorted(modules)),
        targets=lambda study: [layout.job_index(study.tier, job) for job in study.jobs(name)],
        outputs=outputs,
        keys=keys,
    )


def _outermost(keys: Iterable[str]) -> list[str]:
    """The keys less those inside another one."""
    found: list[str] = []
    for key in sorted(keys):
        if not any(key.startswith(f"{outer}.") for outer in found):
            found.append(key)
    return found


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
            outputs=_raw,
            keys=lambda study: [],
        ),
        Phase(
            "prepare",
            "Raw files to Interactions, or generate them",
            rules=("prepare_dataset",),
            after=("download",),
            modules=("domain_experts.data.prepare", *READERS),
            targets=lambda study: [layout.card(dataset) for dataset in study.datasets],
            outputs=lambda study: _datasets(study, layout.interactions),
            keys=_dataset_keys,
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
            outputs=lambda study: _datasets(study, lambda d: layout.splits(study.tier, d)),
            keys=lambda study: [
                "data.test_fraction",
                "data.validation_fraction",
                *_own_split_keys(study),
                *(f"protocols.{name}.split_seed" for name in study.params.protocols),
                *_grid(study),
            ],
        ),
        _training(
            "backbones", "Backbones, shared by all domains", "train_backbone", _arms("backbones")
        ),
        _training(
            "experts",
            "Per-domain experts over the frozen backbones",
            "train_experts",
            _arms("experts"),
            after=("backbones",),
        ),
        _training(
            "gates",
            "Gates over the frozen experts",
            "train_gate",
            _arms("gates"),
            after=("backbones", "experts"),
        ),
        _training(
            "ablations",
            "Gates over fewer or more experts per domain",
            "train_ablation",
            _arms("gates"),
            after=("backbones", "experts"),
        ),
        _training(
            "baselines", "Arms that start from nothing", "train_baseline", _arms("baselines")
        ),
        _training(
            "controls",
            "Arms that start from the weights or curves of others",
            "train_control",
            _arms("controls"),
            after=("backbones", "experts", "gates", "ablations", "baselines"),
        ),
        Phase(
            "evaluate",
            "Metrics and paired comparisons of all runs, with the status of each",
            rules=("evaluate_dataset", "merge_results"),
            after=("prepare", "split", *TRAINING),
            modules=("domain_experts.evaluation.evaluate",),
            targets=_results,
            outputs=lambda study: [
                Output(layout.artifacts(study.tier) / "evaluated", "model"),
                *(Output(path, "result") for path in _results(study)),
            ],
            keys=_grid,
        ),
        Phase(
            "tables",
            "All tables",
            rules=("make_tables",),
            after=("evaluate",),
            modules=("domain_experts.reporting.tables", LABELS),
            targets=_table_files,
            outputs=lambda study: [Output(layout.results(study.tier) / "tables", "result")],
            keys=_grid,
            reads_models=False,
        ),
        Phase(
            "figures",
            "All figures",
            rules=("make_figures",),
            after=("evaluate",),
            modules=("domain_experts.reporting.figures", LABELS),
            targets=_figure_files,
            outputs=lambda study: [Output(layout.figures(study.tier), "result")],
            keys=_grid,
            reads_models=False,
        ),
        Phase(
            "report",
            "One HTML page with tables, figures, captions and provenance",
            rules=("make_report",),
            after=("tables", "figures"),
            modules=(),
            targets=lambda study: [_report(study)],
            outputs=lambda study: [Output(_report(study), "result")],
            keys=lambda study: [],
            reads_models=False,
            files=(Path("workflow/report"),),
        ),
    )
}
