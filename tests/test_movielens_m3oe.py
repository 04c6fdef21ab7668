"""MovieLens as M3oE has it: age groups, click and like, profiles, named orders, own splits."""

import json
from dataclasses import replace

import numpy as np
import pytest

from domain_experts import layout
from domain_experts.data import fetch, movielens
from domain_experts.data.cut import write_splits
from domain_experts.data.interactions import Interactions
from domain_experts.data.prepare import prepare
from domain_experts.data.registry import FILE_FORMATS, SOURCES
from domain_experts.data.specs import MovieLens, SplitRule
from domain_experts.data.split import read_split
from domain_experts.data.split_rules import RULES
from domain_experts.files import sha256, write_json

TENTHS = {"validation_fraction": 0.1, "test_fraction": 0.1}
ORDERS = ("file", "timestamp", "two_sorts", "shuffled", "each_user")


def spec(source="ml-1m", order="timestamp", **changes):
    keys = {"domain": "age_group", "labels": "click_like", "features": "profile", "order": order}
    return MovieLens(source=source, **keys | changes)


def tenths(rule, made, seed=1):
    """The rows' split by a rule."""
    return RULES[rule](made, seed, SplitRule(rule=rule, **TENTHS).fractions)


def lines(path, separator="::"):
    return [line.split(separator) for line in path.read_text("iso-8859-1").splitlines()]


def slow(folder):
    """Rows of the movielens-1m format in file order, one dictionary each, cells as text."""
    users = {row[0]: row[1:] for row in lines(folder / "users.dat")}
    genres = {row[0]: row[2].split("|")[0] for row in lines(folder / "movies.dat")}
    rows = []
    for user, item, rating, time in lines(folder / "ratings.dat"):
        gender, age, occupation, code = users[user]
        rows.append(
            {
                "user": int(user),
                "item": int(item),
                "gender": gender,
                "occupation": int(occupation),
                "zip": code,
                "genre": genres[item],
                "domain": {1: 0, 18: 0, 25: 1}.get(int(age), 2),
                "age": int(age),
                "click": int(rating) >= 4,
                "like": rating == "5",
                "time": int(time),
            }
        )
    return rows


def column(rows, name):
    return np.array([row[name] for row in rows])


FIELDS = ("user", "item", "gender", "occupation", "zip", "genre", "domain")


def test_equals_the_slow_reader(tmp_path, tiny_movielens):
    tiny_movielens(tmp_path, "movielens-1m")
    rows = sorted(slow(tmp_path), key=lambda row: row["time"])
    made = movielens.interactions(tmp_path, "movielens-1m", spec())
    assert [name for name, _ in made.schema.fields] == list(FIELDS)
    for j, name in enumerate(FIELDS):
        values = sorted(set(column(rows, name).tolist()))
        # "unknown" comes first of the genres, the others go by their names
        values.sort(key=lambda value: value != "unknown")
        codes = [values.index(row[name]) for row in rows]
        assert made.fields[:, j].tolist() == codes, name
        assert made.schema.sizes[j] == len(values), name
    age = column(rows, "age").astype(float)
    expected = (age - age.min()) / (age.max() - age.min())
    np.testing.assert_allclose(made.dense[:, 0], expected, rtol=1e-6)
    assert made.schema.dense == ("age",)
    assert made.schema.tasks == ("click", "like")
    np.testing.assert_array_equal(made.labels[:, 0], column(rows, "click"))
    np.testing.assert_array_equal(made.labels[:, 1], column(rows, "like"))
    assert made.domain.tolist() == column(rows, "domain").tolist()
    assert made.schema.domains == ("under 25", "25-34", "35+")
    assert made.time.tolist() == column(rows, "time").tolist()


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_moves_whole_rows(tmp_path, tiny_movielens, order):
    tiny_movielens(tmp_path, "movielens-1m")
    tables = []
    for name in ("file", order):
        made = movielens.interactions(tmp_path, "movielens-1m", spec(order=name))
        tables.append(np.column_stack([made.fields, made.dense, made.labels, made.domain]))
        assert made.schema.sizes[:2] == (63, 40)
    same = (tables[0] == tables[1]).all()
    assert same == (order == "file")
    np.testing.assert_array_equal(*(np.unique(table, axis=0) for table in tables))


def test_each_key_stands_alone(tmp_path, tiny_movielens):
    tiny_movielens(tmp_path, "movielens-1m")
    plain = movielens.interactions(
        tmp_path, "movielens-1m", MovieLens(source="ml-1m", domain="gender")
    )
    for changes in (
        {"labels": "click_like"},
        {"features": "profile"},
        {"order": "shuffled"},
        {"domain": "age_group"},
    ):
        values = {"source": "ml-1m", "domain": "gender"} | changes
        made = movielens.interactions(tmp_path, "movielens-1m", MovieLens(**values))
        assert (made.schema.tasks == ("click",)) == ("labels" not in changes)
        assert (made.dense.shape[1] == 0) == ("features" not in changes)
        assert (made.schema.domains == plain.schema.domains) == ("domain" not in changes)
        same_rows = made.domain.tolist() == plain.domain.tolist()
        assert same_rows == (not {"order", "domain"} & changes.keys())


