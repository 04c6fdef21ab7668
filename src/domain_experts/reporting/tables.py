"""The tables, from the runs' result files alone."""

from collections.abc import Iterable

import pandas as pd

from domain_experts import layout
from domain_experts.files import write_json
from domain_experts.params import Study
from domain_experts.registry import ARMS
from domain_experts.reporting.collect import ABSENT, NOT_RUN, PRESENT, Results, collect, read_run
from domain_experts.reporting.columns import arm_label, caption, labels, means, or_status, wauc
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.published import KEYS as CELL
from domain_experts.reporting.published import TOLERANCE, published, verdict
from domain_experts.reporting.render import (
    MISSING,
    Table,
    counts,
    mean_sd,
    number,
    write_csv,
    write_table,
)
from domain_experts.reporting.sharing import planted_sharing
from domain_experts.reporting.summary import over_seeds, paired_gain
from domain_experts.runs import Run

KEYS = ["dataset", "task", "backbone", "arm", "variant"]
WAUC = "WAUC is the exact AUC of each domain, weighted by its test rows"


def write_tables(study: Study) -> None:
    """Write results/<tier>/tables: each table as CSV, Markdown and LaTeX; metrics and curves.

    Raises:
        UserError: a result file is missing or damaged.
    """
    results = collect(study)
    folder = layout.results(study.tier) / "tables"
    for table in (
        overview(results),
        main_table(results),
        experts_per_domain(results),
        planted_sharing(results),
        cost(results),
        datasets(results),
    ):
        write_table(folder, table)
    default = [run for run in results.metrics if not run.variant]
    write_csv(folder / "curves.csv", curves(results, default))
    write_json(folder / "metrics.json", headline_metrics(results))


def overview(results: Results) -> Table:
    """Data set x backbone, one column an arm: WAUC. Floors have no backbone: they repeat."""
    runs = results.of("main")
    frame = over_seeds(runs, KEYS, ["wauc"])
    arms = list(dict.fromkeys(frame["arm"]))
    floors = [arm for arm in arms if not ARMS[arm].backbone]
    row_keys = ["dataset", "task", "backbone", "variant"]
    rows = frame if len(floors) == len(arms) else frame[~frame["arm"].isin(floors)]
    rows = rows.drop_duplicates(row_keys).reset_index(drop=True)
    numbers, printed = rows[[*row_keys, "status"]].copy(), labels(rows.drop(columns="arm"))
    marked = _other_splits(results)
    for arm in arms:
        keys = [key for key in row_keys if arm not in floors or key != "backbone"]
        cells = frame.loc[frame["arm"] == arm, [*keys, "wauc_mean", "wauc_sd", "status"]]
        own = rows[keys].merge(cells, "left", keys)
        numbers[[f"{arm}_wauc_mean", f"{arm}_wauc_sd"]] = own[["wauc_mean", "wauc_sd"]]
        printed[arm_label(arm, marked)] = wauc(own)
    text = caption(
        results,
        runs,
        f"Test WAUC of every arm, mean ± standard deviation over seeds. {WAUC}."
        + (" The rates are floors without training." if floors else ""),
    )
    notes = (*_split_notes(marked, arms), *_left_out(results))
    return Table("overview", text, numbers, printed, notes)


def main_table(results: Results) -> Table:
    """Data set x backbone x arm: WAUC, gains, parameters, published value."""
    runs = results.of("main")
    for reference in ("base", "mlora"):
        gain = paired_gain(runs, runs[runs["arm"] == reference], ["variant"])
        runs[f"gain_over_{reference}"] = gain.mask(runs["arm"].isin(["base", reference]))
    values = ["wauc", "gain_over_base", "gain_over_mlora", "binned_wauc"]
    frame = over_seeds(runs, KEYS, values)
    rows = runs.groupby(KEYS, sort=False)
    frame["parameters"] = rows["parameters"].first().to_numpy()
    frame = frame.merge(published("wauc"), "left", CELL)
    frame["less_published"] = frame["wauc_mean"] - frame["published"]
    frame["verdict"] = [
        "" if pd.isna(less) else verdict(less, sd)
        for less, sd in zip(frame["less_published"], frame["wauc_sd"], strict=True)
    ]
    marked = _other_splits(results)
    printed = labels(frame, marked)
    printed["WAUC"] = wauc(frame)
    printed["Gain over base"] = means(frame, "gain_over_base", signed=True)
    printed["Gain over MLoRA"] = means(frame, "gain_over_mlora", signed=True)
    binned = frame["binned_wauc_mean"].notna().any()
    if binned:
        printed["500-bin WAUC"] = means(frame, "binned_wauc")
    printed["Seeds"] = counts(frame["seeds"])
    printed["Parameters"] = counts(frame["parameters"])
    printed["Published"] = [
        MISSING if pd.isna(value) else f"{number(value)} ({number(less, signed=True)}, {word})"
        for value, less, word in zip(
            frame["published"], frame["less_published"], frame["verdict"], strict=True
        )
    ]
    notes = _split_notes(marked, frame["arm"])
    if binned:
        notes.append("500-bin WAUC is the public code's own measure.")
    if frame["published"].notna().any():
        notes.append(
            "In brackets: this less the published value; met if within "
            f"max({TOLERANCE}, 2 standard deviations over seeds)."
        )
    text = caption(
        results,
        runs,
        "Main results: test WAUC and gains in WAUC, mean ± standard deviation over seeds; "
        f"{_seed_draws(results)}. {WAUC}. "
        "Gains are means of differences between runs of one seed on the same split. Published: "
        f"{MISSING} where unknown.",
    )
    notes += ending_notes(results, results.study.expected.get("main", ()))
    return Table("main", text, frame, printed, (*notes, *_left_out(results)))


