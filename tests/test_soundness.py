"""One flipped byte in any kind of stored file is found by name before its content is used."""

import contextlib
import errno
import hashlib
import io
import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from projects import ROOT
from test_log import SPEC, frame

from domain_experts import layout, soundness
from domain_experts.artifacts import MODEL, PROVENANCE, RECORD
from domain_experts.data.interactions import Interactions
from domain_experts.data.prepare import checked_record, prepare
from domain_experts.data.registry import FILE_FORMATS
from domain_experts.data.specs import Log
from domain_experts.data.split import read_split
from domain_experts.errors import UserError
from domain_experts.evaluation.evaluate import evaluate_dataset, merge
from domain_experts.files import read_json, sha256, write_json
from domain_experts.presence import load_study
from domain_experts.reporting import crate, published
from domain_experts.results import load
from domain_experts.serving.keep import encoder_of
from domain_experts.serving.model import SavedModel
from domain_experts.soundness import DAMAGED, MISSING, findings, print_soundness
from domain_experts.study import Study
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.job import _published
from domain_experts.training.store import Entry

DATASET, TRIES = "planted-small", 6


def run_of(study, arm="base"):
    return next(run for run in study.expected_runs if run.arm == arm and run.dataset == DATASET)


def artifact(study, name, arm="base"):
    return layout.run_artifacts(study.tier, run_of(study, arm)) / name


def entry_of(study, arm="base"):
    return Entry(read_json(artifact(study, PROVENANCE, arm), "")["key"])


def interactions(name):
    return lambda study: layout.interactions(DATASET) / name


def opened(study):
    return Interactions.open(layout.interactions(DATASET))


def split(study):
    return read_split(study.tier, DATASET, study.seeds(DATASET)[0])


def evaluated(study):
    return evaluate_dataset(study, DATASET)


def checkpoint(study):
    made = Checkpoint(Entry("f" * 64).checkpoint, "f" * 64)
    made.save({"w": torch.arange(600.0), "n": torch.zeros(3, 2)}, {"epoch": 3})
    return made.path


def search(study):
    """One of a tier that has some: the small study has none."""
    quick = Study(load_study(path=ROOT / "params.yaml").params, "quick")
    (wanted, *_) = quick.searches
    path = layout.search_file("quick", wanted)
    write_json(path, {"chosen": {"training.learning_rate": 0.25}, "trials": []}, sealed=True)
    return path


def chosen(study):
    quick = Study(load_study(path=ROOT / "params.yaml").params, "quick")
    return quick.chosen(quick.searches[0])


def raw(study):
    folder = layout.raw("ml-100k")
    folder.mkdir(parents=True)
    files = {}
    for name in FILE_FORMATS["movielens-100k"]:
        (folder / name).write_text("1\t2\t3\t4\n" * 50)
        files[name] = sha256(folder / name)
    record = {"files": files, "layout": "movielens-100k"}
    write_json(layout.raw_record("ml-100k"), record, sealed=True)
    return folder / "u.data"


def raw_record(study):
    raw(study)
    return layout.raw_record("ml-100k")


def encoder(name):
    def make(study):
        frame().to_parquet("log.parquet")
        prepare("own", Log.model_validate(SPEC))
        return layout.interactions("own") / "encoder" / name

    return make


def encoded(study):
    return encoder_of("own", Interactions.open(layout.interactions("own")))


KINDS = {
    "labels, fields, domain and other arrays of a data set": (interactions("labels.npy"), opened),
    "its card": (interactions("card.json"), opened),
    "vocabularies of a log": (encoder("item.parquet"), encoded),
    "their record": (encoder("encoder.json"), encoded),
    "raw files": (raw, lambda study: checked_record("ml-100k")),
    "their record `source.json`": (raw_record, lambda study: checked_record("ml-100k")),
    "splits": (lambda s: layout.split_file(s.tier, DATASET, s.seeds(DATASET)[0]), split),
    "their index `splits.json`": (lambda s: layout.split_index(s.tier, DATASET), split),
    "what a search found": (search, chosen),
    "entries of the run store": (
        lambda s: entry_of(s).folder / MODEL,
        lambda s: entry_of(s).finished(),
    ),
    "their index `files.json`": (lambda s: entry_of(s).index, lambda s: entry_of(s).finished()),
    "checkpoints": (checkpoint, lambda s: Checkpoint(Entry("f" * 64).checkpoint, "f" * 64).load()),
    "weights": (lambda s: artifact(s, MODEL), lambda s: _published(s, run_of(s))),
    "predictions": (lambda s: artifact(s, "test.npy"), evaluated),
    "`record.json` of a run": (lambda s: artifact(s, RECORD), evaluated),
    "its `run.json`": (lambda s: artifact(s, PROVENANCE), evaluated),
    "indexes of jobs": (lambda s: layout.job_index(s.tier, run_of(s).job), evaluated),
    "numbers of a data set": (
        lambda s: layout.evaluated(s.tier, DATASET) / "results.parquet",
        merge,
    ),
    "`results.parquet`": (lambda s: layout.results_file(s.tier), load),
    "`records.parquet`": (lambda s: layout.records_file(s.tier), load),
}
"""Kind -> its file, made if the small study has none, and what reads it."""
NO_PART = ("vocabularies of a log", "their record", "raw files", "their record `source.json`")
NO_PART += ("what a search found",)
"""Kinds of which the small study has no files of its own to check."""


