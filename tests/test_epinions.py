from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from rawfiles import write_epinions

from domain_experts import layout
from domain_experts.data import epinions
from domain_experts.data.fetch import fetch
from domain_experts.data.interactions import Interactions
from domain_experts.data.prepare import prepare
from domain_experts.data.registry import SOURCES, Content
from domain_experts.data.specs import Epinions
from domain_experts.errors import UserError

FILE = "epinions_rating_with_timestamp.mat"


def spec(domains=3, core=5, label_at_least=5):
    return Epinions(source="epinions", domains=domains, core=core, label_at_least=label_at_least)


def slow_clean(rows):
    """Row by row: duplicates, the last rating of a pair, the item's category."""
    rows = list(dict.fromkeys(map(tuple, rows)))
    best = {}
    for position, row in enumerate(rows):
        pair = row[:2]
        if pair not in best or row[5] >= rows[best[pair]][5]:
            best[pair] = position
    rows = [rows[position] for position in sorted(best.values())]
    votes = defaultdict(Counter)
    for row in rows:
        votes[row[1]][row[2]] += 1
    category = {i: min(v, key=lambda c: (-v[c], c)) for i, v in votes.items()}
    return [(row[0], row[1], category[row[1]], *row[3:]) for row in rows]


def slow_core(rows, k):
    while True:
        users, items = Counter(r[0] for r in rows), Counter(r[1] for r in rows)
        kept = [r for r in rows if users[r[0]] >= k and items[r[1]] >= k]
        if len(kept) == len(rows):
            return rows
        rows = kept


ratings = st.lists(
    st.tuples(*(st.integers(1, n) for n in (5, 5, 3, 5, 2, 3))), min_size=1, max_size=60
)


@given(ratings, st.integers(1, 4))
def test_cleaning_and_core_equal_the_slow_versions(rows, k):
    cleaned = epinions.clean(np.array(rows))
    assert [tuple(row) for row in cleaned.tolist()] == slow_clean(rows)
    core = epinions.k_core(cleaned, k)
    assert [tuple(row) for row in core.tolist()] == slow_core(slow_clean(rows), k)


@given(ratings, st.integers(1, 4))
def test_the_core_is_the_largest_set_of_rows_with_enough_per_user_and_item(rows, k):
    rating = np.array(rows)
    core = epinions.k_core(rating, k)
    for column in (0, 1):
        assert all(n >= k for n in Counter(core[:, column].tolist()).values())
    np.testing.assert_array_equal(epinions.k_core(core, k), core)


def register(monkeypatch, folder):
    """Let the source expect what the folder holds, and find no other copy."""
    monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL", raising=False)
    content = Content(counts=epinions.counts(folder, "epinions"))
    monkeypatch.setitem(SOURCES, "epinions", replace(SOURCES["epinions"], content=content))


def test_fetched_and_prepared(project, tmp_path, monkeypatch):
    raw = write_epinions(tmp_path / "copies" / "epinions")
    register(monkeypatch, tmp_path / "copies" / "epinions")
    fetch("epinions", str(tmp_path / "copies"))
    prepare("toy", spec())
    made = Interactions.open(layout.interactions("toy"))
    rows = slow_core(slow_clean(raw.tolist()), 5)
    sizes = Counter(row[2] for row in rows).most_common(3)
    assert made.schema.domains == tuple(f"category {category}" for category, _ in sizes)
    assert made.card["rows_by_domain"] == [size for _, size in sizes]
    kept = [row for row in rows if row[2] in dict(sizes)]
    users, items = sorted({row[0] for row in kept}), sorted({row[1] for row in kept})
    assert made.schema.sizes == (len(users), len(items), 3)
    domains = [category for category, _ in sizes]
    expected = [(users.index(u), items.index(i), domains.index(c)) for u, i, c, *_ in kept]
    np.testing.assert_array_equal(made.fields, expected)
    np.testing.assert_array_equal(made.labels[:, 0], [row[3] == 5 for row in kept])
    np.testing.assert_array_equal(made.domain, made.fields[:, 2])


