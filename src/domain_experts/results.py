"""The results of a tier: one long table of numbers, one of records, and how current each run is.

`results.parquet` has a row for each number: run x split x domain x task x metric (COLUMNS).
Numbers about data, not about a run, have an empty `run`. An empty `domain` means all domains, an
empty `task` all tasks. `against` names the arm that a paired difference is taken from. A run that
was expected and has no numbers has one row without a metric, whose `status` says why.

A search's trials have rows of validation values, `run` being `search/.../trial=<n>/seed=<s>`.

`records.parquet` has a row for each run, one for each search and one with an empty `run` for each
data set: what training, searches and data say of themselves, as JSON.

Both are read without torch, data or weights; nothing else is read by tables, figures and report.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from domain_experts import layout
from domain_experts.data.registry import SOURCES
from domain_experts.digest import code_digest
from domain_experts.errors import UserError
from domain_experts.files import UNSEALED, check_seal, once, read_json, replacing
from domain_experts.runs import SEARCH, Run, Search, variant_name
from domain_experts.study import Study
from domain_experts.versions import libraries

VERSION = "1"
CURRENT, STALE, NOT_RUN, ABSENT = "current", "stale", "not run", "data not present"
STATUSES = (CURRENT, STALE, NOT_RUN, ABSENT)
SEARCHES = "domain_experts.training.search"
"""The module whose code makes searches."""
UNRECORDED = "not recorded"
"""Of what a number was made: it cannot be told to be current."""
COLUMNS = pa.schema(
    [
        ("run", pa.string()),
        ("dataset", pa.string()),
        ("backbone", pa.string()),
        ("arm", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("split_seed", pa.int64()),
        ("settings", pa.string()),
        ("split", pa.string()),
        ("domain", pa.string()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("against", pa.string()),
        ("value", pa.float64()),
        ("status", pa.string()),
        ("key", pa.string()),
    ]
)
RECORD_COLUMNS = pa.schema([(n, pa.string()) for n in ("run", "dataset", "key", "record")])
PROJECTION_COLUMNS = ["domain", "task", "panel", "part", "x", "y"]
"""Of a record's `projection`: points of M3oE's outputs in two dimensions."""
IDENTITY = ["run", "dataset", "split_seed", "split", "domain", "task", "metric", "against"]
"""What tells two numbers apart."""


def identity(run: Run) -> dict[str, Any]:
    """The columns that say which run a row is about."""
    return {
        "run": run.path.as_posix(),
        "dataset": run.dataset,
        "backbone": run.backbone,
        "arm": run.arm,
        "variant": variant_name(run.variant),
        "seed": run.seed,
        "split_seed": run.split_seed,
        "settings": json.dumps(run.payload(), sort_keys=True),
    }


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame with the columns of `results.parquet`; what a row lacks is empty."""
    frame = pd.DataFrame(list(rows)).reindex(columns=COLUMNS.names).astype(object)
    words = [field.name for field in COLUMNS if field.type == pa.string()]
    return frame.fillna(dict.fromkeys(words, "")).astype(
        dict.fromkeys(words, "str") | {"seed": "int64", "split_seed": "int64", "value": "float64"}
    )


def write(frame: pd.DataFrame, path: Path, columns: pa.Schema = COLUMNS) -> None:
    """Write a table of results or records; equal content gives equal bytes.

    Raises:
        UserError: two rows under one identity, or a metric that is not a number.
    """
    _refuse(frame, path, columns)
    written = pa.Table.from_pandas(frame[columns.names], columns, preserve_index=False)
    written = written.replace_schema_metadata({"version": VERSION, **UNSEALED})
    with replacing(path, sealed=True) as temporary:
        pq.write_table(written, temporary, compression="zstd")


def read(path: Path, columns: pa.Schema = COLUMNS) -> pd.DataFrame:
    """Read a table of results or records.

    Raises:
        UserError: it is missing, damaged, of another version, lacks a column, or holds two rows
            under one identity or a metric that is not a number.
    """
    again = f"run `snakemake --config tier={_tier(path)} -- evaluate`, which makes it"
    remedy = (
        f"if git has it, `git checkout -- {path}` brings it back; else move it away and {again} of "
        "the runs that are still there"
    )
    try:
        check_seal(path, remedy)
        found = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {again}") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
    of = (found.schema.metadata or {}).get(b"version", b"none").decode()
    if of != VERSION:
        raise UserError(f"{path} is of version {of}, and this code reads {VERSION}; {remedy}")
    if missing := [name for name in columns.names if name not in found.column_names]:
        raise UserError(f"{path} lacks the column {', '.join(missing)}; {remedy}")
    frame: pd.DataFrame = found.select(columns.names).cast(columns).to_pandas()
    _refuse(frame, path, columns)
    return frame


