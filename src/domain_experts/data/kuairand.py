"""KuaiRand-Pure reader: impressions of three tabs, the domains; click and long view, the tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from domain_experts.data import attributes, order
from domain_experts.data.interactions import Interactions
from domain_experts.data.registry import FILE_FORMATS, SOURCES
from domain_experts.data.text import read_csv
from domain_experts.errors import UserError
from domain_experts.schema import Schema

if TYPE_CHECKING:
    from domain_experts.data.specs import KuaiRand

TABS = (0, 1, 4)
TASKS = {"click": "is_click", "long_view": "long_view"}
_LOG = ("user_id", "video_id", "time_ms", *TASKS.values(), "tab")
_USER_CATEGORIES = (
    *("user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"),
    *("follow_user_num_range", "fans_user_num_range", "friend_user_num_range"),
    *("register_days_range", *(f"onehot_feat{i}" for i in range(18))),
)
_USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_VIDEO_CATEGORIES = (
    *("author_id", "video_type", "upload_dt", "upload_type", "visible_status"),
    *("music_id", "music_type", "tag"),
)
_VIDEO_NUMBERS = ("video_duration", "server_width", "server_height")
_NUMBERS_WITH_GAPS = frozenset({"video_duration"})


@dataclass(frozen=True)
class Log:
    """Impressions in tabs 0, 1 and 4: (N,) numbers, file after file.

    `user` and `video` are raw ids, `time` is in milliseconds, `domain` a position in TABS; `labels`
    (N, 2) has one column a task.
    """

    user: np.ndarray
    video: np.ndarray
    time: np.ndarray
    domain: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Features:
    """What a feature file says of U users or videos, ordered by id.

    `ids` (U,) int64; by column `categories` (U,) text, an empty cell being one more category, and
    `numbers` (U,) float64, logarithms log(1 + x).
    """

    ids: np.ndarray
    categories: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]


def read(folder: Path, file_format: str) -> tuple[Log, Features, Features]:
    """Read the three logs, and what is known of users and videos.

    Raises:
        UserError: a line does not fit, or no row is in one of the tabs.
    """
    *logs, user_file, video_file = (folder / name for name in FILE_FORMATS[file_format])
    users = _read_features(user_file, "user_id", _USER_CATEGORIES, _USER_NUMBERS)
    videos = _read_features(video_file, "video_id", _VIDEO_CATEGORIES, _VIDEO_NUMBERS)
    known = {"user_id": (users, user_file), "video_id": (videos, video_file)}
    parts = [_read_log(path, known) for path in logs]
    log = Log(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    if len(log.user) == 0:
        raise UserError(f"{folder}: no row of the logs is in tab {', '.join(map(str, TABS))}")
    return log, users, videos


def _read_log(path: Path, known: Mapping[str, tuple[Features, Path]]) -> dict[str, np.ndarray]:
    table = read_csv(path, dict.fromkeys(_LOG, pa.int64()))
    column = {name: table[name].to_numpy() for name in _LOG}
    kept = np.isin(column["tab"], TABS)
    for name in TASKS.values():
        wrong = (column[name] < 0) | (column[name] > 1)
        _refuse_rows(path, name, column[name], wrong, "is neither 0 nor 1")
    for name, (features, file) in known.items():
        unknown = kept & ~np.isin(column[name], features.ids)
        _refuse_rows(path, name, column[name], unknown, f"is not in {file.name}")
    labels = np.stack([column[name] for name in TASKS.values()], axis=1)
    return {
        "user": column["user_id"][kept],
        "video": column["video_id"][kept],
        "time": column["time_ms"][kept],
        "domain": np.searchsorted(TABS, column["tab"][kept]).astype(np.int16),
        "labels": labels[kept].astype(np.uint8),
    }


def _read_features(
    path: Path, key: str, categories: tuple[str, ...], numbers: tuple[str, ...]
) -> Features:
    types = {
        key: pa.int64(),
        **dict.fromkeys(categories, pa.string()),
        **dict.fromkeys(numbers, pa.float64()),
    }
    table = read_csv(path, types, gaps=(*categories, *_NUMBERS_WITH_GAPS.intersection(numbers)))
    ids = table[key].to_numpy()
    rows = np.argsort(ids, kind="stable")
    again = rows[1:][ids[rows[1:]] == ids[rows[:-1]]]
    if len(again):
        raise UserError(f"{path}, line {again.min() + 2}: column {key}: repeats an earlier line")
    found = {}
    for name in numbers:
        cells = table[name].to_numpy()
        wrong = table[name].is_valid().to_numpy() & ~((cells >= 0) & np.isfinite(cells))
        _refuse_rows(path, name, cells, wrong, "is no number from 0")
        logarithm = np.log1p(cells[rows])
        found[name] = np.where(np.isnan(logarithm), np.nanmedian(logarithm), logarithm)
    texts = {name: pc.fill_null(table[name], "").to_numpy()[rows] for name in categories}
    return Features(ids[rows], texts, found)


def _refuse_rows(path: Path, name: str, cells: np.ndarray, wrong: np.ndarray, reason: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(f"{path}, line {row + 2}: column {name}: {cells[row]} {reason}")


def counts(folder: Path, file_format: str) -> dict[str, Any]:
    """Rows, users and items of the three tabs.

    Raises:
        UserError: a line does not fit.
    """
    return _counts(read(folder, file_format)[0])


def _counts(log: Log) -> dict[str, Any]:
    rows = [log.domain == d for d in range(len(TABS))]
    return {
        "rows": tuple(int(mine.sum()) for mine in rows),
        "users": tuple(len(np.unique(log.user[mine])) for mine in rows),
        "items": tuple(len(np.unique(log.video[mine])) for mine in rows),
    }


def interactions(folder: Path, file_format: str, spec: "KuaiRand") -> Interactions:
    """Impressions in tabs 0, 1 and 4 of the three logs, in the named order.

    Inputs are what is known before the impression: the user's id, 8 categories, 18 encrypted
    categories and 4 numbers; the video's id, 8 categories and 3 numbers; the tab. A tag of several
    parts is one category. Numbers x enter as log(1 + x), scaled to [0, 1] over all rows; a video
    without a duration gets the median of the videos.

    Left out are what the user does after the impression (the other feedback, play time, stays,
    entered profile); `is_rand`, which says by which policy the video was chosen; the date and the
    hour; and the file of video statistics, which are counted over the time of the test rows too.

    M3oE names the tabs and the sizes only, and publishes neither code nor features for this data
    set; that the random log belongs to it follows from the rows of tab 1.

    Raises:
        UserError: a line does not fit, or rows, users and items are not as published (the message
            says by how much).
    """
    log, users, videos = read(folder, file_format)
    _refuse_other_counts(_counts(log), SOURCES[spec.source].content.counts)
    rows = order.by_time(log.time) if spec.order == "timestamp" else order.shuffled(len(log.user))
    user = np.searchsorted(users.ids, log.user[rows])
    video = np.searchsorted(videos.ids, log.video[rows])
    domain = log.domain[rows]
    of_users = attributes.of_rows("user", user, users.categories)
    of_videos = attributes.of_rows("item", video, videos.categories)
    fields = {"user": of_users.pop("user"), "item": of_videos.pop("item")} | of_users | of_videos
    fields |= {"domain": (domain, len(TABS))}
    dense = {name: users.numbers[name][user] for name in _USER_NUMBERS}
    dense |= {name: videos.numbers[name][video] for name in _VIDEO_NUMBERS}
    table = np.empty((len(rows), len(fields)), np.int32)
    for j, (codes, _) in enumerate(fields.values()):
        table[:, j] = codes
    return Interactions(
        schema=Schema(
            fields=tuple((name, size) for name, (_, size) in fields.items()),
            dense=tuple(dense),
            domains=tuple(f"tab {tab}" for tab in TABS),
            tasks=tuple(TASKS),
        ),
        fields=table,
        dense=np.column_stack([attributes.min_max(numbers) for numbers in dense.values()]),
        labels=log.labels[rows],
        domain=domain,
        time=log.time[rows],
    )


def _refuse_other_counts(found: Mapping[str, Any], published: Mapping[str, Any]) -> None:
    differences = [
        f"{name} of tab {tab}: {n:,}, published {m:,} ({n - m:+,})"
        for name, expected in published.items()
        for tab, n, m in zip(TABS, found[name], expected, strict=True)
        if n != m
    ]
    if differences:
        raise UserError(
            "KuaiRand-Pure is not as M3oE publishes it (Table 1), so no data set is made of it:\n  "
            + "\n  ".join(differences)
            + "\nCheck the raw files (data/raw/kuairand-pure), or leave its data sets out "
            "(allow_missing=true)."
        )
