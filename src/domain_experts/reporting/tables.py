"""Tables: an experiment's comparison is one group-by; a few others are about the whole study."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import add

import pandas as pd

from domain_experts import layout
from domain_experts.files import together
from domain_experts.registry import ARMS, NO_BACKBONE
from domain_experts.reporting.advice import TABLES as RECOMMENDED
from domain_experts.reporting.answer import answer
from domain_experts.reporting.catalog import CELLS, SEARCH, experiments
from domain_experts.reporting.columns import (
    COLUMNS,
    OTHER_SPLIT,
    SIGNIFICANT,
    STALE_MARK,
    backbone_label,
    column,
    gain_cells,
    reference_label,
    with_status,
    words,
)
from domain_experts.reporting.differences import differences_table
from domain_experts.reporting.frame import (
    ALL_TASKS,
    COST,
    KEYS,
    Frames,
    over_seeds,
    over_status,
    status_counts,
    status_text,
)
from domain_experts.reporting.notes import (
    floor_notes,
    run_notes,
    seeds_text,
    split_notes,
    status_notes,
    switch_notes,
)
from domain_experts.reporting.published import published, tolerance_notes, verdict_text
from domain_experts.reporting.relative import mean_notes, published_again, relative_notes
from domain_experts.reporting.render import MISSING, Shown, Table, number, write_table
from domain_experts.reporting.searching import search_table
from domain_experts.reporting.statistics import half_widths, interval_notes, margin_of, summed
from domain_experts.reporting.verdicts import evidence, verdicts
from domain_experts.results import ABSENT, STALE, STATUSES
from domain_experts.runs import DEFAULT_VARIANT

TAIL = ("epochs_trained", "parameters")
"""Columns that every comparison ends with, where they are known."""


def write_tables(of: Frames, names: Iterable[str]) -> None:
    """Write results/<tier>/tables/<name> of each name as CSV, Markdown and LaTeX."""
    with together():
        for name in names:
            write_table(layout.tables(of.study.tier), table(of, name))


def table(of: Frames, name: str) -> Table:
    """One of the tables that `catalog.table_names` lists."""
    if name in ABOUT:
        return ABOUT[name](of)
    if name.endswith(SEARCH) and name not in of.study.expected:
        return search_table(of, name, name.removesuffix(SEARCH))
    if name.endswith(CELLS) and name not in of.study.expected:
        return cells(of, name.removesuffix(CELLS))
    return comparison(of, name)


def comparison(of: Frames, name: str) -> Table:
    """An experiment: its metric, differences to its references, published values beside."""
    params, experiment = of.study.params, of.study.params.experiments[name]
    metric, gains = experiment.metric, of.gains(name)
    # a reference that another experiment has run is shown, too
    runs = of.runs[of.runs["run"].isin({*of.of(name)["run"], *gains["other"]})]
    binned = ["binned_wauc"] * bool(runs["binned_wauc"].notna().any())
    values = [*dict.fromkeys([metric, *experiment.show, *binned, *TAIL])]
    frame = over_seeds(runs, KEYS, values)
    for over, found in summed(gains).rename(columns={"gain_sd": "sd"}).groupby("over", sort=False):
        parts = found.set_index(KEYS)[["status", "gain", "low", "high", "sd"]]
        frame = frame.join(parts.add_suffix(f" {over}"), KEYS)
    for value in values:
        frame = frame.merge(published(value), "left", KEYS)
    known = [value for value in values if frame[f"published_{value}"].notna().any()]
    frame = frame.join(half_widths(runs, known), KEYS)
    references = [over for over in experiment.references if f"gain {over}" in frame]
    apart, notes = split_notes(runs, frame)
    named = _named(frame, experiment.labels)
    named.loc[apart & (frame["status"] != ABSENT), "Arm"] += OTHER_SPLIT
    alike = frame[["dataset", "task", *["backbone"] * ("Variant" in named)]]
    columns = []
    for value in values:
        if value != metric and frame[value].isna().all():
            continue
        spec = column(value)
        cells = spec.cells(frame, value)
        said = with_status(frame, cells) if value == metric else cells
        columns.append(Shown(spec.head, said, spec.ranks(frame[value].mask(apart), alike)))
        if value == metric:
            less = "Gain over" if spec.better == "higher" else "Less"
            heads = {over: f"{less} {reference_label(over)}" for over in references}
            columns += [Shown(head, gain_cells(frame, over)) for over, head in heads.items()]
        if frame[f"published_{value}"].notna().any():
            columns.append(
                Shown(
                    f"Published {spec.head}", verdict_text(frame, value, margin_of(params, value))
                )
            )
            notes += tolerance_notes(params.statistics.margin)
    columns.append(Shown("Seeds", [number(count, 0) for count in frame["seeds"]]))
    if references:
        lows = pd.concat(
            frame.loc[frame[f"gain {over}"].notna(), f"low {over}"] for over in references
        )
        notes += [f"{SIGNIFICANT} its 95 % interval excludes 0."] * bool(lows.notna().any())
        notes += interval_notes(lows) + floor_notes(gains)
    notes += switch_notes(of, runs)
    return _of_runs(of, name, experiment.question, runs, frame, named, columns, notes)


def cells(of: Frames, name: str) -> Table:
    """An experiment on several tasks: AUC by domain (D1, D2, ...) and task (T1, T2, ...)."""
    experiment = of.study.params.experiments[name]
    several = {d: data for d, data in of.results.data.items() if len(data["tasks"]) > 1}
    places = pd.DataFrame(
        [
            (dataset, d, task, f"D{d} T{t}")
            for dataset, data in several.items()
            for d in range(1, len(data["domains"]) + 1)
            for t, task in enumerate(data["tasks"], start=1)
        ],
        columns=["dataset", "number", "task", "cell"],
    )
    runs = of.of(name)
    # of data that are not there the tasks are unknown
    runs = runs[runs["dataset"].isin(several) | ~runs["dataset"].isin(of.results.data)]
    by_domain = of.domains[of.domains["run"].isin(runs["run"])].merge(places)
    names = [*dict.fromkeys(by_domain.sort_values(["number", "task"])["cell"])]
    wide = by_domain.pivot(index="run", columns="cell", values="auc")
    frame = over_seeds(runs.join(wide, "run"), KEYS, names)
    own = [key for key in KEYS if key != "task"]
    over = experiment.references[0]
    for metric, head, numbers in (
        ("auc", "published ", published("auc", by_cell=True)),
        ("rela_impr", "printed ", published("rela_impr", by_cell=True)),
        ("again", "again ", published_again(of.study, over)),
    ):
        beside = numbers.merge(places).pivot(
            index=own, columns="cell", values=f"published_{metric}"
        )
        frame = frame.join(beside.reindex(columns=names).add_prefix(head), own)
    spec, columns = COLUMNS["auc"], []
    for cell in names:
        known = [
            "" if pd.isna(value) else f" ({number(value)})" for value in frame[f"published {cell}"]
        ]
        text = [*map(add, spec.cells(frame, cell), known)]
        ranks = spec.ranks(frame[cell], frame[["dataset"]])
        columns.append(Shown(cell, with_status(frame, text), ranks))
    notes = [
        f"{dataset}: {_numbered('D', several[dataset]['domains'])}; "
        f"{_numbered('T', several[dataset]['tasks'])}."
        for dataset in dict.fromkeys(by_domain["dataset"])
    ]
    if frame.filter(regex="^published").notna().any(axis=None):
        notes += ["In brackets: the published value.", *mean_notes(frame, names)]
    notes += relative_notes(frame[~split_notes(runs, frame)[0]], names, over)
    question = f"{experiment.question} By domain and task: test AUC."
    named = _named(frame.assign(task=""), experiment.labels)
    return _of_runs(of, name + CELLS, question, runs, frame, named, columns, notes)


def overview(of: Frames) -> Table:
    """The first experiment at a glance: a data set and backbone a row, an arm a column."""
    first = experiments(of.study)[0]
    metric, runs = of.study.params.experiments[first].metric, of.of(first)
    frame = over_seeds(runs, KEYS, [metric])
    text = with_status(frame, column(metric).cells(frame, metric))
    apart, notes = split_notes(runs, frame)
    marks = dict.fromkeys(frame.loc[apart, "arm"], OTHER_SPLIT)
    arms = [arm for arm in ARMS if arm in set(frame["arm"])]
    floors = [arm for arm in arms if not ARMS[arm].backbone]
    keys = ["dataset", "backbone"]
    wide = frame.assign(text=text).pivot_table("text", keys, "arm", aggfunc="last", sort=False)
    wide = wide[arms]
    # what has no backbone stands beside every one
    wide[floors] = wide.groupby("dataset")[floors].transform("first")
    wide = wide.fillna(MISSING).reset_index()
    if arms != floors:
        wide = wide[wide["backbone"] != NO_BACKBONE]
    labels = wide["backbone"].map(backbone_label).replace("", MISSING)
    labels = labels.mask(wide[arms].isin([ABSENT]).any(axis=1), "all")
    named = pd.DataFrame({"Data set": wide["dataset"], "Backbone": labels})
    columns = [Shown(ARMS[arm].label + marks.get(arm, ""), list(wide[arm])) for arm in arms]
    question = f"Test {column(metric).head} of the experiment `{first}` by arm."
    return _of_runs(of, "overview", question, runs, frame, named, columns, notes)


def coverage(of: Frames) -> Table:
    """Runs of each experiment by status."""
    counts = {name: status_counts(of.of(name)["status"]) for name in experiments(of.study)}
    counts["all, each run once"] = status_counts(of.about["status"])
    frame = pd.DataFrame.from_dict(counts, "index").rename_axis("experiment").reset_index()
    columns = [Shown(s.capitalize(), [number(n, 0) for n in frame[s]]) for s in STATUSES]
    named = frame[["experiment"]].rename(columns=str.capitalize)
    caption = f"Runs of each experiment by status. Tier {of.study.tier}."
    return Table.of("coverage", caption, frame, named, columns)


def datasets(of: Frames) -> Table:
    """Each data set on the split that most of its runs use."""
    data = of.data.assign(positives=of.data["positive_rate"] * of.data["rows"])
    groups = data.groupby(["dataset", "split_seed"], sort=False)
    frame = groups[["train", "validation", "test"]].sum()
    frame.insert(0, "domains", groups.size())
    frame["smallest"], frame["largest"] = groups["rows"].min(), groups["rows"].max()
    frame["positive_rate"] = groups["positives"].sum() / groups["rows"].sum()
    names = [*map(str, frame)]
    frame["status"] = groups["status"].agg(over_status)
    columns = [column(name).shown(frame, name) for name in names]
    frame = frame.reset_index()
    seeds = Shown("Split seed", list(frame["split_seed"].map(str)))
    missing = [name for name in of.study.all_datasets if name not in set(frame["dataset"])]
    notes = [*_stale_facts(frame), *[f"Not there: {', '.join(missing)}."] * bool(missing)]
    caption = (
        "Data sets on the split that most runs use: rows, domains, and the share of positive "
        f"labels (of several tasks the mean). Tier {of.study.tier}."
    )
    named = frame[["dataset"]].set_axis(["Data set"], axis=1)
    return Table.of("datasets", caption, frame, named, [seeds, *columns], notes)


def domains(of: Frames) -> Table:
    """Each domain: users, items, rows, positive rates, and what is published of them."""
    frame, columns = of.data, []
    for name in ("users", "items", "rows"):
        columns.append(column(name).shown(frame, name))
        beside = published(name, by_cell=True)[["dataset", "number", f"published_{name}"]]
        frame = frame.merge(beside, "left", ["dataset", "number"])
        if (known := frame[f"published_{name}"]).notna().any():
            columns.append(
                Shown(f"Published {column(name).head.lower()}", [number(n, 0) for n in known])
            )
    columns += [column(name).shown(frame, name) for name in ("seen_users", "positive_rate")]
    tasks = {dataset: of.results.data[dataset]["tasks"] for dataset in frame["dataset"]}
    several = {dataset: own for dataset, own in tasks.items() if len(own) > 1}
    for task in range(1, max(map(len, several.values()), default=0) + 1):
        cells = column("positive_rate").cells(frame, f"positive_rate T{task}")
        columns.append(Shown(f"Positive rate, T{task}", cells))
    named = frame[["dataset", "domain"]].set_axis(["Data set", "Domain"], axis=1)
    caption = (
        "Domains of each data set: users, items, rows, test users who have training rows, and the "
        f"share of positive labels (of several tasks the mean). Tier {of.study.tier}."
    )
    alike = pd.Series(
        {dataset: _numbered("T", own) for dataset, own in several.items()}, dtype="str"
    )
    notes = [f"{', '.join(own.index)}: {said}." for said, own in alike.groupby(alike, sort=False)]
    return Table.of("domains", caption, frame, named, columns, [*notes, *_stale_facts(frame)])


def _stale_facts(frame: pd.DataFrame) -> list[str]:
    """A note on facts of data that have changed since, or whose origin is not recorded."""
    stale = f"{STALE_MARK} counted on other data than today's, or it is not recorded on which."
    return [stale] * bool((frame["status"] == STALE).any())


def cost(of: Frames) -> Table:
    """What training cost, by data set, backbone and arm."""
    runs = of.runs[(of.runs["variant"] == DEFAULT_VARIANT) & of.runs["wall_s"].notna()]
    values = [*COST, "parameters"]
    frame = over_seeds(runs.assign(task=""), KEYS, values)
    columns = [column(name).shown(frame, name) for name in values]
    columns.append(Shown("Runs", [number(count, 0) for count in frame["seeds"]]))
    notes = [
        *(f"Measured on: {machine}." for machine in sorted(set(runs["machine"]))),
        "Memory is the process's maximum so far; one process makes a job's runs in turn.",
        *status_notes(of, runs),
    ]
    caption = (
        "Cost of training of runs with default settings. An arm counts its own training alone, not "
        f"what it starts from. Tier {of.study.tier}."
    )
    return Table.of("cost", caption, frame, _named(frame, {}), columns, notes)


def matrix(of: Frames) -> Table:
    """Status of the runs of each data set and arm: how many of them have it."""
    counts = of.about.groupby(["dataset", "arm"], sort=False)["status"].agg(status_text)
    arms = {arm: spec.label for arm, spec in ARMS.items() if arm in set(of.about["arm"])}
    wide = counts.unstack().reindex(of.about["dataset"].unique(), columns=[*arms]).fillna(MISSING)
    named = wide.rename(columns=arms).rename_axis("Data set").reset_index()
    caption = "Runs of each data set and arm by status; a dash where no experiment asks for any."
    return Table.of("matrix", caption, named, named)


_MAKERS = (verdicts, evidence, answer, overview, coverage, datasets, domains, cost)
ABOUT = {make.__name__: make for make in _MAKERS} | {"differences": differences_table} | RECOMMENDED


def _named(frame: pd.DataFrame, variants: Mapping[str, str]) -> pd.DataFrame:
    """The key columns as printed: task, backbone and variant only where there are several."""
    own, printed = words(frame, variants), pd.DataFrame({"Data set": frame["dataset"]})
    if len({*frame["task"]} - {"", ALL_TASKS}) > 1:
        printed["Task"] = frame["task"].replace("", MISSING)
    if own["backbone"].any():
        printed["Backbone"] = own["backbone"].replace("", MISSING)
    printed["Arm"] = own["arm"]
    if {*frame["variant"]} - {DEFAULT_VARIANT}:
        printed["Variant"] = own["variant"]
    printed.loc[frame["status"] == ABSENT, list(printed)[1:]] = "all"
    return printed


def _numbered(letter: str, names: Iterable[str]) -> str:
    return ", ".join(f"{letter}{i} {name}" for i, name in enumerate(names, 1))


def _of_runs(
    of: Frames,
    name: str,
    question: str,
    runs: pd.DataFrame,
    frame: pd.DataFrame,
    named: pd.DataFrame,
    columns: Sequence[Shown],
    notes: Iterable[str] = (),
) -> Table:
    """A table of runs over seeds, with what must be said of them."""
    seeds = seeds_text(runs, "± is the standard deviation over them")
    caption = f"{question} Tier {of.study.tier}. {seeds}"
    every = [*dict.fromkeys(notes), *run_notes(of, runs)]
    made = Table.of(name, caption, frame, named, columns, every)
    # one row says it of all runs on data that are not there
    shown = ~(made.printed.isin([ABSENT]).any(axis=1) & made.printed.duplicated("Data set"))
    printed, emphasis = made.printed[shown], made.emphasis[shown]
    return replace(
        made, printed=printed.reset_index(drop=True), emphasis=emphasis.reset_index(drop=True)
    )
