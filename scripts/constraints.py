"""Write constraints.txt: every package that the environment of this interpreter resolved to.

Run it in an environment made by `pip install -e '.[test,lint,kubernetes-test,slurm]'`.
"""

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = "domain-experts"
EXTRAS = ("test", "lint", "kubernetes-test", "slurm")
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"

HEADER = """\
# The environment of record, written by scripts/constraints.py. Used as
#   pip install -c constraints.txt -e .
"""


def resolved() -> dict[str, str]:
    """Name to version of all that the project requires here, itself not included.

    Versions carry no local label (`+cpu`), so that they hold wherever torch comes from.
    """
    versions: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(PROJECT, extra) for extra in ("", *EXTRAS)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        found = distribution(name)
        if name != PROJECT:
            versions[name] = Version(found.version).public
        for requirement in map(Requirement, found.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                required = canonicalize_name(requirement.name)
                waiting += [(required, wanted) for wanted in ("", *requirement.extras)]
    return versions


def text() -> str:
    """The content of constraints.txt."""
    return HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(resolved().items()))


if __name__ == "__main__":
    CONSTRAINTS.write_text(text())
