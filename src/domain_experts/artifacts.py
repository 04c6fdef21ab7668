"""The files of finished runs, each held to the checksum in its job's index before it is used."""

from pathlib import Path
from typing import Any

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.files import check_file, once, read_json
from domain_experts.runs import Job, Run

RECORD, PROVENANCE = "record.json", "run.json"
MODEL, VIEWS = "model.safetensors", "views.safetensors"
WITH_TIMES = frozenset({PROVENANCE})
"""Files that the seed does not determine: no index lists them, but they have a seal."""
AGAIN = (
    "remove {index} if it is there and run snakemake, which makes it: the run store still has "
    "finished runs"
)


def remedy(tier: str, job: Job) -> str:
    """What brings the files of a job's runs back, in words."""
    return AGAIN.format(index=layout.job_index(tier, job))


def listed(tier: str, job: Job) -> dict[str, dict[str, Any]]:
    """What the index of a job says of each of its runs, by the run's path.

    Raises:
        UserError: it is missing or damaged.
    """
    path = layout.job_index(tier, job)
    try:
        return _entries(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy(tier, job)}") from None


@once
def _entries(path: Path) -> dict[str, dict[str, Any]]:
    return {entry["path"]: entry for entry in read_json(path, AGAIN.format(index=path))["runs"]}


def run_file(tier: str, run: Run, name: str) -> Path:
    """Path of a file of a finished run, checked.

    Raises:
        UserError: the run is not finished; the file is missing, damaged or not of that training.
    """
    path, index = layout.run_artifacts(tier, run) / name, layout.job_index(tier, run.job)
    entry, mended_by = listed(tier, run.job).get(run.path.as_posix()), remedy(tier, run.job)
    if entry is None:
        raise UserError(f"{index} does not list {run.path}: it is not finished; {mended_by}")
    if name not in WITH_TIMES:
        check_file(path, entry["files"].get(name), index, mended_by)
    return path


def read_run(tier: str, run: Run, name: str) -> Any:
    """The content of a JSON file of a finished run.

    Raises:
        UserError: as `run_file`.
    """
    return read_json(run_file(tier, run, name), remedy(tier, run.job))
