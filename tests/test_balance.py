"""Loss balance: each way against its equation, on two tasks whose conflict is known."""

import dataclasses

import numpy as np
import pytest
import torch
from assignments import study, train
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from test_resume import goes_on_from_any_epoch

from domain_experts.errors import UserError
from domain_experts.models.ctr import CTRModel
from domain_experts.registry import ARMS
from domain_experts.training.adam import Adam
from domain_experts.training.balance import (
    ADATASK,
    OF_GRADIENTS,
    OF_LOSSES,
    RADIUS,
    Balance,
    Step,
    cagrad,
    dwa,
    gradnorm,
    metabalance,
    pcgrad,
    uncertainty,
)

WAYS = (*OF_LOSSES, *OF_GRADIENTS, ADATASK)


def step_of(losses=(1.0, 1.0), gradients=None, last=0, starts=False, rate=0.01):
    """A step with one shared matrix, or with gradients (M, T, n) of several."""
    g = torch.as_tensor(np.array([np.eye(len(losses))] if gradients is None else gradients))
    return Step(
        losses=torch.tensor(losses, dtype=torch.float64),
        products=(g @ g.transpose(1, 2)).double(),
        last=last,
        epoch_starts=starts,
        learning_rate=rate,
        stream=np.random.default_rng(0),
    )


def at_angle(degrees, lengths=(1.0, 2.0)):
    """Two gradients (2, 2) with an angle between them; along neither axis."""
    angles = np.radians([20, 20 + degrees])
    return np.stack([np.cos(angles), np.sin(angles)], 1) * np.array(lengths)[:, None]


def combined(way, gradients):
    """What a way makes of gradients (T, n) of one parameter."""
    weights = way(step_of((1.0,) * len(gradients), gradients[None]), {}).numpy()
    return weights @ gradients


# The ways


@pytest.mark.parametrize("degrees", [15, 60, 90, 120, 150, 179])
@pytest.mark.parametrize("lengths", [(1.0, 2.0), (3.0, 0.1)])
def test_pcgrad_is_the_closed_form_of_two_tasks(degrees, lengths):
    a, b = gradients = at_angle(degrees, lengths)
    expected = a + b
    if a @ b < 0:
        expected = a - (a @ b) / (b @ b) * b + b - (a @ b) / (a @ a) * a
    np.testing.assert_allclose(combined(pcgrad, gradients), expected, atol=1e-12)


VECTORS = st.lists(st.integers(-9, 9), min_size=8, max_size=8).map(
    lambda numbers: np.array(numbers, float).reshape(2, 4)
)


@given(gradients=VECTORS)
def test_pcgrad_goes_against_neither_of_two_tasks(gradients):
    a, b = gradients
    result = combined(pcgrad, gradients)
    assert result @ a >= -1e-9
    assert result @ b >= -1e-9
    if a @ b >= 0:
        np.testing.assert_array_equal(result, a + b)


def test_pcgrad_of_three_tasks_is_the_loop_of_the_paper():
    rng = np.random.default_rng(5)
    gradients = rng.normal(size=(3, 4))
    order, expected = np.random.default_rng(0), np.zeros(4)
    for i in range(3):
        own = gradients[i].copy()
        for j in order.permutation([j for j in range(3) if j != i]):
            if own @ gradients[j] < 0:
                own -= own @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
        expected += own
    assert not np.allclose(expected, gradients.sum(0))
    np.testing.assert_allclose(combined(pcgrad, gradients), expected, atol=1e-12)


def worst_gain(gradients, direction):
    return (gradients @ direction).min()


@pytest.mark.parametrize("degrees", [20, 80, 120, 170])
@pytest.mark.parametrize("lengths", [(1.0, 1.0), (1.0, 5.0)])
def test_cagrad_solves_its_dual(degrees, lengths):
    gradients = at_angle(degrees, lengths)
    mean = gradients.mean(0)
    root = RADIUS * np.linalg.norm(mean)

    def dual(w):
        own = np.array([w, 1 - w]) @ gradients
        return own @ mean + root * np.linalg.norm(own)

    w = minimize_scalar(dual, bounds=(0, 1), method="bounded", options={"xatol": 1e-12}).x
    w = min((w, 0.0, 1.0), key=dual)
    own = np.array([w, 1 - w]) @ gradients
    expected = 2 * (mean + root * own / np.linalg.norm(own))
    found = combined(cagrad, gradients)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_cagrad_of_three_tasks_is_the_best_of_all_directions():
    """Its primal by brute force: no direction of the ball helps the worst task more."""
    gradients = np.array([[1.0, 0.2, 0.0], [-0.8, 0.5, 0.3], [0.1, -0.4, 1.0]])
    found = combined(cagrad, gradients) / 3
    mean = gradients.mean(0)
    rng = np.random.default_rng(0)
    around = rng.normal(size=(200_000, 3))
    around *= RADIUS * np.linalg.norm(mean) / np.linalg.norm(around, axis=1, keepdims=True)
    best = (gradients @ (mean + around).T).min(0).max()
    assert np.linalg.norm(found - mean) == pytest.approx(RADIUS * np.linalg.norm(mean))
    assert worst_gain(gradients, found) == pytest.approx(best, abs=1e-3)
    assert worst_gain(gradients, found) >= best - 1e-9


