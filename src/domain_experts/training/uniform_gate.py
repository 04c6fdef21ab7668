"""Control: the frozen experts with equal weights."""

from domain_experts.models.routers import UniformGate
from domain_experts.training.deep import frozen_experts, new_trainer, outcome, rows_of_experts
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Average the experts; nothing is trained."""
    model = frozen_experts(task)
    model.router = UniformGate(len(task.interactions.schema.domains), model.experts)
    return outcome(task, new_trainer(task, model), rows_of_experts(task, model.experts))
