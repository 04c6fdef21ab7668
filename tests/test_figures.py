"""Figures: what is drawn is what the results say, and can be read."""

import contextlib
import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, to_rgb, to_rgba
from matplotlib.text import Text
from smoke import OWN, change_params

from domain_experts import cli, layout, params
from domain_experts.errors import UserError
from domain_experts.reporting import figures, grid, inside, kinds, overall, pages
from domain_experts.reporting.catalog import experiments, figure_names
from domain_experts.reporting.frame import frames
from domain_experts.reporting.overall import LOOKS
from domain_experts.reporting.ranks import Ranks
from domain_experts.reporting.statistics import half_widths
from domain_experts.reporting.style import (
    COLUMN,
    HEIGHT,
    PAGE,
    PALETTE,
    PLACES,
    SMALL,
    save,
    styled,
)


@pytest.fixture(autouse=True)
def style():
    with styled():
        yield


@pytest.fixture
def fabricated(fabricated_tree, project):
    folder, study = fabricated_tree
    shutil.copytree(folder / "results", project / "results")
    return study


@pytest.fixture(scope="module")
def known(fabricated_tree):
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        found = frames(study)
        _ = found.results.status
        return found


def differences(panels=("a",), rows=("one", "two"), hues=("h",), **columns):
    """A frame of differences for a forest: a row each, the difference its number times 0.001."""
    names = [(p, y, h) for p in panels for y in rows for h in hues]
    frame = pd.DataFrame(names, columns=["panel", "y", "hue"])
    x = np.arange(len(frame)) * 0.001
    frame = frame.assign(x=x, low=x - 0.001, high=x + 0.001, band=np.nan, stale=False)
    return frame.assign(place=frame["y"].map(list(rows).index), **columns)


def curve(values, **columns):
    """A frame for lines: a point each."""
    y = np.linspace(0.8, 0.81, len(values))
    frame = pd.DataFrame({"panel": "a", "hue": "h", "x": values, "y": y})
    return frame.assign(**{"low": np.nan, "high": np.nan, "stale": False} | columns)


