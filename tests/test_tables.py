"""Tables from a fabricated results tree."""

import contextlib
import json
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml
from fabricated import LEFT_OUT, PARAMS, changed, forget, rewrite

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.phases import TABLES
from domain_experts.reporting import main_tables
from domain_experts.reporting.ablation_tables import experts_per_domain
from domain_experts.reporting.collect import collect
from domain_experts.reporting.dataset_tables import cost, datasets
from domain_experts.reporting.headline import print_headline
from domain_experts.reporting.main_tables import main_table, overview
from domain_experts.reporting.render import write_table
from domain_experts.reporting.sharing import planted_sharing
from domain_experts.reporting.status import print_status
from domain_experts.reporting.tables import write_tables
from domain_experts.results import read as read_results
from domain_experts.results import write as write_results

EXPERIMENTS = yaml.safe_load(PARAMS.read_text())["experiments"]
FOLDER = layout.results("quick") / "tables"


@pytest.fixture(scope="module")
def written_tree(fabricated_tree, tmp_path_factory):
    folder, study = fabricated_tree
    target = tmp_path_factory.mktemp("written")
    shutil.copytree(folder / "results", target / "results")
    with contextlib.chdir(target):
        write_tables(study)
    return target, study


@pytest.fixture
def written(written_tree, monkeypatch):
    """The study, in a folder where its tables are written: leave it as it is."""
    folder, study = written_tree
    monkeypatch.chdir(folder)
    return study


def write(study, *makers):
    """Write some tables alone, which is quicker."""
    results = collect(study)
    for make in makers:
        write_table(FOLDER, make(results))


def csv(name):
    return pd.read_csv(FOLDER / f"{name}.csv")


def test_main_means_and_paired_gains(written):
    wauc = {
        (run.arm, run.seed): metrics["test"]["click"]["wauc"]
        for run, metrics in collect(written).metrics.items()
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


def test_the_released_arm_has_binned_wauc_and_no_gains(written):
    released = csv("main").query("arm == 'moe_mlora_released' and status == 'present'")
    assert released["gain_over_base_mean"].isna().all()
    assert released["binned_wauc_mean"].notna().all()
    assert "split is fixed by seed 123" in (FOLDER / "main.md").read_text()


def test_floors_appear_once_per_data_set(written):
    floors = csv("main").query("arm == 'item_rate'")
    assert sorted(floors["dataset"]) == sorted({run.dataset for run in written.expected["main"]})


def test_a_data_set_left_out_is_marked_everywhere(written, capsys):
    for name in ("main", "experts_per_domain", "cost", "datasets"):
        own = csv(name).query(f"dataset == '{LEFT_OUT}'")
        assert set(own["status"]) == {"data not present"}
        assert "data not present" in (FOLDER / f"{name}.md").read_text()
    print_headline("quick")
    printed = capsys.readouterr().out
    assert "DATA NOT PRESENT" in printed
    assert LEFT_OUT in printed


def test_headline_says_where_things_are(written, capsys):
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
    monkeypatch.setattr(main_tables, "published", lambda metric: pd.DataFrame(cell))
    write(fabricated, main_table)
    row = csv("main").set_index(["dataset", "backbone", "arm"]).loc[("planted", "mlp", "base")]
    assert row["verdict"] == "not met"
    assert row["less_published"] == pytest.approx(row["wauc_mean"] - 0.99, abs=1e-5)
    assert "not met" in (FOLDER / "main.md").read_text()


def test_sharing_has_a_row_a_seed_and_the_best_possible(written):
    table = csv("planted_sharing")
    assert list(table["seed"]) == [1, 2, 3, 4]
    assert (table["own_group_chance"] == 0.25).all()
    assert (table["wauc_bayes"] > table["wauc_base"]).all()
    # the fabricated gates lean to their own expert
    assert "own expert less chance: +0" in (FOLDER / "planted_sharing.md").read_text()


def test_experts_per_domain_gains_are_over_one(written):
    table = csv("experts_per_domain").query("status == 'present'")
    assert sorted(set(table["experts_per_domain"])) == [1, 2, 3, 4]
    assert (table.query("experts_per_domain == 1")["gain_over_one_mean"] == 0).all()


def test_one_class_domains_are_named(fabricated):
    run = next(run for run in fabricated.runs if run.dataset == "planted")
    path = layout.results_file("quick")
    frame = read_results(path)
    gone = (frame["run"] == run.path.as_posix()) & (frame["domain"] == "domain 7")
    gone &= (frame["metric"] == "auc") & (frame["split"] == "test")
    write_results(frame[~gone], path)
    write(fabricated, main_table)
    assert "no part in WAUC, for domain 7" in (FOLDER / "main.md").read_text()


@pytest.mark.parametrize("name", TABLES)
def test_latex_is_a_tabular_of_even_rows(written, name):
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
        *(f"{name}.{kind}" for name in TABLES for kind in ("csv", "html", "md", "tex")),
        "metrics.json",
        "curves.csv",
    }


