"""Experts and gate on training rows that their backbone has not seen."""

from dataclasses import replace

import numpy as np
import pytest
from assignments import make_assignment, small_data, train

from domain_experts.errors import UserError
from domain_experts.training.arms import methods
from domain_experts.training.deep import is_expert, part_of
from domain_experts.training.rows import held_out, without_held_out

SHARE = 0.3


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held out")
    return make_assignment(folder, small_data(), "moe_mlora_held_out", **{"held_out.share": SHARE})


def test_a_share_of_each_domains_training_rows_and_no_other(gated):
    chosen, rest = (part(gated).index("train") for part in (held_out, without_held_out))
    assert np.array_equal(np.union1d(chosen, rest), gated.index("train"))
    assert not set(chosen) & set(rest)
    domain = np.asarray(gated.interactions.domain)
    for d in np.unique(domain):
        rows = (domain[gated.index("train")] == d).sum()
        assert (domain[chosen] == d).sum() == round(SHARE * rows)
    for split in ("validation", "test"):
        assert np.array_equal(held_out(gated).index(split), gated.index(split))
    other = replace(gated, run=replace(gated.run, seed=2))
    assert not np.array_equal(held_out(other).index("train"), chosen)


def test_what_each_part_is_trained_on(gated):
    made = train(gated)
    base, experts = (gated.upstream[arm] for arm in ("base_held_out", "experts_held_out"))
    rows = len(gated.index("train"))
    held = len(held_out(gated).index("train"))
    assert [lane["rows_visited"] % (rows - held) for lane in base.record["lanes"]] == [0]
    of_epoch = sum(lane["rows_visited"] / lane["epochs"] for lane in experts.record["lanes"])
    assert of_epoch == held
    (gate,) = made.lanes
    assert gate.rows_visited == gate.epochs * held
    for name, array in made.state.items():
        upstream = {"backbone": base, "experts": experts}.get(part_of(name))
        if upstream is not None and name in upstream.weights:
            assert np.array_equal(array, upstream.weights[name]), name


def test_it_is_the_method_on_a_split_without_those_rows(gated):
    """The same split, cut by hand, in the arms of the described method."""
    split = gated.split.copy()
    split[without_held_out(gated).index("train")] = 9
    upstream = {n.removesuffix("_held_out"): u for n, u in gated.upstream.items()}
    by_hand = methods.moe_mlora(replace(gated, split=split, upstream=upstream))
    assert np.array_equal(by_hand.logits["test"], train(gated).logits["test"])


def test_refit_takes_the_backbone_from_base(tmp_path):
    assignment = make_assignment(
        tmp_path, small_data(), "moe_mlora_refit", **{"held_out.share": SHARE}
    )
    made = train(assignment)
    base, gated = (assignment.upstream[arm] for arm in ("base", "moe_mlora_held_out"))
    for name, array in made.state.items():
        kept = gated if is_expert(name) or part_of(name) == "gate" else base
        assert np.array_equal(array, kept.weights[name]), name
    assert made.rows_before == base.record["rows_visited"] + gated.record["rows_visited"]


def test_a_gate_over_mloras_adapters_changes_neither(tmp_path):
    assignment = make_assignment(tmp_path, small_data(), "mlora_gated")
    made, mlora = train(assignment), assignment.upstream["mlora"]
    for name, array in mlora.weights.items():
        assert np.array_equal(made.state[name], array), name
    assert {lane.part for lane in made.lanes} == {"gate"}
    assert made.rows_before == mlora.record["rows_visited"]


def test_mlora_has_one_adapter_a_domain(tmp_path):
    many = {"adapter.experts_per_domain": 2}
    assignment = make_assignment(tmp_path, small_data(), "mlora_gated", **many)
    with pytest.raises(UserError, match=r"leave adapter\.experts_per_domain at 1"):
        train(assignment)
