"""The rows that predictions are evaluated on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from domain_experts.auc import Array

Row = dict[str, Any]
"""A row of the results (`domain_experts.results`), as far as it is known."""


@dataclass(frozen=True)
class Rows:
    """The n rows of one split of a data set, in D domains."""

    labels: Array
    """(n, T)"""
    domain: Array
    """(n,)"""
    truth: Array | None
    """(n,) or (n, T) true probabilities of generated data."""
    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    user: Array | None = None
    """(n,) ids of users, from 0; None where data have none."""


def by_domain(
    domains: tuple[str, ...], values: Iterable[float | None], **about: str
) -> Iterator[Row]:
    """A row for each domain whose value is known."""
    for name, value in zip(domains, values, strict=True):
        if value is not None:
            yield about | {"domain": name, "value": value}
