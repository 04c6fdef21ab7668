"""Training of the multi-domain multi-task models: losses, levels, scopes, and two-task arms."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from assignments import MULTI_ARMS, train
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import log_loss
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from domain_experts.auc import macro_auc
from domain_experts.evaluation.metrics import evaluate
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.m3oe import Model
from domain_experts.schema import Schema
from domain_experts.training import deep, losses
from domain_experts.training.batches import Rows
from domain_experts.training.lanes import Lane
from domain_experts.training.loop import Trainer
from domain_experts.training.multi import bilevel
from domain_experts.training.multi.bilevel import MultiTrainer

# batches of which most domains have some rows, and steps that move
QUICK = {"training.batch_size": 256, "training.learning_rate": 0.02}
UPPER = {"protocol.upper_learning_rate": 0.05}
ONE_AXIS = ("single", "mtl", "mdl", "mdmt")


@pytest.fixture
def m3oe_assignment(make_assignment, multi_interactions):
    def make(arm="mdmt", data=multi_interactions, **changed):
        return make_assignment(arm, data=data, backbone="m3oe", **(QUICK | changed))

    return make


@pytest.fixture
def taken(monkeypatch):
    """Rows that are looked up, by level: `lower`, `upper`, or `predict`."""
    found = {"lower": [], "upper": [], "predict": []}
    level = ["lower"]
    take, logits, upper = Rows.take, Trainer.logits, MultiTrainer._upper_step

    def spy(self, index):
        found[level[-1]].append(index.numpy())
        return take(self, index)

    def within(name, function):
        def inner(self, *args):
            level.append(name)
            try:
                return function(self, *args)
            finally:
                level.pop()

        return inner

    monkeypatch.setattr(Rows, "take", spy)
    monkeypatch.setattr(Trainer, "logits", within("predict", logits))
    monkeypatch.setattr(MultiTrainer, "_upper_step", within("upper", upper))
    return found


def domain_of(assignment, rows=slice(None)):
    return np.asarray(assignment.interactions.domain)[rows].astype(int)


def cells(assignment, made, split="validation"):
    rows = assignment.index(split)
    return macro_auc(
        made.logits[split],
        assignment.interactions.labels[rows],
        domain_of(assignment, rows),
        len(assignment.interactions.schema.domains),
    )


# Losses


def slow_balanced(logits, labels, domain):
    total = 0.0
    for d in sorted(set(domain)):
        for t in range(len(labels[0])):
            own = [
                math.log1p(math.exp(z[t])) - y[t] * z[t]
                for z, y, k in zip(logits, labels, domain, strict=True)
                if k == d
            ]
            total += sum(own) / len(own)
    return total


ROW = st.tuples(st.integers(0, 4), *[st.tuples(st.floats(-9, 9), st.booleans()) for _ in range(2)])


@given(st.lists(st.lists(ROW, min_size=1, max_size=12), min_size=1, max_size=3))
@settings(deadline=None)
def test_losses_are_those_of_a_slow_loop_in_each_lane(lanes):
    rows = [row for lane in lanes for row in lane]
    logits = torch.tensor([[z for z, _ in row[1:]] for row in rows], dtype=torch.float64)
    labels = torch.tensor([[y for _, y in row[1:]] for row in rows], dtype=torch.float64)
    domain = torch.tensor([row[0] for row in rows])
    counts = [len(lane) for lane in lanes]
    balanced = losses.balanced(logits, labels, domain, counts)
    mean = losses.mean(logits, labels, domain, counts)
    assert balanced.shape == mean.shape == (len(lanes),)
    parts = (tensor.split(counts) for tensor in (logits, labels, domain))
    for lane, (z, y, d) in enumerate(zip(*parts, strict=True)):
        expected = slow_balanced(z.tolist(), y.tolist(), d.tolist())
        assert balanced[lane].item() == pytest.approx(expected, abs=1e-10)
        assert mean[lane].item() == pytest.approx(cross_entropy(z, y).item(), abs=1e-10)


@given(st.lists(st.lists(st.tuples(ROW, st.integers(0, 3)), min_size=1, max_size=8), min_size=1))
def test_a_row_of_weight_n_counts_as_n_rows(lanes):
    """Oracle: the losses of the rows, each so often; of no row it is 0."""
    weighed = [row for lane in lanes for row in lane]
    logits, labels, domain = tensors([row for row, _ in weighed])
    weight = torch.tensor([float(n) for _, n in weighed], dtype=torch.float64)
    counts = [len(lane) for lane in lanes]
    for loss in losses.LOSSES.values():
        found = loss(logits, labels, domain, counts, weight)
        for lane, value in zip(lanes, found, strict=True):
            again = [row for row, n in lane for _ in range(n)]
            expected = loss(*tensors(again), [len(again)]).item() if again else 0.0
            assert value.item() == pytest.approx(expected, abs=1e-10)


def tensors(rows):
    """Logits, labels and domains."""
    logits = torch.tensor([[z for z, _ in row[1:]] for row in rows], dtype=torch.float64)
    labels = torch.tensor([[y for _, y in row[1:]] for row in rows], dtype=torch.float64)
    return logits, labels, torch.tensor([row[0] for row in rows])


def test_the_balanced_loss_weighs_domains_alike_whatever_their_rows():
    logits = torch.zeros(10, 2, dtype=torch.float64, requires_grad=True)
    domain = torch.tensor([0] * 9 + [2])
    (slope,) = torch.autograd.grad(
        losses.balanced(logits, torch.ones(10, 2).double(), domain, [10]).sum(), logits
    )
    assert slope[:9].sum().item() == pytest.approx(slope[9].sum().item())


# The two levels


def new_trainer(assignment):
    """The trainer of a model for all domains and tasks, and its lane."""
    run = assignment.run
    rows = Rows.of(assignment.interactions, torch.device("cpu"))
    plan = MultiContext(
        assignment.interactions.schema,
        run.settings.multi_model,
        torch.Generator().manual_seed(3),
        fusion_start=run.settings.protocol.start,
    )
    model = Model(plan)
    decay = run.settings.multi_model.weight_decay
    trainer = MultiTrainer(
        model, rows, run.settings, run.seed, assignment.checkpoint, assignment.progress, decay
    )
    every = dict(model.named_parameters())
    return trainer, Lane("all", assignment.index("train"), assignment.index("validation"), every)


def values_of(scalars):
    return {name: scalar.item() for name, scalar in scalars.items()}


@pytest.mark.parametrize("rows", ["train", "validation"])
@pytest.mark.parametrize("loss", ["mean", "balanced"])
def test_the_first_order_step_is_torchs_adam_on_the_scalars(
    m3oe_assignment, taken, monkeypatch, loss, rows
):
    changed = {"protocol.upper_loss": loss, "protocol.upper_rows": rows}
    trainer, lane = new_trainer(m3oe_assignment(**changed, **UPPER))
    peer = copy.deepcopy(trainer.model)
    decay = trainer.settings.multi_model.weight_decay
    adam = torch.optim.Adam(peer.scalars().values(), lr=0.05, weight_decay=decay)
    step, steps = MultiTrainer._upper_step, []

    def compared(self, *args):
        with torch.no_grad():
            own = dict(peer.named_parameters())
            for name, weight in self.model.named_parameters():
                if not name.startswith("fusion."):
                    own[name].copy_(weight)
        before = values_of(self.scalars)
        step(self, *args)
        index = torch.from_numpy(taken["upper"][-1])
        fields, dense, domain, labels = self.rows.take(index)
        z = peer(fields, dense, domain)
        if loss == "mean":
            total = cross_entropy(z, labels)
        else:
            total = sum(
                cross_entropy(z[domain == d, t], labels[domain == d, t])
                for d in range(3)
                for t in range(2)
            )
        adam.zero_grad()
        total.backward()
        adam.step()
        for name, scalar in peer.scalars().items():
            assert self.scalars[name].item() == pytest.approx(scalar.item(), abs=1e-5), name
            assert abs(self.scalars[name].item() - before[name]) > 1e-4, name
        steps.append(len(index))

    monkeypatch.setattr(MultiTrainer, "_upper_step", compared)
    trainer.leg("joint", [lane], epochs=3)
    assert steps == [256] * 3
    allowed = lane.train if rows == "train" else lane.validation
    for index in taken["upper"]:
        assert np.isin(index, allowed).all()
        assert len(set(index.tolist())) == len(index)
    # another batch each time
    assert len({tuple(index) for index in taken["upper"]}) == 3


@pytest.mark.parametrize("rows", ["train", "validation"])
def test_the_second_order_slope_is_that_of_finite_differences(
    m3oe_assignment, taken, float64, monkeypatch, rows
):
    changed = {"protocol.upper_order": 2, "protocol.upper_rows": rows}
    changed |= {"training.learning_rate": 0.05, "protocol.upper_loss": "mean"}
    trainer, lane = new_trainer(m3oe_assignment(**changed, **UPPER))
    trainer.leg("joint", [lane], epochs=2)
    slopes = {}

    def spy():
        slopes.update({n: s.grad.item() for n, s in trainer.scalars.items()})

    monkeypatch.setattr(trainer.upper, "step", spy)
    for index in taken.values():
        index.clear()
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.model.train()
    trainer._upper_step(lane, ("test",))
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name])
    lower, upper = taken["upper"]
    assert np.isin(lower, lane.train).all()
    assert np.isin(upper, lane.train if rows == "train" else lane.validation).all()

    def parts(index):
        index = torch.from_numpy(index)
        fields, dense, domain, labels = trainer.rows.take(index)
        return (fields, dense, domain), labels, domain

    def upper_loss(scalars, rate):
        named = dict(before) | {f"fusion.{n}": torch.tensor([a]) for n, a in scalars.items()}
        weights = {n: p.clone().requires_grad_() for n, p in named.items() if "fusion" not in n}
        x, labels, domain = parts(lower)
        z = functional_call(trainer.model, named | weights, x)
        loss = sum(
            cross_entropy(z[domain == d, t], labels[domain == d, t])
            for d in range(3)
            for t in range(2)
        )
        slope = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        moved = {n: w - rate * g for (n, w), g in zip(weights.items(), slope, strict=True)}
        x, labels, _ = parts(upper)
        return cross_entropy(functional_call(trainer.model, named | moved, x), labels).item()

    start = {n: before[f"fusion.{n}"].item() for n in trainer.scalars}
    step = 1e-5
    for name, value in start.items():

        def difference(rate, name=name, value=value):
            up, down = (upper_loss(start | {name: value + side * step}, rate) for side in (1, -1))
            return (up - down) / (2 * step)

        second, first = difference(0.05), difference(0.0)
        assert slopes[name] == pytest.approx(second, rel=1e-4, abs=1e-9), name
        assert abs(second - first) > 1e-2 * abs(second), "the unrolled step changes nothing"


MOVED = {
    "upper": (False, True),
    "both": (True, True),
    "lower": (True, False),
    "fixed": (False, False),
}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("scalars", MOVED)
def test_each_level_moves_what_it_should(m3oe_assignment, monkeypatch, scalars, order):
    changed = {"protocol.scalars": scalars, "protocol.upper_order": order}
    trainer, lane = new_trainer(m3oe_assignment(**changed, **UPPER))
    lower, upper = Trainer._interval, MultiTrainer._upper_step
    moved = {"lower": [], "upper": []}

    def watched(name, function):
        def inner(self, *args):
            before = {n: p.detach().clone() for n, p in self.model.named_parameters()}
            made = function(self, *args)
            after = dict(self.model.named_parameters())
            moved[name].append({n for n in before if not torch.equal(before[n], after[n])})
            return made

        return inner

    monkeypatch.setattr(Trainer, "_interval", watched("lower", lower))
    monkeypatch.setattr(MultiTrainer, "_upper_step", watched("upper", upper))
    trainer.leg("joint", [lane], epochs=2)
    fusion = {f"fusion.{name}" for name in trainer.scalars}
    every = set(dict(trainer.model.named_parameters()))
    by_lower, by_upper = MOVED[scalars]
    assert len(moved["lower"]) == 2
    for names in moved["lower"]:
        # one shared expert: its gates are constant, and only their penalty moves them
        assert every - fusion - {"gates.W", "gates.b"} <= names
        assert names & fusion == (fusion if by_lower else set())
    assert len(moved["upper"]) == (2 if by_upper else 0)
    assert all(names == fusion for names in moved["upper"])


UNUSED = [
    ({"multi_model.m3oe.domain_module": False}, "mdmt", {"a_D", "b_D"}),
    ({"multi_model.m3oe.task_module": False}, "mdmt", {"a_T", "b_T"}),
    ({"multi_model.m3oe.fusion": "gated"}, "mdmt", {"a_D", "a_T"}),
    ({}, "mtl", {"b_D"}),
    ({}, "mdl", {"b_T"}),
]


@pytest.mark.parametrize("scalars", ["upper", "both", "lower"])
@pytest.mark.parametrize(("changed", "arm", "unused"), UNUSED)
def test_scalars_that_a_model_does_not_use_stay(m3oe_assignment, scalars, changed, arm, unused):
    made = train(m3oe_assignment(arm, **changed, **{"protocol.scalars": scalars}, **UPPER))
    for name in ("a_D", "a_T", "b_D", "b_T"):
        found = {point["fusion"][name] for point in made.curve}
        assert (len(found) == 1) == (name in unused), name


def test_the_curve_holds_the_weights_that_the_scalars_give(m3oe_assignment):
    made = train(m3oe_assignment(**UPPER, **{"protocol.start": 0.3}))
    assert [point["epoch"] for point in made.curve] == [0, 1, 2, 3]
    start = dict.fromkeys(("a_D", "a_T", "b_D", "b_T"), 1 / (1 + math.exp(-0.3)))
    assert made.curve[0]["fusion"] == pytest.approx(start)
    values = [tuple(point["fusion"].values()) for point in made.curve]
    assert len(set(values)) == 4
    json.dumps(made.curve, allow_nan=False)


OVERFITS = {"training.learning_rate": 0.3, "training.max_epochs": 8, "training.batch_size": 128}


@pytest.mark.parametrize("scalars", ["upper", "both"])
@pytest.mark.parametrize(
    ("restore", "patience", "which"),
    [("if_stopped", 20, "last"), ("if_stopped", 2, "best"), ("always", 20, "best")],
)
def test_which_weights_come_back(m3oe_assignment, restore, patience, which, scalars):
    changed = OVERFITS | {
        "training.patience": patience,
        "protocol.restore": restore,
        "protocol.scalars": scalars,
    }
    assignment = m3oe_assignment(**changed, **UPPER)
    made = train(assignment)
    aucs = [point["validation_auc"] for point in made.curve]
    assert (len(aucs) < 9) == (patience == 2)
    assert aucs[-1] < max(aucs), "the run should overfit, else this test shows nothing"
    point = made.curve[-1] if which == "last" else made.curve[int(np.argmax(aucs))]
    assert cells(assignment, made) == pytest.approx(point["validation_auc"], abs=1e-12)
    found = {n: 1 / (1 + math.exp(-made.state[f"0.fusion.{n}"].item())) for n in point["fusion"]}
    assert found == pytest.approx(point["fusion"], abs=1e-6)


def test_statistics_of_batch_norm_come_back_with_the_weights(m3oe_assignment):
    assignment = m3oe_assignment(**OVERFITS, **{"multi_model.m3oe.tower_norm": "batch"})
    made = train(assignment)
    aucs = [point["validation_auc"] for point in made.curve]
    assert aucs[-1] < max(aucs)
    assert cells(assignment, made) == pytest.approx(max(aucs), abs=1e-12)


def test_the_upper_level_leaves_the_statistics_of_batch_norm_alone(m3oe_assignment):
    """Else they would hold validation rows, and activations of weights that no model has."""
    changed = {"protocol.upper_rows": "validation", "protocol.upper_order": 2}
    trainer, lane = new_trainer(
        m3oe_assignment(**changed, **{"multi_model.m3oe.tower_norm": "batch"})
    )
    trainer.leg("joint", [lane], epochs=1)
    before = {n: b.clone() for n, b in trainer.model.named_buffers()}
    trainer.model.train()
    trainer._upper_step(lane, ("test",))
    for name, statistic in trainer.model.named_buffers():
        assert torch.equal(statistic, before[name]), name


# Scopes

SCOPES = {
    "single": [((d,), (t,)) for d in range(3) for t in range(2)],
    "mtl": [((d,), (0, 1)) for d in range(3)],
    "mdl": [((0, 1, 2), (t,)) for t in range(2)],
    "mdmt": [((0, 1, 2), (0, 1))],
}


def restored(assignment, made, number, domains, tasks):
    """A model from the weights that were kept."""
    schema = assignment.interactions.schema
    own = Schema(
        schema.fields,
        schema.dense,
        tuple(schema.domains[d] for d in domains),
        tuple(schema.tasks[t] for t in tasks),
    )
    plan = MultiContext(
        own,
        assignment.run.settings.multi_model,
        torch.Generator().manual_seed(99),
        fusion_start=1.0,
    )
    model = Model(plan)
    prefix = f"{number}."
    state = {n.removeprefix(prefix): w for n, w in made.state.items() if n.startswith(prefix)}
    model.load_state_dict({n: torch.from_numpy(w) for n, w in state.items()})
    return model.eval()


@pytest.mark.parametrize("arm", ONE_AXIS)
def test_each_model_has_its_rows_tasks_and_places(m3oe_assignment, monkeypatch, arm):
    assignment = m3oe_assignment(arm, **{"training.max_epochs": 2})
    domain, data = domain_of(assignment), assignment.interactions
    seen = []
    leg = Trainer.leg

    def spy(self, name, lanes, epochs=None):
        (lane,) = lanes
        seen.append((self.rows.schema, lane, self.rows.labels.numpy()))
        leg(self, name, lanes, epochs)

    monkeypatch.setattr(Trainer, "leg", spy)
    made = train(assignment)
    scopes = SCOPES[arm]
    assert len(seen) == len(scopes)
    total = 0
    for number, ((domains, tasks), (schema, lane, labels)) in enumerate(
        zip(scopes, seen, strict=True)
    ):
        assert schema.domains == tuple(data.schema.domains[d] for d in domains)
        assert schema.tasks == tuple(data.schema.tasks[t] for t in tasks)
        np.testing.assert_array_equal(labels, data.labels[:, list(tasks)])
        assert lane.name == ("all" if len(scopes) == 1 else str(number))
        for split, rows in (("train", lane.train), ("validation", lane.validation)):
            expected = [i for i in assignment.index(split) if domain[i] in domains]
            assert rows.tolist() == expected
        model = restored(assignment, made, number, domains, tasks)
        total += sum(p.numel() for p in model.parameters())
        for split, logits in made.logits.items():
            rows = assignment.index(split)
            own = np.isin(domain[rows], domains)
            index = rows[own]
            with torch.no_grad():
                expected = model(
                    torch.from_numpy(np.array(data.fields[index])),
                    torch.from_numpy(np.array(data.dense[index])),
                    torch.from_numpy(np.searchsorted(domains, domain[index])),
                )
            found = logits[own][:, list(tasks)]
            np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)
    assert made.parameters == {"backbone": total, "experts": 0, "gate": 0}
    assert {name.split(".")[0] for name in made.state} == {str(i) for i in range(len(scopes))}
    assert {point["lane"] for point in made.curve} == {lane.name for _, lane, _ in seen}


def test_models_start_from_weights_of_their_own(m3oe_assignment):
    made = train(
        m3oe_assignment("mdl", **{"training.max_epochs": 1, "training.learning_rate": 1e-9})
    )
    assert not np.allclose(made.state["0.embedding.weight"], made.state["1.embedding.weight"])


def measured(assignment, made):
    """Test and validation metrics of a trained run."""
    data, schema = assignment.interactions, assignment.interactions.schema
    return {
        split: evaluate(
            logits, np.asarray(data.labels)[assignment.index(split)],
            np.asarray(data.domain)[assignment.index(split)], schema.domains, schema.tasks,
            binned=False,
        )
        for split, logits in made.logits.items()
    }  # fmt: skip


def changed_labels(data, domain, task, value):
    labels = np.array(data.labels)
    labels[np.asarray(data.domain) == domain, task] = value
    return dataclasses.replace(data, labels=labels)


@pytest.mark.parametrize("arm", ONE_AXIS)
def test_a_cell_of_one_class_is_left_out_and_named(
    m3oe_assignment, multi_interactions, capsys, arm
):
    assignment = m3oe_assignment(arm, data=changed_labels(multi_interactions, 2, 1, 0))
    made = train(assignment)
    metrics = measured(assignment, made)
    json.dumps(metrics, allow_nan=False)
    domains = multi_interactions.schema.domains
    for split in ("validation", "test"):
        assert metrics[split]["click"]["left_out"] == []
        assert metrics[split]["like"]["left_out"] == [domains[2]]
    said = capsys.readouterr().err
    alone = f"the model of {domains[2]} for like stays untrained"
    assert (alone in said) == (arm == "single")
    numbers = {point["lane"] for point in made.curve}
    assert len(numbers) == len(SCOPES[arm]) - (arm == "single")


@pytest.mark.parametrize("split", [0, 1, 2], ids=["train", "validation", "test"])
@pytest.mark.parametrize("arm", ONE_AXIS)
def test_a_domain_without_rows_of_a_split(m3oe_assignment, capsys, arm, split):
    assignment = m3oe_assignment(arm, **{"training.max_epochs": 1})
    parts = np.array(assignment.split)
    parts[(domain_of(assignment) == 2) & (parts == split)] = 2 if split < 2 else 1
    assignment = dataclasses.replace(assignment, split=parts)
    made = train(assignment)
    assert all(np.isfinite(logits).all() for logits in made.logits.values())
    metrics = measured(assignment, made)
    json.dumps(metrics, allow_nan=False)
    name = assignment.interactions.schema.domains[2]
    by_domain = arm in ("single", "mtl")
    said = f"the model of {name} for" in capsys.readouterr().err
    assert said == (by_domain and split < 2)
    if split:
        left_out = metrics["validation" if split == 1 else "test"]["click"]["left_out"]
        assert left_out == [name]


def test_a_trial_of_a_search_has_no_test_rows(m3oe_assignment):
    assignment = m3oe_assignment("mdmt", **{"training.max_epochs": 1})
    parts = np.array(assignment.split)
    made = train(dataclasses.replace(assignment, split=np.where(parts == 2, -1, parts)))
    assert made.logits["test"].shape == (0, 2)
    assert np.isfinite(made.logits["validation"]).all()


@pytest.mark.parametrize("arm", ONE_AXIS)
@pytest.mark.parametrize("only", ["domain", "task"])
def test_one_domain_or_one_task_only(m3oe_assignment, multi_interactions, only, arm):
    data, schema = multi_interactions, multi_interactions.schema
    if only == "domain":
        rows = np.asarray(data.domain) == 0
        data = dataclasses.replace(
            data,
            schema=dataclasses.replace(schema, domains=schema.domains[:1]),
            **{name: getattr(data, name)[rows] for name in ("fields", "dense", "labels", "domain")},
            planted_groups=data.planted_groups[:1],
        )
    else:
        data = dataclasses.replace(
            data, schema=dataclasses.replace(schema, tasks=("click",)), labels=data.labels[:, :1]
        )
    assignment = m3oe_assignment(arm, data=data)
    made = train(assignment)
    assert made.logits["test"].shape == (len(assignment.index("test")), len(data.schema.tasks))
    best = max(point["validation_auc"] for point in made.curve)
    assert best > made.curve[0]["validation_auc"]


def test_batches_without_rows_of_a_domain_train(m3oe_assignment, taken):
    changed = {"training.batch_size": 3, "training.max_epochs": 1, "training.learning_rate": 1e-3}
    assignment = m3oe_assignment(**changed)
    made = train(assignment)
    domain = domain_of(assignment)
    absent = [len(set(domain[index])) < 3 for index in taken["lower"]]
    assert np.mean(absent) > 0.3
    assert all(np.isfinite(weight).all() for weight in made.state.values())
    assert np.isfinite(made.curve[-1]["train_loss"])


@pytest.mark.parametrize("arm", [arm for arm in MULTI_ARMS if arm.endswith("_released")])
def test_released_arms_balance_the_loss_for_all_domains_and_tasks_alone(make_assignment, arm):
    assignment = make_assignment(arm, upstream={})
    protocol = assignment.run.settings.protocol
    assert protocol.loss == ("balanced" if arm == "mdmt_released" else "mean")
    assert (protocol.restore, protocol.scalars) == ("if_stopped", "both")
    assert (protocol.upper_loss, protocol.upper_order, protocol.upper_rows) == ("mean", 1, "train")


# Arms of the CTR models on two tasks

TWO_TASKS = ("base", "mlora", "experts", "moe_mlora", "star", "logistic_regression")


@pytest.mark.parametrize("loss", ["mean", "balanced"])
def test_click_models_minimise_the_loss_of_the_protocol(make_assignment, multi_interactions, loss):
    changed = {
        "training.batch_size": 10_000,
        "training.max_epochs": 1,
        "model.dropout": 0.0,
        "protocol.loss": loss,
    }
    assignment = make_assignment("base", data=multi_interactions, **changed)
    rows = assignment.index("train")
    scores = expit(
        deep.new_trainer(assignment, deep.new_model(assignment), part="-start").logits(rows).numpy()
    )
    labels, domain = multi_interactions.labels[rows], domain_of(assignment)[rows]
    cells = [domain == d for d in range(3)] if loss == "balanced" else [domain >= 0]
    means = [[log_loss(labels[c, t], scores[c, t]) for t in range(2)] for c in cells]
    expected = np.sum(means) if loss == "balanced" else np.mean(means)
    assert train(assignment).curve[-1]["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("arm", TWO_TASKS)
def test_arms_of_the_click_models_train_on_two_tasks(make_assignment, multi_interactions, arm):
    changed = {"training.learning_rate": 0.02, "training.max_epochs": 4}
    assignment = make_assignment(arm, data=multi_interactions, **changed)
    made = train(assignment)
    metrics = measured(assignment, made)
    for split, logits in made.logits.items():
        assert logits.shape == (len(assignment.index(split)), 2)
        for name in ("click", "like"):
            assert metrics[split][name]["macro_auc"] > 0.55, (split, name)
    # each task has a head of its own: likes are rarer
    assert made.logits["test"][:, 0].mean() > made.logits["test"][:, 1].mean() + 0.3


@pytest.mark.parametrize("arm", ["item_rate", "user_item_rate"])
def test_floors_count_each_task_alone(make_assignment, multi_interactions, arm):
    both = train(make_assignment(arm, data=multi_interactions)).logits["test"]
    schema = multi_interactions.schema
    for t, name in enumerate(schema.tasks):
        alone = dataclasses.replace(
            multi_interactions,
            schema=dataclasses.replace(schema, tasks=(name,)),
            labels=multi_interactions.labels[:, [t]],
        )
        assignment = make_assignment(arm, data=alone)
        # the split is drawn by the first task's labels
        assignment = dataclasses.replace(
            assignment, split=make_assignment(arm, data=multi_interactions).split
        )
        np.testing.assert_array_equal(train(assignment).logits["test"][:, 0], both[:, t])


def test_lower_precision_reaches_both_levels(m3oe_assignment, monkeypatch):
    call, lowered = bilevel.functional_call, set()

    def spy(*args):
        lowered.add(torch.is_autocast_enabled("cpu"))
        return call(*args)

    monkeypatch.setattr(bilevel, "functional_call", spy)
    plain = train(m3oe_assignment()).logits["test"]
    assert lowered == {False}
    lowered.clear()
    low = train(m3oe_assignment(**{"training.precision": "bfloat16"})).logits["test"]
    assert lowered == {True}
    assert low.dtype == np.float32
    assert 0 < np.abs(low - plain).max() < 0.2 * np.abs(plain).max()
