"""Names that come from outside: which may name a file or column, and how any of them is shown."""

import re
import unicodedata

LONGEST = 100
"""Bytes of a name; with its suffix it is a file's."""
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def plain_name(name: str) -> str:
    """A name that can be a file's, a column's and a heading.

    Raises:
        ValueError: it is a path, is empty or too long, or holds what cannot be seen.
    """
    wrong = (
        "is empty"
        if not name.strip()
        else "begins with a dot"
        if name.startswith(".")
        else "holds / or \\"
        if "/" in name or "\\" in name
        else "holds a line break or what cannot be seen"
        if not name.isprintable()
        else f"is longer than {LONGEST} bytes"
        if len(name.encode()) > LONGEST
        else None
    )
    if wrong:
        raise ValueError(f"the name {name[:LONGEST]!r} {wrong}; take another one")
    return name


def visible(text: str, lines: bool = False) -> str:
    """The text without what steers a terminal or hides: each such character is a �.

    Args:
        text: of anyone.
        lines: keep line breaks.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or _harmless(char) or (lines and char == "\n") else "�"
        for char in text
    )


def _harmless(char: str) -> bool:
    """Whether a character is a blank of another width, or joins letters or emoji."""
    return unicodedata.category(char) == "Zs" or char in "\u200c\u200d"


def markdown(text: str) -> str:
    """Text for a line or cell of Markdown, in which it is no markup and no HTML."""
    text = visible(text).replace("\\", r"\\").replace("|", r"\|").replace("*", r"\*")
    return without_tags(text)


def without_tags(text: str) -> str:
    """A sentence for Markdown, whose own markup stays and in which nothing is HTML."""
    return _TAG.sub("&lt;", visible(text))
