"""Whole models against those of DeepCTR-Torch, which we did not write, with the same weights.

They agree as they stand for Wide&Deep, NFM, PNN, DeepFM, xDeepFM and DCN, and under a condition for
two more:

- AutoInt: the peer's attention is as wide as the embedding, so the embedding here is 4 heads x 8.
- FiBiNET: the peer shares its bilinear matrices between raw and reweighted embeddings, where
  DeepCTR has two sets; the two sets are made equal here.

The peer has no plain MLP and no STAR.
"""

import tomllib
from importlib.metadata import version

import pytest
import torch
from assignments import CTR_BACKBONES
from packaging.requirements import Requirement
from projects import ROOT
from test_backbones import SMALL, batch, scrambled, stream

from domain_experts.models import autoint, xdeepfm
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext
from domain_experts.schema import Schema

WITH_PEER = [name for name in CTR_BACKBONES if name != "mlp"]
OPTIONS = {
    "autoint": {"att_layer_num": autoint.LAYERS, "att_head_num": autoint.HEADS},
    "xdeepfm": {"cin_layer_size": xdeepfm.MAPS, "cin_split_half": True},
    "dcn": {"cross_num": 2, "cross_parameterization": "vector"},
}
FIELDS = (("user", 7), ("item", 5), ("domain", 2), ("genre", 4))


@pytest.fixture(scope="module")
def deepctr():
    return pytest.importorskip(
        "benchmarks.peers.deepctr_torch", reason="the extra `peers` is not installed"
    )


def peer_of(deepctr, backbone, schema, dim):
    inputs = pytest.importorskip("deepctr_torch.inputs")
    columns = [inputs.SparseFeat(name, size, embedding_dim=dim) for name, size in schema.fields]
    columns += [inputs.DenseFeat(name, 1) for name in schema.dense]
    # "regression" gives logits
    options = {"dnn_hidden_units": SMALL.hidden, "task": "regression"} | OPTIONS.get(backbone, {})
    wide = () if backbone == "pnn" else (columns,)
    model_class = getattr(deepctr.models, deepctr.CLASSES[backbone])
    return model_class(*wide, columns, **options).double().eval()


def copy_shared(model, peer):
    """What all backbones have: embeddings, linear part, tower, head and bias."""
    start = 0
    for name, size in model.schema.fields:
        rows = slice(start, start + size)
        start += size
        peer.embedding_dict[name].weight.copy_(model.embedding.weight[rows])
        if hasattr(model, "linear"):
            peer.linear_model.embedding_dict[name].weight.copy_(model.linear.weights.weight[rows])
    if hasattr(model, "linear") and model.schema.dense:
        peer.linear_model.weight.copy_(model.linear.dense)
    for theirs, ours in zip(peer.dnn.linears, model.tower.layers, strict=True):
        theirs.weight.copy_(ours.weight.T)
        theirs.bias.copy_(ours.bias)
    peer.dnn_linear.weight.copy_(model.head.T)
    peer.out.bias.copy_(model.bias)


def copy_own(backbone, model, peer):
    """What this backbone alone has."""
    match backbone:
        case "autoint":
            for theirs, ours in zip(peer.int_layers, model.attention, strict=True):
                weights = (theirs.W_Query, theirs.W_key, theirs.W_Value, theirs.W_Res)
                for weight, own in zip(weights, ours.weight.chunk(4, 1), strict=True):
                    weight.copy_(own)
        case "dcn":
            for layer, (w, b) in enumerate(zip(model.cross.w, model.cross.b, strict=True)):
                peer.crossnet.kernels[layer].copy_(w)
                peer.crossnet.bias[layer].copy_(b.unsqueeze(1))
        case "fibinet":
            peer.SE.excitation[0].weight.copy_(model.senet.W_1.T)
            peer.SE.excitation[2].weight.copy_(model.senet.W_2.T)
            model.bilinear.W[0].copy_(model.bilinear.W[1])
            for theirs, ours in zip(peer.Bilinear.bilinear, model.bilinear.W[1], strict=True):
                theirs.weight.copy_(ours.T)
        case "xdeepfm":
            fields = len(model.schema.fields)
            for theirs, w, b in zip(peer.cin.conv1ds, model.cin.W, model.cin.b, strict=True):
                # the peer's products run over the hidden maps first
                turned = w.unflatten(0, (fields, -1)).transpose(0, 1).flatten(0, 1)
                theirs.weight.copy_(turned.T.unsqueeze(2))
                theirs.bias.copy_(b)
            peer.cin_linear.weight.copy_(model.cin_head.T)


@pytest.mark.parametrize("dense", [0, 3])
@pytest.mark.parametrize("backbone", WITH_PEER)
def test_same_weights_give_the_peers_logits(backbone, dense, deepctr):
    schema = Schema(FIELDS, tuple(f"x{k}" for k in range(dense)), ("F", "M"), ("click",))
    dim = autoint.HEADS * autoint.HEAD_WIDTH if backbone == "autoint" else SMALL.embedding_dim
    plan = CTRContext(schema, SMALL.model_copy(update={"embedding_dim": dim}), stream())
    model = scrambled(build(backbone, plan))
    fields, x, domain = batch(schema, rows=16)
    peer = peer_of(deepctr, backbone, schema, dim)
    with torch.no_grad():
        copy_shared(model, peer)
        copy_own(backbone, model, peer)
    logits = model(fields, x, domain)
    expected = peer(torch.cat([fields.double(), x], 1))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    logits.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters() if p.numel()), (
        "weights do nothing"
    )


def test_every_backbone_has_a_peer_but_the_plain_tower(deepctr):
    assert set(deepctr.CLASSES) - {"mlp"} == set(WITH_PEER)


def test_the_peer_is_declared_and_pinned(deepctr):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (peer,) = map(Requirement, project["optional-dependencies"]["peers"])
    lines = (ROOT / "constraints-peers.txt").read_text().splitlines()
    assert f"{peer.name}=={version(peer.name)}" in lines
    assert peer.specifier.contains(version(peer.name))
