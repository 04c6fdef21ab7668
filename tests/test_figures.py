"""Figures: what is drawn is what the results say."""

import contextlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import REAL
from matplotlib import style
from matplotlib.colors import to_hex

from domain_experts import layout
from domain_experts.params import Params
from domain_experts.phases import FIGURES
from domain_experts.registry import ARMS
from domain_experts.reporting.collect import collect
from domain_experts.reporting.figures import DRAWN, draw, write_figures
from domain_experts.reporting.plots import learning_curves, panels
from domain_experts.reporting.plots.ablations import variants
from domain_experts.reporting.plots.diversity import varied
from domain_experts.reporting.plots.panels import below, caption, gains, grid, outer_labels
from domain_experts.reporting.plots.switches import ALL, ALL_BUT_SPLIT, flips
from domain_experts.reporting.style import HEIGHT, PALETTE, RC, WIDTH, arm_color
from domain_experts.study import Study

FOLDER = layout.figures("quick")
CAPTIONS = Path(__file__).parents[1] / "workflow/report"


@pytest.fixture(scope="module")
def results(fabricated_tree):
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        return collect(study)


def after(results, experiments):
    """The results after a change of experiments: keys of theirs, or None to take one out.

    New variants have the results of the default.
    """
    values = results.study.params.model_dump()
    for name, keys in experiments.items():
        if keys is None:
            del values["experiments"][name]
        else:
            values["experiments"][name] |= keys
    study = Study(Params.model_validate(values), "quick", results.study.absent)
    by_path = {run.path: metrics for run, metrics in results.metrics.items()}
    metrics = {
        run: by_path.get(run.path) or by_path[replace(run, variant=()).path] for run in study.runs
    }
    return replace(results, study=study, metrics=metrics)


def without(results, *missing):
    """The results less those of some runs: tests of a run."""
    kept = {r: m for r, m in results.metrics.items() if not any(test(r) for test in missing)}
    return replace(results, metrics=kept)


def text_of(figure):
    """What a figure without panels says."""
    return figure.texts[0].get_text() if not figure.axes else None


def said(figure):
    """The caption below a figure, on one line."""
    return figure.get_supxlabel().replace("\n", " ")


def marks(panel, color):
    """(n, 2) points of the large markers of a colour, in the order drawn."""
    lines = [line for line in panel.lines if len(line.get_xdata()) and line.get_marker() != "None"]
    own = [
        line.get_xydata()
        for line in lines
        if to_hex(line.get_color()) == color and to_hex(line.get_markerfacecolor()) == color
    ]
    return np.concatenate(own) if own else np.empty((0, 2))


def small(panel):
    """(n, 2) points of the small dots."""
    lines = [line for line in panel.lines if line.get_markerfacecolor() == "w"]
    return np.concatenate([line.get_xydata() for line in lines]) if lines else np.empty((0, 2))


def panel_titled(figure, start):
    return next(panel for panel in figure.axes if panel.get_title().startswith(start))


def wauc(results, arm, dataset, backbone="wdl", variant=(), experiment=None):
    """Seed -> test WAUC of an arm's runs."""
    runs = results.made(experiment) if experiment else results.metrics
    return {
        run.seed: results.metrics[run]["test"]["click"]["wauc"]
        for run in runs
        if (run.arm, run.dataset, run.variant) == (arm, dataset, variant)
        and run.backbone in (backbone, "none")
    }


def less(one, other):
    """1000 x the difference of two such, for the seeds of both, by seed."""
    return [1000 * (one[seed] - other[seed]) for seed in sorted(one.keys() & other.keys())]


def test_equal_results_give_equal_bytes(fabricated, monkeypatch):
    write_figures(fabricated)
    before = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    for name in set(DRAWN) - {"gates", "switches", "diversity"}:
        monkeypatch.delitem(DRAWN, name)
    write_figures(fabricated)
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == before
    assert set(before) == {f"{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")}
    for name in FIGURES:
        (width,) = struct.unpack(">I", before[f"{name}.png"][16:20])
        assert width == round(300 * WIDTH), "300 dots an inch"
    assert not any(b"CreationDate" in content for content in before.values())


