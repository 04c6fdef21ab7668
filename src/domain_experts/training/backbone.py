"""Phase 1 and the base arm: the backbone on the rows of all domains."""

from domain_experts.training.deep import new_model, new_trainer, outcome, whole_lane
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train all weights, without experts."""
    trainer = new_trainer(task, new_model(task))
    trainer.phase("backbone", [whole_lane(task, dict(trainer.model.named_parameters()))])
    return outcome(task, trainer)
