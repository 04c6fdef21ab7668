"""What Snakemake says on the terminal: in a dry run one line a job with its reason, else errors.

Jobs print their own progress, so that a run needs none of Snakemake's. Its log file holds all.
"""

import logging
import re
import sys

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from domain_experts.suggest import unknown

SAID = ("Nothing to be done",)
"""Starts of the only messages that are neither events nor warnings and yet worth a line."""
TARGETS: list[str] = []
"""What can be asked for by name; the Snakefile fills it."""
NO_RULE = re.compile(r"No rule to produce (\S+)")
USER_ERROR = re.compile(
    r"UserError: (?P<input>.*)|^WorkflowError in file .*?:\n(?P<start>.*?)\n  File ", re.DOTALL
)
"""What a user can mend, raised by an input function or at the start of the Snakefile."""
PLACE = "phases are in docs/pipeline.md, jobs in `domain-experts runs`"
ERRORS = (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.ERROR)


class LogHandler(LogHandlerBase):
    """Found by Snakemake under the name `domain-experts` (`logger:` in the profile)."""

    def __post_init__(self) -> None:
        self.counted = False

    def emit(self, record: logging.LogRecord) -> None:
        event, dry = getattr(record, "event", None), self.common_settings.dryrun
        if event == LogEvent.JOB_INFO:
            text = _job(record) if dry else ""
        elif event == LogEvent.RUN_INFO:
            # a dry run counts its jobs at the start and at the end
            text = self.format(record) if dry and not self.counted else ""
            self.counted = True
        else:
            said = event in ERRORS or record.levelno >= logging.WARNING
            said = said or record.getMessage().startswith(SAID)
            text = self.format(record) if said else ""
            if unknown_target := NO_RULE.search(text):
                text = unknown("target", unknown_target[1], TARGETS, PLACE)
            elif to_mend := USER_ERROR.search(text):
                text = to_mend["start"] or to_mend["input"].partition("\n")[0]
        if text:
            print(text, file=sys.stdout if dry else sys.stderr, flush=True)

    writes_to_stream = property(lambda self: True)
    writes_to_file = property(lambda self: False)
    has_filter = property(lambda self: False)
    has_formatter = property(lambda self: False)
    needs_rulegraph = property(lambda self: False)


def _job(record: logging.LogRecord) -> str:
    """The job's rule, the first file that it makes, which can be asked for by name, and why."""
    job = record.__dict__
    made = job["output"][0].removesuffix(" (update)") if job["output"] else ""
    reasons = [_short(reason) for reason in str(job["reason"]).split("; ")]
    return f"{job['rule_name']} {made}".strip() + f": {'; '.join(reasons)}"


def _short(reason: str) -> str:
    """A reason without its files if they are the job's own, else with the first of them."""
    what, colon, files = reason.partition(": ")
    if what.startswith(("Missing output", "Params have changed", "Code has changed")):
        return what
    first, *others = re.split(r",\s+", files)
    return what + colon + first + (f" and {len(others)} more" if others else "")
