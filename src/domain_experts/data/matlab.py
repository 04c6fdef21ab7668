"""A matrix of numbers out of a MATLAB file of level 5, the format of MATLAB 5 to 7.

The layout is that of MathWorks' "MAT-File Format". SciPy reads more of it, but ends the process
where a damaged file states a wrong size or type.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_HEADER = 128
_LITTLE_ENDIAN = b"\x00\x01IM"
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8"}
_NUMBERS |= {12: "<i8", 13: "<u8"}
_COMPLEX = 0x0800
_NUMERIC_CLASSES = range(6, 16)
_LARGEST = 2 * 2**30


def read_matrix(path: Path, variable: str) -> np.ndarray | None:
    """Read a variable.

    Returns:
        The real matrix, in the type in which it is stored; None if there is no such variable.

    Raises:
        ValueError: it is no such file, or damaged, or the variable holds something else.
    """
    content = path.read_bytes()
    if content[_HEADER - 4 : _HEADER] != _LITTLE_ENDIAN:
        raise ValueError("no header of a MATLAB file of level 5, little-endian")
    for kind, data in _variables(memoryview(content)[_HEADER:]):
        if kind == _MATRIX and (found := _matrix(data, variable)) is not None:
            return found
    return None


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of each element."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("an element is cut off")
        kind, size = struct.unpack_from("<II", data, at)
        start, end = at + 8, at + 8 + size
        at = end if kind == _COMPRESSED else end + -size % 8
        if kind >> 16:
            # up to four bytes lie within the tag
            kind, size, start, at = kind & 0xFFFF, kind >> 16, start - 4, start
            end = start + size
            if size > 4:
                raise ValueError("a short element has more than four bytes")
        if end > len(data):
            raise ValueError("an element is cut off")
        yield kind, data[start:end]


def _variables(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The elements that a file consists of; one that is compressed holds another."""
    for kind, content in _elements(data):
        if kind == _COMPRESSED:
            yield from itertools.islice(_elements(memoryview(_inflated(content))), 1)
        else:
            yield kind, content


def _inflated(data: memoryview) -> bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, _LARGEST)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof:
        raise ValueError("a compressed element is cut off, or too large")
    return found


def _matrix(data: memoryview, variable: str) -> np.ndarray | None:
    """The numbers of a matrix, if it has this name."""
    parts = _elements(data)
    (_, flags), (_, shape), (_, name) = (
        _next(parts, kind) for kind in ((_UINT32,), (_INT32,), (_INT8,))
    )
    if bytes(name) != variable.encode():
        return None
    if len(flags) != 8 or len(shape) % 4:
        raise ValueError("a matrix has no class or no shape")
    (about,) = struct.unpack_from("<I", flags)
    if about & 0xFF not in _NUMERIC_CLASSES or about & _COMPLEX:
        raise ValueError(f"'{variable}' is no matrix of real numbers")
    kind, content = _next(parts, tuple(_NUMBERS))
    sizes = struct.unpack(f"<{len(shape) // 4}i", shape)
    of = np.dtype(_NUMBERS[kind])
    if min(sizes, default=-1) < 0 or math.prod(sizes) * of.itemsize != len(content):
        raise ValueError(f"'{variable}' of shape {sizes} has {len(content)} bytes")
    return np.frombuffer(content, of).reshape(sizes, order="F")


def _next(
    parts: Iterator[tuple[int, memoryview]], kinds: tuple[int, ...]
) -> tuple[int, memoryview]:
    kind, content = next(parts, (0, memoryview(b"")))
    if kind not in kinds:
        raise ValueError(f"a matrix has an element of type {kind} in the place of {kinds[0]}")
    return kind, content
