"""Whole temporary projects, run by the same commands that a user types."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import plain_yaml

from domain_experts import forks

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
TRACKED = (
    "workflow",
    "src",
    "claims",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
)

GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@b.c",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@b.c",
}


CLIENT = """#!{python}
import os, sys
os.environ["{address}"] = "{server}"
from domain_experts.forks import hand_over
sys.exit(hand_over(["{name}", *sys.argv[1:]]))
"""
"""A command that is a fork of `commands.py`."""
PYTHON = """#!/bin/sh
case "$1 $2" in
"-m snakemake" | "-m dvc") name=$2; shift 2; exec "$(dirname "$0")/$name" "$@" ;;
esac
exec "{python}" "$@"
"""
"""Python, by which the package starts those two."""

FORKS = "TESTS_FORKS"
"""Environment variable with the folder of the forks' servers, if workers of xdist share them."""
_STARTED = contextlib.ExitStack()


def start_forks(folder):
    """Start the processes that commands are forks of; `end_forks` ends them."""
    for name in ("commands.sock", "jobs.sock"):
        process = [sys.executable, Path(__file__).with_name("commands.py"), folder / name]
        _STARTED.callback(subprocess.Popen(process, stdin=subprocess.PIPE).communicate)
    for name in ("snakemake", "dvc"):
        values = {"address": forks.ADDRESS, "server": folder / "commands.sock", "name": name}
        _write_command(folder / name, CLIENT.format(python=sys.executable, **values))
    _write_command(folder / "python", PYTHON.format(python=sys.executable))


def _write_command(path, text):
    path.write_text(text)
    path.chmod(0o755)


@cache
def forked():
    """Folder of `snakemake` and `dvc` without the seconds in which they are imported.

    DVC calls Snakemake, and finds this one. Both, and the package's own commands, are forks of
    processes that `start_forks` starts, if no other one has.
    """
    if FORKS in os.environ:
        folder = Path(os.environ[FORKS])
    else:
        folder = Path(_STARTED.enter_context(tempfile.TemporaryDirectory(prefix="forks")))
        start_forks(folder)
    while not all((folder / name).is_socket() for name in ("commands.sock", "jobs.sock")):
        time.sleep(0.01)
    return folder


def end_forks():
    """End the processes that this one started for `forked`, if it did."""
    _STARTED.close()
    forked.cache_clear()


@dataclass(frozen=True)
class Project:
    """A project folder."""

    folder: Path

    def run(self, *command, check=True, **environment):
        """Run a command of this environment; its output and errors are one text."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("DOMAIN_EXPERTS_")}
        env |= GIT | {"PATH": os.pathsep.join(map(str, (forked(), BIN, env["PATH"])))}
        if "PYTHONPATH" not in environment:
            # of another package the jobs load their own
            env["SHARED_FORKS"] = env[forks.ADDRESS] = str(forked() / "jobs.sock")
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=env | environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done

    def snakemake(self, *arguments, tier="smoke", check=True, **environment):
        return self.run(
            "snakemake", "--config", f"tier={tier}", *arguments, check=check, **environment
        )

    def nothing_to_do(self, *arguments):
        return "Nothing to be done" in self.snakemake("-n", *arguments).stdout

    def planned(self, *arguments):
        """Rule to number of jobs, as a dry run tells."""
        lines = self.snakemake("-n", *arguments).stdout.splitlines()
        if "Job stats:" not in lines:
            return {}
        table = lines[lines.index("Job stats:") + 3 :]
        rows = (line.split() for line in table[: table.index("")])
        return {rule: int(count) for rule, count in rows if rule != "total"}

    def trained(self):
        """Indexes of the training jobs that a dry run names."""
        lines = self.snakemake("-n").stdout.splitlines()
        return [
            line.split()[1].removesuffix(":")
            for line in lines
            if line.startswith("train artifacts")
        ]

    def params(self):
        return plain_yaml.read(self.folder / "params.yaml")

    def write_params(self, params):
        plain_yaml.write(params, self.folder / "params.yaml")

    def set(self, key, value):
        """Change one setting; returns the value before."""
        params = self.params()
        *parents, last = key.split(".")
        node = params
        for parent in parents:
            node = node[parent]
        before, node[last] = node[last], value
        self.write_params(params)
        return before

    def copy(self, folder):
        """A copy of the project."""
        shutil.copytree(self.folder, folder)
        return Project(folder)

    def commit(self):
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "state")

    def read_results(self, folder, pattern):
        """Path to bytes of the files below a folder."""
        base = self.folder / folder
        return {path.relative_to(base): path.read_bytes() for path in sorted(base.rglob(pattern))}


def make_project(folder):
    """A copy of this project's tracked parts, under git."""
    for name in (*TRACKED, "params.yaml"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg*", "dvc.lock")
            )
        else:
            shutil.copy(source, target)
    project = Project(folder)
    project.run("git", "init", "-q")
    return project


def make_smallest(folder):
    """A project whose smoke tier is one backbone, one seed and the fewest arms of all phases."""
    project = make_project(folder)
    params = project.params()
    experiments = params["experiments"]
    experiments["main"] |= {
        "backbones": ["mlp"],
        "arms": ["item_rate", "base", "moe_mlora"],
        "compare": ["base"],
    }
    experiments["experts_per_domain"] |= {
        "backbones": ["mlp"],
        "vary": {"adapter.experts_per_domain": [1, 2]},
    }
    experiments["controls"] |= {
        "backbones": ["mlp"],
        "arms": ["uniform_gate"],
        "compare": ["base"],
    }
    kept = ("main", "experts_per_domain", "controls")
    params["experiments"] = {name: experiments[name] for name in kept}
    params["tiers"]["smoke"] |= {"seeds": [2022]}
    project.write_params(params)
    shutil.rmtree(folder / "claims")
    write_claim(folder)
    return project


def write_claim(folder):
    """A ledger of one claim, which any study with an experiment `main` can decide."""
    rule = {"kind": "gain", "experiments": ["main"], "arms": ["moe_mlora"], "over": "base"}
    rule |= {"expect": "better", "min_seeds": 1}
    claim = {"id": "pays", "says": "Experts pay, on any data.", "source": "here", "rule": rule}
    (folder / "claims").mkdir()
    plain_yaml.write({"paper": "Ours", "claims": [claim]}, folder / "claims/ours.yaml")