def flips(path, seed=0):
    """The content of a file, and the same with one byte changed, at several places."""
    content, rng = path.read_bytes(), np.random.default_rng(seed)
    places = {0, len(content) - 1, *rng.integers(0, len(content), TRIES).tolist()}
    for place in sorted(places):
        data = bytearray(content)
        data[place] ^= int(rng.integers(1, 256))
        yield content, bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_found_before_the_content_is_used(smoke, kind):
    find, use = KINDS[kind]
    path = find(smoke)
    use(smoke)
    for content, damaged in flips(path):
        path.write_bytes(damaged)
        with pytest.raises(UserError) as refused:
            use(smoke)
        said = str(refused.value)
        assert path.name in said
        assert any(way in said for way in ("run ", "git ", "rm -r", "rm '")), said
        if kind not in NO_PART:
            found = {one.path for one in findings(smoke) if one.state == DAMAGED}
            assert found
            assert path in found or path.parent in {one.parent for one in found}
        path.write_bytes(content)
    use(smoke)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_flipped_byte_of_a_saved_model_is_refused(trained, tmp_path, name):
    folder = tmp_path / "model"
    trained.model("base").save(folder)
    for content, damaged in flips(folder / name):
        (folder / name).write_bytes(damaged)
        with pytest.raises(UserError, match=r"safetensors|config\.json"):
            SavedModel.load(folder)
        (folder / name).write_bytes(content)
    SavedModel.load(folder)


@pytest.mark.parametrize("name", ["results", "records"])
def test_a_changed_digit_in_committed_results_is_refused(project, name):
    committed = ROOT / "results/paper"
    folder = Path("results/paper")
    shutil.copytree(committed, folder, ignore=shutil.ignore_patterns("tables", "*.html"))
    study, path = load_study("paper", path=ROOT / "params.yaml"), folder / f"{name}.parquet"
    load(study)
    for content, damaged in itertools.islice(flips(path), 3):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{name}\.parquet is damaged: .*git checkout"):
            load(study)
        path.write_bytes(content)


def test_a_changed_digit_of_a_published_value_is_refused(tmp_path, monkeypatch):
    package = ROOT / "src/domain_experts/reporting"
    shutil.copytree(package / "published", tmp_path / "published")
    monkeypatch.setattr(published, "files", lambda _: tmp_path)
    assert published.check_published()
    for file in sorted((tmp_path / "published").iterdir()):
        for content, damaged in flips(file):
            file.write_bytes(damaged)
            with pytest.raises(UserError, match=r"published/\S+ is damaged: .*sha256sum"):
                published.check_published()
            file.write_bytes(content)


def test_an_array_of_rows_is_read_once_in_a_process(smoke, monkeypatch):
    monkeypatch.setattr("domain_experts.files._SETTLED_NS", -1)
    count = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: count.append(1) or digest(*a))
    opened(smoke)
    arrays = len(count)
    opened(smoke)
    assert len(count) == arrays >= 4


def test_files_from_before_there_were_checksums_are_read(smoke):
    """Their card lists none, and no index has a seal."""
    for path in (layout.card(DATASET), layout.job_index(smoke.tier, run_of(smoke).job)):
        content = read_json(path, "")
        content.pop("checksums", None)
        write_json(path, content)
    opened(smoke)
    evaluated(smoke)
    states = {one.path: one.state for one in findings(smoke)}
    assert states[layout.card(DATASET)] == soundness.UNKNOWN


def said(study):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        sound = print_soundness(study)
    return sound, text.getvalue()


def test_check_tells_what_is_sound_missing_and_damaged(smoke):
    sound, text = said(smoke)
    assert sound
    assert "0 damaged, 0 missing, 0 without checksum" in text
    weights = artifact(smoke, MODEL)
    weights.unlink()
    sound, text = said(smoke)
    assert sound
    assert f"{weights} is missing; remove " in text
    labels = layout.interactions(DATASET) / "labels.npy"
    labels.write_bytes(next(flips(labels))[1])
    sound, text = said(smoke)
    assert not sound
    assert f"DAMAGED: {labels} is damaged" in text
    assert f"run `domain-experts prepare {DATASET}`" in text
    assert [one.path for one in findings(smoke) if one.state == MISSING] == [weights]


def test_check_goes_on_where_results_cannot_be_read(smoke, monkeypatch):
    """A broken disk: reading the file fails, for whatever purpose."""
    broken = layout.results_file(smoke.tier)

    def failing(real):
        def read(path, *arguments):
            if path == broken:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(path, *arguments)

        return read

    for name in ("read", "sha256"):
        monkeypatch.setattr(soundness, name, failing(getattr(soundness, name)))
    sound, text = said(smoke)
    assert not sound
    assert f"DAMAGED: {broken} cannot be read: Input/output error" in text
    assert "1 damaged, 0 missing" in text


@pytest.mark.parametrize("content", ['{"@graph": ', "[]", "{}"])
def test_check_names_a_crate_that_is_none(smoke, content):
    crate.FILE.write_text(content)
    sound, text = said(smoke)
    assert not sound
    assert f"DAMAGED: {crate.FILE} " in text
    assert "domain-experts crate" in text


def test_check_ends_with_1_only_if_something_is_damaged(smoke, monkeypatch):
    from typer.testing import CliRunner

    from domain_experts.cli import app

    assert CliRunner().invoke(app, ["check", "--tier", "smoke"]).exit_code == 0
    path = layout.results_file("smoke")
    path.write_bytes(next(flips(path))[1])
    assert CliRunner().invoke(app, ["check", "--tier", "smoke"]).exit_code == 1


def test_the_page_lists_every_kind_of_file():
    page = (ROOT / "docs/files.md").read_text()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines()]
    first, last = rows.index("Kind of file"), len(rows)
    told = [row for row in rows[first + 2 : last] if row and not row.startswith("#")]
    assert [kind for kind in told if kind in KINDS] == list(KINDS)
