"""t-SNE of the outputs of M3oE's modules: from kept views to the figure."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from tasks import make_task, multi_data, train

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.evaluation.projections import COLUMNS, write_projections
from domain_experts.params import Study
from domain_experts.reporting.collect import collect
from domain_experts.reporting.figures import draw


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


def points(study):
    return pd.read_csv(layout.results(study.tier) / "projections.csv")


def test_each_part_has_a_point_a_row_of_the_shown_domain(fabricated):
    run = keep_views(fabricated)
    write_projections(fabricated)
    found = points(fabricated)
    assert list(found) == COLUMNS
    assert set(found["run"]) == {run.path.as_posix()}
    parts = found.groupby("panel")["part"].value_counts()
    assert set(parts) == {20}
    assert {panel: set(own["part"]) for panel, own in found.groupby("panel")} == {
        "domain": {"F_1", "F_2", "D"},
        "task": {"G_1", "G_2", "T"},
        "all": {"S", "D", "T", "fused"},
    }
    again = points(fabricated)
    write_projections(fabricated)
    pd.testing.assert_frame_equal(again, points(fabricated))


def test_fully_gated_modules_have_no_shared_module_of_their_own(fabricated):
    keep_views(fabricated, without=("S",))
    write_projections(fabricated)
    found = points(fabricated)
    assert set(found.loc[found["panel"] == "all", "part"]) == {"D", "T", "fused"}


def test_a_partial_study_keeps_points_whose_views_are_gone(fabricated):
    run = keep_views(fabricated)
    write_projections(fabricated)
    before = points(fabricated)
    (layout.run_artifacts(fabricated.tier, run) / "views.safetensors").unlink()
    write_projections(Study(fabricated.params, fabricated.tier, partial=True))
    pd.testing.assert_frame_equal(before, points(fabricated))
    write_projections(fabricated)
    assert points(fabricated).empty


def test_the_figure_has_three_panels_a_run(fabricated):
    keep_views(fabricated)
    write_projections(fabricated)
    figure = draw(collect(fabricated), "m3oe_modules")
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["Domain module", "Task module", "All modules"]
    labels = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert labels == ["shared", "domain", "task", "fused"]


def test_more_experts_than_colours_are_all_drawn(fabricated, monkeypatch):
    monkeypatch.setitem(SIZES, "F", 12)
    keep_views(fabricated)
    write_projections(fabricated)
    figure = draw(collect(fabricated), "m3oe_modules")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == [*(f"$F_{{{e}}}$" for e in range(1, 13)), "domain"]
    captions = " ".join(text.get_text() for text in figure.texts)
    captions += str(figure.get_supxlabel())
    assert "planted-tasks: D1" in " ".join(captions.split())


def test_without_views_the_figure_says_so(fabricated):
    write_projections(fabricated)
    (text,) = (text.get_text() for text in draw(collect(fabricated), "m3oe_modules").texts)
    assert "no finished run of M3oE" in text
    (layout.results(fabricated.tier) / "projections.csv").unlink()
    with pytest.raises(UserError, match=r"projections\.csv is missing; run"):
        collect(fabricated)


def test_training_keeps_the_views_of_one_model_for_all(tmp_path):
    made = train(make_task(tmp_path, multi_data(), "mdmt", "m3oe"))
    rows = len(made.views["domain"])
    assert set(made.views) == {*SIZES, "domain"}
    assert made.views["F"].shape[:2] == (rows, 3)
    assert (np.diff(made.views["domain"]) >= 0).all()
    assert not train(make_task(tmp_path, multi_data(), "mdl", "m3oe")).views
