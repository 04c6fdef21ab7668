"""Split rules: what each promises, on random rows."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from domain_experts.data import split_rules
from domain_experts.data.interactions import Interactions
from domain_experts.data.specs import WITHOUT_FRACTIONS, Fractions
from domain_experts.data.split_rules import RULES
from domain_experts.errors import UserError
from domain_experts.schema import Schema

FIFTHS = Fractions(0.2, 0.2)
SEEDED = {"random", "stratified", "by_user_negatives"}

rows = st.lists(
    st.tuples(
        st.integers(0, 5),  # user
        st.integers(0, 4),  # domain
        st.integers(0, 1),  # label
        st.integers(-3, 20),  # time
        st.integers(0, 2),  # the split that came with the data
    ),
    min_size=1,
    max_size=300,
)
fractions = st.builds(Fractions, st.floats(0, 0.5), st.floats(0, 0.49))
seeds = st.integers(0, 2**32 - 1)


def table(rows):
    """Interactions of (user, domain, label, time, given split) rows."""
    user, domain, label, time, split = np.array(rows).reshape(-1, 5).T
    return Interactions(
        schema=Schema((("city", 1), ("user", 6)), (), tuple("abcde"), ("click",)),
        fields=np.stack([np.zeros(len(user)), user], axis=1).astype(np.int32),
        dense=np.zeros((len(user), 0), np.float32),
        labels=label[:, None].astype(np.uint8),
        domain=domain.astype(np.int16),
        time=time.astype(np.int64),
        given_split=split.astype(np.uint8),
        sampled_negatives=True,
    )


def plain(domain, label=None, **columns):
    """Interactions of rows of which little is known."""
    domain = np.asarray(domain)
    zeros = np.zeros(len(domain), int)
    names = ("user", "domain", "label", "time", "split")
    values = dict.fromkeys(names, zeros) | {"domain": domain} | columns
    if label is not None:
        values["label"] = label
    return table(np.stack([values[name] for name in names], axis=1))


def sizes(split):
    return np.bincount(split, minlength=3).tolist()


@pytest.mark.parametrize("rule", RULES)
@given(rows=rows, seed=seeds, fractions=fractions)
@settings(max_examples=30)
def test_every_row_is_in_one_split_that_the_seed_decides(rule, rows, seed, fractions):
    made = table(rows)
    split = RULES[rule](made, seed, fractions)
    assert split.shape == (len(rows),)
    assert split.dtype == np.uint8
    assert split.max() <= 2
    np.testing.assert_array_equal(split, RULES[rule](table(rows), seed, fractions))
    if rule not in SEEDED:
        np.testing.assert_array_equal(split, RULES[rule](made, seed + 1, fractions))


@pytest.mark.parametrize("rule", RULES)
def test_shares_of_many_rows(rule):
    rng = np.random.default_rng(0)
    highest = (6, 5, 2, 10_000, 3)
    made = table(np.stack([rng.integers(0, n, 6000) for n in highest], axis=1))
    shares = np.array(sizes(RULES[rule](made, 1, Fractions(0.1, 0.2)))) / 6000
    expected = {
        "leave_one_out": np.array([6000 - 12, 6, 6]) / 6000,
        "given": np.bincount(made.given_split) / 6000,
    }
    np.testing.assert_allclose(shares, expected.get(rule, [0.7, 0.1, 0.2]), atol=0.01)
    assert rule in expected or rule not in WITHOUT_FRACTIONS


@pytest.mark.parametrize("rule", sorted(SEEDED))
def test_seeds_differ(rule):
    rng = np.random.default_rng(0)
    made = plain(*rng.integers(0, 2, (2, 500)))
    assert (RULES[rule](made, 1, FIFTHS) != RULES[rule](made, 2, FIFTHS)).any()


def slow_stratified(made, seed, fractions):
    """Deal the rows of each stratum, in the seed's order, one by one."""
    domain, label = made.domain, made.labels[:, 0]
    order = np.random.default_rng(seed).permutation(len(domain))
    split = np.zeros(len(domain), np.uint8)
    for stratum in set(zip(domain.tolist(), label.tolist(), strict=True)):
        members = [row for row in order if (domain[row], label[row]) == stratum]
        tests = int(len(members) * fractions.test + 0.5)
        validations = int(len(members) * fractions.validation + 0.5)
        for rank, row in enumerate(members):
            if rank < tests:
                split[row] = 2
            elif rank < tests + validations:
                split[row] = 1
    return split


