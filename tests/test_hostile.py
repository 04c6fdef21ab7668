"""What comes from outside and means harm: names, YAML, archives, pickles."""

import ast
import io
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import plain_yaml
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from projects import ROOT
from rich.console import Console
from scipy.io import loadmat, savemat
from test_log import frame, read

from domain_experts import cli, params, plain_text, study_file
from domain_experts.arrays import read_array
from domain_experts.data import archive
from domain_experts.data.archive import UnusableError, extract
from domain_experts.data.log.guess import guess
from domain_experts.data.log.spec import LogSpec
from domain_experts.data.matlab import read_matrix
from domain_experts.data.registry import FILE_FORMATS, SOURCES
from domain_experts.errors import UserError
from domain_experts.reporting import render
from domain_experts.yaml_files import DEEPEST, parse_yaml, read_yaml

MARKUP = "<script>alert(1)</script>|[red]\\x\n\x1b[31m$\\frac{*`"
"""A name of a domain, which may be any text that a log holds."""
STUDY = {
    "files": "log.csv",
    "domain": "shop",
    "tasks": {"click": "click"},
    "fields": {"user": {}},
    "time": "ts",
}
PATHS = [
    "../x",
    "a/b",
    "/etc/passwd",
    "..",
    ".hidden",
    "a\\b",
    "",
    " ",
    "a\nb",
    "\x1b[31m",
    "a\x00",
]
PATHS += ["a\x00", "a\u202eb", "x" * 300]


def written(values, path):
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    "changed",
    [
        lambda name: {"fields": {name: {"column": "user"}}},
        lambda name: {"tasks": {name: "click"}},
        lambda name: {"history": {name: {"of": "user", "last": 2}}},
    ],
)
def test_what_would_be_a_file_s_name_is_no_path(tmp_path, name, changed):
    with pytest.raises(UserError, match=r"the name .*; take another one"):
        study_file.read(written(STUDY | changed(name), tmp_path / "own.yaml"))


@pytest.mark.parametrize("name", ["user id", "Größe", "价格", "a.b-c", "click%", "x (y)"])
def test_other_names_are_as_they_were(tmp_path, name):
    path = written(STUDY | {"fields": {name: {}}}, tmp_path / "own.yaml")
    assert [*study_file.read(path).fields] == [name]


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a\nb"])
@pytest.mark.parametrize("where", ["experiments", "tiers", "data.datasets"])
def test_names_in_params_are_no_paths(tmp_path, name, where):
    values = plain_yaml.read()
    *outer, inner = where.split(".")
    node = values[outer[0]][inner] if outer else values[inner]
    node[name] = next(iter(node.values()))
    with pytest.raises(UserError, match="cannot be used"):
        plain_yaml.write(values, tmp_path / "params.yaml")
        params.load(tmp_path / "params.yaml")


def test_a_study_s_file_is_no_path_or_option(tmp_path):
    for name in ("-rf.yaml", "a b.yaml", "$(id).yaml", "{x}.yaml"):
        with pytest.raises(UserError, match="the study takes its name from the file"):
            study_file.read(written(STUDY, tmp_path / name))


def shown():
    words = pd.DataFrame({"Domain": [MARKUP, "plain"]})
    cells = [render.Shown("AUC [red]", ["0.5", "[bold]0.6"])]
    caption = f"Domains: {MARKUP}"
    return render.Table.of("t", caption, words, words, cells, [f"D1 {MARKUP}"])


def test_markup_in_a_name_is_text_in_html():
    text = render.html(shown())
    assert "<script" not in text and "\x1b" not in text
    assert text.count("&lt;script&gt;alert(1)") == 3


def test_markup_in_a_name_is_text_in_markdown():
    text = render.markdown(shown())
    assert "<script" not in text and "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    for row in rows:
        assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3


def test_markup_in_a_name_is_text_in_latex():
    text = render.latex(shown())
    assert "\\frac" not in text and "\x1b" not in text and "\\x" not in text
    assert "\\textbackslash{}frac\\{" in text
    assert text.count(" \\\\\n") == 3


def test_markup_in_a_name_is_text_in_a_terminal():
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=True, color_system="truecolor")
    console.print(render.terminal(shown()))
    text = out.getvalue()
    assert "\x1b[31m" not in text
    assert "[red]" in text and "[bold]0.6" in text


@given(st.text())
def test_what_is_shown_steers_no_terminal(text):
    for char in plain_text.visible(text):
        assert char.isprintable() or char.isspace() or char in "\u200c\u200d"
        assert char not in "\n\r\x1b\x9b\u2028\u2029\u202e"
    assert plain_text.visible("Größe 价格 👩‍🔬") == "Größe 价格 👩‍🔬"


