"""The figures: each is a kind, a tidy frame, its columns, and what the caption says.

Captions stand beside a picture, in a file of its name, never inside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.catalog import experiments, figure_names
from domain_experts.reporting.columns import STALE_MARK, backbone_label, column
from domain_experts.reporting.frame import ALL_TASKS, Frames, frames, over_seeds
from domain_experts.reporting.kinds import NOISE, Drawing, forest, heat_map, lines, notice, scatter
from domain_experts.reporting.notes import status_notes
from domain_experts.reporting.published import published
from domain_experts.reporting.render import write_text
from domain_experts.reporting.statistics import INTERVAL, summed
from domain_experts.reporting.style import save, styled
from domain_experts.results import CURRENT, STALE
from domain_experts.runs import DEFAULT_VARIANT
from domain_experts.study import Study

METHOD = "moe_mlora"
"""The arm whose phases and gates are drawn."""
UNIFORM = 0.25
"""A gate all of whose weights are nearer to uniform, relatively, would be a blank picture."""
MANY_DOMAINS = 40
"""Rows of a forest beyond which domains go into a heat map."""
RUN = ["run", "status", "dataset", "arm", "variant"]
VIEWS = {"domain": "domain module", "task": "task module", "all": "all modules"}
PARTS = {"S": "shared module", "D": "domain module", "T": "task module", "fused": "fused"}


@dataclass(frozen=True)
class Drawn:
    """A picture and its caption."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Spec:
    """What a figure shows of which runs; no data, no picture but the reason why."""

    kind: Callable[..., Drawing]
    data: pd.DataFrame
    columns: Mapping[str, Any]
    runs: pd.DataFrame
    says: tuple[str, ...]
    """The caption's sentences; the first is the question."""
    missing: str = "No run that it would show has numbers yet."


def write_one(study: Study, name: str) -> None:
    """Write figures/<tier>/<name>.png, .pdf and .txt, its caption.

    Raises:
        UserError: there is no such figure; the results are missing or cannot be used.
    """
    if name not in (known := figure_names(study)):
        raise UserError(f"figure '{name}' is unknown; tier '{study.tier}' has {', '.join(known)}")
    folder = layout.figures(study.tier)
    with styled():
        drawn = draw(frames(study), name)
        save(drawn.figure, folder, name)
    write_text(folder / f"{name}.txt", drawn.caption)


def draw(of: Frames, name: str) -> Drawn:
    """One of the figures that `catalog.figure_names` lists, with its caption."""
    spec = ABOUT[name](of) if name in ABOUT else experiment(of, name)
    said = [spec.says[0], f"Tier {of.study.tier}."]
    status = status_notes(of, spec.runs)
    if spec.data.empty:
        why = [spec.missing, *(note for note in status if not note.startswith(STALE_MARK))]
        return Drawn(notice(" ".join(why)), "\n".join([*said, *why]) + "\n")
    drawing = spec.kind(spec.data, **spec.columns)
    if "stale" in spec.data and spec.data["stale"].any():
        said.append(f"Hollow points, and {STALE_MARK} in a panel's title: stale.")
    left = [f"{text}." for text in drawing.left_out]
    every = [*said, *spec.says[1:], _seeds(spec.runs), *left, *status]
    return Drawn(drawing.figure, "\n".join(every) + "\n")


def experiment(of: Frames, name: str) -> Spec:
    """An experiment: its metric against the one number that it varies, else its differences."""
    vary = of.study.params.experiments[name].vary
    values = [value for own in vary.values() for value in own]
    number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    alone = len(vary) == 1 and not of.study.params.experiments[name].variants
    return _setting(of, name, *vary) if alone and number else _gains(of, name)


