"""What is wrong with a log is said in one line that names the place and the way out."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from test_log import SPEC, frame, read

from domain_experts import layout
from domain_experts.data.log import reader
from domain_experts.data.prepare import prepare
from domain_experts.data.specs import Log
from domain_experts.errors import UserError


def refused(log=None, path="log.parquet", **changes):
    with pytest.raises(UserError) as error:
        read(changes, frame(80) if log is None else log, path=path)
    message = str(error.value)
    assert "\n" not in message
    assert not layout.card("toy").exists()
    return message


def test_a_renamed_column(project):
    message = refused(frame(80).rename(columns={"price": "prices"}))
    assert "column 'price' is unknown; did you mean prices?" in message


@pytest.mark.parametrize("path", ["log.parquet", "log.csv"])
@pytest.mark.parametrize("value", [2, None])
def test_a_label_that_is_none(project, path, value):
    log = frame(80)
    log["click"] = log["click"].astype("Int64")
    log.loc[30, "click"] = value
    message = refused(log, path)
    assert f"{path}, row 31: column 'click'" in message


def test_a_missing_rating(project):
    log = frame(80)
    log["rating"] = log["rating"].astype("Int64")
    log.loc[3, "rating"] = None
    assert "log.parquet, row 4: column 'rating'" in refused(log)


def test_a_missing_domain(project):
    log = frame(80)
    log.loc[7, "category"] = None
    assert "row 8: column 'category'" in refused(log)


def test_missing_ids_are_rare(project):
    log = frame(80)
    log.loc[5, ["item", "tags"]] = None
    made = read(table=log)
    assert made.fields[5, 1] == 0


def test_a_task_with_one_class(project):
    assert "task 'click': every row has label 1" in refused(frame(80).assign(click=1))


def test_a_domain_with_one_class_is_said(project):
    log = frame(80)
    log.loc[log["category"] == "books", "click"] = 0
    made = read(table=log)
    assert made.card["provenance"]["report"]["domains_of_one_class"] == {"click": ["books"]}


def test_no_file_and_an_empty_one(project):
    for files in ("nothing-*.parquet", "log.xlsx"):
        with pytest.raises(UserError, match="fits no file"):
            prepare("toy", Log.model_validate(SPEC | {"files": files}))
    Path("empty.csv").touch()
    with pytest.raises(UserError, match=r"empty.csv is empty"):
        prepare("toy", Log.model_validate(SPEC | {"files": "empty.csv"}))
    assert "no rows" in refused(frame(80)[:0])
    Path("log.xlsx").write_text("x")
    with pytest.raises(UserError, match=r"log.xlsx: a log is"):
        prepare("toy", Log.model_validate(SPEC | {"files": "log.xlsx"}))


def test_a_file_that_is_no_parquet(project):
    Path("log.parquet").write_text("user,item\n1,2\n")
    with pytest.raises(UserError, match=r"log.parquet cannot be read"):
        prepare("toy", Log.model_validate(SPEC))


def test_a_csv_file_with_a_torn_line(project):
    frame(80).to_csv("log.csv", index=False)
    with Path("log.csv").open("a") as file:
        file.write("1,2\n")
    with pytest.raises(UserError, match=r"log.csv cannot be read"):
        prepare("toy", Log.model_validate(SPEC | {"files": "log.csv"}))


def test_files_with_different_schemas(project):
    frame(80).to_parquet("a.parquet")
    frame(80).assign(price="dear").to_parquet("b.parquet")
    with pytest.raises(UserError) as error:
        prepare("toy", Log.model_validate(SPEC | {"files": ["a.parquet", "b.parquet"]}))
    for part in ("different schemas", "'price'", "a.parquet", "b.parquet"):
        assert part in str(error.value)


@pytest.mark.parametrize("path", ["log.parquet", "log.csv"])
def test_a_time_that_is_none(project, path):
    log = frame(80)
    log["ts"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(log["ts"], unit="h")
    log["ts"] = log["ts"].astype(str)
    log.loc[40, "ts"] = "yesterday"
    assert f"{path}, row 41: column 'ts' holds 'yesterday', no time" in refused(log, path)


@pytest.mark.parametrize(
    "form", ["datetime64[us]", "datetime64[ns, UTC]", "iso", "zoned", "float", "date"]
)
def test_forms_of_time_keep_the_order(project, form):
    log = frame(80)
    moment = pd.Timestamp("2024-01-01") + pd.to_timedelta(log["ts"], unit="h")
    log["ts"] = {
        "iso": lambda: moment.astype(str),
        "zoned": lambda: moment.dt.strftime("%Y-%m-%dT%H:%M:%S+02:00"),
        "float": lambda: log["ts"] + 0.5,
        "date": lambda: moment.dt.date,
        "datetime64[us]": lambda: moment.astype("datetime64[us]"),
        "datetime64[ns, UTC]": lambda: moment.dt.tz_localize("UTC"),
    }[form]()
    made = read(table=log)
    expected = pd.Series(log["ts"]).rank(method="dense")
    assert (pd.Series(np.asarray(made.time)).rank(method="dense") == expected).all()


def test_a_price_that_is_no_number(project):
    log = frame(80)
    log["price"] = log["price"].astype(object)
    log.loc[11, "price"] = "much"
    assert "log.csv, row 12: column 'price' holds 'much'" in refused(log, "log.csv")


def test_a_weight_below_zero(project):
    log = frame(80)
    log.loc[2, "w"] = -1
    assert "row 3: column 'w' holds -1.0" in refused(log)


def test_two_rows_for_one_key(project):
    log = frame(80).drop_duplicates(["user", "item", "ts"], ignore_index=True)
    assert read({"key": ["user", "item", "ts"]}, log).card["rows"] == len(log)
    layout.card("toy").unlink()
    log = pd.concat([log, log[4:5]], ignore_index=True)
    message = refused(log, key=["user", "item", "ts"])
    assert f"row {len(log)}: same user, item, ts as log.parquet, row 5" in message


def test_a_split_column_of_other_words(project):
    log = frame(80).assign(part="train")
    log.loc[9, "part"] = "dev"
    message = refused(log, split={"rule": "column", "column": "part"})
    assert "row 10: column 'part' holds 'dev'" in message
    message = refused(frame(80).assign(part="train"), split={"rule": "column", "column": "part"})
    assert "no validation rows" in message


def test_a_file_that_changes_while_it_is_read(project, monkeypatch):
    second_pass = reader._second_pass

    def grows(*given):
        os.utime("log.parquet", ns=(1, 1))
        return second_pass(*given)

    monkeypatch.setattr(reader, "_second_pass", grows)
    assert "log.parquet changed while it was read" in refused()


def test_negatives_of_a_log_that_has_some(project):
    message = refused(negatives={"per_positive": 1}, history={}, tasks={"click": "click"})
    assert "negative already" in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fields": {"user": {"hash": 1}, "item": {}}}, "greater than or equal to 2"),
        ({"history": {"past": {"of": "itme", "last": 3}}}, "did you mean item?"),
        ({"history": {"user": {"of": "item", "last": 3}}}, "has this name"),
        ({"split": {"rule": "time"}, "time": None, "history": {}}, "needs `time`"),
        ({"fields": {"item": {}}, "split": {"rule": "each_user_last"}}, "field named user"),
        ({"split": {"validation": 0.6, "test": 0.5}}, "leave no training rows"),
        ({"negatives": {"per_positive": 1, "of": "itme"}}, "did you mean item?"),
    ],
)
def test_a_spec_that_cannot_be(changes, said):
    with pytest.raises(ValidationError, match=said):
        Log.model_validate(SPEC | changes)