def experts_per_domain(results: Results) -> Table:
    """Data set x backbone x number of experts: WAUC, and gain over one expert."""
    runs = results.of("experts_per_domain")
    runs["variant"] = runs["others"]
    one = runs[runs["experts_per_domain"] == 1]
    runs["gain_over_one"] = paired_gain(runs, one, ["arm", "variant"])
    keys = [*KEYS, "experts_per_domain"]
    frame = over_seeds(runs, keys, ["wauc", "gain_over_one"])
    printed = labels(frame)
    printed["Experts per domain"] = counts(frame["experts_per_domain"])
    printed["WAUC"] = wauc(frame)
    printed["Gain over one expert"] = means(
        frame.mask(frame["experts_per_domain"] == 1), "gain_over_one", signed=True
    )
    printed["Seeds"] = counts(frame["seeds"])
    text = caption(
        results,
        runs,
        "Experts per domain: test WAUC and gain over one expert per domain, mean ± standard "
        "deviation over seeds; gains are paired by seed. Of the experts trained for a domain, the "
        "first are used.",
    )
    notes = ending_notes(results, results.study.expected.get("experts_per_domain", ()))
    return Table("experts_per_domain", text, frame, printed, notes)


def cost(results: Results) -> Table:
    """Data set x backbone x arm: time, throughput, memory; the one table that reads run.json."""
    study = results.study
    records = {
        run: read_run(study.tier, run, "run.json") for run in results.metrics if not run.variant
    }
    measured = ["wall_s", "train_rows_per_s", "epochs", "peak_memory_mb", "experts"]
    expected = (run for runs in study.expected.values() for run in runs if not run.variant)
    runs = results.frame(dict.fromkeys([*records, *expected])).drop_duplicates("run")
    by_path = {
        run.path.as_posix(): record | {"experts": results.metrics[run]["run"]["experts"]}
        for run, record in records.items()
    }
    for name in measured:
        values = [by_path.get(path, {}).get(name) for path in runs["run"]]
        runs[name] = pd.Series(values, runs.index, dtype="float64")
    frame = over_seeds(runs, ["dataset", "backbone", "arm"], measured)
    printed = labels(frame)
    printed["Experts"] = counts(frame["experts_mean"])
    seconds = zip(frame["wall_s_mean"], frame["wall_s_sd"], strict=True)
    printed["Seconds per run"] = or_status(frame, [mean_sd(mean, sd, 1) for mean, sd in seconds])
    printed["Rows/s"] = counts(frame["train_rows_per_s_mean"])
    printed["Epochs"] = [number(epochs, 1) for epochs in frame["epochs_mean"]]
    printed["Peak memory, MB"] = counts(frame["peak_memory_mb_mean"])
    printed["Runs"] = counts(frame["seeds"])
    machines = sorted(
        {f"{r['machine']}, {r['device']}, threads: {r['threads']}" for r in records.values()}
    )
    text = caption(
        results,
        runs,
        "Cost of training: means over seeds (± standard deviation). MoE-MLoRA counts its gate "
        "alone; it starts from Base and Experts. Rows/s are training rows per second.",
    )
    notes = [
        "Experts: as many as the run has. Arm Experts trains once for the largest number that any "
        "experiment asks for; a gate uses the first of each domain.",
        "Memory is the process's maximum so far; one process makes a job's runs one by one.",
    ]
    return Table("cost", text, frame, printed, (*notes, *(f"Measured on: {m}." for m in machines)))


