"""Data sets whose domains are kinds of items: Amazon, Taobao, and both as MAMDR prepared them."""

import csv
import gzip
import json
from collections import Counter
from dataclasses import replace
from importlib import import_module

import numpy as np
import pyarrow as pa
import pytest
from rawfiles import write_amazon_3, write_mamdr, write_reviews, write_taobao

from domain_experts import layout
from domain_experts.data import amazon, mamdr, taobao
from domain_experts.data.cut import write_splits
from domain_experts.data.fetch import fetch
from domain_experts.data.interactions import Interactions
from domain_experts.data.prepare import prepare
from domain_experts.data.registry import FILE_FORMATS, SOURCES, Content, at_hand
from domain_experts.data.sampling import ratios
from domain_experts.data.specs import Amazon, Mamdr, SplitRule, Taobao
from domain_experts.data.split import read_split
from domain_experts.errors import UserError

RULES = {
    "by_user_negatives": SplitRule(
        rule="by_user_negatives", validation_fraction=0.2, test_fraction=0.2
    ),
    "given": SplitRule(rule="given"),
}
WRITERS = {
    "amazon-3": (write_amazon_3, {}, Amazon(source="amazon-3")),
    "amazon-6": (write_reviews, {}, Amazon(source="amazon-6")),
    "amazon-13": (write_reviews, {"file_format": "amazon-13"}, Amazon(source="amazon-13")),
    "taobao": (write_taobao, {}, Taobao(source="taobao", themes=4)),
    **{
        name: (write_mamdr, {"file_format": name}, Mamdr(source=name))
        for name in FILE_FORMATS
        if name.startswith("mamdr")
    },
}


@pytest.fixture
def made(project, tmp_path, monkeypatch):
    """Fetch small files of a source, prepare and split them."""

    def make(source):
        writer, options, spec = WRITERS[source]
        copies = tmp_path / "copies"
        writer(copies / source, **options)
        reader = import_module(SOURCES[source].reader)
        content = Content(counts=reader.counts(copies / source, source))
        assert content.counts.keys() >= SOURCES[source].content.counts.keys()
        monkeypatch.setitem(SOURCES, source, replace(SOURCES[source], content=content))
        monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL", raising=False)
        assert not at_hand(source, None)
        fetch(source, str(copies))
        assert at_hand(source, None)
        prepare("toy", spec)
        write_splits(RULES[spec.usual_split], "quick", "toy", [1])
        return Interactions.open(layout.interactions("toy")), copies / source

    return make


@pytest.mark.parametrize("source", WRITERS)
def test_every_source_can_be_fetched_prepared_and_split(made, source):
    interactions, _ = made(source)
    index = json.loads(layout.split_index("quick", "toy").read_text())
    rows = np.array([index["seeds"]["1"]["rows"][name] for name in ("train", "validation", "test")])
    assert (rows > 0).all()
    assert rows.sum() == len(interactions.domain)
    assert [name for name, _ in interactions.schema.fields] == ["user", "item", "domain"]
    np.testing.assert_array_equal(interactions.fields[:, 2], interactions.domain)
    assert set(np.unique(interactions.labels)) == {0, 1}


@pytest.mark.parametrize("source", WRITERS)
def test_a_source_without_files_says_what_to_place_where(project, monkeypatch, source):
    monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL", raising=False)
    assert SOURCES[source].by_hand
    with pytest.raises(UserError) as error:
        fetch(source, None)
    message = str(error.value)
    assert f"into data/raw/{source}/" in message
    assert FILE_FORMATS[source][0] in message
    assert SOURCES[source].placement in message
    assert len(message) < 1500


@pytest.mark.parametrize("source", WRITERS)
def test_a_copy_with_other_content_is_refused(project, tmp_path, monkeypatch, source):
    monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL", raising=False)
    writer, options, _ = WRITERS[source]
    writer(tmp_path / source, **options)
    with pytest.raises(UserError, match=r"content is not as published: (rows|users) "):
        fetch(source, str(tmp_path))


def test_a_partial_copy_names_the_first_files_that_are_missing(project, tmp_path, monkeypatch):
    monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL", raising=False)
    writer, options, _ = WRITERS["mamdr-taobao-10"]
    writer(tmp_path / "mamdr-taobao-10", **options)
    (tmp_path / "mamdr-taobao-10/domain_3/val.csv").unlink()
    with pytest.raises(UserError, match=r"it does not hold domain_3/val\.csv\n"):
        fetch("mamdr-taobao-10", str(tmp_path))


