"""A paper of four pages: what its LaTeX holds, and how a PDF is made of it."""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.reporting import answer, latex
from domain_experts.reporting.citation import FILE as CITATION
from domain_experts.reporting.columns import NO_NUMBERS
from domain_experts.reporting.frame import frames
from domain_experts.reporting.latex import LEFT_OUT, ROWS, cut, text, write_paper
from domain_experts.reporting.render import tex
from domain_experts.reporting.style import COLUMN, DPI
from domain_experts.reporting.tables import table

ROOT = Path(__file__).parents[1]
PAPER = Path("results/quick/paper")


CLAIMS = """
paper: A paper
claims:
- id: gains
  says: MLoRA beats the model without adapters.
  source: abstract
  rule: {kind: gain, experiments: [oracle], arms: [mlora], over: base, expect: better}
- id: untested
  says: It does so with five seeds.
  source: abstract
  rule:
    {kind: gain, experiments: [oracle], arms: [mlora], over: base, expect: better, min_seeds: 5}
"""


@pytest.fixture(scope="module")
def of(fabricated_tree, tmp_path_factory):
    """The results of a study in a folder of their own, with a ledger of two claims."""
    source, study = fabricated_tree
    folder = tmp_path_factory.mktemp("paper")
    results = folder / "results/quick"
    results.mkdir(parents=True)
    for path in (layout.results_file("quick"), layout.records_file("quick")):
        shutil.copy(source / path, results)
    shutil.copy(source / "params.yaml", folder)
    shutil.copy(ROOT / CITATION, folder)
    (folder / "claims").mkdir()
    (folder / "claims/claims.yaml").write_text(CLAIMS)
    with contextlib.chdir(folder):
        found = frames(study)
        # read once, in this folder
        assert table(found, "verdicts").printed.shape[0] == 2
    return folder, found


@pytest.fixture
def there(of, monkeypatch):
    """That study in its folder, with a picture for each figure of the paper."""
    folder, found = of
    monkeypatch.chdir(folder)
    monkeypatch.setattr(latex, "frames", lambda study: found)
    shutil.rmtree(PAPER, ignore_errors=True)
    for kind, name in latex.PARTS:
        if kind == "figure":
            picture = layout.figures("quick") / f"{name}.png"
            picture.parent.mkdir(exist_ok=True, parents=True)
            for path in (picture, picture.with_suffix(".pdf")):
                Image.new("1", (int(COLUMN * DPI), 100)).save(path)
            picture.with_suffix(".txt").write_text(f"What is {name}?\n° stale: 1_0 %.\n")
    return found


def test_sentences_are_those_of_the_answer(there):
    made = text(there, ["PART"])
    for sentence in answer.sentences(there):
        assert tex(sentence) in made
    for name in ("main", "oracle"):
        assert tex(answer.line(there, name)) in made
    assert made.count("PART") == 1
    assert "(((" not in made


@pytest.mark.parametrize("name", ["verdicts", "overview", "main", "datasets"])
def test_a_table_is_cut_to_what_has_numbers(there, name):
    whole = table(there, name)
    pieces = list(cut(whole))
    assert pieces
    assert len({piece.name for piece in pieces}) == len(pieces)
    heads = [list(piece.printed) for piece in pieces]
    assert all(own == heads[0] for own in heads)
    assert not {*heads[0]} & LEFT_OUT
    assert heads[0] == [head for head in whole.printed if head in heads[0]]
    assert all(len(piece.printed) <= ROWS for piece in pieces)
    kept = sum(len(piece.printed) for piece in pieces)
    without = whole.printed.drop(columns=[head for head in whole.printed if head in LEFT_OUT])
    empty = without.isin(NO_NUMBERS).any(axis=1)
    if name == "verdicts":
        empty |= without["Verdict"].str.startswith("not testable")
    assert kept == (~empty).sum()
    assert all(piece.emphasis.index.equals(piece.printed.index) for piece in pieces)


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ("50 % & a_b", r"50 \% \& a\_b"),
        ("`--tier x_y`", r"\texttt{--tier x\_y}"),
        ("{a} < \\b ^", r"\{a\} $<$ \textbackslash{}b \textasciicircum{}"),
    ],
)
def test_text_is_safe_for_latex(plain, expected):
    assert tex(plain) == expected


def test_without_an_engine_the_folder_is_named(there, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="neither tectonic nor pdflatex is there") as error:
        write_paper(there.study)
    assert f"take the folders {PAPER} and figures/quick" in str(error.value)
    assert r"\end{document}" in (PAPER / "paper.tex").read_text()


def test_a_missing_figure_is_named(there, monkeypatch):
    (layout.figures("quick") / "gain_by_domain.pdf").unlink()
    with pytest.raises(UserError, match=r"gain_by_domain\.pdf is missing.*figures --tier"):
        write_paper(there.study)


def engine(monkeypatch, pages, status=0):
    """A stand-in for LaTeX that says how many pages so many parts fill."""

    def run(command, cwd, **_):
        parts = (cwd / "paper.tex").read_text().count(r"\caption")
        log = f"! Undefined.\nOutput written on paper.pdf ({pages(parts)} pages, 1 bytes)."
        (cwd / "paper.log").write_text(log)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(shutil, "which", lambda name: name == "pdflatex")
    monkeypatch.setattr(subprocess, "run", run)


def test_it_holds_as_much_as_four_pages_do(there, monkeypatch):
    engine(monkeypatch, lambda parts: max(2, parts))
    assert ": 4 pages, " in write_paper(there.study)
    made = (PAPER / "paper.tex").read_text()
    assert made.count(r"\caption") == 4
    assert r"\label{tab:verdicts}" in made


def test_what_latex_refuses_is_told(there, monkeypatch):
    engine(monkeypatch, lambda parts: 1, status=1)
    with pytest.raises(UserError, match=r"pdflatex fails on .*\(! Undefined\.\).*paper\.log"):
        write_paper(there.study)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_takes_it(there):
    said = write_paper(there.study)
    assert int(re.search(r"(\d) pages", said)[1]) <= latex.PAGES
    assert (PAPER / "paper.pdf").read_bytes().startswith(b"%PDF")
