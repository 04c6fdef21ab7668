# The study of this tier, and what the rules ask of it.
import hashlib
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from domain_experts import layout
from domain_experts.digest import code_digest
from domain_experts.errors import UserError
from domain_experts.params import Study, load_study
from domain_experts.phases import FIGURES, PHASES, TABLES
from domain_experts.runs import Job

SKIP_MISSING = "DOMAIN_EXPERTS_SKIP_MISSING"
PARTIAL = "DOMAIN_EXPERTS_PARTIAL"


def flag(name, variable):
    """Whether --config, or the environment of an outer call, sets a flag."""
    answer = str(config.get(name, os.environ.get(variable, False))).lower()
    if answer not in ("true", "false"):
        raise UserError(f"--config {name} is true or false, not {answer}")
    return answer == "true"


def read_study():
    """The study of the tier that --config names, and whether missing data are left out."""
    unknown = sorted(set(config) - {"tier", "skip_missing", "partial"})
    if unknown:
        raise UserError(
            f"--config takes tier, skip_missing and partial, not {', '.join(unknown)}: settings "
            "belong in params.yaml, or in `dvc exp run -S key=value`"
        )
    skip = flag("skip_missing", SKIP_MISSING)
    return load_study(config.get("tier"), skip, partial=flag("partial", PARTIAL)), skip


def refuse_unwritable():
    """Say so before any work starts if a folder that rules write to cannot be written."""
    for name in ("data", "artifacts", "results", "figures", "logs", str(layout.STORE)):
        path = Path(name) if Path(name).exists() else Path()
        if not path.is_dir() or not os.access(path, os.W_OK):
            raise UserError(
                f"{path.resolve()} is not a folder that can be written; mend that first"
            )


try:
    refuse_unwritable()
    STUDY, SKIP = read_study()
except UserError as error:
    raise WorkflowError(str(error)) from None

# The commands of this interpreter's environment are found even if it is not activated. Which
# data or runs are left out is no part of a command: a changed command would run all jobs again.
shell.prefix(
    f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    f" {SKIP_MISSING}={str(SKIP).lower()} {PARTIAL}={str(STUDY.partial).lower()}; "
)

TIER = STUDY.tier
TABLE_FOLDER = layout.results(TIER) / "tables"
COMPARISONS = layout.results(TIER) / "comparisons.json"
PROJECTIONS = layout.results(TIER) / "projections.csv"
DEVICE = STUDY.params.device
GPU = int(DEVICE == "cuda" or (DEVICE == "auto" and shutil.which("nvidia-smi") is not None))


wildcard_constraints:
    dataset=r"[^/]+",
    source=r"[^/]+",
    backbone=r"[^/]+",
    arm=r"[^/]+",


def targets(phase):
    """Files that the rules of a phase make."""
    return [str(path) for path in PHASES[phase].targets(STUDY)]


def log_of(name):
    return f"logs/{TIER}/{name}.log"


def benchmark_of(name):
    return f"logs/{TIER}/benchmarks/{name}.tsv"


def digest(value):
    """Digest of settings: a rule runs again when its `params` change."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def phase_code(phase):
    return code_digest(PHASES[phase].modules)


def job_of(wildcards):
    return Job(wildcards.phase, wildcards.dataset, wildcards.backbone, wildcards.arm)


def job_settings(wildcards):
    runs = STUDY.runs_of(job_of(wildcards))
    return digest([[str(run.path), run.payload()] for run in runs])


def job_code(wildcards):
    return code_digest(job_of(wildcards).modules)


def job_inputs(wildcards):
    """The data of a job, and the jobs that it starts from."""
    dataset = wildcards.dataset
    upstream = {up.job for run in STUDY.runs_of(job_of(wildcards)) for up in STUDY.upstream(run)}
    return [
        str(layout.card(dataset)),
        str(layout.split_index(TIER, dataset)),
        *sorted(str(layout.job_index(TIER, job)) for job in upstream),
    ]


def all_indexes(backbone=None):
    """Indexes of all jobs, or of a backbone's; of a partial study those that are there, data at
    hand or not.
    """
    jobs = Study(STUDY.params, TIER).jobs() if STUDY.partial else STUDY.jobs()
    indexes = [layout.job_index(TIER, job) for job in jobs if backbone in (None, job.backbone)]
    return [str(path) for path in indexes if path.is_file() or not STUDY.partial]


def all_expected():
    """Digest of the runs that tables and figures show, those of missing data included."""
    expected = {
        name: [[str(run.path), run.payload()] for run in runs]
        for name, runs in STUDY.expected.items()
    }
    return digest([expected, sorted(STUDY.leave_out)])


def raw_input(wildcards):
    source = STUDY.params.data.datasets[wildcards.dataset].source
    return [str(layout.raw_record(source))] if source in STUDY.sources else []


def split_settings(wildcards):
    split = STUDY.params.data.split_rule(wildcards.dataset)
    return digest([split.validation_fraction, split.test_fraction, STUDY.seeds(wildcards.dataset)])
