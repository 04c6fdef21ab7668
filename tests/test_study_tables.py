"""Tables of controls, oracles, switches, ablations, diversity and new domains, by hand."""

import contextlib
import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fabricated import REAL, forget

from domain_experts.reporting.ablation_tables import adapted_layers, arithmetic, gates, rank
from domain_experts.reporting.collect import collect
from domain_experts.reporting.control_tables import controls, oracle
from domain_experts.reporting.convergence import endings
from domain_experts.reporting.diversity_table import diversity
from domain_experts.reporting.effort import epochs_trained
from domain_experts.reporting.m3oe.main_tables import m3oe
from domain_experts.reporting.main_tables import main_table
from domain_experts.reporting.new_domain_table import new_domain
from domain_experts.reporting.switch_table import switches
from domain_experts.study import Study

MAKERS = (controls, oracle, switches, gates, rank, adapted_layers, diversity, new_domain)


@pytest.fixture(scope="module")
def results(fabricated_tree):
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        return collect(study)


def by_seed(results, value="wauc", **wanted):
    """Seed to a test value of the runs that are as wanted."""
    return {
        run.seed: metrics["test"]["click"][value]
        for run, metrics in results.metrics.items()
        if all(getattr(run, name) == expected for name, expected in wanted.items())
    }


def differences(results, own, other, value="wauc"):
    first, second = by_seed(results, value, **own), by_seed(results, value, **other)
    return np.array([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])


def row(table, **wanted):
    (found,) = (
        record
        for record in table.numbers.to_dict("records")
        if all(record[name] == value for name, value in wanted.items())
    )
    return found


ON_PLANTED = {"dataset": "planted", "backbone": "wdl", "variant": ()}


def test_controls_gains_are_paired_and_star_stands_beside_the_backbone(results):
    table = controls(results)
    gain = differences(results, ON_PLANTED | {"arm": "shared_lora"}, ON_PLANTED | {"arm": "mlora"})
    own = row(table, arm="shared_lora")
    assert own["gain_over_mlora_mean"] == pytest.approx(gain.mean())
    assert own["gain_over_mlora_sd"] == pytest.approx(gain.std(ddof=1))
    star = ON_PLANTED | {"arm": "star", "backbone": "none"}
    gain = differences(results, star, ON_PLANTED | {"arm": "base"})
    assert row(table, arm="star")["backbone"] == "wdl"
    assert row(table, arm="star")["gain_over_base_mean"] == pytest.approx(gain.mean())
    assert row(table, arm="base")["parameters"] == 137581


def only(results, **wanted):
    return next(
        run
        for run in results.metrics
        if all(getattr(run, name) == value for name, value in wanted.items())
    )


def epochs(results, **wanted):
    """Phase and lane to the number of epochs in a run's curve."""
    curve = results.metrics[only(results, **wanted)]["curve"]
    return {(point["phase"], point["lane"]): point["epoch"] for point in curve}


def test_experts_without_a_gate_are_counted_once_a_domain(results):
    experts = only(results, arm="experts", **ON_PLANTED | {"seed": 1})
    counts = results.metrics[experts]["parameters"]
    assert results.metrics[experts]["run"]["experts"] == 32
    (found,) = results.frame([experts])["parameters"]
    assert found == counts["backbone"] + counts["experts"] // 4


def test_epochs_trained_by_hand(results):
    one = ON_PLANTED | {"seed": 1}
    rows = results.metrics[only(results, arm="base", **one)]["rows"]["train"]
    (base,) = epochs(results, arm="base", **one).values()
    (gate,) = epochs(results, arm="moe_mlora", **one).values()
    lanes = epochs(results, arm="experts", **one)
    # the gate uses one expert a domain of the four that were trained
    assert len(lanes) == 32
    experts = sum(lanes["experts", str(d)] * rows[d] for d in range(8)) / sum(rows)
    fine = epochs(results, arm="domain_finetune", **one)
    copies = sum(fine["fine-tuning", str(d)] * rows[d] for d in range(8)) / sum(rows)
    (mlora,) = epochs(results, arm="mlora_epochs", **one).values()
    expected = {
        "base": base,
        "experts": base + experts,
        "uniform_gate": base + experts,
        "moe_mlora": base + experts + gate,
        "domain_finetune": base + copies,
        # it takes MoE-MLoRA's number of epochs, not its weights
        "mlora_epochs": mlora,
    }
    found = {arm: epochs_trained(results, only(results, arm=arm, **one)) for arm in expected}
    assert found == pytest.approx(expected)


