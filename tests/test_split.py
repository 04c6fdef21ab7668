import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from domain_experts import layout
from domain_experts.data.interactions import Interactions, write
from domain_experts.data.sampling import with_negatives
from domain_experts.data.split import by_user_negatives, read_split, stratified, write_splits
from domain_experts.errors import UserError
from domain_experts.schema import Schema

FRACTIONS = SimpleNamespace(validation_fraction=0.2, test_fraction=0.2)

rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=1, max_size=300)
fractions = st.tuples(st.floats(0, 0.5), st.floats(0, 0.49))
seeds = st.integers(0, 2**32 - 1)


def slow(domain, label, seed, validation_fraction, test_fraction):
    """Deal the rows of each stratum, in the seed's order, one by one."""
    order = np.random.default_rng(seed).permutation(len(domain))
    split = np.zeros(len(domain), np.uint8)
    for stratum in set(zip(domain.tolist(), label.tolist(), strict=True)):
        members = [row for row in order if (domain[row], label[row]) == stratum]
        tests = int(len(members) * test_fraction + 0.5)
        validations = int(len(members) * validation_fraction + 0.5)
        for rank, row in enumerate(members):
            if rank < tests:
                split[row] = 2
            elif rank < tests + validations:
                split[row] = 1
    return split


@given(rows, seeds, fractions)
def test_equals_the_slow_version(rows, seed, fractions):
    domain, label = np.array(rows).T
    expected = slow(domain, label, seed, *fractions)
    np.testing.assert_array_equal(stratified(domain, label, seed, *fractions), expected)


@given(rows, seeds, fractions)
def test_every_domain_and_label_has_its_share_to_one_row(rows, seed, fractions):
    domain, label = np.array(rows).T
    split = stratified(domain, label, seed, *fractions)
    assert split.dtype == np.uint8
    for d, y in set(rows):
        stratum = split[(domain == d) & (label == y)]
        for part, fraction in ((1, fractions[0]), (2, fractions[1])):
            assert abs((stratum == part).sum() - fraction * len(stratum)) <= 1


@given(rows, seeds, st.integers(0, 4))
def test_other_domains_names_change_nothing(rows, seed, shift):
    domain, label = np.array(rows).T
    before = stratified(domain, label, seed, 0.2, 0.2)
    np.testing.assert_array_equal(before, stratified(domain + shift, label, seed, 0.2, 0.2))


def test_seeds_differ_and_repeat():
    domain, label = np.random.default_rng(0).integers(0, 2, (2, 500))
    first = stratified(domain, label, 1, 0.2, 0.2)
    np.testing.assert_array_equal(first, stratified(domain, label, 1, 0.2, 0.2))
    assert (first != stratified(domain, label, 2, 0.2, 0.2)).any()


def make(domain, labels, name="toy"):
    domain = np.asarray(domain, np.int16)
    labels = np.asarray(labels, np.uint8).reshape(len(domain), -1)
    domains = int(domain.max()) + 1
    interactions = Interactions(
        schema=Schema(
            fields=(("domain", domains),),
            dense=(),
            domains=tuple("abcdef"[:domains]),
            tasks=tuple(f"task {t}" for t in range(labels.shape[1])),
        ),
        fields=domain.astype(np.int32)[:, None],
        dense=np.zeros((len(domain), 0), np.float32),
        labels=labels,
        domain=domain,
    )
    write(interactions, layout.interactions(name), {})
    return interactions


def test_index_counts_what_the_files_hold(project):
    rng = np.random.default_rng(0)
    made = make(np.arange(400) % 3, rng.integers(0, 2, (400, 2)))
    write_splits(FRACTIONS, "quick", "toy", [5, 6])
    index = json.loads(layout.split_index("quick", "toy").read_text())
    for seed in (5, 6):
        split = read_split("quick", "toy", seed)
        for part, name in enumerate(("train", "validation", "test")):
            for d in range(3):
                member = (split == part) & (made.domain == d)
                entry = index["seeds"][str(seed)]
                assert entry["rows"][name][d] == member.sum()
                for t in range(2):
                    positives = entry["positives"][f"task {t}"][name][d]
                    assert positives == made.labels[member, t].sum()


def test_two_tasks_are_stratified_together(project):
    labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 50)
    make(np.zeros(200), labels)
    write_splits(FRACTIONS, "quick", "toy", [1])
    test = labels[read_split("quick", "toy", 1) == 2]
    _, counts = np.unique(test, axis=0, return_counts=True)
    assert counts.tolist() == [10, 10, 10, 10]


def test_a_domain_with_one_class_is_split_and_named(project):
    make([0] * 50 + [1] * 50, [0, 1] * 25 + [1] * 50)
    write_splits(FRACTIONS, "quick", "toy", [1])
    index = json.loads(layout.split_index("quick", "toy").read_text())
    assert index["seeds"]["1"]["one_class"] == {
        "task 0": {"train": ["b"], "validation": ["b"], "test": ["b"]}
    }


def test_a_domain_too_small_for_test_rows_is_refused_by_name(project):
    make([0] * 50 + [1] * 2, [0, 1] * 26)
    with pytest.raises(UserError, match=r"toy: too few rows for validation rows in: b;"):
        write_splits(FRACTIONS, "quick", "toy", [1])
    assert not layout.split_index("quick", "toy").exists()


