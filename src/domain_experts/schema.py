"""What a model needs to know of a data set."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schema:
    """Field sizes, domains and tasks of a data set; `fields` are (name, number of codes)."""

    fields: tuple[tuple[str, int], ...]
    dense: tuple[str, ...]
    domains: tuple[str, ...]
    tasks: tuple[str, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(size for _, size in self.fields)