def test_a_copy_of_the_backbone_that_met_the_cap_is_named(results):
    run = only(results, arm="domain_finetune", seed=1, **ON_PLANTED)
    cap = run.settings.training.max_epochs
    points = [
        {"phase": "fine-tuning", "lane": "3", "epoch": epoch, "best": True}
        for epoch in range(cap + 1)
    ]
    metrics = {**results.metrics, run: results.metrics[run] | {"curve": points}}
    capped = replace(results, metrics=metrics)
    assert "1 of 3 runs of Backbone per domain" in " ".join(controls(capped).notes)
    assert "runs of Backbone per domain" not in " ".join(controls(results).notes)


def ending_at_the_cap(results, run, *phases):
    """The results, after the run has improved in each phase until the last epoch allowed."""
    epochs = range(run.settings.training.max_epochs + 1)
    points = [
        {"phase": phase, "lane": "all", "epoch": epoch, "best": True}
        for phase in phases
        for epoch in epochs
    ]
    metrics = {**results.metrics, run: results.metrics[run] | {"curve": points}}
    return replace(results, metrics=metrics)


@pytest.mark.parametrize(
    ("make", "dataset", "arm", "phase", "label"),
    [
        (controls, "planted", "star", "joint", "STAR"),
        (main_table, "planted", "logistic_regression", "joint", "Logistic regression"),
        (main_table, "planted", "factorisation_machine", "joint", "Factorisation machine"),
        (m3oe, "planted-tasks", "autoifs", "retrain", "AutoIFS"),
    ],
)
def test_an_arm_without_a_backbone_that_met_the_cap_is_named(
    results, make, dataset, arm, phase, label
):
    run = only(results, dataset=dataset, arm=arm, seed=1)
    said = re.compile(rf"\b{dataset}: [^;]*1 of \d runs of {label}[,.;]")
    assert said.search(" ".join(make(ending_at_the_cap(results, run, phase)).notes))
    assert not said.search(" ".join(make(results).notes))


@pytest.mark.parametrize(
    ("make", "dataset", "arm", "phase"),
    [
        (controls, "planted", "mlora_epochs", "joint"),
        (m3oe, "planted-tasks", "autoifs", "search"),
    ],
)
def test_a_phase_of_as_many_epochs_as_asked_for_has_met_no_cap(results, make, dataset, arm, phase):
    run = only(results, dataset=dataset, arm=arm, seed=1)
    assert make(ending_at_the_cap(results, run, phase)).notes == make(results).notes


def test_what_is_not_trained_has_no_ending(results):
    runs = [run for run in results.made("controls", "main") if not results.metrics[run]["curve"]]
    assert {"item_rate", "user_item_rate", "uniform_gate"} == {run.arm for run in runs}
    assert endings(results, runs) == []


def test_an_oracle_expert_visits_the_rows_of_its_group(results):
    one = ON_PLANTED | {"seed": 1}
    rows = results.metrics[only(results, arm="base", **one)]["rows"]["train"]
    (base,) = epochs(results, arm="base", **one).values()
    lanes = epochs(results, arm="oracle_experts", **one)
    visited = sum(lanes["experts", str(g)] * (rows[g] + rows[g + 4]) for g in range(4))
    found = epochs_trained(results, only(results, arm="oracle_experts", **one))
    assert found == pytest.approx(base + visited / sum(rows))


def test_the_distance_to_the_oracles_has_a_verdict(results):
    table = oracle(results)
    moe = row(table, arm="moe_mlora")
    for name, arm in (("frozen", "oracle_experts"), ("joint", "oracle_mlora")):
        less = differences(results, ON_PLANTED | {"arm": "moe_mlora"}, ON_PLANTED | {"arm": arm})
        assert moe[f"less_{name}_mean"] == pytest.approx(less.mean())
    assert moe["verdict"] == ("met" if abs(moe["less_frozen_mean"]) <= 0.005 else "not met")
    bayes = [r["wauc"] for r in results.bayes if r["dataset"] == "planted"]
    splits = {r["split_seed"]: r["wauc"] for r in results.bayes if r["dataset"] == "planted"}
    assert len(bayes) >= 3
    assert moe["bayes_mean"] == pytest.approx(np.mean([splits[seed] for seed in (1, 2, 3)]))
    assert row(table, arm="base")["verdict"] == ""


