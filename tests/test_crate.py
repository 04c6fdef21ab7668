"""The RO-Crate of a tier's results."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from rocrate.rocrate import ROCrate

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.files import sha256
from domain_experts.reporting.citation import FILE as CITATION
from domain_experts.reporting.citation import cited
from domain_experts.reporting.crate import FILE, README, WORKFLOW, write_crate

ROOT = Path(__file__).parents[1]


@pytest.fixture
def whole(smoke, monkeypatch):
    """A small study with files in the places of a table, a figure, and all else."""
    for kind in ("table_names", "figure_names"):
        monkeypatch.setattr(f"domain_experts.reporting.crate.{kind}", lambda study: ("main",))
    made = [layout.report("smoke"), *layout.table_files("smoke", "main")]
    for path in (*made, *layout.figure_files("smoke", "main")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"This is {path.name}.\nAnd more.\n")
    for path in (CITATION, README, WORKFLOW):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, path)
    return smoke


def test_a_library_reads_what_is_described(whole):
    """Oracle: rocrate, which reads the file back, and the files themselves."""
    write_crate(whole)
    crate = ROCrate(".")
    assert crate.mainEntity.id == WORKFLOW.as_posix()
    assert crate.mainEntity["programmingLanguage"]["name"] == "Snakemake"
    files = {entity.id: entity for entity in crate.data_entities}
    expected = {
        *(WORKFLOW, README, layout.PARAMS, layout.report("smoke")),
        *(layout.results_file("smoke"), layout.records_file("smoke")),
        *(layout.tables("smoke") / "main.csv", layout.figures("smoke") / "main.pdf"),
    }
    assert {Path(name) for name in files} == expected
    for name, entity in files.items():
        if "sha256" in entity:
            assert entity["sha256"] == sha256(Path(name))
            assert int(entity["contentSize"]) == Path(name).stat().st_size
    table = files[(layout.tables("smoke") / "main.csv").as_posix()]
    assert table["description"] == "This is main.md."
    assert sum("sha256" in entity for entity in files.values()) == len(files) - 2
    run = crate.root_dataset["mentions"]
    assert run["instrument"] == crate.mainEntity
    assert {result.id for result in run["result"]} == {
        layout.results_file("smoke").as_posix(),
        layout.records_file("smoke").as_posix(),
    }
    assert {paper["name"] for paper in crate.root_dataset["citation"]} == {
        entry["title"] for entry in yaml.safe_load(CITATION.read_text())["references"]
    }


def test_every_entity_that_is_named_is_described(whole):
    write_crate(whole)
    graph = json.loads(FILE.read_text())["@graph"]
    known = {entity["@id"] for entity in graph}
    assert len(known) == len(graph)

    def named(value):
        if isinstance(value, list):
            return set().union(*map(named, value))
        return {value["@id"]} if isinstance(value, dict) else set()

    outside = {i for entity in graph for value in entity.values() for i in named(value)} - known
    assert all(name.startswith("https://") for name in outside), outside


def test_equal_files_give_equal_bytes(whole):
    write_crate(whole)
    first = FILE.read_bytes()
    write_crate(whole)
    assert FILE.read_bytes() == first


def test_what_is_missing_is_named(whole):
    layout.report("smoke").unlink()
    with pytest.raises(UserError, match=r"report\.html is missing.*make report"):
        write_crate(whole)


def test_the_papers_have_their_pages(whole):
    software, papers = cited()
    assert software.published.startswith("20")
    assert [paper.url for paper in papers] == [
        "https://arxiv.org/abs/2506.07563",
        "https://doi.org/10.1145/3626772.3657686",
    ]
    assert papers[0].authors[0] == "Ken Yaggel"
    CITATION.write_text("title: none")
    with pytest.raises(UserError, match=r"CITATION\.cff cannot be used.*authors"):
        cited()
