"""New domain: all weights fine-tuned on it."""

from domain_experts.training.deep import load_weights
from domain_experts.training.joint import mlora
from domain_experts.training.new_domain import train_on_share
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train everything, the other domains' adapters excepted, which see no row."""
    model = mlora(task, range(len(task.interactions.schema.domains)))
    held_out = task.upstream["mlora_held_out"]
    load_weights(model, held_out.weights)
    everything = dict(model.named_parameters())
    return train_on_share(task, model, everything, held_out.record["rows_visited"])
