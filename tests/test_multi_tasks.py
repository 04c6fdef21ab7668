"""Models of several tasks, and plain answers to several domains, against their equations.

One row at a time, with loops over tasks, domains and experts.
"""

from importlib import import_module

import numpy as np
import plain_yaml
import pytest
import torch
from assignments import params, train
from test_multi_more import (
    DIM,
    FIELDS,
    INPUTS,
    SHAPES,
    SIZES,
    WIDTH,
    batch,
    dense_layer,
    gradients,
    layer,
    lookup,
    mean,
    network,
    norm,
    normed,
    scrambled,
)
from test_resume import goes_on_from_any_epoch
from torch.autograd import gradcheck

from domain_experts.errors import UserError
from domain_experts.models.multi import (
    aesm2,
    aitm,
    cross_stitch,
    escm2,
    esmm,
    hmoe,
    home,
    plate,
    snr,
)
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.settings import MultiModelSettings
from domain_experts.params import load
from domain_experts.schema import Schema
from domain_experts.training import losses

HIDDEN = (7, 6, 6, WIDTH)
OWN = {
    "aitm": {"calibration": 0.5},
    "escm2": {"risk": "doubly_robust", "weight": 0.5, "clip": 4.0},
    "small_heads": {"weight": 0.7},
    "plate": {"hidden": [6, 5], "vectors": 3, "temperature": 0.5},
    "cross_stitch": {"own_share": 0.9},
    "snr": {"sub_networks": 3, "hidden": [6, WIDTH], "penalty": 0.01},
    "mfh": {"specific_experts": 2, "shared_experts": 3},
    "home": {
        **{"categories": 2, "experts": 2, "meta_width": 6, "gate_parts": 2, "gate_rank": 3},
    },
    "hmoe": {"experts": 3},
    "aesm2": {
        **{"experts": 5, "specific": 1, "shared": 2, "noise": 0.3, "selection_loss": 0.1},
        **{"scenario_hidden": [7, 6], "task_hidden": [6, WIDTH]},
    },
}
MODELS = (*OWN, "esmm", "domain_heads", "domain_bias", "domain_feature")


def schema_of(domains, tasks):
    named = [tuple(f"{kind}{i}" for i in range(n)) for kind, n in (("d", domains), ("t", tasks))]
    return Schema(FIELDS, ("age",), *named)


def fresh(name, domains=3, tasks=2, **changed):
    values = params().multi_model.model_dump() | OWN
    if changed:
        values[name] = values[name] | changed
    values |= {"embedding_dim": DIM, "hidden": HIDDEN}
    sizes = MultiModelSettings.model_validate(values)
    plan = MultiContext(schema_of(domains, tasks), sizes, torch.Generator().manual_seed(0))
    return import_module(f"domain_experts.models.multi.{name}").Model(plan)


def in_evaluation(module):
    module = scrambled(module)
    for name, buffer in module.named_buffers():
        if name.endswith("var"):
            # a variance is positive
            buffer.abs_().add_(0.1)
    for name, parameter in module.named_parameters():
        if name.endswith("beta"):
            # of layers so narrow all ReLUs would be off here and there
            parameter.data.add_(1)
    return module.eval()


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def towers(part, d, t, x):
    y = norm(x @ part.W[d, t] + part.b[d, t]) * part.gamma[d, t] + part.beta[d, t]
    return part.v[d, t] @ y.clamp(min=0) + part.c[d, t]


def gated(part, u, x, vectors):
    """A sum of vectors by the u-th gate of `UnitGates`."""
    return mean(x @ part.W[u] + part.b[u], vectors)


def of_objective(part, d, t, tasks, x, vectors):
    """A sum of vectors by the gate (d, t) of `Gates`."""
    n = part.W.shape[2] // tasks
    own = slice(t * n, (t + 1) * n)
    return mean(x @ part.W[d][:, own] + part.b[d][own], vectors)


def of_aitm(model, x, d, tasks):
    z, logits = None, []
    for t in range(tasks):
        q = network(model.bottoms, t, x)
        if t == 0:
            z = q
        else:
            p = layer(model.handed_on[t - 1], 0, z)
            h1, h2, h3 = model.transfers[t - 1].h
            scores = [(u @ h2) @ (u @ h3) / len(u) ** 0.5 for u in (p, q)]
            z = mean(scores, [p @ h1, q @ h1])
        logits.append(towers(model.towers, d, t, z))
    return logits


def of_cross_stitch(model, x, d, tasks):
    h = [x] * tasks
    for part, a in zip(model.layers, model.a, strict=True):
        own = [layer(part, t, h[t]) for t in range(tasks)]
        h = [sum(a[t, u] * own[u] for u in range(tasks)) for t in range(tasks)]
    return [towers(model.towers, d, t, h[t]) for t in range(tasks)]


