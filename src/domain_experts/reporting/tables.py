"""The tables, from the runs' result files alone."""

import pandas as pd

from domain_experts import layout
from domain_experts.files import write_json
from domain_experts.params import Study
from domain_experts.registry import ARMS
from domain_experts.reporting.collect import ABSENT, PRESENT, Results, collect, read_run
from domain_experts.reporting.columns import caption, labels, means, wauc
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

KEYS = ["dataset", "task", "backbone", "arm"]
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
    write_csv(folder / "curves.csv", curves(results))
    write_json(folder / "metrics.json", headline_metrics(results))


def overview(results: Results) -> Table:
    """Data set x backbone, one column an arm: WAUC. Floors have no backbone: they repeat."""
    runs = results.of("main")
    frame = over_seeds(runs, KEYS, ["wauc"])
    arms = list(dict.fromkeys(frame["arm"]))
    floors = [arm for arm in arms if not ARMS[arm].backbone]
    rows = frame[~frame["arm"].isin(floors)].drop_duplicates(["dataset", "task", "backbone"])
    rows = rows.reset_index(drop=True)
    numbers, printed = rows[["dataset", "task", "backbone", "status"]].copy(), labels(rows)
    del printed["Arm"]
    for arm in arms:
        keys = KEYS[:2] if arm in floors else KEYS[:3]
        cells = frame.loc[frame["arm"] == arm, [*keys, "wauc_mean", "wauc_sd", "status"]]
        own = rows[keys].merge(cells, "left", keys)
        numbers[[f"{arm}_wauc_mean", f"{arm}_wauc_sd"]] = own[["wauc_mean", "wauc_sd"]]
        printed[ARMS[arm].label] = wauc(own)
    text = caption(
        results,
        runs,
        f"Test WAUC of every arm, mean ± standard deviation over seeds. {WAUC}. The rates are "
        "floors without training; the released code has a split of its own.",
    )
    return Table("overview", text, numbers, printed, _left_out(results))


def main_table(results: Results) -> Table:
    """Data set x backbone x arm: WAUC, gains, parameters, published value."""
    runs = results.of("main")
    for reference in ("base", "mlora"):
        gain = paired_gain(runs, runs[runs["arm"] == reference])
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
    fixed = {
        run.arm: seed for run in results.study.expected.get("main", ()) if (seed := _fixed(run))
    }
    printed = labels(frame, marked=fixed)
    printed["WAUC"] = wauc(frame)
    printed["Gain over base"] = means(frame, "gain_over_base", signed=True)
    printed["Gain over MLoRA"] = means(frame, "gain_over_mlora", signed=True)
    printed["500-bin WAUC"] = means(frame, "binned_wauc")
    printed["Seeds"] = counts(frame["seeds"])
    printed["Parameters"] = counts(frame["parameters"])
    printed["Published"] = [
        MISSING if pd.isna(value) else f"{number(value)} ({number(less, signed=True)}, {word})"
        for value, less, word in zip(
            frame["published"], frame["less_published"], frame["verdict"], strict=True
        )
    ]
    notes = [
        f"† {ARMS[arm].label}: its split is fixed by seed {seed}, so its test rows differ from the "
        "other arms', it has no paired gains, and its spread over seeds is that of training alone; "
        "its 500-bin WAUC is the public code's own measure."
        for arm, seed in fixed.items()
    ]
    if frame["published"].notna().any():
        notes.append(
            "In brackets: this less the published value; met if within "
            f"max({TOLERANCE}, 2 standard deviations over seeds)."
        )
    text = caption(
        results,
        runs,
        f"Main results: test WAUC and gains in WAUC, mean ± standard deviation over seeds; a "
        f"seed draws split and training. {WAUC}. "
        "Gains are means of differences between runs of one seed on the same split. Published: "
        f"{MISSING} where unknown.",
    )
    return Table("main", text, frame, printed, (*notes, *_left_out(results)))


