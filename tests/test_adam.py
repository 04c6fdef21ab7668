"""Adam against torch.optim."""

import subprocess
import sys

import torch
from torch import nn

from domain_experts.training.adam import Adam


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (3,), (4,))]


def test_the_same_bits_as_torch_optim():
    ours, theirs = parameters(), parameters()
    mine = Adam([(ours[:1], 0.02), (ours[1:], 0.0)], 0.01)
    reference = torch.optim.Adam(
        [{"params": theirs[:1], "weight_decay": 0.02}, {"params": theirs[1:]}], lr=0.01, fused=True
    )
    generator = torch.Generator().manual_seed(1)
    for step in range(7):
        mine.zero_grad()
        reference.zero_grad()
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            # the last one has no gradient now and then
            if i < 2 or step % 3 == 0:
                a.grad = torch.randn(a.shape, generator=generator)
                b.grad = a.grad.clone()
        mine.step()
        reference.step()
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)
    for a, b in zip(ours, theirs, strict=True):
        for name, value in reference.state[b].items():
            assert torch.equal(mine.state[a][name], value)


def test_a_step_imports_no_compiler():
    code = """
import sys, torch
from torch import nn
from domain_experts.training.adam import Adam
p = nn.Parameter(torch.ones(3))
p.grad = torch.ones(3)
Adam([([p], 0.0)], 0.1).step()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
