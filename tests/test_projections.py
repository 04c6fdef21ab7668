"""t-SNE of the outputs of M3oE's modules: from kept views to the figure."""

import numpy as np
import pandas as pd
from assignments import make_assignment, multi_data, train
from fabricated import change_json, evaluate_all, write_indexes
from safetensors.numpy import save_file

from domain_experts import layout
from domain_experts.reporting.figures import draw
from domain_experts.reporting.frame import frames
from domain_experts.results import PROJECTION_COLUMNS, load


def keep_views(study, dataset="planted-tasks", without=()):
    """Views of random numbers for one run of M3oE; the run."""
    (run, *_) = (
        run
        for run in study.runs
        if (run.dataset, run.backbone, run.arm) == (dataset, "m3oe", "mdmt") and not run.variant
    )
    random = np.random.default_rng(0)
    views = {name: random.random((40, n, 4), np.float32) for name, n in SIZES.items()}
    views = {name: view for name, view in views.items() if name not in without}
    folder = layout.run_artifacts(study.tier, run)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({**views, "domain": np.repeat([0, 1], 20)}, folder / "views.safetensors")
    return run


SIZES = {"E": 1, "F": 2, "G": 2, "S": 2, "D": 2, "T": 2, "fused": 2}


def points(study, run):
    """The points of a run, after its data set is evaluated anew."""
    write_indexes(study)
    evaluate_all(study, [run.dataset])
    return pd.DataFrame(load(study).records[run.path.as_posix()]["projection"])


def test_each_part_has_a_point_a_row_of_the_shown_domain(few_runs):
    run = keep_views(few_runs)
    found = points(few_runs, run)
    assert set(found) == set(PROJECTION_COLUMNS)
    parts = found.groupby("panel")["part"].value_counts()
    assert set(parts) == {20}
    assert {panel: set(own["part"]) for panel, own in found.groupby("panel")} == {
        "domain": {"F_1", "F_2", "D"},
        "task": {"G_1", "G_2", "T"},
        "all": {"S", "D", "T", "fused"},
    }
    pd.testing.assert_frame_equal(found, points(few_runs, run))


def test_the_domain_with_the_most_test_rows_is_shown(few_runs):
    run = keep_views(few_runs)
    assert set(points(few_runs, run)["domain"]) == {0}
    record = layout.run_artifacts(few_runs.tier, run) / "record.json"
    change_json(record, rows={"test": [100, 300, 200]})
    assert set(points(few_runs, run)["domain"]) == {1}


def test_fully_gated_modules_have_no_shared_module_of_their_own(few_runs):
    found = points(few_runs, keep_views(few_runs, without=("S",)))
    assert set(found.loc[found["panel"] == "all", "part"]) == {"D", "T", "fused"}


def test_the_figure_has_three_panels_a_run(few_runs):
    points(few_runs, keep_views(few_runs))
    drawn = draw(frames(few_runs), "modules")
    assert len(drawn.figure.axes) == 3


def test_without_views_the_figure_says_so(few_runs):
    drawn = draw(frames(few_runs), "modules")
    assert not drawn.figure.axes
    assert drawn.figure.texts


def test_training_keeps_the_views_of_one_model_for_all(tmp_path):
    made = train(make_assignment(tmp_path, multi_data(), "mdmt", "m3oe"))
    rows = len(made.views["domain"])
    assert set(made.views) == {*SIZES, "domain"}
    assert made.views["F"].shape[:2] == (rows, 3)
    assert (np.diff(made.views["domain"]) >= 0).all()
    assert not train(make_assignment(tmp_path, multi_data(), "mdl", "m3oe")).views
