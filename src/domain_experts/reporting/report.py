"""The report of a tier: one page with the answer, every experiment, and where it all comes from."""

import base64
import struct
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from domain_experts import layout
from domain_experts.files import sha256
from domain_experts.registry import ARMS
from domain_experts.reporting import answer
from domain_experts.reporting.catalog import (
    ABOUT_ALL,
    CELLS,
    experiments,
    figure_names,
    table_names,
)
from domain_experts.reporting.columns import STALE_MARK
from domain_experts.reporting.frame import Frames, frames
from domain_experts.reporting.render import MISSING, Table, html, write_text
from domain_experts.reporting.tables import table
from domain_experts.results import STATUSES
from domain_experts.study import Study

PNG_SIZE = slice(16, 24)
"""Width and height in a PNG file (its IHDR chunk)."""


@dataclass(frozen=True)
class Picture:
    """A figure on the page; without a source where it is not drawn."""

    name: str
    caption: str
    source: str
    """A data URI; empty if there is no picture."""
    width: int = 0
    height: int = 0

    @classmethod
    def of(cls, tier: str, name: str) -> "Picture":
        """Read a figure and the caption that lies beside it."""
        path = layout.figures(tier) / f"{name}.png"
        if not path.is_file():
            return cls(name, "", "")
        content, words = path.read_bytes(), path.with_suffix(".txt")
        caption = words.read_text(encoding="utf-8").strip() if words.is_file() else ""
        data = base64.b64encode(content).decode()
        size = struct.unpack(">II", content[PNG_SIZE])
        return cls(name, caption, f"data:image/png;base64,{data}", *size)


@dataclass(frozen=True)
class Section:
    """An experiment on the page."""

    name: str
    question: str
    line: str
    status: dict[str, int]
    tables: tuple[Table, ...]
    picture: Picture


def write_report(study: Study) -> Path:
    """Write results/<tier>/report.html from the results, figures and captions that are there.

    Raises:
        UserError: a results file is missing or cannot be used.
    """
    path = layout.results(study.tier) / "report.html"
    write_text(path, page(frames(study)))
    return path


def page(of: Frames) -> str:
    """The whole page as text; it refers to nothing outside itself but by links."""
    study, tier, names = of.study, of.study.tier, experiments(of.study)
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["table"] = lambda table: Markup(html(table))
    environment.filters["words"] = lambda name: name.replace("_", " ")
    template = files("domain_experts.reporting").joinpath("report.html.j2").read_text("utf-8")
    status = Counter(of.results.status.values())
    own = {path.name: path for path in (layout.results_file(tier), layout.records_file(tier))}
    return environment.from_string(template).render(
        tier=tier,
        question=answer.question(of),
        sentences=answer.sentences(of),
        about={name: table(of, name) for name in ABOUT_ALL},
        matrix=matrix(of),
        status={name: status[name] for name in STATUSES},
        sections=[section(of, name) for name in names],
        pictures=[Picture.of(tier, name) for name in figure_names(study) if name not in names],
        mark=STALE_MARK,
        digests={name: sha256(path) for name, path in own.items()},
        workflow=(layout.results(tier) / "workflow.html").is_file(),
    )


def section(of: Frames, name: str) -> Section:
    """One experiment: its question, tables and picture."""
    names = [known for known in table_names(of.study) if known in (name, name + CELLS)]
    counts = Counter(of.results.status[run.path.as_posix()] for run in of.study.expected[name])
    return Section(
        name,
        of.study.params.experiments[name].question,
        answer.line(of, name),
        {status: counts[status] for status in STATUSES if counts[status]},
        tuple(table(of, own) for own in names),
        Picture.of(of.study.tier, name),
    )


def matrix(of: Frames) -> Table:
    """Status of the runs of each data set and arm: how many of them have it."""
    runs = of.runs.drop_duplicates("run")
    counts = runs.groupby(["dataset", "arm", "status"]).size()
    datasets = [d for d in of.study.all_datasets if d in set(runs["dataset"])]
    arms = [arm for arm in ARMS if arm in set(runs["arm"])]
    rows = [
        {"Data set": dataset}
        | {
            ARMS[arm].label: ", ".join(
                f"{counts[dataset, arm, status]} {status}"
                for status in STATUSES
                if (dataset, arm, status) in counts.index
            )
            or MISSING
            for arm in arms
        }
        for dataset in datasets
    ]
    printed = pd.DataFrame(rows, columns=["Data set", *(ARMS[arm].label for arm in arms)])
    caption = "Runs of each data set and arm by status; a dash where no experiment asks for any."
    emphasis = pd.DataFrame("", printed.index, printed.columns)
    return Table("matrix", caption, printed, printed, printed.shape[1], emphasis)
