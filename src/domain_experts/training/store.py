"""The run store: finished runs by key, and the last epoch of unfinished ones.

An entry is a folder `.runs/<key>/`. Its lock is the operating system's, so that it ends with the
process that holds it, however that dies.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.files import check_file, read_json, replacing, sha256, write_json

LOCK = "lock"
HOLDER = "holder"
FILES = "files.json"
NAME = 20
"""Digits of its key that an entry is named by."""


@dataclass(frozen=True)
class Entry:
    """One run in the store."""

    key: str

    @property
    def folder(self) -> Path:
        return layout.STORE / self.key[:NAME]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def index(self) -> Path:
        """Checksums of the files of a finished run."""
        return self.folder / FILES

    def checkpoints(self) -> list[Path]:
        """Those of an unfinished run, of each of its models."""
        return sorted(self.folder.glob(f"{self.checkpoint.stem}*"))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the entry.

        Raises:
            UserError: another process holds it; the message names that process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                # it is for the eye, while the process lives
                (self.folder / HOLDER).write_text(f"process {os.getpid()}")
                yield
        except Timeout:
            # the lock is taken before its holder has written who it is
            named = self.folder / HOLDER
            holder = named.read_text() if named.exists() else "another process"
            raise UserError(
                f"{holder} is training this run (it holds {self.folder / LOCK}); wait for it to "
                "end, or stop it, and run again"
            ) from None

    def finished(self) -> dict[str, str] | None:
        """Checksums of the files of a finished run; None if it is not finished.

        Raises:
            UserError: a file is missing or damaged.
        """
        if not self.index.exists():
            return None
        remedy = f"remove the entry (rm -r '{self.folder}') and run again: this run is trained anew"
        files: dict[str, str] = read_json(self.index, remedy)
        for name, expected in files.items():
            check_file(self.folder / name, expected, self.index, remedy)
        return files

    def finish(self, names: list[str]) -> dict[str, str]:
        """Mark the run as finished, with these files of the entry."""
        files = {name: sha256(self.folder / name) for name in names}
        write_json(self.index, files, sealed=True)
        for part in self.checkpoints():
            part.unlink()
        return files

    def publish(self, name: str, folder: Path) -> None:
        """Copy one file of a finished run to a folder, unless it is there already."""
        source, target = self.folder / name, folder / name
        if target.exists() and sha256(target) == sha256(source):
            return
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def entries() -> list[Entry]:
    """All that the store holds."""
    return [Entry(folder.name) for folder in sorted(layout.STORE.glob("*")) if folder.is_dir()]


def unlock() -> None:
    """Clear Snakemake's lock on the project, if no training process is still alive.

    Raises:
        UserError: a process still trains a run.
    """
    for entry in entries():
        with entry.lock():
            pass
    subprocess.run([sys.executable, "-m", "snakemake", "--unlock"], check=True)
