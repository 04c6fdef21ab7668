"""The field-aware factorisation machine and the trees, against slow obvious versions."""

import itertools
from dataclasses import replace

import lightgbm as lgb
import numpy as np
import pytest
import torch
from assignments import finished, make_assignment, multi_data, small_data, train
from sklearn.metrics import log_loss, roc_auc_score

from domain_experts.models.ctr import CTRContext
from domain_experts.models.field_aware_fm import FieldAwareFM
from domain_experts.registry import ARMS, FLOORS
from domain_experts.schema import Schema
from domain_experts.settings import ModelSettings
from domain_experts.training import trees
from domain_experts.training.folds import fold_of_rows
from domain_experts.training.rate_features import rate_features

SIZES, WIDTH = (5, 4, 3, 2), 3
CHANGED = {"trees.max_rounds": 40, "trees.patience": 10, "trees.leaves": 5, "trees.folds": 3}


def test_floors_take_no_backbone():
    assert {name for name, arm in ARMS.items() if arm.floor} == FLOORS
    assert not any(ARMS[name].backbone for name in FLOORS)


# Field-aware factorisation machine


def new_ffm(vectors=None):
    schema = Schema(tuple(zip("abcd", SIZES, strict=True)), ("age",), ("x", "y"), ("click", "like"))
    settings = ModelSettings(embedding_dim=WIDTH, hidden=(4,), dropout=0.5, l2=0.0)
    stream = torch.Generator().manual_seed(0)
    model = FieldAwareFM(
        CTRContext(schema, settings, stream, embedding_std=1.0, vectors=vectors or {})
    ).double()
    for parameter in (model.linear.weights.weight, model.linear.dense, model.bias):
        torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_row_is_the_sum_over_pairs_of_fields(pretrained):
    table = torch.randn(SIZES[1], WIDTH, generator=torch.Generator().manual_seed(1))
    model = new_ffm({"b": table} if pretrained else None)
    fields = torch.tensor([[4, 0, 1, 1], [2, 3, 2, 0], [0, 0, 0, 0]])
    dense = torch.tensor([[0.5], [-2.0], [0.0]], dtype=torch.float64)
    found = model(fields, dense, fields[:, 3])
    weight = model.embedding.weight.detach().numpy()
    trained = [size for j, size in enumerate(SIZES) if not (pretrained and j == 1)]

    def vector(field, code, other):
        """What a field's code has for another field."""
        if pretrained and field == 1:
            return table[code].double().numpy()
        place = field - (pretrained and field > 1)
        row = weight[sum(trained[:place]) + code].reshape(len(SIZES) - 1, WIDTH)
        return row[[f for f in range(len(SIZES)) if f != field].index(other)]

    linear = model.linear.weights.weight.detach().numpy()
    for row, codes in enumerate(fields.tolist()):
        pairs = 0.0
        for i, j in itertools.combinations(range(len(SIZES)), 2):
            pairs += vector(i, codes[i], j) @ vector(j, codes[j], i)
        for task in range(2):
            expected = pairs + model.bias[task].item()
            expected += dense[row, 0].item() * model.linear.dense[0, task].item()
            expected += sum(linear[sum(SIZES[:f]) + code, task] for f, code in enumerate(codes))
            assert found[row, task].item() == pytest.approx(expected, abs=1e-12)


def test_its_gradient_is_that_of_the_formula():
    model = new_ffm()
    fields = torch.tensor([[4, 0, 1, 1], [2, 3, 2, 0]])
    dense = torch.zeros(2, 1, dtype=torch.float64)

    def logits(weight):
        return torch.func.functional_call(
            model, {"embedding.weight": weight}, (fields, dense, fields[:, 3])
        )

    assert torch.autograd.gradcheck(logits, model.embedding.weight)


def test_it_is_a_factorisation_machine_where_a_code_has_one_vector_for_all_fields():
    model = new_ffm()
    with torch.no_grad():
        weight = model.embedding.weight
        weight.copy_(weight[:, :WIDTH].repeat(1, len(SIZES) - 1))
    fields = torch.tensor([[4, 0, 1, 1]])
    places = fields[0] + torch.tensor([0, *itertools.accumulate(SIZES[:-1])])
    e = model.embedding.weight[places, :WIDTH]
    pairs = (e.sum(0).square() - e.square().sum(0)).sum() / 2
    dense = torch.zeros(1, 1, dtype=torch.float64)
    wide = model.linear(fields, dense) + model.bias
    torch.testing.assert_close(model(fields, dense, fields[:, 3]), wide + pairs)


def test_all_of_it_but_the_bias_is_penalised():
    model = new_ffm()
    penalised = {id(p) for p in model.penalised()}
    rest = {name for name, p in model.named_parameters() if id(p) not in penalised}
    assert rest == {"bias"}


# Trees


@pytest.fixture(scope="module")
def assignment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trees")
    return make_assignment(folder, multi_data(), "lightgbm", **CHANGED)


@pytest.fixture(scope="module")
def made(assignment):
    return train(assignment)


def test_features_are_counted_row_by_row(assignment):
    """Of a sample of rows, by a loop over the rows that each feature may come from."""
    found = rate_features(assignment)
    data, m = assignment.interactions, assignment.settings.rates.smoothing
    train_rows = assignment.index("train")
    fold = dict(zip(train_rows, fold_of_rows(assignment, 3, "rates"), strict=True))
    names = [name for name, _ in data.schema.fields]
    rows = [assignment.index(split)[i] for split in ("train", "validation", "test") for i in (0, 7)]
    for n in rows:
        seen = np.array([r for r in train_rows if n not in fold or fold[r] != fold[n]])
        labels = data.labels[seen].astype(float)
        expected = [*data.dense[n], data.domain[n]]

        def add(alike, prior, seen=seen, labels=labels, expected=expected):
            rates = (labels[alike].sum(0) + m * prior) / (alike.sum() + m)
            expected += [alike.sum() / len(seen), *rates]
            return rates

        overall, own_domain = labels.mean(0), data.domain[seen] == data.domain[n]
        add(own_domain, overall)
        for j in range(len(names)):
            if names[j] != "domain":
                alike = data.fields[seen, j] == data.fields[n, j]
                after = expected[:]
                rates = add(alike, overall)
                assert len(expected) == len(after) + 3
                add(alike & own_domain, rates)
        np.testing.assert_allclose(found[n], expected, rtol=1e-5)


