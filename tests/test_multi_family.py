"""What holds of every multi-domain multi-task model, whatever its equation."""

from functools import partial
from importlib import import_module

import pytest
import torch
from assignments import params
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.settings import MultiModelSettings
from domain_experts.registry import BACKBONES
from domain_experts.schema import Schema

FAMILY = [name for name, own in BACKBONES.items() if own.family == "multi"]
FIELDS = (("user", 12), ("item", 9), ("domain", 3))
SHAPES = [(3, 2), (1, 2), (3, 1), (1, 1)]


def fresh(name, domains=3, tasks=2, seed=0):
    schema = Schema(
        FIELDS,
        ("age",),
        tuple(f"d{d}" for d in range(domains)),
        tuple(f"t{t}" for t in range(tasks)),
    )
    values = params().multi_model.model_dump() | {"embedding_dim": 8, "hidden": (16, 12, 12, 8)}
    sizes = MultiModelSettings.model_validate(values)
    plan = MultiContext(schema, sizes, torch.Generator().manual_seed(seed), fusion_start=0.0)
    return import_module(BACKBONES[name].module).Model(plan)


def scrambled(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    return model.double().eval()


def batch(domain, seed=2):
    generator = torch.Generator().manual_seed(seed)
    rows = len(domain)
    fields = torch.stack([torch.randint(n, (rows,), generator=generator) for _, n in FIELDS], 1)
    dense = torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    return fields.int(), dense, torch.tensor(domain)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"D{s[0]}T{s[1]}")
@pytest.mark.parametrize("name", FAMILY)
def test_a_row_is_alone_in_its_batch_whatever_the_others(name, shape):
    model = scrambled(fresh(name, *shape))
    rows = batch([d % shape[0] for d in (2, 0, 2, 1, 0, 2)])
    logits = model(*rows)
    assert logits.shape == (6, shape[1]) and len(torch.unique(logits)) > 1
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    torch.testing.assert_close(
        model(*(part[order] for part in rows)), logits[order], rtol=0, atol=1e-10
    )
    for i in range(6):
        alone = model(*(part[i : i + 1] for part in rows))
        torch.testing.assert_close(alone, logits[i : i + 1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", FAMILY)
def test_it_learns_one_batch_by_heart(name):
    model = fresh(name).train()
    fields, dense, domain = batch([d % 3 for d in range(32)])
    labels = torch.randint(2, (32, 2), generator=torch.Generator().manual_seed(3)).float()
    # some models take tasks for the steps of a funnel: nobody takes one without those before
    labels = labels.cumprod(1)
    # weights that a network makes take smaller steps
    optimizer = torch.optim.Adam(model.parameters(), 0.01 if name in ("apg", "m2m") else 0.02)
    for _ in range(300):
        loss = binary_cross_entropy_with_logits(model(fields, dense.float(), domain), labels)
        extra, of_rows = model.auxiliary_loss(), model.row_losses(labels)
        if of_rows is not None:
            extra = of_rows.mean() + (0 if extra is None else extra)
        optimizer.zero_grad()
        (loss if extra is None else loss + extra).backward()
        optimizer.step()
        if loss < 0.05:
            return
    raise AssertionError(f"cross entropy {loss:.3f} after 300 steps")


def assert_drawn_from_own_stream(new):
    """A model's weights are those of its seed, and no other stream has been drawn from."""

    def flat(seed):
        return torch.cat([p.detach().flatten() for p in new(seed=seed).parameters()])

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = flat(5)
    torch.testing.assert_close(torch.get_rng_state(), before)
    torch.testing.assert_close(flat(5), first, rtol=0, atol=0)
    assert not torch.equal(flat(6), first)


@pytest.mark.parametrize("name", FAMILY)
def test_initial_weights_come_from_the_plans_stream_alone(name):
    assert_drawn_from_own_stream(partial(fresh, name))


@pytest.mark.parametrize("name", FAMILY)
def test_gradients_are_finite_where_a_domain_is_absent(name):
    model = scrambled(fresh(name)).train()
    model(*batch([2, 0, 2, 0])).sum().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