def of_snr(model, x, d, tasks):
    K = OWN["snr"]["sub_networks"]
    y = [x] * K
    for part, connections in zip(model.layers, model.connections, strict=True):
        u = [layer(part, i, y[i]) for i in range(K)]
        y = []
        for j in range(len(connections.W)):
            z = [sigmoid(a) * 1.2 - 0.1 for a in connections.log_alpha[j]]
            z = [0 * s if s < 0 else 0 * s + 1 if s > 1 else s for s in z]
            y.append(sum(z[i] * (u[i] @ connections.W[j, i]) for i in range(K)))
    return [towers(model.towers, d, t, y[t]) for t in range(tasks)]


def of_esmm(model, x, d, tasks):
    p, logits = 1, []
    for t in range(tasks):
        p = p * sigmoid(towers(model.towers, d, t, network(model.networks, t, x)))
        logits.append(torch.log(p / (1 - p)))
    return logits


of_escm2 = of_esmm


def of_small_heads(model, x, d, tasks):
    h = network(model.bottom, 0, x)
    return [towers(model.towers, d, t, h) for t in range(tasks)]


def of_plate(model, x, d, tasks):
    part, h = model.of_user, x[model.user]
    for own in part.network:
        h = layer(own, 0, h)
    q = mean((h @ part.W + part.b) / 0.5, list(part.m))
    h = network(model.bottom, 0, torch.cat([model.of_domain[d], q, x]))
    return [h @ model.v[:, t] + model.c[t] for t in range(tasks)]


def branch(part, u, r, shared):
    K = OWN["mfh"]["specific_experts"]
    own = [network(part.experts.experts, u * K + k, r) for k in range(K)]
    return gated(part.gates, u, r, own + shared)


def of_mfh(model, x, d, tasks):
    M = range(OWN["mfh"]["shared_experts"])
    by_task, by_domain = ([network(part.experts, k, x) for k in M] for part in model.shared)
    R_d = branch(model.by_domain[d], 0, x, by_domain)
    of_domain = [network(model.shared_of_domain[d].experts, k, R_d) for k in M]
    logits = []
    for t in range(tasks):
        R_t = branch(model.by_task, t, x, by_task)
        of_task = [network(model.shared_of_task.experts, t * len(M) + k, R_t) for k in M]
        H = branch(model.leaves_by_task[d], t, R_t, of_task)
        H = H + branch(model.leaves_by_domain[d], t, R_d, of_domain)
        logits.append(towers(model.towers, d, t, H))
    return logits


def experts_of_home(part, u, v):
    g, L = part.gate, OWN["home"]["gate_parts"]
    factors = mean(v @ g.G[u], [2 * sigmoid(v @ g.B[u, i] @ g.A[u, i]) for i in range(L)])
    y = (v * factors) @ part.W[u] + part.b[u]
    own = slice(u * len(y), (u + 1) * len(y))
    y = (y - part.mean[own]) / (part.var[own] + 1e-5).sqrt() * part.gamma[own] + part.beta[own]
    return list((y * sigmoid(y)).chunk(part.shape[0]))


def by_self(part, u, x, own):
    if len(own) == 1:
        return sigmoid(x @ part.W[u, :, 0] + part.b[u, 0]) * own[0]
    return gated(part, u, x, own)


def of_home(model, x, d, tasks):
    category = [0, 1] if tasks == 2 else [0]
    C = len(category)
    E = [experts_of_home(model.meta_experts, u, x) for u in range(C + 1)]
    z = [
        gated(model.meta_gates, c, x, E[c] + E[C]) + by_self(model.meta_self_gates, c, x, E[c])
        for c in range(C)
    ]
    everyone = [e for own in E for e in own]
    z.append(gated(model.meta_shared_gate, 0, x, everyone))
    z[C] = z[C] + by_self(model.meta_self_gates, C, x, E[C])
    logits = []
    for t, c in enumerate(category):
        own, local, shared = (
            experts_of_home(model.task_experts, u, v)
            for u, v in ((t, z[c]), (tasks + c, z[c]), (tasks + C, z[C]))
        )
        h = gated(model.gates, t, x, own + local + shared) + by_self(model.self_gates, t, x, own)
        logits.append(towers(model.towers, d, t, h))
    return logits


def of_domain_heads(model, x, d, tasks):
    h = network(model.bottom, 0, x)
    return [h @ model.v[d][:, t] + model.c[d, t] for t in range(tasks)]


def of_domain_bias(model, x, d, tasks):
    h = network(model.bottom, 0, x)
    return [h @ model.v[:, t] + model.c[t] + model.b[d, t] for t in range(tasks)]


def of_domain_feature(model, x, d, tasks):
    h = network(model.bottom, 0, torch.cat([x, model.e[d]]))
    return [h @ model.v[:, t] + model.c[t] for t in range(tasks)]


def of_hmoe(model, x, d, tasks):
    N, D = OWN["hmoe"]["experts"], len(model.schema.domains)
    E = [network(model.shared, n, x) for n in range(N)]
    logits = []
    for t in range(tasks):
        p = []
        for m in range(D):
            o = towers(model.towers, m, t, of_objective(model.gates, m, t, tasks, x, E))
            p.append(sigmoid(o if m == d else o.detach()))
        if D > 1:
            p = [of_objective(model.relations, d, t, tasks, x, p)]
        logits.append(torch.log(p[0] / (1 - p[0])))
    return logits


