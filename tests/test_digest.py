"""The digest of code follows imports, and nothing else."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from domain_experts import digest
from domain_experts.digest import (
    _plain,
    code_digest,
    plain_digest,
    source_files,
    source_modules,
)
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.runs import Job

FILES = {
    "__init__.py": "",
    "job.py": "def run():\n    from domain_experts.models.tower import Tower\n    return Tower\n",
    "types.py": (
        "from typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n    from domain_experts import plot\n"
        "else:\n    import domain_experts.leaf\n"
    ),
    "leaf.py": "import os.path\nimport numpy\n",
    "plot.py": "import domain_experts.leaf\n",
    "models/__init__.py": "",
    "models/tower.py": "from . import layer\nfrom ..leaf import thing\n",
    "models/layer.py": "from domain_experts.models import tower\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(digest, "ROOT", tmp_path)
    return tmp_path


def modules(*names):
    return tuple(sorted(["domain_experts", *(f"domain_experts.{name}" for name in names)]))


def test_imports_are_followed_into_functions_relative_names_and_cycles(package):
    found = source_modules(["domain_experts.job"])
    assert found == modules("job", "leaf", "models", "models.tower", "models.layer")


def test_imports_for_type_checking_do_not_count(package):
    assert source_modules(["domain_experts.types"]) == modules("types", "leaf")


def test_the_digest_changes_with_what_is_imported_and_with_nothing_else(package):
    before = code_digest(["domain_experts.job"])
    (package / "plot.py").write_text("x = 1\n")
    assert code_digest(["domain_experts.job"]) == before
    (package / "leaf.py").write_text("x = 1\n")
    assert code_digest(["domain_experts.job"]) != before


@pytest.mark.parametrize(
    ("code", "same"),
    [
        ('"""Says what."""\nimport  os.path  # why\nimport numpy\n', True),
        ('import os.path\nimport numpy\nx = "text"\n', False),
        ("import os.path\nimport numpy\n1\n", False),
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(package, code, same):
    before = code_digest(["domain_experts.leaf"])
    (package / "leaf.py").write_text(code)
    assert (code_digest(["domain_experts.leaf"]) == before) is same


def test_settings_count_by_their_values(package):
    (package / "leaf.py").write_text("import domain_experts.settings\n")
    (package / "settings.py").write_text("x = 1\n")
    before = code_digest(["domain_experts.leaf"])
    (package / "settings.py").write_text("x = 2\n")
    assert code_digest(["domain_experts.leaf"]) == before


def test_the_digest_does_not_depend_on_order(package):
    names = ["domain_experts.job", "domain_experts.plot"]
    assert code_digest(names) == code_digest(names[::-1])


def test_a_new_line_in_the_registry_changes_no_digest(package):
    (package / "registry.py").write_text("ARMS = 1\n")
    (package / "leaf.py").write_text("import domain_experts.registry\n")
    before = code_digest(["domain_experts.leaf"])
    (package / "registry.py").write_text("ARMS = 2\n")
    assert code_digest(["domain_experts.leaf"]) == before


def test_a_module_that_prints_the_registrys_labels_names_it_and_changes_with_it(package):
    (package / "registry.py").write_text("ARMS = 1\n")
    named = ["domain_experts.leaf", "domain_experts.registry"]
    before = code_digest(named)
    (package / "registry.py").write_text("ARMS = 2\n")
    assert code_digest(named) != before
    assert Path("registry.py") in source_files(named)


def test_unknown_modules_are_refused(package):
    for name in ("domain_experts.nowhere", "numpy"):
        with pytest.raises(ValueError, match=f"{name} is not a module"):
            code_digest([name])


def test_the_static_closure_covers_what_python_imports():
    """Oracle: the modules that a fresh interpreter holds after the import."""
    code = "import sys, domain_experts.params; print(*(m for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {name for name in loaded if name.split(".")[0] == "domain_experts"}
    # what the registry collects counts by the arm that is trained
    collected = {name for name in ours if name.startswith("domain_experts.training")}
    packages = {n for n in ours if any(own.startswith(f"{n}.") for own in digest.NOT_COUNTED)}
    left = ours - digest.NOT_COUNTED - packages - collected
    assert left <= set(source_modules(["domain_experts.params"]))
    assert "torch" not in loaded


def test_files_are_named_relative_to_the_package(package):
    assert [str(path) for path in source_files(["domain_experts.plot"])] == [
        "__init__.py",
        "leaf.py",
        "plot.py",
    ]


def test_data_beside_a_module_count_as_its_source(package):
    (package / "plot").mkdir()
    (package / "plot/numbers.csv").write_text("1\n")
    before = code_digest(["domain_experts.plot"])
    assert source_files(["domain_experts.plot"])[-1].as_posix() == "plot/numbers.csv"
    (package / "plot/numbers.csv").write_text("2\n")
    assert code_digest(["domain_experts.plot"]) != before


def test_what_is_measured_and_shown_changes_no_training():
    """The training digest of every arm and backbone is free of evaluation, reporting, progress."""
    for name, arm in ARMS.items():
        backbones = [b for b, spec in BACKBONES.items() if spec.family == arm.family]
        for backbone in backbones if arm.backbone else [NO_BACKBONE]:
            modules = source_modules(Job("phase", "data", backbone, name).modules)
            assert "domain_experts.training.job" in modules
            kinds = {module.split(".")[1] for module in modules if "." in module}
            assert not kinds & {"evaluation", "reporting", "results"}
            assert "domain_experts.training.progress" not in modules


def test_labels_and_declarations_of_all_arms_change_no_training():
    """They stand in modules that no arm's digest counts; tables, which print them, name one."""
    kept = {"domain_experts.registry", "domain_experts.declarations"}
    for name in ARMS:
        backbone = "mlp" if ARMS[name].family == "ctr" else "m3oe"
        job = Job("phase", "data", backbone if ARMS[name].backbone else NO_BACKBONE, name)
        assert not kept & set(source_modules(job.modules))
    assert source_modules(["domain_experts.registry"]) == ("domain_experts.registry",)


