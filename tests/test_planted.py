from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from domain_experts import layout
from domain_experts.data.interactions import Interactions
from domain_experts.data.planted import generate
from domain_experts.data.prepare import prepare
from domain_experts.data.specs import Fractions, Planted
from domain_experts.data.split_rules import stratified
from domain_experts.errors import UserError
from domain_experts.params import load

SPEC = Planted(
    source="planted",
    seed=1,
    rows=40_000,
    users=20,
    items=15,
    domains=4,
    groups=2,
    latent_dim=3,
    common=1.0,
    strength=1.5,
    sparsity=0.5,
    skew=0.8,
    positive_rate=0.3,
)


def spec(**changes):
    return Planted(**SPEC.model_dump() | changes)


@pytest.fixture(scope="module")
def made():
    return generate(SPEC)


def logit_table(interactions, domain):
    """(users, items) true logits of a domain; NaN where it has no such row."""
    mine = interactions.domain == domain
    table = np.full(interactions.schema.sizes[:2], np.nan)
    user, item = interactions.fields[mine, :2].T
    table[user, item] = logit(interactions.truth[mine].astype(np.float64))
    return table


def spread(interactions, one, other):
    """Standard deviation over (user, item) of the difference between two domains' logits."""
    return np.nanstd(logit_table(interactions, one) - logit_table(interactions, other))


def test_domains_of_one_group_differ_by_a_constant_and_others_do_not(made):
    assert made.planted_groups == (0, 1, 0, 1)
    assert spread(made, 0, 2) < 1e-4
    assert spread(made, 1, 3) < 1e-4
    assert spread(made, 0, 1) > 1
    assert spread(made, 2, 3) > 1


def test_without_strength_all_domains_are_alike():
    made = generate(spec(strength=0))
    assert max(spread(made, 0, d) for d in range(1, 4)) < 1e-4


def test_the_terms_have_unit_variance():
    # many vectors: activity, popularity, the common and the group's own affinity
    made = generate(spec(users=3000, items=3000, rows=300_000, sparsity=0, latent_dim=16))
    logits = logit(made.truth[made.domain == 0].astype(np.float64))
    assert np.var(logits) == pytest.approx(2 + SPEC.common**2 + SPEC.strength**2, rel=0.05)


def test_labels_are_drawn_with_the_true_probability(made):
    truth, label = made.truth.astype(np.float64), made.labels[:, 0].astype(np.float64)
    assert truth.mean() == pytest.approx(SPEC.positive_rate, abs=1e-6)
    decile = np.digitize(truth, np.quantile(truth, np.linspace(0, 1, 11)[1:-1]))
    for d in range(10):
        rows = decile == d
        deviation = np.sqrt((truth[rows] * (1 - truth[rows])).sum())
        assert abs((label - truth)[rows].sum()) < 4 * deviation


def test_domain_sizes_are_geometric(made):
    sizes = np.bincount(made.domain)
    assert sizes.sum() == SPEC.rows
    np.testing.assert_allclose(sizes[1:] / sizes[:-1], SPEC.skew, rtol=1e-3)


def test_users_and_items_follow_zipf(made):
    for j, size in ((0, SPEC.users), (1, SPEC.items)):
        counts = np.bincount(made.fields[:, j], minlength=size)
        weights = np.arange(1, size + 1) ** -SPEC.sparsity
        expected = SPEC.rows * weights / weights.sum()
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_the_seed_decides_everything(made):
    again = generate(SPEC)
    for name, array in made.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name], strict=True)
    assert (generate(spec(seed=2)).truth != made.truth).any()


@settings(max_examples=25)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(0.5, 1),
    st.floats(0.05, 0.95),
)
def test_any_size_gives_rows_that_fit(domains, groups, latent_dim, skew, positive_rate):
    made = generate(
        spec(
            rows=200,
            domains=domains,
            groups=min(groups, domains),
            latent_dim=latent_dim,
            skew=skew,
            positive_rate=positive_rate,
        )
    )
    assert (made.fields >= 0).all()
    assert (made.fields < made.schema.sizes).all()
    np.testing.assert_array_equal(made.fields[:, 2], made.domain)
    assert len(set(made.planted_groups)) == min(groups, domains)
    assert ((made.truth >= 0) & (made.truth <= 1)).all()


ROOT = Path(__file__).parents[1]
GENERATED = {
    name: spec
    for name, spec in load(ROOT / "params.yaml").data.datasets.items()
    if isinstance(spec, Planted)
}


@pytest.mark.parametrize("name", GENERATED)
def test_every_generated_data_set_of_the_study_can_be_split(name):
    """Each domain has rows of both classes to train, validate and test on."""
    data = generate(GENERATED[name])
    label, domain = data.labels[:, 0].astype(int), np.asarray(data.domain)
    split = stratified(data, 2022, Fractions(0.2, 0.2))
    cells = np.zeros((3, len(data.schema.domains), 2), int)
    np.add.at(cells, (split, domain, label), 1)
    assert cells.min() >= 5


def test_prepare_writes_the_truth_and_the_groups(project, made):
    prepare("toy", SPEC)
    opened = Interactions.open(layout.interactions("toy"))
    np.testing.assert_array_equal(opened.truth, made.truth, strict=True)
    assert opened.planted_groups == made.planted_groups
    assert opened.card["provenance"]["statement"] == "generated"


def test_a_domain_without_rows_is_refused_by_name(project):
    with pytest.raises(UserError, match="domains without rows: domain 2, domain 3;"):
        prepare("toy", spec(rows=10, skew=0.3))
