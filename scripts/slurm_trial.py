"""Tries the workflow on a Slurm cluster, and keeps what it said in results/cluster/*.txt.

    sudo scripts/slurm_here.sh start
    python scripts/slurm_trial.py [smoke] [scheduling] [faults]

`smoke`: the smoke tier by Slurm has the bytes of the same by this machine alone. `scheduling`: of
many short runs, the share of the time that is not theirs. `faults`: a run killed by its time limit,
by memory, by a more urgent job, or left alone by a controller that starts again, goes on from its
checkpoint to the bytes of a run that nothing happened to.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from filecmp import cmp
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results/cluster"
PROFILE = ("--workflow-profile", str(ROOT / "workflow/profiles/slurm"))
HERE = ROOT / "scripts/slurm_here.sh"
RUNS, SECONDS, TOGETHER = 500, 2, 125
"""Short runs, how long each takes, and how many go in one submission."""
SHORT = f"""
rule all:
    input:
        [f"done/{{n}}" for n in range({RUNS})],


rule run:
    output:
        "done/{{n}}",
    group:
        "training"
    shell:
        "sleep {SECONDS}; touch {{output}}"
"""
JOB = "backbones/trial/wdl/base"
INDEX = f"artifacts/smoke/{JOB}/runs.json"
RUN = f"{JOB}/default/seed=2022"
QUEUE = "%.14j %.8i %.9P %.10T %.8M %.6C %.8m"
COLUMNS = "JobID,Partition,AllocCPUS,ReqMem,Timelimit,State,ExitCode,Elapsed"


class Transcript:
    """One file of results, written line by line, without the names of this machine."""

    def __init__(self, name: str, folder: Path) -> None:
        self.path, self.folder = RESULTS / f"{name}.txt", folder
        self.start = time.strftime("%Y-%m-%dT%H:%M:%S")
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.path.write_text("")

    def say(self, text: str) -> None:
        """Add some lines."""
        host = re.escape(socket.gethostname())
        text = re.sub(rf"\b{host}\b", "node", text.replace(str(self.folder), "~"))
        print(text, flush=True)
        with self.path.open("a") as file:
            file.write(text.rstrip() + "\n")

    def run(self, *command: str) -> None:
        """Add a command and its output."""
        self.say("$ " + " ".join(command) + "\n" + output(*command))


def output(*command: str) -> str:
    """What a command prints.

    Raises:
        CalledProcessError: it failed.
    """
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Snakemake in a folder; its log is beside it, and jobs have the folder's name."""
    log = folder.with_suffix(".log").open("ab")
    name = ("--slurm-groups-jobname-prefix", folder.name)
    own = name if PROFILE[0] in arguments else ()
    command = [sys.executable, "-m", "snakemake", *own, *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def ended_well(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for Snakemake.

    Raises:
        SystemExit: it failed; the end of its log is told.
    """
    if process.wait():
        lines = folder.with_suffix(".log").read_text().splitlines()
        sys.exit("\n".join([f"snakemake failed in {folder}:", *lines[-40:]]))


def clone(folder: Path) -> Path:
    """A fresh copy of what is committed."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


def accounts(said: Transcript, name: str) -> None:
    """Say what became of the jobs of that name, each try of a requeued one by itself."""
    since = f"--starttime={said.start}"
    command = ("sacct", "-X", "--duplicates", since, "--parsable2", f"--format=JobName,{COLUMNS}")
    head, *rows = (line.split("|") for line in output(*command).splitlines())
    own = [row for row in rows if row[0].startswith(f"{name}_")]
    shown = ["".join(cell.ljust(12) for cell in row[1:]).rstrip() for row in (head, *own)]
    said.say("\n".join([f"$ sacct -X --duplicates --format={COLUMNS}", *shown]))


def same(first: Path, second: Path, names: tuple[str, ...]) -> int:
    """How many files of these names two folders have, which must be equal byte for byte.

    Raises:
        SystemExit: one is missing or differs, or there is none.
    """
    found = [p.relative_to(first) for name in names for p in sorted(first.rglob(name))]
    for path in found:
        if not (second / path).is_file() or not cmp(first / path, second / path, shallow=False):
            sys.exit(f"{path} of {first} and {second} differ")
    if not found:
        sys.exit(f"no {', '.join(names)} below {first}")
    return len(found)


def smoke(work: Path) -> None:
    """The smoke tier, here and by Slurm at a time."""
    said = Transcript("smoke", work)
    here, there = clone(work / "here"), clone(work / "by-slurm")
    alone = snakemake(here, "--config", "tier=smoke")
    said.run("sinfo", "--Node", "--format=%N %P %t %c %m")
    process = snakemake(there, *PROFILE, "--config", "tier=smoke")
    said.say("$ snakemake --workflow-profile slurm --config tier=smoke")
    fullest = ""
    while process.poll() is None:
        time.sleep(2)
        fullest = max(fullest, output("squeue", f"--format={QUEUE}"), key=len)
    ended_well(process, there)
    ended_well(alone, here)
    said.say("$ squeue    (at its longest)\n" + fullest)
    accounts(said, there.name)
    same(here / "results/smoke", there / "results/smoke", ("results.parquet",))
    names = ("record.json", "test.npy", "validation.npy")
    n = same(here / "artifacts/smoke", there / "artifacts/smoke", names)
    said.say(f"results.parquet and {n} records and logits are equal, byte for byte")


def scheduling(work: Path) -> None:
    """Many short runs: what is lost."""
    said = Transcript("scheduling", work)
    folder = work / "short"
    folder.mkdir()
    (folder / "Snakefile").write_text(SHORT)
    began = time.monotonic()
    grouped = ("--group-components", f"training={TOGETHER}", "--quiet", "all")
    grouped += ("--default-resources", "runtime=5", "mem_mb=500")
    ended_well(snakemake(folder, *PROFILE, *grouped), folder)
    wall = time.monotonic() - began
    accounts(said, folder.name)
    cpus = int(output("sinfo", "--noheader", "--format=%c").split()[0])
    asked = ("-X", "-n", "-P", f"--starttime={said.start}", "--format=JobName,AllocCPUS,ElapsedRaw")
    rows = output("sacct", *asked).splitlines()
    own = [line.split("|")[1:] for line in rows if line.startswith(folder.name)]
    held = sum(int(cores) * int(seconds) for cores, seconds in own)
    work_s = RUNS * SECONDS
    said.say(
        f"{RUNS} runs of {SECONDS} s, {TOGETHER} a submission: {len(own)} "
        f"submissions on {cpus} CPUs; {wall:.0f} s from first to last.\n"
        f"Lost of the time of the CPUs held: {100 * (1 - work_s / held):.1f} %; "
        f"of that of all CPUs, first submission to last answer: "
        f"{100 * (1 - work_s / cpus / wall):.1f} %"
    )


def long_run(folder: Path) -> Path:
    """A project of one run that lasts some minutes."""
    clone(folder)
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    planted = params["data"]["datasets"]["planted-small"]
    params["data"]["datasets"]["trial"] = planted | {"rows": 100_000}
    main = params["experiments"]["main"]
    main |= {"datasets": {"smoke": ["trial"]}, "backbones": ["wdl"], "arms": ["base"]}
    main["compare"] = []
    shutil.rmtree(folder / "claims")
    params["experiments"] = {"main": main}
    params["tiers"]["smoke"] |= {"seeds": [2022]}
    params["tiers"]["smoke"]["set"] |= {"training.max_epochs": 100, "training.patience": 100}
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return folder


def checkpointed(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the run has saved its state.

    Raises:
        SystemExit: it ended before.
    """
    while not [*folder.glob(".runs/*/checkpoint*.safetensors")]:
        if process.poll() is not None:
            sys.exit(f"the run in {folder} ended before its first checkpoint")
        time.sleep(0.5)


def last_job(folder: Path) -> str:
    """Number of the job that trains in a folder."""
    rows = output("squeue", "--noheader", "--states=running", "--format=%i %Z").splitlines()
    (number,) = (line.split()[0] for line in rows if line.split()[1] == str(folder))
    return number


def past_its_time(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Nothing: the profile's limit is a minute."""
    return "time limit of one minute a try, which is shorter than the run"


def out_of_memory(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Nothing: what the job asks for at first is less than it needs."""
    return "memory limit of 600 MB at the first try, and as much more at each other"


def killed(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """SIGKILL to all processes of the job, as the kernel does where memory is short."""
    checkpointed(folder, process)
    output("scancel", "--signal=KILL", "--full", last_job(folder))
    return "SIGKILL to all processes of the job after its first checkpoint"


def preempted(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """A job of a more urgent partition takes the whole node for a moment."""
    checkpointed(folder, process)
    urgent = ("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null")
    output(*urgent, "--wrap", "sleep 5")
    return "an urgent job takes the node after the first checkpoint: SIGTERM, then requeued"


def without_controller(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The controller ends, and starts again after some seconds."""
    checkpointed(folder, process)
    output(str(HERE), "restart-controller", "15")
    return "the controller is gone for 15 s, and starts again"


Fault = Callable[[Path, subprocess.Popen[bytes]], str]
ASKED: dict[Fault, tuple[str, ...]] = {
    past_its_time: ("runtime=1", "mem_mb=4000"),
    out_of_memory: ("runtime=30", "mem_mb=600 * attempt"),
}
"""Resources that a job asks for where they are its fault."""
TOGETHER_TRIED = (past_its_time, out_of_memory, killed, without_controller)
RESUMED = (past_its_time, killed, preempted)
"""Faults that come after a checkpoint."""


def one(work: Path, whole: Path, fault: Fault) -> None:
    """A fault in a project of its own, against a run that nothing happened to."""
    folder = long_run(work / fault.__name__)
    said = Transcript(f"fault_{fault.__name__}", work)
    asked = ASKED.get(fault, ("runtime=30", "mem_mb=4000"))
    # on a busy machine a minute is soon over
    options = (
        "--retries",
        "20",
        "--default-resources",
        *asked,
        "--config",
        "tier=smoke",
        "--",
        INDEX,
    )
    process = snakemake(folder, *PROFILE, *options)
    said.say(f"{fault(folder, process)}\n")
    said.run("squeue", f"--format={QUEUE}")
    ended_well(process, folder)
    accounts(said, folder.name)
    names = ("record.json", "test.npy", "validation.npy", "model.safetensors")
    n = same(whole / "artifacts/smoke", folder / "artifacts/smoke", names)
    made = json.loads((folder / "artifacts/smoke" / RUN / "run.json").read_text())
    if fault in RESUMED and made["sessions"] == 1:
        sys.exit(f"{fault.__name__}: the run ended before anything happened to it")
    said.say(
        f"{n} files are those of the run that nothing happened to, byte for byte; it was trained "
        f"in {made['sessions']} part(s)"
    )


def faults(work: Path) -> None:
    """All faults; the one that takes the node from all others comes last."""
    whole = long_run(work / "whole")
    ended_well(snakemake(whole, "--config", "tier=smoke", "--", INDEX), whole)
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(one, work, whole, fault) for fault in TOGETHER_TRIED]:
            done.result()
    one(work, whole, preempted)


def main() -> None:
    """The trials that are asked for; all, if none is."""
    trials = {trial.__name__: trial for trial in (smoke, scheduling, faults)}
    with tempfile.TemporaryDirectory(prefix="slurm-trial-") as folder:
        for name in sys.argv[1:] or trials:
            trials[name](Path(folder).resolve())


if __name__ == "__main__":
    main()
