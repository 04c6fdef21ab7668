import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from domain_experts import layout
from domain_experts.data.cut import write_splits
from domain_experts.data.interactions import Interactions, write
from domain_experts.data.log import files as log_files
from domain_experts.data.log import reader
from domain_experts.data.log.encoder import Encoder
from domain_experts.data.prepare import prepare
from domain_experts.data.specs import Log, SplitRule
from domain_experts.data.split import TEST, TRAIN

ROWS = 600
SPEC = {
    "source": "log",
    "files": "log.parquet",
    "domain": "category",
    "tasks": {"best": "rating >= 4", "click": "click"},
    "fields": {
        "user": {"min_count": 2},
        "item": {"min_count": 3},
        "tags": {"multi": "|", "most": 2},
        "category": {"min_count": 1},
        "shop": {"hash": 7},
    },
    "history": {"past": {"of": "item", "last": 3}},
    "dense": [{"column": "price", "transform": "log"}, "age"],
    "time": "ts",
    "weight": "w",
}


def frame(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    tags = ["|".join(rng.choice(list("xyz"), rng.integers(0, 4))) for _ in range(rows)]
    return pd.DataFrame(
        {
            "user": rng.integers(0, 60, rows),
            "item": [f"i{n}" for n in rng.zipf(1.4, rows) % 80],
            "category": rng.choice(["books", "films", "games"], rows),
            "tags": tags,
            "shop": rng.choice(list("abcdefghij"), rows),
            "price": np.where(rng.random(rows) < 0.1, np.nan, rng.exponential(9, rows)),
            "age": rng.integers(18, 80, rows),
            "ts": rng.integers(0, 200, rows),
            "rating": rng.integers(1, 6, rows),
            "click": rng.integers(0, 2, rows),
            "w": rng.random(rows),
        }
    )


def read(changes=None, table=None, name="toy", path="log.parquet"):
    """Write a log, prepare it, and open what was made."""
    table = frame() if table is None else table
    if path.endswith(".parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    prepare(name, Log.model_validate(SPEC | {"files": path} | (changes or {})))
    return Interactions.open(layout.interactions(name))


def report(made):
    return made.card["provenance"]["report"]


def codes_of(training, values, least):
    """Codes by a slow obvious way: most frequent first, equals by id; 0 for rare and unknown."""
    counts = {}
    for value in training:
        counts[value] = counts.get(value, 0) + 1
    kept = sorted((v for v, n in counts.items() if n >= least), key=lambda v: (-counts[v], v))
    if len(kept) == len(counts) and least > 1:
        # else nothing would train the code of unknown ids
        kept.pop()
    place = {value: code + 1 for code, value in enumerate(kept)}
    return np.array([place.get(value, 0) for value in values])


def test_rows_are_those_of_a_slow_obvious_reader(project):
    log = frame()
    made = read()
    split = np.asarray(made.given_split)
    train = split == TRAIN
    at = {name: j for j, (name, _) in enumerate(made.schema.single)}
    for name, least in (("user", 2), ("item", 3), ("category", 1)):
        expected = codes_of(log[name][train], log[name], least)
        assert (made.fields[:, at[name]] == expected).all(), name
    domains = sorted(log["category"].unique())
    assert made.schema.domains == tuple(domains)
    assert (made.domain == log["category"].map(domains.index)).all()
    assert (made.labels[:, 0] == (log["rating"] >= 4)).all()
    assert (made.labels[:, 1] == log["click"]).all()
    assert (made.time == log["ts"]).all()
    assert np.allclose(made.weight, log["w"])
    price = np.log1p(log["price"])
    expected = ((price - price[train].mean()) / price[train].std(ddof=0)).fillna(0)
    assert np.allclose(made.dense[:, 0], expected, atol=1e-5)
    # several ids: the first two, none after them
    tags = [[t for t in row.split("|") if t] for row in log["tags"]]
    known = [t for row, mine in zip(tags, train, strict=True) if mine for t in row]
    start = len(made.schema.single)
    for k in range(2):
        first = [row[k] if len(row) > k else None for row in tags]
        expected = codes_of(known, first, 2)
        expected = np.where([t is None for t in first], 0, expected + 1)
        assert (made.fields[:, start + k] == expected).all()


def test_the_row_of_unknown_ids_is_trained_unless_each_id_is_to_have_its_own(project, capsys):
    table = frame()
    table["shop"] = np.where(np.arange(ROWS) % 7 == 0, None, table["shop"])
    fields = {"user": {}, "device": {"column": "category"}, "shop": {}, "tags": {"multi": "|"}}
    own = {"category": {"min_count": 1}, "click": {"min_count": 1}}
    made = read({"fields": fields | own, "history": {}}, table)
    training = np.asarray(made.given_split) == TRAIN
    sizes = dict(made.schema.fields)
    at = {name: j for j, (name, _) in enumerate(made.schema.fields)}
    # the rarest of three is alone there, so that none is confused with another
    assert sizes["device"] == 3
    device = made.fields[:, at["device"]]
    assert len(set(zip(device, table["category"], strict=True))) == 3
    rarest = table["category"][training].value_counts().idxmin()
    assert set(table["category"][device == 0]) == {rarest}
    # rows without an id train it anyway
    assert sizes["shop"] == table["shop"].nunique() + 1
    assert sizes["tags"] == 2 + 2
    assert sizes["category"] == 3 + 1
    (said,) = [r for r in report(made)["remarks"] if "untrained" in r]
    assert "in fields category, click;" in said
    assert said in capsys.readouterr().err


def test_history_is_the_last_items_before_the_moment(project):
    log = frame(300)
    made = read(table=log)
    item = made.fields[:, [name for name, _ in made.schema.single].index("item")]
    past = made.fields[:, -3:]
    for row in range(len(log)):
        user, moment = log["user"][row], log["ts"][row]
        before = log[(log["user"] == user) & (log["ts"] < moment)].sort_values("ts", kind="stable")
        expected = [item[r] + 1 for r in before.index[::-1][:3]]
        assert past[row].tolist() == expected + [0] * (3 - len(expected))


def test_streamed_files_are_those_that_rows_in_memory_leave(project):
    made = read()
    write(made, Path("data/interactions/again"), {})
    again = Interactions.open(Path("data/interactions/again"))
    for key in ("content", "time", "arrays", "rows_by_domain", "positives_by_domain", "widths"):
        assert made.card[key] == again.card[key]
    for name in made.arrays:
        streamed = (layout.interactions("toy") / f"{name}.npy").read_bytes()
        assert streamed == Path(f"data/interactions/again/{name}.npy").read_bytes()
    record = "interactions.parquet"
    assert pq.read_table(layout.interactions("toy") / record).equals(
        pq.read_table(Path("data/interactions/again") / record)
    )


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 199), max_size=5))
def test_encoding_in_any_batches_gives_the_same_bytes(encoded, cuts):
    encoder, table = encoded
    whole = encoder.encode(table)
    ends = [0, *sorted(cuts), table.num_rows]
    parts = [encoder.encode(table[a:b]) for a, b in itertools.pairwise(ends) if b > a]
    for name in ("fields", "dense", "domain", "labels"):
        together = np.concatenate([getattr(part, name) for part in parts])
        assert together.tobytes() == getattr(whole, name).tobytes()


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("log"))
        read()
        encoder = Encoder.open(layout.interactions("toy") / reader.ENCODER)
    new = frame(200, seed=1)
    new["past"] = [["i1", "i2", None, "nobody"][: n % 5] for n in range(len(new))]
    return encoder, pa.Table.from_pandas(new)