def selected(part, h, s, kind):
    """A layer of AESM2, and its terms of the loss."""
    n, kinds, own = OWN["aesm2"]["experts"], part.kinds, OWN["aesm2"]
    G = (torch.cat([h, s]) @ part.W + part.b).reshape(kinds, n)
    picked, loss = list(range(n)), 0
    if kinds > 1:
        P = torch.exp(G) / torch.exp(G).sum(0)
        apart = [-torch.log(P[kind, k]) for k in range(n)]
        alike = [sum(torch.log(1 / kinds / P[j, k]) / kinds for j in range(kinds)) for k in picked]
        first = sorted(range(n), key=lambda k: apart[k].item())[: own["specific"]]
        second = sorted(range(n), key=lambda k: alike[k].item())[: own["shared"]]
        picked = sorted({*first, *second})
        loss = sum(apart[k] for k in first) / len(first) + sum(alike[k] for k in second) / len(
            second
        )
    scores = [G[kind, k] for k in picked]
    return mean(scores, [layer(part.experts, k, h) for k in picked]), loss


def of_aesm2(model, x, d, tasks, losses=None):
    h, total = x, 0
    for part in model.scenario_layers:
        h, loss = selected(part, h, model.scenarios[d], d)
        total = total + loss
    logits = []
    for t in range(tasks):
        own = h
        for part in model.task_layers:
            s = torch.cat([model.scenarios[d], model.tasks[t]])
            own, loss = selected(part, own, s, t)
            total = total + loss / tasks
        logits.append(towers(model.towers, d, t, own))
    if losses is not None:
        losses.append(total)
    return logits


LITERAL = {name: globals()[f"of_{name}"] for name in MODELS}


def inputs(model, fields, dense):
    table = model.embedding.weight
    return [torch.cat([*lookup(table, row), own]) for row, own in zip(fields, dense, strict=True)]


def literal(name, model, fields, dense, domain):
    tasks = len(model.schema.tasks)
    rows = zip(inputs(model, fields, dense), domain.tolist(), strict=True)
    return torch.stack([torch.stack(LITERAL[name](model, x, d, tasks)) for x, d in rows])


def equal_gradients(model, found, expected):
    for one, other in zip(gradients(model, found), gradients(model, expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"D{s[0]}T{s[1]}")
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_are_those_of_the_literal_equation(name, shape):
    model = in_evaluation(fresh(name, *shape))
    domains = [2, 0, 2, 1, 0] if shape[0] == 3 else [0, 0, 0]
    for rows in (batch(domains), batch([d for d in domains if d != 1])):
        logits, expected = model(*rows), literal(name, model, *rows)
        assert len(torch.unique(expected)) > 1
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)
        equal_gradients(model, logits, expected)


OF_A_DOMAIN = {
    "mfh": [
        *(
            f"{part}.{{d}}"
            for part in ("by_domain", "shared_of_domain", "leaves_by_task", "leaves_by_domain")
        ),
    ],
    "hmoe": ["gates.W", "gates.b", "relations.W", "relations.b"],
    "aesm2": ["scenarios"],
    "domain_heads": ["v", "c"],
    "domain_bias": ["b"],
    "domain_feature": ["e"],
    "plate": ["of_domain"],
}
TOWERS = [f"towers.{part}" for part in ("W", "b", "gamma", "beta", "v", "c")]


@pytest.mark.parametrize("name", MODELS)
def test_an_absent_domain_gets_no_gradient(name):
    model = in_evaluation(fresh(name))
    logits = model(*batch([2, 0, 2, 0]))
    named = dict(model.named_parameters())
    found = dict(zip(named, gradients(model, logits), strict=True))
    own = OF_A_DOMAIN.get(name, []) + (
        [] if name == "plate" or name.startswith("domain_") else TOWERS
    )
    assert own
    for key in own:
        if "{d}" in key:
            parts = [
                [g for n, g in found.items() if n.startswith(key.format(d=d) + ".")]
                for d in range(3)
            ]
        else:
            parts = [[found[key][d]] for d in range(3)]
        used = [all(g.abs().max() > 0 for g in part) and bool(part) for part in parts]
        untouched = [all(g.abs().max() == 0 for g in part) for part in parts]
        assert used == [True, False, True] and untouched == [False, True, False], key


def tower_weights(D, T, d_in=WIDTH):
    return D * T * (normed(d_in, WIDTH) + WIDTH + 1)


def layers(start, *widths):
    return sum(normed(i, o) for i, o in zip((start, *widths), widths, strict=False))


