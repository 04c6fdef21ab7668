"""Every reader, on files that are not as they should be: a result that fits, or a UserError.

`make fuzz` tries many more, and keeps their number.
"""

import contextlib
import faulthandler
import gzip
import io
import itertools
import json
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from common import write_movielens
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import STEPS, changed, columns
from projects import ROOT
from rawfiles import (
    write_amazon_3,
    write_epinions,
    write_kuairand,
    write_mamdr,
    write_reviews,
    write_taobao,
)
from served import Trained
from test_log import SPEC, frame

from domain_experts import layout, params, results, study_file
from domain_experts.data import interactions, kuairand, recbole_cdr
from domain_experts.data.archive import UnusableError, extract
from domain_experts.data.interactions import Interactions
from domain_experts.data.log.files import LogFiles
from domain_experts.data.log.guess import guess
from domain_experts.data.log.spec import Csv
from domain_experts.data.prepare import checked_record
from domain_experts.data.prepare import prepare as prepare_data
from domain_experts.data.registry import FILE_FORMATS
from domain_experts.data.specs import Log
from domain_experts.data.split import read_split
from domain_experts.errors import UserError
from domain_experts.files import sha256, write_json
from domain_experts.reporting import claims, published
from domain_experts.serving.model import CONFIG, WEIGHTS, SavedModel
from domain_experts.serving.score import score

FEW = 30
LONGEST_S = 20
"""In which an input must be through, on a busy machine."""
COUNTS = ROOT / "results/fuzz.json"


@dataclass(frozen=True)
class Reader:
    """Something that reads files."""

    make: Callable[[], None]
    """Writes sound files into the current folder."""
    files: tuple[str, ...]
    """Those that are changed, one at a time."""
    read: Callable[[], None]
    """Reads what is there, and asserts that what it accepts fits."""
    share: float = 1.0
    """Of the inputs that a quick reader gets."""
    separators: bytes = b",\t|:\n "


def fits(made):
    """What no reader may let through: a code, label, domain, weight or shape out of its range."""
    try:
        interactions._refuse_misfits(made)
    except UserError as error:
        # of a domain whose rows were all left out the user is told when they are split
        assert "domains without rows" in str(error)


def raw(file_format, make, separators=b",\t|:\n ", share=0.3, only=None, **spec):
    """A reader of raw files: what it counts, and the rows that are made of them."""
    module = __import__(
        f"domain_experts.data.{spec.pop('module')}", fromlist=["counts", "interactions"]
    )

    def read():
        module.counts(Path(), file_format)
        if only is None:
            # as `write` does before it stores them
            interactions._refuse_misfits(
                module.interactions(Path(), file_format, SimpleNamespace(**spec))
            )

    names = only or FILE_FORMATS[file_format]
    return Reader(lambda: make(Path()), names, read, share, separators)


MOVIELENS = {
    "domain": "gender",
    "order": "timestamp",
    "labels": "click_like",
    "features": "profile",
}


def movielens(file_format):
    make = lambda folder: write_movielens(folder, file_format, users=15, items=12, rows=60)  # noqa: E731
    return raw(file_format, make, module="movielens", **MOVIELENS)


def write_recbole_cdr():
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    pairs = [(u, i) for u in range(1, 9) for i in (1, 2)]
    lines = [f"1m_{u}\tFilm {i} (1990)\t{1 + u % 5}\t{97 + u}\n" for u, i in pairs]
    Path("ml-1m.inter").write_text("".join([header, *lines]))
    header = "user_id:token\tgender:token\tage:float\toccupation:float\tzip_code:token\n"
    people = [f"1m_{u}\tF\t{(1, 18)[u % 2]}\t{u % 5}\t1234{u}\n" for u in range(1, 9)]
    Path("ml-1m.user").write_text("".join([header, *people]))
    films = [f"Film {i} (1990)\tAction Comedy\n" for i in (1, 2, 3)]
    Path("ml-1m.item").write_text("".join(["item_id:token\tgenre:token\n", *films]))


def read_recbole_cdr():
    recbole_cdr.rebuild(Path(), Path())
    from domain_experts.data.movielens_files import read

    read(Path(), "movielens-1m")


