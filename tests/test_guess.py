"""`domain-experts init`: what it guesses of a log and warns of, and that a study can read it."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domain_experts.data.log.guess import guess
from domain_experts.data.prepare import prepare
from domain_experts.data.specs import Log
from domain_experts.errors import UserError
from domain_experts.study_file import StudyFile, read

ROWS = 600


def log():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "uid": [f"u{n}" for n in rng.integers(0, 50, ROWS)],
            "movie_id": rng.integers(0, 30, ROWS),
            "genre": rng.choice(["drama", "comedy", "war"], ROWS),
            "tags": ["|".join(rng.choice(list("xyz"), 2)) for _ in range(ROWS)],
            "when": pd.date_range("2024-01-01", periods=ROWS, freq="h").astype(str),
            "price": rng.exponential(10, ROWS),
            "clicked": rng.integers(0, 2, ROWS),
        }
    )


@pytest.fixture
def guessed(project):
    """Guess of a table: the text, and the study that it is."""

    def made(table, name="log.parquet", **how):
        if name.endswith(".parquet"):
            table.to_parquet(name)
        else:
            table.to_csv(name, index=False, **how)
        text = guess([name])
        Path("own.yaml").write_text(text)
        return text, read(Path("own.yaml"))

    return made


def warnings(text):
    return [line for line in text.splitlines() if line.startswith("# WARNING")]


def columns(study):
    return {name: of.column or name for name, of in study.fields.items()}


def as_log(study):
    said = study.model_dump(exclude=set(StudyFile.model_fields) - set(Log.model_fields))
    return Log.model_validate({"source": "log", **said})


def test_roles_of_columns_are_guessed_by_name_and_content(guessed):
    text, study = guessed(log())
    assert warnings(text) == []
    assert columns(study) == {"user": "uid", "item": "movie_id", "genre": "genre", "tags": "tags"}
    assert study.fields["tags"].multi == "|"
    assert study.domain.column == "genre"
    assert study.tasks == {"clicked": "clicked"}
    assert [of.column for of in study.dense] == ["price"]
    assert (study.time, study.split.rule) == ("when", "time")
    assert "genre: text, 3 values" in text
    assert text.startswith(f"# Guessed from {ROWS} rows of log.parquet")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_csv_file_with_another_delimiter_gives_the_same_study(guessed, delimiter):
    table = log().drop(columns="tags")
    _, expected = guessed(table)
    _, study = guessed(table, "log.csv", sep=delimiter)
    assert study.csv.delimiter == delimiter
    alike = {"files": expected.files, "csv": expected.csv}
    assert study.model_copy(update=alike) == expected


def test_a_compressed_file_is_looked_into(guessed, project):
    log().to_csv("plain.csv", index=False)
    Path("log.csv.gz").write_bytes(gzip.compress(Path("plain.csv").read_bytes()))
    assert "column: uid" in guess(["log.csv.gz"])


def test_what_is_guessed_of_a_small_log_can_be_prepared_as_it_is(guessed):
    _, study = guessed(log(), "log.csv")
    # of 600 rows no domain of three has 200 for training
    assert study.domain.min_rows == 100
    prepare("own", as_log(study))
    card = Path("data/interactions/own/card.json").read_text()
    assert '"drama"' in card
    assert "(other)" not in card


def test_a_rating_stands_in_for_a_label(guessed):
    table = log().drop(columns="clicked").assign(stars=np.arange(ROWS) % 5 + 1)
    text, study = guessed(table)
    assert study.tasks == {"best": "stars >= 4"}
    assert "stars" not in columns(study).values()
    assert warnings(text) == ["# WARNING: no column of 0 and 1: 'stars' is taken as a rating"]


def test_without_anything_like_a_label_it_says_what_to_fill_in(guessed):
    text, study = guessed(log().drop(columns=["clicked", "uid", "when"]))
    assert study.tasks == {"label": "LABEL"}
    said = " ".join(warnings(text))
    assert "say in `tasks` what is to be foretold" in said
    assert "no column looks like the user" in said
    assert "no column looks like the time" in said
    assert study.split.rule == "stratified"
    # which is refused by name until it is filled in
    with pytest.raises(UserError, match="LABEL"):
        prepare("own", as_log(study))


def test_columns_of_no_use_are_left_out_with_a_warning(guessed):
    table = log().assign(same=1, request=[f"r{n}" for n in range(ROWS)])
    text, study = guessed(table)
    assert not {"same", "request"} & {*columns(study).values()}
    assert warnings(text) == [
        "# WARNING: 'same' is left out: it has one value",
        "# WARNING: 'request' is left out: nearly each row has a value of its own",
    ]


def test_missing_values_are_counted_and_no_domain_has_them(guessed):
    table = log()
    table.loc[:9, "genre"] = None
    text, study = guessed(table.assign(shop=np.arange(ROWS) % 4))
    assert "genre: text, 3 values, 10 missing" in text
    assert study.domain.column == "shop"


def test_a_file_without_rows_is_refused(project):
    Path("log.csv").write_text("uid,clicked\n")
    with pytest.raises(UserError, match=r"log.csv has no rows"):
        guess(["log.csv"])
