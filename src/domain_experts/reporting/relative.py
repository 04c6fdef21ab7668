"""RelaImpr: the relative gain in AUC above chance, as M3oE's paper prints it (Table 2)."""

from typing import TypeVar

import pandas as pd

from domain_experts.reporting.columns import reference_label, run_label, stale_marked
from domain_experts.reporting.frame import ALL_TASKS, KEYS, over_status
from domain_experts.reporting.published import published
from domain_experts.reporting.render import number
from domain_experts.study import Study

ROUNDING = 2e-4
"""How far a mean of printed AUCs may be from the printed mean, and both be right."""
ROUNDING_RELATIVE = 1e-3
"""The same of a RelaImpr that is printed with two digits in percent."""
Number = TypeVar("Number", float, "pd.Series[float]")


def rela_impr(auc: Number, other: Number) -> Number:
    """(auc - 0.5) / (other - 0.5) - 1."""
    return (auc - 0.5) / (other - 0.5) - 1


def relative_notes(frame: pd.DataFrame, cells: list[str], over: str) -> list[str]:
    """RelaImpr of a reference by cell, over the best other row of its data set, in words.

    Args:
        frame: rows of one split a data set; of each cell it has the columns `<cell>` (AUC),
            `printed <cell>` (a published RelaImpr) and `again <cell>` (that of published AUCs).
        cells: names of the cells.
        over: the reference, `arm/backbone`.

    Returns:
        A sentence a data set.
    """
    notes = []
    for dataset, own in frame.groupby("dataset", sort=False):
        named = _is(own, over)
        reference, others = own[named], own[~named]
        parts = []
        for cell in cells:
            auc = reference[cell].mean()
            if pd.notna(auc) and others[cell].notna().any():
                best = others.sort_values(cell).dropna(subset=cell).iloc[-1]
                status = over_status(pd.Series([*reference["status"], best["status"]]))
                gain = stale_marked(_percent(rela_impr(auc, best[cell])), status)
                label = run_label(best["arm"], best["backbone"])
                beside = (reference[f"{kind} {cell}"].mean() for kind in ("printed", "again"))
                parts.append(f"{cell} {gain} over {label}{_beside(*beside)}")
        if parts:
            notes.append(
                f"RelaImpr, (AUC − 0.5) / (AUC of the best other − 0.5) − 1, of "
                f"{reference_label(over)} on {dataset}: {'; '.join(parts)}."
            )
    return notes


def published_again(study: Study, over: str) -> pd.DataFrame:
    """RelaImpr of a reference from published AUCs, over the best of all models on the same data.

    Returns:
        A row a data set, domain's `number` and task: `published_again`, with the keys of a run.
    """
    known, specs = published("auc", by_cell=True), study.params.data.datasets
    known = known[known["dataset"].isin([*specs])].reset_index(drop=True)
    known["source"] = [specs[dataset].source for dataset in known["dataset"]]
    cell = ["source", "number", "task"]
    named = _is(known, over)
    best = known[~named].groupby(cell)["published_auc"].max().rename("best")
    own = known[named].join(best, cell)
    return own.assign(published_again=rela_impr(own["published_auc"], own["best"]))


def _is(frame: pd.DataFrame, over: str) -> "pd.Series[bool]":
    named: pd.Series[bool] = frame["arm"] + "/" + frame["backbone"] == over
    return named


def _beside(printed: float, again: float) -> str:
    """A published RelaImpr, and that of the published AUCs if it is another."""
    if pd.isna(printed):
        return ""
    differs = abs(again - printed) > ROUNDING_RELATIVE
    apart = f", though the published AUCs give {_percent(again)}" if differs else ""
    return f" (published {_percent(printed)}{apart})"


def mean_notes(frame: pd.DataFrame, cells: list[str]) -> list[str]:
    """Published means that are not those of their own published cells."""
    known = frame[[*KEYS, *(f"published {cell}" for cell in cells)]].assign(task=ALL_TASKS)
    known = known.merge(published("macro_auc"), on=KEYS)
    mean = known.filter(regex="^published ").mean(axis=1, skipna=False)
    wrong = known.assign(mean=mean)[(mean - known["published_macro_auc"]).abs() > ROUNDING]
    return [
        f"{run_label(row['arm'], row['backbone'])} on {row['dataset']}: the published mean is "
        f"{number(row['published_macro_auc'])}, and the published cells have the mean "
        f"{number(row['mean'])}."
        for row in wrong.to_dict("records")
    ]


def _percent(value: float) -> str:
    return number(100 * value, 2, signed=True) + " %"
