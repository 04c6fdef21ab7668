"""Tables of a study that was run for real."""

import contextlib
import json
import re
import subprocess
import sys
from html import escape

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from smoke import OWN, change_params

from domain_experts import cli, layout
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import read_split
from domain_experts.errors import UserError
from domain_experts.presence import load_study
from domain_experts.reporting import published as published_module
from domain_experts.reporting.catalog import experiments, table_names
from domain_experts.reporting.frame import KEYS, frames
from domain_experts.reporting.render import MISSING, Shown, Table, html, latex, markdown
from domain_experts.reporting.statistics import INTERVAL
from domain_experts.reporting.summary import write_summary
from domain_experts.reporting.tables import table, write_tables


@pytest.fixture(scope="module")
def of(smoke_tree):
    """The frames of the study, read once."""
    with contextlib.chdir(smoke_tree):
        found = frames(load_study("smoke"))
        # read what depends on the working directory
        assert len(found.runs) > 0
        assert len(found.domains) > 0
        return found


@pytest.fixture
def study(of, smoke_tree, monkeypatch):
    """The study, in its own folder: only to be read."""
    monkeypatch.chdir(smoke_tree)
    return of.study


def wauc(study, run):
    """Oracle: scikit-learn on the run's logits."""
    rows = Interactions.open(layout.interactions(run.dataset))
    chosen = read_split(study.tier, run.dataset, run.split_seed) == 2
    labels, domain = rows.labels[chosen, 0], rows.domain[chosen]
    logits = np.load(layout.run_artifacts(study.tier, run) / "test.npy")[:, 0]
    ids = np.unique(domain)
    auc = [roc_auc_score(labels[domain == d], logits[domain == d]) for d in ids]
    return np.average(auc, weights=[(domain == d).sum() for d in ids])


def cell(made, value, **wanted):
    frame = made.numbers
    for name, of in wanted.items():
        frame = frame[frame[name] == of]
    (found,) = frame[value]
    return found


def runs_of(study, **wanted):
    return [
        run for run in study.runs if all(getattr(run, name) == of for name, of in wanted.items())
    ]


def test_means_spread_and_paired_gains_are_those_of_the_predictions(of, study):
    made = table(of, "main")
    values = {
        arm: [wauc(study, run) for run in runs_of(study, arm=arm, variant=(), backbone="mlp")]
        for arm in ("base", "mlora", "moe_mlora")
    }
    for arm, found in values.items():
        assert cell(made, "wauc", arm=arm) == pytest.approx(np.mean(found))
        assert cell(made, "wauc_sd", arm=arm) == pytest.approx(np.std(found, ddof=1))
    for over in ("base", "mlora"):
        expected = np.subtract(values["moe_mlora"], values[over])
        assert cell(made, f"gain {over}", arm="moe_mlora") == pytest.approx(expected.mean())
        assert cell(made, f"sd {over}", arm="moe_mlora") == pytest.approx(expected.std(ddof=1))
    assert list(made.printed)[:3] == ["Data set", "Backbone", "Arm"]
    assert set(made.numbers["seeds"]) == {2}


def test_an_arm_on_another_split_is_marked_and_has_no_gain(of, study):
    made = table(of, "main")
    released = made.numbers["arm"] == "moe_mlora_released"
    assert made.numbers.loc[released, "gain base"].isna().all()
    assert made.printed.loc[released, "Arm"].str.endswith("†").all()
    assert made.printed.loc[~released, "Arm"].str.endswith("†").sum() == 0
    told = "† its split is fixed by a seed of its own (123), so that"
    assert any(told in note for note in made.notes)
    overview = table(of, "overview")
    assert [head for head in overview.printed if head.endswith("†")] == [
        "MoE-MLoRA (released code)†"
    ]
    assert any(told in note for note in overview.notes)
    assert "500-bin WAUC" in made.printed


