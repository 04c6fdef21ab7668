"""M2M, HiNet, PEPNet and AutoIFS against their equations, one row at a time."""

from functools import partial
from importlib import import_module

import pytest
import torch
from assignments import params, train
from hypothesis import given, settings
from hypothesis import strategies as st
from test_multi_family import assert_drawn_from_own_stream
from torch import nn
from torch.autograd import gradcheck

from domain_experts.errors import UserError
from domain_experts.models.multi import hinet, m2m, pepnet
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.settings import MultiModelSettings
from domain_experts.schema import Schema
from domain_experts.training.loop import Trainer
from domain_experts.training.multi.autoifs import AutoIFSTrainer, SearchAdam

FIELDS = (("genre", 3), ("user", 6), ("item", 5))
SIZES = [size for _, size in FIELDS]
SHAPES = [(3, 2), (1, 2), (3, 1), (1, 1)]
DIM, WIDTH = 4, 5
INPUTS = 3 * DIM + 1
OWN = {
    "m2m": {
        **{"experts": 3, "encoder_layers": 2, "heads": 2, "feedforward": 3},
        **{"scenario_dim": 3, "unit_layers": 2, "tower_layers": 2},
    },
    "hinet": {"sub_experts": 3, "sub_expert_hidden": 4, "task_experts": 2, "shared_experts": 3},
    "pepnet": {"hidden": [6, 4], "gate_hidden": 3},
    "autoifs": {
        **{"hidden": [6, 5], "domain_width": 4, "rank": 2, "search_epochs": 4, "rewind": 2},
        **{"temperature": 100, "batch_size": 64, "learning_rate": 0.01, "gate_rate": 0.5},
        **{"weight_decay": 0.001},
        **{"retrain_learning_rate": 0.02, "retrain_weight_decay": 0.002},
    },
}
MODELS = tuple(OWN)


def fresh(name, domains=3, tasks=2, seed=0):
    schema = Schema(
        FIELDS,
        ("age",),
        tuple(f"d{d}" for d in range(domains)),
        tuple(f"t{t}" for t in range(tasks)),
    )
    values = params().multi_model.model_dump() | OWN
    values |= {"embedding_dim": DIM, "hidden": (7, 6, 6, WIDTH)}
    sizes = MultiModelSettings.model_validate(values)
    plan = MultiContext(schema, sizes, torch.Generator().manual_seed(seed))
    return import_module(f"domain_experts.models.multi.{name}").Model(plan)