@given(gradients=VECTORS)
def test_cagrad_helps_the_worst_task_no_less_than_the_mean_does(gradients):
    mean = gradients.mean(0)
    assert worst_gain(gradients, combined(cagrad, gradients) / 2) >= worst_gain(
        gradients, mean
    ) - 1e-5 * (1 + np.abs(gradients).max() ** 2)


def test_gradnorm_takes_the_step_counted_by_hand():
    """Norms 3 and 1; the first task's loss has halved, the second's is as it was."""
    state = {}
    gradients = [[[3.0, 0.0], [0.0, 1.0]]]
    first = gradnorm(step_of((2.0, 1.0), gradients), state)
    np.testing.assert_array_equal(first, [1, 1])
    # equal rates: both norms are to be 2, so that the weights go by 0.025 * 3 and 0.025 * 1
    by_hand = np.array([1 - 0.075, 1 + 0.025])
    by_hand *= 2 / by_hand.sum()
    second = gradnorm(step_of((1.0, 1.0), gradients), state)
    np.testing.assert_allclose(second, by_hand, rtol=1e-12)
    # rates 1/2 and 1 over their mean 3/4, to the power 1.5
    norms = by_hand * [3, 1]
    target = norms.mean() * np.array([2 / 3, 4 / 3]) ** 1.5
    assert norms[0] > target[0]
    assert norms[1] < target[1]
    by_hand += np.array([-0.075, 0.025])
    by_hand *= 2 / by_hand.sum()
    np.testing.assert_allclose(state["weights"], by_hand, rtol=1e-12)


def test_gradnorm_without_a_shared_matrix_weighs_nothing():
    np.testing.assert_array_equal(gradnorm(step_of(last=None), {}), [1, 1])


def test_uncertainty_ends_where_its_loss_is_least():
    """L / s + log(s) / 2 is least at s = 2 L."""
    state = {}
    losses = (0.2, 1.7)
    for _ in range(3000):
        weights = uncertainty(step_of(losses, rate=0.01), state)
    np.testing.assert_allclose(1 / weights, [0.4, 3.4], rtol=1e-4)


def test_dwa_is_the_hand_count_of_three_epochs():
    state = {}
    epochs = [[(4.0, 1.0), (2.0, 1.0)], [(1.5, 1.0)], [(1.0, 0.5), (1.0, 0.7)]]
    found = []
    for losses in epochs:
        for number, own in enumerate(losses):
            found.append(dwa(step_of(own, starts=number == 0), state).numpy())
    np.testing.assert_array_equal(found[:3], np.ones((3, 2)))
    # the means were (3, 1) and (1.5, 1)
    ratio = np.exp(np.array([0.5, 1.0]) / 2)
    expected = 2 * ratio / ratio.sum()
    np.testing.assert_allclose(found[3:], [expected, expected], rtol=1e-12)


def test_metabalance_brings_norms_together_by_parameter():
    state = {}
    # of two parameters: norms 4 and 1, then 1 and 2
    gradients = np.array([[[4.0, 0], [0, 1]], [[0, 1], [2, 0]]])
    weights = metabalance(step_of(gradients=gradients), state).numpy()
    np.testing.assert_allclose(weights, [[1, 0.7 * 4 + 0.3], [1, 0.7 / 2 + 0.3]])
    # moving averages: 0.9 of a tenth of the former, and a tenth of the new
    weights = metabalance(step_of(gradients=gradients[::-1].copy()), state).numpy()
    means = 0.09 * np.array([[4.0, 1], [1, 2]]) + 0.1 * np.array([[1.0, 2], [4, 1]])
    np.testing.assert_allclose(weights, 0.7 * means[:, :1] / means + 0.3)


# The steps


def linear_tasks(gradients, start, own=0.0):
    """Two losses of a shared vector with given gradients, each with a weight of its own."""
    shared = torch.nn.Parameter(torch.tensor(start))
    head = torch.nn.Parameter(torch.ones(2))
    slopes = torch.tensor(gradients, dtype=torch.float32)

    def losses():
        return [slopes[t] @ shared + own * (t + 1) * head[t] for t in range(2)]

    return shared, head, losses


