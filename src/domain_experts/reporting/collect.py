"""The results of a study as tables and figures want them, read from its two result files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.results import ABSENT, NOT_RUN, PROJECTION_COLUMNS, STALE, load
from domain_experts.runs import Run, variant_name
from domain_experts.study import EXPERTS_KEY, Study

PRESENT = "present"

_COLUMNS = {
    "run": "str",
    "status": "str",
    "stale": "bool",
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
    """Record and metrics of every run that has numbers."""
    states: Mapping[Run, str]
    """Status of every expected run, as `domain_experts.results` has it."""
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
        return ABSENT if self.states.get(run) == ABSENT else NOT_RUN

    def stale(self, run: Run) -> bool:
        """Whether a run's results come from other code, settings, data or torch than today's."""
        return self.states.get(run) == STALE

    def missing(self, dataset: str) -> str:
        """Why a data set has no results."""
        found = {self.status(run) for run in self.states if run.dataset == dataset}
        return ABSENT if found == {ABSENT} else NOT_RUN

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
            "stale": self.stale(run),
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
    """Read the results of a study.

    Raises:
        UserError: a file is missing or damaged; the message says how to get it back.
    """
    stored = load(study)
    paths = stored.expected
    own: dict[str, dict[str, Any]] = {}
    pairs: dict[tuple[str, str, str], dict[str, Any]] = {}
    columns = ["run", "split", "domain", "task", "metric", "against", "value"]
    for run, split, domain, task, metric, against, value in stored.numbers[columns].itertuples(
        index=False
    ):
        if against:
            node = pairs.setdefault((run, against, task), {})
        else:
            node = own.setdefault(run, {}).setdefault(split, {}).setdefault(task, {})
        if domain:
            node.setdefault("by_domain", {}).setdefault(metric, {})[domain] = value
        else:
            node[metric] = value
    metrics = {
        paths[run]: stored.records[run]
        | {split: _tasks(tasks, stored.records[run]["domains"]) for split, tasks in found.items()}
        for run, found in own.items()
    }
    compared = [
        _comparison(paths[run], paths[against], task, found, metrics[paths[run]])
        for (run, against, task), found in pairs.items()
        if against in paths
    ]
    points = [
        {"run": run.path.as_posix(), "dataset": run.dataset, "arm": run.arm} | point
        for run, record in metrics.items()
        for point in record["projection"]
    ]
    return Results(
        study,
        metrics,
        {run: stored.status[path] for path, run in paths.items()},
        compared,
        _bayes(stored.facts, stored.data),
        _populations(stored.facts, stored.data),
        pd.DataFrame(points, columns=["run", "dataset", "arm", *PROJECTION_COLUMNS]),
    )


def _tasks(tasks: dict[str, dict[str, Any]], domains: list[str]) -> dict[str, Any]:
    """Metrics of one split by task, those by domain as lists in the order of the domains."""
    found = {}
    for task, metrics in tasks.items():
        by_domain = {m: [v.get(d) for d in domains] for m, v in metrics["by_domain"].items()}
        known = by_domain.get("auc", [None] * len(domains))
        left_out = [name for name, auc in zip(domains, known, strict=True) if auc is None]
        found[task] = metrics | {"by_domain": by_domain, "left_out": left_out}
    return found


def _comparison(
    run: Run, against: Run, task: str, found: dict[str, Any], metrics: dict[str, Any]
) -> dict[str, Any]:
    """One paired comparison on one task."""
    domains, by_domain = metrics["domains"], found.get("by_domain", {})
    return {
        "dataset": run.dataset,
        "split_seed": run.split_seed,
        "backbone": run.backbone,
        "seed": run.seed,
        "arm": run.arm,
        "against": against.arm,
        "task": task,
        "domains": domains,
        "rows": metrics["rows"]["test"],
        "auc_difference": [by_domain.get("auc_difference", {}).get(d) for d in domains],
        "standard_error": [by_domain.get("auc_difference_se", {}).get(d) for d in domains],
        "wauc_difference": found.get("wauc_difference"),
        "wauc_standard_error": found.get("wauc_difference_se"),
    }


def _bayes(facts: pd.DataFrame, data: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """AUC of the true probabilities, by data set, split and task."""
    found = []
    own = facts[facts["metric"].isin(["bayes_auc", "bayes_wauc"])]
    for key, rows in own.groupby(["dataset", "split_seed", "task"], sort=False):
        dataset, split_seed, task = map(str, key)
        values = rows.set_index("domain")["value"].to_dict()
        domains = data[dataset]["domains"]
        found.append(
            {
                "dataset": dataset,
                "split_seed": int(split_seed),
                "task": task,
                "domains": domains,
                "auc": [values.get(d) for d in domains],
                "wauc": values.get(""),
            }
        )
    return found


def _populations(facts: pd.DataFrame, data: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Who is in each split, by data set and split."""
    found = []
    for key, rows in facts.groupby(["dataset", "split_seed"], sort=False):
        dataset, split_seed = map(str, key)
        domains, tasks = data[dataset]["domains"], data[dataset]["tasks"]
        keys = ["metric", "split", "task", "domain"]
        counted = rows[~rows["metric"].str.startswith("bayes")]
        values = counted.set_index(keys)["value"].astype(int).to_dict()

        def counts(
            metric: str,
            split: str = "",
            task: str = "",
            values: dict[Any, int] = values,
            domains: list[str] = domains,
        ) -> list[int]:
            return [values[metric, split, task, d] for d in domains]

        found.append(
            {
                "dataset": dataset,
                "split_seed": int(split_seed),
                "domains": domains,
                "tasks": tasks,
                "users": counts("users"),
                "items": counts("items"),
                "rows": {split: counts("rows", split) for split in ("train", "validation", "test")},
                "positives": {task: counts("positives", task=task) for task in tasks},
                "test_users": counts("test_users"),
                "seen_test_users": counts("seen_test_users"),
                "all_test_users": values["test_users", "", "", ""],
                "all_seen_test_users": values["seen_test_users", "", "", ""],
            }
        )
    return found
