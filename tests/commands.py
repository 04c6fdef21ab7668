"""Becomes Snakemake or DVC, as a fork of this process, which has imported them.

Importing them, and digesting the package's code, takes longer than most of what the tests ask of
them. Jobs of all these Snakemakes are forks of one more process, whose socket is named second:
each by itself would start its own, which loads torch.
"""

import atexit
import gc
import os
import pkgutil
import sys
from pathlib import Path

import dvc.cli.parser
import dvc.repo
import snakemake.cli
import snakemake.storage

import domain_experts
import domain_experts.presence
import domain_experts.reporting.catalog
from domain_experts import forks
from domain_experts.digest import code_digest

MAIN = {"snakemake": snakemake.cli.main, "dvc": dvc.cli.main}


def load():
    """Import all that the commands need."""
    # both load plugins
    snakemake.cli.get_argument_parser()
    dvc.cli.parser.get_main_parser()
    modules = pkgutil.walk_packages(domain_experts.__path__, "domain_experts.")
    code_digest([module.name for module in modules])
    # a collection in a fork would copy all of it
    gc.freeze()


def share(address):
    """Instead of starting a server, name the one that is there."""
    address.symlink_to(os.environ["SHARED_FORKS"])
    atexit.register(address.unlink)


if __name__ == "__main__":
    forks._load = load
    forks.serve(Path(sys.argv[1]))
    if "SHARED_FORKS" in os.environ:
        forks.start = share
    sys.argv = sys.argv[1:]
    sys.exit(MAIN[sys.argv[0]]())
