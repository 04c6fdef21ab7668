"""The figures: each is a tidy frame, the kind that draws it, and what its caption says.

Captions stand beside a picture, in a file of its name, never inside it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from domain_experts import layout
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.columns import (
    STALE_MARK,
    backbone_label,
    column,
    reference_label,
    run_label,
    words,
)
from domain_experts.reporting.frame import Frames, frames, made, over_seeds, over_status
from domain_experts.reporting.kinds import NOISE, Drawing, forest, heat_map, lines, notice, scatter
from domain_experts.reporting.notes import missing_notes, seeds_text, stale_notes
from domain_experts.reporting.published import published
from domain_experts.reporting.render import write_text
from domain_experts.reporting.statistics import SAMPLING, interval_notes, summed
from domain_experts.reporting.style import save, styled
from domain_experts.results import PROJECTION_COLUMNS, STALE
from domain_experts.runs import DEFAULT_VARIANT
from domain_experts.study import Study

GATED = tuple(name for name, arm in ARMS.items() if arm.phase == "gates")
"""The arms that have a gate, whose legs and gates are drawn."""
UNIFORM = 0.25
"""A gate all of whose weights are nearer to uniform, relatively, would be a blank picture."""
MANY_DOMAINS = 40
"""Rows of a forest beyond which domains go into a heat map."""
RUNS = ["dataset", "backbone", "arm", "variant"]
"""What tells points apart; their runs differ by seed alone."""
VIEWS = {"domain": "domain module", "task": "task module", "all": "all modules"}
PARTS = {"S": "shared module", "D": "domain module", "T": "task module", "fused": "fused"}


@dataclass(frozen=True)
class Drawn:
    """A picture and its caption."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Spec:
    """What a figure shows; without data the reason why there is none."""

    data: pd.DataFrame
    kind: Callable[[pd.DataFrame], Drawing]
    runs: pd.DataFrame
    """Rows of `Frames.runs` that it is about."""
    question: str
    says: str
    missing: str = "No run that it would show has numbers yet."
    left_out: tuple[str, ...] = ()
    """What has numbers and no panel, and why."""


def write_figures(study: Study, names: Iterable[str]) -> None:
    """Write figures/<tier>/<name>.png, .pdf and .txt, its caption, of each name.

    Raises:
        UserError: the results are missing or cannot be used.
    """
    of, folder = frames(study), layout.figures(study.tier)
    for name in names:
        with styled():
            drawn = draw(of, name)
            save(drawn.figure, folder, name)
        write_text(folder / f"{name}.txt", drawn.caption)


def draw(of: Frames, name: str) -> Drawn:
    """One of the figures that `catalog.figure_names` lists, with its caption."""
    spec = ABOUT[name](of) if name in ABOUT else experiment(of, name)
    head, missing = [spec.question, f"Tier {of.study.tier}."], missing_notes(spec.runs)
    left_out = [f"{text}." for text in spec.left_out]
    if spec.data.empty:
        why = [*(left_out or [spec.missing]), *missing]
        return Drawn(notice(" ".join(why)), "\n".join([*head, *why]) + "\n")
    data = spec.data.assign(stale=spec.data["status"] == STALE)
    drawing = spec.kind(data)
    if data["stale"].any():
        head.append(f"Hollow points, or {STALE_MARK} in a panel's title: stale.")
    left_out += [f"{text}." for text in drawing.left_out]
    stale = stale_notes(of, spec.runs)
    said = [*head, spec.says, seeds_text(spec.runs), *left_out, *stale, *missing]
    return Drawn(drawing.figure, "\n".join(said) + "\n")


def experiment(of: Frames, name: str) -> Spec:
    """An experiment: its metric against the one number that it varies, else its differences."""
    vary, variants = (getattr(of.study.params.experiments[name], k) for k in ("vary", "variants"))
    values = [value for own in vary.values() for value in own]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    one = len(vary) == 1 and not variants and numbers
    return _setting(of, name, *vary) if one else _gains(of, name)


