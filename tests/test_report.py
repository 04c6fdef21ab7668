"""The report and the terminal's answer: complete for any study, and a page that stays in shape."""

import itertools
import re
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from chromium import BINARY, chromium
from fabricated import forget
from markupsafe import escape
from projects import write_claim
from smoke import OWN, change_params

from domain_experts import layout, results
from domain_experts.errors import UserError
from domain_experts.presence import load_study
from domain_experts.registry import ARMS
from domain_experts.reporting import answer, report
from domain_experts.reporting.catalog import experiments, figure_names, table_names
from domain_experts.reporting.columns import STALE_MEANS
from domain_experts.reporting.frame import frames, status_text
from domain_experts.reporting.notes import status_notes
from domain_experts.reporting.render import Table, number
from domain_experts.reporting.terminal import print_headline, print_status
from domain_experts.results import STALE
from domain_experts.versions import libraries

WIDTHS = (360, 768, 1366, 1920)


class Outline(HTMLParser):
    """What a page is made of: headings, ids, addresses, and the text of its tables."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.ids, self.addresses, self.images = [], [], [], []
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append([int(tag[1]), ""])
            self._heading = True
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "img":
            self.images.append(attrs)
        self.addresses += [(tag, attrs[name]) for name in ("src", "href") if name in attrs]

    def handle_endtag(self, tag):
        self._heading &= not re.fullmatch("h[1-6]", tag)

    def handle_data(self, data):
        if self._heading:
            self.headings[-1][1] += data


def png(width, height):
    """A grey picture."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x99" * width) * height)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def draw(study, names=None):
    """Pictures with captions, some of them large."""
    folder = layout.figures(study.tier)
    folder.mkdir(parents=True)
    for i, name in enumerate(names or figure_names(study)):
        (folder / f"{name}.png").write_bytes(png(700 + 400 * (i % 4), 500 + 900 * (i % 3)))
        (folder / f"{name}.txt").write_text(f"What {name} shows; a < b.")


