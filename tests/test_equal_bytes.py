"""What `scripts/equal_bytes.py` says of two codes, from what each made."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts/equal_bytes.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("equal_bytes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code(plain, counts_as, files, *jobs):
    return {"plain": plain, "counts_as": counts_as, "files": files, "jobs": [*map(list, jobs)]}


BASE, NFM = ("mlp", "base"), ("nfm", "base")


def test_it_names_what_differs_and_what_only_one_made(script):
    before = {"a/test.npy": "1", "a/record.json": "2", "b/test.npy": "3"}
    after = {"a/test.npy": "1", "a/record.json": "9", "c/test.npy": "3"}
    assert list(script.differences(before, after)) == [
        "differs: a/record.json",
        "only the earlier code makes b/test.npy",
        "only the present code makes c/test.npy",
    ]
    assert not [*script.differences(before, before)]


def test_changed_code_counts_as_what_the_earlier_one_counted_as(script):
    before = script.Made({}, {BASE}, {"base": code("1", "0", {"loop.py": "x"}, BASE)})
    after = script.Made({}, {BASE}, {"base": code("2", "2", {"loop.py": "y", "new.py": "z"}, BASE)})
    assert script.equal_codes(before, after) == ({"base": ["2", "0"]}, {})


def test_code_as_it_was_and_new_jobs_are_not_listed(script):
    before = script.Made({}, {BASE}, {"base": code("1", "1", {"loop.py": "x"}, BASE)})
    after = script.Made({}, {BASE}, before.digests | {"nfm": code("3", "3", {"nfm.py": "x"}, NFM)})
    assert script.equal_codes(before, after) == ({}, {})


def test_a_changed_module_that_no_compared_run_imports_is_named(script):
    def made(loop, nfm):
        digests = {
            "base": code(f"b{loop}", f"b{loop}", {"loop.py": loop}, BASE),
            "nfm": code(f"n{loop}{nfm}", f"n{loop}{nfm}", {"loop.py": loop, "nfm.py": nfm}, NFM),
        }
        return script.Made({}, {BASE}, digests)

    # the loop is compared by base's runs, whatever model it trains
    equal, left_out = script.equal_codes(made("1", "1"), made("2", "1"))
    assert equal == {"base": ["b2", "b1"], "nfm": ["n21", "n11"]}
    assert not left_out
    equal, left_out = script.equal_codes(made("1", "1"), made("2", "2"))
    assert equal == {"base": ["b2", "b1"]}
    assert left_out == {"nfm": ["nfm.py"]}


def test_runs_are_taken_by_the_checksums_of_their_files(script, tmp_path):
    folder = tmp_path / "artifacts/smoke/backbones/planted/mlp/base"
    run = "backbones/planted/mlp/base/default/seed=1"
    (folder / "default/seed=1").mkdir(parents=True)
    file = folder / "default/seed=1/test.npy"
    file.write_bytes(b"logits")
    listed = script.checksum(b"logits")
    index = folder / "runs.json"
    index.write_text(f'{{"runs": [{{"path": "{run}", "files": {{"test.npy": "{listed}"}}}}]}}')
    assert dict(script.content(tmp_path, [index])) == {f"{run}/test.npy": listed}
    file.write_bytes(b"damaged")
    with pytest.raises(SystemExit, match="is not what"):
        dict(script.content(tmp_path, [index]))
