"""t-SNE of what the inner parts of a model give, on some test rows (M3oE, Figure 3)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from domain_experts.artifacts import VIEWS, listed, run_file
from domain_experts.results import PROJECTION_COLUMNS
from domain_experts.runs import Run
from domain_experts.study import Study

TASK = 0
DIGITS = 3


def projection(study: Study, run: Run, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Points of three panels, with the keys PROJECTION_COLUMNS; none of a run that leaves no views.

    Panels: the domain experts and their module, the task experts and theirs, and the modules with
    what the towers see. A panel's points are projected together, for the domain with the most test
    rows and the first task.
    Of a data set's runs with default settings the one of the lowest seed is projected.
    """
    there = VIEWS in listed(study.tier, run.job)[run.path.as_posix()]["files"]
    alike = [
        other.seed
        for other in study.expected_runs
        if (other.dataset, other.arm, other.backbone) == (run.dataset, run.arm, run.backbone)
    ]
    if run.variant or run.seed != min(alike) or not there:
        return []
    domain = int(np.argmax(record["rows"]["test"]))
    frame = _projected(load_file(run_file(study.tier, run, VIEWS)), domain).round(DIGITS)
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _projected(views: Mapping[str, np.ndarray], domain: int) -> pd.DataFrame:
    rows = views["domain"] == domain
    panels = {
        "domain": {**_each("F", views["F"][rows]), "D": views["D"][rows, TASK]},
        "task": {**_each("G", views["G"][rows]), "T": views["T"][rows, TASK]},
        # fully gated modules have no S
        "all": {n: views[n][rows, TASK] for n in ("S", "D", "T", "fused") if n in views},
    }
    frames = []
    for panel, parts in panels.items():
        points = _tsne(np.concatenate(list(parts.values())))
        names = np.repeat(list(parts), [len(part) for part in parts.values()])
        frames.append(
            pd.DataFrame({"panel": panel, "part": names, "x": points[:, 0], "y": points[:, 1]})
        )
    return pd.concat(frames).assign(domain=domain, task=TASK)[PROJECTION_COLUMNS]


def _each(letter: str, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Expert -> its outputs (n, h)."""
    return {f"{letter}_{e + 1}": outputs[:, e] for e in range(outputs.shape[1])}


def _tsne(points: np.ndarray) -> np.ndarray:
    """(n, 2) in two dimensions, the same for the same points; scikit-learn's own settings."""
    from sklearn.manifold import TSNE

    few = max(1, min(30, (len(points) - 1) // 3))
    return np.asarray(TSNE(init="pca", perplexity=few, random_state=0).fit_transform(points))
