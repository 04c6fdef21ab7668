import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from domain_experts import layout
from domain_experts.data import fetch, movielens
from domain_experts.data.interactions import Interactions
from domain_experts.data.prepare import prepare
from domain_experts.data.registry import FILE_FORMATS, SOURCES
from domain_experts.data.specs import MovieLens
from domain_experts.errors import UserError
from domain_experts.files import sha256, write_json

ATTRIBUTES = ("gender", "age", "occupation")
MOVIELENS_FORMATS = ("movielens-100k", "recbole", "movielens-1m")


def slow(folder, attribute):
    """Rows of the movielens-1m format, one by one: user, item, domain, label."""
    users = {}
    for line in (folder / "users.dat").read_text().splitlines():
        user, gender, age, occupation, _ = line.split("::")
        ages = ["1", "18", "25", "35", "45", "50", "56"]
        users[user] = {
            "gender": ["F", "M"].index(gender),
            "age": ages.index(age),
            "occupation": int(occupation),
        }
    rows = []
    for line in (folder / "ratings.dat").read_text().splitlines():
        user, item, rating, _ = line.split("::")
        rows.append((int(user), int(item), users[user][attribute], int(rating == "5")))
    return np.array(rows)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_equals_the_slow_reader(tmp_path, tiny_movielens, attribute):
    tiny_movielens(tmp_path, "movielens-1m")
    made = movielens.interactions(tmp_path, "movielens-1m", spec("ml-1m", attribute))
    expected = slow(tmp_path, attribute)
    np.testing.assert_array_equal(made.fields, expected[:, :3])
    np.testing.assert_array_equal(made.domain, expected[:, 2])
    np.testing.assert_array_equal(made.labels, expected[:, 3:])
    assert made.schema.fields[:2] == (("user", 64), ("item", 41))
    assert made.schema.sizes[2] == len(made.schema.domains)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_all_formats_give_the_same_interactions(tmp_path, tiny_movielens, attribute):
    made = {}
    for name in MOVIELENS_FORMATS:
        tiny_movielens(tmp_path / name, name)
        made[name] = movielens.interactions(tmp_path / name, name, spec("ml-1m", attribute))
    for name in ("recbole", "movielens-1m"):
        for key, array in made["movielens-100k"].arrays.items():
            np.testing.assert_array_equal(made[name].arrays[key], array, strict=True)
    assert made["recbole"].schema == made["movielens-100k"].schema


def test_the_order_of_users_does_not_matter(tmp_path, tiny_movielens):
    tiny_movielens(tmp_path, "movielens-1m")
    before = movielens.read(tmp_path, "movielens-1m")
    path = tmp_path / "users.dat"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    after = movielens.read(tmp_path, "movielens-1m")
    for name in ("user_ids", *ATTRIBUTES, "years", "zip"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name), strict=True)


@pytest.mark.parametrize(
    ("years", "group"),
    [
        *((7, 0), (17, 0), (18, 1), (24, 1), (25, 2), (34, 2), (35, 3), (44, 3)),
        *((45, 4), (49, 4), (50, 5), (55, 5), (56, 6), (73, 6)),
    ],
)
def test_age_groups_of_years(tmp_path, tiny_movielens, years, group):
    tiny_movielens(tmp_path, "movielens-100k")
    edit(tmp_path / "u.user", 1, f"1|{years}|M|writer|00000")
    assert movielens.read(tmp_path, "movielens-100k").age[0] == group


def edit(path, line, text):
    """Replace a line (from 1) of a file; None removes it."""
    lines = path.read_bytes().split(b"\n")
    lines[line - 1 : line] = [] if text is None else [text.encode("iso-8859-1")]
    path.write_bytes(b"\n".join(lines))


