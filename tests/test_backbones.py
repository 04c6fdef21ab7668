"""Backbones and STAR against slow literal loops over their equations, and against torch."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from assignments import CTR_BACKBONES, low_rank
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from domain_experts.models import autoint, dcn, fibinet, xdeepfm
from domain_experts.models.adapter import Hard
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext
from domain_experts.models.interactions import bi_interaction
from domain_experts.models.star import PartitionedNorm, Star, StarLinear
from domain_experts.schema import Schema
from domain_experts.settings import ModelSettings

SETTINGS = ModelSettings(embedding_dim=8, hidden=(256, 128, 64), dropout=0.5, l2=1e-5)
SMALL = ModelSettings(embedding_dim=3, hidden=(5, 4), dropout=0.5, l2=1e-5)
MOVIELENS = Schema((("user", 6041), ("item", 3953), ("domain", 2)), (), ("F", "M"), ("click",))

SIZES = (5, 4, 2, 6)
SCHEMAS = [
    Schema(
        tuple((f"f{j}", SIZES[j]) for j in range(fields)),
        tuple(f"x{k}" for k in range(dense)),
        ("d", "e", "f"),
        tuple(f"t{t}" for t in range(tasks)),
    )
    for fields, dense, tasks in [(3, 0, 1), (4, 3, 2), (2, 3, 1), (1, 1, 2)]
]


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def scrambled(model, scale=0.5, seed=1):
    """The model in float64, evaluating, with no weight at its initial value."""
    generator = stream(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=scale, generator=generator)
    return model.double().eval()


def batch(schema, rows=4, seed=2):
    generator = stream(seed)
    fields = torch.stack([torch.randint(n, (rows,), generator=generator) for n in schema.sizes], 1)
    dense = torch.randn(rows, len(schema.dense), generator=generator, dtype=torch.float64)
    domain = torch.randint(len(schema.domains), (rows,), generator=generator)
    return fields.int(), dense, domain


def numpy(tensor):
    return tensor.detach().numpy()


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def vectors(table, codes, sizes):
    """One vector a field, from the table of all fields."""
    return [table[sum(sizes[:j]) + code] for j, code in enumerate(codes)]


def linear(model, codes, dense):
    weights = vectors(numpy(model.linear.weights.weight), codes, model.schema.sizes)
    return sum(weights) + dense @ numpy(model.linear.dense)


def tower(model, x):
    for layer in model.tower.layers:
        x = relu(x @ numpy(layer.weight) + numpy(layer.bias))
    return x


def attention(layer, e):
    q, k, v, r = np.split(numpy(layer.weight), 4, axis=1)
    width = q.shape[1] // layer.heads
    out = []
    for i in range(len(e)):
        heads = []
        for h in range(layer.heads):
            own = slice(h * width, (h + 1) * width)
            scores = np.array([(e[i] @ q[:, own]) @ (ej @ k[:, own]) for ej in e])
            a = softmax(scores)
            heads.append(sum(a[j] * (e[j] @ v[:, own]) for j in range(len(e))))
        out.append(relu(np.concatenate(heads) + e[i] @ r))
    return out


def senet(layer, e):
    z = np.array([v.mean() for v in e])
    a = relu(relu(z @ numpy(layer.W_1)) @ numpy(layer.W_2))
    return [a[i] * v for i, v in enumerate(e)]


def bilinear(matrices, e):
    chosen = zip(combinations(range(len(e)), 2), numpy(matrices), strict=True)
    return [(e[i] @ w) * e[j] for (i, j), w in chosen]


def cin(layer, e):
    x, pooled, fields = e, [], len(e)
    for number, (weight, b) in enumerate(zip(layer.W, layer.b, strict=True)):
        w = numpy(weight).reshape(fields, len(x), -1)
        maps = []
        for h in range(w.shape[2]):
            total = numpy(b)[h]
            for i in range(fields):
                for j in range(len(x)):
                    total = total + w[i, j, h] * e[i] * x[j]
            maps.append(relu(total))
        half = 0 if number == len(layer.W) - 1 else len(maps) // 2
        pooled += [m.sum() for m in maps[half:]]
        x = maps[:half]
    return np.array(pooled)


def cross(layer, x0):
    x = x0
    for w, b in zip(layer.w, layer.b, strict=True):
        x = x0 * (x @ numpy(w)[:, 0]) + numpy(b) + x
    return x


def literal(backbone, model, codes, dense):
    """Logits (T,) of one row."""
    e = vectors(numpy(model.embedding.weight), codes, model.schema.sizes)
    x0 = np.concatenate([*e, dense])
    couples = list(combinations(e, 2))
    head = numpy(model.head)
    match backbone:
        case "mlp":
            logits = tower(model, x0) @ head
        case "wdl":
            logits = linear(model, codes, dense) + tower(model, x0) @ head
        case "nfm":
            pooled = sum((u * v for u, v in couples), np.zeros(len(e[0])))
            hidden = tower(model, np.concatenate([pooled, dense]))
            logits = linear(model, codes, dense) + hidden @ head
        case "deepfm":
            fm = sum(u @ v for u, v in couples)
            logits = linear(model, codes, dense) + fm + tower(model, x0) @ head
        case "pnn":
            products = [u @ v for u, v in couples]
            logits = tower(model, np.concatenate([*e, products, dense])) @ head
        case "dcn":
            stacked = np.concatenate([cross(model.cross, x0), tower(model, x0)])
            logits = linear(model, codes, dense) + stacked @ head
        case "autoint":
            attended = e
            for layer in model.attention:
                attended = attention(layer, attended)
            stacked = np.concatenate([*attended, tower(model, x0)])
            logits = linear(model, codes, dense) + stacked @ head
        case "fibinet":
            reweighted, raw = model.bilinear.W
            p = bilinear(reweighted, senet(model.senet, e)) + bilinear(raw, e)
            hidden = tower(model, np.concatenate([*p, dense]))
            logits = linear(model, codes, dense) + hidden @ head
        case "xdeepfm":
            explicit = cin(model.cin, e) @ numpy(model.cin_head)
            logits = linear(model, codes, dense) + explicit + tower(model, x0) @ head
        case _:
            raise AssertionError(f"no equation of {backbone}")
    return logits


@pytest.mark.parametrize("schema", SCHEMAS, ids=["F3", "F4-K3-T2", "F2-K3", "F1-K1-T2"])
@pytest.mark.parametrize("backbone", CTR_BACKBONES)
def test_logits_are_the_literal_equation(backbone, schema, monkeypatch):
    monkeypatch.setattr(xdeepfm, "MAPS", (6, 4, 5))
    model = scrambled(build(backbone, CTRContext(schema, SMALL, stream())))
    fields, dense, domain = batch(schema)
    expected = [
        literal(backbone, model, *row) for row in zip(fields.numpy(), dense.numpy(), strict=True)
    ]
    expected = torch.tensor(np.array(expected)) + model.bias
    assert len(torch.unique(expected)) == expected.numel()
    torch.testing.assert_close(model(fields, dense, domain), expected, rtol=0, atol=1e-10)


MODULES = {
    "cin": (lambda: xdeepfm.CIN(3, (4, 3), stream()), (3, 3, 2)),
    "bilinear": (lambda: fibinet.Bilinear(2, 3, 2, stream()), (2, 3, 2, 4)),
    "senet": (lambda: fibinet.SENET(4, stream()), (4, 3, 2)),
    "attention": (lambda: autoint.Interacting(3, 2, 2, stream()), (3, 3, 2)),
}


@pytest.mark.parametrize("name", MODULES)
def test_gradients(name):
    new, shape = MODULES[name]
    module = scrambled(new())
    x = torch.randn(shape, generator=stream(4), dtype=torch.float64)
    if name == "senet":
        # its ReLUs are dead at negative means
        x.abs_()
        for parameter in module.parameters():
            parameter.data.abs_()
    x.requires_grad_()
    outputs = module(x)
    sum(y.sum() for y in outputs).backward()
    assert all(p.grad.abs().max() > 0 for p in module.parameters())
    assert torch.autograd.gradcheck(lambda *_: tuple(module(x)), (x, *module.parameters()))


def test_gradients_of_the_cross_network():
    layer = scrambled(dcn.CrossNet(4, 2, stream()))
    x0 = torch.randn(3, 4, generator=stream(4), dtype=torch.float64, requires_grad=True)
    head = torch.randn(4, 2, generator=stream(5), dtype=torch.float64, requires_grad=True)
    parameters = (x0, head, *layer.parameters())
    assert torch.autograd.gradcheck(lambda *_: layer(x0, head), parameters)


def test_gradient_of_the_bi_interaction():
    e = torch.randn(3, 4, 2, generator=stream(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bi_interaction, e)


def count(module):
    return sum(p.numel() for p in module.parameters())


def dense_layers(*widths):
    return sum(i * o + o for i, o in pairwise(widths))


def by_hand(tower_input, head_input, linear):
    """Embeddings of width 8, linear weights if any, tower, head and bias, at MovieLens-1M sizes."""
    ids = 6041 + 3953 + 2
    return ids * (8 + linear) + dense_layers(tower_input, 256, 128, 64) + head_input + 1


PARAMETERS = {
    "mlp": (24, by_hand(24, 64, 0)),
    "wdl": (24, by_hand(24, 64, 1)),
    "nfm": (8, by_hand(8, 64, 1)),
    # layers of 4 heads of width 8: Q, K, V and R
    "autoint": (24, by_hand(24, 3 * 32 + 64, 1) + 4 * (8 + 32 + 32) * 32),
    "pnn": (24 + 3, by_hand(24 + 3, 64, 0)),
    "deepfm": (24, by_hand(24, 64, 1)),
    # SENET 3 -> 1 -> 3; two bilinear layers of 3 matrices
    "fibinet": (48, by_hand(48, 64, 1) + 3 + 3 + 2 * 3 * 8 * 8),
    # filters over 3 x 3 and 3 x 64 products, biases, output of 64 + 128 maps
    "xdeepfm": (24, by_hand(24, 64, 1) + (9 + 1) * 128 + (192 + 1) * 128 + 192),
    "dcn": (24, by_hand(24, 24 + 64, 1) + 2 * (24 + 24)),
}


@pytest.mark.parametrize("backbone", CTR_BACKBONES)
def test_parameter_counts(backbone):
    tower_input, shared = PARAMETERS[backbone]
    model = build(backbone, CTRContext(MOVIELENS, SETTINGS, stream()))
    assert count(model) == shared
    model.tower.add_expert(low_rank(16, "glorot_uniform"), stream())
    layers = [(tower_input, 256), (256, 128), (128, 64)]
    assert count(model) - shared == sum((i + o) * (o // 16) + o for i, o in layers)


@pytest.mark.parametrize("backbone", CTR_BACKBONES)
def test_an_expert_is_a_low_rank_update_of_the_tower(backbone):
    schema = SCHEMAS[1]
    model = build(backbone, CTRContext(schema, SMALL, stream()))
    for e in range(2):
        model.tower.add_expert(low_rank(2, "glorot_uniform"), stream(e))
    scrambled(model)
    fields, dense, domain = batch(schema)
    routed = model(fields, dense, domain, Hard((1, 0), (1, 3)))
    for expert, rows in ((1, slice(0, 1)), (0, slice(1, 4))):
        merged = build(backbone, CTRContext(schema, SMALL, stream())).double().eval()
        state = {n: p for n, p in model.state_dict().items() if n in merged.state_dict()}
        merged.load_state_dict(state)
        with torch.no_grad():
            for plain, layer in zip(merged.tower.layers, model.tower.layers, strict=True):
                plain.weight += layer.experts.A[expert] @ layer.experts.B[expert]
                plain.bias += layer.experts.c[expert]
        alone = merged(fields[rows], dense[rows], domain[rows])
        torch.testing.assert_close(routed[rows], alone, rtol=0, atol=1e-10)


def star(plan):
    return Star(plan, auxiliary=True)


@pytest.mark.parametrize("backbone", [*CTR_BACKBONES, "star"])
def test_initial_weights_come_from_the_plans_stream_alone(backbone):
    def new(seed):
        plan = CTRContext(SCHEMAS[1], SMALL, stream(seed))
        model = star(plan) if backbone == "star" else build(backbone, plan)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = new(5)
    torch.testing.assert_close(torch.get_rng_state(), before)
    torch.manual_seed(1)
    torch.testing.assert_close(new(5), first, rtol=0, atol=0)
    assert not torch.equal(new(6), first)


def test_cross_weights_are_penalised_and_their_biases_are_not():
    model = build("dcn", CTRContext(MOVIELENS, SETTINGS, stream()))
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in model.penalised()} == {
        *("embedding.weight", "linear.weights.weight", "linear.dense", "cross.w.0", "cross.w.1")
    }


DOMAINS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(domain=DOMAINS, seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_partitioned_norm_is_a_batch_norm_a_domain(domain, seed):
    """Oracle: torch's BatchNorm1d, whose moving variance alone is the unbiased one."""
    generator = stream(seed)
    norm = PartitionedNorm(4, 3).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter, generator=generator)
    x = torch.randn(len(domain), 3, generator=generator, dtype=torch.float64)
    domain = torch.tensor(domain)
    mean, var = norm.mean.normal_(generator=generator), norm.var.add_(0.5)
    mean, var = mean.clone(), var.clone()
    trained = norm(x, domain)
    for d in range(4):
        own = domain == d
        oracle = nn.BatchNorm1d(3, eps=1e-3, momentum=0.01).double()
        oracle.load_state_dict(
            {
                "weight": norm.gamma * norm.domain_gamma[d],
                "bias": norm.beta + norm.domain_beta[d],
                "running_mean": mean[d],
                "running_var": var[d],
                "num_batches_tracked": torch.tensor(0),
            }
        )
        n = int(own.sum())
        if n < 2:
            oracle.eval()
            torch.testing.assert_close(norm.mean[d], mean[d], rtol=0, atol=0)
            torch.testing.assert_close(norm.var[d], var[d], rtol=0, atol=0)
        torch.testing.assert_close(trained[own], oracle(x[own]), rtol=0, atol=1e-10)
        if n > 1:
            biased = 0.99 * var[d] + (oracle.running_var - 0.99 * var[d]) * (n - 1) / n
            torch.testing.assert_close(norm.mean[d], oracle.running_mean, rtol=0, atol=1e-12)
            torch.testing.assert_close(norm.var[d], biased, rtol=0, atol=1e-12)


