"""Scoring new rows, adapting to a new domain, and export."""

import dataclasses
import os
import shutil
import sys
from functools import cache

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import expit
from served import CASES, Trained
from typer.testing import CliRunner

from domain_experts import layout
from domain_experts.cli import app
from domain_experts.data.interactions import Interactions, record
from domain_experts.data.log.encoder import Encoder
from domain_experts.data.log.files import LogFiles
from domain_experts.data.log.reader import prepare
from domain_experts.data.log.spec import LogSpec, LogSplit
from domain_experts.errors import UserError
from domain_experts.serving.adapt import adapt
from domain_experts.serving.export import export, export_form
from domain_experts.serving.model import SavedModel
from domain_experts.serving.score import ROWS, score

SPEC = {
    "files": "log.parquet",
    "domain": "shop",
    "tasks": {"click": "click", "best": "rating >= 5"},
    "fields": {"user": {}, "item": {"min_count": 2}, "tags": {"multi": "|", "most": 3}},
    "dense": ["price"],
}


def log(rows=1500, seed=0, shops=("north", "south")):
    """A click log whose items please some shops more than others."""
    rng = np.random.default_rng(seed)
    item, user = rng.integers(0, 40, rows), rng.integers(0, 60, rows)
    shop = rng.integers(0, len(shops), rows)
    likes = rng.normal(size=(len(shops), 40))[shop, item]
    return pa.table(
        {
            "row": np.arange(rows),
            "user": [f"u{u}" for u in user],
            "item": item * 1000,
            "tags": ["|".join(f"t{(i + k) % 7}" for k in range(i % 4)) or None for i in item],
            "price": rng.gamma(2, 10, rows),
            "shop": [shops[s] for s in shop],
            "click": (rng.random(rows) < expit(2 * likes)).astype(int),
            "rating": rng.integers(1, 6, rows),
        }
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A log, its rows as they are trained on, and models of it."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pq.write_table(log(), "log.parquet")
        prepare("shop", LogSpec.model_validate(SPEC))
        data = Interactions.open(layout.interactions("shop"))
        encoder = Encoder.open(layout.interactions("shop") / "encoder")
        (folder / "models").mkdir()
        changed = {"training.learning_rate": 0.02, "training.max_epochs": 6}
        return Trained(folder / "models", data, **changed), encoder, folder / "log.parquet"


def scored(model, path, target, keep=()):
    score(model, LogFiles([str(path)]), target, keep)
    return pq.read_table(target)


@pytest.mark.parametrize(
    ("arm", "backbone"), [("mlora", "wdl"), ("moe_mlora", "wdl"), ("mdmt", "m3oe"), ("star", "")]
)
def test_offline_and_online_scores_agree(shop, tmp_path, arm, backbone):
    trained, encoder, path = shop
    trained.model(arm, backbone, encoder).save(tmp_path / "model")
    _, stored = trained.test_rows(arm, backbone)
    rows = trained.run(arm, backbone)[0].index("test")
    pq.write_table(pq.read_table(path).take(rows), tmp_path / "test.parquet")
    model = SavedModel.load(tmp_path / "model")
    found = scored(model, tmp_path / "test.parquet", tmp_path / "s.parquet", ["row", "user"])
    assert found.column_names == ["row", "user", "p_click", "p_best"]
    assert found["row"].to_pylist() == rows.tolist()
    made = np.stack([found["p_click"], found["p_best"]], 1)
    np.testing.assert_allclose(made, expit(stored), rtol=0, atol=1e-6)


def test_csv_gives_the_same_scores_as_parquet(shop, tmp_path):
    trained, encoder, path = shop
    model = trained.model("base", "wdl", encoder)
    pa_csv.write_csv(pq.read_table(path), tmp_path / "log.csv")
    score(model, LogFiles([str(tmp_path / "log.csv")]), tmp_path / "s.csv", ["row"])
    from_csv, from_parquet = (
        pa_csv.read_csv(tmp_path / "s.csv"),
        scored(model, path, tmp_path / "s.parquet"),
    )
    np.testing.assert_allclose(from_csv["p_click"], from_parquet["p_click"], rtol=0, atol=1e-6)
    assert from_csv["row"].to_pylist() == pq.read_table(path)["row"].to_pylist()


def test_unknown_ids_take_the_row_of_rare_ones_and_unknown_shops_the_shared_part(shop, tmp_path):
    trained, encoder, _ = shop
    model = trained.model("moe_mlora", "wdl", encoder)
    new = log(50, seed=1, shops=("west",))
    new = new.set_column(1, "user", [[f"new{i}" for i in range(50)]])
    new = new.set_column(2, "item", [np.arange(50) + 7])
    pq.write_table(new, tmp_path / "new.parquet")
    made = scored(model, tmp_path / "new.parquet", tmp_path / "s.parquet")
    encoded = encoder.encode(new)
    assert (encoded.domain == -1).all() and (encoded.fields[:, :2] == 0).all()
    base = trained.model("base", "wdl").logits(encoded.fields, encoded.dense, np.zeros(50))
    np.testing.assert_allclose(made["p_click"], expit(base[:, 0]), rtol=0, atol=1e-6)


def test_many_batches_and_no_rows(shop, tmp_path):
    trained, encoder, path = shop
    model, table = trained.model("base", "wdl", encoder), pq.read_table(path)
    copies = ROWS // len(table) + 2
    pq.write_table(pa.concat_tables([table] * copies), tmp_path / "many.parquet")
    made = scored(model, tmp_path / "many.parquet", tmp_path / "s.parquet", ["row"])
    assert made["row"].to_pylist() == table["row"].to_pylist() * copies
    once = scored(model, path, tmp_path / "once.parquet")["p_click"].to_numpy()
    np.testing.assert_allclose(made["p_click"], np.tile(once, copies), rtol=0, atol=1e-6)
    pq.write_table(table.slice(0, 0), tmp_path / "none.parquet")
    assert scored(model, tmp_path / "none.parquet", tmp_path / "n.parquet").num_rows == 0


def test_a_model_without_vocabulary_takes_codes(trained, tmp_path):
    model = trained.model("mlora")
    rows = trained.run("mlora")[0].index("test")
    pq.write_table(record(trained.data).take(rows), tmp_path / "codes.parquet")
    made = scored(model, tmp_path / "codes.parquet", tmp_path / "s.parquet", ["label:click"])
    stored = trained.test_rows("mlora")[1]
    np.testing.assert_allclose(made["p_like"], expit(stored[:, 1]), rtol=0, atol=1e-6)


def lose(folder):
    (folder / "encoder" / "user.parquet").unlink()


def swap(folder):
    shutil.copyfile(folder / "encoder" / "item.parquet", folder / "encoder" / "user.parquet")


def add(folder):
    shutil.copyfile(folder / "encoder" / "item.parquet", folder / "encoder" / "shop.parquet")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lose, r"user\.parquet is missing; copy the folder again"),
        (swap, r"user\.parquet is damaged, or of another model"),
        (add, r"shop\.parquet is of another model: .* does not name it"),
    ],
)
def test_vocabularies_that_are_not_the_models_are_refused(shop, tmp_path, harm, message):
    trained, encoder, _ = shop
    trained.model("base", "wdl", encoder).save(tmp_path / "model")
    harm(tmp_path / "model")
    with pytest.raises(UserError, match=message):
        SavedModel.load(tmp_path / "model")


