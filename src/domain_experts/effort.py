"""How much training a learning curve stands for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# phases whose lanes see the rows of one domain, or planted group, alone
BY_DOMAIN = {"experts", "fine-tuning"}


def rows_visited(
    curve: Iterable[Mapping[str, Any]], rows: Sequence[int], experts: int | None
) -> int:
    """Rows that a training visited, a row as often as an epoch saw it.

    Args:
        curve: as in metrics.json.
        rows: training rows of each domain, or of each group that has experts of its own; lane i of
            a phase by domain sees those of i mod their number.
        experts: count the first so many experts only; None: all.
    """
    last = {(point["phase"], point["lane"]): int(point["epoch"]) for point in curve}
    visited = 0
    for (phase, lane), epochs in last.items():
        if phase not in BY_DOMAIN:
            visited += epochs * sum(rows)
        elif phase != "experts" or experts is None or int(lane) < experts:
            visited += epochs * rows[int(lane) % len(rows)]
    return visited
