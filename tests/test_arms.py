"""What each arm trains, on which rows, and how many parameters it has."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from assignments import CTR_ARMS, finished, low_rank, train
from sklearn.linear_model import LogisticRegression
from torch import nn

from domain_experts.auc import macro_auc
from domain_experts.errors import UserError
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext
from domain_experts.models.linear import FactorisationMachine
from domain_experts.models.linear import LogisticRegression as LinearModel
from domain_experts.models.routers import Gate
from domain_experts.models.star import Star
from domain_experts.registry import ARMS
from domain_experts.schema import Schema
from domain_experts.settings import ModelSettings
from domain_experts.training.assignment import Upstream
from domain_experts.training.batches import Rows
from domain_experts.training.deep import (
    add_experts,
    context_of,
    expert_of,
    frozen_experts,
    is_expert,
    load_weights,
    new_model,
    new_trainer,
)
from domain_experts.training.joint import mlora
from domain_experts.training.loop import Trainer

NEW = ("new_domain_adapter", "new_domain_finetune", "new_domain_scratch")


@pytest.fixture
def legs(monkeypatch):
    """The lanes of every leg that is trained, as (leg, lane, epochs)."""
    seen = []
    leg = Trainer.leg

    def spy(self, name, lanes, epochs=None):
        seen.extend((name, lane, epochs) for lane in lanes)
        leg(self, name, lanes, epochs)

    monkeypatch.setattr(Trainer, "leg", spy)
    return seen


@pytest.fixture
def taken(monkeypatch):
    """Every row that is looked up, in training or to predict, by mode of the model."""
    found = {True: set(), False: set()}
    take, logits = Rows.take, Trainer.logits
    predicting = []

    def spy_take(self, index):
        found[not predicting].update(index.tolist())
        return take(self, index)

    def spy_logits(self, *args):
        predicting.append(1)
        made = logits(self, *args)
        predicting.pop()
        return made

    monkeypatch.setattr(Rows, "take", spy_take)
    monkeypatch.setattr(Trainer, "logits", spy_logits)
    return found


def domain_of(assignment, rows):
    return np.asarray(assignment.interactions.domain)[np.asarray(rows)].astype(int)


def same(a, b):
    assert a.keys() == b.keys()
    return all(np.array_equal(a[name], b[name]) for name in a)


# Epochs


def test_mlora_epochs_trains_the_budget_counted_by_hand(make_assignment, legs):
    changed = {"training.patience": 1, "training.learning_rate": 0.1}
    one, two = changed, {**changed, "adapter.experts_per_domain": 2}
    upstream = {"base": finished(make_assignment("base", **changed))}
    # a second expert of each domain, which this run does not use
    upstream["experts"] = finished(make_assignment("experts", upstream=upstream, **two))
    upstream["moe_mlora"] = finished(make_assignment("moe_mlora", upstream=upstream, **one))
    assignment = make_assignment("mlora_epochs", upstream=upstream, **one)
    train_rows = assignment.index("train")
    n = np.bincount(domain_of(assignment, train_rows))
    visited = 0
    for name, used in (("base", ["all"]), ("experts", ["0", "1", "2"]), ("moe_mlora", ["all"])):
        for point in upstream[name].record["curve"]:
            if point["epoch"] and point["lane"] in used:
                visited += n.sum() if point["lane"] == "all" else n[int(point["lane"])]
    assert {point["lane"] for point in upstream["experts"].record["curve"]} == set("012345")
    budget = math.ceil(visited / n.sum())
    assert budget > assignment.run.settings.training.max_epochs
    made = train(assignment)
    assert [c["epoch"] for c in made.curve] == list(range(budget + 1))
    assert not all(c["best"] for c in made.curve[:-1]), "patience was not put to the test"
    name, lane, epochs = legs[-1]
    assert (name, epochs) == ("joint", budget)
    assert list(lane.train) == list(train_rows)


def test_mlora_epochs_starts_as_mlora_and_keeps_its_best_epoch(make_assignment):
    assignment = make_assignment("mlora_epochs")
    made, joint = train(assignment), train(make_assignment("mlora"))
    assert made.curve[: len(joint.curve)] == joint.curve
    rows = assignment.index("validation")
    labels = assignment.interactions.labels[rows]
    found = macro_auc(made.logits["validation"], labels, domain_of(assignment, rows), 3)
    assert found == pytest.approx(max(c["validation_auc"] for c in made.curve), abs=1e-12)


# Adapters


def test_the_shared_adapter_has_all_ranks_and_adds_the_same_everywhere(make_assignment):
    assignment = make_assignment("shared_lora")
    made = train(assignment)
    joint = train(make_assignment("mlora"))
    for layer in range(2):
        rank = joint.state[f"tower.layers.{layer}.experts.A.0"].shape[1]
        assert made.state[f"tower.layers.{layer}.experts.A.0"].shape[1] == 3 * rank
    assert {expert_of(name) for name in made.state if is_expert(name)} == {0}
    # the domain's id is a feature too: here the features stay, and only the routing changes
    model = mlora(assignment, [0] * 3, 3)
    load_weights(model, made.state)
    model.eval()
    fields = torch.from_numpy(assignment.interactions.fields[:5])
    logits = [model(fields, torch.zeros(5, 0), torch.full((5,), d)) for d in range(3)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_domains_have_adapters_of_their_own_in_mlora(make_assignment):
    assignment = make_assignment("mlora", **{"training.learning_rate": 0.05})
    made = train(assignment)
    model = mlora(assignment, range(3))
    load_weights(model, made.state)
    model.eval()
    fields = torch.from_numpy(assignment.interactions.fields[:5])
    logits = [model(fields, torch.zeros(5, 0), torch.full((5,), d)) for d in range(3)]
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("arm", ["mlora", "experts", "shared_lora", "moe_mlora_released"])
def test_only_the_named_layers_are_adapted(make_assignment, arm):
    made = train(make_assignment(arm, **{"adapter.layers": [1]}))
    adapted = {name.split(".")[2] for name in made.state if is_expert(name)}
    assert adapted == {"1"}
    every = train(make_assignment(arm)).parameters["experts"]
    experts = 1 if arm == "shared_lora" else 3
    rank = 2 * (3 if experts == 1 else 1)
    assert made.parameters["experts"] == experts * (16 * rank + rank * 8 + 8) < every


def test_a_layer_that_the_tower_lacks_is_named(make_assignment):
    with pytest.raises(UserError, match=r"adapter\.layers \[2\]: the tower's layers are 0 to 1"):
        train(make_assignment("mlora", **{"adapter.layers": [2]}))


def test_experts_without_a_gate_predict_by_the_first_of_each_domain(make_assignment):
    changed = {"adapter.experts_per_domain": 2, "training.learning_rate": 0.05}
    base = {"base": finished(make_assignment("base", **changed))}
    assignment = make_assignment("experts", upstream=base, **changed)
    made = train(assignment)
    assert made.experts == 6
    both = {"base": base["base"], "experts": Upstream(made.state, {})}
    model = frozen_experts(dataclasses.replace(assignment, upstream=both)).eval()
    rows = assignment.index("test")
    fields = torch.from_numpy(assignment.interactions.fields[rows])
    domain = torch.from_numpy(domain_of(assignment, rows))
    first = nn.functional.one_hot(domain, 6).float()
    second = nn.functional.one_hot(domain + 3, 6).float()
    dense = torch.zeros(len(rows), 0)
    found = torch.from_numpy(made.logits["test"])
    torch.testing.assert_close(model(fields, dense, domain, first), found, rtol=0, atol=1e-5)
    assert (model(fields, dense, domain, second) - found).abs().max() > 1e-3


def test_the_uniform_gate_is_the_mean_of_the_experts_and_trains_nothing(make_assignment, legs):
    assignment = make_assignment("uniform_gate")
    legs.clear()
    made = train(assignment)
    assert not legs
    assert made.curve == []
    np.testing.assert_array_equal(made.gate, np.full((3, 3), np.float32(1 / 3)))
    experts = {n: a for n, a in made.state.items() if is_expert(n)}
    assert same(experts, assignment.upstream["experts"].weights)
    model = frozen_experts(assignment).double().eval()
    fields = torch.from_numpy(assignment.interactions.fields[assignment.index("test")])
    x = model.embedding(fields).flatten(1)
    for layer in model.tower.layers:
        own = layer.experts
        deltas = [x @ a @ b + c for a, b, c in zip(own.A, own.B, own.c, strict=True)]
        x = (x @ layer.weight + layer.bias + sum(deltas) / 3).clamp(min=0)
    expected = x @ model.head + model.bias
    np.testing.assert_allclose(made.logits["test"], expected.detach().numpy(), atol=1e-5)


# Oracles


@pytest.mark.parametrize("arm", ["oracle_experts", "oracle_mlora"])
def test_oracles_route_by_planted_group(make_assignment, legs, arm):
    changed = {"training.learning_rate": 0.05}
    assignment = make_assignment(arm, **changed)
    assert assignment.planted_groups == (0, 1, 0)
    legs.clear()
    made = train(assignment)
    assert made.experts == 2
    if arm == "oracle_experts":
        rows = {lane.name: lane.train for _, lane, _ in legs}
        assert set(domain_of(assignment, rows["0"])) == {0, 2}
        assert set(domain_of(assignment, rows["1"])) == {1}
        state = assignment.upstream["base"].weights | made.state
    else:
        state = made.state
    model = new_model(assignment)
    add_experts(model, assignment, 2)
    load_weights(model, state)
    rows = assignment.index("test")
    domain = torch.from_numpy(domain_of(assignment, rows))
    weights = nn.functional.one_hot(domain % 2, 2).float()
    fields = torch.from_numpy(assignment.interactions.fields[rows])
    found = model.eval()(fields, torch.zeros(len(rows), 0), domain, weights)
    np.testing.assert_allclose(found.detach().numpy(), made.logits["test"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("arm", [name for name, arm in ARMS.items() if arm.planted])
def test_oracles_need_planted_groups(make_assignment, interactions, legs, arm):
    data = dataclasses.replace(interactions, planted_groups=None)
    base = {"base": finished(make_assignment("base"))}
    legs.clear()
    with pytest.raises(UserError, match=f"planted-small has no planted groups, which {arm} needs"):
        train(make_assignment(arm, data=data, upstream=base))
    assert not legs


# Domains fine-tuned


def test_fine_tuned_domains_are_each_trained_alone(make_assignment, interactions):
    """An assignment of one domain's training and validation rows gives that domain's copy."""
    changed = {"training.learning_rate": 0.02}
    base = finished(make_assignment("base", **changed))
    assignment = make_assignment("domain_finetune", upstream={"base": base}, **changed)
    made = train(assignment)
    domain = np.asarray(interactions.domain)
    for d in range(3):
        split = np.where((domain == d) | (assignment.split == 2), assignment.split, 3)
        own = assignment.checkpoint.part("alone").part(d)
        alone = train(dataclasses.replace(assignment, split=split, checkpoint=own))
        assert {c["lane"] for c in alone.curve} == {str(d)}
        assert alone.curve == [c for c in made.curve if c["lane"] == str(d)]
        own = {name for name in made.state if name.startswith(f"{d}.")}
        assert len(own) == len(base.weights)
        for name in own:
            np.testing.assert_array_equal(made.state[name], alone.state[name])
        # of the rows of this domain, the copy's predictions are those reported
        rows = assignment.index("test")
        of_domain = domain[rows] == d
        np.testing.assert_array_equal(
            made.logits["test"][of_domain], alone.logits["test"][of_domain]
        )
    assert made.parameters["backbone"] == 3 * base.record["parameters"]["backbone"]


def test_a_domain_that_cannot_be_selected_on_keeps_the_base_arms_weights(
    make_assignment, interactions
):
    labels = np.array(interactions.labels)
    labels[np.asarray(interactions.domain) == 2] = 0
    data = dataclasses.replace(interactions, labels=labels)
    base = finished(make_assignment("base", data=data))
    made = train(make_assignment("domain_finetune", data=data, upstream={"base": base}))
    assert {c["lane"] for c in made.curve} == {"0", "1"}
    assert same({n: made.state[f"2.{n}"] for n in base.weights}, base.weights)
    assert not same({n: made.state[f"1.{n}"] for n in base.weights}, base.weights)


# A new domain


@pytest.mark.parametrize("held_out", [0, 2])
def test_the_held_out_domain_is_not_seen_and_its_adapter_stays_zero(
    make_assignment, taken, held_out
):
    changed = {"new_domain.held_out": held_out, "training.learning_rate": 0.05}
    assignment = make_assignment("mlora_held_out", **changed)
    made = train(assignment)
    assert set(domain_of(assignment, sorted(taken[True]))) == {0, 1, 2} - {held_out}
    assert taken[True] == set(np.flatnonzero((assignment.split == 0) & (
        np.asarray(assignment.interactions.domain) != held_out
    )).tolist())  # fmt: skip
    for name, weight in made.state.items():
        if is_expert(name) and (".B." in name or ".c." in name):
            assert weight.any() == (expert_of(name) != held_out), name


def test_selection_does_not_see_the_held_out_domain(make_assignment, legs):
    assignment = make_assignment("mlora_held_out")
    train(assignment)
    ((_, lane, _),) = legs
    assert set(domain_of(assignment, lane.validation)) == {1, 2}


@pytest.mark.parametrize("arm", NEW)
def test_a_new_domain_is_trained_on_its_own_rows(make_assignment, taken, legs, arm):
    assignment = make_assignment(arm, **{"new_domain.held_out": 1})
    taken[True].clear()
    legs.clear()
    train(assignment)
    assert set(domain_of(assignment, sorted(taken[True]))) == {1}
    ((_, lane, _),) = legs
    assert set(domain_of(assignment, lane.validation)) == {1}
    assert (
        len(lane.validation) == (domain_of(assignment, assignment.index("validation")) == 1).sum()
    )


@pytest.mark.parametrize("arm", NEW)
def test_a_larger_share_holds_the_smaller_one(make_assignment, legs, arm):
    upstream = {"mlora_held_out": finished(make_assignment("mlora_held_out"))}
    seen, assignment = [], None
    for share in (0.05, 0.1, 0.5, 1.0):
        assignment = make_assignment(arm, upstream=upstream, **{"new_domain.share": share})
        legs.clear()
        train(assignment)
        ((_, lane, _),) = legs
        seen.append(set(lane.train.tolist()))
        rows = (domain_of(assignment, assignment.index("train")) == 0).sum()
        assert len(lane.train) == len(seen[-1]) == math.ceil(share * rows)
    assert all(a < b for a, b in pairwise(seen))
    assert seen[-1] == set(
        np.flatnonzero((assignment.split == 0) & (assignment.interactions.domain == 0))
    )


def test_a_new_adapter_changes_only_itself(make_assignment):
    assignment = make_assignment("new_domain_adapter", **{"training.learning_rate": 0.05})
    made, before = train(assignment), assignment.upstream["mlora_held_out"].weights
    for name, weight in made.state.items():
        own = is_expert(name) and expert_of(name) == 0
        assert np.array_equal(weight, before[name]) != own, name


def test_fine_tuning_leaves_the_other_domains_adapters_alone(make_assignment):
    assignment = make_assignment("new_domain_finetune", **{"training.learning_rate": 0.05})
    made, before = train(assignment), assignment.upstream["mlora_held_out"].weights
    for name, weight in made.state.items():
        others = is_expert(name) and expert_of(name) != 0
        assert np.array_equal(weight, before[name]) == (others or not weight.size), name


def test_scratch_starts_from_nothing(make_assignment):
    assert ARMS["new_domain_scratch"].needs == ()
    assignment = make_assignment(
        "new_domain_scratch", **{"training.max_epochs": 1, "new_domain.share": 0.01}
    )
    start = new_model(assignment).state_dict()
    assert torch.equal(start["head"], new_model(make_assignment("base")).state_dict()["head"])


@pytest.mark.parametrize("arm", ["mlora_held_out", *NEW])
def test_a_domain_that_is_not_there_is_refused_before_training(make_assignment, legs, arm):
    upstream = {"mlora_held_out": finished(make_assignment("mlora_held_out"))}
    legs.clear()
    with pytest.raises(UserError, match=r"new_domain\.held_out is 3, but planted-small has 3"):
        train(make_assignment(arm, upstream=upstream, **{"new_domain.held_out": 3}))
    assert not legs


# Floors and STAR


def linear_plan(**options):
    schema = Schema((("user", 5), ("item", 4), ("domain", 2)), ("age",), ("a", "b"), ("click",))
    settings = ModelSettings(embedding_dim=3, hidden=(4,), dropout=0.5, l2=0.0)
    return CTRContext(schema, settings, torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("pairs", [False, True])
def test_linear_models_are_their_literal_equations(pairs):
    model = (FactorisationMachine if pairs else LinearModel)(
        linear_plan(embedding_std=1.0)
    ).double()
    for parameter in (model.linear.weights.weight, model.linear.dense, model.bias):
        nn.init.normal_(parameter)
    fields = torch.tensor([[4, 0, 1], [2, 3, 0]])
    dense = torch.tensor([[0.5], [-2.0]], dtype=torch.float64)
    found = model(fields, dense, fields[:, 2])
    w = model.linear.weights.weight[:, 0]
    for row, (codes, x) in enumerate(zip(fields.tolist(), dense[:, 0].tolist(), strict=True)):
        places = [codes[0], 5 + codes[1], 9 + codes[2]]
        expected = sum(w[p] for p in places) + x * model.linear.dense[0, 0] + model.bias[0]
        for i in range(3 if pairs else 0):
            for j in range(i + 1, 3):
                e = model.embedding.weight
                expected = expected + sum(e[places[i], k] * e[places[j], k] for k in range(3))
        assert found[row, 0].item() == pytest.approx(expected.item(), abs=1e-12)


def test_logistic_regression_reaches_scikit_learns_optimum(make_assignment, float64):
    changed = {"training.max_epochs": 60, "training.patience": 60, "training.learning_rate": 0.01}
    assignment = make_assignment("logistic_regression", **changed, **{"model.l2": 1e-3})
    columns = []
    for j, size in enumerate(assignment.interactions.schema.sizes):
        columns.append(np.eye(size)[assignment.interactions.fields[:, j]])
    x, y = np.concatenate(columns, 1), assignment.interactions.labels[:, 0].astype(float)
    rows = assignment.index("train")
    # loss + l2 |w|^2 is 1 / (2 n C) |w|^2
    peer = LogisticRegression(C=1 / (2 * 1e-3 * len(rows)), tol=1e-8, max_iter=1000)
    peer.fit(x[rows], y[rows])
    train(assignment)
    # of the last epoch, which the checkpoint holds; the run itself keeps those of the best
    model = new_trainer(assignment, LinearModel(context_of(assignment))).model
    w = model.linear.weights.weight.detach().numpy()[:, 0]
    ours = x @ w + model.bias.item()

    def objective(logits, weights):
        own = logits[rows]
        loss = np.mean(np.logaddexp(0, own) - y[rows] * own)
        return loss + 1e-3 * np.sum(weights**2)

    best = objective(peer.decision_function(x), peer.coef_)
    assert best <= objective(ours, w) < best + 2e-3
    held_out = assignment.index("validation")
    assert np.corrcoef(ours[held_out], peer.decision_function(x)[held_out])[0, 1] > 0.999


def test_star_trains_weights_of_every_domain(make_assignment):
    assignment = make_assignment("star")
    made = train(assignment)
    assert made.experts is None
    assert made.gate is None
    start = Star(context_of(assignment, 4), auxiliary=False).state_dict()
    for name, weight in made.state.items():
        assert np.array_equal(weight, start[name].numpy()) != bool(weight.size), name
    with_auxiliary = train(make_assignment("star", **{"star.auxiliary": True}))
    assert with_auxiliary.parameters["backbone"] > made.parameters["backbone"]


# Parameters

USERS, ITEMS, D, E = 6041, 3953, 2, 2
IDS = USERS + ITEMS + D
TOWER = 24 * 256 + 256 + 256 * 128 + 128 + 128 * 64 + 64
BASE = IDS * 8 + TOWER + 64 + 1
WIDE = IDS
# alpha 16: ranks 16, 8, 4
EXPERT = (24 * 16 + 16 * 256 + 256) + (256 * 8 + 8 * 128 + 128) + (128 * 4 + 4 * 64 + 64)
DOUBLE_RANK = (24 * 32 + 32 * 256 + 256) + (256 * 16 + 16 * 128 + 128) + (128 * 8 + 8 * 64 + 64)
STAR = (
    IDS * 128 + 2 * 384 * (1 + D)
    + (1 + D) * (384 * 256 + 256 + 256 * 128 + 128 + 128 * 64 + 64) + 64 + 1
)  # fmt: skip


def test_parameters_counted_by_hand():
    """MovieLens-1M by gender, Wide&Deep at alpha 16 (moe_mlora 8)."""
    assert BASE + WIDE == 137_581
    assert EXPERT == 8_768
    domain_gate = D * 4 + 4 * E + E
    assert domain_gate == 18
    schema = Schema((("user", USERS), ("item", ITEMS), ("domain", D)), (), ("F", "M"), ("click",))
    settings = ModelSettings(embedding_dim=8, hidden=(256, 128, 64), dropout=0.5, l2=1e-5)

    def stream():
        return torch.Generator().manual_seed(0)

    def count(module):
        return sum(p.numel() for p in module.parameters())

    def model(backbone, experts, times=1):
        made = build(backbone, CTRContext(schema, settings, stream()))
        for _ in range(experts):
            made.tower.add_expert(low_rank(16, "glorot_normal", times), stream())
        return made

    assert count(model("mlp", 0)) == BASE
    assert count(model("wdl", 0)) == BASE + WIDE
    # MLoRA, experts, uniform gate, oracles of two groups, arms of a new domain
    assert count(model("wdl", D)) == BASE + WIDE + D * EXPERT
    # several experts per domain
    assert count(model("wdl", 4 * D)) == BASE + WIDE + 4 * D * EXPERT
    assert count(model("wdl", 1, times=D)) == BASE + WIDE + DOUBLE_RANK
    assert count(Gate(D, E, 4, stream())) == domain_gate
    assert count(Gate(D, E, 4, stream(), features=24)) == D * 4 + 28 * E + E
    assert count(Gate(D, E, 4, stream(), layers=3)) == D * 4 + 3 * (4 * E + E)
    plan = CTRContext(schema, settings, stream())
    assert count(LinearModel(plan)) == IDS + 1
    assert count(FactorisationMachine(plan)) == IDS * 9 + 1
    wide = CTRContext(schema, settings.model_copy(update={"embedding_dim": 128}), stream())
    assert count(Star(wide, auxiliary=False)) == STAR
    auxiliary = D * 128 + (384 + 128) * 64 + 64 + 64
    assert count(Star(wide, auxiliary=True)) == STAR + auxiliary


def test_every_arm_reports_its_parameters(make_assignment):
    """Three domains, towers of 16 and 8, three fields of width 4, alpha 4."""
    base = 83 * 4 + 12 * 16 + 16 + 16 * 8 + 8 + 8 + 1
    expert = (12 * 4 + 4 * 16 + 16) + (16 * 2 + 2 * 8 + 8)
    tripled = (12 * 12 + 12 * 16 + 16) + (16 * 6 + 6 * 8 + 8)
    gate = 3 * 4 + 4 * 3 + 3
    star = 83 * 4 + 2 * 12 * 4 + 4 * (12 * 16 + 16 + 16 * 8 + 8) + 8 + 1
    expected = {
        "item_rate": (0, 0, 0), "user_item_rate": (0, 0, 0),
        "logistic_regression": (84, 0, 0), "factorisation_machine": (83 * 5 + 1, 0, 0),
        # two other fields; one tree of three leaves
        "field_aware_fm": (83 * (1 + 2 * 4) + 1, 0, 0), "lightgbm": (2 * 3 - 1, 0, 0),
        "base": (base, 0, 0), "base_released": (base, 0, 0),
        "mlora": (base, 3 * expert, 0), "mlora_released": (base, 3 * expert, 0),
        "mlora_epochs": (base, 3 * expert, 0), "mlora_held_out": (base, 3 * expert, 0),
        "experts": (base, 3 * expert, 0), "uniform_gate": (base, 3 * expert, 0),
        "moe_mlora": (base, 3 * expert, gate), "moe_mlora_sequence": (base, 3 * expert, gate),
        "moe_mlora_released": (base, 3 * expert, 0),
        "base_held_out": (base, 0, 0), "experts_held_out": (base, 3 * expert, 0),
        "moe_mlora_held_out": (base, 3 * expert, gate), "moe_mlora_refit": (base, 3 * expert, gate),
        "mlora_gated": (base, 3 * expert, gate), "experts_from_mlora": (base, 3 * expert, 0),
        "moe_mlora_from_mlora": (base, 3 * expert, gate),
        "moe_mlora_joint": (base, 3 * expert, gate), "moe_mlora_staged": (base, 3 * expert, gate),
        # two folds
        "experts_crossfit": (2 * base, 6 * expert, 0),
        "moe_mlora_crossfit": (base, 6 * expert, 3 * 4 + 4 * 6 + 6),
        "mean_crossfit": (base, 6 * expert, 0),
        "shared_lora": (base, tripled, 0), "domain_finetune": (3 * base, 0, 0),
        "star": (star, 0, 0),
        "domain_negotiation": (base, 0, 0), "mamdr": (4 * base, 0, 0),
        "oracle_experts": (base, 2 * expert, 0), "oracle_mlora": (base, 2 * expert, 0),
        "new_domain_adapter": (base, 3 * expert, 0), "new_domain_finetune": (base, 3 * expert, 0),
        "new_domain_scratch": (base, 0, 0),
    }  # fmt: skip
    assert expected.keys() == set(CTR_ARMS)
    changed = {"training.max_epochs": 1, "trees.max_rounds": 1, "trees.leaves": 3}
    made = {}
    for arm in CTR_ARMS:
        made[arm] = finished(make_assignment(arm, upstream=made, **changed))
        counts = made[arm].record["parameters"]
        found = tuple(counts[part] for part in ("backbone", "experts", "gate"))
        assert found == expected[arm], arm


# Pretrained vectors


@pytest.fixture
def with_vectors(interactions):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(30, 4)).astype(np.float32)
    return dataclasses.replace(interactions, vectors={"item": table})


@pytest.mark.parametrize("arm", ["mlora", "star", "factorisation_machine", "moe_mlora_released"])
def test_pretrained_vectors_are_used_never_trained_and_not_kept(make_assignment, with_vectors, arm):
    assignment = make_assignment(arm, data=with_vectors, **{"training.learning_rate": 0.05})
    plain = train(make_assignment(arm, **{"training.learning_rate": 0.05}))
    models = []
    predict = Trainer.logits

    def spy(self, *args):
        models.append(self.model)
        return predict(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "logits", spy)
        made = train(assignment)
    embedding = models[-1].embedding
    np.testing.assert_array_equal(embedding.frozen.numpy(), with_vectors.vectors["item"])
    fields = torch.from_numpy(with_vectors.fields[:20])
    found = embedding(fields).detach().numpy()
    np.testing.assert_array_equal(
        found[:, 1], with_vectors.vectors["item"][with_vectors.fields[:20, 1]]
    )
    # the other fields follow one another in the table that is trained
    weight = made.state["embedding.weight"]
    assert weight.shape == (53, 4)
    np.testing.assert_array_equal(found[:, 0], weight[with_vectors.fields[:20, 0]])
    np.testing.assert_array_equal(found[:, 2], weight[50 + with_vectors.fields[:20, 2]])
    assert not any("frozen" in name for name in made.state)
    assert made.parameters["backbone"] == plain.parameters["backbone"] - 30 * 4


@pytest.mark.parametrize("arm", ["base", "star"])
def test_vectors_of_another_width_are_refused_before_training(
    make_assignment, with_vectors, legs, arm
):
    key = "star.embedding_dim" if arm == "star" else "model.embedding_dim"
    with pytest.raises(UserError, match="'item' have 4 values, but the embedding has 8") as caught:
        train(make_assignment(arm, data=with_vectors, **{key: 8}))
    assert f"set {key} to 4" in str(caught.value)
    assert not legs
