"""Progress of long trainings, as plain lines that several jobs can share a terminal with."""

import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from domain_experts.runs import Run, variant_name

SECONDS_BETWEEN_LINES = 30.0
TALLY = "DOMAIN_EXPERTS_TALLY"
"""Environment variable with the workflow's tally of runs (`start_tally`)."""
MINUTE = 60


def start_tally(path: Path, runs: int) -> None:
    """Open a workflow's tally: the number of runs to make and the time; each run adds a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{runs} {time.time()}\n")


def count_run() -> str:
    """Count a finished run, and tell the share: `[ 37/331  11 %  4 min left] `.

    Nothing is told outside a workflow.
    """
    path = os.environ.get(TALLY)
    if not path:
        return ""
    with Path(path).open("a+") as tally:
        tally.write("\n")
        tally.flush()
        tally.seek(0)
        first, *finished = tally.readlines()
    (runs, started), done = first.split(), len(finished)
    left = (time.time() - float(started)) / done * (int(runs) - done)
    time_left = f"{left / MINUTE:.0f} min" if left >= MINUTE else f"{left:.0f} s"
    return f"[{done:{len(runs)}}/{runs} {done / int(runs):4.0%}  {time_left} left] "


def title(run: Run) -> str:
    """`planted/mlp/moe_mlora seed=2022`, with the variant if it is not the default."""
    variant = f"{variant_name(run.variant)} " if run.variant else ""
    return f"{run.dataset}/{run.backbone}/{run.arm} {variant}seed={run.seed}"


def best(curve: Iterable[Mapping[str, Any]]) -> str:
    """The best validation AUC of a training, in words."""
    values = [point["validation_auc"] for point in curve if point["best"]]
    return f"validation AUC {max(values):.4f}  ".replace(" 0.", " .") if values else ""


class Progress:
    """Prints an epoch now and then, if it `speaks`; counts rows and seconds for the cost table."""

    def __init__(self, title: str, speaks: bool = True) -> None:
        self.title = title
        self.speaks = speaks
        self.rows = 0
        self.epochs: float = 0
        self.training_seconds = 0.0
        self.sessions = 1
        self._earlier_seconds = 0.0
        self._start = self._last_line = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start, with those that earlier sessions of the run have saved."""
        return self._earlier_seconds + time.monotonic() - self._start

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        return {
            "rows": self.rows,
            "epochs": self.epochs,
            "training_seconds": self.training_seconds,
            "sessions": self.sessions,
            "seconds": self.seconds,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Count on from a checkpoint's state."""
        self.rows, self.epochs = state["rows"], state["epochs"]
        self.training_seconds = state["training_seconds"]
        self.sessions = state["sessions"] + 1
        self._earlier_seconds = state["seconds"]

    @property
    def rows_per_second(self) -> float | None:
        """Training throughput, evaluation not counted."""
        return self.rows / self.training_seconds if self.training_seconds else None

    def trained(
        self,
        leg: str,
        epoch: float,
        epochs: float,
        rows: int,
        seconds: float,
        best: float,
        left: int,
    ) -> None:
        """Count what was trained between two validations; `left` follow if none improves."""
        self.rows += rows
        self.epochs += epochs
        self.training_seconds += seconds
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.say(
                f"{leg} epoch {epoch:g}: best validation AUC {best:.4f}, "
                f"{rows / seconds / 1000:,.0f} k rows/s, "
                f"ends in {left * seconds:,.0f} s unless it improves"
            )

    def done(self, result: str) -> None:
        """Print the line of a finished run, with the share of the workflow that is done."""
        if self.speaks:
            print(f"{count_run()}{self.title}  {result}", file=sys.stderr, flush=True)

    def say(self, message: str) -> None:
        """Print one line to standard error."""
        if self.speaks:
            print(f"[{self.title}] {message}", file=sys.stderr, flush=True)