def star_literal(model, codes, dense, d, rows_of_domain):
    """Logits of one row; `rows_of_domain` are the features that give its domain's moments."""
    x0 = np.concatenate([*vectors(numpy(model.embedding.weight), codes, model.schema.sizes), dense])
    norm = model.norm
    if rows_of_domain is None:
        mean, var = numpy(norm.mean)[d], numpy(norm.var)[d]
    else:
        mean, var = np.mean(rows_of_domain, 0), np.var(rows_of_domain, 0)
    x = numpy(norm.gamma) * numpy(norm.domain_gamma)[d] * (x0 - mean) / np.sqrt(var + 1e-3)
    x = x + numpy(norm.beta) + numpy(norm.domain_beta)[d]
    for layer in model.layers:
        kernel = numpy(layer.weight) * numpy(layer.weights[d])
        x = relu(x @ kernel + numpy(layer.bias) + numpy(layer.biases[d]))
    logits = x @ numpy(model.head) + numpy(model.bias)
    if model.auxiliary is not None:
        net = model.auxiliary
        x = np.concatenate([x0, numpy(net.embedding.weight)[d]])
        logits = logits + relu(x @ numpy(net.W_1) + numpy(net.b_1)) @ numpy(net.W_2)
    return logits


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("auxiliary", [True, False], ids=["auxiliary", "plain"])
# mixed, of one domain, with one row of a domain
@pytest.mark.parametrize("domain", [[2, 0, 2, 0, 0], [1, 1, 1], [0, 2, 2, 0, 1]])
def test_star_is_the_literal_equation(domain, auxiliary, training):
    schema = SCHEMAS[1]
    model = scrambled(Star(CTRContext(schema, SMALL, stream()), auxiliary))
    nn.init.normal_(model.norm.mean, generator=stream(5))
    nn.init.uniform_(model.norm.var, 0.5, 2, generator=stream(5))
    fields, dense, _ = batch(schema, rows=len(domain))
    table = numpy(model.embedding.weight)
    x0 = [
        np.concatenate([*vectors(table, codes, schema.sizes), x])
        for codes, x in zip(fields.numpy(), dense.numpy(), strict=True)
    ]
    expected = []
    for codes, x, d in zip(fields.numpy(), dense.numpy(), domain, strict=True):
        own = [row for row, other in zip(x0, domain, strict=True) if other == d]
        moments = own if training and len(own) > 1 else None
        expected.append(star_literal(model, codes, x, d, moments))
    logits = model.train(training)(fields, dense, torch.tensor(domain))
    torch.testing.assert_close(logits, torch.tensor(np.array(expected)), rtol=0, atol=1e-10)


