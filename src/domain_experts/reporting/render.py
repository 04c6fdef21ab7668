"""Tables as CSV (numbers), Markdown, LaTeX, HTML and on a terminal (as printed)."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple, Self

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from domain_experts.files import write_text
from domain_experts.plain_text import markdown as escaped
from domain_experts.plain_text import visible, without_tags

MISSING = "–"
BEST, SECOND = "best", "second"
LONG = 40
"""Rows beyond which a LaTeX table may break over pages."""
NARROW, FOLD = 50, 40
"""Letters in a row beyond which it is as wide as the page, and in a cell from which it folds."""
_FOLDED = r">{\raggedright\arraybackslash}p{2.4in}"
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
_TAGS = {BEST: "<b>{}</b>", SECOND: "<u>{}</u>"}
_MARKDOWN = {BEST: "**{}**", SECOND: "<u>{}</u>"}
_COMMANDS = {BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}"}
_LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "…": r"\ldots{}", "≥": r"$\geq$"}
    | {"±": r"$\pm$", "−": "$-$", "–": "--", "×": r"$\times$", "†": r"$^\dagger$"}
    | {char: f"${char}$" for char in "<>|"}
    | {"°": r"$^\circ$", "*": "$^*$", "α": r"$\alpha$", "β": r"$\beta$", "~": r"\textasciitilde{}"}
)


class Shown(NamedTuple):
    """A column as read."""

    head: str
    cells: Sequence[str]
    ranks: Sequence[str] = ()
    """BEST, SECOND or empty."""


@dataclass(frozen=True)
class Table:
    """A table as read: `caption`, rows of text under headings, notes; and the numbers behind it."""

    name: str
    caption: str
    numbers: pd.DataFrame
    """Goes into the CSV."""
    printed: pd.DataFrame
    """The same as text."""
    words: int
    """How many of the first columns hold words; the others hold numbers."""
    emphasis: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Of some columns of `printed`: BEST, SECOND or empty."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        caption: str,
        numbers: pd.DataFrame,
        words: pd.DataFrame,
        columns: Sequence[Shown] = (),
        notes: Iterable[str] = (),
    ) -> Self:
        """A table whose rows are named by `words`, in the columns that follow."""
        printed = words.assign(**{shown.head: shown.cells for shown in columns})
        ranks = {shown.head: shown.ranks for shown in columns if shown.ranks}
        emphasis = pd.DataFrame(ranks, printed.index)
        return cls(name, caption, numbers, printed, words.shape[1], emphasis, tuple(notes))


def number(value: float, digits: int = 4, signed: bool = False) -> str:
    """A number with a true minus sign; a dash if it is missing."""
    if pd.isna(value):
        return MISSING
    # what rounds to zero has no sign
    rounded = round(value, digits) or 0.0
    return f"{rounded:{'+' if signed and rounded else ''},.{digits}f}".replace("-", "−")


def mean_sd(mean: float, sd: float, digits: int = 4, signed: bool = False, unit: str = "") -> str:
    """`mean ± sd`; the mean alone where one seed gives no spread."""
    text = number(mean, digits, signed)
    text = text if pd.isna(sd) else f"{text} ± {number(sd, digits)}"
    return f"{text} {unit}" if unit and text != MISSING else text


def write_table(folder: Path, table: Table) -> None:
    """Write `<name>.csv`, `.md` and `.tex`."""
    write_csv(folder / f"{table.name}.csv", table.numbers)
    write_text(folder / f"{table.name}.md", markdown(table))
    write_text(folder / f"{table.name}.tex", latex(table))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame, with ten significant digits; missing values are empty."""
    write_text(path, frame.to_csv(index=False, float_format="%.10g", lineterminator="\n"))


def markdown(table: Table) -> str:
    """The table for Markdown, caption first, notes last."""
    cells = _marked(table, _MARKDOWN, escaped)
    heads = [escaped(str(name)) for name in cells]
    rules = [":--" if i < table.words else "--:" for i in range(len(heads))]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, rules, *cells.to_numpy().tolist())]
    notes = ["", *(f"- {without_tags(note)}" for note in table.notes)] if table.notes else []
    return "\n".join([without_tags(table.caption), "", *lines, *notes]) + "\n"


