"""Which order of the rows, and so which test rows, gives which AUC."""

import pandas as pd

from domain_experts.reporting.collect import Results
from domain_experts.reporting.columns import KEYS, caption, labels, means, or_status
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.m3oe.cells import (
    OVERALL,
    PUBLISHED_KEYS,
    ROW_ORDER,
    by_run,
    cell_names,
    cell_notes,
    head,
    less_published,
    model_names,
    published_models,
    published_text,
    records,
    shares,
    tolerance_note,
    untrained_notes,
    with_published,
)
from domain_experts.reporting.render import MISSING, Table, counts, number
from domain_experts.reporting.summary import over_seeds
from domain_experts.study import Study

ORDERS = {
    "timestamp": "by time",
    "two_sorts": "two stable sorts, as an old merge",
    "file": "as in the file",
    "shuffled": "shuffled",
    "each_user": "by each user's own time",
}
PUBLISHED = "published"


def m3oe_row_order(results: Results) -> Table:
    """Order of the rows x model: users seen in training, AUC by cell, overall AUC, published."""
    expected = results.expected(*ROW_ORDER)
    runs = by_run(results, expected)
    cells = cell_names(runs)
    keys = [*dict.fromkeys([*PUBLISHED_KEYS, *KEYS])]
    frame = over_seeds(runs, keys, [OVERALL, "log_loss", *cells, "seen_users"])
    frame = less_published(with_published(frame))
    frame["order"] = [order_of(results.study, dataset) for dataset in frame["dataset"]]
    overall = frame.groupby("dataset", sort=False)[f"{OVERALL}_mean"]
    frame["rank"] = overall.rank(ascending=False)
    names = model_names(results)
    pairs = zip(frame["backbone"], frame["arm"], strict=True)
    frame.insert(0, "model", [names[pair] for pair in pairs])
    printed = labels(frame.drop(columns=["backbone", "arm"]))
    printed.insert(1, "Order", frame["order"])
    printed.insert(2, "Model", frame["model"])
    printed["Test users seen in training"] = shares(frame["seen_users_mean"])
    for cell in cells:
        printed[head(cell)] = [number(value) for value in frame[f"{cell}_mean"]]
    printed["Overall AUC"] = or_status(frame, means(frame, OVERALL))
    printed["Rank"] = counts(frame["rank"])
    printed["Published AUC"] = [published_text(row) for row in records(frame)]
    printed["Seeds"] = counts(frame["seeds"])
    heads = [str(name) for name in printed]
    printed = pd.concat([printed, _published_rows(frame, cells, heads)], ignore_index=True)
    text = caption(
        results,
        runs,
        "Orders of the same rows, of which the last tenth is the test: AUC by domain and task and "
        "their plain mean (overall, ± standard deviation over seeds), released protocol. Rank: of "
        "the overall AUC in that order, among the models that are finished.",
    )
    notes = [
        *cell_notes(results, expected),
        *untrained_notes(results, expected),
        *tolerance_note(frame),
        *ending_notes(results, expected),
    ]
    return Table("m3oe_row_order", text, frame, printed, tuple(notes))


def order_of(study: Study, dataset: str) -> str:
    """The order of a data set's rows in words; a dash where it has no named one."""
    order = getattr(study.params.data.datasets[dataset], "order", None)
    return ORDERS[order] if order else MISSING


def _published_rows(frame: pd.DataFrame, cells: list[str], heads: list[str]) -> pd.DataFrame:
    """The published cells of the models shown, as rows of their own."""
    shown = frame[["source", "backbone", "scope", "variant", "model"]].drop_duplicates()
    rows = []
    for row in records(shown.merge(published_models(), "inner", PUBLISHED_KEYS)):
        known = {head(cell): number(row.get(f"published_{cell}", float("nan"))) for cell in cells}
        overall = {"Overall AUC": number(row[f"published_{OVERALL}"])}
        names = {"Data set": f"{row['source']}, {PUBLISHED}", "Model": row["model"]}
        rows.append(dict.fromkeys(heads, MISSING) | names | known | overall)
    return pd.DataFrame(rows, columns=heads)
