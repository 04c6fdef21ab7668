"""The notebook for rows of one's own runs as it stands."""

import json

import numpy as np
import pytest
from projects import ROOT

NOTEBOOK = ROOT / "docs/own-data.ipynb"


@pytest.fixture(scope="module")
def names():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    found: dict = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, {cell['id']}", "exec"), found)
    return found


def test_every_model_of_the_notebook_has_learnt(names):
    assert list(names["comparison"].index) == ["books", "games", "music"]
    assert (names["comparison"] > 0.55).all(axis=None)


def test_the_loaded_model_scores_as_the_fitted_one(names):
    fitted = names["experts"].predict_proba(names["seen"])[:, 1]
    np.testing.assert_allclose(names["scores"], fitted, rtol=0, atol=1e-6)


def test_unknown_ids_and_domains_are_scored(names):
    scores = names["model"].predict(names["new"])["p_click"]
    assert len(scores) == 2
    assert scores.between(0, 1).all()


def test_the_notebook_keeps_no_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