def triples(interactions, label=1):
    rows = interactions.labels[:, 0] == label
    return [tuple(row) for row in interactions.fields[rows].tolist()]


def numbered(values):
    """Codes in order of appearance."""
    return {value: code for code, value in enumerate(dict.fromkeys(values))}


def assert_negatives_fit(interactions):
    """Right in number, and no positive among them."""
    positives, drawn = triples(interactions), triples(interactions, 0)
    assert not set(positives) & set(drawn)
    ratio = ratios(len(interactions.schema.domains))
    clicked = Counter((user, domain) for user, _, domain in positives)
    sampled = Counter((user, domain) for user, _, domain in drawn)
    items = {d: {i for _, i, domain in positives if domain == d} for d in range(len(ratio))}
    for (user, d), n in clicked.items():
        assert sampled[user, d] == min(int(n / ratio[d]), len(items[d]) - n)
    assert all(item in items[domain] for _, item, domain in drawn)


def test_amazon_3_keeps_every_review(made):
    interactions, folder = made("amazon-3")
    with (folder / "interactions.csv").open() as file:
        rows = list(csv.DictReader(file))
    users, items = numbered(r["user"] for r in rows), numbered(r["item"] for r in rows)
    assert interactions.schema.domains == ("Beauty", "Toys", "Sports")
    expected = [
        (users[r["user"]], items[r["item"]], ["Beauty", "Toys", "Sports"].index(r["domain"]))
        for r in rows
    ]
    assert triples(interactions) == expected
    assert interactions.schema.sizes == (len(users), len(items), 3)
    assert_negatives_fit(interactions)


@pytest.mark.parametrize("source", ["amazon-6", "amazon-13"])
def test_reviews_count_once_whatever_their_score(made, source):
    interactions, folder = made(source)
    rows = []
    for d, name in enumerate(FILE_FORMATS[source]):
        with gzip.open(folder / name, "rt") as file:
            rows += [(r["reviewerID"], r["asin"], d) for r in map(json.loads, file)]
    users, items = numbered(r[0] for r in rows), numbered(r[1] for r in rows)
    expected = list(dict.fromkeys((users[u], items[i], d) for u, i, d in rows))
    assert len(expected) < len(rows)
    assert triples(interactions) == expected
    assert interactions.schema.domains[0] == FILE_FORMATS[source][0][:-10].replace("_", " ")
    assert_negatives_fit(interactions)


def slow_taobao(folder, themes):
    """Clicks and vectors, one row at a time."""
    vectors = {}
    for name in ("user", "item"):
        lines = (folder / f"{name}_embedding.csv").read_text().splitlines()[1:]
        cells = (line.split(",") for line in lines)
        vectors[name] = {code: np.array(cell.split(), np.float32) for code, cell in cells}
    with (folder / "theme_click_log.csv").open() as file:
        log = list(csv.DictReader(file))
    numbers = numbered(row["theme_id"] for row in log)
    by_theme = {number: [] for number in numbers.values()}
    for row in log:
        if row["user_id"] in vectors["user"] and row["item_id"] in vectors["item"]:
            by_theme[numbers[row["theme_id"]]].append((row["user_id"], row["item_id"]))
    kept = [number for number in by_theme if by_theme[number]][:themes]
    clicks = [(user, item, d) for d, k in enumerate(kept) for user, item in by_theme[k]]
    users, items = numbered(u for u, _, _ in clicks), numbered(i for _, i, _ in clicks)
    tables = {
        "user": np.stack([vectors["user"][u] for u in users]),
        "item": np.stack([vectors["item"][i] for i in items]),
    }
    positives = list(dict.fromkeys((users[u], items[i], d) for u, i, d in clicks))
    return positives, tables, tuple(f"theme {number}" for number in kept)


def test_taobao_equals_the_slow_reader(made):
    interactions, folder = made("taobao")
    positives, tables, names = slow_taobao(folder, 4)
    assert interactions.schema.domains == names
    assert triples(interactions) == positives
    for field, table in tables.items():
        np.testing.assert_allclose(interactions.vectors[field], table, rtol=1e-6)
    assert_negatives_fit(interactions)


def test_fewer_themes_are_the_beginning_of_more(tmp_path):
    write_taobao(tmp_path)
    fewer, more = (
        taobao.interactions(tmp_path, "taobao", Taobao(source="taobao", themes=n)) for n in (2, 4)
    )
    np.testing.assert_array_equal(more.fields[more.domain < 2], fewer.fields)
    np.testing.assert_array_equal(
        more.vectors["user"][: len(fewer.vectors["user"])], fewer.vectors["user"]
    )
    with pytest.raises(UserError, match="5 themes have clicks, 6 are asked for"):
        taobao.interactions(tmp_path, "taobao", Taobao(source="taobao", themes=6))


