"""What a mistyped name may have meant."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """In words that `name` is no `what`: what it may have meant, or else what is known.

    `otherwise` stands in for a list of what is known, where that is long.
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    listed = otherwise or f"known are {', '.join(names)}"
    return f"{what} '{name}' is unknown; {f'did you mean {close[0]}?' if close else listed}"
