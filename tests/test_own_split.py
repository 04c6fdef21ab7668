"""A data set's own split rule goes before the one of all others, from params.yaml to the files."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from domain_experts import layout
from domain_experts.cli import app
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import read_split
from domain_experts.errors import UserError
from domain_experts.params import load
from domain_experts.phases import PHASES
from domain_experts.presence import load_study

ROOT = Path(__file__).parents[1]
OWN = {"rule": "stratified", "validation_fraction": 0.1, "test_fraction": 0.3}


@pytest.fixture
def study(project):
    """Params of a study of two generated data sets, one with a split rule of its own."""

    def write(rule):
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["data"]["datasets"]["planted-tasks"] |= {"split": rule, "rows": 3000}
        values["experiments"] = {
            "main": {
                "question": "?",
                "datasets": {"smoke": ["planted-tasks", "planted-small"]},
                "backbones": ["mlp"],
                "arms": ["item_rate"],
            }
        }
        Path("params.yaml").write_text(yaml.safe_dump(values))

    return write


def run(*command):
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def shares(dataset, seed):
    split = read_split("smoke", dataset, seed)
    return np.bincount(split, minlength=3) / len(split)


def test_the_command_draws_with_the_data_sets_own_fractions(study):
    study(OWN)
    for dataset, expected in (
        ("planted-tasks", [0.6, 0.1, 0.3]),
        ("planted-small", [0.6, 0.2, 0.2]),
    ):
        run("prepare", dataset)
        run("split", dataset, "--tier", "smoke")
        for seed in (2022, 2023):
            np.testing.assert_allclose(shares(dataset, seed), expected, atol=0.01)
    first, second = (read_split("smoke", "planted-tasks", seed) for seed in (2022, 2023))
    assert (first != second).any()
    index = json.loads(layout.split_index("smoke", "planted-tasks").read_text())
    assert (index["validation_fraction"], index["test_fraction"]) == (0.1, 0.3)


@pytest.mark.parametrize("rule", ["positional", "positional_by_domain"])
def test_a_cut_by_position_needs_no_seed(study, rule):
    study(OWN | {"rule": rule})
    run("prepare", "planted-tasks")
    run("split", "planted-tasks", "--tier", "smoke")
    given = Interactions.open(layout.interactions("planted-tasks")).given_split
    for seed in (2022, 2023):
        np.testing.assert_array_equal(read_split("smoke", "planted-tasks", seed), given)
        np.testing.assert_allclose(shares("planted-tasks", seed), [0.6, 0.1, 0.3], atol=0.001)


def test_the_split_phase_reads_the_rule(study):
    study(OWN)
    keys = PHASES["split"].keys(load_study("smoke"))
    assert [key for key in keys if key.startswith("data.datasets")] == [
        "data.datasets.planted-tasks.split"
    ]


def test_a_rule_without_training_rows_is_refused(study):
    study(OWN | {"validation_fraction": 0.7})
    with pytest.raises(UserError, match=r"planted-tasks.*leave no training rows"):
        load()


def test_an_unknown_rule_is_refused_by_its_key(study):
    study(OWN | {"rule": "random"})
    with pytest.raises(UserError, match=r"planted-tasks\S*\.split\.rule: Input should be"):
        load()
