"""Table 2 of M3oE: every model on every domain and task, under both protocols."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from domain_experts.registry import BACKBONES, NO_BACKBONE
from domain_experts.reporting.collect import Results
from domain_experts.reporting.columns import KEYS, caption, labels, means, or_status
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.m3oe.cells import (
    MAIN,
    METHOD,
    OVERALL,
    PUBLISHED_KEYS,
    RELEASED,
    ROUNDING,
    by_run,
    cell_names,
    cell_notes,
    head,
    less_published,
    model_names,
    percent,
    published_cells,
    published_models,
    published_text,
    records,
    rela_impr,
    shares,
    tolerance_note,
    untrained_notes,
    with_published,
)
from domain_experts.reporting.render import MISSING, Table, counts, mean_sd, number
from domain_experts.reporting.summary import against_zero, over_seeds
from domain_experts.runs import Run

Row = dict[str, Any]
Key = tuple[str, ...]
MISPRINT = "§"
SEEN = "Test users seen in training"


def m3oe(results: Results) -> Table:
    """Data set x model: AUC by cell, overall AUC, log loss, on the same rows."""
    text = (
        "M3oE and its baselines, clean protocol: all models of a data set see the same rows and "
        "minimise the same loss and keep their best weights."
    )
    return _table(results, "m3oe", MAIN, text)


def m3oe_released(results: Results) -> Table:
    """The same under the released protocol, each model on the test rows of its group."""
    text = (
        "M3oE and its baselines, released protocol. Models of one domain (-MTL, and one model a "
        "domain and task) cut their domain's rows, all others cut all rows, so their test rows "
        "differ: the data set says which."
    )
    return _table(results, "m3oe_released", RELEASED, text)


def _table(results: Results, name: str, experiments: tuple[str, ...], text: str) -> Table:
    expected = results.expected(*experiments)
    runs = by_run(results, expected)
    auc = f"{OVERALL}_mean"
    cells = cell_names(runs)
    keys = [*dict.fromkeys([*PUBLISHED_KEYS, *KEYS])]
    frame = over_seeds(runs, keys, [OVERALL, "log_loss", *cells, "seen_users"])
    frame["parameters"] = runs.groupby(keys, sort=False)["parameters"].first().to_numpy()
    frame = less_published(with_published(frame))
    names = model_names(results)
    pairs = zip(frame["backbone"], frame["arm"], strict=True)
    frame.insert(0, "model", [names[pair] for pair in pairs])
    rows = records(frame)
    best = _best_others(rows)
    frame["rela_impr"] = [
        rela_impr(row[auc], best[row["dataset"]][auc]) if row["dataset"] in best else None
        for row in rows
    ]
    misprints = _misprints()
    whole = caption(
        results,
        runs,
        f"{text} Test AUC by domain and task, their plain mean (overall, ± standard deviation over "
        "seeds) and the mean log loss. RelaImpr: overall AUC above 0.5, relative to that of the "
        "best other model on the same test rows, of those that are finished. Published: overall "
        f"AUC and log loss of M3oE's Table 2; {MISSING} where unknown.",
    )
    notes = [
        *cell_notes(results, expected),
        *untrained_notes(results, expected),
        *_click_models(rows),
        *_sizes(expected),
        *_best_possible(results, runs),
        *_significance(runs, rows, best),
        *_gains_by_cell(rows, cells, best),
        *_published_notes(frame, misprints),
        *ending_notes(results, expected),
    ]
    return Table(name, whole, frame, _printed(frame, cells, best, misprints), tuple(notes))


def _printed(
    frame: pd.DataFrame,
    cells: list[str],
    best: dict[str, Row],
    misprints: dict[Key, float],
) -> pd.DataFrame:
    printed = labels(frame.drop(columns=["backbone", "arm"]))
    printed.insert(1, "Model", frame["model"])
    printed[SEEN] = shares(frame["seen_users_mean"])
    for cell in cells:
        printed[head(cell)] = [number(value) for value in frame[f"{cell}_mean"]]
    printed["Overall AUC"] = or_status(frame, means(frame, OVERALL))
    printed["Log loss"] = [number(value) for value in frame["log_loss_mean"]]
    references = {(row["dataset"], row["model"], row["variant"]) for row in best.values()}
    printed["RelaImpr"] = [
        "reference"
        if (row["dataset"], row["model"], row["variant"]) in references
        else percent(row["rela_impr"])
        for row in records(frame)
    ]
    printed["Published AUC"] = [
        published_text(row, MISPRINT if _key(row) in misprints else "") for row in records(frame)
    ]
    printed["Published log loss"] = [number(value) for value in frame["published_log_loss"]]
    printed["Parameters"] = counts(frame["parameters"])
    printed["Seeds"] = counts(frame["seeds"])
    return printed


def _best_others(rows: list[Row]) -> dict[str, Row]:
    """Data set to its best finished model that is not M3oE."""
    best: dict[str, Row] = {}
    for row in rows:
        auc = row[f"{OVERALL}_mean"]
        if row["backbone"] == METHOD or pd.isna(auc):
            continue
        if row["dataset"] not in best or auc > best[row["dataset"]][f"{OVERALL}_mean"]:
            best[row["dataset"]] = row
    return best


def _click_models(rows: list[Row]) -> Iterator[str]:
    """Which models have the sizes of MoE-MLoRA's study."""
    names = [
        row["model"]
        for row in rows
        if row["backbone"] != NO_BACKBONE and BACKBONES[row["backbone"]].family == "ctr"
    ]
    if names:
        yield (
            f"{', '.join(dict.fromkeys(names))}: sizes, dropout and penalty of model in "
            "params.yaml."
        )