@given(rows, seeds, fractions)
def test_stratified_equals_the_slow_version(rows, seed, fractions):
    made = table(rows)
    expected = slow_stratified(made, seed, fractions)
    np.testing.assert_array_equal(split_rules.stratified(made, seed, fractions), expected)


@given(rows, seeds, fractions)
def test_every_domain_and_label_has_its_share_to_one_row(rows, seed, fractions):
    made = table(rows)
    split = split_rules.stratified(made, seed, fractions)
    for d, y in {(d, y) for _, d, y, *_ in rows}:
        stratum = split[(made.domain == d) & (made.labels[:, 0] == y)]
        for part, fraction in ((1, fractions.validation), (2, fractions.test)):
            assert abs((stratum == part).sum() - fraction * len(stratum)) <= 1


@given(rows, seeds, st.integers(0, 4))
def test_other_domains_names_change_nothing(rows, seed, shift):
    made = table(rows)
    shifted = replace(made, domain=(made.domain + shift).astype(np.int16))
    before = split_rules.stratified(made, seed, FIFTHS)
    np.testing.assert_array_equal(before, split_rules.stratified(shifted, seed, FIFTHS))


@given(rows, seeds, fractions)
def test_random_takes_the_shares_of_all_rows(rows, seed, fractions):
    split = split_rules.random(table(rows), seed, fractions)
    for part, fraction in ((1, fractions.validation), (2, fractions.test)):
        assert abs((split == part).sum() - fraction * len(rows)) <= 1


@given(rows, fractions)
def test_by_time_no_row_is_earlier_than_one_of_the_split_before(rows, fractions):
    made = table(rows)
    split = split_rules.by_time(made, 0, fractions)
    assert (np.diff(split[np.lexsort((split, made.time))].astype(int)) >= 0).all()
    assert sizes(split) == sizes(split_rules.positional(made, 0, fractions))


@given(rows, fractions)
def test_each_users_last_rows_are_the_test(rows, fractions):
    made = table(rows)
    split = split_rules.each_user_last(made, 0, fractions)
    assert sizes(split) == sizes(split_rules.positional(made, 0, fractions))
    tests_by_size = {}
    for u in set(made.user.tolist()):
        mine = made.user == u
        in_time = split[mine][np.argsort(made.time[mine], kind="stable")].astype(int)
        assert (np.diff(in_time) >= 0).all()
        tests_by_size.setdefault(len(in_time), []).append(int((in_time == 2).sum()))
    for counts in tests_by_size.values():
        assert max(counts) - min(counts) <= 1


def test_each_users_share_is_exact_where_histories_are_long():
    rng = np.random.default_rng(0)
    user, time = np.repeat(np.arange(6), 20), rng.permutation(120)
    made = plain(np.zeros(120, int), user=user, time=time)
    split = split_rules.each_user_last(made, 0, Fractions(0.1, 0.1))
    for u in range(6):
        mine = split[user == u][np.argsort(time[user == u])]
        assert mine.tolist() == [0] * 16 + [1] * 2 + [2] * 2


@given(rows)
def test_leave_one_out_takes_two_rows_of_each_user_at_most(rows):
    made = table(rows)
    split = split_rules.leave_one_out(made, 0, Fractions(0, 0))
    for u in set(made.user.tolist()):
        mine = made.user == u
        in_time = split[mine][np.argsort(made.time[mine], kind="stable")].tolist()
        n = len(in_time)
        assert in_time == {1: [0], 2: [0, 2]}.get(n, [0] * (n - 2) + [1, 2])


