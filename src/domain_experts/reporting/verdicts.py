"""Verdicts on the claims of the ledger: each computed from results by the claim's rule alone."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from domain_experts.registry import ARMS, BEST_FLOOR
from domain_experts.reporting.claims import (
    PUBLISHED,
    Entry,
    Gain,
    Rule,
    Trend,
    Value,
    load_claims,
)
from domain_experts.reporting.columns import column, reference_label, run_label, stale_marked
from domain_experts.reporting.frame import KEYS, WITH_NUMBERS, Frames, over_status
from domain_experts.reporting.notes import stale_notes
from domain_experts.reporting.published import published
from domain_experts.reporting.render import MISSING, Shown, Table, number
from domain_experts.reporting.statistics import (
    BETTER,
    EQUIVALENT,
    WORSE,
    interval_notes,
    margin_of,
    summed,
    verdict,
)
from domain_experts.results import ABSENT, NOT_RUN, STALE
from domain_experts.runs import DEFAULT_VARIANT

SUPPORTED, CONTRADICTED = "supported", "contradicted"
UNSUPPORTED, UNTESTABLE = "not supported", "not testable"
VERDICTS = (SUPPORTED, CONTRADICTED, EQUIVALENT, UNSUPPORTED, UNTESTABLE)
"""Of a single comparison `not supported` means that its interval leaves it open."""
MEANS = (
    "Each verdict is computed by the claim's rule in `claims/` from intervals of 95 %. Supported: "
    "the claimed side of 0; contradicted: the other side; equivalent: within ± the margin, so that "
    "the difference does not matter; not supported: the interval leaves the claim open; not "
    "testable: so many comparisons could not be made that they might turn the verdict. Intervals "
    "are not adjusted for their number: support of `all` comparisons is conservative, but one of "
    "them may contradict it by chance, as one may support `any`; nor is there a correction over "
    "claims."
)
FACTORS = (0.5, 2.0)
"""Of the margin: does the verdict depend on it?"""
_ERRORS = ("se", "user_se")
_WHO = ["dataset", "backbone", "arm", "variant"]
_EVIDENCE = [
    *("claim", "experiment", *_WHO, "over", "metric", "gain", "low", "high", "error", "margin"),
    *("seeds", "status", "verdict", "why", "published"),
]


@dataclass(frozen=True)
class Verdict:
    """A claim with its evidence, a row a comparison, and what its rule makes of it."""

    entry: Entry
    evidence: pd.DataFrame
    """_EVIDENCE; of a trend a row is a straight line's rise."""
    verdict: str
    others: tuple[str, ...]
    """With the margin times each of FACTORS."""

    @property
    def status(self) -> str:
        """Stale if any number that it rests on is."""
        tested = self.evidence[self.evidence["verdict"] != UNTESTABLE]
        return over_status(tested["status"]) if len(tested) else NOT_RUN

    @property
    def text(self) -> str:
        """The verdict, marked if it is stale."""
        return stale_marked(self.verdict, "" if self.verdict == UNTESTABLE else self.status)


@lru_cache(maxsize=1)
def decided(of: Frames) -> tuple[Verdict, ...]:
    """Verdicts on all claims of the ledger, in its order.

    Raises:
        UserError: the ledger cannot be used.
    """
    return tuple(_verdict(of, entry) for entry in load_claims(of.study))


def judged(expect: str, low: float, high: float, margin: float, lower: bool = False) -> str:
    """What a 95 % interval says of one comparison, by the rule of `statistics.verdict`.

    Args:
        expect: what the claim says.
        low: lower end.
        high: upper end.
        margin: differences within it do not matter; NaN: none is set.
        lower: lower values of the metric are better.
    """
    found = verdict(low, high, margin, lower)
    no_better = -low <= margin if lower else high <= margin
    holds, fails = {
        "better": (found == BETTER, found == WORSE),
        "above": (found == BETTER, found == WORSE),
        "worse": (found == WORSE, found == BETTER),
        "below": (found == WORSE, found == BETTER),
        "same": (found == EQUIVALENT, found in (BETTER, WORSE)),
        "not better": (found in (WORSE, EQUIVALENT) or no_better, found == BETTER),
    }[expect]
    if holds:
        return SUPPORTED
    if fails:
        return CONTRADICTED
    return EQUIVALENT if found == EQUIVALENT else UNSUPPORTED


