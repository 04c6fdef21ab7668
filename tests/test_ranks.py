"""Ranks over blocks, against scipy and a published example."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from domain_experts.registry import NO_BACKBONE
from domain_experts.reporting.ranks import Ranks, ranks

ARMS = ("base", "mlora", "star", "moe_mlora")


def frames(values, backbone="wdl", seeds=7, metric="wauc", arms=ARMS):
    """Frames of (blocks, arms) values, seven seeds a data set."""
    rows = [
        (f"d{block // seeds}", backbone, block % seeds, block % seeds, arm, "default", value)
        for block, own in enumerate(values)
        for arm, value in zip(ARMS, own, strict=True)
    ]
    names = ["dataset", "backbone", "seed", "split_seed", "arm", "variant", metric]
    runs = pd.DataFrame(rows, columns=names)
    experiment = SimpleNamespace(metric=metric, arms=arms)
    params = SimpleNamespace(experiments={"own": experiment})
    return SimpleNamespace(study=SimpleNamespace(params=params), of=lambda name: runs)


def test_four_arms_in_fourteen_blocks_have_the_published_critical_difference():
    values = np.random.default_rng(0).normal(size=(14, 4))
    found = ranks(frames(values), "own")
    # Demšar (2006), section 3.2.2: 2.569 sqrt(4 x 5 / (6 x 14))
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert (found.blocks, found.seeds) == (14, 7)
    assert found.p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    expected = stats.rankdata(-values, axis=1).mean(axis=0)
    assert found.means.loc[list(ARMS)].tolist() == pytest.approx(expected.tolist())
    assert found.means.is_monotonic_increasing


def test_of_a_loss_the_lowest_is_first():
    values = np.tile([0.4, 0.1, 0.3, 0.2], (7, 1)) + np.arange(7)[:, None]
    assert list(ranks(frames(values, metric="log_loss"), "own").means.index) == [
        *("mlora", "moe_mlora", "star", "base"),
    ]


def test_few_seeds_arms_or_a_metric_without_direction_have_no_ranks():
    values = np.random.default_rng(0).normal(size=(14, 4))
    assert ranks(frames(values, seeds=4), "own") is None
    assert ranks(frames(values, metric="calibration"), "own") is None
    values[:, 1:3] = np.nan
    assert ranks(frames(values), "own") is None


def test_blocks_that_lack_an_arm_and_other_splits_are_left_out():
    values = np.random.default_rng(0).normal(size=(14, 4))
    values[3, 2] = np.nan
    of = frames(values)
    assert ranks(of, "own").blocks == 13
    runs = of.of("own")
    runs.loc[runs["arm"] == "star", "split_seed"] = 123
    assert "star" not in ranks(of, "own").means


def test_what_has_no_backbone_stands_beside_each():
    values = np.random.default_rng(0).normal(size=(7, 4))
    of = frames(values)
    runs = of.of("own")
    floors = runs["arm"] == "star"
    both = pd.concat([runs[~floors], runs[~floors].assign(backbone="mlp")])
    of.of = lambda name: pd.concat([both, runs[floors].assign(backbone=NO_BACKBONE)])
    found = ranks(of, "own")
    assert found.blocks == 14
    assert found.means["star"] == pytest.approx(ranks(frames(values), "own").means["star"])


def test_five_data_sets_are_the_blocks_with_means_over_the_rest():
    values = np.random.default_rng(0).normal(size=(35, 4))
    found = ranks(frames(values), "own")
    means = values.reshape(5, 7, 4).mean(axis=1)
    assert (found.blocks, found.by_dataset, found.seeds) == (5, True, 7)
    assert found.p == pytest.approx(stats.friedmanchisquare(*means.T).pvalue)
    expected = stats.rankdata(-means, axis=1).mean(axis=0)
    assert found.means.loc[list(ARMS)].tolist() == pytest.approx(expected.tolist())
    # seeds are no blocks: seven times as many would tell arms apart sooner
    assert found.critical > 2 * ranks(frames(values[:28]), "own").critical
    assert not ranks(frames(values[:28]), "own").by_dataset


def test_arms_with_backbones_of_their_own_are_told_by_both():
    values = np.random.default_rng(0).normal(size=(7, 4))
    found = ranks(frames(values, arms=dict.fromkeys(ARMS, ("wdl",))), "own")
    assert set(found.means.index) == {f"{arm}/wdl" for arm in ARMS}


def test_cliques_are_the_largest_groups_within_the_critical_difference():
    means = pd.Series({"a": 1.0, "b": 1.4, "c": 2.0, "d": 2.3, "e": 5.0})
    assert Ranks(means, 10, False, 5, 0.01, 1.0).cliques == (("a", "b", "c"), ("b", "c", "d"))
    assert Ranks(means, 10, False, 5, 0.01, 0.1).cliques == ()