@pytest.mark.parametrize(
    ("name", "file", "line", "text", "message"),
    [
        ("movielens-1m", "ratings.dat", 7, "1::2::3", "line 7: 3 columns, expected 4"),
        ("movielens-1m", "ratings.dat", 7, "1::2::3::4::5", "line 7: 5 columns, expected 4"),
        ("movielens-1m", "ratings.dat", 7, "1:x:2::3::9", "line 7: 3 columns, expected 4"),
        ("movielens-1m", "ratings.dat", 7, "", "line 7: 1 columns, expected 4"),
        ("movielens-1m", "ratings.dat", 7, "1::2::five::9", "line 7: column rating: 'five' is no"),
        ("movielens-1m", "ratings.dat", 7, "1::::5::9", "line 7: column item: '' is no"),
        ("movielens-1m", "ratings.dat", 7, "1::2::3.5::9", "line 7: column rating: '3.5' is no"),
        ("movielens-1m", "ratings.dat", 7, "-1::2::3::9", "line 7: column user: '-1' is no"),
        ("movielens-1m", "ratings.dat", 7, "1::2::3::é", "line 7: column timestamp: 'é' is no"),
        ("movielens-1m", "ratings.dat", 7, f"{2**32 + 1}::2::3::9", "line 7: column user"),
        ("movielens-1m", "ratings.dat", 7, "1::2::6::9", "line 7: column rating: 6 is not in 1..5"),
        ("movielens-1m", "ratings.dat", 7, "1::2::0::9", "line 7: column rating: '0' is no"),
        ("movielens-1m", "ratings.dat", 7, "999::2::3::9", "line 7: .*: 999 is not in users.dat"),
        ("movielens-1m", "ratings.dat", 7, "1::999::3::9", "line 7: .*: 999 is not in movies.dat"),
        ("movielens-1m", "users.dat", 3, "3::X::1::0::0", "line 3: column gender: 'X' is neither"),
        ("movielens-1m", "users.dat", 3, "3::F::2::0::0", "line 3: column age: '2' is no age code"),
        ("movielens-1m", "users.dat", 3, "3::F::1::21::0", "line 3: column occupation: '21' is no"),
        ("movielens-1m", "users.dat", 3, "3::F::1::0", "line 3: 4 columns, expected 5"),
        ("movielens-1m", "users.dat", 3, "2::F::1::0::0", "line 3: column user: repeats an"),
        ("movielens-1m", "users.dat", 3, "3::F::1::0::", "line 3: column zip: '' is empty"),
        ("movielens-1m", "movies.dat", 3, "3::X::Opera|War", "line 3: column genres: 'Opera.War'"),
        ("movielens-1m", "movies.dat", 3, "3::No genres", "line 3: 2 columns, expected 3"),
        ("movielens-1m", "movies.dat", 3, "2::Twice::War", "line 3: column item: repeats an"),
        ("movielens-100k", "u.data", 7, "1 2 3 4", "line 7: 1 columns, expected 4"),
        ("movielens-100k", "u.data", 7, "1\t2\t9\t4", "line 7: column rating: 9 is not in 1..5"),
        ("movielens-100k", "u.user", 3, "3|121|F|writer|0", "line 3: column age: '121' is no age"),
        ("movielens-100k", "u.user", 3, "3|12|F|poet|0", "line 3: column occupation: 'poet' is no"),
        ("movielens-100k", "u.item", 3, "3|short", "line 3: 2 columns, expected 24"),
        (
            "movielens-100k",
            "u.item",
            3,
            "3|t||||2" + "|0" * 18,
            "line 3: column genre 0: '2' is nei",
        ),
        ("recbole", "ml-100k.item", 3, "2\tt\t1\t", "line 3: column genres: '' does not begin"),
        ("recbole", "ml-100k.inter", 7, "1\t2\tx\t4", "line 7: column rating: 'x' is no"),
        ("recbole", "ml-100k.inter", 7, "999\t2\t3\t4", "line 7: .*: 999 is not in ml-100k.user"),
        ("recbole", "ml-100k.inter", 1, None, "line 1: the header must be"),
        ("recbole", "ml-100k.user", 1, "user\tage", "line 1: the header must be"),
        ("recbole", "ml-100k.user", 3, "2\tx\tF\twriter\t0", "line 3: column age: 'x' is no"),
    ],
)
def test_a_line_that_does_not_fit_is_named(
    tmp_path, tiny_movielens, name, file, line, text, message
):
    tiny_movielens(tmp_path, name)
    edit(tmp_path / file, line, text)
    with pytest.raises(UserError, match=f"{file}, {message}"):
        movielens.read(tmp_path, name)


def test_an_item_without_a_genre_is_named(tmp_path, tiny_movielens):
    tiny_movielens(tmp_path, "movielens-100k")
    edit(tmp_path / "u.item", 3, "3|t|||" + "|0" * 19)
    with pytest.raises(UserError, match=r"u\.item: item 3 has no genre flag that is 1"):
        movielens.read(tmp_path, "movielens-100k")


def test_a_rating_given_twice_is_named(tmp_path, tiny_movielens):
    tiny_movielens(tmp_path, "movielens-1m")
    path = tmp_path / "ratings.dat"
    first, second = sorted(
        path.read_text().split("\n")[:2], key=lambda s: [*map(int, s.split("::"))]
    )
    # the first line that repeats is named, not the first key
    edit(path, 40, first)
    edit(path, 30, second)
    with pytest.raises(UserError, match=r"ratings\.dat, line 30: column user and item: repeats"):
        movielens.read(tmp_path, "movielens-1m")


@pytest.mark.parametrize("name", MOVIELENS_FORMATS)
def test_an_empty_file_is_named(tmp_path, tiny_movielens, name):
    for file in FILE_FORMATS[name]:
        tiny_movielens(tmp_path, name)
        path = tmp_path / file
        header = path.read_bytes().split(b"\n")[0] + b"\n" if name == "recbole" else b""
        path.write_bytes(header)
        with pytest.raises(UserError, match=f"{file}: holds no rows"):
            movielens.read(tmp_path, name)