def test_an_own_experiment_has_its_table_without_a_line_of_code(of, study):
    assert OWN in experiments(study)
    made = table(of, OWN)
    assert made.caption.startswith("Does dropout pay? ")
    own = made.printed[made.printed["Arm"] == "Base"]
    assert list(own["Variant"]) == ["default", "dropout=0.0", "dropout=0.25"]
    # the best floor stands beside, which another experiment has run
    assert len(made.printed) == len(own) + 1
    none = runs_of(study, arm="base", variant=(("model.dropout", 0.0),))
    usual = [
        next(r for r in runs_of(study, arm="base", variant=()) if r.seed == run.seed)
        for run in none
    ]
    expected = np.mean([wauc(study, a) - wauc(study, b) for a, b in zip(none, usual, strict=True)])
    assert cell(made, "gain default", variant="dropout=0.0") == pytest.approx(expected)
    assert OWN in set(table(of, "answer").printed["Experiment"])


def test_a_default_that_another_experiment_has_run_stands_beside(smoke):
    def take_out(params):
        params["experiments"][OWN]["vary"]["model.dropout"] = [0.0]

    made = table(frames(change_params(take_out)), OWN)
    own = made.printed[made.printed["Arm"] == "Base"]
    assert list(own["Variant"]) == ["default", "dropout=0.0"]


def test_only_intervals_that_are_known_are_explained(of, smoke):
    known, told = table(of, "main").notes, "Of 1 differences no interval is known."
    assert "* its 95 % interval excludes 0." in known and INTERVAL in known
    # of a mean log loss no error is stored
    alone = {"seeds": {"smoke": [2022]}, "metric": "macro_log_loss", "show": []}
    one = change_params(lambda p: p["experiments"]["m3oe_automl"].update(alone))
    notes = table(frames(one), "m3oe_automl").notes
    assert told in notes
    assert not any("95 %" in note for note in notes)


def test_gates_and_what_is_possible_are_columns(of, study):
    made = table(of, "planted_sharing")
    row = made.numbers[made.numbers["arm"] == "moe_mlora"].iloc[0]
    records = of
    gates = [
        np.array(records.record(run.path.as_posix())["gate"])
        for run in runs_of(study, arm="moe_mlora", variant=(), backbone="mlp")
    ]
    # planted-small: groups 0, 1, 0, 1
    same = np.equal.outer(np.arange(4) % 2, np.arange(4) % 2)
    expected = [(gate * same).sum(1).mean() for gate in gates]
    assert row["gate_own_group"] == pytest.approx(np.mean(expected))
    assert row["gate_own_group_chance"] == 0.5
    assert (made.numbers["bayes_wauc"] > made.numbers["wauc"]).all()


def test_a_new_domain_has_its_own_auc(of, study):
    made = table(of, "new_domain")
    rows = made.numbers.set_index(["arm", "variant"])["new_domain_rows"]
    assert rows["mlora_held_out", "default"] == 0
    share, whole = rows["new_domain_adapter", "share=0.1"], rows["new_domain_adapter", "default"]
    assert whole * 0.1 <= share <= whole * 0.1 + 1
    assert made.numbers["new_domain_auc"].between(0, 1).all()


def test_cells_are_those_of_the_predictions(of, study):
    made = table(of, "m3oe_automl_cells")
    run = next(r for r in runs_of(study, backbone="m3oe", variant=()))
    rows = Interactions.open(layout.interactions(run.dataset))
    found = []
    for own in runs_of(study, backbone="m3oe", variant=()):
        chosen = (read_split(study.tier, run.dataset, own.split_seed) == 2) & (rows.domain == 1)
        logits = np.load(layout.run_artifacts(study.tier, own) / "test.npy")
        own_domain = rows.domain[read_split(study.tier, run.dataset, own.split_seed) == 2] == 1
        found.append(roc_auc_score(rows.labels[chosen, 0], logits[own_domain, 0]))
    assert cell(made, "D2 T1", variant="default") == pytest.approx(np.mean(found))
    assert any("D2 " in note and "T1 " in note for note in made.notes)
    both = table(of, "m3oe_automl").printed
    assert {"Mean AUC", "WAUC"} <= set(both)


