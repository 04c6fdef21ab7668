"""What a machine that stops at any moment leaves: old files, new files, never half of one.

A copy of the folder is taken whenever a file is synchronised or renamed, with what was not yet
synchronised lost; each copy is opened as the next process would.
"""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from common import to_disk
from test_interactions import changed

from domain_experts import files, layout
from domain_experts.data.cut import write_splits
from domain_experts.data.interactions import Interactions, write
from domain_experts.data.specs import SplitRule
from domain_experts.data.split import read_split
from domain_experts.errors import UserError
from domain_experts.files import read_json, replacing, write_json, write_text
from domain_experts.results import read, table
from domain_experts.results import write as write_results
from domain_experts.serving.model import SavedModel
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.store import Entry


class Machine:
    """Copies of a folder as a loss of power would leave it, at each step that a process takes."""

    def __init__(self, root, copies, monkeypatch):
        self.root, self.folder, self.copies, self.safe = root, copies, [], {}
        for path in root.rglob("*"):
            if path.is_file():
                self.safe[path.stat().st_ino] = path.read_bytes()
        move = Path.replace

        def fsync(handle):
            self.copy()
            file = Path(f"/proc/self/fd/{handle}")
            if file.is_file():
                self.safe[os.fstat(handle).st_ino] = file.read_bytes()
            self.copy()

        def replaced(path, target):
            self.copy()
            found = move(path, target)
            self.copy()
            return found

        monkeypatch.setattr(files, "_to_disk", to_disk)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replaced)

    def copy(self):
        """The names that are there; of each file what was synchronised, else nothing."""
        target = self.folder / str(len(self.copies))
        shutil.copytree(self.root, target, copy_function=self._kept)
        self.copies.append(target)

    def _kept(self, source, target):
        Path(target).write_bytes(self.safe.get(Path(source).stat().st_ino, b""))


@pytest.fixture
def machine(project, tmp_path, monkeypatch):
    """Start to watch the current folder: `machine()` returns a Machine."""
    return lambda: Machine(project, tmp_path / "copies", monkeypatch)


def states(machine, monkeypatch, look):
    """What the next process finds in each copy."""
    found = []
    for copy in machine.copies:
        with monkeypatch.context() as here:
            here.chdir(copy)
            found.append(look())
    return found


def in_order(found, *allowed):
    """Whether states follow each other as allowed, each a number of times, the last one last."""
    seen = [state for i, state in enumerate(found) if i == 0 or found[i - 1] != state]
    assert seen == [state for state in allowed if state in seen], seen
    assert seen[-1] == allowed[-1]


def missing(use):
    """What a function gives, or `missing` if it says so and how to make it."""
    try:
        return use()
    except UserError as error:
        assert "is missing; run " in str(error), error
        return "missing"


@pytest.mark.parametrize("kind", ["text", "json", "results", "checkpoint"])
def test_a_single_file_is_the_old_or_the_new_one(machine, monkeypatch, kind):
    path = Path("a.parquet" if kind == "results" else "a")

    def put(number):
        if kind == "text":
            write_text(path, str(number))
        elif kind == "json":
            write_json(path, {"number": number}, sealed=True)
        elif kind == "checkpoint":
            Checkpoint(path, "key").save({"w": torch.full((3,), number)}, {})
        else:
            row = {"run": "r", "dataset": "d", "metric": "auc", "value": number}
            write_results(table([row | {"seed": 1, "split_seed": 1, "status": "current"}]), path)

    def get():
        if kind == "text":
            return int(path.read_text())
        if kind == "json":
            return read_json(path, "")["number"]
        if kind == "checkpoint":
            return int(Checkpoint(path, "key").load()[0]["w"][0])
        return int(read(path)["value"][0])

    put(1)
    watched = machine()
    put(2)
    in_order(states(watched, monkeypatch, get), 1, 2)
    assert len(watched.copies) >= 6


def test_a_file_that_is_not_synchronised_would_be_half(project, machine, monkeypatch):
    """The machine of these tests can fail: without fsync it finds an empty file."""
    write_text(Path("a"), "old")
    watched = machine()
    monkeypatch.setattr(files, "_to_disk", lambda path: None)
    with replacing(Path("a")) as temporary:
        temporary.write_text("new")
    assert "" in states(watched, monkeypatch, Path("a").read_text)


