"""The baselines of M3oE against their equations, computed in full: every unit for every row."""

from importlib import import_module
from itertools import pairwise, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from assignments import make_assignment, params, train
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call

from domain_experts.models.multi.adatt import Level
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.ple import CGC
from domain_experts.models.multi.settings import MultiModelSettings, PLESettings
from domain_experts.models.multi.units import level_widths
from domain_experts.registry import BACKBONES
from domain_experts.runs import reads
from domain_experts.schema import Schema

HIDDEN = (7, 6, 6, 5)
FIELDS = (("user", 6), ("item", 5), ("domain", 3))
SHAPES = [(3, 2), (1, 2), (3, 1), (1, 1)]
WIDTH = 3 * 4 + 1
PLE = [
    {"levels": levels, "specific_experts": K, "shared_experts": M}
    for levels, K, M in [(1, 2, 1), (1, 1, 2), (2, 2, 1), (2, 1, 1), (4, 2, 3)]
]
ADATT = [
    {"levels": levels, "experts": m, "shared_experts": M}
    for levels, m, M in [(1, 2, 1), (2, 2, 1), (2, 1, 1), (2, 1, 2), (4, 2, 3)]
]
CASES = [
    ("mlp_norm", {}),
    ("shared_bottom", {}),
    ("star_one_layer", {}),
    *(("mmoe", {"experts": N}) for N in (1, 4)),
    *(("ple", own) for own in PLE),
    *((name, own) for name in ("adatt", "adatt_sp") for own in ADATT),
]
SECTION = {"adatt_sp": "adatt"}
DEFAULTS = params().multi_model.model_dump()


def schema(domains=3, tasks=2, fields=FIELDS):
    return Schema(
        fields,
        ("age",),
        tuple(f"d{d}" for d in range(domains)),
        tuple(f"t{t}" for t in range(tasks)),
    )


def sizes(backbone, own):
    values = DEFAULTS | {"embedding_dim": 4, "hidden": HIDDEN}
    if own:
        values[SECTION.get(backbone, backbone)] = own
    return MultiModelSettings.model_validate(values)


def fresh(backbone, own, shape=(3, 2)):
    plan = MultiContext(schema(*shape), sizes(backbone, own), torch.Generator().manual_seed(0))
    return import_module(BACKBONES[backbone].module).Model(plan)