def study(text=None):
    return lambda: Path("own.yaml").write_text(text or STUDY)


STUDY = """\
files: [log.csv, more.parquet]
csv: {delimiter: ",", encoding: utf8}
domain: {column: shop, min_rows: 2, rare: shared}
tasks: {click: click, best: "rating >= 4"}
fields:
  user: {}
  item: {column: iid, min_count: 3}
  tags: {multi: "|", most: 3}
  shop: {hash: 9}
history: {past: {of: item, last: 2}}
dense: [price, {column: age, transform: log}]
time: ts
weight: w
key: [user, ts]
split: {rule: time, validation: 0.1, test: 0.2, seed: 1}
arms: [floors, base, mlora]
backbones: [wdl]
seeds: 2
search: {trials: 4}
settings: {training.max_epochs: 2}
"""


def read_study():
    read = study_file.read(Path("own.yaml"))
    study_file.params_of(read, "own", Path(".."))


def small_params():
    """A params.yaml of every kind of data set, and one experiment."""
    text = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(text)


def csv_log(name):
    def make():
        table = frame(60)
        text = table.to_csv(index=False).encode()
        Path(name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)

    return make


def parquet_log():
    frame(60).to_parquet("log.parquet", row_group_size=25)


def read_log(name):
    spec = Log.model_validate(SPEC | {"files": name, "key": ["user", "ts", "item"]})

    def read():
        guess([name])
        prepare_data("toy", spec)
        fits(Interactions.open(layout.interactions("toy")))

    return read


@cache
def model():
    """A model of the log, with its vocabulary."""
    parquet_log()
    prepare_data("toy", Log.model_validate(LOG))
    from domain_experts.data.log.encoder import Encoder

    folder = layout.interactions("toy")
    Path("models").mkdir()
    trained = Trained(Path("models"), Interactions.open(folder))
    return trained.model("moe_mlora", "wdl", Encoder.open(folder / "encoder"))


LOG = SPEC | {"history": {}}


def scored(name):
    def read():
        rows = score(model(), LogFiles([name], Csv()), Path("scores.parquet"), ["user"])
        made = pq.read_table("scores.parquet")
        assert made.num_rows == rows
        for task in ("p_best", "p_click"):
            found = made[task].to_numpy()
            assert ((found >= 0) & (found <= 1)).all(), found

    return read


def saved_model():
    model().save(Path("model"))


def read_model():
    """Open a model whose checksums are right, whoever wrote it, and score rows by it."""
    config = Path("model", CONFIG)
    with contextlib.suppress(ValueError, OSError, AttributeError, TypeError, KeyError):
        content = json.loads(config.read_text())
        content["files"] = {name: sha256(Path("model", name)) for name in content["files"]}
        write_json(config, content, sealed=True)
    loaded = SavedModel.load(Path("model"))
    schema = loaded.schema
    fields = np.zeros((2, schema.columns), np.int32)
    dense = np.zeros((2, len(schema.dense)), np.float32)
    assert loaded.logits(fields, dense, np.zeros(2, np.int64)).shape == (2, len(schema.tasks))


def archive(name):
    members = {f"in/{part}": b"rows " * 40 for part in ("a.csv", "b.csv")}

    def make():
        if name.endswith(".zip"):
            with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as file:
                for path, content in members.items():
                    file.writestr(path, content)
            return
        with tarfile.open(name, "w:gz") as file:
            for path, content in members.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))

    def read():
        before = {*Path().rglob("*")}
        try:
            extract(Path(name), "in", ("a.csv", "b.csv"), Path("out"))
        except UnusableError as error:
            raise UserError(str(error)) from None
        finally:
            assert {*Path().rglob("*")} - before <= {Path("out/a.csv"), Path("out/b.csv")}

    return Reader(lambda: (Path("out").mkdir(), make()), (name,), read)


def stored():
    """A data set and its split, as they are stored."""
    folder = layout.interactions("small")
    from assignments import small_data

    from domain_experts.data.cut import write_splits
    from domain_experts.data.specs import SplitRule

    interactions.write(small_data(), folder, {"source": "generated"})
    rule = SplitRule(rule="stratified", validation_fraction=0.1, test_fraction=0.1)
    write_splits(rule, "smoke", "small", [1])


