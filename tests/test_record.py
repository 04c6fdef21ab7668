"""What a run's record says of its training, against a slow reckoning from curves and weights."""

import json
from dataclasses import replace

import numpy as np
import pytest
from assignments import CTR_ARMS, MULTI_ARMS, finished, make_assignment, needs

from domain_experts.training.deep import expert_of, is_expert
from domain_experts.training.folds import fold_of_rows, training_on
from domain_experts.training.rows import held_out, without_held_out

PATIENCE = 5
CHANGED = {
    **{"training.learning_rate": 0.05, "training.patience": 1, "training.max_epochs": 4},
    "trees.patience": PATIENCE,
}
SCOPES = {
    "single": {"domain": True, "task": True},
    "mtl": {"domain": True, "task": False},
    "mdl": {"domain": False, "task": True},
}


def seen_by(assignment, lane):
    """The run with the training rows that a lane sees, of the domains that it trains on."""
    arm, number = assignment.run.arm, lane["lane"]
    if arm == "base_held_out":
        return without_held_out(assignment)
    if arm in ("experts_held_out", "moe_mlora_held_out"):
        return held_out(assignment)
    if arm == "experts_crossfit":
        fold = fold_of_rows(assignment, 2, "crossfit")
        own = fold == int(number) // 3
        return training_on(assignment, own if lane["part"] == "experts" else fold != int(number))
    return assignment