def test_a_theme_without_vectors_keeps_its_number(tmp_path):
    write_taobao(tmp_path)
    log = tmp_path / "theme_click_log.csv"
    header, *lines = log.read_text().splitlines()
    log.write_text("\n".join([header, "1,999,2,1,2,2018/5/1 10:00", *lines]) + "\n")
    made = taobao.interactions(tmp_path, "taobao", Taobao(source="taobao", themes=5))
    assert made.schema.domains == tuple(f"theme {number}" for number in range(1, 6))


@pytest.mark.parametrize("source", ["mamdr-taobao-10", "mamdr-amazon-6"])
def test_prepared_rows_and_their_split_are_taken_as_they_are(made, source):
    interactions, folder = made(source)
    rows, split = [], []
    for d in range(len(interactions.schema.domains)):
        for part, name in enumerate(("train", "val", "test")):
            lines = (folder / f"domain_{d}/{name}.csv").read_text().splitlines()[1:]
            rows += [[int(cell) for cell in line.split(",")] for line in lines]
            split += [part] * len(lines)
    table = np.concatenate([interactions.fields, interactions.labels], axis=1)
    np.testing.assert_array_equal(table, rows)
    np.testing.assert_array_equal(read_split("quick", "toy", 1), split)
    assert interactions.schema.domains[3] == "theme 3"
    assert interactions.schema.sizes[:2] == (50, 30)
    if source == "mamdr-taobao-10":
        cells = json.loads((folder / "processed_data/item_emb.json").read_text())
        expected = [np.array(cells[str(code)].split(), np.float32) for code in range(30)]
        np.testing.assert_array_equal(interactions.vectors["item"], expected)
    else:
        assert not interactions.vectors


