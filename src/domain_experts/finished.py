"""Which runs of a study have their results."""

from functools import cache
from typing import Any

from domain_experts import layout
from domain_experts.files import read_json
from domain_experts.params import Study
from domain_experts.runs import Job, Run


def finished(study: Study) -> tuple[Run, ...]:
    """The runs whose results can be shown.

    Of a partial study: those that their job's index lists, with all that they start from, whether
    or not the data are at hand. Of any other: all of them.

    Raises:
        UserError: an index is damaged.
    """
    if not study.partial:
        return study.runs
    listed = cache(lambda job: _listed(study, job))

    def is_there(run: Run) -> bool:
        return run.path.as_posix() in listed(run.job) and all(map(is_there, study.upstream(run)))

    return tuple(run for run in Study(study.params, study.tier).runs if is_there(run))


def _listed(study: Study, job: Job) -> set[str]:
    index = layout.job_index(study.tier, job)
    if not index.is_file():
        return set()
    entries: list[dict[str, Any]] = read_json(index, f"delete it and train {job.path} again")[
        "runs"
    ]
    return {entry["path"] for entry in entries}