def datasets(results: Results) -> Table:
    """Each data set's domains, rows and positive rate, on the split of the first seed."""
    study = results.study
    rows = []
    for dataset in study.all_datasets:
        row = {"dataset": dataset, "status": ABSENT, "task": ""}
        made = [run for run in results.metrics if run.dataset == dataset]
        if not made:
            rows.append(row if dataset in study.leave_out else row | {"status": NOT_RUN})
            continue
        # a split that the other arms share, if there is one
        chosen = min(made, key=lambda run: (run.spec.protocol != "described", run.split_seed))
        metrics = results.metrics[chosen]
        domain_rows = [sum(split) for split in zip(*metrics["rows"].values(), strict=True)]
        for task in metrics["tasks"]:
            test = metrics["test"][task]
            rows.append(
                row
                | {"status": PRESENT, "task": task, "split_seed": chosen.split_seed}
                | {"domains": len(metrics["domains"])}
                | {split: sum(counts) for split, counts in metrics["rows"].items()}
                | {"smallest_domain": min(domain_rows), "largest_domain": max(domain_rows)}
                | {
                    "positive_rate": _rate(test["by_domain"]),
                    "left_out": "; ".join(test["left_out"]),
                }
            )
    whole = ["domains", "train", "validation", "test", "smallest_domain", "largest_domain"]
    columns = ["dataset", "status", "task", "split_seed", *whole, "positive_rate", "left_out"]
    types = dict.fromkeys(["split_seed", *whole], "Int64")
    frame = pd.DataFrame(rows, columns=columns).astype(types)
    printed = labels(frame)
    printed["Status"] = frame["status"]
    printed["Split seed"] = [
        MISSING if pd.isna(seed) else str(seed) for seed in frame["split_seed"]
    ]
    heads = ["Domains", "Train", "Validation", "Test", "Smallest domain", "Largest domain"]
    for head, name in zip(heads, whole, strict=True):
        printed[head] = counts(frame[name])
    printed["Positive rate"] = [number(rate, 3) for rate in frame["positive_rate"]]
    text = caption(
        results,
        None,
        "Data sets: rows of one split, rows of the smallest and the largest domain, and positive "
        "rate of the split's test rows.",
    )
    return Table("datasets", text, frame, printed, _left_out(results))


def curves(results: Results, runs: Iterable[Run]) -> pd.DataFrame:
    """Learning curves of `runs`, one row a run, phase, lane and epoch."""
    rows = [
        {"run": run.path.as_posix(), "dataset": run.dataset, "backbone": run.backbone}
        | {"arm": run.arm, "seed": run.seed}
        | point
        for run in runs
        for point in results.metrics[run]["curve"]
    ]
    columns = ["run", "dataset", "backbone", "arm", "seed", "phase", "lane", "epoch"]
    return pd.DataFrame(rows, columns=[*columns, "train_loss", "validation_auc", "best"])


def headline_metrics(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Data set -> backbone -> arm -> mean test WAUC, for `dvc metrics show`."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    frame = (
        results.of("main").groupby(["dataset", "backbone", "arm"], as_index=False)["wauc"].mean()
    )
    for row in frame.dropna().itertuples():
        by_arm = summary.setdefault(row.dataset, {}).setdefault(row.backbone, {})
        by_arm[row.arm] = round(row.wauc, 6)
    return summary


def _other_splits(results: Results) -> dict[str, int | None]:
    """Arms whose split is not that of Base: to the seed that fixes it, None if each seed does."""
    base = results.study.settings("base").protocol.split_seed
    fixed = {
        run.arm: run.settings.protocol.split_seed for run in results.study.expected.get("main", ())
    }
    return {arm: seed for arm, seed in fixed.items() if seed != base}


def _split_notes(marked: dict[str, int | None], arms: Iterable[str]) -> list[str]:
    """What a dagger means."""
    return [
        f"† {ARMS[arm].label}: its split is "
        + ("drawn by each seed" if marked[arm] is None else f"fixed by seed {marked[arm]}")
        + ", so its test rows differ from those of Base, and it has no paired gains"
        + ("." if marked[arm] is None else "; its spread over seeds is that of training alone.")
        for arm in dict.fromkeys(arms)
        if arm in marked
    ]


def _seed_draws(results: Results) -> str:
    fixed = results.study.settings("base").protocol.split_seed
    if fixed is None:
        return "a seed draws split and training"
    return f"a seed draws training alone, for the split is fixed by seed {fixed}"


def _left_out(results: Results) -> tuple[str, ...]:
    """Name the domains that have no AUC."""
    found = dict.fromkeys(
        f"{run.dataset}, {task}: no AUC, and no part in WAUC, for {', '.join(names)} "
        "(test rows of one class)."
        for run, metrics in results.metrics.items()
        for task in metrics["tasks"]
        if (names := metrics["test"][task]["left_out"])
    )
    return tuple(found)


def _rate(by_domain: dict[str, list[int]]) -> float:
    return sum(by_domain["positives"]) / sum(by_domain["rows"])
