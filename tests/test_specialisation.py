"""Ways to specialise experts: losses, noise, subspaces, shared experts and stages, each literal."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from assignments import finished, low_rank, params, small_data, study, study_of, train
from hypothesis import given
from hypothesis import strategies as st
from served import Trained
from test_gates import DIM, DOMAINS, EXPERTS, WIDTH, batch, gate_of, stream
from test_resume import goes_on_from_any_epoch
from torch import nn

from domain_experts.errors import UserError
from domain_experts.models.adapter import PLAIN, AdaptedLinear, Hard, Owned, Tower, overlap
from domain_experts.models.dropout import KeyedDropout
from domain_experts.params import Params
from domain_experts.serving.rebuild import rebuild
from domain_experts.study import Study
from domain_experts.training.assignment import Upstream
from domain_experts.training.deep import is_expert, is_shared, rows_of_experts
from domain_experts.training.loop import Trainer
from domain_experts.training.staged import RELEVANT, relevant

ON = {
    "gate.variance": 0.5,
    "gate.noise": True,
    "adapter.shared_experts": 1,
    "adapter.own_subspace": 2,
    "adapter.orthogonality": 0.5,
}


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def random_weights(module, seed=0):
    """Weights that are large enough to matter, in float64."""
    module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=stream(seed))
    return module


def layer_of(width=6, experts=3, alpha=2, shared=0):
    layer = AdaptedLinear(WIDTH, width, None, "glorot_normal", stream())
    for e in range(experts):
        layer.add_expert(low_rank(alpha, "glorot_normal"), stream(e))
    for e in range(shared):
        layer.add_expert(low_rank(alpha, "glorot_normal"), stream(e), shared=True)
    return random_weights(layer)


@pytest.fixture
def legs(monkeypatch):
    """Every leg that is trained: its name, its lanes, and the parameters that moved."""
    seen = []
    leg = Trainer.leg

    def spy(self, name, lanes, epochs=None):
        before = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        leg(self, name, lanes, epochs)
        moved = {n for n, p in self.model.named_parameters() if not torch.equal(p, before[n])}
        seen.append((name, lanes, moved))

    monkeypatch.setattr(Trainer, "leg", spy)
    return seen


# Orthogonality


def literal_overlap(changes, chosen):
    """Each row's projections of each chosen expert's output on each other one's, squared."""
    rows, experts, _ = changes.shape
    total = 0.0
    for b in range(rows):
        for e in range(experts):
            for f in range(experts):
                if e == f or not (chosen[b, e] and chosen[b, f]):
                    continue
                on = changes[b, f]
                projection = (changes[b, e] @ on) / (on @ on + 1e-6) * on
                total += float((projection**2).sum())
    return total / (rows * experts * (experts - 1))


@given(st.integers(1, 5), st.integers(2, 4), st.integers(1, 4), st.integers(0, 99))
def test_overlap_is_equation_5_row_by_row(rows, experts, width, seed):
    changes = normal(rows, experts, width, seed=seed)
    chosen = normal(rows, experts, seed=seed + 1) > -0.5
    found = overlap(changes, chosen).item()
    assert found == pytest.approx(literal_overlap(changes.numpy(), chosen.numpy()), abs=1e-9)


def test_overlap_is_zero_for_orthogonal_experts_and_where_a_row_has_one_expert():
    basis = torch.linalg.qr(normal(4, 4)).Q
    orthogonal = 3 * basis[:3].expand(5, 3, 4)
    everything = torch.ones(5, 3, dtype=torch.bool)
    assert overlap(orthogonal, everything).item() == pytest.approx(0, abs=1e-12)
    alike = normal(5, 1, 4).expand(5, 3, 4)
    # each lies along the others: all of its length
    lengths = (alike**2).sum(2).mean().item()
    assert overlap(alike, everything).item() == pytest.approx(lengths, rel=1e-4)
    one = torch.eye(3, dtype=torch.bool)[torch.tensor([0, 1, 2, 0, 1])]
    assert overlap(alike, one).item() == 0
    assert overlap(alike[:, :1], everything[:, :1]).item() == 0


