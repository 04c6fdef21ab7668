"""A training job: all runs of one arm on one data set and backbone."""

import hashlib
import json
import platform
import resource
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from domain_experts import layout
from domain_experts.artifacts import (
    MODEL,
    PROVENANCE,
    RECORD,
    VIEWS,
    WITH_TIMES,
    read_run,
    run_file,
)
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import SPLITS, TEST, UNUSED, read_split
from domain_experts.digest import code_digest
from domain_experts.errors import UserError
from domain_experts.files import replacing, sha256, together, write_json
from domain_experts.registry import ARMS
from domain_experts.runs import Job, Run, reads, variant_name
from domain_experts.training.assignment import Assignment, Outcome, Upstream
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.memory import keep_freed_memory
from domain_experts.training.progress import Progress, best, title
from domain_experts.training.ranks import ALONE, Ranks, joined
from domain_experts.training.store import Entry
from domain_experts.versions import libraries

if TYPE_CHECKING:
    from domain_experts.study import Study

LIBRARIES = ("torch", "numpy", "scipy", "domain-experts")


# losses on what the rows of a whole batch have in common, which no process sees
OF_WHOLE_BATCHES = (
    "training.balance",
    "gate.load_balance",
    "gate.variance",
    "adapter.orthogonality",
)


def execute(study: "Study", job: Job, device: str, threads: int, processes: int = 1) -> None:
    """Make all runs of a job: from the store if finished, else by training; then publish them.

    Weights, logits of validation and test rows, and record go to `layout.run_artifacts`, and last
    the job's index with the checksums of all that the seed determines.

    Args:
        study: whose job it is.
        job: the job.
        device: `auto`, `cpu` or `cuda`.
        threads: of this process.
        processes: how many, this one among them, were started to train the runs together. The
            first alone writes.

    Raises:
        UserError: data, splits or upstream weights are missing or damaged; another process trains
            one of the runs; so many processes were not asked for, or cannot train a run together,
            or one of them has ended.
    """
    keep_freed_memory()
    _refuse_apart(study, job, processes)
    bench = Bench.of(study, job, device, threads)
    with joined(processes, bench.device) as ranks:
        entries = []
        for run in study.runs_of(job):
            progress = Progress(title(run), speaks=ranks.leads)
            entry, own = Entry(bench.key(run)), replace(bench, ranks=ranks)
            with entry.lock() if ranks.leads else nullcontext():
                files, result = own.finished(run, entry, progress, _published)
                if ranks.leads:
                    with together():
                        for name in files:
                            entry.publish(name, layout.run_artifacts(study.tier, run))
            progress.done(result)
            # what run.json says is not determined by the seed
            lasting = {name: digest for name, digest in files.items() if name not in WITH_TIMES}
            entries.append({"path": run.path.as_posix(), "key": entry.key, "files": lasting})
        if ranks.leads:
            write_json(layout.job_index(study.tier, job), {"runs": entries}, sealed=True)


def _refuse_apart(study: "Study", job: Job, processes: int) -> None:
    """Say so if these processes cannot train the runs of a job together."""
    wanted = study.processes(job.arm)
    if processes != wanted:
        raise UserError(
            f"{processes} processes were started, but {job.arm} is to be trained in {wanted}: set "
            "`processes` in params.yaml to the number that torchrun starts (methods with "
            "statistics of a whole batch, or without a training loop, are trained in one)"
        )
    if processes == 1:
        return
    for run in study.runs_of(job):
        known = reads(run.arm, run.backbone)
        for key in OF_WHOLE_BATCHES:
            part, name = key.split(".")
            value = getattr(getattr(run.settings, part), name)
            if {part, key} & {*known} and value not in (0, "none"):
                raise UserError(
                    f"{title(run)}: {key} is {value}, which needs all rows of a batch, but "
                    f"{processes} processes share them: set `processes` in params.yaml to 1, or "
                    f"leave {key} out"
                )


