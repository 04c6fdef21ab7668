"""The Snakemake workflow, in whole temporary projects whose path has a space."""

import re
import shutil

import pytest
from projects import make_project

from domain_experts.phases import PHASES


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project with nothing made, and no data."""
    return make_project(tmp_path_factory.mktemp("fresh") / "my project")


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished project."""
    return finished.copy(tmp_path / "a copy")


def test_a_bare_call_plans_the_default_tier(fresh):
    plan = fresh.run("snakemake", "-n").stdout
    for rule in ("fetch", "report"):
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
        ("learning_rate=1", "--config key 'learning_rate' is unknown; known are tier"),
        ("teir=smoke", "--config key 'teir' is unknown; did you mean tier?"),
        ("tier=huge", "tier 'huge' is unknown; known are smoke, quick, paper"),
        ("tier=quik", "tier 'quik' is unknown; did you mean quick?"),
        ("allow_missing=perhaps", "allow_missing is true or false, not perhaps"),
    ],
)
def test_what_config_may_not_say_is_refused(fresh, argument, message):
    done = fresh.run("snakemake", "-n", "--config", argument, check=False)
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("tabels", "tables"),
        ("results/smoke/tables/overveiw.md", "results/smoke/tables/overview.md"),
        (
            "artifacts/smoke/baselines/planted-small/mlp/mlroa/runs.json",
            "baselines/planted-small/mlp/mlora",
        ),
        (
            "artifacts/smoke/gates/planted-small/mlp/moe_mlroa/runs.json",
            "gates/planted-small/mlp/moe_mlora",
        ),
    ],
)
def test_a_mistyped_target_is_answered_by_what_was_meant(fresh, target, meant):
    done = fresh.snakemake("-n", "--", target, check=False)
    assert done.returncode == 1
    assert f"did you mean {meant}?" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("command", ["headline", "runs", "status", "pull", "dvc-yaml"])
def test_a_mistyped_tier_is_answered_by_what_was_meant(fresh, command):
    done = fresh.run("domain-experts", command, "--tier", "quik", check=False)
    assert done.returncode == 1
    assert done.stdout == "error: tier 'quik' is unknown; did you mean quick?\n"


def test_a_dry_run_says_why_in_a_line_a_job(fresh):
    lines = fresh.snakemake("-n", "--", "backbones").stdout.splitlines()
    jobs = [line for line in lines if line.startswith(("prepare", "split", "train"))]
    made = "artifacts/smoke/backbones/planted-small/mlp/base/runs.json"
    assert f"train {made}: Missing output files" in "\n".join(jobs)
    # the profile's name, the counts of jobs, and a line for each
    assert len(lines) < 2 * len(jobs) + 10


def test_one_arm_on_one_data_set_is_made_by_the_path_that_runs_prints(fresh):
    listed = fresh.run("domain-experts", "runs", "--tier", "smoke").stdout.splitlines()
    (target,) = (line.split()[0] for line in listed if "/gates/planted-small/mlp/" in line)
    plan = fresh.planned("--", target)
    assert plan["train"] == 3, "its backbone, its experts, its gate"
    assert not {"evaluate_dataset", "tables", "figures"} & set(plan)


def test_unusable_parameters_are_refused(fresh):
    before = fresh.set("training.patience", 0)
    try:
        done = fresh.snakemake("-n", check=False)
    finally:
        fresh.set("training.patience", before)
    assert done.returncode == 1
    assert "training.patience" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_claim_that_cannot_be_decided_is_refused(fresh):
    path = fresh.folder / "claims/1-moe-mlora.yaml"
    before = path.read_text()
    path.write_text(before.replace("arms: [moe_mlora]", "arms: [moe_mlroa]", 1))
    try:
        done = fresh.snakemake("-n", check=False)
    finally:
        path.write_text(before)
    assert done.returncode == 1
    assert (
        "claims/1-moe-mlora.yaml, claim 'moe-mlora-beats-mlora-taobao': arm 'moe_mlroa' is "
        "unknown; did you mean moe_mlora?"
    ) in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout


def test_missing_data_leave_the_plan_if_asked_to(fresh):
    assert "fetch" in fresh.snakemake("-n", tier="quick").stdout
    plan = fresh.run("snakemake", "-n", "--config", "tier=quick", "allow_missing=true").stdout
    assert "fetch" not in plan
    assert "/gates/" in plan


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
    assert "/gates/" in plan


def test_a_changed_claim_makes_tables_and_report_again(copy):
    path = copy.folder / "claims/ours.yaml"
    path.write_text(path.read_text().replace("min_seeds: 1", "min_seeds: 2"))
    assert copy.planned().keys() == {"tables", "report", "all"}


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.nothing_to_do()
    done = finished.run("snakemake", "-n", "--config", "tier=smoke", "allow_missing=true")
    assert "Nothing to be done" in done.stdout


def test_newer_times_alone_rerun_nothing(copy):
    for path in (copy.folder / "data").rglob("*"):
        path.touch()
    assert copy.nothing_to_do()


def test_every_job_has_a_log(finished):
    logs = list((finished.folder / "logs/smoke").rglob("*.log"))
    assert len(logs) == sum(finished.planned("--forceall").values()) - 1


def test_a_changed_setting_reruns_what_it_touches(copy):
    copy.set("adapter.alpha", 8)
    plan = copy.planned()
    assert {"train", "tables", "figures"} <= set(plan)
    assert not {"prepare_dataset", "split_dataset"} & set(plan)
    phases = {path.split("/")[2] for path in copy.trained()}
    assert phases == {"experts", "gates", "ablations", "controls"}


def test_another_comparison_measures_and_shows_again_and_trains_nothing(copy):
    copy.set("experiments.main.compare", ["base", "item_rate"])
    plan = copy.planned()
    assert "train" not in plan
    assert plan["evaluate_dataset"] == 1
    assert plan["tables"] == 1


def test_a_third_seed_trains_one_run_a_job(copy):
    params = copy.params()
    params["tiers"]["smoke"]["seeds"].append(2023)
    copy.write_params(params)
    runs = copy.folder / "artifacts/smoke/backbones/planted-small/mlp/base/default"
    before = (runs / "seed=2022/run.json").read_bytes()
    said = copy.snakemake("--", "backbones").stdout
    assert (runs / "seed=2022/run.json").read_bytes() == before
    # a line a run, with the share that is done, and none of Snakemake's own
    lines = said.splitlines()[1:]
    assert re.fullmatch(
        r"\[1/2  50%  \d+ s left\] planted-small/mlp/base seed=2022  from the run store", lines[0]
    )
    assert re.fullmatch(
        r"\[2/2 100%  0 s left\] planted-small/mlp/base seed=2023  validation AUC \.\d{4}  .* s",
        lines[1],
    )
    assert len(lines) == 2
    assert (runs / "seed=2023/record.json").is_file()


REPORTING = ("--allowed-rules", "tables", "figures")


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
    for name in ("metrics.json", "curves.csv"):
        (copy.folder / "results/smoke" / name).unlink()
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


def test_a_failing_job_shows_its_message_and_leaves_the_rest(copy):
    split = next((copy.folder / "data/splits").rglob("*.npy"))
    split.write_bytes(split.read_bytes()[:100])
    shutil.rmtree(copy.folder / ".runs")
    shutil.rmtree(copy.folder / "artifacts/smoke/gates")
    done = copy.snakemake("--", "gates", check=False)
    assert done.returncode == 1
    assert split.name in done.stdout
    assert (copy.folder / "artifacts/smoke/backbones/planted-small/mlp/base/runs.json").is_file()
