"""Tables of the M3oE study against values by hand."""

import contextlib
import json
import re
from dataclasses import replace
from math import nan

import numpy as np
import pandas as pd
import pytest
from fabricated import MULTI, PARAMS, changed
from scipy import stats

from domain_experts import layout
from domain_experts.params import Params, load
from domain_experts.reporting.collect import Results, collect
from domain_experts.reporting.m3oe import variant_tables
from domain_experts.reporting.m3oe.cells import (
    ROUNDING,
    STUDY,
    model_names,
    published_models,
    rela_impr,
)
from domain_experts.reporting.m3oe.dataset_table import m3oe_datasets
from domain_experts.reporting.m3oe.main_tables import m3oe, m3oe_released
from domain_experts.reporting.m3oe.order_table import m3oe_row_order, order_of
from domain_experts.reporting.m3oe.variant_tables import (
    ABLATIONS,
    AUTOML,
    fusion_in_test,
    m3oe_ablations,
    m3oe_automl,
)
from domain_experts.reporting.published import published
from domain_experts.runs import variant_name
from domain_experts.study import Study

MAKERS = (m3oe, m3oe_released, m3oe_ablations, m3oe_automl, m3oe_row_order, m3oe_datasets)
DATA, BY_DOMAIN = "ml-1m-m3oe", "ml-1m-m3oe-by-domain"


@pytest.fixture(scope="module")
def results(fabricated_tree):
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        return collect(study)


def cells_of(results, dataset, backbone, arm, seed, value="auc", variant=()):
    """(T, D) values of a run."""
    metrics = next(
        metrics
        for run, metrics in results.metrics.items()
        if (run.dataset, run.backbone, run.arm) == (dataset, backbone, arm)
        and (run.seed, run.variant) == (seed, variant)
    )
    return np.array([metrics["test"][task]["by_domain"][value] for task in metrics["tasks"]])


def row(table, **wanted):
    (found,) = (
        record
        for record in table.numbers.to_dict("records")
        if all(record[name] == value for name, value in wanted.items())
    )
    return found


def shown(table, **wanted):
    (found,) = (
        record
        for record in table.printed.to_dict("records")
        if all(record[name] == value for name, value in wanted.items())
    )
    return found


def test_overall_values_are_plain_means_of_the_cells(results):
    found = row(m3oe(results), dataset=DATA, model="MMoE-MDMT")
    for value, name in (("auc", "overall_auc"), ("log_loss", "log_loss")):
        own = [cells_of(results, DATA, "mmoe", "mdmt", seed, value).mean() for seed in (1, 2)]
        assert found[f"{name}_mean"] == pytest.approx(np.mean(own))
        assert found[f"{name}_sd"] == pytest.approx(np.std(own, ddof=1))
    auc = np.mean([cells_of(results, DATA, "mmoe", "mdmt", seed) for seed in (1, 2)], axis=0)
    assert found["auc_d2t1_mean"] == pytest.approx(auc[0, 1])
    assert found["auc_d3t2_mean"] == pytest.approx(auc[1, 2])


def test_models_have_the_names_of_the_paper(results):
    names = set(model_names(results).values())
    assert names >= {"MLP", "Shared-Bottom-MTL", "MMoE-MDL", "PLE-MDMT", "AdaTT", "AdaTT-sp"}
    assert names >= {"STAR", "M2M", "M3oE", "HiNet", "MoE-MLoRA (Wide&Deep)", "Item rate"}
    released = set(m3oe_released(results).numbers["model"])
    # the fifteen rows of the paper's table
    assert len(released) == 15
    assert released <= names


def test_rela_impr_is_against_the_best_other_model_on_the_same_rows(results):
    for table, datasets in ((m3oe(results), (DATA, "planted-tasks")), (m3oe_released(results), ())):
        frame = table.numbers
        for dataset in datasets or (DATA, BY_DOMAIN):
            own = frame[frame["dataset"] == dataset].set_index("model")
            others = own.drop(index="M3oE", errors="ignore")["overall_auc_mean"]
            expected = (own["overall_auc_mean"] - 0.5) / (others.max() - 0.5) - 1
            pd.testing.assert_series_equal(own["rela_impr"], expected, check_names=False)
            printed = table.printed[table.printed["Data set"] == dataset].set_index("Model")
            assert printed.loc[others.idxmax(), "RelaImpr"] == "reference"
            assert (printed["RelaImpr"] == "reference").sum() == 1


