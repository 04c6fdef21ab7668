"""A paper of four pages from a tier's tables and figures: LaTeX, and a PDF where LaTeX is there."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from itertools import takewhile
from os.path import relpath
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from PIL import Image

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.files import write_text
from domain_experts.reporting import answer
from domain_experts.reporting.catalog import experiments, figure_names, table_names
from domain_experts.reporting.citation import cited
from domain_experts.reporting.columns import NO_NUMBERS, OTHER_SPLIT, SIGNIFICANT, STALE_MARK
from domain_experts.reporting.frame import Frames, frames
from domain_experts.reporting.render import MISSING, Table, latex, tex
from domain_experts.reporting.style import COLUMN, DPI, PAGE
from domain_experts.reporting.tables import table
from domain_experts.reporting.verdicts import MEANS, UNTESTABLE, counts
from domain_experts.study import Study

PAGES = 4
ENGINES = {
    "tectonic": ("--keep-logs",),
    "pdflatex": ("-interaction=nonstopmode", "-halt-on-error"),
}
"""What makes a PDF of LaTeX, the preferred first, and its options."""
PASSES = 2
"""References need two."""
PARTS = (
    ("table", "verdicts"),
    ("figure", "comparisons"),
    ("table", "overview"),
    ("figure", "published"),
    ("figure", "coverage"),
    ("table", "held_out"),
    ("table", "datasets"),
    ("table", "oracle"),
    ("figure", "gain_by_domain"),
    ("figure", "moved"),
    ("figure", "diversity"),
)
"""The most important first; a tier has some of them."""
LEFT_OUT = {
    *("Seeds", "Margin", "Half, double margin", "Name"),
    *("Epochs trained", "Parameters", "500-bin WAUC"),
    *("Split seed", "Validation rows", "Smallest domain", "Largest domain"),
}
"""Columns that a page has no room for; the tables themselves have them."""
MARKS = (STALE_MARK, SIGNIFICANT, OTHER_SPLIT)
"""Begin the notes of a table that are in the paper."""
STATUS = (STALE_MARK, "No room", "Not drawn")
"""Begin what a figure's caption says of its status, for which the paper has no room."""
ROWS = 28
"""Of a table in the paper."""


def write_paper(study: Study) -> str:
    """Write results/<tier>/paper/paper.tex and, by tectonic or pdflatex, paper.pdf beside it.

    As many tables and figures are in it as four pages have room for.

    Returns:
        What there is, in words.

    Raises:
        UserError: neither program is there, or it fails: the message names the folder of the LaTeX;
            a figure or a results file is missing.
    """
    of, folder = frames(study), layout.results(study.tier) / "paper"
    parts = list(_parts(of, folder))
    source, engine = folder / "paper.tex", next(filter(shutil.which, ENGINES), None)
    if engine is None:
        write_text(source, text(of, parts))
        raise UserError(
            f"neither {' nor '.join(ENGINES)} is there to make a PDF of {source}; install one, or "
            f"take the folders {folder} and {layout.figures(study.tier)} to where there is one"
        )

    def pages(own: list[str], passes: int = 1) -> int:
        write_text(source, text(of, own))
        return _compiled(engine, folder, passes)

    kept: list[str] = []
    for part in parts:
        kept += [part] * (pages([*kept, part]) <= PAGES)
    pdf, shown = folder / "paper.pdf", f"{len(kept)} of {len(parts)} tables and figures"
    return f"{pdf}: {pages(kept, PASSES)} pages, {shown}, by {engine}"