def tex(text: str) -> str:
    """Text for LaTeX; what stands in backticks is set in a typewriter's face."""
    return re.sub("`([^`]*)`", r"\\texttt{\1}", visible(text).translate(_LATEX))


def _tex_cell(cell: str) -> str:
    """A cell for LaTeX; a standard deviation is set small."""
    return re.sub(r" \$\\pm\$ ([\d.,]+)", r"$_{\\pm\1}$", tex(cell))


def _tex_head(head: str, cells: Sequence[str]) -> str:
    """The head of a column of numbers, in lines that are hardly longer than these."""
    lines = wrap(head, max(10, *map(len, cells)), break_long_words=False) if cells else [head]
    own = r" \\ ".join(map(tex, lines))
    return rf"\shortstack[r]{{{own}}}" if len(lines) > 1 else own


def latex(table: Table) -> str:
    """The table for LaTeX, with caption and label.

    It is as wide as a column of a paper or, if it holds more, as a page, and smaller where it would
    be wider than that. A long one breaks over pages, in one column.
    """
    cells = _marked(table, _COMMANDS, _tex_cell)
    names = [*map(str, table.printed)]
    words, numbers = names[: table.words], names[table.words :]
    heads = [_tex_head(name, list(table.printed[name])) for name in numbers]
    named = table.printed.set_axis(names, axis=1)
    # heads of numbers fold, those of words do not
    longest = [max(map(len, ("" if h in numbers else h, *own))) for h, own in named.items()]
    cells.columns = [*map(tex, words), *heads]
    long, wide = len(cells) > LONG, sum(longest) > NARROW
    folded = [_FOLDED if n > FOLD else "l" for n in longest[: table.words]]
    text: str = cells.style.hide(axis="index").to_latex(
        environment="longtable" if long else "table*" if wide else "table",
        position=None if long else "tbp" if wide else "htbp",
        position_float=None if long else "centering",
        column_format="".join(folded) + "r" * len(numbers),
        hrules=True,
        caption=tex(" ".join((table.caption, *table.notes))),
        label=f"tab:{table.name}",
    )
    if not long:
        text = text.replace(r"\begin{tabular}", _FIT + r"\begin{tabular}")
        text = text.replace(r"\end{tabular}", r"\end{tabular}}")
    return f"% needs the packages array, booktabs, {'longtable' if long else 'graphicx'}\n{text}"


def terminal(table: Table) -> RichTable:
    """The table for a terminal: words fold where it is narrow, numbers do not."""
    # as text: what a name holds between brackets would be markup
    title = Text(visible(table.caption)) if table.caption else None
    made = RichTable(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for i, head in enumerate(table.printed):
        if i < table.words:
            made.add_column(Text(visible(str(head))), overflow="fold")
        else:
            made.add_column(Text(visible(str(head))), justify="right", no_wrap=True)
    for row in table.printed.itertuples(index=False):
        made.add_row(*(Text(visible(cell)) for cell in row))
    return made


def html(table: Table) -> str:
    """The table as a piece of HTML: a figure with caption, table and notes."""
    cells = _marked(table, _TAGS, _html)
    cells.columns = [_html(str(name)) for name in cells]
    body = cells.style.hide(axis="index").to_html(exclude_styles=True)
    # pandas has a line a cell, and ends what ends by itself: a fifth of a long page's text
    body = re.sub(r"(</t[dh]>)?\n +(?=<t[dh] |</tr>)", "", body)
    body = re.sub("<(t[dh]) >", r"<\1>", body)
    notes = "".join(f"<li>{_html(note)}</li>" for note in table.notes)
    return (
        f'<figure class="table" data-words="{table.words}">\n'
        f"<figcaption>{_html(table.caption)}</figcaption>\n{body}"
        + f"<ul>{notes}</ul>\n" * bool(notes)
        + "</figure>\n"
    )


def _html(text: str) -> str:
    return escape(visible(text))


def _marked(table: Table, marks: Mapping[str, str], change: Callable[[str], str]) -> pd.DataFrame:
    """The changed cells, the best and second within marks."""
    changed = table.printed.map(change)
    for name, own in table.emphasis.items():
        pairs = zip(own, changed[name], strict=True)
        changed[name] = [marks.get(mark, "{}").format(cell) for mark, cell in pairs]
    return changed
