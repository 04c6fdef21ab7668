"""Hostile versions of sound files: bytes, lines, cells, and columns of other types."""

import decimal

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

NASTY = [
    *(
        b"",
        b" ",
        b"\x00",
        b"\n",
        b"\r",
        b"\r\n",
        b"\t",
        b",",
        b"|",
        b"::",
        b'"',
        b'""',
        b"'",
        b"\\",
    ),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xc3", b"\xe2\x80\xae", "İß𝟙²".encode()),
    *(
        b"0",
        b"-1",
        b"1e400",
        b"-0.0",
        b"nan",
        b"NaN",
        b"inf",
        b"-Infinity",
        b"1_000",
        b"+5",
        b"0x1",
    ),
    *(b"127", b"128", b"255", b"256", b"32768", b"2147483647", b"2147483648", b"4294967296"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"9" * 400),
    *(
        b"null",
        b"None",
        b"true",
        b"[]",
        b"{}",
        b"[[[[",
        b"{{",
        b"]",
        b"}",
        b":",
        b"- ",
        b"? ",
        b"#",
    ),
    *(
        b"&a ",
        b"*a",
        b"<<: *a",
        b"!!python/name:os.system",
        b"!!int x",
        b"!!binary x",
        b"%YAML 9.9",
    ),
    *(b"../x", b"/etc/passwd", b"<script>alert(1)</script>", b"\x1b[31m", b"a" * 3000),
    *(b"2024-13-45", b"2024-05-31 23:59:59", b"1970-01-01T00:00:00Z", b"0001-01-01", b"12:30:45"),
    *(b"(other)", b"train", b"\xf0\x9f\x92\xa9", b"\xed\xa0\x80", b"0b1", b"1.0", b"1e3", b".5"),
]
"""What a parser may trip over."""
_PLACE = st.integers(0, 2**16 - 1)
_STEP = st.tuples(
    st.sampled_from(
        ("flip", "put", "put", "cell", "cell", "cell", "cut", "end", "twice", "line", "swap")
    ),
    _PLACE,
    _PLACE,
    st.sampled_from(NASTY) | st.binary(max_size=8),
)
STEPS = st.lists(_STEP, min_size=1, max_size=4)
"""Changes of a file's bytes, for `changed`."""


def changed(content, steps, separators=b",\t|:\n "):
    """The content after some changes."""
    for kind, first, second, token in steps:
        at, long = first * len(content) >> 16, second % 64
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ 1 << second % 8]) + content[at + 1 :]
        elif kind == "put":
            content = content[:at] + token + content[at:]
        elif kind == "cell":
            content = _cell(content, at, token, separators)
        elif kind == "cut":
            content = content[:at] + content[at + long :]
        elif kind == "end":
            content = content[:at]
        elif kind == "twice":
            content = content[: at + long] + content[at:]
        elif kind in ("line", "swap"):
            lines = content.split(b"\n")
            i, j = first * len(lines) >> 16, second * len(lines) >> 16
            lines[i], lines[j] = lines[j], (lines[i] if kind == "swap" else token)
            content = b"\n".join(lines)
    return content


def _cell(content, at, token, separators):
    """A token in the place of what stands between two separators."""
    start = max((content.rfind(bytes([mark]), 0, at) for mark in separators), default=-1) + 1
    ends = [place for mark in separators if (place := content.find(bytes([mark]), at)) >= 0]
    return content[:start] + token + content[min(ends, default=len(content)) :]


def columns(rows):
    """Columns of every type that a Parquet file may hold."""
    rng = np.random.default_rng(rows)
    whole, real = rng.integers(0, 5, rows), rng.normal(size=rows)
    text = pa.array([f"{number}" for number in whole])
    moment = pa.array(whole * 10**9, pa.int64())
    extreme = np.where(whole == 0, 2**63 - 1, np.where(whole == 1, -(2**63), whole))
    return {
        "null": pa.nulls(rows),
        "bool": pa.array(whole > 1),
        "int8": pa.array(whole, pa.int8()),
        "uint64": pa.array(np.where(whole, 2**64 - 1, 1).astype(np.uint64)),
        "extreme": pa.array(extreme),
        "half": pa.array(real.astype(np.float16)),
        "double": pa.array(np.where(whole == 0, np.nan, np.where(whole == 1, np.inf, real))),
        "huge": pa.array(np.where(whole == 0, 1e308, -1e308)),
        "bits": pa.array(whole % 2, pa.int32()),
        "text": text,
        "empty": pa.array([""] * rows),
        "large": text.cast(pa.large_string()),
        "view": text.cast(pa.string_view()),
        "control": pa.array(["a\n|<b>\\\x1b[31m[red]" if n else "\x00" for n in whole]),
        "binary": text.cast(pa.binary()),
        "bad": pa.array([b"\xff\xfe"] * rows),
        "fixed": pa.array([b"ab"] * rows, pa.binary(2)),
        "dictionary": text.dictionary_encode(),
        "dictionary of numbers": pa.array(whole).dictionary_encode(),
        "gaps": pa.array([None if n == 0 else int(n) for n in whole]),
        "gaps in text": pa.array([None if n == 0 else str(n) for n in whole]),
        "list": pa.array([[int(n)] * n for n in whole], pa.list_(pa.int64())),
        "list with gaps": pa.array([None if n == 0 else [None, "a"] for n in whole]),
        "large list": pa.array([["a"] * n for n in whole], pa.large_list(pa.string())),
        "fixed list": pa.array([[1.5, 2.0]] * rows, pa.list_(pa.float64(), 2)),
        "list of lists": pa.array([[[1]]] * rows),
        "struct": pa.array([{"a": 1}] * rows),
        "map": pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
        "decimal": pa.array([decimal.Decimal("1.50")] * rows),
        "date": pa.array(whole.astype(np.int32), pa.int32()).cast(pa.date32()),
        "time": pa.array(whole.astype(np.int32), pa.int32()).cast(pa.time32("s")),
        "nanoseconds": moment.cast(pa.timestamp("ns")),
        "zoned": moment.cast(pa.timestamp("us", "Europe/Paris")),
        "microseconds": pa.array(extreme, pa.timestamp("us")),
        "duration": moment.cast(pa.duration("us")),
    }
