# The study of this tier, and what the rules ask of it.
import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
import time
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake_logger_plugin_domain_experts import TARGETS

from domain_experts import forks, layout
from domain_experts.data.log.listing import matches, stamps
from domain_experts.data.specs import Log
from domain_experts.digest import code_digest
from domain_experts.errors import UserError
from domain_experts.phases import PHASES, TRAINING
from domain_experts.presence import load_study, require_data, require_logs
from domain_experts.reporting.catalog import figure_names, table_names
from domain_experts.reporting.claims import load_claims
from domain_experts.runs import Job, Search
from domain_experts.suggest import unknown
from domain_experts.training.progress import TALLY, start_tally
from domain_experts.versions import libraries

CONFIG = ("tier", "allow_missing")
# seconds by which clocks of several machines may differ
SKEW = 60
ALLOW_MISSING = "DOMAIN_EXPERTS_ALLOW_MISSING"
# of several machines on one folder each has its own
SERVER = Path(f".snakemake/forks-{platform.node()}-{os.getpid()}.sock")


def flag(name, variable):
    """Whether --config, or the environment of an outer call, sets a flag."""
    answer = str(config.get(name, os.environ.get(variable, False))).lower()
    if answer not in ("true", "false"):
        raise UserError(f"--config {name} is true or false, not {answer}")
    return answer == "true"


def read_study():
    """The study of the tier that --config names, and whether it does without missing data."""
    for key in sorted(set(config) - set(CONFIG)):
        raise UserError(
            f"{unknown('--config key', key, CONFIG)}; settings belong in params.yaml, or in `dvc "
            "exp run -S key=value`"
        )
    allowed = flag("allow_missing", ALLOW_MISSING)
    return load_study(config.get("tier"), allowed), allowed


def refuse_missing():
    """Say so before any work starts if data are missing that no download brings."""
    wanted = {
        job.wildcards.source for job in workflow.dag.needrun_jobs() if job.rule.name == "fetch"
    }
    try:
        require_data(STUDY, wanted)
        prepared = [j for j in workflow.dag.needrun_jobs() if j.rule.name == "prepare_dataset"]
        require_logs(STUDY, [job.wildcards.dataset for job in prepared])
    except UserError as error:
        raise WorkflowError(str(error)) from None


def start():
    """Refuse what cannot end well, open the tally of the runs to make, and load what jobs need."""
    refuse_missing()
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "train"]
    runs = sum(len(STUDY.runs_of(job_of(job.wildcards))) for job in jobs)
    searches = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "search_settings"]
    trials = sum(STUDY.declared(search_of(job.wildcards)).trials[TIER] for job in searches)
    start_tally(layout.tally(TIER), runs + trials)
    if len(jobs) + len(searches) > 2:
        forks.start(SERVER)


def refuse_unwritable():
    """Say so before any work starts if a folder that rules write to cannot be written."""
    for name in (
        "data",
        "artifacts",
        "results",
        "figures",
        "logs",
        ".snakemake",
        str(layout.STORE),
    ):
        path = Path(name) if Path(name).exists() else Path()
        if not path.is_dir() or not os.access(path, os.W_OK):
            raise UserError(
                f"{path.resolve()} is not a folder that can be written; mend that first"
            )


def refuse_future():
    """Say so before any work starts if files are from the future, as after a clock was set back.

    Snakemake would refuse each output that is older than its input, until that time has come.
    """
    folders = "data", "artifacts", "results"
    for path in (found for name in folders for found in Path(name).rglob("*")):
        if path.lstat().st_mtime > time.time() + SKEW:
            raise UserError(
                f"{path} is from the future: was the clock set back? If it is right now, `find "
                f"{' '.join(folders)} -newermt now -exec touch {{}} +` mends the times"
            )


try:
    refuse_unwritable()
    refuse_future()
    STUDY, ALLOWED = read_study()
    LEDGER = load_claims(STUDY)
except UserError as error:
    raise WorkflowError(str(error)) from None

# The commands of this interpreter's environment are found even if it is not activated. Which
# data are missing is no part of a command: a changed command would run all jobs again.
shell.prefix(
    f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    f" {ALLOW_MISSING}={str(ALLOWED).lower()}"
    f" {TALLY}={shlex.quote(str(layout.tally(STUDY.tier).absolute()))}"
    f" {forks.ADDRESS}={SERVER}; "
)

# `onstart` is not for the Snakemake that runs the jobs of a submission on a cluster's node.
if workflow.remote_exec:
    forks.start(SERVER)

TIER = STUDY.tier
DEVICE = STUDY.params.device
GPU = int(DEVICE == "cuda" or (DEVICE == "auto" and shutil.which("nvidia-smi") is not None))


wildcard_constraints:
    dataset=r"[^/]+",
    experiment=r"[^/]+",
    source=r"[^/]+",
    backbone=r"[^/]+",
    arm=r"[^/]+",


