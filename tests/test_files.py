import json

import pytest

from domain_experts.files import replacing, sha256, write_json


def test_replacing_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_makes_folders_and_ordinary_permissions(tmp_path):
    path = tmp_path / "new" / "a.txt"
    (tmp_path / "plain").write_text("")
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_is_deterministic_and_refuses_what_is_not_finite(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": [None, "é"]})
    first = path.read_bytes()
    write_json(path, {"a": [None, "é"], "b": 1})
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")
    assert json.loads(first) == {"a": [None, "é"], "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert path.read_bytes() == first


def test_sha256_of_a_known_text(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
