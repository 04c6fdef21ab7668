"""YAML as it is read here: no objects, no key twice, and nothing that takes long or much memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from domain_experts.errors import UserError

# of libyaml where PyYAML was built with it: ten times as fast
LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_LETTERS = 4 * 2**20
"""In a text."""
MOST_VALUES = 10**6
"""In a text, with each alias counted as what it stands for."""
DEEPEST = 100
"""Of values within values; libyaml's recursion has no limit of its own."""
LONGEST_NUMBER = 100
"""Letters: to tell what it is takes a time that grows with their square."""
_OF_NUMBERS = frozenset("0123456789abcdefABCDEFxX+-.:_")


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        OSError: it cannot be read.
        UserError: it is no YAML, has a key twice in a mapping, or is too large or deep; the message
            names file and line.
    """
    with path.open("rb") as file:
        # one more, to see whether there is more; a letter may take four
        content = file.read(4 * MOST_LETTERS + 1)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path} is not valid YAML: line {line}: is no UTF-8") from None
    try:
        return parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: it is no YAML, has a key twice in a mapping, or is too large or deep.
        ValueError: a date or number is none.
    """
    if len(text) > MOST_LETTERS:
        raise yaml.YAMLError(f"it has more than {MOST_LETTERS:,} letters")
    _refuse_long(text)
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_large(node)
        _refuse_twice(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_long(text: str) -> None:
    """Refuse what would exhaust the stack, and numbers that take long."""
    depth = 0
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise _at(event.start_mark, f"more than {DEEPEST} values within each other")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and _is_long_number(event.value):
            raise _at(event.start_mark, f"a number of {len(event.value):,} letters")


def _is_long_number(text: str) -> bool:
    return (
        len(text) > LONGEST_NUMBER and text[0] in "0123456789+-." and _OF_NUMBERS.issuperset(text)
    )


def _refuse_large(root: yaml.Node) -> None:
    """Refuse aliases that stand for too much, or for what they are in."""
    values: dict[int, int] = {}
    within: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        node, done = waiting.pop()
        key, parts = id(node), _parts(node)
        if done:
            within.remove(key)
            values[key] = 1 + sum(values[id(part)] for part in parts)
            if values[key] > MOST_VALUES:
                raise _at(node.start_mark, f"aliases stand for more than {MOST_VALUES:,} values")
        elif key in within:
            raise _at(node.start_mark, "an alias stands for what it is in")
        elif key not in values:
            within.add(key)
            waiting += [(node, True), *((part, False) for part in parts)]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _at(mark: Any, what: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, f"line {mark.line + 1}: {what}")


def _refuse_twice(root: yaml.Node) -> None:
    """Refuse a mapping in which the last of two values would win without a word."""
    for node in _mappings(root):
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if (name := (key.tag, key.value)) in first:
                raise _at(
                    key.start_mark,
                    f"the key '{key.value}' is there already, in line {first[name]}; keep one of "
                    "them",
                )
            first[name] = line


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Every mapping at or below a node, each once, however many aliases it has."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
        waiting += _parts(node)