def _sizes(runs: Iterable[Run]) -> Iterator[str]:
    """Sizes of the baselines, which the paper does not give."""
    hidden: dict[str, None] = {}
    own: dict[str, dict[str, None]] = {}
    for run in runs:
        if run.backbone in (NO_BACKBONE, METHOD) or BACKBONES[run.backbone].family == "ctr":
            continue
        settings = run.settings.multi_model.model_dump()
        hidden[_words(settings["hidden"])] = None
        parts = [key.removeprefix("multi_model.") for key in BACKBONES[run.backbone].reads]
        if parts:
            text = ", ".join(_size(settings, part) for part in parts)
            own.setdefault(BACKBONES[run.backbone].label, {})[text] = None
    if hidden:
        layers = f"layers of {' or '.join(hidden)} where nothing else is said"
        models = [f"{label} {' or '.join(texts)}" for label, texts in own.items()]
        yield (
            "Sizes of the baselines, which M3oE's paper does not give (multi_model in "
            f"params.yaml): {'; '.join([layers, *models])}."
        )


def _size(settings: Mapping[str, Any], key: str) -> str:
    """`levels 1, shared experts 1` of the settings below a dotted key, or of one of them."""
    part, _, name = key.partition(".")
    chosen = {name: settings[part][name]} if name else settings[part]
    return ", ".join(f"{n.replace('_', ' ')} {_words(value)}" for n, value in chosen.items())


