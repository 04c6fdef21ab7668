import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from domain_experts.data import interactions as module
from domain_experts.data.interactions import Interactions, write
from domain_experts.errors import UserError
from domain_experts.schema import Schema
from domain_experts.training.batches import Rows

CONTENT = "28d6dff325e224405dc824dc3240fe80cb4878d7b2bbf116f19bbbba1ab02c16"


@pytest.fixture
def made():
    rng = np.random.default_rng(0)
    domain = (np.arange(90) % 3).astype(np.int16)
    return Interactions(
        schema=Schema(
            fields=(("user", 10), ("domain", 3)),
            dense=("age", "price"),
            domains=("a", "b", "c"),
            tasks=("click", "like"),
        ),
        fields=np.stack([rng.integers(0, 10, 90), domain], axis=1).astype(np.int32),
        dense=rng.random((90, 2), np.float32),
        labels=rng.integers(0, 2, (90, 2)).astype(np.uint8),
        domain=domain,
    )


def test_round_trip_is_exact_and_memory_mapped(made, tmp_path):
    truth = np.linspace(0, 1, 180, dtype=np.float32).reshape(90, 2)
    planted = replace(made, truth=truth, planted_groups=(0, 1, 0))
    for before in (made, planted):
        write(before, tmp_path / "x", {"source": "test"})
        after = Interactions.open(tmp_path / "x")
        assert after.schema == before.schema
        assert after.planted_groups == before.planted_groups
        assert after.arrays.keys() == before.arrays.keys()
        for name, array in after.arrays.items():
            assert isinstance(array, np.memmap)
            assert array.flags.c_contiguous
            assert not array.flags.writeable
            np.testing.assert_array_equal(array, before.arrays[name], strict=True)


def test_the_parquet_record_holds_the_same_rows(made, tmp_path):
    write(made, tmp_path, {})
    table = pq.read_table(tmp_path / "interactions.parquet")
    assert table.column_names == [
        *("field:user", "field:domain", "dense:age", "dense:price"),
        *("label:click", "label:like", "domain"),
    ]
    assert str(table.schema.field("field:user").type) == "int32"
    for name, array in (
        ("field:user", made.fields[:, 0]),
        ("dense:price", made.dense[:, 1]),
        ("label:like", made.labels[:, 1]),
        ("domain", made.domain),
    ):
        np.testing.assert_array_equal(table[name].to_numpy(), array, strict=True)


def test_the_truth_has_one_column_a_task(made, tmp_path):
    truth = np.linspace(0, 1, 180, dtype=np.float32).reshape(90, 2)
    write(replace(made, truth=truth), tmp_path / "two", {})
    table = pq.read_table(tmp_path / "two" / "interactions.parquet")
    np.testing.assert_array_equal(table["truth:like"].to_numpy(), truth[:, 1])
    one = replace(
        made, schema=replace(made.schema, tasks=("click",)), labels=made.labels[:, :1], truth=truth
    )
    with pytest.raises(ValueError, match="truth is"):
        write(one, tmp_path / "one", {})
    write(replace(one, truth=truth[:, 0]), tmp_path / "one", {})
    table = pq.read_table(tmp_path / "one" / "interactions.parquet")
    np.testing.assert_array_equal(table["truth"].to_numpy(), truth[:, 0])


def test_card_counts_rows_and_positives(made, tmp_path):
    write(made, tmp_path, {"source": "test"})
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["rows"] == 90
    assert card["rows_by_domain"] == [30, 30, 30]
    for j, task in enumerate(("click", "like")):
        positives = [int(made.labels[made.domain == d, j].sum()) for d in range(3)]
        assert card["positives_by_domain"][task] == positives
    assert card["provenance"] == {"source": "test"}


def test_writing_twice_gives_the_same_bytes(made, tmp_path):
    for name in ("x", "y"):
        write(made, tmp_path / name, {})
    for path in (tmp_path / "x").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def content(interactions, folder, provenance):
    write(interactions, folder, provenance)
    return Interactions.open(folder).card["content"]


def test_content_is_the_rows_and_the_schema_not_their_origin(made, tmp_path):
    first = content(made, tmp_path, {"url": "here"})
    assert content(made, tmp_path, {"url": "there"}) == first
    labels = made.labels.copy()
    labels[7, 1] ^= 1
    renamed = replace(made.schema, domains=("a", "b", "other"))
    for other in (
        replace(made, labels=labels),
        replace(made, schema=renamed),
        replace(made, planted_groups=(0, 0, 0)),
    ):
        assert content(other, tmp_path, {"url": "here"}) != first


