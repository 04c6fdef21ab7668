"""Copies of the whole backbone, one fine-tuned for each domain."""

import numpy as np

from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.deep import load_weights, new_model, new_trainer, outcome
from domain_experts.training.frozen import can_select
from domain_experts.training.lanes import Lane


def train(assignment: Assignment) -> Outcome:
    """Train a copy of the base arm's backbone on each domain, selected on that domain.

    A domain without usable validation rows keeps the base arm's weights. The weights are those of
    all copies, by number of the domain.
    """
    domain = np.asarray(assignment.interactions.domain)
    splits = {split: assignment.index(split) for split in ("validation", "test")}
    base, copies = assignment.upstream["base"], []
    for d in range(len(assignment.interactions.schema.domains)):
        model = new_model(assignment)
        load_weights(model, base.weights)
        trainer = new_trainer(assignment, model, part=d)
        train_rows, validation = (
            rows[domain[rows] == d] for rows in (assignment.index("train"), splits["validation"])
        )
        parameters = dict(trainer.model.named_parameters())
        usable = can_select(assignment, validation, f"domain {d}")
        lane = Lane(str(d), train_rows, validation, parameters, usable=usable)
        trainer.leg("fine-tuning", [lane])
        copies.append(outcome(assignment, trainer))
    return Outcome(
        logits={
            split: np.stack([copy.logits[split] for copy in copies])[
                domain[rows], np.arange(len(rows))
            ]
            for split, rows in splits.items()
        },
        state={f"{d}.{name}": a for d, copy in enumerate(copies) for name, a in copy.state.items()},
        parameters={
            part: sum(copy.parameters[part] for copy in copies) for part in copies[0].parameters
        },
        curve=[entry for copy in copies for entry in copy.curve],
        lanes=[lane for copy in copies for lane in copy.lanes],
        rows_before=base.record["rows_visited"],
    )
