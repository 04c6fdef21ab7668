"""Negatives for a log of positives: items that the user did not meet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from domain_experts.data.interactions import Interactions
from domain_experts.data.log import values
from domain_experts.data.log.encoder import Encoder
from domain_experts.data.log.files import BLOCK, LogFiles
from domain_experts.data.log.spec import USER, LogSpec
from domain_experts.data.log.writer import Writer
from domain_experts.data.split import TEST, TRAIN, UNUSED
from domain_experts.errors import UserError
from domain_experts.schema import Schema

_ROUNDS = 50
_STREAM = 1
"""Keeps these draws apart from the split's of the same seed."""


@dataclass(frozen=True)
class Negative:
    """Rows to write: each is a positive, but for what is the item's, which a donor gives."""

    row: np.ndarray
    """(M,) of the rows written before."""
    donor: np.ndarray
    """(M,) of them."""
    fields: np.ndarray
    """Columns of codes that come from the donor."""
    dense: np.ndarray
    """Dense columns that do."""

    def append_to(self, out: Writer, folder: Path, schema: Schema, split: np.ndarray) -> None:
        """Write them, behind the positives."""
        positives = int((split != UNUSED).sum())
        for start in range(0, len(self.row), BLOCK):
            row, donor = (x[start : start + BLOCK] for x in (self.row, self.donor))
            arrays = {name: _open(folder / f"{name}.npy", positives) for name in out.names}
            found: dict[str, Any] = {name: np.asarray(array[row]) for name, array in arrays.items()}
            for name, columns in (("fields", self.fields), ("dense", self.dense)):
                found[name][:, columns] = arrays[name][donor][:, columns]
            found["labels"] = np.zeros_like(found["labels"])
            out.append(Interactions(schema, **found))


def _open(path: Path, rows: int) -> np.ndarray:
    """The rows written so far of an .npy file that is still to grow."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    shape = (rows, *shape[1:])
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape)


def draw(
    files: LogFiles,
    spec: LogSpec,
    labels: np.ndarray,
    domain: np.ndarray,
    split: np.ndarray,
    encoder: Encoder,
    report: dict[str, Any],
) -> Negative:
    """Draw them: no pair of user and item twice, none that is in the log.

    Those of training rows are items of training rows (an item that only later rows have would be
    known by its being negative), those of held-out rows items of all rows.

    Raises:
        UserError: a row is positive in no task.
    """
    assert spec.negatives is not None
    if (negative := int((labels.max(axis=1) == 0).sum())) > 0:
        raise UserError(
            f"negatives: {negative:,} rows of the log are negative already; leave out `negatives`, "
            "or these rows"
        )
    used = split != UNUSED
    user, item = (_codes(files, spec, name)[used] for name in (USER, spec.negatives.of))
    domain, split = domain[used], split[used]
    items = int(item.max()) + 1
    everywhere = spec.negatives.among == "all"
    place = np.zeros(len(domain), np.int64) if everywhere else domain.astype(np.int64)
    met = np.unique(user * items + item)
    known = met
    rng = np.random.default_rng([spec.split.seed, _STREAM])
    wanted = np.repeat(np.arange(len(user)), spec.negatives.per_positive)
    goal, rows, drawn = len(wanted), [], []
    pools = [_Pool(place[mine], item[mine]) for mine in (split == TRAIN, split >= 0)]
    for _ in range(_ROUNDS):
        if not len(wanted):
            break
        training = split[wanted] == TRAIN
        chosen = np.full(len(wanted), -1)
        for pool, mine in zip(pools, (training, ~training), strict=True):
            chosen[mine] = pool.draw(place[wanted[mine]], rng)
        pair = user[wanted] * items + chosen
        new = (chosen >= 0) & ~_holds(known, pair)
        first = np.zeros(len(pair), bool)
        first[np.unique(pair, return_index=True)[1]] = True
        new &= first
        rows.append(wanted[new])
        drawn.append(chosen[new])
        known = np.sort(np.concatenate([known, pair[new]]))
        wanted = wanted[~new]
    row, chosen = np.concatenate(rows), np.concatenate(drawn)
    order = np.lexsort((chosen, row))
    row, chosen = row[order], chosen[order]
    donor = np.full(items, -1)
    donor[item[::-1]] = np.arange(len(item))[::-1]
    test = np.unique(user[split == TEST] * items + item[split == TEST])
    hits = int(_holds(test, user[row] * items + chosen).sum())
    report["negatives"] = {"drawn": len(row), "wanted": goal, "hit_test_positives": hits}
    report["remarks"].append(f"{len(row):,} of {goal:,} negatives drawn")
    along = {spec.negatives.of, *spec.negatives.along}
    names = [name for name, _ in encoder.schema.fields]
    widths = encoder.schema.widths or (1,) * len(names)
    return Negative(
        row=row,
        donor=donor[chosen],
        fields=np.flatnonzero(np.repeat([name in along for name in names], widths)),
        dense=np.flatnonzero([of.column in along for of in spec.dense]),
    )


class _Pool:
    """Distinct items of each place, to draw from."""

    def __init__(self, place: np.ndarray, item: np.ndarray) -> None:
        both = np.unique(np.stack([place, item], axis=1), axis=0)
        self._items = both[:, 1]
        self._sizes = np.bincount(both[:, 0])
        self._starts = np.cumsum(self._sizes) - self._sizes

    def draw(self, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N,) an item of each place, -1 where it has none."""
        found = np.full(len(place), -1)
        has = place < len(self._sizes)
        has[has] = self._sizes[place[has]] > 0
        at = place[has]
        found[has] = self._items[self._starts[at] + rng.integers(0, self._sizes[at])]
        return found


def _holds(ordered: np.ndarray, pair: np.ndarray) -> np.ndarray:
    at = np.searchsorted(ordered, pair)
    return np.asarray(ordered[np.minimum(at, len(ordered) - 1)] == pair)


def _codes(files: LogFiles, spec: LogSpec, name: str) -> np.ndarray:
    """(N,) int64 numbers of all ids of a field; rows without one are an id of their own."""
    column = spec.fields[name].column or name
    found = []
    kind = values.common_kind([files.schema(p).field(column).type for p in files.paths])
    for block in files.blocks([column]):
        held = values.ids(block.table[column], kind)
        found.append(np.where(values.present(held), values.keys(held), 0))
    return np.asarray(pd.factorize(np.concatenate(found))[0])
