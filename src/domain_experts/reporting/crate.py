"""RO-Crate of a tier's results: what each file is, who made it, by which workflow, of what."""

import mimetypes
from collections.abc import Iterable, Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from rocrate.model.computationalworkflow import ComputationalWorkflow
from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.files import read_json, sha256, write_json
from domain_experts.reporting.catalog import figure_names, table_names
from domain_experts.reporting.citation import Work, cited
from domain_experts.results import Results, load
from domain_experts.study import Study

FILE = Path("ro-crate-metadata.json")
"""At the root, since what it describes lies in several folders there."""
WORKFLOW = Path("workflow/Snakefile")
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
README = Path("README.md")
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
LICENCE = "https://spdx.org/licenses/"
LIBRARIES = {"torch": "https://pytorch.org", "numpy": "https://numpy.org"}


def write_crate(study: Study) -> None:
    """Write `ro-crate-metadata.json` for a tier's results; equal files give equal bytes.

    It follows RO-Crate 1.1 and the profile Workflow Run Crate 0.5.

    Raises:
        UserError: a file that it would describe is missing, or cannot be used.
    """
    write_json(FILE, described(study))


def described(study: Study) -> dict[str, Any]:
    """The content of `ro-crate-metadata.json`."""
    results, tier = load(study), study.tier
    software, papers = cited()
    crate = ROCrate(version="1.1")
    about = metadata("domain-experts")
    licence = about["License-Expression"]
    crate.name = f"{software.title}: results of tier {tier}"
    crate.description = about["Summary"]
    crate.datePublished = software.published
    crate.license = _add(
        crate, LICENCE + licence, "CreativeWork", name=licence, url=LICENCE + licence
    )
    authors = _one(_agent(crate, name, "Organization") for name in software.authors)
    crate.root_dataset["author"] = crate.root_dataset["publisher"] = authors
    crate.root_dataset["citation"] = [_paper(crate, paper) for paper in papers]
    crate.root_dataset["conformsTo"] = [
        _add(crate, url, "CreativeWork", name=name, version=url.rpartition("/")[2])
        for url, name in PROFILES.items()
    ]
    crate.metadata.extra_contexts.append(TERMS)
    files = {path: crate.add_file(path, path, properties=of) for path, of in _files(study)}
    about_all = {"encodingFormat": "text/markdown", "about": {"@id": "./"}}
    crate.add_file(_present(README), README, properties=about_all)
    workflow = _workflow(crate, licence, authors, results)
    made = crate.add_action(
        workflow,
        "#runs",
        object=[files[layout.PARAMS], *_sources(crate, results)],
        result=[files[layout.results_file(tier)], files[layout.records_file(tier)]],
        properties={
            "name": f"Runs of tier {tier}",
            "description": f"snakemake --config tier={tier}",
            "endTime": max(_finished(results)),
        },
    )
    made["agent"] = authors
    crate.root_dataset["mentions"] = made
    found: dict[str, Any] = crate.metadata.generate()
    found["@graph"].sort(key=lambda entity: (entity["@id"] != FILE.name, entity["@id"]))
    return found


def described_files() -> dict[Path, str]:
    """Files that an RO-Crate here describes, with their SHA-256; none where there is none.

    Raises:
        UserError: it is damaged.
    """
    if not FILE.is_file():
        return {}
    again = "write it again by `domain-experts crate`"
    try:
        entities = read_json(FILE, again)["@graph"]
        return {Path(one["@id"]): one["sha256"] for one in entities if "sha256" in one}
    except (KeyError, TypeError):
        raise UserError(f"{FILE} is no RO-Crate; {again}") from None


def _workflow(
    crate: ROCrate, licence: str, authors: Any, results: Results
) -> ComputationalWorkflow:
    made = crate.add_workflow(
        _present(WORKFLOW), WORKFLOW, main=True, lang="snakemake", gen_cwl=False
    )
    made["name"] = "Raw data to tables, figures and report"
    made["conformsTo"] = {"@id": BIOSCHEMAS}
    made["license"] = {"@id": LICENCE + licence}
    made["author"] = authors
    made["softwareRequirements"] = list(_libraries(crate, results))
    return made


