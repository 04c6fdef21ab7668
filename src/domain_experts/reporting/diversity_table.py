"""Gains by number of domains, by how different they are, and by rows."""

from statistics import mode
from typing import Any

import pandas as pd

from domain_experts.data.specs import Planted
from domain_experts.registry import ARMS
from domain_experts.reporting.collect import Results
from domain_experts.reporting.columns import caption, labels, means, wauc
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.render import Table, counts, number
from domain_experts.reporting.summary import over_seeds, paired_gain

VARIED = ("domains", "strength", "rows")
SEVERAL, REAL = "several", "real data"
ARMS_ON_REAL = ("base", "mlora", "moe_mlora")
KEYS = ["varied", "dataset", "task", "backbone", "arm", "variant"]
SIZES = ["domains", "rows", "strength"]


def diversity(results: Results) -> Table:
    """What varies x data set x backbone, one column an arm: gain over base in WAUC."""
    runs = _runs(results)
    base = runs[runs["arm"] == "base"]
    runs["gain_over_base"] = paired_gain(runs, base, ["varied", "variant"])
    best = {(row["dataset"], row["split_seed"]): row["wauc"] for row in results.bayes}
    pairs = zip(runs["dataset"], runs["split_seed"], strict=True)
    runs["bayes"] = pd.Series([best.get(pair) for pair in pairs], runs.index, dtype="float64")
    frame = over_seeds(runs, KEYS, ["wauc", "gain_over_base", "bayes"])
    sizes = runs.groupby(KEYS, sort=False)[SIZES].first()
    frame = frame.merge(sizes.reset_index(), "left", KEYS)
    cell = [key for key in KEYS if key != "arm"]
    rows = frame[frame["arm"] == "base"].reset_index(drop=True)
    printed = pd.concat(
        [
            pd.DataFrame({"Varied": rows["varied"].str.capitalize()}),
            labels(rows.drop(columns="arm")),
        ],
        axis="columns",
    )
    printed["Domains"] = counts(rows["domains"])
    printed["Rows"] = counts(rows["rows"])
    printed["Strength"] = [number(value, 1) for value in rows["strength"]]
    printed["Base"] = wauc(rows)
    for arm in [name for name in dict.fromkeys(frame["arm"]) if name != "base"]:
        own = rows[cell].merge(frame[frame["arm"] == arm], "left", cell)
        printed[f"{ARMS[arm].label}, gain"] = means(own, "gain_over_base", signed=True)
    printed["Best possible"] = means(rows, "bayes")
    printed["Seeds"] = counts(rows["seeds"])
    text = caption(
        results,
        runs,
        "Diversity: test WAUC of Base and gains over it, mean ± standard deviation over seeds, "
        "paired by seed, on generated data of which one quantity varies at a time, and on real "
        "data. Rows are those of train, validation and test. Strength: weight of the domains' own "
        "affinity. Best possible: WAUC of the true probabilities.",
    )
    notes = ending_notes(results, results.expected("diversity"))
    return Table("diversity", text, frame, printed, notes)


def _runs(results: Results) -> pd.DataFrame:
    """The runs by what varies between them; some generated data are in several parts."""
    specs = results.study.params.data.datasets
    generated = results.expected("diversity")
    real = [
        run
        for run in results.expected("main")
        if run.arm in ARMS_ON_REAL and not isinstance(specs[run.dataset], Planted)
    ]
    runs = results.frame([*generated, *real])
    names = dict.fromkeys(run.dataset for run in generated)
    usual = {name: mode(getattr(specs[d], name) for d in names) for name in VARIED if names}
    sizes = {dataset: _sizes(results, dataset) for dataset in dict.fromkeys(runs["dataset"])}
    for i, name in enumerate(SIZES):
        values = [sizes[dataset][i] for dataset in runs["dataset"]]
        runs[name] = pd.Series(values, runs.index, dtype="float64")
    parts = {d: _parts(specs[d], usual) if d in names else [REAL] for d in sizes}
    runs["varied"] = pd.Series([parts[d] for d in runs["dataset"]], runs.index, dtype="object")
    runs = runs.explode("varied", ignore_index=True)
    order = [*VARIED, SEVERAL, REAL]
    return runs.sort_values(
        "varied", key=lambda column: column.map(order.index), kind="stable", ignore_index=True
    )


def _parts(spec: Any, usual: dict[str, Any]) -> list[str]:
    """The quantities in which data may differ from the usual, all others being the usual."""
    unusual = {name for name in VARIED if getattr(spec, name) != usual[name]}
    return [name for name in VARIED if unusual <= {name}] or [SEVERAL]


def _sizes(results: Results, dataset: str) -> tuple[float | None, float | None, float | None]:
    """Domains, rows and strength, as far as they are known."""
    spec = results.study.params.data.datasets[dataset]
    if isinstance(spec, Planted):
        return spec.domains, spec.rows, spec.strength
    made = next((m for run, m in results.metrics.items() if run.dataset == dataset), None)
    if made is None:
        return None, None, None
    return len(made["domains"]), sum(map(sum, made["rows"].values())), None
