"""The protocols' switches: what each does, and that the sequence of legs is the three jobs."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from assignments import make_assignment as new_assignment
from assignments import params, small_data, study, study_of, train
from scipy.special import expit

from domain_experts.auc import macro_auc
from domain_experts.evaluation.metrics import evaluate
from domain_experts.registry import ARMS
from domain_experts.settings import Protocol
from domain_experts.training.assignment import Upstream
from domain_experts.training.batches import OF_ONE_DOMAIN
from domain_experts.training.deep import expert_of, is_expert, new_model, part_of
from domain_experts.training.job import record_of
from domain_experts.training.loop import Trainer

FLIPPING = [arm for arm in ARMS if ARMS[arm].counterpart]
# small steps that overfit within the cap, so that selecting and stopping matter
LONG = {
    "training.max_epochs": 8,
    "training.batch_size": 256,
    "training.learning_rate": 0.1,
    "training.patience": 2,
}


def scores(assignment, made, split="validation"):
    rows = assignment.index(split)
    labels, domain = (
        assignment.interactions.labels[rows],
        assignment.interactions.domain[rows].astype(int),
    )
    return made.logits[split], labels, domain


@pytest.mark.parametrize("per_domain", [1, 2])
@pytest.mark.parametrize("gate", [{}, {"gate.input": "features", "gate.load_balance": 0.1}])
def test_the_sequence_as_described_is_the_three_jobs(make_assignment, float64, per_domain, gate):
    changed = LONG | {"adapter.experts_per_domain": per_domain, **gate}
    jobs, upstream, curve = {}, {}, []
    for arm in ("base", "experts", "moe_mlora"):
        assignment = make_assignment(arm, upstream=upstream, **changed)
        jobs[arm] = train(assignment)
        upstream[arm] = Upstream(jobs[arm].state, record_of(assignment, jobs[arm]))
        curve += jobs[arm].curve
    sequence = train(make_assignment("moe_mlora_sequence", **changed))
    # the jobs train experts side by side, the sequence one after another
    order = [(c["phase"], c["lane"]) for c in sequence.curve]
    curve.sort(key=lambda c: order.index((c["phase"], c["lane"])))
    assert len({c["phase"] for c in curve}) == 3
    assert any(not c["best"] for c in curve), "no epoch failed, so selection was not tested"
    for a, b in zip(curve, sequence.curve, strict=True):
        for key in ("phase", "lane", "epoch", "best"):
            assert a[key] == b[key]
        assert (a["train_loss"] is None) == (b["train_loss"] is None) == (a["epoch"] == 0)
        for key in ("train_loss", "validation_auc"):
            assert (a[key] or 0) == pytest.approx(b[key] or 0, rel=0, abs=1e-12)
    assert jobs["moe_mlora"].state.keys() == sequence.state.keys()
    for name, weight in sequence.state.items():
        np.testing.assert_allclose(jobs["moe_mlora"].state[name], weight, rtol=0, atol=1e-9)
    for split, logits in sequence.logits.items():
        np.testing.assert_allclose(jobs["moe_mlora"].logits[split], logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("arm", FLIPPING)
def test_flips_are_the_differences_of_the_protocols_that_the_arm_reads(arm):
    """Expected by hand from moe_mlora 1.4, 1.5, 2 and 6."""
    joint = {"split_seed", "batches", "rollback", "keep_start", "binned_auc"}
    base = joint | {"dropout_place", "embedding_std"}
    sequence = joint | {
        *("routing", "freeze", "fresh_optimizer", "reset_best", "selection"),
        *("tower_init", "expert_init"),
    }
    expected = {
        "base": base, "base_released": base, "mlora": joint, "mlora_released": joint,
        "moe_mlora_sequence": sequence, "moe_mlora_released": sequence,
    }  # fmt: skip
    own = study()
    flips = list(own._flips(arm))
    assert {key for ((key, _),) in flips} == {f"protocol.{name}" for name in expected[arm]}
    there = own.params.protocols[ARMS[arm].counterpart].model_dump()
    default = own.settings(arm)
    for flip in flips:
        ((key, value),) = flip
        name = key.removeprefix("protocol.")
        assert value == there[name]
        protocol = default.protocol.model_copy(update={name: value})
        assert own.settings(arm, flip) == default.model_copy(update={"protocol": protocol})


def test_an_experiment_that_flips_has_each_switch_once_and_the_default():
    runs = study_of("quick").expected["switches"]
    names = {run.path.parts[-2] for run in runs if run.arm == "moe_mlora_sequence"}
    assert names == {
        "default", "dropout-place=after-activation", "split-seed=123", "batches=by-domain",
        "routing=uniform", "freeze=False",
        "fresh-optimizer=False", "reset-best=False", "selection=all-domains", "rollback=True",
        "keep-start=False", "binned-auc=True", "tower-init=glorot-uniform",
        "expert-init=glorot-uniform",
    }  # fmt: skip


# without adapters, relu(m z / (1 - p)) = m relu(z) / (1 - p);
# where each weight belongs to one leg, no later leg meets its moments
IDENTITIES = {
    ("base", "protocol.dropout_place"),
    ("base_released", "protocol.dropout_place"),
    ("moe_mlora_sequence", "protocol.fresh_optimizer"),
}


def flips():
    own = study()
    for arm in FLIPPING:
        for flip in own._flips(arm):
            yield pytest.param(arm, flip, id=f"{arm}-{flip[0][0].removeprefix('protocol.')}")


@pytest.fixture(scope="module")
def defaults(tmp_path_factory):
    """Each arm as it is, for runs that differ from it by one switch."""
    folder, data = tmp_path_factory.mktemp("defaults"), small_data()
    found = {}
    for arm in FLIPPING:
        assignment = new_assignment(folder, data, arm, **LONG)
        found[arm] = (assignment, train(assignment))
    return folder, data, found


@pytest.mark.parametrize(("arm", "flip"), list(flips()))
def test_every_switch_changes_the_run(defaults, arm, flip):
    folder, data, found = defaults
    assignment, made = found[arm]
    flipped = new_assignment(folder, data, arm, variant=flip, **LONG)
    assert flipped.run.variant == flip
    assert flipped.run.payload() != assignment.run.payload()
    other = train(flipped)
    assert (flipped.run.split_seed != assignment.run.split_seed) == (
        flip[0][0] == "protocol.split_seed"
    )
    metrics = [
        evaluate(
            o.logits["test"], *(a[t.index("test")] for a in (data.labels, data.domain.astype(int))),
            data.schema.domains, data.schema.tasks, t.run.settings.protocol.binned_auc,
        )
        for t, o in ((assignment, made), (flipped, other))
    ]  # fmt: skip
    differ = other.curve != made.curve or metrics[0] != metrics[1]
    assert differ != ((arm, flip[0][0]) in IDENTITIES)


def test_the_best_value_runs_through_all_legs_if_it_is_not_reset(make_assignment):
    assignment = make_assignment("moe_mlora_released", **LONG | {"protocol.binned_auc": False})
    made = train(assignment)
    best = -math.inf
    for point in made.curve:
        assert point["best"] == (point["validation_auc"] > best)
        best = max(best, point["validation_auc"])
    assert {c["phase"] for c in made.curve} == {"backbone", "experts", "gate"}
    assert not made.curve[-1]["best"], "the last epoch was the best, which shows nothing"
    found = macro_auc(*scores(assignment, made), 3)
    assert found == best


def test_the_best_value_is_reset_by_default(make_assignment):
    made = train(make_assignment("moe_mlora_sequence", **LONG))
    starts = [c for c in made.curve if c["epoch"] == 0]
    assert len(starts) == 2 + 3
    assert all(c["best"] for c in starts)


def test_without_the_start_a_leg_ends_with_an_epoch(make_assignment):
    changed = LONG | {"protocol.keep_start": False, "training.learning_rate": 1.0}
    made = train(make_assignment("moe_mlora_sequence", **changed))
    assert min(c["epoch"] for c in made.curve) == 1
    legs = list(dict.fromkeys((c["phase"], c["lane"]) for c in made.curve))
    for leg in legs:
        assert next(c["best"] for c in made.curve if (c["phase"], c["lane"]) == leg)


def test_the_epoch_that_stops_a_leg_is_not_rolled_back(make_assignment, monkeypatch):
    """The next leg goes on from it, as in the released code (moe_mlora 1.4)."""
    ends = []
    leg = Trainer.leg

    def spy(self, name, lanes, *rest):
        leg(self, name, lanes, *rest)
        if self._states[lanes[0].name].stopped:
            ends.append(torch.equal(self.model.head, self._best["head"]))

    monkeypatch.setattr(Trainer, "leg", spy)
    train(make_assignment("moe_mlora_released", **LONG | {"training.patience": 1}))
    assert ends
    assert not any(ends)


@pytest.mark.parametrize("fresh", [True, False])
def test_moments_survive_a_leg_unless_the_optimiser_is_fresh(make_assignment, monkeypatch, fresh):
    """Adam's own step counter tells how long a weight's moments have lived."""
    counts = []
    leg = Trainer.leg

    def spy(self, name, lanes, *rest):
        leg(self, name, lanes, *rest)
        counts.append(self._optimizer.state[self.model.head]["step"].item())

    monkeypatch.setattr(Trainer, "leg", spy)
    changed = {"protocol.fresh_optimizer": fresh, "training.patience": 3}
    assignment = make_assignment("moe_mlora_released", **changed)
    train(assignment)
    domain = np.asarray(assignment.interactions.domain)[assignment.index("train")]
    each = [3 * math.ceil(n / 64) for n in np.bincount(domain)]
    alone = [sum(each), *each, sum(each)]
    assert len(set(alone[1:4])) == 3
    assert counts == (alone if fresh else list(np.cumsum(alone)))


@pytest.mark.parametrize("arm", ["moe_mlora_sequence", "moe_mlora_released"])
@pytest.mark.parametrize("freeze", [True, False])
def test_a_leg_changes_what_it_should(make_assignment, monkeypatch, arm, freeze):
    changed = []
    leg = Trainer.leg

    def spy(self, name, lanes, *rest):
        before = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        leg(self, name, lanes, *rest)
        (lane,) = lanes
        now = dict(self.model.named_parameters())
        changed.append((name, lane.name, {n for n in now if not torch.equal(now[n], before[n])}))

    monkeypatch.setattr(Trainer, "leg", spy)
    values = {"protocol.freeze": freeze, "protocol.keep_start": False, "protocol.rollback": False}
    assignment = make_assignment(arm, backbone="wdl", **values)
    made = train(assignment)
    uniform = arm == "moe_mlora_released"
    names = {n for n in made.state if n != "linear.dense"}
    gate = {n for n in names if part_of(n) == "gate"}
    backbone = {n for n in names if part_of(n) == "backbone"}
    experts = [{n for n in names if is_expert(n) and expert_of(n) == e} for e in range(3)]
    mix = set().union(*experts) | gate
    legs = [("backbone", "all"), *(("experts", str(e)) for e in range(3))]
    if not (freeze and uniform):
        legs.append(("gate", "all"))
    assert [(name, lane) for name, lane, _ in changed] == legs
    for name, lane, found in changed:
        if freeze:
            expected = {"backbone": backbone, "gate": gate}.get(name) or experts[int(lane)]
        elif uniform:
            expected = names
        else:
            # what a leg does not route through gets no gradient
            extra = {"backbone": set(), "gate": mix}
            expected = backbone | (extra[name] if name in extra else experts[int(lane)])
        assert found == expected, (name, lane)


def test_a_frozen_lane_validates_on_its_own_domain_or_on_all(make_assignment, monkeypatch):
    seen = []
    leg = Trainer.leg

    def spy(self, name, lanes, *rest):
        seen.extend((name, lane) for lane in lanes)
        leg(self, name, lanes, *rest)

    monkeypatch.setattr(Trainer, "leg", spy)
    for selection in ("own_domain", "all_domains"):
        assignment = make_assignment("moe_mlora_sequence", **{"protocol.selection": selection})
        seen.clear()
        train(assignment)
        domain = np.asarray(assignment.interactions.domain)
        lanes = [lane for name, lane in seen if name == "experts"]
        for d, lane in enumerate(lanes):
            assert set(domain[lane.train]) == {d}
            wanted = {d} if selection == "own_domain" else {0, 1, 2}
            assert set(domain[lane.validation]) == wanted


def thresholds_auc(probability, label):
    """The 500-threshold trapezoid, threshold by threshold, without tf.metrics.auc's epsilon."""
    edges = [-1e-7, *((i + 1) / 499 for i in range(498)), 1 + 1e-7]
    points = [
        [
            np.mean(probability[label == c].astype(np.float32) > np.float32(edge))
            for c in (0, 1)
        ]
        for edge in edges
    ]  # fmt: skip
    return sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))