def test_interactions_are_the_old_ones_the_new_ones_or_missing(interactions, machine, monkeypatch):
    folder = layout.interactions("planted-small")
    write(interactions, folder, {})
    old = Interactions.open(folder).card["content"]
    new = changed(interactions, "labels", 0, 1 - interactions.labels[0, 0])
    watched = machine()
    write(new, folder, {})
    now = Interactions.open(folder).card["content"]
    look = lambda: missing(lambda: Interactions.open(folder).card["content"])  # noqa: E731
    in_order(states(watched, monkeypatch, look), old, "missing", now)


def test_splits_are_whole_or_refused(interactions, machine, monkeypatch):
    """A split that was drawn anew does not fit the old index, which says how to go on."""
    write(interactions, layout.interactions("toy"), {})
    rule = SplitRule(rule="stratified", validation_fraction=0.2, test_fraction=0.2)
    write_splits(rule, "smoke", "toy", [1, 2])
    before = read_split("smoke", "toy", 1).tolist()
    watched = machine()
    other = rule.model_copy(update={"test_fraction": 0.3})
    write_splits(other, "smoke", "toy", [1, 2])
    after = read_split("smoke", "toy", 1).tolist()

    def look():
        try:
            return read_split("smoke", "toy", 1).tolist()
        except UserError as error:
            assert "run `domain-experts split toy --tier smoke`" in str(error)
            return "split again"

    in_order(states(watched, monkeypatch, look), before, "split again", after)


def test_an_entry_of_the_store_is_finished_whole_or_not_at_all(machine, monkeypatch):
    entry = Entry("a" * 64)
    watched = machine()
    with files.together():
        for name in ("model", "record.json", "test.npy"):
            with replacing(entry.folder / name) as temporary:
                temporary.write_bytes(name.encode())
    entry.finish(["model", "record.json", "test.npy"])
    found = states(watched, monkeypatch, lambda: tuple(entry.finished() or ()))
    in_order(found, (), ("model", "record.json", "test.npy"))


def test_a_published_file_is_whole(machine, monkeypatch):
    entry, folder = Entry("a" * 64), Path("artifacts")
    write_text(entry.folder / "model", "weights" * 99)
    watched = machine()
    entry.publish("model", folder)
    look = lambda: (folder / "model").read_text() if (folder / "model").exists() else None  # noqa: E731
    in_order(states(watched, monkeypatch, look), None, "weights" * 99)


def test_a_saved_model_is_the_old_one_the_new_one_or_aside(trained, machine, monkeypatch):
    folder = Path("model")
    first = trained.model("base")
    first.save(folder)
    watched = machine()
    replace(first, card="# Another\n").save(folder)

    def look():
        if not folder.exists():
            (aside,) = Path().glob(".new-model.*/model-before")
            return SavedModel.load(aside).card + "aside"
        return SavedModel.load(folder).card

    in_order(states(watched, monkeypatch, look), "# Card\n", "# Card\naside", "# Another\n")


WRITES = re.compile(
    r"""\.write_(text|bytes)\(|to_(parquet\(|csv\((?!index))|open\("[wax]|np\.save\(|save_file\(|"""
    r"""pq\.write_table\(|json\.dump\(|os\.(rename|replace)\("""
)
ELSEWHERE = {
    "data/archive.py": "into a new folder, which is moved",
    "data/interactions.py": "into a new folder, which is moved",
    "data/log/writer.py": "into a new folder, which is moved",
    "data/recbole_cdr.py": "into a new folder, which is moved",
    "training/progress.py": "a note for the eye while a workflow runs",
    "training/store.py": "a note for the eye while a process holds an entry",
}


def test_all_that_the_package_writes_goes_through_one_place():
    source, found = Path(files.__file__).parent, set()
    for path in source.rglob("*.py"):
        inside: int | None = None
        for line in path.read_text().splitlines():
            depth = len(line) - len(line.lstrip())
            if line.strip() and inside is not None and depth <= inside:
                inside = None
            if "with replacing(" in line:
                inside = depth
            if WRITES.search(line) and inside is None:
                found.add(path.relative_to(source).as_posix())
    assert found == set(ELSEWHERE)