def test_rela_impr_by_hand():
    assert rela_impr(0.77, 0.75) == pytest.approx(0.08)
    assert np.isnan(rela_impr(0.77, 0.5))


def test_the_test_of_m3oe_is_paired(results):
    table = m3oe(results)
    frame = table.numbers[table.numbers["dataset"] == DATA].set_index("model")
    best = frame.drop(index="M3oE")["overall_auc_mean"].idxmax()
    pair = frame.loc[best, ["backbone", "arm"]]
    overall = [
        [cells_of(results, DATA, *model, seed).mean() for seed in (1, 2)]
        for model in (("m3oe", "mdmt"), pair)
    ]
    p = stats.ttest_rel(*overall).pvalue
    (note,) = (n for n in table.notes if n.startswith(f"{DATA}, M3oE less {best}"))
    assert float(re.search(r"p = ([\d.e-]+):", note)[1]) == pytest.approx(p, rel=0.05)


def test_generated_data_say_what_is_possible(results):
    own = [b for b in results.bayes if b["dataset"] == "planted-tasks"]
    assert {b["task"] for b in own} == {"click", "like"}
    overall = [np.mean([b["auc"] for b in own if b["split_seed"] == seed]) for seed in (1, 2)]
    (note,) = (n for n in m3oe(results).notes if "true probabilities" in n)
    assert f"{np.mean(overall):.4f} ± {np.std(overall, ddof=1):.4f}" in note


def test_one_seed_has_no_test(results):
    kept = {r: m for r, m in results.metrics.items() if r.seed != 2}
    notes = m3oe(replace(results, metrics=kept)).notes
    (note,) = (n for n in notes if n.startswith(f"{DATA}, M3oE less"))
    assert "no spread over seeds, no test" in note


def test_published_results_stand_beside_and_the_misprint_is_marked(results):
    table = m3oe_released(results)
    found = row(table, model="M3oE")
    assert found["published_overall_auc"] == 0.7702
    assert found["published_auc_d1t2"] == 0.7813
    assert found["published_log_loss"] == 0.5071
    assert found["less_published"] == pytest.approx(found["overall_auc_mean"] - 0.7702)
    assert found["verdict"] == "not met"
    assert shown(table, Model="PLE-MDMT")["Published AUC"].startswith("0.7568§ (")
    assert (
        "§ PLE-MDMT on ml-1m: the paper prints 0.7568, and its own cells have the mean 0.7601."
        in (table.notes)
    )
    assert sum("§" in cell for cell in table.printed["Published AUC"]) == 1
    # data that the paper does not have
    assert (
        shown(m3oe(results), **{"Data set": "planted-tasks", "Model": "M3oE"})["Published AUC"]
        == "–"
    )


def test_the_published_means_are_those_of_their_cells_but_for_two():
    models = published_models().set_index(["source", "backbone", "scope", "variant"])
    cells = [name for name in models if name.startswith("published_auc_")]
    less = (models[cells].mean(axis=1) - models["published_overall_auc"]).abs()
    wrong = less[less > ROUNDING].index
    assert set(wrong) == {(s, "ple", "mdmt", "default") for s in ("ml-1m", "kuairand-pure")}
    assert models[cells].notna().all(axis=1).sum() == 30
    assert models.loc[("ml-1m", "m3oe", "mdmt", "default"), "published_auc_d3t1"] == 0.7447


def test_published_gains_are_checked_against_their_cells():
    from domain_experts.reporting.m3oe.main_tables import _published_gains

    gains = _published_gains()
    assert gains["ml-1m", "d1t1"].printed == 0.0207
    assert gains["ml-1m", "d1t1"].of_cells == pytest.approx(0.0207, abs=5e-5)
    # M3oE trails on the largest domain, where the paper prints none
    assert ("kuairand-pure", "d2t1") not in gains
    wrong = {key: gain for key, gain in gains.items() if gain.misprinted}
    assert set(wrong) == {("kuairand-pure", "d3t2")}
    assert wrong["kuairand-pure", "d3t2"].of_cells == pytest.approx(0.0503, abs=5e-5)


