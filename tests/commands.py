"""Becomes Snakemake, DVC or a command of the package, as a fork of a process that imported it.

Importing them, and digesting the package's code, takes longer than most of what the tests ask of
them. One process forks Snakemake and DVC, another one the package's own commands. Jobs of all these
Snakemakes are among the latter: each by itself would start its own server, which loads torch.
"""

import atexit
import gc
import os
import pkgutil
import sys
from pathlib import Path

from domain_experts import forks
from domain_experts.digest import code_digest


def load():
    """Import all that Snakemake and DVC need."""
    gc.disable()
    import dvc.cli.parser
    import dvc.repo
    import snakemake.cli
    import snakemake.storage

    import domain_experts.presence
    import domain_experts.reporting.catalog

    # both load plugins
    snakemake.cli.get_argument_parser()
    dvc.cli.parser.get_main_parser()
    modules = pkgutil.walk_packages(domain_experts.__path__, "domain_experts.")
    code_digest([module.name for module in modules])
    # a collection in a fork would copy all of it
    gc.freeze()
    gc.enable()


def share(address):
    """Instead of starting a server, name the one that is there."""
    address.symlink_to(os.environ["SHARED_FORKS"])
    atexit.register(address.unlink)


def main(address):
    """Serve until standard input closes; each fork ends as its command does."""
    own = address.name == "jobs.sock"
    if not own:
        forks._load = load
    forks.serve(address)
    if own:
        from domain_experts.cli import main as command

        # of what it starts, Snakemake and DVC are forks, too
        sys.executable = str(address.with_name("python"))
        forks._end_with(command)
    if "SHARED_FORKS" in os.environ:
        forks.start = share
    sys.argv = sys.argv[1:]
    if sys.argv[0] == "dvc":
        from dvc.cli import main as command
    else:
        from snakemake.cli import main as command
    sys.exit(command())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
