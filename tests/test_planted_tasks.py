from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from domain_experts import layout
from domain_experts.data.interactions import Interactions, write
from domain_experts.data.planted_tasks import generate, task_directions
from domain_experts.data.prepare import prepare
from domain_experts.data.specs import PlantedTasks
from domain_experts.data.split_rules import stratified
from domain_experts.params import load

SPEC = PlantedTasks(
    source="planted-tasks",
    seed=1,
    rows=40_000,
    users=30,
    items=40,
    domains=4,
    groups=2,
    latent_dim=5,
    common=1.0,
    strength=1.5,
    sparsity=0.5,
    skew=0.8,
    positive_rates={"click": 0.5, "like": 0.2},
    task_strength=2.0,
    agreement=0.0,
)


def spec(**changes):
    return PlantedTasks(**SPEC.model_dump() | changes)


def logits(made):
    return logit(made.truth.astype(np.float64))


@given(st.integers(1, 4), st.integers(4, 8), st.floats(-0.33, 1), st.integers(0, 99))
def test_directions_have_their_length_and_cosine(tasks, latent_dim, agreement, seed):
    found = task_directions(np.random.default_rng(seed), tasks, latent_dim, agreement)
    gram = found @ found.T / latent_dim
    expected = np.where(np.eye(tasks, dtype=bool), 1, agreement)
    np.testing.assert_allclose(gram, expected, atol=1e-9)


def test_one_task_has_its_probabilities_as_planted_clicks_have(tmp_path):
    made = generate(spec(rows=500, positive_rates={"click": 0.4}))
    assert made.truth.shape == (500,)
    write(made, tmp_path / "one", {})
    np.testing.assert_array_equal(Interactions.open(tmp_path / "one").truth, made.truth)


@pytest.mark.parametrize("agreement", [-1.0, -0.5, 0.0, 0.7])
def test_the_tasks_disagree_on_items_as_much_as_is_planted(agreement):
    made = generate(spec(items=3000, sparsity=0, agreement=agreement, rows=100_000))
    click, like = logits(made)[made.domain == 0].T
    # of two terms of variance s^2 with correlation c the difference has 2 s^2 (1 - c)
    expected = 2 * SPEC.task_strength**2 * (1 - agreement)
    assert np.var(click - like) == pytest.approx(expected, rel=0.1)


def test_tasks_that_agree_differ_by_a_constant_in_each_domain():
    made = generate(spec(agreement=1.0))
    difference = logits(made) @ [1, -1]
    for d in range(SPEC.domains):
        assert np.ptp(difference[made.domain == d]) < 1e-3


def item_rates(made):
    """(items, T) share of positive labels."""
    item = made.fields[:, 1]
    sums = [np.bincount(item, labels, made.schema.sizes[1]) for labels in made.labels.T]
    return np.stack(sums, axis=1) / np.bincount(item)[:, None]


def test_opposed_tasks_show_in_the_labels():
    """Items that one task likes the other does not, popularity notwithstanding."""
    rates = [item_rates(generate(spec(agreement=c, strength=0.0))) for c in (-1.0, 1.0)]
    opposed, same = (np.corrcoef(rate.T)[0, 1] for rate in rates)
    assert opposed < -0.2
    assert same > 0.8


def test_domains_of_one_group_differ_by_a_constant_and_others_do_not():
    made = generate(SPEC)
    assert made.planted_groups == (0, 1, 0, 1)
    for t in range(2):
        tables = []
        for d in range(SPEC.domains):
            mine = made.domain == d
            table = np.full(made.schema.sizes[:2], np.nan)
            table[tuple(made.fields[mine, :2].T)] = logits(made)[mine, t]
            tables.append(table)
        assert np.nanstd(tables[0] - tables[2]) < 1e-3
        assert np.nanstd(tables[0] - tables[1]) > 1


def test_the_truth_is_the_best_score_of_its_own_task():
    made = generate(spec(agreement=-0.5))
    for t in range(2):
        own, other = (roc_auc_score(made.labels[:, t], made.truth[:, s]) for s in (t, 1 - t))
        assert own > other + 0.1


def test_labels_are_drawn_with_the_true_probability():
    made = generate(SPEC)
    truth, labels = made.truth.astype(np.float64), made.labels.astype(np.float64)
    np.testing.assert_allclose(truth.mean(axis=0), [0.5, 0.2], atol=1e-6)
    for t in range(2):
        edges = np.quantile(truth[:, t], np.linspace(0, 1, 11)[1:-1])
        decile = np.digitize(truth[:, t], edges)
        for part in range(10):
            p, y = truth[decile == part, t], labels[decile == part, t]
            assert abs((y - p).sum()) < 4 * np.sqrt((p * (1 - p)).sum())


def test_the_seed_decides_everything():
    made, again = generate(SPEC), generate(SPEC)
    for name, array in made.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name], strict=True)
    assert (generate(spec(seed=2)).truth != made.truth).any()


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 3), st.floats(-0.5, 1), st.floats(0.5, 1))
def test_any_size_gives_rows_that_fit(domains, tasks, agreement, skew):
    rates = {f"task {t}": 0.2 + 0.1 * t for t in range(tasks)}
    made = generate(
        spec(
            rows=200,
            domains=domains,
            groups=1,
            agreement=agreement,
            skew=skew,
            positive_rates=rates,
        )
    )
    assert made.labels.shape == (200, tasks)
    assert made.truth.shape == ((200, tasks) if tasks > 1 else (200,))
    assert made.schema.tasks == tuple(rates)
    assert (made.fields >= 0).all()
    assert (made.fields < made.schema.sizes).all()
    np.testing.assert_array_equal(made.fields[:, 2], made.domain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agreement": -0.6, "positive_rates": dict.fromkeys("abc", 0.5)}, "is at least -0.500"),
        ({"latent_dim": 1}, "2 tasks need a latent_dim of 2 or more"),
        ({"groups": 9}, r"groups \(9\) exceed domains \(4\)"),
        ({"positive_rates": {"click": 1.0}}, "less than 1"),
        ({"positive_rates": {}}, "at least 1 item"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        spec(**changes)


def test_prepare_writes_the_truth_of_each_task(project):
    made = generate(SPEC)
    prepare("toy", SPEC)
    opened = Interactions.open(layout.interactions("toy"))
    np.testing.assert_array_equal(opened.truth, made.truth, strict=True)
    assert opened.schema.tasks == ("click", "like")
    assert opened.card["provenance"]["statement"] == "generated"


ROOT = Path(__file__).parents[1]
GENERATED = {
    name: made
    for name, made in load(ROOT / "params.yaml").data.datasets.items()
    if isinstance(made, PlantedTasks)
}


@pytest.mark.parametrize("name", GENERATED)
def test_every_generated_data_set_of_the_study_can_be_split(name):
    """Each domain and task has rows of both classes to train, validate and test on."""
    data = generate(GENERATED[name])
    rule = load(ROOT / "params.yaml").data.split_rule(name)
    split = stratified(data, 2022, rule.fractions)
    for labels in data.labels.T:
        cells = np.zeros((3, len(data.schema.domains), 2), int)
        np.add.at(cells, (split, data.domain, labels), 1)
        assert cells.min() >= 20
