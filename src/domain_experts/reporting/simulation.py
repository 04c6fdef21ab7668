"""Do verdicts keep what they promise? Simulated studies of two arms, with and without an effect.

Both arms score the same test rows, of users in domains, in every seed. A score is binormal: by
class apart, and else the sum of what all runs share, of what an arm has for a user in every seed,
and of what is a run's own; runs differ in how well they separate the classes, too. So the
difference in WAUC that the arms would have on all users and over all seeds is known, and its errors
are those of real studies: rows of one user are not independent, and seeds share their test rows.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest, chi2

from domain_experts import layout
from domain_experts.evaluation.compare import Ranked, ranked, summaries
from domain_experts.evaluation.rows import Rows
from domain_experts.files import write_text
from domain_experts.reporting.grid import Drawing
from domain_experts.reporting.kinds import lines
from domain_experts.reporting.render import MISSING, Shown, Table, number, write_table
from domain_experts.reporting.statistics import (
    BETTER,
    BY_ROW,
    BY_USER,
    LEVEL,
    WORSE,
    bounds,
    summed,
    verdict,
)
from domain_experts.reporting.style import save, styled
from domain_experts.reporting.verdicts import CONTRADICTED, SUPPORTED, combined, judged

GRID = 400
"""Points of a distribution that means over it are taken at."""
EFFECTS = (0.0, 0.0025, 0.005, 0.0075)
SEEDS = (1, 2, 3, 5)
NAME = "power"
COMBINES = ("all", "most", "any")
DATASETS = 3
"""Independent data sets that a simulated claim is about."""
CLAIM_SEEDS = 3
"""Seeds of such a claim."""


@dataclass(frozen=True)
class Design:
    """A simulated study; shares are of a score's variance within a class."""

    studies: int = 400
    rows: int = 4000
    users: int = 400
    domains: int = 4
    auc: float = 0.75
    arms_user: float = 0.004
    """Share of what an arm adds for a user, in every seed."""
    runs_own: float = 0.001
    """Share of what is a run's own in single rows.

    Kept small: the interval counts it twice, in the error that rows bring and in the spread over
    seeds, so that with more of it intervals are wider than needed and the power is underrated.
    """
    runs_spread: float = 0.006
    """Standard deviation of the distance between the classes over runs."""


def write_simulation(margin: float) -> None:
    """Write results/simulation/power as table and figure.

    Args:
        margin: differences in AUC within it are equivalent.
    """
    frame = simulate(Design(), margin)
    folder, made = layout.SIMULATION, table(frame, Design())
    write_table(folder, made)
    with styled():
        save(figure(frame).figure, folder, NAME)
    write_text(folder / f"{NAME}.txt", "\n".join([made.caption, *made.notes]) + "\n")


def power(effect: float, sampling: float, spread: float, seeds: int) -> float:
    """The share of studies whose interval excludes 0, by the formula that plans them.

    The mean over seeds is normal around the effect, and the spread over seeds is estimated with the
    error of that many of them; the interval is that of `statistics.bounds`.

    Args:
        effect: true difference.
        sampling: standard error that the test users bring, the same in all seeds.
        spread: standard deviation over seeds.
        seeds: number of seeds; the interval of one does not know the spread, which is there.
    """
    error = np.sqrt(sampling**2 + spread**2 / seeds)
    estimated = np.array([0.0])
    if seeds > 1:
        middles = (np.arange(GRID) + 0.5) / GRID
        estimated = spread * np.sqrt(chi2.ppf(middles, seeds - 1) / (seeds - 1))
    made = bounds(np.zeros(len(estimated)), estimated, np.full(len(estimated), seeds), sampling)
    reach = made["high"] / error
    return float(np.mean(ndtr(effect / error - reach) + ndtr(-effect / error - reach)))


