"""Names of arms and backbones, and the modules behind them; imports nothing heavy.

A new backbone is one new module and one line here. A new arm is declared in a module of its own in
`training.arms`, and collected and labelled here. Nothing that stands here changes what is trained.
"""

from dataclasses import replace

from domain_experts.declarations import Arm, Backbone, Need
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
    mamdr,
    methods,
    mlora_gated,
    moe_mlora_joint,
    moe_mlora_staged,
    multi,
    new_domain,
)

NO_BACKBONE = "none"
OWN = "this study"
BASELINES = "tests/test_multi_baselines.py"
MULTI_DOMAIN = "tests/test_multi_domain_a.py"
TASKS = "tests/test_multi_tasks.py"


def _multi(
    label: str,
    module: str,
    *reads: str,
    needs: tuple[Need, ...] = (),
    whole: bool = True,
    proof: str = "tests/test_multi_more.py",
) -> Backbone:
    """A multi-domain multi-task model of `models.multi`."""
    at = f"domain_experts.models.multi.{module}"
    return Backbone(label, at, "multi", reads, needs, whole, proof)


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
    "m3oe": _multi(
        "M3oE",
        "m3oe",
        *(
            "multi_model.m3oe",
            "protocol.scalars",
            "protocol.start",
            "protocol.upper_rows",
            "protocol.upper_loss",
            "protocol.upper_order",
            "protocol.upper_learning_rate",
        ),
        needs=("domains", "tasks"),
        proof="tests/test_m3oe.py",
    ),
    # without a second objective Shared-Bottom is an MLP
    "mlp_norm": _multi("MLP", "shared_bottom", proof=BASELINES),
    "shared_bottom": _multi("Shared-Bottom", "shared_bottom", proof=BASELINES),
    "mmoe": _multi("MMoE", "mmoe", "multi_model.mmoe", proof=BASELINES),
    "ple": _multi("PLE", "ple", "multi_model.ple", proof=BASELINES),
    "adatt": _multi("AdaTT", "adatt", "multi_model.adatt", proof=BASELINES),
    "adatt_sp": _multi(
        "AdaTT-sp",
        "adatt_sp",
        *("multi_model.adatt.levels", "multi_model.adatt.experts"),
        proof=BASELINES,
    ),
    "star_one_layer": Backbone(
        "STAR", "domain_experts.models.star", "multi", needs=("domains",), proof=BASELINES
    ),
    "m2m": _multi("M2M", "m2m", "multi_model.m2m", whole=False),
    "hinet": _multi("HiNet", "hinet", "multi_model.hinet", needs=("domains",), whole=False),
    "pepnet": _multi("PEPNet", "pepnet", "multi_model.pepnet", whole=False),
    "epnet": _multi(
        "EPNet",
        "epnet",
        "multi_model.pepnet",
        needs=("domains",),
        whole=False,
        proof=MULTI_DOMAIN,
    ),
    "ppnet": _multi("PPNet", "ppnet", "multi_model.pepnet", whole=False, proof=MULTI_DOMAIN),
    "hamur": _multi(
        "HAMUR", "hamur", "multi_model.hamur", needs=("domains",), whole=False, proof=MULTI_DOMAIN
    ),
    "adasparse": _multi(
        "AdaSparse",
        "adasparse",
        "multi_model.adasparse",
        needs=("domains",),
        whole=False,
        proof=MULTI_DOMAIN,
    ),
    "sarnet": _multi(
        "SAR-Net",
        "sarnet",
        "multi_model.sarnet",
        needs=("domains",),
        whole=False,
        proof=MULTI_DOMAIN,
    ),
    "adaptdhm": _multi(
        "AdaptDHM", "adaptdhm", "multi_model.adaptdhm", whole=False, proof=MULTI_DOMAIN
    ),
    "apg": _multi(
        "APG", "apg", "multi_model.apg", needs=("domains",), whole=False, proof=MULTI_DOMAIN
    ),
    "hierrec": _multi(
        "HierRec",
        "hierrec",
        "multi_model.hierrec",
        needs=("domains",),
        whole=False,
        proof=MULTI_DOMAIN,
    ),
    "aitm": _multi("AITM", "aitm", "multi_model.aitm", needs=("tasks",), proof=TASKS),
    "cross_stitch": _multi(
        "Cross-Stitch", "cross_stitch", "multi_model.cross_stitch", needs=("tasks",), proof=TASKS
    ),
    "snr": _multi(
        "SNR-Trans", "snr", "multi_model.snr", needs=("tasks",), whole=False, proof=TASKS
    ),
    "esmm": _multi("ESMM", "esmm", needs=("tasks",), proof=TASKS),
    "escm2": _multi(
        "ESCM2", "escm2", "multi_model.escm2", needs=("tasks",), whole=False, proof=TASKS
    ),
    "small_heads": _multi(
        "Small heads",
        "small_heads",
        "multi_model.small_heads",
        needs=("tasks",),
        whole=False,
        proof=TASKS,
    ),
    "mfh": _multi(
        "MFH", "mfh", "multi_model.mfh", needs=("domains", "tasks"), whole=False, proof=TASKS
    ),
    "home": _multi("HoME", "home", "multi_model.home", needs=("tasks",), whole=False, proof=TASKS),
    "plate": _multi(
        "PLATE", "plate", "multi_model.plate", needs=("domains",), whole=False, proof=TASKS
    ),
    "domain_heads": _multi("Domain heads", "domain_heads", needs=("domains",), proof=TASKS),
    "domain_bias": _multi("Domain bias", "domain_bias", needs=("domains",), proof=TASKS),
    "domain_feature": _multi(
        "Domain as a feature", "domain_feature", needs=("domains",), proof=TASKS
    ),
    "hmoe": _multi(
        "HMoE", "hmoe", "multi_model.hmoe", needs=("domains",), whole=False, proof=TASKS
    ),
    "aesm2": _multi(
        "AESM2",
        "aesm2",
        "multi_model.aesm2",
        needs=("domains", "tasks"),
        whole=False,
        proof=TASKS,
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
    "moe_mlora_staged": "MoE-MLoRA, then trained in stages",
    "mlora_epochs": "MLoRA, MoE-MLoRA's epochs",
    "shared_lora": "One shared adapter",
    "domain_finetune": "Backbone per domain",
    "star": "STAR",
    "domain_negotiation": "Domain negotiation",
    "mamdr": "MAMDR",
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

_PAPERS = {
    "logistic_regression": "Cox 1958",
    "factorisation_machine": "Rendle 2010",
    "field_aware_fm": "Juan et al. 2016",
    "lightgbm": "Ke et al. 2017",
    "base": "as its backbone",
    "mlora": "Yang et al. 2024, arXiv 2408.08913",
    "moe_mlora": "Yang et al. 2025, arXiv 2506.07563",
    "moe_mlora_staged": "after Li et al. 2025, arXiv 2509.16882",
    "star": "Sheng et al. 2021, arXiv 2101.11427",
    "domain_negotiation": "Luo et al. 2023, arXiv 2202.12524",
    "mamdr": "Luo et al. 2023, arXiv 2202.12524",
    "autoifs": "WSDM 2026, arXiv 2512.13396",
}
"""Whose an arm is, if not this study's."""

_PROOFS = {
    floors: "tests/test_floors.py",
    field_aware_fm: "tests/test_floors.py",
    lightgbm: "tests/test_floors.py",
    methods: "tests/test_training.py",
    controls: "tests/test_arms.py",
    held_out: "tests/test_held_out.py",
    crossfit: "tests/test_ways.py",
    mlora_gated: "tests/test_ways.py",
    from_mlora: "tests/test_ways.py",
    moe_mlora_joint: "tests/test_ways.py",
    mamdr: "tests/test_mamdr.py",
    moe_mlora_staged: "tests/test_specialisation.py",
    new_domain: "tests/test_arms.py",
    multi: "tests/test_multi_training.py",
    autoifs: "tests/test_multi_more.py",
}
"""Modules of arms, and the tests that hold them against what they say."""


def _labelled(declared: dict[str, Arm]) -> dict[str, Arm]:
    if nameless := sorted(declared.keys() - LABELS.keys()):
        raise UserError(f"registry.LABELS has no label of {', '.join(nameless)}: add one")
    return {
        name: replace(
            declared[name],
            label=label,
            floor=name in FLOORS,
            paper=_PAPERS.get(name.removesuffix("_released"), OWN),
        )
        for name, label in LABELS.items()
    }


_DECLARED = {
    name: replace(arm, proof=proof)
    for module, proof in _PROOFS.items()
    for name, arm in module.ARMS.items()
}
ARMS = _labelled(_DECLARED)
REFERENCE = "base"
"""What differences are taken from where an experiment has it and does not say otherwise."""
BEST_FLOOR = "best_floor"
"""Reference: of the floors on the same data that which is best on validation rows."""
TRAINED_ONCE = {"experts": "adapter.experts_per_domain"}
"""Arms that are trained once, for the largest value of a setting that any experiment asks for."""
