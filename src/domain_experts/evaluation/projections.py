"""t-SNE of what the inner parts of a model give, on some test rows (M3oE, Figure 3)."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from safetensors.numpy import load_file
from sklearn.manifold import TSNE

from domain_experts import layout
from domain_experts.files import replacing
from domain_experts.finished import finished
from domain_experts.params import Study
from domain_experts.runs import Run

PROJECTIONS, VIEWS = "projections.csv", "views.safetensors"
COLUMNS = ["run", "dataset", "arm", "domain", "task", "panel", "part", "x", "y"]
# the paper shows the domain with most rows of KuaiRand, and else the first
_SHOWN_DOMAIN = {"kuairand-pure": 1}
TASK = 0
DIGITS = 3


def write_projections(study: Study) -> None:
    """Write results/<tier>/projections.csv: points of three panels a data set and arm.

    Panels: the domain experts and their module, the task experts and theirs, and the modules with
    what the towers see. A panel's points are projected together, for one domain and the first task.
    Of a data set's runs with default settings the one of the lowest seed is shown. A partial study
    keeps the points of runs whose artifacts are gone.
    """
    path = layout.results(study.tier) / PROJECTIONS
    old = pd.read_csv(path) if study.partial and path.is_file() else pd.DataFrame(columns=COLUMNS)
    parts = []
    for run in _shown(study):
        file = layout.run_artifacts(study.tier, run) / VIEWS
        if file.is_file():
            parts.append(_projected(study, run, load_file(file)))
        else:
            parts.append(old[old["run"] == run.path.as_posix()])
    frame = pd.concat([pd.DataFrame(columns=COLUMNS), *parts])
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format=f"%.{DIGITS}f")


def _shown(study: Study) -> Iterator[Run]:
    """The runs that leave views, one a data set and arm."""
    there = finished(study)
    seen: set[tuple[str, str]] = set()
    for run in sorted(there, key=lambda run: run.seed):
        key = (run.dataset, run.arm)
        if run.backbone == "m3oe" and not run.variant and key not in seen:
            seen.add(key)
            yield run


def _projected(study: Study, run: Run, views: Mapping[str, np.ndarray]) -> pd.DataFrame:
    domain = _SHOWN_DOMAIN.get(study.params.data.datasets[run.dataset].source, 0)
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
    frame = pd.concat(frames)
    return frame.assign(
        run=run.path.as_posix(), dataset=run.dataset, arm=run.arm, domain=domain, task=TASK
    )[COLUMNS]


def _each(letter: str, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Expert -> its outputs (n, h)."""
    return {f"{letter}_{e + 1}": outputs[:, e] for e in range(outputs.shape[1])}


def _tsne(points: np.ndarray) -> np.ndarray:
    """(n, 2) in two dimensions, the same for the same points; scikit-learn's own settings."""
    few = max(1, min(30, (len(points) - 1) // 3))
    return np.asarray(TSNE(init="pca", perplexity=few, random_state=0).fit_transform(points))