def test_every_figure_is_in_the_pipeline_and_has_a_caption():
    assert set(DRAWN) == set(FIGURES)
    assert {path.name for path in CAPTIONS.glob("figure-*.rst")} == {
        f"figure-{name}.rst" for name in FIGURES
    }


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    ("left_out", "notice"),
    [("all", "data not present"), ("none", "not run"), ("no data sets", "no runs in this tier")],
)
def test_without_results_a_figure_says_why(results, name, left_out, notice):
    params = results.study.params
    if left_out == "no data sets":
        experiments = {
            key: experiment.model_copy(update={"datasets": {}})
            for key, experiment in params.experiments.items()
        }
        params = params.model_copy(update={"experiments": experiments})
    study = Study(params, "quick")
    states = dict.fromkeys(study.expected_runs, notice)
    nothing = replace(results, study=study, metrics={}, states=states, comparisons=[])
    assert text_of(draw(nothing, name)) == notice


@pytest.mark.parametrize("name", FIGURES)
def test_one_seed_can_be_drawn(results, name):
    figure = draw(without(results, lambda run: run.seed not in (1, 2022)), name)
    figure.draw_without_rendering()
    # a mean is its one seed; bars are wide enough for both
    assert not any(len(small(panel)) for panel in figure.axes) or name == "switches"


@pytest.mark.parametrize("experiment", ["main", "rank", "switches"])
def test_an_experiment_may_be_missing(results, experiment):
    part = after(results, {experiment: None})
    for name, (_, used) in DRAWN.items():
        gone = used == (experiment,)
        assert (text_of(draw(part, name)) == "no runs in this tier") == gone


@pytest.mark.parametrize("experiment", ["main", "experts_per_domain", "controls", "new_domain"])
def test_an_experiment_may_vary_another_setting(results, experiment):
    changed = after(results, {experiment: {"vary": {"training.learning_rate": [0.001, 0.01]}}})
    for name, (_, used) in DRAWN.items():
        if experiment in used:
            draw(changed, name)


NO_GAINS = "no finished runs of Base and another arm on the same split in this tier"
NO_GATES = "no finished runs of MoE-MLoRA in this tier"
NO_CURVES = "no finished runs of Base, Experts or MoE-MLoRA in this tier"


@pytest.mark.parametrize(
    ("arms", "gain_by_domain", "gates", "learning_curves"),
    [
        (["base"], NO_GAINS, NO_GATES, None),
        (["item_rate"], NO_GAINS, NO_GATES, NO_CURVES),
        (["mlora"], NO_GAINS, NO_GATES, NO_CURVES),
        (["base", "mlora"], None, NO_GATES, None),
        (["experts"], NO_GAINS, NO_GATES, None),
        (["moe_mlora"], NO_GAINS, None, None),
        (["moe_mlora_released"], NO_GAINS, NO_GATES, NO_CURVES),
    ],
)
def test_a_figure_without_its_arms_says_so(results, arms, gain_by_domain, gates, learning_curves):
    changed = after(results, {"main": {"arms": arms}})
    assert text_of(draw(changed, "gain_by_domain")) == gain_by_domain
    assert text_of(draw(changed, "gates")) == gates
    assert text_of(draw(changed, "learning_curves")) == learning_curves


def test_new_figures_without_their_arms_say_so(results):
    said = {
        "controls": ({"arms": ["mlora"]}, NO_GAINS.replace("another arm", "a control")),
        "switches": (
            {"flip": False, "variants": [], "arms": ["base"]},
            "no finished runs of an arm with and without a flipped switch in this tier",
        ),
    }
    for name, (keys, notice) in said.items():
        assert text_of(draw(after(results, {name: keys}), name)) == notice
    defaults = {name: {"vary": {}, "variants": []} for name in ("rank", "adapted_layers", "gates")}
    notice = "no finished runs of a variant and of the default in this tier"
    assert text_of(draw(after(results, defaults), "ablations")) == notice
    no_base = after(results, {"main": {"arms": ["mlora"]}, "diversity": {"arms": ["mlora"]}})
    notice = "no finished runs of Base and another arm in this tier"
    assert text_of(draw(no_base, "diversity")) == notice


