"""Gain with more experts per domain."""

import pandas as pd
from matplotlib.figure import Figure

from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.collect import Results
from domain_experts.reporting.convergence import endings
from domain_experts.reporting.plots.panels import below, caption, dots, measured, notice, zero
from domain_experts.reporting.style import MARKERS, PALETTE, WIDTH
from domain_experts.reporting.summary import paired_gain


def experts_per_domain(results: Results) -> Figure:
    """WAUC gain over one expert per domain, against their number."""
    runs = measured(results, results.made("experts_per_domain"))
    runs = runs[runs["backbone"] != NO_BACKBONE]
    one = runs[runs["experts_per_domain"] == 1]
    runs["gain"] = 1000 * paired_gain(runs, one, ["arm", "others"])
    runs = runs.dropna(subset=["gain"])
    if runs.empty:
        return notice("no finished runs with one expert per domain to compare with in this tier")
    groups = list(runs.groupby(_labels(results, runs), sort=False))
    figure = Figure(figsize=(WIDTH, 1.7 + 0.13 * len(groups)), layout="constrained")
    panel = figure.subplots()
    numbers = sorted(runs["experts_per_domain"].unique())
    zero(panel)
    for i, (label, own) in enumerate(groups):
        shift = 0.12 * (i - (len(groups) - 1) / 2)
        by_number = own.groupby("experts_per_domain")["gain"]
        position = [numbers.index(k) + shift for k in by_number.mean().index]
        panel.errorbar(
            position,
            by_number.mean(),
            by_number.std(),
            color=PALETTE[i % len(PALETTE)],
            marker=MARKERS[i % len(MARKERS)],
            capsize=2,
            elinewidth=0.8,
            label=label,
        )
        # the gain over itself is 0 for every seed
        seeds = own[own["experts_per_domain"] > 1]
        position = [numbers.index(k) + shift for k in seeds["experts_per_domain"]]
        dots(panel, position, seeds["gain"], PALETTE[i % len(PALETTE)], len(by_number) - 1)
    panel.set_xticks(range(len(numbers)), [str(k) for k in numbers])
    panel.set_ylabel("Test WAUC gain × 1000")
    figure.legend(loc="outside upper center", ncols=1)
    text = "Gain over one expert, paired by seed: mean ± standard deviation (dots: each seed)."
    expected = results.expected("experts_per_domain")
    caption(figure, below(results, expected, "Experts per domain", text))
    return figure


def _labels(results: Results, runs: pd.DataFrame) -> "pd.Series[str]":
    """What a line is of; it also says that no expert of its runs was trained at all."""
    labels = runs["dataset"] + ", " + [BACKBONES[name].label for name in runs["backbone"]]
    if len({*runs["arm"]}) > 1:
        labels += ", " + runs["arm"].map({name: arm.label for name, arm in ARMS.items()})
    if len({*runs["others"]}) > 1:
        labels += ", " + runs["others"]
    ended = endings(results, results.study.expected["experts_per_domain"])
    experts = [ending for ending in ended if ending.kind == "experts"]
    moved = {(e.run.dataset, e.run.backbone) for e in experts if e.moved}
    still = {(e.run.dataset, e.run.backbone) for e in experts} - moved
    pairs = zip(runs["dataset"], runs["backbone"], strict=True)
    labels += [" (no expert left its start)" if pair in still else "" for pair in pairs]
    return labels
