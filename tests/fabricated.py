"""A complete results tree of a small study, made without training."""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plain_yaml
from scipy.special import expit

from domain_experts import layout
from domain_experts.artifacts import RECORD, VIEWS
from domain_experts.data.cut import write_splits
from domain_experts.data.interactions import Interactions, write
from domain_experts.data.split import SPLITS, read_split
from domain_experts.digest import code_digest
from domain_experts.evaluation.evaluate import evaluate_dataset, merge
from domain_experts.files import SEAL, sha256, write_json
from domain_experts.params import Params, load
from domain_experts.results import COLUMNS, RECORD_COLUMNS, identity, read
from domain_experts.results import write as write_results
from domain_experts.runs import Run, variant_name
from domain_experts.schema import Schema
from domain_experts.study import Study
from domain_experts.versions import libraries

REAL = "ml-100k-gender"
DATASETS = {
    REAL: (2, None),
    "planted": (8, (0, 1, 2, 3, 0, 1, 2, 3)),
    "planted-small": (4, (0, 1, 0, 1)),
    "domains-2": (2, (0, 1)),
    "domains-8": (8, (0, 1, 2, 3, 4, 5, 6, 7)),
    "strength-4": (8, (0, 1, 2, 3, 4, 5, 6, 7)),
    "rows-5k": (8, (0, 1, 2, 3, 4, 5, 6, 7)),
}
TASKS = ("click", "like")
MULTI = {
    "planted-tasks": (3, (0, 1, 2)),
    "ml-1m-m3oe": (3, None),
    "ml-1m-m3oe-by-domain": (3, None),
    "ml-1m-m3oe-shuffled": (3, None),
}
"""Data sets of several tasks."""
LEFT_OUT = "ml-100k-age"
M3OE_DATASETS = {
    "m3oe": ["ml-1m-m3oe", "planted-tasks"],
    "m3oe_released": ["ml-1m-m3oe"],
    "m3oe_released_by_domain": ["ml-1m-m3oe-by-domain"],
    "m3oe_automl": ["ml-1m-m3oe"],
    "m3oe_ablations": ["ml-1m-m3oe"],
    "m3oe_learning_rate": ["ml-1m-m3oe"],
    "m3oe_shared_experts": ["ml-1m-m3oe"],
    "m3oe_row_order": ["ml-1m-m3oe", "ml-1m-m3oe-shuffled"],
}
LEGS = {
    "base": "backbone",
    "experts": "experts",
    "oracle_experts": "experts",
    "moe_mlora": "gate",
    "base_held_out": "backbone",
    "experts_held_out": "experts",
    "moe_mlora_held_out": "gate",
    "mlora_gated": "gate",
    "experts_from_mlora": "experts",
    "moe_mlora_from_mlora": "gate",
    "experts_crossfit": "experts",
    "moe_mlora_crossfit": "gate",
    "lightgbm": "boosting",
    "domain_finetune": "fine-tuning",
    "new_domain_adapter": "new domain",
    "new_domain_finetune": "new domain",
    "new_domain_scratch": "new domain",
}
GATED = (
    *("moe_mlora", "moe_mlora_held_out", "mlora_gated"),
    *("moe_mlora_from_mlora", "moe_mlora_joint", "moe_mlora_staged", "moe_mlora_crossfit"),
)
FLOORS = ("item_rate", "user_item_rate")
SIGNAL = {"item_rate": 0.4, "user_item_rate": 0.5, "base": 0.7, "mlora": 0.8}


FEW_RUNS = {
    "main": {
        "datasets": {"quick": [REAL, "planted", "planted-small", LEFT_OUT]},
        "backbones": ["wdl", "mlp"],
        "arms": ["item_rate", "base", "mlora", "moe_mlora"],
    },
    "planted_sharing": {
        "datasets": {"quick": ["planted", "planted-small"]},
        "arms": ["base", "mlora", "moe_mlora"],
    },
    "m3oe": {
        "datasets": {"quick": ["planted-tasks"]},
        "arms": {"item_rate": [], "mdmt": ["ple", "m3oe"]},
    },
}
"""Experiments of a tree that is evaluated in a moment, with what they have less of."""


