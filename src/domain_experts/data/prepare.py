"""Raw files to Interactions, or generated ones."""

from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from domain_experts import layout
from domain_experts.data import planted, planted_tasks
from domain_experts.data.interactions import write
from domain_experts.data.registry import FILE_FORMATS, SOURCES
from domain_experts.data.specs import Dataset, Generated, Log, PlantedTasks
from domain_experts.errors import UserError
from domain_experts.files import read_json, sha256


class _Fetched(BaseModel):
    """What is read of a record of fetched files."""

    layout: str
    files: dict[str, str]


def prepare(dataset: str, spec: Dataset) -> None:
    """Write the Interactions of a data set.

    Raises:
        UserError: raw files are missing, changed since they were fetched, or do not fit.
    """
    if isinstance(spec, Log):
        from domain_experts.data.log.reader import prepare as prepare_log

        return prepare_log(dataset, spec)
    if isinstance(spec, Generated):
        made_by = planted_tasks if isinstance(spec, PlantedTasks) else planted
        interactions = made_by.generate(spec)
        record: dict[str, Any] = {
            "source": spec.source,
            "statement": "generated",
            "settings": spec.model_dump(mode="json", exclude={"split"}),
        }
    else:
        record = checked_record(spec.source)
        reader = import_module(SOURCES[spec.source].reader)
        interactions = reader.interactions(layout.raw(spec.source), record["layout"], spec)
    return write(interactions, layout.interactions(dataset), record)


def checked_record(source: str) -> dict[str, Any]:
    """The record of a fetched source whose raw files are still those that were fetched.

    Raises:
        UserError: a file is missing, damaged or changed.
    """
    path = layout.raw_record(source)
    remedy = f"run `domain-experts fetch {source}`"
    record: dict[str, Any] = read_json(path, remedy)
    try:
        fetched = _Fetched.model_validate(record)
    except ValidationError:
        raise UserError(f"{path} is no record of fetched files; {remedy}") from None
    names = FILE_FORMATS.get(fetched.layout, ())
    if {*names} != fetched.files.keys():
        raise UserError(f"{path} does not name the files of {source}; {remedy}")
    for name, expected in fetched.files.items():
        file = Path(layout.raw(source), name)
        if not file.is_file():
            raise UserError(f"{file} is missing; {remedy}")
        found = sha256(file)
        if found != expected:
            raise UserError(
                f"{file} changed since it was fetched (sha256 {found}, expected {expected}); "
                f"{remedy}"
            )
    return record
