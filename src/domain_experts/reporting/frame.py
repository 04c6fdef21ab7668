"""The runs of a study as tidy frames: all that tables, figures and report are made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.results import ABSENT, CURRENT, NOT_RUN, STALE, Results, load
from domain_experts.runs import Run, variant_name
from domain_experts.study import Study

KEYS = ["dataset", "task", "backbone", "arm", "variant"]
"""What tells two rows of a table apart; their runs differ by seed alone."""
ALL_TASKS = "all tasks"
DIFFERENCE, ERROR = "wauc_difference", "wauc_difference_se"
LANE = ("phase", "lane", "part", "epochs", "moved", "capped", "trained", "used")
"""Of a lane, as records have it."""
RECORD = ("run", "parameters", "epochs_trained", "domains", "rows", "machine")
COST = ("wall_s", "train_rows_per_s", "epochs", "peak_memory_mb")
"""Measured while training, as records have it."""


@dataclass(frozen=True, eq=False)  # two are never equal, so that what is made of one can be kept
class Frames:
    """What is known of a study, a row a thing; whatever is unknown is NaN."""

    results: Results

    @property
    def study(self) -> Study:
        return self.results.study

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each expected run and task, with a column for each test metric and fact.

        Of several tasks there is a row for all together, the plain mean of their metrics. Rows go
        by data set, backbone, arm, variant and seed.
        """
        known = pd.DataFrame(
            [row for run in self.results.expected.values() for row in self._identities(run)]
        )
        overall = self._numbers(test=True, by_domain=False)
        metrics = overall[overall["task"] != ""].pivot(
            index=["run", "task"], columns="metric", values="value"
        )
        # such as shares of a gate, which all tasks have in common
        of_run = overall[overall["task"] == ""].pivot(index="run", columns="metric", values="value")
        needed = [experiment.metric for experiment in self.study.params.experiments.values()]
        metrics = metrics.reindex(columns=[*dict.fromkeys([*metrics, *needed, "binned_wauc"])])
        macro = self.domains.groupby(["run", "task"])["log_loss"].mean().rename("macro_log_loss")
        frame = known.merge(metrics.join(macro).reset_index(), "left", ["run", "task"])
        frame = frame.merge(of_run.reset_index(), "left", "run")
        frame = pd.concat([frame, _all_tasks(frame)], ignore_index=True)
        records = pd.DataFrame(
            [_of_record(path, record) for path, record in self._records.items()] or [{"run": ""}]
        )
        records = records.reindex(columns=[*dict.fromkeys([*RECORD, *COST, *records])])
        facts = self._facts_by_split
        frame = frame.merge(records, "left", "run").merge(
            facts, "left", ["dataset", "split_seed", "task"]
        )
        return self._sorted(frame)

    @cached_property
    def domains(self) -> pd.DataFrame:
        """A row for each run with numbers, task and domain, with a column for each test metric.

        `number` is the domain's, from 1.
        """
        numbers = self._numbers(test=True, by_domain=True)
        keys = ["run", "task", "domain"]
        frame = numbers.pivot(index=keys, columns="metric", values="value").reset_index()
        frame = frame.reindex(columns=[*dict.fromkeys([*keys, "auc", "log_loss", *frame.columns])])
        about = pd.DataFrame([self._identity(run) for run in self.results.expected.values()])
        frame = frame.merge(about, "left", "run")
        return self._by_number(frame)

    @cached_property
    def data(self) -> pd.DataFrame:
        """A row for each data set, split seed and domain: users, items, rows by split.

        `positive_rate` is that of all rows, the mean over tasks.
        """
        facts = self.results.facts[self.results.facts["domain"] != ""]
        keys = ["dataset", "split_seed", "domain"]
        plain = facts[facts["metric"].isin(["users", "items", "test_users", "seen_test_users"])]
        rows = facts[facts["metric"] == "rows"].assign(metric=lambda frame: frame["split"])
        wide = pd.concat([plain, rows]).pivot(index=keys, columns="metric", values="value")
        positives = facts[facts["metric"] == "positives"].groupby(keys)["value"].mean()
        names = ["train", "validation", "test"]
        wide = wide.reindex(columns=[*names, "users", "items", "test_users", "seen_test_users"])
        wide["rows"] = wide[names].sum(axis=1)
        wide["positive_rate"] = positives / wide["rows"]
        frame = wide.reset_index()
        return self._by_number(frame)

    @cached_property
    def usual_split(self) -> dict[str, int]:
        """Data set -> seed of the split that most of its runs use."""
        runs = self.runs.drop_duplicates("run")
        modes = runs.groupby("dataset")["split_seed"].agg(lambda seeds: seeds.mode().iloc[0])
        return {str(dataset): int(seed) for dataset, seed in modes.items()}

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Learning curves: a row for each run, leg, lane and epoch."""
        rows = [
            self._identity(self.results.expected[path]) | point
            for path, record in self._records.items()
            for point in record["curve"]
        ]
        columns = ["phase", "lane", "epoch", "train_loss", "validation_auc", "best"]
        names = dict.fromkeys([*_IDENTITY, *columns, *(rows[0] if rows else ())])
        return pd.DataFrame(rows, columns=list(names))

    @cached_property
    def lanes(self) -> pd.DataFrame:
        """How each training within a run ended: a row for each run and lane of its record."""
        rows = [
            self._identity(self.results.expected[path]) | lane
            for path, record in self._records.items()
            for lane in record.get("lanes", ())
        ]
        return pd.DataFrame(rows, columns=[*_IDENTITY, *LANE])

    def of(self, experiment: str) -> pd.DataFrame:
        """The rows of `runs` that an experiment asks for."""
        own = {run.path.as_posix() for run in self.study.expected.get(experiment, ())}
        return self.runs[self.runs["run"].isin(own)].reset_index(drop=True)

    def gains(self, experiment: str, metric: str) -> pd.DataFrame:
        """Differences in a metric to each run's references, which share its seed and split.

        A row for each run, task and reference: KEYS, `seed`, `status`, `over` (the reference's
        name), `gain` and, of WAUC, its standard error on the test rows, `se`.
        """
        pairs = pd.DataFrame(
            [
                (run.path.as_posix(), other.path.as_posix(), name)
                for run, other, name in self.study.comparisons(experiment)
            ],
            columns=["run", "other", "over"],
            dtype="str",
        )
        runs = self.runs[[*_IDENTITY, "task", metric]]
        others = runs[["run", "task", metric, "status"]].rename(
            columns={"run": "other", metric: "reference", "status": "other_status"}
        )
        frame = pairs.merge(runs, "left", "run").merge(others, "left", ["other", "task"])
        frame["gain"] = frame[metric] - frame["reference"]
        stale = (frame["status"] == STALE) | (frame["other_status"] == STALE)
        frame["status"] = frame["status"].mask(stale, STALE)
        frame["se"] = float("nan")
        if metric == "wauc":
            keys = ["run", "other", "task"]
            error = self._errors.reindex(pd.MultiIndex.from_frame(frame[keys]))
            frame["se"] = error.to_numpy()
        return frame

    def validation(self, metric: str) -> pd.DataFrame:
        """A metric on validation rows, as `validation`: a row for each run and task."""
        found = self._numbers(test=False, by_domain=False)
        found = found[found["metric"] == metric].rename(columns={"value": "validation"})
        found = found[["run", "task", "validation"]]
        several = found[found.duplicated("run", keep=False)]
        means = several.groupby("run", sort=False)["validation"].mean().reset_index()
        return pd.concat([found, means.assign(task=ALL_TASKS)], ignore_index=True)

    def record(self, path: str) -> dict[str, Any]:
        """The record of a run that has numbers."""
        return self._records[path]

    @cached_property
    def _records(self) -> dict[str, dict[str, Any]]:
        """Records of the expected runs that have numbers, in their order."""
        there = set(self.results.numbers["run"])
        known = self.results.records
        return {path: known[path] for path in self.results.expected if path in there}

    def _numbers(self, test: bool, by_domain: bool) -> pd.DataFrame:
        frame = self.results.numbers
        chosen = (frame["against"] == "") & ((frame["domain"] != "") == by_domain)
        return frame[chosen & ((frame["split"] == "test") == test)]

    @cached_property
    def _errors(self) -> "pd.Series[float]":
        """Stored standard errors of differences in WAUC, by run, reference and task."""
        frame = self.results.numbers
        own = frame[frame["metric"] == ERROR].rename(columns={"against": "other"})
        return own.set_index(["run", "other", "task"])["value"]

    @cached_property
    def _facts_by_split(self) -> pd.DataFrame:
        """By data set, split seed and task: `bayes_wauc`, and the share of test users seen."""
        facts = self.results.facts[self.results.facts["domain"] == ""]
        keys = ["dataset", "split_seed"]
        bayes = facts[facts["metric"] == "bayes_wauc"].rename(columns={"value": "bayes_wauc"})
        users = facts.pivot_table("value", keys, "metric").reindex(
            columns=["seen_test_users", "test_users"]
        )
        seen = (users["seen_test_users"] / users["test_users"]).rename("seen_users").reset_index()
        return self._tasks_by_split.merge(seen, "left", keys).merge(
            bayes[[*keys, "task", "bayes_wauc"]], "left", [*keys, "task"]
        )

    @cached_property
    def _tasks_by_split(self) -> pd.DataFrame:
        """Every data set, split seed and task that some run has, all tasks together included."""
        rows = {
            (run.dataset, run.split_seed, task)
            for run in self.results.expected.values()
            for task in (*self._tasks(run.dataset), ALL_TASKS)
        }
        return pd.DataFrame(sorted(rows), columns=["dataset", "split_seed", "task"])

    def _tasks(self, dataset: str) -> tuple[str, ...]:
        data = self.results.data.get(dataset)
        return tuple(data["tasks"]) if data else ("",)

    def _identity(self, run: Run) -> dict[str, Any]:
        path = run.path.as_posix()
        return {
            "run": path,
            "status": self.results.status[path],
            "dataset": run.dataset,
            "backbone": run.backbone,
            "arm": run.arm,
            "variant": variant_name(run.variant),
            "seed": run.seed,
            "split_seed": run.split_seed,
        }

    def _identities(self, run: Run) -> Iterable[dict[str, Any]]:
        for task in self._tasks(run.dataset):
            yield self._identity(run) | {"task": task}

    def _by_number(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows about domains with the `number` of each, from 1, in its order."""
        places = {
            (dataset, domain): i
            for dataset, data in self.results.data.items()
            for i, domain in enumerate(data["domains"], start=1)
        }
        pairs = zip(frame["dataset"], frame["domain"], strict=True)
        numbers = pd.Series([places[pair] for pair in pairs], frame.index, dtype="int64")
        return self._sorted(frame.assign(number=numbers), "number")

    def _sorted(self, frame: pd.DataFrame, *last: str) -> pd.DataFrame:
        """Rows in the order of data sets, backbones, arms and variants as they are declared."""
        orders: dict[str, list[str]] = {
            "dataset": list(self.study.all_datasets),
            "backbone": [NO_BACKBONE, *BACKBONES],
            "arm": list(ARMS),
            "variant": list(
                dict.fromkeys(variant_name(run.variant) for run in self.results.expected.values())
            ),
        }
        names = [name for name in (*orders, "seed", "split_seed") if name in frame]
        places = {name: {value: i for i, value in enumerate(own)} for name, own in orders.items()}

        def place(column: "pd.Series[Any]") -> "pd.Series[Any]":
            known = places.get(str(column.name))
            return column.map(known) if known else column

        return frame.sort_values([*names, *last], key=place, kind="stable", ignore_index=True)


