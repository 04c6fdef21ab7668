"""From logits and labels to numbers: whole trees of predictions, and what comes of them."""

import contextlib
import json
import shutil

import numpy as np
import pytest
from fabricated import DATASETS, LEFT_OUT, MULTI, change_json, evaluate_all, rewrite, write_indexes
from sklearn.metrics import log_loss, roc_auc_score

from domain_experts import layout
from domain_experts.data.interactions import Interactions
from domain_experts.data.split import read_split
from domain_experts.errors import UserError
from domain_experts.evaluation.evaluate import evaluate_dataset, merge
from domain_experts.evaluation.registry import COMPARED, METRICS, SHOWN, TESTED
from domain_experts.files import read_json
from domain_experts.reporting.frame import frames
from domain_experts.results import RECORD_COLUMNS, load, read, write
from domain_experts.study import Study


@pytest.fixture
def kept(fabricated_tree, monkeypatch):
    """The study, in its own folder: only to be read."""
    folder, study = fabricated_tree
    monkeypatch.chdir(folder)
    return study


@pytest.fixture(scope="module")
def shown(fabricated_tree):
    """Its frames, read once."""
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        of = frames(study)
        # read what depends on the working directory
        assert len(of.runs)
        return of


@pytest.fixture
def tree(few_runs):
    """A copy of one with fewer runs: what is changed is evaluated in a moment."""
    return few_runs


def find(study, **wanted):
    return next(run for run in study.runs if all(getattr(run, k) == v for k, v in wanted.items()))


def numbers(study, **wanted):
    """The rows of the results that have these values."""
    frame = read(layout.results_file(study.tier))
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    return frame


def test_metrics_are_those_of_the_predictions(kept):
    """Oracle: scikit-learn, domain by domain."""
    run = find(kept, dataset="planted", backbone="wdl", arm="moe_mlora", seed=2, variant=())
    rows = Interactions.open(layout.interactions("planted"))
    for number, split in ((1, "validation"), (2, "test")):
        chosen = read_split(kept.tier, "planted", 2) == number
        logits = np.load(layout.run_artifacts(kept.tier, run) / f"{split}.npy")[:, 0].astype(float)
        labels, domain = rows.labels[chosen, 0], rows.domain[chosen]
        found = numbers(kept, run=run.path.as_posix(), split=split, against="")
        auc = found[found["metric"] == "auc"].set_index("domain")["value"]
        assert list(auc.index) == list(rows.schema.domains)
        for d, name in enumerate(rows.schema.domains):
            own = domain == d
            assert auc[name] == pytest.approx(roc_auc_score(labels[own], logits[own]), abs=1e-12)
        whole = found[found["domain"] == ""].set_index("metric")["value"]
        counts = np.bincount(domain, minlength=8)
        assert whole["wauc"] == pytest.approx(np.average(auc, weights=counts))
        assert whole["macro_auc"] == pytest.approx(auc.mean())
        assert whole["log_loss"] == pytest.approx(log_loss(labels, 1 / (1 + np.exp(-logits))))


def test_differences_are_those_of_the_predictions(kept):
    runs = {
        arm: find(kept, dataset="planted", backbone="wdl", arm=arm, seed=2, variant=())
        for arm in ("moe_mlora", "mlora")
    }
    rows = Interactions.open(layout.interactions("planted"))
    test = read_split(kept.tier, "planted", 2) == 2
    labels, domain = rows.labels[test, 0], rows.domain[test]
    auc = {}
    for arm, run in runs.items():
        logits = np.load(layout.run_artifacts(kept.tier, run) / "test.npy")[:, 0]
        auc[arm] = [roc_auc_score(labels[domain == d], logits[domain == d]) for d in range(8)]
    difference = np.subtract(auc["moe_mlora"], auc["mlora"])
    pair = numbers(
        kept, run=runs["moe_mlora"].path.as_posix(), against=runs["mlora"].path.as_posix()
    )
    by_metric = pair.groupby("metric")["value"].apply(list)
    np.testing.assert_allclose(by_metric["auc_difference"], difference, atol=1e-12)
    weights = np.bincount(domain) / len(domain)
    assert by_metric["wauc_difference"] == [pytest.approx(weights @ difference)]
    expected = np.sqrt(np.sum(weights**2 * np.square(by_metric["auc_difference_se"])))
    assert by_metric["wauc_difference_se"] == [pytest.approx(expected)]


