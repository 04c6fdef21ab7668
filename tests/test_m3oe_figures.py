"""Figures of the M3oE study: what is drawn is what the results say."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from domain_experts.reporting.collect import collect
from domain_experts.reporting.figures import draw
from domain_experts.reporting.plots.m3oe_fusion import NO_WEIGHTS, fusion
from domain_experts.reporting.plots.m3oe_gain import NO_GAINS, relative_gains
from domain_experts.reporting.plots.m3oe_row_order import NO_ORDERS
from domain_experts.reporting.plots.m3oe_sensitivity import varied
from domain_experts.reporting.style import PALETTE
from domain_experts.study import Study

DATA, BY_DOMAIN = "ml-1m-m3oe", "ml-1m-m3oe-by-domain"
NAMED = ("a_D", "a_T", "b_D", "b_T")
NAMES = ("m3oe_gain", "m3oe_sensitivity", "m3oe_fusion", "m3oe_row_order")


@pytest.fixture(scope="module")
def results(fabricated_tree):
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        return collect(study)


def keep(results, wanted):
    return replace(results, metrics={r: m for r, m in results.metrics.items() if wanted(r)})


def auc(results, dataset, backbone, arm, variant=()):
    """(seeds, T, D) test AUC."""
    return np.array(
        [
            [m["test"][task]["by_domain"]["auc"] for task in m["tasks"]]
            for r, m in results.metrics.items()
            if (r.dataset, r.backbone, r.arm, r.variant) == (dataset, backbone, arm, variant)
        ]
    )


def points(panel, color):
    """(n, 2) points of the large markers of a colour."""
    lines = [line for line in panel.lines if line.get_marker() not in ("None", "|", "_", 2, 3)]
    own = [
        line.get_xydata() for line in lines if to_hex(line.get_markerfacecolor()) == to_hex(color)
    ]
    return np.concatenate(own)


def titled(figure, title):
    return next(panel for panel in figure.axes if panel.get_title() == title)


def test_gains_are_ratios_to_mlp_on_the_rows_of_each_protocol(results):
    panels = {title: gains for title, gains, _ in relative_gains(results)}
    assert list(panels) == [
        f"{DATA}, clean",
        "ml-1m, released",
        "ml-1m, published",
        "planted-tasks, clean",
    ]
    clean = 100 * (
        auc(results, DATA, "star_one_layer", "mdl").mean(0)
        / auc(results, DATA, "mlp_norm", "single").mean(0)
        - 1
    )
    # cells go by domain, then task
    np.testing.assert_allclose(panels[f"{DATA}, clean"].loc["STAR"], clean.T.ravel())
    released = 100 * (
        auc(results, DATA, "m3oe", "mdmt_released").mean(0)
        / auc(results, BY_DOMAIN, "mlp_norm", "single_released").mean(0)
        - 1
    )
    np.testing.assert_allclose(panels["ml-1m, released"].loc["M3oE"], released.T.ravel())
    published = panels["ml-1m, published"].round(2)
    assert published.loc["M3oE"].tolist() == [2.12, 2.26, 1.63, 0.85, 1.72, 2.62]
    assert published.loc["STAR"].tolist() == [1.16, 0.59, 0.79, -0.24, 0.64, 0.74]
    assert published.loc["MMoE-MTL"].tolist() == [0.44, 0.73, 0.41, 0.09, -0.03, 0.65]


def test_the_heat_map_shows_these_numbers(results):
    figure = draw(results, "m3oe_gain")
    for title, gains, _ in relative_gains(results):
        panel = titled(figure, title)
        texts = [text.get_text().replace("−", "-") for text in panel.texts]
        np.testing.assert_allclose([float(t) for t in texts], gains.to_numpy().ravel(), atol=0.0051)
        assert [label.get_text() for label in panel.get_xticklabels()][1] == "D1 T2"


def test_a_model_that_is_not_run_leaves_an_empty_row(results):
    part = keep(results, lambda run: run.backbone != "star_one_layer")
    panel = titled(draw(part, "m3oe_gain"), f"{DATA}, clean")
    assert [text.get_text() for text in panel.texts][6:12] == ["–"] * 6
    assert panel.texts[0].get_text() != "–"


def test_a_protocol_that_is_not_run_says_so(results):
    part = keep(results, lambda run: run.dataset != BY_DOMAIN)
    panel = titled(draw(part, "m3oe_gain"), "ml-1m, released")
    assert [text.get_text() for text in panel.texts] == ["not run"]


@pytest.mark.parametrize("absent", [(DATA,), (DATA, BY_DOMAIN)])
def test_data_that_are_not_there_are_told_from_runs_that_are_not(results, absent):
    part = keep(results, lambda run: run.dataset == "planted-tasks")
    states = {r: "data not present" if r.dataset in absent else "not run" for r in part.states}
    figure = draw(replace(part, states=states), "m3oe_gain")
    both = "data not present" if BY_DOMAIN in absent else "data not present, not run"
    for title, said in ((f"{DATA}, clean", "data not present"), ("ml-1m, released", both)):
        assert [text.get_text() for text in titled(figure, title).texts] == [said]


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("m3oe_gain", lambda run: run.backbone == "mmoe", NO_GAINS),
        ("m3oe_gain", lambda run: run.backbone == "mlp_norm", NO_GAINS),
        ("m3oe_row_order", lambda run: run.dataset == "planted-tasks", "not run"),
        ("m3oe_fusion", lambda run: run.dataset == BY_DOMAIN, "not run"),
    ],
)
def test_a_figure_without_its_runs_says_so(results, name, wanted, said):
    figure = draw(keep(results, wanted), name)
    assert not figure.axes
    assert figure.texts[0].get_text() == said


def test_curves_without_fusion_weights_say_so(results):
    plain = {
        run: made | {"curve": [{**point, "fusion": None} for point in made["curve"]]}
        for run, made in results.metrics.items()
    }
    for made in plain.values():
        for point in made["curve"]:
            del point["fusion"]
    figure = draw(replace(results, metrics=plain), "m3oe_fusion")
    assert figure.texts[0].get_text() == NO_WEIGHTS


def test_rows_of_variants_alone_have_no_orders(results):
    values = results.study.params.model_dump()
    values["experiments"]["m3oe_row_order"]["vary"] = {"training.patience": [4]}
    values["experiments"]["m3oe_row_order"]["arms"] = {"mdmt_released": ["mmoe"]}
    study = Study(type(results.study.params).model_validate(values), "quick")
    by_path = {(r.dataset, r.backbone, r.arm): m for r, m in results.metrics.items()}
    made = {
        run: by_path[run.dataset, run.backbone, run.arm] for run in study.expected["m3oe_row_order"]
    }
    figure = draw(replace(results, study=study, metrics=made), "m3oe_row_order")
    assert figure.texts[0].get_text() == NO_ORDERS


@pytest.mark.parametrize(
    ("experiment", "title", "best"),
    [
        ("m3oe_learning_rate", "Learning rate", 0.01),
        ("m3oe_shared_experts", "Shared experts, N", 1),
    ],
)
def test_sensitivity_shows_means_spread_and_the_published_best(results, experiment, title, best):
    panel = titled(draw(results, "m3oe_sensitivity"), title)
    own = varied(results, experiment)
    expected = own.groupby("value")["overall_auc"].mean()
    drawn = points(panel, PALETTE[0])
    np.testing.assert_allclose(drawn, np.column_stack([expected.index, expected]))
    assert len(own) == 2 * len(expected)
    (dotted,) = (line for line in panel.lines if line.get_linestyle() == ":")
    assert dotted.get_xdata()[0] == best
    spread = panel.containers[0].lines[2][0].get_segments()
    sd = own.groupby("value")["overall_auc"].std()
    np.testing.assert_allclose([segment[1, 1] - segment[0, 1] for segment in spread], 2 * sd)


def test_one_half_of_the_sensitivity_may_be_missing(results):
    part = keep(results, lambda run: "shared_experts" not in str(run.variant))
    values = part.study.params.model_copy(
        update={
            "experiments": {
                name: experiment
                for name, experiment in part.study.params.experiments.items()
                if name != "m3oe_shared_experts"
            }
        }
    )
    figure = draw(replace(part, study=Study(values, "quick")), "m3oe_sensitivity")
    panel = titled(figure, "Shared experts, N")
    assert [text.get_text() for text in panel.texts] == ["no runs in this tier"]


def test_one_learning_rate_alone_stands_in_the_middle(results):
    part = keep(results, lambda run: not run.variant)
    panel = titled(draw(part, "m3oe_sensitivity"), "Learning rate")
    (value,) = varied(part, "m3oe_learning_rate")["value"].unique()
    left, right = panel.get_xlim()
    assert left * right == pytest.approx(value**2)


def test_fusion_weights_are_drawn_by_epoch(results):
    weights = fusion(results)
    default = weights[weights["variant"] == "default"]
    panel = titled(draw(results, "m3oe_fusion"), "β task")
    table = default.pivot_table("b_T", "epoch", "seed").ffill().mean(axis=1)
    thick = [line for line in panel.lines if line.get_linewidth() == 1]
    assert len(thick) == weights["variant"].nunique() == 8
    np.testing.assert_allclose(thick[0].get_ydata(), table)
    assert thick[0].get_color() == PALETTE[0]


def test_fixed_weights_are_not_drawn(results):
    fixed = {
        run: made
        | {"curve": [point | {"fusion": dict.fromkeys(NAMED, 0.5)} for point in made["curve"]]}
        if run.variant == (("multi_protocol.scalars", "fixed"),)
        else made
        for run, made in results.metrics.items()
    }
    panel = titled(draw(replace(results, metrics=fixed), "m3oe_fusion"), "α task")
    assert sum(line.get_linewidth() == 1 for line in panel.lines) == 7


def test_ways_to_train_the_weights_have_a_row_each(results):
    part = keep(results, lambda run: ("multi_protocol.scalars", "lower") not in run.variant)
    figure = draw(part, "m3oe_fusion")
    rows = next(p for p in figure.axes if p.get_xlabel() == f"Overall test AUC, {DATA}")
    names = [label.get_text() for label in rows.get_yticklabels()]
    assert names[:3] == ["Upper level alone", "Both levels, as released", "Lower level alone"]
    (text,) = rows.texts
    assert (text.get_text(), text.get_position()[1]) == ("not run", 2)
    drawn = points(rows, PALETTE[0])
    np.testing.assert_allclose(drawn, [[auc(results, DATA, "m3oe", "mdmt").mean(), 0]])


def test_orders_show_each_model_beside_the_published_value(results):
    figure = draw(results, "m3oe_row_order")
    panel = titled(figure, "ml-1m")
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        "by time\n(100 % seen)",
        "shuffled\n(100 % seen)",
    ]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    color = PALETTE[labels.index("M3oE")]
    drawn = points(panel, color)
    expected = [
        auc(results, dataset, "m3oe", "mdmt_released").mean()
        for dataset in (DATA, "ml-1m-m3oe-shuffled")
    ]
    np.testing.assert_allclose(drawn[:, 0], expected)
    lines = {to_hex(li.get_color()): li.get_xdata()[0] for li in panel.lines if li.get_ls() == ":"}
    assert lines[to_hex(color)] == 0.7702
    assert sorted(lines.values()) == [0.7562, 0.7635, 0.7702]


def test_an_order_that_is_not_run_says_so(results):
    part = keep(results, lambda run: run.dataset != "ml-1m-m3oe-shuffled")
    panel = titled(draw(part, "m3oe_row_order"), "ml-1m")
    (text,) = panel.texts
    assert (text.get_text(), text.get_position()[1]) == ("not run", 1)


@pytest.mark.parametrize("name", NAMES)
def test_figures_name_what_is_missing_and_need_no_data(results, name):
    part = keep(results, lambda run: run.seed == 1)
    caption = draw(part, name).get_supxlabel().replace("\n", " ")
    assert "some runs missing" in caption
    assert "Seed 1." in caption