def _gains(of: Frames, name: str) -> Spec:
    """Differences to the first reference."""
    spec = of.study.params.experiments[name]
    own = of.gains(name)
    frame = summed(own[own["over"] == spec.references[0]], RUNS)
    said = words(frame, spec.labels)
    arm, backbone, variant = said["arm"], said["backbone"], said["variant"]
    panel, row, hue, nothing = frame["dataset"], arm, backbone, backbone.map(lambda _: "")
    order = {pair: i for i, pair in enumerate(product(ARMS, [NO_BACKBONE, *BACKBONES]))}
    place = [order[pair] for pair in zip(frame["arm"], frame["backbone"], strict=True)]
    if crowded := isinstance(spec.arms, dict):  # each arm has backbones of its own
        row, hue = _joined(arm, backbone), nothing
    if _several(variant):
        panel, row = _joined(panel, arm) if _several(arm) else panel, variant
        place = [0] * len(frame)
    elif not crowded and not _several(backbone) and len({*panel}) >= len({*row}):
        panel, row, hue, place = nothing, panel, row, [0] * len(frame)
    data = frame.assign(panel=panel, y=row, hue=hue, x=frame["gain"], place=place)
    label = f"Difference in test {_head(spec.metric)} to {reference_label(spec.references[0])}"
    side = {"higher": "; below 0: worse", "lower": "; above 0: worse"}
    worse = side.get(column(spec.metric).better or "", "")
    says = " ".join([f"{label}{worse}.", *interval_notes(data["low"])])
    missing = "No run has numbers together with what it is compared with."
    return Spec(data, partial(forest, label=label), of.of(name), spec.question, says, missing)


def _setting(of: Frames, name: str, key: str) -> Spec:
    """The metric, and others that are shown, against the setting that varies."""
    spec = of.study.params.experiments[name]
    runs = of.of(name)
    values = (attrgetter(key)(of.results.expected[path].settings) for path in runs["run"])
    runs["x"] = [*map(float, values)]
    # an arm that does not read the setting has one value, whatever that is
    runs["level"] = runs.groupby("arm")["x"].transform("nunique") == 1
    others = [m for m in spec.show if column(m).better and m in runs]
    metrics = [*dict.fromkeys([spec.metric, *others])]
    keys = ["dataset", "backbone", "arm", "x", "level", "metric"]
    long = runs.melt([*keys[:-1], "status"], metrics, "metric", "y").dropna(subset="y")
    data = over_seeds(long, keys, ["y"])
    data = data.assign(low=data["y"] - data["y_sd"], high=data["y"] + data["y_sd"])
    data["metric"] = data["metric"].map(_head)
    data["x"] = data["x"].mask(data["level"])
    count = data.groupby(["dataset", "metric"], sort=False)["x"].nunique()
    lone = "; ".join(map(", ".join, count[count < 2].index))
    data = data[data.groupby(["dataset", "metric"])["x"].transform("nunique") > 1]
    several = _several(data["metric"])
    panel = _joined(data["dataset"], data["metric"]) if several else data["dataset"]
    said = words(data, {})
    hue = _joined(said["arm"], said["backbone"]) if _several(data["backbone"]) else said["arm"]
    data = data.assign(panel=panel, hue=hue)
    short = key.rsplit(".", 1)[-1]
    best = data[data["metric"] == _head(spec.metric)].merge(
        published(f"best_{short}"), on=["dataset", "backbone", "arm"]
    )
    at = dict(zip(best["panel"], best[f"published_best_{short}"], strict=True))
    kind = partial(
        lines,
        label=" ".join(key.split(".")[-2:]).replace("_", " ").capitalize(),
        y_label="Test value" if several else f"Test {_head(spec.metric)}",
        marks={name: (value, "published as best") for name, value in at.items()},
    )
    says = f"Test {', '.join(dict.fromkeys(data['metric']))} against {key}."
    says += " Bars: standard deviation over seeds." * bool((data["low"] < data["high"]).any())
    says += " Dotted level: an arm that does not read the setting." * bool(data["level"].any())
    told = f"Not drawn, as a line takes numbers at 2 values of {key}: {lone}"
    left_out = (told,) * bool(lone)
    return Spec(data, kind, of.of(name), spec.question, says, left_out=left_out)


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
    several = frame.groupby("dataset")["task"].transform("nunique") > 1
    task = frame["task"].where(several, "")
    domain = _joined(frame["domain"], task)
    label = f"Difference in test AUC to {reference_label(spec.references[0])}"
    question = f"{spec.question} Domain by domain."
    panel = _joined(frame["dataset"], said["backbone"])
    if len(set(zip(panel, domain, strict=True))) <= MANY_DOMAINS:
        frame = frame.assign(
            panel=panel, hue=said["arm"], x=frame["gain"], y=domain, place=frame["number"]
        )
        kind = partial(forest, label=label)
        bars = f" Intervals of 95 %, from {SAMPLING}." * bool(frame["low"].notna().any())
        return Spec(frame, kind, of.of(name), question, f"{label}.{bars}")
    excluded = (frame["low"] > 0) | (frame["high"] < 0)
    data = frame.assign(
        panel=_joined(frame["dataset"], task),
        x=frame["number"].astype(str),
        y=_joined(said["arm"], said["backbone"]),
        value=frame["gain"],
        marked=excluded & (frame["gain"].abs() > NOISE),
    )
    # panels and rows as they appear
    codes = {name: pd.factorize(data[name])[0] for name in ("panel", "y")}
    data = data.iloc[np.lexsort([data["number"].to_numpy(), codes["y"], codes["panel"]])]
    # a domain of a dozen rows would take all colours
    reach = max(NOISE, float(frame["gain"].abs().quantile(0.95)))
    axes = "Number of the domain", ""
    norm = Normalize(-reach, reach)
    kind = partial(heat_map, label=label, norm=norm, colors="RdBu", axes=axes, columns=2)
    says = (
        f"{label}; a dot: above {NOISE} in size, and its 95 % interval (DeLong) excludes 0. "
        "Domains by number, in the order of the table `domains`. The colour bar ends where one "
        f"difference in twenty is beyond it, or at {NOISE}."
    )
    return Spec(data, kind, of.of(name), question, says)