def rows_of(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


def hollow(ax):
    """Whether each point that is drawn is hollow, from left to right."""
    lines = [line for line in ax.lines if line.get_marker() not in ("None", "", None)]
    points = [
        (x, to_rgba(line.get_markerfacecolor()) == to_rgba("w"))
        for line in lines
        for x in line.get_xdata()
    ]
    return [is_hollow for _, is_hollow in sorted(points)]


def assert_readable(figure):
    """No two labels or titles of a figure overlap; it is as wide as a column or page of a paper."""
    width, height = figure.get_size_inches()
    assert width in (COLUMN, PAGE)
    assert height <= HEIGHT
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= SMALL
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            texts = [t.label1 for t in ticks] + [t.label2 for t in ticks]
            boxes = [
                (text.get_text(), text.get_window_extent(renderer))
                for text in texts
                if text.get_visible() and text.get_text()
            ]
            for (one, a), (other, b) in combinations(boxes, 2):
                assert not a.overlaps(b), f"{one} and {other} overlap"
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    titles = [(ax.get_title(), ax.title.get_window_extent(renderer)) for ax in figure.axes]
    for (one, a), (other, b) in combinations([pair for pair in titles if pair[0]], 2):
        assert not a.overlaps(b), f"{one} and {other} overlap"


def test_rows_of_a_forest_go_by_their_place_and_not_as_text():
    domains = [f"D{i}" for i in range(1, 13)]
    shuffled = differences(rows=domains).sample(frac=1, random_state=0)
    figure = kinds.forest(shuffled, "difference").figure
    assert rows_of(figure.axes[0]) == domains
    assert_readable(figure)


def test_a_stale_difference_is_hollow():
    frame = differences(rows=("one", "two", "three"), stale=[False, True, False])
    assert hollow(kinds.forest(frame, "difference").figure.axes[0]) == [False, True, False]


def test_an_interval_is_drawn_where_it_is_known():
    frame = differences()
    frame.loc[0, ["low", "high"]] = np.nan
    (ax,) = kinds.forest(frame, "difference").figure.axes
    bars = np.concatenate([bar.get_segments() for bar in ax.collections if bar.get_segments()])
    assert bars[:, :, 0] == pytest.approx(np.array([[0.0, 0.002]]))


def test_axes_span_the_band_of_noise():
    tiny = differences()
    tiny[["x", "low", "high"]] *= 1e-5
    (ax,) = kinds.forest(tiny, "difference").figure.axes
    assert ax.get_xlim()[0] <= -grid.NOISE
    assert ax.get_xlim()[1] >= grid.NOISE
    for spread in (0, 2e-5):
        flat = curve([1, 2, 3]).assign(y=[0.8, 0.8 + spread, 0.8])
        (ax,) = kinds.lines(flat, "x", "y").figure.axes
        assert np.ptp(ax.get_ylim()) == pytest.approx(2 * grid.NOISE, rel=0.1)


def test_panels_with_nearly_the_same_rows_share_their_labels():
    frame = differences(panels=("a", "b"), rows=("one", "two", "three"))
    frame = frame.drop(index=4)
    first, second = kinds.forest(frame, "difference").figure.axes
    assert rows_of(first) == ["one", "two", "three"]
    assert rows_of(second) == []
    assert list(first.get_ylim()) == list(second.get_ylim())
    points = [line for line in second.lines if line.get_linestyle() == "None"]
    assert [list(line.get_ydata()) for line in points] == [[0, 2]]


def test_axes_that_differ_are_told():
    frame = differences(panels=("a", "b"))
    frame.loc[frame["panel"] == "b", ["x", "low", "high"]] *= 100
    drawing = kinds.forest(frame, "difference")
    assert drawing.left_out == ("Axes differ from panel to panel",)
    first, second = drawing.figure.axes
    assert first.get_xlim() != second.get_xlim()


def test_a_forest_of_very_many_rows_keeps_the_largest_and_says_so():
    rows = [f"row {i}" for i in range(100)]
    drawing = kinds.forest(differences(rows=rows), "difference")
    assert rows_of(drawing.figure.axes[0]) == rows[-kinds.MOST_ROWS :]
    assert drawing.left_out == ("a: the 52 rows with the smallest differences left out",)
    assert_readable(drawing.figure)


def test_panels_beyond_a_page_are_left_out_and_named():
    frame = differences(panels=[f"data {i}, arm" for i in range(30)], rows=list("abcdefgh"))
    drawing = kinds.forest(frame, "difference")
    shown = [ax.get_title() for ax in drawing.figure.axes]
    assert shown == [f"data {i}, arm" for i in range(len(shown))]
    assert f"of data {len(shown)}, data {len(shown) + 1}" in drawing.left_out[-1]
    assert_readable(drawing.figure)


def test_a_legend_names_what_is_drawn_and_only_that():
    two = kinds.forest(differences(hues=("p", "q")), "difference").figure
    assert [text.get_text() for text in two.legends[0].get_texts()] == ["p", "q"]
    assert not kinds.forest(differences(), "difference").figure.legends


@pytest.mark.parametrize("count", range(2, 9))
def test_a_legend_lies_on_its_figure(count):
    hues = ["upper level, second order", "lower level", *(f"level {i}, fixed" for i in range(6))]
    assert_readable(kinds.forest(differences("abc", hues=hues[:count]), "difference").figure)


def test_a_setting_that_spans_a_decade_has_a_logarithmic_axis():
    (wide,) = kinds.lines(curve([0.0001, 0.001, 0.01]), "rate", "AUC").figure.axes
    (narrow,) = kinds.lines(curve([1, 2, 3]), "count", "AUC").figure.axes
    assert [wide.get_xscale(), narrow.get_xscale()] == ["log", "linear"]
    assert list(narrow.get_xticks()) == [1, 2, 3]


def test_stale_points_of_a_line_are_hollow_and_many_mark_their_panel():
    few = kinds.lines(curve([1, 2, 3], stale=[False, True, True]), "x", "y").figure
    assert hollow(few.axes[0]) == [False, True, True]
    many = kinds.lines(curve(range(20)).assign(stale=True), "x", "y").figure
    assert many.axes[0].get_title() == "a °"


def test_the_published_best_is_a_line_with_a_name():
    marks = {"a": (2.0, "published as best")}
    frame = curve([1, 2, 3])
    figure = kinds.lines(frame, "x", "y", marks=marks).figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["h", marks["a"][1]]
    assert [2.0, 2.0] in [list(line.get_xdata()) for line in figure.axes[0].lines]


def cells(panels, rows, columns, **more):
    names = [(p, str(y), str(x)) for p in panels for y in range(rows) for x in range(columns)]
    frame = pd.DataFrame(names, columns=["panel", "y", "x"])
    values = {"value": np.arange(len(frame)) / len(frame), "marked": False, "stale": False}
    return frame.assign(**values | more)


def heat_map(frame, columns=4):
    axes = ("column", "row")
    return kinds.heat_map(frame, "value", Normalize(0, 2), "PuOr_r", axes, columns).figure


def test_a_heat_map_keeps_the_order_of_its_rows_and_columns():
    ax = heat_map(cells("a", 3, 12)).axes[0]
    (mesh,) = ax.collections
    assert np.asarray(mesh.get_array()).ravel() == pytest.approx(np.arange(36) / 36)
    assert [text.get_text() for text in ax.get_xticklabels()][:3] == ["0", "1", "2"]


@pytest.mark.parametrize("size", [2, 8, 21, 64])
def test_labels_of_heat_maps_do_not_collide(size):
    panels = [f"taobao-{i}-mamdr, Wide&Deep (1 of 3 seeds)" for i in range(6)]
    assert_readable(heat_map(cells(panels, size, size)))


def test_a_stale_heat_map_is_marked():
    figure = heat_map(cells("ab", 2, 2, stale=[True] * 4 + [False] * 4))
    assert [ax.get_title() for ax in figure.axes[:2]] == ["a °", "b"]


def test_equal_figures_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        save(kinds.forest(differences(hues=("p", "q")), "difference").figure, tmp_path, name)
    for suffix in ("png", "pdf"):
        one, two = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_colours_are_of_one_palette_in_turn():
    hues = [f"h{i}" for i in range(len(PALETTE) + 1)]
    ax = kinds.forest(differences(hues=hues), "difference").figure.axes[0]
    colors = [line.get_color() for line in ax.lines if line.get_linestyle() == "None"]
    assert colors == [*PALETTE, PALETTE[0]]


def test_every_figure_of_a_study_can_be_read(known):
    for name in figure_names(known.study):
        drawn = figures.draw(known, name)
        assert_readable(drawn.figure)
        assert not drawn.figure.get_suptitle(), name
        assert f"Tier {known.study.tier}." in drawn.caption, name


def test_domains_are_drawn_in_their_own_order(known):
    drawn = figures.draw(known, "gain_by_domain")
    for ax in drawn.figure.axes:
        dataset = ax.get_title().split(",")[0]
        if dataset and rows_of(ax) and not ax.images:
            assert rows_of(ax) == list(known.results.data[dataset]["domains"])
    assert overall.gain_by_domain(known).data["place"].max() > 1


def test_an_experiment_shows_its_gains(known):
    name = "controls"
    own = figures.experiment(known, name).data
    drawn = figures.draw(known, name)
    points = [x for ax in drawn.figure.axes for line in ax.lines[1:] for x in line.get_xdata()]
    assert sorted(points) == pytest.approx(sorted(own["gain"]))
    assert known.study.params.experiments[name].question in drawn.caption


@pytest.mark.parametrize(
    ("metric", "side"), [("wauc", "; below 0: worse"), ("log_loss", "; above 0: worse")]
)
def test_the_worse_side_of_zero_is_that_of_the_metric(smoke, metric, side):
    study = change_params(lambda p: p["experiments"]["main"].update(metric=metric))
    assert f"to Base{side}. " in figures.experiment(frames(study), "main").says


def test_no_two_points_of_an_experiment_bear_one_name(known):
    drawn = [figures.experiment(known, name) for name in experiments(known.study)]
    forests = [spec.data for spec in drawn if "place" in spec.data]
    assert len(forests) > 5
    for data in forests:
        assert not data.duplicated(["panel", "y", "hue"]).any()


def test_an_axis_names_a_model_as_the_tables_do(known):
    drawn = figures.draw(known, "m3oe_shared_experts")
    assert drawn.figure.get_supxlabel() == "M3oE shared experts"


def test_an_experiment_that_varies_one_number_is_a_line(known):
    spec = figures.experiment(known, "rank")
    assert sorted({*spec.data["x"]}) == [4, 16, 64, 256]
    assert spec.kind.func is kinds.lines


def test_one_value_of_a_setting_is_told_and_not_drawn(known):
    spec = figures.experiment(known, "m3oe_learning_rate")
    value = spec.data["x"].min()
    one = spec.runs[spec.runs["run"].str.contains(f"learning-rate={value}")]
    runs = known.runs.assign(
        macro_auc=known.runs["macro_auc"].where(known.runs["run"].isin(one["run"]))
    )
    few = type(known)(known.results)
    few.__dict__["runs"] = runs
    drawn = figures.draw(few, "m3oe_learning_rate")
    assert not drawn.figure.axes
    told = "Not drawn, as a line takes numbers at 2 values of training.learning_rate: planted-tasks"
    assert told in drawn.caption.replace("ml-1m-m3oe", "planted-tasks")


def test_gates_near_uniform_are_named_and_not_drawn(known, monkeypatch):
    gates = inside.gate_weights(known)
    monkeypatch.setattr(inside, "UNIFORM", np.inf)
    none = inside.gate_weights(known)
    assert len(gates.data) > len(none.data) == 0
    (told,) = none.left_out
    assert "1 on planted" in told
    assert "`moved`" in told
    assert told in figures.draw(known, "gate_weights").caption


def test_a_second_gated_arm_has_panels_of_its_own(known, monkeypatch):
    monkeypatch.setattr(inside, "GATED", ("moe_mlora", "moe_mlora_released"))
    gates = known.runs["arm"].eq("moe_mlora") & known.runs["variant"].eq("default")
    second = known.runs[gates].assign(arm="moe_mlora_released")
    twice = pd.concat([known.runs[known.runs["arm"] != "moe_mlora_released"], second])
    both = type(known)(known.results)
    both.__dict__["runs"] = twice
    panels = set(inside.gate_weights(both).data["panel"])
    assert any("planted, MoE-MLoRA, " in panel for panel in panels)
    assert any("planted, MoE-MLoRA (released code), " in panel for panel in panels)
    caption = figures.draw(both, "gate_weights").caption
    assert "the gate of MoE-MLoRA or MoE-MLoRA (released code)" in caption
    second = known.curves[known.curves["phase"] == "gate"].assign(arm="moe_mlora_released")
    both.__dict__["curves"] = pd.concat([known.curves, second])
    hues = set(inside.learning_curves(both).data["hue"])
    assert {"MoE-MLoRA, Wide&Deep", "MoE-MLoRA (released code), Wide&Deep"} <= hues


def test_a_data_set_that_lacks_a_leg_is_told(known, monkeypatch):
    monkeypatch.setattr(inside, "experiments", lambda _: ("main",))
    curves = known.curves
    few = type(known)(known.results)
    lacks = curves["dataset"].eq("planted") & curves["phase"].eq("gate")
    few.__dict__["curves"] = curves[~lacks]
    spec = inside.learning_curves(few)
    assert spec.left_out == ("Not drawn, as a leg has no curve: planted",)
    assert inside.learning_curves(known).left_out == ()


def test_only_intervals_that_are_drawn_are_explained(known):
    assert "Student's t" in figures.draw(known, "controls").caption
    by_domain = figures.draw(known, "gain_by_domain").caption
    assert "the error that the test users bring" in by_domain
    assert "WAUC" not in by_domain
    none = figures.draw(known, "m3oe_ablations").caption
    assert ("Intervals of" in none) == bool(
        figures.experiment(known, "m3oe_ablations").data["low"].notna().any()
    )


@pytest.mark.parametrize("metric", ["calibration", "my_own_number"])
def test_the_metric_of_an_experiment_is_drawn_whatever_is_better(smoke, monkeypatch, metric):
    monkeypatch.setattr(params, "COMPARED", (*params.COMPARED, metric))
    study = change_params(lambda p: p["experiments"][OWN].update(metric=metric))
    of = frames(study)
    of.__dict__["runs"] = of.runs.assign(**{metric: range(len(of.runs))})
    data = figures.experiment(of, OWN).data
    assert len(data) == 3
    assert len(set(data["metric"])) == 1


def test_a_figure_is_written_with_its_caption(fabricated):
    figures.write_figures(fabricated, ["rank"])
    folder = layout.figures(fabricated.tier)
    assert {path.name for path in folder.iterdir()} == {f"rank.{s}" for s in ("png", "pdf", "txt")}
    caption = (folder / "rank.txt").read_text(encoding="utf-8")
    assert caption.startswith(fabricated.params.experiments["rank"].question)


def test_an_unknown_figure_is_refused(smoke):
    with pytest.raises(UserError, match="figure 'fusoin' is unknown; did you mean fusion"):
        cli.figures("smoke", ["fusoin"])


def test_an_experiment_that_the_package_does_not_know_has_its_figure(smoke):
    assert OWN in figure_names(smoke)
    drawn = figures.draw(frames(smoke), OWN)
    assert_readable(drawn.figure)
    assert drawn.figure.get_supxlabel() == "Model dropout"
    assert hollow(drawn.figure.axes[0]) == [False, False, False]


def test_noise_is_shaded_where_it_is_known():
    frame = differences(rows=("one", "two", "three")).assign(band=[0.0005, np.nan, 0.002])
    (ax,) = kinds.forest(frame, "difference").figure.axes
    shaded = [(bar.get_y() + 0.5, bar.get_x(), bar.get_width()) for bar in ax.patches]
    assert shaded == [(0, -0.0005, 0.001), (2, -0.002, 0.004)]


def listed(groups, blocks, rows, **columns):
    """A frame of differences for a listing."""
    names = [(g, b, y) for g in groups for b in blocks for y in rows]
    frame = pd.DataFrame(names, columns=["group", "block", "y"])
    x = np.linspace(-0.002, 0.002, len(frame))
    frame = frame.assign(x=x, low=x - 0.001, high=x + 0.001, hue="", band=np.nan, stale=False)
    return frame.assign(**columns)


def points_of(axes):
    """Where points of axes are drawn, from left to right."""
    drawn = [line for ax in axes for line in ax.lines if line.get_linestyle() == "None"]
    return sorted(x for line in drawn for x in line.get_xdata())


def words_of(axes):
    return [text.get_text() for ax in axes for text in ax.texts if text.get_text()]


def test_a_short_listing_is_a_column_and_says_each_word_once():
    frame = listed(["main: WAUC, to Base"], ["one", "two"], ["MLoRA", "MLoRA", "MoE"])
    drawing = pages.listing(frame, "difference")
    (ax,) = drawing.figure.axes
    assert drawing.figure.get_figwidth() == COLUMN
    assert words_of([ax]) == ["main: WAUC, to Base", "one", "two"]
    assert rows_of(ax) == ["", "MLoRA", "", "MoE", "MLoRA", "", "MoE"]
    assert points_of([ax]) == pytest.approx(frame["x"])
    assert drawing.left_out == ()
    assert_readable(drawing.figure)


def test_a_long_listing_goes_on_in_a_second_column_and_counts_what_has_no_room():
    groups = [f"study {i}: WAUC, to Base" for i in range(12)]
    frame = listed(groups, [f"data {i}" for i in range(5)], ["MLoRA", "MoE", "STAR"])
    drawing = pages.listing(frame, "difference")
    axes = drawing.figure.axes
    assert drawing.figure.get_figwidth() == PAGE
    assert words_of(axes[1:])[0].endswith("(continued)")
    shown = len(points_of(axes))
    assert points_of(axes) == pytest.approx(frame["x"][:shown])
    (told,) = drawing.left_out
    assert told.startswith(f"No room for {len(frame) - shown} comparisons: ")
    assert told.endswith("15 of study 11")
    assert_readable(drawing.figure)


@pytest.mark.parametrize("largest", [0.05, 0.06, 0.1, 0.3, 1.0])
def test_a_listing_of_small_and_large_differences_shows_both(largest):
    frame = listed(["a"], ["b"], ["c", "d"]).assign(x=[0.0001, largest], low=np.nan, high=np.nan)
    drawing = pages.listing(frame, "difference")
    assert drawing.left_out == ("The axis is linear to ±0.005, and logarithmic beyond",)
    assert drawing.figure.axes[0].get_xlim()[1] > largest
    assert_readable(drawing.figure)


def test_words_that_would_meet_have_lines_of_their_own():
    frame = listed(["a"], ["b" * 30], ["c" * 30])
    (ax,) = pages.listing(frame, "difference").figure.axes
    assert rows_of(ax) == ["", "", "c" * 30]


def test_all_comparisons_are_those_of_the_experiments(known):
    frame, names = overall.comparisons(known).data, experiments(known.study)
    for i, own in frame.groupby("experiment"):
        gains = known.gains(names[i]).dropna(subset="gain")
        means = gains.groupby(["dataset", "backbone", "arm", "variant", "over"])["gain"].mean()
        found = own.set_index(means.index.names)["gain"]
        pd.testing.assert_series_equal(found.sort_index(), means.loc[found.index].sort_index())
    assert frame["changed"].is_monotonic_increasing
    assert set(frame["experiment"]) == {
        i for i, n in enumerate(names) if known.gains(n)["gain"].any()
    }


def test_of_two_references_one_direction_is_shown():
    pairs = [("base", "mlora"), ("mlora", "base"), ("moe_mlora", "base"), ("moe_mlora", "mlora")]
    gains = pd.DataFrame(pairs, columns=["arm", "over"]).assign(backbone="mlp", variant="default")
    left = overall._one_way(gains, ("base", "mlora"))
    assert [*zip(left["arm"], left["over"], strict=True)] == pairs[1:]


def test_published_numbers_stand_against_those_of_their_runs(known):
    data = overall.published(known).data
    assert {"AUC over domains", "AUC by domain and task", "Log loss"} == {*data["panel"]}
    own = data[(data["panel"] == "AUC over domains") & (data["arm"] == "mdmt_released")]
    own = own[own["variant"] == "default"]
    for row in own.to_dict("records"):
        runs = known.runs.query("dataset == @row['dataset'] and arm == @row['arm']")
        runs = runs[runs["backbone"].eq(row["backbone"]) & runs["variant"].eq("default")]
        assert row["y"] == pytest.approx(runs["macro_auc"].mean())
        (half,) = half_widths(runs, ["macro_auc"])["macro_auc_half"]
        assert row["high"] - row["low"] == pytest.approx(2 * half)
        assert half > 0
    drawn = figures.draw(known, "published")
    assert "M3oE (arXiv" in drawn.caption
    for ax in drawn.figure.axes:
        assert ax.get_xlim() == ax.get_ylim()
        identity = ax.lines[0]
        assert list(identity.get_xdata()) == list(identity.get_ydata())


def test_shares_of_runs_by_status_are_those_of_the_experiments(known):
    data = overall.coverage(known).data
    sums = data.groupby(["y", "x"])["value"].sum()
    assert sums.to_numpy() == pytest.approx(np.ones(len(sums)))
    for (dataset, name), own in data[data["x"] != "all runs"].groupby(["y", "x"]):
        runs = known.of(name)
        status = runs.loc[runs["dataset"] == dataset, "status"]
        for hue, share in zip(own["hue"], own["value"], strict=True):
            assert share == pytest.approx((status == hue).mean())
    faces = [np.dot(to_rgb(look["facecolor"]), (0.299, 0.587, 0.114)) for look in LOOKS.values()]
    assert np.diff(faces).min() > 0.05  # told apart in grey


def test_what_moved_is_what_the_records_say(known):
    data = inside.moved(known).data
    assert set(data["part"]) == set(inside.MOVED)
    assert data["x"].between(0, 1).all()
    planted = data[data["dataset"].eq("planted") & data["part"].eq("own")]
    shares = known.runs[known.runs["dataset"].eq("planted") & known.runs["variant"].eq("default")]
    for row in planted.to_dict("records"):
        runs = shares[shares["arm"].eq(row["arm"]) & shares["backbone"].eq(row["backbone"])]
        assert row["x"] == pytest.approx(runs["gate_own_expert"].mean())
        assert row["chance"] == pytest.approx(1 / 8)


def test_fusion_weights_are_those_of_the_experiments_that_show_them(known):
    spec = inside.fusion(known)
    asked = {run.path.as_posix() for run in known.study.expected["m3oe_automl"]}
    assert {*spec.runs["run"]} <= asked
    assert 0 < spec.data["hue"].nunique() <= 8


def test_an_expert_whose_best_epoch_is_its_start_has_not_moved(known):
    curves = known.curves
    starts = curves["phase"].eq("experts") & curves["dataset"].eq("planted")
    still = starts & curves["lane"].eq("0") & curves["epoch"].gt(0)
    few = type(known)(known.results)
    few.__dict__["curves"] = curves.assign(best=curves["best"] & ~still)
    data = inside.moved(few).data
    own = data[data["part"].eq("experts") & data["dataset"].eq("planted")]
    assert set(own["x"]) == {7 / 8}
    assert set(data.loc[data["part"].eq("experts") & data["dataset"].ne("planted"), "x"]) == {1}


def test_modules_are_named_in_full(smoke):
    hues = set(inside.modules(frames(smoke)).data["hue"])
    assert {"expert of domain 1", "expert of task 1", "shared module", "fused"} <= hues


def test_panels_have_places_that_do_not_depend_on_the_run(tmp_path):
    figure = kinds.forest(differences(panels=("a", "b")), "difference").figure
    save(figure, tmp_path, "one")
    for ax in figure.axes:
        bounds = ax.get_position(original=True).bounds
        assert bounds == pytest.approx(np.round(bounds, PLACES), abs=1e-15)


def test_ranks_have_a_bar_for_each_clique_and_are_given_from_five_seeds(known, monkeypatch):
    drawn = figures.draw(known, "ranks")
    assert "same 5 seeds" in drawn.caption
    assert not drawn.figure.axes
    means = pd.Series({"moe_mlora": 1.2, "mlora": 1.9, "base": 2.9})
    found = Ranks(means, blocks=10, by_dataset=False, seeds=5, p=0.01, critical=1.1)
    monkeypatch.setattr(overall, "ranked", lambda _, name: found if name == "controls" else None)
    drawn = figures.draw(known, "ranks")
    (ax,) = drawn.figure.axes
    assert rows_of(ax) == ["MoE-MLoRA", "MLoRA", "Base"]
    bars = [
        line for line in ax.lines if np.ptp(line.get_xdata()) == 0 and len(line.get_xdata()) == 2
    ]
    assert [[*map(round, bar.get_ydata())] for bar in bars] == [[0, 1], [1, 2]]
    assert "controls: 10 blocks, 5 seeds, Friedman's p 0.01." in drawn.caption
    assert "as independent, and they are not" in drawn.caption
    whole = replace(found, by_dataset=True)
    monkeypatch.setattr(overall, "ranked", lambda _, name: whole if name == "controls" else None)
    caption = figures.draw(known, "ranks").caption
    assert "controls: 10 data sets, 5 seeds" in caption
    assert "and they are not" not in caption
    assert_readable(drawn.figure)
