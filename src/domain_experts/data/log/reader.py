"""A click log to Interactions, in three passes: split, vocabularies, codes."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from domain_experts import layout
from domain_experts.data.interactions import Interactions, install
from domain_experts.data.log import leaks, values, writer
from domain_experts.data.log.counts import Counts
from domain_experts.data.log.encoder import (
    Encoder,
    Vocabulary,
    hashed,
    split_ids,
    transformed,
    vocabulary,
    with_constants,
)
from domain_experts.data.log.files import Block, LogFiles
from domain_experts.data.log.history import Histories
from domain_experts.data.log.negatives import Negative, draw
from domain_experts.data.log.spec import OTHER_DOMAIN, USER, Columns, LogSpec
from domain_experts.data.specs import Fractions, RuleName
from domain_experts.data.split import SPLITS, TEST, TRAIN, UNUSED, VALIDATION
from domain_experts.data.split_rules import RULES
from domain_experts.errors import UserError
from domain_experts.files import beside
from domain_experts.plain_text import visible
from domain_experts.schema import Schema

ENCODER = "encoder"
_MOST_DOMAINS = 2**15 - 1
_RULES: dict[str, RuleName] = {
    "random": "random",
    "stratified": "stratified",
    "time": "by_time",
    "each_user_last": "each_user_last",
    "leave_one_out": "leave_one_out",
}
_SPLIT_NAMES = pa.array(SPLITS)


@dataclass
class _Small:
    """What of all rows is held in memory."""

    names: list[str]
    """Of domains, in order of appearance."""
    domain: np.ndarray
    labels: np.ndarray
    time: np.ndarray | None = None
    user: np.ndarray | None = None
    has_user: np.ndarray | None = None
    given: np.ndarray | None = None


class Source(Protocol):
    """Rows in blocks: those of files, or of a table in memory."""

    @property
    def paths(self) -> Sequence[Path]: ...

    def schema(self, path: Path) -> pa.Schema: ...

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]: ...


@dataclass(frozen=True)
class _Held:
    """A table in memory."""

    table: pa.Table
    paths: tuple[Path, ...] = (Path("the table"),)

    def schema(self, path: Path) -> pa.Schema:
        return self.table.schema

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        yield Block(self.paths[0], 0, self.table.select(columns))


def of_table(
    table: pa.Table,
    columns: Columns,
    labels: np.ndarray,
    split: np.ndarray,
    weight: np.ndarray | None = None,
    constants: Mapping[str, str] | None = None,
) -> tuple[Encoder, Interactions]:
    """What `prepare` makes of files, of a table in memory.

    Args:
        table: the rows.
        columns: what they hold; tasks need no column.
        labels: (N, T) uint8, 0 or 1.
        split: (N,) uint8, 0 train, 1 validation.
        weight: (N,) float32.
        constants: columns that the table lacks, and the text that all rows have there.

    Returns:
        The encoder, and the rows with their split, those of domains that are left out excepted.

    Raises:
        UserError: the rows do not fit what is said of them.
    """
    constants = constants or {}
    held = _Held(with_constants(table, constants))
    (block,) = held.blocks(held.table.column_names)
    report: dict[str, Any] = {"remarks": []}
    found = values.texts(block, columns.domain.column, "the domain").dictionary_encode()
    small = _Small(found.dictionary.to_pylist(), found.indices.to_numpy(), labels)
    domains, of_domain = _domains(small, split, columns, report)
    split = np.where(of_domain[small.domain] < 0, UNUSED, split)
    encoder = _second_pass(held, columns, split, domains, report)
    encoder = replace(encoder, constants=constants)
    kept = np.flatnonzero(split != UNUSED)
    encoded = encoder.encode(table.take(pa.array(kept)))
    rows = Interactions(
        schema=encoder.schema,
        fields=encoded.fields,
        dense=encoded.dense,
        labels=labels[kept],
        domain=encoded.domain,
        given_split=split[kept],
        weight=None if weight is None else weight[kept],
    )
    return encoder, rows


def prepare(dataset: str, spec: LogSpec) -> None:
    """Write the Interactions of a log and its encoder.

    Raises:
        UserError: the files do not fit what is said of them.
    """
    files = LogFiles(spec.files, spec.csv)
    files.require(_columns(spec, files))
    report: dict[str, Any] = {"remarks": []}
    small = _first_pass(files, spec)
    if not spec.negatives:
        _refuse_one_class(small, spec)
    split = _split(small, spec)
    domains, of_domain = _domains(small, split, spec, report)
    split[of_domain[small.domain] < 0] = UNUSED
    small.domain = of_domain[small.domain].astype(np.int16)
    encoder = _second_pass(files, spec, split, domains, report)
    _remark_domains(small, split, encoder, spec.negatives is not None, report)
    folder = layout.interactions(dataset)
    with beside(folder) as new:
        card = _third_pass(files, spec, small, split, encoder, new, report)
        leaks.check(new, encoder.schema, report)
        digests = files.digests()
        files.refuse_changed()
        encoder.save(new / ENCODER)
        provenance = {
            "source": "log",
            "statement": "files of one's own",
            "files": digests,
            "settings": spec.model_dump(mode="json", exclude={"source"}),
            "report": report,
        }
        install(new, folder, card | {"provenance": provenance})
    for remark in report["remarks"]:
        print(visible(f"{dataset}: {remark}"), file=sys.stderr)


def _columns(spec: LogSpec, files: LogFiles) -> list[str]:
    known = files.schema(files.paths[0]).names
    return list(
        dict.fromkeys(
            [
                spec.domain.column,
                *(values.column_of(of, known)[0] for of in spec.tasks.values()),
                *(of.column or name for name, of in spec.fields.items()),
                *(of.column for of in spec.dense),
                *filter(None, (spec.time, spec.weight, spec.split.column)),
                *spec.key,
            ]
        )
    )


def _kind(files: Source, column: str) -> values.Kind:
    return values.common_kind([files.schema(path).field(column).type for path in files.paths])


def _first_pass(files: LogFiles, spec: LogSpec) -> _Small:
    """Domains, labels and what the split needs, refusing what is missing or wrong."""
    known = files.schema(files.paths[0]).names
    by_user = spec.split.rule in ("each_user_last", "leave_one_out")
    with_user = by_user or bool(spec.history)
    with_time = spec.split.rule == "time" or with_user
    user = spec.fields[USER].column or USER if with_user else None
    wanted = [
        spec.domain.column,
        *(values.column_of(of, known)[0] for of in spec.tasks.values()),
        *filter(None, (spec.time, user, spec.split.column)),
        *spec.key,
    ]
    numbers: dict[str, int] = {}
    parts: dict[str, list[np.ndarray]] = {}
    origin: list[Block] = []
    moments = values.Moments(spec.time) if spec.time else None

    def keep(name: str, part: np.ndarray) -> None:
        parts.setdefault(name, []).append(part)

    for block in files.blocks(list(dict.fromkeys(wanted))):
        found = values.texts(block, spec.domain.column, "the domain").dictionary_encode()
        codes = [numbers.setdefault(n, len(numbers)) for n in found.dictionary.to_pylist()]
        keep("domain", np.array(codes, np.int32)[found.indices.to_numpy()])
        tasks = spec.tasks.items()
        keep("labels", np.stack([values.labels(block, of, t) for t, of in tasks], axis=1))
        if moments:
            time = moments(block)
            if with_time:
                keep("time", time)
        if user:
            with values.naming(user, block.file):
                held = values.ids(block.table[user], _kind(files, user))
            keep("user", values.keys(held))
            keep("has_user", values.present(held))
        if spec.split.column:
            keep("given", _given(block, spec.split.column))
        if spec.key:
            keep("key", _key(block, spec.key, files))
            origin.append(Block(block.file, block.start, block.table.slice(0, 0)))
    if not parts:
        raise UserError(f"{', '.join(map(str, files.paths))}: no rows")
    if spec.key:
        _refuse_repeated(parts.pop("key"), origin, spec.key)
    joined = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
    return _Small(list(numbers), **joined)


def _given(block: Block, column: str) -> np.ndarray:
    names = values.texts(block, column, "the split")
    found = pc.index_in(names, value_set=_SPLIT_NAMES)
    wrong = ~values.present(found)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{block.where(row)}: column '{column}' holds '{names[row]}'; a split is "
            f"{', '.join(SPLITS)}"
        )
    return np.asarray(found.to_numpy().astype(np.uint8))


def _key(block: Block, columns: tuple[str, ...], files: LogFiles) -> np.ndarray:
    key = np.zeros(block.table.num_rows, np.uint64)
    for column in columns:
        with values.naming(column, block.file):
            held = values.ids(block.table[column], _kind(files, column))
        key = leaks.mixed(key, np.where(values.present(held), values.keys(held), 0))
    return key


def _refuse_repeated(keys: list[np.ndarray], origin: list[Block], names: tuple[str, ...]) -> None:
    all_keys = np.concatenate(keys)
    order = np.argsort(all_keys, kind="stable")
    again = np.flatnonzero(all_keys[order][1:] == all_keys[order][:-1])
    if len(again) == 0:
        return
    starts = np.cumsum([0, *map(len, keys)])

    def where(row: int) -> str:
        block = int(np.searchsorted(starts, row, side="right")) - 1
        return origin[block].where(row - int(starts[block]))

    first = again[np.argmin(order[again + 1])]
    raise UserError(
        f"{where(order[first + 1])}: same {', '.join(names)} as {where(order[first])}, and "
        f"{len(again) - 1:,} more such rows; leave one of each, or change `key`"
    )


def _refuse_one_class(small: _Small, spec: LogSpec) -> None:
    for j, task in enumerate(spec.tasks):
        if len(np.unique(small.labels[:, j])) < 2:
            only = small.labels[0, j]
            way = " or let `negatives` be drawn" if only == 1 else ""
            raise UserError(
                f"task '{task}': every row has label {only}, so there is nothing to learn; choose "
                f"another column or condition{way}"
            )


def _split(small: _Small, spec: LogSpec) -> np.ndarray:
    if small.given is not None:
        split = small.given
    else:
        users = np.zeros((len(small.domain), 0), np.int32)
        if small.user is not None:
            codes, found = pd.factorize(small.user)
            # a missing user is nobody else's
            nobody = np.arange(len(codes)) + len(found)
            assert small.has_user is not None
            users = np.where(small.has_user, codes, nobody).astype(np.int32)[:, None]
        rows = Interactions(
            schema=Schema(((USER, 0),) if users.size else (), (), (), tuple(spec.tasks)),
            fields=users,
            dense=np.zeros((len(small.domain), 0), np.float32),
            labels=small.labels,
            domain=small.domain,
            time=small.time,
        )
        shares = Fractions(spec.split.validation, spec.split.test)
        split = RULES[_RULES[spec.split.rule]](rows, spec.split.seed, shares)
    for part, name in ((TRAIN, "train"), (VALIDATION, "validation"), (TEST, "test")):
        if not (split == part).any():
            raise UserError(f"split {spec.split.rule}: no {name} rows; change `split`")
    return split


def _domains(
    small: _Small, split: np.ndarray, spec: Columns, report: dict[str, Any]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of domains, and the domain of each one met: -1 where its rows are left out."""
    counts = np.bincount(small.domain[split == TRAIN], minlength=len(small.names))
    own = (counts >= spec.domain.min_rows) & (np.array(small.names) != OTHER_DOMAIN)
    names = sorted(name for name, mine in zip(small.names, own, strict=True) if mine)
    if not names:
        raise UserError(
            f"domain: no value of '{spec.domain.column}' has {spec.domain.min_rows} training rows; "
            "lower `min_rows` or choose another column"
        )
    rare = [small.names[d] for d in np.flatnonzero(~own)]
    if unseen := [small.names[d] for d in np.flatnonzero(counts == 0)]:
        report["domains_without_training_rows"] = unseen
        report["remarks"].append(f"no training row has domain {_some(unseen)}")
    shared = bool(rare) and spec.domain.rare == "shared"
    if rare:
        fate = f"served as one, {OTHER_DOMAIN}" if shared else "left out"
        rows = int(np.isin(small.domain, np.flatnonzero(~own)).sum())
        report["rare_domains"] = {"domains": len(rare), "rows": rows}
        report["remarks"].append(
            f"domains with fewer than {spec.domain.min_rows} training rows: {len(rare):,}; "
            f"{fate} ({rows:,} rows of all splits)"
        )
    if len(names) > _MOST_DOMAINS - 1:
        raise UserError(
            f"domain: '{spec.domain.column}' has {len(names):,} domains, at most "
            f"{_MOST_DOMAINS - 1:,} are possible; raise `min_rows`"
        )
    place = {name: d for d, name in enumerate(names)}
    other = len(names) if shared else -1
    domains = (*names, OTHER_DOMAIN) if shared else tuple(names)
    return domains, np.array([place.get(name, other) for name in small.names], np.int64)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + more


