"""CITATION.cff: who made this, and the papers that it reproduces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domain_experts.errors import UserError
from domain_experts.yaml_files import read_yaml

FILE = Path("CITATION.cff")


@dataclass(frozen=True)
class Work:
    """The software, or a paper."""

    title: str
    authors: tuple[str, ...]
    published: str
    """A date, or a year."""
    url: str
    """DOI or arXiv page; empty for the software."""


def cited() -> tuple[Work, tuple[Work, ...]]:
    """The software, and the papers.

    Raises:
        UserError: CITATION.cff is missing or lacks an entry.
    """
    try:
        found = read_yaml(FILE)
        return _work(found), tuple(map(_work, found["references"]))
    except FileNotFoundError:
        raise UserError(f"{FILE} is missing; `git checkout -- {FILE}` brings it back") from None
    except (KeyError, TypeError) as error:
        raise UserError(f"{FILE} cannot be used ({error}); mend it") from None


def _work(entry: dict[str, Any]) -> Work:
    authors = tuple(
        author.get("name") or f"{author['given-names']} {author['family-names']}"
        for author in entry["authors"]
    )
    published = entry.get("date-released") or entry["year"]
    named = {known["type"]: known["value"] for known in entry.get("identifiers", ())}
    url = ""
    if "doi" in named:
        url = f"https://doi.org/{named['doi']}"
    elif "other" in named:
        url = f"https://arxiv.org/abs/{named['other'].removeprefix('arXiv:')}"
    return Work(entry["title"], authors, str(published), url)
