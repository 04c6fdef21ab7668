"""What may not be compared is refused by name, before anything runs."""

import plain_yaml
import pytest
from projects import ROOT

from domain_experts.errors import UserError
from domain_experts.params import Params, load
from domain_experts.presence import load_study
from domain_experts.registry import ARMS, BEST_FLOOR
from domain_experts.study import Study


def study(tier="smoke", **changed):
    values = plain_yaml.read()
    for name, keys in changed.items():
        values["experiments"][name] |= keys
    return Study(Params.model_validate(values), tier)


def test_every_tier_of_params_yaml_is_comparable():
    for tier in load(ROOT / "params.yaml").tiers:
        load_study(tier, path=ROOT / "params.yaml")


def test_a_reference_on_other_test_rows_is_refused():
    other = study(held_out={"compare": ["moe_mlora_released"]})
    with pytest.raises(UserError) as caught:
        other.refuse_incomparable()
    said = str(caught.value)
    assert "experiments.held_out.compare: 'moe_mlora_released' is tested on other rows" in said
    assert "seed 123" in said


def test_a_reference_that_the_tier_does_not_run_is_left_out():
    other = study(main={"compare": ["base_released", "base"]})
    other.refuse_incomparable()
    assert {name for *_, name in other.comparisons("main")} == {"base", BEST_FLOOR}


def test_seeds_missing_for_one_arm_are_refused():
    # of `star` there are the seeds of another experiment alone
    other = study(held_out={"compare": ["star"], "seeds": {"smoke": [2022, 2023, 2024]}})
    with pytest.raises(UserError) as caught:
        other.refuse_incomparable()
    assert "experiments.held_out.compare: 'star' has no run with seed 2024" in str(caught.value)
    assert "seeds.smoke" in str(caught.value)


def test_bad_comparisons_are_told_when_params_yaml_is_read(tmp_path):
    values = plain_yaml.read()
    values["experiments"]["held_out"]["compare"] = ["moe_mlora_released"]
    plain_yaml.write(values, tmp_path / "params.yaml")
    with pytest.raises(UserError, match="tested on other rows"):
        load_study("smoke", path=tmp_path / "params.yaml")


def test_a_pair_shares_data_seed_and_split():
    own = study()
    for name in own.expected:
        for run, other, _ in own.comparisons(name):
            assert run != other
            assert (run.dataset, run.seed, run.split_seed) == (
                *(other.dataset, other.seed, other.split_seed),
            )


def test_what_is_no_floor_is_compared_with_every_floor():
    own = study()
    floors = {arm for arm in ARMS if ARMS[arm].floor}
    found = [pair for pair in own.comparisons("controls") if pair[2] == BEST_FLOOR]
    by_run = {run: {other.arm for r, other, _ in found if r == run} for run, *_ in found}
    assert {run for run in own.expected["controls"] if not run.spec.floor} == set(by_run)
    there = {run.arm for run in own.expected_runs} & floors
    assert len(there) > 1
    assert all(arms == there for arms in by_run.values())
    assert not any(run.spec.floor for run, *_ in found)
