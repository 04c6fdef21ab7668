"""RelaImpr, ours and the published ones."""

import pandas as pd
import pytest

from domain_experts.params import load
from domain_experts.reporting.frame import KEYS
from domain_experts.reporting.published import published
from domain_experts.reporting.relative import (
    mean_notes,
    published_again,
    rela_impr,
    relative_notes,
)
from domain_experts.results import CURRENT, STALE
from domain_experts.study import Study

OVER = "mdmt_released/m3oe"


@pytest.fixture
def frame():
    """Two cells of three models on one data set."""
    rows = [
        ("m3oe", CURRENT, 0.70, 0.60, 0.05, 0.05),
        ("mmoe", CURRENT, 0.66, 0.625, None, None),
        ("ple", STALE, 0.60, 0.65, None, None),
    ]
    names = ["backbone", "status", "D1 T1", "D1 T2", "printed D1 T2", "again D1 T2"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(
        dataset="d", arm="mdmt_released", **{"printed D1 T1": None, "again D1 T1": None}
    )


def test_by_hand(frame):
    (note,) = relative_notes(frame, ["D1 T1", "D1 T2"], OVER)
    assert note.endswith(
        "of MDMT (released code), M3oE on d: D1 T1 +25.00 % over MDMT (released code), MMoE; "
        "D1 T2 −33.33 %° over MDMT (released code), PLE (published +5.00 %)."
    )


def test_a_reference_without_numbers_says_nothing(frame):
    assert relative_notes(frame, ["D1 T1"], "mdmt/m3oe") == []
    assert relative_notes(frame.iloc[:1], ["D1 T1"], OVER) == []


def test_the_papers_own_cells_give_all_but_one_of_its_gains():
    printed = published("rela_impr", by_cell=True)
    again = published_again(Study(load(), "paper"), OVER)
    both = printed.merge(again, on=[*KEYS, "number"])
    assert len(both) == len(printed) == 10
    apart = (both["published_again"] - both["published_rela_impr"]).abs() > 1e-3
    wrong = both[apart].iloc[0]
    assert apart.sum() == 1
    assert (wrong["dataset"], wrong["number"], wrong["task"]) == ("kuairand-pure", 3, "long_view")
    assert wrong["published_again"] == rela_impr(0.6691, 0.6610)


def test_a_published_mean_that_is_not_that_of_its_cells():
    cells = published("auc", by_cell=True)
    cells["cell"] = "published " + cells["number"].astype(str) + cells["task"]
    ours = cells[cells["dataset"] == "ml-1m-m3oe"]
    own = [key for key in KEYS if key != "task"]
    wide = ours.pivot(index=own, columns="cell", values="published_auc").reset_index()
    names = [name.removeprefix("published ") for name in wide if name.startswith("published ")]
    notes = mean_notes(wide.assign(task=""), names)
    assert notes == [
        "MDMT (released code), PLE on ml-1m-m3oe: the published mean is 0.7568, and the published "
        "cells have the mean 0.7601."
    ]