def test_the_label_follows_its_threshold(tmp_path):
    write_epinions(tmp_path)
    five = epinions.interactions(tmp_path, "epinions", spec())
    four = epinions.interactions(tmp_path, "epinions", spec(label_at_least=4))
    assert (five.labels <= four.labels).all()
    assert five.labels.sum() < four.labels.sum()


def test_a_copy_with_other_rows_is_refused(project, tmp_path, monkeypatch):
    write_epinions(tmp_path / "epinions")
    register(monkeypatch, tmp_path / "epinions")
    write_epinions(tmp_path / "epinions", seed=1)
    with pytest.raises(UserError, match="content is not as published: cleaned_rows"):
        fetch("epinions", str(tmp_path))


def test_a_missing_file_says_what_to_place_where(project, monkeypatch):
    monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL", raising=False)
    with pytest.raises(UserError, match=f"put {FILE} into data/raw/epinions/"):
        fetch("epinions", None)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 0, r"row 3 of 'rating': column user: 0.* is no whole number in 1\.\."),
        (2, 28, r"row 3 of 'rating': column category: 28.* in 1\.\.27"),
        (3, 4.5, r"row 3 of 'rating': column rating: 4.5 is no whole number in 1\.\.5"),
        (5, float("nan"), r"row 3 of 'rating': column time: nan is no whole number"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(tmp_path, column, value, message):
    rating = write_epinions(tmp_path).astype(float)
    rating[2, column] = value
    scipy.io.savemat(tmp_path / FILE, {"rating": rating})
    with pytest.raises(UserError, match=message):
        epinions.read(tmp_path, "epinions")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": np.ones((2, 6))}, "holds no variable 'rating'"),
        ({"rating": np.ones((2, 5))}, r"shape \(2, 5\), expected rows of 6 columns"),
        ({"rating": np.ones((0, 6))}, "expected rows"),
    ],
)
def test_a_matrix_of_another_form_is_refused(tmp_path, content, message):
    scipy.io.savemat(tmp_path / FILE, content)
    with pytest.raises(UserError, match=message):
        epinions.read(tmp_path, "epinions")


@pytest.mark.parametrize("damage", [b"", b"not a matrix", None])
def test_a_damaged_file_is_refused(tmp_path, damage):
    write_epinions(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:300] if damage is None else damage)
    with pytest.raises(UserError, match=rf"{FILE} is no sound MATLAB file"):
        epinions.read(tmp_path, "epinions")


def test_more_domains_than_there_are_is_refused(tmp_path):
    write_epinions(tmp_path)
    with pytest.raises(UserError, match="4 domains are left after the 5-core, 5 are asked for"):
        epinions.interactions(tmp_path, "epinions", spec(domains=5))


@pytest.mark.real_data
def test_the_real_file(real_data):
    folder = real_data / "epinions"
    assert epinions.counts(folder, "epinions") == SOURCES["epinions"].content.counts
    cleaned = epinions.clean(epinions.read(folder, "epinions"))
    sizes = Counter(cleaned[:, 2].tolist()).most_common()
    # counted independently of this package
    assert sizes[:12] == [
        *((3, 166527), (4, 102488), (5, 85158), (19, 84907), (10, 58083), (18, 54943)),
        *((11, 47794), (2, 45245), (7, 45165), (8, 45030), (1, 40792), (9, 32987)),
    ]
    assert sum(size < 1000 for _, size in sizes) == 5
    assert round((cleaned[:, 3] >= 4).mean(), 3) == 0.738
    assert round((cleaned[:, 3] == 5).mean(), 3) == 0.422
    made = epinions.interactions(folder, "epinions", spec(domains=20))
    assert len(made.schema.domains) == 20
    assert (np.diff(np.bincount(made.domain)) <= 0).all()