def _gains(of: Frames, name: str) -> Spec:
    """Differences to the first reference."""
    spec = of.study.params.experiments[name]
    own = _overall(of.gains(name, spec.metric))
    own = own[own["over"] == spec.references[0]]
    frame = _interval(own, ["dataset", "backbone", "arm", "variant"])
    order = {pair: i for i, pair in enumerate(product(ARMS, [NO_BACKBONE, *BACKBONES]))}
    frame["place"] = [order[pair] for pair in zip(frame["arm"], frame["backbone"], strict=True)]
    frame["variant"] = frame["variant"].map(lambda variant: spec.labels.get(variant, variant))
    frame["arm"] = [ARMS[arm].label for arm in frame["arm"]]
    crossed = not isinstance(spec.arms, dict)
    nothing = pd.Series("", frame.index)
    several = {key: frame[key].nunique() > 1 for key in ("backbone", "arm", "variant")}
    backbone = frame["backbone"].map(backbone_label).where(frame["backbone"] != NO_BACKBONE, "")
    panel, hue = frame["dataset"], backbone if crossed else nothing
    row = frame["arm"] if crossed else _joined(frame["arm"], backbone)
    if several["variant"]:
        panel, row = _joined(panel, frame["arm"] if several["arm"] else nothing), frame["variant"]
        frame["place"] = 0
    elif crossed and not several["backbone"] and panel.nunique() >= row.nunique():
        panel, row, hue = nothing, panel, row
        frame["place"] = 0
    data = frame.assign(panel=panel, row=row, hue=hue)
    keys = {"x": "gain", "y": "row", "hue": "hue", "panel": "panel"}
    label = f"Difference in test {_head(spec.metric)} to {_reference(spec.references[0])}"
    says = (spec.question, f"{label}; below 0: worse. {INTERVAL}.")
    missing = "No run has numbers together with what it is compared with."
    return Spec(forest, data, keys | {"label": label}, of.of(name), says, missing)


def _setting(of: Frames, name: str, key: str) -> Spec:
    """The metric, and others that are shown, against the setting that varies."""
    spec = of.study.params.experiments[name]
    runs = _overall(of.of(name))
    metrics = [m for m in (spec.metric, *spec.show) if column(m).better and m in runs]
    runs = runs.assign(x=[_value(of, path, key) for path in runs["run"]])
    # an arm that does not read the setting has one value, whatever that is
    reads = runs.groupby("arm")["x"].transform("nunique") > 1
    runs["x"] = runs["x"].where(reads)
    keys = ["dataset", "backbone", "arm", "x"]
    parts = []
    for metric in metrics:
        known = runs[runs[metric].notna()]
        part = over_seeds(known.fillna({"x": -1}), keys, [metric]).replace({"x": {-1: np.nan}})
        parts.append(_spread(part, metric).assign(metric=metric))
    data = pd.concat(parts, ignore_index=True)
    data = data[data.groupby(["dataset", "metric"])["x"].transform("nunique") > 1]
    heads = [_head(metric) for metric in metrics]
    titles = data["dataset"]
    if len({*data["metric"]}) > 1:
        titles = _joined(titles, data["metric"].map(dict(zip(metrics, heads, strict=True))))
    arm = data["arm"].map(lambda arm: ARMS[arm].label)
    backbone = data["backbone"].map(backbone_label)
    hue = _joined(arm, backbone) if data["backbone"].nunique() > 1 else arm
    data = data.assign(panel=titles, hue=hue)
    short = key.rsplit(".", 1)[-1]
    label = " ".join(key.split(".")[-2:]).replace("_", " ").capitalize()
    best = published(f"best_{short}")
    found = data[data["metric"] == spec.metric].merge(best, on=["dataset", "backbone", "arm"])
    marks = {
        row["panel"]: (row[f"published_best_{short}"], "published as best")
        for row in found.to_dict("records")
    }
    says = [spec.question, f"Test {', '.join(dict.fromkeys(heads))} against {key}."]
    if (data["low"] < data["high"]).any():
        says.append("Bars: standard deviation over seeds.")
    if data["x"].isna().any():
        says.append("Dotted level: an arm that does not read the setting.")
    columns = {"x": "x", "y": "y", "hue": "hue", "panel": "panel", "label": label}
    columns |= {"y_label": f"Test {heads[0]}" if data["metric"].nunique() == 1 else "Test value"}
    count = runs.loc[runs[spec.metric].notna(), "x"].nunique()
    missing = f"{count} of {len(spec.vary[key])} values of {key} has been run: nothing to compare."
    return Spec(lines, data, columns | {"marks": marks}, of.of(name), tuple(says), missing)