def by_hand(name, D, T):
    bottom, ends = layers(INPUTS, *HIDDEN), tower_weights(D, T)
    match name:
        case "aitm":
            own = T * bottom + (T - 1) * (normed(WIDTH, WIDTH) + 3 * WIDTH**2) + ends
        case "cross_stitch":
            own = T * bottom + 4 * T**2 + ends
        case "snr":
            between = 9 * (6 * 6 + 1) + 3 * T * (WIDTH**2 + 1)
            own = 3 * layers(INPUTS, 6, WIDTH) + between + ends
        case "esmm" | "escm2":
            steps = T if name == "esmm" else 2 * T - 1
            own = steps * bottom + tower_weights(D, steps)
        case "small_heads":
            own = bottom + ends + D * dense_layer(WIDTH, T)
        case "mfh":
            below = 2 * layers(INPUTS, 7, 6) + dense_layer(INPUTS, 5)
            above = 2 * layers(6, 6, WIDTH) + dense_layer(6, 5)
            shared = 3 * (2 * layers(INPUTS, 7, 6) + (T + D) * layers(6, 6, WIDTH))
            own = (T + D) * below + 2 * D * T * above + shared + ends
        case "home":
            C = min(2, T)

            def experts(units, i, o):
                return units * (i * 2 + 2 * 2 * 3 * i + i * 2 * o + 3 * 2 * o)

            gates = C * dense_layer(INPUTS, 4) + dense_layer(INPUTS, 2 * (C + 1))
            gates += (C + 1) * dense_layer(INPUTS, 2)
            gates += T * (dense_layer(INPUTS, 6) + dense_layer(INPUTS, 2))
            own = experts(C + 1, INPUTS, 6) + experts(T + C + 1, 6, WIDTH) + gates + ends
        case "hmoe":
            related = D * T * dense_layer(INPUTS, D) if D > 1 else 0
            own = 3 * bottom + D * T * dense_layer(INPUTS, 3) + related + ends
        case "aesm2":
            below = sum(
                5 * normed(i, o) + dense_layer(i + DIM, 5 * D) for i, o in ((INPUTS, 7), (7, 6))
            )
            above = sum(
                5 * normed(i, o) + dense_layer(i + 2 * DIM, 5 * T) for i, o in ((6, 6), (6, WIDTH))
            )
            own = (D + T) * DIM + below + above + ends
        case "domain_heads":
            own = bottom + D * dense_layer(WIDTH, T)
        case "domain_bias":
            own = bottom + dense_layer(WIDTH, T) + D * T
        case "domain_feature" | "plate":
            of_user = layers(DIM, 6, 5) + dense_layer(5, 3) + 3 * DIM
            seen, user = {"domain_feature": (DIM, 0), "plate": (2 * DIM, of_user)}[name]
            own = layers(INPUTS + seen, *HIDDEN) + dense_layer(WIDTH, T) + D * DIM + user
    return own


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"D{s[0]}T{s[1]}")
@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_as_many_as_counted_by_hand(name, shape):
    found = sum(p.numel() for p in fresh(name, *shape).parameters())
    assert found == sum(SIZES) * DIM + by_hand(name, *shape)


def normal(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def test_the_blocks_have_the_gradients_of_finite_differences():
    stream = torch.Generator().manual_seed(0)
    transfer = aitm.Transfer(3, stream).double()
    assert gradcheck(transfer, (normal(2, 2, 3, seed=1),))
    assert gradcheck(esmm.of_all_steps, (normal(3, 3, seed=2),))
    weights, logits = normal(2, 3, seed=3), normal(2, 3, seed=4)
    assert gradcheck(lambda w, o: hmoe.mixture(w.softmax(1), o), (weights, logits))
    connections = scrambled(snr.Connections(2, 3, 2, stream))
    assert gradcheck(lambda u: connections(u, None), (normal(2, 3, 2, seed=5),))
    own = fresh("home").task_experts
    experts = in_evaluation(own)
    assert gradcheck(experts, (normal(2, 5, 6, seed=6),))


# ESMM


def test_probabilities_of_steps_multiply():
    steps = normal(50, 4, seed=1).detach() * 4
    found = esmm.of_all_steps(steps).sigmoid()
    torch.testing.assert_close(found, steps.sigmoid().cumprod(1), rtol=1e-12, atol=0)
    assert (found.diff(dim=1) < 0).all()


def test_the_logit_of_a_product_is_exact_where_probabilities_are_all_but_0_or_1():
    """Oracle: NumPy's longdouble, and limits."""
    steps = torch.tensor([[30.0, 31.0], [-80.0, 3.0], [2.0, -90.0], [500.0, 0.5], [0.5, 500.0]])
    found = esmm.of_all_steps(steps).double().numpy()
    o = steps.numpy().astype(np.longdouble)
    a = np.log1p(np.exp(-o)).sum(1)
    np.testing.assert_allclose(found[:, 1], (-np.log(np.expm1(a))).astype(float), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 0], steps[:, 0])
    far = torch.full((1, 3), 1e4, requires_grad=True)
    logits = esmm.of_all_steps(far)
    logits.sum().backward()
    assert logits.isfinite().all() and far.grad.isfinite().all()


# ESCM2


def labels_of(rows, tasks, seed=7):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(rows, tasks, generator=generator, dtype=torch.float64) < 0.7
    return drawn.double().cumprod(1)


