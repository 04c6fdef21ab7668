"""Saved models: rebuilt, saved, loaded, refused."""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from served import CASES
from smoke import change_params
from typer.testing import CliRunner

from domain_experts import layout
from domain_experts.cli import app
from domain_experts.data.interactions import Interactions
from domain_experts.data.log.spec import OTHER_DOMAIN
from domain_experts.data.split import TEST, read_split
from domain_experts.errors import UserError
from domain_experts.files import read_json, sha256, write_json
from domain_experts.registry import ARMS
from domain_experts.results import load as load_results
from domain_experts.serving.keep import best_run, run_at, saved_model
from domain_experts.serving.model import CONFIG, WEIGHTS, SavedModel
from domain_experts.serving.rebuild import MAKERS, rebuild


def test_every_arm_can_be_rebuilt():
    assert MAKERS.keys() == ARMS.keys()


@pytest.mark.parametrize(("arm", "backbone"), CASES)
def test_rebuilt_models_give_the_stored_logits(trained, arm, backbone):
    module = rebuild(trained.identity(arm, backbone), trained.state(arm, backbone))
    rows, stored = trained.test_rows(arm, backbone)
    with torch.inference_mode():
        made = module(*map(torch.from_numpy, rows)).numpy()
    np.testing.assert_allclose(made, stored, rtol=0, atol=1e-6)


@pytest.fixture
def saved(trained, tmp_path):
    """A saved MLoRA in a folder, with a space in its path."""
    folder = tmp_path / "my model"
    trained.model("mlora").save(folder)
    return folder


@pytest.mark.parametrize("arm", ["mlora", "moe_mlora", "lightgbm", "user_item_rate", "single"])
def test_loading_gives_the_same_logits(trained, tmp_path, arm):
    backbone = "mmoe" if arm == "single" else "mlp"
    model = trained.model(arm, backbone)
    model.save(tmp_path / "model")
    rows, _ = trained.test_rows(arm, backbone)
    loaded = SavedModel.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.logits(*rows), model.logits(*rows))
    assert (loaded.identity, loaded.card) == (model.identity, model.card)


def test_saving_again_replaces_a_model_but_nothing_else(trained, saved):
    trained.model("base").save(saved)
    assert SavedModel.load(saved).identity.arm == "base"
    other = saved.parent / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("ten years")
    with pytest.raises(UserError, match=r"other holds something that is no saved model.*-o"):
        trained.model("base").save(other)
    assert (other / "thesis.tex").read_text() == "ten years"


def change_config(folder, **changed):
    path = folder / CONFIG
    write_json(path, read_json(path, "") | changed, sealed=True)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_weights(folder):
    (folder / WEIGHTS).unlink()


def lose_config(folder):
    (folder / CONFIG).unlink()


def cut_config(folder):
    (folder / CONFIG).write_text((folder / CONFIG).read_text()[:100])


def add_encoder(folder):
    (folder / "encoder").mkdir()
    (folder / "encoder" / "encoder.json").write_text("{}")


