"""What one training would take with more rows and domains than were ever run, on paper.

Time is taken from records: seconds a row of each phase, as a line in the number of domains. Memory
is counted from what training holds for each row, expert and batch.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from domain_experts.reporting.frame import Frames
from domain_experts.reporting.render import Shown, Table, number

PHASES = {"backbone": "base", "experts": "experts", "gate": "moe_mlora"}
"""Phase -> the arm whose runs are that phase alone."""
SIZES = (
    *((10**6, 10), (10**8, 10), (10**8, 1_000)),
    *((10**10, 10), (10**6, 10_000), (10**10, 10_000)),
)
"""Rows and domains."""
ORDER, FLOAT = 16, 4
"""Bytes for each training row, of its index and its place in the epoch's order, and of a number."""
STATES = 4
"""What there is of each trained weight: itself, its gradient and Adam's two moments."""
MOST_DOMAINS = np.iinfo(np.int16).max
"""A row's domain is an int16."""
REMEDIES = {
    "gate time": "give each row the experts of its domain's gate only (one product a group of "
    "domains), or choose a few experts a domain",
    "gate memory": "compute the experts of a batch in blocks of domains, and keep their sum alone",
    "experts time": "spread the lanes of the experts over jobs: domains exchange nothing",
    "experts memory": "spread the lanes of the experts over jobs: domains exchange nothing",
    "backbone time": "validate, and so save, several times an epoch; train on several processes",
    "backbone memory": "draw the order of rows block by block, blocks in random order",
    "domains": "a wider type for a row's domain",
}
"""What saturates -> what would be changed then."""


@dataclass(frozen=True)
class Measured:
    """What the records of a study say of one training."""

    seconds: dict[str, tuple[float, float]]
    """Phase -> seconds a row and epoch, and how many more for each domain."""
    backbone: float
    """Parameters of the shared part, mean over runs."""
    expert: float
    """Parameters of an expert."""
    train: float
    """Share of the rows that are training rows."""
    batch: float
    """Rows of a batch, mean over runs of the gate."""
    width: float
    """Units of all hidden layers, mean over runs of the gate."""

    @classmethod
    def of(cls, of: Frames) -> "Measured | None":
        """By the runs that have numbers; None if a phase has none."""
        runs = of.runs[of.runs["train_rows_per_s"].notna()]
        own = {phase: runs[runs["arm"] == arm] for phase, arm in PHASES.items()}
        if any(frame.empty for frame in own.values()):
            return None
        records = {phase: [of.record(run) for run in frame["run"]] for phase, frame in own.items()}
        # of runs as released, the settings say less
        gates = [r["settings"] for r in records["gate"] if r["settings"]]
        rows = [r["rows"] for r in records["backbone"]]
        return cls(
            {phase: line(frame) for phase, frame in own.items()},
            backbone=_mean(r["parameters"]["backbone"] for r in records["backbone"]),
            expert=_mean(
                r["parameters"]["experts"] / len(r["domains"]) for r in records["experts"]
            ),
            train=_mean(sum(r["train"]) / sum(map(sum, r.values())) for r in rows),
            batch=_mean(s["training"]["batch_size"] for s in gates),
            width=_mean(sum(s["model"]["hidden"]) for s in gates),
        )

    def hours(self, phase: str, rows: float, domains: float) -> float:
        """Hours of an epoch on one core."""
        a_row, a_domain = self.seconds[phase]
        return self.train * rows * (a_row + a_domain * domains) / 3600

    def memory(self, phase: str, rows: float, domains: float) -> float:
        """Bytes that a phase holds beside what a process takes anyway."""
        order, experts = ORDER * self.train * rows, FLOAT * self.expert * domains
        if phase == "backbone":
            return order + FLOAT * STATES * self.backbone
        if phase == "experts":
            return order + STATES * experts
        # all experts are computed for every row of a batch
        return order + experts + FLOAT * self.batch * domains * self.width

    def weights(self, domains: float) -> float:
        """Bytes of all weights that are kept."""
        return FLOAT * (self.backbone + self.expert * domains)

    def logits(self, rows: float) -> float:
        """Bytes of the logits of one run, of rows that are not training rows."""
        return FLOAT * (1 - self.train) * rows


def line(runs: pd.DataFrame) -> tuple[float, float]:
    """Seconds a row with no domains, and how many more for each, neither below 0."""
    domains = runs["domains"].to_numpy(float)
    seconds = 1 / runs["train_rows_per_s"].to_numpy(float)
    # relative errors: a slow machine's large numbers would outweigh all others
    design = np.column_stack([np.ones_like(domains), domains]) / seconds[:, None]
    (at_none, a_domain), _ = nnls(design, np.ones_like(domains))
    return float(at_none), float(a_domain)


def needs(
    known: Measured, rows: float, domains: float, memory_mb: float, minutes: float
) -> dict[str, float]:
    """What saturates -> how many times its limit is needed, the most first.

    A checkpoint is written after a validation, once an epoch: the epoch has to fit into the time
    limit, or a job never gets on.
    """
    found = {"domains": domains / MOST_DOMAINS}
    for phase in PHASES:
        found[f"{phase} time"] = 60 * known.hours(phase, rows, domains) / minutes
        found[f"{phase} memory"] = known.memory(phase, rows, domains) / (memory_mb * 1e6)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def scaling(of: Frames, memory_mb: float, minutes: float) -> Table | None:
    """Cost of one training by rows and domains, and what saturates first.

    Args:
        of: the study whose records say what a row costs.
        memory_mb: of a job.
        minutes: time limit of a job.

    Returns:
        None if the study has no runs of a phase.
    """
    known = Measured.of(of)
    if known is None:
        return None
    found = []
    for rows, domains in SIZES:
        first, *_ = needs(known, rows, domains, memory_mb, minutes).items()
        found.append(
            {
                "rows": rows,
                "domains": domains,
                **{f"{phase}_h": known.hours(phase, rows, domains) for phase in PHASES},
                "memory_gb": max(known.memory(phase, rows, domains) for phase in PHASES) / 1e9,
                "weights_gb": known.weights(domains) / 1e9,
                "logits_gb": known.logits(rows) / 1e9,
                "first": first[0],
                "times": first[1],
            }
        )
    frame = pd.DataFrame(found)
    shown = [
        *(
            Shown(f"{phase.capitalize()}, h", [number(v, 2) for v in frame[f"{phase}_h"]])
            for phase in PHASES
        ),
        Shown("Memory, GB", [number(v, 2) for v in frame["memory_gb"]]),
        Shown("Kept, GB", [number(v, 2) for v in frame["weights_gb"] + frame["logits_gb"]]),
        Shown("Nearest its limit", frame["first"].tolist()),
        Shown("Times the limit", [number(v, 2) for v in frame["times"]]),
    ]
    sizes = zip(frame["rows"], frame["domains"], strict=True)
    words = pd.DataFrame({"Rows, domains": [f"{_power(n)}, {_power(d)}" for n, d in sizes]})
    return Table.of(
        "scaling",
        f"One training on paper: hours of an epoch on one core by phase, memory, what is kept, and "
        f"what is nearest to its limit ({memory_mb:,.0f} MB and {minutes:,.0f} minutes a job).",
        frame,
        words,
        shown,
        [f"Where {what} saturates: {REMEDIES[what]}." for what in frame["first"].unique()],
    )


def _power(value: int) -> str:
    return f"10^{np.log10(value):.0f}"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([*values]))
