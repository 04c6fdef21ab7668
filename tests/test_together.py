"""Several processes that train one run together: what one process makes, and no file twice."""

import dataclasses
import json
import os
import socket
import traceback

import numpy as np
import pytest
from assignments import train

from domain_experts.errors import UserError
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.job import record_of
from domain_experts.training.progress import Progress
from domain_experts.training.ranks import joined


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
    "one best of all legs": ("moe_mlora_released", "mlp", {}),
    "one optimiser of all legs": ("moe_mlora_sequence", "mlp", {"protocol.fresh_optimizer": False}),
    "passes over domains": ("mamdr", "mlp", {"training.max_epochs": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_ranks_make_what_one_process_makes(make_assignment, interactions, tmp_path, float64, name):
    """In float64, so that only true differences show."""
    arm, backbone, changed = CASES[name]
    data = interactions
    if name == "mixed batches":
        weight = np.random.default_rng(0).random(len(data.domain), np.float32)
        data = dataclasses.replace(data, weight=weight)
    assignment = make_assignment(arm, data=data, backbone=backbone, **changed)
    alone = made(assignment)
    first, second = together(anew(assignment, tmp_path / "anew"), tmp_path / "ranks")
    assert_same(alone, first, 1e-7)
    assert_same(alone, second, 1e-7)
    assert len(first[1]["curve"]) > 2


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_weights_are_those_of_one_process_to_5_digits(make_assignment, tmp_path, optimizer):
    changed = {"training.optimizer": optimizer, "training.max_epochs": 1}
    assignment = make_assignment("base", backbone="wdl", **changed)
    alone = made(assignment)
    first, second = together(anew(assignment, tmp_path / "anew"), tmp_path / "ranks")
    assert_same(alone, first, 1e-5)
    for name, values in first[0].items():
        assert np.array_equal(values, second[0][name]), "the ranks themselves hold the same"
