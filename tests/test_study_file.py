"""Study files: what is refused and how, and what params.yaml they become."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA
from projects import ROOT

from domain_experts.errors import UserError
from domain_experts.params import Params, load
from domain_experts.phases import PHASES
from domain_experts.registry import ARMS
from domain_experts.reporting.catalog import figure_names, table_names
from domain_experts.study import Study
from domain_experts.study_file import EXPERIMENT, TIER, params_of, read
from domain_experts.study_folder import existing, folder_of, make, write_dvc

LOG = {
    "files": "clicks.csv",
    "domain": "country",
    "tasks": {"click": "click"},
    "fields": {"user": {}, "item": {}, "country": {}},
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writer of a study file in the current folder, with changed keys; None takes one out."""
    monkeypatch.chdir(tmp_path)

    def written(name="mylog.yaml", **keys):
        values = {key: value for key, value in (LOG | keys).items() if value is not None}
        path = Path(name)
        path.write_text(yaml.safe_dump(values))
        return path

    return written


@pytest.fixture
def study(write):
    def made(**keys):
        file = read(write(**keys))
        return Study(Params.model_validate(params_of(file, "mylog", Path(".."))), TIER)

    return made


def arms(study):
    return list(dict.fromkeys(run.arm for run in study.expected[EXPERIMENT]))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"domain": None}, "domain: Field required"),
        ({"tsaks": {}}, "tsaks: unknown key; known here:"),
        ({"fields": {"user": {"hsah": 3}}}, "fields.user.hsah: unknown key; known here: column"),
        ({"fields": {"user": {"hash": 1}}}, "fields.user.hash"),
        ({"arms": ["bsae"]}, "arms: arm 'bsae' is unknown; did you mean base?"),
        ({"arms": ["moe_mlroa"]}, "did you mean moe_mlora?"),
        ({"arms": []}, "arms: "),
        ({"arms": ["base", "base"]}, "arms: the same value twice"),
        ({"arms": ["oracle_mlora"]}, "arms: arm 'oracle_mlora' is unknown"),
        ({"arms": ["item_rate"], "fields": {"user": {}}}, "'item_rate' needs a field named item"),
        ({"backbones": ["wld"]}, "backbones: backbone 'wld' is unknown; did you mean wdl?"),
        ({"arms": ["base"], "backbones": ["mmoe"]}, "'base' takes none of the backbones mmoe; add"),
        ({"backbones": ["wdl", "mmoe"]}, "backbones: none of the arms takes 'mmoe'"),
        ({"seeds": 0}, "seeds: "),
        ({"seeds": [1, 1]}, "seeds: the same value twice"),
        ({"search": {"trials": 1}}, "search.trials: "),
        ({"search": 20}, "search: "),
        ({"settings": {"training.bacth_size": 1}}, "settings: 'training.bacth_size' is not a"),
        ({"settings": {"training.batch_size": 0}}, "training.batch_size: Input should be greater"),
        ({"device": "tpu"}, "device: "),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(write, keys, said):
    path = write(**keys)
    with pytest.raises(UserError) as caught:
        make(path)
    assert "mylog.yaml" in str(caught.value)
    assert said in str(caught.value)
    assert not Path("mylog").exists()


def test_a_file_that_is_none_is_refused(write):
    Path("broken.yaml").write_text("files: [")
    for name, said in (
        ("absent.yaml", "absent.yaml: No such file"),
        ("broken.yaml", "broken.yaml is not valid YAML"),
        ("clicks.csv", "a study is a file that ends in .yaml or .yml"),
        ("my log.yaml", "takes its name from the file"),
    ):
        with pytest.raises(UserError, match=said):
            make(Path(name))


def test_floors_are_all_that_the_log_has_fields_for(study):
    floors = [arm for arm in ARMS if ARMS[arm].floor]
    assert arms(study(arms=["floors"])) == floors
    without = [arm for arm in floors if arm not in ("item_rate", "user_item_rate")]
    assert arms(study(arms=["floors"], fields={"user": {}, "ad": {}})) == without


def test_the_multi_task_arm_has_its_model_and_the_loss_of_the_others(study):
    made = study(arms=["base", "m3oe"], backbones=["mlp", "wdl"])
    found = {(run.arm, run.backbone): run for run in made.expected[EXPERIMENT]}
    assert set(found) == {("base", "mlp"), ("base", "wdl"), ("mdmt", "m3oe")}
    assert {run.settings.protocol.loss for run in found.values()} == {"mean"}
    compared = {(run.arm, other.backbone) for run, other, _ in made.comparisons(EXPERIMENT)}
    assert ("mdmt", "mlp") in compared


def test_seeds_settings_and_device_are_those_of_the_file(study):
    made = study(seeds=2, settings={"training.batch_size": 64}, device="cpu", arms=["base"])
    runs = made.expected[EXPERIMENT]
    assert [run.seed for run in runs] == [2022, 2023]
    assert {run.settings.training.batch_size for run in runs} == {64}
    assert made.params.device == "cpu"
    assert [run.seed for run in study(seeds=[7], arms=["base"]).runs] == [7]


def test_another_arm_leaves_the_runs_of_the_others_as_they_are(study):
    def payloads(made):
        return {run.path.as_posix(): run.payload() for run in made.runs}

    few = payloads(study(arms=["floors", "base"]))
    more = payloads(study(arms=["floors", "base", "moe_mlora", "star", "m3oe"]))
    assert few.items() <= more.items()
    assert len(more) > len(few)


