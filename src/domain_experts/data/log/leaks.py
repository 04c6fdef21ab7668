"""What would make a test too easy: rows in two splits, columns that give the label away."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from domain_experts.auc import macro_auc
from domain_experts.data.interactions import Interactions
from domain_experts.data.log import values
from domain_experts.data.log.encoder import Encoder
from domain_experts.data.log.files import BLOCK, Block
from domain_experts.data.log.spec import RARE
from domain_experts.data.log.writer import parts
from domain_experts.data.split import TEST, TRAIN
from domain_experts.schema import Schema

SUSPECT = 0.95
"""Test AUC of one column alone above which it is named."""
_TESTED = 500_000
"""Test rows, the first ones, that the AUC of a column is taken of."""
_SPLIT_BITS = np.uint64(3)


def mixed(state: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(N,) uint64: a hash with one more value in it."""
    found = (state ^ value.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(found ^ (found >> np.uint64(29)))


def row_hashes(block: Block, encoder: Encoder, part: Interactions) -> np.ndarray:
    """(N,) uint64: a hash of all features and labels, its lowest two bits the row's split."""
    found = np.zeros(len(part.domain), np.uint64)
    for j in range(part.fields.shape[1]):
        found = mixed(found, part.fields[:, j])
    for j, name in enumerate(encoder.single):
        # rare ids have one code, but are not the same
        rare = part.fields[:, j] == RARE
        if rare.any():
            column = block.table[encoder.columns.fields[name].column or name]
            array = values.plain(column).filter(pa.array(rare))
            raw = values.ids(array, encoder.vocabularies[name].kind)
            found[rare] = mixed(found[rare], np.where(values.present(raw), values.keys(raw), 0))
    for j in range(part.dense.shape[1]):
        found = mixed(found, np.ascontiguousarray(part.dense[:, j]).view(np.uint32))
    for j in range(part.labels.shape[1]):
        found = mixed(found, part.labels[:, j])
    found = mixed(found, part.domain)
    assert part.given_split is not None
    return np.asarray((found & ~_SPLIT_BITS) | part.given_split.astype(np.uint64))


def repeated(hashes: np.ndarray, report: dict[str, Any]) -> None:
    """Report rows that are, features and labels, those of another split; sorts the hashes."""
    hashes.sort()
    count = 0
    for start in range(0, len(hashes) - 1, BLOCK):
        part = hashes[start : start + BLOCK + 1]
        # of one row only the split, in the lowest bits, differs
        count += int(((part[1:] != part[:-1]) & ((part[1:] ^ part[:-1]) <= _SPLIT_BITS)).sum())
    report["rows_in_two_splits"] = count
    if count:
        report["remarks"].append(
            f"WARNING: {count:,} rows are in two splits, features and labels alike: the test is "
            "easier than new rows will be; remove repeated rows, or split by time or user"
        )


def taken(part: Interactions, keep: np.ndarray) -> Interactions:
    """Some of the rows."""
    if keep.all():
        return part
    return replace(part, **{name: array[keep] for name, array in part.arrays.items()})


def check(folder: Path, schema: Schema, report: dict[str, Any]) -> None:
    """Report fields and dense columns that alone tell test labels apart almost surely.

    A field's value is the rate of its id among training rows; of a pooled field, of its first id.
    """
    starts = np.cumsum([0, *(schema.widths or [1] * len(schema.fields))])[:-1]
    sizes = schema.sizes
    count = [np.zeros(size) for size in sizes]
    positive = [np.zeros((len(schema.tasks), size)) for size in sizes]
    tested: dict[str, list[np.ndarray]] = {"fields": [], "dense": [], "labels": []}
    kept = 0
    names = ("fields", "dense", "labels", "given_split")
    streams = [parts(folder / f"{name}.npy", BLOCK) for name in names]
    for fields, dense, labels, split in zip(*streams, strict=True):
        training = split == TRAIN
        label = labels[training]
        for j, start in enumerate(starts):
            codes = fields[training, start]
            count[j] += np.bincount(codes, minlength=sizes[j])
            for t in range(len(schema.tasks)):
                positive[j][t] += np.bincount(codes[label[:, t] == 1], minlength=sizes[j])
        rows = np.flatnonzero(split == TEST)[: _TESTED - kept]
        kept += len(rows)
        tested["fields"].append(fields[rows][:, starts])
        tested["dense"].append(dense[rows])
        tested["labels"].append(labels[rows])
    fields, dense, labels = (np.concatenate(found) for found in tested.values())
    aucs: dict[str, dict[str, float]] = {}
    for t, task in enumerate(schema.tasks):
        label = labels[:, t]
        if label.min() == label.max():
            continue
        one = np.zeros(len(label), np.int64)
        scores = {
            name: ((positive[j][t] + 1) / (count[j] + 2))[fields[:, j]]
            for j, (name, _) in enumerate(schema.fields)
        }
        scores |= {name: dense[:, j].astype(np.float64) for j, name in enumerate(schema.dense)}
        found = {
            name: float(macro_auc(s[:, None], label[:, None], one, 1)) for name, s in scores.items()
        }
        aucs[task] = {name: max(auc, 1 - auc) for name, auc in found.items()}
        for name, auc in aucs[task].items():
            if auc > SUSPECT:
                report["remarks"].append(
                    f"WARNING: '{name}' alone has test AUC {auc:.3f} for '{task}': it may be known "
                    "only after the label; leave it out unless you have it when you score"
                )
    report["auc_alone"] = aucs
