"""Results by cell, which is one domain and task, and what the paper has in its place.

Domains and tasks are numbered from 1, as in the paper: D1 T2 is the second task in the first
domain. The overall AUC and log loss are plain means over the cells.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.collect import Results
from domain_experts.reporting.published import TOLERANCE, published, verdict
from domain_experts.reporting.render import MISSING, number
from domain_experts.runs import Run, variant_name

MAIN = ("m3oe",)
RELEASED = ("m3oe_released", "m3oe_released_by_domain")
VARIANTS = ("m3oe_automl", "m3oe_ablations", "m3oe_learning_rate", "m3oe_shared_experts")
ROW_ORDER = ("m3oe_row_order",)
STUDY = (*MAIN, *RELEASED, *VARIANTS, *ROW_ORDER)
"""The experiments of the study."""

SCOPES = {
    "single": (True, True),
    "mtl": (True, False),
    "mdl": (False, True),
    "mdmt": (False, False),
}
"""Whether a scope has a model for each domain, and for each task."""
METHOD = "m3oe"
OVERALL = "overall_auc"
PUBLISHED_KEYS = ["source", "backbone", "scope", "variant"]
ROUNDING = 0.00011
"""How far a printed mean may be from that of the printed cells, all rounded to 0.0001."""
_COLUMNS = {
    "run": "str",
    "status": "str",
    "stale": "bool",
    "source": "str",
    "dataset": "str",
    "task": "str",
    "backbone": "str",
    "arm": "str",
    "scope": "str",
    "variant": "str",
    "seed": "int64",
    "split_seed": "int64",
    "parameters": "Int64",
    OVERALL: "float64",
    "log_loss": "float64",
    "seen_users": "float64",
}


def by_run(results: Results, runs: Iterable[Run]) -> pd.DataFrame:
    """One row a run, finished or not; rows by source, data set, arm and backbone.

    `scope` is the paper's suffix of a model (`mdmt`), `seen_users` the share of the test users that
    have training rows, `auc_d1t1` the AUC of a cell. Of runs without results the numbers are NaN.
    """
    seen = _seen_users(results)
    rows = [_row(results, run, seen) for run in in_order(results, runs)]
    names = [name for row in rows for name in row if name.startswith("auc_")]
    columns = _COLUMNS | dict.fromkeys(sorted(set(names)), "float64")
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def in_order(results: Results, runs: Iterable[Run]) -> list[Run]:
    """Runs by source, data set, arm and backbone, M3oE last; variants keep their order."""
    specs, datasets = results.study.params.data.datasets, results.study.all_datasets
    sources = list(dict.fromkeys(specs[name].source for name in datasets))
    return sorted(
        runs,
        key=lambda run: (
            sources.index(specs[run.dataset].source),
            datasets.index(run.dataset),
            list(ARMS).index(run.arm),
            run.backbone == METHOD,
            [NO_BACKBONE, *BACKBONES].index(run.backbone),
        ),
    )


def cell_names(frame: pd.DataFrame) -> list[str]:
    """The columns of cells, each with its AUC: auc_d1t1, auc_d1t2, ..."""
    return [str(name) for name in frame if str(name).startswith("auc_d")]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, each by column."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def head(cell: str) -> str:
    """`D1 T2` of auc_d1t2."""
    domain, task = cell.removeprefix("auc_d").split("t")
    return f"D{domain} T{task}"


def cell_notes(results: Results, runs: Iterable[Run]) -> list[str]:
    """Say which domains and tasks the cells are, and which of them have no AUC."""
    named: dict[tuple[str, ...], list[str]] = {}
    left_out: dict[str, None] = {}
    for run in in_order(results, (run for run in runs if run in results.metrics)):
        metrics = results.metrics[run]
        of = [
            ", ".join(f"{letter}{i} {name}" for i, name in enumerate(metrics[key], start=1))
            for letter, key in (("D", "domains"), ("T", "tasks"))
        ]
        datasets = named.setdefault(tuple(of), [])
        if run.dataset not in datasets:
            datasets.append(run.dataset)
        for task in metrics["tasks"]:
            if names := metrics["test"][task]["left_out"]:
                left_out[
                    f"{run.dataset}, {task}: no AUC, and no part in the overall AUC, for "
                    f"{', '.join(names)} (test rows of one class)."
                ] = None
    notes = [f"{', '.join(datasets)}: {'; '.join(of)}." for of, datasets in named.items()]
    return [*notes, *left_out]


def untrained_notes(results: Results, runs: Iterable[Run]) -> list[str]:
    """Name the models of several that could not be trained, whose cells are those of their start.

    A model that was trained has a lane in the curve.
    """
    names = model_names(results)
    notes = []
    for run in in_order(results, (run for run in runs if run in results.metrics)):
        if scope(run.arm) not in SCOPES:
            continue
        metrics = results.metrics[run]
        by_domain, by_task = SCOPES[scope(run.arm)]
        served = [
            " for ".join((domain, task))
            for domain in (metrics["domains"] if by_domain else ["all domains"])
            for task in (metrics["tasks"] if by_task else ["all tasks"])
        ]
        lanes = {point["lane"] for point in metrics["curve"]}
        numbers = ["all"] if len(served) == 1 else map(str, range(len(served)))
        left = [text for lane, text in zip(numbers, served, strict=True) if lane not in lanes]
        if left:
            notes.append(
                f"{run.dataset}, {names[run.backbone, run.arm]}, seed {run.seed}: not trained, for "
                f"want of training rows or of validation rows of both classes, so that the cells "
                f"are those of the initial weights: {', '.join(left)}."
            )
    return notes


def model_names(results: Results) -> dict[tuple[str, str], str]:
    """Backbone and arm to the paper's name; a model of one scope has no suffix."""
    pairs = {(run.backbone, run.arm) for run in results.expected(*STUDY)}
    scopes: dict[str, set[str]] = {}
    for backbone, arm in pairs:
        scopes.setdefault(backbone, set()).add(scope(arm))
    return {pair: _model_name(*pair, several=len(scopes[pair[0]]) > 1) for pair in pairs}


