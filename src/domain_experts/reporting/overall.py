"""Figures about the study as a whole: every comparison, published numbers, what there is."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize

from domain_experts.registry import ARMS
from domain_experts.reporting import published as printed
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.columns import column, reference_label, words
from domain_experts.reporting.frame import Frames, made, over_seeds, over_status
from domain_experts.reporting.kinds import forest, heat_map
from domain_experts.reporting.pages import listing, parity, ranking, shares
from domain_experts.reporting.ranks import FEWEST, FEWEST_DATASETS
from domain_experts.reporting.ranks import ranks as ranked
from domain_experts.reporting.spec import (
    RUNS,
    Spec,
    band_notes,
    banded,
    head,
    joined,
)
from domain_experts.reporting.statistics import SAMPLING, half_widths, interval_notes, summed
from domain_experts.results import ABSENT, CURRENT, NOT_RUN, STALE
from domain_experts.runs import DEFAULT_VARIANT

MOST_DATASETS = 5
"""Data sets of an experiment that go before another one's differences."""
MANY_DOMAINS = 40
"""Rows of a forest beyond which domains go into a heat map."""
LOOKS = {
    CURRENT: {"facecolor": "#0173b2", "edgecolor": "#0173b2"},
    STALE: {"facecolor": "#f0b860", "edgecolor": "#de8f05"},
    NOT_RUN: {"facecolor": "0.92", "edgecolor": "0.75"},
    ABSENT: {"facecolor": "w", "edgecolor": "0.6", "hatch": "////////"},
}
"""Of a share of runs by status: dark, middle, light and hatched, in print without colours, too."""


def comparisons(of: Frames) -> Spec:
    """Every difference to a reference, those of the first experiment and of defaults first."""
    parts = []
    for i, name in enumerate(experiments(of.study)):
        spec = of.study.params.experiments[name]
        frame = _one_way(of.gains(name), spec.references)
        frame = summed(frame, RUNS).assign(metric=spec.metric)
        said = words(frame, {**spec.labels, DEFAULT_VARIANT: ""})
        model = joined(said["arm"], said["variant"])
        crowded = isinstance(spec.arms, dict)  # each arm has backbones of its own
        changed = frame["variant"] != DEFAULT_VARIANT
        over = frame["over"].map(spec.references.index)
        nth = pd.Series(pd.factorize(frame["dataset"])[0], frame.index)
        parts.append(
            frame.assign(
                y=joined(said["arm"], joined(said["backbone"], said["variant"]))
                if crowded
                else model,
                hue="" if crowded else said["backbone"],
                block=frame["dataset"],
                group=[_heading(name, spec.metric, str(over)) for over in frame["over"]],
                changed=changed,
                later=((over > 0) | (nth >= MOST_DATASETS)) & (i > 0),
                experiment=i,
                over_place=over,
                arm_place=frame["arm"].map([*ARMS].index),
            )
        )
    frame = pd.concat(parts, ignore_index=True)
    places = {name: i for i, name in enumerate(of.study.all_datasets)}
    frame = frame.assign(place=frame["dataset"].map(places), x=frame["gain"])
    frame = frame.sort_values(
        ["changed", "later", "experiment", "over_place", "place", "arm_place", "y"], kind="stable"
    )
    data = banded(of, frame.reset_index(drop=True))
    label = "Difference in the test metric of the heading"
    says = " ".join(
        [
            "A difference a line, by experiment, metric and reference, and by data set; arms and "
            "settings where they begin, their backbones by colour and marker. References "
            "themselves: the later to the earlier alone.",
            *interval_notes(data["low"]),
            *band_notes(data),
        ]
    )
    question = "How far is every arm from what it is compared with?"
    return Spec(data, partial(listing, label=label), of.about, question, says)


def _one_way(gains: pd.DataFrame, references: tuple[str, ...]) -> pd.DataFrame:
    """Without differences of a reference to one that is declared after it."""
    places = {over: i for i, over in enumerate(references)}
    default = gains["variant"] == DEFAULT_VARIANT
    own = [
        min(places.get(arm, len(places)), places.get(f"{arm}/{backbone}", len(places)))
        for arm, backbone in zip(gains["arm"], gains["backbone"], strict=True)
    ]
    return gains[~default | (gains["over"].map(places) <= own)]


