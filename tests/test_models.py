"""The adapted layer, its routings, and the backbones, against literal formulas and hand counts."""

import numpy as np
import pytest
import torch
from assignments import CTR_BACKBONES, low_rank
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from domain_experts.models.adapter import AdaptedLinear, Hard, Modulation, Tower
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext
from domain_experts.models.dropout import KeyedDropout
from domain_experts.models.init import glorot
from domain_experts.models.low_rank import rank
from domain_experts.models.routers import Gate, OneHot, UniformGate
from domain_experts.schema import Schema
from domain_experts.settings import ModelSettings
from domain_experts.training.adam import Adam
from domain_experts.training.deep import is_expert

SETTINGS = ModelSettings(embedding_dim=8, hidden=(256, 128, 64), dropout=0.5, l2=1e-5)
MOVIELENS = Schema((("user", 6041), ("item", 3953), ("domain", 2)), (), ("F", "M"), ("click",))


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def built(backbone, schema=MOVIELENS):
    return build(backbone, CTRContext(schema, SETTINGS, stream()))


def adapted_layer(experts, d_in=6, d_out=8, r=4, seed=0):
    """A layer in float64 whose experts' B and c are not zero."""
    generator = stream(seed)
    layer = AdaptedLinear(d_in, d_out, KeyedDropout(0.0), "glorot_normal", generator)
    for _ in range(experts):
        layer.add_expert(low_rank(d_out // r, "glorot_uniform"), generator)
    for parameter in [*layer.experts.B, *layer.experts.c, layer.bias]:
        nn.init.normal_(parameter, generator=generator)
    return layer.double()


def literal(layer, x, g):
    """sum_e g[b,e] (x A_e B_e + c_e) + x W + b, as written."""
    y = x @ layer.weight + layer.bias
    own = layer.experts
    for e in range(own.count):
        y = y + g[:, e : e + 1] * (x @ own.A[e] @ own.B[e] + own.c[e])
    return y


@given(rows=st.integers(1, 7), experts=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_gated_sum_in_two_products_is_the_literal_sum(rows, experts, seed):
    layer = adapted_layer(experts, seed=seed)
    x = torch.randn(rows, 6, generator=stream(seed), dtype=torch.float64)
    g = torch.softmax(torch.randn(rows, experts, generator=stream(seed), dtype=torch.float64), 1)
    torch.testing.assert_close(layer(x, g), literal(layer, x, g), rtol=0, atol=1e-12)


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_hard_routing_is_the_one_hot_gate(counts, seed):
    layer = adapted_layer(len(counts), seed=seed)
    expert = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    x = torch.randn(len(expert), 6, generator=stream(seed), dtype=torch.float64)
    g = nn.functional.one_hot(expert, len(counts)).double()
    routed = layer(x, Hard(tuple(range(len(counts))), tuple(counts)))
    torch.testing.assert_close(routed, literal(layer, x, g), rtol=0, atol=1e-12)


@pytest.mark.parametrize("routing", ["none", "hard", "ragged", "gated"])
def test_gradients_of_the_adapted_layer(routing):
    layer = adapted_layer(2, d_in=3, d_out=4)
    g = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    route = {
        "none": None,
        "hard": Hard((0, 1), (2, 2)),
        "ragged": Hard((1, 0), (3, 1)),
        "gated": g,
    }[routing]
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    inputs = (x, *layer.parameters(), *([g] if routing == "gated" else []))
    assert torch.autograd.gradcheck(lambda *_: layer(x, route), inputs)


def test_domains_in_any_order_reach_their_own_expert():
    tower = Tower(6, (8, 4), KeyedDropout(0.0), False, "glorot_normal", stream())
    for e in range(3):
        tower.add_expert(low_rank(2, "glorot_normal"), stream(e))
    for name, parameter in tower.named_parameters():
        if ".B." in name or ".c." in name:
            nn.init.normal_(parameter, generator=stream())
    tower.double()
    domain = torch.tensor([2, 0, 1, 1, 0, 2, 2])
    x = torch.randn(7, 6, dtype=torch.float64)
    routed = tower(x, OneHot(range(3))(domain, x))
    gated = tower(x, nn.functional.one_hot(domain, 3).double())
    torch.testing.assert_close(routed, gated, rtol=0, atol=1e-12)


def test_new_experts_add_nothing():
    model = built("wdl").eval()
    fields = torch.tensor([[1, 2, 0], [3, 4, 1]], dtype=torch.int32)
    batch = (fields, torch.zeros(2, 0), fields[:, 2].long())
    before = model(*batch)
    for e in range(4):
        model.tower.add_expert(low_rank(16, "glorot_normal"), stream(e))
    model.router = Gate(2, 4, 4, stream())
    torch.testing.assert_close(model(*batch), before)


@pytest.mark.parametrize(
    ("backbone", "shared"),
    # embeddings + tower + head + bias (+ one linear weight per id): moe_mlora, MovieLens-1M
    [
        ("mlp", 9996 * 8 + 24 * 256 + 256 + 256 * 128 + 128 + 128 * 64 + 64 + 64 + 1),
        ("wdl", 9996 * 9 + 24 * 256 + 256 + 256 * 128 + 128 + 128 * 64 + 64 + 64 + 1),
    ],
)
def test_parameter_counts(backbone, shared):
    def count(module):
        return sum(p.numel() for p in module.parameters())

    model = built(backbone)
    assert count(model) == shared
    model.tower.add_expert(low_rank(16, "glorot_normal"), stream())
    expert = sum(i * o // 16 + o // 16 * o + o for i, o in [(24, 256), (256, 128), (128, 64)])
    assert count(model) - shared == expert == 8768
    model.router = Gate(2, 2, 4, stream())
    assert count(model.router) == 2 * 4 + 4 * 2 + 2


@pytest.mark.parametrize("backbone", CTR_BACKBONES)
def test_backbones_take_any_fields_dense_features_and_tasks(backbone):
    schema = Schema((("a", 5), ("b", 3)), ("x", "y", "z"), ("d",), ("click", "like"))
    model = built(backbone, schema).eval()
    fields = torch.tensor([[4, 2], [0, 0], [1, 1]], dtype=torch.int32)
    logits = model(fields, torch.ones(3, 3), torch.zeros(3, dtype=torch.int64))
    assert logits.shape == (3, 2)


def test_wide_and_deep_is_the_linear_part_plus_the_mlp():
    wdl = built("wdl").eval()
    mlp = built("mlp").eval()
    mlp.load_state_dict({k: v for k, v in wdl.state_dict().items() if "linear" not in k})
    nn.init.normal_(wdl.linear.weights.weight)
    fields = torch.tensor([[5, 7, 1]], dtype=torch.int32)
    batch = (fields, torch.zeros(1, 0), torch.tensor([1]))
    weights = wdl.linear.weights.weight[:, 0]
    expected = mlp(*batch) + weights[5] + weights[6041 + 7] + weights[6041 + 3953 + 1]
    torch.testing.assert_close(wdl(*batch), expected)


@pytest.mark.parametrize(("width", "alpha", "expected"), [(256, 16, 16), (64, 16, 4), (64, 256, 1)])
def test_rank(width, alpha, expected):
    assert rank(width, alpha) == expected


def test_gate_is_a_softmax_table_of_domains():
    gate = Gate(3, 6, 4, stream())
    table = gate.table()
    torch.testing.assert_close(table.sum(1), torch.ones(3))
    torch.testing.assert_close(gate(torch.tensor([2, 0, 2]), torch.empty(3, 0)), table[[2, 0, 2]])


def test_uniform_gate():
    gate = UniformGate(3, 4)
    torch.testing.assert_close(
        gate(torch.tensor([2, 0]), torch.empty(2, 0)), torch.full((2, 4), 0.25)
    )
    assert gate.table().shape == (3, 4)


@pytest.mark.parametrize("kind", ["glorot_uniform", "glorot_normal"])
def test_glorot_has_its_variance(kind):
    weight = glorot(kind, 400, 600, stream())
    assert weight.std().item() == pytest.approx(np.sqrt(2 / 1000), rel=0.01)
    if kind == "glorot_uniform":
        assert weight.abs().max() <= np.sqrt(6 / 1000)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_dropout_keeps_the_mean_and_its_share(p):
    dropout = KeyedDropout(p)
    dropout.lanes = [(np.random.default_rng(0), 300)]
    y = dropout(torch.ones(300, 400))
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(dropout.eval()(torch.ones(2, 4)), torch.ones(2, 4))


@given(rows=st.lists(st.integers(1, 5), min_size=2, max_size=4), p=st.sampled_from([0.5, 0.3]))
@settings(deadline=None)
def test_lanes_see_the_masks_that_they_would_see_alone(rows, p):
    together, alone = KeyedDropout(p), KeyedDropout(p)
    streams = [np.random.default_rng(i) for i in range(len(rows))]
    for width in (7, 3):
        together.lanes = list(zip(streams, rows, strict=True))
        stacked = together(torch.ones(sum(rows), width)).split(rows)
        own = []
        for i, count in enumerate(rows):
            fresh = np.random.default_rng(i)
            for earlier in (7, 3):
                alone.lanes = [(fresh, count)]
                mask = alone(torch.ones(count, earlier))
                if earlier == width:
                    break
            own.append(mask)
        for a, b in zip(stacked, own, strict=True):
            torch.testing.assert_close(a, b)


class Scaling(Modulation):
    """y_e = y * s_e."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.width, self.s = d_out, nn.ParameterList()

    def append(self, generator):
        self.s.append(nn.Parameter(torch.ones(self.width)))

    def changes(self, expert):
        return bool((self.s[expert] != 1).any())

    def expert(self, e, x, y):
        return y * self.s[e]


@pytest.mark.parametrize("backbone", CTR_BACKBONES)
@pytest.mark.parametrize("routing", ["hard", "equal", "gated"])
def test_any_modulation_trains_on_every_backbone(backbone, routing):
    model = built(backbone)
    for e in range(3):
        model.tower.add_expert(Scaling, stream(e))
    fields = torch.tensor([[1, 2, 0], [3, 4, 1], [5, 1, 1], [2, 2, 0]], dtype=torch.int32)
    batch = (fields, torch.zeros(4, 0), fields[:, 2].long())
    route = {
        "hard": Hard((0, 1), (1, 3)),
        "equal": Hard((0, 1), (2, 2)),
        "gated": torch.tensor([[0.25, 0.75, 0.0]]).repeat(4, 1),
    }[routing]
    plain = model.eval()(*batch)
    torch.testing.assert_close(model(*batch, route), plain)
    assert model.experts == 3
    assert model.experts_moved() == [False] * 3
    own = [p for name, p in model.named_parameters() if is_expert(name)]
    assert len(own) == 3 * len(model.tower.layers)
    optimizer = Adam([(own, 0.0)], 0.1)
    model(*batch, route).square().sum().backward()
    optimizer.step()
    assert model.experts_moved() == [True, True, False]
    assert (model(*batch, route) - plain).abs().max() > 0
    torch.testing.assert_close(model(*batch), plain, rtol=0, atol=0)


@pytest.mark.parametrize("low", [low_rank(2, "glorot_normal"), Scaling])
def test_the_shortcuts_of_a_modulation_are_its_experts_one_by_one(low):
    layer = AdaptedLinear(6, 8, None, "glorot_normal", stream())
    for e in range(3):
        layer.add_expert(low, stream(e))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=stream())
    x = torch.randn(5, 6, generator=stream())
    y, own = layer(x, None), layer.experts
    g = torch.softmax(torch.randn(5, 3, generator=stream()), 1)
    mixed = sum(g[:, e, None] * own.expert(e, x, y) for e in range(3))
    torch.testing.assert_close(layer(x, g), mixed, rtol=1e-4, atol=1e-4)
    hard = torch.cat([own.expert(2, x[:2], y[:2]), own.expert(0, x[2:], y[2:])])
    torch.testing.assert_close(layer(x, Hard((2, 0), (2, 3))), hard, rtol=1e-4, atol=1e-4)
