"""How training ended, read from the learning curves: what kept its start, what met the cap."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.collect import Results
from domain_experts.runs import Run

OF_FIXED_LENGTH = {("autoifs", "search"), ("mlora_epochs", "joint")}
"""Arm and phase where the number of epochs is given, and no early stopping could end it."""


@dataclass(frozen=True)
class Ending:
    """How the training of one expert, of a gate, or of a whole run ended."""

    group: str
    """Data set, backbone if there is one, and experts per domain where they vary."""
    kind: str
    """What it is, in the plural."""
    run: Run
    lane: str
    moved: bool
    """It did not keep the weights that it started from."""
    capped: bool
    """It was still improving within `patience` at the last epoch allowed."""


def moved(metrics: dict[str, Any]) -> set[str]:
    """Lanes whose best weights are later than their start; lanes never trained are not."""
    return {p["lane"] for p in metrics["curve"] if p["best"] and p["epoch"] > 0}


def moved_experts(results: Results, run: Run) -> list[bool]:
    """Which of a MoE-MLoRA run's E experts have left their starting weights."""
    lanes = moved(results.metrics[_experts_run(results, run)])
    return [str(i) in lanes for i in range(results.metrics[run]["run"]["experts"])]


def endings(results: Results, runs: Iterable[Run]) -> list[Ending]:
    """All that was trained for `runs`, each once: experts that a gate uses count with it."""
    made = [run for run in runs if run in results.metrics]
    numbers = {run.settings.adapter.experts_per_domain for run in made if run.arm == "moe_mlora"}
    found: dict[Ending, None] = {}
    for run in sorted(made, key=results.order):
        group = run.dataset
        if run.spec.backbone:
            group += f", {BACKBONES[run.backbone].label}"
        if run.arm == "moe_mlora" and len(numbers) > 1:
            group += f", {run.settings.adapter.experts_per_domain} per domain"
        found |= dict.fromkeys(_endings(results, run, group))
    return list(found)


def ending_notes(results: Results, runs: Iterable[Run]) -> tuple[str, ...]:
    """Say which experts and gates kept their start, and what ended at the cap on epochs."""
    ended = endings(results, runs)
    kept = _tally((e for e in ended if e.kind in ("experts", "gates")), "moved", False)
    capped = _tally(ended, "capped", True)
    notes = []
    if kept:
        notes.append(
            f"Kept their starting weights (best epoch 0): {kept}. An expert adds nothing at its "
            "start, so gate weight on it means no change; a gate's start is random."
        )
    if capped:
        notes.append(f"Ended by the cap on epochs, with patience left: {capped}.")
    return tuple(notes)


def _endings(results: Results, run: Run, group: str) -> Iterator[Ending]:
    metrics = results.metrics[run]
    if run.arm == "experts":
        lanes = [str(i) for i in range(metrics["run"]["experts"])]
        yield from _lanes(results, run, group, "experts", lanes)
    elif run.arm == "moe_mlora":
        lanes = [str(i) for i in range(metrics["run"]["experts"])]
        yield from _lanes(results, _experts_run(results, run), group, "experts", lanes)
        yield from _lanes(results, run, group, "gates", ["all"])
    elif metrics["curve"]:
        late, capped = bool(moved(metrics)), bool(_capped(run, metrics))
        yield Ending(group, f"runs of {ARMS[run.arm].label}", run, "all", late, capped)


def _experts_run(results: Results, run: Run) -> Run:
    """The run that trained the experts of a gate."""
    return next(up for up in results.study.upstream(run) if up.arm == "experts")


def _lanes(results: Results, run: Run, group: str, kind: str, lanes: list[str]) -> Iterator[Ending]:
    metrics = results.metrics[run]
    late, capped = moved(metrics), _capped(run, metrics)
    for lane in lanes:
        yield Ending(group, kind, run, lane, lane in late, lane in capped)


def _capped(run: Run, metrics: dict[str, Any]) -> set[str]:
    """Lanes that a phase left at `max_epochs` before `patience` epochs without gain.

    A phase of fixed length knows no such cap.
    """
    training = run.settings.training
    found = set()
    by_lane: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for point in metrics["curve"]:
        by_lane.setdefault((point["phase"], point["lane"]), []).append(point)
    for (phase, lane), points in by_lane.items():
        if (run.arm, phase) in OF_FIXED_LENGTH:
            continue
        best = [i for i, point in enumerate(points, start=1) if point["best"]]
        without_gain = len(points) - max(best, default=0)
        if points[-1]["epoch"] == training.max_epochs and without_gain < training.patience:
            found.add(lane)
    return found


def _tally(ended: Iterable[Ending], flag: Literal["moved", "capped"], value: bool) -> str:
    """`group: n of m kind, ...; ...` of those whose flag has the value; empty if there are none."""
    groups: dict[str, Counter[str]] = {}
    hits: Counter[tuple[str, str]] = Counter()
    for ending in ended:
        groups.setdefault(ending.group, Counter())[ending.kind] += 1
        hits[ending.group, ending.kind] += getattr(ending, flag) == value
    parts = []
    for group, kinds in groups.items():
        counts = [f"{k} of {n} {kind}" for kind, n in kinds.items() if (k := hits[group, kind])]
        if counts:
            parts.append(f"{group}: {', '.join(counts)}")
    return "; ".join(parts)
