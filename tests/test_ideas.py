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
# models whose gain on one seed is many times its spread (docs/m3oe.md)
ROBUST = ("adasparse", "epnet")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_their_seed_and_can_be_learnt(kind):
    rows, twin, other = (ideas.generate(kind, 500, seed, 3) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(rows[:4], twin[:4], strict=True))
    assert not torch.equal(rows.labels, other.labels)
    assert (rows.fields[:, 2] == rows.domain).all()
    assert 0.2 < rows.labels.mean() < 0.8


def test_a_domains_clicks_follow_its_own_features():
    rows = ideas.generate("domain's features", 4000, 1, 3)
    parts = rows.dense.view(-1, 4, 3).numpy()
    v = parts[np.arange(4000), rows.domain]
    score = v[:, 0] * v[:, 1] + v[:, 2]
    labels = rows.labels[:, 0].numpy()
    assert roc_auc_score(labels, score) > 0.9
    other = parts[np.arange(4000), (rows.domain + 1) % 4]
    assert abs(roc_auc_score(labels, other[:, 0] * other[:, 1] + other[:, 2]) - 0.5) < 0.05


@pytest.mark.parametrize("idea", ideas.IDEAS, ids=lambda idea: idea.model)
def test_what_is_left_out_changes_what_the_model_can_do(idea):
    rows = ideas.generate(idea.planted, 64, 1, 3)
    with_it, without = (ideas.new_model(idea, rows, 0, has_idea) for has_idea in (True, False))
    trained = [
        sum(p.numel() for p in model.parameters() if p.requires_grad)
        for model in (with_it, without)
    ]
    assert trained[1] < trained[0]
    fields = rows.fields[:, idea.fields]
    assert without(fields, rows.dense, rows.domain).shape == rows.labels.shape


@pytest.mark.parametrize("name", ROBUST)
def test_the_idea_helps_where_it_is_planted(name):
    with_it, without = (ideas.auc(BY_MODEL[name], 7, has_idea) for has_idea in (True, False))
    assert with_it > without + 0.01


def test_the_table_is_that_of_the_numbers():
    found = pd.read_csv(ROOT / ideas.RESULTS)
    text = (ROOT / ideas.DOCUMENT).read_text()
    assert ideas.filled(text, found) == text
    assert set(found["model"]) == set(BY_MODEL)