def _libraries(crate: ROCrate, results: Results) -> Iterator[Entity]:
    """Every version of a library that some numbers were made with."""
    for name, url in LIBRARIES.items():
        known = {record["provenance"].get(name) for record in results.records.values()}
        for version in sorted(filter(None, known)):
            about = {"name": name, "softwareVersion": version, "url": url}
            yield _add(crate, f"#{name}-{version}", "SoftwareApplication", **about)


def _sources(crate: ROCrate, results: Results) -> Iterator[Entity]:
    """The raw data of the tier's data sets, each source once."""
    done = set()
    for data in results.data.values():
        source = data["provenance"]
        name = source["source"]
        if name in done:
            continue
        done.add(name)
        told = {
            "name": source.get("title") or name,
            "url": source.get("homepage"),
            "citation": source.get("citation"),
            "conditionsOfAccess": source.get("terms"),
            "description": source.get("statement"),
        }
        yield _add(crate, f"#source-{name}", "CreativeWork", **{k: v for k, v in told.items() if v})


def _files(study: Study) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What the crate describes of the tier, with what is said of it."""
    tier = study.tier
    yield layout.PARAMS, _file(layout.PARAMS, "The one configuration of all runs")
    yield (
        layout.results_file(tier),
        _file(layout.results_file(tier), "Every number: run, split, domain, task, metric, status"),
    )
    yield (
        layout.records_file(tier),
        _file(layout.records_file(tier), "Of each run: curves, gates, settings, provenance"),
    )
    yield layout.report(tier), _file(layout.report(tier), "Answer, tables and figures on a page")
    for name in table_names(study):
        text, *_ = layout.table_files(tier, name)
        yield text, _file(text, _first_line(text.with_suffix(".md")))
    for name in figure_names(study):
        _, picture, words = layout.figure_files(tier, name)
        yield picture, _file(picture, _first_line(words))


def _file(path: Path, description: str) -> dict[str, Any]:
    _present(path)
    kinds = {".parquet": "application/vnd.apache.parquet", ".yaml": "application/yaml"}
    kind = kinds.get(path.suffix) or mimetypes.types_map[path.suffix]
    about = {"name": path.name, "description": description, "encodingFormat": kind}
    return about | {"sha256": sha256(path), "contentSize": str(path.stat().st_size)}


def _present(path: Path) -> Path:
    if not path.is_file():
        raise UserError(
            f"{path} is missing, and the crate would describe it; tables, figures and report are "
            "made from the results that are there by `make report`, all other files are git's"
        )
    return path


def _first_line(path: Path) -> str:
    return _present(path).read_text(encoding="utf-8").partition("\n")[0]


def _paper(crate: ROCrate, paper: Work) -> Entity:
    authors = [_agent(crate, name, "Person") for name in paper.authors]
    about = {"name": paper.title, "datePublished": paper.published, "author": authors}
    return _add(crate, paper.url, "ScholarlyArticle", **about)


def _agent(crate: ROCrate, name: str, kind: str) -> Entity:
    return _add(crate, f"#{name.lower().replace(' ', '-')}", kind, name=name)


def _finished(results: Results) -> Iterable[str]:
    """When runs ended; that of a run of which it is not recorded is left out."""
    times = (record["provenance"].get("finished") for record in results.records.values())
    return [time for time in times if time] or [cited()[0].published]


def _one(entities: Iterable[Entity]) -> Any:
    """Entities as a property's value: one alone is no list."""
    found = list(entities)
    return found[0] if len(found) == 1 else found


def _add(crate: ROCrate, identifier: str, kind: str, **properties: Any) -> Entity:
    return crate.add(ContextEntity(crate, identifier, {"@type": kind} | properties))
