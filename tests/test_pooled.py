"""Fields of several ids a row: their embedding is the mean over the ids."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from assignments import CTR_BACKBONES, make_assignment, params, small_data, train
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from domain_experts.errors import UserError
from domain_experts.models.build import build
from domain_experts.models.context import Context
from domain_experts.models.embedding import FusedEmbedding
from domain_experts.models.field_aware_fm import FieldAwareFM
from domain_experts.models.linear import FactorisationMachine, LogisticRegression
from domain_experts.models.star import Star
from domain_experts.registry import BACKBONES
from domain_experts.schema import Schema
from domain_experts.settings import ModelSettings

SIZES, WIDTHS = (5, 7, 6), (1, 3, 2)
SINGLE = Schema(
    (("user", 5), ("item", 4), ("tags", 7), ("last", 6)), ("age",), ("d", "e"), ("click", "like")
)
POOLED = replace(SINGLE, widths=(1, 1, 3, 2))
MULTI = [name for name, backbone in BACKBONES.items() if backbone.family == "multi"]
CODES = st.lists(st.tuples(*map(st.integers, [0] * 6, [4, 6, 6, 6, 5, 5])), min_size=1, max_size=9)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("frozen", [(), (0,), (1,), (0, 2)])
@given(rows=CODES)
def test_a_pooled_field_is_torchs_bag_of_means(frozen, rows):
    fields = torch.tensor(rows, dtype=torch.int32)
    tables = [torch.randn(size, 4, generator=stream(j)) for j, size in enumerate(SIZES)]
    own = FusedEmbedding(SIZES, 4, 1.0, stream(), {j: tables[j] for j in frozen}, WIDTHS).double()
    trained = [j for j in range(3) if j not in frozen]
    parts = own.weight.detach().split([SIZES[j] for j in trained])
    of_field = {j: tables[j].double() for j in frozen} | dict(zip(trained, parts, strict=True))
    bags = [
        nn.EmbeddingBag.from_pretrained(
            of_field[j], freeze=False, mode="mean", padding_idx=None if j == 0 else 0
        )
        for j in range(3)
    ]
    columns = fields.long().split(WIDTHS, 1)
    expected = torch.stack([bag(own) for bag, own in zip(bags, columns, strict=True)], 1)
    found = own(fields)
    assert found.shape == (len(rows), 3, 4)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    slope = torch.randn(expected.shape, generator=stream(9), dtype=torch.float64)
    expected.backward(slope)
    found.backward(slope)
    theirs = torch.cat([bags[j].weight.grad for j in trained])
    torch.testing.assert_close(own.weight.grad, theirs, rtol=0, atol=1e-12)


def test_fields_that_hold_one_id_are_looked_up_as_ever():
    plain, given_widths = (
        FusedEmbedding(SIZES, 4, 1.0, stream(), widths=w) for w in ((), (1, 1, 1))
    )
    fields = torch.tensor([[4, 6, 5], [0, 0, 0]])
    assert torch.equal(plain(fields), given_widths(fields))
    assert torch.equal(plain(fields), plain.weight[fields + torch.tensor([0, 5, 12])])


def models(schema):
    """Every model there is, by name, whatever its weights."""
    values = params().multi_model.model_dump() | {"embedding_dim": 4}
    multi = Context(schema, params().multi_model.model_validate(values), stream(), fusion_start=0.5)
    ctr = Context(schema, ModelSettings(embedding_dim=4, hidden=(6, 5), dropout=0, l2=0), stream())
    yield "logistic_regression", LogisticRegression(ctr)
    yield "factorisation_machine", FactorisationMachine(ctr)
    yield "field_aware_fm", FieldAwareFM(ctr)
    yield "star", Star(ctr, auxiliary=True)
    yield from ((name, build(name, ctr)) for name in CTR_BACKBONES)
    for name in MULTI:
        yield name, import_module(BACKBONES[name].module).Model(multi)


def test_every_model_takes_them():
    """A pooled field with one id is what a field of that one id is, wherever the id stands."""
    one = torch.stack([torch.randint(1, n, (8,), generator=stream(n)) for n in SINGLE.sizes], 1)
    several = torch.zeros(8, 7, dtype=torch.long)
    several[:, :2] = one[:, :2]
    several[:, 3], several[:, 6] = one[:, 2], one[:, 3]
    again = several.clone()
    again[:, 4] = again[:, 3]
    dense, domain = torch.randn(8, 1, generator=stream()), torch.arange(8) % 2
    pairs = zip(models(SINGLE), models(POOLED), strict=True)
    for (name, single), (_, pooled) in pairs:
        generator = stream(5)
        for parameter in single.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        pooled.load_state_dict(single.state_dict())
        expected = single.eval()(one, dense, domain)
        assert expected.shape == (8, 2)
        for codes in (several, again):
            found = pooled.eval()(codes, dense, domain)
            torch.testing.assert_close(found, expected, msg=name)
        empty = torch.cat([several[:, :2], torch.zeros(8, 5, dtype=torch.long)], 1)
        assert not torch.allclose(pooled(empty, dense, domain), expected), name


@pytest.fixture(scope="module")
def log():
    """Generated data whose items are pooled: the row's own, and one that says nothing."""
    data = small_data()
    rng = np.random.default_rng(0)
    users, items, domain = data.fields.T
    noise = rng.integers(0, 2, len(items))
    fields = np.stack([users, domain, items + 2, noise], 1).astype(np.int32)
    sizes = dict(data.schema.fields)
    schema = replace(
        data.schema,
        fields=(("user", sizes["user"]), ("domain", sizes["domain"]), ("items", 32)),
        widths=(1, 1, 2),
    )
    return replace(data, schema=schema, fields=fields)


