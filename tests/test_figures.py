"""Figures from a fabricated results tree."""

import json

import pytest
from fabricated import changed

from domain_experts import layout
from domain_experts.params import Study
from domain_experts.reporting import figures
from domain_experts.reporting.collect import collect
from domain_experts.reporting.figures import write_figures

NAMES = ("gain_by_domain", "gates", "learning_curves", "experts_per_domain")
FOLDER = layout.figures("quick")


def test_equal_results_give_equal_bytes(fabricated):
    write_figures(fabricated)
    before = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    write_figures(fabricated)
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == before
    assert set(before) == {f"{name}.{kind}" for name in NAMES for kind in ("pdf", "png")}
    assert b"CreationDate" not in before["gates.pdf"]


def test_the_gate_is_what_the_figure_of_gates_shows(fabricated):
    write_figures(fabricated)
    before = {name: (FOLDER / f"{name}.png").read_bytes() for name in NAMES}
    run = next(
        run
        for run in fabricated.expected["main"]
        if (run.dataset, run.arm) == ("planted", "moe_mlora")
    )
    path = layout.run_results("quick", run) / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["gate"] = metrics["gate"][::-1]
    path.write_text(json.dumps(metrics))
    write_figures(fabricated)
    changed = {name for name in NAMES if (FOLDER / f"{name}.png").read_bytes() != before[name]}
    assert changed == {"gates"}


@pytest.mark.parametrize("left_out", ["all", "none of them in the tier"])
def test_without_data_the_figures_say_so(fabricated, left_out):
    """Every figure is written; all are the same notice."""
    tier = "quick" if left_out == "all" else "paper"
    params = fabricated.params
    if tier == "paper":
        experiments = {
            name: experiment.model_copy(update={"datasets": {}})
            for name, experiment in params.experiments.items()
        }
        params = params.model_copy(update={"experiments": experiments})
        target = layout.results(tier) / "comparisons.json"
        target.parent.mkdir()
        target.write_bytes((layout.results("quick") / "comparisons.json").read_bytes())
    study = Study(params, tier, frozenset(fabricated.all_datasets))
    write_figures(study)
    assert len({(layout.figures(tier) / f"{name}.png").read_bytes() for name in NAMES}) == 1


def test_uniform_gates_and_one_seed_can_be_drawn(fabricated):
    main = fabricated.params.experiments["main"].model_copy(update={"seeds": {"quick": (1,)}})
    params = fabricated.params.model_copy(update={"experiments": {"main": main}})
    study = Study(params, "quick", fabricated.leave_out)
    for run in study.runs:
        if run.arm == "moe_mlora":
            path = layout.run_results("quick", run) / "metrics.json"
            metrics = json.loads(path.read_text())
            metrics["gate"] = [[1 / len(row)] * len(row) for row in metrics["gate"]]
            path.write_text(json.dumps(metrics))
    write_figures(study)
    assert (FOLDER / "gates.pdf").is_file()


GATE = ("planted", "moe_mlora")
NO_GAINS = "no runs of Base and another arm on the same split in this tier"
NO_GATES = "no runs of MoE-MLoRA in this tier"
NO_CURVES = "no runs of Base, Experts or MoE-MLoRA in this tier"


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
def test_a_figure_without_its_arms_says_so(
    fabricated, arms, gain_by_domain, gates, learning_curves
):
    study = changed(fabricated, {"main": {"arms": arms}})
    results = collect(study)
    expected = {
        "gain_by_domain": gain_by_domain,
        "gates": gates,
        "learning_curves": learning_curves,
    }
    for name, notice in expected.items():
        assert text_of(getattr(figures, name)(results)) == notice
    write_figures(study)


def text_of(figure):
    """What a figure without panels says."""
    return figure.texts[0].get_text() if not figure.axes else None


def test_without_one_expert_there_is_no_gain_to_draw(fabricated):
    vary = {"adapter.experts_per_domain": [2, 4]}
    study = changed(fabricated, {"experts_per_domain": {"vary": vary}})
    write_figures(study)
    figure = figures.experts_per_domain(collect(study))
    assert text_of(figure) == "no runs with one expert per domain to compare with in this tier"


@pytest.mark.parametrize("name", ["main", "experts_per_domain", "planted_sharing"])
def test_an_experiment_may_be_missing(fabricated, name):
    write_figures(changed(fabricated, {name: None}))
    assert len(list(FOLDER.iterdir())) == 2 * len(NAMES)


@pytest.mark.parametrize("experiment", ["main", "experts_per_domain"])
def test_an_experiment_may_vary_another_setting(fabricated, experiment):
    vary = {"training.learning_rate": [0.001, 0.01]}
    write_figures(changed(fabricated, {experiment: {"vary": vary}}))


def test_curves_are_of_the_main_experiment_and_of_experts_that_its_gate_uses(fabricated):
    results = collect(fabricated)
    runs = [run for run in fabricated.expected["main"] if run in results.metrics]
    points = figures._curves(results, [run for run in runs if run.spec.backbone])
    # planted_sharing has seed 4 of this data set too, and experts_per_domain four experts a domain
    assert set(points["seed"]) == {1, 2, 3}
    experts = points[points["phase"] == "experts"]
    for dataset, domains in (("ml-100k-gender", 2), ("planted", 8)):
        lanes = experts.loc[experts["dataset"] == dataset, "lane"]
        assert set(lanes.astype(int)) == set(range(domains))


def test_a_panel_of_gates_says_how_many_were_trained(fabricated):
    run = next(r for r in fabricated.expected["main"] if (r.dataset, r.arm) == GATE)
    path = layout.run_results("quick", run) / "metrics.json"
    metrics = json.loads(path.read_text())
    for point in metrics["curve"]:
        point["best"] = point["epoch"] == 0
    path.write_text(json.dumps(metrics))
    figure = figures.gates(collect(fabricated))
    said = " ".join(panel.get_xlabel() for panel in figure.axes)
    assert said.count("gates: 2 of 3") == 1
    assert said.count("gates: 3 of 3") == 3


def test_a_line_of_experts_that_kept_their_start_says_so(fabricated):
    said = " (no expert left its start)"
    for run in fabricated.runs:
        if (run.dataset, run.backbone, run.arm) == ("planted", "wdl", "experts"):
            path = layout.run_results("quick", run) / "metrics.json"
            metrics = json.loads(path.read_text())
            metrics["curve"] = [point for point in metrics["curve"] if point["epoch"] == 0]
            path.write_text(json.dumps(metrics))
    figure = figures.experts_per_domain(collect(fabricated))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label for label in labels if label.endswith(said)] == [f"planted, Wide&Deep{said}"]