@dataclass(frozen=True)
class Bench:
    """What a process trains its runs with, all on one data set."""

    study: "Study"
    interactions: Interactions
    device: str
    threads: int
    test: bool = True
    """Whether there are test rows; the trials of a search do without."""
    ranks: Ranks = ALONE
    """The processes that train together."""

    @classmethod
    def of(cls, study: "Study", job: Job, device: str, threads: int, test: bool = True) -> "Bench":
        """That of a job.

        Raises:
            UserError: the data are missing or damaged, or there is no such device.
        """
        interactions = Interactions.open(layout.interactions(job.dataset))
        device = _device(device, threads) if _is_trained(job.arm) else "cpu"
        return cls(study, interactions, device, threads, test)

    def key(self, run: Run) -> str:
        """Key of a run in the store: all that its bytes depend on.

        These are its settings, its data and split, its code, torch, numpy, the device, the number
        of threads and processes, and the runs it starts from.
        """
        return hashlib.sha256(json.dumps(self.made_of(run), sort_keys=True).encode()).hexdigest()

    def made_of(self, run: Run) -> dict[str, Any]:
        """What the key is the digest of."""
        # a search has one process for each run
        processes = self.study.processes(run.arm) if self.test else 1
        return {
            "settings": run.payload(),
            "data": self.interactions.card["content"],
            "split": sha256(layout.split_file(self.study.tier, run.dataset, run.split_seed)),
            "test": self.test,
            "code": code_digest(run.job.modules),
            **libraries(),
            "device": self.device if _is_trained(run.arm) else "cpu",
            "threads": self.threads,
            **({"processes": processes} if processes > 1 else {}),
            "upstream": {up.arm: self.key(up) for up in self.study.upstream(run)},
        }

    def split(self, run: Run) -> np.ndarray:
        """(N,) uint8: the run's split; without test rows these are in none."""
        split = read_split(self.study.tier, run.dataset, run.split_seed)
        return split if self.test else np.where(split == TEST, UNUSED, split)

    def finished(
        self,
        run: Run,
        entry: Entry,
        progress: Progress,
        upstream: Callable[["Study", Run], Upstream],
    ) -> tuple[dict[str, str], str]:
        """Checksums of the files of a run in its entry, where it is trained first if need be.

        Args:
            run: the run.
            entry: its entry in the store, locked.
            progress: is told of the training.
            upstream: finds the weights and record of a run that this one starts from.

        Returns:
            Name of file -> checksum, and the result in words; no files where another process leads.
        """
        files = entry.finished() if self.ranks.leads else None
        if self.ranks.decided(lambda: float(files is not None)):
            return files or {}, "from the run store"
        names, result = _train(self, run, entry, progress, upstream)
        return entry.finish(names) if self.ranks.leads else {}, result


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
    bench: Bench,
    run: Run,
    entry: Entry,
    progress: Progress,
    upstream: Callable[["Study", Run], Upstream],
) -> tuple[list[str], str]:
    """Train one run into its entry of the store; names of its files, and the result in words."""
    assignment = Assignment(
        run=run,
        interactions=bench.interactions,
        split=bench.split(run),
        upstream={up.arm: upstream(bench.study, up) for up in bench.study.upstream(run)},
        device=bench.device,
        checkpoint=Checkpoint(entry.checkpoint, entry.key),
        progress=progress,
        ranks=bench.ranks,
    )
    outcome = run.spec.train(assignment)

    names = []
    if bench.ranks.leads:
        with together():
            names = _write(bench, run, entry, assignment, outcome)
    return names, f"{best(outcome.curve)}{progress.seconds:.1f} s"


def _write(
    bench: Bench, run: Run, entry: Entry, assignment: Assignment, outcome: Outcome
) -> list[str]:
    """Write the files of a trained run into its entry; their names."""
    progress = assignment.progress
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
            **bench.made_of(run),
            "machine": _processor(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in LIBRARIES},
            "provenance": bench.interactions.card["provenance"],
            "key": entry.key,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        sealed=True,
    )
    return names


def _published(study: "Study", run: Run) -> Upstream:
    """Published weights and record of an upstream run."""
    weights = load_file(run_file(study.tier, run, MODEL))
    return Upstream(weights, read_run(study.tier, run, RECORD))


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