def simulate(design: Design, margin: float, seed: int = 0) -> pd.DataFrame:
    """Simulate studies and judge them as real ones are judged.

    Returns:
        A row for each effect, number of seeds and error (users or rows as independent): `studies`,
        `called` (the share called better or worse), its exact binomial interval `low`, `high`,
        `wrong` (the share called worse), `predicted`, the power that the formula gives with the
        mean errors of all studies, NaN where the interval takes rows as independent, and what
        `of_claims` gives, as `<combine> <verdict>`.
    """
    gains = pd.concat(
        [
            _study(design, np.random.default_rng([seed, study])).assign(study=study)
            for study in range(design.studies)
        ]
    )
    sampling = float(np.sqrt(np.mean(gains["user_se"] ** 2)))
    spread = float(np.sqrt(gains.groupby(["study", "effect"])["gain"].var().mean()))
    rows = []
    for seeds, error in product(SEEDS, (BY_USER, BY_ROW)):
        own = gains[gains["seed"] < seeds]
        # without the error by user that by row makes the interval
        found = summed(
            own if error == BY_USER else own.drop(columns="user_se"), ["study", "effect"]
        )
        said = map(verdict, found["low"], found["high"], [margin] * len(found))
        found = found.assign(verdict=[*said])
        for effect in EFFECTS:
            group = found[found["effect"] == effect]
            called = group["verdict"].isin([BETTER, WORSE])
            share = binomtest(int(called.sum()), len(group)).proportion_ci(LEVEL)
            wrong = (group["verdict"] == WORSE).mean()
            predicted = power(effect, sampling, spread, seeds) if error == BY_USER else np.nan
            claimed = [
                judged("better", low, high, margin)
                for low, high in zip(group["low"], group["high"], strict=True)
            ]
            rows.append(
                {
                    "effect": effect,
                    "seeds": seeds,
                    "error": error,
                    "studies": len(group),
                    "called": called.mean(),
                    "low": share.low,
                    "high": share.high,
                    "wrong": wrong,
                    "predicted": predicted,
                }
                | of_claims(claimed)
            )
    return pd.DataFrame(rows)


def of_claims(found: Iterable[str]) -> dict[str, float]:
    """How often a claim that an arm is better would be supported or contradicted.

    The claim is about DATASETS independent data sets, and is combined as the ledger does it. The
    probability is exact, given that comparisons are judged as often as the simulated ones.

    Args:
        found: what the ledger says of each simulated comparison.

    Returns:
        `<combine> <verdict>` -> probability.
    """
    counts = Counter(found)
    total, shares = counts.total(), {}
    for combine in COMBINES:
        for wanted in (SUPPORTED, CONTRADICTED):
            shares[f"{combine} {wanted}"] = sum(
                prod(counts[one] / total for one in each)
                for each in product(counts, repeat=DATASETS)
                if combined([*each], combine) == wanted
            )
    return shares


def _study(design: Design, rng: np.random.Generator) -> pd.DataFrame:
    """Gains of one study: a row for each effect and seed, with gain, se and user_se."""
    user = rng.integers(0, design.users, design.rows)
    domain = np.sort(rng.choice(design.domains, design.rows, p=_weights(design.domains)))
    # users differ in how much they like, as in how much they do
    taste = rng.normal(size=design.users)[user]
    labels = (taste + rng.normal(size=design.rows) > 0).astype(np.uint8)[:, None]
    names = tuple(map(str, range(design.domains)))
    rows = Rows(labels, domain, None, names, ("click",), user)
    alike = np.sqrt(1 - design.arms_user - design.runs_own) * rng.normal(size=design.rows)
    of_arms = np.sqrt(design.arms_user) * rng.normal(size=(2, design.users))[:, user]

    def score(distance: float, arm: int, own: np.ndarray, moved: float) -> Ranked:
        noise = alike + of_arms[arm] + np.sqrt(design.runs_own) * own
        return ranked((distance + moved) * labels + noise[:, None], rows)

    found = []
    for seed in range(max(SEEDS)):
        own = rng.normal(size=(2, design.rows))
        moved = design.runs_spread * rng.normal(size=2)
        base = score(_distance(design.auc), 0, own[0], moved[0])
        for effect in EFFECTS:
            other = score(_distance(design.auc + effect), 1, own[1], moved[1])
            # its first summary is that of WAUC
            gain = next(summaries(other - base, rows))
            found.append((effect, seed, gain.value, gain.error, gain.user_error))
    frame = pd.DataFrame(found, columns=["effect", "seed", "gain", "se", "user_se"])
    return frame.assign(over="base", status="current")