def scrambled(module, seed=1):
    """The module in float64, with no weight at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.6, generator=generator)
    return module.double()


def batch(domain, seed=2):
    generator = torch.Generator().manual_seed(seed)
    rows = len(domain)
    fields = torch.stack([torch.randint(n, (rows,), generator=generator) for _, n in FIELDS], 1)
    dense = torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    return fields.int(), dense, torch.tensor(domain)


# The equations, with no thought for speed. h[d, t] are the towers' inputs of all rows, as if all
# rows were of domain d.


def layer(part, e, x):
    y = x @ part.W[e] + part.b[e]
    y = y - y.mean(1, keepdim=True)
    y = y / (y.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return (y * part.gamma[e] + part.beta[e]).clamp(min=0)


def network(parts, e, x):
    for part in parts:
        x = layer(part, e, x)
    return x


def tower(part, d, t, x):
    own = SimpleNamespace(**{name: getattr(part, name)[d] for name in ("W", "b", "gamma", "beta")})
    return layer(own, t, x) @ part.v[d, t] + part.c[d, t]


def weights(logits):
    return logits.exp() / logits.exp().sum(1, keepdim=True)


def mixed(g, outputs):
    return sum(g[:, [i]] * y for i, y in enumerate(outputs))


def shared_bottom(model, x, D, T):
    return {o: network(model.bottom, 0, x) for o in product(range(D), range(T))}


def star_one_layer(model, x, D, T):
    star, h = model.representation, {}
    for d, t in product(range(D), range(T)):
        y = x @ (star.weight * star.weights[d]) + star.bias + star.biases[d]
        y = layer(model.conversion, 0, y) + layer(model.adaptation, 0, x)
        h[d, t] = layer(model.layer, 0, y)
    return h


def mmoe(model, x, D, T):
    h, N = {}, model.shared[0].W.shape[0]
    for d, t in product(range(D), range(T)):
        own = slice(t * N, (t + 1) * N)
        g = weights(x @ model.gates.W[d][:, own] + model.gates.b[d][own])
        h[d, t] = mixed(g, [network(model.shared, n, x) for n in range(N)])
    return h


def gate(part, u, x):
    return weights(x @ part.W[u] + part.b[u])


def ple(model, x, D, T):
    objectives = list(product(range(D), range(T)))
    inputs, s = dict.fromkeys(objectives, x), x
    K = model.levels[0].specific[0].each
    for i, level in enumerate(model.levels):
        shared = [network(model.shared[i], n, s) for n in range(len(model.shared[i][0].W))]
        own = {
            (d, t): [network(level.specific[d].experts, t * K + k, inputs[d, t]) for k in range(K)]
            for d, t in objectives
        }
        h = {
            (d, t): mixed(gate(level.gates[d], t, inputs[d, t]), [*own[d, t], *shared])
            for d, t in objectives
        }
        if i < len(model.levels) - 1:
            everyone = [y for o in objectives for y in own[o]] + shared
            s = mixed(gate(model.shared_gates[i], 0, s), everyone)
        inputs = h
    return h


def adatt(model, x, D, T):
    units = [(d, t) for d in range(D) for t in range(T)]
    if len(model.levels[0].experts) > D:
        units.append((D, 0))
    inputs = dict.fromkeys(units, x)
    for i, level in enumerate(model.levels):
        own = {}
        for g, u in units:
            m = level.experts[g].each
            own[g, u] = [
                network(level.experts[g].experts, u * m + k, inputs[g, u]) for k in range(m)
            ]
        everyone = [y for unit in units for y in own[unit]]
        one_each = len(everyone) == len(units)
        h = {}
        for g, u in units:
            if g == D and i == len(model.levels) - 1:
                continue
            v = [torch.ones(1)] if one_each else level.v[g][u]
            h[g, u] = mixed(gate(level.gates[g], u, inputs[g, u]), everyone)
            h[g, u] = h[g, u] + sum(v[k] * y for k, y in enumerate(own[g, u]))
        inputs = h
    return h


ORACLES = {
    "mlp_norm": shared_bottom,
    "shared_bottom": shared_bottom,
    "star_one_layer": star_one_layer,
    "mmoe": mmoe,
    "ple": ple,
    "adatt": adatt,
    "adatt_sp": adatt,
}


def literal(backbone, model, fields, dense, domain):
    """Logits (B, T): all objectives for all rows, then each row's own."""
    D, T = len(model.schema.domains), len(model.schema.tasks)
    tables = model.embedding.weight.split(model.schema.sizes)
    x = torch.cat([*(tables[f][fields[:, f].long()] for f in range(len(tables))), dense], 1)
    h = ORACLES[backbone](model, x, D, T)
    logits = torch.zeros(len(x), T, dtype=x.dtype)
    for d, t in product(range(D), range(T)):
        chosen = torch.where(domain == d, tower(model.towers, d, t, h[d, t]), logits[:, t])
        logits = torch.cat([logits[:, :t], chosen.unsqueeze(1), logits[:, t + 1 :]], 1)
    return logits


def slopes(model, logits):
    """Gradients of a weighted sum of the logits; zero where a weight is not used."""
    model.zero_grad()
    logits.mul(torch.linspace(-1, 2, logits.numel()).view_as(logits)).sum().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


def spread(domains, rows=9):
    """Domain ids in no order."""
    return [(5 * i + 1) % domains for i in range(rows)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("backbone", "own"), CASES, ids=str)
