"""A study's folder beside its file, and the packaged workflow that runs there."""

import subprocess
import sys
from contextlib import chdir
from importlib.resources import as_file, files
from pathlib import Path

import yaml

from domain_experts.data.log.listing import find
from domain_experts.data.specs import Log
from domain_experts.dvc_pipeline import own_dvc_file
from domain_experts.errors import UserError
from domain_experts.files import write_text
from domain_experts.layout import PARAMS, results_file
from domain_experts.params import load
from domain_experts.study import Study
from domain_experts.study_file import TIER, params_of, read

MADE = "# Made by `domain-experts study` from "
HEADER = """{file}, and made again each time: change that file.
# What it does not say is as in the package's own params.yaml.
"""
IGNORED = """\
# Data, weights and predictions stay here: `push: false`.
*
!/dvc.yaml
!/dvc.lock
"""
ENDINGS = (".yaml", ".yml")


def folder_of(path: Path) -> Path:
    """The study's folder: that of the file's name, without its ending, beside it."""
    return path.with_suffix("") if path.suffix in ENDINGS else path


def make(file: Path) -> Path:
    """Write the folder's params.yaml, and keep git from what is private; returns the folder.

    Raises:
        UserError: the file cannot be used, or something else is in the folder's place.
    """
    if file.suffix not in ENDINGS:
        raise UserError(f"{file}: a study is a file that ends in {' or '.join(ENDINGS)}")
    study, folder = read(file), folder_of(file)
    try:
        values = params_of(study, file.stem, Path(".."))
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    params, ignored = folder / PARAMS, folder / ".gitignore"
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not _is_made(params)):
        raise UserError(
            f"{folder} is to be the study's folder, but is something else; rename {file.name}"
        )
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    _write(params, MADE + HEADER.format(file=Path("..", file.name)) + text)
    if not study.push:
        _write(ignored, IGNORED)
    elif ignored.is_file() and ignored.read_text(encoding="utf-8") == IGNORED:
        # one that DVC wrote stays
        ignored.unlink()
    return folder


def write_dvc(file: Path) -> None:
    """Write dvc.yaml into the study's folder, which is made.

    Raises:
        UserError: as `make`; or a pattern fits no file.
    """
    folder = make(file)
    with chdir(folder):
        study = Study(load(), TIER)
        specs = [study.params.data.datasets[name] for name in study.datasets]
        log = find([pattern for spec in specs if isinstance(spec, Log) for pattern in spec.files])
        _write(Path("dvc.yaml"), own_dvc_file(study, Path("..", file.name), log))


def run(file: Path, cores: int | None = None, dry_run: bool = False) -> Path:
    """Make what the study lacks, and only that, by the packaged workflow; returns the folder.

    Raises:
        UserError: as `make`; or the workflow did not end well, which its own message explains.
    """
    folder = make(file)
    with as_file(files("domain_experts") / "workflow") as workflow:
        command = [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(workflow / "Snakefile")),
            *("--workflow-profile", str(workflow / "profiles/default")),
            *("--directory", str(folder), "--cores", str(cores or "all")),
            *("--config", f"tier={TIER}"),
            *["--dry-run"] * dry_run,
        ]
        status = subprocess.run(command, check=False).returncode
    if status:
        raise UserError(
            f"the study of {file} did not end well, for the reason above; `domain-experts study "
            f"{file}` goes on where it stopped"
        )
    return folder


def existing(path: Path) -> Path:
    """The folder of a study that was made, named by itself or by its file.

    Raises:
        UserError: there is none.
    """
    folder = folder_of(path)
    file = path if path.suffix in ENDINGS else Path(f"{path}{ENDINGS[0]}")
    if not _is_made(folder / PARAMS):
        raise UserError(f"{folder} is no study's folder; `domain-experts study {file}` makes it")
    if not (folder / results_file(TIER)).is_file():
        raise UserError(f"{folder} has no results yet; `domain-experts study {file}` makes them")
    return folder


def _is_made(params: Path) -> bool:
    return params.is_file() and params.read_text(encoding="utf-8").startswith(MADE)


def _write(path: Path, text: str) -> None:
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        write_text(path, text)
