"""Paired comparisons of arms on the same test rows, the Bayes AUC of generated data, the splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from domain_experts import layout
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import TEST, read_split
from domain_experts.errors import UserError
from domain_experts.evaluation.auc import Array, Floats, auc_by_domain, auc_covariance
from domain_experts.evaluation.metrics import number, numbers, weighted_mean
from domain_experts.evaluation.population import population
from domain_experts.files import read_json, write_json
from domain_experts.finished import finished
from domain_experts.params import Study
from domain_experts.runs import Run

COMPARISONS = "comparisons.json"
REFERENCES = ("base", "mlora")
SPLIT = ("dataset", "split_seed")
PAIR = (*SPLIT, "backbone", "seed", "arm", "against")
Entries = dict[tuple[Any, ...], list[dict[str, Any]]]


@dataclass(frozen=True)
class _TestRows:
    """The n test rows of a split, in D domains."""

    labels: Array
    """(n, T)"""
    domain: Array
    """(n,)"""
    truth: Array | None
    """(n,) or (n, T) true probabilities of generated data."""
    domains: tuple[str, ...]
    tasks: tuple[str, ...]


def write_comparisons(study: Study) -> None:
    """Write results/<tier>/comparisons.json.

    `comparisons`: for each data set, backbone, seed and task, each arm against `base`, and
    MoE-MLoRA against MLoRA, where both have the same test rows: differences in AUC by domain and
    in WAUC, with DeLong's standard errors of the paired difference. Domains share no rows, so the
    variance of WAUC is the sum of the domains' variances times their squared weights.

    `bayes`: for generated data and each task, the AUC of the true probabilities on the test rows of
    each split.

    `populations`: for each split of finished runs, who is in it (`evaluation.population`).

    Of a partial study, what has data and predictions is compared; what the file says already of
    other finished runs is kept.

    Raises:
        UserError: predictions are missing, or do not fit the test rows.
    """
    path = layout.results(study.tier) / COMPARISONS
    old = read_json(path, "delete it") if study.partial and path.is_file() else {}
    old_pairs = _by_key(old.get("comparisons", []), PAIR)
    old_bayes = _by_key(old.get("bayes", []), SPLIT)
    comparisons: list[dict[str, Any]] = []
    bayes: list[dict[str, Any]] = []
    for split, on_split in groupby(sorted(_compared(study), key=_rows_key), key=_split):
        rows = _test_rows(study, *split)
        if rows is None:
            bayes += old_bayes.get(split, [])
        elif rows.truth is not None:
            names = dict(zip(SPLIT, split, strict=True))
            bayes += [names | entry for entry in _bayes(rows, rows.truth)]
        for alike, group in groupby(on_split, key=_rows_key):
            runs = {run.arm: run for run in group}
            pairs = _pair_names(sorted(runs))
            new = {}
            if rows is not None and pairs:
                new = _compare(_predictions(study, runs, rows), pairs, rows)
            for pair in pairs:
                key = (*alike, *pair)
                names = dict(zip(PAIR, key, strict=True))
                comparisons += [names | entry for entry in new.get(pair, old_pairs.get(key, []))]
    populations = _populations(study, old.get("populations", []))
    write_json(path, {"comparisons": comparisons, "bayes": bayes, "populations": populations})


def _populations(study: Study, old: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who is in each split of finished runs; of a partial study, as far as that is known."""
    known = _by_key(old, SPLIT)
    found = []
    for split in sorted({_split(run) for run in finished(study)}):
        interactions = _interactions(study, *split)
        if interactions is None:
            found += known.get(split, [])
            continue
        counted = population(interactions, read_split(study.tier, *split))
        found.append(dict(zip(SPLIT, split, strict=True)) | counted)
    return found


def _compared(study: Study) -> set[Run]:
    there = set(finished(study))
    return {
        run
        for runs in study.expected.values()
        for run in runs
        if run.spec.backbone and not run.variant and run in there
    }


def _rows_key(run: Run) -> tuple[str, int, str, int]:
    """Runs are compared if all of this agrees."""
    return run.dataset, run.split_seed, run.backbone, run.seed


def _split(run: Run) -> tuple[str, int]:
    """What fixes the test rows."""
    return run.dataset, run.split_seed


def _by_key(entries: list[dict[str, Any]], names: tuple[str, ...]) -> Entries:
    found: Entries = {}
    for entry in entries:
        found.setdefault(tuple(entry[name] for name in names), []).append(entry)
    return found