def test_reading_in_any_blocks_gives_the_same_files(project, monkeypatch):
    whole = read()
    monkeypatch.setattr(log_files.LogFiles.blocks, "__defaults__", (37,))
    parts = read(name="parts")
    assert whole.card["content"] == parts.card["content"]


def test_the_saved_encoder_gives_the_training_rows_again(project):
    made = read()
    encoder = Encoder.open(layout.interactions("toy") / reader.ENCODER)
    assert encoder.schema == made.schema
    table = pa.Table.from_pandas(frame())
    items = table["item"].to_pylist()
    past = pa.array([[]] * len(items), pa.list_(pa.string()))
    encoded = encoder.encode(table.append_column("past", past))
    assert (encoded.fields[:, :-3] == made.fields[:, :-3]).all()
    assert (encoded.fields[:, -3:] == 0).all()
    assert (encoded.dense == made.dense).all()
    assert (encoded.domain == made.domain).all()
    assert (encoded.labels == made.labels).all()


def test_unknown_ids_and_domains_are_no_other_ones(encoded):
    encoder, table = encoded
    strange = (
        table.slice(0, 1)
        .to_pandas()
        .assign(user=10**12, item="new", category="toys", tags="new|x", price=np.nan)
    )
    found = encoder.encode(pa.Table.from_pandas(strange))
    at = {name: j for j, name in enumerate(encoder.single)}
    assert found.fields[0, [at["user"], at["item"], at["category"]]].tolist() == [0, 0, 0]
    assert found.fields[0, len(at)] == 1
    assert found.domain[0] == -1
    assert found.dense[0, 0] == 0


