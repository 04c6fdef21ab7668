"""Tables: an experiment's comparison is one group-by; a few others are about the whole study."""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from domain_experts import layout
from domain_experts.registry import ARMS
from domain_experts.reporting.answer import answer
from domain_experts.reporting.catalog import CELLS, experiments
from domain_experts.reporting.columns import (
    COLUMNS,
    SIGNIFICANT,
    backbone_label,
    column,
    gain_cells,
    labelled,
    marked,
    over_label,
    ranked,
    with_status,
)
from domain_experts.reporting.frame import ALL_TASKS, COST, KEYS, Frames, frames, over_seeds
from domain_experts.reporting.notes import (
    ending_notes,
    seeds_text,
    split_notes,
    status_notes,
    undefined_notes,
)
from domain_experts.reporting.published import NUMBERS, published, refuse_unknown, verdict_text
from domain_experts.reporting.render import MISSING, Table, number, write_table
from domain_experts.reporting.statistics import INTERVAL, summed
from domain_experts.results import ABSENT, STATUSES
from domain_experts.runs import DEFAULT_VARIANT
from domain_experts.study import Study

TAIL = ("epochs_trained", "parameters")
"""Columns that every comparison ends with, where they are known."""


def write_tables(study: Study, names: Iterable[str]) -> None:
    """Write results/<tier>/tables/<name> of each name as CSV, Markdown, LaTeX and HTML.

    Raises:
        UserError: the results are missing or cannot be used.
    """
    refuse_unknown(study)
    of = frames(study)
    for name in names:
        write_table(layout.tables(study.tier), table(of, name))


def table(of: Frames, name: str) -> Table:
    """One of the tables that `catalog.table_names` lists."""
    if name in ABOUT:
        return ABOUT[name](of)
    if name.endswith(CELLS) and name not in of.study.expected:
        return cells(of, name.removesuffix(CELLS))
    return comparison(of, name)


def comparison(of: Frames, name: str) -> Table:
    """An experiment: its metric, differences to its references, published values beside."""
    experiment = of.study.params.experiments[name]
    metric, references = experiment.metric, experiment.references
    gains = of.gains(name, metric)
    # a reference that another experiment has run is shown, too
    others = of.runs[of.runs["run"].isin(gains["other"])]
    runs = pd.concat([others, of.of(name)]).drop_duplicates(["run", "task"])
    runs = _in_order(of, _overall(runs))
    shown = [metric, *experiment.show]
    if runs["binned_wauc"].notna().any():
        shown.append("binned_wauc")
    values = [*dict.fromkeys([*shown, *TAIL])]
    runs = runs.reindex(columns=[*dict.fromkeys([*runs.columns, *values])])
    frame = over_seeds(runs, KEYS, values)
    over_references = summed(gains[gains["task"].isin(runs["task"])])
    for over, found in over_references.groupby("over", sort=False):
        names = {part: f"{part} {over}" for part in ("status", "gain", "low", "high")}
        own = found.rename(columns=names | {"gain_sd": f"sd {over}"})
        frame = frame.merge(own[[*KEYS, *names.values(), f"sd {over}"]], "left", KEYS)
    for value in values:
        frame = frame.merge(published(value), "left", KEYS)
    apart, notes = split_notes(runs, frame)
    printed = labelled(frame, experiment.labels, apart)
    words = printed.shape[1]
    emphasis = pd.DataFrame("", frame.index, printed.columns)
    alike = ["dataset", "task", *(["backbone"] if "Variant" in printed else [])]
    for value in values:
        if value != metric and not frame[value].notna().any():
            continue
        text = column(value).cells(frame, value)
        head = column(value).head
        printed[head] = with_status(frame, text) if value == metric else marked(frame, text)
        emphasis[head] = ranked(
            frame.assign(**{value: frame[value].mask(np.array(apart))}), value, alike
        )
        if value == metric:
            for over in references:
                if f"gain {over}" in frame:
                    printed[over_label(over, metric)] = gain_cells(frame, over)
        if frame[f"published_{value}"].notna().any():
            printed[f"Published {head}"] = verdict_text(frame, value)
            notes.append(NUMBERS)
    printed["Seeds"] = [number(count, 0) for count in frame["seeds"]]
    shown_gains = [over for over in references if f"gain {over}" in frame]
    if shown_gains:
        without = sum(
            int((frame[f"gain {over}"].notna() & frame[f"low {over}"].isna()).sum())
            for over in shown_gains
        )
        unknown = f" Of {without} differences none is known." if without else ""
        notes.append(f"{SIGNIFICANT} its 95 % interval excludes 0.{unknown} {INTERVAL}.")
    return _made(of, name, experiment.question, runs, frame, printed, emphasis, words, notes)


