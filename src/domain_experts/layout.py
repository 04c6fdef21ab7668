"""Where every file of the project lies; paths are relative to the project's root."""

from pathlib import Path

from domain_experts.runs import INDEX, Job, Run, Search

PARAMS = Path("params.yaml")
CLAIMS = Path("claims")
STORE = Path(".runs")


def raw(source: str) -> Path:
    """Folder of a source's raw files."""
    return Path("data/raw", source)


def raw_record(source: str) -> Path:
    """Where the raw files came from, their checksums, and how they were verified."""
    return raw(source) / "source.json"


def interactions(dataset: str) -> Path:
    """Folder of a data set's Interactions."""
    return Path("data/interactions", dataset)


def card(dataset: str) -> Path:
    """The data set's card: fields, sizes, counts, checksums."""
    return interactions(dataset) / "card.json"


def all_splits(tier: str) -> Path:
    """Folder of the splits of a tier's data sets."""
    return Path("data/splits", tier)


def splits(tier: str, dataset: str) -> Path:
    """Folder of a data set's splits."""
    return all_splits(tier) / dataset


def split_file(tier: str, dataset: str, seed: int) -> Path:
    """One uint8 per row: 0 train, 1 validation, 2 test."""
    return splits(tier, dataset) / f"seed={seed}.npy"


def split_index(tier: str, dataset: str) -> Path:
    """Counts and positive rates per seed, split, domain and task."""
    return splits(tier, dataset) / "splits.json"


def results(tier: str) -> Path:
    """Folder of a tier's metrics and tables."""
    return Path("results", tier)


def searches(tier: str) -> Path:
    """Folder of what the searches of a tier found."""
    return results(tier) / "search"


def search_file(tier: str, search: Search) -> Path:
    """The trials of a search, and the settings that it chose."""
    return results(tier) / search.path.with_name(f"{search.arm}.json")


SIMULATION = Path("results/simulation")
"""Folder of what is simulated to check the verdicts; it is of no tier."""


def simulation_files() -> list[Path]:
    """The table and figure of the simulation."""
    return [SIMULATION / f"power.{kind}" for kind in ("csv", "md", "tex", "png", "pdf", "txt")]


def tables(tier: str) -> Path:
    """Folder of a tier's tables."""
    return results(tier) / "tables"


def table_files(tier: str, name: str) -> list[Path]:
    """The forms of one table; `name` may be a wildcard."""
    return [tables(tier) / f"{name}.{kind}" for kind in ("csv", "md", "tex")]


def metrics_files(tier: str) -> list[Path]:
    """What `dvc metrics` and `dvc plots` show: a short summary, and learning curves."""
    return [results(tier) / name for name in ("metrics.json", "curves.csv")]


def report(tier: str) -> Path:
    """The report: one page that opens by itself."""
    return results(tier) / "report.html"


def figures(tier: str) -> Path:
    """Folder of a tier's figures."""
    return Path("figures", tier)


def figure_files(tier: str, name: str) -> list[Path]:
    """The forms of one figure, and its caption; `name` may be a wildcard."""
    return [figures(tier) / f"{name}.{kind}" for kind in ("png", "pdf", "txt")]


def artifacts(tier: str) -> Path:
    """Folder of a tier's weights, predictions and records."""
    return Path("artifacts", tier)


def job_index(tier: str, job: Job) -> Path:
    """The one declared product of a training job: its runs and their files' checksums."""
    return artifacts(tier) / job.path / INDEX


def run_artifacts(tier: str, run: Run) -> Path:
    """Folder of a run's weights, logits and record."""
    return artifacts(tier) / run.path


def evaluated(tier: str, dataset: str) -> Path:
    """Folder of what is measured on a data set: `results.parquet` and `records.parquet`."""
    return artifacts(tier) / "evaluated" / dataset


def results_file(tier: str) -> Path:
    """Every number of a tier (`domain_experts.results`)."""
    return results(tier) / "results.parquet"


def records_file(tier: str) -> Path:
    """What training and data say of themselves: curves, gates, provenance."""
    return results(tier) / "records.parquet"


def tally(tier: str) -> Path:
    """How many runs the workflow makes, and which share is done (`training.progress`)."""
    return Path("logs", tier, "runs.tally")