def test_without_one_expert_there_is_no_gain_to_draw(results):
    vary = {"adapter.experts_per_domain": [2, 4]}
    figure = draw(after(results, {"experts_per_domain": {"vary": vary}}), "experts_per_domain")
    notice = "no finished runs with one expert per domain to compare with in this tier"
    assert text_of(figure) == notice


@pytest.mark.parametrize(
    "arms",
    [
        ["mlora", "moe_mlora", "moe_mlora_released", "experts", "oracle_experts", "base"],
        ["new_domain_adapter", "new_domain_finetune", "new_domain_scratch"],
    ],
)
def test_arms_of_one_figure_have_colours_of_their_own(arms):
    assert len({arm_color(arm) for arm in arms}) == len(arms)


def test_figures_are_no_higher_than_a_page():
    figure, _ = panels.grid(11, 2, 1.25)
    assert figure.get_figheight() == HEIGHT


def test_a_panel_of_domains_shows_the_mean_gain_of_each(results):
    figure = draw(results, "gain_by_domain")
    backbones = [panel.get_title() for panel in figure.axes[: len(figure.axes) // 2]]
    panel = figure.axes[backbones.index("Wide&Deep")]
    assert figure.axes[0].get_ylabel() == REAL
    pairs = [
        pair
        for pair in results.comparisons
        if (pair["dataset"], pair["backbone"]) == (REAL, "wdl")
        and (pair["arm"], pair["against"]) == ("mlora", "base")
    ]
    assert len(pairs) == 3
    drawn = marks(panel, arm_color("mlora"))
    expected = np.mean([pair["auc_difference"] for pair in pairs], 0)
    np.testing.assert_allclose(np.sort(drawn[:, 1]), np.sort(expected), rtol=1e-12)
    # the released arm has another split
    assert not len(marks(panel, arm_color("moe_mlora_released")))


def test_gates_are_drawn_by_planted_group(results):
    runs = [
        run
        for run in results.made("main")
        if (run.dataset, run.arm, run.backbone) == ("planted", "moe_mlora", "mlp")
    ]
    weights = np.mean([results.metrics[run]["gate"] for run in runs], 0)
    figure = draw(results, "gates")
    panel = next(panel for panel in figure.axes if panel.get_ylabel() == "planted")
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    np.testing.assert_allclose(panel.images[0].get_array(), weights[np.ix_(order, order)] * 8)
    frames = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in panel.patches]
    assert frames == [(2 * i - 0.5, 2 * i - 0.5, 2, 2) for i in range(4)]
    assert [text.get_text() for text in panel.get_xticklabels()] == [str(i) for i in order]
    # two domains leave room for numbers
    first = figure.axes[0]
    assert [float(text.get_text()) for text in first.texts] == pytest.approx(
        np.ravel(first.images[0].get_array()) / 2, abs=0.005
    )


def test_uniform_gates_can_be_drawn(results):
    uniform = {
        run: made | {"gate": [[1 / len(row)] * len(row) for row in made["gate"]]}
        if made["gate"]
        else made
        for run, made in results.metrics.items()
    }
    figure = draw(replace(results, metrics=uniform), "gates")
    assert all((panel.images[0].get_array() == 1).all() for panel in figure.axes if panel.texts)


def test_a_panel_of_gates_says_how_many_were_trained(results):
    run = next(r for r in results.made("main") if (r.dataset, r.arm) == ("planted", "moe_mlora"))
    made = results.metrics[run]
    curve = [point | {"best": point["epoch"] == 0} for point in made["curve"]]
    figure = draw(
        replace(results, metrics={**results.metrics, run: made | {"curve": curve}}), "gates"
    )
    said = " ".join(panel.get_xlabel() for panel in figure.axes)
    assert said.count("gates: 2/3") == 1
    assert said.count("gates: 3/3") == 3


def test_curves_are_of_the_main_experiment_and_of_experts_that_its_gate_uses(results):
    runs = [run for run in results.made("main") if run.spec.backbone]
    points = learning_curves._curves(results, runs)
    # planted_sharing has seed 4 of this data set too, and experts_per_domain four experts a domain
    assert set(points["seed"]) == {1, 2, 3}
    experts = points[points["phase"] == "experts"]
    for dataset, domains in ((REAL, 2), ("planted", 8)):
        lanes = experts.loc[experts["dataset"] == dataset, "lane"]
        assert set(lanes.astype(int)) == set(range(domains))


def test_a_line_of_experts_that_kept_their_start_says_so(results):
    note = " (no expert left its start)"
    still = {
        run: made | {"curve": [point for point in made["curve"] if point["epoch"] == 0]}
        if (run.dataset, run.backbone, run.arm) == ("planted", "wdl", "experts")
        else made
        for run, made in results.metrics.items()
    }
    figure = draw(replace(results, metrics=still), "experts_per_domain")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label for label in labels if label.endswith(note)] == [f"planted, Wide&Deep{note}"]