@pytest.mark.parametrize(("shift", "verdict"), [(0.0049, "met"), (0.0051, "not met")])
def test_the_bar_of_the_oracle(results, shift, verdict):
    changed = json.loads(json.dumps({r.path.as_posix(): m for r, m in results.metrics.items()}))
    metrics = {run: changed[run.path.as_posix()] for run in results.metrics}
    for run, own in metrics.items():
        if run.dataset == "planted" and run.arm in ("moe_mlora", "oracle_experts"):
            own["test"]["click"]["wauc"] = 0.7 - shift * (run.arm == "moe_mlora")
    assert row(oracle(replace(results, metrics=metrics)), arm="moe_mlora")["verdict"] == verdict


def test_a_flip_is_compared_with_nothing_flipped(results):
    table = switches(results)
    small = {"dataset": "planted-small", "backbone": "wdl"}
    for arm, flipped in (("mlora", "by_domain"), ("mlora_released", "mixed")):
        own = small | {"arm": arm, "variant": (("protocol.batches", flipped),)}
        found = row(table, arm=arm, switch="batches")
        for value in ("wauc", "log_loss"):
            less = differences(results, own, small | {"arm": arm, "variant": ()}, value)
            assert found[f"{value}_difference_mean"] == pytest.approx(less.mean())
        assert found["paired"]
        assert {found["from"], found["to"]} == {"mixed", "by_domain"}
        assert found["to"] == flipped
    assert np.isnan(row(table, arm="mlora", switch="batches")["binned_wauc_mean"])
    assert row(table, arm="mlora_released", switch="batches")["binned_wauc_mean"] > 0
    assert np.isnan(row(table, arm="mlora_released", switch="binned_auc")["binned_wauc_mean"])


def test_a_flipped_split_is_marked_as_not_paired(results):
    table = switches(results)
    assert {r["switch"] for r in table.numbers.to_dict("records") if not r["paired"]} == {
        "split_seed"
    }
    printed = table.printed[table.printed["Switch"] == "split_seed"]
    assert printed["WAUC difference"].str.endswith("‡").all()
    others = table.printed[table.printed["Switch"] != "split_seed"]
    assert not others["WAUC difference"].str.contains("‡").any()
    assert any("not paired" in note for note in table.notes)


def test_all_switches_at_once_are_compared_on_one_split(results):
    small = {"dataset": "planted-small", "backbone": "wdl"}
    on_own_split = small | {"arm": "base_released", "variant": (("protocol.split_seed", None),)}
    gap = differences(results, on_own_split, small | {"arm": "base", "variant": ()})
    (note,) = (n for n in switches(results).notes if "Base (released code) less Base" in n)
    assert f"{gap.mean():+.4f}".replace("-", "−") in note


@pytest.mark.parametrize("make", [gates, rank, adapted_layers])
def test_variants_are_compared_with_the_default(results, make):
    table = make(results)
    records = [r for r in table.numbers.to_dict("records") if r["arm"] == "moe_mlora"]
    assert sum(r["variant"] == "default" for r in records) == 1
    small = {"dataset": "planted-small", "backbone": "wdl", "arm": "moe_mlora"}
    for record in records:
        run = next(
            run
            for run in results.metrics
            if (run.dataset, run.arm) == ("planted-small", "moe_mlora")
            and run.path.parts[-2] == record["variant"]
        )
        less = differences(results, small | {"variant": run.variant}, small | {"variant": ()})
        assert record["less_default_mean"] == pytest.approx(less.mean())


def test_other_arithmetic_is_compared_with_the_default(fabricated_tree, monkeypatch):
    folder, study = fabricated_tree
    monkeypatch.chdir(folder)
    values = study.params.model_dump()
    # fabricated runs of another experiment stand for its own
    values["experiments"]["arithmetic"] = values["experiments"]["rank"]
    params = type(study.params).model_validate(values)
    table = arithmetic(collect(Study(params, "quick", study.absent)))
    own = table.numbers.set_index(["arm", "variant"])["less_default_mean"]
    expected = rank(collect(study)).numbers.set_index(["arm", "variant"])["less_default_mean"]
    pd.testing.assert_series_equal(own, expected)
    # one seed has no interval
    assert (table.printed["95 % interval"] == "").all()


