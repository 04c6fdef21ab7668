"""DVC runs the same rules, and what it stores comes back whole."""

import json
import re

import pytest
import servers
import yaml
from projects import ROOT, Project, make_smallest

from domain_experts.dvc_pipeline import dvc_files, pull
from domain_experts.errors import UserError
from domain_experts.params import load
from domain_experts.phases import PHASES
from domain_experts.study import Study
from domain_experts.yaml_files import LOADER


@pytest.fixture(scope="module")
def texts():
    return dvc_files(load(ROOT / "params.yaml"))


@pytest.fixture(scope="module")
def files(texts):
    return {path.as_posix(): yaml.load(text, LOADER) for path, text in texts.items()}


@pytest.fixture(scope="module")
def tracked(finished, tmp_path_factory):
    """A copy of the finished project, its smoke tier recorded by DVC and pushed to a folder."""
    base = tmp_path_factory.mktemp("dvc")
    project = finished.copy(base / "my project")
    project.run("domain-experts", "dvc-yaml", "--tier", "smoke")
    project.run("dvc", "repro")
    project.run("dvc", "remote", "add", "--default", "store", str(base / "a remote"))
    project.commit()
    project.run("dvc", "push")
    return project


@pytest.fixture(scope="module")
def pulled(tracked, tmp_path_factory):
    """A clone of it, with all that DVC brings: leave it as it is, or put back what you change."""
    folder = tmp_path_factory.mktemp("pulled") / "a clone"
    tracked.run("git", "clone", "-q", ".", str(folder))
    clone = Project(folder)
    clone.run("domain-experts", "pull", "--tier", "smoke")
    return clone


def options(stage):
    return {path: keys for out in stage["outs"] for path, keys in out.items()}


def test_a_stage_is_a_phase(files):
    assert list(files) == ["dvc.yaml", "workflow/paper/dvc.yaml"]
    assert list(files["dvc.yaml"]["stages"]) == list(PHASES)
    assert list(files["workflow/paper/dvc.yaml"]["stages"]) == list(PHASES)[2:]


def test_the_files_can_be_read_by_a_person(texts):
    assert sum(len(text.splitlines()) for text in texts.values()) <= 230


def test_a_stage_runs_the_rules_of_its_own_phase_only(files):
    for content in files.values():
        for name, stage in content["stages"].items():
            allowed, target = re.search(r"--allowed-rules (.*) -- (\w+)$", stage["cmd"]).groups()
            first = ("fetch", "prepare_dataset") if next(iter(content["stages"])) == name else ()
            own = PHASES[name].rules
            assert tuple(allowed.split()) in (own, (*first, *own))
            assert target == name


def test_every_output_has_one_owner_and_survives_a_rerun(files):
    owners = [options(stage) for content in files.values() for stage in content["stages"].values()]
    paths = [path for stage in owners for path in stage]
    assert len(set(paths)) == len(paths)
    assert all(keys["persist"] for stage in owners for keys in stage.values())


def test_every_dependency_is_in_the_project_or_made_by_a_stage(files):
    made = {
        path
        for content in files.values()
        for stage in content["stages"].values()
        for path in options(stage)
    }
    for content in files.values():
        for stage in content["stages"].values():
            for dep in stage["deps"]:
                assert dep in made or (ROOT / dep).exists(), dep


def test_movielens_is_not_pushed_and_small_paper_results_stay_in_git(files):
    quick, paper = (
        {
            path: keys
            for stage in content["stages"].values()
            for path, keys in options(stage).items()
        }
        for content in files.values()
    )
    assert quick["data/raw/ml-100k"]["push"] is False
    assert quick["data/interactions/ml-100k-gender"]["push"] is False
    assert "push" not in quick["data/interactions/planted"]
    assert quick["data/splits/quick"]["push"] is paper["data/splits/paper"]["push"] is False
    assert paper["results/paper/tables"]["cache"] is False
    assert "cache" not in paper["artifacts/paper/experts"]


def test_models_carry_type_and_description(files):
    for content in files.values():
        for artifact in content["artifacts"].values():
            assert artifact["type"] == "model"
            assert artifact["desc"]


def test_without_a_lock_there_is_nothing_to_pull(project):
    study = Study(load(ROOT / "params.yaml"), "smoke")
    with pytest.raises(UserError, match=r"dvc\.lock is missing"):
        pull(study, None)


def test_dvc_trains_nothing_that_snakemake_has_trained(tracked, finished):
    for name in ("artifacts/smoke", "results/smoke"):
        for pattern in ("record.json", "*.npy", "results.parquet"):
            assert tracked.read_results(name, pattern) == finished.read_results(name, pattern)
    assert "up to date" in tracked.run("dvc", "repro").stdout
    assert tracked.nothing_to_do()


