"""Runs Snakemake and DVC as forks of this process, which has imported them.

Importing them, and digesting the package's code, takes longer than most of what the tests ask of
them. A line of standard input is a command as JSON; the name of its output and its exit status are
answered on standard output.
"""

import gc
import json
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
from domain_experts.digest import code_digest

MAIN = {"snakemake": snakemake.cli.main, "dvc": dvc.cli.main}


def run(command, folder, environment, output):
    """Become a command, its output and errors written to a file."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with Path(os.devnull).open() as nothing, Path(output).open("w") as file:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = command
    sys.exit(MAIN[command[0]]())


if __name__ == "__main__":
    # both load plugins
    snakemake.cli.get_argument_parser()
    dvc.cli.parser.get_main_parser()
    modules = pkgutil.walk_packages(domain_experts.__path__, "domain_experts.")
    code_digest([module.name for module in modules])
    # a collection in a fork would copy all of it
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if not (child := os.fork()):
            run(**request)
        _, status = os.waitpid(child, 0)
        print(json.dumps([request["output"], os.waitstatus_to_exitcode(status)]), flush=True)
