"""What the training of other arms cost."""

import math

import numpy as np

from domain_experts.effort import rows_visited
from domain_experts.training.task import Task


def epochs_of(task: Task) -> int:
    """Epochs over all training rows that visit as many rows as MoE-MLoRA did upstream, rounded up.

    An expert's epoch visits the rows of its domain, any other epoch all rows. Experts that only
    another experiment uses do not count.
    """
    domain = np.asarray(task.interactions.domain)[task.index("train")]
    rows = np.bincount(domain, minlength=len(task.interactions.schema.domains)).tolist()
    used = len(rows) * task.settings.adapter.experts_per_domain
    visited = sum(rows_visited(curve, rows, used) for curve in task.curves.values())
    return math.ceil(visited / len(domain))