def test_gradients_of_the_overlap():
    chosen = normal(4, 3, seed=1) > -0.5
    changes = normal(4, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: overlap(y, chosen), (changes,))


def test_the_tower_adds_the_mean_overlap_of_its_layers_in_training_alone():
    tower = Tower(WIDTH, (6, 4), KeyedDropout(0.0), False, "glorot_normal", stream())
    for e in range(3):
        tower.add_expert(low_rank(2, "glorot_normal"), stream(e))
    random_weights(tower)
    x, g = normal(5, WIDTH), torch.softmax(normal(5, 3), 1)
    g = torch.where(g < 0.2, 0.0, g)
    tower.train()(x, g)
    assert tower.auxiliary() == []
    tower.demand_orthogonality(0.3)
    tower.eval()(x, g)
    assert tower.auxiliary() == []
    tower.train()(x, Hard((0, 2), (2, 3)))
    assert tower.auxiliary() == [], "one expert a row"
    tower(x, g)
    expected = []
    for layer in tower.layers:
        own = layer.experts
        changes = torch.stack([x @ own.A[e] @ own.B[e] + own.c[e] for e in range(3)], 1)
        expected.append(literal_overlap(changes.detach().numpy(), (g > 0).numpy()))
        x = torch.relu(layer(x, g)).detach()
    (found,) = tower.auxiliary()
    assert found.item() == pytest.approx(0.3 * sum(expected) / 2, rel=1e-6)


def test_orthogonality_leaves_experts_that_overlap_less(make_assignment):
    """On all validation rows, over the same experts' outputs of the first layer."""
    changed = {"training.learning_rate": 0.02}
    upstream = {"moe_mlora": finished(make_assignment("moe_mlora", **changed))}

    def overlap_with(weight):
        setting = changed | {"adapter.orthogonality": weight}
        made = train(make_assignment("moe_mlora_joint", upstream=upstream, **setting))
        assert made.curve, "nothing was trained"
        a, b, c = ([made.state[f"tower.layers.0.experts.{p}.{e}"] for e in range(3)] for p in "ABc")
        x = normal(50, len(a[0])).float().numpy()
        changes = np.stack([x @ a[e] @ b[e] + c[e] for e in range(3)], 1)
        return overlap(torch.from_numpy(changes), torch.ones(50, 3, dtype=torch.bool)).item()

    assert overlap_with(100.0) < 0.5 * overlap_with(0.0)


# Variance of the gate's weights


def literal_spread(weights):
    rows, experts = len(weights), len(weights[0])
    total = 0.0
    for e in range(experts):
        mean = sum(row[e] for row in weights) / rows
        total += sum((row[e] - mean) ** 2 for row in weights)
    return -total / (rows * experts)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("features", [0, WIDTH])
def test_spread_is_equation_6_and_reaches_the_gate(layers, features):
    gate = gate_of(features=features, layers=layers, variance=0.3)
    assert gate.spread() is None, "before a batch there is nothing to spread"
    domain, x = batch(20)
    found = gate(domain, x)
    found = found if layers > 1 else (found,)
    expected = 0.3 * sum(literal_spread(g.tolist()) for g in found) / layers
    assert gate.spread().item() == pytest.approx(expected, rel=1e-12)
    gate.spread().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in gate.parameters())


def test_gradients_of_the_spread_and_its_worst():
    gate = gate_of(variance=0.7, load_balance=0.2)
    domain, x = batch(6)

    def losses(*_):
        gate(domain, x)
        return tuple(gate.auxiliary())

    assert torch.autograd.gradcheck(losses, tuple(gate.parameters()))
    assert len(losses()) == 2
    gate(torch.zeros(6, dtype=torch.long), x)
    assert gate.spread().item() == pytest.approx(0, abs=1e-30), "rows that are all alike"


def test_the_variance_draws_domains_apart(make_assignment):
    changed = {"training.max_epochs": 1, "protocol.keep_start": False}
    tables = [
        train(make_assignment("moe_mlora", **changed | {"gate.variance": weight})).gate
        for weight in (0.0, 100.0)
    ]
    spread = [table.var(0).mean() for table in tables]
    assert spread[1] > 2 * spread[0]


# Noise