def read_stored():
    """Open a data set whose checksums are right."""
    folder = layout.interactions("small")
    with contextlib.suppress(ValueError, OSError, AttributeError, TypeError, KeyError):
        card = json.loads((folder / "card.json").read_text())
        card["checksums"] = {name: sha256(folder / name) for name in card["checksums"]}
        write_json(folder / "card.json", card, sealed=True)
        index = layout.split_index("smoke", "small")
        content = json.loads(index.read_text())
        content["seeds"]["1"]["sha256"] = sha256(layout.split_file("smoke", "small", 1))
        write_json(index, content, sealed=True)
    # whose rows they are is not looked at again: the checksums are those of what was written
    Interactions.open(folder)
    split = read_split("smoke", "small", 1)
    assert split.dtype == np.uint8 and split.ndim == 1


def some_results():
    run = {"run": "a/b", "dataset": "d", "split": "test", "seed": 1, "split_seed": 1}
    run |= {"metric": "auc", "value": 0.5, "status": "current"}
    rows = [run | {"domain": domain} for domain in ("x", "y")]
    results.write(results.table(rows), Path("results.parquet"))


def read_results():
    found = results.read(Path("results.parquet"))
    assert not found.duplicated(results.IDENTITY).any()


def some_published():
    Path("published").mkdir()
    source = ROOT / published.PUBLISHED
    for path in source.glob("*.csv"):
        lines = path.read_text().splitlines(keepends=True)
        (Path("published") / path.name).write_text("".join(lines[:12]))


def read_published():
    folder = Path("published")
    lines = [f"{sha256(path)}  {path.name}\n" for path in folder.glob("*.csv")]
    (folder / published.SUMS).write_text("".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "files", lambda _: Path())
        found = published._all.__wrapped__()
    assert np.isfinite(found["value"]).all()


def some_claims():
    Path("claims.yaml").write_text((ROOT / "claims/1-moe-mlora.yaml").read_text())


def read_claims():
    list(claims._read(Path("claims.yaml")))


def a_source():
    """The record of raw files that were fetched."""
    write_movielens(layout.raw("ml-100k"), "movielens-100k", users=15, items=12, rows=60)
    files = {n: sha256(layout.raw("ml-100k") / n) for n in FILE_FORMATS["movielens-100k"]}
    record = {"layout": "movielens-100k", "files": files, "source": "ml-100k"}
    write_json(layout.raw_record("ml-100k"), record)