def test_texts_and_numbers_of_one_id_are_the_same_id(encoded):
    encoder, table = encoded
    text = table.to_pandas()
    text["user"] = text["user"].astype(str)
    floats = text.assign(user=text["user"].astype(float))
    whole = encoder.encode(table).fields
    for same in (text, floats):
        assert (encoder.encode(pa.Table.from_pandas(same)).fields == whole).all()


@pytest.mark.parametrize("path", ["log.csv", "log.csv.gz", "log.tsv.bz2"])
def test_csv_is_read_as_parquet_is(project, path):
    log = frame().assign(user=lambda f: "u" + f["user"].astype(str))
    parquet = read(table=log)
    assert read(table=log, path=path, name="csv").card["content"] == parquet.card["content"]


def test_another_delimiter_and_encoding(project):
    log = frame().assign(shop="Gemüse")
    log.to_csv("log.csv", sep=";", encoding="latin-1", index=False)
    csv = {"delimiter": ";", "encoding": "latin-1"}
    prepare("toy", Log.model_validate(SPEC | {"files": "log.csv", "csv": csv}))
    assert Interactions.open(layout.interactions("toy")).card["rows"] == ROWS


def test_several_files_follow_each_other(project):
    whole = read()
    log = frame()
    log[:250].to_parquet("part-1.parquet")
    log[250:].to_parquet("part-2.parquet")
    prepare("parts", Log.model_validate(SPEC | {"files": "part-*.parquet"}))
    parts = Interactions.open(layout.interactions("parts"))
    assert parts.card["content"] == whole.card["content"]
    assert len(parts.card["provenance"]["files"]) == 2


@pytest.mark.parametrize("rare", ["shared", "drop"])
def test_rare_domains(project, rare):
    log = frame()
    log.loc[:9, "category"] = [f"rare {n}" for n in range(10)]
    made = read({"domain": {"column": "category", "min_rows": 50, "rare": rare}}, log)
    others = log["category"].str.startswith("rare")
    if rare == "shared":
        assert made.schema.domains == ("books", "films", "games", "(other)")
        assert ((made.domain == 3) == others).all()
    else:
        assert made.schema.domains == ("books", "films", "games")
        assert made.card["rows"] == ROWS - 10
        kept = log[~others]
        assert (made.labels[:, 1] == kept["click"]).all()
    assert report(made)["rare_domains"] == {"domains": 10, "rows": 10}


def test_a_domain_of_test_rows_alone_is_said_and_not_refused(project, capsys):
    log = frame().sort_values("ts", kind="stable", ignore_index=True)
    log.loc[ROWS - 5 :, "category"] = "late"
    made = read({"split": {"rule": "time"}}, log)
    assert report(made)["domains_without_training_rows"] == ["late"]
    assert "late" in capsys.readouterr().err
    write_splits(SplitRule(rule="given"), "quick", "toy", [1])
    index = json.loads(layout.split_index("quick", "toy").read_text())
    assert index["seeds"]["1"]["rows"]["train"][-1] == 0


