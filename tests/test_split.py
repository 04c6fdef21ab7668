import json
from dataclasses import replace

import numpy as np
import pytest

from domain_experts import layout
from domain_experts.data.cut import write_splits
from domain_experts.data.interactions import Interactions, write
from domain_experts.data.sampling import with_negatives
from domain_experts.data.specs import SplitRule
from domain_experts.data.split import read_split
from domain_experts.errors import UserError
from domain_experts.schema import Schema

FIFTHS = {"validation_fraction": 0.2, "test_fraction": 0.2}
STRATIFIED = SplitRule(rule="stratified", **FIFTHS)


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
    write_splits(STRATIFIED, "quick", "toy", [5, 6])
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
    write_splits(STRATIFIED, "quick", "toy", [1])
    test = labels[read_split("quick", "toy", 1) == 2]
    _, counts = np.unique(test, axis=0, return_counts=True)
    assert counts.tolist() == [10, 10, 10, 10]


def test_a_domain_with_one_class_is_split_and_named(project):
    make([0] * 50 + [1] * 50, [0, 1] * 25 + [1] * 50)
    write_splits(STRATIFIED, "quick", "toy", [1])
    index = json.loads(layout.split_index("quick", "toy").read_text())
    assert index["seeds"]["1"]["one_class"] == {
        "task 0": {"train": ["b"], "validation": ["b"], "test": ["b"]}
    }


def test_a_domain_too_small_for_test_rows_is_refused_by_name(project):
    make([0] * 50 + [1] * 2, [0, 1] * 26)
    with pytest.raises(UserError, match=r"toy: too few rows for validation rows in: b;"):
        write_splits(STRATIFIED, "quick", "toy", [1])
    assert not layout.split_index("quick", "toy").exists()


def test_splits_of_seeds_no_longer_asked_for_go(project):
    make([0] * 50, [0, 1] * 25)
    write_splits(STRATIFIED, "quick", "toy", [1, 2])
    kept = layout.split_file("quick", "toy", 1).read_bytes()
    write_splits(STRATIFIED, "quick", "toy", [1])
    names = sorted(path.name for path in layout.splits("quick", "toy").iterdir())
    assert names == ["seed=1.npy", "splits.json"]
    assert layout.split_file("quick", "toy", 1).read_bytes() == kept


def test_a_split_that_does_not_fit_is_refused(project):
    make([0] * 50, [0, 1] * 25)
    with pytest.raises(UserError, match=r"splits\.json is missing; run `domain-experts split toy"):
        read_split("quick", "toy", 1)
    write_splits(STRATIFIED, "quick", "toy", [1])
    with pytest.raises(UserError, match=r"seed=2\.npy is missing"):
        read_split("quick", "toy", 2)
    path = layout.split_file("quick", "toy", 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\0\0")
    with pytest.raises(UserError, match=r"seed=1\.npy is damaged"):
        read_split("quick", "toy", 1)
    path.write_bytes(whole)
    make([0] * 50, [1, 0] * 25)
    with pytest.raises(UserError, match="drawn for other rows than toy now holds"):
        read_split("quick", "toy", 1)


def test_splitting_needs_interactions(project):
    with pytest.raises(UserError, match=r"card\.json is missing; run `domain-experts prepare toy`"):
        write_splits(STRATIFIED, "quick", "toy", [1])


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
    write_splits(SplitRule(rule="by_user_negatives", **FIFTHS), "quick", "toy", [1, 2])
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
        write_splits(SplitRule(rule="given"), "quick", "toy", [1])
    given_split = np.tile(np.array([0, 0, 1, 2, 0], np.uint8), 20)
    write(replace(made, given_split=given_split), layout.interactions("toy"), {})
    write_splits(SplitRule(rule="given"), "quick", "toy", [1, 2])
    for seed in (1, 2):
        np.testing.assert_array_equal(read_split("quick", "toy", seed), given_split, strict=True)


def test_a_rule_that_the_data_do_not_allow_names_data_set_and_rule(project):
    make([0] * 50, [0, 1] * 25)
    message = r"toy: split rule leave_one_out: it needs the user .*data\.datasets\.toy\.split"
    with pytest.raises(UserError, match=message):
        write_splits(SplitRule(rule="leave_one_out"), "quick", "toy", [1])
    assert not layout.split_index("quick", "toy").exists()


def test_a_split_of_rows_whose_times_changed_is_refused(project):
    made = make([0] * 50, [0, 1] * 25)
    for shift in (0, 7):
        write(replace(made, time=np.arange(50) + shift), layout.interactions("toy"), {})
        if not shift:
            write_splits(SplitRule(rule="by_time", **FIFTHS), "quick", "toy", [1])
            assert read_split("quick", "toy", 1).tolist() == [0] * 30 + [1] * 10 + [2] * 10
    with pytest.raises(UserError, match="drawn for other rows than toy now holds"):
        read_split("quick", "toy", 1)


def test_the_index_says_by_which_rule(project):
    make([0] * 50, [0, 1] * 25)
    write_splits(SplitRule(rule="positional", **FIFTHS), "quick", "toy", [1])
    index = json.loads(layout.split_index("quick", "toy").read_text())
    found = index["rule"], index["validation_fraction"], index["test_fraction"]
    assert found == ("positional", 0.2, 0.2)