class Descent(Adam):
    """Plain steps in the place of Adam's."""

    def step(self):
        with torch.no_grad():
            for p in (p for group, _ in self.groups for p in group if p.grad is not None):
                p.sub_(self.learning_rate * p.grad)


@pytest.mark.parametrize("degrees", [110, 130, 150, 170])
def test_pcgrad_lowers_both_losses_where_their_sum_lowers_one(degrees):
    gradients = at_angle(degrees, (1.0, 10.0))
    changes = {}
    for way in ("pcgrad", "dwa"):
        p, _, losses = linear_tasks(gradients, [1.0, 1.0])
        before = torch.stack(losses()).detach()
        Balance(way, 1.0).step(losses(), [p], Descent([([p], 0.0)], 0.01))
        changes[way] = (torch.stack(losses()) - before).tolist()
    assert max(changes["pcgrad"]) < 0
    assert changes["dwa"][0] > 0 > changes["dwa"][1], "the plain sum, before weights move"


@pytest.mark.parametrize("way", [*OF_LOSSES, *OF_GRADIENTS])
def test_what_is_a_tasks_own_is_weighted_with_its_loss_alone(way):
    shared, head, losses = linear_tasks(at_angle(150, (2.0, 1.0)), [5.0, 5.0], own=0.5)
    balance = Balance(way, 1.0)
    parameters = [shared, head]
    balance.step(losses(), parameters, Descent([(parameters, 0.0)], 0.1))
    # all losses' first weights are 1
    np.testing.assert_allclose(1 - head.detach(), [0.05, 0.1], rtol=1e-5)
    a, b = at_angle(150, (2.0, 1.0))
    moved = 5 - shared.detach().numpy()
    if way in OF_LOSSES:
        np.testing.assert_allclose(moved, 0.1 * (a + b), rtol=1e-4, atol=1e-5)
    else:
        assert not np.allclose(moved, 0.1 * (a + b), atol=1e-3)


def test_pcgrads_projection_is_of_what_is_shared():
    """The heads' own columns, however steep, leave it as it is without them."""
    results = []
    for own in (0.0, 100.0):
        shared, head, losses = linear_tasks(at_angle(120), [1.0, 1.0], own)
        parameters = [head, shared]
        Balance("pcgrad", 1.0).step(losses(), parameters, Descent([(parameters, 0.0)], 0.1))
        results.append(shared.detach().numpy().copy())
    np.testing.assert_allclose(*results)


def test_adatask_of_one_task_is_adam():
    rng = np.random.default_rng(1)
    target = torch.tensor(rng.normal(size=(5, 3)), dtype=torch.float32)
    ends = []
    for way in (ADATASK, None):
        p = torch.nn.Parameter(torch.ones(5, 3))
        adam = Adam([([p], 0.3)], 0.05)
        balance = Balance(ADATASK, 1.0)
        for _ in range(30):
            loss = ((p - target) ** 2).sum()
            if way:
                balance.step([loss], [p], adam)
            else:
                adam.zero_grad()
                torch.autograd.backward(loss)
                adam.step()
        ends.append(p.detach().numpy().copy())
    np.testing.assert_allclose(*ends, rtol=1e-4, atol=1e-5)


def test_adatask_gives_tasks_of_unlike_scale_equal_steps():
    """Opposite gradients, one a thousand times the other: Adam follows the larger, this neither."""
    ends = {}
    for way in (ADATASK, "metabalance"):
        p = torch.nn.Parameter(torch.zeros(3))
        for _ in range(10):
            balance = Balance(way, 1.0)
            balance.step([1000 * p.sum(), -p.sum()], [p], Adam([([p], 0.0)], 0.1))
        ends[way] = p.detach().abs().max().item()
    assert ends[ADATASK] < 1e-6
    assert ends["metabalance"] > 0.1


def test_adatasks_penalty_leaves_tasks_out_that_never_reach_a_weight():
    p = torch.nn.Parameter(torch.tensor([2.0, 2.0]))
    adam = Adam([([p], 1e-6)], 0.1)
    balance = Balance(ADATASK, 1.0)
    for _ in range(5):
        balance.step([p[0] * 3, p[1] * 0], [p], adam)
    # whole steps of 0.1: the first weight's task takes one at a time, the penalty of what no task
    # has reached yet one for each
    np.testing.assert_allclose(p.detach(), [1.5, 1.0], atol=0.05)


# In training


@pytest.fixture
def tasks(multi_interactions):
    return multi_interactions


