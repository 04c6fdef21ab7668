"""The executor for Slurm, and jobs on a cluster where there is one (scripts/slurm_here.sh)."""

import importlib.util
import shutil
import subprocess
import sys

import pytest
from projects import ROOT
from snakemake.exceptions import WorkflowError

import snakemake_executor_plugin_slurm_groups as plugin

HAS_PLUGIN = importlib.util.find_spec("snakemake_executor_plugin_slurm") is not None
SNAKEFILE = """
rule all:
    input:
        [f"done/{n}" for n in range(6)],


rule run:
    output:
        "done/{n}",
    group:
        "training"
    shell:
        "echo $SLURM_JOB_ID > {output}"
"""


def no_cluster():
    """Why there is no cluster to run on, if there is none."""
    if shutil.which("sbatch") is None:
        return "needs Slurm (no sbatch here): scripts/slurm_here.sh"
    if not HAS_PLUGIN:
        return "needs the extra `slurm`"
    if subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        return "Slurm is installed, but no cluster runs: scripts/slurm_here.sh start"
    return ""


@pytest.mark.skipif(HAS_PLUGIN, reason="the extra `slurm` is installed")
def test_a_missing_plugin_is_named():
    with pytest.raises(WorkflowError, match=r"domain-experts\[slurm\]"):
        plugin.Executor(None, None)


@pytest.mark.skipif(not HAS_PLUGIN, reason="needs the extra `slurm`")
def test_the_node_runs_a_group_by_the_one_snakemake_that_is_there():
    from snakemake_executor_plugin_slurm import Executor

    own = plugin.Executor.__new__(plugin.Executor)
    assert isinstance(own, Executor)
    assert own.additional_general_args() == ""


@pytest.mark.skipif(bool(no_cluster()), reason=no_cluster() or "there is a cluster")
def test_jobs_of_a_group_are_one_submission(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    profile = ("--workflow-profile", str(ROOT / "workflow/profiles/slurm"))
    command = [sys.executable, "-m", "snakemake", *profile, "--group-components", "training=3"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=280)
    numbers = [(tmp_path / f"done/{n}").read_text().strip() for n in range(6)]
    assert len(set(numbers)) == 2
    assert all(numbers.count(number) == 3 for number in numbers)