def entropy(o, y):
    p = sigmoid(o)
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p))


@pytest.mark.parametrize("risk", ["inverse_propensity", "doubly_robust"])
@pytest.mark.parametrize("tasks", [2, 3])
def test_the_counterfactual_risk_is_that_of_the_literal_equation(risk, tasks):
    """One row and one step at a time; gradients too, and rows in the batch's own order."""
    model = in_evaluation(fresh("escm2", tasks=tasks, risk=risk)).train()
    rows = batch([2, 0, 2, 1, 0])
    y = labels_of(5, tasks)
    model(*rows)
    found = model.row_losses(y)
    expected = []
    for i, (x, d) in enumerate(zip(inputs(model, *rows[:2]), rows[2].tolist(), strict=True)):
        o = [towers(model.towers, d, t, network(model.networks, t, x)) for t in range(tasks)]
        p, total = 1, 0
        for t in range(1, tasks):
            p = p * sigmoid(o[t - 1]).item()
            w = y[i, t - 1].item() * min(1 / p, 4.0)
            e = entropy(o[t], y[i, t])
            if risk == "inverse_propensity":
                total = total + w * e
            else:
                networks, ends = model.imputation
                z = towers(ends, d, t - 1, network(networks, t - 1, x))
                guess = torch.log(1 + torch.exp(z))
                total = total + guess + w * (e - guess) + w * (e - guess) ** 2
        expected.append(0.5 * total)
    assert 0 < (y[:, 0] > 0).sum() < 5
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-9)
    equal_gradients(model, found, torch.stack(expected))


def test_the_risk_estimates_the_error_over_all_rows_where_only_some_are_seen():
    """Oracle: the mean error with every row seen. Clicks are likelier where errors are large."""
    steps = normal(200_000, 2, seed=1).detach()
    steps[:, 1] += 2 * steps[:, 0]
    generator = torch.Generator().manual_seed(2)
    seen, bought = torch.rand(steps.shape, generator=generator, dtype=torch.float64).unbind(1)
    click, bought = (seen < steps[:, 0].sigmoid()).double(), (bought < 0.3).double()
    y = torch.stack([click, click * bought], 1)
    every = entropy(steps[:, 1], bought).mean()
    among_clicks = (click * entropy(steps[:, 1], bought)).sum() / click.sum()
    wrong = torch.full((len(y), 1), 0.5, dtype=torch.float64)
    ips = escm2.counterfactual_risks(steps, y, 1e9, None).mean()
    doubly = escm2.counterfactual_risks(steps, y, 1e9, wrong)
    e = entropy(steps[:, 1], y[:, 1]) - 0.5
    imputation = (click / steps[:, 0].sigmoid() * e**2).mean()
    assert abs(among_clicks - every) > 0.1
    assert abs(ips - every) < 0.02 and abs(doubly.mean() - imputation - every) < 0.02


@pytest.mark.parametrize("imputed", [False, True])
def test_the_risk_has_the_gradients_of_finite_differences(imputed):
    y = labels_of(4, 3)
    # propensities are known numbers: the first step has no gradient from them
    first = normal(4, 1, seed=1).detach()

    def risk(later, guess):
        steps = torch.cat([first, later], 1)
        return escm2.counterfactual_risks(steps[:, :2], y[:, :2], 5.0, guess if imputed else None)

    assert gradcheck(risk, (normal(4, 1, seed=2), normal(4, 1, seed=3)))


@pytest.mark.parametrize("name", ["escm2", "small_heads"])
def test_nothing_is_added_in_evaluation_or_without_a_step_before(name):
    model = scrambled(fresh(name))
    rows = batch([0, 1])
    model.train()(*rows)
    assert model.row_losses(labels_of(2, 2)) is not None
    model.eval()(*rows)
    assert model.row_losses(labels_of(2, 2)) is None
    one = scrambled(fresh(name, tasks=1)).train()
    one(*rows)
    assert (one.row_losses(labels_of(2, 1)) is None) == (name == "escm2")


def test_predictions_are_esmms():
    one, other = fresh("escm2"), fresh("esmm")
    other.load_state_dict({n: w for n, w in one.state_dict().items() if "imputation" not in n})
    rows = batch([2, 0, 1, 2])
    rows = rows[0], rows[1].float(), rows[2]
    torch.testing.assert_close(one(*rows), other(*rows), rtol=0, atol=0)


# PLATE


def test_prompts_wait_for_the_network_and_then_it_for_them(make_assignment, multi_interactions):
    trained = train(
        make_assignment(
            "mdmt", multi_interactions, backbone="plate", **{"training.learning_rate": 0.02}
        )
    )
    curve = [point["phase"] for point in trained.curve]
    assert set(curve) == {"joint", "prompts"} and curve == sorted(curve)
    assert [lane.phase for lane in trained.lanes] == ["joint", "prompts"]
    model = fresh("plate")
    legs = model.legs()
    assert {*legs["joint"], *legs["prompts"]} == {n for n, _ in model.named_parameters()}
    assert not {*legs["joint"]} & {*legs["prompts"]}
    assert set(legs["prompts"]) >= {"of_domain", "of_user.m", "of_user.W"}