@pytest.mark.parametrize("experiment", ["main", "m3oe", "m3oe_automl", "new_domain"])
def test_every_difference_in_an_experiments_metric_has_an_error(shown, experiment):
    gains = shown.gains(experiment).dropna(subset="gain")
    assert len(gains)
    assert (gains["se"] > 0).all()


def test_only_what_experiments_compare_on_the_same_split_is_compared(kept):
    compared = numbers(kept, dataset="ml-100k-gender", metric="wauc_difference")
    by_path = {run.path.as_posix(): run for run in kept.runs}
    found = [(by_path[a], by_path[b]) for a, b in compared[["run", "against"]].to_numpy()]
    assert all((a.split_seed, a.seed) == (b.split_seed, b.seed) for a, b in found)
    asked = {pair[:2] for name in kept.expected for pair in kept.comparisons(name)}
    assert set(found) == {pair for pair in asked if pair[0].dataset == "ml-100k-gender"}
    arms = {(a.arm, b.arm) for a, b in found if not a.variant}
    assert {("moe_mlora", "base"), ("mlora", "base"), ("moe_mlora", "mlora")} <= arms
    assert not any("released" in a + b for a, b in arms)


def test_what_experiments_may_show_is_what_runs_have(shown):
    """But for scalars of tested models, which the fabricated ones do not have."""
    of = shown
    assert set(of.runs) - {*of.about, "task", "machine"} == set(SHOWN) - set(TESTED)
    assert set(METRICS) < set(COMPARED) < set(SHOWN)


def test_bayes_auc_is_that_of_the_true_probabilities(kept):
    bayes = numbers(kept, run="", metric="bayes_auc")
    generated = {name for name, (_, groups) in (DATASETS | MULTI).items() if groups}
    assert set(bayes["dataset"]) == generated & set(kept.datasets)
    rows = Interactions.open(layout.interactions("planted"))
    first = bayes.query("dataset == 'planted' and split_seed == 1 and domain == 'domain 0'")
    own = (read_split(kept.tier, "planted", 1) == 2) & (rows.domain == 0)
    expected = roc_auc_score(rows.labels[own, 0], rows.truth[own])
    assert first["value"].tolist() == [pytest.approx(expected)]


def test_populations_are_of_every_split_of_a_run(kept):
    found = numbers(kept, run="", metric="rows")
    pairs = set(zip(found["dataset"], found["split_seed"], strict=True))
    assert pairs == {(run.dataset, run.split_seed) for run in kept.runs}
    one = found.query("dataset == 'planted' and split_seed == 1")
    rows = Interactions.open(layout.interactions("planted"))
    assert one["value"].sum() == len(rows.domain)
    users = numbers(kept, run="", metric="users", dataset="planted", domain="domain 0")
    assert users["value"].iloc[0] == len(np.unique(rows.fields[rows.domain == 0, 0]))


def test_equal_predictions_give_equal_bytes(tree):
    path = layout.results_file(tree.tier)
    before = path.read_bytes()
    evaluate_all(tree, ["planted"])
    assert path.read_bytes() == before
    path.unlink()
    merge(tree)
    assert path.read_bytes() == before


def test_missing_predictions_name_the_way_out(tree):
    run = find(tree, arm="mlora")
    (layout.run_artifacts(tree.tier, run) / "test.npy").unlink()
    with pytest.raises(UserError, match=r"test\.npy is missing; remove .*runs\.json"):
        evaluate_dataset(tree, run.dataset)