def test_a_training_rows_features_do_not_tell_its_label(assignment):
    data = assignment.interactions
    row = assignment.index("train")[3]
    labels = np.array(data.labels)
    labels[row] = 1 - labels[row]
    other = replace(assignment, interactions=replace(data, labels=labels))
    before, after = rate_features(assignment), rate_features(other)
    assert np.array_equal(before[row], after[row])
    assert not np.array_equal(before, after)


def test_labels_of_validation_and_test_rows_are_not_seen(assignment):
    data = assignment.interactions
    labels = np.array(data.labels)
    labels[assignment.split > 0] ^= 1
    other = replace(assignment, interactions=replace(data, labels=labels))
    assert np.array_equal(rate_features(assignment), rate_features(other))


def test_it_is_lightgbms_own_training_with_its_own_early_stopping(assignment, made):
    """By LightGBM's `train`, on one domain, where the macro AUC is its AUC."""
    data = assignment.interactions
    one = replace(
        data,
        domain=np.zeros_like(data.domain),
        schema=replace(data.schema, domains=("all",)),
    )
    alone = replace(assignment, interactions=one)
    found, x = train(alone), rate_features(alone)
    rows, held_out = alone.index("train"), alone.index("validation")
    for task in range(2):
        y = data.labels[:, task]
        own = lgb.Dataset(x[rows], y[rows])
        peer = lgb.train(
            {
                "objective": "binary", "metric": "auc", "verbose": -1, "num_leaves": 5,
                "learning_rate": 0.1, "min_data_in_leaf": 20, "lambda_l2": 1.0, "num_threads": 1,
            },
            own, 40, [lgb.Dataset(x[held_out], y[held_out], reference=own)],
            callbacks=[lgb.early_stopping(10, verbose=False)],
        )  # fmt: skip
        assert found.lanes[task].epoch_tested == peer.best_iteration
        raw = peer.predict(x[alone.index("test")], raw_score=True)
        np.testing.assert_allclose(found.logits["test"][:, task], raw, atol=1e-6)


def test_the_curve_is_that_of_the_boosters(assignment, made):
    x, data = rate_features(assignment), assignment.interactions
    rows, held_out = assignment.index("train"), assignment.index("validation")
    for task, lane in enumerate(made.lanes):
        points = [c for c in made.curve if c["lane"] == str(task)]
        assert [c["epoch"] for c in points] == list(range(1, lane.epochs + 1))
        point = points[lane.epoch_tested - 1]
        booster = lgb.Booster(model_str=made.state[f"booster.{task}"].tobytes().decode())
        assert booster.num_trees() == lane.epoch_tested
        y = data.labels[:, task]
        assert point["train_loss"] == pytest.approx(log_loss(y[rows], booster.predict(x[rows])))
        scores, domain = booster.predict(x[held_out]), data.domain[held_out]
        auc = [roc_auc_score(y[held_out][domain == d], scores[domain == d]) for d in range(3)]
        assert point["validation_auc"] == pytest.approx(np.mean(auc), abs=1e-9)
        best = max(points, key=lambda c: c["validation_auc"])
        assert best["epoch"] == lane.epoch_tested
        assert lane.epochs == min(40, lane.epoch_tested + 10)
        assert lane.rows_visited == lane.epochs * len(rows)
        assert lane.tasks == [task]


def test_the_same_bytes_each_time_and_the_same_trees_on_more_threads(assignment, made, monkeypatch):
    again = train(assignment)
    for name, text in made.state.items():
        assert np.array_equal(again.state[name], text)
    options = trees._options(assignment)
    assert options["num_threads"] == 1
    monkeypatch.setattr(trees, "_options", lambda _: options | {"num_threads": 2})
    threaded = train(assignment)
    for split, logits in made.logits.items():
        assert np.array_equal(again.logits[split], logits)
        assert np.array_equal(threaded.logits[split], logits)


def test_the_record_counts_thresholds_and_leaves(tmp_path):
    one = {"trees.max_rounds": 1, "trees.leaves": 4}
    record = finished(make_assignment(tmp_path, small_data(), "lightgbm", **one)).record
    assert record["parameters"]["total"] == 4 + 3
    assert record["lanes"][0]["capped"]


def test_one_class_in_training_gives_a_constant(tmp_path):
    data = small_data()
    assignment = make_assignment(tmp_path, data, "lightgbm", **CHANGED)
    labels = np.array(data.labels)
    labels[assignment.index("train")] = 0
    made = train(replace(assignment, interactions=replace(data, labels=labels)))
    assert len(np.unique(made.logits["test"])) == 1
    assert [lane.epochs for lane in made.lanes] == [1]


def test_they_beat_the_rates_that_they_see(tmp_path):
    """Only trees can tell which domain's rates matter."""
    data = small_data()
    scores = {}
    for arm in ("item_rate", "lightgbm"):
        assignment = make_assignment(tmp_path, data, arm, **CHANGED)
        y = data.labels[assignment.index("test"), 0]
        scores[arm] = roc_auc_score(y, train(assignment).logits["test"][:, 0])
    assert scores["lightgbm"] > scores["item_rate"] + 0.01