def _test_rows(study: Study, dataset: str, split_seed: int) -> _TestRows | None:
    """The test rows; none if the study is partial and they are not there."""
    interactions = _interactions(study, dataset, split_seed)
    if interactions is None:
        return None
    test = read_split(study.tier, dataset, split_seed) == TEST
    return _TestRows(
        interactions.labels[test],
        interactions.domain[test],
        None if interactions.truth is None else interactions.truth[test],
        interactions.schema.domains,
        interactions.schema.tasks,
    )


def _interactions(study: Study, dataset: str, split_seed: int) -> Interactions | None:
    """The rows of a split; none if the study is partial and they, or the split, are not there."""
    needed = layout.card(dataset), layout.split_file(study.tier, dataset, split_seed)
    if study.partial and not all(path.is_file() for path in needed):
        return None
    return Interactions.open(layout.interactions(dataset))


def _pair_names(arms: list[str]) -> list[tuple[str, str]]:
    return [(arm, other) for other in REFERENCES for arm in arms if _is_pair(arm, other, arms)]


def _is_pair(arm: str, other: str, arms: list[str]) -> bool:
    if other not in arms:
        return False
    return arm != other if other == "base" else arm == "moe_mlora"


def _compare(
    logits: Mapping[str, Array], pairs: list[tuple[str, str]], rows: _TestRows
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """For each pair of arms whose (n, T) logits are given: the comparison on each task."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {
        pair: [] for pair in pairs if logits.keys() >= set(pair)
    }
    arms = sorted({arm for pair in found for arm in pair})
    counts = np.bincount(rows.domain, minlength=len(rows.domains))
    for t, task in enumerate(rows.tasks if found else ()):
        scores = np.column_stack([logits[arm][:, t] for arm in arms])
        auc, covariance = auc_covariance(scores, rows.labels[:, t], rows.domain, len(rows.domains))
        for (arm, other), entries in found.items():
            i, j = arms.index(arm), arms.index(other)
            difference = auc[:, i] - auc[:, j]
            variance = covariance[:, i, i] + covariance[:, j, j] - 2 * covariance[:, i, j]
            # rounding may leave a variance of 0 slightly negative
            variance = np.maximum(variance, 0)
            entries.append(
                {
                    "task": task,
                    "domains": list(rows.domains),
                    "rows": counts.tolist(),
                    "auc_difference": numbers(difference),
                    "standard_error": numbers(np.sqrt(variance)),
                    "wauc_difference": number(weighted_mean(difference, counts)),
                    "wauc_standard_error": number(_wauc_error(difference, variance, counts)),
                }
            )
    return found


def _wauc_error(difference: Floats, variance: Floats, rows: Array) -> float:
    known = ~np.isnan(difference)
    weights = rows[known] / max(rows[known].sum(), 1)
    return float(np.sqrt(np.sum(weights**2 * variance[known]))) if known.any() else np.nan


def _predictions(study: Study, runs: Mapping[str, Run], rows: _TestRows) -> dict[str, Array]:
    """Arm -> its (n, T) logits, in the order of the test rows; a partial study may lack some."""
    paths = {
        arm: layout.run_artifacts(study.tier, run) / "predictions.npy" for arm, run in runs.items()
    }
    found = {}
    for arm, path in paths.items():
        if study.partial and not path.is_file():
            continue
        remedy = f"delete {layout.job_index(study.tier, runs[arm].job)} and run snakemake again"
        found[arm] = _load(path, remedy)
        if found[arm].shape != rows.labels.shape:
            raise UserError(
                f"{path} holds {found[arm].shape} predictions, but the test rows need "
                f"{rows.labels.shape}; {remedy}"
            )
    return found


def _load(path: Path, remedy: str) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None


def _bayes(rows: _TestRows, truth: Array) -> list[dict[str, Any]]:
    """By task, the AUC of the true probabilities: no model can expect more."""
    counts = np.bincount(rows.domain, minlength=len(rows.domains))
    found = []
    for task, likely, labels in zip(
        rows.tasks, truth.reshape(rows.labels.shape).T, rows.labels.T, strict=True
    ):
        auc = auc_by_domain(likely, labels, rows.domain, len(rows.domains))
        found.append(
            {
                "task": task,
                "domains": list(rows.domains),
                "auc": numbers(auc),
                "wauc": number(weighted_mean(auc, counts)),
            }
        )
    return found
