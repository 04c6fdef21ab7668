"""A number's road back: from a cell of a table to runs, settings, code, data and raw files."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from rich.console import Console

from domain_experts import layout
from domain_experts.digest import code_digest, source_files
from domain_experts.errors import UserError
from domain_experts.evaluation.registry import SHOWN
from domain_experts.reporting.columns import column
from domain_experts.reporting.frame import Frames, frames
from domain_experts.reporting.render import Shown, Table, mean_sd, number, terminal
from domain_experts.results import UNRECORDED
from domain_experts.runs import DEFAULT_VARIANT, Run, variant_name
from domain_experts.study import Study
from domain_experts.suggest import unknown

GAIN = "gain over "
"""Begins a metric that is a difference: `gain over base`."""
SHORT = 12
"""Digits of a digest that are printed; raw files have all."""
OF_RUN = ("machine", "device", "threads", "torch", "numpy", "python", "sessions", "peak_memory_mb")
"""Of a run's provenance, printed as it is."""


def print_explained(study: Study, cell: str) -> None:
    """Print where a cell's number comes from.

    Args:
        study: what the cell is of.
        cell: `experiment/data set/backbone/arm`, with `/variant` if it is not the default, or a
            run's path; then, if it is not the experiment's own metric, `:metric` or
            `:gain over reference`.

    Raises:
        UserError: there is no such cell, metric or reference; the results cannot be used.
    """
    console = Console(highlight=False)
    for part in explained(frames(study), cell):
        if isinstance(part, Table):
            console.print(terminal(part))
        else:
            console.print(part, soft_wrap=True, markup=False)


def explained(of: Frames, cell: str) -> Iterator[Table | str]:
    """The parts of what is printed; see `print_explained`."""
    name, _, metric = cell.partition(":")
    experiment, runs = _find(of.study, name)
    sides = {"": runs}
    if metric.startswith(GAIN):
        over = metric.removeprefix(GAIN)
        values, others = _gains(of, experiment, runs, over)
        yield from values
        sides |= {f" of the reference, {over}": others}
    else:
        yield from _values(of, experiment, runs, metric)
    for side, own in sides.items():
        yield from _road(of, own, side)
    targets = dict.fromkeys(
        layout.job_index(of.study.tier, run.job).as_posix() for own in sides.values() for run in own
    )
    yield f"Make it again: snakemake --config tier={of.study.tier} -- {' '.join(targets)}"


def _find(study: Study, name: str) -> tuple[str, list[Run]]:
    """The experiment of a cell, and its runs, which differ by seed alone."""
    cells: dict[str, tuple[str, list[Run]]] = {}
    for experiment, runs in study.expected.items():
        for run in runs:
            short = f"{experiment}/{run.dataset}/{run.backbone}/{run.arm}"
            cells.setdefault(f"{short}/{variant_name(run.variant)}", (experiment, []))[1].append(
                run
            )
    default = f"/{DEFAULT_VARIANT}"
    cells |= {n.removesuffix(default): cell for n, cell in cells.items() if n.endswith(default)}
    cells |= {run.path.as_posix(): ("", [run]) for run in study.expected_runs}
    if name not in cells:
        forms = "a cell is EXPERIMENT/DATA SET/BACKBONE/ARM[/VARIANT] or the path of a run"
        raise UserError(unknown(f"cell of tier {study.tier}", name, cells, forms))
    return cells[name]


def _values(of: Frames, experiment: str, runs: list[Run], metric: str) -> tuple[str, Table]:
    """A cell's number by seed."""
    named = metric or (of.study.params.experiments[experiment].metric if experiment else "wauc")
    if named not in SHOWN:
        raise UserError(unknown("metric", named, [*SHOWN, GAIN + "base"]))
    paths = [run.path.as_posix() for run in runs]
    frame = of.runs.set_index("run").reindex(columns=[named, *_COLUMNS]).loc[paths].reset_index()
    return _by_seed(frame, column(named).head, {column(named).head: frame[named]})


def _gains(
    of: Frames, experiment: str, runs: list[Run], over: str
) -> tuple[tuple[str, Table], list[Run]]:
    """A cell's difference to a reference by seed, and the reference's runs."""
    spec = of.study.params.experiments.get(experiment)
    if spec is None or over not in spec.references:
        known = ", ".join(spec.references) if spec else "none: name a cell of an experiment"
        raise UserError(f"'{over}' is no reference of this cell; its references are {known}")
    paths = [run.path.as_posix() for run in runs]
    gains = of.gains(experiment)
    frame = gains[gains["run"].isin(paths) & (gains["over"] == over)]
    if frame.empty:
        raise UserError(
            f"{paths[0]} is not compared with {over}: it is the reference, or its rows differ"
        )
    head = column(spec.metric).head
    shown = {
        "Gain": frame["gain"],
        head: frame[spec.metric],
        f"{head} of {over}": frame[f"other_{spec.metric}"],
        "DeLong's error": frame["se"],
    }
    others = [of.results.expected[path] for path in dict.fromkeys(frame["other"])]
    return _by_seed(frame, f"Gain in {head} over {over}", shown), others


