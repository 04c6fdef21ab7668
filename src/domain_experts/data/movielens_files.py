"""MovieLens files: three formats, one table of ratings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from domain_experts.data.registry import FILE_FORMATS
from domain_experts.data.text import Parsers, TextFile, parse_lines, positive, read_numbers
from domain_experts.errors import UserError

GENDERS = ("F", "M")
AGES = ("under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+")
# first age of each group but the youngest; MovieLens-1M writes these, and 1, for the group
_AGE_STARTS = (18, 25, 35, 45, 50, 56)

# in the order of u.genre, that of MovieLens-100K's flags
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
# in the order of u.occupation
_OCCUPATIONS_100K = (
    "administrator",
    "artist",
    "doctor",
    "educator",
    "engineer",
    "entertainment",
    "executive",
    "healthcare",
    "homemaker",
    "lawyer",
    "librarian",
    "marketing",
    "none",
    "other",
    "programmer",
    "retired",
    "salesman",
    "scientist",
    "student",
    "technician",
    "writer",
)
# ids 0..20, as the README of MovieLens-1M names them
_OCCUPATIONS_1M = (
    "other or not specified",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)


@dataclass(frozen=True)
class Ratings:
    """All ratings in file order, and the attributes of users and items.

    `user`, `item` and `rating` (N,) int32 hold raw ids and 1..5, `timestamp` (N,) int64 seconds.
    `user_ids` (U,) and `item_ids` (I,) int32 are sorted; `gender`, `age` and `occupation` (U,)
    int16 are codes into GENDERS, AGES and `occupations`; `years` (U,) int16 is the age in years, or
    the code that MovieLens-1M has for it; `zip` (U,) is text; `genre` (I,) int16 is the first
    genre, a code into GENRES.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    gender: np.ndarray
    age: np.ndarray
    occupation: np.ndarray
    occupations: tuple[str, ...]
    years: np.ndarray
    zip: np.ndarray
    genre: np.ndarray


def _gender(text: str) -> int:
    if text not in GENDERS:
        raise ValueError("is neither F nor M")
    return GENDERS.index(text)


def _age_in_years(text: str) -> int:
    years = positive(text)
    if years > 120:
        raise ValueError("is no age in years")
    return years


def _age_code(text: str) -> int:
    codes = ("1", *map(str, _AGE_STARTS))
    if text not in codes:
        raise ValueError(f"is no age code; known are {', '.join(codes)}")
    return int(text)


def _occupation_name(text: str) -> int:
    if text not in _OCCUPATIONS_100K:
        raise ValueError(f"is no occupation; known are {', '.join(_OCCUPATIONS_100K)}")
    return _OCCUPATIONS_100K.index(text)


def _occupation_code(text: str) -> int:
    codes = [str(code) for code in range(len(_OCCUPATIONS_1M))]
    if text not in codes:
        raise ValueError(f"is no occupation code; known are 0 to {len(codes) - 1}")
    return codes.index(text)


def _first_genre(text: str, separator: str) -> int:
    genre, *_ = text.split(separator)
    if genre not in GENRES:
        raise ValueError(f"does not begin with a genre; known are {', '.join(GENRES)}")
    return GENRES.index(genre)


def _flag(text: str) -> int:
    if text not in ("0", "1"):
        raise ValueError("is neither 0 nor 1")
    return int(text)


