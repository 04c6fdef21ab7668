"""Phase 2: experts per domain, trained together on the frozen backbone."""

from domain_experts.training.frozen import train_experts
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train expert i on the rows of domain i mod D.

    The reported predictions use each domain's first expert.
    """
    domains = len(task.interactions.schema.domains)
    per_domain = task.settings.adapter.experts_per_domain
    return train_experts(task, range(domains), per_domain)
