"""Adam against torch.optim."""

import subprocess
import sys

import torch
from torch import nn
from torch.nn.functional import embedding

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
from torch.nn.functional import embedding
from domain_experts.training.adam import Adam
p = nn.Parameter(torch.ones(3))
p.grad = torch.ones(3)
Adam([([p], 0.0)], 0.1).step()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def tables():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((40, 3), (30, 1))]


def looked_up(tables, step):
    """Loss of some rows, some of them several times; the second table has none now and then."""
    generator = torch.Generator().manual_seed(step)
    codes = torch.randint(25, (12,), generator=generator)
    slope = torch.randn(12, 1, generator=generator)
    used = tables if step % 3 else tables[:1]
    return sum((embedding(codes, table, sparse=True) * slope).sum() for table in used)


def test_rows_of_sparse_gradients_have_the_bits_of_torchs_sparse_adam():
    ours, theirs = tables(), tables()
    mine = Adam([(ours, 0.0)], 0.01)
    reference = torch.optim.SparseAdam(theirs, lr=0.01)
    for step in range(7):
        for optimizer, own in ((mine, ours), (reference, theirs)):
            optimizer.zero_grad()
            looked_up(own, step).backward()
            optimizer.step()
    for a, b, start in zip(ours, theirs, tables(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[25:], start[25:])
        assert not torch.equal(a[:25], start[:25])
        for name, value in reference.state[b].items():
            assert torch.equal(mine.state[a][name], torch.as_tensor(value, dtype=torch.float32))


def test_the_penalty_is_of_the_rows_of_the_gradient_alone():
    """Oracle: its gradient, written into the loss, each row once."""
    ours, theirs = tables(), tables()
    mine, reference = Adam([(ours, 0.3)], 0.01), torch.optim.SparseAdam(theirs, lr=0.01)
    for step in range(4):
        mine.zero_grad()
        reference.zero_grad()
        looked_up(ours, step).backward()
        mine.step()
        looked_up(theirs, step).backward()
        for table in theirs:
            if table.grad is not None:
                rows = table.grad.coalesce().indices()[0]
                (0.15 * embedding(rows, table, sparse=True).square().sum()).backward()
        reference.step()
    for a, b, start in zip(ours, theirs, tables(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
        assert torch.equal(a[25:], start[25:])


def test_dense_gradients_beside_sparse_ones_are_moved_as_ever():
    (table, _), (weight, *_), (same, *_) = tables(), parameters(), parameters()
    mixed, alone = Adam([([table, weight], 0.02)], 0.01), Adam([([same], 0.02)], 0.01)
    for step in range(3):
        mixed.zero_grad()
        looked_up([table], step).backward()
        weight.grad, same.grad = (torch.full_like(weight, step) for _ in range(2))
        mixed.step()
        alone.step()
    assert torch.equal(weight, same)