@pytest.fixture(scope="module")
def plain_states():
    """Weights of trainings without balance, by arm."""
    return {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("arm", "backbone", "loss"),
    [("base", "wdl", "mean"), ("mlora", "mlp", "balanced"), ("mdmt", "m3oe", "balanced")],
)
def test_every_way_trains_and_parts_from_the_plain_loss(
    make_assignment, tasks, plain_states, way, arm, backbone, loss
):
    changed = {"training.learning_rate": 0.02, "training.batch_size": 400, "protocol.loss": loss}
    plain = make_assignment(arm, data=tasks, backbone=backbone, **changed)
    if arm not in plain_states:
        plain_states[arm] = train(plain).state
    changed["training.balance"] = way
    made = train(make_assignment(arm, data=tasks, backbone=backbone, **changed))
    losses = [point["train_loss"] for point in made.curve if point["train_loss"] is not None]
    assert losses[-1] < losses[0]
    assert not all(np.allclose(made.state[n], a) for n, a in plain_states[arm].items())


@pytest.mark.parametrize(
    ("loss", "optimizer"), [("mean", "adam"), ("balanced", "adam"), ("mean", "lazy_adam")]
)
def test_weights_of_one_train_as_without(make_assignment, tasks, monkeypatch, loss, optimizer):
    monkeypatch.setitem(OF_LOSSES, "dwa", lambda step, state: torch.ones_like(step.losses))
    changed = {"training.learning_rate": 0.01, "training.batch_size": 400, "protocol.loss": loss}
    changed["training.optimizer"] = optimizer
    made, plain = (
        train(
            make_assignment(
                "base", data=tasks, backbone="wdl", **changed, **{"training.balance": balance}
            )
        )
        for balance in ("dwa", "none")
    )
    for name, array in plain.state.items():
        np.testing.assert_allclose(made.state[name], array, atol=2e-5)


def test_what_a_model_adds_to_the_loss_counts_whole(make_assignment, tasks, monkeypatch):
    monkeypatch.setitem(OF_LOSSES, "dwa", lambda step, state: torch.ones_like(step.losses))
    monkeypatch.setattr(CTRModel, "auxiliary_loss", lambda self: 3 * (self.head**2).sum())
    changed = {"training.batch_size": 400}
    made, plain = (
        train(make_assignment("base", data=tasks, **changed, **{"training.balance": balance}))
        for balance in ("dwa", "none")
    )
    for name, array in plain.state.items():
        np.testing.assert_allclose(made.state[name], array, atol=2e-5)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_goes_on_from_any_epoch(make_assignment, tasks, monkeypatch, way):
    changed = {"training.balance": way, "training.learning_rate": 0.02, "training.batch_size": 400}
    goes_on_from_any_epoch(make_assignment("base", data=tasks, **changed), monkeypatch)


def test_with_one_task_it_trains_as_without_and_says_so(make_assignment, capsys):
    plain = train(make_assignment("base"))
    capsys.readouterr()
    made = train(make_assignment("base", **{"training.balance": "pcgrad"}))
    assert "training.balance 'pcgrad' does nothing: there is one task" in capsys.readouterr().err
    for name, array in plain.state.items():
        np.testing.assert_array_equal(made.state[name], array)


# Refused


def test_other_arms_refuse_it_before_training():
    able = {name for name, arm in ARMS.items() if arm.balances}
    for name, arm in ARMS.items():
        changed = study(**{"training.balance": "cagrad"})
        if name in able or "training" not in arm.reads:
            assert changed.settings(name).training.balance == "cagrad"
        else:
            with pytest.raises(UserError, match=r"training.balance is cagrad, but arm"):
                changed.settings(name)
    assert {"base", "mlora", "mdmt"} <= able


@pytest.mark.parametrize(
    ("way", "key", "value", "message"),
    [
        ("pcgrad", "compiled", True, "balance 'pcgrad' takes the gradients task by task"),
        ("adatask", "optimizer", "lazy_adam", "balance 'adatask' is an Adam of its own"),
    ],
)
def test_a_setting_that_it_cannot_go_with_is_refused(way, key, value, message):
    changed = study(**{"training.balance": way, f"training.{key}": value})
    with pytest.raises(UserError, match=message):
        changed.settings("base")


def test_the_default_is_no_part_of_a_key(make_assignment):
    run = make_assignment("base").run
    assert "balance" not in run.payload()["training"]
    other = run.settings.training.model_copy(update={"balance": "dwa"})
    changed = dataclasses.replace(run, settings=run.settings.model_copy(update={"training": other}))
    assert changed.payload()["training"]["balance"] == "dwa"