def noisy(seed=0, rows=6, **options):
    gate = gate_of(seed, noise=KeyedDropout(0.5), **options).train()
    gate.noise.lanes = [(np.random.default_rng(seed), rows)]
    return gate


@pytest.mark.parametrize("features", [0, WIDTH])
@pytest.mark.parametrize("layers", [1, 2])
def test_noise_is_equation_4_of_shazeer(features, layers):
    gate, (domain, x) = noisy(features=features, layers=layers, top_k=2), batch(6)
    found = gate(domain, x)
    found = found if layers > 1 else (found,)
    drawn = np.random.default_rng(0).standard_normal((6, layers * EXPERTS), np.float32)
    for row in range(6):
        u = gate.embedding[domain[row]].tolist() + (x[row].tolist() if features else [])
        for layer, weights in enumerate(found):
            h = []
            for e in range(EXPERTS):
                at = layer * EXPERTS + e
                clean = gate.v[at].item() + sum(u[i] * gate.V[i, at].item() for i in range(len(u)))
                scale = sum(u[i] * gate.N[i, at].item() for i in range(len(u)))
                h.append(clean + float(drawn[row, at]) * math.log1p(math.exp(scale)))
            kept = sorted(h)[-2:]
            powers = [math.exp(own) if own in kept else 0.0 for own in h]
            expected = torch.tensor([p / sum(powers) for p in powers], dtype=torch.float64)
            torch.testing.assert_close(weights[row], expected, rtol=0, atol=1e-9)


def test_noise_comes_from_its_stream_and_never_at_evaluation():
    (domain, x), gate = batch(6), noisy(top_k=2)
    first = gate(domain, x)
    first.sum().backward()
    again, other = noisy(top_k=2), noisy(top_k=2)
    other.noise.lanes = [(np.random.default_rng(1), 6)]
    assert torch.equal(first, again(domain, x))
    assert not torch.equal(first, other(domain, x))
    quiet = gate_of(top_k=2)
    quiet.load_state_dict({n: v for n, v in gate.state_dict().items() if n != "N"})
    gate.noise.lanes = ()
    assert torch.equal(gate.eval()(domain, x), quiet(domain, x))
    assert torch.equal(gate.table(), quiet.table())


def test_lanes_draw_the_noise_they_would_draw_alone():
    dropout = KeyedDropout(0.5)
    dropout.lanes = [(np.random.default_rng(s), rows) for s, rows in ((1, 2), (2, 3))]
    both = dropout.normal(4)
    dropout.lanes = [(np.random.default_rng(2), 3)]
    assert torch.equal(both[2:], dropout.normal(4))


def test_training_with_noise_is_reproducible(make_assignment):
    changed = {"gate.top_k": 2, "training.learning_rate": 0.02}
    upstream = {n: finished(make_assignment(n, **changed)) for n in ("base",)}
    upstream["experts"] = finished(make_assignment("experts", upstream=upstream, **changed))

    def trained(**more):
        return train(make_assignment("moe_mlora", upstream=upstream, **changed | more))

    one, two, quiet = trained(**{"gate.noise": True}), trained(**{"gate.noise": True}), trained()
    assert one.curve == two.curve != quiet.curve
    assert all(np.array_equal(one.state[n], two.state[n]) for n in two.state)
    assert one.state["router.N"].any(), "it learns how much noise there is"
    assert one.parameters["gate"] == quiet.parameters["gate"] + 4 * 3


# Subspaces