def test_binned_auc_selects_by_the_trapezoid_of_500_thresholds(make_assignment):
    # tiny steps leave all predictions in a few bins, where the two AUCs differ
    changed = {"training.learning_rate": 1e-4, "protocol.binned_auc": True}
    assignment = make_assignment("base", **changed)
    made = train(assignment)
    logits, labels, domain = scores(assignment, made)
    probability = expit(logits.astype(np.float64))
    binned = np.mean(
        [thresholds_auc(probability[domain == d], labels[domain == d]) for d in range(3)]
    )
    best = max(c["validation_auc"] for c in made.curve)
    assert best == pytest.approx(binned, rel=0, abs=1e-9)
    assert abs(macro_auc(logits, labels, domain, 3) - binned) > 1e-3


def test_min_improvement_is_what_counts_as_gain(make_assignment):
    made = train(
        make_assignment("base", **{"training.max_epochs": 9, "protocol.min_improvement": 0.01})
    )
    best, gains = -math.inf, []
    for point in made.curve:
        assert point["best"] == (point["validation_auc"] > best + 0.01)
        gains.append(point["validation_auc"] - best)
        best = point["validation_auc"] if point["best"] else best
    assert any(0 < gain <= 0.01 for gain in gains), "no gain was too small"


def test_batches_by_domain_hold_one_domain(make_assignment):
    from domain_experts.training.deep import new_trainer, whole_lane

    for batches in ("mixed", *OF_ONE_DOMAIN):
        assignment = make_assignment("base", **{"protocol.batches": batches})
        trainer = new_trainer(assignment, new_model(assignment))
        found = trainer._batches(whole_lane(assignment, {}), np.random.default_rng(0))
        domain = np.asarray(assignment.interactions.domain)
        single = [len(set(domain[batch])) == 1 for batch in found]
        assert all(single) if batches in OF_ONE_DOMAIN else not any(single)
        visited, train_rows = np.concatenate(found), assignment.index("train")
        assert len(visited) == len(train_rows)
        if batches in ("mixed", "by_domain"):
            assert sorted(visited) == list(train_rows)


