"""What each difference between the described and the released method does, one at a time."""

import json
from collections.abc import Iterable

import pandas as pd

from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.collect import Results
from domain_experts.reporting.columns import KEYS, arm_label, caption, labels, means, wauc
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.render import MISSING, Table, counts, mean_sd
from domain_experts.reporting.summary import over_seeds
from domain_experts.runs import Run
from domain_experts.settings import Protocol

NOTHING = "nothing"
SPLIT = "split_seed"
VALUES = ["wauc", "binned_wauc", "log_loss", "wauc_difference", "log_loss_difference"]
DIFFERENCES = ("wauc", "log_loss")


def switches(results: Results) -> Table:
    """Data set x backbone x arm x flipped switch: WAUC, and differences to nothing flipped.

    Differences are between runs of one seed. Where the flip changes the split, they are between
    different test rows.
    """
    runs = _flipped(results)
    frame = over_seeds(runs, [*KEYS, "switch", "meaning", "from", "to"], VALUES)
    # the other switches leave the test rows as they are
    frame["paired"] = frame["switch"] != SPLIT
    printed = labels(frame.drop(columns="variant"))
    printed["Switch"] = frame["switch"]
    printed["From"], printed["To"] = (frame[end].replace("", MISSING) for end in ("from", "to"))
    printed["WAUC"] = wauc(frame)
    printed["500-bin WAUC"] = means(frame, "binned_wauc")
    marks = ["" if paired else "‡" for paired in frame["paired"]]
    for head, name in zip(("WAUC difference", "Log loss difference"), DIFFERENCES, strict=True):
        own = frame[[f"{name}_difference_mean", f"{name}_difference_sd"]]
        own = own.mask(frame["switch"] == NOTHING)
        printed[head] = [
            mean_sd(mean, sd, signed=True) + (mark if pd.notna(mean) else "")
            for (mean, sd), mark in zip(own.to_numpy(), marks, strict=True)
        ]
    printed["Seeds"] = counts(frame["seeds"])
    text = caption(
        results,
        runs,
        "Switches: each difference between the described and the released method, flipped alone, "
        "from either side; mean ± standard deviation over seeds. Differences are to the same arm "
        "with nothing flipped, by seed.",
    )
    notes = _meanings(frame)
    if "‡" in marks:
        notes.insert(0, "‡ On other test rows than with nothing flipped: not paired.")
    notes += _gaps(runs)
    notes += ending_notes(results, results.expected("switches"))
    return Table("switches", text, frame, printed, tuple(notes))


def _flipped(results: Results) -> pd.DataFrame:
    """The runs, each with the switch that is flipped, and differences to nothing flipped."""
    expected = results.expected("switches")
    runs = results.frame(expected)
    # an arm as described beside the same as released
    families = list(dict.fromkeys(spec.trainer for spec in ARMS.values()))
    runs["family"] = [families.index(ARMS[arm].trainer) for arm in runs["arm"]]
    runs["place"] = [results.study.all_datasets.index(dataset) for dataset in runs["dataset"]]
    runs = runs.sort_values(["place", "family"], kind="stable", ignore_index=True)
    by_path = {run.path.as_posix(): run for run in expected}
    details = pd.DataFrame(
        [_switch(results, by_path[path]) for path in runs["run"]],
        runs.index,
        columns=["switch", "meaning", "from", "to"],
    )
    runs = pd.concat([runs, details], axis="columns")
    cell = ["dataset", "task", "backbone", "arm", "seed"]
    unflipped = runs.loc[runs["switch"] == NOTHING, [*cell, *DIFFERENCES]]
    pairs = runs[cell].merge(unflipped, "left", cell, validate="many_to_one")
    for name in DIFFERENCES:
        runs[f"{name}_difference"] = runs[name].to_numpy() - pairs[name].to_numpy()
    return runs


def _switch(results: Results, run: Run) -> tuple[str, str, str, str]:
    """Name and meaning of the flipped switch, and its values before and after."""
    if not run.variant:
        return NOTHING, "", "", ""
    ((key, value),) = run.variant
    name = key.removeprefix("protocol.")
    before = getattr(results.study.params.protocols[ARMS[run.arm].protocol], name)
    return name, Protocol.model_fields[name].description or "", _text(before), _text(value)


def _text(value: object) -> str:
    """A value as params.yaml has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _meanings(frame: pd.DataFrame) -> list[str]:
    """What each switch means; of one without a description, what it may be."""
    flipped = frame[frame["switch"] != NOTHING].drop_duplicates("switch")
    return [
        f"{row['switch']}: {row['meaning'] or row['from'] + ' or ' + row['to']}."
        for row in flipped.to_dict("records")
    ]


def _gaps(runs: pd.DataFrame) -> list[str]:
    """What all switches do at once: each released arm on the described split, less its like."""
    cell = ["dataset", "task", "backbone", "seed", "split_seed"]
    described = runs[runs["switch"] == NOTHING]
    notes = []
    for arm, other in _counterparts(runs["arm"]):
        own = runs[(runs["arm"] == arm) & runs["switch"].isin([NOTHING, SPLIT])]
        pairs = own.merge(described[described["arm"] == other], "inner", cell)
        gaps = pairs.assign(gap=pairs["wauc_x"] - pairs["wauc_y"]).dropna(subset="gap")
        for (dataset, backbone), seeds in gaps.groupby(["dataset", "backbone"], sort=False)["gap"]:
            notes.append(
                f"{dataset}, {BACKBONES[str(backbone)].label}, all switches at once, on one split: "
                f"{arm_label(arm)} less {arm_label(other)} "
                f"{mean_sd(seeds.mean(), seeds.std(), signed=True)} in WAUC."
            )
    return notes


def _counterparts(arms: Iterable[str]) -> list[tuple[str, str]]:
    """Each released arm with the described one whose switches are the opposite."""
    names = list(dict.fromkeys(arms))
    return [
        (arm, other)
        for arm in names
        for other in names
        if ARMS[arm].protocol != "described" and ARMS[arm].protocol == ARMS[other].counterpart
    ]
