"""A data set's own split rule goes before the one of all others, from params.yaml to the files."""

import json
from pathlib import Path

import numpy as np
import plain_yaml
import pytest
from typer.testing import CliRunner

from domain_experts import layout
from domain_experts.cli import app
from domain_experts.data.cut import write_splits
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
        values = plain_yaml.read()
        values["data"]["datasets"]["planted-tasks"] |= {"split": rule, "rows": 3000}
        values["experiments"] = {
            "main": {
                "question": "?",
                "datasets": {"smoke": ["planted-tasks", "planted-small"]},
                "backbones": ["mlp"],
                "arms": ["item_rate"],
            }
        }
        plain_yaml.write(values)

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
    assert Interactions.open(layout.interactions("planted-tasks")).given_split is None
    first, second = (read_split("smoke", "planted-tasks", seed) for seed in (2022, 2023))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(shares("planted-tasks", 2022), [0.6, 0.1, 0.3], atol=0.001)


@pytest.mark.parametrize("rule", ["by_time", "each_user_last", "leave_one_out"])
def test_a_rule_that_needs_a_time_says_so(study, rule):
    study({"rule": rule} if rule == "leave_one_out" else OWN | {"rule": rule})
    run("prepare", "planted-tasks")
    message = rf"planted-tasks: split rule {rule}: it needs the time of each row"
    with pytest.raises(UserError, match=message):
        write_splits(load().data.split_rule("planted-tasks"), "smoke", "planted-tasks", [1])


def test_what_is_prepared_does_not_depend_on_the_rule(study):
    cards = []
    for rule in (OWN, {"rule": "leave_one_out"}, None):
        study(rule)
        run("prepare", "planted-tasks")
        cards.append(layout.card("planted-tasks").read_bytes())
    assert len(set(cards)) == 1


def test_the_split_phase_reads_the_rule(study):
    study(OWN)
    keys = PHASES["split"].keys(load_study("smoke"))
    rule = "data.datasets.planted-tasks.split"
    assert any(rule == key or rule.startswith(f"{key}.") for key in keys)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("ml-1m-gender", "stratified"),
        ("taobao-10", "by_user_negatives"),
        ("amazon-3", "by_user_negatives"),
        ("amazon-6-mamdr", "given"),
        ("planted", "stratified"),
    ],
)
def test_the_usual_rule_is_that_of_the_kind_of_data(source, rule):
    data = load(ROOT / "params.yaml").data
    found = data.split_rule(source)
    assert found.rule == rule
    expected = (0, 0) if rule == "given" else (data.validation_fraction, data.test_fraction)
    assert found.fractions == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"rule": "leave_one_out", "test_fraction": 0.1}, "leave_one_out takes no fractions"),
        ({"rule": "given", "validation_fraction": 0.1}, "given takes no fractions"),
        ({"rule": "by_time", "test_fraction": 0.1}, "by_time needs a validation_fraction and a"),
    ],
)
def test_fractions_that_do_not_fit_the_rule_are_refused(study, rule, message):
    study(rule)
    with pytest.raises(UserError, match=rf"planted-tasks.*{message}"):
        load()


def test_a_rule_without_training_rows_is_refused(study):
    study(OWN | {"validation_fraction": 0.7})
    with pytest.raises(UserError, match=r"planted-tasks.*leave no training rows"):
        load()


def test_an_unknown_rule_is_refused_by_its_key(study):
    study(OWN | {"rule": "alphabetical"})
    with pytest.raises(UserError, match=r"planted-tasks\S*\.split\.rule: Input should be"):
        load()
