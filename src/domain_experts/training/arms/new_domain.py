"""A domain that comes after training (MLoRA, arXiv 2408.08913: extension to new domains)."""

from typing import TYPE_CHECKING

from domain_experts.declarations import ADAPTER, DEEP, FROZEN, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def mlora_held_out(assignment: "Assignment") -> "Outcome":
    """MLoRA on all domains but one, whose adapter stays as it starts."""
    from domain_experts.training import deep
    from domain_experts.training.joint import mlora
    from domain_experts.training.lanes import Lane
    from domain_experts.training.new_domain import rows_of

    train_rows, validation = (
        rows_of(assignment, split, new=False) for split in ("train", "validation")
    )
    trainer = deep.new_trainer(
        assignment, mlora(assignment, range(len(assignment.interactions.schema.domains)))
    )
    parameters = dict(trainer.model.named_parameters())
    trainer.leg("joint", [Lane("all", train_rows, validation, parameters)])
    return deep.outcome(assignment, trainer)


def new_domain_adapter(assignment: "Assignment") -> "Outcome":
    """An adapter of its own, alone, on frozen weights."""
    from domain_experts.training.deep import expert_of, is_expert
    from domain_experts.training.new_domain import new_domain, train_on_share, trained_before

    model, rows = trained_before(assignment)
    own = {
        name: parameter
        for name, parameter in model.named_parameters()
        if is_expert(name) and expert_of(name) == new_domain(assignment)
    }
    return train_on_share(assignment, model, own, rows)


def new_domain_finetune(assignment: "Assignment") -> "Outcome":
    """Train everything, the other domains' adapters excepted, which see no row."""
    from domain_experts.training.new_domain import train_on_share, trained_before

    model, rows = trained_before(assignment)
    return train_on_share(assignment, model, dict(model.named_parameters()), rows)


def new_domain_scratch(assignment: "Assignment") -> "Outcome":
    """A backbone of its own, from scratch."""
    from domain_experts.training.deep import new_model
    from domain_experts.training.new_domain import train_on_share

    model = new_model(assignment)
    return train_on_share(assignment, model, dict(model.named_parameters()))


ARMS = {
    "mlora_held_out": Arm(
        phase="baselines",
        train=mlora_held_out,
        reads=(*DEEP, *ADAPTER, "new_domain.held_out"),
    ),
    "new_domain_adapter": Arm(
        phase="controls",
        train=new_domain_adapter,
        reads=(*FROZEN, "new_domain"),
        needs=("mlora_held_out",),
    ),
    "new_domain_finetune": Arm(
        phase="controls",
        train=new_domain_finetune,
        reads=(*DEEP, *ADAPTER, "new_domain"),
        needs=("mlora_held_out",),
    ),
    "new_domain_scratch": Arm(
        phase="baselines",
        train=new_domain_scratch,
        reads=(*DEEP, "new_domain"),
    ),
}