@pytest.mark.parametrize("balance", ["metabalance", "adatask", "gradnorm"])
def test_each_leg_balances_its_own_weights(make_assignment, multi_interactions, balance):
    changed = {"training.learning_rate": 0.02, "training.balance": balance}
    trained = train(make_assignment("mdmt", multi_interactions, backbone="plate", **changed))
    assert np.isfinite(trained.logits["test"]).all()
    assert {point["phase"] for point in trained.curve} == {"joint", "prompts"}


def test_without_prompts_it_is_a_network_that_knows_no_domain():
    model = fresh("plate")
    torch.nn.init.zeros_(model.of_domain)
    fields, dense, _ = batch([0, 0, 0])
    found = [model(fields, dense.float(), torch.full((3,), d)) for d in range(3)]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=0)


def test_a_data_set_without_users_is_refused_for_plate():
    values = params().multi_model
    schema = Schema((("item", 4),), (), ("a", "b"), ("t",))
    with pytest.raises(UserError, match=r"need the field 'user'.* has item; leave plate out"):
        plate.Model(MultiContext(schema, values, torch.Generator()))


# Small heads


def test_small_heads_add_the_cross_entropy_of_their_own_predictions():
    model = in_evaluation(fresh("small_heads")).train()
    rows = batch([2, 0, 2, 1, 0])
    y = labels_of(5, 2)
    model(*rows)
    found, expected = model.row_losses(y), []
    for i, (x, d) in enumerate(zip(inputs(model, *rows[:2]), rows[2].tolist(), strict=True)):
        h = network(model.bottom, 0, x)
        small = [h @ model.v[d][:, t] + model.c[d, t] for t in range(2)]
        expected.append(0.7 * sum(entropy(small[t], y[i, t]) for t in range(2)))
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-9)
    equal_gradients(model, found, torch.stack(expected))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", [losses.mean, losses.balanced])