def cells(of: Frames, name: str) -> Table:
    """An experiment on several tasks: AUC by domain (D1, D2, ...) and task (T1, T2, ...)."""
    experiment = of.study.params.experiments[name]
    runs = of.of(name)
    by_domain = of.domains[of.domains["run"].isin(runs["run"])]
    tasks = {d: list(data["tasks"]) for d, data in of.results.data.items()}
    several = [dataset for dataset in tasks if len(tasks[dataset]) > 1]
    by_domain = by_domain[by_domain["dataset"].isin(several)]
    pairs = zip(by_domain["dataset"], by_domain["task"], by_domain["number"], strict=True)
    by_domain = by_domain.assign(
        cell=[f"D{number} T{tasks[dataset].index(task) + 1}" for dataset, task, number in pairs]
    )
    names = list(dict.fromkeys(by_domain.sort_values(["number", "task"])["cell"]))
    wide = by_domain.pivot(index="run", columns="cell", values="auc").reindex(columns=names)
    runs = _overall(runs).merge(wide.reset_index(), "left", "run")
    # of data that are not there the tasks are unknown
    single = [dataset for dataset in tasks if dataset not in several]
    runs = runs[~runs["dataset"].isin(single)]
    frame = over_seeds(runs, KEYS, names)
    beside = published("auc", by_cell=True)
    beside = beside.assign(
        cell=[
            f"D{d} T{tasks[dataset].index(t) + 1}" if t in tasks.get(dataset, []) else ""
            for dataset, d, t in zip(
                beside["dataset"], beside["domain"], beside["task"], strict=True
            )
        ]
    )
    own = [key for key in KEYS if key != "task"]
    beside = beside[beside["cell"] != ""].pivot(index=own, columns="cell", values="published_auc")
    frame = frame.merge(beside.add_prefix("published ").reset_index(), "left", own)
    printed = labelled(frame.assign(task=""), experiment.labels)
    words = printed.shape[1]
    emphasis = pd.DataFrame("", frame.index, printed.columns)
    for cell in names:
        text = COLUMNS["auc"].cells(frame, cell)
        if f"published {cell}" in frame:
            known = frame[f"published {cell}"]
            text = [
                t if pd.isna(p) else f"{t} ({number(p)})" for t, p in zip(text, known, strict=True)
            ]
        printed[cell] = with_status(frame, text)
        better = frame.assign(auc=frame[cell])
        emphasis[cell] = ranked(better, "auc", ["dataset"])
    notes = [
        f"{dataset}: "
        + ", ".join(f"D{i} {d}" for i, d in enumerate(of.results.data[dataset]["domains"], 1))
        + "; "
        + ", ".join(f"T{i} {t}" for i, t in enumerate(of.results.data[dataset]["tasks"], 1))
        + "."
        for dataset in dict.fromkeys(by_domain["dataset"])
    ]
    if any(
        f"published {cell}" in frame and frame[f"published {cell}"].notna().any() for cell in names
    ):
        notes.append("In brackets: the published value.")
    question = f"{experiment.question} By domain and task: test AUC."
    return _made(of, name + CELLS, question, runs, frame, printed, emphasis, words, notes)


