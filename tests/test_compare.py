"""Paired comparisons of arms, from a whole tree of predictions."""

import json
import shutil

import numpy as np
import pytest
from fabricated import DATASETS, MULTI
from sklearn.metrics import roc_auc_score

from domain_experts import layout
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import read_split
from domain_experts.errors import UserError
from domain_experts.evaluation.compare import write_comparisons
from domain_experts.params import Study


@pytest.fixture
def tree(fabricated_tree, project):
    """The whole study, data and predictions included."""
    folder, study = fabricated_tree
    shutil.copytree(folder, project, dirs_exist_ok=True)
    return study


def read(study):
    return json.loads((layout.results(study.tier) / "comparisons.json").read_text())


def find(study, **wanted):
    return next(run for run in study.runs if all(getattr(run, k) == v for k, v in wanted.items()))


def test_differences_are_those_of_the_predictions(tree):
    pair = next(
        c
        for c in read(tree)["comparisons"]
        if (c["dataset"], c["arm"], c["against"], c["seed"]) == ("planted", "moe_mlora", "mlora", 2)
    )
    rows = Interactions.open(layout.interactions("planted"))
    test = read_split(tree.tier, "planted", 2) == 2
    auc = {}
    for arm in ("moe_mlora", "mlora"):
        run = find(tree, dataset="planted", backbone=pair["backbone"], arm=arm, seed=2, variant=())
        logits = np.load(layout.run_artifacts(tree.tier, run) / "predictions.npy")[:, 0]
        labels, domain = rows.labels[test, 0], rows.domain[test]
        auc[arm] = [roc_auc_score(labels[domain == d], logits[domain == d]) for d in range(8)]
    difference = np.subtract(auc["moe_mlora"], auc["mlora"])
    np.testing.assert_allclose(pair["auc_difference"], difference, atol=1e-12)
    assert pair["wauc_difference"] == pytest.approx(np.average(difference, weights=pair["rows"]))
    weights = np.array(pair["rows"]) / sum(pair["rows"])
    expected = np.sqrt(np.sum(weights**2 * np.square(pair["standard_error"])))
    assert pair["wauc_standard_error"] == pytest.approx(expected)


def test_only_arms_on_the_same_split_are_compared(tree):
    compared = read(tree)["comparisons"]
    on_gender = {(c["arm"], c["against"]) for c in compared if c["dataset"] == "ml-100k-gender"}
    assert on_gender == {("mlora", "base"), ("moe_mlora", "base"), ("moe_mlora", "mlora")}
    assert not any("released" in c["arm"] or "star" in c["arm"] for c in compared)


def test_bayes_auc_is_that_of_the_true_probabilities(tree):
    bayes = read(tree)["bayes"]
    generated = {name for name, (_, groups) in (DATASETS | MULTI).items() if groups}
    assert {row["dataset"] for row in bayes} == generated & set(tree.datasets)
    rows = Interactions.open(layout.interactions("planted"))
    first = next(r for r in bayes if (r["dataset"], r["split_seed"]) == ("planted", 1))
    own = (read_split(tree.tier, "planted", 1) == 2) & (rows.domain == 0)
    assert first["auc"][0] == pytest.approx(roc_auc_score(rows.labels[own, 0], rows.truth[own]))


def test_equal_predictions_give_equal_bytes(tree):
    path = layout.results(tree.tier) / "comparisons.json"
    before = path.read_bytes()
    write_comparisons(tree)
    assert path.read_bytes() == before


def test_missing_predictions_name_the_way_out(tree):
    run = find(tree, arm="mlora")
    (layout.run_artifacts(tree.tier, run) / "predictions.npy").unlink()
    with pytest.raises(UserError, match=r"predictions\.npy is missing; delete .*runs\.json"):
        write_comparisons(tree)


def test_predictions_of_other_rows_are_refused(tree):
    run = find(tree, arm="mlora")
    np.save(layout.run_artifacts(tree.tier, run) / "predictions.npy", np.zeros((3, 1), np.float32))
    with pytest.raises(UserError, match="the test rows need"):
        write_comparisons(tree)


def test_damaged_predictions_are_refused(tree):
    run = find(tree, arm="mlora")
    (layout.run_artifacts(tree.tier, run) / "predictions.npy").write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        write_comparisons(tree)


def partial(study):
    return Study(study.params, study.tier, frozenset(study.all_datasets), partial=True)


def test_without_data_and_predictions_a_partial_study_keeps_what_was_compared(tree):
    path = layout.results(tree.tier) / "comparisons.json"
    before = path.read_bytes()
    shutil.rmtree("data")
    shutil.rmtree("artifacts")
    write_comparisons(partial(tree))
    assert path.read_bytes() == before


def test_a_partial_study_compares_what_has_predictions(tree):
    path = layout.results(tree.tier) / "comparisons.json"
    before = path.read_bytes()
    gone = find(tree, arm="mlora", dataset="planted", backbone="wdl", seed=2, variant=())
    (layout.run_artifacts(tree.tier, gone) / "predictions.npy").unlink()
    write_comparisons(partial(tree))
    assert path.read_bytes() == before
    path.unlink()
    write_comparisons(partial(tree))
    lost = [c for c in json.loads(before)["comparisons"] if c not in read(tree)["comparisons"]]
    assert {(c["arm"], c["against"]) for c in lost} == {("mlora", "base"), ("moe_mlora", "mlora")}
    assert {(c["dataset"], c["backbone"], c["seed"]) for c in lost} == {("planted", "wdl", 2)}


def test_what_is_not_finished_is_not_kept(tree):
    gone = find(tree, arm="mlora", dataset="planted", backbone="wdl")
    layout.job_index(tree.tier, gone.job).unlink()
    write_comparisons(partial(tree))
    left = {
        (c["arm"], c["against"])
        for c in read(tree)["comparisons"]
        if (c["dataset"], c["backbone"]) == ("planted", "wdl")
    }
    assert ("moe_mlora", "base") in left
    assert not any("mlora" in pair for pair in left)


def test_populations_are_of_every_split_of_a_run(tree):
    found = {(p["dataset"], p["split_seed"]) for p in read(tree)["populations"]}
    assert found == {(run.dataset, run.split_seed) for run in tree.runs}
    one = next(p for p in read(tree)["populations"] if p["dataset"] == "planted")
    rows = Interactions.open(layout.interactions("planted"))
    assert sum(map(sum, one["rows"].values())) == len(rows.domain)
    assert one["users"][0] == len(np.unique(rows.fields[rows.domain == 0, 0]))