def gain_by_domain(of: Frames) -> Spec:
    """Differences of the first experiment to its first reference, domain by domain."""
    name = experiments(of.study)[0]
    spec = of.study.params.experiments[name]
    pairs = of.gains(name, spec.metric).drop_duplicates(["run", "other", "over"])
    pairs = pairs[pairs["over"] == spec.references[0]].drop(columns=["gain", "se", "task"])
    numbers = of.results.numbers.rename(columns={"against": "other"})
    keys = ["run", "other", "domain", "task"]
    wide = numbers.pivot_table("value", keys, "metric").reset_index()
    wide = wide.rename(columns={"auc_difference": "gain", "auc_difference_se": "se"})
    wide = wide.reindex(columns=[*keys, "gain", "se"])
    places = of.domains[["run", "domain", "task", "number"]]
    own = pairs.merge(wide, on=["run", "other"]).merge(places, on=["run", "domain", "task"])
    frame = _interval(own, ["dataset", "backbone", "arm", "task", "domain", "number"])
    # domains in their own order, the rest as it was
    frame = frame.sort_values("number", kind="stable").sort_values(
        ["dataset", "backbone", "arm"],
        key=lambda names: names.map({name: i for i, name in enumerate(_unique(frame[names.name]))}),
        kind="stable",
    )
    several = frame.groupby("dataset")["task"].transform("nunique") > 1
    domain = frame["domain"].where(~several, _joined(frame["domain"], frame["task"]))
    frame = frame.assign(domain=domain)
    backbone = frame["backbone"].map(backbone_label)
    label = f"Difference in test AUC to {_reference(spec.references[0])}"
    question = f"{spec.question} Domain by domain."
    arms = frame["arm"].map(lambda arm: ARMS[arm].label)
    order = frame.assign(hue=arms, panel=_joined(frame["dataset"], backbone), place=frame["number"])
    if len(order.drop_duplicates(["panel", "domain"])) <= MANY_DOMAINS:
        keys = {"x": "gain", "y": "domain", "hue": "hue", "panel": "panel", "label": label}
        return Spec(forest, order, keys, of.of(name), (question, f"{label}. {INTERVAL}."))
    data = frame.assign(
        row=_joined(arms, backbone),
        marked=((frame["low"] > 0) | (frame["high"] < 0)) & (frame["gain"].abs() > NOISE),
    )
    data = data.assign(number=data["number"].astype(str))
    # a domain of a dozen rows would take all colours
    reach = max(NOISE, float(data["gain"].abs().quantile(0.95)))
    columns = {"x": "number", "y": "row", "value": "gain", "panel": "dataset", "label": label}
    columns |= {"norm": Normalize(-reach, reach), "colors": "RdBu", "columns": 2}
    columns |= {"axes": ("Number of the domain", "")}
    says = (
        question,
        f"{label}; a dot: above {NOISE} in size, and its 95 % interval (DeLong) excludes 0. Domains "
        "by number, in the order of the table `domains`. One difference in twenty is beyond the "
        "ends of the colour bar.",
    )
    return Spec(heat_map, data, columns, of.of(name), says)