@pytest.mark.parametrize(
    ("rows", "fractions", "expected"),
    [
        (1_000_209, (0.1, 0.1), [800_167, 100_021, 100_021]),
        (10, (0.1, 0.1), [8, 1, 1]),
        (19, (0.1, 0.1), [15, 2, 2]),
        (10, (0.3, 0.4), [3, 3, 4]),
        (5, (0.2, 0.2), [3, 1, 1]),
    ],
)
def test_sizes_of_a_positional_cut(rows, fractions, expected):
    split = split_rules.positional(plain(np.zeros(rows, int)), 0, Fractions(*fractions))
    assert sizes(split) == expected
    assert (np.diff(split.astype(int)) >= 0).all()


@given(st.integers(1, 5000))
def test_tenths_are_cut_as_the_public_code_does(rows):
    split = split_rules.positional(plain(np.zeros(rows, int)), 0, Fractions(0.1, 0.1))
    assert np.cumsum(sizes(split))[:2].tolist() == [int(rows * 0.8), int(rows * 0.9)]


@given(rows, fractions)
def test_each_domain_is_cut_alone(rows, fractions):
    made = table(rows)
    split = split_rules.positional_by_domain(made, 0, fractions)
    for d in set(made.domain.tolist()):
        mine = split[made.domain == d]
        alone = split_rules.positional(plain(np.zeros(len(mine), int)), 0, fractions)
        np.testing.assert_array_equal(mine, alone, strict=True)


def negatives(rows):
    return plain(np.zeros(rows, int), np.zeros(rows, int))


def sklearn_sizes(n):
    """Rows of the public code's two calls; it takes a single held-out row for testing."""
    rows = np.arange(n)
    train, rest = train_test_split(rows, test_size=1.0 - 0.6, random_state=0)
    if len(rest) == 1:
        return [len(train), 0, 1]
    validation, test = train_test_split(rest, test_size=0.2 / (0.2 + 0.2), random_state=0)
    return [len(train), len(validation), len(test)]


@pytest.mark.parametrize("n", [*range(2, 60), 97, 1000, 12345])
def test_sizes_of_negatives_are_those_of_the_public_code(n):
    assert sizes(split_rules.by_user_negatives(negatives(n), 1, FIFTHS)) == sklearn_sizes(n)


def test_of_two_negatives_one_is_for_training_and_one_for_the_test():
    assert sorted(split_rules.by_user_negatives(negatives(2), 1, FIFTHS)) == [0, 2]


@given(rows, seeds)
def test_negatives_are_split_by_user_and_positives_by_domain(rows, seed):
    made = table(rows)
    user, domain, label = made.user, made.domain, made.labels[:, 0]
    split = split_rules.by_user_negatives(made, seed, FIFTHS)
    strata = {
        (d, None if y else u): (domain == d) & (label == y) & ((label == 1) | (user == u))
        for u, d, y, *_ in set(rows)
    }
    assert sum(stratum.sum() for stratum in strata.values()) == len(rows)
    for stratum in strata.values():
        n = int(stratum.sum())
        held_out = math.ceil(0.4 * n)
        test = math.ceil(held_out / 2)
        assert sizes(split[stratum]) == [n - held_out, held_out - test, test]


LACKING = {
    "time": ("by_time", "each_user_last", "leave_one_out"),
    "user": ("by_user_negatives", "each_user_last", "leave_one_out"),
    "sampled_negatives": ("by_user_negatives",),
    "given_split": ("given",),
}
MESSAGES = {
    "time": "it needs the time of each row, which the data do not have",
    "user": "it needs the user of each row, which the data do not have",
    "sampled_negatives": "it needs negatives that were sampled",
    "given_split": "it needs a split that came with the data",
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("lacking", LACKING)
def test_a_rule_says_what_it_lacks(rule, lacking):
    made = table([(0, 0, 1, 5, 0), (0, 0, 0, 6, 2)])
    if lacking == "user":
        made = replace(made, schema=replace(made.schema, fields=(("city", 1), ("town", 6))))
    else:
        made = replace(made, **{lacking: False if lacking == "sampled_negatives" else None})
    if rule in LACKING[lacking]:
        with pytest.raises(UserError, match=MESSAGES[lacking]):
            RULES[rule](made, 1, FIFTHS)
    else:
        assert len(RULES[rule](made, 1, FIFTHS)) == 2
