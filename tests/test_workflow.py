"""The Snakemake workflow, in whole temporary projects whose path has a space."""

import re
import shutil
from pathlib import Path

import pytest
from projects import Project, make_project

from domain_experts import params as parameters
from domain_experts.data import registry
from domain_experts.errors import UserError
from domain_experts.phases import PHASES

# one worker, so that the finished project is made once
pytestmark = pytest.mark.xdist_group("pipeline")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project with nothing made, and no data."""
    return make_project(tmp_path_factory.mktemp("fresh") / "my project")


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished project."""
    shutil.copytree(finished.folder, tmp_path / "a copy")
    return Project(tmp_path / "a copy")


def test_a_bare_call_plans_the_default_tier(fresh):
    plan = fresh.run("snakemake", "-n").stdout
    for rule in ("fetch", "make_report"):
        assert rule in plan


@pytest.mark.parametrize("name", ["results", ".runs"])
def test_a_file_where_a_folder_should_be(tmp_path, name):
    project = make_project(tmp_path / "my project")
    (project.folder / name).write_text("in the way")
    refused = project.snakemake("-n", check=False)
    assert refused.returncode != 0
    assert f"{name} is not a folder that can be written" in refused.stdout
    assert "Traceback" not in refused.stdout


def test_each_phase_is_a_target(fresh):
    plan = fresh.planned("--", *PHASES)
    assert set(PHASES) <= set(plan)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("learning_rate=1", "--config takes tier, skip_missing and partial, not learning_rate"),
        ("tier=huge", "tier 'huge' is unknown; known are smoke, quick, paper"),
        ("skip_missing=perhaps", "skip_missing is true or false, not perhaps"),
        ("partial=perhaps", "partial is true or false, not perhaps"),
    ],
)
def test_what_config_may_not_say_is_refused(fresh, argument, message):
    done = fresh.run("snakemake", "-n", "--config", argument, check=False)
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout


def test_unusable_parameters_are_refused(fresh):
    before = fresh.set("training.patience", 0)
    try:
        done = fresh.snakemake("-n", check=False)
    finally:
        fresh.set("training.patience", before)
    assert done.returncode == 1
    assert "training.patience" in done.stdout
    assert "Traceback" not in done.stdout


def test_missing_data_leave_the_plan_if_asked_to(fresh):
    assert "fetch" in fresh.snakemake("-n", tier="quick").stdout
    plan = fresh.run("snakemake", "-n", "--config", "tier=quick", "skip_missing=true").stdout
    assert "fetch" not in plan
    assert "train_gate" in plan


def test_data_that_only_a_person_can_get_stop_the_plan(fresh, monkeypatch):
    class ByHand:
        by_hand = True
        placement = "ml-1m: get ratings.dat from the owner and put it into data/raw/ml-1m/"

    monkeypatch.chdir(fresh.folder)
    monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL", raising=False)
    monkeypatch.setitem(registry.SOURCES, "ml-1m", ByHand)
    monkeypatch.setattr(registry, "at_hand", lambda source, local: False)
    with pytest.raises(UserError, match=re.escape(ByHand.placement)) as caught:
        parameters.load_study("paper")
    assert "skip_missing=true" in str(caught.value)
    left = parameters.load_study("paper", skip_missing=True)
    assert {left.params.data.datasets[run.dataset].source for run in left.runs} == {"planted"}


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.nothing_to_do()
    done = finished.run("snakemake", "-n", "--config", "tier=smoke", "skip_missing=true")
    assert "Nothing to be done" in done.stdout


def test_newer_times_alone_rerun_nothing(copy):
    for path in (copy.folder / "data").rglob("*"):
        path.touch()
    assert copy.nothing_to_do()


def test_every_job_has_a_log_and_a_benchmark(finished):
    logs = finished.folder / "logs/smoke"
    found = {path.relative_to(logs).with_suffix("") for path in logs.rglob("*.log")}
    times = logs / "benchmarks"
    assert found == {path.relative_to(times).with_suffix("") for path in times.rglob("*.tsv")}
    jobs = sum(finished.planned("--forceall").values()) - 1
    assert len(found) == jobs


def test_a_changed_setting_reruns_what_it_touches(copy):
    copy.set("adapter.alpha", 8)
    plan = copy.planned()
    assert {"train_experts", "train_gate", "train_ablation", "make_tables"} <= set(plan)
    assert not {"prepare_dataset", "split_dataset", "train_backbone", "train_baseline"} & set(plan)


def test_a_third_seed_trains_one_run_a_job(copy):
    params = copy.params()
    params["tiers"]["smoke"]["seeds"].append(2023)
    copy.write_params(params)
    runs = copy.folder / "results/smoke/runs/backbones/planted-small/mlp/base/default"
    before = (runs / "seed=2022/run.json").read_bytes()
    copy.snakemake("--", "backbones")
    assert (runs / "seed=2022/run.json").read_bytes() == before
    assert (runs / "seed=2023/metrics.json").is_file()


def made_from_results(project):
    """Tables and figures, made as `make tables figures` makes them."""
    project.snakemake("partial=true", "--", "tables", "figures")
    return {
        **project.read_results("results/smoke/tables", "*"),
        **project.read_results("figures/smoke", "*"),
    }


@pytest.fixture
def only_results(copy):
    """The finished project as a fresh clone has it: no data, no weights, no tables, no figures."""
    for folder in ("data", "artifacts", ".runs", ".snakemake", "results/smoke/tables", "figures"):
        shutil.rmtree(copy.folder / folder)
    return copy


def test_tables_and_figures_come_from_results_alone(finished, only_results):
    tables = finished.read_results("results/smoke/tables", "*")
    figures = finished.read_results("figures/smoke", "*")
    comparisons = only_results.folder / "results/smoke/comparisons.json"
    before = comparisons.read_bytes()
    assert made_from_results(only_results) == tables | figures
    assert comparisons.read_bytes() == before


def test_what_is_not_finished_is_a_hole(only_results):
    gate = only_results.folder / "results/smoke/runs/gates/planted-small/mlp/moe_mlora"
    (gate / "runs.json").unlink()
    made = made_from_results(only_results)
    main = made[Path("main.md")].decode()
    assert "| MoE-MLoRA | not run |" in main
    assert main.count("not run") == 1
    assert made[Path("gates.png")]


def test_a_partial_study_is_not_trained(only_results):
    plan = only_results.snakemake("partial=true", "-n", "--", "tables", "figures", "report").stdout
    assert "make_report" in plan
    for rule in ("fetch", "prepare_dataset", "split_dataset", "train_"):
        assert rule not in plan


def test_the_report_holds_tables_figures_and_captions(finished):
    report = (finished.folder / "results/smoke/report.html").read_text()
    for name in (*(p.name for p in PHASES["figures"].targets(_study(finished))), "main.csv"):
        if not name.endswith(".pdf"):
            assert name in report


def _study(project):
    return parameters.Study(parameters.load(project.folder / "params.yaml"), "smoke")


def test_a_failing_job_shows_its_message_and_leaves_the_rest(copy):
    split = next((copy.folder / "data/splits").rglob("*.npy"))
    split.write_bytes(split.read_bytes()[:100])
    shutil.rmtree(copy.folder / ".runs")
    shutil.rmtree(copy.folder / "results/smoke/runs/gates")
    done = copy.snakemake("--", "gates", check=False)
    assert done.returncode == 1
    assert split.name in done.stdout
    assert (copy.folder / "results/smoke/runs/backbones/planted-small/mlp/base/runs.json").is_file()