def weights_of_another(folder):
    state = load_file(folder / WEIGHTS)
    save_file({name: array[:1] for name, array in state.items()}, folder / WEIGHTS)
    change_config(folder, files={WEIGHTS: sha256(folder / WEIGHTS)})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lose_config, r"config\.json is missing: .* is no saved model; make one by `domain-exp"),
        (cut_config, r"config\.json is damaged .*; copy the folder again, or make it again by"),
        (lambda f: change_config(f, format=2), r"is of format 2, and this version reads up to 1"),
        (lambda f: change_config(f, format=None), r"names no format; copy the folder again"),
        (lambda f: change_config(f, seed="x"), r"config\.json: seed: .*; copy the folder again"),
        (lambda f: change_config(f, arm="magic"), r"arm 'magic' with backbone 'mlp' is unknown"),
        (lose_weights, r"model\.safetensors is missing; copy the folder again"),
        (lambda f: damage(f / WEIGHTS), r"model\.safetensors is damaged, or of another model"),
        (weights_of_another, r"model\.safetensors: the weights are not those of mlora .*; copy"),
        (add_encoder, r"encoder\.json is of another model: .* does not name it; remove it"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(saved, harm, message):
    harm(saved)
    with pytest.raises(UserError, match=message) as refused:
        SavedModel.load(saved)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("arm", ["base", "moe_mlora", "mlora", "experts_crossfit", "mamdr"])
def test_unknown_domains_are_served_by_what_is_shared(trained, arm):
    model = trained.model(arm)
    (fields, dense, domain), _ = trained.test_rows(arm)
    mixed = np.where(np.arange(len(domain)) % 2, domain, -1)
    made = model.logits(fields, dense, mixed)
    known = mixed >= 0
    np.testing.assert_allclose(made[known], model.logits(fields, dense, domain)[known], atol=1e-6)
    if arm in ("moe_mlora", "base"):
        # of MoE-MLoRA the shared part is the base arm's backbone
        base = trained.model("base").logits(fields, dense, domain)
        np.testing.assert_allclose(made[~known], base[~known], atol=1e-6)


def test_unknown_domains_of_a_model_without_shared_part_are_refused(trained):
    rows, _ = trained.test_rows("star")
    with pytest.raises(UserError, match=r"of domains that the model has not met, and STAR has no"):
        trained.model("star").logits(*rows[:2], np.full(len(rows[2]), -1))


def test_unknown_domains_go_to_the_common_one_of_rare_domains(trained):
    model = trained.model("star")
    names = (*model.schema.domains[:-1], OTHER_DOMAIN)
    identity = replace(model.identity, schema=replace(model.schema, domains=names))
    named = replace(model, identity=identity)
    rows, _ = trained.test_rows("star")
    unknown, last = (np.full(len(rows[2]), d) for d in (-1, len(names) - 1))
    np.testing.assert_array_equal(named.logits(*rows[:2], unknown), named.logits(*rows[:2], last))


@pytest.mark.parametrize("arm", ["item_rate", "base", "mlora", "moe_mlora", "moe_mlora_released"])
def test_a_finished_run_is_kept_with_its_card(smoke, tmp_path, arm):
    run = next(r for r in smoke.runs if r.arm == arm and not r.variant)
    saved_model(smoke, run).save(tmp_path / "model")
    path = layout.run_artifacts("smoke", run) / "test.npy"
    data, stored = Interactions.open(layout.interactions(run.dataset)), np.load(path)
    rows = np.flatnonzero(read_split("smoke", run.dataset, run.split_seed) == TEST)
    shutil.rmtree("artifacts")
    model = SavedModel.load(tmp_path / "model")
    parts = (np.ascontiguousarray(part[rows]) for part in (data.fields, data.dense, data.domain))
    np.testing.assert_allclose(model.logits(*parts), stored, rtol=0, atol=1e-6)
    numbers = load_results(smoke).stored
    own = numbers[(numbers["run"] == run.path.as_posix()) & (numbers["split"] == "test")]
    for metric in ("auc", "wauc"):
        for value in own.loc[(own["metric"] == metric) & (own["against"] == ""), "value"]:
            assert f"{value:.4f}" in model.card
    assert ARMS[arm].label in model.card.splitlines()[0]


def test_a_run_that_cannot_be_kept_is_refused(smoke):
    with pytest.raises(UserError, match=r"run of tier smoke 'baselines/magic' is unknown"):
        run_at(smoke, "baselines/magic")
    run = next(r for r in smoke.runs if r.arm == "mlora" and not r.variant)
    assert run_at(smoke, run.path.as_posix()) == run
    folder = layout.run_artifacts("smoke", run)
    other = next(r for r in smoke.runs_of(run.job) if r.seed != run.seed and not r.variant)
    shutil.copyfile(layout.run_artifacts("smoke", other) / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged: .*; remove"):
        saved_model(smoke, run)
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError):
        saved_model(smoke, run)


def test_the_best_run_of_a_study_is_that_of_the_arm_best_on_validation_rows(smoke):
    with pytest.raises(UserError, match=r"several data sets .*: name a run"):
        best_run(smoke)
    one = change_params(
        lambda params: params.update(experiments={"main": params["experiments"]["main"]})
    )
    numbers = load_results(one).numbers
    chosen = numbers[(numbers["split"] == "validation") & (numbers["metric"] == "wauc")]
    # what is tested on rows of its own is compared with nothing
    chosen = chosen[chosen["split_seed"] == chosen["seed"]]
    means = chosen.groupby("arm")["value"].mean()
    best = best_run(one)
    assert best.arm == means.idxmax()
    own = chosen[chosen["arm"] == best.arm].set_index("seed")["value"]
    assert best.seed == own.idxmax()


def test_the_command_line_saves_a_run_and_the_best_of_a_study(smoke, tmp_path):
    run = next(r for r in smoke.runs if r.arm == "mlora" and not r.variant)
    call = ["save", run.path.as_posix(), "--tier", "smoke", "-o", str(tmp_path / "model")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert SavedModel.load(tmp_path / "model").origin.run == run.path.as_posix()
    folder = Path.cwd()
    with contextlib.chdir(tmp_path):
        call = ["save", str(folder), "--tier", "smoke", "-o", "best"]
        several = CliRunner().invoke(app, call)
        assert isinstance(several.exception, UserError)
    best = change_params(
        lambda params: params.update(experiments={"main": params["experiments"]["main"]})
    )
    with contextlib.chdir(tmp_path):
        done = CliRunner().invoke(app, call)
        assert done.exit_code == 0
        assert done.output.startswith(("Take ", "No gain"))
        nothing = CliRunner().invoke(app, ["save", "nowhere.yaml", "-o", "other"])
        assert "nowhere.yaml is no study's file or folder" in str(nothing.exception)
        assert SavedModel.load(Path("best")).origin.run in {r.path.as_posix() for r in best.runs}
