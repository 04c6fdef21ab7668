"""The gates against slow literal versions, row by row and expert by expert."""

import math

import numpy as np
import pytest
import torch
from assignments import low_rank, train
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from domain_experts.errors import UserError
from domain_experts.models import low_rank as low_rank_module
from domain_experts.models import routers
from domain_experts.models.adapter import AdaptedLinear, Tower
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext
from domain_experts.models.dropout import KeyedDropout
from domain_experts.models.routers import Gate
from domain_experts.schema import Schema
from domain_experts.serving.composed import Appended
from domain_experts.settings import ModelSettings

DOMAINS, EXPERTS, DIM, WIDTH = 3, 4, 2, 5


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def gate_of(seed=0, **options):
    """A gate in float64 whose weights are large enough to matter."""
    gate = Gate(DOMAINS, EXPERTS, DIM, stream(seed), **options).double()
    for parameter in gate.parameters():
        nn.init.normal_(parameter, generator=stream(seed))
    return gate


def batch(rows, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, DOMAINS, rows)), torch.from_numpy(
        rng.normal(size=(rows, WIDTH))
    )


def literal(gate, domain, x, layer):
    """softmax(z / temperature) over the k largest of z = u V + v, with Python numbers."""
    embedding, V, v = (p.detach().numpy() for p in (gate.embedding, gate.V, gate.v))
    rows = []
    for d, features in zip(domain.tolist(), x.tolist(), strict=True):
        u = [*embedding[d], *(features if gate.features else [])]
        z = []
        for e in range(EXPERTS):
            column = layer * EXPERTS + e
            z.append(v[column] + sum(u[i] * V[i, column] for i in range(len(u))))
        kept = sorted(range(EXPERTS), key=lambda e, z=z: -z[e])[: gate.top_k or EXPERTS]
        weights = [math.exp(z[e] / gate.temperature) if e in kept else 0.0 for e in range(EXPERTS)]
        rows.append([w / sum(weights) for w in weights])
    return torch.tensor(rows, dtype=torch.float64)


