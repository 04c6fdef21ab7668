"""The search for an arm's settings: trials that see training and validation rows alone.

A trial's runs are runs like any other, but without test rows: they lie in the run store under keys
of their own, so that a search that was cut off goes on where it ended, by asking its sampler the
same questions again.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from safetensors.numpy import load_file

from domain_experts import layout
from domain_experts.arrays import read_array
from domain_experts.artifacts import MODEL, RECORD
from domain_experts.auc import auc_by_domain
from domain_experts.data.split import TRAIN, VALIDATION
from domain_experts.digest import code_digest
from domain_experts.errors import UserError
from domain_experts.files import read_json, write_json
from domain_experts.runs import Run, Search
from domain_experts.search_space import Choices, Range
from domain_experts.training.assignment import Upstream
from domain_experts.training.job import Bench
from domain_experts.training.memory import keep_freed_memory
from domain_experts.training.progress import Progress, title
from domain_experts.training.store import Entry
from domain_experts.training.streams import key

if TYPE_CHECKING:
    from domain_experts.study import Study

STARTUP = 5
"""Trials drawn at random before TPE learns from them and pruning begins."""


def execute(study: "Study", search: Search, device: str, threads: int) -> None:
    """Try settings until the budget is spent, and write `layout.search_file`.

    The first trial is the default, as far as it lies in the space. A trial's value is the
    experiment's metric on validation rows, the mean over seeds and tasks. The settings of the best
    trial are chosen, of the earlier one if two are as good. Where the search starts from another
    one, the first half of that one's trials count as its own.

    Raises:
        UserError: data or splits are missing or damaged, another process trains one of the runs, or
            validation rows do not define the metric.
    """
    keep_freed_memory()
    declared, space = study.declared(search), study.space(search)
    first = study.tuned(search, declared.seeds[0])
    bench = Bench.of(study, first.job, device, threads, test=False)
    splits = [bench.split(study.tuned(search, seed)) for seed in declared.seeds]
    rows = sum(int((split == TRAIN).sum()) for split in splits)
    most = declared.passes[study.tier] * rows
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = {"tpe": _tpe, "random": optuna.samplers.RandomSampler}[declared.sampler]
    pruner = optuna.pruners.MedianPruner(STARTUP) if declared.prune else optuna.pruners.NopPruner()
    asked = optuna.create_study(
        direction="maximize", sampler=sampler(seed=key(0, search.path) % 2**32), pruner=pruner
    )
    asked.enqueue_trial(_default(study, search))
    trials = _earlier(study, search)
    fixed = _best(trials)["settings"] if trials else {}
    trials = [trial | {"value": None} for trial in trials]
    own = len(trials)
    while len(trials) < declared.trials[study.tier]:
        # what is taken over may spend the passes, but not all trials
        if len(trials) > own and _visited(trials) >= most:
            break
        trial = asked.ask({name: _distribution(values) for name, values in space.items()})
        drawn = {name: _value(space[name], value) for name, value in trial.params.items()}
        settings = fixed | drawn
        tried = replace(bench, study=study.trying(search, tuple(settings.items())))
        found = _try(tried, search, trial)
        asked.tell(trial, found["value"], _PRUNED if found["value"] is None else None)
        trials.append({"arm": search.arm, "settings": settings} | found)
    result = {
        "asked": study.asked(search),
        "rows": rows,
        "trials": trials,
        "chosen": _best(trials)["settings"],
        "code": code_digest((*first.job.modules, __name__)),
        "data": bench.interactions.card["content"],
    }
    write_json(layout.search_file(study.tier, search), result, sealed=True)


_PRUNED = optuna.trial.TrialState.PRUNED


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)


def _earlier(study: "Study", search: Search) -> list[dict[str, Any]]:
    """The trials of the search that this one starts from which count as its own."""
    first = study.first(search)
    if first is None:
        return []
    path = layout.search_file(study.tier, first)
    study.require_found(first)
    found: list[dict[str, Any]] = read_json(path, "run snakemake, which makes it")["trials"]
    return found[: study.declared(search).trials[study.tier] // 2]


def _best(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the trials that were not pruned the best, and of equal ones the first."""
    return max((t for t in trials if t["value"] is not None), key=lambda t: float(t["value"]))


def _visited(trials: list[dict[str, Any]]) -> int:
    return sum(trial["rows_visited"] for trial in trials)


def _try(bench: Bench, search: Search, trial: optuna.Trial) -> dict[str, Any]:
    """A trial's `value` (None if it was pruned), those of its `seeds`, and its `rows_visited`."""
    study, metric = bench.study, bench.study.params.experiments[search.experiment].metric

    def stored(_: "Study", run: Run) -> Upstream:
        folder = Entry(bench.key(run)).folder
        return Upstream(load_file(folder / MODEL), read_json(folder / RECORD, f"remove {folder}"))

    visited, seeds = 0, {}
    for seed in study.declared(search).seeds:
        own = study.tuned(search, seed)
        for run in study.in_order([own]):
            entry, progress = Entry(bench.key(run)), Progress(title(run))
            with entry.lock():
                bench.finished(run, entry, progress, stored)
        visited += read_json(entry.folder / RECORD, f"remove {entry.folder}")["rows_visited"]
        logits = read_array(entry.folder / "validation.npy", f"remove {entry.folder}")
        seeds[str(seed)] = _validated(bench, own, logits, metric)
        mean = float(np.mean([*seeds.values()]))
        trial.report(mean, len(seeds))
        if len(seeds) < len(study.declared(search).seeds) and trial.should_prune():
            return {"value": None, "seeds": seeds, "rows_visited": visited}
    progress.done(f"trial {trial.number + 1}: validation {metric} {mean:.4f}")
    return {"value": mean, "seeds": seeds, "rows_visited": visited}


def _validated(bench: Bench, run: Run, logits: np.ndarray, metric: str) -> float:
    """WAUC or mean AUC on validation rows, the mean over tasks."""
    data, chosen = bench.interactions, bench.split(run) == VALIDATION
    labels, domain = data.labels[chosen], data.domain[chosen]
    rows = np.bincount(domain, minlength=len(data.schema.domains))
    weights = rows if metric == "wauc" else np.ones_like(rows)
    values = []
    for scores, own in zip(logits.T, labels.T, strict=True):
        auc = auc_by_domain(scores, own, domain, len(rows))
        known = ~np.isnan(auc)
        if not known.any():
            raise UserError(
                f"{run.dataset}: the validation rows of split {run.split_seed} define no {metric}, "
                "which the search needs; each task needs a domain with both classes among them"
            )
        values.append(np.average(auc[known], weights=weights[known]))
    return float(np.mean(values))


def _default(study: "Study", search: Search) -> dict[str, Any]:
    """What the default settings are in the space; nothing of those that lie outside."""
    found = {}
    for name, values in study.space(search).items():
        value = study.default(search, name)
        if isinstance(values, Range):
            inside, drawn = values.low <= value <= values.high, value
        else:
            inside, drawn = value in values, values.index(value) if value in values else None
        if inside:
            found[name] = drawn
    return found


def _distribution(values: Range | Choices) -> BaseDistribution:
    """Of choices, their numbers are drawn: a choice may be a list."""
    if not isinstance(values, Range):
        return CategoricalDistribution(range(len(values)))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, values.log)
    return FloatDistribution(values.low, values.high, values.log)


def _value(values: Range | Choices, drawn: Any) -> Any:
    return drawn if isinstance(values, Range) else values[drawn]
