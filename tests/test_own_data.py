"""docs/own-data.md: its commands do what it says, on a smaller study of the same log."""

import re

import pyarrow.parquet as pq
import pytest
import yaml
from projects import ROOT, Project

from domain_experts.study_file import read

STEP = re.compile(
    r"^New file `(?P<path>[^`]+)`:\n\n```yaml\n(?P<text>.*?)^```$|^```sh\n(?P<command>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SMALLER = {
    "arms: [floors, base, mlora, moe_mlora, star, m3oe]": "arms: [item_rate, base, mlora]",
    "backbones: [wdl]": "backbones: [mlp]\nsettings: {training.max_epochs: 2}",
    "seeds: 3": "seeds: 2",
}


def steps():
    """The files and commands of the page, in turn."""
    text = (ROOT / "docs/own-data.md").read_text()
    found = [*STEP.finditer(text)]
    assert len(found) == len(re.findall(r"^```\w+$", text, re.MULTILINE))
    return found


def smaller(text):
    for one, other in SMALLER.items():
        assert text.count(one) == 1, one
        text = text.replace(one, other)
    return text


@pytest.fixture(scope="module")
def own_log_page(tmp_path_factory):
    """A folder in which all that the page says was done, and what each command printed."""
    project, said = Project(tmp_path_factory.mktemp("own") / "my data"), {}
    project.folder.mkdir()
    for step in steps():
        if step["path"]:
            assert not (project.folder / step["path"]).exists()
            (project.folder / step["path"]).write_text(smaller(step["text"]))
        else:
            said[step["command"]] = project.run("bash", "-e", "-c", step["command"]).stdout
    return project, said


def train_jobs(text):
    return [line for line in text.splitlines() if line.startswith("train artifacts")]


def test_the_page_ends_in_an_answer(own_log_page):
    project, said = own_log_page
    listed, answered = [*said.values()][-2], [*said.values()][-1]
    assert "prepare_dataset" in listed
    assert answered.startswith(("Take ", "No gain"))
    # what the study printed at its end is what `answer` prints
    assert listed.endswith(answered)
    assert "Base, MLP" in answered
    numbers = pq.read_table(project.folder / "clicks/results/study/results.parquet")
    assert set(numbers["arm"].to_pylist()) == {"", "item_rate", "base", "mlora"}


def test_the_guess_of_init_is_a_study(own_log_page):
    project, _ = own_log_page
    guessed = read(project.folder / "guessed.yaml")
    assert guessed.domain.column == "category"
    assert guessed.tasks == {"click": "click"}


def test_all_stays_in_its_folder_and_out_of_git(own_log_page):
    project, _ = own_log_page
    assert {path.name for path in project.folder.iterdir()} == {
        *("clicks.csv", "guessed.yaml", "clicks.yaml", "clicks"),
    }
    project.run("git", "init", "-q")
    assert "clicks/" not in project.run("git", "status", "--short", "--untracked-files=all").stdout


def test_the_report_opens_on_the_answer_and_leaves_out_what_it_has_not(own_log_page):
    project, _ = own_log_page
    page = (project.folder / "clicks/results/study/report.html").read_text()
    first = page.index('<section id="')
    assert page[first:].startswith('<section id="recommendation">')
    assert "Do domain experts pay on clicks?" in page
    for name in ("verdicts", "evidence", "published", "fusion", "gate_weights"):
        assert f'"{name}"' not in page
        assert not [*(project.folder / "clicks").rglob(f"{name}.*")]
    tables = {path.stem for path in (project.folder / "clicks/results/study/tables").iterdir()}
    assert {"recommendation", "recommendation_domains", "recommendation_cost"} <= tables


def test_run_again_it_does_what_changed_alone(own_log_page):
    project, _ = own_log_page
    study = ("domain-experts", "study", "clicks.yaml")
    assert "Nothing to be done" in project.run(*study, "--dry-run").stdout
    path = project.folder / "clicks.yaml"
    before = path.read_text()
    try:
        path.write_text(before.replace("mlora]", "mlora, star]"))
        said = project.run(*study, "--dry-run").stdout
        assert [job.split()[1].split("/")[-2] for job in train_jobs(said)] == ["star"]
        assert "prepare_dataset" not in said

        values = yaml.safe_load(before) | {"arms": ["item_rate", "bsae"]}
        path.write_text(yaml.safe_dump(values))
        refused = project.run(*study, check=False)
        assert refused.returncode == 1
        assert "arms: arm 'bsae' is unknown; did you mean base?" in refused.stdout
    finally:
        path.write_text(before)


def test_dvc_runs_the_study_and_pushes_nothing_of_it(own_log_page, tmp_path):
    project, _ = own_log_page
    own = Project(project.folder / "clicks")
    remote = tmp_path / "remote"
    before = own.read_results("artifacts", "*.npy")
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    project.run("dvc", "remote", "add", "-q", "--default", "store", str(remote))
    project.run("domain-experts", "study", "clicks.yaml", "--dvc", "--dry-run")
    own.run("dvc", "repro")
    assert own.read_results("artifacts", "*.npy") == before
    assert "up to date" in own.run("dvc", "repro").stdout
    assert "up to date" in own.run("dvc", "push").stdout
    assert not [*remote.rglob("*")]
    private = [path for path in own.folder.rglob("*") if path.is_file()]
    git = project.run("git", "ls-files", "--others", "--exclude-standard", "clicks").stdout
    assert git.split() == ["clicks/dvc.lock", "clicks/dvc.yaml"]
    assert len(private) > 2
    with (project.folder / "clicks.csv").open("a") as file:
        file.write("u1,i1,games,5,3000,1\n")
    assert "clicks.csv" in own.run("dvc", "status").stdout
