"""The environment of record names all that the project needs, and is the one in use."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from projects import ROOT

PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)


def declared(*extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    found = map(Requirement, lines)
    # an extra that holds another one is named with it
    return [requirement for requirement in found if requirement.name != "domain-experts"]


@pytest.mark.parametrize(
    "requirement", declared("test", "export", "lint", "slurm"), ids=lambda r: r.name
)
def test_every_declared_dependency_is_pinned_within_its_range(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("requirement", declared("test", "export"), ids=lambda r: r.name)
def test_the_installed_versions_are_the_pinned_ones(requirement):
    installed = Version(version(requirement.name)).public
    assert installed == PINS[canonicalize_name(requirement.name)]


def test_pins_are_plain_versions():
    for name, pinned in PINS.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert str(Version(pinned)) == Version(pinned).public, "a local label holds in one place"
    assert "domain-experts" not in PINS


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("src/domain_experts", ("export",)),
        ("tests", ("test", "export", "slurm", "remotes-test", "kubernetes-test")),
        ("benchmarks", ("peers", "bench", "export")),
    ],
)
def test_what_the_code_imports_is_declared(name, extras):
    """Oracle: the import statements themselves."""
    folder = ROOT / name
    allowed = {canonicalize_name(r.name) for r in declared(*extras)}
    providers = packages_distributions()
    files = [*(ROOT / "src").iterdir(), *(ROOT / "tests").glob("*.py")]
    # no registry has the library scenario_wise_rec: the page on speed says whence it comes
    own = {"benchmarks", "scripts", "scenario_wise_rec", *(path.stem for path in files)}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            for top in {module.split(".")[0] for module in modules} - own:
                if top not in sys.stdlib_module_names:
                    # what is not installed here goes by its own name
                    names = {canonicalize_name(p) for p in providers.get(top, [top])}
                    assert names & allowed, f"{path}: {top} is not declared"


@pytest.mark.parametrize("extra", ["peers", "bench"])
def test_libraries_to_compare_with_are_pinned_within_their_range(extra):
    pins = (ROOT / f"constraints-{extra}.txt").read_text().splitlines()
    for requirement in set(declared(extra)) - set(declared()):
        # an extra in an extra is pinned by its own file
        if requirement.name != "domain-experts":
            (pinned,) = (line for line in pins if line.startswith(f"{requirement.name}=="))
            assert requirement.specifier.contains(pinned.partition("==")[2])
