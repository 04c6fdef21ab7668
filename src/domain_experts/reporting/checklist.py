"""The checklist of Dagstuhl Seminar 24211: each answer leads to a file, a section or a test."""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from domain_experts.errors import UserError
from domain_experts.params import validated
from domain_experts.strict import Settings
from domain_experts.yaml_files import read_yaml

ANSWERS = Path("docs/templates/checklist.yaml")
PAGE = Path("docs/checklist.md")
YES, PARTLY, NO, NONE = "yes", "partly", "no", "not applicable"


class Item(Settings):
    """A question of the checklist, in our own words, and its answer."""

    id: Annotated[str, Field(pattern=r"^[RM]\d+\.\d+$")]
    asks: str
    answer: Literal["yes", "partly", "no", "not applicable"]
    says: str = ""
    see: tuple[str, ...] = Field(
        default=(), description="files, `file.md#heading` or `tests/file.py::test`"
    )

    @model_validator(mode="after")
    def _is_told(self) -> Self:
        if self.answer in (YES, PARTLY) and not self.see:
            raise ValueError(f"{self.answer} needs something to see")
        if self.answer != YES and not self.says:
            raise ValueError(f"{self.answer} needs a reason")
        return self


class Part(Settings):
    """Questions on one subject."""

    title: str
    items: Annotated[tuple[Item, ...], Field(min_length=1)]


class Checklist(Settings):
    """All questions, and where they come from."""

    source: str
    parts: tuple[Part, ...]


def page() -> str:
    """The content of docs/checklist.md.

    Raises:
        UserError: the answers cannot be used, two have one number, or what they name is not there.
    """
    if not ANSWERS.is_file():
        raise UserError(f"{ANSWERS} is missing; `git checkout -- {ANSWERS}` brings it back")
    checklist = validated(Checklist, read_yaml(ANSWERS), ANSWERS)
    items = [item for part in checklist.parts for item in part.items]
    if twice := [name for name, n in Counter(item.id for item in items).items() if n > 1]:
        raise UserError(f"{ANSWERS}: two items have the number {twice[0]}; number them apart")
    counts = Counter[str](item.answer for item in items)
    said = ", ".join(f"{counts[answer]} {answer}" for answer in (YES, PARTLY, NO, NONE))
    lines = ["# Reproducibility checklist", "", checklist.source.strip(), ""]
    lines += [f"{len(items)} questions: {said}.", ""]
    for part in checklist.parts:
        lines += [
            f"## {part.title}",
            "",
            "| | Question | Answer | See |",
            "| :-- | :-- | :-- | :-- |",
        ]
        lines += [_row(item) for item in part.items]
        lines.append("")
    return "\n".join(lines)


def _row(item: Item) -> str:
    links = "; ".join(_link(item, place) for place in item.see)
    answer = f"{item.answer}: {item.says}" if item.says else item.answer
    return " | ".join(["", item.id, item.asks, answer, links, ""]).strip().replace("  ", " ")


def _link(item: Item, place: str) -> str:
    """A link to a place, which must be there."""
    name, test = place.partition("::")[::2]
    name, heading = name.partition("#")[::2]
    path = Path(name)
    if not path.exists():
        raise UserError(f"{ANSWERS}, {item.id}: {name} is not there; name what shows the answer")
    if heading and heading not in _headings(path):
        known = ", ".join(_headings(path))
        raise UserError(f"{ANSWERS}, {item.id}: {name} has no heading '{heading}', but {known}")
    if test and f"\ndef {test}(" not in path.read_text(encoding="utf-8"):
        raise UserError(f"{ANSWERS}, {item.id}: {name} has no test '{test}'")
    anchor = f"#{heading}" if heading else ""
    return f"[{test or place}](../{name}{anchor})"


def _headings(path: Path) -> tuple[str, ...]:
    """Anchors of a Markdown file's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return tuple(re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in found)