@pytest.fixture
def raw(project, tiny_movielens):
    """Raw files of a source as `fetch` leaves them."""

    def put(source, name, **size):
        folder = layout.raw(source)
        tiny_movielens(folder, name, **size)
        files = {file: sha256(folder / file) for file in FILE_FORMATS[name]}
        write_json(layout.raw_record(source), {"layout": name, "files": files})
        return folder

    return put


def spec(source, domain):
    return MovieLens(source=source, domain=domain)


def test_prepare_keeps_the_record_and_does_not_depend_on_the_server(raw):
    contents = []
    for name in ("movielens-100k", "recbole"):
        raw("ml-100k", name)
        prepare("toy", spec("ml-100k", "age"))
        card = Interactions.open(layout.interactions("toy")).card
        assert card["provenance"] == json.loads(layout.raw_record("ml-100k").read_text())
        contents.append(card["content"])
    assert contents[0] == contents[1]


def test_prepare_without_raw_files_says_what_to_do(project):
    with pytest.raises(
        UserError, match=r"source\.json is missing; run `domain-experts fetch ml-1m"
    ):
        prepare("toy", spec("ml-1m", "age"))


def test_prepare_refuses_raw_files_that_changed(raw):
    folder = raw("ml-1m", "movielens-1m")
    edit(folder / "users.dat", 1, "1::M::1::0::00000x")
    with pytest.raises(UserError, match=r"users\.dat changed since it was fetched"):
        prepare("toy", spec("ml-1m", "age"))
    (folder / "users.dat").unlink()
    with pytest.raises(UserError, match=r"users\.dat is missing; run `domain-experts fetch ml-1m`"):
        prepare("toy", spec("ml-1m", "age"))
    assert not layout.interactions("toy").exists()


def test_prepare_refuses_an_empty_domain_by_name(raw):
    raw("ml-1m", "movielens-1m", users=20, rows=400)
    with pytest.raises(UserError, match="domains without rows: writer;"):
        prepare("toy", spec("ml-1m", "occupation"))


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    """A project folder into which the local copies of the real files were fetched."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for source in ("ml-100k", "ml-1m"):
            patch.setitem(SOURCES, source, replace(SOURCES[source], downloads=()))
            fetch.fetch(source, str(real_data))
    return folder


# positives by domain, counted independently of this package
POSITIVES = {
    "gender": [58546, 167764],
    "age": [6802, 40558, 85730, 44710, 19142, 18600, 10768],
    "occupation": [
        *(28178, 18603, 11702, 7825, 30272, 4655, 9269, 23044, 489, 2555, 5822, 5069),
        *(13670, 3839, 11315, 5654, 9902, 16209, 2315, 3179, 12744),
    ],
}
ROWS_100K = {
    "gender": [25740, 74260],
    "age": [2491, 24060, 35444, 19591, 6890, 6534, 4990],
}


@pytest.mark.real_data
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_movielens_1m_has_the_known_counts(real, monkeypatch, attribute):
    monkeypatch.chdir(real)
    prepare("toy", spec("ml-1m", attribute))
    made = Interactions.open(layout.interactions("toy"))
    assert made.schema.fields[:2] == (("user", 6041), ("item", 3953))
    assert made.card["positives_by_domain"] == {"click": POSITIVES[attribute]}
    assert made.card["provenance"]["statement"] == (
        "MovieLens-1M, local copy, content verified, archive checksum not verified"
    )


@pytest.mark.real_data
@pytest.mark.parametrize("attribute", ROWS_100K)
def test_movielens_100k_has_the_known_counts(real, monkeypatch, attribute):
    monkeypatch.chdir(real)
    prepare("toy", spec("ml-100k", attribute))
    made = Interactions.open(layout.interactions("toy"))
    assert made.schema.fields[:2] == (("user", 944), ("item", 1683))
    assert made.card["rows_by_domain"] == ROWS_100K[attribute]


@pytest.mark.real_data
def test_movielens_1m_is_prepared_within_its_budget(real):
    code = (
        "from domain_experts.data.specs import MovieLens; "
        "from domain_experts.data.prepare import prepare; "
        "prepare('toy', MovieLens(source='ml-1m', domain='gender')); "
        "print(open('/proc/self/status').read())"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=real, stdout=subprocess.PIPE)
    with process.stdout:
        said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    # CPU time: the wall clock of a busy machine says nothing
    assert usage.ru_utime + usage.ru_stime < 5
    # the kernel's own peak would count this process, of which the other is a fork
    assert int(re.search(r"VmHWM:\s*(\d+) kB", said)[1]) / 1024 < 600
    assert Path(real, layout.card("toy")).is_file()
