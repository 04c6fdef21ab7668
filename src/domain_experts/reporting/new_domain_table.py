"""What a domain that comes after training costs, as an adapter and otherwise."""

import math
from typing import Any

import pandas as pd

from domain_experts.reporting.collect import Results
from domain_experts.reporting.columns import caption, labels, or_status
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.render import Table, counts, mean_sd
from domain_experts.reporting.summary import over_seeds
from domain_experts.runs import Run

START = "mlora_held_out"
KEYS = ["dataset", "task", "backbone", "domain", "share", "arm"]


def new_domain(results: Results) -> Table:
    """Data set x held-out domain x share of its rows x arm: AUC on the held-out domain."""
    expected = results.expected("new_domain")
    runs = results.frame(expected)
    by_path = {run.path.as_posix(): run for run in expected}
    pairs = zip(runs["run"], runs["task"], strict=True)
    details = pd.DataFrame(
        [_details(results, by_path[path], task) for path, task in pairs],
        runs.index,
        columns=["domain", "share", "auc", "rows", "trained"],
    ).astype({"domain": "str", "auc": "float64", "rows": "float64", "trained": "float64"})
    runs = pd.concat([runs, details], axis="columns")
    runs = runs.sort_values("share", kind="stable").sort_values(
        "dataset", key=lambda column: column.map(results.study.all_datasets.index), kind="stable"
    )
    frame = over_seeds(runs, KEYS, ["auc", "rows"])
    trained = runs.groupby(KEYS, sort=False)["trained"].first()
    frame = frame.merge(trained.reset_index(), "left", KEYS)
    printed = labels(frame)
    printed.insert(1, "New domain", frame["domain"])
    printed.insert(2, "Share of its rows", [f"{share:.0%}" for share in frame["share"]])
    printed["AUC"] = or_status(
        frame,
        [mean_sd(*pair) for pair in zip(frame["auc_mean"], frame["auc_sd"], strict=True)],
    )
    printed["Rows"] = counts(frame["rows_mean"])
    printed["Weights trained"] = counts(frame["trained"])
    printed["Seeds"] = counts(frame["seeds"])
    text = caption(
        results,
        runs,
        "New domain: test AUC on a domain that was held out, mean ± standard deviation over "
        "seeds, by the share of its training rows that is there. MLoRA without the new domain is "
        "what a new adapter and fine-tuning start from; its adapter for the domain adds nothing.",
    )
    return Table("new_domain", text, frame, printed, ending_notes(results, expected))


def _details(results: Results, run: Run, task: str) -> tuple[str, float, Any, Any, Any]:
    """Domain held out, share and number of its rows, its AUC, and weights trained on it."""
    settings = run.settings.new_domain
    share = 0.0 if run.arm == START else settings.share
    if run not in results.metrics:
        return str(settings.held_out), share, None, None, None
    metrics = results.metrics[run]
    number = metrics["parameters"]
    adapter = number["experts"] // len(metrics["domains"])
    trained = {
        START: 0,
        "new_domain_adapter": adapter,
        # the other domains' adapters see no row
        "new_domain_finetune": number["backbone"] + adapter,
    }
    auc = metrics["test"][task]["by_domain"]["auc"][settings.held_out]
    rows = math.ceil(share * metrics["rows"]["train"][settings.held_out])
    name = metrics["domains"][settings.held_out]
    return name, share, auc, rows, trained.get(run.arm, number["total"])
