"""README.md shows what rules made, and the commands and files that it names exist."""

import re
import runpy
from pathlib import Path

from domain_experts.phases import PHASES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_blocks_are_copies_of_what_rules_made(monkeypatch):
    monkeypatch.chdir(ROOT)
    filled = runpy.run_path("scripts/readme.py")["filled"]
    assert filled(README) == README, "run `make docs`"


def test_a_stale_block_would_be_seen(monkeypatch):
    monkeypatch.chdir(ROOT)
    filled = runpy.run_path("scripts/readme.py")["filled"]
    assert filled(README.replace("| planted | MLP |", "| planted | M |", 1)) == README


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z]+)", README):
        assert re.search(rf"^(\w+ )*{target}( \w+)*:", makefile, re.MULTILINE), target


def test_phases_are_named():
    for phase in PHASES:
        assert f"`{phase}`" in README, phase
