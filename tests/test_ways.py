"""Other ways to train experts and gate: out of fold, from MLoRA's adapters, and all together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from assignments import finished, make_assignment, small_data, train
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from domain_experts.errors import UserError
from domain_experts.training.arms import methods
from domain_experts.training.assignment import Upstream
from domain_experts.training.deep import expert_of, is_expert, part_of
from domain_experts.training.folds import fold_of_rows, training_on

FOLDS = 3
CHANGED = {"crossfit.folds": FOLDS, "training.learning_rate": 0.02}


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossfit")
    return make_assignment(folder, small_data(), "moe_mlora_crossfit", **CHANGED)


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    return make_assignment(
        tmp_path_factory.mktemp("folds"), small_data(), "experts_crossfit", **CHANGED
    )


@given(st.integers(2, 9), st.integers(0, 5))
def test_folds_share_out_the_rows_of_each_domain(gated, folds, seed):
    assignment = replace(gated, run=replace(gated.run, seed=seed))
    fold, rows = fold_of_rows(assignment, folds, "p"), gated.index("train")
    domain = np.asarray(gated.interactions.domain)[rows]
    for d in np.unique(domain):
        of_domain = np.bincount(fold[domain == d], minlength=folds)
        assert len(of_domain) == folds
        assert np.ptp(of_domain) <= 1
    parts = [training_on(assignment, fold == k).index("train") for k in range(folds)]
    assert np.array_equal(np.sort(np.concatenate(parts)), rows)
    assert not np.array_equal(fold, fold_of_rows(assignment, folds, "q"))


def test_other_rows_of_the_split_stay(gated):
    part = training_on(gated, fold_of_rows(gated, FOLDS, "p") == 0)
    for split in ("validation", "test"):
        assert np.array_equal(part.index(split), gated.index(split))


def test_a_folds_experts_are_the_method_on_a_split_cut_by_hand(experts, tmp_path):
    made = train(experts)
    fold = fold_of_rows(experts, FOLDS, "crossfit")
    logits = []
    for k in range(FOLDS):
        splits = []
        for rows in (fold == k, fold != k):
            split = experts.split.copy()
            split[experts.index("train")[rows]] = 9
            splits.append(split)
        own = [experts.checkpoint.part(f"by-hand-{k}-{i}") for i in range(2)]
        base = methods.base(replace(experts, split=splits[0], checkpoint=own[0]))
        for name, array in base.state.items():
            assert np.array_equal(array, made.state[f"{k}.{name}"]), name
        upstream = {"base": Upstream(base.state, {"rows_visited": 0})}
        alone = make_assignment(tmp_path, small_data(), "experts", upstream=upstream, **CHANGED)
        by_hand = methods.experts(replace(alone, split=splits[1], checkpoint=own[1]))
        logits.append(by_hand.logits["test"].astype(float))
        for name, array in by_hand.state.items():
            head, _, e = name.rpartition(".")
            assert np.array_equal(array, made.state[f"{head}.{int(e) + 3 * k}"]), name
    np.testing.assert_allclose(made.logits["test"], np.mean(logits, 0), rtol=0, atol=1e-6)


def test_the_gate_weighs_all_folds_experts_on_the_base_arms_backbone(gated):
    made = train(gated)
    base, experts = (gated.upstream[arm] for arm in gated.run.spec.needs)
    for name, array in made.state.items():
        upstream = {"backbone": base, "experts": experts}.get(part_of(name))
        if upstream is not None:
            assert np.array_equal(array, upstream.weights[name]), name
    assert made.gate.shape == (3, 3 * FOLDS)
    assert made.experts == 3 * FOLDS
    assert len({expert_of(name) for name in made.state if is_expert(name)}) == 3 * FOLDS
    assert made.rows_before == sum(up.record["rows_visited"] for up in (base, experts))


def test_the_mean_of_a_domains_experts_is_that_of_their_updates(gated, tmp_path):
    options = {"upstream": gated.upstream, **CHANGED}
    assignment = make_assignment(tmp_path, small_data(), "mean_crossfit", **options)
    made = train(assignment)
    weights = {name: torch.from_numpy(array).double() for name, array in made.state.items()}
    rows = assignment.index("test")
    domain = torch.from_numpy(np.asarray(assignment.interactions.domain)[rows]).long()
    sizes = assignment.interactions.schema.sizes
    places = assignment.interactions.fields[rows] + np.cumsum([0, *sizes[:-1]])
    x = weights["embedding.weight"][torch.from_numpy(places).long()].flatten(1)
    for layer in range(2):
        own = f"tower.layers.{layer}."
        y = x @ weights[f"{own}weight"] + weights[f"{own}bias"]
        for d in range(3):
            of_domain = domain == d
            for e in range(d, 3 * FOLDS, 3):
                a, b, c = (weights[f"{own}experts.{part}.{e}"] for part in "ABc")
                y[of_domain] += (x[of_domain] @ a @ b + c) / FOLDS
        x = y.clamp(min=0)
    expected = x @ weights["head"] + weights["bias"]
    np.testing.assert_allclose(made.logits["test"], expected.numpy(), atol=1e-5)
    assert made.gate.sum() == pytest.approx(3)
    assert not made.lanes


def test_adapters_that_are_trained_further_start_from_mloras(tmp_path):
    changed = {"training.learning_rate": 0.02}
    assignment = make_assignment(tmp_path, small_data(), "experts_from_mlora", **changed)
    made, mlora = train(assignment), assignment.upstream["mlora"]
    moved = dict.fromkeys(range(3), False)
    for name, array in mlora.weights.items():
        same = np.array_equal(made.state[name], array)
        if is_expert(name):
            moved[expert_of(name)] |= not same
        else:
            assert same, name
    assert moved == {int(lane.lane): lane.moved for lane in made.lanes}
    assert any(moved.values())
    # at epoch 0 a domain's AUC is that of MLoRA itself
    rows = assignment.index("validation")
    still = make_assignment(
        tmp_path, small_data(), "experts_from_mlora", upstream=assignment.upstream,
        **{"training.learning_rate": 1e-12},
    )  # fmt: skip
    start = {c["lane"]: c["validation_auc"] for c in made.curve if c["epoch"] == 0}
    by_mlora = train(make_assignment(tmp_path, small_data(), "mlora", **changed))
    domain = np.asarray(assignment.interactions.domain)[rows]
    labels = assignment.interactions.labels[rows, 0]
    for d in range(3):
        own = domain == d
        expected = roc_auc_score(labels[own], by_mlora.logits["validation"][own, 0])
        # rows may change places that differ by rounding alone
        assert start[str(d)] == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(train(still).logits["test"], by_mlora.logits["test"], atol=1e-5)


def test_the_gate_over_them_changes_neither_backbone_nor_adapters(tmp_path):
    assignment = make_assignment(tmp_path, small_data(), "moe_mlora_from_mlora")
    made, further = train(assignment), assignment.upstream["experts_from_mlora"]
    for name, array in further.weights.items():
        assert np.array_equal(made.state[name], array), name
    assert made.gate.shape == (3, 3)
    assert made.rows_before == further.record["rows_visited"]
    many = {"adapter.experts_per_domain": 2}
    assignment = make_assignment(tmp_path, small_data(), "moe_mlora_from_mlora", **many)
    with pytest.raises(UserError, match=r"leave adapter\.experts_per_domain at 1"):
        train(assignment)


@pytest.mark.parametrize("rate", [0.02, 1e-12])
def test_training_together_starts_from_the_method_and_freezes_nothing(tmp_path, rate):
    changed = {"adapter.experts_per_domain": 2}
    method = make_assignment(tmp_path, small_data(), "moe_mlora", **changed)
    upstream = {"moe_mlora": finished(method)}
    assignment = make_assignment(
        tmp_path, small_data(), "moe_mlora_joint", upstream=upstream,
        **changed, **{"training.learning_rate": rate, "protocol.keep_start": False},
    )  # fmt: skip
    made, before = train(assignment), upstream["moe_mlora"]
    if rate < 1e-9:
        by_method = train(method)
        np.testing.assert_allclose(made.logits["test"], by_method.logits["test"], atol=1e-5)
    else:
        for name, array in before.weights.items():
            assert not np.array_equal(made.state[name], array), name
    assert {lane.part for lane in made.lanes} == {"model"}
    assert made.rows_before == before.record["rows_visited"]
