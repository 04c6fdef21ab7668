"""Shared fixtures: an empty project folder and tiny raw files in their formats."""

import contextlib
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from assignments import make_assignment as new_assignment
from assignments import multi_data, small_data
from fabricated import FEW_RUNS, fabricate
from projects import make_smallest
from served import Trained
from smoke import run_study

from domain_experts import files, results
from domain_experts.data.registry import Content
from domain_experts.digest import code_digest
from domain_experts.presence import load_study
from domain_experts.training import job, search
from domain_experts.training.batches import Rows

# to synchronise a file with the disk takes longer than most tests; those of `test_crash` do it
to_disk, files._to_disk = files._to_disk, lambda path: None
# u.occupation of MovieLens-100K
ML_OCCUPATIONS = (
    *("administrator", "artist", "doctor", "educator", "engineer", "entertainment", "executive"),
    *("healthcare", "homemaker", "lawyer", "librarian", "marketing", "none", "other"),
    *("programmer", "retired", "salesman", "scientist", "student", "technician", "writer"),
)
ML_AGE_CODES = (1, 18, 25, 35, 45, 50, 56)
# u.genre of MovieLens-100K
ML_GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


@pytest.fixture(scope="session", autouse=True)
def _digested_once():
    """The package's code is as it is while tests run: results need not digest it each time."""
    once = cache(code_digest)
    with pytest.MonkeyPatch.context() as patch:
        for module in (results, job, search):
            patch.setattr(module, "code_digest", once)
        yield


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder, with a space in its path, as the current one."""
    folder = tmp_path / "my project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The smallest project, its smoke tier run from generated data to report by Snakemake.

    Shared by all tests: leave it as it is, or work on a copy.
    """
    project = make_smallest(tmp_path_factory.mktemp("pipeline") / "my project")
    project.snakemake()
    return project


@pytest.fixture(scope="session")
def real_data():
    """Folder with the real raw files."""
    folder = os.environ.get("DOMAIN_EXPERTS_DATA_LOCAL")
    if not folder:
        # their terms forbid to pass these files on, so no checkout has them
        pytest.skip("needs real raw files that may not be passed on: set DOMAIN_EXPERTS_DATA_LOCAL")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_movielens():
    """Writer of raw files: `tiny_movielens(folder, file_format, ...)` returns their Content."""
    return write_movielens


def write_movielens(folder, file_format, users=63, items=40, rows=900, seed=0):
    """Write the three raw files of a format; equal arguments give equal ratings and users."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(users * items, size=rows, replace=False)
    rating = rng.integers(1, 6, rows)
    ratings = [
        (pair // items + 1, pair % items + 1, stars, 900_000_000 + row * 37 % 400)
        for row, (pair, stars) in enumerate(zip(pairs.tolist(), rating.tolist(), strict=True))
    ]
    people = [
        (u + 1, int(rng.integers(7, 80)), "FM"[rng.integers(2)], u % 21, f"{u * 5 % 40:05d}")
        for u in range(users)
    ]
    titles = [f"Crème {i}: a tale ({1990 + i % 9})" for i in range(items)]
    # one or two, in the order of the flags
    genres = [[ML_GENRES[j] for j in sorted({i * 7 % 19, i % 5})] for i in range(items)]
    folder.mkdir(parents=True, exist_ok=True)

    def put(name, separator, lines, header=None):
        text = [separator.join(map(str, line)) for line in lines]
        text = "\n".join([*([header] if header else []), *text]) + "\n"
        (folder / name).write_bytes(text.encode("iso-8859-1"))

    if file_format == "movielens-1m":
        put("ratings.dat", "::", ratings)
        codes = np.searchsorted(ML_AGE_CODES[1:], [age for _, age, *_ in people], side="right")
        people = [
            (u, gender, ML_AGE_CODES[code], occupation, code_zip)
            for (u, _, gender, occupation, code_zip), code in zip(people, codes, strict=True)
        ]
        put("users.dat", "::", people)
        put("movies.dat", "::", [(i + 1, t, "|".join(genres[i])) for i, t in enumerate(titles)])
    else:
        people = [(u, age, g, ML_OCCUPATIONS[o], z) for u, age, g, o, z in people]
    if file_format == "movielens-100k":
        put("u.data", "\t", ratings)
        put("u.user", "|", people)
        flags = [[int(name in of_item) for name in ML_GENRES] for of_item in genres]
        put("u.item", "|", [(i + 1, t, "", "", "", *flags[i]) for i, t in enumerate(titles)])
    if file_format == "recbole":
        header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
        put("ml-100k.inter", "\t", ratings, header)
        header = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"
        put("ml-100k.user", "\t", people, header)
        header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
        lines = [(i + 1, t, 1990, " ".join(genres[i])) for i, t in enumerate(titles)]
        put("ml-100k.item", "\t", lines, header)
    return Content(
        counts={
            "rows": rows,
            "users": users,
            "items": items,
            "rated_items": len(np.unique(pairs % items)),
            "ratings": tuple(np.bincount(rating, minlength=6)[1:].tolist()),
        }
    )


@pytest.fixture(scope="session")
def fabricated_tree(tmp_path_factory):
    """A small study with all its result files, made without training."""
    folder = tmp_path_factory.mktemp("fabricated")
    with contextlib.chdir(folder):
        return folder, fabricate(folder)


@pytest.fixture(scope="session")
def few_runs_tree(tmp_path_factory):
    """The same with a few of its experiments, models and data sets, for tests that evaluate it."""
    folder = tmp_path_factory.mktemp("few-runs")
    with contextlib.chdir(folder):
        return folder, fabricate(folder, FEW_RUNS)


@pytest.fixture(scope="session")
def smoke_tree(tmp_path_factory):
    """Folder of a small study that was run for real."""
    folder = tmp_path_factory.mktemp("smoke")
    with contextlib.chdir(folder):
        run_study(folder)
    return folder


@pytest.fixture
def smoke(smoke_tree, project):
    """A copy of that study, in the current folder."""
    shutil.copytree(smoke_tree, project, dirs_exist_ok=True)
    return load_study("smoke")


@pytest.fixture
def fabricated_whole(fabricated_tree, project):
    """A copy of the whole study, data, logits and records included."""
    folder, study = fabricated_tree
    shutil.copytree(folder, project, dirs_exist_ok=True)
    return study


@pytest.fixture
def few_runs(few_runs_tree, project):
    """A copy of the study of few runs, data, logits and records included."""
    folder, study = few_runs_tree
    shutil.copytree(folder, project, dirs_exist_ok=True)
    return study


@pytest.fixture(scope="session")
def interactions():
    """Generated data with three ragged domains."""
    return small_data()


@pytest.fixture(scope="session")
def multi_interactions():
    """Generated data with three ragged domains, two tasks and a dense feature."""
    return multi_data()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Models of all arms, each trained for a moment when it is first asked for."""
    return Trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def make_assignment(interactions, tmp_path):
    """Maker of assignments: `make_assignment(arm, ..., **changed settings)`."""

    def make(arm, data=interactions, **options):
        return new_assignment(tmp_path, data, arm, **options)

    return make


@pytest.fixture
def float64(monkeypatch):
    """Train in float64, so that only true differences show."""
    take = Rows.take

    def take_double(self, index):
        fields, dense, domain, labels = take(self, index)
        return fields, dense.double(), domain, labels.double()

    monkeypatch.setattr(Rows, "take", take_double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