def gate_weights(of: Frames) -> Spec:
    """Weights of the gates that are not about uniform."""
    runs = of.runs[of.runs["arm"].isin(GATED) & (of.runs["variant"] == DEFAULT_VARIANT)]
    cells: list[dict[str, Any]] = []
    still: dict[str, list[str]] = {}
    several = _several(runs["arm"])
    for key, own in made(runs).groupby(["dataset", "backbone", "arm"], sort=False):
        dataset, backbone, arm = map(str, key)
        model = run_label(arm, backbone) if several else backbone_label(backbone)
        known = {path: of.record(path)["gate"] for path in own["run"]}
        gates = {path: np.array(gate) for path, gate in known.items() if gate is not None}
        ratios = {path: gate * gate.shape[1] for path, gate in gates.items()}
        used = [path for path, ratio in ratios.items() if np.abs(ratio - 1).max() > UNIFORM]
        if not used:
            still.setdefault(dataset, []).append(model)
            continue
        name = f"{dataset}, {model}"
        name += f" ({len(used)}\u00a0of\u00a0{len(own)}\u00a0seeds)" if len(own) > 1 else ""
        ratio = np.mean([ratios[path] for path in used], axis=0)
        domains, count = ratio.shape
        group = of.record(used[0])["planted_groups"] or range(domains)
        status = over_status(own.loc[own["run"].isin(used), "status"])
        about = {"panel": name, "status": status, "marked": False}
        cells += [
            about | {"y": str(d + 1), "x": _expert(e, domains), "value": ratio[d, e]}
            for d in sorted(range(domains), key=group.__getitem__)
            for e in sorted(range(count), key=lambda e: group[e % domains])
        ]
    names = "; ".join(f"{dataset} ({', '.join(own)})" for dataset, own in still.items())
    uniform = f"Not drawn, as no weight is more than {UNIFORM:.0%} off uniform: {names}"
    says = (
        "Weight times the number of experts: 0 none, 1 uniform, 2 twice that or more; mean over "
        f"the seeds in which some weight is more than {UNIFORM:.0%} off uniform. Domains, and "
        "experts by their domain, by number in the order of the table `domains`, planted groups "
        "together."
    )
    label, axes = "Weight × number of experts", ("Expert of domain", "Domain")
    kind = partial(heat_map, label=label, norm=Normalize(0, 2), colors="PuOr_r", axes=axes)
    question = f"Which experts does the gate of {_gated()} use for which domain?"
    left_out = (uniform,) * bool(still)
    return Spec(pd.DataFrame(cells), kind, runs, question, says, left_out=left_out)