def test_a_domain_s_name_is_kept_and_said_as_text(project, capsys):
    log = frame(200)
    log.loc[::2, "category"] = MARKUP
    made = read(table=log)
    assert MARKUP in made.schema.domains
    assert "\x1b" not in capsys.readouterr().err
    log.loc[5, "category"] = ""
    with pytest.raises(
        UserError, match=r"row 6: column 'category'.* no value, but the domain needs"
    ):
        read(table=log)


def test_an_error_that_quotes_a_file_steers_no_terminal(project, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["domain-experts", "study", "\x1b[31mx.yaml"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert "\x1b" not in str(ended.value.code) and "[31mx.yaml" in str(ended.value.code)


def test_a_column_s_name_does_not_get_into_a_guessed_study(project):
    log = frame(300).rename(columns={"shop": "x\narms: [nothing]\n#"})
    log.to_parquet("log.parquet")
    assert yaml.safe_load(guess(["log.parquet"]))["arms"] == [
        *("floors", "base", "mlora", "moe_mlora", "star")
    ]


def test_numbers_that_float32_has_no_room_for(project):
    log = frame(200)
    log["age"] = log["age"].astype(float)
    log.loc[7, "age"] = 1e300
    with pytest.raises(UserError, match=r"row 8: column 'age' holds 1e[+]300: too large a number"):
        read(table=log)


@pytest.mark.parametrize("changed", [{"most": 10**9}, {"hash": 2**40}, {"min_count": 10**90}])
def test_numbers_beyond_all_use_are_refused(changed):
    with pytest.raises(ValueError, match="less than"):
        LogSpec.model_validate(
            STUDY | {"fields": {"user": {"column": "u", "multi": "|"} | changed}}
        )


def test_a_dense_column_is_named_once():
    with pytest.raises(ValueError, match="dense: column 'age' is named twice"):
        LogSpec.model_validate(STUDY | {"dense": ["age", {"column": "age"}]})


LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9)]
)
MERGES = "\n".join(
    ["a0: &a0 {x: 1}"]
    + [f"a{i + 1}: &a{i + 1} {{<<: [{', '.join([f'*a{i}'] * 10)}]}}" for i in range(9)]
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LAUGHS.encode(), r"line 6: aliases stand for more than 1,000,000 values"),
        (MERGES.encode(), r"line \d: aliases stand for more than 1,000,000 values"),
        (b"a: 1\nb: &b [*b]\n", "line 2: an alias stands for what it is in"),
        (b"a: &a {<<: *a}\n", "line 1: an alias stands for what it is in"),
        (b"a:\n  " + b"[" * 10**6, "line 2: more than 100 values within each other"),
        (b"a: " + b"{a: " * 10**5, "line 1: more than 100 values within each other"),
        (b"- " * 10**5, "line 1: more than 100 values within each other"),
        (b"? " * 10**5, "line 1: more than 100 values within each other"),
        (b"a: 1\nb: " + b"9" * 10**6, "line 2: a number of 1,000,000 letters"),
        (b"a: " + b"1" + b":59" * 10**6, "line 1: a number of 3,000,001 letters"),
        (b"a: " + b"x" * (5 * 2**20), "it has more than 4,194,304 letters"),
        (b"a: 1\n\tb: 2\n", r"line 2"),
        (b"a: 1\nb: \x00\n", "control characters are not allowed"),
        (b"a: 1\nb: \xff\n", "line 2: is no UTF-8"),
        (b"\xff\xfea\x00", "line 1: is no UTF-8"),
        (b"a: 2024-13-45\n", "month must be in"),
    ],
    ids=range(16),
)
def test_hostile_yaml_is_refused_in_no_time(tmp_path, content, said):
    (tmp_path / "a.yaml").write_bytes(content)
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(UserError, match=rf"a\.yaml is not valid YAML: (.|\n)*{said}"):
        read_yaml(tmp_path / "a.yaml")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 10
    assert most < 300 * 2**20


def test_yaml_up_to_the_bounds_is_read(tmp_path):
    assert parse_yaml("[" * DEEPEST + "]" * DEEPEST)
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    (tmp_path / "a.yaml").write_bytes("\ufeffa: ä".encode())
    assert read_yaml(tmp_path / "a.yaml") == {"a": "ä"}


