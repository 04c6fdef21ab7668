"""Killed at any point, run again: the same bytes as without the kill."""

import dataclasses
import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
from assignments import CTR_ARMS, SET, train
from projects import BIN, make_smallest

from domain_experts.training.checkpoint import SECONDS_BETWEEN, Timer
from domain_experts.training.job import record_of
from domain_experts.training.loop import Trainer
from domain_experts.training.progress import Progress

TARGET = "artifacts/smoke/backbones/planted-small/mlp/base"
METRICS = f"{TARGET}/default/seed=2022/record.json"
SECONDS = 60


class Crash(Exception):
    """Stands for the end of the process."""


# rates, the uniform gate and what is put together have no epoch to go on from; trees start afresh,
# as they are grown in seconds
UNTRAINED = {
    *("item_rate", "user_item_rate", "lightgbm"),
    *("uniform_gate", "moe_mlora_refit", "mean_crossfit"),
}


# an epoch of a few steps is as good to go on from as one of many
FEW_STEPS = {"training.batch_size": 256, "multi_model.autoifs.batch_size": 256}


@pytest.mark.parametrize("arm", [arm for arm in CTR_ARMS if arm not in UNTRAINED])
def test_every_arm_goes_on_from_any_epoch(make_assignment, monkeypatch, arm):
    experts = 1 if arm in ("mlora_gated", "moe_mlora_from_mlora") else 2
    changed = {"training.learning_rate": 0.02, "adapter.experts_per_domain": experts}
    goes_on_from_any_epoch(make_assignment(arm, **changed, **FEW_STEPS), monkeypatch)


# the released arms differ from these in settings alone; mdmt's is the one whose scalars have two
# optimisers
@pytest.mark.parametrize(
    ("arm", "order"),
    [("single", 1), ("mtl", 1), ("mdl", 1), ("mdmt", 1), ("mdmt", 2), ("mdmt_released", 1)],
)
def test_every_arm_of_m3oe_goes_on_from_any_epoch(
    make_assignment, multi_interactions, monkeypatch, arm, order
):
    changed = {
        "training.learning_rate": 0.02,
        "protocol.upper_learning_rate": 0.05,
        "protocol.upper_order": order,
        "multi_model.m3oe.tower_norm": "batch" if order == 2 else "layer",
    }
    assignment = make_assignment(
        arm, data=multi_interactions, backbone="m3oe", **changed, **FEW_STEPS
    )
    goes_on_from_any_epoch(assignment, monkeypatch)


def test_autoifs_goes_on_from_any_epoch(make_assignment, multi_interactions, monkeypatch):
    assignment = make_assignment("autoifs", data=multi_interactions, **FEW_STEPS)
    goes_on_from_any_epoch(assignment, monkeypatch)


@pytest.mark.parametrize(
    ("arm", "backbone"), [("moe_mlora_sequence", "wdl"), ("mdmt", "m3oe"), ("autoifs", "none")]
)
def test_lazy_adam_goes_on_from_any_epoch(
    make_assignment, interactions, multi_interactions, monkeypatch, arm, backbone
):
    data = interactions if backbone == "wdl" else multi_interactions
    changed = {"training.optimizer": "lazy_adam", "protocol.upper_order": 2}
    assignment = make_assignment(arm, data=data, backbone=backbone, **changed, **FEW_STEPS)
    goes_on_from_any_epoch(assignment, monkeypatch)