def gate_weights(of: Frames) -> Spec:
    """Weights of the gates that left their starting weights."""
    runs = of.runs[(of.runs["arm"] == METHOD) & (of.runs["variant"] == DEFAULT_VARIANT)]
    runs = runs.drop_duplicates("run")
    there = runs[runs["status"].isin([CURRENT, STALE])]
    cells: list[dict[str, Any]] = []
    still: dict[str, list[str]] = {}
    alone = there["backbone"].nunique() == 1
    for (dataset, backbone), own in there.groupby(["dataset", "backbone"], sort=False):
        gates = {path: np.array(of.record(path)["gate"]) for path in own["run"]}
        ratios = {path: gate * gate.shape[1] for path, gate in gates.items()}
        used = [path for path, ratio in ratios.items() if np.abs(ratio - 1).max() > UNIFORM]
        if not used:
            still.setdefault(str(dataset), []).append(backbone_label(str(backbone)))
            continue
        name = str(dataset) if alone else f"{dataset}, {backbone_label(str(backbone))}"
        name += f" ({len(used)}\u00a0of\u00a0{len(own)}\u00a0seeds)" if len(own) > 1 else ""
        ratio = np.mean([ratios[path] for path in used], axis=0)
        domains, experts = ratio.shape
        group = of.record(used[0])["planted_groups"] or range(domains)
        about = {"panel": name, "stale": own.loc[own["run"].isin(used), "status"].eq(STALE).any()}
        cells += [
            about | {"domain": str(d + 1), "expert": _expert(e, domains), "ratio": ratio[d, e]}
            for d in sorted(range(domains), key=group.__getitem__)
            for e in sorted(range(experts), key=lambda e: group[e % domains])
        ]
    says = [
        "Which experts does the gate of MoE-MLoRA use for which domain?",
        "Weight times the number of experts: 0 none, 1 uniform, 2 twice that or more; mean over the "
        f"seeds in which some weight is more than {UNIFORM:.0%} off uniform. Domains, and experts "
        "by their domain, by number in the order of the table `domains`, planted groups together.",
    ]
    if still:
        names = "; ".join(f"{dataset} ({', '.join(own)})" for dataset, own in still.items())
        says.append(f"Not drawn, as no weight is more than {UNIFORM:.0%} off uniform: {names}.")
    columns = {"x": "expert", "y": "domain", "value": "ratio", "panel": "panel"}
    columns |= {"label": "Weight × number of experts", "norm": Normalize(0, 2), "colors": "PuOr_r"}
    missing = says[-1] if still else "No run of MoE-MLoRA has numbers yet."
    columns |= {"axes": ("Expert of domain", "Domain")}
    return Spec(
        heat_map, pd.DataFrame(cells).assign(marked=False), columns, runs, tuple(says), missing
    )


def learning_curves(of: Frames) -> Spec:
    """Validation AUC by epoch in the phases of the method, of the first experiment."""
    name = experiments(of.study)[0]
    own = of.of(name)
    arms = (*ARMS[METHOD].needs, METHOD)
    alike = of.runs["dataset"].isin(own["dataset"]) & of.runs["backbone"].isin(own["backbone"])
    runs = of.runs[alike & of.runs["arm"].isin(arms) & (of.runs["variant"] == DEFAULT_VARIANT)]
    runs = runs.drop_duplicates("run")
    curves = of.curves[of.curves["run"].isin(runs["run"]) & of.curves["validation_auc"].notna()]
    untrained = curves["arm"].isin([arm for arm in arms if not ARMS[arm].needs])
    curves = curves[~(untrained & (curves["epoch"] == 0))]
    best = curves.groupby(["run", "phase", "lane"])["validation_auc"].transform("max")
    curves = curves.assign(y=curves["validation_auc"] - best)
    phases = _unique(curves.sort_values("arm", key=lambda arm: arm.map(arms.index))["phase"])
    places = {name: i for i, name in enumerate(of.study.all_datasets)}
    keys = ["dataset", "phase", "backbone"]
    data = _by_epoch(curves, keys, ["run", "lane"])
    data = data.sort_values(
        ["dataset", "phase"],
        key=lambda own: own.map(places if own.name == "dataset" else phases.index),
        kind="stable",
    )
    # a row of panels a data set
    full = data.groupby("dataset")["phase"].transform("nunique") == len(phases)
    data = data[full].assign(panel=_joined(data["dataset"], data["phase"]))
    data = data.assign(hue=data["backbone"].map(backbone_label))
    columns = {"x": "epoch", "y": "y", "hue": "hue", "panel": "panel", "label": "Epoch"}
    columns |= {"y_label": "Validation AUC less its best", "columns": max(len(phases), 1)}
    says = (
        "How do the phases of MoE-MLoRA converge?",
        "Validation AUC less its best, of experts on their own domains: mean over seeds and experts "
        "(a stopped run keeps its last value); band: standard deviation. Epoch 0 is the start, that "
        "of untrained weights is left out. Axes differ.",
    )
    return Spec(lines, data, columns, runs, says)