def overview(of: Frames) -> Table:
    """The first experiment at a glance: a data set and backbone a row, an arm a column."""
    first = experiments(of.study)[0]
    metric = of.study.params.experiments[first].metric
    runs = _overall(of.of(first))
    frame = over_seeds(runs, KEYS, [metric])
    text = pd.Series(with_status(frame, column(metric).cells(frame, metric)), frame.index)
    arms = [arm for arm in ARMS if arm in set(frame["arm"])]
    floors = [arm for arm in arms if not ARMS[arm].backbone]
    rows = []
    for (dataset, backbone), own in frame.assign(text=text).groupby(
        ["dataset", "backbone"], sort=False
    ):
        found = dict(zip(own["arm"], own["text"], strict=True))
        if set(found) <= set(floors) < set(arms):
            continue
        shared = frame[(frame["dataset"] == dataset) & frame["arm"].isin(floors)]
        found |= dict(zip(shared["arm"], text[shared.index], strict=True))
        head = {"Data set": dataset, "Backbone": backbone_label(str(backbone))}
        rows.append(head | {ARMS[arm].label: found.get(arm, MISSING) for arm in arms})
    heads = ["Data set", "Backbone", *(ARMS[arm].label for arm in arms)]
    printed = pd.DataFrame(rows, columns=heads)
    emphasis = pd.DataFrame("", printed.index, printed.columns)
    question = f"Test {column(metric).head} of the experiment `{first}` by arm."
    return _made(of, "overview", question, runs, frame, printed, emphasis, 2, [])


def coverage(of: Frames) -> Table:
    """Runs of each experiment by status."""
    rows = []
    for name in experiments(of.study):
        counts = Counter(of.of(name).drop_duplicates("run")["status"])
        rows.append({"experiment": name} | {status: counts[status] for status in STATUSES})
    total = Counter(of.runs.drop_duplicates("run")["status"])
    rows.append({"experiment": "all, each run once"} | {s: total[s] for s in STATUSES})
    frame = pd.DataFrame(rows)
    heads = {"experiment": "Experiment"} | {s: s.capitalize() for s in STATUSES}
    printed = _plain(frame.rename(columns=heads))
    caption = "Runs of each experiment by status."
    return _table(of, "coverage", caption, frame, printed, 1)


def datasets(of: Frames) -> Table:
    """Each data set on the split that most of its runs use."""
    data = of.data[of.data["split_seed"] == of.data["dataset"].map(of.usual_split)]
    groups = data.groupby(["dataset", "split_seed"], sort=False)
    frame = groups[["train", "validation", "test"]].sum()
    frame.insert(0, "domains", groups.size())
    frame["smallest"], frame["largest"] = groups["rows"].min(), groups["rows"].max()
    positives = data["positive_rate"] * data["rows"]
    frame["positive_rate"] = (
        positives.groupby([data["dataset"], data["split_seed"]]).sum() / groups["rows"].sum()
    )
    frame = frame.reset_index()
    printed = pd.DataFrame(
        {"Data set": frame["dataset"], "Split seed": frame["split_seed"].map(str)}
    )
    for name in frame.columns[2:]:
        spec = column(name)
        printed[spec.head] = [number(value, spec.digits) for value in frame[name]]
    missing = [name for name in of.study.all_datasets if name not in set(frame["dataset"])]
    notes = [f"Not there: {', '.join(missing)}."] if missing else []
    caption = (
        "Data sets on the split that most runs use: rows, domains, and the share of positive "
        "labels (of several tasks the mean)."
    )
    return _table(of, "datasets", caption, frame, printed, 1, notes)


