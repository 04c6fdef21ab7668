"""Names of arms and backbones, and the modules behind them; imports nothing heavy.

A new backbone is one new module and one line here. A new arm is declared in a module of its own in
`training.arms`, and collected and labelled here. Nothing that stands here changes what is trained.
"""

from dataclasses import replace

from domain_experts.declarations import Arm, Backbone
from domain_experts.errors import UserError
from domain_experts.training.arms import (
    autoifs,
    controls,
    crossfit,
    field_aware_fm,
    floors,
    from_mlora,
    held_out,
    lightgbm,
    methods,
    mlora_gated,
    moe_mlora_joint,
    multi,
    new_domain,
)

NO_BACKBONE = "none"

BACKBONES = {
    "mlp": Backbone("MLP", "domain_experts.models.mlp"),
    "wdl": Backbone("Wide&Deep", "domain_experts.models.wdl"),
    "nfm": Backbone("NFM", "domain_experts.models.nfm"),
    "autoint": Backbone("AutoInt", "domain_experts.models.autoint"),
    "pnn": Backbone("PNN", "domain_experts.models.pnn"),
    "deepfm": Backbone("DeepFM", "domain_experts.models.deepfm"),
    "fibinet": Backbone("FiBiNET", "domain_experts.models.fibinet"),
    "xdeepfm": Backbone("xDeepFM", "domain_experts.models.xdeepfm"),
    "dcn": Backbone("DCN", "domain_experts.models.dcn"),
    "m3oe": Backbone(
        "M3oE",
        "domain_experts.models.multi.m3oe",
        "multi",
        (
            "multi_model.m3oe",
            "protocol.scalars",
            "protocol.start",
            "protocol.upper_rows",
            "protocol.upper_loss",
            "protocol.upper_order",
            "protocol.upper_learning_rate",
        ),
    ),
    # without a second objective Shared-Bottom is an MLP
    "mlp_norm": Backbone("MLP", "domain_experts.models.multi.shared_bottom", "multi"),
    "shared_bottom": Backbone(
        "Shared-Bottom", "domain_experts.models.multi.shared_bottom", "multi"
    ),
    "mmoe": Backbone("MMoE", "domain_experts.models.multi.mmoe", "multi", ("multi_model.mmoe",)),
    "ple": Backbone("PLE", "domain_experts.models.multi.ple", "multi", ("multi_model.ple",)),
    "adatt": Backbone(
        "AdaTT", "domain_experts.models.multi.adatt", "multi", ("multi_model.adatt",)
    ),
    "adatt_sp": Backbone(
        "AdaTT-sp",
        "domain_experts.models.multi.adatt_sp",
        "multi",
        ("multi_model.adatt.levels", "multi_model.adatt.experts"),
    ),
    "star_one_layer": Backbone("STAR", "domain_experts.models.star", "multi"),
    "m2m": Backbone("M2M", "domain_experts.models.multi.m2m", "multi", ("multi_model.m2m",)),
    "hinet": Backbone(
        "HiNet", "domain_experts.models.multi.hinet", "multi", ("multi_model.hinet",)
    ),
    "pepnet": Backbone(
        "PEPNet", "domain_experts.models.multi.pepnet", "multi", ("multi_model.pepnet",)
    ),
}

# in this order they stand in tables
LABELS = {
    "item_rate": "Item rate",
    "user_item_rate": "User + item rate",
    "logistic_regression": "Logistic regression",
    "factorisation_machine": "Factorisation machine",
    "field_aware_fm": "Field-aware FM",
    "lightgbm": "LightGBM",
    "base": "Base",
    "mlora": "MLoRA",
    "experts": "Experts, no gate",
    "moe_mlora": "MoE-MLoRA",
    "moe_mlora_sequence": "MoE-MLoRA in one sequence",
    "moe_mlora_released": "MoE-MLoRA (released code)",
    "base_released": "Base (released code)",
    "mlora_released": "MLoRA (released code)",
    "uniform_gate": "Experts, uniform gate",
    "base_held_out": "Base, less the held-out rows",
    "experts_held_out": "Experts on held-out rows, no gate",
    "moe_mlora_held_out": "MoE-MLoRA, experts on held-out rows",
    "moe_mlora_refit": "The same over Base on all rows",
    "experts_crossfit": "Experts out of fold, no gate",
    "moe_mlora_crossfit": "MoE-MLoRA, experts out of fold",
    "mean_crossfit": "The same, own experts' mean as gate",
    "mlora_gated": "Gate over MLoRA's adapters",
    "experts_from_mlora": "MLoRA's adapters trained further",
    "moe_mlora_from_mlora": "Gate over those adapters",
    "moe_mlora_joint": "MoE-MLoRA, then all trained together",
    "mlora_epochs": "MLoRA, MoE-MLoRA's epochs",
    "shared_lora": "One shared adapter",
    "domain_finetune": "Backbone per domain",
    "star": "STAR",
    "oracle_experts": "Told the groups: experts",
    "oracle_mlora": "Told the groups: MLoRA",
    "mlora_held_out": "MLoRA without the new domain",
    "new_domain_adapter": "New adapter",
    "new_domain_finetune": "All weights fine-tuned",
    "new_domain_scratch": "From scratch",
    "single": "One model a domain and task",
    "mtl": "MTL",
    "mdl": "MDL",
    "mdmt": "MDMT",
    "autoifs": "AutoIFS",
    "single_released": "One model a domain and task (released code)",
    "mtl_released": "MTL (released code)",
    "mdl_released": "MDL (released code)",
    "mdmt_released": "MDMT (released code)",
}

# the floors' modules stay as they are: each one's code counts for its results
FLOORS = frozenset(
    (
        *("item_rate", "user_item_rate", "logistic_regression", "factorisation_machine"),
        *("field_aware_fm", "lightgbm"),
    )
)
"""Arms that are floors: simple models that any other must beat to be worth its cost."""

_MODULES = (
    *(floors, field_aware_fm, lightgbm),
    *(methods, controls, held_out, crossfit, mlora_gated, from_mlora, moe_mlora_joint),
    *(new_domain, multi, autoifs),
)
_DECLARED: dict[str, Arm] = {name: arm for module in _MODULES for name, arm in module.ARMS.items()}


def _labelled(declared: dict[str, Arm]) -> dict[str, Arm]:
    if nameless := sorted(declared.keys() - LABELS.keys()):
        raise UserError(f"registry.LABELS has no label of {', '.join(nameless)}: add one")
    return {
        name: replace(declared[name], label=label, floor=name in FLOORS)
        for name, label in LABELS.items()
    }


ARMS = _labelled(_DECLARED)
REFERENCE = "base"
"""What differences are taken from where an experiment has it and does not say otherwise."""
BEST_FLOOR = "best_floor"
"""Reference: of the floors on the same data that which is best on validation rows."""
TRAINED_ONCE = {"experts": "adapter.experts_per_domain"}
"""Arms that are trained once, for the largest value of a setting that any experiment asks for."""
