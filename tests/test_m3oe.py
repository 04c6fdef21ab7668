"""M3oE against its equations, written out for all rows at once and selected by domain."""

import numpy as np
import pytest
import torch
from assignments import params
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.functional import layer_norm

from domain_experts.errors import UserError
from domain_experts.models import star
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.blocks import Towers
from domain_experts.models.multi.m3oe import Model
from domain_experts.schema import Schema

PAPER = params().multi_model
# sizes that all differ, so that none can stand for another
SMALL = {"embedding_dim": 5, "hidden": (14, 6, 6, 7)}
MOVIELENS = Schema(
    (("user", 6040), ("movie", 3706), ("gender", 2), ("occupation", 21), ("zip", 3439),
     ("genre", 18), ("domain", 3)),
    ("age",), ("under 25", "25-34", "35+"), ("click", "like"),
)  # fmt: skip


def schema_of(domains, tasks):
    fields = (("user", 9), ("item", 8), ("domain", domains))
    return Schema(fields, ("age", "hour"), tuple(map(str, range(domains))), ("a", "b", "c")[:tasks])


def plan_of(schema, seed=0, sizes=SMALL, **own):
    m3oe = PAPER.m3oe.model_copy(update=own)
    chosen = PAPER.model_copy(update={**sizes, "m3oe": m3oe})
    return MultiContext(schema, chosen, torch.Generator().manual_seed(seed), fusion_start=1.0)


def scrambled(model, dtype=torch.float64):
    """The model with weights of order one in the place of its initial ones."""
    stream = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=stream, dtype=torch.float64) * 0.5)
    return model.to(dtype)


def batch(schema, rows=23, present=None, dtype=torch.float64):
    """Rows in no order of domains."""
    stream = torch.Generator().manual_seed(1)
    present = list(range(len(schema.domains))) if present is None else present
    domain = torch.tensor(present)[torch.randint(len(present), (rows,), generator=stream)]
    columns = [torch.randint(size, (rows,), generator=stream) for size in schema.sizes[:-1]]
    fields = torch.stack([*columns, domain], 1).int()
    dense = torch.randn(rows, len(schema.dense), generator=stream, dtype=torch.float64)
    return fields, dense.to(dtype), domain


def layer(x, own, e=0):
    y = layer_norm(x @ own.W[e] + own.b[e], own.b[e].shape, own.gamma[e], own.beta[e])
    return torch.relu(y)


def selected(versions, domain):
    """Of D versions (B, ...), that of each row's domain."""
    chosen = versions[0]
    for d, version in enumerate(versions):
        here = (domain == d).view(-1, *[1] * (version.dim() - 1))
        chosen = torch.where(here, version, chosen)
    return chosen


def literal(model, fields, dense, domain, detach=True):
    """Every layer of every domain, gate and tower on all rows, as the released code has it."""
    D, T = len(model.schema.domains), len(model.schema.tasks)
    switches = model.switches
    N = switches.shared_experts
    a_D, a_T, b_D, b_T = (1 / (1 + torch.exp(-model.fusion[k])) for k in model.fusion)

    tables = model.embedding.weight.split(list(model.schema.sizes))
    e = [table[fields[:, j].long()] for j, table in enumerate(tables)]
    x = torch.cat([*e, dense], 1)
    star = model.representation
    f_DR = selected(
        [x @ (star.weights[d] * star.weight) + star.biases[d] + star.bias for d in range(D)],
        domain,
    )
    h = layer(f_DR, model.conversion) + layer(x, model.adaptation)

    def bank(experts, count):
        return [layer(h, experts, n) for n in range(count)]

    E, F, G = bank(model.shared, N), bank(model.by_domain, D), bank(model.by_task, T)

    def against_the_others(experts, i, own):
        if len(experts) == 1:
            return experts[0]
        others = sum(other for j, other in enumerate(experts) if j != i)
        return own * experts[i] + (1 - own) / (len(experts) - 1) * others

    view = h.detach() if detach else h
    logits = []
    for t in range(T):
        heads = []
        for d in range(D):
            D_d = against_the_others(F, d, b_D)
            T_t = against_the_others(G, t, b_T)
            experts = [*E, D_d, T_t] if switches.fusion == "gated" else E
            n = len(experts)
            columns = slice(t * n, (t + 1) * n)
            scores = view @ model.gates.W[d][:, columns] + model.gates.b[d][columns]
            gate = torch.exp(scores) / torch.exp(scores).sum(1, keepdim=True)
            fused = sum(gate[:, k : k + 1] * own for k, own in enumerate(experts))
            if switches.fusion == "concatenated":
                fused = torch.cat([fused, a_D * D_d, a_T * T_t], 1)
            elif switches.fusion == "sum":
                fused = fused + (a_D * D_d if switches.domain_module else 0)
                fused = fused + (a_T * T_t if switches.task_module else 0)
            tower = model.towers
            y = fused @ tower.W[d, t] + tower.b[d, t]
            y = torch.relu(layer_norm(y, y.shape[1:], tower.gamma[d, t], tower.beta[d, t]))
            heads.append(y @ tower.v[d, t] + tower.c[d, t])
        logits.append(selected(heads, domain))
    return torch.stack(logits, 1)