def fabricate(root: Path, only: Mapping[str, Mapping[str, Any]] | None = None) -> Study:
    """Write the tree below `root`, which must be the working directory.

    Of `only` some experiments, each with changed keys, if they are given.
    """
    values = plain_yaml.read()
    values["tiers"]["quick"]["seeds"] = [1, 2, 3]
    # its settings are found by training
    del values["experiments"]["tuned"]
    for name in ("main", "experts_per_domain"):
        values["experiments"][name]["datasets"]["quick"] = [REAL, "planted"]
    values["experiments"]["other_backbones"]["datasets"]["quick"] = [REAL]
    for experiment in values["experiments"].values():
        chosen = [d for d in experiment["datasets"].get("quick", []) if d in DATASETS]
        # with real data, also some that are not there
        chosen += [LEFT_OUT] if REAL in chosen and len(chosen) > 1 else []
        experiment["datasets"]["quick"] = chosen
    for name, datasets in M3OE_DATASETS.items():
        values["experiments"][name] |= {"datasets": {"quick": datasets}, "seeds": {"quick": [1, 2]}}
    values["experiments"]["planted_sharing"]["seeds"] = {"quick": [1, 2, 3, 4]}
    for name in ("other_backbones", "switches", "diversity"):
        values["experiments"][name]["seeds"] = {"quick": [1, 2]}
    values["experiments"]["main"]["backbones"]["quick"] = ["mlp", "wdl"]
    for name in ("held_out", "noise", "controls"):
        del values["experiments"][name]["seeds"]["quick"]
    if only is not None:
        known = values["experiments"]
        values["experiments"] = {name: known[name] | keys for name, keys in only.items()}
    plain_yaml.write(values, root / "params.yaml", sort_keys=True)
    study = Study(load(root / "params.yaml"), "quick", frozenset({LEFT_OUT}))
    for dataset in study.datasets:
        domains, groups = (DATASETS | MULTI)[dataset]
        rows, tasks = (1500, TASKS) if dataset in MULTI else (6000, TASKS[:1])
        made = _interactions(domains, groups, tasks, rows)
        write(made, layout.interactions(dataset), {"source": "random"})
        # as rows in no order at all are best split
        rule = study.params.data.split_rule(REAL)
        write_splits(rule, study.tier, dataset, study.seeds(dataset))
    data = cache(lambda dataset: Interactions.open(layout.interactions(dataset)))
    cut = cache(lambda dataset, seed: read_split(study.tier, dataset, seed))
    for run in study.runs:
        _write_run(study, run, data(run.dataset), cut(run.dataset, run.split_seed))
    write_indexes(study)
    evaluate_all(study, study.datasets)
    return study


def evaluate_all(study: Study, datasets: Iterable[str]) -> None:
    """Evaluate some data sets, and merge the results."""
    for dataset in datasets:
        evaluate_dataset(study, dataset)
    merge(study)


