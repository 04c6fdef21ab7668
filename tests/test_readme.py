"""README.md and docs/paper.md say what results say, and what they name exists."""

import re
import runpy
from pathlib import Path

import pytest

from domain_experts.phases import PHASES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TEMPLATES = sorted((ROOT / "docs/templates").glob("*.md"))
# what is no measurement: code, templates' expressions, links, versions after a name
NOT_PROSE = r"```.*?```|`[^`]*`|\{[{%].*?[%}]\}|\]\([^)]*\)|arXiv [\d.]+|Python [\d.]+"
MEASURED = r"[+−-]?(?<![\w.])0?\.\d+|\b\d+(\.\d+)? ?(%|seconds|minutes|hours|MB|GB|times|k rows)"


def typed_numbers(template):
    """Numbers in the prose of a template that look measured."""
    prose = re.sub(NOT_PROSE, "", template, flags=re.DOTALL)
    return [match.group() for match in re.finditer(MEASURED, prose)]


@pytest.fixture
def documents(monkeypatch):
    """The documents' generator, run from the project's root."""
    monkeypatch.chdir(ROOT)
    return runpy.run_path("scripts/docs.py")


def test_the_documents_are_filled_in_from_results(documents):
    for path, text in documents["filled"]().items():
        assert (ROOT / path).read_text() == text, f"{path}: run `make docs`"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_number_of_the_prose_is_typed(path):
    assert typed_numbers(path.read_text()) == []


def test_a_typed_number_would_be_found():
    text = "It gains 0.003, or +.12, in 12 minutes and 3 % of 2.1 GB; arXiv 2506.07563; {{ 0.1 }}"
    assert typed_numbers(text) == ["0.003", "+.12", "12 minutes", "3 %", "2.1 GB"]


def test_links_lead_somewhere():
    for name in ("README.md", "docs/paper.md", "docs/findings.md", "docs/data.md"):
        folder = (ROOT / name).parent
        links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text())
        for link in links:
            assert (folder / link).exists(), f"{name}: {link}"


def test_findings_have_every_claim_once():
    page = (ROOT / "docs/findings.md").read_text()
    names = re.findall(
        "^  - id: (.*)$", "".join(p.read_text() for p in (ROOT / "claims").iterdir()), re.M
    )
    assert len(names) > 70
    assert [name for name in names if page.count(f"([{name}](") != 1] == []


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z]+)", README):
        assert re.search(rf"^(\w+ )*{target}( \w+)*:", makefile, re.MULTILINE), target


def test_phases_are_named():
    for phase in PHASES:
        assert f"`{phase}`" in README, phase


def test_the_readme_is_short():
    prose = re.sub(r"\n\|.*", "", README)
    assert len(prose.splitlines()) < 130