def scrambled(module, seed=1):
    """The module in float64, with no weight at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in (*module.parameters(), *module.buffers()):
        if parameter.is_floating_point():
            nn.init.normal_(parameter, std=0.6, generator=generator)
    return module.double()


def batch(domain, seed=2):
    generator = torch.Generator().manual_seed(seed)
    fields = torch.stack([torch.randint(n, (len(domain),), generator=generator) for n in SIZES], 1)
    dense = torch.randn(len(domain), 1, generator=generator, dtype=torch.float64)
    return fields.int(), dense, torch.tensor(domain)


# The equations of one row, with loops over fields, experts, tasks and heads.


def norm(y):
    y = y - y.mean()
    return y / (y.square().mean() + 1e-5).sqrt()


def layer(part, e, x):
    return (norm(x @ part.W[e] + part.b[e]) * part.gamma[e] + part.beta[e]).clamp(min=0)


def network(parts, e, x):
    for part in parts:
        x = layer(part, e, x)
    return x


def weights(scores):
    powers = [torch.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def mean(scores, vectors):
    return sum(g * y for g, y in zip(weights(scores), vectors, strict=True))


def leaky(x):
    return torch.where(x > 0, x, 0.01 * x)


def lookup(table, codes):
    return [table[sum(SIZES[:j]) + int(code)] for j, code in enumerate(codes)]


def encoded(part, e):
    d = DIM // part.heads
    q, k, v = ([x @ W + b for x in e] for W, b in zip(
        part.W_QKV.split(DIM, 1), part.b_QKV.split(DIM), strict=True
    ))  # fmt: skip
    out = []
    for i in range(len(e)):
        heads = []
        for h in range(part.heads):
            own = slice(h * d, (h + 1) * d)
            scores = [q[i][own] @ k[j][own] / d**0.5 for j in range(len(e))]
            heads.append(mean(scores, [v[j][own] for j in range(len(e))]))
        z = norm(e[i] + torch.cat(heads) @ part.W_O + part.b_O)
        z = z * part.norm_1.weight + part.norm_1.bias
        inner = (z @ part.W_1 + part.b_1).clamp(min=0)
        y = norm(z + inner @ part.W_2 + part.b_2)
        out.append(y * part.norm_2.weight + part.norm_2.bias)
    return out


def meta(unit, s, h):
    for V, v in zip(unit.V, unit.v, strict=True):
        made = s @ V + v
        n = len(h)
        W, b = made[: n * n].reshape(n, n), made[n * n :]
        h = leaky(h @ W + b)
    return h


def of_m2m(model, codes, dense, d, tasks):
    e = lookup(model.embedding.weight, codes)
    for part in model.encoder:
        e = encoded(part, e)
    F = torch.cat([*e, dense])
    E = [network(model.expert_views, i, F) for i in range(OWN["m2m"]["experts"])]
    S = layer(model.scenario_view, 0, model.scenarios[d])
    logits = []
    for t in range(tasks):
        T = layer(model.task_view, 0, model.tasks[t])
        L = mean([model.v @ meta(model.attention, S, torch.cat([x, T])) for x in E], E)
        for unit in model.tower:
            L = leaky(meta(unit, S, L) + L)
        logits.append(model.w[t] @ L + model.c[t])
    return logits


def of_hinet(model, codes, dense, d, tasks):
    x = torch.cat([*lookup(model.embedding.weight, codes), dense])
    domains, K = len(model.schema.domains), OWN["hinet"]["sub_experts"]

    def sei(m):
        scores = x @ model.integration.W[m] + model.integration.b[m]
        return mean(scores, [network(model.sub_experts.experts, m * K + k, x) for k in range(K)])

    parts = [sei(0), sei(1 + d)]
    if domains > 1:
        part, others = model.attention, [m for m in range(domains) if m != d]
        scores = part.embedding[d] @ part.W + part.b
        parts.append(mean([scores[m] for m in others], [sei(1 + m) for m in others]))
    C, k = torch.cat(parts), OWN["hinet"]["task_experts"]
    shared = range(OWN["hinet"]["shared_experts"])
    logits = []
    for t in range(tasks):
        experts = [network(model.task_experts.experts, t * k + i, C) for i in range(k)]
        experts += [network(model.shared_experts.experts, i, C) for i in shared]
        H = mean(C @ model.gates.W[t] + model.gates.b[t], experts)
        tower = model.towers
        y = norm(H @ tower.W[0, t] + tower.b[0, t]) * tower.gamma[0, t] + tower.beta[0, t]
        logits.append(tower.v[0, t] @ y.clamp(min=0) + tower.c[0, t])
    return logits


def gate(unit, z):
    inner = (z @ unit.W_1 + unit.b_1).clamp(min=0)
    return 2 / (1 + torch.exp(-(inner @ unit.W_2 + unit.b_2)))


def of_pepnet(model, codes, dense, d, tasks):
    _, user, item = e = lookup(model.embedding.weight, codes)
    x = torch.cat([*e, dense])
    gated = gate(model.epnet, torch.cat([model.domains[d], x.detach()])) * x
    known = torch.cat([user, item, gated.detach()])
    logits = []
    for t in range(tasks):
        H = gated
        for part, unit in zip(model.towers, model.ppnet, strict=True):
            H = layer(part, t, H)
            H = gate(unit, known)[t * len(H) : (t + 1) * len(H)] * H
        logits.append(model.v[t] @ H + model.c[t])
    return logits


def perceptron(part, h):
    for W, b in zip(part.W, part.b, strict=True):
        h = (h @ W + b).clamp(min=0)
    return h


def of_autoifs(model, codes, dense, d, tasks):
    h = perceptron(model.mlp, torch.cat([*lookup(model.embedding.weight, codes), dense]))
    own, task = model.by_domain, model.by_task
    u_S = h @ model.W + model.b
    u_d = h @ own.A[d] @ own.B[d] + own.c[d]
    u = (u_S + u_d).clamp(min=0)
    table = model.gate_table if model.hard else model.embedding.weight.detach()
    scores = perceptron(model.gate_mlp, torch.cat([*lookup(table, codes), dense]))
    scores = scores @ model.gate_W + model.gate_b
    logits = []
    for t in range(tasks):

        def of_all(h):
            return (h @ model.w + model.e)[0]

        def of_task(h, t=t):
            return (h @ task.A[t] @ task.B[t] + task.c[t])[0]

        logit = of_all(u) + of_task(u)
        for k, flow in enumerate((of_all(u_S), of_task(u_d), of_task(u_S), of_all(u_d))):
            score = scores[k * tasks + t]
            soft = 1 / (1 + torch.exp(-model.temperature * score))
            logit = logit - ((1.0 if score > 0 else 0.0) if model.hard else soft) * flow
        logits.append(logit)
    return logits


LITERAL = {"m2m": of_m2m, "hinet": of_hinet, "pepnet": of_pepnet, "autoifs": of_autoifs}


def literal(name, model, fields, dense, domain):
    tasks = len(model.schema.tasks)
    rows = zip(fields, dense, domain.tolist(), strict=True)
    return torch.stack([torch.stack(LITERAL[name](model, *row, tasks)) for row in rows])


def gradients(model, logits):
    coefficients = torch.randn(
        logits.shape, generator=torch.Generator().manual_seed(3), dtype=logits.dtype
    )
    return torch.autograd.grad(
        (logits * coefficients).sum(),
        list(model.parameters()),
        allow_unused=True,
        materialize_grads=True,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"D{s[0]}T{s[1]}")
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_are_those_of_the_literal_equation(name, shape):
    model = scrambled(fresh(name, *shape))
    domains = [2, 0, 2, 1, 0] if shape[0] == 3 else [0, 0, 0]
    for rows in (batch(domains), batch([d for d in domains if d != 1])):
        logits, expected = model(*rows), literal(name, model, *rows)
        assert len(torch.unique(expected)) > 1
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
        pairs = zip(gradients(model, logits), gradients(model, expected), strict=True)
        for found, own in pairs:
            torch.testing.assert_close(found, own, rtol=1e-8, atol=1e-9)


DOMAINS = st.lists(st.integers(0, 2), min_size=2, max_size=10)


@pytest.mark.parametrize("name", MODELS)
@given(domain=DOMAINS, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_a_row_is_alone_in_its_batch(name, domain, seed):
    model = scrambled(fresh(name), seed)
    rows = batch(domain, seed)
    together = model(*rows)
    order = torch.randperm(len(domain), generator=torch.Generator().manual_seed(seed))
    permuted = model(*(x[order] for x in rows))
    torch.testing.assert_close(permuted, together[order], rtol=0, atol=1e-10)
    for i in range(len(domain)):
        alone = model(*(x[i : i + 1] for x in rows))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-10)


OF_A_DOMAIN = {
    "m2m": ["scenarios"],
    # its experts serve the other scenarios
    "hinet": ["attention.embedding"],
    "pepnet": ["domains"],
    "autoifs": ["by_domain.A", "by_domain.B", "by_domain.c"],
}


@pytest.mark.parametrize("name", MODELS)
def test_an_absent_domain_gets_no_gradient(name):
    model = scrambled(fresh(name))
    model(*batch([2, 0, 2, 0])).sum().backward()
    own = dict(model.named_parameters())
    for key in OF_A_DOMAIN[name]:
        used = [own[key].grad[d].abs().max() > 0 for d in range(3)]
        assert used == [True, False, True], key


def dense_layer(i, o):
    return i * o + o


def normed(i, o):
    return i * o + 3 * o


def by_hand(name, D, T):
    embeddings = sum(SIZES) * DIM
    match name:
        case "m2m":
            encoder = dense_layer(DIM, 3 * DIM) + dense_layer(DIM, DIM) + dense_layer(DIM, 3)
            encoder += dense_layer(3, DIM) + 4 * DIM
            views = (
                3 * normed(INPUTS, WIDTH) + T * DIM + normed(DIM, WIDTH) + D * DIM + normed(DIM, 3)
            )
            # scenario vectors of width 3 generate two layers of each unit
            attention = 2 * (3 + 1) * dense_layer(10, 10) + 10
            tower = 2 * 2 * (3 + 1) * dense_layer(5, 5)
            return embeddings + 2 * encoder + views + attention + tower + T * (WIDTH + 1)
        case "hinet":
            sub = (D + 1) * 3 * (normed(INPUTS, 4) + normed(4, WIDTH) + INPUTS + 1)
            attention = D * DIM + dense_layer(DIM, D) if D > 1 else 0
            C = (3 if D > 1 else 2) * WIDTH
            cgc = (2 * T + 3) * normed(C, WIDTH) + T * dense_layer(C, 2 + 3)
            return embeddings + sub + attention + cgc + T * (normed(WIDTH, WIDTH) + WIDTH + 1)
        case "pepnet":
            epnet = dense_layer(DIM + INPUTS, 3) + dense_layer(3, INPUTS)
            towers = T * (normed(INPUTS, 6) + normed(6, 4) + 4 + 1)
            ppnet = (
                2 * dense_layer(2 * DIM + INPUTS, 3) + dense_layer(3, T * 6) + dense_layer(3, T * 4)
            )
            return embeddings + D * DIM + epnet + towers + ppnet
        case "autoifs":
            mlp = dense_layer(INPUTS, 6) + dense_layer(6, 5)
            domain = dense_layer(5, 4) + D * (5 * 2 + 2 * 4 + 4)
            task = dense_layer(4, 1) + T * (4 * 2 + 2 * 1 + 1)
            return embeddings + 2 * mlp + domain + task + dense_layer(5, 4 * T)
        case _:
            raise AssertionError(name)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"D{s[0]}T{s[1]}")
@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts(name, shape):
    assert sum(p.numel() for p in fresh(name, *shape).parameters()) == by_hand(name, *shape)


def test_initial_weights_of_autoifs_come_from_the_plans_stream_alone():
    assert_drawn_from_own_stream(partial(fresh, "autoifs"))


def normal(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def test_the_encoder_layer_is_torchs():
    own = scrambled(m2m.EncoderLayer(DIM, 2, 3, torch.Generator()))
    oracle = nn.TransformerEncoderLayer(DIM, 2, 3, dropout=0.0, batch_first=True).double()
    with torch.no_grad():
        for to, value in [
            (oracle.self_attn.in_proj_weight, own.W_QKV.T),
            (oracle.self_attn.in_proj_bias, own.b_QKV),
            (oracle.self_attn.out_proj.weight, own.W_O.T),
            (oracle.self_attn.out_proj.bias, own.b_O),
            (oracle.linear1.weight, own.W_1.T),
            (oracle.linear1.bias, own.b_1),
            (oracle.linear2.weight, own.W_2.T),
            (oracle.linear2.bias, own.b_2),
        ]:
            to.copy_(value)
    oracle.norm1.load_state_dict(own.norm_1.state_dict())
    oracle.norm2.load_state_dict(own.norm_2.state_dict())
    x = normal(4, 3, DIM, seed=5)
    torch.testing.assert_close(own(x), oracle(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("counts", [[1, 2], [0, 3]])
def test_gradients_of_the_meta_unit(counts):
    unit = scrambled(m2m.MetaUnit(2, 3, 2, torch.Generator()))
    h, S = normal(3, 2, 3, seed=6), normal(2, 2, seed=7)
    assert gradcheck(lambda h, S, *_: unit(h, S, counts), (h, S, *unit.parameters()))


def test_gradients_of_the_gate_unit():
    unit = scrambled(pepnet.GateUnit(4, 3, 2, torch.Generator()))
    z = normal(3, 4, seed=8)
    assert gradcheck(lambda z, *_: unit(z), (z, *unit.parameters()))


def test_gradients_of_the_attention_to_other_scenarios():
    part = scrambled(hinet.OtherScenarios(3, 2, torch.Generator()))
    table = part()
    assert torch.equal(table.diagonal(), torch.zeros(3))
    torch.testing.assert_close(table.sum(1), torch.ones(3, dtype=torch.float64))
    assert gradcheck(lambda *_: part(), tuple(part.parameters()))


def test_a_pepnet_of_open_gates_is_a_tower_a_task():
    model = scrambled(fresh("pepnet"))
    for unit in (model.epnet, *model.ppnet):
        nn.init.zeros_(unit.W_2)
        nn.init.zeros_(unit.b_2)
    fields, dense, domain = batch([0, 1, 2, 2])
    hidden, (order, counts) = model.rows(fields, dense, domain)
    assert counts == [1, 1, 2]
    for part in model.towers:
        hidden = part(hidden)
    plain = torch.empty(4, 2, dtype=torch.float64)
    plain[order] = (hidden * model.v).sum(2) + model.c
    torch.testing.assert_close(model(fields, dense, domain), plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("missing", ["user", "item"])
def test_pepnet_needs_users_and_items(missing):
    fields = tuple(field for field in FIELDS if field[0] != missing)
    schema = Schema(fields, (), ("d",), ("t",))
    with pytest.raises(
        UserError, match=f"field '{missing}', and the data set has .*; leave pepnet"
    ):
        pepnet.Model(MultiContext(schema, params().multi_model, torch.Generator()))


@pytest.mark.parametrize("key", ["rewind", "heads"])
def test_settings_that_do_not_fit_are_refused(key):
    values = params().multi_model.model_dump()
    part = "autoifs" if key == "rewind" else "m2m"
    values[part][key] = values["autoifs"]["search_epochs"] + 1
    with pytest.raises(ValueError, match=f"{key}.* 11"):
        MultiModelSettings.model_validate(values)


# AutoIFS: the gates


def test_hard_gates_are_the_limit_of_soft_ones():
    model = scrambled(fresh("autoifs"))
    rows = batch([0, 1, 2, 2, 0])
    model.gate_table.copy_(model.embedding.weight.detach())
    model.temperature = 1e6
    soft = model(*rows)
    model.hard = True
    torch.testing.assert_close(model(*rows), soft, rtol=0, atol=1e-10)
    assert set(model.gates(*rows[:2]).unique().tolist()) == {0.0, 1.0}


def test_hard_gates_do_not_follow_the_embeddings():
    model = scrambled(fresh("autoifs"))
    fields, dense, _ = batch([0, 1, 2, 2, 0])
    soft, model.hard = model.gates(fields, dense), True
    hard = model.gates(fields, dense)
    scrambled(model.embedding, seed=9)
    assert torch.equal(model.gates(fields, dense), hard)
    model.hard = False
    assert not torch.allclose(model.gates(fields, dense), soft)


def test_the_search_has_two_step_sizes():
    """Oracle: torch's Adam with two groups."""
    weights = [normal(3, 2, seed=1).detach().float(), normal(4, seed=2).detach().float()]
    (w, g), (w2, g2) = ([nn.Parameter(x.clone()) for x in weights] for _ in range(2))
    own = SearchAdam([w], 0.1, 0.03, [g], 0.002)
    groups = [{"params": [w2], "lr": 0.03, "weight_decay": 0.1}, {"params": [g2], "lr": 0.002}]
    oracle = torch.optim.Adam(groups, fused=True)
    for _ in range(4):
        for optimizer, (a, b) in ((own, (w, g)), (oracle, (w2, g2))):
            optimizer.zero_grad()
            ((a.sin().sum() * b.cos().sum()) ** 2).backward()
            optimizer.step()
    torch.testing.assert_close((w, g), (w2, g2))
    assert own.state.keys() == {w, g}