def experts_per_domain(results: Results) -> Table:
    """Data set x backbone x number of experts: WAUC, and gain over one expert."""
    runs = results.of("experts_per_domain")
    runs["gain_over_one"] = paired_gain(runs, runs[runs["experts_per_domain"] == 1])
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
        "deviation over seeds; gains are paired by seed.",
    )
    return Table("experts_per_domain", text, frame, printed)


def cost(results: Results) -> Table:
    """Data set x backbone x arm: time, throughput, memory; the one table that reads run.json."""
    study = results.study
    records = {run: read_run(study.tier, run, "run.json") for run in study.runs if not run.variant}
    measured = ["wall_s", "train_rows_per_s", "epochs", "peak_memory_mb"]
    absent = [
        run for runs in study.expected.values() for run in runs if run.dataset in study.leave_out
    ]
    runs = results.frame([*records, *(run for run in dict.fromkeys(absent) if not run.variant)])
    runs = runs.drop_duplicates("run")
    by_path = {run.path.as_posix(): record for run, record in records.items()}
    for name in measured:
        values = [by_path.get(path, {}).get(name) for path in runs["run"]]
        runs[name] = pd.Series(values, runs.index, dtype="float64")
    frame = over_seeds(runs, ["dataset", "backbone", "arm"], measured)
    printed = labels(frame)
    printed["Seconds per run"] = [
        ABSENT if status == ABSENT else mean_sd(mean, sd, 1)
        for status, mean, sd in zip(
            frame["status"], frame["wall_s_mean"], frame["wall_s_sd"], strict=True
        )
    ]
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
        "alone; it starts from Base and Experts. Rows/s are training rows per second; memory is "
        "the process's peak.",
    )
    return Table("cost", text, frame, printed, tuple(f"Measured on: {m}." for m in machines))


def datasets(results: Results) -> Table:
    """Each data set's domains, rows and positive rate, on the split of the first seed."""
    study = results.study
    rows = []
    for dataset in study.all_datasets:
        row = {"dataset": dataset, "status": ABSENT, "task": ""}
        made = [run for run in study.runs if run.dataset == dataset and _fixed(run) is None]
        if not made:
            rows.append(row)
            continue
        metrics = results.metrics[min(made, key=lambda run: run.seed)]
        domain_rows = [sum(split) for split in zip(*metrics["rows"].values(), strict=True)]
        for task in metrics["tasks"]:
            test = metrics["test"][task]
            rows.append(
                row
                | {"status": PRESENT, "task": task, "domains": len(metrics["domains"])}
                | {split: sum(counts) for split, counts in metrics["rows"].items()}
                | {"smallest_domain": min(domain_rows), "largest_domain": max(domain_rows)}
                | {
                    "positive_rate": _rate(test["by_domain"]),
                    "left_out": "; ".join(test["left_out"]),
                }
            )
    whole = ["domains", "train", "validation", "test", "smallest_domain", "largest_domain"]
    columns = ["dataset", "status", "task", *whole, "positive_rate", "left_out"]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(whole, "Int64"))
    printed = labels(frame)
    printed["Status"] = frame["status"]
    heads = ["Domains", "Train", "Validation", "Test", "Smallest domain", "Largest domain"]
    for head, name in zip(heads, whole, strict=True):
        printed[head] = counts(frame[name])
    printed["Positive rate"] = [number(rate, 3) for rate in frame["positive_rate"]]
    text = caption(
        results,
        None,
        "Data sets: rows of the first seed's split, rows of the smallest and the largest domain, "
        "and positive rate of the test rows.",
    )
    return Table("datasets", text, frame, printed, _left_out(results))


def curves(results: Results) -> pd.DataFrame:
    """Learning curves of the default variants, one row a run, phase, lane and epoch."""
    rows = [
        {"run": run.path.as_posix(), "dataset": run.dataset, "backbone": run.backbone}
        | {"arm": run.arm, "seed": run.seed}
        | point
        for run, metrics in results.metrics.items()
        if not run.variant
        for point in metrics["curve"]
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


def _fixed(run: Run) -> int | None:
    """Seed of a split that does not follow the run's own seed."""
    return run.settings.protocol.split_seed


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