def targets(phase):
    """Files that the rules of a phase make."""
    return [str(path) for path in PHASES[phase].targets(STUDY)]


def shown(category, files, names):
    """The forms of tables or figures, the first of each shown in Snakemake's report."""
    found = []
    for name in names:
        first, *others = map(str, files(TIER, name))
        found += [report(first, category=category, labels={"name": name}), *others]
    return found


def log_of(name):
    return f"logs/{TIER}/{name}.log"


def digest(value):
    """Digest of settings: a rule runs again when its `params` change."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# Snakemake asks again and again.
code_of = cache(code_digest)


def phase_code(phase):
    return code_of(PHASES[phase].modules)


def job_of(wildcards):
    return Job(wildcards.phase, wildcards.dataset, wildcards.backbone, wildcards.arm)


@cache
def settings_of(job):
    return digest([[str(run.path), STUDY.declared_of(run)] for run in STUDY.runs_of(job)])


def job_settings(wildcards):
    return settings_of(job_of(wildcards))


def job_code(wildcards):
    return code_of(job_of(wildcards).modules)


def job_threads(wildcards):
    """One for each process that trains a run."""
    return STUDY.processes(wildcards.arm)


def job_inputs(wildcards):
    """The data of a job, its searches, and the jobs that it starts from."""
    runs = STUDY.runs_of(job_of(wildcards))
    upstream = {up.job for run in runs for up in STUDY.upstream(run)}
    searches = {run.search for run in runs if run.search}
    return [
        *data_inputs(wildcards),
        *sorted(str(layout.search_file(TIER, search)) for search in searches),
        *sorted(str(layout.job_index(TIER, job)) for job in upstream),
    ]


def data_inputs(wildcards):
    dataset = wildcards.dataset
    return [str(layout.card(dataset)), str(layout.split_index(TIER, dataset))]


def search_of(wildcards):
    return Search(wildcards.experiment, wildcards.dataset, wildcards.backbone, wildcards.arm)


def search_inputs(wildcards):
    """The data of a search, and the search that it starts from."""
    first = STUDY.first(search_of(wildcards))
    earlier = [str(layout.search_file(TIER, first))] if first else []
    return [*data_inputs(wildcards), *earlier]


def search_settings(wildcards):
    return digest(STUDY.asked(search_of(wildcards)))


def search_code(wildcards):
    job = STUDY.tuned(search_of(wildcards), 0).job
    return code_of(("domain_experts.training.search", *job.modules))


def dataset_indexes(wildcards):
    """Indexes of all jobs on a data set."""
    jobs = (job for job in STUDY.jobs() if job.dataset == wildcards.dataset)
    return [str(layout.job_index(TIER, job)) for job in jobs]


def evaluated(dataset):
    """What is measured on a data set."""
    folder = layout.evaluated(TIER, dataset)
    return [folder / "results.parquet", folder / "records.parquet"]


@cache
def all_expected():
    """Digest of the runs that tables and figures show, those of absent data included."""
    expected = {
        name: [
            STUDY.params.experiments[name].model_dump(mode="json"),
            *([str(run.path), STUDY.declared_of(run)] for run in runs),
        ]
        for name, runs in STUDY.expected.items()
    }
    return digest([expected, STUDY.params.statistics.model_dump(mode="json"), libraries()])


@cache
def all_shown():
    """The same, and the claims that are decided."""
    ledger = [
        [entry.paper, str(entry.file), entry.claim.model_dump(mode="json")] for entry in LEDGER
    ]
    return digest([all_expected(), ledger])


@cache
def compared():
    """What experiments compare, by data set."""
    found = {}
    for name in STUDY.expected:
        for run, other, _ in STUDY.comparisons(name):
            found.setdefault(run.dataset, []).append([str(run.path), str(other.path)])
    return found


def dataset_pairs(wildcards):
    """Digest of what experiments compare on a data set."""
    return digest(compared().get(wildcards.dataset, []))


def raw_input(wildcards):
    source = STUDY.params.data.datasets[wildcards.dataset].source
    return [str(layout.raw_record(source))] if source in STUDY.sources else []


def prepare_settings(wildcards):
    """All that is said of a data set but its split, which comes later; a log's is its own.

    Of a log also its files, their sizes and times: a changed or added one is read.
    """
    spec = STUDY.params.data.datasets[wildcards.dataset]
    if isinstance(spec, Log):
        names = sorted({name for pattern in spec.files for name in matches(pattern)})
        return digest([spec.model_dump(mode="json", exclude={"push"}), stamps([*map(Path, names)])])
    return digest(spec.model_dump(mode="json", exclude={"split"}))


def split_settings(wildcards):
    split = STUDY.params.data.split_rule(wildcards.dataset)
    return digest([split.model_dump(), STUDY.seeds(wildcards.dataset)])