_COLUMNS = ["seed", "status"]


def _by_seed(
    frame: pd.DataFrame, what: str, shown: Mapping[str, "pd.Series[float]"]
) -> tuple[str, Table]:
    """The mean of the first of what is shown, in words, and all of it by seed."""
    values = next(iter(shown.values()))
    mean = f"{what} on test rows: {mean_sd(values.mean(), values.std(), 6)} over seeds"
    columns = [Shown(head, [number(value, 6) for value in own]) for head, own in shown.items()]
    words = frame[_COLUMNS].astype(str).rename(columns=str.capitalize)
    return mean, Table.of("values", "", frame, words, columns)


def _road(of: Frames, runs: list[Run], side: str) -> Iterator[Table | str]:
    """What the runs with numbers were made of: facts, settings, raw files."""
    made = {run: of.results.records.get(run.path.as_posix()) for run in runs}
    known = {run: record for run, record in made.items() if record}
    for run in runs:
        if run not in known:
            yield f"{run.path}: {of.results.status[run.path.as_posix()]}, nothing is recorded"
    if known:
        facts = {run.seed: _facts(of, run, record) for run, record in known.items()}
        yield _told(f"Runs{side}", "Fact", facts)
        yield _told(
            f"Settings that matter{side}",
            "Setting",
            {run.seed: _settings(run, record["settings"] or {}) for run, record in known.items()},
        )
        yield _told(
            f"Raw data{side}",
            "File or fact",
            {run.seed: _raw(of, run, record["provenance"]) for run, record in known.items()},
        )


def _told(caption: str, head: str, by_seed: Mapping[int, Mapping[str, str]]) -> Table:
    """Facts of several seeds, a row each: once where all seeds have it alike."""
    rows = []
    for name in dict.fromkeys(name for facts in by_seed.values() for name in facts):
        seeds: dict[str, list[int]] = {}
        for seed, facts in by_seed.items():
            seeds.setdefault(facts.get(name, "–"), []).append(seed)
        told = [
            value if len(seeds) == 1 else f"{', '.join(map(str, own))}: {value}"
            for value, own in seeds.items()
        ]
        rows.append((name, "\n".join(told)))
    frame = pd.DataFrame(rows, columns=[head, "Value"])
    return Table(head, caption, frame, frame, 2)


def _facts(of: Frames, run: Run, record: Mapping[str, Any]) -> dict[str, str]:
    made, path = record["provenance"], run.path.as_posix()
    differs = of.results.outdated.get(path, ())
    code, today = made.get("code"), code_digest(run.job.modules)
    by = "as today's" if code == today else f"today's is {today[:SHORT]}"
    return {
        "path": path.removesuffix(f"/seed={run.seed}"),
        "status": of.results.status[path]
        + (f", differs in {', '.join(differs)}" if differs else ""),
        "key": _short(made.get("key")),
        "starts from": _list(f"{arm} {_short(key)}" for arm, key in _items(made.get("upstream"))),
        "code": f"{_short(code)}, {by}",
        "code files": _list(file.as_posix() for file in source_files(run.job.modules)),
        "data": _short(made.get("data")),
        "split": f"seed {run.split_seed}, {_short(made.get('split'))}",
        "finished": _known(made.get("finished")),
        "seconds": number(made["wall_s"], 1),
        **{name.replace("_", " "): _known(made.get(name)) for name in OF_RUN},
    }


def _settings(run: Run, recorded: Mapping[str, Any]) -> dict[str, str]:
    """Each setting as recorded, and today's where it is another."""
    before, today = dict(_flat(recorded)), dict(_flat(run.payload()))
    told = {}
    for name in before | today:
        if name != "seed":
            was, now = str(before.get(name, UNRECORDED)), str(today.get(name, "no setting"))
            told[name] = was if was == now else f"{was}; today {now}"
    return told


def _raw(of: Frames, run: Run, made: Mapping[str, Any]) -> dict[str, str]:
    """Source and checksums of the raw files, as the run's data had them."""
    source = made.get("provenance") or of.results.data.get(run.dataset, {}).get("provenance", {})
    words = ("source", "statement", "url", "archive", "archive_checksum", "citation", "terms")
    told = {name.replace("_", " "): str(source[name]) for name in words if source.get(name)}
    told |= {f"generated by {name}": str(value) for name, value in _items(source.get("settings"))}
    return told | {f"sha256 of {name}": value for name, value in _items(source.get("files"))}


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _items(found: Mapping[str, Any] | None) -> Iterable[tuple[str, Any]]:
    return (found or {}).items()


def _list(words: Iterable[str]) -> str:
    return ", ".join(words) or "nothing"


def _known(value: Any) -> str:
    return UNRECORDED if value is None else str(value)


def _short(digest: str | None) -> str:
    return digest[:SHORT] if digest else UNRECORDED
