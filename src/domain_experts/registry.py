"""Names of arms and backbones, and the modules behind them; imports nothing heavy.

A new backbone or arm is one new module and one line here.
"""

from dataclasses import dataclass
from typing import Literal

ProtocolName = Literal[
    "described",
    "released",
    "released_base",
    "released_mlora",
    "m3oe",
    "m3oe_released",
    "m3oe_released_one_axis",
]
Family = Literal["ctr", "multi"]


@dataclass(frozen=True)
class Backbone:
    """A model: the label in tables and the module that defines its class `Model`.

    The family `ctr` are the click models that take low-rank experts, `multi` the multi-domain
    multi-task models. `reads` are settings that matter to this model alone.
    """

    label: str
    module: str
    family: Family = "ctr"
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """A method as compared in a table.

    `trainer` is a module with `train(task) -> Outcome`; `reads` are the settings that matter to
    it; `needs` are the arms whose weights or curves it starts from. `counterpart` is the protocol
    whose switches an experiment flips one by one. A `planted` arm needs generated data. An arm with
    a backbone takes those of its `family`.
    """

    label: str
    phase: str
    trainer: str
    reads: tuple[str, ...]
    needs: tuple[str, ...] = ()
    protocol: ProtocolName = "described"
    counterpart: ProtocolName | None = None
    family: Family = "ctr"
    backbone: bool = True
    planted: bool = False


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
    "star_one_layer": Backbone("STAR", "domain_experts.models.multi.star", "multi"),
    "m2m": Backbone("M2M", "domain_experts.models.multi.m2m", "multi", ("multi_model.m2m",)),
    "hinet": Backbone(
        "HiNet", "domain_experts.models.multi.hinet", "multi", ("multi_model.hinet",)
    ),
    "pepnet": Backbone(
        "PEPNet", "domain_experts.models.multi.pepnet", "multi", ("multi_model.pepnet",)
    ),
}

_RATES = ("rates", "protocol.split_seed", "protocol.binned_auc")
_LOOP = (
    "training",
    "protocol.split_seed",
    "protocol.batches",
    "protocol.loss",
    "protocol.rollback",
    "protocol.keep_start",
    "protocol.min_improvement",
    "protocol.binned_auc",
    "protocol.embedding_std",
)
_DEEP = ("model", *_LOOP, "protocol.tower_init", "protocol.dropout_place")
_ADAPTER = ("adapter.alpha", "adapter.layers", "protocol.expert_init")
_FROZEN = (*_DEEP, *_ADAPTER, "protocol.frozen_dropout")
_SEQUENCE = ("model", "adapter", "gate", "training", "protocol")
_LINEAR = ("model.embedding_dim", "model.l2", *_LOOP)

# M3oE's models have an initial spread of their own
_MULTI_LOOP = (*(key for key in _LOOP if key != "protocol.embedding_std"), "protocol.restore")
_MULTI = (
    "multi_model.embedding_dim",
    "multi_model.hidden",
    "multi_model.weight_decay",
    *_MULTI_LOOP,
)


def _multi(label: str, trainer: str, protocol: ProtocolName = "m3oe") -> Arm:
    """An arm of the multi-domain multi-task models."""
    return Arm(
        label if protocol == "m3oe" else f"{label} (released code)",
        "baselines",
        f"domain_experts.training.multi.{trainer}",
        _MULTI,
        protocol=protocol,
        family="multi",
    )


