"""New domain: an adapter of its own on frozen weights."""

from domain_experts.training.deep import expert_of, is_expert, load_weights
from domain_experts.training.joint import mlora
from domain_experts.training.new_domain import new_domain, train_on_share
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train the new domain's adapter alone."""
    model = mlora(task, range(len(task.interactions.schema.domains)))
    held_out = task.upstream["mlora_held_out"]
    load_weights(model, held_out.weights)
    own = {
        name: parameter
        for name, parameter in model.named_parameters()
        if is_expert(name) and expert_of(name) == new_domain(task)
    }
    return train_on_share(task, model, own, held_out.record["rows_visited"])
