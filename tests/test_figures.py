"""Figures from a fabricated results tree."""

import json

import pytest

from domain_experts import layout
from domain_experts.params import Study
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
