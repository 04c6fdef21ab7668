"""Numbers below the smallest normal one."""

import time

import pytest
import torch

from domain_experts.training.tiny import tiny_as_zero


def product():
    return (torch.tensor(1e-39) * torch.tensor(0.5)).item()


def test_within_they_are_zero_and_afterwards_numbers_again():
    assert product() > 0
    with tiny_as_zero():
        assert product() == 0
        with tiny_as_zero():
            assert product() == 0
        # what was so before stays so
        assert product() == 0
    assert product() > 0


def test_an_error_leaves_the_thread_as_it_was():
    with pytest.raises(ZeroDivisionError), tiny_as_zero():
        _ = 1 / 0
    assert product() > 0


def test_dead_weights_cost_no_more_than_others():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 256, generator=generator)
    dead = torch.randn(256, 256, generator=generator) * 1e-39

    def seconds(weights):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            _ = x @ weights
            times.append(time.perf_counter() - start)
        return min(times)

    with tiny_as_zero():
        assert seconds(dead) < 8 * seconds(x)
