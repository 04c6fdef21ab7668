"""Paired comparisons of arms on the same test rows, and the Bayes AUC of generated data."""

from collections.abc import Iterator
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
from domain_experts.files import write_json
from domain_experts.params import Study
from domain_experts.runs import Run

COMPARISONS = "comparisons.json"
REFERENCES = ("base", "mlora")


def write_comparisons(study: Study) -> None:
    """Write results/<tier>/comparisons.json.

    `comparisons`: for each data set, backbone, seed and task, each arm against `base`, and
    MoE-MLoRA against MLoRA, where both have the same test rows: differences in AUC by domain and
    in WAUC, with DeLong's standard errors of the paired difference. Domains share no rows, so the
    variance of WAUC is the sum of the domains' variances times their squared weights.

    `bayes`: for generated data, the AUC of the true probabilities on the test rows of each split.

    Raises:
        UserError: predictions are missing, or do not fit the test rows.
    """
    runs = sorted(set(_compared(study)), key=_rows_key)
    comparisons: list[dict[str, Any]] = []
    bayes: list[dict[str, Any]] = []
    for (dataset, split_seed), on_split in groupby(runs, key=lambda r: _rows_key(r)[:2]):
        interactions = Interactions.open(layout.interactions(dataset))
        test = read_split(study.tier, dataset, split_seed) == TEST
        labels, domain = interactions.labels[test], interactions.domain[test]
        if interactions.truth is not None:
            bayes.append(
                {"dataset": dataset, "split_seed": split_seed}
                | _bayes(interactions.truth[test], labels[:, 0], domain, interactions)
            )
        for _, alike in groupby(on_split, key=_rows_key):
            comparisons += _pairs(study.tier, list(alike), labels, domain, interactions)
    write_json(
        layout.results(study.tier) / COMPARISONS, {"comparisons": comparisons, "bayes": bayes}
    )


def _compared(study: Study) -> Iterator[Run]:
    for runs in study.expected.values():
        for run in runs:
            if run.spec.backbone and not run.variant and run.dataset not in study.leave_out:
                yield run


def _rows_key(run: Run) -> tuple[str, int, str, int]:
    """Runs are compared if all of this agrees; the first two fix the test rows."""
    return run.dataset, run.split_seed, run.backbone, run.seed


def _pairs(
    tier: str, runs: list[Run], labels: Array, domain: Array, interactions: Interactions
) -> Iterator[dict[str, Any]]:
    """Comparisons of runs of one data set, split, backbone and seed."""
    arms = sorted(run.arm for run in runs)
    pairs = [(arm, other) for other in REFERENCES for arm in arms if _is_pair(arm, other, arms)]
    if not pairs:
        return
    predictions = {run.arm: _predictions(tier, run, labels.shape) for run in runs}
    domains = interactions.schema.domains
    rows = np.bincount(domain, minlength=len(domains))
    for t, task in enumerate(interactions.schema.tasks):
        scores = np.column_stack([predictions[arm][:, t] for arm in arms])
        auc, covariance = auc_covariance(scores, labels[:, t], domain, len(domains))
        for arm, other in pairs:
            i, j = arms.index(arm), arms.index(other)
            difference = auc[:, i] - auc[:, j]
            variance = covariance[:, i, i] + covariance[:, j, j] - 2 * covariance[:, i, j]
            # rounding may leave a variance of 0 slightly negative
            variance = np.maximum(variance, 0)
            yield {
                "dataset": runs[0].dataset,
                "backbone": runs[0].backbone,
                "seed": runs[0].seed,
                "split_seed": runs[0].split_seed,
                "task": task,
                "arm": arm,
                "against": other,
                "domains": list(domains),
                "rows": rows.tolist(),
                "auc_difference": numbers(difference),
                "standard_error": numbers(np.sqrt(variance)),
                "wauc_difference": number(weighted_mean(difference, rows)),
                "wauc_standard_error": number(_wauc_error(difference, variance, rows)),
            }


def _is_pair(arm: str, other: str, arms: list[str]) -> bool:
    if other not in arms:
        return False
    return arm != other if other == "base" else arm == "moe_mlora"


def _wauc_error(difference: Floats, variance: Floats, rows: Array) -> float:
    known = ~np.isnan(difference)
    weights = rows[known] / max(rows[known].sum(), 1)
    return float(np.sqrt(np.sum(weights**2 * variance[known]))) if known.any() else np.nan


def _predictions(tier: str, run: Run, shape: tuple[int, ...]) -> Array:
    """(n_test, T) logits of a run, in the order of the test rows."""
    path = layout.run_artifacts(tier, run) / "predictions.npy"
    remedy = f"delete {layout.job_index(tier, run.job)} and run snakemake again"
    logits = _load(path, remedy)
    if logits.shape != shape:
        raise UserError(
            f"{path} holds {logits.shape} predictions, but the test rows need {shape}; {remedy}"
        )
    return logits


def _load(path: Path, remedy: str) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None


def _bayes(
    truth: Array, labels: Array, domain: Array, interactions: Interactions
) -> dict[str, Any]:
    """AUC of the true probabilities: no model can expect more."""
    domains = interactions.schema.domains
    auc = auc_by_domain(truth, labels, domain, len(domains))
    rows = np.bincount(domain, minlength=len(domains))
    return {
        "task": interactions.schema.tasks[0],
        "domains": list(domains),
        "auc": numbers(auc),
        "wauc": number(weighted_mean(auc, rows)),
    }