def fusion(of: Frames) -> Spec:
    """M3oE's fusion weights by epoch."""
    there = of.runs[of.runs["status"].isin([CURRENT, STALE])].drop_duplicates("run")
    points = [
        row | {"epoch": point["epoch"], "weight": weight, "y": value}
        for row in there[RUN].to_dict("records")
        for point in of.record(row["run"])["curve"]
        for weight, value in point.get("fusion", {}).items()
    ]
    long = pd.DataFrame(points, columns=[*RUN, "epoch", "weight", "y"])
    runs = of.runs[of.runs["run"].isin(long["run"])]
    names = {k: v for e in of.study.params.experiments.values() for k, v in e.labels.items()}
    several = long["arm"].nunique() > 1
    way = long["variant"].map(lambda variant: names.get(variant, variant))
    arm = long["arm"].map(lambda arm: ARMS[arm].label)
    long = long.assign(hue=_joined(arm, way) if several else way)
    # a line of fixed weights would flatten the others
    trained = long.groupby(["run", "weight"])["y"].transform("nunique") > 1
    data = _by_epoch(long[trained], ["dataset", "weight", "hue"], ["run"])
    label = data["weight"].map(lambda weight: column(weight).head.replace(" ", "\u00a0"))
    data = data.assign(panel=_joined(data["dataset"], label))
    columns = {"x": "epoch", "y": "y", "hue": "hue", "panel": "panel", "label": "Epoch"}
    columns |= {"y_label": "Fusion weight", "columns": max(data["weight"].nunique(), 1)}
    says = (
        "How do M3oE's fusion weights move while they are trained?",
        "α weighs the domain and the task module, β a module's own expert. Mean over seeds (a "
        "stopped run keeps its last value); band: standard deviation. Fixed weights are not drawn.",
    )
    return Spec(lines, data, columns, runs, says, "No run of M3oE has fusion weights yet.")


def modules(of: Frames) -> Spec:
    """Figure 3 of M3oE: what its experts and modules give on some test rows, in two dimensions."""
    there = of.runs[of.runs["status"].isin([CURRENT, STALE])].drop_duplicates("run")
    there = there[there["variant"] == DEFAULT_VARIANT].drop_duplicates(
        ["dataset", "arm", "backbone"]
    )
    points = []
    for row in there.to_dict("records"):
        found = pd.DataFrame(of.record(row["run"])["projection"])
        if len(found):
            about = {key: row[key] for key in ("run", "dataset", "arm")}
            points.append(found.assign(**about, stale=row["status"] == STALE))
    data = pd.concat(points, ignore_index=True) if points else pd.DataFrame()
    runs = there[there["run"].isin(set(data.get("run", ())))]
    says = ["Do M3oE's experts and modules learn different things (its figure 3)?"]
    if len(data):
        arm = data["arm"].map(lambda arm: ARMS[arm].label)
        data = data.assign(
            panel=data["dataset"] + ", " + arm + ": " + data["panel"].map(VIEWS),
            hue=[PARTS.get(part, part.replace("_", "")) for part in data["part"]],
        )
        of_data = data.drop_duplicates("dataset")
        where = ", ".join(
            f"{name}: {of.results.data[name]['domains'][d]}"
            for name, d in zip(of_data["dataset"], of_data["domain"], strict=True)
        )
        says.append(
            "t-SNE of the outputs of the experts (F: domain, G: task), the modules, and what the "
            f"towers see, for the first task on test rows of one domain ({where}). Each panel is "
            "projected by itself: only nearness within it counts."
        )
    columns = {"x": "x", "y": "y", "hue": "hue", "panel": "panel", "columns": len(VIEWS)}
    return Spec(scatter, data, columns, runs, tuple(says), "No outputs of M3oE were kept yet.")


