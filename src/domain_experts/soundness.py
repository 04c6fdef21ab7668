"""Every stored file of a study held to its checksum, and what mends those that are damaged."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from domain_experts import layout
from domain_experts.artifacts import PROVENANCE, RECORD, listed, remedy, run_file
from domain_experts.data.interactions import CHECKSUMS, check_parts, prepare_again
from domain_experts.data.prepare import checked_record
from domain_experts.data.registry import SOURCES
from domain_experts.data.split import split_again
from domain_experts.errors import UserError
from domain_experts.files import check_file, check_seal, read_json, sha256
from domain_experts.reporting.crate import FILE, described_files
from domain_experts.reporting.published import PUBLISHED, check_published
from domain_experts.results import COLUMNS, RECORD_COLUMNS, read
from domain_experts.runs import Job, Search
from domain_experts.study import Study
from domain_experts.training.checkpoint import afresh
from domain_experts.training.store import Entry, entries

SOUND, DAMAGED, MISSING, UNKNOWN = "sound", "damaged", "missing", "without checksum"
STATES = (SOUND, DAMAGED, MISSING, UNKNOWN)


@dataclass(frozen=True)
class Finding:
    """What is to be said of a stored file."""

    kind: str
    path: Path
    state: str
    said: str = ""
    """Of a file that is damaged or missing, what is wrong, and what mends it."""


def print_soundness(study: Study) -> bool:
    """Print what of a study's files is sound, damaged and missing; whether nothing is damaged."""
    found, console = list(findings(study)), Console(highlight=False)
    table = Table("Files", *(state.capitalize() for state in STATES))
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in dict.fromkeys(one.kind for one in found):
        counts = Counter(one.state for one in found if one.kind == kind)
        table.add_row(kind, *(str(counts[state] or "") for state in STATES))
    console.print(table)
    missing = {one.kind: one for one in reversed(found) if one.state == MISSING}
    for one in reversed(missing.values()):
        console.print(f"Missing, for example: {one.said}", soft_wrap=True, markup=False)
    damaged = [one for one in found if one.state == DAMAGED]
    for one in damaged:
        console.print(f"DAMAGED: {one.said}", soft_wrap=True, markup=False, style="bold red")
    counts = Counter(one.state for one in found)
    console.print(", ".join(f"{counts[state]} {state}" for state in STATES))
    return not damaged


def findings(study: Study) -> Iterator[Finding]:
    """All of a study's files that are read again, by kind; several studies share the run store."""
    for source in sorted(study.sources):
        if layout.raw_record(source).is_file() or not SOURCES[source].by_hand:
            yield from _raw(source)
    for dataset in study.all_datasets:
        yield from _interactions(dataset)
        yield from _splits(study, dataset)
    for entry in entries():
        yield from _entry(entry)
    for search in study.searches:
        yield _search(study, search)
    for job in study.jobs():
        yield from _artifacts(study, job)
    results = [*_results(study)]
    yield from results
    yield _looked("published values", PUBLISHED, check_published)
    if not any(one.state == DAMAGED for one in results):
        yield from _described(study)


def _looked(kind: str, path: Path, look: Callable[[], object]) -> Finding:
    """The finding of a look at a file, which refuses what is wrong."""
    try:
        look()
    except UserError as error:
        return Finding(kind, path, DAMAGED if path.exists() else MISSING, str(error))
    except OSError as error:
        return Finding(kind, path, DAMAGED, f"{path} cannot be read: {error.strerror}")
    return Finding(kind, path, SOUND)


def _sealed(kind: str, path: Path, mended_by: str) -> Finding:
    """The finding of a file that has its own checksum, or none from before there were any."""
    if not path.is_file():
        return Finding(kind, path, MISSING, f"{path} is missing; {mended_by}")
    found = _looked(kind, path, partial(check_seal, path, mended_by))
    if found.state == SOUND and not check_seal(path, mended_by):
        return Finding(kind, path, UNKNOWN)
    return found