def _second_pass(
    files: Source,
    spec: Columns,
    split: np.ndarray,
    domains: tuple[str, ...],
    report: dict[str, Any],
) -> Encoder:
    """Vocabularies and moments of dense columns, of training rows alone."""
    kinds = {name: _kind(files, of.column or name) for name, of in spec.fields.items()}
    counts = {name: Counts() for name, of in spec.fields.items() if of.hash is None}
    missing = dict.fromkeys(counts, 0)
    held_out_users = Counts()
    sums = np.zeros((len(spec.dense), 3))
    shift: np.ndarray | None = None
    wanted = [
        *(of.column or name for name, of in spec.fields.items()),
        *(of.column for of in spec.dense),
    ]
    training_users = counts.get(USER, Counts())
    for rows, block in _numbered(files, list(dict.fromkeys(wanted))):
        mine = split[rows] == TRAIN
        training = pa.array(mine)
        for name, of in spec.fields.items():
            with values.naming(of.column or name, block.file):
                array = values.plain(block.table[of.column or name])
                if name == USER:
                    found = values.ids(array, kinds[name])
                    tested = pa.array(split[rows] == TEST)
                    held_out_users.add(found.filter(tested))
                    if of.hash is not None:
                        training_users.add(found.filter(training))
                if of.hash is None:
                    array = array.filter(training)
                    array = split_ids(array, of).flatten() if of.multi is not None else array
                    found = values.ids(array, kinds[name])
                    counts[name].add(found)
                    if of.multi is None:
                        missing[name] += found.null_count
        dense = [transformed(block, of)[mine] for of in spec.dense]
        if shift is None and spec.dense:
            shift = np.array([np.nanmean(x) if np.isfinite(x).any() else 0.0 for x in dense])
        for j, column in enumerate(dense):
            assert shift is not None
            x = column[~np.isnan(column)] - shift[j]
            sums[j] += len(x), x.sum(), np.square(x).sum()
    if USER in spec.fields:
        _overlap(training_users.table(), held_out_users, report)
    vocabularies = _vocabularies(spec, kinds, counts, missing, report)
    means, deviations = _moments(sums, shift)
    columns = Columns.model_validate(spec.model_dump(include=set(Columns.model_fields)))
    return Encoder(columns, domains, vocabularies, means, deviations)