@pytest.mark.parametrize(
    ("arm", "backbone"),
    [
        ("base", "wdl"),
        ("moe_mlora", "deepfm"),
        ("star", "none"),
        ("mtl", "m3oe"),
        ("single", "m3oe"),
    ],
)
def test_they_are_trained(tmp_path, log, arm, backbone):
    made = train(make_assignment(tmp_path, log, arm, backbone))
    assert np.isfinite(made.logits["test"]).all()


@pytest.mark.parametrize(
    ("arm", "backbone"), [("base", "mlp"), ("experts", "mlp"), ("mdmt", "m3oe")]
)
def test_rows_of_weight_0_are_as_if_they_were_not_there(tmp_path, arm, backbone):
    """Their labels may be anything; with equal weights training is as without any."""
    data = small_data()
    kept = np.random.default_rng(0).random(len(data.domain)) < 0.7
    assignment = make_assignment(tmp_path, data, arm, backbone)
    train_rows = assignment.split == 0
    labels = np.where((kept | ~train_rows)[:, None], data.labels, 1 - data.labels)

    def logits(weight, labels):
        own = replace(data, weight=weight, labels=labels.astype(np.uint8))
        return train(replace(assignment, interactions=own, checkpoint=fresh())).logits["test"]

    def fresh():
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        return replace(assignment.checkpoint, path=folder / "checkpoint.safetensors")

    weight = kept.astype(np.float32)
    weighed = logits(weight, data.labels)
    np.testing.assert_array_equal(weighed, logits(weight, labels))
    unweighed, alike = logits(None, data.labels), logits(np.full_like(weight, 0.5), data.labels)
    np.testing.assert_allclose(alike, unweighed, rtol=0, atol=1e-4)
    assert not np.allclose(weighed, unweighed, rtol=0, atol=1e-3)


def test_trees_and_rates_leave_them_out(tmp_path, log):
    left_out = replace(
        log,
        schema=replace(log.schema, fields=log.schema.fields[:2], widths=()),
        fields=log.fields[:, :2].copy(),
    )
    with_them, without = (
        train(make_assignment(tmp_path, data, "lightgbm")) for data in (log, left_out)
    )
    np.testing.assert_array_equal(with_them.logits["test"], without.logits["test"])
    named = replace(log, schema=replace(log.schema, fields=(*log.schema.fields[:2], ("item", 32))))
    with pytest.raises(UserError, match="no field 'item', which item_rate needs"):
        train(make_assignment(tmp_path, named, "item_rate"))
