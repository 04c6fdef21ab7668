"""From logits and labels to numbers: `train → evaluate → results`.

One job evaluates a data set. Whatever is trained is evaluated, whether the rest is there or not.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache, partial
from itertools import groupby
from typing import Any

import pandas as pd

from domain_experts import layout
from domain_experts.arrays import read_array
from domain_experts.artifacts import PROVENANCE, RECORD, listed, read_run, remedy, run_file
from domain_experts.auc import Array
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import SPLITS, read_split
from domain_experts.errors import UserError
from domain_experts.evaluation.compare import Ranked, bayes, compare, own_errors, pairs, ranked
from domain_experts.evaluation.gates import gate_rows
from domain_experts.evaluation.metrics import evaluate
from domain_experts.evaluation.new_domain import held_out, new_domain_rows
from domain_experts.evaluation.population import population
from domain_experts.evaluation.projections import projection
from domain_experts.evaluation.rows import Row, Rows, by_domain
from domain_experts.files import read_json, sha256
from domain_experts.presence import absent_datasets
from domain_experts.results import (
    ABSENT,
    CURRENT,
    NOT_RUN,
    RECORD_COLUMNS,
    identity,
    of,
    read,
    table,
    write,
)
from domain_experts.runs import Job, Run
from domain_experts.study import Study

RESULTS, RECORDS = "results.parquet", "records.parquet"
TRIAL = r"/trial=\d+/seed=\d+$"
WHAT = ["run", "dataset"]
"""What a record is about."""


def evaluate_dataset(study: Study, dataset: str) -> None:
    """Write the numbers and records of a data set's finished runs, and of the data.

    Raises:
        UserError: a file of a finished run is missing, damaged, or does not fit the split's rows.
    """
    folder = layout.evaluated(study.tier, dataset)
    made = [run for run in finished(study) if run.dataset == dataset]
    rows: list[Row] = []
    records = []
    interactions = Interactions.open(layout.interactions(dataset)) if made else None
    splits = {}
    by_split = sorted(made, key=lambda run: run.split_seed)
    for split_seed, group in groupby(by_split, key=lambda run: run.split_seed):
        assert interactions is not None
        runs = list(group)
        split = read_split(study.tier, dataset, split_seed)
        splits[str(split_seed)] = sha256(layout.split_file(study.tier, dataset, split_seed))
        cut = {name: _rows(interactions, split == s) for s, name in enumerate(SPLITS)}
        about = {"dataset": dataset, "seed": split_seed, "split_seed": split_seed}
        facts = [*_population(interactions, split), *bayes(cut["test"])]
        rows += [about | {"status": CURRENT} | row for row in facts]
        test, logits, who_of = cut["test"], dict[Run, Array](), {}
        # pairs of a run follow each other, and few runs are references
        ranked_of = lru_cache(maxsize=32)(partial(_ranked, logits, test))
        for run in runs:
            record = _record(study, run)
            key = record["provenance"]["key"]
            settings = json.dumps(record["settings"], sort_keys=True)
            who = identity(run) | {"settings": settings, "key": key, "status": CURRENT}
            for name in ("validation", "test"):
                scores = _logits(study, run, name, cut[name])
                found = [
                    *_numbers(run, scores, cut[name]),
                    *new_domain_rows(run, scores, cut[name], record),
                ]
                rows += [who | {"split": name} | row for row in found]
            rows += [who | row for row in gate_rows(record)]
            logits[run], who_of[run] = scores, who
            rows += [who | {"split": "test"} | row for row in own_errors(ranked_of(run), test)]
            record["projection"] = projection(study, run, record)
            records.append(_stored(run.path.as_posix(), dataset, key, record))
        rows += _compared(study, ranked_of, test, who_of)
    if interactions is not None:
        schema = interactions.schema
        data = {
            "domains": schema.domains,
            "tasks": schema.tasks,
            "planted_groups": interactions.planted_groups,
            "provenance": interactions.card["provenance"],
            "splits": splits,
        }
        records.append(_stored("", dataset, interactions.card["content"], data))
    write(table(rows), folder / RESULTS)
    write(table_of_records(records), folder / RECORDS, RECORD_COLUMNS)


def _ranked(logits: Mapping[Run, Array], rows: Rows, run: Run) -> Ranked:
    return ranked(logits[run], rows)


def _compared(
    study: Study, ranked_of: Callable[[Run], Ranked], test: Rows, about: Mapping[Run, Row]
) -> Iterator[Row]:
    """Differences between the runs of one split, as far as experiments compare them."""
    for (run, other), named in pairs(study, about).items():
        new = held_out(run) if held_out(run) == held_out(other) else None
        against = about[run] | {"split": "test", "against": other.path.as_posix()}
        for row in compare(ranked_of(run), ranked_of(other), test, new, domains=named):
            yield against | row


def merge(study: Study) -> None:
    """Write the results of a tier: what is evaluated, and of other runs what was known before.

    Raises:
        UserError: a results file cannot be used; nothing is overwritten then.
    """
    folders = [layout.evaluated(study.tier, dataset) for dataset in study.all_datasets]
    there = [folder for folder in folders if (folder / RESULTS).is_file()]
    trials, searches = searched(study)
    numbers = [*(read(folder / RESULTS) for folder in there), trials]
    records = [*(read(folder / RECORDS, RECORD_COLUMNS) for folder in there), searches]
    new_records = pd.concat([table_of_records([]), *records])
    path, records_path = layout.results_file(study.tier), layout.records_file(study.tier)
    if path.is_file():
        old, old_records = read(path), read(records_path, RECORD_COLUMNS)
        known = pd.MultiIndex.from_frame(new_records[WHAT])
        # of a trial its search is the record
        about = old[WHAT].assign(run=old["run"].str.replace(TRIAL, "", regex=True))
        kept = ~pd.MultiIndex.from_frame(about).isin(known) & (old["metric"] != "")
        numbers.insert(0, old[kept])
        kept = ~pd.MultiIndex.from_frame(old_records[WHAT]).isin(known)
        new_records = pd.concat([old_records[kept], new_records])
    frame = pd.concat([table([]), *numbers], ignore_index=True)
    frame = _in_order(study, pd.concat([frame, _without_numbers(study, frame)], ignore_index=True))
    results = of(study, frame, new_records)
    about_data = results.facts["status"].reindex(frame.index)
    of_search = {search.path.as_posix(): status for search, status in results.searches.items()}
    about_search = frame["run"].str.replace(TRIAL, "", regex=True).map(of_search)
    of_run = frame["run"].map(results.status)
    frame["status"] = of_run.fillna(about_data).fillna(about_search).fillna(frame["status"])
    # results come last: where they are their records are, whatever ends this process
    write(new_records.sort_values(["dataset", "run"]), records_path, RECORD_COLUMNS)
    write(frame, path)


def searched(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Validation values of the trials of searches that have ended, and the searches' records."""
    rows, records = [], []
    for search in study.searches:
        path = layout.search_file(study.tier, search)
        if not path.is_file():
            continue
        record = read_json(path, "delete it and run snakemake, which makes it again")
        name = search.path.as_posix()
        records.append(_stored(name, search.dataset, record["code"], record))
        for n, trial in enumerate(record["trials"], start=1):
            if trial["arm"] != search.arm:
                continue
            settings = tuple(trial["settings"].items())
            for seed, value in trial["seeds"].items():
                run = study.trying(search, settings).tuned(search, int(seed))
                who = identity(run) | {"run": f"{name}/trial={n}/seed={seed}", "status": CURRENT}
                metric = {"metric": record["asked"]["metric"], "value": value}
                rows.append(who | {"split": "validation", "key": record["code"]} | metric)
    return table(rows), table_of_records(records)


