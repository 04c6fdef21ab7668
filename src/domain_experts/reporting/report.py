"""The report of a tier: verdicts, the answer, every experiment, and where it all comes from."""

import base64
import io
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from domain_experts import layout
from domain_experts.files import sha256, write_text
from domain_experts.reporting import advice, answer
from domain_experts.reporting.catalog import (
    CELLS,
    SEARCH,
    about_all,
    experiments,
    figure_names,
    is_own,
    renews,
    table_names,
)
from domain_experts.reporting.columns import STALE_MARK, STALE_MEANS
from domain_experts.reporting.frame import Frames, frames, status_counts
from domain_experts.reporting.render import Table, html
from domain_experts.reporting.tables import matrix, table
from domain_experts.reporting.verdicts import counts
from domain_experts.study import Study


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
        words, smaller = path.with_suffix(".txt"), io.BytesIO()
        caption = words.read_text(encoding="utf-8").strip() if words.is_file() else ""
        with Image.open(path) as image:
            # without loss; the page is a quarter smaller than with PNG
            image.save(smaller, "WEBP", lossless=True)
            data = base64.b64encode(smaller.getvalue()).decode()
            return cls(name, caption, f"data:image/webp;base64,{data}", *image.size)


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
    own = {path.name: path for path in (layout.results_file(tier), layout.records_file(tier))}
    return environment.from_string(template).render(
        tier=tier,
        question=answer.question(of),
        counts=counts(of),
        sentences=answer.sentences(of),
        advice=advice.sentences(of) if is_own(study) else [],
        first=about_all(study)[0],
        about={name: table(of, name) for name in about_all(study)},
        matrix=matrix(of),
        status=status_counts(of.about["status"]),
        sections=[_section(of, name) for name in names],
        pictures=[Picture.of(tier, name) for name in figure_names(study) if name not in names],
        renews=renews(study),
        draws=renews(study, "figures"),
        reports=renews(study, "report"),
        own=is_own(study),
        mark=STALE_MARK,
        stale_means=STALE_MEANS,
        digests={name: sha256(path) for name, path in own.items()},
        workflow=(layout.results(tier) / "workflow.html").is_file(),
    )


def _known(whole: Table) -> Table:
    """A table without the rows that no seed has made, unless there are no others."""
    made = whole.printed.get("Seeds", pd.Series("", whole.printed.index)) != "0"
    if made.all() or not made.any():
        return whole
    note = f"Rows without numbers, in {whole.name}.md alone: {(~made).sum()}."
    return replace(
        whole,
        printed=whole.printed[made],
        emphasis=whole.emphasis[made] if len(whole.emphasis) else whole.emphasis,
        notes=(*whole.notes, note),
    )


def _section(of: Frames, name: str) -> dict[str, Any]:
    """What the page shows of an experiment."""
    own = (name, name + CELLS, name + SEARCH)
    names = [known for known in table_names(of.study) if known in own]
    return {
        "name": name,
        "question": of.study.params.experiments[name].question,
        "line": answer.line(of, name),
        "status": status_counts(of.of(name)["status"]),
        "tables": [_known(table(of, own)) for own in names],
        "picture": Picture.of(of.study.tier, name),
    }