def test_the_status_of_what_was_never_recorded_is_a_page(finished, tmp_path):
    project = finished.copy(tmp_path / "a copy")
    project.run("domain-experts", "dvc-yaml", "--tier", "smoke")
    assert len(project.run("dvc", "status", "dvc.yaml").stdout.splitlines()) < 150
    project.run("dvc", "commit", "--quiet", "--force", "dvc.yaml")
    assert "up to date" in project.run("dvc", "status", "dvc.yaml").stdout


def test_metrics_plots_and_changed_parameters_are_shown(tracked):
    metrics = "results/smoke/metrics.json"
    shown = json.loads(tracked.run("dvc", "metrics", "show", "--json", metrics).stdout)
    values = shown[""]["data"][metrics]["data"]
    assert values["runs"]["current"] > 0
    tracked.run("dvc", "plots", "show")
    page = (tracked.folder / "dvc_plots/index.html").read_text()
    assert "validation_auc" in page
    before = tracked.set("rates.smoothing", 77.0)
    try:
        changed = tracked.run("dvc", "params", "diff").stdout
    finally:
        tracked.set("rates.smoothing", before)
    assert re.search(r"rates\.smoothing.*77", changed)


def test_push_clone_and_pull_leave_nothing_to_do(tracked, pulled):
    assert pulled.nothing_to_do()
    assert "up to date" in pulled.run("dvc", "status", "dvc.yaml").stdout
    for folder in ("results/smoke", "figures/smoke", "artifacts/smoke", "data"):
        assert pulled.read_results(folder, "*.*") == tracked.read_results(folder, "*.*")
    # a later change is still found
    before = pulled.set("adapter.alpha", 8)
    try:
        assert any("/experts/" in index for index in pulled.trained())
    finally:
        pulled.set("adapter.alpha", before)


@pytest.mark.parametrize("server", [servers.s3, servers.ssh], ids=["s3", "ssh"])
def test_a_server_keeps_and_gives_back_what_a_folder_does(tracked, tmp_path, server):
    with server(tmp_path) as (address, settings, secret):
        project = tracked.copy(tmp_path / "my project")
        project.run("dvc", "remote", "add", "server", address)
        for name, value in settings.items():
            project.run("dvc", "remote", "modify", "server", name, value)
        project.commit()
        assert "files pushed" in project.run("dvc", "push", "-r", "server", **secret).stdout
        assert "up to date" in project.run("dvc", "push", "-r", "server", **secret).stdout
        project.run("git", "clone", "-q", ".", str(tmp_path / "a clone"))
        clone = Project(tmp_path / "a clone")
        clone.run("domain-experts", "pull", "--tier", "smoke", "--remote", "server", **secret)
    assert clone.nothing_to_do()
    assert "up to date" in clone.run("dvc", "status", "dvc.yaml").stdout
    for folder in ("results/smoke", "figures/smoke", "artifacts/smoke", "data"):
        assert clone.read_results(folder, "*.*") == tracked.read_results(folder, "*.*")


def test_pull_refuses_results_of_other_parameters(pulled):
    before = pulled.set("rates.smoothing", 77.0)
    try:
        done = pulled.run("domain-experts", "pull", "--tier", "smoke", check=False)
    finally:
        pulled.set("rates.smoothing", before)
    assert done.returncode == 1
    assert "baselines" in done.stdout
    assert "Traceback" not in done.stdout


def test_an_experiment_changes_one_setting(tracked, tmp_path):
    project = tracked.copy(tmp_path / "a copy")
    rates = "artifacts/smoke/baselines/planted-small/none/item_rate/default/seed=2022"
    before = project.read_results(rates, "test.npy")
    done = project.run("dvc", "exp", "run", "-S", "rates.smoothing=500", "baselines").stdout
    assert "Ran experiment" in done
    assert project.params()["rates"]["smoothing"] == 500
    assert project.read_results(rates, "test.npy") != before


def test_the_locks_of_both_tiers_stand_side_by_side(tmp_path):
    project = make_smallest(tmp_path / "my project")
    params = project.params()
    small = {tier: ["planted-small"] for tier in ("smoke", "quick", "paper")}
    for experiment in params["experiments"].values():
        experiment["datasets"] = small
    project.write_params(params)
    project.run("domain-experts", "dvc-yaml")
    project.run("dvc", "repro", "split")
    quick = (project.folder / "dvc.lock").read_bytes()
    project.run("dvc", "repro", "workflow/paper/dvc.yaml:split")
    paper = yaml.safe_load((project.folder / "workflow/paper/dvc.lock").read_text())
    assert list(paper["stages"]) == ["split"]
    assert (project.folder / "dvc.lock").read_bytes() == quick
    for stage in ("split", "workflow/paper/dvc.yaml:split"):
        assert "up to date" in project.run("dvc", "status", stage).stdout


def test_the_files_in_this_project_are_in_step(texts):
    for path, text in texts.items():
        assert (ROOT / path).read_text() == text, "run `domain-experts dvc-yaml`"