VARIANTS = {
    "sum": {},
    "concatenated": {"fusion": "concatenated"},
    "gated": {"fusion": "gated"},
    "without-domain": {"domain_module": False},
    "without-task": {"task_module": False},
    "without-both": {"domain_module": False, "task_module": False},
}


@pytest.mark.parametrize("present", [None, [0, 2], [1]], ids=["all", "one-absent", "one-present"])
@pytest.mark.parametrize("experts", [1, 4])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_logits_are_the_literal_equations(variant, experts, present):
    schema = schema_of(3, 2)
    for dtype, error in ((torch.float64, 1e-10), (torch.float32, 1e-6)):
        model = scrambled(Model(plan_of(schema, shared_experts=experts, **variant)), dtype)
        rows = batch(schema, present=present, dtype=dtype)
        found, expected = model(*rows), literal(model, *rows)
        assert expected.std() > 0.1
        scale = expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=0, atol=error * max(1, scale))


@pytest.mark.parametrize("fusion", ["sum", "concatenated", "gated"])
@pytest.mark.parametrize(("domains", "tasks"), [(1, 1), (1, 2), (3, 1), (4, 3)])
def test_logits_for_other_numbers_of_domains_and_tasks(domains, tasks, fusion):
    schema = schema_of(domains, tasks)
    model = scrambled(Model(plan_of(schema, shared_experts=2, fusion=fusion)))
    rows = batch(schema)
    torch.testing.assert_close(model(*rows), literal(model, *rows), rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_gradients_are_those_of_the_literal_equations(variant):
    """With the gates' input held fixed: none flows through it."""
    schema = schema_of(3, 2)
    model = scrambled(Model(plan_of(schema, shared_experts=4, **variant)))
    rows = batch(schema, present=[0, 2])
    weights = dict(model.named_parameters())
    towards = torch.randn(23, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def gradients(logits):
        loss = (logits * towards).sum()
        found = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        return dict(zip(weights, found, strict=True))

    found, expected = gradients(model(*rows)), gradients(literal(model, *rows))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-9, msg=name)
    through = gradients(literal(model, *rows, detach=False))
    for name in ("conversion.W", "adaptation.W", "embedding.weight"):
        assert (through[name] - found[name]).abs().max() > 1e-3, name
    # domain 1 is absent, and its own weights get none; the shared modules' weights do
    for part in ("towers.W", "towers.v", "gates.W"):
        assert not found[part][1].any(), part
        assert found[part][0].any(), part
    assert not found["representation.weights.1"].any()


def test_fusion_gradcheck():
    schema = schema_of(3, 2)
    model = scrambled(Model(plan_of(schema, shared_experts=2)))
    with torch.no_grad():
        # gates that see nothing of h, whose gradient would not flow through them anyway
        model.gates.W.zero_()
    names = [n for n, _ in model.named_parameters() if n.split(".")[0] in ("fusion", "by_domain")]
    names += ["gates.b", "shared.W", "by_task.W"]
    weights = dict(model.named_parameters())

    class Fusion(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model.outputs(x, [2, 0, 3])["fused"]

    fusion = Fusion()

    def of(x, *values):
        named = {f"model.{n}": v for n, v in zip(names, values, strict=True)}
        return functional_call(fusion, named, (x,))

    x = torch.randn(5, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    inputs = [x.requires_grad_(), *(weights[n].detach().clone().requires_grad_() for n in names)]
    assert torch.autograd.gradcheck(of, inputs)


@given(st.permutations(range(23)), st.integers(1, 22))
@settings(max_examples=20, deadline=None)
def test_a_rows_logits_depend_on_no_other_row(order, cut):
    schema = schema_of(3, 2)
    model = scrambled(Model(plan_of(schema)))
    fields, dense, domain = batch(schema)
    whole = model(fields, dense, domain)
    some = torch.tensor(order[:cut])
    found = model(fields[some], dense[some], domain[some])
    torch.testing.assert_close(found, whole[some], rtol=0, atol=1e-12)


# Parameters and initial weights


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_on_movielens_1m():
    for experts, expected in ((4, 788_146), (1, 733_792)):
        assert count(Model(plan_of(MOVIELENS, sizes={}, shared_experts=experts))) == expected


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(("D", "T", "N"), [(1, 1, 1), (3, 2, 4), (5, 3, 2)])
def test_parameters_by_hand(D, T, N, variant):
    schema = schema_of(D, T)
    dim, bottom, width, last = 5, 14, 6, 7
    x = 3 * dim + 2
    seen = N + (2 if variant.get("fusion") == "gated" else 0)
    joined = 3 * last if variant.get("fusion") == "concatenated" else last
    expected = (
        (9 + 8 + D) * dim
        + (1 + D) * (x * bottom + bottom)
        + (bottom * width + width + 2 * width) + (x * width + width + 2 * width)
        + (N + D + T) * (width * last + last + 2 * last)
        + D * T * (width * seen + seen)
        + D * T * (joined * last + last + 2 * last + last + 1)
        + 4
    )  # fmt: skip
    assert count(Model(plan_of(schema, shared_experts=N, **variant))) == expected


def test_initial_weights_are_the_released_ones():
    model = Model(plan_of(MOVIELENS, sizes={}))
    assert model.embedding.weight.std().item() == pytest.approx(1e-4, rel=0.01)
    xavier = (6 / (113 + 512)) ** 0.5
    for kernel in (model.representation.weight, *model.representation.weights):
        assert 0.99 * xavier < kernel.abs().max().item() <= xavier
    assert not any(b.any() for b in (model.representation.bias, *model.representation.biases))
    for own, fan_in in ((model.conversion, 512), (model.adaptation, 113), (model.shared, 256)):
        assert 0.98 * fan_in**-0.5 < own.W.abs().max().item() <= fan_in**-0.5
        assert (own.gamma == 1).all()
        assert not own.beta.any()
    for scalar in model.scalars().values():
        assert scalar.sigmoid().item() == pytest.approx(0.7311, abs=1e-4)
    assert list(model.scalars()) == ["a_D", "a_T", "b_D", "b_T"]
    assert len(model.penalised()) == len(list(model.parameters()))


def test_initial_weights_come_from_the_plans_stream_alone():
    def new(seed):
        model = Model(plan_of(schema_of(3, 2), seed))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = new(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(new(5), first)
    assert not torch.equal(new(6), first)


# BatchNorm in the towers


def test_batch_norm_is_torchs_on_the_towers_own_rows():
    D, T, d_in, hidden = 3, 2, 4, 5
    towers = scrambled(Towers(D, T, d_in, hidden, torch.Generator(), batch_norm=True))
    peers = {}
    for d in range(D):
        for t in range(T):
            norm = peers[d, t] = nn.BatchNorm1d(hidden).double()
            with torch.no_grad():
                norm.weight.copy_(towers.gamma[d, t])
                norm.bias.copy_(towers.beta[d, t])
    stream = torch.Generator().manual_seed(2)

    def logits_of(x, counts):
        parts = []
        for d, rows in enumerate(x.split(counts)):
            columns = []
            for t in range(T):
                norm = peers[d, t]
                y = rows[:, t] @ towers.W[d, t] + towers.b[d, t]
                norm.train(towers.training and len(rows) > 1)
                columns.append(torch.relu(norm(y)) @ towers.v[d, t] + towers.c[d, t])
            parts.append(torch.stack(columns, 1))
        return torch.cat(parts)

    # domains of one row or none have no variance: they keep their running moments
    for counts in ([4, 7, 3], [2, 0, 5], [3, 1, 6], [5, 2, 2]):
        x = torch.randn(sum(counts), T, d_in, generator=stream, dtype=torch.float64)
        found, expected = towers(x, counts), logits_of(x, counts)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        for (d, t), norm in peers.items():
            own = slice(t * hidden, (t + 1) * hidden)
            torch.testing.assert_close(towers.mean[d, own], norm.running_mean, rtol=0, atol=1e-12)
            torch.testing.assert_close(towers.var[d, own], norm.running_var, rtol=0, atol=1e-12)
    towers.eval()
    before = towers.mean.clone()
    x = torch.randn(9, T, d_in, generator=stream, dtype=torch.float64)
    found = towers(x, [2, 3, 4])
    torch.testing.assert_close(found, logits_of(x, [2, 3, 4]), rtol=0, atol=1e-12)
    # of a row in evaluation, the others say nothing
    torch.testing.assert_close(towers(x[3:4], [0, 1, 0]), found[3:4], rtol=0, atol=1e-12)
    assert torch.equal(towers.mean, before)


def test_the_switch_puts_batch_norm_into_the_towers():
    schema = schema_of(3, 2)
    layered, batched = (Model(plan_of(schema, tower_norm=norm)) for norm in ("layer", "batch"))
    assert set(batched.state_dict()) - set(layered.state_dict()) == {"towers.mean", "towers.var"}
    assert count(batched) == count(layered)
    rows = batch(schema, dtype=torch.float32)
    batched(*rows)
    assert np.all(batched.state_dict()["towers.mean"].abs().sum(1).numpy() > 0)


@pytest.mark.parametrize("model", [Model, star.Model])
def test_a_width_that_no_layer_would_have_is_refused(model):
    plan = plan_of(schema_of(3, 2), sizes=SMALL | {"hidden": (14, 6, 9, 7)})
    with pytest.raises(UserError, match=r"hidden is \[14, 6, 9, 7\].*must be one, not 6 and 9"):
        model(plan)