def test_an_empty_constant_is_told_from_none():
    for one, other in (("''", "None"), ("0", "False"), ("()", "[]")):
        assert repr(_plain(ast.parse(f"x = {one}"))) != repr(_plain(ast.parse(f"x = {other}")))


def _answers(name):
    """Whether a Python is there, and no mere pointer to one that is not."""
    found = shutil.which(name)
    return (
        found and not subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode
    )


OTHER_PYTHONS = [name for name in ("python3.12", "python3.13", "python3.14") if _answers(name)]


@pytest.mark.skipif(not OTHER_PYTHONS, reason="only one version of Python is on the path")
def test_digests_do_not_depend_on_the_version_of_python():
    modules = ["domain_experts.training.sequence", "domain_experts.models.multi.m3oe"]
    code = f"from domain_experts.digest import code_digest; print(code_digest({modules}))"
    environment = os.environ | {"PYTHONPATH": str(digest.ROOT.parent)}
    for name in OTHER_PYTHONS:
        done = subprocess.run(
            [name, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
        assert done.stdout.strip() == code_digest(modules), done.stderr


@pytest.fixture
def listed(package, monkeypatch):
    """Lists what the present code of a module counts as."""

    def write(name, counts_as):
        path = package / f"equal-{name}.yaml"
        path.write_text(f"{name}: [{plain_digest([name])}, {counts_as}]\n")
        monkeypatch.setattr(digest, "EQUAL", path)

    return write


def test_code_that_gives_the_bytes_of_earlier_code_counts_as_it(package, listed):
    other = code_digest(["domain_experts.plot"])
    earlier = code_digest(["domain_experts.leaf"])
    (package / "leaf.py").write_text("import os.path\nimport numpy\nx = 1\n")
    changed = code_digest(["domain_experts.leaf"])
    assert changed != earlier
    listed("domain_experts.leaf", earlier)
    assert code_digest(["domain_experts.leaf"]) == earlier
    assert plain_digest(["domain_experts.leaf"]) == changed
    # what was not shown to give the same bytes is stale, whatever it imports
    assert code_digest(["domain_experts.plot"]) != other


def test_a_module_that_is_new_may_change_no_digest(package, listed):
    earlier = code_digest(["domain_experts.job"])
    (package / "models/added.py").write_text("x = 1\n")
    (package / "models/layer.py").write_text("from domain_experts.models import added, tower\n")
    digest._imports.cache_clear()
    listed("domain_experts.job", earlier)
    assert "domain_experts.models.added" in source_modules(["domain_experts.job"])
    assert code_digest(["domain_experts.job"]) == earlier
    (package / "models/added.py").write_text("x = 2\n")
    assert code_digest(["domain_experts.job"]) != earlier


def test_equal_code_lapses_once_it_changes_again(package, listed):
    earlier = code_digest(["domain_experts.job"])
    (package / "leaf.py").write_text("x = 1\n")
    listed("domain_experts.job", earlier)
    assert code_digest(["domain_experts.job"]) == earlier
    (package / "leaf.py").write_text("x = 2\n")
    assert code_digest(["domain_experts.job"]) == plain_digest(["domain_experts.job"]) != earlier
    (package / "leaf.py").write_text("x = 1\n")
    assert code_digest(["domain_experts.job"]) == earlier
