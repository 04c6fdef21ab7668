"""MAMDR: domain negotiation and regularisation against literal loops."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from assignments import train
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from domain_experts.auc import macro_auc
from domain_experts.data.planted import generate
from domain_experts.data.specs import Planted
from domain_experts.errors import UserError
from domain_experts.models.own_parts import OwnParts
from domain_experts.training.batches import by_domain, mixed
from domain_experts.training.deep import new_model, new_trainer, train_whole, whole_lane
from domain_experts.training.mamdr import Negotiation, Regularisation
from domain_experts.training.streams import numpy_stream

RATE, SIZE = 0.02, 300
SETTINGS = {
    "training.learning_rate": RATE,
    "training.batch_size": SIZE,
    "training.max_epochs": 2,
    "training.patience": 100,
    "model.dropout": 0.0,
    "model.l2": 0.0,
    "mamdr.outer_step": 0.3,
    "mamdr.own_step": 0.2,
    "mamdr.helpers": 2,
}


@pytest.fixture
def make(make_assignment):
    """Assignment of an arm without dropout and penalty, so that torch's own Adam can follow."""
    return partial(make_assignment, **SETTINGS)


def own_rows(assignment):
    rows = assignment.index("train")
    domain = np.asarray(assignment.interactions.domain)[rows]
    return [rows[domain == d] for d in range(3)]


class Literal:
    """A backbone that torch's own Adam moves, its weights as one vector."""

    def __init__(self, assignment):
        self.data = assignment.interactions
        self.model = new_model(assignment)
        self.adam = torch.optim.Adam(self.model.parameters(), RATE)

    @property
    def theta(self):
        return torch.nn.utils.parameters_to_vector(self.model.parameters()).detach().clone()

    @theta.setter
    def theta(self, vector):
        torch.nn.utils.vector_to_parameters(vector.clone(), self.model.parameters())

    def logits(self, rows):
        data = self.data
        parts = (data.fields[rows], data.dense[rows], data.domain[rows].astype(np.int64))
        return self.model(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))

    def visit(self, batches):
        for rows in batches:
            self.adam.zero_grad()
            labels = torch.from_numpy(self.data.labels[rows]).float()
            cross_entropy(self.logits(rows), labels).backward()
            self.adam.step()


def negotiated(literal, assignment, epoch, theta):
    """An epoch of algorithm 1 from theta."""
    literal.theta = theta
    stream = numpy_stream(assignment.run.seed, "joint", "all", epoch, "order")
    literal.visit(by_domain(own_rows(assignment), SIZE, stream))
    return theta + 0.3 * (literal.theta - theta)


def ends_of_epochs(monkeypatch, trainer):
    """Copies of what each epoch ends with."""
    found, select = [], trainer._select

    def spy(self, *args):
        found.append({n: v.clone() for n, v in self.model.state_dict().items()})
        select(self, *args)

    monkeypatch.setattr(trainer, "_select", spy)
    return found


def vector(state, names):
    return torch.cat([state[name].flatten() for name in names])


def test_negotiation_is_the_literal_loop(make, monkeypatch):
    assignment = make("domain_negotiation")
    found = ends_of_epochs(monkeypatch, Negotiation)
    train(assignment)
    literal = Literal(assignment)
    names = [name for name, _ in literal.model.named_parameters()]
    theta = literal.theta
    torch.testing.assert_close(vector(found[0], names), theta, rtol=0, atol=0)
    for epoch in (1, 2):
        theta = negotiated(literal, assignment, epoch, theta)
        torch.testing.assert_close(vector(found[epoch], names), theta, rtol=1e-4, atol=2e-6)
    assert len(found) == 3


def test_regularisation_is_the_literal_loop(make, monkeypatch):
    assignment = make("mamdr")
    found = ends_of_epochs(monkeypatch, Regularisation)
    made = train(assignment)
    literal, seed = Literal(assignment), assignment.run.seed
    names = [name for name, _ in literal.model.named_parameters()]
    rows = own_rows(assignment)
    theta, own = literal.theta, [torch.zeros_like(literal.theta) for _ in range(3)]
    merged = {}
    for epoch in (1, 2):
        theta = negotiated(literal, assignment, epoch, theta)
        for d in range(3):
            others = [other for other in range(3) if other != d]
            stream = numpy_stream(seed, "joint", "all", epoch, "helpers", d)
            for helper in stream.permutation(others):
                literal.theta = theta + own[d]
                for of in (helper, d):
                    purpose = ("joint", "all", epoch, "regularisation", d, helper, of, "order")
                    literal.visit(mixed(rows[of], SIZE, numpy_stream(seed, *purpose)))
                own[d] = own[d] + 0.2 * (literal.theta - theta - own[d])
        state = found[epoch]
        shared = vector(state, [f"shared.{name}" for name in names])
        torch.testing.assert_close(shared, theta, rtol=1e-4, atol=2e-6)
        for d in range(3):
            parts = torch.cat([state[f"own.{i}"][d].flatten() for i in range(len(names))])
            assert parts.abs().max() > 1e-3
            torch.testing.assert_close(parts, own[d], rtol=1e-3, atol=5e-6)
        merged[epoch] = [theta + part for part in own]
    # the predictions are those of theta + theta_d
    best = made.lanes[0].epoch_tested
    test = assignment.index("test")
    domain = np.asarray(assignment.interactions.domain)[test]
    for d in range(3):
        literal.theta = merged[best][d]
        expected = literal.logits(test[domain == d]).detach().numpy()
        np.testing.assert_allclose(made.logits["test"][domain == d], expected, atol=1e-4)