def test_predictions_of_other_rows_are_refused(tree):
    run = find(tree, arm="mlora")
    np.save(layout.run_artifacts(tree.tier, run) / "test.npy", np.zeros((3, 1), np.float32))
    write_indexes(tree)
    with pytest.raises(UserError, match="the test rows need"):
        evaluate_dataset(tree, run.dataset)


def test_damaged_predictions_are_refused(tree):
    run = find(tree, arm="mlora")
    (layout.run_artifacts(tree.tier, run) / "validation.npy").write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        evaluate_dataset(tree, run.dataset)


def test_what_is_known_outlives_data_and_artifacts(tree):
    path, records = layout.results_file(tree.tier), layout.records_file(tree.tier)
    before = path.read_bytes(), records.read_bytes()
    shutil.rmtree("data")
    shutil.rmtree("artifacts")
    merge(tree)
    assert (path.read_bytes(), records.read_bytes()) == before


def test_a_run_that_is_not_finished_is_not_evaluated(tree):
    gone = find(tree, arm="mlora", dataset="planted", backbone="wdl")
    layout.job_index(tree.tier, gone.job).unlink()
    for path in (layout.results_file(tree.tier), layout.records_file(tree.tier)):
        path.unlink()
    evaluate_all(tree, ["planted"])
    status = load(tree).status
    assert {status[run.path.as_posix()] for run in tree.runs if run.job == gone.job} == {"not run"}
    gate = find(tree, arm="moe_mlora", dataset="planted", backbone="wdl", variant=())
    assert status[gate.path.as_posix()] == "current"
    absent = {status[r.path.as_posix()] for r in tree.expected_runs if r.dataset == LEFT_OUT}
    assert absent == {"data not present"}
    # and so are runs that params.yaml asks for since then
    seeds = {
        **tree.params.tiers,
        tree.tier: tree.params.tiers[tree.tier].model_copy(update={"seeds": (7,)}),
    }
    later = load(Study(tree.params.model_copy(update={"tiers": seeds}), tree.tier))
    new = {"planted": set(), LEFT_OUT: set()}
    for run in later.study.expected_runs:
        if run.seed == 7 and run.dataset in new:
            new[run.dataset].add(later.status[run.path.as_posix()])
    assert new == {"planted": {"not run"}, LEFT_OUT: {"data not present"}}


def test_a_damaged_results_file_is_not_overwritten(tree):
    path = layout.results_file(tree.tier)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"results\.parquet is damaged"):
        merge(tree)
    assert path.read_bytes() == b"PAR1"


def stale(study):
    """Paths of the stale runs, with the reasons."""
    results = load(study)
    chosen = {path for path, status in results.status.items() if status == "stale"}
    assert chosen == {path for path, why in results.outdated.items() if why}
    return {path: results.outdated[path] for path in chosen}


def test_all_is_current_at_first(kept):
    assert stale(kept) == {}


# what is changed in the base run of which seed
ORIGINS = {"code": 1, "torch": 2, "data": 3, "split": 4}


def changed_base(study, what):
    return find(study, arm="base", dataset="planted", backbone="mlp", seed=ORIGINS[what])


@pytest.fixture(scope="module")
def outdated(few_runs_tree, tmp_path_factory):
    """What is stale, and what is stored so, after four base runs have other origins."""
    folder, study = few_runs_tree
    copy = tmp_path_factory.mktemp("outdated") / "copy"
    shutil.copytree(folder, copy)
    with contextlib.chdir(copy):
        for what in ORIGINS:
            run = layout.run_artifacts(study.tier, changed_base(study, what)) / "run.json"
            change_json(run, **{what: "another"})
        evaluate_all(study, ["planted"])
        return stale(study), set(numbers(study, status="stale")["run"])