def test_metrics_for_dvc(written):
    metrics = json.loads((FOLDER / "metrics.json").read_text())
    main = csv("main").set_index(["dataset", "backbone", "arm"])["wauc_mean"]
    assert metrics["planted"]["wdl"]["mlora"] == pytest.approx(main["planted", "wdl", "mlora"])
    assert LEFT_OUT not in metrics


def test_a_study_without_any_data_still_has_tables(fabricated):
    forget(fabricated, lambda run: True)
    write_tables(fabricated)
    assert set(csv("main")["status"]) == {"not run"}
    assert len(csv("planted_sharing")) == 0


@pytest.mark.parametrize("name", ["results.parquet", "records.parquet"])
def test_a_missing_or_damaged_file_names_the_way_out(fabricated, name):
    path = layout.results("quick") / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=rf"{name} is damaged .*-- evaluate"):
        write_tables(fabricated)
    path.unlink()
    with pytest.raises(UserError, match=rf"{name} is missing; .*-- evaluate"):
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


@pytest.mark.parametrize("name", TABLES)
def test_html_shows_what_markdown_shows(written, name):
    page = _Cells()
    page.feed((FOLDER / f"{name}.html").read_text())
    heading, _, *rows = [
        line[2:-2].split(" | ")
        for line in (FOLDER / f"{name}.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    assert page.texts == [cell for line in (heading, *rows) for cell in line]


def test_overview_holds_the_means_of_the_main_table(written):
    main = csv("main").set_index(["dataset", "backbone", "arm"])["wauc_mean"]
    overview = csv("overview")
    assert set(overview["backbone"]) == {b for _, b, _ in main.index} - {"none"}
    for row in overview.to_dict("records"):
        for (dataset, backbone, arm), expected in main.items():
            if dataset == row["dataset"] and backbone in (row["backbone"], "none"):
                assert row[f"{arm}_wauc_mean"] == expected or pd.isna(expected)


def markdown(name):
    return (FOLDER / f"{name}.md").read_text()


@pytest.mark.parametrize(
    "experiments",
    [
        *({"main": {"arms": [arm]}} for arm in ("item_rate", "experts")),
        dict.fromkeys(name for name in EXPERIMENTS if name != "main"),
        {"experts_per_domain": {"arms": ["base", "moe_mlora"]}},
        {"experts_per_domain": {"vary": {"adapter.experts_per_domain": [2, 4]}}},
        {"planted_sharing": {"datasets": {"quick": ["ml-100k-gender"]}, "seeds": {}}},
        {"planted_sharing": {"arms": ["base"]}},
        {"main": None},
    ],
)
def test_other_experiments_have_tables_too(fabricated, experiments, capsys):
    write_tables(changed(fabricated, experiments))
    print_headline("quick")
    assert "DATA NOT PRESENT (1)" in capsys.readouterr().out


@pytest.mark.parametrize("experiment", ["main", "experts_per_domain", "planted_sharing"])
def test_variants_of_other_settings_stay_apart(fabricated, experiment, capsys):
    vary = {"training.learning_rate": [0.001, 0.01]}
    write_tables(changed(fabricated, {experiment: {"vary": vary}}))
    if experiment != "planted_sharing":
        assert set(csv(experiment)["variant"]) == {"default", "learning-rate=0.01"}
        assert "| Variant |" in markdown(experiment)
    print_headline("quick")
    assert ("Base, learning-rate=0.01" in capsys.readouterr().out) == (experiment == "main")


def test_floors_alone_have_an_overview(fabricated):
    floors = {"main": {"arms": ["item_rate", "user_item_rate"]}, "other_backbones": None}
    write(changed(fabricated, floors), overview)
    assert set(csv("overview")["dataset"]) == {"planted", "ml-100k-gender", LEFT_OUT}
    assert csv("overview")["item_rate_wauc_mean"].notna().sum() == 2


@pytest.mark.parametrize(
    ("experiments", "split_seed"),
    [
        ({}, 7),
        (
            dict.fromkeys(EXPERIMENTS) | {"main": {"arms": ["moe_mlora_released"]}},
            None,
        ),
    ],
)
def test_data_that_were_run_on_a_fixed_split_are_present(fabricated, experiments, split_seed):
    write(changed(fabricated, experiments, split_seed), datasets)
    table = csv("datasets").set_index("dataset")
    present = table[table["status"] == "present"]
    assert set(present.index) >= {"planted", "ml-100k-gender"}
    assert LEFT_OUT not in present.index
    assert set(present["split_seed"]) == {split_seed or 123}


def test_a_dagger_marks_the_arms_whose_split_is_not_that_of_base(fabricated):
    write(changed(fabricated, {}, split_seed=7), main_table, overview)
    text = markdown("main")
    assert "the split is fixed by seed 7" in text
    assert "| MoE-MLoRA (released code)† |" in text
    assert "| MoE-MLoRA (released code)† |" in markdown("overview")
    assert "MoE-MLoRA (released code): its split is fixed by seed 123" in text
    write(changed(fabricated, {}, split_seed=123), main_table, overview)
    assert "†" not in markdown("main") + markdown("overview")


def test_the_binned_measure_is_named_only_where_it_is(fabricated):
    write(fabricated, main_table)
    assert "500-bin" in markdown("main")
    experiments = {"main": {"arms": ["base", "mlora"]}, "other_backbones": None}
    write(changed(fabricated, experiments), main_table)
    assert "500-bin" not in markdown("main")


def rewrite_curves(study, chosen, change):
    """Change each point of the curves of the runs chosen."""
    for run in filter(chosen, study.runs):
        rewrite(study, run, lambda record: list(map(change, record["curve"])))


def test_experts_and_gates_that_kept_their_start_are_counted(fabricated):
    def kept(point):
        point["best"] = point["epoch"] == 0

    def of_gender(run):
        return run.dataset == "ml-100k-gender" and run.arm in ("experts", "moe_mlora")

    write(fabricated, main_table, experts_per_domain)
    assert "ml-100k-gender, MLP: " not in markdown("main")
    rewrite_curves(fabricated, of_gender, kept)
    write(fabricated, main_table, experts_per_domain)
    assert "ml-100k-gender, MLP: 6 of 6 experts, 3 of 3 gates; " in markdown("main")
    for number in (1, 2, 3, 4):
        said = f"{number} per domain: {6 * number} of {6 * number} experts, 3 of 3 gates"
        assert f"ml-100k-gender, Wide&Deep, {said}" in markdown("experts_per_domain")


def test_weight_on_experts_that_moved(fabricated):
    def kept(point):
        if point["lane"] == "0":
            point["best"] = point["epoch"] == 0

    rewrite_curves(fabricated, lambda r: (r.arm, r.seed) == ("experts", 1), kept)
    write(fabricated, planted_sharing)
    table = csv("planted_sharing").set_index("seed")
    run = next(
        run
        for run in fabricated.expected["planted_sharing"]
        if (run.arm, run.seed) == ("moe_mlora", 1)
    )
    gate = np.array(collect(fabricated).metrics[run]["gate"])
    assert table.loc[1, "on_moved"] == pytest.approx(1 - gate[:, 0].mean())
    assert (table.loc[1, "moved_experts"], table.loc[1, "experts"]) == (7, 8)
    assert table.loc[2:, "on_moved"].to_numpy() == pytest.approx(1)
    assert "1 of 32 experts" in markdown("planted_sharing")


def test_an_expert_that_was_never_trained_has_not_moved(fabricated):
    run = next(r for r in fabricated.runs if (r.dataset, r.arm) == ("planted", "experts"))

    def untrained(record):
        record["curve"] = [point for point in record["curve"] if point["lane"] != "3"]

    rewrite(fabricated, run, untrained)
    write(fabricated, main_table)
    assert "1 of 24 experts" in markdown("main")


@pytest.mark.parametrize(("last_best", "capped"), [(100, True), (98, True), (97, False)])
def test_what_ended_by_the_cap_is_named(fabricated, last_best, capped):
    """Patience is 3 epochs and the cap 100."""
    points = [
        {"phase": "gate", "lane": "all", "epoch": epoch, "train_loss": None}
        | {"validation_auc": 0.5, "best": epoch <= last_best}
        for epoch in range(101)
    ]
    run = next(r for r in fabricated.runs if (r.dataset, r.arm) == ("planted", "moe_mlora"))
    rewrite(fabricated, run, lambda record: record.update(curve=points))
    write(fabricated, main_table)
    said = "Ended by the cap on epochs, with patience left: planted, Wide&Deep: 1 of 3 gates."
    other = said.replace("Wide&Deep", "MLP")
    assert (said in markdown("main") or other in markdown("main")) == capped


def test_cost_has_the_number_of_experts(written):
    table = csv("cost").set_index(["dataset", "backbone", "arm"])["experts_mean"]
    assert table["planted", "wdl", "experts"] == 32
    assert table["planted", "mlp", "experts"] == 8
    assert np.isnan(table["planted", "mlp", "base"])


def test_what_is_not_run_is_a_hole(fabricated, capsys):
    job = next(j for j in fabricated.jobs() if (j.dataset, j.arm) == ("planted", "mlora"))
    forget(fabricated, lambda run: run.job == job)
    write(fabricated, main_table, overview, cost, datasets)
    status = csv("main").set_index(["dataset", "backbone", "arm"])["status"]
    assert status["planted", job.backbone, "mlora"] == "not run"
    assert status["planted", job.backbone, "moe_mlora"] == "present"
    assert "not run" in markdown("overview") + markdown("cost")
    print_headline("quick")
    printed = capsys.readouterr().out
    assert "1 of" in printed
    assert "cells of the main table are not run" in printed
    assert "DATA NOT PRESENT (1)" in printed
    assert LEFT_OUT in printed


def test_stale_numbers_are_marked(fabricated, capsys):
    write(fabricated, main_table, overview)
    assert "°" not in markdown("main") + markdown("overview")
    runs = [r for r in fabricated.expected["main"] if (r.dataset, r.arm) == ("planted", "mlora")]
    (run,) = (r for r in runs if (r.backbone, r.seed) == ("wdl", 2))
    rewrite(fabricated, run, lambda record: record["provenance"].update(code="another"))
    write(fabricated, main_table, overview, datasets)
    for name in ("main", "overview"):
        marked = [line for line in markdown(name).splitlines() if "° |" in line]
        (row,) = marked
        assert "| planted | Wide&Deep |" in row
        assert "runs are stale: other code" in markdown(name)
        assert "domain-experts status --tier quick" in markdown(name)
    assert csv("main").query("stale")["arm"].tolist() == ["mlora"]
    print_headline("quick")
    assert "cells are STALE" in " ".join(capsys.readouterr().out.split())
    print_status(fabricated)
    said = capsys.readouterr().out
    assert "Stale runs differ from today's in: code (1)" in said
    (line,) = (line for line in said.splitlines() if line.strip().startswith("main"))
    assert line.split()[1:3] == [str(len(fabricated.expected["main"]) - 36 - 1), "1"]


def test_many_backbones_have_a_row_each_on_the_terminal(written, capsys):
    print_headline("quick")
    lines = capsys.readouterr().out.splitlines()
    main = csv("main").set_index(["dataset", "backbone", "arm"])["wauc_mean"]
    (row,) = (line for line in lines if line.split()[:1] == ["xDeepFM"])
    arms = ("base", "mlora", "moe_mlora", "moe_mlora_released")
    expected = [f"{main['ml-100k-gender', 'xdeepfm', arm]:.4f}" for arm in arms]
    assert row.split()[1:] == expected


def test_a_seed_that_is_not_run_leaves_the_others(fabricated):
    job = next(j for j in fabricated.jobs() if (j.dataset, j.arm) == ("planted", "mlora"))
    forget(fabricated, lambda run: run.job == job and run.seed == 3)
    write(fabricated, main_table)
    row = (
        csv("main").set_index(["dataset", "backbone", "arm"]).loc["planted", job.backbone, "mlora"]
    )
    assert (row["status"], row["seeds"]) == ("present", 2)


def test_a_data_set_that_is_not_there_has_one_row(written):
    for name in ("overview", "main"):
        assert len(csv(name).query(f"dataset == '{LEFT_OUT}'")) > 1
        (row,) = (line for line in markdown(name).splitlines() if f"| {LEFT_OUT} |" in line)
        assert "| all |" in row
        assert "data not present" in row
        assert "| planted |" in markdown(name)
