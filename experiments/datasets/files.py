"""Data files: from a user's folder, or else downloaded from the canonical address, verified by checksum.

A file of a data set is at `<folder>/<data set>/<file>`. The folder is the argument `data_dir`, or
the variable `LSTMJAX_DATA`, or `lstmjax/data` in the user's cache. A file that is missing there is
downloaded; an existing file is only read, so the folder may be read-only, and a damaged file is
reported and never replaced.
"""

import contextlib
import difflib
import hashlib
import http.client
import os
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

VARIABLE = "LSTMJAX_DATA"
_TIMEOUT_SECONDS = 60
_BLOCK = 1 << 20  # bytes read at a time


class DataError(RuntimeError):
    """Data that is missing, damaged or invalid; the message says what to do."""


@dataclass(frozen=True)
class DataFile:
    """One published file: its path `dataset/name`, its canonical address and its SHA-256 (hex)."""

    dataset: str
    name: str
    url: str
    sha256: str


def cache_folder() -> Path:
    """Return the folder for reproducible files: `$XDG_CACHE_HOME/lstmjax`, `~/.cache/lstmjax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lstmjax"


def data_folder(data_dir: str | Path | None = None) -> Path:
    """Return the folder that holds the data sets: `data_dir`, else `LSTMJAX_DATA`, else the cache."""
    chosen = data_dir or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder() / "data"


def fetch(file: DataFile, data_dir: str | Path | None = None) -> Path:
    """Return the path of `file`, downloaded if it is missing and verified against its SHA-256.

    Raises:
        DataError: the file is damaged or unreadable, or it is missing and cannot be downloaded.
    """
    path = data_folder(data_dir) / file.dataset / file.name
    if not path.exists():
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


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path`, complete, only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as stream:
            yield stream
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> DataError:
    """Return the error for a `name` that is not among the `known`: the closest one, and all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), known, n=1)
    suggestion = f" Did you mean {close[0]!r}?" if close else ""
    return DataError(f"no {kind} is called {name!r}.{suggestion} Known: {', '.join(known)}.")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


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
