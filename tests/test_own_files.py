"""examples/own-data/: its study files fit the plain files that scripts/own_files.py makes."""

import runpy

import pandas as pd
import pytest
import yaml
from projects import ROOT
from rawfiles import write_epinions

from domain_experts.data.log.guess import guess
from domain_experts.data.log.values import column_of
from domain_experts.study_file import params_of, read

STUDIES = ROOT / "examples/own-data"
TITLES = ("Sun, The", "Moon, The", "Star, A", "Rain")


@pytest.fixture(scope="module")
def made():
    return runpy.run_path(str(ROOT / "scripts/own_files.py"))


def movielens(made, folder):
    """Of four users and items, each with each."""
    genres = ["unknown", "Comedy", "Drama"]
    released = ["01-Jan-1995", "02-Feb-1996", "", "04-Apr-1996"]
    flags = ["0|1|0", "0|1|1", "1|0|0", "0|1|1"]
    texts = {
        "u.genre": [f"{name}|{code}" for code, name in enumerate(genres)],
        "u.data": [f"{u}\t{i}\t{u % 5 + 1}\t{u * i}" for u in range(1, 5) for i in range(1, 5)],
        "u.user": [f"{u}|{20 + u}|M|{'writer' if u % 2 else 'artist'}|0{u}" for u in range(1, 5)],
        "u.item": [
            f"{i}|{title}|{date}||url|{flag}"
            for i, (title, date, flag) in enumerate(zip(TITLES, released, flags, strict=True), 1)
        ],
    }
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="latin-1")
    return made["movielens_100k"](folder)


def epinions(made, folder):
    write_epinions(folder)
    return made["epinions"](folder)


@pytest.mark.parametrize(
    ("name", "rows_of"), [("movielens-100k", movielens), ("epinions", epinions)]
)
def test_a_study_file_fits_its_plain_file(made, tmp_path, name, rows_of):
    rows = rows_of(made, tmp_path)
    study = read(STUDIES / f"{name}.yaml")
    named = [study.domain.column, study.time, *(dense.column for dense in study.dense)]
    named += [field.column or role for role, field in study.fields.items()]
    named += [column_of(of, [*rows])[0] for of in study.tasks.values()]
    assert {*named} <= {*rows}
    assert params_of(study, name, STUDIES)["experiments"]["main"]["datasets"] == {"study": [name]}


def test_movielens_rows_hold_what_is_known_of_user_and_item(made, tmp_path):
    rows = movielens(made, tmp_path).set_index(["user_id", "item_id"])
    assert len(rows) == 16
    assert rows.loc[(3, 2), ["occupation", "age", "title", "year", "genres"]].tolist() == [
        *("writer", 23, "Moon, The", 1996, "Comedy|Drama"),
    ]
    assert pd.isna(rows.loc[(1, 3), "year"])


def test_epinions_rows_are_the_later_ones_without_what_came_after_them(made, tmp_path):
    raw = write_epinions(tmp_path)
    rows = made["epinions"](tmp_path)
    assert [*rows] == ["user", "item", "category", "rating", "ts"]
    assert len(rows) == (raw[:, 5] >= made["SINCE"]).sum()


def test_the_guess_takes_no_title_for_a_list_and_no_age_for_the_domain(made, tmp_path):
    rows = movielens(made, tmp_path)
    path = tmp_path / "rows.csv"
    pd.concat([rows, rows]).to_csv(path, index=False)
    guessed = yaml.safe_load(guess([str(path)]))
    assert "multi" not in guessed["fields"]["title"]
    assert guessed["domain"]["column"] not in ("age", "year")
    lists = tmp_path / "lists.csv"
    genres = ["Comedy", "Drama", "War", "Comedy|War", "Comedy|Drama", "Drama|War"] * 5
    pd.DataFrame({"user": range(30), "click": [0, 1] * 15, "genres": genres}).to_csv(lists)
    assert yaml.safe_load(guess([str(lists)]))["fields"]["genres"] == {"multi": "|"}