def test_both_sources_of_movielens_100k_give_the_same_rows(tmp_path, tiny_movielens):
    made = []
    for name in ("movielens-100k", "recbole"):
        tiny_movielens(tmp_path / name, name)
        made.append(movielens.interactions(tmp_path / name, name, spec("ml-100k")))
    assert made[0].schema == made[1].schema
    for key, array in made[0].arrays.items():
        np.testing.assert_array_equal(made[1].arrays[key], array, strict=True)
    years = [int(row[1]) for row in lines(tmp_path / "movielens-100k" / "u.user", "|")]
    span = max(years) - min(years)
    found = set(np.round(made[0].dense[:, 0] * span).astype(int) + min(years))
    assert found == set(years)


@pytest.fixture
def raw(project, tiny_movielens):
    """Raw files of ml-1m as `fetch` leaves them."""
    folder = layout.raw("ml-1m")
    tiny_movielens(folder, "movielens-1m")
    files = {file: sha256(folder / file) for file in FILE_FORMATS["movielens-1m"]}
    write_json(layout.raw_record("ml-1m"), {"layout": "movielens-1m", "files": files})


def test_a_split_by_position_is_that_of_every_seed(raw):
    prepare("toy", spec())
    assert Interactions.open(layout.interactions("toy")).given_split is None
    write_splits(SplitRule(rule="positional", **TENTHS), "quick", "toy", [1, 2])
    for seed in (1, 2):
        split = read_split("quick", "toy", seed)
        assert split.tolist() == [0] * 720 + [1] * 90 + [2] * 90
    index = json.loads(layout.split_index("quick", "toy").read_text())
    assert index["test_fraction"] == 0.1
    assert index["seeds"]["1"]["positives"].keys() == {"click", "like"}


def test_a_drawn_split_takes_the_data_sets_own_fractions(raw):
    prepare("toy", spec())
    write_splits(SplitRule(rule="stratified", **TENTHS), "quick", "toy", [1, 2])
    first, second = (read_split("quick", "toy", seed) for seed in (1, 2))
    np.testing.assert_allclose(np.bincount(first) / len(first), [0.8, 0.1, 0.1], atol=0.01)
    assert (first != second).any()


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    """A project folder into which the local copies of the real files were fetched."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for source in ("ml-100k", "ml-1m"):
            patch.setitem(SOURCES, source, replace(SOURCES[source], downloads=()))
            fetch.fetch(source, str(real_data))
    return folder


def prepared(real, monkeypatch, made):
    monkeypatch.chdir(real)
    prepare("toy", made)
    return Interactions.open(layout.interactions("toy"))


@pytest.mark.real_data
def test_movielens_1m_has_the_counts_of_table_1(real, monkeypatch):
    made = prepared(real, monkeypatch, spec())
    assert made.schema.sizes == (6040, 3706, 2, 21, 3439, 18, 3)
    assert made.card["rows_by_domain"] == [210_747, 395_556, 393_906]
    of_domain = [made.fields[made.domain == d] for d in range(3)]
    assert [len(np.unique(rows[:, 0])) for rows in of_domain] == [1_325, 2_096, 2_619]
    assert [len(np.unique(rows[:, 1])) for rows in of_domain] == [3_429, 3_508, 3_595]
    split = tenths("positional", made)
    assert np.bincount(split).tolist() == [800_167, 100_021, 100_021]
    # of rows by time these are one cut
    np.testing.assert_array_equal(split, tenths("by_time", made))
    assert np.round(100 * made.labels.mean(axis=0), 3).tolist() == [57.516, 22.626]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("order", "test_users", "seen"),
    [
        ("timestamp", None, 0.807),
        ("two_sorts", 1567, 0),
        ("file", None, 0),
        ("shuffled", None, 1),
        ("each_user", 6040, 1),
    ],
)
def test_share_of_test_rows_whose_user_is_trained_on(real, monkeypatch, order, test_users, seen):
    made = prepared(real, monkeypatch, spec(order=order))
    user = made.fields[:, 0]
    split = tenths("positional", made)
    trained, tested = np.unique(user[split == 0]), user[split == 2]
    # of two_sorts and file at most one user straddles a cut
    assert np.isin(tested, trained).mean() == pytest.approx(seen, abs=0.005)
    assert test_users in (None, len(np.unique(tested)))
    if order == "each_user":
        np.testing.assert_array_equal(split, tenths("each_user_last", made))


@pytest.mark.real_data
def test_each_domain_of_movielens_1m_is_cut_alone(real, monkeypatch):
    made = prepared(real, monkeypatch, spec())
    split = tenths("positional_by_domain", made)
    for d, rows in enumerate([210_747, 395_556, 393_906]):
        cut = int(rows * 0.8), int(rows * 0.9)
        sizes = [cut[0], cut[1] - cut[0], rows - cut[1]]
        assert np.bincount(split[made.domain == d]).tolist() == sizes


@pytest.mark.real_data
def test_movielens_100k_in_age_groups(real, monkeypatch):
    made = prepared(real, monkeypatch, spec("ml-100k"))
    # of ages by year: 2,491 + 24,060; 35,444; the rest
    assert made.card["rows_by_domain"] == [26_551, 35_444, 38_005]
    assert made.schema.sizes == (943, 1682, 2, 21, 795, 19, 3)