@pytest.fixture
def search(make_assignment, multi_interactions):
    """Maker of tasks of AutoIFS in small."""

    def new():
        changed = {f"multi_model.autoifs.{key}": value for key, value in OWN["autoifs"].items()}
        return make_assignment("autoifs", data=multi_interactions, **changed)

    return new


def test_the_search_ends_with_its_gates_and_earlier_weights(search, monkeypatch):
    states, temperatures, rates = {}, [], {}
    select, epoch = Trainer._select, AutoIFSTrainer._interval

    def spy(self, leg, number, *args):
        state = {name: value.clone() for name, value in self.model.state_dict().items()}
        states[leg, number] = state
        select(self, leg, number, *args)

    def watch(self, leg, *args):
        losses = epoch(self, leg, *args)
        if leg == "search":
            temperatures.append(self.model.temperature)
        rates[leg] = self._optimizer.learning_rate
        return losses

    monkeypatch.setattr(Trainer, "_select", spy)
    monkeypatch.setattr(AutoIFSTrainer, "_interval", watch)
    assignment = search()
    outcome = train(assignment)
    own = assignment.run.settings.multi_model.autoifs
    assert temperatures == pytest.approx([1, 100 ** (1 / 3), 100 ** (2 / 3), 100])
    assert rates == {"search": own.learning_rate, "retrain": own.retrain_learning_rate}
    early, late, start = states["search", 2], states["search", 4], states["retrain", 0]
    for name, value in start.items():
        expected = (late if name.startswith("gate_") else early)[name]
        if name == "gate_table":
            expected = late["embedding.weight"]
        torch.testing.assert_close(value, expected, rtol=0, atol=0, msg=name)
    assert not torch.equal(early["gate_W"], late["gate_W"])
    assert not torch.equal(early["embedding.weight"], late["embedding.weight"])
    for name, value in states["retrain", 1].items():
        assert torch.equal(value, start[name]) == name.startswith("gate_"), name
    search_curve = [point for point in outcome.curve if point["phase"] == "search"]
    assert [point["best"] for point in search_curve] == [False, False, True, False, False]
    best = max(
        (point for point in outcome.curve if point["phase"] == "retrain"),
        key=lambda point: (point["best"], point["epoch"]),
    )
    for name, value in states["retrain", best["epoch"]].items():
        torch.testing.assert_close(torch.from_numpy(outcome.state[name]), value, msg=name)


def test_autoifs_has_batches_of_its_own(make_assignment, multi_interactions):
    def state(own, others):
        changed = {"multi_model.autoifs.batch_size": own, "training.batch_size": others}
        return train(make_assignment("autoifs", data=multi_interactions, **changed)).state

    few, many, same = state(64, 64), state(16, 64), state(64, 16)
    assert all((few[name] == value).all() for name, value in same.items())
    assert any((few[name] != value).any() for name, value in many.items())


def test_autoifs_is_the_same_twice(search):
    first, second = train(search()), train(search())
    assert first.curve == second.curve
    assert all((first.state[name] == value).all() for name, value in second.state.items())
