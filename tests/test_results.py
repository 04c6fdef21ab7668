"""The results file: what it refuses, and that it comes back as it was written."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_experts.errors import UserError
from domain_experts.results import COLUMNS, read, table, write

ROW = {
    "run": "baselines/d/wdl/mlora/default/seed=1",
    "dataset": "d",
    "backbone": "wdl",
    "arm": "mlora",
    "variant": "default",
    "seed": 1,
    "split_seed": 1,
    "settings": "{}",
    "split": "test",
    "metric": "wauc",
    "value": 0.7,
    "status": "current",
    "key": "k",
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "quick" / "results.parquet"


@given(st.lists(st.floats(allow_nan=False), unique=True, min_size=1))
def test_numbers_come_back_bit_by_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("r") / "results.parquet"
    rows = table(ROW | {"domain": f"D{i}", "value": v} for i, v in enumerate(values))
    write(rows, path)
    pd.testing.assert_frame_equal(read(path), rows, check_exact=True)
    before = path.read_bytes()
    write(read(path), path)
    assert path.read_bytes() == before


def test_no_rows_are_a_table_too(path):
    write(table([]), path)
    assert list(read(path)) == COLUMNS.names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domain": "D1"}, None),
        ({}, "two numbers under one identity .*metric 'wauc'"),
        ({"metric": "auc", "value": np.nan}, "auc of baselines/.* is not a number"),
        ({"metric": "auc", "status": "fresh"}, "unknown status .*known are current, stale"),
    ],
)
def test_what_no_reader_could_show_is_refused(path, change, message):
    rows = table([ROW, ROW | change])
    if message is None:
        write(rows, path)
        return
    with pytest.raises(UserError, match=message):
        write(rows, path)
    assert not path.exists()
    written = pa.Table.from_pandas(rows, COLUMNS, preserve_index=False)
    path.parent.mkdir(parents=True)
    pq.write_table(written.replace_schema_metadata({"version": "1"}), path)
    with pytest.raises(UserError, match=message):
        read(path)


def test_another_version_is_refused(path):
    write(table([ROW]), path)
    pq.write_table(pq.read_table(path).replace_schema_metadata({"version": "0"}), path)
    with pytest.raises(UserError, match=r"of version 0, and this code reads 1; .*tier=quick"):
        read(path)


def test_a_missing_column_is_named(path):
    write(table([ROW]), path)
    # without a seal, as files of before have none
    less = pq.read_table(path).drop_columns(["against"])
    kept = {key: value for key, value in less.schema.metadata.items() if key != b"seal"}
    pq.write_table(less.replace_schema_metadata(kept), path)
    with pytest.raises(UserError, match="lacks the column against"):
        read(path)
