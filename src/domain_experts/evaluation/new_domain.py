"""What a domain that comes after training reaches, as metrics of a run."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from domain_experts.auc import Array, auc_by_domain
from domain_experts.evaluation.rows import Row, Rows
from domain_experts.runs import Run, reads


def new_domain_rows(
    run: Run, logits: Array, rows: Rows, record: Mapping[str, Any]
) -> Iterator[Row]:
    """AUC on the domain held out, by task, and how many of its training rows were there.

    Of an arm that has no new domain there is nothing to say.
    """
    new = held_out(run)
    if new is None:
        return
    # the arm that others start from reads no share: it has seen no row
    share = run.settings.new_domain.share if "new_domain" in reads(run.arm, run.backbone) else 0.0
    seen = math.ceil(share * record["rows"]["train"][new])
    for t, task in enumerate(rows.tasks):
        auc = auc_by_domain(logits[:, t], rows.labels[:, t], rows.domain, len(rows.domains))[new]
        found = {"new_domain_auc": float(auc), "new_domain_rows": seen}
        for metric, value in found.items():
            if not np.isnan(value):
                yield {"task": task, "metric": metric, "value": value}


def held_out(run: Run) -> int | None:
    """The domain that comes after training, of an arm that has one."""
    known = reads(run.arm, run.backbone)
    has_one = "new_domain.held_out" in known or "new_domain" in known
    return run.settings.new_domain.held_out if has_one else None
