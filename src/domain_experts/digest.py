"""Digest of code: what a result's numbers depend on, found from the imports."""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from domain_experts.yaml_files import parse_yaml

PACKAGE = "domain_experts"
ROOT = Path(__file__).parent
# what these name counts by itself (modules; the values of settings; which runs there are), or is
# for the eye or about paths alone: a new entry, message or folder changes no number
NOT_COUNTED = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        *("digest", "declarations", "registry", "strict", "settings", "models.multi.settings"),
        *("errors", "layout", "runs", "training.progress", "training.store"),
    )
)

EQUAL = ROOT / "equal_code.yaml"
"""Codes that were shown to give the bytes of earlier ones (`scripts/equal_bytes.py`)."""

_HELD: dict[Path, bytes] = {}


def code_digest(modules: Sequence[str]) -> str:
    """SHA-256 over the code of `modules` and of all they import from this package.

    Comments, docstrings and formatting do not count. A module's data do: the files of a folder
    `name/` beside `name.py`. Code that was shown to give the bytes of earlier code (EQUAL) has the
    digest of that; once any of it changes again, it has its own.

    Raises:
        ValueError: a name is not a module of this package.
    """
    own = plain_digest(modules)
    return _equal(EQUAL).get(own, own)


def plain_digest(modules: Sequence[str]) -> str:
    """The same, whatever the code was shown to equal.

    Raises:
        ValueError: a name is not a module of this package.
    """
    digest = hashlib.sha256()
    for path in source_files(modules):
        source = _code(ROOT / path)
        digest.update(f"{path.as_posix()}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


def source_modules(modules: Sequence[str]) -> tuple[str, ...]:
    """Names of `modules` and of all that they import from this package, sorted.

    Imports inside functions count. Those under `if TYPE_CHECKING` change no number and do not, nor
    do the registry and the settings: callers name the modules and the values that matter. One who
    prints the registry's labels names it.

    Raises:
        ValueError: a name is not a module of this package.
    """
    found: set[str] = set()
    waiting = list(modules)
    left_out = NOT_COUNTED - set(modules)
    while waiting:
        name = waiting.pop()
        if name not in found | left_out:
            found.add(name)
            # of the registry its own lines count, not the trainers that it collects
            waiting += () if name in NOT_COUNTED else _imports(name, _path(name))
    return tuple(sorted(found))


def source_files(modules: Sequence[str]) -> tuple[Path, ...]:
    """Files of `source_modules` and their data, relative to the package's folder."""
    files = []
    for path in map(_path, source_modules(modules)):
        data = path.with_suffix("").rglob("*") if path.name != "__init__.py" else ()
        files += [path, *sorted(file for file in data if file.is_file())]
    return tuple(file.relative_to(ROOT) for file in files)


def hold(modules: Sequence[str]) -> None:
    """From now on digest these modules as they are now, whatever becomes of their files."""
    _equal(EQUAL)
    _HELD.update({path: _code(path) for path in (ROOT / file for file in source_files(modules))})


@cache
def _equal(path: Path) -> dict[str, str]:
    """Digest of code -> the digest of that whose bytes it gives."""
    listed = parse_yaml(path.read_text()) or {}
    return dict(listed.values())


def _code(path: Path) -> bytes:
    """What a file computes: of a Python file its syntax tree, less bare strings."""
    if path in _HELD:
        return _HELD[path]
    return _tree(path.read_text()) if path.suffix == ".py" else path.read_bytes()


@cache
def _tree(source: str) -> bytes:
    return repr(_plain(_parsed(source))).encode()


@cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _plain(node: object) -> object:
    """A syntax tree as tuples, less docstrings and what is empty: Pythons differ in the latter."""
    if isinstance(node, ast.AST):
        fields = [(name, _plain(value)) for name, value in ast.iter_fields(node)]
        # an empty constant is one all the same
        kept = [
            (name, value) for name, value in fields if name == "value" or value not in ((), None)
        ]
        return type(node).__name__, *kept
    if isinstance(node, list):
        return tuple(_plain(item) for item in node if not _is_bare_string(item))
    return node


def _is_bare_string(node: object) -> bool:
    """A docstring of a module, class, function or attribute."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _path(name: str) -> Path:
    path = _find(name)
    if path is None:
        raise ValueError(f"{name} is not a module of {PACKAGE}")
    return path


def _find(name: str) -> Path | None:
    package, *parts = name.split(".")
    if package != PACKAGE:
        return None
    base = ROOT.joinpath(*parts)
    candidates = (base / "__init__.py", base.with_name(base.name + ".py"))
    return next((path for path in candidates if path.is_file()), None)


@cache
def _imports(name: str, path: Path) -> tuple[str, ...]:
    """Modules of this package that importing `name` imports, its parent packages included."""
    parents = {name.rpartition(".")[0]} - {""}
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    named = _named_imports(_parsed(path.read_text()), package)
    return tuple(parents | {module for module in named if _find(module)})


def _named_imports(node: ast.AST, package: str) -> Iterator[str]:
    """Every name that an import statement at or below `node` may load as a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        up = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*(up if node.level else []), *filter(None, [node.module])])
        yield base
        # an imported name is a submodule or something that the module defines
        yield from (f"{base}.{alias.name}" for alias in node.names)
    else:
        children: Iterable[ast.AST] = ast.iter_child_nodes(node)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            children = node.orelse
        for child in children:
            if isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
                yield from _named_imports(child, package)