def _tier(path: Path) -> str:
    return path.parent.name if path.parent.parent.name == "results" else "TIER"


def _refuse(frame: pd.DataFrame, path: Path, columns: pa.Schema) -> None:
    """Refuse what no reader could tell apart or show."""
    names = IDENTITY if columns is COLUMNS else ["run", "dataset"]
    twice = frame.duplicated(names)
    if twice.any():
        row = frame[twice].iloc[0]
        where = ", ".join(f"{name} '{row[name]}'" for name in names if row[name] != "")
        what = "numbers" if columns is COLUMNS else "records"
        raise UserError(f"{path}: two {what} under one identity ({where}); keep one of them")
    if columns is not COLUMNS:
        return
    nameless = frame["value"].isna() & (frame["metric"] != "")
    if nameless.any():
        row = frame[nameless].iloc[0]
        raise UserError(
            f"{path}: {row['metric']} of {row['run'] or row['dataset']} is not a number; what is "
            "undefined has no row"
        )
    if unknown := sorted(set(frame["status"]) - set(STATUSES)):
        raise UserError(f"{path}: unknown status {unknown}; known are {', '.join(STATUSES)}")


@dataclass(frozen=True)
class Results:
    """What is known of a study's runs, whatever code made it."""

    study: Study
    stored: pd.DataFrame
    """`results.parquet` as it is."""
    records: Mapping[str, dict[str, Any]]
    """Run's path -> its record."""
    data: Mapping[str, dict[str, Any]]
    """Data set -> its record: `domains`, `tasks`, `planted_groups`, `provenance`; digests of its
    `content` and, by seed, of its `splits`."""
    found: Mapping[Search, dict[str, Any]]
    """Search -> what it found (`training.search`)."""

    @cached_property
    def expected(self) -> dict[str, Run]:
        """Every expected run by its path, with the runs that those start from."""
        return {run.path.as_posix(): run for run in self.study.expected_runs}

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """The numbers of expected runs, with their status as of today's code and settings."""
        frame = self.stored[(self.stored["metric"] != "") & self.stored["run"].isin(self.expected)]
        return frame.assign(status=frame["run"].map(self.status))

    @cached_property
    def facts(self) -> pd.DataFrame:
        """The numbers about data, with their status as of today's data and splits."""
        frame = self.stored[(self.stored["run"] == "") & (self.stored["metric"] != "")]
        status = cache(lambda *about: STALE if self._of_fact(*about) else CURRENT)
        return frame.assign(status=list(map(status, frame["dataset"], frame["split_seed"])))

    @cached_property
    def status(self) -> dict[str, str]:
        """Status of every expected run."""
        without = self.stored[self.stored["metric"] == ""]
        said = without.set_index("run")["status"].to_dict()
        absent = set(without.loc[without["status"] == ABSENT, "dataset"])
        found = {}
        for path, run in self.expected.items():
            if path not in self._with_numbers:
                # a run that is asked for since then is on the data that were there then
                found[path] = said.get(path, ABSENT if run.dataset in absent else NOT_RUN)
            else:
                found[path] = STALE if self.outdated[path] else CURRENT
        return found

    @cached_property
    def outdated(self) -> dict[str, tuple[str, ...]]:
        """In what the runs that have numbers differ from what would be made today, in words."""
        found: dict[str, tuple[str, ...]] = {}
        # upstream runs come first
        for path, run in self.expected.items():
            if path in self._with_numbers:
                upstream = [up.path.as_posix() for up in self.study.upstream(run)]
                inherited = [why for up in upstream for why in found.get(up, ("upstream runs",))]
                made_of = self.records[path]["provenance"]["upstream"]
                keys = {
                    arm: self._key(up) for arm, up in zip(run.spec.needs, upstream, strict=True)
                }
                other = ["upstream runs"] if made_of not in (None, keys) else []
                found[path] = tuple(dict.fromkeys([*self._differences(run), *inherited, *other]))
        return found

    @cached_property
    def searches(self) -> dict[Search, str]:
        """Status of the study's searches that have ended."""
        return {
            search: STALE if self._search_differs(search) else CURRENT
            for search in self.study.searches
            if search in self.found
        }

    def _search_differs(self, search: Search) -> bool:
        """Whether today's code, settings or data would have it search anew."""
        record = self.found[search]
        job = self.study.tuned(search, 0).job
        today = {
            "asked": json.loads(json.dumps(self.study.asked(search))),
            "code": self._code((SEARCHES, *job.modules)),
        }
        if layout.card(search.dataset).is_file():
            today["data"] = _read_once(layout.card(search.dataset))["content"]
        return any(record[what] != value for what, value in today.items())

    @cached_property
    def _with_numbers(self) -> set[str]:
        return set(self.stored.loc[self.stored["metric"] != "", "run"]) & set(self.records)

    def _key(self, path: str) -> str | None:
        return self.records[path]["provenance"]["key"] if path in self.records else None

    def _differences(self, run: Run) -> list[str]:
        record = self.records[run.path.as_posix()]
        made = record["provenance"] | {"settings": record["settings"]}
        today = {"code": self._code(run.job.modules), **libraries(), "settings": run.payload()}
        found = [what for what, value in today.items() if made.get(what) not in (None, value)]
        found += self._of_data(made, run.dataset, run.split_seed)
        if any(made.get(what) is None for what in (*today, "upstream")):
            found.append(UNRECORDED)
        return list(dict.fromkeys(found))

    def _of_fact(self, dataset: str, split_seed: int) -> list[str]:
        record = self.data.get(dataset, {})
        split = record.get("splits", {}).get(str(split_seed))
        made = {"data": record.get("content"), "split": split}
        return self._of_data(record | made, dataset, split_seed)

    def _of_data(self, made: Mapping[str, Any], dataset: str, split_seed: int) -> list[str]:
        """In what `data` and `split` that something was made of differ from today's."""
        today = self._data_today(dataset, split_seed)
        differ = any(made.get(what) not in (None, value) for what, value in today.items())
        if differ or ("data" not in today and self._raw_differ(made.get("provenance", {}))):
            return ["data"]
        return [UNRECORDED] if None in (made.get("data"), made.get("split")) else []

    @cached_property
    def _code(self) -> Callable[[tuple[str, ...]], str]:
        return cache(code_digest)

    @staticmethod
    def _raw_differ(provenance: Mapping[str, Any]) -> bool:
        """Whether a run's raw files are others than those of today, as far as both are known."""
        source = SOURCES.get(provenance.get("source", ""))
        known = source.content.sha256 if source else {}
        files = provenance.get("files", {})
        return any(files[name] != known[name] for name in files.keys() & known.keys())

    def _data_today(self, dataset: str, split_seed: int) -> dict[str, str]:
        """Digests of data and split, as far as they are there to compare with."""
        tier, found = self.study.tier, {}
        card = layout.card(dataset)
        if card.is_file():
            found["data"] = _read_once(card)["content"]
        index = layout.split_index(tier, dataset)
        split = _read_once(index)["seeds"].get(str(split_seed)) if index.is_file() else None
        return found | ({"split": split["sha256"]} if split else {})


