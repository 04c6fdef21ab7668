"""How much training an arm got, read from the learning curves."""

from typing import Any

from domain_experts.effort import rows_visited
from domain_experts.reporting.collect import Results
from domain_experts.runs import Run

# phases that train a backbone from nothing: a run that has one starts from no other run's weights
FROM_NOTHING = {"backbone", "joint"}


def epochs_trained(results: Results, run: Run) -> float:
    """Rows visited in training, over the training rows: epochs of one pass over all of them.

    Counts what the run starts from too. A lane of one domain visits the rows of that domain; of
    the experts only those that the run uses count.
    """
    metrics = results.metrics[run]
    domain_rows: list[int] = metrics["rows"]["train"]
    parts = [run, *_starts(results, run)]
    experts = metrics["run"]["experts"] if run.arm != "experts" else len(domain_rows)
    visited = sum(_visits(results.metrics[part], experts) for part in dict.fromkeys(parts))
    return visited / sum(domain_rows)


def _starts(results: Results, run: Run) -> list[Run]:
    """The runs whose weights a run starts from, and theirs."""
    phases = {point["phase"] for point in results.metrics[run]["curve"]}
    if phases & FROM_NOTHING:
        return []
    upstream = results.study.upstream(run)
    return [*upstream, *(start for up in upstream for start in _starts(results, up))]


def _visits(metrics: dict[str, Any], experts: int | None) -> int:
    """Rows that the training of one run visited."""
    domain_rows: list[int] = metrics["rows"]["train"]
    group_rows = domain_rows
    if metrics["run"]["arm"] == "oracle_experts":
        groups = metrics["planted_groups"]
        group_rows = [
            sum(rows for rows, own in zip(domain_rows, groups, strict=True) if own == group)
            for group in range(max(groups) + 1)
        ]
    return rows_visited(metrics["curve"], group_rows, experts)
