"""What searches found: chosen settings, and how good a choice a smaller budget would have made."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import comb

from domain_experts.reporting.columns import STALE_MARK, STALE_MEANS, column, stale_marked, words
from domain_experts.reporting.frame import Frames
from domain_experts.reporting.kinds import lines
from domain_experts.reporting.render import MISSING, Shown, Table, number
from domain_experts.reporting.spec import Spec, joined
from domain_experts.results import STALE
from domain_experts.runs import key_name

BUDGETS = (1, 2, 5, 10, 20, 50)
"""Numbers of trials whose expected best is shown."""
EXPECTED = (
    "Expected best of n trials: the mean of the best validation value over all ways to take n of "
    "the trials that were made (Dodge et al. 2019, without replacement). TPE draws later trials "
    "where earlier ones were good, so that a search of n trials of its own may find less."
)


def trials(of: Frames, experiment: str) -> pd.DataFrame:
    """A row for each trial of an experiment's searches.

    Columns: dataset, backbone, arm, status, trial (from 1), settings (in words), own (not of the
    search that it starts from), default (as the settings are without a search), value (NaN if it
    was pruned or is not own), best (so far), passes (over the training rows, so far).
    """
    rows = []
    for search, status in of.results.searches.items():
        if search.experiment != experiment:
            continue
        record, passes = of.results.found[search], 0.0
        default = {key: of.study.default(search, key) for key in of.study.space(search)}
        for n, trial in enumerate(record["trials"], start=1):
            passes += trial["rows_visited"] / record["rows"]
            rows.append(
                {
                    "dataset": search.dataset,
                    "backbone": search.backbone,
                    "arm": search.arm,
                    "status": status,
                    "trial": n,
                    "settings": _said(trial["settings"]),
                    "chosen": trial["settings"] == record["chosen"],
                    "own": trial["arm"] == search.arm,
                    "default": trial["settings"] == default,
                    "value": np.nan if trial["value"] is None else trial["value"],
                    "passes": passes,
                }
            )
    names = [*_SEARCH, "status", "trial", "settings", "chosen", "own", "default", "value"]
    frame = pd.DataFrame(rows, columns=[*names, "passes"]).astype(
        {"own": bool, "default": bool, "value": float}
    )
    frame["best"] = frame.groupby(_SEARCH)["value"].cummax()
    return frame


_SEARCH = ["dataset", "backbone", "arm"]


def expected_best(values: Sequence[float], n: int) -> float:
    """Mean of the best of n values drawn without replacement; NaN if there are fewer.

    Of N values, the k-th smallest is the best of comb(k - 1, n - 1) of comb(N, n) draws.
    """
    ordered = np.sort(np.asarray(values, float))
    if n > len(ordered):
        return float("nan")
    ways = comb(np.arange(len(ordered)), n - 1)
    return float(np.sum(ordered * ways) / np.sum(ways))


def _expected(trials: pd.DataFrame, n: int) -> float:
    """Expected best of n trials, of which those of an earlier search came first and stay."""
    own = n - int((~trials["own"]).sum())
    return expected_best(trials["value"].dropna().tolist(), own) if own > 0 else float("nan")


def search_table(of: Frames, name: str, experiment: str) -> Table:
    """Each search: its budget, what the default and the best trial gave, and what was chosen."""
    found = trials(of, experiment)
    metric = column(of.study.params.experiments[experiment].metric).head
    rows = []
    for key, own in found.groupby(_SEARCH, sort=False):
        rows.append(
            dict(zip(_SEARCH, key, strict=True))
            | {
                "status": own["status"].iloc[0],
                "trials": len(own),
                "earlier": int((~own["own"]).sum()),
                "passes": own["passes"].iloc[-1],
                "default": own["value"].where(own["default"]).max(),
                "best": own["best"].iloc[-1],
                "settings": own.loc[own["chosen"], "settings"].iloc[0],
                **{f"best of {n}": _expected(own, n) for n in BUDGETS},
            }
        )
    budgets = [f"best of {n}" for n in BUDGETS]
    names = [
        *_SEARCH,
        "status",
        "trials",
        "earlier",
        "passes",
        "default",
        "best",
        *budgets,
        "settings",
    ]
    frame = pd.DataFrame(rows, columns=names)
    stale = frame["status"]

    def cells(value: str, digits: int = 4) -> list[str]:
        texts = [number(own, digits) for own in frame[value]]
        return [stale_marked(text, of) for text, of in zip(texts, stale, strict=True)]

    alike = frame[["dataset"]]
    spec = column("wauc")
    columns = [
        Shown("Trials", cells("trials", 0)),
        *[Shown("of an earlier search", cells("earlier", 0))] * bool(frame["earlier"].any()),
        Shown("Passes over the rows", cells("passes", 0)),
        Shown(f"Validation {metric}, default", cells("default")),
        Shown("best", cells("best"), spec.ranks(frame["best"], alike)),
        *(
            Shown(f"expected best of {n}", cells(key), spec.ranks(frame[key], alike))
            for n, key in zip(BUDGETS, budgets, strict=True)
            if frame[key].notna().any()
        ),
        Shown(
            "Chosen settings",
            [stale_marked(t, s) for t, s in zip(frame["settings"], stale, strict=True)],
        ),
    ]
    own = words(frame, {})
    named = pd.DataFrame(
        {
            "Data set": frame["dataset"],
            "Backbone": own["backbone"].replace("", MISSING),
            "Arm": own["arm"],
        }
    )
    asked = [search for search in of.study.searches if search.experiment == experiment]
    lacking = len(asked) - len(frame)
    notes = [
        EXPECTED,
        *[f"{STALE_MARK} stale: {STALE_MEANS}."] * bool((stale == STALE).any()),
        *[f"{lacking} of {len(asked)} searches have not ended."] * bool(lacking),
    ]
    declared = of.study.params.experiments[experiment].search
    assert declared is not None
    tier = of.study.tier
    short = ", ".join(frame.loc[frame["trials"] < declared.trials[tier], "arm"].unique())
    notes += [f"The cap on passes ended the searches of {short} early."] * bool(short)
    caption = (
        f"Settings that the searches of `{experiment}` chose on validation rows. Each arm had "
        f"{declared.trials[tier]} trials, and {declared.passes[tier]:,} passes over the training "
        f"rows at most. Tier {tier}."
    )
    return Table.of(name, caption, frame, named, columns, notes)


def search_figure(of: Frames, experiment: str) -> Spec:
    """The best validation value so far by trial, and the expected best of so many trials."""
    found = trials(of, experiment)
    label = words(found, {})
    frame = found.assign(hue=joined(label["arm"], label["backbone"]), x=found["trial"])
    so_far = frame.assign(panel=frame["dataset"] + ", best so far", y=frame["best"])
    mean = frame.assign(panel=frame["dataset"] + ", expected best", y=np.nan)
    for _, own in mean.groupby(_SEARCH, sort=False):
        mean.loc[own.index, "y"] = [_expected(own, n) for n in own["trial"]]
    data = pd.concat([so_far, mean]).dropna(subset="y").sort_values("panel", kind="stable")
    metric = column(of.study.params.experiments[experiment].metric).head
    return Spec(
        data.assign(low=np.nan, high=np.nan),
        partial(lines, label="Trials", y_label=f"Validation {metric}", columns=2),
        of.of(experiment),
        f"What would a smaller budget have chosen in `{experiment}`?",
        EXPECTED,
        "No search has ended yet.",
    )


def _said(settings: Mapping[str, object]) -> str:
    """Settings in words, numbers with three digits."""
    return ", ".join(
        f"{key_name(key)} {f'{value:.3g}' if isinstance(value, float) else value}"
        for key, value in settings.items()
    )
