"""Several processes that train one run together: what one process makes, and no file twice."""

import dataclasses
import json
import os
import signal
import socket
import sys
import traceback

import numpy as np
import pytest
import torch
from assignments import params, train
from torch import nn

from domain_experts.errors import UserError
from domain_experts.params import Params
from domain_experts.study import Study
from domain_experts.training import job
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.job import execute, record_of
from domain_experts.training.launch import launch, launched, share_of
from domain_experts.training.loop import Trainer
from domain_experts.training.progress import Progress
from domain_experts.training.ranks import Ranks, joined


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(size, work):
    """Fork that many ranks, each of which does `work(ranks)`; their process ids."""
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(free_port()), WORLD_SIZE=str(size))
    ids = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os.environ["RANK"] = str(rank)
            status = 1
            try:
                with joined(size, "cpu") as ranks:
                    work(ranks)
                status = 0
            except UserError as error:
                print(f"error: {error}", flush=True)
                status = 3
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        ids.append(child)
    return ids


def ends(ids):
    """Exit statuses of processes."""
    return [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in ids]


def made(assignment):
    """Weights and logits of a training, and its record."""
    outcome = train(assignment)
    logits = {f"logits/{split}": values for split, values in outcome.logits.items()}
    return dict(outcome.state) | logits, json.loads(json.dumps(record_of(assignment, outcome)))


def together(assignment, folder, size=2):
    """The same of each of several ranks."""

    def work(ranks):
        arrays, record = made(dataclasses.replace(assignment, ranks=ranks))
        np.savez(
            folder / f"{ranks.rank}.npz", **{n.replace("/", "|"): a for n, a in arrays.items()}
        )
        (folder / f"{ranks.rank}.json").write_text(json.dumps(record))

    folder.mkdir(exist_ok=True)
    assert ends(start(size, work)) == [0] * size
    found = []
    for rank in range(size):
        with np.load(folder / f"{rank}.npz") as arrays:
            by_name = {name.replace("|", "/"): arrays[name] for name in arrays}
        found.append((by_name, json.loads((folder / f"{rank}.json").read_text())))
    return found


def anew(assignment, folder):
    """The same, with no checkpoint yet."""
    folder.mkdir()
    timer = assignment.checkpoint.timer
    own = Checkpoint(folder / "checkpoint.safetensors", "k", timer)
    return dataclasses.replace(assignment, checkpoint=own, progress=Progress("t"))


def assert_same(alone, other, tolerance):
    arrays, record = alone
    assert arrays.keys() == other[0].keys()
    for name, values in arrays.items():
        np.testing.assert_allclose(other[0][name], values, rtol=0, atol=tolerance, err_msg=name)
    assert record.keys() == other[1].keys()
    for one, two in zip(record["curve"], other[1]["curve"], strict=True):
        for key, value in one.items():
            if isinstance(value, float):
                assert two[key] == pytest.approx(value, abs=1e-3 if tolerance > 1e-6 else 1e-7)
            else:
                assert two[key] == value, (key, one, two)
    for key in record.keys() - {"curve", "gate"}:
        assert other[1][key] == record[key], key