def _raw(source: str) -> Iterator[Finding]:
    kind, path = "raw files", layout.raw_record(source)
    record = _sealed(kind, path, f"run `domain-experts fetch {source}`")
    yield record
    if record.state in (SOUND, UNKNOWN):
        yield _looked(kind, layout.raw(source), partial(checked_record, source))


def _interactions(dataset: str) -> Iterator[Finding]:
    kind, folder = "interactions", layout.interactions(dataset)
    card = _sealed(kind, layout.card(dataset), prepare_again(folder))
    yield card
    if card.state not in (SOUND, UNKNOWN):
        return
    content = read_json(card.path, prepare_again(folder))
    if CHECKSUMS not in content:
        yield from (Finding(kind, path, UNKNOWN) for path in sorted(folder.glob("*.npy")))
    for name in content.get(CHECKSUMS, ()):
        yield _looked(kind, folder / name, partial(check_parts, folder, content, [name]))


def _splits(study: Study, dataset: str) -> Iterator[Finding]:
    kind, path, tier = "splits", layout.split_index(study.tier, dataset), study.tier
    again = split_again(tier, dataset)
    index = _sealed(kind, path, again)
    yield index
    if index.state in (SOUND, UNKNOWN):
        for seed, about in read_json(path, again)["seeds"].items():
            file = layout.split_file(tier, dataset, int(seed))
            yield _looked(kind, file, partial(check_file, file, about["sha256"], path, again))


def _entry(entry: Entry) -> Iterator[Finding]:
    for path in entry.checkpoints():
        yield _sealed("checkpoints", path, afresh(path))
    if entry.index.is_file():
        yield _looked("run store", entry.index, entry.finished)


def _search(study: Study, search: Search) -> Finding:
    path = layout.search_file(study.tier, search)
    return _sealed("searches", path, f"run `snakemake --config tier={study.tier} -- {path}`")


def _artifacts(study: Study, job: Job) -> Iterator[Finding]:
    mended_by = remedy(study.tier, job)
    index = _sealed("indexes", layout.job_index(study.tier, job), mended_by)
    yield index
    if index.state not in (SOUND, UNKNOWN):
        return
    of = listed(study.tier, job)
    for run in study.runs_of(job):
        folder = layout.run_artifacts(study.tier, run)
        for name in of.get(run.path.as_posix(), {"files": ()})["files"]:
            kind = "records" if name == RECORD else "weights and predictions"
            yield _looked(kind, folder / name, partial(run_file, study.tier, run, name))
        yield _sealed("records", folder / PROVENANCE, mended_by)


def _results(study: Study) -> Iterator[Finding]:
    for dataset in study.datasets:
        again = f"run `domain-experts evaluate {dataset} --tier {study.tier}`"
        for name in ("results.parquet", "records.parquet"):
            yield _sealed("evaluated", layout.evaluated(study.tier, dataset) / name, again)
    path, records = layout.results_file(study.tier), layout.records_file(study.tier)
    for file, columns in ((path, COLUMNS), (records, RECORD_COLUMNS)):
        found = _looked("results", file, partial(read, file, columns))
        unknown = found.state == SOUND and not check_seal(file, "")
        yield Finding("results", file, UNKNOWN) if unknown else found


def _described(study: Study) -> Iterator[Finding]:
    """Tables, figures and report, as far as an RO-Crate of these very results describes them."""
    kind, tier, results = "tables, figures, report", study.tier, layout.results_file(study.tier)
    kept: dict[Path, str] = {}
    crate = _looked(kind, FILE, lambda: kept.update(described_files()))
    if crate.state == DAMAGED:
        yield crate
    if not results.is_file() or kept.get(results) != sha256(results):
        return
    again = (
        f"make them again (`make tables figures report TIER={tier}`), or, if they were made since, "
        f"describe them (`domain-experts crate --tier {tier}`)"
    )
    own = (layout.tables(tier), layout.figures(tier))
    for path, expected in kept.items():
        if path == layout.report(tier) or path.parent in own:
            yield _looked(kind, path, partial(check_file, path, expected, FILE, again))