def test_controls_show_gains_over_base_with_delong_intervals(results):
    figure = draw(results, "controls")
    panel = panel_titled(figure, "planted")
    names = [label.get_text() for label in panel.get_yticklabels()]
    base = wauc(results, "base", "planted")
    for arm in ("mlora", "moe_mlora"):
        ((x, y),) = marks(panel, arm_color(arm))
        expected = less(wauc(results, arm, "planted"), base)
        assert names[int(y)] == ARMS[arm].label
        assert x == pytest.approx(np.mean(expected))
        dots = small(panel)
        np.testing.assert_allclose(dots[dots[:, 1] == y, 0], expected)
    # without a backbone, compared all the same
    grey = marks(panel, PALETTE[7])
    (x,) = grey[grey[:, 1] == names.index("STAR"), 0]
    assert x == pytest.approx(np.mean(less(wauc(results, "star", "planted"), base)))
    errors = [
        1000 * pair["wauc_standard_error"]
        for pair in results.comparisons
        if (pair["dataset"], pair["backbone"], pair["arm"], pair["against"])
        == ("planted", "wdl", "mlora", "base")
    ]
    bar = next(c for c in panel.collections if to_hex(c.get_color()[0]) == arm_color("mlora"))
    (start, end) = bar.get_segments()[0][:, 0]
    assert (end - start) / 2 == pytest.approx(1.96 * np.sqrt(np.mean(np.square(errors))))


def test_arms_without_a_known_interval_have_none(results):
    points = gains(replace(results, comparisons=[]), results.made("controls"))
    assert points["error"].isna().all()
    assert set(points["arm"]) == set(gains(results, results.made("controls"))["arm"])


def effect(effects, family, side, switch):
    own = effects[(effects["family"] == family) & (effects["side"] == side)]
    return own[own["switch"] == switch].sort_values("seed")


def test_a_flip_is_compared_with_its_own_side(results):
    data = "planted-small"
    effects = flips(results)
    described, released = wauc(results, "mlora", data), wauc(results, "mlora_released", data)
    flip = (("protocol.rollback", True),)
    own = effect(effects, "mlora", "described", "rollback")
    there = wauc(results, "mlora", data, variant=flip, experiment="switches")
    assert list(own["difference"]) == pytest.approx(less(there, described))
    assert own["paired"].all()
    flip = (("protocol.rollback", False),)
    own = effect(effects, "mlora", "released", "rollback")
    there = wauc(results, "mlora_released", data, variant=flip, experiment="switches")
    assert list(own["difference"]) == pytest.approx(less(there, released))
    # both ends of the whole gap
    whole = effect(effects, "mlora", "described", ALL)
    assert list(whole["difference"]) == pytest.approx(less(released, described))
    assert not whole["paired"].any()
    back = effect(effects, "mlora", "released", ALL)
    assert list(back["difference"]) == pytest.approx([-value for value in whole["difference"]])