def test_a_misprint_is_named_with_the_data_that_have_it():
    values = load(PARAMS).model_dump()
    for name, end in (("m3oe_released", ""), ("m3oe_released_by_domain", "-by-domain")):
        datasets = [f"ml-1m-m3oe{end}", f"kuairand-pure{end}"]
        values["experiments"][name]["datasets"]["paper"] = datasets
    study = Study(Params.model_validate(values), "paper")
    states = {r: "data not present" if "kuairand" in r.dataset else "not run" for r in study.runs}
    table = m3oe_released(Results(study, {}, states, [], [], [], pd.DataFrame()))
    said = (
        "§ RelaImpr of M3oE on kuairand-pure, D3 T2: the paper prints +9.31 %, and its own cells "
        "give +5.03 %."
    )
    assert said in table.notes
    assert sum(note.startswith("§ PLE-MDMT") for note in table.notes) == 2
    assert set(table.numbers["status"]) == {"not run", "data not present"}


def test_counts_of_table_1_are_whole():
    rows = published("rows", ["dataset", "domain"]).groupby("dataset")["published"].sum()
    assert dict(rows) == {"ml-1m": 1_000_209, "kuairand-pure": 2_507_666}


def test_the_share_of_known_test_users_is_that_of_the_populations(results):
    halved = [
        entry | {"all_seen_test_users": entry["all_test_users"] / 4}
        if entry["dataset"] == DATA
        else entry
        for entry in results.populations
    ]
    table = m3oe(replace(results, populations=halved))
    seen = table.numbers.groupby("dataset")["seen_users_mean"].unique()
    assert seen[DATA].tolist() == [0.25]
    assert seen["planted-tasks"].tolist() == [1.0]
    assert (
        shown(table, **{"Data set": DATA, "Model": "STAR"})["Test users seen in training"] == "25 %"
    )


def test_a_cell_of_one_class_is_named_and_left_out(results):
    run = next(
        run
        for run in results.metrics
        if (run.dataset, run.backbone, run.arm, run.seed) == (DATA, "m3oe", "mdmt", 1)
        and not run.variant
    )
    metrics = json.loads(json.dumps(results.metrics[run]))
    like = metrics["test"]["like"]
    like["left_out"] = [metrics["domains"][1]]
    like["by_domain"]["auc"][1] = None
    kept = {r: m for r, m in results.metrics.items() if r.seed == 1 and r.dataset == DATA}
    table = m3oe(replace(results, metrics=kept | {run: metrics}))
    found = row(table, dataset=DATA, model="M3oE")
    known = [found[f"auc_d{d}t{t}_mean"] for d in (1, 2, 3) for t in (1, 2) if (d, t) != (2, 2)]
    assert np.isnan(found["auc_d2t2_mean"])
    assert found["overall_auc_mean"] == pytest.approx(np.mean(known))
    said = f"{DATA}, like: no AUC, and no part in the overall AUC, for domain 1"
    assert any(note.startswith(said) for note in table.notes)


def test_models_that_were_not_trained_are_named(results):
    (single,) = (
        run
        for run in results.metrics
        if (run.dataset, run.arm, run.seed) == (DATA, "single", 1) and not run.variant
    )
    whole = next(
        run
        for run in results.metrics
        if (run.dataset, run.backbone, run.arm, run.seed) == (DATA, "mmoe", "mdmt", 2)
    )
    assert not any("not trained" in note for note in m3oe(results).notes)
    curves = {
        # models are numbered by domain, then by task
        single: [p for p in results.metrics[single]["curve"] if p["lane"] not in ("1", "4")],
        whole: [],
    }
    cut = {run: results.metrics[run] | {"curve": curve} for run, curve in curves.items()}
    table = m3oe(replace(results, metrics=results.metrics | cut))
    why = "not trained, for want of"
    notes = [note for note in table.notes if why in note]
    assert len(notes) == 2
    assert notes[0].startswith(f"{DATA}, MLP, seed 1: {why}")
    assert notes[0].endswith(": domain 0 for like, domain 2 for click.")
    assert notes[1].startswith(f"{DATA}, MMoE-MDMT, seed 2: {why}")
    assert notes[1].endswith(": all domains for all tasks.")


def test_the_table_says_what_the_paper_leaves_open(results):
    notes = m3oe(results).notes
    (sizes,) = (note for note in notes if note.startswith("Sizes of the baselines"))
    assert "layers of 128-64-64-32" in sizes
    assert "; MMoE experts 4; " in sizes
    assert "PEPNet hidden 256-128-64, gate hidden 64" in sizes
    assert "M3oE shared" not in sizes
    (click,) = (note for note in notes if "dropout and penalty of model" in note)
    names = "Base (Wide&Deep), MLoRA (Wide&Deep), MoE-MLoRA (Wide&Deep)"
    assert click.startswith(f"{names}: ")
    assert not any("dropout and penalty" in note for note in m3oe_released(results).notes)


