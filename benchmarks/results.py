"""Measurements as rows of one CSV file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.timing import Spread, rates, speedup, spread
from domain_experts.files import replacing

if TYPE_CHECKING:
    import pandas as pd

OURS = "domain-experts"


@dataclass(frozen=True)
class Measurement:
    """One number of one contestant, with its quartiles.

    `ratio` says how many times as good as this contestant the package is, paired by round: over 1
    the package is faster, or takes less memory. The package itself, and what has no pair, has none.
    """

    benchmark: str
    model: str
    contestant: str
    unit: str
    value: float
    lower: float
    upper: float
    ratio: float | None = None
    ratio_lower: float | None = None
    ratio_upper: float | None = None
    rounds: int = 1
    rows: int | None = None
    batch: int | None = None
    threads: int = 1

    @property
    def line(self) -> str:
        """The measurement in words."""
        ratio = "" if self.ratio is None else f", ratio {self.ratio:.2f}"
        return f"{self.model}, {self.contestant}: {self.value:,.4g} {self.unit}{ratio}"


NO_RATIO = (None, None, None)


def throughput(
    benchmark: str,
    model: str,
    seconds: Mapping[str, Sequence[float]],
    rows: int,
    batch: int | None,
    threads: int,
) -> list[Measurement]:
    """Rows per second of contestants that each visited `rows` rows a round."""
    found = []
    for name, own in seconds.items():
        ratio = NO_RATIO if name == OURS else speedup(own, seconds[OURS])
        values = (*rates(rows, own), *ratio, len(own), rows, batch, threads)
        found.append(Measurement(benchmark, model, name, "rows/s", *values))
    return found


def amounts(
    benchmark: str,
    model: str,
    unit: str,
    values: Mapping[str, Sequence[float]],
    threads: int,
    rows: int | None = None,
) -> list[Measurement]:
    """Amounts of which less is better, such as seconds or memory, of each contestant by round."""
    found = []
    for name, own in values.items():
        ratio: tuple[float | None, ...] | Spread = NO_RATIO
        if name != OURS and OURS in values:
            ratio = speedup(own, values[OURS])
        numbers = (*spread(own), *ratio, len(own), rows, None, threads)
        found.append(Measurement(benchmark, model, name, unit, *numbers))
    return found


def write(measurements: Iterable[Measurement], path: Path) -> None:
    """Write measurements as CSV, four significant digits.

    Those that the file holds of the same benchmark and model are replaced, others stay.
    """
    # its import would be a part of every timed process
    import pandas as pd

    names = [field.name for field in fields(Measurement)]
    table = pd.DataFrame([asdict(m) for m in measurements], columns=names)
    whole = dict.fromkeys(("rounds", "rows", "batch", "threads"), "Int64")
    if path.exists():
        parts = (t.groupby(["benchmark", "model"], sort=False) for t in (read(path), table))
        old, new = (dict(iter(part)) for part in parts)
        table = pd.concat((old | new).values())
    with replacing(path) as temporary:
        table.astype(whole).to_csv(temporary, index=False, float_format="%.4g")


def read(path: Path) -> "pd.DataFrame":
    """The measurements of a file."""
    import pandas as pd

    return pd.read_csv(path)
