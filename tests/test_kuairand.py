import csv
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.csv import read_csv, write_csv
from rawfiles import write_kuairand, write_kuairand_logs

from domain_experts import layout
from domain_experts.data import kuairand
from domain_experts.data.interactions import Interactions
from domain_experts.data.prepare import prepare
from domain_experts.data.registry import FILE_FORMATS, SOURCES, Content
from domain_experts.data.specs import KuaiRand, SplitRule
from domain_experts.errors import UserError
from domain_experts.files import sha256, write_json

SOURCE = "kuairand-pure"
*LOGS, USERS, VIDEOS = FILE_FORMATS[SOURCE]
USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
VIDEO_NUMBERS = ("video_duration", "server_width", "server_height")
SPLIT = SplitRule(rule="positional", validation_fraction=0.1, test_fraction=0.1)


def spec(order="timestamp", split=None):
    return KuaiRand(source=SOURCE, order=order, split=split)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def slow(folder):
    """Rows of tabs 0, 1 and 4 by time, with the cells of their user and video as text."""
    users = {row["user_id"]: row for row in table(folder / USERS)}
    videos = {row["video_id"]: row for row in table(folder / VIDEOS)}
    rows = [row for name in LOGS for row in table(folder / name) if row["tab"] in ("0", "1", "4")]
    rows.sort(key=lambda row: int(row["time_ms"]))
    return [users[row["user_id"]] | videos[row["video_id"]] | row for row in rows]


@pytest.fixture
def published(monkeypatch):
    """Let the counts of a folder be those that are published."""

    def let(folder):
        content = Content(counts=kuairand.counts(folder, SOURCE))
        monkeypatch.setitem(SOURCES, SOURCE, replace(SOURCES[SOURCE], content=content))

    return let


@pytest.fixture
def made(tmp_path, published):
    write_kuairand(tmp_path)
    published(tmp_path)
    return kuairand.interactions(tmp_path, SOURCE, spec())


def test_rows_are_those_of_the_tabs_in_the_order_of_time(made, tmp_path):
    rows = slow(tmp_path)
    assert made.schema.domains == ("tab 0", "tab 1", "tab 4")
    assert made.schema.tasks == ("click", "long_view")
    assert made.domain.tolist() == [["0", "1", "4"].index(row["tab"]) for row in rows]
    expected = [[int(row["is_click"]), int(row["long_view"])] for row in rows]
    assert made.labels.tolist() == expected


def test_fields_are_the_cells_of_the_feature_files(made, tmp_path):
    rows = slow(tmp_path)
    names = [name for name, _ in made.schema.fields]
    cells = {"user": "user_id", "item": "video_id", "domain": "tab"}
    for j, name in enumerate(names):
        texts = [row[cells.get(name, name)] for row in rows]
        number = name in cells
        values = sorted(set(texts), key=int if number else str)
        assert made.fields[:, j].tolist() == [values.index(text) for text in texts], name
        assert made.schema.sizes[j] == len(values), name
    # one more where cells are empty
    assert made.schema.sizes[names.index("tag")] == 3


def test_numbers_are_scaled_logarithms(made, tmp_path):
    rows = slow(tmp_path)
    assert made.schema.dense == (*USER_NUMBERS, *VIDEO_NUMBERS)
    known = [float(v["video_duration"]) for v in table(tmp_path / VIDEOS) if v["video_duration"]]
    for j, name in enumerate(made.schema.dense):
        # the logarithm is monotone, but of an even number the median lies between two
        middle = statistics.median(map(math.log1p, known))
        x = np.array([math.log1p(float(row[name])) if row[name] else middle for row in rows])
        span = x.max() - x.min()
        expected = (x - x.min()) / span if span else np.zeros(len(x))
        np.testing.assert_allclose(made.dense[:, j], expected, atol=1e-6, err_msg=name)


def test_nothing_that_comes_after_the_impression_is_an_input(made, tmp_path, published):
    """Other feedback, stays, policy, date: whatever they hold, the inputs are the same."""
    labels = {"is_click", "long_view"}
    kept = {"user_id", "video_id", "time_ms", "tab"}
    for name in LOGS:
        log = read_csv(tmp_path / name)
        for k, column in enumerate(log.column_names):
            if column not in kept:
                other = pa.array([1 if column in labels else 7 * k + i for i in range(len(log))])
                log = log.set_column(k, column, other)
        write_csv(log, tmp_path / name)
    again = kuairand.interactions(tmp_path, SOURCE, spec())
    assert again.schema == made.schema
    np.testing.assert_array_equal(again.fields, made.fields)
    np.testing.assert_array_equal(again.dense, made.dense)
    assert again.labels.all()