def learning_curves(of: Frames) -> Spec:
    """Validation AUC by epoch in the legs of the method, of the first experiment."""
    own = of.of(experiments(of.study)[0])
    gated = [arm for arm in GATED if arm in set(own["arm"])]
    arms = tuple(dict.fromkeys(a for arm in gated for a in (*ARMS[arm].needs, arm)))
    alike = of.runs["dataset"].isin(own["dataset"]) & of.runs["backbone"].isin(own["backbone"])
    runs = of.runs[alike & of.runs["arm"].isin(arms) & (of.runs["variant"] == DEFAULT_VARIANT)]
    curves = of.curves[of.curves["run"].isin(runs["run"]) & of.curves["validation_auc"].notna()]
    untrained = curves["arm"].isin([arm for arm in arms if not ARMS[arm].needs])
    curves = curves[~(untrained & (curves["epoch"] == 0))]
    best = curves.groupby(["run", "phase", "lane"])["validation_auc"].transform("max")
    several = curves.groupby("phase")["arm"].transform("nunique") > 1
    said = words(curves, {})
    curves = curves.assign(
        y=curves["validation_auc"] - best,
        part=curves["phase"],
        hue=_joined(said["arm"].where(several, ""), said["backbone"]),
    )
    # data sets in their order, legs in that of the arms
    places = {name: i for i, name in enumerate((*of.study.all_datasets, *arms))}
    curves = curves.sort_values(["dataset", "arm"], key=lambda c: c.map(places), kind="stable")
    data = _by_epoch(curves, ["run", "lane"])
    legs = data["part"].nunique()
    # a row of panels is a data set
    whole = data.groupby("dataset")["part"].transform("nunique") == legs
    lacking = ", ".join(dict.fromkeys(data.loc[~whole, "dataset"]))
    left_out = (f"Not drawn, as a leg has no curve: {lacking}",) * bool(lacking)
    data = data[whole]
    kind = partial(lines, label="Epoch", y_label="Validation AUC less its best", columns=legs)
    says = (
        "Validation AUC less its best, of experts on their own domains: mean over seeds and "
        "experts (a stopped run keeps its last value); band: standard deviation. Epoch 0 is the "
        "start; that of untrained weights is left out. Axes differ from panel to panel."
    )
    question = f"How does the training of {_gated()} converge?"
    return Spec(data, kind, runs, question, says, left_out=left_out)