_IDENTITY = ["run", "status", "dataset", "backbone", "arm", "variant", "seed", "split_seed"]


def frames(study: Study) -> Frames:
    """Read the results of a study.

    Raises:
        UserError: a results file is missing or cannot be used; the message says how to renew it.
    """
    return Frames(load(study))


def over_seeds(runs: pd.DataFrame, keys: list[str], values: list[str]) -> pd.DataFrame:
    """Mean, standard deviation (n - 1) and number over seeds of each value: `wauc`, `wauc_sd`, ...

    `status` is that of the group: stale if any run with numbers is, current if all are, else why
    there are no numbers. `seeds` counts runs with numbers, `expected` all.
    """
    groups = runs.groupby(keys, sort=False)
    columns: dict[str, Any] = {
        "status": groups["status"].agg(_status),
        "seeds": groups["status"].agg(lambda status: status.isin([CURRENT, STALE]).sum()),
        "expected": groups["status"].count(),
    }
    for value in values:
        columns |= {
            value: groups[value].mean(),
            f"{value}_sd": groups[value].std(),
            f"{value}_n": groups[value].count(),
        }
    return pd.DataFrame(columns).reset_index()


def _status(found: "pd.Series[str]") -> str:
    known = set(found)
    return next(status for status in (STALE, CURRENT, NOT_RUN, ABSENT) if status in known)


def _all_tasks(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each run of several tasks: the plain mean over them."""
    several = frame[frame.duplicated("run", keep=False)]
    if several.empty:
        return several
    metrics = [name for name in frame.columns if name not in (*_IDENTITY, "task")]
    # a metric that one task lacks has no mean over all
    means = several.groupby("run", sort=False)[metrics].mean(skipna=False)
    about = several.drop_duplicates("run")[_IDENTITY].assign(task=ALL_TASKS)
    return about.merge(means.reset_index(), "left", "run")


def _of_record(path: str, record: dict[str, Any]) -> dict[str, Any]:
    """What a table shows of a run's record; records of older code lack some of it."""
    parameters, made = record["parameters"], record["provenance"]
    visited, rows = record.get("rows_visited"), sum(record["rows"]["train"])
    return {
        "run": path,
        "parameters": parameters.get("used", parameters["total"]),
        "epochs_trained": None if visited is None else visited / rows,
        "domains": len(record["domains"]),
        "rows": sum(map(sum, record["rows"].values())),
        "machine": f"{made['machine']}, {made['device']}, threads: {made['threads']}",
        **{name: made[name] for name in COST},
        **record.get("tested", {}),
    }
