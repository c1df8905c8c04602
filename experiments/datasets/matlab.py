"""Lists of matrices from MATLAB files, version 5, within limits: damaged ones can crash SciPy's reader.

The format: MathWorks, "MAT-File Format". Little-endian; a variable is a cell array of real
numeric matrices, packed by zlib or not; other variables are left out.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.datasets.files import LIMIT, inflate, read_bytes, reading

_HEADER = 128
_MATRIX, _PACKED, _CELLS = 14, 15, 1
_DTYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}


def read_lists(path: Path, limit: int = LIMIT) -> dict[str, list[np.ndarray]]:
    """The cell arrays of a file by their names, each as the list of its matrices ``[rows, columns]``.

    Raises:
        DataError: the file is damaged or of another version, or unpacks to more than ``limit`` bytes.
    """
    content = read_bytes(path, limit)
    found = {}
    with reading(path) as place:
        if content[_HEADER - 4 : _HEADER] != b"\0\1IM":
            raise ValueError("it is no MATLAB file, version 5, little-endian")
        for kind, packed in _elements(content[_HEADER:]):
            element = packed
            if kind == _PACKED:
                ((kind, element),) = _elements(inflate(packed, limit))
            limit -= len(element)
            if kind != _MATRIX:
                continue
            shape, name, parts = _matrix(element)
            if shape is None:
                place.text = name
                found[name] = [_numbers(each) for inner, each in parts if inner == _MATRIX]
                place.text = ""
    return found


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The kind and the data of each element, of which small ones are within their tag."""
    start = 0
    while start < len(content):
        kind, size = (int.from_bytes(content[at : at + 4], "little") for at in (start, start + 4))
        first = start + 8
        if kind >> 16:
            kind, size, first = kind & 0xFFFF, kind >> 16, start + 4
        end = max(first + size, start + 8)
        if first + size > len(content) or (first == start + 4 and size > 4):
            raise EOFError("an element ends after the file")
        yield kind, content[first : first + size]
        start = end if kind == _PACKED else end + -end % 8


def _matrix(content: bytes) -> tuple[list[int] | None, str, list[tuple[int, bytes]]]:
    """The shape of a matrix, None for a cell array; its name; the elements with its content."""
    parts = list(_elements(content))
    if len(parts) < 3 or [kind for kind, _ in parts[:3]] != [6, 5, 1]:
        raise ValueError("a matrix has no flags, shape and name")
    (_, flags), (_, axes), (_, name) = parts[:3]
    shape = None if flags[:1] == bytes([_CELLS]) else np.frombuffer(axes, "<i4").tolist()
    return shape, name.decode("ascii"), parts[3:]


def _numbers(content: bytes) -> np.ndarray:
    shape, _, parts = _matrix(content)
    if shape is None or len(parts) != 1 or parts[0][0] not in _DTYPES:
        raise ValueError("it has something else than real matrices")
    values = np.frombuffer(parts[0][1], _DTYPES[parts[0][0]])
    if min(shape) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"a matrix of shape {shape} has {len(values)} values")
    return values.reshape(shape, order="F")
