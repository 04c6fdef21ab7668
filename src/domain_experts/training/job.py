"""A training job: all runs of one arm on one data set and backbone."""

import hashlib
import json
import platform
import resource
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from domain_experts import layout
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import SPLITS, read_split
from domain_experts.digest import code_digest
from domain_experts.errors import UserError
from domain_experts.files import read_json, replacing, sha256, write_json
from domain_experts.registry import ARMS
from domain_experts.runs import Job, Run, variant_name
from domain_experts.training.assignment import Assignment, Outcome, Upstream
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.memory import keep_freed_memory
from domain_experts.training.progress import Progress, best, title
from domain_experts.training.store import Entry
from domain_experts.versions import libraries

if TYPE_CHECKING:
    from domain_experts.study import Study

RECORD, PROVENANCE = "record.json", "run.json"
MODEL, VIEWS = "model.safetensors", "views.safetensors"
LIBRARIES = ("torch", "numpy", "scipy", "domain-experts")


def execute(study: "Study", job: Job, device: str, threads: int) -> None:
    """Make all runs of a job: from the store if finished, else by training; then publish them.

    Weights, logits of validation and test rows, and record go to `layout.run_artifacts`, and last
    the job's index with the checksums of all that the seed determines.

    Raises:
        UserError: data, splits or upstream weights are missing or damaged; another process trains
            one of the runs.
    """
    keep_freed_memory()
    runs = study.runs_of(job)
    interactions = Interactions.open(layout.interactions(job.dataset))
    device = _device(device, threads) if _is_trained(job.arm) else "cpu"
    entries = []
    for run in runs:
        key = run_key(study, run, interactions, device, threads)
        entry = Entry(key)
        with entry.lock():
            files = entry.finished()
            progress = Progress(title(run))
            if files is None:
                names, result = _train(study, run, interactions, entry, device, threads, progress)
                files = entry.finish(names)
            else:
                result = "from the run store"
            for name in files:
                entry.publish(name, layout.run_artifacts(study.tier, run))
        progress.done(result)
        # what run.json says is not determined by the seed
        lasting = {name: digest for name, digest in files.items() if name != PROVENANCE}
        entries.append({"path": run.path.as_posix(), "key": key, "files": lasting})
    write_json(layout.job_index(study.tier, job), {"runs": entries})


def run_key(study: "Study", run: Run, interactions: Interactions, device: str, threads: int) -> str:
    """Key of a run in the store: all that its bytes depend on.

    These are its settings, its data and split, its code, torch, numpy, the device, the number of
    threads, and the runs it starts from.
    """
    identity = _made_of(study, run, interactions, device, threads)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _made_of(
    study: "Study", run: Run, interactions: Interactions, device: str, threads: int
) -> dict[str, Any]:
    return {
        "settings": run.payload(),
        "data": interactions.card["content"],
        "split": sha256(layout.split_file(study.tier, run.dataset, run.split_seed)),
        "code": code_digest(run.job.modules),
        **libraries(),
        "device": device,
        "threads": threads,
        "upstream": {
            up.arm: run_key(
                study, up, interactions, device if _is_trained(up.arm) else "cpu", threads
            )
            for up in study.upstream(run)
        },
    }


def _is_trained(arm: str) -> bool:
    """Whether an arm has a training loop, which alone can use a GPU."""
    return "training" in ARMS[arm].reads


def _device(asked: str, threads: int) -> str:
    """The torch device, with torch set up for reproducible arithmetic."""
    import torch

    torch.set_num_threads(threads)
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError("device is 'cuda' in params.yaml, but torch finds no GPU; set auto or cpu")
    # all that runs on a CPU is deterministic anyway, and this call costs a second of imports
    torch.use_deterministic_algorithms(True)
    return "cuda"


