"""Snakemake's executor for Slurm, less a Snakemake and a step of Slurm for each job of a group.

Found by Snakemake under the name `slurm-groups`. The plugin `slurm` has the node start Snakemake
anew for each job of a submission, which takes longer than a short job. Here the one that the
submission starts runs all its jobs.
"""

from dataclasses import dataclass, field
from typing import NoReturn

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

try:
    from snakemake_executor_plugin_slurm import Executor as _Slurm
    from snakemake_executor_plugin_slurm import ExecutorSettings, common_settings
except ImportError:
    # Snakemake imports every plugin there is at every start, and looks for these two names: so
    # each has a second definition
    common_settings = CommonSettings(
        non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False
    )

    # the one of the two definitions that holds where the plugin `slurm` is not there
    @dataclass
    class ExecutorSettings(ExecutorSettingsBase):  # type: ignore[no-redef]
        """What the profile sets."""

        init_seconds_before_status_checks: int = field(default=40, metadata={"help": "as slurm's"})

    class Executor(RealExecutor):
        """Says what is missing."""

        def __new__(cls, *_: object) -> NoReturn:
            raise WorkflowError("Slurm needs `pip install 'domain-experts[slurm]'`")

else:
    # the one of the two definitions that holds where the plugin `slurm` is there
    class Executor(_Slurm):  # type: ignore[no-redef]
        """The same, but for how jobs run on the node."""

        def additional_general_args(self) -> str:
            """None: Snakemake's own executor runs the jobs there."""
            return ""


__all__ = ["Executor", "ExecutorSettings", "common_settings"]
