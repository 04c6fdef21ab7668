"""Outputs of a model's inner parts on some test rows, for the eye."""

import numpy as np
import torch

from domain_experts.training.multi.bilevel import MultiTrainer
from domain_experts.training.streams import numpy_stream

ROWS = 100
"""Test rows of each domain."""


@torch.no_grad()
def views(trainer: MultiTrainer, test: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> (n, E, h), and the `domain` (n,) of the rows; empty if the model tells none.

    Args:
        trainer: holds the trained model.
        test: test rows; ROWS of each domain are drawn from them.
    """
    rows, drawn = trainer.rows, numpy_stream(trainer.seed, "views").permutation(test)
    domain = rows.domain.cpu().numpy()[drawn]
    chosen = np.concatenate([drawn[domain == d][:ROWS] for d in range(len(rows.schema.domains))])
    fields, dense, domains, _ = rows.take(torch.from_numpy(chosen).to(rows.domain.device))
    trainer.model.eval()
    x, groups = trainer.model.rows(fields, dense, domains)
    outputs = trainer.model.outputs(x, groups.counts)
    if not outputs:
        return {}
    found = {name: value.cpu().numpy() for name, value in outputs.items()}
    return {**found, "domain": domains.cpu().numpy()}