@given(
    features=st.booleans(),
    layers=st.integers(1, 3),
    top_k=st.sampled_from([None, 1, 2, EXPERTS]),
    temperature=st.sampled_from([0.25, 1.0, 3.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_weights_are_the_literal_softmax(features, layers, top_k, temperature, seed):
    gate = gate_of(
        seed,
        features=WIDTH if features else 0,
        layers=layers,
        top_k=top_k,
        temperature=temperature,
    )
    domain, x = batch(6, seed)
    found = gate(domain, x)
    found = found if layers > 1 else (found,)
    assert len(found) == layers
    for layer, weights in enumerate(found):
        expected = literal(gate, domain, x, layer)
        torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)
        assert ((weights > 0).sum(1) == (top_k or EXPERTS)).all()


@given(
    layers=st.integers(1, 3), top_k=st.sampled_from([None, 1, 2]), temperature=st.floats(0.1, 10)
)
@settings(max_examples=20, deadline=None)
def test_the_table_is_of_domains_and_its_rows_sum_to_one(layers, top_k, temperature):
    gate = gate_of(layers=layers, top_k=top_k, temperature=temperature)
    table = gate.table()
    torch.testing.assert_close(table.sum(1), torch.ones(DOMAINS, dtype=torch.float64))
    domain = torch.arange(DOMAINS)
    x = torch.zeros(DOMAINS, WIDTH, dtype=torch.float64)
    each = torch.stack([literal(gate, domain, x, layer) for layer in range(layers)])
    torch.testing.assert_close(table, each.mean(0), rtol=0, atol=1e-12)


def test_weights_that_depend_on_the_row_have_no_table():
    assert gate_of(features=WIDTH).table() is None


def balance_of(layers):
    """load_balance E sum_e f_e p_e (Fedus et al. 2022, equation 4), counted row by row."""
    losses = []
    for weights in layers:
        rows = weights.tolist()
        loss = 0.0
        for e in range(EXPERTS):
            f = sum(row[e] == max(row) for row in rows) / len(rows)
            p = sum(row[e] for row in rows) / len(rows)
            loss += f * p
        losses.append(EXPERTS * loss)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("features", [0, WIDTH])
def test_load_balance_is_equation_4_and_reaches_the_gate(layers, features):
    gate = gate_of(features=features, layers=layers, load_balance=0.3)
    assert gate.balance() is None, "before a batch there is nothing to balance"
    domain, x = batch(20)
    found = gate(domain, x)
    loss = gate.balance()
    expected = 0.3 * balance_of(found if layers > 1 else (found,))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in gate.parameters())


def test_load_balance_is_least_for_an_even_gate():
    gate = gate_of(load_balance=1.0)
    domain, x = batch(50)
    gate(domain, x)
    uneven = gate.balance().item()
    nn.init.zeros_(gate.V)
    nn.init.zeros_(gate.v)
    gate(domain, x)
    assert gate.balance().item() == pytest.approx(1.0)
    assert uneven > 1.05


def test_without_load_balance_there_is_no_loss():
    gate = gate_of()
    gate(*batch(4))
    assert gate.balance() is None


@pytest.mark.parametrize("options", [{}, {"features": WIDTH}, {"layers": 2}, {"top_k": 2}])
def test_gradients_of_the_gate(options):
    gate = gate_of(temperature=0.7, load_balance=0.5, **options)
    domain, x = batch(6)

    def outputs(*_):
        found = gate(domain, x)
        return (*(found if gate.layers > 1 else (found,)), gate.balance())

    assert torch.autograd.gradcheck(outputs, tuple(gate.parameters()))


def model_with_gate(**options):
    schema = Schema((("user", 7), ("item", 5)), (), ("a", "b", "c"), ("click",))
    model_settings = ModelSettings(embedding_dim=3, hidden=(6, 4), dropout=0.0, l2=0.0)
    model = build("wdl", CTRContext(schema, model_settings, stream(), embedding_std=1.0)).double()
    for e in range(EXPERTS):
        model.tower.add_expert(low_rank(2, "glorot_normal"), stream(e))
    model.double()
    for name, parameter in model.named_parameters():
        if ".B." in name or ".c." in name:
            nn.init.normal_(parameter, generator=stream())
    model.router = gate_of(**options)
    rng = np.random.default_rng(0)
    fields = torch.from_numpy(np.stack([rng.integers(0, 7, 8), rng.integers(0, 5, 8)], 1))
    domain = torch.from_numpy(rng.integers(0, 3, 8))
    return model, (fields, torch.zeros(8, 0, dtype=torch.float64), domain)


def test_a_gate_on_features_sends_no_gradient_into_the_embedding():
    """The same weights, given as numbers, leave the embedding's gradient as it is."""
    model, (fields, dense, domain) = model_with_gate(features=6)
    model(fields, dense, domain).sum().backward()
    through = model.embedding.weight.grad.clone()
    assert model.router.V.grad.abs().sum() > 0
    model.zero_grad()
    weights = model.router(domain, model.concatenated(model.embedding(fields), dense)).detach()
    model(fields, dense, domain, weights).sum().backward()
    torch.testing.assert_close(model.embedding.weight.grad, through, rtol=0, atol=1e-14)


@pytest.mark.parametrize("options", [{}, {"layers": 2}, {"top_k": 1}])
def test_products_by_domain_are_the_gated_sum(monkeypatch, options):
    """Logits and all gradients are those of the weights given row by row."""
    model, (fields, dense, domain) = model_with_gate(**options)
    # a domain without rows
    domain = domain.clamp(max=1)
    x = model.embedding(fields).flatten(1)
    by_row = model(fields, dense, domain, model.router(domain, x))
    used = [p for p in model.parameters() if p.numel()]
    expected = torch.autograd.grad(by_row.square().sum(), used)
    monkeypatch.setattr(routers, "MANY", EXPERTS)
    monkeypatch.setattr(low_rank_module, "WORTH_IT", 0)
    found = model(fields, dense, domain)
    assert "OwnProducts" in graph_of(found)
    assert "OwnProducts" not in graph_of(by_row)
    torch.testing.assert_close(found, by_row, rtol=0, atol=1e-12)
    gradients = torch.autograd.grad(found.square().sum(), used)
    for own, literal_one in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, literal_one, rtol=0, atol=1e-12)


def graph_of(output):
    """The names of all functions that made an output."""
    names, waiting = set(), [output.grad_fn]
    while waiting:
        function = waiting.pop()
        names.add(function.name().removesuffix("Backward"))
        waiting += [before for before, _ in function.next_functions if before is not None]
    return names


@pytest.mark.parametrize("rows, by_matrix", [(8, False), (4096, True)])
def test_products_are_by_domain_where_that_saves_half(monkeypatch, rows, by_matrix):
    monkeypatch.setattr(routers, "MANY", EXPERTS)
    model, _ = model_with_gate()
    one = torch.zeros(rows, dtype=torch.int64)
    logits = model(torch.zeros(rows, 2, dtype=torch.int64), torch.zeros(rows, 0).double(), one)
    assert ("OwnProducts" in graph_of(logits)) == by_matrix