ABOUT: dict[str, Callable[[Frames], Spec]] = {
    "gain_by_domain": gain_by_domain,
    "gate_weights": gate_weights,
    "learning_curves": learning_curves,
    "fusion": fusion,
    "modules": modules,
}


def _overall(runs: pd.DataFrame) -> pd.DataFrame:
    """Of data with several tasks the rows of all together."""
    several = runs.loc[runs["task"] == ALL_TASKS, "run"]
    return runs[(runs["task"] == ALL_TASKS) | ~runs["run"].isin(several)].reset_index(drop=True)


def _interval(gains: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean differences over seeds with intervals, and whether any seed is stale."""
    frame = summed(gains, keys)
    return frame.assign(stale=frame["status"] == STALE)


def _spread(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Of a frame of `over_seeds` mean, mean ± standard deviation, and whether it is stale."""
    mean, sd = frame[metric], frame[f"{metric}_sd"]
    return frame.assign(y=mean, low=mean - sd, high=mean + sd, stale=frame["status"] == STALE)


def _by_epoch(points: pd.DataFrame, keys: list[str], lane: list[str]) -> pd.DataFrame:
    """Mean and spread by epoch over all lanes; one that has ended keeps its last value."""
    parts = []
    for values, own in points.groupby(keys, sort=False):
        wide = own.pivot_table("y", "epoch", lane).ffill()
        mean, sd = wide.mean(axis=1), wide.std(axis=1)
        part = pd.DataFrame({"y": mean, "low": mean - sd, "high": mean + sd}).reset_index()
        stale = own["status"].eq(STALE).any()
        parts.append(part.assign(**dict(zip(keys, values, strict=True)), stale=stale))
    names = ["epoch", "y", "low", "high", *keys, "stale"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def _joined(first: "pd.Series[str]", second: "pd.Series[str]") -> "pd.Series[str]":
    """Two words with a comma between them, where both say something."""
    pairs = zip(first, second, strict=True)
    return pd.Series([", ".join(filter(None, pair)) for pair in pairs], first.index, dtype="str")


def _expert(number: int, domains: int) -> str:
    """The domain of an expert; with a dash for each round of experts before it."""
    return f"{number % domains + 1}" + "′" * (number // domains)


def _value(of: Frames, path: str, key: str) -> float:
    """A run's value of a dotted setting."""
    found: Any = of.results.expected[path].settings
    for part in key.split("."):
        found = getattr(found, part)
    return float(found)


def _reference(name: str) -> str:
    arm, _, backbone = name.partition("/")
    if arm == DEFAULT_VARIANT:
        return "the default settings"
    return f"{backbone_label(backbone)}, {ARMS[arm].label}" if backbone else ARMS[arm].label


def _seeds(runs: pd.DataFrame) -> str:
    made = runs[runs["status"].isin([CURRENT, STALE])]
    seeds = ", ".join(map(str, sorted(made["seed"].unique())))
    each = made.groupby(["dataset", "backbone", "arm", "variant"])["seed"].nunique()
    if each.max() == 1:
        return f"One seed each ({seeds}): no spread over seeds is known."
    return f"Seeds {seeds}."


def _unique(column: "pd.Series[Any]") -> list[Any]:
    return list(dict.fromkeys(column))


def _head(metric: str) -> str:
    """A metric within a sentence."""
    head = column(metric).head
    return head if head.isupper() else head[:1].lower() + head[1:]