def test_all_but_the_split_is_on_the_same_rows(results):
    data = "planted-small"
    effects = flips(results)
    assert effects.loc[effects["switch"] == ALL_BUT_SPLIT, "paired"].all()
    assert not effects.loc[effects["switch"] == "split_seed", "paired"].any()
    own = effect(effects, "moe_mlora_sequence", "released", ALL_BUT_SPLIT)
    split = (("protocol.split_seed", 123),)
    there = wauc(results, "moe_mlora_sequence", data, variant=split)
    assert list(own["difference"]) == pytest.approx(
        less(there, wauc(results, "moe_mlora_released", data, experiment="switches"))
    )


def test_switches_are_bars_with_the_whole_gap_dashed(results):
    effects = flips(results)
    figure = draw(results, "switches")
    assert [panel.get_ylabel() for panel in figure.axes[::2]] == ["Base", "MLoRA", "MoE-MLoRA"]
    for i, family in enumerate(("base", "mlora", "moe_mlora_sequence")):
        labels = [label.get_text() for label in figure.axes[2 * i].get_yticklabels()]
        assert labels[:2] == [ALL, ALL_BUT_SPLIT]
        names = labels[:2] + [label.replace(" ", "_") for label in labels[2:]]
        for panel, side in zip(figure.axes[2 * i :], ("described", "released"), strict=False):
            names = [
                label.get_text().replace(" ", "_") for label in figure.axes[2 * i].get_yticklabels()
            ]
            names[:2] = ALL, ALL_BUT_SPLIT
            own = effects[(effects["family"] == family) & (effects["side"] == side)]
            assert len(panel.patches) == len(names) == own["switch"].nunique()
            for bar in panel.patches:
                switch = names[round(bar.get_y() + bar.get_height() / 2)]
                shown = own[own["switch"] == switch]
                assert bar.get_width() == pytest.approx(shown["difference"].mean())
                hollow = to_hex(bar.get_facecolor()) == "#ffffff"
                assert hollow == (switch in (ALL, "split_seed")) != shown["paired"].all()
            (dashed,) = [line for line in panel.lines if line.get_linestyle() == "--"]
            whole = own.loc[own["switch"] == ALL, "difference"].mean()
            assert dashed.get_xdata()[0] == pytest.approx(whole)


def test_a_switch_that_both_sides_set_alike_is_marked(results):
    effects = flips(results)
    marked = effects[effects["switch"].str.endswith("*")]
    assert set(marked["family"]) == {"mlora", "moe_mlora_sequence"}
    assert set(marked["side"]) == {"described", "released"}
    assert set(marked["switch"]) == {"dropout_place*"}
    figure = draw(results, "switches")
    for panel, last in zip(
        figure.axes[::2], ("embedding std", *["dropout place*"] * 2), strict=True
    ):
        assert panel.get_yticklabels()[-1].get_text() == last
    assert "described and released agree" in said(figure)


def test_switches_of_one_side_alone_are_drawn(results):
    figure = draw(without(results, lambda run: run.arm.endswith("_released")), "switches")
    left, right = figure.axes[:2]
    assert len(left.patches)
    assert not len(right.patches)
    assert "some runs missing" in said(figure)


def test_ablations_show_differences_to_the_default(results):
    data = "planted-small"
    points = variants(results, "rank")
    assert set(points["variant"]) == {"alpha=4", "alpha=64", "alpha=256"}
    figure = draw(results, "ablations")
    assert [panel.get_ylabel() for panel in figure.axes] == ["Rank", "Adapted layers", "Gate"]
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["alpha\n4", "alpha\n64", "alpha\n256"]
    for arm in ("mlora", "moe_mlora"):
        drawn = marks(figure.axes[0], arm_color(arm))
        default = wauc(results, arm, data)
        expected = [
            np.mean(less(wauc(results, arm, data, variant=(("adapter.alpha", alpha),)), default))
            for alpha in (4, 64, 256)
        ]
        np.testing.assert_allclose(drawn[:, 1], expected)
        np.testing.assert_array_equal(np.round(drawn[:, 0]), [0, 1, 2])
    assert not len(marks(figure.axes[2], arm_color("mlora")))


