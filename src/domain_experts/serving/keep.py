"""From a finished run, or the best one of a study, to a saved model."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from domain_experts import layout
from domain_experts.arrays import read_array
from domain_experts.artifacts import MODEL, PROVENANCE, RECORD, read_run, remedy, run_file
from domain_experts.data.interactions import Interactions, check_parts
from domain_experts.data.log.encoder import Encoder
from domain_experts.data.log.spec import LogSplit
from domain_experts.data.split import TEST, read_split
from domain_experts.errors import UserError
from domain_experts.reporting.catalog import renews
from domain_experts.reporting.columns import column
from domain_experts.reporting.frame import frames
from domain_experts.reporting.recommend import CANDIDATE, asked, choice
from domain_experts.runs import Run
from domain_experts.serving.card import card
from domain_experts.serving.collect import ON_BASE, served_state
from domain_experts.serving.model import ENCODER, Origin, SavedModel
from domain_experts.serving.rebuild import Identity
from domain_experts.study import Study
from domain_experts.suggest import unknown
from domain_experts.training.assignment import Assignment, Upstream
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.progress import Progress, title

CHECKED = 10_000
"""Test rows on which a saved model must agree with its run."""
TOLERANCE = 1e-5


def run_at(study: Study, path: str) -> Run:
    """The expected run of a path, as `domain-experts runs` prints it.

    Raises:
        UserError: the study has none.
    """
    runs = {run.path.as_posix(): run for run in study.expected_runs}
    wanted = Path(path).as_posix()
    if wanted not in runs:
        raise UserError(
            unknown(f"run of tier {study.tier}", path, runs, "see `domain-experts runs`")
        )
    return runs[wanted]


def best_run(study: Study) -> Run:
    """Of the arm that the study's answer calls the best, on validation rows, the best seed.

    Raises:
        UserError: the study has several data sets, or no run is evaluated.
    """
    if len(study.datasets) > 1:
        raise UserError(
            f"tier {study.tier} has several data sets ({', '.join(study.datasets)}): name a run, "
            "as `domain-experts runs` prints it"
        )
    of = frames(study)
    found = choice(of)
    if found is None:
        raise UserError(f"no run of tier {study.tier} is evaluated; run `{renews(study)}`")
    name, _, metric = asked(of)
    own = of.of(name).set_index("run")
    for key in CANDIDATE:
        own = own[own[key] == found.best[key]]
    worth = of.validation[metric].reindex(own.index)
    return of.results.expected[
        str(worth.idxmin() if column(metric).better == "lower" else worth.idxmax())
    ]


def saved_model(study: Study, run: Run) -> SavedModel:
    """The model of a finished run.

    Raises:
        UserError: a file of the run is missing or damaged, the data are not those that it was
            trained on, or the model does not give the run's own predictions.
    """
    folder = layout.run_artifacts(study.tier, run)
    made = read_run(study.tier, run, PROVENANCE)
    data = Interactions.open(layout.interactions(run.dataset))
    if made["data"] != data.card["content"]:
        raise UserError(
            f"{layout.interactions(run.dataset)} holds other rows than {folder} was trained on; "
            "run snakemake, which trains it on those of today"
        )
    upstream = {}
    if run.arm in ON_BASE:
        for other in study.upstream(run):
            upstream[other.arm] = Upstream(load_file(run_file(study.tier, other, MODEL)), {})
    record = read_run(study.tier, run, RECORD)
    assignment = Assignment(
        run,
        data,
        read_split(study.tier, run.dataset, run.split_seed),
        upstream,
        "cpu",
        Checkpoint(Path(), ""),
        Progress(title(run)),
    )
    trains = (folder / MODEL).exists()
    state = served_state(assignment, load_file(run_file(study.tier, run, MODEL)) if trains else {})
    identity = Identity(
        run.dataset,
        run.backbone,
        run.arm,
        run.seed,
        run.settings,
        data.schema,
        data.planted_groups,
        record["scope"]["domain"],
        record["scope"]["task"],
    )
    model = SavedModel.of(
        identity,
        state,
        Origin(
            run=run.path.as_posix(),
            data=made["data"],
            split=made["split"],
            code=made["code"],
            libraries={name: made[name] for name in ("torch", "numpy")},
        ),
        card(study, run, data, record),
        encoder_of(run.dataset, data),
        _split_rule(data),
    )
    stored = read_array(run_file(study.tier, run, "test.npy"), remedy(study.tier, run.job))
    _refuse_other_predictions(model, assignment, stored)
    return model


def encoder_of(dataset: str, data: Interactions) -> Encoder | None:
    """The encoder of a log's data set; others have none.

    Raises:
        UserError: a file of it is missing or damaged.
    """
    folder = layout.interactions(dataset)
    files = [path for path in (folder / ENCODER).rglob("*") if path.is_file()]
    if not files:
        return None
    check_parts(folder, data.card, [path.relative_to(folder).as_posix() for path in files])
    return Encoder.open(folder / ENCODER)


def _split_rule(data: Interactions) -> LogSplit | None:
    """How a log was split."""
    provenance = data.card["provenance"]
    if provenance.get("source") != "log":
        return None
    return LogSplit.model_validate(provenance["settings"]["split"])


def _refuse_other_predictions(
    model: SavedModel, assignment: Assignment, stored: np.ndarray
) -> None:
    if assignment.run.settings.training.precision != "float32":
        # it was tested by products of lower precision than those it serves with
        return
    data = assignment.interactions
    rows = np.flatnonzero(assignment.split == TEST)[:CHECKED]
    parts = (np.ascontiguousarray(part[rows]) for part in (data.fields, data.dense, data.domain))
    differs = np.abs(model.logits(*parts) - stored[: len(rows)])
    if differs.size and not differs.max() <= TOLERANCE:
        raise UserError(
            f"the model of {assignment.run.path} does not give the run's own predictions (they "
            f"differ by {differs.max():.1e}): the code has changed since; run snakemake, and save "
            "again"
        )
