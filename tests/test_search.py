"""Searches: equal budgets, validation rows alone, and runs with what was chosen."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import plain_yaml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_experts import layout
from domain_experts.data.cut import write_splits
from domain_experts.data.interactions import Interactions
from domain_experts.data.prepare import prepare
from domain_experts.data.split import read_split
from domain_experts.errors import UserError
from domain_experts.evaluation.evaluate import evaluate_dataset, merge
from domain_experts.params import Params, validated
from domain_experts.presence import load_study
from domain_experts.reporting.frame import frames
from domain_experts.reporting.searching import expected_best, search_table, trials
from domain_experts.results import CURRENT, STALE, load
from domain_experts.runs import Search
from domain_experts.study import Study
from domain_experts.training import job, search

SPACE = {
    "all": {"training.learning_rate": {"low": 1e-4, "high": 0.1, "log": True}},
    "base": {"model.hidden": [[8], [16, 8]]},
    "moe_mlora": {
        "adapter.alpha": [2, 4],
        "experts/training.learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    },
}
TUNED = {
    "question": "Which is best?",
    "datasets": {"smoke": ["planted-small"]},
    "backbones": ["mlp"],
    "arms": ["logistic_regression", "base", "moe_mlora"],
    "search": {"trials": {"smoke": 3}, "passes": {"smoke": 100}, "seeds": [1], "space": SPACE},
}
BASE, MOE = (Search("tuned", "planted-small", "mlp", arm) for arm in ("base", "moe_mlora"))


def write_params(**changed):
    """params.yaml with the experiment `tuned` alone; `changed` of its search."""
    params = plain_yaml.read()
    params["experiments"] = {"tuned": TUNED | {"search": TUNED["search"] | changed}}
    plain_yaml.write(params)
    return load_study("smoke")


@pytest.fixture
def study(project):
    """The study, its data prepared and split."""
    made = write_params()
    prepare("planted-small", made.params.data.datasets["planted-small"])
    write_splits(
        made.params.data.split_rule("planted-small"),
        "smoke",
        "planted-small",
        made.seeds("planted-small"),
    )
    return made


def execute(study, asked):
    search.execute(study, asked, device="cpu", threads=1)
    return json.loads(layout.search_file("smoke", asked).read_text())


def test_a_search_spends_its_budget_and_keeps_the_best(study):
    found = execute(study, BASE)
    values = [trial["value"] for trial in found["trials"]]
    assert len(values) == 3
    assert found["chosen"] == found["trials"][int(np.argmax(values))]["settings"]
    assert all(trial["rows_visited"] > 0 for trial in found["trials"])


def test_the_first_trial_is_the_default_where_it_lies_in_the_space(study):
    space = {
        "all": SPACE["all"],
        "base": {"model.hidden": [[8], [32, 16], [4]], "model.l2": [1, 2]},
    }
    first = execute(write_params(space=space), BASE)["trials"][0]["settings"]
    assert first["training.learning_rate"] == study.params.training.learning_rate
    # the smoke tier's
    assert first["model.hidden"] == [32, 16]
    assert first["model.l2"] in (1, 2)


def test_passes_over_the_rows_end_a_search(study):
    rows = int((read_split("smoke", "planted-small", 1) == 0).sum())
    first = execute(study, BASE)["trials"][0]["rows_visited"] // rows
    assert len(execute(write_params(passes={"smoke": first}), BASE)["trials"]) == 1
    assert len(execute(write_params(passes={"smoke": first + 1}), BASE)["trials"]) == 2


def test_a_trial_never_sees_a_test_row(study, monkeypatch, tmp_path):
    """Whatever stands in them, trials and choice are the same."""
    found = {asked: execute(study, asked) for asked in (BASE, MOE)}
    test = read_split("smoke", "planted-small", 1) == 2
    opened = Interactions.open

    def spoiled(folder):
        data = opened(folder)
        fields, labels, domain = map(np.array, (data.fields, data.labels, data.domain))
        fields[test], labels[test], domain[test] = 0, 1 - labels[test], 0
        return dataclasses.replace(data, fields=fields, labels=labels, domain=domain)

    monkeypatch.setattr(Interactions, "open", spoiled)
    monkeypatch.setattr(layout, "STORE", tmp_path / "another store")
    for asked, known in found.items():
        assert execute(study, asked) == known


def test_a_search_that_was_cut_off_goes_on(study, monkeypatch):
    train, calls = job._train, []

    def cut_off(*args):
        calls.append(args[1])
        if len(calls) == 5:
            raise InterruptedError
        return train(*args)

    monkeypatch.setattr(job, "_train", cut_off)
    with pytest.raises(InterruptedError):
        execute(study, MOE)
    found = execute(study, MOE)
    # three trials of three runs each, one of which was begun twice
    assert len(calls) == 10
    monkeypatch.setattr(layout, "STORE", layout.STORE.with_name("another"))
    assert execute(study, MOE) == found


def test_pruning_ends_a_trial_after_a_bad_seed(study, monkeypatch):
    values = iter([*[0.9] * 12, 0.1])
    monkeypatch.setattr(search, "_validated", lambda *args: next(values))
    pruned = write_params(prune=True, seeds=[1, 3], trials={"smoke": 7})
    write_splits(pruned.params.data.split_rule("planted-small"), "smoke", "planted-small", (1, 3))
    found = execute(pruned, Search("tuned", "planted-small", "none", "logistic_regression"))
    assert [trial["value"] for trial in found["trials"]] == [0.9] * 6 + [None]
    assert list(found["trials"][-1]["seeds"]) == ["1"]


def test_random_settings_lie_in_the_space(study):
    found = execute(write_params(sampler="random", trials={"smoke": 6}), BASE)
    rates = [trial["settings"]["training.learning_rate"] for trial in found["trials"]]
    assert len(set(rates)) == 6
    assert all(1e-4 <= rate <= 0.1 for rate in rates)
    assert {tuple(t["settings"]["model.hidden"]) for t in found["trials"]} <= {(8,), (16, 8)}


def test_final_runs_have_what_was_chosen(study):
    with pytest.raises(UserError, match=r"moe_mlora\.json is missing: run `snakemake"):
        study.require_chosen(study.tuned(MOE, 2022).job)
    for asked in study.searches:
        execute(study, asked)
    chosen = json.loads(layout.search_file("smoke", MOE).read_text())["chosen"]
    study = load_study("smoke")
    run = study.tuned(MOE, 2022)
    base, experts = study.upstream(run)
    rate, own = chosen["training.learning_rate"], chosen["experts/training.learning_rate"]
    rates = [part.settings.training.learning_rate for part in (run, base, experts)]
    assert rates == [rate, rate, own]
    assert run.settings.adapter.alpha == experts.settings.adapter.alpha == chosen["adapter.alpha"]
    alone = study.tuned(BASE, 2022)
    assert alone.path != base.path
    for made in study.jobs():
        study.require_chosen(made)
        job.execute(study, made, device="cpu", threads=1)
    evaluate_dataset(study, "planted-small")
    merge(study)
    results = load(study)
    assert set(results.status.values()) == {CURRENT}
    assert set(results.searches.values()) == {CURRENT}
    tried = results.stored[results.stored["run"].str.startswith("search/")]
    assert set(tried["split"]) == {"validation"}
    assert len(tried) == 9
    compared = {
        (run.path.as_posix(), other.path.as_posix()) for run, other, _ in study.comparisons("tuned")
    }
    assert (run.path.as_posix(), alone.path.as_posix()) in compared
    of = frames(study)
    assert len(trials(of, "tuned")) == 9
    table = search_table(of, "tuned_search", "tuned")
    assert list(table.printed["Trials"]) == ["3"] * 3
    assert (
        table.numbers["best"].tolist()
        == table.numbers["best of 2"].combine(table.numbers["best"], max).tolist()
    )
    # another space would be searched anew, and what it chose be made again
    wider = write_params(trials={"smoke": 4})
    assert set(load(wider).searches.values()) == {STALE}
    with pytest.raises(UserError, match="is of another search than"):
        wider.require_chosen(run.job)
    # none has ended elsewhere
    layout.results_file("smoke").unlink()
    for path in (layout.artifacts("smoke"), layout.searches("smoke")):
        shutil.rmtree(path)
    merge(wider)
    empty = search_table(frames(load_study("smoke")), "tuned_search", "tuned")
    assert empty.printed.empty
    assert any("3 of 3 searches have not ended" in note for note in empty.notes)


def test_settings_of_one_arm_alone(study):
    params = plain_yaml.read()
    params["experiments"] = {
        "rates": {
            "question": "?",
            "datasets": {"smoke": ["planted-small"]},
            "backbones": ["mlp"],
            "arms": ["base", "moe_mlora"],
            "variants": [{"experts/training.learning_rate": 0.5}],
        }
    }
    params["configurations"] = {"planted-*": {"experts": {"training.patience": 9}}}
    own = Study(validated(Params, params, "here"), "smoke")
    paths = [run.path.as_posix() for run in own.expected["rates"] if run.seed == 2022]
    assert paths == [
        "backbones/planted-small/mlp/base/default/seed=2022",
        "gates/planted-small/mlp/moe_mlora/default/seed=2022",
        "ablations/planted-small/mlp/moe_mlora/experts-learning-rate=0.5/seed=2022",
    ]
    gate = own.expected["rates"][-1]
    base, experts = own.upstream(gate)
    assert (gate.settings.training.learning_rate, base.path.parts[3]) == (0.001, "base")
    assert (experts.settings.training.learning_rate, experts.settings.training.patience) == (0.5, 9)
    assert base.settings.training.patience == gate.settings.training.patience != 9


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"search": {"trials": {"smoke": 0}}}, "greater than or equal to 1"),
        ({"search": {"trials": {"quick": 1}}}, "say the `trials` and `passes` of tier smoke"),
        ({"search": {"seeds": [2022]}}, "2022 is a seed of the final runs of tier smoke"),
        ({"search": {"space": {"mlora": {"model.l2": [0.1, 0.2]}}}}, "'mlora' is unknown"),
        (
            {"search": {"space": {"base": {"gate.dim": [1, 2]}}}},
            "arm 'base' never reads 'gate.dim'",
        ),
        ({"search": {"space": {"all": {"rates.smoothing": [1, 2]}}}}, "reads 'rates.smoothing'"),
        (
            {"search": {"space": {"base": {"model.l2": [0.1, 0.2]}}}},
            "no setting that arm 'logistic",
        ),
        ({"search": {"space": {"all": {"model.l2": {"low": 2, "high": 1}}}}}, "must be below high"),
        (
            {"search": {"space": {"all": {"model.l2": {"low": 0, "high": 1, "log": True}}}}},
            "above 0",
        ),
        (
            {"search": {"space": {"moe_mlora": {"expert/model.l2": [1, 2]}}}},
            "reads 'expert/model.l2'",
        ),
        ({"search": {"space": {"all": {"model.l2": [0.1, 0.1]}}}}, "the same value twice"),
        ({"search": {"seeds": [1, 1]}}, "the same value twice"),
        (
            {"search": {"space": SPACE | {"base": {"model.hiden": [1, 2]}}}},
            "'model.hiden' is not a",
        ),
        (
            {"search": {"space": SPACE | {"base": {"model.dropout": {"low": 0, "high": 1.7}}}}},
            "model.dropout: Input should be less than 1",
        ),
        (
            {
                "search": {
                    "space": SPACE | {"base": {"model.embedding_dim": {"low": 1.5, "high": 4}}}
                }
            },
            "embedding_dim",
        ),
        ({"search": {"starts_from": {"base": "moe_mlora"}}}, "does not read all settings of"),
        ({"search": {"trials": {"smoke": 1}, "starts_from": {"moe_mlora": "base"}}}, "two or more"),
        ({"metric": "log_loss"}, "a search maximises wauc or macro_auc, not log_loss"),
        ({"vary": {"model.l2": [0.1]}}, "leave out `vary`"),
    ],
)
def test_refused(changed, said):
    params = plain_yaml.read()
    searched = TUNED["search"] | changed.pop("search", {})
    params["experiments"] = {"tuned": TUNED | {"search": searched} | changed}
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        _ = Study(validated(Params, params, "params.yaml"), "smoke").expected


@given(st.lists(st.integers(0, 20), min_size=1, max_size=7), st.integers(1, 8))
def test_expected_best_is_the_mean_over_all_draws(values, n):
    draws = [max(draw) for draw in itertools.combinations(values, n)]
    if not draws:
        assert np.isnan(expected_best(values, n))
    else:
        assert expected_best(values, n) == pytest.approx(np.mean(draws))


def test_a_search_that_starts_from_another_shares_its_budget(study, monkeypatch):
    study = write_params(trials={"smoke": 4}, starts_from={"moe_mlora": "base"})
    assert study.first(MOE) == BASE
    base = execute(study, BASE)
    train, arms = job._train, []

    def watched(bench, run, *args):
        arms.append(run.arm)
        return train(bench, run, *args)

    monkeypatch.setattr(job, "_train", watched)
    found = execute(study, MOE)
    # the best backbone of the first half is in the store
    assert set(arms) == {"experts", "moe_mlora"}
    first, second = found["trials"][:2], found["trials"][2:]
    assert [trial | {"value": None} for trial in base["trials"][:2]] == first
    best = max(base["trials"][:2], key=lambda trial: trial["value"])["settings"]
    assert len(second) == 2
    for trial in second:
        assert {key: trial["settings"][key] for key in best} == best
        assert set(trial["settings"]) == {*best, *SPACE["moe_mlora"]}
    assert found["chosen"] in [trial["settings"] for trial in second]


def test_a_search_starts_from_an_arm_that_is_searched():
    with pytest.raises(UserError, match="'mlora' is unknown"):
        _study(starts_from={"moe_mlora": "mlora"})
    space = {name: SPACE[name] for name in ("all", "base")}
    with pytest.raises(UserError, match="nothing of 'moe_mlora' to search"):
        _study(starts_from={"moe_mlora": "base"}, space=space)


def _study(**changed):
    params = plain_yaml.read()
    params["experiments"] = {"tuned": TUNED | {"search": TUNED["search"] | changed}}
    return Study(validated(Params, params, "params.yaml"), "smoke")