def _vocabularies(
    spec: Columns,
    kinds: Mapping[str, values.Kind],
    counts: dict[str, Counts],
    missing: Mapping[str, int],
    report: dict[str, Any],
) -> dict[str, Vocabulary]:
    """The vocabulary of each field; takes the counts out, which are large."""
    vocabularies: dict[str, Vocabulary] = {}
    untrained = []
    report["fields"] = {}
    for name, of in spec.fields.items():
        if of.hash is not None:
            vocabularies[name] = hashed(kinds[name])
            report["fields"][name] = {"hashed_into": of.hash}
            continue
        table = counts.pop(name).table()
        kept = vocabulary(kinds[name], table, of.min_count, trained=missing[name] > 0)
        vocabularies[name] = kept
        all_rows = int(table["count"].to_numpy().sum())
        report["fields"][name] = {
            "ids": len(kept.ids),
            "rare_ids": len(table) - len(kept.ids),
            "missing": missing[name],
            "training_rows_on_rare": all_rows - int(kept.counts.sum()) + missing[name],
        }
        if report["fields"][name]["training_rows_on_rare"] == 0:
            untrained.append(name)
    if untrained:
        report["remarks"].append(
            f"the row of unknown ids stays untrained, as each id has a row of its own, in fields "
            f"{', '.join(untrained)}; leave out their `min_count: 1` if new ids will come"
        )
    return vocabularies