def test_equals_the_equations_computed_for_all_rows(backbone, own, shape):
    model = scrambled(fresh(backbone, own, shape))
    rows = batch(spread(shape[0]))
    found, expected = model(*rows), literal(backbone, model, *rows)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        slopes(model, found), slopes(model, expected), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize(("backbone", "own"), CASES, ids=str)
@given(domain=st.lists(st.integers(0, 2), min_size=1, max_size=6))
@settings(max_examples=8, deadline=None)
def test_any_mix_of_domains_one_row_or_domains_absent(backbone, own, domain):
    model = scrambled(fresh(backbone, own))
    rows = batch(domain)
    with torch.no_grad():
        expected = literal(backbone, model, *rows)
        torch.testing.assert_close(model(*rows), expected, rtol=0, atol=1e-10)


# Weights of an absent domain alone: its towers, gates, experts, residuals and star-like weights.
OWN = {
    "mlp_norm": {"towers"},
    "shared_bottom": {"towers"},
    "star_one_layer": {"towers", "representation.weights.", "representation.biases."},
    "mmoe": {"towers", "gates"},
    "ple": {"towers", "levels.0.gates.", "levels.0.specific."},
    "adatt": {"towers", "levels.1.gates.", "levels.1.v."},
    "adatt_sp": {"towers", "levels.1.gates.", "levels.1.v."},
}


@pytest.mark.parametrize("backbone", OWN)
def test_what_is_an_absent_domains_alone_gets_no_gradient(backbone):
    model = scrambled(fresh(backbone, {}))
    found = slopes(model, model(*batch([0, 2, 2, 0, 2])))
    seen = set()
    for name, slope in found.items():
        for own in OWN[backbone]:
            if not name.startswith(own):
                continue
            stacked = not own.endswith(".")
            if stacked:
                absent, present = slope[1], slope[2]
            else:
                d = name.removeprefix(own).split(".")[0]
                absent, present = (slope, None) if d == "1" else (None, slope)
            assert absent is None or not absent.any(), name
            assert present is None or present.any(), name
            seen.add(own)
    assert seen == OWN[backbone]


def linear(i, o):
    return i * o + o


def layers(*widths):
    return sum(linear(i, o) + 2 * o for i, o in pairwise(widths))


def by_hand(backbone, own, D, T, inputs, H, codes, dim):
    """Number of parameters."""
    h = H[-1]
    total = codes * dim + D * T * (layers(h, h) + linear(h, 1))
    if backbone in ("mlp_norm", "shared_bottom"):
        return total + layers(inputs, *H)
    if backbone == "star_one_layer":
        return (
            total
            + (D + 1) * linear(inputs, H[0])
            + layers(H[0], H[1])
            + layers(inputs, H[1])
            + layers(H[1], h)
        )
    if backbone == "mmoe":
        return total + own["experts"] * layers(inputs, *H) + D * T * linear(inputs, own["experts"])
    L, M = own["levels"], own["shared_experts"]
    if backbone == "adatt_sp":
        M = 0
    each, d_in = 4 // L, inputs
    for i in range(L):
        H_l, last = H[i * each : (i + 1) * each], i == L - 1
        if backbone == "ple":
            K = own["specific_experts"]
            total += (D * T * K + M) * layers(d_in, *H_l) + D * T * linear(d_in, K + M)
            total += 0 if last else linear(d_in, D * T * K + M)
        else:
            m = own["experts"]
            E = D * T * m + M
            fusing_shared = M > 0 and not last
            total += E * layers(d_in, *H_l) + (D * T + fusing_shared) * linear(d_in, E)
            if m > 1 or M > 1:
                total += D * T * m + (M if fusing_shared else 0)
        d_in = H_l[-1]
    return total


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("backbone", "own"), CASES, ids=str)
def test_number_of_parameters(backbone, own, shape):
    model = fresh(backbone, own, shape)
    expected = by_hand(backbone, own, *shape, WIDTH, HIDDEN, 14, 4)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_levels_share_out_the_layers():
    assert level_widths(9, HIDDEN, 1) == [(9, 7, 6, 6, 5)]
    assert level_widths(9, HIDDEN, 2) == [(9, 7, 6), (6, 6, 5)]
    assert level_widths(9, HIDDEN, 4) == [(9, 7), (7, 6), (6, 6), (6, 5)]