def test_the_protocols_are_those_of_the_specification():
    protocols = params().protocols
    # the other switches are those of M3oE's models
    others = {
        name: getattr(protocols["described"], name)
        for name in Protocol.model_fields
        if name in ("restore", "scalars", "start") or name.startswith("upper_")
    }
    assert protocols["described"] == Protocol(
        **others,
        split_seed=None, batches="mixed", loss="mean", routing="phases", freeze=True,
        fresh_optimizer=True, reset_best=True, selection="own_domain", rollback=False,
        keep_start=True, frozen_dropout=True, dropout_place="before_activation",
        min_improvement=0.0, binned_auc=False, tower_init="glorot_normal",
        expert_init="glorot_normal", embedding_std=0.01,
    )  # fmt: skip
    released = Protocol(
        **others,
        split_seed=123, batches="by_domain", loss="mean", routing="uniform", freeze=False,
        fresh_optimizer=False, reset_best=False, selection="all_domains", rollback=True,
        keep_start=False, frozen_dropout=True, dropout_place="before_activation",
        min_improvement=0.0, binned_auc=True, tower_init="glorot_uniform",
        expert_init="glorot_uniform", embedding_std=0.01,
    )  # fmt: skip
    normal = {"tower_init": "glorot_normal", "expert_init": "glorot_normal"}
    base = {"dropout_place": "after_activation", "embedding_std": 1e-4}
    assert protocols["released"] == released
    assert protocols["released_mlora"] == released.model_copy(update=normal)
    found = protocols["released_base"].model_copy(update={"expert_init": "glorot_normal"})
    assert found == released.model_copy(update=normal | base)
