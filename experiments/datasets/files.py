"""Data files: from a user's folder, or else downloaded from the canonical address, verified by checksum.

A file is read and unpacked in memory, up to a limit in bytes, by `read_bytes`, `unpack` and `unarchive`:
nothing that an archive holds is written to disk. Parsers work within `reading`, so that content which is not
as it should be is a `DataError` with the file and the place.

A file of a data set is at `<folder>/<data set>/<file>`. The folder is the argument `data_dir`, or
the variable `LSTMJAX_DATA`, or `lstmjax/data` in the user's cache. A file that is missing there is
downloaded; an existing file is only read, so the folder may be read-only, and a damaged file is
reported and never replaced.
"""

import contextlib
import csv
import difflib
import gzip
import hashlib
import http.client
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

VARIABLE = "LSTMJAX_DATA"
_TIMEOUT_SECONDS = 60
_BLOCK = 1 << 20  # bytes read at a time

LIMIT = 32 << 20
"""The most bytes of a file, and of what it unpacks to, unless a parser gives another limit."""
_TOO_LARGE = "it is larger, or unpacks to more, than {} bytes"
_MEMBERS = 10_000  # the most files in an archive
_DICTIONARY = 128 << 20  # the most bytes that unpacking xz may take beside its result

_DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, ArithmeticError, RuntimeError),
    *(csv.Error, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)
"""What parsers and unpackers raise if content is damaged."""


class DataError(RuntimeError):
    """Data that is missing, damaged or invalid; the message says what to do."""


@dataclass(frozen=True)
class DataFile:
    """One published file: its path `dataset/name`, its canonical address and its SHA-256 (hex)."""

    dataset: str
    name: str
    url: str
    sha256: str
    xz: str = ""
    """The SHA-256 of the copy `name.xz` that may be in its place, packed; empty if there is none."""


class Place:
    """Where in a file a parser is, such as ``line 3``."""

    text = ""


@contextlib.contextmanager
def reading(name: str | Path, *others: type[Exception]) -> Iterator[Place]:
    """Report errors of a block that parses or unpacks a file: `DataError`, with the file and the place.

    Args:
        name: the file.
        others: exceptions that mean damaged content beside those of Python's own modules.

    Example:
        >>> with reading("ages.txt") as place:
        ...     for place.text, age in (("line 1", "12"), ("line 2", "old")):
        ...         number = int(age)
        Traceback (most recent call last):
        DataError: ages.txt, line 2 cannot be read: invalid literal for int() with base 10: 'old'. Put ...
    """
    place, damage = Place(), (*_DAMAGE, *others)
    try:
        yield place
    except DataError:
        raise
    except damage as error:
        where = f"{name}, {place.text}" if place.text else f"{name}"
        told = getattr(error, "strerror", None) or str(error)  # without the file, which is named already
        what = " ".join(told.split())[:200] or type(error).__name__
        raise DataError(f"{where} cannot be read: {what}. Put the right file in its place.") from error


