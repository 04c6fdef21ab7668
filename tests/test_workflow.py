"""The Snakemake workflow, in whole temporary projects whose path has a space."""

import shutil

import pytest
from projects import Project, make_project

from domain_experts.params import load
from domain_experts.phases import PHASES
from domain_experts.study import Study

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
        ("learning_rate=1", "--config takes tier and allow_missing, not learning_rate"),
        ("tier=huge", "tier 'huge' is unknown; known are smoke, quick, paper"),
        ("allow_missing=perhaps", "allow_missing is true or false, not perhaps"),
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
    plan = fresh.run("snakemake", "-n", "--config", "tier=quick", "allow_missing=true").stdout
    assert "fetch" not in plan
    assert "train_gate" in plan


def test_data_that_only_a_person_can_get_stop_the_start(fresh):
    listed = fresh.snakemake("-n", "--", "download", tier="paper").stdout
    assert "fetch" in listed
    refused = fresh.snakemake("--", "download", tier="paper", check=False)
    assert refused.returncode == 1
    assert "data sets of tier 'paper' are missing and cannot be downloaded" in refused.stdout
    assert "allow_missing=true" in refused.stdout
    assert not (fresh.folder / "data/raw").exists()
    plan = fresh.run("snakemake", "-n", "--config", "tier=paper", "allow_missing=true").stdout
    assert "fetch" not in plan
    assert "train_gate" in plan


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.nothing_to_do()
    done = finished.run("snakemake", "-n", "--config", "tier=smoke", "allow_missing=true")
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
    runs = copy.folder / "artifacts/smoke/backbones/planted-small/mlp/base/default"
    before = (runs / "seed=2022/run.json").read_bytes()
    copy.snakemake("--", "backbones")
    assert (runs / "seed=2022/run.json").read_bytes() == before
    assert (runs / "seed=2023/record.json").is_file()


REPORTING = ("--allowed-rules", "make_tables", "make_figures")


def made_from_results(project):
    """Tables and figures, made as `make tables figures` makes them."""
    project.snakemake(*REPORTING, "--forcerun", *REPORTING[1:], "--", "tables", "figures")
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
    results = only_results.folder / "results/smoke/results.parquet"
    before = results.read_bytes()
    assert made_from_results(only_results) == tables | figures
    assert results.read_bytes() == before


def test_results_outlive_their_artifacts(only_results):
    results = only_results.folder / "results/smoke/results.parquet"
    before = results.read_bytes()
    only_results.run("domain-experts", "results", "--tier", "smoke")
    assert results.read_bytes() == before


def test_the_report_holds_tables_figures_and_captions(finished):
    report = (finished.folder / "results/smoke/report.html").read_text()
    for name in (*(p.name for p in PHASES["figures"].targets(_study(finished))), "main.csv"):
        if not name.endswith(".pdf"):
            assert name in report


def _study(project):
    return Study(load(project.folder / "params.yaml"), "smoke")


def test_a_failing_job_shows_its_message_and_leaves_the_rest(copy):
    split = next((copy.folder / "data/splits").rglob("*.npy"))
    split.write_bytes(split.read_bytes()[:100])
    shutil.rmtree(copy.folder / ".runs")
    shutil.rmtree(copy.folder / "artifacts/smoke/gates")
    done = copy.snakemake("--", "gates", check=False)
    assert done.returncode == 1
    assert split.name in done.stdout
    assert (copy.folder / "artifacts/smoke/backbones/planted-small/mlp/base/runs.json").is_file()
