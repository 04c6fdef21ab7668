"""Numbers of the results made again, by scikit-learn, from the logits that are stored."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from domain_experts import layout
from domain_experts.arrays import read_array
from domain_experts.artifacts import listed, remedy
from domain_experts.auc import Array
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import SPLITS, read_split
from domain_experts.errors import UserError
from domain_experts.files import read_json, sha256
from domain_experts.results import Results, load
from domain_experts.runs import Job
from domain_experts.study import Study

TOLERANCE = 1e-12
"""Largest difference, absolute or relative, of numbers that are called the same."""
DIFFERENCE = "_difference"


class Rows(NamedTuple):
    """A task's predictions of n rows."""

    logits: Array
    """(n,)"""
    labels: Array
    """(n,)"""
    domain: Array
    """(n,) ids of domains."""

    def of(self, domain: int) -> "Rows":
        """The rows of a domain."""
        return Rows(*(part[self.domain == domain] for part in self))


def _auc(rows: Rows) -> float:
    return float(roc_auc_score(rows.labels, rows.logits))


def _aucs(rows: Rows) -> tuple[list[float], list[int]]:
    """AUC and size of each domain that has rows of both classes."""
    own = [rows.of(domain) for domain in np.unique(rows.domain)]
    both = [part for part in own if len(np.unique(part.labels)) == 2]
    return [_auc(part) for part in both], [len(part.labels) for part in both]


def _wauc(rows: Rows) -> float:
    aucs, sizes = _aucs(rows)
    return float(np.average(aucs, weights=sizes))


def _macro_auc(rows: Rows) -> float:
    return float(np.mean(_aucs(rows)[0]))


def _log_loss(rows: Rows) -> float:
    # of both classes, since 1 - p would lose the digits of a small rest
    probabilities = np.column_stack([expit(-rows.logits), expit(rows.logits)])
    return float(log_loss(rows.labels, probabilities, labels=[0, 1]))


def _calibration(rows: Rows) -> float:
    return float(np.mean(expit(rows.logits)) / np.mean(rows.labels))


AGAIN: dict[str, Callable[[Rows], float]] = {
    "auc": _auc,
    "wauc": _wauc,
    "macro_auc": _macro_auc,
    "log_loss": _log_loss,
    "calibration": _calibration,
}
"""Metrics that are made again, and differences of the first three between two runs."""
VERIFIED = (*AGAIN, *(name + DIFFERENCE for name in ("auc", "wauc", "macro_auc")))