def replace_line(path, line, text):
    lines = path.read_text().split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("source", "file", "line", "text", "message"),
    [
        (
            "amazon-3",
            "interactions.csv",
            1,
            "user,item,kind,position",
            "line 1: no column 'domain'",
        ),
        ("amazon-3", "interactions.csv", 9, "A1,,Toys,3", "line 9: column item: is empty"),
        ("amazon-3", "interactions.csv", 9, "A1,B2,Toys", "line 9: Expected 4 columns, got 3"),
        ("amazon-3", "interactions.csv", 9, "", "line 9: Expected 4 columns|line 9: column user"),
        ("taobao", "theme_click_log.csv", 5, "7,,3,1,2,3", "line 5: column theme_id: is empty"),
        ("taobao", "theme_click_log.csv", 5, "7,8", "line 5: Expected 6 columns, got 2"),
        ("taobao", "user_embedding.csv", 1, "user_id", "line 1: 1 columns, expected an id and"),
        (
            "mamdr-amazon-6",
            "domain_2/val.csv",
            3,
            "1,2,2,2",
            r"line 3: column label: 2 is not in 0\.\.1",
        ),
        ("mamdr-amazon-6", "domain_2/val.csv", 3, "50,2,2,1", "line 3: column uid: 50 is not in 0"),
        (
            "mamdr-amazon-6",
            "domain_2/val.csv",
            3,
            "1,2,3,1",
            "line 3: column domain: 3 is not in 2",
        ),
        ("mamdr-amazon-6", "domain_2/val.csv", 3, "1,x,2,1", "line 3: column pid: .*'x'"),
        ("mamdr-amazon-6", "domain_2/val.csv", 3, "1,2,2", "line 3: Expected 4 columns, got 3"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path, source, file, line, text, message):
    writer, options, spec = WRITERS[source]
    writer(tmp_path, **options)
    replace_line(tmp_path / file, line, text)
    reader = import_module(SOURCES[source].reader)
    with pytest.raises(UserError, match=f"{file.replace('.', '[.]')}, {message}"):
        reader.interactions(tmp_path, source, spec)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 2", "2 numbers, expected 8"),
        ("1 2 x 4 5 6 7 8", "holds what is no finite number"),
        ("1 2 nan 4 5 6 7 8", "holds what is no finite number"),
        ("1 2  4 5 6 7 8", "holds what is no finite number"),
        ("", "is empty"),
    ],
)
def test_a_vector_that_does_not_fit_is_named(tmp_path, cell, message):
    write_taobao(tmp_path)
    path = tmp_path / "item_embedding.csv"
    first = path.read_text().splitlines()[3].split(",")[0]
    replace_line(path, 4, f"{first},{cell}")
    clicked = [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    with pytest.raises(UserError, match=rf"item_embedding\.csv, line 4: column emb: {message}"):
        taobao.read_vectors(path, pa.array(clicked))


def test_a_vector_that_is_given_twice_is_named(tmp_path):
    write_taobao(tmp_path)
    path = tmp_path / "user_embedding.csv"
    replace_line(path, 6, path.read_text().splitlines()[2])
    with pytest.raises(UserError, match=r"csv, line 6: column user_id: repeats an earlier line"):
        taobao.read_clicks(tmp_path, "taobao")


def test_a_log_without_known_users_is_refused(tmp_path):
    write_taobao(tmp_path)
    (tmp_path / "user_embedding.csv").write_text("user_id,emb\n1,1 2 3\n")
    with pytest.raises(UserError, match="no click is of a user and an item with vectors"):
        taobao.read_clicks(tmp_path, "taobao")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"reviewerID": "A1"}', "line 4: key asin: is missing or no text"),
        ('{"reviewerID": 7, "asin": "B1"}', "line 4: key reviewerID: is missing or no text"),
        ('{"reviewerID": "A1", "asin"', "line 4: is no JSON object"),
        ("[1]", "line 4: key reviewerID: is missing or no text"),
        ("null", "line 4: key reviewerID: is missing or no text"),
        ("[" * 100_000, "line 4: is no JSON object"),
        (
            r'{"reviewerID": "\ud800", "asin": "B1"}',
            "line 4: key reviewerID: is missing or no text",
        ),
    ],
)
def test_a_review_that_does_not_fit_is_named(tmp_path, line, message):
    write_reviews(tmp_path)
    path = tmp_path / "Prime_Pantry_5.json.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    lines[3] = line
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(UserError, match=rf"Prime_Pantry_5\.json\.gz, {message}"):
        amazon.counts(tmp_path, "amazon-6")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "Prime_Pantry_5.json.gz: .*[Ee]mpty"),
        (lambda data: data[: len(data) // 2], "is no sound gzip file"),
        (lambda data: b"plain text", "is no sound gzip file"),
        (lambda data: gzip.compress(b""), "Prime_Pantry_5.json.gz: .*[Ee]mpty"),
    ],
)
def test_a_damaged_file_of_reviews_is_refused(tmp_path, damage, message):
    write_reviews(tmp_path)
    path = tmp_path / "Prime_Pantry_5.json.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message):
        amazon.counts(tmp_path, "amazon-6")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("processed_data/uid2id.json", "{", "uid2id.json is no JSON file"),
        ("processed_data/uid2id.json", "[]", "uid2id.json: key id: is missing"),
        ("processed_data/uid2id.json", '{"id": "x"}', "key id: 'x' is no number of ids"),
        ("processed_data/user_emb.json", '{"0": "1 2"}', "its keys are not the ids 0 to 49"),
        ("domain_1/domain_property.json", "{}", "key domain_name: is missing"),
    ],
)
def test_prepared_files_of_another_form_are_refused(tmp_path, file, text, message):
    write_mamdr(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=message):
        mamdr.interactions(tmp_path, "mamdr-taobao-10", WRITERS["mamdr-taobao-10"][2])


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 2", "key 3: 2 numbers, expected 8"),
        ("1 x", "key 3: is no list of numbers"),
        (7, "key 3: is no list of numbers"),
    ],
)
def test_prepared_vectors_that_do_not_fit_are_named(tmp_path, cell, message):
    write_mamdr(tmp_path)
    path = tmp_path / "processed_data/item_emb.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"3": cell}))
    with pytest.raises(UserError, match=f"item_emb.json: {message}"):
        mamdr.interactions(tmp_path, "mamdr-taobao-10", WRITERS["mamdr-taobao-10"][2])


@pytest.mark.real_data
def test_the_real_amazon_3(real_data):
    folder = real_data / "amazon-3"
    assert amazon.counts(folder, "amazon-3") == SOURCES["amazon-3"].content.counts
    made = amazon.interactions(folder, "amazon-3", WRITERS["amazon-3"][2])
    positive = made.labels[:, 0] == 1
    assert np.bincount(made.domain[positive]).tolist() == [198_502, 167_597, 296_337]
    users = [set(made.fields[positive & (made.domain == d), 0].tolist()) for d in range(3)]
    shared = sorted(len(users[a] & users[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert shared == [1_625, 1_734, 2_073]
    for d, ratio in enumerate(ratios(3)):
        share = positive[made.domain == d].mean()
        assert ratio / (1 + ratio) <= share < 1.02 * ratio / (1 + ratio)
