"""A small study, run for real: prepared, split, trained, evaluated, all in this process."""

from pathlib import Path

import plain_yaml

from domain_experts.data.cut import write_splits
from domain_experts.data.prepare import prepare
from domain_experts.evaluation.evaluate import evaluate_dataset, merge
from domain_experts.presence import load_study
from domain_experts.training.job import execute

OWN = "does_dropout_pay"
"""An experiment that the package does not know of."""


def run_study(root: Path):
    """Run a study of a dozen models below `root`, which must be the working directory."""
    params = plain_yaml.read()
    given = params["experiments"]
    main = ["item_rate", "base", "mlora", "moe_mlora", "moe_mlora_released"]
    params["experiments"] = {
        "main": given["main"] | {"backbones": ["mlp"], "arms": main},
        "planted_sharing": given["planted_sharing"] | {"arms": ["base", "mlora", "moe_mlora"]},
        "new_domain": given["new_domain"]
        | {
            "datasets": {"smoke": ["planted-small"]},
            "backbones": ["mlp"],
            "arms": ["mlora_held_out", "new_domain_adapter"],
            "vary": {"new_domain.share": [0.1, 1.0]},
        },
        "m3oe_automl": given["m3oe_automl"]
        | {"variants": given["m3oe_automl"]["variants"][:1], "labels": {}},
        OWN: {
            "question": "Does dropout pay?",
            "datasets": {"smoke": ["planted-small"]},
            "backbones": ["mlp"],
            "arms": ["base"],
            "vary": {"model.dropout": [0.0, 0.25, 0.5]},
        },
    }
    plain_yaml.write(params, root / "params.yaml")
    study = load_study("smoke")
    for dataset in study.datasets:
        prepare(dataset, study.params.data.datasets[dataset])
        write_splits(study.params.data.split_rule(dataset), "smoke", dataset, study.seeds(dataset))
    for job in study.jobs():
        execute(study, job, device="cpu", threads=1)
    for dataset in study.datasets:
        evaluate_dataset(study, dataset)
    merge(study)
    return study


def change_params(change):
    """Change params.yaml in the working directory; returns the study of it."""
    params = plain_yaml.read(Path("params.yaml"))
    change(params)
    plain_yaml.write(params)
    return load_study("smoke")