def _without_numbers(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each expected run that has no numbers, which says why."""
    absent, there = absent_datasets(study), set(frame["run"])
    read_before = set(frame["dataset"])
    return table(
        identity(run) | {"status": ABSENT if run.dataset in absent - read_before else NOT_RUN}
        for run in study.expected_runs
        if run.path.as_posix() not in there
    )


def _in_order(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by run, in the study's order, what it does not expect last; facts about data first."""
    place = {run.path.as_posix(): i for i, run in enumerate(study.expected_runs)} | {"": -1}
    order = frame["run"].map(lambda run: place.get(run, len(place)))
    datasets = {name: i for i, name in enumerate(study.all_datasets)}
    data = frame["dataset"].map(lambda name: datasets.get(name, len(datasets)))
    keys = frame.assign(_run=order, _data=data)
    keys = keys.sort_values(["_run", "_data", "run", "split_seed"], kind="stable")
    return keys.drop(columns=["_run", "_data"]).reset_index(drop=True)


def finished(study: Study) -> list[Run]:
    """The expected runs that are trained, with all that they start from.

    Raises:
        UserError: a job's index is damaged.
    """
    trained = cache(lambda job: _trained(study, job))

    def is_there(run: Run) -> bool:
        return run.path.as_posix() in trained(run.job) and all(map(is_there, study.upstream(run)))

    return [run for run in study.expected_runs if is_there(run)]


def _trained(study: Study, job: Job) -> set[str]:
    return set(listed(study.tier, job)) if layout.job_index(study.tier, job).is_file() else set()


def table_of_records(rows: list[dict[str, str]]) -> pd.DataFrame:
    """Records as a frame."""
    return pd.DataFrame(rows, columns=RECORD_COLUMNS.names).astype("str")


def _stored(run: str, dataset: str, key: str, record: Mapping[str, Any]) -> dict[str, str]:
    text = json.dumps(record, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return {"run": run, "dataset": dataset, "key": key, "record": text}


def _record(study: Study, run: Run) -> dict[str, Any]:
    """What training says of a run: record.json, and run.json under `provenance`."""
    record: dict[str, Any] = read_run(study.tier, run, RECORD)
    provenance = read_run(study.tier, run, PROVENANCE)
    settings = provenance.pop("settings")
    return record | {"settings": settings, "provenance": provenance}


def _rows(interactions: Interactions, chosen: Array) -> Rows:
    truth, user = interactions.truth, interactions.user
    return Rows(
        interactions.labels[chosen],
        interactions.domain[chosen],
        None if truth is None else truth[chosen],
        interactions.schema.domains,
        interactions.schema.tasks,
        None if user is None else user[chosen],
    )


def _logits(study: Study, run: Run, split: str, rows: Rows) -> Array:
    """(n, T) logits of a run."""
    path = run_file(study.tier, run, f"{split}.npy")
    logits = read_array(path, remedy(study.tier, run.job))
    if logits.shape != rows.labels.shape:
        raise UserError(
            f"{path} holds {logits.shape} logits, but the {split} rows need {rows.labels.shape}; "
            f"{remedy(study.tier, run.job)}"
        )
    return logits


def _numbers(run: Run, logits: Array, rows: Rows) -> Iterator[Row]:
    """The metrics of a run on the rows of a split; what is undefined has no row."""
    binned = run.settings.protocol.binned_auc
    found = evaluate(logits, rows.labels, rows.domain, rows.domains, rows.tasks, binned)
    for task, metrics in found.items():
        for name, values in metrics.pop("by_domain").items():
            yield from by_domain(rows.domains, values, metric=name, task=task)
        for name, value in metrics.items():
            if name != "left_out" and value is not None:
                yield {"task": task, "metric": name, "value": value}


def _population(interactions: Interactions, split: Array) -> Iterator[Row]:
    """Who is in the splits, as rows about data."""
    found = population(interactions, split)
    domains = interactions.schema.domains
    for metric in ("users", "items", "test_users", "seen_test_users"):
        yield from by_domain(domains, found[metric], metric=metric)
    for metric in ("test_users", "seen_test_users"):
        yield {"metric": metric, "value": found[f"all_{metric}"]}
    for name, counts in found["rows"].items():
        yield from by_domain(domains, counts, metric="rows", split=name)
    for task, counts in found["positives"].items():
        yield from by_domain(domains, counts, metric="positives", task=task)