def test_star_evaluates_a_row_alone_as_in_a_batch():
    model = scrambled(Star(CTRContext(SCHEMAS[1], SMALL, stream()), auxiliary=False))
    rows = batch(SCHEMAS[1], rows=6)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    together = model(*rows)
    alone = torch.cat([model(*(x[i : i + 1] for x in rows)) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)
    assert {"norm.mean", "norm.var"} <= set(state)


def test_star_leaves_the_weights_of_absent_domains_without_gradient():
    model = scrambled(Star(CTRContext(SCHEMAS[1], SMALL, stream()), auxiliary=False)).train()
    fields, dense, _ = batch(SCHEMAS[1])
    model(fields, dense, torch.tensor([0, 2, 2, 0])).sum().backward()
    for layer in model.layers:
        for d in range(3):
            for parameter in (layer.weights[d], layer.biases[d]):
                assert (parameter.grad is None) == (d == 1)


def test_gradients_of_star_layers():
    domain = torch.tensor([0, 1, 0, 2, 1])
    x = torch.randn(5, 3, generator=stream(6), dtype=torch.float64).requires_grad_()
    norm = scrambled(PartitionedNorm(3, 3)).train()
    assert torch.autograd.gradcheck(lambda *_: norm(x, domain), (x, *norm.parameters()))
    layer = scrambled(StarLinear(3, 3, 2, stream()))
    assert torch.autograd.gradcheck(lambda *_: layer(x, [2, 2, 1]), (x, *layer.parameters()))


def test_star_parameter_counts():
    norm = 2 * (1 + 2) * 24
    layers = (1 + 2) * dense_layers(24, 256, 128, 64)
    plain = Star(CTRContext(MOVIELENS, SETTINGS, stream()), auxiliary=False)
    assert count(plain) == 9996 * 8 + norm + layers + 64 + 1
    auxiliary = Star(CTRContext(MOVIELENS, SETTINGS, stream()), auxiliary=True)
    assert count(auxiliary) - count(plain) == 2 * 8 + dense_layers(24 + 8, 64) + 64
    assert auxiliary.dropped() == []
    assert auxiliary.experts == 0
