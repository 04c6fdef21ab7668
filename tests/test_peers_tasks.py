"""AITM and ESMM against those of torch-rechub, which we did not write, with the same weights.

The peer's layers have BatchNorm where ours have LayerNorm, so it is given our layers; what it adds
to them, which is all that the two models are, is its own. Its AITM has no calibrator, and its ESMM
two steps.
"""

import pytest
import torch
from test_multi_more import INPUTS, WIDTH, scrambled
from test_multi_tasks import fresh
from torch import nn

peers = pytest.importorskip(
    "torch_rechub.models.multi_task", reason="torch-rechub of the extra `bench` is not installed"
)


class Ours(nn.Module):
    """A part of our model for one task, as a module of the peer's."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Embedded(nn.Module):
    """In place of the peer's embedding: the input is embedded already."""

    def forward(self, x, features, squeeze_dim):
        return x if squeeze_dim else x[:, features].unsqueeze(1)


def network(networks, t):
    return Ours(lambda x: networks(x)[:, t])


def tower(towers, t, tasks, rows):
    """Of the only domain; the other tasks' inputs do not matter."""
    return Ours(lambda z: towers(z.unsqueeze(1).expand(-1, tasks, -1), [rows])[:, t : t + 1])


def inputs(rows):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, INPUTS, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("tasks", [2, 4])
def test_same_weights_give_aitms_probabilities(tasks):
    model, x = scrambled(fresh("aitm", domains=1, tasks=tasks)).eval(), inputs(16)
    sizes = {"dims": [WIDTH], "activation": "relu", "dropout": 0.0}
    features = [torch_feature(1)]
    peer = peers.AITM(features, tasks, dict(sizes), [dict(sizes)] * tasks).double().eval()
    peer.embedding = Embedded()
    for t in range(tasks):
        peer.bottoms[t] = network(model.bottoms, t)
        peer.towers[t] = tower(model.towers, t, tasks, len(x))
    for t in range(tasks - 1):
        peer.info_gates[t] = network(model.handed_on[t], 0)
        attention = peer.aits[t]
        for ours, theirs in zip(
            model.transfers[t].h,
            (attention.v_layer, attention.q_layer, attention.k_layer),
            strict=True,
        ):
            theirs.weight.data.copy_(ours.detach().T)
    found = model.grouped(x, [len(x)]).sigmoid()
    torch.testing.assert_close(found, peer(x), rtol=0, atol=1e-7)


def test_same_weights_give_esmms_probabilities():
    model, x = scrambled(fresh("esmm", domains=1)).eval(), inputs(16)
    sizes = {"dims": [WIDTH], "activation": "relu", "dropout": 0.0}
    half = INPUTS // 2
    peer = peers.ESMM([torch_feature(1)], [torch_feature(2)], dict(sizes), dict(sizes)).double()
    peer.embedding = Embedded()
    peer.user_features, peer.item_features = slice(0, half), slice(half, None)
    for t, name in enumerate(("tower_ctr", "tower_cvr")):
        steps = nn.Sequential(network(model.networks, t), tower(model.towers, t, 2, len(x)))
        setattr(peer, name, steps)
    found = model.grouped(x, [len(x)]).sigmoid()
    _, click, both = peer.eval()(x).unbind(1)
    torch.testing.assert_close(found, torch.stack([click, both], 1), rtol=0, atol=1e-7)


def torch_feature(number):
    features = pytest.importorskip("torch_rechub.basic.features")
    return features.SparseFeature(f"f{number}", 2, INPUTS)