def test_the_default_may_be_another_experiments(fabricated_tree, monkeypatch):
    folder, study = fabricated_tree
    monkeypatch.chdir(folder)
    values = study.params.model_dump()
    values["experiments"]["gates"]["datasets"] = {"quick": ["planted"]}
    values["experiments"]["gates"]["seeds"] = {"quick": [1]}
    other = Study(type(study.params).model_validate(values), "quick", study.absent)
    table = gates(collect(other)).numbers.set_index("variant")
    assert table.loc["default", "status"] == "present"
    assert set(table.drop("default")["status"]) == {"not run"}


def test_ranks_and_layers_are_named(results):
    by_variant = rank(results).numbers.query("arm == 'mlora'").set_index("variant")["Ranks"]
    assert by_variant["default"] == "16, 8, 4"
    assert by_variant["alpha=256"] == "1, 1, 1"
    by_variant = adapted_layers(results).numbers.query("arm == 'mlora'").set_index("variant")
    assert by_variant.loc["default", "Layers"] == "all"
    assert by_variant.loc["layers=1", "Layers"] == "1"


def test_diversity_varies_one_quantity_at_a_time(results):
    table = diversity(results)
    parts = table.numbers.groupby("varied")["dataset"].agg(set)
    assert parts["domains"] == {"domains-2", "domains-8"}
    assert parts["strength"] == {"domains-8", "strength-4"}
    assert REAL in parts["real data"]
    own = {"dataset": "strength-4", "backbone": "wdl", "variant": ()}
    gain = differences(results, own | {"arm": "mlora"}, own | {"arm": "base"})
    found = row(table, varied="strength", dataset="strength-4", arm="mlora")
    assert found["gain_over_base_mean"] == pytest.approx(gain.mean())
    assert found["gain_over_base_sd"] == pytest.approx(gain.std(ddof=1))
    assert (found["domains"], found["strength"]) == (8, 4.0)


def test_real_data_stand_beside_generated_data(results):
    found = row(diversity(results), dataset=REAL, backbone="mlp", arm="moe_mlora")
    own = {"dataset": REAL, "backbone": "mlp", "variant": ()}
    gain = differences(results, own | {"arm": "moe_mlora"}, own | {"arm": "base"})
    assert found["gain_over_base_mean"] == pytest.approx(gain.mean())
    assert (found["domains"], found["rows"]) == (2, 6000)


def test_new_domain_has_the_held_out_domains_auc_and_rows(results):
    table = new_domain(results)
    run = next(
        run
        for run in results.metrics
        if run.arm == "new_domain_adapter" and run.settings.new_domain.share == 0.1
    )
    metrics = results.metrics[run]
    found = row(table, arm="new_domain_adapter", share=0.1)
    assert found["auc_mean"] == metrics["test"]["click"]["by_domain"]["auc"][0]
    assert found["rows_mean"] == math.ceil(0.1 * metrics["rows"]["train"][0])
    assert found["domain"] == "domain 0"
    trained = {r["arm"]: r["trained"] for r in table.numbers.to_dict("records")}
    assert trained == {
        "mlora_held_out": 0,
        "new_domain_adapter": 1000,
        "new_domain_finetune": 138581,
        "new_domain_scratch": 137581,
    }
    assert row(table, arm="mlora_held_out")["share"] == 0


@pytest.mark.parametrize("make", MAKERS)
def test_an_experiment_that_is_not_in_the_tier_says_so(fabricated_tree, monkeypatch, make):
    folder, study = fabricated_tree
    monkeypatch.chdir(folder)
    values = study.params.model_dump()
    for name in list(values["experiments"]):
        del values["experiments"][name]
    table = make(collect(Study(type(study.params).model_validate(values), "quick")))
    assert table.printed.empty
    assert "No runs in this tier" in table.caption


@pytest.mark.parametrize("make", MAKERS)
def test_without_results_every_row_says_why(fabricated, make):
    forget(fabricated, lambda run: True)
    table = make(collect(fabricated))
    assert len(table.printed)
    assert table.printed.isin(["not run", "data not present"]).any(axis="columns").all()