ARMS = {
    "item_rate": Arm(
        "Item rate", "baselines", "domain_experts.training.item_rate", _RATES, backbone=False
    ),
    "user_item_rate": Arm(
        "User + item rate",
        "baselines",
        "domain_experts.training.user_item_rate",
        _RATES,
        backbone=False,
    ),
    "logistic_regression": Arm(
        "Logistic regression",
        "baselines",
        "domain_experts.training.logistic_regression",
        _LINEAR,
        backbone=False,
    ),
    "factorisation_machine": Arm(
        "Factorisation machine",
        "baselines",
        "domain_experts.training.factorisation_machine",
        _LINEAR,
        backbone=False,
    ),
    "base": Arm(
        "Base",
        "backbones",
        "domain_experts.training.backbone",
        _DEEP,
        counterpart="released_base",
    ),
    "mlora": Arm(
        "MLoRA",
        "baselines",
        "domain_experts.training.mlora",
        (*_DEEP, *_ADAPTER),
        counterpart="released_mlora",
    ),
    "experts": Arm(
        "Experts, no gate",
        "experts",
        "domain_experts.training.experts",
        (*_FROZEN, "adapter.experts_per_domain", "protocol.selection"),
        needs=("base",),
    ),
    "moe_mlora": Arm(
        "MoE-MLoRA",
        "gates",
        "domain_experts.training.gate",
        (*_FROZEN, "adapter.experts_per_domain", "gate"),
        needs=("base", "experts"),
    ),
    "moe_mlora_sequence": Arm(
        "MoE-MLoRA in one sequence",
        "baselines",
        "domain_experts.training.sequence",
        _SEQUENCE,
        counterpart="released",
    ),
    "moe_mlora_released": Arm(
        "MoE-MLoRA (released code)",
        "baselines",
        "domain_experts.training.sequence",
        _SEQUENCE,
        protocol="released",
        counterpart="described",
    ),
    "base_released": Arm(
        "Base (released code)",
        "baselines",
        "domain_experts.training.backbone",
        _DEEP,
        protocol="released_base",
        counterpart="described",
    ),
    "mlora_released": Arm(
        "MLoRA (released code)",
        "baselines",
        "domain_experts.training.mlora",
        (*_DEEP, *_ADAPTER),
        protocol="released_mlora",
        counterpart="described",
    ),
    "uniform_gate": Arm(
        "Experts, uniform gate",
        "controls",
        "domain_experts.training.uniform_gate",
        (*_FROZEN, "adapter.experts_per_domain"),
        needs=("base", "experts"),
    ),
    "mlora_epochs": Arm(
        "MLoRA, MoE-MLoRA's epochs",
        "controls",
        "domain_experts.training.mlora_epochs",
        (*_DEEP, *_ADAPTER, "adapter.experts_per_domain"),
        needs=("moe_mlora",),
    ),
    "shared_lora": Arm(
        "One shared adapter",
        "baselines",
        "domain_experts.training.shared_lora",
        (*_DEEP, *_ADAPTER),
    ),
    "domain_finetune": Arm(
        "Backbone per domain",
        "controls",
        "domain_experts.training.domain_finetune",
        _DEEP,
        needs=("base",),
    ),
    "star": Arm(
        "STAR",
        "baselines",
        "domain_experts.training.star",
        ("star", "model.hidden", "model.l2", *_LOOP),
        backbone=False,
    ),
    "oracle_experts": Arm(
        "Oracle: experts per planted group",
        "controls",
        "domain_experts.training.oracle_experts",
        (*_FROZEN, "protocol.selection"),
        needs=("base",),
        planted=True,
    ),
    "oracle_mlora": Arm(
        "Oracle: MLoRA per planted group",
        "baselines",
        "domain_experts.training.oracle_mlora",
        (*_DEEP, *_ADAPTER),
        planted=True,
    ),
    "mlora_held_out": Arm(
        "MLoRA without the new domain",
        "baselines",
        "domain_experts.training.mlora_held_out",
        (*_DEEP, *_ADAPTER, "new_domain.held_out"),
    ),
    "new_domain_adapter": Arm(
        "New adapter",
        "controls",
        "domain_experts.training.new_domain_adapter",
        (*_FROZEN, "new_domain"),
        needs=("mlora_held_out",),
    ),
    "new_domain_finetune": Arm(
        "All weights fine-tuned",
        "controls",
        "domain_experts.training.new_domain_finetune",
        (*_DEEP, *_ADAPTER, "new_domain"),
        needs=("mlora_held_out",),
    ),
    "new_domain_scratch": Arm(
        "From scratch",
        "baselines",
        "domain_experts.training.new_domain_scratch",
        (*_DEEP, "new_domain"),
    ),
    "single": _multi("one model a domain and task", "single"),
    "mtl": _multi("MTL", "mtl"),
    "mdl": _multi("MDL", "mdl"),
    "mdmt": _multi("MDMT", "mdmt"),
    "autoifs": Arm(
        "AutoIFS",
        "baselines",
        "domain_experts.training.multi.autoifs",
        (
            "multi_model.embedding_dim",
            "multi_model.autoifs",
            *_MULTI_LOOP,
        ),
        protocol="m3oe",
        family="multi",
        backbone=False,
    ),
    "single_released": _multi("one model a domain and task", "single", "m3oe_released_one_axis"),
    "mtl_released": _multi("MTL", "mtl", "m3oe_released_one_axis"),
    "mdl_released": _multi("MDL", "mdl", "m3oe_released_one_axis"),
    "mdmt_released": _multi("MDMT", "mdmt", "m3oe_released"),
}