def goes_on_from_any_epoch(assignment, monkeypatch):
    whole = train(assignment)
    forget(assignment)
    save = Trainer._save
    crashes = 0

    def save_and_crash(self, *args):
        save(self, *args)
        raise Crash

    monkeypatch.setattr(Trainer, "_save", save_and_crash)
    while True:
        try:
            parts = train(assignment)
            break
        except Crash:
            crashes += 1
    # the lanes of the experts' own job share their epochs, or those of a fold do
    arm, domains = assignment.run.arm, 3
    shared = {
        **dict.fromkeys(("experts", "oracle_experts", "experts_held_out"), 100),
        **{"experts_from_mlora": domains, "experts_crossfit": domains},
    }.get(arm, 1)
    epochs = {
        (c["phase"], c["lane"] if c["phase"] != "experts" else int(c["lane"]) // shared, c["epoch"])
        for c in whole.curve
        if c["epoch"]
    }
    assert crashes == len(epochs) > 1
    assert parts.curve == whole.curve
    assert parts.state.keys() == whole.state.keys()
    for name, weight in whole.state.items():
        assert np.array_equal(weight, parts.state[name]), name
    for split, logits in whole.logits.items():
        assert np.array_equal(logits, parts.logits[split])


def forget(assignment):
    for part in assignment.checkpoint.path.parent.iterdir():
        part.unlink()


class Clock:
    """Has passed the time between checkpoints at every third look."""

    looks = 0

    def __call__(self):
        return self.looks // 3 * SECONDS_BETWEEN


@pytest.mark.parametrize(
    ("arm", "backbone"),
    [("moe_mlora_released", "wdl"), ("domain_finetune", "mlp"), ("mtl", "m3oe")],
)
def test_a_run_that_is_saved_now_and_then_goes_on_from_there(
    make_assignment, interactions, multi_interactions, monkeypatch, arm, backbone
):
    """Killed after any of its epochs, in whatever leg or model, it ends the same."""
    data = multi_interactions if backbone == "m3oe" else interactions
    changed = {"training.learning_rate": 0.02, **FEW_STEPS}
    assignment = make_assignment(arm, data=data, backbone=backbone, **changed)
    expected = json.dumps(record_of(assignment, train(assignment)))
    end = Trainer._report
    epochs, saved = [], []

    def count(self, *args):
        end(self, *args)
        clock.looks += 1
        if len(epochs) == kill_after:
            raise Crash
        epochs.append(args)

    monkeypatch.setattr(Trainer, "_report", count)
    kill_after = 0
    while True:
        forget(assignment)
        clock = Clock()
        own = dataclasses.replace(assignment.checkpoint, timer=Timer(clock))
        assignment = dataclasses.replace(assignment, checkpoint=own, progress=Progress("t"))
        epochs.clear()
        try:
            train(assignment)
            break
        except Crash:
            kill_after += 1
        saved.append(len(list(own.path.parent.iterdir())))
        crash_at, kill_after = kill_after, None
        made = train(dataclasses.replace(assignment, progress=Progress("t")))
        assert json.dumps(record_of(assignment, made)) == expected
        kill_after = crash_at
    assert kill_after > 5
    assert saved[0] == 0, "a run killed early has no checkpoint, and starts afresh"
    assert saved[-1] > 0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A project whose base run takes some seconds, and that run's metrics."""
    project = make_smallest(tmp_path_factory.mktemp("whole") / "my project")
    project.set("tiers.smoke.set", SET | {"training.max_epochs": 40, "training.patience": 40})
    project.snakemake("--cores", "2", "--", "split")
    kept = project.copy(project.folder.parent / "prepared")
    project.snakemake("--cores", "2", "--", f"{TARGET}/runs.json")
    return kept, (project.folder / METRICS).read_bytes()


@pytest.fixture
def started(prepared, tmp_path):
    """A copy of the project in which Snakemake is training; (project, process, metrics)."""
    source, metrics = prepared
    folder = tmp_path / "my project"
    project = source.copy(folder)
    process = subprocess.Popen(
        ["snakemake", "--cores", "2", "--config", "tier=smoke", "--", f"{TARGET}/runs.json"],
        cwd=folder,
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **fast_clock(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with killed_at_the_end(process):
        wait_for(lambda: list(folder.glob(".runs/*/checkpoint.safetensors")))
        assert not (folder / METRICS).exists()
        yield project, process, metrics


def fast_clock(folder):
    """Environment in which a training process thinks that time flies, so that it saves often."""
    (folder / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if 'train' in sys.orig_argv:\n"
        "    now = time.monotonic\n"
        "    time.monotonic = lambda: 1000 * now()\n"
    )
    return {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


@contextmanager
def killed_at_the_end(process):
    group = os.getpgid(process.pid)
    try:
        yield
    finally:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return
        process.wait()


def wait_for(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def trainer_of(process):
    """The training process below Snakemake."""
    (found,) = (
        p for p in psutil.Process(process.pid).children(recursive=True) if "train" in p.cmdline()
    )
    return found


def finish(project):
    return project.snakemake("--cores", "2", "--", f"{TARGET}/runs.json").stdout


def test_kill_of_the_training_process(started):
    project, process, metrics = started
    trainer_of(process).kill()
    assert process.wait() != 0
    assert "goes on after validation" in finish(project)
    assert (project.folder / METRICS).read_bytes() == metrics


def test_kill_of_snakemake_alone(started):
    project, process, metrics = started
    trainer = trainer_of(process)
    trainer.suspend()
    process.kill()
    process.wait()
    refused = project.run("domain-experts", "unlock", check=False)
    assert refused.returncode != 0
    assert f"process {trainer.pid} is training this run" in refused.stdout
    second = project.run(
        *("domain-experts", "train", "backbones", "planted-small", "mlp", "base"),
        *("--tier", "smoke"),
        check=False,
    )
    assert second.returncode != 0
    assert f"process {trainer.pid} is training this run" in second.stdout
    assert "Traceback" not in second.stdout
    trainer.resume()
    wait_for(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)
    locked = project.snakemake("--cores", "2", "--", f"{TARGET}/runs.json", check=False)
    assert "LockException" in locked.stdout
    project.run("domain-experts", "unlock")
    assert "from the run store" in finish(project), "the child's run is in the store"
    assert (project.folder / METRICS).read_bytes() == metrics


def test_kill_of_the_whole_group(started):
    project, process, metrics = started
    os.killpg(os.getpgid(process.pid), signal.SIGKILL)
    process.wait()
    project.run("domain-experts", "unlock")
    assert "goes on after validation" in finish(project)
    assert (project.folder / METRICS).read_bytes() == metrics


def test_a_third_seed_trains_its_own_runs_only(prepared, tmp_path):
    source, _ = prepared
    project = source.copy(tmp_path / "p")
    values = project.params()
    values["tiers"]["smoke"]["set"]["training.max_epochs"] = 2
    for seeds, trained in (([1, 2], 2), ([1, 2, 3], 1), ([1, 3], 0)):
        values["tiers"]["smoke"]["seeds"] = seeds
        project.write_params(values)
        assert finish(project).count("validation AUC") == trained
        index = json.loads((project.folder / TARGET / "runs.json").read_text())
        assert [entry["path"][-1] for entry in index["runs"]] == [str(seed) for seed in seeds]