class _Numbering:
    """Parser of text: numbers what it sees from 0, in the order in which that appears."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        if not text:
            raise ValueError("is empty")
        return self.numbers.setdefault(text, len(self.numbers))

    def texts(self, numbers: np.ndarray) -> np.ndarray:
        return np.asarray(np.array(list(self.numbers))[numbers])


_RATING = ("user", "item", "rating", "timestamp")
_GENRE_FLAGS = tuple(f"genre {i}" for i in range(len(GENRES)))
_USER = ("user", "age", "gender", "occupation", "zip")


@dataclass(frozen=True)
class _Form:
    """Forms of the ratings, users and items file: separator, columns, header."""

    ratings: tuple[str, tuple[str, ...], str | None]
    users: tuple[str, tuple[str, ...], str | None]
    items: tuple[str, tuple[str, ...], str | None]
    age: Callable[[str], int]
    occupation: Callable[[str], int]
    occupations: tuple[str, ...]
    genres: Parsers
    """Of one column that begins with the first genre, or of one flag a genre."""


_FORMS = {
    "movielens-100k": _Form(
        ratings=("\t", _RATING, None),
        users=("|", _USER, None),
        items=(
            "|",
            ("item", "title", "release", "video release", "url", *_GENRE_FLAGS),
            None,
        ),
        age=_age_in_years,
        occupation=_occupation_name,
        occupations=_OCCUPATIONS_100K,
        genres=dict.fromkeys(_GENRE_FLAGS, _flag),
    ),
    "recbole": _Form(
        ratings=("\t", _RATING, "user_id:token\titem_id:token\trating:float\ttimestamp:float"),
        users=(
            "\t",
            _USER,
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token",
        ),
        items=(
            "\t",
            ("item", "title", "year", "genres"),
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        ),
        age=_age_in_years,
        occupation=_occupation_name,
        occupations=_OCCUPATIONS_100K,
        # for each item in the order of the flags
        genres={"genres": partial(_first_genre, separator=" ")},
    ),
    "movielens-1m": _Form(
        ratings=("::", _RATING, None),
        users=("::", ("user", "gender", "age", "occupation", "zip"), None),
        items=("::", ("item", "title", "genres"), None),
        age=_age_code,
        occupation=_occupation_code,
        occupations=_OCCUPATIONS_1M,
        genres={"genres": partial(_first_genre, separator="|")},
    ),
}


def read(folder: Path, file_format: str) -> Ratings:
    """Read the raw files of a format (a key of `registry.FILE_FORMATS`).

    Raises:
        UserError: a line does not fit; the message names file, line and column.
    """
    form = _FORMS[file_format]
    ratings_name, users_name, items_name = FILE_FORMATS[file_format]
    users = TextFile(folder / users_name, *form.users)
    items = TextFile(folder / items_name, *form.items)
    ratings = TextFile(folder / ratings_name, *form.ratings)
    zips = _Numbering()
    user_table = _read_keyed(
        users,
        {
            "user": positive,
            "gender": _gender,
            "age": form.age,
            "occupation": form.occupation,
            "zip": zips,
        },
    )
    item_table = _read_keyed(items, {"item": positive, **form.genres})
    columns = read_numbers(ratings)
    _refuse_rows(ratings, "rating", columns["rating"], columns["rating"] > 5, "is not in 1..5")
    for name, known, table in (("user", users, user_table), ("item", items, item_table)):
        unknown = ~np.isin(columns[name], table[:, 0])
        _refuse_rows(ratings, name, columns[name], unknown, f"is not in {known.path.name}")
    _refuse_repeats(ratings, "user and item", columns["user"] << 32 | columns["item"])
    gender, years, occupation = user_table[:, 1:4].astype(np.int16).T
    return Ratings(
        user=columns["user"].astype(np.int32),
        item=columns["item"].astype(np.int32),
        rating=columns["rating"].astype(np.int32),
        timestamp=columns["timestamp"],
        user_ids=user_table[:, 0].astype(np.int32),
        item_ids=item_table[:, 0].astype(np.int32),
        gender=gender,
        age=np.searchsorted(_AGE_STARTS, years, side="right").astype(np.int16),
        occupation=occupation,
        occupations=form.occupations,
        years=years,
        zip=zips.texts(user_table[:, 4]),
        genre=_genres(items, item_table),
    )


def _read_keyed(file: TextFile, parsers: Parsers) -> np.ndarray:
    """Read a file whose first column is an id: a table sorted by it, one column a parser."""
    table = parse_lines(file, parsers)
    _refuse_repeats(file, file.columns[0], table[:, 0])
    return table[np.argsort(table[:, 0])]


def _genres(items: TextFile, table: np.ndarray) -> np.ndarray:
    """(I,) first genre, from a code or from the flags behind the ids."""
    if table.shape[1] == 2:
        return np.asarray(table[:, 1], np.int16)
    none = ~table[:, 1:].any(axis=1)
    if none.any():
        raise UserError(f"{items.path}: item {table[none.argmax(), 0]} has no genre flag that is 1")
    return np.asarray(table[:, 1:].argmax(axis=1), np.int16)


def _refuse_rows(
    file: TextFile, column: str, cells: np.ndarray, wrong: np.ndarray, reason: str
) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        file.refuse(row, f"column {column}: {cells[row]} {reason}")


def _refuse_repeats(file: TextFile, columns: str, keys: np.ndarray) -> None:
    order = np.argsort(keys, kind="stable")
    again = order[1:][keys[order[1:]] == keys[order[:-1]]]
    if len(again):
        file.refuse(int(again.min()), f"column {columns}: repeats an earlier line")
