"""A short part of scripts/faults.py: jobs killed within a write, and a disk that cannot be read."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import plain_yaml
import pytest
from killed import Fuse
from projects import ROOT
from safetensors import SafetensorError

from domain_experts.data.cut import write_splits
from domain_experts.data.prepare import prepare
from domain_experts.evaluation.evaluate import evaluate_dataset, merge
from domain_experts.files import replacing, write_json
from domain_experts.presence import load_study
from domain_experts.training import checkpoint
from domain_experts.training.job import execute

KILLS = 6


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A project of two jobs with its data."""
    folder = tmp_path_factory.mktemp("faults") / "my project"
    folder.mkdir()
    params = plain_yaml.read()
    main = params["experiments"]["main"]
    main |= {"backbones": ["mlp"], "arms": ["base", "moe_mlora_released"], "compare": []}
    params["experiments"] = {"main": main}
    few = {"training.max_epochs": 3, "training.batch_size": 512}
    params["tiers"]["smoke"] |= {"seeds": [2022], "set": few}
    plain_yaml.write(params, folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study = load_study("smoke")
        (dataset,) = study.datasets
        prepare(dataset, study.params.data.datasets[dataset])
        rule = study.params.data.split_rule(dataset)
        write_splits(rule, "smoke", dataset, study.seeds(dataset))
    return folder


def train():
    study = load_study("smoke")
    for job in study.jobs():
        execute(study, job, "cpu", 1)


def in_a_fork(function):
    """The exit status of a process that does it, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def trained(folder):
    patterns = ("*.npy", "*.safetensors", "record.json", "runs.json")
    found = [path for pattern in patterns for path in folder.glob(f"artifacts/**/{pattern}")]
    return {p.relative_to(folder): p.read_bytes() for p in found if not p.name.startswith(".new-")}


def test_jobs_killed_within_writes_end_the_same(prepared, tmp_path, monkeypatch):
    whole, folder, draws = tmp_path / "whole", tmp_path / "killed", random.Random(5)
    shutil.copytree(prepared, whole)
    monkeypatch.chdir(whole)
    train()
    expected = trained(whole)
    assert len(expected) == 10

    def train_until(steps, number):
        checkpoint.SECONDS_BETWEEN = 0.0
        fuse = Fuse()
        fuse.place()
        fuse.light(steps, number, group=False)
        train()

    kills = set()
    while len(kills) < KILLS:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(prepared, folder)
        monkeypatch.chdir(folder)
        while True:
            steps, number = draws.randint(1, 60), draws.choice([signal.SIGKILL, signal.SIGTERM])
            status = in_a_fork(lambda: train_until(steps, number))  # noqa: B023
            if status == 0:
                break
            assert status == -number
            kills.add((len(kills), steps))
        assert trained(folder) == expected


def test_results_that_were_killed_between_their_files_are_made_again(
    prepared, tmp_path, monkeypatch
):
    folder = tmp_path / "my project"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    train()
    study = load_study("smoke")
    evaluate_dataset(study, *study.datasets)
    merge(study)
    results = Path("results/smoke")
    expected = {path.name: path.read_bytes() for path in results.iterdir()}
    assert sorted(expected) == ["records.parquet", "results.parquet"]

    def merge_until(steps):
        fuse = Fuse()
        fuse.place()
        fuse.light(steps, signal.SIGKILL, group=False)
        merge(study)

    for step in range(1, 100):
        shutil.rmtree(results)
        if in_a_fork(lambda: merge_until(step)) == 0:  # noqa: B023
            break
        merge(study)
        found = {p.name: p.read_bytes() for p in results.iterdir() if p.name in expected}
        assert found == expected, step
    assert step > 10


def test_files_from_the_future_are_refused_with_the_way_out(finished, tmp_path):
    project = finished.copy(tmp_path / "my project")
    path = project.folder / "results/smoke/results.parquet"
    tomorrow = time.time() + 24 * 3600
    os.utime(path, (tomorrow, tomorrow))
    refused = project.snakemake("-n", check=False)
    assert refused.returncode == 1
    said = re.search(
        r"results/smoke/results.parquet is from the future.* `(find .*)`", refused.stdout
    )
    project.run("bash", "-c", said[1])
    assert path.stat().st_mtime < time.time()
    project.snakemake("-n")


def test_a_disk_that_cannot_be_read_ends_a_command_with_the_files_name(project, tmp_path):
    """As a broken sector does: a read fails, and the access of a mapped page ends the process."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    shim = tmp_path / "eio.so"
    source = ROOT / "scripts/eio.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    path = Path("data/interactions/planted-small/card.json")
    write_json(path, {"a": 1}, sealed=True)
    for command, said in (
        (("split", "planted-small"), f"error: {path}: Input/output error"),
        (("check",), f"DAMAGED: {path} cannot be read: Input/output error"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "domain_experts", *command, "--tier", "smoke"],
            env=os.environ | {"LD_PRELOAD": str(shim), "FAULTS_EIO": path.name},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_a_disk_that_is_full_is_said_of_the_file(tmp_path):
    path = tmp_path / "a.npy"
    said = "No space left"
    # as Python, numpy and safetensors say it
    for error in (OSError(28, said), OSError(said), SafetensorError(said)):
        with pytest.raises(OSError, match=rf"{said}: '{path}'"), replacing(path):
            raise error
    assert list(tmp_path.iterdir()) == []
