"""Tables that tell where a gain comes from, and how far it is from what could be gained."""

import pandas as pd

from domain_experts.registry import NO_BACKBONE
from domain_experts.reporting.collect import Results
from domain_experts.reporting.columns import KEYS, caption, labels, means, wauc
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.effort import epochs_trained
from domain_experts.reporting.render import MISSING, Table, counts, number
from domain_experts.reporting.summary import over_seeds, paired_gain

BAR = 0.005
"""How far MoE-MLoRA may be from the frozen oracle."""


def controls(results: Results) -> Table:
    """Data set x backbone x arm: WAUC, gains, parameters, and how much training it got."""
    runs = _beside_each_backbone(results.of("controls"))
    made = {run.path.as_posix(): run for run in results.made("controls")}
    epochs = [epochs_trained(results, made[path]) if path in made else None for path in runs["run"]]
    runs["epochs_trained"] = pd.Series(epochs, runs.index, dtype="float64")
    for reference in ("base", "mlora"):
        gain = paired_gain(runs, runs[runs["arm"] == reference], ["variant"])
        runs[f"gain_over_{reference}"] = gain.mask(runs["arm"] == reference)
    values = ["wauc", "gain_over_base", "gain_over_mlora", "epochs_trained"]
    frame = over_seeds(runs, KEYS, values)
    frame["parameters"] = runs.groupby(KEYS, sort=False)["parameters"].first().to_numpy()
    printed = labels(frame)
    printed["WAUC"] = wauc(frame)
    printed["Gain over base"] = means(frame, "gain_over_base", signed=True)
    printed["Gain over MLoRA"] = means(frame, "gain_over_mlora", signed=True)
    printed["Parameters"] = counts(frame["parameters"])
    printed["Epochs trained"] = [number(epochs, 1) for epochs in frame["epochs_trained_mean"]]
    printed["Seeds"] = counts(frame["seeds"])
    text = caption(
        results,
        runs,
        "Controls: test WAUC and gains, mean ± standard deviation over seeds; gains are paired by "
        "seed. Epochs trained: rows visited in training over all training rows, what the arm "
        "starts from included, experts that it does not use left out.",
    )
    notes = ending_notes(results, results.expected("controls"))
    return Table("controls", text, frame, printed, notes)


def oracle(results: Results) -> Table:
    """Generated data: gains, and distance to the arms that know the planted groups."""
    runs = results.of("oracle")
    references = {"base": "base", "frozen": "oracle_experts", "joint": "oracle_mlora"}
    for name, reference in references.items():
        gain = paired_gain(runs, runs[runs["arm"] == reference], ["variant"])
        runs[f"less_{name}"] = gain.mask(runs["arm"] == reference)
    best = {(row["dataset"], row["split_seed"]): row["wauc"] for row in results.bayes}
    pairs = zip(runs["dataset"], runs["split_seed"], strict=True)
    runs["bayes"] = pd.Series([best.get(pair) for pair in pairs], runs.index, dtype="float64")
    differences = [f"less_{name}" for name in references]
    frame = over_seeds(runs, KEYS, ["wauc", *differences, "bayes"])
    frame["verdict"] = [
        ("met" if abs(distance) <= BAR else "not met")
        if arm == "moe_mlora" and pd.notna(distance)
        else ""
        for arm, distance in zip(frame["arm"], frame["less_frozen_mean"], strict=True)
    ]
    printed = labels(frame)
    printed["WAUC"] = wauc(frame)
    printed["Gain over base"] = means(frame, "less_base", signed=True)
    printed["Less the frozen oracle"] = means(frame, "less_frozen", signed=True)
    printed["Less the joint oracle"] = means(frame, "less_joint", signed=True)
    printed["Best possible"] = means(frame, "bayes")
    printed[f"Within {BAR}"] = [word or MISSING for word in frame["verdict"]]
    printed["Seeds"] = counts(frame["seeds"])
    text = caption(
        results,
        runs,
        "Oracles, on generated data: test WAUC, mean ± standard deviation over seeds, and its "
        "differences, paired by seed, to arms that know the planted groups: one frozen-backbone "
        "expert a group (frozen), or MLoRA with one adapter a group (joint). Best possible: WAUC "
        f"of the true probabilities. Within {BAR}: whether MoE-MLoRA is that near to the frozen "
        "oracle.",
    )
    return Table("oracle", text, frame, printed, ending_notes(results, results.expected("oracle")))


def _beside_each_backbone(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of arms that have no backbone repeated beside each, so that they have gains too."""
    backbones = [name for name in dict.fromkeys(runs["backbone"]) if name != NO_BACKBONE]
    parts = [
        runs[(runs["dataset"] == dataset) & runs["backbone"].isin([backbone, NO_BACKBONE])].assign(
            backbone=backbone
        )
        for dataset in dict.fromkeys(runs["dataset"])
        for backbone in backbones
    ]
    return pd.concat(parts, ignore_index=True) if parts else runs
