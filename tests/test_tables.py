"""Tables from a fabricated results tree."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from fabricated import LEFT_OUT

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.params import Study
from domain_experts.reporting import tables as module
from domain_experts.reporting.collect import collect
from domain_experts.reporting.headline import print_headline
from domain_experts.reporting.tables import write_tables

NAMES = ("overview", "main", "experts_per_domain", "planted_sharing", "cost", "datasets")
FOLDER = layout.results("quick") / "tables"


def csv(name):
    return pd.read_csv(FOLDER / f"{name}.csv")


def test_main_means_and_paired_gains(fabricated):
    write_tables(fabricated)
    wauc = {
        (run.arm, run.seed): metrics["test"]["click"]["wauc"]
        for run, metrics in collect(fabricated).metrics.items()
        if (run.dataset, run.backbone, run.variant) == ("planted", "mlp", ())
    }
    table = csv("main").set_index(["dataset", "backbone", "arm"])
    row = table.loc[("planted", "mlp", "moe_mlora")]
    own = np.array([wauc["moe_mlora", seed] for seed in (1, 2, 3)])
    gain = own - [wauc["mlora", seed] for seed in (1, 2, 3)]
    assert row["seeds"] == 3
    assert row["wauc_mean"] == pytest.approx(own.mean(), abs=1e-6)
    assert row["wauc_sd"] == pytest.approx(own.std(ddof=1), rel=1e-4)
    assert row["gain_over_mlora_mean"] == pytest.approx(gain.mean(), rel=1e-4)
    assert row["gain_over_mlora_sd"] == pytest.approx(gain.std(ddof=1), rel=1e-4)


def test_the_released_arm_has_binned_wauc_and_no_gains(fabricated):
    write_tables(fabricated)
    released = csv("main").query("arm == 'moe_mlora_released' and status == 'present'")
    assert released["gain_over_base_mean"].isna().all()
    assert released["binned_wauc_mean"].notna().all()
    assert "split is fixed by seed 123" in (FOLDER / "main.md").read_text()


def test_floors_appear_once_per_data_set(fabricated):
    write_tables(fabricated)
    floors = csv("main").query("arm == 'item_rate'")
    assert sorted(floors["dataset"]) == sorted(fabricated.all_datasets)


def test_a_data_set_left_out_is_marked_everywhere(fabricated, capsys):
    write_tables(fabricated)
    for name in ("main", "experts_per_domain", "cost", "datasets"):
        own = csv(name).query(f"dataset == '{LEFT_OUT}'")
        assert set(own["status"]) == {"data not present"}
        assert "data not present" in (FOLDER / f"{name}.md").read_text()
    print_headline("quick")
    printed = capsys.readouterr().out
    assert "DATA NOT PRESENT" in printed
    assert LEFT_OUT in printed


def test_headline_says_where_things_are(fabricated, capsys):
    write_tables(fabricated)
    print_headline("quick")
    printed = capsys.readouterr().out
    for place in ("results/quick/report.html", "results/quick/tables/", "figures/quick/"):
        assert place in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_headline_without_tables_names_the_way_out(project):
    with pytest.raises(UserError, match=r"main\.csv is missing; run `snakemake"):
        print_headline("quick")


def test_published_cells_are_shown_with_a_verdict(fabricated, monkeypatch):
    cell = {"dataset": ["planted"], "backbone": ["mlp"], "arm": ["base"], "published": [0.99]}
    monkeypatch.setattr(module, "published", lambda metric: pd.DataFrame(cell))
    write_tables(fabricated)
    row = csv("main").set_index(["dataset", "backbone", "arm"]).loc[("planted", "mlp", "base")]
    assert row["verdict"] == "not met"
    assert row["less_published"] == pytest.approx(row["wauc_mean"] - 0.99, abs=1e-5)
    assert "not met" in (FOLDER / "main.md").read_text()


def test_sharing_has_a_row_a_seed_and_the_best_possible(fabricated):
    write_tables(fabricated)
    table = csv("planted_sharing")
    assert list(table["seed"]) == [1, 2, 3, 4]
    assert (table["own_group_chance"] == 0.25).all()
    assert (table["wauc_bayes"] > table["wauc_base"]).all()
    # the fabricated gates lean to their own expert
    assert "own expert less chance: +0" in (FOLDER / "planted_sharing.md").read_text()


def test_experts_per_domain_gains_are_over_one(fabricated):
    write_tables(fabricated)
    table = csv("experts_per_domain").query("status == 'present'")
    assert sorted(set(table["experts_per_domain"])) == [1, 2, 4]
    assert (table.query("experts_per_domain == 1")["gain_over_one_mean"] == 0).all()


def test_one_class_domains_are_named(fabricated):
    run = next(run for run in fabricated.runs if run.dataset == "planted")
    path = layout.run_results("quick", run) / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["test"]["click"]["left_out"] = ["domain 7"]
    path.write_text(json.dumps(metrics))
    write_tables(fabricated)
    assert "no part in WAUC, for domain 7" in (FOLDER / "main.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_latex_is_a_tabular_of_even_rows(fabricated, name):
    write_tables(fabricated)
    text = (FOLDER / f"{name}.tex").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    columns = len(re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines[0])[1])
    rows = [line for line in lines if line.endswith(r"\\")]
    assert all(len(re.split(r"(?<!\\)&", row)) == columns for row in rows)
    assert lines[-1] == r"\end{tabular}"
    assert re.fullmatch(r"[\x00-\x7f]*", "\n".join(rows))
    assert "Tier quick" in text


def test_equal_results_give_equal_bytes(fabricated):
    write_tables(fabricated)
    before = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    write_tables(fabricated)
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == before
    assert set(before) == {
        *(f"{name}.{kind}" for name in NAMES for kind in ("csv", "html", "md", "tex")),
        "metrics.json",
        "curves.csv",
    }


def test_metrics_for_dvc(fabricated):
    write_tables(fabricated)
    metrics = json.loads((FOLDER / "metrics.json").read_text())
    main = csv("main").set_index(["dataset", "backbone", "arm"])["wauc_mean"]
    assert metrics["planted"]["wdl"]["mlora"] == pytest.approx(main["planted", "wdl", "mlora"])
    assert LEFT_OUT not in metrics


def test_a_study_without_any_data_still_has_tables(fabricated):
    study = Study(fabricated.params, "quick", frozenset(fabricated.all_datasets))
    write_tables(study)
    assert set(csv("main")["status"]) == {"data not present"}
    assert len(csv("planted_sharing")) == 0


@pytest.mark.parametrize("name", ["metrics.json", "run.json"])
def test_a_missing_result_names_the_way_out(fabricated, name):
    run = fabricated.runs[0]
    (layout.run_results("quick", run) / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing; delete .*runs\.json"):
        write_tables(fabricated)


def test_an_unfinished_job_is_named(fabricated):
    index = layout.job_index("quick", fabricated.jobs()[0])
    index.unlink()
    with pytest.raises(UserError, match=re.escape(f"{index} is missing")):
        write_tables(fabricated)


def test_a_damaged_result_is_named(fabricated):
    path = layout.run_results("quick", fabricated.runs[0]) / "metrics.json"
    path.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        write_tables(fabricated)


def test_reporting_needs_no_torch():
    import subprocess

    code = (
        "import sys, domain_experts.reporting.tables, domain_experts.reporting.figures\n"
        "import domain_experts.reporting.headline\n"
        "sys.exit(bool({'torch', 'domain_experts.data.interactions'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class _Cells(HTMLParser):
    """The texts of all cells of a page."""

    def __init__(self):
        super().__init__()
        self.texts = []
        self.inside = False

    def handle_starttag(self, tag, attributes):
        if tag in ("th", "td"):
            self.texts.append("")
        self.inside = tag in ("th", "td")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.texts[-1] += data.strip()


@pytest.mark.parametrize("name", NAMES)
def test_html_shows_what_markdown_shows(fabricated, name):
    write_tables(fabricated)
    page = _Cells()
    page.feed((FOLDER / f"{name}.html").read_text())
    heading, _, *rows = [
        line[2:-2].split(" | ")
        for line in (FOLDER / f"{name}.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    assert page.texts == [cell for line in (heading, *rows) for cell in line]


def test_overview_holds_the_means_of_the_main_table(fabricated):
    write_tables(fabricated)
    main = csv("main").set_index(["dataset", "backbone", "arm"])["wauc_mean"]
    overview = csv("overview")
    assert set(overview["backbone"]) == {b for _, b, _ in main.index} - {"none"}
    for row in overview.to_dict("records"):
        for (dataset, backbone, arm), expected in main.items():
            if dataset == row["dataset"] and backbone in (row["backbone"], "none"):
                assert row[f"{arm}_wauc_mean"] == expected or pd.isna(expected)