def test_ablations_are_compared_with_the_whole_and_with_the_paper(results):
    table = m3oe_ablations(results)
    assert [record["Variant"] for record in table.printed.to_dict("records")] == list(
        ABLATIONS.values()
    )
    gated = (("multi_model.m3oe.fusion", "gated"),)
    less = [
        cells_of(results, DATA, "m3oe", "mdmt_released", seed, variant=gated).mean()
        - cells_of(results, DATA, "m3oe", "mdmt_released", seed).mean()
        for seed in (1, 2)
    ]
    found = row(table, variant="fusion=gated")
    assert found["less_default_mean"] == pytest.approx(np.mean(less))
    assert found["less_default_sd"] == pytest.approx(np.std(less, ddof=1))
    assert found["published_overall_auc"] == 0.7692
    assert found["published_less_default"] == pytest.approx(-0.001)
    assert shown(table, Variant="M3oE")["Less the default"] == "–"
    assert np.isnan(row(table, variant="tower-norm=batch")["published_overall_auc"])


@pytest.mark.parametrize(
    ("experiment", "words"), [("m3oe_ablations", ABLATIONS), ("m3oe_automl", AUTOML)]
)
def test_every_variant_has_its_words(experiment, words):
    expected = Study(load(PARAMS), "quick").expected[experiment]
    assert {variant_name(run.variant) for run in expected} == set(words)


def test_every_published_ablation_is_run(results):
    ablations = published("overall_auc", ["dataset", "variant"])["variant"]
    assert set(ablations) <= set(ABLATIONS)


def test_fusion_weights_are_those_of_the_model_that_is_tested(results):
    run = next(run for run in results.made("m3oe_automl") if not run.variant)
    released = next(run for run in results.made("m3oe_ablations") if not run.variant)
    patience = run.settings.training.patience

    def curve(after):
        best = [{"best": True, "fusion": {"a_D": 0.1}}]
        return {"curve": [*best, *[{"best": False, "fusion": {"a_D": 0.9}}] * after]}

    assert fusion_in_test(run, curve(patience - 1)) == {"a_D": 0.1}
    # the epochs ran out: the released code keeps the last weights
    assert fusion_in_test(released, curve(patience - 1)) == {"a_D": 0.9}
    assert fusion_in_test(released, curve(patience)) == {"a_D": 0.1}
    assert fusion_in_test(run, {"curve": []}) == {}
    table = m3oe_automl(results)
    own = [
        fusion_in_test(run, results.metrics[run])["b_T"]
        for run in results.made("m3oe_automl")
        if not run.variant
    ]
    assert row(table, variant="default")["b_T_mean"] == pytest.approx(np.mean(own))
    assert {record["Variant"] for record in table.printed.to_dict("records")} == set(
        variant_tables.AUTOML.values()
    )


def test_orders_are_named_ranked_and_end_with_the_published_cells(results):
    table = m3oe_row_order(results)
    frame = table.numbers
    assert dict(zip(frame["dataset"], frame["order"], strict=True)) == {
        DATA: "by time",
        "ml-1m-m3oe-shuffled": "shuffled",
    }
    for _, own in frame.groupby("dataset"):
        best = own.sort_values("overall_auc_mean", ascending=False)
        assert best["rank"].tolist() == list(range(1, 6))
    last = table.printed.tail(3)
    assert last["Model"].tolist() == ["MLP", "MMoE-MDMT", "M3oE"]
    assert set(last["Data set"]) == {"ml-1m, published"}
    assert last["D3 T2"].tolist() == ["0.7415", "0.7541", "0.7609"]
    assert last["Overall AUC"].tolist() == ["0.7562", "0.7635", "0.7702"]


def test_domains_are_counted_beside_the_published_ones(results):
    table = m3oe_datasets(results)
    first = next(p for p in results.populations if p["dataset"] == DATA)
    found = row(table, dataset=DATA, number="2")
    rows = sum(first["rows"][split][1] for split in ("train", "validation", "test"))
    assert (found["users"], found["items"], found["rows"]) == (
        first["users"][1],
        first["items"][1],
        rows,
    )
    assert found["positive_rate_t2"] == pytest.approx(first["positives"]["like"][1] / rows)
    assert found["share"] == pytest.approx(rows / 1500)
    assert found["published_rows"] == 395_556
    assert found["verdict"] == "not met"
    assert set(table.numbers["dataset"]) == set(MULTI)


