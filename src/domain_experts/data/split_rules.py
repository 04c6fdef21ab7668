"""Split rules: which rows are for training, validation and test. One function a rule.

Each takes the rows, a seed and the shares asked for, and gives (N,) uint8: 0 train, 1 validation,
2 test. A new rule is one more function here and its name in `specs.RuleName`.
"""

from collections.abc import Callable, Mapping
from typing import get_args

import numpy as np

from domain_experts.data import order
from domain_experts.data.interactions import Interactions
from domain_experts.data.specs import Fractions, RuleName
from domain_experts.data.split import TEST, TRAIN, VALIDATION
from domain_experts.errors import UserError

_PART = 1 << 22
Rule = Callable[[Interactions, int, Fractions], np.ndarray]


def random(rows: Interactions, seed: int, fractions: Fractions) -> np.ndarray:
    """Draw from all rows alike."""
    one = np.zeros(len(rows.domain), np.int64)
    return _deal_shares(one, seed, fractions)


def stratified(rows: Interactions, seed: int, fractions: Fractions) -> np.ndarray:
    """Draw so that every domain and combination of labels has its share, to the nearest row."""
    # of tens of millions of rows each array counts
    label = np.asarray(rows.labels) @ (1 << np.arange(rows.labels.shape[1], dtype=np.int32))
    labels = int(label.max()) + 1
    strata = (int(rows.domain.max()) + 1) * labels
    kind = np.int32 if strata < 2**31 else np.int64
    domain: np.ndarray = np.asarray(rows.domain).astype(kind)
    stratum = domain * labels + label.astype(kind, copy=False)
    del domain, label
    return _deal_shares(stratum, seed, fractions)


def by_user_negatives(rows: Interactions, seed: int, fractions: Fractions) -> np.ndarray:
    """Draw from positives, and from negatives that were sampled for each user.

    The positives of a domain are split as a whole, its negatives user by user. Sizes are those of
    the public code of MAMDR (utils/tool.py), which splits twice with scikit-learn: of n rows,
    ceil(n (v + t)) are held out, and of these h rows ceil(h t / (v + t)) are test rows. So of 2
    negatives one is for training, none for validation and one for test, and where users have few
    negatives the shares of all rows are not those asked for.
    """
    if not rows.sampled_negatives:
        raise UserError("it needs negatives that were sampled for each user, which these are not")
    user, domain = _user(rows), np.asarray(rows.domain).astype(np.int64)
    domains, users = int(domain.max()) + 1, int(user.max()) + 1
    stratum = np.where(rows.labels[:, 0] == 1, domain, domains + domain * users + user)
    share = fractions.validation + fractions.test
    held_out = np.ceil(np.bincount(stratum) * share).astype(np.int64)
    test = np.ceil(held_out * (fractions.test / share if share else 0)).astype(np.int64)
    return _deal(stratum, seed, test, held_out)


def by_time(rows: Interactions, seed: int, fractions: Fractions) -> np.ndarray:
    """Cut all rows at two moments; rows of one moment keep their order."""
    return _cut(order.by_time(_time(rows)), fractions)


def each_user_last(rows: Interactions, seed: int, fractions: Fractions) -> np.ndarray:
    """Cut every user's history by time: the last share is for the test.

    Of a user with n rows the k-th (from 0) by time stands at (k + 1/2) / n; all rows are cut at two
    such places, so their shares are exact, and each user's are to the row that rounding leaves.
    """
    return _cut(order.each_user(_user(rows), _time(rows)), fractions)


def leave_one_out(rows: Interactions, seed: int, fractions: Fractions) -> np.ndarray:
    """Take each user's last row for the test, the one before for validation.

    A user keeps a training row: of a single row none is held out, of two rows the last is the test.
    """
    user = _user(rows)
    in_order = np.lexsort((_time(rows), user))
    sizes = np.unique(user, return_counts=True)[1]
    count = np.repeat(sizes, sizes)
    later = np.repeat(np.cumsum(sizes), sizes) - 1 - np.arange(len(user))
    split = np.full(len(user), TRAIN, np.uint8)
    split[in_order[(later == 1) & (count > 2)]] = VALIDATION
    split[in_order[(later == 0) & (count > 1)]] = TEST
    return split


def positional(rows: Interactions, seed: int, fractions: Fractions) -> np.ndarray:
    """Cut the rows in their order, as M3oE's public code does: the last are for the test."""
    return _cut(np.arange(len(rows.domain)), fractions)


def positional_by_domain(rows: Interactions, seed: int, fractions: Fractions) -> np.ndarray:
    """Cut the rows of each domain in their order."""
    domain = np.asarray(rows.domain)
    split = np.empty(len(domain), np.uint8)
    for d in np.unique(domain):
        mine = np.flatnonzero(domain == d)
        split[mine] = _cut(np.arange(len(mine)), fractions)
    return split


def given(rows: Interactions, seed: int, fractions: Fractions) -> np.ndarray:
    """Take the split that came with the data."""
    if rows.given_split is None:
        raise UserError("it needs a split that came with the data, and none did")
    return np.asarray(rows.given_split)


RULES: Mapping[RuleName, Rule] = {name: globals()[name] for name in get_args(RuleName)}


def _time(rows: Interactions) -> np.ndarray:
    if rows.time is None:
        raise UserError("it needs the time of each row, which the data do not have")
    return np.asarray(rows.time)


def _user(rows: Interactions) -> np.ndarray:
    if rows.user is None:
        raise UserError("it needs the user of each row, which the data do not have")
    return np.asarray(rows.user)


def _cut(in_order: np.ndarray, fractions: Fractions) -> np.ndarray:
    """Cut N rows in an order: int((1 - v - t) N) for training, up to int((1 - t) N) validation."""
    rows = len(in_order)
    # 1 - .3 - .4 is a little less than .3
    train = int(rows * round(1 - fractions.validation - fractions.test, 12))
    held_out = int(rows * round(1 - fractions.test, 12))
    split = np.empty(rows, np.uint8)
    split[in_order[:train]] = TRAIN
    split[in_order[train:held_out]] = VALIDATION
    split[in_order[held_out:]] = TEST
    return split


def _deal_shares(stratum: np.ndarray, seed: int, fractions: Fractions) -> np.ndarray:
    sizes = np.bincount(stratum)
    test, validation = (
        np.floor(sizes * share + 0.5).astype(np.int64)
        for share in (fractions.test, fractions.validation)
    )
    # rounding up twice may ask for more rows than a tiny stratum has: test comes first
    return _deal(stratum, seed, test, test + validation)


def _deal(stratum: np.ndarray, seed: int, test: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Deal the rows of each stratum, in the seed's order: test rows first, then validation."""
    dealt = np.random.default_rng(seed).permutation(len(stratum))
    split = np.empty(len(stratum), np.uint8)
    seen = np.zeros(len(test), np.int64)
    # a part at a time: of tens of millions of rows each array counts
    for start in range(0, len(dealt), _PART):
        rows = dealt[start : start + _PART]
        mine = stratum[rows]
        sizes = np.bincount(mine, minlength=len(seen))
        rank = np.empty(len(rows), np.int64)
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        rank[np.argsort(mine, kind="stable")] = np.arange(len(rows)) - first
        rank += seen[mine]
        seen += sizes
        is_test, is_held_out = rank < test[mine], rank < held_out[mine]
        split[rows] = np.where(is_test, TEST, np.where(is_held_out, VALIDATION, TRAIN))
    return split
