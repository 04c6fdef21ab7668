"""The results of a study, read from its result files; nothing else is opened."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.files import read_json
from domain_experts.finished import finished
from domain_experts.params import EXPERTS_KEY, Study
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.runs import Run, variant_name

PRESENT, NOT_RUN, ABSENT = "present", "not run", "data not present"

_COLUMNS = {
    "run": "str",
    "status": "str",
    "dataset": "str",
    "task": "str",
    "backbone": "str",
    "arm": "str",
    "variant": "str",
    "others": "str",
    "experts_per_domain": "int64",
    "seed": "int64",
    "split_seed": "int64",
    "wauc": "float64",
    "binned_wauc": "float64",
    "macro_auc": "float64",
    "log_loss": "float64",
    "calibration": "float64",
    "parameters": "Int64",
}


@dataclass(frozen=True)
class Results:
    """What the runs of a study measured."""

    study: Study
    metrics: Mapping[Run, dict[str, Any]]
    """`metrics.json` of every run that is finished."""
    comparisons: list[dict[str, Any]]
    """Paired differences between arms, one a data set, backbone, seed and task."""
    bayes: list[dict[str, Any]]
    """AUC of the true probabilities, one a generated data set, split and task."""
    populations: list[dict[str, Any]]
    """Who is in a split, one a data set and split seed."""
    projections: pd.DataFrame
    """Points of M3oE's outputs in two dimensions, as `evaluation.projections` wrote them."""

    @cached_property
    def _tasks(self) -> dict[str, list[str]]:
        """Data set -> its tasks, where a run tells."""
        return {run.dataset: metrics["tasks"] for run, metrics in self.metrics.items()}

    def of(self, *experiments: str) -> pd.DataFrame:
        """Test metrics of some experiments, one row a run and task.

        Runs without results have a row without numbers, marked in `status`.
        """
        return self.frame(self.expected(*experiments))

    def frame(self, runs: Iterable[Run]) -> pd.DataFrame:
        """The same for any runs; rows by data set, backbone, arm, experts and seed."""
        rows = [row for run in sorted(runs, key=self.order) for row in self._rows(run)]
        return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)

    def status(self, run: Run) -> str:
        """Whether a run has results, and if not, whether its data are at hand."""
        if run in self.metrics:
            return PRESENT
        return self.missing(run.dataset)

    def missing(self, dataset: str) -> str:
        """Why a run on a data set has no results.

        Data that a finished run has read count as at hand wherever its results are shown; and of a
        partial study all data but those that nobody has placed, so that it looks the same in every
        clone.
        """
        data = self.study.params.data
        if self.study.partial:
            gone = data.datasets[dataset].source in data.not_at_hand
        else:
            gone = dataset in self.study.leave_out
        return ABSENT if gone and dataset not in self._tasks else NOT_RUN

    def expected(self, *experiments: str) -> list[Run]:
        """The runs of some experiments, each once, finished or not; experiments may be unknown."""
        runs = (run for name in experiments for run in self.study.expected.get(name, ()))
        return list(dict.fromkeys(runs))

    def made(self, *experiments: str) -> list[Run]:
        """The finished runs of some experiments."""
        return [run for run in self.expected(*experiments) if run in self.metrics]

    def order(self, run: Run) -> tuple[int, ...]:
        """Sort key: data set, backbone, arm, experts and seed."""
        return (
            self.study.all_datasets.index(run.dataset),
            [NO_BACKBONE, *BACKBONES].index(run.backbone),
            list(ARMS).index(run.arm),
            run.settings.adapter.experts_per_domain,
            run.seed,
        )

    def _rows(self, run: Run) -> Iterable[dict[str, Any]]:
        row = {
            "run": run.path.as_posix(),
            "status": self.status(run),
            "dataset": run.dataset,
            "task": "",
            "backbone": run.backbone,
            "arm": run.arm,
            "variant": variant_name(run.variant),
            # the variant less the number of experts, which has a column of its own
            "others": variant_name(tuple((k, v) for k, v in run.variant if k != EXPERTS_KEY)),
            "experts_per_domain": run.settings.adapter.experts_per_domain,
            "seed": run.seed,
            "split_seed": run.split_seed,
        }
        if run not in self.metrics:
            for task in self._tasks.get(run.dataset, [""]):
                yield row | {"task": task}
            return
        metrics = self.metrics[run]
        for task in metrics["tasks"]:
            yield row | {"task": task, "parameters": _parameters(metrics)} | metrics["test"][task]


def _parameters(metrics: dict[str, Any]) -> int:
    """Parameters behind the predictions of a run."""
    counts: dict[str, int] = metrics["parameters"]
    if metrics["run"]["arm"] != "experts":
        return counts["total"]
    # each domain is served by the first of its experts; an ablation may have asked for more
    used: int = counts["experts"] * len(metrics["domains"]) // metrics["run"]["experts"]
    return counts["total"] - counts["experts"] + used


def collect(study: Study) -> Results:
    """Read the metrics of the finished runs, and their comparisons.

    Raises:
        UserError: a file is missing or damaged; the message says how to get it back.
    """
    folder, remedy = (
        layout.results(study.tier),
        f"run `snakemake --config tier={study.tier} -- tables`",
    )
    compared = read_json(folder / "comparisons.json", remedy)
    points = folder / "projections.csv"
    if not points.is_file():
        raise UserError(f"{points} is missing; {remedy}")
    return Results(
        study,
        {run: read_run(study.tier, run, "metrics.json") for run in finished(study)},
        compared["comparisons"],
        compared["bayes"],
        compared["populations"],
        pd.read_csv(points),
    )


def read_run(tier: str, run: Run, name: str) -> dict[str, Any]:
    """Read `metrics.json` or `run.json` of a run.

    Raises:
        UserError: it, or its job's index, is missing or damaged.
    """
    index = layout.job_index(tier, run.job)
    if not index.is_file():
        raise UserError(f"{index} is missing: its runs are not finished; run snakemake again")
    values: dict[str, Any] = read_json(
        layout.run_results(tier, run) / name,
        f"delete {index} and run snakemake again (the run store still has finished runs)",
    )
    return values