def combined(found: list[str], combine: str) -> str:
    """The verdict over comparisons: one that those which could not be made cannot turn.

    `all` is contradicted by one comparison, `any` supported by one; `most` is more than half.
    """
    counts, n = Counter(found), len(found)
    if not n:
        return UNTESTABLE
    needed = {"all": n, "any": 1, "most": n // 2 + 1}[combine]
    against = {"all": 1, "any": n, "most": n // 2 + 1}[combine]
    if counts[SUPPORTED] >= needed:
        return SUPPORTED
    if counts[CONTRADICTED] >= against:
        return CONTRADICTED
    if counts[SUPPORTED] + counts[UNTESTABLE] >= needed:
        return UNTESTABLE
    if counts[EQUIVALENT] >= (n // 2 + 1 if combine == "most" else n):
        return EQUIVALENT
    return UNSUPPORTED


def counts(of: Frames) -> list[str]:
    """How many claims of each paper have which verdict: a sentence a paper."""
    by_paper: dict[str, list[str]] = {}
    for one in decided(of):
        by_paper.setdefault(one.entry.paper, []).append(one.verdict)
    said = []
    for paper, found in by_paper.items():
        each = Counter(found)
        parts = ", ".join(f"{each[verdict]} {verdict}" for verdict in VERDICTS if each[verdict])
        said.append(f"{paper}: of {len(found)} claims {parts}.")
    return said


def verdicts(of: Frames) -> Table:
    """Every claim with its verdict, the evidence in short, and what a paper prints."""
    found = decided(of)
    printed = pd.DataFrame(
        {
            "Of": [one.entry.paper for one in found],
            "Claim": [one.entry.claim.says for one in found],
            "Verdict": [one.text for one in found],
            "Evidence": [_in_short(of, one) for one in found],
            "Published": [_published(one) for one in found],
        },
        dtype="str",
    )
    columns = [
        Shown("Seeds", [_span_of(one.evidence["seeds"], 0) for one in found]),
        Shown("Half, double margin", [_sensitivity(one) for one in found]),
        Shown("Name", [one.entry.claim.id for one in found]),
    ]
    rows = [
        {
            "claim": one.entry.claim.id,
            "paper": one.entry.paper,
            "source": one.entry.claim.source,
            "verdict": one.verdict,
            "status": one.status,
            **{name: int((one.evidence["verdict"] == name).sum()) for name in VERDICTS},
            **{f"at margin x {f:g}": v for f, v in zip(FACTORS, one.others, strict=True)},
        }
        for one in found
    ]
    caption = f"Which claims hold? Tier {of.study.tier}."
    notes = [MEANS, *counts(of), *_notes(found), *_stale(of, found)]
    return Table.of("verdicts", caption, pd.DataFrame(rows), printed, columns, notes)


def evidence(of: Frames) -> Table:
    """Every comparison that claims rest on."""
    caption = f"What the verdicts rest on: every comparison of every claim. Tier {of.study.tier}."
    return _evidence(of, caption, decided(of))


def evidence_of(of: Frames, one: Verdict) -> Table:
    """The comparisons that one claim rests on."""
    return _evidence(of, one.entry.claim.says, (one,))


def _evidence(of: Frames, caption: str, found: Sequence[Verdict]) -> Table:
    parts = [one.evidence for one in found]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_EVIDENCE)
    rows = frame.to_dict("records")
    named = pd.DataFrame(
        {
            "Claim": frame["claim"],
            "Table": frame["experiment"],
            "Data set": frame["dataset"],
            "Who": [_who(of, row) for row in rows],
            "Against": [_against(row) for row in rows],
            "Verdict": [row["why"] or row["verdict"] for row in rows],
        },
        dtype="str",
    )
    columns = [
        Shown("Metric", [column(row["metric"]).head for row in rows]),
        Shown("Difference", [_marked(row, row["gain"]) for row in rows]),
        Shown("95 % interval", [_interval(row) for row in rows]),
        Shown("Margin", [f"{row['margin']:g}".replace("nan", MISSING) for row in rows]),
        Shown("Seeds", [number(row["seeds"], 0) for row in rows]),
        Shown("Published", [number(row["published"], signed=True) for row in rows]),
    ]
    notes = [*_notes(found), *_stale(of, found)]
    return Table.of("evidence", caption, frame, named, columns, notes)


def _verdict(of: Frames, entry: Entry) -> Verdict:
    frame, rule = _found(of, entry), entry.claim.rule
    lower = [_lower(rule, metric) for metric in frame["metric"]]
    rows = [*zip(*(frame[name] for name in ("why", "low", "high", "margin")), lower, strict=True)]

    def at(factor: float) -> list[str]:
        return [
            UNTESTABLE if why else judged(rule.expect, low, high, margin * factor, is_lower)
            for why, low, high, margin, is_lower in rows
        ]

    whole, *others = (combined(at(factor), rule.combine) for factor in (1.0, *FACTORS))
    frame = frame.assign(verdict=at(1.0), claim=entry.claim.id)
    return Verdict(entry, frame[_EVIDENCE], whole, tuple(others))


def _lower(rule: Rule, metric: str) -> bool:
    """Whether lower values are better; what is held against a number is neither."""
    return not isinstance(rule, Value) and column(metric).better == "lower"


def _found(of: Frames, entry: Entry) -> pd.DataFrame:
    """A claim's comparisons: _EVIDENCE, less what is decided from them."""
    rule, parts = entry.claim.rule, []
    for name in rule.experiments:
        metric = rule.metric or of.study.params.experiments[name].metric
        if isinstance(rule, Gain):
            found = _chosen(_means(of, name, metric), rule)
            found = found[found["over"] == rule.over]
            found = found.merge(_published_gains(rule.over, metric), "left", _WHO)
        elif isinstance(rule, Trend):
            frame = _chosen(_gains(of, name, metric), rule)
            found = _over_seeds(_rises(frame[frame["over"] == rule.over], rule))
        else:
            found = _over_seeds(_values(_chosen(of.of(name), rule), rule, metric))
        own = margin_of(of.study.params, metric) if rule.margin is None else rule.margin
        found = found.reindex(columns=[*dict.fromkeys([*found.columns, "published"])])
        why = _untestable(found, rule.min_seeds)
        parts.append(found.assign(why=why, experiment=name, metric=metric, margin=own))
    every = pd.concat(parts, ignore_index=True)
    # experiments may share a comparison, and one may lack runs or seeds of it
    fullest = every.sort_values("seeds", ascending=False, kind="stable").drop_duplicates(_WHO)
    return fullest.sort_index(ignore_index=True)


def _over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Differences over seeds with intervals, and why some have no number."""
    keys = [*_WHO, "over"]
    every = frame.groupby(keys, sort=False)["status"].agg(_worst).to_frame("without")
    means = summed(frame, _WHO).set_index(keys)[
        ["status", "gain", "gain_n", "low", "high", "error"]
    ]
    found = every.join(means).reset_index().rename(columns={"gain_n": "seeds"})
    found["seeds"] = found["seeds"].fillna(0)
    found["status"] = found["status"].fillna(found["without"])
    return found


# one for all claims: each is about some of its rows
@lru_cache(maxsize=64)
def _means(of: Frames, experiment: str, metric: str) -> pd.DataFrame:
    return _over_seeds(_gains(of, experiment, metric))


def _untestable(found: pd.DataFrame, min_seeds: int) -> list[str]:
    """Why a difference cannot be judged; empty if it can."""
    few = found["seeds"].map(lambda n: f"{n:.0f} of {min_seeds} seeds")
    why = np.select(
        [found["seeds"] == 0, found["seeds"] < min_seeds, found["low"].isna()],
        [found["without"], few, "no interval"],
        "",
    )
    return [*map(str, why)]


def _worst(status: "pd.Series[str]") -> str:
    """Why there is no number, if there is none."""
    return ABSENT if (status == ABSENT).any() else NOT_RUN


def _chosen(frame: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """The rows that a rule is about."""
    arm = frame["arm"]
    wanted = (
        (rule.datasets, frame["dataset"].isin(rule.datasets)),
        (rule.backbones, frame["backbone"].isin(rule.backbones)),
        (rule.variants, frame["variant"].isin(rule.variants)),
        (rule.arms, arm.isin(rule.arms) | (arm + "/" + frame["backbone"]).isin(rule.arms)),
    )
    for names, chosen in wanted:
        frame = frame[chosen[frame.index]] if names else frame
    return frame


@lru_cache(maxsize=64)
def _gains(of: Frames, experiment: str, metric: str) -> pd.DataFrame:
    """Differences of an experiment; their status says why one has no number."""
    frame = of.gains(experiment, metric)
    known = ~frame["status"].isin(WITH_NUMBERS) | frame["gain"].notna()
    frame["status"] = frame["status"].where(known, frame["other_status"])
    # which floor is the best is not known before one has numbers
    wanted = {
        run.path.as_posix()
        for run, _, over in of.study.comparisons(experiment)
        if over == BEST_FLOOR
    } - set(frame.loc[frame["over"] == BEST_FLOOR, "run"])
    lost = of.runs[of.runs["run"].isin(wanted)]
    status = lost["status"].mask(lost["status"].isin(WITH_NUMBERS), NOT_RUN)
    lost = lost[["run", "task", *_WHO, "seed"]].assign(status=status, over=BEST_FLOOR)
    return pd.concat([frame, lost], ignore_index=True)


def _values(runs: pd.DataFrame, rule: Value, metric: str) -> pd.DataFrame:
    """Values less what they are held against, as differences of one seed."""
    runs = runs.reindex(columns=[*dict.fromkeys([*runs.columns, metric])])
    known = published(metric).rename(columns={f"published_{metric}": "known"})
    against = runs.merge(known, "left", KEYS)["known"].to_numpy()
    errors = {name: runs.get(f"{metric}_{name}", np.nan) for name in _ERRORS}
    if rule.against != PUBLISHED:
        is_number = isinstance(rule.against, float)
        other = rule.against if is_number else runs.get(rule.against, np.nan)
        against = np.broadcast_to(np.asarray(other, dtype=float), len(runs))
        if not is_number:
            # of two values on the same rows, whose correlation is not stored
            errors = dict.fromkeys(_ERRORS, np.nan)
    gain = runs[metric] - against
    return runs.assign(gain=gain, **errors, over=str(rule.against))


def _rises(frame: pd.DataFrame, rule: Trend) -> pd.DataFrame:
    """By seed, how far a straight line over the levels, evenly spaced, rises from end to end."""
    key = rule.along.removesuffix("s")
    order = {name: place for place, name in enumerate(getattr(rule, rule.along))}
    rows = []
    alike = [name for name in _WHO if name != key]
    for who, own in frame.groupby(alike, sort=False):
        levels = sorted(set(own[key]), key=order.__getitem__)
        x = np.linspace(-0.5, 0.5, len(levels))
        slope = pd.Series(x / np.square(x).sum() if len(levels) > 1 else np.nan, levels)
        for seed, of_seed in own.groupby("seed", sort=False):
            weights = slope[of_seed[key]].to_numpy()
            whole = len(of_seed) == len(levels)
            # other data sets have other test rows; variants share them, so that theirs is unknown
            known = whole and key == "dataset"
            errors = {
                name: np.sqrt(np.square(weights * of_seed[name]).sum(skipna=False))
                if known
                else np.nan
                for name in _ERRORS
            }
            rows.append(
                dict(zip(alike, who, strict=True))
                | {
                    key: f"{levels[0]} … {levels[-1]}",
                    "seed": seed,
                    "over": rule.over,
                    "status": _of_trend(of_seed["status"]),
                    "gain": (weights * of_seed["gain"]).sum(skipna=False) if whole else np.nan,
                }
                | errors
            )
    return pd.DataFrame(rows, columns=[*_WHO, "seed", "over", "status", "gain", *_ERRORS])


def _of_trend(status: "pd.Series[str]") -> str:
    """Of all its levels: there is no line if one of them lacks numbers."""
    without = status[~status.isin(WITH_NUMBERS)]
    return _worst(without) if len(without) else over_status(status)


def _published_gains(over: str, metric: str) -> pd.DataFrame:
    """Differences of published values, as far as both are known; of several tasks the mean."""
    known = published(metric)[[*_WHO, f"published_{metric}"]]
    arm, _, backbone = over.partition("/")
    other = known.rename(columns={f"published_{metric}": "other"})
    if arm == DEFAULT_VARIANT:
        on = ["dataset", "backbone", "arm"]
        other = other[other["variant"] == DEFAULT_VARIANT]
    else:
        on = ["dataset"] if backbone else ["dataset", "backbone"]
        other = other[(other["arm"] == arm) & (other["variant"] == DEFAULT_VARIANT)]
        other = other[other["backbone"] == backbone] if backbone else other
    both = known.merge(other[[*on, "other"]], on=on)
    gains = both.assign(published=both[f"published_{metric}"] - both["other"])
    return gains.groupby(_WHO)["published"].mean().reset_index()


def _in_short(of: Frames, one: Verdict) -> str:
    """The evidence in a cell."""
    frame = one.evidence
    tested = frame[frame["verdict"] != UNTESTABLE]
    parts = []
    if len(tested) == 1:
        (row,) = tested.to_dict("records")
        who = f"{_who(of, row)} against {_against(row)} on {row['dataset']}"
        parts.append(f"{who}: {_marked(row, row['gain'])} ({_interval(row)})")
    elif len(tested):
        each = Counter(tested["verdict"])
        said = ", ".join(f"{each[verdict]} {verdict}" for verdict in VERDICTS if each[verdict])
        span = stale_marked(_span_of(tested["gain"], signed=True), over_status(tested["status"]))
        parts.append(f"{len(tested)} comparisons: {said}; differences of {span}")
    untested = frame[frame["verdict"] == UNTESTABLE]
    for why, own in untested.groupby("why", sort=False):
        names = ", ".join(dict.fromkeys(own["dataset"]))
        parts.append(f"{why}: {len(own)} of {len(frame)} ({names})")
    if frame.empty:
        parts.append(f"no part of tier {of.study.tier}")
    if one.verdict == UNTESTABLE and one.entry.claim.nearest:
        known = {other.entry.claim.id: other for other in decided(of)}
        near = (f"{name} ({known[name].text})" for name in one.entry.claim.nearest)
        parts.append(f"nearest evidence: {', '.join(near)}")
    tables = ", ".join(dict.fromkeys(frame["experiment"]))
    return "; ".join(parts) + f" [{tables}]" * bool(tables)


def _published(one: Verdict) -> str:
    """What the paper prints."""
    known = one.evidence["published"].dropna()
    return one.entry.claim.published or _span_of(known, signed=True)


def _span_of(values: "pd.Series[float]", digits: int = 4, signed: bool = False) -> str:
    if values.isna().all():
        return MISSING
    ends = (number(value, digits, signed) for value in (values.min(), values.max()))
    return " to ".join(dict.fromkeys(ends))


def _sensitivity(one: Verdict) -> str:
    """The verdicts with other margins, if there are others."""
    return "same" if {*one.others} == {one.verdict} else ", ".join(one.others)


def _who(of: Frames, row: Mapping[Hashable, Any]) -> str:
    labels = of.study.params.experiments[row["experiment"]].labels | {DEFAULT_VARIANT: ""}
    return run_label(row["arm"], row["backbone"], labels.get(row["variant"], row["variant"]))


def _against(row: Mapping[Hashable, Any]) -> str:
    known = row["over"].partition("/")[0] in (*ARMS, DEFAULT_VARIANT, BEST_FLOOR)
    return reference_label(row["over"]) if known else column(row["over"]).head


def _marked(row: Mapping[Hashable, Any], value: float) -> str:
    return stale_marked(number(value, signed=True), row["status"])


def _interval(row: Mapping[Hashable, Any]) -> str:
    if pd.isna(row["low"]):
        return MISSING
    return f"{number(row['low'], signed=True)} to {_marked(row, row['high'])}"


def _notes(found: Sequence[Verdict]) -> list[str]:
    """How the intervals are made."""
    parts = [one.evidence.loc[one.evidence["seeds"] > 0, ["low", "error"]] for one in found]
    frame = pd.concat(parts) if parts else pd.DataFrame({"low": [], "error": []})
    return interval_notes(frame["low"].astype(float), frame["error"])


def _stale(of: Frames, found: Sequence[Verdict]) -> list[str]:
    return stale_notes(of, of.about) if any(one.status == STALE for one in found) else []
