"""The figures: each is a tidy frame, the kind that draws it, and what its caption says.

Captions stand beside a picture, in a file of its name, never inside it.
"""

import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from operator import attrgetter

from matplotlib.figure import Figure

from domain_experts import layout
from domain_experts.files import write_text
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting import inside, overall
from domain_experts.reporting.catalog import SEARCH
from domain_experts.reporting.columns import STALE_MARK, column, reference_label, words
from domain_experts.reporting.frame import Frames, frames, over_seeds
from domain_experts.reporting.kinds import forest, lines, notice
from domain_experts.reporting.notes import missing_notes, seeds_text, stale_notes
from domain_experts.reporting.published import published
from domain_experts.reporting.searching import search_figure
from domain_experts.reporting.spec import (
    RUNS,
    Spec,
    band_notes,
    banded,
    head,
    joined,
    several,
)
from domain_experts.reporting.statistics import interval_notes, summed
from domain_experts.reporting.style import save, styled
from domain_experts.results import STALE
from domain_experts.study import Study

ABOUT = {make.__name__: make for make in (*overall.FIGURES, *inside.FIGURES)}


@dataclass(frozen=True)
class Drawn:
    """A picture and its caption."""

    figure: Figure
    caption: str


def write_figures(study: Study, names: Iterable[str]) -> None:
    """Write figures/<tier>/<name>.png, .pdf and .txt, its caption, of each name.

    Raises:
        UserError: the results are missing or cannot be used.
    """
    of, wanted = frames(study), [*names]
    if sys.platform != "linux" or len(wanted) == 1:
        _write(of, wanted)
        return
    # what all share is read before the processes part, as many as there are cores
    _ = of.runs, of.domains, of.curves
    cores = min(len(os.sched_getaffinity(0)), len(wanted))
    with ProcessPoolExecutor(cores, get_context("fork"), _hold, (of,)) as pool:
        [*pool.map(_write_held, wanted)]


_HELD: list[Frames] = []


def _hold(of: Frames) -> None:
    _HELD[:] = [of]


def _write_held(name: str) -> None:
    _write(_HELD[0], [name])


def _write(of: Frames, names: Iterable[str]) -> None:
    folder = layout.figures(of.study.tier)
    for name in names:
        with styled():
            drawn = draw(of, name)
            save(drawn.figure, folder, name)
        write_text(folder / f"{name}.txt", drawn.caption)


def draw(of: Frames, name: str) -> Drawn:
    """One of the figures that `catalog.figure_names` lists, with its caption."""
    spec = ABOUT[name](of) if name in ABOUT else experiment(of, name)
    first, missing = [spec.question, f"Tier {of.study.tier}."], missing_notes(spec.runs)
    left_out = [f"{text}." for text in spec.left_out]
    if spec.data.empty:
        why = [*(left_out or [spec.missing]), *missing]
        return Drawn(notice(" ".join(why)), "\n".join([*first, *why]) + "\n")
    data = spec.data.assign(stale=spec.data["status"] == STALE)
    drawing = spec.kind(data)
    if data["stale"].any():
        first.append(f"Hollow points, or {STALE_MARK} in a panel's title: stale.")
    left_out += [f"{text}." for text in drawing.left_out]
    stale = stale_notes(of, spec.runs)
    said = [*first, spec.says, seeds_text(spec.runs), *left_out, *stale, *missing]
    return Drawn(drawing.figure, "\n".join(said) + "\n")


def experiment(of: Frames, name: str) -> Spec:
    """An experiment: its metric against the number it varies, else differences; or its searches."""
    if name.endswith(SEARCH) and name not in of.study.expected:
        return search_figure(of, name.removesuffix(SEARCH))
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
    panel, row, nothing = frame["dataset"], arm, backbone.map(lambda _: "")
    hue = backbone.replace("", "no backbone") if several(backbone) else backbone
    order = {pair: i for i, pair in enumerate(product(ARMS, [NO_BACKBONE, *BACKBONES]))}
    place = [order[pair] for pair in zip(frame["arm"], frame["backbone"], strict=True)]
    if crowded := isinstance(spec.arms, dict):  # each arm has backbones of its own
        row, hue = joined(arm, backbone), nothing
    # one arm with several backbones, as the family of multi-domain models: they are the rows
    models = frame.duplicated(["dataset", "arm", "variant"]).any()
    if several(variant) and crowded and models:
        hue = variant
    elif several(variant):
        panel, row = joined(panel, arm) if several(arm) else panel, variant
        place = [0] * len(frame)
    elif not crowded and not several(backbone) and len({*panel}) >= len({*row}):
        panel, row, hue, place = nothing, panel, row, [0] * len(frame)
    frame = frame.assign(panel=panel, y=row, hue=hue, x=frame["gain"], place=place)
    data = banded(of, frame.assign(metric=spec.metric))
    label = f"Difference in test {head(spec.metric)} to {reference_label(spec.references[0])}"
    side = {"higher": "; below 0: worse", "lower": "; above 0: worse"}
    worse = side.get(column(spec.metric).better or "", "")
    says = " ".join([f"{label}{worse}.", *interval_notes(data["low"]), *band_notes(data)])
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
    data["metric"] = data["metric"].map(head)
    data["x"] = data["x"].mask(data["level"])
    count = data.groupby(["dataset", "metric"], sort=False)["x"].nunique()
    lone = "; ".join(map(", ".join, count[count < 2].index))
    data = data[data.groupby(["dataset", "metric"])["x"].transform("nunique") > 1]
    many = several(data["metric"])
    panel = joined(data["dataset"], data["metric"]) if many else data["dataset"]
    said = words(data, {})
    hue = joined(said["arm"], said["backbone"]) if several(data["backbone"]) else said["arm"]
    data = data.assign(panel=panel, hue=hue)
    short = key.rsplit(".", 1)[-1]
    best = data[data["metric"] == head(spec.metric)].merge(
        published(f"best_{short}"), on=["dataset", "backbone", "arm"]
    )
    at = dict(zip(best["panel"], best[f"published_best_{short}"], strict=True))
    kind = partial(
        lines,
        label=_setting_name(key),
        y_label="Test value" if many else f"Test {head(spec.metric)}",
        marks={name: (value, "published as best") for name, value in at.items()},
    )
    says = f"Test {', '.join(dict.fromkeys(data['metric']))} against {key}."
    says += " Bars: standard deviation over seeds." * bool((data["low"] < data["high"]).any())
    says += " Dotted level: an arm that does not read the setting." * bool(data["level"].any())
    told = f"Not drawn, as a line takes numbers at 2 values of {key}: {lone}"
    left_out = (told,) * bool(lone)
    return Spec(data, kind, of.of(name), spec.question, says, left_out=left_out)


def _setting_name(key: str) -> str:
    """What an axis calls a setting: "M3oE shared experts" of `multi_model.m3oe.shared_experts`."""
    owner, setting = key.split(".")[-2:]
    label = BACKBONES[owner].label if owner in BACKBONES else owner.capitalize()
    return f"{label} {setting}".replace("_", " ")
