"""Does the gate find the planted experts? Shares of its weight by planted group."""

from typing import Any, cast

import numpy as np
import pandas as pd

from domain_experts.registry import BACKBONES
from domain_experts.reporting.collect import Results
from domain_experts.reporting.columns import caption
from domain_experts.reporting.convergence import ending_notes, moved_experts
from domain_experts.reporting.render import Table, mean_sd, number
from domain_experts.reporting.summary import against_chance

SHARES = {
    "own_group": "the own group",
    "own_expert": "the own expert",
    "other_members": "other members of the group",
}
MOVED = ("on_moved", "moved_experts", "experts")
BESIDE = {
    "wauc_base": "Base",
    "wauc_mlora": "MLoRA",
    "wauc_moe_mlora": "MoE-MLoRA",
    "wauc_bayes": "Best possible",
}


def gate_shares(gate: Any, groups: Any) -> dict[str, float]:
    """Shares of gate weight, means over domains, beside what a uniform gate gives.

    Args:
        gate: (D, E) weights, rows sum to 1; expert i belongs to domain i mod D.
        groups: (D,) planted group of each domain.

    Returns:
        `own_expert`: on the domain's own experts; `other_members`: on experts of the other
        domains of its group; `own_group`: their sum; each with its `_chance`.
    """
    weights, group = np.asarray(gate), np.asarray(groups)
    domains, experts = weights.shape
    owner = np.arange(experts) % domains
    own = owner[None] == np.arange(domains)[:, None]
    member = group[owner][None] == group[:, None]
    shares = {}
    for name, chosen in (
        ("own_group", member),
        ("own_expert", own),
        ("other_members", member & ~own),
    ):
        shares[name] = float((weights * chosen).sum(axis=1).mean())
        shares[f"{name}_chance"] = float(chosen.mean())
    return shares


def planted_sharing(results: Results) -> Table:
    """Generated data: the gate's weight by planted group, and WAUC beside the best possible."""
    expected = [r for r in results.study.expected.get("planted_sharing", ()) if not r.variant]
    runs = results.frame(expected)
    wauc = runs.set_index(["dataset", "backbone", "seed", "arm"])["wauc"].to_dict()
    bayes = {(row["dataset"], row["split_seed"]): row["wauc"] for row in results.bayes}
    rows = []
    for run in expected:
        if run.arm != "moe_mlora" or run not in results.metrics:
            continue
        metrics = results.metrics[run]
        if metrics["planted_groups"] is None:
            continue
        moved = moved_experts(results, run)
        key = (run.dataset, run.backbone, run.seed)
        rows.append(
            dict(zip(("dataset", "backbone", "seed"), key, strict=True))
            | gate_shares(metrics["gate"], metrics["planted_groups"])
            | {"on_moved": float(np.asarray(metrics["gate"])[:, moved].sum(axis=1).mean())}
            | {"moved_experts": sum(moved), "experts": len(moved)}
            | {f"wauc_{arm}": wauc.get((*key, arm)) for arm in ("base", "mlora", "moe_mlora")}
            | {"wauc_bayes": bayes.get((run.dataset, run.split_seed))}
        )
    chances = [f"{share}_chance" for share in SHARES]
    columns = ["dataset", "backbone", "seed", *SHARES, *chances, *MOVED, *BESIDE]
    frame = pd.DataFrame(rows, columns=columns)
    printed, notes = [_sharing_heads()], []
    for group, seeds in frame.groupby(["dataset", "backbone"], sort=False):
        dataset, backbone = map(str, cast(tuple[str, str], group))
        label = (dataset, BACKBONES[backbone].label)
        printed += [_sharing_cells(label, str(seed), s) for seed, s in seeds.groupby("seed")]
        printed.append(_sharing_cells(label, "mean ± sd", seeds))
        notes += [
            f"{dataset}, {label[1]}, weight on {what} less chance: "
            f"{against_chance(seeds[share] - seeds[f'{share}_chance'])}."
            for share, what in SHARES.items()
        ]
    if rows:
        notes.append(
            "The t-tests are three for each backbone and not corrected for that. Seeds split one "
            "generated data set anew, so that runs are not independent: p is a guide, no more."
        )
        notes += ending_notes(results, expected)
    text = caption(
        results,
        runs,
        "Planted sharing: share of MoE-MLoRA's gate weight, mean over domains, that falls on "
        "experts of the domain's own planted group (own expert + other members), on its own "
        "expert, and on the experts of the group's other members; in brackets what a uniform gate "
        "gives. On moved experts: weight on experts that left their starting weights; in brackets "
        "how many did. Below, one-sample t-tests of the differences at the 5 % level. Best "
        "possible: WAUC of the true probabilities on the same test rows.",
    )
    body = pd.DataFrame(printed[1:], columns=printed[0])
    return Table("planted_sharing", text, frame, body, tuple(notes))


def _sharing_heads() -> list[str]:
    shares = ("Own group", "Own expert", "Other members")
    return ["Data set", "Backbone", "Seed", *shares, "On moved experts", *BESIDE.values()]


def _sharing_cells(label: tuple[str, str], seed: str, seeds: pd.DataFrame) -> list[str]:
    shares = [
        f"{mean_sd(seeds[share].mean(), seeds[share].std(), 3)} "
        f"({number(seeds[f'{share}_chance'].mean(), 3)})"
        for share in SHARES
    ]
    of = f"{seeds['moved_experts'].sum():.0f} of {seeds['experts'].sum():.0f}"
    shares.append(f"{mean_sd(seeds['on_moved'].mean(), seeds['on_moved'].std(), 3)} ({of})")
    return [*label, seed, *shares, *(mean_sd(seeds[c].mean(), seeds[c].std()) for c in BESIDE)]
