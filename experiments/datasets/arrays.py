"""Arrays in NumPy's formats, read within limits and never unpickled, and checks of what they hold."""

import io
import math
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from experiments.datasets.files import LIMIT, DataError, reading, unarchive

KINDS = {"f": "real numbers", "i": "integers", "u": "bytes", "U": "texts"}
"""What an array may be asked to hold."""
_DTYPES = {"f": "fiub", "i": "iub", "u": "u", "U": "U"}


def read_arrays(path: Path, limit: int = LIMIT) -> dict[str, np.ndarray]:
    """The arrays of an npz file by their names, together at most ``limit`` bytes.

    Raises:
        DataError: the file is damaged, or an array holds objects.
    """
    contents = unarchive(path, r"[^/]*\.npy", limit)
    arrays = {}
    with reading(path) as place:
        for file, content in contents.items():
            name = place.text = file.removesuffix(".npy")
            stream = io.BytesIO(content)
            shape, by_columns, dtype = read_header(stream)
            values = np.frombuffer(bytearray(stream.read()), dtype)
            arrays[name] = values.reshape(shape, order="F" if by_columns else "C")
    return arrays


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape of an array, whether it is stored by columns, and its dtype, from the header of an npy file.

    Raises:
        ValueError: there is no such header, or the array holds something else than numbers or texts.
    """
    version = np.lib.format.read_magic(stream)
    formats = np.lib.format
    read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
    try:
        shape, by_columns, dtype = read(stream)
    except (tokenize.TokenError, SyntaxError) as error:  # NumPy reads headers as Python
        raise ValueError(f"its header is damaged: {error}") from error
    if dtype.kind not in "fiubU":
        raise ValueError(f"it holds {dtype}, not numbers or texts; objects are never unpickled")
    if min(shape, default=0) < 0 or math.prod(shape) * max(dtype.itemsize, 1) >= 1 << 48:
        raise ValueError(f"it has no possible shape: {shape}")
    return shape, by_columns, dtype


def check_arrays(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[str, int]], name: str) -> None:
    """Raise `DataError` unless each array has its kind, of `KINDS`, and its number of axes, and is finite."""
    if missing := set(wanted) - set(arrays):
        raise DataError(f"{name} lacks the arrays {', '.join(sorted(missing))}.")
    for each, (kind, axes) in wanted.items():
        array = arrays[each]
        if array.dtype.kind not in _DTYPES[kind] or array.ndim != axes:
            raise DataError(
                f"{name}, {each}: {array.dtype} with {array.ndim} axes, where {KINDS[kind]} with {axes} are "
                "expected. Put the right file in its place."
            )
        with reading(name) as place:
            place.text = each
            if kind == "U":
                "".join(array.ravel().tolist()).encode()
            elif not np.isfinite(array).all():
                raise ValueError("it has values that are not finite")


def bounds_of(offsets: np.ndarray, length: int, what: str) -> list[int]:
    """Offsets that part ``length`` items into pieces of at least one, as integers.

    Raises:
        DataError: they do not; the message begins with `what`.
    """
    bounds: list[int] = offsets.tolist()
    if not bounds or bounds[0] != 0 or bounds[-1] != length or any(np.diff(offsets.astype(np.int64)) < 1):
        raise DataError(f"{what}: the offsets do not part {length} items into pieces.")
    return bounds
