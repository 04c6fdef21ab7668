"""HAMUR, AdaSparse, SAR-Net, EPNet, PPNet, AdaptDHM, APG and HierRec, one row at a time."""

from importlib import import_module
from statistics import mean as average

import numpy as np
import pytest
import torch
from assignments import params
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
    network,
    norm,
    normal,
    normed,
)
from torch import nn
from torch.autograd import gradcheck

from domain_experts.errors import UserError
from domain_experts.models.multi import adaptdhm, adasparse, apg, hamur, hierrec, ppnet
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.settings import AdaSparseSettings, MultiModelSettings
from domain_experts.schema import Schema

OWN = {
    "pepnet": {"hidden": [6, 4], "gate_hidden": 3},
    "hamur": {"hidden": [6, 5, 4], "bottleneck": 3, "hyper_hidden": 4, "rank": 2}
    | {"moments": "domain"},
    "adasparse": {
        **{"hidden": [6, 4], "factor": "fused", "threshold": 0.9, "scale": 2.0},
        **{"alpha": 1.5, "alpha_growth": 0.25, "sparsity": [0.2, 0.4], "penalty": 0.5},
    },
    "sarnet": {"shared_experts": 3, "domain_experts": 2, "expert_hidden": 4},
    "adaptdhm": {"hidden": [6, 4], "clusters": 3, "momentum": 0.9},
    "apg": {"hidden": [6, 4], "rank": 3},
    "hierrec": {"heads": 2, "inner": 3},
}
MODELS = ("hamur", "adasparse", "sarnet", "epnet", "ppnet", "adaptdhm", "apg", "hierrec")
CASES = [*((name, {}) for name in MODELS if name != "adasparse")]
CASES += [("adasparse", {"factor": factor}) for factor in ("fused", "scaled")]
CASES += [("adasparse", {"factor": "binary", "threshold": 0.5})]
NAMES = [f"{name}{'-' if own else ''}{own.get('factor', '')}" for name, own in CASES]


def context(domains=3, tasks=2, seed=0, fields=FIELDS, **changed):
    schema = Schema(
        fields,
        ("age",),
        tuple(f"d{d}" for d in range(domains)),
        tuple(f"t{t}" for t in range(tasks)),
    )
    values = params().multi_model.model_dump() | {
        name: own | changed.get(name, {}) for name, own in OWN.items()
    }
    values["m2m"] |= {"heads": 2}
    values |= {"embedding_dim": DIM, "hidden": (7, 6, 6, WIDTH)}
    sizes = MultiModelSettings.model_validate(values)
    return MultiContext(schema, sizes, torch.Generator().manual_seed(seed))


def fresh(name, *shape, **changed):
    module = import_module(f"domain_experts.models.multi.{name}")
    return module.Model(context(*shape, **{name: changed}))


