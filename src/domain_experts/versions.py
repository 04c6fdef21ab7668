"""Versions of the libraries that results depend on."""

from functools import cache
from importlib.metadata import version


@cache
def libraries() -> dict[str, str]:
    """Public versions, without what tells builds apart: of arithmetic and of random streams."""
    return {name: version(name).partition("+")[0] for name in ("torch", "numpy")}