def test_losses_of_rows_count_as_a_tasks_cross_entropy(loss, weighted):
    """Oracle: the loss itself, which is what its tasks' cross entropies come to."""
    logits, labels = normal(30, 3, seed=1).detach(), labels_of(30, 3)
    domain = torch.arange(30) % 4
    drawn = torch.rand(30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = drawn if weighted else None
    each = entropy(logits, labels)
    parts = [losses.of_rows(loss, each[:, t], 3, domain, weight) for t in range(3)]
    torch.testing.assert_close(sum(parts), loss(logits, labels, domain, [30], weight)[0])


@pytest.mark.parametrize("loss", ["mean", "balanced"])
def test_the_loop_adds_the_losses_of_rows(make_assignment, multi_interactions, monkeypatch, loss):
    """Zero weight: the training of the model without them."""

    def weights(backbone, **changed):
        assignment = make_assignment(
            "mdmt",
            multi_interactions,
            backbone=backbone,
            **{"protocol.loss": loss, "training.learning_rate": 0.02},
            **changed,
        )
        return train(assignment).logits["test"]

    plain = weights("esmm")
    np.testing.assert_array_equal(weights("escm2", **{"multi_model.escm2.weight": 0.0}), plain)
    assert np.abs(weights("escm2", **{"multi_model.escm2.weight": 2.0}) - plain).max() > 1e-3


# AITM


@pytest.mark.parametrize("alpha", [0.5, 0.0])
def test_the_calibrator_is_what_a_step_is_above_the_one_before(alpha):
    model = scrambled(fresh("aitm", tasks=3, calibration=alpha)).train()
    rows = batch([2, 0, 2, 1, 0])
    p = model(*rows).sigmoid()
    above = [
        sum(max(p[i, t].item() - p[i, t - 1].item(), 0) for t in (1, 2)) for i in range(len(p))
    ]
    found = model.auxiliary_loss()
    if alpha == 0:
        assert found is None
        return
    assert sum(above) > 0
    assert found.item() == pytest.approx(alpha * sum(above) / len(above))
    found.backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    model.eval()(*rows)
    assert model.auxiliary_loss() is None


def test_one_task_has_no_step_before():
    model = fresh("aitm", tasks=1).train()
    rows = batch([0, 1])
    model(rows[0], rows[1].float(), rows[2])
    assert model.auxiliary_loss() is None


# Cross-Stitch


@pytest.mark.parametrize("tasks", [1, 2, 4])
def test_a_unit_starts_as_a_mean_with_most_of_its_own(tasks):
    start = cross_stitch.stitched(tasks, 0.9)
    torch.testing.assert_close(start.sum(1), torch.ones(tasks))
    own = 1.0 if tasks == 1 else 0.9
    torch.testing.assert_close(start.diag(), torch.full((tasks,), own))


def test_units_that_mix_nothing_are_networks_of_their_own():
    """Oracle: ESMM's networks and towers, which it has before the product."""
    alone, other = fresh("cross_stitch", own_share=1.0), fresh("esmm")
    rows = batch([2, 0, 1, 2])
    rows = rows[0], rows[1].float(), rows[2]
    state = {name: value for name, value in alone.state_dict().items() if name[0] != "a"}
    other.load_state_dict(
        {name.replace("layers.", "networks."): value for name, value in state.items()}
    )
    logits = alone(*rows)
    torch.testing.assert_close(esmm.of_all_steps(logits), other(*rows))


# SNR


def training_step(model, seed):
    model.train().dropout.lanes = [(np.random.default_rng(seed), 5)]
    return model(*batch([2, 0, 2, 1, 0]))


@pytest.mark.parametrize("name", ["snr", "aesm2"])
def test_noise_comes_from_the_steps_stream_and_is_absent_in_evaluation(name):
    changed = {"aesm2": {"noise": 5.0}, "snr": {}}[name]
    model = scrambled(fresh(name, **changed))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (training_step(model, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    model.eval()
    quiet = model(*batch([2, 0, 2, 1, 0]))
    torch.testing.assert_close(quiet, model(*batch([2, 0, 2, 1, 0])), rtol=0, atol=0)
    assert not torch.equal(quiet, first)
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_connections_are_hard_concrete():
    """Oracle: the distribution of Louizos et al. 2018: how often a connection is cut, or whole."""
    part = snr.Connections(1, 4, 1, torch.Generator().manual_seed(0))
    log_alpha = torch.tensor([[-2.0, -0.5, 0.5, 2.0]])
    part.log_alpha.data.copy_(log_alpha)
    stream = np.random.default_rng(1)
    z = torch.cat([part.z(stream).detach() for _ in range(8000)])
    beta, gamma, zeta = 2 / 3, -0.1, 1.1

    def below(value):
        """P(s (zeta - gamma) + gamma <= value)."""
        s = (value - gamma) / (zeta - gamma)
        return torch.sigmoid(beta * torch.tensor(s / (1 - s)).log() - log_alpha[0])

    assert z.min() == 0 and z.max() == 1
    torch.testing.assert_close((z == 0).float().mean(0), below(0.0), rtol=0, atol=0.02)
    torch.testing.assert_close((z == 1).float().mean(0), 1 - below(1.0), rtol=0, atol=0.02)
    torch.testing.assert_close((z <= 0.5).float().mean(0), below(0.5), rtol=0, atol=0.02)
    assert part.kept().item() == pytest.approx((1 - below(0.0)).sum().item(), rel=1e-5)


def test_the_penalty_is_the_expected_number_of_connections():
    model = fresh("snr", penalty=0.25)
    kept = sum(part.kept().item() for part in model.connections)
    assert model.auxiliary_loss().item() == pytest.approx(0.25 * kept)
    model.auxiliary_loss().backward()
    assert all((part.log_alpha.grad > 0).all() for part in model.connections)


@pytest.mark.parametrize("module", [snr, aesm2], ids=lambda m: m.__name__.split(".")[-1])
def test_training_draws_noise_and_validation_does_not(
    make_assignment, multi_interactions, monkeypatch, module
):
    found, streams = module.noise_of, []

    def spy(dropout):
        streams.append((dropout.training, found(dropout)))
        return streams[-1][1]

    monkeypatch.setattr(module, "noise_of", spy)
    train(make_assignment("mdmt", multi_interactions, backbone=module.__name__.split(".")[-1]))
    assert {training for training, _ in streams} == {True, False}
    assert all((stream is not None) == training for training, stream in streams)


# noise from streams, and moments of batch norms
@pytest.mark.parametrize("backbone", ["snr", "aesm2", "home", "plate", "escm2"])
def test_a_training_goes_on_from_any_epoch(
    make_assignment, multi_interactions, monkeypatch, backbone
):
    changed = {"training.learning_rate": 0.02}
    assignment = make_assignment("mdmt", multi_interactions, backbone=backbone, **changed)
    goes_on_from_any_epoch(assignment, monkeypatch)


# HoME


def test_the_batch_norm_takes_the_moments_of_the_batch_in_training():
    """Oracle: torch's BatchNorm1d."""
    part = fresh("home").meta_experts.double().train()
    oracle = torch.nn.BatchNorm1d(part.gamma.numel()).double().train()
    v = normal(8, 3, INPUTS, seed=1).detach()
    for _ in range(2):
        linear = torch.einsum("bud,udh->buh", v * part.gate(v.transpose(0, 1)).transpose(0, 1),
                              part.W) + part.b  # fmt: skip
        y = oracle(linear.flatten(1))
        torch.testing.assert_close(part(v).flatten(1), y * y.sigmoid())
    torch.testing.assert_close((part.mean, part.var), (oracle.running_mean, oracle.running_var))
    before = part.mean.clone()
    assert part(v[:1]).isfinite().all() and torch.equal(part.mean, before)


@pytest.mark.parametrize(
    ("tasks", "most", "expected"),
    [(1, 2, [0]), (2, 2, [0, 1]), (3, 2, [0, 0, 1]), (5, 3, [0, 0, 1, 1, 2]), (3, 1, [0, 0, 0])],
)
def test_tasks_are_shared_out_over_categories(tasks, most, expected):
    assert home.categories(tasks, most) == expected


def test_tasks_of_a_category_share_its_experts():
    model = in_evaluation(fresh("home", tasks=3))
    logits = model(*batch([0, 1, 2]))
    grads = torch.autograd.grad(logits[:, 0].sum(), [model.task_experts.W], retain_graph=True)[0]
    used = [unit.abs().max() > 0 for unit in grads]
    # task 0, its category's, and the shared ones; not those of tasks 1 and 2, nor of category 1
    assert used == [True, False, False, True, False, True]


def test_one_expert_alone_has_a_sigmoid_as_self_gate():
    part = home.SelfGates(2, 3, 1, torch.Generator().manual_seed(0)).double()
    x = normal(4, 3, seed=1)
    expected = torch.stack([sigmoid(x @ part.W[u] + part.b[u]) for u in range(2)], 1)
    torch.testing.assert_close(part(x), expected)


# HMoE


def test_other_scenarios_are_not_trained_but_heard():
    model = in_evaluation(fresh("hmoe"))
    rows = batch([0, 0, 0])
    before = model(*rows)
    model.towers.c.data[2] += 3
    assert not torch.allclose(model(*rows), before)
    before.sum().backward()
    assert model.towers.W.grad[1:].abs().max() == 0
    assert model.towers.W.grad[0].abs().max() > 0


def test_a_mean_of_probabilities_is_one_wherever_they_are():
    weights = torch.tensor([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    logits = torch.tensor([[1.0, -2.0], [0.3, 90.0], [-200.0, -200.0]])
    found = hmoe.mixture(weights, logits)
    expected = (weights * logits.sigmoid()).sum(1)[:2].logit()
    torch.testing.assert_close(found[:2], expected)
    assert found[2].item() == pytest.approx(-200)


# AESM2


def test_the_selection_pulls_picked_experts_as_written():
    model = scrambled(fresh("aesm2")).train()
    rows = batch([2, 0, 2, 1, 0])
    model(*rows)
    losses = []
    for x, d in zip(inputs(model, *rows[:2]), rows[2].tolist(), strict=True):
        of_aesm2(model, x, d, 2, losses)
    found, expected = model.auxiliary_loss(), 0.1 * sum(losses) / len(losses)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    equal_gradients(model, found, expected)
    model.eval()(*rows)
    assert model.auxiliary_loss() is None


def test_experts_that_are_not_picked_take_no_part():
    own = fresh("aesm2", specific=1, shared=1).scenario_layers[0]
    part = scrambled(own)
    h, s = normal(40, INPUTS, seed=1), normal(40, DIM, seed=2)
    y, _ = part(h, s, torch.arange(40) % 3, None)
    used = 0
    for i in range(40):
        (grads,) = torch.autograd.grad(y[i].sum(), [part.experts.beta], retain_graph=True)
        used = max(used, int((grads.abs().amax(1) > 0).sum()))
    assert used == 2


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("escm2.clip", 0.5, "multi_model.escm2.clip"),
        ("escm2.risk", "naive", "multi_model.escm2.risk"),
        ("plate.temperature", 0, "multi_model.plate.temperature"),
        ("small_heads.weight", -1, "multi_model.small_heads.weight"),
        ("aesm2.specific", 9, "specific is 9, but there are 6 experts to pick from"),
        ("aesm2.shared", 7, "shared is 7, but there are 6 experts to pick from"),
        ("aesm2.noise", -1, "multi_model.aesm2.noise"),
        ("aesm2.task_hidden", [], "multi_model.aesm2.task_hidden"),
        ("aitm.calibration", -0.1, "multi_model.aitm.calibration"),
        ("cross_stitch.own_share", 1.5, "multi_model.cross_stitch.own_share"),
        ("snr.sub_networks", 0, "multi_model.snr.sub_networks"),
        ("snr.hidden", [8, 0], "multi_model.snr.hidden"),
        ("home.gate_rank", 0, "multi_model.home.gate_rank"),
        ("mfh.shared_experts", 0, "multi_model.mfh.shared_experts"),
        ("hmoe.experts", 0, "multi_model.hmoe.experts"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(key, value, said, tmp_path):
    raw = plain_yaml.read()
    model, setting = key.split(".")
    raw["multi_model"][model][setting] = value
    path = tmp_path / "params.yaml"
    plain_yaml.write(raw, path)
    with pytest.raises(UserError) as refused:
        load(path)
    assert said in str(refused.value) and f"multi_model.{model}" in str(refused.value)


def test_it_says_nothing_of_selection_where_there_is_one_kind():
    part = aesm2.Selection(
        1, 2, (3, 4), fresh("aesm2").scenario_layers[0].own, torch.Generator().manual_seed(0)
    )
    y, loss = part(torch.ones(2, 3), torch.ones(2, 2), torch.zeros(2, dtype=torch.int64), None)
    assert loss is None and y.shape == (2, 4)