BACKBONES = {"single": "mlp_norm", "mtl": "m3oe", "mdl": "mmoe", "mdmt": "m3oe"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Maker of records: `made(data, arm, backbone)` is (assignment, record, run)."""
    known = {}

    def make(data, arm, backbone="mlp", **more):
        key = arm, backbone, json.dumps(more)
        if key not in known:
            upstream = {name: make(data, name, backbone, **more)[2] for name in needs(arm)}
            folder = tmp_path_factory.mktemp("run")
            assignment = make_assignment(folder, data, arm, backbone, upstream, **CHANGED | more)
            run = finished(assignment)
            known[key] = assignment, run.record, run
        return known[key]

    return make


def reckoned(assignment, record, rows_of_lane):
    """Rows visited by the lanes of a curve, point by point."""
    return {(p["phase"], p["lane"]): p["epoch"] * rows_of_lane(p["lane"]) for p in record["curve"]}


def rows_by(assignment, group_of_domain):
    domain = np.asarray(assignment.interactions.domain)[assignment.index("train")]
    return np.bincount(np.asarray(group_of_domain)[domain])


@pytest.mark.parametrize("arm", CTR_ARMS)
def test_lanes_follow_from_the_curve(made, interactions, arm):
    assignment, record, _ = made(interactions, arm)
    lanes = record["lanes"]
    named = [(lane["phase"], lane["lane"]) for lane in lanes]
    assert named == list(dict.fromkeys((p["phase"], p["lane"]) for p in record["curve"])) or (
        arm in ("experts", "oracle_experts", "experts_held_out")
        and set(named) == {("experts", n) for _, n in named}
    )
    protocol, training = assignment.run.settings.protocol, assignment.run.settings.training
    for lane in lanes:
        points = [
            p for p in record["curve"] if (p["phase"], p["lane"]) == (lane["phase"], lane["lane"])
        ]
        last, best = points[-1]["epoch"], [p["epoch"] for p in points if p["best"]]
        patience = PATIENCE if arm == "lightgbm" else training.patience
        assert lane["epochs"] == last
        assert lane["trained"] and lane["used"]
        assert lane["tasks"] == [0]
        if protocol.reset_best:
            assert lane["epoch_tested"] == best[-1]
            stopped = last - best[-1] >= patience
            assert lane["capped"] == (arm != "mlora_epochs" and not stopped)
        assert lane["moved"] == (lane["epoch_tested"] > 0)
        by_domain = lane["part"] == "experts" or arm == "domain_finetune"
        if arm == "oracle_experts":
            own = [d for d, g in enumerate(assignment.planted_groups) if str(g) == lane["lane"]]
        elif by_domain:
            own = [int(lane["lane"]) % 3]
        elif arm.startswith("new_domain"):
            own = [0]
        else:
            own = [1, 2] if arm == "mlora_held_out" else [0, 1, 2]
        assert lane["domains"] == own
        rows = rows_by(seen_by(assignment, lane), range(3))[own].sum()
        if arm == "mamdr":
            # beside negotiation each domain twice for itself, and twice for the others
            rows *= 5
        assert lane["rows_visited"] == lane["epochs"] * rows
        expected = {"experts": "experts", "gate": "gate"}.get(lane["phase"], "model")
        assert lane["part"] == expected
    assert record["scope"] == {"domain": False, "task": False}
    assert record["tested"] == {}


@pytest.mark.parametrize("arm", CTR_ARMS)
def test_rows_visited_are_those_of_all_that_the_predictions_come_from(made, interactions, arm):
    _task, record, _ = made(interactions, arm)
    own = sum(lane["rows_visited"] for lane in record["lanes"])
    starts = {} if arm == "mlora_epochs" else needs(arm)
    before = (lane for name in starts for lane in made(interactions, name)[1]["lanes"])
    assert record["rows_visited"] == own + sum(lane["rows_visited"] for lane in before)


def test_experts_beyond_the_first_of_each_domain_are_not_used(made, interactions):
    more = {"adapter.experts_per_domain": 2}
    _, record, _ = made(interactions, "experts", **more)
    _, base, _ = made(interactions, "base", **more)
    assert [lane["used"] for lane in record["lanes"]] == [True] * 3 + [False] * 3
    assert [lane["epoch_tested"] is None for lane in record["lanes"]] == [False] * 3 + [True] * 3
    visited = sum(lane["rows_visited"] for lane in record["lanes"][:3])
    assert record["rows_visited"] == base["rows_visited"] + visited
    assert all(lane["epochs"] for lane in record["lanes"])
    counts = record["parameters"]
    assert counts["used"] == counts["total"] - counts["experts"] // 2
    _, gated, _ = made(interactions, "moe_mlora", **more)
    assert gated["parameters"]["used"] == gated["parameters"]["total"]
    visited = sum(lane["rows_visited"] for lane in record["lanes"] + gated["lanes"])
    assert gated["rows_visited"] == base["rows_visited"] + visited


@pytest.mark.parametrize("arm", CTR_ARMS)
def test_experts_moved_are_those_whose_weights_left_their_start(made, interactions, arm):
    _task, record, run = made(interactions, arm)
    names = [name for name in run.weights if is_expert(name)]
    experts = max((expert_of(name) + 1 for name in names), default=0)
    moved = [
        any(run.weights[n].any() for n in names if expert_of(n) == e and ".A." not in n)
        for e in range(experts)
    ]
    assert record["experts_moved"] == (moved or None)
    if arm in ("moe_mlora", "uniform_gate"):
        lanes = made(interactions, "experts")[1]["lanes"]
        assert moved == [lane["moved"] for lane in lanes]
    if arm == "mlora_held_out":
        assert moved == [False, True, True]


def test_an_expert_that_cannot_be_selected_is_said_to_be_untrained(tmp_path, interactions):
    labels = np.array(interactions.labels)
    labels[np.asarray(interactions.domain) == 1] = 0
    data = replace(interactions, labels=labels)
    record = finished(make_assignment(tmp_path, data, "experts", **CHANGED)).record
    assert [lane["trained"] for lane in record["lanes"]] == [True, False, True]
    lane = record["lanes"][1]
    assert (lane["epochs"], lane["rows_visited"], lane["epoch_tested"]) == (0, 0, 0)
    assert (lane["moved"], lane["capped"], lane["domains"]) == (False, False, [1])
    assert not record["experts_moved"][1]


def test_the_best_of_all_legs_is_tested(made, interactions):
    """The lane of the best epoch ends with it; earlier ones as they ended, later ones untouched."""
    _, record, _ = made(interactions, "moe_mlora_released")
    best = [p for p in record["curve"] if p["best"]][-1]
    found = {(lane["phase"], lane["lane"]): lane["epoch_tested"] for lane in record["lanes"]}
    at = list(found).index((best["phase"], best["lane"]))
    lanes = record["lanes"]
    assert [lane["epoch_tested"] for lane in lanes] == [
        *(lane["epochs"] for lane in lanes[:at]), best["epoch"], *[0] * (len(lanes) - at - 1)
    ]  # fmt: skip


@pytest.mark.parametrize("arm", MULTI_ARMS)
def test_lanes_of_the_multi_models(made, multi_interactions, arm):
    kind = arm.removesuffix("_released")
    backbone = BACKBONES.get(kind, "mlp")
    assignment, record, _run = made(multi_interactions, arm, backbone)
    scope = SCOPES.get(kind, {"domain": False, "task": False})
    assert record["scope"] == scope
    groups = [
        ([d] if scope["domain"] else [0, 1, 2], [t] if scope["task"] else [0, 1])
        for d in (range(3) if scope["domain"] else [0])
        for t in (range(2) if scope["task"] else [0])
    ]
    if arm == "autoifs":
        search, retrain = record["lanes"]
        assert search["epoch_tested"] == assignment.run.settings.multi_model.autoifs.rewind
        assert not search["capped"]
        assert search["domains"] == retrain["domains"] == [0, 1, 2]
        assert search["tasks"] == retrain["tasks"] == [0, 1]
    else:
        assert [(lane["domains"], lane["tasks"]) for lane in record["lanes"]] == groups
    rows = rows_by(assignment, range(3))
    for lane in record["lanes"]:
        assert lane["rows_visited"] == lane["epochs"] * rows[lane["domains"]].sum() > 0
    assert record["rows_visited"] == sum(lane["rows_visited"] for lane in record["lanes"])
    if kind == "mdmt":
        (lane,) = record["lanes"]
        (tested,) = (p for p in record["curve"] if p["epoch"] == lane["epoch_tested"])
        assert record["tested"] == tested["fusion"]
        if arm == "mdmt_released":
            stopped = (
                record["curve"][-1]["epoch"] - max(p["epoch"] for p in record["curve"] if p["best"])
                >= assignment.run.settings.training.patience
            )
            assert lane["capped"] == (not stopped)
    else:
        assert record["tested"] == {}


def test_a_released_model_that_runs_out_of_epochs_is_tested_as_it_ended(made, multi_interactions):
    more = {"training.patience": 9}
    _task, record, _ = made(multi_interactions, "mdmt_released", "m3oe", **more)
    (lane,) = record["lanes"]
    assert lane["capped"]
    assert lane["epoch_tested"] == lane["epochs"] == 4
    assert record["tested"] == record["curve"][-1]["fusion"]