def without_price(table):
    return table.drop_columns(["price"])


def text_price(table):
    return table.set_column(table.column_names.index("price"), "price", [["dear"] * len(table)])


@pytest.mark.parametrize(
    ("change", "keep", "message"),
    [
        (without_price, [], r"new\.parquet: column 'price' is unknown"),
        (text_price, [], r"'price'.*no number"),
        (None, ["rows"], r"--keep: .*new\.parquet: column 'rows' is unknown; did you mean row\?"),
        (lambda t: t.rename_columns({"row": "p_click"}), ["p_click"], r"--keep: a probability is"),
    ],
)
def test_rows_that_do_not_fit_are_refused(shop, tmp_path, change, keep, message):
    trained, encoder, _ = shop
    table = log(20) if change is None else change(log(20))
    pq.write_table(table, tmp_path / "new.parquet")
    with pytest.raises(UserError, match=message):
        scored(
            trained.model("base", "wdl", encoder),
            tmp_path / "new.parquet",
            tmp_path / "s.parquet",
            keep,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["new.parquet"]


def test_codes_out_of_range_are_refused(trained, tmp_path):
    table = record(trained.data).slice(0, 9)
    name = table.column_names[0]
    wrong = table.set_column(0, name, [np.array([0] * 8 + [10**6])])
    pq.write_table(wrong, tmp_path / "codes.parquet")
    with pytest.raises(UserError, match=rf"codes\.parquet, row 9: column '{name}' holds no code"):
        scored(trained.model("base"), tmp_path / "codes.parquet", tmp_path / "s.parquet")


def test_the_command_line_scores_and_says_what_is_wrong(shop, tmp_path):
    trained, encoder, path = shop
    trained.model("base", "wdl", encoder).save(tmp_path / "model")
    call = ["score", str(tmp_path / "model"), str(path), "-o", str(tmp_path / "s.parquet")]
    done = CliRunner().invoke(app, [*call, "--keep", "row, shop"])
    assert done.exit_code == 0, done.output
    assert "1,500 rows are scored" in done.output
    assert pq.read_table(tmp_path / "s.parquet").column_names == [
        "row",
        "shop",
        "p_click",
        "p_best",
    ]
    failed = CliRunner().invoke(app, [*call, "--keep", "magic"])
    assert isinstance(failed.exception, UserError)


@pytest.mark.parametrize(
    ("arm", "all_weights"),
    [("mlora", False), ("moe_mlora", False), ("mlora", True), ("base", True)],
)
def test_a_new_domain_leaves_all_other_weights_as_they_are(shop, tmp_path, arm, all_weights):
    trained, encoder, _ = shop
    model = trained.model(arm, "wdl", encoder)
    pq.write_table(log(600, seed=3, shops=("west",)), tmp_path / "west.parquet")
    made = adapt(model, LogFiles([str(tmp_path / "west.parquet")]), all_weights)
    made.model.save(tmp_path / "model")
    loaded = SavedModel.load(tmp_path / "model")
    assert loaded.schema.domains == (*model.schema.domains, "west")
    assert loaded.encoder.domains == loaded.schema.domains
    before = [t for _, t in model.module.named_parameters()]
    after = dict(loaded.module.named_parameters())
    kept = sum(
        any(t.shape == b.shape and torch.equal(t, b) for b in before) for t in after.values()
    )
    new = len(after) - len(before)
    assert (new > 0) == (arm != "base")
    assert (kept >= len(before)) == (not all_weights)
    assert sum(made.rows.values()) == 600
    for gain in made.gains:
        assert gain.low <= gain.after - gain.before <= gain.high
        assert gain.verdict in loaded.card
    if not all_weights:
        assert loaded.module.experts_moved()[-1]
        rows, _ = trained.test_rows(arm, "wdl")
        np.testing.assert_allclose(loaded.logits(*rows), model.logits(*rows), rtol=0, atol=1e-6)


def test_new_rows_are_split_as_the_log_was(shop, tmp_path):
    trained, encoder, _ = shop
    timed = dataclasses.replace(encoder, columns=encoder.columns.model_copy(update={"time": "row"}))
    split = LogSplit(rule="each_user_last", validation=0.25, test=0.25)
    model = trained.model("mlora", "wdl", timed, split)
    # all that came early is of one class: of 225 rows by time, none can be validated on
    west = log(400, seed=3, shops=("west",))
    early = np.arange(400) < 200
    west = west.set_column(6, "click", [np.where(early, 0, west["click"].to_numpy())])
    pq.write_table(west, tmp_path / "west.parquet")
    model.save(tmp_path / "model")
    made = adapt(SavedModel.load(tmp_path / "model"), LogFiles([str(tmp_path / "west.parquet")]))
    assert made.rows == {"train": 200, "validation": 100, "test": 100}
    pq.write_table(west.slice(0, 225), tmp_path / "west.parquet")
    with pytest.raises(UserError, match=r"hold one class of a task; give more rows"):
        adapt(model, LogFiles([str(tmp_path / "west.parquet")]))


def test_a_second_new_domain(shop, tmp_path):
    trained, encoder, _ = shop
    model = trained.model("moe_mlora", "wdl", encoder)
    for name in ("west", "east"):
        pq.write_table(log(400, seed=3, shops=(name,)), tmp_path / f"{name}.parquet")
        model = adapt(model, LogFiles([str(tmp_path / f"{name}.parquet")])).model
    model.save(tmp_path / "model")
    loaded = SavedModel.load(tmp_path / "model")
    rows = trained.test_rows("moe_mlora", "wdl")[0][:2]
    for domain in range(4):
        own = np.full(len(rows[0]), domain)
        np.testing.assert_array_equal(loaded.logits(*rows, own), model.logits(*rows, own))


@pytest.mark.parametrize(
    ("arm", "shops", "rows", "message"),
    [
        ("base", ("west",), 400, r"Base has no adapters.*--all-weights"),
        ("star", ("west",), 400, r"STAR has no adapters"),
        ("mlora", ("west", "east"), 400, r"rows of 2 domains \(east, west\); give those of one"),
        ("mlora", ("north",), 400, r"the model knows domain north"),
        ("mlora", ("west",), 0, r"no rows; give those of the new domain"),
    ],
)
def test_what_cannot_be_adapted_is_refused(shop, tmp_path, arm, shops, rows, message):
    trained, encoder, _ = shop
    pq.write_table(log(400, shops=shops).slice(0, rows), tmp_path / "new.parquet")
    with pytest.raises(UserError, match=message):
        adapt(trained.model(arm, "wdl", encoder), LogFiles([str(tmp_path / "new.parquet")]))


@pytest.mark.parametrize(("arm", "backbone"), CASES)
def test_export_forms_give_the_models_logits(trained, arm, backbone):
    model = trained.model(arm, backbone)
    rows, stored = trained.test_rows(arm, backbone)
    with torch.inference_mode():
        made = export_form(model.module)(*map(torch.from_numpy, rows)).numpy()
    np.testing.assert_allclose(made, stored, rtol=0, atol=2e-6)


ONE_OF_A_KIND = [
    *[("mlora", "wdl"), ("moe_mlora", "fibinet"), ("lightgbm", "mlp")],
    *[("mdmt", "m3oe"), ("mdmt", "adaptdhm"), ("star", "mlp"), ("mamdr", "mlp")],
]
"""One for each kind of export form: to write one takes seconds."""
EXPORTED = CASES if os.environ.get("DOMAIN_EXPERTS_ALL_EXPORTS") else ONE_OF_A_KIND


@pytest.fixture(scope="module")
def operators():
    """The exporter reads the library of its operators, a second's work, once and not each time."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        once = staticmethod(cache(ONNXRegistry.from_torchlib))
        patch.setattr(ONNXRegistry, "from_torchlib", once)
        yield


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize(("arm", "backbone"), EXPORTED)
def test_onnx_runtime_agrees_on_batches_of_any_size(trained, tmp_path, arm, backbone):
    model = trained.model(arm, backbone)
    export(model, "onnx", tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert [i.name for i in session.get_inputs()] == ["fields", "dense", "domain"]
    rng = np.random.default_rng(0)
    for size in (1, 10_000):
        index = rng.integers(0, len(trained.data.domain), size)
        rows = (
            trained.data.fields[index],
            trained.data.dense[index],
            trained.data.domain[index].astype(np.int64),
        )
        made = session.run(["logits"], dict(zip(("fields", "dense", "domain"), rows, strict=True)))
        np.testing.assert_allclose(made[0], model.logits(*rows), rtol=0, atol=1e-5)


def test_torch_export_agrees_and_an_adapted_model_is_exported_too(shop, tmp_path):
    trained, encoder, _ = shop
    pq.write_table(log(400, seed=3, shops=("west",)), tmp_path / "west.parquet")
    files = LogFiles([str(tmp_path / "west.parquet")])
    model = adapt(trained.model("moe_mlora", "wdl", encoder), files).model
    export(model, "torch", tmp_path / "m.pt2")
    loaded = torch.export.load(tmp_path / "m.pt2").module()
    encoded = encoder.encode(pa.concat_tables([log(300), log(300, shops=("west",))]))
    domain = np.where(encoded.domain < 0, 2, encoded.domain).astype(np.int64)
    domain[::5] = -1
    rows = encoded.fields, encoded.dense, domain
    made = loaded(*map(torch.from_numpy, rows)).numpy()
    np.testing.assert_allclose(made, model.logits(*rows), rtol=0, atol=1e-5)


def test_an_unknown_domain_of_a_model_without_shared_part_is_no_number(trained):
    model = trained.model("mtl", "mmoe")
    (fields, dense, domain), _ = trained.test_rows("mtl", "mmoe")
    domain[::2] = -1
    with torch.inference_mode():
        made = export_form(model.module)(*map(torch.from_numpy, (fields, dense, domain))).numpy()
    np.testing.assert_array_equal(np.isnan(made), np.repeat(domain[:, None] < 0, 2, 1))


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("onxn", "m.onnx", r"form of export 'onxn' is unknown; did you mean onnx\?"),
        ("onnx", "m.pt2", r"m\.pt2: a model in the form onnx is a file \*\.onnx"),
    ],
)
def test_other_forms_are_refused(trained, tmp_path, form, name, message):
    with pytest.raises(UserError, match=message):
        export(trained.model("base"), form, tmp_path / name)


def test_a_model_of_lower_precision_is_not_exported(trained, tmp_path):
    model = trained.model("base")
    settings = model.identity.settings
    training = settings.training.model_copy(update={"precision": "bfloat16"})
    lower = dataclasses.replace(
        model.identity, settings=settings.model_copy(update={"training": training})
    )
    with pytest.raises(UserError, match=r"trained in bfloat16: only models of float32 are"):
        export(dataclasses.replace(model, identity=lower), "onnx", tmp_path / "m.onnx")


@pytest.mark.parametrize("needed", ["onnx", "onnxscript"])
def test_what_export_needs_is_named(trained, tmp_path, monkeypatch, needed):
    monkeypatch.setitem(sys.modules, needed, None)
    with pytest.raises(UserError, match=f"^{needed} is not installed; ONNX needs"):
        export(trained.model("base"), "onnx", tmp_path / "model.onnx")
