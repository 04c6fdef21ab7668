"""params.yaml: what is refused and how, and how experiments become runs."""

import json
from copy import deepcopy
from functools import cache
from pathlib import Path

import jsonschema
import plain_yaml
import pyarrow.parquet as pq
import pytest
from assignments import CTR_BACKBONES, params, study_of
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_experts import layout, registry
from domain_experts.data.registry import FILE_FORMATS
from domain_experts.errors import UserError
from domain_experts.params import Params, json_schema, load
from domain_experts.presence import load_study
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.study import Study

ROOT = Path(__file__).parents[1]


@cache
def given_values():
    return plain_yaml.read()


@pytest.fixture
def values():
    return deepcopy(given_values())


@pytest.fixture
def refused(values, tmp_path):
    """Write changed values; the message that refuses them."""

    def message(key, value):
        *parents, last = key.split(".")
        node = values
        for parent in parents:
            node = node[parent]
        node[last] = value
        path = tmp_path / "params.yaml"
        plain_yaml.write(values, path)
        with pytest.raises(UserError) as caught:
            found = load(path)
            for tier in ("smoke", "quick", "paper"):
                assert Study(found, tier).runs
        assert "params.yaml" in str(caught.value)
        return str(caught.value)

    return message


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("training.batch_size", 0, "batch_size: Input should be greater than or equal to 1"),
        ("training.epochs", 3, "epochs: unknown key; known here: balance, batch_size"),
        ("trainign", {}, "trainign: unknown key; known here: tier, device"),
        ("model.dropout", 1.0, "model.dropout: Input should be less than 1 (found 1.0)"),
        ("model.dropout", float("nan"), "model.dropout: Input should be a finite number"),
        ("device", "gpu", "device: Input should be 'auto', 'cpu' or 'cuda' (found 'gpu')"),
        ("tier", "huge", "tier: name 'huge' is unknown; known are paper, quick, smoke"),
        ("data.datasets.planted.groups", 99, "groups (99) exceed domains (8)"),
        ("data.datasets.planted.source", "amazon", "'amazon'"),
        ("data.datasets.planted.colour", 1, "unknown key; known here: split, source, seed, rows"),
        ("data.datasets.ml-1m-age.domain", "zip", "should be 'gender', 'age', 'occupation' or"),
        ("data.test_fraction", 0.9, "leave no training rows"),
        ("data.test_fraction", 0, "test_fraction: Input should be greater than 0"),
        ("data.validation_fraction", 0, "validation_fraction: Input should be greater than 0"),
        ("adapter.layers", [3], "adapter.layers [3]: the tower's layers are 0 to 1"),
        ("adapter.layers", [], "adapter.layers []: the tower's layers are 0 to 1"),
        ("experiments.rank.variants", [{"adapter.layers": [3]}], "[3]: the tower's layers are 0 t"),
        ("experiments.m3oe.metric", "wauk", "metric: name 'wauk' is unknown; did you mean wauc?"),
        ("experiments.m3oe.metric", "machine", "m3oe.metric: name 'machine' is unknown; known are"),
        ("experiments.m3oe.show", ["seen_user"], "show: name 'seen_user' is unknown; did you mean"),
        (
            "experiments.m3oe_ablations.labels",
            {"fusion=gate": "gated"},
            "labels: variant 'fusion=gate' is unknown; did you mean fusion=gated?",
        ),
        ("experiments.main.arms", ["base", "magic"], "'magic' is unknown; known are autoifs, base"),
        ("experiments.main.backbones", ["transformer"], "'transformer' is unknown; known are"),
        ("experiments.main.backbones", ["m3oe"], "'base' does not take backbone 'm3oe', but"),
        ("experiments.main.arms", ["mdmt"], "'mdmt' does not take backbone 'mlp', but one of m3oe"),
        ("experiments.main.backbones", [], "or each arm its own"),
        ("multi_model.hidden", [8, 8, 8], "multi_model.hidden"),
        ("multi_model.m3oe.fusion", "product", "should be 'sum', 'concatenated' or 'gated'"),
        ("protocols.m3oe_released.upper_order", 3, "upper_order: Input should be 1 or 2"),
        ("experiments.main.datasets", {"smoke": ["nowhere"]}, "'nowhere' is unknown; known are"),
        ("experiments.main.datasets", {"tiny": []}, "tiny' is unknown; known are paper, quick"),
        ("experiments.main.vary", {"adapter.beta": [1]}, "'adapter.beta' is not a setting"),
        ("experiments.main.vary", {"adapter.alpha": [0]}, "alpha: Input should be greater"),
        ("tiers.smoke.set", {"training.max_epochs": 0}, "max_epochs: Input should be greater"),
        ("tiers.smoke.set", {"training": 0}, "training"),
        ("tiers.smoke.seeds", [], "tiers.smoke.seeds"),
        ("tiers.smoke.seeds", [-1], "seeds.0: Input should be greater than or equal to 0"),
        ("data.datasets.a/b", {"source": "ml-1m", "domain": "age"}, "a/b"),
        ("data.datasets", {"..": {"source": "ml-1m", "domain": "age"}}, ".."),
        ("experiments.main.colour", 1, "unknown key; known here: question, datasets, backbones"),
        ("protocols.described.colour", 1, "unknown key; known here: split_seed, batches"),
        ("protocols.described.routing", "soft", "routing: Input should be 'phases' or 'uniform'"),
        ("protocols.mine", {}, "should be 'described', 'released', 'released_base', "),
        ("configurations.ml-2*", {}, "configurations: 'ml-2*' fits no data set"),
        ("configurations.ml-*.bert", {}, "name 'bert' is unknown; known are adaptdhm"),
        ("configurations.ml-*.wdl", {"model.depth": 1}, "'model.depth' is not a setting"),
        ("configurations.ml-*.wdl", {"adapter.alpha": 0}, "alpha: Input should be greater"),
        ("experiments.switches.arms", ["moe_mlora"], "'moe_mlora' has no counterpart"),
        ("experiments.gates.variants", [{"gate.size": 1}], "'gate.size' is not a setting"),
        ("experiments.gates.variants", [{"gate.input": "x"}], "gate.input: Input should be"),
        ("experiments.gates.variants", [{"gate.temperature": 0}], "gate.temperature: Input"),
        ("experiments.new_domain.vary", {"new_domain.share": [0]}, "new_domain.share: Input"),
        ("experiments.oracle.datasets", {"quick": ["ml-1m-age"]}, "'ml-1m-age' has none"),
        ("experiments.m3oe_automl.arms", {"autoifs": ["m3oe"]}, "experiments.m3oe_automl.arms."
         "autoifs: the arm takes no backbone, but it is given m3oe; write `autoifs: []`"),
        ("experiments.gates.variants", [{"gate.top_k": 2, "star.embedding_dim": 4}],
         "experiments.gates: none of its arms and backbones reads 'star.embedding_dim'"),
        ("experiments.gates.vary", {"multi_model.m3oe.shared_experts": [1, 2]},
         "experiments.gates: none of its arms and backbones reads 'multi_model.m3oe.shared_experts'"
         ),
        ("experiments.m3oe_automl.arms", {"mdmt": ["ple"]}, "reads 'protocol.scalars'"),
    ],
)  # fmt: skip
def test_refused(refused, key, value, said):
    assert said in refused(key, value)


