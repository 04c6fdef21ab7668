"""Table 1 of M3oE: users, items and rows of each domain."""

from typing import Any

import pandas as pd

from domain_experts.reporting.collect import PRESENT, Results
from domain_experts.reporting.columns import caption, labels
from domain_experts.reporting.m3oe.cells import STUDY, in_order, records, shares
from domain_experts.reporting.published import published
from domain_experts.reporting.render import MISSING, Table, counts

COUNTED = ("users", "items", "rows")
SPLITS = ("train", "validation", "test")


def m3oe_datasets(results: Results) -> Table:
    """Data set x domain: users, items, rows, positive rates, splits; published beside."""
    expected = results.expected(*STUDY)
    datasets = list(dict.fromkeys(run.dataset for run in in_order(results, expected)))
    rows = [row for dataset in datasets for row in _rows(results, dataset)]
    tasks = max((int(name[-1]) for row in rows for name in row if _is_rate(name)), default=0)
    rates = [f"positive_rate_t{t}" for t in range(1, tasks + 1)]
    whole = [*COUNTED, *SPLITS]
    columns = ["source", "dataset", "status", "domain", "number", *whole, "share", *rates]
    frame = pd.DataFrame(rows, columns=[*columns, "seen_users"]).astype(
        dict.fromkeys(whole, "Int64")
        | dict.fromkeys(["share", *rates, "seen_users"], "float64")
        | {"number": "str", "domain": "str"}
    )
    keys = ["source", "number"]
    for name in COUNTED:
        known = published(name, ["dataset", "domain"])
        known.columns = pd.Index([*keys, f"published_{name}"])
        frame = frame.merge(known, "left", keys)
    frame["verdict"] = [_verdict(row) for row in records(frame)]
    printed = labels(frame[["dataset"]])
    printed["Status"] = frame["status"]
    printed["Domain"] = frame["domain"].replace("", MISSING)
    for name in COUNTED:
        printed[name.capitalize()] = counts(frame[name])
    printed["Share"] = _percent(frame["share"])
    for t, rate in enumerate(rates, start=1):
        printed[f"Positive, T{t}"] = _percent(frame[rate])
    for name in SPLITS:
        printed[name.capitalize()] = counts(frame[name])
    printed["Test users seen in training"] = shares(frame["seen_users"])
    printed["Published users / items / rows"] = _published(frame)
    text = caption(
        results,
        None,
        "Domains of the M3oE study: users, items and rows, share of the data set's rows, share of "
        "positive labels by task, rows of train, validation and test on the split of the first "
        "seed, and share of the domain's test users with training rows in any domain. Published: "
        "M3oE's Table 1; met if all three are equal.",
    )
    return Table("m3oe_datasets", text, frame, printed, _tasks(results, datasets))


def _rows(results: Results, dataset: str) -> list[dict[str, Any]]:
    """One row a domain; one that says why where nothing is known."""
    about = {"source": results.study.params.data.datasets[dataset].source, "dataset": dataset}
    found = [entry for entry in results.populations if entry["dataset"] == dataset]
    if not found:
        return [about | {"status": results.missing(dataset), "number": "", "domain": ""}]
    first = min(found, key=lambda entry: int(entry["split_seed"]))
    everything = [sum(split) for split in zip(*first["rows"].values(), strict=True)]
    rows = []
    for d, name in enumerate(first["domains"]):
        tested = first["test_users"][d]
        rows.append(
            about
            | {"status": PRESENT, "domain": name, "number": str(d + 1)}
            | {"users": first["users"][d], "items": first["items"][d], "rows": everything[d]}
            | {"share": everything[d] / sum(everything)}
            | {split: first["rows"][split][d] for split in SPLITS}
            | {
                f"positive_rate_t{t}": first["positives"][task][d] / everything[d]
                for t, task in enumerate(first["tasks"], start=1)
            }
            | {"seen_users": first["seen_test_users"][d] / tested if tested else None}
        )
    return rows


def _is_rate(name: str) -> bool:
    return name.startswith("positive_rate_t")


def _verdict(row: dict[str, Any]) -> str:
    """Whether all three counts are the published ones."""
    if pd.isna(row["published_rows"]) or pd.isna(row["rows"]):
        return ""
    same = all(row[name] == row[f"published_{name}"] for name in COUNTED)
    return "met" if same else "not met"


def _published(frame: pd.DataFrame) -> list[str]:
    cells = zip(*(counts(frame[f"published_{name}"]) for name in COUNTED), strict=True)
    texts = (MISSING if MISSING in cell else " / ".join(cell) for cell in cells)
    pairs = zip(texts, frame["verdict"], strict=True)
    return [f"{text} ({word})" if word else text for text, word in pairs]


def _percent(values: "pd.Series[float]") -> list[str]:
    return [MISSING if pd.isna(value) else f"{100 * value:.2f} %" for value in values]


def _tasks(results: Results, datasets: list[str]) -> tuple[str, ...]:
    """What the tasks are."""
    named: dict[str, list[str]] = {}
    for dataset in datasets:
        for entry in results.populations:
            if entry["dataset"] == dataset:
                text = ", ".join(f"T{t} {name}" for t, name in enumerate(entry["tasks"], start=1))
                own = named.setdefault(text, [])
                own += [dataset] if dataset not in own else []
    return tuple(f"{', '.join(own)}: {text}." for text, own in named.items())
