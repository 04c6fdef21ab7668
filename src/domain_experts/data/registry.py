"""Raw data sets: files, download sources, checksums, terms, reader. One entry a data set."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain_experts import layout

LOCAL = "DOMAIN_EXPERTS_DATA_LOCAL"
"""Environment variable with the folder of local copies; it overrides `data.local`."""

LAYOUTS = {
    "movielens-100k": ("u.data", "u.user", "u.item"),
    "recbole": ("ml-100k.inter", "ml-100k.user", "ml-100k.item"),
    "movielens-1m": ("ratings.dat", "users.dat", "movies.dat"),
    "epinions": ("epinions_rating_with_timestamp.mat",),
}
"""Layout of raw files -> their names."""


@dataclass(frozen=True)
class Download:
    """An archive that holds the raw files in one layout."""

    name: str
    url: str
    """An address, or `pip:<requirement>` for a file in a wheel."""
    archive: str
    checksum: str
    """`<algorithm>:<digest>` of the archive."""
    folder: str
    """Folder of the raw files in the archive."""
    layout: str


@dataclass(frozen=True)
class Content:
    """What a copy without a verified archive must hold."""

    counts: Mapping[str, Any]
    """What the reader must count in it."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Raw file -> digest, where one is known."""


@dataclass(frozen=True)
class Source:
    """A raw data set."""

    title: str
    homepage: str
    citation: str
    terms: str
    downloads: tuple[Download, ...]
    """Tried in order."""
    layouts: tuple[str, ...]
    """Layouts in which a local copy is accepted."""
    content: Content
    reader: str
    """Module with `counts(folder, layout)`, by the names of `content.counts`, and
    `interactions(folder, layout, spec)`, where `spec` is the data set's entry in params.yaml."""
    placement: str
    """What to get, from where, and where to put it."""
    by_hand: bool = False
    """It cannot be downloaded."""


_MOVIELENS_TERMS = "research use only, no redistribution (see the data set's README)"
_MOVIELENS_CITATION = (
    "F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. "
    "ACM TiiS 5(4), 2015. doi:10.1145/2827872"
)

SOURCES = {
    "ml-100k": Source(
        title="MovieLens-100K",
        homepage="https://grouplens.org/datasets/movielens/100k/",
        citation=_MOVIELENS_CITATION,
        terms=_MOVIELENS_TERMS,
        downloads=(
            Download(
                name="GroupLens",
                url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                archive="ml-100k.zip",
                checksum="md5:0e33842e24a9c977be4e0107933c0723",
                folder="ml-100k",
                layout="movielens-100k",
            ),
            Download(
                name="RecBole wheel",
                url="pip:recbole==1.2.1",
                archive="recbole-1.2.1-py3-none-any.whl",
                checksum="sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
                folder="recbole/dataset_example/ml-100k",
                layout="recbole",
            ),
        ),
        layouts=("movielens-100k", "recbole"),
        content=Content(
            counts={
                "rows": 100_000,
                "users": 943,
                "items": 1_682,
                "rated_items": 1_682,
                "ratings": (6_110, 11_370, 27_145, 34_174, 21_201),
            },
            sha256={
                "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
                "u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
                "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
            },
        ),
        reader="domain_experts.data.movielens",
        placement="ml-100k: unpack https://files.grouplens.org/datasets/movielens/ml-100k.zip and "
        "put u.data, u.user and u.item into data/raw/ml-100k/, or into ml-100k/ in the folder "
        "that data.local (params.yaml) names",
    ),
    "ml-1m": Source(
        title="MovieLens-1M",
        homepage="https://grouplens.org/datasets/movielens/1m/",
        citation=_MOVIELENS_CITATION,
        terms=_MOVIELENS_TERMS,
        downloads=(
            Download(
                name="GroupLens",
                url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
                archive="ml-1m.zip",
                checksum="md5:c4d9eecfca2ab87c1945afe126590906",
                folder="ml-1m",
                layout="movielens-1m",
            ),
        ),
        layouts=("movielens-1m",),
        content=Content(
            counts={
                "rows": 1_000_209,
                "users": 6_040,
                "items": 3_883,
                "rated_items": 3_706,
                "ratings": (56_174, 107_557, 261_197, 348_971, 226_310),
            },
        ),
        reader="domain_experts.data.movielens",
        placement="ml-1m: unpack https://files.grouplens.org/datasets/movielens/ml-1m.zip and put "
        "ratings.dat, users.dat and movies.dat into data/raw/ml-1m/, or into ml-1m/ in the folder "
        "that data.local (params.yaml) names",
    ),
    "epinions": Source(
        title="Epinions",
        homepage="https://www.cse.msu.edu/~tangjili/datasetcode/",
        citation="J. Tang, H. Gao, H. Liu and A. Das Sarma. eTrust: Understanding Trust Evolution "
        "in an Online World. KDD 2012. doi:10.1145/2339530.2339574",
        terms="no licence text: research use only, no redistribution",
        downloads=(),
        layouts=("epinions",),
        content=Content(
            counts={
                "rows": 922_267,
                "users": 22_164,
                "items": 296_277,
                "cleaned_rows": 912_441,
                "core_rows": 532_837,
                "core_users": 20_355,
                "core_items": 30_738,
            },
        ),
        reader="domain_experts.data.epinions",
        placement="epinions: get Epinions with timestamps from "
        "https://www.cse.msu.edu/~tangjili/datasetcode/ and put "
        "epinions_rating_with_timestamp.mat into data/raw/epinions/, or into epinions/ in the "
        "folder that data.local (params.yaml) names",
        by_hand=True,
    ),
}


def local_copy(source: str, local: str | None) -> Path | None:
    """Folder in which a local copy of the source would lie, if one is set."""
    folder = os.environ.get(LOCAL) or local
    return Path(folder, source) if folder else None


def layout_in(source: str, folder: Path) -> str | None:
    """The first layout of the source whose files all lie in the folder."""
    for name in SOURCES[source].layouts:
        if all((folder / file).is_file() for file in LAYOUTS[name]):
            return name
    return None


def at_hand(source: str, local: str | None) -> bool:
    """Whether the source needs no download: fetched, placed by hand, or in a local copy."""
    if layout.raw_record(source).is_file() or layout_in(source, layout.raw(source)):
        return True
    copy = local_copy(source, local)
    return copy is not None and layout_in(source, copy) is not None