def test_missing_key(values, tmp_path):
    del values["training"]["patience"]
    path = tmp_path / "params.yaml"
    plain_yaml.write(values, path)
    with pytest.raises(UserError, match=r"training.patience: Field required"):
        load(path)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(UserError, match="run from the project's root"):
        load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("tier: [\n")
    with pytest.raises(UserError, match=r"is not valid YAML(.|\n)*line 2"):
        load(tmp_path / "params.yaml")


def test_schema_is_in_step_and_accepts_params(values):
    text = (ROOT / "docs/params.schema.json").read_text()
    assert text == json_schema(), "run `domain-experts schema`"
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    values["training"]["epochs"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema)


def test_an_ablation_of_the_fusion_needs_both_modules(refused):
    own = {"shared_experts": 1, "domain_module": False, "task_module": True, "fusion": "gated"}
    said = refused("multi_model.m3oe", own | {"tower_norm": "layer"})
    assert "fusion 'gated' needs domain_module and task_module" in said


def test_an_arm_with_backbones_of_its_own_and_those_of_all_is_refused(refused):
    said = refused("experiments.main.arms", {"mdmt": ["m3oe"]})
    assert "give `backbones` for all arms, or each arm its own" in said


@pytest.mark.parametrize("arms", [["mdmt"], {"mdmt": ["m3oe"]}])
def test_arms_take_the_backbones_of_their_family(values, arms):
    experiment = {"question": "?", "datasets": {"smoke": ["planted-small"]}, "arms": arms}
    if isinstance(arms, list):
        experiment["backbones"] = ["m3oe"]
    values["experiments"] = {"main": experiment}
    runs = Study(Params.model_validate(values), "smoke").runs
    assert {(run.arm, run.backbone) for run in runs} == {("mdmt", "m3oe")}