@pytest.mark.parametrize("rule", ["random", "stratified", "time", "each_user_last"])
def test_split_rules_share_out_all_rows(project, rule):
    made = read({"split": {"rule": rule, "validation": 0.1, "test": 0.2}})
    shares = np.bincount(made.given_split) / ROWS
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.02)
    if rule == "time":
        assert made.time[made.given_split == TRAIN].max() <= made.time[made.given_split == 2].min()


def test_a_given_split(project):
    log = frame()
    log["part"] = np.random.default_rng(1).choice(["train", "validation", "test"], ROWS)
    made = read({"split": {"rule": "column", "column": "part"}}, log)
    names = np.array(["train", "validation", "test"])
    assert (names[made.given_split] == log["part"]).all()


def test_leaks_are_named(project, capsys):
    log = frame()
    rng = np.random.default_rng(2)
    log["dwell"] = np.where(rng.random(ROWS) < 0.02, 0, log["click"] * 60 + rng.random(ROWS))
    log["page"] = np.where(log["click"] == 1, "thanks", "list")
    log = pd.concat([log, log], ignore_index=True)
    changes = {
        "tasks": {"click": "click"},
        "dense": ["dwell"],
        "fields": {"user": {}, "page": {"min_count": 1}},
        "history": {},
        "split": {"rule": "random"},
    }
    made = read(changes, log)
    said = capsys.readouterr().err
    assert "'dwell' alone" in said
    assert "'page' alone" in said
    assert "'user' alone" not in said
    test = made.given_split == TEST
    expected = roc_auc_score(made.labels[test, 0], made.dense[test, 0])
    assert report(made)["auc_alone"]["click"]["dwell"] == pytest.approx(expected)
    both = pd.DataFrame({"row": np.arange(2 * ROWS) % ROWS, "split": made.given_split})
    split = both.groupby("row")["split"].nunique()
    assert report(made)["rows_in_two_splits"] == (split > 1).sum()
    test_users = set(log["user"][test])
    trained = test_users & set(log["user"][made.given_split == TRAIN])
    assert report(made)["users"] == {"tested": len(test_users), "of_them_trained": len(trained)}


@pytest.mark.parametrize("among", ["domain", "all"])
def test_negatives_are_items_that_the_user_did_not_meet(project, among):
    log = frame().drop_duplicates(["user", "item"], ignore_index=True)
    log["item"] = log["item"].str[1:].astype(int)
    kinds = log["item"] % 4
    log["kind"] = kinds
    changes = {
        "tasks": {"click": "ts >= 0"},
        "fields": {n: {"min_count": 1} for n in ("user", "item", "kind")},
        "history": {},
        "negatives": {"per_positive": 2, "among": among, "along": ["kind"]},
    }
    made = read(changes, log)
    encoder = Encoder.open(layout.interactions("toy") / reader.ENCODER)
    positives = len(log)
    assert (made.labels[:positives] == 1).all()
    assert (made.labels[positives:] == 0).all()
    drawn = report(made)["negatives"]
    assert drawn["drawn"] == made.card["rows"] - positives > positives
    assert drawn["hit_test_positives"] == 0
    # ids of the vocabulary can be told; those of held-out rows alone are not in it
    user = encoder.vocabularies["user"].ids.to_pylist()
    item = encoder.vocabularies["item"].ids.to_pylist()
    kind = encoder.vocabularies["kind"].ids.to_pylist()
    met = set(zip(log["user"], log["item"], strict=True))
    of_domain = log.groupby("category")["item"].agg(set)
    seen = set()
    for row in range(positives, made.card["rows"]):
        u, i, k = made.fields[row]
        if u and i:
            pair = user[u - 1], item[i - 1]
            assert pair not in met | seen
            seen.add(pair)
            assert kind[k - 1] == item[i - 1] % 4
            if among == "domain":
                assert item[i - 1] in of_domain[made.schema.domains[made.domain[row]]]
    assert read(changes, log, "again").card["content"] == made.card["content"]