def scope(arm: str) -> str:
    """What an arm's models serve: single, mtl, mdl or mdmt; the protocol does not matter."""
    return ARMS[arm].trainer.rpartition(".")[2]


def with_published(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows, with the columns of the published results of the same source, model and variant.

    These are `published_overall_auc`, `published_log_loss`, and `published_auc_d1t1` and so on.
    """
    return frame.merge(published_models(), "left", PUBLISHED_KEYS)


def published_models() -> pd.DataFrame:
    """The published models, one row each: overall AUC, log loss, and AUC by cell."""
    cells = published_cells("auc", [*PUBLISHED_KEYS, "domain", "task"])
    found = cells.pivot_table("published", PUBLISHED_KEYS, "cell", sort=False)
    found.columns = [f"published_auc_{cell}" for cell in found.columns]
    for metric in (OVERALL, "log_loss"):
        own = published_cells(metric, PUBLISHED_KEYS).set_index(PUBLISHED_KEYS)["published"]
        found = found.join(own.rename(f"published_{metric}"), how="outer")
    return found.reset_index()


def published_cells(metric: str, keys: list[str]) -> pd.DataFrame:
    """Published values of a metric; `cell` is `d1t2` where domain and task are among the keys."""
    names = {"source": "dataset", "scope": "arm"}
    found = published(metric, [names.get(key, key) for key in keys])
    found = found.rename(columns={name: key for key, name in names.items()})
    if "task" in keys:
        # click, the first in the file, is the first task of all sources
        tasks = found[found["task"] != ""].groupby("source")["task"].unique()
        known = {(s, t): i for s, own in tasks.items() for i, t in enumerate(own, start=1)}
        pairs = zip(found["source"], found["domain"], found["task"], strict=True)
        found["cell"] = [f"d{d}t{known[s, t]}" if t else "" for s, d, t in pairs]
    return found


def less_published(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows, with the difference to the published overall AUC and whether that is met."""
    less = frame[f"{OVERALL}_mean"] - frame[f"published_{OVERALL}"]
    words = [
        "" if pd.isna(difference) else verdict(difference, sd)
        for difference, sd in zip(less, frame[f"{OVERALL}_sd"], strict=True)
    ]
    return frame.assign(less_published=less, verdict=words)


def shares(values: "pd.Series[float]") -> list[str]:
    """Shares in whole percent."""
    return [MISSING if pd.isna(value) else f"{100 * value:.0f} %" for value in values]


def published_text(row: dict[str, Any], mark: str = "") -> str:
    """The published overall AUC, how far this is from it, and the verdict."""
    value, less = row[f"published_{OVERALL}"], row["less_published"]
    if pd.isna(value):
        return MISSING
    apart = "" if pd.isna(less) else f" ({number(less, signed=True)}, {row['verdict']})"
    return f"{number(value)}{mark}{apart}"


def tolerance_note(frame: pd.DataFrame) -> list[str]:
    """What the verdict means, if there is one."""
    if frame["less_published"].isna().all():
        return []
    return [
        "In brackets: this less the published value; met if within "
        f"max({TOLERANCE}, 2 standard deviations over seeds), on whatever rows it was tested."
    ]


def rela_impr(auc: float, reference: float) -> float:
    """Relative gain in AUC above 0.5; NaN where the reference has none (M3oE, section 3.1)."""
    return (auc - 0.5) / (reference - 0.5) - 1 if reference > 0.5 else np.nan


def percent(value: float) -> str:
    """A signed share in percent."""
    return MISSING if pd.isna(value) else f"{number(100 * value, 2, signed=True)} %"


def _row(results: Results, run: Run, seen: dict[tuple[str, int], float]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run": run.path.as_posix(),
        "status": results.status(run),
        "stale": results.stale(run),
        "source": results.study.params.data.datasets[run.dataset].source,
        "dataset": run.dataset,
        # a cell has a task, a run has all of them
        "task": "",
        "backbone": run.backbone,
        "arm": run.arm,
        "scope": scope(run.arm),
        "variant": variant_name(run.variant),
        "seed": run.seed,
        "split_seed": run.split_seed,
        "seen_users": seen.get((run.dataset, run.split_seed)),
    }
    if run not in results.metrics:
        return row
    metrics = results.metrics[run]
    auc, loss = (_cells(metrics, name) for name in ("auc", "log_loss"))
    return (
        row
        | {"parameters": metrics["parameters"]["total"]}
        | {OVERALL: pd.Series(auc).mean(), "log_loss": pd.Series(loss).mean()}
        | {f"auc_{cell}": value for cell, value in auc.items()}
    )


def _cells(metrics: dict[str, Any], name: str) -> dict[str, float]:
    return {
        f"d{d}t{t}": np.nan if value is None else value
        for t, task in enumerate(metrics["tasks"], start=1)
        for d, value in enumerate(metrics["test"][task]["by_domain"][name], start=1)
    }


def _seen_users(results: Results) -> dict[tuple[str, int], float]:
    return {
        (entry["dataset"], entry["split_seed"]): entry["all_seen_test_users"]
        / entry["all_test_users"]
        for entry in results.populations
    }


def _model_name(backbone: str, arm: str, several: bool) -> str:
    if backbone == NO_BACKBONE:
        return ARMS[arm].label
    label = BACKBONES[backbone].label
    if BACKBONES[backbone].family == "ctr":
        return f"{ARMS[arm].label} ({label})"
    return f"{label}-{scope(arm).upper()}" if several else label