CHANGES = {
    "multi_model.m3oe.shared_experts": (7, {"m3oe"}),
    "protocol.start": (0.5, {"m3oe"}),
    "protocol.upper_order": (2, {"m3oe"}),
    "multi_model.ple.levels": (2, {"ple"}),
    "multi_model.weight_decay": (0.5, {"m3oe", "ple", "shared_bottom"}),
    "protocol.restore": ("if_stopped", {"m3oe", "ple", "shared_bottom"}),
    "model.dropout": (0.25, {"wdl"}),
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_models_own_settings_matter_to_its_runs_alone(values, key):
    value, expected = CHANGES[key]
    study = Study(Params.model_validate(values), "smoke")
    arms = {"m3oe": "mdmt", "ple": "mdmt", "shared_bottom": "mdmt", "wdl": "base"}

    def payloads(variant):
        found = {}
        for backbone, arm in arms.items():
            run = study._run("planted-small", backbone, arm, variant, 1)
            found[backbone] = (run.payload(), run.path)
        return found

    before, after = payloads(()), payloads(((key, value),))
    changed = {backbone for backbone in arms if before[backbone] != after[backbone]}
    assert changed == expected
    for backbone in expected:
        # both differ: the key of the store, and the folder of the results
        assert all(a != b for a, b in zip(before[backbone], after[backbone], strict=True))


@pytest.fixture(params=["smoke", "quick", "paper"])
def study(request):
    return study_of(request.param)


def test_every_run_has_its_own_files(study):
    places = {layout.run_artifacts(study.tier, run) for run in study.runs}
    assert len(places) == len(study.runs)


def test_upstream_runs_come_first_and_are_runs_of_the_study(study):
    seen = set()
    for run in study.runs:
        assert set(study.upstream(run)) <= seen
        assert [up.arm for up in study.upstream(run)] == list(ARMS[run.arm].needs)
        seen.add(run)


def test_jobs_share_out_the_runs(study):
    found = [run for job in study.jobs() for run in study.runs_of(job)]
    assert sorted(run.path for run in found) == sorted(run.path for run in study.runs)


def test_experts_are_trained_for_the_largest_ablation():
    study = study_of("quick")
    experts = {
        (run.dataset, run.backbone): run.settings.adapter.experts_per_domain
        for run in study.runs
        if run.arm == "experts"
    }
    assert experts["ml-100k-gender", "wdl"] == 4
    assert experts["planted", "mlp"] == 1


def test_default_values_are_the_default_variant():
    study = study_of("quick")
    ablation = study.expected["experts_per_domain"]
    assert {run.path.parts[-2] for run in ablation} == {
        "default", *(f"experts-per-domain={number}" for number in (2, 3, 4)),
    }  # fmt: skip
    assert {run.phase for run in ablation} == {"gates", "ablations"}
    assert set(ablation) & set(study.expected["main"])


def test_payload_holds_what_matters_to_the_run(values):
    def payloads(**gate):
        changed = values | {"gate": values["gate"] | gate}
        study = Study(Params.model_validate(changed), "quick")
        return {run.path: run.payload() for run in study.runs}

    before, after = payloads(), payloads(dim=7)
    differ = {path.parts[3] for path in before if before[path] != after[path]}
    gated = {"moe_mlora", "moe_mlora_held_out", "moe_mlora_refit", "mlora_gated"}
    further = {"moe_mlora_from_mlora", "moe_mlora_joint", "moe_mlora_staged"}
    assert differ == gated | further | {"moe_mlora_sequence", "moe_mlora_released"}


def test_protocols_decide_the_split():
    study = study_of("quick")
    released = {"moe_mlora_released", "mlora_released", "base_released"}
    for run in study.runs:
        flipped = any(key == "protocol.split_seed" for key, _ in run.variant)
        assert run.split_seed == (123 if (run.arm in released) != flipped else run.seed)
    assert study.seeds("ml-100k-gender") == (123, 2022, 2023)


def test_left_out_data_are_expected_but_not_run():
    study = Study(params(), "quick", frozenset({"ml-100k-gender"}))
    assert "ml-100k-gender" in study.all_datasets
    assert "ml-100k-gender" not in study.datasets
    assert all(run.dataset != "ml-100k-gender" for run in study.runs)
    assert any(run.dataset == "ml-100k-gender" for run in study.expected["main"])


def test_data_that_come_are_in_the_plan(values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL", raising=False)
    path = tmp_path / "params.yaml"
    values["experiments"] = {"main": values["experiments"]["main"]}
    plain_yaml.write(values, path)
    study = load_study("paper", allow_missing=True, path=path)
    assert "taobao-10" in study.all_datasets
    assert "taobao-10" not in study.datasets
    assert "taobao-10" in load_study("paper", path=path).datasets
    raw = layout.raw("taobao")
    raw.mkdir(parents=True)
    for name in FILE_FORMATS["taobao"]:
        (raw / name).touch()
    assert "taobao-10" in load_study("paper", allow_missing=True, path=path).datasets


def test_unknown_tier():
    with pytest.raises(UserError, match="tier 'huge' is unknown; known are smoke, quick, paper"):
        study_of("huge")


# 1 is a seed of searches
@given(seeds=st.lists(st.integers(2, 9), min_size=1, max_size=4, unique=True))
@settings(max_examples=10, deadline=None)
def test_more_seeds_keep_the_runs_of_the_others(seeds):
    values = params().model_dump()

    def runs(chosen):
        values["tiers"]["smoke"]["seeds"] = chosen
        return set(Study(Params.model_validate(values), "smoke").runs)

    assert runs(seeds) < runs([*seeds, 10])


def test_an_arm_without_a_label_is_refused_by_name():
    declared = dict.fromkeys([*ARMS, "new_arm"], ARMS["base"])
    with pytest.raises(UserError, match="no label of new_arm"):
        registry._labelled(declared)


def test_registries_name_what_exists():
    from importlib import import_module

    for backbone in BACKBONES.values():
        assert import_module(backbone.module).Model
    assert {registry.REFERENCE, *registry.TRAINED_ONCE} <= ARMS.keys()
    for arm in ARMS.values():
        assert callable(arm.train)
        assert arm.label


def varied(values, key, chosen):
    """Runs of the main experiment in the smoke tier when it varies a setting."""
    values["experiments"] = {"main": values["experiments"]["main"] | {"vary": {key: chosen}}}
    return Study(Params.model_validate(values), "smoke").runs


def test_a_setting_varies_only_the_arms_that_read_it(values):
    runs = varied(values, "adapter.experts_per_domain", [1, 2])
    named = {run.arm for run in runs if run.variant}
    assert named == {"moe_mlora", "moe_mlora_released"}
    assert len({run.path for run in runs}) == len(runs)


def test_a_setting_may_be_that_of_another_tiers_backbone(values):
    values["experiments"] = {
        "main": {
            "question": "?",
            "datasets": {"smoke": ["planted-small"], "quick": ["planted-small"]},
            "backbones": {"smoke": ["ple"], "quick": ["m3oe"]},
            "arms": ["mdmt"],
            "vary": {"multi_model.m3oe.shared_experts": [1, 2]},
        }
    }
    params = Params.model_validate(values)
    assert [bool(run.variant) for run in Study(params, "smoke").runs] == [False, False]
    assert {run.path.parts[-2] for run in Study(params, "quick").runs} == {
        "default",
        "shared-experts=2",
    }


def test_settings_of_several_values_vary(values):
    runs = varied(values, "model.hidden", [[32, 16], [16]])
    variants = {run.path.parts[-2] for run in runs if run.arm == "moe_mlora"}
    assert variants == {"default", "hidden=16"}
    for run in runs:
        assert run.settings.model.hidden == ((16,) if run.variant else (32, 16))


def test_a_default_written_otherwise_is_the_default(values):
    # YAML 1.1 reads 1e-3 as text
    assert not any(run.variant for run in varied(values, "training.learning_rate", ["1e-3"]))


def test_the_most_specific_setting_wins(values):
    """params < configurations of all < of the backbone < the tier's set < the variant."""
    levels = ["params", "all", "backbone", "tier", "variant"]

    def alpha(given_up_to):
        given = levels[: levels.index(given_up_to) + 1]
        values["adapter"]["alpha"] = 1
        values["configurations"] = {
            "planted*": {"all": {"adapter.alpha": 2}} if "all" in given else {},
            # a narrower pattern does not come before a backbone of a wider one
            "planted-*": {"wdl": {"adapter.alpha": 3}} if "backbone" in given else {},
        }
        values["tiers"]["smoke"]["set"] = {"adapter.alpha": 4} if "tier" in given else {}
        variant = (("adapter.alpha", 5),) if "variant" in given else ()
        study = Study(Params.model_validate(values), "smoke")
        return study.settings("mlora", variant, "planted-small", "wdl").adapter.alpha

    assert [alpha(level) for level in levels] == [1, 2, 3, 4, 5]


def test_configurations_are_those_of_their_data_set_and_backbone_alone(values):
    values["configurations"] = {"ml-*": {"nfm": {"adapter.alpha": 7, "training.patience": 9}}}
    study = Study(Params.model_validate(values), "paper")
    for dataset, backbone in (("ml-1m-age", "nfm"), ("ml-1m-age", "wdl"), ("planted", "nfm")):
        settings = study.settings("mlora", (), dataset, backbone)
        configured = (dataset, backbone) == ("ml-1m-age", "nfm")
        found = settings.adapter.alpha, settings.training.patience
        assert found == ((7, 9) if configured else (16, 3))


# moe_mlora 2: `lora_reduce` of the released configurations
ALPHA = """
         autoint dcn deepfm fibinet nfm pnn wdl xdeepfm mlp
amazon-6      16 128     16      16 256  16  16      16  16
ml-1m-age      4  16     32      32   4  16  16      32  16
taobao-10     16  16    256     256  16  16  16      16 256
"""


def test_alpha_is_that_of_the_released_configurations():
    header, *rows = (line.split() for line in ALPHA.strip().splitlines())
    assert sorted(header) == sorted(CTR_BACKBONES)
    study = study_of("paper")
    for dataset, *expected in rows:
        for backbone, alpha in zip(header, expected, strict=True):
            settings = study.settings("mlora", (), dataset, backbone)
            assert settings.adapter.alpha == int(alpha), (dataset, backbone)


M3OE = ("ml-1m-m3oe", "kuairand")


def test_patience_and_widths_are_those_of_the_released_configurations():
    study = study_of("paper")
    # M3oE's data sets have the training of M3oE
    for dataset in (d for d in study.params.data.datasets if not d.startswith(M3OE)):
        for backbone in CTR_BACKBONES:
            settings = study.settings("mlora", (), dataset, backbone)
            slow = {("amazon", "wdl"), ("taobao", "pnn")}
            family = dataset.split("-")[0]
            assert settings.training.patience == (5 if (family, backbone) in slow else 3)
            assert settings.star.embedding_dim == 128
            assert settings.model.hidden == (256, 128, 64)
            assert settings.model.dropout == 0.5
            if backbone != "mlp":
                assert settings.model.embedding_dim == (128 if family == "taobao" else 8)


def test_experts_are_trained_for_all_that_variants_ask_for(values):
    values["experiments"] = {
        "main": values["experiments"]["main"]
        | {"variants": [{"adapter.experts_per_domain": 3}], "arms": ["moe_mlora"]}
    }
    study = Study(Params.model_validate(values), "smoke")
    asked = {run.settings.adapter.experts_per_domain for run in study.runs if run.arm != "base"}
    assert asked == {1, 3}
    for run in study.runs:
        if run.arm == "experts":
            assert run.settings.adapter.experts_per_domain == 3


def test_a_setting_that_came_later_changes_no_key_at_its_default():
    """Oracle: the settings that stored results were made of."""
    path = ROOT / layout.records_file("paper")
    table = pq.read_table(path, columns=["run", "record"]).to_pylist()
    stored = {row["run"]: json.loads(row["record"]) for row in table}
    runs = [run for run in study_of("paper").expected_runs if not run.search]
    made = [stored.get(run.path.as_posix(), {}).get("settings") for run in runs]
    # others are of earlier settings still, and stale
    assert sum(run.payload() == own for run, own in zip(runs, made, strict=True)) > 100


def test_another_value_than_the_default_does_change_it(values):
    study = Study(Params.model_validate(values), "smoke")
    own = {
        name: study._run("planted-small", "mlp", "base", variant, 1).payload()
        for name, variant in (
            ("left out", ()),
            ("default", (("training.optimizer", "adam"),)),
            ("other", (("training.optimizer", "lazy_adam"),)),
        )
    }
    assert own["left out"] == own["default"]
    other = own["other"]["training"]
    assert other == own["default"]["training"] | {"optimizer": "lazy_adam"}