def changed(interactions, name, row, value):
    array = getattr(interactions, name).copy()
    array[row] = value
    return replace(interactions, **{name: array})


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("fields", (4, 0), 10, "field 'user': row 4 holds 10, allowed are 0 to 9"),
        ("fields", (4, 0), -1, "field 'user': row 4 holds -1"),
        ("labels", (5, 1), 2, "label 'like': row 5 holds 2, allowed are 0 to 1"),
        ("domain", 6, 3, "domain: row 6 holds 3, allowed are 0 to 2"),
        ("domain", slice(1, None, 3), 0, "domains without rows: b"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_the_old_ones_kept(
    made, tmp_path, name, row, value, message
):
    write(made, tmp_path, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=message):
        write(changed(made, name, row, value), tmp_path, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_arrays_of_another_type_or_length_are_refused(made, tmp_path):
    with pytest.raises(ValueError, match=r"labels is .*int64"):
        write(replace(made, labels=made.labels.astype(np.int64)), tmp_path, {})
    with pytest.raises(ValueError, match="dense is"):
        write(replace(made, dense=made.dense[1:]), tmp_path, {})


def test_a_write_cut_short_leaves_nothing_to_open(made, tmp_path, monkeypatch):
    write(made, tmp_path, {})

    def full(path, value, sealed):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        write(changed(made, "labels", 0, 1), tmp_path, {})
    with pytest.raises(UserError, match=r"card\.json is missing"):
        Interactions.open(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"not an array"),
        lambda path: np.save(path, np.zeros((89, 2), np.uint8)),
        lambda path: np.save(path, np.zeros((90, 2), np.int8)),
        lambda path: np.save(path, np.array([{}] * 90), allow_pickle=True),
    ],
)
def test_a_file_that_does_not_fit_the_card_is_refused(made, tmp_path, damage):
    write(made, tmp_path / "toy", {})
    damage(tmp_path / "toy" / "labels.npy")
    with pytest.raises(UserError, match=r"labels\.npy .*run `domain-experts prepare toy`"):
        Interactions.open(tmp_path / "toy")


def test_a_damaged_card_is_refused(made, tmp_path):
    write(made, tmp_path, {})
    (tmp_path / "card.json").write_text('{"rows": ')
    with pytest.raises(UserError, match=r"card\.json is damaged"):
        Interactions.open(tmp_path)


def test_vectors_and_a_given_split_make_the_round_trip(made, tmp_path):
    rng = np.random.default_rng(1)
    before = replace(
        made,
        vectors={"user": rng.random((10, 4), np.float32), "domain": np.ones((3, 4), np.float32)},
        given_split=(np.arange(90) % 3).astype(np.uint8),
        sampled_negatives=True,
    )
    write(before, tmp_path, {})
    assert (tmp_path / "vectors-user.npy").is_file()
    after = Interactions.open(tmp_path)
    assert after.sampled_negatives
    assert after.vectors.keys() == before.vectors.keys()
    for name, table in after.vectors.items():
        assert isinstance(table, np.memmap)
        np.testing.assert_array_equal(table, before.vectors[name], strict=True)
    np.testing.assert_array_equal(after.given_split, before.given_split, strict=True)
    split = pq.read_table(tmp_path / "interactions.parquet")["given_split"].to_numpy()
    np.testing.assert_array_equal(split, before.given_split)


def test_a_time_is_kept_and_digested_apart_from_the_rows(made, tmp_path):
    time = np.arange(90) * 7
    found = []
    for name, of_rows in (("first", time), ("other", time + 1), ("none", None)):
        write(replace(made, time=of_rows), tmp_path / name, {})
        found.append(Interactions.open(tmp_path / name))
    np.testing.assert_array_equal(found[0].time, time, strict=True)
    record = pq.read_table(tmp_path / "first" / "interactions.parquet")
    np.testing.assert_array_equal(record["time"].to_numpy(), time)
    assert {opened.card["content"] for opened in found} == {CONTENT}
    assert found[0].card["time"] != found[1].card["time"]
    assert found[2].time is None
    assert "time" not in found[2].card


def test_the_user_is_the_field_of_that_name(made):
    np.testing.assert_array_equal(made.user, made.fields[:, 0])
    other = replace(
        made, schema=replace(made.schema, fields=(("city", 10), *made.schema.fields[1:]))
    )
    assert other.user is None


def test_vectors_and_a_given_split_are_part_of_the_content(made, tmp_path):
    vectors = {"user": np.ones((10, 2), np.float32)}
    other = {"user": np.zeros((10, 2), np.float32)}
    split = np.zeros(90, np.uint8)
    found = {
        content(interactions, tmp_path, {})
        for interactions in (
            made,
            replace(made, vectors=vectors),
            replace(made, vectors=other),
            replace(made, given_split=split),
            replace(made, sampled_negatives=True),
        )
    }
    assert len(found) == 5