def _weights(domains: int) -> np.ndarray:
    weights = 0.7 ** np.arange(domains)
    return np.asarray(weights / weights.sum())


def _distance(auc: float) -> float:
    """Distance of two normal classes with this AUC, in standard deviations."""
    return float(np.sqrt(2) * ndtri(auc))


def table(frame: pd.DataFrame, design: Design) -> Table:
    """The shares as a table."""
    named = pd.DataFrame(
        {
            "Effect": [number(effect) for effect in frame["effect"]],
            "Seeds": frame["seeds"].astype(str),
            "Independent": frame["error"],
        }
    )
    percent = {"called": "Called", "wrong": "Called worse", "predicted": "Predicted"}
    columns = [Shown(head, [*map(_percent, frame[name])]) for name, head in percent.items()]
    low, high = ([*map(_percent, frame[end])] for end in ("low", "high"))
    between = [f"{one} to {two}" for one, two in zip(low, high, strict=True)]
    columns.insert(1, Shown("95 % interval", between))
    caption = (
        f"How often {design.studies} simulated studies of two arms are called better or worse, by "
        "the true difference in WAUC, the number of seeds and what the interval takes as "
        f"independent; {design.rows:,} test rows of {design.users} users in {design.domains} "
        "domains, the same in all seeds."
    )
    without = frame[frame["effect"] == 0].set_index(["error", "seeds"])["called"]
    several = without.drop(1, level="seeds").groupby("error").max()
    notes = [
        f"Without an effect at most {_percent(1 - LEVEL)} should be called. Of several seeds at "
        f"most {_percent(several[BY_USER])} are with users as independent and "
        f"{_percent(several[BY_ROW])} with rows; of one seed, whose interval does not know how "
        f"runs differ, {_percent(without[BY_USER, 1])} and {_percent(without[BY_ROW, 1])}: "
        "elsewhere one seed has no verdict.",
        _claims_note(frame),
        "Predicted: by a formula from the mean errors, which says how many seeds a study needs.",
    ]
    return Table.of(NAME, caption, frame, named, columns, notes)


def _claims_note(frame: pd.DataFrame) -> str:
    """What the ledger makes of arms that do not differ."""
    one = (frame["effect"] == 0) & (frame["seeds"] == CLAIM_SEEDS) & (frame["error"] == BY_USER)
    (row,) = frame[one].to_dict("records")
    parts = [
        f"`{combine}`: {_percent(row[f'{combine} {SUPPORTED}'])} {SUPPORTED}, "
        f"{_percent(row[f'{combine} {CONTRADICTED}'])} {CONTRADICTED}"
        for combine in COMBINES
    ]
    return (
        "A claim of the ledger that one arm is better, where none is, over "
        f"{DATASETS} independent data sets with {CLAIM_SEEDS} seeds, by how it is combined: "
        f"{'; '.join(parts)}. It is not corrected for how many comparisons it rests on."
    )


def _percent(share: float) -> str:
    text = number(100 * share, 1)
    return text if text == MISSING else f"{text} %"


def figure(frame: pd.DataFrame) -> Drawing:
    """Share called against the effect, and the predicted power beside."""
    called = {BY_USER: "called, users independent", BY_ROW: "called, rows independent"}
    own = frame.assign(hue=frame["error"].map(called), y=frame["called"])
    users = frame[frame["error"] == BY_USER]
    predicted = users.assign(hue="predicted, users independent", y=users["predicted"])
    predicted = predicted.assign(low=np.nan, high=np.nan)
    # of no x: drawn as a level
    nominal = predicted.drop_duplicates("seeds").assign(hue="nominal", effect=np.nan, y=1 - LEVEL)
    both = pd.concat([own, predicted, nominal], ignore_index=True)
    several = both["seeds"].map(lambda n: f"{n} seed{'s' * (n > 1)}")
    data = both.assign(panel=several, x=both["effect"], stale=False)
    return lines(data, "True difference in WAUC", "Share of studies called", columns=2)
