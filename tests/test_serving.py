"""Saved models: rebuilt, saved, loaded, refused."""

import numpy as np
import pytest
import torch
from served import CASES, Trained

from domain_experts.registry import ARMS
from domain_experts.serving.rebuild import MAKERS, rebuild


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp("trained"))


def logits(module, rows):
    with torch.inference_mode():
        return module(*map(torch.from_numpy, rows)).numpy()


def test_every_arm_can_be_rebuilt():
    assert MAKERS.keys() == ARMS.keys()


@pytest.mark.parametrize(("arm", "backbone"), CASES)
def test_rebuilt_models_give_the_stored_logits(trained, arm, backbone):
    module = rebuild(trained.identity(arm, backbone), trained.state(arm, backbone))
    rows, stored = trained.test_rows(arm, backbone)
    np.testing.assert_allclose(logits(module, rows), stored, rtol=0, atol=1e-6)
