"""Raw ratings to Interactions, against pandas as the public codes use it."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.data import ITEMS, USERS
from benchmarks.effort import Effort
from benchmarks.results import OURS, Measurement, throughput
from benchmarks.study import ROOT
from benchmarks.timing import Work, in_turns
from domain_experts.data import movielens
from domain_experts.data.specs import MovieLens
from domain_experts.params import load

PANDAS = "pandas, '::' and merges"
AGES = (1, 18, 25, 35, 45, 50, 56)
GENRES = ("Action", "Comedy", "Drama", "Horror")
ROUNDS = 3
COLUMNS = {
    "users": ["user", "gender", "age", "occupation", "zip"],
    "movies": ["movie", "title", "genres"],
    "ratings": ["user", "movie", "rating", "time"],
}


def measure(effort: Effort) -> Iterator[Measurement]:
    """Rows a second from the files of MovieLens-1M's format to arrays."""
    spec = load(ROOT / "params.yaml").data.datasets["ml-1m-gender"]
    assert isinstance(spec, MovieLens)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        write_ratings(folder, effort.rows)
        work: dict[str, Work] = {
            OURS: partial(movielens.interactions, folder, "movielens-1m", spec),
            PANDAS: partial(by_pandas, folder),
        }
        seconds = in_turns(work, ROUNDS)
    yield from throughput("reading", "ml-1m", seconds, effort.rows, None, effort.threads)


def write_ratings(folder: Path, rows: int) -> None:
    """Generated files in the format of MovieLens-1M; no user rates a movie twice."""
    rng = np.random.default_rng(0)
    pairs = np.sort(rng.choice(USERS * ITEMS, rows, replace=False))
    users, movies = np.arange(1, USERS + 1), np.arange(1, ITEMS + 1)
    tables = {
        "users": (
            users,
            rng.choice(["F", "M"], USERS),
            rng.choice(AGES, USERS),
            rng.integers(21, size=USERS),
            rng.integers(10000, 99999, USERS),
        ),
        "movies": (movies, [f"Movie {i} (1999)" for i in movies], rng.choice(GENRES, ITEMS)),
        "ratings": (
            pairs // ITEMS + 1,
            pairs % ITEMS + 1,
            rng.integers(1, 6, rows),
            rng.integers(956703932, 1046454590, rows),
        ),
    }
    for name, columns in tables.items():
        lines = ("::".join(map(str, row)) for row in zip(*columns, strict=True))
        (folder / f"{name}.dat").write_text("\n".join(lines) + "\n", encoding="latin-1")


def by_pandas(folder: Path) -> pd.DataFrame:
    """One table of all columns, ids numbered."""
    users, movies, ratings = (
        pd.read_csv(
            folder / f"{name}.dat", sep="::", engine="python", names=columns, encoding="latin-1"
        )
        for name, columns in COLUMNS.items()
    )
    table = ratings.merge(users, on="user").merge(movies, on="movie")
    for column in ("user", "movie", "gender"):
        table[column] = pd.factorize(table[column])[0]
    table["label"] = table["rating"] == 5
    return table