@pytest.mark.parametrize("options", [{}, {"features": 6}, {"layers": 2}, {"top_k": 1}])
def test_the_gated_tower_is_the_literal_sum_over_experts(options):
    model, (fields, dense, domain) = model_with_gate(**options)
    x = model.embedding(fields).flatten(1)
    weights = model.router(domain, x)
    weights = weights if isinstance(weights, tuple) else (weights, weights)
    for layer, g in zip(model.tower.layers, weights, strict=True):
        y = x @ layer.weight + layer.bias
        own = layer.experts
        for e in range(EXPERTS):
            y = y + g[:, e, None] * (x @ own.A[e] @ own.B[e] + own.c[e])
        x = y.clamp(min=0)
    expected = model.linear(fields, dense) + x @ model.head + model.bias
    torch.testing.assert_close(model(fields, dense, domain), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("last", [False, True])
def test_dropout_before_the_activation_drops_the_shared_branch_and_after_it_everything(last):
    p, rows = 0.4, 9
    dropout = KeyedDropout(p)
    tower = Tower(5, (6, 4), dropout, last, "glorot_normal", stream())
    for e in range(2):
        tower.add_expert(low_rank(2, "glorot_normal"), stream(e))
    tower.double()
    for name, parameter in tower.named_parameters():
        if ".B." in name or ".c." in name:
            nn.init.normal_(parameter, generator=stream())
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(rows, 5)))
    g = torch.full((rows, 2), 0.5, dtype=torch.float64)
    dropout.lanes = [(np.random.default_rng(2), rows)]
    found = tower.train()(x, g)
    mask_stream = np.random.default_rng(2)
    for layer in tower.layers:
        width = layer.weight.shape[1]
        keep = torch.from_numpy(mask_stream.random(rows * width, np.float32) >= np.float32(p))
        mask = keep.view(rows, width).double() / (1 - p)
        own = layer.experts
        delta = sum(0.5 * (x @ own.A[e] @ own.B[e] + own.c[e]) for e in range(2))
        shared = x @ layer.weight + layer.bias
        x = (shared + delta).clamp(min=0) * mask if last else (shared * mask + delta).clamp(min=0)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-12)
    assert (found == 0).any()


def test_a_layer_without_experts_is_plain_whatever_the_routing():
    layer = AdaptedLinear(3, 4, None, "glorot_normal", stream())
    x = torch.ones(2, 3)
    torch.testing.assert_close(layer(x, torch.full((2, 5), 0.2)), layer(x, None))


@pytest.mark.parametrize("layers", [1, 2])
def test_later_domains_leave_a_gate_of_many_experts_as_it_is(monkeypatch, layers):
    """As one whose weights come by row."""
    domain, x = torch.tensor([0, 2, 3, 4]), torch.zeros(4, WIDTH, dtype=torch.float64)
    appended = Appended(gate_of(layers=layers).eval(), DOMAINS, EXPERTS, 2)
    by_row = appended(domain, x)
    monkeypatch.setattr(routers, "MANY", EXPERTS)
    torch.testing.assert_close(appended(domain, x), by_row, rtol=0, atol=0)


def test_settings_reach_the_gate(make_assignment):
    plain = train(make_assignment("moe_mlora"))
    assert plain.parameters["gate"] == 3 * 4 + 4 * 3 + 3
    np.testing.assert_allclose(plain.gate.sum(1), 1, rtol=1e-6)
    # moe_mlora's tower input: three fields of width 4
    changed = {
        "gate.dim": (7, 3 * 7 + 7 * 3 + 3),
        "gate.input": ("features", 3 * 4 + (4 + 12) * 3 + 3),
        "gate.per_layer": (True, 3 * 4 + 4 * 6 + 6),
        "gate.top_k": (1, 27),
        "gate.temperature": (0.25, 27),
        "gate.load_balance": (0.5, 27),
    }
    for key, (value, parameters) in changed.items():
        made = train(make_assignment("moe_mlora", **{key: value}))
        assert made.parameters["gate"] == parameters, key
        assert made.curve != plain.curve, key
        if key == "gate.input":
            assert made.gate is None
        if key == "gate.top_k":
            assert (np.sort(made.gate, 1)[:, -1] == 1).all()


def test_load_balance_evens_the_gate_out(make_assignment):
    """A heavy weight leaves the gate flatter than none, from the same start."""
    changed = {"training.max_epochs": 1, "protocol.keep_start": False}
    tables = [
        train(make_assignment("moe_mlora", **changed | {"gate.load_balance": weight})).gate
        for weight in (0.0, 10.0)
    ]
    spread = [np.ptp(table.mean(0)) for table in tables]
    assert spread[1] < spread[0]


def test_more_experts_than_there_are_cannot_be_chosen(make_assignment):
    with pytest.raises(UserError, match=r"gate\.top_k is 9, but there are 3 experts"):
        train(make_assignment("moe_mlora", **{"gate.top_k": 9}))