def test_domains_have_their_tasks_and_known_users(of, study):
    made = table(of, "domains")
    rows = Interactions.open(layout.interactions("planted-tasks-small"))
    for j, task in enumerate(("T1", "T2")):
        rates = [rows.labels[rows.domain == d, j].mean() for d in range(3)]
        own = made.numbers[made.numbers["dataset"] == "planted-tasks-small"]
        assert list(own[f"positive_rate {task}"]) == pytest.approx(rates)
        assert f"Positive rate, {task}" in made.printed
    assert "planted-tasks-small: T1 click, T2 like." in made.notes
    (seed,) = made.numbers.loc[made.numbers["dataset"] == "planted-small", "split_seed"].unique()
    own = Interactions.open(layout.interactions("planted-small"))
    split, users = read_split("smoke", "planted-small", seed), own.fields[:, 0]
    tested = np.unique(users[(split == 2) & (own.domain == 0)])
    share = np.isin(tested, users[split == 0]).mean()
    assert cell(made, "seen_users", dataset="planted-small", number=1) == pytest.approx(share)


def test_each_switch_that_is_flipped_is_explained(smoke):
    def flip(params):
        params["experiments"][OWN] |= {"vary": {}, "variants": [{"protocol.keep_start": False}]}

    made = table(frames(change_params(flip)), OWN)
    own = made.printed[made.printed["Arm"] == "Base"]
    assert list(own["Variant"]) == ["default", "keep-start=False"]
    assert "keep-start: a leg may end with the weights it started from." in made.notes


def test_fusion_weights_of_the_tested_model_are_columns(of, study):
    made = table(of, "m3oe_automl").numbers
    assert (
        (made[["a_D", "a_T", "b_D", "b_T"]] > 0) & (made[["a_D", "a_T", "b_D", "b_T"]] < 1)
    ).all(axis=None)


def test_published_values_stand_beside_with_a_verdict(of, study, monkeypatch):
    frame = pd.DataFrame(
        [["planted-small", "mlp", "base", "default", "", "click", "wauc", 0.5, 0.00005, "other"]],
        columns=[*published_module.CELL, "value", "rounding", "test_rows"],
    )
    monkeypatch.setattr(published_module, "_all", lambda: frame)
    printed = table(of, "main").printed.set_index("Arm")["Published WAUC"]
    said = r"(met|not told apart|one seed|(better|worse) than published)(; (half|double): [a-z ]+)*"
    assert re.fullmatch(rf"0\.5000 \([+−]0\.\d{{4}}, {said}, other test rows\)", printed["Base"])
    assert printed["MLoRA"] == MISSING


def test_a_data_set_is_told_on_a_split_that_runs_used(smoke):
    before = table(frames(smoke), "datasets").numbers
    # as many runs use the first of them as any other, and none of these was run
    study = change_params(lambda p: p["tiers"]["smoke"]["seeds"].insert(0, 1))
    pd.testing.assert_frame_equal(table(frames(study), "datasets").numbers, before)


def test_best_and_second_are_marked_once_a_data_set(of, study):
    made = table(of, "main")
    # of those on the same test rows
    alike = made.numbers["wauc"].mask(made.numbers["arm"] == "moe_mlora_released")
    best = alike.round(4).rank(ascending=False, method="dense")
    marks = made.emphasis["WAUC"]
    assert (marks == "best").equals(best == 1)
    assert (marks == "second").equals(best == 2)
    assert "**" in markdown(made)
    assert r"\textbf{" in latex(made)
    assert r"\underline{" in latex(made)


def test_stale_numbers_are_marked_in_cell_note_and_status(smoke):
    def other(params):
        params["rates"]["smoothing"] = 99.0

    made = table(frames(change_params(other)), "main")
    stale = made.printed["WAUC"].str.endswith("°")
    assert list(made.printed.loc[stale, "Arm"]) == ["Item rate"]
    assert any("2 of 10 runs were made by other" in note for note in made.notes)
    coverage = table(frames(change_params(other)), "coverage").numbers.set_index("experiment")
    assert coverage.loc["main", "stale"] == 2


def test_counts_of_stale_runs_in_notes_are_marked(smoke):
    notes = table(frames(change_params(lambda p: p["model"].update(l2=0.5))), "main").notes
    (capped,) = (note for note in notes if note.startswith("Ended by the cap on epochs"))
    assert re.search(r"MLoRA: \d+° of \d+ ", capped)


def test_what_is_not_run_is_a_hole_that_says_so(smoke):
    def more(params):
        params["experiments"]["main"]["backbones"] = ["mlp", "nfm"]

    study = change_params(more)
    made = table(frames(study), "main")
    holes = made.printed[made.printed["Backbone"] == "NFM"]
    assert len(holes) == 4
    assert set(holes["WAUC"]) == {"not run"}
    write_tables(frames(study), table_names(study))


