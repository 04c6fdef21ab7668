"""MLoRA trained on all domains but one: what a new domain starts from."""

from domain_experts.training.deep import new_trainer, outcome
from domain_experts.training.joint import mlora
from domain_experts.training.lanes import Lane
from domain_experts.training.new_domain import rows_of
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train backbone and adapters together; the new domain's adapter stays as it starts."""
    train_rows, validation = (rows_of(task, split, new=False) for split in ("train", "validation"))
    trainer = new_trainer(task, mlora(task, range(len(task.interactions.schema.domains))))
    parameters = dict(trainer.model.named_parameters())
    trainer.phase("joint", [Lane("all", train_rows, validation, parameters)])
    return outcome(task, trainer)
