"""The table of phases fits the rules, the parameters and the code."""

import re
from collections import Counter

import pytest
from assignments import study_of
from projects import ROOT

from domain_experts import layout
from domain_experts.data.specs import Generated
from domain_experts.digest import code_digest, source_modules
from domain_experts.phases import PHASES, TRAINING
from domain_experts.runs import Job

PHASE_NAMES = (
    *("download", "prepare", "split", "search", "backbones", "experts", "gates", "ablations"),
    *("baselines", "controls", "evaluate", "tables", "figures", "report"),
)


@pytest.fixture(scope="module", params=["smoke", "quick", "paper"])
def study(request):
    return study_of(request.param)


@pytest.fixture(scope="module")
def rules():
    """Names of all rules, in the order of their files."""
    text = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    return re.findall(r"^rule (\w+)", text, flags=re.MULTILINE)


def test_phases_come_in_order_and_read_earlier_ones_only():
    assert tuple(PHASES) == PHASE_NAMES
    for number, phase in enumerate(PHASES.values()):
        assert set(phase.after) <= set(PHASE_NAMES[:number])


def test_each_phase_has_a_target_of_its_name_and_every_rule_belongs_to_phases(rules):
    own = {rule for phase in PHASES.values() for rule in phase.rules}
    # about no tier
    apart = {"simulation"}
    assert sorted(rules) == sorted(own | set(PHASE_NAMES) | apart)
    assert {PHASES[name].rules for name in TRAINING} == {("train",)}


def test_the_keys_that_a_phase_reads_are_in_params_yaml(study):
    values = study.params.model_dump()
    for phase in PHASES.values():
        for key in phase.keys(study):
            node = values
            for part in key.split("."):
                assert part in node, key
                node = node[part]


def test_the_modules_of_a_phase_exist():
    for phase in PHASES.values():
        code_digest(phase.modules)


def test_no_two_phases_leave_the_same_output(study):
    outputs = [output.path for phase in PHASES.values() for output in phase.outputs(study)]
    for path in outputs:
        assert not any(other == path or path in other.parents for other in outputs if other != path)
    assert len(set(outputs)) == len(outputs)


def test_every_target_lies_in_an_output_of_its_phase(study):
    for phase in PHASES.values():
        folders = [output.path for output in phase.outputs(study)]
        for target in phase.targets(study):
            assert any(target == folder or folder in target.parents for folder in folders), target


def test_generated_data_alone_are_pushed(study):
    datasets = study.params.data.datasets
    for phase in ("download", "prepare"):
        for output in PHASES[phase].outputs(study):
            made_of = datasets.get(output.path.name)
            assert output.push == isinstance(made_of, Generated)
    (splits,) = PHASES["split"].outputs(study)
    generated = all(isinstance(datasets[name], Generated) for name in study.datasets)
    assert splits.push == generated == (study.tier == "smoke")


def test_every_job_belongs_to_the_phase_of_its_index(study):
    targets = {name: Counter(PHASES[name].targets(study)) for name in PHASE_NAMES}
    for job in study.jobs():
        index = layout.job_index(study.tier, job)
        assert targets[job.phase][index] == 1
        assert sum(own[index] for own in targets.values()) == 1


def test_figures_and_report_read_results_only(study):
    for name in ("figures", "report"):
        for path in PHASES[name].inputs(study):
            assert path.parts[0] in ("results", "figures")


def test_a_job_is_trained_by_its_arm_and_backbone():
    assert Job("backbones", "planted", "wdl", "base").modules == (
        "domain_experts.training.job",
        "domain_experts.training.arms.methods",
        "domain_experts.models.wdl",
    )
    assert (
        "domain_experts.models.wdl" not in Job("baselines", "planted", "none", "item_rate").modules
    )


def test_labels_count_for_tables_and_figures_and_for_no_training():
    registry = "domain_experts.registry"
    printing = {name for name, p in PHASES.items() if registry in source_modules(p.modules)}
    assert printing == {"tables", "figures", "report"}
    text = (ROOT / "workflow/rules/results.smk").read_text()
    for phase in printing:
        assert f'phase_code("{phase}")' in text
