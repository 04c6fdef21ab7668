"""Tables of what the results rest on: the data sets, and what training cost."""

import pandas as pd

from domain_experts.reporting.collect import PRESENT, Results
from domain_experts.reporting.columns import caption, labels, left_out, or_status
from domain_experts.reporting.main_tables import EXPERIMENTS
from domain_experts.reporting.render import MISSING, Table, counts, mean_sd, number
from domain_experts.reporting.summary import over_seeds


def cost(results: Results) -> Table:
    """Data set x backbone x arm: time, throughput, memory."""
    records = {
        run: metrics["provenance"] for run, metrics in results.metrics.items() if not run.variant
    }
    measured = ["wall_s", "train_rows_per_s", "epochs", "peak_memory_mb", "experts"]
    expected = [run for run in results.expected(*EXPERIMENTS) if not run.variant]
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
        row = {"dataset": dataset, "status": results.missing(dataset), "task": ""}
        made = [run for run in results.metrics if run.dataset == dataset]
        if not made:
            rows.append(row)
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
    return Table("datasets", text, frame, printed, left_out(results))


def _rate(by_domain: dict[str, list[int]]) -> float:
    return sum(by_domain["positives"]) / sum(by_domain["rows"])