def written(study):
    """The report's text."""
    report.write_report(study)
    return (layout.results(study.tier) / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def opened(smoke_tree, tmp_path_factory):
    """A Chromium with the report of the fabricated study."""
    if BINARY is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    root = tmp_path_factory.mktemp("a report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in ("results", "params.yaml"):
            (root / name).symlink_to(smoke_tree / name)
        write_claim(root)
        study = load_study("smoke")
        draw(study)
        text = report.page(frames(study))
    assert "Ours: of 1 claims 1 " in text
    # every table here is short
    short = text.replace("const LONG = 12;", "const LONG = 2;")
    assert short != text
    path = root / "report.html"
    path.write_text(short, encoding="utf-8")
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        page.resize(1366)
        page.open(path.as_uri())
        yield page


def test_every_experiment_has_question_table_and_picture(smoke):
    draw(smoke)
    text = written(smoke)
    page = Outline(text)
    questions = [heading for _, heading in page.headings]
    for name in experiments(smoke):
        assert f"experiment-{name}" in page.ids
        assert smoke.params.experiments[name].question in questions
    # and the matrix of data sets and arms
    assert text.count("<table") == len(table_names(smoke)) + 1
    # a name may be an experiment's and a figure's about all
    assert len(page.images) == len(set(figure_names(smoke)))


def test_an_own_experiment_alone_is_reported_without_a_line_of_code(smoke, capsys):
    asked = "Is my <own> setting & arm worth it?"
    study = change_params(
        lambda p: p.update(experiments={OWN: p["experiments"][OWN] | {"question": asked}})
    )
    text = written(study)
    assert f'<section id="experiment-{OWN}">' in text
    assert "Is my &lt;own&gt; setting &amp; arm worth it?" in text
    assert "dropout=0.25" in text
    assert answer.question(frames(study)) == asked
    print_headline(study)
    assert "Base, MLP, dropout=" in capsys.readouterr().out


def test_the_page_opens_on_the_verdicts_and_its_headings_are_in_order(smoke):
    page = Outline(written(smoke))
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert page.headings[0][1] == answer.question(frames(smoke))
    assert next(one for one in page.ids if one != "theme") == "verdicts"
    assert len(page.ids) == len(set(page.ids))


def test_rows_of_which_nothing_is_known_are_in_the_tables_file_alone():
    printed = pd.DataFrame({"Arm": ["a", "b", "c"], "AUC": [".7", "–", ".8"], "Seeds": list("202")})
    marks = pd.DataFrame({"AUC": ["", "", "best"]})
    some = Table("arms", "", printed, printed, 1, marks)
    shown = report._known(some)
    assert list(shown.printed["Arm"]) == list("ac")
    assert list(shown.emphasis["AUC"]) == ["", "best"]
    assert shown.notes == ("Rows without numbers, in arms.md alone: 1.",)
    none = replace(some, printed=printed[1:2], emphasis=marks[1:2])
    assert report._known(none) is none


def test_verdicts_come_first(smoke, capsys):
    assert "There is no ledger of claims" in written(smoke)
    write_claim(Path())
    text = written(smoke)
    first = text.index("Ours: of 1 claims 1 ")
    assert text.index("<main>") < first < text.index('<section id="answer"')
    assert "There is no ledger of claims" not in text
    print_headline(smoke)
    assert capsys.readouterr().out.startswith("Ours: of 1 claims 1 ")


def test_nothing_but_the_page_itself_is_referred_to(smoke):
    draw(smoke)
    (layout.results("smoke") / "workflow.html").write_text("")
    text = written(smoke)
    for tag, address in Outline(text).addresses:
        assert address.startswith(("#", "data:")) or (tag, address) == ("a", "workflow.html")
    assert not re.search(r"https?://|@import|url\(", text)


def test_equal_results_give_equal_bytes(smoke):
    draw(smoke)
    assert written(smoke) == written(smoke)


def test_a_missing_picture_is_told_in_its_place(smoke):
    draw(smoke, ["main"])
    text = written(smoke)
    assert text.count("<img") == 1
    assert "What main shows; a &lt; b." in text
    assert "<code>figures/smoke/new_domain.png</code> is not drawn" in text


def test_stale_numbers_stay_marked(smoke):
    stale = change_params(lambda p: p["model"].update(l2=0.5))
    of = frames(stale)
    assert STALE in set(of.results.status.values())
    printed = answer.answer(of).printed.query("Experiment == 'main'")
    for column in ("Difference", "95 % interval"):
        assert len(printed) and all(text.endswith("°") for text in printed[column])
    first, _, currency = answer.sentences(of)
    gain = r"[+−]?\d\.\d{4}"
    made_again = ("main", "planted_sharing", "new_domain", OWN)
    for said in (first, *(answer.line(of, name) for name in made_again)):
        spans = re.findall(rf"{gain}(?: to {gain})?°?", said)
        assert all(text.endswith("°") for text in spans if text != "0.0005"), said
    assert STALE_MEANS in currency
    assert f"stale numbers, made by {escape(STALE_MEANS)}" in written(stale)
    assert 'class="stale"' in written(stale)


def test_what_makes_a_number_stale_is_said_in_full():
    for what in ("code", "settings", "data", "upstream runs", *libraries()):
        assert what in STALE_MEANS


def test_the_terminal_marks_stale_numbers(smoke, capsys):
    print_headline(change_params(lambda p: p["model"].update(l2=0.5)))
    lines = capsys.readouterr().out.splitlines()
    (own,) = (line for line in lines if line.split()[:1] == ["planted_sharing"])
    assert own.rstrip().endswith("°")


def test_without_results_the_report_says_how_to_make_them(smoke):
    layout.results_file("smoke").unlink()
    with pytest.raises(UserError, match=r"results\.parquet is missing; .*snakemake"):
        report.write_report(smoke)
    assert not (layout.results("smoke") / "report.html").exists()


def test_without_runs_every_sentence_says_so(smoke, capsys):
    forget(smoke, lambda run: True)
    said = answer.sentences(frames(smoke))
    assert "nothing to compare yet" in said[0]
    assert "have no answer yet" in said[1]
    assert re.match(r"[\d,]+ of [\d,]+ runs have no numbers yet", said[2])
    assert answer.answer(frames(smoke)).printed.empty
    print_headline(smoke)
    assert "nothing to compare" in capsys.readouterr().out
    assert "No answer: nothing to compare yet." in written(smoke)


def test_the_candidate_is_chosen_by_validation_rows_alone(smoke):
    of = frames(smoke)
    found = answer.gains(of)
    chosen = answer.best(of, found)
    keys = answer.GROUP
    assert set(found["metric"]) == {"wauc", "macro_auc", "new_domain_auc"}
    most = found.groupby(keys)["validation"].max()
    pd.testing.assert_series_equal(
        chosen.set_index(keys)["validation"].sort_index(),
        most.reindex(chosen.set_index(keys).index).sort_index(),
    )
    assert not any(ARMS[arm].planted for arm in found["arm"])
    ahead = (chosen["reference_validation"] > chosen["validation"]).sum()
    told = f"In {ahead} of {len(chosen)} rows the reference itself is better on validation rows"
    assert any(note.startswith(told) for note in answer.answer(of).notes)
    # another choice would have been possible by test rows
    assert (found.groupby(keys)["gain"].max().reindex(most.index) >= chosen["gain"].min()).any()


def test_of_a_loss_the_lowest_is_the_best(smoke):
    of = frames(change_params(lambda p: p["experiments"][OWN].update(metric="log_loss")))
    found = answer.gains(of).query("experiment == @OWN")
    (chosen,) = answer.best(of, found)["validation"]
    assert chosen == found["validation"].min() < found["validation"].max()


def test_a_metric_without_a_better_side_has_no_answer(smoke):
    of = frames(change_params(lambda p: p["experiments"][OWN].update(metric="calibration")))
    assert OWN not in set(answer.gains(of)["experiment"])
    why = "`reporting.columns` does not say which values of calibration are better"
    assert answer.line(of, OWN) == f"No answer: {why}."
    assert f"No answer in {OWN}: {why}." in answer.answer(of).notes


def test_without_validation_rows_nobody_is_chosen(smoke):
    of = frames(smoke)
    assert answer.best(of, answer.gains(of).assign(validation=float("nan"))).empty


def test_the_first_sentence_counts_what_the_frame_holds(smoke):
    of = frames(smoke)
    own = answer.gains(of).query("experiment == 'main' and arm == 'moe_mlora' and over == 'mlora'")
    (gain,) = own["gain"]
    assert f"MLoRA ({number(gain, signed=True)})" in answer.sentences(of)[0]
    several = own.assign(verdict="worse").loc[[*own.index] * 3]
    assert answer._counted(several.assign(verdict=["better", "worse", "worse"]), "it").startswith(
        "better than it in 1 of 3 comparisons (worse in 2; "
    )
    assert answer._counted(several, "it").startswith(
        "better than it in none of 3 comparisons (worse in all"
    )


def test_the_most_is_told_for_each_metric_apart(smoke):
    of = frames(smoke)
    names, found = experiments(smoke), answer.gains(of)
    found = found[found["experiment"] != "main"].assign(verdict="better", low=0.1, high=0.2)
    said = answer._others(of, names, found)
    assert re.findall(r"most in (.*?) on planted", said) == [
        "WAUC",
        "AUC on the new domain",
        "Mean AUC",
    ]
    chosen = answer.best(of, found)
    for metric in set(found["metric"]):
        most = chosen.loc[chosen["metric"] == metric, "gain"].max()
        assert f": {number(most, signed=True)} (95 % interval" in said


def test_one_seed_is_called_so(smoke):
    assert answer.sentences(frames(smoke))[0].endswith("means over up to 2 seeds.")
    one = change_params(lambda p: p["tiers"]["smoke"].update(seeds=[2022]))
    assert answer.sentences(frames(one))[0].endswith("one seed each.")


def test_thousands_of_runs_have_a_comma_in_sentence_and_note(smoke):
    of, many = frames(smoke), pd.DataFrame({"status": ["stale"] * 1140 + ["not run"] * 2000})
    assert status_text(many["status"]) == "1,140 stale, 2,000 not run"
    stale, missing = status_notes(of, many)
    assert "1,140 of 3,140 runs" in stale
    assert "2,000 of 3,140 runs" in missing


def test_floors_alone_have_a_report(smoke):
    floors = {"arms": ["item_rate", "user_item_rate"], "compare": ["user_item_rate"]}
    study = change_params(lambda p: p["experiments"]["main"].update(floors))
    assert (
        answer.sentences(frames(study))[0]
        == "Experiment main has no answer: nothing to compare yet."
    )
    assert "experiment-main" in written(study)


def test_data_that_are_not_there_are_told(smoke, capsys):
    gone = smoke.all_datasets[0]
    forget(smoke, lambda run: run.dataset == gone)
    frame = results.read(layout.results_file("smoke"))
    rows = [results.identity(run) for run in smoke.expected_runs if run.dataset == gone]
    absent = results.table(row | {"status": results.ABSENT} for row in rows)
    results.write(pd.concat([frame, absent]), layout.results_file("smoke"))
    print_headline(smoke)
    printed = capsys.readouterr().out
    assert "DATA NOT PRESENT (1)" in printed
    assert gone in printed
    assert f"{len(rows)} of them for want of data" in answer.sentences(frames(smoke))[2]
    assert "data not present" in written(smoke)


def test_the_terminal_ends_on_the_answer(smoke, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    report.write_report(smoke)
    print_headline(smoke)
    printed = capsys.readouterr().out
    plain = " ".join(printed.split())
    of = frames(smoke)
    for words in (answer.question(of), *answer.sentences(of), *experiments(smoke)):
        assert words in plain
    main = answer.answer(of).printed.query("Experiment == 'main'")
    assert len(main)
    for cell in main["95 % interval"]:
        assert cell in plain
    assert max(map(len, printed.splitlines())) <= 80


def test_the_terminal_names_only_what_is_there(smoke, capsys):
    print_headline(smoke)
    assert "report.html" not in capsys.readouterr().out
    report.write_report(smoke)
    draw(smoke)
    print_headline(smoke)
    printed = capsys.readouterr().out
    assert "results/smoke/report.html" in printed
    assert "figures/smoke" in printed
    assert "tables" not in printed.splitlines()[-2]


def test_status_counts_the_runs_of_each_experiment(smoke, capsys):
    forget(smoke, lambda run: run.arm == "mlora")
    print_status(smoke)
    lines = {
        line.split()[0]: line.split()
        for line in capsys.readouterr().out.splitlines()
        if line.strip()
    }
    runs = smoke.expected["main"]
    assert sum(map(int, lines["main"][1:])) == len(runs)
    assert int(lines["main"][3]) >= sum(run.arm == "mlora" for run in runs)


OUTSIDE = """
(() => {
  const found = [], wide = document.documentElement.clientWidth, boxes = ".box, nav ol";
  if (document.documentElement.scrollWidth > wide) found.push("the page");
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  for (const one of document.querySelectorAll("main, main *, nav, nav > *")) {
    if (one.parentElement.closest(boxes)) continue;
    const { left, right, width } = one.getBoundingClientRect();
    const name = `${one.tagName} ${one.className} ${one.textContent.slice(0, 30)}`;
    if (width && (left < -1 || right > wide + 1)) found.push(name);
    const inline = getComputedStyle(one).display === "inline" || one.matches(boxes);
    if (!inline && one.clientWidth && one.scrollWidth > one.clientWidth + 1) found.push(name);
  }
  return found;
})()
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_no_element_is_outside_its_box(opened, width):
    opened.resize(width)
    assert opened.evaluate("document.documentElement.clientWidth") <= width
    assert opened.evaluate(OUTSIDE) == []
    assert opened.evaluate("[...document.images].every((one) => one.naturalWidth > 0)")


def test_no_request_leaves_the_page(opened):
    assert [url for url in opened.requests if not url.startswith("data:")] == [
        opened.evaluate("location.href")
    ]
    assert opened.errors == []


def test_tables_sort_by_number_and_search(opened):
    opened.resize(1366)
    opened.evaluate(
        """
        window.table = document.querySelector("#answer table");
        window.head = [...table.rows[0].cells].find((one) => one.textContent === "Difference");
        window.column = () => [...table.tBodies[0].rows].map(
          (row) => row.cells[head.cellIndex].textContent);
        window.before = column();
        head.querySelector("button").focus();
        """
    )

    def numbers():
        return [
            float(text.replace("−", "-").replace(",", "").rstrip("°"))
            for text in opened.evaluate("column()")
        ]

    before = numbers()
    assert min(before) < 0 < max(before)
    opened.press("Enter")
    assert opened.evaluate("head.ariaSort") == "ascending"
    assert numbers() == sorted(before)
    opened.press("Enter")
    assert numbers() == sorted(before, reverse=True)
    opened.press("Enter")
    assert opened.evaluate("JSON.stringify(column()) === JSON.stringify(before)")
    found = opened.evaluate(
        """
        window.input = document.querySelector("figure.table input");
        window.rows = [...input.closest("figure").querySelectorAll("tbody tr")];
        input.value = "MLoRA mlp"; input.dispatchEvent(new Event("input"));
        rows.map((row) => [row.hidden, row.textContent.toLowerCase()])
        """
    )
    assert {hidden for hidden, _ in found} == {True, False}
    assert all(hidden == (not ("mlora" in text and "mlp" in text)) for hidden, text in found)


@pytest.mark.parametrize(
    ("texts", "words", "expected"),
    [
        (["0.5 ± 0.1", "−1.2°", "1,140", "–", "+0.7*", "not run"], False,
         ["−1.2°", "0.5 ± 0.1", "+0.7*", "1,140", "–", "not run"]),
        (["D10", "D2", "D1"], True, ["D1", "D2", "D10"]),
    ],
)  # fmt: skip
def test_what_is_compared_is_the_number(opened, texts, words, expected):
    script = f"{texts!r}.toSorted((a, b) => compared(a, b, {str(words).lower()}, 1))"
    assert opened.evaluate(script) == expected


def test_the_first_tab_skips_to_the_answer_and_the_theme_turns(opened):
    opened.evaluate("document.activeElement.blur(); document.body.focus()")
    opened.call("Page.reload")
    opened.open(opened.evaluate("location.href"))
    # a page that is not drawn yet takes no keys
    for _ in range(20):
        opened.press("Tab")
        if opened.evaluate("document.activeElement != document.body"):
            break
    assert opened.evaluate("document.activeElement.className") == "skip"
    colour = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(colour)
    opened.evaluate("document.getElementById('theme').click()")
    assert opened.evaluate(colour) != light