def _heading(experiment: str, metric: str, over: str) -> str:
    worse = ", above 0: worse" * (column(metric).better == "lower")
    return f"{experiment}: {head(metric)}, to {reference_label(over)}{worse}"


def published(of: Frames) -> Spec:
    """Every published number against that of the runs that it can be held against."""
    keys, columns = [*RUNS, "task"], ["x", "y", "low", "high", "panel", "hue", "source", "status"]
    parts = [pd.DataFrame(columns=[*RUNS, *columns])]
    for metric, panel in (
        ("wauc", "AUC over domains"),
        ("macro_auc", "AUC over domains"),
        ("auc", "AUC by domain and task"),
        ("macro_log_loss", "Log loss"),
    ):
        cells = metric == "auc"
        runs, own = (of.domains, [*keys, "number"]) if cells else (of.runs, keys)
        known = printed.published(metric, by_cell=cells, source=True)
        if known.empty:
            continue
        found = over_seeds(runs.merge(known[own]), own, [metric]).merge(known, on=own)
        found = found.join(half_widths(runs, [metric], own), own)
        parts.append(
            found.assign(
                panel=panel,
                hue=joined(
                    found["source"].str.split(" (", regex=False).str[0],
                    found[f"published_{metric}_rows"].map(printed.TEST_ROWS),
                ),
                x=found[f"published_{metric}"],
                y=found[metric],
                low=found[metric] - found[f"{metric}_half"],
                high=found[metric] + found[f"{metric}_half"],
            ).dropna(subset="y")
        )
    data = pd.concat(parts[1:] or parts, ignore_index=True)
    says = (
        f"Published in: {'; '.join(dict.fromkeys(data['source']))}; in the figure: "
        f"{'; '.join(dict.fromkeys(data['hue']))}. "
        "AUC over domains: WAUC, or the mean over domains and tasks; log loss: its mean. Bars: "
        "95 % intervals of the reproduced mean, where one is known; on the line it is the "
        f"published value. {printed.meanings(of.study.params.statistics.margin)} One seed has no "
        "verdict. Axes differ from panel to panel."
    )
    kind = partial(parity, label="Published", y_label="Reproduced")
    runs = of.runs[of.runs["dataset"].isin(data["dataset"])]
    question = "Are the published numbers met?"
    return Spec(data, kind, runs, question, says, "No run that has a published number has one.")


def ranks(of: Frames) -> Spec:
    """Mean ranks of each experiment's arms, where there are seeds enough."""
    rows, parts, says = [], [of.about.iloc[:0]], []
    smaller = larger = False
    for name in experiments(of.study):
        found = ranked(of, name)
        if found is None:
            continue
        runs = of.of(name)
        runs = runs[runs["arm"].isin(found.means.index) & (runs["variant"] == DEFAULT_VARIANT)]
        parts.append(runs)
        status = over_status(made(runs)["status"])
        rows += [
            {
                "panel": f"{name}: {head(of.study.params.experiments[name].metric)}",
                "y": ARMS[arm].label,
                "x": rank,
                "critical": found.critical,
                "cliques": tuple(i for i, own in enumerate(found.cliques) if arm in own),
                "status": status,
            }
            for arm, rank in zip(found.means.index, found.means, strict=True)
        ]
        says.append(
            f"{name}: {found.blocks} {'data sets' if found.by_dataset else 'blocks'}, "
            f"{found.seeds} seeds, Friedman's p {found.p:.2g}."
        )
        smaller |= not found.by_dataset
        larger |= found.by_dataset
    text = (
        "Mean rank over blocks, 1 the best. A bar at the right joins arms whose mean ranks differ "
        "by less than Nemenyi's critical difference at 5 %. "
    )
    if larger:
        text += (
            "Data sets are blocks, each with means over backbones and seeds; the test takes them "
            "as independent, and those cut from one source share rows. "
        )
    if smaller:
        text += (
            f"Of fewer than {FEWEST_DATASETS} data sets, blocks are data set x backbone x seed: "
            "the test takes them as independent, and they are not, as they share users and test "
            "rows, so that p and the critical difference are too small. "
        )
    missing = f"No experiment has three arms with numbers of the same {FEWEST} seeds."
    kind = partial(ranking, label="Mean rank")
    question = "Which arms rank first over all data sets?"
    runs = pd.concat(parts).drop_duplicates("run")
    return Spec(pd.DataFrame(rows), kind, runs, question, text + " ".join(says), missing)