SMALL = "data/interactions/small"
PARTS = ("encoder.json", "user.parquet")
STORED = ("card.json", "fields.npy", "labels.npy", "domain.npy")
READERS = {
    "study": Reader(study(), ("own.yaml",), read_study, 0.1),
    "params": Reader(small_params, ("params.yaml",), params.load, 0.02),
    "claims": Reader(some_claims, ("claims.yaml",), read_claims, 0.1),
    "log.csv": Reader(csv_log("log.csv"), ("log.csv",), read_log("log.csv"), 0.1),
    "log.csv.gz": Reader(csv_log("log.csv.gz"), ("log.csv.gz",), read_log("log.csv.gz"), 0.1),
    "log.parquet": Reader(parquet_log, ("log.parquet",), read_log("log.parquet"), 0.1),
    "score.csv": Reader(csv_log("log.csv"), ("log.csv",), scored("log.csv"), 0.1),
    "score.parquet": Reader(parquet_log, ("log.parquet",), scored("log.parquet"), 0.1),
    "model": Reader(
        saved_model,
        (f"model/{CONFIG}", f"model/{WEIGHTS}", *(f"model/encoder/{name}" for name in PARTS)),
        read_model,
        0.05,
    ),
    "ml-100k": movielens("movielens-100k"),
    "ml-1m": movielens("movielens-1m"),
    "recbole": movielens("recbole"),
    "recbole-cdr": Reader(write_recbole_cdr, recbole_cdr.PARTS, read_recbole_cdr, 0.3),
    "epinions": raw(
        "epinions",
        lambda folder: write_epinions(folder, users=8, items=6, rows=80),
        module="epinions",
        domains=2,
        core=2,
        label_at_least=4,
    ),
    "amazon-3": raw("amazon-3", lambda f: write_amazon_3(f, 12, 9, 40), module="amazon"),
    "amazon-6": raw(
        "amazon-6", lambda f: write_reviews(f, "amazon-6", 12, 9, 30), module="amazon", share=0.2
    ),
    "taobao": raw("taobao", lambda f: write_taobao(f, 3, 12, 9, 60, 3), module="taobao", themes=2),
    "mamdr": raw(
        "mamdr-taobao-10",
        lambda f: write_mamdr(f, "mamdr-taobao-10", 12, 9, 12, 3),
        module="mamdr",
        share=0.05,
    ),
    "kuairand": Reader(
        lambda: write_kuairand(Path(), 12, 9, 40),
        FILE_FORMATS["kuairand-pure"],
        lambda: kuairand.counts(Path(), "kuairand-pure"),
        0.2,
    ),
    "zip": archive("a.zip"),
    "tar": archive("a.tar.gz"),
    "interactions": Reader(
        stored,
        (
            *(f"{SMALL}/{name}" for name in STORED),
            *(f"data/splits/smoke/small/{name}" for name in ("splits.json", "seed=1.npy")),
        ),
        read_stored,
        0.2,
    ),
    "results": Reader(some_results, ("results.parquet",), read_results, 0.2),
    "published": Reader(
        some_published, ("published/m3oe.csv", "published/mamdr.csv"), read_published, 0.5
    ),
    "source": Reader(
        a_source,
        ("data/raw/ml-100k/source.json", "data/raw/ml-100k/u.data"),
        lambda: checked_record("ml-100k"),
    ),
}


def outcome(reader):
    """Whether the files that are there are read; what is wrong is to be said by a UserError."""
    start = time.monotonic()
    faulthandler.dump_traceback_later(10 * LONGEST_S, exit=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            reader.read()
    except UserError as error:
        assert str(error).strip()
        return "refused"
    finally:
        faulthandler.cancel_dump_traceback_later()
        assert time.monotonic() - start < LONGEST_S
    return "read"


def fuzzing():
    """Whether this is `make fuzz`."""
    return settings.get_current_profile_name() == "fuzz"


@pytest.fixture(scope="module")
def counts():
    """How many inputs each reader had, and what became of them."""
    found = {}
    yield found
    if fuzzing():
        known = json.loads(COUNTS.read_text()) if COUNTS.is_file() else {}
        write_json(COUNTS, known | found)


@pytest.mark.parametrize("name", READERS)
def test_bytes(name, counts, tmp_path, monkeypatch):
    reader, found = READERS[name], Counter()
    monkeypatch.chdir(tmp_path)
    reader.make()
    assert outcome(reader) == "read"
    sound = {file: Path(file).read_bytes() for file in reader.files}
    many = int(settings.default.max_examples * reader.share) if fuzzing() else FEW

    @settings(max_examples=many)
    @given(st.sampled_from(reader.files), STEPS)
    def one(file, steps):
        content = sound[file]
        zipped = file.endswith(".gz") and "tar" not in file and steps[0][1] % 4
        content = gzip.decompress(content) if zipped else content
        content = changed(content, steps, reader.separators)
        Path(file).write_bytes(gzip.compress(content, 1) if zipped else content)
        try:
            found[outcome(reader)] += 1
        finally:
            Path(file).write_bytes(sound[file])

    one()
    counts[name] = dict(found)


@pytest.mark.parametrize("name", ["log.parquet", "score.parquet"])
def test_columns_of_other_types(name, counts, tmp_path, monkeypatch):
    reader, found = READERS[name], Counter()
    monkeypatch.chdir(tmp_path)
    model()
    table = pa.Table.from_pandas(frame(60), preserve_index=False)
    pairs = [*itertools.product(enumerate(table.column_names), columns(60).values())]
    for (place, column), values in pairs if fuzzing() else pairs[:: FEW // 6]:
        pq.write_table(table.set_column(place, column, values), "log.parquet")
        found[outcome(reader)] += 1
    counts[f"{name}, columns"] = dict(found)
