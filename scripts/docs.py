"""Fill README.md and pages of docs in from results: no number of theirs is typed.

The quick tier's results are not in git, so what is said of them is kept in docs/quick.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import jinja2
import pandas as pd

from domain_experts import layout
from domain_experts.evaluation.registry import AUCS
from domain_experts.methods import methods_table
from domain_experts.presence import load_study
from domain_experts.reporting.answer import answer, sentences
from domain_experts.reporting.cluster_plan import Profile, cluster_plan
from domain_experts.reporting.columns import STALE_MARK, column, stale_marked
from domain_experts.reporting.differences import differences
from domain_experts.reporting.frame import WITH_NUMBERS, Frames, frames, over_status
from domain_experts.reporting.published import published
from domain_experts.reporting.render import Table, markdown, number
from domain_experts.reporting.scaling import scaling
from domain_experts.reporting.statistics import summed
from domain_experts.reporting.verdicts import UNTESTABLE, counts, decided, verdicts
from domain_experts.results import STALE
from domain_experts.runs import SEARCH

TEMPLATES = {
    "README.md": "README.md",
    "paper.md": "docs/paper.md",
    "findings.md": "docs/findings.md",
    "all-methods.md": "docs/all-methods.md",
    "cluster.md": "docs/cluster.md",
    "faults.md": "docs/faults.md",
}
FAULTS = Path("results/faults")
FACTS = Path("docs/quick/facts.json")
MACHINES = Path("docs/quick/machines.csv")
PICTURE = "gain_by_domain"
NODE_CORES = 32
FEWEST = 3
"""Seeds from which a spread over them is told."""


def quick_facts() -> dict[str, object]:
    """What the README says of the quick tier, from its results."""
    of = frames(load_study("quick"))
    made = of.runs.drop_duplicates("run")
    seeds = sorted(made.loc[made["wauc"].notna(), "seed"].unique())
    return {
        "sentences": sentences(of),
        "seeds": f"{len(seeds)} seeds at most",
        "caption": (layout.figures("quick") / f"{PICTURE}.txt").read_text().split("\n")[0].strip(),
    }


def paper_facts(of: Frames) -> dict[str, object]:
    """What is said of the paper tier: the claims that could be decided, and its answer."""
    made = verdicts(of)
    known = [one.verdict != UNTESTABLE for one in decided(of)]
    shown = made.printed.loc[known, ["Of", "Claim", "Verdict", "Evidence"]]
    return {
        "verdicts": markdown(replace(made, caption="", printed=shown, notes=())).strip(),
        "counts": counts(of),
        "sentences": sentences(of),
    }


def cluster_facts(of: Frames) -> dict[str, object]:
    """What the paper tier takes on a cluster, and what would saturate with more rows."""
    profile = Profile.read("slurm")
    grown = scaling(of, profile.memory_mb, profile.minutes)
    assert grown is not None
    return {
        "node_cores": NODE_CORES,
        "plan": markdown(cluster_plan(of, profile, NODE_CORES)).strip(),
        "scaling": markdown(grown).strip(),
    }


def faults_facts() -> dict[str, object]:
    """What became of the studies that scripts/faults.py killed, and of its other faults."""
    kills, faults, soak = (
        pd.read_csv(FAULTS / f"{name}.csv") for name in ("kills", "faults", "soak")
    )
    kills["way"] = kills["way"].map(
        {"by_snakemake": "`snakemake`", "by_commands": "each command by itself"}
    )
    keys = [kills[name] for name in ("way", "whom", "moment")]
    counts = pd.crosstab(keys, kills["signal"])
    by = kills.groupby(["way", "whom", "moment"])
    counts["damaged a file"] = by["damage"].agg(lambda found: int((found == "yes").sum()))
    counts["equal bytes"] = by["equal"].sum()
    first = {"way": "Run by", "whom": "Who is killed", "moment": "When"}
    counts = counts.sort_index(ascending=False).reset_index().rename(columns=first)
    later = soak.iloc[len(soak) // 3 :]
    growth = later[["memory_mb", "in_use_mb"]].diff().mean()
    heads = {"fault": "Fault", "of": "Of what", "said": "What is said", "equal": "Equal bytes"}
    shown = faults[list(heads)].rename(columns=heads)
    shown["Equal bytes"] = shown["Equal bytes"].map({True: "yes", False: "NO"})
    shown["What is said"] = shown["What is said"].fillna("")
    return {
        "soak": {
            "studies": len(soak),
            "epochs": int(soak["epochs"].iloc[-1]),
            "growth": f"{growth['memory_mb']:.1f} MB",
            "in_use": f"{growth['in_use_mb']:.2f} MB",
        },
        "soak_table": _plain(soak.iloc[:: max(len(soak) // 6, 1)]),
        "kills": len(kills),
        "studies": kills["study"].nunique(),
        "in_writes": int((kills["moment"] != "any moment").sum()),
        "locked": int(kills["locked"].sum()),
        "refused": int(kills["unlock_refused"].sum()),
        "with_checkpoint": int((kills["checkpoints"] > 0).sum()),
        "unequal": int((~kills["equal"]).sum()),
        "damaged": int((kills["damage"] == "yes").sum()),
        "kill_table": _plain(counts),
        "faults": len(faults),
        "faults_equal": int(faults["equal"].sum()),
        "tracebacks": int(faults["traceback"].sum()),
        "fault_table": _plain(shown),
    }


def _plain(frame: pd.DataFrame) -> str:
    """A data frame as Markdown."""
    printed = frame.astype(str)
    return markdown(Table("", "", frame, printed, words=len(frame.columns))).strip()


def between_machines() -> str:
    """How far the same code's numbers are apart between processors, in words."""
    wide = pd.read_csv(MACHINES).pivot(
        index=["dataset", "backbone", "arm"], columns="machine", values="wauc"
    )
    apart = wide.max(axis=1) - wide.min(axis=1)
    moved = apart[apart > 5e-5]
    return (
        f"The same seeds on {wide.shape[1]} processors: {len(moved)} of {len(apart)} mean WAUCs of "
        f"the quick tier differ in the fourth digit, by up to {number(apart.max())}."
    )