def fusion(of: Frames) -> Spec:
    """M3oE's fusion weights by epoch."""
    # lines in the order of the runs
    curves = of.runs[["run"]].merge(of.curves[of.curves["fusion"].notna()])
    points = [
        row | {"weight": weight, "y": value}
        for row in curves.to_dict("records")
        for weight, value in row["fusion"].items()
    ]
    long = pd.DataFrame(points, columns=[*curves, "weight", "y"])
    runs = of.runs[of.runs["run"].isin(long["run"])]
    names = {k: v for e in of.study.params.experiments.values() for k, v in e.labels.items()}
    said = words(long, names)
    arm = said["arm"] if _several(long["arm"]) else said["arm"].map(lambda _: "")
    part = long["weight"].map(lambda weight: column(weight).head.replace(" ", "\u00a0"))
    long = long.assign(part=part, hue=_joined(arm, said["variant"]))
    # a line of fixed weights would flatten the others
    trained = long.groupby(["run", "weight"])["y"].transform("nunique") > 1
    data = _by_epoch(long[trained], ["run"])
    columns = data["part"].nunique()
    kind = partial(lines, label="Epoch", y_label="Fusion weight", columns=columns)
    question = "How do M3oE's fusion weights move while they are trained?"
    says = (
        "α weighs the domain and the task module, β a module's own expert. Mean over seeds (a "
        "stopped run keeps its last value); band: standard deviation. Fixed weights are not drawn. "
        "Axes differ from panel to panel."
    )
    return Spec(data, kind, runs, question, says, "No run of M3oE has trained fusion weights yet.")


def modules(of: Frames) -> Spec:
    """Figure 3 of M3oE: what its experts and modules give on some test rows, in two dimensions."""
    data = of.entries("projection", PROJECTION_COLUMNS)
    default = data[data["variant"] == DEFAULT_VARIANT]
    data = data[data["run"].isin(default.groupby(["dataset", "arm", "backbone"])["run"].first())]
    view = data["panel"].map(lambda panel: VIEWS[panel])
    data = data.assign(
        panel=_joined(data["dataset"], words(data, {})["arm"]) + ": " + view,
        hue=[PARTS.get(part, part.replace("_", "")) for part in data["part"]],
    )
    rows = data.drop_duplicates("dataset")[["dataset", "domain"]].itertuples(index=False)
    where = ", ".join(f"{name}: {of.results.data[name]['domains'][d]}" for name, d in rows)
    says = (
        "t-SNE of the outputs of the experts (F: domain, G: task), the modules, and what the "
        f"towers see, for the first task on test rows of one domain ({where}). Each panel is "
        "projected by itself: only nearness within it counts."
    )
    runs = of.runs[of.runs["run"].isin(data["run"])]
    kind = partial(scatter, columns=len(VIEWS))
    question = "Do M3oE's experts and modules learn different things (its figure 3)?"
    return Spec(data, kind, runs, question, says, "No outputs of M3oE were kept yet.")


_ALL = (gain_by_domain, gate_weights, learning_curves, fusion, modules)
ABOUT = {make.__name__: make for make in _ALL}


def _by_epoch(points: pd.DataFrame, lane: list[str]) -> pd.DataFrame:
    """Mean and spread by epoch over all lanes; one that has ended keeps its last value."""
    keys = ["dataset", "part", "hue"]
    parts = [pd.DataFrame(columns=["x", "y", "low", "high", "panel", *keys, "status"])]
    for key, own in points.groupby(keys, sort=False):
        wide = own.pivot_table("y", "epoch", lane).ffill()
        y, sd = wide.mean(axis=1), wide.std(axis=1)
        part = pd.DataFrame({"x": wide.index, "y": y, "low": y - sd, "high": y + sd})
        about = dict(zip(keys, map(str, key), strict=True)) | {"panel": f"{key[0]}, {key[1]}"}
        parts.append(part.assign(**about, status=over_status(own["status"])))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _joined(first: "pd.Series[str]", second: "pd.Series[str]") -> "pd.Series[str]":
    """Two words with a comma between them, where both say something."""
    pairs = zip(first, second, strict=True)
    return pd.Series([", ".join(filter(None, pair)) for pair in pairs], first.index, dtype="str")


def _several(values: "pd.Series[str]") -> bool:
    return len({*values}) > 1


def _gated() -> str:
    """The arms that have a gate, in words."""
    return " or ".join(ARMS[arm].label for arm in GATED)


def _expert(number: int, domains: int) -> str:
    """The domain of an expert; with a dash for each round of experts before it."""
    return f"{number % domains + 1}" + "′" * (number // domains)


def _head(metric: str) -> str:
    """A metric within a sentence."""
    head = column(metric).head
    return head if head[:2].isupper() else head[:1].lower() + head[1:]
