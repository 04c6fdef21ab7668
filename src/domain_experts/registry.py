"""Names of arms and backbones, and the modules behind them; imports nothing heavy.

A new backbone or arm is one new module and one line here.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Backbone:
    """A CTR model: the label in tables and the module that defines its class `Model`."""

    label: str
    module: str


@dataclass(frozen=True)
class Arm:
    """A method as compared in a table.

    `trainer` is a module with `train(task) -> Outcome`; `reads` are the settings that matter to
    it; `needs` are the arms whose weights it starts from.
    """

    label: str
    phase: str
    trainer: str
    reads: tuple[str, ...]
    needs: tuple[str, ...] = ()
    protocol: Literal["described", "released"] = "described"
    backbone: bool = True


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
}

_DEEP = ("model", "training", "protocol")
_EXPERTS = (*_DEEP, "adapter.alpha", "adapter.experts_per_domain")

ARMS = {
    "item_rate": Arm(
        "Item rate",
        "baselines",
        "domain_experts.training.item_rate",
        ("rates", "protocol"),
        backbone=False,
    ),
    "user_item_rate": Arm(
        "User + item rate",
        "baselines",
        "domain_experts.training.user_item_rate",
        ("rates", "protocol"),
        backbone=False,
    ),
    "base": Arm("Base", "backbones", "domain_experts.training.backbone", _DEEP),
    "mlora": Arm("MLoRA", "baselines", "domain_experts.training.mlora", (*_DEEP, "adapter.alpha")),
    "experts": Arm(
        "Experts", "experts", "domain_experts.training.experts", _EXPERTS, needs=("base",)
    ),
    "moe_mlora": Arm(
        "MoE-MLoRA",
        "gates",
        "domain_experts.training.gate",
        (*_DEEP, "adapter"),
        needs=("base", "experts"),
    ),
    "moe_mlora_released": Arm(
        "MoE-MLoRA (released code)",
        "baselines",
        "domain_experts.training.released",
        _EXPERTS,
        protocol="released",
    ),
}
