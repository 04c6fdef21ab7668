"""What lies in a project and no study of it needs: found, counted, and removed when asked for.

Nothing is listed that could not be told apart from what is needed. Raw files never are: a source
may not serve them again.
"""

import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from domain_experts import layout
from domain_experts.artifacts import PROVENANCE
from domain_experts.data.interactions import Interactions
from domain_experts.digest import code_digest
from domain_experts.errors import UserError
from domain_experts.files import TEMPORARY, read_json
from domain_experts.params import Params
from domain_experts.runs import INDEX
from domain_experts.study import Study
from domain_experts.training.job import Bench
from domain_experts.training.store import NAME, Entry, entries
from domain_experts.versions import libraries

HOUR = 3600
"""Seconds for which a temporary file must have lain still: who writes one does not rest so long."""
FOLDERS = ("data", "artifacts", "results", "figures", "logs", str(layout.STORE))
SEED = re.compile(r"seed=\d+")
LOCKS = Path(".snakemake/locks")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that no study needs."""

    what: str
    path: Path
    entry: Entry | None = None
    """That of the run store, if it is one."""

    @cached_property
    def size(self) -> int:
        """Bytes that it takes."""
        files = [self.path, *self.path.rglob("*")] if self.path.is_dir() else [self.path]
        return sum(file.lstat().st_size for file in files if not file.is_dir())


def print_leftovers(params: Params, delete: bool) -> None:
    """Print what no study needs, with its size; remove it if asked to.

    Raises:
        UserError: something is to be removed while a workflow runs; a file is damaged that says
            what is needed.
    """
    if delete and LOCKS.is_dir() and any(LOCKS.iterdir()):
        raise UserError(
            f"{LOCKS} says that a workflow runs here, and nothing is removed under its hands; wait "
            "for it to end, or, if it was killed, run `domain-experts unlock` first"
        )
    found, console = list(leftovers(params)), Console(highlight=False)
    table = Table("What", "Path", "Size")
    table.columns[2].justify = "right"
    for one in found:
        table.add_row(one.what, str(one.path), _words(one.size))
    if found:
        console.print(table)
    if not delete:
        way = "; `domain-experts gc --delete` removes them" if found else ""
        console.print(f"{_total(found)} that no study needs{way}.", soft_wrap=True)
        return
    removed = [one for one in found if _remove(one)]
    in_use = len(found) - len(removed)
    console.print(f"{_total(removed)} removed; {in_use} in use are kept.", soft_wrap=True)


def _total(found: Sequence[Leftover]) -> str:
    return f"{len(found)} files and folders ({_words(sum(one.size for one in found))})"


def leftovers(params: Params) -> Iterator[Leftover]:
    """What no tier of params.yaml needs."""
    studies = {tier: Study(params, tier) for tier in params.tiers}
    needed = _Needed(studies)
    yield from _temporary()
    yield from _unknown(
        "data of no data set in params.yaml", _in("data/interactions"), needed.datasets
    )
    for tier in _in("data/splits"):
        own = studies[tier.name].all_datasets if tier.name in studies else ()
        yield from _unknown("splits of no data set of the tier", _in(tier), own)
    yield from _unknown("artifacts of no tier", _in("artifacts"), studies)
    for study in studies.values():
        yield from _artifacts(study)
    yield from (
        Leftover("run that no study asks for", entry.folder, entry)
        for entry in entries()
        if not needed.entry(entry)
    )


def _temporary() -> Iterator[Leftover]:
    """What a killed process left that was yet to be whole."""
    now, found = (
        time.time(),
        [path for name in FOLDERS for path in Path(name).rglob(f"{TEMPORARY}*")],
    )
    for path in sorted(found):
        if any(outer in found for outer in path.parents):
            continue
        times = [part.lstat().st_mtime for part in (path, *path.rglob("*"))]
        if now - max(times) > HOUR:
            yield Leftover("temporary file of a killed process", path)


def _in(folder: str | Path) -> list[Path]:
    """The folders in a folder, temporary ones left out."""
    own = (path for path in Path(folder).glob("*") if path.is_dir())
    return sorted(path for path in own if not path.name.startswith(TEMPORARY))


def _unknown(what: str, paths: Iterable[Path], known: Iterable[str]) -> Iterator[Leftover]:
    names = set(known)
    return (Leftover(what, path) for path in paths if path.name not in names)


def _artifacts(study: Study) -> Iterator[Leftover]:
    """Files of runs that neither the study nor the index of a job of it names."""
    root, jobs = layout.artifacts(study.tier), {job.path for job in study.jobs()}
    named = {run.path for run in study.expected_runs}
    for job in jobs:
        index = root / job / INDEX
        if index.is_file():
            runs = read_json(index, "run snakemake, which makes it again")["runs"]
            named |= {Path(entry["path"]) for entry in runs}
    for folder in sorted(path for path in root.rglob("seed=*") if SEED.fullmatch(path.name)):
        if folder.is_dir() and folder.relative_to(root) not in named:
            yield Leftover("artifacts of a run that no experiment asks for", folder)
    evaluated = layout.evaluated(study.tier, "any").parent
    yield from _unknown("numbers of no data set of the tier", _in(evaluated), study.all_datasets)


@dataclass(frozen=True)
class _Needed:
    """What the studies of a project need of the run store."""

    studies: Mapping[str, Study]

    @cached_property
    def datasets(self) -> set[str]:
        """Data sets of params.yaml: whoever names one may ask for it."""
        return set(next(iter(self.studies.values())).params.data.datasets)

    def entry(self, entry: Entry) -> bool:
        """Whether a study may take an entry from the store; a doubt is a yes."""
        if entry.key in self.published:
            return True
        if entry.index.is_file():
            return self._as_of_today(read_json(entry.folder / PROVENANCE, "remove the entry"))
        return self.all_keys is None or entry.key in self.all_keys

    @cached_property
    def published(self) -> set[str]:
        """Names of the entries whose runs are published, by today's code or not."""
        indexes = (
            layout.job_index(study.tier, job)
            for study in self.studies.values()
            for job in study.jobs()
        )
        return {
            entry["key"][:NAME]
            for index in indexes
            if index.is_file()
            for entry in read_json(index, "run snakemake, which makes it again")["runs"]
        }

    def _as_of_today(self, made: Mapping[str, Any]) -> bool:
        """Whether a finished run is what today's code and data would give to some study."""
        if made["data"] not in self.contents:
            # of data that are not prepared nobody knows
            return not self.prepared
        if any(made.get(name) != version for name, version in libraries().items()):
            return False
        if not made.get("test", True):
            return made["code"] in self.codes_of_searches
        return (made["code"], _settings(made["settings"])) in self.asked

    @cached_property
    def prepared(self) -> bool:
        """Whether all data of all studies are there."""
        return all(
            layout.card(dataset).is_file() and layout.split_index(tier, dataset).is_file()
            for tier, study in self.studies.items()
            for dataset in study.all_datasets
        )

    @cached_property
    def contents(self) -> set[str]:
        """Digests of the data that are there."""
        names = {name for study in self.studies.values() for name in study.all_datasets}
        cards = filter(Path.is_file, map(layout.card, sorted(names)))
        return {read_json(card, "prepare it again")["content"] for card in cards}

    @cached_property
    def asked(self) -> set[tuple[str, str]]:
        """Code and settings of the runs that the studies expect."""
        return {
            (code_of, _settings(run.payload()))
            for study in self.studies.values()
            for job in study.jobs()
            for code_of in [code_digest(job.modules)]
            for run in study.runs_of(job)
        }

    @cached_property
    def codes_of_searches(self) -> set[str]:
        """Code of the runs that are trials of searches; which settings they try nobody knows."""
        return {
            code_digest(study.tuned(search, 0).job.modules)
            for study in self.studies.values()
            for search in study.searches
        }

    @cached_property
    def all_keys(self) -> set[str] | None:
        """Names of all entries that the studies would make; None: it cannot be said.

        Trials of a search that has not ended are not known beforehand.
        """
        searching = any(
            not layout.search_file(tier, search).is_file()
            for tier, study in self.studies.items()
            for search in study.searches
        )
        if searching or not self.prepared:
            return None
        return {
            bench.key(run)[:NAME]
            for study in self.studies.values()
            for dataset in study.datasets
            for bench in self._benches(study, dataset)
            for run in study.runs
            if run.dataset == dataset
        }

    def _benches(self, study: Study, dataset: str) -> Iterator[Bench]:
        """What a data set's runs would be trained with, or were: any device and threads."""
        interactions = Interactions.open(layout.interactions(dataset))
        for device in ("cpu", "cuda"):
            for threads in sorted(self.threads):
                yield Bench(study, interactions, device, threads)

    @cached_property
    def threads(self) -> set[int]:
        """Numbers of threads that runs of the store were trained with, and the usual one."""
        made = (entry.folder / PROVENANCE for entry in entries() if entry.index.is_file())
        return {1, *(read_json(path, "remove the entry")["threads"] for path in made)}


def _settings(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, sort_keys=True)


def _remove(one: Leftover) -> bool:
    """Remove a leftover, unless it is in use."""
    if one.entry is not None:
        try:
            with one.entry.lock():
                shutil.rmtree(one.path)
        except UserError:
            return False
    elif one.path.is_dir():
        shutil.rmtree(one.path)
    else:
        one.path.unlink(missing_ok=True)
    return True


def _words(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