def text(of: Frames, parts: list[str]) -> str:
    """The paper: what its sentences say of results is filled in from them.

    Args:
        of: what is known of the study.
        parts: its tables and figures.
    """
    environment = Environment(
        block_start_string="(((*",
        block_end_string="*)))",
        variable_start_string="(((",
        variable_end_string=")))",
        comment_start_string="(((#",
        comment_end_string="#)))",
        trim_blocks=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    environment.filters["tex"] = tex
    template = files("domain_experts.reporting").joinpath("paper.tex.j2").read_text("utf-8")
    work, papers = cited()
    return environment.from_string(template).render(
        work=work, papers=papers, parts=parts, **_said(of)
    )


@lru_cache(maxsize=1)
def _said(of: Frames) -> dict[str, Any]:
    """What the paper says, however many tables and figures it has room for."""
    asked, names = of.study.params.experiments, experiments(of.study)
    lines = {name: answer.line(of, name) for name in names}
    answered = {name: line for name, line in lines.items() if not line.startswith(answer.NO_ANSWER)}
    return {
        "question": answer.question(of),
        "sentences": answer.sentences(of),
        "claims": [MEANS, *counts(of)],
        "experiments": [(asked[name].question, line) for name, line in answered.items()],
        "unanswered": [name for name in names if name not in answered],
    }


def _parts(of: Frames, folder: Path) -> Iterator[str]:
    tables, figures = table_names(of.study), figure_names(of.study)
    for kind, name in PARTS:
        if kind == "table" and name in tables:
            yield "\n".join(map(latex, cut(table(of, name))))
        elif kind == "figure" and name in figures:
            yield _figure(layout.figures(of.study.tier) / f"{name}.pdf", folder)


def cut(whole: Table) -> Iterator[Table]:
    """The rows of a table that have numbers, without columns that there is no room for.

    What is longer than ROWS comes in pieces.
    """
    shown = whole.printed.drop(columns=[head for head in whole.printed if head in LEFT_OUT])
    without = shown.isin(NO_NUMBERS).any(axis=1)
    if "Verdict" in shown:
        without |= shown["Verdict"].str.startswith(UNTESTABLE)
    shown = shown[~without]
    shown = shown.drop(columns=[head for head in shown if (shown[head] == MISSING).all()])
    ranked = [head for head in whole.emphasis if head in shown]
    notes = tuple(note for note in whole.notes if note[:1] in MARKS)
    for start in range(0, len(shown), ROWS):
        rows = shown.iloc[start : start + ROWS]
        yield replace(
            whole,
            name=f"{whole.name}{start // ROWS or ''}",
            caption=whole.caption + " (continued)" * bool(start),
            printed=rows.reset_index(drop=True),
            emphasis=whole.emphasis.loc[rows.index, ranked].reset_index(drop=True),
            notes=notes * (not start),
        )


def _figure(path: Path, folder: Path) -> str:
    """A figure in its own size, which is that of a column or of a page."""
    picture, words = path.with_suffix(".png"), path.with_suffix(".txt")
    if missing := [str(file) for file in (path, picture, words) if not file.is_file()]:
        tier = path.parent.name
        raise UserError(f"{missing[0]} is missing; `domain-experts figures --tier {tier}` makes it")
    with Image.open(picture) as image:
        inches = min(image.width / DPI, PAGE)
    environment = "figure*" if inches > 1.1 * COLUMN else "figure"
    lines = words.read_text(encoding="utf-8").splitlines()
    size = f"width={inches:.2f}in,height=8in,keepaspectratio"
    caption = " ".join(takewhile(lambda line: not line.startswith(STATUS), lines))
    return "\n".join(
        [
            rf"\begin{{{environment}}}",
            r"\centering",
            rf"\includegraphics[{size}]{{{relpath(path, folder)}}}",
            rf"\caption{{{tex(caption)}}}",
            rf"\label{{fig:{path.stem}}}",
            rf"\end{{{environment}}}",
        ]
    )


def _compiled(engine: str, folder: Path, passes: int) -> int:
    """Make the PDF; how many pages it has."""
    command = [engine, *ENGINES[engine], "paper.tex"]
    pages = 0
    for _ in range(passes):
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        log = folder / "paper.log"
        said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        written = re.search(r"Output written on [^(]*\((\d+) page", said)
        if done.returncode or written is None:
            why = next((line for line in said.splitlines() if line.startswith("!")), "no log")
            raise UserError(f"{engine} fails on {folder / 'paper.tex'} ({why}); {log} says more")
        pages = int(written[1])
    return pages
