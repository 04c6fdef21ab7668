"""Published numbers: read as data, refused where they do not fit."""

import pytest

from domain_experts.errors import UserError
from domain_experts.reporting import published as module
from domain_experts.reporting.published import published, verdict

HEAD = "source,dataset,backbone,arm,metric,value\n"


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Write cells in the place of the package's own."""
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    (tmp_path / "published").mkdir()
    return lambda text: (tmp_path / "published" / "own.csv").write_text(HEAD + text)


def test_the_packaged_cells_can_be_read():
    assert len(published("macro_auc")) > 0
    assert published("wauc").empty


def test_a_cell_is_read(cells):
    cells("a paper,ml-1m-gender,wdl,moe_mlora,wauc,0.81\n")
    row = published("wauc").iloc[0]
    assert tuple(row) == ("ml-1m-gender", "wdl", "moe_mlora", 0.81)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s,d,wdl,base,wauc,0.8\ns,d,wdl,base,wauc,0.8\n", "line 3: this cell has a value already"),
        ("s,d,wdl,base,accuracy,0.8\n", "line 2: metric 'accuracy' is unknown"),
        ("s,d,wdl,base,wauc,high\n", "line 2: value 'high' is not a number"),
        ("s,d,wdl,base,wauc,81.2\n", r"line 2: value 81\.2 is not an AUC"),
        ("s,d,wdl,base,wauc,nan\n", "line 2: value nan is not an AUC"),
        ("s,d,wdl,base,wauc\n", "line 2: expected the columns"),
        ("s,d,wdl,base,wauc,0.8,more\n", "line 2: expected the columns"),
    ],
)
def test_what_does_not_fit_is_refused(cells, text, message):
    cells(text)
    with pytest.raises(UserError, match=message):
        published("wauc")


@pytest.mark.parametrize(
    ("difference", "sd", "expected"),
    [
        (0.0019, float("nan"), "met"),
        (-0.0021, float("nan"), "not met"),
        (0.0021, 0.0005, "not met"),
        (-0.0059, 0.003, "met"),
        (0.0061, 0.003, "not met"),
    ],
)
def test_the_tolerance(difference, sd, expected):
    assert verdict(difference, sd) == expected