@once
def _read_once(path: Path) -> Any:
    return read_json(path, "delete it and run snakemake again")


def load(study: Study) -> Results:
    """Read the results of a study.

    Raises:
        UserError: as `read`.
    """
    stored = read(layout.results_file(study.tier))
    frame = read(layout.records_file(study.tier), RECORD_COLUMNS)
    with_numbers = stored.loc[stored["metric"] != "", "run"]
    runs = with_numbers[~with_numbers.str.startswith(f"{SEARCH}/")]
    if lost := sorted(set(runs) - set(frame["run"]) - {""}):
        path = layout.records_file(study.tier)
        raise UserError(
            f"{path} lacks the record of {lost[0]} and {len(lost) - 1} more, whose numbers are in "
            f"{layout.results_file(study.tier)}; bring back both files of one time"
        )
    return of(study, stored, frame)


def of(study: Study, stored: pd.DataFrame, records: pd.DataFrame) -> Results:
    """The results of a study from its two tables."""
    known = [(row, json.loads(row["record"])) for row in records.to_dict("records")]
    searched = {row["run"]: record for row, record in known if row["run"].startswith(f"{SEARCH}/")}
    return Results(
        study,
        stored,
        {row["run"]: record for row, record in known if row["run"] not in ("", *searched)},
        {
            row["dataset"]: record | {"content": row["key"]}
            for row, record in known
            if not row["run"]
        },
        {Search.at(path): record for path, record in searched.items()},
    )