def tarred(path, members):
    with tarfile.open(path, "w:gz") as file:
        for info, content in members:
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def test_a_tar_archive_that_unpacks_to_too_much_is_refused_before_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_LARGEST_ARCHIVE", 2**20)
    zeros = bytes(2**18)
    tarred(tmp_path / "a.tar.gz", [(tarfile.TarInfo(f"x{i}"), zeros) for i in range(64)])
    with pytest.raises(UnusableError, match="more than 1,048,576 bytes"):
        extract(tmp_path / "a.tar.gz", "in", ("a",), tmp_path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE]
)
def test_a_tar_member_that_is_no_file_is_refused(tmp_path, kind):
    info = tarfile.TarInfo("in/a")
    info.type, info.linkname = kind, "/etc/passwd"
    tarred(tmp_path / "a.tar.gz", [(info, b"")])
    with pytest.raises(UnusableError, match="in/a is no plain file"):
        extract(tmp_path / "a.tar.gz", "in", ("a",), tmp_path)
    assert not (tmp_path / "a").exists()


def test_members_beside_those_that_are_asked_for_are_not_unpacked(tmp_path):
    (tmp_path / "out").mkdir()
    names = ("in/a", "../../up", "/absolute", "in/../../b")
    tarred(tmp_path / "a.tar.gz", [(tarfile.TarInfo(name), b"x") for name in names])
    extract(tmp_path / "a.tar.gz", "in", ("a",), tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in names:
            file.writestr(name, "x")
    extract(tmp_path / "a.zip", "in", ("a",), tmp_path / "out")
    assert {path.name for path in tmp_path.rglob("*")} == {"out", "a", "a.zip", "a.tar.gz"}


def test_a_zip_member_larger_than_it_says_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("in/a", bytes(10**6))
    content = path.read_bytes()
    size = (10**6).to_bytes(4, "little")
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(UnusableError, match="no sound zip archive"):
        extract(path, "in", ("a",), tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "i4", "u4", "i8", "f4", "f8"])
def test_matrices_are_those_that_scipy_reads(tmp_path, kind, compressed):
    matrix = np.arange(1, 13).reshape(4, 3).astype(kind)
    path = tmp_path / "a.mat"
    others = {"before": np.ones((2, 2)), "text": "abc", "rating": matrix, "z": np.eye(2)}
    savemat(path, others, do_compression=compressed)
    found = read_matrix(path, "rating")
    np.testing.assert_array_equal(found, loadmat(path)["rating"])
    assert read_matrix(path, "none") is None
    with pytest.raises(ValueError, match="'text' is no matrix of real numbers"):
        read_matrix(path, "text")


UNPICKLING = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("torch.load", "np.load", "numpy.load", "loadmat", "scipy.io", "pd.read_pickle"),
    *("yaml.load", "yaml.safe_load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"),
}
WORDS = {name.rpartition(".")[2] for name in UNPICKLING} - {"eval", "exec", "io", "load"}
WORDS |= {" eval(", " exec(", "scipy.io", *(n for n in UNPICKLING if n.endswith("load"))}
ALLOWED = {("arrays.py", "np.load")}


def dotted(node):
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def uses(path):
    """Calls and imports of a module that may unpickle or run what a file holds."""
    text = path.read_text()
    if "allow_pickle" not in text and not any(name in text for name in WORDS):
        return
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Call):
            names = [dotted(node.func)]
            if any(key.arg == "allow_pickle" for key in node.keywords):
                (value,) = (key.value for key in node.keywords if key.arg == "allow_pickle")
                assert isinstance(value, ast.Constant) and value.value is False, path
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(alias.name for alias in node.names)]
        yield from ((path.name, name) for name in names if name in UNPICKLING)


def test_nothing_is_unpickled():
    found = {use for path in (ROOT / "src").rglob("*.py") for use in uses(path)}
    assert found <= ALLOWED
    assert ("arrays.py", "np.load") in found


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harmed",))

    np.save(tmp_path / "a.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy is damaged .*; mend"):
        read_array(tmp_path / "a.npy", "mend")
    np.savez(tmp_path / "b.npz", a=np.ones(2))
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    with pytest.raises(UserError, match=r"b\.npy is damaged"):
        read_array(tmp_path / "b.npy", "mend")
    assert not (tmp_path / "harmed").exists()


def test_every_download_has_a_checksum():
    downloads = [(name, d) for name, source in SOURCES.items() for d in source.downloads]
    assert downloads
    for name, download in downloads:
        kind, _, digest = download.checksum.partition(":")
        assert len(digest) == {"md5": 32, "sha256": 64}[kind], name
        assert int(digest, 16) >= 0
        assert download.url.startswith(("https://", "pip:")), name
        if download.url.startswith("pip:"):
            assert "==" in download.url and kind == "sha256", name
        # an archive's MD5 is the publisher's: what comes out of it has SHA-256, or is counted
        assert kind == "sha256" or SOURCES[name].content.counts, name


def test_raw_files_have_names_below_their_folder():
    for names in FILE_FORMATS.values():
        for name in names:
            assert not Path(name).is_absolute() and ".." not in Path(name).parts
