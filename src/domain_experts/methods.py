"""All methods in one list: whose they are, what they need, and where they are proved."""

import ast
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from domain_experts.declarations import Arm, Backbone
from domain_experts.digest import ROOT
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.render import Table

_FIRST_LINE = re.compile(r"(?P<name>[^(:]+?)( \((?P<paper>[^)]+)\))?: (?P<idea>.+)", re.DOTALL)
_KINDS = {"ctr": "backbone", "multi": "multi-domain multi-task model"}


@dataclass(frozen=True)
class Method:
    """A row of the list."""

    name: str
    label: str
    kind: str
    paper: str
    idea: str
    needs: str
    proof: str


def methods() -> list[Method]:
    """Arms as tables show them, then backbones and models as the registry has them."""
    return [_of_arm(*item) for item in ARMS.items()] + [
        _of_backbone(*item) for item in BACKBONES.items()
    ]


def methods_table() -> Table:
    """The list as a table."""
    frame = pd.DataFrame([asdict(method) for method in methods()])
    heads = {name: str(name).capitalize() for name in frame}
    return Table("methods", "", frame, frame.rename(columns=heads), words=len(heads))


def _of_backbone(name: str, own: Backbone) -> Method:
    path = ROOT.parent / Path(*own.module.split(".")).with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    found = _FIRST_LINE.fullmatch(text.split("\n")[0].removesuffix("."))
    if found is None:
        raise ValueError(f"{path}: its docstring's first line is not 'Name (paper): idea.'")
    paper = (found["paper"] or "") + ("" if own.whole else ", not had whole")
    needs = ", ".join(f"2 {what}" for what in own.needs)
    return Method(name, own.label, _KINDS[own.family], paper, found["idea"], needs, own.proof)


def _of_arm(name: str, own: Arm) -> Method:
    kind = "floor" if own.floor else "arm"
    idea = (own.train.__doc__ or own.label).split("\n")[0].removesuffix(".")
    needs = ["planted groups"] if own.planted else []
    needs += [f"arm {other}" for other in own.needs]
    return Method(name, own.label, kind, own.paper, idea, ", ".join(needs), own.proof)
