"""Table 3 of M3oE, which of its modules matter, and the ways to train its fusion scalars."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from domain_experts.reporting.collect import Results
from domain_experts.reporting.columns import KEYS, caption, labels, means, or_status
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.m3oe.cells import (
    OVERALL,
    PUBLISHED_KEYS,
    by_run,
    less_published,
    published_text,
    records,
    tolerance_note,
    with_published,
)
from domain_experts.reporting.render import Table, counts, mean_sd, number
from domain_experts.reporting.summary import over_seeds, paired_gain
from domain_experts.runs import DEFAULT_VARIANT, Run

ABLATIONS = {
    DEFAULT_VARIANT: "M3oE",
    "scalars=fixed,start=0.0": "Without AutoML: all four weights 0.5",
    "fusion=concatenated": "Modules concatenated",
    "fusion=gated": "Modules fully gated",
    "domain-module=False": "Without the domain module",
    "task-module=False": "Without the task module",
    "domain-module=False,task-module=False": "Without both",
    "tower-norm=batch": "BatchNorm in the towers",
}
"""Variant to what it is in words; the paper's rows first."""
AUTOML = {
    DEFAULT_VARIANT: "Upper level alone",
    "scalars=both,upper-loss=mean": "Both levels, as released",
    "scalars=lower": "Lower level alone",
    "upper-rows=validation": "Upper level, on validation rows",
    "upper-loss=mean": "Upper level, by the mean loss",
    "upper-order=2": "Upper level, second order",
    "scalars=fixed": "Fixed at their start, 0.73",
    "scalars=fixed,start=0.0": "Fixed at 0.5",
}
"""The same of the arms of the AutoML study."""
FUSION = {"a_D": "α domain", "a_T": "α task", "b_D": "β domain", "b_T": "β task"}
"""Fusion weights: level 2 of the domain and the task module, and level 1."""


def m3oe_ablations(results: Results) -> Table:
    """Data set x ablation: overall AUC, log loss, difference to M3oE, published."""
    text = (
        "M3oE less one of its parts, released protocol: overall AUC and mean log loss, mean ± "
        "standard deviation over seeds, and the difference to the whole model, paired by seed. "
        "Published: M3oE's Table 3."
    )
    frame, runs = _variants(results, "m3oe_ablations")
    frame = less_published(with_published(frame))
    defaults = frame[frame["variant"] == DEFAULT_VARIANT].drop_duplicates("source")
    whole = defaults.set_index("source")[f"published_{OVERALL}"]
    less = frame[f"published_{OVERALL}"] - whole.reindex(frame["source"]).to_numpy()
    frame["published_less_default"] = less.mask(frame["variant"] == DEFAULT_VARIANT)
    printed = _printed(frame, ABLATIONS)
    printed["Published AUC"] = [published_text(row) for row in records(frame)]
    printed["Published less M3oE"] = [
        number(value, signed=True) for value in frame["published_less_default"]
    ]
    printed["Parameters"] = counts(frame["parameters"])
    printed["Seeds"] = counts(frame["seeds"])
    expected = results.expected("m3oe_ablations")
    notes = [*tolerance_note(frame), *ending_notes(results, expected)]
    return Table("m3oe_ablations", caption(results, runs, text), frame, printed, tuple(notes))


def m3oe_automl(results: Results) -> Table:
    """Data set x way to train the fusion scalars: overall AUC, log loss, final fusion weights."""
    text = (
        "M3oE's fusion weights, trained in several ways, clean protocol: overall AUC and mean log "
        "loss, mean ± standard deviation over seeds, the difference to the default, paired by "
        "seed, and the weights of the model that is tested."
    )
    frame, runs = _variants(results, "m3oe_automl")
    printed = _printed(frame, AUTOML)
    for name, label in FUSION.items():
        pairs = zip(frame[f"{name}_mean"], frame[f"{name}_sd"], strict=True)
        printed[label] = [mean_sd(mean, sd, 3) for mean, sd in pairs]
    printed["Seeds"] = counts(frame["seeds"])
    notes = [
        "α weighs the domain and the task module against the shared experts; β is the weight of "
        "the row's own expert in a module, the rest being shared by the others.",
        *ending_notes(results, results.expected("m3oe_automl")),
    ]
    return Table("m3oe_automl", caption(results, runs, text), frame, printed, tuple(notes))


def in_words(variant: str, words: Mapping[str, str]) -> str:
    """A variant in words, or as params.yaml has it where there are none."""
    return words.get(variant, variant)


def fusion_in_test(run: Run, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Fusion weights of the model that is tested; empty for a model without them.

    That is the best epoch's, unless the protocol brings it back after early stopping alone and the
    epochs ran out: then it is the last one's.
    """
    points = metrics["curve"]
    best = max((i for i, point in enumerate(points) if point["best"]), default=0)
    stopped = len(points) - 1 - best >= run.settings.training.patience
    tested = best if stopped or run.settings.multi_protocol.restore == "always" else -1
    fusion: dict[str, float] = points[tested].get("fusion", {}) if points else {}
    return fusion


def _variants(results: Results, experiment: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An experiment's variants summed up over seeds, and its runs."""
    expected = results.expected(experiment)
    runs = by_run(results, expected)
    by_path = {run.path.as_posix(): run for run in expected}
    fusion = [
        fusion_in_test(run, results.metrics[run]) if run in results.metrics else {}
        for run in (by_path[path] for path in runs["run"])
    ]
    for name in FUSION:
        values = [weights.get(name) for weights in fusion]
        runs[name] = pd.Series(values, runs.index, dtype="float64")
    default = runs[runs["variant"] == DEFAULT_VARIANT]
    runs["less_default"] = paired_gain(runs, default, ["arm"], OVERALL)
    keys = [*dict.fromkeys([*PUBLISHED_KEYS, *KEYS])]
    frame = over_seeds(runs, keys, [OVERALL, "less_default", "log_loss", *FUSION])
    frame["parameters"] = runs.groupby(keys, sort=False)["parameters"].first().to_numpy()
    return frame, runs


def _printed(frame: pd.DataFrame, words: Mapping[str, str]) -> pd.DataFrame:
    printed = labels(frame[["dataset"]])
    printed["Variant"] = [in_words(variant, words) for variant in frame["variant"]]
    printed["Overall AUC"] = or_status(frame, means(frame, OVERALL))
    is_default = frame["variant"] == DEFAULT_VARIANT
    printed["Less the default"] = means(frame.mask(is_default), "less_default", signed=True)
    printed["Log loss"] = means(frame, "log_loss")
    return printed
