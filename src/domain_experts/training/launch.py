"""Starts the processes that train one run together; imports nothing heavy until it does."""

import os
import sys
from uuid import uuid4

from domain_experts.errors import UserError


def launched() -> int:
    """How many processes torchrun, or `launch`, has started together with this one; 1 for none."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def share_of(threads: int) -> int:
    """Threads of this process, of those that all on this machine have together."""
    return max(1, threads // (int(os.environ["LOCAL_WORLD_SIZE"]) if launched() > 1 else 1))


def launch(processes: int) -> None:
    """Run this command in so many processes of this machine, as torchrun does, and wait for them.

    If one of them ends badly, the others are ended.

    Raises:
        UserError: one ended badly; what it said stands above.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "domain_experts", *sys.argv[1:])
    except SignalException as signal:
        # by then the others have been ended
        sys.exit(128 + signal.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        raise UserError(
            f"process {rank} of the {processes} that train together {how}, and the others were "
            "ended; run again: the run goes on from its last checkpoint"
        ) from None
