"""The answer: in each experiment what is best, and whether it is above its reference."""

from collections import Counter

import pandas as pd

from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.columns import STALE_MARK, column
from domain_experts.reporting.frame import ALL_TASKS, Frames
from domain_experts.reporting.notes import status_notes
from domain_experts.reporting.render import MISSING, Table, number
from domain_experts.reporting.statistics import INTERVAL, summed
from domain_experts.results import CURRENT, STALE
from domain_experts.runs import DEFAULT_VARIANT

GROUP = ["experiment", "dataset", "reference"]
ABOVE, BELOW, EVEN, UNKNOWN = "above", "below", "not told apart", "no interval"


def gains(of: Frames) -> pd.DataFrame:
    """Every difference to a first reference, over seeds: a row for each candidate.

    Columns: experiment, metric, dataset, reference (in words), backbone, arm, variant, status,
    gain, low, high, verdict, and `validation`, the candidate's mean metric on validation rows.
    """
    parts = []
    for name in experiments(of.study):
        experiment = of.study.params.experiments[name]
        own = of.gains(name, experiment.metric)
        own = own[own["over"] == experiment.references[0]]
        several = set(own.loc[own["task"] == ALL_TASKS, "run"])
        own = own[(own["task"] == ALL_TASKS) | ~own["run"].isin(several)]
        own = own.assign(reference=[_words(of, other) for other in own["other"]])
        keys = ["dataset", "reference", "backbone", "arm", "variant", "task"]
        validation = own.merge(of.validation(experiment.metric), "left", ["run", "task"])
        found = summed(own, keys).merge(
            validation.groupby(keys, sort=False)["validation"].mean().reset_index(), "left", keys
        )
        parts.append(found.assign(experiment=name, metric=experiment.metric))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(
        verdict=[_verdict(low, high) for low, high in zip(frame["low"], frame["high"], strict=True)]
    )


def answer(of: Frames) -> Table:
    """In each experiment the candidate that is best on validation rows, on the test rows."""
    frame = gains(of)
    best = frame.loc[
        frame.dropna(subset="validation").groupby(GROUP, sort=False)["validation"].idxmax()
    ]
    printed = pd.DataFrame({"Experiment": best["experiment"], "Data set": best["dataset"]})
    printed["Best on validation rows"] = [
        _candidate(of, *row)
        for row in best[["experiment", "backbone", "arm", "variant"]].itertuples(index=False)
    ]
    printed["Against"] = best["reference"]
    printed["Verdict"] = best["verdict"]
    printed["Difference"] = [
        number(gain, signed=True) + STALE_MARK * (status == STALE)
        for gain, status in zip(best["gain"], best["status"], strict=True)
    ]
    printed["95 % interval"] = [
        MISSING if pd.isna(low) else f"{number(low, signed=True)} to {number(high, signed=True)}"
        for low, high in zip(best["low"], best["high"], strict=True)
    ]
    printed["Metric"] = [column(metric).head for metric in best["metric"]]
    printed["Seeds"] = [number(n, 0) for n in best["gain_n"]]
    printed = printed.reset_index(drop=True)
    caption = (
        "The answer of each experiment: the arm or setting that is best on validation rows, and "
        f"how far it is from its reference on test rows. Tier {of.study.tier}."
    )
    notes = (f"{INTERVAL}.", *status_notes(of, of.runs))
    emphasis = pd.DataFrame("", printed.index, printed.columns)
    return Table("answer", caption, best.reset_index(drop=True), printed, 5, emphasis, notes)


def sentences(of: Frames) -> list[str]:
    """The answer in three sentences: the first experiment, all others, and how current it is."""
    frame, names = gains(of), experiments(of.study)
    first = frame[frame["experiment"] == names[0]]
    parts = []
    for arm in [arm for arm in ARMS if arm in set(first["arm"]) and ARMS[arm].backbone]:
        counts = Counter(first.loc[first["arm"] == arm, "verdict"])
        parts.append(
            f"{ARMS[arm].label} is above its reference in {counts[ABOVE]} and below in "
            f"{counts[BELOW]} of {sum(counts.values())} pairs of data set and backbone"
        )
    reference = of.study.params.experiments[names[0]].references[0]
    question = of.study.params.experiments[names[0]].question
    text = [f"{question} Against {ARMS[reference.partition('/')[0]].label}: {'; '.join(parts)}."]
    others = frame[frame["experiment"] != names[0]]
    best = others.loc[
        others.dropna(subset="validation").groupby(GROUP, sort=False)["validation"].idxmax()
    ]
    counts = Counter(best["verdict"])
    text.append(
        f"In the other {len(names) - 1} experiments the candidate that is best on validation rows "
        f"is above its reference on test rows in {counts[ABOVE]} of {len(best)} comparisons, below "
        f"in {counts[BELOW]}."
    )
    status = Counter(of.runs.drop_duplicates("run")["status"])
    text.append(
        f"Of {sum(status.values())} runs {status[CURRENT]} are current and {status[STALE]} stale; "
        f"{sum(status.values()) - status[CURRENT] - status[STALE]} have no numbers."
    )
    return text


def _verdict(low: float, high: float) -> str:
    if pd.isna(low):
        return UNKNOWN
    return ABOVE if low > 0 else BELOW if high < 0 else EVEN


def _words(of: Frames, path: str) -> str:
    run = of.results.expected[path]
    return _named(run.backbone, run.arm)


def _named(backbone: str, arm: str) -> str:
    label = ARMS[arm].label
    return label if backbone == NO_BACKBONE else f"{label} ({BACKBONES[backbone].label})"


def _candidate(of: Frames, experiment: str, backbone: str, arm: str, variant: str) -> str:
    labels = of.study.params.experiments[experiment].labels
    what = _named(backbone, arm)
    return what if variant == DEFAULT_VARIANT else f"{what}, {labels.get(variant, variant)}"