def test_splits_of_seeds_no_longer_asked_for_go(project):
    make([0] * 50, [0, 1] * 25)
    write_splits(FRACTIONS, "quick", "toy", [1, 2])
    kept = layout.split_file("quick", "toy", 1).read_bytes()
    write_splits(FRACTIONS, "quick", "toy", [1])
    names = sorted(path.name for path in layout.splits("quick", "toy").iterdir())
    assert names == ["seed=1.npy", "splits.json"]
    assert layout.split_file("quick", "toy", 1).read_bytes() == kept


def test_a_split_that_does_not_fit_is_refused(project):
    make([0] * 50, [0, 1] * 25)
    with pytest.raises(UserError, match=r"splits\.json is missing; run `domain-experts split toy"):
        read_split("quick", "toy", 1)
    write_splits(FRACTIONS, "quick", "toy", [1])
    with pytest.raises(UserError, match=r"seed=2\.npy is missing"):
        read_split("quick", "toy", 2)
    path = layout.split_file("quick", "toy", 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\0\0")
    with pytest.raises(UserError, match=r"seed=1\.npy does not fit"):
        read_split("quick", "toy", 1)
    path.write_bytes(whole)
    make([0] * 50, [1, 0] * 25)
    with pytest.raises(UserError, match="drawn for other rows than toy now holds"):
        read_split("quick", "toy", 1)


def test_splitting_needs_interactions(project):
    with pytest.raises(UserError, match=r"card\.json is missing; run `domain-experts prepare toy`"):
        write_splits(FRACTIONS, "quick", "toy", [1])


def sklearn_sizes(n):
    """Rows of the public code's two calls; it takes a single held-out row for testing."""
    rows = np.arange(n)
    train, rest = train_test_split(rows, test_size=1.0 - 0.6, random_state=0)
    if len(rest) == 1:
        return len(train), 0, 1
    validation, test = train_test_split(rest, test_size=0.2 / (0.2 + 0.2), random_state=0)
    return len(train), len(validation), len(test)


@pytest.mark.parametrize("n", [*range(2, 60), 97, 1000, 12345])
def test_sizes_of_negatives_are_those_of_the_public_code(n):
    zeros = np.zeros(n, np.int64)
    split = by_user_negatives(zeros, zeros, zeros, 1, 0.2, 0.2)
    assert tuple(np.bincount(split, minlength=3)) == sklearn_sizes(n)


def test_of_two_negatives_one_is_for_training_and_one_for_the_test():
    zeros = np.zeros(2, np.int64)
    assert sorted(by_user_negatives(zeros, zeros, zeros, 1, 0.2, 0.2)) == [0, 2]


sampled = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=300
)


@given(sampled, seeds)
def test_negatives_are_split_by_user_and_positives_by_domain(rows, seed):
    user, domain, label = np.array(rows).T
    split = by_user_negatives(user, domain, label, seed, 0.2, 0.2)
    strata = {
        (d, None if y else u): (domain == d) & (label == y) & ((label == 1) | (user == u))
        for u, d, y in set(rows)
    }
    assert sum(stratum.sum() for stratum in strata.values()) == len(rows)
    for stratum in strata.values():
        n = int(stratum.sum())
        held_out = math.ceil(0.4 * n)
        test = math.ceil(held_out / 2)
        expected = [n - held_out, held_out - test, test]
        assert np.bincount(split[stratum], minlength=3).tolist() == expected
    np.testing.assert_array_equal(
        split, by_user_negatives(user, domain, label, seed, 0.2, 0.2), strict=True
    )


def test_sampled_negatives_of_users_with_few_clicks_have_the_published_shares(project):
    """Of MAMDR's Taobao-10: 53, 22 and 25 % (92,137, 37,645 and 43,502 rows)."""
    rng = np.random.default_rng(0)
    users = 23_778
    # as many clicks a user as give about as many rows as were published
    user = np.repeat(np.arange(users), rng.geometric(0.6, users))
    domain = rng.integers(0, 10, users)[user]
    item = (700 * rng.random(len(user)) ** 2).astype(int) + 700 * domain
    made = with_negatives(user, item, domain, [f"theme {d}" for d in range(10)])
    write(made, layout.interactions("toy"), {})
    write_splits(FRACTIONS, "quick", "toy", [1, 2])
    split = read_split("quick", "toy", 1)
    assert (split != read_split("quick", "toy", 2)).any()
    shares = np.bincount(split) / len(split)
    np.testing.assert_allclose(shares, np.array([92137, 37645, 43502]) / 173284, atol=0.01)
    positive = made.labels[:, 0] == 1
    np.testing.assert_allclose(np.bincount(split[positive]) / positive.sum(), [0.6, 0.2, 0.2], 0.02)


def test_a_given_split_is_that_of_every_seed(project):
    made = make([0] * 50 + [1] * 50, [0, 1] * 50)
    given_split = np.repeat(np.array([0, 0, 1, 2, 0], np.uint8), 20)
    write(replace(made, given_split=given_split), layout.interactions("toy"), {})
    with pytest.raises(UserError, match="too few rows for test rows in: a"):
        write_splits(FRACTIONS, "quick", "toy", [1])
    given_split = np.tile(np.array([0, 0, 1, 2, 0], np.uint8), 20)
    write(replace(made, given_split=given_split), layout.interactions("toy"), {})
    write_splits(FRACTIONS, "quick", "toy", [1, 2])
    for seed in (1, 2):
        np.testing.assert_array_equal(read_split("quick", "toy", seed), given_split, strict=True)
