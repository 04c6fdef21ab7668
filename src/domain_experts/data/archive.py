"""Named files out of a downloaded archive, each checked before anything is written."""

import errno
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

Info = TypeVar("Info")
_LARGEST_MEMBER = 512 * 2**20
_LARGEST_ARCHIVE = 4 * 2**30
_UNSOUND = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
    # of a wrong offset in the archive, and of bz2 and gzip
    OSError,
)


class UnusableError(Exception):
    """A source that does not serve what it should; the next one is tried."""


def extract(archive: Path, folder: str, names: tuple[str, ...], work: Path) -> None:
    """Copy files out of a zip or a compressed tar archive, whichever its name says.

    Args:
        archive: The archive; a name that ends in .tar.gz is a tar archive, all others are zip.
        folder: Folder of the files in it.
        names: What to copy; nothing else is.
        work: An existing folder, which gets them.

    Raises:
        UnusableError: the archive is damaged, or a file is missing, there twice, too large or no
            plain file.
    """
    tar = archive.name.endswith(".tar.gz")
    kind = "tar" if tar else "zip"
    try:
        with (_tar if tar else _zip)(archive, [f"{folder}/{name}" for name in names]) as streams:
            for name, stream in zip(names, streams, strict=True):
                with stream, (work / name).open("wb") as file:
                    shutil.copyfileobj(stream, file)
    except _UNSOUND as error:
        # what the system says of the disk has another number: no space, no permission
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UnusableError(f"{archive.name} is no sound {kind} archive ({error})") from None


@contextmanager
def _zip(archive: Path, names: list[str]) -> Iterator[Iterator[IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        members = []
        for name in names:
            info = _only([info for info in opened.infolist() if info.filename == name], name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG) and not info.is_dir() and not info.flag_bits & 0x1
            # zipfile reads no more than the size that the archive's index states
            _check(name, plain, info.file_size)
            members.append(info)
        yield (opened.open(info) for info in members)


@contextmanager
def _tar(archive: Path, names: list[str]) -> Iterator[Iterator[IO[bytes]]]:
    with tarfile.open(archive, "r:gz") as opened:
        members = []
        held = [*_members(opened)]
        for name in names:
            info = _only([info for info in held if info.name == name], name)
            _check(name, info.isreg(), info.size)
            members.append(info)
        # extractfile returns None of what is no plain file
        yield (stream for info in members if (stream := opened.extractfile(info)))


def _members(opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All members; to list them, all that lies between is unpacked."""
    for info in opened:
        if info.offset_data + info.size > _LARGEST_ARCHIVE:
            raise UnusableError(f"the archive holds more than {_LARGEST_ARCHIVE:,} bytes")
        yield info


def _only(found: list[Info], name: str) -> Info:
    if len(found) != 1:
        raise UnusableError(f"the archive holds {len(found)} members {name}, expected one")
    return found[0]


def _check(name: str, plain: bool, size: int) -> None:
    if not plain:
        raise UnusableError(f"archive member {name} is no plain file")
    if size > _LARGEST_MEMBER:
        raise UnusableError(f"archive member {name} has {size} bytes: too large")