def scrambled(module, seed=1):
    """The module in evaluation and float64, with no weight at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in (*module.parameters(), *module.buffers()):
        if parameter.is_floating_point():
            nn.init.normal_(parameter, std=0.6, generator=generator)
    for part in module.modules():
        if isinstance(part, hamur.DomainNorm):
            part.var.square_()
    return module.double().eval()


# The equations of one row, with loops over fields, experts, tasks and heads.


def softmax(scores):
    powers = [torch.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def mean(scores, vectors):
    return sum(g * y for g, y in zip(softmax(scores), vectors, strict=True))


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def tower(part, t, m):
    y = norm(m @ part.W[0, t] + part.b[0, t]) * part.gamma[0, t] + part.beta[0, t]
    return part.v[0, t] @ y.clamp(min=0) + part.c[0, t]


def of_hamur(model, e, x, d, tasks):
    r = OWN["hamur"]["rank"]
    H = network(model.hyper, 0, x).reshape(r, r)
    h = x
    for number, own in enumerate(model.layers):
        h = layer(own[d], 0, h)
        if number > 0:
            cell = model.cells[number - 1]
            W_down, W_up = cell.U_down @ H @ cell.V_down, cell.U_up @ H @ cell.V_up
            y = sigmoid(h @ W_down + cell.b_down) @ W_up + cell.b_up
            y = (y - cell.norm.mean[d]) / (cell.norm.var[d] + 1e-5).sqrt()
            h = h + cell.norm.gamma * y + cell.norm.beta
    return [h @ model.v[d][:, t] + model.c[d][t] for t in range(tasks)]


def of_adasparse(model, e, x, d, tasks):
    own, e_d = model.own, model.domains[d]

    def pruned(pruner, h):
        v = torch.cat([e_d, h]) @ pruner.W
        out = []
        for j in range(len(h)):
            s = sigmoid(v[j]) if own.factor == "scaled" else sigmoid(model.alpha * v[j])
            if own.factor == "binary":
                out.append(((1.0 if s > own.threshold else 0.0) + s - s.detach()) * h[j])
            else:
                s = own.scale * s
                out.append(s * h[j] if s > own.threshold else 0 * h[j])
        return torch.stack(out)

    h = torch.cat([e_d, pruned(model.pruners[0], x)])
    for part, pruner in zip(model.layers, model.pruners[1:], strict=True):
        h = pruned(pruner, layer(part, 0, h))
    return [h @ model.v[:, t] + model.c[t] for t in range(tasks)]


def of_sarnet(model, e, x, d, tasks):
    z = model.beta[d] * x + model.gamma[d]
    experts = [network(model.own_experts[d], k, z) for k in range(2)]
    experts += [network(model.shared_experts, k, z) for k in range(3)]
    return [
        tower(model.towers, t, mean(z @ model.gates.W[t] + model.gates.b[t], experts))
        for t in range(tasks)
    ]


def gate(unit, z):
    inner = (z @ unit.W_1 + unit.b_1).clamp(min=0)
    return 2 * sigmoid(inner @ unit.W_2 + unit.b_2)


def of_epnet(model, e, x, d, tasks):
    gated = gate(model.epnet, torch.cat([model.domains[d], x.detach()])) * x
    return [model.v[t] @ network(model.towers, t, gated) + model.c[t] for t in range(tasks)]


def of_ppnet(model, e, x, d, tasks):
    _, user, item = e
    known = torch.cat([user, item, x.detach()])
    logits = []
    for t in range(tasks):
        H = x
        for part, unit in zip(model.towers, model.ppnet, strict=True):
            H = layer(part, t, H)
            H = gate(unit, known)[t * len(H) : (t + 1) * len(H)] * H
        logits.append(model.v[t] @ H + model.c[t])
    return logits


def cluster_of(model, x):
    scores = [float(x.detach() @ centre) for centre in model.clustering.centres]
    return scores.index(max(scores))


def of_adaptdhm(model, e, x, d, tasks):
    k = cluster_of(model, x)

    def star(part, h):
        return h @ (part.weights[k] * part.weight) + part.biases[k] + part.bias

    h = x
    for part, own in zip(model.layers, model.norms, strict=True):
        h = (norm(star(part, h)) * own.weight + own.bias).clamp(min=0)
    return list(star(model.head, h))


def of_apg(model, e, x, d, tasks):
    k = OWN["apg"]["rank"]
    h = x
    for part, own in zip(model.layers, model.norms, strict=True):
        made = model.domains[d] @ part.A + part.a
        W = part.U @ made[: k * k].reshape(k, k) @ part.V
        h = (norm(h @ W + made[k * k :]) * own.weight + own.bias).clamp(min=0)
    return [h @ model.v[:, t] + model.c[t] for t in range(tasks)]


def dynamic(part, vector, h):
    made, (i, g, o) = vector @ part.G + part.g, (WIDTH, 3, WIDTH)
    W, b, W_2, b_2 = made.split([i * g, g, g * o, o])
    return (h @ W.reshape(i, g) + b) @ W_2.reshape(g, o) + b_2


def of_hierrec(model, e, x, d, tasks):
    e_d, part = model.domains[d], model.attention
    u = dynamic(model.explicit, e_d, layer(model.bottom, 0, x))
    heads = []
    for k in range(2):
        a = softmax(e_d[2 * k : 2 * k + 2] @ model.A[k] + model.c[k])
        seen = [weight * field for weight, field in zip(a, e, strict=True)]
        q, key, v = ([s @ W + b for s in seen] for W, b in zip(
            part.W_QKV.split(DIM, 1), part.b_QKV.split(DIM), strict=True
        ))  # fmt: skip
        E = [
            mean([q[i] @ key[j] / DIM**0.5 for j in range(3)], v) @ part.W_O + part.b_O
            for i in range(3)
        ]
        heads.append(dynamic(model.implicit, torch.cat(E), u))
    top = layer(model.joined, 0, torch.cat(heads))
    return [tower(model.towers, t, top) for t in range(tasks)]


LITERAL = {name: globals()[f"of_{name}"] for name in MODELS}


def literal(name, model, fields, dense, domain):
    tasks, rows = len(model.schema.tasks), []
    for codes, own, d in zip(fields, dense, domain.tolist(), strict=True):
        e = lookup(model.embedding.weight, codes)
        rows.append(torch.stack(LITERAL[name](model, e, torch.cat([*e, own]), d, tasks)))
    return torch.stack(rows)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"D{s[0]}T{s[1]}")
@pytest.mark.parametrize(("name", "own"), CASES, ids=NAMES)
def test_logits_and_gradients_are_those_of_the_literal_equation(name, own, shape):
    model = scrambled(fresh(name, *shape, **own))
    domains = [2, 0, 2, 1, 0] if shape[0] == 3 else [0, 0, 0]
    for rows in (batch(domains), batch([d for d in domains if d != 1])):
        logits, expected = model(*rows), literal(name, model, *rows)
        assert len(torch.unique(expected)) > 1
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
        pairs = zip(gradients(model, logits), gradients(model, expected), strict=True)
        for found, of_literal in pairs:
            torch.testing.assert_close(found, of_literal, rtol=1e-8, atol=1e-9)


OF_A_DOMAIN = {
    "hamur": [*(f"layers.{n}.{{d}}.W" for n in range(3)), "v.{d}", "c.{d}"],
    "adasparse": ["domains"],
    "sarnet": ["beta", "gamma", "own_experts.{d}.0.W", "own_experts.{d}.1.b"],
    "epnet": ["domains"],
    "apg": ["domains"],
    "hierrec": ["domains"],
}


@pytest.mark.parametrize("name", OF_A_DOMAIN)
def test_an_absent_domain_gets_no_gradient(name):
    model = scrambled(fresh(name))
    model(*batch([2, 0] * 8)).sum().backward()
    own = dict(model.named_parameters())
    for key in OF_A_DOMAIN[name]:
        grads = [own[key.format(d=d)].grad for d in range(3)]
        of = grads if "{d}" in key else [grad[d] for d, grad in enumerate(grads)]
        used = [grad is not None and bool(grad.abs().max() > 0) for grad in of]
        assert used == [True, False, True], key


def gate_unit(i, o):
    return dense_layer(i, 3) + dense_layer(3, o)


def by_hand(name, D, T):
    towers = T * (normed(WIDTH, WIDTH) + WIDTH + 1)
    pepnet = T * (normed(INPUTS, 6) + normed(6, 4) + 4 + 1)
    match name:
        case "hamur":
            own = normed(INPUTS, 6) + normed(6, 5) + normed(5, 4) + dense_layer(4, T)
            hyper = normed(INPUTS, 4) + normed(4, 4)
            # U and V of rank 2, down to 3 and up again, two biases, the norm's scale and shift
            cells = sum(2 * 2 * (width + 3) + 3 + width + 2 * width for width in (5, 4))
            rest = D * own + hyper + cells
        case "adasparse":
            net = normed(DIM + INPUTS, 6) + normed(6, 4) + dense_layer(4, T)
            rest = D * DIM + net + sum((DIM + w) * w for w in (INPUTS, 6, 4))
        case "sarnet":
            expert = normed(INPUTS, 4) + normed(4, WIDTH)
            gates = T * dense_layer(INPUTS, 2 + 3)
            rest = D * 2 * INPUTS + (2 * D + 3) * expert + gates + towers
        case "epnet":
            rest = D * DIM + gate_unit(DIM + INPUTS, INPUTS) + pepnet
        case "ppnet":
            gates = gate_unit(2 * DIM + INPUTS, T * 6) + gate_unit(2 * DIM + INPUTS, T * 4)
            rest = pepnet + gates
        case "adaptdhm":
            net = dense_layer(INPUTS, 6) + dense_layer(6, 4) + dense_layer(4, T)
            rest = (3 + 1) * net + 2 * (6 + 4)
        case "apg":
            # from the domain's vector: a core of rank 3 and a bias
            first = 3 * (INPUTS + 6) + (DIM + 1) * (9 + 6)
            second = 3 * (6 + 4) + (DIM + 1) * (9 + 4)
            rest = D * DIM + first + second + 2 * (6 + 4) + dense_layer(4, T)
        case "hierrec":
            made = dense_layer(WIDTH, 3) + dense_layer(3, WIDTH)
            explicit, implicit = (DIM + 1) * made, (3 * DIM + 1) * made
            heads = 2 * dense_layer(DIM // 2, 3)
            attention = dense_layer(DIM, 3 * DIM) + dense_layer(DIM, DIM)
            layers = normed(INPUTS, WIDTH) + normed(2 * WIDTH, WIDTH)
            own = explicit + implicit + heads + attention + layers
            rest = D * DIM + own + towers
        case _:
            raise AssertionError(name)
    return sum(SIZES) * DIM + rest


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"D{s[0]}T{s[1]}")
@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts(name, shape):
    assert sum(p.numel() for p in fresh(name, *shape).parameters()) == by_hand(name, *shape)


@pytest.mark.parametrize("missing", ["user", "item"])
def test_ppnet_needs_users_and_items(missing):
    fields = tuple(field for field in FIELDS if field[0] != missing)
    with pytest.raises(UserError, match=f"field '{missing}', and the data set has .*; leave ppnet"):
        ppnet.Model(context(fields=fields))


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("hierrec", {"heads": 3}, "hierrec.heads is 3, which does not divide embedding_dim 16"),
        ("apg", {"rank": 65}, r"rank 65 is above the narrowest of hidden \[256, 128, 64\]"),
        ("adasparse", {"threshold": 2.0}, "threshold 2.0 prunes every neuron"),
        ("adasparse", {"factor": "binary", "threshold": 1.0}, "threshold 1.0 prunes every neuron"),
        ("adasparse", {"sparsity": (0.5, 0.4)}, r"sparsity \[0.5, 0.4\] is no range"),
        ("hamur", {"hidden": (8,)}, "hidden"),
    ],
)
def test_settings_that_do_not_fit_are_refused(part, changed, message):
    values = params().multi_model.model_dump()
    values[part] |= changed
    with pytest.raises(ValueError, match=message):
        MultiModelSettings.model_validate(values)


# Blocks


def checked(part, *inputs, **fixed):
    """Gradcheck of a block by its inputs and weights."""
    weights = tuple(part.parameters())
    return gradcheck(lambda *given: part(*given[: len(inputs)], **fixed), (*inputs, *weights))


@pytest.mark.parametrize("counts", [[1, 2], [0, 3]])
def test_gradients_of_the_adapter_cell(counts):
    norm_of_two = hamur.DomainNorm(2, 3)
    cell = scrambled(hamur.AdapterCell(norm_of_two, 3, 2, 2, torch.Generator()))
    assert checked(cell, normal(3, 3, seed=6), normal(3, 2, 2, seed=7), counts=counts)


@pytest.mark.parametrize("factor", ["scaled", "fused"])
def test_gradients_of_the_pruner(factor):
    own = AdaSparseSettings.model_validate(OWN["adasparse"] | {"factor": factor})
    pruner = scrambled(adasparse.Pruner(2, 3, own, torch.Generator()))
    alpha = torch.tensor(1.5, dtype=torch.float64)
    assert checked(pruner, normal(4, 2, seed=6), normal(4, 3, seed=7), alpha=alpha)


@pytest.mark.parametrize("counts", [[1, 2], [0, 3]])
def test_gradients_of_the_generated_layer(counts):
    part = scrambled(apg.GeneratedLayer(2, 3, 4, 2, torch.Generator()))
    assert checked(part, normal(3, 3, seed=6), normal(2, 2, seed=7), counts=counts)


def test_the_field_attention_is_torchs():
    own = scrambled(hierrec.FieldAttention(DIM, torch.Generator()))
    oracle = nn.MultiheadAttention(DIM, 1, batch_first=True).double()
    with torch.no_grad():
        oracle.in_proj_weight.copy_(own.W_QKV.T)
        oracle.in_proj_bias.copy_(own.b_QKV)
        oracle.out_proj.weight.copy_(own.W_O.T)
        oracle.out_proj.bias.copy_(own.b_O)
    x = normal(4, 3, DIM, seed=5)
    torch.testing.assert_close(own(x), oracle(x, x, x)[0], rtol=0, atol=1e-12)


# What changes in training


def test_the_domain_norm_takes_the_moments_of_its_own_rows():
    """Oracle: torch's BatchNorm1d, one a domain."""
    own = hamur.DomainNorm(3, 2).double()
    oracles = [nn.BatchNorm1d(2).double() for _ in range(3)]
    for seed in range(3):
        x = normal(7, 2, seed=seed).detach()
        found = own(x, [4, 0, 3])
        expected = torch.cat([oracles[0](x[:4]), oracles[2](x[4:])])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    own.eval(), oracles[1].eval()
    torch.testing.assert_close(own(x, [0, 7, 0]), oracles[1](x), rtol=0, atol=1e-12)
    torch.testing.assert_close(own.mean[2], oracles[2].running_mean, rtol=0, atol=1e-12)