@pytest.mark.parametrize("directions", [1, 3])
def test_experts_stay_out_of_the_leading_singular_directions(directions):
    layer = layer_of()
    own, x = layer.experts, normal(6, WIDTH)
    own.stay_out(layer.weight, directions)
    U, S, Vh = torch.linalg.svd(layer.weight)
    assert (S.diff() < -1e-3).all(), "no ties"
    zero = torch.zeros(WIDTH, 6, dtype=torch.float64)
    for e in range(3):
        # what the expert adds to the rows of the unit matrix is its matrix, and c
        matrix = own.expert(e, torch.eye(WIDTH, dtype=torch.float64), zero[:WIDTH]) - own.c[e]
        assert (U[:, :directions].T @ matrix).abs().max() < 1e-12
        assert (matrix @ Vh[:directions].T).abs().max() < 1e-12
        left = torch.eye(WIDTH) - U[:, :directions] @ U[:, :directions].T
        right = torch.eye(6) - Vh[:directions].T @ Vh[:directions]
        expected = left @ own.A[e] @ own.B[e] @ right
        torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)
        assert matrix.abs().max() > 0.1
    outputs = [layer(x, Hard((0, 1, 2), (2, 2, 2))), layer(x, Hard((2, 0), (1, 5)))]
    outputs.append(layer(x, torch.softmax(normal(6, 3), 1)))
    own.settle()
    assert own.U is None
    again = [layer(x, Hard((0, 1, 2), (2, 2, 2))), layer(x, Hard((2, 0), (1, 5)))]
    again.append(layer(x, torch.softmax(normal(6, 3), 1)))
    for before, after in zip(outputs, again, strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


def test_trained_experts_lie_outside_the_backbones_subspace(make_assignment):
    changed = {"training.learning_rate": 0.02}
    upstream = {"base": finished(make_assignment("base", **changed))}

    def trained(directions):
        setting = changed | {"adapter.own_subspace": directions}
        return train(make_assignment("experts", upstream=upstream, **setting))

    free, confined = trained(0), trained(3)
    assert free.state.keys() == confined.state.keys()
    assert free.parameters == confined.parameters
    assert all(confined.experts_moved)
    for number in range(2):
        weight = upstream["base"].weights[f"tower.layers.{number}.weight"]
        U, _, Vh = np.linalg.svd(weight)
        for e in range(3):
            inside = {}
            for name, made in (("free", free), ("confined", confined)):
                a, b = (made.state[f"tower.layers.{number}.experts.{p}.{e}"] for p in "AB")
                scale = np.abs(a @ b).max()
                inside[name] = max(np.abs(U[:, :3].T @ a @ b).max(), np.abs(a @ b @ Vh[:3].T).max())
                inside[name] /= scale
            assert inside["confined"] < 1e-4
            assert inside["free"] > 0.05


def test_experts_need_a_direction_of_their_own(make_assignment):
    message = r"adapter\.own_subspace is 8, but layer 1 of the tower \(16 x 8\) has only 8"
    with pytest.raises(UserError, match=message):
        train(make_assignment("experts", **{"adapter.own_subspace": 8}))


# Shared experts


def test_shared_experts_serve_every_row_whatever_the_routing():
    layer, x, g = layer_of(shared=2), normal(5, WIDTH), torch.softmax(normal(5, 3), 1)
    shared = layer.shared
    plain = x @ layer.weight + layer.bias
    plain = plain + sum(x @ shared.A[s] @ shared.B[s] + shared.c[s] for s in range(2))
    own = [x @ layer.experts.A[e] @ layer.experts.B[e] + layer.experts.c[e] for e in range(3)]
    expected = {
        "none": (None, plain),
        "plain": (PLAIN, plain),
        "hard": (Hard((1,), (5,)), plain + own[1]),
        "gated": (g, plain + sum(g[:, e, None] * own[e] for e in range(3))),
    }
    for name, (routing, output) in expected.items():
        torch.testing.assert_close(layer(x, routing), output, rtol=0, atol=1e-12, msg=name)


def test_shared_experts_learn_from_all_rows_before_the_domains_own(make_assignment, legs):
    changed = {"training.learning_rate": 0.02, "adapter.experts_per_domain": 2}
    upstream = {"base": finished(make_assignment("base", **changed))}
    alone = train(make_assignment("experts", upstream=upstream, **changed))
    setting = changed | {"adapter.shared_experts": 2}
    assignment = make_assignment("experts", upstream=upstream, **setting)
    legs.clear()
    upstream["experts"] = finished(assignment)
    (first, lanes, moved), (second, _, later) = legs
    assert (first, second) == ("shared experts", "experts")
    assert [*lanes[0].train] == [*assignment.index("train")]
    assert all(map(is_shared, moved))
    assert {name.rsplit(".", 1)[-1] for name in moved} == {"0", "1"}
    assert all(map(is_expert, later))
    weights = upstream["experts"].weights
    assert {n for n in weights if is_expert(n)} == set(alone.state)
    assert weights.keys() - set(alone.state) == {n for n in weights if is_shared(n)}
    counts = upstream["experts"].record["parameters"]
    # two more of six
    assert counts["experts"] == alone.parameters["experts"] * 8 // 6
    gated = make_assignment("moe_mlora", upstream=upstream, **changed)
    made = train(gated)
    assert made.experts == 6
    for name, array in weights.items():
        assert np.array_equal(made.state[name], array), name
    lanes = upstream["experts"].record["lanes"]
    assert [lane["lane"] for lane in lanes] == ["shared", *"012345"]
    visited = upstream["base"].record["rows_visited"]
    assert rows_of_experts(gated, 3) == visited + sum(r["rows_visited"] for r in lanes[:4])


def test_a_saved_model_has_its_shared_experts_and_noise(tmp_path):
    changed = {"adapter.shared_experts": 1, "gate.top_k": 2, "gate.noise": True}
    trained = Trained(tmp_path, small_data(), **changed)
    for arm in ("experts", "moe_mlora", "uniform_gate", "moe_mlora_joint", "moe_mlora_staged"):
        state = trained.state(arm)
        module = rebuild(trained.identity(arm), state)
        assert any(map(is_shared, module.state_dict())), arm
        rows, logits = trained.test_rows(arm)
        found = module(*map(torch.from_numpy, rows)).numpy()
        np.testing.assert_allclose(found, logits, rtol=0, atol=1e-5)


# Stages


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_relevant_experts_are_those_of_equation_6(domains, experts, seed):
    table = torch.softmax(normal(domains, experts, seed=seed), 1)
    for row, found in zip(table.tolist(), relevant(table).tolist(), strict=True):
        assert found == [g >= RELEVANT * max(row) for g in row]


def test_a_row_changes_only_the_experts_it_owns():
    layer, x = layer_of(), normal(4, WIDTH)
    g = torch.softmax(normal(4, 3), 1)
    own = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]])

    def gradients(routing, rows):
        layer.zero_grad()
        inputs = x[rows].clone().requires_grad_()
        weights = g[rows].clone().requires_grad_()
        output = layer(inputs, routing(weights, rows))
        (output**2).sum().backward()
        return output, inputs.grad, weights.grad, [p.grad for p in layer.experts.parameters()]

    everything = slice(None)
    plain = gradients(lambda w, rows: w, everything)
    masked = gradients(lambda w, rows: Owned(w, own[rows]), everything)
    for found, expected in zip(masked[:3], plain[:3], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    # row by row: an owned expert's gradient is the plain one, the others' is none
    names = [name for name, _ in layer.experts.named_parameters()]
    totals = [torch.zeros_like(p) for p in layer.experts.parameters()]
    for b in range(4):
        *_, of_row = gradients(lambda w, rows: w, slice(b, b + 1))
        for i, name in enumerate(names):
            if own[b, int(name.rsplit(".", 1)[-1])]:
                totals[i] += of_row[i]
    for found, expected in zip(masked[3], totals, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_each_stage_trains_its_parts(make_assignment, legs):
    assignment = make_assignment("moe_mlora_staged", **{"training.learning_rate": 0.05})
    legs.clear()
    made = train(assignment)
    assert [name for name, *_ in legs] == ["warm-up", "stabilisation", "consolidation"]

    def parts(names):
        return {
            "experts" if is_expert(n) else "gate" if n.startswith("router.") else "backbone"
            for n in names
        }

    asked = [parts(lanes[0].parameters) for _, lanes, _ in legs]
    assert asked == [{"backbone", "gate"}, {"gate", "experts"}, {"experts"}]
    for _, lanes, moved in legs:
        assert moved <= lanes[0].parameters.keys()
    assert "router.own" not in made.state
    assert {point["phase"] for point in made.curve} == {name for name, *_ in legs}


def test_the_masks_are_of_the_gate_after_the_warm_up(make_assignment, monkeypatch):
    """A gate that leaves domains to different experts, so that some are masked."""
    assignment = make_assignment("moe_mlora_staged", **{"training.learning_rate": 0.05})
    weights = dict(assignment.upstream["moe_mlora"].weights)
    weights["router.V"] = 100 * weights["router.V"]
    upstream = {"moe_mlora": Upstream(weights, assignment.upstream["moe_mlora"].record)}
    assignment = replace(assignment, upstream=upstream)
    seen, leg = [], Trainer.leg

    def spy(self, name, lanes, epochs=None):
        own = self.model.router.own.clone()
        table = self.model.router.table().detach()
        leg(self, name, lanes, epochs)
        seen.append((name, own, table))

    monkeypatch.setattr(Trainer, "leg", spy)
    train(assignment)
    (_, first, _), (_, second, table), (_, third, _) = seen
    assert first.all()
    assert torch.equal(second, relevant(table).float())
    assert torch.equal(third, second), "found once"
    assert 0 < second.mean() < 1


def test_stages_need_a_gate_over_domains(make_assignment):
    with pytest.raises(UserError, match=r"moe_mlora_staged .* leave gate\.input at domain"):
        train(make_assignment("moe_mlora_staged", **{"gate.input": "features"}))


@pytest.mark.parametrize(
    ("arm", "changed"),
    [
        ("moe_mlora", {"gate.noise": True, "gate.top_k": 2}),
        ("experts", {"adapter.own_subspace": 2}),
    ],
)
def test_they_go_on_from_any_epoch(make_assignment, monkeypatch, arm, changed):
    changed = {"training.learning_rate": 0.02} | changed
    goes_on_from_any_epoch(make_assignment(arm, **changed), monkeypatch)


# Settings


@pytest.mark.parametrize("tier", ["smoke", "quick"])
def test_what_is_off_is_no_part_of_any_key(tier):
    new = {key.rpartition(".")[2] for key in ON}
    varied = 0
    for run in study_of(tier).expected_runs:
        own = {key.rpartition(".")[2] for key, _ in run.variant}
        settings = run.payload()
        found = {name.rpartition(".")[2] for name in settings} | settings.get("gate", {}).keys()
        assert found & new == own & new & found
        varied += bool(own & new)
    assert varied or tier == "smoke"


def test_each_of_them_changes_what_it_should_and_off_nothing(make_assignment):
    """Training with a switch named and off gives the bytes of training without naming it."""
    off = {key: type(value)(0) for key, value in ON.items()}
    upstream = {}
    for arm in ("base", "experts", "moe_mlora", "moe_mlora_joint"):
        made = [train(make_assignment(arm, upstream=upstream, **changed)) for changed in ({}, off)]
        assert made[0].curve == made[1].curve
        for name, array in made[0].state.items():
            assert array.tobytes() == made[1].state[name].tobytes()
        upstream[arm] = finished(make_assignment(arm, upstream=upstream))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gate.noise": True}, r"noise changes which experts are kept: give gate\.top_k a number"),
        ({"gate.variance": -1}, r"gate\.variance: Input should be greater than or equal to 0"),
        ({"adapter.orthogonality": -1}, r"adapter\.orthogonality: Input should be greater"),
        ({"adapter.shared_experts": -1}, r"adapter\.shared_experts: Input should be greater"),
        ({"adapter.own_subspace": 1.5}, r"adapter\.own_subspace: Input should be a valid integer"),
    ],
)
def test_bad_values_are_refused_by_name(changed, message):
    with pytest.raises(UserError, match=message):
        study(**changed)._run("planted-small", "mlp", "moe_mlora_joint", (), 1)


def test_an_arm_that_reads_no_switch_is_told_so():
    values = params().model_dump()
    values["experiments"] = {
        "own": values["experiments"]["specialisation"]
        | {"arms": ["mlora"], "compare": [], "variants": [{"adapter.shared_experts": 1}]}
    }
    message = "none of its arms and backbones reads 'adapter.shared_experts'"
    with pytest.raises(UserError, match=message):
        assert Study(Params.model_validate(values), "paper").expected


def test_the_gates_sizes_are_those_of_the_tests():
    assert gate_of().V.shape == (DIM, EXPERTS)
    assert gate_of().embedding.shape == (DOMAINS, DIM)
