"""Saved models at work: a file scored, and the latency of small batches beside ONNX Runtime."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import ITEMS, USERS, rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.results import OURS, Measurement, amounts, throughput
from benchmarks.study import settings
from benchmarks.timing import Work, in_turns
from domain_experts import layout
from domain_experts.data.log.encoder import Encoder
from domain_experts.data.log.files import LogFiles
from domain_experts.data.log.reader import prepare
from domain_experts.data.log.spec import LogSpec
from domain_experts.schema import Schema
from domain_experts.serving.export import INPUTS, export
from domain_experts.serving.model import Origin, SavedModel
from domain_experts.serving.rebuild import MAKERS, Identity, without_rows
from domain_experts.serving.score import score

ONNX = "ONNX Runtime"
PEER = "DeepCTR-Torch, ONNX Runtime"
FIELDS = ("user", "item", "gender", "age", "occupation", "zip", "genre")
KNOWN = 200_000
"""Rows that vocabularies are made of."""
ROUNDS = 3
CALLS = 50
"""Calls of a turn."""
BATCHES = (1, 100, 1_000)
MODELS = (("base", "wdl"), ("mlora", "wdl"), ("moe_mlora", "wdl"), ("mdmt", "m3oe"))


def measure(effort: Effort) -> Iterator[Measurement]:
    """Rows a second from Parquet to Parquet; milliseconds of a call."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.chdir(name):
        table = log(effort.rows)
        pq.write_table(table.slice(0, KNOWN), "known.parquet")
        pq.write_table(table, "new.parquet")
        prepare("bench", LogSpec.model_validate(spec("known.parquet")))
        encoder = Encoder.open(layout.interactions("bench") / "encoder")
        for arm, backbone in MODELS[:-1]:
            model = untrained(arm, backbone, encoder.schema, encoder)
            files = LogFiles(["new.parquet"])
            work: dict[str, Work] = {
                OURS: partial(score, model, files, Path("scores.parquet"), ["row"])
            }
            seconds = in_turns(work, ROUNDS)
            named = f"{arm}/{backbone}, load {os.getloadavg()[0]:.1f}"
            yield from throughput("scoring", named, seconds, len(table), None, effort.threads)
        for arm, backbone in MODELS:
            yield from latency(untrained(arm, backbone, encoder.schema, None), effort)


def latency(model: SavedModel, effort: Effort) -> Iterator[Measurement]:
    """Milliseconds of a call of the model, in torch and in ONNX Runtime, on the same rows.

    Of the backbone also a peer's, where it is installed.
    """
    path = Path("model.onnx")
    export(model, "onnx", path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = effort.threads
    session = onnxruntime.InferenceSession(path, options)
    rng, schema, peer = np.random.default_rng(0), model.schema, None
    if model.identity.arm == "base" and find_spec("deepctr_torch"):
        from benchmarks.peers.deepctr_torch import export_wide_and_deep

        export_wide_and_deep(schema, model.identity.settings, Path("peer.onnx"))
        peer = onnxruntime.InferenceSession("peer.onnx", options)
    for size in BATCHES:
        rows = (
            np.stack([rng.integers(0, n, size) for n in schema.sizes], 1).astype(np.int32),
            rng.random((size, len(schema.dense)), np.float32),
            rng.integers(0, len(schema.domains), size),
        )
        feed = dict(zip(INPUTS, rows, strict=True))
        work: dict[str, Work] = {
            OURS: partial(repeated, partial(model.logits, *rows)),
            ONNX: partial(repeated, partial(session.run, None, feed)),
        }
        if peer is not None:
            both = {"x": np.column_stack(rows[:2]).astype(np.float32)}
            work[PEER] = partial(repeated, partial(peer.run, None, both))
        values = {
            name: [1000 * seconds / CALLS for seconds in own]
            for name, own in in_turns(work, effort.rounds).items()
        }
        named = f"{model.identity.arm}/{model.identity.backbone}, {size} rows"
        yield from amounts("latency", named, "ms", values, effort.threads, size)


def repeated(call: Work) -> None:
    """A turn."""
    for _ in range(CALLS):
        call()


def untrained(arm: str, backbone: str, schema: Schema, encoder: Encoder | None) -> SavedModel:
    """A model of the study's sizes with the weights that it starts from."""
    own = settings(arm, "ml-1m-gender", backbone)
    identity = Identity("bench", backbone, arm, 0, own, schema)
    module = MAKERS[arm](without_rows(identity, {}), identity, {})
    origin = Origin(run="", data="", split="", code="", libraries={})
    module.eval().requires_grad_(False)
    return SavedModel(identity, module, origin, "", encoder)


def log(rows: int) -> pa.Table:
    """A click log with the ids of MovieLens' shape as numbers, and the domain as text."""
    data = rows_like_movielens(rows, FIELDS, dense=1)
    ids = {name: data.fields[:, j] * 17 + 3 for j, name in enumerate(FIELDS)}
    assert data.schema.sizes[:2] == (USERS, ITEMS)
    names = pa.array(data.schema.domains)
    shop = pa.DictionaryArray.from_arrays(pa.array(data.domain.astype(np.int32)), names)
    return pa.table(
        {
            "row": np.arange(rows),
            **ids,
            "price": data.dense[:, 0],
            "shop": shop.dictionary_decode(),
            "click": data.labels[:, 0],
        }
    )


def spec(file: str) -> dict[str, object]:
    """What is said of such a log."""
    return {
        "files": file,
        "domain": "shop",
        "tasks": {"click": "click"},
        "fields": {name: {} for name in FIELDS},
        "dense": ["price"],
    }
