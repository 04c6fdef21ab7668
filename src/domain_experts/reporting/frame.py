"""The runs of a study as tidy frames: all that tables, figures and report are made of."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from domain_experts.registry import ARMS, BACKBONES, BEST_FLOOR, NO_BACKBONE
from domain_experts.reporting.columns import column
from domain_experts.results import (
    ABSENT,
    CURRENT,
    NOT_RUN,
    STALE,
    STATUSES,
    Results,
    identity,
    load,
)
from domain_experts.runs import SEARCH, Run
from domain_experts.study import Study

KEYS = ["dataset", "task", "backbone", "arm", "variant"]
"""What tells two rows of a table apart; their runs differ by seed alone."""
ALL_TASKS = "all tasks"
WITH_NUMBERS = (CURRENT, STALE)
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
    def about(self) -> pd.DataFrame:
        """A row for each expected run: what it is, and its status.

        Rows go by data set, backbone, arm and variant as they are declared, and by seed.
        """
        expected = self.results.expected.values()
        datasets, backbones, arms = self.study.all_datasets, [NO_BACKBONE, *BACKBONES], [*ARMS]
        variants = [*dict.fromkeys(run.variant for run in expected)]

        def place(run: Run) -> tuple[int, ...]:
            model = backbones.index(run.backbone), arms.index(run.arm), variants.index(run.variant)
            return datasets.index(run.dataset), *model, run.seed, run.split_seed

        rows = [identity(run) for run in sorted(expected, key=place)]
        frame = pd.DataFrame(rows, columns=[name for name in _IDENTITY if name != "status"])
        frame.insert(1, "status", frame["run"].map(self.results.status))
        return frame

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each expected run, with a column for each test metric and fact.

        Of several tasks a metric is the plain mean. Rows go by data set, backbone, arm, variant
        and seed.
        """
        tasks = {name: data["tasks"] for name, data in self.results.data.items()}
        named = {name: own[0] if len(own) == 1 else ALL_TASKS for name, own in tasks.items()}
        numbers = self._numbers(test=True, by_domain=False)
        losses = self.domains.groupby(["run", "dataset", "task"])["log_loss"].mean()
        macro = losses.dropna().to_frame("value").reset_index().assign(metric="macro_log_loss")
        metrics = self._over_tasks(pd.concat([numbers, macro]))
        records = pd.DataFrame(
            [_of_record(path, record) for path, record in self._records.items()] or [{"run": ""}]
        )
        records = records.reindex(columns=[*dict.fromkeys([*RECORD, *COST, *records])])
        facts = self.results.facts[self.results.facts["domain"] == ""]
        keys = ["dataset", "split_seed"]
        users = facts.pivot_table("value", keys, "metric").reindex(
            columns=["seen_test_users", "test_users"]
        )
        seen = (users["seen_test_users"] / users["test_users"]).rename("seen_users")
        bayes = facts[facts["metric"] == "bayes_wauc"].rename(columns={"value": "bayes_wauc"})
        frame = self.about.assign(task=self.about["dataset"].map(named).fillna(""))
        for other, on in (
            (metrics.reset_index(), ["run"]),
            (records, ["run"]),
            (seen.reset_index(), keys),
            (bayes[[*keys, "task", "bayes_wauc"]], [*keys, "task"]),
        ):
            frame = frame.merge(other, "left", on)
        return frame

    @cached_property
    def domains(self) -> pd.DataFrame:
        """A row for each run with numbers, task and domain, with a column for each test metric.

        `number` is the domain's, from 1.
        """
        numbers = self._numbers(test=True, by_domain=True)
        keys = ["run", "task", "domain"]
        frame = numbers.pivot(index=keys, columns="metric", values="value").reset_index()
        frame = frame.reindex(columns=[*dict.fromkeys([*keys, "auc", "log_loss", *frame.columns])])
        frame = self.about.merge(frame, on="run")
        return frame.merge(self._numbered, on=["dataset", "domain"])

    @cached_property
    def data(self) -> pd.DataFrame:
        """A row for each data set and domain, of the split that most of its runs use.

        Columns: users, items, rows by split; `seen_users`, the share of test users who have
        training rows; `positive_rate` of all rows, the mean over tasks, and `positive_rate T1`,
        ..., that of the first task, ...
        """
        facts = self.results.facts[self.results.facts["domain"] != ""]
        # splits of runs that have no numbers yet have no facts
        known = self.about.merge(facts[["dataset", "split_seed"]].drop_duplicates())
        usual = known.groupby("dataset")["split_seed"].agg(lambda s: s.mode().iloc[0])
        facts = facts[facts["split_seed"] == facts["dataset"].map(usual)]
        keys, names = ["dataset", "status", "split_seed", "domain"], ["train", "validation", "test"]
        counts = ["users", "items", "test_users", "seen_test_users"]
        tasks = {name: data["tasks"] for name, data in self.results.data.items()}
        plain = facts[facts["metric"].isin(counts)]
        rows = facts[facts["metric"] == "rows"].assign(metric=lambda frame: frame["split"])
        wide = pd.concat([plain, rows]).pivot(index=keys, columns="metric", values="value")
        positives = facts[facts["metric"] == "positives"]
        place = [
            f"positive_rate T{tasks[dataset].index(task) + 1}"
            for dataset, task in zip(positives["dataset"], positives["task"], strict=True)
        ]
        by_task = positives.assign(place=place).pivot(index=keys, columns="place", values="value")
        wide = wide.reindex(columns=[*names, *counts])
        wide["rows"] = wide[names].sum(axis=1)
        wide["seen_users"] = wide.pop("seen_test_users") / wide.pop("test_users")
        by_task = by_task.div(wide["rows"], axis=0)
        wide = wide.assign(positive_rate=by_task.mean(axis=1)).join(by_task)
        # rows in the order of domains
        return self._numbered.merge(wide.reset_index(), on=["dataset", "domain"])

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Learning curves: a row for each run, leg, lane and epoch."""
        columns = ["phase", "lane", "epoch", "train_loss", "validation_auc", "best", "fusion"]
        return self.entries("curve", columns)

    @cached_property
    def lanes(self) -> pd.DataFrame:
        """How each training within a run ended: a row for each run and lane of its record."""
        return self.entries("lanes", LANE)

    @cached_property
    def validation(self) -> pd.DataFrame:
        """A row for each run with numbers, with a column for each metric on validation rows."""
        return self._over_tasks(self._numbers(test=False, by_domain=False))

    def of(self, experiment: str) -> pd.DataFrame:
        """The rows of `runs` that an experiment asks for."""
        own = {run.path.as_posix() for run in self.study.expected.get(experiment, ())}
        return self.runs[self.runs["run"].isin(own)].reset_index(drop=True)

    def gains(self, experiment: str, metric: str | None = None) -> pd.DataFrame:
        """Differences in a metric, by default the experiment's, to its references.

        Both sides share seed and split.

        The best floor is the one whose mean of the metric on validation rows, over the seeds that
        it is run with, is best; a metric of which `columns` does not say what is better has none.

        A row for each run and reference: KEYS, `seed`, `status`, `over` (the reference's name),
        `reference` (its `arm/backbone`: of `best_floor` which floor it is), `gain` and, where they
        are stored, its standard errors on the test rows: `se`, which takes rows as independent, and
        `user_se`, which takes users so.
        """
        key = experiment, metric or self.study.params.experiments[experiment].metric
        if key not in self._differences:
            self._differences[key] = self._gains(*key)
        return self._differences[key].copy()

    @cached_property
    def _differences(self) -> dict[tuple[str, str], pd.DataFrame]:
        """What `gains` gave, by experiment and metric: tables, answer and verdicts ask alike."""
        return {}

    def _gains(self, experiment: str, metric: str) -> pd.DataFrame:
        pairs = pd.DataFrame(
            [
                (run.path.as_posix(), other.path.as_posix(), name)
                for run, other, name in self.study.comparisons(experiment)
            ],
            columns=["run", "other", "over"],
            dtype="str",
        )
        runs = self.runs.reindex(columns=[*_IDENTITY, "task", metric])
        others = runs[["run", "status", "arm", "backbone", "variant", metric]].add_prefix("other_")
        frame = pairs.merge(runs, "left", "run")
        frame = frame.merge(others, "left", left_on="other", right_on="other_run")
        frame = frame[self._is_best_floor(frame, metric) | (frame["over"] != BEST_FLOOR)]
        frame = frame.reset_index(drop=True)
        frame["reference"] = frame["other_arm"] + "/" + frame["other_backbone"]
        frame["gain"] = frame[metric] - frame[f"other_{metric}"]
        stale = (frame["status"] == STALE) | (frame["other_status"] == STALE)
        frame["status"] = frame["status"].mask(stale, STALE)
        keys = ["run", "other", "task"]
        for name in ("se", "user_se"):
            errors = self._paired.get(f"{metric}_difference_{name}", self._no_pairs)
            frame = frame.merge(errors.rename(columns={"value": name}), "left", keys)
        return frame

    @cached_property
    def _paired(self) -> dict[str, pd.DataFrame]:
        """By metric the numbers that are about two runs: run, other, task and value."""
        numbers = self.results.numbers
        pairs = numbers.loc[numbers["against"] != "", ["metric", "run", "against", "task", "value"]]
        pairs = pairs.rename(columns={"against": "other"})
        pairs["task"] = pairs["task"].replace("", ALL_TASKS)
        return {str(name): own for name, own in pairs.set_index("metric").groupby(level=0)}

    @cached_property
    def _no_pairs(self) -> pd.DataFrame:
        words = dict.fromkeys(["run", "other", "task"], "str")
        return pd.DataFrame(columns=[*words, "value"]).astype(words | {"value": "float64"})

    def _is_best_floor(self, pairs: pd.DataFrame, metric: str) -> "pd.Series[bool]":
        """Which pairs have the floor that is best on validation rows of their data set.

        Runs whose settings were searched have a best floor of their own.
        """
        pairs = pairs.assign(searched=pairs["variant"].str.startswith(f"{SEARCH}="))
        group = ["dataset", "searched"]
        keys, better = [*group, "other_arm", "other_variant"], column(metric).better
        floors = pairs.loc[pairs["over"] == BEST_FLOOR, [*keys, "other"]].drop_duplicates()
        known = self.validation.reindex(columns=[metric])
        values = floors.join(known, "other").groupby(keys)[metric].mean().dropna()
        values = values * {"higher": 1, "lower": -1, None: np.nan}[better]
        best = set(values.dropna().groupby(group).idxmax())
        return pd.Series([key in best for key in pairs[keys].itertuples(index=False, name=None)])

    def record(self, path: str) -> dict[str, Any]:
        """The record of a run that has numbers."""
        return self._records[path]

    @cached_property
    def _records(self) -> dict[str, dict[str, Any]]:
        """Records of the expected runs that have numbers, in their order."""
        there = set(self.results.numbers["run"])
        known = self.results.records
        return {path: known[path] for path in self.results.expected if path in there}

    def entries(self, part: str, columns: Iterable[str]) -> pd.DataFrame:
        """A part of the records, a row for each of its entries."""
        rows = [
            {"run": path} | entry
            for path, record in self._records.items()
            for entry in record.get(part, ())
        ]
        frame = pd.DataFrame(rows, columns=["run", *columns])
        return frame.merge(self.about, "left", "run")

    def _numbers(self, test: bool, by_domain: bool) -> pd.DataFrame:
        frame = self.results.numbers
        chosen = (frame["against"] == "") & ((frame["domain"] != "") == by_domain)
        return frame[chosen & ((frame["split"] == "test") == test)]

    def _over_tasks(self, numbers: pd.DataFrame) -> pd.DataFrame:
        """Plain means over tasks by run, a column a metric; of what a task lacks there is none."""
        tasks = {name: len(data["tasks"]) for name, data in self.results.data.items()}
        # some numbers, such as shares of a gate, all tasks have in common
        tasks_of = numbers["dataset"].map(tasks).where(numbers["task"] != "", 1)
        groups = numbers.assign(tasks=tasks_of).groupby(["run", "metric"])
        whole = groups.size() == groups["tasks"].first()
        found = groups["value"].mean()[whole].unstack()
        needed = (experiment.metric for experiment in self.study.params.experiments.values())
        return found.reindex(columns=[*dict.fromkeys([*found, *needed, "binned_wauc"])])

    @cached_property
    def _numbered(self) -> pd.DataFrame:
        """A row for each data set and domain, with its `number` from 1."""
        rows = [
            (dataset, domain, number)
            for dataset in self.study.all_datasets
            if dataset in self.results.data
            for number, domain in enumerate(self.results.data[dataset]["domains"], start=1)
        ]
        return pd.DataFrame(rows, columns=["dataset", "domain", "number"])


_FIRST = (STALE, CURRENT, NOT_RUN, ABSENT)
"""The status of several runs is the first that one of them has."""
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
    there are no numbers. `seeds` counts runs with numbers, `expected` all. A value that no run has
    is NaN.
    """
    wanted = [*dict.fromkeys(values)]
    runs = runs.reindex(columns=[*dict.fromkeys([*runs.columns, *wanted])])
    order = runs["status"].map({status: place for place, status in enumerate(_FIRST)})
    own = runs[[*keys, *wanted]].assign(first=order, made=runs["status"].isin(WITH_NUMBERS))
    groups = own.groupby(keys, sort=False)
    columns: dict[str, Any] = {
        "status": groups["first"].min().map(dict(enumerate(_FIRST))),
        "seeds": groups["made"].sum(),
        "expected": groups["first"].count(),
    }
    if wanted:
        mean, sd, n = groups[wanted].mean(), groups[wanted].std(), groups[wanted].count()
        for value in wanted:
            columns |= {value: mean[value], f"{value}_sd": sd[value], f"{value}_n": n[value]}
    return pd.DataFrame(columns).reset_index()


def made(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that have numbers."""
    return runs[runs["status"].isin(WITH_NUMBERS)]


def status_counts(found: Iterable[str]) -> dict[str, int]:
    """How many runs have which status, of all that there are."""
    counts = Counter(found)
    return {status: counts[status] for status in STATUSES}


def status_text(found: Iterable[str]) -> str:
    """How many runs have which status, in words."""
    return ", ".join(f"{n:,} {status}" for status, n in status_counts(found).items() if n)


def over_status(found: "pd.Series[str]") -> str:
    """Status of several runs: stale if one is, current if one is, else why there are no numbers."""
    known = set(found)
    return next(status for status in _FIRST if status in known)


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