def test_the_norm_takes_the_moments_of_all_rows_where_asked():
    model = fresh("hamur", moments="all").double()
    oracle = nn.BatchNorm1d(OWN["hamur"]["hidden"][-1]).double()
    h = normal(7, OWN["hamur"]["hidden"][-1], seed=4).detach()
    own = model.cells[-1].norm
    torch.testing.assert_close(own(h, [4, 0, 3]), oracle(h), rtol=0, atol=1e-12)
    torch.testing.assert_close(own.mean[0], oracle.running_mean, rtol=0, atol=1e-12)


def test_one_row_of_a_domain_trains():
    logits = fresh("hamur").train()(*(part.float() if part.is_floating_point() else part
                                      for part in batch([0, 1, 1])))  # fmt: skip
    assert logits.isfinite().all()


def test_the_sigmoid_gets_steeper_in_training_alone():
    model = fresh("adasparse")
    fields, dense, domain = batch([0, 1, 2])
    for _ in range(2):
        model(fields, dense.float(), domain)
    model.eval()(fields, dense.float(), domain)
    assert float(model.alpha) == 1.5 + 2 * 0.25


def test_a_pruned_neuron_has_no_part_and_a_kept_one_is_as_the_factor_says():
    own = AdaSparseSettings.model_validate(OWN["adasparse"])
    z = normal(50, 2, seed=1).detach(), normal(50, 3, seed=2).detach()
    alpha = torch.tensor(3.0, dtype=torch.float64)
    found = {}
    for factor, threshold in (("binary", 0.45), ("fused", 0.9), ("scaled", 0.9)):
        changed = {"factor": factor, "threshold": threshold}
        pruner = adasparse.Pruner(2, 3, own.model_copy(update=changed), torch.Generator())
        found[factor] = scrambled(pruner)(*z, alpha)
    assert set(found["binary"].unique().tolist()) == {0.0, 1.0}
    # a threshold of 0.9 on twice the sigmoid is one of 0.45 on the sigmoid
    assert torch.equal(found["fused"] > 0, found["binary"] > 0)
    for factor in ("fused", "scaled"):
        kept = found[factor][found[factor] > 0]
        assert kept.min() > 0.9 and kept.max() < 2 and len(kept) < 150
    assert found["fused"].max() > found["scaled"].max()


