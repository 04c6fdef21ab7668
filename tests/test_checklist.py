"""The reproducibility checklist: every answer leads to something that is there."""

from pathlib import Path

import pytest
import yaml
from projects import ROOT

from domain_experts.errors import UserError
from domain_experts.reporting.checklist import ANSWERS, PAGE, page

TEST = '''"""Tests."""


def test_one():
    pass
'''


@pytest.fixture
def put(project):
    """Write answers of one item: `put(answer="no", ...)` gives the page."""
    Path("README.md").write_text("# Title\n\n## What `a.b` is: every one\n")
    Path("tests").mkdir()
    Path("tests/test_a.py").write_text(TEST)
    ANSWERS.parent.mkdir(parents=True)

    def write(*items):
        made = [{"id": "R1.1", "asks": "Is it so?"} | item for item in items]
        content = {"source": "From there.", "parts": [{"title": "R1 Code", "items": made}]}
        ANSWERS.write_text(yaml.safe_dump(content))
        return page()

    return write


def test_the_page_in_this_project_is_in_step(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert PAGE.read_text() == page()


def test_an_answer_has_links_to_what_shows_it(put):
    see = ["README.md", "README.md#what-ab-is-every-one", "tests/test_a.py::test_one", "tests"]
    row = put({"answer": "partly", "says": "of some", "see": see}).splitlines()[-1]
    assert row.startswith("| R1.1 | Is it so? | partly: of some | [README.md](../README.md); ")
    assert "[test_one](../tests/test_a.py)" in row
    assert "(../README.md#what-ab-is-every-one)" in row
    assert row.count(" | ") == 3


@pytest.mark.parametrize(
    ("see", "message"),
    [
        ("gone.md", "R1.1: gone.md is not there"),
        ("README.md#what", "no heading 'what', but title, what-ab-is-every-one"),
        ("tests/test_a.py::test_on", "tests/test_a.py has no test 'test_on'"),
    ],
)
def test_what_is_gone_is_named(put, see, message):
    with pytest.raises(UserError, match=message):
        put({"answer": "yes", "see": [see]})


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"answer": "yes"}, "yes needs something to see"),
        ({"answer": "no"}, "no needs a reason"),
        ({"answer": "perhaps"}, "perhaps"),
        ({"answer": "no", "says": "so", "id": "X"}, "R1|pattern"),
    ],
)
def test_an_answer_that_says_nothing_is_refused(put, item, message):
    with pytest.raises(UserError, match=message):
        put(item)


def test_two_items_of_one_number_are_refused(put):
    item = {"answer": "no", "says": "so"}
    with pytest.raises(UserError, match=r"two items have the number R1\.1"):
        put(item, item)


def test_answers_are_counted(put):
    items = [{"answer": "no", "says": "so", "id": f"M1.{i}"} for i in range(3)]
    assert "3 questions: 0 yes, 0 partly, 3 no, 0 not applicable." in put(*items)


def test_missing_answers_have_a_way_out(project):
    with pytest.raises(UserError, match="git checkout"):
        page()
