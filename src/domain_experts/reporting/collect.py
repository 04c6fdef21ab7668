"""The results of a study, read from its result files; nothing else is opened."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.params import EXPERTS_KEY, Study
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.runs import Run, variant_name

PRESENT, ABSENT = "present", "data not present"

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
    """`metrics.json` of every run that was made."""
    comparisons: list[dict[str, Any]]
    """Paired differences between arms, one a data set, backbone, seed and task."""
    bayes: list[dict[str, Any]]
    """AUC of the true probabilities, one a generated data set and split."""

    def of(self, experiment: str) -> pd.DataFrame:
        """Test metrics of an experiment, one row a run and task.

        Runs whose data set is left out have a row without numbers, marked in `status`.
        """
        return self.frame(self.study.expected.get(experiment, ()))

    def frame(self, runs: Iterable[Run]) -> pd.DataFrame:
        """The same for any runs; rows by data set, backbone, arm, experts and seed."""
        rows = [row for run in sorted(runs, key=self.order) for row in self._rows(run)]
        return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)

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
            "status": PRESENT,
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
        if run.dataset in self.study.leave_out:
            yield row | {"status": ABSENT}
            return
        metrics = self.metrics[run]
        for task in metrics["tasks"]:
            total = metrics["parameters"]["total"]
            yield row | {"task": task, "parameters": total} | metrics["test"][task]


def collect(study: Study) -> Results:
    """Read the metrics of every run, and their comparisons.

    Raises:
        UserError: a file is missing or damaged; the message says how to get it back.
    """
    compared = _read(
        layout.results(study.tier) / "comparisons.json",
        f"run `snakemake --config tier={study.tier} -- tables`",
    )
    return Results(
        study,
        {run: read_run(study.tier, run, "metrics.json") for run in study.runs},
        compared["comparisons"],
        compared["bayes"],
    )


def read_run(tier: str, run: Run, name: str) -> dict[str, Any]:
    """Read `metrics.json` or `run.json` of a run.

    Raises:
        UserError: it, or its job's index, is missing or damaged.
    """
    index = layout.job_index(tier, run.job)
    if not index.is_file():
        raise UserError(f"{index} is missing: its runs are not finished; run snakemake again")
    return _read(
        layout.run_results(tier, run) / name,
        f"delete {index} and run snakemake again (the run store still has finished runs)",
    )


def _read(path: Path, remedy: str) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
    return values