def domains(of: Frames) -> Table:
    """Each domain: users, items, rows, positive rate, and what is published of them."""
    data = of.data
    frame = data[data["split_seed"] == data["dataset"].map(of.usual_split)].reset_index(drop=True)
    names = ["users", "items", "rows", "positive_rate"]
    printed = pd.DataFrame({"Data set": frame["dataset"], "Domain": frame["domain"]})
    for name in names:
        spec = column(name)
        printed[spec.head] = [number(value, spec.digits) for value in frame[name]]
        if name == "positive_rate":
            continue
        beside = published(name, by_cell=True)[["dataset", "domain", f"published_{name}"]]
        numbered = frame.assign(domain=frame["number"].map(str))
        known = numbered.merge(beside, "left", ["dataset", "domain"])[f"published_{name}"]
        frame[f"published_{name}"] = known
        if known.notna().any():
            printed[f"Published {spec.head.lower()}"] = [number(value, 0) for value in known]
    return _table(of, "domains", "Domains of each data set: users, items, rows.", frame, printed, 2)


def cost(of: Frames) -> Table:
    """What training cost, by data set, backbone and arm."""
    runs = of.runs.drop_duplicates("run")
    runs = runs[(runs["variant"] == DEFAULT_VARIANT) & runs["wall_s"].notna()].assign(task="")
    frame = over_seeds(runs, KEYS, [*COST, "parameters"])
    printed = labelled(frame, {})
    words = printed.shape[1]
    for name in (*COST, "parameters"):
        text = column(name).cells(frame, name)
        printed[column(name).head] = marked(frame, text)
    printed["Runs"] = [number(count, 0) for count in frame["seeds"]]
    notes = [f"Measured on: {machine}." for machine in sorted(set(runs["machine"]))]
    notes.append("Memory is the process's maximum so far; one process makes a job's runs in turn.")
    caption = (
        "Cost of training of runs with default settings. An arm counts its own training alone, not "
        "what it starts from."
    )
    return _table(of, "cost", caption, frame, printed, words, [*notes, *status_notes(of, runs)])


ABOUT: dict[str, Callable[[Frames], Table]] = {
    "answer": answer,
    "overview": overview,
    "coverage": coverage,
    "datasets": datasets,
    "domains": domains,
    "cost": cost,
}


def _overall(runs: pd.DataFrame) -> pd.DataFrame:
    """Of data with several tasks the rows of all together."""
    several = runs.loc[runs["task"] == ALL_TASKS, "run"]
    return runs[(runs["task"] == ALL_TASKS) | ~runs["run"].isin(several)].reset_index(drop=True)


def _in_order(of: Frames, runs: pd.DataFrame) -> pd.DataFrame:
    place = {key: i for i, key in enumerate(zip(of.runs["run"], of.runs["task"], strict=True))}
    order = [place[key] for key in zip(runs["run"], runs["task"], strict=True)]
    return runs.assign(_place=order).sort_values("_place", ignore_index=True).drop(columns="_place")


def _made(
    of: Frames,
    name: str,
    question: str,
    runs: pd.DataFrame,
    frame: pd.DataFrame,
    printed: pd.DataFrame,
    emphasis: pd.DataFrame,
    words: int,
    notes: Iterable[str],
) -> Table:
    """A table of runs, with what must be said of them."""
    emphasis = emphasis.reindex(columns=printed.columns, fill_value="")
    caption = f"{question} Tier {of.study.tier}. {seeds_text(runs)}"
    absent = frame["status"].eq(ABSENT) & frame.duplicated("dataset")
    keep = ~absent.to_numpy() if len(absent) == len(printed) else slice(None)
    every = [
        *dict.fromkeys(notes),
        *status_notes(of, runs),
        *undefined_notes(of, runs),
        *ending_notes(of, runs),
    ]
    return Table(
        name,
        caption,
        frame,
        printed[keep].reset_index(drop=True),
        words,
        emphasis[keep].reset_index(drop=True),
        tuple(every),
    )


def _table(
    of: Frames,
    name: str,
    caption: str,
    frame: pd.DataFrame,
    printed: pd.DataFrame,
    words: int,
    notes: Iterable[str] = (),
) -> Table:
    """A table of something else than runs."""
    emphasis = pd.DataFrame("", printed.index, printed.columns)
    return Table(
        name, f"{caption} Tier {of.study.tier}.", frame, printed, words, emphasis, tuple(notes)
    )


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.map(lambda value: value if isinstance(value, str) else number(value, 0))
