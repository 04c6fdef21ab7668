"""The loop and the legs: what each trains, and that lanes do not see one another."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from assignments import CTR_BACKBONES, finished, low_rank, params, study, train
from torch import nn

from domain_experts.auc import macro_auc
from domain_experts.data.planted import generate
from domain_experts.data.specs import Fractions, Planted
from domain_experts.data.split_rules import stratified
from domain_experts.evaluation.metrics import evaluate
from domain_experts.schema import Schema
from domain_experts.training.assignment import Assignment, Upstream
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.deep import expert_of, is_expert, new_model, new_trainer
from domain_experts.training.job import record_of
from domain_experts.training.lanes import Lane
from domain_experts.training.loop import Trainer
from domain_experts.training.progress import Progress


def expert_parameters(model: nn.Module) -> dict[int, dict[str, nn.Parameter]]:
    own: dict[int, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if is_expert(name):
            own.setdefault(expert_of(name), {})[name] = parameter
    return own


@pytest.mark.parametrize("per_domain", [1, 2])
def test_experts_together_equal_each_alone(make_assignment, monkeypatch, float64, per_domain):
    """Ragged domains, one and two experts each: same batches, same masks, same weights."""
    seen = []
    original = Trainer.leg

    def leg(self, name, lanes, *rest):
        if name == "experts":
            seen.append(lanes)
        original(self, name, lanes, *rest)

    monkeypatch.setattr(Trainer, "leg", leg)
    changed = {"adapter.experts_per_domain": per_domain, "training.max_epochs": 4}
    base = {"base": finished(make_assignment("base", **changed))}
    together = train(make_assignment("experts", upstream=base, **changed))
    lanes = seen.pop()
    assert len(lanes) == 3 * per_domain
    assert len({len(lane.train) for lane in lanes}) == 3

    for lane in lanes:

        def only(self, name, all_lanes, *rest, own=lane.name):
            original(self, name, [lane for lane in all_lanes if lane.name == own], *rest)

        monkeypatch.setattr(Trainer, "leg", only)
        alone = train(make_assignment("experts", upstream=base, **changed))
        curve = [c for c in together.curve if c["lane"] == lane.name]
        assert len(alone.curve) == len(curve)
        for a, b in zip(alone.curve, curve, strict=True):
            assert a["validation_auc"] == pytest.approx(b["validation_auc"], abs=1e-12)
        names = [n for n in together.state if str(expert_of(n)) == lane.name]
        assert names
        for name in names:
            np.testing.assert_allclose(together.state[name], alone.state[name], rtol=0, atol=1e-9)


def test_an_expert_that_waits_does_not_move(make_assignment, interactions):
    """A lane without batches in a step gets no gradient, no moments, no step."""
    assignment = make_assignment("experts", upstream={})
    model = new_model(assignment)
    for e in range(2):
        model.tower.add_expert(low_rank(4, "glorot_normal"), torch.Generator().manual_seed(e))
    trainer = new_trainer(assignment, model)
    rows = assignment.index("train")
    own = expert_parameters(model)
    lanes = [Lane("0", rows[:640], rows, own[0], 0), Lane("1", rows[:64], rows, own[1], 1)]
    trainer._prepare({n: p for lane in lanes for n, p in lane.parameters.items()})
    trainer._interval("experts", 1, lanes)
    steps = {e: {trainer._optimizer.state[p]["step"].item() for p in own[e].values()} for e in own}
    assert steps == {0: {10.0}, 1: {1.0}}


def test_experts_are_the_same_for_one_and_two_per_domain(make_assignment):
    base = {"base": finished(make_assignment("base"))}
    one = train(
        make_assignment("experts", upstream=base, **{"adapter.experts_per_domain": 1})
    ).state
    two = train(
        make_assignment("experts", upstream=base, **{"adapter.experts_per_domain": 2})
    ).state
    assert len(two) == 2 * len(one)
    for name, weight in one.items():
        # stacked products of other sizes round differently
        np.testing.assert_allclose(weight, two[name], rtol=0, atol=2e-4)


def test_experts_change_experts_and_the_gate_the_gate_alone(make_assignment, monkeypatch):
    frozen = {}
    original = Trainer.leg

    def leg(self, name, lanes, *rest):
        before = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        original(self, name, lanes, *rest)
        trained = {n for lane in lanes for n in lane.parameters}
        frozen[name] = (
            {n for n, p in self.model.named_parameters() if torch.equal(p, before[n])},
            set(before),
            trained,
        )

    monkeypatch.setattr(Trainer, "leg", leg)
    train(make_assignment("moe_mlora", **{"training.learning_rate": 0.01}))
    same, every, trained = frozen["experts"]
    assert trained == {n for n in every if is_expert(n)}
    assert same >= every - trained
    assert len(same & trained) < len(trained)
    same, every, trained = frozen["gate"]
    assert trained == {"router.embedding", "router.V", "router.v"}
    assert same == every - trained


def test_mlora_trains_everything(make_assignment):
    assignment = make_assignment("mlora")
    before = dict(new_model(assignment).named_parameters())
    made = train(assignment)
    assert made.experts == 3
    for name, parameter in before.items():
        assert parameter.numel() == 0 or not np.array_equal(
            parameter.detach().numpy(), made.state[name]
        ), name
    assert all(made.state[n].any() for n in made.state if is_expert(n))


def test_every_arm_starts_from_the_same_backbone(make_assignment):
    weights = [
        dict(new_model(make_assignment(arm, upstream={})).named_parameters())
        for arm in ("base", "mlora")
    ]
    for name, parameter in weights[0].items():
        assert torch.equal(parameter, weights[1][name])


def test_each_leg_ends_with_its_best_weights(make_assignment):
    assignment = make_assignment(
        "base", **{"training.max_epochs": 8, "training.learning_rate": 0.05}
    )
    made = train(assignment)
    aucs = [c["validation_auc"] for c in made.curve]
    assert aucs[-1] < max(aucs), "the run should overfit, else this test shows nothing"
    rows = assignment.index("validation")
    labels, domain = assignment.interactions.labels[rows], assignment.interactions.domain[rows]
    found = macro_auc(made.logits["validation"], labels, domain.astype(int), 3)
    assert found == pytest.approx(max(aucs), abs=1e-12)
    assert [c["best"] for c in made.curve] == [a > max([-1, *aucs[:i]]) for i, a in enumerate(aucs)]


@pytest.mark.parametrize("arm", ["base", "moe_mlora_released"])
def test_validations_within_an_epoch_train_the_same_batches(make_assignment, arm):
    """Without dropout, early stopping and rollback, more validations change no weight."""
    changed = {
        "model.dropout": 0.0,
        "training.patience": 99,
        "protocol.rollback": False,
    }
    once = train(make_assignment(arm, **changed))
    often = train(make_assignment(arm, **changed, **{"training.validations": 4}))
    ends = [point for point in often.curve if point["epoch"] == int(point["epoch"])]
    known = [(p["phase"], p["lane"], p["epoch"], p["validation_auc"]) for p in once.curve]
    assert known == [(p["phase"], p["lane"], p["epoch"], p["validation_auc"]) for p in ends]
    assert len(often.curve) > 3 * len(once.curve)
    assert [lane.rows_visited for lane in often.lanes] == [lane.rows_visited for lane in once.lanes]


def test_a_lane_with_fewer_batches_than_validations_validates_after_its_batches(make_assignment):
    made = train(
        make_assignment("base", **{"training.batch_size": 10**6, "training.validations": 3})
    )
    assert [point["epoch"] for point in made.curve] == [0, 1, 2, 3]


@pytest.mark.parametrize("arm", ["base", "mlora"])
def test_a_nudge_of_one_rounding_moves_logits_by_little(make_assignment, arm):
    exact, nudged = (
        train(make_assignment(arm, **{"training.nudge": nudge})).logits["test"]
        for nudge in (0.0, 1.2e-7)
    )
    assert 0 < np.abs(exact - nudged).max() < 1e-2


def test_early_stopping_waits_for_patience(make_assignment):
    changed = {"training.max_epochs": 50, "training.learning_rate": 0.05, "training.patience": 2}
    curve = train(make_assignment("base", **changed)).curve
    assert len(curve) < 50
    assert [c["best"] for c in curve[-3:]] == [True, False, False]


def test_released_legs_share_one_best_and_roll_back(make_assignment):
    changed = {"training.max_epochs": 3, "training.learning_rate": 0.02}
    made = train(make_assignment("moe_mlora_released", **changed))
    legs = dict.fromkeys((c["phase"], c["lane"]) for c in made.curve)
    experts = [("experts", str(e)) for e in range(3)]
    assert list(legs) == [("backbone", "all"), *experts, ("gate", "all")]
    best = -math.inf
    for point in made.curve:
        assert point["best"] == (point["validation_auc"] > best)
        best = max(best, point["validation_auc"])
    assert min(c["epoch"] for c in made.curve) == 1
    np.testing.assert_allclose(made.gate, 1 / 3)


def test_rollback_restarts_from_the_best_weights(make_assignment, monkeypatch):
    starts, selected = [], []
    epoch, select = Trainer._interval, Trainer._select

    def spy_epoch(self, *args):
        starts.append(self.model.head.detach().clone())
        return epoch(self, *args)

    def spy_select(self, *args):
        head = self.model.head.detach().clone()
        select(self, *args)
        selected.append((self.curve[-1]["best"], head))

    monkeypatch.setattr(Trainer, "_interval", spy_epoch)
    monkeypatch.setattr(Trainer, "_select", spy_select)
    changed = {"training.max_epochs": 6, "training.learning_rate": 0.05, "training.patience": 6}
    train(make_assignment("moe_mlora_released", **changed))
    best = None
    missed = 0
    # the last epoch of a leg is not rolled back: the next leg goes on from where it ended
    for i, (improved, head) in enumerate(selected[:5]):
        best = head if improved else best
        missed += not improved
        assert torch.equal(starts[i + 1], best)
    assert missed > 0


def test_frozen_dropout_is_a_switch(make_assignment):
    outcomes = []
    for value in (True, False):
        upstream = {"base": finished(make_assignment("base"))}
        assignment = make_assignment(
            "experts", upstream=upstream, **{"protocol.frozen_dropout": value}
        )
        assert assignment.run.settings.protocol.frozen_dropout is value
        outcomes.append(train(assignment).curve[-1]["train_loss"])
    assert outcomes[0] > outcomes[1]


def test_one_class_domain_keeps_its_expert_untouched_and_says_so(
    make_assignment, interactions, capsys
):
    labels = np.array(interactions.labels)
    labels[np.asarray(interactions.domain) == 2] = 0
    data = dataclasses.replace(interactions, labels=labels)
    base = {"base": finished(make_assignment("base", data=data))}
    made = train(make_assignment("experts", data=data, upstream=base))
    assert {c["lane"] for c in made.curve} == {"0", "1"}
    assert not any(made.state[n].any() for n in made.state if expert_of(n) == 2 and ".B." in n)
    assert "expert 2 stays untrained: its validation rows hold one" in capsys.readouterr().err


def test_several_tasks_and_dense_features_train(make_assignment, interactions):
    rng = np.random.default_rng(0)
    n = len(interactions.domain)
    schema = Schema(interactions.schema.fields, ("age",), interactions.schema.domains, ("a", "b"))
    data = dataclasses.replace(
        interactions,
        schema=schema,
        dense=rng.random((n, 1)).astype(np.float32),
        labels=np.concatenate([interactions.labels, rng.integers(0, 2, (n, 1), np.uint8)], 1),
    )
    made = train(make_assignment("moe_mlora", data=data))
    assert made.logits["test"].shape == (len(make_assignment("base", data=data).index("test")), 2)


def test_l2_is_on_embeddings_and_linear_weights_alone(make_assignment):
    assignment = make_assignment("base", backbone="wdl")
    trainer = new_trainer(assignment, new_model(assignment))
    trainer._prepare(dict(trainer.model.named_parameters()))
    groups = trainer._optimizer.groups
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    assert {names[id(p)] for p in groups[0][0]} == {
        "embedding.weight", "linear.weights.weight", "linear.dense",
    }  # fmt: skip
    assert [decay for _, decay in groups] == [pytest.approx(2e-5), 0]


@pytest.mark.parametrize("arm", ["item_rate", "user_item_rate"])
def test_rates_equal_the_slow_version(make_assignment, interactions, arm):
    assignment = make_assignment(arm, backbone="none")
    made = train(assignment)
    m, rows = assignment.run.settings.rates.smoothing, assignment.index("train")
    labels = interactions.labels[:, 0].astype(float)
    overall = labels[rows].mean()

    def odds(p):
        return math.log(p / (1 - p))

    for position, row in enumerate(assignment.index("test")[:50]):
        expected = odds(overall)
        for column in (1,) if arm == "item_rate" else (0, 1):
            same = rows[interactions.fields[rows, column] == interactions.fields[row, column]]
            rate = (labels[same].sum() + m * overall) / (len(same) + m)
            expected += odds(rate) - odds(overall)
        assert made.logits["test"][position, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("arm", ["item_rate", "user_item_rate"])
@pytest.mark.parametrize(("label", "missing"), [(0, "positives"), (1, "negatives")])
def test_rates_of_one_class_say_so_and_go_on(
    make_assignment, multi_interactions, capsys, arm, label, missing
):
    whole = make_assignment(arm, data=multi_interactions, backbone="none")
    labels = multi_interactions.labels.copy()
    labels[whole.index("train"), 1] = label
    data = dataclasses.replace(multi_interactions, labels=labels)
    before = train(whole).logits["test"]
    assert not capsys.readouterr().err
    made = train(dataclasses.replace(whole, interactions=data)).logits["test"]
    assert f"no {missing} of task like in training" in capsys.readouterr().err
    np.testing.assert_array_equal(made[:, 0], before[:, 0])
    assert np.isfinite(made).all()
    assert ((made[:, 1] > 0) == label).all()


def test_mlora_and_moe_mlora_beat_the_base_on_planted_domains(tmp_path):
    """Truth on generated data, with groups too strong for a small shared tower."""
    planted = params().data.datasets["planted"].model_dump()
    planted |= {"rows": 24000, "users": 200, "items": 100, "domains": 8, "groups": 4}
    data = generate(Planted.model_validate(planted | {"strength": 3.0, "seed": 1}))
    changed = {
        "model.hidden": [16], "model.embedding_dim": 8, "adapter.alpha": 1,
        "training.batch_size": 256,
        "training.max_epochs": 12, "training.learning_rate": 0.006,
    }  # fmt: skip
    gains = {"mlora": [], "moe_mlora": []}
    for seed in (1, 2, 3):
        split = stratified(data, seed, Fractions(0.2, 0.2))
        upstream, made, wauc = {}, {}, {}
        for arm in ("base", "mlora", "experts", "moe_mlora"):
            run = study(**changed)._run("planted-small", "mlp", arm, (), seed)
            checkpoint = Checkpoint(tmp_path / f"{arm}{seed}.safetensors", "k")
            assignment = Assignment(run, data, split, upstream, "cpu", checkpoint, Progress("t"))
            made[arm] = train(assignment)
            upstream[arm] = Upstream(made[arm].state, record_of(assignment, made[arm]))
            test = assignment.index("test")
            evaluation = evaluate(
                made[arm].logits["test"], data.labels[test], data.domain[test].astype(int),
                data.schema.domains, data.schema.tasks, binned=False,
            )  # fmt: skip
            wauc[arm] = evaluation["click"]["wauc"]
        for arm, found in gains.items():
            found.append(wauc[arm] - wauc["base"])
    # found: 0.030 to 0.049 and 0.008 to 0.020
    assert min(gains["mlora"]) > 0.01, gains
    assert min(gains["moe_mlora"]) > 0.003, gains


def test_keep_start_alone_costs_the_released_legs_no_epoch(make_assignment):
    changed = {"training.patience": 1, "protocol.keep_start": True}
    curve = train(make_assignment("moe_mlora_released", **changed)).curve
    trained = {(point["phase"], point["lane"]) for point in curve if point["epoch"] > 0}
    assert trained == {(point["phase"], point["lane"]) for point in curve}
    assert len(trained) == 3 + 2


def test_protocols_choose_the_init_of_the_tower(make_assignment):
    towers = [
        new_model(make_assignment("base", upstream={}, **{"protocol.tower_init": init})).tower
        for init in ("glorot_normal", "glorot_uniform")
    ]
    normal, uniform = (tower.layers[0].weight.abs() for tower in towers)
    bound = math.sqrt(6 / sum(uniform.shape))
    assert uniform.max() <= bound < normal.max()


def test_a_resumed_run_counts_all_its_epochs(make_assignment, monkeypatch):
    assignment = make_assignment("base", **{"training.max_epochs": 4})
    save = Trainer._save

    def crash_at_two(self, identity, epoch):
        save(self, identity, epoch)
        if epoch == 2 and self.progress.sessions == 1:
            raise InterruptedError

    monkeypatch.setattr(Trainer, "_save", crash_at_two)
    with pytest.raises(InterruptedError):
        train(assignment)
    again = dataclasses.replace(assignment, progress=Progress("t"))
    train(again)
    assert (again.progress.epochs, again.progress.sessions) == (4, 2)
    assert again.progress.rows == 4 * len(assignment.index("train"))
    assert again.progress.seconds > again.progress.training_seconds > 0


@pytest.mark.parametrize("backbone", CTR_BACKBONES)
def test_lower_precision_is_a_switch(make_assignment, backbone):
    logits = [
        train(
            make_assignment(
                "base", backbone=backbone, **{"training.max_epochs": 1, "training.precision": name}
            )
        ).logits["test"]
        for name in ("float32", "bfloat16")
    ]
    assert all(found.dtype == np.float32 for found in logits)
    difference = np.abs(logits[1] - logits[0])
    assert 0 < difference.max() < 0.2 * np.abs(logits[0]).max()


# of torch's own tracing
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("arm", ["base", "experts"])
def test_compiled_models_learn_the_same(make_assignment, monkeypatch, arm):
    changed = {"training.max_epochs": 2}
    upstream = {"base": finished(make_assignment("base", **changed))}
    plain = train(make_assignment(arm, upstream=upstream, **changed)).logits["test"]
    compiler, compiled = torch.compile, []

    def traced(model):
        compiled.append(model)
        # tracing alone: to translate takes half a minute
        return compiler(model, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    own = make_assignment(arm, upstream=upstream, **changed, **{"training.compiled": True})
    np.testing.assert_allclose(train(own).logits["test"], plain, atol=1e-4)
    assert compiled
