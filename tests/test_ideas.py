"""Ideas of models on rows where they must help: the rows, what is left out, and robust gains."""

import numpy as np
import pandas as pd
import pytest
import torch
from projects import ROOT
from sklearn.metrics import roc_auc_score

from scripts import ideas

KINDS = sorted({idea.planted for idea in ideas.IDEAS})
BY_MODEL = {idea.model: idea for idea in ideas.IDEAS}
NAMES = [f"{idea.model}-{idea.planted}" for idea in ideas.IDEAS]
# models whose gain on one seed is many times its spread (docs/m3oe.md)
ROBUST = ("adasparse", "epnet")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_their_seed_and_can_be_learnt(kind):
    rows, twin, other = (ideas.generate(kind, 500, seed, 3) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(rows[:4], twin[:4], strict=True))
    assert not torch.equal(rows.labels, other.labels)
    assert (rows.fields[:, 2] == rows.domain).all()
    assert 0.2 < rows.labels[:, 0].mean() < 0.8
    if kind in ideas.FUNNELS:
        click, both = rows.labels.T
        assert 0 < both.sum() < 0.7 * click.sum() and (both <= click).all()


def test_a_domains_clicks_follow_its_own_features():
    rows = ideas.generate("domain's features", 4000, 1, 3)
    parts = rows.dense.view(-1, 4, 3).numpy()
    v = parts[np.arange(4000), rows.domain]
    score = v[:, 0] * v[:, 1] + v[:, 2]
    labels = rows.labels[:, 0].numpy()
    assert roc_auc_score(labels, score) > 0.9
    other = parts[np.arange(4000), (rows.domain + 1) % 4]
    assert abs(roc_auc_score(labels, other[:, 0] * other[:, 1] + other[:, 2]) - 0.5) < 0.05


def test_clicks_choose_whose_conversions_are_seen():
    rows = ideas.generate("clicks that choose", 20_000, 1, 3)
    click, both = rows.labels.T.bool()
    bought = rows.if_clicked[:, 1].bool()
    assert (both == (click & bought)).all()
    parts = rows.dense.view(-1, 3, 3).numpy()
    first, second = (ideas.law(parts[:, i]) for i in range(2))
    likely = (parts[:, 2, 0] >= 0) & click.numpy()
    unlikely = (parts[:, 2, 0] < 0) & ~click.numpy()
    assert roc_auc_score(bought[likely], first[likely]) > 0.9
    assert roc_auc_score(bought[unlikely], second[unlikely]) > 0.9
    assert likely.sum() > 8 * ((parts[:, 2, 0] < 0) & click.numpy()).sum()
    assert ideas.generate("funnel", 10, 1, 3).if_clicked is None


def test_the_rate_of_two_domains_is_the_mean_of_two_others():
    rows = ideas.generate("blended rates", 40_000, 1, 3)
    parts = rows.dense.view(-1, 2, 3).numpy()
    p = [1 / (1 + np.exp(-ideas.law(parts[:, i]))) for i in range(2)]
    expected = [p[0], p[1], (p[0] + p[1]) / 2, (p[0] + p[1]) / 2]
    for d, rate in enumerate(expected):
        own = (rows.domain == d).numpy()
        labels = rows.labels[own, 0].numpy()
        for low in (0.1, 0.4, 0.7):
            near = abs(rate[own] - low) < 0.1
            assert abs(labels[near].mean() - rate[own][near].mean()) < 0.06


@pytest.mark.parametrize("idea", ideas.IDEAS, ids=NAMES)
def test_what_is_left_out_changes_what_the_model_can_do(idea):
    rows = ideas.generate(idea.planted, 64, 1, 3)
    with_it, without = (ideas.new_model(idea, rows, 0, has_idea) for has_idea in (True, False))
    trained = [
        sum(p.numel() for p in model.parameters() if p.requires_grad)
        for model in (with_it, without)
    ]
    found = [
        model(rows.fields[:, idea.fields], rows.dense, rows.domain) for model in (with_it, without)
    ]
    added = [model.row_losses(rows.labels) for model in (with_it, without)]
    assert found[1].shape == rows.labels.shape
    if added[0] is not None:
        assert added[0].min() >= 0 and added[0].max() > 0 and not added[1].any()
    elif trained[1] == trained[0]:
        assert not torch.allclose(*found, atol=0.01)
    else:
        assert trained[1] < trained[0]


@pytest.mark.parametrize("name", ROBUST)
def test_the_idea_helps_where_it_is_planted(name):
    with_it, without = (ideas.auc(BY_MODEL[name], 7, has_idea) for has_idea in (True, False))
    assert with_it > without + 0.01


def test_the_table_is_that_of_the_numbers():
    found = pd.read_csv(ROOT / ideas.RESULTS)
    text = (ROOT / ideas.DOCUMENT).read_text()
    assert ideas.filled(text, found) == text
    assert set(found["model"]) == set(BY_MODEL)