def _train(
    study: "Study",
    run: Run,
    interactions: Interactions,
    entry: Entry,
    device: str,
    threads: int,
    progress: Progress,
) -> tuple[list[str], str]:
    """Train one run into its entry of the store; names of its files, and the result in words."""
    assignment = Assignment(
        run=run,
        interactions=interactions,
        split=read_split(study.tier, run.dataset, run.split_seed),
        upstream={up.arm: _upstream(study, up) for up in study.upstream(run)},
        device=device,
        checkpoint=Checkpoint(entry.checkpoint, entry.key),
        progress=progress,
    )
    outcome = run.spec.train(assignment)

    names = [RECORD, PROVENANCE]
    for split, logits in outcome.logits.items():
        names.append(f"{split}.npy")
        with replacing(entry.folder / names[-1]) as temporary, temporary.open("wb") as file:
            np.save(file, logits, allow_pickle=False)
    for name, arrays in ((MODEL, outcome.state), (VIEWS, outcome.views)):
        if arrays:
            names.append(name)
            with replacing(entry.folder / name) as temporary:
                save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, temporary)
    write_json(entry.folder / RECORD, record_of(assignment, outcome))
    write_json(
        entry.folder / PROVENANCE,
        {
            "wall_s": round(progress.seconds, 3),
            "train_rows_per_s": progress.rows_per_second,
            "epochs": progress.epochs,
            "sessions": progress.sessions,
            "peak_memory_mb": _peak_memory(),
            **_made_of(study, run, interactions, device, threads),
            "machine": _processor(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in LIBRARIES},
            "provenance": interactions.card["provenance"],
            "key": entry.key,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    return names, f"{best(outcome.curve)}{progress.seconds:.1f} s"


def _upstream(study: "Study", run: Run) -> Upstream:
    """Published weights and record of an upstream run."""
    folder = layout.run_artifacts(study.tier, run)
    _check(study, run, folder / MODEL)
    remedy = _check(study, run, folder / RECORD)
    return Upstream(load_file(folder / MODEL), read_json(folder / RECORD, remedy))


def _check(study: "Study", run: Run, path: Path) -> str:
    """Check a published file against its job's index; returns what would bring it back."""
    index = layout.job_index(study.tier, run.job)
    remedy = (
        f"remove {index} if it is there and run snakemake, which makes it: the run store still has "
        "finished runs"
    )
    entries = read_json(index, remedy).get("runs", [])
    listed = {entry["path"]: entry["files"] for entry in entries}
    expected = listed.get(run.path.as_posix(), {}).get(path.name)
    if expected is None:
        raise UserError(f"{index} does not list {path.name} of {run.path}; {remedy}")
    if not path.exists():
        raise UserError(f"{path} is missing; {remedy}")
    if sha256(path) != expected:
        raise UserError(f"{path} does not fit {index}; {remedy}")
    return remedy


def record_of(assignment: Assignment, outcome: Outcome) -> dict[str, Any]:
    """What the seed determines and logits do not tell: the content of record.json.

    `rows_visited` are the rows visited, each as often as an epoch saw it, to reach the predictions,
    with what the run started from and without lanes that they do not use.
    """
    run, schema = assignment.run, assignment.interactions.schema
    domain = np.asarray(assignment.interactions.domain)
    return {
        "run": {
            "dataset": run.dataset,
            "backbone": run.backbone,
            "arm": run.arm,
            "variant": variant_name(run.variant),
            "seed": run.seed,
            "split_seed": run.split_seed,
            "protocol": run.spec.protocol,
            "experts": outcome.experts,
        },
        "domains": schema.domains,
        "tasks": schema.tasks,
        "planted_groups": assignment.interactions.planted_groups,
        "rows": {
            split: np.bincount(
                domain[assignment.index(split)], minlength=len(schema.domains)
            ).tolist()
            for split in SPLITS
        },
        "parameters": {
            **outcome.parameters,
            "total": (total := sum(outcome.parameters.values())),
            "used": total - outcome.unused_parameters,
        },
        "curve": outcome.curve,
        "lanes": [asdict(lane) for lane in outcome.lanes],
        "rows_visited": outcome.rows_before
        + sum(lane.rows_visited for lane in outcome.lanes if lane.used),
        "experts_moved": outcome.experts_moved,
        "scope": {"domain": outcome.by_domain, "task": outcome.by_task},
        "tested": outcome.tested,
        "gate": None if outcome.gate is None else outcome.gate.tolist(),
    }


def _peak_memory() -> int:
    """Peak memory of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def _processor() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
