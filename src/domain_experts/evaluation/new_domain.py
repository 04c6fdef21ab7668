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
    settings, known = run.settings.new_domain, reads(run.arm, run.backbone)
    if "new_domain.held_out" not in known and "new_domain" not in known:
        return
    held_out = settings.held_out
    # the arm that others start from reads no share: it has seen no row
    share = settings.share if "new_domain" in known else 0.0
    seen = math.ceil(share * record["rows"]["train"][held_out])
    for t, task in enumerate(rows.tasks):
        auc = auc_by_domain(logits[:, t], rows.labels[:, t], rows.domain, len(rows.domains))[
            held_out
        ]
        found = {"new_domain_auc": float(auc), "new_domain_rows": seen}
        for metric, value in found.items():
            if not np.isnan(value):
                yield {"task": task, "metric": metric, "value": value}