def coverage(of: Frames) -> Spec:
    """Share of each experiment's runs by status, by data set."""
    parts = {name: of.of(name) for name in experiments(of.study)} | {"all runs": of.about}
    frames = [frame[["dataset", "status"]].assign(x=name) for name, frame in parts.items()]
    counts = pd.concat(frames).groupby(["dataset", "x"], sort=False)["status"]
    share = counts.value_counts(normalize=True).rename("value").reset_index()
    names = of.study.all_datasets
    share = share.sort_values("dataset", key=lambda d: d.map(names.index), kind="stable")
    data = share.rename(columns={"dataset": "y", "status": "hue"}).assign(status=CURRENT)
    says = (
        "Each cell is divided by the status of the runs that an experiment asks for on a data set; "
        "none where it asks for none."
    )
    kind = partial(shares, heads=[*parts], looks=LOOKS)
    question = "Which runs of the study are made, and which of them by today's code?"
    return Spec(data, kind, of.about, question, says, "No experiment has runs.")


def gain_by_domain(of: Frames) -> Spec:
    """Differences of the first experiment to its first reference, domain by domain."""
    name = experiments(of.study)[0]
    spec = of.study.params.experiments[name]
    pairs = of.gains(name).drop(columns=["gain", "se", "user_se", "task"])
    pairs = pairs[pairs["over"] == spec.references[0]]
    numbers = of.results.numbers.rename(columns={"against": "other"})
    keys = ["run", "other", "domain", "task"]
    wide = numbers.pivot_table("value", keys, "metric").reset_index()
    kinds = {"": "gain", "_se": "se", "_user_se": "user_se"}
    wide = wide.rename(columns={f"auc_difference{end}": own for end, own in kinds.items()})
    own = pairs.merge(wide.reindex(columns=[*keys, *kinds.values()]), on=["run", "other"])
    own = own.merge(of.domains[["run", "domain", "task", "number"]], on=["run", "domain", "task"])
    frame = summed(own, [*RUNS, "task", "domain", "number"])
    said = words(frame, spec.labels)
    alone = frame.groupby("dataset")["task"].transform("nunique") == 1
    task = frame["task"].mask(alone, "")
    domain = joined(frame["domain"], task)
    label = f"Difference in test AUC to {reference_label(spec.references[0])}"
    question = f"{spec.question} Domain by domain."
    panel = joined(frame["dataset"], said["backbone"])
    if len(set(zip(panel, domain, strict=True))) <= MANY_DOMAINS:
        frame = frame.assign(
            panel=panel, hue=said["arm"], x=frame["gain"], y=domain, place=frame["number"]
        )
        data = banded(of, frame.assign(metric="auc"))
        kind = partial(forest, label=label)
        bars = [f"Intervals of 95 %, from {SAMPLING}."] * bool(data["low"].notna().any())
        says = " ".join([f"{label}.", *bars, *band_notes(data)])
        return Spec(data, kind, of.of(name), question, says)
    excluded = (frame["low"] > 0) | (frame["high"] < 0)
    margin = of.study.params.statistics.margin
    data = frame.assign(
        panel=joined(frame["dataset"], task),
        x=frame["number"].astype(str),
        y=joined(said["arm"], said["backbone"]),
        value=frame["gain"],
        marked=excluded & (frame["gain"].abs() > margin),
    )
    # panels and rows as they appear
    codes = {name: pd.factorize(data[name])[0] for name in ("panel", "y")}
    data = data.iloc[np.lexsort([data["number"].to_numpy(), codes["y"], codes["panel"]])]
    # a domain of a dozen rows would take all colours
    reach = max(margin, float(frame["gain"].abs().quantile(0.95)))
    axes = "Number of the domain", ""
    norm = Normalize(-reach, reach)
    kind = partial(heat_map, label=label, norm=norm, colors="RdBu", axes=axes, columns=2)
    says = (
        f"{label}; a sign (+ or −): above the margin of {margin:g} in size, and its 95 % interval "
        "excludes 0. Domains by number, in the order of the table `domains`. The colour bar ends "
        "where one difference in twenty is beyond it, or at the margin."
    )
    return Spec(data, kind, of.of(name), question, says)


FIGURES: tuple[Callable[[Frames], Spec], ...] = (
    comparisons,
    gain_by_domain,
    ranks,
    published,
    coverage,
)