def test_an_outer_step_of_one_is_plain_training_by_domain(make):
    assignment = make("base", **{"protocol.batches": "by_domain"})
    plain = train_whole(assignment, new_model(assignment), "joint")
    made = train(make("domain_negotiation", **{"mamdr.outer_step": 1.0}))
    for name, array in plain.state.items():
        np.testing.assert_allclose(made.state[name], array, atol=1e-5)


def inputs_of(data, rows=slice(0, 200)):
    parts = (data.fields[rows], data.dense[rows], data.domain[rows].astype(np.int64))
    return [torch.from_numpy(np.ascontiguousarray(part)) for part in parts]


@pytest.mark.parametrize("backbone", ["mlp", "wdl", "autoint"])
def test_parts_of_zero_leave_the_shared_model(make_assignment, interactions, backbone):
    assignment = make_assignment("mamdr", backbone=backbone)
    shared = new_model(assignment).eval()
    model = OwnParts(shared, 3).eval()
    inputs = inputs_of(interactions)
    torch.testing.assert_close(model(*inputs), shared(*inputs))
    with torch.no_grad():
        for parts in model.own:
            parts[1] = 0.1
    changed = (model(*inputs) != shared(*inputs)).flatten()
    assert torch.equal(changed, inputs[2] == 1)
    # an unknown domain has what is shared
    unknown = torch.full_like(inputs[2], -1)
    torch.testing.assert_close(model(*inputs[:2], unknown), shared(*inputs[:2], unknown))


def test_rows_visited_are_those_of_the_drawn_helpers(make, interactions, monkeypatch):
    assignment = make("mamdr", **{"mamdr.helpers": 1})
    seen, step = [], Regularisation._step

    def spy(self, lanes, batches, masks):
        seen.extend(map(len, batches))
        return step(self, lanes, batches, masks)

    monkeypatch.setattr(Regularisation, "_step", spy)
    made = train(assignment)
    (lane,) = made.lanes
    assert lane.rows_visited == sum(seen)


def test_helpers_are_drawn_anew_each_epoch(make):
    assignment = make("mamdr", **{"mamdr.helpers": 1})
    trainer = new_trainer(assignment, OwnParts(new_model(assignment), 3), trainer=Regularisation)
    lane = whole_lane(assignment, {})
    epochs = [trainer._helpers("joint", lane, epoch) for epoch in range(1, 20)]
    assert {(d, *own) for epoch in epochs for d, own in epoch.items()} == {
        *itertools.permutations(range(3), 2)
    }


def test_one_domain_trains_without_own_parts_and_says_so(make, interactions, capsys):
    assignment = make("mamdr")
    alone = np.asarray(interactions.domain) == 0
    object.__setattr__(assignment, "split", np.where(alone, assignment.split, 3).astype(np.uint8))
    made = train(assignment)
    assert "one domain has training rows: it trains without own parts" in capsys.readouterr().err
    assert not any(a.any() for name, a in made.state.items() if name.startswith("own."))


def test_a_domain_without_training_rows_keeps_the_shared_weights(make, interactions):
    assignment = make("mamdr")
    domain = np.asarray(interactions.domain)
    split = np.where((domain == 2) & (assignment.split == 0), 3, assignment.split)
    object.__setattr__(assignment, "split", split.astype(np.uint8))
    made = train(assignment)
    own = [a for name, a in made.state.items() if name.startswith("own.")]
    assert not any(a[2].any() for a in own)
    assert all(any(a[d].any() for a in own) for d in (0, 1))


@pytest.mark.parametrize("arm", ["domain_negotiation", "mamdr"])
def test_validations_within_an_epoch_are_refused(make, arm):
    with pytest.raises(UserError, match=rf"training.validations is 2, but an epoch of {arm}"):
        train(make(arm, **{"training.validations": 2}))


def test_own_parts_win_where_users_want_other_items_in_each_domain(make_assignment):
    spec = Planted(
        source="planted", seed=3, rows=6000, users=40, items=30, domains=3, groups=3, latent_dim=3,
        common=0.0, strength=4.0, sparsity=0.0, skew=1.0, positive_rate=0.4,
    )  # fmt: skip
    data = generate(spec)
    changed = SETTINGS | {
        "model.hidden": [8],
        "training.learning_rate": 0.01,
        "training.max_epochs": 8,
        "mamdr.outer_step": 0.5,
        "mamdr.own_step": 0.5,
    }
    found = {}
    for arm in ("domain_negotiation", "mamdr"):
        assignment = make_assignment(arm, data=data, **changed)
        test = assignment.index("test")
        logits = train(assignment).logits["test"]
        found[arm] = macro_auc(logits, data.labels[test], data.domain[test], 3)
    assert found["mamdr"] > found["domain_negotiation"] + 0.005