CASES = {
    "mixed batches": ("base", "wdl", {}),
    "rows of tables": ("base", "deepfm", {"training.optimizer": "lazy_adam"}),
    # one process has no row of the last batch
    "a batch of one row": ("base", "mlp", {"training.batch_size": 1439}),
    "masks of rows by expert": ("mlora", "mlp", {"protocol.loss": "balanced"}),
    "lanes": ("experts", "mlp", {}),
    "gate": ("moe_mlora", "mlp", {"gate.top_k": 2, "gate.noise": True}),
    "one best of all legs": ("moe_mlora_released", "mlp", {"training.max_epochs": 1}),
    "passes over domains": ("mamdr", "mlp", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_ranks_make_what_one_process_makes(make_assignment, interactions, tmp_path, float64, name):
    """In float64, so that only true differences show."""
    arm, backbone, changed = CASES[name]
    data = interactions
    if name == "mixed batches":
        weight = np.random.default_rng(0).random(len(data.domain), np.float32)
        data = dataclasses.replace(data, weight=weight)
    changed = {"training.max_epochs": 2, **changed}
    assignment = make_assignment(arm, data=data, backbone=backbone, **changed)
    alone = made(assignment)
    first, second = together(anew(assignment, tmp_path / "anew"), tmp_path / "ranks")
    assert_same(alone, first, 1e-7)
    assert_same(alone, second, 1e-7)
    assert len(first[1]["curve"]) > 1


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_weights_are_those_of_one_process_to_5_digits(make_assignment, tmp_path, optimizer):
    changed = {"training.optimizer": optimizer, "training.max_epochs": 1}
    assignment = make_assignment("base", backbone="wdl", **changed)
    alone = made(assignment)
    first, second = together(anew(assignment, tmp_path / "anew"), tmp_path / "ranks")
    assert_same(alone, first, 1e-5)
    for name, values in first[0].items():
        assert np.array_equal(values, second[0][name]), "the ranks themselves hold the same"


@pytest.mark.parametrize("arm", ["base", "experts"])
def test_a_rank_that_is_killed_ends_the_others_and_the_run_goes_on(
    make_assignment, tmp_path, capfd, monkeypatch, arm
):
    """Killed after its second epoch, in a leg of shared batches as in one of lanes of its own."""
    assignment = make_assignment(arm, **{"training.max_epochs": 4, "training.patience": 9})
    whole = together(anew(assignment, tmp_path / "whole"), tmp_path / "results")
    cut = anew(assignment, tmp_path / "cut")
    report = Trainer._report

    def killed(self, *args):
        report(self, *args)
        # in the files of what follows, the first rank has saved its epoch
        if os.environ["RANK"] == "1" and args[1] == 2:
            if arm == "experts":
                self._save(f"{args[0]}/0", args[1])
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Trainer, "_report", killed)

    def work(ranks):
        train(dataclasses.replace(cut, ranks=ranks))

    assert ends(start(2, work)) == [3, -signal.SIGKILL]
    said = capfd.readouterr().out
    assert "another process that trains this run together with this one has ended" in said
    assert "run again: the run goes on from its last checkpoint" in said
    monkeypatch.undo()
    again = together(cut, tmp_path / "again")
    assert "goes on after validation" in capfd.readouterr().err
    for one, other in zip(whole, again, strict=True):
        assert one[1] == other[1]
        for name, values in one[0].items():
            assert np.array_equal(values, other[0][name]), name


def test_lanes_are_trained_by_one_rank_each(make_assignment, tmp_path, monkeypatch):
    """The largest is dealt first, and nothing is exchanged while they train."""
    step, seen = Trainer._step, tmp_path / "seen"

    def spy(self, lanes, *args):
        assert self.ranks.size == 1
        with (seen / os.environ["RANK"]).open("a") as file:
            file.writelines(f"{lane.name}\n" for lane in lanes)
        return step(self, lanes, *args)

    seen.mkdir()
    assignment = make_assignment("experts")
    monkeypatch.setattr(Trainer, "_step", spy)
    together(assignment, tmp_path / "ranks")
    of_rank = [{*(seen / rank).read_text().split()} for rank in "01"]
    domain = np.asarray(assignment.interactions.domain)[assignment.index("train")]
    largest = str(np.bincount(domain).argmax())
    assert of_rank == [{largest}, {"0", "1", "2"} - {largest}]


@pytest.mark.parametrize(
    ("sizes", "size", "owner"),
    [([5], 3, [0]), ([1, 9, 3, 3, 2], 2, [1, 0, 1, 1, 1]), ([2, 2, 2], 3, [0, 1, 2])],
)
def test_lanes_are_dealt_out_evenly(sizes, size, owner):
    assert Ranks(0, size).share(sizes) == owner


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_are_all_rows_once(rows, size):
    """But for the row that a rank without any takes, too."""
    parts = [np.arange(rows)[Ranks(rank, size).part(rows)] for rank in range(size)]
    assert {*np.concatenate(parts).tolist()} == {*range(rows)}
    lengths = [len(part) for part in parts]
    if rows >= size:
        assert sum(lengths) == rows
        assert max(lengths) - min(lengths) <= 1


def test_gradients_add_up(tmp_path):
    """Dense and sparse ones, and such as only one rank has."""

    def work(ranks):
        dense, other, none = (nn.Parameter(torch.zeros(2)) for _ in range(3))
        table, wide = nn.Parameter(torch.zeros(5, 2)), nn.Parameter(torch.zeros(9, 1))
        dense.grad = torch.tensor([1.0, 10.0]) * (ranks.rank + 1)
        if ranks.rank == 1:
            other.grad = torch.ones(2)
        for p, ids in ((table, [0, 4, 4] if ranks.rank else [4]), (wide, [8] * (1 + ranks.rank))):
            values = torch.ones(len(ids), p.shape[1])
            p.grad = torch.sparse_coo_tensor([ids], values, p.shape, check_invariants=False)
        ranks.add_gradients([dense, table, other, none, wide])
        assert dense.grad.tolist() == [3.0, 30.0]
        assert other.grad.tolist() == [1.0, 1.0]
        assert none.grad is None
        assert table.grad.to_dense()[:, 0].tolist() == [1.0, 0.0, 0.0, 0.0, 3.0]
        assert wide.grad.is_sparse
        assert wide.grad.to_dense()[8].tolist() == [3.0]
        assert ranks.told({"rank": ranks.rank, "text": "é" * ranks.rank}) == [
            {"rank": 0, "text": ""},
            {"rank": 1, "text": "é"},
        ]

    assert ends(start(2, work)) == [0, 0]


def test_a_launched_process_that_ends_badly_is_named(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["domain-experts", "no-such-command"])
    with pytest.raises(UserError, match=r"process [01] of the 2 .* ended with status 2, .* again"):
        launch(2)
    assert "No such command" in capfd.readouterr().err


def of_many(processes, **changed):
    """The smoke tier where so many processes are to train together, and one of its jobs by arm."""
    values = params().model_dump()
    values["processes"] = processes
    values["tiers"]["smoke"]["set"] = changed
    study = Study(Params.model_validate(values), "smoke")
    jobs = {job.arm: job for job in study.jobs() if job.backbone in ("mlp", "none")}
    return study, jobs


@pytest.mark.parametrize(
    ("arm", "able"),
    [("base", True), ("experts", True), ("star", False), ("lightgbm", False), ("mdmt", False)],
)
def test_what_several_processes_can_train(arm, able):
    study, _ = of_many(3)
    assert study.processes(arm) == (3 if able else 1)


@pytest.mark.parametrize(
    ("arm", "started", "changed", "said"),
    [
        ("base", 2, {}, "2 processes were started, but base is to be trained in 3"),
        ("item_rate", 3, {}, "3 processes were started, but item_rate is to be trained in 1"),
        ("moe_mlora", 3, {"gate.variance": 0.1}, "gate.variance is 0.1, which needs all rows"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(arm, started, changed, said):
    """Before data are looked for."""
    study, jobs = of_many(3, **changed)
    with pytest.raises(UserError, match=said) as refused:
        execute(study, jobs[arm], "cpu", 1, started)
    assert "`processes` in params.yaml" in str(refused.value)


def test_the_number_of_processes_is_part_of_a_key(interactions, monkeypatch):
    monkeypatch.setattr(job, "sha256", lambda path: "split")
    made = {}
    for processes in (1, 2):
        study, jobs = of_many(processes)
        data = dataclasses.replace(interactions, card={"content": "data"})
        bench = job.Bench(study, data, "cpu", 1)
        for arm in ("base", "item_rate"):
            made[arm, processes] = bench.made_of(study.runs_of(jobs[arm])[0])
    assert made["base", 2] == made["base", 1] | {"processes": 2}
    assert made["item_rate", 1] == made["item_rate", 2]


def test_threads_are_shared_out(monkeypatch):
    assert (launched(), share_of(4)) == (1, 4)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": 6, "LOCAL_WORLD_SIZE": 3}.items():
        monkeypatch.setenv(name, str(value))
    assert (launched(), share_of(6), share_of(2)) == (6, 2, 1)
