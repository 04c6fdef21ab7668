"""What a model needs to know of a data set."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schema:
    """Field sizes, domains and tasks of a data set; `fields` are (name, number of codes).

    `widths` are the columns of codes that each field takes; empty: one each. A field of two columns
    or more is pooled: it holds several ids a row, code 0 being none. Pooled fields come last.

    Raises:
        ValueError: widths that do not fit the fields, or a pooled field before another one.
    """

    fields: tuple[tuple[str, int], ...]
    dense: tuple[str, ...]
    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        pooled = [width > 1 for width in self.widths]
        if self.widths and (
            len(self.widths) != len(self.fields)
            or min(self.widths) < 1
            or pooled != sorted(pooled)
            or not any(pooled)
        ):
            raise ValueError(
                f"widths {self.widths} of {len(self.fields)} fields: give each field one, pooled "
                "fields (of 2 columns or more) last; none at all if no field is pooled"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(size for _, size in self.fields)

    @property
    def columns(self) -> int:
        """Columns of codes of all fields."""
        return sum(self.widths) or len(self.fields)

    @property
    def single(self) -> tuple[tuple[str, int], ...]:
        """The fields that hold one id a row: field j has column j."""
        return self.fields[: self.widths.count(1)] if self.widths else self.fields