@dataclass(frozen=True)
class Check:
    """A row of the results beside what its files give."""

    row: Mapping[Hashable, Any]
    again: float
    damaged: tuple[str, ...]
    """Files whose checksum is not that of the job's index."""

    @property
    def same(self) -> bool:
        near = math.isclose(self.row["value"], self.again, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        return near and not self.damaged


@dataclass(frozen=True)
class Verification:
    """A sample of the results, verified, and why the numbers of other runs cannot be."""

    checks: list[Check]
    runs: int
    """Runs whose numbers can be verified."""
    others: Counter[str]
    """How many runs with numbers cannot, by reason."""


def print_verification(study: Study, sample: int, seed: int) -> bool:
    """Verify a random sample of the results and print it; whether all numbers are the same.

    Raises:
        UserError: as `verify`.
    """
    found, console = verify(study, sample, seed), Console(highlight=False)
    table = Table("Number", "Stored", "Made again", "Difference", "")
    for check in found.checks:
        row = check.row
        about = (row["split"], row["task"], row["domain"], row["metric"])
        against = f"against {row['against']}" if row["against"] else ""
        name = "\n".join([row["run"], *filter(None, [against]), " / ".join(filter(None, about))])
        said = "same" if check.same else "; ".join(["DIFFERS", *check.damaged])
        numbers = (f"{row['value']:.12f}", f"{check.again:.12f}")
        table.add_row(name, *numbers, f"{check.again - row['value']:.1e}", said)
    console.print(table)
    same = sum(check.same for check in found.checks)
    console.print(
        f"{same} of {len(found.checks)} numbers are the same, drawn from {found.runs} runs whose "
        f"files are here (seed {seed}; {', '.join(VERIFIED)}).",
        soft_wrap=True,
    )
    for reason, count in found.others.items():
        console.print(f"Not verified: {count} runs, {reason}.", soft_wrap=True)
    return same == len(found.checks)


def verify(study: Study, sample: int, seed: int) -> Verification:
    """Make a random sample of the results' VERIFIED numbers again.

    The numbers of runs whose logits, data or split are not here, or are others than those that the
    number was made of, are not drawn; they are counted.

    Args:
        study: whose results.
        sample: how many numbers; all, if there are fewer.
        seed: of the choice.

    Raises:
        UserError: there is no run whose numbers could be verified; a results file is missing or
            cannot be used.
    """
    results = load(study)
    files = _Files(results)
    numbers = results.numbers[results.numbers["metric"].isin(VERIFIED)]
    why = {run: files.without(run) for run in numbers["run"].unique()}
    usable = {run for run, reason in why.items() if reason is None}
    drawn_from = numbers[
        numbers["run"].isin(usable) & (numbers["against"].isin(usable) | (numbers["against"] == ""))
    ]
    others = Counter(reason for reason in why.values() if reason is not None)
    if drawn_from.empty:
        told = "; ".join(f"{reason}: {count} runs" for reason, count in others.items())
        raise UserError(
            f"no number of tier {study.tier} can be verified ({told or 'it has none'}); bring its "
            f"predictions with `domain-experts pull --tier {study.tier}`, or make them with "
            f"`snakemake --config tier={study.tier}`"
        )
    chosen = drawn_from.sample(min(sample, len(drawn_from)), random_state=seed).sort_index()
    checks = [files.check(row) for row in chosen.to_dict("records")]
    return Verification(checks, len(usable), others)


@dataclass(frozen=True)
class _Files:
    """Predictions, data and splits of a tier's runs, as far as they are here."""

    results: Results

    @property
    def tier(self) -> str:
        return self.results.study.tier

    def _index(self, job: Job) -> dict[str, dict[str, Any]]:
        return listed(self.tier, job) if layout.job_index(self.tier, job).is_file() else {}

    def without(self, path: str) -> str | None:
        """Why the numbers of a run cannot be made again; None if they can."""
        run, made = self.results.expected[path], self.results.records[path]["provenance"]
        entry, folder = self._index(run.job).get(path), layout.artifacts(self.tier) / path
        if entry is None or not all((folder / f"{name}.npy").is_file() for name in SPLITS[1:]):
            return "predictions not here"
        if entry.get("key") != made["key"]:
            return "predictions here of another training"
        card = layout.card(run.dataset)
        split = layout.split_file(self.tier, run.dataset, run.split_seed)
        if not (card.is_file() and split.is_file()):
            return "data or split not here"
        here = read_json(card, "prepare it again")["content"], sha256(split)
        return "data or split here are others" if here != (made["data"], made["split"]) else None

    def check(self, row: Mapping[Hashable, Any]) -> Check:
        """Make a number again."""
        plain = row["metric"].removesuffix(DIFFERENCE)
        paths = [row["run"], *filter(None, [row["against"]])]
        if damaged := [file for path in paths for file in self._damaged(path, row["split"])]:
            return Check(row, math.nan, tuple(damaged))
        about = self.results.data[row["dataset"]]
        tasks = [row["task"]] if row["task"] else about["tasks"]
        values = []
        for path, task in itertools.product(paths, tasks):
            rows = self._rows(path, row["split"], about["tasks"].index(task))
            own = rows.of(about["domains"].index(row["domain"])) if row["domain"] else rows
            values.append(AGAIN[plain](own))
        of_runs = np.reshape(values, (len(paths), len(tasks))).mean(axis=1)
        again = of_runs[0] - of_runs[1:].sum()
        return Check(row, float(again), ())

    @cached_property
    def _rows(self) -> Callable[[str, str, int], Rows]:
        """A task's rows of a split, with the logits of a run: a few of them are kept."""

        def read(path: str, split: str, task: int) -> Rows:
            run = self.results.expected[path]
            interactions = Interactions.open(layout.interactions(run.dataset))
            chosen = read_split(self.tier, run.dataset, run.split_seed) == SPLITS.index(split)
            file = layout.artifacts(self.tier) / path / f"{split}.npy"
            logits = read_array(file, remedy(self.tier, run.job))
            labels, domain = interactions.labels[chosen, task], interactions.domain[chosen]
            return Rows(logits[:, task].astype(np.float64), np.asarray(labels), np.asarray(domain))

        return lru_cache(maxsize=8)(read)

    def _damaged(self, path: str, split: str) -> Iterator[str]:
        """The file of predictions, if it is not the one that the job's index names."""
        kept = self._index(self.results.expected[path].job)[path]["files"]
        file = layout.artifacts(self.tier) / path / f"{split}.npy"
        if kept.get(file.name) != sha256(file):
            yield f"{file} is not the file of the index"
