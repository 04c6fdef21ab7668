"""Figures of what happens inside the models: gates, experts, learning curves, fusion, modules."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize

from domain_experts.evaluation.gates import gate_shares
from domain_experts.registry import ARMS
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.columns import backbone_label, column, run_label, words
from domain_experts.reporting.frame import Frames, made, over_status
from domain_experts.reporting.kinds import heat_map, lines, scatter
from domain_experts.reporting.pages import dots
from domain_experts.reporting.spec import RUNS, Spec, joined, several
from domain_experts.results import PROJECTION_COLUMNS
from domain_experts.runs import DEFAULT_VARIANT

GATED = tuple(name for name, arm in ARMS.items() if arm.phase == "gates")
"""The arms that have a gate, whose legs and gates are drawn."""
UNIFORM = 0.25
"""A gate all of whose weights are nearer to uniform, relatively, would be a blank picture."""
MOVED = {
    "experts": "Experts that moved",
    "gates": "Gates that moved",
    "spread": "Gate off uniform",
    "own": "Gate on own expert",
}
"""Panels of `moved`."""
VIEWS = {"domain": "domain module", "task": "task module", "all": "all modules"}
PARTS = {"S": "shared module", "D": "domain module", "T": "task module", "fused": "fused"}
EXPERTS = {"F": "expert of domain", "G": "expert of task"}


def gate_weights(of: Frames) -> Spec:
    """Weights of the gates that are not about uniform."""
    runs = _gates(of)
    cells: list[dict[str, Any]] = []
    still: dict[str, int] = {}
    many = several(runs["arm"])
    for key, own in made(runs).groupby(["dataset", "backbone", "arm"], sort=False):
        dataset, backbone, arm = map(str, key)
        model = run_label(arm, backbone) if many else backbone_label(backbone)
        known = {path: of.record(path)["gate"] for path in own["run"]}
        gates = {path: np.array(gate) for path, gate in known.items() if gate is not None}
        ratios = {path: gate * gate.shape[1] for path, gate in gates.items()}
        used = [path for path, ratio in ratios.items() if np.abs(ratio - 1).max() > UNIFORM]
        if not used:
            still[dataset] = still.get(dataset, 0) + 1
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
    names = ", ".join(f"{count} on {dataset}" for dataset, count in still.items())
    uniform = (
        f"Not drawn, as no weight is more than {UNIFORM:.0%} off uniform: gates of {names}; the "
        "figure `moved` has them"
    )
    says = (
        "Weight times the number of experts: 0 none, 1 uniform, 2 twice that or more; mean over "
        f"the seeds in which some weight is more than {UNIFORM:.0%} off uniform. Domains, and "
        "experts by their domain, by number in the order of the table `domains`, planted groups "
        "together."
    )
    label, axes = "Weight × number of experts", ("Expert of domain", "Domain")
    kind = partial(heat_map, label=label, norm=Normalize(0, 2), colors="cividis", axes=axes)
    question = f"Which experts does the gate of {_gated()} use for which domain?"
    left_out = (uniform,) * bool(still)
    return Spec(pd.DataFrame(cells), kind, runs, question, says, left_out=left_out)


def moved(of: Frames) -> Spec:
    """How far experts and gates got from their start, by data set, backbone and arm."""
    runs = _gates(of)
    rows = []
    kept = _kept_start(of)
    for run in made(runs).to_dict("records"):
        gate = of.record(run["run"])["gate"]
        if gate is None:
            continue
        weights = np.array(gate)
        domains, count = weights.shape
        upstream = of.study.upstream(of.results.expected[run["run"]])
        # of the experts that were trained the first are used
        trained = [kept.get((up.path.as_posix(), str(e))) for up in upstream for e in range(count)]
        experts = [start for start in trained if start is not None]
        start = kept.get((run["run"], "all"))
        shares = gate_shares(weights, np.arange(domains))
        values = {
            "experts": 1 - np.mean(experts) if experts else np.nan,
            "gates": np.nan if start is None else 1.0 - start,
            "spread": np.abs(weights - 1 / count).sum(axis=1).mean() / 2,
            "own": shares["gate_own_expert"],
        }
        about = {key: run[key] for key in (*RUNS, "status")}
        chance = shares["gate_own_expert_chance"]
        rows += [
            about | {"part": part, "x": x, "chance": chance if part == "own" else np.nan}
            for part, x in values.items()
        ]
    frame = pd.DataFrame(rows, columns=[*RUNS, "status", "part", "x", "chance"])
    groups = frame.dropna(subset="x").groupby([*RUNS, "part"], sort=False)
    data = groups.agg(
        x=("x", "mean"),
        low=("x", "min"),
        high=("x", "max"),
        chance=("chance", "first"),
        status=("status", over_status),
    ).reset_index()
    said = words(data, {})
    # a bar over the share of seeds would span all whenever they differ
    bars = data["part"] != "gates"
    data = data.assign(
        panel=data["part"].map(MOVED),
        y=joined(data["dataset"], said["backbone"]),
        hue=said["arm"],
        low=data["low"].where(bars),
        high=data["high"].where(bars),
    )
    data = data.sort_values("part", key=lambda part: part.map([*MOVED].index), kind="stable")
    says = (
        "Means over seeds; bars: from the least to the largest. Experts that moved: share of those "
        "whose best epoch on validation rows is not their start, where they add nothing. Gates "
        "that moved: share of seeds. Gate off uniform: share of its weight that would have to move "
        "for equal weights, mean over domains. Gate on own expert: share of a domain's weight on "
        "the experts trained on it; | by chance."
    )
    question = f"Which experts and gates of {_gated()} moved from their start?"
    return Spec(data, dots, runs, question, says, "No run with a gate has numbers yet.")


def _gates(of: Frames) -> pd.DataFrame:
    return of.runs[of.runs["arm"].isin(GATED) & (of.runs["variant"] == DEFAULT_VARIANT)]


def _kept_start(of: Frames) -> dict[tuple[str, str], bool]:
    """Of each run and lane of experts or of a gate whether its best epoch is its start."""
    curves = of.curves[of.curves["phase"].isin(["experts", "gate"]) & of.curves["best"].eq(True)]
    last = curves.groupby(["run", "lane"])["epoch"].max().reset_index()
    return {(run, lane): epoch == 0 for run, lane, epoch in last.itertuples(index=False)}


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
    shared = curves.groupby("phase")["arm"].transform("nunique") > 1
    said = words(curves, {})
    curves = curves.assign(
        y=curves["validation_auc"] - best,
        part=curves["phase"],
        hue=joined(said["arm"].where(shared, ""), said["backbone"]),
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
    """M3oE's fusion weights by epoch, in the experiments whose table shows them."""
    specs = of.study.params.experiments
    curves = of.curves[of.curves["fusion"].notna()]
    weights = {weight for own in curves["fusion"] for weight in own}
    names = [name for name in experiments(of.study) if weights & {*specs[name].show}]
    asked = {run.path.as_posix() for name in names for run in of.study.expected[name]}
    # lines in the order of the runs
    curves = of.runs.loc[of.runs["run"].isin(asked), ["run"]].merge(curves)
    points = [
        row | {"weight": weight, "y": value}
        for row in curves.to_dict("records")
        for weight, value in row["fusion"].items()
    ]
    long = pd.DataFrame(points, columns=[*curves, "weight", "y"])
    runs = of.runs[of.runs["run"].isin(long["run"])]
    labels = {k: v for name in names for k, v in specs[name].labels.items()}
    said = words(long, labels)
    arm = said["arm"] if several(long["arm"]) else said["arm"].map(lambda _: "")
    part = long["weight"].map(lambda weight: column(weight).head.replace(" ", "\u00a0"))
    long = long.assign(part=part, hue=joined(arm, said["variant"]))
    # a line of fixed weights would flatten the others
    trained = long.groupby(["run", "weight"])["y"].transform("nunique") > 1
    data = _by_epoch(long[trained], ["run"])
    columns = data["part"].nunique()
    kind = partial(lines, label="Epoch", y_label="Fusion weight", columns=columns)
    question = "How do M3oE's fusion weights move while they are trained?"
    says = (
        f"Runs of {', '.join(names)}. α weighs the domain and the task module, β a module's own "
        "expert. Mean over seeds (a stopped run keeps its last value); band: standard deviation. "
        "Fixed weights are not drawn. Axes differ from panel to panel."
    )
    return Spec(data, kind, runs, question, says, "No run of M3oE has trained fusion weights yet.")