@pytest.mark.parametrize("what", ORIGINS)
def test_other_origins_make_a_run_and_what_starts_from_it_stale(few_runs_tree, outdated, what):
    (_, study), (found, stored) = few_runs_tree, outdated
    base = changed_base(study, what)
    why = {"split": "data"}.get(what, what)
    assert found[base.path.as_posix()] == (why,)

    def starts_from_base(run):
        return any(up == base or starts_from_base(up) for up in study.upstream(run))

    downstream = {run.path.as_posix() for run in filter(starts_from_base, study.expected_runs)}
    runs = {run.path.as_posix(): run for run in study.expected_runs}
    assert {runs[path].backbone for path in found} == {"mlp"}
    assert {path for path in found if runs[path].seed == base.seed} == {
        *downstream,
        base.path.as_posix(),
    }
    assert stored == set(found)


def test_other_settings_make_stale_what_reads_them(kept):
    values = kept.params.model_dump()
    values["gate"]["dim"] = 7
    changed = Study(type(kept.params).model_validate(values), kept.tier, kept.absent)
    found = stale(changed)
    arms = {path.split("/")[3] for path, why in found.items() if "settings" in why}
    # the number of epochs of the last is that of MoE-MLoRA
    gated = {"moe_mlora", "moe_mlora_held_out", "moe_mlora_refit", "mlora_gated", "mlora_epochs"}
    further = {"moe_mlora_from_mlora", "moe_mlora_joint", "moe_mlora_staged"}
    assert arms == gated | further | {"moe_mlora_sequence", "moe_mlora_released"}


def test_upstream_runs_that_were_trained_again_make_stale(tree):
    base = find(tree, arm="base", dataset="planted", backbone="wdl", seed=2)
    change_json(layout.run_artifacts(tree.tier, base) / "run.json", key="another")
    evaluate_all(tree, ["planted"])
    gate = find(tree, arm="moe_mlora", dataset="planted", backbone="wdl", seed=2, variant=())
    assert stale(tree)[gate.path.as_posix()] == ("upstream runs",)


def test_changed_data_make_stale_what_was_trained_on_them(tree):
    card = layout.card("planted")
    change_json(card, content="others")
    found = stale(tree)
    assert {path.split("/")[1] for path in found} == {"planted"}
    assert {why for reasons in found.values() for why in reasons} == {"data"}


@pytest.mark.parametrize("what", ["code", "torch", "data", "split", "upstream", "settings"])
def test_a_run_whose_origins_are_not_recorded_is_not_current(tree, what):
    run = find(tree, arm="base", dataset="planted", backbone="wdl", seed=2)

    def forget(record):
        (record if what == "settings" else record["provenance"])[what] = None

    rewrite(tree, run, forget)
    assert stale(tree)[run.path.as_posix()] == ("not recorded",)


def fact_status(study):
    facts = load(study).facts
    return facts.groupby(["dataset", "split_seed"])["status"].unique().map(list)


def test_numbers_about_data_are_stale_when_data_or_splits_are_others(tree):
    assert fact_status(tree).map(lambda status: status == ["current"]).all()
    card, index = layout.card("planted"), layout.split_index(tree.tier, "planted-small")
    change_json(card, content="others")
    seeds = read_json(index, "")["seeds"]
    change_json(index, seeds={"2": seeds["2"] | {"sha256": "another"}})
    found = fact_status(tree)
    gone = found[found.map(lambda status: status == ["stale"])].index
    expected = {pair for pair in found.index if pair[0] == "planted"} | {("planted-small", 2)}
    assert set(gone) == expected
    merge(tree)
    assert set(numbers(tree, run="", status="stale")["dataset"]) == {"planted", "planted-small"}
    shown = frames(tree).data
    assert set(shown.loc[shown["status"] == "stale", "dataset"]) >= {"planted"}


def test_numbers_about_data_whose_split_is_not_recorded_are_not_current(tree):
    path = layout.records_file(tree.tier)
    records = read(path, RECORD_COLUMNS)
    data = records["run"] == ""
    records.loc[data, "record"] = [
        json.dumps({k: v for k, v in json.loads(text).items() if k != "splits"})
        for text in records.loc[data, "record"]
    ]
    write(records, path, RECORD_COLUMNS)
    assert fact_status(tree).map(lambda status: status == ["stale"]).all()