def _moments(
    sums: np.ndarray, shift: np.ndarray | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and deviations, as float32: so that the order of sums does not show in them."""
    if shift is None:
        return (), ()
    count = np.maximum(sums[:, 0], 1)
    off = sums[:, 1] / count
    deviation = np.sqrt(np.maximum(sums[:, 2] / count - off**2, 0))
    mean = (shift + off).astype(np.float32)
    spread = deviation.astype(np.float32)
    spread[spread == 0] = 1
    return tuple(mean.tolist()), tuple(spread.tolist())


def _overlap(training: pa.Table, tested: Counts, report: dict[str, Any]) -> None:
    users = tested.table()["id"]
    if len(users):
        known = users.cast(training["id"].type) if len(training) else users
        both = pc.is_in(known, value_set=training["id"]) if len(training) else None
        shared = int(pc.sum(both).as_py() or 0) if both is not None else 0
        report["users"] = {"tested": len(users), "of_them_trained": shared}
        report["remarks"].append(
            f"{shared:,} of {len(users):,} users of test rows are trained, too"
        )


def _numbered(files: Source, columns: list[str]) -> Iterator[tuple[slice, Block]]:
    start = 0
    for block in files.blocks(columns):
        yield slice(start, start + block.table.num_rows), block
        start += block.table.num_rows


def _remark_domains(
    small: _Small, split: np.ndarray, encoder: Encoder, negatives: bool, report: dict[str, Any]
) -> None:
    """Say which domains lack rows of a split, or a class."""
    domains = len(encoder.domains)
    for part, name in enumerate(SPLITS):
        rows = np.bincount(small.domain[split == part], minlength=domains)
        if empty := [encoder.domains[d] for d in np.flatnonzero(rows == 0)]:
            report[f"domains_without_{name}_rows"] = empty
            report["remarks"].append(f"domains without {name} rows: {_some(empty)}")
    used = split != UNUSED
    for j, task in enumerate(encoder.columns.tasks):
        rows = np.bincount(small.domain[used], minlength=domains)
        positive = np.bincount(small.domain[used & (small.labels[:, j] == 1)], minlength=domains)
        one = np.flatnonzero((rows > 0) & ((positive == 0) | (positive == rows)))
        if len(one) and not negatives:
            names = [encoder.domains[d] for d in one]
            report.setdefault("domains_of_one_class", {})[task] = names
            report["remarks"].append(f"task '{task}' has one class alone in {_some(names)}")


def _third_pass(
    files: LogFiles,
    spec: LogSpec,
    small: _Small,
    split: np.ndarray,
    encoder: Encoder,
    new: Path,
    report: dict[str, Any],
) -> dict[str, Any]:
    """Encode and write all rows; gives the card."""
    columns = _columns(spec, files)
    histories = _histories(files, spec, small, encoder)
    used = int((split != UNUSED).sum())
    schema = encoder.schema
    drawn: Negative | None = None
    if spec.negatives:
        drawn = draw(files, spec, small.labels, small.domain, split, encoder, report)
        used += len(drawn.row)
    out = writer.Writer(new, used)
    moments = values.Moments(spec.time) if spec.time else None
    hashes = np.empty(int((split != UNUSED).sum()), np.uint64)
    hashed_rows = 0
    for rows, block in _numbered(files, columns):
        fields = encoder.codes(block.table)
        if histories:
            past = [histories.of(rows, h.of, h.last) for h in spec.history.values()]
            fields = np.concatenate([fields, *past], axis=1)
        keep = split[rows] != UNUSED
        part = Interactions(
            schema=schema,
            fields=fields,
            dense=encoder.dense(block),
            labels=small.labels[rows],
            domain=small.domain[rows],
            time=moments(block) if moments else None,
            given_split=split[rows],
            weight=_weight(block, spec.weight) if spec.weight else None,
            sampled_negatives=False,
        )
        found = leaks.row_hashes(block, encoder, part)[keep]
        hashes[hashed_rows : hashed_rows + len(found)] = found
        hashed_rows += len(found)
        out.append(leaks.taken(part, keep))
    leaks.repeated(hashes, report)
    if drawn is not None:
        out.flush()
        drawn.append_to(out, new, schema, split)
    return out.finish()


def _histories(files: LogFiles, spec: LogSpec, small: _Small, encoder: Encoder) -> Histories | None:
    if not spec.history:
        return None
    names = list(dict.fromkeys(h.of for h in spec.history.values()))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for block in files.blocks([spec.fields[n].column or n for n in names]):
        for name in names:
            pooled = encoder.one(block.table[spec.fields[name].column or name], name) + 1
            parts[name].append(pooled.astype(np.int32))
    assert small.user is not None
    assert small.has_user is not None
    assert small.time is not None
    codes = {name: np.concatenate(found) for name, found in parts.items()}
    return Histories(small.user, small.has_user, small.time, codes)


def _weight(block: Block, name: str) -> np.ndarray:
    found = values.numbers(block, name)
    wrong = ~(np.isfinite(found) & (found >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{block.where(row)}: column '{name}' holds {found[row]}; a weight is 0 or more"
        )
    return found.astype(np.float32)