def _words(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _best_possible(results: Results, runs: pd.DataFrame) -> Iterator[str]:
    """What no model can expect to exceed, on generated data."""
    splits = {(row["dataset"], row["split_seed"]) for row in records(runs)}
    found: dict[str, dict[int, list[float]]] = {}
    for entry in results.bayes:
        if (entry["dataset"], entry["split_seed"]) in splits:
            own = found.setdefault(entry["dataset"], {})
            known = [auc for auc in entry["auc"] if auc is not None]
            own.setdefault(entry["split_seed"], []).extend(known)
    for dataset, by_split in found.items():
        overall = pd.Series([fmean(auc) for auc in by_split.values()])
        yield (
            f"{dataset}: the true probabilities have an overall AUC of "
            f"{mean_sd(overall.mean(), overall.std())}."
        )


def _significance(runs: pd.DataFrame, rows: list[Row], best: dict[str, Row]) -> Iterator[str]:
    """Paired t-tests of M3oE against the best other model."""
    for row in rows:
        if row["backbone"] != METHOD or row["dataset"] not in best:
            continue
        other = best[row["dataset"]]
        difference = (_by_seed(runs, row) - _by_seed(runs, other)).dropna()
        if len(difference):
            yield (
                f"{row['dataset']}, {row['model']} less {other['model']}, the best other model, in "
                f"overall AUC: {against_zero(difference, ('better', 'worse', 'not told apart'))}."
            )


def _by_seed(runs: pd.DataFrame, row: Row) -> "pd.Series[float]":
    """Overall AUC of the runs behind a row."""
    own = runs[(runs[KEYS] == [row[key] for key in KEYS]).all(axis=1)]
    return own.set_index(["seed", "split_seed"])[OVERALL]


def _gains_by_cell(rows: list[Row], cells: list[str], best: dict[str, Row]) -> Iterator[str]:
    """RelaImpr of M3oE in each cell, against the best other model of that cell."""
    printed = _published_gains()
    for row in rows:
        if row["backbone"] != METHOD or row["dataset"] not in best:
            continue
        others = [r for r in rows if r["dataset"] == row["dataset"] and r["backbone"] != METHOD]
        parts: list[str] = []
        for cell in cells:
            known = [other for other in others if pd.notna(other[f"{cell}_mean"])]
            if not known or pd.isna(row[f"{cell}_mean"]):
                continue
            top = max(known, key=lambda other: other[f"{cell}_mean"])
            gain = percent(rela_impr(row[f"{cell}_mean"], top[f"{cell}_mean"]))
            beside = printed.get((row["source"], cell.removeprefix("auc_")))
            mark = MISPRINT if beside and beside.misprinted else ""
            of_paper = f"; published {percent(beside.printed)}{mark}" if beside else ""
            parts.append(f"{head(cell)} {gain} ({top['model']}{of_paper})")
        if parts:
            yield (
                f"{row['dataset']}, RelaImpr of {row['model']} by cell, against the best other "
                f"model of the cell: {', '.join(parts)}."
            )


@dataclass(frozen=True)
class _PrintedGain:
    """A RelaImpr of M3oE in one cell: as printed, and as the printed cells have it."""

    printed: float
    of_cells: float

    @property
    def misprinted(self) -> bool:
        # printed with two digits in percent, from cells with four
        return abs(self.printed - self.of_cells) > 0.001


def _published_gains() -> dict[tuple[str, str], _PrintedGain]:
    """Source and cell to the published RelaImpr of M3oE."""
    models = records(published_models())
    gains = published_cells("rela_impr", [*PUBLISHED_KEYS, "domain", "task"])
    found = {}
    for row in records(gains[gains["cell"] != ""]):
        cell = f"published_auc_{row['cell']}"
        own = [m for m in models if m["source"] == row["source"] and pd.notna(m[cell])]
        (ours,) = (m[cell] for m in own if m["backbone"] == METHOD)
        again = rela_impr(ours, max(m[cell] for m in own if m["backbone"] != METHOD))
        found[row["source"], row["cell"]] = _PrintedGain(row["published"], again)
    return found


def _misprints() -> dict[Key, float]:
    """Published models whose printed overall AUC is not the mean of their cells, and that mean."""
    found = {}
    for model in records(published_models()):
        cells = [model[name] for name in model if name.startswith("published_auc_")]
        mean = pd.Series(cells).mean()
        if abs(mean - model[f"published_{OVERALL}"]) > ROUNDING:
            found[_key(model)] = mean
    return found


def _key(row: Row) -> Key:
    return tuple(row[name] for name in PUBLISHED_KEYS)


def _published_notes(frame: pd.DataFrame, misprints: dict[Key, float]) -> list[str]:
    notes = tolerance_note(frame)
    shown = {_key(row): row for row in records(frame)}
    for key in misprints.keys() & shown.keys():
        row = shown[key]
        notes.append(
            f"{MISPRINT} {row['model']} on {row['source']}: the paper prints "
            f"{number(row[f'published_{OVERALL}'])}, and its own cells have the mean "
            f"{number(misprints[key])}."
        )
    notes += [
        f"{MISPRINT} RelaImpr of M3oE on {source}, {head(f'auc_{cell}')}: the paper prints "
        f"{percent(gain.printed)}, and its own cells give {percent(gain.of_cells)}."
        for (source, cell), gain in _published_gains().items()
        if gain.misprinted and source in set(frame["source"])
    ]
    return sorted(notes)