def test_an_ablation_that_is_not_run_has_no_panel(results):
    part = without(results, lambda run: any(key.startswith("gate.") for key, _ in run.variant))
    figure = draw(part, "ablations")
    assert [panel.get_ylabel() for panel in figure.axes] == ["Rank", "Adapted layers"]
    assert "planted-small: some runs missing." in said(figure)


def test_one_quantity_of_generated_data_varies_at_a_time(results):
    names = ["domains-2", "domains-8", "domains-32", "strength-4", "rows-40k", "planted"]
    points = pd.DataFrame({"dataset": names})
    by_quantity = {
        quantity: dict(varied(results, points, quantity)[["dataset", "x"]].to_numpy())
        for quantity in ("domains", "strength", "rows")
    }
    assert by_quantity == {
        "domains": {"domains-2": 2, "domains-8": 8, "domains-32": 32},
        "strength": {"domains-8": 2.0, "strength-4": 4.0},
        "rows": {"domains-8": 20000, "rows-40k": 40000},
    }
    assert varied(results, points[:1], "rows").empty


def test_diversity_shows_gains_against_what_varies(results):
    figure = draw(results, "diversity")
    panel = figure.axes[0]
    assert panel.get_xlabel() == "Domains"
    for arm in ("mlora", "moe_mlora", "oracle_experts"):
        drawn = marks(panel, arm_color(arm))
        datasets = {2: "domains-2", 8: "domains-8"}
        assert list(drawn[:, 0]) == list(datasets)
        for (_, gain), dataset in zip(drawn, datasets.values(), strict=True):
            pair = (wauc(results, name, dataset, experiment="diversity") for name in (arm, "base"))
            assert gain == pytest.approx(np.mean(less(*pair)))
    real = figure.axes[-1]
    assert [label.get_text() for label in real.get_xticklabels()] == [f"{REAL}: 2"]
    gain = less(wauc(results, "mlora", REAL), wauc(results, "base", REAL))
    assert marks(real, arm_color("mlora"))[:, 1] == pytest.approx([np.mean(gain)])
    assert not len(marks(real, arm_color("oracle_experts")))
    assert "ml-100k-age: data not present." in said(figure)


def test_diversity_without_real_data_says_so(results):
    figure = draw(without(results, lambda run: run.dataset == REAL), "diversity")
    assert [text.get_text() for text in figure.axes[-1].texts] == ["no finished runs"]
    assert f"{REAL}: not run." in said(figure)


def test_a_new_domain_is_shown_by_the_share_of_its_rows(results):
    figure = draw(results, "new_domain")
    runs = results.made("new_domain")
    dataset = runs[0].dataset
    panel = panel_titled(figure, dataset)
    metrics = results.metrics[runs[0]]
    rows = f"{metrics['rows']['train'][0]:,} training rows"
    assert panel.get_title() == f"{dataset}: domain 0, {rows}"

    def auc(arm, share):
        return np.mean(
            [
                results.metrics[run]["test"]["click"]["by_domain"]["auc"][0]
                for run in runs
                if run.dataset == dataset
                and run.arm == arm
                and run.settings.new_domain.share == share
            ]
        )

    shares = [0.01, 0.05, 0.1, 1.0]
    for arm in ("new_domain_adapter", "new_domain_finetune", "new_domain_scratch"):
        drawn = marks(panel, arm_color(arm))
        np.testing.assert_allclose(drawn, [(share, auc(arm, share)) for share in shares])
    (start,) = [line for line in panel.lines if line.get_linestyle() == "--"]
    assert start.get_ydata()[0] == pytest.approx(auc("mlora_held_out", 1.0))
    ticks = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert ticks == ["1 %", "5 %", "10 %", "100 %"]


