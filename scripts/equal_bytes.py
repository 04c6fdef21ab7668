"""Show that changed code gives the bytes of earlier code, so that stored results stay current.

    python scripts/equal_bytes.py OLD_COMMIT [--cores N]

Every change of code that training imports changes the digests by which results are known to be
current, whether or not it changes a number. This script makes the smoke tier, widened by the
experiments of WIDER, under OLD_COMMIT and under the working tree, each in an empty folder, and
compares data, splits, searches and all that the seed determines of every run: weights, logits,
record. If any byte differs it names what does, and ends with 1. Else it rewrites EQUAL, in which
`domain_experts.digest` looks up what a code's digest counts as.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
EQUAL = Path("src/domain_experts/equal_code.yaml")
TARGETS = ("search", "backbones", "experts", "gates", "ablations", "baselines", "controls")
WIDER = {
    **dict.fromkeys(
        ("other_backbones", "gates", "switches", "rank", "new_domain"),
        "planted-small",
    ),
    **dict.fromkeys(("m3oe", "m3oe_released", "m3oe_ablations"), "planted-tasks-small"),
}
"""Experiments without runs in the smoke tier that are run nevertheless, and on which data."""
SEED = 2022
HEADER = """\
# Written by scripts/equal_bytes.py: codes that give the bytes of earlier codes.
#
# What is listed: the modules that make a run (or a search), the digest of their code and of all
# that they import, and the digest that it counts as (domain_experts.digest). Results that were
# made by the earlier code so stay current. As soon as any of that code changes again, its digest
# is another, no line has it, and its results are stale.
#
# The evidence: data, splits, searches, weights, logits and records of all runs of the smoke tier,
# and of some of each other experiment, were made by both codes on one machine and are equal byte
# by byte. A line is there only if every changed module that its code imports is imported by some
# of these runs. Its limit: generated data of a few thousand rows, on a CPU; a path that none of
# these runs takes was not compared.
"""
# runs under either code
DIGESTS = """
import hashlib, json
from domain_experts import digest
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.runs import Job
plain = getattr(digest, "plain_digest", digest.code_digest)
found = {}
for arm, spec in ARMS.items():
    family = [name for name, backbone in BACKBONES.items() if backbone.family == spec.family]
    for backbone in family if spec.backbone else [NO_BACKBONE]:
        modules = Job("", "", backbone, arm).modules
        for own in (modules, ("domain_experts.training.search", *modules)):
            found[" ".join(own)] = {
                "plain": plain(own),
                "counts_as": digest.code_digest(own),
                "files": {
                    path.as_posix(): hashlib.sha256(digest._code(digest.ROOT / path)).hexdigest()
                    for path in digest.source_files(own)
                },
                "jobs": found.get(" ".join(own), {}).get("jobs", []) + [[backbone, arm]],
            }
print(json.dumps(found))
"""


class Made(NamedTuple):
    """What a code made: checksums by name, the runs' backbones and arms, and its digests."""

    content: dict[str, str]
    jobs: set[tuple[str, str]]
    digests: dict[str, dict[str, Any]]


def main() -> int:
    """Compare, say what differs, and write the file if nothing does."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("old_commit", help="whose bytes the working tree should give")
    parser.add_argument("--cores", default="2")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old, new = Path(folder, "old"), Path(folder, "new")
        export(arguments.old_commit, old)
        copy_working_tree(new)
        before, after = (made(own, arguments.cores) for own in (old, new))
    if different := [*differences(before.content, after.content)]:
        print(*different, sep="\n")
        print(f"{len(different)} of {len(before.content | after.content)} differ")
        return 1
    equal, left_out = equal_codes(before, after)
    text = HEADER + yaml.safe_dump(equal, width=1000, default_flow_style=None)
    (ROOT / EQUAL).write_text(text)
    print(f"{len(after.content)} files of {len(after.jobs)} jobs are equal byte by byte")
    print(f"{EQUAL}: {len(equal)} codes count as earlier ones")
    for name, files in left_out.items():
        print(f"not listed: {name}: no run compared has {', '.join(files)}")
    return 0


def export(commit: str, folder: Path) -> None:
    """Write the files of a commit."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", commit, "src", "workflow", "params.yaml", "claims"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)


def copy_working_tree(folder: Path) -> None:
    """Copy what git would take of the working tree."""
    folder.mkdir()
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "-co",
            "--exclude-standard",
            "src",
            "workflow",
            "params.yaml",
            "claims",
        ],
        cwd=ROOT,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    # what its codes count as now is yet to be shown
    (folder / EQUAL).write_text("{}\n")


def made(folder: Path, cores: str) -> Made:
    """Run the widened smoke tier of the code in a folder."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for name, dataset in WIDER.items():
        experiment = params["experiments"].get(name)
        if experiment and "smoke" not in experiment["datasets"]:
            experiment["datasets"]["smoke"] = [dataset]
            experiment["seeds"] = experiment.get("seeds", {}) | {"smoke": [SEED]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    snakemake = [sys.executable, "-m", "snakemake", "--cores", cores, "--config", "tier=smoke"]
    subprocess.run([*snakemake, "--", *TARGETS], cwd=folder, env=environment, check=True)
    found = subprocess.run(
        [sys.executable, "-c", DIGESTS],
        cwd=folder,
        env=environment,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    indices = sorted((folder / "artifacts").rglob("runs.json"))
    return Made(
        dict(content(folder, indices)),
        {(path.parts[-3], path.parts[-2]) for path in indices},
        json.loads(found.stdout),
    )


def content(folder: Path, indices: list[Path]) -> Iterator[tuple[str, str]]:
    """Name and checksum of all that the seed determines."""
    for path in sorted((folder / "data").rglob("*.npy")):
        yield path.relative_to(folder).as_posix(), checksum(path.read_bytes())
    for path in sorted((folder / "results").rglob("search/**/*.json")):
        search = json.loads(path.read_text())
        del search["code"]
        # the file's checksum of itself, code included
        search.pop("seal", None)
        yield path.relative_to(folder).as_posix(), checksum(json.dumps(search).encode())
    for index in indices:
        for run in json.loads(index.read_text())["runs"]:
            for name, listed in run["files"].items():
                file = index.parents[4] / run["path"] / name
                if checksum(file.read_bytes()) != listed:
                    raise SystemExit(f"{file} is not what {index} lists")
                yield f"{run['path']}/{name}", listed


def checksum(data: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(data).hexdigest()


def differences(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """What differs, and what only one of the two has."""
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"only the earlier code makes {name}"
        elif name not in before:
            yield f"only the present code makes {name}"
        elif before[name] != after[name]:
            yield f"differs: {name}"


def equal_codes(before: Made, after: Made) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Of the codes that changed: digest and what it counts as, and changed files not compared."""
    compared = {
        path
        for own in after.digests.values()
        if any(tuple(job) in after.jobs for job in own["jobs"])
        for path in own["files"]
    }
    equal, left_out = {}, {}
    for name, now in after.digests.items():
        earlier = before.digests.get(name)
        if earlier is None or earlier["counts_as"] == now["plain"]:
            continue
        files = now["files"].items() ^ earlier["files"].items()
        unseen = sorted({path for path, _ in files} & now["files"].keys() - compared)
        if unseen:
            left_out[name] = unseen
        else:
            equal[name] = [now["plain"], earlier["counts_as"]]
    return equal, left_out


if __name__ == "__main__":
    sys.exit(main())
