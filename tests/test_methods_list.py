"""The list of methods says of each whose it is and where it is proved."""

from projects import ROOT
from typer.testing import CliRunner

from domain_experts.cli import app
from domain_experts.methods import methods
from domain_experts.registry import ARMS, BACKBONES, LABELS


def test_every_method_is_listed_once_with_its_source_and_its_proof():
    found = methods()
    assert [one.name for one in found] == [*LABELS, *BACKBONES]
    for one in found:
        assert one.idea and (ROOT / one.proof).is_file(), one
        assert one.paper or one.name in ("mlp",), one
    assert {one.kind for one in found} == {
        *("floor", "arm", "backbone", "multi-domain multi-task model")
    }


def test_the_command_prints_each_with_what_it_needs():
    printed = CliRunner().invoke(app, ["methods"]).output
    assert all(f"{name} (" in printed for name in (*ARMS, *BACKBONES))
    hinet = printed[printed.index("hinet (") :]
    assert "arXiv 2303.06095, not had whole; needs 2 domains" in " ".join(hinet.split())
