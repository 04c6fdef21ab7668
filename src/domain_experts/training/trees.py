"""Gradient-boosted trees by LightGBM (Ke et al. 2017), a booster a task."""

import time
from typing import Any

import lightgbm as lgb
import numpy as np

from domain_experts.auc import macro_auc
from domain_experts.data.split import SPLITS
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.lanes import LaneRecord
from domain_experts.training.rate_features import rate_features
from domain_experts.training.streams import key

LEG = "boosting"
SEEDS = 2**31
"""LightGBM's seeds lie below."""


def train(assignment: Assignment) -> Outcome:
    """Boost on `rate_features` until the validation AUC has not grown for `trees.patience` rounds.

    That is the AUC that the other arms select by, of one task. A round visits every training row
    once; their weights do not count. What is kept are the boosters' texts up to their best round,
    as bytes. Parameters are the trees' thresholds and the values of their leaves.
    """
    features = rate_features(assignment)
    texts, curve, lanes = [], [], []
    for task in range(len(assignment.interactions.schema.tasks)):
        booster, own = _boost(assignment, features, task)
        best = max(point["epoch"] for point in own if point["best"])
        texts.append(booster.model_to_string(num_iteration=best))
        curve += own
        lanes.append(_record(assignment, task, len(own), best))
    tested = [lgb.Booster(model_str=text) for text in texts]
    return Outcome(
        logits={split: _logits(tested, features[assignment.index(split)]) for split in SPLITS[1:]},
        state={
            f"booster.{task}": np.frombuffer(text.encode(), np.uint8)
            for task, text in enumerate(texts)
        },
        parameters={"backbone": sum(map(_parameters, tested)), "experts": 0, "gate": 0},
        curve=curve,
        lanes=lanes,
        by_task=len(tested) > 1,
    )


def _boost(
    assignment: Assignment, features: np.ndarray, task: int
) -> tuple[lgb.Booster, list[dict[str, Any]]]:
    """A task's booster after its last round, and the learning curve."""
    settings, interactions = assignment.settings.trees, assignment.interactions
    rows, held_out = (assignment.index(split) for split in ("train", "validation"))
    labels, domain = np.asarray(interactions.labels)[:, [task]], np.asarray(interactions.domain)
    options = _options(assignment)
    data = lgb.Dataset(features[rows], labels[rows, 0], params=options)
    booster = lgb.Booster(options, data)
    # whatever is made without options brings back all threads
    validation = data.create_valid(features[held_out], labels[held_out, 0], params=options)
    booster.add_valid(validation, "validation")

    def auc(scores: np.ndarray, _: lgb.Dataset) -> tuple[str, float, bool]:
        own, domains = domain[held_out], len(interactions.schema.domains)
        return "auc", macro_auc(scores[:, None], labels[held_out], own, domains), True

    curve: list[dict[str, Any]] = []
    best, best_round, grows = -np.inf, 0, True
    while grows and len(curve) < min(settings.max_rounds, best_round + settings.patience):
        start = time.perf_counter()
        grows = not booster.update()
        seconds = time.perf_counter() - start
        value = booster.eval_valid(auc)[-1][2]
        improved = value > best
        if improved:
            best, best_round = value, len(curve) + 1
        curve.append(
            {
                "phase": LEG,
                "lane": str(task),
                "epoch": len(curve) + 1,
                "train_loss": booster.eval_train()[0][2],
                "validation_auc": value,
                "best": improved,
            }
        )
        left = best_round + settings.patience - len(curve)
        assignment.progress.trained(LEG, len(curve), 1, len(rows), seconds, best, left)
    return booster, curve


def _options(assignment: Assignment) -> dict[str, Any]:
    """LightGBM's parameters: nothing is drawn, and one thread sums in one order."""
    settings = assignment.settings.trees
    return {
        "objective": "binary",
        "metric": "binary_logloss",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.min_rows,
        "lambda_l2": settings.l2,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        # which rows say where the bins of large data are cut
        "seed": key(assignment.run.seed, "trees") % SEEDS,
        "verbose": -1,
    }


def _record(assignment: Assignment, task: int, rounds: int, best: int) -> LaneRecord:
    """How a task's boosting ended."""
    settings, rows = assignment.settings.trees, assignment.index("train")
    return LaneRecord(
        LEG,
        str(task),
        "model",
        domains=np.unique(np.asarray(assignment.interactions.domain)[rows]).tolist(),
        tasks=[task],
        epochs=rounds,
        rows_visited=rounds * len(rows),
        epoch_tested=best,
        moved=True,
        capped=rounds == settings.max_rounds and rounds - best < settings.patience,
        trained=True,
        used=True,
    )


def _logits(boosters: list[lgb.Booster], features: np.ndarray) -> np.ndarray:
    """Logits (n, T) of rows with features (n, P)."""
    raw = [own.predict(features, raw_score=True, num_threads=1) for own in boosters]
    return np.stack(raw, 1).astype(np.float32)


def _parameters(booster: lgb.Booster) -> int:
    """Number of thresholds and leaves."""
    leaves = [tree["num_leaves"] for tree in booster.dump_model()["tree_info"]]
    return sum(2 * number - 1 for number in leaves)
