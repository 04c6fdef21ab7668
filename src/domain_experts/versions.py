"""Versions of libraries that results depend on."""

from functools import cache
from importlib.metadata import version


@cache
def torch_version() -> str:
    """The public version of torch, without what tells its builds apart."""
    return version("torch").partition("+")[0]