def test_the_shuffled_order_holds_the_same_rows(made, tmp_path):
    other = kuairand.interactions(tmp_path, SOURCE, spec("shuffled"))
    tables = [np.column_stack([x.fields, x.dense, x.labels]) for x in (made, other)]
    assert (tables[0] != tables[1]).any()
    np.testing.assert_array_equal(*(np.unique(rows, axis=0) for rows in tables))


def test_other_counts_than_published_stop_the_phase_and_say_by_how_much(tmp_path, published):
    write_kuairand(tmp_path)
    published(tmp_path)
    path = tmp_path / LOGS[0]
    lines = path.read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.endswith(",4\n"))
    path.write_text("".join(lines[:first] + lines[first + 1 :]))
    n = SOURCES[SOURCE].content.counts["rows"][2]
    with pytest.raises(UserError) as caught:
        kuairand.interactions(tmp_path, SOURCE, spec())
    assert f"rows of tab 4: {n - 1:,}, published {n:,} (-1)" in str(caught.value)
    assert "rows of tab 0" not in str(caught.value)


def test_the_published_counts_are_those_of_table_1():
    assert SOURCES[SOURCE].content.counts == {
        "rows": (178_087, 2_236_414, 93_165),
        "users": (15_398, 27_049, 11_809),
        "items": (6_233, 7_580, 4_633),
    }


