"""What a figure shows before it is drawn, and the words that figures share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import pandas as pd

from domain_experts.reporting.columns import column
from domain_experts.reporting.frame import Frames
from domain_experts.reporting.grid import Drawing
from domain_experts.reporting.noise import noise_band, of_means

RUNS = ["dataset", "backbone", "arm", "variant"]
"""What tells points apart; their runs differ by seed alone."""


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


@lru_cache(maxsize=1)
def _bands(of: Frames) -> pd.DataFrame:
    return noise_band(of)[["dataset", "metric", "band"]].astype({"band": float})


def banded(of: Frames, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the `band` of noise around each row's mean over seeds.

    Args:
        of: the study.
        frame: has `dataset`, `metric` and the number of seeds, `gain_n`.
    """
    found = frame.merge(_bands(of), "left", ["dataset", "metric"])
    return found.assign(band=of_means(found["band"], found["gain_n"]))


def band_notes(frame: pd.DataFrame) -> list[str]:
    """What the shaded band is, and where it is not known."""
    if frame["band"].isna().all():
        return ["No band of noise is shaded: it is not known on these data."]
    lacking = ", ".join(dict.fromkeys(frame.loc[frame["band"].isna(), "dataset"]))
    known = (
        "Shaded: a proxy for the machine's noise, the largest change of a difference of single "
        "runs when their initial weights are others by one rounding, over the root of the number "
        "of seeds."
    )
    return [known] + [f"Not known on {lacking}."] * bool(lacking)


def joined(first: "pd.Series[str]", second: "pd.Series[str]") -> "pd.Series[str]":
    """Two words with a comma between them, where both say something."""
    pairs = zip(first, second, strict=True)
    return pd.Series([", ".join(filter(None, pair)) for pair in pairs], first.index, dtype="str")


def several(values: "pd.Series[str]") -> bool:
    """Whether they are not all the same."""
    return len({*values}) > 1


def head(metric: str) -> str:
    """A metric within a sentence."""
    found = column(metric).head
    return found if found[:2].isupper() else found[:1].lower() + found[1:]