def cache_folder() -> Path:
    """Return the folder for reproducible files: `$XDG_CACHE_HOME/lstmjax`, `~/.cache/lstmjax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else _expanded(Path("~/.cache"))) / "lstmjax"


def data_folder(data_dir: str | Path | None = None) -> Path:
    """Return the folder that holds the data sets: `data_dir`, else `LSTMJAX_DATA`, else the cache."""
    chosen = data_dir or os.environ.get(VARIABLE)
    return _expanded(Path(chosen)) if chosen else cache_folder() / "data"


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:  # neither HOME nor the user has an entry
        raise DataError(
            f"there is no home folder for {path}: set {VARIABLE} to a folder that has the data sets, or "
            "XDG_CACHE_HOME to one for downloads."
        ) from error


def fetch(file: DataFile, data_dir: str | Path | None = None) -> Path:
    """Return the path of `file`, downloaded if it is missing and verified against its SHA-256.

    Raises:
        DataError: the file is damaged or unreadable, or it is missing and cannot be downloaded.
    """
    path = data_folder(data_dir) / file.dataset / file.name
    with reading(path):
        is_there = path.exists()
    if not is_there:
        _download(file, path)
        return path
    found = _sha256(path)
    if found != file.sha256:
        raise DataError(
            f"{path} is damaged, or another version: its SHA-256 is {found}, expected "
            f"{file.sha256}. Delete it, and the next run downloads it from {file.url}, "
            "or put the right file in its place."
        )
    return path


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """The content of a file of at most ``limit`` bytes; raise `DataError` if it cannot be read."""
    with reading(path), open_file(path) as stream:
        return _bounded(stream, limit)


def read_text(file: DataFile, data_dir: str | Path | None = None) -> str:
    """The text of a published file, or of its xz-packed copy if that is present.

    Raises:
        DataError: the file is missing and cannot be downloaded, or it is damaged.
    """
    packed = replace(file, name=f"{file.name}.xz", sha256=file.xz)
    is_packed = bool(file.xz) and (data_folder(data_dir) / packed.dataset / packed.name).exists()
    path = fetch(packed if is_packed else file, data_dir)
    content = read_bytes(path)
    with reading(path):
        return (unpack(content) if is_packed else content).decode("utf-8")


def unpack(packed: bytes, limit: int = LIMIT) -> bytes:
    """What gzip or xz packed, at most ``limit`` bytes; to be called within `reading`."""
    if packed.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            return _bounded(stream, limit)
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_DICTIONARY)
    content = io.BytesIO()
    content.write(block := unpacker.decompress(packed, _BLOCK))
    while block and not unpacker.eof:
        content.write(block := unpacker.decompress(b"", _BLOCK))
        if content.tell() > limit:
            raise ValueError(_TOO_LARGE.format(limit))
    if not unpacker.eof or unpacker.unused_data:
        raise EOFError("it ends too early, or goes on after its end")
    return content.getvalue()


def inflate(packed: bytes, limit: int = LIMIT) -> bytes:
    """What zlib packed, at most ``limit`` bytes; to be called within `reading`."""
    unpacker = zlib.decompressobj()
    content = _bounded(io.BytesIO(unpacker.decompress(packed, limit + 1)), limit)
    if not unpacker.eof:
        raise EOFError("it ends too early")
    return content


def unarchive(path: Path, names: str, limit: int = LIMIT) -> dict[str, bytes]:
    """The contents of the files in an archive, zip or tar, whose whole names match a pattern.

    Args:
        path: the archive; a tar may be packed by gzip or xz.
        names: a regular expression.
        limit: the most bytes of the archive, of a tar, and of all that is returned.

    Raises:
        DataError: the archive is damaged or larger, or has a file twice.
    """
    content = read_bytes(path, limit)
    found: dict[str, bytes] = {}
    with reading(path) as place:
        total = 0
        for count, (name, size, read) in enumerate(_members(content, limit)):
            if count == _MEMBERS:
                raise ValueError(f"it has more than {_MEMBERS} files")
            if re.fullmatch(names, name):
                place.text = repr(name)
                total += size
                if total > limit:
                    raise ValueError(_TOO_LARGE.format(limit))
                if name in found:
                    raise ValueError("it is there twice")
                found[name] = read()
                place.text = ""
    return found


def member(contents: Mapping[str, bytes], name: str) -> bytes:
    """A file of an archive; to be called within `reading`."""
    if name not in contents:
        raise ValueError(f"it lacks {name}")
    return contents[name]


def _members(content: bytes, limit: int) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """The name, the size and a function that reads each regular file of an archive."""
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{info.filename!r} is packed in a way that is not read")
                yield info.filename, info.file_size, partial(archive.read, info)
        return
    is_packed = content.startswith((b"\x1f\x8b", b"\xfd7zXZ"))
    tar = io.BytesIO(unpack(content, limit) if is_packed else content)
    with tarfile.open(fileobj=tar, mode="r:") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield member.name, member.size, stream.read


def open_file(path: Path) -> io.BufferedReader:
    """Open a regular file, not a pipe or a device, which may never end; to be called within `reading`."""
    flag = getattr(os, "O_NONBLOCK", 0)
    stream = open(path, "rb", opener=lambda name, flags: os.open(name, flags | flag))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise ValueError("it is a pipe or a device, and no file")
    return stream


def _bounded(stream: io.BufferedIOBase, limit: int) -> bytes:
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(_TOO_LARGE.format(limit))
    return content


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path`, complete, only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> DataError:
    """Return the error for a `name` that is not among the `known`: the closest one, and all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), known, n=1)
    suggestion = f" Did you mean {close[0]!r}?" if close else ""
    return DataError(f"no {kind} is called {name!r}.{suggestion} Known: {', '.join(known)}.")


def _sha256(path: Path) -> str:
    with reading(path), open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(file: DataFile, path: Path) -> None:
    request = urllib.request.Request(file.url, headers={"User-Agent": "lstmjax"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            digest = hashlib.sha256()
            with atomic_write(path) as stream:
                while block := response.read(_BLOCK):
                    digest.update(block)
                    stream.write(block)
                _check_download(file, digest.hexdigest())
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{file.name} is not in {path.parent}, and it could not be downloaded from "
            f"{file.url} ({error}). Put the file into that folder by hand, or let the variable "
            f"{VARIABLE} (or the argument data_dir) name a folder that has "
            f"{file.dataset}/{file.name}."
        ) from error


def _check_download(file: DataFile, found: str) -> None:
    if found != file.sha256:
        raise DataError(
            f"what {file.url} gave is not {file.name}: its SHA-256 is {found}, expected "
            f"{file.sha256}. Nothing was kept. The download may have been cut short or changed on "
            f"its way: try again, or put the file by hand where {VARIABLE} points, as "
            f"{file.dataset}/{file.name}."
        )