def edit(path, line, name, text):
    """Replace a cell of a line (from 1) that has no quoted cell; None drops the whole column."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    position = rows[0].index(name)
    if text is None:
        rows = [row[:position] + row[position + 1 :] for row in rows]
    else:
        rows[line - 1][position] = text
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


@pytest.mark.parametrize(
    ("file", "name", "text", "message"),
    [
        (LOGS[0], "is_click", "2", "line 7: column is_click: 2 is neither 0 nor 1"),
        (LOGS[2], "long_view", "-1", "line 7: column long_view: -1 is neither 0 nor 1"),
        (LOGS[0], "long_view", "yes", "line 7: column long_view: .*'yes'"),
        (LOGS[1], "time_ms", "", "line 7: column time_ms: is empty"),
        (LOGS[1], "tab", None, "line 1: no column 'tab'"),
        (USERS, "fans_user_num", "-3", "line 7: column fans_user_num: -3.0 is no number from 0"),
        (USERS, "fans_user_num", "", "line 7: column fans_user_num: is empty"),
        (USERS, "register_days", "inf", "line 7: column register_days: inf is no number from 0"),
        (USERS, "onehot_feat17", None, "line 1: no column 'onehot_feat17'"),
        (VIDEOS, "video_duration", "long", "line 7: column video_duration: .*'long'"),
        (VIDEOS, "video_duration", "-1", "line 7: column video_duration: -1.0 is no number"),
        (VIDEOS, "server_width", "", "line 7: column server_width: is empty"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path, file, name, text, message):
    write_kuairand(tmp_path)
    edit(tmp_path / file, 7, name, text)
    with pytest.raises(UserError, match=f"{file}, {message}"):
        kuairand.counts(tmp_path, SOURCE)


@pytest.mark.parametrize(("name", "file"), [("user_id", USERS), ("video_id", VIDEOS)])
def test_ids_without_features_and_features_given_twice_are_named(tmp_path, name, file):
    write_kuairand(tmp_path)
    edit(tmp_path / LOGS[1], 7, name, "777")
    edit(tmp_path / LOGS[1], 7, "tab", "1")
    with pytest.raises(UserError, match=f"{LOGS[1]}, line 7: column {name}: 777 is not in {file}"):
        kuairand.counts(tmp_path, SOURCE)
    edit(tmp_path / LOGS[1], 7, "tab", "2")
    kuairand.counts(tmp_path, SOURCE)
    first = table(tmp_path / file)[0][name]
    edit(tmp_path / file, 7, name, first)
    with pytest.raises(UserError, match=f"{file}, line 7: column {name}: repeats an earlier line"):
        kuairand.counts(tmp_path, SOURCE)


def test_logs_without_the_tabs_are_refused(tmp_path):
    write_kuairand(tmp_path)
    for name in LOGS:
        header = (tmp_path / name).read_text().splitlines()[0]
        (tmp_path / name).write_text(header + "\n" + ",".join(["1"] * 18 + ["2"]) + "\n")
    with pytest.raises(UserError, match="no row of the logs is in tab 0, 1, 4"):
        kuairand.counts(tmp_path, SOURCE)


@pytest.fixture
def placed(project):
    """The files as `fetch` leaves them."""

    def place(write, **size):
        folder = layout.raw(SOURCE)
        write(folder, **size)
        files = {name: sha256(folder / name) for name in FILE_FORMATS[SOURCE]}
        write_json(layout.raw_record(SOURCE), {"layout": SOURCE, "files": files})
        return folder

    return place


def test_prepare_keeps_the_time_and_cuts_nothing(placed, published):
    published(placed(write_kuairand))
    prepare("toy", spec())
    opened = Interactions.open(layout.interactions("toy"))
    assert (np.diff(opened.time) >= 0).all()
    assert opened.given_split is None
    assert opened.card["positives_by_domain"].keys() == {"click", "long_view"}


def write_a_fifth(folder):
    """Logs with a fifth of the rows of KuaiRand-Pure, 19 columns each."""
    rng = np.random.default_rng(0)
    write_kuairand(folder, users=27_285, videos=7_583, rows=2)
    header = table(folder / LOGS[0])[0].keys()
    for name, n in zip(LOGS, (228_222, 59_099, 237_212), strict=True):
        columns = dict.fromkeys(header, np.zeros(n, np.int64))
        columns |= {
            "user_id": rng.integers(0, 27_285, n),
            "video_id": rng.integers(0, 7_583, n),
            "time_ms": 1_649_400_000_000 + rng.integers(0, 10**9, n),
            "is_click": rng.integers(0, 2, n),
            "long_view": rng.integers(0, 2, n),
            "tab": rng.choice([0, 1, 2, 4], n, p=[0.07, 0.85, 0.04, 0.04]),
        }
        write_csv(pa.table(columns), folder / name)


def test_a_fifth_is_prepared_within_a_third_of_the_budget(placed):
    folder = placed(write_a_fifth)
    code = (
        "from dataclasses import replace\n"
        "from domain_experts.data.prepare import prepare\n"
        "from domain_experts.data.registry import SOURCES, Content\n"
        "from domain_experts.data.specs import KuaiRand\n"
        f"content = Content(counts={kuairand.counts(folder, SOURCE)})\n"
        "SOURCES['kuairand-pure'] = replace(SOURCES['kuairand-pure'], content=content)\n"
        "prepare('toy', KuaiRand(source='kuairand-pure', order='timestamp'))\n"
        "print(open('/proc/self/status').read())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with process.stdout:
        said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    # CPU time: the wall clock of a busy machine says nothing
    # a third, not a fifth, for the interpreter and its libraries
    assert usage.ru_utime + usage.ru_stime < 30 / 3
    # the kernel's own peak would count this process, of which the other is a fork
    assert int(re.search(r"VmHWM:\s*(\d+) kB", said)[1]) / 1024 < 3 * 1024 / 3
    card = Interactions.open(layout.interactions("toy")).card
    assert card["rows"] > 500_000
    shutil.rmtree(folder.parents[1])


@pytest.mark.real_data
def test_the_real_feature_files_agree_with_a_joined_sample(real_data, tmp_path, published):
    """200 rows that others joined; times and long views are not in them, so those are made up."""
    samples = Path(real_data) / "samples"
    joined = table(samples / "scenario-wise-rec" / "kuairand_sample.csv")
    write_kuairand_logs(tmp_path, [0], [0], rows=2)
    for name in (USERS, VIDEOS):
        shutil.copy(samples / name, tmp_path / name)
    names = ("user_id", "video_id", "time_ms", "is_click", "long_view", "tab")
    rows = [
        [r["user_id"], r["video_id"], str(i), r["is_click"], str(i % 2), r["tab"]]
        for i, r in enumerate(joined)
    ]
    lines = [",".join(row) for row in (names, *rows)]
    (tmp_path / LOGS[1]).write_text("\n".join(lines) + "\n")
    for name in (LOGS[0], LOGS[2]):
        (tmp_path / name).write_text(",".join(names) + "\n0,0,999,0,0,1\n")
    # one row of each domain behind those of the sample
    (tmp_path / LOGS[2]).write_text(",".join(names) + "\n0,0,999,0,0,0\n0,0,999,0,0,4\n")
    published(tmp_path)
    made = kuairand.interactions(tmp_path, SOURCE, spec())
    names = [name for name, _ in made.schema.fields]
    for name in ("user_active_degree", "onehot_feat3", "onehot_feat8", "server_width"):
        cells = [row[name] for row in joined]
        if name in names:
            codes = made.fields[: len(joined), names.index(name)]
        else:
            codes = made.dense[: len(joined), made.schema.dense.index(name)]
        pairs = set(zip(cells, codes.tolist(), strict=True))
        # the same cells are the same codes, and the other way round
        assert len(pairs) == len(set(cells)) == len(set(codes.tolist())), name
    assert made.labels[: len(joined), 0].tolist() == [int(row["is_click"]) for row in joined]