@pytest.mark.parametrize("sparsity", [(0.0, 0.1), (0.0, 1.0), (0.9, 1.0)])
def test_the_sparsity_penalty_by_hand(sparsity):
    own = {"factor": "binary", "threshold": 0.5, "sparsity": sparsity, "alpha_growth": 0.0}
    model = scrambled(fresh("adasparse", **own))
    model.alpha.fill_(1.0)
    factors = []
    for pruner in model.pruners:
        pruner.register_forward_hook(lambda _, __, pi: factors.append(pi.detach()))
    rows = batch([0, 1, 2, 2])
    model(*rows)
    assert model.auxiliary_loss() is None
    factors.clear()
    model.train()(*rows)
    penalty, middle = model.auxiliary_loss().item(), sum(sparsity) / 2
    shares = [float((pi == 0).double().mean()) for pi in factors]
    each = [
        0.5 * (share - middle) ** 2 if not sparsity[0] <= share <= sparsity[1] else 0.0
        for share in shares
    ]
    assert len(shares) == 3 and 0 < average(shares) < 1
    assert penalty == pytest.approx(average(each))
    assert (penalty == 0) == (sparsity == (0.0, 1.0))
    assert model.auxiliary_loss() is None


def test_centres_follow_the_rows_as_written_out():
    router = adaptdhm.Clustering(3, 2, 0.9, torch.Generator().manual_seed(1)).double()
    x = normal(6, 2, seed=4)
    centres = router.centres.numpy().copy()
    for _ in range(adaptdhm.ROUNDS):
        pulled = np.zeros_like(centres)
        for row in x.detach().numpy():
            powers = np.exp(centres @ row)
            pulled += np.outer(powers / powers.sum(), row)
        centres = 0.9 * centres + 0.1 * pulled
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    chosen = router(x)
    np.testing.assert_allclose(router.centres.numpy(), centres, rtol=0, atol=1e-12)
    assert chosen.tolist() == (x.detach().numpy() @ centres.T).argmax(1).tolist()
    router.eval()(x)
    np.testing.assert_allclose(router.centres.numpy(), centres, rtol=0, atol=1e-12)


def test_a_cluster_without_rows_gets_no_gradient():
    model = scrambled(fresh("adaptdhm"))
    fields, dense, domain = batch([0, 1, 2, 0])
    x, _ = model.rows(fields, dense, domain)
    used = {cluster_of(model, row) for row in x}
    assert 0 < len(used) < 3
    model(fields, dense, domain).sum().backward()
    for part in (*model.layers, model.head):
        assert {k for k, w in enumerate(part.weights) if w.grad is not None} == used


def test_open_gates_leave_a_tower_a_task():
    """EPNet and PPNet with gates of 1 are one function of the same towers."""
    ep, pp = scrambled(fresh("epnet")), scrambled(fresh("ppnet"))
    for unit in (ep.epnet, *pp.ppnet):
        nn.init.zeros_(unit.W_2)
        nn.init.zeros_(unit.b_2)
    pp.load_state_dict(
        {name: value for name, value in ep.state_dict().items() if "epnet" not in name}
        | {name: value for name, value in pp.state_dict().items() if "ppnet" in name},
        strict=False,
    )
    rows = batch([0, 1, 2, 2])
    torch.testing.assert_close(ep(*rows), pp(*rows), rtol=0, atol=1e-12)