def modules(of: Frames) -> Spec:
    """Figure 3 of M3oE: what its experts and modules give on some test rows, in two dimensions."""
    data = of.entries("projection", PROJECTION_COLUMNS)
    default = data[data["variant"] == DEFAULT_VARIANT]
    chosen = default.drop_duplicates(["arm", "backbone"])["run"]
    other = default.loc[~default["run"].isin(chosen), "dataset"]
    data = data[data["run"].isin(chosen)]
    view = data["panel"].map(lambda panel: VIEWS[panel])
    data = data.assign(
        panel=joined(data["dataset"], words(data, {})["arm"]) + ": " + view,
        hue=[*map(_part, data["part"])],
    )
    rows = data.drop_duplicates("dataset")[["dataset", "domain"]].itertuples(index=False)
    where = ", ".join(f"{name}: {of.results.data[name]['domains'][d]}" for name, d in rows)
    says = (
        "t-SNE of the outputs of the experts, of the modules, and of what the towers see (fused), "
        f"for the first task on test rows of one domain ({where}). Each panel is projected by "
        "itself: only nearness within it counts."
    )
    told = f"Not drawn, as a data set an arm is enough: {', '.join(dict.fromkeys(other))}"
    runs = of.runs[of.runs["run"].isin(data["run"])]
    kind = partial(scatter, columns=len(VIEWS))
    question = "Do M3oE's experts and modules learn different things (its figure 3)?"
    missing, left_out = "No outputs of M3oE were kept yet.", (told,) * bool(len(other))
    return Spec(data, kind, runs, question, says, missing, left_out)


def _part(name: str) -> str:
    """A module, or an expert by the domain or task that it belongs to."""
    return PARTS.get(name) or f"{EXPERTS[name[0]]} {name.rpartition('_')[2].lstrip('FG')}"


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


def _gated() -> str:
    """The arms that have a gate, in words."""
    return " or ".join(ARMS[arm].label for arm in GATED)


def _expert(number: int, domains: int) -> str:
    """The domain of an expert; with a dash for each round of experts before it."""
    return f"{number % domains + 1}" + "′" * (number // domains)


FIGURES: tuple[Callable[[Frames], Spec], ...] = (
    gate_weights,
    moved,
    learning_curves,
    fusion,
    modules,
)
