"""The run store, checkpoints, and what goes wrong with files."""

import json
import multiprocessing
import os
import resource
import sys

import pytest
import torch
from projects import make_smallest
from safetensors.torch import load_file, save_file

from domain_experts import forks
from domain_experts.cli import main
from domain_experts.errors import UserError
from domain_experts.training.checkpoint import Checkpoint, Timer
from domain_experts.training.store import Entry


def finished_entry(project):
    entry = Entry("a" * 64)
    entry.folder.mkdir(parents=True)
    (entry.folder / "metrics.json").write_text("{}")
    entry.finish(["metrics.json"])
    return entry


def test_finished_runs_are_found_and_published(project):
    entry = finished_entry(project)
    assert list(entry.finished()) == ["metrics.json"]
    entry.publish("metrics.json", project / "results")
    assert (project / "results/metrics.json").read_text() == "{}"
    assert Entry("b" * 64).finished() is None


def test_a_damaged_entry_is_named(project):
    entry = finished_entry(project)
    (entry.folder / "metrics.json").write_text("{ }")
    with pytest.raises(UserError, match=r"metrics.json is damaged: .*; remove the entry \(rm -r"):
        entry.finished()


def test_a_damaged_index_of_an_entry_is_named(project):
    entry = finished_entry(project)
    (entry.folder / "files.json").write_text("{")
    with pytest.raises(UserError, match=r"files.json is damaged \(.*remove the entry \(rm -r"):
        entry.finished()


def hold(entry, ready, done):
    with entry.lock():
        ready.set()
        done.wait(30)


def test_a_second_process_is_told_who_holds_the_run(project):
    context = multiprocessing.get_context("spawn")
    entry, ready, done = Entry("a" * 64), context.Event(), context.Event()
    process = context.Process(target=hold, args=(entry, ready, done))
    process.start()
    assert ready.wait(30)
    with (
        pytest.raises(UserError, match=f"process {process.pid} is training this run"),
        entry.lock(),
    ):
        pass
    # the lock dies with its process, however that ends
    process.kill()
    process.join()
    with entry.lock():
        pass


@pytest.fixture
def checkpoint(project):
    made = Checkpoint(project / "checkpoint.safetensors", "key")
    made.save({"w": torch.arange(6.0)}, {"epoch": 3})
    return made


def test_a_checkpoint_is_due_when_its_run_has_not_saved_for_a_while(project):
    now = [0.0]
    one = Checkpoint(project / "checkpoint.safetensors", "key", Timer(lambda: now[0]))
    for seconds, due in ((0, False), (19.9, False), (20, True), (39.9, True)):
        now[0] = seconds
        assert one.due() is due
    # one timer for all models of a run
    one.part(3).save({}, {})
    assert one.part(3).path.name == "checkpoint-3.safetensors"
    assert not one.due()
    now[0] += 20
    assert one.due()
    assert one.load() is None


def test_checkpoint_round_trip(checkpoint):
    tensors, state = checkpoint.load()
    assert torch.equal(tensors["w"], torch.arange(6.0))
    assert state == {"epoch": 3}


def test_truncated_checkpoint(checkpoint):
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"is damaged: .*remove it \(rm "):
        checkpoint.load()


def test_flipped_bits_in_a_checkpoint(checkpoint):
    data = bytearray(checkpoint.path.read_bytes())
    data[-1] ^= 1
    checkpoint.path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged: it is not what its own checksum says"):
        checkpoint.load()


def test_a_changed_state_of_a_checkpoint(checkpoint):
    data = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(data.replace(b'epoch\\": 3', b'epoch\\": 4'))
    assert checkpoint.path.read_bytes() != data
    with pytest.raises(UserError, match="is damaged: it is not what its own checksum says"):
        checkpoint.load()


def test_foreign_checkpoints(checkpoint, project):
    with pytest.raises(UserError, match="belongs to another run"):
        Checkpoint(checkpoint.path, "other key").load()
    save_file(load_file(checkpoint.path), checkpoint.path)
    with pytest.raises(UserError, match="belongs to another run"):
        checkpoint.load()


def limited(project, limit, arguments):
    """Exit status and errors of a command that may write files of so many bytes.

    It is a fork of this process, as importing all of it takes longer.
    """
    path = project.folder.parent / "errors"
    child = os.fork()
    if child == 0:

        def command():
            os.chdir(project.folder)
            sys.stdout = sys.stderr = path.open("w")
            sys.argv = ["domain-experts", *arguments]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            main()

        forks._end_with(command)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), path.read_text()


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The smallest project, its data prepared and split."""
    project = make_smallest(tmp_path_factory.mktemp("prepared") / "my project")
    project.run("domain-experts", "prepare", "planted-small")
    project.run("domain-experts", "split", "planted-small", "--tier", "smoke")
    return project


@pytest.fixture
def smallest_prepared(planted, tmp_path):
    """A copy of it."""
    return planted.copy(tmp_path / "my project")


@pytest.mark.parametrize("kind", ["full", "unwritable"])
def test_files_that_cannot_be_written(smallest_prepared, kind):
    """A full disk (a limit on file sizes) or a file where artifacts/ should be: one message."""
    project = smallest_prepared
    limit = 3000 if kind == "full" else resource.RLIM_INFINITY
    if kind == "unwritable":
        (project.folder / "artifacts").write_text("in the way")
    arguments = ["train", "baselines", "planted-small", "none", "item_rate", "--tier", "smoke"]
    status, said = limited(project, limit, arguments)
    assert status == 1
    assert "Traceback" not in said
    assert "error:" in said
    assert "what was finished is kept" in said
    assert not list(project.folder.glob(".runs/*/.*"))
    if kind == "unwritable":
        (project.folder / "artifacts").unlink()
    again = project.run("domain-experts", *arguments)
    # with artifacts/ in the way the run itself was finished: it comes from the store
    assert ("from the run store" in again.stdout) == (kind != "full")
    index = "artifacts/smoke/baselines/planted-small/none/item_rate/runs.json"
    assert json.loads((project.folder / index).read_text())["runs"]


def refusal(project, monkeypatch, *job):
    """The message with which `domain-experts train` ends."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("domain_experts.cli._set_threads", lambda threads: None)
    monkeypatch.setattr(sys, "argv", ["domain-experts", "train", *job, "--tier", "smoke"])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_missing_upstream_weights_are_named(planted, monkeypatch):
    said = refusal(planted, monkeypatch, "experts", "planted-small", "mlp", "experts")
    assert said.startswith("error: ")
    assert "backbones/planted-small/mlp/base/runs.json is missing; remove" in said


def test_a_job_that_params_do_not_ask_for(planted, monkeypatch):
    said = refusal(planted, monkeypatch, "baselines", "planted-small", "wdl", "mlora")
    assert said.startswith("error: ")
    assert "job of tier smoke 'baselines/planted-small/wdl/mlora' is unknown" in said