def rewrite(study: Study, run: Run, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the record of a run in the results."""
    path = layout.records_file(study.tier)
    frame = read(path, RECORD_COLUMNS)
    place = frame.index[frame["run"] == run.path.as_posix()][0]
    record = json.loads(frame.loc[place, "record"])
    change(record)
    frame.loc[place, "record"] = json.dumps(record)
    write_results(frame, path, RECORD_COLUMNS)


def forget(study: Study, chosen: Callable[[Run], bool]) -> None:
    """Take runs out of the results, as if they had not been run."""
    gone = {run.path.as_posix() for run in study.expected_runs if chosen(run)}
    for path, columns in (
        (layout.results_file(study.tier), COLUMNS),
        (layout.records_file(study.tier), RECORD_COLUMNS),
    ):
        frame = read(path, columns)
        write_results(frame[~frame["run"].isin(gone)], path, columns)


def changed(study: Study, experiments: Mapping[str, Any], split_seed: int | None = None) -> Study:
    """The study after a change of params.yaml, in the folder of the fabricated tree.

    `experiments` maps a name to changed keys, or to None to take it out; `split_seed` fixes the
    split of the described protocol. Runs that are new get the results of their default variant.
    """
    values = study.params.model_dump()
    for name, keys in experiments.items():
        if keys is None:
            del values["experiments"][name]
        else:
            values["experiments"][name] |= keys
    values["protocols"]["described"]["split_seed"] = split_seed
    new = Study(Params.model_validate(values), study.tier, study.absent)
    path, records_path = layout.results_file(study.tier), layout.records_file(study.tier)
    frame, records = read(path), read(records_path, RECORD_COLUMNS)
    known, parts, record_parts = set(frame["run"]), [frame], [records]
    for run in new.runs:
        if run.path.as_posix() not in known:
            default = replace(run, variant=()).path.as_posix()
            own = {"run": run.path.as_posix()}
            parts.append(frame[frame["run"] == default].assign(**identity(run)))
            record_parts.append(records[records["run"] == default].assign(**own))
    write_results(pd.concat(parts), path)
    write_results(pd.concat(record_parts), records_path, RECORD_COLUMNS)
    return new


def change_json(path: Path, **values: Any) -> None:
    """Replace top-level values of a JSON file."""
    content = json.loads(path.read_text())
    sealed = content.pop(SEAL, None) is not None
    content |= {k: content[k] | v if isinstance(v, dict) else v for k, v in values.items()}
    write_json(path, content, sealed)


def write_indexes(study: Study) -> None:
    """Write the index of every job, which lists all of its runs."""
    for job in study.jobs():
        entries = [
            {"path": run.path.as_posix(), "files": _checksums(study, run)}
            for run in study.runs_of(job)
        ]
        write_json(layout.job_index(study.tier, job), {"runs": entries}, sealed=True)


def _checksums(study: Study, run: Run) -> dict[str, str]:
    folder = layout.run_artifacts(study.tier, run)
    names = (RECORD, VIEWS, "validation.npy", "test.npy")
    return {name: sha256(folder / name) for name in names if (folder / name).is_file()}


def _interactions(
    domains: int, groups: tuple[int, ...] | None, tasks: tuple[str, ...], rows: int
) -> Interactions:
    rng = np.random.default_rng(domains)
    weights = 0.7 ** np.arange(domains)
    domain = rng.choice(domains, rows, p=weights / weights.sum()).astype(np.int16)
    truth = expit(rng.normal(-0.5, 1.5, (rows, len(tasks)))).astype(np.float32)
    return Interactions(
        schema=Schema(
            (("user", 50), ("item", 50)),
            (),
            tuple(f"domain {d}" for d in range(domains)),
            tasks,
        ),
        fields=rng.integers(0, 50, (rows, 2)).astype(np.int32),
        dense=np.zeros((rows, 0), np.float32),
        labels=(rng.random(truth.shape) < truth).astype(np.uint8),
        domain=domain,
        truth=truth.squeeze() if groups else None,
        planted_groups=groups,
    )


def _write_run(study: Study, run: Run, rows: Interactions, split: np.ndarray) -> None:
    rng = np.random.default_rng(zlib.crc32(run.path.as_posix().encode()))
    groups, domains = rows.planted_groups, rows.schema.domains
    owners = len(set(groups)) if run.spec.planted else len(domains)
    gate = _gate(rng, run, len(domains), groups) if run.arm in GATED else None
    # the same noise for all arms of a seed, so that they differ in signal and a little more
    shared = np.random.default_rng(run.seed).normal(size=rows.labels.shape)
    logits = SIGNAL.get(run.arm, 0.9) * (rows.labels - 0.5) + shared
    logits = (logits + rng.normal(0, 0.2, logits.shape)).astype(np.float32)
    record = {
        "run": _who(run) | {"experts": _experts(run, owners)},
        "domains": list(domains),
        "tasks": list(rows.schema.tasks),
        "planted_groups": groups,
        "rows": {
            name: np.bincount(rows.domain[split == s], minlength=len(domains)).tolist()
            for s, name in enumerate(SPLITS)
        },
        "parameters": _parameters(run, owners),
        "curve": _curve(rng, run, owners),
        "gate": gate,
        "experts_moved": None if gate is None else [True] * len(gate[0]),
    }
    folder = layout.run_artifacts(study.tier, run)
    write_json(folder / "record.json", record)
    write_json(
        folder / "run.json",
        {
            "wall_s": float(rng.uniform(3, 9)),
            "train_rows_per_s": float(rng.uniform(5e4, 1e5)) if run.spec.backbone else None,
            "epochs": int(rng.integers(5, 20)) if run.spec.backbone else None,
            "peak_memory_mb": float(rng.uniform(300, 500)),
            "device": "cpu",
            "threads": 1,
            "machine": "A processor",
            "settings": run.payload(),
            "data": rows.card["content"],
            "split": sha256(layout.split_file(study.tier, run.dataset, run.split_seed)),
            "code": _code(run.job.modules),
            **libraries(),
            "key": run.path.as_posix(),
            "upstream": {up.arm: up.path.as_posix() for up in study.upstream(run)},
        },
    )
    for name in ("validation", "test"):
        np.save(folder / f"{name}.npy", logits[split == SPLITS.index(name)])


_code = cache(code_digest)


def _who(run: Run) -> dict[str, Any]:
    return {
        "dataset": run.dataset,
        "backbone": run.backbone,
        "arm": run.arm,
        "variant": variant_name(run.variant),
        "seed": run.seed,
        "split_seed": run.split_seed,
        "protocol": run.spec.protocol,
    }


def _experts(run: Run, owners: int) -> int | None:
    if not any(key.startswith("adapter") for key in run.spec.reads):
        return None
    return owners * run.settings.adapter.experts_per_domain


def _parameters(run: Run, owners: int) -> dict[str, int]:
    """A backbone, and experts of 1,000 weights."""
    experts = 1000 * (_experts(run, owners) or 0)
    return {"total": 137581 + experts, "backbone": 137581, "experts": experts, "gate": 0}


def _gate(
    rng: np.random.Generator, run: Run, domains: int, groups: tuple[int, ...] | None
) -> list[list[float]]:
    """Weights that lean towards a domain's own experts and, a little, to those of its group."""
    owner = np.arange(domains * run.settings.adapter.experts_per_domain) % domains
    group = np.array(groups or range(domains))
    lean = 1.5 * (owner[None] == np.arange(domains)[:, None])
    lean = lean + 0.7 * (group[owner][None] == group[:, None])
    weights = np.exp(lean + rng.normal(0, 0.3, lean.shape))
    return (weights / weights.sum(axis=1, keepdims=True)).tolist()


def _curve(rng: np.random.Generator, run: Run, owners: int) -> list[dict[str, object]]:
    leg = LEGS.get(run.arm, "joint")
    lanes = {
        "experts": range(owners * run.settings.adapter.experts_per_domain),
        "fine-tuning": range(owners),
    }.get(leg, ["all"])
    # the models of an arm that has several
    lanes = (
        range({"mtl": 3, "mdl": 2, "single": 6}.get(run.arm.removesuffix("_released"), 0)) or lanes
    )
    points = []
    for lane in map(str, [] if run.arm in (*FLOORS, "uniform_gate", "moe_mlora_refit") else lanes):
        start, height = (0.5, 0.25) if leg in ("backbone", "joint") else (0.74, 0.006)
        best = -1.0
        for epoch in range(int(rng.integers(6, 15))):
            auc = start + height * (1 - np.exp(-epoch / 3)) + rng.normal(0, height / 30)
            loss = None if epoch == 0 else 0.5 + 0.2 / epoch
            points.append(
                {"phase": leg, "lane": lane, "epoch": epoch, "train_loss": loss}
                | {"validation_auc": float(auc), "best": bool(auc > best)}
                | (_fusion(rng, epoch) if run.backbone == "m3oe" else {})
            )
            best = max(best, auc)
    return points


def _fusion(rng: np.random.Generator, epoch: int) -> dict[str, dict[str, float]]:
    """Fusion weights that drift apart from sigmoid(1)."""
    drift = {"a_D": 0.1, "a_T": -0.1, "b_D": 0.05, "b_T": -0.2}
    weights = {name: float(expit(1 + d * epoch + rng.normal(0, 0.02))) for name, d in drift.items()}
    return {"fusion": weights}
