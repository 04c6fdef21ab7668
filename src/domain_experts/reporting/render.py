"""Tables as CSV (numbers), Markdown, LaTeX and HTML (as printed)."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from domain_experts.files import replacing

MISSING = "–"
# columns of words are set to the left, numbers to the right
WORDS = (
    "Data set",
    "Task",
    "Backbone",
    "Arm",
    "Variant",
    "Status",
    "Seed",
    "Note",
    "Layers",
    "New domain",
    "Ranks",
    "Switch",
    "From",
    "To",
    "Varied",
    "Model",
    "Domain",
    "Order",
)
_HTML = """<!doctype html>
<meta charset="utf-8">
<style>
body {{ font: 14px sans-serif; max-width: 75em }}
table {{ border-collapse: collapse }}
th, td {{ padding: 0.2em 0.7em; border-bottom: 1px solid #ccc; text-align: right }}
td {{ white-space: nowrap }}
{left} {{ text-align: left }}
</style>
<p>{caption}</p>
{table}
<ul>{notes}</ul>
"""
_LATEX = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "_": r"\_",
        "#": r"\#",
        "$": r"\$",
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "×": r"$\times$",
        "†": r"$^\dagger$",
        "°": r"$^\circ$",
        "‡": r"$^\ddagger$",
        "α": r"$\alpha$",
        "β": r"$\beta$",
        "§": r"\S{}",
    }
)


@dataclass(frozen=True)
class Table:
    """One table of the report."""

    name: str
    caption: str
    numbers: pd.DataFrame
    """Goes into the CSV."""
    printed: pd.DataFrame
    """The same as text, under headings for readers."""
    notes: tuple[str, ...] = ()


def number(value: float, digits: int = 4, signed: bool = False) -> str:
    """A number with a true minus sign; a dash if it is missing."""
    if pd.isna(value):
        return MISSING
    # what rounds to zero has no sign
    rounded = round(value, digits) or 0.0
    sign = "+" if signed and rounded else ""
    return f"{rounded:{sign}.{digits}f}".replace("-", "−")


def mean_sd(mean: float, sd: float, digits: int = 4, signed: bool = False) -> str:
    """`mean ± sd`; the mean alone where one seed gives no spread."""
    text = number(mean, digits, signed)
    return text if pd.isna(sd) else f"{text} ± {number(sd, digits)}"


def counts(values: "pd.Series[float]") -> list[str]:
    """Whole numbers with thousands separated; a dash where one is missing."""
    return [MISSING if pd.isna(value) else f"{value:,.0f}" for value in values]


def write_table(folder: Path, table: Table) -> None:
    """Write `<name>.csv`, `.md`, `.tex` and `.html`."""
    write_csv(folder / f"{table.name}.csv", table.numbers)
    _write(folder / f"{table.name}.md", _markdown(table))
    _write(folder / f"{table.name}.tex", _latex(table))
    _write(folder / f"{table.name}.html", _html(table))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame; missing values are empty.

    Ten significant digits: what is rounded again for the terminal agrees with the tables.
    """
    _write(path, frame.to_csv(index=False, float_format="%.10g", lineterminator="\n"))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _markdown(table: Table) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rules = [":--" if name in WORDS else "--:" for name in table.printed]
    rows = [line(row) for row in table.printed.to_numpy().tolist()]
    text = [table.caption, "", line(list(table.printed.columns)), line(rules), *rows]
    if table.notes:
        text += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(text) + "\n"


def _latex(table: Table) -> str:
    def line(cells: list[str]) -> str:
        return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"

    comments = [f"% {text}" for text in (table.caption, *table.notes)]
    columns = "".join("l" if name in WORDS else "r" for name in table.printed)
    text = [*comments, "% needs \\usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}"]
    text += [r"\toprule", line(list(table.printed.columns)), r"\midrule"]
    rows = table.printed.to_numpy().tolist()
    for i, row in enumerate(rows):
        if i > 0 and row[0] != rows[i - 1][0]:
            text.append(r"\midrule")
        text.append(line(row))
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _html(table: Table) -> str:
    words = [i for i, name in enumerate(table.printed, start=1) if name in WORDS]
    return _HTML.format(
        left=", ".join(f"{cell}:nth-child({i})" for i in words for cell in ("th", "td")),
        caption=escape(table.caption),
        table=table.printed.to_html(index=False, border=0),
        notes="".join(f"<li>{escape(note)}</li>" for note in table.notes),
    )