def test_equal_counts_are_met(results):
    exact = [
        entry
        | {"users": [1325, 2096, 2619], "items": [3429, 3508, 3595]}
        | {"rows": {"train": [210_747, 395_556, 393_906], "validation": [0] * 3, "test": [0] * 3}}
        if entry["dataset"] == DATA
        else entry
        for entry in results.populations
    ]
    table = m3oe_datasets(replace(results, populations=exact))
    verdicts = table.numbers.groupby("dataset")["verdict"].agg(set)
    assert verdicts[DATA] == {"met"}
    assert verdicts[BY_DOMAIN] == {"not met"}
    assert "1,325 / 3,429 / 210,747 (met)" in set(table.printed["Published users / items / rows"])


@pytest.mark.parametrize("make", MAKERS)
def test_an_experiment_that_is_not_in_the_tier_says_so(results, make):
    params = results.study.params
    experiments = {n: e for n, e in params.experiments.items() if n not in STUDY}
    study = Study(params.model_copy(update={"experiments": experiments}), "quick")
    table = make(replace(results, study=study, metrics={}))
    assert table.printed.empty


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("absent", "why"), [(MULTI, "data not present"), ((), "not run")])
def test_without_results_every_row_says_why(results, make, absent, why):
    states = {r: "data not present" if r.dataset in absent else "not run" for r in results.states}
    table = make(replace(results, states=states, metrics={}, populations=[]))
    own = table.printed
    if "Data set" in own:
        own = own[~own["Data set"].str.endswith("published")]
    assert len(own)
    assert (own == why).any(axis="columns").all()


def test_results_of_some_models_leave_holes_for_the_others(results):
    kept = {
        r: m for r, m in results.metrics.items() if r.backbone != "mmoe" and r.dataset != BY_DOMAIN
    }
    table = m3oe_released(replace(results, metrics=kept))
    status = table.numbers.set_index("model")["status"]
    assert status["MMoE-MDL"] == "not run"
    assert status["M3oE"] == "present"
    assert shown(table, Model="MMoE-MDL")["Overall AUC"] == "not run"
    assert shown(table, Model="MLP")["RelaImpr"] == "–"


def test_a_partial_table_counts_the_finished_models_and_says_so(results):
    kept = {r: m for r, m in results.metrics.items() if r.backbone in ("m3oe", "mmoe")}
    part = replace(results, metrics=kept)
    table = m3oe(part)
    own = table.printed[table.printed["Data set"] == DATA].set_index("Model")["RelaImpr"]
    (reference,) = own.index[own == "reference"]
    assert reference.startswith("MMoE")
    orders = m3oe_row_order(part)
    own = orders.numbers[orders.numbers["dataset"] == DATA].set_index("model")["rank"]
    assert sorted(own[["M3oE", "MMoE-MDMT"]]) == [1, 2]
    assert own.drop(["M3oE", "MMoE-MDMT"]).isna().all()
    for caption in (table.caption, m3oe_released(part).caption, orders.caption):
        assert "that are finished" in caption


def test_rows_in_the_order_of_the_file_are_called_so():
    study = Study(load(PARAMS), "paper")
    names = ("ml-1m-m3oe-by-user", "ml-100k-m3oe-random")
    assert [order_of(study, name) for name in names] == ["as in the file"] * 2


def test_m3oe_alone_has_no_reference(results):
    kept = {r: m for r, m in results.metrics.items() if r.backbone == "m3oe"}
    table = m3oe_released(replace(results, metrics=kept))
    assert shown(table, Model="M3oE")["RelaImpr"] == "–"
    assert not any("less" in note for note in table.notes if "M3oE less" in note)


def test_other_settings_stay_apart(fabricated):
    study = changed(fabricated, {"m3oe_released": {"vary": {"training.patience": [3, 4]}}})
    table = m3oe_released(collect(study))
    assert "Variant" in table.printed
    variants = table.numbers.query(f"dataset == '{DATA}'")["variant"]
    assert len(set(variants)) == 2
    assert not table.numbers["overall_auc_mean"].isin([nan]).any()


def test_tables_come_from_committed_files_alone(fabricated):
    """No data and no predictions are there."""
    assert not (layout.interactions(DATA)).exists()
    for make in MAKERS:
        assert len(make(collect(fabricated)).printed)