class Filled:
    """Numbers of the paper tier as text, for the templates; each leads to its table."""

    def __init__(self, of: Frames) -> None:
        self.of, self.told = of, set[str]()

    def claims(self, *names: str) -> str:
        """How many of some claims hold, then each with verdict and evidence."""
        made = verdicts(self.of).printed.set_index("Name").loc[[*names]]
        self.told.update(names)
        words = made["Verdict"].str.removesuffix(STALE_MARK)
        counts = ", ".join(f"{n} {verdict}" for verdict, n in words.value_counts().items())
        lines = (
            f"- {own['Claim']} **{own['Verdict'].capitalize()}**: {own['Evidence']} "
            f"([{name}](../results/paper/tables/evidence.md))"
            for name, own in made.iterrows()
        )
        return "\n".join([f"Of {len(made)} claims: {counts}.", "", *lines])

    def other_claims(self) -> str:
        """Those that no part of the page had so far."""
        every = verdicts(self.of).printed["Name"]
        return self.claims(*every[~every.isin(self.told)])

    def answers(self, experiment: str) -> str:
        """On each data set the best on validation rows of all but the reference, a line each."""
        made, runs = answer(self.of).printed, self.of.of(experiment)
        runs = runs[runs["variant"].str.startswith(f"{SEARCH}=")]
        lines = []
        for row in made[made["Experiment"] == experiment].to_dict("records"):
            own = runs[runs["dataset"] == row["Data set"]].groupby(["backbone", "arm"])["status"]
            tuned = own.agg(lambda found: found.isin(WITH_NUMBERS).all())
            lines.append(
                f"- {row['Data set']} ({tuned.sum()} of {len(tuned)} methods are tuned): "
                f"{row['Best of the others']}, against {row['Against']} {row['Difference']} "
                f"({row['95 % interval']}; {row['Metric']}): {row['Verdict']}"
            )
        return "\n".join(lines) or "Not run."

    def noise(self) -> str:
        """By data set how far seeds move a difference, and how wide its interval is."""
        every = differences(self.of)
        known = every[every["metric"].isin(AUCS) & (every["seeds"] >= FEWEST)]
        half = (known["high"] - known["low"]) / 2
        groups = known.assign(half=half).groupby(["dataset", "metric"], sort=False)
        frame = groups.agg(
            count=("gain", "count"),
            sd=("gain_sd", "median"),
            half=("half", "median"),
            status=("status", over_status),
        ).reset_index()
        printed = pd.DataFrame(
            {
                "Data set": frame["dataset"],
                "Metric": [column(metric).head for metric in frame["metric"]],
                "Differences": frame["count"].map(str),
                **{
                    head: [*map(stale_marked, frame[name].map(number), frame["status"])]
                    for head, name in (
                        ("Deviation over seeds", "sd"),
                        ("Half of the 95 % interval", "half"),
                    )
                },
            }
        )
        return markdown(Table("", "", frame, printed, words=2)).strip()

    def value(self, experiment: str, dataset: str, backbone: str, arm: str, metric: str) -> str:
        """A mean over seeds of a run's default settings."""
        frame = self.of.of(experiment)
        return _linked(self._one(frame, dataset, backbone, arm, metric, signed=False), experiment)

    def gain(self, experiment: str, dataset: str, backbone: str, arm: str, over: str) -> str:
        """A mean difference in an experiment's metric with its interval."""
        frame = self.of.gains(experiment)
        frame = summed(frame[frame["over"] == over])
        return _linked(self._one(frame, dataset, backbone, arm, "gain", signed=True), experiment)

    def printed(self, dataset: str, backbone: str, arm: str, metric: str) -> str:
        """A published value."""
        frame = published(metric)
        own = frame[(frame["dataset"] == dataset) & (frame["backbone"] == backbone)]
        (value,) = own.loc[
            (own["arm"] == arm) & (own["variant"] == "default"), f"published_{metric}"
        ]
        return number(value)

    def _one(
        self, frame: pd.DataFrame, dataset: str, backbone: str, arm: str, value: str, signed: bool
    ) -> str:
        own = frame[(frame["dataset"] == dataset) & (frame["backbone"] == backbone)]
        own = own[(own["arm"] == arm) & (own["variant"] == "default")]
        known = own[own[value].notna()]
        if known.empty:
            return "not run"
        mark = STALE_MARK * bool((known["status"] == STALE).any())
        text = number(known[value].mean(), signed=signed) + mark
        if "low" in known and known["low"].notna().all():
            low, high = (number(known[name].iloc[0], signed=True) for name in ("low", "high"))
            text += f" ({low} to {high}{mark})"
        return text


def _linked(text: str, experiment: str) -> str:
    return f"[{text}](../results/paper/tables/{experiment}.md)"


def filled() -> dict[str, str]:
    """Path -> text of each document."""
    paper = Filled(frames(load_study("paper")))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader("docs/templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    known = {
        "quick": json.loads(FACTS.read_text()),
        "paper": paper_facts(paper.of),
        "machines": between_machines(),
        "include": lambda path: Path(path).read_text().strip(),
        "value": paper.value,
        "gain": paper.gain,
        "printed": paper.printed,
        "claims": paper.claims,
        "answers": paper.answers,
        "other_claims": paper.other_claims,
        "noise": paper.noise,
        "cluster": cluster_facts(paper.of),
        "faults": faults_facts(),
        "methods": markdown(methods_table()).strip(),
    }
    return {path: environment.get_template(name).render(known) for name, path in TEMPLATES.items()}


if __name__ == "__main__":
    if "--quick" in sys.argv:
        FACTS.write_text(json.dumps(quick_facts(), indent=1, ensure_ascii=False) + "\n")
    for path, text in filled().items():
        Path(path).write_text(text)
