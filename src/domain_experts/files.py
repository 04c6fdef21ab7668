"""Files that are whole or absent, and hold what was written: durable writes, JSON, checksums.

A file that is read again is held to a checksum. Most are listed by another file (a data set's card,
a job's index); a file that lists others, or stands alone, holds its own: its *seal*, the SHA-256 of
its bytes with zeros in the seal's place, which works in any format that has room for a text.
"""

import errno
import hashlib
import json
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from domain_experts.errors import UserError

T = TypeVar("T")
SEAL = "seal"
"""Key of a file's own checksum, in JSON and in the metadata of Parquet and safetensors."""
_BEFORE, _DIGITS, _AFTER = b"sha256 of this file: ", 64, b" (with 64 zeros here)"
UNSEALED = {SEAL: (_BEFORE + b"0" * _DIGITS + _AFTER).decode()}
"""What a format's writer puts where the seal is to be."""
TEMPORARY = ".new-"
"""How names of files and folders begin that are yet to be whole."""
_folders: set[Path] | None = None
"""Folders that are to be synchronised; None: at once."""
_SETTLED_NS = 2 * 10**9
"""A file that changed later than this ago could change again without a newer time."""


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name a file in the errors of reading or writing it: the system's own often do not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        # numpy's have no number
        number, what = error.errno or errno.EIO, error.strerror or str(error)
        raise OSError(number, what, str(path)) from error
    except SafetensorError as error:
        # so it says that a disk is full
        raise OSError(errno.EIO, str(error), str(path)) from error


@contextmanager
def replacing(path: Path, sealed: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it becomes `path`, else it goes.

    Whatever ends the process or the machine, `path` is the old file or the new one, whole.

    Args:
        path: the file.
        sealed: its content holds UNSEALED, in place of which comes the seal.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f"{TEMPORARY}{path.name}.", suffix=path.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        with _named(path):
            yield temporary
        # mkstemp makes files that only their owner can read
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if sealed:
            _seal(temporary)
        _to_disk(temporary)
        temporary.replace(path)
        _name_to_disk(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def together() -> Iterator[None]:
    """Have the folders of what is written within this synchronised once each, at the end.

    That takes milliseconds a time. For files that nobody reads before their index is there.
    """
    global _folders  # noqa: PLW0603 - who writes a file need not know of the others
    outer, _folders = _folders, set()
    try:
        yield
        for folder in sorted(_folders):
            _to_disk(folder)
    finally:
        _folders = outer


def _name_to_disk(path: Path) -> None:
    if _folders is None:
        _to_disk(path.parent)
    else:
        _folders.add(path.parent)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside a path, for what is to become that; it goes at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{TEMPORARY}{path.name}."
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as name, _named(path):
        yield Path(name)


def place(new: Path, folder: Path, index: str) -> None:
    """Move the files of a new folder into another one, replacing those of their names.

    While that goes on the other folder has no `index`, so that nobody opens a mixture of old and
    new files; the caller writes it, last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in new.rglob("*") if path.is_file())
    for file in files:
        _to_disk(file)
    (folder / index).unlink(missing_ok=True)
    _to_disk(folder)
    for file in files:
        target = folder / file.relative_to(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    for changed in {folder, *((folder / file.relative_to(new)).parent for file in files)}:
        _to_disk(changed)


def place_folder(new: Path, folder: Path) -> None:
    """Put a new folder in the place of one of the same file system, which may be there."""
    for path in (*new.rglob("*"), new):
        _to_disk(path)
    if folder.exists():
        # a folder that is not empty cannot be replaced in one step: the old one goes aside, whole
        folder.rename(new.with_name(f"{new.name}-before"))
    new.rename(folder)
    _to_disk(folder.parent)


def _to_disk(path: Path) -> None:
    """Have the system write a file, or the names in a folder, where a loss of power leaves it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, sealed: bool = False) -> None:
    """Write JSON with sorted keys and a trailing newline, atomically.

    Raises:
        ValueError: a number is not finite.
    """
    whole = value | UNSEALED if sealed else value
    text = json.dumps(whole, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(path, sealed) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, remedy: str) -> Any:
    """Read JSON, without its seal.

    Raises:
        UserError: the file is missing or damaged; the message names it and the remedy.
    """
    try:
        check_seal(path, remedy)
        with _named(path):
            found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
    if isinstance(found, dict):
        found.pop(SEAL, None)
    return found


def once(function: Callable[[Path], T]) -> Callable[[Path], T]:
    """Have a function of a file's content called once in a process, until the file changes."""
    known: dict[Path, tuple[tuple[int, ...], T]] = {}

    @wraps(function)
    def of(path: Path) -> T:
        status, place = path.stat(), path.absolute()
        state = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        if place in known and known[place][0] == state:
            return known[place][1]
        found = function(path)
        if time.time_ns() - status.st_ctime_ns > _SETTLED_NS:
            known[place] = state, found
        return found

    return of


@once
def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with _named(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, expected: str | None, listed: Path, remedy: str) -> None:
    """Refuse a file that is not the one whose checksum was kept.

    Args:
        path: the file.
        expected: its SHA-256 when it was written; None: none was kept.
        listed: where it was kept.
        remedy: the command that mends it.

    Raises:
        UserError: the file is missing, damaged or not listed.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; {remedy}")
    if expected is None:
        raise UserError(f"{listed} does not list {path.name}; {remedy}")
    if sha256(path) != expected:
        raise UserError(f"{path} is damaged: it is not the file that {listed} lists; {remedy}")


def check_seal(path: Path, remedy: str) -> bool:
    """Refuse a file that is not what its seal says; whether it has one.

    A file that was written before there were seals has none.

    Raises:
        FileNotFoundError: there is no file.
        UserError: the file is damaged.
    """
    sound = _sound(path)
    if sound is False:
        raise UserError(f"{path} is damaged: it is not what its own checksum says; {remedy}")
    return sound is not None


@once
def _sound(path: Path) -> bool | None:
    """Whether a file is what its seal says; None if it has none."""
    # read, not mapped: where a disk is broken, looking at a map ends the process without a word
    with _named(path):
        data = path.read_bytes()
    before, after = data.find(_BEFORE), data.find(_AFTER)
    # no single damage takes away both ends
    if before < 0 and after < 0:
        return None
    start = before + len(_BEFORE)
    if before < 0 or after != start + _DIGITS:
        return False
    return data[start:after] == _digest(data, start)


def _seal(path: Path) -> None:
    with path.open("r+b") as file:
        # what was just written can be mapped: reading a large file would take its size again
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = data.find(_BEFORE) + len(_BEFORE)
            if data[start - len(_BEFORE) : start + _DIGITS] != _BEFORE + b"0" * _DIGITS:
                raise ValueError(f"{path} has no place for a seal")
            digest = _digest(data, start)
        file.seek(start)
        file.write(digest)


def _digest(data: mmap.mmap | bytes, start: int) -> bytes:
    with memoryview(data) as view:
        digest = hashlib.sha256(view[:start])
        digest.update(b"0" * _DIGITS)
        digest.update(view[start + _DIGITS :])
    return digest.hexdigest().encode()
