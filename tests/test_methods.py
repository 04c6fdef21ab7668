"""The pages on methods name every arm, model, data set and switch."""

import fnmatch
import re
from pathlib import Path

import pytest

from domain_experts.params import load
from domain_experts.registry import ARMS, BACKBONES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "methods.md").read_text()
M3OE = (ROOT / "docs" / "m3oe.md").read_text()
PARAMS = load(ROOT / "params.yaml")
DESCRIBED = PARAMS.protocols["described"].model_dump()
# what only models of the other family read
OF_MULTI = {
    *("restore", "scalars", "start"),
    *("upper_rows", "upper_loss", "upper_order", "upper_learning_rate"),
}
RELEASED = [p.model_dump() for name, p in PARAMS.protocols.items() if name.startswith("released")]


def first_cells(section, text=TEXT):
    """Names in the first column of the table of a section."""
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return {
        name
        for line in body.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }


@pytest.mark.parametrize(("text", "family"), [(TEXT, "ctr"), (M3OE, "multi")])
def test_arms(text, family):
    assert first_cells("Arms", text) == {name for name, arm in ARMS.items() if arm.family == family}


@pytest.mark.parametrize(("text", "family"), [(TEXT, "ctr"), (M3OE, "multi")])
def test_models(text, family):
    section = {"ctr": "Backbones", "multi": "Models"}[family]
    own = {name for name, backbone in BACKBONES.items() if backbone.family == family}
    assert first_cells(section, text) == own


def test_switches_of_m3oe():
    described, *released = (
        p.model_dump() for name, p in PARAMS.protocols.items() if name.startswith("m3oe")
    )
    differing = {s for s in described if any(p[s] != described[s] for p in released)}
    assert first_cells("Described and released", M3OE) == differing
    for switch in OF_MULTI - differing - {"upper_learning_rate"}:
        assert f"`{switch}" in M3OE


def test_switches_are_those_by_which_the_protocols_differ():
    differing = {s for s in DESCRIBED if any(p[s] != DESCRIBED[s] for p in RELEASED)}
    assert first_cells("Described and released") == differing
    for switch in set(DESCRIBED) - differing - OF_MULTI:
        assert f"`{switch}`" in TEXT


@pytest.mark.parametrize("name", PARAMS.data.datasets)
def test_data_sets(name):
    patterns = first_cells("Data")
    # `epinions-10`, `-20` in one cell share their beginning
    whole = {p for p in patterns if not p.startswith("-")}
    stems = {p.rsplit("-", 1)[0] for p in whole if re.search(r"-\d+$", p)}
    whole |= {stem + p for stem in stems for p in patterns if p.startswith("-")}
    assert any(fnmatch.fnmatchcase(name, pattern) for pattern in whole)