def normal(*shape, seed=3):
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return value.requires_grad_()


def test_gradient_of_cgc():
    own = PLESettings(levels=1, specific_experts=2, shared_experts=1)
    unit = scrambled(CGC(1, 2, own, (3, 4, 3), torch.Generator().manual_seed(0)))
    names, parameters = zip(*unit.named_parameters(), strict=True)

    def outputs(x, shared, *values):
        y, experts = functional_call(unit, dict(zip(names, values, strict=True)), ([x], [shared]))
        return y[0], experts[0]

    assert gradcheck(outputs, (normal(2, 2, 3), normal(2, 1, 3, seed=4), *parameters))


@pytest.mark.parametrize("counts", [None, [2, 1]], ids=["all rows", "own rows"])
def test_gradient_of_an_adatt_level(counts):
    fusing = 3 if counts is None else 2
    groups = [(2, 2), (2, 2), (1, 1)]
    unit = scrambled(Level(groups, fusing, (3, 3), torch.Generator().manual_seed(0)))
    names, parameters = zip(*unit.named_parameters(), strict=True)

    def outputs(a, b, s, *values):
        values = dict(zip(names, values, strict=True))
        return tuple(functional_call(unit, values, ([a, b, s], counts)))

    inputs = (normal(3, 2, 3), normal(3, 2, 3, seed=4), normal(3, 3, seed=5))
    assert gradcheck(outputs, (*inputs, *parameters))


def test_the_initial_weights_come_from_the_plans_stream_alone():
    for backbone, own in CASES:
        torch.manual_seed(1)
        first = fresh(backbone, own).state_dict()
        torch.manual_seed(2)
        second = fresh(backbone, own).state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_adatt_sp_has_no_shared_experts_and_reads_no_number_of_them():
    few, many = (
        fresh("adatt_sp", own | {"shared_experts": n}) for n in (1, 3) for own in ADATT[:1]
    )
    assert [p.shape for p in few.parameters()] == [p.shape for p in many.parameters()]
    assert "multi_model.adatt.shared_experts" not in reads("mtl", "adatt_sp")
    assert "multi_model.adatt" in reads("mtl", "adatt")


TABLE = [
    ("mlp_norm", "single"),
    *product(("shared_bottom", "mmoe", "ple"), ("mtl", "mdl", "mdmt")),
    ("adatt", "mtl"),
    ("adatt_sp", "mtl"),
    ("star_one_layer", "mdl"),
]


@pytest.mark.parametrize(("backbone", "arm"), TABLE)
def test_the_rows_of_the_papers_table_train(backbone, arm, multi_interactions, tmp_path):
    trained = train(
        make_assignment(tmp_path, multi_interactions, arm, backbone, **{"training.max_epochs": 1})
    )
    assert np.isfinite(trained.logits["test"]).all()
    schema = multi_interactions.schema
    D = 1 if arm in ("single", "mtl") else len(schema.domains)
    T = 1 if arm in ("single", "mdl") else len(schema.tasks)
    models = len(schema.domains) * len(schema.tasks) // (D * T)
    own = DEFAULTS.get(SECTION.get(backbone, backbone))
    width = 4 * len(schema.fields) + len(schema.dense)
    hand = by_hand(backbone, own, D, T, width, (16, 8, 8, 4), sum(schema.sizes), 4)
    assert trained.parameters["backbone"] == models * hand
    losses = [point["train_loss"] for point in trained.curve if point["epoch"] == 1]
    assert len(losses) == models and all(loss > 0 for loss in losses)