def test_the_held_out_domain_is_the_one_of_the_settings(results):
    changed = after(results, {})
    runs = changed.made("new_domain")
    moved = {
        replace(
            run,
            settings=run.settings.model_copy(
                update={"new_domain": run.settings.new_domain.model_copy(update={"held_out": 1})}
            ),
        ): changed.metrics[run]
        for run in runs
    }
    study = changed.study
    study.expected["new_domain"] = tuple(moved)
    figure = draw(replace(changed, metrics=moved), "new_domain")
    assert panel_titled(figure, runs[0].dataset).get_title().split(": ")[1].startswith("domain 1")


def test_a_new_domain_without_finished_arms_has_its_start(results):
    part = without(results, lambda run: run.arm.startswith("new_domain"))
    figure = draw(part, "new_domain")
    assert [line.get_label() for line in figure.axes[0].lines] == ["Untouched start"]
    assert "some runs missing" in said(figure)


def test_a_backbone_without_gains_has_no_column(results):
    part = without(results, lambda run: (run.arm, run.backbone) == ("base", "mlp"))
    kept = [pair for pair in results.comparisons if pair["backbone"] != "mlp"]
    figure = draw(replace(part, comparisons=kept), "gain_by_domain")
    assert {panel.get_title() for panel in figure.axes} - {""} == {"Wide&Deep"}


def test_holes_are_seen(results):
    """Cells say "not run"; a data set without results is named below."""
    hole = without(
        results,
        lambda run: (run.dataset, run.backbone) == (REAL, "mlp"),
        lambda run: run.dataset == "planted" and run.arm in ("experts", "moe_mlora"),
    )
    figure = draw(hole, "gain_by_domain")
    said_in = [[text.get_text() for text in panel.texts] for panel in figure.axes]
    assert said_in.count(["not run"]) == 1
    assert "ml-100k-gender, planted: some runs missing. ml-100k-age: data not present." in said(
        figure
    )
    figure = draw(hole, "gates")
    assert "ml-100k-gender: some runs missing." in said(figure)
    assert "planted: not run." in said(figure)
    assert [panel.get_ylabel() for panel in figure.axes].count(REAL) == 1
    figure = draw(hole, "learning_curves")
    assert sum(panel.texts[0].get_text() == "not run" for panel in figure.axes if panel.texts) == 2


def test_a_label_stays_beside_its_panels_however_long_the_caption_is():
    figure, axes = grid(1, 2, 1.0)
    outer_labels(figure, "Gain", "Rows\n" + "\n".join(["a long caption"] * 6))
    figure.draw_without_rendering()
    box = axes[0, 0].get_position()
    (label,) = (text for text in figure.texts if text.get_text() == "Gain")
    assert box.y0 < label.get_position()[1] < box.y1
    # the middle of the figure is in the caption
    assert box.y0 > 0.5


@pytest.fixture
def drawn_in_style():
    with style.context(["default", RC]):
        yield


@pytest.mark.usefixtures("drawn_in_style")
def test_a_long_caption_leaves_the_panels_their_height():
    """The caption names every data set that is missing: many lines, where little is finished."""
    figure, axes = grid(1, 3, 1.15)
    caption(figure, "Epoch\n" + "\n".join(["a long caption"] * 12))
    figure.draw_without_rendering()
    assert axes[0, 0].get_position().height * figure.get_figheight() > 0.6


@pytest.mark.usefixtures("drawn_in_style")
@pytest.mark.parametrize("words", ["amazon-13-mamdr, ", "some more words of a caption "])
def test_a_caption_is_not_cut(results, words):
    figure, _ = grid(1, 1, 1.0)
    caption(figure, below(results, [], "Epoch", words * 20))
    figure.draw_without_rendering()
    (text,) = figure.texts
    extent = text.get_window_extent().transformed(figure.transFigure.inverted())
    assert extent.x0 > 0
    assert extent.x1 < 1