def test_data_without_extras_keeps_its_card(made, tmp_path):
    write(made, tmp_path, {})
    after = Interactions.open(tmp_path)
    assert set(after.card["arrays"]) == {"fields", "dense", "labels", "domain"}
    assert "sampled_negatives" not in after.card
    assert after.given_split is None
    assert not after.vectors
    # recorded before there were extras
    assert after.card["content"] == CONTENT


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"city": np.ones((3, 2), np.float32)}, "unknown field 'city'; fields are user, domain"),
        ({"user": np.ones((9, 2), np.float32)}, "field 'user': 9 rows, but the field has 10 ids"),
        (
            {"user": np.ones((10, 2), np.float32), "domain": np.ones((3, 4), np.float32)},
            r"differ in width \(domain 4, user 2\)",
        ),
        ({"user": np.full((10, 2), np.nan, np.float32)}, "field 'user': row 0 is not finite"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(made, tmp_path, vectors, message):
    with pytest.raises(UserError, match=message):
        write(replace(made, vectors=vectors), tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_a_given_split_out_of_range_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="given split: row 0 holds 3, allowed are 0 to 2"):
        write(replace(made, given_split=np.full(90, 3, np.uint8)), tmp_path, {})


def test_training_reads_rows_from_the_files(made, tmp_path):
    write(made, tmp_path / "data", {})
    opened = Interactions.open(tmp_path / "data")
    rows = Rows.of(opened, torch.device("cpu"))
    for name in ("fields", "labels", "domain"):
        assert getattr(rows, name).data_ptr() == getattr(opened, name).ctypes.data
    index = np.array([2, 0])
    for found, array in zip(
        rows.take(torch.from_numpy(index)),
        (made.fields, made.dense, made.domain, made.labels),
        strict=True,
    ):
        np.testing.assert_array_equal(found, array[index])
    types = [column.dtype for column in rows.take(torch.from_numpy(index))]
    assert types == [torch.int32, torch.float32, torch.int64, torch.float32]


@pytest.fixture
def pooled(made):
    """A field of up to three ids, and one of up to two, after those of one."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, (7, 7, 7, 4, 4), (90, 5)).astype(np.int32)
    schema = replace(
        made.schema,
        fields=(*made.schema.fields, ("tags", 7), ("last", 4)),
        widths=(1, 1, 3, 2),
    )
    return replace(
        made,
        schema=schema,
        fields=np.concatenate([made.fields, codes], axis=1),
        weight=rng.random(90, np.float32),
    )


def test_pooled_fields_and_weights_are_kept(made, pooled, tmp_path):
    write(pooled, tmp_path / "x", {})
    after = Interactions.open(tmp_path / "x")
    assert after.schema == pooled.schema
    assert after.schema.single == made.schema.fields
    np.testing.assert_array_equal(after.fields, pooled.fields)
    np.testing.assert_array_equal(after.weight, pooled.weight)
    table = pq.read_table(tmp_path / "x" / "interactions.parquet")
    assert table["field:tags"].to_pylist() == pooled.fields[:, 2:5].tolist()
    assert table["field:last"].to_pylist() == pooled.fields[:, 5:].tolist()
    np.testing.assert_array_equal(table["weight"].to_numpy(), pooled.weight)
    # what is said of it is all part of its identity
    contents = {after.card["content"]}
    others = (
        replace(pooled, weight=None),
        replace(pooled, weight=1 - pooled.weight),
        replace(pooled, schema=replace(pooled.schema, widths=(1, 1, 2, 3))),
    )
    for other in others:
        codes = np.minimum(other.fields, 3)
        write(replace(other, fields=codes), tmp_path / "y", {})
        contents.add(Interactions.open(tmp_path / "y").card["content"])
    assert len(contents) == 4


def test_a_data_set_without_them_is_as_ever(made, tmp_path):
    write(made, tmp_path, {"source": "test"})
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["content"] == CONTENT
    assert not {"widths", "weight"} & {*card, *card["arrays"]}
    assert card["fields"] == [{"name": "user", "size": 10}, {"name": "domain", "size": 3}]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("card.json", "dense.npy", "domain.npy", "fields.npy", "interactions.parquet"),
        "labels.npy",
    ]


def test_a_pooled_code_or_a_weight_out_of_range_is_refused(pooled, tmp_path):
    codes = pooled.fields.copy()
    codes[4, 6] = 4
    with pytest.raises(UserError, match="field 'last': row 4 holds 4, allowed are 0 to 3"):
        write(replace(pooled, fields=codes), tmp_path, {})
    for value in (-1, np.nan, np.inf):
        weight = pooled.weight.copy()
        weight[7] = value
        with pytest.raises(UserError, match=f"weight: row 7 holds {value}"):
            write(replace(pooled, weight=weight), tmp_path, {})
    with pytest.raises(ValueError, match="fields is"):
        write(replace(pooled, fields=pooled.fields[:, :-1]), tmp_path, {})


@pytest.mark.parametrize("widths", [(1,), (1, 1), (2, 1), (0, 2), (1, 1, 2)])
def test_widths_that_do_not_fit_are_refused(made, widths):
    with pytest.raises(ValueError, match="widths"):
        replace(made.schema, widths=widths)
