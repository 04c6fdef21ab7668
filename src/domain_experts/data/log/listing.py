"""Which files a log's patterns name, and whether they changed; imports nothing heavy."""

import glob
from collections.abc import Sequence
from pathlib import Path

from domain_experts.errors import UserError

_PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".tsv", ".txt")
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")


def matches(pattern: str) -> list[str]:
    """Names of the files that a pattern fits."""
    # a pattern may be absolute, which Path.glob does not take
    return [name for name in glob.glob(pattern, recursive=True) if Path(name).is_file()]  # noqa: PTH207


def find(patterns: Sequence[str]) -> tuple[Path, ...]:
    """The files that patterns name, sorted, each once.

    Raises:
        UserError: a pattern fits no file, or a file is of no known form.
    """
    found: set[str] = set()
    for pattern in patterns:
        names = matches(pattern)
        if not names:
            raise UserError(f"files: '{pattern}' fits no file (seen from {Path.cwd()})")
        found.update(names)
    paths = tuple(Path(name) for name in sorted(found))
    for path in paths:
        if not is_parquet(path) and _form(path) not in _TEXT:
            raise UserError(
                f"{path}: a log is {', '.join((*_PARQUET, *_TEXT))}; text may be compressed "
                f"({', '.join(_COMPRESSED)})"
            )
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; leave it out of `files`")
    return paths


def stamps(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of files: what changes when they do."""
    found = [(path, path.stat()) for path in paths]
    return [(path.as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in found]


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return path.suffix.lower() in _PARQUET


def _form(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path).suffix.lower()