def test_a_search_has_the_space_of_the_packaged_experiment(study):
    made = study(
        arms=["floors", "base", "moe_mlora", "star"],
        search={"trials": 4},
        seeds=[0, 1],
        fields=LOG["fields"],
    )
    search = made.params.experiments[EXPERIMENT].search
    packaged = load(ROOT / "params.yaml").experiments["tuned"].search
    for arm in ("all", "star", "moe_mlora", "lightgbm"):
        assert search.space[arm] == packaged.space[arm]
    assert "mlora" not in search.space
    assert search.starts_from == {"moe_mlora": "base"}
    assert search.trials == {TIER: 4}
    assert not {*search.seeds} & {0, 1}
    assert {one.arm for one in made.searches} == {*arms(made)}


def test_files_are_relative_to_the_study_file(write):
    write(files=["logs/*.csv", "/abs/*.parquet", "../more.csv"])
    folder = make(Path("mylog.yaml"))
    spec = load(folder / "params.yaml").data.datasets["mylog"]
    assert spec.files == ("../logs/*.csv", "/abs/*.parquet", "../../more.csv")
    first = (folder / "params.yaml").read_text().splitlines()[0]
    assert first.startswith("# Made by `domain-experts study` from ../mylog.yaml")


def test_an_unchanged_file_leaves_the_folder_as_it_is(write):
    path = write()
    params = make(path) / "params.yaml"
    before = params.stat().st_mtime_ns, params.read_bytes()
    make(path)
    assert (params.stat().st_mtime_ns, params.read_bytes()) == before


def test_a_folder_of_something_else_is_left_alone(write):
    path = write()
    Path("mylog").mkdir()
    Path("mylog/params.yaml").write_text("tier: quick\n")
    with pytest.raises(UserError, match=r"mylog is to be the study's folder, but is something"):
        make(path)
    assert Path("mylog/params.yaml").read_text() == "tier: quick\n"


def test_an_answer_is_of_a_study_that_was_made(write):
    path = write()
    for name in (path, Path("mylog")):
        assert folder_of(name) == Path("mylog")
        with pytest.raises(UserError, match=r"no study's folder; `domain-experts study mylog.yaml"):
            existing(name)
    make(path)
    with pytest.raises(UserError, match=r"no results yet; `domain-experts study mylog.yaml` makes"):
        existing(Path("mylog"))


def test_nothing_leaves_the_machine_unless_the_file_says_so(write, study):
    outputs = {}
    for push in (False, True):
        made = study(push=push)
        outputs[push] = [o for phase in PHASES.values() for o in phase.outputs(made)]
    assert not any(output.push for output in outputs[False])
    assert all(output.push for output in outputs[True])
    assert {output.kind for output in outputs[True]} == {"data", "model", "result"}
    ignored = make(write()) / ".gitignore"
    # of DVC's two files, which hold names and checksums, git may know
    assert ignored.read_text().splitlines()[1:] == ["*", "!/dvc.yaml", "!/dvc.lock"]
    assert make(write(push=True)) and not ignored.exists()
    ignored.write_text("/artifacts\n")
    make(write(push=True))
    assert ignored.read_text() == "/artifacts\n"


@pytest.mark.parametrize("push", [False, True])
def test_dvc_has_one_stage_and_pushes_what_the_file_lets_it(write, push):
    for name in ("a.csv", "b.csv"):
        Path(name).write_text("country,click\n")
    file = write(files="*.csv", push=push)
    write_dvc(file)
    content = yaml.safe_load(Path("mylog/dvc.yaml").read_text())
    COMPILED_MULTI_STAGE_SCHEMA(content)
    (stage,) = content["stages"].values()
    assert stage["cmd"] == "domain-experts study ../mylog.yaml"
    assert stage["deps"] == ["../mylog.yaml", "../a.csv", "../b.csv"]
    options = {path: keys for out in stage["outs"] for path, keys in out.items()}
    assert {"data/interactions/mylog", "artifacts/study/backbones"} <= options.keys()
    assert {keys.get("push", True) for keys in options.values()} == {push}
    # and it is a study's folder still
    assert make(file) == Path("mylog")


def test_what_has_nothing_to_show_is_left_out(study, tmp_path):
    few, more = study(arms=["base"]), study(arms=["moe_mlora", "m3oe"])
    tables = table_names(few)
    assert tables[:3] == ("recommendation", "recommendation_domains", "recommendation_cost")
    assert not {"verdicts", "evidence"} & {*tables}
    figures = set(figure_names(few))
    assert {"gain_by_domain", "learning_curves", EXPERIMENT} <= figures
    assert not {"published", "gate_weights", "moved", "fusion", "ranks"} & figures
    assert set(figure_names(more)) - figures == {"gate_weights", "moved", "fusion"}
    # a ledger of one's own is shown
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims/ours.yaml").write_text("")
    assert {"verdicts", "evidence"} <= {*table_names(few)}


def test_a_wheel_holds_the_workflow_and_the_defaults(tmp_path):
    copy = tmp_path / "copy"
    for name in ("src", "workflow"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=lambda *_: ["__pycache__"])
    for name in ("params.yaml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(copy)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = {*file.namelist()}
        for path in (
            "params.yaml",
            *("workflow/Snakefile", "workflow/report/workflow.rst"),
            *(f"workflow/rules/{name}.smk" for name in ("common", "data", "training", "results")),
            "workflow/profiles/default/config.yaml",
        ):
            assert file.read(f"domain_experts/{path}") == (copy / path).read_bytes()
    assert "snakemake_logger_plugin_domain_experts/__init__.py" in names