def test_every_table_is_written_in_three_forms_and_equal_bytes(smoke):
    folder = layout.results("smoke") / "tables"
    for _ in range(2):
        write_tables(frames(smoke), table_names(smoke))
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert len(found) == 3 * len(table_names(smoke))
    again = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == again


@pytest.mark.parametrize("name", ["main", "answer", "domains"])
def test_the_forms_show_the_same(of, study, name):
    made = table(of, name)
    page = html(made)
    assert page.count("<tr>") == len(made.printed) + 1
    assert page.count("<td") == made.printed.size
    assert all(escape(cell) in page for cell in made.printed.to_numpy().ravel())
    lines = [line for line in markdown(made).splitlines() if line.startswith("|")]
    assert len(lines) == len(made.printed) + 2
    text = latex(made)
    assert rf"\label{{tab:{name}}}" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count(" & ") for line in body if " & " in line} == {
        made.printed.shape[1] - 1
    }


def test_long_tables_may_break_over_pages(of, study):
    made = table(of, "main")
    long = pd.concat([made.printed] * 12, ignore_index=True)
    marks = pd.concat([made.emphasis] * 12, ignore_index=True)
    longer = type(made)("main", made.caption, made.numbers, long, made.words, marks)
    assert r"\begin{longtable}" in latex(longer)
    assert r"\begin{longtable}" not in latex(made)


def test_latex_fits_a_column_or_a_page():
    def made(cell, head="Gain"):
        words, shown = pd.DataFrame({"Arm": ["Base"]}), [Shown(head, [cell])]
        return latex(Table.of("one", "A caption", words, words, shown))

    assert r"\begin{table}[htbp]" in made("0.8")
    assert r"\begin{table*}[tbp]" in made("0.8" * 20)
    assert r"\resizebox{\ifdim\width>\linewidth" in made("0.8")
    assert r"\shortstack[r]{A head of \\ three \\ lines or \\ more}" in made(
        "0.8", "A head of three lines or more"
    )
    assert r"0.8079$_{\pm0.0011}$$^\circ$" in made("0.8079 ± 0.0011°")


def test_a_long_cell_folds():
    words = pd.DataFrame({"Claim": ["word " * 20]})
    assert r"{>{\raggedright\arraybackslash}p{2.4in}}" in latex(Table.of("one", "", words, words))


def test_a_table_without_rows_is_latex_too():
    words = pd.DataFrame({"Claim": pd.Series(dtype="str")})
    assert r"\begin{tabular}{lr}" in latex(Table.of("one", "", words, words, [Shown("Seeds", [])]))


def test_an_unknown_table_is_refused_with_the_one_meant(smoke):
    with pytest.raises(UserError, match="table 'mian' is unknown; did you mean main"):
        cli.tables("smoke", ["mian"])


def test_an_experiment_may_not_take_the_name_of_another_table(smoke):
    def rename(params):
        params["experiments"]["cost"] = params["experiments"].pop("main")

    with pytest.raises(UserError, match="experiment 'cost' is named like another table"):
        table_names(change_params(rename))


def test_the_summary_for_dvc_is_short(smoke):
    write_summary(frames(smoke))
    text = (layout.results("smoke") / "metrics.json").read_text()
    assert len(text.splitlines()) < 20
    assert json.loads(text)["gain"]["planted-small"]["Base, MLP"]["status"] == "current"
    curves = pd.read_csv(layout.results("smoke") / "curves.csv")
    assert set(curves["status"]) == {"current"}
    assert set(curves["phase"]) >= {"backbone", "experts", "gate"}


def test_without_results_the_way_out_is_named(smoke):
    layout.results_file("smoke").unlink()
    with pytest.raises(UserError, match=r"results\.parquet is missing; run `snakemake"):
        frames(smoke)


def test_tables_need_no_torch_data_or_weights(smoke):
    code = (
        "import sys; from domain_experts.presence import load_study; "
        "from domain_experts.reporting.frame import frames; "
        "from domain_experts.reporting.tables import write_tables; "
        "write_tables(frames(load_study('smoke')), ['main']); print('torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == "False"


def test_rows_are_told_apart(of, study):
    for name in experiments(study):
        assert not table(of, name).numbers.duplicated(KEYS).any()
